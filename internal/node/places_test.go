package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fabtrail.dev/fabtrail/api"
	"fabtrail.dev/fabtrail/internal/problem"
)

// committing is a ledger in small: one commit takes all that waits, and the longer the more
// that is; all that is in it is answered together.
type committing struct {
	places *places

	mu      sync.Mutex
	waiting []handed
	wake    chan struct{} // capacity 1
	got     map[string]int
	took    time.Duration // until the last of it
}

// handed is statements that wait for a commit.
type handed struct {
	n    int
	done chan struct{}
}

const (
	perCommit    = 6 * time.Millisecond
	perStatement = time.Millisecond
)

// crowd is the clients of some parties that post one call after the other each.
type crowd struct {
	name             string
	parties, clients int           // clients in all
	pause            time.Duration // before the next call
	batch            int           // statements in each call, if not 1
}

// commit plays crowds against a ledger for a minute, after which nobody begins a call; it
// tells how many statements the parties of each name got in.
func commit(t *testing.T, enough int, crowds ...crowd) (c *committing) {
	synctest.Test(t, func(t *testing.T) {
		c = &committing{places: newPlaces(enough), wake: make(chan struct{}, 1), got: map[string]int{}}
		began := time.Now()
		end := began.Add(time.Minute)
		stop := make(chan struct{})
		var loop, all sync.WaitGroup
		loop.Go(func() { c.loop(stop) })
		for _, w := range crowds {
			for i := range w.clients {
				all.Go(func() {
					for time.Now().Before(end) {
						for left := max(w.batch, 1); left > 0; {
							left -= c.post(t.Context(), fmt.Sprint(w.name, i%w.parties), w.name, left)
						}
						time.Sleep(w.pause)
					}
				})
			}
		}
		all.Wait()
		c.took = time.Since(began)
		close(stop)
		loop.Wait()
		if c.places.taken != 0 || c.places.waiting != 0 {
			t.Errorf("%d places are taken, %d are waited for", c.places.taken, c.places.waiting)
		}
	})
	return c
}

// rate is how many statements of all parties a minute has.
func (c *committing) rate() int {
	n := 0
	for _, got := range c.got {
		n += got
	}
	return int(int64(n) * int64(time.Minute) / int64(c.took))
}

func (c *committing) post(ctx context.Context, party, name string, n int) int {
	n, err := c.places.enter(ctx, party, n)
	if err != nil {
		panic(err)
	}
	defer c.places.leave(party, n)
	done := make(chan struct{})
	c.mu.Lock()
	c.waiting = append(c.waiting, handed{n, done})
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
	<-done
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got[name] += n
	return n
}

func (c *committing) loop(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-c.wake:
		}
		c.mu.Lock()
		batch := c.waiting
		c.waiting = nil
		c.mu.Unlock()
		n := 0
		for _, b := range batch {
			n += b.n
		}
		time.Sleep(perCommit + time.Duration(n)*perStatement)
		for _, b := range batch {
			close(b.done)
		}
	}
}

// TestGreedyPartyHasItsPlaces: parties with a few clients each get nine tenths of what they
// get alone beside one or two with 128, the ledger does no less in all, and whatever the
// few leave is done for the greedy.
func TestGreedyPartyHasItsPlaces(t *testing.T) {
	polite := crowd{"polite", 11, 32, 2 * time.Millisecond, 1}
	greedy := crowd{"greedy", 1, 128, 0, 1}
	far := crowd{"polite", 11, 32, 30 * time.Millisecond, 1}
	seldom := crowd{"polite", 11, 32, 300 * time.Millisecond, 1}
	batches := crowd{"greedy", 1, 2, 0, 1000}
	for _, tt := range []struct {
		name   string
		crowds []crowd
		least  int // that the polite get, of a hundred; some less than what is aimed at, as goroutines run in any order
	}{
		{"one greedy party", []crowd{polite, greedy}, 88},
		{"that is not quicker", []crowd{polite, {"greedy", 1, 128, 2 * time.Millisecond, 1}}, 88},
		{"two greedy parties, with a part each", []crowd{polite, {"greedy", 2, 256, 0, 1}}, 82},
		{"polite ones far away", []crowd{far, greedy}, 80},
		{"polite ones that leave the machine idle", []crowd{seldom, greedy}, 80},
		{"batches of one greedy party", []crowd{polite, batches}, 86},
		{"batches of two greedy parties", []crowd{polite, {"greedy", 2, 4, 0, 1000}}, 80},
		{"batches beside polite ones that leave the machine idle", []crowd{seldom, batches}, 80},
	} {
		alone, both := commit(t, enoughPlaces, tt.crowds[0]), commit(t, enoughPlaces, tt.crowds...)
		t.Logf("%s: the polite have %d of %d, the greedy %d", tt.name, both.got["polite"], alone.got["polite"], both.got["greedy"])
		if both.got["polite"] < alone.got["polite"]*tt.least/100 {
			t.Errorf("%s: the polite have %d, %d without", tt.name, both.got["polite"], alone.got["polite"])
		}
		if both.rate() < alone.rate()*90/100 {
			t.Errorf("%s: less is done than without", tt.name)
		}
		// Half of what as few as keep the machine busy come to.
		if busy := int(time.Minute / (perCommit/enoughPlaces + perStatement)); both.rate() < busy/2 {
			t.Errorf("%s: %d in all, %d could be", tt.name, both.rate(), busy)
		}
	}
	const unbounded = 1 << 20
	for _, c := range []crowd{greedy, batches, {"all", 8, 256, 0, 1}, {"all", 12, 640, time.Millisecond, 1}, {"all", 12, 24, 0, 1000}} {
		got, want := commit(t, enoughPlaces, c).rate(), commit(t, unbounded, c).rate()
		t.Logf("%d parties with %d clients get %d of %d", c.parties, c.clients, got, want)
		if got < want*95/100 {
			t.Errorf("%d parties with %d clients get %d of %d", c.parties, c.clients, got, want)
		}
	}
	for _, g := range []crowd{greedy, batches} {
		if c := commit(t, unbounded, polite, g); c.got["polite"]*2 > c.got["greedy"] {
			t.Errorf("without bounds the polite have %d and the greedy %d: this shows nothing", c.got["polite"], c.got["greedy"])
		}
	}
}

