package ledgertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// ErrInjected is the error of an engine that was told to fail.
var ErrInjected = errors.New("injected failure")

// Fault is what an injected failure does to a call of Add.
type Fault int

// Faults: nothing, failed before the write, failed after it, and half written.
const (
	Good Fault = iota
	FailBefore
	FailAfter
	FailHalfway
)

// Cluster is an engine's storage in memory that outlives the ledgers that use
// it, as a cluster does: Open gives a Sequencer on it, any number of times.
type Cluster struct {
	// Fault, if set, is asked before each Add. Set it before use.
	Fault func(first uint64, n int) Fault

	mu     sync.Mutex
	leaves []ledger.Leaf
}

// Open returns a Sequencer on the cluster.
func (c *Cluster) Open() ledger.Sequencer { return &session{c: c} }

// Copy returns another cluster with the same leaves.
func (c *Cluster) Copy() *Cluster {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &Cluster{leaves: append([]ledger.Leaf(nil), c.leaves...)}
}

// Truncate loses all but the first n leaves, as a restored backup would.
func (c *Cluster) Truncate(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaves = c.leaves[:n:n]
}

// Size is the number of leaves.
func (c *Cluster) Size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.leaves)
}

type session struct {
	c      *Cluster
	closed bool
}

// Add implements ledger.Sequencer.
func (s *session) Add(ctx context.Context, first uint64, leaves []ledger.Leaf) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return err
	}
	fault := Good
	if c.Fault != nil {
		fault = c.Fault(first, len(leaves))
	}
	if fault == FailBefore {
		return ErrInjected
	}
	have := uint64(len(c.leaves))
	if first > have {
		return fmt.Errorf("%w: %d, size %d", ledger.ErrGap, first, have)
	}
	for i := range leaves {
		if at := first + uint64(i); at < have && !same(&c.leaves[at], &leaves[i]) {
			return fmt.Errorf("%w: %d", ledger.ErrConflict, at)
		}
	}
	for i := range leaves {
		if first+uint64(i) < have {
			continue
		}
		if fault == FailHalfway && i >= len(leaves)/2 {
			return ErrInjected
		}
		l := leaves[i]
		l.Cargo, l.Manifest = bytes.Clone(l.Cargo), bytes.Clone(l.Manifest)
		c.leaves = append(c.leaves, l)
	}
	if fault == FailAfter {
		return ErrInjected
	}
	return nil
}

func same(a, b *ledger.Leaf) bool {
	return a.ID == b.ID && a.Value == b.Value && bytes.Equal(a.Cargo, b.Cargo) && bytes.Equal(a.Manifest, b.Manifest)
}

func (s *session) usable(ctx context.Context) error {
	if s.closed {
		return fmt.Errorf("%w: closed", ledger.ErrBroken)
	}
	return ctx.Err()
}

// Head implements ledger.Sequencer.
func (s *session) Head(ctx context.Context) (ledger.Head, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return ledger.Head{}, err
	}
	hs := make([]entry.Hash, len(s.c.leaves))
	for i := range s.c.leaves {
		hs[i] = entry.LeafHash(s.c.leaves[i].Value[:])
	}
	return ledger.Head{Size: uint64(len(hs)), Root: NaiveRoot(hs)}, nil
}

// Read implements ledger.Sequencer.
func (s *session) Read(ctx context.Context, from uint64, n int) ([]ledger.Leaf, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	have := uint64(len(s.c.leaves))
	if from > have {
		return nil, fmt.Errorf("%w: %d, size %d", ledger.ErrGap, from, have)
	}
	// Small answers, so that callers must come again.
	n = min(n, 7, int(have-from))
	return append([]ledger.Leaf(nil), s.c.leaves[from:][:n]...), nil
}

// Close implements ledger.Sequencer.
func (s *session) Close() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.closed = true
	return nil
}

// NaiveRoot is RFC 6962 section 2.1, word by word: the oracle for roots.
func NaiveRoot(leafHashes []entry.Hash) entry.Hash {
	switch n := len(leafHashes); n {
	case 0:
		return sum(nil)
	case 1:
		return leafHashes[0]
	default:
		k := 1
		for 2*k < n {
			k *= 2
		}
		l, r := NaiveRoot(leafHashes[:k]), NaiveRoot(leafHashes[k:])
		return sum(append(append([]byte{1}, l[:]...), r[:]...))
	}
}
