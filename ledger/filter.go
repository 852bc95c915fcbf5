package ledger

import (
	"context"
	"encoding/binary"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"

	"fabtrail.dev/fabtrail/ledger/entry"
	"github.com/cockroachdb/pebble/v2"
)

// keyFilter says of most keys that are not in the database that they are not, without
// a read: nearly every submission is a new statement, and many are about a new unit.
// It is a Bloom filter of split blocks: eight words of 32 bits, one bit in each, all in
// one cache line, at filterBits bits for a key, which is taken for another one in about
// 200. Who looks for keys that collide makes the ledger read, no more.
//
// What is in memory only must be made anew at each start: until a scan of the
// database is through, every key may be there.
type keyFilter struct {
	hash   func(key []byte) keyHashes
	ready  atomic.Bool
	layers atomic.Pointer[[]*filterLayer]
	mu     sync.Mutex // of writers
	count  uint64     // keys in the newest layer
}

// keyHashes place a key in a filter.
type keyHashes struct{ block, bits uint64 }

// idHashes are those of a statement ID: it is SHA-256, its own bytes serve.
func idHashes(id []byte) keyHashes {
	return keyHashes{binary.LittleEndian.Uint64(id), binary.LittleEndian.Uint64(id[8:])}
}

// rowHashes gives those of the application's keys.
func rowHashes() func(key []byte) keyHashes {
	one, two := maphash.MakeSeed(), maphash.MakeSeed()
	return func(key []byte) keyHashes { return keyHashes{maphash.Bytes(one, key), maphash.Bytes(two, key)} }
}

// filterLayer is a filter of fixed size. When it has its keys, a larger one is
// begun beside it.
type filterLayer struct {
	blocks [][8]atomic.Uint32
	limit  uint64
}

const (
	filterBits  = 12      // for a key
	filterLeast = 1 << 16 // keys of the smallest layer
)

func newKeyFilter(hash func(key []byte) keyHashes, keys uint64) *keyFilter {
	f := &keyFilter{hash: hash}
	f.layers.Store(&[]*filterLayer{newFilterLayer(keys + keys/4)})
	return f
}

func newFilterLayer(keys uint64) *filterLayer {
	keys = max(keys, filterLeast)
	return &filterLayer{blocks: make([][8]atomic.Uint32, keys*filterBits/256+1), limit: keys}
}

// place returns the block of a key.
func (l *filterLayer) place(k keyHashes) *[8]atomic.Uint32 {
	return &l.blocks[k.block>>16%uint64(len(l.blocks))] // the number of blocks has fewer bits
}

func (l *filterLayer) add(k keyHashes) {
	block, bits := l.place(k), k.bits
	for i := range block {
		block[i].Or(1 << (bits & 31))
		bits >>= 5
	}
}

func (l *filterLayer) has(k keyHashes) bool {
	block, bits := l.place(k), k.bits
	for i := range block {
		if block[i].Load()&(1<<(bits&31)) == 0 {
			return false
		}
		bits >>= 5
	}
	return true
}

// add puts a key in; it is called before the database shows the key.
func (f *keyFilter) add(key []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	layers := *f.layers.Load()
	last := layers[len(layers)-1]
	if f.count >= last.limit {
		last, f.count = newFilterLayer(2*last.limit), 0
		next := slices.Concat(layers, []*filterLayer{last})
		f.layers.Store(&next)
	}
	last.add(f.hash(key))
	f.count++
}

// mayHave is false only if the key was never added and is not in the database.
func (f *keyFilter) mayHave(key []byte) bool {
	if !f.ready.Load() {
		return true
	}
	k := f.hash(key)
	for _, l := range *f.layers.Load() {
		if l.has(k) {
			return true
		}
	}
	return false
}

// build adds what the database had at the start, while commits add what is new.
// An error leaves the filter without use, and the ledger as it is: what cannot be
// read here is met again by whoever needs it.
func (f *keyFilter) build(ctx context.Context, s *store, space byte) (err error) {
	defer rescue(&err)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{space}, UpperBound: []byte{space + 1}})
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		if k := it.Key()[1:]; space != keyID || len(k) == len(entry.Hash{}) {
			f.add(k)
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
