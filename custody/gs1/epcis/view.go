package epcis

import (
	"slices"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/gs1"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// view is what a plan knows of a unit: the ledger's state, and on top of it what
// the plan's own statements will do. It foretells heads only; whether a statement
// has effect is the ledger's to judge.
type view struct {
	ref     custody.UnitRef
	known   bool
	head    entry.Hash
	seq     int64
	phase   custody.Phase
	party   string
	to      string
	place   custody.Place
	in      custody.UnitRef
	level   int64
	members []custody.UnitRef // of a load opened by this plan
	opened  bool              // by this plan
	// stale is set by a planned void: what the head will be is known only when the
	// ledger has it.
	stale bool
}

// view returns the view of a unit; nil if the resolver failed.
func (p *planner) view(ref custody.UnitRef) *view {
	if v, ok := p.views[ref]; ok {
		return v
	}
	u, err := p.res.Unit(ref)
	if p.fail(err) {
		return nil
	}
	v := &view{ref: ref, seq: -1}
	if u != nil {
		v.known = !u.Head.IsZero()
		v.head, v.seq, v.phase, v.party, v.to = u.Head, u.Seq, u.Phase, u.Party, u.To
		v.place, v.in, v.level = u.Place, u.In, int64(u.Level)
	}
	p.views[ref] = v
	return v
}

// chain returns the chain of the unit's next statement.
func (v *view) chain() *custody.Chain {
	if !v.known {
		return custody.First()
	}
	return custody.Next(v.seq, v.head)
}

func (v *view) advance(id entry.Hash) {
	v.known, v.head, v.seq = true, id, v.seq+1
}

// item is one identifier of an event that Fabtrail follows.
type item struct {
	Value
	id  gs1.ID
	ref custody.UnitRef
	*view
}

// items resolves identifiers to units and loads. Those of classes and those that
// Fabtrail does not follow are noted, wrong ones are refused, each once.
func (p *planner) items(values []Value) (out []*item) {
	seen := map[string]bool{}
	for _, v := range values {
		id, ok := p.identify(v)
		if !ok || seen[id.URI()] {
			continue
		}
		seen[id.URI()] = true
		if it := p.item(v, id); it != nil {
			out = append(out, it)
		}
	}
	return out
}

// identify reads one identifier of a unit or container.
func (p *planner) identify(v Value) (gs1.ID, bool) {
	id, err := gs1.Parse(v.Text)
	switch {
	case gs1.Unfollowed(err):
		p.note("%s is not an identifier that Fabtrail follows", cut(v.Text))
		return id, false
	case err != nil:
		p.adopt(err, v)
		return id, false
	case id.Kind == gs1.Unit, id.Kind == gs1.Container:
		return id, true
	}
	p.note("%s names a %s, not a single thing", cut(v.Text), id.Kind)
	return id, false
}

// item finds the state of one identifier. A container stands for its latest load.
func (p *planner) item(v Value, id gs1.ID) *item {
	ref := custody.UnitRef{URI: id.URI()}
	if id.Kind == gs1.Container {
		load, ok := p.loads[ref.URI]
		if !ok {
			var err error
			if load, ok, err = p.res.Load(ref.URI); p.fail(err) {
				return nil
			}
		}
		if ok {
			ref = load
		}
	}
	w := p.view(ref)
	if w == nil {
		return nil
	}
	return &item{Value: v, id: id, ref: ref, view: w}
}

// ready reports whether a statement about the item can be planned, and refuses it
// if not. chained says that the statement has to name the item's head.
func (p *planner) ready(it *item, chained bool) bool {
	switch {
	case it.id.Kind == gs1.Container && !it.ref.IsLoad():
		p.problem("unknown_statement", it.Value, "container %s has no load in this ledger", it.ref.URI).
			hint("import the event that packs it first")
	case !chained:
		return true
	case it.stale:
		p.problem("predecessor_unknown", it.Value, "what %s will be after the correction before it is not known yet", it.ref.URI).
			hint("submit what is planned, then import again")
	case !it.known && p.opt.KnownOnly:
		p.problem("predecessor_unknown", it.Value, "the ledger does not know %s", it.ref.URI)
	case it.place == custody.InLoad:
		p.problem("unpack_first", it.Value, "%s is packed in %s", it.ref.URI, it.in.URI).
			hint("what moves it is the hand-over of its container; unpack it to move it alone")
	case it.place == custody.PartOf:
		p.problem("unpack_first", it.Value, "%s is part of %s", it.ref.URI, it.in.URI).
			hint("it moves with the unit that it is part of; disassemble that to move it alone")
	default:
		return true
	}
	return false
}

// repeated reports whether the ledger, or this plan, has a statement from the
// event at hand about a unit already, and notes it.
func (p *planner) repeated(uri string) bool {
	for _, r := range p.recorded(uri) {
		if r.Actor == p.opt.Party {
			p.out.repeat(r)
			return true
		}
	}
	return false
}

// recorded lists the statements about a unit that were made from the event at
// hand.
func (p *planner) recorded(uri string) []Recorded {
	hash := p.out.Event.HashID
	known, err := p.res.Recorded(uri, hash)
	if p.fail(err) {
		return nil
	}
	return append(slices.Clone(p.made[[2]string{hash, uri}]), known...)
}
