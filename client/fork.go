package client

import (
	"context"
	"fmt"

	"github.com/go-json-experiment/json"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// Conviction is what a fork proof shows to somebody who holds the log's key and
// was not there. Neither Certain nor Cleared: the notes differ in size, and nothing
// in the file tells whether the larger tree begins with the smaller.
type Conviction struct {
	Certain bool   `json:"certain"` // nobody but the holder of the log's key can have made this
	Cleared bool   `json:"cleared"` // both notes are of one history
	Says    string `json:"says"`    // one sentence
}

// Judge decides offline what f proves. Two roots at one size, both signed by the
// log, prove two histories by themselves. At two sizes, an inclusion proof of the
// last entry of the smaller tree fixes what the larger one begins with, and so
// proves or clears. With nothing but a consistency proof that fails, the file shows
// only that the log signed both: whoever wrote it may have made the failure up, and
// the log can clear itself by giving a proof that holds (see Ask). Cosignatures count
// for nothing here: what the log's key signed binds the log, whoever else signed it.
func (f *Fork) Judge(t *Trust) (Conviction, error) {
	old, now, err := f.notes(t)
	if err != nil {
		return Conviction{}, err
	}
	signed := fmt.Sprintf("%s signed sizes %d and %d", old.Origin, old.Size, now.Size)
	one := Conviction{Cleared: true, Says: signed + ", which are of one history: no fork"}
	switch {
	case old.Size == now.Size && old.Root == now.Root:
		return Conviction{Cleared: true, Says: "both notes have the same root: no fork"}, nil
	case old.Size == now.Size:
		return Conviction{Certain: true, Says: fmt.Sprintf("%s signed two roots at size %d: it shows two histories", old.Origin, old.Size)}, nil
	case checkpoint.VerifyConsistency(old.Size, now.Size, f.Hashes, old.Root, now.Root) == nil:
		return one, nil
	}
	if f.Last != nil && old.Size > 0 {
		root, err := checkpoint.PrefixRoot(f.Last.Leaf, old.Size-1, now.Size, f.Last.Hashes, now.Root)
		switch {
		case err == nil && root == old.Root:
			return one, nil
		case err == nil:
			return Conviction{Certain: true, Says: fmt.Sprintf("%s, and the first %d entries of the larger are not those of the smaller: it shows two histories", signed, old.Size)}, nil
		}
	}
	return Conviction{Says: signed + ", and the proof in this file does not join them: ask it for one that does"}, nil
}

// notes reads both notes, the smaller size first.
func (f *Fork) notes(t *Trust) (old, now *Seen, err error) {
	if old, err = t.logSigned([]byte(f.Old)); err != nil {
		return nil, nil, fmt.Errorf("the first note: %w", err)
	}
	if now, err = t.logSigned([]byte(f.New)); err != nil {
		return nil, nil, fmt.Errorf("the second note: %w", err)
	}
	if old.Size > now.Size {
		old, now = now, old
	}
	return old, now, nil
}

// Ask has a log speak for itself: it returns f with the proofs that the log gives
// now, for Judge. The error wraps ErrNoProof when it gives none.
func (f *Fork) Ask(ctx context.Context, t *Trust, p Prover) (*Fork, error) {
	old, now, err := f.notes(t)
	if err != nil {
		return nil, err
	}
	asked := &Fork{Old: string(old.Note), New: string(now.Note), Reason: f.Reason}
	if old.Size == 0 || old.Size == now.Size {
		return asked, nil
	}
	if asked.Hashes, err = p.Consistency(ctx, old.Size, now.Size); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoProof, err)
	}
	if from, ok := p.(Includer); ok {
		if leaf, hashes, err := from.Inclusion(ctx, old.Size-1, now.Size); err == nil {
			asked.Last = &LastEntry{leaf, hashes}
		}
	}
	return asked, nil
}

// Inclusion fetches an RFC 6962 inclusion proof of an entry, with its leaf hash.
// Nothing is checked.
func (r *Remote) Inclusion(ctx context.Context, index, size uint64) (leaf entry.Hash, hashes []entry.Hash, err error) {
	var p Inclusion
	err = r.getJSON(ctx, fmt.Sprintf("/v1/proofs/inclusion?index=%d&size=%d", index, size), maxProof, &p)
	if err == nil && (p.Index != index || p.Size != size) {
		err = fmt.Errorf("inclusion proof is of entry %d in size %d, asked entry %d in size %d", p.Index, p.Size, index, size)
	}
	return p.LeafHash, p.Hashes, err
}

// Marshal returns f as JSON, for a fork proof file.
func (f *Fork) Marshal() ([]byte, error) { return json.Marshal(f) }

// ParseFork reads a fork proof file.
func ParseFork(b []byte) (*Fork, error) {
	var f Fork
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("fork proof: %w", err)
	}
	return &f, nil
}
