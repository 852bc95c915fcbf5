package trillian_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"fabtrail.dev/fabtrail/ledger/trillian"
	"fabtrail.dev/fabtrail/ledger/trillian/clustertest"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// forgetful loses calls of Add before they arrive, and answers to calls that did.
type forgetful struct {
	ledger.Sequencer
	calls *int // over restarts
}

// Add implements ledger.Sequencer.
func (f forgetful) Add(ctx context.Context, first uint64, leaves []ledger.Leaf) error {
	*f.calls++
	if *f.calls%7 == 3 {
		return ledgertest.ErrInjected
	}
	err := f.Sequencer.Add(ctx, first, leaves)
	if err == nil && *f.calls%5 == 0 {
		return ledgertest.ErrInjected
	}
	return err
}

// follower is a read replica of a ledger on a cluster, which gets notes and entries from
// there alone.
type follower struct {
	t      *testing.T
	cfg    ledger.Config   // but for its engine
	engine trillian.Config // read-only
	fs     *vfs.MemFS
	e      *trillian.Engine
	r      *ledger.Ledger
	ops    int

	entries uint64          // that were compared since it was opened
	told    map[string]bool // receipts
}

// open opens the replica, once more or for the first time.
func (f *follower) open() {
	f.t.Helper()
	f.close()
	f.e = open(f.t, f.engine)
	cfg := f.cfg
	cfg.FS, cfg.Sequencer = f.fs, f.e
	var err error
	if f.r, err = ledger.OpenReplica(f.t.Context(), cfg); err != nil {
		f.t.Fatal(err)
	}
	f.entries, f.told = 0, map[string]bool{}
}

func (f *follower) close() {
	f.t.Helper()
	if f.r == nil {
		return
	}
	if err := f.r.Close(); err != nil { // and the engine
		f.t.Fatal(err)
	}
	f.r = nil
}

// after is called after each operation of the model on a ledger and its engine.
func (f *follower) after(e *trillian.Engine, l *ledger.Ledger, receipts map[string]string) error {
	v := l.Published()
	if v.Size() == 0 {
		return nil
	}
	// It may have been cosigned again, which the node hands on by itself.
	note := trillian.Note{Size: v.Size(), First: v.Checkpoint(), Latest: v.Checkpoint()}
	if err := e.PutNotes(f.t.Context(), []trillian.Note{note}); err != nil {
		return err
	}
	if f.ops++; f.ops%9 == 1 && f.ops < 100 || f.ops%100 == 1 {
		f.open()
	}
	return f.follow(v, receipts)
}

// follow takes what was published since, and holds everything that the replica says
// against the ledger that signs.
func (f *follower) follow(want *ledger.View, receipts map[string]string) error {
	ctx := f.t.Context()
	notes, err := f.e.Notes(ctx, f.r.Published().Size(), 1<<10)
	if err != nil {
		return err
	}
	for _, n := range notes {
		for _, note := range [][]byte{n.First, n.Latest} {
			if err := f.r.Advance(ctx, note); err != nil {
				return fmt.Errorf("the replica at size %d: %w", n.Size, err)
			}
		}
	}
	got := f.r.Published()
	if string(got.Checkpoint()) != string(want.Checkpoint()) || got.IndexRoot() != want.IndexRoot() || got.Topics() != want.Topics() {
		return fmt.Errorf("the replica publishes\n%s\nand not\n%s", got.Checkpoint(), want.Checkpoint())
	}
	for ; f.entries < want.Size(); f.entries++ {
		a, err := want.Entry(f.entries)
		b, rerr := got.Entry(f.entries)
		if err != nil || rerr != nil || fmt.Sprint(a) != fmt.Sprint(b) {
			return fmt.Errorf("entry %d of the replica is another: %w", f.entries, errors.Join(err, rerr))
		}
	}
	return f.receipts(receipts)
}

