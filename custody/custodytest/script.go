package custodytest

import (
	"crypto/ed25519"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// Option changes the common fields of a statement before it is made.
type Option func(*custody.Event)

// At places a statement.
func At(w custody.Where) Option { return func(ev *custody.Event) { ev.Where = &w } }

// Citing sets the chain.
func Citing(seq int64, prev entry.Hash) Option {
	return func(ev *custody.Event) { ev.Chain = custody.Next(seq, prev) }
}

// Told sets the claimed time, in Unix milliseconds.
func Told(ms uint64) Option {
	return func(ev *custody.Event) { ev.OccurredAt = stamp(ms) }
}

// As claims a role.
func As(role string) Option { return func(ev *custody.Event) { ev.Role = role } }

func stamp(ms uint64) string {
	w := World{Now: ms}
	return custody.FormatTime(w.time())
}

// Make builds a lawful statement about one unit or load by its present head,
// unless options say otherwise. Its claimed time is now and it names no place.
func (w *World) Make(kind custody.Kind, a *Actor, ref custody.UnitRef, body any, opts ...Option) *custody.Statement {
	ch := custody.Unchained()
	if kind.Chained() {
		if u := w.Load(ref); !u.Head.IsZero() {
			ch = custody.Next(u.Seq, u.Head)
		} else {
			ch = custody.First()
		}
	}
	ev := w.Event(a, ch)
	ev.OccurredAt, ev.Where = custody.FormatTime(w.time()), nil
	if ref.IsLoad() {
		ev.Load = ref.Load.String()
	}
	for _, o := range opts {
		o(ev)
	}
	if k := w.devices[ref.URI]; k != nil && kind == custody.KindInstall && ev.Device == nil {
		w.counter++
		if err := ev.SignDevice(k, kind, ref.URI, w.Ledger, w.counter); err != nil {
			panic(err)
		}
	}
	return w.Build(kind, ref.URI, ev, body)
}

// Say makes and submits a statement about one unit or load, signed by its actor.
func (w *World) Say(kind custody.Kind, a *Actor, ref custody.UnitRef, body any, opts ...Option) (*custody.Statement, custody.Effect, error) {
	s := w.Make(kind, a, ref, body, opts...)
	eff, err := w.Put(s, []ed25519.PrivateKey{a.Key()})
	return s, eff, err
}

// Commission brings a unit into being in a lot, with a device key if withKey.
func (w *World) Commission(a *Actor, unit string, lot int, withKey bool, opts ...Option) (*custody.Statement, custody.Effect, error) {
	ev := w.Event(a, custody.First())
	ev.OccurredAt, ev.Where = custody.FormatTime(w.time()), nil
	b := &custody.Commission{UnitKind: "device", Lot: lotNumber(lot)}
	for _, o := range opts {
		o(ev)
	}
	if withKey {
		w.bindDevice(ev, custody.KindCommission, unit, w.newKey(), func(spki string) { b.Identity = &custody.DeviceIdentity{SPKI: spki} })
	}
	s := w.Build(custody.KindCommission, unit, ev, b)
	eff, err := w.Put(s, []ed25519.PrivateKey{a.Key()})
	return s, eff, err
}

// Device is the key that a unit was last given.
func (w *World) Device(unit string) ed25519.PrivateKey { return w.devices[unit] }

// Heads makes manifest members of units and loads by their present heads.
func (w *World) Heads(refs ...custody.UnitRef) (ms []custody.Member) {
	for _, ref := range refs {
		ms = append(ms, custody.Member{URI: ref.URI, Load: ref.Load, Head: w.Load(ref).Head, Salt: w.random()})
	}
	return ms
}

// Open packs members into a new load of a container.
func (w *World) Open(a *Actor, container string, level int64, ms []custody.Member, opts ...Option) (custody.UnitRef, custody.Effect, error) {
	c, ok := w.manifest(ms)
	if !ok {
		panic("no manifest")
	}
	ev := w.Event(a, custody.First())
	ev.OccurredAt, ev.Where = custody.FormatTime(w.time()), nil
	for _, o := range opts {
		o(ev)
	}
	s := w.Build(custody.KindPack, container, ev, &custody.Pack{Level: level, Contents: c})
	eff, err := w.Put(s, []ed25519.PrivateKey{a.Key()})
	return custody.UnitRef{URI: container, Load: s.ID}, eff, err
}

// Change packs members into a load, or unpacks them from it.
func (w *World) Change(kind custody.Kind, a *Actor, load custody.UnitRef, ms []custody.Member, opts ...Option) (*custody.Statement, custody.Effect, error) {
	c, ok := w.manifest(ms)
	if !ok {
		panic("no manifest")
	}
	if kind == custody.KindPack {
		return w.Say(kind, a, load, &custody.Pack{Contents: c}, opts...)
	}
	return w.Say(kind, a, load, &custody.Unpack{Contents: c}, opts...)
}

// HandOver releases a unit or load and has it accepted.
func (w *World) HandOver(from, to *Actor, ref custody.UnitRef, opts ...Option) error {
	s, _, err := w.Say(custody.KindRelease, from, ref, &custody.Release{From: from.URI, To: to.URI}, opts...)
	if err != nil {
		return err
	}
	_, _, err = w.Say(custody.KindAccept, to, ref, &custody.Accept{Accepts: custody.DigestOf(s.ID)}, opts...)
	return err
}

// Register brings a unit's identity to registered.
func (w *World) Register(unit string) {
	a := w.Actors[9]
	w.Say(custody.KindIdentity, a, custody.UnitRef{URI: unit}, &custody.Identity{State: "registered"})
}

// Quiet makes a world for scripts: nobody errs, the operator is honest, and Found
// has been called.
func Quiet(units int) *World {
	w := New(1, Config{Units: units})
	w.Found()
	return w
}

// CommissionLot brings many units into being by one statement.
func (w *World) CommissionLot(a *Actor, p, lot int, ms []custody.Member) error {
	c, ok := w.manifest(ms)
	if !ok {
		panic("no manifest")
	}
	s := w.Build(custody.KindCommission, Lot(p, lot), w.Event(a, custody.First()), &custody.Commission{UnitKind: "chip", Contents: &c})
	_, err := w.Put(s, []ed25519.PrivateKey{a.Key()})
	return err
}

// PackItem makes the opening of a load as the door would get it now.
func (w *World) PackItem(a *Actor, container string, level int64, ms []custody.Member) (custody.Item, error) {
	m, err := custody.NewManifest(ms)
	if err != nil {
		return custody.Item{}, err
	}
	s := w.Build(custody.KindPack, container, w.Event(a, custody.First()), &custody.Pack{Level: level, Contents: m.Contents()})
	return custody.Item{Index: uint64(len(w.Items)), Time: w.Now, Signed: Signed(s, []ed25519.PrivateKey{a.Key()}), Members: m.Members}, nil
}
