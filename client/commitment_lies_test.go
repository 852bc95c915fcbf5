package client

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer"
	"fabtrail.dev/fabtrail/custody/answer/answertest"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
)

// lists are the lists of a log by topic's hash.
type lists = map[entry.Hash][]unitindex.Ref

// crime is what the operator of the tale commits to at one publication, and at those after
// it, instead of the truth.
type crime struct {
	from, to uint64       // the entries that this commitment is the first to cover
	fresh    []entry.Hash // the topics that they are listed under, in order
	falsify  func(lists)
	topics   []entry.Hash // those with a false list
}

// A commitmentLie makes a crime of the true lists. To add one, add a row to commitmentLies. It
// returns false when it does not fit the publication.
type commitmentLie struct {
	name    string
	offline bool // it can be told from the entries alone
	commit  func(rnd *rand.Rand, w *answertest.World, c *crime) bool
}

// change replaces the list of one topic at the publication and all after it.
func (c *crime) change(topic entry.Hash, fn func(refs []unitindex.Ref) []unitindex.Ref) {
	c.topics = append(c.topics, topic)
	c.also(func(l lists) {
		if refs := fn(slices.Clone(l[topic])); len(refs) > 0 {
			l[topic] = refs
		} else {
			delete(l, topic)
		}
	})
}

func (c *crime) also(fn func(lists)) {
	before := c.falsify
	c.falsify = func(l lists) {
		if before != nil {
			before(l)
		}
		fn(l)
	}
}

// hide leaves entries out of all lists.
func (c *crime) hide(w *answertest.World, hidden ...uint64) bool {
	for topic, refs := range w.Refs {
		if slices.ContainsFunc(refs, func(r unitindex.Ref) bool { return slices.Contains(hidden, r.Index) }) {
			c.change(topic, func(refs []unitindex.Ref) []unitindex.Ref {
				return slices.DeleteFunc(refs, func(r unitindex.Ref) bool { return slices.Contains(hidden, r.Index) })
			})
		}
	}
	return len(c.topics) > 0
}

// among picks one of the entries that the commitment is the first to cover.
func (c *crime) among(rnd *rand.Rand) uint64 { return c.from + rnd.Uint64N(c.to-c.from) }

func byHash(a, b entry.Hash) int { return bytes.Compare(a[:], b[:]) }

func pick[T any](rnd *rand.Rand, s []T) T { return s[rnd.IntN(len(s))] }

// old picks a topic that was listed before, and not since.
func (c *crime) old(rnd *rand.Rand, w *answertest.World) (entry.Hash, bool) {
	var old []entry.Hash
	for topic, refs := range w.Refs {
		if refs[0].Index < c.from && !slices.ContainsFunc(refs, func(r unitindex.Ref) bool { return c.from <= r.Index && r.Index < c.to }) {
			old = append(old, topic)
		}
	}
	if len(old) == 0 {
		return entry.Hash{}, false
	}
	slices.SortFunc(old, byHash)
	return pick(rnd, old), true
}

// at is where an entry stands in a list.
func at(refs []unitindex.Ref, n uint64) int {
	return slices.IndexFunc(refs, func(r unitindex.Ref) bool { return r.Index == n })
}

// entryOf picks an entry that the commitment is the first to cover, and a topic that lists it.
func (c *crime) entryOf(rnd *rand.Rand, w *answertest.World) (uint64, entry.Hash) {
	topic := pick(rnd, c.fresh)
	var own []uint64
	for _, r := range w.Refs[topic] {
		if c.from <= r.Index && r.Index < c.to {
			own = append(own, r.Index)
		}
	}
	return pick(rnd, own), topic
}

