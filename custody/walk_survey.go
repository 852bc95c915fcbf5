package custody

import (
	"crypto/sha256"
	"math"
	"slices"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// Survey reads what a folded state tells about a unit: who has it, what is in
// force on it, its parts. items and effects are those that the fold gave, in log
// order; more than concern the unit do no harm. State and Topics are left to the
// caller.
func Survey(st State, ref UnitRef, items []Item, effects []Effect) *History {
	r := &run{st: newOverlay(st), units: map[UnitRef]*Unit{}}
	r.dir = directory{st: r.st}
	h := &History{Ref: ref, Items: items, Effects: effects, Unit: r.unit(ref)}
	s := &surveyor{run: r, h: h}
	h.Keeper, h.Owner = r.keeper(h.Unit), r.owner(h.Unit)
	s.within(h.Unit)
	s.inForce(h.Unit, false)
	s.parts()
	s.twins()
	s.standing()
	s.accused()
	return h
}

type surveyor struct {
	*run
	h *History
}

// within follows the loads and parents that u is in. A hold on one of them holds
// u too.
func (s *surveyor) within(u *Unit) {
	for u.Place != Free && len(s.h.Within) < 64 {
		u = s.unit(u.In)
		s.h.Within = append(s.h.Within, u.Ref)
		s.holds(u, false)
	}
}

func (s *surveyor) holds(u *Unit, part bool) {
	for _, x := range u.Holds {
		if o, open := loadHold(s.st, x.ID); open {
			s.h.Holds = append(s.h.Holds, HoldInForce{ID: x.ID, Index: o.Index, On: u.Ref, By: o.By, Reason: o.Reason, Part: part})
		}
	}
}

// inForce collects the holds and recalls on a unit by itself.
func (s *surveyor) inForce(u *Unit, part bool) {
	s.holds(u, part)
	if u.Ref.IsLoad() {
		return
	}
	gtin := gtinOf(u.Ref.URI)
	s.recalls(entry.Topic{Kind: entry.TopicUnit, Value: u.Ref.URI}, u.Ref.URI, gtin, part)
	if gtin != "" {
		s.recalls(productTopic(gtin), u.Ref.URI, gtin, part)
	}
	if u.Lot != "" {
		s.recalls(lotTopic(u.Lot), u.Ref.URI, gtin, part)
	}
	for _, f := range u.Firmware {
		s.recalls(entry.Topic{Kind: entry.TopicRecallArtefact, Value: f.Image.String()}, u.Ref.URI, gtin, part)
	}
}

func (s *surveyor) recalls(selector entry.Topic, unit, gtin string, part bool) {
	for _, o := range LoadRecalls(s.st, selector) {
		if len(o.GTINs) > 0 && !slices.Contains(o.GTINs, gtin) {
			continue
		}
		s.h.Recalls = append(s.h.Recalls, RecallInForce{OpenRecall: o, Selector: selector, Unit: unit, Part: part})
	}
}

// parts works out which components the unit has, from its own effective
// assemblies, and looks each of them up one level down.
func (s *surveyor) parts() {
	var parts []Part
	add := func(index uint64, b *Assemble) {
		for _, c := range b.Components {
			if c.URI != "" {
				parts = slices.DeleteFunc(parts, func(p Part) bool { return p.URI == c.URI })
			} else if b.Action == ActionRemove {
				parts = slices.DeleteFunc(parts, func(p Part) bool { return p.Lot == c.Lot && p.Position == c.Position })
			}
			if b.Action == ActionAdd {
				parts = append(parts, Part{URI: c.URI, Lot: c.Lot, Position: c.Position, Index: index})
			}
		}
	}
	done := map[entry.Hash][]Part{} // what an assemble replaced, for a void
	for _, it := range s.h.Items {
		st := it.Signed.Statement
		switch b := st.Body.(type) {
		case *Assemble:
			if st.Subject == s.h.Ref.URI && s.applied(it) {
				done[st.ID] = slices.Clone(parts)
				add(it.Index, b)
			}
		case *Void:
			if before, ok := done[b.Voids.Hash()]; ok && s.applied(it) {
				parts = before
			}
		}
	}
	for i := range parts {
		s.part(&parts[i], i < MaxParts)
	}
	s.h.Parts = parts
}

// applied reports whether an item took effect on the root.
func (s *surveyor) applied(it Item) bool { return s.appliedTo(it, s.h.Ref) }

func (s *surveyor) appliedTo(it Item, ref UnitRef) bool {
	return s.any(it, func(u UnitEffect) bool { return u.Unit == ref && u.Outcome == Applied })
}

// any reports whether an item had an effect of some kind by itself.
func (s *surveyor) any(it Item, is func(UnitEffect) bool) bool {
	i, ok := slices.BinarySearchFunc(s.h.Effects, it.Index, func(e Effect, n uint64) int {
		switch {
		case e.Index < n:
			return -1
		case e.Index > n:
			return 1
		}
		return 0
	})
	if !ok {
		return false
	}
	return slices.ContainsFunc(s.h.Effects[i].Units, func(u UnitEffect) bool {
		return u.Index == it.Index && is(u)
	})
}

func (s *surveyor) part(p *Part, follow bool) {
	if p.URI == "" {
		p.Followed, p.Joined = true, true
		gtin := gtinOf(p.Lot)
		s.recalls(lotTopic(p.Lot), p.Lot, gtin, true)
		if gtin != "" {
			s.recalls(productTopic(gtin), p.Lot, gtin, true)
		}
		return
	}
	if !follow {
		return
	}
	u := s.unit(UnitRef{URI: p.URI})
	p.Unit, p.Followed = u, true
	p.Joined = u.Place == PartOf && u.In == s.h.Ref
	s.inForce(u, true)
	p.Deeper = slices.ContainsFunc(s.h.Items, func(it Item) bool {
		b, ok := it.Signed.Statement.Body.(*Assemble)
		return ok && b.Action == ActionAdd && it.Signed.Statement.Subject == p.URI && s.appliedTo(it, u.Ref)
	})
}

// bindings reads the lists of keys that were bound to a unit, by what took effect or by
// a commission of somebody entitled: rules ask whose else they are. A stranger's key is
// not read.
func (s *surveyor) bindings(ref UnitRef) {
	for _, it := range s.h.Items {
		st := it.Signed.Statement
		k, ok := st.DeviceKey()
		if ok && st.Subject == ref.URI && s.any(it, func(u UnitEffect) bool { return u.Unit == ref && (u.Outcome == Applied || u.Entitled) }) {
			LoadBindings(s.st, k.Hash)
		}
	}
}

// twins finds other serials under the unit's present device key.
func (s *surveyor) twins() {
	s.bindings(s.h.Ref)
	for _, p := range s.h.Parts {
		if p.URI != "" && p.Followed {
			s.bindings(UnitRef{URI: p.URI})
		}
	}
	if len(s.h.Unit.DeviceKey) == 0 {
		return
	}
	key := entry.Hash(sha256.Sum256(s.h.Unit.DeviceKey))
	bs := LoadBindings(s.st, key)
	var own uint64
	for _, b := range bs {
		if b.Unit == s.h.Ref.URI && b.Authorised {
			own = b.Index
		}
	}
	for _, b := range bs {
		if b.Unit != s.h.Ref.URI && b.Authorised {
			s.h.Twins = append(s.h.Twins, Twin{Key: key, Unit: b.Unit, At: b.Index, Own: own})
		}
	}
}

// standing collects who is no stranger to the unit: who held it, was to receive
// it, installed or owned it, owns its product, or may commission its serial.
func (s *surveyor) standing() {
	s.h.Standing = map[string]bool{}
	add := func(ps ...string) {
		for _, p := range ps {
			if p != "" {
				s.h.Standing[p] = true
			}
		}
	}
	add(s.h.Keeper, s.h.Owner)
	s.hands(s.h.Ref, 0, math.MaxUint64, 0, add)
	if gtin := gtinOf(s.h.Ref.URI); gtin != "" {
		if p, ok := LoadProduct(s.st, gtin); ok {
			add(p.Owner)
		}
	}
	if s.h.Unit.Lot != "" {
		if l, ok := LoadLot(s.st, s.h.Unit.Lot); ok {
			add(l.Commissioners...)
		}
	}
}

// hands names who had a unit in hand, was to receive it or owned it between two
// log indexes. Who holds a load or parent holds what is in it, for as long as it
// is; only loads and parents that were joined are asked for.
func (s *surveyor) hands(ref UnitRef, from, to uint64, depth int, add func(...string)) {
	var now *Unit
	since := from
	inside := func(until uint64) {
		if now != nil && now.Place != Free && until >= from && depth < 64 {
			s.hands(now.In, max(since, from), until, depth+1, add)
		}
	}
	for i := range s.h.Effects {
		e := &s.h.Effects[i]
		if e.Index > to {
			break
		}
		for _, u := range e.Units {
			if u.Unit != ref || u.Contents || u.Outcome != Applied {
				continue
			}
			if e.Index > from && now != nil {
				add(now.Party, now.To, now.Owner)
			}
			if now == nil || now.In != u.After.In || now.Place != u.After.Place {
				inside(e.Index)
				since = e.Index
			}
			now = u.After
		}
	}
	if now != nil {
		add(now.Party, now.To, now.Owner)
		inside(to)
	}
}

// accused lists what accuses the operator.
func (s *surveyor) accused() {
	for i := range s.h.Effects {
		e := &s.h.Effects[i]
		if e.Refused != nil {
			s.h.Accused = append(s.h.Accused, Accusation{Index: e.Index, Code: Code(e.Refused.Type)})
		}
		for _, u := range e.Units {
			if u.Operator {
				s.h.Accused = append(s.h.Accused, Accusation{Index: u.Index, Code: u.Code, Unit: u.Unit.URI})
			}
		}
		for _, rec := range e.Records {
			if rec.Operator {
				s.h.Accused = append(s.h.Accused, Accusation{Index: e.Index, Code: rec.Code, Unit: rec.Topic.Value})
			}
		}
	}
}

// Replay folds the history's items once more into an empty state and calls fn
// after each, with the state as it was then: what rules are run on.
func (h *History) Replay(fn func(State, Item, Effect)) {
	lists := map[entry.Topic]bool{}
	for _, t := range h.Topics {
		lists[t.Topic] = true
	}
	st := MapState{}
	f := Fold{Track: func(t entry.Topic) bool { return lists[t] }, verified: h.verified}
	for _, it := range h.Items {
		fn(st, it, f.Apply(st, it))
	}
}

// Keeper returns who has a unit in hand: its holder, or that of the outermost load
// or parent that it is in; while it is on its way, the sender. "" if nobody.
func Keeper(st State, ref UnitRef) string {
	r := &run{st: newOverlay(st), units: map[UnitRef]*Unit{}}
	return r.keeper(r.unit(ref))
}
