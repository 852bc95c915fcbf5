package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// DefaultMaxAge is how old the quorum's cosignatures on a checkpoint may be.
const DefaultMaxAge = time.Hour

// clockSkew is how far ahead of this client's clock a cosignature may be.
const clockSkew = 5 * time.Minute

// Prover gives consistency proofs; *Remote is one. What it gives is checked.
type Prover interface {
	Consistency(ctx context.Context, from, to uint64) ([]entry.Hash, error)
}

// Seen is a checkpoint whose signatures were checked against a trust folder.
type Seen struct {
	checkpoint.Cosigned
	Index []string // names of the index-verifying cosigners that cosigned it
}

// VerifyNote checks a note's log signature and cosignature quorum, and finds the
// index-verifying cosigners among its cosigners.
func (t *Trust) VerifyNote(note []byte) (*Seen, error) {
	c, err := t.Policy.Verify(note)
	if err != nil {
		return nil, err
	}
	if c.Origin != t.Log.Name {
		return nil, fmt.Errorf("the checkpoint is of log %q, the trust folder's log is %q", c.Origin, t.Log.Name)
	}
	n, err := checkpoint.ParseNote(note)
	if err != nil {
		return nil, err
	}
	s := &Seen{Cosigned: c}
	for _, k := range t.Index {
		switch _, err := k.VerifyCosignature(n); {
		case err == nil:
			s.Index = append(s.Index, k.Name)
		case !errors.Is(err, checkpoint.ErrNoSignature):
			return nil, err // signed-note: a known key's bad signature refuses the note
		}
	}
	return s, nil
}

// Age checks that the quorum's cosignatures are at most limit old at now. A
// policy without a quorum vouches for no time; ok tells which.
func (s *Seen) Age(now time.Time, limit time.Duration) (age time.Duration, witnessed bool, err error) {
	if s.QuorumTime == 0 {
		return 0, false, nil
	}
	age = now.Sub(time.Unix(int64(min(s.QuorumTime, 1<<40)), 0))
	switch {
	case age > limit:
		return age, true, fmt.Errorf("the quorum cosigned it %s ago, the limit is %s", round(age), round(limit))
	case age < -clockSkew:
		return age, true, fmt.Errorf("it was cosigned %s in the future: this computer's clock or the witnesses' are wrong", round(-age))
	}
	return age, true, nil
}

func round(d time.Duration) time.Duration { return d.Round(time.Second) }

// Includer is a Prover that also gives inclusion proofs; *Remote is one.
type Includer interface {
	Inclusion(ctx context.Context, index, size uint64) (leaf entry.Hash, hashes []entry.Hash, err error)
}

// Fork is the evidence that a log showed this client two histories: two notes
// that the log signed, and the proof that should join them and does not.
type Fork struct {
	Old    string       `json:"old"`
	New    string       `json:"new"`
	Hashes []entry.Hash `json:"hashes"` // the consistency proof that was served; empty at equal sizes
	// Last, if there is one, is an inclusion proof in the larger tree of the entry
	// that is the last of the smaller one. It fixes what the larger tree begins with.
	Last   *LastEntry `json:"last,omitzero"`
	Reason string     `json:"reason"`
}

// LastEntry is an inclusion proof without its index and size.
type LastEntry struct {
	Leaf   entry.Hash   `json:"leaf"`
	Hashes []entry.Hash `json:"hashes"` // leaf to root
}

func (f *Fork) Error() string { return "the log shows two histories: " + f.Reason }

// ErrNoProof is wrapped when a server gives no consistency proof: the two
// checkpoints may agree or not.
var ErrNoProof = errors.New("no consistency proof")

// Consistent checks that two checkpoints are of one history, fetching the proof
// where one is needed. It returns a *Fork when they are not.
func Consistent(ctx context.Context, p Prover, a, b *Seen) error {
	if a.Size > b.Size {
		a, b = b, a
	}
	f := &Fork{Old: string(a.Note), New: string(b.Note)}
	if a.Size == b.Size {
		if a.Root != b.Root {
			f.Reason = fmt.Sprintf("two roots at size %d", a.Size)
			return f
		}
		return nil
	}
	if a.Size == 0 {
		return nil
	}
	if p == nil {
		return fmt.Errorf("%w: nobody to ask", ErrNoProof)
	}
	hashes, err := p.Consistency(ctx, a.Size, b.Size)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoProof, err)
	}
	if err := checkpoint.VerifyConsistency(a.Size, b.Size, hashes, a.Root, b.Root); err != nil {
		f.Hashes, f.Reason = hashes, fmt.Sprintf("the proof from size %d to %d does not hold: %v", a.Size, b.Size, err)
		return f.certain(ctx, p, a, b)
	}
	return nil
}

// certain asks what the larger tree begins with. If that is the smaller tree, only
// the consistency proof was wrong; if it is another one, f convicts by itself.
// Without a proof that holds, f stays as it is.
func (f *Fork) certain(ctx context.Context, p Prover, a, b *Seen) error {
	from, ok := p.(Includer)
	if !ok {
		return f
	}
	leaf, hashes, err := from.Inclusion(ctx, a.Size-1, b.Size)
	if err != nil {
		return f
	}
	root, err := checkpoint.PrefixRoot(leaf, a.Size-1, b.Size, hashes, b.Root)
	switch {
	case err != nil:
	case root == a.Root:
		return fmt.Errorf("%w that holds: %s; sizes %d and %d are of one history all the same", ErrNoProof, f.Reason, a.Size, b.Size)
	default:
		f.Last = &LastEntry{leaf, hashes}
		f.Reason = fmt.Sprintf("the first %d entries of size %d have the root %s, size %d was signed with %s", a.Size, b.Size, root, a.Size, a.Root)
	}
	return f
}
