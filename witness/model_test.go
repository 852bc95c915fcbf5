package witness

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"
)

// histories are three logs under one key that share their first entries and
// then differ: a dishonest operator's.
func histories(t testing.TB) []*testLog {
	return []*testLog{newLog(t, origin, -1), newLog(t, origin, 4), newLog(t, origin, 9)}
}

// model is what a witness may do, in the words of the specification: it knows
// which history it is on only by the last root.
type model struct {
	size uint64
	root entry.Hash
	said map[uint64]entry.Hash // every root ever cosigned, by size
}

// expect returns the status for an honest-looking request (proof of that history)
// of a log whose signature is good.
func (m *model) expect(l *testLog, old, size uint64) int {
	switch {
	case old > size:
		return 400
	case old != m.size:
		return 409
	case old == size && l.roots[size] != m.root:
		return 422
	case old > 0 && l.roots[old] != m.root:
		return 422 // proves growth of a tree that the witness did not cosign
	}
	return 200
}

// Random requests of an operator with three histories, restarts, and power
// losses: each answer is the model's, and no size is ever cosigned with two roots.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		mem := vfs.NewCrashableMem()
		m := &model{root: checkpoint.EmptyRoot, said: map[uint64]entry.Hash{}}
		store, err := OpenFileStore(smallOptions(mem))
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { _ = store.Close() }()
		serve := func() *fixture {
			return newWitness(t, "w.example", func(c *Config) { c.Store = store })
		}
		f := serve()
		reopen := func(fs *vfs.MemFS) {
			mem = fs
			if store, err = OpenFileStore(smallOptions(mem)); err != nil {
				rt.Fatal(err)
			}
			f = serve()
		}
		request := func(rt *rapid.T) {
			l := rapid.SampledFrom(histories(t)).Draw(rt, "history")
			size := rapid.Uint64Range(0, logSize).Draw(rt, "size")
			old := m.size
			if rapid.IntRange(0, 3).Draw(rt, "guess") == 0 {
				old = rapid.Uint64Range(0, logSize).Draw(rt, "old")
			} else if size < old {
				size = old
			}
			w := post(f, l.request(t, old, size).Marshal())
			if want := m.expect(l, old, size); w.Code != want {
				rt.Fatalf("from %d to %d at %d: answer %d %s, want %d", old, size, m.size, w.Code, w.Body, want)
			}
			if w.Code == 409 && w.Body.String() != fmt.Sprintf("%d\n", m.size) {
				rt.Fatalf("409 with %q, want %d", w.Body, m.size)
			}
			if w.Code != 200 {
				return
			}
			if root, ok := m.said[size]; ok && root != l.roots[size] {
				rt.Fatalf("two roots at size %d", size)
			}
			m.size, m.root, m.said[size] = size, l.roots[size], l.roots[size]
		}
		rt.Repeat(map[string]func(*rapid.T){
			"request":       request,
			"request more":  request,
			"and more":      request,
			"and even more": request,
			"restart": func(rt *rapid.T) {
				if err := store.Close(); err != nil {
					rt.Fatal(err)
				}
				reopen(mem)
			},
			"power loss": func(rt *rapid.T) {
				image := mem.CrashClone(vfs.CrashCloneCfg{
					UnsyncedDataPercent: rapid.IntRange(0, 100).Draw(rt, "percent"),
					RNG:                 rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1)),
				})
				if err := store.Close(); err != nil {
					rt.Fatal(err)
				}
				reopen(image)
			},
		})
	})
}

// The same operator at once from many connections: whatever the order, the
// cosignatures given away are of one history, and none is older than one that had
// been given before it was asked for.
func TestModelConcurrent(t *testing.T) {
	f := newWitness(t, "w.example")
	var mu sync.Mutex
	said := map[uint64]entry.Hash{}
	var top uint64
	var wg sync.WaitGroup
	for worker := range uint64(6) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(worker, 7))
			old := uint64(0)
			for range 60 {
				l := histories(t)[rng.IntN(3)]
				size := min(logSize, old+rng.Uint64N(3))
				mu.Lock()
				before := top
				mu.Unlock()
				w := post(f, l.request(t, old, size).Marshal())
				switch w.Code {
				case 200:
					mu.Lock()
					if root, ok := said[size]; ok && root != l.roots[size] {
						t.Errorf("two roots at size %d", size)
					}
					if size < before {
						t.Errorf("size %d cosigned after %d", size, before)
					}
					said[size] = l.roots[size]
					top = max(top, size)
					mu.Unlock()
					old = size
				case 409:
					if _, err := fmt.Sscanf(w.Body.String(), "%d\n", &old); err != nil {
						t.Errorf("409 with %q", w.Body)
					}
				case 422:
				default:
					t.Errorf("answer %d %s", w.Code, w.Body)
				}
			}
		})
	}
	wg.Wait()
	for _, l := range histories(t) { // all that was said is in one history
		all := true
		for size, root := range said {
			all = all && l.roots[size] == root
		}
		if all && len(said) > 3 {
			return
		}
	}
	t.Errorf("%d cosignatures, of more than one history", len(said))
}
