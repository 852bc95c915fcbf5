package node

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/api"
	"fabtrail.dev/fabtrail/custody"
)

// storm is many clients of some parties that post statements, one after the other each,
// and try again at once when they are refused.
type storm struct {
	url    string
	client *http.Client
	next   func(party int) []byte // a new statement
	tokens []string               // by party

	accepted, refused, bare, other atomic.Int64 // bare: refused without Retry-After
	mu                             sync.Mutex
	took                           []time.Duration // of the accepted
	byParty                        []atomic.Int64  // accepted
}

// post posts a statement once; done says that it is recorded.
func (s *storm) post(ctx context.Context, party int, body []byte) (done bool) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/statements", bytes.NewReader(body))
	if err != nil {
		s.other.Add(1)
		return true
	}
	req.Header.Set("Authorization", "Bearer "+s.tokens[party])
	req.Header.Set("Content-Type", "application/json")
	start := time.Now()
	resp, err := s.client.Do(req)
	if err != nil {
		if ctx.Err() == nil {
			s.other.Add(1)
		}
		return false
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusCreated, http.StatusOK:
		s.accepted.Add(1)
		s.byParty[party].Add(1)
		s.mu.Lock()
		s.took = append(s.took, time.Since(start))
		s.mu.Unlock()
		return true
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		s.refused.Add(1)
		if resp.Header.Get("Retry-After") == "" {
			s.bare.Add(1)
		}
		return false
	}
	s.other.Add(1)
	return true
}

// newStorm enrols parties and gives each statements of its own.
func newStorm(t *testing.T, w *world, parties int) *storm {
	s := &storm{url: w.server.URL, byParty: make([]atomic.Int64, parties), client: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 4096}, Timeout: time.Minute}}
	t.Cleanup(s.client.CloseIdleConnections)
	names := []string{makerParty}
	for i := 1; i < parties; i++ {
		body := fmt.Sprintf("9506000%05d", 20000+i)
		names = append(names, "https://id.gs1.org/417/"+body+string(checkDigit(body)))
		w.enrol(names[i], "maker")
	}
	for _, p := range names {
		token, err := w.folder.Token(p, []string{"custody:write"}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		s.tokens = append(s.tokens, token)
	}
	var mu sync.Mutex
	n := 0
	s.next = func(party int) []byte {
		mu.Lock()
		n++
		ev, u := w.event(names[party], "maker", custody.First()), unit(n)
		mu.Unlock()
		p, err := custody.NewPayload(custody.KindCommission, u, w.ledger, ev, &custody.Commission{UnitKind: "device"})
		if err != nil {
			panic(err)
		}
		b, err := custody.Sign(p, w.keys[names[party]])
		if err != nil {
			panic(err)
		}
		return b
	}
	return s
}

func checkDigit(body string) byte {
	sum := 0
	for i := range len(body) {
		d := int(body[len(body)-1-i] - '0')
		if i%2 == 0 {
			d *= 3
		}
		sum += d
	}
	return byte('0' + (10-sum%10)%10)
}

// TestOverload is the campaign in small: more clients than are served at once, and one
// party over its rate. Each statement is recorded in the end, each refusal says when to
// come again, and the polite are not refused for the greedy one's rate.
func TestOverload(t *testing.T) {
	const parties, clients, each, greedy = 3, 12, 4, 2
	limits := api.Limits{WriteInFlight: 4, StatementRate: api.Rate{PerSecond: 1e-6, Burst: clients * each}}
	w := newWorldWith(t, Config{Folder: prepareFolder(t), Limits: limits})
	size := func() uint64 { return w.node.Ledger().Published().Size() }
	s := newStorm(t, w, parties)
	// The maker has enrolled; nothing was posted by the parties yet.
	before := size()
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() {
			for range each {
				body := s.next(c % 2)
				for !s.post(t.Context(), c%2, body) {
					runtime.Gosched()
				}
			}
		})
	}
	all.Wait()
	want := int64(clients * each)
	if s.accepted.Load() != want || s.bare.Load() != 0 || s.other.Load() != 0 {
		t.Errorf("%d accepted of %d, %d refused without Retry-After, %d other answers", s.accepted.Load(), want, s.bare.Load(), s.other.Load())
	}
	if got := size() - before; got < uint64(want) {
		t.Errorf("the log grew by %d, %d were accepted", got, want)
	}
	// The greedy party uses up its rate and is refused; another is not.
	for range clients*each + 5 {
		s.post(t.Context(), greedy, s.next(greedy))
	}
	if got := s.byParty[greedy].Load(); got != clients*each {
		t.Errorf("the greedy party has %d accepted, its rate allows %d", got, clients*each)
	}
	if s.refused.Load() < 5 || s.bare.Load() != 0 {
		t.Errorf("%d refused, %d of them without Retry-After", s.refused.Load(), s.bare.Load())
	}
	if !s.post(t.Context(), 0, s.next(0)) {
		t.Error("a party within its rate is refused")
	}
}

