package vectors

import (
	"bytes"
	"encoding/binary"
	"slices"
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

// block is a perfect subtree of a list: size elements from at on.
type block struct {
	at, size uint64
	hash     data
}

// cut and join are those of section 4.
func cut(from, to uint64) (out []block) {
	for from < to {
		size := uint64(1)
		for to-from >= 2*size && from%(2*size) == 0 {
			size *= 2
		}
		out = append(out, block{at: from, size: size})
		from += size
	}
	return out
}

func join(blocks []block) data {
	var stack []block
	for _, b := range blocks {
		for len(stack) > 0 && stack[len(stack)-1].size == b.size {
			top := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			b = block{size: 2 * b.size, hash: sum([]byte{1}, top.hash, b.hash)}
		}
		stack = append(stack, b)
	}
	if len(stack) == 0 {
		return sum()
	}
	h := stack[len(stack)-1].hash
	for i := len(stack) - 2; i >= 0; i-- {
		h = sum([]byte{1}, stack[i].hash, h)
	}
	return h
}

// aRange is a range proof that was read.
type aRange struct {
	begin, end, count uint64
	left, right       []block
}

func readRange(b []byte) (p aRange, ok bool) {
	if len(b) < 24 {
		return p, false
	}
	p = aRange{begin: binary.BigEndian.Uint64(b), end: binary.BigEndian.Uint64(b[8:]), count: binary.BigEndian.Uint64(b[16:])}
	if p.begin > p.end || p.end > p.count || p.count > 1<<62 {
		return p, false
	}
	b = b[24:]
	p.left, p.right = cut(0, p.begin), cut(p.end, p.count)
	for _, blocks := range [][]block{p.left, p.right} {
		for i := range blocks {
			if len(b) < 32 {
				return p, false
			}
			blocks[i].hash, b = b[:32], b[32:]
		}
	}
	return p, len(b) == 0
}

// value is that of the list in which refs are the elements [begin, end).
func (p aRange) value(refs []ref) (data, bool) {
	if uint64(len(refs)) != p.end-p.begin {
		return nil, false
	}
	all := slices.Clone(p.left)
	for i, r := range refs {
		if i > 0 && refs[i-1].Index >= r.Index {
			return nil, false
		}
		all = append(all, block{size: 1, hash: r.hash()})
	}
	return listValue(p.count, join(append(all, p.right...))), true
}

// before is the value of the list of begin elements.
func (p aRange) before() data { return listValue(p.begin, join(p.left)) }

// inRange verifies a range proof.
func inRange(value, proof []byte, refs []ref) bool {
	p, ok := readRange(proof)
	if !ok {
		return false
	}
	got, ok := p.value(refs)
	return ok && bytes.Equal(got, value)
}

// hasGrown verifies a growth proof: refs are what a list of value known has more now.
func hasGrown(known, value, proof []byte, refs []ref) bool {
	p, ok := readRange(proof)
	return ok && p.end == p.count && bytes.Equal(p.before(), known) && inRange(value, proof, refs)
}

// rangeProof makes the range proof of [begin, end) of a list.
func rangeProof(refs []ref, begin, end int) data {
	out := bytes.Join([][]byte{u64(uint64(begin)), u64(uint64(end)), u64(uint64(len(refs)))}, nil)
	leaves := leavesOf(refs)
	for _, b := range append(cut(0, uint64(begin)), cut(uint64(end), uint64(len(refs)))...) {
		out = append(out, merkle(leaves[b.at:b.at+b.size])...)
	}
	return out
}

func leavesOf(refs []ref) (leaves []data) {
	for _, r := range refs {
		leaves = append(leaves, r.hash())
	}
	return leaves
}

func valueOf(refs []ref) data { return listValue(uint64(len(refs)), merkle(leavesOf(refs))) }

// rangeCase is a range proof as the vectors have it.
type rangeCase struct {
	Name, Refused, Why       string
	Refs                     []ref
	Value, GrowthFrom, Proof data
}

func TestLists(t *testing.T) {
	var v struct {
		Lists []struct {
			Name                           string
			Refs                           []ref
			Root, Value                    data
			Ranges, Refused, RefusedGrowth []rangeCase
		}
		Long []rangeCase
	}
	load(t, "unitindex/lists.json", &v)
	growths := 0
	for _, l := range v.Lists {
		same(t, l.Name+": root", merkle(leavesOf(l.Refs)), l.Root)
		same(t, l.Name+": value", valueOf(l.Refs), l.Value)
		for i, r := range l.Ranges {
			if !inRange(l.Value, r.Proof, r.Refs) {
				t.Errorf("%s: range %d does not hold", l.Name, i)
			}
			begin := int(binary.BigEndian.Uint64(r.Proof))
			same(t, l.Name+": range proof", rangeProof(l.Refs, begin, begin+len(r.Refs)), r.Proof)
			if len(r.GrowthFrom) > 0 {
				growths++
				same(t, l.Name+": what it grew from", valueOf(l.Refs[:begin]), r.GrowthFrom)
				if !hasGrown(r.GrowthFrom, l.Value, r.Proof, r.Refs) {
					t.Errorf("%s: growth %d does not hold", l.Name, i)
				}
			}
		}
		for _, r := range l.Refused {
			if inRange(l.Value, r.Proof, r.Refs) {
				t.Errorf("%s: %s, and it holds", l.Name, r.Why)
			}
		}
		for _, r := range l.RefusedGrowth {
			if hasGrown(r.GrowthFrom, l.Value, r.Proof, r.Refs) {
				t.Errorf("%s: %s, and it holds", l.Name, r.Why)
			}
		}
		if len(l.Refs) > 1 && len(l.RefusedGrowth) == 0 {
			t.Errorf("%s: no growth is refused", l.Name)
		}
	}
	for _, r := range v.Long {
		ok := inRange(r.Value, r.Proof, r.Refs)
		if len(r.GrowthFrom) > 0 {
			growths++
			ok = ok && hasGrown(r.GrowthFrom, r.Value, r.Proof, r.Refs)
		}
		if ok != (r.Refused == "") {
			t.Errorf("%s: holds is %t", r.Name, ok)
		}
	}
	if growths == 0 || len(v.Long) == 0 {
		t.Error("nothing grows in the vectors")
	}
}

// TestGrowths makes the growth from every beginning of a list and verifies it; with one
// bit turned, of the proof or of what is known or new, it holds no more.
func TestGrowths(t *testing.T) {
	var all []ref
	for i := range uint64(19) {
		all = append(all, ref{3 * i, sum([]byte("leaf"), u64(i))})
	}
	for begin := range all {
		added := all[begin:]
		known, value, proof := valueOf(all[:begin]), valueOf(all), rangeProof(all, begin, len(all))
		if !hasGrown(known, value, proof, added) {
			t.Fatalf("the growth from %d entries does not hold", begin)
		}
		for what, b := range map[string]data{"what is known": known, "the value": value, "the proof": proof, "a new leaf": added[len(added)-1].Leaf} {
			for i := range b {
				b[i] ^= 1 << (i % 8)
				if hasGrown(known, value, proof, added) {
					t.Errorf("from %d entries: byte %d of %s altered, and it holds", begin, i, what)
				}
				b[i] ^= 1 << (i % 8)
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
