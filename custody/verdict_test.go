package custody_test

import (
	"slices"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/custodytest"
	"fabtrail.dev/fabtrail/ledger/entry"
)

func verdict(t *testing.T, w *custodytest.World, uri string, in custody.Inputs) custody.Verdict {
	t.Helper()
	h, err := custody.Walk(w, uri, nil)
	must(t, err)
	v := custody.Judge(h, in)
	if v.Sentence != custody.Sentences[v.Word] || v.Sentence == "" {
		t.Errorf("sentence %q", v.Sentence)
	}
	for _, r := range v.Reasons {
		known := slices.ContainsFunc(custody.ReasonCodes, func(c custody.ReasonCode) bool { return c.Code == r.Code && (r.Passed || r.Weight <= c.Weight) })
		if !known && r.Code[:min(len(r.Code), len(custody.CodeFinding))] != custody.CodeFinding {
			t.Errorf("reason %+v is not in the table", r)
		}
		if r.Text == "" {
			t.Errorf("reason %+v has no words", r)
		}
	}
	return v
}

func TestVerdicts(t *testing.T) {
	complete := custody.Inputs{Complete: true}
	for _, c := range []struct {
		name   string
		play   func(t *testing.T, w *custodytest.World, us []custody.UnitRef)
		in     custody.Inputs
		word   custody.Word
		failed []string
	}{
		{"untouched", nil, complete, custody.Verified, nil},
		{"completeness unchecked", nil, custody.Inputs{}, custody.VerifiedNote, []string{"completeness"}},
		{"open hand-over", func(t *testing.T, w *custodytest.World, us []custody.UnitRef) {
			_, _, err := w.Say(custody.KindRelease, w.Actors[0], us[0], release(w.Actors[0], w.Actors[5]))
			must(t, err)
		}, complete, custody.VerifiedNote, []string{"handover"}},
		{"open hand-over of its load", func(t *testing.T, w *custodytest.World, us []custody.UnitRef) {
			load, _, err := w.Open(w.Actors[0], custodytest.Container(1), 1, w.Heads(us...))
			must(t, err)
			_, _, err = w.Say(custody.KindRelease, w.Actors[0], load, release(w.Actors[0], w.Actors[5]))
			must(t, err)
		}, complete, custody.VerifiedNote, []string{"handover"}},
		{"a correction", func(t *testing.T, w *custodytest.World, us []custody.UnitRef) {
			s, _, err := w.Say(custody.KindRelease, w.Actors[0], us[0], release(w.Actors[0], w.Actors[5]))
			must(t, err)
			_, _, err = w.Say(custody.KindVoid, w.Actors[0], us[0], &custody.Void{Voids: custody.DigestOf(s.ID), Reason: "incorrect_data"})
			must(t, err)
		}, complete, custody.VerifiedNote, []string{"correction"}},
		{"a stranger's claims", func(t *testing.T, w *custodytest.World, us []custody.UnitRef) {
			x := w.Actors[6]
			_, _, err := w.Say(custody.KindRelease, x, us[0], release(x, w.Actors[5]))
			must(t, err)
			_, _, err = w.Say(custody.KindHold, x, us[0], &custody.Hold{Reason: "stolen"})
			must(t, err)
			_, _, err = w.Say(custody.KindDispute, x, us[0], &custody.Dispute{Disputes: custody.DigestOf(w.Load(us[0]).Head), Claim: "mine"})
			must(t, err)
		}, complete, custody.VerifiedNote, []string{"claims", "claims", "dispute"}},
		{"recalled by lot", func(t *testing.T, w *custodytest.World, us []custody.UnitRef) { recallLot(t, w, "open", nil) }, complete,
			custody.DoNotInstall, []string{"recall"}},
		{"recall closed", func(t *testing.T, w *custodytest.World, us []custody.UnitRef) {
			id := recallLot(t, w, "open", nil)
			recallLot(t, w, "close", &id)
		}, complete, custody.Verified, nil},
		{"on hold", func(t *testing.T, w *custodytest.World, us []custody.UnitRef) {
			_, _, err := w.Say(custody.KindHold, w.Actors[10], us[0], &custody.Hold{Reason: "regulatory"})
			must(t, err)
		}, complete, custody.DoNotInstall, []string{"hold"}},
		{"retired", func(t *testing.T, w *custodytest.World, us []custody.UnitRef) {
			_, _, err := w.Say(custody.KindRetire, w.Actors[0], us[0], &custody.Retire{Reason: "lost"})
			must(t, err)
		}, complete, custody.DoNotInstall, []string{"retired", "identity_revoked"}},
		{"suspended", func(t *testing.T, w *custodytest.World, us []custody.UnitRef) {
			_, _, err := w.Say(custody.KindIdentity, w.Actors[9], us[0], &custody.Identity{State: "suspended"})
			must(t, err)
		}, complete, custody.CheckBeforeUse, []string{"identity_suspended"}},
		{"a part on hold", func(t *testing.T, w *custodytest.World, us []custody.UnitRef) {
			assemble(t, w, us[0], us[1])
			_, _, err := w.Say(custody.KindHold, w.Actors[10], us[1], &custody.Hold{Reason: "suspect"})
			must(t, err)
		}, complete, custody.CheckBeforeUse, []string{"part_hold"}},
		{"parts of a part", func(t *testing.T, w *custodytest.World, us []custody.UnitRef) {
			assemble(t, w, us[1], us[2])
			assemble(t, w, us[0], us[1])
		}, complete, custody.VerifiedNote, []string{"parts_followed"}},
		{"a part that came in a load", func(t *testing.T, w *custodytest.World, us []custody.UnitRef) {
			load, _, err := w.Open(w.Actors[0], custodytest.Container(1), 1, w.Heads(us[1]))
			must(t, err)
			must(t, w.HandOver(w.Actors[0], w.Actors[1], load))
			must(t, w.HandOver(w.Actors[1], w.Actors[0], load))
			_, _, err = w.Change(custody.KindUnpack, w.Actors[0], load, w.Heads(us[1]))
			must(t, err)
			assemble(t, w, us[0], us[1])
		}, complete, custody.Verified, nil},
		{"a finding about a party of its history", nil, custody.Inputs{Complete: true, Findings: []custody.Conclusion{
			{Rule: "TRAVEL", Accused: custodytest.Party(1), Weight: custody.WeightCheck, Words: "x"}}}, custody.CheckBeforeUse, []string{"finding_TRAVEL"}},
		{"a finding about a stranger", nil, custody.Inputs{Complete: true, Findings: []custody.Conclusion{
			{Rule: "TRAVEL", Accused: custodytest.Party(7), Weight: custody.WeightStop, Words: "x"}}}, custody.VerifiedNote, []string{"finding_TRAVEL"}},
		{"a finding that is its signer's word", nil, custody.Inputs{Complete: true, Findings: []custody.Conclusion{
			{Rule: "LANE", Accused: custodytest.Party(1), Weight: custody.WeightCheck, Words: "x", Logged: new(uint64)}}}, custody.VerifiedNote, []string{"finding_LANE"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, us := newWorld(t, 3)
			if c.play != nil {
				c.play(t, w, us)
			}
			v := verdict(t, w, us[0].URI, c.in)
			if v.Word != c.word || !slices.Equal(v.Failed(), c.failed) {
				t.Errorf("%s %v, want %s %v\n%+v", v.Word, v.Failed(), c.word, c.failed, v.Reasons)
			}
		})
	}
}

