package unitindex

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"fabtrail.dev/fabtrail/ledger/entry"
	"pgregory.net/rapid"
)

// testTopic is a topic as real ones are: 256 random-looking bits.
func testTopic(i uint64) entry.Hash {
	return oracleHash([]byte("topic"), binary.BigEndian.AppendUint64(nil, i))
}

func testValue(i uint64) entry.Hash {
	return oracleHash([]byte("value"), binary.BigEndian.AppendUint64(nil, i))
}

// drawTopic makes topics that collide in long prefixes, so that bits are
// skipped and buckets lie deep, beside plain random ones.
func drawTopic(t *rapid.T) entry.Hash {
	i := rapid.Uint64Range(0, 400).Draw(t, "topic")
	h := testTopic(i)
	switch {
	case i < 100: // equal up to the last byte
		return setLow(entry.Hash{}, byte(i))
	case i < 150: // equal up to the middle
		h = entry.Hash{15: 0x20}
		h[16] = byte(i)
		return h
	case i < 200: // few distinct first bytes
		h[0] = byte(i) & 3 << 3
	}
	return h
}

func setLow(h entry.Hash, b byte) entry.Hash {
	h[31] = b
	return h
}

// failer is what *testing.T and *rapid.T have in common.
type failer interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// version is a tree with the rows that go with it.
type version struct {
	tree *Tree
	rows map[entry.Hash]entry.Hash
}

func (v version) memRows() *MemRows {
	r := new(MemRows)
	for k, val := range v.rows {
		r.Set(k, val)
	}
	return r
}

func (v version) check(t failer) {
	t.Helper()
	if want := oracleRoot(oracleSet(v.rows)); v.tree.Root() != want {
		t.Fatalf("root %s of %d topics, want %s", v.tree.Root(), len(v.rows), want)
	}
	if v.tree.Len() != uint64(len(v.rows)) {
		t.Fatalf("tree has %d topics, want %d", v.tree.Len(), len(v.rows))
	}
}

// checkProof proves topic and compares bytes and verdict with the oracle.
func (v version) checkProof(t failer, rows Rows, topic entry.Hash) {
	t.Helper()
	p, err := v.tree.Prove(rows, topic)
	if err != nil {
		t.Fatal(err)
	}
	b := p.Marshal()
	if want := oracleProve(oracleSet(v.rows), topic); !bytes.Equal(b, want) {
		t.Fatalf("proof %x, want %x", b, want)
	}
	q, err := ParseProof(b)
	if err != nil {
		t.Fatal(err)
	}
	want, in := v.rows[topic]
	value, present, err := Verify(v.tree.Root(), topic, q)
	if err != nil || present != in || value != want {
		t.Fatalf("verified as %s, %v, %v; want %s, %v", value, present, err, want, in)
	}
	if ov, op, ok := oracleVerify(v.tree.Root(), topic, b); !ok || op != in || ov != want {
		t.Fatal("the oracle reads the proof in another way")
	}
}

// TestTreeAgainstOracle runs random histories of updates: every version keeps
// its root and its proofs while later ones share its nodes; Build and Rebase
// come to the same root by other ways.
func TestTreeAgainstOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		versions := []version{{new(Tree), map[entry.Hash]entry.Hash{}}}
		for range rapid.IntRange(1, 4).Draw(t, "updates") {
			from := versions[rapid.IntRange(0, len(versions)-1).Draw(t, "from")]
			next := map[entry.Hash]entry.Hash{}
			for k, v := range from.rows {
				next[k] = v
			}
			var changes []Change
			var touched []entry.Hash
			for _, topic := range rapid.SliceOfNDistinct(rapid.Custom(drawTopic), 0, 120, rapid.ID).Draw(t, "topics") {
				value := testValue(rapid.Uint64().Draw(t, "value"))
				next[topic] = value
				changes = append(changes, Change{topic, value})
				touched = append(touched, topic)
			}
			tree, err := from.tree.Update(from.memRows(), changes)
			if err != nil {
				t.Fatal(err)
			}
			to := version{tree, next}
			to.check(t)
			versions = append(versions, to)

			for name, way := range map[string]struct {
				tree *Tree
				to   version
			}{"forward": {from.tree, to}, "back": {to.tree, from}} {
				r, err := way.tree.Rebase(way.to.memRows(), touched, uint64(len(way.to.rows)))
				if err != nil {
					t.Fatal(name, err)
				}
				version{r, way.to.rows}.check(t)
				version{r, way.to.rows}.checkProof(t, way.to.memRows(), drawTopic(t))
			}
			built, err := Build(to.memRows())
			if err != nil {
				t.Fatal(err)
			}
			version{built, next}.check(t)
			version{built, next}.checkProof(t, to.memRows(), drawTopic(t))
		}
		for _, v := range versions {
			v.check(t)
			rows := v.memRows()
			for range 5 {
				v.checkProof(t, rows, drawTopic(t))
			}
		}
	})
}

