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
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"sync"

	"filippo.io/edwards25519"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// Algorithm names a signature algorithm. It follows from the key: an envelope
// cannot choose it.
type Algorithm string

// The algorithms of version 1.
const (
	Ed25519   Algorithm = "ed25519"    // RFC 8032, validity as in ZIP-215
	ECDSAP256 Algorithm = "ecdsa-p256" // SHA-256, ASN.1 DER
	ECDSAP384 Algorithm = "ecdsa-p384" // SHA-384, ASN.1 DER
	RSAPSS    Algorithm = "rsa-pss"    // SHA-256, MGF1 SHA-256, salt of 32 bytes
)

// Algorithms lists every algorithm.
func Algorithms() []Algorithm { return []Algorithm{Ed25519, ECDSAP256, ECDSAP384, RSAPSS} }

const (
	minRSABits = 3072
	maxRSABits = 8192
	pssSalt    = 32
	// maxSPKI bounds a SubjectPublicKeyInfo; one of RSA-8192 has 1062 bytes.
	maxSPKI = 2048
)

// Key is a public key that passed ParseKey. Hash is SHA-256 of SPKI; its hex form
// is the key id.
type Key struct {
	SPKI   []byte // DER SubjectPublicKeyInfo
	Hash   entry.Hash
	Public crypto.PublicKey // ed25519.PublicKey, *ecdsa.PublicKey or *rsa.PublicKey

	ed *edMemo // of an Ed25519 key: what makes its checks cheaper; may be nil
}

// ParseKey reads a DER SubjectPublicKeyInfo and refuses (weak_key) whatever may
// not be enrolled: another algorithm, curve or size; an encoding that Go would
// write differently (one key has one hash); an Ed25519 point that is not
// canonically encoded or not of prime order; a senseless RSA modulus or
// exponent.
func ParseKey(der []byte) (Key, error) {
	if len(der) > maxSPKI {
		return Key{}, weak("the key has %d bytes, more than any accepted key", len(der))
	}
	hash := entry.Hash(sha256.Sum256(der))
	if k, ok := accepted.get(hash); ok {
		return k, nil
	}
	pub, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return Key{}, weak("this is not a public key in DER (SubjectPublicKeyInfo)").
			WithHint("enrol an Ed25519, ECDSA P-256 or P-384, or RSA key")
	}
	again, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil || !bytes.Equal(again, der) {
		return Key{}, weak("the key is not in its one canonical DER encoding").
			WithHint("re-export it, for example with fabtrail keygen --public or openssl pkey -pubout -outform DER")
	}
	if err := checkPublic(pub); err != nil {
		return Key{}, err
	}
	k := Key{SPKI: bytes.Clone(der), Hash: hash, Public: pub}
	if k.Algorithm() == Ed25519 {
		k.ed = new(edMemo)
	}
	accepted.put(hash, k)
	return k, nil
}

// accepted remembers keys that ParseKey has checked: the checks are a function of
// the bytes, which the hash names, and cost more than a signature.
var accepted keyMemo[Key]

// maxAccepted bounds what is remembered of keys, at 1 KB or less each.
const maxAccepted = 4096

// keyMemo remembers something of each key, by its hash.
type keyMemo[V any] struct {
	sync.RWMutex
	keys map[entry.Hash]V
}

func (m *keyMemo[V]) get(h entry.Hash) (V, bool) {
	m.RLock()
	defer m.RUnlock()
	v, ok := m.keys[h]
	return v, ok
}

func (m *keyMemo[V]) put(h entry.Hash, v V) {
	m.Lock()
	defer m.Unlock()
	if m.keys == nil || len(m.keys) >= maxAccepted {
		m.keys = map[entry.Hash]V{}
	}
	m.keys[h] = v
}

// NewKey makes a Key of a public key; see ParseKey for what is refused.
func NewKey(pub crypto.PublicKey) (Key, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return Key{}, weak("a key of type %T is not supported", pub)
	}
	return ParseKey(der)
}

// Key parses the SPKI of an enrolment record.
func (r KeyRecord) Key() (Key, error) { return parseSPKI(r.SPKI) }

func parseSPKI(b64 string) (Key, error) {
	der, err := decodeBase64(b64)
	if err != nil {
		return Key{}, err
	}
	return ParseKey(der)
}

func weak(format string, a ...any) *problem.Problem {
	return problem.New("weak_key", "", format, a...)
}

