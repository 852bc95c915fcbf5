package custody_test

import (
	"bytes"
	"crypto/ed25519"
	"math/rand/v2"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/custodytest"
)

func TestHoldsTravelWithMembers(t *testing.T) {
	w, us := newWorld(t, 2)
	a, b, reg := w.Actors[0], w.Actors[5], w.Actors[10]
	load, _, err := w.Open(a, custodytest.Container(1), 1, w.Heads(us...))
	must(t, err)
	must(t, w.HandOver(a, b, load))
	hold, _, err := w.Say(custody.KindHold, reg, load, &custody.Hold{Reason: "regulatory"})
	must(t, err)
	held := func(u custody.UnitRef) int {
		h, err := custody.Walk(w, u.String(), nil)
		must(t, err)
		return len(h.Holds)
	}
	if held(us[0]) != 1 {
		t.Error("a member is not held with its load")
	}
	_, _, err = w.Change(custody.KindUnpack, b, load, w.Heads(us[0]))
	must(t, err)
	if _, eff, _ := w.Say(custody.KindRelease, b, us[0], release(b, a)); eff.Word() != "no-effect on_hold" {
		t.Errorf("release of a held unit: %s", eff.Word())
	}
	// The holder is below the regulator.
	if _, eff, _ := w.Say(custody.KindLift, b, load, &custody.Lift{Lifts: custody.DigestOf(hold.ID)}); eff.Word() != "no-effect not_entitled" {
		t.Errorf("lift by the holder: %s", eff.Word())
	}
	_, eff, err := w.Say(custody.KindLift, reg, load, &custody.Lift{Lifts: custody.DigestOf(hold.ID)})
	must(t, err)
	if eff.Word() != "applied" || held(us[0]) != 0 || held(us[1]) != 0 {
		t.Errorf("one lift clears all: %s, %d, %d", eff.Word(), held(us[0]), held(us[1]))
	}
	if _, eff, _ := w.Say(custody.KindRelease, b, us[0], release(b, a)); eff.Word() != "applied" {
		t.Errorf("release after the lift: %s", eff.Word())
	}
}

func TestOwnershipOfALoadPasses(t *testing.T) {
	w, us := newWorld(t, 3)
	a, b, c := w.Actors[0], w.Actors[5], w.Actors[6]
	sell := func(from, to *custodytest.Actor, ref custody.UnitRef) {
		t.Helper()
		must(t, put(w, w.Make(custody.KindOwnership, from, ref, &custody.Ownership{From: from.URI, To: to.URI}), from, to))
	}
	sell(a, c, us[2]) // not a's any more
	inner, _, err := w.Open(a, custodytest.Container(1), 1, w.Heads(us[0], us[2]))
	must(t, err)
	outer, _, err := w.Open(a, custodytest.Container(2), 2, w.Heads(inner, us[1]))
	must(t, err)
	sell(a, b, outer)
	owner := func(u custody.UnitRef) string {
		h, err := custody.Walk(w, u.String(), nil)
		must(t, err)
		return h.Owner
	}
	check := func(when string) {
		t.Helper()
		if owner(us[0]) != b.URI || owner(us[1]) != b.URI || owner(us[2]) != c.URI {
			t.Errorf("%s: owners %s %s %s", when, owner(us[0]), owner(us[1]), owner(us[2]))
		}
	}
	check("packed")
	_, _, err = w.Change(custody.KindUnpack, a, outer, w.Heads(inner, us[1]))
	must(t, err)
	check("out of the pallet")
	_, _, err = w.Change(custody.KindUnpack, a, inner, w.Heads(us[0], us[2]))
	must(t, err)
	check("out of the carton")
	sell(b, a, outer) // an empty load: nobody is in it
	check("after a sale of the empty load")
}

