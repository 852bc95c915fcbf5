package rules_test

import (
	"crypto/ed25519"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/custodytest"
	"fabtrail.dev/fabtrail/custody/rules"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// watched runs the engine beside a world.
type watched struct {
	*custodytest.World
	found []custody.Finding
	// first is the entry that completed each finding.
	first map[string]uint64
}

func watch(w *custodytest.World) *watched {
	x := &watched{World: w, first: map[string]uint64{}}
	e := rules.New()
	w.After = func(st custody.State, it custody.Item, eff custody.Effect) {
		for _, f := range e.Apply(st, it, eff) {
			x.found = append(x.found, f)
			x.first[f.ID+f.Phase] = it.Index
		}
	}
	return x
}

func quiet(t *testing.T, units int) *watched {
	t.Helper()
	w := custodytest.New(1, custodytest.Config{Units: units})
	x := watch(w)
	w.Found()
	return x
}

func unit(uri string) custody.UnitRef { return custody.UnitRef{URI: uri} }

// must fails the test on a refusal.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// expect compares the findings since the last call with rules in order.
func (x *watched) expect(t *testing.T, want ...rules.ID) {
	t.Helper()
	var got []rules.ID
	for _, f := range x.found {
		got = append(got, rules.ID(f.Rule))
	}
	if !slices.Equal(got, want) {
		t.Fatalf("findings %v, want %v\n%+v", got, want, x.found)
	}
	for _, f := range x.found {
		if len(f.Units) == 0 || len(f.Evidence) == 0 || f.Accused == "" || f.Words == "" || !slices.IsSorted(f.Evidence) {
			t.Errorf("finding %+v lacks something", f)
		}
		if strings.Contains(strings.ToLower(f.Words), "fake") || strings.Contains(f.Words, "%!") {
			t.Errorf("words %q", f.Words)
		}
	}
	x.found = nil
}

func (x *watched) accused(t *testing.T, who *custodytest.Actor) {
	t.Helper()
	if f := x.found[len(x.found)-1]; f.Accused != who.URI {
		t.Errorf("%s accuses %s, want %s", f.Rule, f.Accused, who.URI)
	}
}

// made commissions a unit of product 0, owned by actor 0.
func (x *watched) made(t *testing.T, n int) string {
	t.Helper()
	uri := custodytest.Unit(0, n)
	_, _, err := x.Commission(x.Actors[0], uri, 0, true)
	must(t, err)
	x.Register(uri)
	return uri
}

func (x *watched) installed(t *testing.T, n int) (uri string, by *custodytest.Actor) {
	t.Helper()
	uri, by = x.made(t, n), x.Actors[8]
	must(t, x.HandOver(x.Actors[0], by, unit(uri)))
	_, _, err := x.Say(custody.KindInstall, by, unit(uri), &custody.Install{})
	must(t, err)
	return uri, by
}

func TestHonestTradeFindsNothing(t *testing.T) {
	x := quiet(t, 9)
	var us []custody.UnitRef
	for n := range 4 {
		us = append(us, unit(x.made(t, n*3)))
	}
	maker, carrier, shop, fitter := x.Actors[0], x.Actors[3], x.Actors[5], x.Actors[8]
	tw, de := custodytest.At(custody.Where{Site: maker.Sites[0].ID}), custodytest.At(custody.Where{Site: shop.Sites[0].ID})
	carton, _, err := x.Open(maker, custodytest.Container(1), 1, x.Heads(us...), tw)
	must(t, err)
	pallet, _, err := x.Open(maker, custodytest.Container(2), 2, x.Heads(carton), tw)
	must(t, err)
	must(t, x.HandOver(maker, carrier, pallet, tw))
	x.Now += 40 * 3600 * 1000
	must(t, x.HandOver(carrier, shop, pallet, custodytest.At(custody.Where{Geo: "geo:52.5,13.4;u=1000"})))
	_, _, err = x.Change(custody.KindUnpack, shop, pallet, x.Heads(carton), de)
	must(t, err)
	_, _, err = x.Change(custody.KindUnpack, shop, carton, x.Heads(us...), de)
	must(t, err)
	must(t, x.HandOver(shop, fitter, us[0], de))
	_, _, err = x.Say(custody.KindInstall, fitter, us[0], &custody.Install{}, de)
	must(t, err)
	// Late news: seen at the fab before it was packed, told now.
	_, _, err = x.Say(custody.KindSighting, fitter, us[0], &custody.Sighting{Method: "scan"}, tw, custodytest.Told(custodytest.Start))
	must(t, err)
	// The installer's second try and a slip are his own.
	if _, _, err = x.Say(custody.KindInstall, fitter, us[0], &custody.Install{}, de); err != nil {
		t.Fatal(err)
	}
	x.expect(t)
}

func TestClaims(t *testing.T) {
	t.Run("fork", func(t *testing.T) {
		x := quiet(t, 9)
		u := unit(x.made(t, 0))
		before := x.Load(u)
		must(t, x.HandOver(x.Actors[0], x.Actors[5], u))
		x.expect(t)
		// Within a day it is a slip.
		say := func() {
			_, eff, err := x.Say(custody.KindRelease, x.Actors[0], u, &custody.Release{From: x.Actors[0].URI, To: x.Actors[6].URI},
				custodytest.Citing(before.Seq, before.Head))
			must(t, err)
			if o, _ := eff.Outcome(); o != custody.NoEffect {
				t.Fatalf("outcome %v", eff.Word())
			}
		}
		say()
		x.expect(t)
		must(t, x.HandOver(x.Actors[5], x.Actors[6], u))
		x.Now += 48 * 3600 * 1000
		_, _, err := x.Say(custody.KindRetire, x.Actors[0], u, &custody.Retire{Reason: "lost"}, custodytest.Citing(before.Seq, before.Head))
		must(t, err)
		x.accused(t, x.Actors[0])
		x.expect(t, rules.Fork)
	})
	t.Run("commissioned twice", func(t *testing.T) {
		x := quiet(t, 9)
		uri := x.made(t, 0)
		_, _, err := x.Commission(x.Actors[1], uri, 0, false)
		must(t, err)
		x.accused(t, x.Actors[1])
		x.expect(t, rules.DupCommission)
	})
	t.Run("commissioned by a stranger", func(t *testing.T) {
		x := quiet(t, 9)
		uri := x.made(t, 0)
		_, _, err := x.Commission(x.World.Actors[2], uri, 2, false)
		must(t, err)
		x.expect(t, rules.DupCommission) // actor 2 is a commissioner of the unit's lot
		x.Actors[3].Roles = []string{"maker"}
		x.Enrol(x.Actors[3], false)
		_, _, err = x.Commission(x.Actors[3], uri, 0, false)
		must(t, err)
		x.expect(t, rules.SerialNotInBlock)
	})
	t.Run("never issued", func(t *testing.T) {
		x := quiet(t, 9)
		_, _, err := x.Commission(x.Actors[1], custodytest.Unit(0, 77), 1, false)
		must(t, err)
		x.expect(t, rules.SerialNotInBlock)
		u := unit(custodytest.Unit(0, 78))
		s, _, err := x.Say(custody.KindSighting, x.Actors[5], u, &custody.Sighting{Method: "scan"})
		must(t, err)
		_, _, err = x.Say(custody.KindInstall, x.Actors[8], u, &custody.Install{}, custodytest.Citing(3, s.ID))
		must(t, err)
		x.expect(t, rules.UnknownSerial, rules.UnknownSerial)
		_, _, err = x.Commission(x.Actors[0], u.URI, 0, false) // the commission was late
		must(t, err)
		for _, f := range x.found {
			if f.Phase != rules.Withdrawn {
				t.Errorf("%+v", f)
			}
		}
		x.expect(t, rules.UnknownSerial, rules.UnknownSerial)
	})
	t.Run("installed twice", func(t *testing.T) {
		x := quiet(t, 9)
		uri, _ := x.installed(t, 0)
		x.expect(t)
		_, _, err := x.Say(custody.KindInstall, x.Actors[7], unit(uri), &custody.Install{})
		must(t, err)
		x.accused(t, x.Actors[7])
		x.expect(t, rules.DoubleInstall)
	})
	t.Run("receiver who was not meant", func(t *testing.T) {
		x := quiet(t, 9)
		u := unit(x.made(t, 0))
		s, _, err := x.Say(custody.KindRelease, x.Actors[0], u, &custody.Release{From: x.Actors[0].URI, To: x.Actors[5].URI})
		must(t, err)
		_, _, err = x.Say(custody.KindAccept, x.Actors[6], u, &custody.Accept{Accepts: custody.DigestOf(s.ID)})
		must(t, err)
		x.accused(t, x.Actors[6])
		x.expect(t, rules.WrongReceiver)
	})
	t.Run("not the holder", func(t *testing.T) {
		x := quiet(t, 9)
		u := unit(x.made(t, 0))
		old := x.Now
		must(t, x.HandOver(x.Actors[0], x.Actors[5], u))
		rel := &custody.Release{From: x.Actors[6].URI, To: x.Actors[5].URI}
		_, _, err := x.Say(custody.KindRelease, x.Actors[6], u, rel, custodytest.Told(old-1)) // tells of the past
		must(t, err)
		x.expect(t)
		_, _, err = x.Say(custody.KindRelease, x.Actors[6], u, rel)
		must(t, err)
		x.expect(t, rules.NonCustodian)
	})
	t.Run("one chip in two devices", func(t *testing.T) {
		x := quiet(t, 9)
		chip, a, b := x.made(t, 0), x.made(t, 3), x.made(t, 6)
		add := func(device string) {
			d := custody.DigestOf(x.Load(unit(chip)).Head)
			_, _, err := x.Say(custody.KindAssemble, x.Actors[0], unit(device), &custody.Assemble{Action: "add", Components: []custody.Component{{URI: chip, Head: &d}}})
			if device == a {
				must(t, err)
				return
			}
			// The very holder is sent back by the door; a rival is not.
			if err == nil {
				t.Fatal("the door let the same holder build one chip in twice")
			}
		}
		add(a)
		add(b)
		rival := x.Actors[4] // without a block, and so a stranger to device a
		rival.Roles = []string{"maker"}
		x.Enrol(rival, false)
		must(t, x.HandOver(x.Actors[0], rival, unit(b)))
		d := custody.DigestOf(x.Load(unit(chip)).Head)
		_, _, err := x.Say(custody.KindAssemble, rival, unit(b), &custody.Assemble{Action: "add", Components: []custody.Component{{URI: chip, Head: &d}}})
		must(t, err)
		x.accused(t, rival)
		x.expect(t, rules.PartTwice)
		for device, want := range map[string]custody.Word{a: custody.VerifiedNote, b: custody.CheckBeforeUse} {
			h, err := custody.Walk(x, device, nil)
			must(t, err)
			v := custody.Judge(h, custody.Inputs{Complete: true, Findings: rules.Conclude(h, 0)})
			if v.Word != want || !slices.Contains(v.Failed(), custody.CodeFinding+string(rules.PartTwice)) {
				t.Errorf("%s: %s %v, want %s", device, v.Word, v.Failed(), want)
			}
		}
	})
	t.Run("after the end", func(t *testing.T) {
		x := quiet(t, 9)
		u := unit(x.made(t, 0))
		_, _, err := x.Say(custody.KindRetire, x.Actors[0], u, &custody.Retire{Reason: "destroyed"})
		must(t, err)
		_, _, err = x.Say(custody.KindSighting, x.Actors[5], u, &custody.Sighting{Method: "scan"}, custodytest.Told(custodytest.Start))
		must(t, err)
		x.expect(t)
		_, _, err = x.Say(custody.KindSighting, x.Actors[5], u, &custody.Sighting{Method: "scan"})
		must(t, err)
		_, _, err = x.Say(custody.KindInstall, x.Actors[8], u, &custody.Install{})
		must(t, err)
		x.expect(t, rules.AfterEnd, rules.AfterEnd)
	})
}

func TestDeviceRules(t *testing.T) {
	x := quiet(t, 9)
	uri := x.made(t, 0)
	k := x.Device(uri)
	other := custodytest.Unit(0, 3)
	ev := x.Event(x.Actors[0], custody.First())
	b := &custody.Commission{UnitKind: "device", Lot: "L0", Identity: &custody.DeviceIdentity{}}
	pub, err := custody.NewKey(k.Public())
	must(t, err)
	b.Identity.SPKI = pub.Record().SPKI
	must(t, ev.SignDevice(k, custody.KindCommission, other, x.Ledger, 50))
	s := x.Build(custody.KindCommission, other, ev, b)
	if _, err := x.Put(s, []ed25519.PrivateKey{x.Actors[0].Key()}); err != nil {
		t.Fatal(err)
	}
	x.expect(t, rules.DeviceKeyTwice)
}

func TestCounterAndPossession(t *testing.T) {
	x := quiet(t, 9)
	u := unit(x.made(t, 0))
	k := x.Device(u.URI)
	holder := x.Actors[0]
	firmware := &custody.FirmwareLoad{Image: custody.DigestOf(x.Ledger), Version: "1"}
	load := func(counter uint64, told uint64, key ed25519.PrivateKey) {
		t.Helper()
		_, _, err := x.Say(custody.KindFirmwareLoad, holder, u, firmware, custodytest.Told(told), func(ev *custody.Event) {
			must(t, ev.SignDevice(key, custody.KindFirmwareLoad, u.URI, x.Ledger, counter))
		})
		must(t, err)
	}
	now := x.Now
	load(100, now, k)
	load(101, now+1000, k)
	load(99, now-1000, k) // told late
	x.expect(t)
	load(101, now+2000, k) // the same again
	load(50, now+3000, k)
	x.expect(t, rules.Counter, rules.Counter)
	load(200, now+4000, ed25519.NewKeyFromSeed(make([]byte, 32)))
	x.accused(t, holder)
	x.expect(t, rules.Possession)
}

func TestTravel(t *testing.T) {
	at := func(geo string) custodytest.Option { return custodytest.At(custody.Where{Geo: geo}) }
	const taipei, berlin, hamburg = "geo:25.03,121.56;u=100", "geo:52.52,13.40;u=100", "geo:53.55,9.99;u=100"
	x := quiet(t, 9)
	maker, shop := x.Actors[0], x.Actors[5]
	u, v := unit(x.made(t, 0)), unit(x.made(t, 3))
	load, _, err := x.Open(maker, custodytest.Container(1), 1, x.Heads(u, v), at(taipei))
	must(t, err)
	hour := uint64(3600 * 1000)
	told := x.Now
	release := func(from, to *custodytest.Actor, ref custody.UnitRef, geo string, told uint64) *custody.Statement {
		t.Helper()
		s, _, err := x.Say(custody.KindRelease, from, ref, &custody.Release{From: from.URI, To: to.URI}, at(geo), custodytest.Told(told))
		must(t, err)
		return s
	}
	accept := func(to *custodytest.Actor, ref custody.UnitRef, s *custody.Statement, geo string, told uint64) {
		t.Helper()
		_, _, err := x.Say(custody.KindAccept, to, ref, &custody.Accept{Accepts: custody.DigestOf(s.ID)}, at(geo), custodytest.Told(told))
		must(t, err)
	}
	s := release(maker, shop, load, taipei, told)
	accept(shop, load, s, berlin, told+12*hour) // 8,000 km through the ball: 9 h by air
	x.expect(t)
	// Unpacked in Taipei an hour later: the load was in Berlin.
	_, _, err = x.Change(custody.KindUnpack, shop, load, x.Heads(u), at(taipei), custodytest.Told(told+13*hour))
	must(t, err)
	x.accused(t, shop)
	f := x.found[0]
	if len(f.Units) != 1 || f.Units[0].URI != u.URI {
		t.Errorf("the finding speaks of %v, want what was unpacked", f.Units)
	}
	x.expect(t, rules.Travel)
	// The other one stays near.
	_, _, err = x.Change(custody.KindUnpack, shop, load, x.Heads(v), at(hamburg), custodytest.Told(told+14*hour))
	must(t, err)
	x.expect(t)
	// A stranger's sighting accuses the stranger, and moves nothing.
	_, _, err = x.Say(custody.KindSighting, x.Actors[6], v, &custody.Sighting{Method: "scan"}, at(taipei), custodytest.Told(told+15*hour))
	must(t, err)
	x.accused(t, x.Actors[6])
	x.expect(t, rules.Travel)
	release(shop, x.Actors[8], v, hamburg, told+16*hour)
	x.expect(t)
}

func TestMarketAndLane(t *testing.T) {
	x := quiet(t, 9)
	brand, carrier, shop := x.Actors[0], x.Actors[3], x.Actors[5]
	grey := x.Actors[6]
	grey.Sites = []custody.Site{{ID: grey.Sites[0].ID, Country: "US", Geo: "geo:37.77,-122.41;u=100"}}
	x.Enrol(grey, false)
	step := custody.RouteStep{ID: "out", From: []string{brand.URI, carrier.URI}, To: []string{carrier.URI, shop.URI, grey.URI}}
	policy := x.Build(custody.KindRoutePolicy, custody.ProductURI(custodytest.GTIN(0)), nil, &custody.RoutePolicy{Actor: brand.URI, Steps: []custody.RouteStep{step}})
	if _, err := x.Put(policy, []ed25519.PrivateKey{brand.Key()}); err != nil {
		t.Fatal(err)
	}
	u, v, w := unit(x.made(t, 0)), unit(x.made(t, 3)), unit(x.made(t, 6))
	load, _, err := x.Open(brand, custodytest.Container(1), 1, x.Heads(u, v))
	must(t, err)
	pallet, _, err := x.Open(brand, custodytest.Container(2), 2, x.Heads(load, w))
	must(t, err)
	must(t, x.HandOver(brand, carrier, pallet, custodytest.At(custody.Where{Country: "US"}))) // carriers pass anywhere
	x.expect(t)
	_, _, err = x.Say(custody.KindRelease, carrier, pallet, &custody.Release{From: carrier.URI, To: grey.URI})
	must(t, err)
	x.accused(t, carrier)
	if f := x.found[0]; f.Units[0].Load != pallet.Load.String() {
		t.Errorf("units %v", f.Units)
	}
	x.expect(t, rules.Market)
	head := x.Load(pallet).Head
	_, _, err = x.Say(custody.KindAccept, grey, pallet, &custody.Accept{Accepts: custody.DigestOf(head)}, custodytest.At(custody.Where{Country: "US"}))
	must(t, err)
	x.expect(t) // the same diversion
	_, _, err = x.Change(custody.KindUnpack, grey, pallet, x.Heads(w))
	must(t, err)
	_, _, err = x.Say(custody.KindRelease, grey, w, &custody.Release{From: grey.URI, To: shop.URI})
	must(t, err)
	x.accused(t, grey)
	x.expect(t, rules.Lane)
	_, _, err = x.Say(custody.KindAccept, shop, w, &custody.Accept{Accepts: custody.DigestOf(x.Load(w).Head)}, custodytest.At(custody.Where{Country: "US"}))
	must(t, err)
	x.accused(t, shop)
	x.expect(t, rules.Market)
}

func TestOperatorRules(t *testing.T) {
	x := quiet(t, 9)
	uri := x.made(t, 0)
	a := x.Actors[0]
	revoke := x.Build(custody.KindKey, a.URI, nil, &custody.KeyChange{Action: "revoke", Key: custody.DigestOf(keyHash(t, a.Key()))})
	if _, err := x.Put(revoke, []ed25519.PrivateKey{a.Key()}); err != nil {
		t.Fatal(err)
	}
	s := x.Make(custody.KindRelease, a, unit(uri), &custody.Release{From: a.URI, To: x.Actors[5].URI})
	if _, err := x.Put(s, []ed25519.PrivateKey{a.Key()}); err == nil {
		t.Fatal("the door took a revoked key")
	}
	it := custody.Item{Index: uint64(len(x.Items)), Time: x.Now, Signed: custodytest.Signed(s, []ed25519.PrivateKey{a.Key()})}
	found := rules.New().Apply(x.St, it, custody.Fold{}.Apply(x.St, it))
	if len(found) != 1 || found[0].Rule != string(rules.KeyRevoked) || found[0].Accused != custody.LogURIPrefix+"example.com/world" ||
		!slices.Equal(found[0].Evidence, []uint64{it.Index - 1, it.Index}) {
		t.Errorf("found %+v", found)
	}
}

func keyHash(t *testing.T, k ed25519.PrivateKey) (h entry.Hash) {
	t.Helper()
	pub, err := custody.NewKey(k.Public())
	must(t, err)
	return pub.Hash
}

// TestClosureGivesTheSameFindings: local rules that run on a unit's closure alone
// give the findings about it that they give on the whole log.
func TestClosureGivesTheSameFindings(t *testing.T) {
	worlds := 10
	if testing.Short() || custodytest.Race {
		worlds = 2
	}
	total, rulesSeen := 0, map[string]int{}
	for seed := range worlds {
		w := custodytest.New(uint64(500+seed), custodytest.Config{Units: 60, Evil: []int{5, 20, 40, 50}[seed%4], Corrupt: []int{0, 10}[seed/4%2]})
		x := watch(w)
		w.Found()
		for range 500 {
			w.Step()
		}
		for _, f := range x.found {
			rulesSeen[f.Rule]++
		}
		for _, uri := range w.Units {
			h, err := custody.Walk(w, uri, func(string) bool { return true })
			if err != nil {
				t.Fatal(err)
			}
			want, got := map[string]int{}, map[string]int{}
			count(want, x.found, uri)
			e := rules.New()
			var last custody.State
			h.Replay(func(st custody.State, it custody.Item, eff custody.Effect) {
				last = st
				count(got, e.Apply(st, it, eff), uri)
			})
			if last != nil { // other units' statements tell the time, too
				count(got, rules.Due(last, w.Items[len(w.Items)-1].Time), uri)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("seed %d, %s: findings of the closure\n%v\nof everything\n%v", seed, uri, got, want)
			}
			for _, c := range rules.Conclude(h, w.Items[len(w.Items)-1].Time) {
				if c.Rule == "" || c.Words == "" {
					t.Errorf("conclusion %+v", c)
				}
			}
			total += len(want)
		}
	}
	t.Logf("%d findings about units compared; %v", total, rulesSeen)
	if worlds > 2 {
		for _, r := range rules.Table {
			if rulesSeen[string(r.ID)] == 0 && r.ID != rules.KeyRevoked { // TestOperatorRules has that
				t.Errorf("rule %s never fired", r.ID)
			}
		}
	}
}

func count(n map[string]int, found []custody.Finding, uri string) {
	for _, f := range found {
		if r, _ := rules.Lookup(rules.ID(f.Rule)); r.Local && slices.Contains(f.Units, custody.FindingUnit{URI: uri}) {
			n[f.Rule+" "+f.Phase+" "+f.ID+" "+f.Accused]++
		}
	}
}

// TestReplayIsByteEqual: the same entries give the same findings.
func TestReplayIsByteEqual(t *testing.T) {
	w := custodytest.New(9, custodytest.Config{Units: 60, Evil: 40, Corrupt: 10})
	x := watch(w)
	w.Found()
	for range 500 {
		w.Step()
	}
	st, e := custody.MapState{}, rules.New()
	var again []custody.Finding
	for _, it := range w.Items {
		again = append(again, e.Apply(st, it, custody.Fold{}.Apply(st, it))...)
	}
	if !reflect.DeepEqual(again, x.found) {
		t.Error("a replay gives other findings")
	}
	if !reflect.DeepEqual(st, w.St) {
		t.Error("a replay gives another state than the door")
	}
}

func ExampleCurrent() {
	fmt.Println(rules.Current().Version)
	// Output: 1
}

func TestTable(t *testing.T) {
	if !slices.IsSortedFunc(rules.Table, func(a, b rules.Rule) int { return strings.Compare(string(a.ID), string(b.ID)) }) {
		t.Error("the table is not ascending")
	}
	for _, r := range rules.Table {
		if got, ok := rules.Lookup(r.ID); !ok || !reflect.DeepEqual(got, r) || r.Text == "" || r.Weight == custody.WeightNone {
			t.Errorf("rule %+v", r)
		}
	}
	if _, ok := rules.Lookup("NONE"); ok {
		t.Error("found a rule that is none")
	}
}

func TestGeodesy(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	rad := func(d int32) float64 { return float64(d) / 1e7 * math.Pi / 180 }
	vec := func(lat, lon int32) [3]float64 {
		a, b := rad(lat), rad(lon)
		return [3]float64{math.Cos(a) * math.Cos(b), math.Cos(a) * math.Sin(b), math.Sin(a)}
	}
	for range 20_000 {
		p := [4]int32{int32(r.IntN(1_800_000_001) - 900_000_000), int32(r.Int64N(3_600_000_001) - 1_800_000_000), 0, 0}
		p[2], p[3] = int32(r.IntN(1_800_000_001)-900_000_000), int32(r.Int64N(3_600_000_001)-1_800_000_000)
		a, b := vec(p[0], p[1]), vec(p[2], p[3])
		want := 6371000 * math.Sqrt((a[0]-b[0])*(a[0]-b[0])+(a[1]-b[1])*(a[1]-b[1])+(a[2]-b[2])*(a[2]-b[2]))
		if got := rules.Chord(p[0], p[1], p[2], p[3]); math.Abs(float64(got)-want) > 10 {
			t.Fatalf("chord %v = %d m, want %.1f", p, got, want)
		}
	}
	for _, x := range [][4]int32{{900_000_000, 0, -900_000_000, 0}, {0, 1_800_000_000, 0, -1_800_000_000}, {0, 0, 0, 0}} {
		if got := rules.Chord(x[0], x[1], x[2], x[3]); got != map[bool]int64{true: 12_742_000, false: 0}[x[0] != 0] {
			t.Errorf("chord %v = %d", x, got)
		}
	}
}
