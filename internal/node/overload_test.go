package node

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/api"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/procs"
)

// posts is many clients of some parties that post statements, one after the other each,
// and try again at once when they are refused.
type posts struct {
	url    string
	client *http.Client
	next   func(party int) []byte // a new statement
	tokens []string               // by party

	accepted, refused, bare, other atomic.Int64   // bare: refused without Retry-After
	byParty                        []atomic.Int64 // accepted
}

// post posts a statement once; done says that it is recorded.
func (s *posts) post(ctx context.Context, party int, body []byte) (done bool) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/statements", bytes.NewReader(body))
	if err != nil {
		s.other.Add(1)
		return true
	}
	req.Header.Set("Authorization", "Bearer "+s.tokens[party])
	req.Header.Set("Content-Type", "application/json")
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

// newPosts enrols parties and gives each statements of its own.
func newPosts(t *testing.T, w *world, parties int) *posts {
	s := &posts{url: w.server.URL, byParty: make([]atomic.Int64, parties), client: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 4096}, Timeout: time.Minute}}
	t.Cleanup(s.client.CloseIdleConnections)
	names := enrolMakers(w, parties)
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

// enrolMakers enrols parties beside the maker that the world has.
func enrolMakers(w *world, parties int) []string {
	names := []string{makerParty}
	for i := 1; i < parties; i++ {
		body := fmt.Sprintf("9506000%05d", 20000+i)
		names = append(names, "https://id.gs1.org/417/"+body+string(checkDigit(body)))
		w.enrol(names[i], "maker")
	}
	return names
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
	s := newPosts(t, w, parties)
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

// pace measures, while a phase goes on, what processor time an Ed25519 check takes: as much
// work as ever, done by the same processors in the same company. What the machine does in a
// second changes by half within minutes, and by as much with what the clients do on the other
// half of a core. It costs a hundredth of a processor.
func pace() (end func() (check time.Duration)) {
	const every, checks = 40 * time.Millisecond, 4
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		panic(err)
	}
	msg := make([]byte, 1024)
	sig := ed25519.Sign(key, msg)
	ended, each := make(chan struct{}), make(chan time.Duration)
	go func() {
		runtime.LockOSThread()
		var took []time.Duration
		for {
			select {
			case <-ended:
				slices.Sort(took)
				each <- took[len(took)/2] / checks // the median: a guest of the host may take long at times
				return
			case <-time.After(every):
			}
			start := threadTime()
			for range checks {
				if !ed25519.Verify(pub, msg, sig) {
					panic("a signature does not verify")
				}
			}
			took = append(took, threadTime()-start)
		}
	}()
	return func() time.Duration {
		close(ended)
		return <-each
	}
}

// campaign is the ledger and its clients.
type campaign struct {
	t     *testing.T
	d     time.Duration // of a slice
	storm *storm
	made  int // profiles
}

// phase is what slices of one kind came to, together.
type phase struct {
	stormTally               // P50 and P99 of the slice where they were longest
	window     time.Duration // that is counted in
	checks     float64       // Ed25519 checks that the ledger's processors could have done meanwhile
	cost, load float64       // processor time of the ledger's process and of the clients', in such checks
	had        time.Duration // what the ledger's process had of the processors,
	whole      time.Duration // and what there was
	most       uint64        // bytes that the ledger's process had from the system, at most
	live       uint64        // bytes of them in use afterwards
	routines   int           // goroutines afterwards
}

func (p *phase) add(o *phase) {
	if p.Accepted == nil {
		p.Accepted = make([]int64, len(o.Accepted))
	}
	for i, n := range o.Accepted {
		p.Accepted[i] += n
	}
	p.Late, p.Refused, p.Bare, p.Other = p.Late+o.Late, p.Refused+o.Refused, p.Bare+o.Bare, p.Other+o.Other
	p.P50, p.P99, p.Idle = max(p.P50, o.P50), max(p.P99, o.P99), max(p.Idle, o.Idle)
	p.window, p.checks = p.window+o.window, p.checks+o.checks
	p.cost, p.load, p.had, p.whole = p.cost+o.cost, p.load+o.load, p.had+o.had, p.whole+o.whole
	p.most, p.live, p.routines = max(p.most, o.most), max(p.live, o.live), max(p.routines, o.routines)
}

// accepted is how many statements were, in the time that counts.
func (p *phase) accepted() (n float64) {
	for _, a := range p.Accepted {
		n += float64(a)
	}
	return n
}

// goodput is what was accepted, in signature checks that could have been done.
func (p *phase) goodput() float64 { return p.accepted() / p.checks }

