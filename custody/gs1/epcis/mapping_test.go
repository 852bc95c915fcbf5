package epcis

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/custody"
)

const contextURL = "https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld"

// document wraps events, given as the members of an object; those without a time
// that all events share.
func document(events ...string) string {
	for i, e := range events {
		if !strings.Contains(e, `"eventTime"`) {
			events[i] = fmt.Sprintf(`"eventTime":"2026-11-01T%02d:%02d:00.000Z",%s`, 8+i/60, i%60, e)
		}
		events[i] = "{" + events[i] + `,"eventTimeZoneOffset":"+00:00"}`
	}
	return `{"@context":["` + contextURL + `"],"type":"EPCISDocument","schemaVersion":"2.0","creationDate":"2026-11-01T00:00:00Z",
"epcisBody":{"eventList":[` + strings.Join(events, ",\n") + `]}}`
}

func quoteAll(ids []string) string { return `["` + strings.Join(ids, `","`) + `"]` }

func objectEvent(action, step string, more string, ids ...string) string {
	return fmt.Sprintf(`"type":"ObjectEvent","action":%q,"bizStep":%q,"epcList":%s%s`, action, step, quoteAll(ids), more)
}

func family(typ, action, step, parent string, more string, ids ...string) string {
	s := fmt.Sprintf(`"type":%q,"action":%q,"parentID":%q%s`, typ, action, parent, more)
	if step != "" {
		s += fmt.Sprintf(`,"bizStep":%q`, step)
	}
	if len(ids) > 0 {
		s += `,"childEPCs":` + quoteAll(ids)
	}
	return s
}

func handover(kind, from, to string) string {
	return fmt.Sprintf(`,"sourceList":[{"type":%q,"source":%q}],"destinationList":[{"type":%q,"destination":%q}]`, kind, from, kind, to)
}

const (
	makerURN  = "urn:epc:id:pgln:4012345.00000"
	chip1     = "urn:epc:id:sgtin:4012345.022222.c1"
	chip2     = "urn:epc:id:sgtin:4012345.022222.c2"
	board1    = "urn:epc:id:sgtin:4012345.011111.b1"
	board2    = "urn:epc:id:sgtin:4012345.011111.b2"
	board3    = "urn:epc:id:sgtin:4012345.011111.b3"
	board1URI = "https://id.gs1.org/01/04012345111118/21/b1"
	carton    = "urn:epc:id:sscc:4012345.0000000001"
	pallet    = "urn:epc:id:sscc:4012345.0000000002"
	freight   = "urn:epc:id:bic:CSQU3054383"
	lot1      = `,"ilmd":{"cbvmda:lotNumber":"L1"}`
	dock      = `,"readPoint":{"id":"urn:epc:id:sgln:4012345.00025.0"},"bizLocation":{"id":"geo:50.947573340894124,6.922120147375441"}`
)

// factory is a day at the maker's: chips into boards, boards into cartons, these
// onto a pallet and into a container, which is handed to the carrier.
func factory() string {
	return document(
		objectEvent("ADD", "commissioning", lot1+dock, chip1, chip2),
		objectEvent("ADD", "commissioning", lot1, board1, board2, board3),
		family("AssociationEvent", "ADD", "assembling", board1, "", chip1),
		objectEvent("OBSERVE", "inspecting", `,"disposition":"conformant"`, board1, board2),
		family("AggregationEvent", "ADD", "packing", carton, dock, board1, board2),
		family("AggregationEvent", "ADD", "packing", pallet, "", carton),
		family("AggregationEvent", "ADD", "loading", freight, "", pallet),
		objectEvent("OBSERVE", "shipping", handover("possessing_party", makerURN, carrier), freight),
	)
}

