package witness

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// FileOptions says where a FileStore lives and how it is opened.
type FileOptions struct {
	FS vfs.FS // nil is the operating system's
	// Dir holds the journal, MarkDir the high-water mark. They should not be
	// backed up and restored together: a restored journal that is behind its
	// mark is then noticed.
	Dir, MarkDir string
	// Create makes an empty store where there is none. A witness that has a key
	// but finds no store must not pass it: it has lost its memory.
	Create bool
	// Accept opens a store whose mark is missing or disagrees, on the operator's
	// word that this journal is the newest there is.
	Accept bool
	// MaxJournal is the size in bytes at which the journal is rewritten to hold
	// the latest records only; default 64 MiB.
	MaxJournal int64
}

// FileStore is a Store in two files that needs nothing else: a journal to which
// records are appended, and a mark that says how far the journal had been synced
// when answers were given (see filestore_format.go for their bytes). Concurrent
// swaps share syncs. After an I/O error nothing can be swapped until the store is
// opened again, which settles what had been written.
type FileStore struct {
	opt  FileOptions
	lock io.Closer

	mu      sync.Mutex
	durable map[string]Record
	staged  map[string]*write // newest write of an origin that is not durable yet
	queue   []*write
	err     error // first I/O error, or errClosed
	closed  bool
	wake    chan struct{} // there may be a queue
	stop    chan struct{} // closed by Close
	done    chan struct{} // closed when the committer has ended
	failed  chan error    // yields the first I/O error

	// Owned by the committer goroutine once the store is open.
	j journal
	m markFile
}

// write is a record on its way to the disk; one without a record waits for
// those before it and then reports a conflict.
type write struct {
	rec  *Record
	err  error
	done chan struct{}
}

var errClosed = errors.New("witness store is closed")

// OpenFileStore opens or creates a store. Its errors wrap ErrNoStore, ErrStale,
// ErrDamaged, or are I/O errors; a store in use by another process is an error.
func OpenFileStore(opt FileOptions) (*FileStore, error) {
	if opt.FS == nil {
		opt.FS = vfs.Default
	}
	if opt.MaxJournal == 0 {
		opt.MaxJournal = 64 << 20
	}
	if opt.Dir == "" || opt.MarkDir == "" {
		return nil, errors.New("witness store needs two directories")
	}
	for _, d := range []string{opt.Dir, opt.MarkDir} {
		if err := makeDir(opt.FS, d); err != nil {
			return nil, err
		}
	}
	lock, err := opt.FS.Lock(opt.FS.PathJoin(opt.Dir, "LOCK"))
	if err != nil {
		return nil, fmt.Errorf("witness store %s is in use: %w", opt.Dir, err)
	}
	s := &FileStore{
		opt: opt, lock: lock, staged: map[string]*write{},
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}), failed: make(chan error, 1),
	}
	if err := s.load(); err != nil {
		_ = lock.Close()
		return nil, err
	}
	go s.run()
	return s, nil
}

// load reads what is there, compares it with the mark, and starts a journal of
// a new generation with the latest records: a torn tail is left behind in the
// old one.
func (s *FileStore) load() error {
	gens, err := listJournals(s.opt.FS, s.opt.Dir)
	if err != nil {
		return err
	}
	mk, haveMark, err := readMark(s.opt.FS, s.opt.MarkDir)
	if err != nil && !s.opt.Accept {
		return err
	}
	var at content
	switch {
	case len(gens) == 0 && !haveMark && err == nil:
		if !s.opt.Create {
			return fmt.Errorf("%w in %s: it is made when the witness's key is made; if the key is older, its memory is lost", ErrNoStore, s.opt.Dir)
		}
		at = content{records: map[string]Record{}}
	case len(gens) == 0:
		return fmt.Errorf("%w: %s has no journal, but there is a mark of generation %d", ErrStale, s.opt.Dir, mk.gen)
	case s.opt.Accept:
		at, err = s.loadNewest(gens)
	case !haveMark:
		at, err = s.loadUnmarked(gens)
	default:
		at, err = s.loadMarked(gens, mk)
	}
	if err != nil {
		return err
	}
	s.durable = at.records
	next := max(at.gen, mk.gen)
	for _, g := range gens {
		next = max(next, g)
	}
	return s.rotate(next+1, at.head, mk.seq)
}

// loadMarked holds the journal against the mark: every byte that the mark
// covers was acknowledged and must be there, whatever comes after it was not.
func (s *FileStore) loadMarked(gens []uint64, mk mark) (content, error) {
	if newest := gens[len(gens)-1]; newest < mk.gen {
		return content{}, fmt.Errorf("%w: journal of generation %d, but the mark is of generation %d", ErrStale, newest, mk.gen)
	}
	if !slices.Contains(gens, mk.gen) {
		return content{}, fmt.Errorf("%w: the mark is of generation %d, the oldest journal of %d: the mark is an old copy", ErrStale, mk.gen, gens[0])
	}
	at, err := readJournal(s.opt.FS, s.opt.Dir, mk.gen)
	if err != nil {
		return content{}, err
	}
	for i, off := range at.offsets {
		if off != mk.offset {
			continue
		}
		if at.heads[i] != mk.head {
			return content{}, fmt.Errorf("%w: journal of generation %d is another one than the mark's up to byte %d", ErrStale, mk.gen, mk.offset)
		}
		return at, nil
	}
	if at.size < mk.offset {
		return content{}, fmt.Errorf("%w: journal of generation %d has %d bytes, the mark covers %d", ErrStale, mk.gen, at.size, mk.offset)
	}
	return content{}, fmt.Errorf("%w: journal of generation %d after byte %d, the mark covers %d: %w",
		ErrDamaged, mk.gen, at.offsets[len(at.offsets)-1], mk.offset, at.tail)
}

