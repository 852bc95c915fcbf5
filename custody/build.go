package custody

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"io"
	"time"

	"github.com/go-json-experiment/json"

	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// NewPayload makes the bytes of a statement: deterministic, and accepted by
// Parse, whose problems it returns. ev is nil for governance predicates; body is
// a pointer to (or a value of) the kind's body type; ledger is zero for a charter.
func NewPayload(kind Kind, subject string, ledger entry.Hash, ev *Event, body any) ([]byte, error) {
	info, ok := kindIndex[kind]
	if !ok {
		return nil, problem.New("unknown_predicate", "/predicateType", "there is no predicate %q", kind)
	}
	if info.Event != (ev != nil) {
		return nil, problem.New("invalid_statement", "/predicate", "the common fields of events are given for a %s: %t, want %t", kind, ev != nil, info.Event)
	}
	l := ""
	if kind != KindCharter {
		l = ledger.String()
	}
	predicate, err := info.encode(l, ev, body)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(subject))
	payload, err := json.Marshal(statementWire{
		Type:          StatementType,
		Subject:       []subjectWire{{URI: subject, Digest: map[string]string{"sha256": hex.EncodeToString(sum[:])}}},
		PredicateType: kind.PredicateType(),
		Predicate:     predicate,
	}, json.Deterministic(true))
	if err != nil {
		return nil, jsonProblem(err, "invalid_statement", "")
	}
	if _, err := Parse(payload); err != nil {
		return nil, err
	}
	return payload, nil
}

// encoder writes a predicate's object.
type encoder func(ledger string, ev *Event, body any) ([]byte, error)

func encodeGovernance[B any](ledger string, _ *Event, body any) ([]byte, error) {
	b, err := bodyOf[B](body)
	if err != nil {
		return nil, err
	}
	return marshalPredicate(governanceWire[B]{ledger, *b})
}

func encodeEvent[B any](ledger string, ev *Event, body any) ([]byte, error) {
	b, err := bodyOf[B](body)
	if err != nil {
		return nil, err
	}
	return marshalPredicate(eventWire[B]{ledger, *ev, *b})
}

func bodyOf[B any](body any) (*B, error) {
	switch b := body.(type) {
	case *B:
		if b != nil {
			return b, nil
		}
	case B:
		return &b, nil
	}
	return nil, problem.New("invalid_statement", "/predicate", "the body is a %T, want a %T", body, new(B))
}

func marshalPredicate(v any) ([]byte, error) {
	b, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		return nil, jsonProblem(err, "invalid_statement", "/predicate")
	}
	return b, nil
}

func mustMarshal(v any) []byte {
	b, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		panic("custody: a value of fixed form marshals: " + err.Error())
	}
	return b
}

// Rebuild makes a payload from what Parse read. It equals the payload when that
// was made by NewPayload; fields unknown to this version are lost.
func (s *Statement) Rebuild() ([]byte, error) {
	return NewPayload(s.Kind, s.Subject, s.Ledger, s.Event, s.Body)
}

// Sign signs a payload with each of signers and returns the DSSE envelope as
// JSON.
func Sign(payload []byte, signers ...crypto.Signer) ([]byte, error) {
	d, err := SignDSSE(payload, signers...)
	if err != nil {
		return nil, err
	}
	return d.Marshal(), nil
}

// SignDSSE is Sign for callers that want the envelope, not its JSON.
func SignDSSE(payload []byte, signers ...crypto.Signer) (DSSE, error) {
	d := DSSE{Payload: payload}
	message := PAE(payload)
	for _, k := range signers {
		h, err := KeyHash(k.Public())
		if err != nil {
			return DSSE{}, err
		}
		sig, err := SignMessage(k, message)
		if err != nil {
			return DSSE{}, err
		}
		d.Signatures = append(d.Signatures, entry.Signature{Key: h, Sig: sig})
	}
	return d, nil
}

// KeyHash is SHA-256 of a public key's SubjectPublicKeyInfo, without the checks
// of NewKey.
func KeyHash(pub crypto.PublicKey) (entry.Hash, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return entry.Hash{}, weak("a key of type %T is not supported", pub)
	}
	return sha256.Sum256(der), nil
}

// First is the chain of a unit's or load's first statement.
func First() *Chain { return &Chain{} }

// Next is the chain of the statement after prev, the seq-th.
func Next(seq int64, prev entry.Hash) *Chain {
	return &Chain{Seq: seq + 1, Prev: &Digest{SHA256: prev.String()}}
}

// Unchained is the chain of predicates that do not chain.
func Unchained() *Chain { return &Chain{Seq: -1} }

// DigestOf writes a hash as statements do.
func DigestOf(h entry.Hash) Digest { return Digest{SHA256: h.String()} }

// Hash reads a digest of a parsed statement; the zero hash stands for none (nil)
// or a malformed one.
func (d *Digest) Hash() entry.Hash {
	if d == nil {
		return entry.Hash{}
	}
	h, _ := entry.ParseHash(d.SHA256)
	return h
}

// NewEventID makes an eventId: a UUIDv7 (RFC 9562) of the time t, whose random
// bits come from random (nil: crypto/rand).
func NewEventID(t time.Time, random io.Reader) string {
	if random == nil {
		random = rand.Reader
	}
	var u [16]byte
	if _, err := io.ReadFull(random, u[6:]); err != nil {
		panic("custody: no randomness: " + err.Error())
	}
	ms := uint64(t.UnixMilli())
	for i := range 6 {
		u[i] = byte(ms >> (40 - 8*i))
	}
	u[6] = 0x70 | u[6]&0x0f
	u[8] = 0x80 | u[8]&0x3f
	h := hex.EncodeToString(u[:])
	return "urn:uuid:" + h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
