package ledger

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
	"github.com/cockroachdb/pebble/v2"
)

// growth is one index commitment in the making: the elements that it adds, by topic,
// and the rows that come of them. Its memory is that of the commitment before.
type growth struct {
	add    []topicRef   // by topic, then index
	topics []entry.Hash // of add, each once
	from   []int        // where in add the elements of each topic begin, and the end
	rows   []grownRow   // of each topic
	order  []sortRef
	old    *rows
	mu     sync.Mutex
	used   []*grower
	spare  []*grower
}

// grownRow is where the new row of a topic is, and the chunks that its list has filled.
type grownRow struct {
	g        *grower
	from, to int // in g.out
	chunks   []grownChunk
}

type grownChunk struct {
	n    uint64
	data []byte
}

// sortRef is an element by the first bytes of its topic, which tell nearly all apart.
type sortRef struct {
	key uint64
	at  int32
}

// growMax is the number of elements up to which memory is kept for the next commitment.
const growMax = 1 << 16

// begin takes the elements of the next commitment.
func (w *growth) begin(pending []topicRef, old *rows) {
	w.old, w.order = old, w.order[:0]
	for i := range pending {
		w.order = append(w.order, sortRef{binary.BigEndian.Uint64(pending[i].topic[:]), int32(i)})
	}
	// An entry stands once in a list, so topic and index make one order.
	slices.SortFunc(w.order, func(a, b sortRef) int {
		if a.key != b.key {
			return cmp.Compare(a.key, b.key)
		}
		x, y := &pending[a.at], &pending[b.at]
		if o := bytes.Compare(x.topic[:], y.topic[:]); o != 0 {
			return o
		}
		return cmp.Compare(x.ref.Index, y.ref.Index)
	})
	w.add, w.topics, w.from = w.add[:0], w.topics[:0], w.from[:0]
	for i, o := range w.order {
		w.add = append(w.add, pending[o.at])
		if i == 0 || w.add[i].topic != w.add[i-1].topic {
			w.topics, w.from = append(w.topics, w.add[i].topic), append(w.from, i)
		}
	}
	w.from = append(w.from, len(w.add))
	w.rows = slices.Grow(w.rows[:0], len(w.topics))[:len(w.topics)]
	for i := range w.rows {
		w.rows[i].g = nil
	}
}

// open gives a goroutine of Tree.Grow what it reads and grows rows with.
func (w *growth) open() (unitindex.Grower, error) {
	it, err := w.old.take()
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	g := &grower{w: w, key: []byte{keyRow}}
	if n := len(w.spare); n > 0 {
		g, w.spare = w.spare[n-1], w.spare[:n-1]
	}
	g.it, g.out = it, g.out[:0]
	w.used = append(w.used, g)
	return g, nil
}

// end gives iterators and memory back.
func (w *growth) end() error {
	for _, g := range w.used {
		w.old.give(g.it)
		g.it = nil
	}
	err := w.old.close()
	w.spare = append(w.spare, w.used...)
	w.used, w.old = w.used[:0], nil
	if cap(w.add) > growMax {
		*w = growth{}
	}
	return err
}

// errUngrown is a bug: the tree has not come to the bucket of a topic.
var errUngrown = errors.New("a topic of an index commitment has no new row")

// stage writes the new rows, by topic, whichever goroutine made them.
func (w *growth) stage(b *pebble.Batch) error {
	for i := range w.rows {
		r, topic := &w.rows[i], &w.topics[i]
		if r.g == nil {
			return fmt.Errorf("%w: %s", errUngrown, topic)
		}
		for _, c := range r.chunks {
			if err := b.Set(chunkKey(*topic, c.n), c.data, nil); err != nil {
				return err
			}
		}
		row := b.SetDeferred(1+len(topic), r.to-r.from)
		row.Key[0] = keyRow
		copy(row.Key[1:], topic[:])
		copy(row.Value, r.g.out[r.from:r.to])
		if err := row.Finish(); err != nil {
			return err
		}
	}
	return nil
}

