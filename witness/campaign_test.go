package witness

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"sync"
	"testing"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// modelOps is how many random operations the long model test does.
// FABTRAIL_WITNESS_MODEL sets it.
func modelOps(t *testing.T) int {
	if s := os.Getenv("FABTRAIL_WITNESS_MODEL"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if testing.Short() {
		return 1_500
	}
	return 6_000
}

// bodies are the checkpoints and requests of an operator with three histories, made
// once.
type bodies struct {
	histories []*testLog
	note      [3][logSize + 1]checkpoint.Note     // history, size
	body      [3][logSize + 1][logSize + 1][]byte // history, old, size
}

var allBodies = sync.OnceValue(func() *bodies {
	t := &panicT{}
	b := &bodies{histories: histories(t)}
	for h, l := range b.histories {
		for size := range uint64(logSize + 1) {
			b.note[h][size] = l.note(t, size)
			for old := range uint64(logSize + 1) {
				b.body[h][old][size] = Request{Old: old, Proof: l.proof(old, size), Note: b.note[h][size]}.Marshal()
			}
		}
	}
	return b
})

// panicT lets helpers of tests run once for all of them.
type panicT struct{ testing.TB }

func (*panicT) Helper()           {}
func (*panicT) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

// TestModelLong does many random operations against the model: one operator with
// three histories asks a witness that is restarted and loses power (45 % of the
// operations, one after the other, each answer as the model says), then from many
// connections at once (45 %), and then three witnesses through two collectors that
// race with two histories (10 %). Never two roots at one size, never a checkpoint
// below the quorum, never two of them that contradict. Rounds have seeds of their own
// and share nothing, so that they keep all cores busy.
func TestModelLong(t *testing.T) {
	ops := modelOps(t)
	const seed, shards = 20261122, 4
	for i, part := range []struct {
		name string
		per  int // percent of all
		ops  int // of one round
		run  func(t *testing.T, rng *rand.Rand, ops int)
	}{
		{"in turn", 45, 200, modelTurn}, {"at once", 45, 240, modelRace}, {"collectors", 10, 60, modelCollectors},
	} {
		rounds := uint64((ops*part.per + 100*part.ops - 1) / (100 * part.ops))
		for shard := range uint64(shards) {
			t.Run(fmt.Sprintf("%s %d", part.name, shard), func(t *testing.T) {
				t.Parallel()
				done := 0
				for round := shard; round < rounds && !t.Failed(); round += shards {
					part.run(t, rand.New(rand.NewPCG(seed+uint64(i), round)), part.ops)
					done += part.ops
				}
				t.Logf("%d operations, seed %d", done, seed)
			})
		}
	}
}

// serverOn is a witness on a store that the caller closes.
func serverOn(t *testing.T, name string, store Store, now *clock) *Server {
	t.Helper()
	return must[*Server](t)(New(Config{
		Logs: []Log{newLog(t, origin, -1).asLog()}, Signer: newSigner(t, name, checkpoint.TypeCosigner),
		Store: store, Clock: now.Now, Limits: Limits{PerClient: -1, PerLog: -1},
	}))
}

// modelTurn is one witness's life: requests, restarts, power losses.
func modelTurn(t *testing.T, rng *rand.Rand, ops int) {
	b, m := allBodies(), &model{root: checkpoint.EmptyRoot, said: map[uint64]entry.Hash{}}
	mem := vfs.NewCrashableMem()
	store := must[*FileStore](t)(OpenFileStore(smallOptions(mem)))
	defer func() { _ = store.Close() }()
	serve := func() *Server { return serverOn(t, "w.example", store, newClock()) }
	f := serve()
	for range ops {
		if roll := rng.IntN(100); roll < 2 { // restart, or power loss
			image := mem
			if roll == 0 {
				image = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
			}
			if err := store.Close(); err != nil {
				t.Fatal(err)
			}
			mem = image
			store = must[*FileStore](t)(OpenFileStore(smallOptions(mem)))
			f = serve()
			continue
		}
		h := rng.IntN(3)
		old, size := m.size, m.size+rng.Uint64N(3)
		if rng.IntN(4) == 0 {
			old, size = rng.Uint64N(logSize+1), rng.Uint64N(logSize+1)
		}
		size = min(size, logSize)
		w := post(f, b.body[h][old][size])
		if want := m.expect(b.histories[h], old, size); w.Code != want {
			t.Fatalf("from %d to %d at %d: answer %d %s, want %d", old, size, m.size, w.Code, w.Body, want)
		}
		if w.Code != http.StatusOK {
			continue
		}
		root := b.histories[h].roots[size]
		if was, ok := m.said[size]; ok && was != root {
			t.Fatalf("two roots at size %d", size)
		}
		m.size, m.root, m.said[size] = size, root, root
	}
}

// said is all that was ever cosigned, by size.
type said struct {
	mu   sync.Mutex
	root map[uint64]entry.Hash
	top  uint64
}

func (s *said) highest() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.top
}

// add notes a cosigned root, given that before was cosigned when it was asked for.
func (s *said) add(t *testing.T, size uint64, root entry.Hash, before uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if was, ok := s.root[size]; ok && was != root {
		t.Errorf("two roots at size %d", size)
	}
	if size < before {
		t.Errorf("size %d cosigned after %d", size, before)
	}
	s.root[size], s.top = root, max(s.top, size)
}

