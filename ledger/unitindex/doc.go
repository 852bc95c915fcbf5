// Package unitindex is the verifiable index: for every topic the list of log
// entries that concern it, committed to by one root, with proofs that a list
// is whole or that a topic has no entries at all. It is pure: no clock, no
// randomness, no disk. All integers are big-endian; every hash is SHA-256.
//
// # List of a topic
//
// The entries of a topic in ascending order of their index, each at most once.
//
//	value = SHA-256("fabtrail/list/v1\n" | count u64 | root)
//	root  = RFC 6962 Merkle tree hash over the leaf data (entry index u64 | leaf hash of the entry (32))
//
// A topic without entries is not in the tree.
//
// List as stored (not a public format, but strict):
//
//	count uvarint (minimal) | hashes of the perfect subtrees of [0, count), largest first
//
// # Range proof of a list
//
//	begin u64 | end u64 | count u64 | left hashes | right hashes
//
// It shows that given refs are the elements [begin, end) of the list of count
// elements with a given value. Left hashes are those of the perfect subtrees
// that make up [0, begin), largest first: one per set bit of begin. Right
// hashes are those of the perfect, aligned subtrees that make up [end, count),
// from left to right, each the largest that is aligned and fits. A range
// [n, count) is also a growth proof: the left hashes alone give the value of
// the list at n elements, so whoever knows that value learns in one step that
// the old list is a prefix of the new one and what was added. The whole list
// [0, count) needs no hashes.
//
// # Index tree
//
// A path-compressed binary tree over the topics (32 bytes, most significant bit
// first, bit positions 0 to 255). Its shape is a function of the set of topics:
//
//	tree of no topics    = SHA-256("fabtrail/index/empty/v1\n")
//	tree of one topic    = SHA-256(0x00 | topic | value)
//	tree of more than one = SHA-256(0x01 | p u8 | left | right)
//
// p is the first bit position at which the topics are not all equal, left the
// tree of those that have 0 there, right of those that have 1.
//
// # Index proof
//
//	0x01 | kind u8 | body
//
//	kind 0, empty tree: no body
//	kind 1, present:    value (32) | path
//	kind 2, absent:     neighbour topic (32) | neighbour's value (32) | path
//
//	path = n u8 | bitmap (n bytes) | siblings (32 each)
//
// Bit p of the bitmap (most significant bit of its first byte = 0) is set if an
// inner node on the path from the root to the leaf has bit position p. n is at
// most 32, the last byte of the bitmap is not zero, and siblings are as many as
// set bits, in the order from the root down. One proof has one encoding.
//
// To verify a proof for a topic against a root: kind 0 holds if the root is the
// one of no topics. Else the leaf is (topic, value), or for kind 2 (neighbour,
// neighbour's value), where the neighbour is not the topic and has the same bit
// as the topic at every position of the path. Start from the hash of the leaf;
// for each position p from the last to the first, put the sibling on the other
// side than the topic's bit p says, and hash with 0x01 | p. The result must be
// the root.
//
// # Why an absence proof is sound
//
// Inner nodes do not commit to the prefix that their topics share, only to the
// position where they part. It is not needed. Call descent(root, t) the walk
// that starts at the root and at each inner node with position p goes to the
// side of bit p of t, until it is at a leaf.
//
// (1) An accepted proof is the descent of its topic. Hashing is injective (short of
// a SHA-256 collision): inner nodes and leaves differ in their first byte and
// their length, and positions and both children are hashed. So the nodes that a
// verifier recomputes are, one by one, the nodes below the root, and at each
// the verifier goes by the topic's own bit.
//
// (2) So a root answers once. The descent of t under one root ends in one leaf.
// It is a leaf of t, then only kind 1 with that value is accepted, or of
// another topic, then only kind 2 with that neighbour; never both, whoever made
// the root, honestly or not. The neighbour cannot be chosen.
//
// (3) In a tree made as specified, every topic s of the set lies, at each inner
// node above it, on the side of its own bit: that is how sets are parted. So
// descent(root, s) ends at the leaf of s. If a proof for t ends at the leaf of
// another topic, then t is not in the set. If it ends at a leaf of t, t is in
// the set with that value, as leaves are exactly the set's members.
//
// (4) So (2) holds under any root, and (3) rests on one thing alone: that the root
// was made as specified. Proofs cannot show that; an index-verifying cosigner or
// an audit recomputes it from the log.
//
// Two more things hold in every true tree and are checked: positions ascend from
// the root (the bitmap cannot say otherwise), which bounds a verifier's work to
// 256 hashes; and a leaf agrees with the topic at each position, so that a tree
// with leaves on the wrong side answers nothing for the topics it misplaces.
//
// # Tree in memory
//
// Tree keeps only the upper part in memory, down to buckets of at most
// bucketMax topics, as an immutable structure that successive versions share.
// Its lower levels are pages: some eleven buckets and the nodes above them in
// one piece of memory without pointers.
// Rows of a bucket are read back when it changes or when a proof is asked, and
// are refused unless they hash to what is in memory. Buckets are a storage
// choice; they never change a root.
//
// Source: docs/formats.md; RFC 6962 section 2.1.
package unitindex
