package api

import (
	_ "embed"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// openAPI describes this interface (OpenAPI 3.1).
//
//go:embed openapi.yaml
var openAPI []byte

// OpenAPI returns the description of the interface that /openapi.yaml serves.
func OpenAPI() []byte { return openAPI }

const (
	mediaText    = "text/plain; charset=utf-8"
	mediaOctet   = "application/octet-stream"
	mediaYAML    = "application/yaml"
	cacheNo      = "no-cache"
	cacheShort   = "public, max-age=300"
	cacheForever = "public, max-age=31536000, immutable"
)

// TrustFiles are the files of the public trust folder, with their media types.
var TrustFiles = map[string]string{
	"log.vkey":     mediaText,
	"policy.txt":   mediaText,
	"charter.json": mediaJSON,
	"index.txt":    mediaText,
}

// getCheckpoint serves the latest published note, as C2SP tlog-tiles has it.
func (a *API) getCheckpoint(c *call) error {
	note, err := a.Tiles.Checkpoint(c.ctx())
	if err != nil {
		return err
	}
	c.Response().Header().Set("Cache-Control", cacheNo)
	return c.Blob(http.StatusOK, mediaText, note)
}

// getTile serves a tile or an entry bundle. Only the one path that names a tile
// reaches the log; every other answer is the same 404.
func (a *API) getTile(c *call) error {
	u := c.Request().URL
	p, err := entry.ParseTilePath(u.EscapedPath())
	if err != nil || u.RawPath != "" {
		return notFound()
	}
	var b []byte
	if p.Entries {
		b, err = a.Tiles.Bundle(c.ctx(), p.Index, p.Width)
	} else {
		b, err = a.Tiles.Tile(c.ctx(), int(p.Level), p.Index, p.Width)
	}
	if known := problem.As(err); known != nil && known.Type == "not_found" {
		return notFound()
	}
	if err != nil {
		return err
	}
	c.Response().Header().Set("Cache-Control", cacheForever)
	return c.Blob(http.StatusOK, mediaOctet, b)
}

func (a *API) getTrust(c *call) error {
	name := c.Param("name")
	media, ok := TrustFiles[name]
	if !ok {
		return notFound()
	}
	b, err := a.Trust.TrustFile(c.ctx(), name)
	if err != nil {
		return err
	}
	c.Response().Header().Set("Cache-Control", cacheNo)
	return c.Blob(http.StatusOK, media, b)
}

// getHealth says that the process answers; getReady, whether it can do its work.
func (a *API) getHealth(c *call) error {
	return c.json(http.StatusOK, struct {
		Status string `json:"status"`
	}{"ok"})
}

func (a *API) getReady(c *call) error {
	reasons := a.Health.Ready(c.ctx())
	if len(reasons) > 0 {
		return problem.New("not_ready", "", "the ledger takes no statements at present").
			WithHint("reasons says why; reading may still work").With("reasons", reasons)
	}
	return c.json(http.StatusOK, struct {
		Ready bool `json:"ready"`
	}{true})
}

func (a *API) getMetrics(c *call) error {
	h := promhttp.HandlerFor(a.Registry, promhttp.HandlerOpts{DisableCompression: true})
	h.ServeHTTP(c.Response(), c.Request())
	return nil
}

func (a *API) getOpenAPI(c *call) error {
	c.Response().Header().Set("Cache-Control", cacheShort)
	return c.Blob(http.StatusOK, mediaYAML, openAPI)
}
