package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"github.com/cockroachdb/pebble/v2"
	"golang.org/x/sync/errgroup"
)

// pubNote is a publication: the note that was published first at its size. The
// receipts of the entries that it was the first to cover rest on it for good.
type pubNote struct {
	size uint64
	root entry.Hash
	note []byte
}

const recentNotes = 1024

// notes are the publications. Only one goroutine publishes: the publisher, or
// without a Cosigner the sealer.
type notes struct {
	mu       sync.Mutex // a note's journal record and database rows belong together
	rotating atomic.Bool
	at       atomic.Int64 // log clock's Unix milliseconds of the newest note

	recent sync.RWMutex
	floor  uint64    // recent has every publication above this size
	list   []pubNote // ascending
}

func (n *notes) add(p pubNote) {
	n.recent.Lock()
	defer n.recent.Unlock()
	n.list = append(n.list, p)
	if len(n.list) > 2*recentNotes {
		n.floor = n.list[recentNotes-1].size
		n.list = append([]pubNote(nil), n.list[recentNotes:]...)
	}
}

// find returns the first publication that covers entry i, if it is remembered.
func (n *notes) find(i uint64) (pubNote, bool) {
	n.recent.RLock()
	defer n.recent.RUnlock()
	if i < n.floor {
		return pubNote{}, false
	}
	at := sort.Search(len(n.list), func(k int) bool { return n.list[k].size > i })
	if at == len(n.list) {
		return pubNote{}, false
	}
	return n.list[at], true
}

// firstNote returns the first publication that covers entry i.
func (l *Ledger) firstNote(i uint64) (note pubNote, err error) {
	defer rescue(&err)
	if p, ok := l.notes.find(i); ok {
		return p, nil
	}
	it, err := l.s.db.NewIter(&pebble.IterOptions{LowerBound: keyU64(keyNote, i+1), UpperBound: []byte{keyNote + 1}})
	if err != nil {
		return pubNote{}, err
	}
	defer it.Close()
	if !it.First() {
		if err := it.Error(); err != nil {
			return pubNote{}, fmt.Errorf("%w: notes: %w", ErrDamaged, err)
		}
		return pubNote{}, fmt.Errorf("%w: entry %d", ErrNotPublished, i)
	}
	v, err := it.ValueAndErr()
	if err != nil {
		return pubNote{}, fmt.Errorf("%w: notes: %w", ErrDamaged, err)
	}
	return readNote(it.Key(), v)
}

// readNote reads a keyNote row.
func readNote(k, v []byte) (pubNote, error) {
	p := pubNote{note: append([]byte(nil), v...)}
	cp, err := noteCheckpoint(p.note)
	if err != nil {
		return p, fmt.Errorf("%w: note: %w", ErrDamaged, err)
	}
	p.size, p.root = cp.Size, cp.Root
	if len(k) != 9 || binary.BigEndian.Uint64(k[1:]) != p.size {
		return p, fmt.Errorf("%w: note of size %d is kept under another", ErrDamaged, p.size)
	}
	return p, nil
}

// publish makes v public under note. With write, the note is made durable
// first.
func (l *Ledger) publish(v *View, note []byte, write bool) error {
	first := l.published.v.Load().size < v.size
	if write {
		if err := l.writeNote(v.size, note, first); err != nil {
			return err
		}
	}
	out := *v
	out.note = note
	if first {
		l.notes.add(pubNote{size: v.size, root: v.root, note: note})
	}
	l.notes.at.Store(l.cfg.Clock().UnixMilli())
	l.published.set(&out)
	return nil
}

// writeNote keeps a note in journal and database, side by side. The lock keeps
// the journal from being rotated in between.
func (l *Ledger) writeNote(size uint64, note []byte, first bool) error {
	l.notes.mu.Lock()
	defer l.notes.mu.Unlock()
	var g errgroup.Group
	g.Go(func() error { return l.j.cosign(note) })
	g.Go(func() error { return l.s.storeNote(size, note, first) })
	return g.Wait()
}

// storeNote keeps a published note durably.
func (s *store) storeNote(size uint64, note []byte, first bool) error {
	b := s.db.NewBatch()
	defer b.Close()
	if first {
		if err := b.Set(keyU64(keyNote, size), note, nil); err != nil {
			return err
		}
	}
	if err := b.Set(metaLatest, note, nil); err != nil {
		return err
	}
	return b.Commit(pebble.Sync)
}

