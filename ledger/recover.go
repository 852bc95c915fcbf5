package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
	"github.com/cockroachdb/pebble/v2"
	"github.com/transparency-dev/merkle/compact"
)

const replayBatch = 1024

// recover brings the replica up to what engine and journal know, and finds out
// where signing and publishing stand. It runs alone, before the goroutines
// start, and takes the same path into the database as a commit does.
func (l *Ledger) recover(ctx context.Context) error {
	old, err := l.prepare()
	if err != nil {
		return err
	}
	others, err := l.askOthers(ctx)
	if err != nil {
		return err
	}
	if !l.replica() { // one that follows reads as far as notes reach: Advance
		if err := l.catchUp(ctx); err != nil {
			return err
		}
	}
	if l.s.unused, err = loadUnused(l.s, l.cfg.MaxUnused, l.cfg.MaxUnusedAll); err != nil {
		return err
	}
	signed, published, err := l.standing(ctx)
	if err != nil {
		return err
	}
	if err := others.check(); err != nil {
		return err
	}
	if err := l.restoreNotes(); err != nil { // before the journal's old segments go
		return err
	}
	if err := l.c.start(l.b.edge); err != nil {
		return err
	}
	return l.views(signed, published, old)
}

// attach takes the parts of an opened core.
func (l *Ledger) attach() {
	l.s, l.j, l.seq = l.c.s, l.c.j, l.cfg.Sequencer
	size := l.c.head.Size
	l.s.rows, l.s.known, l.s.filled = newRowCache(l.cfg.StateCache), newKeyFilter(idHashes, size), newKeyFilter(rowHashes(), size/2)
	if l.seq == nil {
		l.seq = l.c.engine
	}
}

// prepare makes ready to write after what the database has.
func (l *Ledger) prepare() (old version, err error) {
	l.t = &tree{load: l.s.tile}
	l.t.cache.init(l.cfg.CacheBytes)
	first := *l.c.edge
	l.t.snap.Store(&first)
	l.d = decider{s: l.s, app: l.cfg.App, rand: l.cfg.Rand, time: l.c.head.Time}
	l.b = builder{s: l.s, t: l.t, edge: l.c.edge, index: indexer{s: l.s, t: l.t, covers: l.c.head.Covers}}
	if err := l.s.db.Set(metaOrigin, []byte(l.cfg.Origin), pebble.NoSync); err != nil {
		return old, err
	}
	if old, err = l.buildIndex(l.c.head); err != nil {
		return old, err
	}
	if err := l.b.index.loadPending(); err != nil {
		return old, noSign(err, wayFsck, "the topics that no index commitment covers yet cannot be read from the database in %s", l.c.dbDir)
	}
	return old, nil
}

// version is the index as it was at the size of an older publication.
type version struct {
	covers uint64
	tree   *unitindex.Tree
}

// buildIndex makes the newest index from its rows, and, if less is published, the
// index as published beside it.
func (l *Ledger) buildIndex(head headRow) (old version, err error) {
	covers := head.Covers
	if latest, err := l.lastPublished(); err != nil {
		return old, err
	} else if latest.Size > 0 {
		covers = min(covers, latest.Size-1)
	}
	if newest, old, ok := l.savedIndex(head, covers); ok {
		l.b.index.tip, l.fromFile = newest, true
		return old, nil
	}
	var touched []entry.Hash
	var mu = make(chan struct{}, 1)
	at := &rows{s: l.s, t: l.t, covers: covers, newer: func(t entry.Hash) {
		mu <- struct{}{}
		touched = append(touched, t)
		<-mu
	}}
	old.covers = covers
	if old.tree, err = unitindex.Build(at); err != nil {
		return old, errors.Join(noSign(err, wayFsck, "the index rows cannot be read from the database in %s", l.c.dbDir), at.close())
	}
	now := &rows{s: l.s, t: l.t, covers: head.Covers}
	l.b.index.tip, err = old.tree.Rebase(now, touched, head.Topics)
	if err = errors.Join(err, at.close(), now.close()); err != nil {
		return old, noSign(err, wayFsck, "the index rows cannot be read from the database in %s", l.c.dbDir)
	}
	if head.Covers > 0 && l.b.index.tip.Root() != head.IndexRoot {
		return old, noSign(nil, wayFsck, "the index rows of the database in %s have another root than the commitment at entry %d", l.c.dbDir, head.Covers)
	}
	return old, nil
}

