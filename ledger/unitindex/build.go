package unitindex

import (
	"fmt"
	"runtime"

	"fabtrail.dev/fabtrail/ledger/entry"
	"golang.org/x/sync/errgroup"
)

const (
	// buildBits is the length of the prefixes that Build scans side by side.
	buildBits = 4
	// buildChunk is the number of rows that one scan holds in memory.
	buildChunk = 4096
)

// Build makes the tree of all rows, in one scan for each of 16 prefixes, as
// many at a time as there are processors. Memory beside the result is bounded.
func Build(rows Rows) (*Tree, error) {
	var parts [1 << buildBits]*Tree
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range parts {
		g.Go(func() (err error) {
			parts[i], err = buildPart(rows, entry.Hash{byte(i << (8 - buildBits))}, buildBits)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	t := new(Tree)
	for _, part := range parts {
		t.n += part.n
	}
	t.top = joinParts(parts[:], 0)
	return t, nil
}

// joinParts makes the nodes above parts of neighbouring prefixes.
func joinParts(parts []*Tree, depth int) slot {
	if len(parts) == 1 {
		return parts[0].top
	}
	n := new(node)
	half := len(parts) / 2
	for side, half := range [2][]*Tree{parts[:half], parts[half:]} {
		s := joinParts(half, depth+1)
		n.set(side, s)
	}
	return n.up(depth)
}

// Parts is the number of parts that CheckPart knows.
const Parts = 256

// CheckPart reads the rows of one part, of those whose topics begin with the byte
// part, and returns a *RowsError if they are not those that t was made of. With
// few topics a part may be none, and its rows belong to a part before.
func (t *Tree) CheckPart(rows Rows, part int) error {
	prefix, depth := entry.Hash{byte(part)}, 0
	s := t.top
	for ; s.node != nil && depth < 8; depth++ {
		s = s.node.slot(bit(&prefix, depth))
	}
	for i := depth; i < 8; i++ {
		if bit(&prefix, i) == 1 {
			return nil
		}
	}
	made, err := buildPart(rows, prefix, depth)
	if err != nil {
		return err
	}
	if made.top.hash != s.hash {
		return &RowsError{prefix, depth, fmt.Sprintf("%d rows with another hash", made.n)}
	}
	return nil
}

// buildPart builds the subtree of a prefix of bits bits from a stream of rows, a
// chunk at a time.
func buildPart(rows Rows, prefix entry.Hash, bits int) (*Tree, error) {
	b := filler{prefix: prefix, bits: bits, chunk: make([]leaf, 0, buildChunk)}
	err := rows.Scan(prefix, bits, b.add)
	if err == nil {
		err = b.flush()
	}
	return &b.tree, err
}

// filler grows a tree from ascending rows. Of what is built only the last
// bucket can still change, so its rows stay at the front of the next chunk.
type filler struct {
	tree   Tree
	prefix entry.Hash
	bits   int // of prefix
	chunk  []leaf
	kept   int // leaves of chunk that are in tree
}

func (b *filler) add(topic, value entry.Hash) error {
	if err := follows(b.chunk, &topic, &b.prefix, b.bits); err != nil {
		return err
	}
	b.chunk = append(b.chunk, leaf{topic: topic, value: value})
	if len(b.chunk) < buildChunk {
		return nil
	}
	return b.flush()
}

func (b *filler) flush() error {
	if len(b.chunk) == b.kept {
		return nil
	}
	p := pass{mode: replace}
	top, _, err := p.apply(new(worker), b.tree.top, b.prefix, b.bits, b.chunk)
	if err != nil {
		return err
	}
	b.tree.top = top
	b.tree.n += uint64(len(b.chunk) - b.kept)
	last := b.chunk[len(b.chunk)-1].topic
	depth := top.bucketDepth(&last, b.bits)
	k := len(b.chunk)
	for k > 0 && commonBits(&b.chunk[k-1].topic, &last) >= depth {
		k--
	}
	b.kept = copy(b.chunk, b.chunk[k:])
	b.chunk = b.chunk[:b.kept]
	return nil
}
