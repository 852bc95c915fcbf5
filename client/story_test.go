package client

import (
	"testing"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer/answertest"
	"fabtrail.dev/fabtrail/custody/rules"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// tale is a ledger with one unit for each kind of verdict. Its serials:
//
//	GOOD      made, packed twice, shipped, unpacked, installed, with a part
//	PART      the part; by manifest
//	SHIPPED   packed with GOOD, still in the carton
//	OPEN      released and not accepted
//	RECALLED  its lot is recalled
//	HELD      on hold
//	LIFTED    was on hold
//	RETIRED   retired
//	CLONED    commissioned a second time by one who may
//	SMEARED   a stranger claims to install it
//	VOIDED    a release of it was taken back
//	FIRMWARE  its image is recalled
//	TWIN, TWIN2  one device key under two serials
//	LEFT      was held by one whose key was stolen and revoked since
//	REVOKED   its identity was revoked
//	DIVERTED  released on no lane of its product's route policy; an auditor logged it
func tale(t testing.TB) *answertest.World {
	t.Helper()
	return taleOn(answertest.NewLog(t))
}

func taleOn(l *answertest.Log) *answertest.World {
	w := answertest.NewWorld(l)
	maker, carrier, dist, inst := w.Parties["maker"], w.Parties["carrier"], w.Parties["dist"], w.Parties["installer"]
	for _, lot := range []string{"L1", "L2"} {
		w.Block(lot, 1000)
	}
	good := w.Commission("GOOD", "L1")
	many := w.CommissionMany("L1", "PART", "SHIPPED", "FILL1", "FILL2", "FILL3")
	open, recalled := w.Commission("OPEN", "L1"), w.Commission("RECALLED", "L2")
	held, lifted, retired := w.Commission("HELD", "L1"), w.Commission("LIFTED", "L1"), w.Commission("RETIRED", "L1")
	w.Commission("CLONED", "L1")
	smeared, voided, firmware := w.Commission("SMEARED", "L1"), w.Commission("VOIDED", "L1"), w.Commission("FIRMWARE", "L1")
	w.Bind("TWIN", "L1")
	diverted := w.Commission("DIVERTED", "L1")
	agent, left, revoked := w.Enrol("agent", custody.RoleDistributor), w.Commission("LEFT", "L1"), w.Commission("REVOKED", "L1")
	w.Publish()
	w.Assemble(maker, good, many[0])
	w.Register(good)
	carton := w.Pack(maker, 1, 1, good, many[1], many[2])
	other := w.Pack(maker, 3, 1, many[3], many[4])
	pallet := w.Pack(maker, 2, 2, carton, other)
	w.HandOver(maker, carrier, pallet)
	w.HandOver(maker, agent, left)
	w.Register(revoked)
	w.Publish()
	w.HandOver(carrier, dist, pallet)
	w.Unpack(dist, pallet, carton)
	w.HandOver(dist, inst, carton)
	w.Unpack(inst, carton, good)
	w.Install(inst, good)
	w.Release(maker, carrier, open)
	w.Hold(maker, held, "quarantine")
	w.Lift(maker, lifted, w.Hold(maker, lifted, "suspect"))
	w.Retire(maker, retired)
	w.Void(maker, voided, w.Release(maker, carrier, voided))
	image := entry.StatementID([]byte("image 1"))
	w.Firmware(maker, firmware, image)
	w.HandOver(agent, dist, left)
	w.Publish()
	w.Clone("CLONED", "L1")
	w.Claim(w.Parties["stranger"], smeared)
	w.Bind2("TWIN2", "TWIN", "L1")
	d := custody.DigestOf(image)
	w.Recall(custody.ArtefactURIPrefix+image.String(), custody.Selector{Artefact: &d, GTINs: []string{w.GTIN}})
	w.Recall(w.Lot("L2"), custody.Selector{Lot: w.Lot("L2")})
	w.Recall(recalled.URI, custody.Selector{Unit: recalled.URI})
	w.RevokeKey(agent)
	w.RevokeIdentity(revoked)
	brand, auditor := w.Parties["brand"], w.Enrol("auditor", custody.RoleAuditor)
	policy := uint64(len(w.Entries))
	w.Govern(custody.KindRoutePolicy, w.Product(), &custody.RoutePolicy{Actor: brand.URI, Steps: []custody.RouteStep{
		{ID: "s1", From: []string{maker.URI}, To: []string{carrier.URI}}}}, brand)
	w.HandOver(maker, w.Parties["stranger"], diverted)
	evidence := []uint64{policy, policy + 1}
	w.Do(custody.KindFinding, diverted.URI, w.Event(auditor, custody.Unchained()), &custody.Finding{Rule: string(rules.Lane), Tier: rules.Policy,
		Phase: rules.Confirmed, Accused: maker.URI, Units: []custody.FindingUnit{{URI: diverted.URI}}, Evidence: evidence,
		ID: rules.FindingID(rules.Lane, diverted, evidence).String(), RuleSet: rules.Version}, nil, auditor)
	w.Publish()
	return w
}

// verdicts of tale's units when completeness is checked.
var taleVerdicts = map[string]custody.Word{
	"GOOD": custody.Verified, "PART": custody.VerifiedNote, "SHIPPED": custody.Verified, "OPEN": custody.VerifiedNote,
	"RECALLED": custody.DoNotInstall, "HELD": custody.DoNotInstall, "LIFTED": custody.Verified, "RETIRED": custody.DoNotInstall,
	"CLONED": custody.DoNotInstall, "SMEARED": custody.VerifiedNote, "VOIDED": custody.VerifiedNote,
	"FIRMWARE": custody.DoNotInstall, "TWIN": custody.DoNotInstall, "TWIN2": custody.DoNotInstall, "DIVERTED": custody.CheckBeforeUse, "NEVER": custody.NotInLedger,
	"LEFT": custody.Verified, "REVOKED": custody.DoNotInstall,
}

func TestVerdictsOfTale(t *testing.T) {
	w := tale(t)
	v := verifier(t, w.Log, newFake(t, w).remote(t, Options{}))
	for serial, want := range taleVerdicts {
		r, err := v.VerifyUnit(t.Context(), w.Unit(serial), "")
		if err != nil {
			t.Fatal(err)
		}
		if r.Word != want {
			t.Errorf("%s: %s, want %s; failed: %v; checks: %v", serial, r.Word, want, r.Failed(), r.Checks)
		}
	}
}