// TestTreeOfManyTopics is large enough for parallel updates, several chunks of
// Build in one prefix, and deep nodes.
func TestTreeOfManyTopics(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	v := version{new(Tree), map[entry.Hash]entry.Hash{}}
	rows := new(MemRows)
	for _, size := range []int{1, 3000, 64, 9000, 1} {
		var changes []Change
		seen := map[entry.Hash]bool{}
		for range size {
			topic := testTopic(rng.Uint64N(20000))
			if topic[1]&1 == 0 {
				topic[0] = 0xc5 // half of all in one prefix, so that it takes chunks
			}
			value := testValue(rng.Uint64())
			if !seen[topic] {
				seen[topic] = true
				changes = append(changes, Change{topic, value})
			}
		}
		tree, err := v.tree.Update(rows, changes)
		if err != nil {
			t.Fatal(err)
		}
		rows.Apply(changes)
		for _, c := range changes {
			v.rows[c.Topic] = c.Value
		}
		v.tree = tree
		v.check(t)
	}
	built, err := Build(rows)
	if err != nil {
		t.Fatal(err)
	}
	b := version{built, v.rows}
	b.check(t)
	set := oracleSet(v.rows)
	for i := range uint64(60) {
		v.checkProof(t, rows, testTopic(i))
		b.checkProof(t, rows, set[int(i)*len(set)/60].topic)
	}
}

func TestUpdateRefusesATopicTwice(t *testing.T) {
	_, err := new(Tree).Update(new(MemRows), []Change{{testTopic(1), testValue(1)}, {testTopic(2), testValue(1)}, {testTopic(1), testValue(2)}})
	if err == nil {
		t.Fatal("accepted")
	}
}

// TestDamagedRowsAreRefused damages the rows of a tree in every way: neither a
// proof nor a new root ever comes from them, and the error says where.
func TestDamagedRowsAreRefused(t *testing.T) {
	good := version{new(Tree), map[entry.Hash]entry.Hash{}}
	for i := range uint64(200) {
		good.rows[testTopic(i)] = testValue(i)
	}
	tree, err := Build(good.memRows())
	if err != nil {
		t.Fatal(err)
	}
	victim := testTopic(77)
	prefix, bits := tree.Bucket(victim)
	damages := map[string]func(*MemRows){
		"a value":        func(r *MemRows) { r.Set(victim, testValue(1000)) },
		"an extra topic": func(r *MemRows) { r.Set(setLow(victim, victim[31]^1), testValue(1)) },
	}
	remove := func(k func(entry.Hash) bool) func(*MemRows) {
		return func(r *MemRows) {
			*r = MemRows{}
			for topic, value := range good.rows {
				if !k(topic) {
					r.Set(topic, value)
				}
			}
		}
	}
	damages["a topic lost"] = remove(func(k entry.Hash) bool { return k == victim })
	damages["the bucket lost"] = remove(func(k entry.Hash) bool { return commonBits(&k, &prefix) >= bits })
	for name, damage := range damages {
		rows := good.memRows()
		damage(rows)
		for _, topic := range []entry.Hash{victim, setLow(victim, victim[31]^2)} {
			_, err := tree.Prove(rows, topic)
			wantRowsError(t, name+", prove", err, prefix, bits)
			_, err = tree.Update(rows, []Change{{topic, testValue(5)}, {testTopic(500), testValue(5)}})
			wantRowsError(t, name+", update", err, prefix, bits)
		}
		if _, err := tree.Prove(rows, testTopic(3)); err != nil {
			t.Errorf("%s: another bucket is refused: %v", name, err)
		}
		built, err := Build(rows)
		if err != nil || built.Root() == tree.Root() {
			t.Errorf("%s: a full scan does not see it (%v)", name, err)
		}
	}
}

