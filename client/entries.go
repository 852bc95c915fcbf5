package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/go-json-experiment/json"

	"fabtrail.dev/fabtrail/internal/problem"
)

// entriesPage is how many entries one request asks for.
const entriesPage = 4096

// Entries reads entries [from, to) in order and hands each to fn, which may end
// it by an error. It needs a token of scope audit where cargo is restricted.
// signed asks for entries up to the last signed checkpoint, which may not be
// published yet. A broken stream is taken up where it broke. What is read is
// not checked here.
func (r *Remote) Entries(ctx context.Context, from, to uint64, signed bool, fn func(EntryLine) error) error {
	next, tries := from, 0
	for next < to {
		before := next
		err := r.entriesPage(ctx, &next, min(to, next+entriesPage), signed, fn)
		var stop *stopError
		switch {
		case errors.As(err, &stop):
			return stop.err
		case err == nil && next > before:
			tries = 0
			continue
		case err == nil:
			err = fmt.Errorf("the server has no entry %d, though its checkpoint covers %d", next, to)
		}
		if next > before {
			tries = 0
		}
		tries++
		if final(err) || tries >= r.opt.Attempts {
			return err
		}
		if werr := r.opt.Sleep(ctx, backoff(tries, 0)); werr != nil {
			return errors.Join(err, werr)
		}
	}
	return nil
}

// stopError marks an error that repeating the request cannot mend.
type stopError struct{ err error }

func (e *stopError) Error() string { return e.err.Error() }

// final reports whether err is an answer that will stay the same.
func final(err error) bool {
	var s *StatusError
	if errors.As(err, &s) {
		switch s.Status {
		case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return false
		}
		return true
	}
	p := problem.As(err)
	return p != nil && p.Status() != http.StatusTooManyRequests && p.Status() != http.StatusServiceUnavailable
}

func (r *Remote) entriesPage(ctx context.Context, next *uint64, to uint64, signed bool, fn func(EntryLine) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.opt.Timeout)
	defer cancel()
	q := request{method: "GET", path: fmt.Sprintf("/v1/entries?from=%d&limit=%d", *next, to-*next)}
	if signed {
		q.path += "&signed=true"
	}
	resp, err := r.send(ctx, q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
		if err != nil {
			return err
		}
		return statusError(q, resp, body)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	for lines.Scan() {
		if *next >= to {
			return &stopError{fmt.Errorf("the server sent more entries than were asked for, at %d", *next)}
		}
		var line EntryLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			// The last line of a broken stream is cut short: ask again for it.
			return fmt.Errorf("entry %d: %w", *next, err)
		}
		if line.Index != *next {
			return &stopError{fmt.Errorf("the server sent entry %d where %d belongs", line.Index, *next)}
		}
		if err := fn(line); err != nil {
			return &stopError{err}
		}
		*next++
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("entries from %d: %w", *next, err)
	}
	return nil
}
