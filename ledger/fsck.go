package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/transparency-dev/merkle/compact"
)

// Damage is one thing that Fsck found. Class is one of: database, journal,
// head, entry, leaf, tile, root, time, manifest, id, index-commitment,
// index-row, index-root, checkpoint, note,
// cosignature, receipt.
type Damage struct {
	Class  string `json:"class"`
	Index  uint64 `json:"index"` // entry, tile, size or segment, as Detail says
	Detail string `json:"detail"`
}

// String returns class, index and detail in one line.
func (d Damage) String() string { return fmt.Sprintf("%s %d: %s", d.Class, d.Index, d.Detail) }

// FsckReport is what Fsck read and found.
type FsckReport struct {
	Size, Topics, Manifests, Notes uint64
	Root, IndexRoot                entry.Hash
	Signed, Published              uint64 // sizes
	Beyond                         uint64 // entries that only the journal has: the next start takes them in
	Note                           []byte // newest published note, nil if none
	Damage                         []Damage
	More                           uint64 // damages beyond the first maxDamage
}

const maxDamage = 1000

// FsckConfig says what to check.
type FsckConfig struct {
	Dir    string
	Origin string
	Key    checkpoint.VKey    // log key; the zero VKey skips signatures
	Policy *checkpoint.Policy // for the quorum of published notes; nil skips it
	// Past are policies that were in force before: a note may have the quorum of
	// one of them instead.
	Past []*checkpoint.Policy
	FS   vfs.FS // vfs.Default
	// Progress, if set, is called now and then with what is being read and how
	// far it is; total is zero where it is not known.
	Progress func(what string, done, total uint64)
}

// fsck is one run. Every step reads its part of the disk once, in order.
type fsck struct {
	cfg    FsckConfig
	ctx    context.Context
	s      *store
	dbDir  string
	mu     sync.Mutex // of named, rep.Damage and rep.More
	named  map[Damage]bool
	rep    FsckReport
	head   headRow
	hashes []entry.Hash // leaf hashes by index: 32 bytes per entry
	roots  map[uint64]entry.Hash
	ids    uint64                // statements in the log
	uses   map[entry.Hash]uint64 // manifests, and an entry that names each
	hist   *history
	pubs   []pubNote // published notes that can be read, ascending
}

// Fsck re-reads everything in a ledger's directory, which must not be open, and
// changes nothing: leaves, tiles and roots; cargo against leaves; the statement
// index; manifests; index rows against commitments; journal; checkpoints and
// notes; every block of every table. It needs 32 bytes of memory per entry. The error is for what kept it
// from reading; what it read and found wrong is in the report.
func Fsck(ctx context.Context, cfg FsckConfig) (rep FsckReport, err error) {
	def(&cfg.FS, vfs.Default)
	if cfg.Progress == nil {
		cfg.Progress = func(string, uint64, uint64) {}
	}
	c := Config{Dir: cfg.Dir, Origin: cfg.Origin, FS: cfg.FS, Fatal: func(string) {}}
	c.defaults()
	k := &core{cfg: &c, dbDir: cfg.FS.PathJoin(cfg.Dir, "truth"), jDir: cfg.FS.PathJoin(cfg.Dir, "journal")}
	f := &fsck{cfg: cfg, ctx: ctx, dbDir: k.dbDir, roots: map[uint64]entry.Hash{}, named: map[Damage]bool{}, uses: map[entry.Hash]uint64{}}
	if _, err := cfg.FS.Stat(k.dbDir); err != nil {
		if _, jerr := cfg.FS.Stat(k.jDir); jerr != nil {
			return rep, fmt.Errorf("no ledger in %s: %w", cfg.Dir, err)
		}
		f.found("database", 0, "it is gone: %v", err)
		return f.rep, nil
	}
	k.damaged = func(err error) { f.found("database", 0, "%v", err) }
	if err := k.makeDirs(); err != nil {
		return rep, errors.Join(err, k.close())
	}
	defer func() {
		// A database that reads have panicked on does not close well, either.
		if cerr := k.close(); len(rep.Damage) == 0 {
			err = errors.Join(err, cerr)
		}
	}()
	hist, err := readJournal(cfg.FS, k.jDir)
	f.journalDamage(err, hist)
	if k.s, err = openStore(k.dbDir, k.options(true)); err != nil {
		f.found("database", 0, "does not open: %v", err)
		return f.rep, nil
	}
	f.s = k.s
	err = f.run(hist)
	return f.rep, err
}

