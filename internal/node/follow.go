package node

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"time"

	"fabtrail.dev/fabtrail/api"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/view"
	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// followBatch is how many entries the views take at once.
const followBatch = 1024

// follow keeps the views at the published size, and publishes the findings that
// they complete. The views' cursors move only after the work, so a crash repeats
// some and loses none: a finding has one statement, and the ledger knows those
// that it has.
func (n *Node) follow(ctx context.Context) error {
	for {
		if err := n.ledger.Wait(ctx, n.views.Next()); err != nil {
			return err
		}
		if err := n.catchUp(ctx, n.ledger.Published(), func(uint64) {}); err != nil {
			return err
		}
	}
}

// catchUp brings the views to v's size, and hands findings on.
func (n *Node) catchUp(ctx context.Context, v *ledger.View, progress func(done uint64)) error {
	for {
		if err := n.publish(ctx, v); err != nil {
			return err
		}
		from := n.views.Next()
		if from >= v.Size() {
			return nil
		}
		to := min(from+followBatch, v.Size())
		items, err := statements(v, from, to)
		if err != nil {
			return err
		}
		if err := n.views.Apply(items, to, n.membersOf); err != nil {
			return err
		}
		progress(to)
	}
}

// statements reads the statements among entries [from, to). Their signatures were
// verified when they were admitted; audit and fsck verify them again.
func statements(v *ledger.View, from, to uint64) ([]custody.Item, error) {
	var items []custody.Item
	for i := from; i < to; i++ {
		e, err := v.Entry(i)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
		if e.Class == entry.Index {
			continue
		}
		env, err := entry.ParseEnvelope(e.Envelope)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
		st, err := custody.Parse(env.Payload)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
		items = append(items, custody.Item{Index: i, Time: e.Time, Signed: &custody.Signed{Statement: st, Envelope: env, Bytes: e.Envelope}})
	}
	return items, nil
}

func (n *Node) membersOf(manifest entry.Hash) ([]custody.Member, error) {
	b, err := n.ledger.Manifest(manifest)
	if err != nil {
		return nil, err
	}
	m, err := custody.ParseManifest(b)
	return m.Members, err
}

// operator signs what the ledger itself says.
type operator struct {
	party  string
	ledger entry.Hash
	key    crypto.Signer
}

func newOperator(f Folder) (*operator, error) {
	key, err := f.readKey("operator.pem")
	if err != nil {
		return nil, err
	}
	st, charter, err := f.Charter()
	if err != nil {
		return nil, err
	}
	return &operator{party: charter.Operator.Party, ledger: st.ID, key: key}, nil
}

// publish logs the findings that the views hold and have not handed on yet, as
// statements of the operator.
func (n *Node) publish(ctx context.Context, v *ledger.View) error {
	handed, err := n.views.Handed()
	next := n.views.Next()
	if err != nil || n.cfg.NoDetector || handed == next {
		return err
	}
	var envelopes [][]byte
	var ferr error
	err = n.views.Findings(handed, func(f view.Finding) bool {
		e, err := v.Entry(f.Index)
		if err != nil {
			ferr = err
			return false
		}
		b, err := n.operator.sign(f.Finding, e.Time)
		if err != nil {
			ferr = fmt.Errorf("finding %s of entry %d: %w", f.Rule, f.Index, err)
			return false
		}
		envelopes = append(envelopes, b)
		return true
	})
	if err := errors.Join(err, ferr); err != nil {
		return err
	}
	who := api.Caller{Party: n.operator.party, Scopes: []api.Scope{api.ScopeAdmin}}
	for _, r := range n.Submit(ctx, who, envelopes) {
		if r.Err != nil {
			return fmt.Errorf("publishing a finding: %w", r.Err)
		}
	}
	return n.views.SetHanded(next)
}

// sign makes the statement of a finding. It is a function of the finding and the
// key alone, so that the same finding is never published twice.
func (o *operator) sign(f *custody.Finding, admitted uint64) ([]byte, error) {
	at := time.UnixMilli(int64(admitted)).UTC()
	ev := &custody.Event{
		EventID:    custody.NewEventID(at, &idBits{f.ID}),
		OccurredAt: custody.FormatTime(at),
		Actor:      o.party,
		Chain:      custody.Unchained(),
		Load:       f.Units[0].Load,
	}
	payload, err := custody.NewPayload(custody.KindFinding, f.Units[0].URI, o.ledger, ev, f)
	if err != nil {
		return nil, err
	}
	return custody.Sign(payload, o.key)
}

// idBits yields the digits of a finding's ID as the random bits of its event ID.
type idBits struct{ id string }

func (b *idBits) Read(p []byte) (int, error) {
	if b.id == "" {
		return 0, io.EOF
	}
	h, err := entry.ParseHash(b.id)
	if err != nil {
		return 0, err
	}
	n := copy(p, h[:])
	b.id = ""
	return n, nil
}

// Findings implements api.Findings.
func (n *Node) Findings(_ context.Context, who api.Caller, since uint64, limit int) ([]api.Finding, uint64, error) {
	var out []api.Finding
	next := n.views.Next()
	err := n.views.Findings(since, func(f view.Finding) bool {
		if len(out) >= limit && f.Index > out[len(out)-1].Index {
			next = f.Index
			return false
		}
		if !n.mayKnow(who, func() bool { return f.Accused == who.Party || n.concerns(f, who.Party) }) {
			return true
		}
		units := make([]api.FindingUnit, len(f.Units))
		for i, u := range f.Units {
			units[i] = api.FindingUnit{URI: u.URI, Load: u.Load}
		}
		out = append(out, api.Finding{
			Rule: f.Rule, Tier: f.Tier, Phase: f.Phase, Accused: f.Accused, Units: units,
			Evidence: f.Evidence, ID: f.Finding.ID, Index: f.Index, Words: f.Words,
		})
		return true
	})
	return out, next, err
}

// concerns reports whether a party has a part in a unit that a finding speaks of.
func (n *Node) concerns(f view.Finding, party string) bool {
	for _, u := range f.Units {
		load, _ := entry.ParseHash(u.Load)
		unit := custody.LoadUnit(n.views.State(), custody.UnitRef{URI: u.URI, Load: load})
		if unit != nil && (unit.Party == party || unit.Owner == party || unit.To == party) {
			return true
		}
	}
	return false
}
