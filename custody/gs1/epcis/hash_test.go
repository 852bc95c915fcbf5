package epcis

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestPrehash: pre-hash strings worked out by hand from the rules of CBV 2.0,
// section 8.9.
func TestPrehash(t *testing.T) {
	var vs []struct {
		Name, Prehash string
		Event         json.RawMessage
	}
	readVectors(t, "prehash.json", &vs)
	for _, v := range vs {
		d, err := Parse(around(v.Event))
		if err != nil || !d.Valid() {
			t.Errorf("%s: %v %v", v.Name, err, d)
			continue
		}
		e := d.Events[0]
		if got := prehash(e.node, e.prefixes, nil); got != v.Prehash {
			t.Errorf("%s\n got %s\nwant %s", v.Name, got, v.Prehash)
		}
	}
}

// TestSameHash: one event in many spellings has one hash.
func TestSameHash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pick := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
		members := []string{
			`"type":"ObjectEvent"`, `"action":"OBSERVE"`,
			`"eventTime":` + pick("time", `"2026-11-01T08:00:00Z"`, `"2026-11-01T09:00:00.000+01:00"`, `"2026-10-31T23:30:00.0004-08:30"`),
			`"eventTimeZoneOffset":"+01:00"`,
			`"epcList":` + pick("epcs", `["urn:epc:id:sgtin:4012345.011111.a","urn:epc:id:sscc:4012345.0000000001"]`,
				`["https://id.gs1.org/00/040123450000000016","https://brand.example/x/01/04012345111118/10/L/21/a?k=1"]`),
			`"bizStep":` + pick("step", `"shipping"`, `"cbv:BizStep-shipping"`, `"urn:epcglobal:cbv:bizstep:shipping"`, `"https://ref.gs1.org/cbv/BizStep-shipping"`),
			`"quantityList":` + pick("quantity", `[{"epcClass":"urn:epc:class:lgtin:4012345.011111.L","quantity":20}]`, `[{"quantity":2.00e1,"epcClass":"https://id.gs1.org/01/04012345111118/10/L"}]`),
			`"example:b":` + pick("extension", `["x",{"example:c":1.50}]`, `[{"example:c":1.5}," x "]`),
			`"sourceList":[{"type":` + pick("source", `"possessing_party"`, `"cbv:SDT-possessing_party"`) + `,"source":"urn:epc:id:pgln:4012345.00000"}]`,
		}
		for _, unhashed := range []string{`"eventID":"urn:uuid:0193a5f0-7c00-7000-8000-000000000001"`, `"recordTime":"2026-11-02T00:00:00Z"`,
			`"errorDeclaration":{"declarationTime":"2026-11-02T00:00:00Z","reason":"did_not_occur"}`} {
			if rapid.Bool().Draw(t, "with") {
				members = append(members, unhashed)
			}
		}
		event := "{" + strings.Join(rapid.Permutation(members).Draw(t, "order"), ",") + "}"
		d, err := Parse(around([]byte(event)))
		if err != nil || !d.Valid() {
			t.Fatalf("%s: %v %v", event, err, d)
		}
		const want = "eventType=ObjectEventeventTime=2026-11-01T08:00:00.000ZeventTimeZoneOffset=+01:00" +
			"epcListepc=https://id.gs1.org/00/040123450000000016epc=https://id.gs1.org/01/04012345111118/21/a" +
			"quantityListquantityElementepcClass=https://id.gs1.org/01/04012345111118/10/Lquantity=20action=OBSERVE" +
			"bizStep=https://ref.gs1.org/cbv/BizStep-shipping" +
			"sourceListtype=https://ref.gs1.org/cbv/SDT-possessing_partysource=https://id.gs1.org/417/4012345000009" +
			"{https://example.com/voc/}b=x{https://example.com/voc/}b{https://example.com/voc/}c=1.5"
		e := d.Events[0]
		if got := prehash(e.node, e.prefixes, nil); got != want {
			t.Fatalf("%s\n got %s\nwant %s", event, got, want)
		}
	})
}

// TestOtherHash: any change of a field changes the hash.
func TestOtherHash(t *testing.T) {
	base := objectEvent("OBSERVE", "shipping", `,"disposition":"in_transit"`+handover("possessing_party", makerURN, carrier), board1)
	seen := map[string]string{}
	for _, e := range []string{base, strings.Replace(base, "shipping", "departing", 1), strings.Replace(base, "in_transit", "in_progress", 1),
		strings.Replace(base, "OBSERVE", "DELETE", 1), strings.Replace(base, board1, board2, 1), strings.Replace(base, makerURN, installer, 1),
		base + `,"example:a":1`, base + `,"example:a":2`, base + `,"example:a":"1","example:b":null`,
		`"eventTime":"2026-11-01T08:00:00.001Z",` + base} {
		d, err := Parse([]byte(document(e)))
		if err != nil || !d.Valid() {
			t.Fatalf("%s: %v", e, d.Problems)
		}
		h := d.Events[0].HashID
		if other, twice := seen[h]; twice {
			t.Errorf("%s and %s have one hash", e, other)
		}
		seen[h] = e
	}
}

func TestDecimal(t *testing.T) {
	for in, want := range map[string]string{"1": "1", "1.0": "1", "0.3434000": "0.3434", "100": "100", "-0": "0", "-0.0": "0", "-1.50": "-1.5",
		"1e3": "1000", "1.5E-3": "0.0015", "12e-1": "1.2", "0e9": "0", "1e9999": "1e9999", "100.00": "100"} {
		if got := decimal(in); got != want {
			t.Errorf("%s is written %s, want %s", in, got, want)
		}
	}
}

func TestGeo(t *testing.T) {
	for in, want := range map[string]string{
		"geo:47.506694,11.104301":                  "geo:47.506694,11.104301",
		"GEO:47.50,11.00":                          "geo:47.5,11",
		"geo:50.947573340894124,6.922120147375441": "geo:50.9475733,6.9221201",
		"geo:-0.00,+007.5,120;crs=WGS84;u=35":      "geo:0,7.5;u=35",
		"geo:-33.8688,151.2093;u=0":                "geo:-33.8688,151.2093",
		"geo:1,2;u=12.5":                           "geo:1,2",
		"geo:91,0":                                 "",
		"geo:1,2;crs=moon":                         "",
		"geo:x,y":                                  "",
		"geo:1":                                    "",
	} {
		got, ok := geo(in)
		if got != want || ok != (want != "") {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}

func ExampleParse() {
	d, err := Parse([]byte(`{"@context":"https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld","type":"ObjectEvent","action":"OBSERVE",
"bizStep":"Shipping","epcList":["urn:epc:id:sgtin:4012345.011111.9876"],"eventTime":"2026-11-01T08:00:00Z","eventTimeZoneOffset":"+01:00"}`))
	if err != nil {
		panic(err)
	}
	for _, p := range d.Problems {
		fmt.Println(p)
	}
	// Output: invalid_epcis at /bizStep: line 2: "Shipping" is not a business step of CBV 2.0 (did you mean shipping? A term of your own is written as a URI)
}
