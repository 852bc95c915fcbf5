package node

import (
	"bytes"
	"context"
	"os"
	"reflect"
	"slices"
	"testing"

	"fabtrail.dev/fabtrail/api"
	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer"
	"fabtrail.dev/fabtrail/custody/gs1"
	"fabtrail.dev/fabtrail/custody/rules"
	"fabtrail.dev/fabtrail/internal/problem"
)

// TestCheckUnits asks for many units through the door: each caller is told about
// each what he is told about it alone.
func TestCheckUnits(t *testing.T) {
	w := newWorld(t)
	for n := 1; n <= 3; n++ {
		w.must(makerParty, w.commission(n))
	}
	trust, err := client.LoadTrust(os.DirFS(w.folder.Trust()))
	if err != nil {
		t.Fatal(err)
	}
	codes := []client.Code{{Text: unit(1)}, {Text: unit(99)}, {Text: unit(2)}, {Text: unit(3)}}
	for party, word := range map[string]custody.Word{makerParty: custody.VerifiedNote, carrierParty: custody.StatusOnly} {
		v := client.Verifier{Remote: w.remote(party), Trust: trust}
		want := []custody.Word{word, custody.NotInLedger, word, word}
		rs, err := v.VerifyUnits(t.Context(), codes)
		if err != nil {
			t.Fatal(err)
		}
		var got []custody.Word
		for i, r := range rs {
			got = append(got, r.Word)
			alone, err := v.VerifyUnit(t.Context(), codes[i].Text, "")
			if err != nil || alone.Word != r.Word || alone.ServerWord != r.ServerWord || !reflect.DeepEqual(alone.Lines, r.Lines) {
				t.Errorf("%s: together %s %q, alone %s %q: %v", r.URI, r.Word, r.ServerWord, alone.Word, alone.ServerWord, err)
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", party, got, want)
		}
	}
	_, err = w.node.CheckUnits(context.Background(), api.Caller{}, []api.UnitQuery{{URI: unit(1)}, {URI: "abc"}}, "")
	if p := problem.As(err); p == nil || p.Field != "/units/1/uri" {
		t.Errorf("a code that cannot be read: %v", err)
	}
	b, err := w.node.CheckUnits(context.Background(), api.Caller{}, []api.UnitQuery{{URI: unit(1)}, {URI: unit(2)}}, "")
	if err != nil {
		t.Fatal(err)
	}
	m, err := answer.ParseMany(b.JSON)
	if err != nil || m.Checkpoint != "" || len(m.Topics)+len(m.Entries) != 0 || m.Units[0].Form != answer.Status || m.Units[1].Word != "known" {
		t.Errorf("a stranger is shown %s", b.JSON)
	}
}

// TestRoutePolicies: auditors, and the party whose they are, get a product's route policies
// and work out a diversion; for others the ledger's finding is its word, a note.
func TestRoutePolicies(t *testing.T) {
	w := newWorld(t)
	w.enrol(rivalParty, "brand")
	const gtin = "09506000134352"
	product, device := custody.ProductURI(gtin), "https://id.gs1.org/01/"+gtin+"/21/D1"
	w.must(testOperator, w.sign(w.payload(custody.KindProduct, product, nil, &custody.Product{Owner: rivalParty, Kind: "device"}),
		w.keys[testOperator], w.keys[rivalParty]))
	w.must(rivalParty, w.sign(w.payload(custody.KindRoutePolicy, product, nil, &custody.RoutePolicy{Actor: rivalParty,
		Steps: []custody.RouteStep{{ID: "s1", From: []string{rivalParty}, To: []string{makerParty}}}}), w.keys[rivalParty]))
	key := bytes.Repeat([]byte{7}, 16)
	digest, err := custody.PedigreeDigest(key)
	if err != nil {
		t.Fatal(err)
	}
	made := w.must(rivalParty, w.sign(w.payload(custody.KindCommission, device, w.event(rivalParty, "brand", custody.First()),
		&custody.Commission{UnitKind: "device", Pedigree: digest.String()}), w.keys[rivalParty]))
	w.must(rivalParty, w.sign(w.payload(custody.KindRelease, device, w.event(rivalParty, "brand", custody.Next(0, made.ID)),
		&custody.Release{From: rivalParty, To: carrierParty}), w.keys[rivalParty]))
	if err := w.node.CaughtUp(t.Context()); err != nil { // the finding is in the log
		t.Fatal(err)
	}
	trust, err := client.LoadTrust(os.DirFS(w.folder.Trust()))
	if err != nil {
		t.Fatal(err)
	}
	public, err := client.NewRemote(w.server.URL, client.Options{Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		who    string
		remote *client.Remote
		shown  bool
	}{
		{"an auditor", w.remote(auditorParty, "audit"), true},
		{"the owner of the product", w.remote(rivalParty), true},
		{"whoever holds the unit", public, false},
	} {
		r, err := (&client.Verifier{Remote: c.remote, Trust: trust}).VerifyUnit(t.Context(), device, gs1.FormatPedigreeKey(key))
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(r.Findings, func(f custody.Conclusion) bool { return f.Rule == string(rules.Lane) })
		if i < 0 {
			t.Fatalf("%s: %s, no finding: %v %v", c.who, r.Word, r.Failed(), r.Checks)
		}
		f, want := r.Findings[i], custody.VerifiedNote
		if c.shown {
			want = custody.CheckBeforeUse
		}
		if r.Word != want || (f.Logged == nil) != c.shown {
			t.Errorf("%s: %s, finding %+v", c.who, r.Word, f)
		}
	}
}
