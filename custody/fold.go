package custody

// # The fold
//
// Fold.Apply takes any entries in any order of any origin and gives a state; it
// never panics. State consists of small rows (state.go). Every row follows from
// the complete list of one topic, and a unit's statement is judged by the unit's
// own conditions first: only if they hold is the row of its load or parent read.
// So the fold of a closure equals the fold of the whole log (walk.go).
//
// Transitions (actor: who signs; held: phase held by the actor, free, in no load
// and no parent; clear: no hold open on it; keeper: who holds the unit, or the
// outermost load or parent that it is in):
//
//	statement      needs                                              effect
//	commission     phase none; GTIN assigned; actor owns the GTIN or   held(actor); owner = the GTIN's
//	               is a commissioner of the lot's serial block; serial owner; identity bootstrap if a device
//	               listed, if the block lists serials (binds the       key is bound
//	               owner too); units without a GTIN need nothing
//	identity       not ended; registrar, GTIN's owner or keeper;       identity; device key if one is bound
//	               none>bootstrap, none|bootstrap>registered,
//	               registered|suspended>operational, registered|
//	               operational>renewed (operational), any but revoked
//	               >suspended, >revoked
//	assemble add   parent held, or installed and served (below);       parent's chain advances; part-of(parent)
//	               part held and clear; a part fails by itself
//	assemble       parent as above; part is part-of(parent)            part free, held(actor)
//	  remove
//	firmware-load  not ended; keeper, GTIN's owner, service if in use  image of that slot
//	qa-result      as firmware-load, or a lab                          FAILED opens a hold, else noted; a
//	                                                                   lab's own FAILED is a claim
//	pack (opens)   nothing of the container; member held, clear, of a  load: held(actor), level, owner actor;
//	               lower level                                         member in(load)
//	pack (later)   load held and free; member as above                 member in(load); the load does not advance
//	unpack         load held and free; member in(that load)            member free, held(actor), with the load's
//	                                                                   open holds and changes of owner
//	release        held; clear, or lane step "quarantine-return" to    released(actor>to)
//	               the unit's or the GTIN's owner; from = actor
//	accept         released(>actor); prev and accepts are the release  held(actor)
//	refuse         as accept                                           held(sender) and a hold
//	install        held; clear; identity registered or operational;    installed(actor, site)
//	               device signature if a key is bound
//	uninstall      installed; installer, owner or service party        released(actor>to)
//	retire         held, or installed as for uninstall                 ended; identity revoked
//	ownership      not ended; from owns it (a load: see below)         owner
//	hold           not ended; keeper, GTIN's owner, regulator or       hold
//	               authority
//	lift           hold open on that unit; who placed it, or a higher  hold gone from every unit that carries it
//	               rank in that order; after refuse or FAILED also the
//	               keeper
//	void           by the same actor; of a chained statement           unit as before that statement
//	sighting, dispute, finding                                         never change state
//
// "Served": by who installed it, who owns it, or a party with the role service.
// Where a statement carries a device signature and a key is bound, it must verify
// under that key, whatever the predicate.
//
// # Chaining
//
// A chained statement cites the unit's head and continues its seq. Then:
// prev unknown in the unit's own list (or waiting itself) - one unit: it waits,
// at most PendingTTL of log time, and is judged by the state of the unit when its
// predecessor takes effect, but by keys, roles and parties of its own place in the
// log; several units: refused. prev superseded - a repeat of the head by the same
// actor and predicate is refused with the head's ID; else, if the actor could
// lawfully act on the present head, it is refused with that head; else it is
// logged without effect. Of two that cite one prev the first in log order counts.
//
// # Decided beyond the design's table
//
//   - void acts for each unit by itself: the statement must still be that unit's
//     head, and the load (pack, unpack) or parent (parts of an assemble) must have
//     had no later statement of its own. "Head of every unit that it changed" cannot
//     be seen from one member's closure: the others' unpacks stand under contents.
//   - Statements can be voided one after another, at most four deep: a unit
//     remembers no more. Statements that a voided one displaced stay without effect.
//   - Later packs and unpacks cite the load's head (prev, seq + 1) and do not advance
//     it, so several may cite the same.
//   - What needs the entries of others is done per unit or per record: a party
//     statement that lists a taken key enrols the other keys; a manifest with one
//     refused member still applies to the rest, if an operator admits it.
//   - Ownership of a load needs only that the load exists; it passes to each member,
//     at any depth, whose owner was from. Members keep this lazily: it is worked in
//     when they are unpacked, so a pallet's sale is one row.
//   - A hold keeps the rank of who placed it, at that time. Its state is one row, so
//     that one lift clears it for the load and all members that took it along.
//   - A recall is no condition of any transition: recalled goods must be able to
//     travel back. It counts in verdicts. A closing recall needs the rank of the
//     opening one: the present owner of the GTIN, or the authorities.
//   - Serial blocks of one lot add up; countries are those of the latest.
//   - Keys of authorities and of the operator act for their parties without further
//     enrolment, and stop acting when a key statement ends them.
//   - An entry that the door would refuse has no effect and accuses the operator;
//     refusals of single units accuse only as regards these units.

