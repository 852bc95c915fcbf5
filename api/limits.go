package api

import (
	"container/list"
	"context"
	"math"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"fabtrail.dev/fabtrail/internal/problem"
)

// class groups routes that share limits.
type class int

const (
	classFree   class = iota // health and the like: never refused
	classLog                 // the public log: tiles, checkpoint, proofs, trust
	classRead                // statements, units, findings, entries
	classWrite               // one statement
	classBatch               // many statements
	classUpload              // a manifest
	classes
)

var classNames = [classes]string{"free", "log", "read", "write", "batch", "upload"}

// Rate allows PerSecond events a second in the long run, Burst at once.
type Rate struct {
	PerSecond float64
	Burst     int
}

// Limits bounds what callers may use. A caller is the party of the token, or
// without one the address (of IPv6, the /64).
type Limits struct {
	// Requests being served at once, of everybody; more are answered with 503.
	LogInFlight, ReadInFlight, WriteInFlight, BatchInFlight, UploadInFlight int
	// BatchPerParty bounds the batches of one party at once, WritePerParty its single
	// statements: so nobody fills the queue that all wait in.
	BatchPerParty, WritePerParty int
	// LogRate and ReadRate bound the requests of one caller.
	LogRate, ReadRate Rate
	// StatementRate bounds the statements of one party; large ones count as several
	// (see Meter). A single one over the rate is answered with 429; a batch is slowed
	// down to it.
	StatementRate Rate
	// UploadRate bounds the manifests of one party, each begun 256 KiB as one.
	UploadRate Rate
	// StatusRate bounds the units of which one caller gets no more than a status word
	// (without a token also those that are not there): serials can be guessed.
	StatusRate Rate
	// TokenFailureRate bounds the bad tokens of one address that get a 401; more
	// are answered with 429.
	TokenFailureRate Rate
}

// DefaultLimits suits one node: at most some 200 MiB of request bodies at once.
var DefaultLimits = Limits{
	LogInFlight: 512, ReadInFlight: 256, WriteInFlight: 512, BatchInFlight: 8, UploadInFlight: 4,
	BatchPerParty: 2, WritePerParty: 128,
	LogRate:          Rate{2000, 4000},
	ReadRate:         Rate{200, 1000},
	StatementRate:    Rate{1000, 10000},
	UploadRate:       Rate{20, 200},
	StatusRate:       Rate{5, 50},
	TokenFailureRate: Rate{5, 50},
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits
	for _, f := range []struct{ v, def *int }{
		{&l.LogInFlight, &d.LogInFlight}, {&l.ReadInFlight, &d.ReadInFlight}, {&l.WriteInFlight, &d.WriteInFlight},
		{&l.BatchInFlight, &d.BatchInFlight}, {&l.UploadInFlight, &d.UploadInFlight}, {&l.BatchPerParty, &d.BatchPerParty}, {&l.WritePerParty, &d.WritePerParty},
	} {
		if *f.v == 0 {
			*f.v = *f.def
		}
	}
	for _, f := range []struct{ v, def *Rate }{
		{&l.LogRate, &d.LogRate}, {&l.ReadRate, &d.ReadRate}, {&l.StatementRate, &d.StatementRate},
		{&l.UploadRate, &d.UploadRate}, {&l.StatusRate, &d.StatusRate}, {&l.TokenFailureRate, &d.TokenFailureRate},
	} {
		if *f.v == (Rate{}) {
			*f.v = *f.def
		}
	}
	return l
}

// limiter keeps the counts behind Limits.
type limiter struct {
	clock    func() time.Time
	log      *keyed
	read     *keyed
	stmt     *keyed
	upload   *keyed
	status   *keyed
	failures *keyed
	perParty [classes]int // 0: as many as there are

	mu      sync.Mutex
	max     [classes]int
	all     [classes]pool
	byParty map[partyClass]*pool
}

type partyClass struct {
	party string
	class class
}

func newLimiter(l Limits, clock func() time.Time) *limiter {
	return &limiter{
		clock: clock,
		log:   newKeyed(l.LogRate), read: newKeyed(l.ReadRate), stmt: newKeyed(l.StatementRate),
		upload: newKeyed(l.UploadRate), status: newKeyed(l.StatusRate), failures: newKeyed(l.TokenFailureRate),
		perParty: [classes]int{classBatch: l.BatchPerParty, classWrite: l.WritePerParty},
		max: [classes]int{
			classFree: math.MaxInt, classLog: l.LogInFlight, classRead: l.ReadInFlight,
			classWrite: l.WriteInFlight, classBatch: l.BatchInFlight, classUpload: l.UploadInFlight,
		},
		byParty: map[partyClass]*pool{},
	}
}

// pool is the requests of a class that are being served, or those of one party.
type pool struct {
	taken         int
	since         time.Time // when ended was last 0
	ended, before int       // requests that ended since then, and in a second before
	due           time.Time // when whoever is refused next is told to come
}

// maxAgain is how long whoever finds no place is told to wait at most.
const maxAgain = 5 * time.Second

func (p *pool) leave(now time.Time) {
	p.taken--
	p.ended++
	p.age(now)
}

