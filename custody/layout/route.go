package layout

import (
	"fmt"
	"slices"
	"strings"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// step is one step of a route: one statement, or the two halves of a hand-over.
type step struct {
	name  string // of the step, without its number
	state entry.Hash
	files []custody.Item // who files a link: one, or giver and receiver
	parts []part
}

// part is a component that a step puts into the unit, or takes out of it.
type part struct {
	uri   string
	state entry.Hash
	out   bool
}

// refusal is the problem of a unit that is not exported.
func refusal(h *custody.History, format string, a ...any) *problem.Problem {
	return problem.New("not_exportable", "", format, a...).With("uri", h.Ref.URI).
		WithHint("only the closed history of a good unit is exported; 'fabtrail verify' lists what stands against it")
}

// good says why the unit is not one to be exported, or nil.
func good(in Input) error {
	h := in.History
	if in.Verdict.Word != custody.Verified && in.Verdict.Word != custody.VerifiedNote {
		return refusal(h, "the verdict about this unit is %s: %s", in.Verdict.Word, strings.Join(in.Verdict.Failed(), ", "))
	}
	for _, r := range in.Verdict.Reasons {
		if !r.Passed && (r.Code == "handover" || r.Code == "pending") {
			return refusal(h, "its history is not closed: %s", r.Text)
		}
	}
	for _, f := range in.Findings {
		if f.Weight > custody.WeightNone && h.Standing[f.Accused] {
			return refusal(h, "a finding stands against %s, a party of its history: %s (%s)", f.Accused, f.Words, f.Rule)
		}
	}
	return nil
}

// route lists the steps of a unit's history in their order.
func route(h *custody.History) ([]step, error) {
	items, err := events(h)
	if err != nil {
		return nil, err
	}
	var steps []step
	for i := 0; i < len(items); i++ {
		it := items[i]
		s := step{name: string(it.Signed.Statement.Kind), state: it.ID(), files: []custody.Item{it}, parts: parts(h.Ref.URI, it)}
		switch it.Signed.Statement.Kind {
		case custody.KindRelease, custody.KindUninstall:
			if i+1 == len(items) || !answers(items[i+1], it.ID()) {
				return nil, refusal(h, "entry %d released it, and nobody has accepted", it.Index)
			}
			i++
			s.files = append(s.files, items[i])
			if s.name == string(custody.KindRelease) {
				s.name = "hand-over"
			}
			if items[i].Signed.Statement.Kind == custody.KindRefuse {
				s.name += "-refused"
			}
		case custody.KindAccept, custody.KindRefuse:
			return nil, refusal(h, "entry %d answers no release of this history", it.Index)
		}
		steps = append(steps, s)
	}
	if len(steps) == 0 || steps[0].name != string(custody.KindCommission) {
		return nil, refusal(h, "its history does not begin with its commissioning")
	}
	return steps, nil
}

// events lists the statements that moved the unit, or what it was in, in the order
// in which they took effect; those taken back are left out.
func events(h *custody.History) ([]custody.Item, error) {
	now := map[custody.UnitRef]*custody.Unit{}
	in := func(ref custody.UnitRef) bool { return slices.Contains(around(now, h.Ref), ref) }
	var out []custody.Item
	for i := range h.Effects {
		for _, u := range h.Effects[i].Units {
			if u.Outcome != custody.Applied || u.Contents {
				continue
			}
			concerned := in(u.Unit)
			now[u.Unit] = u.After
			if !concerned || slices.ContainsFunc(out, func(x custody.Item) bool { return x.ID() == u.Statement }) {
				continue // of one statement about unit and load, once is enough
			}
			it, ok := h.Item(u.Index)
			if !ok {
				return nil, refusal(h, "entry %d is missing from its history", u.Index)
			}
			if v, ok := it.Signed.Statement.Body.(*custody.Void); ok {
				id := v.Voids.Hash()
				out = slices.DeleteFunc(out, func(x custody.Item) bool { return x.ID() == id })
			} else if u.Kind.Chained() {
				out = append(out, it)
			}
		}
	}
	for _, ref := range around(now, h.Ref) {
		u := custody.LoadUnit(h.State, ref)
		if u == nil || now[ref] == nil || u.Head != now[ref].Head {
			return nil, refusal(h, "what happened to %s is not known in full", ref)
		}
	}
	return out, nil
}

// around is the unit and what it is in, innermost first.
func around(now map[custody.UnitRef]*custody.Unit, ref custody.UnitRef) []custody.UnitRef {
	refs := []custody.UnitRef{ref}
	for u := now[ref]; u != nil && u.Place != custody.Free && !slices.Contains(refs, u.In); u = now[u.In] {
		refs = append(refs, u.In)
	}
	return refs
}

// answers reports whether it is the other half of a hand-over.
func answers(it custody.Item, release entry.Hash) bool {
	switch b := it.Signed.Statement.Body.(type) {
	case *custody.Accept:
		return b.Accepts.Hash() == release
	case *custody.Refuse:
		return b.Refuses.Hash() == release
	}
	return false
}

// parts lists the serialised components of an assemble of the unit itself.
func parts(unit string, it custody.Item) []part {
	b, ok := it.Signed.Statement.Body.(*custody.Assemble)
	if !ok || it.Signed.Statement.Subject != unit {
		return nil
	}
	var ps []part
	for _, c := range b.Components {
		switch {
		case c.URI == "":
		case b.Action == "remove":
			ps = append(ps, part{c.URI, it.ID(), true})
		default:
			ps = append(ps, part{c.URI, c.Head.Hash(), false})
		}
	}
	return ps
}

// ArtifactName is the name of a unit among the materials and products of Links.
func ArtifactName(uri string) string {
	segments := strings.Split(strings.TrimPrefix(uri, "https://"), "/")
	for i, s := range segments {
		segments[i] = plain(s)
	}
	return strings.Join(segments, "/")
}

// plain percent-encodes what could mean something in a path or a glob pattern.
func plain(segment string) string {
	var b strings.Builder
	dots := strings.Trim(segment, ".") == ""
	for _, c := range []byte(segment) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.' && !dots:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
