package node

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"
)

// places bounds what one party has on its way through the ledger, from the first look at a
// statement until it is durable, while others are about. A commit takes all that waits, and
// whoever is in it is answered when all of it is done: a party with 128 clients would have
// most of every commit, and make it so long that others, who send their next statement when
// they have an answer, get less than half of what they get without it. Turns cannot see to
// that: nothing of the others waits while their answers are being made.
//
// A party may begin a statement while it is no further ahead of most of the others, by what each
// has begun lately, than these have on their way at once; and whenever fewer places
// are taken than keep the machine busy. A place that is given back counts as taken for a
// while: whoever has just had an answer mostly comes back at once (Iyer and Druschel,
// Anticipatory scheduling, 2001). Who is alone has no bound, and parties that all have much
// to do have none either: a statement costs less in a large commit.
type places struct {
	enough int // that keep the machine busy

	mu      sync.Mutex
	taken   int
	waiting int
	parties map[string]*guest
	aged    time.Time // when a part of what was begun was last forgotten
	looking bool      // somebody waits, and a timer looks after that
}

const (
	// enoughPlaces keep the machine busy whoever they are of: with half as many, a statement
	// took half as much processor time again, as commits were small; with twice as many, as much.
	enoughPlaces = 8
	// leastPiece is how many statements of a batch cost about what a commit costs by itself.
	leastPiece = 16
	// lately is how long it takes until half of what was begun is forgotten.
	lately = 250 * time.Millisecond
	// keepFor is for how much longer than it was taken a place is kept: reading a request and sending
	// an answer take twice as long as what is between them when the machine is busy.
	keepFor = 2
	// keepMost bounds that: after a stall of the disk nobody waits for those who are gone.
	keepMost = 250 * time.Millisecond
	// manyParties is how many parties are compared. Among more nobody is bounded here: to look at
	// all of them for each statement would cost more than it saves, and turns are left.
	manyParties = 256
	// lookEvery is how often it is seen, while somebody waits, whether a kept place has become free.
	lookEvery = 5 * time.Millisecond
)

// guest is a party that has places, waits for one, or had one lately.
type guest struct {
	has    []time.Time // since when, longest first
	kept   []time.Time // places that it gave back: until when they count as taken
	line   []*ask
	begun  int // statements lately
	most   int // places that it had and wanted at once since places.aged
	before int // and in the time before that
}

// ask is a call that wants places for some statements, and is given got of them when begin
// is closed.
type ask struct {
	n, got int
	begin  chan struct{}
}

// wants is how many places the party has and waits for.
func (g *guest) wants() int { return len(g.has) + len(g.line) }

// bound is what other parties may have begun, for all that this one does.
func (g *guest) bound() int { return g.begun + max(g.most, g.before) }

func newPlaces(enough int) *places {
	return &places{enough: enough, parties: map[string]*guest{}, aged: time.Now()}
}

// enter waits for places for some of n statements of the party, in their order, and returns for
// how many; the caller calls leave with that unless there is an error, which is ctx's.
func (p *places) enter(ctx context.Context, party string, n int) (got int, err error) {
	p.mu.Lock()
	now := time.Now()
	p.age(now)
	g := p.parties[party]
	if g == nil {
		g = &guest{}
		p.parties[party] = g
	}
	mine := &ask{n: n, begin: make(chan struct{})}
	if p.waiting == 0 {
		if most := p.may(g, now); most > 0 {
			p.take(g, mine, most, now)
			p.mu.Unlock()
			return mine.got, nil
		}
	}
	g.line = append(g.line, mine)
	g.most = max(g.most, g.wants())
	p.waiting++
	p.admit(now)
	p.mu.Unlock()
	select {
	case <-mine.begin:
		return mine.got, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(g.line, mine)
	if i < 0 { // its turn came at that moment
		return mine.got, nil
	}
	g.line = slices.Delete(g.line, i, i+1)
	p.waiting--
	return 0, ctx.Err()
}

// leave gives n places of the party back.
func (p *places) leave(party string, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.age(now)
	g := p.parties[party]
	for i := range n {
		if i >= len(g.line) { // who waits has the place at once
			g.kept = append(g.kept, now.Add(min(keepFor*now.Sub(g.has[0]), keepMost)))
		}
		g.has = g.has[1:]
	}
	p.taken -= n
	p.admit(now)
}

// age forgets half of what was begun, and parties that are gone.
func (p *places) age(now time.Time) {
	for ; now.Sub(p.aged) >= lately; p.aged = p.aged.Add(lately) {
		if len(p.parties) == 0 {
			p.aged = now
			return
		}
		for party, g := range p.parties {
			g.begun /= 2
			g.before, g.most = g.most, g.wants()
			if g.bound() == 0 && g.keeps(now) == 0 {
				delete(p.parties, party)
			}
		}
	}
}

// keeps is how many places are kept for the party.
func (g *guest) keeps(now time.Time) int {
	for len(g.kept) > 0 && !now.Before(g.kept[0]) {
		g.kept = g.kept[1:]
	}
	return len(g.kept)
}

// take gives the party places for what a call asks, at most so many.
func (p *places) take(g *guest, a *ask, most int, now time.Time) {
	a.got = min(a.n, max(most, leastPiece))
	p.taken += a.got
	g.begun += a.got
	for range a.got {
		g.has = append(g.has, now)
	}
	g.kept = g.kept[min(a.got, len(g.kept)):]
	g.most = max(g.most, g.wants())
	close(a.begin)
}

// may returns how many more statements the party may begin now.
func (p *places) may(g *guest, now time.Time) int {
	if len(p.parties) == 1 || len(p.parties) > manyParties {
		return math.MaxInt
	}
	taken := p.taken
	if taken < p.enough { // else there is no need to look who keeps places
		for _, o := range p.parties {
			if o != g {
				taken += o.keeps(now)
			}
		}
	}
	bounds := make([]int, 0, len(p.parties))
	for _, o := range p.parties {
		if o != g {
			bounds = append(bounds, o.bound())
		}
	}
	slices.Sort(bounds)
	return max(0, p.enough-taken, bounds[(len(bounds)-1)/2]-g.begun)
}

// admit gives places to those who wait and may have one: first to whoever has begun
// fewest. If that one may not, those who are ahead of it may not either.
func (p *places) admit(now time.Time) {
	for p.waiting > 0 {
		var next string
		var least *guest
		for party, g := range p.parties {
			if len(g.line) > 0 && (least == nil || g.begun < least.begun || g.begun == least.begun && party < next) {
				next, least = party, g
			}
		}
		most := p.may(least, now)
		if most == 0 {
			break
		}
		first := least.line[0]
		least.line = least.line[1:]
		p.waiting--
		p.take(least, first, most, now)
	}
	if p.waiting > 0 && !p.looking {
		p.looking = true
		time.AfterFunc(lookEvery, p.look)
	}
}

// look gives places that have become free by themselves.
func (p *places) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looking = false
	now := time.Now()
	p.age(now)
	p.admit(now)
}
