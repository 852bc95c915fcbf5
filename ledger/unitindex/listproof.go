package unitindex

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// ErrProof is wrapped by every failed verification of this package.
var ErrProof = errors.New("proof does not hold")

func refused(format string, a ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrProof}, a...)...)
}

// RangeProof shows that refs are the elements [Begin, End) of a list of Count
// elements. Hashes holds the perfect subtrees of [0, Begin), then those of
// [End, Count).
type RangeProof struct {
	Begin, End, Count uint64
	Hashes            []entry.Hash
}

// ListNode returns the hash of the perfect subtree over the elements
// [index<<level, (index+1)<<level) of a list.
type ListNode func(level int, index uint64) (entry.Hash, error)

// NodesOf computes list nodes from the whole list, in time linear in the
// subtree's size.
func NodesOf(refs []Ref) ListNode {
	return func(level int, index uint64) (entry.Hash, error) {
		if level >= 62 || index >= maxCount>>level || (index+1)<<level > uint64(len(refs)) {
			return entry.Hash{}, fmt.Errorf("list of %d elements has no node %d at level %d", len(refs), index, level)
		}
		l := List{}.Append(refs[index<<level : (index+1)<<level]...)
		return l.Root(), nil
	}
}

// ProveRange makes the proof for the elements [begin, end) of a list of count
// elements whose subtrees node gives; it asks for O(log count) of them.
func ProveRange(begin, end, count uint64, node ListNode) (RangeProof, error) {
	p := RangeProof{Begin: begin, End: end, Count: count}
	if err := p.bounds(); err != nil {
		return RangeProof{}, err
	}
	var err error
	take := func(level int, index uint64) {
		if err == nil {
			var h entry.Hash
			h, err = node(level, index)
			p.Hashes = append(p.Hashes, h)
		}
	}
	subtrees(0, begin, take)
	subtrees(end, count, take)
	if err != nil {
		return RangeProof{}, err
	}
	return p, nil
}

func (p RangeProof) bounds() error {
	if p.Begin > p.End || p.End > p.Count || p.Count > maxCount {
		return malformed("range [%d, %d) of %d elements", p.Begin, p.End, p.Count)
	}
	return nil
}

// size is the number of hashes that the proof's bounds call for.
func (p RangeProof) size() int {
	n := bits.OnesCount64(p.Begin)
	subtrees(p.End, p.Count, func(int, uint64) { n++ })
	return n
}

// subtrees calls fn for the perfect, aligned subtrees that make up [begin, end),
// from left to right, each as large as can be.
func subtrees(begin, end uint64, fn func(level int, index uint64)) {
	for begin < end {
		level := min(bits.TrailingZeros64(begin), bits.Len64(end-begin)-1)
		fn(level, begin>>level)
		begin += 1 << level
	}
}

// Marshal returns the bytes: 24, and 32 for each hash.
func (p RangeProof) Marshal() []byte {
	b := make([]byte, 0, 24+32*len(p.Hashes))
	b = binary.BigEndian.AppendUint64(b, p.Begin)
	b = binary.BigEndian.AppendUint64(b, p.End)
	b = binary.BigEndian.AppendUint64(b, p.Count)
	for i := range p.Hashes {
		b = append(b, p.Hashes[i][:]...)
	}
	return b
}

// ParseRangeProof reads exactly what Marshal writes; errors wrap
// entry.ErrMalformed.
func ParseRangeProof(b []byte) (RangeProof, error) {
	if len(b) < 24 {
		return RangeProof{}, malformed("range proof of %d bytes", len(b))
	}
	p := RangeProof{
		Begin: binary.BigEndian.Uint64(b),
		End:   binary.BigEndian.Uint64(b[8:]),
		Count: binary.BigEndian.Uint64(b[16:]),
	}
	if err := p.bounds(); err != nil {
		return RangeProof{}, err
	}
	n := p.size()
	if len(b) != 24+32*n {
		return RangeProof{}, malformed("range proof of %d bytes, want %d", len(b), 24+32*n)
	}
	p.Hashes = make([]entry.Hash, n)
	for i := range p.Hashes {
		copy(p.Hashes[i][:], b[24+32*i:])
	}
	return p, nil
}

// Before returns the list at Begin elements, as the proof has it.
func (p RangeProof) Before() (List, error) {
	if err := p.bounds(); err != nil {
		return List{}, err
	}
	if len(p.Hashes) != p.size() {
		return List{}, malformed("range proof with %d hashes, want %d", len(p.Hashes), p.size())
	}
	n := bits.OnesCount64(p.Begin)
	return List{count: p.Begin, frontier: p.Hashes[:n:n]}, nil
}

// Value returns the value of the list of Count elements in which refs are the
// elements [Begin, End). The caller compares it with the value that an index
// proof gave; only then are refs those elements.
func (p RangeProof) Value(refs []Ref) (entry.Hash, error) {
	l, err := p.Before()
	if err != nil {
		return entry.Hash{}, err
	}
	if uint64(len(refs)) != p.End-p.Begin {
		return entry.Hash{}, refused("%d elements for the range [%d, %d)", len(refs), p.Begin, p.End)
	}
	if err := CheckRefs(refs); err != nil {
		return entry.Hash{}, err
	}
	rest := p.Hashes[len(l.frontier):]
	l = l.Append(refs...)
	subtrees(p.End, p.Count, func(level int, _ uint64) {
		l.push(rest[0], level)
		rest = rest[1:]
	})
	return l.Value(), nil
}

// VerifyRange returns an error that wraps ErrProof unless refs are the elements
// [Begin, End) of the list with that value.
func VerifyRange(value entry.Hash, p RangeProof, refs []Ref) error {
	got, err := p.Value(refs)
	if err != nil {
		return err
	}
	if got != value {
		return refused("elements [%d, %d) are not those of the list with value %s", p.Begin, p.End, value)
	}
	return nil
}

// VerifyGrowth returns an error that wraps ErrProof unless the list with value
// known is a prefix of the list with that value, and refs are all that was
// added to it. Whoever keeps the known refs also checks that the first new
// index is above the last known one.
func VerifyGrowth(known, value entry.Hash, p RangeProof, refs []Ref) error {
	before, err := p.Before()
	if err != nil {
		return err
	}
	if p.End != p.Count {
		return refused("range [%d, %d) leaves out the end of %d elements", p.Begin, p.End, p.Count)
	}
	if before.Value() != known {
		return refused("the list does not continue the one of %d elements with value %s", p.Begin, known)
	}
	return VerifyRange(value, p, refs)
}
