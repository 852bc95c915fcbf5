package epcis

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"slices"
	"sort"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// Resolver answers what a plan has to know about the ledger. Its errors abort the
// plan.
type Resolver interface {
	// Enrolled reports whether a party is enrolled.
	Enrolled(party string) (bool, error)
	// Unit returns the state of a unit or load, nil if the ledger has none of it.
	Unit(ref custody.UnitRef) (*custody.Unit, error)
	// Load returns the latest load of a container; ok is false if it has none.
	Load(container string) (ref custody.UnitRef, ok bool, err error)
	// Members lists what is in a load now. nil means that it is not known.
	Members(load custody.UnitRef) ([]custody.UnitRef, error)
	// Parts lists the serialised components of a unit. nil means that they are
	// not known.
	Parts(parent string) ([]string, error)
	// Recorded lists the statements that carry this EPCIS event hash and name the
	// unit (or a load of the container): as subject, member of a manifest or
	// component; whoever made them.
	Recorded(uri, hashID string) ([]Recorded, error)
}

// Recorded is a statement that was made from an EPCIS event.
type Recorded struct {
	ID      entry.Hash
	Kind    custody.Kind
	Subject string
	Load    entry.Hash // zero if the subject is no load
	Actor   string
	Voided  bool
}

// Options say for whom and how to plan.
type Options struct {
	Ledger entry.Hash // SHA-256 of the charter's payload
	Party  string     // canonical URI of the partner whose key will sign
	// Secret keys the salts of manifests and sealed groups; the same secret gives
	// the same plan. It must not be zero and not be published.
	Secret [32]byte
	// UnitKind names the kind of the units of a GTIN (14 digits; empty for
	// identifiers without one) for commissions. nil: all are devices.
	UnitKind func(gtin string) string
	// KnownOnly refuses statements on units that the ledger does not know, which
	// it would log without effect.
	KnownOnly bool
}

// Result is what became of an event.
type Result string

// The results.
const (
	ResultStatement Result = "statement"
	ResultSighting  Result = "sighting"
	ResultEvidence  Result = "evidence only"
	ResultRefused   Result = "refused"
)

// Outcome is what became of one event.
type Outcome struct {
	Event      *Event
	Result     Result
	Why        string             // for evidence only and refused; else empty
	Statements []*Planned         // in the order in which they must be submitted
	Repeats    []Recorded         // statements made from this event already
	Problems   []*problem.Problem // why the event, or single identifiers of it, were refused
	Notes      []string           // what was left out or replaced
}

// Planned is a statement ready to be signed.
type Planned struct {
	Kind     custody.Kind
	Subject  string
	Event    *custody.Event
	Body     any
	Payload  []byte            // what is signed
	ID       entry.Hash        // SHA-256 of Payload
	Manifest *custody.Manifest // to be uploaded first; nil if there is none
	Openings []custody.Opening // of sealed groups; to be kept
	Signers  []string          // parties that must sign
	Unknown  bool              // the ledger does not know the unit: no effect is to be expected
}

// Plan holds the outcomes of a document, in its order, and the statements of all
// of them in the order in which they must be submitted (by event time).
type Plan struct {
	Outcomes   []*Outcome
	Statements []*Planned
	Counts     map[Result]int
}

// planner makes one plan.
type planner struct {
	doc    *Document
	opt    Options
	res    Resolver
	views  map[custody.UnitRef]*view
	loads  map[string]custody.UnitRef // loads opened by this plan, by container
	made   map[[2]string][]Recorded   // by event hash and URI
	voids  map[entry.Hash]bool        // statements that the plan voids
	out    *Outcome                   // of the event at hand
	all    []*Planned
	failed error // of the resolver
}

