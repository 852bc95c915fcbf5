package epcis

import (
	"strings"

	"github.com/go-json-experiment/json"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/gs1"
)

// voidEvent takes back what an event had become. An error declaration repeats the
// event, so that both have the same event hash.
func (p *planner) voidEvent(e *Event) {
	at := Value{Pointer: e.Error.Pointer, Line: e.Error.Line}
	reason := e.Error.Reason
	if reason != "did_not_occur" && reason != "incorrect_data" {
		p.note("reason %q is not one of CBV; incorrect_data is recorded", cut(reason))
		reason = "incorrect_data"
	}
	var values []Value
	if e.Parent.Text != "" {
		values = append(values, e.Parent)
	}
	values = append(append(values, e.EPCs...), e.Outputs...)
	p.classes(append(e.Classes[:len(e.Classes):len(e.Classes)], e.OutClass...))
	items := p.items(values)
	if !p.require(items) {
		return
	}
	targets := p.targets(items)
	if len(targets) == 0 && len(p.out.Repeats) == 0 && len(p.out.Problems) == 0 {
		p.problem("unknown_statement", at, "no statement of %s was made from the event that this takes back", p.opt.Party)
		return
	}
	for _, t := range targets {
		s := p.emit(draft{kind: custody.KindVoid, ref: custody.UnitRef{URI: t.Subject, Load: t.Load}, at: at,
			body: &custody.Void{Voids: custody.DigestOf(t.ID), Reason: reason}})
		if s != nil {
			p.stale(items)
		}
	}
}

// targets lists the party's own statements that were made from the event at hand,
// latest first, each once. Voided ones are repeats of the correction.
func (p *planner) targets(items []*item) (out []Recorded) {
	seen := map[string]bool{}
	for _, it := range items {
		for _, r := range p.recorded(it.ref.URI) {
			if r.Actor != p.opt.Party || seen[r.ID.String()] || r.Kind == custody.KindVoid {
				continue
			}
			seen[r.ID.String()] = true
			switch {
			case r.Voided, p.voids[r.ID]:
				p.out.repeat(r)
			default:
				out = append([]Recorded{r}, out...)
			}
		}
	}
	return out
}

// stale marks units whose head is known only when the ledger has recorded what
// was planned.
func (p *planner) stale(items []*item) {
	for _, it := range items {
		it.stale = true
		for _, ref := range it.members {
			p.views[ref].stale = true
		}
		if it.in.IsLoad() {
			if v := p.views[it.in]; v != nil {
				v.stale = true
			}
		}
	}
}

// voidShipping takes back the importing party's open release.
func (p *planner) voidShipping(e *Event) {
	items := p.subjects(e)
	if !p.require(items) {
		return
	}
	for _, it := range items {
		if p.repeated(it.ref.URI) || !p.ready(it, false) {
			continue
		}
		if it.stale || it.phase != custody.PhaseReleased || it.party != p.opt.Party {
			p.problem("unknown_statement", it.Value, "%s has no open release by %s to take back", it.ref.URI, p.opt.Party)
			continue
		}
		s := p.emit(draft{kind: custody.KindVoid, ref: it.ref, at: it.Value,
			body: &custody.Void{Voids: custody.DigestOf(it.head), Reason: "did_not_occur"}})
		if s != nil {
			it.stale, it.phase, it.to = true, custody.PhaseHeld, ""
		}
	}
}

// where fills in the place of a statement. The place of an installation is
// sealed: it may be somebody's home.
func (p *planner) where(s *Planned, seal bool) error {
	w := custody.Where{}
	for _, v := range []Value{p.out.Event.Read, p.out.Event.Location} {
		if v.Text == "" {
			continue
		}
		if strings.HasPrefix(strings.ToLower(v.Text), "geo:") {
			if g, ok := geo(v.Text); !ok {
				p.note("position %s is not latitude and longitude in degrees and is left out", cut(v.Text))
			} else if w.Geo == "" {
				w.Geo = g
			}
			continue
		}
		id, err := gs1.Parse(v.Text)
		switch {
		case err != nil && !gs1.Unfollowed(err):
			p.note("place %s is left out: %s", cut(v.Text), err)
		case err == nil && id.Kind == gs1.Site && w.Site == "":
			w.Site = id.URI()
		}
	}
	if w == (custody.Where{}) {
		return nil
	}
	if !seal {
		s.Event.Where = &w
		return nil
	}
	value, err := json.Marshal(w, json.Deterministic(true))
	if err != nil {
		return err
	}
	ref, opening, err := custody.SealGroup("route", p.derive("seal", p.out.Event.HashID, s.Subject), value)
	if err != nil {
		return err
	}
	s.Event.Sealed = map[string]custody.SealedRef{"route": ref}
	s.Openings = []custody.Opening{opening}
	return nil
}

// geo rewrites an RFC 5870 position as statements have it: at most seven
// decimals, without altitude and parameters other than the uncertainty.
func geo(s string) (string, bool) {
	coordinates, params, _ := strings.Cut(s[len("geo:"):], ";")
	parts := strings.Split(coordinates, ",")
	if len(parts) != 2 && len(parts) != 3 {
		return "", false
	}
	out := "geo:" + degrees(parts[0]) + "," + degrees(parts[1])
	for _, param := range strings.Split(params, ";") {
		name, value, _ := strings.Cut(param, "=")
		switch {
		case strings.EqualFold(name, "crs") && !strings.EqualFold(value, "wgs84"):
			return "", false
		case strings.EqualFold(name, "u"):
			whole, frac, _ := strings.Cut(value, ".")
			if strings.Trim(frac, "0") == "" && strings.Trim(whole, "0") != "" {
				out += ";u=" + strings.TrimLeft(whole, "0")
			}
		}
	}
	if _, err := custody.ParseGeo(out); err != nil {
		return "", false
	}
	return out, true
}

// degrees cuts a decimal to seven places and to its canonical spelling.
func degrees(s string) string {
	s = strings.TrimPrefix(s, "+")
	digits, negative := strings.CutPrefix(s, "-")
	whole, frac, _ := strings.Cut(digits, ".")
	if whole = strings.TrimLeft(whole, "0"); whole == "" {
		whole = "0"
	}
	frac = strings.TrimRight(frac[:min(len(frac), 7)], "0")
	out := whole
	if frac != "" {
		out += "." + frac
	}
	if negative && out != "0" {
		out = "-" + out
	}
	return out
}
