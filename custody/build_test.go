package custody

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	attestation "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"pgregory.net/rapid"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"fabtrail.dev/fabtrail/ledger/entry"
)

func TestSamplesCoverEveryKind(t *testing.T) {
	seen := map[Kind]bool{}
	for _, s := range samples(t) {
		seen[s.kind] = true
	}
	for _, k := range Kinds() {
		if !seen[k] {
			t.Errorf("no sample of %s", k)
		}
	}
	if len(Kinds()) != 31 {
		t.Errorf("%d kinds, the constants of types.go are 31", len(Kinds()))
	}
}

// TestBuildParseBuild: what is built is parsed as it was given, built anew byte
// for byte, and accepted by in-toto's own reader.
func TestBuildParseBuild(t *testing.T) {
	for _, s := range samples(t) {
		t.Run(s.name, func(t *testing.T) {
			p := s.payload(t)
			st, err := Parse(p)
			if err != nil {
				t.Fatal(err)
			}
			if st.ID != entry.StatementID(p) || st.Kind != s.kind || st.Subject != s.subject {
				t.Errorf("parsed as %s %s %s", st.ID, st.Kind, st.Subject)
			}
			if want := ledgerHash; s.kind != KindCharter && st.Ledger != want {
				t.Errorf("ledger %s", st.Ledger)
			}
			if !reflect.DeepEqual(st.Body, s.body) {
				t.Errorf("body\n%+v\nwant\n%+v", st.Body, s.body)
			}
			if !reflect.DeepEqual(st.Event, s.event) {
				t.Errorf("event\n%+v\nwant\n%+v", st.Event, s.event)
			}
			again, err := st.Rebuild()
			if err != nil || !bytes.Equal(again, p) {
				t.Errorf("rebuilt (%v)\n%s\nwant\n%s", err, again, p)
			}
			var it attestation.Statement
			if err := protojson.Unmarshal(p, &it); err != nil {
				t.Fatalf("in-toto does not read it: %v", err)
			}
			if err := it.Validate(); err != nil {
				t.Errorf("in-toto refuses it: %v", err)
			}
			theirs, err := protojson.Marshal(&it)
			if err != nil {
				t.Fatal(err)
			}
			if back, err := Parse(theirs); err != nil || !reflect.DeepEqual(back.Body, s.body) {
				t.Errorf("what in-toto writes is not read as what it was (%v)\n%s", err, theirs)
			}
			if it.PredicateType != s.kind.PredicateType() || it.Subject[0].Uri != s.subject {
				t.Errorf("in-toto reads %s about %s", it.PredicateType, it.Subject[0].Uri)
			}
		})
	}
}

// TestForeignOrder: field order, white space and unknown fields are the author's
// business; the payload keeps its bytes.
func TestForeignOrder(t *testing.T) {
	s := find(t, "hold")
	want, err := Parse(s.payload(t))
	if err != nil {
		t.Fatal(err)
	}
	v := jsontext.Value(bytes.Clone(want.Payload))
	if err := v.Canonicalize(); err != nil { // sorts names
		t.Fatal(err)
	}
	if err := v.Indent(); err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(v), `"predicate": {`, `"predicate": { "future": {"deep": [1, null, true]}, `, 1) + "\n"
	got, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if got.ID == want.ID || got.ID != entry.StatementID([]byte(text)) || string(got.Payload) != text {
		t.Error("the ID is not that of the bytes as they came")
	}
	if !reflect.DeepEqual(got.Body, want.Body) || !reflect.DeepEqual(got.Event, want.Event) {
		t.Error("read differently")
	}
}

