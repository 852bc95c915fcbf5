package unitindex

import (
	"bytes"
	"errors"
	"testing"

	"fabtrail.dev/fabtrail/ledger/entry"
	"pgregory.net/rapid"
)

// universe is all topics that differ only at some bit positions, with the base
// bits elsewhere.
func universe(base entry.Hash, positions ...int) []entry.Hash {
	out := make([]entry.Hash, 1<<len(positions))
	for i := range out {
		h := base
		for k, p := range positions {
			mask := byte(0x80 >> (p % 8))
			h[p/8] &^= mask
			if i>>(len(positions)-1-k)&1 == 1 {
				h[p/8] |= mask
			}
		}
		out[i] = h
	}
	return out
}

// TestEverySubsetOfSmallUniverses takes all sets of topics of small universes:
// roots and proofs are the oracle's, and a proof made for any set or topic is
// accepted under the root of another only where it tells the truth there.
func TestEverySubsetOfSmallUniverses(t *testing.T) {
	for _, positions := range [][]int{{0, 1, 2}, {0, 7, 8}, {3, 100, 255}, {253, 254, 255}} {
		topics := universe(entry.Hash{0x12, 0x9d, 31: 0x53}, positions...)
		type answer struct {
			topic int
			proof Proof
		}
		var pool []answer
		var sets []version
		seen := map[string]bool{}
		for set := range 1 << len(topics) {
			v := version{new(Tree), map[entry.Hash]entry.Hash{}}
			for i, topic := range topics {
				if set>>i&1 == 1 {
					v.rows[topic] = testValue(uint64(i))
				}
			}
			rows := v.memRows()
			tree, err := Build(rows)
			if err != nil {
				t.Fatal(err)
			}
			v.tree = tree
			v.check(t)
			for i, topic := range topics {
				v.checkProof(t, rows, topic)
				p, err := tree.Prove(rows, topic)
				if err != nil {
					t.Fatal(err)
				}
				if key := string(append(p.Marshal(), byte(i))); !seen[key] {
					seen[key] = true
					pool = append(pool, answer{i, p})
				}
			}
			sets = append(sets, v)
		}
		if positions[0] != 3 {
			continue // one universe with bits skipped everywhere stands for all
		}
		accepted := 0
		for i, v := range sets {
			for k, a := range pool {
				// Its own topic, and one other that changes from case to case.
				for _, topic := range []entry.Hash{topics[a.topic], topics[(a.topic+1+(i+k)%7)%8]} {
					value, present, err := Verify(v.tree.Root(), topic, a.proof)
					if err != nil {
						continue
					}
					accepted++
					if want, in := v.rows[topic]; present != in || value != want {
						t.Fatalf("positions %v, %d topics: a proof for topic %d says %v", positions, len(v.rows), a.topic, present)
					}
				}
			}
		}
		if accepted < len(sets)*len(topics) {
			t.Fatalf("%d proofs accepted, want at least one for each of %d topics under %d roots", accepted, len(topics), len(sets))
		}
	}
}

// TestNoProofCanBeForged gives an adversary every hash and every leaf of a tree
// and tries all proofs that can be put together from them: any positions, any
// siblings in any order, any leaf. Exactly one proof for each topic is accepted,
// the true one.
func TestNoProofCanBeForged(t *testing.T) {
	positions := []int{1, 2, 9}
	topics := universe(entry.Hash{}, positions...)
	for set := 1; set < 1<<len(topics); set++ {
		v := version{new(Tree), map[entry.Hash]entry.Hash{}}
		for i, topic := range topics {
			if set>>i&1 == 1 {
				v.rows[topic] = testValue(uint64(i))
			}
		}
		if n := len(v.rows); n > 4 || n == 4 && set%4 != 0 {
			continue // larger sets cost too much time; of those of four a part will do
		}
		rows := oracleSet(v.rows)
		root, pool := oracleRoot(rows), oracleNodes(rows)
		for _, topic := range topics {
			accepted := 0
			forge(positions, pool, rows, func(p Proof) {
				value, present, err := Verify(root, topic, p)
				if err != nil {
					return
				}
				accepted++
				if want, in := v.rows[topic]; present != in || value != want {
					t.Fatalf("a forged proof is accepted: %+v", p)
				}
				if !bytes.Equal(p.Marshal(), oracleProve(rows, topic)) {
					t.Fatalf("a second proof is accepted: %+v", p)
				}
			})
			if accepted != 1 {
				t.Fatalf("%d proofs accepted for one topic", accepted)
			}
		}
	}
}

