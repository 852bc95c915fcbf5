package ledger

import (
	"context"
	"errors"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// Leaf is what an engine keeps for one entry of the log. Its bytes suffice to
// build a replica from nothing.
type Leaf struct {
	// ID is the leaf's identity: the statement ID, or for an index
	// commitment its leaf hash. No two leaves of a log have the same.
	ID       entry.Hash
	Value    [entry.LeafSize]byte // the leaf
	Cargo    []byte               // what the leaf is computed from
	Manifest []byte               // the manifest that the entry names; nil if none
}

// Head is the state of an engine: the root (RFC 6962) over its first Size leaves.
type Head struct {
	Size uint64
	Root entry.Hash
}

// Sequencer is the one seam below the ledger: it keeps leaves, durably, at the
// indexes that the ledger assigns. Everything that is read comes from the
// ledger's own replica, so an engine is asked to read only after a restart.
//
// One goroutine calls Add; Head and Read may be called at the same time. An
// engine that is shared by several nodes need not know which of them signs: the
// ledger signs nothing before Head has confirmed size and root.
type Sequencer interface {
	// Add makes leaves durable at indexes first, first+1, ... and returns nil
	// once they survive a crash of everything that the engine runs on. Only
	// then does Head count them.
	//
	// It is idempotent: a leaf that is already kept at its index, byte for
	// byte, is skipped. ErrConflict says that other bytes are kept there;
	// ErrGap that first is beyond the end; in both cases nothing was
	// changed. After any other error the outcome is unknown, and the caller
	// settles it by Head and Read, or by calling Add again with the very same
	// leaves; ErrBroken says that this would be in vain.
	Add(ctx context.Context, first uint64, leaves []Leaf) error

	// Head returns the number of leaves kept and their root.
	Head(ctx context.Context) (Head, error)

	// Read returns up to n leaves from the index from on, in order, and at
	// least one unless from is the end. Beyond the end it is ErrGap.
	Read(ctx context.Context, from uint64, n int) ([]Leaf, error)

	// Close releases the engine. Nothing else may be called afterwards.
	Close() error
}

// Errors of a Sequencer, told apart with errors.Is.
var (
	ErrConflict = errors.New("another leaf is kept at this index")
	ErrGap      = errors.New("index is beyond the end of the log")
	ErrBroken   = errors.New("engine is broken until it is opened anew")
)
