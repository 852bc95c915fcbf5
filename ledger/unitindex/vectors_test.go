package unitindex

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"fabtrail.dev/fabtrail/ledger/entry"
)

var updateVectors = flag.Bool("unitindex.update", false, "write testdata/unitindex from the oracle")

const vectorDir = "../../testdata/unitindex"

type vectorRef struct {
	Index uint64 `json:"index"`
	Leaf  string `json:"leaf"`
}

type listVectors struct {
	Note  string       `json:"note"`
	Lists []listVector `json:"lists"`
	Long  []longVector `json:"long"`
}

// longVector is a proof about a list too long to be written out: the hashes of its
// blocks are made up. Refused says why it must not be accepted, though its hashes give
// its value.
type longVector struct {
	Name    string      `json:"name"`
	Refused string      `json:"refused,omitempty"`
	Value   string      `json:"value"`
	Refs    []vectorRef `json:"refs"`
	Growth  string      `json:"growthFrom,omitempty"`
	Proof   string      `json:"proof"`
}

type listVector struct {
	Name    string        `json:"name"`
	Refs    []vectorRef   `json:"refs"`
	Root    string        `json:"root"`
	Value   string        `json:"value"`
	Ranges  []rangeVector `json:"ranges"`
	Refused []rangeVector `json:"refused"`
	// RefusedGrowth are proofs that do not show this list to have grown from growthFrom.
	RefusedGrowth []rangeVector `json:"refusedGrowth,omitempty"`
}

// rangeVector is a proof for refs against the value of its list; Growth is the
// value of the list at begin, where the range goes to the end.
type rangeVector struct {
	Why    string      `json:"why,omitempty"`
	Refs   []vectorRef `json:"refs"`
	Growth string      `json:"growthFrom,omitempty"`
	Proof  string      `json:"proof"`
}

type treeVectors struct {
	Note  string       `json:"note"`
	Trees []treeVector `json:"trees"`
}

type treeVector struct {
	Name    string        `json:"name"`
	Topics  []topicVector `json:"topics"`
	Root    string        `json:"root"`
	Proofs  []proofVector `json:"proofs"`
	Refused []proofVector `json:"refused"`
}

type topicVector struct {
	Topic string `json:"topic"`
	Value string `json:"value"`
}

type proofVector struct {
	Why     string `json:"why,omitempty"`
	Topic   string `json:"topic"`
	Present bool   `json:"present"`
	Value   string `json:"value,omitempty"`
	Proof   string `json:"proof"`
}

func toVectorRefs(refs []Ref) []vectorRef {
	out := make([]vectorRef, len(refs))
	for i, r := range refs {
		out[i] = vectorRef{r.Index, r.Leaf.String()}
	}
	return out
}

// makeListVectors is the oracle's word on lists.
func makeListVectors() listVectors {
	out := listVectors{Note: "Lists of a topic: value, and range proofs in hex. See package ledger/unitindex."}
	for _, c := range []struct {
		name string
		n    int
	}{{"one entry", 1}, {"two entries", 2}, {"three entries", 3}, {"seven entries", 7}, {"eight entries", 8}, {"twenty-one entries", 21}} {
		refs := testRefs(c.n)
		v := listVector{Name: c.name, Refs: toVectorRefs(refs), Root: oracleListRoot(refs).String(), Value: oracleListValue(refs).String()}
		add := func(begin, end int) {
			r := rangeVector{Refs: toVectorRefs(refs[begin:end]), Proof: hex.EncodeToString(oracleRange(refs, begin, end))}
			if end == c.n {
				r.Growth = oracleListValue(refs[:begin]).String()
			}
			v.Ranges = append(v.Ranges, r)
		}
		add(0, c.n)
		add(c.n, c.n)
		add(c.n-1, c.n)
		add(c.n/3, c.n)
		add(c.n/3, 2*c.n/3)
		refuse := func(why string, refs []Ref, proof []byte) {
			v.Refused = append(v.Refused, rangeVector{Why: why, Refs: toVectorRefs(refs), Proof: hex.EncodeToString(proof)})
		}
		begin := c.n / 3
		good := oracleRange(refs, begin, c.n)
		part := refs[begin:]
		refuse("the last entry is left out", part[:len(part)-1], good)
		refuse("the last entry is left out and the count lowered", part[:len(part)-1], oracleRange(refs[:c.n-1], min(begin, c.n-1), c.n-1))
		altered := append([]Ref{}, part...)
		altered[0].Leaf[0] ^= 0x80
		refuse("another leaf hash", altered, good)
		altered = append([]Ref{}, part...)
		altered[len(altered)-1].Index++
		refuse("another index", altered, good)
		refuse("a hash too many", part, append(bytes.Clone(good), make([]byte, 32)...))
		refuse("a byte too few", part, good[:len(good)-1])
		count := bytes.Clone(good)
		count[23]++
		refuse("another count", part, count)
		over := bytes.Clone(good)
		over[16] = 0x80
		refuse("a count above 2^62", part, over)
		more := bytes.Clone(good)
		more[15]++
		more[23]++
		refuse("an end and a count that are one more than the entries", part, more)
		if len(part) > 1 {
			altered = append([]Ref{}, part...)
			altered[0], altered[1] = altered[1], altered[0]
			refuse("two entries swapped", altered, good)
		}
		v.RefusedGrowth = refusedGrowth(refs)
		out.Lists = append(out.Lists, v)
	}
	out.Long = longVectors()
	return out
}

