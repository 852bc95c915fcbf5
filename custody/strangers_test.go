package custody_test

import (
	"crypto/ed25519"
	"slices"
	"testing"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/custodytest"
)

// TestStrangersLabMakesANote: a lab that does not have a unit can say that it failed
// a test; that is shown, and holds nothing.
func TestStrangersLabMakesANote(t *testing.T) {
	w := custodytest.Quiet(1)
	maker, lab := w.Actors[0], w.Actors[9]
	unit := custody.UnitRef{URI: custodytest.Unit(0, 0)}
	if _, _, err := w.Commission(maker, unit.URI, 0, false); err != nil {
		t.Fatal(err)
	}
	test := func(a *custodytest.Actor) custody.Verdict {
		t.Helper()
		if _, _, err := w.Say(custody.KindQAResult, a, unit, &custody.QAResult{Result: "FAILED"}); err != nil {
			t.Fatal(err)
		}
		h, err := custody.Walk(w, unit.URI, nil)
		if err != nil {
			t.Fatal(err)
		}
		return custody.Judge(h, custody.Inputs{Complete: true})
	}
	if v := test(lab); v.Word != custody.VerifiedNote || !slices.Equal(v.Failed(), []string{"claims"}) {
		t.Errorf("after a stranger's test: %s %v", v.Word, v.Failed())
	}
	if err := w.HandOver(maker, lab, unit); err != nil {
		t.Fatal(err)
	}
	if v := test(lab); v.Word != custody.DoNotInstall {
		t.Errorf("after a test by the lab that has it: %s %v", v.Word, v.Failed())
	}
}

// TestStrangersSalesLeaveRoom: parties who own nothing in a load can sell it to each
// other; its owner still can sell what is in it.
func TestStrangersSalesLeaveRoom(t *testing.T) {
	w := custodytest.Quiet(1)
	maker, buyer := w.Actors[0], w.Actors[7]
	unit := custody.UnitRef{URI: custodytest.Unit(0, 0)}
	if _, _, err := w.Commission(maker, unit.URI, 0, false); err != nil {
		t.Fatal(err)
	}
	load, _, err := w.Open(maker, custodytest.Container(1), 1, w.Heads(unit))
	if err != nil {
		t.Fatal(err)
	}
	sell := func(from, to *custodytest.Actor) string {
		t.Helper()
		s := w.Make(custody.KindOwnership, from, load, &custody.Ownership{From: from.URI, To: to.URI})
		eff, err := w.Put(s, []ed25519.PrivateKey{from.Key(), to.Key()})
		if err != nil {
			return err.Error()
		}
		return eff.Word()
	}
	last := ""
	for range 70 {
		last = sell(w.Actors[5], w.Actors[6])
	}
	if last != "no-effect too_many" {
		t.Errorf("the strangers' last sale: %s", last)
	}
	if got := sell(maker, buyer); got != "applied" {
		t.Errorf("the owner's sale: %s", got)
	}
	h, err := custody.Walk(w, unit.URI, nil)
	if err != nil {
		t.Fatal(err)
	}
	if h.Owner != buyer.URI {
		t.Errorf("%s owns the unit, want %s", h.Owner, buyer.URI)
	}
}
