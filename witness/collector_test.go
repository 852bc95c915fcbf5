package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a witness behind real HTTP that can be told to misbehave.
type site struct {
	*fixture
	name string
	srv  *httptest.Server
	mode atomic.Pointer[http.HandlerFunc] // nil: behaves
	asks atomic.Int32
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == "POST" {
		s.asks.Add(1)
	}
	if m := s.mode.Load(); m != nil {
		(*m)(w, r)
		return
	}
	s.fixture.ServeHTTP(w, r)
}

func (s *site) be(h http.HandlerFunc) {
	if h == nil {
		s.mode.Store(nil)
		return
	}
	s.mode.Store(&h)
}

// ring is a log with its collector and n witnesses, of which t suffice.
type ring struct {
	*Collector
	log    *testLog
	policy *checkpoint.Policy
	sites  []*site
	other  *site // one that the policy does not know
	clock  *clock
	stop   chan struct{} // closed at the end: releases handlers that hang
	stores []*FileStore  // to close at the end
}

var passed = func() chan time.Time { c := make(chan time.Time); close(c); return c }()

func newSite(t testing.TB, name string, now *clock) *site {
	t.Helper()
	s := &site{name: name}
	s.fixture = newWitness(t, name+".example", func(c *Config) { c.Clock = now.Now })
	s.fixture.clock = now
	s.srv = httptest.NewServer(s)
	t.Cleanup(s.srv.Close)
	return s
}

func newRing(t testing.TB, n, need int, change ...func(*CollectorConfig)) *ring {
	t.Helper()
	r := &ring{log: newLog(t, origin, -1), clock: newClock(), stop: make(chan struct{})}
	var policy strings.Builder
	fmt.Fprintf(&policy, "log %s\n", r.log.signer.VKey())
	members := ""
	r.other = newSite(t, "other", r.clock)
	for i := range n {
		s := newSite(t, fmt.Sprintf("w%d", i+1), r.clock)
		r.sites = append(r.sites, s)
		fmt.Fprintf(&policy, "witness %s %s %s/\n", s.name, s.vkey, s.srv.URL)
		members += " " + s.name
	}
	fmt.Fprintf(&policy, "group q %d%s\nquorum q\n", need, members)
	if n == 0 {
		policy.Reset()
		fmt.Fprintf(&policy, "log %s\nquorum none\n", r.log.signer.VKey())
	}
	r.policy = must[*checkpoint.Policy](t)(checkpoint.ParsePolicy([]byte(policy.String())))
	tr := &http.Transport{}
	cfg := CollectorConfig{
		Log: r.log.signer.VKey(), Policy: r.policy, Transport: tr, Clock: r.clock.Now,
		// no grace but for the answers that are there already
		After:   func(time.Duration) <-chan time.Time { return passed },
		Timeout: time.Minute, Metrics: NewCollectorMetrics(),
	}
	for _, c := range change {
		c(&cfg)
	}
	r.Collector = must[*Collector](t)(NewCollector(cfg))
	t.Cleanup(func() {
		close(r.stop)
		r.Close()
		for _, store := range r.stores {
			_ = store.Close()
		}
		tr.CloseIdleConnections()
	})
	return r
}

// waitAll makes the grace last until all have answered.
func waitAll(c *CollectorConfig) {
	c.After = func(time.Duration) <-chan time.Time { return nil }
}

func (r *ring) cosign(ctx context.Context, t testing.TB, size uint64) ([]byte, error) {
	t.Helper()
	return r.Cosign(ctx, 0, r.log.note(t, size).Marshal(), r.log.consistency)
}

// good fails unless the note carries the log's signature, a quorum, and nothing
// that is not verified; it returns who cosigned.
func (r *ring) good(t testing.TB, note []byte, size uint64) []string {
	t.Helper()
	c := must[checkpoint.Cosigned](t)(r.policy.Verify(note))
	n := must[checkpoint.Note](t)(checkpoint.ParseNote(note))
	if c.Checkpoint != r.log.cp(size) || len(n.Sigs) != 1+len(c.Cosigs) {
		t.Fatalf("cosigned %+v with %d signatures, %d of them cosignatures", c.Checkpoint, len(n.Sigs), len(c.Cosigs))
	}
	var names []string
	for _, s := range c.Cosigs {
		names = append(names, s.Name)
	}
	return names
}