// loadNewest reads the newest journal that was finished; one that was being
// begun when the process died lacks part of its snapshot.
func (s *FileStore) loadNewest(gens []uint64) (at content, err error) {
	for _, g := range slices.Backward(gens) {
		if at, err = readJournal(s.opt.FS, s.opt.Dir, g); err == nil {
			return at, nil
		}
	}
	return content{}, err
}

// loadUnmarked accepts a journal without a mark only if the store was just
// being made: its first generation, with no record.
func (s *FileStore) loadUnmarked(gens []uint64) (content, error) {
	if len(gens) == 1 && gens[0] == 1 && s.opt.Create {
		at, err := readJournal(s.opt.FS, s.opt.Dir, 1)
		if err != nil || len(at.records) == 0 {
			return content{records: map[string]Record{}}, nil
		}
	}
	return content{}, fmt.Errorf("%w: there is a journal in %s but no mark in %s", ErrStale, s.opt.Dir, s.opt.MarkDir)
}

// rotate writes a journal of the given generation with the durable records,
// moves the mark to it, and removes the others.
func (s *FileStore) rotate(gen uint64, prev entry.Hash, seq uint64) error {
	j, err := createJournal(s.opt.FS, s.opt.Dir, gen, prev, s.durable)
	if err != nil {
		return err
	}
	if s.m.f == nil {
		if s.m, err = openMark(s.opt.FS, s.opt.MarkDir, mark{seq: seq + 1, gen: gen, offset: j.offset, head: j.head}); err != nil {
			return errors.Join(err, j.f.Close())
		}
	} else if err := s.m.set(gen, j.offset, j.head); err != nil {
		return errors.Join(err, j.f.Close())
	}
	if s.j.f != nil {
		if err := s.j.f.Close(); err != nil {
			return errors.Join(err, j.f.Close())
		}
	}
	s.j = j
	return removeJournals(s.opt.FS, s.opt.Dir, gen)
}

// Latest implements Store.
func (s *FileStore) Latest(origin string) (Record, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.durable[origin]
	return r, ok, nil
}

// Swap implements Store.
func (s *FileStore) Swap(old State, next Record) error {
	if err := next.check(); err != nil {
		return err
	}
	s.mu.Lock()
	if s.err != nil {
		defer s.mu.Unlock()
		return s.err
	}
	cur := NeverCosigned
	staged := s.staged[next.Origin]
	if staged != nil {
		cur = staged.rec.State()
	} else if r, ok := s.durable[next.Origin]; ok {
		cur = r.State()
	}
	w := &write{done: make(chan struct{})}
	if cur == old {
		w.rec = &next
		s.staged[next.Origin] = w
	} else if staged == nil {
		s.mu.Unlock()
		return ErrConflict
	}
	s.queue = append(s.queue, w)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default: // the committer has been told already
	}
	<-w.done
	if w.err == nil && w.rec == nil {
		return ErrConflict
	}
	return w.err
}

// run commits what has queued up, all of it with one pair of syncs.
func (s *FileStore) run() {
	defer close(s.done)
	for stopping := false; !stopping; {
		select {
		case <-s.wake:
		case <-s.stop:
			stopping = true // what is queued now fails; nothing more can be
		}
		s.mu.Lock()
		batch := s.queue
		s.queue = nil
		err := s.err
		s.mu.Unlock()
		if err == nil {
			err = s.commit(batch)
		}
		s.mu.Lock()
		for _, w := range batch {
			w.err = err
			if w.rec == nil {
				continue
			}
			if err == nil {
				s.durable[w.rec.Origin] = *w.rec
			}
			if s.staged[w.rec.Origin] == w {
				delete(s.staged, w.rec.Origin)
			}
		}
		if err == nil && s.j.offset > s.opt.MaxJournal {
			err = s.rotate(s.j.gen+1, s.j.head, s.m.cur.seq)
		}
		if err != nil && s.err == nil {
			s.err = fmt.Errorf("witness store stopped: %w", err)
			s.failed <- s.err
		}
		s.mu.Unlock()
		for _, w := range batch {
			close(w.done)
		}
	}
}

func (s *FileStore) commit(batch []*write) error {
	var recs []Record
	for _, w := range batch {
		if w.rec != nil {
			recs = append(recs, *w.rec)
		}
	}
	if len(recs) == 0 {
		return nil
	}
	if err := s.j.append(recs); err != nil {
		return err
	}
	return s.m.set(s.j.gen, s.j.offset, s.j.head)
}

// Failed yields the I/O error after which nothing can be swapped: the store is to
// be opened again, best by a new process.
func (s *FileStore) Failed() <-chan error { return s.failed }

// Close implements Store. A swap that is still waiting for its turn fails. The
// error is the one that stopped the store, if any, or one of closing.
func (s *FileStore) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	stopped := s.err
	if stopped == nil {
		s.err = errClosed
	}
	s.mu.Unlock()
	close(s.stop)
	<-s.done
	return errors.Join(stopped, s.j.f.Close(), s.m.f.Close(), s.lock.Close())
}
