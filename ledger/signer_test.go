package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// slowSync lets others go first whenever a file is synced, until shown changes, so
// that what is shown too early is shown before.
type slowSync struct {
	vfs.FS
	shown *atomic.Uint64
}

func (s slowSync) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.Create(name, c)
	if err != nil {
		return nil, err
	}
	return slowFile{f, s.shown}, nil
}

type slowFile struct {
	vfs.File
	shown *atomic.Uint64
}

func (f slowFile) Sync() error     { f.wait(); return f.File.Sync() }
func (f slowFile) SyncData() error { f.wait(); return f.File.SyncData() }

func (f slowFile) wait() {
	for was, i := f.shown.Load(), 0; i < 2000 && f.shown.Load() == was; i++ {
		runtime.Gosched()
	}
}

func sizeOf(t testing.TB, note []byte) uint64 {
	n, err := checkpoint.ParseNote(note)
	if err != nil {
		t.Error(err)
		return 0
	}
	cp, err := checkpoint.ParseCheckpoint(n.Text)
	if err != nil {
		t.Error(err)
	}
	return cp.Size
}

// noLock is a file system whose locks do not hold.
type noLock struct{ vfs.FS }

func (noLock) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

// TestTwoSigners copies a running ledger (a cloned machine) and lets both go on,
// under one witness: only one of them ever publishes, and after a restart the
// other refuses to sign. FABTRAIL_DRILLS makes it a campaign.
func TestTwoSigners(t *testing.T) {
	rounds := max(number(t, "FABTRAIL_DRILLS", 40)/8, 1)
	for round := range rounds {
		rng := rand.New(rand.NewPCG(uint64(round), 9))
		mem := vfs.NewCrashableMem()
		w := ledgertest.NewCosigner("w", ledgertest.LogSigner(origin).VKey())
		published := ledgertest.NewWitnessed()
		var newest atomic.Pointer[[]byte]
		w.After = func(note []byte) []byte {
			if err := published.Note(note); err != nil {
				t.Error(err)
			}
			newest.Store(&note)
			return note
		}
		cfg := func(fs vfs.FS, salt uint64) ledger.Config {
			c := config(fs)
			c.Cosigner, c.Policy = w, w.Policy()
			c.Rand = ledgertest.Salts(salt)
			c.WitnessNotes = func(context.Context) [][]byte { return [][]byte{*newest.Load()} }
			return c
		}
		newest.Store(new([]byte))
		c := cfg(mem, 1)
		c.WitnessNotes = nil
		l := open(t, c)
		for i := range 1 + rng.IntN(4) {
			one(t, l, fmt.Sprint("common ", i))
		}
		copied := clone(mem)
		shut(t, l)
		disks := []*vfs.MemFS{mem, copied}
		rng.Shuffle(2, func(i, j int) { disks[i], disks[j] = disks[j], disks[i] })
		// The first to ask the witness wins; the other one's quorum stays away.
		first := open(t, cfg(disks[0], 2))
		lose := cfg(disks[1], 3)
		lose.CosignWait = time.Nanosecond
		second := open(t, lose)
		one(t, first, "first")
		for i := range 2 + rng.IntN(5) {
			if rng.IntN(2) == 0 {
				one(t, first, fmt.Sprint("first ", i))
			} else if r := one(t, second, fmt.Sprint("second ", i)); !r.Pending || r.Receipt != nil {
				t.Fatalf("round %d: the copy got a receipt: %+v", round, r)
			}
		}
		one(t, second, "second")
		shut(t, first)
		shut(t, second)
		shut(t, open(t, cfg(disks[0], 4)))
		var refused *ledger.NoSign
		if l, err := ledger.Open(context.Background(), cfg(disks[1], 5)); !errors.As(err, &refused) || refused.WayOut == "" {
			t.Errorf("round %d: the copy opens again: %v", round, err)
			_ = l.Close()
		}
		if w.Err() == nil {
			t.Errorf("round %d: the witness has not seen the copy", round)
		}
	}
	t.Logf("two signers: %d rounds, 0 conflicting checkpoints published, the copy always refused at its next start", rounds)
}

// TestTakenOver: a ledger whose folder another process has opened, as locks do not
// hold there, stops before it signs again; the other goes on.
func TestTakenOver(t *testing.T) {
	mem := vfs.NewMem()
	fs := noLock{mem}
	before := open(t, config(fs))
	one(t, before, "before")
	now := open(t, config(fs))
	r := before.Append(context.Background(), []ledger.Submission{ledgertest.Submission("too late")})[0]
	if !errors.Is(r.Err, ledger.ErrFailed) || before.Signed().Size() != 2 {
		t.Fatalf("%v, signed size %d, want a stop at 2", r.Err, before.Signed().Size())
	}
	one(t, now, "now")
	_ = before.Close()
	shut(t, now)
}

// liar is an engine that keeps another leaf than it was given, and says that it
// does not know what became of it.
type liar struct {
	ledger.Sequencer
	lie bool
}

func (s *liar) Add(ctx context.Context, first uint64, leaves []ledger.Leaf) error {
	if !s.lie {
		return s.Sequencer.Add(ctx, first, leaves)
	}
	bad := append([]ledger.Leaf(nil), leaves...)
	bad[0] = ledgertest.Leaf(3)
	if err := s.Sequencer.Add(ctx, first, bad); err != nil {
		return err
	}
	return errors.New("timed out")
}

// TestUnknownOutcome is S6: after an unknown outcome the ledger compares what the
// engine holds, and stops when it is something else.
func TestUnknownOutcome(t *testing.T) {
	s := &liar{Sequencer: new(ledgertest.Cluster).Open()}
	cfg := config(vfs.NewMem())
	cfg.Sequencer, cfg.SettlePause = s, time.Microsecond
	l := open(t, cfg)
	defer func() { _ = l.Close() }()
	one(t, l, "good")
	s.lie = true
	r := l.Append(context.Background(), []ledger.Submission{ledgertest.Submission("bad")})[0]
	if !errors.Is(r.Err, ledger.ErrFailed) || !errors.Is(r.Err, ledger.ErrConflict) || l.Signed().Size() != 2 {
		t.Fatalf("%v, signed size %d, want a stop for a conflict", r.Err, l.Signed().Size())
	}
}
