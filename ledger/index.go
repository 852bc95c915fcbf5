package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"

	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
	"github.com/cockroachdb/pebble/v2"
)

// chunkLen is the number of entry indexes in one chunk of a long list, so that
// growing a list costs the same however long it is.
const chunkLen = 128

// indexRow is the stored row of a topic. Its list has the elements of all
// chunks; tail has the indexes of the newest chunk (1 to chunkLen of them).
type indexRow struct {
	list unitindex.List
	tail []uint64
}

// parseIndexes reads ascending indexes: the first, then differences.
func parseIndexes(b []byte) ([]uint64, error) {
	out := make([]uint64, 0, 4)
	var prev uint64
	for len(b) > 0 {
		d, n := binary.Uvarint(b)
		if n <= 0 || d == 0 && len(out) > 0 || prev+d < prev || len(out) == chunkLen {
			return nil, fmt.Errorf("%w: indexes of a list", ErrDamaged)
		}
		prev += d
		out = append(out, prev)
		b = b[n:]
	}
	return out, nil
}

func parseRow(b []byte) (indexRow, error) {
	list, rest, err := unitindex.ReadList(b)
	if err != nil {
		return indexRow{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	tail, err := parseIndexes(rest)
	if err == nil && (len(tail) == 0 || (list.Count()-uint64(len(tail)))%chunkLen != 0) {
		err = fmt.Errorf("%w: list of %d elements has a tail of %d", ErrDamaged, list.Count(), len(tail))
	}
	return indexRow{list, tail}, err
}

// rowValue reads the value of a row and its newest index, without memory.
func rowValue(b []byte) (value entry.Hash, last uint64, err error) {
	value, rest, err := unitindex.ReadValue(b)
	if err != nil {
		return value, 0, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	for len(rest) > 0 {
		d, n := binary.Uvarint(rest)
		if n <= 0 {
			return value, 0, fmt.Errorf("%w: indexes of a list", ErrDamaged)
		}
		last += d
		rest = rest[n:]
	}
	return value, last, nil
}

func chunkKey(topic entry.Hash, chunk uint64) []byte {
	return binary.BigEndian.AppendUint32(keyHash(keyChunk, topic), uint32(chunk))
}

// indexes returns the entry indexes of a row below covers.
func (s *store) indexes(topic entry.Hash, r indexRow, covers uint64) ([]uint64, error) {
	full := (r.list.Count() - uint64(len(r.tail))) / chunkLen
	out := make([]uint64, 0, r.list.Count())
	for c := range full {
		b, err := s.must(chunkKey(topic, c), "chunk %d of topic %s", c, topic)
		if err != nil {
			return nil, err
		}
		part, err := parseIndexes(b)
		if err != nil {
			return nil, fmt.Errorf("chunk %d of topic %s: %w", c, topic, err)
		}
		out = append(out, part...)
	}
	out = append(out, r.tail...)
	n, _ := slices.BinarySearch(out, covers)
	return out[:n], nil
}

// rows shows the index as it was when it covered [0, covers): newer elements of
// a list are cut off, and topics that had none are skipped. Iterators are
// pooled, as Tree.Update scans from several goroutines and many times.
type rows struct {
	s      *store
	t      *tree
	covers uint64
	// newer, if not nil, is called with every topic that has elements at or
	// above covers.
	newer func(topic entry.Hash)
	mu    sync.Mutex
	free  []*pebble.Iterator
}

func (r *rows) take() (*pebble.Iterator, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.free); n > 0 {
		it := r.free[n-1]
		r.free = r.free[:n-1]
		return it, nil
	}
	return r.s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{keyRow}, UpperBound: []byte{keyRow + 1}})
}

// close releases the iterators; the first error of any counts.
func (r *rows) close() error {
	var err error
	for _, it := range r.free {
		err = errors.Join(err, it.Close())
	}
	r.free = nil
	return err
}

func (r *rows) give(it *pebble.Iterator) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.free = append(r.free, it)
}

// Scan implements unitindex.Rows.
func (r *rows) Scan(prefix entry.Hash, bits int, fn func(topic, value entry.Hash) error) error {
	it, err := r.take()
	if err != nil {
		return err
	}
	defer r.give(it)
	return r.scan(it, prefix, bits, func(topic, value entry.Hash, _ []byte) error { return fn(topic, value) })
}

