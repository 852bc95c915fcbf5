package client

import (
	"cmp"
	"slices"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer"
	"fabtrail.dev/fabtrail/custody/answer/answertest"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
)

// two picks two topics of an answer that differ.
func (s *stage) two(a *answer.Answer) (x, y *answer.Topic) {
	if len(a.Topics) < 2 {
		return nil, nil
	}
	i := s.IntN(len(a.Topics))
	j := (i + 1 + s.IntN(len(a.Topics)-1)) % len(a.Topics)
	return &a.Topics[i], &a.Topics[j]
}

// reproof changes an index proof in its parsed form.
func (s *stage) reproof(a *answer.Answer, fn func(p *unitindex.Proof) bool) bool {
	t := s.topic(a)
	p, err := unitindex.ParseProof(t.Proof)
	if err != nil || !fn(&p) {
		return false
	}
	t.Proof = p.Marshal()
	return true
}

// join adds what another answer proves.
func join(a, o *answer.Answer) {
	for _, t := range o.Topics {
		if !slices.ContainsFunc(a.Topics, func(x answer.Topic) bool { return x.Kind == t.Kind && x.Value == t.Value }) {
			a.Topics = append(a.Topics, t)
		}
	}
	for _, e := range o.Entries {
		if !slices.ContainsFunc(a.Entries, func(x answer.Entry) bool { return x.Index == e.Index }) {
			a.Entries = append(a.Entries, e)
		}
	}
	slices.SortFunc(a.Entries, func(x, y answer.Entry) int { return cmp.Compare(x.Index, y.Index) })
}

// components are the topics of an answer that are units other than its own: what was built
// into it.
func components(a *answer.Answer) (out []int) {
	for i, t := range a.Topics {
		if t.Kind == entry.TopicUnit && t.Value != a.URI {
			out = append(out, i)
		}
	}
	return out
}

// dropTopic leaves out the i-th topic, with some of its entries.
func (s *stage) dropTopic(a *answer.Answer, i int) {
	gone := a.Topics[i].Indexes
	a.Topics = slices.Delete(a.Topics, i, i+1)
	for _, n := range gone {
		if s.IntN(2) == 0 {
			forget(a, n)
		}
	}
}

// misplace shows the answer under a longer tree, signed and cosigned by all, whose last entry is
// a statement: the commitment stands before it. All else is as it must be.
func (s *stage) misplace(a *answer.Answer) {
	tree := append(slices.Clone(s.w.Tree), s.w.Tree[3])
	size := uint64(len(tree))
	cp := checkpoint.Checkpoint{Origin: answertest.Origin, Size: size, Root: tree.Root()}
	a.Checkpoint = string(s.w.NoteFor(cp, s.w.Time/1000))
	a.Commitment.Hashes = tree.Inclusion(int(size - 2))
	for i := range a.Entries {
		a.Entries[i].Hashes = tree.Inclusion(int(a.Entries[i].Index))
	}
}

