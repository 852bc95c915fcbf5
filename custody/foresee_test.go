package custody_test

import (
	"crypto/ed25519"
	"fmt"
	"maps"
	"testing"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/custodytest"
	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// readings is a state that counts what is read of it, and is not written to.
type readings struct {
	custody.MapState
	n int
}

func (r *readings) Get(key string) []byte { r.n++; return r.MapState.Get(key) }

func lotOf(t *testing.T, n int) (w *custodytest.World, refs []custody.UnitRef) {
	t.Helper()
	w = custodytest.Quiet(0)
	var ms []custody.Member
	for i := range n {
		ms = append(ms, custody.Member{URI: custodytest.Unit(0, i)})
		refs = append(refs, unit(ms[i].URI))
	}
	if err := w.CommissionLot(w.Actors[0], 0, 0, ms); err != nil {
		t.Fatal(err)
	}
	return w, refs
}

func slug(err error) string {
	if p := problem.As(err); p != nil {
		return p.Type
	}
	return fmt.Sprint(err)
}

// TestForeseenIsCheap: what is refused because of few of many members costs Decide
// the reading of those, and the answer is the one that it gives without.
func TestForeseenIsCheap(t *testing.T) {
	const n = 400
	w, refs := lotOf(t, n)
	maker, stranger := w.Actors[0], w.Actors[5]
	load, _, err := w.Open(maker, custodytest.Container(2), 1, w.Heads(refs[0]))
	if err != nil {
		t.Fatal(err)
	}
	wrong := func(at ...int) []custody.Member {
		ms := w.Heads(refs[1:]...)
		for _, i := range at {
			ms[i].Head = entry.Hash{1}
		}
		return ms
	}
	pack := func(a *custodytest.Actor, ms []custody.Member) custody.Item {
		it, err := w.PackItem(a, custodytest.Container(1), 1, ms)
		if err != nil {
			t.Fatal(err)
		}
		return it
	}
	for range custody.MaxNoEffect { // a stranger who may not say more
		if _, _, err := w.Open(stranger, custodytest.Container(3), 1, w.Heads(refs[n-1])); err != nil {
			t.Fatal(err)
		}
	}
	all := make([]int, n-1)
	for i := range all {
		all[i] = i
	}
	m, err := custody.NewManifest(wrong())
	if err != nil {
		t.Fatal(err)
	}
	more := w.Make(custody.KindPack, maker, load, &custody.Pack{Contents: m.Contents()}, custodytest.Citing(7, load.Load))
	into := custody.Item{Index: uint64(len(w.Items)), Time: w.Now, Members: m.Members,
		Signed: custodytest.Signed(more, []ed25519.PrivateKey{maker.Key()})}
	for _, tc := range []struct {
		name string
		it   custody.Item
		want string
	}{
		{"the last has an unknown predecessor", pack(maker, wrong(n-2)), "predecessor_unknown"},
		{"three of them", pack(maker, wrong(0, 7, n-2)), "predecessor_unknown"},
		{"all have", pack(maker, wrong(all...)), "predecessor_unknown"},
		{"a stranger's, once too often", pack(stranger, wrong()), "no_effect_limit"},
		{"into a load by a wrong count", into, "invalid_statement"},
		{"nothing", pack(maker, wrong()), "<nil>"},
	} {
		st := &readings{MapState: maps.Clone(w.St)}
		f := custody.Foresee(st, tc.it)
		if len(st.MapState) != len(w.St) {
			t.Fatalf("%s: foreseeing wrote", tc.name)
		}
		_, plain := custody.Decide(maps.Clone(w.St), tc.it)
		without := st.n
		st.n = 0
		tc.it.Foreseen = f
		_, err := custody.Decide(st, tc.it)
		if slug(err) != tc.want || slug(plain) != tc.want || fmt.Sprint(err) != fmt.Sprint(plain) {
			t.Errorf("%s: %v, without %v; want %s", tc.name, err, plain, tc.want)
		}
		if (f != nil) != (err != nil) {
			t.Errorf("%s: foreseen %v, decided %v", tc.name, f, err)
		}
		if few := without/3 + 8; err != nil && st.n > few {
			t.Errorf("%s: Decide reads %d rows of %d, want %d at most", tc.name, st.n, without, few)
		}
	}
}

// TestForeseenInThePast: what was wrong when it was looked at, and is right now, is
// accepted.
func TestForeseenInThePast(t *testing.T) {
	w, refs := lotOf(t, 300)
	it, err := w.PackItem(w.Actors[0], custodytest.Container(1), 1, w.Heads(refs...))
	if err != nil {
		t.Fatal(err)
	}
	before := maps.Clone(w.St)
	for _, r := range refs[250:] {
		delete(before, "u"+r.URI)
	}
	if it.Foreseen = custody.Foresee(before, it); it.Foreseen == nil {
		t.Fatal("a state without these units refuses nothing")
	}
	d, err := custody.Decide(w.St, it)
	if err != nil || len(d.Effect.Units) != 301 {
		t.Errorf("%d units, %v", len(d.Effect.Units), err)
	}
}
