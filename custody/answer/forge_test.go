package answer_test

import (
	"errors"
	"slices"
	"testing"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer"
	"fabtrail.dev/fabtrail/custody/answer/answertest"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
)

// Answers whose parts all agree with each other, and are not what the checkpoint says:
// each rests on one check of Open alone.

// forged is an index of an operator's own: the values of topics, with their proofs.
type forged struct {
	t    *testing.T
	rows unitindex.MemRows
	tree *unitindex.Tree
}

// forge makes an index of the lists of an answer, with other lists for some.
func forge(t *testing.T, w *answertest.World, a *answer.Answer, other map[entry.Topic][]unitindex.Ref) *forged {
	t.Helper()
	f := &forged{t: t}
	for _, x := range a.Topics {
		topic := entry.Topic{Kind: x.Kind, Value: x.Value}
		refs := w.Refs[topic.Hash()]
		if o, ok := other[topic]; ok {
			refs = o
		}
		if len(refs) > 0 {
			f.rows.Set(topic.Hash(), unitindex.ListValue(refs))
		}
	}
	var err error
	if f.tree, err = unitindex.Build(&f.rows); err != nil {
		t.Fatal(err)
	}
	return f
}

// proveIn gives every topic of an answer its proof in the forged index, and the
// commitment its root.
func (f *forged) proveIn(a *answer.Answer) entry.Entry {
	f.t.Helper()
	for i := range a.Topics {
		x := &a.Topics[i]
		p, err := f.tree.Prove(&f.rows, entry.Topic{Kind: x.Kind, Value: x.Value}.Hash())
		if err != nil {
			f.t.Fatal(err)
		}
		x.Proof = p.Marshal()
	}
	c, err := entry.ParseCargo(a.Commitment.Cargo)
	if err != nil {
		f.t.Fatal(err)
	}
	c.IndexRoot = f.tree.Root()
	a.Commitment.Cargo = c.Cargo()
	return c
}

// under gives an answer the inclusion proofs of another tree, and returns the claim
// about it.
func under(a *answer.Answer, tree answertest.Tree) checkpoint.Checkpoint {
	last := len(tree) - 1
	a.Commitment.Hashes = tree.Inclusion(last)
	for i := range a.Entries {
		a.Entries[i].Hashes = tree.Inclusion(int(a.Entries[i].Index))
	}
	return checkpoint.Checkpoint{Origin: answertest.Origin, Size: uint64(len(tree)), Root: tree.Root()}
}

func isFalse(t *testing.T, what string, err error, index *uint64, topic entry.Topic) {
	t.Helper()
	var f *answer.Fault
	if !errors.As(err, &f) || f.Code != answer.False || f.Topic != topic || index != nil && (f.Index == nil || *f.Index != *index) {
		t.Errorf("%s: %v", what, err)
	}
}

