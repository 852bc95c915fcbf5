package answer_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer"
	"fabtrail.dev/fabtrail/custody/answer/answertest"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
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
		h, err := custody.Walk(src, uri, nil)
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
	h, err := custody.Walk(src, uri, nil)
	if err != nil || len(h.Items) != 0 {
		t.Errorf("walk: %v, %d items", err, len(h.Items))
	}
	_, err = custody.Walk(src, w.Unit("A1"), nil)
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
	if _, err := custody.Walk(src, w.Unit("A1"), nil); err != nil {
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
	h, err := custody.Walk(src, w.Unit("B1"), nil)
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

// A client that knows a long list gets what was added to it, and finds the same.
func TestGrowth(t *testing.T) {
	w := answertest.NewWorld(answertest.NewLog(t))
	maker := w.Parties["maker"]
	w.Block("L1", 1000)
	use := func(from, to int) {
		for n := from; n < to; n++ {
			w.Pack(maker, 7, 1, w.Commission(fmt.Sprintf("U%d", n), "L1"))
		}
		w.Publish()
	}
	uri := w.Container(7) // opened again and again
	topic := entry.Topic{Kind: entry.TopicUnit, Value: uri}
	find := func(a *answer.Answer) *answer.Topic {
		for i := range a.Topics {
			if a.Topics[i].Kind == topic.Kind && a.Topics[i].Value == topic.Value {
				return &a.Topics[i]
			}
		}
		t.Fatal("the container's list is not in the answer")
		return nil
	}
	parts := answer.NewParts(100)
	use(0, 40)
	if _, _, err := opened(t, w, uri, answer.Options{}, parts); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{40, 43, 44, 100} {
		if size > 40 {
			use(len(w.Refs[topic.Hash()]), size)
		}
		opt := answer.Options{Have: answer.ParseHave(parts.Have())}
		known := len(parts.Have())
		a, src, err := opened(t, w, uri, opt, parts)
		if err != nil {
			t.Fatal(err)
		}
		list, err := src.List(topic)
		if err != nil || len(list) != size {
			t.Fatalf("%d of %d entries: %v", len(list), size, err)
		}
		for i, ref := range w.Refs[topic.Hash()] {
			if list[i].Index != ref.Index || list[i].Signed == nil {
				t.Fatalf("element %d is entry %d, want %d", i, list[i].Index, ref.Index)
			}
		}
		if _, err := custody.Walk(src, uri, nil); err != nil {
			t.Fatal(err)
		}
		sent := find(a)
		if size == 40 && (!sent.Known || len(a.Entries) != 0) || size > 40 && (sent.From == 0 || int(sent.From)+len(sent.Indexes) != size || len(a.Entries) != len(sent.Indexes)) {
			t.Errorf("%d elements: known %t, from %d, %d indexes, %d entries sent", size, sent.Known, sent.From, len(sent.Indexes), len(a.Entries))
		}
		if now := len(parts.Have()); now > known+2 {
			t.Errorf("the list is kept beside what it grew from: %s", parts.Have())
		}
		if size == 40 {
			continue
		}
		// Whoever does not know the beginning is told that it is missing.
		_, _, err = opened(t, w, uri, opt, answer.NewParts(1))
		var f *answer.Fault
		if !errors.As(err, &f) || f.Code != answer.Missing {
			t.Errorf("a client without the beginning: %v", err)
		}
	}
	// Lies about the growth.
	fresh := answer.NewParts(100)
	if _, _, err := opened(t, w, uri, answer.Options{}, fresh); err != nil {
		t.Fatal(err)
	}
	have := answer.ParseHave(fresh.Have())
	use(100, 105)
	for name, lie := range map[string]func(*answer.Topic){
		"proof altered":      func(w *answer.Topic) { w.Growth[30] ^= 1 },
		"proof cut":          func(w *answer.Topic) { w.Growth = w.Growth[:len(w.Growth)-32] },
		"no proof":           func(w *answer.Topic) { w.Growth = nil },
		"another beginning":  func(w *answer.Topic) { w.From-- },
		"element left out":   func(w *answer.Topic) { w.Indexes = w.Indexes[:4] },
		"first left out":     func(w *answer.Topic) { w.Indexes = w.Indexes[1:] },
		"nothing new":        func(w *answer.Topic) { w.Indexes = nil },
		"element twice":      func(w *answer.Topic) { w.Indexes = append(w.Indexes, w.Indexes[4]) },
		"out of order":       func(w *answer.Topic) { w.Indexes[0], w.Indexes[1] = w.Indexes[1], w.Indexes[0] },
		"said to be known":   func(w *answer.Topic) { w.Known = true },
		"known and nothing":  func(w *answer.Topic) { w.Known, w.From, w.Growth, w.Indexes = true, 0, nil, nil },
		"the end for whole":  func(w *answer.Topic) { w.From, w.Growth = 0, nil },
		"end of a part only": func(w *answer.Topic) { w.Growth[23]--; w.Indexes = w.Indexes[:4] },
	} {
		a, _, err := answer.Assemble(w.View(), uri, answer.Options{Have: have})
		if err != nil {
			t.Fatal(err)
		}
		lie(find(a))
		if _, err := answer.Open(a, w.Checkpoint(), fresh); err == nil {
			t.Errorf("%s: believed", name)
		}
	}
	a, _, err := answer.Assemble(w.View(), uri, answer.Options{Have: have})
	if err != nil || find(a).From != 100 {
		t.Fatalf("the honest answer: from %d, %v", find(a).From, err)
	}
	if _, err := answer.Open(a, w.Checkpoint(), fresh); err != nil {
		t.Errorf("the honest answer: %v", err)
	}
}

func TestHaveIsAHint(t *testing.T) {
	for header, n := range map[string]int{
		"": 0, "x": 0, "0123456789abcdef": 0, "0123456789abcdef.0": 0, "0123456789abcdef.-1": 0, "0123456789abcdef.1": 1,
		" 0123456789abcdef.1 , 1123456789abcdef.2,": 2, "0123456789abcdef.99999999999999999999": 0, "0123456789abcdef.5.5": 0,
	} {
		if got := len(answer.ParseHave(header)); got != n {
			t.Errorf("%q: %d lists, want %d", header, got, n)
		}
	}
	w := tale(t)
	a, _, err := answer.Assemble(w.View(), w.Unit("A1"), answer.Options{Have: answer.ParseHave("0123456789abcdef.1,1123456789abcdef.2")})
	b, _, err2 := answer.Assemble(w.View(), w.Unit("A1"), answer.Options{})
	if err != nil || err2 != nil || !reflect.DeepEqual(a, b) {
		t.Error("lists that nobody has change an answer")
	}
}

// Entries and lists that are kept do not change answers, however few fit, whether the
// ledger grows or a reader still has an earlier size.
func TestKeptFromAnswerToAnswer(t *testing.T) {
	for _, limit := range []int{1, 4, 1000} {
		earlier, w := tale(t), tale(t)
		opt := answer.Options{Read: answer.NewEntries(limit), Lists: answer.NewLists(limit)}
		check := func(w *answertest.World, opt answer.Options) {
			t.Helper()
			for _, serial := range []string{"A1", "A2", "B1", "B3", "NEVER"} {
				a, _, err := answer.Assemble(w.View(), w.Unit(serial), opt)
				b, _, err2 := answer.Assemble(w.View(), w.Unit(serial), answer.Options{})
				if err != nil || err2 != nil || !reflect.DeepEqual(a, b) {
					t.Errorf("limit %d, size %d: %s differs: %v %v", limit, w.Published, serial, err, err2)
				}
			}
		}
		check(w, opt)
		check(w, opt)
		w.RevokeKey(w.Parties["carrier"])
		w.Publish()
		check(w, opt)
		check(earlier, answer.Options{Lists: opt.Lists})
		check(w, opt)
	}
}

// What units share is read from the index once for each published size.
func TestSharedListsAreReadOnce(t *testing.T) {
	w := tale(t)
	opt := answer.Options{Lists: answer.NewLists(1000)}
	read := func() int {
		v := &countingView{View: w.View()}
		for _, serial := range []string{"A1", "A2", "B1", "B3"} {
			if _, _, err := answer.Assemble(v, w.Unit(serial), opt); err != nil {
				t.Fatal(err)
			}
		}
		for topic, n := range v.lists {
			if n != 1 {
				t.Errorf("the list of topic %s was read %d times", topic, n)
			}
		}
		return len(v.lists)
	}
	first := read()
	if again := read(); first < 10 || again != 0 {
		t.Errorf("%d lists were read, %d when asked again at the same size", first, again)
	}
	w.RevokeKey(w.Parties["carrier"])
	w.Publish()
	if n := read(); n < first {
		t.Errorf("%d lists were read at the next size, %d before", n, first)
	}
}

type countingView struct {
	answertest.View
	lists map[entry.Hash]int
}

func (v *countingView) List(topic entry.Hash) ([]unitindex.Ref, unitindex.Proof, error) {
	if v.lists == nil {
		v.lists = map[entry.Hash]int{}
	}
	v.lists[topic]++
	return v.View.List(topic)
}

// TestPartsInUseStay: of what is kept, those lists go first, and are told of last, that
// were not used for longest: the common ones are among the oldest.
func TestPartsInUseStay(t *testing.T) {
	w := tale(t)
	parts := answer.NewParts(1000)
	for _, serial := range []string{"A1", "A2", "A1"} {
		if _, _, err := opened(t, w, w.Unit(serial), answer.Options{Have: answer.ParseHave(parts.Have())}, parts); err != nil {
			t.Fatal(err)
		}
	}
	lot := w.Refs[entry.Topic{Kind: entry.TopicLot, Value: w.Lot("L2")}.Hash()] // of A2 alone
	have := strings.Split(parts.Have(), ",")
	if len(have) < 5 || !strings.HasPrefix(have[len(have)-1], unitindex.ListValue(lot).String()[:16]) {
		t.Errorf("told of are %v, want the list last that was not used since", have)
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
