package custody

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"testing"

	"filippo.io/edwards25519"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// badKey is a key that may not be enrolled.
type badKey struct {
	Name string `json:"name"`
	SPKI string `json:"spki"`
}

func edSPKI(t testing.TB, point []byte) []byte {
	t.Helper()
	return append([]byte{0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00}, point...)
}

// torsion returns a point of order 8.
func torsion(t testing.TB) *edwards25519.Point {
	t.Helper()
	// A point of order 8 in its usual encoding (RFC 7748 and ed25519 literature).
	b := []byte{0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
		0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a}
	p, err := new(edwards25519.Point).SetBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	four := new(edwards25519.Point).Add(p, p)
	four.Add(four, four)
	if four.Equal(edwards25519.NewIdentityPoint()) == 1 || new(edwards25519.Point).MultByCofactor(p).Equal(edwards25519.NewIdentityPoint()) != 1 {
		t.Fatal("the point is not of order 8")
	}
	return p
}

// secretScalar is the secret scalar of an Ed25519 key (RFC 8032 section 5.1.5).
func secretScalar(t testing.TB, k ed25519.PrivateKey) *edwards25519.Scalar {
	t.Helper()
	h := sha512.Sum512(k.Seed())
	s, err := edwards25519.NewScalar().SetBytesWithClamping(h[:32])
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func badKeys(t testing.TB) []badKey {
	t.Helper()
	identity := edwards25519.NewIdentityPoint().Bytes()
	pNonCanonical := bytes.Repeat([]byte{0xff}, 32) // p+1: the identity again
	pNonCanonical[0], pNonCanonical[31] = 0xee, 0x7f
	good, err := new(edwards25519.Point).SetBytes(edKey(1).Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	mixed := new(edwards25519.Point).Add(good, torsion(t)).Bytes()
	signedZero := bytes.Clone(identity)
	signedZero[31] |= 0x80
	offCurve := make([]byte, 32)
	offCurve[0] = 2
	edGood := spkiDER(t, edKey(1).Public())
	rsaPub := rsaKey(t).Public().(*rsa.PublicKey)
	smallFactor := new(big.Int).Mul(new(big.Int).Rsh(rsaPub.N, 2), big.NewInt(3))
	smallFactor.SetBit(smallFactor, 0, 1)
	for new(big.Int).Mod(smallFactor, big.NewInt(3)).Sign() != 0 {
		smallFactor.Add(smallFactor, big.NewInt(2))
	}
	even := new(big.Int).SetBit(rsaPub.N, 0, 0)
	huge := new(big.Int).SetBit(rsaPub.N, 8192, 1)
	short := new(big.Int).Rsh(rsaPub.N, 1)
	short.SetBit(short, 0, 1)
	p256 := spkiDER(t, ecKey(t, elliptic.P256(), 1).Public())
	compressed := func() []byte {
		pub := ecKey(t, elliptic.P256(), 1).PublicKey
		raw, err := pub.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		point := append([]byte{2 + raw[64]&1}, raw[1:33]...)
		type algorithm struct{ A, B asn1.ObjectIdentifier }
		der, err := asn1.Marshal(struct {
			Alg algorithm
			Key asn1.BitString
		}{algorithm{asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}}, asn1.BitString{Bytes: point, BitLength: 264}})
		if err != nil {
			t.Fatal(err)
		}
		return der
	}()
	offP256 := bytes.Clone(p256)
	offP256[len(offP256)-1] ^= 1
	longForm := append([]byte{0x30, 0x81, 0x2a}, edGood[2:]...)
	cases := []struct {
		name string
		der  []byte
	}{
		{"empty", nil},
		{"not DER", []byte("ssh-ed25519 AAAA")},
		{"Ed25519 identity", edSPKI(t, identity)},
		{"Ed25519 identity, non-canonical", edSPKI(t, pNonCanonical)},
		{"Ed25519 identity, negative zero", edSPKI(t, signedZero)},
		{"Ed25519 order 8", edSPKI(t, torsion(t).Bytes())},
		{"Ed25519 mixed order", edSPKI(t, mixed)},
		{"Ed25519 off the curve", edSPKI(t, offCurve)},
		{"Ed25519 31 bytes", edSPKI(t, identity)[:43]},
		{"Ed25519 trailing byte", append(bytes.Clone(edGood), 0)},
		{"Ed25519 long-form length", longForm},
		{"X25519", append([]byte{0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x03, 0x21, 0x00}, edGood[12:]...)},
		{"P-224", spkiDER(t, ecKey(t, elliptic.P224(), 1).Public())},
		{"P-521", spkiDER(t, ecKey(t, elliptic.P521(), 1).Public())},
		{"P-256 compressed point", compressed},
		{"P-256 off the curve", offP256},
		{"RSA 3071 bits", spkiDER(t, &rsa.PublicKey{N: short, E: 65537})},
		{"RSA 8193 bits", spkiDER(t, &rsa.PublicKey{N: huge, E: 65537})},
		{"RSA exponent 3", spkiDER(t, &rsa.PublicKey{N: rsaPub.N, E: 3})},
		{"RSA even exponent", spkiDER(t, &rsa.PublicKey{N: rsaPub.N, E: 65538})},
		{"RSA even modulus", spkiDER(t, &rsa.PublicKey{N: even, E: 65537})},
		{"RSA modulus divisible by 3", spkiDER(t, &rsa.PublicKey{N: smallFactor, E: 65537})},
		{"too long", make([]byte, maxSPKI+1)},
	}
	out := make([]badKey, len(cases))
	for i, c := range cases {
		out[i] = badKey{c.name, base64.StdEncoding.EncodeToString(c.der)}
	}
	return out
}

func TestParseKeyRefuses(t *testing.T) {
	for _, c := range badKeys(t) {
		t.Run(c.Name, func(t *testing.T) {
			_, err := parseSPKI(c.SPKI)
			if p := problemOf(t, err); p.Type != "weak_key" {
				t.Errorf("%v", err)
			}
		})
	}
}

func allSigners(t testing.TB) map[Algorithm]crypto.Signer {
	return map[Algorithm]crypto.Signer{Ed25519: edKey(1), ECDSAP256: ecKey(t, elliptic.P256(), 1), ECDSAP384: ecKey(t, elliptic.P384(), 1), RSAPSS: rsaKey(t)}
}

func TestKeyRoundTrip(t *testing.T) {
	for alg, k := range allSigners(t) {
		key := mustKey(t, k.Public())
		if key.Algorithm() != alg {
			t.Errorf("%s reads as %s", alg, key.Algorithm())
		}
		der := spkiDER(t, k.Public())
		if key.Hash != sha256.Sum256(der) || key.ID() != fmt.Sprintf("%x", sha256.Sum256(der)) {
			t.Errorf("%s: key id %s", alg, key.ID())
		}
		rec, err := key.Record().Key()
		if err != nil || rec.Hash != key.Hash {
			t.Errorf("%s: record: %v", alg, err)
		}
		text, err := MarshalPrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParsePrivateKey(text)
		if err != nil || back.Key().Hash != key.Hash {
			t.Errorf("%s: private key: %v", alg, err)
		}
		pub, err := ParsePublicKey(MarshalPublicKey(key))
		if err != nil || pub.Hash != key.Hash {
			t.Errorf("%s: public key: %v", alg, err)
		}
		for name, bad := range map[string][]byte{"a public key": MarshalPublicKey(key), "nothing": nil, "two": append(bytes.Clone(text), text...),
			"garbage in PEM": pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: []byte("x")})} {
			if _, err := ParsePrivateKey(bad); err == nil {
				t.Errorf("%s: a private key was read from %s", alg, name)
			}
		}
		if _, err := ParsePublicKey(text); err == nil {
			t.Errorf("%s: a public key was read from a private one", alg)
		}
	}
}

