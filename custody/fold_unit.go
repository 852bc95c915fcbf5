package custody

import (
	"slices"

	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// quarantineReturn is the lane step under which goods on hold may go back to
// their owner.
const quarantineReturn = "quarantine-return"

// single folds a chained statement about one unit or load.
func (r *run) single() {
	ref := UnitRef{r.s.Subject, r.load}
	if !r.tracks(ref.Topic()) {
		return
	}
	u := r.unit(ref)
	j := r.judge(u, r.prev, "/predicate/chain/prev", r.legal)
	switch {
	case j.refusal != nil:
		r.refuse(ref, j.code, j.refusal)
	case j.waits:
		r.wait(u)
	case j.code != "":
		e := r.result(ref, NoEffect, j.code)
		e.Rival, e.RivalIndex = j.rival, j.rivalAt
	case r.ev.Chain.Seq != u.Seq+1:
		r.refuse(ref, CodeSeq, wrongSeq(r.ev.Chain.Seq, u.Seq+1))
	default:
		r.move(u)
		r.settle(ref)
	}
}

func wrongSeq(got, want int64) *problem.Problem {
	return problem.New("invalid_statement", "/predicate/chain/seq", "seq is %d after a statement with seq %d", got, want-1).
		WithHint("give %d", want)
}

// inHand says why the actor cannot move u: it must be held by the actor, in no
// load and in no parent. It reads nothing but u.
func (r *run) inHand(u *Unit) Code {
	switch {
	case u.Phase == PhaseNone:
		if u.Ref.IsLoad() {
			return CodeNoLoad
		}
		return CodeNotCommissioned
	case u.Phase == PhaseEnded:
		return CodeEnded
	case u.Place == InLoad:
		return CodePacked
	case u.Place == PartOf:
		return CodePart
	case u.Phase == PhaseReleased:
		return CodeOnTheWay
	case u.Phase == PhaseInstalled:
		return CodeInstalled
	case u.Party != r.actor:
		return CodeNotHolder
	}
	return ""
}

// legal says whether the chained single-unit statement at hand may apply to u in
// this state, its chain apart.
func (r *run) legal(u *Unit) Code {
	if c := r.legalState(u); c != "" {
		return c
	}
	return r.deviceSigned(u)
}

func (r *run) legalState(u *Unit) Code {
	switch b := r.s.Body.(type) {
	case *Release:
		return r.legalRelease(u, b)
	case *Accept, *Refuse:
		return r.legalAccept(u)
	case *Install:
		if c := r.inHand(u); c != "" {
			return c
		}
		if !r.clear(u) {
			return CodeHeld
		}
		if u.Identity != IdentityRegistered && u.Identity != IdentityOperational {
			return CodeIdentity
		}
		if len(u.DeviceKey) > 0 && r.ev.Device == nil {
			return CodeNoPossession
		}
		return ""
	case *Uninstall:
		return r.legalInstalled(u)
	case *Retire:
		if u.Phase == PhaseInstalled {
			return r.legalInstalled(u)
		}
		return r.inHand(u)
	}
	return CodeNotEntitled
}

func (r *run) legalRelease(u *Unit, b *Release) Code {
	if c := r.inHand(u); c != "" {
		return c
	}
	if b.From != r.actor {
		return CodeNotHolder
	}
	if r.clear(u) {
		return ""
	}
	if b.Lane != nil && b.Lane.Step == quarantineReturn && (b.To == u.Owner || r.ownsGTIN(u.Ref, b.To)) {
		return ""
	}
	return CodeHeld
}

// legalAccept is for accept and refuse. Which release they answer is judged by
// the chain, for the release is the head; so accepts and refuses only repeat it.
func (r *run) legalAccept(u *Unit) Code {
	switch {
	case u.Phase == PhaseNone:
		return r.inHand(u)
	case u.Phase == PhaseEnded:
		return CodeEnded
	case u.Place == InLoad:
		return CodePacked
	case u.Place == PartOf:
		return CodePart
	case u.Phase == PhaseInstalled:
		return CodeInstalled
	case u.Phase != PhaseReleased:
		return CodeNotReleased
	case u.To != r.actor:
		return CodeNotReceiver
	}
	return ""
}

// legalInstalled is for what may be done to a unit in use: by who installed it,
// who owns it, or a service party.
func (r *run) legalInstalled(u *Unit) Code {
	switch {
	case u.Phase == PhaseNone:
		return CodeNotCommissioned
	case u.Phase == PhaseEnded:
		return CodeEnded
	case u.Phase != PhaseInstalled:
		return CodeNotInstalled
	case u.Place == PartOf:
		return CodePart
	case u.Party == r.actor || u.Owner == r.actor || r.hasRole(r.actor, RoleService):
		return ""
	}
	return CodeNotHolder
}

// deviceSigned checks the device's own signature where the statement carries one
// and a key is bound to the unit. Commission and identity bind a key themselves,
// and Open has verified that.
func (r *run) deviceSigned(u *Unit) Code {
	if r.ev.Device == nil || len(u.DeviceKey) == 0 {
		return ""
	}
	if _, binds := r.s.DeviceKey(); binds {
		return ""
	}
	check := deviceCheck{r.s.ID, string(u.DeviceKey)}
	good, done := r.f.verified[check]
	if !done {
		k, err := ParseKey(u.DeviceKey)
		good = err == nil && r.s.VerifyDevice(k) == nil
		if r.f.verified != nil {
			r.f.verified[check] = good
		}
	}
	if !good {
		return CodeNoPossession
	}
	return ""
}

// move applies the chained single-unit statement at hand, which is legal.
func (r *run) move(before *Unit) {
	if named, ok := answers(r.s); ok && named != before.Head {
		r.result(before.Ref, NoEffect, CodeWrongRelease)
		return
	}
	u := before.Clone()
	u.advance(r.s.ID, r.index)
	switch b := r.s.Body.(type) {
	case *Release:
		u.Phase, u.To = PhaseReleased, b.To
	case *Accept:
		u.Phase, u.Party, u.To = PhaseHeld, r.actor, ""
	case *Refuse:
		u.Phase, u.To = PhaseHeld, ""
		r.addHold(u, RankKeeper, "refused: "+b.Reason)
	case *Install:
		u.Phase, u.Party = PhaseInstalled, r.actor
		if r.ev.Where != nil {
			u.Site = r.ev.Where.Site
		}
	case *Uninstall:
		u.Phase, u.Party, u.To, u.Site = PhaseReleased, r.actor, b.To, ""
	case *Retire:
		u.Phase, u.To, u.Site = PhaseEnded, "", ""
		u.Identity = IdentityRevoked
	}
	r.put(u)
	r.changed(before, u, Applied, CodeApplied)
}

// answers returns the release that an accept or refuse names.
func answers(s *Statement) (entry.Hash, bool) {
	var d Digest
	switch b := s.Body.(type) {
	case *Accept:
		d = b.Accepts
	case *Refuse:
		d = b.Refuses
	default:
		return entry.Hash{}, false
	}
	h, _ := entry.ParseHash(d.SHA256)
	return h, true
}

// maxHolds bounds the holds of one unit, and maxTransfers the sales of one load by
// one party: what members are whose is not looked up then, so strangers can sell a
// load to each other, and must not use up what its owners need.
const (
	maxHolds     = 64
	maxTransfers = 16
)

// addHold opens a hold under the statement at hand and puts it on u, a clone.
func (r *run) addHold(u *Unit, rank Rank, reason string) {
	openHold{By: r.actor, Rank: rank, Reason: reason, Index: r.index}.store(r.st, r.s.ID)
	u.Holds = append(r.openHolds(u), HoldRef{r.s.ID, r.s.ID})
}

// unchained folds a statement that does not chain about one unit or load.
func (r *run) unchained() {
	ref := UnitRef{r.s.Subject, r.load}
	if !r.tracksUnchained(ref) {
		return
	}
	before := r.unit(ref)
	u := before.Clone()
	o, c := r.turn(u)
	r.bind(ref, o == Applied)
	if o == Applied {
		r.put(u)
		r.changed(before, u, o, c)
		return
	}
	r.result(ref, o, c)
}

// tracksUnchained: an identity that binds a key concerns the key's record too.
func (r *run) tracksUnchained(ref UnitRef) bool {
	if r.tracks(ref.Topic()) {
		return true
	}
	k, ok := r.s.DeviceKey()
	return ok && r.tracks(deviceTopic(k.Hash))
}

// turn changes u, a clone, as the unchained statement says.
func (r *run) turn(u *Unit) (Outcome, Code) {
	if r.s.Kind == KindSighting {
		return Noted, CodeNoted
	}
	if b, ok := r.s.Body.(*Lift); ok {
		return r.lift(u, b)
	}
	switch {
	case u.Phase == PhaseNone:
		return NoEffect, r.inHand(u)
	case u.Phase == PhaseEnded:
		return NoEffect, CodeEnded
	}
	if c := r.deviceSigned(u); c != "" {
		return NoEffect, c
	}
	switch b := r.s.Body.(type) {
	case *Identity:
		return r.identity(u, b)
	case *FirmwareLoad:
		if !r.serves(u) {
			return NoEffect, CodeNotEntitled
		}
		image, _ := entry.ParseHash(b.Image.SHA256)
		u.setFirmware(b.Slot, image)
		return Applied, CodeApplied
	case *QAResult:
		if !r.serves(u) && !r.hasRole(r.actor, RoleLab) {
			return NoEffect, CodeNotEntitled
		}
		if b.Result != "FAILED" {
			return Noted, CodeNoted
		}
		if !r.serves(u) { // a lab without the unit: a claim, not a hold
			return NoEffect, CodeNotEntitled
		}
		return r.hold(u, RankKeeper, "qa failed")
	case *Ownership:
		return r.ownership(u, b)
	case *Hold:
		rank := r.rank(u, r.actor)
		if rank == RankNone {
			return NoEffect, CodeNotEntitled
		}
		return r.hold(u, rank, b.Reason)
	}
	return NoEffect, CodeNotEntitled
}

// serves reports whether the actor may load firmware into u or test it: whoever
// has it in hand, the owner of its GTIN, or a service party once it is in use.
func (r *run) serves(u *Unit) bool {
	return r.keeps(u, r.actor) || r.ownsGTIN(u.Ref, r.actor) ||
		u.Phase == PhaseInstalled && r.hasRole(r.actor, RoleService)
}

func (r *run) hold(u *Unit, rank Rank, reason string) (Outcome, Code) {
	if len(r.openHolds(u)) >= maxHolds {
		return NoEffect, CodeTooMany
	}
	r.addHold(u, rank, reason)
	return Applied, CodeApplied
}

// lift ends a hold for every unit that carries it. Who placed it may lift it, or
// a higher rank; after a refusal or a failed test also who has the unit in hand.
func (r *run) lift(u *Unit, b *Lift) (Outcome, Code) {
	id, _ := entry.ParseHash(b.Lifts.SHA256)
	h, open := loadHold(r.st, id)
	if !open || !slices.ContainsFunc(u.Holds, func(x HoldRef) bool { return x.ID == id }) {
		return NoEffect, CodeHoldNotOpen
	}
	n, _ := LoadNamed(r.st, id)
	own := h.By == r.actor || n.Kind != KindHold && r.keeps(u, r.actor)
	if !own && r.rank(u, r.actor) <= h.Rank {
		return NoEffect, CodeNotEntitled
	}
	r.st.Set(string(rowHold)+string(id[:]), nil)
	u.Holds = r.openHolds(u)
	return Applied, CodeApplied
}

func (r *run) ownership(u *Unit, b *Ownership) (Outcome, Code) {
	if b.From == b.To {
		return NoEffect, CodeNotOwner
	}
	owner := r.owner(u)
	if u.Ref.IsLoad() {
		if u.sales(b.From) >= maxTransfers {
			return NoEffect, CodeTooMany
		}
		u.Owner, u.OwnerAt = transferred(owner, []Transfer{{r.index, b.From, b.To}}, 0), r.index
		u.Transfers = append(u.Transfers, Transfer{r.index, b.From, b.To})
		return Applied, CodeApplied
	}
	if owner != b.From {
		return NoEffect, CodeNotOwner
	}
	u.Owner, u.OwnerAt = b.To, r.index
	return Applied, CodeApplied
}

// identitySteps lists, for each state that a statement names, the states that it
// may follow.
var identitySteps = map[string]struct {
	from []IdentityState
	to   IdentityState
}{
	"bootstrap":   {[]IdentityState{IdentityNone}, IdentityBootstrap},
	"registered":  {[]IdentityState{IdentityNone, IdentityBootstrap}, IdentityRegistered},
	"operational": {[]IdentityState{IdentityRegistered, IdentitySuspended}, IdentityOperational},
	"renewed":     {[]IdentityState{IdentityRegistered, IdentityOperational}, IdentityOperational},
	"suspended":   {[]IdentityState{IdentityBootstrap, IdentityRegistered, IdentityOperational}, IdentitySuspended},
	"revoked": {[]IdentityState{IdentityNone, IdentityBootstrap, IdentityRegistered, IdentityOperational,
		IdentitySuspended}, IdentityRevoked},
}

func (r *run) identity(u *Unit, b *Identity) (Outcome, Code) {
	if !r.hasRole(r.actor, RoleRegistrar) && !r.ownsGTIN(u.Ref, r.actor) && r.keeper(u) != r.actor {
		return NoEffect, CodeNotEntitled
	}
	step, ok := identitySteps[b.State]
	if !ok || !slices.Contains(step.from, u.Identity) {
		return NoEffect, CodeIdentityState
	}
	u.Identity = step.to
	if k, ok := r.s.DeviceKey(); ok {
		u.DeviceKey = k.SPKI
	}
	return Applied, CodeApplied
}

func deviceTopic(spki entry.Hash) entry.Topic {
	return entry.Topic{Kind: entry.TopicDeviceKey, Value: spki.String()}
}

// bind records that the statement at hand binds a device key to a serial.
func (r *run) bind(ref UnitRef, authorised bool) {
	k, ok := r.s.DeviceKey()
	if !ok || !r.tracks(deviceTopic(k.Hash)) {
		return
	}
	bs := LoadBindings(r.st, k.Hash)
	storeBindings(r.st, k.Hash, append(bs, Binding{Unit: ref.URI, Index: r.index, Actor: r.actor, Authorised: authorised}))
}