var commitmentLies = []commitmentLie{
	{"hidden-from-all-topics", true, func(rnd *rand.Rand, w *answertest.World, c *crime) bool { return c.hide(w, c.among(rnd)) }},
	{"hidden-from-one-topic", true, func(rnd *rand.Rand, w *answertest.World, c *crime) bool {
		n, topic := c.entryOf(rnd, w)
		c.change(topic, func(refs []unitindex.Ref) []unitindex.Ref { return slices.Delete(refs, at(refs, n), at(refs, n)+1) })
		return true
	}},
	{"hidden-from-several-topics", true, func(rnd *rand.Rand, w *answertest.World, c *crime) bool {
		n := c.among(rnd)
		var own []entry.Hash
		for topic, refs := range w.Refs {
			if at(refs, n) >= 0 {
				own = append(own, topic)
			}
		}
		slices.SortFunc(own, byHash)
		if len(own) < 3 {
			return false
		}
		rnd.Shuffle(len(own), func(i, j int) { own[i], own[j] = own[j], own[i] })
		for _, topic := range own[:2+rnd.IntN(len(own)-2)] {
			c.change(topic, func(refs []unitindex.Ref) []unitindex.Ref { return slices.Delete(refs, at(refs, n), at(refs, n)+1) })
		}
		return true
	}},
	{"two-hidden", true, func(rnd *rand.Rand, w *answertest.World, c *crime) bool {
		return c.hide(w, c.among(rnd), c.among(rnd))
	}},
	{"several-hidden", false, func(rnd *rand.Rand, w *answertest.World, c *crime) bool {
		return c.hide(w, c.among(rnd), c.among(rnd), c.among(rnd), c.among(rnd))
	}},
	{"all-of-a-topic-hidden", true, func(rnd *rand.Rand, w *answertest.World, c *crime) bool {
		_, topic := c.entryOf(rnd, w)
		var hidden []uint64
		for _, r := range w.Refs[topic] {
			if c.from <= r.Index && r.Index < c.to {
				hidden = append(hidden, r.Index)
			}
		}
		return c.hide(w, hidden...)
	}},
	{"last-hidden", true, func(rnd *rand.Rand, w *answertest.World, c *crime) bool {
		var hidden []uint64
		for n := c.among(rnd); n < c.to; n++ {
			hidden = append(hidden, n)
		}
		return c.hide(w, hidden...)
	}},
	{"stale-root", true, func(_ *rand.Rand, w *answertest.World, c *crime) bool {
		for _, topic := range c.fresh {
			c.change(topic, func(refs []unitindex.Ref) []unitindex.Ref {
				return slices.DeleteFunc(refs, func(r unitindex.Ref) bool { return r.Index >= c.from })
			})
		}
		return true
	}},
	{"old-entry-hidden", false, func(rnd *rand.Rand, w *answertest.World, c *crime) bool {
		topic, ok := c.old(rnd, w)
		return ok && c.hide(w, w.Refs[topic][0].Index)
	}},
	{"foreign-entry-in-a-fresh-list", true, func(rnd *rand.Rand, w *answertest.World, c *crime) bool {
		n, topic := c.among(rnd), pick(rnd, c.fresh)
		if at(w.Refs[topic], n) >= 0 || w.Entries[n].Class == entry.Index {
			return false
		}
		c.change(topic, func(refs []unitindex.Ref) []unitindex.Ref {
			i, _ := slices.BinarySearchFunc(refs, n, func(r unitindex.Ref, n uint64) int { return int(r.Index) - int(n) })
			return slices.Insert(refs, i, unitindex.Ref{Index: n, Leaf: w.Tree[n]})
		})
		return true
	}},
	{"foreign-entry-in-an-old-list", false, func(rnd *rand.Rand, w *answertest.World, c *crime) bool {
		topic, ok := c.old(rnd, w)
		if !ok {
			return false
		}
		n := c.among(rnd)
		c.change(topic, func(refs []unitindex.Ref) []unitindex.Ref {
			return append(refs, unitindex.Ref{Index: n, Leaf: w.Tree[n]})
		})
		return true
	}},
	{"duplicated", true, func(rnd *rand.Rand, w *answertest.World, c *crime) bool {
		n, topic := c.entryOf(rnd, w)
		c.change(topic, func(refs []unitindex.Ref) []unitindex.Ref {
			i := at(refs, n)
			return slices.Insert(refs, i, refs[i])
		})
		return true
	}},
	{"reordered", true, func(rnd *rand.Rand, w *answertest.World, c *crime) bool {
		topic := pick(rnd, c.fresh)
		i := slices.IndexFunc(w.Refs[topic], func(r unitindex.Ref) bool { return r.Index >= c.from })
		j := slices.IndexFunc(w.Refs[topic], func(r unitindex.Ref) bool { return r.Index >= c.to })
		if j < 0 {
			j = len(w.Refs[topic])
		}
		if j-i < 2 {
			return false
		}
		c.change(topic, func(refs []unitindex.Ref) []unitindex.Ref {
			refs[i], refs[i+1] = refs[i+1], refs[i]
			return refs
		})
		return true
	}},
	{"reordered-with-an-old-one", false, func(rnd *rand.Rand, w *answertest.World, c *crime) bool {
		topic := pick(rnd, c.fresh)
		i := slices.IndexFunc(w.Refs[topic], func(r unitindex.Ref) bool { return r.Index >= c.from })
		if i == 0 {
			return false
		}
		c.change(topic, func(refs []unitindex.Ref) []unitindex.Ref {
			refs[0], refs[i] = refs[i], refs[0]
			return refs
		})
		return true
	}},
	{"leaf-of-another-entry", true, func(rnd *rand.Rand, w *answertest.World, c *crime) bool {
		n, topic := c.entryOf(rnd, w)
		m := c.among(rnd)
		if at(w.Refs[topic], m) >= 0 {
			return false
		}
		c.change(topic, func(refs []unitindex.Ref) []unitindex.Ref { refs[at(refs, n)].Leaf = w.Tree[m]; return refs })
		return true
	}},
	{"leaf-of-nothing", false, func(rnd *rand.Rand, w *answertest.World, c *crime) bool {
		n, topic := c.entryOf(rnd, w)
		c.change(topic, func(refs []unitindex.Ref) []unitindex.Ref { refs[at(refs, n)].Leaf[5] ^= 4; return refs })
		return true
	}},
	{"another-topics-list", true, func(rnd *rand.Rand, w *answertest.World, c *crime) bool {
		topic, other := pick(rnd, c.fresh), pick(rnd, c.fresh)
		if slices.Equal(w.Refs[topic], w.Refs[other]) {
			return false
		}
		c.topics = []entry.Hash{topic}
		c.also(func(l lists) { l[topic] = l[other] })
		return true
	}},
	{"old-topics-list", false, func(rnd *rand.Rand, w *answertest.World, c *crime) bool {
		topic, ok := c.old(rnd, w)
		if !ok {
			return false
		}
		c.topics = []entry.Hash{topic}
		c.also(func(l lists) { l[topic] = l[c.fresh[0]] })
		return true
	}},
	{"forged-absence", true, func(rnd *rand.Rand, _ *answertest.World, c *crime) bool {
		c.change(pick(rnd, c.fresh), func([]unitindex.Ref) []unitindex.Ref { return nil })
		return true
	}},
	{"forged-absence-of-an-old-topic", false, func(rnd *rand.Rand, w *answertest.World, c *crime) bool {
		topic, ok := c.old(rnd, w)
		c.change(topic, func([]unitindex.Ref) []unitindex.Ref { return nil })
		return ok
	}},
	{"empty-index", true, func(_ *rand.Rand, w *answertest.World, c *crime) bool {
		for topic := range w.Refs {
			c.topics = append(c.topics, topic)
		}
		c.falsify = func(l lists) { clear(l) }
		return true
	}},
}

