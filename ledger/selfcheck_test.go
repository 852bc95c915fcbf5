package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestEpoch: a journal from before another process took the log over is refused,
// even if nothing was logged since.
func TestEpoch(t *testing.T) {
	mem := vfs.NewCrashableMem()
	l := open(t, config(mem))
	one(t, l, "a")
	shut(t, l)
	before := clone(mem)
	shut(t, open(t, config(mem)))
	shut(t, open(t, config(clone(mem)))) // its own journal is fine
	replace(t, mem, before, "log/journal")
	var refused *ledger.NoSign
	if _, err := ledger.Open(context.Background(), config(mem)); !errors.As(err, &refused) || !strings.Contains(refused.Reason, "epoch") {
		t.Fatalf("%v, want a refusal for an old epoch", err)
	}
}

// forgetful is an engine that has lost its last leaf although it said otherwise.
type forgetful struct {
	ledger.Sequencer
	forgets bool
}

func (s *forgetful) Head(ctx context.Context) (ledger.Head, error) {
	h, err := s.Sequencer.Head(ctx)
	if s.forgets {
		h.Size--
	}
	return h, err
}

// TestForgetfulEngine: nothing is signed that the engine does not have.
func TestForgetfulEngine(t *testing.T) {
	s := &forgetful{Sequencer: new(ledgertest.Cluster).Open()}
	cfg := config(vfs.NewMem())
	cfg.Sequencer = s
	l := open(t, cfg)
	defer func() { _ = l.Close() }()
	one(t, l, "a")
	s.forgets = true
	r := l.Append(context.Background(), []ledger.Submission{ledgertest.Submission("b")})[0]
	if !errors.Is(r.Err, ledger.ErrFailed) || !errors.Is(r.Err, ledger.ErrDamaged) || l.Signed().Size() != 2 {
		t.Fatalf("%v, signed size %d, want a stop", r.Err, l.Signed().Size())
	}
}

// TestReceiptIsVerified: a hash that flips in memory after signing is noticed
// before a receipt with it is answered.
func TestReceiptIsVerified(t *testing.T) {
	l := open(t, config(vfs.NewMem()))
	defer func() { _ = l.Close() }()
	sub := ledgertest.Submission("a")
	for _, r := range l.Append(context.Background(), []ledger.Submission{sub, ledgertest.Submission("b")}) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	l.FlipEdge(0, 1)
	if r, err := l.Receipt(sub.ID); !errors.Is(err, ledger.ErrDamaged) || r.Receipt != nil {
		t.Fatalf("%+v, %v, want damage", r, err)
	}
	<-l.Failed()
}

// TestReceiptsShareTheirPath: what receipts of one publication share of their way to the
// root is verified once, the rest for each; they are those that each would have alone.
func TestReceiptsShareTheirPath(t *testing.T) {
	l := open(t, config(vfs.NewMem()))
	defer func() { _ = l.Close() }()
	var subs []ledger.Submission
	for i := range 150 {
		subs = append(subs, ledgertest.Submission(fmt.Sprint(i)))
	}
	for at := 0; at < len(subs); at += 75 {
		for k, r := range l.Append(context.Background(), subs[at:at+75]) {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			p, err := checkpoint.ParseProof(r.Receipt)
			if err != nil {
				t.Fatal(err)
			}
			want, err := l.Published().Inclusion(r.Index)
			if err != nil || !slices.Equal(p.Hashes, want) {
				t.Fatalf("entry %d, line %d: the path is not that of the tree (%v)", r.Index, k, err)
			}
		}
	}
	first, err := l.Receipt(subs[32].ID)
	if err != nil {
		t.Fatal(err)
	}
	l.FlipEdge(0, int(first.Index^1)) // its neighbour, whose hash begins its path
	if r, err := l.Receipt(subs[32].ID); !errors.Is(err, ledger.ErrDamaged) || r.Receipt != nil {
		t.Fatalf("%+v, %v, want damage", r, err)
	}
	<-l.Failed()
}

// TestBackgroundDamage: damage that a read meets stops the ledger, whoever reads.
func TestBackgroundDamage(t *testing.T) {
	mem := vfs.NewMem()
	l := open(t, config(mem))
	for i := range 4 {
		var subs []ledger.Submission
		for k := range 150 {
			subs = append(subs, ledgertest.Submission(fmt.Sprintf("%d %d %0120d", i, k, k)))
		}
		l.Append(context.Background(), subs)
	}
	shut(t, l)
	l = open(t, config(mem))
	defer func() { _ = l.Close() }()
	for _, name := range files(t, mem, "log/truth") {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		b := read(t, mem, name)
		f, err := mem.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		for at := int64(64); at < int64(len(b))*6/10; at += 256 {
			if _, err := f.WriteAt([]byte{b[at] ^ 16}, at); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	damaged := 0
	for i := range uint64(100) {
		if _, err := l.Published().Entry(i); err != nil {
			damaged++
		}
	}
	if damaged == 0 {
		t.Fatal("no entry is damaged")
	}
	select {
	case <-l.Failed():
	case <-time.After(30 * time.Second):
		t.Fatal("the ledger goes on")
	}
	if err := l.Err(); !errors.Is(err, ledger.ErrDamaged) {
		t.Fatal(err)
	}
}
