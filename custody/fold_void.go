package custody

import (
	"slices"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// forNamed calls fn for each tracked unit of the statement that the one at hand
// speaks of in the end.
func (r *run) forNamed(fn func(UnitRef)) {
	id, _, _ := namedBy(r.s)
	if n, ok := loadRoot(r.st, id); ok {
		r.unitsOf(n, fn)
	}
}

// unitsOf calls fn for each tracked unit that a statement concerns, its subject
// first.
func (r *run) unitsOf(n Named, fn func(UnitRef)) {
	visit := func(ref UnitRef) {
		if r.tracks(ref.Topic()) {
			fn(ref)
		}
	}
	if byLot := n.Kind == KindCommission && !n.Manifest.IsZero(); !byLot && (n.opens() || n.Kind != KindPack && n.Kind != KindUnpack) {
		visit(n.unit())
	}
	for _, m := range r.it.Members {
		visit(UnitRef{m.URI, m.Load})
	}
	for i, uri := range n.Parts {
		if uri != n.Subject && !slices.Contains(n.Parts[:i], uri) {
			visit(UnitRef{URI: uri})
		}
	}
}

// void takes a statement back, for each unit by itself: where it is still the
// unit's latest chained one, and where neither the load nor the parent that it
// concerns has moved on since.
func (r *run) void() {
	id, _, _ := namedBy(r.s)
	n, ok := LoadNamed(r.st, id)
	if !ok {
		return // admit refused it
	}
	if !n.Of.IsZero() || !n.Kind.Chained() {
		r.forNamed(func(ref UnitRef) { r.result(ref, NoEffect, CodeNotChained) })
		return
	}
	if n.Actor != r.actor {
		r.forNamed(func(ref UnitRef) { r.result(ref, NoEffect, CodeNotOwnStatement) })
		return
	}
	moved := r.movedOn(n)
	// What depends on the subject's state is asked of all units before any of them
	// changes: they all see the state before the void.
	type step struct {
		ref  UnitRef
		code Code
	}
	var steps []step
	r.unitsOf(n, func(ref UnitRef) {
		u := r.unit(ref)
		_, remembered := u.previous()
		if u.Head != n.ID || !remembered || moved(ref) {
			steps = append(steps, step{ref, CodeNotLatest})
			return
		}
		steps = append(steps, step{ref, CodeApplied})
	})
	for _, s := range steps {
		if s.code != CodeApplied {
			r.result(s.ref, NoEffect, s.code)
			continue
		}
		before := r.unit(s.ref)
		u := before.Clone()
		u.take(n.Kind)
		u.Holds = r.openHolds(u)
		r.put(u)
		r.changed(before, u, Applied, CodeApplied)
		r.unbind(n, s.ref)
	}
	if n.Kind == KindRefuse {
		if u := r.unit(n.unit()); len(r.eff.Units) > 0 && u.Head != n.ID {
			r.st.Set(string(rowHold)+string(n.ID[:]), nil)
		}
	}
}

// movedOn returns whether, for a unit that n named, the load or parent of n has
// had a later statement of its own. It is asked only of units whose head is n, so
// the load or parent is one that they have effectively joined.
func (r *run) movedOn(n Named) func(UnitRef) bool {
	return func(ref UnitRef) bool {
		switch n.Kind {
		case KindPack, KindUnpack:
			if n.opens() {
				l := UnitRef{n.Subject, n.ID}
				return ref != l && r.unit(l).Head != n.ID
			}
			return r.unit(n.unit()).HeadIndex > n.Index
		case KindAssemble:
			return ref.URI != n.Subject && r.unit(n.unit()).Head != n.ID
		}
		return false
	}
}

// unbind forgets the binding of a device key by a commission that was taken back.
func (r *run) unbind(n Named, ref UnitRef) {
	if n.Device.IsZero() || !r.tracks(deviceTopic(n.Device)) {
		return
	}
	bs := LoadBindings(r.st, n.Device)
	bs = slices.DeleteFunc(bs, func(b Binding) bool { return b.Unit == ref.URI && b.Index == n.Index })
	storeBindings(r.st, n.Device, bs)
}

// finding keeps what was concluded elsewhere; it changes nothing.
func (r *run) finding() {
	for _, fu := range r.s.Body.(*Finding).Units {
		ref := UnitRef{URI: fu.URI}
		if fu.Load != "" {
			ref.Load, _ = entry.ParseHash(fu.Load)
		}
		if r.tracks(ref.Topic()) {
			r.result(ref, Noted, CodeNoted)
		}
	}
}
