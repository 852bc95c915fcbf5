package custody

import (
	"slices"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// Phase is the custody region of a unit.
type Phase byte

// The phases of custody.
const (
	PhaseNone      Phase = iota // never commissioned (or that was taken back)
	PhaseHeld                   // held by Party
	PhaseReleased               // on its way from Party to To
	PhaseInstalled              // in use, installed by Party
	PhaseEnded                  // retired
)

var phaseNames = [...]string{"none", "held", "released", "installed", "ended"}

// String returns the phase in words that documents use.
func (p Phase) String() string { return name(phaseNames[:], int(p)) }

// Place is the containment region of a unit.
type Place byte

// The places of containment.
const (
	Free   Place = iota
	InLoad       // packed; Unit.In is the load
	PartOf       // assembled; Unit.In is the parent
)

var placeNames = [...]string{"free", "in", "part-of"}

// String returns "free", "in" or "part-of".
func (p Place) String() string { return name(placeNames[:], int(p)) }

// IdentityState is the identity region of a unit.
type IdentityState byte

// The states of a device's identity. "renewed" in a statement leads to
// operational.
const (
	IdentityNone IdentityState = iota
	IdentityBootstrap
	IdentityRegistered
	IdentityOperational
	IdentitySuspended
	IdentityRevoked
)

var identityNames = [...]string{"none", "bootstrap", "registered", "operational", "suspended", "revoked"}

// String returns the state as statements write it.
func (s IdentityState) String() string { return name(identityNames[:], int(s)) }

func name(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return "unknown"
}

// Unit is all that the fold keeps about a serialised thing or a load. Party and
// To hold party URIs, times are not kept: the log index orders everything.
type Unit struct {
	Ref UnitRef

	Phase Phase
	Party string // holder, sender, or installer
	To    string // the receiver meant, while released
	Site  string // where it was installed, as far as that is public

	Place Place
	In    UnitRef // the load or parent
	Since uint64  // log index of the statement that put it there

	Identity  IdentityState
	DeviceKey []byte // SPKI (DER) bound to this serial; empty if none

	Owner   string
	OwnerAt uint64 // transfers of loads are worked into Owner up to this index

	Holds    []HoldRef  // open and lifted ones; see Fold
	Firmware []Firmware // by slot, ascending

	Head      entry.Hash // the latest effective chained statement
	HeadIndex uint64
	Seq       int64 // of Head; -1 if there is none

	Level     uint8      // of a load: 1 to 8
	Transfers []Transfer // of a load: ownership statements, ascending by index

	Kind         string // as commissioned: chip, module, board, device, ...
	Lot          string // lot URI, if commissioned with a lot
	Pedigree     entry.Hash
	CommissionAt uint64 // log index of the effective commission or opening

	// Known holds the log indexes of the chained statements in this unit's own
	// list, with or without effect, ascending: what "known predecessor" means.
	Known []uint64
	// Waiting holds those of them that wait for their predecessor.
	Waiting []uint64

	undo []frame // what void goes back to, oldest first
}

// HoldRef says that a hold applies to a unit. Via is the statement that brought
// it: the hold itself, or the unpack that passed it on.
type HoldRef struct{ ID, Via entry.Hash }

// Firmware is the image in one slot of a device.
type Firmware struct {
	Slot  string
	Image entry.Hash
}

// Transfer is a change of ownership of a load.
type Transfer struct {
	Index    uint64
	From, To string
}

// frame is the state that one chained statement replaced.
type frame struct {
	Phase     Phase
	Party, To string
	Site      string
	Place     Place
	In        UnitRef
	Since     uint64
	Identity  IdentityState
	Head      entry.Hash
	HeadIndex uint64
	Seq       int64
}

// maxUndo bounds how many statements of a unit can be voided one after another.
const maxUndo = 4

func newUnit(ref UnitRef) *Unit { return &Unit{Ref: ref, Seq: -1} }

// Clone returns a copy that shares nothing that the fold changes in place.
func (u *Unit) Clone() *Unit {
	c := *u
	c.Holds = slices.Clone(u.Holds)
	c.Firmware = slices.Clone(u.Firmware)
	c.Transfers = slices.Clone(u.Transfers)
	c.Known = slices.Clone(u.Known)
	c.Waiting = slices.Clone(u.Waiting)
	c.undo = slices.Clone(u.undo)
	return &c
}

// advance makes a chained statement the unit's head; the caller then changes the
// regions.
func (u *Unit) advance(id entry.Hash, index uint64) {
	if len(u.undo) == maxUndo {
		u.undo = slices.Delete(u.undo, 0, 1)
	}
	u.undo = append(u.undo, frame{u.Phase, u.Party, u.To, u.Site, u.Place, u.In, u.Since, u.Identity, u.Head, u.HeadIndex, u.Seq})
	u.Head, u.HeadIndex, u.Seq = id, index, u.Seq+1
}

// previous returns what the head replaced; ok is false when that is forgotten.
func (u *Unit) previous() (f frame, ok bool) {
	if len(u.undo) == 0 {
		return frame{}, false
	}
	return u.undo[len(u.undo)-1], true
}

// rival returns the effective statement that cites prev: the one that took the
// place which another statement claims. ok is false when it is out of memory.
func (u *Unit) rival(prev entry.Hash) (id entry.Hash, index uint64, ok bool) {
	for i, f := range u.undo {
		if f.Head != prev {
			continue
		}
		if i+1 < len(u.undo) {
			return u.undo[i+1].Head, u.undo[i+1].HeadIndex, true
		}
		return u.Head, u.HeadIndex, !u.Head.IsZero()
	}
	return entry.Hash{}, 0, false
}

// take undoes the head. kind is that of the head; identity goes back only where
// the head itself changed it, because identity statements do not chain.
func (u *Unit) take(kind Kind) {
	f, _ := u.previous()
	u.undo = u.undo[:len(u.undo)-1]
	voided := u.Head
	u.Phase, u.Party, u.To, u.Site = f.Phase, f.Party, f.To, f.Site
	u.Place, u.In, u.Since = f.Place, f.In, f.Since
	u.Head, u.HeadIndex, u.Seq = f.Head, f.HeadIndex, f.Seq
	u.Holds = slices.DeleteFunc(u.Holds, func(h HoldRef) bool { return h.Via == voided })
	switch kind {
	case KindRetire:
		u.Identity = f.Identity
	case KindCommission:
		u.Identity, u.DeviceKey, u.Owner, u.OwnerAt = IdentityNone, nil, "", 0
		u.Kind, u.Lot, u.Pedigree, u.CommissionAt, u.Firmware = "", "", entry.Hash{}, 0, nil
	}
}

func (u *Unit) setFirmware(slot string, image entry.Hash) {
	i, found := slices.BinarySearchFunc(u.Firmware, slot, func(f Firmware, s string) int {
		switch {
		case f.Slot < s:
			return -1
		case f.Slot > s:
			return 1
		}
		return 0
	})
	if found {
		u.Firmware[i].Image = image
		return
	}
	u.Firmware = slices.Insert(u.Firmware, i, Firmware{slot, image})
}

// addKnown notes a chained statement of the unit's own list.
func (u *Unit) addKnown(index uint64) {
	if i, found := slices.BinarySearch(u.Known, index); !found {
		u.Known = slices.Insert(u.Known, i, index)
	}
}

func (u *Unit) waits(index uint64) bool { return slices.Contains(u.Waiting, index) }

// sales counts the transfers of a load by one party.
func (u *Unit) sales(from string) (n int) {
	for _, t := range u.Transfers {
		if t.From == from {
			n++
		}
	}
	return n
}

// transferred returns owner after the transfers later than index after.
func transferred(owner string, ts []Transfer, after uint64) string {
	for _, t := range ts {
		if t.Index > after && t.From == owner {
			owner = t.To
		}
	}
	return owner
}

const unitVersion = 1

func (u *Unit) marshal() []byte {
	w := rowWriter{b: make([]byte, 0, 192)}
	w.byte(unitVersion)
	w.byte(byte(u.Phase))
	w.str(u.Party)
	w.str(u.To)
	w.str(u.Site)
	w.byte(byte(u.Place))
	w.ref(u.In)
	w.num(u.Since)
	w.byte(byte(u.Identity))
	w.str(string(u.DeviceKey))
	w.str(u.Owner)
	w.num(u.OwnerAt)
	w.num(uint64(len(u.Holds)))
	for _, h := range u.Holds {
		w.hash(h.ID)
		w.opt(entryIf(h.Via, h.Via != h.ID))
	}
	w.num(uint64(len(u.Firmware)))
	for _, f := range u.Firmware {
		w.str(f.Slot)
		w.hash(f.Image)
	}
	w.opt(u.Head)
	w.num(u.HeadIndex)
	w.num(uint64(u.Seq + 1))
	w.byte(u.Level)
	w.num(uint64(len(u.Transfers)))
	for _, t := range u.Transfers {
		w.num(t.Index)
		w.str(t.From)
		w.str(t.To)
	}
	w.str(u.Kind)
	w.str(u.Lot)
	w.opt(u.Pedigree)
	w.num(u.CommissionAt)
	w.indexes(u.Known)
	w.indexes(u.Waiting)
	w.num(uint64(len(u.undo)))
	for _, f := range u.undo {
		w.byte(byte(f.Phase))
		w.str(f.Party)
		w.str(f.To)
		w.str(f.Site)
		w.byte(byte(f.Place))
		w.ref(f.In)
		w.num(f.Since)
		w.byte(byte(f.Identity))
		w.opt(f.Head)
		w.num(f.HeadIndex)
		w.num(uint64(f.Seq + 1))
	}
	return w.b
}

func parseUnit(ref UnitRef, b []byte) *Unit {
	u := newUnit(ref)
	d := readRow(b)
	if d.byte() != unitVersion {
		return u
	}
	u.Phase = Phase(d.byte())
	u.Party, u.To, u.Site = d.str(), d.str(), d.str()
	u.Place, u.In, u.Since = Place(d.byte()), d.ref(), d.num()
	u.Identity = IdentityState(d.byte())
	u.DeviceKey = []byte(d.str())
	u.Owner, u.OwnerAt = d.str(), d.num()
	for range d.count() {
		h := HoldRef{ID: d.hash()}
		if h.Via = d.opt(); h.Via.IsZero() {
			h.Via = h.ID
		}
		u.Holds = append(u.Holds, h)
	}
	for range d.count() {
		u.Firmware = append(u.Firmware, Firmware{d.str(), d.hash()})
	}
	u.Head, u.HeadIndex, u.Seq = d.opt(), d.num(), int64(d.num())-1
	u.Level = d.byte()
	for range d.count() {
		u.Transfers = append(u.Transfers, Transfer{d.num(), d.str(), d.str()})
	}
	u.Kind, u.Lot, u.Pedigree, u.CommissionAt = d.str(), d.str(), d.opt(), d.num()
	u.Known, u.Waiting = d.indexes(), d.indexes()
	for range d.count() {
		u.undo = append(u.undo, frame{Phase(d.byte()), d.str(), d.str(), d.str(), Place(d.byte()), d.ref(), d.num(),
			IdentityState(d.byte()), d.opt(), d.num(), int64(d.num()) - 1})
	}
	if d.bad {
		return newUnit(ref)
	}
	return u
}

func entryIf(h entry.Hash, ok bool) entry.Hash {
	if ok {
		return h
	}
	return entry.Hash{}
}

func (w *rowWriter) ref(r UnitRef) {
	w.str(r.URI)
	if r.URI != "" {
		w.opt(r.Load)
	}
}

func (d *rowReader) ref() (r UnitRef) {
	if r.URI = d.str(); r.URI != "" {
		r.Load = d.opt()
	}
	return r
}

// indexes are ascending and written as differences.
func (w *rowWriter) indexes(list []uint64) {
	w.num(uint64(len(list)))
	var last uint64
	for _, n := range list {
		w.num(n - last)
		last = n
	}
}

func (d *rowReader) indexes() (list []uint64) {
	var last uint64
	for range d.count() {
		last += d.num()
		list = append(list, last)
	}
	return list
}

// LoadUnit reads a unit's row; nil when the unit was never named by a statement.
func LoadUnit(st State, ref UnitRef) *Unit {
	b := st.Get(ref.row())
	if b == nil {
		return nil
	}
	return parseUnit(ref, b)
}
