package api

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testOrigin = "ledger.example/test"
	testIssuer = "https://ledger.example/test"
	partyA     = "https://id.gs1.org/417/9521234500019"
	partyB     = "https://id.gs1.org/417/9521234500026"
	unitURI    = "https://id.gs1.org/01/09521234543213/21/A1"
)

var testNow = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func seeded(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune('a'+n)), ed25519.SeedSize)))
}

// fakeClock is a clock that tests move.
type fakeClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// fakeLedger implements every service in memory. Its statements are JSON objects
// of fakeStatement, not DSSE: the API does not look inside.
type fakeLedger struct {
	mu        sync.Mutex
	byID      map[entry.Hash]Recorded
	names     map[string]bool
	manifests map[entry.Hash][]byte
	chunks    []int
	gate      chan struct{} // when set, Submit waits for it
	head      string        // what ManifestHead was last given
	headSize  int64
	extra     int           // what Post charges for each envelope
	entered   chan struct{} // when set, Submit tells that it was entered
	reasons   []Reason
	entries   []LogEntry
	failAt    int  // Entries fails at this index, if above 0
	unitWaits bool // Unit waits for its context to end
	lastUnit  UnitQuery
	lastWho   Caller
	found     []Finding
}

type fakeStatement struct {
	Name    string `json:"name"`
	Cites   string `json:"cites"`   // name of one recorded before
	Party   string `json:"party"`   // who signed
	Problem string `json:"problem"` // refuse with this type
	Mode    string `json:"mode"`    // pending, panic, error, short
}

func newFakeLedger() *fakeLedger {
	f := &fakeLedger{byID: map[entry.Hash]Recorded{}, names: map[string]bool{}, manifests: map[entry.Hash][]byte{}}
	cargo := func(e entry.Entry) []byte { return e.Cargo() }
	f.entries = []LogEntry{
		{Index: 0, Cargo: cargo(entry.Entry{Class: entry.Public, Time: 1, Envelope: []byte("public")})},
		{Index: 1, Cargo: cargo(entry.Entry{Class: entry.Restricted, Time: 2, Envelope: []byte("restricted")}), Manifest: []byte("manifest")},
		{Index: 2, Cargo: cargo(entry.Entry{Class: entry.Index, Time: 3, Covers: 2})},
	}
	f.found = []Finding{{
		Rule: "DUP_COMMISSION", Tier: "contradiction", Phase: "confirmed", Accused: partyA,
		Units:    []FindingUnit{{URI: unitURI}, {URI: unitURI, Load: strings.Repeat("ab", 32)}},
		Evidence: []uint64{1, 2}, ID: strings.Repeat("cd", 32), Index: 2, Words: "two statements commission the same serial",
	}}
	return f
}

func (f *fakeLedger) state() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprintf("%d statements, %d manifests", len(f.byID), len(f.manifests))
}

