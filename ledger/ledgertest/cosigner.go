package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
)

// Cosigner is one witness in memory that does what tlog-witness asks: it
// remembers the checkpoint cosigned last, verifies consistency, and cosigns.
// Anything wrong that it is ever shown stays in Err.
type Cosigner struct {
	// Before, if set, is called with every checkpoint note before anything is
	// done with it; its error is Cosign's. Set it before the ledger opens.
	Before func(ctx context.Context, note []byte) error
	// After, if set, may change the cosigned note.
	After func(note []byte) []byte

	Log    checkpoint.VKey
	signer *checkpoint.Signer

	mu   sync.Mutex
	last checkpoint.Checkpoint
	time uint64
	seen map[uint64]entry.Hash
	err  error
}

// NewCosigner makes a witness for a log, with a deterministic key of this name.
func NewCosigner(name string, log checkpoint.VKey) *Cosigner {
	s, err := checkpoint.NewSigner(name, checkpoint.TypeCosigner, Key(name))
	if err != nil {
		panic(err)
	}
	return &Cosigner{Log: log, signer: s, time: 1_760_000_000, seen: map[uint64]entry.Hash{}}
}

// Policy is the tlog-policy that wants this witness.
func (c *Cosigner) Policy() *checkpoint.Policy {
	p, err := checkpoint.ParsePolicy(fmt.Appendf(nil, "log %s\nwitness w %s\nquorum w\n", c.Log, c.signer.VKey()))
	if err != nil {
		panic(err)
	}
	return p
}

// Err is the first breach that the log showed to this witness: a checkpoint that
// does not extend the last one, or two roots at one size.
func (c *Cosigner) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Cosign implements ledger.Cosigner.
func (c *Cosigner) Cosign(ctx context.Context, old uint64, note []byte,
	consistency func(ctx context.Context, old, new uint64) ([]entry.Hash, error)) ([]byte, error) {
	if c.Before != nil {
		if err := c.Before(ctx, note); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n, cp, err := c.check(ctx, note, consistency)
	if err != nil {
		c.err = errors.Join(c.err, err)
		return nil, err
	}
	c.last = cp
	c.time++
	sig, err := c.signer.Cosign(n.Text, c.time)
	if err != nil {
		return nil, err
	}
	n.Sigs = append(n.Sigs, sig)
	out := n.Marshal()
	if c.After != nil {
		out = c.After(out)
	}
	return out, nil
}

func (c *Cosigner) check(ctx context.Context, note []byte,
	consistency func(ctx context.Context, old, new uint64) ([]entry.Hash, error)) (n checkpoint.Note, cp checkpoint.Checkpoint, err error) {
	if n, err = checkpoint.ParseNote(note); err != nil {
		return n, cp, err
	}
	if err = c.Log.VerifyLog(n); err != nil {
		return n, cp, err
	}
	if cp, err = checkpoint.ParseCheckpoint(n.Text); err != nil {
		return n, cp, err
	}
	if root, ok := c.seen[cp.Size]; ok && root != cp.Root {
		return n, cp, fmt.Errorf("two roots at size %d", cp.Size)
	}
	if cp.Size < c.last.Size {
		return n, cp, fmt.Errorf("the log went back from size %d to %d", c.last.Size, cp.Size)
	}
	if c.last.Size == 0 {
		c.seen[cp.Size] = cp.Root
		return n, cp, nil
	}
	hs, err := consistency(ctx, c.last.Size, cp.Size)
	if err != nil {
		return n, cp, err
	}
	raw := make([][]byte, len(hs))
	for i := range hs {
		raw[i] = hs[i][:]
	}
	err = proof.VerifyConsistency(rfc6962.DefaultHasher, c.last.Size, cp.Size, raw, c.last.Root[:], cp.Root[:])
	if err == nil {
		c.seen[cp.Size] = cp.Root
	}
	return n, cp, err
}
