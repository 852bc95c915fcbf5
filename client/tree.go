package client

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"github.com/transparency-dev/merkle/rfc6962"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// tileTree grows an RFC 6962 tree leaf by leaf and keeps only its right edge, as
// the tiles of c2sp.org/tlog-tiles that are not full yet.
type tileTree struct {
	size   uint64
	levels [][]entry.Hash // hashes of the last, partial tile of each level
}

// fullTile is called for every tile of hashes that has become full.
type fullTile func(path entry.TilePath, b []byte) error

// add appends the hash of a leaf.
func (t *tileTree) add(h entry.Hash, full fullTile) error {
	n := t.size
	t.size++
	for level := 0; ; level++ {
		if level == len(t.levels) {
			t.levels = append(t.levels, nil)
		}
		t.levels[level] = append(t.levels[level], h)
		if len(t.levels[level]) < entry.TileWidth {
			return nil
		}
		index := n / entry.TileWidth
		n = index
		if err := full(entry.TilePath{Level: uint8(level), Index: index, Width: entry.TileWidth}, tileBytes(t.levels[level])); err != nil {
			return err
		}
		h = subtreeRoot(t.levels[level])
		t.levels[level] = t.levels[level][:0]
	}
}

// partial calls fn for the tiles that are not full.
func (t *tileTree) partial(fn fullTile) error {
	size := t.size
	for level, hashes := range t.levels {
		if len(hashes) > 0 {
			if err := fn(entry.TilePath{Level: uint8(level), Index: size / entry.TileWidth, Width: len(hashes)}, tileBytes(hashes)); err != nil {
				return err
			}
		}
		size /= entry.TileWidth
	}
	return nil
}

func tileBytes(hashes []entry.Hash) []byte {
	b := make([]byte, 0, len(hashes)*32)
	for i := range hashes {
		b = append(b, hashes[i][:]...)
	}
	return b
}

func hashNode(l, r entry.Hash) (h entry.Hash) {
	copy(h[:], rfc6962.DefaultHasher.HashChildren(l[:], r[:]))
	return h
}

// subtreeRoot hashes a perfect subtree: a power of two of hashes.
func subtreeRoot(hashes []entry.Hash) entry.Hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	half := len(hashes) / 2
	return hashNode(subtreeRoot(hashes[:half]), subtreeRoot(hashes[half:]))
}

// root is the RFC 6962 root at the present size.
func (t *tileTree) root() entry.Hash {
	var acc entry.Hash
	have := false
	for _, hashes := range t.levels { // from the right: the smallest subtrees stand last
		for n := len(hashes); n > 0; {
			k := n & -n // the last perfect subtree
			h := subtreeRoot(hashes[n-k : n])
			if n -= k; have {
				h = hashNode(h, acc)
			}
			acc, have = h, true
		}
	}
	if !have {
		return sha256.Sum256(nil)
	}
	return acc
}

// checkRoot compares the tree with a checkpoint of its size.
func (t *tileTree) checkRoot(cp checkpoint.Checkpoint) error {
	if cp.Size != t.size {
		return fmt.Errorf("replayed %d entries, the checkpoint is of size %d", t.size, cp.Size)
	}
	if root := t.root(); root != cp.Root {
		return fmt.Errorf("the entries have root %s, the checkpoint has %s", root, cp.Root)
	}
	return nil
}

// sameTile compares a tile as served with the one computed; a difference is a
// *Divergence that names the first entry under the first hash that differs.
func sameTile(path entry.TilePath, served, computed []byte) error {
	if bytes.Equal(served, computed) {
		return nil
	}
	at := 0
	for at < len(served) && at < len(computed) && served[at] == computed[at] {
		at++
	}
	first := path.Index*entry.TileWidth + uint64(at/len(entry.Hash{}))
	for range path.Level {
		first *= entry.TileWidth
	}
	return &Divergence{Index: first, What: DivergeTile, Detail: path.String() + " differs from what the entries give"}
}
