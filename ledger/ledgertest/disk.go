package ledgertest

import (
	"errors"
	"os"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// DiskFault is what an injected failure does to one write operation of a disk.
type DiskFault int

// Faults: EIO with nothing done; EIO although it is done; ENOSPC with half of a
// write done (of another operation: nothing).
const (
	DiskGood DiskFault = iota
	DiskRefuses
	DiskLies
	DiskFull
)

// FaultyDisk fails chosen write operations: writes, syncs, and whatever changes
// folders. It makes nothing durable, as it is for processes that end, not for
// machines that do.
type FaultyDisk struct {
	vfs.FS
	mu   sync.Mutex
	n    int
	plan map[int]DiskFault
}

// NewFaultyDisk wraps fs. The plan says what happens to which operation, counted
// from 0.
func NewFaultyDisk(fs vfs.FS, plan map[int]DiskFault) *FaultyDisk {
	return &FaultyDisk{FS: fs, plan: plan}
}

// Operations is how many there were.
func (d *FaultyDisk) Operations() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.n
}

func (d *FaultyDisk) next() DiskFault {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.plan[d.n]
	d.n++
	return f
}

func fail(op string, err error) error {
	return &os.PathError{Op: op, Path: "injected", Err: err}
}

// do runs an operation that is done wholly or not at all.
func (d *FaultyDisk) do(op string, f func() error) error {
	switch d.next() {
	case DiskRefuses:
		return fail(op, syscall.EIO)
	case DiskFull:
		return fail(op, syscall.ENOSPC)
	case DiskLies:
		return errors.Join(f(), fail(op, syscall.EIO))
	}
	return f()
}

// open is do for what gives a file.
func (d *FaultyDisk) open(op string, f func() (vfs.File, error)) (vfs.File, error) {
	var file vfs.File
	err := d.do(op, func() (err error) { file, err = f(); return err })
	if err != nil {
		if file != nil {
			err = errors.Join(err, file.Close())
		}
		return nil, err
	}
	return &faultyFile{file, d}, nil
}

// Create implements vfs.FS.
func (d *FaultyDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return d.open("create", func() (vfs.File, error) { return d.FS.Create(name, c) })
}

// OpenReadWrite implements vfs.FS.
func (d *FaultyDisk) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := d.FS.OpenReadWrite(name, c, opts...)
	if err != nil {
		return nil, err
	}
	return &faultyFile{f, d}, nil
}

// OpenDir implements vfs.FS.
func (d *FaultyDisk) OpenDir(name string) (vfs.File, error) {
	f, err := d.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &faultyFile{f, d}, nil
}

// ReuseForWrite implements vfs.FS.
func (d *FaultyDisk) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return d.open("reuse", func() (vfs.File, error) { return d.FS.ReuseForWrite(from, to, c) })
}

// Link implements vfs.FS.
func (d *FaultyDisk) Link(from, to string) error {
	return d.do("link", func() error { return d.FS.Link(from, to) })
}

// Remove implements vfs.FS.
func (d *FaultyDisk) Remove(name string) error {
	return d.do("remove", func() error { return d.FS.Remove(name) })
}

// RemoveAll implements vfs.FS.
func (d *FaultyDisk) RemoveAll(name string) error {
	return d.do("remove", func() error { return d.FS.RemoveAll(name) })
}

// Rename implements vfs.FS.
func (d *FaultyDisk) Rename(from, to string) error {
	return d.do("rename", func() error { return d.FS.Rename(from, to) })
}

// MkdirAll implements vfs.FS.
func (d *FaultyDisk) MkdirAll(dir string, perm os.FileMode) error {
	return d.do("mkdir", func() error { return d.FS.MkdirAll(dir, perm) })
}

type faultyFile struct {
	vfs.File
	d *FaultyDisk
}

func (f *faultyFile) write(p []byte, write func([]byte) (int, error)) (int, error) {
	switch f.d.next() {
	case DiskRefuses:
		return 0, fail("write", syscall.EIO)
	case DiskFull:
		n, err := write(p[:len(p)/2])
		return n, errors.Join(err, fail("write", syscall.ENOSPC))
	case DiskLies:
		_, err := write(p)
		return 0, errors.Join(err, fail("write", syscall.EIO))
	}
	return write(p)
}

// Write implements vfs.File.
func (f *faultyFile) Write(p []byte) (int, error) { return f.write(p, f.File.Write) }

// WriteAt implements vfs.File.
func (f *faultyFile) WriteAt(p []byte, at int64) (int, error) {
	return f.write(p, func(p []byte) (int, error) { return f.File.WriteAt(p, at) })
}

// Sync implements vfs.File.
func (f *faultyFile) Sync() error { return f.d.do("sync", func() error { return nil }) }

// SyncData implements vfs.File.
func (f *faultyFile) SyncData() error { return f.d.do("sync", func() error { return nil }) }

// SyncTo implements vfs.File.
func (f *faultyFile) SyncTo(int64) (bool, error) {
	return true, f.d.do("sync", func() error { return nil })
}
