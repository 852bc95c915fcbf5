package ledger_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"fabtrail.dev/fabtrail/ledger/ledgertest"
)

// TestMain keeps rapid's share small (a history opens several databases), and
// looks for goroutines that a closed ledger left behind.
func TestMain(m *testing.M) {
	if command := os.Getenv(asVictim); command != "" {
		os.Exit(victim(command))
	}
	flag.Parse()
	ledgertest.Brief = testing.Short()
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := flag.Set("rapid.checks", fmt.Sprint(15*campaign())); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(
			// Left by Pebble's Close after it has met a corrupt blob file.
			goleak.IgnoreTopFunction("github.com/cockroachdb/pebble/v2/internal/genericcache.(*shard[...]).releaseLoop")); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines left behind:", err)
			code = 1
		}
	}
	os.Exit(code)
}