// publishLoop is the publisher: one checkpoint at a time, always the newest, so
// that what is published only grows.
func (l *Ledger) publishLoop() {
	defer l.wg.Done()
	for {
		v, chg := l.signed.changed()
		var asked chan error
		if v.size == l.published.v.Load().size {
			select {
			case <-chg:
				continue
			case asked = <-l.recosign:
			case <-l.ctx.Done():
				return
			}
		}
		err := l.cosign(v)
		if asked != nil {
			asked <- err
			continue
		}
		if err == nil {
			continue
		}
		if l.ctx.Err() != nil {
			return
		}
		l.cfg.Logf("ledger: size %d is signed and not cosigned: %v", v.size, err)
		select {
		case <-time.After(l.cfg.CosignRetry):
		case <-l.ctx.Done():
			return
		}
	}
}

// cosign asks for cosignatures on v and publishes the note that it gets.
func (l *Ledger) cosign(v *View) error {
	ctx, cancel := context.WithTimeout(l.ctx, l.cfg.CosignLimit)
	defer cancel()
	old := l.published.v.Load().size
	note, err := l.cfg.Cosigner.Cosign(ctx, old, v.logNote, func(_ context.Context, from, to uint64) ([]entry.Hash, error) {
		return v.Consistency(from, to)
	})
	if err != nil {
		return err
	}
	if err := l.checkCosigned(v, note); err != nil {
		return fmt.Errorf("the cosigner's note: %w", err)
	}
	if v.size > old {
		if note, err = l.share(ctx, v, note); err != nil {
			return err
		}
	}
	if err := l.publish(v, note, true); err != nil {
		l.fail(err)
		return l.Err()
	}
	return nil
}

// checkCosigned refuses a note that is not v's with our own signature, or that
// the policy does not accept.
func (l *Ledger) checkCosigned(v *View, note []byte) error {
	n, err := checkpoint.ParseNote(note)
	if err != nil {
		return err
	}
	want := checkpoint.Checkpoint{Origin: l.cfg.Origin, Size: v.size, Root: v.root}.Text()
	if n.Text != want {
		return errors.New("it is of another checkpoint than was asked")
	}
	if err := l.vkey.VerifyLog(n); err != nil {
		return err
	}
	if l.cfg.Policy != nil {
		if _, err := l.cfg.Policy.Verify(note); err != nil {
			return err
		}
	}
	return nil
}

// answer completes the results of a request whose items are durable: it waits
// for publication, within limits, and makes the receipts.
func (l *Ledger) answer(ctx context.Context, req *request) {
	var top uint64
	wait := false
	for i := range req.items {
		if it := &req.items[i]; it.res.Err == nil {
			top, wait = max(top, it.res.Index), true
		}
	}
	if wait {
		l.waitPublished(ctx, top)
	}
	for i := range req.items {
		it := &req.items[i]
		if it.res.Err != nil {
			continue
		}
		if err := l.complete(it); err != nil {
			it.res = Result{ID: it.sub.ID, Err: err}
		}
	}
}

// waitPublished returns when entry i is published, or when that is late.
func (l *Ledger) waitPublished(ctx context.Context, i uint64) {
	if l.published.v.Load().size > i {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, l.cfg.CosignWait)
	defer cancel()
	_ = l.waitFor(ctx, &l.published, i)
}

// complete fills in what is read back for a repeat, and the receipt.
func (l *Ledger) complete(it *item) error {
	if it.res.Repeat {
		r, err := l.s.record(it.res.Index)
		if err != nil {
			return err
		}
		it.e, it.hash = r.Entry, r.LeafHash()
		it.res.Time, it.res.Class = it.e.Time, it.e.Class
	}
	it.res.Envelope = it.e.Envelope
	receipt, err := l.receipt(it.res.Index, it.e, it.hash)
	if errors.Is(err, ErrNotPublished) {
		it.res.Pending = true
		return nil
	}
	it.res.Receipt = receipt
	return err
}