// oracleNodes returns the hashes of all nodes of a tree.
func oracleNodes(set []oracleRow) []entry.Hash {
	out := []entry.Hash{oracleRoot(set)}
	if len(set) > 1 {
		_, l, r := oraclePart(set)
		out = append(append(out, oracleNodes(l)...), oracleNodes(r)...)
	}
	return out
}

// forge calls fn for every proof over the given parts.
func forge(positions []int, pool []entry.Hash, set []oracleRow, fn func(Proof)) {
	var leaves []Proof
	for _, r := range set {
		leaves = append(leaves, Proof{Kind: Present, Value: r.value}, Proof{Kind: Absent, Value: r.value, Neighbour: r.topic})
	}
	for mask := range 1 << len(positions) {
		var bitmap entry.Hash
		depth := 0
		for k, p := range positions {
			if mask>>k&1 == 1 {
				bitmap = setBit(bitmap, p)
				depth++
			}
		}
		siblings := make([]entry.Hash, depth)
		var fill func(i int)
		fill = func(i int) {
			if i == depth {
				for _, p := range leaves {
					p.Bits, p.Siblings = bitmap, siblings
					fn(p)
				}
				return
			}
			for _, h := range pool {
				siblings[i] = h
				fill(i + 1)
			}
		}
		fill(0)
	}
}

// TestOneAnswerUnderAnyRoot is soundness without an honest root: the adversary
// makes the tree too, with leaves on the wrong side and positions that recur.
// Still no topic is both present and absent, or has two values.
func TestOneAnswerUnderAnyRoot(t *testing.T) {
	topics := universe(entry.Hash{}, 0, 1)
	rapid.Check(t, func(t *rapid.T) {
		var pool []entry.Hash
		var set []oracleRow
		for range rapid.IntRange(1, 4).Draw(t, "leaves") {
			r := oracleRow{rapid.SampledFrom(topics).Draw(t, "topic"), testValue(rapid.Uint64Range(0, 2).Draw(t, "value"))}
			set = append(set, r)
			pool = append(pool, oracleRoot([]oracleRow{r}))
		}
		for range rapid.IntRange(0, 4).Draw(t, "inner nodes") {
			l, r := rapid.SampledFrom(pool).Draw(t, "left"), rapid.SampledFrom(pool).Draw(t, "right")
			pool = append(pool, oracleHash([]byte{1, rapid.SampledFrom([]byte{0, 1}).Draw(t, "position")}, l[:], r[:]))
		}
		root := pool[len(pool)-1]
		for _, topic := range topics {
			answers := map[string]bool{}
			forge([]int{0, 1}, pool, set, func(p Proof) {
				if _, _, err := Verify(root, topic, p); err == nil {
					answers[string(p.Marshal())] = true
				}
			})
			if len(answers) > 1 {
				t.Fatalf("%d answers for one topic under one root", len(answers))
			}
		}
	})
}

