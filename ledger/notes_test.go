package ledger_test

import (
	"fmt"
	"testing"

	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestLossWhileNotesAreMadeGood: the database has lost what it had since its last
// flush, notes included, the journal makes it good, and the power is lost at every
// point of that: receipts are the ones that were given.
func TestLossWhileNotesAreMadeGood(t *testing.T) {
	mem := vfs.NewCrashableMem()
	seen := ledgertest.NewWitnessed()
	l := open(t, crashConfig(mem, seen))
	before := clone(mem)
	for i := range 4 { // each in a publication of its own
		seen.Answer(one(t, l, fmt.Sprintf("kept %d\ntopic t", i)))
	}
	fs := clone(mem)
	shut(t, l)
	replace(t, fs, before, "log/truth")
	if n, err := (ledgertest.Image{FS: fs, Seen: seen}).CheckTwice(crashConfig, 1, 1); err != nil || n < 100 {
		t.Fatalf("%d images: %v", n, err)
	}
}