// With n witnesses of which some refuse, there is a checkpoint exactly if the
// others are a quorum.
func TestCollectorQuorums(t *testing.T) {
	for n := 1; n <= 5; n++ {
		for need := 1; need <= n; need++ {
			r := newRing(t, n, need, waitAll)
			size := uint64(0)
			for refusing := range n + 1 {
				for i, s := range r.sites {
					s.be(nil)
					if i < refusing {
						s.be(status(500, "")(r, s))
					}
				}
				size++
				note, err := r.cosign(t.Context(), t, size)
				if ok := n-refusing >= need; ok != (err == nil) {
					t.Fatalf("%d of %d, %d refuse: %v", need, n, refusing, err)
				}
				if err == nil {
					if got := r.good(t, note, size); len(got) != n-refusing {
						t.Errorf("%d of %d, %d refuse: cosigned by %v", need, n, refusing, got)
					}
				}
				r.clock.Add(time.Minute)
			}
		}
	}
}

// Witnesses that hang, before their answer or within it, hold nobody up once the
// quorum is there; where they are needed, the caller's context ends it.
func TestCollectorHang(t *testing.T) {
	trickle := func(r *ring, s *site) http.HandlerFunc {
		return func(w http.ResponseWriter, q *http.Request) {
			_, _ = io.Copy(io.Discard, q.Body)
			_, _ = io.WriteString(w, "— ")
			w.(http.Flusher).Flush()
			hang(r, s)(w, q)
		}
	}
	for name, do := range map[string]func(*ring, *site) http.HandlerFunc{"silent": hang, "trickle": trickle} {
		t.Run(name, func(t *testing.T) {
			r := newRing(t, 3, 2) // a grace that is over at once
			r.sites[0].be(do(r, r.sites[0]))
			note, err := r.cosign(t.Context(), t, 5)
			if err != nil {
				t.Fatal(err)
			}
			if got := r.good(t, note, 5); !slices.Equal(got, []string{"w2", "w3"}) {
				t.Errorf("cosigned by %v", got)
			}
			if n := testutil.ToFloat64(r.cfg.Metrics.answers.WithLabelValues("w1", "late")); n != 1 {
				t.Errorf("%v answers late", n)
			}
			// it is left alone in the next round
			asks := r.sites[0].asks.Load()
			if _, err := r.cosign(t.Context(), t, 6); err != nil || r.sites[0].asks.Load() > max(asks, 1) {
				t.Errorf("next round: %v, asked %d times", err, r.sites[0].asks.Load())
			}

			// needed: the context ends it, and that is no failure of the witness
			r = newRing(t, 2, 2)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stuck := do(r, r.sites[0])
			r.sites[0].be(func(w http.ResponseWriter, q *http.Request) { cancel(); stuck(w, q) })
			if _, err := r.cosign(ctx, t, 5); !errors.Is(err, context.Canceled) || !errors.Is(err, checkpoint.ErrNoQuorum) {
				t.Errorf("cancelled: %v", err)
			}
			r.sites[0].be(nil)
			if note, err := r.cosign(t.Context(), t, 6); err != nil || len(r.good(t, note, 6)) != 2 {
				t.Errorf("after a cancelled round: %v", err)
			}

			// needed: its own time-out ends it
			r = newRing(t, 1, 1, func(c *CollectorConfig) { c.Timeout = 10 * time.Millisecond })
			r.sites[0].be(do(r, r.sites[0]))
			if _, err := r.cosign(t.Context(), t, 5); !errors.Is(err, checkpoint.ErrNoQuorum) {
				t.Errorf("timed out: %v", err)
			}
			if n := testutil.ToFloat64(r.cfg.Metrics.answers.WithLabelValues("w1", "timeout")); n != 1 {
				t.Errorf("%v answers timed out", n)
			}
		})
	}
}

