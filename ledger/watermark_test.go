package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// room is what a file system says of the disk with the ledger's folder.
type room struct {
	free, total uint64
	err         error
}

// sized is a file system on a disk of a size.
type sized struct {
	vfs.FS
	disk *atomic.Pointer[room]
}

func (s sized) GetDiskUsage(dir string) (vfs.DiskUsage, error) {
	if dir != "log" {
		return vfs.DiskUsage{}, fmt.Errorf("asked about %s", dir)
	}
	d := s.disk.Load()
	return vfs.DiskUsage{AvailBytes: d.free, TotalBytes: d.total}, d.err
}

// TestDiskWatermark is S8: below 10 % or 2 GiB of free space nothing is written,
// what is there is read, and writing goes on when there is space again. A disk
// that cannot be asked is not called full.
func TestDiskWatermark(t *testing.T) {
	const gib = 1 << 30
	var now atomic.Pointer[room]
	now.Store(&room{free: 100 * gib, total: 100 * gib})
	cfg := config(sized{vfs.NewMem(), &now})
	cfg.DiskFree = nil // the file system is asked
	l := open(t, cfg)
	defer shut(t, l)
	first := one(t, l, "first")
	for i, c := range []struct {
		room
		full bool
	}{
		{room{10 * gib, 100 * gib, nil}, false},
		{room{10*gib - 1, 100 * gib, nil}, true},
		{room{2 * gib, 10 * gib, nil}, false},
		{room{2*gib - 1, 10 * gib, nil}, true},
		{room{0, 0, errors.New("no answer")}, false},
	} {
		now.Store(&c.room)
		r := l.Append(context.Background(), []ledger.Submission{ledgertest.Submission(fmt.Sprint("next ", i))})[0]
		if full := errors.Is(r.Err, ledger.ErrStorageFull); full != c.full || !full && r.Err != nil {
			t.Errorf("%d of %d bytes free: %v, want full %t", c.free, c.total, r.Err, c.full)
		}
		if _, err := l.PutManifest(fmt.Appendf(nil, "manifest %d", i)); errors.Is(err, ledger.ErrStorageFull) != c.full {
			t.Errorf("%d of %d bytes free: manifest: %v", c.free, c.total, err)
		}
		if _, err := l.Published().Entry(first.Index); err != nil {
			t.Errorf("reading: %v", err)
		}
	}
}
