package custody

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"fabtrail.dev/fabtrail/ledger/entry"
)

func signed(t testing.TB, s sample) []byte {
	t.Helper()
	b, err := Sign(s.payload(t), s.signers...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// enrolled is a lookup of all keys that samples sign with and do not introduce.
func enrolled(t testing.TB) Keys { return lookup(t, edKey(10), edKey(11), edKey(1), edKey(2)) }

func TestOpenSamples(t *testing.T) {
	for _, s := range samples(t) {
		t.Run(s.name, func(t *testing.T) {
			d, err := ParseDSSE(signed(t, s))
			if err != nil {
				t.Fatal(err)
			}
			got, err := Open(d, enrolled(t))
			if err != nil {
				t.Fatal(err)
			}
			env, err := entry.ParseEnvelope(got.Bytes)
			if err != nil || len(env.Signatures) != len(s.signers) || !bytes.Equal(env.Payload, got.Statement.Payload) {
				t.Fatalf("canonical envelope: %v", err)
			}
			for i, k := range got.Keys {
				if k.Hash != env.Signatures[i].Key {
					t.Error("keys are not in the order of signatures")
				}
			}
			again, err := OpenCanonical(got.Bytes, enrolled(t))
			if err != nil || !bytes.Equal(again.Bytes, got.Bytes) || again.Statement.ID != got.Statement.ID {
				t.Errorf("from cargo: %v", err)
			}
		})
	}
}

// badEnvelope is a request body that must be refused.
type badEnvelope struct {
	Name    string `json:"name"`
	Body    string `json:"dsse"`
	Problem string `json:"problem"`
	Field   string `json:"field"`
}

func badEnvelopes(t testing.TB) []badEnvelope {
	t.Helper()
	hold := find(t, "hold")
	payload := hold.payload(t)
	good := string(signed(t, hold))
	b64 := base64.StdEncoding.EncodeToString
	k10, k11 := mustKey(t, edKey(10).Public()), mustKey(t, edKey(11).Public())
	d, err := ParseDSSE([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	sig := d.Signatures[0].Sig
	// One spare byte, so that the last base64 digit has unused bits.
	spare := payload
	for len(spare)%3 != 1 {
		spare = append(bytes.Clone(spare), ' ')
	}
	spareB64 := b64(spare)
	body := func(payload string, sigs ...string) string {
		return fmt.Sprintf(`{"payloadType":%q,"payload":%q,"signatures":[%s]}`, PayloadType, payload, strings.Join(sigs, ","))
	}
	one := func(keyid string, sig []byte) string { return fmt.Sprintf(`{"keyid":%q,"sig":%q}`, keyid, b64(sig)) }
	signedBy := func(s sample, ks ...crypto.Signer) string {
		b, err := Sign(s.payload(t), ks...)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	replace := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("the envelope does not hold %s", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	ecSig, err := SignMessage(ecKey(t, elliptic.P256(), 1), PAE(payload))
	if err != nil {
		t.Fatal(err)
	}
	otherType, err := SignMessage(edKey(10), []byte("DSSEv1 16 application/json "+fmt.Sprint(len(payload))+" "+string(payload)))
	if err != nil {
		t.Fatal(err)
	}
	sealed := b64([]byte(`{"a":1}`))
	var many []crypto.Signer
	for i := range entry.MaxSignatures {
		many = append(many, edKey(20+i))
	}
	return []badEnvelope{
		{"empty body", "", "malformed_json", ""},
		{"not an object", "[]", "malformed_json", ""},
		{"no fields", "{}", "unsupported_payload_type", "/payloadType"},
		{"duplicate payload", replace(`"payload":`, `"payload":"","payload":`), "malformed_json", "/payload"},
		{"duplicate payload, wrong case", replace(`"payload":`, `"PAYLOAD":"","payload":`), "malformed_json", "/PAYLOAD"},
		{"duplicate keyid", replace(`"keyid":`, `"keyid":"","keyid":`), "malformed_json", "/signatures/0/keyid"},
		{"unknown field", replace(`"payload":`, `"extra":1,"payload":`), "malformed_json", "/extra"},
		{"unknown field in a signature", replace(`"keyid":`, `"cert":"","keyid":`), "malformed_json", "/signatures/0/cert"},
		{"trailing data", good + "{}", "malformed_json", ""},
		{"trailing bracket", good + "]", "malformed_json", ""},
		{"byte order mark", "\ufeff" + good, "malformed_json", ""},
		{"invalid UTF-8", replace(`"keyid":"`, "\"keyid\":\"\xff"), "malformed_json", "/signatures/0/keyid"},
		{"lone surrogate", replace(`"keyid":"`, `"keyid":"\ud800`), "malformed_json", "/signatures/0/keyid"},
		{"truncated", good[:len(good)-1], "malformed_json", ""},
		{"payload is an object", replace(`"payload":"`+b64(payload)+`"`, `"payload":{}`), "malformed_json", "/payload"},
		{"signatures is an object", `{"payloadType":"` + PayloadType + `","payload":"","signatures":{}}`, "malformed_json", "/signatures"},
		{"nested deeply", strings.Repeat(`[`, 5000), "malformed_json", strings.Repeat("/0", 32)},
		{"name of any length", `{"` + strings.Repeat("a", 5000) + `":1}`, "malformed_json", "/" + strings.Repeat("a", 255) + "..."},
		{"too large", `{"payload":"` + strings.Repeat("A", MaxDSSE) + `"}`, "too_large", ""},
		{"payload too large", body(b64(make([]byte, entry.MaxPayload+1)), one(k10.ID(), sig)), "too_large", "/payload"},
		{"empty payload", body("", one(k10.ID(), sig)), "too_large", ""},
		{"payload type of JSON", replace(PayloadType, "application/json"), "unsupported_payload_type", "/payloadType"},
		{"payload type with a parameter", replace(PayloadType, PayloadType+"; charset=utf-8"), "unsupported_payload_type", "/payloadType"},
		{"payload type in upper case", replace(PayloadType, strings.ToUpper(PayloadType)), "unsupported_payload_type", "/payloadType"},
		{"payload type of one predicate", replace(PayloadType, "application/vnd.in-toto.hold+json"), "unsupported_payload_type", "/payloadType"},
		{"no signatures", body(b64(payload)), "signature_count", "/signatures"},
		{"nine signatures", body(b64(payload), slicesRepeat(one(k10.ID(), sig), 9)...), "signature_count", "/signatures"},
		{"no keyid", body(b64(payload), `{"sig":"`+b64(sig)+`"}`), "keyid_required", "/signatures/0/keyid"},
		{"empty keyid", body(b64(payload), one("", sig)), "keyid_required", "/signatures/0/keyid"},
		{"keyid in upper case", body(b64(payload), one(strings.ToUpper(k10.ID()), sig)), "keyid_required", "/signatures/0/keyid"},
		{"keyid of another scheme", body(b64(payload), one("SHA256:abc", sig)), "keyid_required", "/signatures/0/keyid"},
		{"payload base64 with trailing bits", body(spareB64[:len(spareB64)-3]+string(next64(spareB64[len(spareB64)-3]))+"==", one(k10.ID(), sig)), "non_canonical_base64", "/payload"},
		{"payload base64 with a newline", replace(`"payload":"`, `"payload":"\n`), "non_canonical_base64", "/payload"},
		{"payload base64 unpadded", body(strings.TrimRight(spareB64, "="), one(k10.ID(), sig)), "non_canonical_base64", "/payload"},
		{"payload base64 URL alphabet", body("-_-_", one(k10.ID(), sig)), "non_canonical_base64", "/payload"},
		{"signature base64 with a newline", body(b64(payload), strings.Replace(one(k10.ID(), sig), `"sig":"`, `"sig":"\r\n`, 1)), "non_canonical_base64", "/signatures/0/sig"},
		{"signature base64 unpadded", body(b64(payload), strings.Replace(one(k10.ID(), sig), `=="`, `"`, 1)), "non_canonical_base64", "/signatures/0/sig"},
		{"empty signature", body(b64(payload), one(k10.ID(), nil)), "bad_signature", "/signatures/0/sig"},
		{"signature too long", body(b64(payload), one(k10.ID(), make([]byte, entry.MaxSignature+1))), "bad_signature", "/signatures/0/sig"},
		{"key not enrolled", body(b64(payload), one(hex64, sig)), "unknown_key", "/signatures/0/keyid"},
		{"keyid names another key", body(b64(payload), one(k11.ID(), sig)), "bad_signature", "/signatures/0/sig"},
		{"signature of another algorithm", body(b64(payload), one(k10.ID(), ecSig)), "bad_signature", "/signatures/0/sig"},
		{"signature of another payload", body(b64(find(t, "sighting").payload(t)), one(k10.ID(), sig)), "bad_signature", "/signatures/0/sig"},
		{"signature over another payload type", body(b64(payload), one(k10.ID(), otherType)), "bad_signature", "/signatures/0/sig"},
		{"payload with a byte more", body(b64(append(bytes.Clone(payload), ' ')), one(k10.ID(), sig)), "bad_signature", "/signatures/0/sig"},
		{"extra junk signature", body(b64(payload), one(k10.ID(), sig), one(k11.ID(), make([]byte, 64))), "wrong_signers", "/signatures"},
		{"one signature twice", body(b64(payload), one(k10.ID(), sig), one(k10.ID(), sig)), "wrong_signers", "/signatures/1"},
		{"a second signer", signedBy(hold, edKey(10), edKey(11)), "wrong_signers", "/signatures"},
		{"same key twice for two parties", signedBy(find(t, "ownership"), edKey(10), edKey(10)), "threshold_not_met", "/signatures/1"},
		{"one party of two", signedBy(find(t, "ownership"), edKey(10)), "threshold_not_met", "/signatures"},
		{"three parties of two", signedBy(find(t, "ownership"), edKey(10), edKey(11), edKey(1)), "wrong_signers", "/signatures"},
		{"same key twice for the threshold", signedBy(find(t, "rule-set"), edKey(10), edKey(10)), "threshold_not_met", "/signatures/1"},
		{"junk beside an authority", body(b64(find(t, "rule-set").payload(t)), one(k11.ID(), make([]byte, 64))), "bad_signature", "/signatures/0/sig"},
		{"charter without one authority", signedBy(find(t, "charter"), edKey(1)), "wrong_signers", "/signatures"},
		{"charter with a stranger", signedBy(find(t, "charter"), edKey(1), edKey(2), edKey(10)), "wrong_signers", "/signatures"},
		{"party without its new key", signedBy(find(t, "party"), edKey(1), edKey(10)), "wrong_signers", "/signatures"},
		{"rotation without the old key", signedBy(find(t, "key rotate"), edKey(12)), "wrong_signers", "/signatures"},
		{"rotation with a third key", signedBy(find(t, "key rotate"), edKey(11), edKey(12), edKey(10)), "wrong_signers", "/signatures"},
		{"eight strangers", signedBy(find(t, "rule-set"), many...), "unknown_key", "/signatures/0/keyid"},
		{"payload is no statement", body(sealed, one(k10.ID(), sig)), "invalid_statement", "/_type"},
		{"device signature of another device", signedBy(forged(t), edKey(10)), "bad_signature", "/predicate/device/sig"},
	}
}

// forged is a commission whose device signature is by another key.
func forged(t testing.TB) sample {
	s := find(t, "commission unit")
	ev := *s.event
	if err := ev.SignDevice(edKey(92), KindCommission, s.subject, ledgerHash, 1); err != nil {
		t.Fatal(err)
	}
	s.event = &ev
	return s
}

func slicesRepeat(s string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = s
	}
	return out
}

// next64 is the base64 digit after c, which differs in its lowest bit or carries.
func next64(c byte) byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	return alphabet[strings.IndexByte(alphabet, c)^1]
}

func TestEnvelopeAttacks(t *testing.T) {
	for _, c := range badEnvelopes(t) {
		t.Run(c.Name, func(t *testing.T) {
			d, err := ParseDSSE([]byte(c.Body))
			if err == nil {
				_, err = Open(d, enrolled(t))
			}
			p := problemOf(t, err)
			if p.Type != c.Problem || p.Field != c.Field {
				t.Errorf("%s at %q, want %s at %q\n%v", p.Type, p.Field, c.Problem, c.Field, err)
			}
		})
	}
}

// TestOnePayloadOneStatement: envelopes that differ in what DSSE leaves open are
// one statement, and deterministic signatures give one canonical envelope.
func TestOnePayloadOneStatement(t *testing.T) {
	s := find(t, "ownership")
	want, err := openBody(signed(t, s), enrolled(t))
	if err != nil {
		t.Fatal(err)
	}
	var w map[string]any
	if err := json.Unmarshal(signed(t, s), &w); err != nil {
		t.Fatal(err)
	}
	sorted, err := json.MarshalIndent(w, " ", "\t") // names sorted, white space, other escapes
	if err != nil {
		t.Fatal(err)
	}
	s.signers = []crypto.Signer{edKey(11), edKey(10)}
	for name, body := range map[string][]byte{"spaced": sorted, "other order of signers": signed(t, s)} {
		got, err := openBody(body, enrolled(t))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !bytes.Equal(got.Bytes, want.Bytes) {
			t.Errorf("%s: another canonical envelope", name)
		}
	}
	// ECDSA signs anew each time: another envelope, the same statement.
	ec := ecKey(t, elliptic.P256(), 1)
	h := find(t, "hold")
	h.signers = []crypto.Signer{ec}
	a, err := openBody(signed(t, h), lookup(t, ec))
	if err != nil {
		t.Fatal(err)
	}
	b, err := openBody(signed(t, h), lookup(t, ec))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(a.Bytes, b.Bytes) || a.Statement.ID != b.Statement.ID {
		t.Error("two ECDSA signatures of one payload: want two envelopes, one statement")
	}
}

func openBody(body []byte, keys KeyLookup) (*Signed, error) {
	d, err := ParseDSSE(body)
	if err != nil {
		return nil, err
	}
	return Open(d, keys)
}

func TestOpenCanonicalRefuses(t *testing.T) {
	s, err := openBody(signed(t, find(t, "ownership")), enrolled(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"empty": nil, "trailing byte": append(bytes.Clone(s.Bytes), 0), "truncated": s.Bytes[:len(s.Bytes)-1]} {
		if _, err := OpenCanonical(b, enrolled(t)); problemOf(t, err).Type != "malformed_request" {
			t.Errorf("%s: %v", name, err)
		}
	}
	bad := bytes.Clone(s.Bytes)
	bad[len(bad)-1] ^= 1
	if _, err := OpenCanonical(bad, enrolled(t)); problemOf(t, err).Type != "bad_signature" {
		t.Errorf("flipped bit: %v", err)
	}
	if _, err := Open(DSSE{Payload: s.Statement.Payload}, enrolled(t)); problemOf(t, err).Type != "signature_count" {
		t.Errorf("no signatures: %v", err)
	}
}

// countingKeys counts look-ups, which come once per signature.
type countingKeys struct {
	Keys
	n *int
}

func (c countingKeys) Key(h entry.Hash) (Key, bool) { *c.n++; return c.Keys.Key(h) }

// TestBoundedWork: no key is looked up when the signers cannot be right, and none
// more often than there are signatures.
func TestBoundedWork(t *testing.T) {
	for _, c := range badEnvelopes(t) {
		d, err := ParseDSSE([]byte(c.Body))
		if err != nil {
			continue
		}
		n := 0
		if _, err = Open(d, countingKeys{enrolled(t), &n}); err == nil {
			t.Fatalf("%s: accepted", c.Name)
		}
		if n > len(d.Signatures) {
			t.Errorf("%s: %d look-ups for %d signatures", c.Name, n, len(d.Signatures))
		}
		if p := problemOf(t, err).Type; (p == "wrong_signers" || p == "threshold_not_met") && n != 0 {
			t.Errorf("%s: %d keys were looked up", c.Name, n)
		}
	}
}

// TestOpenBatch: good and bad in any mixture, the same answers as one by one.
func TestOpenBatch(t *testing.T) {
	var pool []DSSE
	for _, s := range samples(t) {
		d, err := ParseDSSE(signed(t, s))
		if err != nil {
			t.Fatal(err)
		}
		pool = append(pool, d)
	}
	good := len(pool)
	for _, c := range badEnvelopes(t) {
		if d, err := ParseDSSE([]byte(c.Body)); err == nil {
			pool = append(pool, d)
		}
	}
	keys := enrolled(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	for round := range 30 {
		limit := len(pool)
		if round%2 == 0 {
			limit = good // all good: the batch succeeds
		}
		ds := make([]DSSE, rnd.IntN(40))
		for i := range ds {
			ds[i] = pool[rnd.IntN(limit)]
		}
		got, errs := OpenBatch(ds, keys)
		for i, d := range ds {
			want, err := Open(d, keys)
			if (err == nil) != (errs[i] == nil) || err != nil && err.Error() != errs[i].Error() {
				t.Fatalf("batch says %v, alone %v", errs[i], err)
			}
			if (got[i] == nil) != (want == nil) || want != nil && !bytes.Equal(got[i].Bytes, want.Bytes) {
				t.Fatal("the batch opened something else")
			}
		}
	}
}

func TestRapidEnvelope(t *testing.T) {
	keys := Keys{}
	for i := range 12 {
		k, err := NewKey(edKey(i).Public())
		if err != nil {
			t.Fatal(err)
		}
		keys[k.Hash] = k
	}
	payload := find(t, "rule-set").payload(t)
	rapid.Check(t, func(t *rapid.T) {
		order := rapid.Permutation([]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}).Draw(t, "order")
		n := rapid.IntRange(1, entry.MaxSignatures).Draw(t, "n")
		var signers []crypto.Signer
		for _, i := range order[:n] {
			signers = append(signers, edKey(i))
		}
		d, err := SignDSSE(payload, signers...)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseDSSE(d.Marshal())
		if err != nil || len(back.Signatures) != n {
			t.Fatalf("read back: %v", err)
		}
		s, err := Open(back, keys)
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i < n; i++ {
			if compareHash(s.Envelope.Signatures[i-1].Key, s.Envelope.Signatures[i].Key) >= 0 {
				t.Fatal("signers are not ascending")
			}
		}
		c, err := OpenCanonical(s.Bytes, keys)
		if err != nil || !bytes.Equal(c.Bytes, s.Bytes) {
			t.Fatalf("canonical: %v", err)
		}
	})
}
