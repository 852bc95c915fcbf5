package answertest

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/gs1"
	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// Party is one who signs.
type Party struct {
	Name string
	URI  string
	Key  crypto.Signer
}

// World is a log with a charter and parties on it.
type World struct {
	*Log
	Ledger    entry.Hash // ID of the charter
	Authority *Party
	Operator  *Party
	GTIN      string
	Parties   map[string]*Party

	gln    int
	events uint64
	Last   custody.Effect // of the last statement submitted
}

// NewWorld returns a ledger with its charter, a product of GTIN 09506000134352
// that "brand" owns, and the parties brand, maker, maker2, carrier, dist, installer,
// registrar, regulator and stranger.
func NewWorld(l *Log) *World {
	w := &World{Log: l, GTIN: "09506000134352", Parties: map[string]*Party{}}
	w.Authority, w.Operator = w.party("authority"), w.party("operator")
	payload := w.payload(custody.KindCharter, custody.LogURIPrefix+Origin, nil, &custody.Charter{
		Origin:      Origin,
		Authorities: []custody.Authority{{Party: w.Authority.URI, Key: w.record(w.Authority.Key)}},
		Threshold:   1,
		Operator:    custody.Authority{Party: w.Operator.URI, Key: w.record(w.Operator.Key)},
		RuleSet:     custody.RuleSetRef{Version: "1", Rules: digest("rules"), Geodata: digest("geodata")},
		CreatedAt:   "2026-09-21T13:33:20Z",
	})
	w.must(w.Send(payload, nil, w.Authority.Key))
	w.Ledger = entry.StatementID(payload)
	for _, p := range []struct {
		name  string
		roles []string
	}{
		{"brand", []string{custody.RoleBrand}}, {"maker", []string{custody.RoleMaker}}, {"maker2", []string{custody.RoleMaker}},
		{"carrier", []string{custody.RoleCarrier}}, {"dist", []string{custody.RoleDistributor}},
		{"installer", []string{custody.RoleInstaller, custody.RoleService}},
		{"registrar", []string{custody.RoleRegistrar}}, {"regulator", []string{custody.RoleRegulator}},
		{"stranger", []string{custody.RoleDistributor, custody.RoleMaker}},
	} {
		w.Enrol(p.name, p.roles...)
	}
	brand := w.Parties["brand"]
	w.Govern(custody.KindProduct, w.Product(), &custody.Product{Owner: brand.URI, Kind: "device"}, w.Authority, brand)
	return w
}

func digest(s string) custody.Digest {
	return custody.DigestOf(sha256.Sum256([]byte(s)))
}

func (w *World) party(name string) *Party {
	w.gln++
	body := fmt.Sprintf("9506000%05d", w.gln)
	return &Party{Name: name, URI: "https://id.gs1.org/417/" + body + string(gs1.CheckDigit(body)), Key: Key("party " + name)}
}

func (w *World) record(k crypto.Signer) custody.KeyRecord {
	w.t.Helper()
	key, err := custody.NewKey(k.Public())
	w.must(err)
	return key.Record()
}

// Enrol enrols a party.
func (w *World) Enrol(name string, roles ...string) *Party {
	w.t.Helper()
	p := w.party(name)
	w.Parties[name] = p
	payload := w.payload(custody.KindParty, p.URI, nil, &custody.Party{LegalName: name, Roles: roles, Keys: []custody.KeyRecord{w.record(p.Key)}})
	w.must(w.Send(payload, nil, w.Authority.Key, p.Key))
	return p
}

// Product is the URI of the world's GTIN.
func (w *World) Product() string { return "https://id.gs1.org/01/" + w.GTIN }

// Lot is the URI of a lot of it.
func (w *World) Lot(lot string) string { return w.Product() + "/10/" + lot }

// Unit is the URI of a serial of it.
func (w *World) Unit(serial string) string { return w.Product() + "/21/" + serial }

// Container is the URI of the n-th container.
func (w *World) Container(n int) string {
	body := fmt.Sprintf("09506000%09d", n)
	return "https://id.gs1.org/00/" + body + string(gs1.CheckDigit(body))
}

func (w *World) payload(kind custody.Kind, subject string, ev *custody.Event, body any) []byte {
	w.t.Helper()
	b, err := custody.NewPayload(kind, subject, w.Ledger, ev, body)
	w.must(err)
	return b
}