func (f *fsck) run(hist *history) error {
	f.readHead()
	f.journal(hist)
	f.claims()
	for _, step := range []func() error{f.entries, f.leaves, f.tiles, f.statements, f.manifests, f.index, f.notes, f.receipts, f.tables} {
		if err := f.ctx.Err(); err != nil {
			return err
		}
		if err := step(); f.ctx.Err() != nil {
			return f.ctx.Err()
		} else if err != nil { // the next step may read other files
			f.found("database", 0, "%v", err)
		}
	}
	return nil
}

func (f *fsck) found(class string, index uint64, format string, a ...any) {
	f.mu.Lock() // Pebble reports damage from whatever goroutine reads
	defer f.mu.Unlock()
	d := Damage{class, index, oneLine(fmt.Sprintf(format, a...))}
	switch {
	case f.named[d]: // met again by another read
	case len(f.rep.Damage) >= maxDamage:
		f.rep.More++
	default:
		f.named[d] = true
		f.rep.Damage = append(f.rep.Damage, d)
	}
}

// because gives the reason, if there is one.
func because(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}

// oneLine takes out what Pebble's errors carry for machines.
func oneLine(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\n<corruption detail carrier>", ""), "\n", "; ")
}

func (f *fsck) readHead() {
	var err error
	if f.head, err = f.s.head(); err != nil {
		f.found("head", 0, "%v", err)
	}
	f.rep.Size, f.rep.Topics, f.rep.Root, f.rep.IndexRoot = f.head.Size, f.head.Topics, f.head.Root, f.head.IndexRoot
	if o, err := f.s.get(metaOrigin); err != nil || string(o) != f.cfg.Origin && f.head.Size > 0 {
		f.found("head", 0, "the database is of log %q, not %q", o, f.cfg.Origin)
	}
}

// journalDamage names the file and the byte where the journal cannot be read. A
// torn end is none unless nothing is left before it.
func (f *fsck) journalDamage(err error, h *history) {
	var d *damage
	switch {
	case errors.As(err, &d):
		f.found("journal", d.segment, "%v", d)
	case err != nil:
		f.found("journal", 0, "%v", err)
	case h.torn != nil && !h.exists:
		f.found("journal", h.torn.segment, "%v", h.torn)
	}
	f.hist = h
}

// journal compares what the journal holds with the database. Entries that only
// the journal has are not damage: the next start takes them over.
func (f *fsck) journal(h *history) {
	f.cfg.Progress("journal", uint64(len(h.leaves)), uint64(len(h.leaves)))
	if !h.exists {
		if f.head.Size > 0 && h.torn == nil {
			f.found("journal", 0, "there is none: no journal file has a record")
		}
		return
	}
	if h.base.size > f.head.Size {
		f.found("journal", h.base.size, "the database has lost entries that the journal no longer holds")
	}
	if h.size() > f.head.Size && h.base.size <= f.head.Size {
		f.rep.Beyond = h.size() - f.head.Size
	}
	for i := range h.leaves {
		at := h.base.size + uint64(i)
		if at >= f.head.Size {
			break
		}
		kept, err := f.s.leaves(at, 1) // what cannot be read is named with the entries
		if err == nil && !kept[0].equal(&h.leaves[i]) {
			f.found("journal", at, "entry is not that of the database")
		}
	}
	mark := f.claim("journal", h.signed)
	if b, err := f.s.get(metaSigned); err == nil && b != nil {
		if ours, err := noteCheckpoint(b); err == nil && ours.Size > mark.Size {
			cut := ""
			if h.torn != nil {
				cut = ": " + h.torn.Error()
			}
			f.found("journal", h.newest, "it ends before the checkpoint of size %d that the database has%s", ours.Size, cut)
		}
	}
	if epoch, err := f.s.epoch(); err != nil || epoch > h.epoch {
		f.found("journal", h.newest, "it ends in epoch %d, the database was taken over in epoch %d: it is an old copy%s", h.epoch, epoch, because(err))
	}
	for _, n := range h.cosigned {
		f.claim("journal", n)
	}
	for size, root := range h.roots {
		f.expect(size, root)
	}
}