func TestFactoryToInstaller(t *testing.T) {
	l := newLedger(t)
	plan := l.plan(maker, factory())
	expect(t, plan, "statement commission(2)", "statement commission(3)", "statement assemble", "statement qa-result qa-result",
		"statement pack(2)", "statement pack(1)", "statement pack(1)", "statement release")
	for i, want := range []int64{1, 2, 3} {
		if b := plan.Outcomes[4+i].Statements[0].Body.(*custody.Pack); b.Level != want {
			t.Errorf("load %d is opened at level %d, want %d", i, b.Level, want)
		}
	}
	w := plan.Outcomes[0].Statements[0].Event.Where
	if w == nil || w.Site != "https://id.gs1.org/414/4012345000252" || w.Geo != "geo:50.9475733,6.9221201" {
		t.Errorf("where is %+v", w)
	}
	l.take(plan)

	again := l.plan(maker, factory())
	expect(t, again, "statement again:commission", "statement again:commission", "statement again:assemble",
		"statement again:qa-result again:qa-result", "statement again:pack", "statement again:pack", "statement again:pack", "statement again:release")
	if len(again.Statements) != 0 {
		t.Error("an import that is repeated makes statements")
	}

	road := document(
		objectEvent("OBSERVE", "receiving", `,"disposition":"damaged"`, freight),
		objectEvent("OBSERVE", "transporting", `,"readPoint":{"id":"geo:47.506694,11.104301;u=50"}`, freight),
		objectEvent("OBSERVE", "departing", handover("possessing_party", carrier, installer), freight),
	)
	plan = l.plan(carrier, road)
	expect(t, plan, "statement accept", "sighting sighting", "statement release")
	if b := plan.Outcomes[0].Statements[0].Body.(*custody.Accept); b.Condition != "damaged" {
		t.Errorf("accepted as %q", b.Condition)
	}
	l.take(plan)

	site := document(
		objectEvent("OBSERVE", "arriving", "", freight),
		family("AggregationEvent", "DELETE", "unloading", freight, "", pallet),
		family("AggregationEvent", "DELETE", "unpacking", pallet, ""),
		family("AggregationEvent", "DELETE", "unpacking", carton, "", board2),
		objectEvent("OBSERVE", "holding", `,"disposition":"non_sellable_other"`, board2),
		objectEvent("DELETE", "destroying", "", board2),
	)
	plan = l.plan(installer, site)
	expect(t, plan, "statement accept", "statement unpack(1)", "statement unpack(1)", "statement unpack(1)", "statement hold", "statement retire")
	l.take(plan)

	// What was never unpacked moves with its carton.
	plan = l.plan(installer, document(objectEvent("OBSERVE", "shipping", handover("possessing_party", installer, carrier), board1)))
	expect(t, plan, "refused !unpack_first")
}

func TestInstallSealsThePlace(t *testing.T) {
	l := newLedger(t)
	l.take(l.plan(maker, document(objectEvent("ADD", "commissioning", lot1, board1),
		objectEvent("OBSERVE", "shipping", handover("possessing_party", makerURN, installer), board1))))
	home := `,"readPoint":{"id":"geo:52.5186,13.4081"},"bizLocation":{"id":"urn:epc:id:sgln:0614141.00777.0"}`
	plan := l.plan(installer, document(objectEvent("OBSERVE", "receiving", "", board1), objectEvent("OBSERVE", "installing", home, board1)))
	expect(t, plan, "statement accept", "statement install")
	s := plan.Statements[1]
	if s.Event.Where != nil || bytes.Contains(s.Payload, []byte("52.51")) || bytes.Contains(s.Payload, []byte("0614141007776")) {
		t.Errorf("the place of an installation is in the open: %s", s.Payload)
	}
	st, err := custody.Parse(s.Payload)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Openings) != 1 || st.CheckOpening(s.Openings[0]) != nil || !bytes.Contains(s.Openings[0].Value, []byte("geo:52.5186,13.4081")) {
		t.Errorf("the opening is %+v", s.Openings)
	}
}

