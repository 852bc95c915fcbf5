package custody

import (
	"slices"

	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// run is the work on one entry.
type run struct {
	f   Fold
	st  *overlay
	it  Item
	dir directory
	eff Effect
	act

	units   map[UnitRef]*Unit // as they stand within this entry; never changed in place
	limited UnitRef           // about which the actor says too much without effect

	licensed *licence // read last
}

// act is the statement at hand: the entry's own, or one that had waited.
type act struct {
	s     *Statement
	ev    *Event // nil in governance
	actor string
	load  entry.Hash
	prev  entry.Hash // chain.prev; zero if null
	index uint64
	time  uint64
}

func newAct(s *Statement, index, time uint64) act {
	a := act{s: s, ev: s.Event, index: index, time: time}
	if s.Event == nil {
		return a
	}
	a.actor = s.Event.Actor
	if s.Event.Load != "" {
		a.load, _ = entry.ParseHash(s.Event.Load) // Parse refused others
	}
	if s.Event.Chain != nil && s.Event.Chain.Prev != nil {
		a.prev, _ = entry.ParseHash(s.Event.Chain.Prev.SHA256)
	}
	return a
}

func newRun(f Fold, st State, it Item) *run {
	if it.Signed == nil || it.Signed.Statement == nil || it.Signed.Statement.Body == nil {
		return nil
	}
	s := it.Signed.Statement
	o := newOverlay(st)
	r := &run{f: f, st: o, it: it, act: newAct(s, it.Index, it.Time), units: map[UnitRef]*Unit{}}
	r.dir = directory{st: o}
	r.eff = Effect{Index: it.Index, Time: it.Time, ID: s.ID, Kind: s.Kind, Actor: r.actor}
	if r.ev == nil {
		for _, n := range namedParties(s) {
			r.eff.Actor = n.party
		}
	}
	return r
}

// evaluate does all the work in the overlay. A problem means that the door should
// refuse the entry as a whole; refusals that concern single units are in their
// effects.
func (r *run) evaluate() *problem.Problem {
	if p := r.admit(); p != nil {
		return p
	}
	if r.ev == nil {
		r.govern()
		return nil
	}
	switch r.s.Kind {
	case KindCommission:
		r.commission()
	case KindPack:
		r.pack()
	case KindUnpack:
		r.unpack()
	case KindAssemble:
		r.assemble()
	case KindRelease, KindAccept, KindRefuse, KindInstall, KindUninstall, KindRetire:
		r.single()
	case KindVoid:
		r.void()
	case KindDispute:
		r.forNamed(func(ref UnitRef) { r.result(ref, Noted, CodeNoted) })
	case KindFinding:
		r.finding()
	default:
		r.unchained()
	}
	r.remember()
	return nil
}

// remember keeps what later statements need that name this one.
func (r *run) remember() {
	if r.s.Kind == KindFinding {
		return
	}
	n := namedOf(r.act)
	if id, _, ok := namedBy(r.s); ok {
		if root, ok := loadRoot(r.st, id); ok {
			n.Of = root.ID
		}
	}
	n.store(r.st)
}

func (r *run) tracks(t entry.Topic) bool { return r.f.Track == nil || r.f.Track(t) }

// unit returns a unit as it stands. It is never nil and must not be changed.
func (r *run) unit(ref UnitRef) *Unit {
	if u, ok := r.units[ref]; ok {
		return u
	}
	u := LoadUnit(r.st, ref)
	if u == nil {
		u = newUnit(ref)
	}
	r.units[ref] = u
	return u
}

func (r *run) put(u *Unit) {
	r.units[u.Ref] = u
	r.st.Set(u.Ref.row(), u.marshal())
}

// result adds the effect of the statement at hand on one unit that did not
// change.
func (r *run) result(ref UnitRef, o Outcome, c Code) *UnitEffect {
	u := r.unit(ref)
	return r.changed(u, u, o, c)
}

// changed adds the effect of the statement at hand on one unit.
func (r *run) changed(before, after *Unit, o Outcome, c Code) *UnitEffect {
	r.eff.Units = append(r.eff.Units, UnitEffect{Unit: after.Ref, Statement: r.s.ID, Index: r.index, Kind: r.s.Kind,
		Actor: r.actor, Outcome: o, Code: c, Late: r.index != r.eff.Index, Before: before, After: after})
	return &r.eff.Units[len(r.eff.Units)-1]
}

// refuse adds an effect that the door prevents by refusing.
func (r *run) refuse(ref UnitRef, c Code, p *problem.Problem) {
	e := r.result(ref, NoEffect, c)
	e.Operator, e.Refusal = true, p
}

// keeper returns who has a unit in hand: its holder, or that of the outermost
// load or parent. While it is on its way, that is the sender.
func (r *run) keeper(u *Unit) string {
	for range 64 { // levels bound loads; the limit guards against damaged rows
		if u.Place == Free {
			break
		}
		u = r.unit(u.In)
	}
	switch u.Phase {
	case PhaseHeld, PhaseReleased, PhaseInstalled:
		return u.Party
	}
	return ""
}

// keeps reports whether party has u in hand, or owns it while it is in use.
func (r *run) keeps(u *Unit, party string) bool {
	return r.keeper(u) == party || u.Phase == PhaseInstalled && u.Owner == party
}

// clear reports whether no hold is open on u itself.
func (r *run) clear(u *Unit) bool {
	return !slices.ContainsFunc(u.Holds, func(h HoldRef) bool { _, open := loadHold(r.st, h.ID); return open })
}

// openHolds returns the holds on u that are not lifted.
func (r *run) openHolds(u *Unit) []HoldRef {
	return slices.DeleteFunc(slices.Clone(u.Holds), func(h HoldRef) bool { _, open := loadHold(r.st, h.ID); return !open })
}

// openHold is a hold that is not lifted.
type openHold struct {
	By     string
	Rank   Rank
	Reason string
	Index  uint64
}

func loadHold(st State, id entry.Hash) (openHold, bool) {
	d := readRow(st.Get(string(rowHold) + string(id[:])))
	if len(d.b) == 0 {
		return openHold{}, false
	}
	h := openHold{d.str(), Rank(d.byte()), d.str(), d.num()}
	return h, !d.bad
}

func (h openHold) store(st State, id entry.Hash) {
	w := newRow()
	w.str(h.By)
	w.byte(byte(h.Rank))
	w.str(h.Reason)
	w.num(h.Index)
	st.Set(string(rowHold)+string(id[:]), w.b)
}

// transfers returns the changes of ownership that a load went through after an
// index: its own, and those of the loads that it is in.
func (r *run) transfers(load *Unit, after uint64) []Transfer {
	var ts []Transfer
	for range 64 {
		for _, t := range load.Transfers {
			if t.Index > after {
				ts = append(ts, t)
			}
		}
		if load.Place != InLoad {
			break
		}
		after = max(after, load.Since)
		load = r.unit(load.In)
	}
	slices.SortFunc(ts, func(a, b Transfer) int {
		switch {
		case a.Index < b.Index:
			return -1
		case a.Index > b.Index:
			return 1
		}
		return 0
	})
	return ts
}

// owner returns who owns u now, the transfers of its loads included.
func (r *run) owner(u *Unit) string {
	if u.Place != InLoad {
		return u.Owner
	}
	return transferred(u.Owner, r.transfers(r.unit(u.In), u.OwnerAt), u.OwnerAt)
}
