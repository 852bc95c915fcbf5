package checkpoint

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
)

// Signer makes a log's signatures (TypeLog) or a witness's cosignatures
// (TypeCosigner) with an Ed25519 key behind crypto.Signer. It is safe for
// concurrent use if the crypto.Signer is.
type Signer struct {
	vkey VKey
	key  crypto.Signer
}

// NewSigner wraps an Ed25519 key under a name.
func NewSigner(name string, typ byte, key crypto.Signer) (*Signer, error) {
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, malformed("key of %s is a %T, want Ed25519", name, key.Public())
	}
	v, err := NewVKey(name, typ, pub)
	if err != nil {
		return nil, err
	}
	return &Signer{vkey: v, key: key}, nil
}

// VKey returns the public half.
func (s *Signer) VKey() VKey { return s.vkey }

// SignLog signs the text of a checkpoint with a log's key. Text that is not a
// checkpoint is refused: the key signs nothing else.
func (s *Signer) SignLog(text string) (NoteSig, error) {
	if s.vkey.Type != TypeLog {
		return NoteSig{}, fmt.Errorf("key of %s is not a log's", s.vkey.Name)
	}
	if _, err := ParseCheckpoint(text); err != nil {
		return NoteSig{}, err
	}
	sig, err := s.sign([]byte(text))
	return NoteSig{Name: s.vkey.Name, KeyID: s.vkey.ID, Sig: sig}, err
}

// Cosign makes a witness's cosignature of the text of a checkpoint at the given
// time (Unix seconds, not zero).
func (s *Signer) Cosign(text string, unixTime uint64) (NoteSig, error) {
	if s.vkey.Type != TypeCosigner {
		return NoteSig{}, fmt.Errorf("key of %s is not a cosigner's", s.vkey.Name)
	}
	if unixTime == 0 || unixTime > maxCosignTime {
		return NoteSig{}, fmt.Errorf("cosignature time %d is out of range", unixTime)
	}
	if _, err := ParseCheckpoint(text); err != nil {
		return NoteSig{}, err
	}
	sig, err := s.sign(cosignMessage(text, unixTime))
	if err != nil {
		return NoteSig{}, err
	}
	timed := append(binary.BigEndian.AppendUint64(nil, unixTime), sig...)
	return NoteSig{Name: s.vkey.Name, KeyID: s.vkey.ID, Sig: timed}, nil
}

func (s *Signer) sign(msg []byte) ([]byte, error) {
	sig, err := s.key.Sign(rand.Reader, msg, crypto.Hash(0))
	if err != nil {
		return nil, fmt.Errorf("signing as %s: %w", s.vkey.Name, err)
	}
	if len(sig) != ed25519.SignatureSize {
		return nil, fmt.Errorf("signing as %s: signature has %d bytes", s.vkey.Name, len(sig))
	}
	return sig, nil
}

// MarshalSKey returns the secret form "PRIVATE+KEY+name+id+base64" of a key, as
// golang.org/x/mod/sumdb/note (type 0x01) and transparency-dev/formats (also
// 0x04) read it.
func MarshalSKey(name string, typ byte, key ed25519.PrivateKey) (string, error) {
	if len(key) != ed25519.PrivateKeySize {
		return "", malformed("private key has %d bytes, want %d", len(key), ed25519.PrivateKeySize)
	}
	v, err := NewVKey(name, typ, key.Public().(ed25519.PublicKey))
	if err != nil {
		return "", err
	}
	return skey(v, key.Seed()), nil
}

func skey(v VKey, seed []byte) string {
	return fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", v.Name, v.ID, base64.StdEncoding.EncodeToString(append([]byte{v.Type}, seed...)))
}

// ParseSKey reads what MarshalSKey wrote, without a newline at its end. Its
// errors wrap ErrMalformed and never show the key.
func ParseSKey(s string) (*Signer, error) {
	parts := strings.SplitN(s, "+", 5)
	if len(parts) != 5 || parts[0] != "PRIVATE" || parts[1] != "KEY" {
		return nil, malformed("not a signer key (PRIVATE+KEY+name+id+key)")
	}
	b, err := base64.StdEncoding.DecodeString(parts[4])
	if err != nil || len(b) != 1+ed25519.SeedSize {
		return nil, malformed("signer key of %.60q: want base64 of type and a seed of %d bytes", parts[2], ed25519.SeedSize)
	}
	signer, err := NewSigner(parts[2], b[0], ed25519.NewKeyFromSeed(b[1:]))
	if err != nil {
		return nil, err
	}
	if skey(signer.vkey, b[1:]) != s {
		return nil, malformed("signer key of %s: key ID %.20q is not that of the key, or its base64 is not canonical", parts[2], parts[3])
	}
	return signer, nil
}