func TestVoid(t *testing.T) {
	w, us := newWorld(t, 3)
	a, b := w.Actors[0], w.Actors[5]
	void := func(by *custodytest.Actor, ref custody.UnitRef, s *custody.Statement) string {
		t.Helper()
		_, eff, err := w.Say(custody.KindVoid, by, ref, &custody.Void{Voids: custody.DigestOf(s.ID), Reason: "incorrect_data"})
		must(t, err)
		return eff.Word()
	}
	before := w.Load(us[0])
	rel, _, err := w.Say(custody.KindRelease, a, us[0], release(a, b))
	must(t, err)
	acc, _, err := w.Say(custody.KindAccept, b, us[0], accepts(rel.ID))
	must(t, err)
	for _, c := range []struct {
		by   *custodytest.Actor
		s    *custody.Statement
		want string
	}{
		{a, rel, "no-effect not_latest"},
		{a, acc, "no-effect not_own"},
		{b, acc, "applied"},
		{b, acc, "no-effect not_latest"},
		{a, rel, "applied"}, // one after another
	} {
		if got := void(c.by, us[0], c.s); got != c.want {
			t.Errorf("void of a %s by %s: %s, want %s", c.s.Kind, c.by.Name, got, c.want)
		}
	}
	after := w.Load(us[0])
	if after.Head != before.Head || after.Seq != before.Seq || after.Phase != before.Phase || after.Party != before.Party || after.To != "" {
		t.Errorf("after the voids %+v, before %+v", after, before)
	}

	// Of a pack: those that have left stay out, the others go back.
	load, _, err := w.Open(a, custodytest.Container(1), 1, w.Heads(us...))
	must(t, err)
	open := w.Items[len(w.Items)-1].Signed.Statement
	_, _, err = w.Change(custody.KindUnpack, a, load, w.Heads(us[0]))
	must(t, err)
	if got := void(a, custody.UnitRef{URI: load.URI}, open); got != "partly applied" {
		t.Errorf("void of the opening: %s", got)
	}
	if l := w.Load(load); l.Phase != custody.PhaseNone {
		t.Errorf("load %+v", l)
	}
	for i, u := range us {
		if got := w.Load(u); got.Place != custody.Free || got.Party != a.URI || (got.Head == before.Head) != false && i == 0 {
			t.Errorf("unit %d: %+v", i, got)
		}
	}
}

func TestInstallNeedsIdentityAndPossession(t *testing.T) {
	w, _ := newWorld(t, 0)
	a, fitter := w.Actors[0], w.Actors[7]
	u := unit(custodytest.Unit(0, 0))
	_, _, err := w.Commission(a, u.URI, 0, true)
	must(t, err)
	must(t, w.HandOver(a, fitter, u))
	install := func(opts ...custodytest.Option) string {
		t.Helper()
		_, eff, err := w.Say(custody.KindInstall, fitter, u, &custody.Install{}, opts...)
		must(t, err)
		return eff.Word()
	}
	if got := install(); got != "no-effect identity_not_ready" {
		t.Errorf("bootstrap: %s", got)
	}
	w.Register(u.URI)
	other := ed25519.NewKeyFromSeed(make([]byte, 32))
	if got := install(func(ev *custody.Event) {
		must(t, ev.SignDevice(other, custody.KindInstall, u.URI, w.Ledger, 9))
	}); got != "no-effect no_possession" {
		t.Errorf("another device: %s", got)
	}
	if got := install(); got != "applied" {
		t.Errorf("registered: %s", got)
	}
}

// TestFoldIsTotal: entries in any order, twice, or out of another ledger, give a
// state, the same one each time.
func TestFoldIsTotal(t *testing.T) {
	w := custodytest.New(3, custodytest.Config{Units: 40, Evil: 30, Corrupt: 20})
	w.Found()
	for range 120 {
		w.Step()
	}
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		n := rapid.IntRange(1, len(w.Items)).Draw(rt, "entries")
		shuffled := func() custody.MapState {
			r := rand.New(rand.NewPCG(seed, 1))
			st := custody.MapState{}
			for i := range n {
				it := w.Items[r.IntN(len(w.Items))]
				if r.IntN(4) > 0 {
					it = w.Items[i]
				}
				it.Index, it.Time = uint64(i), custodytest.Start+uint64(i)*1000
				if r.IntN(10) == 0 {
					it.Members = nil
				}
				custody.Fold{}.Apply(st, it)
			}
			return st
		}
		if a, b := shuffled(), shuffled(); !reflect.DeepEqual(a, b) {
			rt.Fatal("two folds of the same entries differ")
		}
	})
	st := custody.MapState{}
	if eff := (custody.Fold{}).Apply(st, custody.Item{Index: 1}); eff.Refused == nil || len(st) != 0 {
		t.Errorf("an item without a statement: %+v", eff)
	}
}

func FuzzUnitRow(f *testing.F) {
	w := custodytest.New(3, custodytest.Config{Units: 20, Evil: 20})
	w.Found()
	for range 150 {
		w.Step()
	}
	for i, key := range w.St.Keys() {
		if (key[0] == 'u' || key[0] == 'l') && i%3 == 0 {
			f.Add(w.St[key])
		}
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		u := custody.ParseUnit(custody.UnitRef{URI: "x"}, b)
		row := u.Marshal()
		if again := custody.ParseUnit(u.Ref, row).Marshal(); !bytes.Equal(again, row) {
			t.Errorf("a row changes when it is read and written: %x, then %x", row, again)
		}
	})
}
