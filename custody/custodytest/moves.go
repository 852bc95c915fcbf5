package custodytest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

func slug(err error) string {
	if p := problem.As(err); p != nil {
		return p.Type
	}
	return err.Error()
}

// draft is a statement that its actor has signed and not sent yet.
type draft struct {
	s       *custody.Statement
	signers []ed25519.PrivateKey
}

func (w *World) evil() bool { return w.R.IntN(100) < w.cfg.Evil }

func pick[T any](w *World, list []T) T { return list[w.R.IntN(len(list))] }

// Actor finds an actor by its URI, or somebody.
func (w *World) Actor(uri string) *Actor {
	for _, a := range append(slices.Clone(w.Actors), append(w.Authorities, w.Operator)...) {
		if a.URI == uri {
			return a
		}
	}
	return pick(w, w.Actors)
}

// by is the lawful actor, or somebody else.
func (w *World) by(lawful string) *Actor {
	if w.evil() {
		return pick(w, w.Actors)
	}
	return w.Actor(lawful)
}

func (w *World) with(role string) *Actor {
	for range 20 {
		if a := pick(w, w.Actors); slices.Contains(a.Roles, role) {
			return a
		}
	}
	return pick(w, w.Actors)
}

// Load returns a unit as the full fold has it.
func (w *World) Load(ref custody.UnitRef) *custody.Unit {
	if u, ok := w.parsed[ref]; ok {
		return u
	}
	u := custody.LoadUnit(w.St, ref)
	if u == nil {
		u = &custody.Unit{Ref: ref, Seq: -1}
	}
	w.parsed[ref] = u
	return u
}

// next cites the unit's head, or something wrong.
func (w *World) next(u *custody.Unit) *custody.Chain {
	head, seq := u.Head, u.Seq
	if ids := w.ids[u.Ref]; w.evil() && len(ids) > 0 {
		head = pick(w, ids)
		if w.R.IntN(2) == 0 {
			seq = int64(w.R.IntN(4))
		}
	} else if w.evil() && w.R.IntN(3) == 0 {
		head = w.random()
	}
	if head.IsZero() {
		head = w.random()
	}
	return custody.Next(max(seq, 0), head)
}

func (w *World) random() (h entry.Hash) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], w.R.Uint64())
	return sha256.Sum256(b[:])
}

func (w *World) headOf(ref custody.UnitRef) entry.Hash {
	u := w.Load(ref)
	if ids := w.ids[ref]; w.evil() && len(ids) > 0 {
		return pick(w, ids)
	}
	if u.Head.IsZero() {
		return w.random()
	}
	return u.Head
}

// one builds a statement about one unit or load.
func (w *World) one(kind custody.Kind, a *Actor, ref custody.UnitRef, chain *custody.Chain, body any) *custody.Statement {
	ev := w.Event(a, chain)
	if ref.IsLoad() {
		ev.Load = ref.Load.String()
	}
	u := w.Load(ref)
	if k := w.devices[ref.URI]; k != nil && (kind == custody.KindInstall || w.R.IntN(4) == 0) && w.R.IntN(20) > 0 && len(u.DeviceKey) > 0 {
		w.counter++
		if w.evil() && w.R.IntN(4) == 0 {
			k = w.newKey()
		}
		counter := w.counter
		if w.evil() && w.R.IntN(4) == 0 { // a copy of the device, which counts for itself
			counter = 1 + uint64(w.R.IntN(int(counter)))
		}
		if err := ev.SignDevice(k, kind, ref.URI, w.Ledger, counter); err != nil {
			panic(err)
		}
	}
	return w.Build(kind, ref.URI, ev, body)
}

func (w *World) send(s *custody.Statement, as ...*Actor) {
	var ks []ed25519.PrivateKey
	for _, a := range as {
		k := a.Key()
		if w.evil() && w.R.IntN(10) == 0 {
			k = pick(w, a.Keys) // perhaps one that was rotated away
		}
		ks = append(ks, k)
	}
	if w.R.IntN(100) < w.cfg.Evil/4 {
		w.late = append(w.late, draft{s, ks})
		return
	}
	w.Put(s, ks)
}

