package custody

import (
	"slices"

	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// link says how a cited predecessor stands to a unit's chain.
type link byte

const (
	linkHead    link = iota // it is the head
	linkOld                 // it is in the unit's list, but not the head
	linkUnknown             // it is not in the unit's list, or waits itself
)

func (r *run) link(u *Unit, prev entry.Hash) link {
	if prev.IsZero() {
		return linkOld
	}
	if prev == u.Head {
		return linkHead
	}
	n, ok := LoadNamed(r.st, prev)
	if !ok || !u.lists(n) || u.waits(n.Index) {
		return linkUnknown
	}
	return linkOld
}

// lists reports whether a statement stands in the unit's own list: by its
// subject, or as one of those that named the unit in a manifest or as a part.
// Later packs and unpacks of a load stand under its contents, not in its list.
func (u *Unit) lists(n Named) bool {
	if n.unit() == u.Ref && (n.opens() || n.Kind != KindPack && n.Kind != KindUnpack) {
		return true
	}
	_, found := slices.BinarySearch(u.Known, n.Index)
	return found
}

// judged is what the chain and the state say about one statement for one unit.
type judged struct {
	code    Code             // "" if the statement takes effect
	refusal *problem.Problem // the door refuses; code says why it has no effect
	waits   bool             // the predecessor is unknown
	rival   entry.Hash
	rivalAt uint64
}

// judge decides about a chained statement that cites prev for u. legal says
// whether it may apply to a unit in a given state, the chain apart; field names
// where prev stands, for errors.
func (r *run) judge(u *Unit, prev entry.Hash, field string, legal func(*Unit) Code) judged {
	switch r.link(u, prev) {
	case linkUnknown:
		if w, ok := r.waitingTwin(u.Ref, prev); ok {
			return judged{code: CodePending, refusal: alreadyRecorded(w.ID, w.Index)}
		}
		return judged{waits: true, code: CodePending}
	case linkHead:
		code := legal(u)
		if code != "" {
			if p := r.unpackFirst(u, legal); p != nil {
				return judged{code: code, refusal: p}
			}
		}
		return judged{code: code}
	}
	j := judged{code: CodeSuperseded}
	if f, ok := u.previous(); ok && f.Head == prev {
		if n, ok := LoadNamed(r.st, u.Head); ok && n.Kind == r.s.Kind && n.Actor == r.actor {
			j.refusal = alreadyRecorded(n.ID, n.Index)
			return j
		}
	}
	j.rival, j.rivalAt, _ = u.rival(prev)
	code := legal(u)
	if code == "" {
		j.refusal = superseded(u, field)
		return j
	}
	if p := r.unpackFirst(u, legal); p != nil {
		j.refusal = p
		return j
	}
	j.code = code
	return j
}

func alreadyRecorded(id entry.Hash, index uint64) *problem.Problem {
	return problem.New("already_recorded", "/predicate/chain/prev", "this event is recorded as statement %s, entry %d", id, index).
		WithHint("it was probably sent before under another event id; fetch that statement's receipt").
		With("id", id.String()).With("index", index)
}

func superseded(u *Unit, field string) *problem.Problem {
	p := problem.New("superseded", field, "the latest statement of %s is another one", u.Ref.URI).
		WithHint("fetch the latest statement, check what changed, and sign again with it as predecessor").
		With("unit", u.Ref.URI).With("head", u.Head.String()).With("headIndex", u.HeadIndex).With("seq", u.Seq)
	if u.Ref.IsLoad() {
		p.With("load", u.Ref.Load.String())
	}
	return p
}

// unpackFirst returns the refusal for an actor who could act if the unit were
// taken out of its load or parent, which that actor has in hand; else nil.
func (r *run) unpackFirst(u *Unit, legal func(*Unit) Code) *problem.Problem {
	if u.Place == Free || r.keeper(u) != r.actor {
		return nil
	}
	free := u.Clone()
	free.Place, free.In, free.Phase, free.Party = Free, UnitRef{}, PhaseHeld, r.actor
	if legal(free) != "" {
		return nil
	}
	p := problem.New("unpack_first", "", "%s is in %s", u.Ref.URI, u.In.URI).
		WithHint("take it out with an unpack first, or act on the load").With("unit", u.Ref.URI).With("in", u.In.URI)
	if u.Place == PartOf {
		p.WithHint("take it out with an assemble (remove) first, or act on the parent")
	} else {
		p.With("load", u.In.Load.String())
	}
	return p
}

// waitingTwin finds a statement of the same actor and predicate that waits for
// the same predecessor.
func (r *run) waitingTwin(ref UnitRef, prev entry.Hash) (waiting, bool) {
	if len(r.unit(ref).Waiting) == 0 {
		return waiting{}, false
	}
	for _, w := range loadWaiting(r.st, ref, prev) {
		n, ok := LoadNamed(r.st, w.ID)
		if ok && n.Kind == r.s.Kind && n.Actor == r.actor && r.time-w.Time <= PendingTTL {
			return w, true
		}
	}
	return waiting{}, false
}

// wait keeps the statement at hand until prev arrives.
func (r *run) wait(u *Unit) {
	ws := loadWaiting(r.st, u.Ref, r.prev)
	ws = append(ws, waiting{Index: r.index, Time: r.time, ID: r.s.ID, Payload: r.s.Payload})
	storeWaiting(r.st, u.Ref, r.prev, ws)
	after := u.Clone()
	after.Waiting = append(after.Waiting, r.index)
	r.put(after)
	r.changed(u, after, Waits, CodePending)
}

// settle applies what waited for the unit's new head, and what waited for that in
// turn. The first in log order takes effect.
func (r *run) settle(ref UnitRef) {
	mine := r.act
	defer func() { r.act = mine }()
	for {
		u := r.unit(ref)
		if len(u.Waiting) == 0 {
			return
		}
		head := u.Head
		ws := loadWaiting(r.st, ref, head)
		if len(ws) == 0 {
			return
		}
		storeWaiting(r.st, ref, head, nil)
		after := u.Clone()
		after.Waiting = slices.DeleteFunc(after.Waiting, func(i uint64) bool {
			return slices.ContainsFunc(ws, func(w waiting) bool { return w.Index == i })
		})
		r.put(after)
		for _, w := range ws {
			r.wake(ref, w, mine.time)
		}
		if r.unit(ref).Head == head {
			return
		}
	}
}

// wake judges one statement whose predecessor has arrived. Its signers and roles
// were judged at its own place in the log.
func (r *run) wake(ref UnitRef, w waiting, now uint64) {
	s, err := Parse(w.Payload)
	if err != nil {
		return // it was parsed when it was logged
	}
	r.act = newAct(s, w.Index, w.Time)
	u := r.unit(ref)
	if now-w.Time > PendingTTL {
		r.result(ref, NoEffect, CodeExpired)
		return
	}
	if u.Head != r.prev {
		e := r.result(ref, NoEffect, CodeSuperseded)
		e.Rival, e.RivalIndex, _ = u.rival(r.prev)
		return
	}
	code := r.legal(u)
	if code == "" && s.Event.Chain.Seq != u.Seq+1 {
		code = CodeSeq
	}
	if code != "" {
		r.result(ref, NoEffect, code)
		return
	}
	r.move(u)
}
