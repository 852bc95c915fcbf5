package witness

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// Endpoint is a cosigner to be asked beyond those of the policy, such as an
// index-verifying one.
type Endpoint struct {
	Name string // for messages and metrics
	VKey checkpoint.VKey
	URL  string // submission prefix
}

// CollectorConfig is what a Collector needs. Durations of zero mean the default.
type CollectorConfig struct {
	Log    checkpoint.VKey    // the log's own key; its name is the origin
	Policy *checkpoint.Policy // whose quorum must be reached; witnesses without a URL are not asked
	Extra  []Endpoint         // asked too, never needed for the quorum

	// Transport carries the requests; nil is one that uses no proxy and keeps
	// connections. Redirects are not followed, whatever the transport.
	Transport http.RoundTripper
	Clock     func() time.Time                     // nil is time.Now
	After     func(time.Duration) <-chan time.Time // nil is time.After; times the grace

	Timeout    time.Duration // of one request, default 5 s
	Grace      time.Duration // for the rest once the quorum is there, default 200 ms; negative is none
	BackoffMin time.Duration // after a first failure, doubled with each further one; default 250 ms
	BackoffMax time.Duration // default 15 s
	MaxSkew    time.Duration // a cosignature's time may differ this much from Clock; default 5 min

	// Ahead, if set, is called when a witness claims to have cosigned a larger size
	// than the log's: a word without proof, for which Ask can look. It must not block.
	Ahead func()

	Metrics *CollectorMetrics // nil counts nothing
	Logger  *slog.Logger      // nil logs nothing
}

// Collector gets checkpoints of one log cosigned. It remembers what each
// witness saw last and which of them to leave alone for a while. It is safe for
// concurrent use.
type Collector struct {
	cfg    CollectorConfig
	client *http.Client
	peers  []*peer
	wg     sync.WaitGroup
}

// peer is a cosigner and what is known about it.
type peer struct {
	name   string
	policy bool // counts for the quorum under this name
	vkey   checkpoint.VKey
	url    string
	turn   chan struct{} // holds one token: one request at a time

	mu      sync.Mutex
	size    uint64 // last size known to be cosigned
	known   bool   // size is not a guess
	fails   int    // in a row
	retryAt time.Time
}

// CosignerError says why one cosigner's cosignature is missing.
type CosignerError struct {
	Name string
	Err  error
}

func (e CosignerError) Error() string { return e.Name + ": " + e.Err.Error() }

// NoQuorumError is returned when too few witnesses cosigned. It wraps
// checkpoint.ErrNoQuorum.
type NoQuorumError struct {
	Got      int             // cosignatures that came
	Failures []CosignerError // those that did not, with the reason
	// RetryAfter is how long nothing would be asked, because all witnesses that
	// failed are being left alone; asking sooner is harmless and useless.
	RetryAfter time.Duration
}

