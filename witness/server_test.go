package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// Every rule of the specification, at a witness that last cosigned size 10.
func TestStatusRules(t *testing.T) {
	fork := newLog(t, origin, 9) // another entry 9
	late := newLog(t, origin, 12)
	good := newLog(t, origin, -1)
	stranger := newLog(t, "stranger.example", -1)
	req := func(l *testLog, old, size uint64, change ...func(*Request)) string {
		r := l.request(t, old, size)
		for _, c := range change {
			c(&r)
		}
		return string(r.Marshal())
	}
	flipSig := func(r *Request) { r.Note.Sigs[0].Sig[3] ^= 1 }
	noProof := func(r *Request) { r.Proof = nil }
	ok := req(good, 10, 20)
	for _, c := range []struct {
		name   string
		body   string
		status int
		reason string
	}{
		{"grows", ok, 200, "cosigned"},
		{"same size again", req(good, 10, 10), 200, "cosigned"},
		{"grows by one", req(good, 10, 11), 200, "cosigned"},
		{"unknown signature beside", req(good, 10, 20, func(r *Request) {
			r.Note.Sigs = append(r.Note.Sigs, checkpoint.NoteSig{Name: "x", KeyID: 1, Sig: []byte("junk")})
		}), 200, "cosigned"},
		{"extension line", req(good, 10, 20, func(r *Request) {
			cp := good.cp(20)
			cp.Extension = "more\n"
			r.Note = good.sign(t, cp)
		}), 200, "cosigned"},

		{"empty body", "", 400, "malformed"},
		{"old 010", strings.Replace(ok, "old 10", "old 010", 1), 400, "malformed"},
		{"old +10", strings.Replace(ok, "old 10", "old +10", 1), 400, "malformed"},
		{"old with a tab", strings.Replace(ok, "old 10", "old\t10", 1), 400, "malformed"},
		{"old 2^64", strings.Replace(ok, "old 10", "old 18446744073709551616", 1), 400, "malformed"},
		{"no old line", strings.Replace(ok, "old 10\n", "", 1), 400, "malformed"},
		{"size 020", strings.Replace(ok, "\n20\n", "\n020\n", 1), 400, "malformed"},
		{"carriage returns", strings.ReplaceAll(ok, "\n", "\r\n"), 400, "malformed"},
		{"no empty line", strings.Replace(ok, "\n\n", "\n", 1), 400, "malformed"},
		{"proof line of 31 bytes", strings.Replace(ok, "old 10\n", "old 10\nAAAA\n", 1), 400, "malformed"},
		{"64 proof lines", req(good, 10, 20, func(r *Request) { r.Proof = make([]entry.Hash, 64) }), 400, "malformed"},
		{"no signature line", strings.Split(ok, "—")[0], 400, "malformed"},
		{"body above the limit", ok + strings.Repeat("x", MaxRequest), 413, "too-large"},

		{"unknown origin", req(stranger, 0, 5), 404, "unknown-log"},
		{"unknown origin, bad signature", req(stranger, 0, 5, flipSig), 404, "unknown-log"},

		{"bad signature", req(good, 10, 20, flipSig), 403, "bad-signature"},
		{"bad signature comes before old above size", req(good, 30, 20, flipSig, noProof), 403, "bad-signature"},
		{"signature by another key alone", req(good, 10, 20, func(r *Request) {
			cp := stranger.cp(20)
			r.Note.Sigs = stranger.sign(t, cp).Sigs
		}), 403, "no-signature"},
		{"good signature and a bad one by the same key", req(good, 10, 20, func(r *Request) {
			s := r.Note.Sigs[0]
			s.Sig = slices.Clone(s.Sig)
			s.Sig[0] ^= 1
			r.Note.Sigs = append(r.Note.Sigs, s)
		}), 403, "bad-signature"},

		{"old above size", req(good, 30, 20, noProof), 400, "old-above-size"},
		{"old above size, at the size known", req(good, 10, 5, noProof), 400, "old-above-size"},

		{"old behind", req(good, 5, 20), 409, "conflict"},
		{"old ahead", req(good, 15, 20), 409, "conflict"},
		{"old zero", req(good, 0, 20), 409, "conflict"},
		{"old behind, at that size", req(good, 5, 5), 409, "conflict"},
		{"conflict comes before a fork", req(fork, 9, 20), 409, "conflict"},
		{"conflict comes before proof from zero", req(good, 0, 20, func(r *Request) { r.Proof = make([]entry.Hash, 1) }), 409, "conflict"},

		{"other root at the same size", req(fork, 10, 10), 422, "fork"},
		{"other history, its own proof", req(fork, 10, 20), 422, "proof"},
		{"no proof", req(good, 10, 20, noProof), 422, "proof"},
		{"proof of another size", req(good, 10, 20, func(r *Request) { r.Proof = good.proof(9, 20) }), 422, "proof"},
		{"proof too long", req(good, 10, 20, func(r *Request) { r.Proof = append(r.Proof, entry.Hash{}) }), 422, "proof"},
		{"proof at the same size", req(good, 10, 10, func(r *Request) { r.Proof = make([]entry.Hash, 1) }), 422, "proof"},
		{"root of another size", req(good, 10, 20, func(r *Request) {
			cp := good.cp(20)
			cp.Root = good.roots[21]
			r.Note = good.sign(t, cp)
		}), 422, "proof"},
		{"history that forks later is no fork yet", req(late, 10, 12), 200, "cosigned"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newWitness(t, "w.example")
			f.advance(t, 0, 10)
			before, _, _ := f.store.Latest(origin)
			w := post(f, []byte(c.body))
			if w.Code != c.status {
				t.Fatalf("answer %d %q, want %d", w.Code, w.Body, c.status)
			}
			label := origin
			if c.status == 404 || c.reason == "malformed" || c.status == 413 {
				label = ""
			}
			n := testutil.ToFloat64(f.cfg.Metrics.answers.WithLabelValues(label, fmt.Sprint(c.status), c.reason))
			if want := 1.0; c.status == 200 && n != 2 || c.status != 200 && n != want {
				t.Errorf("%v answers counted as %d %s", n, c.status, c.reason)
			}
			after, _, _ := f.store.Latest(origin)
			switch c.status {
			case 200:
				r := must[Request](t)(ParseRequest([]byte(c.body)))
				f.cosigned(t, w, r.Note)
				if after.Size != r.Checkpoint.Size || after.Root != r.Checkpoint.Root {
					t.Errorf("record %+v", after)
				}
				return
			case 409:
				if w.Body.String() != "10\n" || !slices.Equal(w.Header()["Content-Type"], []string{"text/x.tlog.size"}) {
					t.Errorf("409 with %q, %q", w.Body, w.Header())
				}
			default:
				if strings.Contains(w.Body.String(), "—") {
					t.Errorf("a signature in the refusal: %s", w.Body)
				}
			}
			if !bytes.Equal(before.Note, after.Note) || before.State() != after.State() {
				t.Errorf("record moved to %+v", after)
			}
		})
	}
}

