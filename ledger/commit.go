package ledger

import (
	"encoding/binary"
	"fmt"
	"time"

	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
	"github.com/cockroachdb/pebble/v2"
)

// item is one submission on its way through. The committer writes res and e;
// whoever appended reads them once the request is done.
type item struct {
	sub   Submission // copied: the caller may be gone
	known uint64     // size of the log when the ID was looked up, and not found
	res   Result
	e     entry.Entry // as logged; zero for a repeat
	hash  entry.Hash  // of e's leaf
	req   *request
}

// request is one call of Append: done is closed when all its items are durable
// or refused. left is counted down by the sealer.
type request struct {
	items []item
	left  int
	done  chan struct{}
}

// admitted is an entry on its way into the log.
type admitted struct {
	entry.Entry
	leaf     Leaf
	hash     entry.Hash
	topics   []entry.Hash
	effect   string
	manifest entry.Hash
}

// commit is one group commit: what goes into one Pebble batch and one journal
// write. The committer builds it, the sealer makes it durable.
type commit struct {
	first   uint64
	entries []admitted
	index   bool // the last entry is an index commitment
	tip     *unitindex.Tree
	head    headRow
	state   map[string][]byte
	batch   *pebble.Batch
	edge    *edge
	items   []*item
	forced  []chan error // calls of Tick that wait for this commit
}

// overlay is the State during one commit: the writes of the entries before,
// over the database, which already shows every earlier commit.
type overlay struct {
	s       *store
	done    map[string][]byte // of submissions accepted in this commit
	scratch []kv              // of the submission being decided
	place   map[string]int    // of a key in scratch, once there are many; else nil
	err     error             // first I/O error; nothing read after it counts
}

// fewWrites are found faster by looking at each than in a map: most statements
// write less, and one about a lot of 100,000 units as many rows.
const fewWrites = 16

type kv struct {
	key   string
	value []byte
}

// Get implements State.
func (o *overlay) Get(key string) []byte {
	if i, ok := o.find(key); ok {
		return o.scratch[i].value
	}
	if v, ok := o.done[key]; ok {
		return v
	}
	if v, ok := o.s.rows.use(key); ok {
		return v
	}
	row := stateKey(key)
	if !o.s.filled.mayHave(row[1:]) {
		return nil
	}
	v, err := o.s.get(row)
	if err != nil {
		if o.err == nil {
			o.err = err
		}
		return nil
	}
	o.s.rows.put(key, v)
	return v
}

// Set implements State.
func (o *overlay) Set(key string, value []byte) {
	if i, ok := o.find(key); ok {
		o.scratch[i].value = value
		return
	}
	switch n := len(o.scratch); {
	case o.place != nil:
		o.place[key] = n
	case n == fewWrites:
		o.place = make(map[string]int, 4*fewWrites)
		for i := range o.scratch {
			o.place[o.scratch[i].key] = i
		}
		o.place[key] = n
	}
	o.scratch = append(o.scratch, kv{key, value})
}

// find returns the place of a key in scratch.
func (o *overlay) find(key string) (int, bool) {
	if o.place != nil {
		i, ok := o.place[key]
		return i, ok
	}
	for i := range o.scratch {
		if o.scratch[i].key == key {
			return i, true
		}
	}
	return 0, false
}

func (o *overlay) accept() {
	for _, w := range o.scratch {
		o.done[w.key] = w.value
	}
	o.reset()
}

// reset forgets the writes of the submission being decided.
func (o *overlay) reset() {
	if o.scratch = o.scratch[:0]; cap(o.scratch) > 1<<10 { // nobody keeps what a lot needed
		o.scratch = nil
	}
	o.place = nil
}

// writer is what the committer alone owns: the newest, not yet durable state
// of the log.
type writer struct {
	s     *store
	t     *tree
	app   App
	rand  func([]byte) error
	edge  *edge
	index indexer
	time  uint64 // of the last entry
	// unsigned: the log ends with an index commitment that a crash kept from
	// being signed; the next one is due at once.
	unsigned bool
	ids      recentIDs
}

// recentIDs remembers the statements of the newest entries, so that the
// committer needs no database read for an ID that the caller has just looked up.
type recentIDs struct {
	base     uint64 // entries from here on are in old or cur
	mid      uint64 // entries from here on are in cur
	old, cur map[entry.Hash]idAt
}

type idAt struct {
	index  uint64
	effect string
}

const recentMax = 1 << 16

