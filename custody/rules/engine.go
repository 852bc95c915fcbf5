package rules

import (
	"slices"
	"strings"
	"time"

	"fabtrail.dev/fabtrail/custody"
)

// day is how long the same party's second try counts as a double scan, in
// milliseconds of claimed time.
const day = 24 * 3600 * 1000

// Apply returns the findings that one entry completes. st is the State after the
// fold has applied it, eff what the fold did; entries come in log order. Rows of
// the rules' own are kept in st too.
func Apply(st custody.State, it custody.Item, eff custody.Effect) []Finding {
	e := &engine{st: st, it: it, eff: eff}
	if eff.Refused != nil {
		e.add("ADMITTED", custody.UnitRef{URI: e.subject()}, Operator)
		return e.found
	}
	if it.Signed != nil && it.Signed.Statement != nil && it.Signed.Statement.Event != nil {
		e.s, e.ev = it.Signed.Statement, it.Signed.Statement.Event
		e.fix, e.hasFix = e.place()
		e.country = e.where()
	}
	for i := range eff.Units {
		e.unit(&eff.Units[i])
	}
	e.deviceKey()
	return e.found
}

// engine is the work on one entry.
type engine struct {
	st      custody.State
	it      custody.Item
	eff     custody.Effect
	s       *custody.Statement // nil in governance
	ev      *custody.Event
	fix     fix
	hasFix  bool
	country string
	found   []Finding
}

func (e *engine) subject() string {
	if e.it.Signed != nil && e.it.Signed.Statement != nil {
		return e.it.Signed.Statement.Subject
	}
	return ""
}

func (e *engine) add(rule string, unit custody.UnitRef, accused string, evidence ...uint64) {
	r, ok := Get(rule)
	if !ok {
		panic("rules: no rule " + rule)
	}
	evidence = append(evidence, e.eff.Index)
	slices.Sort(evidence)
	e.found = append(e.found, Finding{Rule: r, Accused: accused, Unit: unit, Evidence: slices.Compact(evidence), Index: e.eff.Index})
}

// unit looks at what one statement did to one unit.
func (e *engine) unit(u *custody.UnitEffect) {
	if u.Operator {
		e.add("ADMITTED", u.Unit, Operator, u.Index)
		return
	}
	own := u.Statement == e.eff.ID // else it had waited, and only its code is known
	switch u.Outcome {
	case custody.NoEffect:
		e.illegal(u)
	case custody.Applied, custody.Noted:
		if own {
			e.travel(u)
			e.market(u)
			e.lane(u)
		}
	}
	if own {
		e.counter(u)
	}
}

// illegal draws findings from a statement without effect.
func (e *engine) illegal(u *custody.UnitEffect) {
	b := u.Before
	switch u.Code {
	case custody.CodeAlreadyExists:
		if e.mayCommission(b, u.Actor) {
			e.add("DUP_COMMISSION", u.Unit, u.Actor, b.CommissionAt, u.Index)
		} else {
			e.add("SERIAL_NOT_IN_BLOCK", u.Unit, u.Actor, b.CommissionAt, u.Index)
		}
	case custody.CodeNoProduct, custody.CodeNoBlock, custody.CodeNotCommissioner, custody.CodeNotInBlock:
		e.add("SERIAL_NOT_IN_BLOCK", u.Unit, u.Actor, u.Index)
	case custody.CodeNotCommissioned:
		if custody.Kind(u.Kind).Chained() {
			e.add("UNKNOWN_SERIAL", u.Unit, u.Actor, u.Index)
		}
	case custody.CodeEnded:
		e.add("AFTER_END", u.Unit, u.Actor, b.HeadIndex, u.Index)
	case custody.CodeNotReceiver:
		e.add("WRONG_RECEIVER", u.Unit, u.Actor, b.HeadIndex, u.Index)
	case custody.CodeInstalled:
		if u.Kind == custody.KindInstall && !e.again(u, b.HeadIndex) {
			e.add("DOUBLE_INSTALL", u.Unit, u.Actor, b.HeadIndex, u.Index)
		}
	case custody.CodePart:
		if u.Kind == custody.KindAssemble && b.In.URI != e.subject() {
			e.add("PART_TWICE", u.Unit, u.Actor, b.Since, u.Index)
		}
	case custody.CodeNoPossession:
		e.add("POSSESSION", u.Unit, u.Actor, b.HeadIndex, u.Index)
	case custody.CodeNotHolder, custody.CodeNotReleased, custody.CodeSuperseded, custody.CodeOnTheWay:
		e.outsider(u)
	}
}

