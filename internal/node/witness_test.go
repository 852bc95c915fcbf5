package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/custody/answer/answertest"
	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/witness"
)

// site is a witness of a ledger behind real HTTP, which a test can replace by
// something else at the same address.
type site struct {
	*Witness
	cfg  WitnessConfig
	url  string
	mode atomic.Pointer[http.HandlerFunc]
}

func newSite(t *testing.T, name string, log checkpoint.VKey, change ...func(*WitnessConfig)) *site {
	t.Helper()
	s := &site{cfg: WitnessConfig{Dir: t.TempDir(), Name: name, Logs: []witness.Log{{Origin: log.Name, Keys: []checkpoint.VKey{log}}}}}
	for _, c := range change {
		c(&s.cfg)
	}
	s.open(t)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := s.mode.Load(); h != nil {
			(*h)(w, r)
			return
		}
		s.handler.ServeHTTP(w, r)
	}))
	s.url = srv.URL
	t.Cleanup(func() {
		srv.Close()
		if s.Witness != nil {
			_ = s.Close()
		}
	})
	return s
}

func (s *site) open(t *testing.T) {
	t.Helper()
	var err error
	if s.Witness, err = OpenWitness(s.cfg); err != nil {
		t.Fatal(err)
	}
}

func (s *site) be(h http.HandlerFunc) {
	if h == nil {
		s.mode.Store(nil)
		return
	}
	s.mode.Store(&h)
}

func down(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }

func policyOf(t *testing.T, f Folder, quorum int, sites ...*site) {
	t.Helper()
	var ws []Cosigner
	for _, s := range sites {
		ws = append(ws, Cosigner{URL: s.url, VKey: s.VKey()})
	}
	if err := f.SetPolicy(ws, quorum, false, true); err != nil {
		t.Fatal(err)
	}
}

func logKey(t *testing.T, f Folder) checkpoint.VKey {
	t.Helper()
	s, err := f.logSigner()
	if err != nil {
		t.Fatal(err)
	}
	return s.VKey()
}

// witnessed is a world whose ledger has witnesses, none needed for its set-up.
func witnessed(t *testing.T, quorum int, sites func(log checkpoint.VKey) []*site) *world {
	t.Helper()
	f := prepareFolder(t)
	policyOf(t, f, quorum, sites(logKey(t, f))...)
	return newWorldIn(t, f)
}

