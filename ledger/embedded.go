package ledger

import (
	"context"
	"errors"
	"fmt"

	"fabtrail.dev/fabtrail/ledger/entry"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"
)

// embedded is the Sequencer on this machine: the journal holds the newest
// leaves, the replica the older ones.
type embedded struct {
	j *journal
	s *store
	// tail are the leaves that the journal had when it was opened, from base
	// on; nil once the replica has them all.
	base uint64
	tail []Leaf
	// own, if not nil, makes the engine feed the replica itself; in a ledger
	// the committer does, with everything else that belongs to a commit.
	own *replica
}

// replica is the edge of an engine without a ledger above it.
type replica struct {
	edge *edge
	lock func() error // closes the store and frees the directory
}

// OpenEmbedded opens the embedded engine alone, without ledger, application or
// index: for the conformance suite, and for measuring. Its directory is not
// that of a ledger.
func OpenEmbedded(dir string, fs vfs.FS) (Sequencer, error) {
	cfg := Config{Dir: dir, Origin: "embedded engine", FS: fs}
	cfg.defaults()
	c, err := openCore(&cfg, true, func(err error) { cfg.Logf("%v", err) })
	if err != nil {
		return nil, err
	}
	e := c.engine
	e.own = &replica{edge: c.edge, lock: c.close}
	for i := c.edge.size; i < e.base+uint64(len(e.tail)); {
		part := e.tail[i-e.base:]
		part = part[:min(len(part), 1024)]
		if err := e.replicate(i, part, nil); err != nil {
			return nil, errors.Join(err, c.close())
		}
		i += uint64(len(part))
	}
	if err := c.start(e.own.edge); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return e, nil
}

// Add implements Sequencer.
func (e *embedded) Add(ctx context.Context, first uint64, leaves []Leaf) error {
	head, err := e.Head(ctx)
	if err != nil {
		return err
	}
	if first > head.Size {
		return fmt.Errorf("%w: leaves from %d, size %d", ErrGap, first, head.Size)
	}
	if known := min(head.Size-first, uint64(len(leaves))); known > 0 {
		if err := e.same(first, leaves[:known]); err != nil {
			return err
		}
		leaves = leaves[known:]
	}
	if len(leaves) == 0 {
		return nil
	}
	if e.own != nil {
		return e.replicate(head.Size, leaves, e.j)
	}
	return e.j.add(leaves)
}

// same checks that leaves are those kept from first on.
func (e *embedded) same(first uint64, leaves []Leaf) error {
	kept, err := e.s.leaves(first, len(leaves))
	if err != nil {
		return err
	}
	for i := range leaves {
		if !kept[i].equal(&leaves[i]) {
			return fmt.Errorf("%w: %d", ErrConflict, first+uint64(i))
		}
	}
	return nil
}

func (l *Leaf) equal(o *Leaf) bool { return l.Equal(o) }

// Equal reports whether two leaves are the same, byte for byte.
func (l *Leaf) Equal(o *Leaf) bool {
	return l.ID == o.ID && l.Value == o.Value && string(l.Cargo) == string(o.Cargo) && string(l.Manifest) == string(o.Manifest)
}

// replicate writes leaves to the engine's own replica, and to the journal if
// there is one, side by side.
func (e *embedded) replicate(first uint64, leaves []Leaf, j *journal) error {
	b := e.s.db.NewBatch()
	defer b.Close()
	next := *e.own.edge
	var full []fullTile
	var last uint64
	for i := range leaves {
		l := &leaves[i]
		full = append(full, next.push(entry.LeafHash(l.Value[:]))...)
		cargo, err := entry.ParseCargo(l.Cargo)
		if err != nil || cargo.Leaf() != l.Value {
			return fmt.Errorf("%w: cargo of leaf %d does not match it", entry.ErrMalformed, first+uint64(i))
		}
		last = cargo.Time
		var sum entry.Hash
		if l.Manifest != nil {
			sum = sha256Sum(l.Manifest)
			if err := b.Set(keyHash(keyManifest, sum), l.Manifest, nil); err != nil {
				return err
			}
		}
		if err := errors.Join(stageLeaf(b, first+uint64(i), l), stageRecord(b, first+uint64(i), l.Cargo, sum)); err != nil {
			return err
		}
	}
	if err := stageTiles(b, full); err != nil {
		return err
	}
	if err := b.Set(metaHead, headRow{Size: next.size, Root: next.root(), Time: last}.marshal(), nil); err != nil {
		return err
	}
	var g errgroup.Group
	g.Go(func() error { return b.Commit(pebble.Sync) })
	if j != nil {
		g.Go(func() error { return j.add(leaves) })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	e.own.edge = &next
	return nil
}

// Head implements Sequencer.
func (e *embedded) Head(context.Context) (Head, error) { return e.j.head() }

// Read implements Sequencer.
func (e *embedded) Read(ctx context.Context, from uint64, n int) ([]Leaf, error) {
	head, err := e.Head(ctx)
	if err != nil {
		return nil, err
	}
	if from > head.Size {
		return nil, fmt.Errorf("%w: %d of %d", ErrGap, from, head.Size)
	}
	n = min(n, int(min(head.Size-from, 1<<20)))
	if e.tail != nil && from >= e.base {
		return e.tail[from-e.base:][:n], nil
	}
	return e.s.leaves(from, n)
}

// Close implements Sequencer. In a ledger there is nothing to do: journal and
// store are the ledger's.
func (e *embedded) Close() error {
	if e.own == nil {
		return nil
	}
	return e.own.lock()
}
