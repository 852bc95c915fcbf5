package epcis

import (
	"sort"
	"strconv"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/gs1"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// commission brings units into being. Units of one GTIN with a lot number go by
// one manifest; others have a statement each.
func (p *planner) commission(e *Event, values []Value, classes []Quantity) {
	p.classes(classes)
	items := p.items(values)
	if p.require(items) {
		p.commissionItems(e, items)
	}
}

func (p *planner) commissionItems(e *Event, items []*item) {
	byLot := map[string][]*item{}
	var lots []string
	var single []*item
	for _, it := range p.unitsOnly(items, "commissioned") {
		if p.repeated(it.ref.URI) {
			continue
		}
		product, ok := it.id.Product()
		if e.Lot == "" || !ok {
			single = append(single, it)
			continue
		}
		lot, err := gs1.New(gs1.LGTIN, product.Key, e.Lot)
		if err != nil {
			p.adopt(err, it.Value)
			continue
		}
		if byLot[lot.URI()] == nil {
			lots = append(lots, lot.URI())
		}
		byLot[lot.URI()] = append(byLot[lot.URI()], it)
	}
	if e.Lot == "" && len(single) > 0 {
		p.note("ilmd has no cbvmda:lotNumber: the ledger cannot compare with a serial block")
	}
	for _, lot := range lots {
		if members := byLot[lot]; len(members) > 1 {
			p.commissionLot(lot, members)
		} else {
			single = append(single, members[0])
		}
	}
	for _, it := range single {
		body := &custody.Commission{UnitKind: p.unitKind(it.id)}
		if _, ok := it.id.Product(); ok {
			body.Lot = e.Lot
		}
		s := p.emit(draft{kind: custody.KindCommission, ref: it.ref, chain: custody.First(), body: body, at: it.Value})
		if s != nil {
			p.born(it, s.ID)
		}
	}
}

func (p *planner) commissionLot(lot string, items []*item) {
	members := make([]custody.Member, len(items))
	for i, it := range items {
		members[i] = custody.Member{URI: it.ref.URI, Salt: p.derive("member", p.out.Event.HashID, it.ref.URI)}
	}
	at := items[0].Value
	manifest, err := custody.NewManifest(members)
	if err != nil {
		p.adopt(err, at)
		return
	}
	contents := manifest.Contents()
	s := p.emit(draft{kind: custody.KindCommission, ref: custody.UnitRef{URI: lot}, chain: custody.First(), manifest: &manifest, at: at,
		body: &custody.Commission{UnitKind: p.unitKind(items[0].id), Contents: &contents}})
	if s == nil {
		return
	}
	for _, it := range items {
		p.born(it, s.ID)
		p.remember(s, it.ref.URI)
	}
}

func (p *planner) born(it *item, id entry.Hash) {
	it.known, it.head, it.seq = true, id, 0
	it.phase, it.party, it.place, it.in = custody.PhaseHeld, p.opt.Party, custody.Free, custody.UnitRef{}
}

func (p *planner) unitKind(id gs1.ID) string {
	gtin := ""
	if product, ok := id.Product(); ok {
		gtin = product.Key
	}
	if p.opt.UnitKind != nil {
		if k := p.opt.UnitKind(gtin); k != "" {
			return k
		}
	}
	return "device"
}

// parent resolves the parent of an aggregation, which must be a container.
func (p *planner) parent(e *Event) *item {
	id, ok := p.identify(e.Parent)
	if !ok {
		return nil
	}
	if id.Kind != gs1.Container {
		p.note("%s is not a container: loads are opened for an SSCC or an ISO 6346 number only", cut(e.Parent.Text))
		return nil
	}
	return p.item(e.Parent, id)
}

// children resolves the children of a parent, which cannot be one of them.
func (p *planner) children(e *Event, parent string) (out []*item) {
	for _, it := range p.items(e.EPCs) {
		if it.ref.URI == parent {
			p.problem("invalid_epcis", it.Value, "%s cannot be in itself", parent)
			continue
		}
		out = append(out, it)
	}
	return out
}

// manifestOf makes the manifest of units that are packed or unpacked. Units whose
// head is not known cannot be named and are refused one by one.
func (p *planner) manifestOf(items []*item, inside custody.UnitRef) (*custody.Manifest, []*item) {
	var members []custody.Member
	var kept []*item
	for _, it := range items {
		if inside.IsLoad() && it.in == inside {
			if it.stale || !it.known {
				p.ready(it, true)
				continue
			}
		} else if !p.ready(it, true) {
			continue
		}
		if !it.known {
			p.problem("predecessor_unknown", it.Value, "the ledger does not know %s", it.ref.URI).hint("commission it first")
			continue
		}
		members = append(members, custody.Member{URI: it.ref.URI, Head: it.head, Load: it.ref.Load, Salt: p.derive("member", p.out.Event.HashID, it.ref.String())})
		kept = append(kept, it)
	}
	if len(kept) == 0 {
		return nil, nil
	}
	manifest, err := custody.NewManifest(members)
	if err != nil {
		p.adopt(err, kept[0].Value)
		return nil, nil
	}
	return &manifest, kept
}

// pack opens a load of the container, or adds to the one that it has if the
// importing party holds it.
func (p *planner) pack(e *Event) {
	p.classes(e.Classes)
	if e.Parent.Text == "" {
		p.evidence("the container is not named")
		return
	}
	parent := p.parent(e)
	if parent == nil {
		return
	}
	children := p.children(e, parent.ref.URI)
	if !p.require(children) || p.repeated(parent.ref.URI) {
		return
	}
	adds := parent.ref.IsLoad() && parent.phase == custody.PhaseHeld && parent.party == p.opt.Party && parent.place == custody.Free && !parent.stale
	level := int64(1)
	for _, it := range children {
		if it.ref.IsLoad() {
			level = max(level, it.level+1)
		}
	}
	if adds && level > 1 && level > parent.level {
		adds = false // the load was opened for lower levels only
	}
	manifest, kept := p.manifestOf(children, custody.UnitRef{})
	if manifest == nil {
		return
	}
	d := draft{kind: custody.KindPack, ref: custody.UnitRef{URI: parent.ref.URI}, chain: custody.First(), manifest: manifest, at: parent.Value}
	body := &custody.Pack{Contents: manifest.Contents(), Level: level}
	if adds {
		d.ref, d.chain, body.Level = parent.ref, parent.chain(), 0
	}
	d.body = body
	s := p.emit(d)
	if s == nil {
		return
	}
	load := parent.ref
	if !adds {
		load = custody.UnitRef{URI: parent.ref.URI, Load: s.ID}
		p.loads[load.URI] = load
		p.views[load] = &view{ref: load, known: true, head: s.ID, seq: 0, phase: custody.PhaseHeld, party: p.opt.Party, level: level, opened: true}
	}
	inside := p.views[load]
	for _, it := range kept {
		it.advance(s.ID)
		it.place, it.in = custody.InLoad, load
		inside.members = append(inside.members, it.ref)
	}
}

// unpack takes the named members, or all, out of the container's latest load.
func (p *planner) unpack(e *Event) {
	p.classes(e.Classes)
	if e.Parent.Text == "" {
		p.evidence("the container is not named")
		return
	}
	parent := p.parent(e)
	if parent == nil || p.repeated(parent.ref.URI) || !p.ready(parent, true) {
		return
	}
	children := p.children(e, parent.ref.URI)
	if len(e.EPCs) == 0 && len(e.Classes) == 0 {
		var ok bool
		if children, ok = p.everything(parent); !ok {
			return
		}
	}
	if !p.require(children) {
		return
	}
	manifest, kept := p.manifestOf(children, parent.ref)
	if manifest == nil {
		return
	}
	s := p.emit(draft{kind: custody.KindUnpack, ref: parent.ref, chain: parent.chain(), manifest: manifest, at: parent.Value,
		body: &custody.Unpack{Contents: manifest.Contents()}})
	if s == nil {
		return
	}
	for _, it := range kept {
		it.advance(s.ID)
		it.place, it.in, it.phase, it.party = custody.Free, custody.UnitRef{}, parent.phase, parent.party
	}
}

// everything lists what is in a load: an unpacking that names no children takes
// out all.
func (p *planner) everything(parent *item) ([]*item, bool) {
	refs, err := p.res.Members(parent.ref)
	if p.fail(err) {
		return nil, false
	}
	if refs == nil && !parent.opened {
		p.problem("missing_manifest", parent.Value, "the event unpacks all of %s, whose contents are not known here", parent.ref.URI).
			hint("name the children, or import with access to the load's manifest")
		return nil, false
	}
	seen := map[custody.UnitRef]bool{}
	var out []*item
	for _, ref := range append(append([]custody.UnitRef{}, refs...), parent.members...) {
		v := p.view(ref)
		if v == nil {
			return nil, false
		}
		if seen[ref] || v.in != parent.ref {
			continue
		}
		seen[ref] = true
		id, err := gs1.ParseCanonical(ref.URI)
		if p.fail(err) {
			return nil, false
		}
		out = append(out, &item{Value: Value{Text: ref.URI, Pointer: parent.Pointer, Line: parent.Line}, id: id, ref: ref, view: v})
	}
	if len(out) == 0 {
		p.note("%s is empty already", parent.ref.URI)
	}
	return out, true
}

// associate puts children into their parent.
func (p *planner) associate(e *Event, action string) {
	parents := p.items([]Value{e.Parent})
	if len(parents) == 0 {
		p.require(nil)
		return
	}
	parent := parents[0]
	if parent.id.Kind != gs1.Unit {
		p.pack(e) // things in a container are packed, whatever the step is called
		return
	}
	children := p.unitsOnly(p.children(e, parent.ref.URI), "assembled")
	if !p.repeated(parent.ref.URI) {
		p.assemble(parent, children, e.Classes, action, false)
	}
}

// assemble plans one assemble statement; that it is no repeat has been seen.
// uncounted says that the quantities are not those of this parent.
func (p *planner) assemble(parent *item, children []*item, classes []Quantity, action string, uncounted bool) {
	if !p.ready(parent, true) {
		return
	}
	var parts []custody.Component
	var kept []*item
	for _, it := range children {
		if action == custody.ActionAdd && !p.ready(it, true) || it.stale {
			continue
		}
		if !it.known {
			p.problem("predecessor_unknown", it.Value, "the ledger does not know %s", it.ref.URI).hint("commission it first")
			continue
		}
		head := custody.DigestOf(it.head)
		parts = append(parts, custody.Component{URI: it.ref.URI, Head: &head})
		kept = append(kept, it)
	}
	parts = append(parts, p.lotComponents(classes, uncounted)...)
	if len(parts) == 0 {
		if len(p.out.Problems) == 0 && len(p.out.Statements) == 0 {
			p.evidenceOfNothing()
		}
		return
	}
	s := p.emit(draft{kind: custody.KindAssemble, ref: parent.ref, chain: parent.chain(), at: parent.Value, unknown: !parent.known,
		body: &custody.Assemble{Action: action, Components: parts}})
	if s == nil {
		return
	}
	parent.advance(s.ID)
	for _, it := range kept {
		p.remember(s, it.ref.URI)
		it.advance(s.ID)
		it.place, it.in = custody.PartOf, parent.ref
		if action == custody.ActionRemove {
			it.place, it.in, it.phase, it.party = custody.Free, custody.UnitRef{}, custody.PhaseHeld, p.opt.Party
		}
	}
}

// lotComponents names lots whose parts went in. Quantities are whole numbers of
// pieces; a measured quantity counts as one and stands in the event.
func (p *planner) lotComponents(classes []Quantity, uncounted bool) (out []custody.Component) {
	sum := map[string]int64{}
	for _, q := range classes {
		id, err := gs1.Parse(q.Class.Text)
		if err != nil || id.Kind != gs1.Lot {
			p.note("%s names no lot and is left out", cut(q.Class.Text))
			continue
		}
		n, err := strconv.ParseInt(decimal(q.Quantity), 10, 32)
		if err != nil || n < 1 || q.UOM != "" || uncounted {
			if !uncounted {
				p.note("%s is named as a lot; its quantity %s %s is not a number of pieces", id.URI(), q.Quantity, q.UOM)
			}
			n = 1
		}
		sum[id.URI()] += n
	}
	uris := make([]string, 0, len(sum))
	for uri := range sum {
		uris = append(uris, uri)
	}
	sort.Strings(uris)
	for _, uri := range uris {
		out = append(out, custody.Component{Lot: uri, Quantity: sum[uri]})
	}
	return out
}

// remove takes components out of their parent: of the event, or, if it names
// none, of the ledger.
func (p *planner) remove(e *Event) {
	if e.Type == "ObjectEvent" || e.Parent.Text == "" {
		p.removeObjects(e)
		return
	}
	if e.Action != "DELETE" {
		p.sight(e)
		return
	}
	parents := p.items([]Value{e.Parent})
	if len(parents) == 0 {
		p.require(nil)
		return
	}
	parent := parents[0]
	if parent.id.Kind != gs1.Unit {
		p.unpack(e)
		return
	}
	if p.repeated(parent.ref.URI) {
		return
	}
	children := p.unitsOnly(p.children(e, parent.ref.URI), "removed")
	if len(e.EPCs) == 0 && len(e.Classes) == 0 {
		uris, err := p.res.Parts(parent.ref.URI)
		if p.fail(err) {
			return
		}
		for _, uri := range uris {
			for _, it := range p.items([]Value{{Text: uri, Pointer: e.Parent.Pointer, Line: e.Parent.Line}}) {
				if it.place == custody.PartOf && it.in == parent.ref { // not taken out by this plan
					children = append(children, it)
				}
			}
		}
		if len(children) == 0 {
			p.problem("predecessor_unknown", parent.Value, "the event takes all out of %s, whose components are not known here", parent.ref.URI)
			return
		}
	}
	p.assemble(parent, children, e.Classes, custody.ActionRemove, false)
}

// removeObjects takes each object out of the parent that the ledger has it in.
func (p *planner) removeObjects(e *Event) {
	p.classes(e.Classes)
	items := p.items(e.EPCs)
	if !p.require(items) {
		return
	}
	byParent := map[custody.UnitRef][]*item{}
	var parents []custody.UnitRef
	var loose []*item
	for _, it := range items {
		if p.repeated(it.ref.URI) {
			continue
		}
		if it.place != custody.PartOf {
			p.note("%s is not part of anything in this ledger: recorded as seen", it.ref.URI)
			loose = append(loose, it)
			continue
		}
		if byParent[it.in] == nil {
			parents = append(parents, it.in)
		}
		byParent[it.in] = append(byParent[it.in], it)
	}
	for _, ref := range parents {
		at := byParent[ref][0].Value
		for _, parent := range p.items([]Value{{Text: ref.URI, Pointer: at.Pointer, Line: at.Line}}) {
			p.assemble(parent, byParent[ref], nil, custody.ActionRemove, false)
		}
	}
	p.each(loose, false, func(*item) (custody.Kind, any) { return custody.KindSighting, &custody.Sighting{Method: "scan"} })
}

// transform turns inputs into outputs. Outputs that the ledger does not know come
// into being; what went into a single output is assembled into it. With several
// outputs only lots can be said to have gone into each: one serialised input is
// part of one thing, and the event does not tell which.
func (p *planner) transform(e *Event) {
	p.classes(e.OutClass)
	outputs := p.items(e.Outputs)
	inputs := p.unitsOnly(p.items(e.EPCs), "used up")
	if !p.require(outputs) {
		return
	}
	var fresh, units []*item
	for _, it := range p.unitsOnly(outputs, "made") {
		if p.repeated(it.ref.URI) {
			continue
		}
		units = append(units, it)
		if !it.known {
			fresh = append(fresh, it)
		}
	}
	if len(fresh) > 0 {
		p.commissionItems(e, fresh)
	}
	if len(units) == 0 || len(inputs)+len(e.Classes) == 0 {
		return
	}
	if len(outputs) == 1 {
		if units[0].known {
			p.assemble(units[0], inputs, e.Classes, custody.ActionAdd, false)
		}
		return
	}
	if len(inputs) > 0 {
		p.note("%d serialised inputs went into one of %d outputs each, and the event does not tell which", len(inputs), len(outputs))
	}
	for _, it := range units {
		if it.known && len(e.Classes) > 0 {
			p.assemble(it, nil, e.Classes, custody.ActionAdd, true)
		}
	}
}
