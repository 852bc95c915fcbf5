package answer_test

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer"
	"fabtrail.dev/fabtrail/custody/answer/answertest"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// tale is a ledger on which a device A1 went from maker to installer in a carton
// on a pallet, with a part; A2 beside it is recalled with its lot.
func tale(t *testing.T) *answertest.World {
	w := answertest.NewWorld(answertest.NewLog(t))
	maker, carrier, inst := w.Parties["maker"], w.Parties["carrier"], w.Parties["installer"]
	w.Block("L1", 100)
	w.Block("L2", 100)
	a := w.Commission("A1", "L1")
	many := w.CommissionMany("L1", "B1", "B2", "B3")
	b := w.Commission("A2", "L2")
	w.Assemble(maker, a, many[2])
	w.Register(a)
	carton := w.Pack(maker, 1, 1, a, b, many[0], many[1])
	pallet := w.Pack(maker, 2, 2, carton)
	w.HandOver(maker, carrier, pallet)
	w.HandOver(carrier, inst, pallet)
	w.Publish()
	w.Unpack(inst, pallet, carton)
	w.Unpack(inst, carton, a)
	w.Install(inst, a)
	w.Recall(w.Lot("L2"), custody.Selector{Lot: w.Lot("L2")})
	w.Publish()
	return w
}

func opened(t *testing.T, w *answertest.World, uri string, opt answer.Options, parts *answer.Parts) (*answer.Answer, *answer.Source, error) {
	t.Helper()
	a, _, err := answer.Assemble(w.View(), uri, opt)
	if err != nil {
		t.Fatal(err)
	}
	b, err := a.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	back, err := answer.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(a, back) {
		t.Fatal("an answer is not what it was after a round trip")
	}
	src, err := answer.Open(back, w.Checkpoint(), parts)
	return back, src, err
}

// What the client finds from the answer is what the whole log says.
func TestRoundTrip(t *testing.T) {
	w := tale(t)
	for _, uri := range []string{w.Unit("A1"), w.Unit("A2"), w.Unit("B1"), w.Unit("B3")} {
		a, src, err := opened(t, w, uri, answer.Options{}, nil)
		if err != nil {
			t.Fatalf("%s: %v", uri, err)
		}
		if a.Form != answer.Full {
			t.Errorf("%s: form %s", uri, a.Form)
		}
		h, err := custody.Walk(src, uri)
		if err != nil {
			t.Fatalf("%s: %v", uri, err)
		}
		if err := src.CheckLists(h); err != nil {
			t.Error(err)
		}
		want := custody.LoadUnit(w.State, custody.UnitRef{URI: uri})
		if !reflect.DeepEqual(h.Unit, want) {
			t.Errorf("%s: unit %+v, by replay %+v", uri, h.Unit, want)
		}
		seen := map[uint64]bool{}
		for _, e := range a.Entries {
			if seen[e.Index] {
				t.Errorf("%s: entry %d is sent twice", uri, e.Index)
			}
			seen[e.Index] = true
		}
	}
}

