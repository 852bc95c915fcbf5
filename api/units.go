package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"
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
	// One unit was taken at the door; each counts as when it is asked for alone.
	if err := a.limits.takeN(a.limits.read, c.caller(), len(qs)-1); err != nil {
		return err
	}
	guesses, err := a.chargeGuesses(c, qs)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.ctx(), checkTime)
	defer cancel()
	got, err := a.Units.CheckUnits(ctx, c.who, qs, c.Request().Header.Get(headerHave))
	if err != nil {
		return err
	}
	if err := a.chargeWords(c, got, guesses); err != nil {
		return err
	}
	if err := http.NewResponseController(c.Response()).SetWriteDeadline(time.Now().Add(a.times.write)); err != nil {
		return err
	}
	return c.Blob(http.StatusOK, mediaJSON, got.JSON)
}

// chargeGuesses takes, before any work, the units that can only be guesses: those
// asked for with neither a token nor anything that may be a pedigree key. It returns
// how many they are.
func (a *API) chargeGuesses(c *call, qs []UnitQuery) (int, error) {
	if c.who.Known() {
		return 0, nil
	}
	n := 0
	for _, q := range qs {
		if q.PedigreeKey == "" && !strings.Contains(q.URI, "k=") { // a code holds its key as ?k=
			n++
		}
	}
	return n, a.limits.takeN(a.limits.status, c.caller(), n)
}

// chargeWords takes what an answer shows to whoever only guessed, beyond what
// chargeGuesses has taken: a wrong key or a foreign token is no way around the rate.
// That a serial is unknown counts only for who is unknown too.
func (a *API) chargeWords(c *call, got UnitAnswer, taken int) error {
	n := got.Words
	if !c.who.Known() {
		n += got.Absent
	}
	return a.limits.takeN(a.limits.status, c.caller(), n-taken)
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
