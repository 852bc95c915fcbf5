package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"fabtrail.dev/fabtrail/ledger/unitindex"
	"github.com/cockroachdb/pebble/v2/vfs"
	fproof "github.com/transparency-dev/formats/proof"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"
)

const origin = "ledger.test/log"

// config is a ledger in memory whose every group commit is published, on a
// clock that the test sets.
func config(fs vfs.FS) ledger.Config {
	return ledger.Config{Dir: "log", Origin: origin, Signer: ledgertest.LogSigner(origin), App: ledgertest.App{},
		FS: fs, Clock: ledgertest.NewClock().Now, Rand: ledgertest.Salts(1), PublishEvery: -1, Manual: true,
		DiskFree: func() (uint64, uint64, error) { return 1 << 40, 1 << 40, nil },
		Fatal:    func(msg string) { panic(msg) }, MemTable: 1 << 20, BlockCache: 1 << 20, CacheBytes: 1 << 20,
		CosignRetry: time.Millisecond}
}

func open(t testing.TB, cfg ledger.Config) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func shut(t testing.TB, l *ledger.Ledger) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func one(t testing.TB, l *ledger.Ledger, payload string) ledger.Result {
	t.Helper()
	r := l.Append(context.Background(), []ledger.Submission{ledgertest.Submission(payload)})[0]
	if r.Err != nil {
		t.Fatalf("%q: %v", payload, r.Err)
	}
	return r
}

func raw(hs []entry.Hash) (out [][]byte) {
	for i := range hs {
		out = append(out, hs[i][:])
	}
	return out
}

func tlogHashes(hs []entry.Hash) (out []tlog.Hash) {
	for _, h := range hs {
		out = append(out, tlog.Hash(h))
	}
	return out
}