func wantRowsError(t *testing.T, name string, err error, prefix entry.Hash, bits int) {
	t.Helper()
	var re *RowsError
	if !errors.Is(err, ErrRows) || !errors.As(err, &re) {
		t.Errorf("%s: %v", name, err)
	} else if re.Prefix != prefix || re.Bits != bits {
		t.Errorf("%s: %v, want prefix %x/%d", name, err, prefix, bits)
	}
}

// listRows yields fixed rows whatever is asked, as a broken store might.
type listRows []Change

func (l listRows) Scan(_ entry.Hash, _ int, fn func(topic, value entry.Hash) error) error {
	for _, c := range l {
		if err := fn(c.Topic, c.Value); err != nil {
			return err
		}
	}
	return nil
}

type failingRows struct{ err error }

func (f failingRows) Scan(entry.Hash, int, func(topic, value entry.Hash) error) error { return f.err }

func TestBrokenScansAreRefused(t *testing.T) {
	low, high := Change{entry.Hash{0x01}, testValue(1)}, Change{entry.Hash{0x02}, testValue(1)}
	far := Change{entry.Hash{0xf1}, testValue(1)}
	one, err := new(Tree).Update(new(MemRows), []Change{low, high})
	if err != nil {
		t.Fatal(err)
	}
	for name, rows := range map[string]Rows{
		"out of order":   listRows{high, low},
		"twice":          listRows{low, low, high},
		"another prefix": listRows{low, high, far},
	} {
		if _, err := Build(rows); !errors.Is(err, ErrRows) {
			t.Errorf("%s, Build: %v", name, err)
		}
		if _, err := one.Prove(rows, low.Topic); !errors.Is(err, ErrRows) {
			t.Errorf("%s, Prove: %v", name, err)
		}
		if _, err := one.Update(rows, []Change{low}); !errors.Is(err, ErrRows) {
			t.Errorf("%s, Update: %v", name, err)
		}
	}
	if _, err := one.Update(listRows{low, high}, []Change{far}); err != nil {
		t.Errorf("good rows: %v", err)
	}
	deep := version{new(Tree), map[entry.Hash]entry.Hash{}}
	for i := range uint64(100) {
		deep.rows[testTopic(i)] = testValue(i)
	}
	big, err := Build(deep.memRows())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := big.Rebase(listRows{low, far}, []entry.Hash{low.Topic}, 2); !errors.Is(err, ErrRows) {
		t.Errorf("another prefix, Rebase: %v", err)
	}
	broken := failingRows{errors.New("disk")}
	if tree, err := new(Tree).Update(broken, []Change{low}); err != nil || tree.Len() != 1 {
		t.Errorf("the first update reads rows that cannot be there: %v", err)
	}
	if _, err := Build(broken); !errors.Is(err, broken.err) {
		t.Errorf("Build: %v", err)
	}
	if _, err := one.Prove(broken, low.Topic); !errors.Is(err, broken.err) {
		t.Errorf("Prove: %v", err)
	}
	if _, err := one.Update(broken, []Change{far}); !errors.Is(err, broken.err) {
		t.Errorf("Update: %v", err)
	}
	if _, err := one.Rebase(broken, []entry.Hash{low.Topic}, 1); !errors.Is(err, broken.err) {
		t.Errorf("Rebase: %v", err)
	}
}

// TestBuildCarriesTheLastBucket builds from streams whose length lies around a
// chunk's, all in one prefix, so that each chunk ends inside a bucket.
func TestBuildCarriesTheLastBucket(t *testing.T) {
	for _, n := range []int{buildChunk - 1, buildChunk, buildChunk + 1, 2*buildChunk - 7, 2*buildChunk + 5} {
		rows := new(MemRows)
		m := map[entry.Hash]entry.Hash{}
		for i := range uint64(n) {
			topic := testTopic(i)
			topic[0] = 0x7a
			rows.Set(topic, testValue(i))
			m[topic] = testValue(i)
		}
		built, err := Build(rows)
		if err != nil {
			t.Fatal(err)
		}
		v := version{built, m}
		v.check(t)
		// Every bucket has its rows: all topics can be proved.
		for topic := range m {
			if _, err := built.Prove(rows, topic); err != nil {
				t.Fatalf("%d rows: %v", n, err)
			}
		}
	}
}

