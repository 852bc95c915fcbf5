package ledger

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"github.com/cockroachdb/pebble/v2"
)

// ErrReplica says that this ledger follows another that signs, and takes nothing itself.
var ErrReplica = errors.New("this node only serves reads")

// OpenReplica opens a ledger that follows the one that signs: it has no Signer,
// reads the engine's entries as far as published notes reach, which Advance is
// given, and decides them again. cfg.Policy says whose notes count, cfg.Sequencer
// where the entries are.
func OpenReplica(ctx context.Context, cfg Config) (_ *Ledger, err error) {
	if cfg.Policy == nil || cfg.Sequencer == nil {
		return nil, errors.New("ledger: a replica needs a policy and an engine")
	}
	key, ok := cfg.Policy.Log(cfg.Origin)
	if !ok {
		return nil, fmt.Errorf("ledger: the policy has no log %q", cfg.Origin)
	}
	cfg.Signer, cfg.Cosigner, cfg.WitnessNotes = nil, nil, nil
	return openLedger(ctx, cfg, key)
}

// runReplica starts what a replica has of goroutines.
func (l *Ledger) runReplica() {
	l.queue.close(ErrReplica)
	close(l.sealed)
	l.wg.Go(l.buildFilters)
}

// Advance brings a replica to the checkpoint of a published note: it reads the
// entries up to it from the engine, decides them again, and publishes the note once
// its own tree has the root that was signed, with the index that the last entry
// commits to. Notes are to come in the order of their sizes; one that is older than
// what is published is passed over, and one of the same size replaces it if its
// quorum is fresher. An error of the engine leaves the replica as it was; after a
// note that its entries do not bear out the replica stops (ErrFailed): that is a
// fork, or damage.
func (l *Ledger) Advance(ctx context.Context, note []byte) error {
	l.advance.Lock()
	defer l.advance.Unlock()
	if err := l.Err(); err != nil {
		return err
	}
	if !l.replica() {
		return errors.New("ledger: only a replica follows notes")
	}
	cosigned, err := quorum(l.cfg.Policy, l.cfg.Past, note)
	if err != nil {
		return fmt.Errorf("published note: %w", err)
	}
	cp, err := noteCheckpoint(note)
	if err != nil {
		return fmt.Errorf("published note: %w", err)
	}
	now := l.published.v.Load()
	if cp.Origin != l.cfg.Origin || cp.Size < now.size || cp.Size == 0 {
		return nil
	}
	if cp.Size == now.size {
		return l.refresh(now, cp, cosigned)
	}
	if err := l.replayTo(ctx, cp.Size); err != nil {
		return err
	}
	v, err := l.bornOut(cp, note)
	if err == nil {
		err = l.s.db.LogData(nil, pebble.Sync) // the entries, before the journal has their note
	}
	if err == nil {
		l.durable.Store(cp.Size)
		l.signed.set(v)
		err = l.publish(v, note, true)
	}
	if err == nil && l.j.bytes() >= l.cfg.RotateBytes {
		err = l.rotate(false)
	}
	if err != nil {
		l.fail(err)
		return l.Err()
	}
	return nil
}

// replica reports whether this ledger only follows.
func (l *Ledger) replica() bool { return l.cfg.Signer == nil }

// refresh publishes a note of the published size whose cosignatures are newer.
func (l *Ledger) refresh(now *View, cp checkpoint.Checkpoint, next checkpoint.Cosigned) error {
	if cp.Root != now.root {
		l.fail(fmt.Errorf("%w: two roots are signed at size %d: %s and %s", ErrDamaged, cp.Size, now.root, cp.Root))
		return l.Err()
	}
	was, err := l.cfg.Policy.Verify(now.note)
	if err == nil && (was.QuorumTime > next.QuorumTime || was.QuorumTime == next.QuorumTime && len(now.note) >= len(next.Note)) {
		return nil
	}
	if bytes.Equal(now.note, next.Note) {
		return nil
	}
	if err := l.publish(now, next.Note, true); err != nil {
		l.fail(err)
		return l.Err()
	}
	return nil
}

// replayTo takes the engine's entries up to size into the replica.
func (l *Ledger) replayTo(ctx context.Context, size uint64) error {
	for l.b.edge.size < size {
		leaves, err := l.seq.Read(ctx, l.b.edge.size, int(min(size-l.b.edge.size, replayBatch)))
		if err != nil || len(leaves) == 0 {
			return fmt.Errorf("engine: reading entry %d: %w", l.b.edge.size, err)
		}
		if err := l.replayAll(leaves); err != nil {
			l.fail(err)
			return l.Err()
		}
	}
	return nil
}

// manifestIn finds manifests while leaves are replayed: in the database, or with one of
// these, which are not in it yet.
func (l *Ledger) manifestIn(leaves []Leaf) func(entry.Hash) ([]byte, error) {
	return func(digest entry.Hash) ([]byte, error) {
		b, err := l.s.manifest(digest)
		for i := 0; i < len(leaves) && errors.Is(err, ErrNotFound); i++ {
			if m := leaves[i].Manifest; m != nil && sha256Sum(m) == digest {
				return m, nil
			}
		}
		return b, err
	}
}

