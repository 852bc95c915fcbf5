package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer"
	"fabtrail.dev/fabtrail/custody/answer/answertest"
	"fabtrail.dev/fabtrail/custody/gs1"
	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// opensNothing is a pedigree key for which the fake gives a word alone.
const opensNothing = "EREREREREREREREREREREQ"

// fake serves a ledger in memory over HTTP.
type fake struct {
	*answertest.World
	mu      sync.Mutex
	late    int                            // polls before a new statement is published
	fail    func(http.ResponseWriter) bool // answers instead, when it returns true
	mangle  func(*Appended)                // lies about statements
	records map[entry.Hash]*Appended
	units   func(*answer.Answer)    // sees and changes every answer
	many    func(*answer.Many)      // the same of answers about many units
	see     func(custody.Item) bool // what readers see of route policies
	most    int                     // units that fit into one answer; 0: all
	dropped string                  // path of a tile that is not served
	calls   map[string]int          // requests by method and route
}

func newFake(t testing.TB, w *answertest.World) *fake {
	return &fake{World: w, see: all, records: map[entry.Hash]*Appended{}, calls: map[string]int{}}
}

func (f *fake) remote(t testing.TB, opt Options) *Remote {
	t.Helper()
	mux := http.NewServeMux()
	handle := func(pattern string, h func(http.ResponseWriter, *http.Request)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.calls[pattern]++
			if f.fail == nil || !f.fail(w) {
				h(w, r)
			}
		})
	}
	handle("GET /checkpoint", func(w http.ResponseWriter, r *http.Request) { w.Write(f.Note) })
	handle("POST /v1/statements", f.post)
	handle("POST /v1/statements/batch", f.batch)
	handle("GET /v1/statements/{id}", f.statement)
	handle("PUT /v1/manifests/{sum}", f.manifest)
	handle("GET /v1/units/{uri}", f.unit)
	handle("POST /v1/units:check", f.checkUnits)
	handle("GET /v1/entries", f.entries)
	handle("GET /v1/proofs/consistency", f.consistency)
	handle("GET /v1/proofs/inclusion", f.inclusion)
	handle("GET /tile/", f.tile)
	handle("GET /trust/{name}", func(w http.ResponseWriter, r *http.Request) { w.Write(f.Trust()[r.PathValue("name")]) })
	srv := httptest.NewServer(mux)
	f.World.Cleanup(srv.Close)
	if opt.Sleep == nil {
		opt.Sleep = func(ctx context.Context, d time.Duration) error { return ctx.Err() }
	}
	r, err := NewRemote(srv.URL, opt)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func refuse(w http.ResponseWriter, err error) {
	p := problem.As(err)
	if p == nil {
		p = problem.New("internal", "", "%v", err)
	}
	b, _ := p.MarshalJSON()
	w.WriteHeader(p.Status())
	w.Write(b)
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

// record submits one envelope as the ledger does.
func (f *fake) record(body []byte) (*Appended, error) {
	d, err := custody.ParseDSSE(body)
	if err != nil {
		return nil, err
	}
	id := entry.StatementID(d.Payload)
	if a, ok := f.records[id]; ok {
		again := *a
		again.Repeat = true
		return &again, nil
	}
	s, err := custody.Open(d, custody.StateKeys{State: f.State})
	if err != nil {
		return nil, err
	}
	n, at := uint64(len(f.Entries)), f.Time
	if err := f.SendSigned(s, nil); err != nil {
		return nil, err
	}
	a := &Appended{ID: id.String(), Index: n, Time: at, Effect: f.Last.Word(), Envelope: s.Bytes}
	f.records[id] = a
	return a, nil
}

// publish fills in the receipt.
func (f *fake) publish(a *Appended) {
	if f.Published <= a.Index {
		f.Publish()
	}
	v := f.View()
	e, _ := v.Entry(a.Index)
	hashes, _ := v.Inclusion(a.Index)
	a.Receipt = string(checkpoint.Proof{Extra: e.Extra(), Index: a.Index, Hashes: hashes, Checkpoint: v.Checkpoint()}.Marshal())
}

func (f *fake) reply(a *Appended) Appended {
	out := *a
	if f.late > 0 {
		f.late--
		out = Appended{ID: a.ID, Index: a.Index, Pending: true, Poll: "/elsewhere"}
	} else {
		f.publish(&out)
	}
	if f.mangle != nil {
		f.mangle(&out)
	}
	return out
}

func (f *fake) post(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a, err := f.record(body)
	if err != nil {
		refuse(w, err)
		return
	}
	answerJSON(w, http.StatusCreated, f.reply(a))
}

func (f *fake) batch(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // all of it first: HTTP/1.1 stops reading at the first write
	lines := bufio.NewScanner(bytes.NewReader(body))
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		a, err := f.record(lines.Bytes())
		out := Appended{Line: n}
		if err != nil {
			p := problem.As(err)
			out.Status = p.Status()
			out.Problem = &WireReport{Type: problem.BaseURI + p.Type, Detail: p.Detail}
		} else {
			out = f.reply(a)
			out.Line, out.Status = n, http.StatusCreated
		}
		json.NewEncoder(w).Encode(out)
	}
}

func (f *fake) statement(w http.ResponseWriter, r *http.Request) {
	id, err := entry.ParseHash(r.PathValue("id"))
	a, ok := f.records[id]
	if err != nil || !ok {
		refuse(w, problem.New("not_found", "", "no such statement"))
		return
	}
	answerJSON(w, http.StatusOK, f.reply(a))
}

func (f *fake) manifest(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	sum, _ := entry.ParseHash(r.PathValue("sum"))
	f.Sums[sum] = b
	w.WriteHeader(http.StatusCreated)
}

