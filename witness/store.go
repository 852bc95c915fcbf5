package witness

import (
	"errors"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// State is what a witness remembers of a log and must never move back from.
type State struct {
	Size   uint64
	Root   entry.Hash
	Frozen bool // see Record.Stale
}

// NeverCosigned is the state of a log that the witness has not cosigned: the
// empty tree, with which every tree is consistent.
var NeverCosigned = State{Size: 0, Root: checkpoint.EmptyRoot}

// Record is the latest checkpoint of one log that the witness cosigned.
type Record struct {
	Origin string
	Size   uint64
	Root   entry.Hash
	// Note holds the checkpoint's text, the log's verified signatures and the
	// witness's cosignature. It is empty only if Stale is set on a log that the
	// store did not know.
	Note []byte
	// Stale, if set, is a note with a cosignature of this very witness that this
	// store does not know of: proof that the store is an old copy. The witness
	// signs nothing for this log until its operator adopts the note.
	Stale []byte
}

// State returns what Store.Swap compares.
func (r Record) State() State { return State{Size: r.Size, Root: r.Root, Frozen: len(r.Stale) > 0} }

// Errors of a Store.
var (
	// ErrConflict: the log's state is not the one that Swap expected.
	ErrConflict = errors.New("the witness has moved on")
	// ErrStale: the store is provably not the newest copy of itself.
	ErrStale = errors.New("witness store is an old copy")
	// ErrDamaged: bytes that were once acknowledged are missing or changed.
	ErrDamaged = errors.New("witness store is damaged")
	// ErrNoStore: there is no store, and none was to be made.
	ErrNoStore = errors.New("no witness store")
)

// Store keeps one Record for each origin. It is what stands between a log and
// two histories under one witness's name; losing it is a rollback.
//
// Implementations are safe for concurrent use.
type Store interface {
	// Latest returns the last durable record of a log, or false if there is none.
	Latest(origin string) (Record, bool, error)
	// Swap replaces the record of next.Origin if the log's state is old
	// (NeverCosigned if there is no record), atomically, and returns nil only
	// when next is durable: synced, not merely written. It returns ErrConflict
	// when the state is another one that is itself durable. After any other
	// error the outcome is unknown; the implementation MUST NOT let a later Swap
	// succeed on top of it.
	Swap(old State, next Record) error
	// Close releases the store.
	Close() error
}
