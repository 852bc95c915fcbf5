package custody_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// TestManifestHead: no beginning of a manifest is refused, and what is refused by its
// head is none.
func TestManifestHead(t *testing.T) {
	var members []custody.Member
	for i := range 20 {
		members = append(members, custody.Member{URI: fmt.Sprintf("https://id.gs1.org/8004/9506000UNIT%05d", i), Salt: entry.Hash{byte(i)}})
	}
	m, err := custody.NewManifest(members)
	if err != nil {
		t.Fatal(err)
	}
	good := m.Marshal()
	const fixed = 25 // magic and count
	for n := fixed; n <= len(good); n++ {
		for _, size := range []int64{-1, int64(len(good))} {
			if err := custody.CheckManifestHead(good[:n], size); err != nil {
				t.Fatalf("the first %d bytes of %d, size %d: %v", n, len(good), size, err)
			}
		}
	}
	count := func(n uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.BigEndian.PutUint32(b[fixed-4:], n); return b }
	}
	same := func(b []byte) []byte { return b }
	member := (len(good) - fixed) / len(members)
	for _, tc := range []struct {
		name string
		edit func([]byte) []byte
		size int64 // beyond the bytes there are
		want string
	}{
		{"nothing", func(b []byte) []byte { return nil }, 0, "not a manifest"},
		{"no count", func(b []byte) []byte { return b[:fixed-1] }, 1000, "not a manifest"},
		{"another magic", func(b []byte) []byte { b[18]++; return b }, 0, "not a manifest"},
		{"no members", count(0), 0, "announces 0 members"},
		{"too many members", count(custody.MaxMembers + 1), 0, "announces 100001 members"},
		{"too short for its members", count(10_000), 0, "which are not"},
		{"too long for its members", count(1), 0, "which are not"},
		{"16 MiB for twenty", same, 16 << 20, "which are not"},
		{"a URI that is none", func(b []byte) []byte { b[fixed+2] = 'x'; return b }, 0, "member 0: "},
		{"not ascending", func(b []byte) []byte {
			return slices.Concat(b[:fixed], b[fixed+member:fixed+2*member], b[fixed:fixed+member], b[fixed+2*member:])
		}, 0, "not above the one before"},
	} {
		b := tc.edit(slices.Clone(good))
		size := int64(len(b)) + tc.size
		err := custody.CheckManifestHead(b, size)
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "manifest_mismatch") {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
		if _, err := custody.ParseManifest(append(b, make([]byte, tc.size)...)); err == nil {
			t.Errorf("%s is a manifest after all", tc.name)
		}
	}
}
