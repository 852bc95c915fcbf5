package custody

import (
	"slices"
	"strings"

	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// The roles of parties. A party may have several; the authorities give them.
const (
	RoleBrand       = "brand"       // owns products, need not touch them
	RoleMaker       = "maker"       // fab, OSAT, module maker, contract manufacturer
	RoleLab         = "lab"         // tests
	RoleRegistrar   = "registrar"   // registers device identities (a CA)
	RoleCarrier     = "carrier"     // moves goods by road, air, sea or rail
	RoleDistributor = "distributor" // stores and sells
	RoleInstaller   = "installer"   // puts devices into use
	RoleService     = "service"     // repairs, takes back
	RoleRegulator   = "regulator"   // may hold anything
	RoleAuditor     = "auditor"     // may post findings
)

// Roles lists every role.
var Roles = []string{RoleBrand, RoleMaker, RoleLab, RoleRegistrar, RoleCarrier, RoleDistributor, RoleInstaller,
	RoleService, RoleRegulator, RoleAuditor}

// rolesFor says which roles may issue a predicate; predicates that are not listed
// need none, since state decides (who holds, who owns, who was meant).
var rolesFor = map[Kind][]string{
	KindCommission:   {RoleMaker, RoleBrand},
	KindIdentity:     {RoleRegistrar, RoleMaker, RoleBrand},
	KindAssemble:     {RoleMaker, RoleService},
	KindFirmwareLoad: {RoleMaker, RoleBrand, RoleInstaller, RoleService},
	KindQAResult:     {RoleMaker, RoleBrand, RoleLab, RoleDistributor, RoleInstaller, RoleService},
	KindInstall:      {RoleInstaller},
	KindFinding:      {RoleAuditor},
}

// RolesFor returns the roles that may issue a predicate; nil means any.
func RolesFor(k Kind) []string { return slices.Clone(rolesFor[k]) }

// Rank orders who may place and lift holds and close recalls: a higher one may
// lift what a lower one has placed.
type Rank byte

// The ranks.
const (
	RankNone      Rank = iota
	RankKeeper         // holds the unit, or refused it
	RankOwner          // owns the unit's GTIN
	RankRegulator      // has the role of a regulator
	RankAuthority      // is one of the ledger's authorities
)

// directory is the SignerDirectory of a State.
type directory struct {
	st State
	g  *Governance // read when first asked for
}

func (d *directory) gov() *Governance {
	if d.g == nil {
		g := LoadGovernance(d.st)
		d.g = &g
	}
	return d.g
}

// charter reads the ID of the charter alone, which every statement is held to.
func (d *directory) charter() (id entry.Hash) {
	copy(id[:], d.st.Get(string(rowLog)))
	return id
}

// PartyOf implements SignerDirectory. The keys of authorities and of the operator
// act for their parties without a further enrolment; a key that ended does not.
func (d *directory) PartyOf(h entry.Hash) (string, bool) {
	if k, ok := LoadKey(d.st, h); ok {
		return k.Party, !k.Ended
	}
	for _, a := range d.gov().Authorities {
		if a.Hash == h {
			return a.Party, true
		}
	}
	if d.gov().Operator.Hash == h {
		return d.gov().Operator.Party, true
	}
	return "", false
}

// AuthorityOf implements SignerDirectory. A key that was revoked as a party's key
// no longer counts as an authority's.
func (d *directory) AuthorityOf(h entry.Hash) (string, bool) {
	for _, a := range d.gov().Authorities {
		if a.Hash == h {
			k, ok := LoadKey(d.st, h)
			return a.Party, !ok || !k.Ended
		}
	}
	return "", false
}

// Threshold implements SignerDirectory.
func (d *directory) Threshold() int64 { return d.gov().Threshold }

// enrolled reports whether a party may be named as one who acts.
func (d *directory) enrolled(party string) bool {
	if len(d.st.Get(string(rowParty)+party)) > 0 {
		return true
	}
	g := d.gov()
	return g.isAuthority(party) || g.Operator.Party == party
}

// byAuthorities reports whether the threshold of the authorities signed.
func (d *directory) byAuthorities(signers []entry.Signature) bool {
	var parties []string
	for _, s := range signers {
		if p, ok := d.AuthorityOf(s.Key); ok && !slices.Contains(parties, p) {
			parties = append(parties, p)
		}
	}
	return d.gov().Threshold > 0 && int64(len(parties)) >= d.gov().Threshold
}

// rank returns the highest rank that party has over u. keeper is who has it in
// hand.
func (r *run) rank(u *Unit, party string) Rank {
	switch {
	case r.dir.gov().isAuthority(party):
		return RankAuthority
	case r.hasRole(party, RoleRegulator):
		return RankRegulator
	case r.ownsGTIN(u.Ref, party):
		return RankOwner
	case r.keeps(u, party):
		return RankKeeper
	}
	return RankNone
}

func (r *run) hasRole(party, role string) bool {
	p, ok := LoadParty(r.st, party)
	return ok && slices.Contains(p.Roles, role)
}

func (r *run) ownsGTIN(ref UnitRef, party string) bool {
	gtin := gtinOf(ref.URI)
	if gtin == "" {
		return false
	}
	p, ok := LoadProduct(r.st, gtin)
	return ok && p.Owner == party
}

const gtinPrefix = "https://id.gs1.org/01/"

// gtinOf returns the GTIN-14 of a canonical URI of a product, lot, or unit with a
// GTIN, and "" for all others.
func gtinOf(uri string) string {
	rest, ok := strings.CutPrefix(uri, gtinPrefix)
	if !ok || len(rest) < 14 || len(rest) > 14 && rest[14] != '/' {
		return ""
	}
	return rest[:14]
}

// admit checks all that concerns the statement as a whole and could be refused at
// the door: the ledger, the signers, the actor's roles, the parties named.
func (r *run) admit() *problem.Problem {
	s := r.s
	if s.Kind == KindCharter {
		if c := r.dir.charter(); !c.IsZero() {
			return problem.New("charter_exists", "", "this ledger has the charter %s", c)
		}
		return asRefusal(CheckSigners(r.it.Signed, &r.dir))
	}
	charter := r.dir.charter()
	if charter.IsZero() {
		return problem.New("no_charter", "", "the first entry of a ledger is its charter")
	}
	if s.Ledger != charter {
		return problem.New("other_ledger", "/predicate/ledger", "the statement is for ledger %s", s.Ledger).
			WithHint("this ledger is %s", charter)
	}
	if p := r.keysInForce(); p != nil {
		return p
	}
	if p := asRefusal(CheckSigners(r.it.Signed, &r.dir)); p != nil {
		return p
	}
	if p := r.partiesKnown(); p != nil {
		return p
	}
	if r.ev != nil {
		if p := r.roleAllows(); p != nil {
			return p
		}
		return r.namedFits()
	}
	return r.admitGovernance()
}

func asRefusal(err error) *problem.Problem {
	if err == nil {
		return nil
	}
	if p := problem.As(err); p != nil {
		return p
	}
	return problem.New("wrong_signers", "/signatures", "%s", err)
}

// keysInForce refuses signers whose key ended, or is in no list of keys; keys
// that the statement introduces are judged by admitGovernance.
func (r *run) keysInForce() *problem.Problem {
	introduced := r.s.IntroducedKeys()
	for i, sig := range r.it.Signed.Envelope.Signatures {
		k, ok := LoadKey(r.st, sig.Key)
		if ok && k.Ended {
			what := "was replaced"
			if k.Revoked {
				what = "was revoked"
			}
			return problem.New("key_revoked", pointer("/signatures", i)+"/keyid", "key %s of %s %s by entry %d", sig.Key, k.Party, what, k.EndedAt).
				WithHint("sign with a key in force").With("revokedAt", k.EndedAt)
		}
		if ok || slices.ContainsFunc(introduced, func(k Key) bool { return k.Hash == sig.Key }) {
			continue
		}
		if _, ok := r.dir.PartyOf(sig.Key); !ok {
			return problem.New("unknown_key", pointer("/signatures", i)+"/keyid", "key %s is not enrolled in this ledger", sig.Key).
				WithHint("enrol the party with this key first, or sign with an enrolled key")
		}
	}
	return nil
}

// partiesKnown refuses statements that hand something to a party that nobody
// enrolled.
func (r *run) partiesKnown() *problem.Problem {
	check := func(field, party string) *problem.Problem {
		if party == "" || r.dir.enrolled(party) {
			return nil
		}
		return problem.New("unknown_party", field, "%s is not enrolled in this ledger", party).
			WithHint("check the party's GLN, or ask the ledger's authorities to enrol it")
	}
	for _, n := range namedParties(r.s) {
		if p := check(n.field, n.party); p != nil {
			return p
		}
	}
	return nil
}

type namedParty struct{ field, party string }

// namedParties returns who a statement says acts, sends or receives, with the
// field that says so.
func namedParties(s *Statement) []namedParty {
	var ns []namedParty
	if s.Event != nil {
		ns = append(ns, namedParty{"/predicate/actor", s.Event.Actor})
	}
	switch b := s.Body.(type) {
	case *Release:
		ns = append(ns, namedParty{"/predicate/from", b.From}, namedParty{"/predicate/to", b.To})
	case *Ownership:
		ns = append(ns, namedParty{"/predicate/from", b.From}, namedParty{"/predicate/to", b.To})
	case *Uninstall:
		ns = append(ns, namedParty{"/predicate/to", b.To})
	case *Product:
		ns = append(ns, namedParty{"/predicate/owner", b.Owner})
	case *Recall:
		ns = append(ns, namedParty{"/predicate/actor", b.Actor})
	case *SerialBlock:
		ns = append(ns, namedParty{"/predicate/actor", b.Actor})
	case *RoutePolicy:
		ns = append(ns, namedParty{"/predicate/actor", b.Actor})
	}
	return ns
}

// roleAllows refuses an actor without a role that the predicate needs, or one
// that claims a role that it does not have.
func (r *run) roleAllows() *problem.Problem {
	p, _ := LoadParty(r.st, r.actor)
	if r.ev.Role != "" && !slices.Contains(p.Roles, r.ev.Role) {
		return problem.New("wrong_role", "/predicate/role", "%s is not enrolled as %q", r.actor, r.ev.Role).
			WithHint("its roles are: %s", strings.Join(p.Roles, ", "))
	}
	need := rolesFor[r.s.Kind]
	if need == nil || r.s.Kind == KindFinding && r.actor == r.dir.gov().Operator.Party {
		return nil
	}
	if r.ev.Role != "" {
		if !slices.Contains(need, r.ev.Role) {
			return problem.New("wrong_role", "/predicate/role", "a %s is not issued in the role %q", r.s.Kind, r.ev.Role).
				WithHint("it is issued as: %s", strings.Join(need, ", "))
		}
		return nil
	}
	for _, role := range p.Roles {
		if slices.Contains(need, role) {
			return nil
		}
	}
	return problem.New("wrong_role", "/predicate/actor", "%s may not issue %s", r.actor, r.s.Kind.Noun()).
		WithHint("the roles that may: %s; its roles: %s", strings.Join(need, ", "), strings.Join(p.Roles, ", "))
}

// namedFits refuses void, dispute and lift that name an unknown statement or do
// not repeat its subject and load.
func (r *run) namedFits() *problem.Problem {
	id, field, ok := namedBy(r.s)
	if !ok {
		return nil
	}
	n, known := loadRoot(r.st, id)
	if !known {
		return problem.New("unknown_statement", field, "no statement of a unit in this ledger has ID %s", id)
	}
	if n.Subject != r.s.Subject || n.Load != r.load {
		want := n.Subject
		if !n.Load.IsZero() {
			want += " with load " + n.Load.String()
		}
		return problem.New("invalid_statement", field, "it names a statement about another subject").
			WithHint("repeat the subject and load of the statement named: %s", want)
	}
	return nil
}

// NamedBy returns the ID of the statement that a void, dispute or lift names.
func NamedBy(s *Statement) (id entry.Hash, ok bool) {
	id, _, ok = namedBy(s)
	return id, ok
}

// namedBy is NamedBy that also says in which field.
func namedBy(s *Statement) (id entry.Hash, field string, ok bool) {
	var d Digest
	switch b := s.Body.(type) {
	case *Void:
		d, field = b.Voids, "/predicate/voids/sha256"
	case *Dispute:
		d, field = b.Disputes, "/predicate/disputes/sha256"
	case *Lift:
		d, field = b.Lifts, "/predicate/lifts/sha256"
	default:
		return id, "", false
	}
	id, err := entry.ParseHash(d.SHA256)
	return id, field, err == nil
}
