package ledger

import (
	"encoding/binary"
	"errors"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// cosignatures checks those of every witness of the policies, needed or not.
func (f *fsck) cosignatures(size uint64, note []byte) bool {
	n, err := checkpoint.ParseNote(note)
	if err != nil || f.cfg.Policy == nil {
		return err == nil
	}
	good := true
	for _, p := range append([]*checkpoint.Policy{f.cfg.Policy}, f.cfg.Past...) {
		for _, w := range p.Witnesses() {
			if _, err := w.VKey.VerifyCosignature(n); err != nil && !errors.Is(err, checkpoint.ErrNoSignature) {
				f.found("cosignature", size, "of %s: %v", w.Name, err)
				good = false
			}
		}
	}
	return good
}

// receipts makes the receipt of every published entry from what is stored, as its
// holder would ask for it, and verifies it. Neighbours are named together.
func (f *fsck) receipts() error {
	if len(f.pubs) == 0 {
		return nil
	}
	t := &tree{load: f.s.tile}
	t.cache.init(16 << 20)
	e, err := f.s.loadEdge(f.head.Size)
	if err != nil {
		f.found("receipt", 0, "the tree's edge: %v", err)
		return nil
	}
	t.snap.Store(e)
	bad := &receiptRun{f: f}
	at := 0
	for i := range uint64(len(f.hashes)) {
		for at < len(f.pubs) && f.pubs[at].size <= i {
			at++
		}
		if at == len(f.pubs) || f.pubs[at].size > f.head.Size {
			break
		}
		if i%4096 == 0 {
			f.cfg.Progress("receipts", i, f.pubs[len(f.pubs)-1].size)
			if err := f.ctx.Err(); err != nil {
				return err
			}
		}
		p := &f.pubs[at]
		hs, err := t.inclusion(i, p.size)
		if err == nil {
			if root, ok := inclusionRoot(i, p.size, f.hashes[i], hs); !ok || root != p.root {
				err = errors.New("the proof leads to another root")
			}
		}
		bad.add(i, p.size, err)
	}
	bad.end()
	return nil
}

// receiptRun collects neighbours whose receipts fail alike.
type receiptRun struct {
	f           *fsck
	first, next uint64
	size        uint64
	err         error
}

func (r *receiptRun) add(i, size uint64, err error) {
	if r.err != nil && (err == nil || size != r.size) {
		r.end()
	}
	if err == nil {
		return
	}
	if r.err == nil {
		r.first, r.size, r.err = i, size, err
	}
	r.next = i + 1
}

func (r *receiptRun) end() {
	if r.err != nil {
		r.f.found("receipt", r.first, "those of entries %d to %d do not verify in the checkpoint of size %d: %v", r.first, r.next-1, r.size, r.err)
	}
	r.err = nil
}

// quorum checks a published note against the policy, or one of before.
func (f *fsck) quorum(note []byte) error {
	_, err := quorum(f.cfg.Policy, f.cfg.Past, note)
	return err
}

// notes checks that every note ends with an index commitment.
func (f *fsck) notes() error {
	return f.each(keyNote, "notes", func(k, v []byte) {
		size := binary.BigEndian.Uint64(k[1:])
		if len(k) != 9 || size == 0 || size > f.head.Size {
			return // named before
		}
		if e, err := f.s.record(size - 1); err == nil && e.Class != entry.Index {
			f.found("note", size, "the last entry of a published size is not an index commitment")
		}
	})
}
