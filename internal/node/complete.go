package node

import (
	"context"
	"slices"
	"time"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
)

// How long the ledger leaves a published checkpoint without the cosignature of a
// witness that it asks, before it asks again; each time twice as long.
const (
	completeFirst = 500 * time.Millisecond
	completeLast  = time.Minute
)

// complete asks again for cosignatures while the published checkpoint lacks some. A
// checkpoint is published with the quorum; a witness that verifies the index is
// slower, and at a first start it cannot read what is not served yet. A log that
// goes on corrects that by itself, an idle one would stay incomplete for long.
//
// At the start it does at once what is due by the clock: a ledger that was down for long
// shows a checkpoint that is too old for its verifiers.
func (n *Node) complete(ctx context.Context) error {
	if err := n.ledger.Tick(ctx); err != nil && ctx.Err() == nil {
		n.cfg.Log.Debug("no fresh cosignatures at the start", "error", err)
	}
	wait := completeFirst
	for {
		v := n.ledger.Published()
		if n.whole(v.Checkpoint()) {
			wait = completeFirst
			if err := n.ledger.Wait(ctx, v.Size()); err != nil {
				return err
			}
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		if n.ledger.Published().Size() != v.Size() {
			wait = completeFirst
			continue
		}
		if err := n.ledger.Recosign(ctx); err != nil && ctx.Err() == nil {
			n.cfg.Log.Debug("no fresh cosignatures", "error", err)
		}
		wait = min(2*wait, completeLast)
	}
}

// whole reports whether all witnesses that are asked cosigned a checkpoint.
func (n *Node) whole(note []byte) bool {
	if len(note) == 0 {
		return true // nothing is published yet
	}
	parsed, err := checkpoint.ParseNote(note)
	if err != nil {
		return true // not a matter of cosignatures
	}
	for _, w := range n.asked {
		if !slices.ContainsFunc(parsed.Sigs, w.Made) {
			return false
		}
	}
	return true
}
