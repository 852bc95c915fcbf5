package node

import (
	"slices"

	"fabtrail.dev/fabtrail/api"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/problem"
)

// Relation is what a caller is to what it asks for.
type Relation int

// The relations. A caller that is several of them is the first that relation finds.
const (
	Nobody    Relation = iota // shows neither a token nor a pedigree key
	KeyHolder                 // shows the pedigree key that is printed on the unit
	Concerned                 // a party that has or had a part in it, scope custody:read
	WriteOnly                 // such a party, but its token lacks custody:read
	Stranger                  // a party that has no part in it
	Operator                  // the ledger's operator, where it has no part in it
	Auditor                   // scope audit
	Admin                     // scope admin and neither audit nor a part in it
	relations
)

// Relations names the relations, in the order of the columns of Access.
var Relations = [relations]string{
	"nobody", "key holder", "concerned", "write only", "stranger", "operator", "auditor", "admin",
}

// Resource is what is not open to everybody.
type Resource int

// The resources. Public statements, index commitments, checkpoints, tiles, proofs,
// parties and the trust folder are open, and not in the table.
const (
	UnitAnswer    Resource = iota // GET /v1/units of a unit that is in the ledger
	UnitAbsence                   // GET /v1/units of one that is not
	UnitsCheck                    // POST /v1/units:check of units that are, each
	StatementBody                 // GET /v1/statements/{id} of a restricted statement
	EntryCargo                    // restricted cargo and manifests in GET /v1/entries
	Unpublished                   // GET /v1/entries?signed=true
	FindingList                   // GET /v1/findings
	PutManifest                   // PUT /v1/manifests/{sha256}
	resources
)

// Resources names the resources, in the order of the rows of Access.
var Resources = [resources]string{
	"GET /v1/units, known unit", "GET /v1/units, unknown unit", "POST /v1/units:check, each known unit", "GET /v1/statements/{id}, restricted",
	"GET /v1/entries, restricted cargo", "GET /v1/entries?signed=true", "GET /v1/findings", "PUT /v1/manifests/{sha256}",
}

// Grant is what a relation gets of a resource.
type Grant string

// The grants.
const (
	Full     Grant = "full"     // all of it
	Own      Grant = "own"      // what concerns the caller's party
	Word     Grant = "word"     // a status word, never a green one
	Withheld Grant = "withheld" // that there is something, not what
	Token    Grant = "401"      // token_required
	Scope    Grant = "403"      // scope_missing or not_entitled
)

// Access says who gets what, of everything that is restricted. EntryCargo,
// Unpublished and PutManifest, and who needs a token at all, are decided by the
// routes of package api, by scope; the rest by what follows here.
//
// The scope admin is for bringing what the authorities signed: it reads no more than
// its party does. Nor does the operator have a right to read over HTTP by being the
// operator; whoever runs the machine has the disk, and needs a token of scope audit
// to use this door for it.
var Access = [resources][relations]Grant{
	//               nobody    key holder  concerned write only stranger  operator  auditor admin
	UnitAnswer:    {Word, Full, Full, Word, Word, Word, Full, Word},
	UnitAbsence:   {Full, Full, Full, Full, Full, Full, Full, Full},
	UnitsCheck:    {Word, Full, Full, Word, Word, Word, Full, Word},
	StatementBody: {Token, Token, Full, Full, Scope, Scope, Full, Scope},
	EntryCargo:    {Withheld, Withheld, Withheld, Withheld, Withheld, Withheld, Full, Withheld},
	Unpublished:   {Token, Token, Scope, Scope, Scope, Scope, Full, Scope},
	FindingList:   {Token, Token, Own, Scope, Own, Own, Full, Scope},
	PutManifest:   {Token, Token, Full, Full, Full, Full, Scope, Full},
}

// relation says what a caller is: key, whether it showed the unit's pedigree key;
// part, whether its party has a part in what it asks for.
func (n *Node) relation(who api.Caller, key, part bool) Relation {
	switch {
	case who.Has(api.ScopeAudit):
		return Auditor
	case key:
		return KeyHolder
	case !who.Known():
		return Nobody
	case part && who.Has(api.ScopeRead):
		return Concerned
	case part && (who.Has(api.ScopeWrite) || who.Has(api.ScopeAdmin)):
		return WriteOnly
	case who.Has(api.ScopeAdmin):
		return Admin
	case who.Party == n.operator.party:
		return Operator
	}
	return Stranger
}

// unitGrant says what a caller gets of a unit that is in the ledger.
func (n *Node) unitGrant(who api.Caller, key []byte, h *custody.History) Grant {
	part := who.Known() && slices.Contains(h.Parties(), who.Party)
	return Access[UnitAnswer][n.relation(who, holdsKey(key, h), part)]
}

// holdsKey reports whether key is the one printed on the unit.
func holdsKey(key []byte, h *custody.History) bool {
	if len(key) == 0 || h.Unit.Pedigree.IsZero() {
		return false
	}
	digest, err := custody.PedigreeDigest(key)
	return err == nil && digest == h.Unit.Pedigree
}

// mayRead refuses a restricted statement to whom it does not concern.
func (n *Node) mayRead(who api.Caller, st *custody.Statement) error {
	part := who.Known() && slices.Contains(partiesOf(st), who.Party)
	switch Access[StatementBody][n.relation(who, false, part)] {
	case Full:
		return nil
	case Token:
		return problem.New("token_required", "Authorization", "this statement is for the parties concerned")
	}
	return problem.New("not_entitled", "", "this statement is for the parties concerned")
}

// lanes says which route policies the caller may see: an auditor all, a party its own;
// nil: none.
func (n *Node) lanes(who api.Caller) func(custody.Item) bool {
	if !who.Has(api.ScopeAudit) && !who.Has(api.ScopeRead) {
		return nil
	}
	return func(it custody.Item) bool {
		part := who.Known() && actorOf(it.Signed.Statement) == who.Party
		return Access[UnitAnswer][n.relation(who, false, part)] == Full
	}
}

// mayKnow reports whether a caller gets to see a finding; concerned says whether
// its party has a part in it.
func (n *Node) mayKnow(who api.Caller, concerned func() bool) bool {
	if Access[FindingList][n.relation(who, false, false)] == Full {
		return true
	}
	return Access[FindingList][n.relation(who, false, true)] == Own && concerned()
}

// actorOf is the party that a statement is of.
func actorOf(s *custody.Statement) string {
	switch b := s.Body.(type) {
	case *custody.RoutePolicy:
		return b.Actor
	case *custody.SerialBlock:
		return b.Actor
	}
	if s.Event != nil {
		return s.Event.Actor
	}
	return ""
}

// partiesOf names the parties that one statement concerns.
func partiesOf(s *custody.Statement) []string {
	ps := []string{}
	if actor := actorOf(s); actor != "" {
		ps = append(ps, actor)
	}
	switch b := s.Body.(type) {
	case *custody.Release:
		ps = append(ps, b.From, b.To)
	case *custody.Uninstall:
		ps = append(ps, b.To)
	case *custody.Ownership:
		ps = append(ps, b.From, b.To)
	case *custody.SerialBlock:
		ps = append(ps, b.Commissioners...)
	case *custody.RoutePolicy:
		for _, step := range b.Steps {
			ps = append(append(ps, step.From...), step.To...)
		}
	case *custody.Finding:
		ps = append(ps, b.Accused)
	}
	return ps
}