// Step makes one move.
func (w *World) Step() {
	if len(w.late) > 0 && w.R.IntN(6) == 0 {
		i := w.R.IntN(len(w.late))
		d := w.late[i]
		w.late = slices.Delete(w.late, i, i+1)
		w.Put(d.s, d.signers)
		return
	}
	switch n := w.R.IntN(100); {
	case n < 6:
		w.govern()
	case n < 12:
		w.sideways()
	case n < 16:
		w.takeBack()
	case n < 40 && len(w.Loads) > 0:
		w.moveLoad(pick(w, w.Loads[max(0, len(w.Loads)-12):]))
	default:
		w.moveUnit(pick(w, w.Units))
	}
}

// moveUnit does with a unit what its state invites to.
func (w *World) moveUnit(uri string) {
	ref := custody.UnitRef{URI: uri}
	u := w.Load(ref)
	switch {
	case u.Phase == custody.PhaseNone:
		w.commission(uri)
	case u.Place == custody.InLoad:
		if w.evil() {
			w.custody(u)
			return
		}
		w.moveLoad(u.In)
	case u.Place == custody.PartOf:
		w.assemble(w.Load(u.In), custody.ActionRemove)
	case len(u.Holds) > 0 && w.R.IntN(2) == 0:
		w.lift(u)
	case u.Identity <= custody.IdentityBootstrap && w.R.IntN(3) == 0:
		a := w.with("registrar")
		w.send(w.one(custody.KindIdentity, a, ref, custody.Unchained(), &custody.Identity{State: "registered"}), a)
	case u.Phase == custody.PhaseHeld && w.R.IntN(6) == 0:
		w.deliver(u)
	case w.R.IntN(20) == 0:
		w.commission(uri) // again
	case u.Phase == custody.PhaseHeld && w.R.IntN(3) == 0:
		w.pack(u.Party)
	case u.Phase == custody.PhaseHeld && w.R.IntN(5) == 0:
		w.assemble(u, custody.ActionAdd)
	default:
		w.custody(u)
	}
}

// lift ends one of a unit's holds.
func (w *World) lift(u *custody.Unit) {
	id := pick(w, u.Holds).ID
	n, ok := custody.LoadNamed(w.St, id)
	if !ok {
		return
	}
	a := w.by(n.Actor)
	w.send(w.one(custody.KindLift, a, custody.UnitRef{URI: n.Subject, Load: n.Load}, custody.Unchained(), &custody.Lift{Lifts: custody.DigestOf(id)}), a)
}

// deliver hands a unit to an installer, who installs it.
func (w *World) deliver(u *custody.Unit) {
	from, to := w.Actor(u.Party), w.with("installer")
	if from != to {
		w.send(w.one(custody.KindRelease, from, u.Ref, w.next(u), &custody.Release{From: from.URI, To: to.URI}), from)
		if u = w.Load(u.Ref); u.Phase != custody.PhaseReleased || u.To != to.URI {
			return
		}
		w.send(w.one(custody.KindAccept, to, u.Ref, w.next(u), &custody.Accept{Accepts: custody.DigestOf(u.Head)}), to)
	}
	if u = w.Load(u.Ref); u.Phase == custody.PhaseHeld && u.Party == to.URI {
		w.send(w.one(custody.KindInstall, to, u.Ref, w.next(u), &custody.Install{}), to)
	}
}

// custody makes a chained move of one unit or load.
func (w *World) custody(u *custody.Unit) {
	holder := w.by(u.Party)
	ref := u.Ref
	switch {
	case u.Phase == custody.PhaseReleased || w.evil() && w.R.IntN(4) == 0:
		to := w.by(u.To)
		answers := u.Head
		ch := w.next(u)
		if answers.IsZero() || w.R.IntN(30) > 0 {
			answers = ch.Prev.Hash()
		}
		if w.R.IntN(5) == 0 {
			w.send(w.one(custody.KindRefuse, to, ref, ch, &custody.Refuse{Refuses: custody.DigestOf(answers), Reason: "wrong goods"}), to)
			return
		}
		w.send(w.one(custody.KindAccept, to, ref, ch, &custody.Accept{Accepts: custody.DigestOf(answers)}), to)
	case ref.IsLoad():
		w.release(u, holder)
	case u.Phase == custody.PhaseInstalled && w.R.IntN(3) > 0:
		w.send(w.one(custody.KindUninstall, holder, ref, w.next(u), &custody.Uninstall{To: pick(w, w.Actors).URI}), holder)
	case w.R.IntN(15) == 0:
		w.send(w.one(custody.KindRetire, holder, ref, w.next(u), &custody.Retire{Reason: "endOfLife"}), holder)
	case w.R.IntN(5) == 0 || slices.Contains(holder.Roles, "installer") && w.R.IntN(2) == 0:
		if !slices.Contains(holder.Roles, "installer") && !w.evil() {
			w.release(u, holder)
			return
		}
		w.send(w.one(custody.KindInstall, holder, ref, w.next(u), &custody.Install{}), holder)
	default:
		w.release(u, holder)
	}
}

