package unitindex

// A second implementation, written from the package comment and from RFC 6962
// alone: recursive, over sorted slices, sharing no code with the package.

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"sort"

	"fabtrail.dev/fabtrail/ledger/entry"
)

type oracleRow struct{ topic, value entry.Hash }

func oracleHash(parts ...[]byte) entry.Hash {
	return sha256.Sum256(bytes.Join(parts, nil))
}

func oracleSet(m map[entry.Hash]entry.Hash) []oracleRow {
	set := make([]oracleRow, 0, len(m))
	for k, v := range m {
		set = append(set, oracleRow{k, v})
	}
	sort.Slice(set, func(i, j int) bool { return bytes.Compare(set[i].topic[:], set[j].topic[:]) < 0 })
	return set
}

func oracleBit(h entry.Hash, p int) bool { return h[p/8]&(1<<(7-p%8)) != 0 }

// oraclePart splits a sorted set of two or more at the first bit that is not
// the same in all.
func oraclePart(set []oracleRow) (p int, left, right []oracleRow) {
	for p = 0; p < 256; p++ {
		ones := 0
		for _, r := range set {
			if oracleBit(r.topic, p) {
				ones++
			}
		}
		if ones > 0 && ones < len(set) {
			return p, set[:len(set)-ones], set[len(set)-ones:]
		}
	}
	panic("a topic is there twice")
}

func oracleRoot(set []oracleRow) entry.Hash {
	switch len(set) {
	case 0:
		return oracleHash([]byte("fabtrail/index/empty/v1\n"))
	case 1:
		return oracleHash([]byte{0}, set[0].topic[:], set[0].value[:])
	}
	p, left, right := oraclePart(set)
	l, r := oracleRoot(left), oracleRoot(right)
	return oracleHash([]byte{1, byte(p)}, l[:], r[:])
}

// oracleProve returns the bytes of the proof for topic.
func oracleProve(set []oracleRow, topic entry.Hash) []byte {
	if len(set) == 0 {
		return []byte{1, 0}
	}
	var siblings, bitmap []byte
	for len(set) > 1 {
		p, left, right := oraclePart(set)
		same, other := left, right
		if oracleBit(topic, p) {
			same, other = right, left
		}
		for len(bitmap) < p/8+1 {
			bitmap = append(bitmap, 0)
		}
		bitmap[p/8] |= 1 << (7 - p%8)
		h := oracleRoot(other)
		siblings = append(siblings, h[:]...)
		set = same
	}
	out := []byte{1, 1}
	if set[0].topic != topic {
		out = append([]byte{1, 2}, set[0].topic[:]...)
	}
	out = append(out, set[0].value[:]...)
	out = append(out, byte(len(bitmap)))
	return append(append(out, bitmap...), siblings...)
}

// oracleVerify reads and checks a proof.
func oracleVerify(root, topic entry.Hash, b []byte) (value entry.Hash, present, ok bool) {
	if len(b) < 2 || b[0] != 1 || b[1] > 2 {
		return value, false, false
	}
	kind, b := b[1], b[2:]
	if kind == 0 {
		return value, false, len(b) == 0 && root == oracleRoot(nil)
	}
	leaf := topic
	if kind == 2 {
		if len(b) < 32 {
			return value, false, false
		}
		leaf, b = entry.Hash(b[:32]), b[32:]
		if leaf == topic {
			return value, false, false
		}
	}
	if len(b) < 33 || b[32] > 32 || len(b) < 33+int(b[32]) {
		return value, false, false
	}
	v, bitmap, siblings := entry.Hash(b[:32]), b[33:33+int(b[32])], b[33+int(b[32]):]
	if n := len(bitmap); n > 0 && bitmap[n-1] == 0 {
		return value, false, false
	}
	h := oracleHash([]byte{0}, leaf[:], v[:])
	for p := len(bitmap)*8 - 1; p >= 0; p-- {
		if bitmap[p/8]&(1<<(7-p%8)) == 0 {
			continue
		}
		if len(siblings) < 32 || oracleBit(leaf, p) != oracleBit(topic, p) {
			return value, false, false
		}
		s := siblings[len(siblings)-32:]
		siblings = siblings[:len(siblings)-32]
		if oracleBit(topic, p) {
			h = oracleHash([]byte{1, byte(p)}, s, h[:])
		} else {
			h = oracleHash([]byte{1, byte(p)}, h[:], s)
		}
	}
	if h != root || len(siblings) != 0 {
		return value, false, false
	}
	if kind == 2 {
		return value, false, true
	}
	return v, true, true
}

// oracleListRoot is RFC 6962 section 2.1 over the leaf data of refs.
func oracleListRoot(refs []Ref) entry.Hash {
	switch len(refs) {
	case 0:
		return oracleHash()
	case 1:
		return oracleHash([]byte{0}, binary.BigEndian.AppendUint64(nil, refs[0].Index), refs[0].Leaf[:])
	}
	k := 1
	for 2*k < len(refs) {
		k *= 2
	}
	l, r := oracleListRoot(refs[:k]), oracleListRoot(refs[k:])
	return oracleHash([]byte{1}, l[:], r[:])
}

func oracleListValue(refs []Ref) entry.Hash {
	root := oracleListRoot(refs)
	return oracleHash([]byte("fabtrail/list/v1\n"), binary.BigEndian.AppendUint64(nil, uint64(len(refs))), root[:])
}

// oracleRange returns the bytes of the range proof for [begin, end) of refs.
func oracleRange(refs []Ref, begin, end int) []byte {
	var b []byte
	for _, n := range []int{begin, end, len(refs)} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	cover := func(from, to int) {
		for from < to {
			size := 1
			for from%(2*size) == 0 && from+2*size <= to {
				size *= 2
			}
			h := oracleListRoot(refs[from : from+size])
			b = append(b, h[:]...)
			from += size
		}
	}
	cover(0, begin)
	cover(end, len(refs))
	return b
}

// oracleBlock is a subtree of a list: size elements from one on.
type oracleBlock struct{ from, size uint64 }

// oracleBlocks are the hashes of blocks of a list that is not written out.
type oracleBlocks map[oracleBlock]entry.Hash

// root is RFC 6962 section 2.1 over a list of which blocks are known.
func (known oracleBlocks) root(b oracleBlock) entry.Hash {
	if h, ok := known[b]; ok {
		return h
	}
	k := uint64(1)
	for 2*k < b.size {
		k *= 2
	}
	l, r := known.root(oracleBlock{b.from, k}), known.root(oracleBlock{b.from + k, b.size - k})
	return oracleHash([]byte{1}, l[:], r[:])
}

// oracleCover cuts [from, to) as oracleRange does, for any numbers.
func oracleCover(from, to uint64) (out []oracleBlock) {
	for from < to {
		size := uint64(1)
		for size < 1<<63 && from%(2*size) == 0 && to-from >= 2*size {
			size *= 2
		}
		out = append(out, oracleBlock{from, size})
		from += size
	}
	return out
}
