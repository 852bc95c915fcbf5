package node

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// remembered is a verifier's memory: notes by origin.
type remembered map[string][]byte

func (m remembered) Load(origin string) ([]byte, error)     { return m[origin], nil }
func (m remembered) Store(origin string, note []byte) error { m[origin] = note; return nil }

// listening starts the ledger of w on a listener of its own, as in production; stop
// ends both.
func (w *world) listening(cfg Config) (stop func()) {
	w.t.Helper()
	cfg.Folder, cfg.Manual = w.folder, true
	n, err := Open(w.t.Context(), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() { ended <- n.Serve(ctx, "127.0.0.1:0", nil, func(addr string) { ready <- addr }) }()
	select {
	case addr := <-ready:
		w.node, w.server = n, &httptest.Server{URL: "http://" + addr}
	case err := <-ended:
		w.t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
		if err := n.Close(); err != nil {
			w.t.Error(err)
		}
	}
	w.t.Cleanup(stop)
	return stop
}

// say sends a request with the maker's token, and returns status and body.
func (w *world) say(method, path string, body []byte) (int, []byte) {
	w.t.Helper()
	token, err := w.folder.Token(makerParty, []string{"custody:write", "custody:read"}, time.Hour)
	if err != nil {
		w.t.Fatal(err)
	}
	a := w.ask(method, path, token, "", body)
	return a.status, a.body
}

// late posts a statement while no witness answers: it is durable, and waits.
func (w *world) late(envelope []byte) uint64 {
	w.t.Helper()
	code, b := w.say("POST", "/v1/statements", envelope)
	var a client.Appended
	if err := json.Unmarshal(b, &a); err != nil || code != http.StatusAccepted || !a.Pending || a.Receipt != "" {
		w.t.Fatalf("without witnesses a statement is answered with %d %s, %v", code, b, err)
	}
	if err := w.node.Ledger().WaitSigned(w.t.Context(), a.Index); err != nil {
		w.t.Fatal(err)
	}
	return a.Index
}

// shows is what everybody is shown of some units, byte for byte.
type shows struct {
	Checkpoint, Together []byte
	Units                [][]byte
}

func (w *world) shows(units ...int) (s shows) {
	w.t.Helper()
	read := func(method, path string, body []byte) []byte {
		code, b := w.say(method, path, body)
		if code != http.StatusOK {
			w.t.Fatalf("%s %s: %d %s", method, path, code, b)
		}
		return b
	}
	query := ""
	for _, n := range units {
		s.Units = append(s.Units, read("GET", "/v1/units/"+url.PathEscape(unit(n)), nil))
		query += fmt.Sprintf(`,{"uri":%q}`, unit(n))
	}
	s.Together = read("POST", "/v1/units:check", []byte(`{"units":[`+query[1:]+`]}`))
	s.Checkpoint = read("GET", "/checkpoint", nil)
	return s
}

// within refuses answers that do not stand at size, or name an entry beyond it.
func (s shows) within(t *testing.T, size uint64) {
	t.Helper()
	type shown struct {
		Checkpoint string             `json:"checkpoint"`
		Commitment *answer.Commitment `json:"commitment"`
		Topics     []answer.Topic     `json:"topics"`
		Entries    []answer.Entry     `json:"entries"`
	}
	for _, b := range append(slices.Clone(s.Units), s.Together) {
		var a shown
		if err := json.Unmarshal(b, &a); err != nil {
			t.Fatal(err)
		}
		if a.Checkpoint != string(s.Checkpoint) {
			t.Fatalf("an answer stands under %q, published is %q", a.Checkpoint, s.Checkpoint)
		}
		n, err := checkpoint.ParseNote([]byte(a.Checkpoint))
		if err != nil {
			t.Fatal(err)
		}
		cp, err := checkpoint.ParseCheckpoint(n.Text)
		if err != nil || cp.Size != size {
			t.Fatalf("an answer at size %d, %v; published is %d", cp.Size, err, size)
		}
		c, err := entry.ParseCargo(a.Commitment.Cargo)
		if err != nil || c.Covers != size-1 {
			t.Fatalf("a commitment that covers %d, %v; published is %d", c.Covers, err, size)
		}
		for _, x := range a.Topics {
			if slices.ContainsFunc(x.Indexes, func(i uint64) bool { return i >= size }) {
				t.Errorf("%s %s lists %v, published are %d", x.Kind, x.Value, x.Indexes, size)
			}
		}
		if slices.ContainsFunc(a.Entries, func(e answer.Entry) bool { return e.Index >= size }) {
			t.Errorf("an answer of size %d has an entry beyond it", size)
		}
	}
}

// TestUnitsWhileWitnessesAreSilent: until a size is cosigned every answer stands at the
// last one that was, byte for byte, also after restarts, with statements signed and
// waiting before each; it verifies, and tells nothing of what waits. When the witnesses
// are back all of it is served, and nothing that a client has kept stands in its way.
func TestUnitsWhileWitnessesAreSilent(t *testing.T) {
	var sites []*site
	w := witnessed(t, 2, func(log checkpoint.VKey) []*site {
		for _, name := range []string{"a.example", "b.example", "c.example"} {
			sites = append(sites, newSite(t, name, log))
		}
		return sites
	})
	w.must(makerParty, w.commission(1))
	w.must(makerParty, w.commission(2))
	if err := w.node.Close(); err != nil {
		t.Fatal(err)
	}
	var now atomic.Int64
	now.Store(time.Now().UnixMilli())
	// Nobody waits for a quorum that does not come.
	cfg := Config{CosignWait: time.Nanosecond, Clock: func() time.Time { return time.UnixMilli(now.Add(1)) }}
	trust, err := client.LoadTrust(os.DirFS(w.folder.Trust()))
	if err != nil {
		t.Fatal(err)
	}
	memory, parts := remembered{}, answer.NewParts(100)
	says := func(want ...custody.Word) {
		t.Helper()
		// One who comes for the first time, and one who keeps what he has verified.
		for _, v := range []*client.Verifier{{}, {Memory: memory, Parts: parts}} {
			v.Remote, v.Trust = w.remote(makerParty), trust
			var codes []client.Code
			for i, word := range want {
				codes = append(codes, client.Code{Text: unit(i + 1)})
				if r, err := v.VerifyUnit(t.Context(), unit(i+1), ""); err != nil || r.Word != word {
					t.Errorf("unit %d: %+v, %v, want %s", i+1, r, err, word)
				}
			}
			rs, err := v.VerifyUnits(t.Context(), codes)
			for i, r := range rs {
				if r.Word != want[i] {
					t.Errorf("unit %d, asked for with others: %+v, want %s", i+1, r, want[i])
				}
			}
			if err != nil {
				t.Error(err)
			}
		}
	}
	silent := []custody.Word{custody.VerifiedNote, custody.VerifiedNote, custody.NotInLedger, custody.NotInLedger}
	hold := func(n int) []byte {
		return w.sign(w.payload(custody.KindHold, unit(n), w.event(makerParty, "maker", custody.Unchained()), &custody.Hold{Reason: "quarantine"}), w.keys[makerParty])
	}

	stop := w.listening(cfg)
	before := w.shows(1, 2, 3, 4)
	size := published(t, w.server.URL).Size
	for _, s := range sites[1:] { // one of three, where two are needed
		s.be(down)
	}
	posts := [][]byte{hold(1), w.commission(3), hold(2)}
	var last uint64
	for range 3 {
		for _, post := range posts {
			last = w.late(post)
			if got := w.node.Ledger().Published().Size(); got != size || last < size {
				t.Fatalf("entry %d is logged, %d are published, want %d", last, got, size)
			}
		}
		after := w.shows(1, 2, 3, 4)
		if after.within(t, size); !equal(before, after) {
			t.Errorf("at the same published size another answer:\n%s\n%s", before, after)
		}
		says(silent...)
		if code, b := w.say("GET", fmt.Sprintf("/v1/entries?from=%d", size), nil); bytes.Contains(b, []byte("cargo")) {
			t.Errorf("entries that wait are served: %d %s", code, b)
		}
		stop()
		stop = w.listening(cfg)
		posts = [][]byte{w.commission(4 + w.events)} // more of it after each restart, of units not asked about
	}
	after := w.shows(1, 2, 3, 4)
	if after.within(t, size); !equal(before, after) {
		t.Errorf("after the last restart another answer:\n%s\n%s", before, after)
	}
	says(silent...)

	for _, s := range sites {
		s.be(nil)
	}
	if err := w.node.Ledger().Wait(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	size = published(t, w.server.URL).Size
	w.shows(1, 2, 3, 4).within(t, size)
	if size <= last {
		t.Errorf("entry %d is published, the checkpoint has size %d", last, size)
	}
	says(custody.DoNotInstall, custody.DoNotInstall, custody.VerifiedNote, custody.NotInLedger)
}

func equal(a, b shows) bool {
	return bytes.Equal(a.Checkpoint, b.Checkpoint) && bytes.Equal(a.Together, b.Together) && slices.EqualFunc(a.Units, b.Units, bytes.Equal)
}
