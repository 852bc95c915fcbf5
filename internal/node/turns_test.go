package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fabtrail.dev/fabtrail/api"
)

// played is a processor that work of some parties waits for. Each piece of work takes as
// many seconds as it costs; order is who had the processor when.
type played struct {
	t     *testing.T
	turns *turns
	mu    sync.Mutex
	order []string
	had   map[string]int
}

// has notes that a party has a processor, for work of the given cost.
func (p *played) has(party string, cost int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.order = append(p.order, party)
	p.had[party] += cost
}

// play runs f in a bubble with a clock of its own, in which nothing happens by chance.
func play(t *testing.T, processors int, f func(p *played)) {
	synctest.Test(t, func(t *testing.T) {
		f(&played{t: t, turns: newTurns(processors), had: map[string]int{}})
		synctest.Wait()
	})
}

// got is what a party has had so far.
func (p *played) got(party string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.had[party]
}

// want has a party ask for the processor n times at once, for work of the given cost.
func (p *played) want(party string, n, cost int) {
	for range n {
		go func() {
			err := p.turns.do(p.t.Context(), party, cost, func() {
				p.has(party, cost)
				time.Sleep(time.Duration(cost) * time.Second)
			})
			if err != nil {
				p.t.Error(err)
			}
		}()
		synctest.Wait()
	}
}

// again has a party ask for the processor one piece after the other, n of them.
func (p *played) again(party string, n, cost int) {
	go func() {
		for range n {
			_ = p.turns.do(context.Background(), party, cost, func() {
				p.has(party, cost)
				time.Sleep(time.Duration(cost) * time.Second)
			})
		}
	}()
	synctest.Wait()
}

