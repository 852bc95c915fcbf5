package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/labstack/echo/v4"

	"fabtrail.dev/fabtrail/internal/problem"
)

const mediaProblem = "application/problem+json"

// retryAfter is the Retry-After, in seconds, of the problems that pass by
// themselves; a problem's extension "retryAfter" goes before it.
var retryAfter = map[string]int64{
	"rate_limited": 1, "no_effect_limit": 60, "unused_manifests": 3600, "overloaded": 1, "not_signing": 30,
	"storage_full": 60, "not_ready": 5, "issuer_unreachable": 10,
}

// panicError is a panic of a handler.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprint("panic: ", e.value) }

// guard goes around every request: it sets the headers that every answer has,
// answers errors and panics, and counts.
func (a *API) guard(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		start := a.Clock()
		h := c.Response().Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if c.Request().TLS != nil {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		// Who sends chunks and a length as well must get no second answer (RFC 9112, section 6.1): a proxy
		// that goes by the length would give it to somebody else. net/http has dropped the length.
		if len(c.Request().TransferEncoding) > 0 {
			h.Set("Connection", "close")
		}
		defer func() {
			a.metrics.done(c.Path(), c.Request().Method, c.Response().Status, a.Clock().Sub(start))
		}()
		if err := protect(next, c); err != nil {
			a.fail(err, c)
		}
		return nil
	}
}

// protect turns a panic of the handler into an error.
func protect(next echo.HandlerFunc, c echo.Context) (err error) {
	defer func() {
		switch v := recover(); v {
		case nil:
		case http.ErrAbortHandler:
			panic(v)
		default:
			err = &panicError{v, debug.Stack()}
		}
	}()
	return next(c)
}

// fail answers an error. It is the only place that does.
func (a *API) fail(err error, c echo.Context) {
	req := c.Request()
	if c.Response().Committed {
		// Half an answer cannot be taken back: cut it off, so that nobody takes it
		// for a whole one.
		a.report(err, req, "")
		panic(http.ErrAbortHandler)
	}
	p := a.problemOf(err, req)
	h := c.Response().Header()
	switch p.Status() {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", challenge(p))
	case http.StatusForbidden:
		if p.Type == "scope_missing" {
			h.Set("WWW-Authenticate", challenge(p))
		}
	case http.StatusMethodNotAllowed:
		if allow, ok := c.Get(echo.ContextKeyHeaderAllow).(string); ok {
			h.Set("Allow", allow)
		}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		h.Set("Retry-After", strconv.FormatInt(secondsOf(p), 10))
	}
	h.Set("Cache-Control", "no-store")
	b, err := json.Marshal(p)
	if err != nil { // cannot be: MarshalJSON leaves out what cannot be encoded
		a.Log.Error("problem cannot be encoded", "type", p.Type)
	}
	h.Set("Content-Length", strconv.Itoa(len(b)))
	if err := c.Blob(p.Status(), mediaProblem, b); err != nil {
		a.Log.Debug("answer not sent", "error", err)
	}
}

// secondsOf is how long to wait before a request is worth repeating.
func secondsOf(p *problem.Problem) int64 {
	switch v := p.Extra["retryAfter"].(type) {
	case int:
		return max(1, int64(v))
	case int64:
		return max(1, v)
	}
	return max(1, retryAfter[p.Type])
}

// challenge is the WWW-Authenticate of RFC 6750.
func challenge(p *problem.Problem) string {
	switch p.Type {
	case "token_invalid":
		return `Bearer realm="fabtrail", error="invalid_token"`
	case "scope_missing":
		if scopes, ok := p.Extra["scopes"].([]Scope); ok {
			words := make([]string, len(scopes))
			for i, s := range scopes {
				words[i] = string(s)
			}
			return fmt.Sprintf(`Bearer realm="fabtrail", error="insufficient_scope", scope="%s"`, strings.Join(words, " "))
		}
	}
	return `Bearer realm="fabtrail"`
}

// problemOf finds the problem that an error stands for. What is not meant for
// strangers becomes "internal", with a number under which the log has it.
func (a *API) problemOf(err error, req *http.Request) *problem.Problem {
	if p := problem.As(err); p != nil {
		if p.Type == "internal" || problem.Types[p.Type].Status == 0 {
			return a.internal(err, req)
		}
		return p
	}
	if p := bodyProblem(err); p != nil {
		return p
	}
	var he *echo.HTTPError
	if errors.As(err, &he) {
		switch he.Code {
		case http.StatusNotFound:
			return notFound()
		case http.StatusMethodNotAllowed:
			return problem.New("method_not_allowed", "", "this method is not allowed here").WithHint("the header Allow lists those that are")
		}
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return problem.New("overloaded", "", "the answer took too long").WithHint("repeat the request; repeating a statement is harmless")
	}
	return a.internal(err, req)
}

// bodyProblem is what an error of reading a request's body stands for, or nil.
func bodyProblem(err error) *problem.Problem {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return problem.New("too_large", "", "the body has more than %d bytes", tooLarge.Limit)
	case errors.Is(err, errBody) && errors.Is(err, os.ErrDeadlineExceeded):
		return problem.New("malformed_request", "", "the body did not arrive in time")
	case errors.Is(err, errBody):
		return problem.New("malformed_request", "", "the body ended early")
	}
	return nil
}

// errBody is wrapped by errors of reading a request's body.
var errBody = errors.New("request body")

func notFound() *problem.Problem {
	return problem.New("not_found", "", "there is nothing under this address").
		WithHint("/openapi.yaml lists the addresses that there are")
}

// internal logs an error and returns the problem that says only where to look.
func (a *API) internal(err error, req *http.Request) *problem.Problem {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	incident := hex.EncodeToString(id[:])
	a.report(err, req, incident)
	return problem.New("internal", "", "the ledger failed at this request").
		WithHint("repeat it later; tell the operator the incident").With("incident", incident)
}

// report logs an error without anything of the request that could be secret.
func (a *API) report(err error, req *http.Request, incident string) {
	attrs := []any{"error", err.Error(), "method", methodLabel(req.Method), "incident", incident}
	var pe *panicError
	if errors.As(err, &pe) {
		attrs = append(attrs, "stack", string(pe.stack))
	}
	a.Log.Error("request failed", attrs...)
}