// bornOut makes the view of a note once the replica's own tree has its root.
func (l *Ledger) bornOut(cp checkpoint.Checkpoint, note []byte) (*View, error) {
	root, err := l.t.root(cp.Size)
	if err != nil {
		return nil, err
	}
	if root != cp.Root {
		return nil, fmt.Errorf("%w: the engine's entries have root %s at size %d, and %s was signed", ErrDamaged, root, cp.Size, cp.Root)
	}
	return l.viewAt(note, version{})
}

// share hands a note on before it is published here, and returns the one to publish.
func (l *Ledger) share(ctx context.Context, v *View, note []byte) ([]byte, error) {
	if l.cfg.Share == nil {
		return note, nil
	}
	first, err := l.cfg.Share(ctx, v.size, note)
	if err != nil {
		return nil, fmt.Errorf("sharing the note of size %d: %w", v.size, err)
	}
	if bytes.Equal(first, note) {
		return note, nil
	}
	if err := l.checkCosigned(v, first); err != nil {
		return nil, fmt.Errorf("another note was shared at size %d: %w", v.size, err)
	}
	return first, nil
}

// takeShared keeps the notes that another node has published since published, and
// returns the newest.
func (l *Ledger) takeShared(ctx context.Context, published []byte) ([]byte, error) {
	if l.cfg.Shared == nil {
		return published, nil
	}
	for {
		cp, err := noteCheckpoint(published)
		if err != nil {
			return nil, err
		}
		notes, err := l.cfg.Shared(ctx, cp.Size)
		if err != nil {
			return nil, fmt.Errorf("shared notes: %w", err)
		}
		if len(notes) == 0 {
			return published, nil
		}
		for _, note := range notes {
			if err := l.checkOurs(note, "a note that was shared", true); err != nil {
				return nil, err
			}
			next, err := noteCheckpoint(note)
			if err == nil && next.Size <= cp.Size {
				err = fmt.Errorf("size %d after %d", next.Size, cp.Size)
			}
			if err == nil && l.cfg.Policy != nil {
				_, err = quorum(l.cfg.Policy, l.cfg.Past, note)
			}
			if err != nil {
				return nil, fmt.Errorf("shared notes: %w", err)
			}
			if err := l.s.storeNote(next.Size, note, true); err != nil {
				return nil, err
			}
			published, cp = note, next
		}
	}
}

// quorum verifies a note under the policy in force, else under one that it replaced. The
// error is that of the former.
func quorum(policy *checkpoint.Policy, past []*checkpoint.Policy, note []byte) (checkpoint.Cosigned, error) {
	c, err := policy.Verify(note)
	for i := 0; i < len(past) && err != nil; i++ {
		if old, perr := past[i].Verify(note); perr == nil {
			return old, nil
		}
	}
	return c, err
}

// PublishedNote is a published checkpoint: the note that was published first at its
// size.
type PublishedNote struct {
	Size uint64
	Note []byte
}

// Notes returns up to n publications of sizes above after, in order.
func (l *Ledger) Notes(after uint64, n int) (out []PublishedNote, err error) {
	return l.notesUpTo(l.published.v.Load().size, after, n) // rows of the note in flight come first
}

// notesUpTo returns up to n publications of sizes above after, up to limit.
func (l *Ledger) notesUpTo(limit, after uint64, n int) (out []PublishedNote, err error) {
	defer rescue(&err)
	it, err := l.s.db.NewIter(&pebble.IterOptions{LowerBound: binary.BigEndian.AppendUint64([]byte{keyNote}, after+1), UpperBound: []byte{keyNote + 1}})
	if err != nil {
		return nil, err
	}
	defer it.Close()
	for ok := it.First(); ok && len(out) < n; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, fmt.Errorf("%w: notes: %w", ErrDamaged, err)
		}
		p, err := readNote(it.Key(), v)
		if err != nil {
			return nil, err
		}
		if p.size > limit {
			break
		}
		out = append(out, PublishedNote{p.size, p.note})
	}
	return out, readError(it)
}

// Feed gives another engine every entry that this ledger has, at the same
// indexes, and checks that it then has the same root. The ledger must not be
// written to meanwhile. progress is called now and then.
func (l *Ledger) Feed(ctx context.Context, to Sequencer, progress func(done, total uint64)) (Head, error) {
	size := l.durable.Load()
	root, err := l.t.root(size)
	if err != nil {
		return Head{}, err
	}
	head, err := to.Head(ctx)
	if err != nil {
		return Head{}, fmt.Errorf("engine: %w", err)
	}
	if head.Size > size {
		return head, fmt.Errorf("%w: the engine has %d entries already, this ledger has %d", ErrConflict, head.Size, size)
	}
	if was, err := l.t.root(head.Size); err != nil || head.Size > 0 && was != head.Root {
		return head, errors.Join(err, fmt.Errorf("%w: the engine has another tree of %d entries", ErrConflict, head.Size))
	}
	for at := head.Size; at < size; {
		n := int(min(size-at, replayBatch))
		leaves, err := l.s.leaves(at, n)
		if err != nil {
			return Head{}, err
		}
		if err := to.Add(ctx, at, leaves); err != nil {
			return Head{}, fmt.Errorf("engine: entries from %d: %w", at, err)
		}
		at += uint64(n)
		progress(at, size)
	}
	if head, err = to.Head(ctx); err == nil && (head.Size != size || size > 0 && head.Root != root) {
		err = fmt.Errorf("%w: the engine has size %d and root %s, this ledger %d and %s", ErrDamaged, head.Size, head.Root, size, root)
	}
	return head, err
}
