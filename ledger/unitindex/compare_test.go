package unitindex

import (
	"errors"
	"maps"
	"testing"

	"fabtrail.dev/fabtrail/ledger/entry"
	"pgregory.net/rapid"
)

// under is what a set holds in a part.
func under(set map[entry.Hash]entry.Hash, d Difference) map[entry.Hash]entry.Hash {
	out := maps.Clone(set)
	maps.DeleteFunc(out, func(topic, _ entry.Hash) bool { return !d.Holds(topic) })
	return out
}

// TestCompareAgainstSets: outside the parts named two sets are the same, in each they are
// not, and whoever goes on into the parts finds every topic that differs and no other.
func TestCompareAgainstSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ours, theirs := drawSets(t)
		a, b := built(t, ours), built(t, theirs)
		topic := drawTopic(t)
		parts := compared(t, a, b, topic)
		if (len(parts) == 0) != maps.Equal(ours, theirs) {
			t.Fatalf("%d parts differ", len(parts))
		}
		rest := [2]map[entry.Hash]entry.Hash{maps.Clone(ours), maps.Clone(theirs)}
		for _, d := range parts {
			in, other := under(rest[0], d), under(rest[1], d)
			if maps.Equal(in, other) {
				t.Fatalf("nothing differs under %x/%d, or it is named twice", d.Prefix, d.Bits)
			}
			if d.Gone != (len(other) == 0) {
				t.Fatalf("gone %t, the other has %d topics there", d.Gone, len(other))
			}
			for i, part := range []map[entry.Hash]entry.Hash{in, other} {
				maps.DeleteFunc(rest[i], func(topic, _ entry.Hash) bool { _, ok := part[topic]; return ok })
			}
		}
		if !maps.Equal(rest[0], rest[1]) {
			t.Fatal("something differs outside the parts")
		}
		found := map[entry.Hash]bool{}
		for len(parts) > 0 {
			d := parts[0]
			parts = parts[1:]
			switch {
			case d.Bits == topicBits:
				found[d.Prefix] = true
			case d.Gone:
				for topic := range under(ours, d) {
					found[topic] = true
				}
			default:
				progress := false
				for _, x := range compared(t, a, b, d.Prefix) {
					if x.Bits > d.Bits && d.Holds(x.Prefix) {
						parts, progress = append(parts, x), true
					}
				}
				if !progress {
					t.Fatalf("no way on under %x/%d", d.Prefix, d.Bits)
				}
			}
		}
		for _, set := range []map[entry.Hash]entry.Hash{ours, theirs} {
			for topic := range set {
				x, in := ours[topic]
				y, there := theirs[topic]
				if found[topic] != (in != there || x != y) {
					t.Fatalf("topic %s is found: %t", topic, found[topic])
				}
			}
		}
	})
}

// drawSets makes two sets that have much in common.
func drawSets(t *rapid.T) (ours, theirs map[entry.Hash]entry.Hash) {
	ours, theirs = map[entry.Hash]entry.Hash{}, map[entry.Hash]entry.Hash{}
	for range rapid.IntRange(0, 60).Draw(t, "common") {
		topic, value := drawTopic(t), testValue(rapid.Uint64Range(0, 3).Draw(t, "value"))
		ours[topic], theirs[topic] = value, value
	}
	for range rapid.IntRange(0, 8).Draw(t, "changes") {
		topic := drawTopic(t)
		switch rapid.IntRange(0, 2).Draw(t, "change") {
		case 0:
			delete(theirs, topic)
		case 1:
			theirs[topic] = testValue(rapid.Uint64Range(0, 9).Draw(t, "value"))
		default:
			delete(ours, topic)
		}
	}
	return ours, theirs
}

func built(t *rapid.T, set map[entry.Hash]entry.Hash) version {
	v := version{rows: set}
	var err error
	if v.tree, err = Build(v.memRows()); err != nil {
		t.Fatal(err)
	}
	return v
}

// compared compares a with what b proves about topic.
func compared(t *rapid.T, a, b version, topic entry.Hash) []Difference {
	p, err := b.tree.Prove(b.memRows(), topic)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Verify(b.tree.Root(), topic, p); err != nil {
		t.Fatal(err)
	}
	parts, err := a.tree.Compare(a.memRows(), topic, p)
	if err != nil {
		t.Fatal(err)
	}
	return parts
}

func TestCompareRefusesDamagedRows(t *testing.T) {
	rows := new(MemRows)
	for i := range uint64(20) {
		rows.Set(testTopic(i), testValue(i))
	}
	tree, err := Build(rows)
	if err != nil {
		t.Fatal(err)
	}
	p, err := tree.Prove(rows, testTopic(3))
	if err != nil {
		t.Fatal(err)
	}
	rows.Set(testTopic(3), testValue(4))
	if _, err := tree.Compare(rows, testTopic(3), p); !errors.Is(err, ErrRows) {
		t.Errorf("rows of another tree: %v", err)
	}
}
