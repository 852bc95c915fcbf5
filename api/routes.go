package api

import (
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"fabtrail.dev/fabtrail/internal/problem"
)

// Bounds of what a route reads, in bytes.
const (
	// MaxEnvelope bounds one DSSE envelope in JSON: a payload of 256 KiB and
	// eight signatures, both in base64.
	MaxEnvelope = 384 << 10
	// MaxBatch bounds a batch and MaxBatchLines its lines.
	MaxBatch      = 64 << 20
	MaxBatchLines = 10000
	// MaxManifest bounds a manifest.
	MaxManifest = 16 << 20
	// MaxUnits bounds the units of one call of /v1/units:check, MaxUnitsBody its body.
	MaxUnits     = 500
	MaxUnitsBody = 2 << 20
)

// route is one row of the table.
type route struct {
	method, path string
	access       access
	class        class
	body         int64    // bytes that are read of a request's body; 0: none is
	media        []string // of the request's body
	query        []string // parameters; nil: the query is not read at all
	cors         bool     // readable by pages of any origin, without credentials
	own          bool     // sets its own deadlines
	handle       func(*API, *call) error
}

var (
	mediaDSSE     = []string{"application/json", "application/vnd.dsse.envelope.v1+json"}
	mediaJSONOnly = []string{"application/json"}
	mediaNDJSON   = []string{"application/x-ndjson", "application/ndjson", "application/jsonl"}
	mediaOctets   = []string{"application/octet-stream"}
)

// routes lists every route: who may use it, what it reads, how it is limited.
// GET routes answer HEAD also.
var routes = []route{
	{method: "POST", path: "/v1/statements", access: needs(ScopeWrite, ScopeAdmin), class: classWrite, body: MaxEnvelope, media: mediaDSSE, query: []string{}, handle: (*API).postStatement},
	{method: "POST", path: "/v1/statements/batch", access: needs(ScopeWrite, ScopeAdmin), class: classBatch, body: MaxBatch, media: mediaNDJSON, query: []string{}, own: true, handle: (*API).postBatch},
	{method: "GET", path: "/v1/statements/:id", access: optional, class: classRead, query: []string{}, cors: true, handle: (*API).getStatement},
	{method: "PUT", path: "/v1/manifests/:sha256", access: needs(ScopeWrite, ScopeAdmin), class: classUpload, body: MaxManifest, media: mediaOctets, query: []string{}, own: true, handle: (*API).putManifest},
	{method: "GET", path: "/v1/entries", access: optional, class: classRead, query: []string{"from", "limit", "signed"}, cors: true, own: true, handle: (*API).getEntries},
	{method: "GET", path: "/v1/proofs/inclusion", access: open, class: classLog, query: []string{"index", "size"}, cors: true, handle: (*API).getInclusion},
	{method: "GET", path: "/v1/proofs/consistency", access: open, class: classLog, query: []string{"from", "to"}, cors: true, handle: (*API).getConsistency},
	{method: "GET", path: "/v1/units", access: optional, class: classRead, query: []string{"uri", "k"}, cors: true, handle: (*API).getUnit},
	{method: "GET", path: "/v1/units/:uri", access: optional, class: classRead, query: []string{"k"}, cors: true, handle: (*API).getUnit},
	{method: "POST", path: `/v1/units\:check`, access: optional, class: classRead, body: MaxUnitsBody, media: mediaJSONOnly, query: []string{}, own: true, handle: (*API).checkUnits},
	{method: "GET", path: "/v1/parties", access: open, class: classLog, query: []string{"uri"}, cors: true, handle: (*API).getParty},
	{method: "GET", path: "/v1/findings", access: needs(ScopeRead, ScopeAudit), class: classRead, query: []string{"since", "limit"}, handle: (*API).getFindings},

	{method: "GET", path: "/checkpoint", access: open, class: classLog, cors: true, handle: (*API).getCheckpoint},
	{method: "GET", path: "/tile/*", access: open, class: classLog, cors: true, handle: (*API).getTile},
	{method: "GET", path: "/trust/:name", access: open, class: classLog, cors: true, handle: (*API).getTrust},

	{method: "GET", path: "/healthz", access: open, class: classFree, handle: (*API).getHealth},
	{method: "GET", path: "/readyz", access: open, class: classFree, handle: (*API).getReady},
	{method: "GET", path: "/metrics", access: open, class: classFree, handle: (*API).getMetrics},
	{method: "GET", path: "/openapi.yaml", access: open, class: classFree, cors: true, handle: (*API).getOpenAPI},
}

// call is one request on its way to its handler.
type call struct {
	echo.Context
	who   Caller
	query url.Values
}

func (c *call) ctx() context.Context { return c.Request().Context() }

// caller is what limits know the caller by: the party, or without one the address.
func (c *call) caller() string { return callerKey(c.Context, c.who) }

func callerKey(c echo.Context, who Caller) string {
	if who.Known() {
		return who.Party
	}
	return addressKey(c.RealIP())
}

