package unitindex

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"fabtrail.dev/fabtrail/ledger/entry"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"pgregory.net/rapid"
)

// testRefs makes n refs with gaps between their indexes.
func testRefs(n int) []Ref {
	refs := make([]Ref, n)
	for i := range refs {
		index := uint64(3*i + i%2)
		refs[i] = Ref{index, oracleHash([]byte("entry"), binary.BigEndian.AppendUint64(nil, index))}
	}
	return refs
}

func TestListValueMatchesOracleAndRFC6962(t *testing.T) {
	refs := testRefs(300)
	cr := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	var l List
	for n := 0; n <= len(refs); n++ {
		want := oracleListValue(refs[:n])
		if l.Value() != want {
			t.Fatalf("%d refs appended singly: value %s, want %s", n, l.Value(), want)
		}
		if got := ListValue(refs[:n]); got != want {
			t.Fatalf("%d refs at once: value %s, want %s", n, got, want)
		}
		if root, err := cr.GetRootHash(nil); err != nil || n > 0 && !bytes.Equal(root, refHash(l.Root())) {
			t.Fatalf("%d refs: root %s, compact range has %x (%v)", n, l.Root(), root, err)
		}
		if n == len(refs) {
			break
		}
		l = l.Append(refs[n])
		leaf := binary.BigEndian.AppendUint64(nil, refs[n].Index)
		if err := cr.Append(rfc6962.DefaultHasher.HashLeaf(append(leaf, refs[n].Leaf[:]...)), nil); err != nil {
			t.Fatal(err)
		}
	}
}

func refHash(h entry.Hash) []byte { return h[:] }

func TestListIsAValue(t *testing.T) {
	refs := testRefs(9)
	base := List{}.Append(refs[:6]...)
	a := base.Append(refs[6])
	b := base.Append(refs[7], refs[8])
	if base.Value() != oracleListValue(refs[:6]) || a.Value() != oracleListValue(refs[:7]) {
		t.Fatal("growing a list changed another that it comes from")
	}
	if b.Value() != oracleListValue(append(refs[:6:6], refs[7], refs[8])) {
		t.Fatal("growing a list twice mixed the two")
	}
}

func TestListStoredForm(t *testing.T) {
	refs := testRefs(130)
	for n := range refs {
		l := List{}.Append(refs[:n]...)
		b := l.Marshal()
		got, err := ParseList(b)
		if err != nil || got.Value() != l.Value() || got.Count() != uint64(n) {
			t.Fatalf("%d refs: read back %v, %v", n, got, err)
		}
		if got.Append(refs[n]).Value() != oracleListValue(refs[:n+1]) {
			t.Fatalf("%d refs: list read back does not grow as the one written", n)
		}
		value, rest, err := ReadValue(append(bytes.Clone(b), 7, 8))
		if n == 0 {
			if !errors.Is(err, entry.ErrMalformed) {
				t.Fatalf("an empty list has a value: %v", err)
			}
			continue
		}
		if err != nil || value != l.Value() || !bytes.Equal(rest, []byte{7, 8}) {
			t.Fatalf("%d refs: ReadValue gives %s, %v, %v", n, value, rest, err)
		}
	}
	if n := len(List{}.Append(refs[0]).Marshal()); n != 33 {
		t.Fatalf("a list of one takes %d bytes", n)
	}
}

