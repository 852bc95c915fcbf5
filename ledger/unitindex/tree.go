package unitindex

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"fabtrail.dev/fabtrail/ledger/entry"
)

const (
	// bucketMax is the number of topics above which a bucket is split; random
	// topics then fill buckets with 0.69 of it, five or six.
	bucketMax = 8

	// forkMin is the number of changes on each side that is worth a goroutine.
	forkMin = 32
)

// Rows gives the topics of a tree and their values, sorted by topic.
type Rows interface {
	// Scan calls fn for every topic whose first bits bits (0 to 256) are those
	// of prefix, in ascending order, and stops at the first error, which it
	// returns. Bits of prefix after the first are zero, so prefix is also the
	// lower bound of the range.
	//
	// Scan is called by several goroutines at once; each of them mostly asks for
	// ascending ranges, so a pool of iterators that seek forward serves well.
	Scan(prefix entry.Hash, bits int, fn func(topic, value entry.Hash) error) error
}

// Change sets the value of a topic that may or may not be in the tree yet.
type Change struct {
	Topic, Value entry.Hash
}

// ErrRows is wrapped when rows are not those that the tree was made of: the
// store is damaged or behind. Nothing may be signed or served from them.
var ErrRows = errors.New("index rows do not match the tree in memory")

// RowsError says where rows and tree differ. It wraps ErrRows.
type RowsError struct {
	Prefix entry.Hash // of the bucket
	Bits   int        // length of Prefix
	Reason string
}

func (e *RowsError) Error() string {
	return fmt.Sprintf("%v: %s under prefix %x/%d", ErrRows, e.Reason, e.Prefix[:(e.Bits+7)/8], e.Bits)
}

// Unwrap returns ErrRows.
func (e *RowsError) Unwrap() error { return ErrRows }

// Tree is one version of the index tree. It is immutable and safe for
// concurrent use; versions share what they have in common and are freed by the
// garbage collector. The zero Tree is empty.
//
// A Tree goes with rows: those passed to its methods must show the topics and
// values of that very version (a snapshot, or newer rows under an overlay of
// undo records).
type Tree struct {
	top slot
	n   uint64
}

// node is an inner node at depth d: of the topics that share the d bits that
// lead to it, child 0 holds those with 0 at bit d. Unlike in the hashed tree no
// bit is skipped: where one side has no topics, the hash passes through, so
// neither a bit position nor a prefix has to be kept. A child without a node is
// a page, a bucket, or nothing if its hash is zero. 112 bytes, one of Go's size
// classes.
type node struct {
	hash  [2]entry.Hash
	child [2]*node
	page  [2]page
}

// slot is a subtree: a node, a page, a bucket, or nothing (hash zero).
type slot struct {
	hash entry.Hash
	node *node
	page page
}

func (n *node) slot(side int) slot { return slot{n.hash[side], n.child[side], n.page[side]} }

func (n *node) set(side int, s slot) {
	n.hash[side], n.child[side], n.page[side] = s.hash, s.node, s.page
}

// bucketDepth is the number of bits that lead from s, at depth, to the bucket of
// topic.
func (s slot) bucketDepth(topic *entry.Hash, depth int) int {
	pg := s.page
	for n := s.node; n != nil; depth++ {
		side := bit(topic, depth)
		n, pg = n.child[side], n.page[side]
	}
	if pg == "" {
		return depth
	}
	for i := 0; pg.tag(i) == tagNode; depth++ {
		i = pg.child(i, bit(topic, depth))
	}
	return depth
}

// up is the slot of a node at depth; a node without topics is dropped.
func (n *node) up(depth int) slot {
	h := parted(depth, &n.hash[0], &n.hash[1])
	if h.IsZero() {
		return slot{}
	}
	return slot{hash: h, node: n}
}

// Root is the root that an index commitment carries.
func (t *Tree) Root() entry.Hash {
	if t.top.hash.IsZero() {
		return emptyRoot
	}
	return t.top.hash
}

// Len is the number of topics.
func (t *Tree) Len() uint64 { return t.n }

// Update returns the tree with the changes made. rows holds the topics and
// values of t, before the changes: each bucket that changes is read, checked
// against t, and hashed anew with the changes laid over it, so damaged rows
// cannot slip into a new root. They yield a *RowsError, and t stays good.
// A topic may be changed once; the order of changes has no bearing on the
// result, nor has the number of processors.
func (t *Tree) Update(rows Rows, changed []Change) (*Tree, error) {
	leaves := make([]leaf, len(changed))
	for i, c := range changed {
		leaves[i] = leaf{topic: c.Topic, value: c.Value}
	}
	if err := sortLeaves(leaves); err != nil {
		return nil, err
	}
	return t.pass(&pass{open: func() (Grower, error) { return scanner{rows}, nil }}, leaves)
}

