package rules

import (
	"slices"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// Engine draws findings as bodies of statements; it has no state of its own.
type Engine struct{}

// Apply is the function Apply, for whoever takes an engine.
func (Engine) Apply(st custody.State, it custody.Item, eff custody.Effect) []custody.Finding {
	var out []custody.Finding
	for _, f := range Apply(st, it, eff) {
		out = append(out, *f.Body())
	}
	return out
}

// Conclude gives what findings say about the unit of a history, for its verdict:
// those that the closure shows by itself, and those logged under the unit. item
// finds an entry outside of the closure, such as the evidence of a logged finding
// (ok is false when it is not at hand).
func Conclude(h *custody.History, item func(index uint64) (custody.Item, bool)) []custody.Conclusion {
	c := concluder{h: h, item: item, seen: map[entry.Hash]bool{}}
	c.replay()
	c.logged()
	return c.out
}

type concluder struct {
	h    *custody.History
	item func(uint64) (custody.Item, bool)
	seen map[entry.Hash]bool // findings drawn here
	out  []custody.Conclusion
}

// replay folds the closure again, rules beside it.
func (c *concluder) replay() {
	tracked := map[entry.Topic]bool{}
	for _, t := range c.h.Topics {
		tracked[t.Topic] = true
	}
	st := custody.MapState{}
	fold := custody.Fold{Track: func(t entry.Topic) bool { return tracked[t] }}
	for _, it := range c.h.Items {
		for _, f := range Apply(st, it, fold.Apply(st, it)) {
			if !f.Rule.Closure || f.Accused == Operator || !c.concerns(st, f.Unit) {
				continue // what accuses the operator is in h.Accused
			}
			c.seen[f.ID()] = true
			c.out = append(c.out, custody.Conclusion{
				Rule: f.Rule.ID, Tier: string(f.Rule.Tier), Accused: f.Accused,
				Weight: f.Rule.Weight, Evidence: f.Evidence, Words: f.Rule.Words,
			})
		}
	}
}

// concerns reports whether a finding is about the unit, or about something that it
// was in when the finding was completed.
func (c *concluder) concerns(st custody.State, ref custody.UnitRef) bool {
	at := c.h.Ref
	for range 64 { // levels bound nesting
		if at == ref {
			return true
		}
		u := custody.LoadUnit(st, at)
		if u == nil || u.Place == custody.Free {
			return false
		}
		at = u.In
	}
	return false
}

// logged adds the findings that somebody logged under the unit or what it is in,
// unless they were drawn here already.
func (c *concluder) logged() {
	for _, it := range c.h.Items {
		f, ok := it.Signed.Statement.Body.(*custody.Finding)
		if !ok {
			continue
		}
		id, err := entry.ParseHash(f.ID)
		if err != nil || c.seen[id] || f.Phase == "withdrawn" || !c.about(f) {
			continue
		}
		c.seen[id] = true
		weight := custody.WeightNote
		if r, ok := Get(f.Rule); ok {
			weight = r.Weight
		}
		index := it.Index
		c.out = append(c.out, custody.Conclusion{
			Rule: f.Rule, Tier: f.Tier, Accused: f.Accused, Weight: weight, Evidence: f.Evidence,
			Words: words(f), Logged: &index, Rerun: c.rerun(f),
		})
	}
}

// words never repeats a signer's own words: what people read is the rule's text.
func words(f *custody.Finding) string {
	if r, ok := Get(f.Rule); ok {
		return r.Words
	}
	return "a rule that this version does not know"
}

func (c *concluder) about(f *custody.Finding) bool {
	return slices.ContainsFunc(f.Units, func(u custody.FindingUnit) bool {
		load, _ := entry.ParseHash(u.Load) // zero without one; Parse refused others
		ref := custody.UnitRef{URI: u.URI, Load: load}
		return ref == c.h.Ref || slices.ContainsFunc(c.h.Topics, func(t custody.TopicUse) bool { return t.Topic == ref.Topic() })
	})
}

// rerun gives a logged LANE finding again from its evidence: a release, and a
// route policy of the owner of the product that does not allow it. That no later
// policy was in force is the signer's word; the finding is provisional.
func (c *concluder) rerun(f *custody.Finding) bool {
	if f.Rule != "LANE" {
		return false
	}
	var release *custody.Statement
	var route *custody.RoutePolicy
	for _, i := range f.Evidence {
		it, ok := c.item(i)
		if !ok {
			return false
		}
		s := it.Signed.Statement
		switch b := s.Body.(type) {
		case *custody.Release:
			release = s
		case *custody.RoutePolicy:
			gtin := custody.GTINOf(s.Subject)
			p, ok := custody.LoadProduct(c.h.State, gtin)
			if ok && p.Owner == b.Actor && gtin == custody.GTINOf(c.h.Ref.URI) {
				route = b
			}
		}
	}
	if release == nil || route == nil {
		return false
	}
	b := release.Body.(*custody.Release)
	return f.Accused == release.Event.Actor && !allows(custody.RouteState{Steps: route.Steps}, b.From, b.To)
}
