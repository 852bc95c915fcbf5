package witness

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits bounds how often the witness is asked. A zero field means the default;
// a negative rate means no limit.
type Limits struct {
	// PerClient counts requests by remote address (IPv6: its /64) before
	// anything is parsed; default 200 a second, burst 400.
	PerClient      rate.Limit
	PerClientBurst int
	// PerLog counts requests that the log itself signed, so that nobody else
	// can use it up; default 100 a second, burst 200.
	PerLog      rate.Limit
	PerLogBurst int
}

const maxClients = 4096

type limiter struct {
	cfg Limits

	mu      sync.Mutex
	clients map[netip.Prefix]*rate.Limiter
	swept   time.Time                // when idle clients were last looked for: a costly search
	logs    map[string]*rate.Limiter // only configured logs get here
}

func newLimiter(l Limits) *limiter {
	def := func(r *rate.Limit, burst *int, n int) {
		if *r == 0 {
			*r = rate.Limit(n)
		}
		if *r < 0 {
			*r = rate.Inf
		}
		if *burst <= 0 {
			*burst = 2 * n
		}
	}
	def(&l.PerClient, &l.PerClientBurst, 200)
	def(&l.PerLog, &l.PerLogBurst, 100)
	return &limiter{cfg: l, clients: map[netip.Prefix]*rate.Limiter{}, logs: map[string]*rate.Limiter{}}
}

func (l *limiter) client(remote string, now time.Time) bool {
	var key netip.Prefix // the zero prefix is shared by all that have no address
	if ap, err := netip.ParseAddrPort(remote); err == nil {
		addr := ap.Addr().Unmap()
		bits := 64
		if addr.Is4() {
			bits = 32
		}
		key, _ = addr.WithZone("").Prefix(bits)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.clients[key]
	if b == nil {
		if len(l.clients) >= maxClients && now.Sub(l.swept).Abs() >= time.Second {
			l.forgetIdle(now)
			l.swept = now
		}
		if len(l.clients) >= maxClients {
			key = netip.Prefix{} // newcomers share one allowance until some are idle
			b = l.clients[key]
		}
		if b == nil {
			b = rate.NewLimiter(l.cfg.PerClient, l.cfg.PerClientBurst)
			l.clients[key] = b
		}
	}
	return b.AllowN(now, 1)
}

// forgetIdle drops the clients whose allowance is full again: forgetting them
// changes nothing.
func (l *limiter) forgetIdle(now time.Time) {
	for k, b := range l.clients {
		if b.TokensAt(now) >= float64(l.cfg.PerClientBurst) {
			delete(l.clients, k)
		}
	}
}

func (l *limiter) log(log Log, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.logs[log.Origin]
	if b == nil {
		b = rate.NewLimiter(l.cfg.PerLog, l.cfg.PerLogBurst)
		if log.PerDay > 0 {
			b = rate.NewLimiter(rate.Limit(log.PerDay/86400), max(10, int(log.PerDay/24)))
		}
		l.logs[log.Origin] = b
	}
	return b.AllowN(now, 1)
}
