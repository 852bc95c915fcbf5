package view

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/custodytest"
	"fabtrail.dev/fabtrail/custody/rules"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// TestViewIsTheFold: however many entries a view is given at once, whatever it has in
// memory, and wherever it crashes, it ends with the rows and findings of the plain fold.
func TestViewIsTheFold(t *testing.T) {
	for seed := range uint64(6) {
		w := custodytest.New(seed, custodytest.Config{Units: 30, Evil: 40, Corrupt: 10})
		w.Found()
		for range 300 {
			w.Step()
		}
		want, found := fold(w)
		if len(found) == 0 {
			t.Fatal("the history has no findings")
		}
		x := &follower{t: t, r: rand.New(rand.NewPCG(seed, 1)), w: w, fs: vfs.NewCrashableMem()}
		x.open()
		for x.v.Next() < uint64(len(w.Items)) {
			x.apply()
			if x.r.IntN(8) == 0 {
				x.crash()
			}
		}
		if got := x.rows(); !reflect.DeepEqual(got, want) {
			t.Errorf("seed %d: the view has %d rows, the fold %d, or they differ", seed, len(got), len(want))
		}
		if got := x.findings(); !reflect.DeepEqual(got, found) {
			t.Errorf("seed %d: the view has %d findings, the fold %d, or they differ", seed, len(got), len(found))
		}
		if err := x.v.Close(); err != nil {
			t.Error(err)
		}
	}
}

// fold is what a view comes to, without one.
func fold(w *custodytest.World) (custody.MapState, []Finding) {
	st, e := custody.MapState{}, rules.New()
	var found []Finding
	for _, it := range w.Items {
		for _, f := range e.Apply(st, it, custody.Fold{}.Apply(st, it)) {
			found = append(found, Finding{it.Index, &f})
		}
	}
	return st, found
}

// follower gives a view what a world has logged.
type follower struct {
	t  *testing.T
	r  *rand.Rand
	w  *custodytest.World
	fs *vfs.MemFS
	v  *View
}

// open opens the view with room for few rows in memory, or for all.
func (x *follower) open() {
	x.t.Helper()
	v, err := OpenFS("views", x.fs)
	if err != nil {
		x.t.Fatal(err)
	}
	v.rows.most = []int{1, 4096, rowBytes}[x.r.IntN(3)]
	x.v = v
}

func (x *follower) apply() {
	x.t.Helper()
	from := x.v.Next()
	to := min(from+1+x.r.Uint64N(40), uint64(len(x.w.Items)))
	items := make([]custody.Item, to-from)
	for i := range items {
		items[i] = x.w.Items[from+uint64(i)]
		items[i].Members = nil // Apply asks for them
	}
	members := func(m entry.Hash) ([]custody.Member, error) { return x.w.Manifests[m], nil }
	if err := x.v.Apply(items, to, members); err != nil {
		x.t.Fatal(err)
	}
}

// crash goes on with what of the disk a power loss has left.
func (x *follower) crash() {
	x.t.Helper()
	was := x.v.Next()
	left := x.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50 * x.r.IntN(3), RNG: x.r})
	if err := x.v.Close(); err != nil {
		x.t.Fatal(err)
	}
	x.fs = left
	x.open()
	if x.v.Next() > was {
		x.t.Fatalf("a crash took the view from %d to %d", was, x.v.Next())
	}
}

func (x *follower) rows() custody.MapState {
	x.t.Helper()
	it, err := x.v.db.NewIter(&pebble.IterOptions{LowerBound: []byte("s"), UpperBound: []byte("t")})
	if err != nil {
		x.t.Fatal(err)
	}
	defer it.Close()
	got := custody.MapState{}
	for it.First(); it.Valid(); it.Next() {
		got[string(it.Key()[1:])] = append([]byte{}, it.Value()...)
	}
	return got
}

func (x *follower) findings() (got []Finding) {
	x.t.Helper()
	if err := x.v.Findings(0, func(f Finding) bool { got = append(got, f); return true }); err != nil {
		x.t.Fatal(err)
	}
	return got
}
