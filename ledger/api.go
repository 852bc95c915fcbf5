package ledger

import (
	"context"

	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
)

// Ledger is an open log. All methods may be called from any goroutine.
type Ledger struct{}

// Open opens the ledger in cfg.Dir, or makes an empty one. It returns *NoSign
// when going on could fork the log.
func Open(ctx context.Context, cfg Config) (*Ledger, error) { panic("under construction") }

// Close stops taking submissions, finishes what is in flight and closes everything.
func (l *Ledger) Close() error { panic("under construction") }

// Append submits statements and waits until each is refused, in a published
// checkpoint, or late (Pending). Lines are independent; results keep their order.
func (l *Ledger) Append(ctx context.Context, subs []Submission) []Result { panic("under construction") }

// Receipt returns the answer that the first submission of this statement got or
// would have got: ErrNotFound, Pending while it is not published.
func (l *Ledger) Receipt(id entry.Hash) (Result, error) { panic("under construction") }

// PutManifest keeps a manifest durably under its SHA-256; Manifest reads it.
func (l *Ledger) PutManifest(b []byte) (entry.Hash, error) { panic("under construction") }
func (l *Ledger) Manifest(sum entry.Hash) ([]byte, error)  { panic("under construction") }

// Published is the view at the last published size; Signed at the last signed
// one, for cosigners that verify the index before it is published.
func (l *Ledger) Published() *View { panic("under construction") }
func (l *Ledger) Signed() *View    { panic("under construction") }

// Tile and Bundle are Published().Tile and Published().Bundle.
func (l *Ledger) Tile(level uint8, n uint64, width uint16) ([]byte, error) {
	panic("under construction")
}
func (l *Ledger) Bundle(n uint64, width uint16) ([]byte, error) { panic("under construction") }

// Wait returns when more than size entries are published; WaitSigned when more are signed.
func (l *Ledger) Wait(ctx context.Context, size uint64) error       { panic("under construction") }
func (l *Ledger) WaitSigned(ctx context.Context, size uint64) error { panic("under construction") }

// Tick does what is due by the clock (heartbeat, fresh cosignatures) and waits for it.
func (l *Ledger) Tick(ctx context.Context) error { panic("under construction") }

// Err is nil, or why the ledger has stopped; Failed is closed at that moment.
func (l *Ledger) Err() error              { panic("under construction") }
func (l *Ledger) Failed() <-chan struct{} { panic("under construction") }

// View is a consistent read of the log at one size. It never changes.
type View struct{}

func (v *View) Size() uint64                                      { panic("under construction") } // entries
func (v *View) Root() entry.Hash                                  { panic("under construction") } // of the tree
func (v *View) Checkpoint() []byte                                { panic("under construction") } // note; nil for an empty log
func (v *View) Entry(i uint64) (entry.Entry, error)               { panic("under construction") } // with cargo
func (v *View) ManifestOf(i uint64) (entry.Hash, error)           { panic("under construction") } // zero if none
func (v *View) Inclusion(i uint64) ([]entry.Hash, error)          { panic("under construction") } // leaf to root
func (v *View) Consistency(from, to uint64) ([]entry.Hash, error) { panic("under construction") } // to <= Size
func (v *View) List(topic entry.Hash) ([]unitindex.Ref, unitindex.Proof, error) {
	panic("under construction")
}
func (v *View) Tile(level uint8, n uint64, width uint16) ([]byte, error) { panic("under construction") }
func (v *View) Bundle(n uint64, width uint16) ([]byte, error)            { panic("under construction") }
