package rules

import (
	"slices"

	"fabtrail.dev/fabtrail/custody"
)

// markets runs the rules of lots and lanes on the unit or load that a statement is
// about. What a load holds was counted when it was packed.
func (r *work) markets() {
	switch r.s.Kind {
	case custody.KindRelease, custody.KindAccept, custody.KindInstall, custody.KindSighting:
	default:
		return
	}
	for i := range r.eff.Units {
		u := &r.eff.Units[i]
		if u.Unit != r.subject || u.Late || !(u.Outcome == custody.Applied || u.Kind == custody.KindSighting && u.Outcome == custody.Noted) {
			continue
		}
		var in []string // lots that stay within their markets
		for _, l := range r.lotsOf(u) {
			if !r.market(u, l) {
				in = append(in, l)
			}
		}
		if rel, ok := r.s.Body.(*custody.Release); ok {
			r.lanes(u, rel, in)
		}
	}
}

// lotsOf returns the lots, or products, of a unit or of what a load holds.
func (r *work) lotsOf(u *custody.UnitEffect) []string {
	if !u.Unit.IsLoad() {
		if k := lotKey(u.After); k != "" {
			return []string{k}
		}
		return nil
	}
	var ls []string
	for _, l := range r.get(u.Unit).lots {
		ls = append(ls, l.lot)
	}
	return ls
}

// market: units of a lot are released to, taken by, installed by or seen with a
// party that sells or installs, outside the countries of the lot. Makers, carriers
// and others may have them anywhere. A party all of whose sites lie outside is
// named by the release to it; what it does with them then is the same diversion.
func (r *work) market(u *custody.UnitEffect, lot string) bool {
	l, ok := custody.LoadLot(r.st, lot)
	if !ok || len(l.Countries) == 0 {
		return false
	}
	outside := func(country string) bool { return !slices.Contains(l.Countries, country) }
	if rel, ok := r.s.Body.(*custody.Release); ok {
		to, ok := custody.LoadParty(r.st, rel.To)
		if !ok || !sells(to) || !allSites(to, outside) {
			return false
		}
		r.report(Market, Confirmed, u.Actor, []custody.UnitRef{u.Unit}, []uint64{l.Index, u.Index},
			"%s released %s to %s, whose sites are all outside the countries of lot %s", u.Actor, u.Unit.URI, rel.To, lot)
		return true
	}
	p, ok := custody.LoadParty(r.st, u.Actor)
	if !ok || !sells(p) || allSites(p, outside) {
		return false
	}
	country := r.country(p)
	if country == "" || !outside(country) {
		return false
	}
	r.report(Market, Confirmed, u.Actor, []custody.UnitRef{u.Unit}, []uint64{l.Index, u.Index},
		"%s has %s in %s, outside the countries of lot %s", u.Actor, u.Unit.URI, country, lot)
	return true
}

// sells reports whether a party brings goods to market.
func sells(p custody.PartyState) bool {
	return slices.Contains(p.Roles, custody.RoleDistributor) || slices.Contains(p.Roles, custody.RoleInstaller)
}

func allSites(p custody.PartyState, in func(country string) bool) bool {
	return len(p.Sites) > 0 && !slices.ContainsFunc(p.Sites, func(s custody.Site) bool { return !in(s.Country) })
}

// country is where the statement says that it happened; "" if it does not say.
func (r *work) country(p custody.PartyState) string {
	w := r.ev.Where
	if w == nil {
		return ""
	}
	if w.Country != "" {
		return w.Country
	}
	if s, ok := p.Site(w.Site); ok && w.Site != "" {
		return s.Country
	}
	if len(w.Locode) == 5 {
		return w.Locode[:2]
	}
	return ""
}

// lanes: a release of lots that no step of their product's route policy allows.
func (r *work) lanes(u *custody.UnitEffect, rel *custody.Release, lots []string) {
	var done []string
	for _, lot := range lots {
		gtin := custody.GTINOf(lot)
		if slices.Contains(done, gtin) {
			continue
		}
		done = append(done, gtin)
		rs, ok := custody.LoadRoute(r.st, gtin)
		if !ok || allows(rs.Steps, rel) {
			continue
		}
		r.report(Lane, Confirmed, u.Actor, []custody.UnitRef{u.Unit}, []uint64{rs.Index, u.Index},
			"%s released %s to %s, which no step of the route policy of product %s allows", u.Actor, u.Unit.URI, rel.To, gtin)
	}
}

func allows(steps []custody.RouteStep, rel *custody.Release) bool {
	return slices.ContainsFunc(steps, func(s custody.RouteStep) bool {
		if !slices.Contains(s.From, rel.From) || !slices.Contains(s.To, rel.To) {
			return false
		}
		return len(s.Modes) == 0 || rel.Transport == nil || rel.Transport.Mode == "" || slices.Contains(s.Modes, rel.Transport.Mode)
	})
}
