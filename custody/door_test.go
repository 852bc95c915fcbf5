package custody_test

import (
	"crypto/ed25519"
	"maps"
	"reflect"
	"slices"
	"testing"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/custodytest"
	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

func unit(uri string) custody.UnitRef { return custody.UnitRef{URI: uri} }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newWorld is a quiet world with n units of product 0, held by actor 0.
func newWorld(t *testing.T, n int) (*custodytest.World, []custody.UnitRef) {
	t.Helper()
	w := custodytest.Quiet(9)
	var us []custody.UnitRef
	for i := range n {
		uri := custodytest.Unit(0, 3*i)
		_, _, err := w.Commission(w.Actors[0], uri, 0, true)
		must(t, err)
		w.Register(uri)
		us = append(us, unit(uri))
	}
	return w, us
}

// refused checks that a submission was refused with a problem type and left no
// trace in the state.
func refused(t *testing.T, w *custodytest.World, slug string, submit func() error) *problem.Problem {
	t.Helper()
	before, size := maps.Clone(w.St), len(w.Items)
	err := submit()
	p := problem.As(err)
	if p == nil || p.Type != slug {
		t.Fatalf("got %v, want a refusal %s", err, slug)
	}
	if p.Detail == "" || p.Hint == "" && slug != "threshold_not_met" && slug != "unknown_statement" && slug != "no_charter" && slug != "charter_exists" {
		t.Errorf("problem %v tells too little", p)
	}
	if len(w.Items) != size || !reflect.DeepEqual(before, w.St) {
		t.Error("a refusal left a trace")
	}
	return p
}

func put(w *custodytest.World, s *custody.Statement, as ...*custodytest.Actor) error {
	var ks []ed25519.PrivateKey
	for _, a := range as {
		ks = append(ks, a.Key())
	}
	_, err := w.Put(s, ks)
	return err
}

func release(from, to *custodytest.Actor) *custody.Release {
	return &custody.Release{From: from.URI, To: to.URI}
}

func accepts(id entry.Hash) *custody.Accept { return &custody.Accept{Accepts: custody.DigestOf(id)} }

func TestDoorRefuses(t *testing.T) {
	stranger := func() *custodytest.Actor {
		return &custodytest.Actor{URI: custodytest.Party(500), Roles: []string{"maker"}, Keys: []ed25519.PrivateKey{ed25519.NewKeyFromSeed(make([]byte, 32))}}
	}
	for _, c := range []struct {
		name, slug string
		submit     func(w *custodytest.World, us []custody.UnitRef) error
	}{
		{"a second charter", "charter_exists", func(w *custodytest.World, _ []custody.UnitRef) error {
			return put(w, w.Items[0].Signed.Statement, w.Authorities...)
		}},
		{"another ledger", "other_ledger", func(w *custodytest.World, us []custody.UnitRef) error {
			w.Ledger[0]++
			s := w.Make(custody.KindRelease, w.Actors[0], us[0], release(w.Actors[0], w.Actors[5]))
			w.Ledger[0]--
			return put(w, s, w.Actors[0])
		}},
		{"an unknown key", "unknown_key", func(w *custodytest.World, us []custody.UnitRef) error {
			return put(w, w.Make(custody.KindRelease, w.Actors[0], us[0], release(w.Actors[0], w.Actors[5])), stranger())
		}},
		{"another party's key", "wrong_signers", func(w *custodytest.World, us []custody.UnitRef) error {
			return put(w, w.Make(custody.KindRelease, w.Actors[0], us[0], release(w.Actors[0], w.Actors[5])), w.Actors[1])
		}},
		{"an extra signer", "wrong_signers", func(w *custodytest.World, us []custody.UnitRef) error {
			return put(w, w.Make(custody.KindRelease, w.Actors[0], us[0], release(w.Actors[0], w.Actors[5])), w.Actors[0], w.Actors[1])
		}},
		{"a replaced key", "key_revoked", func(w *custodytest.World, us []custody.UnitRef) error {
			a := w.Actors[0]
			fresh := ed25519.NewKeyFromSeed(make([]byte, 32))
			r := record(t, fresh)
			must(t, put(w, w.Build(custody.KindKey, a.URI, nil, &custody.KeyChange{Action: "rotate", Key: custody.DigestOf(hash(t, a.Key())), New: &r}),
				a, &custodytest.Actor{Keys: []ed25519.PrivateKey{fresh}}))
			return put(w, w.Make(custody.KindRelease, a, us[0], release(a, w.Actors[5])), a)
		}},
		{"one authority of two", "threshold_not_met", func(w *custodytest.World, _ []custody.UnitRef) error {
			a := stranger()
			return put(w, w.Build(custody.KindParty, a.URI, nil, &custody.Party{LegalName: "x", Roles: a.Roles, Keys: []custody.KeyRecord{record(t, a.Key())}}), w.Authorities[0], a)
		}},
		{"a taken key", "key_taken", func(w *custodytest.World, _ []custody.UnitRef) error {
			b := &custody.Party{LegalName: "x", Roles: []string{"maker"}, Keys: []custody.KeyRecord{record(t, w.Actors[3].Key())}}
			return put(w, w.Build(custody.KindParty, custodytest.Party(500), nil, b), w.Authorities[0], w.Authorities[1], w.Actors[3])
		}},
		{"a role that it lacks", "wrong_role", func(w *custodytest.World, us []custody.UnitRef) error {
			_, _, err := w.Say(custody.KindInstall, w.Actors[0], us[0], &custody.Install{})
			return err
		}},
		{"a role that it claims", "wrong_role", func(w *custodytest.World, us []custody.UnitRef) error {
			_, _, err := w.Say(custody.KindRelease, w.Actors[0], us[0], release(w.Actors[0], w.Actors[5]), custodytest.As("regulator"))
			return err
		}},
		{"a role that does not fit", "wrong_role", func(w *custodytest.World, us []custody.UnitRef) error {
			_, _, err := w.Say(custody.KindIdentity, w.Actors[9], us[0], &custody.Identity{State: "suspended"}, custodytest.As("lab"))
			return err
		}},
		{"a receiver nobody knows", "unknown_party", func(w *custodytest.World, us []custody.UnitRef) error {
			_, _, err := w.Say(custody.KindRelease, w.Actors[0], us[0], release(w.Actors[0], stranger()))
			return err
		}},
		{"a manifest that is not here", "missing_manifest", func(w *custodytest.World, us []custody.UnitRef) error {
			s := custody.Contents{Manifest: hashOf(1).String(), Root: hashOf(2).String(), Count: 1}
			return put(w, w.Build(custody.KindPack, custodytest.Container(1), w.Event(w.Actors[0], custody.First()), &custody.Pack{Level: 1, Contents: s}), w.Actors[0])
		}},
		{"a void of nothing", "unknown_statement", func(w *custodytest.World, us []custody.UnitRef) error {
			_, _, err := w.Say(custody.KindVoid, w.Actors[0], us[0], &custody.Void{Voids: custody.DigestOf(hashOf(3)), Reason: "incorrect_data"})
			return err
		}},
		{"a void of another unit's statement", "invalid_statement", func(w *custodytest.World, us []custody.UnitRef) error {
			_, _, err := w.Say(custody.KindVoid, w.Actors[0], us[0], &custody.Void{Voids: custody.DigestOf(w.Load(us[1]).Head), Reason: "incorrect_data"})
			return err
		}},
		{"a wrong seq", "invalid_statement", func(w *custodytest.World, us []custody.UnitRef) error {
			_, _, err := w.Say(custody.KindRelease, w.Actors[0], us[0], release(w.Actors[0], w.Actors[5]), custodytest.Citing(7, w.Load(us[0]).Head))
			return err
		}},
		{"members with unknown predecessors", "predecessor_unknown", func(w *custodytest.World, us []custody.UnitRef) error {
			ms := w.Heads(us...)
			ms[0].Head = hashOf(4)
			_, _, err := w.Open(w.Actors[0], custodytest.Container(1), 1, ms)
			return err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, us := newWorld(t, 2)
			var before func() error
			if c.slug == "key_revoked" {
				if p := problem.As(c.submit(w, us)); p == nil || p.Type != c.slug {
					t.Fatalf("got %v", p)
				}
				return
			}
			before = func() error { return c.submit(w, us) }
			refused(t, w, c.slug, before)
		})
	}
	w := custodytest.New(1, custodytest.Config{})
	refused(t, w, "no_charter", func() error {
		return put(w, w.Build(custody.KindProduct, custody.ProductURI(custodytest.GTIN(0)), nil, &custody.Product{Owner: custodytest.Party(1)}), w.Operator)
	})
}

func hashOf(n byte) entry.Hash { return entry.Hash{0xaa, n} }

func record(t *testing.T, k ed25519.PrivateKey) custody.KeyRecord {
	t.Helper()
	pub, err := custody.NewKey(k.Public())
	must(t, err)
	return pub.Record()
}

func hash(t *testing.T, k ed25519.PrivateKey) entry.Hash {
	t.Helper()
	pub, err := custody.NewKey(k.Public())
	must(t, err)
	return pub.Hash
}

func TestDoorSendsBack(t *testing.T) {
	w, us := newWorld(t, 3)
	a, b, c := w.Actors[0], w.Actors[5], w.Actors[6]
	u := us[0]
	old := w.Load(u)
	must(t, w.HandOver(a, b, u))
	head := w.Load(u)

	p := refused(t, w, "superseded", func() error {
		_, _, err := w.Say(custody.KindRelease, b, u, release(b, c), custodytest.Citing(old.Seq, old.Head))
		return err
	})
	if p.Extra["head"] != head.Head.String() || p.Extra["seq"] != head.Seq || p.Extra["unit"] != u.URI {
		t.Errorf("extra %v, want head %s seq %d", p.Extra, head.Head, head.Seq)
	}

	s, _, err := w.Say(custody.KindRelease, b, u, release(b, c))
	must(t, err)
	p = refused(t, w, "already_recorded", func() error {
		_, _, err := w.Say(custody.KindRelease, b, u, release(b, c), custodytest.Citing(head.Seq, head.Head))
		return err
	})
	if p.Extra["id"] != s.ID.String() {
		t.Errorf("extra %v, want %s", p.Extra, s.ID)
	}

	// Packed: the packer is told to unpack, a stranger is logged.
	load, _, err := w.Open(a, custodytest.Container(1), 1, w.Heads(us[1], us[2]))
	must(t, err)
	p = refused(t, w, "unpack_first", func() error {
		_, _, err := w.Say(custody.KindRelease, a, us[1], release(a, b))
		return err
	})
	if p.Extra["in"] != load.URI || p.Extra["load"] != load.Load.String() {
		t.Errorf("extra %v", p.Extra)
	}
	if _, eff, err := w.Say(custody.KindRelease, c, us[1], release(c, b)); err != nil || eff.Word() != "no-effect packed" {
		t.Errorf("%v %v", eff.Word(), err)
	}
	refused(t, w, "already_recorded", func() error { // the same packing under a new event id
		ms := w.Heads(us[1], us[2])
		for i := range ms {
			ms[i].Head = firstHead(w, us[1+i])
		}
		_, _, err := w.Open(a, custodytest.Container(1), 1, ms)
		return err
	})
	refused(t, w, "unpack_first", func() error { // into another load
		_, _, err := w.Open(a, custodytest.Container(2), 1, w.Heads(us[1]))
		return err
	})
	// A later unpack cites the load's head; after a hand-over that is another one.
	l := w.Load(load)
	must(t, w.HandOver(a, b, load))
	p = refused(t, w, "superseded", func() error {
		_, _, err := w.Change(custody.KindUnpack, b, load, w.Heads(us[1]), custodytest.Citing(l.Seq, l.Head))
		return err
	})
	if p.Extra["load"] != load.Load.String() || p.Extra["head"] != w.Load(load).Head.String() {
		t.Errorf("extra %v", p.Extra)
	}
}

// firstHead is the commission of a unit.
func firstHead(w *custodytest.World, ref custody.UnitRef) entry.Hash {
	for _, it := range w.Lists[ref.Topic()] {
		if it.Signed.Statement.Kind == custody.KindCommission {
			return it.ID()
		}
	}
	return entry.Hash{}
}

func TestPendingWaitsAndExpires(t *testing.T) {
	for _, late := range []bool{false, true} {
		w, us := newWorld(t, 1)
		a, b, c := w.Actors[0], w.Actors[5], w.Actors[6]
		u := us[0]
		rel := w.Make(custody.KindRelease, a, u, release(a, b))
		acc := w.Make(custody.KindAccept, b, u, accepts(rel.ID), custodytest.Citing(rel.Event.Chain.Seq, rel.ID))
		on := w.Make(custody.KindRelease, b, u, release(b, c), custodytest.Citing(acc.Event.Chain.Seq, acc.ID))
		must(t, put(w, on, b))
		must(t, put(w, acc, b))
		if got := w.Load(u); len(got.Waiting) != 2 || got.Phase != custody.PhaseHeld {
			t.Fatalf("unit %+v", got)
		}
		refused(t, w, "already_recorded", func() error {
			_, _, err := w.Say(custody.KindAccept, b, u, accepts(rel.ID), custodytest.Citing(rel.Event.Chain.Seq, rel.ID))
			return err
		})
		if late {
			w.Now += custody.PendingTTL + 4*3600*1000
		}
		must(t, put(w, rel, a))
		got, eff := w.Load(u), w.Effects[len(w.Effects)-1]
		if late {
			if got.Phase != custody.PhaseReleased || got.Head != rel.ID || eff.Units[1].Code != custody.CodeExpired || !eff.Units[1].Late {
				t.Errorf("late: %+v, effects %+v", got, eff.Units)
			}
			continue
		}
		if got.Phase != custody.PhaseReleased || got.To != c.URI || got.Head != on.ID || len(eff.Units) != 3 || len(got.Waiting) != 0 {
			t.Errorf("%+v, effects %+v", got, eff.Units)
		}
	}
}

func TestNoEffectLimit(t *testing.T) {
	w, us := newWorld(t, 2)
	x := w.Actors[6]
	for range custody.MaxNoEffect {
		_, eff, err := w.Say(custody.KindRelease, x, us[0], release(x, w.Actors[5]))
		must(t, err)
		if eff.Word() != "no-effect not_holder" {
			t.Fatal(eff.Word())
		}
	}
	refused(t, w, "no_effect_limit", func() error {
		_, _, err := w.Say(custody.KindRelease, x, us[0], release(x, w.Actors[5]))
		return err
	})
	if _, _, err := w.Say(custody.KindRelease, x, us[1], release(x, w.Actors[5])); err != nil {
		t.Errorf("another unit: %v", err)
	}
	if _, _, err := w.Say(custody.KindRelease, w.Actors[5], us[0], release(w.Actors[5], x)); err != nil {
		t.Errorf("another party: %v", err)
	}
}

func TestHint(t *testing.T) {
	w, _ := newWorld(t, 1)
	near := []byte(custodytest.Unit(0, 0)) // ...S00000
	near[len(near)-6] = 's'
	s := w.Make(custody.KindSighting, w.Actors[5], unit(string(near)), &custody.Sighting{Method: "scan"})
	d, err := custody.Decide(w.St, custody.Item{Index: uint64(len(w.Items)), Time: w.Now, Signed: custodytest.Signed(s, []ed25519.PrivateKey{w.Actors[5].Key()})})
	must(t, err)
	if d.Hint == "" {
		t.Error("no hint for a serial in the wrong case")
	}
}

func TestTopicsTable(t *testing.T) {
	w, us := newWorld(t, 3)
	a := w.Actors[0]
	kinds := func(it custody.Item) (list []string) {
		for _, topic := range custody.Topics(w.St, it) {
			list = append(list, string(topic.Kind))
		}
		slices.Sort(list)
		return list
	}
	last := func() custody.Item { return w.Items[len(w.Items)-1] }
	want := func(name string, ks ...string) {
		t.Helper()
		slices.Sort(ks)
		if got := kinds(last()); !slices.Equal(got, ks) {
			t.Errorf("%s: topics %v, want %v", name, got, ks)
		}
	}
	_, _, err := w.Commission(a, custodytest.Unit(0, 27), 0, true)
	must(t, err)
	want("commission", "device-key", "unit")
	load, _, err := w.Open(a, custodytest.Container(1), 2, w.Heads(us[0], us[1]))
	must(t, err)
	want("opening", "load", "unit", "unit", "unit")
	inner, _, err := w.Open(a, custodytest.Container(2), 1, w.Heads(us[2]))
	must(t, err)
	_, _, err = w.Change(custody.KindPack, a, load, w.Heads(inner))
	must(t, err)
	want("later pack", "contents", "load")
	pack := last().ID()
	_, _, err = w.Say(custody.KindVoid, a, load, &custody.Void{Voids: custody.DigestOf(pack), Reason: "did_not_occur"})
	must(t, err)
	want("void", "contents", "load")
	_, _, err = w.Say(custody.KindDispute, w.Actors[6], load, &custody.Dispute{Disputes: custody.DigestOf(last().ID()), Claim: "no"})
	must(t, err)
	want("dispute of a void", "contents", "load")
	_, _, err = w.Say(custody.KindHold, a, load, &custody.Hold{Reason: "suspect"})
	must(t, err)
	want("hold", "load")
	w.Enrol(a, true)
	want("party", "party", "key")
	if got := kinds(w.Items[0]); !slices.Equal(got, []string{"log"}) {
		t.Errorf("charter: %v", got)
	}
}