func (r *recentIDs) get(id entry.Hash) (idAt, bool) {
	if at, ok := r.cur[id]; ok {
		return at, true
	}
	at, ok := r.old[id]
	return at, ok
}

func (r *recentIDs) put(id entry.Hash, at idAt) {
	if r.cur == nil || len(r.cur) >= recentMax {
		r.base, r.mid = r.mid, at.index
		r.old, r.cur = r.cur, make(map[entry.Hash]idAt)
		if r.old == nil {
			r.base = at.index
		}
	}
	r.cur[id] = at
}

// begin starts a commit of up to n entries at the end of the log.
func (w *writer) begin(n int) (*commit, *overlay) {
	c := &commit{first: w.edge.size, state: map[string][]byte{}, entries: make([]admitted, 0, n+1),
		batch: w.s.db.NewBatchWithSize(min(n*batchBytes, maxBatchBytes), pebble.WithMaxRetainedSizeBytes(maxBatchBytes))}
	return c, &overlay{s: w.s, done: c.state}
}

// at is the place of the next entry of the commit.
func (w *writer) at(c *commit, now time.Time) At {
	return At{Index: c.first + uint64(len(c.entries)), Time: max(w.time, uint64(max(now.UnixMilli(), 0)))}
}

// repeated looks for the statement in the log and in this commit.
func (w *writer) repeated(it *item) (idAt, bool, error) {
	if at, ok := w.ids.get(it.sub.ID); ok {
		return at, true, nil
	}
	if w.ids.cur != nil && it.known >= w.ids.base || !w.s.known.mayHave(it.sub.ID[:]) {
		return idAt{}, false, nil
	}
	i, effect, ok, err := w.s.statement(it.sub.ID)
	return idAt{i, effect}, ok, err
}

// admit decides one submission at the next index. An error is a failure of the
// ledger; a refusal is in the item's result.
func (w *writer) admit(c *commit, o *overlay, it *item, now time.Time) error {
	it.res.ID = it.sub.ID
	first, again, err := w.repeated(it)
	if err != nil {
		return err
	}
	if again {
		it.res.Index, it.res.Effect, it.res.Repeat = first.index, first.effect, true
		return nil
	}
	at := w.at(c, now)
	var manifest []byte
	if !it.sub.Manifest.IsZero() {
		if manifest, err = w.s.manifest(it.sub.Manifest); err != nil {
			it.res.Err = err
			return nil
		}
		it.sub.Contents = manifest
	}
	it.sub.Manifests = w.s.manifest
	out := w.app.Decide(o, at, it.sub)
	if o.err != nil {
		return o.err
	}
	if out.Refused != nil {
		o.reset()
		it.res.Err = out.Refused
		return nil
	}
	if err := out.check(); err != nil {
		return err
	}
	o.accept()
	e := entry.Entry{Class: out.Class, Time: at.Time, Envelope: it.sub.Envelope}
	if out.Class == entry.Restricted {
		if err := w.rand(e.Salt[:]); err != nil {
			return fmt.Errorf("randomness for a salt: %w", err)
		}
	}
	w.add(c, admitted{Entry: e, leaf: Leaf{ID: it.sub.ID, Manifest: manifest}, topics: distinct(out.Topics),
		effect: out.Effect, manifest: it.sub.Manifest})
	it.e, it.hash = e, c.entries[len(c.entries)-1].hash
	it.res.Index, it.res.Time, it.res.Class, it.res.Effect = at.Index, at.Time, out.Class, out.Effect
	return nil
}

// check refuses an outcome that is not of the contract: a bug of the App.
func (o Outcome) check() error {
	if o.Class != entry.Public && o.Class != entry.Restricted {
		return fmt.Errorf("application decided on leaf class %d", o.Class)
	}
	if len(o.Effect) > maxEffect {
		return fmt.Errorf("application's effect has %d bytes, limit %d", len(o.Effect), maxEffect)
	}
	return nil
}

func distinct(topics []entry.Hash) []entry.Hash {
	for i := 1; i < len(topics); i++ {
		for j := range i {
			if topics[j] == topics[i] {
				return distinctMap(topics)
			}
		}
		if i > 16 {
			return distinctMap(topics)
		}
	}
	return topics
}

func distinctMap(topics []entry.Hash) []entry.Hash {
	seen := make(map[entry.Hash]struct{}, len(topics))
	out := make([]entry.Hash, 0, len(topics))
	for _, t := range topics {
		if _, dup := seen[t]; !dup {
			seen[t] = struct{}{}
			out = append(out, t)
		}
	}
	return out
}