// phase runs clients for a while and says what came of it.
type phase struct {
	goodput        float64 // accepted a second
	refused        int64
	p50, p99       time.Duration
	rss            uint64 // most bytes obtained from the system
	bare, failures int64
}

func (s *storm) run(ctx context.Context, d time.Duration, clients int, party func(client int) int) phase {
	s.accepted.Store(0)
	s.refused.Store(0)
	s.other.Store(0)
	s.took = nil
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var all sync.WaitGroup
	start := time.Now()
	for c := range clients {
		all.Go(func() {
			p := party(c)
			for ctx.Err() == nil {
				body := s.next(p)
				for ctx.Err() == nil && !s.post(ctx, p, body) {
				}
			}
		})
	}
	var most uint64
	for ctx.Err() == nil {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		most = max(most, m.Sys-m.HeapReleased)
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	all.Wait()
	slices.Sort(s.took)
	at := func(q float64) time.Duration {
		if len(s.took) == 0 {
			return 0
		}
		return s.took[int(q*float64(len(s.took)-1))]
	}
	return phase{float64(s.accepted.Load()) / time.Since(start).Seconds(), s.refused.Load(), at(.5), at(.99), most, s.bare.Load(), s.other.Load()}
}

// TestOverloadCampaign prints goodput, latency and memory at 1, 5 and 20 times the clients
// that the ledger serves well, beside 10,000 idle sockets, beside a greedy party, and
// afterwards, and fails where that is not what overload may do: FABTRAIL_OVERLOAD=10s
// (make overload). Clients and ledger share the machine.
func TestOverloadCampaign(t *testing.T) {
	d, err := time.ParseDuration(os.Getenv("FABTRAIL_OVERLOAD"))
	if err != nil {
		t.Skip("a campaign: FABTRAIL_OVERLOAD=10s")
	}
	const parties, base = 12, 32
	w := newWorldWith(t, Config{Folder: prepareFolder(t)})
	s := newStorm(t, w, parties)
	ctx, stop := context.WithCancel(t.Context())
	addr := make(chan string, 1)
	var served sync.WaitGroup
	served.Go(func() {
		if err := w.node.Serve(ctx, "127.0.0.1:0", nil, func(a string) { addr <- a }); err != nil {
			t.Error(err)
		}
	})
	defer served.Wait()
	defer stop()
	at := <-addr
	s.url = "http://" + at
	all := func(c int) int { return c % parties }
	polite := func(c int) int { return c % (parties - 1) }
	var least uint64 // memory while it is not overloaded
	show := func(name string, p, first phase) {
		if least == 0 {
			least = p.rss
		}
		t.Logf("%-34s %8.0f/s %5.0f %%  refused %7d  p50 %9s  p99 %9s  %4d MiB  (%d without Retry-After, %d other)", name, p.goodput,
			100*p.goodput/first.goodput, p.refused, p.p50.Round(100*time.Microsecond), p.p99.Round(100*time.Microsecond), p.rss>>20, p.bare, p.failures)
		for wrong, is := range map[string]bool{
			"less than 90 % of the goodput":           p.goodput < .9*first.goodput,
			"refusals without Retry-After":            p.bare > 0,
			"answers that are neither yes nor no":     p.failures > 0,
			"more than 256 MiB above what it needs":   p.rss > least+256<<20,
			"accepted ones wait longer than a second": p.p99 > max(time.Second, 4*first.p99),
		} {
			if is {
				t.Errorf("%s: %s", name, wrong)
			}
		}
	}
	s.run(ctx, d/2, base, all) // warm up
	first := s.run(ctx, d, base, all)
	show("1x: 32 clients", first, first)
	show("5x: 160 clients", s.run(ctx, d, 5*base, all), first)
	show("20x: 640 clients", s.run(ctx, 3*d, 20*base, all), first)
	show("1x again", s.run(ctx, d, base, all), first)
	idle := holdOpen(t, at, 10_000)
	show(fmt.Sprintf("1x beside %d idle sockets", len(idle)), s.run(ctx, d, base, all), first)
	for _, c := range idle {
		_ = c.Close()
	}
	before := s.byParty[parties-1].Load()
	both := s.run(ctx, d, 5*base, func(c int) int { // 32 polite clients, 128 of one greedy party
		if c < base {
			return polite(c)
		}
		return parties - 1
	})
	show("1x beside a greedy party of 4x", both, first)
	greedy := s.byParty[parties-1].Load() - before
	t.Logf("%-34s %8.0f/s of them are the greedy party's", "", float64(greedy)/d.Seconds())
	runtime.GC()
	show("1x at the end", s.run(ctx, d, base, all), first)
	t.Logf("goroutines at the end: %d", runtime.NumGoroutine())
}

// holdOpen opens sockets that say nothing, as many as the system allows.
func holdOpen(t *testing.T, addr string, n int) (open []net.Conn) {
	for range n {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Logf("after %d sockets: %v", len(open), err)
			break
		}
		open = append(open, c)
	}
	return open
}