// Rebase returns the tree of other rows, which differ from those of t at most
// in the given topics: added, changed or, when going back to an earlier
// version, gone. n is the number of topics in rows. Buckets are taken as they
// are read, so the caller compares the root with the one that was committed.
func (t *Tree) Rebase(rows Rows, touched []entry.Hash, n uint64) (*Tree, error) {
	leaves := make([]leaf, len(touched))
	for i := range touched {
		leaves[i].topic = touched[i]
	}
	slices.SortFunc(leaves, compareLeaves)
	leaves = slices.CompactFunc(leaves, func(a, b leaf) bool { return a.topic == b.topic })
	out, err := t.pass(&pass{rows: rows, mode: reread}, leaves)
	if err != nil {
		return nil, err
	}
	out.n = n
	return out, nil
}

func (t *Tree) pass(p *pass, leaves []leaf) (*Tree, error) {
	p.tokens = make(chan struct{}, runtime.GOMAXPROCS(0)-1)
	p.end = cap(leaves)
	top, added, err := p.apply(new(worker), t.top, entry.Hash{}, 0, leaves)
	if err != nil {
		return nil, err
	}
	return &Tree{top: top, n: t.n + uint64(added)}, nil
}

// leaf is a topic on its way into a tree; hash is filled in at its bucket.
type leaf struct {
	topic, value, hash entry.Hash
}

func compareLeaves(a, b leaf) int { return bytes.Compare(a.topic[:], b.topic[:]) }

func sortLeaves(leaves []leaf) error {
	slices.SortFunc(leaves, compareLeaves)
	for i := 1; i < len(leaves); i++ {
		if leaves[i].topic == leaves[i-1].topic {
			return fmt.Errorf("topic %s is changed twice in one update", leaves[i].topic)
		}
	}
	return nil
}

// mode says what becomes of a bucket that a pass reaches.
type mode int

const (
	overlay mode = iota // a Grower shows the old contents: check, then lay the changes over
	reread              // rows are the new contents: take them; changes only say where
	replace             // changes are the new contents; there are no rows
)

// pass is one run of changes through a tree.
type pass struct {
	mode   mode
	rows   Rows                   // of reread
	open   func() (Grower, error) // of overlay
	tokens chan struct{}          // one per goroutine beside the caller's
	end    int                    // capacity of all changes, which tells the place of some among them
}

// worker holds the buffers of one goroutine.
type worker struct {
	grower Grower // of overlay, once it is needed
	at     Bucket
	old    []leaf
	merged []leaf
	out    builder
}

// apply runs the sorted, non-empty changes, all under prefix, through s. It
// returns the new slot and by how many topics it has grown.
func (p *pass) apply(w *worker, s slot, prefix entry.Hash, depth int, changes []leaf) (slot, int, error) {
	if len(changes) == 0 {
		return s, 0, nil
	}
	if s.node == nil {
		w.out.reset()
		var made part
		var added int
		var err error
		if s.page == "" {
			made, added, err = p.bucket(w, s.hash, prefix, depth, changes)
		} else {
			made, added, err = p.page(w, s.page, 0, prefix, depth, changes)
		}
		if err != nil {
			return slot{}, 0, err
		}
		return w.out.slot(made), added, nil
	}
	n := new(node)
	*n = *s.node
	m := split(changes, depth)
	left, right := changes[:m], changes[m:]
	var added [2]int
	var errs [2]error
	if p.fork(left, right) {
		added, errs = p.forked(w, n, prefix, depth, left, right)
	} else {
		added[0], errs[0] = p.side(w, n, 0, prefix, depth, left)
		if errs[0] == nil {
			added[1], errs[1] = p.side(w, n, 1, setBit(prefix, depth), depth, right)
		}
	}
	for _, err := range errs {
		if err != nil {
			return slot{}, 0, err
		}
	}
	return n.up(depth), added[0] + added[1], nil
}

// side replaces one child of n, a node at depth that is not shared yet.
func (p *pass) side(w *worker, n *node, side int, prefix entry.Hash, depth int, changes []leaf) (int, error) {
	s, added, err := p.apply(w, n.slot(side), prefix, depth+1, changes)
	n.set(side, s)
	return added, err
}

// page is apply for slot i of a page; the new subtree goes to the worker's builder.
func (p *pass) page(w *worker, pg page, i int, prefix entry.Hash, depth int, changes []leaf) (part, int, error) {
	if len(changes) == 0 {
		return w.out.copy(pg, i), 0, nil
	}
	if pg.tag(i) != tagNode {
		return p.bucket(w, pg.hash(i), prefix, depth, changes)
	}
	m := split(changes, depth)
	at := w.out.open()
	left, more, err := p.page(w, pg, pg.child(i, 0), prefix, depth+1, changes[:m])
	if err != nil {
		return part{}, 0, err
	}
	right, still, err := p.page(w, pg, pg.child(i, 1), setBit(prefix, depth), depth+1, changes[m:])
	if err != nil {
		return part{}, 0, err
	}
	return w.out.join(at, depth, left, right), more + still, nil
}

