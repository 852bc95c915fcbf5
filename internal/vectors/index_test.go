package vectors

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"testing"
)

// ref is one element of a topic's list.
type ref struct {
	Index uint64
	Leaf  data
}

func (r ref) hash() data { return leafHash(append(u64(r.Index), r.Leaf...)) }

func listValue(count uint64, root []byte) data {
	return sum([]byte("fabtrail/list/v1\n"), u64(count), root)
}

// span is a perfect subtree of a list: its first element and its size.
type span struct{ at, size uint64 }

// spans cuts [from, to) into perfect aligned subtrees, each the largest that fits.
func spans(from, to uint64) (out []span) {
	for from < to {
		size := uint64(1) << (bits.Len64(to-from) - 1)
		if from > 0 {
			size = min(size, from&-from)
		}
		out = append(out, span{from, size})
		from += size
	}
	return out
}

// rangeRoot works the root of a list out of a range proof.
func rangeRoot(refs []ref, proof []byte) (count uint64, root data, ok bool) {
	if len(proof) < 24 || len(proof)%32 != 24 {
		return 0, nil, false
	}
	begin, end := binary.BigEndian.Uint64(proof), binary.BigEndian.Uint64(proof[8:])
	count = binary.BigEndian.Uint64(proof[16:])
	if begin > end || end > count || uint64(len(refs)) != end-begin || count == 0 || count > 1<<40 {
		return 0, nil, false
	}
	known := map[span]data{}
	hashes := proof[24:]
	for _, s := range append(spans(0, begin), spans(end, count)...) {
		if len(hashes) == 0 {
			return 0, nil, false
		}
		known[s], hashes = hashes[:32], hashes[32:]
	}
	for i, r := range refs {
		if i > 0 && refs[i-1].Index >= r.Index {
			return 0, nil, false
		}
		known[span{begin + uint64(i), 1}] = r.hash()
	}
	return count, subtree(known, span{0, count}), len(hashes) == 0
}

func subtree(known map[span]data, s span) data {
	if h, ok := known[s]; ok {
		return h
	}
	left := uint64(1) << (bits.Len64(s.size-1) - 1)
	return sum([]byte{1}, subtree(known, span{s.at, left}), subtree(known, span{s.at + left, s.size - left}))
}

// rangeProof makes the range proof of [begin, end) of a list.
func rangeProof(refs []ref, begin, end int) data {
	var leaves []data
	for _, r := range refs {
		leaves = append(leaves, r.hash())
	}
	out := bytes.Join([][]byte{u64(uint64(begin)), u64(uint64(end)), u64(uint64(len(refs)))}, nil)
	for _, s := range append(spans(0, uint64(begin)), spans(uint64(end), uint64(len(refs)))...) {
		out = append(out, merkle(leaves[s.at:s.at+s.size])...)
	}
	return out
}

func TestLists(t *testing.T) {
	var v struct {
		Lists []struct {
			Name        string
			Refs        []ref
			Root, Value data
			Ranges      []struct {
				Refs  []ref
				Proof data
			}
			Refused []struct {
				Why   string
				Refs  []ref
				Proof data
			}
		}
	}
	load(t, "unitindex/lists.json", &v)
	for _, l := range v.Lists {
		var leaves []data
		for _, r := range l.Refs {
			leaves = append(leaves, r.hash())
		}
		same(t, l.Name+": root", merkle(leaves), l.Root)
		same(t, l.Name+": value", listValue(uint64(len(leaves)), merkle(leaves)), l.Value)
		holds := func(refs []ref, proof []byte) bool {
			count, root, ok := rangeRoot(refs, proof)
			return ok && bytes.Equal(listValue(count, root), l.Value)
		}
		for i, r := range l.Ranges {
			if !holds(r.Refs, r.Proof) {
				t.Errorf("%s: range %d does not hold", l.Name, i)
			}
			begin := int(binary.BigEndian.Uint64(r.Proof))
			same(t, l.Name+": range proof", rangeProof(l.Refs, begin, begin+len(r.Refs)), r.Proof)
		}
		for _, r := range l.Refused {
			if holds(r.Refs, r.Proof) {
				t.Errorf("%s: %s, and it holds", l.Name, r.Why)
			}
		}
	}
}

type pair struct{ Topic, Value data }

func bit(topic []byte, p int) byte { return topic[p/8] >> (7 - p%8) & 1 }

