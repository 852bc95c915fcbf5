package witness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// maxAnswer bounds what is read of a witness's answer, in bytes.
const maxAnswer = 64 << 10

// job is one checkpoint on its way round the cosigners.
type job struct {
	c           *Collector
	own         checkpoint.Note // with the log's signature alone
	cp          checkpoint.Checkpoint
	old         uint64
	consistency func(ctx context.Context, old, new uint64) ([]entry.Hash, error)
}

// statusError is an answer other than 200 that does not lead on.
type statusError struct {
	status     int
	text       string
	retryAfter time.Duration
}

func (e *statusError) Error() string {
	return fmt.Sprintf("answered %d: %q", e.status, e.text)
}

// Errors of a cosigner's answer, for metrics and alarms.
var (
	// ErrAhead: the witness says that it cosigned a larger size than the log's.
	// Unsigned, so it only alarms; Collector.Ask gets the signed checkpoint.
	ErrAhead = errors.New("witness claims to have cosigned a larger size")
	// ErrConflictAgain: the witness answered 409 to the size that it gave.
	ErrConflictAgain = errors.New("witness contradicts the size that it gave")
	// ErrBadAnswer: the answer is not what the protocol says.
	ErrBadAnswer = errors.New("bad answer")
	// ErrSkew: the cosignature's time is too far from ours.
	ErrSkew = errors.New("time of the cosignature is off")
	// ErrRedirect: the witness redirects; it is not followed.
	ErrRedirect = errors.New("witness redirects")
)

func outcome(err error) string {
	var status *statusError
	switch {
	case errors.As(err, &status):
		return "status-" + strconv.Itoa(status.status)
	case errors.Is(err, errLate):
		return "late"
	case errors.Is(err, ErrAhead):
		return "ahead"
	case errors.Is(err, ErrConflictAgain):
		return "conflict"
	case errors.Is(err, ErrSkew):
		return "skew"
	case errors.Is(err, ErrRedirect):
		return "redirect"
	case errors.Is(err, ErrBadAnswer), errors.Is(err, checkpoint.ErrMalformed):
		return "bad-answer"
	case errors.Is(err, checkpoint.ErrBadSignature), errors.Is(err, checkpoint.ErrNoSignature):
		return "bad-signature"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return "error"
}

// ask gets one cosignature, verified. A 409 is followed once.
func (j job) ask(ctx context.Context, p *peer) (checkpoint.NoteSig, error) {
	select {
	case <-p.turn: // the request before this one may still be on its way out
		defer func() { p.turn <- struct{}{} }()
	case <-ctx.Done():
		return checkpoint.NoteSig{}, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, j.c.cfg.Timeout)
	defer cancel()
	began := j.c.cfg.Clock()
	from := p.from(j.old, j.cp.Size)
	if from > j.cp.Size {
		return checkpoint.NoteSig{}, fmt.Errorf("%w: %d, ours is %d", ErrAhead, from, j.cp.Size)
	}
	sig, size, err := j.post(ctx, p, from)
	if errors.Is(err, ErrConflict) {
		if size > j.cp.Size {
			return checkpoint.NoteSig{}, fmt.Errorf("%w: %d, ours is %d", ErrAhead, size, j.cp.Size)
		}
		if size == from {
			return checkpoint.NoteSig{}, fmt.Errorf("%w: %d", ErrConflictAgain, size)
		}
		p.saw(size)
		sig, size, err = j.post(ctx, p, size)
		if errors.Is(err, ErrConflict) {
			if size <= j.cp.Size {
				p.saw(size) // somebody else may be sending checkpoints too: next time
			}
			err = fmt.Errorf("%w: now %d", ErrConflictAgain, size)
		}
	}
	if err != nil {
		return checkpoint.NoteSig{}, err
	}
	p.saw(j.cp.Size)
	j.c.cfg.Metrics.success(p.name, j.cp.Size, j.c.cfg.Clock().Sub(began).Seconds())
	return sig, nil
}

// from is the size to prove from: what the peer last saw, else the guess.
func (p *peer) from(guess, size uint64) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known {
		return p.size
	}
	if guess > size {
		return 0
	}
	return guess
}

func (p *peer) saw(size uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.size, p.known = size, true
}

// post sends one add-checkpoint request. On a 409 it returns the size given and
// ErrConflict.
func (j job) post(ctx context.Context, p *peer, from uint64) (checkpoint.NoteSig, uint64, error) {
	none := checkpoint.NoteSig{}
	req := Request{Old: from, Note: j.own}
	if from != 0 && from != j.cp.Size {
		var err error
		if req.Proof, err = j.consistency(ctx, from, j.cp.Size); err != nil {
			return none, 0, fmt.Errorf("consistency proof from %d to %d: %w", from, j.cp.Size, err)
		}
	}
	body := string(req.Marshal())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/add-checkpoint", strings.NewReader(body))
	if err != nil {
		return none, 0, err
	}
	r.Header.Set("Content-Type", "text/plain; charset=utf-8")
	resp, text, err := j.c.do(r) //nolint:bodyclose // do has read and closed it
	if err != nil {
		return none, 0, err
	}
	switch {
	case resp.StatusCode == http.StatusOK:
		sig, err := j.accept(p, text)
		return sig, 0, err
	case resp.StatusCode == http.StatusConflict && resp.Header.Get("Content-Type") == sizeType:
		line, ok := strings.CutSuffix(text, "\n")
		size, err := parseSize(line)
		if !ok || err != nil {
			return none, 0, fmt.Errorf("%w: 409 with %.40q for a size", ErrBadAnswer, text)
		}
		return none, size, ErrConflict
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return none, 0, fmt.Errorf("%w: %d", ErrRedirect, resp.StatusCode)
	}
	return none, 0, refusalOf(resp, text)
}