func TestGenerateKey(t *testing.T) {
	for _, a := range []Algorithm{Ed25519, ECDSAP256, ECDSAP384} { // RSA: see TestMain and keygen's own test
		k, err := GenerateKey(a)
		if err != nil {
			t.Fatal(err)
		}
		s, err := NewSigner(k)
		if err != nil || s.Key().Algorithm() != a {
			t.Errorf("%s: %v", a, err)
		}
	}
	if _, err := GenerateKey("dsa"); err == nil {
		t.Error("a DSA key was made")
	}
	if _, err := NewSigner(ecKey(t, elliptic.P521(), 1)); err == nil {
		t.Error("a signer of P-521 was made")
	}
}

// sigCase is one signature with the answer that every verifier must give.
type sigCase struct {
	Name    string `json:"name"`
	SPKI    string `json:"spki"`
	Message []byte `json:"message"`
	Sig     []byte `json:"sig"`
	Valid   bool   `json:"valid"`
	// Std is what Go's standard library says where it differs (Ed25519 only).
	Std string `json:"stdlib,omitzero"`
}

func sigCases(t testing.TB) []sigCase {
	t.Helper()
	var cases []sigCase
	msg := PAE([]byte(`{"a":1}`))
	add := func(name string, k crypto.Signer, m, sig []byte, valid bool) *sigCase {
		cases = append(cases, sigCase{Name: name, SPKI: record(k).SPKI, Message: m, Sig: sig, Valid: valid})
		return &cases[len(cases)-1]
	}
	for _, alg := range Algorithms() {
		k := allSigners(t)[alg]
		sig, err := SignMessage(k, msg)
		if err != nil {
			t.Fatal(err)
		}
		add(string(alg), k, msg, sig, true)
		add(string(alg)+" other message", k, PAE([]byte(`{"a":2}`)), sig, false)
		add(string(alg)+" payload without PAE", k, []byte(`{"a":1}`), sig, false)
		add(string(alg)+" truncated", k, msg, sig[:len(sig)-1], false)
		add(string(alg)+" trailing byte", k, msg, append(bytes.Clone(sig), 0), false)
		flipped := bytes.Clone(sig)
		flipped[len(flipped)/2] ^= 1
		add(string(alg)+" flipped bit", k, msg, flipped, false)
		add(string(alg)+" empty", k, msg, nil, false)
	}
	ed25519Cases(t, msg, add)
	ecdsaCases(t, msg, add)
	rsaCases(t, msg, add)
	return cases
}

