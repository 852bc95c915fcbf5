package ledger

import (
	"errors"
	"fmt"

	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
)

// View is a consistent read of the log at one size. It never changes, whatever
// is appended meanwhile; it may be used until the ledger is closed.
type View struct {
	l       *Ledger
	size    uint64
	root    entry.Hash
	covers  uint64 // the index is over [0, covers): size - 1, or 0 for an empty log
	time    uint64 // of the last entry
	index   *unitindex.Tree
	logNote []byte // with the log's signature only
	note    []byte // as published
}

// Published returns the view at the last published size, which all public
// answers come from.
func (l *Ledger) Published() *View { return l.published.v.Load() }

// Signed returns the view at the last signed size, for cosigners that verify
// the index before it is published. Its checkpoint has no cosignatures.
func (l *Ledger) Signed() *View { return l.signed.v.Load() }

// Tile is Published().Tile.
func (l *Ledger) Tile(level uint8, n uint64, width uint16) ([]byte, error) {
	return l.Published().Tile(level, n, width)
}

// Bundle is Published().Bundle.
func (l *Ledger) Bundle(n uint64, width uint16) ([]byte, error) {
	return l.Published().Bundle(n, width)
}

// Size is the number of entries; the last is an index commitment.
func (v *View) Size() uint64 { return v.size }

// Root is the root of the tree.
func (v *View) Root() entry.Hash { return v.root }

// Time is admittedAt of the last entry in Unix milliseconds, zero for an empty log.
func (v *View) Time() uint64 { return v.time }

// Checkpoint is the signed note; nil for an empty log, which signs nothing. The
// caller must not change it.
func (v *View) Checkpoint() []byte { return v.note }

func (v *View) has(i uint64) error {
	if i >= v.size {
		return fmt.Errorf("%w: entry %d in a log of size %d", ErrNotFound, i, v.size)
	}
	return nil
}

// Entry returns entry i with its cargo. It is not checked against its leaf here:
// whoever relies on it recomputes the leaf.
func (v *View) Entry(i uint64) (entry.Entry, error) {
	if err := v.has(i); err != nil {
		return entry.Entry{}, err
	}
	r, err := v.l.s.record(i)
	return r.Entry, err
}

// ManifestOf returns the digest of the manifest that entry i names, zero if none.
func (v *View) ManifestOf(i uint64) (entry.Hash, error) {
	if err := v.has(i); err != nil {
		return entry.Hash{}, err
	}
	r, err := v.l.s.record(i)
	return r.manifest, err
}

// Entries calls fn for entries [from, to) in order, with the manifest's digest or
// zero; it stops at the first error, which it returns. The entry shares memory
// with the database: fn must copy what it keeps.
func (v *View) Entries(from, to uint64, fn func(i uint64, e entry.Entry, manifest entry.Hash) error) error {
	if from > to || to > v.size {
		return fmt.Errorf("%w: entries [%d, %d) in a log of size %d", ErrNotFound, from, to, v.size)
	}
	return v.l.s.scan(keyEntry, from, to, func(i uint64, b []byte) error {
		r, err := parseRecord(b)
		if err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		return fn(i, r.Entry, r.manifest)
	})
}

// Inclusion proves entry i in this view's tree: hashes from leaf to root.
func (v *View) Inclusion(i uint64) ([]entry.Hash, error) { return v.InclusionAt(i, v.size) }

// InclusionAt proves entry i in the tree of an earlier size.
func (v *View) InclusionAt(i, size uint64) ([]entry.Hash, error) {
	if i >= size || size > v.size {
		return nil, fmt.Errorf("%w: entry %d at size %d of a log of size %d", ErrNotFound, i, size, v.size)
	}
	return v.l.t.inclusion(i, size)
}

// Consistency proves that the tree of size from is a prefix of the tree of size
// to, for from <= to <= Size. From size 0 the proof is empty.
func (v *View) Consistency(from, to uint64) ([]entry.Hash, error) {
	if from > to || to > v.size {
		return nil, fmt.Errorf("%w: consistency from size %d to %d in a log of size %d", ErrNotFound, from, to, v.size)
	}
	if from == 0 {
		return nil, nil
	}
	return v.l.t.consistency(from, to)
}

