package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// Leaf makes the n-th leaf of a test: every third public, every seventh with a
// manifest, cargo of growing length.
func Leaf(n int) ledger.Leaf {
	sub := Submission(fmt.Sprintf("leaf %d %s", n, strings.Repeat("x", n%97*7)))
	e := entry.Entry{Class: entry.Restricted, Time: 1_700_000_000_000 + uint64(n), Envelope: sub.Envelope}
	if n%3 == 0 {
		e.Class = entry.Public
	} else {
		e.Salt = sum(fmt.Appendf(nil, "salt %d", n))
	}
	l := ledger.Leaf{ID: sub.ID, Value: e.Leaf(), Cargo: e.Cargo()}
	if n%7 == 0 {
		l.Manifest = fmt.Appendf(nil, "manifest of %d", n)
	}
	return l
}

func leavesFrom(from, to int) []ledger.Leaf {
	var out []ledger.Leaf
	for i := from; i < to; i++ {
		out = append(out, Leaf(i))
	}
	return out
}

// other is a leaf that is valid and not Leaf(n).
func other(n int) ledger.Leaf { l := Leaf(n + 1_000_000); l.Manifest = nil; return l }

// Conformance runs what every Sequencer must do. open gives an empty engine,
// and a function that closes it and opens the same one again.
func Conformance(t *testing.T, open func(t *testing.T) (seq ledger.Sequencer, reopen func() ledger.Sequencer)) {
	ctx := context.Background()
	type engine struct {
		ledger.Sequencer
		reopen func() ledger.Sequencer
	}
	run := func(name string, fn func(t *testing.T, e *engine)) {
		t.Run(name, func(t *testing.T) {
			s, reopen := open(t)
			e := &engine{s, reopen}
			defer func() {
				if err := e.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			}()
			fn(t, e)
		})
	}
	// holds checks head and every leaf.
	holds := func(t *testing.T, e *engine, want []ledger.Leaf) {
		t.Helper()
		hs := make([]entry.Hash, len(want))
		for i := range want {
			hs[i] = entry.LeafHash(want[i].Value[:])
		}
		head, err := e.Head(ctx)
		if err != nil || head != (ledger.Head{Size: uint64(len(want)), Root: NaiveRoot(hs)}) {
			t.Fatalf("Head = %v, %v; want size %d and the root of RFC 6962", head, err, len(want))
		}
		for at := 0; at < len(want); {
			got, err := e.Read(ctx, uint64(at), 50)
			if err != nil || len(got) == 0 || len(got) > 50 {
				t.Fatalf("Read(%d, 50): %d leaves, %v", at, len(got), err)
			}
			for i := range got {
				if !same(&got[i], &want[at+i]) {
					t.Fatalf("leaf %d reads back as another", at+i)
				}
			}
			at += len(got)
		}
	}
	add := func(t *testing.T, e *engine, first int, leaves []ledger.Leaf, want error) {
		t.Helper()
		err := e.Add(ctx, uint64(first), leaves)
		if want == nil && err != nil || !errors.Is(err, want) {
			t.Fatalf("Add(%d, %d leaves) = %v, want %v", first, len(leaves), err, want)
		}
	}
	run("empty", func(t *testing.T, e *engine) {
		holds(t, e, nil)
		if got, err := e.Read(ctx, 0, 10); err != nil || len(got) != 0 {
			t.Fatalf("Read at the end: %d leaves, %v", len(got), err)
		}
		if _, err := e.Read(ctx, 1, 10); !errors.Is(err, ledger.ErrGap) {
			t.Fatalf("Read beyond the end: %v, want ErrGap", err)
		}
		add(t, e, 0, nil, nil)
		holds(t, e, nil)
	})
	run("keeps what it is given, over restarts", func(t *testing.T, e *engine) {
		n := 0
		for _, k := range []int{1, 2, 253, 1, 300, 5} {
			add(t, e, n, leavesFrom(n, n+k), nil)
			n += k
			holds(t, e, leavesFrom(0, n))
		}
		e.Sequencer = e.reopen()
		holds(t, e, leavesFrom(0, n))
		add(t, e, n, leavesFrom(n, n+3), nil)
		e.Sequencer = e.reopen()
		holds(t, e, leavesFrom(0, n+3))
	})
	run("the same bytes again are no change", func(t *testing.T, e *engine) {
		add(t, e, 0, leavesFrom(0, 20), nil)
		add(t, e, 0, leavesFrom(0, 20), nil)
		add(t, e, 7, leavesFrom(7, 9), nil)
		holds(t, e, leavesFrom(0, 20))
		add(t, e, 15, leavesFrom(15, 30), nil)
		holds(t, e, leavesFrom(0, 30))
		e.Sequencer = e.reopen()
		add(t, e, 28, leavesFrom(28, 31), nil)
		holds(t, e, leavesFrom(0, 31))
	})
	run("other bytes at a taken index change nothing", func(t *testing.T, e *engine) {
		add(t, e, 0, leavesFrom(0, 20), nil)
		add(t, e, 19, []ledger.Leaf{other(19)}, ledger.ErrConflict)
		add(t, e, 19, []ledger.Leaf{other(19), Leaf(20)}, ledger.ErrConflict)
		add(t, e, 18, []ledger.Leaf{Leaf(18), other(19), Leaf(20), Leaf(21)}, ledger.ErrConflict)
		salt := Leaf(1)
		salt.Cargo = append([]byte(nil), salt.Cargo...)
		salt.Cargo[len(salt.Cargo)-1] ^= 1
		add(t, e, 1, []ledger.Leaf{salt}, ledger.ErrConflict)
		bare := Leaf(7)
		bare.Manifest = nil
		add(t, e, 7, []ledger.Leaf{bare}, ledger.ErrConflict)
		holds(t, e, leavesFrom(0, 20))
		add(t, e, 20, leavesFrom(20, 25), nil)
		holds(t, e, leavesFrom(0, 25))
	})
	run("a gap changes nothing", func(t *testing.T, e *engine) {
		add(t, e, 1, leavesFrom(1, 2), ledger.ErrGap)
		add(t, e, 0, leavesFrom(0, 3), nil)
		add(t, e, 4, leavesFrom(4, 9), ledger.ErrGap)
		holds(t, e, leavesFrom(0, 3))
	})
	run("large leaves", func(t *testing.T, e *engine) {
		env := Submission(strings.Repeat("y", entry.MaxPayload))
		en := entry.Entry{Class: entry.Public, Time: 1, Envelope: env.Envelope}
		big := ledger.Leaf{ID: env.ID, Value: en.Leaf(), Cargo: en.Cargo(), Manifest: []byte(strings.Repeat("m", 3<<20))}
		add(t, e, 0, []ledger.Leaf{big, Leaf(2)}, nil)
		e.Sequencer = e.reopen()
		holds(t, e, []ledger.Leaf{big, Leaf(2)})
	})
	run("a context that has ended leaves a state that can be settled", func(t *testing.T, e *engine) {
		add(t, e, 0, leavesFrom(0, 5), nil)
		gone, cancel := context.WithCancel(ctx)
		cancel()
		_ = e.Add(gone, 5, leavesFrom(5, 10)) // fails or not: both are allowed
		add(t, e, 5, leavesFrom(5, 10), nil)
		holds(t, e, leavesFrom(0, 10))
	})
}
