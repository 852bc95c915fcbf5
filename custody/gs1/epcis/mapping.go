package epcis

import (
	"strings"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/gs1"
)

// How events become statements:
//
//	errorDeclaration                           void of what the event had become
//	commissioning, ObjectEvent ADD             commission: one per unit, or by manifest for a lot
//	packing, loading, ADD                      pack
//	unpacking, unloading, DELETE               unpack
//	shipping, departing, with possessing_party
//	  as source and destination                release
//	receiving, accepting, arriving             accept of the open release
//	assembling, AssociationEvent ADD, or a
//	  TransformationEvent                      assemble add (and commission of outputs)
//	installing                                 install
//	disassembling, removing                    assemble remove
//	inspecting                                 qa-result
//	holding, non_sellable or recalled          hold
//	decommissioning, destroying                retire
//	void_shipping                              void of the open release
//	retail_selling                             ownership (both parties sign)
//	encoding; any TransactionEvent             evidence only
//	anything else                              sighting
//
// An AggregationEvent without a business step is what EPCIS says that its action
// means: ADD packs, DELETE unpacks. Identifiers of classes (GTIN, lot, pattern)
// and of things that Fabtrail does not follow are evidence only.
func (p *planner) event(e *Event) {
	if _, known := eventShapes[e.Type]; !known {
		p.evidence("events of type %s are not part of EPCIS", cut(e.Type))
		return
	}
	if e.Error != nil {
		p.voidEvent(e)
		return
	}
	switch {
	case e.Type == "TransactionEvent":
		p.evidence("a TransactionEvent links documents; it does not move anything")
	case e.BizStep == "encoding":
		p.evidence("encoding a tag does not change who holds the item")
	case e.Type == "TransformationEvent":
		p.transform(e)
	default:
		p.step(e)
	}
}

func (p *planner) step(e *Event) {
	object := e.Type == "ObjectEvent"
	switch e.BizStep {
	case "commissioning":
		if object && e.Action == "ADD" {
			p.commission(e, e.EPCs, e.Classes)
			return
		}
	case "packing", "loading":
		if !object && e.Action == "ADD" {
			p.pack(e)
			return
		}
	case "unpacking", "unloading":
		if !object && e.Action == "DELETE" {
			p.unpack(e)
			return
		}
	case "shipping", "departing":
		p.release(e)
		return
	case "receiving", "accepting", "arriving":
		p.accept(e)
		return
	case "assembling":
		if !object && e.Action == "ADD" {
			p.associate(e, custody.ActionAdd)
			return
		}
	case "disassembling", "removing":
		p.remove(e)
		return
	case "installing":
		p.install(e)
		return
	case "inspecting":
		p.inspect(e)
		return
	case "holding":
		if reason := holdReason(e); reason != "" {
			p.each(p.subjects(e), false, func(*item) (custody.Kind, any) { return custody.KindHold, &custody.Hold{Reason: reason} })
			return
		}
	case "decommissioning", "destroying":
		p.retire(e)
		return
	case "void_shipping":
		p.voidShipping(e)
		return
	case "retail_selling":
		p.sell(e)
		return
	case "":
		switch {
		case e.Type == "AggregationEvent" && e.Action == "ADD":
			p.pack(e)
			return
		case e.Type == "AggregationEvent" && e.Action == "DELETE":
			p.unpack(e)
			return
		case e.Type == "AssociationEvent" && e.Action == "ADD":
			p.associate(e, custody.ActionAdd)
			return
		case e.Type == "AssociationEvent" && e.Action == "DELETE":
			p.remove(e)
			return
		}
	}
	p.sight(e)
}

// subjects returns the units that an event is about: those of its list; of an
// aggregation or association its parent, which stands for what is in it.
func (p *planner) subjects(e *Event) []*item {
	p.classes(e.Classes)
	if e.Type == "ObjectEvent" || e.Parent.Text == "" {
		return p.items(e.EPCs)
	}
	parent := p.items([]Value{e.Parent})
	if len(parent) == 1 && (parent[0].id.Kind == gs1.Unit || parent[0].ref.IsLoad()) {
		return parent
	}
	return append(parent, p.items(e.EPCs)...)
}

// classes notes the class-level identifiers of an event.
func (p *planner) classes(list []Quantity) {
	for _, q := range list {
		p.note("%s is a class of things, not a serial number", cut(q.Class.Text))
	}
}

// each plans a statement for every item. chained says whether the kind chains.
func (p *planner) each(items []*item, chained bool, body func(*item) (custody.Kind, any)) (made []*item) {
	for _, it := range items {
		if p.repeated(it.ref.URI) || !p.ready(it, chained) {
			continue
		}
		kind, b := body(it)
		d := draft{kind: kind, ref: it.ref, body: b, at: it.Value, unknown: !it.known}
		if chained {
			d.chain = it.chain()
		}
		d.seal = kind == custody.KindInstall
		s := p.emit(d)
		if s == nil {
			continue
		}
		if chained {
			it.advance(s.ID)
		}
		made = append(made, it)
	}
	return made
}

