package epcis

import (
	"crypto/sha256"
	"strings"
	"time"

	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// Document is a capture or query document, or a single event.
type Document struct {
	Digest        entry.Hash // SHA-256 of its bytes
	Type          string     // EPCISDocument, EPCISQueryDocument or a type of event
	SchemaVersion string
	CreationDate  string
	Events        []*Event
	// Problems holds every defect of document and events. A document with any is
	// refused whole.
	Problems []*problem.Problem
	// Notes tell what was ignored on purpose.
	Notes []string
}

// Event is one EPCIS event. Vocabulary terms are bare words where they belong to
// CBV, URIs as written where they do not. Identifiers are as written.
type Event struct {
	Index    int    // position in the event list, from 0
	Line     int    // line where it begins, from 1
	Pointer  string // JSON pointer of the event
	Type     string
	Time     time.Time
	ID       string // eventID; may be empty
	HashID   string // EPCIS Event Hash ID of CBV 2.0
	Action   string // empty in a TransformationEvent
	BizStep  string
	Disp     string
	Set      []string // persistent dispositions
	Parent   Value
	EPCs     []Value // epcList, childEPCs or inputEPCList
	Classes  []Quantity
	Outputs  []Value // of a TransformationEvent
	OutClass []Quantity
	Read     Value // read point
	Location Value // business location
	Sources  []Endpoint
	Dests    []Endpoint
	Lot      string // cbvmda:lotNumber of ilmd
	Error    *ErrorDeclaration

	node     *node
	prefixes prefixes
	problems []*problem.Problem
}

// Value is a string with the place where it stands.
type Value struct {
	Text    string
	Pointer string
	Line    int
}

// Quantity is one element of a quantity list.
type Quantity struct {
	Class    Value
	Quantity string // decimal as written; empty if absent
	UOM      string
}

// Endpoint is one source or destination.
type Endpoint struct {
	Type string // owning_party, possessing_party, location, or a URI
	Value
}

// ErrorDeclaration says that an earlier, otherwise identical event is wrong.
type ErrorDeclaration struct {
	Time       string
	Reason     string
	Corrective []string
	Pointer    string
	Line       int
}

// Valid reports whether the document has no defect.
func (d *Document) Valid() bool { return len(d.Problems) == 0 }

var documentShape = &shape{what: "an EPCIS document", extensible: true,
	required: []string{"@context", "type", "schemaVersion", "creationDate", "epcisBody"},
	fields: map[string]rule{
		"@context": contextRule, "id": uriRule, "type": stringRule, "schemaVersion": versionRule, "creationDate": timeRule,
		"instanceIdentifier": stringRule, "sender": stringRule, "receiver": stringRule, "epcisHeader": headerRule,
		"epcisBody": object(&shape{what: "epcisBody", open: true, required: []string{"eventList"}, fields: map[string]rule{"eventList": listRule}}),
	}}

var queryShape = &shape{what: "an EPCIS query document", extensible: true,
	required: []string{"@context", "type", "epcisBody"},
	fields: map[string]rule{
		"@context": contextRule, "id": uriRule, "type": stringRule, "schemaVersion": versionRule, "creationDate": timeRule,
		"epcisBody": object(&shape{what: "epcisBody", extensible: true, required: []string{"queryResults"}, fields: map[string]rule{
			"queryResults": object(&shape{what: "queryResults", extensible: true, required: []string{"queryName", "resultsBody"}, fields: map[string]rule{
				"queryName": stringRule, "subscriptionID": stringRule,
				"resultsBody": object(&shape{what: "resultsBody", extensible: true, required: []string{"eventList"}, fields: map[string]rule{
					"eventList": listRule, "vocabularyList": anyRule,
				}}),
			}}),
		}}),
	}}

var headerRule = object(&shape{what: "epcisHeader", extensible: true, fields: map[string]rule{"epcisMasterData": anyRule}})

// listRule checks that the event list is one; the events are checked apart.
func listRule(c *checker, n *node, p path) {
	if n.kind != '[' {
		c.fail(n, p, "eventList must be a list; this is %s", n.kindName())
	}
}

var versionForm = pattern(`^\d+(\.\d+)*$`, "a version such as 2.0")

func versionRule(c *checker, n *node, p path) {
	before := len(c.problems)
	versionForm(c, n, p)
	if len(c.problems) == before && n.text != "2" && !strings.HasPrefix(n.text, "2.") {
		c.fail(n, p, "EPCIS %s is not read; 2.0 is", show(n.text)).hint("export EPCIS 2.0")
	}
}

// Parse reads a document. The error tells why nothing of it could be read; the
// defects of a document that could be are in its Problems.
func Parse(data []byte) (*Document, error) {
	root, src, err := readTree(data)
	if err != nil {
		return nil, err
	}
	c := &checker{src: src}
	if root.kind != '{' {
		return nil, c.fail(root, "", "an EPCIS document must be an object; this is %s", root.kindName()).problem
	}
	d := &Document{Digest: sha256.Sum256(data), Type: root.get("type").str(), SchemaVersion: root.get("schemaVersion").str(), CreationDate: root.get("creationDate").str()}
	var list []*node
	at := path("/epcisBody/eventList")
	switch d.Type {
	case "EPCISDocument":
		documentShape.check(c, root, "")
		list = root.get("epcisBody").get("eventList").list()
	case "EPCISQueryDocument":
		queryShape.check(c, root, "")
		at = "/epcisBody/queryResults/resultsBody/eventList"
		list = root.get("epcisBody").get("queryResults").get("resultsBody").get("eventList").list()
	case "":
		c.fail(root, "/type", "the document lacks type").hint(`"type": "EPCISDocument"`)
	default:
		if _, ok := eventShapes[d.Type]; !ok && !isURI(d.Type) {
			c.fail(root.get("type"), "/type", "%s is not a type of document or event", show(d.Type)).hint("EPCISDocument, EPCISQueryDocument or a type of event")
			break
		}
		if root.get("@context") == nil {
			c.fail(root, "/@context", "an event that stands alone lacks @context")
		}
		at, list = "", []*node{root}
	}
	if ctx := root.get("@context"); ctx != nil && (ctx.kind == '"' || ctx.kind == '[' || ctx.kind == '{') && !hasGS1Context(ctx) {
		c.fail(ctx, "/@context", "the GS1 EPCIS context is not named").
			hint(`"@context": ["https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld"]`)
	}
	for _, url := range otherContexts(root.get("@context")) {
		d.Notes = append(d.Notes, "context "+cut(url)+" was not fetched; its terms are ignored")
	}
	d.readEvents(c, root, list, at)
	d.Problems = c.problems
	if c.dropped > 0 {
		last := c.problems[len(c.problems)-1]
		_ = last.With("further", c.dropped)
	}
	return d, nil
}

func (d *Document) readEvents(c *checker, root *node, list []*node, at path) {
	base := gs1Prefixes.extend(root.get("@context"))
	ignore := ignoredFields(root, base)
	for i, n := range list {
		p := at
		if at != "" {
			p = at.index(i)
		}
		before := len(c.problems)
		checkEvent(c, n, p)
		e := &Event{Index: i, Line: c.src.line(n.off), Pointer: string(p), Type: n.get("type").str(), node: n}
		e.problems = c.problems[before:]
		for _, problem := range e.problems {
			_ = problem.With("event", i)
		}
		if len(e.problems) == 0 && n.kind == '{' {
			e.prefixes = base.extend(n.get("@context"))
			e.read(c.src, n, p)
			e.HashID = hashID(n, e.prefixes, ignore)
		}
		d.Events = append(d.Events, e)
	}
}

// read fills e from a node that has been checked.
func (e *Event) read(src *source, n *node, p path) {
	value := func(v *node, at path) Value {
		if v == nil {
			return Value{Pointer: string(at), Line: e.Line}
		}
		return Value{Text: strings.TrimSpace(v.str()), Pointer: string(at), Line: src.line(v.off)}
	}
	values := func(name string) (out []Value) {
		for i, v := range n.get(name).list() {
			out = append(out, value(v, p.at(name).index(i)))
		}
		return out
	}
	quantities := func(name string) (out []Quantity) {
		for i, v := range n.get(name).list() {
			q := Quantity{Class: value(v.get("epcClass"), p.at(name).index(i).at("epcClass")), UOM: v.get("uom").str()}
			if num := v.get("quantity"); num != nil {
				q.Quantity = num.text
			}
			out = append(out, q)
		}
		return out
	}
	endpoints := func(name, field string) (out []Endpoint) {
		for i, v := range n.get(name).list() {
			typ, _ := sourceDestTypes.read(v.get("type").str())
			out = append(out, Endpoint{Type: typ, Value: value(v.get(field), p.at(name).index(i).at(field))})
		}
		return out
	}
	e.Time, _ = parseTime(n.get("eventTime").str()) // checked
	e.ID = n.get("eventID").str()
	e.Action = n.get("action").str()
	e.BizStep, _ = bizSteps.read(n.get("bizStep").str())
	e.Disp, _ = dispositions.read(n.get("disposition").str())
	for _, v := range n.get("persistentDisposition").get("set").list() {
		t, _ := dispositions.read(v.str())
		e.Set = append(e.Set, t)
	}
	e.Parent = value(n.get("parentID"), p.at("parentID"))
	for _, name := range []string{"epcList", "childEPCs", "inputEPCList"} {
		e.EPCs = append(e.EPCs, values(name)...)
	}
	for _, name := range []string{"quantityList", "childQuantityList", "inputQuantityList"} {
		e.Classes = append(e.Classes, quantities(name)...)
	}
	e.Outputs, e.OutClass = values("outputEPCList"), quantities("outputQuantityList")
	e.Read = value(n.get("readPoint").get("id"), p.at("readPoint").at("id"))
	e.Location = value(n.get("bizLocation").get("id"), p.at("bizLocation").at("id"))
	e.Sources, e.Dests = endpoints("sourceList", "source"), endpoints("destinationList", "destination")
	e.Lot = e.lotNumber(n)
	if d := n.get("errorDeclaration"); d != nil {
		reason, _ := errorReasons.read(d.get("reason").str())
		e.Error = &ErrorDeclaration{Time: d.get("declarationTime").str(), Reason: reason,
			Pointer: string(p.at("errorDeclaration")), Line: src.line(d.off)}
		for _, v := range d.get("correctiveEventIDs").list() {
			e.Error.Corrective = append(e.Error.Corrective, v.str())
		}
	}
}

// lotNumber returns the CBV master data attribute lotNumber of ilmd.
func (e *Event) lotNumber(n *node) string {
	ilmd := n.get("ilmd")
	if ilmd == nil {
		return ""
	}
	for _, m := range ilmd.obj {
		if e.prefixes.name(m.name) == "{urn:epcglobal:cbv:mda:}lotNumber" {
			return strings.TrimSpace(m.val.str())
		}
	}
	return ""
}
