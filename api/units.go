package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"

	"fabtrail.dev/fabtrail/internal/problem"
)

// unitsQuery is the body of POST /v1/units:check.
type unitsQuery struct {
	Units []struct {
		URI string `json:"uri"`
		Key string `json:"key"`
	} `json:"units"`
}

// checkTime bounds the work on one call of /v1/units:check.
const checkTime = 2 * time.Minute

// checkUnits answers about many units in one call: goods-in.
func (a *API) checkUnits(c *call) error {
	qs, err := c.unitQueries()
	if err != nil {
		return err
	}
	caller, open := c.who.Party, 0
	if !c.who.Known() {
		caller = addressKey(c.RealIP())
		for _, q := range qs {
			if q.PedigreeKey == "" {
				open++
			}
		}
	}
	// One unit was taken at the door; each counts as when it is asked for alone.
	if err := a.limits.takeN(a.limits.read, caller, len(qs)-1); err != nil {
		return err
	}
	if err := a.limits.takeN(a.limits.status, addressKey(c.RealIP()), open); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.ctx(), checkTime)
	defer cancel()
	b, err := a.Units.CheckUnits(ctx, c.who, qs, c.Request().Header.Get(headerHave))
	if err != nil {
		return err
	}
	if err := http.NewResponseController(c.Response()).SetWriteDeadline(time.Now().Add(a.times.write)); err != nil {
		return err
	}
	return c.Blob(http.StatusOK, mediaJSON, b)
}

func (c *call) unitQueries() ([]UnitQuery, error) {
	b, err := readBody(c.Request())
	if err != nil {
		return nil, err
	}
	var in unitsQuery
	if err := json.Unmarshal(b, &in, json.RejectUnknownMembers(true)); err != nil {
		return nil, problem.New("malformed_json", "", "the body is not of the form {\"units\": [{\"uri\", \"key\"}]}")
	}
	if n := len(in.Units); n == 0 || n > MaxUnits {
		return nil, problem.New("invalid_parameter", "/units", "%d units are asked for, want 1 to %d", n, MaxUnits).
			WithHint("ask in several calls")
	}
	qs := make([]UnitQuery, len(in.Units))
	for i, u := range in.Units {
		if u.URI == "" || len(u.URI) > maxURI {
			return nil, problem.New("invalid_parameter", fmt.Sprintf("/units/%d/uri", i), "the unit's URI is missing or has more than %d bytes", maxURI)
		}
		if len(u.Key) > maxPedigree || !isPrintable(u.Key) {
			return nil, problem.New("invalid_parameter", fmt.Sprintf("/units/%d/key", i), "that is not a pedigree key")
		}
		qs[i] = UnitQuery{URI: u.URI, PedigreeKey: u.Key}
	}
	return qs, nil
}