// plan makes a lie about a publication of a tale that was told.
func (l commitmentLie) plan(rnd *rand.Rand, honest *answertest.World) *crime {
	var ends []uint64
	for i, e := range honest.Entries {
		if e.Class == entry.Index {
			ends = append(ends, uint64(i))
		}
	}
	for range 500 {
		i := rnd.IntN(len(ends))
		c := &crime{to: ends[i]}
		if i > 0 {
			c.from = ends[i-1] + 1
		}
		for n := c.from; n < c.to; n++ {
			for topic, refs := range honest.Refs {
				if at(refs, n) >= 0 && !slices.Contains(c.fresh, topic) {
					c.fresh = append(c.fresh, topic)
				}
			}
		}
		slices.SortFunc(c.fresh, byHash)
		if l.commit(rnd, honest, c) {
			return c
		}
	}
	return nil
}

// told is the tale with the crime in it.
func (c *crime) told(t testing.TB) *answertest.World {
	log := answertest.NewLog(t)
	log.Falsify = func(l lists) {
		if n := uint64(len(log.Entries)); n >= c.to {
			c.falsify(l)
		}
	}
	log.Honest = false
	return taleOn(log)
}

// False commitments of the log itself, with ordinary witnesses behind them: no verdict is
// better than verified-note or called complete, whether the client knows of index witnesses
// or not, and an audit names the first false commitment and a topic that it is wrong about.
func TestFalseCommitments(t *testing.T) {
	honest := tale(t)
	serials := make([]string, 0, len(taleVerdicts))
	for s := range taleVerdicts {
		serials = append(serials, s)
	}
	slices.Sort(serials)
	lied, verdicts, alone, asked, questions := 0, 0, 0, 0, 0
	for i, l := range commitmentLies {
		if raceFactor > 1 && i%3 > 0 {
			continue // telling and replaying a tale is nearly all curve arithmetic
		}
		t.Run(l.name, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(*lieSeed, uint64(i)))
			for range max(1, *lieTries/1000) {
				c := l.plan(rnd, honest)
				if c == nil {
					t.Fatal("it never fits")
				}
				w := c.told(t)
				for j, serial := range serials {
					if j%raceFactor == i%raceFactor {
						verdicts += harmedBy(t, w, serial)
					}
				}
				_, err := replayed(w, ReplayConfig{})
				lied++
				if c.check(t, err, l.offline) {
					alone++
				}
				f := newFake(t, w)
				_, _, err = trustOf(t, w.Log).AuditLedger(t.Context(), f.remote(t, Options{}), ReplayConfig{})
				c.check(t, err, true)
				if n := f.calls["GET /v1/units/{uri}"]; n > 0 {
					asked, questions = asked+1, questions+n
				}
			}
		})
	}
	t.Logf("%d false commitments, of %d kinds at most, each named with a topic, %d from the entries alone and %d by %d questions; %d verdicts under them",
		lied, len(commitmentLies), alone, asked, questions, verdicts)
}

