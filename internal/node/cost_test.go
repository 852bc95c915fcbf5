package node

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/api"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// costly is a request that is measured.
type costly struct {
	name, method, path, media, token string
	body                             func() []byte
	runs, per                        int // per: what one body holds, such as lines
	status                           int
	count                            float64 // what it takes of its party's statements; 0: is asked
}

const dsseMedia, octets, ndjson = "application/json", "application/octet-stream", "application/x-ndjson"

// request is what any request may cost beyond what it counts for: those of the
// yardstick share one.
const request = 2

// uploadCount is what an upload counts for in statements: their rates, compared.
const uploadCount = 1000 / 20

// TestRefusalCosts prints what the dearest refused request at each limit costs in
// processor time, as a multiple of a statement that is accepted in a batch, and what it
// counts for. It fails where a refused request costs more than it counts for. It
// measures, so it runs only when asked to: FABTRAIL_COSTS=1 (make costs). The figures
// are in docs/performance.md.
func TestRefusalCosts(t *testing.T) {
	if os.Getenv("FABTRAIL_COSTS") == "" {
		t.Skip("a measurement: FABTRAIL_COSTS=1")
	}
	free := api.Rate{PerSecond: math.MaxInt32, Burst: math.MaxInt32} // rates would refuse what is to be measured
	w := newWorldWith(t, Config{Folder: prepareFolder(t), Limits: api.Limits{StatementRate: free, UploadRate: free}})
	token, err := w.folder.Token(makerParty, []string{"custody:write", "custody:read"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	made := 0
	some := func(n int) func() []byte {
		return func() (b []byte) {
			for range n {
				made++
				b = append(append(b, w.commission(1000+made)...), '\n')
			}
			return b
		}
	}
	accepted := w.cost(costly{"accepted statement, in a batch of 1,000", "POST", "/v1/statements/batch", ndjson, token, some(1000), 4, 1000, 200, 1})
	alone := w.cost(costly{"accepted statement, alone, synced", "POST", "/v1/statements", dsseMedia, token, some(1), 50, 1, 201, 1})
	row := func(name string, cpu time.Duration, count float64) (multiple, of float64) {
		multiple = float64(cpu) / float64(accepted)
		t.Logf("%-62s %12s %9.2f %9.0f %9.2f", name, cpu.Round(time.Microsecond), multiple, count, multiple/count)
		return multiple, count
	}
	t.Logf("%-62s %12s %9s %9s %9s", "request, mean of some runs", "CPU", "multiple", "counts as", "of it")
	row("accepted statement, in a batch of 1,000", accepted, 1)
	row("accepted statement, alone, synced", alone, 1)
	for _, some := range []func(string) []costly{w.refusals, w.largeRefusals} {
		for _, c := range some(token) {
			if cost, count := row(c.name, w.cost(c), w.counts(c)); cost > count+request && c.status >= 300 {
				t.Errorf("%s: costs %.1f statements and counts for %.0f", c.name, cost, count)
			}
		}
	}
}

// cost is the processor time of one, the mean of the runs but the first.
func (w *world) cost(r costly) (cpu time.Duration) {
	for i := range r.runs + 1 {
		req := httptest.NewRequest(r.method, r.path, bytes.NewReader(r.body()))
		req.Header.Set("Authorization", "Bearer "+r.token)
		req.Header.Set("Content-Type", r.media)
		rec := &deadlines{httptest.NewRecorder()}
		start := processorTime()
		w.node.Handler().ServeHTTP(rec, req)
		if i > 0 { // the first warms up
			cpu += processorTime() - start
		}
		if rec.Code != r.status {
			w.t.Fatalf("%s: %d %.200s, want %d", r.name, rec.Code, rec.Body, r.status)
		}
	}
	return cpu / time.Duration(r.runs*max(1, r.per))
}

// counts asks what a refused request takes of its party's rate, in statements.
func (w *world) counts(r costly) float64 {
	if r.count > 0 {
		return r.count
	}
	body := r.body()
	if r.method == http.MethodPut {
		return float64(1+(len(body)-1)/(256<<10)) * uploadCount
	}
	line, _, _ := bytes.Cut(body, []byte("\n"))
	b := &bill{most: math.MaxInt}
	w.node.Post(w.t.Context(), api.Caller{Party: makerParty, Scopes: []api.Scope{api.ScopeWrite}}, [][]byte{line}, b)
	n := 1
	for _, x := range append(b.taken, b.owed...) {
		n += x
	}
	return float64(n)
}

func fixed(b []byte) func() []byte { return func() []byte { return b } }

// refusals are requests that are refused for themselves.
func (w *world) refusals(token string) []costly {
	pad := func(n int) []byte { // a statement with n KiB that nobody reads, wrongly signed
		p := w.payload(custody.KindCommission, unit(9), w.event(makerParty, "maker", custody.First()), &custody.Commission{UnitKind: "device"})
		p = []byte(strings.Replace(string(p), `"predicate":{`, `"predicate":{"ext":{"pad":[""`+strings.Repeat(`,"`+strings.Repeat("x", 1020)+`"`, n)+`]},`, 1))
		return reseal(w.t, w.sign(p, w.keys[makerParty]), func(d *custody.DSSE) { d.Signatures[0].Sig[9] ^= 1 })
	}
	bad := token[:len(token)-20] + "AAAAAAAAAAAAAAAAAAAA"
	one := pad(0)
	eight := map[string][]byte{}
	for _, alg := range []custody.Algorithm{custody.Ed25519, custody.ECDSAP384} {
		eight[string(alg)] = w.eightKeys(alg)
	}
	post := func(name string, body []byte, runs, status int) costly {
		return costly{name, "POST", "/v1/statements", dsseMedia, token, fixed(body), runs, 1, status, 0}
	}
	lines := func(name string, body []byte, n int) costly {
		return costly{name, "POST", "/v1/statements/batch", ndjson, token, fixed(bytes.Repeat(append(slices.Clone(body), '\n'), n)), 2, n, 200, 0}
	}
	return []costly{
		{"bad token (signature)", "POST", "/v1/statements", dsseMedia, bad, fixed(one), 40, 1, 401, 1000.0 / 5},
		post("bad signature", one, 50, 422),
		post("bad signature, payload of 240 KiB", pad(240), 30, 422),
		post("eight signatures, Ed25519, the signer is another party", eight[string(custody.Ed25519)], 20, 403),
		post("eight signatures, ECDSA P-384, the signer is another party", eight[string(custody.ECDSAP384)], 20, 403),
		post("envelope of 350 KiB of nested lists", bytes.Repeat([]byte("["), 350<<10), 30, 400),
		{"envelope over the limit", "POST", "/v1/statements", dsseMedia, token, fixed(bytes.Repeat([]byte(" "), 385<<10)), 30, 1, 413, 1},
		lines("batch of 1,000 bad signatures, each line", one, 1000),
		lines("batch of 100 with a payload of 240 KiB, each line", pad(240), 100),
		lines("batch of 200 with eight signatures P-384, each line", eight[string(custody.ECDSAP384)], 200),
		lines("batch of 10,000 lines that are no JSON, each line", []byte("{"), 10_000),
	}
}

// eightKeys is an enrolment of another party with seven keys, signed by all of them
// and the authority: all signatures are good.
func (w *world) eightKeys(alg custody.Algorithm) []byte {
	body := &custody.Party{LegalName: "Example of many keys", Roles: []string{"maker"}}
	signers := append([]crypto.Signer{}, w.keys[testOperator])
	for range 7 {
		key, err := custody.GenerateKey(alg)
		if err != nil {
			w.t.Fatal(err)
		}
		k, err := custody.NewKey(key.Public())
		if err != nil {
			w.t.Fatal(err)
		}
		body.Keys = append(body.Keys, k.Record())
		signers = append(signers, key)
	}
	return w.sign(w.payload(custody.KindParty, strangerParty, nil, body), signers...)
}

// largeRefusals are requests about manifests at their limit.
func (w *world) largeRefusals(token string) []costly {
	const most = 20_000 // a fifth of what is allowed; the cost is in proportion
	upload := func(name string, b []byte, runs, status int) costly {
		sum := sha256.Sum256(b)
		return costly{name, "PUT", "/v1/manifests/" + hex.EncodeToString(sum[:]), octets, token, fixed(b), runs, 1, status, 0}
	}
	lot, members := w.lot(most)
	m, err := custody.NewManifest(members)
	if err != nil {
		w.t.Fatal(err)
	}
	whole := m.Marshal()
	broken := slices.Clone(whole)
	broken[len(broken)-1-len(members[0].URI)-4*32] ^= 1 // in the last member's length
	junk := bytes.Repeat([]byte{7}, 16<<20)

	if _, err := w.node.PutManifest(w.t.Context(), api.Caller{}, m.Digest(), whole); err != nil {
		w.t.Fatal(err)
	}
	contents := m.Contents()
	commission := w.sign(w.payload(custody.KindCommission, lot, w.event(makerParty, "maker", custody.First()),
		&custody.Commission{UnitKind: "device", Contents: &contents}), w.keys[makerParty])
	start := time.Now()
	first := w.node.Submit(w.t.Context(), api.Caller{Party: makerParty, Scopes: []api.Scope{api.ScopeWrite}}, [][]byte{commission})[0]
	if first.Err != nil {
		w.t.Fatal(first.Err)
	}
	w.t.Logf("%-62s %10s", "accepted: 20,000 units commissioned by one statement, once", time.Since(start))
	// Whoever disputes it concerns all of them again, with a statement of 1 KB.
	disputes := func() []byte {
		return w.sign(w.payload(custody.KindDispute, lot, w.event(makerParty, "maker", custody.Unchained()),
			&custody.Dispute{Disputes: custody.Digest{SHA256: first.ID.String()}, Claim: "an example"}), w.keys[makerParty])
	}

	// A pack of them, but one: that cites a statement which is not there.
	for i := range members {
		members[i].Head = first.ID
	}
	members[most-1].Head = entry.Hash{1}
	packed, err := custody.NewManifest(members)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.node.PutManifest(w.t.Context(), api.Caller{}, packed.Digest(), packed.Marshal()); err != nil {
		w.t.Fatal(err)
	}
	pack := func(is custody.Contents) []byte {
		return w.sign(w.payload(custody.KindPack, "https://id.gs1.org/00/095060001000000128",
			w.event(makerParty, "maker", custody.First()), &custody.Pack{Level: 1, Contents: is}), w.keys[makerParty])
	}
	fewer := packed.Contents()
	fewer.Count = 1
	return []costly{
		upload("manifest of 16 MiB that is none", junk, 5, 422),
		upload("manifest of 20,000 members, the last broken", broken, 5, 422),
		{"pack of 20,000 members, one with an unknown predecessor", "POST", "/v1/statements", dsseMedia, token, fixed(pack(packed.Contents())), 3, 1, 409, 0},
		{"accepted dispute about a statement of 20,000 members", "POST", "/v1/statements", dsseMedia, token, disputes, 5, 1, 201, 0},
		{"pack that names a manifest of 20,000 members as one of 1", "POST", "/v1/statements", dsseMedia, token, fixed(pack(fewer)), 5, 1, 422, 0},
	}
}

// lot assigns a product to the maker, and names units of a lot of it.
func (w *world) lot(n int) (uri string, members []custody.Member) {
	const product = "https://id.gs1.org/01/09506000123455"
	w.must(testOperator, w.sign(w.payload(custody.KindProduct, product, nil, &custody.Product{Owner: makerParty, Kind: "device"}),
		w.keys[testOperator], w.keys[makerParty]))
	for i := range n {
		salt := entry.Hash{byte(i), byte(i >> 8), byte(i >> 16), 1}
		members = append(members, custody.Member{URI: fmt.Sprintf("%s/21/C%06d", product, i), Salt: salt})
	}
	return product + "/10/COSTS", members
}

// deadlines is a recorder whose deadlines can be set.
type deadlines struct{ *httptest.ResponseRecorder }

func (*deadlines) SetReadDeadline(time.Time) error  { return nil }
func (*deadlines) SetWriteDeadline(time.Time) error { return nil }
func (*deadlines) EnableFullDuplex() error          { return nil }

var _ http.Flusher = (*deadlines)(nil)
