package rules

import (
	"slices"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// Conclude gives what findings say about the unit of a history, for its verdict:
// first those that its closure shows by itself, then those that were logged about
// it. item fetches verified entries that findings name, in the closure or not; it
// may be nil. What accuses the operator is left out: History.Accused has it.
func Conclude(h *custody.History, item func(index uint64) (custody.Item, bool)) []custody.Conclusion {
	c := concluder{h: h, item: item, parts: map[custody.UnitRef]bool{}}
	for _, p := range h.Parts {
		if p.URI != "" {
			c.parts[custody.UnitRef{URI: p.URI}] = true
		}
	}
	c.replay()
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

// replay folds the closure again with the rules beside it, and keeps local
// findings about the unit, about what it was in at that moment, and about its
// parts.
func (c *concluder) replay() {
	e := New()
	c.h.Replay(func(st custody.State, it custody.Item, eff custody.Effect) {
		found := e.Apply(st, it, eff)
		if len(found) == 0 {
			return
		}
		in := c.around(st, eff)
		for _, f := range found {
			rule, _ := Lookup(ID(f.Rule))
			if !rule.Local || rule.Weight == custody.WeightBroken || !slices.ContainsFunc(f.Units, func(u custody.FindingUnit) bool {
				ref := refOf(u)
				return c.parts[ref] || slices.Contains(in, ref)
			}) {
				continue
			}
			i := slices.IndexFunc(c.own, func(o custody.Finding) bool { return o.ID == f.ID })
			switch {
			case f.Phase == Withdrawn && i >= 0:
				c.own = slices.Delete(c.own, i, i+1)
			case f.Phase != Withdrawn && i < 0:
				c.own = append(c.own, f)
			case f.Phase == Confirmed:
				c.own[i].Phase = Confirmed
			}
		}
	})
}

// around lists the unit and what it is in, just before and just after an entry.
func (c *concluder) around(st custody.State, eff custody.Effect) []custody.UnitRef {
	in := []custody.UnitRef{c.h.Ref}
	up := func(u *custody.Unit) {
		for range 64 { // levels bound nesting
			if u == nil || u.Place == custody.Free {
				return
			}
			in = append(in, u.In)
			u = custody.LoadUnit(st, u.In)
		}
	}
	up(custody.LoadUnit(st, c.h.Ref))
	for _, u := range eff.Units {
		if u.Unit == c.h.Ref {
			up(u.Before)
		}
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
		if !ok || c.h.Effects[i].Refused != nil || !slices.ContainsFunc(f.Units, c.about) ||
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
func (c *concluder) about(u custody.FindingUnit) bool {
	ref := refOf(u)
	if ref == c.h.Ref || c.parts[ref] || slices.Contains(c.h.Within, ref) {
		return true
	}
	return slices.ContainsFunc(c.h.On(c.h.Ref), func(e custody.UnitEffect) bool { return e.After.Place != custody.Free && e.After.In == ref })
}

// rerun reports whether the entries that a logged finding names show it again. It
// covers the rule that a closure does not, LANE: a release that took effect, and a
// route policy of the product's owner that does not allow it. That no later policy
// was in force is its signer's word.
func (c *concluder) rerun(f *custody.Finding) bool {
	if c.item == nil || ID(f.Rule) != Lane || f.RuleSet != Version || len(f.Evidence) != 2 {
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
