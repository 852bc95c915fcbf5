package entry

import "encoding/binary"

const (
	// TileWidth is the number of hashes of a full tile and of entries of a full
	// bundle.
	TileWidth = 256
	// MaxEntry bounds one entry of a bundle, in bytes.
	MaxEntry = 1<<16 - 1
)

// MarshalBundle returns the entry bundle of c2sp.org/tlog-tiles: for each entry,
// u16 len | entry. It fails for no entries, more than TileWidth, or one that is
// longer than MaxEntry.
func MarshalBundle(entries [][]byte) ([]byte, error) {
	if len(entries) == 0 || len(entries) > TileWidth {
		return nil, malformed("bundle of %d entries, want 1 to %d", len(entries), TileWidth)
	}
	n := 0
	for i, e := range entries {
		if len(e) > MaxEntry {
			return nil, malformed("entry %d of the bundle has %d bytes, limit %d", i, len(e), MaxEntry)
		}
		n += 2 + len(e)
	}
	b := make([]byte, 0, n)
	for _, e := range entries {
		b = binary.BigEndian.AppendUint16(b, uint16(len(e)))
		b = append(b, e...)
	}
	return b, nil
}

// ParseBundle reads an entry bundle of 1 to TileWidth entries; anything that
// MarshalBundle would not write is an error that wraps ErrMalformed. The caller
// compares the count with the width that was asked for. The result shares memory
// with b.
func ParseBundle(b []byte) ([][]byte, error) {
	var entries [][]byte
	for r := (reader{b: b}); len(r.b) > 0; {
		if len(entries) == TileWidth {
			return nil, malformed("bundle of more than %d entries", TileWidth)
		}
		e := r.take(int(r.u16()))
		if r.err != nil {
			return nil, r.err
		}
		entries = append(entries, e)
	}
	if len(entries) == 0 {
		return nil, malformed("empty bundle")
	}
	return entries, nil
}
