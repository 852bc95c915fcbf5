package node

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"

	"fabtrail.dev/fabtrail/api"
)

// turns shares the processors among parties while there is more to read and verify than
// they can do: whoever has had least is next, whatever others have waiting. A party that
// comes back after a while has as little as the one that is served now, so nobody saves
// up; and nobody waits while a processor is free.
//
// It is start-time fair queueing (Goyal, Vin and Cheng, 1996) with statements for packets.
// What waits is bounded by the requests in flight.
type turns struct {
	mu      sync.Mutex
	free    int // processors
	now     uint64
	parties map[string]*waiting // those that wait, or have had more than others
}

// waiting is a party's line.
type waiting struct {
	had  uint64 // what it has had, in statements, beyond what it let pass
	line []*turn
}

// turn is one piece of work that waits for its processor.
type turn struct {
	cost  uint64
	begin chan struct{} // closed when it has one, or has been done
	job   job           // nil: whoever waits does it

	// Set before begin is closed:
	also  []*turn // jobs to be done together with this one
	done  bool    // this one was done together with another
	broke any     // what it panicked with
}

// small reports whether the turn may be had together with others.
func (f *turn) small() bool { return f.job != nil && f.cost == 1 }

// job is work that, when it is small, is cheaper for several of a party
// together.
type job interface {
	read()               // this one's own part
	finish(others []job) // of this one and others, all of which were read
}

// maxTogether bounds the jobs that one turn does.
const maxTogether = 16

func newTurns(processors int) *turns {
	return &turns{free: processors, parties: map[string]*waiting{}}
}

// do waits until it is the party's turn, and runs work that counts for so many statements.
// It returns ctx's error if that ends first.
func (t *turns) do(ctx context.Context, party string, cost int, work func()) error {
	if err := t.begin(ctx, party, &turn{cost: uint64(cost)}); err != nil {
		return err
	}
	defer t.end()
	// Those who have arrived meanwhile get into line before this work is done, or the
	// scheduler's order of arrival would be that of the turns.
	runtime.Gosched()
	work()
	return nil
}

// share is do for a job: when the party's turn comes, jobs of it that wait one after the
// other are done together, by whoever was first.
func (t *turns) share(ctx context.Context, party string, cost int, j job) error {
	mine := &turn{cost: uint64(cost), job: j}
	if err := t.begin(ctx, party, mine); err != nil {
		return err
	}
	if !mine.done {
		runtime.Gosched() // as in do
		mine.together()
		t.end()
	}
	if mine.broke != nil {
		panic(mine.broke)
	}
	return nil
}

// together does a job and those that are to be done with it. One that panics does so in
// the goroutine that brought it.
func (f *turn) together() {
	var read []*turn
	var jobs []job
	for _, o := range append([]*turn{f}, f.also...) {
		if o.broke = panics(o.job.read); o.broke == nil {
			read, jobs = append(read, o), append(jobs, o.job)
		}
	}
	if len(jobs) > 0 {
		if p := panics(func() { jobs[0].finish(jobs[1:]) }); p != nil {
			for _, o := range read {
				o.broke = p
			}
		}
	}
	for _, o := range f.also {
		o.done = true
		close(o.begin)
	}
}

// panics calls f and returns what it panics with, and where.
func panics(f func()) (with any) {
	defer func() {
		if p := recover(); p != nil {
			with = fmt.Sprintf("%v\n%s", p, debug.Stack())
		}
	}()
	f()
	return nil
}

// begin waits for a processor; the caller calls end unless there is an error, or the
// turn is done.
func (t *turns) begin(ctx context.Context, party string, mine *turn) error {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return nil
	}
	return t.wait(ctx, party, mine) // unlocks
}

// wait puts the party's work into its line and waits for its turn; t.mu is held.
func (t *turns) wait(ctx context.Context, party string, mine *turn) error {
	w := t.parties[party]
	if w == nil {
		w = &waiting{}
		t.parties[party] = w
	}
	w.had = max(w.had, t.now)
	mine.begin = make(chan struct{})
	w.line = append(w.line, mine)
	t.mu.Unlock()
	select {
	case <-mine.begin:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	i := slices.Index(w.line, mine)
	if i >= 0 {
		w.line = slices.Delete(w.line, i, i+1)
	}
	t.mu.Unlock()
	if i >= 0 {
		return ctx.Err()
	}
	<-mine.begin // its turn came at that moment, or it is being done
	return nil
}

// end gives the processor to the party that has had least.
func (t *turns) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	var next string
	var least *waiting
	for party, w := range t.parties {
		switch {
		case len(w.line) == 0:
			if w.had <= t.now { // it would begin as if it were new
				delete(t.parties, party)
			}
		case least == nil || w.had < least.had || w.had == least.had && party < next:
			next, least = party, w
		}
	}
	if least == nil {
		t.free++
		clear(t.parties)
		return
	}
	first := least.line[0]
	n := 1
	for first.small() && n < min(len(least.line), maxTogether) && least.line[n].small() {
		n++
	}
	first.also = slices.Clone(least.line[1:n])
	t.now = least.had
	for _, o := range least.line[:n] {
		least.had += o.cost
	}
	least.line = least.line[n:]
	close(first.begin)
}

// absent is the meter of a call that is on its way to the ledger: while it waits for its
// party's rate, the ledger does not wait for it. Pieces of one call may wait at once.
type absent struct {
	api.Meter
	n *Node
}

// Take implements api.Meter.
func (a absent) Take(ctx context.Context, n int) error {
	a.n.coming.Add(-1)
	defer a.n.coming.Add(1)
	return a.Meter.Take(ctx, n)
}

// resting is the meter of work that has a processor: it is given back while the meter
// makes a batch wait, and asked for again with what was paid.
type resting struct {
	api.Meter
	turns *turns
	party string
}

// Take implements api.Meter.
func (r resting) Take(ctx context.Context, n int) error {
	r.turns.end()
	err := r.Meter.Take(ctx, n)
	// Whoever began the work ends it, whatever became of ctx.
	_ = r.turns.begin(context.WithoutCancel(ctx), r.party, &turn{cost: uint64(n)})
	return err
}
