package unitindex

import (
	"bytes"
	"fmt"
	"slices"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// MemRows is Rows in memory, for tests and for whoever recomputes an index
// without a disk. Reads may be concurrent, writes may not. The zero MemRows is
// empty.
type MemRows struct{ m sortedMap[entry.Hash] }

// Set sets the value of a topic.
func (r *MemRows) Set(topic, value entry.Hash) { *r.m.at(topic) = value }

// Apply sets the values of several topics.
func (r *MemRows) Apply(changes []Change) {
	for _, c := range changes {
		r.Set(c.Topic, c.Value)
	}
}

// Get returns the value of a topic.
func (r *MemRows) Get(topic entry.Hash) (value entry.Hash, ok bool) {
	v := r.m.get(topic)
	if v == nil {
		return value, false
	}
	return *v, true
}

// Len is the number of topics.
func (r *MemRows) Len() uint64 { return uint64(r.m.n) }

// Scan implements Rows.
func (r *MemRows) Scan(prefix entry.Hash, bits int, fn func(topic, value entry.Hash) error) error {
	return r.m.scan(prefix, bits, func(topic entry.Hash, v *entry.Hash) error { return fn(topic, *v) })
}

// MemIndex is a whole index in memory, without the refs: what an audit or an
// index-verifying witness needs to recompute the root of each index commitment
// (194 bytes for a topic with one entry, 326 with a hundred). It is for one goroutine; trees that it
// hands out are not bound to it.
type MemIndex struct {
	rows    sortedMap[memRow]
	tree    *Tree
	pending map[entry.Hash]memList
}

// memRow is a topic's state at the last commit.
type memRow struct {
	value entry.Hash
	memList
}

type memList struct {
	list List
	last uint64 // index of the last ref
}

// NewMemIndex returns an empty index.
func NewMemIndex() *MemIndex {
	return &MemIndex{tree: new(Tree), pending: map[entry.Hash]memList{}}
}

// Append adds an entry to the list of a topic. Indexes within a topic must
// ascend.
func (m *MemIndex) Append(topic entry.Hash, ref Ref) error {
	l, ok := m.pending[topic]
	if !ok {
		if row := m.rows.get(topic); row != nil {
			l = row.memList
		}
	}
	if l.list.Count() > 0 && ref.Index <= l.last {
		return fmt.Errorf("entry %d follows entry %d in the list of topic %s", ref.Index, l.last, topic)
	}
	m.pending[topic] = memList{l.list.Append(ref), ref.Index}
	return nil
}

// Commit returns the root over everything appended so far.
func (m *MemIndex) Commit() (entry.Hash, error) {
	if len(m.pending) == 0 {
		return m.tree.Root(), nil
	}
	changes := make([]Change, 0, len(m.pending))
	for topic, l := range m.pending {
		changes = append(changes, Change{topic, l.list.Value()})
	}
	slices.SortFunc(changes, func(a, b Change) int { return bytes.Compare(a.Topic[:], b.Topic[:]) })
	tree, err := m.tree.Update(m, changes)
	if err != nil {
		return entry.Hash{}, err
	}
	m.tree = tree
	for _, c := range changes {
		*m.rows.at(c.Topic) = memRow{c.Value, m.pending[c.Topic]}
	}
	clear(m.pending)
	return tree.Root(), nil
}

// Tree is the tree at the last Commit.
func (m *MemIndex) Tree() *Tree { return m.tree }

// List returns a topic's list at the last Commit; ok is false if it has none.
func (m *MemIndex) List(topic entry.Hash) (l List, ok bool) {
	row := m.rows.get(topic)
	if row == nil {
		return List{}, false
	}
	return row.list, true
}

// Prove makes the proof for a topic at the last Commit.
func (m *MemIndex) Prove(topic entry.Hash) (Proof, error) { return m.tree.Prove(m, topic) }

// Scan implements Rows, as of the last Commit.
func (m *MemIndex) Scan(prefix entry.Hash, bits int, fn func(topic, value entry.Hash) error) error {
	return m.rows.scan(prefix, bits, func(topic entry.Hash, r *memRow) error { return fn(topic, r.value) })
}

// sortedMap is a map in the order of its keys: sorted runs of bounded length,
// themselves in order.
type sortedMap[V any] struct {
	runs [][]pair[V] // none is empty
	n    int
}

type pair[V any] struct {
	key entry.Hash
	val V
}

const maxRun = 256

// find returns the run that key belongs to and its place there.
func (m *sortedMap[V]) find(key *entry.Hash) (run, at int, found bool) {
	run, found = slices.BinarySearchFunc(m.runs, key, func(r []pair[V], k *entry.Hash) int {
		return bytes.Compare(r[0].key[:], k[:])
	})
	if found {
		return run, 0, true
	}
	if run == 0 {
		return 0, 0, false
	}
	run--
	at, found = slices.BinarySearchFunc(m.runs[run], key, func(p pair[V], k *entry.Hash) int {
		return bytes.Compare(p.key[:], k[:])
	})
	return run, at, found
}

func (m *sortedMap[V]) get(key entry.Hash) *V {
	run, at, found := m.find(&key)
	if !found {
		return nil
	}
	return &m.runs[run][at].val
}

// at returns the place of key's value, made if need be. The next call of at
// ends its validity.
func (m *sortedMap[V]) at(key entry.Hash) *V {
	run, at, found := m.find(&key)
	if found {
		return &m.runs[run][at].val
	}
	m.n++
	if len(m.runs) == 0 {
		m.runs = append(m.runs, nil)
	}
	r := slices.Insert(m.runs[run], at, pair[V]{key: key})
	m.runs[run] = r
	if len(r) > maxRun {
		half := len(r) / 2
		m.runs = slices.Insert(m.runs, run+1, slices.Clone(r[half:]))
		clear(r[half:]) // the left half keeps the array to grow into, and nothing else
		m.runs[run] = r[:half]
		if at >= half {
			run, at = run+1, at-half
		}
	}
	return &m.runs[run][at].val
}

// scan calls fn for the keys that share the first bits bits of prefix.
func (m *sortedMap[V]) scan(prefix entry.Hash, bits int, fn func(entry.Hash, *V) error) error {
	run, at, _ := m.find(&prefix)
	for ; run < len(m.runs); run, at = run+1, 0 {
		for i := at; i < len(m.runs[run]); i++ {
			p := &m.runs[run][i]
			if commonBits(&p.key, &prefix) < bits {
				return nil
			}
			if err := fn(p.key, &p.val); err != nil {
				return err
			}
		}
	}
	return nil
}
