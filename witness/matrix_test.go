package witness

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func status(code int, body string) func(*ring, *site) http.HandlerFunc {
	return func(*ring, *site) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		}
	}
}

func conflicts(body, ctype string) func(*ring, *site) http.HandlerFunc {
	return func(*ring, *site) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", ctype)
			w.WriteHeader(409)
			_, _ = io.WriteString(w, body)
		}
	}
}

// signs answers 200 with a line that make builds from the checkpoint asked about.
func signs(make func(r *ring, s *site, cp checkpoint.Checkpoint) string) func(*ring, *site) http.HandlerFunc {
	return func(r *ring, s *site) http.HandlerFunc {
		return func(w http.ResponseWriter, q *http.Request) {
			b, _ := io.ReadAll(q.Body)
			req, err := ParseRequest(b)
			if err != nil {
				w.WriteHeader(400)
				return
			}
			_, _ = io.WriteString(w, make(r, s, req.Checkpoint))
		}
	}
}

// cosigAt is the site's true cosignature at an offset from now.
func cosigAt(s *site, text string, d time.Duration) checkpoint.NoteSig {
	sig, err := s.cfg.Signer.Cosign(text, uint64(s.clock.Now().Add(d).Unix()))
	if err != nil {
		panic(err)
	}
	return sig
}

func hang(r *ring, _ *site) http.HandlerFunc {
	return func(_ http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		select {
		case <-r.stop:
		case <-q.Context().Done():
		}
	}
}

// behaviour is a way in which a witness answers. outcome is what is counted;
// "cosigned" is odd, not wrong, and none means that it holds the connection.
type behaviour struct {
	name    string
	do      func(*ring, *site) http.HandlerFunc
	outcome string
}

