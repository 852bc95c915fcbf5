package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// heard is an application that says what it decides.
type heard struct {
	ledger.App
	decided func(payload string)
}

func (h heard) Decide(st ledger.State, at ledger.At, sub ledger.Submission) ledger.Outcome {
	out := h.App.Decide(st, at, sub)
	h.decided(sub.Parsed.(string))
	return out
}

// TestWhatIsComingIsWaitedFor: while submissions are on their way, entries wait for them and
// share one index commitment and one signature.
func TestWhatIsComingIsWaitedFor(t *testing.T) {
	var coming atomic.Int32
	second := make(chan struct{})
	cfg := config(vfs.NewMem())
	cfg.PublishEvery, cfg.Coming = time.Hour, func() int { return int(coming.Load()) }
	cfg.App = heard{cfg.App, func(payload string) {
		switch payload {
		case "b":
			close(second)
		case "c":
			coming.Store(0)
		}
	}}
	l := open(t, cfg)
	defer shut(t, l)
	post := func(payload string) ledger.Result {
		s := ledgertest.Submission(payload)
		s.Parsed = payload
		return l.Append(context.Background(), []ledger.Submission{s})[0]
	}
	if r := post("a"); r.Err != nil {
		t.Fatal(r.Err)
	}
	before := l.Published().Size()
	coming.Store(1)
	first := make(chan ledger.Result)
	go func() { first <- post("b") }()
	<-second
	for _, r := range []ledger.Result{post("c"), <-first} {
		if r.Err != nil || r.Pending {
			t.Fatalf("%+v", r)
		}
	}
	if got := l.Published().Size() - before; got != 3 { // b, c and one index commitment
		t.Errorf("the log grew by %d, want 3", got)
	}
}

// TestNothingKeptOfRepeats: what neither adds nor writes anything is not kept once it is
// answered, however often somebody asks.
func TestNothingKeptOfRepeats(t *testing.T) {
	var full atomic.Bool
	cfg := config(vfs.NewMem())
	cfg.DiskFree = func() (uint64, uint64, error) {
		if full.Load() {
			return 0, 1 << 40, nil
		}
		return 1 << 40, 1 << 40, nil
	}
	l := open(t, cfg)
	one(t, l, "a")
	one(t, l, "b\nset k v")
	for range 20 {
		if r := one(t, l, "a"); !r.Repeat {
			t.Fatalf("%+v", r)
		}
	}
	full.Store(true)
	for i := range 20 {
		if r := l.Append(context.Background(), []ledger.Submission{ledgertest.Submission(fmt.Sprint("late ", i))})[0]; !errors.Is(r.Err, ledger.ErrStorageFull) {
			t.Fatalf("%+v", r)
		}
	}
	shut(t, l)
	if n := l.Ahead(); n > 1 {
		t.Errorf("the writes of %d commits are kept, want those of the last one at most", n)
	}
}
