package unitindex

import (
	"strings"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// A page is the lower part of the tree in one piece of memory that holds no
// pointers: a garbage collector that had to walk millions of nodes would cost
// more than hashing them. It is
//
//	n u8 | n tags | n hashes (32)
//
// one of each for every slot under it, a node before its children, as in a
// snapshot; the hash of a slot without topics is zero. A page begins with a node:
// a subtree that is a single bucket needs none. The empty page is no page.
type page string

// pageMax is the number of slots above which a subtree is no page: some eleven
// buckets with the nodes above them.
const pageMax = 31

const (
	tagNone   = 0x00
	tagBucket = 0x01
	tagNode   = 0x02
)

func (p page) tag(i int) byte { return p[1+i] }

func (p page) hash(i int) (h entry.Hash) {
	copy(h[:], p[1+int(p[0])+32*i:])
	return h
}

// skip returns the index of the slot after the subtree of slot i.
func (p page) skip(i int) int {
	for open := 1; open > 0; i++ {
		if p[1+i] == tagNode {
			open++
		} else {
			open--
		}
	}
	return i
}

// child returns the index of a child of node i.
func (p page) child(i, side int) int {
	if side == 0 {
		return i + 1
	}
	return p.skip(i + 1)
}

// builder makes pages: slots are added in the order that they have in one.
type builder struct {
	tags   []byte
	hashes []byte
}

// part is a subtree in the making: the slots of a builder from at to its end, or,
// when it is too large for a page, a node.
type part struct {
	hash entry.Hash
	node *node
	at   int
}

func (b *builder) reset() { b.cut(0) }

func (b *builder) cut(at int) { b.tags, b.hashes = b.tags[:at], b.hashes[:32*at] }

func (b *builder) add(tag byte, h *entry.Hash) int {
	b.tags, b.hashes = append(b.tags, tag), append(b.hashes, h[:]...)
	return len(b.tags) - 1
}

// bucket adds a bucket, or nothing if the hash is zero.
func (b *builder) bucket(h entry.Hash) part {
	tag := byte(tagBucket)
	if h.IsZero() {
		tag = tagNone
	}
	return part{hash: h, at: b.add(tag, &h)}
}

// open adds a node, whose two subtrees are to follow; join completes it.
func (b *builder) open() int { return b.add(tagNode, &entry.Hash{}) }

// join completes the node at slot at, which is depth bits down.
func (b *builder) join(at, depth int, left, right part) part {
	out := part{hash: parted(depth, &left.hash, &right.hash), at: at}
	if out.hash.IsZero() { // a node without topics is dropped
		b.cut(at)
		return b.bucket(out.hash)
	}
	if left.node == nil && right.node == nil && len(b.tags)-at <= pageMax {
		copy(b.hashes[32*at:], out.hash[:])
		return out
	}
	r := b.slot(right)
	l := b.slot(left)
	b.cut(at)
	out.node = &node{hash: [2]entry.Hash{l.hash, r.hash}, child: [2]*node{l.node, r.node}, page: [2]page{l.page, r.page}}
	return out
}

// slot takes a part, the last one of those in the builder, out of it.
func (b *builder) slot(p part) slot {
	if p.node != nil || p.hash.IsZero() {
		b.cut(p.at)
		return slot{hash: p.hash, node: p.node}
	}
	s := slot{hash: p.hash}
	if n := len(b.tags) - p.at; n > 1 {
		var m strings.Builder
		m.Grow(1 + 33*n)
		m.WriteByte(byte(n))
		m.Write(b.tags[p.at:])
		m.Write(b.hashes[32*p.at:])
		s.page = page(m.String())
	}
	b.cut(p.at)
	return s
}

// copy adds the subtree of slot i of a page.
func (b *builder) copy(p page, i int) part {
	end, n := p.skip(i), int(p[0])
	out := part{hash: p.hash(i), at: len(b.tags)}
	b.tags = append(b.tags, p[1+i:1+end]...)
	b.hashes = append(b.hashes, p[1+n+32*i:1+n+32*end]...)
	return out
}

// grow adds the tree of sorted leaves that share depth bits.
func (b *builder) grow(ls []leaf, depth int) part {
	if len(ls) == 0 {
		return b.bucket(entry.Hash{})
	}
	if len(ls) <= bucketMax {
		return b.bucket(subtree(ls))
	}
	m := split(ls, depth)
	at := b.open()
	left := b.grow(ls[:m], depth+1)
	right := b.grow(ls[m:], depth+1)
	return b.join(at, depth, left, right)
}
