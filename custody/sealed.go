package custody

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"slices"

	"github.com/go-json-experiment/json"

	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// Sealed groups: fields that a statement commits to and that are disclosed
// apart. The commitment is
//
//	SHA-256( len | "fabtrail/sealed/v1\n" | len | group | len | salt | len | value )
//
// where each len is a u32 of the bytes that follow it, salt is random (32 bytes)
// and value is one JSON value, exactly as its author wrote it.
const (
	// SealedAlg is the only algorithm of sealed groups.
	SealedAlg    = "sha256-salted-v1"
	sealedDomain = "fabtrail/sealed/v1\n"
	saltSize     = 32
	// MaxSealedValue bounds the value of one opening, in bytes.
	MaxSealedValue = 64 << 10
)

// SealedGroups lists the groups that a statement may seal.
func SealedGroups() []string { return []string{"commercial", "person", "route"} }

// Opening discloses one sealed group. It is kept apart from the statement and may
// be erased at any time; no rule and no fold reads it.
type Opening struct {
	Group string
	Salt  entry.Hash
	Value []byte // one JSON value, exact bytes
}

// SealGroup commits to value (one strict JSON value) under the given random salt.
func SealGroup(group string, salt entry.Hash, value []byte) (SealedRef, Opening, error) {
	o := Opening{Group: group, Salt: salt, Value: slices.Clone(value)}
	if err := o.check(); err != nil {
		return SealedRef{}, Opening{}, err
	}
	return SealedRef{Alg: SealedAlg, Digest: o.Digest().String()}, o, nil
}

func (o Opening) check() error {
	if !slices.Contains(SealedGroups(), o.Group) {
		return problem.New("invalid_statement", "/group", "there is no sealed group %q", o.Group).
			WithHint("groups are %v", SealedGroups())
	}
	if len(o.Value) > MaxSealedValue {
		return problem.New("too_large", "/value", "the value has %d bytes, limit %d", len(o.Value), MaxSealedValue)
	}
	_, err := scanJSON(o.Value, scanValue)
	return err
}

// Digest is the commitment that a statement signs.
func (o Opening) Digest() entry.Hash {
	var b []byte
	for _, part := range [][]byte{[]byte(sealedDomain), []byte(o.Group), o.Salt[:], o.Value} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	return sha256.Sum256(b)
}

// CheckOpening refuses an opening that is not the one that the statement sealed
// in that group.
func (s *Statement) CheckOpening(o Opening) error {
	if err := o.check(); err != nil {
		return err
	}
	if s.Event == nil {
		return problem.New("invalid_statement", "/group", "a %s has no sealed groups", s.Kind)
	}
	ref, ok := s.Event.Sealed[o.Group]
	if !ok {
		return problem.New("invalid_statement", "/group", "the statement has no sealed group %q", o.Group)
	}
	if d := o.Digest().String(); subtle.ConstantTimeCompare([]byte(d), []byte(ref.Digest)) != 1 {
		return problem.New("invalid_statement", "/value", "the opening is not what the statement sealed as %q", o.Group)
	}
	return nil
}

type openingWire struct {
	Group string `json:"group"`
	Salt  string `json:"salt"`
	Value string `json:"value"`
}

// Marshal returns the opening as JSON: {"group", "salt", "value"}, the latter two
// in base64.
func (o Opening) Marshal() []byte {
	b, err := json.Marshal(openingWire{o.Group, base64.StdEncoding.EncodeToString(o.Salt[:]), base64.StdEncoding.EncodeToString(o.Value)})
	if err != nil {
		panic("custody: three strings marshal: " + err.Error())
	}
	return b
}

// ParseOpening reads what Marshal wrote, strictly.
func ParseOpening(b []byte) (Opening, error) {
	var w openingWire
	if err := decodeStrict(b, &w); err != nil {
		return Opening{}, err
	}
	o := Opening{Group: w.Group}
	salt, err := decodeBase64(w.Salt)
	if err != nil {
		return Opening{}, at(err, "/salt")
	}
	if len(salt) != saltSize {
		return Opening{}, problem.New("invalid_statement", "/salt", "the salt has %d bytes, want %d", len(salt), saltSize)
	}
	copy(o.Salt[:], salt)
	if o.Value, err = decodeBase64(w.Value); err != nil {
		return Opening{}, at(err, "/value")
	}
	if err := o.check(); err != nil {
		return Opening{}, err
	}
	return o, nil
}

const pedigreeDomain = "fabtrail/pedigree/v1\n"

// PedigreeKeySize is the size of a pedigree key in bytes (128 bits).
const PedigreeKeySize = 16

// PedigreeDigest is what a commission or a manifest member signs about the
// pedigree key printed beside a serial: SHA-256("fabtrail/pedigree/v1\n" | key).
// Its text form is that of gs1.FormatPedigreeKey.
func PedigreeDigest(key []byte) (entry.Hash, error) {
	if len(key) != PedigreeKeySize {
		return entry.Hash{}, problem.New("invalid_parameter", "k", "a pedigree key has %d bytes, want %d", len(key), PedigreeKeySize)
	}
	return sha256.Sum256(append([]byte(pedigreeDomain), key...)), nil
}
