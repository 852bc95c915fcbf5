package rules_test

import (
	"crypto/ed25519"
	"slices"
	"testing"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/custodytest"
	"fabtrail.dev/fabtrail/custody/rules"
)

// TestLoggedFindings: a pallet leaves the lanes. A reader who may not see the policy has the
// ledger's word for it, about what was in the pallet then, out of it by now or not, and
// whatever else was logged under the same ID; one who may works it out.
func TestLoggedFindings(t *testing.T) {
	x := quiet(t, 9)
	brand, carrier, shop, auditor := x.Actors[0], x.Actors[3], x.Actors[5], x.Actors[11]
	policy := x.Build(custody.KindRoutePolicy, custody.ProductURI(custodytest.GTIN(0)), nil, &custody.RoutePolicy{Actor: brand.URI,
		Steps: []custody.RouteStep{{ID: "out", From: []string{brand.URI}, To: []string{carrier.URI}}}})
	_, err := x.Put(policy, []ed25519.PrivateKey{brand.Key()})
	must(t, err)
	stays, leaves := unit(x.made(t, 0)), unit(x.made(t, 3))
	carton, _, err := x.Open(brand, custodytest.Container(1), 1, x.Heads(stays, leaves))
	must(t, err)
	_, _, err = x.Change(custody.KindUnpack, brand, carton, x.Heads(leaves))
	must(t, err)
	pallet, _, err := x.Open(brand, custodytest.Container(2), 2, x.Heads(carton))
	must(t, err)
	must(t, x.HandOver(brand, shop, pallet))
	i := slices.IndexFunc(x.found, func(f custody.Finding) bool { return f.Rule == string(rules.Lane) })
	if i < 0 {
		t.Fatalf("found %+v", x.found)
	}
	lane := x.found[i]
	_, _, err = x.Change(custody.KindUnpack, shop, pallet, x.Heads(carton))
	must(t, err)
	junk := lane // it claims the ID of the other
	junk.Rule, junk.Evidence = string(rules.Quota), []uint64{lane.Evidence[1]}
	for _, f := range []custody.Finding{junk, lane} {
		_, _, err = x.Say(custody.KindFinding, auditor, pallet, &f, func(ev *custody.Event) { ev.Chain = custody.Unchained() })
		must(t, err)
	}
	// An auditor who had said it first takes it back: it stays the other's word.
	second := lane
	second.Phase = rules.Withdrawn
	_, _, err = x.Say(custody.KindFinding, x.Operator, pallet, &lane, func(ev *custody.Event) { ev.Chain = custody.Unchained() })
	must(t, err)
	_, _, err = x.Say(custody.KindFinding, auditor, pallet, &second, func(ev *custody.Event) { ev.Chain = custody.Unchained() })
	must(t, err)
	conclude := func(u custody.UnitRef, lanes bool) (told []string) {
		t.Helper()
		h, err := custody.Walk(x, u.String(), func(string) bool { return lanes })
		must(t, err)
		for _, c := range rules.Conclude(h, x.Now) {
			how := " worked out"
			if c.Logged != nil {
				how = " logged"
			}
			told = append(told, c.Rule+how)
		}
		slices.Sort(told)
		return told
	}
	for _, c := range []struct {
		what  string
		unit  custody.UnitRef
		lanes bool
		want  []string
	}{
		{"in a carton in it then", stays, false, []string{"LANE logged", "QUOTA logged"}},
		{"the same, with the policies", stays, true, []string{"LANE worked out", "QUOTA logged"}},
		{"out of the carton before", leaves, false, nil},
		{"the same, with the policies", leaves, true, nil},
		{"the carton", carton, false, []string{"LANE logged", "QUOTA logged"}},
		{"the pallet", pallet, false, []string{"LANE logged", "QUOTA logged"}},
	} {
		if got := conclude(c.unit, c.lanes); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
}