// TestTurnsAreShared: whoever has much waiting has its share and no more, while others
// have work waiting, and all that is left over.
func TestTurnsAreShared(t *testing.T) {
	t.Run("one after the other", func(t *testing.T) {
		play(t, 1, func(p *played) {
			p.want("greedy", 6, 1)
			p.want("b", 2, 1)
			p.want("c", 1, 1)
			time.Sleep(20 * time.Second)
			// The first began while nobody else was there; b and c are as new as the next.
			p.mu.Lock()
			defer p.mu.Unlock()
			if got, want := strings.Join(p.order, " "), "greedy b c greedy b greedy greedy greedy greedy"; got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	})
	t.Run("dear work counts as what it is", func(t *testing.T) {
		play(t, 1, func(p *played) {
			p.want("dear", 50, 8)
			p.want("cheap", 400, 1)
			time.Sleep(200 * time.Second)
			if a, b := p.got("dear"), p.got("cheap"); max(a, b)-min(a, b) > 16 {
				t.Errorf("after 200 s the one had %d s, the other %d", a, b)
			}
			time.Sleep(1000 * time.Second)
		})
	})
	t.Run("dear work one at a time is no way around it", func(t *testing.T) {
		play(t, 1, func(p *played) {
			p.want("cheap", 300, 1)
			p.again("dear", 50, 8)
			time.Sleep(200 * time.Second)
			if a, b := p.got("dear"), p.got("cheap"); a > b+16 {
				t.Errorf("after 200 s the one had %d s, the other %d", a, b)
			}
			time.Sleep(1000 * time.Second)
		})
	})
	t.Run("nobody saves up", func(t *testing.T) {
		play(t, 1, func(p *played) {
			p.want("a", 200, 1)
			time.Sleep(100 * time.Second)
			p.want("late", 100, 1) // had nothing in 100 s, which gives it nothing now
			time.Sleep(50 * time.Second)
			if got := p.got("late"); got < 24 || got > 26 {
				t.Errorf("of 50 s the late one had %d", got)
			}
			time.Sleep(1000 * time.Second)
		})
	})
}

// TestGreedyPartyBesidePolite is the campaign's last phase without its machine: eleven
// parties with 32 clients, each of which posts again a second after it was answered, and one
// with 128 posts waiting at all times.
func TestGreedyPartyBesidePolite(t *testing.T) {
	const parties, clients, greedy = 11, 32, 128
	alone, beside := 0, 0
	for _, with := range []int{0, greedy} {
		play(t, 2, func(p *played) {
			end := time.Now().Add(time.Hour)
			client := func(party string, pause time.Duration) {
				for time.Now().Before(end) {
					_ = p.turns.do(context.Background(), party, 1, func() {
						p.has(party, 1)
						time.Sleep(50 * time.Millisecond)
					})
					time.Sleep(pause)
				}
			}
			for range with {
				go client("greedy", 0)
			}
			for i := range clients {
				go client(fmt.Sprint("polite ", i%parties), time.Second)
			}
			time.Sleep(time.Hour + time.Minute)
			n := 0
			for i := range parties {
				n += p.got(fmt.Sprint("polite ", i))
			}
			if with == 0 {
				alone = n
				return
			}
			beside = n
			// Two processors do 40 a second: what the others leave is not wasted.
			if all := n + p.got("greedy"); all < 39*3600 {
				t.Errorf("%d in an hour, two processors do %d", all, 40*3600)
			}
		})
	}
	if beside < alone*9/10 {
		t.Errorf("polite parties get %d beside a greedy one, %d without", beside, alone)
	}
}

// TestTurnsEnd: who gives up leaves the line, everything ends, and nothing is kept.
func TestTurnsEnd(t *testing.T) {
	play(t, 2, func(p *played) {
		rng := rand.New(rand.NewPCG(1, 2))
		var gone, done atomic.Int64
		for i := range 500 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+rng.IntN(100))*time.Second)
			took := time.Duration(rng.IntN(3)) * time.Second
			go func() {
				defer cancel()
				err := p.turns.do(ctx, fmt.Sprint(i%7), 1, func() { time.Sleep(took) })
				switch {
				case err == nil:
					done.Add(1)
				case errors.Is(err, context.DeadlineExceeded):
					gone.Add(1)
				default:
					t.Error(err)
				}
			}()
		}
		time.Sleep(time.Hour)
		if gone, done := gone.Load(), done.Load(); gone == 0 || done == 0 || gone+done != 500 {
			t.Errorf("%d gave up, %d had their turn", gone, done)
		}
		p.turns.mu.Lock()
		defer p.turns.mu.Unlock()
		if p.turns.free != 2 || len(p.turns.parties) != 0 {
			t.Errorf("%d processors are free, %d parties are remembered", p.turns.free, len(p.turns.parties))
		}
	})
}

// slow is a meter that makes a batch wait.
type slow struct{ api.Free }

func (slow) Take(context.Context, int) error {
	time.Sleep(time.Minute)
	return nil
}

// TestWaitingForTheRateTakesNoProcessor: a batch over its rate holds nobody else up.
func TestWaitingForTheRateTakesNoProcessor(t *testing.T) {
	play(t, 1, func(p *played) {
		go func() {
			m := resting{slow{}, p.turns, "batch"}
			_ = p.turns.do(context.Background(), "batch", 1, func() { _ = m.Take(context.Background(), 5) })
		}()
		synctest.Wait()
		start := time.Now()
		if err := p.turns.do(context.Background(), "other", 1, func() {}); err != nil || time.Since(start) != 0 {
			t.Errorf("another party waited %v, %v", time.Since(start), err)
		}
		time.Sleep(time.Hour)
		p.turns.mu.Lock()
		defer p.turns.mu.Unlock()
		if p.turns.free != 1 {
			t.Error("the processor was not given back")
		}
	})
}

// BenchmarkTurn is what a turn costs when nobody else is there.
func BenchmarkTurn(b *testing.B) {
	t := newTurns(2)
	for b.Loop() {
		if err := t.do(context.Background(), "a", 1, func() {}); err != nil {
			b.Fatal(err)
		}
	}
}