// Map maps every event of a document. An invalid document gives refusals only.
// The error is the resolver's, or says that the options cannot be used.
func Map(doc *Document, opt Options, res Resolver) (*Plan, error) {
	if opt.Secret == ([32]byte{}) {
		return nil, problem.New("invalid_parameter", "secret", "the secret that salts manifests is missing")
	}
	plan := &Plan{Counts: map[Result]int{}}
	if !doc.Valid() {
		plan.Outcomes = refuseAll(doc)
	} else {
		p := &planner{doc: doc, opt: opt, res: res, views: map[custody.UnitRef]*view{}, loads: map[string]custody.UnitRef{},
			made: map[[2]string][]Recorded{}, voids: map[entry.Hash]bool{}}
		enrolled, err := res.Enrolled(opt.Party)
		if err != nil {
			return nil, err
		}
		plan.Outcomes = make([]*Outcome, len(doc.Events))
		for _, i := range order(doc.Events) {
			e := doc.Events[i]
			p.out = &Outcome{Event: e}
			if enrolled {
				p.event(e)
			} else {
				p.problem("unknown_party", Value{Pointer: e.Pointer, Line: e.Line}, "the importing party %s is not enrolled", opt.Party)
			}
			if p.failed != nil {
				return nil, p.failed
			}
			p.out.settle()
			plan.Outcomes[i] = p.out
		}
		plan.Statements = p.all
	}
	for _, o := range plan.Outcomes {
		plan.Counts[o.Result]++
	}
	return plan, nil
}

// order sorts events by the time at which they were made: an error declaration by
// the time of the declaration.
func order(events []*Event) []int {
	index := make([]int, len(events))
	for i := range index {
		index[i] = i
	}
	at := func(i int) int64 {
		if d := events[i].Error; d != nil {
			if t, err := parseTime(d.Time); err == nil {
				return t.UnixNano()
			}
		}
		return events[i].Time.UnixNano()
	}
	sort.SliceStable(index, func(a, b int) bool { return at(index[a]) < at(index[b]) })
	return index
}

// refuseAll is the outcome of a document that is not valid: nothing of it is
// taken, as in an EPCIS capture that is rolled back.
func refuseAll(doc *Document) []*Outcome {
	var out []*Outcome
	for _, e := range doc.Events {
		o := &Outcome{Event: e, Result: ResultRefused, Problems: e.problems}
		if len(e.problems) > 0 {
			o.Why = e.problems[0].Detail
		} else {
			o.Why = "the document has invalid parts elsewhere and is refused whole"
			p := problem.New("invalid_epcis", e.Pointer, "line %d: %s", e.Line, o.Why).With("line", e.Line).With("event", e.Index)
			o.Problems = append(o.Problems, p)
		}
		out = append(out, o)
	}
	return out
}

// repeat notes, once, a statement that was made from the event already.
func (o *Outcome) repeat(r Recorded) {
	if !slices.ContainsFunc(o.Repeats, func(have Recorded) bool { return have.ID == r.ID }) {
		o.Repeats = append(o.Repeats, r)
	}
}

// settle concludes the result from what was gathered.
func (o *Outcome) settle() {
	if o.Result == "" {
		switch {
		case len(o.Statements)+len(o.Repeats) > 0:
			o.Result = ResultSighting
			for _, s := range o.Statements {
				if s.Kind != custody.KindSighting {
					o.Result = ResultStatement
				}
			}
			for _, r := range o.Repeats {
				if r.Kind != custody.KindSighting {
					o.Result = ResultStatement
				}
			}
		case len(o.Problems) > 0:
			o.Result = ResultRefused
		default:
			o.Result = ResultEvidence
		}
	}
	if o.Result == ResultRefused && o.Why == "" && len(o.Problems) > 0 {
		o.Why = o.Problems[0].Detail
	}
	if o.Result == ResultEvidence && o.Why == "" && len(o.Notes) > 0 {
		o.Why, o.Notes = o.Notes[0], o.Notes[1:]
	}
}

// evidence settles the event at hand as evidence only.
func (p *planner) evidence(format string, a ...any) {
	p.out.Result, p.out.Why = ResultEvidence, fmt.Sprintf(format, a...)
}

// problem notes why the event at hand, or one identifier of it, is refused.
func (p *planner) problem(slug string, at Value, format string, a ...any) defect {
	e := problem.New(slug, at.Pointer, "line %d: %s", at.Line, fmt.Sprintf(format, a...)).With("line", at.Line).With("event", p.out.Event.Index)
	p.out.Problems = append(p.out.Problems, e)
	return defect{e}
}

