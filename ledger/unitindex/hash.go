package unitindex

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"

	"fabtrail.dev/fabtrail/ledger/entry"
)

const (
	domainEmpty = "fabtrail/index/empty/v1\n"
	domainList  = "fabtrail/list/v1\n"

	prefixLeaf  = 0x00
	prefixInner = 0x01

	topicBits = 256
)

var emptyRoot = entry.Hash(sha256.Sum256([]byte(domainEmpty)))

// EmptyRoot is the root of a tree without topics.
func EmptyRoot() entry.Hash { return emptyRoot }

// hashLeaf is the tree of one topic.
func hashLeaf(topic, value *entry.Hash) entry.Hash {
	var b [65]byte
	b[0] = prefixLeaf
	copy(b[1:], topic[:])
	copy(b[33:], value[:])
	return sha256.Sum256(b[:])
}

// hashInner is the tree of two subtrees that part at bit position p, 0 to 255.
func hashInner(p int, left, right *entry.Hash) entry.Hash {
	var b [66]byte
	b[0] = prefixInner
	b[1] = byte(p)
	copy(b[2:], left[:])
	copy(b[34:], right[:])
	return sha256.Sum256(b[:])
}

// hashRef is the RFC 6962 leaf hash of one element of a list.
func hashRef(r Ref) entry.Hash {
	var b [41]byte
	binary.BigEndian.PutUint64(b[1:], r.Index)
	copy(b[9:], r.Leaf[:])
	return sha256.Sum256(b[:])
}

// hashNode is the RFC 6962 node hash inside a list.
func hashNode(left, right *entry.Hash) entry.Hash {
	var b [65]byte
	b[0] = 0x01
	copy(b[1:], left[:])
	copy(b[33:], right[:])
	return sha256.Sum256(b[:])
}

func hashValue(count uint64, root *entry.Hash) entry.Hash {
	var b [len(domainList) + 8 + 32]byte
	copy(b[:], domainList)
	binary.BigEndian.PutUint64(b[len(domainList):], count)
	copy(b[len(domainList)+8:], root[:])
	return sha256.Sum256(b[:])
}

// bit returns bit p of h, the most significant bit of its first byte being 0.
func bit(h *entry.Hash, p int) int { return int(h[p>>3]>>(7-p&7)) & 1 }

// setBit returns h with bit p set.
func setBit(h entry.Hash, p int) entry.Hash {
	h[p>>3] |= 0x80 >> (p & 7)
	return h
}

// commonBits is the number of leading bits that a and b share, 256 if equal.
func commonBits(a, b *entry.Hash) int {
	for i := 0; i < len(a); i += 8 {
		x := binary.BigEndian.Uint64(a[i:]) ^ binary.BigEndian.Uint64(b[i:])
		if x != 0 {
			return i*8 + bits.LeadingZeros64(x)
		}
	}
	return topicBits
}