// cloneFolder copies a data folder that is not in use.
func cloneFolder(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "clone")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	keys, err := filepath.Glob(filepath.Join(to, "keys", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys { // CopyFS widens modes
		if err := os.Chmod(key, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func published(t *testing.T, url string) checkpoint.Checkpoint {
	t.Helper()
	r, err := client.NewRemote(url, client.Options{Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	note, err := r.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n, err := checkpoint.ParseNote(note)
	if err != nil {
		t.Fatal(err)
	}
	cp, err := checkpoint.ParseCheckpoint(n.Text)
	if err != nil {
		t.Fatal(err)
	}
	return cp
}

// A whole ledger restored from an old copy is told so by its witnesses and does
// not sign; nothing that a witness merely claims has that power.
func TestWitnessesAtStart(t *testing.T) {
	var a, b *site
	w := witnessed(t, 1, func(log checkpoint.VKey) []*site {
		a, b = newSite(t, "a.example", log), newSite(t, "b.example", log)
		return []*site{a, b}
	})
	w.must(makerParty, w.commission(1))
	if err := w.node.Close(); err != nil {
		t.Fatal(err)
	}
	old := cloneFolder(t, string(w.folder))
	w.node, w.server = start(t, w.folder)
	w.must(makerParty, w.commission(2))
	size := published(t, w.server.URL).Size
	if err := w.node.Close(); err != nil {
		t.Fatal(err)
	}
	other, err := checkpoint.NewSigner("ledger.test/parts", checkpoint.TypeLog, answertest.Key("another log"))
	if err != nil {
		t.Fatal(err)
	}
	shows := func(cp checkpoint.Checkpoint, signer *checkpoint.Signer) http.HandlerFunc {
		sig, err := signer.SignLog(cp.Text())
		if err != nil {
			t.Fatal(err)
		}
		note := checkpoint.Note{Text: cp.Text(), Sigs: []checkpoint.NoteSig{sig}}.Marshal()
		return func(rw http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				_, _ = rw.Write(note)
				return
			}
			conflict(1_000_000)(rw, r)
		}
	}
	mine, err := w.folder.logSigner()
	if err != nil {
		t.Fatal(err)
	}
	ahead := checkpoint.Checkpoint{Origin: mine.VKey().Name, Size: size + 100, Root: entry.Hash{1}}
	fork := checkpoint.Checkpoint{Origin: mine.VKey().Name, Size: size - 1, Root: entry.Hash{1}}
	for _, tc := range []struct {
		name   string
		folder Folder
		a, b   http.HandlerFunc
		refuse string // a part of the reason
	}{
		{"an old copy, all honest", Folder(old), nil, nil, "a witness's checkpoint has size"},
		{"an old copy, one is down", Folder(old), down, nil, "a witness's checkpoint has size"},
		{"one shows our own signature on what we do not have", w.folder, nil, shows(ahead, mine), "a witness's checkpoint has size"},
		{"one shows our own signature on another root", w.folder, nil, shows(fork, mine), "has the root"},
		{"one claims a size, bare", w.folder, nil, conflict(1_000_000), ""},
		{"one shows another key's signature", w.folder, nil, shows(ahead, other), ""},
		{"one shows junk", w.folder, nil, func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "junk") }, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a.be(tc.a)
			b.be(tc.b)
			folder := Folder(cloneFolder(t, string(tc.folder)))
			n, err := Open(context.Background(), Config{Folder: folder, Manual: true})
			var no *ledger.NoSign
			if tc.refuse != "" {
				if !errors.As(err, &no) || !strings.Contains(no.Error(), tc.refuse) {
					t.Fatalf("%v, want a refusal that says %q", err, tc.refuse)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			srv := httptest.NewServer(n.Handler())
			defer srv.Close()
			defer n.Close()
			if got := published(t, srv.URL).Size; got != size {
				t.Errorf("published size %d, want %d", got, size)
			}
		})
	}
}

// conflict answers everything that is posted with a bare size.
func conflict(size uint64) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/x.tlog.size")
		w.WriteHeader(http.StatusConflict)
		fmt.Fprintf(w, "%d\n", size)
	}
}

// A witness that lies with a bare 409 stops nothing: statements are published
// with the quorum of the others, and the lie is counted.
func TestLyingWitness(t *testing.T) {
	var a, liar *site
	w := witnessed(t, 1, func(log checkpoint.VKey) []*site {
		a, liar = newSite(t, "a.example", log), newSite(t, "liar.example", log)
		liar.be(conflict(1_000_000))
		return []*site{a, liar}
	})
	r := w.must(makerParty, w.commission(1))
	if r.Proof != nil {
		t.Fatal("the test's submitter is not to check receipts")
	}
	trust, err := client.LoadTrust(os.DirFS(w.folder.Trust()))
	if err != nil {
		t.Fatal(err)
	}
	e, err := w.node.Ledger().Published().Entry(r.Index)
	if err != nil {
		t.Fatal(err)
	}
	env, err := entry.ParseEnvelope(e.Envelope)
	if err != nil {
		t.Fatal(err)
	}
	proof, err := trust.VerifyReceipt(r.Receipt, r.Envelope, env.Payload)
	if err != nil || len(proof.Checkpoint.Cosigs) != 1 || proof.Checkpoint.Cosigs[0].Name != "a.example" {
		t.Fatalf("%+v, %v", proof, err)
	}
	families, err := w.node.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := false
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			counted = counted || f.GetName() == "fabtrail_cosign_answers_total" && labels["witness"] == "liar.example" && labels["outcome"] == "ahead"
		}
	}
	if !counted {
		t.Error("the lie is not counted")
	}
}

