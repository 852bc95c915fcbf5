package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"

	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

const mediaJSON = "application/json"

// recordedJSON is the answer to a statement that is published; with Line and
// Status, a line of a batch's answer.
type recordedJSON struct {
	Line     int    `json:"line,omitzero"`
	Status   int    `json:"status,omitzero"`
	ID       string `json:"id"`
	Index    uint64 `json:"index"`
	Time     uint64 `json:"time"`
	Effect   string `json:"effect"`
	Envelope []byte `json:"envelope"`
	Receipt  string `json:"receipt"`
	Repeat   bool   `json:"repeat"`
}

// pendingJSON is the answer to a statement that is durable but not published.
type pendingJSON struct {
	Line    int    `json:"line,omitzero"`
	Status  int    `json:"status,omitzero"`
	ID      string `json:"id"`
	Index   uint64 `json:"index"`
	Pending bool   `json:"pending"`
	Poll    string `json:"poll"`
}

// refusedJSON is the line of a statement that was refused.
type refusedJSON struct {
	Line    int              `json:"line"`
	Status  int              `json:"status"`
	Problem *problem.Problem `json:"problem"`
}

func pollPath(id entry.Hash) string { return "/v1/statements/" + id.String() }

// wire returns the HTTP status of a recorded statement and its JSON form, which
// holds line and status when line is not 0.
func (r Recorded) wire(line int) (int, any) {
	status := http.StatusCreated
	switch {
	case r.Pending:
		status = http.StatusAccepted
	case r.Repeat:
		status = http.StatusOK
	}
	shown := status
	if line == 0 {
		shown = 0
	}
	if r.Pending {
		return status, pendingJSON{line, shown, r.ID.String(), r.Index, true, pollPath(r.ID)}
	}
	return status, recordedJSON{line, shown, r.ID.String(), r.Index, r.Time, r.Effect, r.Envelope, string(r.Receipt), r.Repeat}
}

func (c *call) json(status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.Blob(status, mediaJSON, b)
}

// recorded answers a statement that is in the ledger.
func (c *call) recorded(r Recorded) error {
	status, v := r.wire(0)
	switch status {
	case http.StatusCreated:
		c.Response().Header().Set("Location", pollPath(r.ID))
	case http.StatusAccepted:
		c.Response().Header().Set("Location", pollPath(r.ID))
		c.Response().Header().Set("Retry-After", "1")
	}
	return c.json(status, v)
}

func (a *API) postStatement(c *call) error {
	body, err := readBody(c.Request())
	if err != nil {
		return err
	}
	results := a.submit(c, [][]byte{body}, meter{a.limits, c.who.Party, nil})
	if err := results[0].Err; err != nil {
		return err
	}
	return c.recorded(results[0].Recorded)
}

var errResults = errors.New("the submitter returned another number of results than it was given envelopes")

// submit hands envelopes over and counts the outcomes.
func (a *API) submit(c *call, envelopes [][]byte, m Meter) []Result {
	results := a.Submitter.Post(c.ctx(), c.who, envelopes, m)
	if len(results) != len(envelopes) {
		results = make([]Result, len(envelopes))
		for i := range results {
			results[i].Err = errResults
		}
	}
	for _, r := range results {
		outcome := "created"
		switch {
		case r.Err != nil:
			outcome = "internal"
			if p := problem.As(r.Err); p != nil {
				outcome = p.Type
			}
		case r.Pending:
			outcome = "pending"
		case r.Repeat:
			outcome = "repeat"
		}
		a.metrics.statements.WithLabelValues(outcome).Inc()
	}
	return results
}

func (a *API) getStatement(c *call) error {
	id, err := hexHash("id", c.Param("id"))
	if err != nil {
		return err
	}
	r, err := a.Statements.Statement(c.ctx(), c.who, id)
	if err != nil {
		return err
	}
	if r.Pending {
		return c.recorded(r)
	}
	_, v := r.wire(0)
	return c.json(http.StatusOK, v)
}

// putManifest keeps a manifest under its digest, so that a statement may name it.
func (a *API) putManifest(c *call) error {
	want, err := hexHash("sha256", c.Param("sha256"))
	if err != nil {
		return err
	}
	rc := http.NewResponseController(c.Response())
	now := time.Now()
	if err := errors.Join(rc.SetReadDeadline(now.Add(a.times.upload)), rc.SetWriteDeadline(now.Add(a.times.upload+a.times.write))); err != nil {
		return err
	}
	body, err := a.readManifest(c)
	if err != nil {
		return err
	}
	if got := entry.Hash(sha256.Sum256(body)); got != want {
		return problem.New("manifest_mismatch", "sha256", "the body's SHA-256 is not the one in the path").
			WithHint("the body received has the SHA-256 %s", got).With("received", got.String())
	}
	ctx, cancel := context.WithTimeout(c.ctx(), a.times.handle)
	defer cancel()
	created, err := a.Manifests.PutManifest(ctx, c.who, want, body)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	return c.json(status, struct {
		SHA256 string `json:"sha256"`
		Size   int    `json:"size"`
	}{want.String(), len(body)})
}

// ManifestHead is how many bytes of a manifest are looked at before the rest is read.
const ManifestHead = 512

// uploadUnit is the size that counts as one upload of the rate.
const uploadUnit = 256 << 10

// readManifest reads the body of an upload, which costs the caller by its size. It reads
// on only while the body can still be a manifest.
func (a *API) readManifest(c *call) ([]byte, error) {
	req := c.Request()
	size := req.ContentLength
	cost := size
	if size < 0 {
		cost = MaxManifest
	}
	// One unit was taken at the door.
	if err := a.limits.takeN(a.limits.upload, c.caller(), int(max(cost-1, 0)/uploadUnit)); err != nil {
		return nil, err
	}
	head := make([]byte, ManifestHead)
	n, err := io.ReadFull(req.Body, head)
	whole := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && size < 0 || int64(n) == size
	if err != nil && !whole {
		return nil, fmt.Errorf("%w: %w", errBody, err)
	}
	if n == 0 {
		return nil, problem.New("malformed_request", "", "the body is empty")
	}
	if whole {
		size = int64(n)
	}
	if err := a.Manifests.ManifestHead(head[:n], size); err != nil || whole {
		return head[:n], err
	}
	body := bytes.NewBuffer(make([]byte, 0, max(size, 0)+bytes.MinRead))
	body.Write(head)
	if _, err := body.ReadFrom(req.Body); err != nil {
		return nil, fmt.Errorf("%w: %w", errBody, err)
	}
	return body.Bytes(), nil
}
