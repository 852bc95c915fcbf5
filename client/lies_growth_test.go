package client

import (
	"slices"

	"fabtrail.dev/fabtrail/custody/answer"
)

// grown picks a topic whose list is sent from where the client knows it.
func (s *stage) grown(a *answer.Answer) *answer.Topic {
	for _, i := range s.Perm(len(a.Topics)) {
		if a.Topics[i].From > 0 {
			return &a.Topics[i]
		}
	}
	return nil
}

// growing is a lie about a list that has grown.
func growing(name string, tell func(s *stage, a *answer.Answer, t *answer.Topic) bool) lie {
	return lie{name, func(s *stage, a *answer.Answer) bool {
		t := s.grown(a)
		return t != nil && tell(s, a, t)
	}}
}

// growthLies are told to a client that keeps verified lists.
var growthLies = []lie{
	growing("altered-growth", func(s *stage, _ *answer.Answer, t *answer.Topic) bool { return s.flip(t.Growth) }),
	growing("no-growth-proof", func(_ *stage, _ *answer.Answer, t *answer.Topic) bool { t.Growth = nil; return true }),
	growing("other-beginning", func(s *stage, _ *answer.Answer, t *answer.Topic) bool { t.From += 1 + s.Uint64N(3); return true }),
	growing("growth-left-out", func(s *stage, _ *answer.Answer, t *answer.Topic) bool {
		i := s.IntN(len(t.Indexes))
		t.Indexes = slices.Delete(t.Indexes, i, i+1)
		return true
	}),
	growing("growth-forgotten", func(s *stage, a *answer.Answer, t *answer.Topic) bool {
		forget(a, t.Indexes[s.IntN(len(t.Indexes))])
		return true
	}),
	growing("growth-denied", func(_ *stage, _ *answer.Answer, t *answer.Topic) bool {
		t.Known, t.From, t.Growth, t.Indexes = true, 0, nil, nil
		return true
	}),
	growing("growth-for-the-whole", func(_ *stage, _ *answer.Answer, t *answer.Topic) bool {
		t.From, t.Growth = 0, nil
		return true
	}),
	growing("other-entry-for-growth", func(s *stage, a *answer.Answer, t *answer.Topic) bool {
		e := s.entry(a)
		if slices.Contains(t.Indexes, e.Index) {
			return false
		}
		t.Indexes[s.IntN(len(t.Indexes))] = e.Index
		return true
	}),
	{"known-though-it-is-not", func(s *stage, a *answer.Answer) bool {
		t := s.list(a, 1)
		if t == nil || t.From > 0 {
			return false
		}
		t.Known, t.Indexes = true, nil
		return true
	}},
}
