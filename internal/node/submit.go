package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"fabtrail.dev/fabtrail/api"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// prepared is a statement that is ready for the sequencer: parsed, its signatures
// verified, its manifest at hand.
type prepared struct {
	signed   *custody.Signed
	members  []custody.Member
	foreseen *custody.Foreseen
}

// Submit is Post without a meter: for the ledger itself.
func (n *Node) Submit(ctx context.Context, who api.Caller, envelopes [][]byte) []api.Result {
	return n.Post(ctx, who, envelopes, api.Free{})
}

// Post implements api.Submitter. Reading and verifying are pure and run in
// parallel; only what they let through reaches the sequencer, in order.
func (n *Node) Post(ctx context.Context, who api.Caller, envelopes [][]byte, m api.Meter) []api.Result {
	results := make([]api.Result, len(envelopes))
	if len(envelopes) == 0 {
		return results
	}
	if len(envelopes) == 1 {
		return n.postOne(ctx, who, envelopes, m)
	}
	subs, lines := n.ready(ctx, who, envelopes, results, m)
	for k, r := range n.appendBatch(ctx, who.Party, subs) {
		results[lines[k]] = recorded(r)
	}
	return results
}

// postOne is Post of one statement: it has a place of its party from the first look at it
// until it is durable.
func (n *Node) postOne(ctx context.Context, who api.Caller, envelopes [][]byte, m api.Meter) []api.Result {
	results := make([]api.Result, 1)
	if _, err := n.places.enter(ctx, who.Party, 1); err != nil {
		refuseAll(results, err)
		return results
	}
	leave := func() { n.places.leave(who.Party, 1) }
	handed := false
	defer func() {
		if !handed {
			leave()
		}
	}()
	subs, _ := n.ready(ctx, who, envelopes, results, m)
	if len(subs) == 0 {
		return results
	}
	handed = true
	results[0] = recorded(n.ledger.AppendThen(ctx, subs, leave)[0])
	return results
}

// appendBatch hands a batch to the ledger in order: in pieces, as its party has places. A piece
// goes when the one before it is durable; nobody waits meanwhile for what is cosigned.
func (n *Node) appendBatch(ctx context.Context, party string, subs []ledger.Submission) []ledger.Result {
	results := make([]ledger.Result, len(subs))
	var pieces sync.WaitGroup
	for from := 0; from < len(subs); {
		got, err := n.places.enter(ctx, party, len(subs)-from)
		if err != nil {
			for i := from; i < len(subs); i++ {
				results[i] = ledger.Result{ID: subs[i].ID, Err: err}
			}
			break
		}
		first, durable := from, make(chan struct{})
		from += got
		pieces.Go(func() {
			copy(results[first:], n.ledger.AppendThen(ctx, subs[first:first+got], func() {
				n.places.leave(party, got)
				close(durable)
			}))
		})
		select {
		case <-durable:
		case <-ctx.Done():
		}
	}
	pieces.Wait()
	return results
}

// ready reads and verifies envelopes; it returns what of them the ledger may be handed, and
// which line each is. results say what is wrong with the others.
func (n *Node) ready(ctx context.Context, who api.Caller, envelopes [][]byte, results []api.Result, m api.Meter) (subs []ledger.Submission, lines []int) {
	items, keys := n.prepare(ctx, who.Party, envelopes, results, m)
	for i, p := range items {
		if p == nil {
			continue
		}
		if err := n.mayPost(who, p.signed, keys); err != nil {
			results[i].Err = err
			continue
		}
		if err := n.foresee(ctx, who.Party, p); err != nil {
			results[i].Err = err
			continue
		}
		lines = append(lines, i)
		subs = append(subs, p.submission())
	}
	return subs, lines
}

// foreseeFrom is how many members are looked at here first.
const foreseeFrom = 256

// foresee looks at the members of a large manifest as the sequencer will, but holds
// only this caller up: what is refused then costs the sequencer next to nothing.
func (n *Node) foresee(ctx context.Context, party string, p *prepared) error {
	if len(p.members) < foreseeFrom {
		return nil
	}
	return n.turns.do(ctx, party, len(p.members)/memberUnit, func() {
		p.foreseen = custody.Foresee(committed{n.ledger}, custody.Item{
			Index: math.MaxInt64, Time: uint64(max(n.cfg.Clock().UnixMilli(), 0)), Signed: p.signed, Members: p.members})
	})
}

