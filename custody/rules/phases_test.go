package rules_test

import (
	"crypto/ed25519"
	"testing"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/custodytest"
	"fabtrail.dev/fabtrail/custody/rules"
)

// day is one of log time, in ms.
const day = 24 * 3600 * 1000

// phases compares the findings since the last call with pairs of rule and phase.
func (x *watched) phases(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for _, f := range x.found {
		got = append(got, f.Rule+" "+f.Phase)
	}
	if len(got) != len(want) {
		t.Fatalf("findings %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("findings %v, want %v", got, want)
		}
	}
}

// pass lets log time pass, and somebody say something harmless.
func (x *watched) pass(t *testing.T, days uint64) {
	t.Helper()
	x.Now += days * day
	x.say(t)
}

func (x *watched) say(t *testing.T) {
	t.Helper()
	_, err := x.Put(x.Build(custody.KindProduct, custody.ProductURI(custodytest.GTIN(1)), nil, &custody.Product{Owner: x.Actors[0].URI, Name: "again"}),
		append(x.authorities(), x.Actors[0].Key()))
	must(t, err)
}

func (x *watched) authorities() (keys []ed25519.PrivateKey) {
	for _, a := range x.Authorities[:2] {
		keys = append(keys, a.Key())
	}
	return keys
}

func (x *watched) block(t *testing.T, lot int, b custody.SerialBlock) uint64 {
	t.Helper()
	b.Actor, b.Commissioners = x.Actors[0].URI, []string{x.Actors[1].URI, x.Actors[2].URI}
	_, err := x.Put(x.Build(custody.KindSerialBlock, custodytest.Lot(0, lot), nil, &b), []ed25519.PrivateKey{x.Actors[0].Key()})
	must(t, err)
	return uint64(len(x.Items) - 1)
}

func TestUnknownSerialPhases(t *testing.T) {
	const unknown = string(rules.UnknownSerial)
	seen := func(t *testing.T) (*watched, custody.UnitRef) {
		x := quiet(t, 9)
		u := unit(custodytest.Unit(0, 78))
		_, _, err := x.Say(custody.KindSighting, x.Actors[5], u, &custody.Sighting{Method: "scan"})
		must(t, err)
		x.phases(t, unknown+" provisional")
		return x, u
	}
	t.Run("nobody commissions it", func(t *testing.T) {
		x, u := seen(t)
		first := x.found[0]
		x.found = nil
		x.pass(t, 13)
		x.phases(t)
		x.Now += day
		x.phases(t) // time alone says nothing: a statement tells it
		x.say(t)
		x.phases(t, unknown+" confirmed")
		f := x.found[0]
		first.Phase = rules.Confirmed
		if f.ID != first.ID || f.Accused != x.Actors[5].URI || f.Words != first.Words || f.Units[0].URI != u.URI || len(f.Evidence) != 1 {
			t.Errorf("confirmed is %+v, provisional was %+v", f, first)
		}
		x.found = nil
		x.pass(t, 30)
		x.phases(t) // once
	})
	t.Run("the commission is late", func(t *testing.T) {
		x, u := seen(t)
		x.Now += 10 * day
		_, _, err := x.Commission(x.Actors[0], u.URI, 0, false)
		must(t, err)
		x.phases(t, unknown+" provisional", unknown+" withdrawn")
		x.found = nil
		x.pass(t, 30)
		x.phases(t)
	})
	t.Run("the commission is very late", func(t *testing.T) {
		x, u := seen(t)
		x.pass(t, 20)
		_, _, err := x.Commission(x.Actors[0], u.URI, 0, false)
		must(t, err)
		x.phases(t, unknown+" provisional", unknown+" confirmed", unknown+" withdrawn")
	})
	t.Run("one of two is late", func(t *testing.T) {
		x := quiet(t, 9)
		a, b := unit(custodytest.Unit(0, 78)), unit(custodytest.Unit(0, 79))
		_, _, err := x.Open(x.Actors[5], custodytest.Container(1), 1, x.Heads(a, b))
		must(t, err)
		x.phases(t, unknown+" provisional")
		if len(x.found[0].Units) != 2 {
			t.Fatalf("finding %+v", x.found[0])
		}
		id := x.found[0].ID
		x.Now += day
		_, _, err = x.Commission(x.Actors[0], a.URI, 0, false)
		must(t, err)
		x.phases(t, unknown+" provisional", unknown+" withdrawn")
		x.found = nil
		x.pass(t, 14)
		x.phases(t, unknown+" confirmed") // of the other
		if f := x.found[0]; f.ID != id || len(f.Units) != 1 || f.Units[0].URI != b.URI {
			t.Errorf("finding %+v", f)
		}
		x.found = nil
		_, _, err = x.Commission(x.Actors[0], b.URI, 0, false)
		must(t, err)
		x.phases(t, unknown+" withdrawn")
	})
	t.Run("several, in their order", func(t *testing.T) {
		x, u := seen(t)
		x.Now += day
		_, _, err := x.Say(custody.KindSighting, x.Actors[6], unit(custodytest.Unit(0, 79)), &custody.Sighting{Method: "scan"})
		must(t, err)
		_, _, err = x.Say(custody.KindSighting, x.Actors[7], u, &custody.Sighting{Method: "scan"})
		must(t, err)
		_, _, err = x.Commission(x.Actors[0], u.URI, 0, false) // withdraws the first and the third
		must(t, err)
		x.found = nil
		x.pass(t, 14)
		x.phases(t, unknown+" confirmed")
		x.accused(t, x.Actors[6])
	})
}