// A log that commits to a false index is refused by the index-verifying cosigner
// at the first false commitment, which names the topic; what came before is
// cosigned, and nothing after it is.
func TestFalseIndexIsRefused(t *testing.T) {
	l := answertest.NewLog(t)
	var hidden entry.Hash
	l.Honest = false
	at := uint64(0) // the entry that is hidden
	l.Hide = func(n uint64, topic entry.Hash) bool { return at != 0 && n == at && topic == hidden }
	type point struct {
		cp   checkpoint.Checkpoint
		note []byte
	}
	var points []point
	l.OnPublish = func() { points = append(points, point{l.Checkpoint(), l.Note}) }
	w := answertest.NewWorld(l)
	w.Publish()
	w.Block("L1", 100)
	ref := w.Commission("GOOD", "L1")
	w.Publish()
	w.Register(ref)
	w.Publish()
	at, hidden = uint64(len(l.Entries)), entry.Topic{Kind: entry.TopicUnit, Value: ref.URI}.Hash()
	w.Hold(w.Parties["maker"], ref, "quarantine") // nobody is to see it
	w.Publish()
	w.Commission("OTHER", "L1")
	w.Publish()
	const first = 3 // of the points, the first false one

	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		var from, limit uint64
		fmt.Sscan(r.FormValue("from"), &from)
		fmt.Sscan(r.FormValue("limit"), &limit)
		enc := json.NewEncoder(rw)
		for i := from; i < min(from+limit, uint64(len(l.Entries))); i++ {
			line := client.EntryLine{Index: i, Cargo: l.Entries[i].Cargo()}
			if sum, ok := l.Names[i]; ok {
				line.Manifest = l.Sums[sum]
			}
			_ = enc.Encode(line)
		}
	}))
	defer srv.Close()
	follower, err := NewFollower(srv.URL, "", "")
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, "index.example", l.Signer.VKey(), func(c *WitnessConfig) { c.Check = follower.Check })
	size := uint64(0)
	for i, p := range points {
		n, err := checkpoint.ParseNote(p.note)
		if err != nil {
			t.Fatal(err)
		}
		n.Sigs = n.Sigs[:1]
		req := witness.Request{Old: size, Note: n}
		if size > 0 {
			req.Proof = l.Tree[:p.cp.Size].Consistency(int(size))
		}
		resp, err := http.Post(s.url+"/add-checkpoint", "text/plain", strings.NewReader(string(req.Marshal())))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if i < first {
			if resp.StatusCode != http.StatusOK {
				t.Fatalf("commitment %d is true: %s %s", p.cp.Size-1, resp.Status, body)
			}
			size = p.cp.Size
			continue
		}
		if resp.StatusCode != http.StatusUnprocessableEntity {
			t.Fatalf("commitment %d is false: %s %s", p.cp.Size-1, resp.Status, body)
		}
		for _, want := range []string{fmt.Sprintf("entry %d: index-commitment", points[first].cp.Size-1), "topic unit " + ref.URI} {
			if !strings.Contains(string(body), want) {
				t.Errorf("the refusal of size %d does not say %q: %s", p.cp.Size, want, body)
			}
		}
	}
	// Nothing but a true commitment stands in its monitoring interface.
	r, err := client.NewRemote(s.url, client.Options{Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	note, err := r.WitnessView(t.Context(), answertest.Origin)
	if err != nil || !strings.Contains(string(note), fmt.Sprintf("\n%d\n", size)) {
		t.Errorf("it shows %s, %v", note, err)
	}
}

// A witness whose folder was restored from an old copy signs nothing: the mark
// outside gives it away, or else what its log publishes. Its operator decides.
func TestWitnessRestored(t *testing.T) {
	var s *site
	mark := t.TempDir()
	w := witnessed(t, 1, func(log checkpoint.VKey) []*site {
		s = newSite(t, "a.example", log, func(c *WitnessConfig) { c.MarkDir = mark })
		return []*site{s}
	})
	w.must(makerParty, w.commission(1))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	old, oldMark := cloneFolder(t, s.cfg.Dir), cloneFolder(t, mark)
	s.open(t)
	w.must(makerParty, w.commission(2))
	size := published(t, w.server.URL).Size
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	// Its folder alone is old: the mark says so.
	cfg := s.cfg
	cfg.Dir = cloneFolder(t, old)
	if _, err := OpenWitness(cfg); !errors.Is(err, witness.ErrStale) {
		t.Fatalf("an old folder beside a newer mark: %v", err)
	}
	// Both are old: only the log remembers. Without a look, it would go on.
	cfg.Dir, cfg.MarkDir, cfg.Observe = cloneFolder(t, old), cloneFolder(t, oldMark), []string{w.server.URL}
	cfg.Adopt = []string{"ledger.test/parts"}
	if x, err := OpenWitness(cfg); err == nil {
		x.Close()
		t.Fatal("nothing was found stale, and yet something is adopted")
	}
	cfg.Adopt = nil
	s.cfg = cfg
	s.open(t)
	s.Look(t.Context())
	if code := s.asked(t, w, size); code != http.StatusServiceUnavailable {
		t.Errorf("an old copy that was shown its own cosignature answers %d", code)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.open(t) // it does not forget that it is frozen
	if code := s.asked(t, w, size); code != http.StatusServiceUnavailable {
		t.Errorf("after a restart it answers %d", code)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.cfg.Adopt = []string{"ledger.test/parts"}
	s.open(t)
	w.must(makerParty, w.commission(3))
	if got := published(t, w.server.URL).Size; got <= size {
		t.Errorf("published size %d after adoption, was %d", got, size)
	}
}

// The key is its owner's alone: the witness makes it so, and does not use one that
// others could have read.
func TestWitnessKeyFile(t *testing.T) {
	s := newSite(t, "a.example", logKey(t, prepareFolder(t)))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	key := witnessKeyFile(s.cfg.Dir)
	info, err := os.Stat(key)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the key was made with mode %v, %v", info.Mode(), err)
	}
	for _, mode := range []os.FileMode{0o644, 0o640, 0o604, 0o660, 0o602, 0o601, 0o610} {
		if err := os.Chmod(key, mode); err != nil {
			t.Fatal(err)
		}
		if x, err := OpenWitness(s.cfg); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			if x != nil {
				x.Close()
			}
			t.Errorf("a key of mode %v: %v", mode, err)
		}
	}
	if err := os.Chmod(key, 0o400); err != nil {
		t.Fatal(err)
	}
	was := s.VKey()
	s.open(t)
	if s.VKey().String() != was.String() {
		t.Errorf("the key became %s", s.VKey())
	}
}

// A first start that is cut short leaves nothing that the next one would take for
// a witness without a memory.
func TestWitnessFirstStartCutShort(t *testing.T) {
	log := logKey(t, prepareFolder(t))
	for _, blocked := range []string{"state", "mark", "keys", "trust"} { // whatever could not be made
		cfg := WitnessConfig{Dir: t.TempDir(), Name: "a.example", Logs: []witness.Log{{Origin: log.Name, Keys: []checkpoint.VKey{log}}}}
		path := filepath.Join(cfg.Dir, blocked)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if x, err := OpenWitness(cfg); err == nil {
			x.Close()
			t.Fatalf("it starts without %s", blocked)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		x, err := OpenWitness(cfg)
		if err != nil {
			t.Fatalf("after a start without %s: %v", blocked, err)
		}
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// asked has the witness cosign again what the ledger publishes.
func (s *site) asked(t *testing.T, w *world, size uint64) int {
	t.Helper()
	n, err := checkpoint.ParseNote(w.node.Ledger().Published().Checkpoint())
	if err != nil {
		t.Fatal(err)
	}
	n.Sigs = n.Sigs[:1]
	resp, err := http.Post(s.url+"/add-checkpoint", "text/plain", strings.NewReader(string(witness.Request{Old: size, Note: n}.Marshal())))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// A look at logs that are not there, or serve junk, keeps nobody from starting.
func TestLookIsPatient(t *testing.T) {
	junk := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "junk") }))
	defer junk.Close()
	gone := httptest.NewServer(nil)
	gone.Close()
	f := prepareFolder(t)
	s := newSite(t, "a.example", logKey(t, f), func(c *WitnessConfig) { c.Observe = []string{gone.URL, junk.URL, "nonsense"} })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s.Look(ctx)
	policyOf(t, f, 1, s)
	newWorldIn(t, f)
}
