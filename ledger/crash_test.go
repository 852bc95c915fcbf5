package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// crashConfig is a ledger whose checkpoints, on their way to the witness, are
// recorded as seen by the world.
func crashConfig(fs vfs.FS, seen *ledgertest.Witnessed) ledger.Config {
	cfg := config(fs)
	w := ledgertest.NewCosigner("w", cfg.Signer.VKey())
	w.Before = func(_ context.Context, note []byte) error { return seen.Note(note) }
	cfg.Cosigner, cfg.Policy = w, w.Policy()
	cfg.RotateBytes = 6 << 10
	return cfg
}

// modes are ways to run a ledger that a power loss may come upon.
var modes = map[string]func(fs vfs.FS, seen *ledgertest.Witnessed) ledger.Config{
	"each commit published": crashConfig,
	// Answers are given while their checkpoint is not published.
	"late quorum": func(fs vfs.FS, seen *ledgertest.Witnessed) ledger.Config {
		cfg := crashConfig(fs, seen)
		w := cfg.Cosigner.(*ledgertest.Cosigner)
		show, asked := w.Before, 0
		w.Before = func(ctx context.Context, note []byte) error {
			if asked++; asked%3 != 0 {
				return errors.Join(show(ctx, note), errLate)
			}
			return show(ctx, note)
		}
		cfg.CosignWait = time.Nanosecond
		return cfg
	},
	// Commits without an index commitment come between those with one.
	"spaced commitments": func(fs vfs.FS, seen *ledgertest.Witnessed) ledger.Config {
		cfg := crashConfig(fs, seen)
		cfg.PublishEvery, cfg.MaxBatch = time.Hour, 1
		return cfg
	},
	"no witness": func(fs vfs.FS, seen *ledgertest.Witnessed) ledger.Config {
		cfg := crashConfig(fs, seen)
		cfg.Cosigner, cfg.Policy = nil, nil
		return cfg
	},
}

// workload appends from two goroutines, with manifests, batches, repeats and a
// restart in the middle.
func workload(t *testing.T, open func() *ledger.Ledger, seen *ledgertest.Witnessed, n int) {
	for half := range 2 {
		l := open()
		var wg sync.WaitGroup
		for g := range 2 {
			wg.Go(func() {
				for i := range n {
					subs := []ledger.Submission{
						ledgertest.Submission(fmt.Sprintf("%d %d %d a\ntopic t%d\ntopic g%d\nadd c%d", half, g, i, i%5, g, g)),
						ledgertest.Submission(fmt.Sprintf("%d %d %d b\npublic\ntopic t%d\nset k%d v%d", half, g, i, i%5, g, i)),
					}
					if i%3 == 0 {
						sum, err := l.PutManifest(fmt.Appendf(nil, "manifest %d %d %d", half, g, i))
						if err != nil {
							t.Error(err)
						}
						subs[0].Manifest = sum
					}
					if i%4 == 3 { // a repeat, and a longer envelope
						subs = append(subs, subs[0], ledgertest.Submission(fmt.Sprintf("%d %d %d\n%0900d", half, g, i, i)))
					}
					for _, r := range l.Append(context.Background(), subs) {
						if r.Err != nil {
							t.Error(r.Err)
						}
						seen.Answer(r)
					}
				}
			})
		}
		wg.Wait()
		shut(t, l)
	}
}

// TestPowerLoss loses the power before write operations of a short workload, keeps
// 0, 50 and 100 percent of what was not synced, and opens what is left; now and then
// it loses the power again meanwhile. The tests take all operations of one run in each
// mode, or some if they are to be short; FABTRAIL_IMAGES makes it a campaign of longer
// runs, until there were so many images, or the time of the test is nearly over.
func TestPowerLoss(t *testing.T) {
	want := number(t, "FABTRAIL_IMAGES", 0)
	loss := powerLoss{t: t, every: 1, second: 31, n: 6}
	if testing.Short() {
		loss.every, loss.second = 42, 84
	}
	if want > 0 {
		loss.n, loss.second, loss.fsck = 12, 2, true
	}
	if end, ok := t.Deadline(); ok && want > 0 {
		loss.end = end.Add(-time.Minute)
	}
	for round := uint64(0); round == 0 || int(loss.images.Load()) < want && !loss.enough(); round++ {
		for name, cfg := range modes {
			loss.run(name, cfg, round)
			if want > 0 {
				t.Logf("%d images, the last with %s, seed %d", loss.images.Load(), name, round)
			}
		}
	}
	t.Logf("power loss: %d operations, %d images, %d of them of a second loss, fsck over %d, %d failed",
		loss.points, loss.images.Load(), loss.again.Load(), loss.fscked.Load(), loss.failed.Load())
}

