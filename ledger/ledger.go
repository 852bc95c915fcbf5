package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// Ledger is an open log. All methods may be called from any goroutine.
//
// Four goroutines own its state. The committer decides: decider, queue's consumer
// side. The builder makes rows, index and tree of what is decided: builder. The sealer
// makes durable, verifies and signs: sealer. All three take commits in their order. The
// publisher asks for cosignatures and publishes: notes. What they hand to readers is
// immutable and reached through the atomic pointers.
type Ledger struct {
	cfg  Config
	c    *core
	s    *store
	j    *journal
	t    *tree
	seq  Sequencer
	vkey checkpoint.VKey
	d    decider // committer
	b    builder // builder
	// fromFile: the index was read from a file, its rows are to be swept.
	fromFile bool
	seal     sealer // sealer
	notes    notes  // publisher writes, all read
	highs    highs

	inflight  atomic.Int64 // submissions
	calls     atomic.Int64 // calls of Append that wait for an answer
	queue     queue
	decided   chan *commit  // committer -> builder
	built     chan *commit  // builder -> sealer
	sealing   atomic.Int32  // commits handed over and not finished
	durable   atomic.Uint64 // entries that survive a crash
	signed    broadcast     // of views by the sealer
	published broadcast     // of views by the publisher, or the sealer without a Cosigner
	recosign  chan chan error
	force     chan chan error

	advance sync.Mutex // of a replica: one note at a time

	failOnce  sync.Once
	failErr   error // set before failed is closed
	failed    chan struct{}
	closeOnce sync.Once
	closeErr  error
	closing   chan struct{} // no more submissions; the committer drains and ends
	sealed    chan struct{} // closed by the sealer's end
	cancel    context.CancelFunc
	ctx       context.Context // of engine, cosigner and timers
	filtered  chan struct{}   // closed when the filters of the database's keys are read
	wg        sync.WaitGroup
	held      sync.RWMutex // read-locked while a snapshot reads the files, which Close waits for
}

// broadcast is a value that readers load, with a channel that is closed when it
// changes.
type broadcast struct {
	mu  sync.Mutex
	v   atomic.Pointer[View]
	chg chan struct{}
}

func (b *broadcast) set(v *View) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.v.Store(v)
	if b.chg != nil {
		close(b.chg)
	}
	b.chg = make(chan struct{})
}

// changed returns the value and a channel that is closed when there is a newer one.
func (b *broadcast) changed() (*View, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.chg == nil {
		b.chg = make(chan struct{})
	}
	return b.v.Load(), b.chg
}

// Open opens the ledger in cfg.Dir, or makes an empty one. It returns *NoSign
// when going on could fork the log, and ErrLocked when another process has it
// open.
func Open(ctx context.Context, cfg Config) (_ *Ledger, err error) {
	if cfg.Signer == nil {
		return nil, errors.New("ledger: no signer")
	}
	return openLedger(ctx, cfg, cfg.Signer.VKey())
}

// openLedger opens a ledger that signs, or without a Signer one that follows.
func openLedger(ctx context.Context, cfg Config, key checkpoint.VKey) (_ *Ledger, err error) {
	cfg.defaults()
	if err := cfg.check(key); err != nil {
		return nil, err
	}
	l := &Ledger{cfg: cfg, vkey: key, decided: make(chan *commit), built: make(chan *commit, 1), recosign: make(chan chan error),
		force: make(chan chan error), failed: make(chan struct{}), closing: make(chan struct{}), sealed: make(chan struct{}), filtered: make(chan struct{})}
	l.queue.wake, l.queue.ready = make(chan struct{}, 1), l.ready
	l.ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			err = cfg.words(err)
			l.cancel()
			if cfg.Sequencer != nil {
				err = errors.Join(err, cfg.Sequencer.Close())
			}
			if l.c != nil {
				err = errors.Join(err, l.c.close())
			}
		}
	}()
	if l.c, err = openCore(&l.cfg, cfg.Sequencer == nil, l.fail); err != nil {
		return nil, err
	}
	l.attach()
	err = l.recover(ctx)
	if errors.Is(err, errAbandoned) {
		err = l.anew(ctx, err)
	}
	if err != nil {
		return nil, err
	}
	if err := l.Err(); err != nil { // met in the background
		return nil, noSign(err, wayFsck, "the database in %s is damaged", l.c.dbDir)
	}
	if l.replica() {
		l.runReplica()
	} else {
		l.run()
	}
	return l, nil
}

