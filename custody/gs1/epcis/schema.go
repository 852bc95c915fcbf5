package epcis

import (
	"regexp"
	"strings"
)

// The shapes of a document and of its events (EPCIS 2.0.1, section 9.2 and the
// JSON Schema of the standard).

func fields(groups ...map[string]rule) map[string]rule {
	all := map[string]rule{}
	for _, g := range groups {
		for k, v := range g {
			all[k] = v
		}
	}
	return all
}

var quantityElement = &shape{what: "a quantity", required: []string{"epcClass"}, fields: map[string]rule{
	"epcClass": uriRule,
	"quantity": numberRule,
	"uom":      pattern(`^[A-Z0-9]{2,3}$`, "a unit of measure of two or three letters and digits (UN/ECE Rec. 20)"),
}}

var quantities = array(object(quantityElement), 0, false)

var (
	epcs    = array(uriRule, 0, false)
	epcsSet = array(uriRule, 0, true)
)

var persistentDisposition = &shape{what: "a persistent disposition", fields: map[string]rule{
	"set":   array(vocab(dispositions), 1, true),
	"unset": array(vocab(dispositions), 1, true),
}}

func persistentRule(c *checker, n *node, p path) {
	persistentDisposition.check(c, n, p)
	if n.kind == '{' && n.get("set") == nil && n.get("unset") == nil {
		c.fail(n, p, "a persistent disposition needs set or unset")
	}
}

var place = &shape{what: "a location", required: []string{"id"}, open: true, fields: map[string]rule{"id": uriRule}}

var errorDeclarationShape = &shape{what: "an error declaration", required: []string{"declarationTime"}, extensible: true, fields: map[string]rule{
	"declarationTime":    timeRule,
	"reason":             vocab(errorReasons),
	"correctiveEventIDs": array(uriRule, 0, false),
}}

var sensorMetadata = &shape{what: "sensor metadata", extensible: true, fields: map[string]rule{
	"time": timeRule, "startTime": timeRule, "endTime": timeRule, "deviceID": uriRule, "deviceMetadata": uriRule,
	"rawData": uriRule, "dataProcessingMethod": uriRule, "bizRules": uriRule,
}}

var sensorReport = &shape{what: "a sensor report", extensible: true, fields: map[string]rule{
	"type": measurement, "exception": alertRule, "deviceID": uriRule, "deviceMetadata": uriRule, "rawData": uriRule,
	"dataProcessingMethod": uriRule, "bizRules": uriRule, "time": timeRule, "microorganism": uriRule, "chemicalSubstance": uriRule,
	"coordinateReferenceSystem": uriRule, "value": numberRule, "component": vocab(components), "stringValue": stringRule,
	"booleanValue": booleanRule, "hexBinaryValue": pattern(`^[0-9A-Fa-f]+$`, "hexadecimal"), "uriValue": uriRule,
	"minValue": numberRule, "maxValue": numberRule, "meanValue": numberRule, "sDev": numberRule, "percRank": numberRule,
	"percValue": numberRule, "uom": stringRule,
}}

func sensorReportRule(c *checker, n *node, p path) {
	sensorReport.check(c, n, p)
	if n.kind == '{' && n.get("type") == nil && n.get("exception") == nil {
		c.fail(n, p.at("type"), "a sensor report lacks type")
	}
}

var sensorElement = &shape{what: "a sensor element", required: []string{"sensorReport"}, extensible: true, fields: map[string]rule{
	"sensorMetadata": object(sensorMetadata),
	"sensorReport":   array(sensorReportRule, 1, false),
}}

// ilmdRule: instance and lot master data belong to vocabularies with a namespace.
var ilmdRule = object(&shape{what: "ilmd", extensible: true})

