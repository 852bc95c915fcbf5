package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"

	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// Limits of what is read from a server, in bytes. A server that sends more is
// treated as one that answers wrongly.
const (
	maxNote    = 1 << 20
	maxProof   = 1 << 20
	maxProblem = 64 << 10
	maxResult  = 4 << 20
	maxTrust   = 4 << 20
	maxLine    = 64 << 20 // cargo of 256 KiB and a manifest, in base64
)

// Remote is a ledger's HTTP interface. It is safe for use by several goroutines.
type Remote struct {
	base string
	opt  Options
	http *http.Client

	auditor bool
}

// Options adjusts a Remote; the zero value is usable.
type Options struct {
	Token     string            // bearer token; empty for public reads
	Transport http.RoundTripper // nil: http.DefaultTransport
	Attempts  int               // tries of a request that may be repeated; 0: 6
	// Sleep waits between tries; nil waits for real. Tests give one that returns
	// at once.
	Sleep func(ctx context.Context, d time.Duration) error
	// Waiting, if set, is told before each wait between tries how long it will be.
	Waiting func(d time.Duration)
	// Timeout bounds one try; 0: 60 s.
	Timeout time.Duration
}

// audits reports whether the reader may see all that is restricted.
func (r *Remote) audits() bool { return r != nil && r.auditor }

// auditor reads whether a token has the scope audit: nothing that is restricted is then
// kept back, and an answer without it is not believed. The token is the reader's own, so
// that what it says of itself is enough.
func auditor(token string) bool {
	claims := jwt.MapClaims{}
	_, _, err := jwt.NewParser().ParseUnverified(token, claims)
	scope, _ := claims["scope"].(string)
	return err == nil && slices.Contains(strings.Split(scope, " "), "audit")
}

// NewRemote returns the interface of the ledger at base, such as
// https://ledger.example or http://127.0.0.1:8080.
func NewRemote(base string, opt Options) (*Remote, error) {
	u, err := url.Parse(base)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%q is not the address of a ledger: want http(s)://host[:port][/path]", base)
	}
	if opt.Attempts <= 0 {
		opt.Attempts = 6
	}
	if opt.Timeout <= 0 {
		opt.Timeout = time.Minute
	}
	if opt.Sleep == nil {
		opt.Sleep = sleep
	}
	return &Remote{
		base: strings.TrimRight(base, "/"),
		opt:  opt,
		http: &http.Client{
			Transport: opt.Transport,
			// A redirect would hand the token, or the question, to another server.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		auditor: auditor(opt.Token),
	}, nil
}

// Base returns the address of the ledger, without a slash at its end.
func (r *Remote) Base() string { return r.base }

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// request is one HTTP request that may be sent several times.
type request struct {
	method, path string // path starts with / and may hold a query
	mediaType    string // of body
	body         []byte
	header       map[string]string
	limit        int64 // of the answer's body
	once         bool  // do not repeat
}

// reply is a whole answer of a status below 400.
type reply struct {
	status int
	body   []byte
}

// do sends q until it is answered, at most Attempts times. Answers of 4xx are
// final except 429; they are returned as *problem.Problem where the server sends
// problem details.
func (r *Remote) do(ctx context.Context, q request) (reply, error) {
	for try := 1; ; try++ {
		rep, after, err := r.try(ctx, q)
		if err == nil || after < 0 || q.once || try >= r.opt.Attempts {
			return rep, err
		}
		if werr := r.wait(ctx, backoff(try, after)); werr != nil {
			return rep, errors.Join(err, werr)
		}
	}
}

func (r *Remote) wait(ctx context.Context, d time.Duration) error {
	if r.opt.Waiting != nil {
		r.opt.Waiting(d)
	}
	return r.opt.Sleep(ctx, d)
}

// backoff is how long to wait after a try: twice as long each time from 200 ms,
// at least what the server asked for, never more than 30 s, and with jitter so
// that clients who failed together do not come back together.
func backoff(try int, asked time.Duration) time.Duration {
	d := 200 * time.Millisecond << min(try-1, 8)
	d = min(max(d, asked), 30*time.Second)
	return d + rand.N(d/4+1)
}

// try sends q once. after < 0 means that repeating is no use.
func (r *Remote) try(ctx context.Context, q request) (rep reply, after time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.opt.Timeout)
	defer cancel()
	resp, err := r.send(ctx, q)
	if err != nil {
		return reply{}, 0, err
	}
	defer resp.Body.Close()
	limit := q.limit
	if resp.StatusCode >= 400 {
		limit = maxProblem
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return reply{}, 0, fmt.Errorf("%s %s: %w", q.method, q.path, err)
	}
	if int64(len(body)) > limit {
		return reply{}, -1, fmt.Errorf("%s %s: the answer is longer than %d bytes", q.method, q.path, limit)
	}
	if resp.StatusCode < 300 {
		return reply{resp.StatusCode, body}, -1, nil
	}
	return reply{status: resp.StatusCode}, retryAfter(resp), statusError(q, resp, body)
}

