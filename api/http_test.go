package api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"fabtrail.dev/fabtrail/internal/problem"
)

func TestServerIsBounded(t *testing.T) {
	srv := NewServer(http.NotFoundHandler(), nil)
	if srv.ReadHeaderTimeout != 5*time.Second || srv.ReadTimeout != 15*time.Second || srv.WriteTimeout != 30*time.Second ||
		srv.IdleTimeout != 60*time.Second || srv.MaxHeaderBytes != 16<<10 || srv.Handler == nil || srv.ErrorLog == nil {
		t.Errorf("%+v", srv)
	}
	if defaultTimeouts.handle >= srv.WriteTimeout {
		t.Error("a handler that takes too long could not be answered")
	}
}

// TestCacheHeaders: media types and caching as C2SP tlog-tiles has them.
func TestCacheHeaders(t *testing.T) {
	s := newServer(t, generous)
	for target, want := range map[string][2]string{
		"/checkpoint":                         {"text/plain; charset=utf-8", "no-cache"},
		"/tile/0/000.p/3":                     {"application/octet-stream", "public, max-age=31536000, immutable"},
		"/tile/entries/000.p/3":               {"application/octet-stream", "public, max-age=31536000, immutable"},
		"/tile/0/000.p/3?x=1":                 {"application/octet-stream", "public, max-age=31536000, immutable"},
		"/trust/policy.txt":                   {"text/plain; charset=utf-8", "no-cache"},
		"/trust/charter.json":                 {"application/json", "no-cache"},
		"/v1/proofs/inclusion?index=0&size=3": {"application/json", "no-store"},
		"/v1/entries":                         {"application/x-ndjson", "no-store"},
		"/v1/units?uri=https%3A%2F%2Fx":       {"application/json", "no-store"},
		"/openapi.yaml":                       {"application/yaml", "public, max-age=300"},
		"/healthz":                            {"application/json", "no-store"},
	} {
		r := s.do("GET", target, "")
		if got := [2]string{r.header.Get("Content-Type"), r.header.Get("Cache-Control")}; r.status != 200 || got != want {
			t.Errorf("%s: %d %q, want %q", target, r.status, got, want)
		}
		head := s.do("HEAD", target, "")
		if head.status != 200 || len(head.body) != 0 || head.header.Get("Content-Type") != want[0] {
			t.Errorf("HEAD %s: %d, %d bytes, %q", target, head.status, len(head.body), head.header.Get("Content-Type"))
		}
	}
}

func TestSecurityHeaders(t *testing.T) {
	s := newServer(t, generous)
	for _, target := range []string{"/checkpoint", "/nothing", "/v1/units?uri=https%3A%2F%2Fx"} {
		h := s.do("GET", target, "").header
		for name, want := range map[string]string{
			"X-Content-Type-Options":  "nosniff",
			"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
			"Referrer-Policy":         "no-referrer",
		} {
			if h.Get(name) != want {
				t.Errorf("%s: %s is %q", target, name, h.Get(name))
			}
		}
		for _, name := range []string{"Server", "X-Powered-By", "Strict-Transport-Security", "Set-Cookie"} {
			if h.Get(name) != "" {
				t.Errorf("%s: %s is %q", target, name, h.Get(name))
			}
		}
	}
	rec := httptest.NewRecorder()
	req := httptest.NewRequest("GET", "/checkpoint", nil)
	req.TLS = &tls.ConnectionState{}
	s.api.ServeHTTP(rec, req)
	if rec.Header().Get("Strict-Transport-Security") == "" {
		t.Error("no HSTS over TLS")
	}
}