func TestNewPayloadRefuses(t *testing.T) {
	s := find(t, "hold")
	cases := []struct {
		name  string
		kind  Kind
		ev    *Event
		body  any
		field string
	}{
		{"unknown kind", "holdd", s.event, s.body, "/predicateType"},
		{"no event", KindHold, nil, s.body, "/predicate"},
		{"an event for governance", KindRuleSet, s.event, &RuleSet{}, "/predicate"},
		{"another body", KindHold, s.event, &Lift{}, "/predicate"},
		{"no body", KindHold, s.event, nil, "/predicate"},
		{"nil body", KindHold, s.event, (*Hold)(nil), "/predicate"},
		{"bad value", KindHold, s.event, &Hold{Reason: "mood"}, "/predicate/reason"},
	}
	for _, c := range cases {
		_, err := NewPayload(c.kind, unitURI, ledgerHash, c.ev, c.body)
		if p := problemOf(t, err); p.Field != c.field {
			t.Errorf("%s: field %q, want %q (%v)", c.name, p.Field, c.field, err)
		}
	}
	if _, err := NewPayload(KindHold, unitURI, ledgerHash, s.event, Hold{Reason: "stolen"}); err != nil {
		t.Errorf("a body by value: %v", err)
	}
}

func TestEventID(t *testing.T) {
	at := time.Date(2026, 11, 2, 3, 14, 15, 678e6, time.UTC)
	a := NewEventID(at, strings.NewReader("0123456789"))
	if a != NewEventID(at, strings.NewReader("0123456789")) || a == NewEventID(at, nil) {
		t.Error("event ids do not follow their randomness")
	}
	if !isEventID(a) || !isEventID(NewEventID(at, nil)) {
		t.Errorf("%s is not an event id", a)
	}
	if later := NewEventID(at.Add(time.Millisecond), strings.NewReader("0000000000")); later <= a {
		t.Errorf("%s is not above %s", later, a)
	}
}

// genEvent draws common fields.
func genEvent(t *rapid.T, chains bool) *Event {
	e := &Event{
		EventID:    NewEventID(time.UnixMilli(rapid.Int64Range(1.6e12, 2e12).Draw(t, "ms")), nil),
		OccurredAt: FormatTime(time.UnixMilli(rapid.Int64Range(1.6e12, 2e12).Draw(t, "at"))),
		Actor:      rapid.SampledFrom([]string{makerURI, carrierURI}).Draw(t, "actor"),
		Role:       rapid.SampledFrom(append([]string{""}, Roles...)).Draw(t, "role"),
		Chain:      Unchained(),
	}
	if chains {
		e.Chain = Next(rapid.Int64Range(0, 1e6).Draw(t, "seq"), genHash(t))
	}
	if rapid.Bool().Draw(t, "where") {
		g := Geo{Lat: rapid.Int32Range(-90*geoScale, 90*geoScale).Draw(t, "lat"), Lon: rapid.Int32Range(-180*geoScale, 180*geoScale).Draw(t, "lon"), Metres: rapid.Uint32Range(0, 5000).Draw(t, "u")}
		e.Where = &Where{Country: rapid.SampledFrom(strings.Fields(countries)).Draw(t, "country"), Geo: g.String()}
	}
	for range rapid.IntRange(0, 3).Draw(t, "evidence") {
		e.Evidence = append(e.Evidence, Evidence{Name: rapid.StringMatching(`[a-zäöü ]{0,20}`).Draw(t, "name"), Digest: DigestOf(genHash(t))})
	}
	for _, g := range SealedGroups() {
		if rapid.Bool().Draw(t, g) {
			if e.Sealed == nil {
				e.Sealed = map[string]SealedRef{}
			}
			e.Sealed[g] = SealedRef{Alg: SealedAlg, Digest: genHash(t).String()}
		}
	}
	if rapid.Bool().Draw(t, "ext") {
		e.Ext = jsontext.Value(fmt.Sprintf(`{"x":%d,"y":[%q]}`, rapid.Int64Range(-MaxInteger, MaxInteger).Draw(t, "n"), rapid.StringMatching(`[a-z<>&']{0,9}`).Draw(t, "y")))
	}
	return e
}

func genHash(t *rapid.T) entry.Hash {
	return sha256.Sum256(rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(t, "hash"))
}