func checkPublic(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case ed25519.PublicKey:
		return checkEd25519(k)
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return weak("curve %s is not accepted", k.Curve.Params().Name).WithHint("use P-256, P-384 or Ed25519")
		}
		return nil
	case *rsa.PublicKey:
		return checkRSA(k)
	}
	return weak("keys of this algorithm are not accepted").WithHint("use Ed25519, ECDSA P-256 or P-384, or RSA")
}

// checkEd25519 refuses points that are not canonically encoded and points that
// are not of prime order: for those, one signature may verify under several
// messages or keys.
func checkEd25519(pub ed25519.PublicKey) error {
	p, err := new(edwards25519.Point).SetBytes(pub)
	if err != nil {
		return weak("the Ed25519 key is not a point of the curve")
	}
	if !bytes.Equal(p.Bytes(), pub) {
		return weak("the Ed25519 key is not canonically encoded")
	}
	identity := edwards25519.NewIdentityPoint()
	if new(edwards25519.Point).MultByCofactor(p).Equal(identity) == 1 {
		return weak("the Ed25519 key has small order")
	}
	// [L]p = [L-1]p + p must be the identity; scalars are modulo L, so -1 is L-1.
	one := scalarOne()
	lMinus1 := edwards25519.NewScalar().Negate(one)
	q := new(edwards25519.Point).ScalarMult(lMinus1, p)
	if q.Add(q, p).Equal(identity) != 1 {
		return weak("the Ed25519 key has mixed order")
	}
	return nil
}

func scalarOne() *edwards25519.Scalar {
	b := [32]byte{1}
	s, err := edwards25519.NewScalar().SetCanonicalBytes(b[:])
	if err != nil {
		panic("custody: one is a canonical scalar: " + err.Error())
	}
	return s
}

// smallPrimes is the product of the odd primes below 200.
var smallPrimes = func() *big.Int {
	n := big.NewInt(1)
	for p := int64(3); p < 200; p += 2 {
		if big.NewInt(p).ProbablyPrime(0) {
			n.Mul(n, big.NewInt(p))
		}
	}
	return n
}()

func checkRSA(k *rsa.PublicKey) error {
	if n := k.N.BitLen(); n < minRSABits || n > maxRSABits {
		return weak("the RSA key has %d bits, accepted are %d to %d", n, minRSABits, maxRSABits)
	}
	if k.E < 65537 || k.E%2 == 0 {
		return weak("the RSA exponent is %d, want an odd number of at least 65537", k.E)
	}
	if k.N.Bit(0) == 0 || new(big.Int).GCD(nil, nil, k.N, smallPrimes).Cmp(big.NewInt(1)) != 0 {
		return weak("the RSA modulus has a small factor")
	}
	return nil
}

// Algorithm is how k signs.
func (k Key) Algorithm() Algorithm {
	switch p := k.Public.(type) {
	case ed25519.PublicKey:
		return Ed25519
	case *ecdsa.PublicKey:
		if p.Curve == elliptic.P384() {
			return ECDSAP384
		}
		return ECDSAP256
	case *rsa.PublicKey:
		return RSAPSS
	}
	return ""
}

// ID is the key id: SHA-256 of the SPKI in lower-case hex.
func (k Key) ID() string { return k.Hash.String() }

// Record returns the enrolment record of k, for statements that introduce it.
func (k Key) Record() KeyRecord { return KeyRecord{SPKI: base64.StdEncoding.EncodeToString(k.SPKI)} }

var errSignature = errors.New("the signature does not verify")

// Verify checks one signature over message (for DSSE: the PAE). Ed25519 follows
// ZIP-215, the rule under which batch verification agrees with single
// verification; ECDSA is DER over SHA-256 (P-256) or SHA-384 (P-384); RSA is PSS
// with SHA-256 and a salt of exactly 32 bytes.
func (k Key) Verify(message, sig []byte) error {
	ok := false
	switch p := k.Public.(type) {
	case ed25519.PublicKey:
		ok = verifyEd25519(k.ed, p, message, sig)
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(p, digestFor(p.Curve, message), sig)
	case *rsa.PublicKey:
		h := sha256.Sum256(message)
		ok = rsa.VerifyPSS(p, crypto.SHA256, h[:], sig, &rsa.PSSOptions{SaltLength: pssSalt}) == nil
	}
	if !ok {
		return errSignature
	}
	return nil
}