// moreLies mix what is true with what is true elsewhere, or of something else.
var moreLies = []lie{
	{"hide-component", func(s *stage, a *answer.Answer) bool {
		// The statement that built it in, or all that is known of the part itself.
		parts := components(a)
		if len(parts) == 0 {
			return false
		}
		if s.IntN(2) == 0 {
			return hide(custody.KindAssemble).tell(s, a)
		}
		s.dropTopic(a, parts[s.IntN(len(parts))])
		return true
	}},
	{"hide-evidence", func(s *stage, a *answer.Answer) bool {
		// The list of route policies, with its entries or without; of a reader who may not see
		// it, the finding that rests on it.
		i := slices.IndexFunc(a.Topics, func(t answer.Topic) bool { return t.Kind == entry.TopicLane && len(t.Indexes) > 0 })
		if i < 0 {
			return hide(custody.KindFinding).tell(s, a)
		}
		s.dropTopic(a, i)
		return true
	}},
	{"misplaced-commitment", func(s *stage, a *answer.Answer) bool {
		if s.IntN(2) == 0 {
			s.misplace(a)
			return true
		}
		// An earlier commitment, with the proof that it is in the tree at its own place.
		var at []int
		for i, e := range s.w.Entries[:len(s.w.Entries)-1] {
			if e.Class == entry.Index {
				at = append(at, i)
			}
		}
		i := at[s.IntN(len(at))]
		a.Commitment = &answer.Commitment{Cargo: s.w.Entries[i].Cargo(), Hashes: s.w.Tree.Inclusion(i)}
		return true
	}},
	{"a-word-alone", func(s *stage, a *answer.Answer) bool {
		*a = answer.Answer{Format: a.Format, URI: a.URI, Form: answer.Status, Word: "verified"}
		return true
	}},
	{"padded-and-short", func(s *stage, a *answer.Answer) bool {
		// All of another unit's lists, and one of this unit's own missing among them.
		o := s.now(s.serial())
		i := s.IntN(len(a.Topics))
		t := a.Topics[i]
		if slices.ContainsFunc(o.Topics, func(x answer.Topic) bool { return x.Kind == t.Kind && x.Value == t.Value }) {
			return false
		}
		a.Topics = slices.Delete(a.Topics, i, i+1)
		join(a, o)
		return true
	}},
	{"padded-from-the-past", func(s *stage, a *answer.Answer) bool {
		n := len(a.Topics)
		join(a, s.old(s.serial()))
		return len(a.Topics) > n
	}},
	{"inclusion-of-an-earlier-size", func(s *stage, a *answer.Answer) bool {
		for _, o := range s.old(s.serial()).Entries {
			for i := range a.Entries {
				if a.Entries[i].Index == o.Index && !slices.Equal(a.Entries[i].Hashes, o.Hashes) {
					a.Entries[i].Hashes = o.Hashes
					return true
				}
			}
		}
		return false
	}},
	{"longer-inclusion", func(s *stage, a *answer.Answer) bool {
		e := s.entry(a)
		if e == nil {
			return false
		}
		e.Hashes = append(slices.Clone(e.Hashes), entry.Hash{1})
		return true
	}},
	{"shorter-inclusion", func(s *stage, a *answer.Answer) bool {
		e := s.entry(a)
		if e == nil || len(e.Hashes) == 0 {
			return false
		}
		e.Hashes = e.Hashes[:len(e.Hashes)-1]
		return true
	}},
	{"lists-exchanged", func(s *stage, a *answer.Answer) bool {
		x, y := s.two(a)
		if x == nil || slices.Equal(x.Indexes, y.Indexes) {
			return false
		}
		x.Indexes, y.Indexes = y.Indexes, x.Indexes
		return true
	}},
	{"proofs-exchanged", func(s *stage, a *answer.Answer) bool {
		x, y := s.two(a)
		if x == nil {
			return false
		}
		x.Proof, y.Proof = y.Proof, x.Proof
		return true
	}},
	{"names-exchanged", func(s *stage, a *answer.Answer) bool {
		x, y := s.two(a)
		if x == nil {
			return false
		}
		x.Kind, x.Value, y.Kind, y.Value = y.Kind, y.Value, x.Kind, x.Value
		return true
	}},
	{"of-another-kind", func(s *stage, a *answer.Answer) bool {
		x, y := s.two(a)
		if x == nil || x.Kind == y.Kind {
			return false
		}
		x.Kind = y.Kind
		return true
	}},
	{"list-left-empty", func(s *stage, a *answer.Answer) bool {
		t := s.list(a, 1)
		if t == nil {
			return false
		}
		t.Indexes = nil
		return true
	}},
	{"shorter-path", func(s *stage, a *answer.Answer) bool {
		return s.reproof(a, func(p *unitindex.Proof) bool {
			if len(p.Siblings) == 0 {
				return false
			}
			p.Siblings = p.Siblings[:len(p.Siblings)-1]
			for i := len(p.Bits) - 1; i >= 0; i-- { // its position, the deepest
				if p.Bits[i] != 0 {
					p.Bits[i] &= p.Bits[i] - 1
					break
				}
			}
			return true
		})
	}},
	{"moved-position", func(s *stage, a *answer.Answer) bool {
		return s.reproof(a, func(p *unitindex.Proof) bool {
			i := s.IntN(len(p.Bits))
			p.Bits[i] = p.Bits[i]<<1 | p.Bits[i]>>7
			return p.Bits[i] != 0 && p.Bits[i] != 0xff
		})
	}},
	{"path-upside-down", func(s *stage, a *answer.Answer) bool {
		return s.reproof(a, func(p *unitindex.Proof) bool {
			slices.Reverse(p.Siblings)
			return len(p.Siblings) > 1
		})
	}},
	{"neighbour-as-the-topic", func(s *stage, a *answer.Answer) bool {
		// A proof of absence made into one of presence, with the neighbour's value.
		return s.reproof(a, func(p *unitindex.Proof) bool {
			if p.Kind != unitindex.Absent {
				return false
			}
			p.Kind, p.Neighbour = unitindex.Present, entry.Hash{}
			return true
		})
	}},
	{"commitment-of-an-earlier-size", func(s *stage, a *answer.Answer) bool {
		o := s.old(s.serial())
		if a.Commitment == nil || o.Commitment == nil || slices.Equal(a.Commitment.Cargo, o.Commitment.Cargo) {
			return false
		}
		a.Commitment.Cargo = o.Commitment.Cargo // under the proof of the newest
		return true
	}},
}
