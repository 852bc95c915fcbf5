package rules

import (
	"fmt"
	"slices"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// Parameters of the rules, part of the rule set's digest.
const (
	dayMillis   = 24 * 3600 * 1000
	maxSpeed    = 250             // m/s: airliners are slower over ground
	travelSlack = 2 * 3600 * 1000 // ms: clocks that are an hour wrong, twice
	nearMetres  = 300_000         // shorter ways prove nothing
	maxUnits    = 1000            // that one finding lists
)

// Engine runs the rules. It keeps its memory in the State that it is given, under
// keys of its own, and nothing in itself.
type Engine struct{}

// New returns an engine.
func New() *Engine { return &Engine{} }

// Apply returns the findings that one entry completes: first those that had waited
// long enough to be confirmed, then its own, in the order of the units in its effect. It is called once for every entry in log order, right after
// custody.Fold.Apply or custody.Decide changed st. An item without a statement (an
// index commitment) does nothing: findings are confirmed by the next statement.
func (*Engine) Apply(st custody.State, it custody.Item, eff custody.Effect) []custody.Finding {
	if it.Signed == nil || it.Signed.Statement == nil {
		return nil
	}
	found := due(st, it.Time)
	own := judge(st, it, eff)
	settle(st, own, it.Time)
	return append(found, own...)
}

// judge returns the findings that one statement completes by itself.
func judge(st custody.State, it custody.Item, eff custody.Effect) []custody.Finding {
	s := it.Signed.Statement
	if s.Kind == custody.KindSerialBlock && eff.Refused == nil && st.Get(quotaRow+s.Subject) != nil {
		r := &work{st: st, it: it, s: s}
		r.weigh(s.Subject, loadQuota(st, s.Subject), nil)
		return r.found
	}
	if s.Event == nil || s.Kind == custody.KindFinding {
		return nil
	}
	r := &work{st: st, it: it, s: s, ev: s.Event, eff: eff, memos: memos{st: st, rows: map[custody.UnitRef]*memo{}}, subject: subjectOf(s)}
	if t, err := custody.ParseTime(s.Event.OccurredAt); err == nil {
		r.occurred = t.UnixMilli()
	}
	if eff.Refused != nil {
		r.refused()
		return r.found
	}
	r.pos, r.located = r.position()
	for i := range eff.Units {
		r.claims(&eff.Units[i])
	}
	r.device()
	r.journeys()
	r.markets()
	r.quotas()
	for i := range eff.Units {
		r.remember(&eff.Units[i])
	}
	r.flush()
	return r.found
}

// work is the work on one entry.
type work struct {
	memos
	st       custody.State
	it       custody.Item
	s        *custody.Statement
	ev       *custody.Event
	eff      custody.Effect
	subject  custody.UnitRef
	occurred int64 // claimed time, Unix ms
	pos      custody.Geo
	located  bool
	found    []custody.Finding
}

// subjectOf is the unit that a finding's id is made of.
func subjectOf(s *custody.Statement) custody.UnitRef {
	ref := custody.UnitRef{URI: s.Subject}
	switch {
	case s.Event.Load != "":
		ref.Load, _ = entry.ParseHash(s.Event.Load)
	case s.Kind == custody.KindPack:
		ref.Load = s.ID
	}
	return ref
}

// report adds a finding, or a unit to the same finding about other units.
func (r *work) report(rule ID, phase, accused string, units []custody.UnitRef, evidence []uint64, format string, a ...any) {
	r.reportAs(rule, phase, accused, r.subject, units, evidence, fmt.Sprintf(format, a...))
}

func (r *work) reportAs(rule ID, phase, accused string, subject custody.UnitRef, units []custody.UnitRef, evidence []uint64, words string) {
	evidence = slices.Clone(evidence)
	slices.Sort(evidence)
	evidence = slices.Compact(evidence)
	id := FindingID(rule, subject, evidence).String()
	i := slices.IndexFunc(r.found, func(f custody.Finding) bool { return f.ID == id && f.Phase == phase })
	if i < 0 {
		info, _ := Lookup(rule)
		r.found = append(r.found, custody.Finding{Rule: string(rule), Tier: info.Tier, Phase: phase, Accused: accused,
			Evidence: evidence, ID: id, RuleSet: Version, Words: words})
		i = len(r.found) - 1
	}
	f := &r.found[i]
	for _, u := range units {
		fu := custody.FindingUnit{URI: u.URI}
		if u.IsLoad() {
			fu.Load = u.Load.String()
		}
		if len(f.Units) < maxUnits && !slices.Contains(f.Units, fu) {
			f.Units = append(f.Units, fu)
		}
	}
}

func (r *work) operator() string {
	return custody.LogURIPrefix + custody.LoadGovernance(r.st).Origin
}

// refused accuses the operator of an entry that the door should have kept out.
func (r *work) refused() {
	units := []custody.UnitRef{r.subject}
	if r.s.Kind == custody.KindCommission && r.s.Contents() != nil {
		units = units[:0]
		for _, m := range r.it.Members {
			units = append(units, custody.UnitRef{URI: m.URI})
		}
	}
	if len(units) == 0 {
		return
	}
	if at, ok := r.eff.Refused.Extra["revokedAt"].(uint64); ok && r.eff.Refused.Type == "key_revoked" {
		r.report(KeyRevoked, Confirmed, r.operator(), units, []uint64{at, r.it.Index},
			"the log admitted a statement of %s under a key that had ended", r.ev.Actor)
		return
	}
	r.report(Admission, Confirmed, r.operator(), units, []uint64{r.it.Index},
		"the log admitted a statement that its door refuses (%s)", r.eff.Refused.Type)
}

// claims judges what a statement claimed for one unit without effect.
func (r *work) claims(u *custody.UnitEffect) {
	units := []custody.UnitRef{u.Unit}
	before := u.Before
	switch {
	case u.Operator:
		r.report(Admission, Confirmed, r.operator(), units, []uint64{u.Index},
			"the log admitted %s for which its door sends the party back (%s)", u.Kind.Noun(), u.Code)
	case u.Outcome == custody.Applied:
		if u.Kind == custody.KindCommission {
			r.commissioned(u)
		}
	case before.Phase == custody.PhaseNone && !u.Unit.IsLoad() && u.Kind != custody.KindCommission && u.Kind != custody.KindDispute && u.Kind != custody.KindVoid:
		r.unknown(u)
	case u.Outcome == custody.Noted:
		if u.Kind == custody.KindSighting && before.Phase == custody.PhaseEnded && !r.late(u) {
			r.report(AfterEnd, Confirmed, u.Actor, units, []uint64{before.HeadIndex, u.Index}, "%s was seen after it was retired", u.Unit.URI)
		}
	case u.Outcome == custody.NoEffect:
		r.illegal(u, units)
	}
}

// late reports whether a statement tells of a time before the state that it
// contradicts.
func (r *work) late(u *custody.UnitEffect) bool {
	return u.Late || r.occurred < r.get(u.Unit).custodyAt
}

func (r *work) illegal(u *custody.UnitEffect, units []custody.UnitRef) {
	before := u.Before
	uri := u.Unit.URI
	switch {
	case u.Kind == custody.KindVoid || u.Kind == custody.KindDispute || u.Kind == custody.KindLift:
		// They only fail to change anything.
	case u.Kind == custody.KindCommission:
		r.dupOrBlock(u, units)
	case u.Code == custody.CodeEnded:
		if !r.late(u) && !(before.Party == u.Actor && r.nearHead(before)) {
			r.report(AfterEnd, Confirmed, u.Actor, units, []uint64{before.HeadIndex, u.Index}, "%s was retired, and %s claims %s of it", uri, u.Actor, u.Kind.Noun())
		}
	case u.Kind == custody.KindInstall && before.Phase == custody.PhaseInstalled:
		m := r.get(u.Unit)
		if before.Party != u.Actor || !r.near(m.installedAt) {
			r.report(DoubleInstall, Confirmed, u.Actor, units, []uint64{m.installed, u.Index}, "%s and %s both claim to have installed %s", before.Party, u.Actor, uri)
		}
	case u.Code == custody.CodeNotReceiver:
		r.report(WrongReceiver, Confirmed, u.Actor, units, []uint64{before.HeadIndex, u.Index}, "%s was released to %s, and %s claims %s", uri, before.To, u.Actor, u.Kind.Noun())
	case u.Code == custody.CodePart && u.Kind == custody.KindAssemble && before.In.URI != r.s.Subject:
		// It speaks of the part alone: who verifies either device follows its parts.
		r.report(PartTwice, Confirmed, u.Actor, units, []uint64{before.Since, u.Index},
			"%s is part of %s, and %s claims to have built it into %s", uri, before.In.URI, u.Actor, r.s.Subject)
	case u.Code == custody.CodeNoPossession:
		if r.ev.Device != nil && !u.Late {
			r.report(Possession, Confirmed, u.Actor, units, []uint64{before.HeadIndex, u.Index}, "another device than the one bound to %s signed %s by %s", uri, u.Kind.Noun(), u.Actor)
		}
	case !u.Rival.IsZero() && r.moved(u):
		r.fork(u, units)
	case r.foreign(u):
		if !r.late(u) {
			r.report(NonCustodian, Confirmed, u.Actor, units, []uint64{before.HeadIndex, u.Index}, "%s claims %s of %s without holding it (%s)", u.Actor, u.Kind.Noun(), uri, u.Code)
		}
	}
}

// nearHead reports whether the unit's latest statement was admitted at most a day
// before this one.
func (r *work) nearHead(u *custody.Unit) bool {
	n, ok := custody.LoadNamed(r.st, u.Head)
	return ok && r.it.Time-n.Time <= dayMillis
}

// near reports whether an admission time lies at most a day back.
func (r *work) near(time uint64) bool { return r.it.Time-time <= dayMillis }

// foreignCodes are the reasons that a statement of somebody who has the unit in
// hand does not fail for, but that of others does.
var foreignCodes = []custody.Code{custody.CodeNotHolder, custody.CodeLoadNotHeld, custody.CodeLoadNotFree, custody.CodeNotReleased,
	custody.CodeOnTheWay, custody.CodeInstalled, custody.CodeNotInstalled, custody.CodePacked, custody.CodePart,
	custody.CodeNotHere, custody.CodeNotThisPart, custody.CodeParent}

func (r *work) foreign(u *custody.UnitEffect) bool {
	return slices.Contains(foreignCodes, u.Code) && custody.Keeper(r.st, u.Unit) != u.Actor
}

// moved reports whether the actor made the statement that both rivals cite, so
// that the unit was its to move then. A stranger's was not.
func (r *work) moved(u *custody.UnitEffect) bool {
	self, ok := custody.LoadNamed(r.st, u.Statement)
	if !ok {
		return false
	}
	if u.Unit != r.subject || self.Prev.IsZero() {
		// A member or part: what it cites stands in the manifest, not in prev.
		rival, ok := custody.LoadNamed(r.st, u.Rival)
		return ok && (u.Before.Party == u.Actor || rival.Actor == u.Actor)
	}
	prev, ok := custody.LoadNamed(r.st, self.Prev)
	return ok && prev.Actor == u.Actor
}

// fork: two statements cite one predecessor. By one party within a day it is a
// slip; the same kind by one party is a repeat, however late.
func (r *work) fork(u *custody.UnitEffect, units []custody.UnitRef) {
	rival, ok := custody.LoadNamed(r.st, u.Rival)
	if !ok {
		return
	}
	if rival.Actor == u.Actor && (rival.Kind == u.Kind || r.near(rival.Time)) {
		return
	}
	evidence := []uint64{u.RivalIndex, u.Index}
	if self, ok := custody.LoadNamed(r.st, u.Statement); ok && u.Unit == r.subject {
		if prev, ok := custody.LoadNamed(r.st, self.Prev); ok {
			evidence = append(evidence, prev.Index)
		}
	}
	r.report(Fork, Confirmed, u.Actor, units, evidence, "%s by %s and %s by %s claim the same place in the history of %s",
		rival.Kind.Noun(), rival.Actor, u.Kind.Noun(), u.Actor, u.Unit.URI)
}

func (r *work) dupOrBlock(u *custody.UnitEffect, units []custody.UnitRef) {
	uri := u.Unit.URI
	switch u.Code {
	case custody.CodeAlreadyExists, custody.CodeEnded:
		m := r.get(u.Unit)
		if m.maker == u.Actor && r.near(m.madeAt) {
			return
		}
		if !custody.MayCommission(r.st, u.Actor, uri, u.Before.Lot) {
			// Without a block it is no rival commission, but a claim on a foreign serial.
			r.report(SerialNotInBlock, Confirmed, u.Actor, units, []uint64{u.Before.CommissionAt, u.Index},
				"%s commissioned %s, which exists and which no serial block gives to it", u.Actor, uri)
			return
		}
		rule, words := DupCommission, "%s commissioned %s, and %s claims to have commissioned it again"
		if u.Code == custody.CodeEnded {
			rule, words = AfterEnd, "%s commissioned %s, which was retired, and %s commissions it again"
		}
		r.report(rule, Confirmed, u.Actor, units, []uint64{u.Before.CommissionAt, u.Index}, words, m.maker, uri, u.Actor)
	case custody.CodeNotInBlock, custody.CodeNotCommissioner, custody.CodeNoBlock, custody.CodeNoProduct:
		evidence := []uint64{u.Index}
		if b, ok := r.s.Body.(*custody.Commission); ok {
			if l, ok := custody.LoadLot(r.st, custody.LotOf(r.s.Subject, uri, b.Lot)); ok {
				evidence = append(evidence, l.Index)
			}
		}
		r.report(SerialNotInBlock, Confirmed, u.Actor, units, evidence, "%s commissioned %s, which no serial block gives to it (%s)", u.Actor, uri, u.Code)
	}
}

// unknown: a statement about a serial that was never commissioned. The commission
// may only be late, so the finding is provisional until it comes.
func (r *work) unknown(u *custody.UnitEffect) {
	r.report(UnknownSerial, Provisional, u.Actor, []custody.UnitRef{u.Unit}, []uint64{u.Index},
		"%s claims %s of %s, which nobody has commissioned", u.Actor, u.Kind.Noun(), u.Unit.URI)
	m := r.change(u.Unit)
	m.unknown = append(m.unknown, claim{u.Index, u.Actor, r.subject.String()})
}

// commissioned withdraws what was said of a serial whose commission was late.
func (r *work) commissioned(u *custody.UnitEffect) {
	m := r.get(u.Unit)
	for _, c := range m.unknown {
		subject, err := custody.ParseUnitRef(c.unit)
		if err != nil {
			continue
		}
		r.reportAs(UnknownSerial, Withdrawn, c.actor, subject, []custody.UnitRef{u.Unit}, []uint64{c.index},
			fmt.Sprintf("%s was commissioned by a statement that came later", u.Unit.URI))
	}
	if len(m.unknown) > 0 {
		r.change(u.Unit).unknown = nil
	}
}
