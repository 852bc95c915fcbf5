package client

import (
	"bytes"
	"errors"
	"fmt"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// Receipt is what a verified receipt proves: that the statement is entry Index
// of a log, admitted at Time, as of a checkpoint that a quorum cosigned.
type Receipt struct {
	ID         entry.Hash
	Index      uint64
	Time       uint64 // admittedAt, Unix ms
	Class      entry.Class
	Checkpoint *Seen
	// Policy is the policy of then that accepted the checkpoint; nil: today's.
	Policy *DatedPolicy
	// Through is the later checkpoint that was proved to continue Checkpoint,
	// where nothing but the log's signature vouches for that one; else nil.
	Through *Seen
}

// VerifyReceipt checks a receipt (C2SP tlog-proof) offline, also one from before
// the witnesses changed (see VerifyDated). payload is what was
// signed, byte for byte; envelope is the canonical envelope as the ledger
// returned it, whose payload must be the same. The class of the leaf must be the
// one that the predicate has: a recall that is logged as restricted would be
// hidden from those it warns.
func (t *Trust) VerifyReceipt(receipt, envelope, payload []byte) (*Receipt, error) {
	return verifyReceipt(receipt, envelope, payload, t.VerifyDated)
}

func verifyReceipt(receipt, envelope, payload []byte, verifyNote func([]byte) (*Seen, *DatedPolicy, error)) (*Receipt, error) {
	env, err := entry.ParseEnvelope(envelope)
	if err != nil {
		return nil, fmt.Errorf("receipt: envelope: %w", err)
	}
	if !bytes.Equal(env.Payload, payload) {
		return nil, errors.New("receipt: the ledger's envelope holds another payload than the one that was signed")
	}
	p, err := checkpoint.ParseProof(receipt)
	if err != nil {
		return nil, fmt.Errorf("receipt: %w", err)
	}
	e, err := entry.ParseExtra(p.Extra)
	if err != nil {
		return nil, fmt.Errorf("receipt: extra: %w", err)
	}
	e.Envelope = envelope
	st, err := custody.Parse(payload)
	if err != nil {
		return nil, fmt.Errorf("receipt: %w", err)
	}
	if want := st.Kind.Class(); e.Class != want {
		return nil, fmt.Errorf("receipt: the statement is logged as %s, but a %s is %s", e.Class, st.Kind, want)
	}
	seen, policy, err := verifyNote(p.Checkpoint)
	if err != nil {
		return nil, fmt.Errorf("receipt: checkpoint: %w", err)
	}
	if err := checkpoint.VerifyInclusion(e.LeafHash(), p.Index, seen.Size, p.Hashes, seen.Root); err != nil {
		return nil, fmt.Errorf("receipt: %w", err)
	}
	return &Receipt{ID: st.ID, Index: p.Index, Time: e.Time, Class: e.Class, Checkpoint: seen, Policy: policy}, nil
}
