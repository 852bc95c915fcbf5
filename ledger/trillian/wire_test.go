package trillian

import (
	"bytes"
	"errors"
	"testing"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"pgregory.net/rapid"
)

// TestMessage: what goes to the cluster comes back as it was, whatever its token.
func TestMessage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 1000).Draw(t, "leaf")
		index := rapid.Uint64Range(0, 1<<62).Draw(t, "index")
		var tok token
		copy(tok[:], rapid.SliceOfN(rapid.Byte(), tokenSize, tokenSize).Draw(t, "token"))
		var digest entry.Hash
		copy(digest[:], rapid.SliceOfN(rapid.Byte(), 0, 32).Draw(t, "digest"))
		want := ledgertest.Leaf(n)
		want.Manifest = nil
		m := message(tok, index, &want, digest)
		if !bytes.Equal(m.ExtraData[1:1+tokenSize], tok[:]) {
			t.Fatal("the token is not where the trigger looks")
		}
		got, sum, err := parseMessage(m, index)
		if err != nil || !got.Equal(&want) || sum != digest {
			t.Fatalf("leaf %d came back as another: %v", n, err)
		}
	})
}

// TestMessageRefused: what cannot be ours is an error, not a leaf.
func TestMessageRefused(t *testing.T) {
	leaf := ledgertest.Leaf(1)
	for name, change := range map[string]func(v, id, extra *[]byte, index *uint64){
		"another index":   func(_, _, _ *[]byte, i *uint64) { *i++ },
		"short value":     func(v, _, _ *[]byte, _ *uint64) { *v = (*v)[1:] },
		"short identity":  func(_, id, _ *[]byte, _ *uint64) { *id = (*id)[1:] },
		"no extra data":   func(_, _, x *[]byte, _ *uint64) { *x = nil },
		"another version": func(_, _, x *[]byte, _ *uint64) { (*x)[0] = 2 },
		"a short header":  func(_, _, x *[]byte, _ *uint64) { *x = (*x)[:extraHeader-1] },
	} {
		m := message(token{}, 7, &leaf, entry.Hash{})
		index := uint64(7)
		change(&m.LeafValue, &m.LeafIdentityHash, &m.ExtraData, &index)
		if _, _, err := parseMessage(m, index); !errors.Is(err, entry.ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
}

// TestChunks: calls stay below what a log server takes, and none is empty.
func TestChunks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		leaves := make([]ledger.Leaf, rapid.IntRange(1, 200).Draw(t, "leaves"))
		for i := range leaves {
			leaves[i].Cargo = make([]byte, rapid.IntRange(0, 300<<10).Draw(t, "bytes"))
		}
		for len(leaves) > 0 {
			n := (&Engine{}).chunk(leaves, learnFirst)
			bytes := 0
			for i := range leaves[:n] {
				bytes += len(leaves[i].Cargo)
			}
			if n < 1 || n > 1 && bytes > addBytes {
				t.Fatalf("%d leaves of %d bytes in one call", n, bytes)
			}
			leaves = leaves[n:]
		}
	})
}