// sight plans sightings, which change nothing.
func (p *planner) sight(e *Event) {
	method := "scan"
	if e.BizStep == "sensor_reporting" {
		method = "telemetry"
	}
	if e.Action != "OBSERVE" {
		p.note("action %s with this business step is recorded as a sighting", e.Action)
	}
	items := p.subjects(e)
	if p.require(items) {
		p.each(items, false, func(*item) (custody.Kind, any) { return custody.KindSighting, &custody.Sighting{Method: method} })
	}
}

// evidenceOfNothing settles an event that names no single thing.
func (p *planner) evidenceOfNothing() {
	if len(p.out.Notes) == 0 {
		p.evidence("the event names no single thing")
		return
	}
	p.evidence("the event names no single thing: %s", p.out.Notes[0])
	p.out.Notes = p.out.Notes[1:]
}

// require settles the event as evidence only if it names nothing that can be
// followed.
func (p *planner) require(items []*item) bool {
	if len(items) > 0 {
		return true
	}
	if len(p.out.Problems) == 0 {
		p.evidenceOfNothing()
	}
	return false
}

// endpoint returns the party of one kind in a source or destination list: found
// is false if none is named, ok if it is refused.
func (p *planner) endpoint(list []Endpoint, kind string) (party string, at Value, found, ok bool) {
	for _, x := range list {
		if x.Type != kind {
			continue
		}
		id, err := gs1.Parse(x.Text)
		switch {
		case gs1.Unfollowed(err):
			p.note("%s is not a party that Fabtrail knows how to name", cut(x.Text))
			return "", x.Value, false, true
		case err != nil:
			p.adopt(err, x.Value)
			return "", x.Value, true, false
		case id.Kind == gs1.Site:
			id, _ = gs1.New(gs1.PGLN, id.Key, "") // older systems name parties by location numbers
		case id.Kind != gs1.Party:
			p.problem("invalid_identifier", x.Value, "%s is a %s, not a party", cut(x.Text), id.Kind)
			return "", x.Value, true, false
		}
		return id.URI(), x.Value, true, true
	}
	return "", Value{}, false, true
}

// enrolled reports whether a party is enrolled, and refuses the event if not.
func (p *planner) enrolled(party string, at Value) bool {
	ok, err := p.res.Enrolled(party)
	if p.fail(err) {
		return false
	}
	if !ok {
		p.problem("unknown_party", at, "the party %s is not enrolled", party)
	}
	return ok
}

// own refuses a statement that another party would have to sign.
func (p *planner) own(party string, at Value, does string) bool {
	if party == p.opt.Party {
		return true
	}
	p.problem("signer_mismatch", at, "%s %s, but %s imports", party, does, p.opt.Party).
		hint("the event is for %s to import", party)
	return false
}

func (p *planner) release(e *Event) {
	from, fromAt, hasFrom, ok1 := p.endpoint(e.Sources, "possessing_party")
	to, toAt, hasTo, ok2 := p.endpoint(e.Dests, "possessing_party")
	if !ok1 || !ok2 {
		return
	}
	if !hasFrom || !hasTo {
		p.note("without possessing_party as source and destination it is not known who hands over to whom")
		p.sight(e)
		return
	}
	if from == to {
		p.note("the possessing party stays the same")
		p.sight(e)
		return
	}
	items := p.subjects(e)
	if !p.require(items) || !p.own(from, fromAt, "hands over") || !p.enrolled(to, toAt) {
		return
	}
	for _, it := range p.each(items, true, func(*item) (custody.Kind, any) {
		return custody.KindRelease, &custody.Release{From: from, To: to}
	}) {
		it.phase, it.party, it.to = custody.PhaseReleased, from, to
	}
}

// accept answers the open release to the importing party. Where there is none,
// that the goods were seen is all that can be said.
func (p *planner) accept(e *Event) {
	to, toAt, hasTo, ok := p.endpoint(e.Dests, "possessing_party")
	if !ok || hasTo && !p.own(to, toAt, "receives") {
		return
	}
	items := p.subjects(e)
	if !p.require(items) {
		return
	}
	var open, seen []*item
	for _, it := range items {
		switch {
		case p.repeated(it.ref.URI):
		case it.phase == custody.PhaseReleased && it.to == p.opt.Party && !it.stale:
			open = append(open, it)
		default:
			p.note("%s has no open release to %s: recorded as seen", it.ref.URI, p.opt.Party)
			seen = append(seen, it)
		}
	}
	condition := conditions[e.Disp]
	for _, it := range p.each(open, true, func(it *item) (custody.Kind, any) {
		return custody.KindAccept, &custody.Accept{Accepts: custody.DigestOf(it.head), Condition: condition, Discrepancies: discrepancies(e)}
	}) {
		it.phase, it.party, it.to = custody.PhaseHeld, p.opt.Party, ""
	}
	p.each(seen, false, func(*item) (custody.Kind, any) { return custody.KindSighting, &custody.Sighting{Method: "scan"} })
}

