package unitindex

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"testing/iotest"

	"fabtrail.dev/fabtrail/ledger/entry"
	"pgregory.net/rapid"
)

// TestMemIndexAgainstOracle appends entries to the lists of random topics and
// compares lists, roots and proofs after each commit.
func TestMemIndexAgainstOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := NewMemIndex()
		lists := map[entry.Hash][]Ref{}
		next := uint64(0)
		for range rapid.IntRange(1, 5).Draw(t, "commits") {
			for range rapid.IntRange(0, 60).Draw(t, "entries") {
				topic := drawTopic(t)
				ref := Ref{next, testValue(next)}
				lists[topic] = append(lists[topic], ref)
				if err := m.Append(topic, ref); err != nil {
					t.Fatal(err)
				}
				if err := m.Append(topic, ref); err == nil {
					t.Fatal("an entry twice in one list")
				}
				next += rapid.Uint64Range(0, 2).Draw(t, "gap") + 1
			}
			before := m.Tree().Root()
			rows := map[entry.Hash]entry.Hash{}
			for topic, refs := range lists {
				rows[topic] = oracleListValue(refs)
			}
			v := version{rows: rows}
			root, err := m.Commit()
			if err != nil {
				t.Fatal(err)
			}
			v.tree = m.Tree()
			v.check(t)
			if len(m.pending) != 0 {
				t.Fatal("a commit leaves lists pending")
			}
			if again, err := m.Commit(); err != nil || again != root || root != v.tree.Root() {
				t.Fatalf("a commit of nothing: %s, %v", again, err)
			}
			topic := drawTopic(t)
			p, err := m.Prove(topic)
			if err != nil || !bytes.Equal(p.Marshal(), oracleProve(oracleSet(rows), topic)) {
				t.Fatalf("proof %v, %v", p, err)
			}
			l, ok := m.List(topic)
			if ok != (len(lists[topic]) > 0) || l.Count() != uint64(len(lists[topic])) {
				t.Fatalf("list of %d, want %d", l.Count(), len(lists[topic]))
			}
			if len(lists) == 0 && before != EmptyRoot() {
				t.Fatal("an empty index has another root")
			}
		}
	})
}

// TestSortedMapAgainstModel checks order, ranges and lookups with enough keys
// for runs to be split.
func TestSortedMapAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := new(MemRows)
		model := map[entry.Hash]entry.Hash{}
		seed := rapid.Uint64Range(0, 1<<40).Draw(t, "seed")
		n := rapid.Uint64Range(0, 1200).Draw(t, "n")
		ascending := rapid.Bool().Draw(t, "ascending")
		for i := range n {
			topic := testTopic(seed + i%900)
			if ascending {
				topic = entry.Hash{0, byte(i >> 8), byte(i)}
			}
			rows.Set(topic, testValue(i))
			model[topic] = testValue(i)
		}
		if rows.Len() != uint64(len(model)) {
			t.Fatalf("%d keys, want %d", rows.Len(), len(model))
		}
		set := oracleSet(model)
		for bits := range 12 {
			prefix := testTopic(rapid.Uint64Range(0, 50).Draw(t, "prefix"))
			for i := bits; i < topicBits; i++ {
				prefix[i/8] &^= 0x80 >> (i % 8)
			}
			var want, got []oracleRow
			for _, r := range set {
				if commonBits(&r.topic, &prefix) >= bits {
					want = append(want, r)
				}
			}
			if err := rows.Scan(prefix, bits, func(topic, value entry.Hash) error {
				got = append(got, oracleRow{topic, value})
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if len(got) != len(want) {
				t.Fatalf("%d rows under a prefix of %d bits, want %d", len(got), bits, len(want))
			}
			for i := range got {
				if got[i] != want[i] {
					t.Fatalf("row %d is %v, want %v", i, got[i], want[i])
				}
			}
		}
		for _, topic := range []entry.Hash{testTopic(seed), {0, 1, 1}, {}} {
			got, ok := rows.Get(topic)
			want, in := model[topic]
			if ok != in || got != want {
				t.Fatalf("%s, %v, want %s, %v", got, ok, want, in)
			}
		}
	})
}