// receipts holds receipts of the ledger that signs against the replica's: each once since
// that was opened.
func (f *follower) receipts(want map[string]string) error {
	for id, receipt := range want {
		if f.told[id] {
			continue
		}
		f.told[id] = true
		h, err := entry.ParseHash(id)
		r, rerr := f.r.Receipt(h)
		if err != nil || rerr != nil || string(r.Receipt) != receipt {
			return fmt.Errorf("the replica's receipt of %s is another: %w", id, errors.Join(err, rerr))
		}
	}
	return nil
}

// TestModel holds the engine against the naive model, and against the embedded
// engine: same seed, same roots, same receipts, over restarts and lost answers; and after
// each operation a read replica, which is opened anew now and then, and in the end one
// that has seen nothing before, say the same byte for byte.
func TestModel(t *testing.T) { model(t, cluster(t), 11, 60) }

// TestModelLong is TestModel for FABTRAIL_CLUSTER_MODEL seeds of 1,000 operations each.
func TestModelLong(t *testing.T) {
	seeds, err := strconv.ParseUint(os.Getenv("FABTRAIL_CLUSTER_MODEL"), 10, 32)
	if err != nil {
		t.Skip("a campaign: make cluster-model")
	}
	c := cluster(t)
	for seed := range seeds {
		size, receipts := model(t, c, 100+seed, 1000)
		t.Logf("seed %d: 1,000 operations, %d entries, %d receipts: the same on a cluster, on the embedded engine, and on a replica", 100+seed, size, receipts)
	}
}

// model returns how many entries and receipts there were.
func model(t *testing.T, c *clustertest.Cluster, seed uint64, ops int) (size uint64, receipts int) {
	t.Helper()
	calls := 0
	cfg := c.Config(newTree(t, c, origin), origin)
	ours, theirs := map[string]string{}, map[string]string{}
	f := &follower{t: t, engine: cfg, fs: vfs.NewMem()}
	f.engine.ReadOnly = true
	defer f.close()
	// on opens a ledger on the cluster, which f follows, or on the embedded engine.
	on := func(cluster bool, receipts map[string]string) func(m *ledgertest.Model) (*ledger.Ledger, error) {
		fs, salts := vfs.NewMem(), ledgertest.Salts(seed)
		w := ledgertest.NewCosigner("w", ledgertest.LogSigner(origin).VKey())
		return func(m *ledgertest.Model) (*ledger.Ledger, error) {
			m.Receipt = func(id, receipt string) { receipts[id] = receipt }
			both := ledger.Config{Dir: "log", Origin: origin, App: ledgertest.App{}, Clock: m.Clock.Now, Manual: true, RotateBytes: 20 << 10, Policy: w.Policy()}
			own := both
			own.Signer, own.Cosigner, own.FS, own.Rand, own.PublishEvery, own.SettlePause = ledgertest.LogSigner(origin), w, fs, salts, -1, time.Microsecond
			if cluster {
				e := open(t, cfg)
				own.Sequencer, own.Share = forgetful{e, &calls}, e.Share
				f.cfg = both
				m.After = func(l *ledger.Ledger) error { return f.after(e, l, receipts) }
			}
			return ledger.Open(context.Background(), own)
		}
	}
	got, err := ledgertest.RunModel(seed, ops, on(true, ours))
	if err != nil {
		t.Fatal(err)
	}
	fresh := &follower{t: t, cfg: f.cfg, engine: f.engine, fs: vfs.NewMem()}
	defer fresh.close()
	fresh.open()
	if err := fresh.follow(f.r.Published(), ours); err != nil {
		t.Fatal(err)
	}
	want, err := ledgertest.RunModel(seed, ops, on(false, theirs))
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatal("same seed, other roots than on the embedded engine")
	}
	if calls < ops/2 {
		t.Fatalf("only %d calls of Add: none was lost", calls)
	}
	if len(ours) < ops || fmt.Sprint(ours) != fmt.Sprint(theirs) {
		t.Fatalf("same seed, other receipts than on the embedded engine (%d and %d)", len(ours), len(theirs))
	}
	return f.r.Published().Size(), len(ours)
}
