package ledgertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// Witnessed is what the world outside has seen of a log: receipts that callers
// got, and roots of checkpoints that left the process. A crash must not make any
// of it untrue.
type Witnessed struct {
	mu       sync.Mutex
	receipts map[entry.Hash]ledger.Result
	roots    map[uint64]entry.Hash
}

// NewWitnessed starts empty.
func NewWitnessed() *Witnessed {
	return &Witnessed{receipts: map[entry.Hash]ledger.Result{}, roots: map[uint64]entry.Hash{}}
}

// Clone copies the record at this moment.
func (w *Witnessed) Clone() *Witnessed {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := NewWitnessed()
	for k, v := range w.receipts {
		c.receipts[k] = v
	}
	for k, v := range w.roots {
		c.roots[k] = v
	}
	return c
}

// Answer records what a caller of Append got.
func (w *Witnessed) Answer(r ledger.Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.Err == nil {
		w.receipts[r.ID] = r
	}
}

// Note records a checkpoint that left the process, and reports a second root at
// its size.
func (w *Witnessed) Note(note []byte) error {
	if note == nil {
		return nil
	}
	n, err := checkpoint.ParseNote(note)
	if err != nil {
		return err
	}
	cp, err := checkpoint.ParseCheckpoint(n.Text)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if root, ok := w.roots[cp.Size]; ok && root != cp.Root {
		return fmt.Errorf("fork: two roots at size %d: %s and %s", cp.Size, root, cp.Root)
	}
	w.roots[cp.Size] = cp.Root
	return nil
}

// Verify checks that an open ledger keeps every promise in the record.
func (w *Witnessed) Verify(l *ledger.Ledger) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, want := range w.receipts {
		got, err := l.Receipt(id)
		if err != nil {
			return fmt.Errorf("lost: statement %s at %d: %w", id, want.Index, err)
		}
		if got.Index != want.Index || got.Time != want.Time || !bytes.Equal(got.Envelope, want.Envelope) {
			return fmt.Errorf("moved: statement %s from %d to %d", id, want.Index, got.Index)
		}
		if want.Receipt != nil && !bytes.Equal(got.Receipt, want.Receipt) {
			return fmt.Errorf("receipt of %d is another", want.Index)
		}
	}
	v := l.Signed()
	for size, root := range w.roots {
		if size > v.Size() {
			return fmt.Errorf("rolled back: size %d was shown, the log signs %d", size, v.Size())
		}
		if got, err := v.RootAt(size); err != nil || got != root {
			return fmt.Errorf("fork: another root at size %d (%v)", size, err)
		}
	}
	return nil
}

// Image is a file system as a power loss left it, with what was promised before.
type Image struct {
	Point   int // number of the I/O operation before which the power failed
	Percent int // of unsynced data that survived
	FS      *vfs.MemFS
	Seen    *Witnessed
	Fsck    bool // run over what the log has left, too
}

// Camera takes images of a crashable file system before its write operations.
type Camera struct {
	FS   vfs.FS // give this to the ledger
	mem  *vfs.MemFS
	seen *Witnessed

	mu    sync.Mutex
	rng   *rand.Rand
	point int
	every int
	take  func(Image)
	off   bool
}

// NewCamera wraps a crashable file system. take is called with an image for each
// of 0, 50 and 100 percent before every n-th write, sync, create, rename, link
// or remove, from whatever goroutine does it; it should keep them for later.
func NewCamera(mem *vfs.MemFS, seen *Witnessed, seed uint64, every int, take func(Image)) *Camera {
	c := &Camera{mem: mem, seen: seen, rng: rand.New(rand.NewPCG(seed, 1)), every: every, take: take}
	c.FS = errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			c.shoot()
		}
		return nil
	}))
	return c
}

func (c *Camera) shoot() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.point++
	if c.off || c.point%c.every != 0 {
		return
	}
	for _, p := range []int{0, 50, 100} {
		// The record first: what is promised after it may or may not be in the image.
		seen := c.seen.Clone()
		c.take(Image{Point: c.point, Percent: p, FS: c.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: p, RNG: c.rng}), Seen: seen})
	}
}