func (l *Ledger) run() {
	if tip, covers := l.b.index.tip, l.b.index.covers; l.fromFile {
		l.wg.Go(func() { l.sweepIndex(tip, covers) })
	}
	l.wg.Add(3)
	go l.commitLoop()
	go l.buildLoop()
	go l.sealLoop()
	if l.cfg.Cosigner != nil {
		l.wg.Add(1)
		go l.publishLoop()
	}
	if !l.cfg.Manual {
		l.wg.Add(1)
		go l.tickLoop()
	}
	l.wg.Go(l.buildFilters)
}

func (l *Ledger) buildFilters() {
	defer close(l.filtered)
	if err := l.s.known.build(l.ctx, l.s, keyID); err != nil {
		l.cfg.Logf("ledger: reading statement IDs: %v", err)
	}
	if err := l.s.filled.build(l.ctx, l.s, keyState); err != nil {
		l.cfg.Logf("ledger: reading the keys of the state: %v", err)
	}
}

// fail stops the ledger for good (S6). Waiting submissions are answered with
// ErrFailed; reads of what is published go on.
func (l *Ledger) fail(err error) {
	l.failOnce.Do(func() {
		l.failErr = fmt.Errorf("%w: %w", ErrFailed, err)
		close(l.failed)
		l.cancel()
		if l.cfg.OnFail == nil {
			l.cfg.Logf("ledger: %v", l.failErr)
			return
		}
		go l.cfg.OnFail(l.failErr)
	})
}

// Err is nil, or why the ledger has stopped.
func (l *Ledger) Err() error {
	select {
	case <-l.failed:
		return l.failErr
	default:
		return nil
	}
}

// refuses is nil, or why nothing is taken any more.
func (l *Ledger) refuses() error {
	select {
	case <-l.closing:
		return ErrClosed
	default:
	}
	if err := l.Err(); err != nil || !l.replica() {
		return err
	}
	return ErrReplica
}

// Halt stops the ledger for good, as an unknown outcome of a write does: whoever
// watches it from outside has seen what must not be (S7). Reads go on.
func (l *Ledger) Halt(err error) { l.fail(err) }

// Failed is closed when the ledger stops.
func (l *Ledger) Failed() <-chan struct{} { return l.failed }

// Close stops taking submissions, finishes what is in flight, and closes
// everything. It does not wait for cosignatures.
func (l *Ledger) Close() error {
	l.closeOnce.Do(func() {
		close(l.closing)
		<-l.sealed
		l.cancel()
		l.wg.Wait()
		var errs []error
		if l.Err() == nil {
			// A clean end leaves no tail to compare and replay at the next start.
			errs = append(errs, l.rotate(true))
			l.saveIndex()
		}
		l.held.Lock()
		defer l.held.Unlock()
		errs = append(errs, l.seq.Close(), l.c.close())
		l.closeErr = errors.Join(errs...)
	})
	return l.closeErr
}

// Append submits statements and waits until each is refused, in a published
// checkpoint, or late (Pending). Lines are independent of each other; a later
// one may rest on an earlier one. Results keep the order. When ctx ends first,
// the fate of a line is unknown; submitting it again is safe.
func (l *Ledger) Append(ctx context.Context, subs []Submission) []Result {
	return l.AppendThen(ctx, subs, func() {})
}