func refusalOf(resp *http.Response, text string) error {
	e := &statusError{status: resp.StatusCode, text: strings.TrimSpace(text[:min(len(text), 500)])}
	if s, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16); err == nil {
		e.retryAfter = time.Duration(s) * time.Second
	}
	return e
}

// do sends a request and reads the whole answer, within maxAnswer.
func (c *Collector) do(r *http.Request) (*http.Response, string, error) {
	resp, err := c.client.Do(r)
	if err != nil {
		return nil, "", err
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if cerr := resp.Body.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, "", err
	}
	if len(b) > maxAnswer {
		return nil, "", fmt.Errorf("%w: more than %d bytes", ErrBadAnswer, maxAnswer)
	}
	return resp, string(b), nil
}

// accept takes from an answer the cosignature of this very peer, verified on
// this very checkpoint; lines by other keys are dropped.
func (j job) accept(p *peer, text string) (checkpoint.NoteSig, error) {
	none := checkpoint.NoteSig{}
	sigs, err := checkpoint.ParseSigLines(text)
	if err != nil {
		return none, err
	}
	t, err := p.vkey.VerifyCosignature(checkpoint.Note{Text: j.own.Text, Sigs: sigs})
	if err != nil {
		return none, err
	}
	for _, s := range sigs {
		one := checkpoint.Note{Text: j.own.Text, Sigs: []checkpoint.NoteSig{s}}
		if at, err := p.vkey.VerifyCosignature(one); err != nil || at != t {
			continue // by another key, or an older one beside it
		}
		now := j.c.cfg.Clock()
		if off := time.Unix(int64(t), 0).Sub(now); off.Abs() > j.c.cfg.MaxSkew {
			return none, fmt.Errorf("%w by %v", ErrSkew, off.Truncate(time.Second))
		}
		return s, nil
	}
	return none, checkpoint.ErrNoSignature
}

// View is what a witness shows of the log.
type View struct {
	Name       string
	Checkpoint checkpoint.Checkpoint // zero if Note is nil
	// Note is the witness's latest checkpoint: it has a valid signature of our
	// log, and so is binding for us whoever shows it. Nil if the witness never
	// cosigned the log, or on an error.
	Note []byte
	// Cosigned says whether the witness's own cosignature on it verifies, and
	// Time when it was made (Unix seconds).
	Cosigned bool
	Time     uint64
	Err      error
}

// Ask gets every cosigner's latest checkpoint of the log from its monitoring
// interface (which is taken to have the same prefix), in the order of policy and
// extra cosigners. A log that starts must not sign if a View shows a size above
// its own, or another root at a size that it has; one that cannot ask a quorum
// does not know.
func (c *Collector) Ask(ctx context.Context) []View {
	views := make([]View, len(c.peers))
	done := make(chan struct{})
	for i, p := range c.peers {
		c.wg.Add(1)
		go func() {
			defer c.wg.Done()
			views[i] = c.view(ctx, p)
			done <- struct{}{}
		}()
	}
	for range c.peers {
		<-done
	}
	return views
}

func (c *Collector) view(ctx context.Context, p *peer) View {
	v := View{Name: p.name}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/"+OriginHash(c.cfg.Log.Name)+"/checkpoint", nil)
	if err != nil {
		v.Err = err
		return v
	}
	resp, text, err := c.do(r) //nolint:bodyclose // do has read and closed it
	if err != nil {
		v.Err = err
		return v
	}
	if resp.StatusCode == http.StatusNotFound {
		return v
	}
	if resp.StatusCode != http.StatusOK {
		v.Err = refusalOf(resp, text)
		return v
	}
	n, err := checkpoint.ParseNote([]byte(text))
	if err != nil {
		v.Err = err
		return v
	}
	cp, err := checkpoint.ParseCheckpoint(n.Text)
	if err == nil && cp.Origin != c.cfg.Log.Name {
		err = fmt.Errorf("%w: checkpoint of %q", ErrBadAnswer, cp.Origin)
	}
	if err == nil {
		err = c.cfg.Log.VerifyLog(n)
	}
	if err != nil {
		v.Err = err
		return v
	}
	v.Checkpoint, v.Note = cp, []byte(text)
	if t, err := p.vkey.VerifyCosignature(n); err == nil {
		v.Cosigned, v.Time = true, t
		p.saw(cp.Size)
	}
	return v
}