func recallLot(t *testing.T, w *custodytest.World, action string, closes *entry.Hash) entry.Hash {
	t.Helper()
	b := &custody.Recall{Actor: w.Actors[0].URI, Action: action, Selector: custody.Selector{Lot: custodytest.Lot(0, 0)}, Reason: "fire"}
	if closes != nil {
		d := custody.DigestOf(*closes)
		b.Closes = &d
	}
	s := w.Build(custody.KindRecall, b.Selector.Lot, nil, b)
	must(t, put(w, s, w.Actors[0]))
	return s.ID
}

func assemble(t *testing.T, w *custodytest.World, parent custody.UnitRef, parts ...custody.UnitRef) {
	t.Helper()
	b := &custody.Assemble{Action: "add"}
	for _, p := range parts {
		d := custody.DigestOf(w.Load(p).Head)
		b.Components = append(b.Components, custody.Component{URI: p.URI, Head: &d})
	}
	_, eff, err := w.Say(custody.KindAssemble, w.Actors[0], parent, b)
	must(t, err)
	if eff.Word() != "applied" {
		t.Fatal(eff.Word())
	}
}

func TestVerdictsWithoutAHistory(t *testing.T) {
	w, us := newWorld(t, 2)
	in := custody.Inputs{Complete: true}
	never := custodytest.Unit(0, 99)
	if v := verdict(t, w, never, in); v.Word != custody.NotInLedger || !slices.Equal(v.Failed(), []string{"listed"}) {
		t.Errorf("unknown serial: %+v", v)
	}
	if v := verdict(t, w, never, custody.Inputs{}); v.Word != custody.NotInLedger || !slices.Equal(v.Failed(), []string{"listed", "completeness"}) ||
		strings.Contains(v.Reasons[0].Text, "prove") {
		t.Errorf("unknown serial, by the operator's word: %+v", v)
	}
	_, _, err := w.Say(custody.KindSighting, w.Actors[5], unit(never), &custody.Sighting{Method: "scan"})
	must(t, err)
	if v := verdict(t, w, never, in); v.Word != custody.NotInLedger || !slices.Equal(v.Failed(), []string{"commissioned"}) {
		t.Errorf("seen only: %+v", v)
	}
	load, _, err := w.Open(w.Actors[0], custodytest.Container(1), 1, w.Heads(us...))
	must(t, err)
	if v := verdict(t, w, load.URI, in); v.Word != custody.CouldNotVerify || !slices.Equal(v.Failed(), []string{"container"}) {
		t.Errorf("container: %+v", v)
	}
	if v := verdict(t, w, load.String(), in); v.Word != custody.Verified {
		t.Errorf("load: %+v", v)
	}
}

func TestOperatorIsAccused(t *testing.T) {
	w := custodytest.New(1, custodytest.Config{Units: 9, Corrupt: 100})
	w.Found()
	uri := custodytest.Unit(0, 0)
	_, _, err := w.Commission(w.Actors[0], uri, 0, false)
	must(t, err)
	_, _, _ = w.Say(custody.KindInstall, w.Actors[5], unit(uri), &custody.Install{}) // a distributor does not install
	if v := verdict(t, w, uri, custody.Inputs{Complete: true}); v.Word != custody.CouldNotVerify || v.Failed()[0] != "admission" {
		t.Errorf("%s %v", v.Word, v.Failed())
	}
}
