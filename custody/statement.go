package custody

import (
	"crypto/sha256"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"fabtrail.dev/fabtrail/custody/gs1"
	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// statementWire is an in-toto Statement v1.
type statementWire struct {
	Type          string         `json:"_type"`
	Subject       []subjectWire  `json:"subject"`
	PredicateType string         `json:"predicateType"`
	Predicate     jsontext.Value `json:"predicate"`
}

// subjectWire is the part of an in-toto ResourceDescriptor that Fabtrail reads.
type subjectWire struct {
	URI    string            `json:"uri"`
	Digest map[string]string `json:"digest"`
}

// decoder reads a predicate's object; text is raw as a string, or empty.
type decoder func(raw []byte, text string) (predicateWire, error)

// predicateWire is a predicate taken apart.
type predicateWire struct {
	ledger string
	event  *Event
	body   any
}

// governanceWire and eventWire are predicates with their fields in the order in
// which NewPayload writes them.
type governanceWire[B any] struct {
	Ledger string `json:"ledger,omitzero"`
	Body   B      `json:",embed"`
}

type eventWire[B any] struct {
	Ledger string `json:"ledger,omitzero"`
	Event  Event  `json:",embed"`
	Body   B      `json:",embed"`
}

func decodeGovernance[B any](raw []byte, _ string) (predicateWire, error) {
	w := new(governanceWire[B])
	err := decodeFields(raw, w, "/predicate")
	return predicateWire{w.Ledger, nil, &w.Body}, err
}

func decodeEvent[B any](raw []byte, text string) (predicateWire, error) {
	w := new(eventWire[B])
	if body, ok := any(&w.Body).(plainFields); ok {
		if plainEvent(raw, text, &w.Ledger, &w.Event, body) {
			return predicateWire{w.Ledger, &w.Event, &w.Body}, nil
		}
		*w = eventWire[B]{}
	}
	err := decodeFields(raw, w, "/predicate")
	return predicateWire{w.Ledger, &w.Event, &w.Body}, err
}

// UnmarshalJSON reads a chain; seq and prev must both be there.
func (c *Chain) UnmarshalJSON(b []byte) error {
	if plain, ok := plainChain(b); ok {
		*c = plain
		return nil
	}
	var w struct {
		Seq  *int64         `json:"seq"`
		Prev jsontext.Value `json:"prev"`
	}
	if err := json.Unmarshal(b, &w, scanned); err != nil {
		return err
	}
	switch {
	case w.Seq == nil:
		return problem.New("invalid_statement", "/predicate/chain/seq", "chain.seq is missing")
	case w.Prev == nil:
		return problem.New("invalid_statement", "/predicate/chain/prev", "chain.prev is missing").
			WithHint(`write null for a unit's first statement and for predicates that do not chain`)
	}
	*c = Chain{Seq: *w.Seq}
	if w.Prev.Kind() == 'n' {
		return nil
	}
	c.Prev = new(Digest)
	return decodeFields(w.Prev, c.Prev, "/predicate/chain/prev")
}

// Parse reads the payload of a statement strictly: an in-toto Statement v1 with
// one subject, of a predicate of the closed table, every field of which is of its
// grammar and consistent with the others. Unknown fields are ignored; see
// scanJSON for what is refused everywhere. What needs the ledger's state is not
// judged here. Errors are *problem.Problem with a JSON pointer into the payload. The
// result keeps payload.
func Parse(payload []byte) (*Statement, error) {
	if n := len(payload); n == 0 || n > entry.MaxPayload {
		return nil, problem.New("too_large", "", "the payload has %d bytes, want 1 to %d", n, entry.MaxPayload)
	}
	w, text, ok := plainStatement(payload)
	if !ok {
		if _, err := scanJSON(payload, scanPayload); err != nil {
			return nil, err
		}
		w, text = statementWire{}, ""
		if err := decodeFields(payload, &w, ""); err != nil {
			return nil, err
		}
	}
	if w.Type != StatementType {
		return nil, problem.New("invalid_statement", "/_type", "the statement type is %q", clip(w.Type)).
			WithHint("it is %s, exactly", StatementType)
	}
	kind, ok := KindOf(w.PredicateType)
	if !ok {
		return nil, problem.New("unknown_predicate", "/predicateType", "%q is not a predicate that this ledger takes", clip(w.PredicateType)).
			WithHint("predicate types are %s<name>%s", predicatePrefix, predicateSuffix)
	}
	info := kindIndex[kind]
	subject, on, err := checkSubject(w.Subject, info)
	if err != nil {
		return nil, err
	}
	if w.Predicate.Kind() != '{' {
		return nil, problem.New("invalid_statement", "/predicate", "the predicate is missing or is not an object")
	}
	p, err := info.decode(w.Predicate, text)
	if err != nil {
		return nil, err
	}
	s := &Statement{ID: entry.StatementID(payload), Kind: kind, Subject: subject, Event: p.event, Body: p.body, Payload: payload}
	c := &checker{base: "/predicate"}
	if kind == KindCharter {
		if p.ledger != "" {
			c.fail("/ledger", "a charter begins a ledger and belongs to none")
		}
	} else {
		c.digest("/ledger", p.ledger)
		s.Ledger, _ = entry.ParseHash(p.ledger)
	}
	if info.Event {
		p.event.check(c, s, info, on)
	}
	p.body.(body).check(c, s)
	if c.err != nil {
		return nil, c.err
	}
	return s, nil
}

func checkSubject(subjects []subjectWire, info *KindInfo) (string, Subjects, error) {
	if len(subjects) != 1 {
		return "", 0, problem.New("invalid_statement", "/subject", "there are %d subjects, want exactly one", len(subjects)).
			WithHint("name many units by a manifest")
	}
	uri, digests := subjects[0].URI, subjects[0].Digest
	on, err := SubjectOf(uri)
	if err != nil {
		return "", 0, at(err, "/subject/0/uri")
	}
	if on&info.Subjects == 0 {
		return "", 0, problem.New("invalid_statement", "/subject/0/uri", "%s is not about a %s", info.Kind.Noun(), on).
			WithHint("its subject is a %s", info.Subjects)
	}
	sum := entry.Hash(sha256.Sum256([]byte(uri)))
	d, ok := digests["sha256"]
	said, err := entry.ParseHash(d)
	switch {
	case !ok || len(digests) != 1:
		return "", 0, problem.New("invalid_statement", "/subject/0/digest", "the subject's digest set holds sha256 and nothing else")
	case err != nil || said != sum:
		return "", 0, problem.New("invalid_statement", "/subject/0/digest/sha256", "the subject's digest is not the SHA-256 of its URI").
			WithHint("write %s", sum)
	}
	return uri, on, nil
}

// SubjectOf classifies a canonical subject URI.
func SubjectOf(uri string) (Subjects, error) {
	if len(uri) > MaxURI {
		return 0, problem.New("invalid_identifier", "", "the URI has %d bytes, limit %d", len(uri), MaxURI)
	}
	if origin, ok := strings.CutPrefix(uri, LogURIPrefix); ok {
		if !validOrigin(origin) {
			return 0, problem.New("invalid_identifier", "", "%q is not the origin of a log", clip(origin)).
				WithHint("an origin is a name such as example.com/log: letters, digits, '.', '-', '_', '/', ':'")
		}
		return OnLog, nil
	}
	if hex, ok := strings.CutPrefix(uri, ArtefactURIPrefix); ok {
		if _, err := entry.ParseHash(hex); err != nil {
			return 0, problem.New("invalid_identifier", "", "an artefact is named by its SHA-256 in 64 lower-case hex digits")
		}
		return OnArtefact, nil
	}
	id, err := gs1.ParseCanonical(uri)
	if err != nil {
		return 0, err
	}
	switch id.Kind {
	case gs1.Unit:
		return OnUnit, nil
	case gs1.Container:
		return OnContainer, nil
	case gs1.Lot:
		return OnLot, nil
	case gs1.Product:
		return OnProduct, nil
	case gs1.Party:
		return OnParty, nil
	}
	return 0, problem.New("invalid_identifier", "", "a %s cannot be the subject of a statement", id.Kind)
}

// validOrigin restricts a checkpoint origin to what is the same in a URI, a note
// and a file name.
func validOrigin(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || i == len(s)-1 || strings.IndexByte("._-/:", c) < 0) {
			return false
		}
	}
	return true
}

// String names the kinds of subject in a set.
func (s Subjects) String() string {
	var names []string
	for i, n := range []string{"unit", "container", "lot", "product", "party", "log", "artefact"} {
		if s&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return strings.Join(names, " or ")
}