// lastPublished is the newest published checkpoint of journal or database.
func (l *Ledger) lastPublished() (checkpoint.Checkpoint, error) {
	b, err := l.s.get(metaLatest)
	if err != nil {
		return checkpoint.Checkpoint{}, noSign(err, wayFsck, "the newest published note cannot be read from the database in %s", l.c.dbDir)
	}
	cp, err := noteCheckpoint(b)
	if err != nil {
		return cp, noSign(err, wayFsck, "the newest published note in the database in %s is no checkpoint", l.c.dbDir)
	}
	for _, n := range l.c.hist.cosigned {
		other, err := noteCheckpoint(n)
		if err != nil {
			return cp, noSign(err, wayJournal, "a published note of the journal in %s is no checkpoint", l.c.jDir)
		}
		if other.Size > cp.Size {
			cp = other
		}
	}
	return cp, nil
}

// catchUp makes replica and engine hold the same entries.
func (l *Ledger) catchUp(ctx context.Context) error {
	head, err := l.seq.Head(ctx)
	if err != nil {
		return fmt.Errorf("engine: %w", err)
	}
	if head.Size < l.b.edge.size {
		if err := l.feed(ctx, head); err != nil {
			return err
		}
		return nil
	}
	if err := l.abandoned(ctx, head); err != nil {
		return err
	}
	for l.b.edge.size < head.Size {
		leaves, err := l.seq.Read(ctx, l.b.edge.size, int(min(head.Size-l.b.edge.size, replayBatch)))
		if err != nil || len(leaves) == 0 {
			return fmt.Errorf("engine: reading entry %d: %w", l.b.edge.size, err)
		}
		if err := l.replayAll(leaves); err != nil {
			return err
		}
	}
	if head.Size > 0 && l.b.edge.root() != head.Root {
		return noSign(nil, wayFsck, "the engine and the database in %s do not have the same tree at size %d", l.c.dbDir, head.Size)
	}
	return nil
}

// errAbandoned says that the replica ends in entries that its engine never took: this
// process ended before it had them, and another one has gone on without them. They were
// neither signed nor acknowledged.
var errAbandoned = errors.New("the engine has gone on without the last entries of this replica")

// abandoned compares the entries that replica and engine both have and that no
// checkpoint of ours covers. It is for engines that other processes write to.
func (l *Ledger) abandoned(ctx context.Context, head Head) error {
	if l.cfg.Sequencer == nil || l.cfg.Shared == nil {
		return nil
	}
	own, err := l.s.get(metaSigned)
	if err != nil {
		return err
	}
	mark, err := noteCheckpoint(newerNote(l.c.hist.signed, own))
	if err != nil {
		return noSign(err, wayJournal, "the newest checkpoint of the journal in %s is no checkpoint", l.c.jDir)
	}
	for at, both := mark.Size, min(head.Size, l.b.edge.size); at < both; {
		theirs, err := l.seq.Read(ctx, at, int(min(both-at, replayBatch)))
		if err != nil || len(theirs) == 0 {
			return fmt.Errorf("engine: reading entry %d: %w", at, err)
		}
		ours, err := l.s.leaves(at, len(theirs))
		if err != nil {
			return err
		}
		for i := range theirs {
			if theirs[i].Value != ours[i].Value {
				return fmt.Errorf("%w: from entry %d on", errAbandoned, at+uint64(i))
			}
		}
		at += uint64(len(theirs))
	}
	return nil
}

// anew builds the replica anew from the engine, because of why. What the journal says
// was signed holds for the new one as well: recover compares.
func (l *Ledger) anew(ctx context.Context, why error) (err error) {
	fs, dir := l.cfg.FS, l.c.dbDir
	l.cfg.Logf("ledger: %v; the replica in %s is built anew", why, dir)
	c := l.c
	l.c = nil
	if err := c.close(); err != nil {
		return err
	}
	aside := dir + ".aside"
	if err := errors.Join(fs.RemoveAll(aside), fs.Rename(dir, aside), syncDir(fs, l.cfg.Dir)); err != nil {
		return err
	}
	if l.c, err = openCore(&l.cfg, false, l.fail); err != nil {
		return err
	}
	l.fromFile = false
	l.attach()
	if err := l.recover(ctx); err != nil {
		return err
	}
	return fs.RemoveAll(aside)
}

