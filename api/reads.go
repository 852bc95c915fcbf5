package api

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

const (
	headerPedigree = "Fabtrail-Pedigree-Key"
	headerHave     = "Fabtrail-Have"
	maxPedigree    = 128
	maxURI         = 2048

	mediaLines   = "application/x-ndjson"
	entriesLimit = 1000 // entries of one answer unless asked otherwise
	entriesMax   = 10000
	flushBytes   = 256 << 10

	findingsLimit = 1000
	findingsMax   = 10000
)

// entryJSON is a line of GET /v1/entries. Withheld stands in for restricted cargo
// that the caller may not see.
type entryJSON struct {
	Index    uint64 `json:"index"`
	Cargo    []byte `json:"cargo,omitzero"`
	Manifest []byte `json:"manifest,omitzero"`
	Withheld bool   `json:"withheld,omitzero"`
}

// getEntries streams entries in order. If it fails in the middle it cuts the
// connection off, so that a part is not taken for the whole.
func (a *API) getEntries(c *call) error {
	r, err := c.entryRange()
	if err != nil {
		return err
	}
	w := c.Response()
	rc := http.NewResponseController(w)
	start := func() {
		w.Header().Set("Content-Type", mediaLines)
		w.WriteHeader(http.StatusOK)
	}
	if c.Request().Method == http.MethodHead {
		start()
		return nil
	}
	unsent := 0
	err = a.Entries.Entries(c.ctx(), r, func(e LogEntry) error {
		line, err := json.Marshal(show(e, r.Restricted))
		if err != nil {
			return err
		}
		if !w.Committed {
			start()
		}
		if unsent == 0 {
			if err := rc.SetWriteDeadline(time.Now().Add(a.times.write)); err != nil {
				return err
			}
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			return err
		}
		if unsent += len(line); unsent >= flushBytes {
			unsent = 0
			return rc.Flush()
		}
		return nil
	})
	if err == nil && !w.Committed {
		start()
	}
	return err
}

func (c *call) entryRange() (EntryRange, error) {
	from, err := c.number("from", 0)
	if err != nil {
		return EntryRange{}, err
	}
	limit, err := c.number("limit", entriesLimit)
	if err != nil {
		return EntryRange{}, err
	}
	if limit < 1 || limit > entriesMax {
		return EntryRange{}, problem.New("invalid_parameter", "limit", "limit is not 1 to %d", entriesMax)
	}
	r := EntryRange{From: from, Limit: limit, Restricted: c.who.Has(ScopeAudit)}
	switch c.query.Get("signed") {
	case "true":
		r.Signed = true
	case "", "false":
	default:
		return r, problem.New("invalid_parameter", "signed", "signed is not true or false")
	}
	if !r.Signed || r.Restricted {
		return r, nil
	}
	if !c.who.Known() {
		return r, problem.New("token_required", "signed", "entries that are not published yet need a token").WithHint("send a token with the scope %s", ScopeAudit)
	}
	return r, problem.New("scope_missing", "signed", "entries that are not published yet need the scope %s", ScopeAudit).With("scopes", []Scope{ScopeAudit})
}

// show leaves out what only auditors may see: everything that is not known to be
// public.
func show(e LogEntry, restricted bool) entryJSON {
	public := len(e.Cargo) > 0 && (entry.Class(e.Cargo[0]) == entry.Public || entry.Class(e.Cargo[0]) == entry.Index)
	if restricted || public {
		return entryJSON{Index: e.Index, Cargo: e.Cargo, Manifest: e.Manifest}
	}
	return entryJSON{Index: e.Index, Withheld: true}
}

func hashes(path []entry.Hash) []entry.Hash {
	if path == nil {
		return []entry.Hash{} // an empty proof is a list, not null
	}
	return path
}

