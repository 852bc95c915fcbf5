package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"github.com/cockroachdb/pebble/v2"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/sync/errgroup"
)

// sealer is what the sealing goroutine alone owns.
type sealer struct {
	verified *compact.Range // over all entries re-read and re-hashed so far
	size     uint64         // newest signed size
	root     entry.Hash     // and its root
}

// signAhead is how many commits may be durable and wait for a signature before theirs.
const signAhead = 4

// sealLoop is the sealer: commits become durable, verified and signed here, in
// their order. After a failure it only answers. An engine of others integrates leaves
// after they are durable: the next commit is handed to it while a goroutine of the
// sealer's waits for that, or the engine would stand still before each signature.
func (l *Ledger) sealLoop() {
	defer l.wg.Done()
	defer close(l.sealed)
	sign := l.signCommit
	if l.cfg.Sequencer != nil {
		waiting := make(chan *commit, signAhead)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for c := range waiting {
				l.signCommit(c)
			}
		}()
		defer func() { close(waiting); <-done }()
		sign = func(c *commit) { waiting <- c }
	}
	for c := range l.built {
		if l.Err() == nil && len(c.entries) > 0 {
			if err := l.persist(c); err != nil {
				l.fail(err)
			}
		}
		sign(c)
	}
}

// signCommit signs a commit that is durable, if it ends with an index commitment, and
// answers who waits for it.
func (l *Ledger) signCommit(c *commit) {
	if l.Err() == nil && c.index {
		if err := l.sealCommit(c); err != nil {
			l.fail(err)
		}
	}
	l.finish(c)
	// After a failure nobody may have waited for Pebble's sync, which still
	// writes its outcome into the batch: that one is left to the collector.
	if l.Err() == nil && c.batch != nil {
		if err := c.batch.Close(); err != nil {
			l.fail(err)
		}
	}
	if l.sealing.Add(-1) == 0 {
		l.queue.poke()
	}
}

func (l *Ledger) sealCommit(c *commit) error {
	v, err := l.sign(c)
	if err != nil {
		return err
	}
	l.signed.set(v)
	if l.cfg.Cosigner == nil {
		if _, err := l.share(l.ctx, v, v.logNote); err != nil {
			return err
		}
		if err := l.publish(v, v.logNote, false); err != nil {
			return err
		}
	}
	if l.j.bytes() >= l.cfg.RotateBytes {
		return l.rotate(false)
	}
	return nil
}

// persist makes the commit durable in the replica and in the engine, side by
// side.
func (l *Ledger) persist(c *commit) error {
	leaves := make([]Leaf, len(c.entries))
	for i := range c.entries {
		leaves[i] = c.entries[i].leaf
	}
	var g errgroup.Group
	g.Go(func() error {
		if err := c.batch.SyncWait(); err != nil {
			return fmt.Errorf("syncing the database: %w", err)
		}
		return nil
	})
	g.Go(func() error { return l.settle(c.first, leaves) })
	if err := g.Wait(); err != nil {
		return err
	}
	l.durable.Store(c.head.Size)
	return nil
}

// settle adds leaves to the engine. An unknown outcome is settled by asking what
// the engine holds and offering the very same leaves again, never others; if
// that does not succeed in time, the ledger stops.
func (l *Ledger) settle(first uint64, leaves []Leaf) error {
	ctx, cancel := context.WithTimeout(l.ctx, l.cfg.SettleLimit)
	defer cancel()
	pause := l.cfg.SettlePause
	for {
		err := l.seq.Add(ctx, first, leaves)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || errors.Is(err, ErrConflict) || errors.Is(err, ErrGap) || errors.Is(err, ErrBroken) {
			return fmt.Errorf("engine: entries from %d: %w", first, err)
		}
		l.cfg.Logf("ledger: the engine has not confirmed entries from %d on: %v; asking what became of them", first, err)
		if head, herr := l.seq.Head(ctx); herr == nil && head.Size >= first+uint64(len(leaves)) {
			return l.readBack(ctx, first, leaves)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
			pause = min(2*pause, time.Second)
		}
	}
}

// readBack compares what the engine holds with what it was given.
func (l *Ledger) readBack(ctx context.Context, first uint64, leaves []Leaf) error {
	for len(leaves) > 0 {
		got, err := l.seq.Read(ctx, first, len(leaves))
		if err != nil || len(got) == 0 {
			return fmt.Errorf("engine: reading back entry %d: %w", first, err)
		}
		for i := range got {
			if !got[i].equal(&leaves[i]) {
				return fmt.Errorf("engine: entry %d: %w", first+uint64(i), ErrConflict)
			}
		}
		first += uint64(len(got))
		leaves = leaves[len(got):]
	}
	return nil
}