func ed25519Cases(t testing.TB, msg []byte, add func(string, crypto.Signer, []byte, []byte, bool) *sigCase) {
	key := edKey(1)
	pub := key.Public().(ed25519.PublicKey)
	a := secretScalar(t, key)
	// sign makes s = r + H(encodedR | A | M) a for any encoding of R.
	sign := func(r *edwards25519.Scalar, encodedR []byte) []byte {
		h := sha512.New()
		h.Write(encodedR)
		h.Write(pub)
		h.Write(msg)
		k, err := edwards25519.NewScalar().SetUniformBytes(h.Sum(nil))
		if err != nil {
			t.Fatal(err)
		}
		s := edwards25519.NewScalar().MultiplyAdd(k, a, r)
		return append(bytes.Clone(encodedR), s.Bytes()...)
	}
	rb := sha512.Sum512([]byte("nonce"))
	r, err := edwards25519.NewScalar().SetUniformBytes(rb[:])
	if err != nil {
		t.Fatal(err)
	}
	R := new(edwards25519.Point).ScalarBaseMult(r)
	zero := edwards25519.NewScalar()
	add("ed25519 own arithmetic", key, msg, sign(r, R.Bytes()), true)
	c := add("ed25519 R with torsion (ZIP-215: cofactored)", key, msg, sign(r, new(edwards25519.Point).Add(R, torsion(t)).Bytes()), true)
	c.Std = "invalid"
	c = add("ed25519 R of order 8", key, msg, sign(zero, torsion(t).Bytes()), true)
	c.Std = "invalid"
	add("ed25519 R identity", key, msg, sign(zero, edwards25519.NewIdentityPoint().Bytes()), true)
	nonCanonical := bytes.Repeat([]byte{0xff}, 32)
	nonCanonical[0], nonCanonical[31] = 0xee, 0x7f
	c = add("ed25519 R identity, non-canonical encoding", key, msg, sign(zero, nonCanonical), true)
	c.Std = "invalid"
	offCurve := make([]byte, 32)
	offCurve[0] = 2
	add("ed25519 R off the curve", key, msg, sign(r, offCurve), false)
	// s + L: the same scalar, not reduced.
	good := ed25519.Sign(key, msg)
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	le := func(b []byte) []byte {
		out := make([]byte, 32)
		for i, v := range b {
			out[len(b)-1-i] = v
		}
		return out
	}
	s := new(big.Int).SetBytes(le(good[32:]))
	s.Add(s, order)
	add("ed25519 s not reduced", key, msg, append(bytes.Clone(good[:32]), le(s.FillBytes(make([]byte, 32)))...), false)
	ph := &ed25519.Options{Hash: crypto.SHA512}
	digest := sha512.Sum512(msg)
	sig, err := key.Sign(nil, digest[:], ph)
	if err != nil {
		t.Fatal(err)
	}
	add("ed25519ph", key, msg, sig, false)
}

