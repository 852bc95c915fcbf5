package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/cockroachdb/pebble/v2/vfs"
)

var errLate = errors.New("quorum is late")

// TestLateQuorum: entries are durable and answered as pending, are served only
// once they are published, and keep one receipt; the published size survives a
// restart although more is signed.
func TestLateQuorum(t *testing.T) {
	fs := vfs.NewMem()
	cfg := config(fs)
	w := ledgertest.NewCosigner("w", cfg.Signer.VKey())
	late := make(chan struct{}) // closed: witnesses answer again
	asked := make(chan struct{}, 100)
	w.Before = func(ctx context.Context, note []byte) error {
		asked <- struct{}{}
		select {
		case <-late:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	cfg.Cosigner, cfg.Policy = w, w.Policy()
	close(late)
	l := open(t, cfg)
	first := one(t, l, "a\ntopic x\ntopic y")
	shut(t, l)

	late = make(chan struct{})
	cfg.CosignWait = time.Nanosecond
	l = open(t, cfg)
	for i := range 3 {
		r := one(t, l, fmt.Sprintf("late %d\ntopic x", i))
		if !r.Pending || r.Receipt != nil {
			t.Fatalf("%+v", r)
		}
	}
	pending := one(t, l, "late 0\ntopic x")
	if !pending.Pending || !pending.Repeat {
		t.Fatalf("%+v", pending)
	}
	check := func(l *ledger.Ledger) {
		t.Helper()
		if p, s := l.Published(), l.Signed(); p.Size() != 2 || s.Size() != 8 {
			t.Fatalf("published %d, signed %d", p.Size(), s.Size())
		}
		refs, _, err := l.Published().List(ledgertest.Topic("x"))
		if err != nil || len(refs) != 1 {
			t.Fatalf("published list: %d, %v", len(refs), err)
		}
		refs, _, err = l.Signed().List(ledgertest.Topic("x"))
		if err != nil || len(refs) != 4 {
			t.Fatalf("signed list: %d, %v", len(refs), err)
		}
		if _, err := l.Published().Entry(2); !errors.Is(err, ledger.ErrNotFound) {
			t.Fatal(err)
		}
		if _, err := l.Signed().Entry(7); err != nil {
			t.Fatal(err)
		}
		if r, err := l.Receipt(pending.ID); err != nil || !r.Pending {
			t.Fatalf("%+v %v", r, err)
		}
	}
	check(l)
	shut(t, l)
	l = open(t, cfg)
	check(l)
	close(late)
	if err := l.Wait(context.Background(), 7); err != nil {
		t.Fatal(err)
	}
	r1, err := l.Receipt(pending.ID)
	if err != nil || r1.Pending {
		t.Fatal(err)
	}
	if r, err := l.Receipt(first.ID); err != nil || !bytes.Equal(r.Receipt, first.Receipt) {
		t.Fatalf("the first receipt has changed: %v", err)
	}
	shut(t, l)
	l = open(t, cfg)
	defer shut(t, l)
	if r, err := l.Receipt(pending.ID); err != nil || !bytes.Equal(r.Receipt, r1.Receipt) {
		t.Fatalf("the receipt has changed over a restart: %v", err)
	}
	if err := w.Err(); err != nil {
		t.Fatal(err)
	}
}

// TestLyingCosigner: nothing that is not our checkpoint with a quorum is ever
// published.
func TestLyingCosigner(t *testing.T) {
	edit := func(f func(*checkpoint.Note)) func([]byte) []byte {
		return func(b []byte) []byte {
			n, err := checkpoint.ParseNote(b)
			if err != nil {
				t.Error(err)
			}
			f(&n)
			return n.Marshal()
		}
	}
	for name, lie := range map[string]func([]byte) []byte{
		"not a note":       func([]byte) []byte { return []byte("yes") },
		"nothing":          func([]byte) []byte { return nil },
		"no quorum":        edit(func(n *checkpoint.Note) { n.Sigs = n.Sigs[:1] }),
		"our line dropped": edit(func(n *checkpoint.Note) { n.Sigs = n.Sigs[1:] }),
		"our line forged":  edit(func(n *checkpoint.Note) { n.Sigs[0].Sig = make([]byte, 64) }),
		"bad cosignature":  edit(func(n *checkpoint.Note) { n.Sigs[1].Sig[20] ^= 1 }),
		"another text":     edit(func(n *checkpoint.Note) { n.Text += "extension\n" }),
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(vfs.NewMem())
			w := ledgertest.NewCosigner("w", cfg.Signer.VKey())
			lies := make(chan struct{}, 1000)
			honest := false
			w.After = func(b []byte) []byte {
				if honest {
					return b
				}
				lies <- struct{}{}
				honest = len(lies) >= 3
				return lie(b)
			}
			cfg.Cosigner, cfg.Policy = w, w.Policy()
			l := open(t, cfg)
			defer shut(t, l)
			r := one(t, l, "a") // waits until the cosigner is honest
			if len(lies) != 3 || r.Receipt == nil {
				t.Fatalf("%d lies, %+v", len(lies), r)
			}
			if _, err := w.Policy().Verify(l.Published().Checkpoint()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestIdle: an idle log adds one index commitment an hour and has the same size
// cosigned anew every ten minutes; receipts stay.
func TestIdle(t *testing.T) {
	cfg := config(vfs.NewMem())
	clock := ledgertest.NewClock()
	w := ledgertest.NewCosigner("w", cfg.Signer.VKey())
	cfg.Clock, cfg.Cosigner, cfg.Policy = clock.Now, w, w.Policy()
	l := open(t, cfg)
	defer shut(t, l)
	ctx := context.Background()
	tick := func(d time.Duration) {
		t.Helper()
		clock.Add(d)
		if err := l.Tick(ctx); err != nil {
			t.Fatal(err)
		}
	}
	tick(2 * time.Hour)
	if l.Published().Size() != 0 || l.Published().Checkpoint() != nil {
		t.Fatal("an empty log must stay empty")
	}
	r := one(t, l, "a")
	before := l.Published().Checkpoint()
	tick(9 * time.Minute)
	if !bytes.Equal(before, l.Published().Checkpoint()) {
		t.Fatal("cosigned again too soon")
	}
	tick(time.Minute)
	after := l.Published().Checkpoint()
	if l.Published().Size() != 2 || bytes.Equal(before, after) {
		t.Fatal("not cosigned again")
	}
	if got, err := l.Receipt(r.ID); err != nil || !bytes.Equal(got.Receipt, r.Receipt) {
		t.Fatal("the receipt must stay as it was", err)
	}
	for range 5 {
		tick(10 * time.Minute)
	}
	if err := l.Wait(ctx, 2); err != nil {
		t.Fatal(err)
	}
	if n := l.Published().Size(); n != 3 {
		t.Fatalf("size %d after an idle hour, want 3", n)
	}
	if e, err := l.Published().Entry(2); err != nil || e.Covers != 2 || e.Time != uint64(clock.Now().UnixMilli()) {
		t.Fatal(e, err)
	}
	// The clock goes back: log time does not.
	clock.Add(-time.Hour)
	if r := one(t, l, "b"); r.Time != l.Published().Time() || r.Time != uint64(clock.Now().Add(time.Hour).UnixMilli()) {
		t.Fatalf("time %d went back", r.Time)
	}
	if err := w.Err(); err != nil {
		t.Fatal(err)
	}
}

// TestOverload: what is in flight is bounded, and the bound is given back.
func TestOverload(t *testing.T) {
	cfg := config(vfs.NewMem())
	w := ledgertest.NewCosigner("w", cfg.Signer.VKey())
	gate, entered := make(chan struct{}), make(chan struct{}, 100)
	w.Before = func(ctx context.Context, _ []byte) error {
		entered <- struct{}{}
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return errLate
		}
	}
	cfg.Cosigner, cfg.Policy, cfg.MaxInFlight = w, w.Policy(), 4
	l := open(t, cfg)
	defer shut(t, l)
	batch := func(name string, n int) (subs []ledger.Submission) {
		for i := range n {
			subs = append(subs, ledgertest.Submission(fmt.Sprintf("%s %d", name, i)))
		}
		return subs
	}
	first := make(chan []ledger.Result)
	go func() { first <- l.Append(context.Background(), batch("a", 3)) }()
	<-entered
	for _, r := range l.Append(context.Background(), batch("b", 2)) {
		if !errors.Is(r.Err, ledger.ErrOverloaded) {
			t.Fatal(r.Err)
		}
	}
	close(gate)
	for _, r := range <-first {
		if r.Err != nil || r.Receipt == nil {
			t.Fatal(r.Err)
		}
	}
	// A batch over the bound is taken when nothing else is in flight.
	for _, r := range l.Append(context.Background(), batch("c", 9)) {
		if r.Err != nil || r.Receipt == nil {
			t.Fatal(r.Err)
		}
	}
}