// TestForgedIndex: the recall of a lot is left out of its list, in an index and a
// commitment made for this answer. In a tree that has this commitment it would hold;
// it does not under the checkpoint, which is all that stands against it.
func TestForgedIndex(t *testing.T) {
	w := tale(t)
	a, _, err := opened(t, w, w.Unit("A2"), answer.Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	lot := entry.Topic{Kind: entry.TopicLot, Value: w.Lot("L2")}
	refs := w.Refs[lot.Hash()]
	recall := refs[len(refs)-1].Index
	index := forge(t, w, a, map[entry.Topic][]unitindex.Ref{lot: refs[:len(refs)-1]})
	for i := range a.Topics {
		x := &a.Topics[i]
		if x.Kind == lot.Kind && x.Value == lot.Value {
			x.Indexes = x.Indexes[:len(x.Indexes)-1]
		}
	}
	a.Entries = slices.DeleteFunc(a.Entries, func(e answer.Entry) bool { return e.Index == recall })
	false1 := index.proveIn(a)
	last := w.Published - 1
	_, err = answer.Open(a, w.Checkpoint(), nil)
	isFalse(t, "a forged commitment", err, &last, entry.Topic{})

	tree := slices.Clone(w.Tree)
	tree[last] = false1.LeafHash()
	src, err := answer.Open(a, under(a, tree), nil)
	if err != nil {
		t.Fatalf("it is to be refused for its commitment alone: %v", err)
	}
	if items, err := src.List(lot); err != nil || slices.ContainsFunc(items, func(it custody.Item) bool { return it.Index == recall }) {
		t.Errorf("the recall is there: %v", err)
	}
}

// TestForgedEntry: an entry that no list names is that of the log, or nothing is believed.
func TestForgedEntry(t *testing.T) {
	w := tale(t)
	with := func(index, cargo uint64) error {
		a, _, err := opened(t, w, w.Unit("A1"), answer.Options{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(a.Entries, func(e answer.Entry) bool { return e.Index == index }) {
			t.Fatal("the entry is in the answer")
		}
		a.Entries = append(a.Entries, answer.Entry{Index: index, Cargo: w.Entries[cargo].Cargo(), Hashes: w.Tree[:w.Published].Inclusion(int(index))})
		slices.SortFunc(a.Entries, func(x, y answer.Entry) int { return int(x.Index) - int(y.Index) })
		_, err = answer.Open(a, w.Checkpoint(), nil)
		return err
	}
	refs := w.Refs[entry.Topic{Kind: entry.TopicLot, Value: w.Lot("L2")}.Hash()] // of another unit
	block, recall := refs[0].Index, refs[len(refs)-1].Index
	if err := with(recall, recall); err != nil {
		t.Fatal(err)
	}
	err := with(recall, block)
	isFalse(t, "another entry's cargo", err, &recall, entry.Topic{})
}

// TestListsOfTheFuture: an operator who knows what a list will be commits to it before
// its entries are logged, or to one that runs backwards. A client that keeps the
// list, or its beginning, does not take it from him.
func TestListsOfTheFuture(t *testing.T) {
	w := tale(t)
	lot := entry.Topic{Kind: entry.TopicLot, Value: w.Lot("L2")}
	refs := w.Refs[lot.Hash()]
	parts := answer.NewParts(100)
	if _, _, err := opened(t, w, w.Unit("A2"), answer.Options{}, parts); err != nil {
		t.Fatal(err)
	}
	// claim is an answer about the lot alone, at a size at which the index has refs.
	claim := func(size uint64, has []unitindex.Ref, topic answer.Topic, entries ...uint64) error {
		topic.Kind, topic.Value = lot.Kind, lot.Value
		a := &answer.Answer{Form: answer.Full, Topics: []answer.Topic{topic},
			Commitment: &answer.Commitment{Cargo: entry.Entry{Class: entry.Index, Time: w.Time, Covers: size - 1}.Cargo()}}
		for _, n := range entries {
			a.Entries = append(a.Entries, answer.Entry{Index: n, Cargo: w.Entries[n].Cargo()})
		}
		c := forge(t, w, a, map[entry.Topic][]unitindex.Ref{lot: has}).proveIn(a)
		cp := under(a, append(slices.Clone(w.Tree[:size-1]), c.LeafHash()))
		_, err := answer.Open(a, cp, parts)
		return err
	}
	last := refs[len(refs)-1].Index
	if err := claim(last+2, refs, answer.Topic{Known: true}); err != nil {
		t.Fatal(err)
	}
	isFalse(t, "a list of the future", claim(last+1, refs, answer.Topic{Known: true}), nil, lot)

	// It goes on with an entry from before its end, which the operator has in its place.
	grow := func(n uint64) error {
		more := append(slices.Clone(refs), unitindex.Ref{Index: n, Leaf: w.Entries[n].LeafHash()})
		count := uint64(len(refs))
		p, err := unitindex.ProveRange(count, count+1, count+1, unitindex.NodesOf(more))
		if err != nil {
			t.Fatal(err)
		}
		return claim(w.Published, more, answer.Topic{From: count, Growth: p.Marshal(), Indexes: []uint64{n}}, n)
	}
	// The charter is signed by keys that it brings: nothing else is against it.
	isFalse(t, "a list that runs backwards", grow(0), nil, lot)
}
