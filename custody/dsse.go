package custody

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// MaxDSSE bounds the JSON of one envelope, in bytes: a payload and signatures at
// their limits in base64, and room for names.
const MaxDSSE = (entry.MaxPayload+entry.MaxSignatures*(entry.MaxSignature+128))*4/3 + 4096

// DSSE is an envelope as it was sent: read, not verified.
type DSSE struct {
	Payload    []byte
	Signatures []entry.Signature // in the order sent; Key is the key id
}

type dsseWire struct {
	PayloadType string    `json:"payloadType"`
	Payload     string    `json:"payload"`
	Signatures  []sigWire `json:"signatures"`
}

type sigWire struct {
	KeyID string `json:"keyid"`
	Sig   string `json:"sig"`
}

// ParseDSSE reads the JSON of an envelope: {"payloadType", "payload",
// "signatures": [{"keyid", "sig"}]} and nothing else. Base64 is standard, padded
// and canonical; key ids are SHA-256 of the SPKI in lower-case hex.
func ParseDSSE(body []byte) (DSSE, error) {
	if len(body) > MaxDSSE {
		return DSSE{}, problem.New("too_large", "", "the envelope has %d bytes, limit %d", len(body), MaxDSSE)
	}
	w, ok := plainDSSE(body)
	if !ok {
		w = dsseWire{}
		if err := decodeStrict(body, &w); err != nil {
			return DSSE{}, err
		}
	}
	if w.PayloadType != PayloadType {
		return DSSE{}, problem.New("unsupported_payload_type", "/payloadType", "the payload type is %q", clip(w.PayloadType)).
			WithHint("it is %s, exactly", PayloadType)
	}
	if n := len(w.Signatures); n == 0 || n > entry.MaxSignatures {
		return DSSE{}, problem.New("signature_count", "/signatures", "the envelope has %d signatures, want 1 to %d", n, entry.MaxSignatures)
	}
	if n := base64.StdEncoding.DecodedLen(len(w.Payload)) - strings.Count(last2(w.Payload), "="); n > entry.MaxPayload {
		return DSSE{}, problem.New("too_large", "/payload", "the payload has %d bytes, limit %d", n, entry.MaxPayload)
	}
	var d DSSE
	var err error
	if d.Payload, err = decodeBase64(w.Payload); err != nil {
		return DSSE{}, at(err, "/payload")
	}
	d.Signatures = make([]entry.Signature, 0, len(w.Signatures))
	for i, sw := range w.Signatures {
		field := signatureField(i)
		if sw.KeyID == "" {
			return DSSE{}, problem.New("keyid_required", field+"/keyid", "signature %d does not name its key", i).
				WithHint("give the SHA-256 of the key's SubjectPublicKeyInfo in lower-case hex")
		}
		var s entry.Signature
		if s.Key, err = entry.ParseHash(sw.KeyID); err != nil {
			return DSSE{}, problem.New("keyid_required", field+"/keyid", "signature %d names its key as %q", i, clip(sw.KeyID)).
				WithHint("give the SHA-256 of the key's SubjectPublicKeyInfo in lower-case hex")
		}
		if s.Sig, err = decodeBase64(sw.Sig); err != nil {
			return DSSE{}, at(err, field+"/sig")
		}
		if n := len(s.Sig); n == 0 || n > entry.MaxSignature {
			return DSSE{}, problem.New("bad_signature", field+"/sig", "signature %d has %d bytes, want 1 to %d", i, n, entry.MaxSignature)
		}
		d.Signatures = append(d.Signatures, s)
	}
	return d, nil
}

// signatureField is the JSON pointer of a signature.
func signatureField(i int) string { return signatureFields[i] }

var signatureFields = func() (all [entry.MaxSignatures]string) {
	for i := range all {
		all[i] = pointer("/signatures", i)
	}
	return all
}()

func last2(s string) string { return s[max(0, len(s)-2):] }

