package client

import (
	"reflect"
	"slices"
	"testing"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer"
)

// A manyLie changes the honest answer about many units. To add one, add a row to
// manyLies. It returns false when it does not fit the answer.
type manyLie struct {
	name string
	tell func(s *stage, m *answer.Many) bool
	idle bool // it changes what nobody relies on
}

// asAnswer shows what an answer about many units holds as that about one of them, so
// that every lie about one unit can be told about many.
func asAnswer(s *stage, m *answer.Many, fn func(a *answer.Answer) bool) bool {
	u := m.Units[s.IntN(len(m.Units))]
	a := &answer.Answer{Format: answer.Format, URI: u.URI, Form: u.Form, Checkpoint: m.Checkpoint, Commitment: m.Commitment, Topics: m.Topics, Entries: m.Entries}
	ok := fn(a)
	m.Checkpoint, m.Commitment, m.Topics, m.Entries = a.Checkpoint, a.Commitment, a.Topics, a.Entries
	return ok
}

// pair picks two different units of the answer.
func (s *stage) pair(m *answer.Many) (x, y *answer.Unit) {
	if len(m.Units) < 2 {
		return nil, nil
	}
	p := s.Perm(len(m.Units))
	return &m.Units[p[0]], &m.Units[p[1]]
}

// own finds the topic of a unit itself.
func own(m *answer.Many, uri string) *answer.Topic {
	for i := range m.Topics {
		if m.Topics[i].Kind == "unit" && m.Topics[i].Value == uri {
			return &m.Topics[i]
		}
	}
	return nil
}

// pairLie is a lie about two units' own lists.
func pairLie(name string, tell func(s *stage, m *answer.Many, x, y *answer.Topic) bool) manyLie {
	return manyLie{name: name, tell: func(s *stage, m *answer.Many) bool {
		x, y := s.pair(m)
		if x == nil {
			return false
		}
		tx, ty := own(m, x.URI), own(m, y.URI)
		return tx != nil && ty != nil && tx != ty && tell(s, m, tx, ty)
	}}
}