// TestCORS: pages of any origin may read what is public, never with credentials,
// and never write.
func TestCORS(t *testing.T) {
	s := newServer(t, generous)
	origin := "Origin: https://evil.example"
	tok := bearerHeader(s.token(partyA, ScopeWrite, ScopeRead))
	for _, tc := range []struct {
		method, target string
		headers        []string
		allowed        string
	}{
		{"GET", "/checkpoint", nil, "*"},
		{"GET", "/tile/0/000.p/3", nil, "*"},
		{"GET", "/tile/0/000", nil, "*"}, // a page must see that it is a 404
		{"GET", "/v1/units?uri=https%3A%2F%2Fx", nil, "*"},
		{"GET", "/v1/entries", nil, "*"},
		{"GET", "/v1/entries", []string{tok}, ""},
		{"GET", "/v1/units?uri=https%3A%2F%2Fx", []string{tok}, ""},
		{"GET", "/v1/findings", []string{tok}, ""},
		{"POST", "/v1/statements", []string{tok, typeJSON}, ""},
		{"POST", "/v1/statements", []string{typeJSON}, ""},
		{"GET", "/readyz", nil, ""},
		{"GET", "/metrics", nil, ""},
		{"OPTIONS", "/v1/units?uri=https%3A%2F%2Fx", []string{"Access-Control-Request-Method: GET", "Access-Control-Request-Headers: fabtrail-pedigree-key"}, "*"},
		{"OPTIONS", "/v1/statements", []string{"Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization"}, ""},
		{"OPTIONS", "/v1/statements/batch", []string{"Access-Control-Request-Method: POST"}, "*"}, // it has the form of /v1/statements/{id}, for GET
		{"OPTIONS", "/v1/findings", []string{"Access-Control-Request-Method: GET"}, ""},
	} {
		r := s.do(tc.method, tc.target, "", append(tc.headers, origin)...)
		if got := r.header.Get("Access-Control-Allow-Origin"); got != tc.allowed {
			t.Errorf("%s %s: Access-Control-Allow-Origin %q, want %q", tc.method, tc.target, got, tc.allowed)
		}
		if got := r.header.Get("Access-Control-Allow-Credentials"); got != "" {
			t.Errorf("%s %s: credentials are allowed", tc.method, tc.target)
		}
		if got := strings.ToLower(r.header.Get("Access-Control-Allow-Headers") + r.header.Get("Access-Control-Allow-Methods")); strings.Contains(got, "authorization") || strings.Contains(got, "post") {
			t.Errorf("%s %s: a page may %q", tc.method, tc.target, got)
		}
	}
}

