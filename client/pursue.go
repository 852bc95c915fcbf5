package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"slices"
	"strconv"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
)

// A pursuit finds the topics that a false index commitment is wrong about with the
// ledger's own proofs. Each proof shows, beside its topic, a hash for every other part of
// the claimed index; where that is not the hash of the same part of the true one, the next
// question is about a topic in that part, until a list is left. Servers answer at the size that
// they publish, so the replay goes on up to there, false commitments notwithstanding. Asked
// is always about units that nobody made, which needs no right to see anything.
type pursuit struct {
	trust  *Trust
	remote *Remote
	log    LogReader
	replay *Replayer
	d      *Divergence

	recent []entry.Hash // the topics listed since the last true commitment, in their order
	parts  []unitindex.Difference
	asked  int
	found  []falseList
}

// falseList is a topic that was proved to have another list than the true one.
type falseList struct {
	topic entry.Hash
	value entry.Hash // as proved; zero: proved to be absent
}

// Bounds of a pursuit. aimBits is how much of a topic's hash a question tries for, and
// maxAimBits how much it may have to: each bit more takes twice as many tries, of some
// 0.1 µs.
const (
	maxAsked   = 256
	aimBits    = 16
	maxAimBits = 30
)

func newPursuit(t *Trust, remote *Remote, log LogReader, r *Replayer, d *Divergence) *pursuit {
	p := &pursuit{trust: t, remote: remote, log: log, replay: r, d: d, parts: make([]unitindex.Difference, 1)}
	for _, topic := range r.recent.topics {
		p.recent = append(p.recent, topic.Hash())
	}
	return p
}

// run adds to the divergence what can be found out.
func (p *pursuit) run(ctx context.Context) {
	r := p.replay
	r.failed, r.lenient = nil, true
	r.cfg.Tile = func(entry.TilePath, []byte) error { return nil } // the root is checked
	r.cfg.Effect, r.cfg.Finding = nil, nil
	err := p.walk(ctx)
	if len(p.found) > 0 {
		if nerr := p.name(ctx); nerr != nil {
			err = errors.Join(err, nerr)
		}
	}
	if err != nil {
		p.d.Detail += fmt.Sprintf("; the ledger does not prove what it committed to: %v", err)
	}
	r.failed = p.d
}

// walk goes into the parts that differ, those with a recent topic first.
func (p *pursuit) walk(ctx context.Context) error {
	for len(p.parts) > 0 && len(p.found) < maxNamed {
		at, aim, n := p.next()
		d := p.parts[at]
		p.parts = slices.Delete(p.parts, at, at+1)
		if d.Gone {
			if err := p.gone(d); err != nil {
				return err
			}
			continue
		}
		if p.asked++; p.asked > maxAsked {
			return fmt.Errorf("%d questions were not enough", maxAsked)
		}
		topic, proof, err := p.look(ctx, aim, n)
		if err != nil {
			return fmt.Errorf("asked about topics of hash %x/%d: %w", aim[:(n+7)/8], n, err)
		}
		if err := p.compare(d, topic, proof); err != nil {
			return err
		}
	}
	return nil
}

// next picks a part, and the beginning of a topic's hash in it to ask about.
func (p *pursuit) next() (at int, aim entry.Hash, n int) {
	n = min(aimBits, bits.Len64(p.replay.index.Tree().Len())+2)
	for _, topic := range p.recent {
		for i, d := range p.parts {
			if d.Holds(topic) {
				return i, topic, max(n, d.Bits)
			}
		}
	}
	return 0, p.parts[0].Prefix, p.parts[0].Bits
}

// gone notes topics of which the claimed index has none.
func (p *pursuit) gone(d unitindex.Difference) error {
	stop := errors.New("enough")
	err := p.replay.index.Scan(d.Prefix, d.Bits, func(topic, _ entry.Hash) error {
		if len(p.found) >= maxNamed {
			return stop
		}
		p.found = append(p.found, falseList{topic: topic})
		return nil
	})
	if errors.Is(err, stop) {
		return nil
	}
	return err
}

