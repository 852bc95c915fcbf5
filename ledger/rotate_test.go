package ledger_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestJournalOutlivesFlush: while the database's tables are being written, however long
// that takes, the journal keeps what they are to hold; then it lets go of it.
func TestJournalOutlivesFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		var armed atomic.Bool
		flush := make(chan struct{})
		cfg := config(errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if armed.Load() && op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".sst") {
				<-flush
			}
			return nil
		})))
		cfg.RotateBytes = 2 << 10
		l := open(t, cfg)
		armed.Store(true)
		first := files(t, mem, "log/journal")
		for i := 0; len(files(t, mem, "log/journal")) == len(first); i++ {
			one(t, l, fmt.Sprintf("%d\n%0500d", i, i))
			synctest.Wait() // all that does not wait for the tables is done
			if _, err := mem.Stat(first[0]); err != nil {
				t.Fatalf("after %d entries the journal's segment is gone before the tables are there: %v", i+1, err)
			}
		}
		close(flush)
		synctest.Wait()
		if _, err := mem.Stat(first[0]); err == nil {
			t.Error("the journal's segment stays although the tables are there")
		}
		shut(t, l)
	})
}