// add puts an entry at the end of the commit; ID and manifest are set.
func (w *writer) add(c *commit, a admitted) {
	a.leaf.Value = a.Leaf()
	a.leaf.Cargo = a.Cargo()
	a.hash = entry.LeafHash(a.leaf.Value[:])
	if a.Class == entry.Index {
		a.leaf.ID = a.hash
	} else {
		w.ids.put(a.leaf.ID, idAt{c.first + uint64(len(c.entries)), a.effect})
		w.s.known.add(a.leaf.ID[:])
	}
	w.time = a.Time
	i := c.first + uint64(len(c.entries))
	for _, t := range a.topics {
		w.index.pending = append(w.index.pending, topicRef{t, unitindex.Ref{Index: i, Leaf: a.hash}})
	}
	c.entries = append(c.entries, a)
}

// commitIndex ends the commit with an index commitment over all before it.
func (w *writer) commitIndex(c *commit, now time.Time) error {
	at := w.at(c, now)
	root, err := w.index.advance(c.batch, at.Index)
	if err != nil {
		return err
	}
	w.add(c, admitted{Entry: entry.Entry{Class: entry.Index, Time: at.Time, Covers: at.Index, IndexRoot: root}})
	c.index, c.tip, w.unsigned = true, w.index.tip, false
	return nil
}

// stage fills the batch with everything but index rows, and grows the edge.
func (w *writer) stage(c *commit) error {
	var full []fullTile
	for i := range c.entries {
		full = append(full, w.edge.push(c.entries[i].hash)...)
	}
	b := c.batch
	for i := range c.entries {
		a := &c.entries[i]
		n := c.first + uint64(i)
		if err := stageLeaf(b, n, &a.leaf, a.manifest); err != nil {
			return err
		}
		if a.Class == entry.Index {
			continue
		}
		if !a.manifest.IsZero() {
			if err := b.Delete(keyHash(keyUnused, a.manifest), nil); err != nil {
				return err
			}
		}
		if err := stageID(b, a.leaf.ID, n, a.effect); err != nil {
			return err
		}
	}
	if err := stageTiles(b, full); err != nil {
		return err
	}
	for k, v := range c.state {
		if err := stageState(b, k, v); err != nil {
			return err
		}
		w.s.filled.add([]byte(k))
	}
	if !c.index && len(w.index.pending) > 0 {
		if err := w.stageTopics(c); err != nil {
			return err
		}
	}
	c.head = headRow{Size: w.edge.size, Root: w.edge.root(), Time: w.time,
		Covers: w.index.covers, IndexRoot: w.index.tip.Root(), Topics: w.index.tip.Len(),
		Waiting: uint64(len(w.index.pending)), Counted: true}
	for _, f := range full {
		w.t.cache.put(f.id, f.t)
	}
	snap := *w.edge
	c.edge = &snap
	return b.Set(metaHead, c.head.marshal(), nil)
}

// batchBytes is about what an entry brings into a batch, in bytes, so that the batch
// need not be moved while it grows.
const (
	batchBytes    = 3 << 10
	maxBatchBytes = 4 << 20 // set aside beforehand, and kept for the next batch
)

func stageLeaf(b *pebble.Batch, n uint64, l *Leaf, manifest entry.Hash) error {
	leaf := b.SetDeferred(9, len(l.Value))
	putU64(leaf.Key, keyLeaf, n)
	copy(leaf.Value, l.Value[:])
	if err := leaf.Finish(); err != nil {
		return err
	}
	row := b.SetDeferred(9, recordLen(l.Cargo, manifest))
	putU64(row.Key, keyEntry, n)
	putRecord(row.Value, l.Cargo, manifest)
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
func (w *writer) stageTopics(c *commit) error {
	at := len(w.index.pending)
	for at > 0 && w.index.pending[at-1].ref.Index >= c.first {
		at--
	}
	add := w.index.pending[at:]
	if len(add) == 0 {
		return nil
	}
	key := keyU64(keyUncov, c.first)
	w.index.uncov = append(w.index.uncov, key)
	return c.batch.Set(key, encodeTopics(c.first, add), nil)
}

// apply makes the commit visible to the next one. It is durable only when the
// batch's SyncWait has returned.
func (w *writer) apply(c *commit) error {
	if err := w.s.db.ApplyNoSyncWait(c.batch, pebble.Sync); err != nil {
		return err
	}
	w.s.rows.putAll(c.state)
	w.s.unused.named(c.entries)
	w.t.snap.Store(c.edge)
	return nil
}