// compare notes where the proof of a topic in part d shows something else than the true
// index has.
func (p *pursuit) compare(d unitindex.Difference, topic entry.Hash, proof unitindex.Proof) error {
	index := p.replay.index
	all, err := index.Tree().Compare(index, topic, proof)
	if err != nil {
		return err
	}
	n := len(p.parts) + len(p.found)
	for _, x := range all {
		switch {
		case x.Bits < d.Bits || !d.Holds(x.Prefix): // another part, which is noted already
		case x.Bits == 8*len(x.Prefix) && !x.Gone && slices.Contains([]entry.Hash{topic, proof.Neighbour}, x.Prefix):
			p.found = append(p.found, falseList{x.Prefix, proof.Value})
		case x.Bits > maxAimBits && !x.Gone:
			return fmt.Errorf("topics agree in %d bits", x.Bits-1)
		default:
			p.parts = append(p.parts, x)
		}
	}
	if len(p.parts)+len(p.found) == n {
		return errors.New("its proofs contradict each other: the index is not made as it must be")
	}
	return nil
}

// look asks about a topic whose hash begins with n bits of aim. The proof holds under the
// ledger's last commitment, up to which the entries are replayed then.
func (p *pursuit) look(ctx context.Context, aim entry.Hash, n int) (topic entry.Hash, proof unitindex.Proof, err error) {
	uri := unitUnder(aim, n)
	t := entry.Topic{Kind: entry.TopicUnit, Value: uri}
	topic = t.Hash()
	for try := 1; ; try++ {
		b, err := p.remote.unitAnswer(ctx, uri, "", "", answer.MaxSize)
		if err != nil {
			return topic, proof, err
		}
		a, err := answer.Parse(b)
		if err != nil {
			return topic, proof, err
		}
		behind, err := p.catchUp(ctx, []byte(a.Checkpoint))
		if behind && try < staleRetries && p.remote.opt.Sleep(ctx, backoff(try, 0)) == nil {
			continue
		}
		if err != nil {
			return topic, proof, err
		}
		proof, err = proofIn(a, t, p.replay.claimed)
		return topic, proof, err
	}
}

// catchUp replays up to a checkpoint that the ledger shows.
func (p *pursuit) catchUp(ctx context.Context, note []byte) (behind bool, err error) {
	r := p.replay
	seen, err := p.trust.VerifyNote(note)
	if err != nil {
		return false, fmt.Errorf("checkpoint: %w", err)
	}
	if seen.Size < r.Size() {
		return true, fmt.Errorf("it answers at size %d, though it has shown entry %d", seen.Size, r.Size()-1)
	}
	if err := r.Follow(ctx, p.log, seen.Size); err != nil {
		return false, err
	}
	if err := r.Check(seen.Checkpoint); err != nil {
		return false, err
	}
	if root := r.index.Tree().Root(); root == r.claimed {
		return false, fmt.Errorf("its commitment at entry %d is true again, and it answers under that", seen.Size-1)
	}
	return false, nil
}

// proofIn finds what an answer proves about a topic.
func proofIn(a *answer.Answer, t entry.Topic, root entry.Hash) (unitindex.Proof, error) {
	i := slices.IndexFunc(a.Topics, func(x answer.Topic) bool { return x.Kind == t.Kind && x.Value == t.Value })
	if i < 0 {
		return unitindex.Proof{}, fmt.Errorf("the answer proves nothing about %s", t)
	}
	proof, err := unitindex.ParseProof(a.Topics[i].Proof)
	if err == nil {
		_, _, err = unitindex.Verify(root, t.Hash(), proof)
	}
	if err != nil {
		return proof, fmt.Errorf("the answer does not hold under its own commitment, of root %s: %w", root, err)
	}
	return proof, nil
}

