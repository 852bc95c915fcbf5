package epcis

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/internal/problem"
)

func readVectors(t testing.TB, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "testdata", "epcis", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

type eventVector struct {
	Name, Field string
	Event       json.RawMessage
}

// around puts an event into a document.
func around(event []byte) []byte {
	return fmt.Appendf(nil, `{"@context":[%q,{"example":"https://example.com/voc/"}],"type":"EPCISDocument","schemaVersion":"2.0",
"creationDate":"2026-11-01T00:00:00Z","epcisBody":{"eventList":[
%s]}}`, contextURL, event)
}

func TestValidEvents(t *testing.T) {
	var vs []eventVector
	readVectors(t, "valid.json", &vs)
	for _, v := range vs {
		d, err := Parse(around(v.Event))
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		for _, p := range d.Problems {
			t.Errorf("%s: %v", v.Name, p)
		}
		if len(d.Events) != 1 || d.Events[0].HashID == "" || d.Events[0].Line != 3 {
			t.Errorf("%s: events %+v", v.Name, d.Events)
		}
	}
}

func TestInvalidEvents(t *testing.T) {
	var vs []eventVector
	readVectors(t, "invalid.json", &vs)
	for _, v := range vs {
		d, err := Parse(around(v.Event))
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		if len(d.Problems) != 1 {
			t.Errorf("%s: problems %v, want one at %s", v.Name, d.Problems, v.Field)
			continue
		}
		if p := d.Problems[0]; p.Field != v.Field || p.Type != "invalid_epcis" || p.Extra["line"] != 3 || p.Extra["event"] != 0 {
			t.Errorf("%s: %v (%v), want %s", v.Name, p, p.Extra, v.Field)
		}
		plan, err := Map(d, Options{Party: maker, Secret: [32]byte{1}}, Blank{maker})
		if err != nil || plan.Counts[ResultRefused] != 1 || len(plan.Statements) > 0 {
			t.Errorf("%s: %+v, %v", v.Name, plan, err)
		}
	}
}

func TestDocuments(t *testing.T) {
	var vs []struct {
		Name, Field string
		Document    json.RawMessage
		Events      int
	}
	readVectors(t, "documents.json", &vs)
	for _, v := range vs {
		d, err := Parse(v.Document)
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		switch {
		case v.Field == "" && (!d.Valid() || len(d.Events) != v.Events):
			t.Errorf("%s: %d events, %v", v.Name, len(d.Events), d.Problems)
		case v.Field != "" && (len(d.Problems) != 1 || d.Problems[0].Field != v.Field):
			t.Errorf("%s: %v, want one at %s", v.Name, d.Problems, v.Field)
		}
	}
}

// TestRolledBack: one bad event refuses the good ones beside it, and each says so.
func TestRolledBack(t *testing.T) {
	doc := strings.Replace(document(objectEvent("OBSERVE", "storing", "", board1), objectEvent("OBSERVE", "storing", "", board2)), "storing", "stowing", 1)
	d, err := Parse([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := Map(d, Options{Party: maker, Secret: [32]byte{1}}, Blank{maker})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, plan, "refused !invalid_epcis", "refused !invalid_epcis")
	if p := plan.Outcomes[0].Problems[0]; p.Field != "/epcisBody/eventList/0/bizStep" || p.Extra["line"] != 2 || !strings.Contains(p.Hint, "storing") {
		t.Errorf("%v %v", p, p.Extra)
	}
	if !strings.Contains(plan.Outcomes[1].Why, "refused whole") {
		t.Errorf("why: %s", plan.Outcomes[1].Why)
	}
}

func TestUnreadable(t *testing.T) {
	good := string(around([]byte(`{}`)))
	for name, c := range map[string]struct {
		doc, slug, detail string
		line              int
	}{
		"empty":          {" \n", "malformed_json", "empty", 0},
		"XML":            {"<?xml version='1.0'?><epcis:EPCISDocument/>", "invalid_epcis", "XML", 0},
		"BOM":            {"\xef\xbb\xbf{}", "malformed_json", "byte order mark", 0},
		"not an object":  {"\n[]", "invalid_epcis", "must be an object", 2},
		"cut":            {good[:len(good)-3], "malformed_json", "ends too early", 3},
		"trailing data":  {good + "\n{}", "malformed_json", "more after", 4},
		"duplicate name": {"{\n\"type\":\"a\",\n\"type\":\"b\"}", "malformed_json", "stands twice", 3},
		"bad UTF-8":      {"{\"type\":\n\"\xff\"}", "malformed_json", "UTF-8", 2},
		"comment":        {"{} // x", "malformed_json", "does not belong", 1},
		"single quotes":  {"{\n'type':1}", "malformed_json", "does not belong", 2},
		"too deep":       {strings.Repeat("[", 100), "malformed_json", "nested deeper", 0},
	} {
		d, err := Parse([]byte(c.doc))
		p := problem.As(err)
		if p == nil || p.Type != c.slug || !strings.Contains(p.Detail, c.detail) {
			t.Errorf("%s: %+v, %v", name, d, err)
			continue
		}
		if c.line > 0 && p.Extra["line"] != c.line {
			t.Errorf("%s: line %v, want %d: %v", name, p.Extra["line"], c.line, p)
		}
	}
	if _, err := Parse(make([]byte, MaxDocument+1)); problem.As(err) == nil || problem.As(err).Type != "too_large" {
		t.Errorf("a document that is too large: %v", err)
	}
}

func TestManyDefects(t *testing.T) {
	events := make([]string, 300)
	for i := range events {
		events[i] = `"eventTime":"x","type":"ObjectEvent"`
	}
	d, err := Parse([]byte(document(events...)))
	if err != nil || len(d.Problems) != maxProblems || d.Problems[maxProblems-1].Extra["further"] != 800 {
		t.Fatalf("%d problems, %v", len(d.Problems), err)
	}
	plan, err := Map(d, Options{Party: maker, Secret: [32]byte{1}}, Blank{maker})
	if err != nil || plan.Counts[ResultRefused] != 300 {
		t.Errorf("%+v %v", plan.Counts, err)
	}
}

func TestNoFetch(t *testing.T) {
	doc := strings.Replace(string(around([]byte(`{"type":"ObjectEvent","action":"OBSERVE","epcList":[],"eventTime":"2026-11-01T00:00:00Z","eventTimeZoneOffset":"+00:00"}`))),
		`{"example"`, `"https://example.com/voc.jsonld",{"example"`, 1)
	d, err := Parse([]byte(doc))
	if err != nil || !d.Valid() || len(d.Notes) != 1 || !strings.Contains(d.Notes[0], "not fetched") {
		t.Errorf("%+v %v", d, err)
	}
}

// shared is where partners' documents lie in a developer's checkout.
const shared = "../../../../shared/data/epcis"

func sharedFiles(t *testing.T, globs ...string) (files []string) {
	t.Helper()
	for _, g := range globs {
		found, _ := filepath.Glob(filepath.Join(shared, g))
		files = append(files, found...)
	}
	if len(files) == 0 {
		t.Skip("no shared documents beside this checkout")
	}
	return files
}

func parseFile(t *testing.T, file string) *Document {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	d, err := Parse(data)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return d
}

func TestSharedValid(t *testing.T) {
	for _, f := range sharedFiles(t, "documents/*.json", "event-hash/*.jsonld") {
		d := parseFile(t, f)
		for _, p := range d.Problems {
			t.Errorf("%s: %v", filepath.Base(f), p)
		}
		plan, err := Map(d, Options{Party: maker, Secret: [32]byte{1}}, Blank{maker})
		if err != nil || len(plan.Outcomes) != len(d.Events) || len(d.Events) == 0 {
			t.Fatalf("%s: %v", f, err)
		}
		expect(t, plan, lines(plan)...)
	}
}

func TestSharedInvalid(t *testing.T) {
	for _, f := range sharedFiles(t, "invalid/*.json") {
		if d := parseFile(t, f); d.Valid() || d.Problems[0].Field == "" {
			t.Errorf("%s: %v", f, d.Problems)
		}
	}
}

func TestSharedHashes(t *testing.T) {
	for _, f := range sharedFiles(t, "event-hash/*.jsonld") {
		want, err := os.ReadFile(strings.TrimSuffix(f, ".jsonld") + ".hashes")
		if err != nil {
			t.Fatal(err)
		}
		hashes := strings.Fields(string(want))
		d := parseFile(t, f)
		if len(hashes) != len(d.Events) {
			t.Errorf("%s: %d hashes, %d events", f, len(hashes), len(d.Events))
			continue
		}
		for i, e := range d.Events {
			if e.HashID != hashes[i] {
				t.Errorf("%s event %d: %s\n from %s\n want %s", filepath.Base(f), i, e.HashID, prehash(e.node, e.prefixes, nil), hashes[i])
			}
		}
	}
}

func TestSharedXML(t *testing.T) {
	for _, f := range sharedFiles(t, "event-hash/*.xml") {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(data); problem.As(err) == nil || !strings.Contains(err.Error(), "XML") {
			t.Errorf("%s: %v", f, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"valid.json", "invalid.json"} {
		var vs []eventVector
		readVectors(f, name, &vs)
		for _, v := range vs {
			f.Add(string(around(v.Event)))
		}
	}
	f.Add(factory())
	f.Fuzz(func(t *testing.T, s string) {
		d, err := Parse([]byte(s))
		if err != nil {
			if problem.As(err) == nil {
				t.Fatalf("%v is not a problem", err)
			}
			return
		}
		plan, err := Map(d, Options{Party: maker, Secret: [32]byte{1}}, Blank{maker, carrier, installer})
		if err != nil {
			t.Fatal(err)
		}
		if len(plan.Outcomes) != len(d.Events) {
			t.Fatalf("%d outcomes for %d events", len(plan.Outcomes), len(d.Events))
		}
		for _, o := range plan.Outcomes {
			if o.Result == "" || (o.Result == ResultRefused || o.Result == ResultEvidence) && o.Why == "" {
				t.Fatalf("event %d: %+v", o.Event.Index, o)
			}
			if !d.Valid() && o.Result != ResultRefused {
				t.Fatalf("event %d of an invalid document is %s", o.Event.Index, o.Result)
			}
		}
	})
}