func TestQuota(t *testing.T) {
	const quota, lot = string(rules.Quota), 7
	three := func(t *testing.T) *watched {
		x := quiet(t, 9)
		at := x.block(t, lot, custody.SerialBlock{Count: 2})
		for n := range 2 {
			_, _, err := x.Commission(x.Actors[1], custodytest.Unit(0, 80+n), lot, false)
			must(t, err)
		}
		x.phases(t) // as many as allowed
		_, _, err := x.Commission(x.Actors[2], custodytest.Unit(0, 82), lot, false)
		must(t, err)
		x.phases(t, quota+" provisional")
		x.accused(t, x.Actors[2])
		f := x.found[0]
		if len(f.Evidence) != 2 || f.Evidence[0] != at || f.Evidence[1] != uint64(len(x.Items)-1) || f.Tier != rules.Policy {
			t.Errorf("finding %+v", f)
		}
		x.found = nil
		return x
	}
	t.Run("it stays", func(t *testing.T) {
		x := three(t)
		_, _, err := x.Commission(x.Actors[1], custodytest.Unit(0, 83), lot, false)
		must(t, err)
		x.phases(t) // one finding stands for the lot
		x.pass(t, 14)
		x.phases(t, quota+" confirmed")
		x.found = nil
		x.pass(t, 30)
		x.phases(t)
	})
	t.Run("a second block was only late", func(t *testing.T) {
		x := three(t)
		x.block(t, lot, custody.SerialBlock{Count: 1})
		x.phases(t, quota+" withdrawn")
		x.accused(t, x.Actors[2])
		x.found = nil
		x.pass(t, 30)
		x.phases(t)
		_, _, err := x.Commission(x.Actors[1], custodytest.Unit(0, 83), lot, false)
		must(t, err)
		x.phases(t, quota+" provisional") // a fourth, of three
	})
	t.Run("a typing error is taken back", func(t *testing.T) {
		x := three(t)
		typo := unit(custodytest.Unit(0, 82))
		_, eff, err := x.Say(custody.KindVoid, x.Actors[2], typo, &custody.Void{Voids: custody.DigestOf(x.Items[len(x.Items)-1].ID()), Reason: "incorrect_data"})
		must(t, err)
		if eff.Word() != "applied" {
			t.Fatal(eff.Word())
		}
		x.phases(t, quota+" withdrawn")
		x.found = nil
		_, _, err = x.Commission(x.Actors[2], custodytest.Unit(0, 84), lot, false)
		must(t, err)
		x.phases(t, quota+" provisional")
	})
	t.Run("what does not count", func(t *testing.T) {
		x := quiet(t, 9)
		x.block(t, lot, custody.SerialBlock{Count: 1})
		listed := custodytest.Unit(0, 85)
		x.block(t, lot, custody.SerialBlock{Serials: []string{listed[len(listed)-6:]}})
		for _, c := range []struct {
			by *custodytest.Actor
			n  int
		}{{x.Actors[0], 80}, {x.Actors[0], 81}, {x.Actors[1], 85}, {x.Actors[1], 82}} { // the owner's, a listed one, one of one
			_, eff, err := x.Commission(c.by, custodytest.Unit(0, c.n), lot, false)
			must(t, err)
			if eff.Word() != "applied" {
				t.Fatalf("unit %d: %s", c.n, eff.Word())
			}
		}
		x.phases(t)
		_, _, err := x.Commission(x.Actors[2], custodytest.Unit(0, 82), lot, false) // a copy has no effect
		must(t, err)
		x.phases(t, string(rules.DupCommission)+" confirmed")
		x.found = nil
		_, _, err = x.Commission(x.Actors[1], custodytest.Unit(0, 83), lot, false)
		must(t, err)
		x.phases(t, quota+" provisional")
	})
	t.Run("a lot without a count", func(t *testing.T) {
		x := quiet(t, 9)
		for n := range 5 {
			_, _, err := x.Commission(x.Actors[0], custodytest.Unit(0, 80+n), 9, false)
			must(t, err)
		}
		x.phases(t)
	})
}
