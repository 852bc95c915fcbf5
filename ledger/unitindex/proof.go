package unitindex

import (
	"math/bits"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// Kind says what a proof shows.
type Kind byte

// The kinds of proofs.
const (
	Empty   Kind = 0 // the tree has no topics
	Present Kind = 1 // the topic has Value
	Absent  Kind = 2 // the topic's place is taken by Neighbour
)

const (
	proofVersion = 0x01
	// MaxProof bounds a marshalled Proof, in bytes. With random topics one of
	// 10 million takes about 0.8 KB.
	MaxProof = 2 + 64 + 1 + 32 + topicBits*32
)

// Proof shows that a topic has a value, or that it is not in the tree.
type Proof struct {
	Kind      Kind
	Value     entry.Hash   // the topic's; of the neighbour when Absent
	Neighbour entry.Hash   // topic at whose leaf the topic's descent ends; Absent only
	Bits      entry.Hash   // bitmap of the bit positions on the path, position 0 first
	Siblings  []entry.Hash // one per position, from the root down
}

// Marshal returns the bytes of a proof that Verify could accept.
func (p Proof) Marshal() []byte {
	b := make([]byte, 0, 99+32*len(p.Siblings))
	b = append(b, proofVersion, byte(p.Kind))
	if p.Kind == Empty {
		return b
	}
	if p.Kind == Absent {
		b = append(b, p.Neighbour[:]...)
	}
	b = append(b, p.Value[:]...)
	n := len(p.Bits)
	for n > 0 && p.Bits[n-1] == 0 {
		n--
	}
	b = append(b, byte(n))
	b = append(b, p.Bits[:n]...)
	for i := range p.Siblings {
		b = append(b, p.Siblings[i][:]...)
	}
	return b
}

// ParseProof reads exactly what Marshal writes; errors wrap
// entry.ErrMalformed.
func ParseProof(b []byte) (Proof, error) {
	if len(b) < 2 {
		return Proof{}, malformed("index proof of %d bytes", len(b))
	}
	if b[0] != proofVersion {
		return Proof{}, malformed("index proof of version %d, want %d", b[0], proofVersion)
	}
	p := Proof{Kind: Kind(b[1])}
	b = b[2:]
	var fixed int
	switch p.Kind {
	case Empty:
		if len(b) != 0 {
			return Proof{}, malformed("%d bytes after a proof of kind 0", len(b))
		}
		return p, nil
	case Present:
		fixed = 32
	case Absent:
		fixed = 64
	default:
		return Proof{}, malformed("index proof of kind %d", byte(p.Kind))
	}
	if len(b) < fixed+1 {
		return Proof{}, malformed("index proof ends early")
	}
	copy(p.Value[:], b[fixed-32:])
	if p.Kind == Absent {
		copy(p.Neighbour[:], b)
	}
	n := int(b[fixed])
	b = b[fixed+1:]
	if n > len(p.Bits) || n > len(b) {
		return Proof{}, malformed("bitmap of %d bytes in an index proof", n)
	}
	if n > 0 && b[n-1] == 0 {
		return Proof{}, malformed("bitmap of an index proof ends with a zero byte")
	}
	copy(p.Bits[:], b[:n])
	b = b[n:]
	if k := p.depth(); len(b) != 32*k {
		return Proof{}, malformed("%d bytes of siblings in an index proof, want %d", len(b), 32*k)
	}
	p.Siblings = make([]entry.Hash, len(b)/32)
	for i := range p.Siblings {
		copy(p.Siblings[i][:], b[32*i:])
	}
	return p, nil
}

// depth is the number of inner nodes on the path.
func (p *Proof) depth() int {
	n := 0
	for _, b := range p.Bits {
		n += bits.OnesCount8(b)
	}
	return n
}

// Verify checks a proof for topic against root. It returns the topic's value
// and true, or false when the topic is proved absent. Under one root at most
// one answer for a topic is accepted; the package comment says why. Errors wrap
// ErrProof.
func Verify(root, topic entry.Hash, p Proof) (value entry.Hash, present bool, err error) {
	leaf := topic
	switch p.Kind {
	case Empty:
		if root != emptyRoot {
			return value, false, refused("the tree is not empty")
		}
		if p.depth() != 0 || len(p.Siblings) != 0 || !p.Value.IsZero() || !p.Neighbour.IsZero() {
			return value, false, refused("an empty tree has neither path nor values")
		}
		return value, false, nil
	case Present:
		if !p.Neighbour.IsZero() {
			return value, false, refused("a present topic has no neighbour")
		}
	case Absent:
		if p.Neighbour == topic {
			return value, false, refused("the neighbour is the topic itself")
		}
		leaf = p.Neighbour
	default:
		return value, false, refused("kind %d", byte(p.Kind))
	}
	i := len(p.Siblings)
	if p.depth() != i {
		return value, false, refused("%d siblings for %d bit positions", i, p.depth())
	}
	h := hashLeaf(&leaf, &p.Value)
	for at := len(p.Bits) - 1; at >= 0; at-- {
		for w := p.Bits[at]; w != 0; w &= w - 1 { // lowest set bit is the deepest position
			pos := at*8 + 7 - bits.TrailingZeros8(w)
			side := bit(&topic, pos)
			if bit(&leaf, pos) != side {
				return value, false, refused("the neighbour is not on the topic's path at bit %d", pos)
			}
			i--
			h = join(pos, side, &h, &p.Siblings[i])
		}
	}
	if h != root {
		return value, false, refused("the path does not lead to the root")
	}
	if p.Kind == Absent {
		return value, false, nil
	}
	return p.Value, true, nil
}

// join hashes a node with its sibling; side is the node's own.
func join(pos, side int, h, sibling *entry.Hash) entry.Hash {
	if side == 0 {
		return hashInner(pos, h, sibling)
	}
	return hashInner(pos, sibling, h)
}