import (
	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// PendingTTL is how long a statement waits for its predecessor, in milliseconds
// of log time.
const PendingTTL = 14 * 24 * 3600 * 1000

// Item is one entry of the log for the fold: a statement whose signatures have
// been verified, at its place in log order.
type Item struct {
	Index  uint64
	Time   uint64 // admittedAt, Unix milliseconds
	Signed *Signed
	// Members are those of the manifest that ManifestOf names, ascending as in
	// the manifest: all of them at the server and in an audit, those proven for a
	// client. Nil when there is no manifest.
	Members []Member
	// Foreseen is what Foresee said of them beforehand; may be nil.
	Foreseen *Foreseen
}

// ID is the ID of the item's statement.
func (it Item) ID() entry.Hash { return it.Signed.Statement.ID }

// ManifestOf returns the digest of the manifest that an Item's Members come from:
// the statement's own, or for void, dispute and lift that of the statement named;
// zero if there is none.
func ManifestOf(st State, s *Statement) entry.Hash {
	if c := s.Contents(); c != nil {
		h, _ := entry.ParseHash(c.Manifest) // Parse refused others
		return h
	}
	if id, _, ok := namedBy(s); ok {
		if n, ok := loadRoot(st, id); ok {
			return n.Manifest
		}
	}
	return entry.Hash{}
}

// Outcome is what became of a statement for one unit or record.
type Outcome byte

// The outcomes.
const (
	Applied  Outcome = iota // state changed as the statement says
	Noted                   // kept; changes no state by its nature
	Waits                   // kept until its predecessor arrives
	NoEffect                // authentic, but illegal: evidence
)

var outcomeNames = [...]string{"applied", "noted", "pending", "no-effect"}

// String returns "applied", "noted", "pending" or "no-effect".
func (o Outcome) String() string { return name(outcomeNames[:], int(o)) }

// Effect is what one entry did.
type Effect struct {
	Index, Time uint64
	ID          entry.Hash
	Kind        Kind
	Actor       string // "" in governance that names none

	// Refused is set when the door should have refused the entry as a whole: it
	// has no effect at all and accuses the operator.
	Refused *problem.Problem
	// Units are the effects on units, in the order: subject, members or parts. An
	// entry that other statements waited for also has their effects.
	Units []UnitEffect
	// Records are the effects on parties, keys, products, lots and recalls.
	Records []RecordEffect
}

// UnitEffect is what one statement did to one unit.
type UnitEffect struct {
	Unit      UnitRef
	Statement entry.Hash // the entry's own, or one that had waited for it
	Index     uint64     // log index of Statement
	Kind      Kind
	Actor     string
	Outcome   Outcome
	Code      Code
	Late      bool // Statement had waited for the entry at hand
	// Contents marks the load's own share of a later pack or unpack: the load does
	// not change, and the statement stands under its contents, not in its list.
	Contents bool
	// Entitled says of a commission of one unit, with effect or without, that its actor
	// might then commission the serial.
	Entitled bool
	// Operator accuses the operator: the door should have refused this, and says
	// in Refusal how.
	Operator bool
	Refusal  *problem.Problem
	// Rival is the effective statement that cites the same predecessor, if the
	// unit still remembers it.
	Rival      entry.Hash
	RivalIndex uint64
	// Before and After are the unit's states; the same pointer if nothing changed.
	// They must not be changed.
	Before, After *Unit
}

// RecordEffect is what a statement of governance did to the records under one
// topic.
type RecordEffect struct {
	Topic    entry.Topic
	Outcome  Outcome
	Code     Code
	Operator bool
}

// Outcome sums an effect up: applied if anything was, else pending, else
// no-effect, else noted; with the code of the first unit or record that is so.
func (e Effect) Outcome() (Outcome, Code) {
	if e.Refused != nil {
		return NoEffect, Code(e.Refused.Type)
	}
	best, code := Noted, CodeNoted
	rank := func(o Outcome) int { return [...]int{Applied: 3, Waits: 2, NoEffect: 1, Noted: 0}[o] }
	for _, u := range e.Units {
		if u.Statement == e.ID && rank(u.Outcome) > rank(best) {
			best, code = u.Outcome, u.Code
		}
	}
	for _, r := range e.Records {
		if rank(r.Outcome) > rank(best) {
			best, code = r.Outcome, r.Code
		}
	}
	return best, code
}

// Word is the effect in a word or two, for answers: "applied", "noted",
// "pending", "no-effect not_holder", "partly applied".
func (e Effect) Word() string {
	o, c := e.Outcome()
	switch o {
	case Applied:
		for _, u := range e.Units {
			if u.Statement == e.ID && u.Outcome == NoEffect {
				return "partly applied"
			}
		}
	case NoEffect:
		return o.String() + " " + string(c)
	}
	return o.String()
}

// Fold is the one function from entries to state.
type Fold struct {
	// Track limits the work to rows of certain topics: a client that walks a
	// closure has complete lists of these only. Nil means all.
	Track func(entry.Topic) bool

	// verified remembers device signatures from one fold of the same items to the
	// next; may be nil.
	verified map[deviceCheck]bool
}

// Apply folds one entry into st and says what it did. It is total: any entries in
// any order give a state, and it never panics. Entries must be applied in
// ascending order of index.
func (f Fold) Apply(st State, it Item) Effect {
	r := newRun(f, st, it)
	if r == nil {
		return Effect{Index: it.Index, Time: it.Time, Refused: problem.New("invalid_statement", "", "the entry is not a readable statement")}
	}
	if p := r.evaluate(); p != nil {
		r.st.drop()
		r.eff.Refused, r.eff.Units, r.eff.Records = p, nil, nil
		return r.eff
	}
	r.count()
	r.st.commit()
	return r.eff
}