// Marshal returns the JSON of an envelope with its fields in fixed order.
func (d DSSE) Marshal() []byte {
	w := dsseWire{PayloadType: PayloadType, Payload: base64.StdEncoding.EncodeToString(d.Payload), Signatures: []sigWire{}}
	for _, s := range d.Signatures {
		w.Signatures = append(w.Signatures, sigWire{KeyID: s.Key.String(), Sig: base64.StdEncoding.EncodeToString(s.Sig)})
	}
	return mustMarshal(w)
}

// PAE is the DSSE pre-authentication encoding of a payload: what is signed.
func PAE(payload []byte) []byte { return dsse.PAE(PayloadType, payload) }

// KeyLookup finds enrolled keys, revoked ones too: whether a key may still act is
// a question of log order, which the door asks. It must be safe for concurrent
// use when Open is called concurrently.
type KeyLookup interface {
	Key(hash entry.Hash) (Key, bool)
}

// Keys is a KeyLookup over a map.
type Keys map[entry.Hash]Key

// Key implements KeyLookup.
func (m Keys) Key(h entry.Hash) (Key, bool) { k, ok := m[h]; return k, ok }

// Signed is a statement whose signatures all verified.
type Signed struct {
	Statement *Statement
	Envelope  entry.Envelope // canonical: signers ascending
	Bytes     []byte         // Envelope.Marshal()
	Keys      []Key          // the key of each signature of Envelope, same order
}

// Open parses the payload and verifies every signature, each once. Keys come from
// the statement where it introduces them, else from keys. It refuses unknown keys
// (unknown_key), a key that signs twice, signatures that do not verify
// (bad_signature), and signers that no state could make right (wrong_signers);
// CheckSigners judges the rest. A device key that the statement binds must have
// signed too. Open is pure.
func Open(d DSSE, keys KeyLookup) (*Signed, error) {
	p, err := prepare(d, keys)
	if err != nil {
		return nil, err
	}
	for _, c := range p.checks {
		if err := c.verify(); err != nil {
			return nil, err
		}
	}
	return p.signed, nil
}

// OpenCanonical is Open for canonical envelope bytes, as cargo holds them. The
// result shares memory with envelope.
func OpenCanonical(envelope []byte, keys KeyLookup) (*Signed, error) {
	e, err := entry.ParseEnvelope(envelope)
	if err != nil {
		return nil, problem.New("malformed_request", "", "the envelope is not canonical: %s", err)
	}
	return Open(DSSE{Payload: e.Payload, Signatures: e.Signatures}, keys)
}

// OpenBatch is Open for many envelopes; element i of the results belongs to
// ds[i], and exactly one of its two is nil. Ed25519 signatures are verified
// together, which is about twice as fast and gives the same answers (ZIP-215);
// if any of them is bad, each is verified by itself.
func OpenBatch(ds []DSSE, keys KeyLookup) ([]*Signed, []error) {
	return openAll(ds, keys, func(int, prepared) error { return nil })
}

// OpenPaid is OpenBatch for those who charge for the work: pay is called with the
// keys whose signatures are to be verified, those of devices among them, before any
// of the statement's is. Its error refuses the statement.
func OpenPaid(ds []DSSE, keys KeyLookup, pay func(i int, s *Statement, with []Key) error) ([]*Signed, []error) {
	u := ReadPaid(ds, keys, pay)
	return u.Verify()
}

// ReadPaid is the first half of OpenPaid: all but the verification of signatures.
func ReadPaid(ds []DSSE, keys KeyLookup, pay func(i int, s *Statement, with []Key) error) *Unverified {
	return readAll(ds, keys, func(i int, p prepared) error {
		with := make([]Key, len(p.checks))
		for j, c := range p.checks {
			with[j] = c.key
		}
		return pay(i, p.signed.Statement, with)
	})
}

