package ledger

import (
	"container/list"
	"fmt"
	"sync"
	"sync/atomic"

	"fabtrail.dev/fabtrail/ledger/entry"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
)

const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
	tileBytes  = tileWidth * 32
	tileNodes  = 2*tileWidth - 2 // without the root, which is a hash of the tile above
	maxLevels  = 8               // tile levels of a tree of 2^64 leaves
)

// tile is a tile of the tree with its inner nodes: nodes[h][i] covers 2^h of its
// hashes. It only grows: a copy of the struct stays valid, at its own width,
// while the original goes on, so readers need no lock.
type tile struct {
	nodes [tileHeight][]entry.Hash
}

func newTile() tile {
	var t tile
	space := make([]entry.Hash, tileNodes)
	for h := range t.nodes {
		n := tileWidth >> h
		t.nodes[h] = space[:0:n]
		space = space[n:]
	}
	return t
}

func (t *tile) width() int { return len(t.nodes[0]) }

// push adds a hash and every inner node that it completes.
func (t *tile) push(h entry.Hash) {
	for l := 0; ; l++ {
		t.nodes[l] = append(t.nodes[l], h)
		n := len(t.nodes[l])
		if n&1 == 1 || l == tileHeight-1 {
			return
		}
		h = hashChildren(&t.nodes[l][n-2], &t.nodes[l][n-1])
	}
}

// root is the root of a full tile.
func (t *tile) root() entry.Hash {
	top := t.nodes[tileHeight-1]
	return hashChildren(&top[0], &top[1])
}

// bytes returns the first w hashes, as tlog-tiles serves them.
func (t *tile) bytes(w int) []byte {
	b := make([]byte, 0, w*32)
	for i := range w {
		b = append(b, t.nodes[0][i][:]...)
	}
	return b
}

// readTile expands the stored bytes of a full tile.
func readTile(b []byte) (*tile, error) {
	if len(b) != tileBytes {
		return nil, fmt.Errorf("%w: tile has %d bytes, want %d", ErrDamaged, len(b), tileBytes)
	}
	t := newTile()
	for i := range tileWidth {
		t.push(entry.Hash(b[i*32 : i*32+32]))
	}
	return &t, nil
}

func hashChildren(l, r *entry.Hash) entry.Hash {
	var b [65]byte
	b[0] = 1
	copy(b[1:], l[:])
	copy(b[33:], r[:])
	return sha256Sum(b[:])
}

// edge is the right border of a tree: for every level the tile that is not yet
// full (perhaps empty). Level l counts tiles of 256^l leaves.
type edge struct {
	size  uint64
	tiles [maxLevels]struct {
		n uint64 // tile index within the level
		tile
	}
	levels int // levels in use
}

// tileID names a tile; a full one never changes.
type tileID struct {
	level uint8
	n     uint64
}

type fullTile struct {
	id tileID
	t  *tile
}

// push adds a leaf hash and returns the tiles that it fills, lowest first.
func (e *edge) push(h entry.Hash) (full []fullTile) {
	e.size++
	for l := 0; l < maxLevels; l++ {
		at := &e.tiles[l]
		if l == e.levels {
			at.tile = newTile()
			e.levels++
		}
		at.push(h)
		if at.width() < tileWidth {
			return full
		}
		done := at.tile
		full = append(full, fullTile{tileID{uint8(l), at.n}, &done})
		h = done.root()
		at.n++
		at.tile = newTile()
	}
	return full
}

// node returns an inner node if it lies in one of the edge's tiles.
func (e *edge) node(level uint, index uint64) (entry.Hash, bool) {
	l, within := level/tileHeight, level%tileHeight
	if int(l) >= e.levels {
		return entry.Hash{}, false
	}
	at := &e.tiles[l]
	if at.n != index>>(tileHeight-within) {
		return entry.Hash{}, false
	}
	i := index & (tileWidth>>within - 1)
	if i >= uint64(len(at.nodes[within])) {
		return entry.Hash{}, false
	}
	return at.nodes[within][i], true
}

// root is the root over all leaves; every node that it needs is in the edge.
func (e *edge) root() entry.Hash { return foldRoot(e.frontier()) }

// frontier returns the roots of the perfect subtrees of [0, size), largest first.
func (e *edge) frontier() []entry.Hash {
	ids := compact.RangeNodes(0, e.size, nil)
	out := make([]entry.Hash, len(ids))
	for i, id := range ids {
		h, ok := e.node(id.Level, id.Index)
		if !ok {
			panic(fmt.Sprintf("ledger: node %v is not on the edge of %d leaves", id, e.size))
		}
		out[i] = h
	}
	return out
}

// foldRoot hashes the perfect subtrees of a tree into its root.
func foldRoot(hs []entry.Hash) entry.Hash {
	n := len(hs)
	if n == 0 {
		return entry.Hash(rfc6962.DefaultHasher.EmptyRoot())
	}
	h := hs[n-1]
	for i := n - 2; i >= 0; i-- {
		h = hashChildren(&hs[i], &h)
	}
	return h
}

