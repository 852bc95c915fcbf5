package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"fabtrail.dev/fabtrail/ledger/entry"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
)

// tables checks every block of every table of the database by its checksum. The steps
// before read rows; blocks with rows that none of them asks for (the application's
// state, what newer versions or deletions hide) are met by a start, or when tables are
// merged.
func (f *fsck) tables() error {
	levels, err := f.s.db.SSTables()
	if err != nil {
		return err
	}
	p := storeOptions{fs: f.cfg.FS, logger: pebbleLogger{&Config{Logf: func(string, ...any) {}, Fatal: func(string) {}}}}.pebble()
	p.EnsureDefaults()
	o := p.MakeReaderOptions()
	names := map[string]bool{} // virtual tables share files
	for _, level := range levels {
		for i := range level {
			names[fmt.Sprintf("%06d.sst", uint64(level[i].BackingSSTNum))] = true
		}
	}
	done := 0
	for name := range names {
		f.cfg.Progress("tables", uint64(done), uint64(len(names)))
		if err := f.ctx.Err(); err != nil {
			return err
		}
		if err := f.table(name, o); err != nil {
			f.found("database", 0, "table %s: %v", name, err)
		}
		done++
	}
	f.cfg.Progress("tables", uint64(done), uint64(done))
	return nil
}

func (f *fsck) table(name string, o sstable.ReaderOptions) (err error) {
	defer rescue(&err)
	file, err := f.cfg.FS.Open(f.cfg.FS.PathJoin(f.dbDir, name))
	if err != nil {
		return err
	}
	readable, err := sstable.NewSimpleReadable(file)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	r, err := sstable.NewReader(context.Background(), readable, o)
	if err != nil {
		return errors.Join(err, readable.Close())
	}
	return errors.Join(r.ValidateBlockChecksums(), r.Close())
}

// strayRows looks for index rows that sort before all topics, where no scan begins.
func (f *fsck) strayRows() (err error) {
	it, err := f.s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{keyRow}, UpperBound: keyHash(keyRow, entry.Hash{})})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	if it.First() {
		f.found("index-row", 0, "%v: index row with a key of %d bytes", ErrDamaged, len(it.Key()))
	}
	return readError(it)
}

// strayChunks looks for chunks that no list has: nothing else reads them until the list
// has grown up to there.
func (f *fsck) strayChunks() error {
	var topic entry.Hash
	var full uint64 // chunks of topic
	known := false
	return f.each(keyChunk, "chunks", func(k, _ []byte) {
		if len(k) != 37 {
			f.found("index-row", 0, "%v: chunk with a key of %d bytes", ErrDamaged, len(k))
			return
		}
		if t := entry.Hash(k[1:33]); !known || t != topic {
			topic, full, known = t, 0, true
			if v, err := f.s.get(keyHash(keyRow, topic)); err != nil {
				full = math.MaxUint64 // its row is named already
			} else if v != nil {
				row, err := parseRow(v)
				if full = (row.list.Count() - uint64(len(row.tail))) / chunkLen; err != nil {
					full = math.MaxUint64
				}
			}
		}
		if n := binary.BigEndian.Uint32(k[33:]); uint64(n) >= full {
			f.found("index-row", 0, "%v: the list of topic %s has %d chunks, and there is one of number %d", ErrDamaged, topic, full, n)
		}
	})
}
