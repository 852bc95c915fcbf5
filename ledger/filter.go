package ledger

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"

	"fabtrail.dev/fabtrail/ledger/entry"
	"github.com/cockroachdb/pebble/v2"
)

// idFilter says of most statement IDs that are not in the log that they are not,
// without a read: nearly every submission is new. It is a Bloom filter of split
// blocks: eight words of 32 bits, one bit in each, all in one cache line, at
// filterBits bits for an ID, which is taken for another one in about 200. IDs are
// SHA-256, so their own bytes serve as the hashes; who looks for IDs that collide
// makes the ledger read, no more.
//
// What is in memory only must be made anew at each start: until a scan of the
// database is through, every ID may be there.
type idFilter struct {
	ready  atomic.Bool
	layers atomic.Pointer[[]*filterLayer]
	mu     sync.Mutex // of writers
	count  uint64     // IDs in the newest layer
}

// filterLayer is a filter of fixed size. When it has its IDs, a larger one is
// begun beside it.
type filterLayer struct {
	blocks [][8]atomic.Uint32
	limit  uint64
}

const (
	filterBits  = 12      // for an ID
	filterLeast = 1 << 16 // IDs of the smallest layer
)

func newIDFilter(ids uint64) *idFilter {
	f := &idFilter{}
	f.layers.Store(&[]*filterLayer{newFilterLayer(ids + ids/4)})
	return f
}

func newFilterLayer(ids uint64) *filterLayer {
	ids = max(ids, filterLeast)
	return &filterLayer{blocks: make([][8]atomic.Uint32, ids*filterBits/256+1), limit: ids}
}

// place returns the block of an ID, and the bit in each of its words.
func (l *filterLayer) place(id *entry.Hash) (block *[8]atomic.Uint32, bits uint64) {
	n := binary.LittleEndian.Uint64(id[:]) >> 16 // the number of blocks has fewer bits
	return &l.blocks[n%uint64(len(l.blocks))], binary.LittleEndian.Uint64(id[8:])
}

func (l *filterLayer) add(id *entry.Hash) {
	block, bits := l.place(id)
	for i := range block {
		block[i].Or(1 << (bits & 31))
		bits >>= 5
	}
}

func (l *filterLayer) has(id *entry.Hash) bool {
	block, bits := l.place(id)
	for i := range block {
		if block[i].Load()&(1<<(bits&31)) == 0 {
			return false
		}
		bits >>= 5
	}
	return true
}

// add puts an ID in; it is called before the database shows the ID.
func (f *idFilter) add(id entry.Hash) {
	f.mu.Lock()
	defer f.mu.Unlock()
	layers := *f.layers.Load()
	last := layers[len(layers)-1]
	if f.count >= last.limit {
		last, f.count = newFilterLayer(2*last.limit), 0
		next := slices.Concat(layers, []*filterLayer{last})
		f.layers.Store(&next)
	}
	last.add(&id)
	f.count++
}

// mayHave is false only if the ID was never added and is not in the database.
func (f *idFilter) mayHave(id entry.Hash) bool {
	if !f.ready.Load() {
		return true
	}
	for _, l := range *f.layers.Load() {
		if l.has(&id) {
			return true
		}
	}
	return false
}

// build adds what the database had at the start, while commits add what is new.
// An error leaves the filter without use, and the ledger as it is: what cannot be
// read here is met again by whoever needs it.
func (f *idFilter) build(ctx context.Context, s *store) (err error) {
	defer rescue(&err)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{keyID}, UpperBound: []byte{keyID + 1}})
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		if k := it.Key(); len(k) == 33 {
			f.add(entry.Hash(k[1:]))
		}
		if ctx.Err() != nil {
			return nil
		}
	}
	if err := readError(it); err != nil {
		return err
	}
	f.ready.Store(true)
	return nil
}
