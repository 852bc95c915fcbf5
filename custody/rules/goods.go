package rules

import (
	"slices"
	"strings"

	"fabtrail.dev/fabtrail/custody"
)

// cargo is what a load holds, as far as rules ask: products, and the countries
// where all of them may be sold.
type cargo struct {
	gtins     []string // ascending
	countries []string // ascending; meaningful only when limited
	limited   bool
}

// maxGTINs bounds the products remembered of one load.
const maxGTINs = 16

func loadCargo(st custody.State, ref custody.UnitRef) (c cargo) {
	b := string(st.Get(rowCargo + ref.String()))
	if b == "" {
		return cargo{}
	}
	g, l, limited := strings.Cut(b, "|")
	c.gtins, c.limited = strings.Fields(g), limited
	c.countries = strings.Fields(l)
	return c
}

func (c cargo) store(st custody.State, ref custody.UnitRef) {
	s := strings.Join(c.gtins, " ")
	if c.limited {
		s += "|" + strings.Join(c.countries, " ")
	}
	if s != "" {
		st.Set(rowCargo+ref.String(), []byte(s))
	}
}

func (c *cargo) add(o cargo) {
	for _, g := range o.gtins {
		if i, found := slices.BinarySearch(c.gtins, g); !found && len(c.gtins) < maxGTINs {
			c.gtins = slices.Insert(c.gtins, i, g)
		}
	}
	switch {
	case !o.limited:
	case !c.limited:
		c.limited, c.countries = true, o.countries
	default:
		c.countries = slices.DeleteFunc(slices.Clone(c.countries), func(x string) bool { return !slices.Contains(o.countries, x) })
	}
}

// goods says what a unit or load is, for lanes and markets.
func (e *engine) goods(u *custody.Unit) cargo {
	if u.Ref.IsLoad() {
		return loadCargo(e.st, u.Ref)
	}
	var c cargo
	if g := custody.GTINOf(u.Ref.URI); g != "" {
		c.gtins = []string{g}
	}
	if l, ok := custody.LoadLot(e.st, u.Lot); ok && len(l.Countries) > 0 {
		c.limited, c.countries = true, slices.Sorted(slices.Values(l.Countries))
	}
	return c
}

// packed remembers what a load holds when a member joins it.
func (e *engine) packed(u *custody.UnitEffect) {
	if u.Kind != custody.KindPack || u.Unit == u.After.In || u.After.Place != custody.InLoad {
		return
	}
	c := loadCargo(e.st, u.After.In)
	c.add(e.goods(u.Before))
	c.store(e.st, u.After.In)
}

// market looks where goods come to rest: accepted, taken out of their load,
// installed or seen by a party that is no mere carrier.
func (e *engine) market(u *custody.UnitEffect) {
	if u.Outcome == custody.Applied {
		e.packed(u)
	}
	switch u.Kind {
	case custody.KindAccept, custody.KindUnpack, custody.KindInstall, custody.KindSighting:
	default:
		return
	}
	if e.country == "" || e.carries(u.Actor) {
		return
	}
	if c := e.goods(u.After); c.limited && !slices.Contains(c.countries, e.country) {
		e.add("MARKET", u.Unit, u.Actor, e.lots(u)...)
	}
}

// lots names the serial block that limits a unit's countries.
func (e *engine) lots(u *custody.UnitEffect) []uint64 {
	if l, ok := custody.LoadLot(e.st, u.After.Lot); ok && !u.Unit.IsLoad() {
		return []uint64{l.Index}
	}
	return nil
}

// lane holds a release against the route policies of the products on the way.
func (e *engine) lane(u *custody.UnitEffect) {
	b, ok := e.s.Body.(*custody.Release)
	if !ok || u.Outcome != custody.Applied {
		return
	}
	for _, g := range e.goods(u.Before).gtins {
		route, ok := custody.LoadRoute(e.st, g)
		if ok && !allows(route, b.From, b.To) {
			e.add("LANE", u.Unit, u.Actor, route.Index)
			return
		}
	}
}

func allows(r custody.RouteState, from, to string) bool {
	return slices.ContainsFunc(r.Steps, func(s custody.RouteStep) bool {
		return slices.Contains(s.From, from) && slices.Contains(s.To, to)
	})
}