var conditions = map[string]string{"conformant": "conforming", "damaged": "damaged", "non_conformant": "non-conforming", "expired": "expired"}

func discrepancies(e *Event) []string {
	if strings.HasPrefix(e.Disp, "mismatch_") {
		return []string{strings.ReplaceAll(e.Disp, "_", " ")}
	}
	return nil
}

// install: an association's children are installed, at or in its parent.
func (p *planner) install(e *Event) {
	p.classes(e.Classes)
	items := p.items(e.EPCs)
	if !p.require(items) {
		return
	}
	if e.Type != "ObjectEvent" && e.Parent.Text != "" {
		p.note("installed in %s", cut(e.Parent.Text))
	}
	for _, it := range p.each(p.unitsOnly(items, "installed"), true, func(*item) (custody.Kind, any) { return custody.KindInstall, &custody.Install{} }) {
		it.phase, it.party = custody.PhaseInstalled, p.opt.Party
	}
}

// unitsOnly drops containers, which are not followed as things of their own.
func (p *planner) unitsOnly(items []*item, done string) (out []*item) {
	for _, it := range items {
		if it.id.Kind == gs1.Unit {
			out = append(out, it)
		} else {
			p.note("container %s is followed by what it holds; that it was %s is not recorded", it.ref.URI, done)
		}
	}
	return out
}

// inspect: a disposition that finds fault fails, one that finds none passes. An
// inspection that does not tell its result is a warning, never a pass.
func (p *planner) inspect(e *Event) {
	items := p.subjects(e)
	if !p.require(items) {
		return
	}
	qa := &custody.QAResult{Result: "WARNED"}
	switch e.Disp {
	case "conformant", "completeness_verified", "sellable_accessible", "sellable_not_accessible", "available":
		qa.Result, qa.PassedTests = "PASSED", []string{e.Disp}
	case "non_conformant", "damaged", "needs_replacement", "expired", "mismatch_class", "mismatch_instance", "mismatch_quantity",
		"no_pedigree_match", "non_sellable_other", "recalled", "destroyed", "disposed", "unavailable":
		qa.Result, qa.FailedTests = "FAILED", []string{e.Disp}
	default:
		p.note("the inspection does not tell its result")
	}
	p.each(items, false, func(*item) (custody.Kind, any) { return custody.KindQAResult, qa })
}

func holdReason(e *Event) string {
	for _, d := range append([]string{e.Disp}, e.Set...) {
		switch {
		case strings.HasPrefix(d, "non_sellable"), d == "recalled", d == "damaged", d == "expired", d == "non_conformant":
			return "quarantine"
		case d == "stolen":
			return "stolen"
		case d == "no_pedigree_match":
			return "suspect"
		}
	}
	return ""
}

func (p *planner) retire(e *Event) {
	items := p.subjects(e)
	if !p.require(items) {
		return
	}
	reason := "endOfLife"
	switch {
	case e.BizStep == "destroying", e.Disp == "destroyed", e.Disp == "disposed":
		reason = "destroyed"
	case e.Disp == "stolen":
		reason = "stolen"
	}
	for _, it := range p.each(p.unitsOnly(items, "retired"), true, func(*item) (custody.Kind, any) {
		return custody.KindRetire, &custody.Retire{Reason: reason}
	}) {
		it.phase = custody.PhaseEnded
	}
}

// sell passes title: from and to both have to sign.
func (p *planner) sell(e *Event) {
	from, fromAt, hasFrom, ok1 := p.endpoint(e.Sources, "owning_party")
	to, toAt, hasTo, ok2 := p.endpoint(e.Dests, "owning_party")
	if !ok1 || !ok2 {
		return
	}
	if !hasFrom {
		from = p.opt.Party
	}
	items := p.subjects(e)
	if !p.require(items) {
		return
	}
	if !hasTo {
		p.evidence("the buyer is anonymous: title passes only between enrolled parties")
		return
	}
	if from == to {
		p.note("the owning party stays the same")
		p.sight(e)
		return
	}
	if !p.enrolled(to, toAt) || hasFrom && !p.enrolled(from, fromAt) {
		return
	}
	other := to
	if to == p.opt.Party {
		other = from
	} else if !p.own(from, fromAt, "sells") {
		return
	}
	for _, it := range items {
		if p.repeated(it.ref.URI) || !p.ready(it, false) {
			continue
		}
		p.emit(draft{kind: custody.KindOwnership, ref: it.ref, body: &custody.Ownership{From: from, To: to, Basis: "retail_selling"},
			at: it.Value, signers: []string{other}, unknown: !it.known})
	}
}