// AppendThen is Append that calls durable once when nothing of the call is on its way to
// the disk any more: before the wait for cosignatures, and after the return if ctx ends first.
func (l *Ledger) AppendThen(ctx context.Context, subs []Submission, durable func()) []Result {
	res := make([]Result, len(subs))
	fill := func(err error) []Result {
		for i := range res {
			res[i] = Result{ID: subs[i].ID, Err: err}
		}
		return res
	}
	n := int64(0)
	end := func() {
		l.inflight.Add(-n)
		durable()
	}
	if err := l.refuses(); err != nil {
		end()
		return fill(err)
	}
	n = int64(len(subs))
	if held := l.inflight.Add(n); held > int64(l.cfg.MaxInFlight) && held > n {
		end()
		return fill(ErrOverloaded)
	}
	req := &request{items: make([]item, len(subs)), done: make(chan struct{})}
	known := l.t.snap.Load().size
	for i := range subs {
		it := &req.items[i]
		it.sub, it.req, it.known = subs[i], req, known
		it.res.ID = subs[i].ID
		it.res.Err = l.precheck(it)
	}
	l.calls.Add(1)
	defer l.calls.Add(-1)
	if err := l.queue.put(req); err != nil {
		end()
		return fill(err)
	}
	select {
	case <-req.done:
		durable()
		defer l.inflight.Add(-n)
	case <-ctx.Done():
		go func() { // still in flight, although nobody waits
			<-req.done
			end()
		}()
		return fill(fmt.Errorf("the statement may or may not be logged, submit it again: %w", ctx.Err()))
	}
	l.answer(ctx, req)
	for i := range req.items {
		res[i] = req.items[i].res
	}
	return res
}

// precheck does, in the caller's goroutine, what needs no order.
func (l *Ledger) precheck(it *item) error {
	env, err := entry.ParseEnvelope(it.sub.Envelope)
	if err != nil {
		return err
	}
	if id := entry.StatementID(env.Payload); id != it.sub.ID {
		return fmt.Errorf("%w: statement ID is %s, the payload's is %s", entry.ErrMalformed, it.sub.ID, id)
	}
	if !l.s.known.mayHave(it.sub.ID[:]) {
		return nil
	}
	_, _, found, err := l.s.statement(it.sub.ID)
	if err != nil && errors.Is(l.refuses(), ErrClosed) {
		return ErrClosed // it was closed meanwhile
	}
	if err != nil {
		l.fail(err)
		return l.Err()
	}
	if found {
		it.known = 0 // the committer finds it again, in order with what is in flight
	}
	return nil
}

// queue holds requests until the committer takes them.
type queue struct {
	mu     sync.Mutex
	items  []*item
	calls  int // that items are of
	closed error
	wake   chan struct{} // capacity 1
	// ready reports that the committer would begin a commit now; mu is held.
	ready func() bool
}

// put queues a request's items that are not refused yet.
func (q *queue) put(req *request) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed != nil {
		return q.closed
	}
	for i := range req.items {
		if req.items[i].res.Err == nil {
			req.left++
		}
	}
	if req.left == 0 {
		close(req.done)
		return nil
	}
	for i := range req.items {
		if req.items[i].res.Err == nil {
			q.items = append(q.items, &req.items[i])
		}
	}
	q.calls++
	if q.calls == 1 || q.ready() { // else it knows of others, and waits as long as it will
		q.poke()
	}
	return nil
}

// take removes up to n items.
func (q *queue) take(n int) []*item {
	q.mu.Lock()
	defer q.mu.Unlock()
	n = min(n, len(q.items))
	out := q.items[:n:n]
	q.items, q.calls = q.items[n:], 0
	for i := range q.items {
		if i == 0 || q.items[i].req != q.items[i-1].req {
			q.calls++
		}
	}
	return out
}

// look returns the number of items, and whether they are worth a commit.
func (q *queue) look() (n int, worth bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items), q.ready()
}

func (q *queue) poke() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// close refuses further requests with err.
func (q *queue) close(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed == nil {
		q.closed = err
	}
}

// company is how long submissions wait for others that are on their way, at most, since
// the commit before them began.
const company = 50 * time.Millisecond

// companyShare: a commit begins when one in so many of the calls on their way are there.
// Each commit costs a signature, syncs, and the topics that all statements share; with
// few of them, callers who post again once they are answered would all wait together.
const companyShare = 2

// ready reports that what is queued is worth a commit; queue.mu is held.
func (l *Ledger) ready() bool {
	switch {
	case len(l.queue.items) == 0:
		return false
	case l.cfg.PublishEvery < 0 || len(l.queue.items) >= l.cfg.MaxBatch || l.alone():
		return true
	}
	return int64(l.queue.calls)*companyShare >= l.calls.Load()+int64(l.cfg.Coming())
}

