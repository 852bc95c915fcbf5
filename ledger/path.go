package ledger

import (
	"fmt"
	"sync/atomic"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// Receipts of one publication share most of their way to the root: entries of one
// perfect subtree of 2^lowHeight share all above it. That part is verified for the first
// of them, and remembered; the others are verified up to the node that it starts from.
const (
	lowHeight  = 5
	knownHighs = 256 // remembered, by place: some eight thousand newest entries
)

// high is the way from the node of a subtree to the root of a publication, verified.
type high struct {
	subtree, size uint64
	node, root    entry.Hash
	path          []entry.Hash
}

type highs [knownHighs]atomic.Pointer[high]

// path returns the inclusion proof of entry i in publication p, verified from the
// entry's leaf hash to the root: ErrDamaged if it does not lead there.
func (l *Ledger) path(i uint64, leaf entry.Hash, p pubNote) ([]entry.Hash, error) {
	subtree := i >> lowHeight
	slot := &l.highs[subtree%knownHighs]
	up := slot.Load()
	if up == nil || up.subtree != subtree || up.size != p.size || up.root != p.root {
		hs, err := l.t.inclusion(i, p.size)
		if err != nil {
			return nil, err
		}
		if root, ok := inclusionRoot(i, p.size, leaf, hs); !ok || root != p.root {
			return nil, notThere(i, p)
		}
		if (subtree+1)<<lowHeight <= p.size { // perfect: its part of the path is its height
			slot.Store(&high{subtree, p.size, climb(i, leaf, hs[:lowHeight]), p.root, hs[lowHeight:]})
		}
		return hs, nil
	}
	hs := make([]entry.Hash, lowHeight, lowHeight+len(up.path))
	r := l.t.reader()
	for level := range uint(lowHeight) {
		var err error
		if hs[level], err = r.node(level, i>>level^1); err != nil {
			return nil, err
		}
	}
	if climb(i, leaf, hs) != up.node {
		return nil, notThere(i, p)
	}
	return append(hs, up.path...), nil
}

// climb follows a path within a perfect subtree, from the hash of entry i up.
func climb(i uint64, h entry.Hash, path []entry.Hash) entry.Hash {
	for level := range path {
		if i>>level&1 == 1 {
			h = hashChildren(&path[level], &h)
		} else {
			h = hashChildren(&h, &path[level])
		}
	}
	return h
}

func notThere(i uint64, p pubNote) error {
	return fmt.Errorf("%w: entry %d does not verify in the checkpoint of size %d", ErrDamaged, i, p.size)
}

// inclusionRoot follows a proof from leaf to root, as RFC 9162 2.1.3.2 says.
func inclusionRoot(i, size uint64, h entry.Hash, path []entry.Hash) (entry.Hash, bool) {
	if i >= size {
		return h, false
	}
	fn, sn := i, size-1
	for k := range path {
		if sn == 0 {
			return h, false
		}
		if fn&1 == 1 || fn == sn {
			h = hashChildren(&path[k], &h)
			for fn&1 == 0 && fn != 0 {
				fn, sn = fn>>1, sn>>1
			}
		} else {
			h = hashChildren(&h, &path[k])
		}
		fn, sn = fn>>1, sn>>1
	}
	return h, sn == 0
}
