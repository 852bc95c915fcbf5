package api

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"fabtrail.dev/fabtrail/internal/problem"
)

// line is one line of a batch: its bytes, or why it is refused unread.
type line struct {
	n       int // 1 for the first
	body    []byte
	refused *problem.Problem
}

// lineReader splits a body into lines (NDJSON). Memory is bounded by the longest
// line that is allowed; a longer one is skipped and refused, and the next is read
// as if nothing had been.
type lineReader struct {
	r        *bufio.Reader
	maxLine  int
	maxLines int
	n        int
}

var errTooManyLines = errors.New("too many lines")

func newLineReader(r io.Reader, maxLine, maxLines int) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, 64<<10), maxLine: maxLine, maxLines: maxLines}
}

// next returns the next line without its line end. The last line may lack one.
// It returns io.EOF at the end, errTooManyLines where a line too many begins, and
// an error that wraps errBody when the body breaks off: what came of the line
// that was being read is dropped.
func (l *lineReader) next() (line, error) {
	if _, err := l.r.Peek(1); err != nil {
		return line{n: l.n + 1}, bodyError(err)
	}
	if l.n == l.maxLines {
		return line{n: l.n + 1}, errTooManyLines
	}
	l.n++
	out := line{n: l.n}
	for {
		part, err := l.r.ReadSlice('\n')
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
			return line{n: l.n}, bodyError(err)
		}
		part = bytes.TrimSuffix(part, []byte("\n"))
		switch {
		case out.refused != nil:
		case len(out.body)+len(part) > l.maxLine:
			out.body = nil
			out.refused = problem.New("too_large", "", "the line has more than %d bytes", l.maxLine)
		default:
			out.body = append(out.body, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if out.refused == nil && len(bytes.TrimSpace(out.body)) == 0 {
			out.refused = problem.New("malformed_json", "", "the line is empty").WithHint("one DSSE envelope on each line")
		}
		return out, nil
	}
}

func bodyError(err error) error {
	if errors.Is(err, io.EOF) {
		return err
	}
	return fmt.Errorf("%w: %w", errBody, err)
}
