package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// A clean end writes what the index keeps in memory to files, so that the next
// start need not read all rows: the newest version, and the published one where
// that is older. Each is
//
//	snapshot (unitindex) | covers u64 | index root (32) | SHA-256 of all before (32)
//
// A file is a cache, never trusted: it counts only if it is of the very version
// that is wanted, whole, and gives the root that the log's index commitment at
// covers has. Anything else about it is logged, and the index is built from its
// rows, as after a crash.
//
// What a build from rows also shows, that the rows are whole, a file cannot show.
// No answer and no commitment rests on that: each reads the rows of its bucket and
// holds them to the tree in memory, so a row that is lost or damaged is an error,
// never another root or another list. And the rows are swept in the background
// (sweepIndex), so that damage stops the ledger soon, and not when somebody asks.
const (
	indexNewest    = "index.newest"
	indexPublished = "index.published"

	indexTrailer = 8 + 32 + 32
)

// saveIndex writes the files. That it cannot costs the next start time, no more.
func (l *Ledger) saveIndex() {
	tip, covers := l.b.index.tip, l.b.index.covers
	if tip.Len() < l.cfg.IndexFile {
		return
	}
	err := l.writeIndex(indexNewest, covers, tip)
	if p := l.published.v.Load(); err == nil && p.covers != covers {
		err = l.writeIndex(indexPublished, p.covers, p.index)
	}
	if err != nil {
		l.cfg.Logf("ledger: the index is not kept for the next start, which takes longer: %v", err)
	}
}

func (l *Ledger) writeIndex(name string, covers uint64, t *unitindex.Tree) (err error) {
	fs := l.cfg.FS
	name = fs.PathJoin(l.cfg.Dir, name)
	f, err := fs.Create(name+".new", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	sum := sha256.New()
	w := io.MultiWriter(sum, f) // a file may do as it likes with what it was given
	err = t.WriteSnapshot(w)
	if err == nil {
		root := t.Root()
		_, err = w.Write(append(binary.BigEndian.AppendUint64(nil, covers), root[:]...))
	}
	if err == nil {
		_, err = f.Write(sum.Sum(nil))
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(name+".new", name); err != nil {
		return err
	}
	return syncDir(fs, l.cfg.Dir)
}

// savedIndex returns the newest index and the one over [0, covers) from files, if
// they are there and true.
func (l *Ledger) savedIndex(head headRow, covers uint64) (newest *unitindex.Tree, old version, ok bool) {
	if head.Topics < l.cfg.IndexFile {
		return nil, old, false
	}
	newest, err := l.readIndex(indexNewest, head.Covers)
	if err == nil && (newest.Root() != head.IndexRoot || newest.Len() != head.Topics) {
		err = fmt.Errorf("%s: %d topics give root %s, the database says %s over %d", indexNewest, newest.Len(), newest.Root(), head.IndexRoot, head.Topics)
	}
	old = version{covers, newest}
	if err == nil && covers != head.Covers {
		old.tree, err = l.readIndex(indexPublished, covers)
	}
	if err != nil {
		l.cfg.Logf("ledger: the index is built from its rows: %v", err)
		return nil, version{}, false
	}
	return newest, old, true
}

// readIndex reads a file that is to hold the index over [0, covers).
func (l *Ledger) readIndex(name string, covers uint64) (*unitindex.Tree, error) {
	e, err := l.s.record(covers)
	if err != nil || e.Class != entry.Index || e.Covers != covers {
		return nil, fmt.Errorf("there is no index commitment at entry %d (%w)", covers, err)
	}
	f, err := l.cfg.FS.Open(l.cfg.FS.PathJoin(l.cfg.Dir, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() < indexTrailer {
		return nil, fmt.Errorf("%s has %d bytes", name, info.Size())
	}
	// The trailer first: an old file is not read at all.
	trailer := make([]byte, indexTrailer)
	if _, err := f.ReadAt(trailer, info.Size()-indexTrailer); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if at := binary.BigEndian.Uint64(trailer); at != covers || !bytes.Equal(trailer[8:40], e.IndexRoot[:]) {
		return nil, fmt.Errorf("%s is of another version: it covers %d entries, wanted are %d", name, at, covers)
	}
	sum := newBackHash()
	t, err := unitindex.ReadSnapshot(io.TeeReader(io.LimitReader(f, info.Size()-indexTrailer), sum))
	digest := sum.end(trailer[:40])
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	case !bytes.Equal(digest, trailer[40:]):
		return nil, fmt.Errorf("%s is damaged: its digest is another", name)
	case t.Root() != e.IndexRoot:
		return nil, fmt.Errorf("%s has another root than the commitment at entry %d", name, covers)
	}
	return t, nil
}

// backHash is SHA-256 on another processor than that of the writer.
type backHash struct {
	blocks chan []byte
	done   chan struct{}
	h      hash.Hash
}

func newBackHash() *backHash {
	b := &backHash{blocks: make(chan []byte, 4), done: make(chan struct{}), h: sha256.New()}
	go func() {
		defer close(b.done)
		for p := range b.blocks {
			b.h.Write(p)
		}
	}()
	return b
}

// Write implements io.Writer.
func (b *backHash) Write(p []byte) (int, error) {
	b.blocks <- bytes.Clone(p)
	return len(p), nil
}

// end returns the digest of all that was written and of last.
func (b *backHash) end(last []byte) []byte {
	close(b.blocks)
	<-b.done
	b.h.Write(last)
	return b.h.Sum(nil)
}

// sweepShare is how much longer than a part of the sweep the pause after it is.
const sweepShare = 49

// sweepIndex reads all rows once, at a fiftieth of a processor, and holds them to the
// index over [0, covers) that was read from a file.
func (l *Ledger) sweepIndex(t *unitindex.Tree, covers uint64) {
	for part := range unitindex.Parts {
		start := time.Now()
		at := &rows{s: l.s, t: l.t, covers: covers}
		if err := errors.Join(t.CheckPart(at, part), at.close()); err != nil {
			l.fail(fmt.Errorf("%w: the rows of the index over the first %d entries: %w", ErrDamaged, covers, err))
			return
		}
		select {
		case <-time.After(sweepShare * time.Since(start)):
		case <-l.closing:
			return
		case <-l.failed:
			return
		}
	}
}