func TestParseListRefuses(t *testing.T) {
	one := List{}.Append(testRefs(1)...).Marshal()
	for name, b := range map[string][]byte{
		"empty":             {},
		"unfinished length": {0x80},
		"long form":         append([]byte{0x81, 0x00}, one[1:]...),
		"length overflow":   {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"too long a list":   append(binary.AppendUvarint(nil, maxCount+1), make([]byte, 64)...),
		"short":             one[:32],
		"trailing":          append(bytes.Clone(one), 0),
	} {
		if l, err := ParseList(b); !errors.Is(err, entry.ErrMalformed) {
			t.Errorf("%s: %v, %v", name, l, err)
		}
	}
}

func TestRangeProofsOfEveryRange(t *testing.T) {
	refs := testRefs(21)
	for n := range len(refs) + 1 {
		all := refs[:n]
		value := oracleListValue(all)
		for begin := range n + 1 {
			for end := begin; end <= n; end++ {
				p, err := ProveRange(uint64(begin), uint64(end), uint64(n), NodesOf(all))
				if err != nil {
					t.Fatal(err)
				}
				b := p.Marshal()
				if want := oracleRange(all, begin, end); !bytes.Equal(b, want) {
					t.Fatalf("[%d, %d) of %d: proof %x, want %x", begin, end, n, b, want)
				}
				q, err := ParseRangeProof(b)
				if err != nil {
					t.Fatal(err)
				}
				if err := VerifyRange(value, q, all[begin:end]); err != nil {
					t.Fatalf("[%d, %d) of %d: %v", begin, end, n, err)
				}
				err = VerifyGrowth(oracleListValue(all[:begin]), value, q, all[begin:end])
				if (err == nil) != (end == n) {
					t.Fatalf("[%d, %d) of %d as growth: %v", begin, end, n, err)
				}
				rangeLies(t, value, q, all, begin, end)
			}
		}
	}
}

// rangeLies tries what a server could make of a good range proof.
func rangeLies(t *testing.T, value entry.Hash, p RangeProof, all []Ref, begin, end int) {
	t.Helper()
	try := func(name string, p RangeProof, refs []Ref) {
		t.Helper()
		if err := VerifyRange(value, p, refs); err == nil {
			t.Fatalf("[%d, %d) of %d: accepted with %s", begin, end, len(all), name)
		}
	}
	refs := all[begin:end]
	n := len(refs)
	if n > 0 {
		try("the first dropped", p, refs[1:])
		try("the last dropped", p, refs[:n-1])
		q := p
		q.End--
		try("the last dropped and the range shortened", q, refs[:n-1])
		r := append([]Ref{}, refs...)
		r[n/2].Leaf[31] ^= 1
		try("another leaf hash", p, r)
		r = append([]Ref{}, refs...)
		r[n-1].Index++
		try("another index", p, r)
		r = append(append([]Ref{}, refs...), refs[n-1])
		try("the last twice", p, r)
	}
	if n > 1 {
		r := append([]Ref{}, refs...)
		r[0], r[n-1] = r[n-1], r[0]
		try("two swapped", p, r)
	}
	for i := range p.Hashes {
		q := p
		q.Hashes = append([]entry.Hash{}, p.Hashes...)
		q.Hashes[i][0] ^= 1
		try("another hash", q, refs)
		q.Hashes = append([]entry.Hash{}, p.Hashes[:i]...)
		q.Hashes = append(q.Hashes, p.Hashes[i+1:]...)
		try("a hash missing", q, refs)
	}
	q := p
	q.Count++
	try("another count", q, refs)
	q = p
	q.Hashes = append(append([]entry.Hash{}, p.Hashes...), entry.Hash{})
	try("a hash too many", q, refs)
}

func TestGrowthRefusesAnotherPast(t *testing.T) {
	refs := testRefs(40)
	value := oracleListValue(refs)
	p, err := ProveRange(25, 40, 40, NodesOf(refs))
	if err != nil {
		t.Fatal(err)
	}
	if err := VerifyGrowth(oracleListValue(refs[:25]), value, p, refs[25:]); err != nil {
		t.Fatal(err)
	}
	other := append([]Ref{}, refs[:25]...)
	other[3].Leaf[0] ^= 1
	for name, known := range map[string]entry.Hash{
		"another past": oracleListValue(other), "a shorter past": oracleListValue(refs[:24]),
		"the value itself": value, "nothing": {},
	} {
		if err := VerifyGrowth(known, value, p, refs[25:]); !errors.Is(err, ErrProof) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRangeRefusesAListOutOfOrder: a value that does commit to refs out of order
// is no list, whoever signed it.
func TestRangeRefusesAListOutOfOrder(t *testing.T) {
	refs := testRefs(6)
	refs[2], refs[3] = refs[3], refs[2]
	p, err := ProveRange(1, 6, 6, NodesOf(refs))
	if err != nil {
		t.Fatal(err)
	}
	if err := VerifyRange(oracleListValue(refs), p, refs[1:]); !errors.Is(err, entry.ErrMalformed) {
		t.Fatal(err)
	}
}

func TestRangeProofRefusesHostileBounds(t *testing.T) {
	const big = ^uint64(0)
	for _, c := range [][3]uint64{
		{1, 0, 2}, {0, 3, 2}, {0, 0, maxCount + 1}, {0, 0, big}, {0, big, big}, {big, big, big}, {big, 0, 1}, {maxCount, maxCount + 1, big},
	} {
		p := RangeProof{Begin: c[0], End: c[1], Count: c[2]}
		if _, err := ParseRangeProof(p.Marshal()); !errors.Is(err, entry.ErrMalformed) {
			t.Errorf("%v parsed: %v", c, err)
		}
		if err := VerifyRange(oracleListValue(nil), p, nil); err == nil {
			t.Errorf("%v accepted", c)
		}
		if _, err := ProveRange(c[0], c[1], c[2], NodesOf(nil)); err == nil {
			t.Errorf("%v proved", c)
		}
	}
	// The largest list is no danger either: 62 hashes, none of which is right.
	p := RangeProof{Begin: maxCount - 1, End: maxCount - 1, Count: maxCount}
	p.Hashes = make([]entry.Hash, p.size())
	if err := VerifyRange(entry.Hash{}, p, nil); !errors.Is(err, ErrProof) {
		t.Error(err)
	}
}

func TestProveRangeReportsTheSource(t *testing.T) {
	refs := testRefs(5)
	if _, err := ProveRange(6, 7, 8, NodesOf(refs)); err == nil {
		t.Fatal("made a proof from a list that is too short")
	}
	if _, err := NodesOf(refs)(63, 1); err == nil {
		t.Fatal("a node at level 63")
	}
}

func TestCheckRefs(t *testing.T) {
	refs := testRefs(4)
	if err := CheckRefs(refs); err != nil {
		t.Fatal(err)
	}
	refs[2] = refs[1]
	if err := CheckRefs(refs); !errors.Is(err, entry.ErrMalformed) {
		t.Fatalf("an index twice: %v", err)
	}
}

// TestRangesOfLongLists checks random ranges of lists longer than the
// exhaustive test has, with a growth in two steps.
func TestRangesOfLongLists(t *testing.T) {
	refs := testRefs(1500)
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, len(refs)).Draw(t, "n")
		a := rapid.IntRange(0, n).Draw(t, "a")
		b := rapid.IntRange(a, n).Draw(t, "b")
		va, vb, vn := oracleListValue(refs[:a]), oracleListValue(refs[:b]), oracleListValue(refs[:n])
		for _, g := range []struct {
			from, to int
			known, v entry.Hash
		}{{a, b, va, vb}, {b, n, vb, vn}, {a, n, va, vn}} {
			p, err := ProveRange(uint64(g.from), uint64(g.to), uint64(g.to), NodesOf(refs[:g.to]))
			if err != nil {
				t.Fatal(err)
			}
			if err := VerifyGrowth(g.known, g.v, p, refs[g.from:g.to]); err != nil {
				t.Fatal(err)
			}
		}
		p, err := ProveRange(uint64(a), uint64(b), uint64(n), NodesOf(refs[:n]))
		if err != nil {
			t.Fatal(err)
		}
		if err := VerifyRange(vn, p, refs[a:b]); err != nil {
			t.Fatal(err)
		}
	})
}