// tree is the root of the index over topics, ascending.
func tree(pairs []pair) data {
	switch len(pairs) {
	case 0:
		return sum([]byte("fabtrail/index/empty/v1\n"))
	case 1:
		return sum([]byte{0}, pairs[0].Topic, pairs[0].Value)
	}
	p, cut := parting(pairs)
	return sum([]byte{1, byte(p)}, tree(pairs[:cut]), tree(pairs[cut:]))
}

// parting is the first position at which two or more topics are not all equal, and how
// many have 0 there.
func parting(pairs []pair) (p, cut int) {
	for bit(pairs[0].Topic, p) == bit(pairs[len(pairs)-1].Topic, p) {
		p++
	}
	for bit(pairs[cut].Topic, p) == 0 {
		cut++
	}
	return p, cut
}

// proveTopic makes the index proof of a topic, present or absent.
func proveTopic(pairs []pair, topic data) data {
	if len(pairs) == 0 {
		return data{1, 0}
	}
	var bitmap, siblings []byte
	for len(pairs) > 1 {
		p, cut := parting(pairs)
		own, other := pairs[:cut], pairs[cut:]
		if bit(topic, p) == 1 {
			own, other = other, own
		}
		for len(bitmap) <= p/8 {
			bitmap = append(bitmap, 0)
		}
		bitmap[p/8] |= 0x80 >> (p % 8)
		siblings = append(siblings, tree(other)...)
		pairs = own
	}
	out := data{1, 1}
	if !bytes.Equal(pairs[0].Topic, topic) {
		out = append(data{1, 2}, pairs[0].Topic...)
	}
	out = append(append(out, pairs[0].Value...), byte(len(bitmap)))
	return append(append(out, bitmap...), siblings...)
}

// indexProof verifies an index proof for a topic; value is nil when it is absent.
func indexProof(root, topic, b []byte) (value data, ok bool) {
	if len(b) < 2 || b[0] != 1 {
		return nil, false
	}
	kind, b := b[1], b[2:]
	leaf := pair{Topic: topic}
	switch {
	case kind == 0:
		return nil, len(b) == 0 && bytes.Equal(root, tree(nil))
	case kind == 1 && len(b) >= 33:
		leaf.Value, b = b[:32], b[32:]
		value = leaf.Value
	case kind == 2 && len(b) >= 65:
		leaf.Topic, leaf.Value, b = b[:32], b[32:64], b[64:]
		if bytes.Equal(leaf.Topic, topic) {
			return nil, false
		}
	default:
		return nil, false
	}
	n := int(b[0])
	if b = b[1:]; n > 32 || len(b) < n || n > 0 && b[n-1] == 0 {
		return nil, false
	}
	var path []int
	for p := range 8 * n {
		if bit(b, p) == 1 {
			if bit(leaf.Topic, p) != bit(topic, p) {
				return nil, false
			}
			path = append(path, p)
		}
	}
	if b = b[n:]; len(b) != 32*len(path) {
		return nil, false
	}
	h := tree([]pair{leaf})
	for i := len(path) - 1; i >= 0; i-- {
		sibling := b[32*i : 32*i+32]
		if bit(topic, path[i]) == 0 {
			h = sum([]byte{1, byte(path[i])}, h, sibling)
		} else {
			h = sum([]byte{1, byte(path[i])}, sibling, h)
		}
	}
	return value, bytes.Equal(h, root)
}

func TestTrees(t *testing.T) {
	type proof struct {
		Why                 string
		Topic, Value, Proof data
		Present             bool
	}
	var v struct {
		Trees []struct {
			Name            string
			Topics          []pair
			Root            data
			Proofs, Refused []proof
		}
	}
	load(t, "unitindex/trees.json", &v)
	for _, x := range v.Trees {
		same(t, x.Name+": root", tree(x.Topics), x.Root)
		for _, p := range x.Proofs {
			value, ok := indexProof(x.Root, p.Topic, p.Proof)
			if !ok || (value != nil) != p.Present || !bytes.Equal(value, p.Value) {
				t.Errorf("%s: the proof of %s does not hold", x.Name, p.Topic)
			}
			same(t, x.Name+": proof", proveTopic(x.Topics, p.Topic), p.Proof)
		}
		for _, p := range x.Refused {
			if _, ok := indexProof(x.Root, p.Topic, p.Proof); ok {
				t.Errorf("%s: %s, and it holds", x.Name, p.Why)
			}
		}
	}
}