func ecdsaCases(t testing.TB, msg []byte, add func(string, crypto.Signer, []byte, []byte, bool) *sigCase) {
	type rs struct{ R, S *big.Int }
	for _, c := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		key := ecKey(t, c, 1)
		name := string(mustKey(t, key.Public()).Algorithm())
		sig, err := SignMessage(key, msg)
		if err != nil {
			t.Fatal(err)
		}
		var v rs
		if _, err := asn1.Unmarshal(sig, &v); err != nil {
			t.Fatal(err)
		}
		der := func(r, s *big.Int) []byte {
			b, err := asn1.Marshal(rs{r, s})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		n := c.Params().N
		size := (c.Params().BitSize + 7) / 8
		add(name+" (r, n-s): the other of the pair", key, msg, der(v.R, new(big.Int).Sub(n, v.S)), true)
		add(name+" raw r||s", key, msg, append(v.R.FillBytes(make([]byte, size)), v.S.FillBytes(make([]byte, size))...), false)
		add(name+" r+n", key, msg, der(new(big.Int).Add(v.R, n), v.S), false)
		add(name+" r = 0", key, msg, der(new(big.Int), v.S), false)
		add(name+" s = 0", key, msg, der(v.R, new(big.Int)), false)
		add(name+" s = n", key, msg, der(v.R, n), false)
		add(name+" negative s", key, msg, der(v.R, new(big.Int).Neg(v.S)), false)
		// BER: the same integers with a long-form length.
		add(name+" BER length", key, msg, append([]byte{0x30, 0x81, sig[1]}, sig[2:]...), false)
		h256, h384 := sha256.Sum256(msg), sha512.Sum384(msg)
		wrong := h384[:]
		if c == elliptic.P384() {
			wrong = h256[:]
		}
		other, err := ecdsa.SignASN1(rand.Reader, key, wrong)
		if err != nil {
			t.Fatal(err)
		}
		add(name+" over the other hash", key, msg, other, false)
	}
}

func rsaCases(t testing.TB, msg []byte, add func(string, crypto.Signer, []byte, []byte, bool) *sigCase) {
	key := rsaKey(t).(*rsa.PrivateKey)
	h := sha256.Sum256(msg)
	for _, salt := range []int{rsa.PSSSaltLengthAuto, 0, 20, 31, 33, 64} {
		sig, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, h[:], &rsa.PSSOptions{SaltLength: salt})
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("rsa-pss salt of %d bytes", salt)
		if salt == rsa.PSSSaltLengthAuto {
			name = "rsa-pss salt as long as fits"
		}
		add(name, key, msg, sig, false)
	}
	sig, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, h[:], &rsa.PSSOptions{SaltLength: 32})
	if err != nil {
		t.Fatal(err)
	}
	add("rsa-pss signed anew: another salt", key, msg, sig, true)
	v15, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, h[:])
	if err != nil {
		t.Fatal(err)
	}
	add("rsa PKCS #1 v1.5", key, msg, v15, false)
	h512 := sha512.Sum512(msg)
	sig, err = rsa.SignPSS(rand.Reader, key, crypto.SHA512, h512[:], &rsa.PSSOptions{SaltLength: 32})
	if err != nil {
		t.Fatal(err)
	}
	add("rsa-pss over SHA-512", key, msg, sig, false)
	over := new(big.Int).Add(new(big.Int).SetBytes(sig), key.N)
	add("rsa-pss not below the modulus", key, msg, over.FillBytes(make([]byte, 385)), false)
}

func checkSigCase(t *testing.T, c sigCase) {
	t.Helper()
	key, err := parseSPKI(c.SPKI)
	if err != nil {
		t.Fatal(err)
	}
	if got := key.Verify(c.Message, c.Sig) == nil; got != c.Valid {
		t.Errorf("%s: valid is %t, want %t", c.Name, got, c.Valid)
	}
	if pub, ok := key.Public.(ed25519.PublicKey); ok && len(c.Sig) == 64 {
		want := c.Valid
		if c.Std != "" {
			want = c.Std == "valid"
		}
		if got := ed25519.Verify(pub, c.Message, c.Sig); got != want {
			t.Errorf("%s: the standard library says %t, want %t: the vector shows no difference", c.Name, got, want)
		}
	}
}

func TestSignatureCases(t *testing.T) {
	for _, c := range sigCases(t) {
		checkSigCase(t, c)
	}
}

// TestDSSEInterop: go-securesystemslib signs with our signers and verifies with
// our verifiers, and its envelope is read by ParseDSSE.
func TestDSSEInterop(t *testing.T) {
	ctx := context.Background()
	payload := find(t, "hold").payload(t)
	for alg, k := range allSigners(t) {
		s, err := NewSigner(k)
		if err != nil {
			t.Fatal(err)
		}
		es, err := dsse.NewEnvelopeSigner(s)
		if err != nil {
			t.Fatal(err)
		}
		env, err := es.SignPayload(ctx, PayloadType, payload)
		if err != nil {
			t.Fatal(err)
		}
		d, err := ParseDSSE(mustMarshal(*env))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(d, lookup(t, k)); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
		v, err := dsse.NewEnvelopeVerifier(s.Key().Verifier())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := v.Verify(ctx, env); err != nil || len(got) != 1 {
			t.Errorf("%s: go-securesystemslib: %v", alg, err)
		}
	}
}