// forked is side for both children at once; of two errors the left one counts,
// whichever came first.
func (p *pass) forked(w *worker, n *node, prefix entry.Hash, depth int, left, right []leaf) (added [2]int, errs [2]error) {
	var wg sync.WaitGroup
	wg.Go(func() {
		added[1], errs[1] = p.side(new(worker), n, 1, setBit(prefix, depth), depth, right)
		<-p.tokens
	})
	added[0], errs[0] = p.side(w, n, 0, prefix, depth, left)
	wg.Wait()
	return added, errs
}

// fork takes a token if both parts are worth a goroutine.
func (p *pass) fork(left, right []leaf) bool {
	if len(left) < forkMin || len(right) < forkMin {
		return false
	}
	select {
	case p.tokens <- struct{}{}:
		return true
	default:
		return false
	}
}

// bucket adds what becomes of a bucket to the worker's builder.
func (p *pass) bucket(w *worker, hash, prefix entry.Hash, depth int, changes []leaf) (part, int, error) {
	var err error
	switch p.mode {
	case reread:
		if w.old, err = scan(p.rows, prefix, depth, w.old[:0]); err != nil {
			return part{}, 0, err
		}
		hashLeaves(w.old)
		return w.out.grow(w.old, depth), 0, nil
	case overlay:
		if err = p.grow(w, hash, prefix, depth, changes); err != nil {
			return part{}, 0, err
		}
	}
	hashLeaves(changes)
	if p.mode == replace || hash.IsZero() {
		return w.out.grow(changes, depth), len(changes), nil
	}
	old := w.at.old
	hashLeaves(old)
	before, after, added := both(old, changes)
	if before != hash {
		return part{}, 0, &RowsError{prefix, depth, fmt.Sprintf("%d rows with another hash", len(old))}
	}
	if len(old)+added <= bucketMax {
		return w.out.bucket(after), added, nil
	}
	w.merged = merge(w.merged[:0], old, changes)
	return w.out.grow(w.merged, depth), added, nil
}

// grow has the worker's Grower read a bucket and make the values of its changes.
func (p *pass) grow(w *worker, hash, prefix entry.Hash, depth int, changes []leaf) (err error) {
	if w.grower == nil {
		if w.grower, err = p.open(); err != nil {
			return err
		}
	}
	from := p.end - cap(changes)
	w.at = Bucket{Prefix: prefix, Bits: depth, New: hash.IsZero(), From: from, To: from + len(changes), old: w.at.old[:0], changes: changes}
	return w.grower.Grow(&w.at)
}

// both returns the hashes of the trees of old and of old with changes laid over
// it, zero for an empty tree, and how many topics changes add. What they have
// in common is hashed once.
func both(old, changes []leaf) (before, after entry.Hash, added int) {
	switch {
	case len(changes) == 0:
		if len(old) > 0 {
			before = subtree(old)
		}
		return before, before, 0
	case len(old) == 0:
		return before, subtree(changes), len(changes)
	}
	first, last := &old[0].topic, &old[len(old)-1].topic
	if t := &changes[0].topic; bytes.Compare(t[:], first[:]) < 0 {
		first = t
	}
	if t := &changes[len(changes)-1].topic; bytes.Compare(t[:], last[:]) > 0 {
		last = t
	}
	p := commonBits(first, last)
	if p == topicBits { // one topic, in both
		return old[0].hash, changes[0].hash, 0
	}
	mo, mc := split(old, p), split(changes, p)
	leftBefore, leftAfter, leftAdded := both(old[:mo], changes[:mc])
	rightBefore, rightAfter, rightAdded := both(old[mo:], changes[mc:])
	return parted(p, &leftBefore, &rightBefore), parted(p, &leftAfter, &rightAfter), leftAdded + rightAdded
}

// parted is the tree of two subtrees, of which either may be empty (zero).
func parted(p int, left, right *entry.Hash) entry.Hash {
	switch {
	case left.IsZero():
		return *right
	case right.IsZero():
		return *left
	}
	return hashInner(p, left, right)
}

// scan appends the rows under prefix, refusing what is out of order or place.
func scan(rows Rows, prefix entry.Hash, depth int, into []leaf) ([]leaf, error) {
	err := rows.Scan(prefix, depth, func(topic, value entry.Hash) error {
		if err := follows(into, &topic, &prefix, depth); err != nil {
			return err
		}
		into = append(into, leaf{topic: topic, value: value})
		return nil
	})
	return into, err
}

