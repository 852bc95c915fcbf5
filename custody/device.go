package custody

import (
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"

	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

const deviceDomain = "fabtrail/device/v1\n"

// DeviceMessage returns the bytes that a device signs (with its own key, not as
// DSSE) to take part in a statement about itself:
//
//	"fabtrail/device/v1\n" | ledger (32) | SHA-256(predicateType) (32) | SHA-256(subject URI) (32) |
//	SHA-256(actor URI) (32) | prev (32, zeros if null) | counter u64
//
// It proves possession of the key for this act of this actor at this place of the
// unit's chain, and carries a counter that clones cannot keep.
func DeviceMessage(ledger entry.Hash, kind Kind, subject, actor string, prev *Digest, counter uint64) ([]byte, error) {
	var p entry.Hash
	if prev != nil {
		var err error
		if p, err = entry.ParseHash(prev.SHA256); err != nil {
			return nil, problem.New("invalid_statement", "/predicate/chain/prev/sha256", "%s", err)
		}
	}
	b := append(make([]byte, 0, len(deviceDomain)+5*32+8), deviceDomain...)
	b = append(b, ledger[:]...)
	for _, s := range []string{kind.PredicateType(), subject, actor} {
		h := sha256.Sum256([]byte(s))
		b = append(b, h[:]...)
	}
	b = append(b, p[:]...)
	return binary.BigEndian.AppendUint64(b, counter), nil
}

// SignDevice fills in ev.Device: key signs for the statement of the given kind,
// subject and ledger whose other common fields ev already holds.
func (e *Event) SignDevice(key crypto.Signer, kind Kind, subject string, ledger entry.Hash, counter uint64) error {
	if e.Chain == nil {
		return problem.New("invalid_statement", "/predicate/chain", "the chain must be set before a device signs")
	}
	m, err := DeviceMessage(ledger, kind, subject, e.Actor, e.Chain.Prev, counter)
	if err != nil {
		return err
	}
	sig, err := SignMessage(key, m)
	if err != nil {
		return err
	}
	e.Device = &DeviceProof{Counter: counter, Sig: base64.StdEncoding.EncodeToString(sig)}
	return nil
}

// VerifyDevice checks the statement's device signature under key, the one bound
// to its subject. A statement without one is refused (bad_signature).
func (s *Statement) VerifyDevice(key Key) error {
	c, err := s.deviceCheck(key)
	if err != nil {
		return err
	}
	return c.verify()
}

func (s *Statement) deviceCheck(key Key) (check, error) {
	if s.Event == nil || s.Event.Device == nil {
		return check{}, problem.New("bad_signature", "/predicate/device", "the device did not sign").
			WithHint("let the device sign the statement with its own key")
	}
	m, err := DeviceMessage(s.Ledger, s.Kind, s.Subject, s.Event.Actor, s.Event.Chain.Prev, s.Event.Device.Counter)
	if err != nil {
		return check{}, err
	}
	sig, err := decodeBase64(s.Event.Device.Sig)
	if err != nil {
		return check{}, at(err, "/predicate/device/sig")
	}
	return check{key: key, message: m, sig: sig, field: "/predicate/device/sig"}, nil
}

// DeviceKey returns the device key that the statement binds to its subject (a
// commission of one unit, or an identity); ok is false when it binds none. Open
// has verified that this very key signed.
func (s *Statement) DeviceKey() (key Key, ok bool) { return s.device, !s.device.Hash.IsZero() }