// judgedUnder is the verdict of a fresh client about a unit, from the published view. An
// ordinary one knows of no index witness.
func judgedUnder(t *testing.T, w *answertest.World, serial string, ordinary bool) (*Report, error) {
	t.Helper()
	a, _, err := answer.Assemble(w.View(), w.Unit(serial), answer.Options{Lanes: all})
	if err != nil {
		return nil, err
	}
	b, err := a.Marshal()
	if err != nil {
		return nil, err
	}
	v := verifier(t, w.Log, nil)
	if ordinary {
		v.Trust = ordinaryTrust(t, w.Log)
	}
	return v.VerifyAnswer(t.Context(), w.Unit(serial), b), nil
}

// ordinaryTrust is the trust folder of a client that knows of no index witness.
func ordinaryTrust(t testing.TB, l *answertest.Log) *Trust {
	t.Helper()
	files := l.Trust()
	delete(files, IndexFile)
	trust, err := ParseTrust(files)
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// harmedBy fails the test if a verdict rests on the word of the operator and does not say so. It
// returns how many there are.
func harmedBy(t *testing.T, w *answertest.World, serial string) (verdicts int) {
	t.Helper()
	for _, ordinary := range []bool{false, true} {
		r, err := judgedUnder(t, w, serial, ordinary)
		if err != nil {
			continue // the log cannot even make an answer of it
		}
		verdicts++
		if r.Word == custody.Verified || r.Complete {
			t.Errorf("%s is %s, complete %t", serial, r.Word, r.Complete)
		}
		if r.Claim != "" && !strings.Contains(r.Claim, "operator's word") {
			t.Errorf("%s claims %q", serial, r.Claim)
		}
	}
	return verdicts
}

// check holds what an audit says to what was done, and reports whether it names a topic.
func (c *crime) check(t *testing.T, err error, named bool) bool {
	t.Helper()
	var d *Divergence
	if !errors.As(err, &d) || d.What != DivergeCommitment || d.Index != c.to {
		t.Fatalf("%v; entry %d commits to a false index", err, c.to)
	}
	if d.Topic == nil {
		if named || len(d.Touched) == 0 {
			t.Errorf("no topic is named: %v", d)
		}
		return false
	}
	if d.Topics[0] != *d.Topic {
		t.Errorf("topic %s, and topics %v", d.Topic, d.Topics)
	}
	for _, topic := range d.Topics {
		if !slices.Contains(c.topics, topic.Hash()) {
			t.Errorf("%s is named, and has its true list: %v", topic, d)
		}
	}
	if len(d.Topics) != min(len(c.topics), maxNamed) && !strings.Contains(d.Detail, "index without topics") {
		t.Errorf("%d topics are named, %d have false lists: %v", len(d.Topics), len(c.topics), d)
	}
	return true
}
