package answertest

import (
	"crypto/sha256"
	"math/bits"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// Tree is an RFC 6962 tree over leaf hashes, written from the definitions of
// RFC 6962 section 2.1 and as slow as they are.
type Tree []entry.Hash

func node(l, r entry.Hash) entry.Hash {
	b := append([]byte{1}, l[:]...)
	return sha256.Sum256(append(b, r[:]...))
}

// split is the largest power of two below n, n > 1.
func split(n int) int { return 1 << (bits.Len(uint(n-1)) - 1) }

// Root is MTH of all leaves.
func (t Tree) Root() entry.Hash {
	switch len(t) {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return t[0]
	}
	k := split(len(t))
	return node(t[:k].Root(), t[k:].Root())
}

// Inclusion is PATH(i, t), leaf to root.
func (t Tree) Inclusion(i int) []entry.Hash {
	if len(t) <= 1 {
		return nil
	}
	k := split(len(t))
	if i < k {
		return append(t[:k].Inclusion(i), t[k:].Root())
	}
	return append(t[k:].Inclusion(i-k), t[:k].Root())
}

// Consistency is PROOF(m, t).
func (t Tree) Consistency(m int) []entry.Hash {
	if m == 0 || m == len(t) {
		return nil
	}
	return t.subproof(m, true)
}

func (t Tree) subproof(m int, whole bool) []entry.Hash {
	if m == len(t) {
		if whole {
			return nil
		}
		return []entry.Hash{t.Root()}
	}
	k := split(len(t))
	if m <= k {
		return append(t[:k].subproof(m, whole), t[k:].Root())
	}
	return append(t[k:].subproof(m-k, false), t[:k].Root())
}