// adopt notes another package's problem at a place of the document.
func (p *planner) adopt(err error, at Value) {
	if q := problem.As(err); q != nil {
		e := p.problem(q.Type, at, "%s", q.Detail).problem
		e.Hint = q.Hint
		for name, v := range q.Extra {
			if _, taken := e.Extra[name]; !taken {
				_ = e.With(name, v)
			}
		}
		return
	}
	p.failed = err
}

// maxNotes bounds the notes on one event.
const maxNotes = 200

// note tells once what was left out or replaced.
func (p *planner) note(format string, a ...any) {
	n := fmt.Sprintf(format, a...)
	if len(p.out.Notes) < maxNotes && !slices.Contains(p.out.Notes, n) {
		p.out.Notes = append(p.out.Notes, n)
	}
}

// fail keeps the resolver's first error; it reports whether there is one.
func (p *planner) fail(err error) bool {
	if err != nil && p.failed == nil {
		p.failed = err
	}
	return p.failed != nil
}

// derive returns 32 bytes that only the holder of the secret can foretell.
func (p *planner) derive(purpose string, parts ...string) (h entry.Hash) {
	mac := hmac.New(sha256.New, p.opt.Secret[:])
	for _, s := range append([]string{"fabtrail/epcis/v1", purpose}, parts...) {
		fmt.Fprintf(mac, "%d\n%s", len(s), s)
	}
	copy(h[:], mac.Sum(nil))
	return h
}

// draft is what differs from statement to statement.
type draft struct {
	kind     custody.Kind
	ref      custody.UnitRef
	chain    *custody.Chain
	body     any
	manifest *custody.Manifest
	at       Value    // the identifier that it is about, for errors
	signers  []string // beside the actor
	unknown  bool
	seal     bool // the place is sealed
}

// emit makes the statement of a draft and adds it to the plan. It returns nil if
// the statement is refused.
func (p *planner) emit(d draft) *Planned {
	e := p.out.Event
	ev := &custody.Event{
		OccurredAt: custody.FormatTime(e.Time),
		Actor:      p.opt.Party,
		Chain:      d.chain,
		Evidence:   []custody.Evidence{{Name: "EPCIS document", MediaType: "application/ld+json", Digest: custody.DigestOf(p.doc.Digest)}},
		EPCIS:      &custody.EPCISRef{EventID: e.ID, HashID: e.HashID},
	}
	if d.chain == nil {
		ev.Chain = custody.Unchained()
	}
	if d.ref.IsLoad() {
		ev.Load = d.ref.Load.String()
	}
	salt := p.derive("event id", e.HashID, d.ref.String(), string(d.kind), fmt.Sprint(len(p.out.Statements)))
	ev.EventID = custody.NewEventID(e.Time, bytes.NewReader(salt[:]))
	planned := &Planned{Kind: d.kind, Subject: d.ref.URI, Event: ev, Body: d.body, Manifest: d.manifest, Unknown: d.unknown,
		Signers: append([]string{p.opt.Party}, d.signers...)}
	if err := p.where(planned, d.seal); err != nil {
		p.adopt(err, d.at)
		return nil
	}
	payload, err := custody.NewPayload(d.kind, d.ref.URI, p.opt.Ledger, ev, d.body)
	if err != nil {
		p.adopt(err, d.at)
		return nil
	}
	planned.Payload, planned.ID = payload, entry.StatementID(payload)
	p.out.Statements = append(p.out.Statements, planned)
	p.all = append(p.all, planned)
	p.remember(planned, d.ref.URI)
	if v, ok := d.body.(*custody.Void); ok {
		p.voids[v.Voids.Hash()] = true
	}
	return planned
}

// remember lets a later event of the document find a statement by the event that
// it was made from and a unit that it is about.
func (p *planner) remember(s *Planned, uri string) {
	r := Recorded{ID: s.ID, Kind: s.Kind, Subject: s.Subject, Actor: p.opt.Party}
	if s.Event.Load != "" {
		r.Load, _ = entry.ParseHash(s.Event.Load) // written by emit
	}
	key := [2]string{p.out.Event.HashID, uri}
	p.made[key] = append(p.made[key], r)
}