// OpenHistory is OpenBatch for envelopes in log order, each of which may need keys
// of the ones before: read is called with every statement once it is parsed, before
// the next is looked at and before its signatures are verified, and may add what it
// introduces to keys.
func OpenHistory(ds []DSSE, keys KeyLookup, read func(i int, s *Statement)) ([]*Signed, []error) {
	return openAll(ds, keys, func(i int, p prepared) error {
		read(i, p.signed.Statement)
		return nil
	})
}

// openAll calls read with each statement whose signatures may be verified, before
// the next is looked at; its error refuses the statement.
func openAll(ds []DSSE, keys KeyLookup, read func(i int, p prepared) error) ([]*Signed, []error) {
	return readAll(ds, keys, read).Verify()
}

// Unverified is envelopes that have been read, whose signatures are still to be verified.
type Unverified struct {
	ps   []prepared
	errs []error
	good bool // all Ed25519 signatures of statements without an error
}

func readAll(ds []DSSE, keys KeyLookup, read func(i int, p prepared) error) *Unverified {
	o := &Unverified{ps: make([]prepared, len(ds)), errs: make([]error, len(ds))}
	for i, d := range ds {
		if o.ps[i], o.errs[i] = prepare(d, keys); o.errs[i] != nil {
			continue
		}
		o.errs[i] = read(i, o.ps[i])
	}
	return o
}

// VerifyTogether verifies the Ed25519 signatures of several at less cost than
// one after the other. Verify of each then says what came out, and does the rest.
func VerifyTogether(os []*Unverified) {
	if !allEd25519Good(os...) {
		return // each is verified by itself
	}
	for _, o := range os {
		o.good = true
	}
}

// Verify verifies all signatures; element i of the results belongs to the envelope i,
// and exactly one of its two is nil.
func (o *Unverified) Verify() ([]*Signed, []error) {
	signed := make([]*Signed, len(o.ps))
	allGood := o.good || len(o.ps) > 1 && allEd25519Good(o)
	for i, p := range o.ps {
		if o.errs[i] != nil {
			continue // refused already: its checks are not all there
		}
		for _, c := range p.checks {
			if _, ok := c.key.Public.(ed25519.PublicKey); ok && allGood {
				continue
			}
			if o.errs[i] = c.verify(); o.errs[i] != nil {
				break
			}
		}
		if o.errs[i] == nil {
			signed[i] = p.signed
		}
	}
	return signed, o.errs
}

// allEd25519Good verifies the Ed25519 signatures of the envelopes without an error
// together.
func allEd25519Good(os ...*Unverified) bool {
	n := 0
	for _, o := range os {
		n += len(o.ps)
	}
	batch := newEdBatch(n)
	for _, o := range os {
		for i, p := range o.ps {
			if o.errs[i] != nil {
				continue
			}
			for _, c := range p.checks {
				if pub, ok := c.key.Public.(ed25519.PublicKey); ok {
					batch.add(c.key.ed, pub, c.message, c.sig)
				}
			}
		}
	}
	return batch.good()
}

// check is one signature that is yet to be verified.
type check struct {
	key          Key
	message, sig []byte
	field        string
}

func (c check) verify() error {
	if err := c.key.Verify(c.message, c.sig); err != nil {
		return problem.New("bad_signature", c.field, "the signature of key %s does not verify", c.key.Hash).
			WithHint("sign the DSSE pre-authentication encoding with %s; a signature is over the exact payload bytes", c.key.Algorithm())
	}
	return nil
}

type prepared struct {
	signed *Signed
	checks []check
}