var (
	calendarDate = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}$`)
	// certificationKeys are names that JSON-LD itself defines.
	certificationKeys = map[string]bool{"id": true, "type": true, "@id": true, "@type": true}
)

// certificationRule accepts URIs of certificates and certification details in
// GS1's Web Vocabulary, one or a list.
func certificationRule(c *checker, n *node, p path) {
	switch n.kind {
	case '"':
		uriRule(c, n, p)
	case '{':
		certificationDetails(c, n, p)
	case '[':
		for i, v := range n.arr {
			if v.kind == '{' {
				certificationDetails(c, v, p.index(i))
			} else {
				uriRule(c, v, p.index(i))
			}
		}
	default:
		c.fail(n, p, "certification information must be a URI or a list; this is %s", n.kindName())
	}
}

func certificationDetails(c *checker, n *node, p path) {
	if len(n.obj) == 0 {
		c.fail(n, p, "the certification details are empty")
	}
	for _, m := range n.obj {
		at := p.at(m.name)
		if !isExtension(m.name) && !certificationKeys[m.name] {
			c.fail(&node{off: m.off}, at, "%q in certification details needs a namespace, such as gs1:%s", m.name, m.name)
			continue
		}
		switch {
		case m.val.kind == '{':
			certificationDetails(c, m.val, at)
		case strings.HasSuffix(m.name, "Date"):
			dateRule(c, m.val, at)
		}
	}
}

func dateRule(c *checker, n *node, p path) {
	if n.kind == '"' {
		if calendarDate.MatchString(n.text) {
			if _, err := parseTime(n.text + "T00:00:00Z"); err == nil {
				return
			}
		} else if _, err := parseTime(n.text); err == nil {
			return
		}
	}
	c.fail(n, p, "must be a date; this is %s", n.display()).hint("write it as 2026-11-21")
}

var commonFields = map[string]rule{
	"@context":            contextRule,
	"type":                stringRule,
	"eventTime":           timeRule,
	"recordTime":          timeRule,
	"eventTimeZoneOffset": pattern(`^[+-]((0[0-9]|1[0-3]):[0-5][0-9]|14:00)$`, "a time zone offset such as +01:00"),
	"eventID":             uriRule,
	"certificationInfo":   certificationRule,
	"errorDeclaration":    object(errorDeclarationShape),
}

var stepFields = map[string]rule{
	"bizStep":               vocab(bizSteps),
	"disposition":           vocab(dispositions),
	"persistentDisposition": persistentRule,
	"readPoint":             object(place),
	"bizLocation":           object(place),
	"bizTransactionList": array(object(&shape{what: "a business transaction", required: []string{"bizTransaction"},
		fields: map[string]rule{"type": vocab(transactionTypes), "bizTransaction": uriRule}}), 0, false),
	"sourceList": array(object(&shape{what: "a source", required: []string{"type", "source"},
		fields: map[string]rule{"type": vocab(sourceDestTypes), "source": uriRule}}), 0, false),
	"destinationList": array(object(&shape{what: "a destination", required: []string{"type", "destination"},
		fields: map[string]rule{"type": vocab(sourceDestTypes), "destination": uriRule}}), 0, false),
	"sensorElementList": array(object(sensorElement), 0, false),
}

var actionField = map[string]rule{"action": oneOf("ADD", "OBSERVE", "DELETE")}

var timeRequired = []string{"eventTime", "eventTimeZoneOffset"}

func eventShape(what string, required []string, own ...map[string]rule) *shape {
	return &shape{what: what, extensible: true, required: append(append([]string{}, timeRequired...), required...),
		fields: fields(append([]map[string]rule{commonFields, stepFields}, own...)...)}
}

var childFields = map[string]rule{"parentID": uriRule, "childEPCs": epcs, "childQuantityList": quantities}

var eventShapes = map[string]*shape{
	"ObjectEvent": eventShape("an ObjectEvent", []string{"action"}, actionField,
		map[string]rule{"epcList": epcsSet, "quantityList": quantities, "ilmd": ilmdRule}),
	"AggregationEvent": eventShape("an AggregationEvent", []string{"action"}, actionField, childFields),
	"AssociationEvent": eventShape("an AssociationEvent", []string{"action", "parentID"}, actionField, childFields),
	"TransactionEvent": eventShape("a TransactionEvent", []string{"action", "bizTransactionList"}, actionField,
		map[string]rule{"parentID": uriRule, "epcList": epcs, "quantityList": quantities}),
	"TransformationEvent": eventShape("a TransformationEvent", nil, map[string]rule{"inputEPCList": epcsSet, "inputQuantityList": quantities,
		"outputEPCList": epcsSet, "outputQuantityList": quantities, "transformationID": uriRule, "ilmd": ilmdRule}),
}

// extendedEvent is an event of a partner's own type.
var extendedEvent = &shape{what: "an event", open: true, required: timeRequired, fields: commonFields}

// checkEvent checks one event against its type's shape and the conditions that
// join fields.
func checkEvent(c *checker, n *node, p path) {
	if n.kind != '{' {
		c.fail(n, p, "an event must be an object; this is %s", n.kindName())
		return
	}
	typ := n.get("type")
	if typ == nil {
		c.fail(n, p.at("type"), "an event lacks type")
		return
	}
	shape, known := eventShapes[typ.str()]
	if !known {
		if !isURI(typ.str()) {
			e := c.fail(typ, p.at("type"), "%s is not a type of event", typ.display())
			for name := range eventShapes {
				if within(strings.ToLower(name), strings.ToLower(typ.str()), 2) {
					e.hint("did you mean %s?", name)
				}
			}
			return
		}
		extendedEvent.check(c, n, p)
		return
	}
	shape.check(c, n, p)
	checkLists(c, n, p, typ.text)
}

// checkLists enforces which of an event's lists must be there and not be empty.
func checkLists(c *checker, n *node, p path, typ string) {
	filled := func(name string) bool { return len(n.get(name).list()) > 0 }
	action := n.get("action").str()
	switch typ {
	case "ObjectEvent":
		sensed := filled("sensorElementList") && n.get("readPoint") != nil
		if n.get("epcList") == nil && !filled("quantityList") && !sensed {
			c.fail(n, p.at("epcList"), "an ObjectEvent lacks epcList and quantityList").
				hint("name the objects; only an event with sensorElementList and readPoint may have none")
		}
		if ilmd := n.get("ilmd"); ilmd != nil && action != "ADD" {
			c.fail(ilmd, p.at("ilmd"), "ilmd is allowed with action ADD only")
		}
	case "AggregationEvent":
		if n.get("parentID") == nil && (action == "ADD" || action == "DELETE") {
			c.fail(n, p.at("parentID"), "an AggregationEvent with action %s lacks parentID", action)
		}
		checkChildren(c, n, p, typ, action, filled)
	case "AssociationEvent":
		checkChildren(c, n, p, typ, action, filled)
	case "TransactionEvent":
		if list := n.get("bizTransactionList"); list != nil && list.kind == '[' && len(list.arr) == 0 {
			c.fail(list, p.at("bizTransactionList"), "a TransactionEvent names at least one business transaction")
		}
		if n.get("epcList") == nil && !filled("quantityList") && action != "DELETE" {
			c.fail(n, p.at("epcList"), "a TransactionEvent lacks epcList and quantityList")
		}
	case "TransformationEvent":
		in := filled("inputEPCList") || filled("inputQuantityList")
		out := filled("outputEPCList") || filled("outputQuantityList")
		part := n.get("transformationID") != nil
		if !in && (!part || !out) {
			c.fail(n, p.at("inputEPCList"), "a TransformationEvent lacks inputEPCList and inputQuantityList")
		} else if !out && !part {
			c.fail(n, p.at("outputEPCList"), "a TransformationEvent lacks outputEPCList and outputQuantityList")
		}
	}
}

func checkChildren(c *checker, n *node, p path, typ, action string, filled func(string) bool) {
	if !filled("childEPCs") && !filled("childQuantityList") && action != "DELETE" {
		c.fail(n, p.at("childEPCs"), "an %s with action %s lacks childEPCs and childQuantityList", typ, action)
	}
}