func digestFor(c elliptic.Curve, message []byte) []byte {
	if c == elliptic.P384() {
		h := sha512.Sum384(message)
		return h[:]
	}
	h := sha256.Sum256(message)
	return h[:]
}

// SignMessage signs message as Key.Verify expects. The key may live in an HSM:
// only crypto.Signer is asked for.
func SignMessage(key crypto.Signer, message []byte) ([]byte, error) {
	switch p := key.Public().(type) {
	case ed25519.PublicKey:
		return key.Sign(rand.Reader, message, crypto.Hash(0))
	case *ecdsa.PublicKey:
		h := crypto.SHA256
		if p.Curve == elliptic.P384() {
			h = crypto.SHA384
		}
		return key.Sign(rand.Reader, digestFor(p.Curve, message), h)
	case *rsa.PublicKey:
		h := sha256.Sum256(message)
		return key.Sign(rand.Reader, h[:], &rsa.PSSOptions{SaltLength: pssSalt, Hash: crypto.SHA256})
	default:
		return nil, fmt.Errorf("cannot sign with a key of type %T", p)
	}
}

// Signer is a private key with its checked public half. It implements
// dsse.Signer.
type Signer struct {
	key    crypto.Signer
	public Key
}

// NewSigner wraps a private key; its public half must pass ParseKey.
func NewSigner(key crypto.Signer) (*Signer, error) {
	pub, err := NewKey(key.Public())
	if err != nil {
		return nil, err
	}
	return &Signer{key: key, public: pub}, nil
}

// Key is the public half.
func (s *Signer) Key() Key { return s.public }

// Private is the wrapped key.
func (s *Signer) Private() crypto.Signer { return s.key }

// KeyID implements dsse.Signer.
func (s *Signer) KeyID() (string, error) { return s.public.ID(), nil }

// Sign implements dsse.Signer; data is the PAE.
func (s *Signer) Sign(_ context.Context, data []byte) ([]byte, error) {
	return SignMessage(s.key, data)
}

// Verifier returns k as a dsse.Verifier, for code that speaks that interface.
func (k Key) Verifier() dsse.Verifier { return verifier{k} }

type verifier struct{ k Key }

func (v verifier) Verify(_ context.Context, data, sig []byte) error { return v.k.Verify(data, sig) }
func (v verifier) KeyID() (string, error)                           { return v.k.ID(), nil }
func (v verifier) Public() crypto.PublicKey                         { return v.k.Public }

// GenerateKey makes a private key of the given algorithm (RSA: 3072 bits).
func GenerateKey(a Algorithm) (crypto.Signer, error) {
	switch a {
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case ECDSAP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ECDSAP384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case RSAPSS:
		return rsa.GenerateKey(rand.Reader, minRSABits)
	}
	return nil, fmt.Errorf("unknown algorithm %q: want one of %v", a, Algorithms())
}

const (
	pemPrivate = "PRIVATE KEY"
	pemPublic  = "PUBLIC KEY"
)

// MarshalPrivateKey returns the key in PEM (PKCS #8, not encrypted).
func MarshalPrivateKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: der}), nil
}

// ParsePrivateKey reads one PEM block of PKCS #8 and nothing after it. The
// public half must pass ParseKey.
func ParsePrivateKey(text []byte) (*Signer, error) {
	der, err := onePEM(text, pemPrivate)
	if err != nil {
		return nil, err
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, weak("the PEM block does not hold a private key in PKCS #8")
	}
	s, ok := k.(crypto.Signer)
	if !ok {
		return nil, weak("keys of this algorithm cannot sign")
	}
	return NewSigner(s)
}

// MarshalPublicKey returns the key in PEM (SubjectPublicKeyInfo).
func MarshalPublicKey(k Key) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: k.SPKI})
}

// ParsePublicKey reads one PEM block of a SubjectPublicKeyInfo and nothing after
// it.
func ParsePublicKey(text []byte) (Key, error) {
	der, err := onePEM(text, pemPublic)
	if err != nil {
		return Key{}, err
	}
	return ParseKey(der)
}

func onePEM(text []byte, want string) ([]byte, error) {
	block, rest := pem.Decode(text)
	switch {
	case block == nil:
		return nil, weak("this is not a PEM file").WithHint("it begins with -----BEGIN %s-----", want)
	case block.Type != want:
		return nil, weak("the PEM block is a %s, want %s", block.Type, want)
	case len(bytes.TrimSpace(rest)) != 0:
		return nil, weak("there is more than one block in the PEM file")
	}
	return block.Bytes, nil
}
