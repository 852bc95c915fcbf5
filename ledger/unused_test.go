package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// naming is a statement that names a manifest.
func naming(t *testing.T, l *ledger.Ledger, payload string, sum entry.Hash) ledger.Result {
	t.Helper()
	s := ledgertest.Submission(payload)
	s.Manifest = sum
	r := l.Append(context.Background(), []ledger.Submission{s})[0]
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	return r
}

func uploaded(t *testing.T, l *ledger.Ledger, owner, b string) entry.Hash {
	t.Helper()
	sum, err := l.PutManifestOf(owner, []byte(b))
	if err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	return sum
}

func wantKept(t *testing.T, l *ledger.Ledger, want map[entry.Hash]bool) {
	t.Helper()
	for sum, kept := range want {
		if b, err := l.Manifest(sum); (err == nil) != kept || !kept && !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("manifest %s: %q, %v; kept should be %t", sum, b, err, kept)
		}
	}
}

// TestUnusedManifestsAge: what no statement names is removed after a week, what one names
// stays for ever; over restarts.
func TestUnusedManifestsAge(t *testing.T) {
	clock := ledgertest.NewClock()
	cfg := config(vfs.NewMem())
	cfg.Clock = clock.Now
	l := open(t, cfg)
	a, b, c := uploaded(t, l, "x", "a"), uploaded(t, l, "x", "b"), uploaded(t, l, "x", "c")
	naming(t, l, "one", b)
	uploaded(t, l, "x", "b") // named already
	shut(t, l)
	l = open(t, cfg)
	clock.Add(2 * 24 * time.Hour)
	uploaded(t, l, "y", "c") // waits anew
	clock.Add(ledger.UnusedAge - 24*time.Hour)
	d := uploaded(t, l, "x", "d")
	wantKept(t, l, map[entry.Hash]bool{a: false, b: true, c: true, d: true})
	shut(t, l)
	l = open(t, cfg)
	defer shut(t, l)
	wantKept(t, l, map[entry.Hash]bool{a: false, b: true, c: true, d: true})
	clock.Add(ledger.UnusedAge + time.Hour)
	uploaded(t, l, "x", "a") // is taken again
	wantKept(t, l, map[entry.Hash]bool{a: true, b: true, c: false, d: false})
	s := ledgertest.Submission("late")
	s.Manifest = c
	if r := l.Append(context.Background(), []ledger.Submission{s})[0]; !errors.Is(r.Err, ledger.ErrNotFound) {
		t.Errorf("a statement that names a removed manifest: %v", r.Err)
	}
}

// TestUnusedManifestsAreFew: an owner has only so many bytes, and all together.
func TestUnusedManifestsAreFew(t *testing.T) {
	cfg := config(vfs.NewMem())
	cfg.MaxUnused, cfg.MaxUnusedAll = 100, 150
	l := open(t, cfg)
	first := uploaded(t, l, "x", strings.Repeat("a", 60))
	full := func(owner string, n int) {
		t.Helper()
		if _, err := l.PutManifestOf(owner, []byte(strings.Repeat("z", n))); !errors.Is(err, ledger.ErrUnused) {
			t.Errorf("%d bytes of %q: %v", n, owner, err)
		}
	}
	full("x", 41)
	uploaded(t, l, "x", strings.Repeat("b", 40))
	uploaded(t, l, "x", strings.Repeat("a", 60)) // counts once
	full("x", 1)
	full("y", 51)
	uploaded(t, l, "y", strings.Repeat("c", 50))
	full("y", 1)
	shut(t, l)
	l = open(t, cfg)
	defer shut(t, l)
	full("x", 1)
	full("y", 1)
	naming(t, l, "one", first)
	uploaded(t, l, "x", strings.Repeat("d", 60))
	full("x", 1)
}

// TestNamedManifestsSurvive: whatever a loss of power leaves, and however long ago it was,
// what a statement names is not removed.
func TestNamedManifestsSurvive(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	clock := ledgertest.NewClock()
	mem := vfs.NewCrashableMem()
	cfg := config(mem)
	cfg.Clock = clock.Now
	l := open(t, cfg)
	type image struct {
		fs    *vfs.MemFS
		named int // acknowledged
	}
	var images []image
	named := 0
	for i := range 40 {
		sum := uploaded(t, l, "x", fmt.Sprint("manifest ", i))
		if rng.IntN(3) > 0 {
			naming(t, l, fmt.Sprint("statement ", i), sum)
			named++
		}
		if rng.IntN(8) == 0 {
			clock.Add(ledger.UnusedAge) // the next upload removes what waits
		}
		images = append(images, image{mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(3) * 50, RNG: rng}), named})
	}
	shut(t, l)
	for i, im := range images {
		cfg.FS = im.fs
		l := open(t, cfg)
		clock.Add(2 * ledger.UnusedAge)
		last := uploaded(t, l, "x", "the last")
		got := 0
		v := l.Signed()
		for n := range v.Size() {
			sum, err := v.ManifestOf(n)
			if err != nil {
				t.Fatal(err)
			}
			if sum.IsZero() {
				continue
			}
			got++
			wantKept(t, l, map[entry.Hash]bool{sum: true})
		}
		if got < im.named {
			t.Errorf("image %d: %d statements name manifests, %d were acknowledged", i, got, im.named)
		}
		wantKept(t, l, map[entry.Hash]bool{last: true})
		shut(t, l)
	}
}
