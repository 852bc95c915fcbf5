package node

import (
	"context"
	"runtime"
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
	begin chan struct{}
}

func newTurns(processors int) *turns {
	return &turns{free: processors, parties: map[string]*waiting{}}
}

// do waits until it is the party's turn, and runs work that counts for so many statements.
// It returns ctx's error if that ends first.
func (t *turns) do(ctx context.Context, party string, cost int, work func()) error {
	if err := t.begin(ctx, party, cost); err != nil {
		return err
	}
	defer t.end()
	// Those who have arrived meanwhile get into line before this work is done, or the
	// scheduler's order of arrival would be that of the turns.
	runtime.Gosched()
	work()
	return nil
}

// begin waits for a processor; the caller calls end unless there is an error.
func (t *turns) begin(ctx context.Context, party string, cost int) error {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return nil
	}
	return t.wait(ctx, party, cost) // unlocks
}

// wait puts the party's work into its line and waits for its turn; t.mu is held.
func (t *turns) wait(ctx context.Context, party string, cost int) error {
	w := t.parties[party]
	if w == nil {
		w = &waiting{}
		t.parties[party] = w
	}
	w.had = max(w.had, t.now)
	mine := &turn{uint64(cost), make(chan struct{})}
	w.line = append(w.line, mine)
	t.mu.Unlock()
	select {
	case <-mine.begin:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(w.line, mine); i >= 0 {
		w.line = slices.Delete(w.line, i, i+1)
		return ctx.Err()
	}
	return nil // its turn came at that moment
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
	least.line = least.line[1:]
	t.now = least.had
	least.had += first.cost
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
	_ = r.turns.begin(context.WithoutCancel(ctx), r.party, n)
	return err
}
