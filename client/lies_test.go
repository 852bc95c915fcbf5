package client

import (
	"bytes"
	"flag"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer"
	"fabtrail.dev/fabtrail/custody/answer/answertest"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
)

var (
	lieTries = flag.Int("lies", 240, "how many lies TestLyingServer tells")
	lieSeed  = flag.Uint64("lieseed", 1, "seed of the lies")
)

// A lie changes an honest answer. To add one, add a row to lies. It returns false
// when it does not fit the answer.
type lie struct {
	name string
	tell func(s *stage, a *answer.Answer) bool
}

// stage is what a lying server has to lie with: every answer that was ever true.
type stage struct {
	*rand.Rand
	w       *answertest.World
	serials []string
	past    []map[string][]byte // answers by serial, for each published size, oldest first
	notes   [][]byte
}

func newStage(t testing.TB, seed uint64) *stage {
	t.Helper()
	s := &stage{Rand: rand.New(rand.NewPCG(seed, 0))}
	for serial := range taleVerdicts {
		s.serials = append(s.serials, serial)
	}
	slices.Sort(s.serials)
	l := answertest.NewLog(t)
	l.OnPublish = func() {
		now := map[string][]byte{}
		for _, serial := range s.serials {
			a, _, err := answer.Assemble(l.View(), unitURI(serial), answer.Options{Evidence: all})
			if err != nil {
				t.Fatal(err)
			}
			if now[serial], err = a.Marshal(); err != nil {
				t.Fatal(err)
			}
		}
		s.past = append(s.past, now)
		s.notes = append(s.notes, l.Note)
	}
	s.w = taleOn(l)
	return s
}

// unitURI is a unit of answertest's world.
func unitURI(serial string) string { return "https://id.gs1.org/01/09506000134352/21/" + serial }

func (s *stage) answerAt(at int, serial string) *answer.Answer {
	a, err := answer.Parse(s.past[at][serial])
	if err != nil {
		panic(err)
	}
	return a
}

// now is the honest answer of the latest size.
func (s *stage) now(serial string) *answer.Answer { return s.answerAt(len(s.past)-1, serial) }

// old is an honest answer of an earlier size.
func (s *stage) old(serial string) *answer.Answer { return s.answerAt(s.IntN(len(s.past)-1), serial) }

func (s *stage) serial() string { return s.serials[s.IntN(len(s.serials))] }

func (s *stage) topic(a *answer.Answer) *answer.Topic { return &a.Topics[s.IntN(len(a.Topics))] }

// list picks a topic with at least n entries.
func (s *stage) list(a *answer.Answer, n int) *answer.Topic {
	for range 50 {
		if t := s.topic(a); len(t.Indexes) >= n {
			return t
		}
	}
	return nil
}

func (s *stage) entry(a *answer.Answer) *answer.Entry {
	if len(a.Entries) == 0 {
		return nil
	}
	return &a.Entries[s.IntN(len(a.Entries))]
}

// flip changes one bit of b.
func (s *stage) flip(b []byte) bool {
	if len(b) == 0 {
		return false
	}
	b[s.IntN(len(b))] ^= 1 << s.IntN(8)
	return true
}

func (s *stage) flipHash(hs []entry.Hash) bool {
	if len(hs) == 0 {
		return false
	}
	return s.flip(hs[s.IntN(len(hs))][:])
}

// forget takes entry n out of every list, and out of the answer.
func forget(a *answer.Answer, n uint64) {
	is := func(m uint64) bool { return m == n }
	for i := range a.Topics {
		a.Topics[i].Indexes = slices.DeleteFunc(a.Topics[i].Indexes, is)
	}
	a.Entries = slices.DeleteFunc(a.Entries, func(e answer.Entry) bool { return e.Index == n })
}

// statement reads the statement of an entry sent.
func statement(e *answer.Entry) *custody.Statement {
	c, err := entry.ParseCargo(e.Cargo)
	if err != nil {
		return nil
	}
	env, err := entry.ParseEnvelope(c.Envelope)
	if err != nil {
		return nil
	}
	st, err := custody.Parse(env.Payload)
	if err != nil {
		return nil
	}
	return st
}

