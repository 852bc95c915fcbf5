package ledger_test

import (
	"context"
	"testing"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestAppendThen: durable is called once for each call, when the statement is on the disk and
// before anybody waits for witnesses, and also for what is refused or comes too late.
func TestAppendThen(t *testing.T) {
	cfg := config(vfs.NewMem())
	w := ledgertest.NewCosigner("w", cfg.Signer.VKey())
	durable := make(chan struct{}) // witnesses answer when this is closed
	w.Before = func(ctx context.Context, _ []byte) error {
		select {
		case <-durable:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	cfg.Cosigner, cfg.Policy = w, w.Policy()
	l := open(t, cfg)
	s := ledgertest.Submission("a")
	// Closing a closed channel panics.
	if r := l.AppendThen(context.Background(), []ledger.Submission{s}, func() { close(durable) })[0]; r.Err != nil || r.Pending {
		t.Errorf("%+v", r)
	}
	calls := 0
	bad := s
	bad.Envelope = bad.Envelope[1:]
	if r := l.AppendThen(context.Background(), []ledger.Submission{bad}, func() { calls++ })[0]; r.Err == nil || calls != 1 {
		t.Errorf("what is malformed: %v, %d calls", r.Err, calls)
	}
	shut(t, l)
	if r := l.AppendThen(context.Background(), []ledger.Submission{s}, func() { calls++ })[0]; r.Err == nil || calls != 2 {
		t.Errorf("a ledger that is closed: %v, %d calls", r.Err, calls)
	}
}