// tree answers for nodes of the log's tree. The builder owns the growing edge
// and publishes copies of it after the full tiles are in the store; any
// goroutine reads.
type tree struct {
	snap  atomic.Pointer[edge]
	cache tileCache
	load  func(id tileID) ([]byte, error) // bytes of a full tile from the store
}

// node returns a node that is complete in the published edge.
func (t *tree) node(level uint, index uint64) (entry.Hash, error) {
	r := t.reader()
	return r.node(level, index)
}

// nodeReader reads nodes of one proof, whose neighbours mostly share a tile.
type nodeReader struct {
	t    *tree
	edge *edge
	id   tileID
	last *tile
}

func (t *tree) reader() nodeReader { return nodeReader{t: t, edge: t.snap.Load()} }

func (r *nodeReader) node(level uint, index uint64) (entry.Hash, error) {
	if h, ok := r.edge.node(level, index); ok {
		return h, nil
	}
	within := level % tileHeight
	if id := (tileID{uint8(level / tileHeight), index >> (tileHeight - within)}); r.last == nil || r.id != id {
		full, err := r.t.full(id)
		if err != nil {
			return entry.Hash{}, err
		}
		r.id, r.last = id, full
	}
	return r.last.nodes[within][index&(tileWidth>>within-1)], nil
}

// full returns an expanded full tile, from memory if it is there.
func (t *tree) full(id tileID) (*tile, error) {
	if c := t.cache.get(id); c != nil {
		return c, nil
	}
	b, err := t.load(id)
	if err != nil {
		return nil, err
	}
	c, err := readTile(b)
	if err != nil {
		return nil, fmt.Errorf("tile %d of level %d: %w", id.n, id.level, err)
	}
	t.cache.put(id, c)
	return c, nil
}

func (t *tree) nodes(p proof.Nodes) ([]entry.Hash, error) {
	hs := make([]entry.Hash, len(p.IDs))
	r := t.reader()
	for i, id := range p.IDs {
		h, err := r.node(id.Level, id.Index)
		if err != nil {
			return nil, err
		}
		hs[i] = h
	}
	// The ephemeral node, if any, stands for IDs[begin:end], highest level
	// last: fold them into one, as proof.Nodes.Rehash does.
	_, begin, end := p.Ephem()
	if end-begin < 2 {
		return hs, nil
	}
	h := hs[begin]
	for i := begin + 1; i < end; i++ {
		h = hashChildren(&hs[i], &h)
	}
	hs[begin] = h
	return append(hs[:begin+1], hs[end:]...), nil
}

// inclusion proves leaf i in the tree of the given size.
func (t *tree) inclusion(i, size uint64) ([]entry.Hash, error) {
	p, err := proof.Inclusion(i, size)
	if err != nil {
		return nil, fmt.Errorf("%w: entry %d in a tree of size %d", ErrNotFound, i, size)
	}
	return t.nodes(p)
}

// consistency proves that the tree of size from is a prefix of that of size to.
func (t *tree) consistency(from, to uint64) ([]entry.Hash, error) {
	p, err := proof.Consistency(from, to)
	if err != nil {
		return nil, fmt.Errorf("%w: consistency from size %d to size %d", ErrNotFound, from, to)
	}
	return t.nodes(p)
}

// root computes the root at an earlier size.
func (t *tree) root(size uint64) (entry.Hash, error) {
	ids := compact.RangeNodes(0, size, nil)
	hs := make([]entry.Hash, len(ids))
	r := t.reader()
	for i, id := range ids {
		var err error
		if hs[i], err = r.node(id.Level, id.Index); err != nil {
			return entry.Hash{}, err
		}
	}
	return foldRoot(hs), nil
}

// tileCache keeps the expanded tiles used last. The zero cache keeps nothing.
type tileCache struct {
	mu    sync.Mutex
	max   int
	items map[tileID]*list.Element
	order *list.List // front: used last
}

type cached struct {
	id tileID
	t  *tile
}

func (c *tileCache) init(bytes int64) {
	c.max = max(int(bytes/(tileNodes*32+200)), 2*maxLevels)
	c.items = map[tileID]*list.Element{}
	c.order = list.New()
}

func (c *tileCache) get(id tileID) *tile {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.items[id]
	if !ok {
		return nil
	}
	c.order.MoveToFront(el)
	return el.Value.(cached).t
}

func (c *tileCache) put(id tileID, t *tile) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.items[id]; ok {
		return
	}
	c.items[id] = c.order.PushFront(cached{id, t})
	if len(c.items) > c.max {
		last := c.order.Back()
		delete(c.items, c.order.Remove(last).(cached).id)
	}
}