// receipt makes the receipt of entry i, whose leaf has the given hash, always the
// same, and verifies it.
func (l *Ledger) receipt(i uint64, e entry.Entry, leaf entry.Hash) ([]byte, error) {
	if i >= l.published.v.Load().size {
		return nil, fmt.Errorf("%w: entry %d", ErrNotPublished, i)
	}
	p, err := l.firstNote(i)
	if err != nil {
		return nil, err
	}
	hs, err := l.path(i, leaf, p)
	if err != nil {
		if errors.Is(err, ErrDamaged) {
			l.fail(err)
		}
		return nil, err
	}
	return checkpoint.Proof{Extra: e.Extra(), Index: i, Hashes: hs, Checkpoint: p.note}.Marshal(), nil
}

// Receipt returns the answer that the first submission of this statement got or
// would have got: ErrNotFound if it is not in the log, Pending while its
// checkpoint is not published.
func (l *Ledger) Receipt(id entry.Hash) (Result, error) {
	i, effect, ok, err := l.s.statement(id)
	if err != nil {
		return Result{}, err
	}
	if !ok || i >= l.durable.Load() {
		return Result{}, fmt.Errorf("%w: statement %s", ErrNotFound, id)
	}
	it := &item{res: Result{ID: id, Index: i, Effect: effect, Repeat: true}}
	if err := l.complete(it); err != nil {
		return Result{}, err
	}
	return it.res, nil
}

// waitFor returns when entry i is below the size of b's view.
func (l *Ledger) waitFor(ctx context.Context, b *broadcast, i uint64) error {
	for {
		v, chg := b.changed()
		if v.size > i {
			return nil
		}
		select {
		case <-chg:
		case <-ctx.Done():
			return ctx.Err()
		case <-l.ctx.Done():
			if err := l.Err(); err != nil {
				return err
			}
			return ErrClosed
		}
	}
}

// Wait returns when more than size entries are published.
func (l *Ledger) Wait(ctx context.Context, size uint64) error {
	return l.waitFor(ctx, &l.published, size)
}

// WaitSigned returns when more than size entries are signed.
func (l *Ledger) WaitSigned(ctx context.Context, size uint64) error {
	return l.waitFor(ctx, &l.signed, size)
}

// Tick does what is due by the clock and waits until it is done: an index
// commitment when the newest is older than Heartbeat (log time must pass on an
// idle log), else fresh cosignatures on the published checkpoint when the last
// were collected longer than Recosign ago. A log without entries stays so.
func (l *Ledger) Tick(ctx context.Context) error {
	v := l.signed.v.Load()
	if v.size == 0 || l.replica() {
		return nil
	}
	now := l.cfg.Clock()
	var to chan chan error
	switch {
	case now.Sub(time.UnixMilli(int64(v.time))) >= l.cfg.Heartbeat:
		to = l.force
	case l.cfg.Cosigner != nil && v.size == l.published.v.Load().size && now.Sub(time.UnixMilli(l.notes.at.Load())) >= l.cfg.Recosign:
		to = l.recosign
	default:
		return nil
	}
	return l.order(ctx, to)
}

// Recosign asks for fresh cosignatures on the published checkpoint now, and waits
// until there are. What came before stays published if too few answer. It does
// nothing while a newer size waits to be published.
func (l *Ledger) Recosign(ctx context.Context) error {
	if v := l.signed.v.Load(); l.cfg.Cosigner == nil || v.size == 0 || v.size != l.published.v.Load().size {
		return nil
	}
	return l.order(ctx, l.recosign)
}

// order hands a task to the loop behind to, and waits until it is done.
func (l *Ledger) order(ctx context.Context, to chan chan error) error {
	done := make(chan error, 1)
	select {
	case to <- done:
	case <-ctx.Done():
		return ctx.Err()
	case <-l.ctx.Done():
		return ErrClosed
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-l.ctx.Done():
		return ErrClosed
	}
}

// tickLoop drives Tick in production.
func (l *Ledger) tickLoop() {
	defer l.wg.Done()
	every := max(min(l.cfg.Heartbeat, l.cfg.Recosign)/20, 10*time.Millisecond)
	timer := time.NewTicker(every)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			if err := l.Tick(l.ctx); err != nil && l.ctx.Err() == nil {
				l.cfg.Logf("ledger: tick: %v", err)
			}
		case <-l.ctx.Done():
			return
		}
	}
}