// Stop ends taking images and returns the number of operations seen.
func (c *Camera) Stop() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off = true
	return c.point
}

// Brief has Check read the index of those images only over which fsck runs too: short
// runs, under the race detector, set it before they begin.
var Brief bool

// Check opens an image with cfg and verifies it: nothing promised is lost, no
// second root at any size, every list and every commitment that stand for the signed
// and the published size are true, also after the log has gone on. Opening may also be
// refused with *ledger.NoSign if mayRefuse is set; a plain power loss must not
// need that.
func (i Image) Check(cfg func(fs vfs.FS, seen *Witnessed) ledger.Config, mayRefuse bool) error {
	return i.check(i.FS, cfg, mayRefuse)
}

// CheckDisk is Image.Check on a disk that was not lost: what a process left there.
func CheckDisk(fs vfs.FS, seen *Witnessed, cfg func(fs vfs.FS, seen *Witnessed) ledger.Config, mayRefuse bool) error {
	return Image{Percent: 100, Seen: seen}.check(fs, cfg, mayRefuse)
}

func (i Image) check(fs vfs.FS, cfg func(fs vfs.FS, seen *Witnessed) ledger.Config, mayRefuse bool) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("power lost before operation %d, %d %% of unsynced data kept: %w", i.Point, i.Percent, err)
		}
	}()
	set := cfg(fs, i.Seen)
	l, err := ledger.Open(context.Background(), set)
	var refused *ledger.NoSign
	if errors.As(err, &refused) && mayRefuse {
		return nil
	}
	if err != nil {
		return err
	}
	index := wholeIndex
	if Brief && !i.Fsck {
		index = func(*ledger.Ledger) error { return nil }
	}
	ierr := index(l)
	// What was durable and not yet promised is signed first.
	r := l.Append(context.Background(), []ledger.Submission{Submission(fmt.Sprintf("after %d %d\ntopic after", i.Point, i.Percent))})[0]
	if r.Err == nil {
		i.Seen.Answer(r)
		r.Err = i.Seen.Note(l.Published().Checkpoint())
	}
	err = errors.Join(ierr, r.Err, i.Seen.Verify(l), index(l), l.Close())
	if err == nil && i.Fsck {
		return sound(fs, set)
	}
	return err
}

// sound says what fsck finds in a ledger that was closed.
func sound(fs vfs.FS, cfg ledger.Config) error {
	rep, err := ledger.Fsck(context.Background(), ledger.FsckConfig{Dir: cfg.Dir, Origin: cfg.Origin, Key: cfg.Signer.VKey(), Policy: cfg.Policy,
		FS: fs, Progress: func(string, uint64, uint64) {}})
	if err == nil && len(rep.Damage) > 0 {
		err = fmt.Errorf("fsck: %v", rep.Damage)
	}
	return err
}

// CheckTwice loses the power again while the image is being opened, at every
// n-th operation, and checks those images.
func (i Image) CheckTwice(cfg func(fs vfs.FS, seen *Witnessed) ledger.Config, seed uint64, every int) (images int, err error) {
	var again []Image
	cam := NewCamera(i.FS, i.Seen, seed, every, func(j Image) { again = append(again, j) })
	if err := i.check(cam.FS, cfg, false); err != nil {
		return 0, err
	}
	cam.Stop()
	for _, j := range again {
		j.Fsck = i.Fsck
		if err := j.Check(cfg, false); err != nil {
			return len(again), fmt.Errorf("during recovery (first: operation %d, %d %%): %w", i.Point, i.Percent, err)
		}
	}
	return len(again), nil
}

// Fatalf makes Config.Fatal of a test stop the goroutine that called Pebble, as
// the end of the process would.
func Fatalf(t testing.TB) func(string) {
	return func(msg string) { t.Errorf("the store gave up: %s", msg); panic(msg) }
}
