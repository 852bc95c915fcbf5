package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// The directories of a ledger, and of a snapshot of one.
const (
	truthDir   = "truth"
	journalDir = "journal"
)

// Snapshot makes a consistent copy of the open ledger in the directory dst, which
// must not be there, on the same file system: dst/truth and dst/journal. Opening
// the copy gives the ledger at a size that is at least the one returned, and as
// durable. The database's tables are hard links where the file system has them:
// whoever keeps the copy must copy these files, or damage to one is damage to
// both. Appends go on meanwhile.
func (l *Ledger) Snapshot(ctx context.Context, dst string) (size uint64, err error) {
	l.held.RLock()
	defer l.held.RUnlock()
	if err := l.refuses(); err != nil {
		return 0, err
	}
	fs := l.cfg.FS
	if _, err := fs.Stat(dst); err == nil {
		return 0, fmt.Errorf("snapshot: %s is there already", dst)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("snapshot: %w", err), fs.RemoveAll(dst))
		}
	}()
	// A rotation in between would drop segments that the copied database needs.
	for !l.notes.rotating.CompareAndSwap(false, true) {
		select {
		case <-time.After(time.Millisecond):
		case <-l.failed:
			return 0, l.Err()
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	defer l.notes.rotating.Store(false)
	if err := fs.MkdirAll(dst, 0o755); err != nil {
		return 0, err
	}
	if err := l.s.db.Checkpoint(fs.PathJoin(dst, truthDir), pebble.WithFlushedWAL()); err != nil {
		return 0, err
	}
	// The database first: what it says was signed is in the journal by then. It
	// may hold entries that the journal does not have yet: they are waited for, so
	// that the copy holds nothing that a crash could still take back.
	head, err := l.s.head()
	if err != nil {
		return 0, err
	}
	for l.durable.Load() < head.Size {
		select {
		case <-time.After(time.Millisecond):
		case <-l.failed:
			return 0, l.Err()
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	if err := l.j.copyTo(ctx, fs.PathJoin(dst, journalDir)); err != nil {
		return 0, err
	}
	return head.Size, syncDir(fs, dst)
}

// copyTo copies what is durable of the journal into a new directory. The caller
// keeps it from being rotated.
func (j *journal) copyTo(ctx context.Context, dir string) error {
	j.mu.Lock()
	oldest, newest, synced, err := j.oldest, j.segment, j.synced, j.err
	j.mu.Unlock()
	if err != nil {
		return err
	}
	if err := j.fs.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for n := oldest; n <= newest; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		limit := int64(-1)
		if n == newest {
			limit = synced // what follows may be half a record
		}
		if err := copyFile(j.fs, j.fs.PathJoin(j.dir, segmentName(n)), j.fs.PathJoin(dir, segmentName(n)), limit); err != nil {
			return err
		}
	}
	return syncDir(j.fs, dir)
}

// copyFile copies the first limit bytes of a file, all if limit is negative, and
// syncs the copy.
func copyFile(fs vfs.FS, from, to string, limit int64) (err error) {
	in, err := fs.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := fs.Create(to, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	var r io.Reader = in
	if limit >= 0 {
		r = io.LimitReader(in, limit)
	}
	n, err := io.Copy(out, r)
	if err == nil && limit >= 0 && n != limit {
		err = fmt.Errorf("%s has %d bytes of %d", from, n, limit)
	}
	return errors.Join(err, out.Sync())
}

// Hold takes both locks of a ledger that is not open, so that its files can be
// copied or moved: ErrLocked when it is open. release gives them back.
func Hold(fs vfs.FS, dir string) (release func() error, err error) {
	cfg := &Config{Dir: dir, FS: fs}
	cfg.defaults()
	c := newCore(cfg, true, nil)
	for _, d := range []string{c.dbDir, c.jDir} {
		if _, err := fs.Stat(d); err != nil {
			return nil, err
		}
	}
	if err := c.makeDirs(); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c.close, nil
}
