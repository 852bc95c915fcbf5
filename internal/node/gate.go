package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/witness"
)

// gate stands between the ledger and its witnesses. A machine that was restored as a
// whole from an old copy cannot know that it is old; its witnesses do. What they hold
// is asked before the ledger opens (S3); if too few answered then, nothing that it
// signs leaves this process until a quorum has: without one nothing could be
// published anyway. And when a witness claims later to be ahead, it is asked for the
// proof. A checkpoint with our own signature on what we do not have stops the ledger;
// a claim alone never does.
type gate struct {
	*witness.Collector
	policy *checkpoint.Policy
	log    *slog.Logger
	heard  atomic.Bool   // a quorum has said what it holds
	claims chan struct{} // a witness claims to be ahead
	opened chan struct{} // closed once ledger is set
	ledger *ledger.Ledger
}

// guard makes the gate.
func (n *Node) guard(log checkpoint.VKey, policy *checkpoint.Policy) error {
	metrics := witness.NewCollectorMetrics()
	if err := n.registry.Register(metrics); err != nil {
		return err
	}
	var err error
	n.gate, err = newGate(witness.CollectorConfig{Log: log, Policy: policy, Metrics: metrics, Logger: slog.New(n.quiet)})
	return err
}

func newGate(cfg witness.CollectorConfig) (*gate, error) {
	g := &gate{policy: cfg.Policy, log: cfg.Logger, claims: make(chan struct{}, 1), opened: make(chan struct{})}
	cfg.Ahead = g.claimed
	var err error
	g.Collector, err = witness.NewCollector(cfg)
	return g, err
}

var errUnheard = errors.New("too few witnesses have said since the start what they hold of this log")

// notes is the question at the start.
func (g *gate) notes(ctx context.Context) [][]byte {
	ctx, cancel := context.WithTimeout(ctx, observeLimit)
	defer cancel()
	views := g.Ask(ctx)
	g.hear(views)
	var notes [][]byte
	for _, v := range views {
		if len(v.Note) > 0 {
			notes = append(notes, v.Note)
		}
	}
	return notes
}

// hear opens the gate if the witnesses that answered are a quorum: any other quorum
// has one of them in it, if quorums have to overlap.
func (g *gate) hear(views []witness.View) {
	answered := map[string]bool{}
	for _, v := range views {
		answered[v.Name] = v.Err == nil
	}
	if g.policy.Satisfied(func(name string) bool { return answered[name] }) {
		g.heard.Store(true)
	}
}

// open tells the gate whom to stop.
func (g *gate) open(l *ledger.Ledger) {
	g.ledger = l
	close(g.opened)
}

// Cosign implements ledger.Cosigner.
func (g *gate) Cosign(ctx context.Context, old uint64, note []byte, consistency func(ctx context.Context, old, new uint64) ([]entry.Hash, error)) ([]byte, error) {
	if !g.heard.Load() {
		views := g.Ask(ctx)
		if err := g.compare(ctx, views); err != nil {
			return nil, err
		}
		if g.hear(views); !g.heard.Load() {
			return nil, fmt.Errorf("%w: %w", checkpoint.ErrNoQuorum, errUnheard)
		}
	}
	return g.Collector.Cosign(ctx, old, note, consistency)
}

// claimed notes that a witness said in a word that it cosigned more than we have.
func (g *gate) claimed() {
	select {
	case g.claims <- struct{}{}:
	default: // somebody looks already
	}
}

// watch looks for the proof of such claims.
func (g *gate) watch(ctx context.Context) error {
	for {
		select {
		case <-g.claims:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := g.compare(ctx, g.Ask(ctx)); err != nil && ctx.Err() == nil {
			g.log.Error("a witness holds what this log does not have", "error", err)
		}
	}
}

// compare holds what witnesses show against the ledger, and stops it if it is not
// the log that was signed.
func (g *gate) compare(ctx context.Context, views []witness.View) error {
	select {
	case <-g.opened:
	case <-ctx.Done():
		return ctx.Err()
	}
	ours := g.ledger.Signed()
	for _, v := range views {
		if v.Err != nil || len(v.Note) == 0 {
			continue
		}
		var reason string
		if v.Checkpoint.Size > ours.Size() {
			reason = fmt.Sprintf("witness %s has a checkpoint of size %d that this log signed, there are %d entries here", v.Name, v.Checkpoint.Size, ours.Size())
		} else if root, err := ours.RootAt(v.Checkpoint.Size); err != nil {
			return err
		} else if v.Checkpoint.Size > 0 && root != v.Checkpoint.Root {
			reason = fmt.Sprintf("witness %s has a checkpoint of size %d that this log signed, of another root than the entries here give", v.Name, v.Checkpoint.Size)
		}
		if reason != "" {
			no := &ledger.NoSign{Reason: reason, WayOut: "start it again while that witness answers: the start says what can be done"}
			g.ledger.Halt(no)
			return no
		}
	}
	return nil
}
