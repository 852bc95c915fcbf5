package ledgertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
)

// Model drives a ledger and a naive description of it side by side: slices,
// maps, and roots computed from the definitions. Every method returns an error
// at the first difference.
//
// The ledger must run with App, PublishEvery < 0 and Manual, so that each call
// makes one group commit, and with the model's clock and salts.
type Model struct {
	Clock *Clock
	// Receipt, if set, is called with each receipt that was compared.
	Receipt func(id, receipt string)
	// After, if set, is called with the ledger after each operation of RunModel.
	After func(l *ledger.Ledger) error

	open  func(m *Model) (*ledger.Ledger, error)
	l     *ledger.Ledger
	salt  func([]byte) error // the model's own copy of the salts
	log   []entry.Entry
	hash  []entry.Hash
	ids   map[entry.Hash]ledger.Result // by statement: as answered first
	state map[string][]byte
	lists map[entry.Hash][]unitindex.Ref
	names []entry.Hash // topics, in order of their first entry
	index *unitindex.MemIndex
	time  uint64
}

// NewModel opens an empty ledger. open must use m.Clock, and Salts(seed) from
// one and the same source at every call.
func NewModel(seed uint64, open func(m *Model) (*ledger.Ledger, error)) (*Model, error) {
	m := &Model{Clock: NewClock(), open: open, salt: Salts(seed), ids: map[entry.Hash]ledger.Result{},
		state: map[string][]byte{}, lists: map[entry.Hash][]unitindex.Ref{}, index: unitindex.NewMemIndex()}
	var err error
	m.l, err = open(m)
	return m, err
}

// modelState is the State of one decision.
type modelState struct{ base, w map[string][]byte }

// Get implements ledger.State.
func (s modelState) Get(k string) []byte {
	if v, ok := s.w[k]; ok {
		return v
	}
	return s.base[k]
}

// Set implements ledger.State.
func (s modelState) Set(k string, v []byte) { s.w[k] = v }

// admit predicts one result.
func (m *Model) admit(sub ledger.Submission) ledger.Result {
	if r, ok := m.ids[sub.ID]; ok {
		r.Repeat = true
		return r
	}
	at := ledger.At{Index: uint64(len(m.log)), Time: max(m.time, uint64(m.Clock.Now().UnixMilli()))}
	st := modelState{m.state, map[string][]byte{}}
	out := App{}.Decide(st, at, sub)
	if out.Refused != nil {
		return ledger.Result{ID: sub.ID, Err: out.Refused}
	}
	maps.Copy(m.state, st.w)
	e := entry.Entry{Class: out.Class, Time: at.Time, Envelope: sub.Envelope}
	if e.Class == entry.Restricted {
		if err := m.salt(e.Salt[:]); err != nil {
			panic(err)
		}
	}
	m.push(e, out.Topics)
	r := ledger.Result{ID: sub.ID, Index: at.Index, Time: at.Time, Class: e.Class, Effect: out.Effect, Envelope: sub.Envelope}
	m.ids[sub.ID] = r
	return r
}

func (m *Model) push(e entry.Entry, topics []entry.Hash) {
	i := uint64(len(m.log))
	m.log = append(m.log, e)
	m.hash = append(m.hash, e.LeafHash())
	m.time = e.Time
	for _, t := range topics {
		list := m.lists[t]
		if len(list) > 0 && list[len(list)-1].Index == i {
			continue
		}
		if list == nil {
			m.names = append(m.names, t)
		}
		ref := unitindex.Ref{Index: i, Leaf: m.hash[i]}
		m.lists[t] = append(list, ref)
		if err := m.index.Append(t, ref); err != nil {
			panic(err)
		}
	}
}

// commit predicts the index commitment.
func (m *Model) commit() error {
	root, err := m.index.Commit()
	if err != nil {
		return err
	}
	n := uint64(len(m.log))
	m.push(entry.Entry{Class: entry.Index, Time: max(m.time, uint64(m.Clock.Now().UnixMilli())), Covers: n, IndexRoot: root}, nil)
	return nil
}

