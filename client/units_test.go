package client

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer"
)

// manyCodes are the tale's units and one that is not in the ledger, with the words
// that they get.
func manyCodes() (codes []Code, words []custody.Word) {
	var serials []string
	for s := range taleVerdicts {
		serials = append(serials, s)
	}
	slices.Sort(serials)
	for _, s := range append(serials, "NEVER") {
		codes = append(codes, Code{Text: unitURI(s)})
		word, ok := taleVerdicts[s]
		if !ok {
			word = custody.NotInLedger
		}
		words = append(words, word)
	}
	return codes, words
}

func wordsOf(rs []*Report) (words []custody.Word) {
	for _, r := range rs {
		words = append(words, r.Word)
	}
	return words
}

// Many units in one call get the reports that each gets alone, from less.
func TestVerifyUnits(t *testing.T) {
	w := tale(t)
	f := newFake(t, w)
	codes, words := manyCodes()
	alone := make([]*Report, len(codes))
	single := 0
	f.units = func(a *answer.Answer) { b, _ := a.Marshal(); single += len(b) }
	for i, c := range codes {
		var err error
		if alone[i], err = verifier(t, w.Log, f.remote(t, Options{})).VerifyUnit(t.Context(), c.Text, ""); err != nil {
			t.Fatal(err)
		}
	}
	clear(f.calls)
	together := 0
	f.many = func(m *answer.Many) { b, _ := m.Marshal(); together += len(b) }
	v := verifier(t, w.Log, f.remote(t, Options{}))
	done := 0
	v.Progress = func(n int) { done = n }
	for pass := range 2 { // the second with all that is shared known
		rs, err := v.VerifyUnits(t.Context(), codes)
		if err != nil || !reflect.DeepEqual(wordsOf(rs), words) {
			t.Fatalf("%v, want %v: %v", wordsOf(rs), words, err)
		}
		for i, r := range rs {
			if r.URI != alone[i].URI || !reflect.DeepEqual(r.Lines, alone[i].Lines) || !reflect.DeepEqual(r.Reasons, alone[i].Reasons) || r.Claim != alone[i].Claim {
				t.Errorf("%s: together\n%+v\nalone\n%+v", r.URI, r, alone[i])
			}
		}
		if pass == 0 && together*2 > single {
			t.Errorf("%d bytes together, %d alone", together, single)
		}
		if done != len(codes) {
			t.Errorf("%d units are said to be done, want %d", done, len(codes))
		}
		v.Parts = answer.NewParts(1000)
	}
	if n := f.calls["POST /v1/units:check"]; n != 2 || f.calls["GET /v1/units/{uri}"] != 0 {
		t.Errorf("asked %d times for many, %d for one", n, f.calls["GET /v1/units/{uri}"])
	}
}

// What a server does to a part of the answer harms nobody else's, and what it does
// to all of it is asked again unit by unit.
func TestVerifyUnitsLied(t *testing.T) {
	w := tale(t)
	codes, words := manyCodes()
	drop := func(m *answer.Many, kind, value string) {
		m.Topics = slices.DeleteFunc(m.Topics, func(t answer.Topic) bool { return string(t.Kind) == kind && t.Value == value })
	}
	for name, c := range map[string]struct {
		lie   func(*answer.Many)
		again int // units asked for by themselves
	}{
		"a list less":     {func(m *answer.Many) { drop(m, "unit", unitURI("HELD")) }, 1},
		"a unit less":     {func(m *answer.Many) { m.Units = m.Units[1:] }, len(codes)},
		"units reordered": {func(m *answer.Many) { m.Units[0], m.Units[1] = m.Units[1], m.Units[0] }, 2},
		"another format":  {func(m *answer.Many) { m.Format = "x" }, len(codes)},
		"another form":    {func(m *answer.Many) { m.Units[0].Form = "half" }, len(codes)},
		"a proof altered": {func(m *answer.Many) { m.Topics[0].Proof[5] ^= 1 }, len(codes)},
		"no commitment":   {func(m *answer.Many) { m.Commitment = nil }, len(codes)},
		"no checkpoint":   {func(m *answer.Many) { m.Checkpoint = "" }, len(codes)},
		"said to be absent": {func(m *answer.Many) {
			for i := range m.Units {
				m.Units[i].Form = answer.Absent
			}
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, w)
			f.many = c.lie
			rs, err := verifier(t, w.Log, f.remote(t, Options{})).VerifyUnits(t.Context(), codes)
			if err != nil || !reflect.DeepEqual(wordsOf(rs), words) {
				t.Errorf("%v, want %v: %v", wordsOf(rs), words, err)
			}
			if n := f.calls["GET /v1/units/{uri}"]; n != c.again {
				t.Errorf("%d units were asked for alone, want %d", n, c.again)
			}
		})
	}
	t.Run("a checkpoint of a fork", func(t *testing.T) {
		f := newFake(t, w)
		cp := w.Checkpoint()
		cp.Root[3] ^= 1
		f.many = func(m *answer.Many) { m.Checkpoint = string(w.NoteFor(cp, w.Time/1000)) }
		v := verifier(t, w.Log, f.remote(t, Options{}))
		v.Memory = memory{cp.Origin: w.Note}
		rs, err := v.VerifyUnits(t.Context(), codes)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs {
			if r.Word != custody.CouldNotVerify || r.Fork == nil {
				t.Errorf("%s: %s, fork %v", r.URI, r.Word, r.Fork)
			}
		}
	})
}