// Witnesses may say that they were cancelled before the round notices by itself that
// its context ended: the caller is told so all the same.
func TestCollectorCancelled(t *testing.T) {
	var cancel context.CancelFunc
	var r *ring
	r = newRing(t, 2, 2, func(c *CollectorConfig) {
		c.Logger = slog.New(slog.NewTextHandler(onWrite(func() { // the round notes the first failure
			cancel()
			r.Close() // the other has answered, too
		}), nil))
	})
	first, second := r.sites[0], r.sites[1]
	first.be(status(500, "")(r, first))
	second.be(hang(r, second))
	for range 30 { // which of the two it takes first is chance
		ctx, end := context.WithCancel(t.Context())
		cancel = end
		if _, err := r.cosign(ctx, t, 5); !errors.Is(err, context.Canceled) || !errors.Is(err, checkpoint.ErrNoQuorum) {
			t.Fatal(err)
		}
		end()
		r.clock.Add(time.Hour)
	}
}

// onWrite is called for each write.
type onWrite func()

func (f onWrite) Write(b []byte) (int, error) {
	f()
	return len(b), nil
}

// Requests carry the log's own signature and no other, start from what the
// witness saw last, and a 409 is followed once.
func TestCollectorRequests(t *testing.T) {
	r := newRing(t, 1, 1)
	s := r.sites[0]
	var mu sync.Mutex
	var olds []uint64
	s.be(func(w http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		req, err := ParseRequest(b)
		if err != nil || len(req.Note.Sigs) != 1 || !r.cfg.Log.Made(req.Note.Sigs[0]) {
			t.Errorf("request %q: %v", b, err)
		}
		mu.Lock()
		olds = append(olds, req.Old)
		mu.Unlock()
		q.Body = io.NopCloser(bytes.NewReader(b))
		s.fixture.ServeHTTP(w, q)
	})
	n := r.log.note(t, 5)
	n.Sigs = append(n.Sigs, cosigAt(s, n.Text, 0), checkpoint.NoteSig{Name: "x", KeyID: 1, Sig: []byte("junk")})
	ask := func(old, size uint64) {
		t.Helper()
		if size != 5 {
			n = r.log.note(t, size)
		}
		note, err := r.Cosign(t.Context(), old, n.Marshal(), r.log.consistency)
		if err != nil {
			t.Fatal(err)
		}
		r.good(t, note, size)
	}
	ask(3, 5)  // a wrong guess: 409 with 0, then 0
	ask(99, 7) // it is known that 5 was seen
	ask(0, 7)  // the same again
	s.advance(t, 7, 9)
	ask(0, 12) // somebody else was there: 409 with 9, then 9
	if want := []uint64{3, 0, 5, 7, 7, 9}; !slices.Equal(olds, want) {
		t.Errorf("asked from %d, want %d", olds, want)
	}
	// it was restored from a backup and has lost what it knew
	lost := newWitness(t, "w1.example", func(c *Config) { c.Clock = r.clock.Now })
	s.be(lost.ServeHTTP)
	ask(0, 14)
	// it cosigns, and the answer is lost on the way
	s.be(func(w http.ResponseWriter, q *http.Request) {
		lost.ServeHTTP(httptest.NewRecorder(), q)
		w.WriteHeader(502)
	})
	if _, err := r.cosign(t.Context(), t, 20); !errors.Is(err, checkpoint.ErrNoQuorum) {
		t.Fatal(err)
	}
	r.clock.Add(time.Minute)
	s.be(lost.ServeHTTP)
	ask(0, 20)
}