// unitUnder is the URI of a unit whose topic's hash begins with n bits of prefix. It is of
// GS1's own example GTIN.
func unitUnder(prefix entry.Hash, n int) string {
	want := unitindex.Difference{Prefix: prefix, Bits: n}
	for i := 0; ; i++ {
		uri := "https://id.gs1.org/01/09506000134352/21/NONE-" + strconv.Itoa(i)
		if want.Holds((entry.Topic{Kind: entry.TopicUnit, Value: uri}).Hash()) {
			return uri
		}
	}
}

// name puts the topics that were found into the divergence: first those that are recent, in
// their order, then others as they come in the log.
func (p *pursuit) name(ctx context.Context) error {
	names := map[entry.Hash]entry.Topic{}
	for _, f := range p.found {
		names[f.topic] = entry.Topic{}
	}
	var order []entry.Topic
	values := map[entry.Topic]entry.Hash{}
	note := func(t entry.Topic) {
		if was, ok := names[t.Hash()]; ok && was == (entry.Topic{}) {
			names[t.Hash()] = t
			order = append(order, t)
		}
	}
	for _, t := range p.replay.recent.topics {
		note(t)
	}
	var err error
	if len(order) < len(names) {
		err = p.topics(ctx, func(t entry.Topic) bool { note(t); return len(order) < len(names) })
	}
	for _, f := range p.found {
		t := names[f.topic]
		if values[t] = f.value; t == (entry.Topic{}) && err == nil {
			p.d.Detail += fmt.Sprintf("; the ledger proves a list for topic hash %s, under which no entry is", f.topic)
		}
	}
	if len(order) == 0 {
		return err
	}
	p.d.name(order...)
	p.d.Touched = nil
	p.d.Detail += fmt.Sprintf("; asked at size %d, the ledger proves %s for %s", p.replay.Size(), p.instead(order[0], values[order[0]]), order[0])
	if n := len(order) - 1; n > 0 {
		p.d.Detail += fmt.Sprintf(", and false ones for %s", plural(n, "other topic"))
	}
	return err
}

// instead says what is proved instead of a topic's true list.
func (p *pursuit) instead(t entry.Topic, value entry.Hash) string {
	if value.IsZero() {
		return "that there is no list"
	}
	l := p.replay.recent.lists[t]
	if l == nil {
		whole, _ := p.replay.index.List(t.Hash())
		l = &grownList{before: whole}
	}
	for _, lists := range []iter.Seq2[unitindex.List, string]{l.near(), l.far(p.replay.recent.entries)} {
		n := 0
		for guess, says := range lists {
			if guess.Count() > 0 && guess.Value() == value {
				return "the list " + says
			}
			if n++; n > maxGuessed {
				break
			}
		}
	}
	return "another list"
}

// errEnough ends a reading of the log.
var errEnough = errors.New("enough")

// topics calls fn for the topics of the entries replayed, as they come, until it returns
// false.
func (p *pursuit) topics(ctx context.Context, fn func(entry.Topic) bool) error {
	r := p.replay
	err := p.log.Entries(ctx, 0, r.Size(), func(line EntryLine) error {
		e, err := parseLine(line)
		if err != nil || e.Class == entry.Index {
			return err
		}
		env, err := entry.ParseEnvelope(e.Envelope)
		if err != nil {
			return nil // as when it was replayed: it has no topics
		}
		st, err := custody.Parse(env.Payload)
		if err != nil {
			return nil
		}
		it := custody.Item{Index: line.Index, Time: e.Time, Signed: &custody.Signed{Statement: st, Envelope: env, Bytes: e.Envelope}}
		if it.Members, err = r.members(line.Index, st, line.Manifest); err != nil {
			return err
		}
		for _, t := range custody.Topics(r.cfg.State, it) {
			if !fn(t) {
				return errEnough
			}
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}