// RootAt returns the root at an earlier size.
func (v *View) RootAt(size uint64) (entry.Hash, error) {
	if size > v.size {
		return entry.Hash{}, fmt.Errorf("%w: size %d of a log of size %d", ErrNotFound, size, v.size)
	}
	return v.l.t.root(size)
}

// Topics is the number of topics that have entries.
func (v *View) Topics() uint64 { return v.index.Len() }

// IndexRoot is the root that the view's last entry commits to.
func (v *View) IndexRoot() entry.Hash { return v.index.Root() }

// List returns a topic's whole list as of this view, with the proof of it, or of
// its absence when there are none, under the index root of the last entry.
func (v *View) List(topic entry.Hash) ([]unitindex.Ref, unitindex.Proof, error) {
	r := &rows{s: v.l.s, t: v.l.t, covers: v.covers}
	refs, proof, err := v.list(r, topic)
	return refs, proof, errors.Join(err, r.close())
}

func (v *View) list(r *rows, topic entry.Hash) ([]unitindex.Ref, unitindex.Proof, error) {
	own := ownRow{rows: r, topic: topic}
	proof, err := v.index.Prove(&own, topic)
	if err != nil {
		return nil, unitindex.Proof{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if own.row == nil {
		if proof.Kind == unitindex.Present {
			return nil, unitindex.Proof{}, fmt.Errorf("%w: no list of topic %s", ErrDamaged, topic)
		}
		return nil, proof, nil
	}
	row, err := parseRow(own.row)
	if err != nil {
		return nil, unitindex.Proof{}, fmt.Errorf("topic %s: %w", topic, err)
	}
	refs, err := r.refs(topic, row)
	if err != nil {
		return nil, unitindex.Proof{}, err
	}
	if proof.Kind != unitindex.Present || proof.Value != unitindex.ListValue(refs) {
		return nil, unitindex.Proof{}, fmt.Errorf("%w: list of topic %s", ErrDamaged, topic)
	}
	return refs, proof, nil
}

// Tile returns the first width hashes (1 to 256) of tile n of a level, as
// tlog-tiles serves them, for any width that the view's size has.
func (v *View) Tile(level uint8, n uint64, width uint16) ([]byte, error) {
	if err := v.hasTile(level, n, width); err != nil {
		return nil, err
	}
	if width == tileWidth {
		return v.l.s.tile(tileID{level, n})
	}
	b := make([]byte, 0, int(width)*32)
	for i := range uint64(width) {
		h, err := v.l.t.node(uint(level)*tileHeight, n*tileWidth+i)
		if err != nil {
			return nil, err
		}
		b = append(b, h[:]...)
	}
	return b, nil
}

func (v *View) hasTile(level uint8, n uint64, width uint16) error {
	if width == 0 || width > tileWidth || level >= maxLevels || n >= 1<<56 ||
		n*tileWidth+uint64(width) > v.size>>(tileHeight*uint(level)) {
		return fmt.Errorf("%w: tile %d of level %d, width %d, in a log of size %d", ErrNotFound, n, level, width, v.size)
	}
	return nil
}

// Bundle returns the first width leaves (1 to 256) of entry bundle n: for each
// u16 length and the 34 bytes.
func (v *View) Bundle(n uint64, width uint16) ([]byte, error) {
	if err := v.hasTile(0, n, width); err != nil {
		return nil, err
	}
	b := make([]byte, 0, int(width)*(2+entry.LeafSize))
	from := n * tileWidth
	err := v.l.s.scan(keyLeaf, from, from+uint64(width), func(i uint64, leaf []byte) error {
		if len(leaf) != entry.LeafSize {
			return fmt.Errorf("%w: leaf %d has %d bytes", ErrDamaged, i, len(leaf))
		}
		b = append(b, 0, entry.LeafSize)
		b = append(b, leaf...)
		return nil
	})
	return b, err
}