// Append submits payloads in one call and compares the results.
func (m *Model) Append(payloads []string) error {
	subs := make([]ledger.Submission, len(payloads))
	want := make([]ledger.Result, len(payloads))
	before := len(m.log)
	for i, p := range payloads {
		subs[i] = Submission(p)
		want[i] = m.admit(subs[i])
	}
	if len(m.log) > before {
		if err := m.commit(); err != nil {
			return err
		}
	}
	for i, got := range m.l.Append(context.Background(), subs) {
		if err := m.compare(got, want[i]); err != nil {
			return fmt.Errorf("payload %q: %w", payloads[i], err)
		}
	}
	return m.Check()
}

func (m *Model) compare(got, want ledger.Result) error {
	if want.Err != nil {
		if got.Err == nil || got.Err.Error() != want.Err.Error() {
			return fmt.Errorf("error %v, want %v", got.Err, want.Err)
		}
		return nil
	}
	receipt := got.Receipt
	if !bytes.Equal(got.Envelope, want.Envelope) {
		return fmt.Errorf("envelope of %d is another", got.Index)
	}
	got.Receipt, want.Receipt, got.Envelope, want.Envelope = nil, nil, nil, nil
	if fmt.Sprint(got) != fmt.Sprint(want) {
		return fmt.Errorf("result %v, want %v", got, want)
	}
	p, err := checkpoint.ParseProof(receipt)
	if err != nil {
		return err
	}
	e, err := entry.ParseExtra(p.Extra)
	if err != nil {
		return err
	}
	e.Envelope = m.log[want.Index].Envelope
	if e.LeafHash() != m.hash[want.Index] {
		return fmt.Errorf("receipt of %d leads to another leaf", want.Index)
	}
	if first, ok := m.ids[got.ID]; ok && first.Receipt != nil && !bytes.Equal(first.Receipt, receipt) {
		return fmt.Errorf("receipt of %d is not the first one", want.Index)
	}
	if m.Receipt != nil {
		m.Receipt(got.ID.String(), string(receipt))
	}
	keep := m.ids[got.ID]
	keep.Receipt = receipt
	m.ids[got.ID] = keep
	return nil
}

// Idle lets time pass and ticks.
func (m *Model) Idle(d time.Duration) error {
	m.Clock.Add(d)
	if len(m.log) > 0 && m.Clock.Now().Sub(time.UnixMilli(int64(m.time))) >= time.Hour {
		if err := m.commit(); err != nil {
			return err
		}
	}
	if err := m.l.Tick(context.Background()); err != nil {
		return err
	}
	if len(m.log) > 0 {
		if err := m.l.Wait(context.Background(), uint64(len(m.log)-1)); err != nil {
			return err
		}
	}
	return m.Check()
}

// Restart closes the ledger and opens it again.
func (m *Model) Restart() error {
	if err := m.l.Close(); err != nil {
		return err
	}
	var err error
	if m.l, err = m.open(m); err != nil {
		return err
	}
	return m.Check()
}

// Check compares size, root, checkpoint and index root.
func (m *Model) Check() error {
	v := m.l.Published()
	if v.Size() != uint64(len(m.log)) || v.Root() != NaiveRoot(m.hash) && len(m.log) > 0 {
		return fmt.Errorf("published size %d with root %s, want %d with %s", v.Size(), v.Root(), len(m.log), NaiveRoot(m.hash))
	}
	if len(m.log) == 0 {
		return nil
	}
	if want := m.log[len(m.log)-1].IndexRoot; v.IndexRoot() != want || v.Topics() != uint64(len(m.names)) {
		return fmt.Errorf("index root %s over %d topics, want %s over %d", v.IndexRoot(), v.Topics(), want, len(m.names))
	}
	return nil
}

