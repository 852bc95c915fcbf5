package custody

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crypto/x509"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

var update = flag.Bool("update", false, "write the vectors in testdata/custody anew")

const vectorDir = "../testdata/custody"

// Identifiers that the samples use; check digits are right.
const (
	makerURI     = "https://id.gs1.org/417/9506000100005"
	carrierURI   = "https://id.gs1.org/417/9506000100111"
	installerURI = "https://id.gs1.org/417/9506000100210"
	siteURI      = "https://id.gs1.org/414/9506000100005/254/LINE2"
	unitURI      = "https://id.gs1.org/01/09506000134352/21/SN-000001"
	unit2URI     = "https://id.gs1.org/01/09506000134352/21/SN-000002"
	lotURI       = "https://id.gs1.org/01/09506000134352/10/L2611A"
	productURI   = "https://id.gs1.org/01/09506000134352"
	cartonURI    = "https://id.gs1.org/00/095060001000000128"
	boxURI       = "urn:epc:id:bic:CSQU3054383"
	logURI       = LogURIPrefix + "example.com/fabtrail"
)

var (
	ledgerHash = entry.Hash(sha256.Sum256([]byte("a charter")))
	someHash   = entry.Hash(sha256.Sum256([]byte("some statement")))
	otherHash  = entry.Hash(sha256.Sum256([]byte("another statement")))
)

// edKey is the n-th deterministic Ed25519 key.
func edKey(n int) ed25519.PrivateKey {
	seed := sha256.Sum256(fmt.Appendf(nil, "fabtrail test key %d", n))
	return ed25519.NewKeyFromSeed(seed[:])
}

