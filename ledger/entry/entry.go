// Package entry defines the bytes that Fabtrail's log commits to: envelope,
// leaf, cargo, topic, receipt extra, entry bundle and tile path. It is pure:
// no clock, no randomness, no I/O. All integers are big-endian.
//
// # Envelope (canonical)
//
//	u32 len | payload | u8 n | n x ( SHA-256 of SPKI (32) | u16 len | signature )
//
// Signers are strictly ascending by SPKI hash, so one statement signed by one
// set of keys has one order. The payload is the signed bytes as they came.
//
// # Statement ID
//
//	SHA-256(payload)
//
// It is the idempotency key of an append and what chain.prev names.
//
// # Leaf (34 bytes)
//
//	version 0x01 | class u8 | commitment (32)
//
//	class 1, public:     SHA-256("fabtrail/public/v1\n" | t u64 | envelope)
//	class 2, restricted: SHA-256("fabtrail/restricted/v1\n" | t u64 | salt (32) | SHA-256(envelope))
//	class 3, index:      SHA-256("fabtrail/index/v1\n" | t u64 | covers u64 | index root (32))
//
// t is admittedAt in Unix milliseconds. The leaf hash is RFC 6962 over the 34
// bytes: SHA-256(0x00 | leaf).
//
// # Cargo
//
// What is kept beside a leaf and suffices to recompute it:
//
//	class 1: 0x01 | t u64 | envelope
//	class 2: 0x02 | t u64 | salt (32) | envelope
//	class 3: 0x03 | t u64 | covers u64 | index root (32)
//
// # Receipt extra
//
// The "extra" of a receipt (C2SP tlog-proof) carries what the holder of the
// envelope lacks to recompute the leaf:
//
//	class 1: 0x01 | t u64
//	class 2: 0x02 | t u64 | salt (32)
//	class 3: 0x03 | t u64 | covers u64 | index root (32)
//
// # Topic
//
//	SHA-256("fabtrail/topic/v1\n" | kind | "\n" | canonical value)
//
// Source: docs/formats.md; RFC 6962 section 2.1; C2SP tlog-tiles and tlog-proof.
package entry

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// Hash is a SHA-256 digest.
type Hash [32]byte

// String returns the digest as 64 lower-case hex digits.
func (h Hash) String() string {
	var b [2 * len(h)]byte
	hex.Encode(b[:], h[:])
	return string(b[:])
}

// IsZero reports whether all 32 bytes are zero, which formats use for "none".
func (h Hash) IsZero() bool { return h == Hash{} }

// ParseHash reads exactly 64 lower-case hex digits.
func ParseHash(s string) (Hash, error) {
	var h Hash
	if len(s) != 64 {
		return h, fmt.Errorf("digest has %d characters, want 64 lower-case hex digits", len(s))
	}
	bad := byte(0)
	for i := range h {
		hi, lo := nibbles[s[2*i]], nibbles[s[2*i+1]]
		bad |= hi | lo
		h[i] = hi<<4 | lo
	}
	if bad&notHex == 0 {
		return h, nil
	}
	at := 0
	for nibbles[s[at]] != notHex {
		at++
	}
	return Hash{}, fmt.Errorf("digest has %q at position %d, want lower-case hex digits", s[at], at)
}

// nibbles are the values of the lower-case hex digits, notHex those of all other bytes.
var nibbles = func() (t [256]byte) {
	for c := range t {
		t[c] = notHex
	}
	for i, c := range []byte("0123456789abcdef") {
		t[c] = byte(i)
	}
	return t
}()

const notHex = 0x80

// Class says what a leaf commits to; it is a function of the predicate type.
type Class byte

// The classes of version 1.
const (
	Public     Class = 1
	Restricted Class = 2
	Index      Class = 3
)

// String returns "public", "restricted" or "index".
func (c Class) String() string {
	switch c {
	case Public:
		return "public"
	case Restricted:
		return "restricted"
	case Index:
		return "index"
	}
	return fmt.Sprintf("class(%d)", byte(c))
}

const (
	version = 0x01
	// LeafSize is the size of every leaf in bytes.
	LeafSize = 34
	// MaxPayload bounds a payload, in bytes.
	MaxPayload = 256 << 10
	// MaxSignatures bounds the signatures of one envelope.
	MaxSignatures = 8
	// MaxSignature bounds one signature, in bytes (RSA-8192 needs 1024).
	MaxSignature = 1024

	domainPublic     = "fabtrail/public/v1\n"
	domainRestricted = "fabtrail/restricted/v1\n"
	domainIndex      = "fabtrail/index/v1\n"
	domainTopic      = "fabtrail/topic/v1\n"
)

// StatementID is SHA-256 of the payload: the signed bytes as they came.
func StatementID(payload []byte) Hash { return sha256.Sum256(payload) }

// Signature is one signature of an envelope. Key is SHA-256 of the signer's
// SubjectPublicKeyInfo in DER.
type Signature struct {
	Key Hash
	Sig []byte
}