func TestCollectorRefusesInput(t *testing.T) {
	r := newRing(t, 1, 1)
	other := newLog(t, "other.example", -1)
	bad := r.log.note(t, 5)
	bad.Sigs[0].Sig[3] ^= 1
	for name, note := range map[string][]byte{
		"no note":       []byte("x"),
		"no checkpoint": checkpoint.Note{Text: "x\n", Sigs: bad.Sigs}.Marshal(),
		"another log":   other.note(t, 5).Marshal(),
		"bad signature": bad.Marshal(),
	} {
		if _, err := r.Cosign(t.Context(), 0, note, r.log.consistency); err == nil || errors.Is(err, checkpoint.ErrNoQuorum) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if r.sites[0].asks.Load() != 0 {
		t.Error("a witness was asked")
	}
	broken := errors.New("no such tile")
	r.sites[0].advance(t, 0, 3)
	_, err := r.Cosign(t.Context(), 0, r.log.note(t, 5).Marshal(), func(context.Context, uint64, uint64) ([]entry.Hash, error) { return nil, broken })
	var no *NoQuorumError
	if !errors.As(err, &no) || !errors.Is(no.Failures[0].Err, broken) {
		t.Errorf("no proof: %v", err)
	}
}

// The collector leaves a witness alone for longer each time it fails, asks all
// again when the quorum needs it and it is due, and forgives on success.
func TestCollectorBackoff(t *testing.T) {
	r := newRing(t, 3, 2, waitAll, func(c *CollectorConfig) { c.BackoffMin, c.BackoffMax = time.Second, 8*time.Second })
	s := r.sites[2]
	s.be(status(500, "")(r, s))
	var gaps []int
	since := 0
	for range 40 {
		before := s.asks.Load()
		if _, err := r.cosign(t.Context(), t, 5); err != nil {
			t.Fatal(err)
		}
		if s.asks.Load() > before {
			gaps, since = append(gaps, since), 0
		}
		since++
		r.clock.Add(time.Second)
	}
	if want := []int{0, 1, 2, 4, 8, 8, 8, 8}; !slices.Equal(gaps, want) {
		t.Errorf("asked after %v seconds, want %v", gaps, want)
	}
	// two of three are down: no quorum, and nothing is asked until one is due
	r.sites[1].be(status(503, "")(r, s))
	if _, err := r.cosign(t.Context(), t, 6); !errors.Is(err, checkpoint.ErrNoQuorum) {
		t.Fatal(err)
	}
	asks := r.sites[0].asks.Load()
	_, err := r.cosign(t.Context(), t, 6)
	var no *NoQuorumError
	if !errors.As(err, &no) || no.RetryAfter != time.Second || len(no.Failures) != 2 || r.sites[0].asks.Load() != asks {
		t.Fatalf("%+v", no)
	}
	// one is back; when it is due the two are asked, and the third is not waited for
	r.sites[1].be(nil)
	r.clock.Add(no.RetryAfter)
	if note, err := r.cosign(t.Context(), t, 6); err != nil || len(r.good(t, note, 6)) != 2 {
		t.Fatal(err)
	}
	s.be(nil)
	r.clock.Add(time.Minute)
	if note, err := r.cosign(t.Context(), t, 6); err != nil || len(r.good(t, note, 6)) != 3 {
		t.Fatal(err)
	}
	// Retry-After is heeded, within the maximum
	s.be(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Retry-After", "4"); w.WriteHeader(429) })
	r.clock.Add(time.Minute)
	if _, err := r.cosign(t.Context(), t, 7); err != nil {
		t.Fatal(err)
	}
	asks = s.asks.Load()
	for range 4 {
		if _, err := r.cosign(t.Context(), t, 7); err != nil || s.asks.Load() != asks {
			t.Fatalf("asked before its time: %v", err)
		}
		r.clock.Add(time.Second)
	}
	if _, err := r.cosign(t.Context(), t, 7); err != nil || s.asks.Load() == asks {
		t.Fatalf("not asked when its time had come: %v", err)
	}
}

// When the quorum needs several that failed, all are asked as soon as one of
// them is due: the others are back sooner than their own backoff says.
func TestCollectorBackoffTogether(t *testing.T) {
	r := newRing(t, 2, 2, waitAll, func(c *CollectorConfig) { c.BackoffMin, c.BackoffMax = time.Second, time.Minute })
	a, b := r.sites[0], r.sites[1]
	a.be(status(500, "")(r, a))
	for range 4 { // a's backoff is 8 s now
		if _, err := r.cosign(t.Context(), t, 5); !errors.Is(err, checkpoint.ErrNoQuorum) {
			t.Fatal(err)
		}
		r.clock.Add(4 * time.Second)
	}
	r.clock.Add(4 * time.Second)
	b.be(status(500, "")(r, b))
	_, err := r.cosign(t.Context(), t, 5)
	if !errors.Is(err, checkpoint.ErrNoQuorum) || a.asks.Load() != 5 {
		t.Fatalf("%v, asked %d times", err, a.asks.Load())
	}
	a.be(nil)
	b.be(nil)
	r.clock.Add(time.Second) // b is due, a in 15 s
	if note, err := r.cosign(t.Context(), t, 5); err != nil || len(r.good(t, note, 5)) != 2 {
		t.Errorf("both are back: %v", err)
	}
}

// Cosigners outside the quorum are asked, kept when they answer, and never
// awaited beyond the grace nor able to make or break the quorum.
func TestCollectorOptional(t *testing.T) {
	l := newLog(t, origin, -1)
	index := newWitness(t, "index.example")
	srv := httptest.NewServer(index)
	t.Cleanup(srv.Close)
	extra := func(c *CollectorConfig) {
		c.Extra = append(c.Extra, Endpoint{Name: "index", VKey: index.vkey, URL: srv.URL})
	}
	r := newRing(t, 2, 2, waitAll, extra)
	index.clock = r.clock
	index.cfg.Clock = r.clock.Now
	note, err := r.cosign(t.Context(), t, 5)
	if err != nil {
		t.Fatal(err)
	}
	n := must[checkpoint.Note](t)(checkpoint.ParseNote(note))
	var names []string
	for _, s := range n.Sigs {
		names = append(names, s.Name)
	}
	if want := []string{l.signer.VKey().Name, "w1.example", "w2.example", "index.example"}; !slices.Equal(names, want) {
		t.Errorf("signed by %v, want %v", names, want)
	}
	if _, err := index.vkey.VerifyCosignature(n); err != nil {
		t.Error(err)
	}
	r.sites[0].be(status(500, "")(r, r.sites[0]))
	if _, err := r.cosign(t.Context(), t, 6); !errors.Is(err, checkpoint.ErrNoQuorum) {
		t.Errorf("an extra cosigner made the quorum: %v", err)
	}
	srv.Close()
	r.sites[0].be(nil)
	r.clock.Add(time.Minute)
	note, err = r.cosign(t.Context(), t, 7)
	if err != nil || len(r.good(t, note, 7)) != 2 {
		t.Errorf("an extra cosigner broke the quorum: %v", err)
	}
	// nobody is needed: the log's note is the result
	none := newRing(t, 0, 0)
	if note, err = none.cosign(t.Context(), t, 3); err != nil || !bytes.Equal(note, none.log.note(t, 3).Marshal()) {
		t.Errorf("quorum none: %q, %v", note, err)
	}
}

func TestNewCollectorRefuses(t *testing.T) {
	l, w := newLog(t, origin, -1), newSigner(t, "w.example", checkpoint.TypeCosigner)
	policy := func(url string) *checkpoint.Policy {
		return must[*checkpoint.Policy](t)(checkpoint.ParsePolicy([]byte("witness w " + w.VKey().String() + " " + url + "\nquorum w\n")))
	}
	for name, cfg := range map[string]CollectorConfig{
		"no policy":          {Log: l.signer.VKey()},
		"witness key as log": {Log: w.VKey(), Policy: policy("http://h")},
		"no URL":             {Log: l.signer.VKey(), Policy: policy("")},
		"no host":            {Log: l.signer.VKey(), Policy: policy("http:///x")},
		"other scheme":       {Log: l.signer.VKey(), Policy: policy("file:///etc/passwd")},
		"password":           {Log: l.signer.VKey(), Policy: policy("http://u:p@h")},
		"query":              {Log: l.signer.VKey(), Policy: policy("http://h?x")},
		"extra with log key": {Log: l.signer.VKey(), Policy: policy("http://h"), Extra: []Endpoint{{"x", l.signer.VKey(), "http://h"}}},
	} {
		if _, err := NewCollector(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	c, err := NewCollector(CollectorConfig{Log: l.signer.VKey(), Policy: policy("http://h/"), Extra: []Endpoint{{"again", w.VKey(), "http://h"}}})
	if err != nil || len(c.peers) != 1 {
		t.Errorf("a witness of the policy as an extra cosigner: %v", err)
	}
}

// What witnesses show of the log, for a log that starts.
func TestAsk(t *testing.T) {
	r := newRing(t, 5, 1, waitAll)
	r.sites[0].advance(t, 0, 5)
	r.sites[1].advance(t, 0, 20)
	forged := newLog(t, origin, 3).cp(30) // not signed by the log
	r.sites[3].be(func(w http.ResponseWriter, _ *http.Request) {
		n := checkpoint.Note{Text: forged.Text(), Sigs: []checkpoint.NoteSig{cosigAt(r.sites[3], forged.Text(), 0)}}
		_, _ = w.Write(n.Marshal())
	})
	r.sites[4].be(func(w http.ResponseWriter, _ *http.Request) { // the log's word without its own
		_, _ = w.Write(r.log.note(t, 35).Marshal())
	})
	views := r.Ask(t.Context())
	for i, want := range []View{
		{Checkpoint: r.log.cp(5), Cosigned: true},
		{Checkpoint: r.log.cp(20), Cosigned: true},
		{},
		{Err: checkpoint.ErrNoSignature},
		{Checkpoint: r.log.cp(35)},
	} {
		v := views[i]
		if v.Name != r.sites[i].name || v.Checkpoint != want.Checkpoint || v.Cosigned != want.Cosigned ||
			!errors.Is(v.Err, want.Err) || (v.Note != nil) != (want.Checkpoint.Size > 0) || (v.Time != 0) != want.Cosigned {
			t.Errorf("%s: %+v, want %+v", v.Name, v, want)
		}
	}
	// what was seen is where the next proof starts
	r.sites[3].be(nil)
	r.sites[4].be(nil)
	if _, err := r.cosign(t.Context(), t, 21); err != nil {
		t.Fatal(err)
	}
	if n := r.sites[1].asks.Load(); n != 1 {
		t.Errorf("a witness whose size was known was asked %d times", n)
	}
	r.sites[0].be(status(500, "")(r, r.sites[0]))
	if v := r.Ask(t.Context())[0]; v.Err == nil || v.Note != nil {
		t.Errorf("%+v", v)
	}
}

// The two histories of one operator get at most one quorum between them when
// the threshold is a majority, whatever the collector does.
func TestCollectorCannotFork(t *testing.T) {
	r := newRing(t, 3, 2, waitAll)
	if _, err := r.cosign(t.Context(), t, 8); err != nil {
		t.Fatal(err)
	}
	fork := newLog(t, origin, 4)
	for size := uint64(5); size < 20; size++ {
		r.clock.Add(time.Minute)
		note, err := r.Cosign(t.Context(), 0, fork.note(t, size).Marshal(), fork.consistency)
		if err == nil {
			t.Fatalf("a fork was cosigned at size %d: %s", size, note)
		}
	}
	r.clock.Add(time.Minute)
	if note, err := r.cosign(t.Context(), t, 9); err != nil || len(r.good(t, note, 9)) != 3 {
		t.Errorf("the true history afterwards: %v", err)
	}
}

// Both metrics register and have valid names.
func TestMetrics(t *testing.T) {
	r := newRing(t, 1, 1)
	if _, err := r.cosign(t.Context(), t, 5); err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(r.cfg.Metrics, r.sites[0].cfg.Metrics)
	for name, want := range map[string]int{
		"fabtrail_cosign_answers_total": 2, "fabtrail_cosign_rounds_total": 1, "fabtrail_cosign_size": 1,
		"fabtrail_witness_answers_total": 1, "fabtrail_witness_cosigned_size": 1,
	} {
		if n := must[int](t)(testutil.GatherAndCount(reg, name)); n != want && name != "fabtrail_cosign_answers_total" || n == 0 {
			t.Errorf("%d series of %s, want %d", n, name, want)
		}
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}
