package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// source reads the entries of a damaged ledger from whatever still has them: the
// journal, whose records are chained, before the database. It is a Sequencer that
// nothing can be added to.
type source struct {
	h      *history
	s      *store
	origin string
	key    checkpoint.VKey
	head   Head   // proved: see prove
	signed []byte // newest checkpoint that the log signed
}

// errProof is why entries are not known to be those that were signed.
var errProof = errors.New("it cannot be shown that the entries are those that were signed")

// leaf reads one entry.
func (x *source) leaf(i uint64) (Leaf, error) {
	if x.h.exists && i >= x.h.base.size && i < x.h.size() {
		return x.h.leaves[i-x.h.base.size], nil
	}
	rec, err := x.s.record(i)
	if err != nil {
		return Leaf{}, fmt.Errorf("entry %d: %w", i, err)
	}
	l := Leaf{Value: rec.Leaf(), Cargo: rec.Cargo()}
	if l.ID, err = identity(rec.Entry); err != nil {
		return l, fmt.Errorf("entry %d: %w", i, err)
	}
	if !rec.manifest.IsZero() {
		if l.Manifest, err = x.s.manifest(rec.manifest); err != nil {
			return l, fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return l, nil
}

// sound parses a note with this log's signature.
func (x *source) sound(note []byte) (cp checkpoint.Checkpoint, ok bool) {
	if note == nil {
		return cp, false
	}
	n, err := checkpoint.ParseNote(note)
	if err != nil || x.key.VerifyLog(n) != nil {
		return cp, false
	}
	cp, err = checkpoint.ParseCheckpoint(n.Text)
	return cp, err == nil && cp.Origin == x.origin
}

// notes are the published ones of journal and database that can be read; size is
// that of the database's row, zero in the journal.
func (x *source) notes() (out []pubNote) {
	for _, n := range x.h.cosigned {
		out = append(out, pubNote{note: n})
	}
	// What damage hides here is named by the check afterwards.
	_ = x.s.each(keyNote, func(k, v []byte) error {
		if len(k) == 9 {
			out = append(out, pubNote{size: binary.BigEndian.Uint64(k[1:]), note: append([]byte(nil), v...)})
		}
		return nil
	})
	return out
}

// prove finds how far the entries reach and shows that they are what was signed:
// up to the newest signed checkpoint by its root, beyond by the journal's chain or
// by the database's own head.
func (x *source) prove(ctx context.Context, progress func(string, uint64, uint64)) error {
	want := map[uint64]entry.Hash{}
	var mark checkpoint.Checkpoint
	candidates := [][]byte{x.h.signed}
	for _, key := range [][]byte{metaSigned, metaLatest} {
		if b, err := x.s.get(key); err == nil {
			candidates = append(candidates, b)
		}
	}
	for _, n := range x.notes() {
		candidates = append(candidates, n.note)
	}
	for _, n := range candidates {
		cp, ok := x.sound(n)
		if !ok {
			continue
		}
		if root, ok := want[cp.Size]; ok && root != cp.Root {
			return fmt.Errorf("%w: two roots were signed at size %d", errProof, cp.Size)
		}
		want[cp.Size] = cp.Root
		if x.signed == nil || cp.Size > mark.Size {
			mark, x.signed = cp, n
		}
	}
	if mark.Size == 0 {
		return fmt.Errorf("%w: no checkpoint with the log's signature is left", errProof)
	}
	top := mark.Size
	if x.h.exists && x.h.size() > top {
		top, want[x.h.size()] = x.h.size(), x.h.root()
	}
	ours, err := x.s.head()
	if err != nil {
		ours = headRow{} // damaged: the signed size will do
	}
	r := ranges.NewEmptyRange(0)
	for i := uint64(0); ; i++ {
		if i%4096 == 0 {
			progress("proving", i, max(top, ours.Size))
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		signed, known := want[i]
		if known || i == top || i == ours.Size {
			root, err := rangeRoot(r)
			switch {
			case err != nil:
				return err
			case known && signed != root:
				return fmt.Errorf("%w: entries [0, %d) have root %s, and %s was signed", errProof, i, root, signed)
			case i == top, i > top && root == ours.Root:
				x.head = Head{Size: i, Root: root}
			}
			if i >= top && i >= ours.Size {
				return nil
			}
		}
		l, err := x.leaf(i)
		if err != nil && i >= top {
			return nil // of a commit that a crash cut short, or beyond a damaged head
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errProof, err)
		}
		hash := entry.LeafHash(l.Value[:])
		if err := r.Append(hash[:], nil); err != nil {
			return err
		}
	}
}

// Head implements Sequencer.
func (x *source) Head(context.Context) (Head, error) { return x.head, nil }

// Read implements Sequencer.
func (x *source) Read(_ context.Context, from uint64, n int) ([]Leaf, error) {
	var out []Leaf
	for i := from; i < x.head.Size && len(out) < n; i++ {
		l, err := x.leaf(i)
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

// Add implements Sequencer: nothing can be.
func (x *source) Add(context.Context, uint64, []Leaf) error { return ErrBroken }

// Close implements Sequencer.
func (x *source) Close() error { return nil }
