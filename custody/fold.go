package custody

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