// Envelope is a signed payload in the form that the log keeps.
type Envelope struct {
	Payload    []byte
	Signatures []Signature
}

// ErrMalformed is wrapped by every parse error of this package.
var ErrMalformed = errors.New("malformed")

func malformed(format string, a ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, a...)...)
}

// Marshal returns the canonical bytes. It fails when a limit is passed, when
// there is no signature, or when signers are not strictly ascending.
func (e Envelope) Marshal() ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	n := 4 + len(e.Payload) + 1
	for _, s := range e.Signatures {
		n += 32 + 2 + len(s.Sig)
	}
	b := make([]byte, 0, n)
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.Payload)))
	b = append(b, e.Payload...)
	b = append(b, byte(len(e.Signatures)))
	for _, s := range e.Signatures {
		b = append(b, s.Key[:]...)
		b = binary.BigEndian.AppendUint16(b, uint16(len(s.Sig)))
		b = append(b, s.Sig...)
	}
	return b, nil
}

func (e Envelope) check() error {
	if len(e.Payload) == 0 || len(e.Payload) > MaxPayload {
		return malformed("payload has %d bytes, want 1 to %d", len(e.Payload), MaxPayload)
	}
	if len(e.Signatures) == 0 || len(e.Signatures) > MaxSignatures {
		return malformed("envelope has %d signatures, want 1 to %d", len(e.Signatures), MaxSignatures)
	}
	for i, s := range e.Signatures {
		if len(s.Sig) == 0 || len(s.Sig) > MaxSignature {
			return malformed("signature %d has %d bytes, want 1 to %d", i, len(s.Sig), MaxSignature)
		}
		if i > 0 && string(e.Signatures[i-1].Key[:]) >= string(s.Key[:]) {
			return malformed("signers are not strictly ascending at signature %d", i)
		}
	}
	return nil
}

// ParseEnvelope reads canonical bytes; anything that Marshal would not write
// is an error that wraps ErrMalformed. The result shares memory with b.
func ParseEnvelope(b []byte) (Envelope, error) {
	var e Envelope
	r := reader{b: b}
	n := r.u32()
	if n > MaxPayload {
		return e, malformed("payload of %d bytes, limit %d", n, MaxPayload)
	}
	e.Payload = r.take(int(n))
	k := int(r.u8())
	if k > MaxSignatures {
		return e, malformed("envelope has %d signatures, limit %d", k, MaxSignatures)
	}
	for range k {
		var s Signature
		copy(s.Key[:], r.take(32))
		s.Sig = r.take(int(r.u16()))
		e.Signatures = append(e.Signatures, s)
	}
	if err := r.end(); err != nil {
		return Envelope{}, err
	}
	if err := e.check(); err != nil {
		return Envelope{}, err
	}
	return e, nil
}

// Entry is one entry of the log with its cargo. Class decides which of the
// other fields are used: Envelope for Public and Restricted, Salt for
// Restricted, Covers and IndexRoot for Index.
type Entry struct {
	Class     Class
	Time      uint64 // admittedAt, Unix milliseconds
	Salt      Hash
	Envelope  []byte // canonical bytes
	Covers    uint64 // the commitment covers entries [0, Covers)
	IndexRoot Hash
}

// Leaf returns the 34 bytes that the tree commits to.
func (e Entry) Leaf() [LeafSize]byte {
	var space [128]byte // enough for all but a public envelope
	b := space[:0]
	switch e.Class {
	case Public:
		b = make([]byte, 0, len(domainPublic)+8+len(e.Envelope))
		b = binary.BigEndian.AppendUint64(append(b, domainPublic...), e.Time)
		b = append(b, e.Envelope...)
	case Restricted:
		eh := sha256.Sum256(e.Envelope)
		b = binary.BigEndian.AppendUint64(append(b, domainRestricted...), e.Time)
		b = append(append(b, e.Salt[:]...), eh[:]...)
	case Index:
		b = binary.BigEndian.AppendUint64(append(b, domainIndex...), e.Time)
		b = binary.BigEndian.AppendUint64(b, e.Covers)
		b = append(b, e.IndexRoot[:]...)
	}
	leaf := [LeafSize]byte{version, byte(e.Class)}
	sum := sha256.Sum256(b)
	copy(leaf[2:], sum[:])
	return leaf
}

// LeafHash is the RFC 6962 hash of the entry's leaf.
func (e Entry) LeafHash() Hash { l := e.Leaf(); return LeafHash(l[:]) }

// LeafHash is SHA-256(0x00 | leaf), RFC 6962 section 2.1.
func LeafHash(leaf []byte) Hash {
	var space [1 + LeafSize]byte
	return sha256.Sum256(append(append(space[:0], 0), leaf...))
}