// refusedGrowth lists lies about what a list of two entries or more has grown from.
func refusedGrowth(refs []Ref) (out []rangeVector) {
	n := len(refs)
	if n < 2 {
		return nil
	}
	refuse := func(why string, from entry.Hash, refs []Ref, proof []byte) {
		out = append(out, rangeVector{Why: why, Refs: toVectorRefs(refs), Growth: from.String(), Proof: hex.EncodeToString(proof)})
	}
	begin := n - n/3 - 1 // with several bits set in the longer lists
	known, added, good := oracleListValue(refs[:begin]), refs[begin:], oracleRange(refs, begin, n)
	other := append([]Ref{}, refs[:begin]...)
	other[begin-1].Leaf[31] ^= 1
	refuse("what is known has another last entry", oracleListValue(other), added, good)
	refuse("what is known is one entry shorter", oracleListValue(refs[:begin-1]), added, good)
	refuse("what is known is one entry longer", oracleListValue(refs[:begin+1]), added, good)
	refuse("what is known is the whole list", oracleListValue(refs), added, good)
	refuse("the root of what is known stands for its value", oracleListRoot(refs[:begin]), added, good)
	refuse("the last of what was added is left out", known, added[:len(added)-1], good)
	refuse("the end is left out of what was added", known, added[:len(added)-1], oracleRange(refs, begin, n-1))
	refuse("a proof of the whole list", known, refs, oracleRange(refs, 0, n))
	refuse("a proof of no entries", known, nil, oracleRange(refs, n, n))
	// A known list that is not the beginning, shown with its own hash as if it were.
	false1 := bytes.Clone(good)
	left := oracleRange(other, begin, begin)[24:]
	copy(false1[24:], left)
	refuse("another beginning, with its own hashes", oracleListValue(other), added, false1)
	if len(left) >= 64 {
		swapped := bytes.Clone(good)
		copy(swapped[24:], good[56:88])
		copy(swapped[56:], good[24:56])
		refuse("two hashes of the beginning swapped", known, added, swapped)
	}
	refuse("a hash of the beginning is missing", known, added, append(bytes.Clone(good[:24]), good[56:]...))
	return out
}

