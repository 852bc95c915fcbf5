package custody_test

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/custodytest"
	"fabtrail.dev/fabtrail/internal/problem"
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

// TestStrangersGovernanceIsBounded: what a party says of another's product and units, by
// statements of governance, stands in the lists of their answers. It may say it so often, and
// of so many bytes; and route policies of another's product not at all.
func TestStrangersGovernanceIsBounded(t *testing.T) {
	w := custodytest.Quiet(1)
	maker, stranger := w.Actors[0], w.Actors[5]
	unit := custodytest.Unit(0, 0)
	if _, _, err := w.Commission(maker, unit, 0, false); err != nil {
		t.Fatal(err)
	}
	put := func(kind custody.Kind, subject string, body any) string {
		t.Helper()
		eff, err := w.Put(w.Build(kind, subject, nil, body), []ed25519.PrivateKey{stranger.Key()})
		if p := problem.As(err); p != nil {
			return p.Type
		}
		if err != nil {
			t.Fatal(err)
		}
		return eff.Word()
	}
	recall := func(reason string) string {
		return put(custody.KindRecall, unit, &custody.Recall{Actor: stranger.URI, Action: "open", Selector: custody.Selector{Unit: unit}, Reason: reason})
	}
	for i := range custody.MaxNoEffect {
		if got := recall(fmt.Sprint("reason ", i)); !strings.HasPrefix(got, "no-effect") {
			t.Fatalf("recall %d: %s", i, got)
		}
	}
	if got := recall("once more"); got != "no_effect_limit" {
		t.Errorf("one more: %s", got)
	}
	product := custody.ProductURI(custodytest.GTIN(0))
	if got := put(custody.KindRoutePolicy, product, &custody.RoutePolicy{Actor: stranger.URI,
		Steps: []custody.RouteStep{{ID: "x", From: []string{stranger.URI}, To: []string{maker.URI}}}}); got != "wrong_role" {
		t.Errorf("a route policy of another's product: %s", got)
	}
	if n := len(w.Lists[custody.LaneTopic(custodytest.GTIN(0))]); n != 0 {
		t.Errorf("%d route policies are logged", n)
	}
}