// Bucket returns the prefix of the bucket that topic belongs to and its length
// in bits.
func (t *Tree) Bucket(topic entry.Hash) (prefix entry.Hash, bits int) {
	bits = t.top.bucketDepth(&topic, 0)
	for i := range bits {
		if bit(&topic, i) == 1 {
			prefix = setBit(prefix, i)
		}
	}
	return prefix, bits
}

// TestForkedPass forks wherever it may, whatever the machine has, and gives all
// goroutines back.
func TestForkedPass(t *testing.T) {
	rows := new(MemRows)
	tree := new(Tree)
	for round := range uint64(3) {
		var leaves []leaf
		var changes []Change
		for i := range uint64(5000) {
			c := Change{testTopic(i + round*2500), testValue(i * (round + 1))}
			changes, leaves = append(changes, c), append(leaves, leaf{topic: c.Topic, value: c.Value})
		}
		if err := sortLeaves(leaves); err != nil {
			t.Fatal(err)
		}
		p := &pass{open: func() (Grower, error) { return scanner{rows}, nil }, tokens: make(chan struct{}, 7), end: cap(leaves)}
		top, added, err := p.apply(new(worker), tree.top, entry.Hash{}, 0, leaves)
		if err != nil || len(p.tokens) != 0 {
			t.Fatalf("%v, %d goroutines not given back", err, len(p.tokens))
		}
		rows.Apply(changes)
		tree = &Tree{top: top, n: tree.n + uint64(added)}
		built, err := Build(rows)
		if err != nil || built.Root() != tree.Root() || built.Len() != tree.Len() {
			t.Fatalf("round %d: root %s of %d, want %s of %d (%v)", round, tree.Root(), tree.Len(), built.Root(), built.Len(), err)
		}
	}
	// Of several errors the first by topic counts, so a report is the same each time.
	broken := &MemRows{}
	for i := range uint64(10000) {
		broken.Set(testTopic(i), testValue(77))
	}
	var changes []Change
	for i := range uint64(5000) {
		changes = append(changes, Change{testTopic(i), testValue(1)})
	}
	first := slices.MinFunc(changes, func(a, b Change) int { return bytes.Compare(a.Topic[:], b.Topic[:]) })
	prefix, bits := tree.Bucket(first.Topic)
	_, err := tree.Update(broken, changes)
	wantRowsError(t, "all rows damaged", err, prefix, bits)
}

// TestUpdateSplitsBuckets grows a tree a few topics at a time and checks that
// what an update reads stays small.
func TestUpdateSplitsBuckets(t *testing.T) {
	rec := &recordingRows{Rows: new(MemRows)}
	tree := new(Tree)
	for i := range uint64(600) {
		changes := []Change{{testTopic(2 * i), testValue(i)}, {testTopic(2*i + 1), testValue(i)}}
		rec.rows = 0
		next, err := tree.Update(rec, changes)
		if err != nil {
			t.Fatal(err)
		}
		if rec.rows > 2*bucketMax {
			t.Fatalf("%d rows read to change two topics", rec.rows)
		}
		rec.Rows.(*MemRows).Apply(changes)
		tree = next
	}
}

func TestBucketIsWhatUpdateScans(t *testing.T) {
	rows := new(MemRows)
	for i := range uint64(500) {
		rows.Set(testTopic(i), testValue(i))
	}
	tree, err := Build(rows)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(1000) {
		rec := &recordingRows{Rows: rows}
		if _, err := tree.Update(rec, []Change{{testTopic(i), testValue(i + 1)}}); err != nil {
			t.Fatal(err)
		}
		prefix, bits := tree.Bucket(testTopic(i))
		if want := fmt.Sprintf("[%s/%d]", prefix, bits); rec.scans != want && rec.scans != "" {
			t.Fatalf("scanned %s, want %s", rec.scans, want)
		}
		if rec.rows > bucketMax || i < 500 && rec.rows == 0 {
			t.Fatalf("a bucket of %d topics", rec.rows)
		}
	}
}

type recordingRows struct {
	Rows
	scans string
	rows  int
}

func (r *recordingRows) Scan(prefix entry.Hash, bits int, fn func(topic, value entry.Hash) error) error {
	r.scans += fmt.Sprintf("[%s/%d]", prefix, bits)
	return r.Rows.Scan(prefix, bits, func(topic, value entry.Hash) error {
		r.rows++
		return fn(topic, value)
	})
}