func (f *fake) unit(w http.ResponseWriter, r *http.Request) {
	uri, err := url.PathUnescape(r.PathValue("uri"))
	if err != nil {
		refuse(w, err)
		return
	}
	a, _, err := answer.Assemble(f.View(), uri, answer.Options{Have: answer.ParseHave(r.Header.Get(answer.HaveHeader)), Lanes: f.see})
	if err != nil {
		refuse(w, err)
		return
	}
	if f.units != nil {
		f.units(a)
	}
	b, _ := a.Marshal()
	w.Write(b)
}

func (f *fake) checkUnits(w http.ResponseWriter, r *http.Request) {
	var q UnitsQuery
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		refuse(w, err)
		return
	}
	if f.most > 0 && len(q.Units) > f.most {
		refuse(w, problem.New("too_large", "/units", "ask for fewer"))
		return
	}
	var uris []string
	for _, u := range q.Units {
		uris = append(uris, u.URI)
	}
	m, err := answer.AssembleMany(f.View(), uris, answer.Options{Have: answer.ParseHave(r.Header.Get(answer.HaveHeader)), Lanes: f.see},
		func(i int, _ *custody.History) (string, error) {
			if q.Units[i].Key == opensNothing {
				return "known", nil
			}
			return "", nil
		})
	if err != nil {
		refuse(w, err)
		return
	}
	if f.many != nil {
		f.many(m)
	}
	b, _ := m.Marshal()
	w.Write(b)
}

func (f *fake) entries(w http.ResponseWriter, r *http.Request) {
	var from, limit uint64
	fmt.Sscan(r.FormValue("from"), &from)
	fmt.Sscan(r.FormValue("limit"), &limit)
	for i := from; i < min(from+limit, f.Published); i++ {
		answerLine(w, f.Log, i)
	}
}

func answerLine(w io.Writer, l *answertest.Log, i uint64) {
	line := EntryLine{Index: i, Cargo: l.Entries[i].Cargo()}
	if sum, ok := l.Names[i]; ok {
		line.Manifest = l.Sums[sum]
	}
	json.NewEncoder(w).Encode(line)
}

func (f *fake) consistency(w http.ResponseWriter, r *http.Request) {
	var c Consistency
	fmt.Sscan(r.FormValue("from"), &c.From)
	fmt.Sscan(r.FormValue("to"), &c.To)
	if c.To > uint64(len(f.Entries)) {
		refuse(w, problem.New("invalid_parameter", "to", "beyond the log"))
		return
	}
	hashes, err := f.View().Consistency(c.From, c.To)
	if err != nil {
		refuse(w, err)
		return
	}
	var b64 [][]byte
	for _, h := range hashes {
		b64 = append(b64, bytes.Clone(h[:]))
	}
	answerJSON(w, http.StatusOK, map[string]any{"from": c.From, "to": c.To, "hashes": b64})
}

func (f *fake) inclusion(w http.ResponseWriter, r *http.Request) {
	var p Inclusion
	fmt.Sscan(r.FormValue("index"), &p.Index)
	fmt.Sscan(r.FormValue("size"), &p.Size)
	if p.Size > uint64(len(f.Tree)) || p.Index >= p.Size {
		refuse(w, problem.New("invalid_parameter", "size", "beyond the log"))
		return
	}
	b64 := [][]byte{}
	for _, h := range f.Tree[:p.Size].Inclusion(int(p.Index)) {
		b64 = append(b64, bytes.Clone(h[:]))
	}
	leaf := f.Tree[p.Index]
	answerJSON(w, http.StatusOK, map[string]any{"index": p.Index, "size": p.Size, "leafHash": leaf[:], "hashes": b64})
}

func (f *fake) tile(w http.ResponseWriter, r *http.Request) {
	p, err := entry.ParseTilePath(r.URL.Path)
	if err != nil || p.WidthAt(f.Published) < p.Width || r.URL.Path == f.dropped {
		refuse(w, problem.New("not_found", "", "no such tile"))
		return
	}
	b, err := tileOf(f.Log, p)
	if err != nil {
		refuse(w, err)
		return
	}
	w.Write(b)
}

// all lets the reader see the evidence of every finding.
func all(custody.Item) bool { return true }

// tileOf computes a tile from its definition.
func tileOf(l *answertest.Log, p entry.TilePath) ([]byte, error) {
	if p.Entries {
		var leaves [][]byte
		for i := range p.Width {
			leaf := l.Entries[int(p.Index)*entry.TileWidth+i].Leaf()
			leaves = append(leaves, leaf[:])
		}
		return entry.MarshalBundle(leaves)
	}
	span := 1
	for range p.Level {
		span *= entry.TileWidth
	}
	var b []byte
	for i := range p.Width {
		first := (int(p.Index)*entry.TileWidth + i) * span
		h := l.Tree[first : first+span].Root()
		b = append(b, h[:]...)
	}
	return b, nil
}

// memory is a Memory in a map.
type memory map[string][]byte

func (m memory) Load(origin string) ([]byte, error) {
	if b := m[origin]; strings.HasPrefix(string(b), "damaged") {
		return nil, errors.New("bad checksum")
	}
	return m[origin], nil
}

func (m memory) Store(origin string, note []byte) error { m[origin] = note; return nil }

func trustOf(t testing.TB, l *answertest.Log) *Trust {
	t.Helper()
	trust, err := ParseTrust(l.Trust())
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// verifier returns one whose clock stands a minute after the log's.
func verifier(t testing.TB, l *answertest.Log, r *Remote) *Verifier {
	t.Helper()
	return &Verifier{Remote: r, Trust: trustOf(t, l), Memory: memory{},
		Now: func() time.Time { return time.UnixMilli(int64(l.Time)).Add(time.Minute) }}
}

func pedigree(key []byte) string { return gs1.FormatPedigreeKey(key) }
