package ledger_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/cockroachdb/pebble/v2/vfs"
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

// workload appends from two goroutines, with manifests, batches, repeats and a
// restart in the middle.
func workload(t *testing.T, fs vfs.FS, seen *ledgertest.Witnessed, n int) {
	for half := range 2 {
		l := open(t, crashConfig(fs, seen))
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

// TestPowerLoss loses the power before write operations of a short workload (all
// of them in a campaign), keeps 0, 50 and 100 percent of what was not synced, and
// opens what is left; now and then it loses the power again meanwhile.
func TestPowerLoss(t *testing.T) {
	mem := vfs.NewCrashableMem()
	seen := ledgertest.NewWitnessed()
	var images []ledgertest.Image
	cam := ledgertest.NewCamera(mem, seen, 4, max(5/campaign(), 1), func(i ledgertest.Image) { images = append(images, i) })
	workload(t, cam.FS, seen, 6)
	points := cam.Stop()
	work := make(chan ledgertest.Image)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := range work {
				i.FS, i.Seen = clone(i.FS), i.Seen.Clone()
				if err := i.Check(crashConfig, false); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, i := range images {
		work <- i
	}
	close(work)
	wg.Wait()
	again := 0
	for n := 7; n < len(images); n += 97 {
		k, err := ledgertest.Image{Point: images[n].Point, Percent: images[n].Percent, FS: images[n].FS, Seen: images[n].Seen}.CheckTwice(crashConfig, 5, max(17/campaign(), 1))
		if err != nil {
			t.Error(err)
		}
		again += k
	}
	t.Logf("%d operations, %d images, %d of a second loss", points, len(images), again)
}