var manyLies = []manyLie{
	{name: "answers-exchanged", tell: func(s *stage, m *answer.Many) bool {
		x, y := s.pair(m)
		if x == nil {
			return false
		}
		*x, *y = *y, *x
		return true
	}},
	{name: "forms-exchanged", idle: true, tell: func(s *stage, m *answer.Many) bool {
		x, y := s.pair(m)
		if x == nil || x.Form == y.Form {
			return false
		}
		x.Form, y.Form = y.Form, x.Form
		return true
	}},
	{name: "unit-missing", tell: func(s *stage, m *answer.Many) bool {
		i := s.IntN(len(m.Units))
		m.Units = slices.Delete(m.Units, i, i+1)
		return true
	}},
	{name: "unit-doubled", tell: func(s *stage, m *answer.Many) bool {
		i := s.IntN(len(m.Units))
		m.Units = slices.Insert(m.Units, i, m.Units[i])
		return true
	}},
	{name: "unit-for-another", tell: func(s *stage, m *answer.Many) bool {
		x, y := s.pair(m)
		if x == nil {
			return false
		}
		*x = *y
		return true
	}},
	{name: "unit-not-asked-for", tell: func(s *stage, m *answer.Many) bool {
		m.Units[s.IntN(len(m.Units))].URI = unitURI("OTHER")
		return true
	}},
	{name: "unit-said-to-be-absent", tell: func(s *stage, m *answer.Many) bool {
		u := &m.Units[s.IntN(len(m.Units))]
		t := own(m, u.URI)
		if u.Form != answer.Full || t == nil {
			return false
		}
		u.Form = answer.Absent
		*t = s.now("NEVER").Topics[0] // proves that another is absent
		t.Value = u.URI
		return true
	}},
	{name: "unit-left-out-of-the-lists", tell: func(s *stage, m *answer.Many) bool {
		uri := m.Units[s.IntN(len(m.Units))].URI
		n := len(m.Topics)
		m.Topics = slices.DeleteFunc(m.Topics, func(t answer.Topic) bool { return t.Kind == "unit" && t.Value == uri })
		return len(m.Topics) < n
	}},
	{name: "a-word-for-one", tell: func(s *stage, m *answer.Many) bool {
		u := &m.Units[s.IntN(len(m.Units))]
		u.Form, u.Word = answer.Status, "verified"
		return true
	}},
	{name: "a-word-for-all", tell: func(s *stage, m *answer.Many) bool {
		for i := range m.Units {
			m.Units[i].Form, m.Units[i].Word = answer.Status, "verified"
		}
		*m = answer.Many{Format: m.Format, Units: m.Units}
		return true
	}},
	{name: "words-with-nothing-behind", tell: func(s *stage, m *answer.Many) bool {
		*m = answer.Many{Format: m.Format, Units: m.Units}
		return true
	}},
	{name: "other-units-lists", tell: func(s *stage, m *answer.Many) bool {
		// Honest about units that nobody asked for, under the names of those asked for.
		o := s.now(s.serial())
		if slices.ContainsFunc(m.Units, func(u answer.Unit) bool { return u.URI == o.URI }) {
			return false
		}
		m.Commitment, m.Topics, m.Entries = o.Commitment, o.Topics, o.Entries
		return true
	}},
	{name: "lists-of-an-earlier-size", tell: func(s *stage, m *answer.Many) bool {
		changed := false
		for _, u := range m.Units {
			for at := range s.past[:len(s.past)-1] {
				for serial := range s.past[at] {
					if unitURI(serial) != u.URI || s.IntN(2) == 0 {
						continue
					}
					o := s.answerAt(at, serial)
					m.Checkpoint, m.Commitment = o.Checkpoint, o.Commitment
					changed = asAnswer(s, m, func(a *answer.Answer) bool { join(a, o); return true })
				}
			}
		}
		return changed
	}},
	{name: "one-unit-of-an-earlier-size", tell: func(s *stage, m *answer.Many) bool {
		for _, i := range s.Perm(len(m.Units)) {
			for at := range s.past[:len(s.past)-1] {
				for serial := range s.past[at] {
					t, o := own(m, unitURI(serial)), s.answerAt(at, serial)
					if unitURI(serial) == m.Units[i].URI && t != nil && !slices.Equal(t.Indexes, o.Topics[len(o.Topics)-1].Indexes) {
						*t = *own(&answer.Many{Topics: o.Topics}, m.Units[i].URI)
						return true
					}
				}
			}
		}
		return false
	}},
	pairLie("own-lists-exchanged", func(_ *stage, _ *answer.Many, x, y *answer.Topic) bool {
		x.Value, y.Value = y.Value, x.Value
		return true
	}),
	pairLie("own-list-for-another", func(_ *stage, _ *answer.Many, x, y *answer.Topic) bool {
		uri := x.Value
		*x = *y
		x.Value = uri
		return true
	}),
	pairLie("own-lists-as-one", func(_ *stage, _ *answer.Many, x, y *answer.Topic) bool {
		if len(y.Indexes) == 0 {
			return false
		}
		x.Indexes = append(x.Indexes, y.Indexes...)
		slices.Sort(x.Indexes)
		x.Indexes = slices.Compact(x.Indexes)
		return true
	}),
	pairLie("entry-moved-to-the-other-unit", func(s *stage, _ *answer.Many, x, y *answer.Topic) bool {
		if len(x.Indexes) == 0 || len(y.Indexes) == 0 {
			return false
		}
		i := s.IntN(len(x.Indexes))
		n := x.Indexes[i]
		if slices.Contains(y.Indexes, n) {
			return false
		}
		x.Indexes = slices.Delete(x.Indexes, i, i+1)
		y.Indexes = append(y.Indexes, n)
		slices.Sort(y.Indexes)
		return true
	}),
	{name: "member-of-one-unit-only", tell: func(s *stage, m *answer.Many) bool {
		for _, i := range s.Perm(len(m.Entries)) {
			if e := &m.Entries[i]; len(e.Members) > 1 {
				k := s.IntN(len(e.Members))
				e.Members = slices.Delete(e.Members, k, k+1)
				return true
			}
		}
		return false
	}},
	{name: "member-proofs-exchanged", tell: func(s *stage, m *answer.Many) bool {
		for _, i := range s.Perm(len(m.Entries)) {
			if e := &m.Entries[i]; len(e.Members) > 1 {
				e.Members[0].Member, e.Members[1].Member = e.Members[1].Member, e.Members[0].Member
				return true
			}
		}
		return false
	}},
}