func (p *prepared) submission() ledger.Submission {
	s := ledger.Submission{ID: p.signed.Statement.ID, Envelope: p.signed.Bytes, Parsed: p}
	if c := p.signed.Statement.Contents(); c != nil {
		s.Manifest, _ = entry.ParseHash(c.Manifest) // Parse has checked it
	}
	return s
}

// chunk is how many envelopes one goroutine verifies as one batch.
const chunk = 64

// prepare reads and verifies envelopes, when it is the party's turn; element i is nil
// when results[i].Err says why.
func (n *Node) prepare(ctx context.Context, party string, envelopes [][]byte, results []api.Result, m api.Meter) ([]*prepared, keyLookup) {
	n.coming.Add(1)
	defer n.coming.Add(-1)
	items := make([]*prepared, len(envelopes))
	parsed := make([]custody.DSSE, len(envelopes))
	c := &cashier{n: n, ctx: ctx, meter: absent{m, n}, manifests: once(parsedManifests(n.ledger.Manifest))}
	if err := c.envelopes(envelopes); err != nil {
		return items, refuseAll(results, err)
	}
	keys := keyLookup{state: custody.StateKeys{State: committed{n.ledger}}, introduced: custody.Keys{}, party: map[entry.Hash]string{}}
	parse := func(from, to int) {
		for i := from; i < to; i++ {
			parsed[i], results[i].Err = custody.ParseDSSE(envelopes[i])
		}
		keys.introduce(parsed[from:to])
	}
	inTurn := *c
	inTurn.meter = resting{c.meter, n.turns, party}
	verify := func(from, to int) { inTurn.verify(parsed[from:to], items[from:to], results[from:to], keys) }
	var err error
	if len(envelopes) == 1 {
		o := &opening{envelope: envelopes[0], keys: keys}
		if err := n.turns.share(ctx, party, work(envelopes), o); err != nil {
			return items, refuseAll(results, err)
		}
		if !errors.Is(o.err, errSpecial) {
			if results[0].Err = o.err; o.err == nil {
				items[0] = &prepared{signed: o.signed}
			}
			return items, keys
		}
	}
	if len(envelopes) <= chunk { // a goroutine's new stack would cost more
		err = n.turns.do(ctx, party, work(envelopes), func() {
			parse(0, len(envelopes))
			verify(0, len(envelopes))
		})
	} else {
		err = n.inChunks(ctx, party, envelopes, parse, verify)
	}
	if err != nil {
		return make([]*prepared, len(envelopes)), refuseAll(results, err)
	}
	c.namedBefore(items, results)
	for _, p := range items {
		if p == nil {
			continue
		}
		for _, k := range p.signed.Statement.IntroducedKeys() {
			keys.party[k.Hash] = p.signed.Statement.Subject
		}
	}
	return items, keys
}

// inChunks parses a long call chunk by chunk, and then verifies as many chunks at once as
// there are processors; each when it is the party's turn.
func (n *Node) inChunks(ctx context.Context, party string, envelopes [][]byte, parse, verify func(from, to int)) error {
	turn := func(from int, do func(from, to int)) error {
		to := min(from+chunk, len(envelopes))
		return n.turns.do(ctx, party, work(envelopes[from:to]), func() { do(from, to) })
	}
	for from := 0; from < len(envelopes); from += chunk {
		if err := turn(from, parse); err != nil {
			return err
		}
	}
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for from := 0; from < len(envelopes); from += chunk {
		g.Go(func() error { return turn(from, verify) })
	}
	return g.Wait()
}

// work is what envelopes count for when turns are given.
func work(envelopes [][]byte) int {
	n := len(envelopes)
	for _, b := range envelopes {
		n += len(b) / envelopeUnit
	}
	return n
}

func refuseAll(results []api.Result, err error) keyLookup {
	for i := range results {
		results[i].Err = err
	}
	return keyLookup{}
}

// introduce finds the keys that statements bring with them. Keys are found by their own
// hash, so this decides only which bytes to verify with; whether a key may act is the
// door's question.
func (l keyLookup) introduce(ds []custody.DSSE) {
	for _, d := range ds {
		if !mayIntroduceKeys(d.Payload) {
			continue
		}
		st, err := custody.Parse(d.Payload)
		if err != nil {
			continue // refused with its reason when its turn comes
		}
		for _, k := range st.IntroducedKeys() {
			l.introduced[k.Hash] = k
		}
	}
}