func (e *NoQuorumError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v (%d came", checkpoint.ErrNoQuorum, e.Got)
	for _, f := range e.Failures {
		b.WriteString("; " + f.Error())
	}
	b.WriteByte(')')
	return b.String()
}

func (e *NoQuorumError) Unwrap() error { return checkpoint.ErrNoQuorum }

var (
	errBackoff = errors.New("left alone for a while after failures")
	errLate    = errors.New("too late: the quorum was there without it")
)

// NewCollector checks the configuration. It fails if the quorum could not be
// reached by the witnesses that have a URL.
func NewCollector(cfg CollectorConfig) (*Collector, error) {
	if cfg.Policy == nil || cfg.Log.Type != checkpoint.TypeLog {
		return nil, errors.New("collector needs a policy and the log's key (type 0x01)")
	}
	setDefaults(&cfg)
	c := &Collector{cfg: cfg, client: &http.Client{
		Transport:     cfg.Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	for _, w := range cfg.Policy.Witnesses() {
		if w.URL == "" {
			continue
		}
		if err := c.add(w.Name, true, w.VKey, w.URL); err != nil {
			return nil, err
		}
	}
	for _, e := range cfg.Extra {
		if err := c.add(e.Name, false, e.VKey, e.URL); err != nil {
			return nil, err
		}
	}
	if !c.reachable(func(*peer) bool { return true }) {
		return nil, errors.New("the policy's quorum cannot be reached by its witnesses that have a URL")
	}
	return c, nil
}

func setDefaults(cfg *CollectorConfig) {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&cfg.Timeout, 5*time.Second)
	def(&cfg.Grace, 200*time.Millisecond)
	def(&cfg.BackoffMin, 250*time.Millisecond)
	def(&cfg.BackoffMax, 15*time.Second)
	def(&cfg.MaxSkew, 5*time.Minute)
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.After == nil {
		cfg.After = time.After
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Transport == nil {
		cfg.Transport = &http.Transport{
			MaxIdleConnsPerHost:    2,
			IdleConnTimeout:        2 * time.Minute,
			TLSHandshakeTimeout:    cfg.Timeout,
			MaxResponseHeaderBytes: 16 << 10,
			DisableCompression:     true,
			ForceAttemptHTTP2:      true,
		}
	}
}

func (c *Collector) add(name string, policy bool, k checkpoint.VKey, prefix string) error {
	u, err := url.Parse(prefix)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("witness %s: %q is not an http or https URL without user, query and fragment", name, prefix)
	}
	if k.Type != checkpoint.TypeCosigner {
		return fmt.Errorf("witness %s: key has type %#02x, want 0x04", name, k.Type)
	}
	for _, p := range c.peers {
		if string(p.vkey.Key) == string(k.Key) {
			if policy {
				return fmt.Errorf("witness %s: same key as %s", name, p.name)
			}
			return nil // an extra cosigner that is a witness of the policy as well
		}
	}
	p := &peer{name: name, policy: policy, vkey: k, url: strings.TrimRight(prefix, "/"), turn: make(chan struct{}, 1)}
	p.turn <- struct{}{}
	c.peers = append(c.peers, p)
	return nil
}

// reachable reports whether cosignatures by these peers would be a quorum.
func (c *Collector) reachable(has func(*peer) bool) bool {
	names := map[string]bool{}
	for _, p := range c.peers {
		if p.policy && has(p) {
			names[p.name] = true
		}
	}
	return c.cfg.Policy.Satisfied(func(name string) bool { return names[name] })
}

// answer is what became of asking a peer.
type answer struct {
	p   *peer
	sig checkpoint.NoteSig
	err error
}

// Cosign asks all cosigners at once for cosignatures of the log's checkpoint and
// returns a note with the log's signature and all that came until shortly after
// the quorum, never fewer than the quorum. old is the size to prove consistency
// from where nothing is known of a witness. consistency gives RFC 6962 proofs of
// the log's own tree and is called concurrently.
//
// Without a quorum the error is a *NoQuorumError, or wraps ctx's.
func (c *Collector) Cosign(ctx context.Context, old uint64, note []byte, consistency func(ctx context.Context, old, new uint64) ([]entry.Hash, error)) ([]byte, error) {
	n, err := checkpoint.ParseNote(note)
	if err != nil {
		return nil, err
	}
	cp, err := checkpoint.ParseCheckpoint(n.Text)
	if err != nil {
		return nil, err
	}
	if cp.Origin != c.cfg.Log.Name {
		return nil, fmt.Errorf("checkpoint is of %q, not of %q", cp.Origin, c.cfg.Log.Name)
	}
	if err := c.cfg.Log.VerifyLog(n); err != nil {
		return nil, err
	}
	own := checkpoint.Note{Text: n.Text} // witnesses limit sizes: nothing but the log's signature
	for _, s := range n.Sigs {
		if c.cfg.Log.Made(s) {
			own.Sigs = append(own.Sigs, s)
			break
		}
	}
	job := job{c: c, own: own, cp: cp, old: old, consistency: consistency}
	ready, skipped, wait := c.ready()
	if wait > 0 {
		c.cfg.Metrics.round(false)
		return nil, &NoQuorumError{Failures: skipped, RetryAfter: wait}
	}
	got, failures, err := c.gather(ctx, job, ready)
	failures = append(failures, skipped...)
	ok := c.reachable(func(p *peer) bool { _, ok := got[p]; return ok })
	c.cfg.Metrics.round(ok)
	if !ok {
		no := &NoQuorumError{Got: len(got), Failures: failures}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", err, no)
		}
		return nil, no
	}
	for _, p := range c.peers { // one order, whoever answered first
		if sig, ok := got[p]; ok {
			own.Sigs = append(own.Sigs, sig)
		}
	}
	return own.Marshal(), nil
}

// ready returns whom to ask now. Those that failed lately are skipped as long
// as the others can make the quorum. If they cannot, everybody is asked once the
// first of those that failed is due again; until then wait is positive.
func (c *Collector) ready() (ready []*peer, skipped []CosignerError, wait time.Duration) {
	now := c.cfg.Clock()
	due := map[*peer]bool{}
	retrying := false
	for _, p := range c.peers {
		p.mu.Lock()
		if left := p.retryAt.Sub(now); left > 0 {
			skipped = append(skipped, CosignerError{p.name, errBackoff})
			if wait == 0 || left < wait {
				wait = left
			}
		} else {
			due[p] = true
			ready = append(ready, p)
			retrying = retrying || p.fails > 0
		}
		p.mu.Unlock()
	}
	if c.reachable(func(p *peer) bool { return due[p] }) {
		return ready, skipped, 0
	}
	if retrying {
		return c.peers, nil, 0
	}
	return nil, skipped, wait
}

// gather asks peers until all have answered, or the quorum is there and the
// grace is over, or ctx ends.
func (c *Collector) gather(ctx context.Context, j job, ask []*peer) (map[*peer]checkpoint.NoteSig, []CosignerError, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answer, len(ask)) // room for all: nobody blocks after we have left
	waiting := map[*peer]bool{}
	for _, p := range ask {
		waiting[p] = true
		c.wg.Add(1)
		go func() {
			defer c.wg.Done()
			sig, err := j.ask(ctx, p)
			answers <- answer{p, sig, err}
		}()
	}
	got := map[*peer]checkpoint.NoteSig{}
	var failures []CosignerError
	var grace <-chan time.Time
	for len(waiting) > 0 {
		if grace == nil && c.reachable(func(p *peer) bool { _, ok := got[p]; return ok }) {
			if c.cfg.Grace < 0 {
				return got, append(failures, c.late(waiting)...), nil
			}
			grace = c.cfg.After(c.cfg.Grace)
		}
		select {
		case a := <-answers:
			delete(waiting, a.p)
			if a.err == nil {
				got[a.p] = a.sig
				a.p.succeeded()
				continue
			}
			if ctx.Err() == nil {
				a.p.failed(c, a.err)
				if c.cfg.Ahead != nil && errors.Is(a.err, ErrAhead) {
					c.cfg.Ahead()
				}
			}
			failures = append(failures, CosignerError{a.p.name, a.err})
		case <-grace:
			return got, append(failures, c.late(waiting)...), nil
		case <-ctx.Done():
			for p := range waiting {
				failures = append(failures, CosignerError{p.name, ctx.Err()})
			}
			return got, failures, ctx.Err()
		}
	}
	return got, failures, ctx.Err() // all that were asked may say so before ctx does
}

// late gives up on peers that did not answer within the grace. They are left
// alone for a while like those that failed, so that not every round waits the
// whole grace for them.
func (c *Collector) late(waiting map[*peer]bool) (failures []CosignerError) {
	for p := range waiting {
		p.failed(c, errLate)
		failures = append(failures, CosignerError{p.name, errLate})
	}
	return failures
}

func (p *peer) succeeded() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fails, p.retryAt = 0, time.Time{}
}

func (p *peer) failed(c *Collector, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delay := c.cfg.BackoffMin << min(p.fails, 30)
	var status *statusError
	if errors.As(err, &status) {
		delay = max(delay, status.retryAfter)
	}
	if delay <= 0 || delay > c.cfg.BackoffMax {
		delay = c.cfg.BackoffMax
	}
	p.fails++
	p.retryAt = c.cfg.Clock().Add(delay)
	c.cfg.Metrics.answer(p.name, outcome(err))
	c.cfg.Logger.Warn("witness did not cosign", "witness", p.name, "error", err, "again in", delay)
}

// Close waits for requests that are being cancelled. Calls of Cosign must have
// returned.
func (c *Collector) Close() { c.wg.Wait() }
