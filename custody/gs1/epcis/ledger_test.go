package epcis

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

const (
	maker     = "https://id.gs1.org/417/4012345000009"
	carrier   = "https://id.gs1.org/417/4000001000005"
	installer = "https://id.gs1.org/417/0614141000005"
	authority = "https://id.gs1.org/417/9506000100005"
	stranger  = "https://id.gs1.org/417/9506000100111"
)

func testKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("epcis test key of " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// ledger is a door with its state, and the Resolver that a partner's tool would
// build on what the ledger answers.
type ledger struct {
	t      *testing.T
	st     custody.MapState
	id     entry.Hash
	keys   custody.Keys
	n      uint64
	posted []post
	man    map[entry.Hash][]custody.Member
}

type post struct {
	s       *custody.Statement
	members []custody.Member
}

func newLedger(t *testing.T) *ledger {
	l := &ledger{t: t, st: custody.MapState{}, keys: custody.Keys{}, man: map[entry.Hash][]custody.Member{}}
	record := func(name string) custody.KeyRecord {
		k, err := custody.NewKey(testKey(name).Public())
		if err != nil {
			t.Fatal(err)
		}
		l.keys[k.Hash] = k
		return k.Record()
	}
	zero := custody.DigestOf(sha256.Sum256(nil))
	auth := custody.Authority{Party: authority, Key: record(authority)}
	l.govern(custody.KindCharter, custody.LogURIPrefix+"example.com/log", &custody.Charter{Origin: "example.com/log",
		Authorities: []custody.Authority{auth}, Threshold: 1, Operator: custody.Authority{Party: authority, Key: record("operator")},
		RuleSet: custody.RuleSetRef{Version: "1", Rules: zero, Geodata: zero}, CreatedAt: "2026-10-01T00:00:00Z"}, authority)
	l.id = l.posted[0].s.ID
	for party, roles := range map[string][]string{
		maker:     {custody.RoleMaker, custody.RoleBrand, custody.RoleRegistrar},
		carrier:   {custody.RoleCarrier, custody.RoleMaker},
		installer: {custody.RoleInstaller, custody.RoleService},
	} {
		l.govern(custody.KindParty, party, &custody.Party{LegalName: party, Roles: roles, Keys: []custody.KeyRecord{record(party)}}, authority, party)
	}
	for _, gtin := range []string{"04012345111118", "04012345222227"} {
		l.govern(custody.KindProduct, "https://id.gs1.org/01/"+gtin, &custody.Product{Owner: maker, Kind: "device"}, authority, maker)
		l.govern(custody.KindSerialBlock, "https://id.gs1.org/01/"+gtin+"/10/L1",
			&custody.SerialBlock{Actor: maker, Count: 1000, Commissioners: []string{maker}}, maker)
	}
	return l
}

func (l *ledger) govern(kind custody.Kind, subject string, body any, signers ...string) {
	l.t.Helper()
	payload, err := custody.NewPayload(kind, subject, l.id, nil, body)
	if err != nil {
		l.t.Fatalf("%s: %v", kind, err)
	}
	if out, err := l.submit(payload, nil, signers...); err != nil {
		l.t.Fatalf("%s of %s: %v %v", kind, subject, out, err)
	}
}

// submit signs a payload and asks the door.
func (l *ledger) submit(payload []byte, manifest *custody.Manifest, signers ...string) (custody.Effect, error) {
	keys := make([]crypto.Signer, len(signers))
	for i, s := range signers {
		keys[i] = testKey(s)
	}
	wire, err := custody.Sign(payload, keys...)
	if err != nil {
		l.t.Fatal(err)
	}
	d, err := custody.ParseDSSE(wire)
	if err != nil {
		return custody.Effect{}, err
	}
	signed, err := custody.Open(d, l.keys)
	if err != nil {
		return custody.Effect{}, err
	}
	l.n++
	it := custody.Item{Index: l.n, Time: uint64(time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC).UnixMilli()) + l.n, Signed: signed}
	if manifest != nil {
		if err := signed.Statement.CheckManifest(*manifest); err != nil {
			return custody.Effect{}, err
		}
		l.man[manifest.Digest()] = manifest.Members
	}
	it.Members = l.man[custody.ManifestOf(l.st, signed.Statement)]
	decision, err := custody.Decide(l.st, it)
	if err != nil {
		return custody.Effect{}, err
	}
	l.posted = append(l.posted, post{signed.Statement, it.Members})
	return decision.Effect, nil
}

func (l *ledger) Enrolled(party string) (bool, error) {
	_, ok := custody.LoadParty(l.st, party)
	return ok, nil
}

func (l *ledger) Unit(ref custody.UnitRef) (*custody.Unit, error) {
	return custody.LoadUnit(l.st, ref), nil
}

func (l *ledger) Load(container string) (ref custody.UnitRef, ok bool, err error) {
	for _, p := range l.posted {
		if p.s.Kind == custody.KindPack && p.s.Subject == container && p.s.Event.Load == "" {
			ref, ok = custody.UnitRef{URI: container, Load: p.s.ID}, true
		}
	}
	return ref, ok, nil
}