func (a *API) getInclusion(c *call) error {
	index, err1 := c.needNumber("index")
	size, err2 := c.needNumber("size")
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if index >= size {
		return problem.New("invalid_parameter", "index", "index is not below size")
	}
	leaf, path, err := a.Proofs.Inclusion(c.ctx(), index, size)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, struct {
		Index    uint64       `json:"index"`
		Size     uint64       `json:"size"`
		LeafHash entry.Hash   `json:"leafHash"`
		Hashes   []entry.Hash `json:"hashes"`
	}{index, size, leaf, hashes(path)})
}

func (a *API) getConsistency(c *call) error {
	from, err1 := c.needNumber("from")
	to, err2 := c.needNumber("to")
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if from > to {
		return problem.New("invalid_parameter", "from", "from is above to")
	}
	path, err := a.Proofs.Consistency(c.ctx(), from, to)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, struct {
		From   uint64       `json:"from"`
		To     uint64       `json:"to"`
		Hashes []entry.Hash `json:"hashes"`
	}{from, to, hashes(path)})
}

// getUnit serves /v1/units/{uri}, the URI percent-encoded once, and
// /v1/units?uri=.
func (a *API) getUnit(c *call) error {
	q := UnitQuery{URI: c.query.Get("uri"), Have: c.Request().Header.Get(headerHave)}
	if raw := c.Param("uri"); raw != "" {
		if strings.Contains(raw, "/") {
			return problem.New("invalid_parameter", "uri", "the path holds more than one element after /v1/units").
				WithHint("percent-encode the URI as one path element (/ as %%2F), or send it as ?uri=")
		}
		uri := raw
		if c.Request().URL.RawPath != "" { // else the router has seen the decoded path
			var err error
			if uri, err = url.PathUnescape(raw); err != nil {
				return problem.New("invalid_parameter", "uri", "the path is not percent-encoded")
			}
		}
		q.URI = uri
	}
	if q.URI == "" || len(q.URI) > maxURI {
		return problem.New("invalid_parameter", "uri", "the unit's URI is missing or has more than %d bytes", maxURI).
			WithHint("percent-encode the URI as one path element, or send it as ?uri=")
	}
	key, err := pedigreeKey(c.Request().Header.Values(headerPedigree), c.query.Get("k"))
	if err != nil {
		return err
	}
	q.PedigreeKey = key
	guesses, err := a.chargeGuesses(c, []UnitQuery{q})
	if err != nil {
		return err
	}
	got, err := a.Units.Unit(c.ctx(), c.who, q)
	if err != nil {
		return err
	}
	if err := a.chargeWords(c, got, guesses); err != nil {
		return err
	}
	return c.Blob(http.StatusOK, mediaJSON, got.JSON)
}

// pedigreeKey returns the key of the header or of the parameter, which must not
// differ. What it means is decided behind Units.
func pedigreeKey(header []string, param string) (string, error) {
	key := param
	switch {
	case len(header) > 1, len(header) == 1 && param != "" && header[0] != param:
		return "", problem.New("invalid_parameter", "k", "more than one pedigree key is given")
	case len(header) == 1:
		key = header[0]
	}
	if len(key) > maxPedigree || !isPrintable(key) {
		return "", problem.New("invalid_parameter", "k", "that is not a pedigree key")
	}
	return key, nil
}

func (a *API) getFindings(c *call) error {
	since, err := c.number("since", 0)
	if err != nil {
		return err
	}
	limit, err := c.number("limit", findingsLimit)
	if err != nil {
		return err
	}
	if limit < 1 || limit > findingsMax {
		return problem.New("invalid_parameter", "limit", "limit is not 1 to %d", findingsMax)
	}
	found, next, err := a.Findings.Findings(c.ctx(), c.who, since, int(limit))
	if err != nil {
		return err
	}
	if found == nil {
		found = []Finding{}
	}
	return c.json(http.StatusOK, struct {
		Findings []Finding `json:"findings"`
		Next     uint64    `json:"next"`
	}{found, next})
}
