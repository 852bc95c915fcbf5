package api

import (
	"context"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// The interfaces below are what the API needs from a ledger. Errors that hold a
// *problem.Problem are answered as that problem; every other error is logged and
// answered as "internal" without its text. All methods are called by many
// goroutines at once and must heed ctx.

// Recorded is one statement as the ledger has it.
type Recorded struct {
	ID       entry.Hash // SHA-256 of the payload
	Index    uint64     // entry index
	Time     uint64     // admittedAt, Unix ms
	Effect   string     // what the fold made of it
	Envelope []byte     // canonical envelope
	Receipt  []byte     // C2SP tlog-proof text; empty while Pending
	Repeat   bool       // it was in the ledger before this call
	Pending  bool       // durable, not yet published
}

// Result is the outcome of one submitted envelope: Recorded, or Err.
type Result struct {
	Recorded
	Err error
}

// Submitter takes statements.
type Submitter interface {
	// Post takes DSSE envelopes (the bytes of the request or of one line, not
	// yet parsed) and returns one result for each, in order. An envelope may cite
	// those before it. A refused one harms no other. The caller's party must be
	// among the parties that signed, else signer_mismatch; a caller with
	// ScopeAdmin may also post what the authority signed, which no party did. What an
	// envelope costs more than a small one is charged to the meter before it is spent.
	Post(ctx context.Context, who Caller, envelopes [][]byte, m Meter) []Result
}

// Statements finds recorded statements.
type Statements interface {
	// Statement returns what Submit first returned, Pending when it is not
	// published yet; not_found when it is unknown. For a restricted statement, who must be
	// entitled to it: token_required without a token, else not_entitled.
	Statement(ctx context.Context, who Caller, id entry.Hash) (Recorded, error)
}

// Manifests keeps the manifests that statements name.
type Manifests interface {
	// ManifestHead refuses a body of which head is the beginning (ManifestHead bytes,
	// or all of it) and size the length (-1: not said), when it cannot be a manifest.
	ManifestHead(head []byte, size int64) error
	// PutManifest keeps b durably under its digest, which the API has compared.
	// It refuses what is not a manifest. created is false when it was there.
	PutManifest(ctx context.Context, who Caller, digest entry.Hash, b []byte) (created bool, err error)
}

// LogEntry is one entry with its cargo and the manifest it names, if any.
type LogEntry struct {
	Index    uint64
	Cargo    []byte
	Manifest []byte
}

// EntryRange asks for the entries [From, From+Limit) below the published size,
// or below the signed size when Signed. Restricted is false when the caller may
// not see restricted cargo; such cargo need not be read then.
type EntryRange struct {
	From, Limit uint64
	Signed      bool
	Restricted  bool
}

// Entries reads the log in order.
type Entries interface {
	// Entries calls yield for each entry of the range, ascending and without a
	// gap, and ends at the size. It stops with yield's error.
	Entries(ctx context.Context, r EntryRange, yield func(LogEntry) error) error
}

// Proofs computes RFC 6962 proofs at published sizes.
type Proofs interface {
	// Inclusion proves entry index in the tree of the given size.
	Inclusion(ctx context.Context, index, size uint64) (leaf entry.Hash, path []entry.Hash, err error)
	// Consistency proves that the tree of size to extends that of size from.
	Consistency(ctx context.Context, from, to uint64) ([]entry.Hash, error)
}

// Tiles serves the log as C2SP tlog-tiles has it. Whatever lies beyond the
// published size, and partial tiles that never were published, are not_found.
type Tiles interface {
	// Checkpoint returns the latest published note.
	Checkpoint(ctx context.Context) ([]byte, error)
	// Tile returns width hashes (1 to 256) of a tile of the given level.
	Tile(ctx context.Context, level int, index uint64, width int) ([]byte, error)
	// Bundle returns width entries (1 to 256) of an entry bundle.
	Bundle(ctx context.Context, index uint64, width int) ([]byte, error)
}

// UnitQuery asks about one unit.
type UnitQuery struct {
	URI         string // as the caller wrote it; not canonical
	PedigreeKey string // from the header or ?k=; may be empty
	Have        string // header Fabtrail-Have; may be empty
}

// UnitAnswer is the JSON of an answer about units (package custody/answer), with how
// many of them are answered by a status word alone, and by a proof of absence. Those
// are the answers that a guessed serial gets too.
type UnitAnswer struct {
	JSON          []byte
	Words, Absent int
}

// Units answers for units.
type Units interface {
	// Unit answers about one unit. Who is not entitled to the whole answer, by a token
	// or by the unit's pedigree key, gets a status word.
	Unit(ctx context.Context, who Caller, q UnitQuery) (UnitAnswer, error)
	// CheckUnits answers about many units at once, in their order, at one published
	// size; have is the header Fabtrail-Have. A problem with one of them names it:
	// /units/3/uri.
	CheckUnits(ctx context.Context, who Caller, qs []UnitQuery, have string) (UnitAnswer, error)
}

// FindingUnit is a unit, or a load when Load is set, that a finding speaks of.
type FindingUnit struct {
	URI  string `json:"uri"`
	Load string `json:"load,omitzero"` // hex ID of the opening pack
}

// Finding is what a rule concluded.
type Finding struct {
	Rule     string        `json:"rule"`
	Tier     string        `json:"tier"`    // contradiction, policy, geography, time
	Phase    string        `json:"phase"`   // provisional, confirmed, withdrawn
	Accused  string        `json:"accused"` // party URI, or "operator"
	Units    []FindingUnit `json:"units"`
	Evidence []uint64      `json:"evidence"` // entry indexes, ascending
	ID       string        `json:"findingId"`
	Index    uint64        `json:"index"` // entry that completed it
	Words    string        `json:"words"`
}

// Findings lists findings.
type Findings interface {
	// Findings returns those completed at entry since or later, ascending by
	// index, at most limit, and the value of since to go on with. Without
	// ScopeAudit who gets those that concern its own party.
	Findings(ctx context.Context, who Caller, since uint64, limit int) (found []Finding, next uint64, err error)
}

// Trust serves the public trust folder.
type Trust interface {
	// TrustFile returns a file of TrustFiles, or not_found.
	TrustFile(ctx context.Context, name string) ([]byte, error)
}

// Reason says why a ledger is not ready. Both are shown to strangers.
type Reason struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// Health says whether the ledger can do its work.
type Health interface {
	// Ready returns no reasons when statements are taken and signed.
	Ready(ctx context.Context) []Reason
}

// Tokens turns a bearer token into a caller. Verifier implements it.
type Tokens interface {
	// Verify returns token_invalid for every token that is not good.
	Verify(ctx context.Context, token string) (Caller, error)
}
