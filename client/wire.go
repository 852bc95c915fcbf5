package client

import "fabtrail.dev/fabtrail/ledger/entry"

// Appended is the JSON answer to a statement: of POST /v1/statements, of GET
// /v1/statements/{id}, and, with Line, Status and Problem, one line of the batch
// endpoint's NDJSON.
type Appended struct {
	Line     int         `json:"line,omitzero"`   // batch: 1 for the first line
	Status   int         `json:"status,omitzero"` // batch: what the single endpoint would answer
	ID       string      `json:"id,omitzero"`     // statement ID, hex
	Index    uint64      `json:"index"`
	Time     uint64      `json:"time,omitzero"`     // admittedAt, Unix ms
	Effect   string      `json:"effect,omitzero"`   // what the fold made of it
	Envelope []byte      `json:"envelope,omitzero"` // canonical, base64
	Receipt  string      `json:"receipt,omitzero"`  // C2SP tlog-proof text
	Repeat   bool        `json:"repeat,omitzero"`
	Pending  bool        `json:"pending,omitzero"` // logged, not yet published
	Poll     string      `json:"poll,omitzero"`    // where to ask again
	Problem  *WireReport `json:"problem,omitzero"` // batch: the line was refused
}

// WireReport is RFC 9457 problem details as the ledger sends them.
type WireReport struct {
	Type   string `json:"type"`
	Title  string `json:"title,omitzero"`
	Status int    `json:"status,omitzero"`
	Detail string `json:"detail,omitzero"`
	Field  string `json:"field,omitzero"`
	Hint   string `json:"hint,omitzero"`
	Head   string `json:"head,omitzero"`
}

// EntryLine is one line of GET /v1/entries. Manifest holds the bytes that the
// statement names, if it names any.
type EntryLine struct {
	Index    uint64 `json:"index"`
	Cargo    []byte `json:"cargo"`
	Manifest []byte `json:"manifest,omitzero"`
}

// Inclusion is the answer of GET /v1/proofs/inclusion.
type Inclusion struct {
	Index    uint64       `json:"index"`
	Size     uint64       `json:"size"`
	LeafHash entry.Hash   `json:"leafHash"`
	Hashes   []entry.Hash `json:"hashes"`
}

// Consistency is the answer of GET /v1/proofs/consistency.
type Consistency struct {
	From   uint64       `json:"from"`
	To     uint64       `json:"to"`
	Hashes []entry.Hash `json:"hashes"`
}