// outsider is a party that acts where it holds nothing: with a rival by another
// party both claim one place in the chain; by the same party it is a late copy.
func (e *engine) outsider(u *custody.UnitEffect) {
	if !u.Rival.IsZero() {
		if n, ok := custody.LoadNamed(e.st, u.Rival); ok && n.Actor == u.Actor {
			return
		}
		if e.heldAt(u) {
			e.add("FORK", u.Unit, u.Actor, u.RivalIndex, u.Index)
			return
		}
	}
	if u.Code != custody.CodeSuperseded || !u.Rival.IsZero() {
		e.add("NON_CUSTODIAN", u.Unit, u.Actor, u.Before.HeadIndex, u.Index)
	}
}

// heldAt reports whether the actor made the statement that both rivals cite, so
// that the unit was its to move. A stranger's was not.
func (e *engine) heldAt(u *custody.UnitEffect) bool {
	if e.ev == nil || e.ev.Chain == nil || e.ev.Chain.Prev == nil || u.Statement != e.eff.ID {
		return false
	}
	n, ok := custody.LoadNamed(e.st, e.ev.Chain.Prev.Hash())
	return ok && n.Actor == u.Actor
}

// again reports whether the statement is the same party's second try within a
// day of log time of the statement at index.
func (e *engine) again(u *custody.UnitEffect, index uint64) bool {
	if u.Before.Party != u.Actor {
		return false
	}
	n, ok := custody.LoadNamed(e.st, u.Before.Head)
	return ok && n.Index == index && e.eff.Time-n.Time < day
}

func (e *engine) mayCommission(u *custody.Unit, party string) bool {
	if p, ok := custody.LoadProduct(e.st, custody.GTINOf(u.Ref.URI)); ok && p.Owner == party {
		return true
	}
	l, ok := custody.LoadLot(e.st, u.Lot)
	return ok && slices.Contains(l.Commissioners, party)
}

// deviceKey looks at a key that the statement binds.
func (e *engine) deviceKey() {
	if e.s == nil {
		return
	}
	k, ok := e.s.DeviceKey()
	if !ok {
		return
	}
	bound := custody.LoadBindings(e.st, k.Hash)
	if len(bound) == 0 || bound[len(bound)-1].Index != e.eff.Index || !bound[len(bound)-1].Authorised {
		return
	}
	last := bound[len(bound)-1]
	for _, b := range bound[:len(bound)-1] {
		if b.Authorised && b.Unit != last.Unit {
			e.add("DEVICE_KEY_TWICE", custody.UnitRef{URI: last.Unit}, last.Actor, b.Index)
			e.add("DEVICE_KEY_TWICE", custody.UnitRef{URI: b.Unit}, last.Actor, b.Index)
			return
		}
	}
}

// counter holds a device's counter against the highest one that it signed.
func (e *engine) counter(u *custody.UnitEffect) {
	if e.ev == nil || e.ev.Device == nil || len(u.Before.DeviceKey) == 0 || u.Unit.IsLoad() {
		return
	}
	k, err := custody.ParseKey(u.Before.DeviceKey)
	if err != nil || e.s.VerifyDevice(k) != nil {
		return // says nothing about the device
	}
	row := rowCounter + u.Unit.URI
	at := e.claimed()
	highest, ok := loadCounter(e.st, row)
	if ok && e.ev.Device.Counter <= highest.value && (e.ev.Device.Counter == highest.value || at > highest.at+slack) {
		e.add("COUNTER", u.Unit, u.Actor, highest.index)
		return
	}
	if !ok || e.ev.Device.Counter > highest.value {
		counter{e.ev.Device.Counter, at, e.eff.Index}.store(e.st, row)
	}
}

// claimed is the statement's occurredAt in Unix milliseconds.
func (e *engine) claimed() int64 {
	t, err := time.Parse(time.RFC3339, e.ev.OccurredAt)
	if err != nil {
		return 0 // Parse has checked it
	}
	return t.UnixMilli()
}

// where is the country that the statement claims: as written, or that of its
// actor's site.
func (e *engine) where() string {
	w := e.ev.Where
	if w == nil {
		return ""
	}
	if w.Country != "" {
		return w.Country
	}
	if s, ok := e.site(); ok {
		return s.Country
	}
	if len(w.Locode) == 5 {
		return w.Locode[:2]
	}
	return ""
}

func (e *engine) site() (custody.Site, bool) {
	if e.ev.Where == nil || e.ev.Where.Site == "" {
		return custody.Site{}, false
	}
	p, ok := custody.LoadParty(e.st, e.ev.Actor)
	if !ok {
		return custody.Site{}, false
	}
	return p.Site(e.ev.Where.Site)
}

// carries reports whether party only moves goods: where it is says nothing about
// where they are sold.
func (e *engine) carries(party string) bool {
	p, ok := custody.LoadParty(e.st, party)
	return ok && !slices.ContainsFunc(p.Roles, func(r string) bool { return !strings.HasPrefix(r, "carrier") && r != "forwarder" })
}

// Rows of the rules' own; "x" is theirs among the fold's letters.
const (
	rowCounter = "xc"
	rowFix     = "xf"
	rowCargo   = "xl"
)