// oneHistory fails unless all that was said is in one history.
func (s *said) oneHistory(t *testing.T, histories []*testLog) {
	t.Helper()
	for _, l := range histories {
		all := true
		for size, root := range s.root {
			all = all && l.roots[size] == root
		}
		if all {
			return
		}
	}
	t.Errorf("%d sizes cosigned, of more than one history", len(s.root))
}

// modelRace asks one witness from eight connections at once.
func modelRace(t *testing.T, rng *rand.Rand, ops int) {
	const workers = 8
	b, s := allBodies(), &said{root: map[uint64]entry.Hash{}}
	store := must[*FileStore](t)(OpenFileStore(smallOptions(vfs.NewMem())))
	defer func() { _ = store.Close() }()
	f := serverOn(t, "w.example", store, newClock())
	var wg sync.WaitGroup
	for range workers {
		rng := rand.New(rand.NewPCG(rng.Uint64(), 1))
		wg.Go(func() {
			old := uint64(0)
			for range ops / workers {
				h := rng.IntN(3)
				size := min(logSize, old+rng.Uint64N(3))
				before := s.highest()
				w := post(f, b.body[h][old][size])
				switch w.Code {
				case http.StatusOK:
					s.add(t, size, b.histories[h].roots[size], before)
					old = size
				case http.StatusConflict:
					if _, err := fmt.Sscanf(w.Body.String(), "%d\n", &old); err != nil {
						t.Errorf("409 with %q", w.Body)
					}
				case http.StatusUnprocessableEntity:
				default:
					t.Errorf("answer %d %s", w.Code, w.Body)
				}
			}
		})
	}
	wg.Wait()
	s.oneHistory(t, b.histories)
}

// modelCollectors has two collectors, of one operator's two histories, ask three
// witnesses of whom two are a quorum, and which fail now and then.
func modelCollectors(t *testing.T, rng *rand.Rand, ops int) {
	b := allBodies()
	l := b.histories
	direct := directly{}
	policy := fmt.Sprintf("log %s\n", l[0].signer.VKey())
	now := newClock()
	for i := range 3 {
		store := must[*FileStore](t)(OpenFileStore(smallOptions(vfs.NewMem())))
		defer func() { _ = store.Close() }()
		name := fmt.Sprintf("w%d.example", i+1)
		f := serverOn(t, name, store, now)
		direct[name] = &moody{f, rand.New(rand.NewPCG(rng.Uint64(), 2)), sync.Mutex{}}
		policy += fmt.Sprintf("witness w%d %s http://%s\n", i+1, f.cfg.Signer.VKey(), name)
	}
	p := must[*checkpoint.Policy](t)(checkpoint.ParsePolicy([]byte(policy + "group q 2 w1 w2 w3\nquorum q\n")))
	s := &said{root: map[uint64]entry.Hash{}}
	var wg sync.WaitGroup
	for h := range 2 {
		rng := rand.New(rand.NewPCG(rng.Uint64(), 3))
		wg.Go(func() {
			c, err := NewCollector(CollectorConfig{Log: l[h].signer.VKey(), Policy: p, Transport: direct, Clock: now.Now, Grace: -1, BackoffMin: 1, BackoffMax: 1})
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			size := uint64(0)
			for range ops / 2 {
				size = min(logSize, size+rng.Uint64N(3))
				note, err := c.Cosign(context.Background(), 0, b.note[h][size].Marshal(), l[h].consistency)
				now.Add(1) // past the backoff of a nanosecond
				if err != nil {
					if !errors.Is(err, checkpoint.ErrNoQuorum) || note != nil {
						t.Errorf("%q, %v", note, err)
					}
					continue
				}
				got, err := p.Verify(note)
				if err != nil || len(got.Cosigs) < 2 || got.Size != size || got.Root != l[h].roots[size] {
					t.Errorf("below the quorum: %+v, %v", got, err)
				}
				s.add(t, got.Size, got.Root, 0)
			}
		})
	}
	wg.Wait()
	s.oneHistory(t, l)
}

// moody is a witness that fails now and then, before or after it has cosigned.
type moody struct {
	http.Handler
	rng *rand.Rand
	mu  sync.Mutex
}

func (m *moody) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	roll := m.rng.IntN(20)
	m.mu.Unlock()
	switch roll {
	case 0:
		w.WriteHeader(http.StatusInternalServerError)
	case 1: // the reply is lost
		m.Handler.ServeHTTP(httptest.NewRecorder(), r)
		w.WriteHeader(http.StatusBadGateway)
	case 2: // a lie about its size
		w.Header().Set("Content-Type", sizeType)
		w.WriteHeader(http.StatusConflict)
		fmt.Fprintf(w, "%d\n", roll)
	default:
		m.Handler.ServeHTTP(w, r)
	}
}

// directly carries requests to handlers by host name, without a network.
type directly map[string]http.Handler

func (d directly) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	in := r.Clone(r.Context())
	in.RemoteAddr = "192.0.2.1:1"
	d[r.URL.Host].ServeHTTP(w, in)
	return w.Result(), nil
}