func TestCorrections(t *testing.T) {
	l := newLedger(t)
	ship := objectEvent("OBSERVE", "shipping", handover("possessing_party", makerURN, carrier), board1)
	wrong := objectEvent("ADD", "commissioning", lot1, board2)
	l.take(l.plan(maker, document(objectEvent("ADD", "commissioning", lot1, board1), wrong, ship)))

	plan := l.plan(maker, document(objectEvent("OBSERVE", "void_shipping", "", board1)))
	expect(t, plan, "statement void")
	if v := plan.Statements[0].Body.(*custody.Void); v.Reason != "did_not_occur" {
		t.Errorf("voided for %s", v.Reason)
	}
	l.take(plan)
	expect(t, l.plan(maker, document(objectEvent("OBSERVE", "void_shipping", "", board1, board2))), "refused !unknown_statement !unknown_statement")

	// An error declaration repeats the event; only its time of declaration and
	// its eventID differ. It stands at the place that the event had.
	redo := strings.Replace(document(objectEvent("ADD", "commissioning", lot1, board3), wrong), `"bizStep":"commissioning","epcList":["`+board2,
		`"eventID":"urn:uuid:7a2f3c1e-0000-4000-8000-000000000001","errorDeclaration":{"declarationTime":"2026-11-02T00:00:00Z","reason":"incorrect_data"},"bizStep":"commissioning","epcList":["`+board2, 1)
	plan = l.plan(maker, redo)
	expect(t, plan, "statement commission", "statement void")
	l.take(plan)
	if u := custody.LoadUnit(l.st, custody.UnitRef{URI: "https://id.gs1.org/01/04012345111118/21/b2"}); u != nil && u.Phase != custody.PhaseNone {
		t.Errorf("the unit is %s still", u.Phase)
	}
	expect(t, l.plan(maker, redo), "statement again:commission", "statement again:commission")
	expect(t, l.plan(carrier, strings.ReplaceAll(redo, "L1", "L2")), "statement commission", "refused !unknown_statement")
}

// TestCorrectionWithinDocument: what follows a correction on the same unit has to
// wait until the ledger knows the correction.
func TestCorrectionWithinDocument(t *testing.T) {
	l := newLedger(t)
	plan := l.plan(maker, document(objectEvent("ADD", "commissioning", lot1, board1),
		objectEvent("OBSERVE", "shipping", handover("possessing_party", makerURN, carrier), board1),
		objectEvent("OBSERVE", "void_shipping", "", board1),
		objectEvent("OBSERVE", "shipping", handover("possessing_party", makerURN, installer), board1)))
	expect(t, plan, "statement commission", "statement release", "statement void", "refused !predecessor_unknown")
	l.take(plan)
	plan = l.plan(maker, document(objectEvent("OBSERVE", "shipping", handover("possessing_party", makerURN, installer), board1)))
	expect(t, plan, "statement release")
	l.take(plan)
}

func TestOwnershipAndParts(t *testing.T) {
	l := newLedger(t)
	l.take(l.plan(maker, document(
		objectEvent("ADD", "commissioning", lot1, chip1, chip2), objectEvent("ADD", "commissioning", lot1, board1),
		family("AssociationEvent", "ADD", "", board1, `,"childQuantityList":[{"epcClass":"urn:epc:class:lgtin:4012345.022222.R7","quantity":4},{"epcClass":"urn:epc:class:lgtin:4012345.022222.R8","quantity":2.5,"uom":"KGM"}]`, chip1, chip2),
	)))
	apart := func() string {
		return document(
			objectEvent("OBSERVE", "removing", "", chip2),
			family("AssociationEvent", "DELETE", "disassembling", board1, ""),
			objectEvent("OBSERVE", "retail_selling", handover("owning_party", makerURN, installer), board1),
			objectEvent("OBSERVE", "retail_selling", "", board1),
			objectEvent("OBSERVE", "retail_selling", handover("owning_party", makerURN, stranger), board1),
		)
	}
	plan := l.plan(maker, apart())
	expect(t, plan, "statement assemble", "statement assemble", "statement ownership", "evidence only", "refused !unknown_party")
	if s := plan.Outcomes[2].Statements[0]; len(s.Signers) != 2 || s.Signers[0] != maker || s.Signers[1] != installer {
		t.Errorf("title passes by %v", s.Signers)
	}
	l.take(plan)
	for _, uri := range []string{"c1", "c2"} {
		if u := custody.LoadUnit(l.st, custody.UnitRef{URI: "https://id.gs1.org/01/04012345222227/21/" + uri}); u == nil || u.Place != custody.Free {
			t.Errorf("%s is not free again", uri)
		}
	}
	expect(t, l.plan(maker, apart()), "statement again:assemble", "statement again:assemble", "statement again:ownership", "evidence only", "refused !unknown_party")
}