// ecKey is a deterministic key of a NIST curve.
func ecKey(t testing.TB, c elliptic.Curve, n int) *ecdsa.PrivateKey {
	t.Helper()
	d := sha256.Sum256(fmt.Appendf(nil, "fabtrail test ec key %d", n))
	raw := make([]byte, (c.Params().BitSize+7)/8)
	n31 := min(len(raw)-1, 31) // below the order of the curve
	copy(raw[len(raw)-n31:], d[:n31])
	k, err := ecdsa.ParseRawPrivateKey(c, raw)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// rsaKey is the RSA-3072 key of the vectors: its generation is slow.
func rsaKey(t testing.TB) crypto.Signer {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(vectorDir, "rsa3072.pem"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParsePrivateKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return s.Private()
}

func mustKey(t testing.TB, pub crypto.PublicKey) Key {
	t.Helper()
	k, err := NewKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func record(k crypto.Signer) KeyRecord {
	key, err := NewKey(k.Public())
	if err != nil {
		panic(err)
	}
	return key.Record()
}

func lookup(t testing.TB, ks ...crypto.Signer) Keys {
	m := Keys{}
	for _, k := range ks {
		key := mustKey(t, k.Public())
		m[key.Hash] = key
	}
	return m
}

func eventAt(n int) *Event {
	at := time.Date(2026, 11, 2, 3, 14, 15, 0, time.UTC).Add(time.Duration(n) * time.Minute)
	return &Event{EventID: NewEventID(at, strings.NewReader(fmt.Sprintf("%010d", n))), OccurredAt: FormatTime(at), Actor: makerURI, Chain: Unchained()}
}

func chained(e *Event, seq int64) *Event {
	e.Chain = Next(seq-1, someHash)
	return e
}

func onLoad(e *Event) *Event {
	e.Load = otherHash.String()
	return e
}

// sample is a valid statement, unsigned, and the keys that sign it.
type sample struct {
	name    string
	kind    Kind
	subject string
	event   *Event
	body    any
	signers []crypto.Signer
}

func (s sample) payload(t testing.TB) []byte {
	t.Helper()
	p, err := NewPayload(s.kind, s.subject, ledgerHash, s.event, s.body)
	if err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
	return p
}

func sampleManifest(t testing.TB) Manifest {
	t.Helper()
	var ms []Member
	for i := range 3 {
		salt := sha256.Sum256(fmt.Appendf(nil, "salt %d", i))
		ms = append(ms, Member{URI: fmt.Sprintf("https://id.gs1.org/01/09506000134352/21/SN-%06d", i+1), Head: someHash, Salt: salt})
	}
	ms = append(ms, Member{URI: boxURI, Head: someHash, Load: otherHash, Salt: sha256.Sum256([]byte("salt box"))})
	m, err := NewManifest(ms)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// samples returns at least one valid statement of every kind.
func samples(t testing.TB) []sample {
	t.Helper()
	auth := []Authority{{Party: makerURI, Key: record(edKey(1))}, {Party: carrierURI, Key: record(edKey(2))}}
	rs := RuleSetRef{Version: "1", Rules: DigestOf(someHash), Geodata: DigestOf(otherHash)}
	contents := sampleManifest(t).Contents()
	sealedRef, _, err := SealGroup("route", someHash, []byte(`{"via":"TWKHH"}`))
	if err != nil {
		t.Fatal(err)
	}
	full := chained(eventAt(5), 4)
	full.Role = "maker"
	full.Where = &Where{Site: siteURI, Locode: "TWHSZ", Country: "TW", Geo: "geo:24.7736,120.9975;u=50"}
	full.Evidence = []Evidence{{Name: "photo", MediaType: "image/jpeg", Digest: DigestOf(otherHash)}}
	full.EPCIS = &EPCISRef{EventID: "urn:uuid:0193a5f0-7c00-7000-8000-000000000002", HashID: "ni:///sha-256;" + someHash.String() + "?ver=CBV2.0"}
	full.Sealed = map[string]SealedRef{"route": sealedRef, "commercial": sealedRef}
	full.Ext = jsontext.Value(`{"example.com:lane":{"A":1,"a":null}}`)
	device := edKey(90)
	bound := eventAt(1)
	bound.Chain = First()
	if err := bound.SignDevice(device, KindCommission, unitURI, ledgerHash, 1); err != nil {
		t.Fatal(err)
	}
	renewed := eventAt(2)
	if err := renewed.SignDevice(edKey(91), KindIdentity, unitURI, ledgerHash, 7); err != nil {
		t.Fatal(err)
	}
	installed := chained(eventAt(30), 9)
	installed.Where = &Where{Country: "DE", Geo: "geo:52.52,13.4;u=1000"}
	first := eventAt(3)
	first.Chain = First()
	firstLot := eventAt(4)
	firstLot.Chain = First()
	newKey := record(edKey(12))
	one, two := []crypto.Signer{edKey(10)}, []crypto.Signer{edKey(10), edKey(11)}
	return []sample{
		{"charter", KindCharter, logURI, nil, &Charter{Origin: "example.com/fabtrail", Authorities: auth, Threshold: 2,
			Operator: Authority{Party: makerURI, Key: record(edKey(3))}, RuleSet: rs, CreatedAt: "2026-10-01T00:00:00Z"}, []crypto.Signer{edKey(1), edKey(2)}},
		{"authority", KindAuthority, logURI, nil, &AuthorityChange{Authorities: auth[:1], Threshold: 1}, []crypto.Signer{edKey(1)}},
		{"log-key freeze", KindLogKey, logURI, nil, &LogKey{Action: ActionFreeze}, one},
		{"log-key succeed", KindLogKey, logURI, nil, &LogKey{Action: ActionSucceed, VKey: vkeyOf("example.com/fabtrail", edKey(4))}, one},
		{"witness-policy", KindWitnessPolicy, logURI, nil, &WitnessPolicy{Policy: "log example.com/fabtrail+00000000+AQ==\nquorum none\n"}, one},
		{"rule-set", KindRuleSet, logURI, nil, &RuleSet{rs}, one},
		{"party", KindParty, makerURI, nil, &Party{LegalName: "Übersee Halbleiter GmbH", Roles: []string{"maker", "brand"},
			Sites: []Site{{ID: siteURI, Country: "TW", Locode: "TWHSZ", Geo: "geo:24.7736,120.9975;u=300"}},
			Keys:  []KeyRecord{record(edKey(10)), record(ecKey(t, elliptic.P256(), 1)), record(ecKey(t, elliptic.P384(), 1)), record(rsaKey(t))}},
			[]crypto.Signer{edKey(1), edKey(10), ecKey(t, elliptic.P256(), 1), ecKey(t, elliptic.P384(), 1), rsaKey(t)}},
		{"party without keys", KindParty, makerURI, nil, &Party{LegalName: "Maker", Roles: []string{"maker"}}, one},
		{"key rotate", KindKey, makerURI, nil, &KeyChange{Action: ActionRotate, Key: Digest{SHA256: mustKey(t, edKey(11).Public()).ID()}, New: &newKey}, []crypto.Signer{edKey(11), edKey(12)}},
		{"key revoke", KindKey, makerURI, nil, &KeyChange{Action: ActionRevoke, Key: DigestOf(someHash), Reason: "lost", CompromisedSince: "2026-11-01T00:00:00Z"}, one},
		{"product", KindProduct, productURI, nil, &Product{Owner: makerURI, Name: "Meter 3", Kind: "device"}, two},
		{"product of another", KindProduct, productURI, nil, &Product{Owner: installerURI}, two},
		{"recall lot", KindRecall, lotURI, nil, &Recall{Actor: makerURI, Action: ActionOpen, Selector: Selector{Lot: lotURI}, Reason: "cracked die"}, one},
		{"recall artefact close", KindRecall, ArtefactURIPrefix + someHash.String(), nil, &Recall{Actor: makerURI, Action: ActionClose, Closes: &Digest{SHA256: otherHash.String()},
			Selector: Selector{Artefact: &Digest{SHA256: someHash.String()}, GTINs: []string{"09506000134352"}}}, one},
		{"serial-block", KindSerialBlock, lotURI, nil, &SerialBlock{Actor: makerURI, Serials: []string{"SN-000001", "SN-000002"}, Commissioners: []string{makerURI}, Countries: []string{"DE", "TW"}}, one},
		{"route-policy", KindRoutePolicy, productURI, nil, &RoutePolicy{Actor: makerURI, Steps: []RouteStep{{ID: "fab-to-forwarder", From: []string{makerURI}, To: []string{carrierURI}, Countries: []string{"TW"}, Modes: []string{"road"}, MaxHours: 72}}}, one},
		{"commission unit", KindCommission, unitURI, bound, &Commission{UnitKind: "device", Model: "M3", Lot: "L2611A", Identity: &DeviceIdentity{SPKI: record(device).SPKI, KeyOrigin: "on-device", KeyProtection: "secure-element"}, Pedigree: someHash.String()}, one},
		{"commission lot", KindCommission, lotURI, firstLot, &Commission{UnitKind: "chip", Lot: "L2611A", Contents: &contents}, one},
		{"identity", KindIdentity, unitURI, renewed, &Identity{State: "renewed", SPKI: record(edKey(91)).SPKI, CertSHA256: someHash.String(), ValidUntil: "2036-11-01T00:00:00Z"}, one},
		{"assemble", KindAssemble, unitURI, chained(eventAt(6), 2), &Assemble{Action: ActionAdd, Components: []Component{{URI: unit2URI, Head: &Digest{SHA256: someHash.String()}, Position: "U1"}, {Lot: lotURI, Quantity: 12}}}, one},
		{"firmware-load", KindFirmwareLoad, unitURI, eventAt(7), &FirmwareLoad{Image: DigestOf(someHash), Version: "1.4.2", Slot: "A", SBOM: &Digest{SHA256: otherHash.String()}}, one},
		{"qa-result", KindQAResult, unitURI, eventAt(8), &QAResult{Result: "PASSED", PassedTests: []string{"burn-in"}}, one},
		{"pack opens", KindPack, cartonURI, first, &Pack{Level: 1, Contents: contents, Seals: []Seal{{Number: "TW0093321", Issuer: makerURI, Standard: "ISO17712-H", Check: "applied"}}}, one},
		{"pack adds", KindPack, cartonURI, onLoad(chained(eventAt(9), 1)), &Pack{Contents: contents}, one},
		{"unpack", KindUnpack, cartonURI, onLoad(chained(eventAt(10), 3)), &Unpack{Contents: contents}, one},
		{"release", KindRelease, unitURI, full, &Release{From: makerURI, To: carrierURI, AcceptBy: "2026-11-04T01:05:00Z", Lane: &Lane{Policy: DigestOf(someHash), Step: "fab-to-forwarder"},
			Transport: &Transport{Mode: "road", Equipment: boxURI}, Seals: []Seal{{Number: "TW0093321", Check: "intact"}}}, one},
		{"accept load", KindAccept, cartonURI, onLoad(chained(eventAt(11), 2)), &Accept{Accepts: DigestOf(someHash), Condition: "conforming", Counted: &Counted{Level: "outer", Expected: 1, Actual: 1}, Discrepancies: []string{"label torn"}}, one},
		{"refuse", KindRefuse, unitURI, chained(eventAt(12), 2), &Refuse{Refuses: DigestOf(someHash), Reason: "seal broken"}, one},
		{"sighting", KindSighting, unitURI, eventAt(13), &Sighting{Method: "scan"}, one},
		{"ownership", KindOwnership, unitURI, eventAt(14), &Ownership{From: makerURI, To: carrierURI, Basis: "sale"}, two},
		{"install", KindInstall, unitURI, installed, &Install{Acceptance: "passed"}, one},
		{"uninstall", KindUninstall, unitURI, chained(eventAt(15), 10), &Uninstall{To: installerURI, Reason: "fault"}, one},
		{"hold", KindHold, unitURI, eventAt(16), &Hold{Reason: "quarantine", Note: "box was wet"}, one},
		{"lift", KindLift, unitURI, eventAt(17), &Lift{Lifts: DigestOf(someHash)}, one},
		{"retire", KindRetire, unitURI, chained(eventAt(18), 11), &Retire{Reason: "endOfLife"}, one},
		{"void", KindVoid, unitURI, eventAt(19), &Void{Voids: DigestOf(someHash), Reason: "incorrect_data", CorrectedBy: &Digest{SHA256: otherHash.String()}}, one},
		{"void of an opening", KindVoid, cartonURI, eventAt(20), &Void{Voids: DigestOf(someHash), Reason: "did_not_occur"}, one},
		{"dispute", KindDispute, unitURI, eventAt(21), &Dispute{Disputes: DigestOf(someHash), Claim: "we never released this"}, one},
		{"finding", KindFinding, unitURI, eventAt(22), &Finding{Rule: "fork", Tier: "contradiction", Phase: "confirmed", Accused: makerURI,
			Units: []FindingUnit{{URI: unitURI}, {URI: cartonURI, Load: otherHash.String()}}, Evidence: []uint64{3, 9}, ID: someHash.String(), RuleSet: "1", Words: "two statements follow the same one"}, one},
	}
}

func find(t testing.TB, name string) sample {
	t.Helper()
	for _, s := range samples(t) {
		if s.name == name {
			return s
		}
	}
	t.Fatalf("no sample %q", name)
	return sample{}
}

// vkeyOf makes a C2SP note verifier key.
func vkeyOf(origin string, k ed25519.PrivateKey) string {
	key := append([]byte{1}, k.Public().(ed25519.PublicKey)...)
	h := sha256.Sum256(append([]byte(origin+"\n"), key...))
	return fmt.Sprintf("%s+%x+%s", origin, h[:4], base64.StdEncoding.EncodeToString(key))
}

func problemOf(t testing.TB, err error) *problem.Problem {
	t.Helper()
	if err == nil {
		t.Fatal("accepted")
	}
	p := problem.As(err)
	if p == nil {
		t.Fatalf("not a problem: %v", err)
	}
	if p.Detail == "" || p.Type == "internal" {
		t.Fatalf("a poor problem: %+v", p)
	}
	return p
}

func readVector(t testing.TB, name string, into any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(vectorDir, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into, json.RejectUnknownMembers(true)); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func writeVector(t testing.TB, name string, v any) {
	t.Helper()
	b, err := json.Marshal(v, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(vectorDir, name), append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

func spkiDER(t testing.TB, pub crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestMain(m *testing.M) {
	flag.Parse()
	if *update {
		if err := os.MkdirAll(vectorDir, 0o755); err != nil {
			panic(err)
		}
		f := filepath.Join(vectorDir, "rsa3072.pem")
		if _, err := os.Stat(f); err != nil {
			k, err := GenerateKey(RSAPSS)
			if err != nil {
				panic(err)
			}
			der, err := x509.MarshalPKCS8PrivateKey(k)
			if err != nil {
				panic(err)
			}
			if err := os.WriteFile(f, pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: der}), 0o644); err != nil {
				panic(err)
			}
		}
	}
	os.Exit(m.Run())
}

func hashOf(s string) entry.Hash { return sha256.Sum256([]byte(s)) }