func (w *World) release(u *custody.Unit, from *Actor) {
	to := pick(w, w.Actors)
	if to == from {
		return
	}
	b := &custody.Release{From: from.URI, To: to.URI}
	if w.R.IntN(10) == 0 {
		b.Lane = &custody.Lane{Policy: custody.DigestOf(entry.Hash{9}), Step: "quarantine-return"}
	}
	s := w.one(custody.KindRelease, from, u.Ref, w.next(u), b)
	if w.R.IntN(8) == 0 { // the release comes after its acceptance
		w.late = append(w.late, draft{s, []ed25519.PrivateKey{from.Key()}})
		acc := w.one(custody.KindAccept, to, u.Ref, custody.Next(s.Event.Chain.Seq, s.ID), &custody.Accept{Accepts: custody.DigestOf(s.ID)})
		w.Put(acc, []ed25519.PrivateKey{to.Key()})
		if w.R.IntN(3) == 0 {
			w.Now += custody.PendingTTL
		}
		return
	}
	w.send(s, from)
}

func (w *World) commission(uri string) {
	p := slices.IndexFunc([]int{0, 1, 2}, func(p int) bool { return custody.GTINOf(uri) == GTIN(p) })
	maker := w.by(w.owner(p))
	if w.R.IntN(3) == 0 {
		maker = w.with("maker")
	}
	lot := w.R.IntN(3) // the third has no block
	if w.R.IntN(3) == 0 {
		w.commissionLot(maker, p, lot)
		return
	}
	b := &custody.Commission{UnitKind: "device"}
	if w.R.IntN(4) > 0 {
		b.Lot = lotNumber(lot)
	}
	ev := w.Event(maker, custody.First())
	if w.R.IntN(3) > 0 {
		k := w.newKey()
		if w.evil() && len(w.devices) > 0 {
			k = w.someDevice()
		}
		w.bindDevice(ev, custody.KindCommission, uri, k, func(spki string) { b.Identity = &custody.DeviceIdentity{SPKI: spki} })
	}
	w.send(w.Build(custody.KindCommission, uri, ev, b), maker)
}

func (w *World) bindDevice(ev *custody.Event, kind custody.Kind, uri string, k ed25519.PrivateKey, set func(spki string)) {
	set(record(k).SPKI)
	w.counter++
	if err := ev.SignDevice(k, kind, uri, w.Ledger, w.counter); err != nil {
		panic(err)
	}
	w.devices[uri] = k
}

func (w *World) someDevice() ed25519.PrivateKey {
	for _, uri := range w.Units {
		if k := w.devices[uri]; k != nil && w.R.IntN(3) == 0 {
			return k
		}
	}
	return w.newKey()
}

func (w *World) owner(p int) string {
	s, _ := custody.LoadProduct(w.St, GTIN(p))
	return s.Owner
}

func (w *World) commissionLot(maker *Actor, p, lot int) {
	var ms []custody.Member
	for _, uri := range w.Units {
		if custody.GTINOf(uri) == GTIN(p) && w.R.IntN(4) == 0 && (w.Load(custody.UnitRef{URI: uri}).Phase == custody.PhaseNone || w.evil()) {
			ms = append(ms, custody.Member{URI: uri, Salt: w.random(), Pedigree: w.random()})
		}
	}
	c, ok := w.manifest(ms)
	if !ok {
		return
	}
	w.send(w.Build(custody.KindCommission, Lot(p, lot), w.Event(maker, custody.First()), &custody.Commission{UnitKind: "chip", Contents: &c}), maker)
}

func (w *World) manifest(ms []custody.Member) (custody.Contents, bool) {
	if len(ms) == 0 {
		return custody.Contents{}, false
	}
	m, err := custody.NewManifest(ms)
	if err != nil {
		return custody.Contents{}, false
	}
	w.Manifests[m.Digest()] = m.Members
	return m.Contents(), true
}
