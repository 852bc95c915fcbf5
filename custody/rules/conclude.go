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
// come. item fetches verified entries that findings name, in the closure or not; nil:
// those of the closure. What accuses the operator is left out: History.Accused has it.
func Conclude(h *custody.History, now uint64, item func(index uint64) (custody.Item, bool)) []custody.Conclusion {
	return ConcludeFrom(h, Found(h, now), item)
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
func ConcludeFrom(h *custody.History, found [][]custody.Finding, item func(index uint64) (custody.Item, bool)) []custody.Conclusion {
	if item == nil {
		item = h.Item
	}
	c := concluder{h: h, item: item, parts: map[custody.UnitRef]bool{}}
	for _, p := range h.Parts {
		if p.URI != "" {
			c.parts[custody.UnitRef{URI: p.URI}] = true
		}
	}
	c.pick(found)
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
	item  func(uint64) (custody.Item, bool)
	parts map[custody.UnitRef]bool
	own   []custody.Finding
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
// of one lot in it, not for those that lie beside them nor for their parts; and a copy of
// the parent's key makes no copy of the part.
func (c *concluder) besides(f *custody.Finding, member bool) bool {
	switch ID(f.Rule) {
	case DeviceKeyTwice:
		return true
	case Market:
		lot := lotKey(c.h.Unit)
		return !member || !slices.ContainsFunc(f.Evidence, func(n uint64) bool {
			it, ok := c.h.Item(n)
			return ok && it.Signed.Statement.Kind == custody.KindSerialBlock && it.Signed.Statement.Subject == lot
		})
	}
	return false
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

// logged adds the findings in the closure that were not worked out from it: those
// whose evidence is at hand and shows them again, and others as their signer's
// word. A later withdrawal of the same finding by the same signer ends it.
func (c *concluder) logged() []custody.Conclusion {
	type said struct {
		at    uint64
		actor string
		f     *custody.Finding
	}
	var all []said
	for i, it := range c.h.Items {
		f, ok := it.Signed.Statement.Body.(*custody.Finding)
		if !ok || c.h.Effects[i].Refused != nil || !slices.ContainsFunc(f.Units, func(u custody.FindingUnit) bool { return c.about(f, u) }) ||
			slices.ContainsFunc(c.own, func(o custody.Finding) bool { return o.ID == f.ID }) {
			continue
		}
		actor := it.Signed.Statement.Event.Actor
		all = slices.DeleteFunc(all, func(s said) bool { return s.f.ID == f.ID && s.actor == actor })
		if f.Phase != Withdrawn && !slices.ContainsFunc(all, func(s said) bool { return s.f.ID == f.ID }) {
			all = append(all, said{it.Index, actor, f})
		}
	}
	var out []custody.Conclusion
	for _, s := range all {
		k := conclusion(s.f)
		at := s.at
		k.Logged, k.Rerun = &at, c.rerun(s.f)
		for _, n := range s.f.Evidence {
			if _, ok := c.item(n); !ok {
				k.Missing = append(k.Missing, n)
			}
		}
		// The rule's own words: a signer's would be shown as if they were ours.
		k.Words = "a rule that this version does not know"
		if rule, ok := Lookup(ID(s.f.Rule)); ok {
			k.Words = rule.Text
		}
		out = append(out, k)
	}
	return out
}

// about: a logged finding speaks of the unit, of a part, or of a load or parent
// that the closure has followed.
func (c *concluder) about(f *custody.Finding, u custody.FindingUnit) bool {
	ref := refOf(u)
	if ref == c.h.Ref || c.parts[ref] {
		return true
	}
	if !c.h.Ref.IsLoad() && c.besides(f, true) {
		return false
	}
	return slices.Contains(c.h.Within, ref) ||
		slices.ContainsFunc(c.h.On(c.h.Ref), func(e custody.UnitEffect) bool { return e.After.Place != custody.Free && e.After.In == ref })
}

// rerun reports whether the entries that a logged finding names show it again. It
// covers the rule that a closure does not, LANE: a release that took effect, and a
// route policy of the product's owner that does not allow it. That no later policy
// was in force is its signer's word.
func (c *concluder) rerun(f *custody.Finding) bool {
	if ID(f.Rule) != Lane || f.RuleSet != Version || len(f.Evidence) != 2 {
		return false
	}
	policy, ok1 := c.item(f.Evidence[0])
	release, ok2 := c.item(f.Evidence[1])
	if !ok1 || !ok2 {
		return false
	}
	route, ok1 := policy.Signed.Statement.Body.(*custody.RoutePolicy)
	rel, ok2 := release.Signed.Statement.Body.(*custody.Release)
	if !ok1 || !ok2 || allows(route.Steps, rel) || release.Signed.Statement.Event.Actor != f.Accused {
		return false
	}
	gtin := custody.GTINOf(policy.Signed.Statement.Subject)
	owner, ok := custody.LoadProduct(c.h.State, gtin)
	if !ok || owner.Owner != route.Actor || custody.GTINOf(c.h.Ref.URI) != gtin {
		return false
	}
	subject := subjectOf(release.Signed.Statement)
	return f.ID == FindingID(Lane, subject, f.Evidence).String() &&
		slices.ContainsFunc(c.h.On(subject), func(u custody.UnitEffect) bool {
			return u.Index == f.Evidence[1] && u.Outcome == custody.Applied
		})
}
