package custody

import (
	"bytes"
	"encoding/binary"
)

// CheckManifestHead refuses (manifest_mismatch) what cannot be the beginning of a manifest
// of size bytes (-1: unknown), so that the rest need not be read: it looks at the magic,
// the number of members, and those members that head holds whole. What it lets through
// ParseManifest may still refuse.
func CheckManifestHead(head []byte, size int64) error {
	rest, ok := bytes.CutPrefix(head, []byte(manifestMagic))
	if !ok || len(rest) < 4 {
		return badManifest("these bytes are not a manifest").WithHint("a manifest begins with %q", manifestMagic)
	}
	count := int64(binary.BigEndian.Uint32(rest))
	if count == 0 || count > MaxMembers {
		return badManifest("the manifest announces %d members, want 1 to %d", count, MaxMembers)
	}
	if body := size - int64(len(manifestMagic)) - 4; size >= 0 && (body < count*(2+4*32) || body > count*int64(maxMember)) {
		return badManifest("the manifest announces %d members, which are not %d bytes", count, size)
	}
	rest = rest[4:]
	var before Member
	for i := range int(count) {
		m, after, ok := cutMember(rest)
		if !ok {
			return nil // the rest of it is not here
		}
		if err := m.check(); err != nil {
			return badManifest("member %d: %s", i, err.Detail).WithHint("%s", err.Hint).With("member", i)
		}
		if i > 0 && compareMembers(before, m) >= 0 {
			return badManifest("member %d (%s) is not above the one before it", i, m.URI).
				WithHint("sort by URI and name each unit once").With("member", i)
		}
		before, rest = m, after
	}
	return nil
}

// ManifestCount is how many members a manifest announces; 0 if b is none.
func ManifestCount(b []byte) int {
	rest, ok := bytes.CutPrefix(b, []byte(manifestMagic))
	if !ok || len(rest) < 4 {
		return 0
	}
	return int(min(binary.BigEndian.Uint32(rest), MaxMembers))
}
