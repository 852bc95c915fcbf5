package api

import (
	"context"
	"net/http"

	"fabtrail.dev/fabtrail/internal/problem"
)

// Party is what the ledger has on record of a party. It is the server's word: a
// verifier reads the party's statements in a unit's answer.
type Party struct {
	URI       string   `json:"uri"`
	LegalName string   `json:"legalName"`
	Roles     []string `json:"roles"`
	Sites     []Site   `json:"sites"`
	Index     uint64   `json:"index"` // entry of the statement in force
}

// Site is a place that a party has declared.
type Site struct {
	ID      string `json:"id"` // GLN Digital Link
	Country string `json:"country"`
	Locode  string `json:"locode,omitempty"`
	Geo     string `json:"geo,omitempty"`
}

// Parties finds enrolled parties. Enrolments are public.
type Parties interface {
	// Party returns a party by its URI, or not_found.
	Party(ctx context.Context, uri string) (Party, error)
}

func (a *API) getParty(c *call) error {
	uri := c.query.Get("uri")
	if uri == "" || len(uri) > maxURI {
		return problem.New("invalid_parameter", "uri", "the party's URI is missing or has more than %d bytes", maxURI).
			WithHint("send it percent-encoded as ?uri=")
	}
	p, err := a.Parties.Party(c.ctx(), uri)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, p)
}
