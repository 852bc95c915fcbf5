package client

import (
	"flag"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer"
	"fabtrail.dev/fabtrail/custody/answer/answertest"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
)

var (
	lieTries = flag.Int("lies", 240/raceFactor, "how many lies TestLyingServer tells")
	lieSeed  = flag.Uint64("lieseed", 1, "seed of the lies")
)

// A lie changes an honest answer. To add one, add a row to lies. It returns false
// when it does not fit the answer.
type lie struct {
	name string
	tell func(s *stage, a *answer.Answer) bool
}

// stage is what a lying server has to lie with: every answer that was ever true.
type stage struct {
	*rand.Rand
	w       *answertest.World
	see     func(custody.Item) bool // what the reader may see of route policies
	serials []string
	past    []map[string][]byte // answers by serial, for each published size, oldest first
	notes   [][]byte
}

func newStage(t testing.TB, seed uint64) *stage { return newStageFor(t, seed, all) }

func newStageFor(t testing.TB, seed uint64, see func(custody.Item) bool) *stage {
	t.Helper()
	s := &stage{Rand: rand.New(rand.NewPCG(seed, 0)), see: see}
	for serial := range taleVerdicts {
		s.serials = append(s.serials, serial)
	}
	slices.Sort(s.serials)
	l := answertest.NewLog(t)
	l.OnPublish = func() {
		now := map[string][]byte{}
		for _, serial := range s.serials {
			a, _, err := answer.Assemble(l.View(), unitURI(serial), answer.Options{Lanes: s.see})
			if err != nil {
				t.Fatal(err)
			}
			if now[serial], err = a.Marshal(); err != nil {
				t.Fatal(err)
			}
		}
		s.past = append(s.past, now)
		s.notes = append(s.notes, l.Note)
	}
	s.w = taleOn(l)
	return s
}

// unitURI is a unit of answertest's world.
func unitURI(serial string) string { return "https://id.gs1.org/01/09506000134352/21/" + serial }

func (s *stage) answerAt(at int, serial string) *answer.Answer {
	a, err := answer.Parse(s.past[at][serial])
	if err != nil {
		panic(err)
	}
	return a
}

// known is the honest answer of the latest size to a client that has verified
// answers of an earlier one, with what that client keeps.
func (s *stage) known(serial string) (*answer.Answer, *answer.Parts) {
	at := s.IntN(len(s.past) - 1)
	parts := answer.NewParts(1000)
	n, err := checkpoint.ParseNote(s.notes[at])
	if err != nil {
		panic(err)
	}
	cp, err := checkpoint.ParseCheckpoint(n.Text)
	if err != nil {
		panic(err)
	}
	for _, seen := range []string{serial, s.serial()} {
		if _, err := answer.Open(s.answerAt(at, seen), cp, parts); err != nil {
			panic(err)
		}
	}
	a, _, err := answer.Assemble(s.w.View(), unitURI(serial), answer.Options{Lanes: s.see, Have: answer.ParseHave(parts.Have())})
	if err != nil {
		panic(err)
	}
	return a, parts
}

// now is the honest answer of the latest size.
func (s *stage) now(serial string) *answer.Answer { return s.answerAt(len(s.past)-1, serial) }

// old is an honest answer of an earlier size.
func (s *stage) old(serial string) *answer.Answer { return s.answerAt(s.IntN(len(s.past)-1), serial) }

func (s *stage) serial() string { return s.serials[s.IntN(len(s.serials))] }

func (s *stage) topic(a *answer.Answer) *answer.Topic { return &a.Topics[s.IntN(len(a.Topics))] }

// list picks a topic with at least n entries.
func (s *stage) list(a *answer.Answer, n int) *answer.Topic {
	for range 50 {
		if t := s.topic(a); len(t.Indexes) >= n {
			return t
		}
	}
	return nil
}

func (s *stage) entry(a *answer.Answer) *answer.Entry {
	if len(a.Entries) == 0 {
		return nil
	}
	return &a.Entries[s.IntN(len(a.Entries))]
}

// flip changes one bit of b.
func (s *stage) flip(b []byte) bool {
	if len(b) == 0 {
		return false
	}
	b[s.IntN(len(b))] ^= 1 << s.IntN(8)
	return true
}

