package client

import (
	"bytes"
	"slices"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer"
	"fabtrail.dev/fabtrail/custody/answer/answertest"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
)

// hide is a lie that leaves out one statement of a kind, everywhere.
func hide(k custody.Kind) lie { return hideAs("hide-"+string(k), k) }

func hideAs(name string, k custody.Kind) lie {
	return lie{name, func(s *stage, a *answer.Answer) bool {
		for _, i := range s.Perm(len(a.Entries)) {
			if st := statement(&a.Entries[i]); st != nil && st.Kind == k {
				forget(a, a.Entries[i].Index)
				return true
			}
		}
		return false
	}}
}

// hideOld hides a statement of a kind behind the proofs of a size before it.
func hideOld(k custody.Kind) lie {
	return lie{"hide-behind-old-proofs-" + string(k), func(s *stage, a *answer.Answer) bool {
		hit := false
		for at := range s.past[:len(s.past)-1] {
			for serial := range s.past[at] {
				if unitURI(serial) != a.URI {
					continue
				}
				old := s.answerAt(at, serial)
				for i := range a.Topics {
					for _, o := range old.Topics {
						if o.Kind == a.Topics[i].Kind && o.Value == a.Topics[i].Value && len(o.Indexes) < len(a.Topics[i].Indexes) {
							a.Topics[i] = o
							hit = true
						}
					}
				}
			}
		}
		for i := len(a.Entries) - 1; i >= 0; i-- {
			if st := statement(&a.Entries[i]); st != nil && st.Kind == k {
				forget(a, a.Entries[i].Index)
				hit = true
			}
		}
		return hit
	}}
}