// TestInternalErrors: strangers get a number, the log gets the rest.
func TestInternalErrors(t *testing.T) {
	s := newServer(t, generous)
	for _, mode := range []string{"panic", "error"} {
		r := s.do("POST", "/v1/statements", `{"mode":"`+mode+`"}`, typeJSON, bearerHeader(s.token(partyA, ScopeWrite)))
		_, incident, ok := strings.Cut(string(r.body), `"incident":"`)
		incident, _, _ = strings.Cut(incident, `"`)
		if r.status != 500 || !ok || !strings.Contains(s.logged.String(), incident) {
			t.Errorf("%s: %d %s", mode, r.status, r.body)
		}
	}
	for _, want := range []string{"a secret of the inside", "/var/lib/secret", "goroutine "} {
		if !strings.Contains(s.logged.String(), want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	if strings.Contains(s.logged.String(), "eyJ") {
		t.Error("the log holds a token")
	}
}

// TestEntriesFailInTheMiddle: the connection is cut off.
func TestEntriesFailInTheMiddle(t *testing.T) {
	s := newServer(t, generous)
	s.failAt = 2
	s.entries[0].Cargo = append([]byte{1}, make([]byte, 2*flushBytes)...) // so that a part is on its way
	resp, err := s.client.Get("http://" + s.addr + "/v1/entries")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	r := s.do("GET", "/v1/entries?from=2", "")
	if r.status != 500 || r.problemType() != "internal" || strings.Contains(string(r.body), "secret") {
		t.Errorf("a failure before the first entry: %d %s", r.status, r.body)
	}
}

// TestKeepAlive: a refusal without reading the body does not spoil the next
// request of the connection.
func TestKeepAlive(t *testing.T) {
	s := newServer(t, generous)
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	for i, req := range []string{
		"POST /v1/statements HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12345",
		"POST /v1/statements HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n" + typeJSON + "\r\n" + bearerHeader(s.token(partyA, ScopeWrite)) + "\r\n\r\n{\"name\":\"a\"}",
		"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		if _, err := io.WriteString(conn, req); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		if want := []int{401, 201, 200}[i]; resp.StatusCode != want {
			t.Errorf("request %d: %d, want %d", i, resp.StatusCode, want)
		}
	}
}

// TestNoDesync: what is left of a body that was not read to its end never passes
// for a request of its own.
func TestNoDesync(t *testing.T) {
	hidden := "GET /v1/entries HTTP/1.1\r\nHost: x\r\n\r\n"
	tok := "\r\nPOINT\r\n\r\n"
	many := strings.Repeat("{}\n", MaxBatchLines+1)
	for name, request := range map[string]string{
		"batch with a line too many":  fmt.Sprintf("POST /v1/statements/batch HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n", len(many)+len(hidden)) + typeLines + tok + many + hidden,
		"batch that is late":          fmt.Sprintf("POST /v1/statements/batch HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n", 100+len(hidden)) + typeLines + tok + "{}\n{LATER" + hidden,
		"batch with a broken chunk":   "POST /v1/statements/batch HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + typeLines + tok + "3\r\n{}\n\r\nzz\r\n" + hidden,
		"batch in a wrong media type": fmt.Sprintf("POST /v1/statements/batch HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n", 400000+len(hidden)) + typeJSON + tok + strings.Repeat("x", 400000) + hidden,
		"statement too large":         fmt.Sprintf("POST /v1/statements HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n", MaxEnvelope+len(hidden)) + typeJSON + tok + strings.Repeat("x", MaxEnvelope) + hidden,
		"statement too large in chunks": "POST /v1/statements HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + typeJSON + tok +
			fmt.Sprintf("%x\r\n", MaxEnvelope+1) + strings.Repeat("x", MaxEnvelope+1) + "\r\n1000\r\n" + hidden,
		"length beside chunks":   fmt.Sprintf("POST /v1/statements HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nTransfer-Encoding: chunked\r\n", 5+len(hidden)) + typeJSON + tok + "0\r\n\r\n" + hidden,
		"statement that is late": fmt.Sprintf("POST /v1/statements HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n", 100+len(hidden)) + typeJSON + tok + "{LATER" + hidden,
		"manifest that is late":  fmt.Sprintf("PUT /v1/manifests/%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n", zeroID, 100+len(hidden)) + typeOctets + tok + "{LATER" + hidden,
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, generous, impatient)
			conn, err := net.Dial("tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			request = strings.Replace(request, "POINT", bearerHeader(s.token(partyA, ScopeWrite)), 1)
			now, later, _ := strings.Cut(request, "LATER")
			go func() { _, _ = io.WriteString(conn, now) }()
			in := bufio.NewReader(conn)
			head, err := in.Peek(12) // the answer has begun
			if err != nil || !strings.HasPrefix(string(head), "HTTP/1.1 ") {
				t.Fatalf("%q, %v", head, err)
			}
			_, _ = io.WriteString(conn, later)
			all, _ := io.ReadAll(in) // to the end of the connection, orderly or not
			if n := strings.Count(string(all), "HTTP/1.1 "); n != 1 {
				t.Errorf("%d answers", n)
			}
			if s.api.answered("/v1/entries") != 0 {
				t.Error("the hidden request was answered")
			}
		})
	}
}

// answered is how many GET requests of a route were answered with 200.
func (a *API) answered(route string) float64 {
	return testutil.ToFloat64(a.metrics.requests.WithLabelValues(route, "GET", "200"))
}

func TestProblemOf(t *testing.T) {
	s := newServer(t, generous)
	req := httptest.NewRequest("GET", "/", nil)
	for _, tc := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("outer: %w", problem.New("superseded", "", "x")), "superseded"},
		{&problem.Problem{Type: "made_up", Detail: "secret"}, "internal"},
		{problem.New("internal", "", "secret"), "internal"},
		{echo.ErrNotFound, "not_found"},
		{echo.ErrMethodNotAllowed, "method_not_allowed"},
		{echo.ErrTeapot, "internal"},
		{context.DeadlineExceeded, "overloaded"},
		{fmt.Errorf("x: %w", context.Canceled), "overloaded"},
		{&http.MaxBytesError{Limit: 7}, "too_large"},
		{fmt.Errorf("%w: %w", errBody, os.ErrDeadlineExceeded), "malformed_request"},
		{fmt.Errorf("%w: %w", errBody, io.ErrUnexpectedEOF), "malformed_request"},
		{io.ErrUnexpectedEOF, "internal"},
	} {
		p := s.api.problemOf(tc.err, req)
		if p.Type != tc.want || strings.Contains(p.Error(), "secret") {
			t.Errorf("%v: %v, want %s", tc.err, p, tc.want)
		}
	}
}