// LeafClass returns the class of a leaf, or an error that wraps ErrMalformed
// when the leaf is not one of version 1.
func LeafClass(leaf []byte) (Class, error) {
	if len(leaf) != LeafSize || leaf[0] != version {
		return 0, malformed("not a leaf of version 1")
	}
	c := Class(leaf[1])
	if c < Public || c > Index {
		return 0, malformed("leaf class %d", leaf[1])
	}
	return c, nil
}

// Extra returns the receipt extra: what, besides the envelope, the leaf is
// computed from.
func (e Entry) Extra() []byte {
	return e.appendExtra(make([]byte, 0, maxExtra))
}

// maxExtra is the length of the longest extra.
const maxExtra = 1 + 8 + 8 + 32

func (e Entry) appendExtra(b []byte) []byte {
	b = append(b, byte(e.Class))
	b = binary.BigEndian.AppendUint64(b, e.Time)
	switch e.Class {
	case Restricted:
		b = append(b, e.Salt[:]...)
	case Index:
		b = binary.BigEndian.AppendUint64(b, e.Covers)
		b = append(b, e.IndexRoot[:]...)
	}
	return b
}

// Cargo returns the bytes kept beside the leaf: the extra, then the envelope.
func (e Entry) Cargo() []byte {
	b := e.appendExtra(make([]byte, 0, maxExtra+len(e.Envelope)))
	if e.Class != Index {
		b = append(b, e.Envelope...)
	}
	return b
}

// ParseCargo reads what Cargo wrote. The envelope's bytes are not parsed. The
// result shares memory with b.
func ParseCargo(b []byte) (Entry, error) {
	e, rest, err := parseExtra(b)
	if err != nil {
		return Entry{}, err
	}
	if e.Class == Index {
		if len(rest) != 0 {
			return Entry{}, malformed("%d bytes after an index commitment", len(rest))
		}
		return e, nil
	}
	if len(rest) == 0 {
		return Entry{}, malformed("cargo without an envelope")
	}
	e.Envelope = rest
	return e, nil
}

// ParseExtra reads a receipt extra; the envelope is to be filled in by whoever
// holds it.
func ParseExtra(b []byte) (Entry, error) {
	e, rest, err := parseExtra(b)
	if err == nil && len(rest) != 0 {
		err = malformed("%d bytes after the extra", len(rest))
	}
	if err != nil {
		return Entry{}, err
	}
	return e, nil
}

func parseExtra(b []byte) (e Entry, rest []byte, err error) {
	r := reader{b: b}
	e.Class = Class(r.u8())
	e.Time = r.u64()
	switch e.Class {
	case Public:
	case Restricted:
		copy(e.Salt[:], r.take(32))
	case Index:
		e.Covers = r.u64()
		copy(e.IndexRoot[:], r.take(32))
	default:
		if r.err == nil {
			r.err = malformed("class %d", byte(e.Class))
		}
	}
	return e, r.b, r.err
}

// TopicKind names a family of topics.
type TopicKind string

// The kinds of topics, with the canonical form of their values.
const (
	TopicUnit           TopicKind = "unit"            // canonical URI
	TopicLoad           TopicKind = "load"            // container URI | " " | hex ID of the opening statement
	TopicContents       TopicKind = "contents"        // as load
	TopicParty          TopicKind = "party"           // party URI
	TopicAssessment     TopicKind = "assessment"      // party URI
	TopicProduct        TopicKind = "product"         // GTIN-14
	TopicLane           TopicKind = "lane"            // GTIN-14
	TopicLot            TopicKind = "lot"             // canonical Digital Link of GTIN and lot
	TopicArtefact       TopicKind = "artefact"        // lower-case SHA-256 hex
	TopicRecallArtefact TopicKind = "recall-artefact" // lower-case SHA-256 hex
	TopicKey            TopicKind = "key"             // SPKI hash, hex
	TopicDeviceKey      TopicKind = "device-key"      // SPKI hash, hex
	TopicLog            TopicKind = "log"             // empty
)

// Topic is a key of the index before it is hashed.
type Topic struct {
	Kind  TopicKind
	Value string
}

// Hash is the topic's key in the index tree.
func (t Topic) Hash() Hash {
	h := sha256.New()
	h.Write([]byte(domainTopic))
	h.Write([]byte(t.Kind))
	h.Write([]byte{'\n'})
	h.Write([]byte(t.Value))
	var out Hash
	h.Sum(out[:0])
	return out
}

// String returns the kind, and the value if it has one, for people.
func (t Topic) String() string {
	if t.Value == "" {
		return string(t.Kind)
	}
	return string(t.Kind) + " " + t.Value
}

// reader takes big-endian fields off the front of b; after the first error it
// yields zero values.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if r.err != nil {
		return nil
	}
	if n > len(r.b) {
		r.err = malformed("%d bytes missing", n-len(r.b))
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) u8() byte {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if p := r.take(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if p := r.take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if p := r.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

func (r *reader) end() error {
	if r.err == nil && len(r.b) != 0 {
		r.err = malformed("%d bytes too many", len(r.b))
	}
	return r.err
}