// TestReceiptsVerifyElsewhere checks every receipt with other people's parser
// and with two independent verifiers.
func TestReceiptsVerifyElsewhere(t *testing.T) {
	cfg := config(vfs.NewMem())
	w := ledgertest.NewCosigner("w", cfg.Signer.VKey())
	cfg.Cosigner, cfg.Policy = w, w.Policy()
	l := open(t, cfg)
	defer shut(t, l)
	var results []ledger.Result
	for n := range 12 {
		var subs []ledger.Submission
		for i := range n * n {
			p := fmt.Sprintf("%d %d", n, i)
			if i%2 == 0 {
				p += "\npublic"
			}
			subs = append(subs, ledgertest.Submission(p))
		}
		results = append(results, l.Append(context.Background(), subs)...)
	}
	for _, r := range results {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		var p fproof.TLogProof
		if err := p.Unmarshal(r.Receipt); err != nil {
			t.Fatalf("formats does not parse the receipt of %d: %v", r.Index, err)
		}
		own, err := checkpoint.ParseProof(r.Receipt)
		if err != nil {
			t.Fatal(err)
		}
		cp, err := w.Policy().Verify(own.Checkpoint)
		if err != nil {
			t.Fatal(err)
		}
		e, err := entry.ParseExtra(own.Extra)
		if err != nil {
			t.Fatal(err)
		}
		e.Envelope = r.Envelope
		if e.Class != r.Class || e.Time != r.Time {
			t.Fatalf("extra of %d says %v %d, the result %v %d", r.Index, e.Class, e.Time, r.Class, r.Time)
		}
		leaf := e.LeafHash()
		if err := proof.VerifyInclusion(rfc6962.DefaultHasher, r.Index, cp.Size, leaf[:], raw(own.Hashes), cp.Root[:]); err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckRecord(tlogHashes(own.Hashes), int64(cp.Size), tlog.Hash(cp.Root), int64(r.Index), tlog.Hash(leaf)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestProofsAndTiles compares inclusion and consistency proofs at many sizes, and
// rebuilds the tree from tiles with x/mod's own reader.
func TestProofsAndTiles(t *testing.T) {
	l := open(t, config(vfs.NewMem()))
	defer shut(t, l)
	for n := range 9 {
		var subs []ledger.Submission
		for i := range 37 * (n + 1) % 200 {
			subs = append(subs, ledgertest.Submission(fmt.Sprintf("%d %d", n, i)))
		}
		for _, r := range l.Append(context.Background(), subs) {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
		}
	}
	v := l.Published()
	size, root := v.Size(), v.Root()
	if size < 2*256 {
		t.Fatalf("only %d entries", size)
	}
	for i := range size {
		e, err := v.Entry(i)
		if err != nil {
			t.Fatal(err)
		}
		leaf := e.LeafHash()
		for _, at := range []uint64{size, i + 1, (i + size + 1) / 2} {
			hs, err := v.InclusionAt(i, at)
			if err != nil {
				t.Fatal(err)
			}
			r, _ := v.RootAt(at)
			if err := proof.VerifyInclusion(rfc6962.DefaultHasher, i, at, leaf[:], raw(hs), r[:]); err != nil {
				t.Fatalf("entry %d at size %d: %v", i, at, err)
			}
		}
	}
	for from := uint64(1); from <= size; from += 7 {
		for to := from; to <= size; to += 61 {
			hs, err := v.Consistency(from, to)
			if err != nil {
				t.Fatal(err)
			}
			a, _ := v.RootAt(from)
			b, _ := v.RootAt(to)
			if err := proof.VerifyConsistency(rfc6962.DefaultHasher, from, to, raw(hs), a[:], b[:]); err != nil {
				t.Fatalf("%d to %d: %v", from, to, err)
			}
			if err := tlog.CheckTree(tlogHashes(hs), int64(to), tlog.Hash(b), int64(from), tlog.Hash(a)); err != nil {
				t.Fatalf("%d to %d: %v", from, to, err)
			}
		}
	}
	reader := tlog.TileHashReader(tlog.Tree{N: int64(size), Hash: tlog.Hash(root)}, tiles{l})
	for i := range size {
		b, err := l.Bundle(i/256, uint16(i%256+1))
		if err != nil {
			t.Fatal(err)
		}
		leaf := b[len(b)-entry.LeafSize:]
		hs, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, int64(i))})
		if err != nil || entry.Hash(hs[0]) != entry.LeafHash(leaf) {
			t.Fatalf("tile and bundle differ at %d: %v", i, err)
		}
	}
	for _, q := range []struct {
		level uint8
		n     uint64
		width uint16
	}{{0, 0, 0}, {0, 0, 257}, {0, size / 256, uint16(size%256) + 1}, {0, size/256 + 1, 1}, {1, 0, uint16(size/256) + 1}, {2, 0, 1}, {9, 0, 1}, {0, 1 << 60, 1}} {
		if _, err := l.Tile(q.level, q.n, q.width); !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("tile %v: %v, want ErrNotFound", q, err)
		}
	}
	for _, err := range []error{second(v.Inclusion(size)), second(v.InclusionAt(0, size+1)), second(v.Consistency(2, 1)),
		second(v.Consistency(1, size+1)), second(v.Entry(size)), second(v.ManifestOf(size)), second(v.RootAt(size + 1))} {
		if !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("beyond the view: %v, want ErrNotFound", err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// tiles is x/mod's way to read tiles.
type tiles struct{ l *ledger.Ledger }

func (tiles) Height() int                         { return 8 }
func (tiles) SaveTiles(_ []tlog.Tile, _ [][]byte) {}
func (r tiles) ReadTiles(ts []tlog.Tile) (out [][]byte, err error) {
	for _, t := range ts {
		b, err := r.l.Tile(uint8(t.L), uint64(t.N), uint16(t.W))
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// TestRepeats: whoever submits a statement again gets the first answer, within a
// batch, from many at once, and after a restart.
func TestRepeats(t *testing.T) {
	fs := vfs.NewMem()
	l := open(t, config(fs))
	sub := ledgertest.Submission("again\nadd c\ntopic again")
	res := l.Append(context.Background(), []ledger.Submission{sub, ledgertest.Submission("else"), sub})
	if res[0].Repeat || !res[2].Repeat || res[2].Index != res[0].Index || !bytes.Equal(res[0].Receipt, res[2].Receipt) || res[2].Effect != "c=1" {
		t.Fatalf("repeat in a batch: %+v", res[2])
	}
	crowd := ledgertest.Submission("crowd\nadd d\ntopic crowd")
	var wg sync.WaitGroup
	got := make([]ledger.Result, 16)
	for i := range got {
		wg.Go(func() { got[i] = l.Append(context.Background(), []ledger.Submission{crowd})[0] })
	}
	wg.Wait()
	fresh := 0
	for _, r := range got {
		if r.Err != nil || r.Index != got[0].Index || !bytes.Equal(r.Receipt, got[0].Receipt) {
			t.Fatalf("%+v", r)
		}
		if !r.Repeat {
			fresh++
		}
	}
	if fresh != 1 {
		t.Fatalf("%d of 16 were told that they were first", fresh)
	}
	one(t, l, "later")
	shut(t, l)
	l = open(t, config(fs))
	defer shut(t, l)
	if r := l.Append(context.Background(), []ledger.Submission{sub})[0]; !r.Repeat || !bytes.Equal(r.Receipt, res[0].Receipt) ||
		r.Time != res[0].Time || r.Class != res[0].Class || r.Effect != "c=1" || !bytes.Equal(r.Envelope, sub.Envelope) {
		t.Fatalf("repeat after a restart: %+v, %v", r, r.Err)
	}
	if r, err := l.Receipt(sub.ID); err != nil || !bytes.Equal(r.Receipt, res[0].Receipt) {
		t.Fatal(err)
	}
	if _, err := l.Receipt(entry.Hash{1}); !errors.Is(err, ledger.ErrNotFound) {
		t.Fatal(err)
	}
}

func TestRefusals(t *testing.T) {
	cfg := config(vfs.NewMem())
	var full atomic.Bool
	cfg.DiskFree = func() (uint64, uint64, error) {
		if full.Load() {
			return 1 << 30, 1 << 40, nil
		}
		return 1 << 40, 1 << 40, nil
	}
	l := open(t, cfg)
	defer shut(t, l)
	ctx := context.Background()
	bad := ledgertest.Submission("x")
	bad.ID[0] ^= 1
	lost := ledgertest.Submission("manifest")
	lost.Manifest = entry.Hash{1}
	res := l.Append(ctx, []ledger.Submission{
		bad, ledgertest.Submission("set k v\nrefuse"), ledgertest.Submission("need k -\nset k w"), lost,
		{Envelope: []byte("no envelope")}, ledgertest.Submission("need k w"),
	})
	for i, want := range []error{entry.ErrMalformed, ledgertest.ErrRefused, nil, ledger.ErrNotFound, entry.ErrMalformed, nil} {
		if !errors.Is(res[i].Err, want) {
			t.Errorf("line %d: %v, want %v", i, res[i].Err, want)
		}
	}
	if n := l.Published().Size(); n != 3 {
		t.Fatalf("size %d, want two entries and a commitment", n)
	}
	sum, err := l.PutManifest([]byte("contents"))
	if err != nil {
		t.Fatal(err)
	}
	lost.Manifest = sum
	if r := l.Append(ctx, []ledger.Submission{lost})[0]; r.Err != nil {
		t.Fatal(r.Err)
	} else if got, err := l.Published().ManifestOf(r.Index); err != nil || got != sum {
		t.Fatal(got, err)
	}
	full.Store(true)
	if r := l.Append(ctx, []ledger.Submission{ledgertest.Submission("full")})[0]; !errors.Is(r.Err, ledger.ErrStorageFull) {
		t.Fatal(r.Err)
	}
	if _, err := l.PutManifest([]byte("more")); !errors.Is(err, ledger.ErrStorageFull) {
		t.Fatal(err)
	}
	if _, err := l.Receipt(lost.ID); err != nil {
		t.Fatal("reads must go on:", err)
	}
	full.Store(false)
	one(t, l, "full")
}

// TestViewsDuringAppends reads lists, proofs and tiles of views while others
// append; every answer must verify against its own view.
func TestViewsDuringAppends(t *testing.T) {
	cfg := config(vfs.NewMem())
	cfg.PublishEvery = time.Millisecond
	cfg.RotateBytes = 64 << 10
	l := open(t, cfg)
	defer shut(t, l)
	one(t, l, "first\ntopic t0")
	var writers, readers sync.WaitGroup
	done := make(chan struct{})
	for g := range 3 {
		writers.Go(func() {
			for i := range 60 {
				one(t, l, fmt.Sprintf("%d %d\ntopic t%d\ntopic g%d", g, i, i%6, g))
			}
		})
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				v := l.Published()
				last, err := v.Entry(v.Size() - 1)
				if err != nil {
					t.Error(err)
					return
				}
				topic := ledgertest.Topic(fmt.Sprintf("t%d", g))
				refs, p, err := v.List(topic)
				if err != nil {
					t.Error(err)
					return
				}
				value, present, err := unitindex.Verify(last.IndexRoot, topic, p)
				if err != nil || present != (len(refs) > 0) || present && value != unitindex.ListValue(refs) {
					t.Errorf("list at size %d: %v", v.Size(), err)
				}
				for _, ref := range refs {
					hs, err := v.Inclusion(ref.Index)
					root := v.Root()
					if err == nil {
						err = proof.VerifyInclusion(rfc6962.DefaultHasher, ref.Index, v.Size(), ref.Leaf[:], raw(hs), root[:])
					}
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
	refs, _, err := l.Published().List(ledgertest.Topic("g1"))
	if err != nil || len(refs) != 60 {
		t.Fatal(len(refs), err)
	}
}

// TestLongList crosses the chunks that long lists are kept in, also cut off at an
// older view.
func TestLongList(t *testing.T) {
	fs := vfs.NewMem()
	l := open(t, config(fs))
	var views []*ledger.View
	for n := range 11 {
		var subs []ledger.Submission
		for i := range 40 {
			subs = append(subs, ledgertest.Submission(fmt.Sprintf("%d %d\ntopic long\ntopic long", n, i)))
		}
		l.Append(context.Background(), subs)
		views = append(views, l.Published())
	}
	for n, v := range views {
		refs, p, err := v.List(ledgertest.Topic("long"))
		if err != nil || len(refs) != 40*(n+1) || unitindex.CheckRefs(refs) != nil {
			t.Fatalf("%d elements after %d batches: %v", len(refs), n+1, err)
		}
		value, present, err := unitindex.Verify(v.IndexRoot(), ledgertest.Topic("long"), p)
		if err != nil || !present || value != unitindex.ListValue(refs) {
			t.Fatalf("proof after %d batches: %v", n+1, err)
		}
	}
	shut(t, l)
	l = open(t, config(fs))
	defer shut(t, l)
	if refs, _, err := l.Published().List(ledgertest.Topic("long")); err != nil || len(refs) != 440 {
		t.Fatal(len(refs), err)
	}
}

// Rows of the application are there whether they were written before the start, before
// the filter of their keys was made, or after, and with none of them in memory.
func TestStateWithoutCache(t *testing.T) {
	cfg := config(vfs.NewMem())
	cfg.StateCache = -1
	want := map[string]int{}
	for start := range 3 {
		l := open(t, cfg)
		for n := range 40 {
			if n == 20 {
				l.WaitFilters()
			}
			for _, key := range []string{"always", fmt.Sprintf("start%d", start), fmt.Sprintf("n%d", n)} {
				want[key]++
				r := one(t, l, fmt.Sprintf("%d %d %s\nadd %s", start, n, key, key))
				if r.Effect != fmt.Sprintf("%s=%d", key, want[key]) {
					t.Fatalf("start %d, round %d: %s, want %d", start, n, r.Effect, want[key])
				}
			}
		}
		shut(t, l)
	}
}