// keyLookup finds keys in the ledger's state and among those that the statements of the
// same call introduce.
type keyLookup struct {
	state      custody.StateKeys
	introduced custody.Keys
	// party is who introduced keys are for. Only statements whose signatures were
	// verified say so, that of the very key among them: else anybody could claim a
	// foreign key and post what others signed.
	party map[entry.Hash]string
}

func (l keyLookup) Key(h entry.Hash) (custody.Key, bool) {
	if k, ok := l.introduced[h]; ok {
		return k, true
	}
	return l.state.Key(h)
}

// committed reads the application's committed state; it is read-only.
type committed struct{ ledger *ledger.Ledger }

func (c committed) Get(key string) []byte {
	b, err := c.ledger.AppState(key)
	if err != nil {
		return nil // a key that cannot be read is an unknown key
	}
	return b
}

func (committed) Set(string, []byte) { panic("node: the committed state is read-only") }

// mayPost holds the caller to what it signed: its party must be one that signed,
// and an administrator may also bring what the authorities signed.
func (n *Node) mayPost(who api.Caller, s *custody.Signed, keys keyLookup) error {
	if who.Has(api.ScopeAdmin) {
		return nil
	}
	parties := n.signers(s, keys)
	if slices.Contains(parties, who.Party) {
		return nil
	}
	return problem.New("signer_mismatch", "", "the token is for %s, which did not sign this statement", who.Party).
		WithHint("use the token of the party that signed")
}

// signers returns the parties whose keys signed: enrolled ones, and those that a
// statement of the same call enrols. The sequencer judges what the keys may do; this
// only keeps callers from posting for others.
func (n *Node) signers(s *custody.Signed, keys keyLookup) []string {
	var parties []string
	for _, k := range s.Keys {
		if p, ok := keys.party[k.Hash]; ok {
			parties = append(parties, p)
		}
		if ks, ok := custody.LoadKey(committed{n.ledger}, k.Hash); ok {
			parties = append(parties, ks.Party)
		}
	}
	return parties
}

func recorded(r ledger.Result) api.Result {
	if r.Err != nil {
		return api.Result{Err: asProblem(r.Err)}
	}
	return api.Result{Recorded: api.Recorded{
		ID: r.ID, Index: r.Index, Time: r.Time, Effect: r.Effect,
		Envelope: r.Envelope, Receipt: r.Receipt, Repeat: r.Repeat, Pending: r.Pending,
	}}
}

// asProblem turns the ledger's errors into what callers are told.
func asProblem(err error) error {
	switch {
	case err == nil || problem.As(err) != nil:
		return err
	case errors.Is(err, ledger.ErrNotFound):
		return problem.New("not_found", "", "there is no such thing in this ledger")
	case errors.Is(err, ledger.ErrNotPublished):
		return problem.New("not_ready", "", "it is recorded, but not in a published checkpoint yet").WithHint("ask again in a moment")
	case errors.Is(err, ledger.ErrOverloaded):
		return problem.New("overloaded", "", "too much is in flight").WithHint("try again a little later")
	case errors.Is(err, ledger.ErrUnused):
		return problem.New("unused_manifests", "", "too many uploaded manifests wait for a statement that names them").
			WithHint("post the statements that name them; others are removed after %d days", int(ledger.UnusedAge.Hours()/24))
	case errors.Is(err, ledger.ErrStorageFull):
		return problem.New("storage_full", "", "the disk is below its watermark; reads go on")
	case errors.Is(err, ledger.ErrReplica):
		return problem.New("not_signing", "", "this node only serves reads").WithHint("post to the node that signs")
	case errors.Is(err, ledger.ErrFailed), errors.Is(err, ledger.ErrClosed):
		return problem.New("not_signing", "", "the ledger has stopped taking statements").WithHint("submit again once it is back: nothing that was acknowledged is lost")
	}
	return fmt.Errorf("ledger: %w", err)
}

// mayIntroduceKeys is a cheap look for predicates that bring keys with them.
func mayIntroduceKeys(payload []byte) bool {
	for _, k := range introducing {
		if bytes.Contains(payload, k) {
			return true
		}
	}
	return false
}

// introducing are the predicate types that bring keys.
var introducing = [][]byte{
	[]byte(custody.KindCharter.PredicateType()), []byte(custody.KindAuthority.PredicateType()),
	[]byte(custody.KindParty.PredicateType()), []byte(custody.KindKey.PredicateType()),
}