func genSample(t *rapid.T) sample {
	uri := fmt.Sprintf("https://id.gs1.org/01/09506000134352/21/SN-%06d", rapid.IntRange(0, 999999).Draw(t, "serial"))
	switch rapid.IntRange(0, 4).Draw(t, "kind") {
	case 0:
		e := genEvent(t, true)
		b := &Release{From: e.Actor, To: installerURI}
		if rapid.Bool().Draw(t, "seal") {
			b.Seals = []Seal{{Number: rapid.StringMatching(`[A-Z0-9]{1,20}`).Draw(t, "no"), Check: rapid.SampledFrom(sealChecks).Draw(t, "check")}}
		}
		return sample{"release", KindRelease, uri, e, b, nil}
	case 1:
		b := &QAResult{Result: rapid.SampledFrom(qaResults).Draw(t, "result")}
		for range rapid.IntRange(0, 4).Draw(t, "tests") {
			b.FailedTests = append(b.FailedTests, rapid.StringMatching(`[a-z"\\/é]{1,30}`).Draw(t, "test"))
		}
		return sample{"qa", KindQAResult, uri, genEvent(t, false), b, nil}
	case 2:
		b := &Assemble{Action: ActionAdd}
		for i := range rapid.IntRange(1, 20).Draw(t, "parts") {
			b.Components = append(b.Components, Component{URI: fmt.Sprintf("https://id.gs1.org/01/09506000134376/21/P%d", i), Head: &Digest{SHA256: genHash(t).String()}})
		}
		return sample{"assemble", KindAssemble, uri, genEvent(t, true), b, nil}
	case 3:
		return sample{"hold", KindHold, uri, genEvent(t, false), &Hold{Reason: rapid.SampledFrom(holdReasons).Draw(t, "reason"), Note: rapid.StringMatching(`[ -~]{0,60}`).Filter(func(s string) bool { return !looksLikeEmail(s) }).Draw(t, "note")}, nil}
	default:
		return sample{"accept", KindAccept, uri, genEvent(t, true), &Accept{Accepts: DigestOf(genHash(t)), Counted: &Counted{Expected: rapid.Int64Range(0, MaxInteger).Draw(t, "n")}}, nil}
	}
}

func TestRapidRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genSample(t)
		p, err := NewPayload(s.kind, s.subject, ledgerHash, s.event, s.body)
		if err != nil {
			t.Fatalf("%v\n%+v\n%+v", err, s.event, s.body)
		}
		st, err := Parse(p)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(st.Event, s.event) || !reflect.DeepEqual(st.Body, s.body) {
			t.Fatalf("read\n%+v %+v\nwant\n%+v %+v", st.Event, st.Body, s.event, s.body)
		}
		again, err := st.Rebuild()
		if err != nil || !bytes.Equal(again, p) {
			t.Fatalf("rebuilt %s, want %s (%v)", again, p, err)
		}
	})
}

// TestPublishedShape: the example payloads that partners were shown are read, once
// what version 1 added is filled in.
func TestPublishedShape(t *testing.T) {
	const dir = "../../shared/data/statements"
	files, err := filepath.Glob(filepath.Join(dir, "*.statement.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skip("the example payloads are not here")
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			raw, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if p := problemOf(t, parseError(raw)); p.Field != "/predicate/ledger" {
				t.Errorf("as published: %v", p)
			}
			var st struct {
				Type          string         `json:"_type"`
				Subject       jsontext.Value `json:"subject"`
				PredicateType string         `json:"predicateType"`
				Predicate     map[string]any `json:"predicate"`
			}
			if err := json.Unmarshal(raw, &st); err != nil {
				t.Fatal(err)
			}
			p := st.Predicate
			p["ledger"] = ledgerHash.String()
			delete(p, "identity") // version 1 carries the whole key
			switch kind, _ := KindOf(st.PredicateType); kind {
			case KindPack:
				p["level"] = 1
				p["contents"].(map[string]any)["manifest"] = hex64
			case KindRelease, KindAccept:
				p["load"] = hex64
			}
			b, err := json.Marshal(st)
			if err != nil {
				t.Fatal(err)
			}
			s, err := Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			if s.Event.Actor != p["actor"] || s.Event.EventID != p["eventId"] {
				t.Errorf("read as %+v", s.Event)
			}
		})
	}
}

func parseError(b []byte) error { _, err := Parse(b); return err }