func TestTransformation(t *testing.T) {
	l := newLedger(t)
	l.take(l.plan(maker, document(objectEvent("ADD", "commissioning", lot1, chip1, chip2))))
	one := `"type":"TransformationEvent","bizStep":"commissioning","inputEPCList":` + quoteAll([]string{chip1, chip2}) + `,
		"inputQuantityList":[{"epcClass":"urn:epc:class:lgtin:4012345.022222.R7","quantity":4}],"outputEPCList":` + quoteAll([]string{board1}) + lot1
	plan := l.plan(maker, document(one))
	expect(t, plan, "statement commission assemble")
	if b := plan.Statements[1].Body.(*custody.Assemble); len(b.Components) != 3 || b.Components[2].Quantity != 4 {
		t.Errorf("components are %+v", b.Components)
	}
	l.take(plan)
	expect(t, l.plan(maker, document(one)), "statement again:commission")

	many := `"type":"TransformationEvent","inputEPCList":` + quoteAll([]string{chip1}) + `,
		"inputQuantityList":[{"epcClass":"urn:epc:class:lgtin:4012345.022222.R7","quantity":4}],"outputEPCList":` + quoteAll([]string{board2, board3}) + lot1
	plan = l.plan(maker, document(many))
	expect(t, plan, "statement commission(2) assemble assemble")
	l.take(plan)
}

func TestEvidenceAndRefusals(t *testing.T) {
	l := newLedger(t)
	l.take(l.plan(maker, document(objectEvent("ADD", "commissioning", lot1, board1, board2))))
	classOnly := `"type":"ObjectEvent","action":"ADD","bizStep":"commissioning","quantityList":[{"epcClass":"urn:epc:class:lgtin:4012345.022222.R7","quantity":4}]`
	cases := []struct{ event, want string }{
		{classOnly, "evidence only"},
		{objectEvent("OBSERVE", "encoding", "", board1), "evidence only"},
		{`"type":"TransactionEvent","action":"ADD","bizStep":"shipping","bizTransactionList":[{"bizTransaction":"urn:uuid:0193a5f0-7c00-7000-8000-000000000001"}],"epcList":["` + board1 + `"]`, "evidence only"},
		{`"type":"example:WarrantyEvent","example:unit":"` + board1 + `"`, "evidence only"},
		{`"type":"ObjectEvent","action":"OBSERVE","bizStep":"sensor_reporting","readPoint":{"id":"geo:1,2"},"sensorElementList":[{"sensorReport":[{"type":"Temperature","value":1.5,"uom":"CEL"}]}]`, "evidence only"},
		{objectEvent("OBSERVE", "inspecting", "", "urn:epc:id:gsrn:4012345.9876540000"), "evidence only"},
		{family("AggregationEvent", "ADD", "packing", "urn:epc:id:grai:4012345.55555.987", "", board1), "evidence only"},
		{objectEvent("OBSERVE", "cycle_counting", "", board1), "sighting sighting"},
		{objectEvent("OBSERVE", "https://example.com/bizStep/blessing", "", board1, board2), "sighting sighting sighting"},
		{objectEvent("OBSERVE", "holding", `,"disposition":"in_progress"`, board1), "sighting sighting"},
		{objectEvent("OBSERVE", "holding", `,"persistentDisposition":{"set":["recalled"]}`, board1), "statement hold"},
		{objectEvent("OBSERVE", "receiving", "", board1), "sighting sighting"},
		{objectEvent("OBSERVE", "shipping", "", board1), "sighting sighting"},
		{objectEvent("OBSERVE", "shipping", handover("possessing_party", makerURN, maker), board1), "sighting sighting"},
		{objectEvent("OBSERVE", "shipping", handover("possessing_party", carrier, installer), board1), "refused !signer_mismatch"},
		{objectEvent("OBSERVE", "shipping", handover("possessing_party", makerURN, stranger), board1), "refused !unknown_party"},
		{objectEvent("OBSERVE", "shipping", handover("possessing_party", makerURN, "https://id.gs1.org/417/4000001000006"), board1), "refused !invalid_identifier"},
		{objectEvent("OBSERVE", "shipping", handover("possessing_party", makerURN, "https://id.gs1.org/414/4000001000005/254/9"), board1), "statement release"},
		{objectEvent("OBSERVE", "receiving", handover("possessing_party", makerURN, carrier), board1), "refused !signer_mismatch"},
		{objectEvent("OBSERVE", "inspecting", "", "https://id.gs1.org/01/04012345111119/21/x"), "refused !invalid_identifier"},
		{objectEvent("OBSERVE", "inspecting", "", "https://id.gs1.org/01/04012345111119/21/x", board1), "statement qa-result !invalid_identifier"},
		{objectEvent("OBSERVE", "transporting", "", carton), "refused !unknown_statement"},
		{family("AggregationEvent", "ADD", "packing", carton, "", board3), "refused !predecessor_unknown"},
		{family("AggregationEvent", "ADD", "", carton, "", board1, board3), "statement pack(1) !predecessor_unknown"},
		{family("AssociationEvent", "ADD", "assembling", board1, "", board3), "refused !predecessor_unknown"},
		{objectEvent("DELETE", "decommissioning", `,"disposition":"inactive"`, board1), "statement retire"},
	}
	for _, c := range cases {
		doc := document(c.event)
		doc = strings.Replace(doc, `"]`, `",{"example":"https://example.com/voc/"}]`, 1)
		plan := l.plan(maker, doc)
		expect(t, plan, c.want)
	}
}