// behaviours is every way in which a witness is known to go wrong, with the
// outcome that is counted.
var behaviours = []behaviour{
	{"connection reset", func(*ring, *site) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_ = c.(*net.TCPConn).SetLinger(0)
				_ = c.Close()
			}
		}
	}, "error"},
	{"closed in mid answer", func(*ring, *site) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "— ")
		}
	}, "error"},
	{"bad request", status(400, "no"), "status-400"},
	{"forbidden", status(403, "no"), "status-403"},
	{"not found", status(404, "no"), "status-404"},
	{"unprocessable", status(422, "no"), "status-422"},
	{"too many requests", status(429, "no"), "status-429"},
	{"server error", status(500, strings.Repeat("x", 5000)), "status-500"},
	{"unavailable", status(503, ""), "status-503"},
	{"created", status(201, "— x AAAAAAA=\n"), "status-201"},
	{"empty 200", status(200, ""), "bad-answer"},
	{"page for an answer", status(200, "<html>\n"), "bad-answer"},
	{"good line in a huge body", signs(func(_ *ring, s *site, cp checkpoint.Checkpoint) string {
		junk := checkpoint.NoteSig{Name: "x", Sig: make([]byte, maxAnswer/100)}
		return cosigAt(s, cp.Text(), 0).Line() + strings.Repeat(junk.Line(), 100)
	}), "bad-answer"},
	{"endless body", func(r *ring, _ *site) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for lines := []byte(strings.Repeat("— x AAAAAAA=\n", 1000)); ; {
				if _, err := w.Write(lines); err != nil {
					return
				}
			}
		}
	}, "bad-answer"},
	{"409 without its type", conflicts("3\n", "text/plain"), "status-409"},
	{"409 with a charset", conflicts("3\n", "text/x.tlog.size; charset=utf-8"), "status-409"},
	{"409 with garbage", conflicts("three\n", sizeType), "bad-answer"},
	{"409 with a leading zero", conflicts("03\n", sizeType), "bad-answer"},
	{"409 without a newline", conflicts("3", sizeType), "bad-answer"},
	{"409 lies up", conflicts("1000000\n", sizeType), "ahead"},
	{"409 lies down, again and again", conflicts("3\n", sizeType), "conflict"},
	{"409 with what was sent", conflicts("0\n", sizeType), "conflict"},
	{"redirect to a good one", func(r *ring, _ *site) http.HandlerFunc {
		return func(w http.ResponseWriter, q *http.Request) {
			http.Redirect(w, q, r.other.srv.URL+"/add-checkpoint", http.StatusTemporaryRedirect)
		}
	}, "redirect"},
	{"bad signature", signs(func(_ *ring, s *site, cp checkpoint.Checkpoint) string {
		sig := cosigAt(s, cp.Text(), 0)
		sig.Sig[40] ^= 1
		return sig.Line()
	}), "bad-signature"},
	{"key of another", signs(func(r *ring, _ *site, cp checkpoint.Checkpoint) string {
		return cosigAt(r.other, cp.Text(), 0).Line()
	}), "bad-signature"},
	{"other key under its name", signs(func(r *ring, s *site, cp checkpoint.Checkpoint) string {
		sig := cosigAt(r.other, cp.Text(), 0)
		sig.Name, sig.KeyID = s.vkey.Name, s.vkey.ID
		return sig.Line()
	}), "bad-signature"},
	{"cosignature of another size", signs(func(r *ring, s *site, _ checkpoint.Checkpoint) string {
		return cosigAt(s, r.log.cp(39).Text(), 0).Line()
	}), "bad-signature"},
	{"cosignature of another origin", signs(func(_ *ring, s *site, cp checkpoint.Checkpoint) string {
		cp.Origin = "other.example"
		return cosigAt(s, cp.Text(), 0).Line()
	}), "bad-signature"},
	{"time zero", signs(func(_ *ring, s *site, cp checkpoint.Checkpoint) string {
		sig := cosigAt(s, cp.Text(), 0)
		binary.BigEndian.PutUint64(sig.Sig, 0)
		return sig.Line()
	}), "bad-signature"},
	{"a day ahead", signs(func(_ *ring, s *site, cp checkpoint.Checkpoint) string {
		return cosigAt(s, cp.Text(), 24*time.Hour).Line()
	}), "skew"},
	{"a day behind", signs(func(_ *ring, s *site, cp checkpoint.Checkpoint) string {
		return cosigAt(s, cp.Text(), -24*time.Hour).Line()
	}), "skew"},
	{"the end of time", signs(func(_ *ring, s *site, cp checkpoint.Checkpoint) string {
		sig, _ := s.cfg.Signer.Cosign(cp.Text(), 1<<63-1)
		return sig.Line()
	}), "skew"},
	{"line cut off", signs(func(_ *ring, s *site, cp checkpoint.Checkpoint) string {
		return strings.TrimSuffix(cosigAt(s, cp.Text(), 0).Line(), "\n")
	}), "bad-answer"},
	{"carriage return", signs(func(_ *ring, s *site, cp checkpoint.Checkpoint) string {
		return strings.TrimSuffix(cosigAt(s, cp.Text(), 0).Line(), "\n") + "\r\n"
	}), "bad-answer"},
	{"whole note for lines", signs(func(_ *ring, s *site, cp checkpoint.Checkpoint) string {
		return cp.Text() + "\n" + cosigAt(s, cp.Text(), 0).Line()
	}), "bad-answer"},
	{"line twice", signs(func(_ *ring, s *site, cp checkpoint.Checkpoint) string {
		return strings.Repeat(cosigAt(s, cp.Text(), 0).Line(), 2)
	}), "cosigned"},
	{"lines of others beside", signs(func(r *ring, s *site, cp checkpoint.Checkpoint) string {
		return cosigAt(r.other, cp.Text(), time.Second).Line() + cosigAt(s, cp.Text(), 0).Line() + "— x AAAAAAA=\n"
	}), "cosigned"},
	{"an older one beside", signs(func(_ *ring, s *site, cp checkpoint.Checkpoint) string {
		return cosigAt(s, cp.Text(), -2*time.Hour).Line() + cosigAt(s, cp.Text(), time.Second).Line()
	}), "cosigned"},
	{"flap: every other request fails", func(_ *ring, s *site) http.HandlerFunc {
		var n atomic.Int32
		return func(w http.ResponseWriter, q *http.Request) {
			if n.Add(1)%2 == 1 {
				w.WriteHeader(500)
				return
			}
			s.fixture.ServeHTTP(w, q)
		}
	}, "status-500"},
	{"state lost", func(r *ring, s *site) http.HandlerFunc {
		store, err := OpenFileStore(fileOptions(vfs.NewMem()))
		if err != nil {
			panic(err)
		}
		r.stores = append(r.stores, store)
		fresh := newFixtureOn(s, store)
		return func(w http.ResponseWriter, q *http.Request) { fresh.ServeHTTP(w, q) }
	}, "cosigned"},
	{"cosigns and drops the reply", func(_ *ring, s *site) http.HandlerFunc {
		return func(w http.ResponseWriter, q *http.Request) {
			s.fixture.ServeHTTP(httptest.NewRecorder(), q)
			panic(http.ErrAbortHandler)
		}
	}, "error"},
	{"cosigns twice for somebody else meanwhile", func(r *ring, s *site) http.HandlerFunc {
		return func(w http.ResponseWriter, q *http.Request) {
			b, _ := io.ReadAll(q.Body)
			if rec, _, _ := s.cfg.Store.Latest(origin); rec.Size < 15 {
				post(s.fixture, r.log.requestFor(rec.Size, 15))
			}
			q.Body = io.NopCloser(strings.NewReader(string(b)))
			s.fixture.ServeHTTP(w, q)
		}
	}, "cosigned"},
	{"four minutes off", signs(func(_ *ring, s *site, cp checkpoint.Checkpoint) string {
		return cosigAt(s, cp.Text(), -4*time.Minute).Line()
	}), "cosigned"},
}

// newFixtureOn is a site's witness with an empty memory: same name, same key.
func newFixtureOn(s *site, store *FileStore) *Server {
	cfg := s.cfg
	cfg.Store, cfg.Metrics = store, nil
	srv, err := New(cfg)
	if err != nil {
		panic(err)
	}
	return srv
}

