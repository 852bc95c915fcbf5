package ledger

import (
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// orderFS closes a window that Pebble 2.1 leaves open: it creates the marker
// that names the new MANIFEST before the MANIFEST's own directory entry is
// synced. A power loss in between may keep the marker alone on file systems
// that do not order entries, and the database then does not open.
type orderFS struct{ vfs.FS }

// Create implements vfs.FS.
func (fs orderFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(fs.PathBase(name), "marker.") {
		if err := syncDir(fs.FS, fs.PathDir(name)); err != nil {
			return nil, err
		}
	}
	return fs.FS.Create(name, category)
}

// Unwrap implements vfs.FS.
func (fs orderFS) Unwrap() vfs.FS { return fs.FS }
