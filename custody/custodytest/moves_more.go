package custodytest

import (
	"crypto/ed25519"
	"encoding/hex"
	"slices"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// membersOf gathers what a party holds free, units and loads below a level, with
// strangers' goods among them now and then.
func (w *World) membersOf(party string, level int64, in custody.UnitRef) []custody.Member {
	var ms []custody.Member
	take := func(ref custody.UnitRef) {
		u := w.Load(ref)
		fits := in == custody.UnitRef{} && u.Place == custody.Free && u.Phase == custody.PhaseHeld && u.Party == party ||
			in != custody.UnitRef{} && u.Place == custody.InLoad && u.In == in
		if (fits && w.R.IntN(3) > 0 || w.evil() && w.R.IntN(20) == 0) && len(ms) < 12 && !slices.ContainsFunc(ms, func(m custody.Member) bool { return m.URI == ref.URI }) {
			ms = append(ms, custody.Member{URI: ref.URI, Load: ref.Load, Head: w.headOf(ref), Salt: w.random()})
		}
	}
	for _, uri := range w.Units {
		take(custody.UnitRef{URI: uri})
	}
	if level > 1 || in != (custody.UnitRef{}) || w.evil() {
		for _, l := range w.Loads {
			if in.URI != l.URI {
				take(l)
			}
		}
	}
	return ms
}

// pack opens a load with what a party holds.
func (w *World) pack(party string) {
	a := w.by(party)
	level := int64(1 + w.R.IntN(3))
	container := Container(w.R.IntN(20))
	ms := w.membersOf(a.URI, level, custody.UnitRef{})
	ms = slices.DeleteFunc(ms, func(m custody.Member) bool { return m.URI == container })
	c, ok := w.manifest(ms)
	if !ok {
		return
	}
	w.send(w.Build(custody.KindPack, container, w.Event(a, custody.First()), &custody.Pack{Level: level, Contents: c}), a)
}

// moveLoad does something with a load.
func (w *World) moveLoad(ref custody.UnitRef) {
	l := w.Load(ref)
	if l.Place == custody.InLoad && !w.evil() {
		w.moveLoad(l.In)
		return
	}
	switch n := w.R.IntN(10); {
	case l.Phase == custody.PhaseReleased && n < 8:
		w.custody(l)
	case n < 5:
		w.change(l, custody.KindUnpack)
	case n < 6:
		w.change(l, custody.KindPack)
	case n < 7:
		w.pack(l.Party)
	default:
		w.custody(l)
	}
}

// change packs into a load or unpacks from it.
func (w *World) change(l *custody.Unit, kind custody.Kind) {
	a := w.by(l.Party)
	in := l.Ref
	if kind == custody.KindPack {
		in = custody.UnitRef{}
	}
	ms := w.membersOf(a.URI, int64(l.Level), in)
	ms = slices.DeleteFunc(ms, func(m custody.Member) bool { return m.URI == l.Ref.URI })
	c, ok := w.manifest(ms)
	if !ok {
		return
	}
	ev := w.Event(a, w.next(l))
	ev.Load = l.Ref.Load.String()
	if kind == custody.KindPack {
		w.send(w.Build(kind, l.Ref.URI, ev, &custody.Pack{Contents: c}), a)
		return
	}
	w.send(w.Build(kind, l.Ref.URI, ev, &custody.Unpack{Contents: c}), a)
}

func (w *World) assemble(parent *custody.Unit, action string) {
	a := w.by(parent.Party)
	if action == custody.ActionAdd && !slices.Contains(a.Roles, "maker") && !w.evil() {
		w.release(parent, a)
		return
	}
	b := &custody.Assemble{Action: action}
	for _, uri := range w.Units {
		ref := custody.UnitRef{URI: uri}
		u := w.Load(ref)
		fits := action == custody.ActionAdd && u.Phase == custody.PhaseHeld && u.Party == a.URI && u.Place == custody.Free ||
			action == custody.ActionRemove && u.Place == custody.PartOf && u.In == parent.Ref
		if uri != parent.Ref.URI && len(b.Components) < 4 && (fits && w.R.IntN(3) == 0 || w.evil() && (w.R.IntN(15) == 0 || action == custody.ActionAdd && u.Place == custody.PartOf)) {
			d := custody.DigestOf(w.headOf(ref))
			b.Components = append(b.Components, custody.Component{URI: uri, Head: &d})
		}
	}
	if w.R.IntN(4) == 0 {
		b.Components = append(b.Components, custody.Component{Lot: Lot(w.R.IntN(3), w.R.IntN(3)), Quantity: 5})
	}
	if len(b.Components) == 0 {
		return
	}
	w.send(w.Build(custody.KindAssemble, parent.Ref.URI, w.Event(a, w.next(parent)), b), a)
}

// sideways makes a statement that does not chain.
func (w *World) sideways() {
	ref := custody.UnitRef{URI: pick(w, w.Units)}
	if len(w.Loads) > 0 && w.R.IntN(4) == 0 {
		ref = pick(w, w.Loads)
	}
	u := w.Load(ref)
	keeper := custody.Keeper(w.St, ref)
	a := w.by(keeper)
	ch := custody.Unchained()
	n := w.R.IntN(9)
	if ref.IsLoad() && (n == 2 || n == 3 || n == 4) {
		n = 6
	}
	switch n {
	case 0:
		o := pick(w, w.Actors)
		w.send(w.one(custody.KindSighting, o, ref, ch, &custody.Sighting{Method: "scan"}), o)
	case 1:
		r := "PASSED"
		if w.R.IntN(4) == 0 {
			r = "FAILED"
		}
		w.send(w.one(custody.KindQAResult, a, ref, ch, &custody.QAResult{Result: r}), a)
	case 2, 3:
		w.identity(ref, u)
	case 4:
		w.send(w.one(custody.KindFirmwareLoad, a, ref, ch, &custody.FirmwareLoad{Image: custody.DigestOf(w.image()), Version: "1"}), a)
	case 5:
		w.finding(ref)
	case 6:
		from := w.by(u.Owner)
		to := pick(w, w.Actors)
		if from != to {
			w.send(w.one(custody.KindOwnership, from, ref, ch, &custody.Ownership{From: from.URI, To: to.URI}), from, to)
		}
	default:
		w.hold(ref, a)
	}
}

func (w *World) image() entry.Hash { return entry.Hash{0xf1, byte(w.R.IntN(4))} }

func (w *World) hold(ref custody.UnitRef, a *Actor) {
	if w.R.IntN(3) == 0 {
		a = w.with("regulator")
	}
	if len(w.holds) == 0 || w.R.IntN(3) == 0 {
		w.send(w.one(custody.KindHold, a, ref, custody.Unchained(), &custody.Hold{Reason: "suspect"}), a)
		return
	}
	id := pick(w, w.holds)
	n, ok := custody.LoadNamed(w.St, id)
	if !ok {
		return
	}
	if w.R.IntN(2) == 0 {
		a = w.Actor(n.Actor)
	}
	w.send(w.one(custody.KindLift, a, custody.UnitRef{URI: n.Subject, Load: n.Load}, custody.Unchained(), &custody.Lift{Lifts: custody.DigestOf(id)}), a)
}

func (w *World) identity(ref custody.UnitRef, u *custody.Unit) {
	a := w.by(u.Party)
	if w.R.IntN(2) == 0 {
		a = w.with("registrar")
	}
	states := []string{"bootstrap", "registered", "operational", "renewed"}
	b := &custody.Identity{State: states[min(int(u.Identity), 3)]}
	if w.R.IntN(6) == 0 {
		b.State = pick(w, []string{"suspended", "revoked", "operational", "registered"})
	}
	ev := w.Event(a, custody.Unchained())
	if b.State == "bootstrap" || w.R.IntN(5) == 0 {
		k := w.newKey()
		if w.evil() {
			k = w.someDevice()
		}
		w.bindDevice(ev, custody.KindIdentity, ref.URI, k, func(spki string) { b.SPKI = spki })
	}
	w.send(w.Build(custody.KindIdentity, ref.URI, ev, b), a)
}

func (w *World) finding(ref custody.UnitRef) {
	a := w.with("auditor")
	if w.R.IntN(3) == 0 {
		a = w.Operator
	}
	fu := custody.FindingUnit{URI: ref.URI}
	ev := w.Event(a, custody.Unchained())
	if ref.IsLoad() {
		fu.Load = ref.Load.String()
		ev.Load = fu.Load
	}
	id := w.random()
	w.send(w.Build(custody.KindFinding, ref.URI, ev, &custody.Finding{Rule: "LANE", Tier: "policy", Phase: pick(w, []string{"confirmed", "withdrawn"}),
		Accused: pick(w, w.Actors).URI, Units: []custody.FindingUnit{fu}, Evidence: []uint64{1, 2}, ID: hex.EncodeToString(id[:]), RuleSet: "1"}), a)
}

// takeBack voids, disputes, or repeats something said before.
func (w *World) takeBack() {
	if len(w.named) == 0 {
		return
	}
	s := w.named[max(0, len(w.named)-1-w.R.IntN(min(len(w.named), 25)))]
	if w.R.IntN(4) == 0 {
		s = pick(w, w.named)
	}
	a := w.by(s.Event.Actor)
	ref := custody.UnitRef{URI: s.Subject}
	if s.Event.Load != "" {
		ref.Load, _ = entry.ParseHash(s.Event.Load)
	}
	d := custody.DigestOf(s.ID)
	switch n := w.R.IntN(8); {
	case n < 5:
		w.send(w.one(custody.KindVoid, a, ref, custody.Unchained(), &custody.Void{Voids: d, Reason: "incorrect_data"}), a)
	case n < 6:
		o := pick(w, w.Actors)
		w.send(w.one(custody.KindDispute, o, ref, custody.Unchained(), &custody.Dispute{Disputes: d, Claim: "not so"}), o)
	default: // the same event under a new event id
		ev := *s.Event
		fresh := w.Event(a, nil)
		ev.EventID, ev.Device = fresh.EventID, nil
		if _, binds := s.DeviceKey(); binds {
			return
		}
		w.send(w.Build(s.Kind, s.Subject, &ev, s.Body), w.Actor(ev.Actor))
	}
}

// Enrol logs an actor's party record, with its key in force if withKey.
func (w *World) Enrol(a *Actor, withKey bool) {
	b := &custody.Party{LegalName: a.Name, Roles: a.Roles, Sites: a.Sites}
	ks := w.twoAuthorities()
	if withKey {
		b.Keys = []custody.KeyRecord{record(a.Key())}
		ks = append(ks, a.Key())
	}
	w.Put(w.Build(custody.KindParty, a.URI, nil, b), ks)
}

func (w *World) twoAuthorities() []ed25519.PrivateKey {
	i := w.R.IntN(len(w.Authorities))
	return []ed25519.PrivateKey{w.Authorities[i].Key(), w.Authorities[(i+1)%len(w.Authorities)].Key()}
}

func (w *World) product(p int, owner *Actor) {
	w.Put(w.Build(custody.KindProduct, custody.ProductURI(GTIN(p)), nil, &custody.Product{Owner: owner.URI}), append(w.twoAuthorities(), owner.Key()))
}

func (w *World) block(p, l int, owner *Actor) {
	b := &custody.SerialBlock{Actor: owner.URI, Commissioners: []string{w.Actors[1].URI, w.Actors[2].URI}, Countries: []string{"DE", "SG", "TW"}}
	if l == 0 {
		b.Count = 4 // a count is no condition: QUOTA finds what is more
	} else {
		for _, n := range []int{0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, 12, 13, 14} {
			b.Serials = append(b.Serials, Unit(p, n)[len(Unit(p, n))-6:])
		}
	}
	w.Put(w.Build(custody.KindSerialBlock, Lot(p, l), nil, b), []ed25519.PrivateKey{owner.Key()})
}

// govern makes a statement of governance.
func (w *World) govern() {
	a := pick(w, w.Actors)
	p := w.R.IntN(3)
	switch w.R.IntN(9) {
	case 0:
		w.rotate(a)
	case 1:
		if w.R.IntN(4) == 0 {
			w.revoke(a)
		}
	case 2:
		if w.R.IntN(4) == 0 {
			w.product(p, a)
		}
	case 3:
		w.block(p, w.R.IntN(2), w.Actor(w.owner(p)))
	case 4:
		owner := w.by(w.owner(p))
		w.Put(w.Build(custody.KindRoutePolicy, custody.ProductURI(GTIN(p)), nil, &custody.RoutePolicy{Actor: owner.URI,
			Steps: []custody.RouteStep{{ID: "s1", From: []string{a.URI}, To: []string{pick(w, w.Actors).URI}}}}), []ed25519.PrivateKey{owner.Key()})
	case 5:
		if w.R.IntN(6) == 0 {
			a.Roles = pick(w, w.Actors).Roles
			w.Enrol(a, false)
		}
	case 6:
		if w.R.IntN(4) == 0 {
			w.newAuthority()
		}
	default:
		w.recall(p)
	}
}

func (w *World) rotate(a *Actor) {
	old, fresh := a.Key(), w.newKey()
	if w.evil() {
		fresh = pick(w, w.Actors).Key() // taken
	}
	if key(old).Hash == key(fresh).Hash {
		return
	}
	r := record(fresh)
	_, err := w.Put(w.Build(custody.KindKey, a.URI, nil, &custody.KeyChange{Action: custody.ActionRotate, Key: custody.DigestOf(key(old).Hash), New: &r}),
		[]ed25519.PrivateKey{old, fresh})
	if k, ok := custody.LoadKey(w.St, key(fresh).Hash); err == nil && ok && k.Party == a.URI {
		a.Keys = append(a.Keys, fresh)
	}
}

func (w *World) revoke(a *Actor) {
	ks := []ed25519.PrivateKey{a.Key()}
	if w.R.IntN(2) == 0 {
		ks = w.twoAuthorities()
	}
	w.Put(w.Build(custody.KindKey, a.URI, nil, &custody.KeyChange{Action: custody.ActionRevoke, Key: custody.DigestOf(key(a.Key()).Hash)}), ks)
	a.Keys = append(a.Keys, w.newKey())
	w.Enrol(a, true)
}

func (w *World) newAuthority() {
	i := w.R.IntN(len(w.Authorities))
	ks := w.twoAuthorities()
	changed := slices.Clone(w.Authorities)
	changed[i] = &Actor{URI: changed[i].URI, Keys: []ed25519.PrivateKey{w.newKey()}}
	b := &custody.AuthorityChange{Threshold: 2}
	for _, a := range changed {
		b.Authorities = append(b.Authorities, custody.Authority{Party: a.URI, Key: record(a.Key())})
		ks = append(ks, a.Key())
	}
	if _, err := w.Put(w.Build(custody.KindAuthority, custody.LogURIPrefix+"example.com/world", nil, b), ks); err == nil {
		w.Authorities = changed
	}
}

func (w *World) recall(p int) {
	owner := w.by(w.owner(p))
	b := &custody.Recall{Actor: owner.URI, Action: custody.ActionOpen, Reason: "fire"}
	ks := []ed25519.PrivateKey{owner.Key()}
	if w.R.IntN(3) == 0 {
		ks = w.twoAuthorities()
	}
	var subject string
	if len(w.recalls) > 0 && w.R.IntN(2) == 0 {
		r := pick(w, w.recalls)
		d := custody.DigestOf(r.id)
		b.Action, b.Closes, b.Selector, subject = custody.ActionClose, &d, r.selector, r.subject
	} else {
		switch w.R.IntN(4) {
		case 0:
			b.Selector.Unit = pick(w, w.Units)
			subject = b.Selector.Unit
		case 1:
			b.Selector.Product = GTIN(p)
			subject = custody.ProductURI(GTIN(p))
		case 2:
			b.Selector.Lot = Lot(p, w.R.IntN(3))
			subject = b.Selector.Lot
		default:
			d := custody.DigestOf(w.image())
			b.Selector.Artefact, b.Selector.GTINs = &d, []string{GTIN(p), GTIN((p + 1) % 3)}
			subject = custody.ArtefactURIPrefix + d.SHA256
		}
	}
	s := w.Build(custody.KindRecall, subject, nil, b)
	if _, err := w.Put(s, ks); err == nil && b.Action == custody.ActionOpen {
		w.recalls = append(w.recalls, recall{s.ID, b.Selector, subject})
	}
}
