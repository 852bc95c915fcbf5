package node

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// How long a line of the log that repeats itself stays unsaid: twice as long each time.
const (
	calmFirst = 5 * time.Second
	calmLast  = 10 * time.Minute
)

// calm is a log that says what has changed at once, and what goes on at growing
// intervals, with the number of times that it was left out. Witnesses that are down are
// asked twice a second.
type calm struct {
	slog.Handler
	*repeats
}

func newCalm(log *slog.Logger, clock func() time.Time) *calm {
	return &calm{log.Handler(), &repeats{clock: clock, by: map[string]*repeat{}}}
}

// Handle implements slog.Handler. Two records are the same when they have the same
// message and attributes, but for how long it takes until something is tried again.
func (c *calm) Handle(ctx context.Context, r slog.Record) error {
	key := r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != "again in" {
			key += "|" + a.String()
		}
		return true
	})
	return c.say(ctx, key, r)
}

// WithAttrs implements slog.Handler.
func (c *calm) WithAttrs(as []slog.Attr) slog.Handler {
	return &calm{c.Handler.WithAttrs(as), c.repeats}
}

// WithGroup implements slog.Handler.
func (c *calm) WithGroup(name string) slog.Handler {
	return &calm{c.Handler.WithGroup(name), c.repeats}
}

// logf logs one line of a kind; lines of one kind are the same.
func (c *calm) logf(format string, a ...any) { c.linef(slog.LevelInfo, format, a...) }

// warnf is logf for what somebody has to look at if it lasts.
func (c *calm) warnf(format string, a ...any) { c.linef(slog.LevelWarn, format, a...) }

func (c *calm) linef(level slog.Level, format string, a ...any) {
	_ = c.say(context.Background(), format, slog.NewRecord(c.clock(), level, fmt.Sprintf(format, a...), 0))
}

func (c *calm) say(ctx context.Context, key string, r slog.Record) error {
	show, missed := c.due(key)
	if !show {
		return nil
	}
	if missed > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("left out", missed))
	}
	return c.Handler.Handle(ctx, r)
}

// maxRepeats bounds the kinds of lines that are remembered.
const maxRepeats = 1024

// repeats remembers when lines were last said.
type repeats struct {
	clock func() time.Time
	mu    sync.Mutex
	by    map[string]*repeat
}

type repeat struct {
	said   time.Time
	pause  time.Duration
	missed int
}

// due reports whether to say a line now, and how often it was left out since it was said.
func (r *repeats) due(key string) (show bool, missed int) {
	now := r.clock()
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.by[key]
	if p == nil || now.Sub(p.said) > 2*calmLast {
		if len(r.by) >= maxRepeats {
			clear(r.by)
		}
		r.by[key] = &repeat{said: now, pause: calmFirst}
		return true, 0
	}
	if now.Sub(p.said) < p.pause {
		p.missed++
		return false, 0
	}
	missed = p.missed
	*p = repeat{said: now, pause: min(2*p.pause, calmLast)}
	return true, missed
}

// forget makes every line new.
func (r *repeats) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.by)
}

// trying says of something that is tried again and again when it fails, calmly, and when
// it is done again.
type trying struct {
	log       *calm
	bad, good string
	failing   bool
}

// outcome takes what became of one attempt.
func (t *trying) outcome(err error) {
	switch {
	case err != nil:
		slog.New(t.log).Warn(t.bad, "error", err)
	case t.failing:
		t.log.forget()
		slog.New(t.log).Info(t.good)
	}
	t.failing = err != nil
}

// cosigner says when cosignatures come again after they did not.
type cosigner struct {
	ledger.Cosigner
	log *calm

	mu      sync.Mutex
	failing bool
}

// Cosign implements ledger.Cosigner.
func (c *cosigner) Cosign(ctx context.Context, old uint64, note []byte, consistency func(context.Context, uint64, uint64) ([]entry.Hash, error)) ([]byte, error) {
	cosigned, err := c.Cosigner.Cosign(ctx, old, note, consistency)
	c.mu.Lock()
	again := c.failing && err == nil
	c.failing = err != nil
	c.mu.Unlock()
	if again {
		c.log.forget()
		c.log.logf("the quorum of witnesses cosigns again")
	}
	return cosigned, err
}