// claim checks a checkpoint's form and signature, and notes the root it claims.
func (f *fsck) claim(class string, note []byte) checkpoint.Checkpoint {
	if note == nil {
		return checkpoint.Checkpoint{}
	}
	cp, err := noteCheckpoint(note)
	if err != nil {
		f.found(class, 0, "checkpoint: %v", err)
		return cp
	}
	if cp.Origin != f.cfg.Origin {
		f.found(class, cp.Size, "checkpoint is of log %q", cp.Origin)
	}
	if f.cfg.Key.Type != 0 {
		if n, err := checkpoint.ParseNote(note); err != nil || f.cfg.Key.VerifyLog(n) != nil {
			f.found(class, cp.Size, "checkpoint is not signed by %s", f.cfg.Key.Name)
		}
	}
	if top := f.head.Size + f.rep.Beyond; cp.Size > top {
		f.found(class, cp.Size, "a checkpoint of this size exists, and there are %d entries", top)
	}
	f.expect(cp.Size, cp.Root)
	return cp
}

// expect notes that some record gives this root at this size.
func (f *fsck) expect(size uint64, root entry.Hash) {
	if old, ok := f.roots[size]; ok && old != root {
		f.found("checkpoint", size, "two roots at one size: %s and %s", old, root)
	}
	f.roots[size] = root
}

func (f *fsck) claims() {
	for _, m := range []struct {
		key []byte
		to  *uint64
	}{{metaSigned, &f.rep.Signed}, {metaLatest, &f.rep.Published}} {
		b, err := f.s.get(m.key)
		if err != nil {
			f.found("checkpoint", 0, "%v", err)
		}
		*m.to = f.claim("checkpoint", b).Size
		f.rep.Note = b // the published one comes last
	}
	if err := f.each(keyNote, "notes", func(k, v []byte) {
		f.rep.Notes++
		p, err := readNote(k, v)
		if err != nil {
			f.found("note", 0, "%v", err)
			return
		}
		f.claim("note", v)
		f.pubs = append(f.pubs, p)
		if f.cosignatures(p.size, p.note) && f.cfg.Policy != nil {
			if err := f.quorum(p.note); err != nil {
				f.found("note", p.size, "%v", err)
			}
		}
	}); err != nil {
		f.found("note", 0, "%v", err)
	}
	if f.head.Size > 0 {
		f.expect(f.head.Size, f.head.Root)
	}
}

// each reads a whole key space.
func (f *fsck) each(space byte, what string, fn func(k, v []byte)) (err error) {
	defer rescue(&err)
	it, err := f.s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{space}, UpperBound: []byte{space + 1}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	n := uint64(0)
	for ok := it.First(); ok; ok = it.Next() {
		if n++; n%4096 == 0 {
			f.cfg.Progress(what, n, 0)
			if err := f.ctx.Err(); err != nil {
				return err
			}
		}
		v, err := it.ValueAndErr()
		if err != nil {
			f.found("database", 0, "%s: %v", what, err)
			continue
		}
		fn(it.Key(), v)
	}
	f.cfg.Progress(what, n, n)
	return readError(it)
}

// entries re-reads all cargo and computes leaves and roots from it.
func (f *fsck) entries() error {
	f.hashes = make([]entry.Hash, 0, f.head.Size)
	r := ranges.NewEmptyRange(0)
	var last uint64
	for i := range f.head.Size {
		if i%4096 == 0 {
			f.cfg.Progress("entries", i, f.head.Size)
			if err := f.ctx.Err(); err != nil {
				return err
			}
		}
		f.checkRoot(r, i)
		hash := f.entry(i, &last)
		f.hashes = append(f.hashes, hash)
		if err := r.Append(hash[:], nil); err != nil {
			return err
		}
	}
	f.checkRoot(r, f.head.Size)
	f.cfg.Progress("entries", f.head.Size, f.head.Size)
	return f.beyond(r)
}