// alone reports that nothing is on its way, and nothing is being built or sealed: what is
// queued has nobody to wait for.
func (l *Ledger) alone() bool { return l.sealing.Load() == 0 && l.cfg.Coming() == 0 }

// commitLoop is the committer.
func (l *Ledger) commitLoop() {
	defer l.wg.Done()
	defer close(l.decided)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last, indexed time.Time // when the last commit began, and the last with an index commitment
	closing := l.closing
	for ending := false; ; {
		var forced []chan error
		select {
		case <-l.queue.wake:
		case <-timer.C:
		case f := <-l.force:
			forced = append(forced, f)
		case <-closing:
			l.queue.close(ErrClosed)
			closing, ending = nil, true
		case <-l.failed:
			l.queue.close(l.Err())
			l.abandon()
			return
		}
		if l.Err() != nil { // there may be half a commit: nothing is decided over that
			l.finish(&commit{forced: forced})
			continue
		}
		now := time.Now()
		waiting, worth := l.queue.look()
		must := len(forced) > 0 || ending
		index := must || now.Sub(indexed) >= l.cfg.PublishEvery || waiting <= l.cfg.MaxBatch && l.alone()
		if must || worth || waiting > 0 && now.Sub(last) >= company || index && l.d.uncovered {
			c, err := l.decide(l.queue.take(l.cfg.MaxBatch), index, forced)
			if err != nil {
				l.fail(err)
				l.finish(c)
				continue
			}
			if last = now; c.index {
				indexed = now
			}
			l.sealing.Add(1)
			l.decided <- c
			waiting, _ = l.queue.look()
			if waiting > 0 {
				l.queue.poke()
			}
		}
		if ending && waiting == 0 {
			return
		}
		wait := time.Duration(-1)
		if waiting > 0 {
			wait = max(company-time.Since(last), 0)
		}
		if l.d.uncovered {
			if until := max(l.cfg.PublishEvery-time.Since(indexed), 0); wait < 0 || until < wait {
				wait = until
			}
		}
		if wait >= 0 {
			timer.Reset(wait)
		}
	}
}

// decide makes one commit of the items. With index it ends with an index commitment if
// any entry waits for one; forced asks for one in any case, if the log is not empty. Until
// the commit is built, no manifest is removed that it may name.
func (l *Ledger) decide(items []*item, index bool, forced []chan error) (*commit, error) {
	l.s.unused.naming.RLock()
	c, o := l.d.begin(l.d.size, len(items))
	c.items, c.forced = items, forced
	full := l.diskFull()
	now := l.cfg.Clock()
	for _, it := range items {
		if full {
			it.res = Result{ID: it.sub.ID, Err: ErrStorageFull}
			continue
		}
		if err := l.d.admit(c, o, it, now); err != nil {
			l.s.unused.naming.RUnlock()
			return c, err
		}
	}
	waits := len(c.entries) > 0 || l.d.uncovered
	l.d.end(c, index && waits || len(forced) > 0 && c.first+uint64(len(c.entries)) > 0, now)
	return c, nil
}

// diskFull is S8. A disk that cannot be asked is not called full.
func (l *Ledger) diskFull() bool {
	avail, total, err := l.cfg.DiskFree()
	return err == nil && (avail < total/10 || avail < 2<<30)
}

// abandon answers everything still queued after a failure.
func (l *Ledger) abandon() {
	for {
		items := l.queue.take(1 << 20)
		if len(items) == 0 {
			return
		}
		l.finish(&commit{items: items})
	}
}

// finish releases the callers of a commit's items. After a failure nothing is
// known of items that were not refused before.
func (l *Ledger) finish(c *commit) {
	err := l.Err()
	for _, it := range c.items {
		if err != nil && it.res.Err == nil {
			it.res = Result{ID: it.sub.ID, Err: err}
		}
	}
	// Decisions are made in one goroutine, but commits of one request may be
	// finished by committer and sealer.
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	for _, it := range c.items {
		if it.req.left--; it.req.left == 0 {
			close(it.req.done)
		}
	}
	for _, f := range c.forced {
		f <- err
	}
}

// Manifest returns the manifest with this SHA-256, or ErrNotFound.
func (l *Ledger) Manifest(sum entry.Hash) ([]byte, error) { return l.s.manifest(sum) }
