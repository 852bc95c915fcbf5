package rules

import (
	"cmp"
	"slices"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// Conclude gives what findings say about the unit of a history, for its verdict:
// first those that its closure shows by itself, then those that were logged about
// it. now is log time, in Unix ms: what is provisional is confirmed when its time has
// come. What accuses the operator is left out: History.Accused has it.
func Conclude(h *custody.History, now uint64) []custody.Conclusion {
	return ConcludeFrom(h, Found(h, now))
}

// Found runs the rules beside a replay of a history: the findings that each of its items
// completes, and last those whose time has come by now.
func Found(h *custody.History, now uint64) [][]custody.Finding {
	e := New()
	var found [][]custody.Finding
	var last custody.State
	h.Replay(func(st custody.State, it custody.Item, eff custody.Effect) {
		last = st
		found = append(found, e.Apply(st, it, eff))
	})
	if last == nil {
		return nil
	}
	return append(found, due(last, now))
}

// ConcludeFrom is Conclude with what Found gave.
func ConcludeFrom(h *custody.History, found [][]custody.Finding) []custody.Conclusion {
	c := concluder{h: h, parts: map[custody.UnitRef]bool{}, then: map[uint64][]place{}}
	for _, p := range h.Parts {
		if p.URI != "" && p.Followed {
			c.parts[custody.UnitRef{URI: p.URI}] = true
		}
	}
	c.pick(found)
	c.silence()
	// In the order of the entries that completed them, and of those of one entry in one
	// that does not depend on what else the entry speaks of.
	slices.SortStableFunc(c.own, func(x, y custody.Finding) int {
		return cmp.Or(cmp.Compare(slices.Max(x.Evidence), slices.Max(y.Evidence)), cmp.Compare(x.Rule, y.Rule), cmp.Compare(x.ID, y.ID))
	})
	var out []custody.Conclusion
	for i := range c.own {
		out = append(out, conclusion(&c.own[i]))
	}
	return append(out, c.logged()...)
}

type concluder struct {
	h     *custody.History
	parts map[custody.UnitRef]bool
	own   []custody.Finding
	then  map[uint64][]place // what at gave
}

// pick keeps local findings about the unit, about what it was in at that moment, and
// about its parts.
func (c *concluder) pick(found [][]custody.Finding) {
	seen := map[string]bool{}
	now := map[custody.UnitRef]*custody.Unit{}
	for i, fs := range found {
		var in []place
		if i < len(c.h.Effects) {
			eff := &c.h.Effects[i]
			if len(fs) > 0 {
				in = append(in, c.around(now)...)
			}
			for _, u := range eff.Units {
				now[u.Unit] = u.After
			}
			if len(fs) > 0 {
				in = append(in, c.around(now)...)
			}
			in = slices.DeleteFunc(in, func(p place) bool { return contents(eff, p.ref) })
		}
		for _, f := range fs {
			if rule, _ := Lookup(ID(f.Rule)); !rule.Local || rule.Weight == custody.WeightBroken {
				continue
			}
			if seen[f.ID] {
				c.settle(f)
			} else if seen[f.ID] = true; c.concerns(&f, in) {
				c.own = append(c.own, f)
			}
		}
	}
}

// silence takes out what LANE says of a release that MARKET speaks of: for this unit,
// whatever is true of others in a load.
func (c *concluder) silence() {
	market := map[uint64]bool{}
	for _, f := range c.own {
		if ID(f.Rule) == Market {
			market[slices.Max(f.Evidence)] = true
		}
	}
	c.own = slices.DeleteFunc(c.own, func(f custody.Finding) bool { return ID(f.Rule) == Lane && market[slices.Max(f.Evidence)] })
}

// contents reports whether an effect on a load is its own share of a later pack or
// unpack: that stands under its contents, which no closure has.
func contents(eff *custody.Effect, ref custody.UnitRef) bool {
	return slices.ContainsFunc(eff.Units, func(u custody.UnitEffect) bool { return u.Contents && u.Unit == ref })
}

// settle confirms a finding that was provisional, or withdraws it for the units named.
func (c *concluder) settle(f custody.Finding) {
	i := slices.IndexFunc(c.own, func(o custody.Finding) bool { return o.ID == f.ID })
	if i < 0 {
		return
	}
	own := &c.own[i]
	if f.Phase != Withdrawn {
		own.Phase = f.Phase
		return
	}
	own.Units = without(own.Units, f.Units)
	if !c.concerns(own, []place{{c.h.Ref, true}}) {
		c.own = slices.Delete(c.own, i, i+1)
	}
}

// concerns reports whether a finding is about the unit, one of its parts, or what the
// unit was in.
func (c *concluder) concerns(f *custody.Finding, in []place) bool {
	return slices.ContainsFunc(f.Units, func(u custody.FindingUnit) bool {
		ref := refOf(u)
		if c.parts[ref] {
			return true
		}
		return slices.ContainsFunc(in, func(p place) bool {
			return p.ref == ref && (ref == c.h.Ref && !ref.IsLoad() || !c.besides(f, p.member))
		})
	})
}

// besides reports whether a finding about a load or parent says nothing of the unit, and
// rests on lists that are not in its closure: a load is out of its market for the units
// of one lot in it, or off the lanes of one product, not for those that lie beside them
// nor for their parts; and a copy of the parent's key makes no copy of the part.
func (c *concluder) besides(f *custody.Finding, member bool) bool {
	switch ID(f.Rule) {
	case DeviceKeyTwice:
		return true
	case Market:
		return !member || !c.cites(f, custody.KindSerialBlock, lotKey(c.h.Unit))
	case Lane:
		return !member || !c.cites(f, custody.KindRoutePolicy, custody.ProductURI(custody.GTINOf(c.h.Ref.URI)))
	}
	return false
}

// cites reports whether a finding's evidence has a statement of this kind about this.
func (c *concluder) cites(f *custody.Finding, k custody.Kind, subject string) bool {
	return slices.ContainsFunc(f.Evidence, func(n uint64) bool {
		it, ok := c.h.Item(n)
		return ok && it.Signed.Statement.Kind == k && it.Signed.Statement.Subject == subject
	})
}

// place is something that the unit was in; member, if by being packed alone, and not as
// a part of what was.
type place struct {
	ref    custody.UnitRef
	member bool
}

// around lists the unit and what it is in, where units are as given.
func (c *concluder) around(now map[custody.UnitRef]*custody.Unit) []place {
	in := []place{{c.h.Ref, true}}
	member := true
	for u := now[c.h.Ref]; u != nil && u.Place != custody.Free && len(in) <= 64; u = now[u.In] { // levels bound nesting
		member = member && u.Place == custody.InLoad
		in = append(in, place{u.In, member})
	}
	return in
}

func refOf(u custody.FindingUnit) custody.UnitRef {
	ref := custody.UnitRef{URI: u.URI}
	if u.Load != "" {
		ref.Load, _ = entry.ParseHash(u.Load) // Parse refused others
	}
	return ref
}

func conclusion(f *custody.Finding) custody.Conclusion {
	c := custody.Conclusion{Rule: f.Rule, Tier: f.Tier, Accused: f.Accused, Weight: custody.WeightNote, Evidence: f.Evidence, Words: f.Words}
	if rule, ok := Lookup(ID(f.Rule)); ok {
		c.Weight, c.Tier = rule.Weight, rule.Tier
	}
	if f.Phase == Provisional {
		c.Weight = custody.WeightNote
	}
	return c
}

// logged adds the findings in the closure that were not worked out from it, as their
// signer's word. A later withdrawal of the same finding by the same signer ends it.
func (c *concluder) logged() []custody.Conclusion {
	type said struct {
		at    uint64
		actor string
		f     *custody.Finding
	}
	var all []said
	for i, it := range c.h.Items {
		f, ok := it.Signed.Statement.Body.(*custody.Finding)
		if !ok || c.h.Effects[i].Refused != nil || !c.about(f) || slices.ContainsFunc(c.own, func(o custody.Finding) bool { return same(&o, f) }) {
			continue
		}
		actor := it.Signed.Statement.Event.Actor
		all = slices.DeleteFunc(all, func(s said) bool { return same(s.f, f) && s.actor == actor })
		if f.Phase != Withdrawn {
			all = append(all, said{it.Index, actor, f})
		}
	}
	var out []custody.Conclusion
	for i, s := range all {
		if slices.ContainsFunc(all[:i], func(o said) bool { return same(o.f, s.f) }) {
			continue // another said so before
		}
		k := conclusion(s.f)
		at := s.at
		k.Logged = &at
		// The rule's own words: a signer's would be shown as if they were ours.
		k.Words = "a rule that this version does not know"
		if rule, ok := Lookup(ID(s.f.Rule)); ok {
			k.Words = rule.Text
		}
		out = append(out, k)
	}
	return out
}

// same: an ID is what a signer wrote, and may be that of another finding.
func same(x, y *custody.Finding) bool {
	return x.ID == y.ID && x.Rule == y.Rule && slices.Equal(x.Evidence, y.Evidence)
}

// about: a logged finding speaks of the unit, of a part, or of a load or parent that the
// unit was in when the last of its evidence was logged.
func (c *concluder) about(f *custody.Finding) bool {
	if slices.ContainsFunc(f.Units, func(u custody.FindingUnit) bool { ref := refOf(u); return ref == c.h.Ref || c.parts[ref] }) {
		return true
	}
	in := c.at(f.Evidence[len(f.Evidence)-1])
	if ID(f.Rule) == Lane && (custody.GTINOf(c.h.Ref.URI) != "" || c.h.Ref.IsLoad()) && !c.seesLanes() { // of what product it is, the policy would say
		return slices.ContainsFunc(f.Units, func(u custody.FindingUnit) bool { return slices.Contains(in, place{refOf(u), true}) })
	}
	return c.concerns(f, in)
}

// seesLanes reports whether the route policies of the unit's product are in the closure.
func (c *concluder) seesLanes() bool {
	lanes := custody.LaneTopic(custody.GTINOf(c.h.Ref.URI))
	return slices.ContainsFunc(c.h.Topics, func(t custody.TopicUse) bool { return t.Topic == lanes })
}

// at lists the unit and what it was in just before and just after an entry.
func (c *concluder) at(index uint64) (in []place) {
	if in, ok := c.then[index]; ok {
		return in
	}
	defer func() { c.then[index] = in }()
	now := map[custody.UnitRef]*custody.Unit{}
	for i := range c.h.Effects {
		eff := &c.h.Effects[i]
		if eff.Index > index {
			break
		}
		if eff.Index == index {
			in = c.around(now)
		}
		for _, u := range eff.Units {
			now[u.Unit] = u.After
		}
	}
	return append(in, c.around(now)...)
}
