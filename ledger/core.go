package ledger

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

func (c *Config) defaults() {
	def(&c.FS, vfs.Default)
	if c.Coming == nil {
		c.Coming = func() int { return 0 }
	}
	def(&c.MaxBatch, 1024)
	def(&c.MaxInFlight, 32768)
	def(&c.MaxUnused, 128<<20)
	def(&c.MaxUnusedAll, 4<<30)
	def(&c.PublishEvery, 20*time.Millisecond)
	def(&c.CosignWait, 10*time.Second)
	def(&c.CosignLimit, 15*time.Second)
	def(&c.CosignRetry, 500*time.Millisecond)
	def(&c.SettlePause, 10*time.Millisecond)
	def(&c.SettleLimit, 30*time.Second)
	def(&c.Heartbeat, time.Hour)
	def(&c.Recosign, 10*time.Minute)
	def(&c.RotateBytes, 64<<20)
	def(&c.CacheBytes, 96<<20)
	def(&c.StateCache, 32<<20)
	def(&c.BlockCache, 192<<20)
	def(&c.MemTable, 32<<20)
	def(&c.IndexFile, 100_000)
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Rand == nil {
		c.Rand = func(b []byte) error { _, err := rand.Read(b); return err }
	}
	if c.Logf == nil {
		c.Logf = func(string, ...any) {}
	}
	if c.Fatal == nil {
		c.Fatal = func(msg string) {
			fmt.Fprintln(os.Stderr, "ledger: the store cannot go on: "+msg)
			os.Exit(3)
		}
	}
	if c.DiskFree == nil {
		fs, dir := c.FS, c.Dir
		c.DiskFree = func() (uint64, uint64, error) {
			u, err := fs.GetDiskUsage(dir)
			return u.AvailBytes, u.TotalBytes, err
		}
	}
}