// replayAll takes the next entries of the log in, commit by commit.
func (l *Ledger) replayAll(leaves []Leaf) error {
	for len(leaves) > 0 {
		n := 1 + slices.IndexFunc(leaves, func(l Leaf) bool { return l.Value[1] == byte(entry.Index) })
		if n == 0 {
			n = len(leaves)
		}
		if err := l.replay(leaves[:n]); err != nil {
			return err
		}
		leaves = leaves[n:]
	}
	return nil
}

// feed gives the engine what only the replica has: entries of a commit that a
// crash cut short. The embedded engine takes them with its next base record.
func (l *Ledger) feed(ctx context.Context, head Head) error {
	root, err := l.t.root(head.Size)
	if err != nil {
		return noSign(err, wayFsck, "the tree at size %d cannot be read from the database in %s", head.Size, l.c.dbDir)
	}
	if head.Size > 0 && root != head.Root {
		if err := l.abandoned(ctx, head); err != nil {
			return err
		}
		return noSign(nil, wayFsck, "the engine and the database in %s do not have the same tree at size %d", l.c.dbDir, head.Size)
	}
	if l.cfg.Sequencer == nil {
		return nil
	}
	mark, err := noteCheckpoint(l.c.hist.signed)
	if err != nil {
		return noSign(err, wayJournal, "the newest checkpoint of the journal in %s is no checkpoint", l.c.jDir)
	}
	if head.Size < mark.Size {
		return noSign(nil, wayEngine, "the engine has %d entries, a checkpoint of size %d was signed", head.Size, mark.Size)
	}
	for at := head.Size; at < l.b.edge.size; {
		n := int(min(l.b.edge.size-at, replayBatch))
		leaves, err := l.s.leaves(at, n)
		if err != nil {
			return err
		}
		if err := l.settle(at, leaves); err != nil {
			return err
		}
		at += uint64(n)
	}
	return nil
}

// replay takes entries that the engine holds into the replica: they are decided
// again, at the same index over the same state, and must come out the same.
func (l *Ledger) replay(leaves []Leaf) error {
	c, o := l.d.begin(l.b.edge.size, len(leaves))
	c.batch = l.b.batch(len(leaves))
	defer c.batch.Close()
	for i := range leaves {
		leaf := &leaves[i]
		at := c.first + uint64(i)
		e, err := entry.ParseCargo(leaf.Cargo)
		if err != nil || e.Leaf() != leaf.Value {
			return noSign(err, wayFsck, "the engine's cargo of entry %d does not match its leaf", at)
		}
		if e.Time < l.d.time {
			return noSign(nil, wayFsck, "time goes back at entry %d", at)
		}
		a := admitted{Entry: e, leaf: Leaf{ID: leaf.ID, Manifest: leaf.Manifest}}
		if leaf.Manifest != nil {
			a.manifest = sha256Sum(leaf.Manifest)
		}
		if e.Class == entry.Index {
			root, err := l.b.index.advance(c.batch, at)
			if err != nil {
				return noSign(err, wayFsck, "the index at entry %d", at)
			}
			if e.Covers != at || e.IndexRoot != root {
				return noSign(nil, wayVersion, "the index commitment at entry %d is not what the entries before it give", at)
			}
			c.index, c.tip = true, l.b.index.tip
		} else {
			if leaf.Manifest != nil {
				if err := c.batch.Set(keyHash(keyManifest, a.manifest), leaf.Manifest, nil); err != nil {
					return err
				}
			}
			out := l.d.app.Decide(o, At{Index: at, Time: e.Time}, Submission{ID: leaf.ID, Envelope: e.Envelope,
				Manifest: a.manifest, Contents: leaf.Manifest, Manifests: l.manifestIn(leaves[:i+1]), Replay: true})
			if o.err != nil {
				return o.err
			}
			if out.Refused != nil || out.Class != e.Class {
				return noSign(out.Refused, wayVersion, "entry %d was admitted, and is not any more", at)
			}
			o.accept()
			a.topics, a.effect = distinct(out.Topics), out.Effect
		}
		l.d.add(c, a)
		l.b.await(at, &c.entries[i])
	}
	if err := l.b.stage(c); err != nil {
		return err
	}
	return l.b.applyReplayed(c)
}