func TestUnknownUnits(t *testing.T) {
	l := newLedger(t)
	doc := document(objectEvent("OBSERVE", "shipping", handover("possessing_party", makerURN, carrier), board1))
	plan := l.plan(maker, doc)
	expect(t, plan, "statement release")
	if s := plan.Statements[0]; !s.Unknown || s.Event.Chain.Seq != 0 || s.Event.Chain.Prev != nil {
		t.Errorf("%+v", s)
	}
	d, _ := Parse([]byte(doc))
	plan, err := Map(d, Options{Ledger: l.id, Party: maker, Secret: [32]byte{1}, KnownOnly: true}, l)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, plan, "refused !predecessor_unknown")
	plan, err = Map(d, Options{Ledger: l.id, Party: stranger, Secret: [32]byte{1}}, l)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, plan, "refused !unknown_party")
	if _, err = Map(d, Options{Ledger: l.id, Party: maker}, l); err == nil {
		t.Error("a plan without a secret")
	}
}

// TestOrder: statements follow event time, outcomes the document.
func TestOrder(t *testing.T) {
	l := newLedger(t)
	late := `"eventTime":"2026-11-03T00:00:00+02:00",` + objectEvent("OBSERVE", "shipping", handover("possessing_party", makerURN, carrier), board1)
	early := `"eventTime":"2026-11-02T23:00:00.5+01:00",` + objectEvent("ADD", "commissioning", lot1, board1)
	plan := l.plan(maker, document(late, early))
	expect(t, plan, "statement release", "statement commission")
	if plan.Statements[0].Kind != custody.KindRelease {
		t.Error("00:00 at +02:00 is half a second before 23:00:00.5 at +01:00")
	}
}

// TestSamePlan: the same document, state and secret give the same bytes, so that
// an import that was cut off can be repeated.
func TestSamePlan(t *testing.T) {
	l := newLedger(t)
	a, b := l.plan(maker, factory()), l.plan(maker, factory())
	if len(a.Statements) == 0 || len(a.Statements) != len(b.Statements) {
		t.Fatal("plans differ in length")
	}
	ids := map[string]bool{}
	for i, s := range a.Statements {
		if !bytes.Equal(s.Payload, b.Statements[i].Payload) {
			t.Errorf("statement %d differs", i)
		}
		st, err := custody.Parse(s.Payload)
		if err != nil || st.ID != s.ID || st.Event.EPCIS.HashID == "" || len(st.Event.Evidence) != 1 {
			t.Errorf("statement %d: %v", i, err)
		}
		if ids[st.Event.EventID] {
			t.Errorf("event id %s is used twice", st.Event.EventID)
		}
		ids[st.Event.EventID] = true
	}
}

// TestLargeDocument: ten thousand members are one commission and one pack.
func TestLargeDocument(t *testing.T) {
	ids := make([]string, 10_000)
	for i := range ids {
		ids[i] = fmt.Sprintf("urn:epc:id:sgtin:4012345.011111.n%05d", i)
	}
	d, err := Parse([]byte(document(objectEvent("ADD", "commissioning", lot1, ids...), family("AggregationEvent", "ADD", "packing", carton, "", ids...))))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := Map(d, Options{Party: maker, Secret: [32]byte{1}}, Blank{maker})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, plan, "statement commission(10000)", "statement pack(10000)")
	if n := len(plan.Statements[1].Payload); n > 2000 {
		t.Errorf("a pack of 10,000 has %d bytes", n)
	}
}
