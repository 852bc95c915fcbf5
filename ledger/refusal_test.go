package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestRefusedStartChangesNothing is the first half of S1: the database is looked at
// read-only, so that a start which is refused leaves every file as it was. A start that
// writes removes what the database takes for rubbish, which after damage is all that
// can still be saved.
func TestRefusedStartChangesNothing(t *testing.T) {
	early, late, _, _ := lived(t)
	for name, do := range map[string]func(fs *vfs.MemFS){
		"database older": func(fs *vfs.MemFS) { replace(t, fs, early, "log/truth") },
		"journal older":  func(fs *vfs.MemFS) { replace(t, fs, early, "log/journal") },
	} {
		t.Run(name, func(t *testing.T) {
			fs := clone(late)
			do(fs)
			before := map[string][]byte{}
			for _, dir := range []string{"log/truth", "log/journal"} {
				for _, n := range files(t, fs, dir) {
					before[n] = read(t, fs, n)
				}
			}
			l, err := ledger.Open(context.Background(), crashConfig(fs, ledgertest.NewWitnessed()))
			if no := (*ledger.NoSign)(nil); !errors.As(err, &no) {
				if l != nil {
					shut(t, l)
				}
				t.Fatalf("want a refusal, got %v", err)
			}
			tables := 0
			for n, b := range before {
				if _, err := fs.Stat(n); err != nil {
					t.Errorf("%s is gone", n)
				} else if !bytes.Equal(read(t, fs, n), b) {
					t.Errorf("%s has changed", n)
				}
				if strings.HasSuffix(n, ".sst") || strings.HasSuffix(n, ".blob") {
					tables++
				}
			}
			if tables == 0 {
				t.Error("there were no tables that could have been lost")
			}
		})
	}
}