// Read compares one entry, its proof, and the lists of two topics, one of them
// possibly absent.
func (m *Model) Read(i, topic int) error {
	v := m.l.Published()
	if len(m.log) == 0 {
		return nil
	}
	n := uint64(i % len(m.log))
	e, err := v.Entry(n)
	if err != nil {
		return err
	}
	if fmt.Sprint(e) != fmt.Sprint(m.log[n]) {
		return fmt.Errorf("entry %d is another", n)
	}
	if _, err := v.Inclusion(n); err != nil {
		return err
	}
	for _, t := range []entry.Hash{Topic(fmt.Sprint("t", topic%40)), Topic(fmt.Sprint("none", topic))} {
		refs, p, err := v.List(t)
		if err != nil {
			return err
		}
		if fmt.Sprint(refs) != fmt.Sprint(m.lists[t]) {
			return fmt.Errorf("list of topic %s has %d elements, want %d", t, len(refs), len(m.lists[t]))
		}
		value, present, err := unitindex.Verify(m.log[len(m.log)-1].IndexRoot, t, p)
		if err != nil || present != (len(refs) > 0) || present && value != unitindex.ListValue(refs) {
			return fmt.Errorf("proof of topic %s: present %v, %v", t, present, err)
		}
	}
	return nil
}

// Close closes the ledger.
func (m *Model) Close() error { return m.l.Close() }

// Root is the root of the model's tree.
func (m *Model) Root() entry.Hash { return NaiveRoot(m.hash) }

// Payload makes a payload from small numbers, so that random ones repeat,
// depend on each other and are refused now and then.
func Payload(kind, n int) string {
	switch kind % 8 {
	case 0:
		return fmt.Sprintf("p%d\npublic\ntopic t%d", n, n%40)
	case 1:
		return fmt.Sprintf("p%d\ntopic t%d\ntopic t%d\nadd c%d", n, n%40, n*7%40, n%3)
	case 2:
		return fmt.Sprintf("p%d\ntopic t%d\nset k%d v%d", n, n%4, n%5, n%3)
	case 3:
		return fmt.Sprintf("p%d\nneed k%d v%d\ntopic t%d\nset k%d", n, n%5, n%3, n%40, n%5)
	case 4:
		return fmt.Sprintf("p%d\nneed k%d -\nset k%d v%d\nadd c0", n, n%5, n%5, n%3)
	case 5:
		return fmt.Sprintf("p%d\nset k%d v9\ntopic lost\nrefuse", n, n%5)
	case 6:
		return fmt.Sprintf("p%d\ntopic t0\n%0*d", n, n%3000+1, n)
	default:
		return fmt.Sprintf("p%d", n)
	}
}

// RunModel runs random operations and returns the roots after each: the same
// seed gives the same roots on every engine.
func RunModel(seed uint64, ops int, open func(m *Model) (*ledger.Ledger, error)) (roots []entry.Hash, err error) {
	m, err := NewModel(seed, open)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	rng := rand.New(rand.NewPCG(seed, 2))
	for op := range ops {
		switch k := rng.IntN(100); {
		case k < 70:
			payloads := make([]string, 1+rng.IntN(1+rng.IntN(20)))
			for i := range payloads {
				payloads[i] = Payload(rng.IntN(8), rng.IntN(4*ops))
			}
			err = m.Append(payloads)
		case k < 88:
			err = m.Read(rng.IntN(1<<30), rng.IntN(60))
		case k < 97:
			err = m.Idle(time.Duration(rng.IntN(4000)-400) * time.Second / 2)
		default:
			err = m.Restart()
		}
		if err == nil && m.After != nil {
			err = m.After(m.l)
		}
		if err != nil {
			return roots, fmt.Errorf("seed %d, operation %d: %w", seed, op, err)
		}
		roots = append(roots, m.Root())
	}
	return roots, nil
}