// grower is the share of one goroutine. What it keeps is used again and again.
type grower struct {
	w    *growth
	it   *pebble.Iterator
	key  []byte
	list unitindex.List
	tail []byte
	out  []byte // rows
}

// Grow implements unitindex.Grower.
func (g *grower) Grow(b *unitindex.Bucket) error {
	i := b.From
	if !b.New {
		var err error
		if i, err = g.read(b); err != nil {
			return err
		}
	}
	for ; i < b.To; i++ {
		if err := g.grow(b, i, nil); err != nil {
			return err
		}
	}
	return nil
}

// read shows the rows of a bucket and grows those of its topics that have one, and
// those between. It returns the first topic that is not yet grown.
func (g *grower) read(b *unitindex.Bucket) (i int, err error) {
	i = b.From
	g.key = append(g.key[:1], b.Prefix[:]...)
	for ok := g.it.SeekGE(g.key); ok; ok = g.it.Next() {
		row, err := rowAt(g.it, &b.Prefix, b.Bits)
		if err != nil {
			return i, err
		}
		if row.topic == nil {
			break
		}
		if covers := g.w.old.covers; row.last >= covers {
			return i, fmt.Errorf("%w: topic %s has entry %d, the index covers %d", ErrDamaged, row.topic, row.last, covers)
		}
		if err := b.Row(row.topic, &row.value); err != nil {
			return i, err
		}
		for ; i < b.To; i++ {
			o := bytes.Compare(g.w.topics[i][:], row.topic[:])
			if o > 0 {
				break
			}
			old := row.bytes
			if o < 0 {
				old = nil
			}
			if err := g.grow(b, i, old); err != nil {
				return i, err
			}
		}
	}
	return i, readError(g.it)
}

// grow makes the row of topic i with its new elements; row is the one so far, nil if
// the topic is new.
func (g *grower) grow(b *unitindex.Bucket, i int, row []byte) error {
	topic, out := &g.w.topics[i], &g.w.rows[i]
	*out = grownRow{g: g, from: len(g.out), chunks: out.chunks[:0]}
	g.list.Reset()
	g.tail = g.tail[:0]
	var t tail
	if row != nil {
		rest, err := g.list.Read(row)
		if err == nil {
			t, err = cutTail(rest, g.list.Count())
		}
		if err != nil {
			return fmt.Errorf("%w: topic %s: %w", ErrDamaged, topic, err)
		}
		g.tail = append(g.tail, rest...)
	}
	for _, a := range g.w.add[g.w.from[i]:g.w.from[i+1]] {
		if t.n == chunkLen {
			out.chunks = append(out.chunks, grownChunk{g.list.Count()/chunkLen - 1, bytes.Clone(g.tail)})
			t, g.tail = tail{}, g.tail[:0]
		}
		if t.n > 0 && a.ref.Index <= t.last {
			return fmt.Errorf("%w: topic %s has entry %d already, entry %d follows", ErrDamaged, topic, t.last, a.ref.Index)
		}
		g.tail = binary.AppendUvarint(g.tail, a.ref.Index-t.last)
		t.n, t.last = t.n+1, a.ref.Index
		g.list.Push(a.ref)
	}
	g.out = append(g.list.AppendTo(g.out), g.tail...)
	out.to = len(g.out)
	value := g.list.Value()
	b.Set(i, &value)
	return nil
}

// tail is what is to be known of the indexes in a row to go on with them.
type tail struct {
	n    int
	last uint64
}

var errTail = errors.New("indexes of a list")

// cutTail reads the indexes in the row of a list with count elements.
func cutTail(b []byte, count uint64) (t tail, err error) {
	for len(b) > 0 {
		d, n := binary.Uvarint(b)
		if n <= 0 || d == 0 && t.n > 0 || t.last+d < t.last || t.n == chunkLen {
			return t, errTail
		}
		t.n, t.last = t.n+1, t.last+d
		b = b[n:]
	}
	if t.n == 0 || (count-uint64(t.n))%chunkLen != 0 {
		return t, fmt.Errorf("list of %d elements has a tail of %d", count, t.n)
	}
	return t, nil
}