// applyReplayed makes a replayed commit visible. It is not synced: start flushes
// the database before it lets go of anything that could replay the commit again,
// and nothing is signed before; Advance syncs it before it publishes.
func (b *builder) applyReplayed(c *commit) error {
	if err := b.s.db.Apply(c.batch, pebble.NoSync); err != nil {
		return err
	}
	b.s.rows.putAll(c.state)
	b.t.snap.Store(c.edge)
	return nil
}

// standing finds the newest signed and the newest published checkpoint and
// checks them against our tree, and against what the witnesses hold (S3).
func (l *Ledger) standing(ctx context.Context) (signed, published []byte, err error) {
	own, err := l.s.get(metaSigned)
	if err != nil {
		return nil, nil, err
	}
	signed = newerNote(l.c.hist.signed, own)
	latest, err := l.s.get(metaLatest)
	if err != nil {
		return nil, nil, err
	}
	published = latest
	for _, n := range l.c.hist.cosigned {
		published = newerNote(n, published)
	}
	signed = newerNote(signed, published)
	for _, n := range [][]byte{signed, published} {
		if err := l.checkOurs(n, "the newest checkpoint in "+l.c.jDir+" and "+l.c.dbDir, true); err != nil {
			return nil, nil, err
		}
	}
	if published, err = l.takeShared(ctx, published); err != nil {
		return nil, nil, err
	}
	signed = newerNote(signed, published)
	l.j.signed, l.j.cosigned = signed, published
	if l.cfg.WitnessNotes == nil {
		return signed, published, nil
	}
	for _, n := range l.cfg.WitnessNotes(ctx) {
		if err := l.checkOurs(n, "a witness's checkpoint", false); err != nil {
			return nil, nil, err
		}
	}
	return signed, published, nil
}

// newerNote returns the note of the larger size, the first one if equal. Notes
// that do not parse count as none; checkOurs has refused them where it matters.
func newerNote(a, b []byte) []byte {
	x, _ := noteCheckpoint(a)
	y, _ := noteCheckpoint(b)
	if y.Size > x.Size || a == nil {
		return b
	}
	return a
}

// checkOurs refuses to go on if a note that this log signed is ahead of our
// entries or has another root. A note that we did not sign (a lying witness's)
// only alarms, unless it is our own record.
func (l *Ledger) checkOurs(note []byte, what string, own bool) error {
	if note == nil {
		return nil
	}
	n, err := checkpoint.ParseNote(note)
	var cp checkpoint.Checkpoint
	if err == nil {
		cp, err = checkpoint.ParseCheckpoint(n.Text)
	}
	if err == nil && cp.Origin != l.cfg.Origin {
		err = fmt.Errorf("it is of log %q", cp.Origin)
	}
	if err == nil {
		err = l.vkey.VerifyLog(n)
	}
	if err != nil && own {
		return noSign(err, wayOther, "%s is not signed by this log's key", what)
	}
	if err != nil {
		l.cfg.Logf("ledger: %s is not ours: %v", what, err)
		return nil
	}
	if cp.Size > l.b.edge.size {
		return noSign(nil, wayAhead, "%s has size %d, there are %d entries here: entries %d to %d are missing", what, cp.Size, l.b.edge.size, l.b.edge.size, cp.Size-1)
	}
	root, err := l.t.root(cp.Size)
	if err != nil {
		return noSign(err, wayFsck, "the tree at size %d cannot be read from the database in %s", cp.Size, l.c.dbDir)
	}
	if cp.Size > 0 && root != cp.Root {
		return noSign(nil, wayFork, "%s has the root %s at size %d, the entries here give %s", what, cp.Root, cp.Size, root)
	}
	return nil
}