// inside lists the units whose state says that they are in ref.
func (l *ledger) inside(ref custody.UnitRef) (out []custody.UnitRef) {
	seen := map[custody.UnitRef]bool{}
	see := func(u custody.UnitRef) {
		if s := custody.LoadUnit(l.st, u); s != nil && s.Place != custody.Free && s.In == ref && !seen[u] {
			seen[u] = true
			out = append(out, u)
		}
	}
	for _, p := range l.posted {
		for _, m := range p.members {
			see(custody.UnitRef{URI: m.URI, Load: m.Load})
		}
		see(custody.UnitRef{URI: p.s.Subject})
	}
	return out
}

func (l *ledger) Members(load custody.UnitRef) ([]custody.UnitRef, error) { return l.inside(load), nil }

func (l *ledger) Parts(parent string) (out []string, err error) {
	for _, ref := range l.inside(custody.UnitRef{URI: parent}) {
		out = append(out, ref.URI)
	}
	return out, nil
}

func (l *ledger) Recorded(uri, hashID string) (out []Recorded, err error) {
	voided := map[entry.Hash]bool{}
	for _, p := range l.posted {
		if v, ok := p.s.Body.(*custody.Void); ok {
			voided[v.Voids.Hash()] = true
		}
	}
	for _, p := range l.posted {
		if p.s.Event == nil || p.s.Event.EPCIS == nil || p.s.Event.EPCIS.HashID != hashID {
			continue
		}
		member := slices.ContainsFunc(p.members, func(m custody.Member) bool { return m.URI == uri })
		if a, ok := p.s.Body.(*custody.Assemble); ok {
			member = slices.ContainsFunc(a.Components, func(c custody.Component) bool { return c.URI == uri })
		}
		if p.s.Subject != uri && !member {
			continue
		}
		r := Recorded{ID: p.s.ID, Kind: p.s.Kind, Subject: p.s.Subject, Actor: p.s.Event.Actor, Voided: voided[p.s.ID]}
		if p.s.Event.Load != "" {
			r.Load, _ = entry.ParseHash(p.s.Event.Load)
		}
		out = append(out, r)
	}
	return out, nil
}

// plan maps a document for a party.
func (l *ledger) plan(party, doc string) *Plan {
	l.t.Helper()
	d, err := Parse([]byte(doc))
	if err != nil {
		l.t.Fatal(err)
	}
	for _, p := range d.Problems {
		l.t.Fatalf("the document is not valid: %v", p)
	}
	plan, err := Map(d, Options{Ledger: l.id, Party: party, Secret: sha256.Sum256([]byte("salt"))}, l)
	if err != nil {
		l.t.Fatal(err)
	}
	return plan
}

// take submits a plan and demands that every statement has its effect.
func (l *ledger) take(plan *Plan) {
	l.t.Helper()
	for _, s := range plan.Statements {
		eff, err := l.submit(s.Payload, s.Manifest, s.Signers...)
		if err != nil {
			l.t.Fatalf("%s of %s is refused: %v", s.Kind, s.Subject, err)
		}
		for _, u := range eff.Units {
			if u.Outcome != custody.Applied && u.Outcome != custody.Noted {
				l.t.Fatalf("%s of %s: %s, %v for %s", s.Kind, s.Subject, u.Outcome, u.Code, u.Unit)
			}
		}
	}
}

// lines writes a plan as one line per event: result, then statements.
func lines(plan *Plan) (out []string) {
	for _, o := range plan.Outcomes {
		s := string(o.Result)
		for _, st := range o.Statements {
			s += " " + string(st.Kind)
			if st.Manifest != nil {
				s += fmt.Sprintf("(%d)", len(st.Manifest.Members))
			}
		}
		for _, r := range o.Repeats {
			s += " again:" + string(r.Kind)
		}
		for _, p := range o.Problems {
			s += " !" + p.Type
		}
		out = append(out, s)
	}
	return out
}

func expect(t *testing.T, plan *Plan, want ...string) {
	t.Helper()
	got := lines(plan)
	if !slices.Equal(got, want) {
		t.Errorf("outcomes\n got %q\nwant %q", got, want)
	}
	n := 0
	for _, c := range plan.Counts {
		n += c
	}
	if n != len(plan.Outcomes) {
		t.Errorf("%d outcomes are counted, there are %d", n, len(plan.Outcomes))
	}
	for _, o := range plan.Outcomes {
		if (o.Result == ResultRefused || o.Result == ResultEvidence) && o.Why == "" {
			t.Errorf("event %d is %s and nothing says why", o.Event.Index, o.Result)
		}
		for _, p := range o.Problems {
			if p.Field == "" || p.Extra["line"] == nil || problem.Types[p.Type].Status == 0 {
				t.Errorf("problem %v lacks field or line", p)
			}
		}
	}
}
