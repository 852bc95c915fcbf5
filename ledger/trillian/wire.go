package trillian

import (
	"fmt"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/entry"
	tpb "github.com/google/trillian"
)

const (
	extraVersion = 0x01
	tokenSize    = 16
	extraHeader  = 1 + tokenSize + 32
)

// token tells the leaves of one signing engine from those of any other.
type token [tokenSize]byte

// extraData encodes what Trillian keeps beside a leaf.
func extraData(t token, manifest entry.Hash, cargo []byte) []byte {
	b := make([]byte, 0, extraHeader+len(cargo))
	b = append(append(b, extraVersion), t[:]...)
	return append(append(b, manifest[:]...), cargo...)
}

// parseExtra is the inverse of extraData, without the token.
func parseExtra(b []byte) (manifest entry.Hash, cargo []byte, err error) {
	if len(b) < extraHeader || b[0] != extraVersion {
		return manifest, nil, fmt.Errorf("%w: extra data of %d bytes", entry.ErrMalformed, len(b))
	}
	copy(manifest[:], b[1+tokenSize:])
	return manifest, b[extraHeader:], nil
}

// message makes the leaf that goes to Trillian.
func message(t token, index uint64, l *ledger.Leaf, manifest entry.Hash) *tpb.LogLeaf {
	return &tpb.LogLeaf{LeafValue: l.Value[:], ExtraData: extraData(t, manifest, l.Cargo),
		LeafIndex: int64(index), LeafIdentityHash: l.ID[:]}
}

// parseMessage reads a leaf that came from Trillian; it must be that of index.
func parseMessage(m *tpb.LogLeaf, index uint64) (l ledger.Leaf, manifest entry.Hash, err error) {
	if m.LeafIndex != int64(index) {
		return l, manifest, fmt.Errorf("%w: leaf %d where %d was asked for", entry.ErrMalformed, m.LeafIndex, index)
	}
	if len(m.LeafValue) != entry.LeafSize || len(m.LeafIdentityHash) != len(l.ID) {
		return l, manifest, fmt.Errorf("%w: leaf %d has %d bytes and an identity of %d", entry.ErrMalformed, index,
			len(m.LeafValue), len(m.LeafIdentityHash))
	}
	if manifest, l.Cargo, err = parseExtra(m.ExtraData); err != nil {
		return l, manifest, fmt.Errorf("leaf %d: %w", index, err)
	}
	copy(l.ID[:], m.LeafIdentityHash)
	copy(l.Value[:], m.LeafValue)
	return l, manifest, nil
}