// The rules about size zero, at a witness that has cosigned nothing.
func TestSizeZero(t *testing.T) {
	l := newLog(t, origin, -1)
	wrong := l.cp(0)
	wrong.Root = l.roots[1]
	for _, c := range []struct {
		name   string
		req    Request
		status int
	}{
		{"empty tree", l.request(t, 0, 0), 200},
		{"empty tree with another root", Request{Note: l.sign(t, wrong)}, 422},
		{"first checkpoint", l.request(t, 0, 7), 200},
		{"first checkpoint with a proof", Request{Proof: make([]entry.Hash, 1), Note: l.note(t, 7)}, 422},
		{"empty tree with a proof", Request{Proof: make([]entry.Hash, 1), Note: l.note(t, 0)}, 422},
		{"old above zero", l.request(t, 3, 7), 409},
	} {
		f := newWitness(t, "w.example")
		w := post(f, c.req.Marshal())
		if w.Code != c.status {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
		if c.status == 409 && w.Body.String() != "0\n" {
			t.Errorf("%s: %q", c.name, w.Body)
		}
		if c.status == 200 {
			f.cosigned(t, w, c.req.Note)
			f.advance(t, must[Request](t)(ParseRequest(c.req.Marshal())).Checkpoint.Size, 9)
		}
	}
}

// The same checkpoint again gets a fresh time, and GET shows the latest note.
func TestRecosignAndMonitor(t *testing.T) {
	f := newWitness(t, "w.example")
	path := "/" + OriginHash(origin) + "/checkpoint"
	if w := get(f, path); w.Code != 404 {
		t.Fatalf("never cosigned: %d", w.Code)
	}
	f.advance(t, 0, 5)
	f.clock.Add(1e9)
	f.advance(t, 5, 5)
	w := get(f, path)
	if w.Code != 200 || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	n := must[checkpoint.Note](t)(checkpoint.ParseNote(w.Body.Bytes()))
	if err := f.log.signer.VKey().VerifyLog(n); err != nil {
		t.Error(err)
	}
	if at, err := f.vkey.VerifyCosignature(n); err != nil || int64(at) != f.clock.Now().Unix() {
		t.Errorf("time %d, %v", at, err)
	}
	for path, want := range map[string]int{
		"/" + strings.ToUpper(OriginHash(origin)) + "/checkpoint": 404,
		"/" + OriginHash("other") + "/checkpoint":                 404,
		"/" + OriginHash(origin):                                  404,
		"/add-checkpoint":                                         405,
	} {
		if w := get(f, path); w.Code != want {
			t.Errorf("GET %s: %d, want %d", path, w.Code, want)
		}
	}
	r := httptest.NewRecorder()
	f.ServeHTTP(r, httptest.NewRequest("PUT", "/add-checkpoint", nil))
	if r.Code != 405 {
		t.Errorf("PUT: %d", r.Code)
	}
}

// Signatures of others do not enter the record; those of all trusted keys do.
func TestRecordHoldsVerifiedSignatures(t *testing.T) {
	next := newLog(t, "ledger.example/next", -1)
	f := newWitness(t, "w.example", func(c *Config) {
		c.Logs[0].Keys = append(c.Logs[0].Keys, next.signer.VKey())
	})
	r := f.log.request(t, 0, 5)
	r.Note.Sigs = append(r.Note.Sigs,
		must[checkpoint.NoteSig](t)(next.signer.SignLog(r.Note.Text)),
		must[checkpoint.NoteSig](t)(newSigner(t, "other.example", checkpoint.TypeCosigner).Cosign(r.Note.Text, 1)))
	f.cosigned(t, post(f, r.Marshal()), r.Note)
	rec, _, _ := f.store.Latest(origin)
	var names []string
	for _, s := range must[checkpoint.Note](t)(checkpoint.ParseNote(rec.Note)).Sigs {
		names = append(names, s.Name)
	}
	if want := []string{origin, "ledger.example/next", "w.example"}; !slices.Equal(names, want) {
		t.Errorf("record is signed by %q, want %q", names, want)
	}
}

// gate is a store in which a swap waits to be let through, so that the race of
// the specification is forced, not hoped for.
type gate struct {
	Store
	arrived chan uint64              // size of a swap that is about to be made
	open    map[uint64]chan struct{} // closed to let that size through
}

func (g *gate) Swap(old State, next Record) error {
	g.arrived <- next.Size
	<-g.open[next.Size]
	return g.Store.Swap(old, next)
}

// Requests for N and N+K are both checked before either is stored; whichever is
// stored second must not be cosigned, in particular N after N+K.
func TestRollbackRace(t *testing.T) {
	for _, first := range []uint64{10, 20} {
		g := &gate{arrived: make(chan uint64), open: map[uint64]chan struct{}{10: make(chan struct{}), 20: make(chan struct{})}}
		f := newWitness(t, "w.example", func(c *Config) { g.Store, c.Store = c.Store, g })
		answers := map[uint64]chan *httptest.ResponseRecorder{}
		for _, size := range []uint64{10, 20} {
			answer := make(chan *httptest.ResponseRecorder, 1)
			answers[size] = answer
			body := f.log.request(t, 0, size).Marshal()
			go func() { answer <- post(f, body) }()
		}
		<-g.arrived
		<-g.arrived // both have passed every check
		close(g.open[first])
		won := <-answers[first]
		f.cosigned(t, won, f.log.note(t, first))
		second := 30 - first
		close(g.open[second])
		lost := <-answers[second]
		if lost.Code != 409 || lost.Body.String() != fmt.Sprintf("%d\n", first) {
			t.Errorf("after %d was stored, %d was answered %d %q", first, second, lost.Code, lost.Body)
		}
		if rec, _, _ := f.store.Latest(origin); rec.Size != first {
			t.Errorf("record at %d, want %d", rec.Size, first)
		}
	}
}

// failing is a store whose swaps fail with an unknown outcome.
type failing struct{ Store }

func (failing) Swap(State, Record) error { return errors.New("disk on fire at /var/secret") }

func TestNoCosignatureWithoutStore(t *testing.T) {
	f := newWitness(t, "w.example", func(c *Config) { c.Store = failing{c.Store} })
	w := post(f, f.log.request(t, 0, 5).Marshal())
	if w.Code != 500 || strings.Contains(w.Body.String(), "—") || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestCheckHook(t *testing.T) {
	var verdict error
	var seen []uint64
	f := newWitness(t, "w.example", func(c *Config) {
		c.Check = func(_ context.Context, cp checkpoint.Checkpoint, n checkpoint.Note) error {
			if n.Text != cp.Text() {
				t.Error("note is not of the checkpoint")
			}
			seen = append(seen, cp.Size)
			return verdict
		}
	})
	body := f.log.request(t, 0, 5).Marshal()
	verdict = errors.New("index root at entry 4 is false: unit x")
	if w := post(f, body); w.Code != 422 || !strings.Contains(w.Body.String(), "unit x") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	verdict = fmt.Errorf("have entries to 3 only: %w", ErrUnavailable)
	if w := post(f, body); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if _, ok, _ := f.store.Latest(origin); ok {
		t.Error("a refused checkpoint was recorded")
	}
	verdict = nil
	f.cosigned(t, post(f, body), f.log.note(t, 5))
	if post(f, f.log.request(t, 3, 9).Marshal()).Code != 409 || !slices.Equal(seen, []uint64{5, 5, 5}) {
		t.Errorf("asked about %d: not last of all", seen)
	}
}

func TestRateLimits(t *testing.T) {
	f := newWitness(t, "w.example", func(c *Config) {
		c.Limits = Limits{PerClient: 1, PerClientBurst: 4, PerLog: 1, PerLogBurst: 2}
	})
	send := func(addr, body string) int {
		r := httptest.NewRequest("POST", "/add-checkpoint", strings.NewReader(body))
		r.RemoteAddr = addr
		w := httptest.NewRecorder()
		f.ServeHTTP(w, r)
		if w.Code == 429 && w.Header().Get("Retry-After") == "" {
			t.Error("429 without Retry-After")
		}
		return w.Code
	}
	var got []int
	for range 6 {
		got = append(got, send("192.0.2.1:1000", "junk"))
	}
	if want := []int{400, 400, 400, 400, 429, 429}; !slices.Equal(got, want) {
		t.Errorf("one client: %v, want %v", got, want)
	}
	// junk has used up nothing of the log's allowance, and other clients pass
	got = nil
	for i := range 3 {
		size := uint64(i + 1)
		got = append(got, send(fmt.Sprintf("[2001:db8:%d::1]:1", i), string(f.log.request(t, size-1, size).Marshal())))
	}
	if want := []int{200, 200, 429}; !slices.Equal(got, want) {
		t.Errorf("one log: %v, want %v", got, want)
	}
	f.clock.Add(2e9)
	if code := send("192.0.2.1:1000", string(f.log.request(t, 2, 3).Marshal())); code != 200 {
		t.Errorf("later: %d", code)
	}
	// one /64 is one client, and the table is bounded
	got = nil
	for i := range 5 {
		got = append(got, send(fmt.Sprintf("[2001:db8:ffff::%d]:1", i+1), "junk"))
	}
	if want := []int{400, 400, 400, 400, 429}; !slices.Equal(got, want) {
		t.Errorf("one /64: %v, want %v", got, want)
	}
	for i := range 2 * maxClients {
		send(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255), "junk")
	}
	if n := len(f.limits.clients); n > maxClients+1 {
		t.Errorf("%d clients remembered", n)
	}
}

// A witness that is shown its own cosignature on a state it does not know stops
// cosigning that log, across restarts, until its operator adopts that state.
func TestStaleStore(t *testing.T) {
	newer := newWitness(t, "w.example")
	newer.advance(t, 0, 10)
	newer.advance(t, 10, 20)
	ahead, _, _ := newer.store.Latest(origin)

	fs := vfs.NewMem()
	old := newWitness(t, "w.example", func(c *Config) { c.Store = openStore(t, fs) })
	old.advance(t, 0, 10)
	path := "/" + OriginHash(origin) + "/checkpoint"
	shown := must[checkpoint.Note](t)(checkpoint.ParseNote(ahead.Note))
	forged := checkpoint.Note{Text: shown.Text, Sigs: slices.Clone(shown.Sigs)}
	forged.Sigs[1].Sig = slices.Clone(forged.Sigs[1].Sig)
	forged.Sigs[1].Sig[20] ^= 1
	if err := old.Observe(forged.Marshal()); err != nil {
		t.Fatalf("a forged cosignature proves nothing: %v", err)
	}
	if err := old.Observe(f10(t, newer).Marshal()); err != nil {
		t.Fatalf("a state that it knows proves nothing: %v", err)
	}
	unsigned := checkpoint.Note{Text: shown.Text, Sigs: shown.Sigs[1:]}
	if err := old.Observe(unsigned.Marshal()); err == nil || errors.Is(err, ErrStale) {
		t.Fatalf("without the log's signature: %v", err)
	}
	old.advance(t, 10, 10)

	// the log sends what it got from the newer copy along with its request
	r := old.log.request(t, 10, 20)
	r.Note = shown
	if w := post(old, r.Marshal()); w.Code != 503 {
		t.Fatalf("shown its own cosignature: %d %s", w.Code, w.Body)
	}
	for _, size := range []uint64{10, 15, 20} {
		if w := post(old, old.log.request(t, 10, size).Marshal()); w.Code != 503 {
			t.Errorf("afterwards, size %d: %d %s", size, w.Code, w.Body)
		}
	}
	if w := get(old, path); w.Code != 200 {
		t.Errorf("what it had cosigned is not shown any more: %d", w.Code)
	}
	// a restart does not heal it
	if err := old.cfg.Store.Close(); err != nil {
		t.Fatal(err)
	}
	again := newWitness(t, "w.example", func(c *Config) { c.Store = openStore(t, fs) })
	frozen := func() float64 { return testutil.ToFloat64(again.cfg.Metrics.frozen.WithLabelValues(origin)) }
	if w := post(again, again.log.request(t, 10, 20).Marshal()); w.Code != 503 || frozen() != 1 {
		t.Errorf("after a restart: %d, frozen %v", w.Code, frozen())
	}
	if got := testutil.ToFloat64(again.cfg.Metrics.size.WithLabelValues(origin)); got != 10 {
		t.Errorf("after a restart the size last cosigned is shown as %v", got)
	}
	// what was cosigned later still counts, whenever it is shown
	newer.advance(t, 20, 30)
	later, _, _ := newer.store.Latest(origin)
	if err := again.Observe(later.Note); !errors.Is(err, ErrStale) {
		t.Errorf("Observe: %v", err)
	}
	if err := again.Observe(ahead.Note); !errors.Is(err, ErrStale) {
		t.Errorf("Observe: %v", err)
	}
	if err := again.Adopt(origin); err != nil {
		t.Fatal(err)
	}
	if err := again.Adopt(origin); err == nil {
		t.Error("adopted twice")
	}
	if w := post(again, again.log.request(t, 20, 21).Marshal()); w.Code != 409 || w.Body.String() != "30\n" {
		t.Errorf("after the adoption: %d %s", w.Code, w.Body)
	}
	if again.advance(t, 30, 31); frozen() != 0 {
		t.Error("it still counts as frozen")
	}
}

func f10(t *testing.T, f *fixture) checkpoint.Note {
	n := f.log.note(t, 10)
	n.Sigs = append(n.Sigs, must[checkpoint.NoteSig](t)(f.cfg.Signer.Cosign(n.Text, 5)))
	return n
}

// Its own cosignature on two roots at one size: that key is finished.
func TestOwnFork(t *testing.T) {
	fork := newLog(t, origin, 9)
	f := newWitness(t, "w.example")
	f.advance(t, 0, 10)
	n := fork.note(t, 10)
	n.Sigs = append(n.Sigs, must[checkpoint.NoteSig](t)(f.cfg.Signer.Cosign(n.Text, 5)))
	if err := f.Observe(n.Marshal()); !errors.Is(err, ErrStale) {
		t.Fatalf("Observe: %v", err)
	}
	if err := f.Adopt(origin); err == nil || !strings.Contains(err.Error(), "retire") {
		t.Errorf("Adopt: %v", err)
	}
}

// A freeze that comes between the checks and the swap of a request wins.
func TestFreezeDuringRequest(t *testing.T) {
	newer := newWitness(t, "w.example")
	newer.advance(t, 0, 20)
	ahead, _, _ := newer.store.Latest(origin)
	var f *fixture
	once := sync.Once{}
	f = newWitness(t, "w.example", func(c *Config) {
		c.Check = func(context.Context, checkpoint.Checkpoint, checkpoint.Note) error {
			once.Do(func() {
				if err := f.Observe(ahead.Note); !errors.Is(err, ErrStale) {
					t.Errorf("Observe: %v", err)
				}
			})
			return nil
		}
	})
	if w := post(f, f.log.request(t, 0, 10).Marshal()); w.Code != 503 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := get(f, "/"+OriginHash(origin)+"/checkpoint"); w.Code != 404 {
		t.Errorf("GET of a log frozen before its first cosignature: %d", w.Code)
	}
}

func TestNewRefuses(t *testing.T) {
	l := newLog(t, origin, -1)
	w := newSigner(t, "w.example", checkpoint.TypeCosigner)
	store := openStore(t, vfs.NewMem())
	for name, cfg := range map[string]Config{
		"no signer":            {Store: store},
		"log key as signer":    {Store: store, Signer: l.signer},
		"no store":             {Signer: w},
		"log without a key":    {Store: store, Signer: w, Logs: []Log{{Origin: "x"}}},
		"log without origin":   {Store: store, Signer: w, Logs: []Log{{Keys: l.asLog().Keys}}},
		"log twice":            {Store: store, Signer: w, Logs: []Log{l.asLog(), l.asLog()}},
		"log with witness key": {Store: store, Signer: w, Logs: []Log{{Origin: "x", Keys: []checkpoint.VKey{w.VKey()}}}},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzRequest(f *testing.F) {
	l := newLog(f, origin, -1)
	f.Add(l.request(f, 10, 20).Marshal())
	f.Add(l.request(f, 0, 20).Marshal())
	f.Add([]byte("old 01\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRequest(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, checkpoint.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(r.Marshal(), b) {
			t.Fatalf("%q is written %q", b, r.Marshal())
		}
	})
}
