package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
	"golang.org/x/sync/errgroup"
)

// bucketRows holds the rows of the buckets that an index commitment changes. Each
// bucket is read from the database once: lists are grown from these rows, and
// Tree.Update, which checks them against the tree, is served from them.
type bucketRows struct {
	tip   *unitindex.Tree
	old   *rows
	parts []*bucketPart // ascending, each of a range of topics
	part  int           // where next goes on: row at of this part
	at    int
	spare []*bucketPart // of commitments before, for their memory
}

// begin makes r ready for the next commitment.
func (r *bucketRows) begin(tip *unitindex.Tree, old *rows) {
	r.spare = append(r.spare, r.parts...)
	r.tip, r.old, r.parts, r.part, r.at = tip, old, r.parts[:0], 0, 0
}

// empty is a part with room for the rows of n changes.
func (r *bucketRows) empty(n int) *bucketPart {
	if k := len(r.spare); k > 0 {
		p := r.spare[k-1]
		r.spare = r.spare[:k-1]
		if cap(p.rows) <= spareMax {
			p.buckets, p.rows, p.bytes = p.buckets[:0], p.rows[:0], p.bytes[:0]
			return p
		}
	}
	n = min(n, readMax)
	return &bucketPart{buckets: make([]readBucket, 0, n), rows: make([]readRow, 0, 7*n), bytes: make([]byte, 0, 48*n)}
}

// bucketPart is the share of one goroutine.
type bucketPart struct {
	buckets []readBucket // ascending
	rows    []readRow
	bytes   []byte // of the rows that grow
}

// readBucket is the place of a bucket's rows in its part.
type readBucket struct {
	prefix   entry.Hash
	bits     int
	from, to int
}

// readRow is a row as it was read: its value, and where its bytes are if the row
// is about to grow.
type readRow struct {
	topic, value entry.Hash
	from, to     int
}

const (
	// readMin is the number of topics that is worth another goroutine.
	readMin = 128
	// readMax is the number of topics up to which memory is made at once.
	readMax = 1 << 14
	// spareMax is the number of rows up to which a part's memory is kept, some 10 MB.
	spareMax = 1 << 17
)

// load reads the buckets of the pending topics, which are sorted.
func (r *bucketRows) load(pending []topicRef) error {
	var g errgroup.Group
	for n := min(runtime.GOMAXPROCS(0), len(pending)/readMin+1); n > 0 && len(pending) > 0; n-- {
		k := len(pending) / n
		if k < len(pending) { // a bucket belongs to one part
			prefix, bits := r.tip.Bucket(pending[k].topic)
			for k < len(pending) && samePrefix(&pending[k].topic, &prefix, bits) {
				k++
			}
		}
		part, mine := r.empty(k), pending[:k]
		r.parts = append(r.parts, part)
		pending = pending[k:]
		g.Go(func() error { return part.load(r.tip, r.old, mine) })
	}
	return g.Wait()
}

func (p *bucketPart) load(tip *unitindex.Tree, old *rows, pending []topicRef) error {
	it, err := old.take()
	if err != nil {
		return err
	}
	defer old.give(it)
	for i := 0; i < len(pending); {
		prefix, bits := tip.Bucket(pending[i].topic)
		b := readBucket{prefix: prefix, bits: bits, from: len(p.rows)}
		err := old.scan(it, prefix, bits, func(topic, value entry.Hash, row []byte) error {
			for i < len(pending) && bytes.Compare(pending[i].topic[:], topic[:]) < 0 {
				i++
			}
			at := readRow{topic: topic, value: value}
			if i < len(pending) && pending[i].topic == topic {
				at.from = len(p.bytes)
				p.bytes = append(p.bytes, row...)
				at.to = len(p.bytes)
			}
			p.rows = append(p.rows, at)
			return nil
		})
		if err != nil {
			return err
		}
		b.to = len(p.rows)
		p.buckets = append(p.buckets, b)
		for i < len(pending) && samePrefix(&pending[i].topic, &prefix, bits) {
			i++
		}
	}
	return nil
}

// find returns the part and the bucket that a topic or prefix belongs to.
func (r *bucketRows) find(topic *entry.Hash) (*bucketPart, *readBucket) {
	for i := len(r.parts) - 1; i >= 0; i-- {
		p := r.parts[i]
		if len(p.buckets) == 0 || bytes.Compare(p.buckets[0].prefix[:], topic[:]) > 0 {
			continue
		}
		at, found := slices.BinarySearchFunc(p.buckets, topic, func(b readBucket, t *entry.Hash) int {
			return bytes.Compare(b.prefix[:], t[:])
		})
		if !found {
			at--
		}
		return p, &p.buckets[at]
	}
	return nil, nil
}

// next returns the stored bytes of a pending topic, nil if it is new. It is called
// with ascending topics, and goes through the rows as they do.
func (r *bucketRows) next(topic *entry.Hash) []byte {
	for ; r.part < len(r.parts); r.part, r.at = r.part+1, 0 {
		p := r.parts[r.part]
		for ; r.at < len(p.rows); r.at++ {
			at := &p.rows[r.at]
			switch bytes.Compare(at.topic[:], topic[:]) {
			case 0:
				return p.bytes[at.from:at.to]
			case 1:
				return nil
			}
		}
	}
	return nil
}

// errUnread is a bug: the tree asks for a bucket that none of the changes is in.
var errUnread = errors.New("index bucket was not read")

// Scan implements unitindex.Rows for the buckets that were read.
func (r *bucketRows) Scan(prefix entry.Hash, bits int, fn func(topic, value entry.Hash) error) error {
	p, b := r.find(&prefix)
	if b == nil || b.prefix != prefix || b.bits != bits {
		return fmt.Errorf("%w: prefix %x/%d", errUnread, prefix[:(bits+7)/8], bits)
	}
	for i := b.from; i < b.to; i++ {
		if err := fn(p.rows[i].topic, p.rows[i].value); err != nil {
			return err
		}
	}
	return nil
}
