package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// State is the application's key-value state at one point of the log: a pure
// fold of App over the entries before it. Only the goroutine that calls
// App.Decide may use it, and only until Decide returns.
type State interface {
	// Get returns the value of key, nil when there is none. The caller must
	// not change the bytes and must copy them to keep them. An I/O error
	// reads as nil, and the ledger drops the decision and stops.
	Get(key string) []byte
	// Set stores a value, which the State keeps; nil deletes the key.
	Set(key string, value []byte)
}

// At is the place in the log that a submission is decided for.
type At struct {
	Index uint64 // entry index
	Time  uint64 // admittedAt, Unix milliseconds, never less than the entry before
}

// Submission is one statement that asks for admission.
type Submission struct {
	ID       entry.Hash // statement ID: SHA-256 of the payload
	Envelope []byte     // canonical bytes
	Parsed   any        // what the caller has parsed and verified; for App only
	Manifest entry.Hash // digest of the manifest that it names; zero if none
	// Contents are the manifest's bytes. The ledger fills them in before
	// Decide; a manifest that is not there refuses the submission with
	// ErrNotFound.
	Contents []byte
	// Manifests reads any manifest that an earlier entry named, or is to name, by its
	// digest: ErrNotFound if it is not there. The ledger sets it before Decide.
	Manifests func(digest entry.Hash) ([]byte, error)
	// Replay is set by the ledger when it reads its own entries again, after
	// a crash or as a follower: the entry was admitted at this very index.
	// Parsed is nil then, signatures need not be verified again, and the
	// outcome must be what it was the first time.
	Replay bool
}

// Outcome is what App decided about one submission.
type Outcome struct {
	Class  entry.Class  // Public or Restricted
	Topics []entry.Hash // lists of the index that the entry joins; duplicates count once
	Effect string       // a word or two for the answer, kept with the entry; at most 255 bytes
	// Refused, when not nil, keeps the submission out of the log; what it
	// wrote to State is dropped. It is handed to the submitter as it is.
	Refused error
}

// App is the application above the log. Decide is called by one goroutine, in
// log order, and must be a pure function of its arguments.
type App interface {
	Decide(st State, at At, sub Submission) Outcome
}

// Cosigner collects witnesses' cosignatures on a checkpoint. old is the size
// that was cosigned last (0 if none); consistency gives proofs between sizes up
// to the checkpoint's. It returns the note with at least a quorum of
// cosignatures added, or an error when no quorum was reached: it is then asked
// again, with the newest checkpoint. It must return when ctx ends.
type Cosigner interface {
	Cosign(ctx context.Context, old uint64, note []byte,
		consistency func(ctx context.Context, old, new uint64) ([]entry.Hash, error)) (cosigned []byte, err error)
}

// Result answers one submission. Err is set when it was not admitted, or when
// its fate is unknown (ErrFailed: ask again after the restart); all other fields
// are then zero, but for ID.
type Result struct {
	ID       entry.Hash
	Index    uint64
	Time     uint64      // admittedAt, Unix milliseconds
	Class    entry.Class // of the leaf
	Effect   string      // App's word when it was admitted first
	Envelope []byte      // canonical bytes of the first admission
	Receipt  []byte      // C2SP tlog-proof, verified; nil while Pending
	Repeat   bool        // the statement was in the log (or in flight) before
	Pending  bool        // durable, but the cosigned checkpoint was late
	Err      error
}

// Errors that callers tell apart with errors.Is.
var (
	// ErrOverloaded: too much is in flight; try again a little later.
	ErrOverloaded = errors.New("ledger is overloaded")
	// ErrStorageFull: the disk is below its watermark; writes have stopped, reads go on.
	ErrStorageFull = errors.New("ledger storage is full")
	// ErrFailed: the outcome of a write is unknown or data are damaged. The
	// ledger has stopped writing for good and must be opened anew.
	ErrFailed = errors.New("ledger has stopped")
	// ErrClosed: Close was called.
	ErrClosed = errors.New("ledger is closed")
	// ErrNotFound: no such entry, statement, manifest, tile or size.
	ErrNotFound = errors.New("not found")
	// ErrNotPublished: the entry exists; its checkpoint is not published yet.
	ErrNotPublished = errors.New("not yet published")
	// ErrDamaged: stored bytes do not match what the tree commits to.
	ErrDamaged = errors.New("stored data are damaged")
	// ErrLocked: another process has this ledger open.
	ErrLocked = errors.New("ledger is in use by another process")
)

// NoSign is why Open refuses: signing could fork the log. Programs exit with
// status 3 and print it.
type NoSign struct {
	Reason string // what was found
	WayOut string // what the operator can do
	Err    error  // the cause, or nil
	Doing  string // what is refused; empty: sign
}