func TestSnapshotRestoresTree(t *testing.T) {
	for _, n := range []uint64{0, 1, 12, 13, 700} {
		v := version{new(Tree), map[entry.Hash]entry.Hash{}}
		for i := range n {
			topic := testTopic(i)
			if i%3 == 0 {
				topic = entry.Hash{30: byte(i >> 8), 31: byte(i)}
			}
			v.rows[topic] = testValue(i)
		}
		rows := v.memRows()
		built, err := Build(rows)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := built.WriteSnapshot(&b); err != nil {
			t.Fatal(err)
		}
		if v.tree, err = ReadSnapshot(bytes.NewReader(b.Bytes())); err != nil {
			t.Fatal(err)
		}
		v.check(t)
		for i := range min(n, 30) + 2 {
			v.checkProof(t, rows, testTopic(i))
		}
		damagedSnapshots(t, v.tree, b.Bytes())

		// One that says to be large is read in parts, and is the same tree.
		large := bytes.Clone(b.Bytes())
		binary.BigEndian.PutUint64(large[len(domainSnapshot):], snapshotSplit)
		parts, err := ReadSnapshot(bytes.NewReader(large))
		if err != nil || parts.Root() != v.tree.Root() {
			t.Fatalf("%d topics in parts: %v", n, err)
		}
		parts.n = n
		for i := range min(n, 30) + 2 {
			version{parts, v.rows}.checkProof(t, rows, testTopic(i))
		}
		parts.n = snapshotSplit
		damagedSnapshots(t, parts, large)
		var again bytes.Buffer
		if err := parts.WriteSnapshot(&again); err != nil || !bytes.Equal(again.Bytes(), large) {
			t.Fatalf("%d topics read in parts are written otherwise: %v", n, err)
		}
	}
}

// damagedSnapshots flips and cuts a snapshot: it is refused, or its root or its
// number of topics shows it.
func damagedSnapshots(t *testing.T, good *Tree, b []byte) {
	t.Helper()
	step := max(1, len(b)/400)
	for k := 0; k < len(b); k += step {
		c := bytes.Clone(b)
		c[k] ^= 1 << (k % 8)
		tree, err := ReadSnapshot(bytes.NewReader(c))
		if err == nil && tree.Root() == good.Root() && tree.Len() == good.Len() {
			t.Fatalf("byte %d of %d is not protected", k, len(b))
		}
		if err != nil && !errors.Is(err, entry.ErrMalformed) {
			t.Fatal(err)
		}
		if _, err := ReadSnapshot(bytes.NewReader(b[:k])); !errors.Is(err, entry.ErrMalformed) {
			t.Fatalf("cut at %d of %d: %v", k, len(b), err)
		}
	}
	if _, err := ReadSnapshot(bytes.NewReader(append(bytes.Clone(b), 0))); !errors.Is(err, entry.ErrMalformed) {
		t.Fatalf("a byte too many: %v", err)
	}
	disk := errors.New("disk")
	if _, err := ReadSnapshot(iotest.ErrReader(disk)); !errors.Is(err, disk) {
		t.Fatalf("a read error is lost: %v", err)
	}
}

func TestSnapshotRefusesHostileShapes(t *testing.T) {
	for _, n := range []uint64{0, snapshotSplit} {
		hostileShapes(t, binary.BigEndian.AppendUint64([]byte(domainSnapshot), n))
	}
}

func hostileShapes(t *testing.T, head []byte) {
	t.Helper()
	chain := func(depth int) []byte { // one bucket under nodes that have nothing else
		b := append(bytes.Clone(head), bytes.Repeat([]byte{tagNode}, depth)...)
		b = append(append(b, tagBucket), bytes.Repeat([]byte{7}, 32)...)
		return append(b, make([]byte, depth)...)
	}
	if _, err := ReadSnapshot(bytes.NewReader(chain(topicBits))); err != nil {
		t.Errorf("the deepest shape is refused: %v", err)
	}
	for name, b := range map[string][]byte{
		"too deep by one":       chain(topicBits + 1),
		"too deep":              append(bytes.Clone(head), bytes.Repeat([]byte{tagNode}, 5000)...),
		"a node of nothing":     append(bytes.Clone(head), tagNode, tagNone, tagNone),
		"a bucket of no hash":   append(append(bytes.Clone(head), tagBucket), make([]byte, 32)...),
		"an unknown tag":        append(bytes.Clone(head), 3),
		"another magic":         append([]byte("fabtrail/index-snapshot/v2\n"), make([]byte, 9)...),
		"a head without a body": head,
	} {
		if _, err := ReadSnapshot(bytes.NewReader(b)); !errors.Is(err, entry.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
