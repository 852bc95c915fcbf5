package ledger

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"

	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
	"github.com/cockroachdb/pebble/v2"
)

// builder is what the building goroutine alone owns: the newest, not yet durable log.
type builder struct {
	s     *store
	t     *tree
	edge  *edge
	index indexer
}

// buildLoop is the builder: commits get their rows, their index commitment and their
// place in the tree here, in their order, while the committer decides the next one. After
// a failure it only hands them on.
func (l *Ledger) buildLoop() {
	defer l.wg.Done()
	defer close(l.built)
	for c := range l.decided {
		if l.Err() == nil && (c.index || len(c.entries) > 0) {
			if err := l.b.build(c); err != nil { // the batch may be Pebble's by now: it is not used again
				l.fail(err)
			}
		}
		l.s.unused.naming.RUnlock()
		l.built <- c
	}
}

// build makes a commit and shows it to readers of the database.
func (b *builder) build(c *commit) error {
	c.batch = b.batch(len(c.entries))
	for i := range c.entries {
		b.await(c.first+uint64(i), &c.entries[i])
	}
	if c.index {
		if err := b.commitIndex(c); err != nil {
			return err
		}
	}
	if err := b.stage(c); err != nil {
		return err
	}
	return b.apply(c)
}

// batch makes the batch of a commit of n entries.
func (b *builder) batch(n int) *pebble.Batch {
	return b.s.db.NewBatchWithSize(min(n*batchBytes, maxBatchBytes), pebble.WithMaxRetainedSizeBytes(maxBatchBytes))
}

// await has the topics of entry n wait for the next index commitment.
func (b *builder) await(n uint64, a *admitted) {
	for _, t := range a.topics {
		b.index.pending = append(b.index.pending, topicRef{t, unitindex.Ref{Index: n, Leaf: a.hash}})
	}
}

// commitIndex ends the commit with an index commitment over all before it.
func (b *builder) commitIndex(c *commit) error {
	covers := c.first + uint64(len(c.entries))
	root, err := b.index.advance(c.batch, covers)
	if err != nil {
		return err
	}
	a := admitted{Entry: entry.Entry{Class: entry.Index, Time: c.time, Covers: covers, IndexRoot: root}}
	a.fill()
	c.entries, c.tip = append(c.entries, a), b.index.tip
	return nil
}

// stage fills the batch with everything but index rows, and grows the edge.
func (b *builder) stage(c *commit) error {
	var full []fullTile
	for i := range c.entries {
		full = append(full, b.edge.push(c.entries[i].hash)...)
	}
	if err := stageEntries(c); err != nil {
		return err
	}
	if err := stageTiles(c.batch, full); err != nil {
		return err
	}
	for _, k := range slices.Sorted(maps.Keys(c.state)) {
		if err := stageState(c.batch, k, c.state[k]); err != nil {
			return err
		}
		b.s.filled.add([]byte(k))
	}
	if !c.index && len(b.index.pending) > 0 {
		if err := b.stageTopics(c); err != nil {
			return err
		}
	}
	c.head = headRow{Size: b.edge.size, Root: b.edge.root(), Time: c.entries[len(c.entries)-1].Time,
		Covers: b.index.covers, IndexRoot: b.index.tip.Root(), Topics: b.index.tip.Len(),
		Waiting: uint64(len(b.index.pending)), Counted: true}
	for _, f := range full {
		b.t.cache.put(f.id, f.t)
	}
	snap := *b.edge
	c.edge = &snap
	return c.batch.Set(metaHead, c.head.marshal(), nil)
}

// batchBytes is about what an entry brings into a batch, in bytes, so that the batch
// need not be moved while it grows.
const (
	batchBytes    = 3 << 10
	maxBatchBytes = 4 << 20 // set aside beforehand, and kept for the next batch
)

// stageEntries fills in the rows of entries, one key space after the other and each in the
// order of its keys: a memtable then finds the place of a key beside the one before.
func stageEntries(c *commit) error {
	for i := range c.entries {
		if err := stageLeaf(c.batch, c.first+uint64(i), &c.entries[i].leaf); err != nil {
			return err
		}
	}
	byID := make([]int, 0, len(c.entries))
	for i := range c.entries {
		a := &c.entries[i]
		if err := stageRecord(c.batch, c.first+uint64(i), a.leaf.Cargo, a.manifest); err != nil {
			return err
		}
		if a.Class == entry.Index {
			continue
		}
		byID = append(byID, i)
	}
	for _, i := range byID {
		if a := &c.entries[i]; !a.manifest.IsZero() {
			if err := c.batch.Delete(keyHash(keyUnused, a.manifest), nil); err != nil {
				return err
			}
		}
	}
	slices.SortFunc(byID, func(i, j int) int {
		return bytes.Compare(c.entries[i].leaf.ID[:], c.entries[j].leaf.ID[:])
	})
	for _, i := range byID {
		if err := stageID(c.batch, c.entries[i].leaf.ID, c.first+uint64(i), c.entries[i].effect); err != nil {
			return err
		}
	}
	return nil
}

func stageLeaf(b *pebble.Batch, n uint64, l *Leaf) error {
	row := b.SetDeferred(9, len(l.Value))
	putU64(row.Key, keyLeaf, n)
	copy(row.Value, l.Value[:])
	return row.Finish()
}

func stageRecord(b *pebble.Batch, n uint64, cargo []byte, manifest entry.Hash) error {
	row := b.SetDeferred(9, recordLen(cargo, manifest))
	putU64(row.Key, keyEntry, n)
	putRecord(row.Value, cargo, manifest)
	return row.Finish()
}

func putU64(key []byte, space byte, n uint64) {
	key[0] = space
	binary.BigEndian.PutUint64(key[1:], n)
}

// stageID fills in the row of a statement's ID.
func stageID(b *pebble.Batch, id entry.Hash, n uint64, effect string) error {
	row := b.SetDeferred(1+len(id), 8+len(effect))
	row.Key[0] = keyID
	copy(row.Key[1:], id[:])
	binary.BigEndian.PutUint64(row.Value, n)
	copy(row.Value[8:], effect)
	return row.Finish()
}

func stageTiles(b *pebble.Batch, full []fullTile) error {
	for _, f := range full {
		if err := b.Set(tileKey(f.id), f.t.bytes(tileWidth), nil); err != nil {
			return err
		}
	}
	return nil
}

func stageState(b *pebble.Batch, k string, v []byte) error {
	if v == nil {
		return b.Delete(stateKey(k), nil)
	}
	row := b.SetDeferred(1+len(k), len(v))
	row.Key[0] = keyState
	copy(row.Key[1:], k)
	copy(row.Value, v)
	return row.Finish()
}

// stageTopics keeps the topics of a commit without index commitment, for a
// restart before the next one.
func (b *builder) stageTopics(c *commit) error {
	at := len(b.index.pending)
	for at > 0 && b.index.pending[at-1].ref.Index >= c.first {
		at--
	}
	add := b.index.pending[at:]
	if len(add) == 0 {
		return nil
	}
	key := keyU64(keyUncov, c.first)
	b.index.uncov = append(b.index.uncov, key)
	return c.batch.Set(key, encodeTopics(c.first, add), nil)
}

// apply makes the commit visible to the next one. It is durable only when the
// batch's SyncWait has returned.
func (b *builder) apply(c *commit) error {
	if err := b.s.db.ApplyNoSyncWait(c.batch, pebble.Sync); err != nil {
		return err
	}
	b.s.rows.putAll(c.state)
	b.s.unused.named(c.entries)
	b.t.snap.Store(c.edge)
	c.visible.Store(true)
	return nil
}
