package checkpoint

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"

	"filippo.io/edwards25519"
)

// Signature types of c2sp.org/signed-note that this package supports.
const (
	TypeLog       byte = 0x01 // Ed25519 over the note's text
	TypeCosigner  byte = 0x04 // timestamped Ed25519 cosignature
	maxCosignTime      = math.MaxInt64
)

// VKey is a verifier key: the public half of a log's or a witness's key.
type VKey struct {
	Name string
	ID   uint32
	Type byte   // TypeLog or TypeCosigner
	Key  []byte // Ed25519 public key, 32 bytes
}

// NewVKey makes the verifier key of an Ed25519 public key. It refuses names
// that a note cannot carry, and keys that are not canonical or of small order.
func NewVKey(name string, typ byte, pub ed25519.PublicKey) (VKey, error) {
	if err := checkName(name); err != nil {
		return VKey{}, err
	}
	if typ != TypeLog && typ != TypeCosigner {
		return VKey{}, malformed("key type %#02x of %s is not supported (want 0x01 or 0x04)", typ, name)
	}
	if err := checkPublic(pub); err != nil {
		return VKey{}, malformed("key of %s: %v", name, err)
	}
	return VKey{Name: name, ID: keyID(name, typ, pub), Type: typ, Key: append([]byte(nil), pub...)}, nil
}

// ParseVKey reads "name+id+base64"; errors wrap ErrMalformed.
func ParseVKey(s string) (VKey, error) {
	parts := strings.SplitN(s, "+", 3)
	if len(parts) != 3 {
		return VKey{}, malformed("verifier key %.80q is not name+id+key", s)
	}
	b, err := parseBase64(parts[2])
	if err != nil || len(b) == 0 {
		return VKey{}, malformed("verifier key of %.60q: key is not base64 of type and public key", parts[0])
	}
	k, err := NewVKey(parts[0], b[0], b[1:])
	if err != nil {
		return VKey{}, err
	}
	if k.String() != s {
		return VKey{}, malformed("verifier key of %s has key ID %.20q, want %08x", k.Name, parts[1], k.ID)
	}
	return k, nil
}

// ParseVKeys reads a list of cosigners' verifier keys, one a line, such as
// trust/index.txt. Lines are as in a policy: each ends in a newline, empty ones
// and those that begin with '#' are skipped. A public key may be listed once.
func ParseVKeys(b []byte) ([]VKey, error) {
	lines, err := policyLines(b)
	if err != nil {
		return nil, err
	}
	var keys []VKey
	seen := map[string]bool{}
	for _, l := range lines {
		if len(l.fields) != 1 {
			return nil, l.bad("want one verifier key")
		}
		k, err := ParseVKey(l.fields[0])
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", l.no, err)
		}
		if k.Type != TypeCosigner {
			return nil, l.bad("key of %s has type %#02x, want a cosigner's (0x04)", k.Name, k.Type)
		}
		if seen[string(k.Key)] {
			return nil, l.bad("the public key of %s is listed twice", k.Name)
		}
		seen[string(k.Key)] = true
		keys = append(keys, k)
	}
	return keys, nil
}

// String returns "name+id+base64".
func (k VKey) String() string {
	return fmt.Sprintf("%s+%08x+%s", k.Name, k.ID, base64.StdEncoding.EncodeToString(append([]byte{k.Type}, k.Key...)))
}

// Fingerprint is the SHA-256 of the public key as 64 hex digits in groups of
// eight, for people to compare.
func (k VKey) Fingerprint() string {
	sum := sha256.Sum256(k.Key)
	s := hex.EncodeToString(sum[:])
	var groups []string
	for i := 0; i < len(s); i += 8 {
		groups = append(groups, s[i:i+8])
	}
	return strings.Join(groups, " ")
}

// Made reports whether the signature line names this key (name and ID).
func (k VKey) Made(s NoteSig) bool { return s.Name == k.Name && s.KeyID == k.ID }

// VerifyLog checks that the note carries this log key's signature. It fails
// with ErrNoSignature when there is none, and with ErrBadSignature when any line
// that names the key does not verify.
func (k VKey) VerifyLog(n Note) error {
	if k.Type != TypeLog {
		return fmt.Errorf("%w: key of %s has type %#02x, not a log's", ErrNoSignature, k.Name, k.Type)
	}
	found := false
	for _, s := range n.Sigs {
		if !k.Made(s) {
			continue
		}
		if len(s.Sig) != ed25519.SignatureSize || !ed25519.Verify(k.Key, []byte(n.Text), s.Sig) {
			return fmt.Errorf("%w: by log %s", ErrBadSignature, k.Name)
		}
		found = true
	}
	if !found {
		return fmt.Errorf("%w: log %s", ErrNoSignature, k.Name)
	}
	return nil
}

// VerifyCosignature checks that the note carries this witness key's cosignature
// and returns its time in Unix seconds, never zero. Of several by the same key,
// which all must verify, the newest counts, in whatever order they stand. It
// fails with ErrNoSignature or ErrBadSignature as VerifyLog does.
func (k VKey) VerifyCosignature(n Note) (unixTime uint64, err error) {
	if k.Type != TypeCosigner {
		return 0, fmt.Errorf("%w: key of %s has type %#02x, not a cosigner's", ErrNoSignature, k.Name, k.Type)
	}
	for _, s := range n.Sigs {
		if !k.Made(s) {
			continue
		}
		if len(s.Sig) != 8+ed25519.SignatureSize {
			return 0, fmt.Errorf("%w: cosignature by %s has %d bytes", ErrBadSignature, k.Name, len(s.Sig))
		}
		t := binary.BigEndian.Uint64(s.Sig)
		if t == 0 || t > maxCosignTime {
			return 0, fmt.Errorf("%w: cosignature by %s has time %d", ErrBadSignature, k.Name, t)
		}
		if !ed25519.Verify(k.Key, cosignMessage(n.Text, t), s.Sig[8:]) {
			return 0, fmt.Errorf("%w: by cosigner %s", ErrBadSignature, k.Name)
		}
		unixTime = max(unixTime, t)
	}
	if unixTime == 0 {
		return 0, fmt.Errorf("%w: cosigner %s", ErrNoSignature, k.Name)
	}
	return unixTime, nil
}

func cosignMessage(text string, unixTime uint64) []byte {
	return []byte("cosignature/v1\ntime " + strconv.FormatUint(unixTime, 10) + "\n" + text)
}

func keyID(name string, typ byte, pub []byte) uint32 {
	h := sha256.New()
	h.Write([]byte(name))
	h.Write([]byte{'\n', typ})
	h.Write(pub)
	return binary.BigEndian.Uint32(h.Sum(nil))
}

// checkPublic refuses keys under which signatures mean nothing (small order) and
// second encodings of one point, which would let one key count twice.
func checkPublic(pub []byte) error {
	if len(pub) != ed25519.PublicKeySize {
		return fmt.Errorf("public key has %d bytes, want %d", len(pub), ed25519.PublicKeySize)
	}
	p, err := new(edwards25519.Point).SetBytes(pub)
	if err != nil || string(p.Bytes()) != string(pub) {
		return fmt.Errorf("public key is not a canonical point")
	}
	if new(edwards25519.Point).MultByCofactor(p).Equal(edwards25519.NewIdentityPoint()) == 1 {
		return fmt.Errorf("public key is of small order")
	}
	return nil
}