// longVectors are proofs at the limit of what a list may hold.
func longVectors() (out []longVector) {
	const most = uint64(1) << 62
	for _, c := range []struct {
		name, refused     string
		begin, end, count uint64
	}{
		{"nothing of the longest list", "", 0, 0, most},
		{"one entry of the longest list", "", most/2 + 5, most/2 + 6, most},
		{"the last entry of the longest list", "", most - 1, most, most},
		{"a long list that grew across a power of two", "", 1<<40 - 1, 1<<40 + 2, 1<<40 + 2},
		{"a list too long by one", "more than 2^62 entries", 0, 0, most + 1},
		{"an entry of a list too long by one", "more than 2^62 entries", most, most + 1, most + 1},
		{"a list of 2^63 entries", "more than 2^62 entries", 1 << 63, 1 << 63, 1 << 63},
	} {
		v := longVector{Name: c.name, Refused: c.refused, Refs: []vectorRef{}}
		known := oracleBlocks{}
		proof := binary.BigEndian.AppendUint64(nil, c.begin)
		proof = binary.BigEndian.AppendUint64(proof, c.end)
		proof = binary.BigEndian.AppendUint64(proof, c.count)
		cover := func(from, to uint64) {
			for _, b := range oracleCover(from, to) {
				known[b] = oracleHash([]byte("made up"), binary.BigEndian.AppendUint64(nil, b.from), binary.BigEndian.AppendUint64(nil, b.size))
				h := known[b]
				proof = append(proof, h[:]...)
			}
		}
		cover(0, c.begin)
		cover(c.end, c.count)
		for at := c.begin; at < c.end; at++ {
			ref := Ref{Index: 2*at + 1, Leaf: testValue(at)}
			known[oracleBlock{at, 1}] = oracleListRoot([]Ref{ref})
			v.Refs = append(v.Refs, toVectorRefs([]Ref{ref})...)
		}
		value := func(count uint64) string {
			root := known.root(oracleBlock{0, count})
			return oracleHash([]byte("fabtrail/list/v1\n"), binary.BigEndian.AppendUint64(nil, count), root[:]).String()
		}
		v.Value, v.Proof = value(c.count), hex.EncodeToString(proof)
		if c.end == c.count && c.begin > 0 && c.begin < c.end && c.refused == "" {
			v.Growth = value(c.begin)
		}
		out = append(out, v)
	}
	return out
}

// makeTreeVectors is the oracle's word on trees.
func makeTreeVectors() treeVectors {
	out := treeVectors{Note: "Index trees: root, proofs in hex, and proofs that must be refused for their topic. See package ledger/unitindex."}
	many := map[entry.Hash]entry.Hash{}
	for i := range uint64(40) {
		many[testTopic(i)] = testValue(i)
	}
	deep := map[entry.Hash]entry.Hash{}
	for i, topic := range universe(entry.Hash{0x12, 0x9d, 31: 0x53}, 3, 100, 255) {
		if i != 3 && i != 4 {
			deep[topic] = testValue(uint64(i))
		}
	}
	lastBit := map[entry.Hash]entry.Hash{{}: testValue(0), {31: 1}: testValue(1)}
	for _, c := range []struct {
		name string
		rows map[entry.Hash]entry.Hash
		also []entry.Hash
	}{
		{"no topics", nil, []entry.Hash{testTopic(0), {}}},
		{"one topic", map[entry.Hash]entry.Hash{testTopic(0): testValue(0)}, []entry.Hash{testTopic(1)}},
		{"two topics that part at the last bit", lastBit, []entry.Hash{{31: 2}, {31: 3}, {0: 0x80}}},
		{"six topics with skipped bits", deep, universe(entry.Hash{0x12, 0x9d, 31: 0x53}, 3, 100, 255)},
		{"forty topics", many, []entry.Hash{testTopic(40), testTopic(41), {}, {0: 0xff}}},
	} {
		set := oracleSet(c.rows)
		v := treeVector{Name: c.name, Root: oracleRoot(set).String()}
		topics := map[entry.Hash]bool{}
		for i, r := range set {
			v.Topics = append(v.Topics, topicVector{r.topic.String(), r.value.String()})
			if i < 8 {
				topics[r.topic] = true
			}
		}
		for _, topic := range c.also {
			topics[topic] = true
		}
		for _, r := range oracleSet(asRows(topics)) {
			value, in := c.rows[r.topic]
			p := proofVector{Topic: r.topic.String(), Present: in, Proof: hex.EncodeToString(oracleProve(set, r.topic))}
			if in {
				p.Value = value.String()
			}
			v.Proofs = append(v.Proofs, p)
		}
		v.Refused = refusedProofs(set, oracleSet(asRows(topics)))
		out.Trees = append(out.Trees, v)
	}
	return out
}

func asRows(topics map[entry.Hash]bool) map[entry.Hash]entry.Hash {
	out := map[entry.Hash]entry.Hash{}
	for t := range topics {
		out[t] = entry.Hash{}
	}
	return out
}

