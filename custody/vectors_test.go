package custody

import (
	"bytes"
	"encoding/hex"
	"testing"

	"fabtrail.dev/fabtrail/custody/gs1"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// The vectors in testdata/custody are for other implementations. They are made
// from the tables of the other tests (go test ./custody -run Vectors -update) and
// checked here as another implementation would.

type statementVector struct {
	Name    string `json:"name"`
	Payload string `json:"payload"`
	ID      string `json:"id"`
	Kind    string `json:"kind"`
	Class   int    `json:"class"`
	Chained bool   `json:"chained"`
	Subject string `json:"subject"`
	Ledger  string `json:"ledger,omitzero"`
}

type badStatementVector struct {
	Name    string `json:"name"`
	Payload []byte `json:"payload"` // may not be UTF-8
	Problem string `json:"problem"`
	Field   string `json:"field"`
}

// maxVector keeps payloads at a limit out of the vectors.
const maxVector = 8 << 10

func TestStatementVectors(t *testing.T) {
	if *update {
		var good []statementVector
		for _, s := range samples(t) {
			p := s.payload(t)
			v := statementVector{Name: s.name, Payload: string(p), ID: entry.StatementID(p).String(), Kind: string(s.kind), Class: int(s.kind.Class()), Chained: s.kind.Chained(), Subject: s.subject}
			if s.kind != KindCharter {
				v.Ledger = ledgerHash.String()
			}
			good = append(good, v)
		}
		writeVector(t, "statements.json", good)
		var bad []badStatementVector
		for _, c := range badCases(t) {
			if p := c.payload(t); len(p) <= maxVector {
				bad = append(bad, badStatementVector{c.Name, p, c.Problem, c.Field})
			}
		}
		writeVector(t, "statements-refused.json", bad)
	}
	var good []statementVector
	readVector(t, "statements.json", &good)
	for _, v := range good {
		s, err := Parse([]byte(v.Payload))
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		got := statementVector{v.Name, v.Payload, s.ID.String(), string(s.Kind), int(s.Kind.Class()), s.Kind.Chained(), s.Subject, s.Ledger.String()}
		if s.Ledger.IsZero() {
			got.Ledger = ""
		}
		if got != v {
			t.Errorf("%s: %+v", v.Name, got)
		}
	}
	var bad []badStatementVector
	readVector(t, "statements-refused.json", &bad)
	if len(good) < len(Kinds()) || len(bad) < 150 {
		t.Errorf("%d good and %d refused vectors", len(good), len(bad))
	}
	for _, v := range bad {
		_, err := Parse(v.Payload)
		if err == nil {
			t.Errorf("%s: accepted", v.Name)
			continue
		}
		if p := problemOf(t, err); p.Type != v.Problem || p.Field != v.Field {
			t.Errorf("%s: %v, want %s at %s", v.Name, err, v.Problem, v.Field)
		}
	}
}

type envelopeVectors struct {
	Keys    []keyVector      `json:"keys"` // enrolled
	Good    []envelopeVector `json:"accepted"`
	Refused []badEnvelope    `json:"refused"`
}

type keyVector struct {
	SPKI string `json:"spki"`
	ID   string `json:"keyid"`
}

type envelopeVector struct {
	Name      string   `json:"name"`
	DSSE      string   `json:"dsse"`
	ID        string   `json:"id"`
	Canonical string   `json:"canonical"` // hex
	Signers   []string `json:"signers"`   // key ids, ascending
}

func TestEnvelopeVectors(t *testing.T) {
	if *update {
		var v envelopeVectors
		for _, n := range []int{1, 2, 10, 11} {
			k := mustKey(t, edKey(n).Public())
			v.Keys = append(v.Keys, keyVector{k.Record().SPKI, k.ID()})
		}
		for _, s := range samples(t) {
			body := signed(t, s)
			o, err := openBody(body, enrolled(t))
			if err != nil {
				t.Fatal(err)
			}
			ev := envelopeVector{Name: s.name, DSSE: string(body), ID: o.Statement.ID.String(), Canonical: hex.EncodeToString(o.Bytes)}
			for _, k := range o.Keys {
				ev.Signers = append(ev.Signers, k.ID())
			}
			v.Good = append(v.Good, ev)
		}
		for _, b := range badEnvelopes(t) {
			if len(b.Body) <= maxVector && bytes.Equal([]byte(b.Body), bytes.ToValidUTF8([]byte(b.Body), nil)) {
				v.Refused = append(v.Refused, b)
			}
		}
		writeVector(t, "envelopes.json", v)
	}
	var v envelopeVectors
	readVector(t, "envelopes.json", &v)
	keys := Keys{}
	for _, k := range v.Keys {
		key, err := parseSPKI(k.SPKI)
		if err != nil || key.ID() != k.ID {
			t.Fatalf("key %s: %v", k.ID, err)
		}
		keys[key.Hash] = key
	}
	for _, g := range v.Good {
		o, err := openBody([]byte(g.DSSE), keys)
		if err != nil {
			t.Errorf("%s: %v", g.Name, err)
			continue
		}
		if o.Statement.ID.String() != g.ID || hex.EncodeToString(o.Bytes) != g.Canonical || len(o.Keys) != len(g.Signers) {
			t.Errorf("%s: another ID or envelope", g.Name)
		}
		for i, k := range o.Keys {
			if k.ID() != g.Signers[i] {
				t.Errorf("%s: signer %d is %s", g.Name, i, k.ID())
			}
		}
	}
	if len(v.Good) < len(Kinds()) || len(v.Refused) < 40 {
		t.Errorf("%d good and %d refused vectors", len(v.Good), len(v.Refused))
	}
	for _, b := range v.Refused {
		_, err := openBody([]byte(b.Body), keys)
		if err == nil {
			t.Errorf("%s: accepted", b.Name)
			continue
		}
		if p := problemOf(t, err); p.Type != b.Problem || p.Field != b.Field {
			t.Errorf("%s: %v, want %s at %s", b.Name, err, b.Problem, b.Field)
		}
	}
}

type signatureVectors struct {
	Signatures []sigCase `json:"signatures"`
	WeakKeys   []badKey  `json:"weakKeys"`
}

func TestSignatureVectors(t *testing.T) {
	if *update {
		writeVector(t, "signatures.json", signatureVectors{sigCases(t), badKeys(t)})
	}
	var v signatureVectors
	readVector(t, "signatures.json", &v)
	valid := 0
	for _, c := range v.Signatures {
		checkSigCase(t, c)
		if c.Valid {
			valid++
		}
	}
	if valid < 10 || len(v.Signatures)-valid < 40 || len(v.WeakKeys) < 20 {
		t.Errorf("%d valid of %d signatures, %d weak keys", valid, len(v.Signatures), len(v.WeakKeys))
	}
	for _, k := range v.WeakKeys {
		if _, err := parseSPKI(k.SPKI); err == nil || problemOf(t, err).Type != "weak_key" {
			t.Errorf("%s: %v", k.Name, err)
		}
	}
}

type manifestVectors struct {
	Manifests []manifestVector  `json:"manifests"`
	Refused   []badManifestCase `json:"refused"`
}

type manifestVector struct {
	Name   string      `json:"name"`
	Bytes  string      `json:"bytes"` // hex
	Digest string      `json:"digest"`
	Root   string      `json:"root"`
	Count  int64       `json:"count"`
	Proofs []proofVect `json:"proofs"`
}

type proofVect struct {
	Index    uint64       `json:"index"`
	URI      string       `json:"uri"`
	Member   string       `json:"member"` // hex
	LeafHash string       `json:"leafHash"`
	Hashes   []entry.Hash `json:"hashes"`
}

func TestManifestVectors(t *testing.T) {
	if *update {
		v := manifestVectors{Refused: badManifests(t)}
		for _, n := range []struct {
			name string
			m    Manifest
		}{{"one", manifestOf(t, 1)}, {"mixed", sampleManifest(t)}, {"seven", manifestOf(t, 7)}} {
			m, c := n.m, n.m.Contents()
			mv := manifestVector{n.name, hex.EncodeToString(m.Marshal()), c.Manifest, c.Root, c.Count, nil}
			for i, mb := range m.Members {
				p, err := m.Prove(i)
				if err != nil {
					t.Fatal(err)
				}
				mv.Proofs = append(mv.Proofs, proofVect{uint64(i), mb.URI, hex.EncodeToString(mb.Marshal()), mb.LeafHash().String(), p})
			}
			v.Manifests = append(v.Manifests, mv)
		}
		writeVector(t, "manifests.json", v)
	}
	var v manifestVectors
	readVector(t, "manifests.json", &v)
	for _, mv := range v.Manifests {
		b, err := hex.DecodeString(mv.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		m, err := ParseManifest(b)
		if err != nil {
			t.Fatalf("%s: %v", mv.Name, err)
		}
		c := Contents{Manifest: mv.Digest, Root: mv.Root, Count: mv.Count}
		if m.Contents() != c {
			t.Errorf("%s: %+v", mv.Name, m.Contents())
		}
		for _, p := range mv.Proofs {
			raw, err := hex.DecodeString(p.Member)
			if err != nil {
				t.Fatal(err)
			}
			mb, err := ParseMember(raw)
			if err != nil || mb.URI != p.URI || mb.LeafHash().String() != p.LeafHash {
				t.Errorf("%s: member %d: %v", mv.Name, p.Index, err)
			}
			if err := VerifyMember(mb, p.Index, p.Hashes, c); err != nil {
				t.Errorf("%s: member %d: %v", mv.Name, p.Index, err)
			}
		}
	}
	if len(v.Manifests) < 3 || len(v.Refused) < 20 {
		t.Errorf("%d manifests, %d refused", len(v.Manifests), len(v.Refused))
	}
	for _, b := range v.Refused {
		if _, err := ParseManifest(b.Bytes); err == nil {
			t.Errorf("%s: accepted", b.Name)
		}
	}
}

type sealedVector struct {
	Group   string `json:"group"`
	Salt    string `json:"salt"`  // hex
	Value   string `json:"value"` // exact bytes
	Alg     string `json:"alg"`
	Digest  string `json:"digest"`
	Opening string `json:"opening"` // its JSON
}

type pedigreeVector struct {
	Key    string `json:"key"`  // hex
	Text   string `json:"text"` // as printed
	Digest string `json:"digest"`
}

type deviceVector struct {
	Ledger        string `json:"ledger"`
	PredicateType string `json:"predicateType"`
	Subject       string `json:"subject"`
	Actor         string `json:"actor"`
	Prev          string `json:"prev"` // hex; empty for null
	Counter       uint64 `json:"counter"`
	Message       string `json:"message"` // hex
	SPKI          string `json:"spki"`
	Sig           []byte `json:"sig"`
	Valid         bool   `json:"valid"`
}

type smallVectors struct {
	Sealed   []sealedVector   `json:"sealed"`
	Pedigree []pedigreeVector `json:"pedigree"`
	Device   []deviceVector   `json:"device"`
}

func makeSmallVectors(t *testing.T) (v smallVectors) {
	for _, c := range [][2]string{{"route", `{"via": "TWKHH"}`}, {"person", `{"name":"Ines","telephone":"+49 30 1"}`}, {"commercial", `17`}} {
		group, value := c[0], c[1]
		ref, o, err := SealGroup(group, someHash, []byte(value))
		if err != nil {
			t.Fatal(err)
		}
		v.Sealed = append(v.Sealed, sealedVector{group, someHash.String(), value, ref.Alg, ref.Digest, string(o.Marshal())})
	}
	for _, key := range [][]byte{make([]byte, 16), someHash[:16]} {
		d, err := PedigreeDigest(key)
		if err != nil {
			t.Fatal(err)
		}
		v.Pedigree = append(v.Pedigree, pedigreeVector{hex.EncodeToString(key), gs1.FormatPedigreeKey(key), d.String()})
	}
	for _, alg := range Algorithms() {
		k := allSigners(t)[alg]
		for _, prev := range []*Digest{nil, {SHA256: otherHash.String()}} {
			m, err := DeviceMessage(ledgerHash, KindInstall, unitURI, makerURI, prev, 258)
			if err != nil {
				t.Fatal(err)
			}
			sig, err := SignMessage(k, m)
			if err != nil {
				t.Fatal(err)
			}
			d := deviceVector{ledgerHash.String(), KindInstall.PredicateType(), unitURI, makerURI, "", 258, hex.EncodeToString(m), record(k).SPKI, sig, true}
			if prev != nil {
				d.Prev = prev.SHA256
			}
			v.Device = append(v.Device, d)
			d.Valid, d.Counter = false, 259 // the signature is over another counter
			other, err := DeviceMessage(ledgerHash, KindInstall, unitURI, makerURI, prev, 259)
			if err != nil {
				t.Fatal(err)
			}
			d.Message = hex.EncodeToString(other)
			v.Device = append(v.Device, d)
		}
	}
	return v
}

func TestSmallVectors(t *testing.T) {
	if *update {
		writeVector(t, "sealed-pedigree-device.json", makeSmallVectors(t))
	}
	var v smallVectors
	readVector(t, "sealed-pedigree-device.json", &v)
	if len(v.Sealed) < 3 || len(v.Pedigree) < 2 || len(v.Device) < 16 {
		t.Errorf("%d, %d, %d vectors", len(v.Sealed), len(v.Pedigree), len(v.Device))
	}
	for _, s := range v.Sealed {
		o, err := ParseOpening([]byte(s.Opening))
		if err != nil || o.Digest().String() != s.Digest || string(o.Value) != s.Value || o.Salt.String() != s.Salt || o.Group != s.Group || s.Alg != SealedAlg {
			t.Errorf("%s: %v", s.Group, err)
		}
	}
	for _, p := range v.Pedigree {
		key, err := hex.DecodeString(p.Key)
		if err != nil {
			t.Fatal(err)
		}
		d, err := PedigreeDigest(key)
		if err != nil || d.String() != p.Digest || gs1.FormatPedigreeKey(key) != p.Text {
			t.Errorf("pedigree key %s: %s %v", p.Key, d, err)
		}
	}
	for i, d := range v.Device {
		kind, ok := KindOf(d.PredicateType)
		ledger, err := entry.ParseHash(d.Ledger)
		if err != nil || !ok {
			t.Fatal(err)
		}
		var prev *Digest
		if d.Prev != "" {
			prev = &Digest{SHA256: d.Prev}
		}
		m, err := DeviceMessage(ledger, kind, d.Subject, d.Actor, prev, d.Counter)
		if err != nil || hex.EncodeToString(m) != d.Message {
			t.Errorf("device %d: another message (%v)", i, err)
		}
		key, err := parseSPKI(d.SPKI)
		if err != nil {
			t.Fatal(err)
		}
		if (key.Verify(m, d.Sig) == nil) != d.Valid {
			t.Errorf("device %d: valid is %t", i, !d.Valid)
		}
	}
}