// beyond goes on with the entries that only the journal has.
func (f *fsck) beyond(r *compact.Range) error {
	for i := f.head.Size; i < f.head.Size+f.rep.Beyond; i++ {
		leaf := &f.hist.leaves[i-f.hist.base.size]
		if e, err := entry.ParseCargo(leaf.Cargo); err != nil || e.Leaf() != leaf.Value {
			f.found("journal", i, "the leaf of the entry is not that of its cargo%s", because(err))
		}
		hash := entry.LeafHash(leaf.Value[:])
		if err := r.Append(hash[:], nil); err != nil {
			return err
		}
		f.checkRoot(r, i+1)
	}
	return nil
}

// entry checks one entry by itself and returns the hash of its stored leaf, or
// of its cargo where the leaf is lost.
func (f *fsck) entry(i uint64, last *uint64) entry.Hash {
	leaf, lerr := f.s.must(keyU64(keyLeaf, i), "leaf %d", i)
	rec, err := f.s.record(i)
	if err != nil {
		f.found("entry", i, "%v", err)
		return entry.LeafHash(leaf)
	}
	want := rec.Leaf()
	if lerr != nil || !bytes.Equal(leaf, want[:]) {
		f.found("leaf", i, "the stored leaf is not that of the cargo%s", because(lerr))
	}
	if rec.Time < *last {
		f.found("time", i, "time goes back")
	}
	*last = rec.Time
	if rec.Class == entry.Index {
		if rec.Covers != i {
			f.found("index-commitment", i, "covers %d entries", rec.Covers)
		}
		if i == f.head.Covers && rec.IndexRoot != f.head.IndexRoot {
			f.found("index-commitment", i, "its index root is not the head's")
		}
	} else {
		f.statement(i, rec)
	}
	if lerr != nil {
		return entry.LeafHash(want[:])
	}
	return entry.LeafHash(leaf)
}

func (f *fsck) statement(i uint64, rec record) {
	f.ids++
	id, err := identity(rec.Entry)
	if err != nil {
		f.found("entry", i, "%v", err)
		return
	}
	if at, _, ok, err := f.s.statement(id); err != nil || !ok || at != i {
		f.found("id", i, "statement %s is looked up at %d (found: %v)%s", id, at, ok, because(err))
	}
	if !rec.manifest.IsZero() {
		f.uses[rec.manifest] = i
		if _, err := f.s.manifest(rec.manifest); err != nil {
			f.found("manifest", i, "%v", err)
		}
	}
}

func (f *fsck) checkRoot(r *compact.Range, size uint64) {
	want, ok := f.roots[size]
	if !ok {
		return
	}
	if got, err := rangeRoot(r); err != nil || got != want {
		f.found("root", size, "entries give root %s, a record says %s", got, want)
	}
}

// leaves looks for rows beyond the end.
func (f *fsck) leaves() error {
	for _, space := range []byte{keyEntry, keyLeaf} {
		it, err := f.s.db.NewIter(&pebble.IterOptions{LowerBound: keyU64(space, f.head.Size), UpperBound: []byte{space + 1}})
		if err != nil {
			return err
		}
		if it.First() {
			f.found("head", f.head.Size, "there are rows %c beyond the end", space)
		}
		if err := it.Close(); err != nil {
			return err
		}
	}
	return nil
}

// tiles compares every stored tile with the leaf hashes.
func (f *fsck) tiles() error {
	level := f.hashes
	for l := uint8(0); len(level) >= tileWidth; l++ {
		up := make([]entry.Hash, 0, len(level)/tileWidth)
		for n := range uint64(len(level) / tileWidth) {
			t := newTile()
			for _, h := range level[n*tileWidth : (n+1)*tileWidth] {
				t.push(h)
			}
			b, err := f.s.tile(tileID{l, n})
			if err != nil || !bytes.Equal(b, t.bytes(tileWidth)) {
				f.found("tile", n, "tile of level %d is not that of the leaves%s", l, because(err))
			}
			up = append(up, t.root())
		}
		level = up
		f.cfg.Progress("tiles", uint64(l)+1, 0)
	}
	return nil
}

// statements checks the rows of the statement index that no entry has asked for.
func (f *fsck) statements() error {
	n := uint64(0)
	err := f.each(keyID, "statements", func(k, v []byte) {
		n++
		if len(k) != 33 || len(v) < 8 || binary.BigEndian.Uint64(v) >= f.head.Size {
			f.found("id", 0, "row %x is malformed or beyond the end", k[1:])
		}
	})
	if err == nil && n != f.ids {
		f.found("id", 0, "%d rows for %d statements", n, f.ids)
	}
	return err
}