// views sets what readers see, and where verifying goes on from.
func (l *Ledger) views(signed, published []byte, old version) error {
	empty := &View{l: l, index: new(unitindex.Tree)}
	l.signed.set(empty)
	l.published.set(empty)
	s, err := l.viewAt(signed, old)
	if err != nil {
		return err
	}
	p, err := l.viewAt(published, old)
	if err != nil {
		return err
	}
	if s != nil {
		l.signed.set(s)
		l.seal.size, l.seal.root = s.size, s.root
	}
	if p != nil {
		l.published.set(p)
		l.notes.floor = p.size
	}
	if l.cfg.Cosigner == nil && !l.replica() && s != nil && (p == nil || s.size > p.size) {
		// Witnesses were taken away: what is signed counts as published.
		if err := l.publish(s, s.logNote, true); err != nil {
			return err
		}
	}
	l.d.size = l.b.edge.size
	l.d.uncovered = l.d.size > 0 && (l.seal.size != l.d.size || l.b.index.covers+1 != l.d.size)
	l.durable.Store(l.b.edge.size)
	l.seal.verified, err = l.verifiedRange()
	return err
}

// verifiedRange is the compact range at the signed size: what was signed has
// been verified; what comes after has not.
func (l *Ledger) verifiedRange() (*compact.Range, error) {
	ids := compact.RangeNodes(0, l.seal.size, nil)
	hs := make([]entry.Hash, len(ids))
	for i, id := range ids {
		var err error
		if hs[i], err = l.t.node(id.Level, id.Index); err != nil {
			return nil, err
		}
	}
	return rangeOf(l.seal.size, hs)
}

// viewAt makes the view of one of our own notes; nil for none.
func (l *Ledger) viewAt(note []byte, old version) (*View, error) {
	cp, err := noteCheckpoint(note)
	if err != nil || cp.Size == 0 {
		return nil, err
	}
	e, err := l.s.record(cp.Size - 1)
	if err != nil {
		return nil, err
	}
	if e.Class != entry.Index || e.Covers != cp.Size-1 {
		return nil, noSign(nil, wayFsck, "the last entry below the checkpoint of size %d is no index commitment", cp.Size)
	}
	v := &View{l: l, size: cp.Size, root: cp.Root, covers: e.Covers, time: e.Time, note: note}
	if v.logNote = note; !l.replica() {
		if v.logNote, err = l.signNote(cp.Size, cp.Root); err != nil {
			return nil, err
		}
	}
	switch v.covers {
	case l.b.index.covers:
		v.index = l.b.index.tip
	case old.covers:
		v.index = old.tree
	default:
		at := &rows{s: l.s, t: l.t, covers: v.covers}
		v.index, err = unitindex.Build(at)
		if err = errors.Join(err, at.close()); err != nil {
			return nil, noSign(err, wayFsck, "the index at size %d cannot be read from the database in %s", v.size, l.c.dbDir)
		}
	}
	if v.index.Root() != e.IndexRoot {
		return nil, noSign(nil, wayFsck, "the index rows of the database in %s have another root than the commitment at entry %d", l.c.dbDir, v.covers)
	}
	return v, nil
}

// restoreNotes stores the journal's published notes again, as they need not have
// reached the database: receipts rest on the first note of a size. The newest note
// of the database stays where it is newer than the journal's.
func (l *Ledger) restoreNotes() (err error) {
	newest, err := l.s.get(metaLatest)
	if err != nil {
		return err
	}
	b := l.s.db.NewBatch()
	defer func() { err = errors.Join(err, b.Close()) }()
	first := map[uint64]bool{}
	for _, n := range l.c.hist.cosigned {
		cp, err := noteCheckpoint(n)
		if err != nil {
			return err
		}
		newest = newerNote(n, newest)
		known, err := l.s.get(keyU64(keyNote, cp.Size))
		if err != nil {
			return err
		}
		if known != nil || first[cp.Size] {
			continue
		}
		first[cp.Size] = true
		if err := b.Set(keyU64(keyNote, cp.Size), n, nil); err != nil {
			return err
		}
	}
	if newest == nil {
		return nil
	}
	if err := b.Set(metaLatest, newest, nil); err != nil {
		return err
	}
	return b.Commit(pebble.Sync)
}
