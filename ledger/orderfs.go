package ledger

import (
	"bufio"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// orderFS closes a window that Pebble 2.1 leaves open: it creates the marker
// that names the new MANIFEST before the MANIFEST's own directory entry is
// synced. A power loss in between may keep the marker alone on file systems
// that do not order entries, and the database then does not open.
//
// It also gathers what Pebble writes to tables and blob files, a block of 4 KiB at a
// time, into fewer writes: they were a fiftieth of an append.
type orderFS struct{ vfs.FS }

// Create implements vfs.FS.
func (fs orderFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(fs.PathBase(name), "marker.") {
		if err := syncDir(fs.FS, fs.PathDir(name)); err != nil {
			return nil, err
		}
	}
	f, err := fs.FS.Create(name, category)
	if ext := filepath.Ext(name); err == nil && (ext == ".sst" || ext == ".blob") {
		f = &gatheringFile{f, bufio.NewWriterSize(f, gatherBytes)}
	}
	return f, err
}

// Unwrap implements vfs.FS.
func (fs orderFS) Unwrap() vfs.FS { return fs.FS }

const gatherBytes = 64 << 10

// gatheringFile is a file that is written from its beginning to its end, then synced and
// closed, and read only after that. A write that fails is told of by whichever call comes next.
type gatheringFile struct {
	vfs.File
	w *bufio.Writer
}

// Write implements vfs.File.
func (f *gatheringFile) Write(p []byte) (int, error) { return f.w.Write(p) }

// Sync implements vfs.File.
func (f *gatheringFile) Sync() error {
	if err := f.w.Flush(); err != nil {
		return err
	}
	return f.File.Sync()
}

// SyncData implements vfs.File.
func (f *gatheringFile) SyncData() error {
	if err := f.w.Flush(); err != nil {
		return err
	}
	return f.File.SyncData()
}

// SyncTo implements vfs.File.
func (f *gatheringFile) SyncTo(length int64) (fullSync bool, err error) {
	if err := f.w.Flush(); err != nil {
		return false, err
	}
	return f.File.SyncTo(length)
}

// Stat implements vfs.File.
func (f *gatheringFile) Stat() (vfs.FileInfo, error) {
	if err := f.w.Flush(); err != nil {
		return nil, err
	}
	return f.File.Stat()
}

// Close implements vfs.File.
func (f *gatheringFile) Close() error {
	err := f.w.Flush()
	if e := f.File.Close(); err == nil {
		err = e
	}
	return err
}
