package api

import "context"

// Meter charges a caller for what its statements cost beyond being one each. A number
// of n counts as that many statements of the caller's rate.
type Meter interface {
	// Take is called before the work. A single statement over the rate is refused with
	// the error; in a batch Take waits instead, and fails only when ctx ends.
	Take(ctx context.Context, n int) error
	// Owe is called when the work was done already: later requests wait for it.
	Owe(n int)
}

// meter is the Meter of one request.
type meter struct {
	limits *limiter
	party  string
	sleep  Sleep // nil: refuse instead
}

// Take implements Meter.
func (m meter) Take(ctx context.Context, n int) error {
	if m.sleep == nil {
		return m.limits.takeN(m.limits.stmt, m.party, n)
	}
	if d := m.limits.reserve(m.limits.stmt, m.party, n); d > 0 {
		return m.sleep(ctx, d)
	}
	return nil
}

// Owe implements Meter.
func (m meter) Owe(n int) { m.limits.reserve(m.limits.stmt, m.party, n) }

// Free is a Meter that charges nothing: for what the ledger posts itself.
type Free struct{}

// Take implements Meter.
func (Free) Take(context.Context, int) error { return nil }

// Owe implements Meter.
func (Free) Owe(int) {}