// TestLossWhileTakingOver: a crash kept a commit in the database and not in the
// journal; the power is lost again at every point of the start after that, when the
// journal has the segment before and one that begins with the database's entries.
func TestLossWhileTakingOver(t *testing.T) {
	cfg := func(fs vfs.FS, seen *ledgertest.Witnessed) ledger.Config {
		c := crashConfig(fs, seen)
		c.Cosigner.(*ledgertest.Cosigner).Before = func(context.Context, []byte) error { return errLate }
		c.CosignWait = time.Nanosecond
		return c
	}
	mem := vfs.NewCrashableMem()
	seen := ledgertest.NewWitnessed()
	l := open(t, cfg(mem, seen))
	before := clone(mem)
	seen.Answer(one(t, l, "kept\ntopic t"))
	fs := clone(mem)
	shut(t, l)
	replace(t, fs, before, "log/journal")
	if n, err := (ledgertest.Image{FS: fs, Seen: seen}).CheckTwice(cfg, 1, 1); err != nil || n < 100 {
		t.Fatalf("%d images: %v", n, err)
	}
}

// TestLossAfterKill: a process was killed before it had synced its last journal
// record; the next one reads it, goes on from there, and the power is lost.
func TestLossAfterKill(t *testing.T) {
	mem := vfs.NewCrashableMem()
	seen := ledgertest.NewWitnessed()
	l := open(t, crashConfig(mem, seen))
	seen.Answer(one(t, l, "before\ntopic t"))
	shut(t, l)
	var armed atomic.Bool
	l = open(t, crashConfig(errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if armed.Load() && op.Kind == errorfs.OpFileSync && strings.HasSuffix(op.Path, ".journal") {
			return errors.New("killed")
		}
		return nil
	})), seen))
	armed.Store(true)
	if r := l.Append(context.Background(), []ledger.Submission{ledgertest.Submission("last\ntopic t")})[0]; !errors.Is(r.Err, ledger.ErrFailed) {
		t.Fatal(r.Err)
	}
	_ = l.Close()
	if n, err := (ledgertest.Image{FS: mem, Seen: seen}).CheckTwice(crashConfig, 1, 1); err != nil || n < 100 {
		t.Fatalf("%d images: %v", n, err)
	}
}

// TestLossWhileDropping: the power was lost when a new segment of the journal had
// begun and the database knew nothing of it; it is lost again at every point of the start
// after that, also when the first of the two segments is gone.
func TestLossWhileDropping(t *testing.T) {
	mem := vfs.NewCrashableMem()
	seen := ledgertest.NewWitnessed()
	var old []string
	var armed atomic.Bool // after old
	var image atomic.Pointer[ledgertest.Image]
	l := open(t, crashConfig(errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if armed.Load() && op.Kind == errorfs.OpFileSync && strings.HasSuffix(op.Path, ".journal") && !slices.Contains(old, op.Path) {
			armed.Store(false)
			record := seen.Clone()
			image.Store(&ledgertest.Image{FS: mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))}), Seen: record, Fsck: true})
		}
		return nil
	})), seen))
	old = files(t, mem, "log/journal")
	armed.Store(true)
	for i := 0; image.Load() == nil; i++ {
		seen.Answer(one(t, l, fmt.Sprintf("%d\ntopic t\n%0500d", i, i)))
	}
	shut(t, l)
	if n := len(files(t, image.Load().FS, "log/journal")); n != 2 {
		t.Fatalf("%d segments, want the old one and the new", n)
	}
	if n, err := image.Load().CheckTwice(crashConfig, 1, sparse()); err != nil || n < 100 {
		t.Fatalf("%d images: %v", n, err)
	}
}

// powerLoss is a run of TestPowerLoss.
type powerLoss struct {
	t                     *testing.T
	every, second         int // operations from one image to the next, and while one starts
	n, points             int
	images, again, failed atomic.Int64
	fsck                  bool         // over each image, not a part of them
	fscked                atomic.Int64 // images that fsck ran over, but for those of a second loss
	end                   time.Time    // zero: none
}

// enough failures to go on with, or time.
func (p *powerLoss) enough() bool {
	return p.failed.Load() > 9 || !p.end.IsZero() && time.Now().After(p.end)
}

func (p *powerLoss) run(name string, cfg func(fs vfs.FS, seen *ledgertest.Witnessed) ledger.Config, seed uint64) {
	mem := vfs.NewCrashableMem()
	seen := ledgertest.NewWitnessed()
	work := make(chan ledgertest.Image)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := range work {
				if p.enough() {
					continue
				}
				// A part of them changes with the seed.
				i.Fsck = p.fsck || (i.Point/p.every+i.Percent/50+int(seed))%8 == 0
				if i.Fsck {
					p.fscked.Add(1)
				}
				if err := p.check(i, cfg, p.images.Add(1)%97 == 7); err != nil {
					p.failed.Add(1)
					p.t.Errorf("%s, seed %d: %v", name, seed, err)
				}
			}
		})
	}
	cam := ledgertest.NewCamera(mem, seen, seed, p.every, func(i ledgertest.Image) { work <- i })
	workload(p.t, func() *ledger.Ledger { return open(p.t, cfg(cam.FS, seen)) }, seen, p.n)
	p.points += cam.Stop()
	close(work)
	wg.Wait()
}

func (p *powerLoss) check(i ledgertest.Image, cfg func(fs vfs.FS, seen *ledgertest.Witnessed) ledger.Config, twice bool) error {
	if !twice {
		return i.Check(cfg, false)
	}
	k, err := i.CheckTwice(cfg, 5, p.second)
	p.again.Add(int64(k))
	p.images.Add(int64(k))
	return err
}