// packed are units that share manifests and loads.
var packed = []string{"GOOD", "SHIPPED", "RECALLED", "HELD", "LIFTED"}

// A client that asks about many units in one call never believes what is not true of
// any of them, whether the server lies in that call alone or again when one unit is
// asked for by itself.
func TestLyingServerAboutMany(t *testing.T) { newAudience(t, auditing).hearMany(t, *lieTries/2) }

// The same of a client that knows of no index witness, which calls nothing verified or
// complete besides.
func TestLyingServerAboutManyBeforeOrdinaryWitnesses(t *testing.T) {
	newAudience(t, reading|ordinary).hearMany(t, *lieTries/4)
}

func (c *audience) hearMany(t *testing.T, tries int) {
	s, v, f, honest := c.stage, c.v, c.f, c.honest
	single := slices.Concat(lies, moreLies)
	told, noticed, accepted := map[string]int{}, map[string]int{}, 0
	for n := range tries {
		serials := slices.Clone(packed)
		if s.IntN(2) == 0 {
			serials = slices.Clone(s.serials)
		}
		s.Shuffle(len(serials), func(i, j int) { serials[i], serials[j] = serials[j], serials[i] })
		serials = serials[:2+s.IntN(3)]
		l := manyLies[n/2%len(manyLies)]
		if n%2 == 1 {
			one := single[n/2%len(single)]
			l = manyLie{name: one.name, tell: func(s *stage, m *answer.Many) bool {
				return asAnswer(s, m, func(a *answer.Answer) bool { return one.tell(s, a) })
			}}
		}
		if v.Parts = nil; s.IntN(3) == 0 {
			_, v.Parts = s.known(s.serial())
		}
		fits, again := false, false
		f.many = func(m *answer.Many) {
			whole, _ := m.Marshal()
			if fits = l.tell(s, m); !fits { // what it has changed already
				back, _ := answer.ParseMany(whole)
				*m = *back
			}
		}
		f.units = func(a *answer.Answer) {
			if again = true; n%4 > 1 {
				single[s.IntN(len(single))].tell(s, a)
			}
		}
		var codes []Code
		for _, serial := range serials {
			codes = append(codes, Code{Text: unitURI(serial)})
		}
		v.Memory = memory{s.w.Log.Checkpoint().Origin: s.w.Note}
		rs, err := v.VerifyUnits(t.Context(), codes)
		if err != nil || len(rs) != len(codes) {
			t.Fatalf("try %d: %s: %d reports, %v", n, l.name, len(rs), err)
		}
		if fits {
			told[l.name]++
		}
		for i, r := range rs {
			truth := honest[serials[i]]
			if c.ordinary && (r.Complete || r.Word == custody.Verified) {
				t.Errorf("seed %d, try %d: %s: %s is %s, complete %t, on the operator's word", *lieSeed, n, l.name, serials[i], r.Word, r.Complete)
			}
			switch {
			case r.URI != unitURI(serials[i]):
				t.Errorf("seed %d, try %d: %s: report %d is about %s, want %s", *lieSeed, n, l.name, i, r.URI, serials[i])
			case r.Word == custody.CouldNotVerify || r.Word == custody.StatusOnly || again || !reflect.DeepEqual(r.Reasons, truth.Reasons) && harmless(r, truth):
				noticed[l.name]++
			}
			if r.Word != custody.CouldNotVerify && r.Word != custody.StatusOnly && !harmless(r, truth) {
				accepted++
				t.Errorf("seed %d, try %d: %s: about %s it is believed: %s %v, the truth is %s %v", *lieSeed, n, l.name, serials[i],
					r.Word, r.Failed(), truth.Word, truth.Failed())
			}
		}
	}
	for _, l := range manyLies {
		enough := 40 * len(manyLies)
		if l.idle { // it fits few calls: those about a unit that is there and one that is not
			enough *= 10
		}
		if tries >= enough && (told[l.name] == 0 || noticed[l.name] == 0 && !l.idle) {
			t.Errorf("%s is no lie: %d told, %d noticed", l.name, told[l.name], noticed[l.name])
		}
	}
	t.Logf("%d lies of %d kinds about many units told, %d accepted", tries, len(manyLies)+len(single), accepted)
}