// scan is Scan on one iterator; fn is also given the row's bytes, which are not
// to be kept.
func (r *rows) scan(it *pebble.Iterator, prefix entry.Hash, bits int, fn func(topic, value entry.Hash, row []byte) error) error {
	for ok := it.SeekGE(keyHash(keyRow, prefix)); ok; ok = it.Next() {
		row, err := rowAt(it, &prefix, bits)
		if err != nil {
			return err
		}
		if row.topic == nil {
			break
		}
		if row.last >= r.covers {
			topic := *row.topic
			if r.newer != nil {
				r.newer(topic)
			}
			var had bool
			if row.value, had, err = r.cut(topic, row.bytes); err != nil {
				return err
			} else if !had {
				continue
			}
		}
		if err := fn(*row.topic, row.value, row.bytes); err != nil {
			return err
		}
	}
	return readError(it)
}

// seenRow is an index row at which an iterator is: valid until that moves on.
type seenRow struct {
	topic *entry.Hash // nil if the row has another prefix
	value entry.Hash
	last  uint64 // newest index
	bytes []byte
}

func rowAt(it *pebble.Iterator, prefix *entry.Hash, bits int) (r seenRow, err error) {
	k := it.Key()
	if len(k) != 33 {
		return r, fmt.Errorf("%w: index row with a key of %d bytes", ErrDamaged, len(k))
	}
	topic := (*entry.Hash)(k[1:])
	if !samePrefix(topic, prefix, bits) {
		return r, nil
	}
	if r.bytes, err = it.ValueAndErr(); err != nil {
		return r, fmt.Errorf("%w: index row: %w", ErrDamaged, err)
	}
	if r.value, r.last, err = rowValue(r.bytes); err != nil {
		return r, fmt.Errorf("topic %s: %w", topic, err)
	}
	r.topic = topic
	return r, nil
}

// cut returns the value that a row had when the index covered [0, covers).
func (r *rows) cut(topic entry.Hash, v []byte) (value entry.Hash, had bool, err error) {
	row, err := parseRow(v)
	if err != nil {
		return value, false, err
	}
	refs, err := r.refs(topic, row)
	if err != nil || len(refs) == 0 {
		return value, false, err
	}
	return unitindex.ListValue(refs), true, nil
}

func (r *rows) refs(topic entry.Hash, row indexRow) ([]unitindex.Ref, error) {
	idx, err := r.s.indexes(topic, row, r.covers)
	if err != nil {
		return nil, err
	}
	refs := make([]unitindex.Ref, len(idx))
	for i, n := range idx {
		leaf, err := r.t.node(0, n)
		if err != nil {
			return nil, err
		}
		refs[i] = unitindex.Ref{Index: n, Leaf: leaf}
	}
	return refs, nil
}

// ownRow is rows that keep what a scan passes of one topic: a proof reads the
// topic's bucket, and its list with it.
type ownRow struct {
	*rows
	topic entry.Hash
	row   []byte // nil if the topic has no elements
}

// Scan implements unitindex.Rows.
func (r *ownRow) Scan(prefix entry.Hash, bits int, fn func(topic, value entry.Hash) error) error {
	it, err := r.take()
	if err != nil {
		return err
	}
	defer r.give(it)
	return r.scan(it, prefix, bits, func(topic, value entry.Hash, row []byte) error {
		if topic == r.topic {
			r.row = bytes.Clone(row)
		}
		return fn(topic, value)
	})
}

func samePrefix(a, b *entry.Hash, bits int) bool {
	n := bits / 8
	if !bytes.Equal(a[:n], b[:n]) {
		return false
	}
	rest := bits % 8
	return rest == 0 || (a[n]^b[n])>>(8-rest) == 0
}

// topicRef is one element that waits for the next index commitment.
type topicRef struct {
	topic entry.Hash
	ref   unitindex.Ref
}

// indexer keeps the newest version of the index. The builder owns it.
type indexer struct {
	s       *store
	t       *tree
	covers  uint64
	tip     *unitindex.Tree
	pending []topicRef // of entries [covers, size), in log order
	uncov   [][]byte   // keyUncov rows to delete with the next commitment
	growth  growth     // the commitment in the making
}