func (s *stage) flipHash(hs []entry.Hash) bool {
	if len(hs) == 0 {
		return false
	}
	return s.flip(hs[s.IntN(len(hs))][:])
}

// forget takes entry n out of every list, and out of the answer.
func forget(a *answer.Answer, n uint64) {
	is := func(m uint64) bool { return m == n }
	for i := range a.Topics {
		a.Topics[i].Indexes = slices.DeleteFunc(a.Topics[i].Indexes, is)
	}
	a.Entries = slices.DeleteFunc(a.Entries, func(e answer.Entry) bool { return e.Index == n })
}

// statement reads the statement of an entry sent.
func statement(e *answer.Entry) *custody.Statement {
	c, err := entry.ParseCargo(e.Cargo)
	if err != nil {
		return nil
	}
	env, err := entry.ParseEnvelope(c.Envelope)
	if err != nil {
		return nil
	}
	st, err := custody.Parse(env.Payload)
	if err != nil {
		return nil
	}
	return st
}

// members calls fn for a random member of the answer.
func (s *stage) members(a *answer.Answer, fn func(e *answer.Entry, i int) bool) bool {
	for _, i := range s.Perm(len(a.Entries)) {
		if e := &a.Entries[i]; len(e.Members) > 0 {
			return fn(e, s.IntN(len(e.Members)))
		}
	}
	return false
}

// harmless reports whether r tells the truth about the unit. It may tell it with
// less behind it: a server that withholds the index witness's cosignature gets a verdict
// that says so and is no longer verified.
func harmless(r, truth *Report) bool {
	less := func(codes []string) []string {
		return slices.DeleteFunc(slices.Clone(codes), func(c string) bool { return c == CheckCompleteness })
	}
	switch {
	case r.Complete && !truth.Complete, !r.Complete && r.Word == custody.Verified:
		return false
	case r.Complete && r.Word != truth.Word:
		return false
	case !slices.Equal(less(r.Failed()), less(truth.Failed())), !reflect.DeepEqual(r.Lines, truth.Lines):
		return false
	}
	return (r.History == nil) == (truth.History == nil) && (r.History == nil || reflect.DeepEqual(r.History.Unit, truth.History.Unit))
}

// A client that has seen the latest checkpoint never believes what is not true.
// Every lie is told; what is left unharmed by one (a harmless change of the
// answer) must lead to the honest report.
func TestLyingServer(t *testing.T) { newAudience(t, auditing).hear(t, *lieTries) }

// A reader who may not see the route policies that findings rest on is told the same.
func TestLyingServerToAReader(t *testing.T) { newAudience(t, reading).hear(t, *lieTries/2) }

// A client that knows of no index witness is told the same, and calls nothing verified or
// complete besides.
func TestLyingServerBeforeOrdinaryWitnesses(t *testing.T) {
	newAudience(t, auditing|ordinary).hear(t, *lieTries/2)
}

// manner is what a client may see, and whom it knows.
type manner int

const (
	reading  manner = 0 // the holder of a pedigree key
	auditing manner = 1 // with a token of scope audit
	ordinary manner = 2 // it knows of no index witness
)

// audience is a client that is lied to.
type audience struct {
	*stage
	v        *Verifier
	f        *fake              // where v asks
	ordinary bool               // it knows of no index witness
	honest   map[string]*Report // what is true, by serial
	told     map[string]int     // by lie; below zero: how often it did not fit
	noticed  map[string]int
}

func newAudience(t *testing.T, m manner) *audience {
	see, opt := func(custody.Item) bool { return false }, Options{}
	if m&auditing != 0 {
		see, opt.Token = all, auditToken(t)
	}
	s := newStageFor(t, *lieSeed, see)
	c := &audience{stage: s, f: newFake(t, s.w), ordinary: m&ordinary != 0, honest: map[string]*Report{}, told: map[string]int{}, noticed: map[string]int{}}
	c.f.see = see
	c.v = verifier(t, s.w.Log, c.f.remote(t, opt))
	if c.ordinary {
		c.v.Trust = ordinaryTrust(t, s.w.Log)
	}
	for _, serial := range s.serials {
		r := c.v.VerifyAnswer(t.Context(), unitURI(serial), s.past[len(s.past)-1][serial])
		want := taleVerdicts[serial]
		if c.ordinary && want == custody.Verified || m&auditing == 0 && serial == "DIVERTED" {
			want = custody.VerifiedNote
		}
		if r.Word != want || r.Complete == c.ordinary {
			t.Fatalf("%s: %s, want %s: %v", serial, r.Word, want, r.Checks)
		}
		c.honest[serial] = r
	}
	return c
}

