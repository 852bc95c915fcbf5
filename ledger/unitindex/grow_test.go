package unitindex

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"fabtrail.dev/fabtrail/ledger/entry"
	"pgregory.net/rapid"
)

// tableGrower has rows and new values in memory.
type tableGrower struct {
	rows   *MemRows
	values []entry.Hash // by topic of the update
	err    error
}

func (g tableGrower) Grow(b *Bucket) error {
	if g.err != nil {
		return g.err
	}
	if !b.New {
		if err := g.rows.Scan(b.Prefix, b.Bits, func(topic, value entry.Hash) error { return b.Row(&topic, &value) }); err != nil {
			return err
		}
	}
	for i := b.From; i < b.To; i++ {
		b.Set(i, &g.values[i])
	}
	return nil
}

// TestGrowIsUpdate: values that are made bucket by bucket give the tree that they give
// when they are known beforehand.
func TestGrowIsUpdate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows, tree := new(MemRows), new(Tree)
		for range rapid.IntRange(1, 4).Draw(t, "rounds") {
			changes := map[entry.Hash]entry.Hash{}
			for range rapid.IntRange(0, 300).Draw(t, "changes") {
				changes[testTopic(rapid.Uint64Range(0, 600).Draw(t, "topic"))] = testValue(rapid.Uint64().Draw(t, "value"))
			}
			var topics, values []entry.Hash
			var list []Change
			for topic := range changes {
				topics = append(topics, topic)
			}
			slices.SortFunc(topics, func(a, b entry.Hash) int { return bytes.Compare(a[:], b[:]) })
			for _, topic := range topics {
				values, list = append(values, changes[topic]), append(list, Change{topic, changes[topic]})
			}
			want, err := tree.Update(rows, list)
			if err != nil {
				t.Fatal(err)
			}
			got, err := tree.Grow(topics, func() (Grower, error) { return tableGrower{rows: rows, values: values}, nil })
			if err != nil || got.Root() != want.Root() || got.Len() != want.Len() {
				t.Fatalf("root %s of %d, want %s of %d: %v", got.Root(), got.Len(), want.Root(), want.Len(), err)
			}
			rows.Apply(list)
			tree = got
		}
	})
}

func TestGrowRefuses(t *testing.T) {
	rows := new(MemRows)
	var topics, values []entry.Hash
	for i := range uint64(100) {
		topics, values = append(topics, testTopic(i)), append(values, testValue(i))
	}
	slices.SortFunc(topics, func(a, b entry.Hash) int { return bytes.Compare(a[:], b[:]) })
	g := tableGrower{rows: rows, values: values}
	open := func() (Grower, error) { return g, nil }
	tree, err := new(Tree).Grow(topics, open)
	if err != nil || tree.Len() != 100 {
		t.Fatal(tree, err)
	}
	broken := errors.New("broken")
	if _, err := tree.Grow(topics, func() (Grower, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("a Grower that cannot be had: %v", err)
	}
	for name, bad := range map[string][]entry.Hash{"twice": {topics[3], topics[3]}, "out of order": {topics[4], topics[3]}} {
		if _, err := tree.Grow(bad, open); err == nil {
			t.Errorf("topics %s are taken", name)
		}
	}
	if _, err := tree.Grow(topics, open); !errors.Is(err, ErrRows) { // there are no rows
		t.Errorf("lost rows: %v", err)
	}
	g.err = broken
	if _, err := tree.Grow(topics, open); !errors.Is(err, broken) {
		t.Errorf("a Grower's error: %v", err)
	}
}

// TestListInPlace: a list that is read and pushed to in place is the one that Append
// makes, whatever it was before.
func TestListInPlace(t *testing.T) {
	refs := testRefs(70)
	var l List
	for n := len(refs) - 1; n >= 0; n-- {
		rest, err := l.Read(append(List{}.Append(refs[:n]...).Marshal(), 7))
		if err != nil || len(rest) != 1 {
			t.Fatal(rest, err)
		}
		l.Push(refs[n])
		if l.Value() != oracleListValue(refs[:n+1]) {
			t.Fatalf("%d elements and one more: %s", n, l.Value())
		}
	}
	l.Reset()
	l.Push(refs[0])
	if l.Value() != oracleListValue(refs[:1]) || l.Count() != 1 {
		t.Error("a list that was reset is not empty")
	}
	if _, err := l.Read([]byte{3, 1}); !errors.Is(err, entry.ErrMalformed) {
		t.Error(err)
	}
}
