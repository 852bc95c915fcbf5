package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
)

// segment makes a small, whole segment of every type of record.
func segment() []byte {
	base := jbase{segment: 3, epoch: 2, origin: "a.test/log", size: 3, frontier: []entry.Hash{{1}, {2}}, signed: []byte("note\n")}
	leaves := binary.BigEndian.AppendUint64(nil, 3)
	leaves = binary.BigEndian.AppendUint32(leaves, 2)
	leaves = appendLeaf(leaves, &Leaf{ID: entry.Hash{7}, Value: [34]byte{1, 2}, Cargo: []byte("cargo")})
	leaves = appendLeaf(leaves, &Leaf{ID: entry.Hash{8}, Value: [34]byte{1, 3}, Cargo: []byte("c"), Manifest: []byte("m")})
	var b []byte
	var prev entry.Hash
	for i, r := range []struct {
		typ  byte
		body []byte
	}{{recBase, base.marshal()}, {recEpoch, make([]byte, 8)}, {recLeaves, leaves}, {recSigned, []byte("signed")}, {recCosigned, []byte("cosigned")}} {
		synced := uint64(0)
		if i > 2 {
			synced = uint64(len(b))
		}
		b, prev = appendRecord(b, r.typ, synced, prev, r.body)
	}
	return b
}

// encode writes records again.
// scan3 scans segment 3, and tells a torn end from damage.
func scan3(b []byte, prev *entry.Hash) (recs []jrecord, torn bool, err error) {
	recs, bad := scanSegment(3, b, prev)
	switch {
	case bad == nil:
		return recs, false, nil
	case bad.torn:
		return recs, true, nil
	}
	return nil, false, bad
}

func encode(recs []jrecord) []byte {
	var b []byte
	for _, r := range recs {
		b, _ = appendRecord(b, r.typ, r.synced, r.prev, r.body)
	}
	return b
}

// TestSegmentCut: a segment cut anywhere gives the whole records before the cut,
// and says that it is torn unless the cut is between two.
func TestSegmentCut(t *testing.T) {
	whole := segment()
	all, torn, err := scan3(whole, nil)
	if err != nil || torn || len(all) != 5 || !bytes.Equal(encode(all), whole) {
		t.Fatal(len(all), torn, err)
	}
	for n := range whole {
		recs, torn, err := scan3(whole[:n], nil)
		if err != nil {
			t.Fatalf("cut at %d: %v", n, err)
		}
		if b := encode(recs); !bytes.Equal(b, whole[:len(b)]) || torn != (len(b) != n) {
			t.Fatalf("cut at %d: %d records, torn %v", n, len(recs), torn)
		}
	}
}

// TestSegmentDamage: a flipped bit below what a later record calls synced is
// damage; above it, it may be a torn write and ends the segment.
func TestSegmentDamage(t *testing.T) {
	whole := segment()
	all, _, _ := scan3(whole, nil)
	synced := all[4].synced
	for i := range whole {
		bad := bytes.Clone(whole)
		bad[i] ^= 0x10
		recs, torn, err := scan3(bad, nil)
		var d *damage
		switch {
		case uint64(i) < synced && !(errors.As(err, &d) && errors.Is(err, ErrDamaged)):
			t.Fatalf("byte %d of %d synced: %d records, torn %v, %v", i, synced, len(recs), torn, err)
		case uint64(i) >= synced && err == nil && (!torn || len(recs) != 4):
			t.Fatalf("byte %d: %d records, torn %v", i, len(recs), torn)
		}
	}
	// Whole records at the wrong place are damage wherever they are.
	swapped, prev := appendRecord(nil, recSigned, 0, entry.Hash{}, nil)
	if _, _, err := scan3(swapped, nil); err == nil {
		t.Fatal("a segment without a base record")
	}
	twice, _ := appendRecord(bytes.Clone(whole), recSigned, 0, prev, nil)
	if _, _, err := scan3(twice, nil); err == nil {
		t.Fatal("a record of another chain")
	}
	if _, _, err := scan3(whole, &entry.Hash{1}); err == nil {
		t.Fatal("a segment that does not follow the one before")
	}
}

// FuzzSegment: whatever the bytes, the reader ends, and what it accepts encodes
// to the same bytes.
func FuzzSegment(f *testing.F) {
	f.Add(segment())
	f.Add(segment()[:200])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		recs, torn, err := scan3(b, nil)
		if err != nil {
			return
		}
		out := encode(recs)
		if !bytes.HasPrefix(b, out) || !torn && len(out) != len(b) {
			t.Fatalf("%d records are %d of %d bytes", len(recs), len(out), len(b))
		}
	})
}

// FuzzBodies: bodies are read strictly.
func FuzzBodies(f *testing.F) {
	recs, _, _ := scan3(segment(), nil)
	for _, r := range recs {
		f.Add(r.body)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if base, err := parseBase(b); err == nil && !bytes.Equal(base.marshal(), b) {
			t.Fatal("base record is not read strictly")
		}
		if first, leaves, err := parseLeaves(b); err == nil {
			out := binary.BigEndian.AppendUint64(nil, first)
			out = binary.BigEndian.AppendUint32(out, uint32(len(leaves)))
			for i := range leaves {
				out = appendLeaf(out, &leaves[i])
			}
			if !bytes.Equal(out, b) {
				t.Fatal("leaves record is not read strictly")
			}
		}
	})
}

func (r indexRow) marshal() []byte {
	b := r.list.AppendTo(nil)
	var prev uint64
	for _, i := range r.tail {
		b = binary.AppendUvarint(b, i-prev)
		prev = i
	}
	return b
}

// FuzzRows: the rows of the truth store are read strictly, or refused.
func FuzzRows(f *testing.F) {
	f.Add(indexRow{tail: []uint64{1, 5}}.marshal())
	f.Add(headRow{Size: 3}.marshal())
	f.Add(encodeTopics(5, []topicRef{{topic: entry.Hash{1}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := parseHead(b); err == nil && !bytes.Equal(h.marshal(), b) {
			t.Fatal("head row")
		}
		if r, err := parseRow(b); err == nil {
			if again, err := parseRow(r.marshal()); err != nil || again.list.Value() != r.list.Value() {
				t.Fatal("index row", err)
			}
			if _, last, err := rowValue(b); err != nil || last != r.tail[len(r.tail)-1] {
				t.Fatal("index row read in two ways", err)
			}
			var l unitindex.List
			rest, err := l.Read(b)
			if at, terr := cutTail(rest, l.Count()); err != nil || terr != nil || at.n != len(r.tail) || at.last != r.tail[len(r.tail)-1] {
				t.Fatal("index row read in a third way", err, terr)
			}
		}
		if r, err := parseRecord(b); err == nil {
			again := make([]byte, recordLen(r.Cargo(), r.manifest))
			if putRecord(again, r.Cargo(), r.manifest); !bytes.Equal(again, b) {
				t.Fatal("entry row")
			}
		}
		_, _ = parseTopics(3, b)
	})
}