// prepare does everything but the verification of signatures.
func prepare(d DSSE, keys KeyLookup) (prepared, error) {
	var p prepared
	if n := len(d.Signatures); n == 0 || n > entry.MaxSignatures {
		return p, problem.New("signature_count", "/signatures", "the envelope has %d signatures, want 1 to %d", n, entry.MaxSignatures)
	}
	s, err := Parse(d.Payload)
	if err != nil {
		return p, err
	}
	introduced := s.IntroducedKeys()
	if err := checkSignerShape(s, d, introduced); err != nil {
		return p, err
	}
	p.signed = &Signed{Statement: s}
	message := PAE(d.Payload)
	type signer struct {
		sig entry.Signature
		key Key
	}
	signers := make([]signer, len(d.Signatures))
	p.checks = make([]check, 0, len(d.Signatures)+1) // and a device's own
	for i, sig := range d.Signatures {
		field := signatureField(i)
		key, ok := findKey(sig.Key, introduced, keys)
		if !ok {
			return p, problem.New("unknown_key", field+"/keyid", "key %s is not enrolled in this ledger", sig.Key).
				WithHint("enrol the party with this key first, or sign with an enrolled key")
		}
		signers[i] = signer{sig, key}
		p.checks = append(p.checks, check{key: key, message: message, sig: sig.Sig, field: field + "/sig"})
	}
	if key, ok := s.DeviceKey(); ok {
		c, err := s.deviceCheck(key)
		if err != nil {
			return p, err
		}
		p.checks = append(p.checks, c)
	}
	slices.SortFunc(signers, func(a, b signer) int { return compareHash(a.sig.Key, b.sig.Key) })
	p.signed.Envelope.Payload = d.Payload
	p.signed.Envelope.Signatures = make([]entry.Signature, 0, len(signers))
	p.signed.Keys = make([]Key, 0, len(signers))
	for _, sg := range signers {
		p.signed.Envelope.Signatures = append(p.signed.Envelope.Signatures, sg.sig)
		p.signed.Keys = append(p.signed.Keys, sg.key)
	}
	if p.signed.Bytes, err = p.signed.Envelope.Marshal(); err != nil {
		return p, problem.New("malformed_request", "", "%s", err)
	}
	return p, nil
}

func findKey(h entry.Hash, introduced []Key, keys KeyLookup) (Key, bool) {
	for _, k := range introduced {
		if k.Hash == h {
			return k, true
		}
	}
	if keys == nil {
		return Key{}, false
	}
	return keys.Key(h)
}

func compareHash(a, b entry.Hash) int { return bytes.Compare(a[:], b[:]) }

// checkSignerShape refuses what no state of the ledger could make right, before
// any signature is verified.
func checkSignerShape(s *Statement, d DSSE, introduced []Key) error {
	info := kindIndex[s.Kind]
	by := func(key entry.Hash) int { // the first signature of a key
		return slices.IndexFunc(d.Signatures, func(sig entry.Signature) bool { return sig.Key == key })
	}
	for i, sig := range d.Signatures {
		if by(sig.Key) < i {
			slug := "wrong_signers"
			if info.MaxSigners > 1 {
				slug = "threshold_not_met"
			}
			return problem.New(slug, pointer("/signatures", i), "key %s signed twice; it counts once", sig.Key).
				WithHint("each key signs once")
		}
	}
	if n := len(d.Signatures); n > info.MaxSigners {
		return problem.New("wrong_signers", "/signatures", "%d keys signed, %s has at most %d", n, s.Kind.Noun(), info.MaxSigners).
			WithHint("signed by: %s", info.Signers)
	}
	if n := len(d.Signatures); info.Signers == SignedByBothOwners && n != 2 {
		return problem.New("threshold_not_met", "/signatures", "%d party signed, want both", n).
			WithHint("both parties sign the same payload, in one envelope")
	}
	for _, k := range introduced {
		if by(k.Hash) < 0 {
			return problem.New("wrong_signers", "/signatures", "key %s is introduced here and did not sign", k.Hash).
				WithHint("sign with that key too: it proves that the party holds it")
		}
	}
	if s.Event != nil {
		return nil
	}
	rs := RequiredSigners(s)
	if len(rs) == 1 && !rs[0].Authorities && len(rs[0].Parties) == 0 { // charter, rotate: the whole set is known
		var signers []entry.Hash
		for _, sig := range d.Signatures {
			signers = append(signers, sig.Key)
		}
		slices.SortFunc(signers, compareHash)
		return rs[0].check(signers, nil)
	}
	return nil
}
