package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
)

// PoliciesFile is an optional file of a trust folder: the policies that were in
// force before, as JSON, an array of DatedPolicy in log order. It is made from a
// verified history (see Report.Policies), never fetched.
const PoliciesFile = "policies.json"

// PolicyOverlap is how long after its end a policy still counts: the statement
// that ends it is itself published under it, and whoever changes witnesses needs
// a moment to do so.
const PolicyOverlap = 24 * time.Hour

// DatedPolicy is a tlog-policy that the log's authorities put in force by a
// witness-policy statement. It is in force until the next one.
type DatedPolicy struct {
	Index uint64 `json:"index"`           // of the statement
	Since uint64 `json:"since"`           // its admittedAt, Unix ms
	Until uint64 `json:"until,omitempty"` // that of the next one; 0: none yet
	Text  string `json:"policy"`

	policy *checkpoint.Policy
}

// Policies returns the policies that the history of r's unit dates. The history
// holds every entry about the log itself, so none is missing if completeness was
// checked; see Report.Complete.
func (r *Report) Policies() ([]DatedPolicy, error) {
	if r.History == nil {
		return nil, errors.New("no history was verified")
	}
	return policiesOf(r.History)
}

func policiesOf(h *custody.History) ([]DatedPolicy, error) {
	var out []DatedPolicy
	for i := range h.Items {
		it := &h.Items[i]
		if it.Signed.Statement.Kind != custody.KindWitnessPolicy || h.Effects[i].Refused != nil {
			continue
		}
		p := DatedPolicy{Index: it.Index, Since: it.Time, Text: it.Signed.Statement.Body.(*custody.WitnessPolicy).Policy}
		if err := p.parse(); err != nil {
			continue // the authorities signed what is no policy: nothing can satisfy it
		}
		if n := len(out); n > 0 {
			out[n-1].Until = it.Time
		}
		out = append(out, p)
	}
	return out, nil
}

func (p *DatedPolicy) parse() (err error) {
	if p.policy, err = checkpoint.ParsePolicy([]byte(p.Text)); err != nil {
		return fmt.Errorf("policy of entry %d: %w", p.Index, err)
	}
	return nil
}

// MarshalPolicies writes the policies file of a trust folder.
func MarshalPolicies(ps []DatedPolicy) ([]byte, error) {
	b, err := json.Marshal(ps, jsontext.Multiline(true))
	return append(b, '\n'), err
}

func parsePolicies(b []byte) ([]DatedPolicy, error) {
	if len(b) == 0 {
		return nil, nil
	}
	var ps []DatedPolicy
	if err := json.Unmarshal(b, &ps, json.RejectUnknownMembers(true)); err != nil {
		return nil, err
	}
	for i := range ps {
		if err := ps[i].parse(); err != nil {
			return nil, err
		}
		if i > 0 && (ps[i].Index <= ps[i-1].Index || ps[i].Since < ps[i-1].Since || ps[i-1].Until != ps[i].Since) {
			return nil, fmt.Errorf("policies are not one row: entry %d does not continue entry %d", ps[i].Index, ps[i-1].Index)
		}
	}
	return ps, nil
}

// VerifyDated is VerifyNote for what was published long ago: a note that lacks
// the quorum of today's policy is accepted if it has that of a policy of the trust
// folder's row that was in force, or had ended less than PolicyOverlap before, when
// that quorum cosigned. It returns that policy, or nil for today's. A policy
// without a quorum dates nothing, and vouches for no note of the past.
//
// The time is the witnesses' own, of then: whoever holds the keys of enough
// witnesses that were retired, and the log's, could still make such a note. A
// Verifier asks the ledger instead, and needs to trust none of them.
func (t *Trust) VerifyDated(note []byte) (*Seen, *DatedPolicy, error) {
	seen, err := t.VerifyNote(note)
	if !errors.Is(err, checkpoint.ErrNoQuorum) {
		return seen, nil, err
	}
	for i := range t.Past {
		p := &t.Past[i]
		c, perr := p.policy.Verify(note)
		if perr != nil || c.QuorumTime == 0 || c.Origin != t.Log.Name || t.signedByLog(note) != nil {
			continue
		}
		if end := p.Until + uint64(PolicyOverlap.Milliseconds()); p.Until != 0 && min(c.QuorumTime, 1<<40)*1000 > end {
			continue
		}
		return &Seen{Cosigned: c}, p, nil
	}
	return nil, nil, err
}

func (t *Trust) signedByLog(note []byte) error {
	_, err := t.logSigned(note)
	return err
}

// VerifyReceipt is Trust.VerifyReceipt, and where neither today's policy nor one
// of the trust folder's row accepts the receipt's checkpoint, it asks the ledger
// to prove that the checkpoint published now, which must be accepted, fresh and a
// continuation of what was seen before, continues that of the receipt. Then the
// witnesses of then do not matter, only the log's signature.
func (v *Verifier) VerifyReceipt(ctx context.Context, receipt, envelope, payload []byte) (*Receipt, error) {
	r, err := v.Trust.VerifyReceipt(receipt, envelope, payload)
	if !errors.Is(err, checkpoint.ErrNoQuorum) || v.Remote == nil {
		return r, err
	}
	old, oerr := verifyReceipt(receipt, envelope, payload, func(note []byte) (*Seen, *DatedPolicy, error) {
		seen, err := v.Trust.logSigned(note)
		return seen, nil, err
	})
	if oerr != nil {
		return nil, oerr
	}
	note, nerr := v.Remote.Checkpoint(ctx)
	if nerr != nil {
		return nil, errors.Join(err, nerr)
	}
	rep := &Report{}
	now, _ := v.checkpoint(ctx, rep, note)
	if now == nil {
		return nil, fmt.Errorf("%w; and the checkpoint published now: %s", err, rep.Reasons[0].Text)
	}
	if now.Size < old.Checkpoint.Size {
		return nil, fmt.Errorf("%w; and what is published now ends at size %d, before the receipt's %d", err, now.Size, old.Checkpoint.Size)
	}
	if cerr := Consistent(ctx, v.Remote, old.Checkpoint, now); cerr != nil {
		return nil, cerr // a *Fork where it is one
	}
	old.Through = now
	return old, nil
}