func TestVerifyUnitsRest(t *testing.T) {
	w := tale(t)
	f := newFake(t, w)
	v := verifier(t, w.Log, f.remote(t, Options{}))
	codes, words := manyCodes()
	// What does not fit into one answer comes in several.
	f.most = 3
	rs, err := v.VerifyUnits(t.Context(), codes)
	if err != nil || !reflect.DeepEqual(wordsOf(rs), words) || f.calls["GET /v1/units/{uri}"] != 0 {
		t.Errorf("%v: %v", wordsOf(rs), err)
	}
	f.most = 0
	// A word is a word, beside others or alone.
	for _, c := range [][]Code{{{unitURI("GOOD"), opensNothing}, {unitURI("GOOD"), ""}}, {{unitURI("GOOD"), opensNothing}}} {
		rs, err = v.VerifyUnits(t.Context(), c)
		if err != nil || rs[0].Word != custody.StatusOnly || rs[0].ServerWord != "known" || len(rs) > 1 && rs[1].Word != taleVerdicts["GOOD"] {
			t.Errorf("%v: %v", wordsOf(rs), err)
		}
		if n := len(rs[0].Checks); n == 0 || rs[0].Checks[n-1].Name != CheckPedigree || rs[0].Checks[n-1].OK {
			t.Errorf("of the key that opens nothing: %+v", rs[0].Checks)
		}
	}
	// The wrong pedigree key is noticed.
	rs, err = v.VerifyUnits(t.Context(), []Code{{unitURI("GOOD"), pedigree(make([]byte, 16))}})
	if err != nil || rs[0].Word != custody.CheckBeforeUse {
		t.Errorf("%v: %v", wordsOf(rs), err)
	}
	var bad *CodeError
	if _, err := v.VerifyUnits(t.Context(), []Code{{unitURI("GOOD"), ""}, {w.Product(), ""}}); !errors.As(err, &bad) || bad.Index != 1 {
		t.Errorf("a product's code: %v", err)
	}
	if rs, err := v.VerifyUnits(t.Context(), nil); err != nil || len(rs) != 0 {
		t.Errorf("no codes: %v, %v", rs, err)
	}
}

// TestMalformedPedigreeKey: a key that was cut is the caller's mistake, not the
// ledger's fault.
func TestMalformedPedigreeKey(t *testing.T) {
	v := verifier(t, tale(t).Log, nil)
	if _, err := v.VerifyUnit(t.Context(), unitURI("GOOD"), "cut"); err == nil || !strings.Contains(err.Error(), "22 characters") {
		t.Errorf("a key of 3 characters: %v", err)
	}
	if _, err := v.VerifyUnits(t.Context(), []Code{{unitURI("GOOD"), ""}, {unitURI("GOOD"), "cut"}}); err == nil {
		t.Error("a key of 3 characters among many is taken")
	}
}

// TestNoAnswer: a server that cannot be reached is named once, and what was asked is
// not repeated.
func TestNoAnswer(t *testing.T) {
	r, err := NewRemote("http://127.0.0.1:1", Options{Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	v := Verifier{Remote: r, Trust: trustOf(t, tale(t).Log)}
	rep, err := v.VerifyUnit(t.Context(), unitURI("GOOD"), "")
	if err != nil || rep.Word != custody.CouldNotVerify || len(rep.Reasons) != 1 {
		t.Fatalf("%+v, %v", rep, err)
	}
	text := rep.Reasons[0].Text
	if strings.Count(text, "127.0.0.1:1") != 1 || !strings.HasPrefix(text, "no answer from http://127.0.0.1:1: ") || strings.Contains(text, "GOOD") {
		t.Errorf("the reason is %q", text)
	}
}