// advance computes the index over [0, covers) and stages its rows. The entries'
// leaf hashes come with the pending elements.
func (x *indexer) advance(b *pebble.Batch, covers uint64) (entry.Hash, error) {
	g := &x.growth
	g.begin(x.pending, &rows{s: x.s, t: x.t, covers: x.covers})
	next, err := x.tip.Grow(g.topics, g.open)
	if err == nil {
		err = g.stage(b)
	}
	if err = errors.Join(err, g.end()); err != nil {
		return entry.Hash{}, err
	}
	for _, k := range x.uncov {
		if err := b.Delete(k, nil); err != nil {
			return entry.Hash{}, err
		}
	}
	x.tip, x.covers = next, covers
	x.pending, x.uncov = x.pending[:0], x.uncov[:0]
	return next.Root(), nil
}

// encodeTopics writes the keyUncov row of entries from first on: per entry that
// has topics, its distance from first, their number, and the topics; then CRC-32C
// over key and row. Nothing else would tell a flipped bit in a topic before the
// commitment that it makes false.
func encodeTopics(first uint64, add []topicRef) []byte {
	var b []byte
	for i := 0; i < len(add); {
		j := i + 1
		for j < len(add) && add[j].ref.Index == add[i].ref.Index {
			j++
		}
		b = binary.AppendUvarint(b, add[i].ref.Index-first)
		b = binary.AppendUvarint(b, uint64(j-i))
		for ; i < j; i++ {
			b = append(b, add[i].topic[:]...)
		}
	}
	return binary.BigEndian.AppendUint32(b, topicsSum(first, b))
}

func topicsSum(first uint64, b []byte) uint32 {
	return crc32.Update(crc32.Checksum(binary.BigEndian.AppendUint64(nil, first), castagnoli), castagnoli, b)
}

// parseTopics reads what encodeTopics wrote; leaf hashes are to be filled in.
func parseTopics(first uint64, b []byte) ([]topicRef, error) {
	n := len(b) - 4
	if n < 0 || binary.BigEndian.Uint32(b[n:]) != topicsSum(first, b[:n]) {
		return nil, fmt.Errorf("%w: topics row", ErrDamaged)
	}
	b = b[:n]
	var out []topicRef
	for len(b) > 0 {
		d, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, fmt.Errorf("%w: topics row", ErrDamaged)
		}
		k, m := binary.Uvarint(b[n:])
		if m <= 0 || k > uint64(len(b)-n-m)/32 {
			return nil, fmt.Errorf("%w: topics row", ErrDamaged)
		}
		b = b[n+m:]
		for ; k > 0; k-- {
			out = append(out, topicRef{topic: entry.Hash(b[:32]), ref: unitindex.Ref{Index: first + d}})
			b = b[32:]
		}
	}
	return out, nil
}

// loadPending reads the topics of entries that no commitment covers yet. They are as
// many as the head row says: a row that is lost would make the next commitment false,
// and nothing else would tell.
func (x *indexer) loadPending() error {
	head, err := x.s.head()
	if err != nil {
		return err
	}
	it, err := x.s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{keyUncov}, UpperBound: []byte{keyUncov + 1}})
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		k := it.Key()
		v, err := it.ValueAndErr()
		if err != nil || len(k) != 9 {
			return fmt.Errorf("%w: topics row: %v", ErrDamaged, err)
		}
		refs, err := parseTopics(binary.BigEndian.Uint64(k[1:]), v)
		if err != nil {
			return err
		}
		for i := range refs {
			if refs[i].ref.Leaf, err = x.t.node(0, refs[i].ref.Index); err != nil {
				return err
			}
		}
		x.pending = append(x.pending, refs...)
		x.uncov = append(x.uncov, append([]byte(nil), k...))
	}
	if err := readError(it); err != nil {
		return err
	}
	if n := uint64(len(x.pending)); head.Counted && n != head.Waiting {
		return fmt.Errorf("%w: the entries from %d to %d have %d topics in the database, want %d", ErrDamaged, head.Covers, head.Size, n, head.Waiting)
	}
	return nil
}
