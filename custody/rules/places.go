package rules

import (
	"slices"

	"fabtrail.dev/fabtrail/custody"
)

// position is where the statement says that it happened: its own position, or
// that of the actor's site that it names.
func (r *work) position() (custody.Geo, bool) {
	w := r.ev.Where
	if w == nil {
		return custody.Geo{}, false
	}
	text := w.Geo
	if text == "" && w.Site != "" {
		if p, ok := custody.LoadParty(r.st, r.ev.Actor); ok {
			if site, ok := p.Site(w.Site); ok {
				text = site.Geo
			}
		}
	}
	if text == "" {
		return custody.Geo{}, false
	}
	g, err := custody.ParseGeo(text)
	return g, err == nil
}

// witnessed reports whether a unit's effect tells where it truly was, as far as
// the one who has it in hand says so.
func (r *work) witnessed(u *custody.UnitEffect) bool {
	if u.Late || u.Kind == custody.KindVoid || u.Kind == custody.KindLift || u.Kind == custody.KindHold || u.Kind == custody.KindOwnership || u.Kind == custody.KindIdentity {
		return false
	}
	if u.Outcome == custody.Applied {
		return true
	}
	return u.Outcome == custody.Noted && (u.Kind == custody.KindSighting || u.Kind == custody.KindQAResult) && custody.Keeper(r.st, u.Unit) == u.Actor
}

// whereabouts returns what carries a unit's position before this statement: the
// load that it left or is in, else the unit itself.
func whereabouts(u *custody.Unit) custody.UnitRef {
	if u.Place == custody.InLoad {
		return u.In
	}
	return u.Ref
}

// journeys compares the statement's position with the last one of each unit.
func (r *work) journeys() {
	if !r.located {
		return
	}
	for i := range r.eff.Units {
		u := &r.eff.Units[i]
		seen := u.Outcome == custody.Noted && u.Kind == custody.KindSighting
		if !r.witnessed(u) && !seen {
			continue
		}
		carrier := whereabouts(u.Before)
		m := r.get(carrier)
		if !m.located || m.index == r.it.Index {
			continue
		}
		if d, ms, ok := r.impossible(m); ok {
			// Of what was unpacked, not of the load: others in it do not know where it is.
			r.report(Travel, Confirmed, u.Actor, []custody.UnitRef{u.Unit}, []uint64{m.index, r.it.Index},
				"%s was in two places %d km apart within %d minutes", u.Unit.URI, d/1000, ms/60_000)
		}
	}
}

// impossible returns the distance in metres and the time in milliseconds between
// the statement and a memory, and whether no journey joins them.
func (r *work) impossible(m *memo) (metres, millis int64, ok bool) {
	d := chord(m.lat, m.lon, r.pos.Lat, r.pos.Lon) - int64(m.metres) - int64(r.pos.Metres)
	dt := r.occurred - m.at
	if dt < 0 {
		dt = -dt
	}
	return d, dt, d >= nearMetres && d > (dt+travelSlack)/1000*maxSpeed
}

// remember keeps what later statements are compared with.
func (r *work) remember(u *custody.UnitEffect) {
	if u.Outcome == custody.Applied && !u.Late {
		r.rememberChange(u)
	}
	r.moveLots(u)
	if !r.witnessed(u) {
		return
	}
	if u.Outcome == custody.Noted && u.After.Place == custody.InLoad {
		return // seen inside a load: the load's own list does not know
	}
	if r.located {
		m := r.change(u.Unit)
		if m.located && m.at > r.occurred {
			return // a late upload of an earlier sighting
		}
		m.located, m.lat, m.lon, m.metres, m.at, m.index = true, r.pos.Lat, r.pos.Lon, r.pos.Metres, r.occurred, r.it.Index
		return
	}
	// Out of a load without saying where: where the load was last.
	if u.Kind == custody.KindUnpack && u.Before.Place == custody.InLoad {
		if from := r.get(u.Before.In); from.located {
			m := r.change(u.Unit)
			m.located, m.lat, m.lon, m.metres, m.at, m.index = true, from.lat, from.lon, from.metres, from.at, from.index
		}
	}
}

func (r *work) rememberChange(u *custody.UnitEffect) {
	if !u.Kind.Chained() && u.Kind != custody.KindVoid {
		return
	}
	m := r.change(u.Unit)
	if u.Kind.Chained() {
		m.custodyAt = max(m.custodyAt, r.occurred)
	}
	switch u.Kind {
	case custody.KindCommission:
		m.maker, m.madeAt = u.Actor, r.it.Time
	case custody.KindInstall:
		m.installed, m.installedAt = r.it.Index, r.it.Time
	}
}

// lotKey is what a load counts a unit under: its lot, or its product.
func lotKey(u *custody.Unit) string {
	if u.Lot != "" {
		return u.Lot
	}
	if gtin := custody.GTINOf(u.Ref.URI); gtin != "" {
		return custody.ProductURI(gtin)
	}
	return ""
}

// moveLots keeps count of what loads hold, from where units were before and are
// now: voids undo by themselves.
func (r *work) moveLots(u *custody.UnitEffect) {
	if u.Before.In == u.After.In && u.Before.Place == u.After.Place {
		return
	}
	move := func(load custody.UnitRef, sign int64) {
		if !u.Unit.IsLoad() {
			r.change(load).addLot(lotKey(u.After), sign)
			return
		}
		for _, l := range slices.Clone(r.get(u.Unit).lots) {
			r.change(load).addLot(l.lot, sign*l.n)
		}
	}
	if u.Before.Place == custody.InLoad {
		move(u.Before.In, -1)
	}
	if u.After.Place == custody.InLoad {
		move(u.After.In, +1)
	}
}

// device checks the counter of a device that signed a statement which took
// effect, so that its signature was verified.
func (r *work) device() {
	if r.ev.Device == nil {
		return
	}
	if r.binds() {
		r.bound()
	}
	for i := range r.eff.Units {
		u := &r.eff.Units[i]
		if u.Outcome != custody.Applied || u.Late || u.Unit != r.subject || len(u.After.DeviceKey) == 0 {
			continue
		}
		m := r.change(u.Unit)
		c := r.ev.Device.Counter
		if m.counterIndex != 0 && (c == m.counter || c < m.counter && r.occurred >= m.counterAt) {
			r.report(Counter, Confirmed, u.Actor, []custody.UnitRef{u.Unit}, []uint64{m.counterIndex, r.it.Index},
				"the device of %s signed with counter %d, after %d", u.Unit.URI, c, m.counter)
		}
		if m.counterIndex == 0 || c > m.counter {
			m.counter, m.counterAt, m.counterIndex = c, r.occurred, r.it.Index
		}
	}
}

func (r *work) binds() bool { _, ok := r.s.DeviceKey(); return ok }

// bound: a device key that was bound to another serial before, by somebody
// entitled to bind it.
func (r *work) bound() {
	k, _ := r.s.DeviceKey()
	bs := custody.LoadBindings(r.st, k.Hash)
	i := slices.IndexFunc(bs, func(b custody.Binding) bool { return b.Index == r.it.Index && b.Authorised })
	if i < 0 {
		return
	}
	for _, b := range bs[:i] {
		if b.Unit != r.s.Subject && b.Authorised {
			r.report(DeviceKeyTwice, Confirmed, r.ev.Actor, []custody.UnitRef{r.subject, {URI: b.Unit}}, []uint64{b.Index, r.it.Index},
				"the device key of %s is bound to %s as well", b.Unit, r.s.Subject)
		}
	}
}
