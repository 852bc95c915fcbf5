package custody

import (
	"slices"

	"fabtrail.dev/fabtrail/custody/gs1"
	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// Limits of statements that change nothing, per party and unit.
const (
	// MaxNoEffect bounds illegal and pending statements and disputes, and all that
	// strangers to the unit say.
	MaxNoEffect = 64
	// MaxNoted bounds sightings and other notes of those who hold, own or are to
	// receive the unit.
	MaxNoted = 10_000
	// MaxNoEffectBytes bounds the envelope of a statement that MaxNoEffect counts, so
	// that nobody fills the answers about another's unit.
	MaxNoEffectBytes = 16 << 10
)

// Decision is how a submission enters the log.
type Decision struct {
	Class  entry.Class
	Topics []entry.Topic
	Effect Effect
	// Hint helps where a serial is unknown: others that it may be a misreading of.
	Hint string
}

// Decide asks whether an item enters the log at its index, by the table of the
// door in its order: authentic and admissible; predecessors; already recorded;
// superseded or packed; else it is logged, and folded into st. All members of the
// manifest that ManifestOf names must be given; Statement.CheckManifest, which is
// pure and slow, has passed before. The error, if any, is a *problem.Problem that
// keeps the statement out of the log; nothing was written to st then.
func Decide(st State, it Item) (Decision, error) {
	r := newRun(Fold{}, st, it)
	if r == nil {
		return Decision{}, problem.New("invalid_statement", "", "there is no statement to decide about")
	}
	if m := ManifestOf(st, r.s); !m.IsZero() && len(it.Members) == 0 {
		return Decision{}, problem.New("missing_manifest", "/predicate/contents/manifest", "manifest %s is not here", m).
			WithHint("upload it first: PUT /v1/manifests/%s", m)
	}
	if p := it.Foreseen.confirm(st, it); p != nil {
		return Decision{}, p
	}
	if p := r.refuses(); p != nil {
		return Decision{}, p
	}
	topics := Topics(r.st, it)
	r.count()
	hint := r.hint()
	r.st.commit()
	return Decision{Class: r.s.Kind.Class(), Topics: topics, Effect: r.eff, Hint: hint}, nil
}

// refuses does the work in the overlay and says why the door refuses, if it does.
func (r *run) refuses() *problem.Problem {
	if p := r.evaluate(); p != nil {
		return p
	}
	if p := r.refusal(); p != nil {
		return p
	}
	return r.overLimit(r.it.Signed.Bytes)
}

// Foreseen is the refusal of a statement about the members of a manifest, by a state
// that may be behind.
type Foreseen struct {
	problem *problem.Problem
	members []Member // at fault: all, or maxNamed of them
}

// Foresee does the work of Decide on the members of a manifest beforehand, where it
// holds nobody up. Decide needs to look at the members at fault only, which the Item
// then names: if they still are, that is the answer, and else Decide looks at all. Nil
// if nothing is wrong. Nothing is written to st.
func Foresee(st State, it Item) *Foreseen {
	r := newRun(Fold{}, st, it)
	if r == nil {
		return nil
	}
	p := r.refuses()
	if p == nil {
		return nil
	}
	f := &Foreseen{problem: p}
	at := func(ref UnitRef) {
		if m, ok := findMember(it.Members, ref); ok && len(f.members) < maxNamed {
			f.members = append(f.members, m)
		}
	}
	for _, u := range r.eff.Units {
		if u.Refusal != nil && u.Refusal.Type == p.Type {
			at(u.Unit)
		}
	}
	if r.limited != (UnitRef{}) {
		at(r.limited)
	}
	if len(f.members) == 0 { // it is not because of members: with any of them it is the same
		f.members = it.Members[:min(1, len(it.Members))]
	}
	return f
}

// confirm returns the refusal if the members at fault are so in st, too.
func (f *Foreseen) confirm(st State, it Item) *problem.Problem {
	if f == nil {
		return nil
	}
	it.Members = f.members
	if p := newRun(Fold{}, st, it).refuses(); p == nil || p.Type != f.problem.Type {
		return nil
	}
	return f.problem
}

// refusalOrder is the order of the door's table for refusals of single units.
var refusalOrder = []string{"invalid_statement", "predecessor_unknown", "already_recorded", "superseded", "unpack_first"}

// refusal is the one problem that stands for those of all units: the first kind
// by the table, naming every unit that it concerns.
func (r *run) refusal() *problem.Problem {
	for _, rec := range r.eff.Records {
		if rec.Topic.Kind == entry.TopicLane && rec.Outcome == NoEffect {
			// Its owner sees a list of policies all of which are its own: nobody may take that
			// away by adding one.
			return problem.New("wrong_role", "/predicate/actor", "%s may not issue a route policy of %s: the product is another party's", r.eff.Actor, r.s.Subject)
		}
		if rec.Operator && rec.Code == CodeKeyTaken {
			return problem.New("key_taken", "/predicate/keys", "key %s is enrolled already", rec.Topic.Value).
				WithHint("make a new key; a key serves one party, and none after it ended")
		}
	}
	var found []*problem.Problem
	var units [][]string
	recorded := 0
	for _, u := range r.eff.Units {
		if u.Refusal == nil {
			continue
		}
		if u.Refusal.Type == "already_recorded" {
			recorded++
		}
		i := slices.IndexFunc(found, func(p *problem.Problem) bool { return p.Type == u.Refusal.Type })
		if i < 0 {
			found, units = append(found, u.Refusal), append(units, nil)
			i = len(found) - 1
		}
		units[i] = append(units[i], u.Unit.URI)
	}
	for _, slug := range refusalOrder {
		i := slices.IndexFunc(found, func(p *problem.Problem) bool { return p.Type == slug })
		if i < 0 || slug == "already_recorded" && len(found) > 1 {
			continue
		}
		return named(found[i], units[i], len(r.eff.Units))
	}
	if len(found) > 0 {
		return named(found[0], units[0], len(r.eff.Units))
	}
	return nil
}

// maxNamed bounds the units that a refusal lists.
const maxNamed = 100

func named(p *problem.Problem, units []string, of int) *problem.Problem {
	if of <= 1 {
		return p
	}
	n := len(units)
	if n > maxNamed {
		units = units[:maxNamed]
	}
	return p.With("units", units).With("unitCount", n)
}

func countRow(u UnitRef, party string) string {
	return string(rowNoEffect) + u.String() + " " + party
}

type noEffectCount struct{ illegal, noted uint64 }

func (r *run) loadCount(key string) (c noEffectCount) {
	d := readRow(r.st.Get(key))
	if len(d.b) > 0 {
		c.illegal, c.noted = d.num(), d.num()
	}
	return c
}

// counted calls fn for each unit on which the entry's own statement is without
// effect, and says whether it counts as illegal (which all that a stranger says
// does) or as a note.
func (r *run) counted(fn func(u UnitEffect, illegal bool)) {
	for _, u := range r.eff.Units {
		if u.Statement != r.eff.ID || u.Outcome == Applied || u.Kind == KindFinding {
			continue
		}
		if u.Outcome == Noted && (u.Kind == KindPack || u.Kind == KindUnpack) {
			continue // the load's share of a change of its contents
		}
		fn(u, u.Outcome != Noted || u.Kind == KindDispute || r.isStranger(u.Before))
	}
}

// unheeded calls fn for each record of governance that the entry did not change, with the
// row that counts those of its actor.
func (r *run) unheeded(fn func(row string, t entry.Topic)) {
	for _, rec := range r.eff.Records {
		if rec.Outcome == NoEffect && !rec.Operator {
			fn(string(rowNoEffect)+rec.Topic.String()+" "+r.eff.Actor, rec.Topic)
		}
	}
}

// isStranger reports whether the actor neither holds nor owns nor is to receive u.
func (r *run) isStranger(u *Unit) bool {
	return u == nil || r.actor != u.Party && r.actor != u.To && r.actor != u.Owner
}

// overLimit refuses a party that says too much without effect about one unit, which it
// notes, or about one record of governance.
func (r *run) overLimit(envelope []byte) (p *problem.Problem) {
	r.unheeded(func(row string, t entry.Topic) {
		switch {
		case p != nil:
		case len(envelope) > MaxNoEffectBytes:
			p = problem.New("too_large", "", "a statement without effect on %s has more than %d bytes", t, MaxNoEffectBytes)
		case r.loadCount(row).illegal >= MaxNoEffect:
			p = problem.New("no_effect_limit", "", "%s has made too many statements without effect on %s", r.eff.Actor, t).
				WithHint("the limit is %d; ask the ledger's authorities if these are needed as evidence", MaxNoEffect)
		}
	})
	r.counted(func(u UnitEffect, illegal bool) {
		c := r.loadCount(countRow(u.Unit, r.actor))
		if p == nil && illegal && len(envelope) > MaxNoEffectBytes {
			p = problem.New("too_large", "", "a statement without effect on %s has more than %d bytes", u.Unit.URI, MaxNoEffectBytes).
				WithHint("cite documents by their digest, in evidence").With("unit", u.Unit.URI)
		}
		if p == nil && (illegal && c.illegal >= MaxNoEffect || !illegal && c.noted >= MaxNoted) {
			p = problem.New("no_effect_limit", "", "%s has made too many statements without effect on %s", r.actor, u.Unit.URI).
				WithHint("the limit is %d; ask the ledger's authorities if these are needed as evidence", MaxNoEffect).
				With("unit", u.Unit.URI)
		}
		if p != nil && r.limited == (UnitRef{}) {
			r.limited = u.Unit
		}
	})
	return p
}

// count adds to the numbers that overLimit reads.
func (r *run) count() {
	r.unheeded(func(row string, _ entry.Topic) {
		c := r.loadCount(row)
		c.illegal++
		r.storeCount(row, c)
	})
	r.counted(func(u UnitEffect, illegal bool) {
		key := countRow(u.Unit, r.actor)
		c := r.loadCount(key)
		if illegal {
			c.illegal++
		} else {
			c.noted++
		}
		r.storeCount(key, c)
	})
}

func (r *run) storeCount(key string, c noEffectCount) {
	var w rowWriter
	w.num(c.illegal)
	w.num(c.noted)
	r.st.Set(key, w.b)
}

// hint names live serials that an unknown one may be a misreading of.
func (r *run) hint() string {
	for _, u := range r.eff.Units {
		if u.After.Phase != PhaseNone || u.Unit.IsLoad() || len(r.eff.Units) > 8 {
			continue
		}
		id, err := gs1.ParseCanonical(u.Unit.URI)
		if err != nil {
			continue
		}
		for _, near := range gs1.NearMisses(id) {
			if v := LoadUnit(r.st, UnitRef{URI: near.URI()}); v != nil && v.Phase != PhaseNone {
				return "this serial was never commissioned; is it " + near.URI() + "?"
			}
		}
	}
	return ""
}
