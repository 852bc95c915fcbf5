package ledger

import (
	"fmt"
	"sync/atomic"
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

// fill computes what follows from the entry.
func (a *admitted) fill() {
	a.leaf.Value = a.Leaf()
	a.leaf.Cargo = a.Cargo()
	a.hash = entry.LeafHash(a.leaf.Value[:])
	if a.Class == entry.Index {
		a.leaf.ID = a.hash
	}
}

// commit is one group commit: what goes into one Pebble batch and one journal
// write. The committer decides it, the builder builds it, the sealer makes it durable.
type commit struct {
	first   uint64
	items   []*item
	forced  []chan error // calls of Tick that wait for this commit
	entries []admitted
	*writes
	index bool   // the last entry is an index commitment, which the builder adds
	time  uint64 // of that

	// Of the builder:
	tip   *unitindex.Tree
	head  headRow
	batch *pebble.Batch
	edge  *edge
}

// writes are what a commit writes to the application's state.
type writes struct {
	state   map[string][]byte // not changed once the commit is decided
	visible atomic.Bool       // in the database
}

// overlay is the State during one commit: the writes of the entries before, over those of
// the commits that are still being built, over the database, which shows all others.
type overlay struct {
	s       *store
	ahead   []*writes
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
	for i := len(o.ahead) - 1; i >= 0; i-- {
		if v, ok := o.ahead[i].state[key]; ok {
			return v
		}
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

// decider is what the committer alone owns: the log as it will be once all that is decided
// is in it.
type decider struct {
	s    *store
	app  App
	rand func([]byte) error
	size uint64 // entries
	time uint64 // of the last one
	// uncovered: entries wait for an index commitment that is signed. At a start that
	// may be an index commitment itself, which a crash kept from being signed.
	uncovered bool
	ids       recentIDs
	ahead     []*writes // of commits that are decided and perhaps not built, in their order
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
		r.old, r.cur = r.cur, make(map[entry.Hash]idAt, recentMax)
		if r.old == nil {
			r.base = at.index
		}
	}
	r.cur[id] = at
}

// begin starts a commit of up to n entries at the end of the log, which has first.
func (d *decider) begin(first uint64, n int) (*commit, *overlay) {
	for len(d.ahead) > 0 && d.ahead[0].visible.Load() { // from the front: none is looked up over a later one
		d.ahead[0] = nil
		d.ahead = d.ahead[1:]
	}
	c := &commit{first: first, writes: &writes{state: make(map[string][]byte, 2*n)}, entries: make([]admitted, 0, n+1)}
	return c, &overlay{s: d.s, ahead: d.ahead, done: c.state}
}

// end decides how a commit ends: with an index commitment, or without. What follows is
// decided as if it was in the log.
func (d *decider) end(c *commit, index bool, now time.Time) {
	d.size = c.first + uint64(len(c.entries))
	if d.uncovered = d.uncovered || len(c.entries) > 0; index {
		c.index, c.time = true, d.at(c, now).Time
		d.size, d.time, d.uncovered = d.size+1, c.time, false
	}
	if len(c.state) > 0 {
		d.ahead = append(d.ahead, c.writes)
	}
}

// at is the place of the next entry of the commit.
func (d *decider) at(c *commit, now time.Time) At {
	return At{Index: c.first + uint64(len(c.entries)), Time: max(d.time, uint64(max(now.UnixMilli(), 0)))}
}

// repeated looks for the statement in the log and in this commit.
func (d *decider) repeated(it *item) (idAt, bool, error) {
	if at, ok := d.ids.get(it.sub.ID); ok {
		return at, true, nil
	}
	if d.ids.cur != nil && it.known >= d.ids.base || !d.s.known.mayHave(it.sub.ID[:]) {
		return idAt{}, false, nil
	}
	i, effect, ok, err := d.s.statement(it.sub.ID)
	return idAt{i, effect}, ok, err
}

// admit decides one submission at the next index. An error is a failure of the
// ledger; a refusal is in the item's result.
func (d *decider) admit(c *commit, o *overlay, it *item, now time.Time) error {
	it.res.ID = it.sub.ID
	first, again, err := d.repeated(it)
	if err != nil {
		return err
	}
	if again {
		it.res.Index, it.res.Effect, it.res.Repeat = first.index, first.effect, true
		return nil
	}
	at := d.at(c, now)
	var manifest []byte
	if !it.sub.Manifest.IsZero() {
		if manifest, err = d.s.manifest(it.sub.Manifest); err != nil {
			it.res.Err = err
			return nil
		}
		it.sub.Contents = manifest
	}
	it.sub.Manifests = d.s.manifest
	out := d.app.Decide(o, at, it.sub)
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
		if err := d.rand(e.Salt[:]); err != nil {
			return fmt.Errorf("randomness for a salt: %w", err)
		}
	}
	d.add(c, admitted{Entry: e, leaf: Leaf{ID: it.sub.ID, Manifest: manifest}, topics: distinct(out.Topics),
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
func (d *decider) add(c *commit, a admitted) {
	a.fill()
	if a.Class != entry.Index {
		d.ids.put(a.leaf.ID, idAt{c.first + uint64(len(c.entries)), a.effect})
		d.s.known.add(a.leaf.ID[:])
	}
	d.time = a.Time
	c.entries = append(c.entries, a)
}
