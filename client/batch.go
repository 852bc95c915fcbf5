package client

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// postBatch posts the envelopes listed in todo as NDJSON and returns the answers
// in their order. When the stream breaks it returns those that came, and the
// error.
func (r *Remote) postBatch(ctx context.Context, dsses [][]byte, todo []int) ([]Appended, error) {
	var body bytes.Buffer
	for _, i := range todo {
		line := jsontext.Value(bytes.Clone(dsses[i]))
		if err := line.Compact(); err != nil { // a line break inside would end the line
			return nil, &stopError{fmt.Errorf("envelope %d: %w", i, err)}
		}
		body.Write(line)
		body.WriteByte('\n')
	}
	q := request{method: "POST", path: "/v1/statements/batch", mediaType: "application/x-ndjson", body: body.Bytes()}
	resp, err := r.send(ctx, q)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b, err := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
		if err != nil {
			return nil, err
		}
		return nil, statusError(q, resp, b)
	}
	var out []Appended
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 0, 64<<10), maxResult)
	for lines.Scan() {
		var a Appended
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			return out, fmt.Errorf("line %d of the batch's answer: %w", len(out)+1, err)
		}
		if a.Line != len(out)+1 || len(out) == len(todo) {
			return out, fmt.Errorf("line %d of the batch's answer says it is line %d", len(out)+1, a.Line)
		}
		out = append(out, a)
	}
	if err := lines.Err(); err != nil {
		return out, err
	}
	if len(out) < len(todo) {
		return out, fmt.Errorf("the batch's answer ends after line %d of %d", len(out), len(todo))
	}
	return out, nil
}