func (f *fsck) manifests() error {
	if err := f.each(keyManifest, "manifests", func(k, v []byte) {
		f.rep.Manifests++
		if len(k) != 33 || sha256.Sum256(v) != entry.Hash(k[1:]) {
			f.found("manifest", 0, "manifest %x has another digest", k[1:])
		}
	}); err != nil {
		return err
	}
	return f.each(keyUnused, "manifests", func(k, v []byte) {
		if _, ok := parseUpload(v); !ok || len(k) != 33 {
			f.found("manifest", 0, "the row that says since when manifest %x waits is malformed", k[1:])
			return
		}
		if i, ok := f.uses[entry.Hash(k[1:])]; ok {
			f.found("manifest", 0, "manifest %x is said to wait, and entry %d names it", k[1:], i)
		}
	})
}

// fsckRows shows index rows with values made anew from the leaf hashes, never
// from the stored frontier.
type fsckRows struct{ f *fsck }

// Scan implements unitindex.Rows.
func (r fsckRows) Scan(prefix entry.Hash, bits int, fn func(topic, value entry.Hash) error) error {
	at := &rows{s: r.f.s, covers: r.f.head.Covers}
	it, err := at.take()
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.SeekGE(keyHash(keyRow, prefix)); ok; ok = it.Next() {
		if k := it.Key(); len(k) != 33 {
			return fmt.Errorf("%w: index row with a key of %d bytes", ErrDamaged, len(k))
		}
		topic := entry.Hash(it.Key()[1:])
		if !samePrefix(&topic, &prefix, bits) {
			break
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("%w: index row: %w", ErrDamaged, err)
		}
		value, err := r.f.row(topic, v)
		if err != nil {
			return fmt.Errorf("topic %s: %w", topic, err)
		}
		if err := fn(topic, value); err != nil {
			return err
		}
	}
	return readError(it)
}

// row recomputes a topic's value and compares it with the stored list.
func (f *fsck) row(topic entry.Hash, v []byte) (entry.Hash, error) {
	row, err := parseRow(v)
	if err != nil {
		return entry.Hash{}, err
	}
	idx, err := f.s.indexes(topic, row, f.head.Covers)
	if err != nil {
		return entry.Hash{}, err
	}
	refs := make([]unitindex.Ref, len(idx))
	for i, n := range idx {
		if n >= uint64(len(f.hashes)) {
			return entry.Hash{}, fmt.Errorf("%w: the list has entry %d of %d", ErrDamaged, n, len(f.hashes))
		}
		refs[i] = unitindex.Ref{Index: n, Leaf: f.hashes[n]}
	}
	value := unitindex.ListValue(refs)
	if value != row.list.Value() || unitindex.CheckRefs(refs) != nil {
		return value, fmt.Errorf("%w: the list is not that of its %d entries", ErrDamaged, len(idx))
	}
	return value, nil
}

// index rebuilds the newest index and compares it with its commitment.
func (f *fsck) index() error {
	f.cfg.Progress("index", 0, f.head.Topics)
	t, err := unitindex.Build(fsckRows{f})
	if err != nil {
		f.found("index-row", 0, "%v", err)
		return nil
	}
	f.cfg.Progress("index", t.Len(), t.Len())
	if err := errors.Join(f.strayRows(), f.strayChunks()); err != nil {
		return err
	}
	if f.head.Covers > 0 && (t.Root() != f.head.IndexRoot || t.Len() != f.head.Topics) {
		f.found("index-root", f.head.Covers, "%d rows give root %s, the commitment says %s over %d", t.Len(), t.Root(), f.head.IndexRoot, f.head.Topics)
	}
	x := indexer{s: f.s, t: &tree{}}
	x.t.cache.init(1 << 20)
	x.t.load = func(id tileID) ([]byte, error) { return f.s.tile(id) }
	e, err := f.s.loadEdge(f.head.Size)
	if err == nil {
		x.t.snap.Store(e)
		err = x.loadPending()
	}
	if err != nil {
		f.found("index-row", f.head.Covers, "topics that no commitment covers: %v", err)
	}
	return nil
}
