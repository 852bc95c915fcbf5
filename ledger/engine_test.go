package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"
)

// campaign is how much more than usual to test; FABTRAIL_CAMPAIGN sets it.
func campaign() int {
	if n, err := strconv.Atoi(os.Getenv("FABTRAIL_CAMPAIGN")); err == nil && n > 0 {
		return n
	}
	return 1
}

// sparse is how many times fewer samples a short run takes: under the race detector each
// is ten times as dear, and finds no other race than the ones before.
func sparse() int {
	if testing.Short() {
		return 3
	}
	return 1
}

// number is a count from the environment, for campaigns.
func number(t testing.TB, name string, def int) int {
	s := os.Getenv(name)
	if s == "" {
		return def
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(name, err)
	}
	return n
}

func TestEmbeddedConformance(t *testing.T) {
	ledgertest.Conformance(t, func(t *testing.T) (ledger.Sequencer, func() ledger.Sequencer) {
		fs := vfs.NewMem()
		var s ledger.Sequencer
		reopen := func() ledger.Sequencer {
			if s != nil {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			var err error
			if s, err = ledger.OpenEmbedded("engine", fs); err != nil {
				t.Fatal(err)
			}
			return s
		}
		return reopen(), reopen
	})
}

func TestClusterConformance(t *testing.T) {
	ledgertest.Conformance(t, func(*testing.T) (ledger.Sequencer, func() ledger.Sequencer) {
		c := new(ledgertest.Cluster)
		return c.Open(), c.Open
	})
}

// engines opens the model's ledger on each kind of engine.
func engines() map[string]func(seed uint64) func(m *ledgertest.Model) (*ledger.Ledger, error) {
	on := func(seed uint64, set func(*ledger.Config)) func(m *ledgertest.Model) (*ledger.Ledger, error) {
		fs, salts := vfs.NewMem(), ledgertest.Salts(seed)
		w := ledgertest.NewCosigner("w", ledgertest.LogSigner(origin).VKey())
		return func(m *ledgertest.Model) (*ledger.Ledger, error) {
			cfg := config(fs)
			cfg.Clock, cfg.Rand = m.Clock.Now, salts
			cfg.RotateBytes = 20 << 10
			cfg.Cosigner, cfg.Policy = w, w.Policy()
			set(&cfg)
			return ledger.Open(context.Background(), cfg)
		}
	}
	return map[string]func(uint64) func(m *ledgertest.Model) (*ledger.Ledger, error){
		"embedded": func(seed uint64) func(m *ledgertest.Model) (*ledger.Ledger, error) {
			return on(seed, func(c *ledger.Config) {})
		},
		"no witness": func(seed uint64) func(m *ledgertest.Model) (*ledger.Ledger, error) {
			return on(seed, func(c *ledger.Config) { c.Cosigner, c.Policy = nil, nil })
		},
		"cluster": func(seed uint64) func(m *ledgertest.Model) (*ledger.Ledger, error) {
			c := new(ledgertest.Cluster)
			return on(seed, func(cfg *ledger.Config) { cfg.Sequencer = c.Open() })
		},
		"failing cluster": func(seed uint64) func(m *ledgertest.Model) (*ledger.Ledger, error) {
			n := 0
			c := &ledgertest.Cluster{Fault: func(uint64, int) ledgertest.Fault {
				n++
				return ledgertest.Fault(n % 9 % 4) // several in a row, of every kind
			}}
			return on(seed, func(cfg *ledger.Config) { cfg.Sequencer, cfg.SettlePause = c.Open(), time.Microsecond })
		},
	}
}

// TestModel compares each engine with the naive model, and the engines with
// each other: same seed, same roots.
func TestModel(t *testing.T) {
	seeds := 20 * campaign()
	if testing.Short() {
		seeds = 3
	}
	for seed := range uint64(seeds) {
		var first []string
		for name, open := range engines() {
			roots, err := ledgertest.RunModel(seed, 150, open(seed))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got := []string{fmt.Sprint(roots)}
			if first != nil && first[0] != got[0] {
				t.Fatalf("seed %d: %s has other roots than another engine", seed, name)
			}
			first = got
		}
	}
}

// TestModelRapid lets rapid choose the operations, so that a difference is
// shrunk to a short history.
func TestModelRapid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, err := ledgertest.NewModel(7, engines()["embedded"](7))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = m.Close() }()
		ok := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		payload := rapid.Custom(func(t *rapid.T) string {
			return ledgertest.Payload(rapid.IntRange(0, 7).Draw(t, "kind"), rapid.IntRange(0, 60).Draw(t, "n"))
		})
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) { ok(m.Append(rapid.SliceOfN(payload, 1, 12).Draw(t, "payloads"))) },
			"read": func(t *rapid.T) {
				ok(m.Read(rapid.IntRange(0, 1000).Draw(t, "entry"), rapid.IntRange(0, 60).Draw(t, "topic")))
			},
			"idle": func(t *rapid.T) {
				ok(m.Idle(time.Duration(rapid.IntRange(-600, 7200).Draw(t, "seconds")) * time.Second))
			},
			"restart": func(t *rapid.T) { ok(m.Restart()) },
		})
	})
}

var _ = errors.Is
