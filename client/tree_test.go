package client

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"testing"

	"fabtrail.dev/fabtrail/custody/answer/answertest"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
)

func testLeaf(i int) []byte {
	h := sha256.Sum256(fmt.Appendf(nil, "leaf %d", i))
	return append([]byte{1, 2}, h[:]...)
}

// The tiles and the root are compared with a tree written from RFC 6962 and
// with tile contents written from the tlog-tiles text, independent of the code
// under test.
func TestTileTree(t *testing.T) {
	const size = 256*3 + 17
	var oracle answertest.Tree
	tree := &tileTree{}
	served := map[string][]byte{}
	keep := func(p entry.TilePath, b []byte) error {
		served[p.String()] = bytes.Clone(b)
		return nil
	}
	for i := range size {
		if got, want := tree.root(), oracle.Root(); got != want {
			t.Fatalf("root at size %d is %s, want %s", i, got, want)
		}
		oracle = append(oracle, entry.LeafHash(testLeaf(i)))
		if err := tree.add(entry.LeafHash(testLeaf(i)), keep); err != nil {
			t.Fatal(err)
		}
	}
	if err := tree.partial(keep); err != nil {
		t.Fatal(err)
	}
	want := map[string][]byte{}
	for n := 0; n*256 < size; n++ {
		part := oracle[n*256 : min(size, n*256+256)]
		p := entry.TilePath{Index: uint64(n), Width: len(part)}
		var b []byte
		for _, h := range part {
			b = append(b, h[:]...)
		}
		want[p.String()] = b
	}
	var top []byte
	for n := range size / 256 {
		h := oracle[n*256 : n*256+256].Root()
		top = append(top, h[:]...)
	}
	want[entry.TilePath{Level: 1, Width: size / 256}.String()] = top
	if len(served) != len(want) {
		t.Errorf("%d tiles, want %d", len(served), len(want))
	}
	for path, b := range want {
		if !bytes.Equal(served[path], b) {
			t.Errorf("%s: %d bytes, want %d equal ones", path, len(served[path]), len(b))
		}
	}
	if err := tree.checkRoot(checkpoint.Checkpoint{Size: size, Root: oracle.Root()}); err != nil {
		t.Error(err)
	}
	if err := tree.checkRoot(checkpoint.Checkpoint{Size: size, Root: oracle[1:].Root()}); err == nil {
		t.Error("another root was accepted")
	}
	if err := tree.checkRoot(checkpoint.Checkpoint{Size: size - 1, Root: oracle[:size-1].Root()}); err == nil {
		t.Error("another size was accepted")
	}
}