// TestAlteredProofsAreRefused alters good proofs: any flipped bit of the bytes,
// and any other topic's proof.
func TestAlteredProofsAreRefused(t *testing.T) {
	v := version{new(Tree), map[entry.Hash]entry.Hash{}}
	for i := range uint64(40) {
		v.rows[testTopic(i)] = testValue(i)
	}
	rows := v.memRows()
	tree, err := Build(rows)
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(topic entry.Hash, b []byte) {
		p, err := ParseProof(b)
		if err != nil {
			if !errors.Is(err, entry.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if value, present, err := Verify(tree.Root(), topic, p); !errors.Is(err, ErrProof) {
			t.Fatalf("accepted as %s, %v, %v", value, present, err)
		}
	}
	for _, i := range []uint64{0, 7, 39, 40, 41, 50} {
		topic := testTopic(i)
		p, err := tree.Prove(rows, topic)
		if err != nil {
			t.Fatal(err)
		}
		b := p.Marshal()
		for k := range len(b) * 8 {
			c := bytes.Clone(b)
			c[k/8] ^= 1 << (k % 8)
			refuse(topic, c)
		}
		for k := range b {
			refuse(topic, b[:k])
			refuse(topic, append(bytes.Clone(b[:k]), b[k+1:]...))
		}
		refuse(topic, append(bytes.Clone(b), 0))
		other := testTopic(i + 1)
		if _, in := v.rows[other]; in || i < 40 {
			refuse(other, b)
		}
		if _, _, err := Verify(EmptyRoot(), topic, p); !errors.Is(err, ErrProof) {
			t.Fatal("accepted under the empty root")
		}
	}
}

// TestVerifyRefusesHandMadeProofs covers what ParseProof cannot yield.
func TestVerifyRefusesHandMadeProofs(t *testing.T) {
	topic, value := testTopic(1), testValue(1)
	root := hashLeaf(&topic, &value)
	for name, c := range map[string]struct {
		root entry.Hash
		p    Proof
	}{
		"kind 3":                     {root, Proof{Kind: 3, Value: value}},
		"present with a neighbour":   {root, Proof{Kind: Present, Value: value, Neighbour: testTopic(2)}},
		"absent beside itself":       {root, Proof{Kind: Absent, Value: value, Neighbour: topic}},
		"a sibling without position": {root, Proof{Kind: Present, Value: value, Siblings: []entry.Hash{{}}}},
		"a position without sibling": {root, Proof{Kind: Present, Value: value, Bits: entry.Hash{1}}},
		"empty with a value":         {EmptyRoot(), Proof{Value: value}},
		"empty with a path":          {EmptyRoot(), Proof{Bits: entry.Hash{1}, Siblings: []entry.Hash{{}}}},
		"empty, the tree is not":     {root, Proof{}},
	} {
		if _, _, err := Verify(c.root, topic, c.p); !errors.Is(err, ErrProof) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, present, err := Verify(root, topic, Proof{Kind: Present, Value: value}); err != nil || !present || got != value {
		t.Errorf("the tree of one topic: %v, %v, %v", got, present, err)
	}
}

// TestLeafOnTheWrongSideIsRefused: only a root that was not made as specified has
// such a leaf, and then it answers nothing for the topics it misplaces.
func TestLeafOnTheWrongSideIsRefused(t *testing.T) {
	low, high := oracleRow{entry.Hash{0x00}, testValue(0)}, oracleRow{entry.Hash{0x80}, testValue(1)}
	l, h := oracleRoot([]oracleRow{low}), oracleRoot([]oracleRow{high})
	root := oracleHash([]byte{1, 0}, h[:], l[:])
	for _, c := range []struct {
		topic entry.Hash
		leaf  oracleRow
		other entry.Hash
	}{{low.topic, high, l}, {high.topic, low, h}, {entry.Hash{0x01}, high, l}} {
		p := Proof{Kind: Absent, Value: c.leaf.value, Neighbour: c.leaf.topic, Bits: entry.Hash{0x80}, Siblings: []entry.Hash{c.other}}
		if _, _, err := Verify(root, c.topic, p); !errors.Is(err, ErrProof) {
			t.Errorf("topic %s is absent beside a misplaced leaf: %v", c.topic, err)
		}
		p.Kind, p.Neighbour = Present, entry.Hash{}
		if _, _, err := Verify(root, c.leaf.topic, p); !errors.Is(err, ErrProof) {
			t.Errorf("a misplaced leaf is present: %v", err)
		}
	}
}

// TestDeepestPath has an inner node at every one of the 256 positions.
func TestDeepestPath(t *testing.T) {
	v := version{new(Tree), map[entry.Hash]entry.Hash{{}: testValue(0)}}
	for p := range topicBits {
		v.rows[setBit(entry.Hash{}, p)] = testValue(uint64(p))
	}
	rows := v.memRows()
	tree, err := Build(rows)
	if err != nil {
		t.Fatal(err)
	}
	v.tree = tree
	v.check(t)
	p, err := tree.Prove(rows, entry.Hash{})
	if err != nil || len(p.Siblings) != topicBits {
		t.Fatalf("%d siblings, %v", len(p.Siblings), err)
	}
	if n := len(p.Marshal()); n != MaxProof-32 {
		t.Fatalf("%d bytes, want %d", n, MaxProof-32)
	}
	for _, topic := range []entry.Hash{{}, {31: 1}, {31: 3}, {0xff}} {
		v.checkProof(t, rows, topic)
	}
}
