package client

import (
	"encoding/binary"
	"sync/atomic"
	"testing"

	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
)

// countedRows counts the rows that are read, by however many goroutines.
type countedRows struct {
	unitindex.Rows
	n atomic.Int64
}

func (r *countedRows) Scan(prefix entry.Hash, bits int, fn func(topic, value entry.Hash) error) error {
	return r.Rows.Scan(prefix, bits, func(topic, value entry.Hash) error {
		r.n.Add(1)
		return fn(topic, value)
	})
}

// A guess costs the paths of the topics that it changes, however many others there are, and
// gives the root that an index made so would have.
func TestGuessesAreCheap(t *testing.T) {
	const topics, recently = 20_000, 20
	topic := func(i int) entry.Topic {
		return entry.Topic{Kind: entry.TopicUnit, Value: string(binary.BigEndian.AppendUint32(nil, uint32(i)))}
	}
	index := unitindex.NewMemIndex()
	ref := func(i int) unitindex.Ref {
		return unitindex.Ref{Index: uint64(i), Leaf: entry.Hash{byte(i), byte(i >> 8)}}
	}
	add := func(i, topicOf int) {
		if err := index.Append(topic(topicOf).Hash(), ref(i)); err != nil {
			t.Fatal(err)
		}
	}
	commit := func() {
		if _, err := index.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range topics {
		add(i, i)
	}
	commit()
	s := newRecent(topics)
	for i := topics; i < topics+recently; i++ {
		e := listedEntry{index: uint64(i), leaf: ref(i).Leaf, kind: "hold", topics: []entry.Topic{topic(i), topic(i * 7 % topics)}}
		for _, at := range e.topics { // one that is new, and one that was there
			before, _ := index.List(at.Hash())
			s.add(at, ref(i), before)
		}
		add(i, i)
		add(i, i*7%topics)
		s.entries = append(s.entries, e)
	}
	commit()
	tried := 0
	for _, sort := range s.guesses() {
		for g := range sort {
			rows := &countedRows{Rows: index}
			root, err := rootWith(index.Tree(), rows, g.lists)
			if err != nil {
				t.Fatal(err)
			}
			if n := rows.n.Load(); n > int64(16*len(g.lists)) {
				t.Fatalf("an index %s: %d rows are read for %d topics", g.says, n, len(g.lists))
			}
			if tried++; tried%2000 == 1 {
				built, err := unitindex.Build(instead{index, hashed(g.lists)})
				if err != nil || built.Root() != root {
					t.Fatalf("an index %s has root %s, %v; taken is %s", g.says, built.Root(), err, root)
				}
			}
		}
	}
	if tried < 5_000 {
		t.Errorf("%d guesses", tried)
	}
}

func hashed(lists map[entry.Topic]unitindex.List) map[entry.Hash]unitindex.List {
	out := map[entry.Hash]unitindex.List{}
	for t, l := range lists {
		out[t.Hash()] = l
	}
	return out
}