// requestFor is an honest request without a test to fail.
func (l *testLog) requestFor(old, size uint64) []byte {
	text := l.cp(size).Text()
	sig, err := l.signer.SignLog(text)
	if err != nil {
		panic(err)
	}
	return Request{Old: old, Proof: l.proof(old, size), Note: checkpoint.Note{Text: text, Sigs: []checkpoint.NoteSig{sig}}}.Marshal()
}

// slow holds the connection, before its answer or within it.
var slow = []behaviour{
	{"hang", hang, ""},
	{"slow trickle", func(r *ring, s *site) http.HandlerFunc {
		return func(w http.ResponseWriter, q *http.Request) {
			_, _ = io.Copy(io.Discard, q.Body)
			_, _ = io.WriteString(w, "— ")
			w.(http.Flusher).Flush()
			hang(r, s)(w, q)
		}
	}, ""},
}

// cell is one case of the witness matrix: of n witnesses the last bad ones behave
// in one way, and need of all are a quorum.
type cell struct {
	behaviour
	n, need, bad int
}

func (c cell) String() string {
	return fmt.Sprintf("%s/%d of %d need %d", c.name, c.bad, c.n, c.need)
}

// cells is the matrix. whole: every behaviour with every n up to 5, every quorum
// and every number of witnesses that behave so; else one of three, with the quorum
// that can do without it and the one that cannot.
func cells(whole bool) []cell {
	var out []cell
	for _, b := range append(slices.Clone(behaviours), slow...) {
		if !whole {
			out = append(out, cell{b, 3, 2, 1}, cell{b, 3, 3, 1})
			continue
		}
		for n := 1; n <= 5; n++ {
			for need := 1; need <= n; need++ {
				for bad := 1; bad <= n; bad++ {
					out = append(out, cell{b, n, need, bad})
				}
			}
		}
	}
	return out
}

// TestMatrix goes through the matrix: a checkpoint comes exactly if those that
// behave are a quorum, it has no cosignature but theirs, and once all behave again
// all is well. FABTRAIL_CAMPAIGN=1 goes through all of it.
func TestMatrix(t *testing.T) {
	all := cells(os.Getenv("FABTRAIL_CAMPAIGN") != "")
	if len(all) < 60 {
		t.Fatalf("%d cells, want at least 60", len(all))
	}
	for _, c := range all {
		t.Run(c.String(), c.check)
	}
	t.Logf("%d cells", len(all))
}

func (c cell) check(t *testing.T) {
	r := newRing(t, c.n, c.need, waitAll)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	hangs := c.outcome == ""
	var entered atomic.Int32
	for _, s := range r.sites[c.n-c.bad:] {
		do := c.do(r, s)
		s.be(func(w http.ResponseWriter, q *http.Request) {
			if hangs && q.Method == http.MethodPost && int(entered.Add(1)) == c.bad && c.n-c.bad < c.need {
				cancel() // nothing else ends the wait for those that are needed
			}
			do(w, q)
		})
	}
	if hangs {
		r.cfg.After = func(time.Duration) <-chan time.Time { return passed } // a grace that is over at once
	}
	note, err := r.cosign(ctx, t, 20)
	c.judge(t, r, note, err)
	for _, s := range r.sites {
		s.be(nil)
	}
	r.cfg.After = func(time.Duration) <-chan time.Time { return nil }
	for range 2 { // a lie about its size may cost one more round
		r.clock.Add(time.Minute) // all backoff is over
		note, err = r.cosign(t.Context(), t, 30)
	}
	if err != nil {
		t.Fatalf("afterwards: %v", err)
	}
	if got := r.good(t, note, 30); len(got) != c.n {
		t.Errorf("afterwards cosigned by %v", got)
	}
}

func (c cell) judge(t *testing.T, r *ring, note []byte, err error) {
	t.Helper()
	honest := c.n - c.bad
	if c.outcome == "cosigned" {
		honest = c.n
	}
	switch {
	case honest >= c.need && err != nil:
		t.Fatalf("no checkpoint: %v", err)
	case honest >= c.need:
		got := r.good(t, note, 20)
		if len(got) < c.need || len(got) > honest || c.outcome != "" && len(got) != honest {
			t.Fatalf("cosigned by %v", got)
		}
	case !errors.Is(err, checkpoint.ErrNoQuorum) || note != nil:
		t.Fatalf("%q, %v; want no quorum", note, err)
	case c.outcome != "": // who failed is named, at no great length
		var no *NoQuorumError
		if !errors.As(err, &no) || no.Got != honest || len(no.Failures) != c.bad || len(err.Error()) > 700*c.bad+200 {
			t.Fatalf("%+v", no)
		}
	}
	if c.outcome == "" {
		return
	}
	for _, s := range r.sites[c.n-c.bad:] {
		if n := testutil.ToFloat64(r.cfg.Metrics.answers.WithLabelValues(s.name, c.outcome)); n != 1 {
			t.Errorf("%v answers of %s counted as %s", n, s.name, c.outcome)
		}
	}
}