func (p *pool) age(now time.Time) {
	if d := now.Sub(p.since); d >= time.Second {
		p.before, p.ended, p.since = int(float64(p.ended)/d.Seconds()), 0, now
	}
}

// again returns after how many seconds whoever finds no place should come again. Callers are
// told times as far apart as places come free, of which half are taken at once by those who have
// just had one: each refusal costs about what a signature check does, and many that come
// too soon would have a good part of the processors.
func (p *pool) again(now time.Time) int64 {
	p.age(now)
	if soon := now.Add(time.Second); p.due.Before(soon) {
		p.due = soon
	}
	d := p.due.Sub(now)
	if d < maxAgain {
		p.due = p.due.Add(2 * time.Second / time.Duration(max(p.before, p.ended, p.taken, 1)))
	}
	return int64(min(d, maxAgain).Round(time.Second) / time.Second)
}

// enter counts a request of the class in, unless there are too many.
func (l *limiter) enter(c class) (leave func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &l.all[c]
	if p.taken >= l.max[c] {
		return nil, problem.New("overloaded", "", "too many requests of this kind are being served").With("retryAfter", p.again(l.clock()))
	}
	p.taken++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		p.leave(l.clock())
	}, nil
}

// enterParty counts a request of the party in, unless it has too many of the class: more
// than a party ever may, or as many as there are places left. So a few parties that take
// all they can leave places for others: n of them have a part of n+1 each, and the last
// part is free (Choudhury and Hahne, Dynamic Queue Length Thresholds, 1998).
func (l *limiter) enterParty(c class, party string) (leave func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := partyClass{party, c}
	most := l.perParty[c]
	if most == 0 {
		return func() {}, nil
	}
	p := l.byParty[key]
	if p == nil {
		p = &pool{}
		l.byParty[key] = p
	}
	// This request has its place already.
	if p.taken >= most || p.taken > 0 && p.taken >= l.max[c]-l.all[c].taken {
		return nil, problem.New("rate_limited", "", "as many requests of this party as may be are being served: %d", p.taken).
			WithHint("wait for them to end; send many statements as a batch").With("retryAfter", p.again(l.clock()))
	}
	p.taken++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if p.leave(l.clock()); p.taken == 0 {
			delete(l.byParty, key)
		}
	}, nil
}

// take uses up one event of the key, or says when to come again.
func (l *limiter) take(k *keyed, key string) error { return l.takeN(k, key, 1) }

// takeN is take for n events. More than half of what is allowed at once needs that
// half, and the rest is owed: so the rate holds in the long run, and the largest
// request comes through although its own small parts were taken just before.
func (l *limiter) takeN(k *keyed, key string, n int) error {
	if n <= 0 {
		return nil
	}
	now := l.clock()
	first := min(n, max(1, k.rate.Burst/2))
	r := k.get(key).ReserveN(now, first)
	d := r.DelayFrom(now)
	if d <= 0 {
		l.reserve(k, key, n-first)
		return nil
	}
	r.CancelAt(now)
	return problem.New("rate_limited", "", "too many requests of this caller").
		WithHint("wait as long as Retry-After says").With("retryAfter", int64(math.Ceil(d.Seconds())))
}

// reserve uses up n events of the key and says how long to wait before they are
// due.
func (l *limiter) reserve(k *keyed, key string, n int) time.Duration {
	now := l.clock()
	var d time.Duration
	for n > 0 { // a reservation holds a burst at most
		part := min(n, k.rate.Burst)
		d = k.get(key).ReserveN(now, part).DelayFrom(now)
		n -= part
	}
	return d
}

// Sleep waits for d or until ctx ends, and returns the reason in that case.
type Sleep func(ctx context.Context, d time.Duration) error

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// maxKeys bounds the callers that are remembered at once; the one that was idle
// longest is forgotten first.
const maxKeys = 1 << 14

// keyed is a rate limiter for each of many keys.
type keyed struct {
	rate Rate

	mu    sync.Mutex
	byKey map[string]*list.Element
	order *list.List // of *bucket, most recently used first
}

type bucket struct {
	key string
	*rate.Limiter
}

func newKeyed(r Rate) *keyed {
	return &keyed{rate: r, byKey: map[string]*list.Element{}, order: list.New()}
}

func (k *keyed) get(key string) *rate.Limiter {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e, ok := k.byKey[key]; ok {
		k.order.MoveToFront(e)
		return e.Value.(*bucket).Limiter
	}
	if k.order.Len() >= maxKeys {
		last := k.order.Back()
		delete(k.byKey, last.Value.(*bucket).key)
		k.order.Remove(last)
	}
	b := &bucket{key, rate.NewLimiter(rate.Limit(k.rate.PerSecond), k.rate.Burst)}
	k.byKey[key] = k.order.PushFront(b)
	return b.Limiter
}

// addressKey is the key of a caller without a token: its address, of IPv6 the
// /64, since one host has all of it.
func addressKey(ip string) string {
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return ip
	}
	if a = a.Unmap(); a.Is6() {
		p, err := a.Prefix(64)
		if err == nil {
			return p.Masked().String()
		}
	}
	return a.String()
}
