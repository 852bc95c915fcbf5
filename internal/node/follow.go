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

// handBatch is how many findings are published at once, and handAgain how long
// those wait that the ledger did not take.
const (
	handBatch = 1024
	handAgain = 5 * time.Second
)

// follow keeps the views at the published size, and publishes the findings that
// they complete. The views' cursors move only after the work, so a crash repeats
// some and loses none: a finding has one statement, and the ledger knows those
// that it has.
//
// A finding that the ledger does not take (its disk is at the watermark, the
// operator's key ended) is said in the log and offered again: no reason to stop
// reads.
func (n *Node) follow(ctx context.Context) error {
	for {
		v := n.ledger.Published()
		refused, err := n.catchUp(ctx, v, func(uint64) {})
		if err != nil {
			return err
		}
		wait, cancel := ctx, context.CancelFunc(func() {})
		if refused != nil {
			n.cfg.Log.Error("findings are not published", "error", refused, "again in", handAgain)
			wait, cancel = context.WithTimeout(ctx, handAgain)
		}
		err = n.ledger.Wait(wait, n.views.Next())
		cancel()
		if err != nil && (ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded)) {
			return err
		}
	}
}

// catchUp brings the views to v's size, and hands findings on. refused says why the
// ledger did not take some of them; they stay to be handed on.
func (n *Node) catchUp(ctx context.Context, v *ledger.View, progress func(done uint64)) (refused, err error) {
	for {
		if refused == nil {
			if refused, err = n.publish(ctx, v); err != nil {
				return refused, err
			}
		}
		from := n.views.Next()
		if from >= v.Size() {
			return refused, nil
		}
		to := min(from+followBatch, v.Size())
		items, err := statements(v, from, to)
		if err != nil {
			return refused, err
		}
		if err := n.views.Apply(items, to, n.membersOf); err != nil {
			return refused, err
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
// statements of the operator. refused says why the ledger did not take one.
func (n *Node) publish(ctx context.Context, v *ledger.View) (refused, err error) {
	next := n.views.Next()
	for {
		handed, err := n.views.Handed()
		if err != nil || n.cfg.NoDetector || handed >= next {
			return nil, err
		}
		envelopes, upTo, err := n.unpublished(v, handed, next)
		if err != nil {
			return nil, err
		}
		who := api.Caller{Party: n.operator.party, Scopes: []api.Scope{api.ScopeAdmin}}
		for _, r := range n.Submit(ctx, who, envelopes) {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if r.Err != nil {
				return fmt.Errorf("publishing a finding: %w", r.Err), nil
			}
		}
		if err := n.views.SetHanded(upTo); err != nil {
			return nil, err
		}
	}
}

// unpublished signs the findings of entries [from, upTo), where upTo is next, or
// less if there are many.
func (n *Node) unpublished(v *ledger.View, from, next uint64) (envelopes [][]byte, upTo uint64, err error) {
	upTo = next
	var last uint64
	var ferr error
	err = n.views.Findings(from, func(f view.Finding) bool {
		if len(envelopes) >= handBatch && f.Index > last {
			upTo = f.Index
			return false
		}
		last = f.Index
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
	return envelopes, upTo, errors.Join(err, ferr)
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
