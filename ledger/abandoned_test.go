package ledger_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestAbandonedEnd: a node dies when its replica has entries that the cluster never
// took, and another node goes on without them. The first one then takes the log as it
// is, keeps every receipt, and acknowledged nothing that is not in it. Once with fewer
// entries of the other node than the first one had, once with more.
func TestAbandonedEnd(t *testing.T) {
	for _, theirs := range []int{1, 9} {
		t.Run(fmt.Sprint(theirs), func(t *testing.T) {
			var (
				mu     sync.Mutex
				dead   *vfs.MemFS // what the first node left
				fails  int
				failed bool
				shared [][]byte
			)
			disk := vfs.NewCrashableMem()
			cluster := new(ledgertest.Cluster)
			cluster.Fault = func(uint64, int) ledgertest.Fault {
				mu.Lock()
				defer mu.Unlock()
				if !failed {
					return ledgertest.Good
				}
				if fails++; fails == 2 { // by now the replica has the entries
					dead, failed = clone(disk), false
				}
				return ledgertest.FailBefore
			}
			on := func(fs vfs.FS, salts uint64) ledger.Config {
				cfg := config(fs)
				cfg.Sequencer, cfg.SettlePause, cfg.Rand = cluster.Open(), time.Microsecond, ledgertest.Salts(salts)
				cfg.Share = func(_ context.Context, _ uint64, note []byte) ([]byte, error) {
					mu.Lock()
					defer mu.Unlock()
					shared = append(shared, note)
					return note, nil
				}
				cfg.Shared = func(_ context.Context, after uint64) ([][]byte, error) {
					mu.Lock()
					defer mu.Unlock()
					var out [][]byte
					for _, n := range shared {
						if sizeOf(t, n) > after {
							out = append(out, n)
						}
					}
					return out, nil
				}
				return cfg
			}
			first := open(t, on(disk, 1))
			receipts := map[entry.Hash]string{}
			for i := range 5 {
				r := one(t, first, fmt.Sprintf("%d\ntopic t%d", i, i%2))
				receipts[r.ID] = string(r.Receipt)
			}
			kept := cluster.Size()
			mu.Lock()
			failed = true
			notes := len(shared)
			mu.Unlock()
			var lost []ledger.Submission
			for i := range 4 {
				lost = append(lost, ledgertest.Submission(fmt.Sprintf("lost %d\ntopic t0", i)))
			}
			first.Append(context.Background(), lost)
			shut(t, first)
			mu.Lock()
			shared = shared[:notes] // the first node died before the rest
			mu.Unlock()
			cluster.Truncate(kept)

			second := open(t, on(vfs.NewCrashableMem(), 2))
			for i := range theirs {
				r := one(t, second, fmt.Sprintf("second %d\ntopic t1", i))
				receipts[r.ID] = string(r.Receipt)
			}
			shut(t, second)

			if dead == nil {
				t.Fatal("the first node did not die")
			}
			again := open(t, on(dead, 3))
			one(t, again, "after\ntopic t1")
			for id, want := range receipts {
				r, err := again.Receipt(id)
				if err != nil || string(r.Receipt) != want {
					t.Errorf("%s: another receipt, or none: %v", id, err)
				}
			}
			if _, err := again.Receipt(lost[0].ID); err == nil {
				t.Error("a statement that the cluster never took is in the log")
			}
			for i, r := range again.Append(context.Background(), lost) {
				if r.Err != nil || r.Repeat {
					t.Errorf("lost %d, posted again: %v, repeat %v", i, r.Err, r.Repeat)
				}
			}
			shut(t, again)
			if _, err := dead.Stat("log/truth.aside"); err == nil {
				t.Error("the old replica is still there")
			}
		})
	}
}