// Event makes the common fields of a statement by p.
func (w *World) Event(p *Party, chain *custody.Chain) *custody.Event {
	w.events++
	random := sha256.Sum256(fmt.Appendf(nil, "event %d", w.events))
	at := time.UnixMilli(int64(w.Time))
	return &custody.Event{EventID: custody.NewEventID(at, bytes.NewReader(random[:])), OccurredAt: custody.FormatTime(at), Actor: p.URI, Chain: chain}
}

// Chain continues the chain of a unit or load from its present head.
func (w *World) Chain(ref custody.UnitRef) *custody.Chain {
	u := custody.LoadUnit(w.State, ref)
	if u == nil || u.Head.IsZero() {
		return custody.First()
	}
	return custody.Next(u.Seq, u.Head)
}

// Head is the head of a unit or load.
func (w *World) Head(ref custody.UnitRef) entry.Hash {
	if u := custody.LoadUnit(w.State, ref); u != nil {
		return u.Head
	}
	return entry.Hash{}
}

// Send signs a payload and submits it as the door takes it. It returns the
// refusal, if any; w.Last is the effect of what was logged.
func (w *World) Send(payload []byte, manifest *custody.Manifest, signers ...crypto.Signer) error {
	d, err := custody.SignDSSE(payload, signers...)
	if err != nil {
		return err
	}
	s, err := custody.Open(d, custody.StateKeys{State: w.State})
	if err != nil {
		return err
	}
	return w.SendSigned(s, manifest)
}

// SendSigned is Send for a statement whose signatures were verified.
func (w *World) SendSigned(s *custody.Signed, manifest *custody.Manifest) error {
	it := custody.Item{Index: uint64(len(w.Entries)), Time: w.Time, Signed: s}
	var sum entry.Hash
	if manifest != nil {
		if err := s.Statement.CheckManifest(*manifest); err != nil {
			return err
		}
		sum = manifest.Digest()
		w.Sums[sum] = manifest.Marshal()
	}
	if named := custody.ManifestOf(w.State, s.Statement); !named.IsZero() {
		m, err := custody.ParseManifest(w.Sums[named])
		if err != nil {
			return err
		}
		it.Members = m.Members
	}
	dec, err := custody.Decide(w.State, it)
	if err != nil {
		return err
	}
	w.Last = dec.Effect
	topics := make([]entry.Hash, len(dec.Topics))
	for i, t := range dec.Topics {
		topics[i] = t.Hash()
	}
	w.Add(entry.Entry{Class: dec.Class, Envelope: s.Bytes}, sum, topics...)
	return nil
}

// Govern submits a statement without common fields; a refusal fails the test.
func (w *World) Govern(kind custody.Kind, subject string, body any, by ...*Party) entry.Hash {
	w.t.Helper()
	payload := w.payload(kind, subject, nil, body)
	keys := make([]crypto.Signer, len(by))
	for i, p := range by {
		keys[i] = p.Key
	}
	w.must(w.Send(payload, nil, keys...))
	return entry.StatementID(payload)
}

// Try submits a statement of units and returns its ID and the refusal, if any.
func (w *World) Try(kind custody.Kind, subject string, ev *custody.Event, body any, m *custody.Manifest, by ...*Party) (entry.Hash, error) {
	w.t.Helper()
	payload := w.payload(kind, subject, ev, body)
	keys := make([]crypto.Signer, len(by))
	for i, p := range by {
		keys[i] = p.Key
	}
	return entry.StatementID(payload), w.Send(payload, m, keys...)
}

// Do is Try where a refusal fails the test.
func (w *World) Do(kind custody.Kind, subject string, ev *custody.Event, body any, m *custody.Manifest, by ...*Party) entry.Hash {
	w.t.Helper()
	id, err := w.Try(kind, subject, ev, body, m, by...)
	if err != nil {
		if p := problem.As(err); p != nil {
			w.t.Fatalf("%s on %s: %v %v", kind, subject, p, p.Extra)
		}
		w.t.Fatalf("%s on %s: %v", kind, subject, err)
	}
	return id
}

// act submits a chained statement of p about ref.
func (w *World) act(kind custody.Kind, p *Party, ref custody.UnitRef, body any) entry.Hash {
	w.t.Helper()
	ev := w.Event(p, w.Chain(ref))
	if ref.IsLoad() {
		ev.Load = ref.Load.String()
	}
	return w.Do(kind, ref.URI, ev, body, nil, p)
}

