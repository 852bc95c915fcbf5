// Package answer is the wire form of GET /v1/units/{uri}: one JSON object that
// holds all that a verifier needs to judge a unit without trusting its sender.
// Assemble makes it from a view of the ledger; Open checks every part of it
// against the checkpoint that it carries and yields a custody.Source. Both are
// pure.
//
// # Format
//
//	{
//	  "format": "fabtrail/unit-answer/v1",
//	  "uri": canonical URI of the unit,
//	  "form": "full" | "absent" | "status",
//	  "word": the server's own opinion, a hint that no verifier trusts,
//	  "checkpoint": the published signed note, of size M,
//	  "commitment": {"cargo": base64, "hashes": [base64]},
//	  "topics": [{"kind", "value", "proof": base64, "indexes": [n], "known": bool,
//	              "from": n, "growth": base64}],
//	  "entries": [{"index": n, "cargo": base64, "hashes": [base64],
//	               "members": [{"position": n, "member": base64, "hashes": [base64]}]}]
//	}
//
// The commitment is entry M-1 (class 3, covering [0, M-1)) with its RFC 6962
// inclusion proof. A topic's proof is a presence or absence proof of the index
// tree (package unitindex) under the commitment's root; indexes are its complete
// list, strictly ascending, absent when the topic has none. The list value is
// recomputed from (index, leaf hash) of the entries named. Each entry stands once
// however many lists name it, in ascending order of index, with its inclusion
// proof at size M. Lists of route policies are there for readers who may see all of them.
// Members are those of the entry's manifest that the closure concerns, each with
// its RFC 6962 proof in the tree whose root and count the statement signs.
//
// Form "absent" holds one topic, the unit's own, with an absence proof and no
// entries: it gives away nothing about anybody, so it needs no entitlement.
// Form "status" holds "word" alone.
//
// # What a client knows already
//
// A list's value is the content address of the list and of the leaves in it. A
// client that has verified a list before, under a checkpoint consistent with
// this one, names it in the request header Fabtrail-Have: the first 16 hex digits
// of its value, a dot and its length, several separated by commas. Of such a list
// the server may leave out indexes and entries and set "known". Of a list that has
// grown since it may send the new part: "from" is the length that the client knows,
// "growth" the range proof of [from, count) (package unitindex), and indexes are
// those of the new elements. Entries that concern members of a manifest are always
// sent, since which members are proved depends on the unit. Lists of parties, keys,
// products and of the log itself are worth keeping, and long lists of any kind.
package answer

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// Format is the value of "format".
const Format = "fabtrail/unit-answer/v1"

// HaveHeader is the request header in which a client names list values that it
// has verified before.
const HaveHeader = "Fabtrail-Have"

// MaxSize bounds an answer, in bytes of JSON.
const MaxSize = 64 << 20

// Form says how much an answer holds.
type Form string

// The forms of an answer.
const (
	Full   Form = "full"
	Absent Form = "absent"
	Status Form = "status"
)

// Answer is the wire form of a unit answer; see the package comment.
type Answer struct {
	Format     string      `json:"format"`
	URI        string      `json:"uri"`
	Form       Form        `json:"form"`
	Word       string      `json:"word,omitzero"`
	Checkpoint string      `json:"checkpoint,omitzero"`
	Commitment *Commitment `json:"commitment,omitzero"`
	Topics     []Topic     `json:"topics,omitzero"`
	Entries    []Entry     `json:"entries,omitzero"`
}

// Commitment is the index commitment, entry M-1 of a checkpoint of size M.
type Commitment struct {
	Cargo  []byte       `json:"cargo"`
	Hashes []entry.Hash `json:"hashes"`
}

// Topic is one topic with its complete list or its proved absence.
type Topic struct {
	Kind    entry.TopicKind `json:"kind"`
	Value   string          `json:"value"`
	Proof   []byte          `json:"proof"`
	Indexes []uint64        `json:"indexes,omitzero"`
	Known   bool            `json:"known,omitzero"`
	From    uint64          `json:"from,omitzero"`   // elements that the client knows; Indexes follow them
	Growth  []byte          `json:"growth,omitzero"` // with From: range proof of the rest
}

// Entry is one entry with its cargo and inclusion proof.
type Entry struct {
	Index   uint64       `json:"index"`
	Cargo   []byte       `json:"cargo"`
	Hashes  []entry.Hash `json:"hashes"`
	Members []Member     `json:"members,omitzero"`
}

// Member is one member of an entry's manifest with its proof. Member is in the
// manifest's own encoding.
type Member struct {
	Position uint64       `json:"position"`
	Member   []byte       `json:"member"`
	Hashes   []entry.Hash `json:"hashes"`
}

// Marshal returns the JSON of a.
func (a *Answer) Marshal() ([]byte, error) { return json.Marshal(a) }

// Parse reads an answer. It checks the form of the JSON only; Open checks what
// it says. Unknown members are ignored, duplicate names, bad UTF-8 and trailing
// data are errors.
func Parse(b []byte) (*Answer, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("answer of %d bytes, limit %d", len(b), MaxSize)
	}
	var a Answer
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, errors.New("the answer is not strictly valid JSON, or a member has another type than it must")
	}
	if a.Format != Format {
		return nil, fmt.Errorf("answer has format %q, want %q", a.Format, Format)
	}
	switch a.Form {
	case Full, Absent, Status:
	default:
		return nil, fmt.Errorf("answer has form %q", a.Form)
	}
	return &a, nil
}

// NewStatus returns an answer that holds one word about a unit and nothing else.
func NewStatus(uri, word string) *Answer {
	return &Answer{Format: Format, URI: uri, Form: Status, Word: word}
}
