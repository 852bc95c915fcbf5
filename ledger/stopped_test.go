package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestNothingIsBuiltOnAFailedCommit: what is queued when a commit fails half-way is
// refused. Were it committed, it would carry the failed entries' topics into the
// index, and the database would not open again.
func TestNothingIsBuiltOnAFailedCommit(t *testing.T) {
	for round := range 10 { // the committer chooses among what is ready at random
		fs := vfs.NewMem()
		cfg := config(fs)
		salts := ledgertest.Salts(1)
		failing, queued := make(chan struct{}), make(chan struct{})
		var n atomic.Int64
		cfg.Rand = func(b []byte) error {
			if n.Add(1) != 4 {
				return salts(b)
			}
			close(failing)
			<-queued
			return errors.New("no randomness")
		}
		l := open(t, cfg)
		first := one(t, l, "first")
		results := make(chan ledger.Result, 8)
		send := func(subs ...ledger.Submission) {
			for _, r := range l.Append(context.Background(), subs) {
				results <- r
			}
		}
		var half []ledger.Submission
		for i := range 6 {
			half = append(half, ledgertest.Submission(fmt.Sprintf("half %d\ntopic half%d", i, i)))
		}
		go send(half...)
		<-failing
		go send(ledgertest.Submission("queued"))
		l.WaitQueued(1)
		close(queued)
		for range 7 {
			if r := <-results; !errors.Is(r.Err, ledger.ErrFailed) {
				t.Fatalf("round %d: a submission got %v, want %v", round, r.Err, ledger.ErrFailed)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = open(t, config(fs))
		if r := one(t, l, "first"); !r.Repeat || r.Index != first.Index {
			t.Errorf("round %d: the first statement is entry %d, was %d", round, r.Index, first.Index)
		}
		one(t, l, "after")
		if size := l.Published().Size(); size != 4 { // two statements, each with its commitment
			t.Errorf("round %d: size %d, want 4", round, size)
		}
		shut(t, l)
	}
}

// TestClosedLedgerRefuses: requests that outlive the ledger get an error.
func TestClosedLedgerRefuses(t *testing.T) {
	l := open(t, config(vfs.NewMem()))
	one(t, l, "first")
	shut(t, l)
	if r := l.Append(context.Background(), []ledger.Submission{ledgertest.Submission("late")})[0]; !errors.Is(r.Err, ledger.ErrClosed) {
		t.Errorf("Append: %v, want %v", r.Err, ledger.ErrClosed)
	}
	if _, err := l.PutManifest([]byte("late")); !errors.Is(err, ledger.ErrClosed) {
		t.Errorf("PutManifest: %v, want %v", err, ledger.ErrClosed)
	}
}