// refusedProofs lists lies about a tree: each is a change to a true proof.
func refusedProofs(set, topics []oracleRow) []proofVector {
	var out []proofVector
	refuse := func(why string, topic entry.Hash, parts ...[]byte) {
		out = append(out, proofVector{Why: why, Topic: topic.String(), Proof: hex.EncodeToString(bytes.Join(parts, nil))})
	}
	first := topics[0].topic
	if len(set) == 0 {
		refuse("a path in an empty tree", first, []byte{1, 1}, make([]byte, 32), []byte{0})
		refuse("a byte after kind 0", first, []byte{1, 0, 0})
		refuse("an unknown version", first, []byte{2, 0})
		return out
	}
	in := set[0].topic
	good := oracleProve(set, in)
	fixed, path := good[2:34], good[34:]
	refuse("kind 0 though the tree has topics", in, []byte{1, 0})
	refuse("an unknown kind", in, []byte{1, 3}, good[2:])
	refuse("an unknown version", in, []byte{2}, good[1:])
	refuse("a byte too many", in, good, []byte{0})
	refuse("a byte too few", in, good[:len(good)-1])
	other := bytes.Clone(fixed)
	other[5] ^= 1
	refuse("another value", in, []byte{1, 1}, other, path)
	refuse("absent beside itself", in, []byte{1, 2}, in[:], fixed, path)
	refuse("a bitmap of 33 bytes", in, []byte{1, 1}, fixed, []byte{33}, make([]byte, 32), []byte{1}, make([]byte, 32))
	n := int(path[0])
	bitmap, siblings := path[1:1+n], path[1+n:]
	refuse("a bitmap that ends with a zero byte", in, []byte{1, 1}, fixed, []byte{byte(n + 1)}, bitmap, []byte{0}, siblings)
	last := set[len(set)-1]
	if len(set) == 1 {
		return out
	}
	// A present topic hidden behind another leaf, whose path parts from its own.
	theirs := oracleProve(set, last.topic)
	refuse("present, hidden by the true path of another topic", in, []byte{1, 2}, last.topic[:], theirs[2:])
	refuse("present, hidden by another topic put on its path", in, []byte{1, 2}, last.topic[:], last.value[:], path)
	refuse("the proof of another topic", in, theirs)
	refuse("no path", in, []byte{1, 1}, fixed, []byte{0})
	refuse("one sibling missing", in, []byte{1, 1}, fixed, []byte{byte(n)}, bitmap, siblings[32:])
	moved := bytes.Clone(bitmap)
	for i, b := range moved {
		if b != 0 { // the first position, one bit up or down
			if moved[i] = b << 1; b&0x80 != 0 {
				moved[i] = b>>1 | b&0x3f
			}
			break
		}
	}
	refuse("another position", in, []byte{1, 1}, fixed, []byte{byte(n)}, moved, siblings)
	if len(siblings) >= 64 {
		refuse("two siblings swapped", in, []byte{1, 1}, fixed, []byte{byte(n)}, bitmap, siblings[32:64], siblings[:32], siblings[64:])
	}
	for _, r := range topics {
		p := oracleProve(set, r.topic)
		if p[1] == 2 {
			refuse("absent, shown as present with the neighbour's value", r.topic, []byte{1, 1}, p[34:])
			refuse("absent, with the neighbour's topic altered", r.topic, p[:33], []byte{p[33] ^ 2}, p[34:])
			break
		}
	}
	return out
}

// TestVectorsAreTheOracles keeps the files equal to what the specification says.
func TestVectorsAreTheOracles(t *testing.T) {
	for name, v := range map[string]any{"lists.json": makeListVectors(), "trees.json": makeTreeVectors()} {
		want, err := json.MarshalIndent(v, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, '\n')
		path := filepath.Join(vectorDir, name)
		if *updateVectors {
			if err := os.MkdirAll(vectorDir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what the oracle makes (%v); look at the difference, then run with -unitindex.update", path, err)
		}
	}
}

func readVectors(t *testing.T, name string, into any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(vectorDir, name))
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatal(err)
	}
}

