package client

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/custody/answer/answertest"
	"fabtrail.dev/fabtrail/ledger/entry"
)

func (o *operator) seen(tree answertest.Tree, size uint64) *Seen {
	o.t.Helper()
	s, err := trustOf(o.t, o.world.Log).logSigned(o.sign(o.cp(tree, size), "w1"))
	if err != nil {
		o.t.Fatal(err)
	}
	return s
}

// Two histories convict at every pair of sizes, wherever they part, once the log
// says itself what its larger tree begins with: the file is judged by somebody who
// has nothing but the log's key.
func TestForkConvictsAtTwoSizes(t *testing.T) {
	o := newOperator(t)
	trust := trustOf(t, o.world.Log)
	for size := uint64(2); size <= 17; size++ {
		for old := uint64(1); old < size; old++ {
			for _, part := range []uint64{0, old / 2, old - 1} {
				o.size = size
				err := Consistent(t.Context(), includer{o}, o.seen(o.fork(int(part)), old), o.seen(o.tree, size))
				var f *Fork
				if !errors.As(err, &f) || f.Last == nil {
					t.Fatalf("from %d to %d, parted at %d: %v", old, size, part, err)
				}
				c, err := handed(t, f).Judge(trust)
				if err != nil || !c.Certain || c.Cleared {
					t.Fatalf("from %d to %d, parted at %d: %+v, %v", old, size, part, c, err)
				}
			}
		}
	}
}

// handed passes a fork proof on as a file.
func handed(t *testing.T, f *Fork) *Fork {
	t.Helper()
	b, err := f.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseFork(b)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// Nobody can convict an honest log: not with proofs that were garbled on the way,
// not with any that he makes up.
func TestForkOfAnHonestLog(t *testing.T) {
	o := newOperator(t)
	o.size = 13
	trust := trustOf(t, o.world.Log)
	a, b := o.seen(o.tree, 6), o.seen(o.tree, 13)
	o.lies = func(h []entry.Hash) []entry.Hash { return h[1:] }
	var f *Fork
	if err := Consistent(t.Context(), includer{o}, a, b); !errors.Is(err, ErrNoProof) || errors.As(err, &f) {
		t.Fatalf("a garbled consistency proof beside a good inclusion proof: %v", err)
	}
	if err := Consistent(t.Context(), o, a, b); !errors.As(err, &f) {
		t.Fatalf("a garbled consistency proof: %v", err)
	}
	o.lies = nil
	last := func(change func(l *LastEntry)) *LastEntry {
		l := &LastEntry{o.tree[5], slices.Clone(o.tree[:13].Inclusion(5))}
		change(l)
		return l
	}
	for _, tc := range []struct {
		name    string
		last    *LastEntry
		cleared bool
	}{
		{"nothing more", nil, false},
		{"the true inclusion proof", last(func(*LastEntry) {}), true},
		{"another leaf", last(func(l *LastEntry) { l.Leaf[0] ^= 1 }), false},
		{"another hash", last(func(l *LastEntry) { l.Hashes[0][0] ^= 1 }), false},
		{"a hash less", last(func(l *LastEntry) { l.Hashes = l.Hashes[1:] }), false},
		{"the proof of another entry", &LastEntry{o.tree[4], o.tree[:13].Inclusion(4)}, false},
		{"the proof in another size", &LastEntry{o.tree[5], o.tree[:12].Inclusion(5)}, false},
	} {
		f.Last = tc.last
		c, err := handed(t, f).Judge(trust)
		if err != nil || c.Certain || c.Cleared != tc.cleared {
			t.Errorf("%s: %+v, %v", tc.name, c, err)
		}
		asked, err := f.Ask(t.Context(), trust, o) // and the log clears itself
		if err != nil {
			t.Fatal(err)
		}
		if c, err := asked.Judge(trust); err != nil || !c.Cleared {
			t.Errorf("%s, asked: %+v, %v", tc.name, c, err)
		}
	}
	o.size = 3 // it does not answer
	if _, err := f.Ask(t.Context(), trust, o); !errors.Is(err, ErrNoProof) {
		t.Errorf("a log without an answer: %v", err)
	}
	f.Old, f.New = f.New, f.Old
	if c, err := f.Judge(trust); err != nil || c.Certain {
		t.Errorf("the other way round: %+v, %v", c, err)
	}
	f.New = f.Old
	if c, err := f.Judge(trust); err != nil || !c.Cleared || !strings.Contains(c.Says, "no fork") {
		t.Errorf("twice the same note: %+v, %v", c, err)
	}
}