// TestPlacesEnd: who gives up leaves the line, nobody waits while places are free,
// and in the end nothing is kept.
func TestPlacesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces(4)
		rng := rand.New(rand.NewPCG(1, 2))
		const n = 500
		entered, gone, bad := 0, 0, 0
		var mu sync.Mutex
		for i := range n {
			party := fmt.Sprint(max(0, i%9-4)) // one has more than others
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+rng.IntN(20))*time.Second)
			start, stay := time.Duration(rng.IntN(60))*time.Second, time.Duration(rng.IntN(1500))*time.Millisecond
			go func() {
				defer cancel()
				time.Sleep(start)
				_, err := p.enter(ctx, party, 1)
				mu.Lock()
				switch {
				case err == nil:
					entered++
				case errors.Is(err, context.DeadlineExceeded):
					gone++
				default:
					bad++
				}
				mu.Unlock()
				if err == nil {
					time.Sleep(stay)
					p.leave(party, 1)
				}
			}()
		}
		for range 600 {
			time.Sleep(100*time.Millisecond + lookEvery)
			synctest.Wait()
			p.mu.Lock()
			has, line, kept := 0, 0, 0
			for _, g := range p.parties {
				kept += g.keeps(time.Now())
			}
			for party, g := range p.parties {
				if has, line = has+len(g.has), line+len(g.line); len(g.line) > 0 && p.taken+kept < p.enough {
					t.Errorf("party %s waits for a place that is free", party)
				}
			}
			if has != p.taken || line != p.waiting {
				t.Errorf("%d places counted as %d, %d that wait as %d", has, p.taken, line, p.waiting)
			}
			p.mu.Unlock()
		}
		time.Sleep(time.Hour)
		if entered == 0 || gone == 0 || bad != 0 || entered+gone != n {
			t.Errorf("%d of %d entered, %d gave up, %d errors", entered, n, gone, bad)
		}
		p.age(time.Now())
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.taken != 0 || p.waiting != 0 || len(p.parties) != 0 {
			t.Errorf("%d places are taken, %d are waited for, %d parties remembered", p.taken, p.waiting, len(p.parties))
		}
	})
}

