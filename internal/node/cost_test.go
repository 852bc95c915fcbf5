package node

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/custody"
)

// TestRefusalCosts prints what the dearest refused request at each limit costs, as a
// multiple of an accepted statement. It measures, so it runs only when asked to:
// FABTRAIL_COSTS=1 (make costs). The figures are in docs/performance.md.
func TestRefusalCosts(t *testing.T) {
	if os.Getenv("FABTRAIL_COSTS") == "" {
		t.Skip("a measurement: FABTRAIL_COSTS=1")
	}
	w := newWorld(t)
	token, err := w.folder.Token(makerParty, []string{"custody:write", "custody:read"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	bad := token[:len(token)-20] + "AAAAAAAAAAAAAAAAAAAA"
	pad := func(n int) []byte { // a statement with n KiB that nobody reads, wrongly signed
		p := w.payload(custody.KindCommission, unit(9), w.event(makerParty, "maker", custody.First()), &custody.Commission{UnitKind: "device"})
		p = []byte(strings.Replace(string(p), `"predicate":{`, `"predicate":{"ext":{"pad":[""`+strings.Repeat(`,"`+strings.Repeat("x", 1020)+`"`, n)+`]},`, 1))
		return reseal(t, w.sign(p, w.keys[makerParty]), func(d *custody.DSSE) { d.Signatures[0].Sig[9] ^= 1 })
	}
	one := pad(0)
	batch := bytes.Repeat(append(slices.Clone(one), '\n'), 1000)
	garbage := bytes.Repeat([]byte{7}, 16<<20)
	sum := sha256.Sum256(garbage)
	made := 0
	type request struct {
		method, path, media, token string
		body                       func() []byte
		runs                       int
		per                        int // lines
	}
	fixed := func(b []byte) func() []byte { return func() []byte { return b } }
	cost := func(r request, want int) time.Duration {
		best := time.Duration(1 << 62)
		for range r.runs {
			req := httptest.NewRequest(r.method, r.path, bytes.NewReader(r.body()))
			req.Header.Set("Authorization", "Bearer "+r.token)
			req.Header.Set("Content-Type", r.media)
			rec := &deadlines{httptest.NewRecorder()}
			start := time.Now()
			w.node.Handler().ServeHTTP(rec, req)
			best = min(best, time.Since(start))
			if rec.Code != want {
				t.Fatalf("%s %s: %d %.200s, want %d", r.method, r.path, rec.Code, rec.Body, want)
			}
		}
		return best / time.Duration(max(1, r.per))
	}
	const statements, dsse = "/v1/statements", "application/json"
	accepted := cost(request{"POST", statements, dsse, token, func() []byte { made++; return w.commission(1000 + made) }, 50, 1}, 201)
	t.Logf("%-52s %10s %8s", "request, least of some runs", "time", "multiple")
	t.Logf("%-52s %10s %8.2f", "accepted statement, alone, synced", accepted, 1.0)
	for _, c := range []struct {
		name string
		request
		status int
	}{
		{"bad token (signature)", request{"POST", statements, dsse, bad, fixed(one), 30, 1}, 401},
		{"bad signature", request{"POST", statements, dsse, token, fixed(one), 50, 1}, 422},
		{"bad signature, payload of 240 KiB", request{"POST", statements, dsse, token, fixed(pad(240)), 30, 1}, 422},
		{"envelope of 350 KiB of nested lists", request{"POST", statements, dsse, token, fixed(bytes.Repeat([]byte("["), 350<<10)), 30, 1}, 400},
		{"envelope over the limit", request{"POST", statements, dsse, token, fixed(bytes.Repeat([]byte(" "), 385<<10)), 30, 1}, 413},
		{"manifest of 16 MiB that is none", request{"PUT", "/v1/manifests/" + hex.EncodeToString(sum[:]), "application/octet-stream", token, fixed(garbage), 5, 1}, 422},
		{"batch of 1,000 bad signatures, each line", request{"POST", "/v1/statements/batch", "application/x-ndjson", token, fixed(batch), 3, 1000}, 200},
	} {
		d := cost(c.request, c.status)
		t.Logf("%-52s %10s %8.2f", c.name, d, float64(d)/float64(accepted))
	}
}

// deadlines is a recorder whose deadlines can be set.
type deadlines struct{ *httptest.ResponseRecorder }

func (*deadlines) SetReadDeadline(time.Time) error  { return nil }
func (*deadlines) SetWriteDeadline(time.Time) error { return nil }
func (*deadlines) EnableFullDuplex() error          { return nil }

var _ http.Flusher = (*deadlines)(nil)
