package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"fabtrail.dev/fabtrail/internal/problem"
)

// Lines of a batch are handed to the ledger in chunks: all that have arrived
// while the chunk before was being recorded, within these bounds. So a batch
// needs at most two chunks of memory, however long it is.
const (
	chunkLines = 1024
	chunkBytes = 8 << 20
)

// postBatch answers every line with a line, in order, while the body is still
// coming in. A caller that sends a long batch must read while it writes.
func (a *API) postBatch(c *call) error {
	ctx, cancel := context.WithTimeout(c.ctx(), a.times.batch+a.times.handle)
	defer cancel()
	c.SetRequest(c.Request().WithContext(ctx))
	rc := http.NewResponseController(c.Response())
	if err := rc.EnableFullDuplex(); err != nil {
		return err
	}
	// Answering while reading takes from net/http the care for what is left of a
	// body: after an error of reading, the rest would pass for the next request.
	c.Response().Header().Set("Connection", "close")
	f := newFeed()
	body := c.Request().Body
	read := func() {
		until := time.Now().Add(a.times.batch)
		f.fill(newLineReader(body, MaxEnvelope, MaxBatchLines), func() error {
			return rc.SetReadDeadline(earlier(time.Now().Add(a.times.line), until))
		})
	}
	var reader sync.WaitGroup
	reader.Go(read)
	defer func() {
		// Whatever happened, the body must not be read after this handler.
		if !f.close() {
			_ = rc.SetReadDeadline(time.Unix(1, 0))
		}
		reader.Wait()
	}()
	for {
		lines, err := f.take()
		if len(lines) == 0 {
			return a.endBatch(c, rc, err)
		}
		if d := a.limits.reserve(a.limits.stmt, c.who.Party, len(lines)); d > 0 {
			if err := a.Sleep(c.ctx(), d); err != nil {
				return err
			}
		}
		if err := a.answerLines(c, rc, lines); err != nil {
			return err
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// answerLines submits the lines that can be and writes a result for each.
func (a *API) answerLines(c *call, rc *http.ResponseController, lines []line) error {
	var envelopes [][]byte
	for _, l := range lines {
		if l.refused == nil {
			envelopes = append(envelopes, l.body)
		}
	}
	var results []Result
	if len(envelopes) > 0 {
		results = a.submit(c, envelopes, meter{a.limits, c.who.Party, a.Sleep})
	}
	var out []byte
	for _, l := range lines {
		var v any
		if l.refused != nil {
			v = refusedJSON{l.n, l.refused.Status(), l.refused}
		} else {
			v = a.resultLine(c, l.n, results[0])
			results = results[1:]
		}
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		out = append(append(out, b...), '\n')
		if len(out) >= flushBytes {
			if err := a.writeLines(c, rc, out); err != nil {
				return err
			}
			out = out[:0]
		}
	}
	return a.writeLines(c, rc, out)
}

func (a *API) resultLine(c *call, n int, r Result) any {
	if r.Err != nil {
		p := a.problemOf(r.Err, c.Request())
		return refusedJSON{n, p.Status(), p}
	}
	_, v := r.wire(n)
	return v
}

func (a *API) writeLines(c *call, rc *http.ResponseController, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	w := c.Response()
	if err := rc.SetWriteDeadline(time.Now().Add(a.times.write)); err != nil {
		return err
	}
	if !w.Committed {
		w.Header().Set("Content-Type", mediaLines)
		w.WriteHeader(http.StatusOK)
	}
	if _, err := w.Write(b); err != nil {
		return err
	}
	return rc.Flush()
}

// endBatch ends the answer when no more lines come, for the reason err. If the
// body was not read to its end, a last line says from which line on.
func (a *API) endBatch(c *call, rc *http.ResponseController, err error) error {
	var stop *stopped
	switch {
	case errors.Is(err, io.EOF) && c.Response().Committed:
		return nil
	case errors.Is(err, io.EOF):
		return problem.New("malformed_request", "", "the body is empty").WithHint("send one DSSE envelope on each line")
	case !c.Response().Committed || !errors.As(err, &stop):
		return err
	}
	p := bodyProblem(stop.err)
	if errors.Is(stop.err, errTooManyLines) {
		p = tooManyLines()
	}
	if p == nil {
		return err
	}
	b, merr := json.Marshal(refusedJSON{stop.line, p.Status(), p.WithHint("lines from here on were not read: send them again")})
	if merr != nil {
		return merr
	}
	return a.writeLines(c, rc, append(b, '\n'))
}

func tooManyLines() *problem.Problem {
	return problem.New("too_large", "", "a batch has at most %d lines", MaxBatchLines)
}

// stopped says at which line reading stopped, and why.
type stopped struct {
	line int
	err  error
}

func (s *stopped) Error() string { return s.err.Error() }
func (s *stopped) Unwrap() error { return s.err }

// feed passes lines from the goroutine that reads them to the one that submits
// them, and holds the reader back when a chunk is full.
type feed struct {
	mu     sync.Mutex
	change sync.Cond
	lines  []line
	bytes  int
	end    error // why no more lines come
	closed bool
}

func newFeed() *feed {
	f := &feed{}
	f.change.L = &f.mu
	return f
}

// fill reads lines until there are no more or nobody wants them. before is called
// before each line is waited for.
func (f *feed) fill(r *lineReader, before func() error) {
	for f.arm(before) {
		l, err := r.next()
		if err != nil && !errors.Is(err, io.EOF) {
			err = &stopped{l.n, err}
		}
		if !f.put(l, err) {
			return
		}
	}
}

// arm calls before unless nothing more is wanted. It holds the lock meanwhile, so
// that a deadline which before sets never replaces the one that follows close.
func (f *feed) arm(before func() error) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	if err := before(); err != nil {
		f.end = err
		f.change.Broadcast()
		return false
	}
	return true
}

// put adds a line, or the end; it reports whether more is wanted.
func (f *feed) put(l line, end error) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.change.Broadcast()
	if end != nil {
		f.end = end
		return false
	}
	f.lines = append(f.lines, l)
	f.bytes += len(l.body)
	for !f.closed && (len(f.lines) >= chunkLines || f.bytes >= chunkBytes) {
		f.change.Broadcast()
		f.change.Wait()
	}
	return !f.closed
}

// take waits for lines and returns all there are; none when no more come, with
// the reason.
func (f *feed) take() ([]line, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.lines) == 0 && f.end == nil {
		f.change.Wait()
	}
	lines := f.lines
	f.lines, f.bytes = nil, 0
	f.change.Broadcast()
	if len(lines) == 0 {
		return nil, f.end
	}
	return lines, nil
}

// close tells the reader that nothing more is wanted; it reports whether the
// reader had come to its end.
func (f *feed) close() (ended bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.change.Broadcast()
	return f.end != nil
}