func TestRetryAfterIsComplete(t *testing.T) {
	for slug, typ := range problem.Types {
		if waits := typ.Status == 429 || typ.Status == 503; waits != (retryAfter[slug] > 0) {
			t.Errorf("%s has status %d, and Retry-After %d", slug, typ.Status, retryAfter[slug])
		}
	}
	if got := secondsOf(problem.New("rate_limited", "", "x").With("retryAfter", int64(7))); got != 7 {
		t.Errorf("%d", got)
	}
	if got := secondsOf(problem.New("rate_limited", "", "x").With("retryAfter", -7)); got != 1 {
		t.Errorf("%d", got)
	}
}

func TestMetrics(t *testing.T) {
	s := newServer(t, generous)
	w := []string{typeJSON, bearerHeader(s.token(partyA, ScopeWrite))}
	s.do("POST", "/v1/statements", `{"name":"a"}`, w...)
	s.do("POST", "/v1/statements", `{"name":"a"}`, w...)
	s.do("POST", "/v1/statements", `{"problem":"superseded"}`, w...)
	s.do("GET", "/nothing/of/a/stranger", "")
	s.do("HACK", "/checkpoint", "")
	err := testutil.GatherAndCompare(s.api.Registry, strings.NewReader(`
# HELP fabtrail_http_statements_total Statements answered, by the problem type or the status of success.
# TYPE fabtrail_http_statements_total counter
fabtrail_http_statements_total{outcome="created"} 1
fabtrail_http_statements_total{outcome="repeat"} 1
fabtrail_http_statements_total{outcome="superseded"} 1
# HELP fabtrail_http_requests_total HTTP requests answered.
# TYPE fabtrail_http_requests_total counter
fabtrail_http_requests_total{code="200",method="POST",route="/v1/statements"} 1
fabtrail_http_requests_total{code="201",method="POST",route="/v1/statements"} 1
fabtrail_http_requests_total{code="409",method="POST",route="/v1/statements"} 1
fabtrail_http_requests_total{code="404",method="GET",route="other"} 1
fabtrail_http_requests_total{code="405",method="other",route="/checkpoint"} 1
`), "fabtrail_http_statements_total", "fabtrail_http_requests_total")
	if err != nil {
		t.Error(err)
	}
	page := s.do("GET", "/metrics", "").body
	if !bytes.Contains(page, []byte("fabtrail_http_request_seconds_bucket")) {
		t.Error("the page lacks the histogram")
	}
	if bytes.Contains(page, []byte("stranger")) || bytes.Contains(page, []byte("HACK")) {
		t.Error("strangers make labels")
	}
}

func TestNewRefuses(t *testing.T) {
	f := newFakeLedger()
	v := testVerifier(t, testNow)
	whole := func() Config {
		return Config{Tokens: v, Submitter: f, Statements: f, Manifests: f, Entries: f, Proofs: f, Tiles: f, Units: f, Parties: f, Findings: f, Trust: f, Health: f, Registry: prometheus.NewRegistry()}
	}
	if _, err := New(whole()); err != nil {
		t.Fatal(err)
	}
	for name, drop := range map[string]func(*Config){
		"tokens":    func(c *Config) { c.Tokens = nil },
		"submitter": func(c *Config) { c.Submitter = nil },
		"health":    func(c *Config) { c.Health = nil },
		"registry":  func(c *Config) { c.Registry = nil },
		"registry that has the metrics": func(c *Config) {
			if _, err := newMetrics(c.Registry); err != nil {
				t.Fatal(err)
			}
		},
	} {
		c := whole()
		drop(&c)
		if _, err := New(c); err == nil {
			t.Errorf("made without %s", name)
		}
	}
}