// A member proves itself; its siblings stay unseen.
func TestSiblingsAreNotSent(t *testing.T) {
	w := tale(t)
	a, _, err := opened(t, w, w.Unit("B1"), answer.Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := a.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range a.Entries {
		for _, m := range e.Members {
			if bytes.Contains(m.Member, []byte(w.Unit("B2"))) || bytes.Contains(m.Member, []byte(w.Unit("A2"))) {
				t.Errorf("entry %d shows a sibling", e.Index)
			}
		}
	}
	if bytes.Contains(b, []byte(w.Unit("B2"))) {
		t.Error("the answer names a sibling")
	}
}

func TestAbsence(t *testing.T) {
	w := tale(t)
	uri := w.Unit("NEVER")
	a, src, err := opened(t, w, uri, answer.Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if a.Form != answer.Absent || len(a.Topics) != 1 || len(a.Entries) != 0 {
		t.Errorf("form %s with %d topics, %d entries", a.Form, len(a.Topics), len(a.Entries))
	}
	h, err := custody.Walk(src, uri)
	if err != nil || len(h.Items) != 0 {
		t.Errorf("walk: %v, %d items", err, len(h.Items))
	}
	_, err = custody.Walk(src, w.Unit("A1"))
	var f *answer.Fault
	if !errors.As(err, &f) || f.Code != answer.Missing {
		t.Errorf("a unit that is not in the answer: %v", err)
	}
}

func TestStatusProvesNothing(t *testing.T) {
	_, err := answer.Open(answer.NewStatus("x", "clear"), checkpoint.Checkpoint{Size: 1}, nil)
	var f *answer.Fault
	if !errors.As(err, &f) || f.Code != answer.Missing {
		t.Errorf("got %v", err)
	}
}

// A client that has verified shared lists gets the rest only, and finds the same.
func TestParts(t *testing.T) {
	w := tale(t)
	parts := answer.NewParts(1000)
	first, src, err := opened(t, w, w.Unit("A1"), answer.Options{}, parts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := custody.Walk(src, w.Unit("A1")); err != nil {
		t.Fatal(err)
	}
	whole, _, err := opened(t, w, w.Unit("B1"), answer.Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	opt := answer.Options{Have: answer.ParseHave(parts.Have())}
	less, src, err := opened(t, w, w.Unit("B1"), opt, parts)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range less.Entries {
		if e.Cargo[0] == byte(entry.Public) {
			t.Errorf("entry %d is sent again: %d entries with parts kept, %d without, %d in the first answer", e.Index, len(less.Entries), len(whole.Entries), len(first.Entries))
		}
	}
	h, err := custody.Walk(src, w.Unit("B1"))
	if err != nil {
		t.Fatal(err)
	}
	if want := custody.LoadUnit(w.State, h.Ref); !reflect.DeepEqual(h.Unit, want) {
		t.Errorf("unit %+v, by replay %+v", h.Unit, want)
	}
	if _, _, err := opened(t, w, w.Unit("B1"), opt, nil); err == nil {
		t.Error("known lists were believed by a client that has none")
	}
	// A list that grew has another value: it is sent again.
	w.RevokeKey(w.Parties["carrier"])
	w.Publish()
	_, src, err = opened(t, w, w.Unit("B1"), opt, parts)
	if err != nil {
		t.Fatal(err)
	}
	key, err := custody.KeyHash(w.Parties["carrier"].Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	list, err := src.List(entry.Topic{Kind: entry.TopicKey, Value: key.String()})
	if err != nil || len(list) != 2 {
		t.Errorf("the list of the revoked key has %d entries, %v", len(list), err)
	}
}

func TestPartsAreBounded(t *testing.T) {
	w := tale(t)
	parts := answer.NewParts(3)
	if _, _, err := opened(t, w, w.Unit("A1"), answer.Options{}, parts); err != nil {
		t.Fatal(err)
	}
	if n := len(answer.ParseHave(parts.Have())); n != 3 {
		t.Errorf("%d lists are kept, want 3", n)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, s := range []string{
		"", "{}", "[]", "null",
		`{"format":"fabtrail/unit-answer/v2","uri":"x","form":"full"}`,
		`{"format":"fabtrail/unit-answer/v1","uri":"x","form":"half"}`,
		`{"format":"fabtrail/unit-answer/v1","uri":"x","form":"full","form":"full"}`,
		`{"format":"fabtrail/unit-answer/v1","uri":"x","form":"full"} ` + "x",
		`{"format":"fabtrail/unit-answer/v1","uri":"x","form":"full","topics":[{"indexes":[-1]}]}`,
		`{"format":"fabtrail/unit-answer/v1","uri":"x","form":"full","topics":[{"indexes":[1.5]}]}`,
		`{"format":"fabtrail/unit-answer/v1","uri":"x","form":"full","entries":[{"cargo":"*"}]}`,
		`{"format":"fabtrail/unit-answer/v1","uri":"x","form":"full","entries":[{"hashes":["AA=="]}]}`,
	} {
		if _, err := answer.Parse([]byte(s)); err == nil {
			t.Errorf("%s was accepted", s)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"format":"fabtrail/unit-answer/v1","uri":"x","form":"absent","checkpoint":"","topics":[{"kind":"unit","value":"x","proof":"AQA="}]}`))
	f.Add([]byte(`{"format":"fabtrail/unit-answer/v1","uri":"x","form":"full","commitment":{"cargo":"AwAA","hashes":[]},"entries":[{"index":0,"cargo":"AQ==","hashes":[]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := answer.Parse(b)
		if err != nil {
			return
		}
		if _, err := answer.Open(a, checkpoint.Checkpoint{Origin: "x", Size: 5}, answer.NewParts(2)); err == nil {
			t.Error("an answer under a root of zeros was accepted")
		}
	})
}