// TestStatementsTakePlaces: a single statement has a place of its party while it is on its
// way, whatever becomes of it, and none afterwards.
func TestStatementsTakePlaces(t *testing.T) {
	w := newWorldWith(t, Config{Folder: prepareFolder(t)})
	n := w.node
	n.places = newPlaces(0) // they are never too few
	post := func(ctx context.Context, i int, party string) string {
		b := w.commission(i)
		if party != makerParty {
			b = []byte("{")
		}
		if p := problem.As(n.Submit(ctx, api.Caller{Party: party}, [][]byte{b})[0].Err); p != nil {
			return p.Type
		}
		return ""
	}
	for _, party := range []string{makerParty, carrierParty} {
		if _, err := n.places.enter(t.Context(), party, 1); err != nil {
			t.Fatal(err)
		}
	}
	ahead := func(by int) {
		n.places.mu.Lock()
		defer n.places.mu.Unlock()
		n.places.parties[makerParty].begun = by
	}
	ahead(1 << 40)
	ended, end := context.WithCancel(t.Context())
	end()
	if r := n.Submit(ended, api.Caller{Party: makerParty}, [][]byte{w.commission(1)})[0]; !errors.Is(r.Err, context.Canceled) {
		t.Errorf("a statement without a place: %v", r.Err)
	}
	ahead(0)
	n.places.leave(makerParty, 1)
	if got := post(t.Context(), 1, makerParty); got != "" {
		t.Errorf("a statement with a place: %s", got)
	}
	n.places.leave(carrierParty, 1)
	if got := post(t.Context(), 2, carrierParty); got != "malformed_json" {
		t.Errorf("a statement that is none: %q", got)
	}
	n.places.mu.Lock()
	defer n.places.mu.Unlock()
	if n.places.taken != 0 || n.places.waiting != 0 {
		t.Errorf("%d places are taken, %d are waited for", n.places.taken, n.places.waiting)
	}
}

// TestPlacesOfMany: among many parties nobody is looked at, so that a statement does not
// cost what all of them do.
func TestPlacesOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces(1)
		for i := range manyParties + 1 {
			if _, err := p.enter(t.Context(), fmt.Sprint(i), 1); err != nil {
				t.Fatal(err)
			}
		}
		for range 50 { // one that waited would wait for ever
			if _, err := p.enter(t.Context(), "0", 1); err != nil {
				t.Fatal(err)
			}
		}
		if p.waiting != 0 || p.taken != manyParties+51 {
			t.Errorf("%d wait, %d places are taken", p.waiting, p.taken)
		}
	})
}

// TestPlacesAfterAStall: whoever had a place while the disk stood still does not keep others
// out for long afterwards.
func TestPlacesAfterAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces(8)
		enter := func(party string) {
			if _, err := p.enter(t.Context(), party, 1); err != nil {
				t.Error(err)
			}
		}
		for i := range 40 {
			go enter(fmt.Sprint(i))
		}
		synctest.Wait()
		time.Sleep(10 * time.Second) // the stall
		for i := range 40 {
			p.leave(fmt.Sprint(i), 1)
		}
		time.Sleep(time.Second)
		begun := time.Now()
		enter("another")
		if d := time.Since(begun); d > lookEvery {
			t.Errorf("on an idle machine it waited %s", d)
		}
	})
}

// TestBatchGoesInPieces: beside others a batch is handed over in pieces, each when the one
// before it is durable, and its lines keep their order; alone it goes as a whole.
func TestBatchGoesInPieces(t *testing.T) {
	w := newWorldWith(t, Config{Folder: prepareFolder(t)})
	n := w.node
	n.places = newPlaces(0)                        // they are never too few
	n.places.aged = time.Now().Add(24 * time.Hour) // nothing that began is forgotten, however slow the machine
	batch := func(from int) (envelopes [][]byte) {
		for i := range leastPiece + 4 {
			envelopes = append(envelopes, w.commission(from+i))
		}
		return envelopes
	}
	inOrder := func(results []api.Result) {
		t.Helper()
		for i, r := range results {
			if r.Err != nil || i > 0 && r.Index <= results[i-1].Index {
				t.Errorf("line %d: entry %d, %v", i, r.Index, r.Err)
			}
		}
	}
	maker := api.Caller{Party: makerParty}
	inOrder(n.Submit(t.Context(), maker, batch(0))) // nobody else is there: a second piece would wait for ever
	if _, err := n.places.enter(t.Context(), carrierParty, 1); err != nil {
		t.Fatal(err)
	}
	n.places.mu.Lock()
	n.places.parties[makerParty].begun = 0
	n.places.mu.Unlock()
	second := batch(100)
	answered := make(chan []api.Result)
	go func() { answered <- n.Submit(t.Context(), maker, second) }()
	for waits := false; !waits; runtime.Gosched() {
		n.places.mu.Lock()
		if waits = n.places.waiting == 1; waits {
			if g := n.places.parties[makerParty]; g.begun != leastPiece || n.places.taken != 1 {
				t.Errorf("%d lines of the batch began, %d places are taken", g.begun, n.places.taken)
			}
			if got := n.ledger.Signed().Size(); got < 2*leastPiece {
				t.Errorf("the second piece waits, and the log has %d entries", got)
			}
			n.places.parties[makerParty].begun = 0
		}
		n.places.mu.Unlock()
	}
	inOrder(<-answered)
	n.places.leave(carrierParty, 1)
	if n.places.taken != 0 || n.places.waiting != 0 {
		t.Errorf("%d places are taken, %d are waited for", n.places.taken, n.places.waiting)
	}
}