var lies = []lie{
	hide(custody.KindPack), hide(custody.KindUnpack), hide(custody.KindRecall), hide(custody.KindHold),
	hide(custody.KindCommission), hide(custody.KindRetire), hide(custody.KindRelease), hide(custody.KindAccept), hide(custody.KindParty),
	hide(custody.KindVoid), hide(custody.KindProduct), hide(custody.KindSerialBlock), hide(custody.KindCharter),
	hide(custody.KindFinding), hideOld(custody.KindFinding),
	hideAs("hide-revocation", custody.KindKey), hideOld(custody.KindKey), hide(custody.KindIdentity), hideOld(custody.KindIdentity),
	hideOld(custody.KindRecall), hideOld(custody.KindUnpack), hideOld(custody.KindHold), hideOld(custody.KindCommission),
	{"drop-entry", func(s *stage, a *answer.Answer) bool {
		e := s.entry(a)
		if e == nil {
			return false
		}
		forget(a, e.Index)
		return true
	}},
	{"drop-cargo", func(s *stage, a *answer.Answer) bool {
		e := s.entry(a)
		if e == nil {
			return false
		}
		n := e.Index
		a.Entries = slices.DeleteFunc(a.Entries, func(e answer.Entry) bool { return e.Index == n })
		return true
	}},
	{"drop-from-list", func(s *stage, a *answer.Answer) bool {
		t := s.list(a, 1)
		if t == nil {
			return false
		}
		i := s.IntN(len(t.Indexes))
		t.Indexes = slices.Delete(t.Indexes, i, i+1)
		return true
	}},
	{"truncate-list", func(s *stage, a *answer.Answer) bool {
		t := s.list(a, 2)
		if t == nil {
			return false
		}
		t.Indexes = t.Indexes[:1+s.IntN(len(t.Indexes)-1)]
		return true
	}},
	{"reorder-list", func(s *stage, a *answer.Answer) bool {
		t := s.list(a, 2)
		if t == nil {
			return false
		}
		i := s.IntN(len(t.Indexes) - 1)
		t.Indexes[i], t.Indexes[i+1] = t.Indexes[i+1], t.Indexes[i]
		return true
	}},
	{"reorder-entries", func(s *stage, a *answer.Answer) bool {
		if len(a.Entries) < 2 {
			return false
		}
		i := s.IntN(len(a.Entries) - 1)
		a.Entries[i], a.Entries[i+1] = a.Entries[i+1], a.Entries[i]
		return true
	}},
	{"duplicate-in-list", func(s *stage, a *answer.Answer) bool {
		t := s.list(a, 1)
		if t == nil {
			return false
		}
		i := s.IntN(len(t.Indexes))
		t.Indexes = slices.Insert(t.Indexes, i, t.Indexes[i])
		return true
	}},
	{"duplicate-entry", func(s *stage, a *answer.Answer) bool {
		if len(a.Entries) == 0 {
			return false
		}
		i := s.IntN(len(a.Entries))
		a.Entries = slices.Insert(a.Entries, i, a.Entries[i])
		return true
	}},
	{"add-to-list", func(s *stage, a *answer.Answer) bool {
		e := s.entry(a)
		t := s.topic(a)
		if e == nil || slices.Contains(t.Indexes, e.Index) {
			return false
		}
		i, _ := slices.BinarySearch(t.Indexes, e.Index)
		t.Indexes = slices.Insert(t.Indexes, i, e.Index)
		return true
	}},
	{"swap-cargo", func(s *stage, a *answer.Answer) bool {
		x, y := s.entry(a), s.entry(a)
		if x == nil || x == y {
			return false
		}
		x.Cargo, y.Cargo = y.Cargo, x.Cargo
		return true
	}},
	{"swap-index", func(s *stage, a *answer.Answer) bool {
		x, y := s.entry(a), s.entry(a)
		if x == nil || x == y {
			return false
		}
		x.Cargo, y.Cargo, x.Hashes, y.Hashes = y.Cargo, x.Cargo, y.Hashes, x.Hashes
		return true
	}},
	{"altered-cargo", func(s *stage, a *answer.Answer) bool {
		e := s.entry(a)
		return e != nil && s.flip(e.Cargo)
	}},
	{"wrong-class", func(s *stage, a *answer.Answer) bool {
		e := s.entry(a)
		if e == nil {
			return false
		}
		e.Cargo[0] ^= 3 // public <-> restricted
		return true
	}},
	{"altered-time", func(s *stage, a *answer.Answer) bool {
		e := s.entry(a)
		return e != nil && s.flip(e.Cargo[1:9])
	}},
	{"altered-inclusion", func(s *stage, a *answer.Answer) bool {
		e := s.entry(a)
		return e != nil && s.flipHash(e.Hashes)
	}},
	{"altered-index-proof", func(s *stage, a *answer.Answer) bool { return s.flip(s.topic(a).Proof) }},
	{"altered-commitment", func(s *stage, a *answer.Answer) bool { return s.flip(a.Commitment.Cargo) }},
	{"altered-commitment-proof", func(s *stage, a *answer.Answer) bool { return s.flipHash(a.Commitment.Hashes) }},
	{"missing-commitment", func(s *stage, a *answer.Answer) bool { a.Commitment = nil; return true }},
	{"forged-commitment", func(s *stage, a *answer.Answer) bool {
		// The index as the liar would like it: without one entry of one list.
		t := s.list(a, 1)
		if t == nil {
			return false
		}
		i := s.IntN(len(t.Indexes))
		t.Indexes = slices.Delete(t.Indexes, i, i+1)
		var refs []unitindex.Ref
		for _, n := range t.Indexes {
			refs = append(refs, unitindex.Ref{Index: n, Leaf: s.w.Tree[n]})
		}
		var rows unitindex.MemRows
		for topic, all := range s.w.Refs {
			rows.Set(topic, unitindex.ListValue(all))
		}
		topic := entry.Topic{Kind: t.Kind, Value: t.Value}.Hash()
		if len(refs) > 0 {
			rows.Set(topic, unitindex.ListValue(refs))
		}
		tree, err := unitindex.Build(&rows)
		if err != nil {
			return false
		}
		for j := range a.Topics {
			p, err := tree.Prove(&rows, entry.Topic{Kind: a.Topics[j].Kind, Value: a.Topics[j].Value}.Hash())
			if err != nil {
				return false
			}
			a.Topics[j].Proof = p.Marshal()
		}
		e, err := entry.ParseCargo(a.Commitment.Cargo)
		if err != nil {
			return false
		}
		e.IndexRoot = tree.Root()
		a.Commitment.Cargo = e.Cargo()
		return true
	}},
	{"old-commitment", func(s *stage, a *answer.Answer) bool { a.Commitment = s.old(s.serial()).Commitment; return true }},
	{"commitment-among-entries", func(s *stage, a *answer.Answer) bool {
		a.Entries = append(a.Entries, answer.Entry{Index: s.w.Published - 1, Cargo: a.Commitment.Cargo, Hashes: a.Commitment.Hashes})
		t := s.topic(a)
		t.Indexes = append(t.Indexes, s.w.Published-1)
		return true
	}},
	{"stale-list", func(s *stage, a *answer.Answer) bool {
		old := s.old(s.serial())
		for _, i := range s.Perm(len(a.Topics)) {
			for _, o := range old.Topics {
				if o.Kind == a.Topics[i].Kind && o.Value == a.Topics[i].Value && !bytes.Equal(o.Proof, a.Topics[i].Proof) {
					a.Topics[i] = o
					return true
				}
			}
		}
		return false
	}},
	{"other-topics-list", func(s *stage, a *answer.Answer) bool {
		t, o := s.topic(a), s.topic(s.now(s.serial()))
		if t.Kind == o.Kind && t.Value == o.Value {
			return false
		}
		t.Proof, t.Indexes = o.Proof, o.Indexes
		return true
	}},
	{"renamed-topic", func(s *stage, a *answer.Answer) bool {
		t, o := s.topic(a), s.topic(s.now(s.serial()))
		if t.Kind == o.Kind && t.Value == o.Value {
			return false
		}
		t.Kind, t.Value = o.Kind, o.Value
		return true
	}},
	{"drop-topic", func(s *stage, a *answer.Answer) bool {
		i := s.IntN(len(a.Topics))
		a.Topics = slices.Delete(a.Topics, i, i+1)
		return true
	}},
	{"duplicate-topic", func(s *stage, a *answer.Answer) bool {
		a.Topics = append(a.Topics, *s.topic(a))
		return true
	}},
	{"forged-absence", func(s *stage, a *answer.Answer) bool {
		t := s.list(a, 1)
		if t == nil {
			return false
		}
		*t = answer.Topic{Kind: t.Kind, Value: t.Value, Proof: s.now("NEVER").Topics[0].Proof}
		return true
	}},
	{"empty-tree", func(s *stage, a *answer.Answer) bool {
		t := s.topic(a)
		t.Proof, t.Indexes = unitindex.Proof{Kind: unitindex.Empty}.Marshal(), nil
		return true
	}},
	{"forged-neighbour", func(s *stage, a *answer.Answer) bool {
		t := s.list(a, 1)
		if t == nil {
			return false
		}
		p, err := unitindex.ParseProof(t.Proof)
		if err != nil {
			return false
		}
		p.Kind = unitindex.Absent
		p.Neighbour = entry.Topic{Kind: t.Kind, Value: t.Value}.Hash()
		if s.IntN(2) == 0 {
			p.Neighbour[31] ^= 1
		}
		t.Proof, t.Indexes = p.Marshal(), nil
		return true
	}},
	{"absent-form", func(s *stage, a *answer.Answer) bool {
		if a.Form == answer.Absent {
			return false
		}
		uri := a.URI
		*a = *s.now("NEVER")
		a.URI = uri
		if s.IntN(2) == 0 {
			a.Topics[0].Value = uri
		}
		return true
	}},
	{"absent-then", func(s *stage, a *answer.Answer) bool {
		// When it was not there yet.
		for _, past := range s.past[:len(s.past)-1] {
			for serial, b := range past {
				old, err := answer.Parse(b)
				if err == nil && unitURI(serial) == a.URI && old.Form == answer.Absent && a.Form == answer.Full {
					note := a.Checkpoint
					*a = *old
					if s.IntN(2) == 0 {
						a.Checkpoint = note
					}
					return true
				}
			}
		}
		return false
	}},
	{"other-unit", func(s *stage, a *answer.Answer) bool {
		uri := a.URI
		*a = *s.now(s.serial())
		if a.URI == uri {
			return false
		}
		a.URI = uri
		return true
	}},
	{"rename-unit", func(s *stage, a *answer.Answer) bool {
		uri := a.URI
		*a = *s.now(s.serial())
		return a.URI != uri
	}},
	{"known", func(s *stage, a *answer.Answer) bool {
		t := s.list(a, 1)
		if t == nil {
			return false
		}
		t.Known, t.Indexes = true, nil
		return true
	}},
	{"drop-member", func(s *stage, a *answer.Answer) bool {
		return s.members(a, func(e *answer.Entry, i int) bool { e.Members = slices.Delete(e.Members, i, i+1); return true })
	}},
	{"altered-member", func(s *stage, a *answer.Answer) bool {
		return s.members(a, func(e *answer.Entry, i int) bool { return s.flip(e.Members[i].Member) })
	}},
	{"altered-member-proof", func(s *stage, a *answer.Answer) bool {
		return s.members(a, func(e *answer.Entry, i int) bool { return s.flipHash(e.Members[i].Hashes) })
	}},
	{"moved-member", func(s *stage, a *answer.Answer) bool {
		return s.members(a, func(e *answer.Entry, i int) bool { e.Members[i].Position++; return true })
	}},
	{"foreign-member", func(s *stage, a *answer.Answer) bool {
		o := s.now("SHIPPED")
		return s.members(a, func(e *answer.Entry, i int) bool {
			return s.members(o, func(f *answer.Entry, j int) bool {
				if bytes.Equal(e.Members[i].Member, f.Members[j].Member) {
					return false
				}
				e.Members[i] = f.Members[j]
				return true
			})
		})
	}},
	{"wholly-old", func(s *stage, a *answer.Answer) bool {
		for at := range s.past[:len(s.past)-1] {
			for serial := range s.past[at] {
				if unitURI(serial) == a.URI && s.IntN(2) == 0 {
					note := a.Checkpoint
					*a = *s.answerAt(at, serial)
					if s.IntN(2) == 0 {
						a.Checkpoint = note
					}
					return true
				}
			}
		}
		return false
	}},
	{"altered-note", func(s *stage, a *answer.Answer) bool {
		b := []byte(a.Checkpoint)
		ok := s.flip(b)
		a.Checkpoint = string(b)
		return ok
	}},
	{"long-ago", func(s *stage, a *answer.Answer) bool {
		a.Checkpoint = string(s.w.NoteFor(s.w.Checkpoint(), s.w.Time/1000-3700))
		return true
	}},
	{"from-the-future", func(s *stage, a *answer.Answer) bool {
		a.Checkpoint = string(s.w.NoteFor(s.w.Checkpoint(), s.w.Time/1000+3700))
		return true
	}},
	{"below-the-quorum", func(s *stage, a *answer.Answer) bool {
		n, err := checkpoint.ParseNote([]byte(a.Checkpoint))
		if err != nil || len(n.Sigs) != 5 {
			return false
		}
		n.Sigs = append(n.Sigs[:2:2], n.Sigs[4:]...) // log, one witness, index
		a.Checkpoint = string(n.Marshal())
		return true
	}},
	{"index-witness-for-a-witness", func(s *stage, a *answer.Answer) bool {
		n, err := checkpoint.ParseNote([]byte(a.Checkpoint))
		if err != nil || len(n.Sigs) != 5 {
			return false
		}
		n.Sigs = []checkpoint.NoteSig{n.Sigs[0], n.Sigs[4], n.Sigs[4], n.Sigs[4]}
		a.Checkpoint = string(n.Marshal())
		return true
	}},
	{"unsigned-by-the-log", func(s *stage, a *answer.Answer) bool {
		n, err := checkpoint.ParseNote([]byte(a.Checkpoint))
		if err != nil || len(n.Sigs) != 5 {
			return false
		}
		n.Sigs = n.Sigs[1:]
		a.Checkpoint = string(n.Marshal())
		return true
	}},
	{"fork-at-this-size", func(s *stage, a *answer.Answer) bool {
		cp := s.w.Checkpoint()
		cp.Root[s.IntN(32)] ^= 1
		a.Checkpoint = string(s.w.NoteFor(cp, s.w.Time/1000))
		return true
	}},
	{"fork-beyond", func(s *stage, a *answer.Answer) bool {
		// A longer tree with another past, signed and cosigned by all.
		tree := slices.Clone(s.w.Tree)
		tree[s.IntN(len(tree))][0] ^= 1
		tree = append(tree, entry.Hash{1}, entry.Hash{2})
		cp := checkpoint.Checkpoint{Origin: answertest.Origin, Size: uint64(len(tree)), Root: tree.Root()}
		a.Checkpoint = string(s.w.NoteFor(cp, s.w.Time/1000))
		return true
	}},
	{"other-log", func(s *stage, a *answer.Answer) bool {
		cp := s.w.Checkpoint()
		cp.Origin = "other.example/log"
		a.Checkpoint = string(s.w.NoteFor(cp, s.w.Time/1000))
		return true
	}},
}
