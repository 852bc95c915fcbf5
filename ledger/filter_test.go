package ledger

import (
	"encoding/binary"
	"testing"
)

func testID(i int) []byte {
	h := sha256Sum(binary.BigEndian.AppendUint64(nil, uint64(i)))
	return h[:]
}

// A filter knows every key that was added, through all its layers, and takes few
// others for known ones.
func TestKeyFilter(t *testing.T) {
	t.Run("statement IDs", func(t *testing.T) { testKeyFilter(t, idHashes) })
	t.Run("rows", func(t *testing.T) { testKeyFilter(t, rowHashes()) })
}

func testKeyFilter(t *testing.T, hash func([]byte) keyHashes) {
	f := newKeyFilter(hash, 0)
	if !f.mayHave(testID(0)) {
		t.Fatal("an ID is ruled out before the database was read")
	}
	f.ready.Store(true)
	const n = 5 * filterLeast // three layers
	for i := range n {
		f.add(testID(i))
	}
	if layers := len(*f.layers.Load()); layers != 3 {
		t.Errorf("%d layers, want 3", layers)
	}
	wrong := 0
	for i := range n {
		if !f.mayHave(testID(i)) {
			t.Fatalf("ID %d is ruled out", i)
		}
		if f.mayHave(testID(n + i)) {
			wrong++
		}
	}
	if wrong > n/40 {
		t.Errorf("%d of %d unknown IDs are taken for known ones", wrong, n)
	}
}

// The cache answers with what was put last, in bounded space, and keeps what is
// used.
func TestRowCache(t *testing.T) {
	const space = 1 << 16
	c := newRowCache(space)
	key := func(i int) string { return string(binary.BigEndian.AppendUint64(nil, uint64(i))) }
	c.put("hot", []byte("first"))
	c.putAll(map[string][]byte{"hot": []byte("second"), "gone": nil})
	if v, ok := c.get("gone"); !ok || v != nil {
		t.Errorf("an absent row reads as %q, %t", v, ok)
	}
	for i := range 10_000 {
		c.put(key(i), make([]byte, 40))
		if v, ok := c.use("hot"); !ok || string(v) != "second" {
			t.Fatalf("after %d rows, the row in use reads as %q, %t", i, v, ok)
		}
		if held := (len(c.cur) + len(c.old)) * (8 + 40 + rowOverhead); held > space+2*rowOverhead {
			t.Fatalf("%d bytes are kept, limit %d", held, space)
		}
	}
	if _, ok := c.get(key(0)); ok {
		t.Error("the oldest row is still there")
	}
	none := newRowCache(0)
	none.put("a", nil)
	if _, ok := none.use("a"); ok {
		t.Error("a cache of no bytes keeps a row")
	}
}
