package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// TestCalm: what goes on is said at growing intervals, what changes at once.
func TestCalm(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	var out bytes.Buffer
	c := newCalm(slog.New(slog.NewTextHandler(&out, nil)), func() time.Time { return now })
	log := slog.New(c)
	lines := func() int { n := strings.Count(out.String(), "\n"); return n }
	delay := 250 * time.Millisecond
	for i := range 7200 { // an hour of half seconds
		c.logf("size %d is not cosigned: %v", i, errors.New("nobody"))
		log.Warn("witness did not cosign", "witness", "w1", "error", "refused", "again in", delay)
		delay++ // is not a change
		now = now.Add(500 * time.Millisecond)
	}
	// Said at 0, 5, 15, 35, 75, 155, 315 and 635 seconds, then every ten minutes.
	if got, want := lines(), 2*12; got != want {
		t.Fatalf("%d lines in an hour, want %d:\n%s", got, want, out.String())
	}
	if !strings.Contains(out.String(), `"left out"=9`) {
		t.Errorf("no line says how many were left out:\n%s", out.String())
	}
	before := lines()
	log.Warn("witness did not cosign", "witness", "w1", "error", "409", "again in", delay)
	log.Warn("witness did not cosign", "witness", "w2", "error", "refused", "again in", delay)
	if got := lines() - before; got != 2 {
		t.Errorf("two changes, %d lines", got)
	}
	before = lines()
	now = now.Add(2*calmLast + time.Second)
	c.logf("size %d is not cosigned: %v", 1, errors.New("nobody"))
	if last := out.String(); lines()-before != 1 || strings.Contains(last[strings.LastIndex(strings.TrimSpace(last), "\n"):], "left out") {
		t.Error("after a long silence a line is not new")
	}
	for i := range 2 * maxRepeats {
		log.Warn("x", "n", i)
	}
	if len(c.by) > maxRepeats {
		t.Errorf("%d lines are remembered", len(c.by))
	}
	out.Reset()
	log.With("a", 1).WithGroup("g").Info("y", "b", 2)
	log.With("a", 1).WithGroup("g").Info("y", "b", 2)
	if got := out.String(); lines() != 1 || !strings.Contains(got, "a=1 g.b=2") {
		t.Errorf("%q", got)
	}
}

// sometimes is a cosigner that answers as it is told.
type sometimes []error

func (s *sometimes) Cosign(context.Context, uint64, []byte, func(context.Context, uint64, uint64) ([]entry.Hash, error)) ([]byte, error) {
	err := (*s)[0]
	*s = (*s)[1:]
	return nil, err
}

// TestCosignerSaysWhenItIsOver: and then the next trouble is news again.
func TestCosignerSaysWhenItIsOver(t *testing.T) {
	var out bytes.Buffer
	quiet := newCalm(slog.New(slog.NewTextHandler(&out, nil)), func() time.Time { return time.Unix(1_800_000_000, 0) })
	down := errors.New("no quorum")
	c := &cosigner{Cosigner: &sometimes{nil, down, down, nil, nil, down, nil}, log: quiet}
	for range 7 {
		if _, err := c.Cosign(context.Background(), 0, nil, nil); err != nil {
			quiet.logf("not cosigned: %v", err)
		}
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		_, msg, _ := strings.Cut(strings.TrimSpace(line), "msg=")
		got = append(got, msg)
	}
	bad, good := `"not cosigned: no quorum"`, `"the quorum of witnesses cosigns again"`
	if want := []string{bad, good, bad, good}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

// TestTrying: trouble that goes on is said calmly, and its end once.
func TestTrying(t *testing.T) {
	var out bytes.Buffer
	quiet := newCalm(slog.New(slog.NewTextHandler(&out, nil)), func() time.Time { return time.Unix(1_800_000_000, 0) })
	say := trying{log: quiet, bad: "it fails", good: "it works again"}
	down, other := errors.New("down"), errors.New("other")
	for _, err := range []error{nil, down, down, down, other, nil, nil, down, nil} {
		say.outcome(err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		_, line, _ = strings.Cut(strings.TrimSpace(line), "level=")
		got = append(got, line)
	}
	want := []string{`WARN msg="it fails" error=down`, `WARN msg="it fails" error=other`, `INFO msg="it works again"`,
		`WARN msg="it fails" error=down`, `INFO msg="it works again"`}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	out.Reset()
	quiet.warnf("the cluster: %v", down)
	quiet.logf("a line: %v", down)
	if !strings.Contains(out.String(), `level=WARN msg="the cluster: down"`) || !strings.Contains(out.String(), `level=INFO msg="a line: down"`) {
		t.Error(out.String())
	}
}