// send sends q once; the caller closes the body.
func (r *Remote) send(ctx context.Context, q request) (*http.Response, error) {
	var body io.Reader
	if q.body != nil {
		body = bytes.NewReader(q.body)
	}
	req, err := http.NewRequestWithContext(ctx, q.method, r.base+q.path, body)
	if err != nil {
		return nil, err
	}
	if q.mediaType != "" {
		req.Header.Set("Content-Type", q.mediaType)
	}
	if r.opt.Token != "" {
		req.Header.Set("Authorization", "Bearer "+r.opt.Token)
	}
	for k, v := range q.header {
		req.Header.Set(k, v)
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return nil, &Unreachable{r.base, err}
	}
	return resp, nil
}

// Unreachable says that a server gave no answer. Its address is told once, and never
// what was asked: that may be a serial.
type Unreachable struct {
	Base string
	Err  error
}

func (e *Unreachable) Error() string {
	err := e.Err
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return fmt.Sprintf("no answer from %s: %v", e.Base, err)
}

// Unwrap returns the cause.
func (e *Unreachable) Unwrap() error { return e.Err }

// retryAfter says how long to wait before q is worth repeating, or -1.
func retryAfter(resp *http.Response) time.Duration {
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
	default:
		return -1
	}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		return time.Duration(min(s, 30)) * time.Second
	}
	return 0
}

// StatusError is an answer that is not a success and carries no problem details
// of a type that this client knows.
type StatusError struct {
	Method, Path string
	Status       int
	Detail       string
}

func (e *StatusError) Error() string {
	s := fmt.Sprintf("%s %s: status %d", e.Method, e.Path, e.Status)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

func statusError(q request, resp *http.Response, body []byte) error {
	path, _, _ := strings.Cut(q.path, "?") // a query may hold a pedigree key
	e := &StatusError{Method: q.method, Path: path, Status: resp.StatusCode}
	if resp.StatusCode < 400 {
		e.Detail = "redirects are not followed"
		return e
	}
	var w WireReport
	if err := json.Unmarshal(body, &w); err != nil {
		return e
	}
	if p := w.Known(); p != nil {
		return p
	}
	e.Detail = w.Detail
	return e
}

// Known returns the problem that w reports, or nil when its type is not one of
// problem.Types.
func (w *WireReport) Known() *problem.Problem {
	slug, ok := strings.CutPrefix(w.Type, problem.BaseURI)
	if _, known := problem.Types[slug]; !ok || !known {
		return nil
	}
	p := &problem.Problem{Type: slug, Detail: w.Detail, Field: w.Field, Hint: w.Hint}
	if w.Head != "" {
		p.With("head", w.Head)
	}
	return p
}

// Error returns the report in one line.
func (w *WireReport) Error() string {
	if p := w.Known(); p != nil {
		return p.Error()
	}
	return w.Type + ": " + w.Detail
}

// get fetches path and reads its JSON into v.
func (r *Remote) getJSON(ctx context.Context, path string, limit int64, v any) error {
	rep, err := r.do(ctx, request{method: "GET", path: path, limit: limit})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(rep.body, v); err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	return nil
}

// Checkpoint fetches the published note. It is checked by whoever uses it.
func (r *Remote) Checkpoint(ctx context.Context) ([]byte, error) {
	rep, err := r.do(ctx, request{method: "GET", path: "/checkpoint", limit: maxNote})
	return rep.body, err
}

// Consistency fetches the proof between two sizes. It is checked by whoever
// uses it.
func (r *Remote) Consistency(ctx context.Context, from, to uint64) ([]entry.Hash, error) {
	var c Consistency
	err := r.getJSON(ctx, fmt.Sprintf("/v1/proofs/consistency?from=%d&to=%d", from, to), maxProof, &c)
	if err == nil && (c.From != from || c.To != to) {
		err = fmt.Errorf("consistency proof is for %d to %d, asked %d to %d", c.From, c.To, from, to)
	}
	return c.Hashes, err
}

// PutManifest uploads a manifest under its digest (hex SHA-256), so that a
// statement may name it. Repeating it is harmless.
func (r *Remote) PutManifest(ctx context.Context, digest string, manifest []byte) error {
	_, err := r.do(ctx, request{method: "PUT", path: "/v1/manifests/" + digest, mediaType: "application/octet-stream", body: manifest, limit: maxProof})
	return err
}

// unitAnswer fetches the answer about a unit. have names verified lists.
func (r *Remote) unitAnswer(ctx context.Context, uri, pedigree, have string, limit int64) ([]byte, error) {
	q := request{method: "GET", path: "/v1/units/" + url.PathEscape(uri), limit: limit, header: map[string]string{}}
	if pedigree != "" {
		q.header["Fabtrail-Pedigree-Key"] = pedigree
	}
	if have != "" {
		q.header["Fabtrail-Have"] = have
	}
	rep, err := r.do(ctx, q)
	return rep.body, err
}