func (f *fakeLedger) Post(ctx context.Context, who Caller, envelopes [][]byte, m Meter) []Result {
	if f.entered != nil {
		f.entered <- struct{}{}
	}
	if f.gate != nil {
		select {
		case <-f.gate:
		case <-ctx.Done():
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.chunks = append(f.chunks, len(envelopes))
	f.lastWho = who
	results := make([]Result, len(envelopes))
	if err := m.Take(ctx, f.extra*len(envelopes)); err != nil {
		for i := range results {
			results[i].Err = err
		}
		return results
	}
	for i, b := range envelopes {
		var s fakeStatement
		if err := json.Unmarshal(b, &s); err != nil {
			results[i].Err = problem.New("malformed_json", "", "not strictly valid JSON")
			continue
		}
		if s.Mode == "short" {
			return nil
		}
		results[i].Recorded, results[i].Err = f.one(who, s, b)
	}
	return results
}

func (f *fakeLedger) one(who Caller, s fakeStatement, b []byte) (Recorded, error) {
	id := entry.Hash(sha256.Sum256(b))
	switch {
	case s.Mode == "panic":
		panic("a secret of the inside")
	case s.Mode == "error":
		return Recorded{}, errors.New("/var/lib/secret: no such file")
	case s.Problem != "":
		return Recorded{}, problem.New(s.Problem, "/x", "refused by the test").WithHint("do otherwise").With("head", id.String())
	case s.Party != "" && s.Party != who.Party:
		return Recorded{}, problem.New("signer_mismatch", "", "%s signed", s.Party)
	case s.Cites != "" && !f.names[s.Cites]:
		return Recorded{}, problem.New("unknown_statement", "/cites", "not recorded")
	}
	if r, ok := f.byID[id]; ok {
		r.Repeat = true
		return r, nil
	}
	r := Recorded{ID: id, Index: uint64(len(f.byID)), Time: 1795262400000, Effect: "applied", Envelope: b}
	if r.Pending = s.Mode == "pending"; !r.Pending {
		r.Receipt = []byte("c2sp.org/tlog-proof@v1\nindex 0\n\nnote\n")
	}
	f.byID[id], f.names[s.Name] = r, true
	return r, nil
}

func (f *fakeLedger) Statement(_ context.Context, who Caller, id entry.Hash) (Recorded, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lastWho = who
	r, ok := f.byID[id]
	if !ok {
		return r, problem.New("not_found", "id", "no such statement")
	}
	return r, nil
}

func (f *fakeLedger) ManifestHead(head []byte, size int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.head, f.headSize = string(head), size
	if !strings.HasPrefix(string(head), "fabtrail/manifest/v1\n") {
		return problem.New("manifest_mismatch", "", "not a manifest")
	}
	return nil
}

func (f *fakeLedger) PutManifest(_ context.Context, _ Caller, digest entry.Hash, b []byte) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !strings.HasPrefix(string(b), "fabtrail/manifest/v1\n") {
		return false, problem.New("manifest_mismatch", "", "not a manifest")
	}
	_, had := f.manifests[digest]
	f.manifests[digest] = b
	return !had, nil
}

func (f *fakeLedger) Entries(_ context.Context, r EntryRange, yield func(LogEntry) error) error {
	for i := r.From; i < uint64(len(f.entries)) && i < r.From+r.Limit; i++ {
		if f.failAt > 0 && i == uint64(f.failAt) {
			return errors.New("disk: secret")
		}
		if err := yield(f.entries[i]); err != nil {
			return err
		}
	}
	return nil
}

func (f *fakeLedger) Inclusion(_ context.Context, index, size uint64) (entry.Hash, []entry.Hash, error) {
	if size > 3 {
		return entry.Hash{}, nil, problem.New("invalid_parameter", "size", "beyond the published size")
	}
	return entry.Hash{1}, []entry.Hash{{2}}, nil
}

func (f *fakeLedger) Consistency(_ context.Context, from, to uint64) ([]entry.Hash, error) {
	if to > 3 {
		return nil, problem.New("invalid_parameter", "to", "beyond the published size")
	}
	return nil, nil
}

func (f *fakeLedger) Checkpoint(context.Context) ([]byte, error) {
	return []byte(testOrigin + "\n3\nn4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=\n\n\u2014 " + testOrigin + " AAAA\n"), nil
}

func (f *fakeLedger) Tile(_ context.Context, level int, index uint64, width int) ([]byte, error) {
	if level != 0 || index != 0 || width != 3 {
		return nil, problem.New("not_found", "", "beyond size 3 of %s", "a secret path")
	}
	return make([]byte, 96), nil
}

func (f *fakeLedger) Bundle(_ context.Context, index uint64, width int) ([]byte, error) {
	if index != 0 || width != 3 {
		return nil, problem.New("not_found", "", "beyond size 3")
	}
	return make([]byte, 108), nil
}

// Party knows one party.
func (f *fakeLedger) Party(_ context.Context, uri string) (Party, error) {
	if uri != partyA {
		return Party{}, problem.New("not_found", "uri", "no such party is enrolled")
	}
	return Party{URI: uri, LegalName: "Example Fab", Roles: []string{"maker"},
		Sites: []Site{{ID: "https://id.gs1.org/414/9506000140001", Country: "TW", Geo: "geo:24.77,121.01"}}, Index: 2}, nil
}

// badKey is the pedigree key of no unit.
const badKey = "wrong"

func (f *fakeLedger) entitled(who Caller, q UnitQuery) bool {
	return q.PedigreeKey != "" && q.PedigreeKey != badKey || who.Known() && who.Party != partyB
}

// Unit knows all units but those whose URI ends in "absent"; partyB has no part in any.
func (f *fakeLedger) Unit(ctx context.Context, who Caller, q UnitQuery) (UnitAnswer, error) {
	if f.unitWaits {
		<-ctx.Done()
		return UnitAnswer{}, fmt.Errorf("view: %w", ctx.Err())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lastUnit, f.lastWho = q, who
	switch {
	case !strings.HasPrefix(q.URI, "https://"):
		return UnitAnswer{}, problem.New("invalid_identifier", "uri", "not a Digital Link")
	case strings.HasSuffix(q.URI, "absent"):
		return UnitAnswer{JSON: []byte(`{"format":"fabtrail/unit-answer/v1","uri":"` + q.URI + `","form":"absent","checkpoint":"x","commitment":{"cargo":"AQ==","hashes":[]},"topics":[]}`), Absent: 1}, nil
	case !f.entitled(who, q):
		b, err := json.Marshal(map[string]string{"format": "fabtrail/unit-answer/v1", "uri": q.URI, "form": "status", "word": "known"})
		return UnitAnswer{JSON: b, Words: 1}, err
	}
	return UnitAnswer{JSON: []byte(`{"format":"fabtrail/unit-answer/v1","uri":"` + q.URI + `","form":"full","checkpoint":"x","commitment":{"cargo":"AQ==","hashes":[]},"topics":[]}`)}, nil
}

// CheckUnits answers a word about units without a key, the whole about others.
func (f *fakeLedger) CheckUnits(ctx context.Context, who Caller, qs []UnitQuery, have string) (UnitAnswer, error) {
	var units []string
	var out UnitAnswer
	proved := ""
	for i, q := range qs {
		q.Have = have
		if _, err := f.Unit(ctx, who, q); err != nil {
			return out, problem.New("invalid_identifier", fmt.Sprintf("/units/%d/uri", i), "not a Digital Link")
		}
		u := `{"uri":"` + q.URI + `","form":"status","word":"known"}`
		if !f.entitled(who, q) {
			out.Words++
		} else {
			u, proved = `{"uri":"`+q.URI+`","form":"full"}`, `,"checkpoint":"x","commitment":{"cargo":"AQ==","hashes":[]},"topics":[]`
		}
		units = append(units, u)
	}
	out.JSON = []byte(`{"format":"fabtrail/unit-answers/v1","units":[` + strings.Join(units, ",") + `]` + proved + `}`)
	return out, nil
}

func (f *fakeLedger) Findings(_ context.Context, who Caller, since uint64, limit int) ([]Finding, uint64, error) {
	if since > 2 {
		return nil, since, nil
	}
	return f.found, 3, nil
}

func (f *fakeLedger) TrustFile(_ context.Context, name string) ([]byte, error) {
	switch name {
	case "charter.json":
		return []byte(`{"payload":""}`), nil
	case "index.txt":
		return nil, problem.New("not_found", "", "no index cosigners")
	}
	return []byte(name + "\n"), nil
}

func (f *fakeLedger) Ready(context.Context) []Reason { return f.reasons }

// server is an API over a fake ledger behind a real listener.
type server struct {
	*fakeLedger
	t      *testing.T
	api    *API
	clock  *fakeClock
	addr   string
	client *http.Client
	slept  chan time.Duration
	logged *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newServer starts a server; adjust may change what has been made before it serves.
func newServer(t *testing.T, limits Limits, adjust ...func(*API, *http.Server)) *server {
	t.Helper()
	clock := &fakeClock{now: testNow}
	v, err := NewVerifier(testOrigin, clock.Now, trusted(testIssuer, LocalKeys(seeded(0).Public().(ed25519.PublicKey))))
	if err != nil {
		t.Fatal(err)
	}
	s := &server{fakeLedger: newFakeLedger(), t: t, clock: clock, slept: make(chan time.Duration, 100), logged: &lockedBuffer{}}
	f := s.fakeLedger
	s.api, err = New(Config{
		Tokens: v, Submitter: f, Statements: f, Manifests: f, Entries: f, Proofs: f, Tiles: f, Units: f, Parties: f, Findings: f, Trust: f, Health: f,
		Registry: prometheus.NewRegistry(), Limits: limits, Clock: clock.Now,
		Log: slog.New(slog.NewTextHandler(s.logged, nil)),
		Sleep: func(_ context.Context, d time.Duration) error {
			s.slept <- d
			clock.Add(d)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	srv := NewServer(s.api, slog.New(slog.NewTextHandler(s.logged, nil)))
	for _, f := range adjust {
		f(s.api, srv)
	}
	tr := &http.Transport{DisableCompression: true}
	s.client = &http.Client{Transport: tr}
	var serving sync.WaitGroup
	serving.Go(func() { _ = srv.Serve(l) })
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		if err := srv.Shutdown(context.Background()); err != nil { // unlike Close, waits for every connection
			t.Error(err)
		}
		serving.Wait()
	})
	return s
}

// generous is for tests that are not about limits.
var generous = Limits{
	LogRate: Rate{1e6, 1e6}, ReadRate: Rate{1e6, 1e6}, StatementRate: Rate{1e6, 1e6}, UploadRate: Rate{1e6, 1e6},
	StatusRate: Rate{1e6, 1e6}, TokenFailureRate: Rate{1e6, 1e6},
}

func (s *server) token(party string, scopes ...Scope) string {
	s.t.Helper()
	m := Minter{Issuer: testIssuer, Origin: testOrigin, Key: seeded(0), Clock: func() time.Time { return testNow }}
	tok, err := m.Mint(party, scopes, time.Hour)
	if err != nil {
		s.t.Fatal(err)
	}
	return tok
}

// reply is a whole answer.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// problemType returns the slug of a problem answer, "" for others.
func (r reply) problemType() string {
	var p struct {
		Type   string `json:"type"`
		Status int    `json:"status"`
	}
	if r.header.Get("Content-Type") != mediaProblem || json.Unmarshal(r.body, &p) != nil || p.Status != r.status {
		return ""
	}
	return strings.TrimPrefix(p.Type, problem.BaseURI)
}

// raw sends one request byte for byte and reads the answer.
func (s *server) raw(request string) reply {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	var sent sync.WaitGroup
	sent.Go(func() { _, _ = io.WriteString(conn, request) }) // the server may answer before it has read all
	method, _, _ := strings.Cut(request, " ")
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, &http.Request{Method: method})
	if err != nil {
		s.t.Fatalf("no answer: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("answer: %v", err)
	}
	if resp.Close { // wait for the handler to return, which it does before the server closes
		_, _ = io.Copy(io.Discard, in)
	}
	conn.Close()
	sent.Wait()
	return reply{resp.StatusCode, resp.Header, body}
}

// do sends a request with the given headers, "Name: value" each.
func (s *server) do(method, target, body string, headers ...string) reply {
	s.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", method, target, s.addr)
	hasLength := slices.ContainsFunc(headers, func(h string) bool {
		return strings.HasPrefix(h, "Content-Length:") || strings.HasPrefix(h, "Transfer-Encoding:")
	})
	if !hasLength && (body != "" || method == "POST" || method == "PUT") {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	for _, h := range headers {
		b.WriteString(h + "\r\n")
	}
	return s.raw(b.String() + "\r\n" + body)
}

func bearerHeader(token string) string { return "Authorization: Bearer " + token }

const (
	typeJSON   = "Content-Type: application/json"
	typeLines  = "Content-Type: application/x-ndjson"
	typeOctets = "Content-Type: application/octet-stream"
)

func idOf(body string) entry.Hash { return sha256.Sum256([]byte(body)) }
