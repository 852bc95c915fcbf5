package node

import (
	"context"
	"os"
	"reflect"
	"testing"

	"fabtrail.dev/fabtrail/api"
	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer"
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