// follows refuses a row that is not under prefix or not above the last of ls.
func follows(ls []leaf, topic, prefix *entry.Hash, depth int) error {
	if commonBits(topic, prefix) < depth {
		return &RowsError{*prefix, depth, "a row of another prefix"}
	}
	if k := len(ls); k > 0 && bytes.Compare(ls[k-1].topic[:], topic[:]) >= 0 {
		return &RowsError{*prefix, depth, "rows are out of order"}
	}
	return nil
}

func hashLeaves(ls []leaf) {
	for i := range ls {
		ls[i].hash = hashLeaf(&ls[i].topic, &ls[i].value)
	}
}

// merge appends the union of two sorted lists; changes win.
func merge(into, old, changes []leaf) []leaf {
	for len(old) > 0 && len(changes) > 0 {
		switch c := compareLeaves(old[0], changes[0]); {
		case c < 0:
			into, old = append(into, old[0]), old[1:]
		case c == 0:
			old = old[1:]
		default:
			into, changes = append(into, changes[0]), changes[1:]
		}
	}
	return append(append(into, old...), changes...)
}

// split returns the index of the first leaf with bit p set; leaves are sorted
// and share all bits before p.
func split(ls []leaf, p int) int {
	lo, hi := 0, len(ls)
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		if bit(&ls[m].topic, p) == 0 {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo
}

// parting is the first bit at which the sorted leaves (two or more) differ.
func parting(ls []leaf) int { return commonBits(&ls[0].topic, &ls[len(ls)-1].topic) }

// subtree is the hash of the tree of one or more sorted leaves.
func subtree(ls []leaf) entry.Hash {
	if len(ls) == 1 {
		return ls[0].hash
	}
	p := parting(ls)
	m := split(ls, p)
	left, right := subtree(ls[:m]), subtree(ls[m:])
	return hashInner(p, &left, &right)
}

// Prove makes the proof for topic, present or absent. rows holds the topics and
// values of t; a bucket that does not match t yields a *RowsError, never a
// proof that does not verify.
func (t *Tree) Prove(rows Rows, topic entry.Hash) (Proof, error) {
	if t.top.hash.IsZero() {
		return Proof{Kind: Empty}, nil
	}
	p := Proof{Siblings: make([]entry.Hash, 0, 32)}
	var prefix entry.Hash
	s, depth := t.top, 0
	for ; s.node != nil; depth++ {
		side := p.turn(&topic, &prefix, depth, &s.node.hash)
		s = s.node.slot(side)
	}
	if s.page != "" {
		i := 0
		for ; s.page.tag(i) == tagNode; depth++ {
			at := [2]int{s.page.child(i, 0), s.page.child(i, 1)}
			i = at[p.turn(&topic, &prefix, depth, &[2]entry.Hash{s.page.hash(at[0]), s.page.hash(at[1])})]
		}
		s.hash = s.page.hash(i)
	}
	ls, err := scan(rows, prefix, depth, make([]leaf, 0, bucketMax))
	if err != nil {
		return Proof{}, err
	}
	if len(ls) == 0 {
		return Proof{}, &RowsError{prefix, depth, "no rows"}
	}
	hashLeaves(ls)
	if p.descend(ls, &topic) != s.hash {
		return Proof{}, &RowsError{prefix, depth, fmt.Sprintf("%d rows with another hash", len(ls))}
	}
	return p, nil
}

// turn adds a node at depth, with children of these hashes, to the path of topic
// and returns the side that it goes on at.
func (p *Proof) turn(topic, prefix *entry.Hash, depth int, hash *[2]entry.Hash) int {
	side := bit(topic, depth)
	if hash[side].IsZero() {
		side = 1 - side // all topics are on the other side: the hashed tree skips this bit
	} else if sibling := hash[1-side]; !sibling.IsZero() {
		p.Bits = setBit(p.Bits, depth)
		p.Siblings = append(p.Siblings, sibling)
	}
	if side == 1 {
		*prefix = setBit(*prefix, depth)
	}
	return side
}

// descend completes p with the path of topic through the tree of ls, and
// returns the hash of that tree.
func (p *Proof) descend(ls []leaf, topic *entry.Hash) entry.Hash {
	if len(ls) == 1 {
		p.Kind, p.Value = Present, ls[0].value
		if ls[0].topic != *topic {
			p.Kind, p.Neighbour = Absent, ls[0].topic
		}
		return ls[0].hash
	}
	pos := parting(ls)
	m := split(ls, pos)
	part := [2][]leaf{ls[:m], ls[m:]}
	side := bit(topic, pos)
	sibling := subtree(part[1-side])
	p.Bits = setBit(p.Bits, pos)
	p.Siblings = append(p.Siblings, sibling)
	h := p.descend(part[side], topic)
	return join(pos, side, &h, &sibling)
}