// watchMemory looks at what this process has from the system until it is told to end; it
// returns the most that it saw, in bytes.
func watchMemory() (end func() uint64) {
	ended, done := make(chan struct{}), make(chan uint64)
	go func() {
		var most uint64
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.Sys-m.HeapReleased)
			select {
			case <-ended:
				done <- most
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	return func() uint64 {
		close(ended)
		return <-done
	}
}

// profile writes what the ledger's processors do in a slice, and the heap after it, to the
// folder FABTRAIL_OVERLOAD_PROFILES, if that is given.
func (c *campaign) profile(name string) (end func()) {
	dir := os.Getenv("FABTRAIL_OVERLOAD_PROFILES")
	if dir == "" {
		return func() {}
	}
	c.made++
	path := filepath.Join(dir, fmt.Sprintf("%02d-%s.", c.made, strings.ReplaceAll(name, " ", "-")))
	f, err := os.Create(path + "cpu")
	if err == nil {
		err = pprof.StartCPUProfile(f)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return func() {
		pprof.StopCPUProfile()
		heap, err := os.Create(path + "heap")
		if err == nil {
			err = errors.Join(pprof.WriteHeapProfile(heap), heap.Close(), f.Close())
		}
		if err != nil {
			c.t.Fatal(err)
		}
	}
}

// slice has the clients do as ordered, for the time of a slice unless the order says.
func (c *campaign) slice(name string, o stormOrder) *phase {
	o.For = max(o.For, c.d)
	end, profiled := watchMemory(), c.profile(name)
	p := &phase{window: o.For}
	var check time.Duration
	p.stormTally = c.storm.run(o, func() { // while the clients are at it, and no longer
		cpu, stolen, paced := processorTime(), stolenTime(procs.Count()), pace()
		<-time.After(o.For)
		check, p.had = paced(), processorTime()-cpu
		p.whole = o.For*time.Duration(procs.Count()) - (stolenTime(procs.Count()) - stolen)
	})
	profiled()
	p.most = end()
	p.checks = p.whole.Seconds() / check.Seconds()
	p.cost, p.load = p.had.Seconds()/check.Seconds(), p.CPU.Seconds()/check.Seconds()
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	p.live, p.routines = m.HeapAlloc, runtime.NumGoroutine()
	return p
}

// against has the clients do one thing and another in turn, so that what the machine does by
// itself, and what the ledger has grown by, falls on both. It returns what came of each, and of
// slices of the first that came right after the other.
func (c *campaign) against(name string, base, other stormOrder) (usual, with, after *phase) {
	usual, with, after = &phase{}, &phase{}, &phase{}
	for _, turn := range []string{"usual", "other", "other", "after", "usual", "other", "other", "after", "usual"} {
		switch turn {
		case "usual":
			usual.add(c.slice("beside "+name, base))
		case "other":
			with.add(c.slice(name, other))
		case "after":
			after.add(c.slice("after "+name, base))
		}
	}
	return usual, with, after
}

// maxMemory is what the ledger's process may have from the system under any load: caches have
// 370 MiB at most, with the views' and the memtables, filters and tables some 60, the garbage collector lets as much
// again become garbage, and 10,000 sockets take 100.
const maxMemory = 1 << 30

// leastGoodput is what a processor does under usual load at least, in the signature checks that it
// could have done: one of 32 clients, and with HTTP and the views, is at half as much again or better.
const leastGoodput = .1

// show prints what came of a kind of slice.
func (c *campaign) show(name string, p, than *phase) {
	c.t.Logf("%-30s %6.0f/s raw, %5.3f of checks, %4.0f %%  refused %7d  p50 %8s  p99 %8s  ledger %4.1f checks each, busy %3.0f %%, clients %4.1f  %4d MiB, %3d live  %d goroutines",
		name, p.accepted()/p.window.Seconds(), p.goodput(), 100*p.goodput()/than.goodput(), p.Refused, p.P50.Round(100*time.Microsecond), p.P99.Round(100*time.Microsecond),
		p.cost/p.accepted(), 100*p.had.Seconds()/p.whole.Seconds(), p.load/(p.accepted()+float64(p.Late)), p.most>>20, p.live>>20, p.routines)
}

// judge shows what came of two things done in turn, and fails where it is not what overload
// may do: worth of the goodput, nine tenths of it right afterwards; wait is how long those that are accepted
// may have waited.
func (c *campaign) judge(name string, base, other stormOrder, worth float64, wait time.Duration) (usual, with *phase) {
	usual, with, after := c.against(name, base, other)
	c.show("usual", usual, usual)
	c.show(name, with, usual)
	c.show("right after it", after, usual)
	for wrong, is := range map[string]bool{
		"less goodput than it should be":          !(with.goodput() >= worth*usual.goodput()),
		"less goodput afterwards":                 !(after.goodput() >= .9*usual.goodput()),
		"next to nothing under usual load":        !(usual.goodput() >= leastGoodput),
		"refusals under usual load":               usual.Refused+after.Refused > 0,
		"refusals without Retry-After":            usual.Bare+with.Bare+after.Bare > 0,
		"answers that are neither yes nor no":     usual.Other+with.Other+after.Other > 0,
		"more memory than it should ever need":    max(usual.most, with.most, after.most) > maxMemory,
		"accepted ones wait longer than they may": with.P99 > wait || max(usual.P99, after.P99) > time.Second,
	} {
		if is {
			c.t.Errorf("%s: %s", name, wrong)
		}
	}
	return usual, with
}

// spread gives n clients to some of the parties, as evenly as can be.
func spread(n, among, parties int) []int {
	by := make([]int, parties)
	for i := range n {
		by[i%among]++
	}
	return by
}

func shareOf(by []int64, party int) float64 {
	var all int64
	for _, n := range by {
		all += n
	}
	return float64(by[party]) / float64(max(all, 1))
}

// TestOverloadCampaign prints goodput, latency and memory at 5 and 20 times the clients
// that the ledger serves well, with clients that come again at once when they are refused, beside 10,000 idle sockets and beside a greedy party,
// each in turn with usual load, and fails where that is not what overload may do: FABTRAIL_OVERLOAD=5s for
// a slice, of which there are 51 (make overload); three times that for those with 20 times the clients, who are told to come again in 5 s at most. Clients and ledger share the machine, and the machine's speed changes
// by itself: goodput is compared as a share of the signature checks that it could do in the same time.
func TestOverloadCampaign(t *testing.T) {
	d, err := time.ParseDuration(os.Getenv("FABTRAIL_OVERLOAD"))
	if err != nil {
		t.Skip("a campaign: FABTRAIL_OVERLOAD=5s")
	}
	const parties, few, full, warm = 12, 32, 128, 6
	w := newWorldWith(t, Config{Folder: prepareFolder(t)})
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
	c := &campaign{t: t, d: d, storm: startStorm(t, w.storm(<-addr, parties))}
	all := func(n int) stormOrder { return stormOrder{Clients: spread(n, parties, parties), Greedy: -1} }
	crowd := all(20 * full)
	crowd.For = 3 * d
	hasty := crowd
	hasty.Hasty = true
	polite := stormOrder{Clients: spread(few, parties-1, parties), Greedy: parties - 1}
	idle := polite
	idle.Idle = 10_000
	both := polite
	both.Clients = append(spread(few, parties-1, parties)[:parties-1], 4*few)

	// An empty database has nothing to compact, and appends to it are cheaper than they will be.
	for range warm {
		c.slice("warm", all(full))
	}
	c.judge("5x: 640 clients for 128", all(full), all(5*full), .9, time.Second)
	c.judge("20x: 2560 clients", all(full), crowd, .9, time.Second)
	// Those are made to wait for as long as they were told to, in their connections, and more of them come at once.
	c.judge("20x that come again at once", all(full), hasty, .85, 10*time.Second)
	_, sockets := c.judge("10,000 idle sockets and 32", polite, idle, .9, time.Second)
	t.Logf("%-30s %d sockets", "", sockets.Idle)
	usual, beside := c.judge("128 of one greedy party and 32", polite, both, .9, time.Second)
	greedy := shareOf(beside.Accepted, parties-1)
	kept := (1 - greedy) * beside.goodput() / usual.goodput()
	t.Logf("%-30s %.0f %% of it is the greedy party's; the others get %.0f %% of what they get without it", "", 100*greedy, 100*kept)
	if !(kept >= .9*(1-1.0/parties)) { // of what is left to them, if each party has the same
		t.Errorf("a greedy party takes from the others more than its share")
	}
}

// storm enrols the parties of a storm, and says what its clients must know.
func (w *world) storm(addr string, parties int) stormWorld {
	s := stormWorld{Addr: addr, Ledger: w.ledger, Names: enrolMakers(w, parties)}
	for _, p := range s.Names {
		token, err := w.folder.Token(p, []string{"custody:write"}, time.Hour)
		if err != nil {
			w.t.Fatal(err)
		}
		key, err := x509.MarshalPKCS8PrivateKey(w.keys[p])
		if err != nil {
			w.t.Fatal(err)
		}
		s.Tokens, s.Keys = append(s.Tokens, token), append(s.Keys, key)
	}
	return s
}