func def[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

func (c *Config) check(key checkpoint.VKey) error {
	switch {
	case c.Dir == "":
		return errors.New("ledger: no directory")
	case c.App == nil:
		return errors.New("ledger: no application")
	case key.Type != checkpoint.TypeLog:
		return errors.New("ledger: the signer's key is not a log's (type 0x01)")
	case key.Name != c.Origin:
		return fmt.Errorf("ledger: the signer's key is named %q, the origin is %q", key.Name, c.Origin)
	}
	return nil
}

// pebbleLogger passes Pebble's words on. Fatalf must not return.
type pebbleLogger struct{ cfg *Config }

// Infof drops Pebble's chatter.
func (l pebbleLogger) Infof(string, ...any) {}

// Errorf implements pebble.Logger.
func (l pebbleLogger) Errorf(f string, a ...any) { l.cfg.Logf("pebble: "+f, a...) }

// Fatalf implements pebble.Logger.
func (l pebbleLogger) Fatalf(f string, a ...any) {
	l.cfg.Fatal(fmt.Sprintf(f, a...))
	panic("ledger: Config.Fatal returned")
}

// core is what engine and ledger open alike: locks, journal, store, edge.
type core struct {
	cfg      *Config
	dbDir    string
	jDir     string
	jLock    func() error
	lock     *pebble.Lock
	hist     *history
	s        *store
	j        *journal
	engine   *embedded // on journal and store; unused with another Sequencer
	edge     *edge
	head     headRow
	entries  bool // the journal holds the entries: the engine is the embedded one
	damaged  func(error)
	storeNew bool
}

func newCore(cfg *Config, entries bool, damaged func(error)) *core {
	fs := cfg.FS
	return &core{cfg: cfg, dbDir: fs.PathJoin(cfg.Dir, truthDir), jDir: fs.PathJoin(cfg.Dir, journalDir), entries: entries, damaged: damaged}
}

// openCore takes the locks, reads the journal, compares it with the database
// while that is open for reading only (a read-write Open of a damaged database
// deletes what could be recovered), and opens the database for writing.
// damaged is called from any goroutine with damage that Pebble meets, from now
// until c is closed.
func openCore(cfg *Config, entries bool, damaged func(error)) (c *core, err error) {
	fs := cfg.FS
	c = newCore(cfg, entries, damaged)
	defer func() {
		if err != nil {
			err = errors.Join(cfg.words(err), c.close())
			c = nil
		}
	}()
	if err := c.makeDirs(); err != nil {
		return c, err
	}
	if c.hist, err = c.readHistory(); err != nil {
		return c, noSign(err, wayJournal, "the journal in %s cannot be read", c.jDir)
	}
	if c.hist.exists && c.hist.base.origin != cfg.Origin {
		return c, noSign(nil, wayOther, "the journal in %s is of log %q, the key is of %q", c.jDir, c.hist.base.origin, cfg.Origin)
	}
	desc, err := pebble.Peek(c.dbDir, fs)
	if err != nil {
		return c, noSign(err, wayFsck, "the database in %s cannot be read", c.dbDir)
	}
	c.storeNew = !desc.Exists
	if c.storeNew {
		if err := c.createStore(); err != nil {
			return c, err
		}
	} else if err := c.inspect(); err != nil {
		return c, err
	}
	if c.s, err = openStore(c.dbDir, c.options(false)); err != nil {
		return c, noSign(err, wayFsck, "the database in %s does not open", c.dbDir)
	}
	if err := c.load(c.s); err != nil {
		return c, err
	}
	c.openJournal()
	return c, nil
}

// readHistory reads the journal; when it is to be begun anew it counts as empty.
func (c *core) readHistory() (*history, error) {
	if c.cfg.newJournal {
		return &history{roots: map[uint64]entry.Hash{}}, nil
	}
	return readJournal(c.cfg.FS, c.jDir)
}

// openJournal prepares the journal to go on where it ended, and the engine on it.
func (c *core) openJournal() {
	fs, cfg := c.cfg.FS, c.cfg
	c.j = &journal{fs: fs, dir: c.jDir, origin: cfg.Origin, epoch: c.hist.epoch, chain: c.hist.chain, signed: c.hist.signed, rng: c.hist.rng}
	if n := len(c.hist.cosigned); n > 0 {
		c.j.cosigned = c.hist.cosigned[n-1]
	}
	if c.j.rng == nil {
		c.j.rng = ranges.NewEmptyRange(0)
	}
	if len(c.hist.segments) > 0 {
		c.j.oldest = c.hist.segments[0]
	}
	c.engine = &embedded{j: c.j, s: c.s, base: c.hist.base.size, tail: c.hist.leaves}
}

func (c *core) makeDirs() error {
	fs := c.cfg.FS
	for _, d := range []string{c.cfg.Dir, c.dbDir, c.jDir} {
		if err := fs.MkdirAll(d, 0o755); err != nil {
			return err
		}
		if err := syncDir(fs, fs.PathDir(d)); err != nil {
			return err
		}
	}
	if err := c.lockJournal(); err != nil {
		return err
	}
	return c.lockStore()
}

func (c *core) lockJournal() error {
	l, err := c.cfg.FS.Lock(c.cfg.FS.PathJoin(c.jDir, "LOCK"))
	if err != nil {
		return fmt.Errorf("%w (%s: %w)", ErrLocked, c.jDir, err)
	}
	c.jLock = l.Close
	return nil
}

func (c *core) lockStore() (err error) {
	if c.lock, err = pebble.LockDirectory(c.dbDir, orderFS{c.cfg.FS}); err != nil {
		return fmt.Errorf("%w (%s: %w)", ErrLocked, c.dbDir, err)
	}
	return nil
}

func (c *core) options(readOnly bool) storeOptions {
	return storeOptions{fs: c.cfg.FS, cache: c.cfg.BlockCache, memTable: c.cfg.MemTable, logger: pebbleLogger{c.cfg},
		damaged: c.damaged, readOnly: readOnly, lock: c.lock}
}

// createStore makes the database and closes it: the first write-ahead log of a
// new one carries no sync offsets, so nothing is ever written to it. Without
// its database a journal is of use only if it starts at size zero.
func (c *core) createStore() error {
	// Another engine has all entries and shares the notes: what it gives is held
	// against the newest checkpoint of the journal before anything is signed.
	elsewhere := !c.entries && c.cfg.Shared != nil
	if c.hist.exists && !elsewhere && (c.hist.base.size > 0 || !c.entries && c.hist.signed != nil) {
		return noSign(nil, wayRestore, "the database is gone: there is none in %s, and the journal in %s starts at entry %d", c.dbDir, c.jDir, c.hist.base.size)
	}
	s, err := openStore(c.dbDir, c.options(false))
	if err != nil {
		return err
	}
	return s.close()
}

// inspect opens the database read-only and compares it with the journal.
func (c *core) inspect() error {
	s, err := openStore(c.dbDir, c.options(true))
	if err != nil {
		return noSign(err, wayFsck, "the database in %s does not open", c.dbDir)
	}
	err = c.load(s)
	if err == nil {
		err = c.compare(s)
	}
	return errors.Join(err, s.close())
}

// load reads the head and rebuilds the edge, which must have the head's root.
func (c *core) load(s *store) error {
	var err error
	if c.head, err = s.head(); err != nil {
		return noSign(err, wayFsck, "the head row of the database in %s cannot be read", c.dbDir)
	}
	if c.edge, err = s.loadEdge(c.head.Size); err != nil {
		return noSign(err, wayFsck, "the tree's edge at %d entries cannot be read from the database in %s", c.head.Size, c.dbDir)
	}
	if c.head.Size > 0 && c.edge.root() != c.head.Root {
		return noSign(nil, wayFsck, "in the database in %s, the stored leaves and tiles give another root at %d entries than its head row says", c.dbDir, c.head.Size)
	}
	if o, err := s.get(metaOrigin); err != nil || o != nil && string(o) != c.cfg.Origin {
		return noSign(err, wayOther, "the database in %s is of log %q, the key is of %q", c.dbDir, o, c.cfg.Origin)
	}
	return nil
}

// compare looks for anything that the database has lost (S1). What the journal
// can make good is left to the replay.
func (c *core) compare(s *store) error {
	h, size := c.hist, c.head.Size
	if c.cfg.newJournal {
		return c.succeed(s)
	}
	if !h.exists {
		switch {
		case size == 0, c.unbegun(s):
			return nil
		case h.torn != nil:
			return noSign(h.torn, wayJournal, "the journal has no record that can be read, and the database in %s has %d entries", c.dbDir, size)
		}
		return noSign(nil, wayJournal, "the journal is gone: no journal file in %s has a record, and the database in %s has %d entries", c.jDir, c.dbDir, size)
	}
	if err := c.compareSigned(s); err != nil {
		return err
	}
	if !c.entries {
		return nil
	}
	if size < h.base.size {
		return noSign(nil, wayRestore, "the database in %s has %d entries, the journal in %s starts at %d: it is an old copy, or has lost entries", c.dbDir, size, c.jDir, h.base.size)
	}
	if h.base.size > 0 {
		if mark, err := s.get(keyU64(keyFlush, h.base.segment)); err != nil || mark == nil {
			return noSign(err, wayRestore, "the database in %s has lost what was flushed to it before the journal file %s began",
				c.dbDir, c.cfg.FS.PathJoin(c.jDir, segmentName(h.base.segment)))
		}
	}
	return c.compareTail(s)
}

// succeed numbers the first segment and the epoch of a journal that is begun anew
// after all that the database knows of.
func (c *core) succeed(s *store) error {
	epoch, err := s.epoch()
	if err != nil {
		return noSign(err, wayFsck, "the epoch in the database in %s cannot be read", c.dbDir)
	}
	c.hist.epoch = epoch
	return s.each(keyFlush, func(k, _ []byte) error {
		if len(k) == 9 {
			c.hist.newest = max(c.hist.newest, binary.BigEndian.Uint64(k[1:]))
		}
		return nil
	})
}

// unbegun reports that the database is only the beginning of a replica of another
// engine's entries, as a first start that was cut short leaves it: no process has begun
// to work on it.
func (c *core) unbegun(s *store) bool {
	epoch, err := s.epoch()
	if c.entries || err != nil || epoch > 0 {
		return false
	}
	signed, err := s.get(metaSigned)
	return err == nil && signed == nil
}

// compareSigned refuses a journal that is older than the database.
func (c *core) compareSigned(s *store) error {
	b, err := s.get(metaSigned)
	if err != nil {
		return noSign(err, wayFsck, "the newest checkpoint in the database in %s cannot be read", c.dbDir)
	}
	ours, err := noteCheckpoint(b)
	if err != nil {
		return noSign(err, wayFsck, "the newest checkpoint in the database in %s is no checkpoint", c.dbDir)
	}
	mark, err := noteCheckpoint(c.hist.signed)
	if err != nil {
		return noSign(err, wayJournal, "the newest checkpoint of the journal in %s is no checkpoint", c.jDir)
	}
	epoch, err := s.epoch()
	if err != nil {
		return noSign(err, wayFsck, "the epoch in the database in %s cannot be read", c.dbDir)
	}
	switch {
	case ours.Size > mark.Size && c.hist.torn != nil:
		return noSign(c.hist.torn, wayJournal, "the end of the journal is lost: it ends before the checkpoint of size %d that the database in %s has", ours.Size, c.dbDir)
	case ours.Size > mark.Size:
		return noSign(nil, wayJournal, "the journal in %s ends before the checkpoint of size %d that the database in %s has: it is an old copy", c.jDir, ours.Size, c.dbDir)
	case epoch > c.hist.epoch:
		return noSign(nil, wayJournal, "the journal in %s ends in epoch %d, the database in %s was taken over in epoch %d: it is an old copy", c.jDir, c.hist.epoch, c.dbDir, epoch)
	}
	if top := max(c.head.Size, c.hist.size()); c.entries && mark.Size > top {
		return noSign(nil, wayRestore, "a checkpoint of size %d was signed, and only %d entries are left in %s and %s", mark.Size, top, c.dbDir, c.jDir)
	}
	return nil
}

// noteCheckpoint parses a note; the zero checkpoint for nil.
func noteCheckpoint(note []byte) (cp checkpoint.Checkpoint, err error) {
	if note == nil {
		return cp, nil
	}
	n, err := checkpoint.ParseNote(note)
	if err != nil {
		return cp, err
	}
	return checkpoint.ParseCheckpoint(n.Text)
}

// compareTail re-reads every entry that both have: a lost table leaves a hole
// that no later write reveals.
func (c *core) compareTail(s *store) error {
	h := c.hist
	both := min(c.head.Size, h.size())
	for at := h.base.size; at < both; {
		n := int(min(both-at, 1024))
		kept, err := s.leaves(at, n)
		if err != nil {
			return noSign(err, wayFsck, "the database in %s has a hole among entries %d to %d", c.dbDir, at, at+uint64(n)-1)
		}
		for i := range kept {
			if !kept[i].equal(&h.leaves[at-h.base.size+uint64(i)]) {
				return noSign(nil, wayFsck, "entry %d is another in the journal in %s than in the database in %s", at+uint64(i), c.jDir, c.dbDir)
			}
		}
		at += uint64(n)
	}
	root, err := c.rootAt(s, both)
	if err != nil {
		return noSign(err, wayFsck, "the tree at size %d cannot be read from the database in %s", both, c.dbDir)
	}
	if want, ok := h.roots[both]; !ok || root != want {
		return noSign(nil, wayFsck, "the journal in %s and the database in %s do not have the same tree at size %d", c.jDir, c.dbDir, both)
	}
	return nil
}

func (c *core) rootAt(s *store, size uint64) (entry.Hash, error) {
	t := &tree{load: s.tile}
	t.cache.init(1 << 20)
	t.snap.Store(c.edge)
	return t.root(size)
}

// start makes the replica durable and begins a new journal segment at its size;
// the segments before are no longer needed.
func (c *core) start(e *edge) error {
	next := c.hist.newest + 1
	// Segments go one at a time: each may be the first that a power loss leaves.
	if err := c.flushFor(append(slices.Clone(c.hist.segments), next)...); err != nil {
		return err
	}
	if c.entries {
		rng, err := rangeOf(e.size, e.frontier())
		if err != nil {
			return err
		}
		c.j.rng = rng
	}
	if c.j.oldest == 0 {
		c.j.oldest = next
	}
	// What a killed process wrote last need not be on the disk yet, and the new
	// segment rests on it.
	if err := c.syncSegments(); err != nil {
		return err
	}
	if err := c.j.startSegment(next); err != nil {
		return err
	}
	if err := c.j.drop(next); err != nil {
		return err
	}
	if err := c.s.dropMarks(next); err != nil {
		return err
	}
	c.engine.tail = nil
	if err := c.j.takeOver(); err != nil {
		return err
	}
	// After the journal, never before: a database of a later epoch shows that a
	// journal is an old copy.
	return c.s.db.Set(metaEpoch, binary.BigEndian.AppendUint64(nil, c.j.epoch), pebble.Sync)
}

func (c *core) syncSegments() error {
	for _, n := range c.hist.segments {
		f, err := c.cfg.FS.Open(c.cfg.FS.PathJoin(c.jDir, segmentName(n)))
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// flushFor flushes the database with a marker for each segment that the journal may
// begin with; they tell, at the next start, whether this flush is still there.
func (c *core) flushFor(segments ...uint64) error {
	for _, n := range segments {
		if err := c.s.markFlush(n); err != nil {
			return err
		}
	}
	return c.s.db.Flush()
}

// epoch is that of the process that took the log over last, as far as the
// database knows: the journal may know a later one.
func (s *store) epoch() (uint64, error) {
	b, err := s.get(metaEpoch)
	if err != nil || b == nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("%w: the epoch has %d bytes", ErrDamaged, len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

// each calls fn for every row of a key space, with bytes that it must not keep.
func (s *store) each(space byte, fn func(k, v []byte) error) (err error) {
	defer rescue(&err)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{space}, UpperBound: []byte{space + 1}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("%w: row %q: %w", ErrDamaged, it.Key(), err)
		}
		if err := fn(it.Key(), v); err != nil {
			return err
		}
	}
	return readError(it)
}

func (s *store) markFlush(segment uint64) error {
	return s.db.Set(keyU64(keyFlush, segment), []byte{1}, pebble.NoSync)
}

// dropMarks removes the markers of segments that are gone.
func (s *store) dropMarks(before uint64) error {
	return s.db.DeleteRange(keyU64(keyFlush, 0), keyU64(keyFlush, before), pebble.NoSync)
}

// close frees everything; it may be called with only part of it open.
func (c *core) close() error {
	var errs []error
	if c.j != nil {
		errs = append(errs, c.j.close())
	}
	if c.s != nil {
		errs = append(errs, c.s.close())
	}
	if c.lock != nil {
		errs = append(errs, c.lock.Close())
	}
	if c.jLock != nil {
		errs = append(errs, c.jLock())
	}
	c.j, c.s, c.lock, c.jLock = nil, nil, nil, nil
	return errors.Join(errs...)
}