// Error gives reason, cause and way out.
func (e *NoSign) Error() string {
	s := "refusing to " + cmp.Or(e.Doing, "sign") + ": " + e.Reason
	if e.Err != nil {
		s += ": " + oneLine(e.Err.Error())
	}
	return s + "; " + e.WayOut
}

// Unwrap returns the cause.
func (e *NoSign) Unwrap() error { return e.Err }

func noSign(err error, wayOut, format string, a ...any) *NoSign {
	return &NoSign{Reason: fmt.Sprintf(format, a...), WayOut: wayOut, Err: err}
}

// Config is what Open needs. Fields without "required" have defaults.
type Config struct {
	Dir    string             // required; the ledger keeps Dir/truth (Pebble) and Dir/journal
	Folder string             // the data folder that Dir is part of, for the commands that refusals name; Dir
	Origin string             // required; the checkpoint's origin line
	Signer *checkpoint.Signer // required; log key (type 0x01) named as the origin
	App    App                // required

	// Cosigner is nil for a log without witnesses: what is signed is published.
	Cosigner Cosigner
	// Policy, when set, is checked on every cosigned note before it is
	// published, and on every receipt before it is answered.
	Policy *checkpoint.Policy
	// Past are policies that Policy has replaced: what another node published under
	// one of them, before, stays published.
	Past []*checkpoint.Policy
	// WitnessNotes returns the signed notes that witnesses hold of this log.
	// Open refuses when one with our own signature is ahead of us, or has
	// another root at a size that we have. nil skips the question.
	WitnessNotes func(ctx context.Context) [][]byte
	// Sequencer orders and keeps the leaves; nil is the embedded engine. Open
	// takes it over and Close closes it.
	Sequencer Sequencer
	// Share, if set, hands a note that is to be published to those who follow, before
	// anybody sees it here, so that a receipt stays the same whichever node answers.
	// It returns the note to publish: the one that was shared first at this size.
	Share func(ctx context.Context, size uint64, note []byte) (first []byte, err error)
	// Shared returns some of the notes that were shared, of sizes above after, in
	// order; none at the end. Open takes those that it lacks: another node may have
	// signed meanwhile.
	Shared func(ctx context.Context, after uint64) ([][]byte, error)

	// Others, if set, says what others have seen of the log. Open asks, and refuses by the
	// rule of Restore, when the engine has entries and there is no journal here: nothing
	// here says then what was signed last, and the engine's word is not enough.
	Others func(ctx context.Context) (Others, error)

	Clock  func() time.Time     // time.Now; the log's time, and that of heartbeats
	Rand   func([]byte) error   // crypto/rand; salts of restricted entries
	FS     vfs.FS               // vfs.Default; of database and journal alike
	Logf   func(string, ...any) // discards
	OnFail func(error)          // called once, from its own goroutine, when the ledger stops
	// Fatal is called when Pebble ends the process (its Logger.Fatalf), and
	// must not return; the default prints and exits with status 3.
	Fatal func(msg string)
	// DiskFree overrides asking the file system for free and total bytes.
	DiskFree func() (avail, total uint64, err error)

	MaxBatch    int // submissions of one group commit; 1024
	MaxInFlight int // submissions not yet answered; 32768
	// MaxUnused bounds, in bytes, the manifests of one owner that no entry names (128
	// MiB), and MaxUnusedAll those of all (4 GiB).
	MaxUnused, MaxUnusedAll int64

	// Coming, if set, returns how many calls of Append are about to be made: a commit
	// waits a little for some of them.
	Coming func() int

	PublishEvery time.Duration // least time between index commitments under load; 0 means 20 ms, negative none
	CosignWait   time.Duration // how long Append waits for publication; 10 s
	CosignLimit  time.Duration // time given to one Cosigner call; 15 s
	CosignRetry  time.Duration // pause after a failed Cosigner call; 500 ms
	SettlePause  time.Duration // first pause before an unknown outcome is asked about, then doubled; 10 ms
	SettleLimit  time.Duration // how long an unknown outcome of the Sequencer may take to settle; 30 s
	Heartbeat    time.Duration // an idle log adds an index commitment; 1 h
	Recosign     time.Duration // an idle log is cosigned again; 10 min
	Manual       bool          // no timer: the caller drives Tick
	RotateBytes  int64         // journal size that triggers a flush of the database and a new segment; 64 MiB
	CacheBytes   int64         // expanded tiles kept in memory; 96 MiB, a log of a million entries
	StateCache   int64         // rows of the application's state kept in memory; 32 MiB
	BlockCache   int64         // Pebble's block cache, of which it takes MemTable off; 192 MiB, with which the index of a million topics is in memory
	MemTable     uint64        // Pebble's memtable size; 32 MiB
	IndexFile    uint64        // topics from which on Close writes the index to files for the next start; 100,000

	newJournal bool // the journal is lost, and is begun anew at the database's size; see Restore
}
