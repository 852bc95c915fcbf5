package api

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
)

// Config is what an API needs. All services and the registry must be set.
type Config struct {
	Tokens     Tokens
	Submitter  Submitter
	Statements Statements
	Manifests  Manifests
	Entries    Entries
	Proofs     Proofs
	Tiles      Tiles
	Units      Units
	Parties    Parties
	Findings   Findings
	Trust      Trust
	Health     Health

	// Certificates lets verified client certificates stand for parties; nil: they
	// do not.
	Certificates Certificates

	// Registry is served at /metrics; the API registers its own metrics with it.
	Registry *prometheus.Registry
	// Limits bounds what callers may use; a zero field has its value of
	// DefaultLimits.
	Limits Limits
	// Log receives what went wrong inside; nil: slog.Default(). It never sees a
	// token, a body or a query.
	Log *slog.Logger
	// ClientAddress finds the caller's address; nil: that of the connection.
	// Headers such as X-Forwarded-For are trusted only if this does so.
	ClientAddress echo.IPExtractor
	// Clock and Sleep serve the rate limits; nil: real ones.
	Clock func() time.Time
	Sleep Sleep
}

func (c *Config) check() error {
	for _, s := range []any{c.Tokens, c.Submitter, c.Statements, c.Manifests, c.Entries, c.Proofs, c.Tiles, c.Units, c.Parties, c.Findings, c.Trust, c.Health} {
		if s == nil {
			return errors.New("api: a service is missing from the configuration")
		}
	}
	if c.Registry == nil {
		return errors.New("api: the metrics registry is missing from the configuration")
	}
	return nil
}

// API answers Fabtrail's HTTP requests. It is an http.Handler; NewServer puts it
// behind a server with the time-outs it relies on.
type API struct {
	Config
	echo    *echo.Echo
	limits  *limiter
	metrics *metrics
	times   timeouts
}

// New returns an API over the services of c.
func New(c Config) (*API, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Sleep == nil {
		c.Sleep = sleep
	}
	if c.ClientAddress == nil {
		c.ClientAddress = echo.ExtractIPDirect()
	}
	m, err := newMetrics(c.Registry)
	if err != nil {
		return nil, err
	}
	a := &API{Config: c, limits: newLimiter(c.Limits.withDefaults(), c.Clock), metrics: m, times: defaultTimeouts}
	a.echo = a.newEcho()
	return a, nil
}

// ServeHTTP answers one request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.echo.ServeHTTP(w, r) }

// newEcho registers every route of the table, GET routes for HEAD also.
func (a *API) newEcho() *echo.Echo {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.IPExtractor = a.ClientAddress
	e.HTTPErrorHandler = a.fail
	e.Use(a.guard)
	for _, r := range routes {
		h := a.serve(r)
		e.Add(r.method, r.path, h)
		if r.method == http.MethodGet {
			e.Add(http.MethodHead, r.path, h)
		}
		if r.cors {
			e.Add(http.MethodOptions, r.path, preflight)
		}
	}
	return e
}
