package custody

import (
	"cmp"
	"slices"

	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// eachMember calls fn for the members whose lists are complete.
func (r *run) eachMember(fn func(Member)) {
	for _, m := range r.it.Members {
		if r.tracks((UnitRef{m.URI, m.Load}).Topic()) {
			fn(m)
		}
	}
}

// commission folds a commission of one unit, or of many by manifest.
func (r *run) commission() {
	b := r.s.Body.(*Commission)
	if b.Contents != nil {
		r.eachMember(func(m Member) {
			ref := UnitRef{URI: m.URI}
			lot := r.s.Subject
			if gtinOf(m.URI) == "" || gtinOf(m.URI) != gtinOf(lot) || !m.Load.IsZero() {
				r.known(ref)
				r.result(ref, NoEffect, CodeOtherProduct)
				return
			}
			r.known(ref)
			r.begin(ref, b, lot, m.Pedigree)
		})
		return
	}
	ref := UnitRef{URI: r.s.Subject}
	if !r.tracksUnchained(ref) {
		return
	}
	lot := lotOf(r.s.Subject, b.Lot)
	var pedigree entry.Hash
	if b.Pedigree != "" {
		pedigree, _ = entry.ParseHash(b.Pedigree)
	}
	entitled := r.allowed(ref, lot) == ""
	r.bind(ref, entitled)
	n := len(r.eff.Units)
	r.begin(ref, b, lot, pedigree)
	for i := range r.eff.Units[n:] {
		if u := &r.eff.Units[n+i]; u.Unit == ref && u.Index == r.index {
			u.Entitled = entitled
		}
	}
}

// known notes on u that the chained statement at hand stands in its list.
func (r *run) known(ref UnitRef) {
	u := r.unit(ref).Clone()
	u.addKnown(r.index)
	r.put(u)
}

// begin brings one unit into being.
func (r *run) begin(ref UnitRef, b *Commission, lot string, pedigree entry.Hash) {
	before := r.unit(ref)
	if before.Phase != PhaseNone {
		r.beginAgain(before)
		return
	}
	if c := r.allowed(ref, lot); c != "" {
		r.result(ref, NoEffect, c)
		return
	}
	u := before.Clone()
	u.advance(r.s.ID, r.index)
	u.Phase, u.Party, u.To, u.Place, u.In = PhaseHeld, r.actor, "", Free, UnitRef{}
	u.Identity, u.DeviceKey = IdentityNone, nil
	if k, ok := r.s.DeviceKey(); ok {
		u.Identity, u.DeviceKey = IdentityBootstrap, k.SPKI
	}
	u.Owner, u.OwnerAt = r.actor, r.index
	if l := r.licence(gtinOf(ref.URI), lot); l.assigned {
		u.Owner = l.product.Owner
	}
	u.Kind, u.Lot, u.Pedigree, u.CommissionAt = b.UnitKind, lot, pedigree, r.index
	r.put(u)
	r.changed(before, u, Applied, CodeApplied)
	r.settle(ref)
}

// beginAgain is a commission of a serial that exists: a retry is refused, all
// else is evidence.
func (r *run) beginAgain(u *Unit) {
	if n, ok := LoadNamed(r.st, u.Head); ok && n.Kind == KindCommission && n.Actor == r.actor {
		r.refuse(u.Ref, CodeAlreadyExists, alreadyRecorded(n.ID, n.Index))
		return
	}
	code := CodeAlreadyExists
	if u.Phase == PhaseEnded {
		code = CodeEnded
	}
	e := r.result(u.Ref, NoEffect, code)
	e.RivalIndex = u.CommissionAt
	if id, index, ok := u.rival(entry.Hash{}); ok {
		e.Rival, e.RivalIndex = id, index
	}
}

// allowed says whether the actor may commission a serial. One with a GTIN needs
// the GTIN to be assigned, and the actor to be its owner or named by a serial
// block of the lot; a block that lists serials binds the owner too.
func (r *run) allowed(ref UnitRef, lot string) Code {
	gtin := gtinOf(ref.URI)
	if gtin == "" {
		return ""
	}
	l := r.licence(gtin, lot)
	owner := l.product.Owner == r.actor
	switch {
	case !l.assigned:
		return CodeNoProduct
	case !l.blocked && owner:
		return ""
	case !l.blocked:
		return CodeNoBlock
	}
	c := l.block.allows(r.st, lot, r.actor, ref.URI)
	if c == CodeNotCommissioner && owner {
		block := l.block
		block.Commissioners = []string{r.actor}
		c = block.allows(r.st, lot, r.actor, ref.URI)
	}
	return c
}

// licence is what governance says of who may commission the serials of a product in a
// lot.
type licence struct {
	gtin, lot string
	product   ProductState
	assigned  bool // the GTIN is
	block     LotState
	blocked   bool // the lot has serial blocks
}

// licence reads what a statement about many units asks for each of them once: a run that
// commissions changes no governance.
func (r *run) licence(gtin, lot string) *licence {
	if l := r.licensed; l != nil && l.gtin == gtin && l.lot == lot {
		return l
	}
	l := &licence{gtin: gtin, lot: lot}
	l.product, l.assigned = LoadProduct(r.st, gtin)
	if l.assigned && lot != "" {
		l.block, l.blocked = LoadLot(r.st, lot)
	}
	r.licensed = l
	return l
}

// loadCheck judges a pack into, or unpack from, an existing load, once.
type loadCheck struct {
	r    *run
	ref  UnitRef
	done bool
	judged
}

// get reads the load, so it is called only for members whose own conditions hold:
// a stranger's statement then never drags a foreign load into a closure.
func (c *loadCheck) get() judged {
	if c.done {
		return c.judged
	}
	c.done = true
	load := c.r.unit(c.ref)
	c.judged = c.r.judge(load, c.r.prev, "/predicate/chain/prev", c.r.legalLoad)
	switch seq := c.r.ev.Chain.Seq; {
	case c.judged.waits:
		c.judged = judged{code: CodePending, refusal: unknownPredecessor(c.ref.URI)}
	case c.judged.code == "" && seq != load.Seq+1:
		c.judged = judged{code: CodeSeq, refusal: wrongSeq(seq, load.Seq+1)}
	}
	return c.judged
}

// legalLoad says whether the actor may change what is in the load.
func (r *run) legalLoad(l *Unit) Code {
	switch {
	case l.Phase == PhaseNone:
		return CodeNoLoad
	case l.Place != Free:
		return CodeLoadNotFree
	case l.Phase != PhaseHeld || l.Party != r.actor:
		return CodeLoadNotHeld
	}
	return ""
}

func unknownPredecessor(uri string) *problem.Problem {
	return problem.New("predecessor_unknown", "/predicate", "the predecessor given for %s is not in its list", uri).
		WithHint("submit the missing statements first; statements about several units do not wait").With("units", []string{uri})
}

// pack folds the opening of a load, or a later pack into one.
func (r *run) pack() {
	b := r.s.Body.(*Pack)
	if r.load.IsZero() {
		ref := UnitRef{r.s.Subject, r.s.ID}
		if r.tracks(ref.Topic()) {
			r.open(ref, uint8(b.Level))
		}
		r.eachMember(func(m Member) { r.join(m, ref, uint8(b.Level), nil) })
		return
	}
	ref := UnitRef{r.s.Subject, r.load}
	c := &loadCheck{r: r, ref: ref}
	if r.f.Track == nil {
		r.reportLoad(c)
	}
	r.eachMember(func(m Member) { r.join(m, ref, 0, c) })
}

// open brings a load into being, held by the packer.
func (r *run) open(ref UnitRef, level uint8) {
	before := r.unit(ref)
	if before.Phase != PhaseNone || !before.Head.IsZero() {
		return // the ID of a statement is unique: it was folded before
	}
	u := before.Clone()
	u.advance(r.s.ID, r.index)
	u.Phase, u.Party, u.Owner, u.OwnerAt = PhaseHeld, r.actor, r.actor, r.index
	u.Level, u.CommissionAt = level, r.index
	r.put(u)
	r.changed(before, u, Applied, CodeApplied)
	r.settle(ref)
}

// reportLoad gives the load's own share of a later pack or unpack. The load does
// not change, and the statement is not in its list.
func (r *run) reportLoad(c *loadCheck) {
	switch j := c.get(); {
	case j.refusal != nil:
		r.refuse(c.ref, j.code, j.refusal)
	case j.code != "":
		r.result(c.ref, NoEffect, j.code)
	default:
		r.result(c.ref, Noted, CodeNoted)
	}
	r.eff.Units[len(r.eff.Units)-1].Contents = true
}

// member folds what the statement at hand does to one member that was named with
// its head: own judges the member's own conditions, then reads the load or parent
// only when they hold, and apply changes a clone.
func (r *run) member(ref UnitRef, head entry.Hash, own func(*Unit) Code, then func() judged, apply func(*Unit)) {
	before := r.unit(ref).Clone()
	before.addKnown(r.index)
	r.units[ref] = before
	legal := func(u *Unit) Code {
		if c := own(u); c != "" {
			return c
		}
		return then().code
	}
	j := r.judge(before, head, "/predicate/contents", legal)
	if j.waits {
		j = judged{code: CodePending, refusal: unknownPredecessor(ref.URI)}
	}
	switch {
	case j.refusal != nil:
		r.put(before)
		r.refuse(ref, j.code, j.refusal)
	case j.code != "":
		r.put(before)
		e := r.result(ref, NoEffect, j.code)
		e.Rival, e.RivalIndex = j.rival, j.rivalAt
	default:
		u := before.Clone()
		u.advance(r.s.ID, r.index)
		apply(u)
		r.put(u)
		r.changed(before, u, Applied, CodeApplied)
		r.settle(ref)
	}
}

// join folds one member of a pack. c is nil when the load was opened by the very
// statement, at the level given.
func (r *run) join(m Member, load UnitRef, level uint8, c *loadCheck) {
	own := func(u *Unit) Code {
		if code := r.inHand(u); code != "" {
			return code
		}
		if !r.clear(u) {
			return CodeHeld
		}
		return ""
	}
	then := func() judged {
		lv := level
		if c != nil {
			if j := c.get(); j.code != "" {
				return j
			}
			lv = r.unit(load).Level
		}
		if !m.Load.IsZero() && r.unit(UnitRef{m.URI, m.Load}).Level >= lv {
			return judged{code: CodeLevel}
		}
		return judged{}
	}
	r.member(UnitRef{m.URI, m.Load}, m.Head, own, then, func(u *Unit) {
		u.Place, u.In, u.Since, u.OwnerAt = InLoad, load, r.index, r.index
	})
}

// unpack folds taking members out of a load.
func (r *run) unpack() {
	ref := UnitRef{r.s.Subject, r.load}
	c := &loadCheck{r: r, ref: ref}
	if r.f.Track == nil {
		r.reportLoad(c)
	}
	r.eachMember(func(m Member) { r.leave(m, ref, c) })
}

func (r *run) leave(m Member, load UnitRef, c *loadCheck) {
	own := func(u *Unit) Code {
		switch {
		case u.Phase == PhaseNone:
			return r.inHand(u)
		case u.Phase == PhaseEnded:
			return CodeEnded
		case u.Place != InLoad || u.In != load:
			return CodeNotHere
		}
		return ""
	}
	r.member(UnitRef{m.URI, m.Load}, m.Head, own, c.get, func(u *Unit) {
		l := r.unit(load)
		ts := r.transfers(l, u.OwnerAt)
		u.Owner, u.OwnerAt = transferred(u.Owner, ts, u.OwnerAt), r.index
		if u.Ref.IsLoad() {
			u.Transfers = append(u.Transfers, r.transfers(l, u.Since)...)
			slices.SortStableFunc(u.Transfers, func(a, b Transfer) int { return cmp.Compare(a.Index, b.Index) })
		}
		u.Holds = r.openHolds(u)
		for _, h := range r.openHolds(l) {
			if !slices.ContainsFunc(u.Holds, func(x HoldRef) bool { return x.ID == h.ID }) {
				u.Holds = append(u.Holds, HoldRef{h.ID, r.s.ID})
			}
		}
		u.Place, u.In, u.Since = Free, UnitRef{}, 0
		u.Phase, u.Party, u.To = PhaseHeld, r.actor, ""
	})
}

// assemble folds putting parts into the subject, or taking them out. A part's
// legality is its own: the parent advances even when no part is effective.
func (r *run) assemble() {
	b := r.s.Body.(*Assemble)
	parent := UnitRef{URI: r.s.Subject}
	var j judged
	var done bool
	verdict := func() judged {
		if !done {
			j, done = r.judge(r.unit(parent), r.prev, "/predicate/chain/prev", r.legalParent), true
		}
		return j
	}
	// Parts see the parent as it was before: judged first, moved last.
	tracked := r.tracks(parent.Topic())
	var before *Unit
	if tracked {
		before = r.unit(parent)
		verdict()
		r.parentEffect(before, verdict())
	}
	for i, c := range b.Components {
		ref := UnitRef{URI: c.URI}
		if c.URI == "" || slices.ContainsFunc(b.Components[:i], func(o Component) bool { return o.URI == c.URI }) || !r.tracks(ref.Topic()) {
			continue
		}
		r.part(ref, c, parent, b.Action == "remove", verdict)
	}
	if tracked {
		r.settle(parent)
	}
}

// legalParent says whether the actor may change the subject's parts: it must be
// free, and in the actor's hand, or in use and served by the actor.
func (r *run) legalParent(u *Unit) Code {
	if u.Phase == PhaseInstalled {
		return r.legalInstalled(u)
	}
	if c := r.inHand(u); c != "" {
		return c
	}
	return r.deviceSigned(u)
}

func (r *run) parentEffect(before *Unit, j judged) {
	switch {
	case j.waits:
		r.refuse(before.Ref, CodePending, unknownPredecessor(before.Ref.URI))
	case j.refusal != nil:
		r.refuse(before.Ref, j.code, j.refusal)
	case j.code != "":
		e := r.result(before.Ref, NoEffect, j.code)
		e.Rival, e.RivalIndex = j.rival, j.rivalAt
	case r.ev.Chain.Seq != before.Seq+1:
		r.refuse(before.Ref, CodeSeq, wrongSeq(r.ev.Chain.Seq, before.Seq+1))
	default:
		u := before.Clone()
		u.advance(r.s.ID, r.index)
		r.put(u)
		r.changed(before, u, Applied, CodeApplied)
	}
}

func (r *run) part(ref UnitRef, c Component, parent UnitRef, remove bool, verdict func() judged) {
	var head entry.Hash
	if c.Head != nil {
		head, _ = entry.ParseHash(c.Head.SHA256)
	}
	own := func(u *Unit) Code {
		if ref == parent {
			return CodeSelf
		}
		if remove {
			switch {
			case u.Phase == PhaseNone || u.Phase == PhaseEnded:
				return r.inHand(u)
			case u.Place != PartOf || u.In != parent:
				return CodeNotThisPart
			}
			return ""
		}
		if code := r.inHand(u); code != "" {
			return code
		}
		if !r.clear(u) {
			return CodeHeld
		}
		return ""
	}
	then := func() judged {
		if j := verdict(); j.code != "" || j.waits || r.ev.Chain.Seq != r.parentSeq(parent)+1 {
			return judged{code: CodeParent}
		}
		return judged{}
	}
	r.member(ref, head, own, then, func(u *Unit) {
		if remove {
			u.Place, u.In, u.Since = Free, UnitRef{}, 0
			u.Phase, u.Party, u.To = PhaseHeld, r.actor, ""
			return
		}
		u.Place, u.In, u.Since = PartOf, parent, r.index
	})
}

// parentSeq is the parent's seq before the statement at hand.
func (r *run) parentSeq(parent UnitRef) int64 {
	u := r.unit(parent)
	if u.Head == r.s.ID {
		if f, ok := u.previous(); ok {
			return f.Seq
		}
	}
	return u.Seq
}

// MayCommission reports whether a party is entitled to commission a unit in a lot
// (by URI; "" for none), whether or not the serial exists already.
func MayCommission(st State, party, unit, lot string) bool {
	r := &run{st: newOverlay(st), act: act{actor: party}}
	return r.allowed(UnitRef{URI: unit}, lot) == ""
}