// serve does what is the same for all routes, in this order: what is cheap comes
// before what is dear, and nobody learns of a limit what he may not know.
func (a *API) serve(r route) echo.HandlerFunc {
	return func(c echo.Context) error {
		req := c.Request()
		if req.Header.Get("Content-Encoding") != "" {
			return problem.New("unsupported_media_type", "Content-Encoding", "compressed bodies are not read").WithHint("send the body as it is")
		}
		if r.cors && req.Header.Get("Authorization") == "" && !hasCertificate(req) {
			c.Response().Header().Set("Access-Control-Allow-Origin", "*")
			c.Response().Header().Set("Cross-Origin-Resource-Policy", "cross-origin")
		}
		if err := a.patience(c, r.class); err != nil {
			return err
		}
		leave, err := a.limits.enter(r.class)
		if err != nil {
			return a.tell(c, r.class, err)
		}
		defer leave()
		gauge := a.metrics.inFlight.WithLabelValues(classNames[r.class])
		gauge.Inc()
		defer gauge.Dec()

		who, err := a.authenticate(c, r.access)
		if err != nil {
			return err
		}
		gone, err := a.limits.enterParty(r.class, who.Party)
		if err != nil {
			return a.tell(c, r.class, err)
		}
		defer gone()
		// Last, since it uses something up: who finds no place may come again for free.
		if err := a.allow(c, r.class, who); err != nil {
			return err
		}
		in := &call{Context: c, who: who}
		if r.query != nil {
			if in.query, err = parseQuery(req.URL.RawQuery, r.query); err != nil {
				return err
			}
		}
		if err := prepareBody(c, r); err != nil {
			return err
		}
		if !r.own {
			ctx, cancel := context.WithTimeout(req.Context(), a.times.handle)
			defer cancel()
			c.SetRequest(c.Request().WithContext(ctx))
		}
		return r.handle(a, in)
	}
}

// authenticate finds out who asks, and refuses whom the route is not for.
func (a *API) authenticate(c echo.Context, need access) (Caller, error) {
	if need.token == tokenIgnored {
		return Caller{}, nil
	}
	token, err := bearer(c.Request().Header)
	if err != nil {
		return Caller{}, a.failedToken(c, err)
	}
	if token == "" {
		if who, ok := a.certified(c.Request()); ok {
			return who, checkScopes(who, need)
		}
		if need.token == tokenOptional {
			return Caller{}, nil
		}
		return Caller{}, problem.New("token_required", "Authorization", "this needs a bearer token").
			WithHint("send Authorization: Bearer with a token that has the scope %s", orWords(need.scopes))
	}
	who, err := a.Tokens.Verify(c.Request().Context(), token)
	if err != nil {
		return Caller{}, a.failedToken(c, err)
	}
	return who, checkScopes(who, need)
}

func checkScopes(who Caller, need access) error {
	if need.token == tokenRequired && !who.hasAny(need.scopes) {
		return problem.New("scope_missing", "", "the token has none of the scopes that this needs").
			WithHint("get a token with the scope %s", orWords(need.scopes)).With("scopes", need.scopes)
	}
	return nil
}

func orWords(scopes []Scope) string {
	words := make([]string, len(scopes))
	for i, s := range scopes {
		words[i] = string(s)
	}
	return strings.Join(words, " or ")
}

// failedToken counts bad tokens of an address and refuses to go on with too many.
func (a *API) failedToken(c echo.Context, err error) error {
	if p := problem.As(err); p == nil || p.Type != "token_invalid" {
		return err
	}
	if limited := a.limits.take(a.limits.failures, addressKey(c.RealIP())); limited != nil {
		return limited
	}
	return err
}

// bearer returns the bearer token of a request, or "" when there is none.
func bearer(h http.Header) (string, error) {
	values := h.Values("Authorization")
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) > 1:
		return "", badToken("there is more than one Authorization header")
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" || strings.ContainsAny(token, " \t,") {
		return "", badToken("the Authorization header is not of the form: Bearer <token>")
	}
	return token, nil
}

// allow holds the caller to the rates of the class. Batches are slowed down, not
// refused, as they go on; but a party has only so many at once.
func (a *API) allow(c echo.Context, k class, who Caller) error {
	key := callerKey(c, who)
	switch k {
	case classLog:
		return a.limits.take(a.limits.log, key)
	case classRead:
		return a.limits.take(a.limits.read, key)
	case classWrite:
		return a.limits.take(a.limits.stmt, key)
	case classUpload:
		return a.limits.take(a.limits.upload, key)
	}
	return nil
}

// prepareBody checks what a body is said to be and bounds it.
func prepareBody(c echo.Context, r route) error {
	req := c.Request()
	if r.body == 0 {
		return nil
	}
	media, _, err := mime.ParseMediaType(req.Header.Get("Content-Type"))
	if err != nil || !slices.Contains(r.media, media) {
		return problem.New("unsupported_media_type", "Content-Type", "this media type is not read here").
			WithHint("send Content-Type: %s", r.media[0])
	}
	if req.ContentLength > r.body {
		return &http.MaxBytesError{Limit: r.body}
	}
	// The bounded body goes into a copy of the request: the server looks at its own
	// to see whether the connection is still in step. MaxBytesReader must see the
	// server's own writer to have the connection closed.
	bounded := *req
	bounded.Body = http.MaxBytesReader(c.Response().Writer, req.Body, r.body)
	c.SetRequest(&bounded)
	return nil
}

// readBody reads the whole body, which prepareBody has bounded.
func readBody(req *http.Request) ([]byte, error) {
	b, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBody, err)
	}
	if len(b) == 0 {
		return nil, problem.New("malformed_request", "", "the body is empty")
	}
	return b, nil
}

// preflight answers what a browser asks before a page of another origin may send
// our own request headers. Credentials are never allowed.
func preflight(c echo.Context) error {
	h := c.Response().Header()
	h.Set("Allow", "GET, HEAD, OPTIONS")
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", "GET, HEAD")
	h.Set("Access-Control-Allow-Headers", headerPedigree+", "+headerHave)
	h.Set("Access-Control-Max-Age", "86400")
	return c.NoContent(http.StatusNoContent)
}
