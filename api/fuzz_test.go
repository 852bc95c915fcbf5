package api

import (
	"bufio"
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"

	"fabtrail.dev/fabtrail/internal/problem"
)

// FuzzRequest sends whatever net/http can read through the whole API: every
// refusal is a problem of a listed type, and nothing ever is an internal error.
func FuzzRequest(f *testing.F) {
	v := testVerifier(f, testNow)
	ledger := newFakeLedger()
	a, err := New(Config{
		Tokens: v, Submitter: ledger, Statements: ledger, Manifests: ledger, Entries: ledger, Proofs: ledger, Tiles: ledger,
		Units: ledger, Parties: ledger, Findings: ledger, Trust: ledger, Health: ledger,
		Registry: prometheus.NewRegistry(), Limits: generous, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		f.Fatal(err)
	}
	good := bearerHeader(jwtOf(encode(goodHeader()), encode(goodClaims(), "scope", "custody:write custody:read audit")))
	for _, g := range grants {
		f.Add([]byte(fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n%s\r\n\r\n%s", g.method, g.target, len(g.body), good, "Content-Type: "+strings.TrimPrefix(g.media, "Content-Type: "), g.body)))
	}
	for _, row := range append(negativePaths(), negativeMethods()...) {
		f.Add([]byte(fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", row.method, row.target, good)))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			return
		}
		req.RemoteAddr = "192.0.2.1:1"
		if strings.Contains(string(raw), `"mode"`) || strings.Contains(string(raw), `"problem"`) {
			return // asks the fake ledger to fail
		}
		rec := httptest.NewRecorder()
		a.ServeHTTP(&duplex{rec}, req)
		res := rec.Result()
		switch {
		case res.StatusCode < 400:
		case res.Header.Get("Content-Type") != mediaProblem || res.StatusCode == http.StatusInternalServerError:
			t.Fatalf("%q: %d %s %s", raw, res.StatusCode, res.Header.Get("Content-Type"), rec.Body)
		default:
			var p struct {
				Type   string `json:"type"`
				Status int    `json:"status"`
			}
			err := json.Unmarshal(rec.Body.Bytes(), &p)
			slug := strings.TrimPrefix(p.Type, problem.BaseURI)
			if err != nil || problem.Types[slug].Status != res.StatusCode || p.Status != res.StatusCode {
				t.Fatalf("%q: %d %s, %v", raw, res.StatusCode, rec.Body, err)
			}
		}
	})
}

// duplex is a recorder that does what a connection can.
type duplex struct{ *httptest.ResponseRecorder }

func (*duplex) EnableFullDuplex() error          { return nil }
func (*duplex) SetReadDeadline(time.Time) error  { return nil }
func (*duplex) SetWriteDeadline(time.Time) error { return nil }
