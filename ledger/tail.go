package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"fabtrail.dev/fabtrail/ledger/entry"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// FolderTail is the Tail of what is left of a ledger on a disk: of its journal,
// and of its database as far as that can be read. It changes nothing there.
type FolderTail struct {
	h    *history
	c    *core
	s    *store // nil if there is none that opens
	head headRow
	// Lost says what of it cannot be read; empty if all can.
	Lost []string
}

// OpenTail opens what is left in a folder: a ledger's directory, a data folder
// that has it under the name ledger, or a folder of journal files. ErrLocked when
// a process has it open.
func OpenTail(fs vfs.FS, folder string) (*FolderTail, error) {
	cfg := &Config{FS: fs, Logf: func(string, ...any) {}, Fatal: func(string) {}}
	cfg.Dir = folder
	if _, err := fs.Stat(fs.PathJoin(folder, "ledger")); err == nil {
		cfg.Dir = fs.PathJoin(folder, "ledger")
	}
	cfg.defaults()
	t := &FolderTail{c: newCore(cfg, true, func(error) {})}
	names, err := fs.List(folder)
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		if strings.HasSuffix(n, segmentSuffix) {
			t.c.jDir = folder
		}
	}
	for _, d := range []struct {
		path string
		open func() error
	}{{t.c.jDir, t.openJournal}, {t.c.dbDir, t.openStore}} {
		if _, err := fs.Stat(d.path); err != nil {
			t.Lost = append(t.Lost, err.Error())
			continue
		}
		if err := d.open(); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", d.path, err), t.Close())
		}
	}
	if t.s == nil && (t.h == nil || !t.h.exists) {
		return nil, errors.Join(fmt.Errorf("%s has neither a journal nor a database that can be read: %s", folder, strings.Join(t.Lost, "; ")), t.Close())
	}
	return t, nil
}

func (t *FolderTail) openJournal() error {
	if err := t.c.lockJournal(); err != nil {
		return err
	}
	var err error
	if t.h, err = readJournal(t.c.cfg.FS, t.c.jDir); err != nil {
		t.Lost = append(t.Lost, err.Error())
	} else if t.h.torn != nil {
		t.Lost = append(t.Lost, t.h.torn.Error())
	}
	return nil
}

// openStore is given up, not fatal, when the database does not open.
func (t *FolderTail) openStore() error {
	if err := t.c.lockStore(); err != nil {
		return err
	}
	s, err := openStore(t.c.dbDir, t.c.options(true))
	if err == nil {
		t.head, err = s.head()
		if err == nil {
			t.s, t.c.s = s, s
			return nil
		}
		err = errors.Join(err, s.close())
	}
	t.Lost = append(t.Lost, fmt.Sprintf("the database in %s: %v", t.c.dbDir, err))
	return nil
}

// Head implements Tail.
func (t *FolderTail) Head(context.Context) (Head, error) {
	if t.h != nil && t.h.exists && t.h.size() >= t.head.Size {
		return Head{Size: t.h.size(), Root: t.h.root()}, nil
	}
	return Head{Size: t.head.Size, Root: t.head.Root}, nil
}

// Read implements Tail.
func (t *FolderTail) Read(_ context.Context, from uint64, n int) ([]Leaf, error) {
	if t.h != nil && t.h.exists && from >= t.h.base.size && from < t.h.size() {
		part := t.h.leaves[from-t.h.base.size:]
		return part[:min(len(part), n)], nil
	}
	if t.s != nil && from < t.head.Size {
		return t.s.leaves(from, int(min(uint64(n), t.head.Size-from)))
	}
	if t.h != nil && t.h.exists && from < t.h.base.size {
		return nil, fmt.Errorf("%w: the journal in %s starts at entry %d", ErrGap, t.c.jDir, t.h.base.size)
	}
	return nil, fmt.Errorf("%w: nothing in %s follows", ErrGap, t.c.cfg.Dir)
}

// Notes implements Tail.
func (t *FolderTail) Notes(_ context.Context, above uint64) (notes [][]byte, _ error) {
	if t.h != nil {
		if t.h.signed != nil {
			notes = append(notes, t.h.signed)
		}
		notes = append(notes, t.h.cosigned...)
	}
	if t.s == nil {
		return notes, nil
	}
	for _, key := range [][]byte{metaSigned, metaLatest} {
		if n, err := t.s.get(key); err == nil && n != nil { // what is lost here others may show
			notes = append(notes, n)
		}
	}
	if err := t.s.each(keyNote, func(k, v []byte) error {
		if len(k) == 9 && binary.BigEndian.Uint64(k[1:]) > above {
			notes = append(notes, append([]byte(nil), v...))
		}
		return nil
	}); err != nil {
		t.Lost = append(t.Lost, fmt.Sprintf("published notes in %s: %v", t.c.dbDir, err))
	}
	return notes, nil
}

// Close gives back files and locks.
func (t *FolderTail) Close() error {
	err := t.c.close()
	if len(t.Lost) > 0 && errors.Is(err, ErrDamaged) {
		return nil // a database that reads have panicked on does not close well, either
	}
	return err
}

// NewLeaf makes the leaf of an entry as an engine keeps it; manifest is nil if it
// names none.
func NewLeaf(e entry.Entry, manifest []byte) (Leaf, error) {
	id, err := identity(e)
	return Leaf{ID: id, Value: e.Leaf(), Cargo: e.Cargo(), Manifest: manifest}, err
}