// auditToken is one that says that its bearer may see everything; the fake asks for none.
func auditToken(t *testing.T) string {
	t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{"scope": "custody:read audit"}).SignedString(answertest.Key("issuer"))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// next is the n-th lie, told about a unit that it may fit.
func (c *audience) next(n int) (l lie, serial string, a *answer.Answer) {
	serial = c.serial()
	if i := n % (len(lies) + len(moreLies) + len(growthLies)); i < len(lies) {
		l = lies[i]
	} else if i -= len(lies); i < len(moreLies) {
		l = moreLies[i]
	} else {
		l, serial = growthLies[i-len(moreLies)], "RECALLED" // its lot's list grew
	}
	if c.v.Parts = nil; serial == "RECALLED" || c.IntN(4) == 0 {
		a, c.v.Parts = c.known(serial)
	} else {
		a = c.now(serial)
	}
	return l, serial, a
}

// hear has tries lies told, every fifth with a second one.
func (c *audience) hear(t *testing.T, tries int) {
	note, accepted := c.w.Note, 0
	for n := 0; n < tries; {
		l, serial, a := c.next(n)
		if !l.tell(c.stage, a) {
			c.told[l.name]--
			if c.told[l.name] < -2000 {
				t.Fatalf("%s never fits", l.name)
			}
			continue
		}
		c.told[l.name] = max(c.told[l.name], 0) + 1
		if c.IntN(5) == 0 && a.Commitment != nil && len(a.Topics) > 0 {
			lies[c.IntN(len(lies))].tell(c.stage, a) // and a second one
		}
		b, err := a.Marshal()
		if err != nil { // not UTF-8: such a note cannot be sent
			continue
		}
		n++
		c.v.Memory = memory{answertest.Origin: note}
		r, truth := c.v.VerifyAnswer(t.Context(), unitURI(serial), b), c.honest[serial]
		if c.ordinary && (r.Complete || r.Word == custody.Verified) {
			t.Errorf("seed %d, try %d: %s about %s is %s, complete %t, on the operator's word", *lieSeed, n, l.name, serial, r.Word, r.Complete)
		}
		switch {
		case r.Word == custody.CouldNotVerify || r.Word == custody.StatusOnly:
			c.noticed[l.name]++
		case !reflect.DeepEqual(r.Reasons, truth.Reasons) && harmless(r, truth):
			c.noticed[l.name]++ // less is proved, and the report says so
		case !harmless(r, truth):
			accepted++
			t.Errorf("seed %d, try %d: %s about %s is believed: %s %v, the truth is %s %v", *lieSeed, n, l.name, serial,
				r.Word, r.Failed(), truth.Word, truth.Failed())
		}
	}
	all := slices.Concat(lies, moreLies, growthLies)
	for _, l := range all {
		if tries >= len(all)*3 && c.noticed[l.name] == 0 {
			t.Errorf("%s is no lie: %d told, none noticed", l.name, c.told[l.name])
		}
	}
	t.Logf("%d lies of %d kinds told, %d accepted", tries, len(all), accepted)
}

// What an operator must never get away with is among the lies by name, whatever else is.
func TestLiesAreTold(t *testing.T) {
	for _, name := range []string{
		"drop-entry", "drop-from-list", "drop-topic", "reorder-list", "reorder-entries", "duplicate-in-list", "duplicate-entry", "duplicate-topic",
		"swap-cargo", "swap-index", "truncate-list", "stale-list", "other-topics-list", "forged-absence", "hide-pack", "hide-unpack", "hide-recall",
		"hide-revocation", "hide-component", "hide-evidence", "forged-commitment", "missing-commitment", "misplaced-commitment", "old-commitment",
	} {
		if !slices.ContainsFunc(slices.Concat(lies, moreLies), func(l lie) bool { return l.name == name }) {
			t.Errorf("nobody tells %s", name)
		}
	}
	seen := map[string]bool{}
	for _, l := range slices.Concat(lies, moreLies, growthLies) {
		if seen[l.name] {
			t.Errorf("two lies are called %s", l.name)
		}
		seen[l.name] = true
	}
}
