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

// integrating is an engine that makes leaves durable at once, and integrates them when it
// is told to: until then Head waits.
type integrating struct {
	ledger.Sequencer
	slow    atomic.Bool
	asked   chan struct{} // Head waits
	release chan struct{}
	added   chan error // answers each Add of a slow engine
}

func (e *integrating) Head(ctx context.Context) (ledger.Head, error) {
	if e.slow.Load() {
		e.asked <- struct{}{}
		<-e.release
	}
	return e.Sequencer.Head(ctx)
}

func (e *integrating) Add(ctx context.Context, first uint64, leaves []ledger.Leaf) error {
	if e.slow.Load() {
		if err := <-e.added; err != nil {
			return err
		}
	}
	return e.Sequencer.Add(ctx, first, leaves)
}

// TestAddsWhileIntegrating: while a cluster integrates what is to be signed, it is given
// the next commit already. Nothing is signed before it has confirmed the root, and nothing
// at all once the next commit has failed.
func TestAddsWhileIntegrating(t *testing.T) {
	for _, failure := range []error{nil, ledger.ErrBroken} {
		t.Run(fmt.Sprint(failure), func(t *testing.T) {
			e := &integrating{Sequencer: new(ledgertest.Cluster).Open(), asked: make(chan struct{}), release: make(chan struct{}), added: make(chan error)}
			cfg := config(vfs.NewMem())
			cfg.Sequencer = e
			l := open(t, cfg)
			defer func() { _ = l.Close() }()
			one(t, l, "before")
			size := l.Signed().Size()
			e.slow.Store(true)
			results := make(chan ledger.Result, 2)
			submit := func(name string) {
				go func() {
					results <- l.Append(context.Background(), []ledger.Submission{ledgertest.Submission(name)})[0]
				}()
			}
			submit("first")
			e.added <- nil
			<-e.asked // its signature waits for the cluster
			submit("second")
			e.added <- failure // which takes the next one all the same
			if failure != nil {
				<-l.Failed()
			}
			if now := l.Signed().Size(); now != size {
				t.Fatalf("size %d is signed, and the cluster has confirmed %d", now, size)
			}
			e.slow.Store(false)
			e.release <- struct{}{}
			for range 2 {
				if r := <-results; failure == nil && (r.Err != nil || r.Receipt == nil) || failure != nil && !errors.Is(r.Err, ledger.ErrFailed) {
					t.Errorf("%v, receipt of %d bytes", r.Err, len(r.Receipt))
				}
			}
			if now := l.Signed().Size(); (now > size) != (failure == nil) {
				t.Errorf("signed size %d, before %d", now, size)
			}
		})
	}
}