func mustHash(t *testing.T, s string) entry.Hash {
	t.Helper()
	h, err := entry.ParseHash(s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func mustHex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func fromVectorRefs(t *testing.T, in []vectorRef) []Ref {
	t.Helper()
	var out []Ref
	for _, r := range in {
		out = append(out, Ref{r.Index, mustHash(t, r.Leaf)})
	}
	return out
}

func TestListVectors(t *testing.T) {
	var vectors listVectors
	readVectors(t, "lists.json", &vectors)
	proofs, refused := 0, 0
	for _, v := range vectors.Lists {
		refs, value := fromVectorRefs(t, v.Refs), mustHash(t, v.Value)
		l := List{}.Append(refs...)
		if l.Root() != mustHash(t, v.Root) || l.Value() != value {
			t.Errorf("%s: root %s, value %s", v.Name, l.Root(), l.Value())
		}
		for _, r := range v.Ranges {
			proofs++
			p, err := ParseRangeProof(mustHex(t, r.Proof))
			if err == nil {
				err = VerifyRange(value, p, fromVectorRefs(t, r.Refs))
			}
			if err == nil && r.Growth != "" {
				err = VerifyGrowth(mustHash(t, r.Growth), value, p, fromVectorRefs(t, r.Refs))
			}
			if err != nil {
				t.Errorf("%s: %s: %v", v.Name, r.Proof, err)
			}
		}
		for _, r := range v.Refused {
			refused++
			p, err := ParseRangeProof(mustHex(t, r.Proof))
			if err == nil && VerifyRange(value, p, fromVectorRefs(t, r.Refs)) == nil {
				t.Errorf("%s: accepted: %s", v.Name, r.Why)
			}
		}
		for _, r := range v.RefusedGrowth {
			refused++
			p, err := ParseRangeProof(mustHex(t, r.Proof))
			if err == nil && VerifyGrowth(mustHash(t, r.Growth), value, p, fromVectorRefs(t, r.Refs)) == nil {
				t.Errorf("%s: accepted: %s", v.Name, r.Why)
			}
		}
	}
	for _, v := range vectors.Long {
		proofs++
		p, err := ParseRangeProof(mustHex(t, v.Proof))
		if err == nil {
			err = VerifyRange(mustHash(t, v.Value), p, fromVectorRefs(t, v.Refs))
		}
		if err == nil && v.Growth != "" {
			err = VerifyGrowth(mustHash(t, v.Growth), mustHash(t, v.Value), p, fromVectorRefs(t, v.Refs))
		}
		if (err == nil) != (v.Refused == "") {
			t.Errorf("%s: %v", v.Name, err)
		}
	}
	if proofs == 0 || refused == 0 || len(vectors.Long) == 0 {
		t.Error("the vectors are empty")
	}
}

func TestTreeVectors(t *testing.T) {
	var vectors treeVectors
	readVectors(t, "trees.json", &vectors)
	proofs, refused := 0, 0
	for _, v := range vectors.Trees {
		root := mustHash(t, v.Root)
		rows := new(MemRows)
		for _, r := range v.Topics {
			rows.Set(mustHash(t, r.Topic), mustHash(t, r.Value))
		}
		tree, err := Build(rows)
		if err != nil {
			t.Fatal(err)
		}
		if tree.Root() != root {
			t.Errorf("%s: root %s, want %s", v.Name, tree.Root(), root)
		}
		for _, c := range v.Proofs {
			proofs++
			topic := mustHash(t, c.Topic)
			p, err := tree.Prove(rows, topic)
			if err != nil || hex.EncodeToString(p.Marshal()) != c.Proof {
				t.Errorf("%s: topic %s: proof %x, %v", v.Name, topic, p.Marshal(), err)
			}
			if p, err = ParseProof(mustHex(t, c.Proof)); err != nil {
				t.Fatal(err)
			}
			value, present, err := Verify(root, topic, p)
			if err != nil || present != c.Present || present && value != mustHash(t, c.Value) {
				t.Errorf("%s: topic %s: %s, %v, %v", v.Name, topic, value, present, err)
			}
		}
		for _, c := range v.Refused {
			refused++
			p, err := ParseProof(mustHex(t, c.Proof))
			if err == nil {
				_, _, err = Verify(root, mustHash(t, c.Topic), p)
			}
			if err == nil {
				t.Errorf("%s: accepted: %s", v.Name, c.Why)
			}
			if _, _, ok := oracleVerify(root, mustHash(t, c.Topic), mustHex(t, c.Proof)); ok {
				t.Errorf("%s: the oracle accepts: %s", v.Name, c.Why)
			}
		}
	}
	if proofs == 0 || refused == 0 {
		t.Error("the vectors are empty")
	}
}
