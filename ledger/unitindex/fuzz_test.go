package unitindex

import (
	"bytes"
	"testing"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// fuzzTree is a small tree with skipped bits, for proofs to be held against.
func fuzzTree(f *testing.F) (version, *MemRows) {
	v := version{new(Tree), map[entry.Hash]entry.Hash{}}
	for i := range uint64(20) {
		v.rows[testTopic(i)] = testValue(i)
		v.rows[entry.Hash{31: byte(i)}] = testValue(i)
	}
	rows := v.memRows()
	var err error
	if v.tree, err = Build(rows); err != nil {
		f.Fatal(err)
	}
	return v, rows
}

// FuzzProof parses and verifies any bytes: what is read is written back the
// same, the oracle comes to the same verdict, and only truth is accepted.
func FuzzProof(f *testing.F) {
	v, rows := fuzzTree(f)
	for _, topic := range []entry.Hash{testTopic(3), testTopic(30), {31: 7}, {31: 21}, {}} {
		p, err := v.tree.Prove(rows, topic)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(topic[:], p.Marshal())
	}
	f.Add([]byte{}, []byte{1, 0})
	f.Add([]byte{}, []byte{1, 1})
	f.Fuzz(func(t *testing.T, key, b []byte) {
		var topic entry.Hash
		copy(topic[:], key)
		p, err := ParseProof(b)
		ovalue, opresent, ok := oracleVerify(v.tree.Root(), topic, b)
		if err != nil {
			if ok {
				t.Fatal("the oracle accepts what is not parsed")
			}
			return
		}
		if !bytes.Equal(p.Marshal(), b) || len(b) > MaxProof {
			t.Fatalf("read %x, wrote %x", b, p.Marshal())
		}
		value, present, err := Verify(v.tree.Root(), topic, p)
		if ok != (err == nil) || value != ovalue || present != opresent {
			t.Fatalf("%s, %v, %v; the oracle has %s, %v, %v", value, present, err, ovalue, opresent, ok)
		}
		if want, in := v.rows[topic]; err == nil && (present != in || value != want) {
			t.Fatal("a lie is accepted")
		}
	})
}

// FuzzList reads any bytes as a stored list.
func FuzzList(f *testing.F) {
	for _, n := range []int{0, 1, 2, 7, 130} {
		f.Add(List{}.Append(testRefs(n)...).Marshal())
	}
	f.Add([]byte{0x80, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		value, rest, verr := ReadValue(b)
		l, err := ParseList(b)
		if err != nil {
			return
		}
		if !bytes.Equal(l.Marshal(), b) {
			t.Fatalf("read %x, wrote %x", b, l.Marshal())
		}
		if l.Count() > 0 && (verr != nil || len(rest) != 0 || value != l.Value()) {
			t.Fatalf("ReadValue gives %s, %v", value, verr)
		}
		if l.Count() < maxCount && l.Append(testRefs(1)...).Count() != l.Count()+1 {
			t.Fatal("the list does not grow")
		}
	})
}

// FuzzRangeProof reads any bytes as a range proof and holds it to a list.
func FuzzRangeProof(f *testing.F) {
	refs := testRefs(21)
	value := oracleListValue(refs)
	for _, r := range [][2]int{{0, 21}, {21, 21}, {5, 9}, {16, 21}} {
		f.Add(oracleRange(refs, r[0], r[1]))
	}
	f.Add(bytes.Repeat([]byte{0x3f, 0xff}, 60))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseRangeProof(b)
		if err != nil {
			return
		}
		if !bytes.Equal(p.Marshal(), b) {
			t.Fatalf("read %x, wrote %x", b, p.Marshal())
		}
		if p.End > 1000 {
			return
		}
		given := testRefs(int(p.End))[p.Begin:]
		if VerifyRange(value, p, given) == nil && !bytes.Equal(b, oracleRange(refs, int(p.Begin), int(p.End))) {
			t.Fatalf("a second proof is accepted: %x", b)
		}
	})
}

// FuzzSnapshot reads any bytes as a snapshot.
func FuzzSnapshot(f *testing.F) {
	v, _ := fuzzTree(f)
	for _, tree := range []*Tree{v.tree, new(Tree)} {
		var b bytes.Buffer
		if err := tree.WriteSnapshot(&b); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		tree, err := ReadSnapshot(bytes.NewReader(b))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := tree.WriteSnapshot(&out); err != nil || !bytes.Equal(out.Bytes(), b) {
			t.Fatalf("read %x, wrote %x (%v)", b, out.Bytes(), err)
		}
	})
}