// note submits a statement of p about ref that does not chain.
func (w *World) note(kind custody.Kind, p *Party, ref custody.UnitRef, body any) entry.Hash {
	w.t.Helper()
	ev := w.Event(p, custody.Unchained())
	if ref.IsLoad() {
		ev.Load = ref.Load.String()
	}
	return w.Do(kind, ref.URI, ev, body, nil, p)
}

// Block allows maker and maker2 to commission lot.
func (w *World) Block(lot string, count int64) {
	w.t.Helper()
	brand, maker := w.Parties["brand"], w.Parties["maker"]
	w.Govern(custody.KindSerialBlock, w.Lot(lot), &custody.SerialBlock{Actor: brand.URI, Count: count, Commissioners: []string{maker.URI, w.Parties["maker2"].URI}}, brand)
}

// PedigreeKey is the pedigree key of a unit.
func PedigreeKey(uri string) []byte {
	h := sha256.Sum256([]byte("pedigree " + uri))
	return h[:16]
}

func (w *World) pedigree(uri string) entry.Hash {
	w.t.Helper()
	h, err := custody.PedigreeDigest(PedigreeKey(uri))
	w.must(err)
	return h
}

// Commission commissions one unit with a pedigree key.
func (w *World) Commission(serial, lot string) custody.UnitRef {
	w.t.Helper()
	maker, ref := w.Parties["maker"], custody.UnitRef{URI: w.Unit(serial)}
	sum := w.pedigree(ref.URI)
	w.act(custody.KindCommission, maker, ref, &custody.Commission{UnitKind: "device", Lot: lot, Pedigree: sum.String()})
	return ref
}

// CommissionMany commissions units by manifest.
func (w *World) CommissionMany(lot string, serials ...string) []custody.UnitRef {
	w.t.Helper()
	maker := w.Parties["maker"]
	var refs []custody.UnitRef
	var ms []custody.Member
	for _, s := range serials {
		ref := custody.UnitRef{URI: w.Unit(s)}
		refs = append(refs, ref)
		ms = append(ms, custody.Member{URI: ref.URI, Salt: sha256.Sum256([]byte("salt " + ref.URI)), Pedigree: w.pedigree(ref.URI)})
	}
	m, err := custody.NewManifest(ms)
	w.must(err)
	c := m.Contents()
	w.Do(custody.KindCommission, w.Lot(lot), w.Event(maker, custody.First()), &custody.Commission{UnitKind: "device", Lot: lot, Contents: &c}, &m, maker)
	return refs
}

func (w *World) manifest(refs []custody.UnitRef) custody.Manifest {
	w.t.Helper()
	ms := make([]custody.Member, len(refs))
	for i, r := range refs {
		ms[i] = custody.Member{URI: r.URI, Load: r.Load, Head: w.Head(r), Salt: sha256.Sum256([]byte("salt " + r.String()))}
	}
	m, err := custody.NewManifest(ms)
	w.must(err)
	return m
}

// Pack opens a load of container n with refs in it.
func (w *World) Pack(p *Party, n int, level int64, refs ...custody.UnitRef) custody.UnitRef {
	w.t.Helper()
	m := w.manifest(refs)
	id := w.Do(custody.KindPack, w.Container(n), w.Event(p, custody.First()), &custody.Pack{Level: level, Contents: m.Contents()}, &m, p)
	return custody.UnitRef{URI: w.Container(n), Load: id}
}

// Unpack takes refs out of a load.
func (w *World) Unpack(p *Party, load custody.UnitRef, refs ...custody.UnitRef) entry.Hash {
	w.t.Helper()
	m := w.manifest(refs)
	ev := w.Event(p, w.Chain(load))
	ev.Load = load.Load.String()
	return w.Do(custody.KindUnpack, load.URI, ev, &custody.Unpack{Contents: m.Contents()}, &m, p)
}

// HandOver releases ref from one party and has the other accept it.
func (w *World) HandOver(from, to *Party, ref custody.UnitRef) {
	w.t.Helper()
	rel := w.Release(from, to, ref)
	w.act(custody.KindAccept, to, ref, &custody.Accept{Accepts: custody.DigestOf(rel)})
}

// Release is the first half of a hand-over.
func (w *World) Release(from, to *Party, ref custody.UnitRef) entry.Hash {
	w.t.Helper()
	return w.act(custody.KindRelease, from, ref, &custody.Release{From: from.URI, To: to.URI})
}

// Register moves a unit's identity to registered.
func (w *World) Register(ref custody.UnitRef) {
	w.t.Helper()
	w.note(custody.KindIdentity, w.Parties["registrar"], ref, &custody.Identity{State: "registered"})
}