// sign verifies what is on its way to be signed, signs it, and makes the
// checkpoint durable in the journal before anyone sees it.
func (l *Ledger) sign(c *commit) (*View, error) {
	size, root := c.head.Size, c.head.Root
	if err := l.verify(size, root); err != nil {
		return nil, fmt.Errorf("not signing size %d: %w", size, err)
	}
	if err := l.Err(); err != nil { // a later commit has failed meanwhile
		return nil, err
	}
	note, err := l.signNote(size, root)
	if err != nil {
		return nil, err
	}
	alone := l.cfg.Cosigner == nil // then it is published with its signature
	var g errgroup.Group
	g.Go(func() error { return l.j.sign(note, alone) })
	if alone {
		g.Go(func() error { return l.s.storeNote(size, note, true) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	// After the journal, never before: a start takes a database that knows of
	// a newer checkpoint for a sign of an old journal.
	if err := l.s.db.Set(metaSigned, note, pebble.NoSync); err != nil {
		return nil, err
	}
	l.seal.size, l.seal.root = size, root
	return &View{l: l, size: size, root: root, covers: c.head.Covers, time: c.head.Time, index: c.tip, logNote: note, note: note}, nil
}

func (l *Ledger) signNote(size uint64, root entry.Hash) ([]byte, error) {
	text := checkpoint.Checkpoint{Origin: l.cfg.Origin, Size: size, Root: root}.Text()
	sig, err := l.cfg.Signer.SignLog(text)
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	n := checkpoint.Note{Text: text, Sigs: []checkpoint.NoteSig{sig}}
	if err := l.vkey.VerifyLog(n); err != nil {
		return nil, fmt.Errorf("our own signature: %w", err)
	}
	return n.Marshal(), nil
}

// verify is S4: it re-reads what was written since the last signature, hashes
// it by another path than the one that wrote it, checks that the tree signed
// last is a prefix, and asks the engine what it holds.
func (l *Ledger) verify(size uint64, root entry.Hash) error {
	r := l.seal.verified
	from := r.End()
	if err := l.s.rehash(r, size); err != nil {
		return err
	}
	second, err := rangeRoot(r)
	if err != nil {
		return err
	}
	if second != root {
		return fmt.Errorf("%w: re-read entries have another root than the tree", ErrDamaged)
	}
	if l.seal.size > 0 {
		hs, err := l.t.consistency(l.seal.size, size)
		if err != nil {
			return err
		}
		if err := proof.VerifyConsistency(rfc6962.DefaultHasher, l.seal.size, size, raw(hs), l.seal.root[:], root[:]); err != nil {
			return fmt.Errorf("%w: size %d to %d: %w", ErrDamaged, l.seal.size, size, err)
		}
	}
	if err := l.verifyTiles(from, size); err != nil {
		return err
	}
	return l.engineHas(size, root)
}

// verifyTiles re-reads the tiles that entries [from, size) filled, and compares
// their roots with the hashes above them, which the root rests on.
func (l *Ledger) verifyTiles(from, size uint64) error {
	for level := uint(0); size>>(tileHeight*(level+1)) > 0; level++ {
		for n := from >> (tileHeight * (level + 1)); n < size>>(tileHeight*(level+1)); n++ {
			b, err := l.s.tile(tileID{uint8(level), n})
			if err != nil {
				return err
			}
			t, err := readTile(b)
			if err != nil {
				return err
			}
			if above, err := l.t.node((level+1)*tileHeight, n); err != nil || above != t.root() {
				return fmt.Errorf("%w: tile %d of level %d is not that of the tree (%v)", ErrDamaged, n, level, err)
			}
		}
	}
	return nil
}

// engineHas checks that the engine has integrated at least size entries and that
// its root is that of our tree.
func (l *Ledger) engineHas(size uint64, root entry.Hash) error {
	head, err := l.seq.Head(l.ctx)
	if err != nil {
		return fmt.Errorf("engine: %w", err)
	}
	if head.Size < size {
		return fmt.Errorf("%w: the engine has %d entries of %d", ErrDamaged, head.Size, size)
	}
	if head.Size > size {
		// Its newest leaves are the next commit's, which only we add; the
		// replica has them too.
		if root, err = l.t.root(head.Size); err != nil {
			return fmt.Errorf("the engine has %d entries, %d are ours: %w", head.Size, size, err)
		}
	}
	if head.Root != root {
		return fmt.Errorf("%w: the engine has another root at size %d", ErrDamaged, head.Size)
	}
	return nil
}

// rehash appends the leaf hashes of entries up to size to r: leaves are made
// anew from cargo, and compared with those kept.
func (s *store) rehash(r *compact.Range, size uint64) error {
	from := r.End()
	leaves := make([][entry.LeafSize]byte, 0, size-from)
	err := s.scan(keyEntry, from, size, func(i uint64, v []byte) error {
		rec, err := parseRecord(v)
		if err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		leaf := rec.Leaf()
		leaves = append(leaves, leaf)
		return pushLeaf(r, &leaf)
	})
	if err != nil {
		return err
	}
	return s.scan(keyLeaf, from, size, func(i uint64, v []byte) error {
		if string(v) != string(leaves[i-from][:]) {
			return fmt.Errorf("%w: leaf %d is not that of its cargo", ErrDamaged, i)
		}
		return nil
	})
}

func raw(hs []entry.Hash) [][]byte {
	out := make([][]byte, len(hs))
	for i := range hs {
		out[i] = hs[i][:]
	}
	return out
}

// rotate begins a new journal segment and lets go of the ones before, once all
// that they hold is in the database's tables. At the end of a ledger it waits.
func (l *Ledger) rotate(wait bool) error {
	if !l.notes.rotating.CompareAndSwap(false, true) {
		return nil
	}
	// A note is journaled and stored under this lock: the flush has both or
	// the new segment has the record.
	l.notes.mu.Lock()
	segment, err := l.j.rotate()
	l.notes.mu.Unlock()
	if err != nil {
		return err
	}
	if err := l.s.markFlush(segment); err != nil {
		return err
	}
	flushed, err := l.s.db.AsyncFlush()
	if err != nil {
		return err
	}
	end := func() error {
		<-flushed
		defer l.notes.rotating.Store(false)
		if err := l.j.drop(segment); err != nil {
			return err
		}
		return l.s.dropMarks(segment)
	}
	if wait {
		return end()
	}
	l.wg.Add(1)
	go func() {
		defer l.wg.Done()
		if err := end(); err != nil {
			l.fail(err)
		}
	}()
	return nil
}
