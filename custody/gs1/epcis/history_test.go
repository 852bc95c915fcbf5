package epcis

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/problem"
)

// TestHistories imports random documents of two parties and submits what is
// planned: as long as nothing before it in the document was without effect, the
// door never finds a head, load or manifest of a plan wrong. And whatever was
// imported, importing it again makes nothing new of the same events.
func TestHistories(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := newLedger(t)
		units := []string{board1, board2, chip1, chip2}
		boxes := []string{carton, pallet, freight}
		some := func(of []string) []string {
			return rapid.SliceOfNDistinct(rapid.SampledFrom(of), 1, 2, rapid.ID[string]).Draw(rt, "some")
		}
		one := func(of ...string) string { return rapid.SampledFrom(of).Draw(rt, "one") }
		l.take(l.plan(maker, document(`"eventTime":"2026-11-01T00:00:00Z",`+objectEvent("ADD", "commissioning", lot1, units...))))
		minute := 0
		for range rapid.IntRange(2, 12).Draw(rt, "documents") {
			me, other := maker, carrier
			if rapid.Bool().Draw(rt, "carrier") {
				me, other = carrier, maker
			}
			var events []string
			for range rapid.IntRange(1, 5).Draw(rt, "events") {
				minute++
				thing := some(append(units[:4:4], boxes...))
				events = append(events, fmt.Sprintf(`"eventTime":"2026-11-01T%02d:%02d:00Z",`, minute/60, minute%60)+one(
					objectEvent("ADD", "commissioning", lot1, "urn:epc:id:sgtin:4012345.011111.m"+fmt.Sprint(minute)),
					family("AggregationEvent", "ADD", "packing", one(boxes...), "", some(append(units[:4:4], boxes...))...),
					family("AggregationEvent", "DELETE", "unpacking", one(boxes...), ""),
					family("AggregationEvent", "DELETE", "unpacking", one(boxes...), "", thing...),
					family("AssociationEvent", "ADD", "assembling", one(board1, board2), "", some([]string{chip1, chip2})...),
					family("AssociationEvent", "DELETE", "disassembling", one(board1, board2), ""),
					objectEvent("OBSERVE", "removing", "", chip1),
					objectEvent("OBSERVE", "shipping", handover("possessing_party", me, other), thing...),
					objectEvent("OBSERVE", "receiving", "", thing...),
					objectEvent("OBSERVE", "receiving", "", append(units[:4:4], boxes...)...),
					objectEvent("OBSERVE", "void_shipping", "", thing...),
					objectEvent("OBSERVE", "inspecting", `,"disposition":"conformant"`, thing...),
					objectEvent("OBSERVE", "holding", `,"disposition":"recalled"`, thing...),
					objectEvent("OBSERVE", "storing", "", thing...),
				))
			}
			doc := document(events...)
			plan := l.plan(me, doc)
			whole := true
			for _, s := range plan.Statements {
				eff, err := l.submit(s.Payload, s.Manifest, s.Signers...)
				if err != nil {
					switch p := problem.As(err); {
					case p == nil:
						rt.Fatal(err)
					case p.Type == "wrong_role", p.Type == "no_effect_limit", p.Type == "already_recorded":
					case s.Unknown:
					default:
						rt.Fatalf("%s of %s: %v\n%s\n%v", s.Kind, s.Subject, err, doc, lines(plan))
					}
					whole = false
					break
				}
				for _, u := range eff.Units {
					whole = whole && u.Outcome != custody.NoEffect && u.Outcome != custody.Waits
				}
				if !whole {
					break // what follows may build on what had no effect
				}
			}
			if !whole {
				continue
			}
			for i, o := range l.plan(me, doc).Outcomes {
				if first := plan.Outcomes[i]; len(first.Statements) > 0 && len(first.Problems) == 0 && len(o.Statements) > 0 {
					rt.Fatalf("event %d was %s and makes new statements when it is imported again: %v then %v\n%s", i, first.Result, lines(plan), lines(l.plan(me, doc)), doc)
				}
			}
		}
	})
}