// RevokeIdentity ends a unit's identity.
func (w *World) RevokeIdentity(ref custody.UnitRef) {
	w.t.Helper()
	w.note(custody.KindIdentity, w.Parties["registrar"], ref, &custody.Identity{State: "revoked"})
}

// Install puts a unit into use.
func (w *World) Install(p *Party, ref custody.UnitRef) {
	w.t.Helper()
	w.act(custody.KindInstall, p, ref, &custody.Install{})
}

// Hold places a hold on a unit or load.
func (w *World) Hold(p *Party, ref custody.UnitRef, reason string) entry.Hash {
	w.t.Helper()
	return w.note(custody.KindHold, p, ref, &custody.Hold{Reason: reason})
}

// Lift ends a hold.
func (w *World) Lift(p *Party, ref custody.UnitRef, hold entry.Hash) {
	w.t.Helper()
	w.note(custody.KindLift, p, ref, &custody.Lift{Lifts: custody.DigestOf(hold)})
}

// Recall opens a recall by brand.
func (w *World) Recall(subject string, sel custody.Selector) entry.Hash {
	w.t.Helper()
	brand := w.Parties["brand"]
	return w.Govern(custody.KindRecall, subject, &custody.Recall{Actor: brand.URI, Action: "open", Selector: sel, Reason: "overheats"}, brand)
}

// RevokeKey ends a party's key by the authority.
func (w *World) RevokeKey(p *Party) {
	w.t.Helper()
	h, err := custody.KeyHash(p.Key.Public())
	w.must(err)
	w.Govern(custody.KindKey, p.URI, &custody.KeyChange{Action: "revoke", Key: custody.DigestOf(h), Reason: "stolen"}, w.Authority)
}

// Bind commissions one unit with a device key of its own.
func (w *World) Bind(serial, lot string) {
	w.t.Helper()
	w.Bind2(serial, serial, lot)
}

// Assemble puts parts into parent.
func (w *World) Assemble(p *Party, parent custody.UnitRef, parts ...custody.UnitRef) entry.Hash {
	w.t.Helper()
	b := &custody.Assemble{Action: "add"}
	for _, part := range parts {
		d := custody.DigestOf(w.Head(part))
		b.Components = append(b.Components, custody.Component{URI: part.URI, Head: &d})
	}
	return w.act(custody.KindAssemble, p, parent, b)
}

// Firmware records an image.
func (w *World) Firmware(p *Party, ref custody.UnitRef, image entry.Hash) {
	w.t.Helper()
	w.note(custody.KindFirmwareLoad, p, ref, &custody.FirmwareLoad{Image: custody.DigestOf(image), Version: "1.0"})
}

// Void takes back a statement about ref.
func (w *World) Void(p *Party, ref custody.UnitRef, id entry.Hash) {
	w.t.Helper()
	w.note(custody.KindVoid, p, ref, &custody.Void{Voids: custody.DigestOf(id), Reason: "did_not_occur"})
}

// Retire ends a unit.
func (w *World) Retire(p *Party, ref custody.UnitRef) {
	w.t.Helper()
	w.act(custody.KindRetire, p, ref, &custody.Retire{Reason: "destroyed"})
}

// Clone has maker2 commission a live serial again.
func (w *World) Clone(serial, lot string) {
	w.t.Helper()
	maker := w.Parties["maker2"]
	w.Do(custody.KindCommission, w.Unit(serial), w.Event(maker, custody.First()), &custody.Commission{UnitKind: "device", Lot: lot}, nil, maker)
}

// Claim is a stranger's acceptance of a unit that was never released to it.
func (w *World) Claim(p *Party, ref custody.UnitRef) {
	w.t.Helper()
	w.act(custody.KindAccept, p, ref, &custody.Accept{Accepts: custody.DigestOf(w.Head(ref))})
}

// Bind2 commissions serial with the device key of another one.
func (w *World) Bind2(serial, other, lot string) {
	w.t.Helper()
	maker, uri, key := w.Parties["maker"], w.Unit(serial), Key("device "+other)
	dev, err := custody.NewKey(key.Public())
	w.must(err)
	ev := w.Event(maker, custody.First())
	w.must(ev.SignDevice(key, custody.KindCommission, uri, w.Ledger, 1))
	w.Do(custody.KindCommission, uri, ev, &custody.Commission{UnitKind: "device", Lot: lot,
		Identity: &custody.DeviceIdentity{SPKI: base64.StdEncoding.EncodeToString(dev.SPKI)}}, nil, maker)
}