// hide is a lie that leaves out one statement of a kind, everywhere.
func hide(k custody.Kind) lie {
	return lie{"hide-" + string(k), func(s *stage, a *answer.Answer) bool {
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
	hide(custody.KindPack), hide(custody.KindUnpack), hide(custody.KindRecall), hide(custody.KindAssemble), hide(custody.KindHold),
	hide(custody.KindCommission), hide(custody.KindRetire), hide(custody.KindRelease), hide(custody.KindAccept), hide(custody.KindParty),
	hide(custody.KindVoid), hide(custody.KindProduct), hide(custody.KindSerialBlock), hide(custody.KindCharter),
	hide(custody.KindFinding), hide(custody.KindRoutePolicy), hideOld(custody.KindFinding),
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

// members calls fn for a random member of the answer.
func (s *stage) members(a *answer.Answer, fn func(e *answer.Entry, i int) bool) bool {
	for _, i := range s.Perm(len(a.Entries)) {
		if e := &a.Entries[i]; len(e.Members) > 0 {
			return fn(e, s.IntN(len(e.Members)))
		}
	}
	return false
}

// harmless reports whether r tells the truth about the unit. It may tell it with
// less behind it: a server that withholds the index witness's cosignature, or the
// evidence of a finding, gets a verdict that says so and is no longer verified.
func harmless(r, truth *Report) bool {
	words := slices.ContainsFunc(r.Reasons, func(x custody.Reason) bool { return strings.Contains(x.Text, "its signer's word") })
	less := func(codes []string) []string {
		return slices.DeleteFunc(slices.Clone(codes), func(c string) bool { return c == CheckCompleteness })
	}
	switch {
	case r.Complete && !truth.Complete, r.Complete && r.Word != truth.Word && !words, !r.Complete && r.Word == custody.Verified:
		return false
	case !slices.Equal(less(r.Failed()), less(truth.Failed())), !reflect.DeepEqual(r.Lines, truth.Lines):
		return false
	}
	return (r.History == nil) == (truth.History == nil) && (r.History == nil || reflect.DeepEqual(r.History.Unit, truth.History.Unit))
}

// A client that has seen the latest checkpoint never believes what is not true.
// Every lie is told; what is left unharmed by one (a harmless change of the
// answer) must lead to the honest report.
func TestLyingServer(t *testing.T) {
	s := newStage(t, *lieSeed)
	v := verifier(t, s.w.Log, newFake(t, s.w).remote(t, Options{}))
	honest := map[string]*Report{}
	for _, serial := range s.serials {
		b := s.past[len(s.past)-1][serial]
		r := v.VerifyAnswer(t.Context(), unitURI(serial), b)
		if r.Word != taleVerdicts[serial] {
			t.Fatalf("%s: %s, want %s: %v", serial, r.Word, taleVerdicts[serial], r.Checks)
		}
		honest[serial] = r
	}
	note, accepted := s.w.Note, 0
	told, refused := map[string]int{}, map[string]int{}
	for n := 0; n < *lieTries; {
		l, serial := lies[n%len(lies)], s.serial()
		a := s.now(serial)
		if !l.tell(s, a) {
			told[l.name]--
			if told[l.name] < -2000 {
				t.Fatalf("%s never fits", l.name)
			}
			continue
		}
		told[l.name] = max(told[l.name], 0) + 1
		if s.IntN(5) == 0 && a.Commitment != nil && len(a.Topics) > 0 {
			lies[s.IntN(len(lies))].tell(s, a) // and a second one
		}
		b, err := a.Marshal()
		if err != nil { // not UTF-8: such a note cannot be sent
			continue
		}
		n++
		v.Memory = memory{answertest.Origin: note}
		r := v.VerifyAnswer(t.Context(), unitURI(serial), b)
		switch {
		case r.Word == custody.CouldNotVerify || r.Word == custody.StatusOnly:
			refused[l.name]++
		case !harmless(r, honest[serial]):
			accepted++
			t.Errorf("seed %d, try %d: %s about %s is believed: %s %v, the truth is %s %v", *lieSeed, n, l.name, serial,
				r.Word, r.Failed(), honest[serial].Word, honest[serial].Failed())
		}
	}
	if *lieTries >= len(lies)*3 {
		for _, l := range lies {
			if refused[l.name] == 0 {
				t.Errorf("%s is no lie: %d told, none refused", l.name, told[l.name])
			}
		}
	}
	t.Logf("%d lies of %d kinds told, %d accepted", *lieTries, len(lies), accepted)
}
