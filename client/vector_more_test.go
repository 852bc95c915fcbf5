package client

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
)

// keptVector is an answer to a verifier that keeps lists: Before are the answers that it
// has verified, of the same history.
type keptVector struct {
	vector
	Before []jsontext.Value `json:"before"`
}

func (c *keptVector) verify(t *testing.T, trust *Trust) *Report {
	t.Helper()
	parts := answer.NewParts(1000)
	for _, b := range c.Before {
		learn(t, b, parts)
	}
	v := &Verifier{Trust: trust, Now: clockAt(t, c.Now), Memory: memory{}, Parts: parts}
	return v.VerifyAnswer(t.Context(), c.URI, c.Answer)
}

// manyVector is an answer about many units. A verdict that is empty does not follow
// from it: the unit is to be asked for alone.
type manyVector struct {
	About    string         `json:"about"`
	Units    []string       `json:"units"`
	Now      string         `json:"now"`
	Verdicts []custody.Word `json:"verdicts"`
	Answer   jsontext.Value `json:"answer"`
}

func (c *manyVector) verify(t *testing.T, trust *Trust) (words []custody.Word) {
	t.Helper()
	v := &Verifier{Trust: trust, Now: clockAt(t, c.Now)}
	var queries []UnitQuery
	for _, u := range c.Units {
		queries = append(queries, UnitQuery{URI: u})
	}
	for _, r := range v.judgeMany(t.Context(), queries, c.Answer) {
		if r == nil {
			words = append(words, "")
			continue
		}
		words = append(words, r.Word)
	}
	return words
}

func clockAt(t *testing.T, now string) func() time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, now)
	if err != nil {
		t.Fatal(err)
	}
	return func() time.Time { return at }
}

// readVectors calls fn for every vector of a folder, of which there are n at least.
func readVectors[V any](t *testing.T, folder string, n int, fn func(t *testing.T, bad bool, trust *Trust, c *V)) {
	t.Helper()
	trust := vectorTrust(t)
	names, err := filepath.Glob(filepath.Join(vectorDir, folder, "*-*.json"))
	if err != nil || len(names) < n {
		t.Fatalf("%d vectors, %v", len(names), err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			c := new(V)
			if err := json.Unmarshal(b, c); err != nil {
				t.Fatal(err)
			}
			fn(t, strings.HasPrefix(filepath.Base(name), "bad-"), trust, c)
		})
	}
}

// TestKeptVectors: answers with lists that the verifier knows, or knows the beginning of.
func TestKeptVectors(t *testing.T) {
	if *rewrite {
		writeKeptVectors(t)
	}
	readVectors(t, "kept", 9, func(t *testing.T, bad bool, trust *Trust, c *keptVector) {
		r := c.verify(t, trust)
		if r.Word != c.Verdict || r.Complete != c.Complete || !slices.Equal(r.Failed(), c.Failed) {
			t.Errorf("%s, complete %t, failed %v; want %s, %t, %v", r.Word, r.Complete, r.Failed(), c.Verdict, c.Complete, c.Failed)
		}
		if bad != (r.Word == custody.CouldNotVerify) {
			t.Errorf("the verdict is %s", r.Word)
		}
		if !bad && !r.Complete {
			t.Error("an honest answer is not complete")
		}
	})
}

// TestManyVectors: answers about many units.
func TestManyVectors(t *testing.T) {
	if *rewrite {
		writeManyVectors(t)
	}
	readVectors(t, "many", 9, func(t *testing.T, bad bool, trust *Trust, c *manyVector) {
		words := c.verify(t, trust)
		if !slices.Equal(words, c.Verdicts) {
			t.Errorf("%q, want %q", words, c.Verdicts)
		}
		if nothing := slices.Contains(words, "") || slices.Contains(words, custody.CouldNotVerify); nothing != bad {
			t.Errorf("the verdicts are %q", words)
		}
	})
}

// writeKeptVectors makes those of a client that keeps lists. Read them before you
// commit them.
func writeKeptVectors(t *testing.T) {
	s := newStage(t, 12)
	trust, now := vectorTrust(t), clockText(s)
	latest := len(s.past) - 1
	put := func(name, about, serial string, before []jsontext.Value, change func(a *answer.Answer) bool) {
		c := &keptVector{vector: vector{About: about, URI: unitURI(serial), Now: now}, Before: before}
		parts := answer.NewParts(1000)
		for _, b := range before {
			learn(t, b, parts)
		}
		for try := 0; ; try++ {
			a, _, err := answer.Assemble(s.w.View(), c.URI, answer.Options{Lanes: all, Have: answer.ParseHave(parts.Have())})
			if err != nil || try > 1000 {
				t.Fatal(name, err)
			}
			if !change(a) {
				continue
			}
			if c.Answer, err = a.Marshal(); err != nil {
				t.Fatal(err)
			}
			break
		}
		if strings.Contains(name, "unknown") {
			c.Before = nil
		}
		r := c.verify(t, trust)
		c.Verdict, c.Complete, c.Failed = r.Word, r.Complete, append([]string{}, r.Failed()...)
		write(t, filepath.Join("kept", name+".json"), c)
	}
	honest := func(*answer.Answer) bool { return true }
	grown := func(a *answer.Answer) bool { return s.grown(a) != nil }
	same := []jsontext.Value{s.past[latest]["SHIPPED"]}
	// The latest size at which a list of the unit was shorter.
	at := latest - 1
	for ; at >= 0; at-- {
		parts := answer.NewParts(1000)
		learn(t, s.past[at]["RECALLED"], parts)
		a, _, err := answer.Assemble(s.w.View(), unitURI("RECALLED"), answer.Options{Lanes: all, Have: answer.ParseHave(parts.Have())})
		if err != nil {
			t.Fatal(err)
		}
		if grown(a) {
			break
		}
	}
	if at < 0 {
		t.Fatal("no list of the unit has grown")
	}
	old := []jsontext.Value{s.past[at]["RECALLED"]}
	put("good-known", "lists of an answer about another unit left out", "LIFTED", same, func(a *answer.Answer) bool {
		return slices.ContainsFunc(a.Topics, func(t answer.Topic) bool { return t.Known })
	})
	put("good-grown", "lists sent from where the client knows them", "RECALLED", old, grown)
	put("bad-unknown", "lists left out that the client does not keep", "LIFTED", same, honest)
	put("bad-unknown-beginning", "lists sent from where the client does not know them", "RECALLED", old, grown)
	for _, name := range []string{"altered-growth", "no-growth-proof", "other-beginning", "growth-left-out", "growth-denied", "growth-for-the-whole", "known-though-it-is-not"} {
		i := slices.IndexFunc(growthLies, func(l lie) bool { return l.name == name })
		put("bad-"+name, strings.ReplaceAll(name, "-", " "), "RECALLED", old, func(a *answer.Answer) bool { return growthLies[i].tell(s, a) })
	}
}

// learn keeps the lists of an answer.
func learn(t *testing.T, b []byte, parts *answer.Parts) {
	t.Helper()
	a, err := answer.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	n, err := checkpoint.ParseNote([]byte(a.Checkpoint))
	if err != nil {
		t.Fatal(err)
	}
	cp, err := checkpoint.ParseCheckpoint(n.Text)
	if err == nil {
		_, err = answer.Open(a, cp, parts)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func clockText(s *stage) string {
	return time.UnixMilli(int64(s.w.Time)).Add(time.Minute).UTC().Format(time.RFC3339)
}

// writeManyVectors makes those about many units. Read them before you commit them.
func writeManyVectors(t *testing.T) {
	s := newStage(t, 13)
	trust, now := vectorTrust(t), clockText(s)
	put := func(name, about string, serials []string, tell func(m *answer.Many) bool) {
		c := &manyVector{About: about, Now: now}
		for _, serial := range serials {
			c.Units = append(c.Units, unitURI(serial))
		}
		for try := 0; ; try++ {
			m, err := answer.AssembleMany(s.w.View(), c.Units, answer.Options{Lanes: all}, func(int, *custody.History) (string, error) { return "", nil })
			if err != nil || try > 1000 {
				t.Fatal(name, err)
			}
			if !tell(m) {
				continue
			}
			if c.Answer, err = m.Marshal(); err != nil {
				t.Fatal(err)
			}
			break
		}
		c.Verdicts = c.verify(t, trust)
		write(t, filepath.Join("many", name+".json"), c)
	}
	four := []string{"SHIPPED", "RECALLED", "NEVER", "CLONED"}
	put("good-four", "a whole history, a recall, an absence, a clone", four, func(*answer.Many) bool { return true })
	put("good-one", "one unit", []string{"LIFTED"}, func(*answer.Many) bool { return true })
	for _, name := range []string{"a-word-for-one", "a-word-for-all"} {
		put("good-"+name, "words without proof are given as such", four, manyLies[manyIndex(name)].told(s))
	}
	for _, name := range []string{"answers-exchanged", "unit-missing", "unit-doubled", "unit-for-another", "unit-said-to-be-absent", "unit-left-out-of-the-lists", "other-units-lists", "words-with-nothing-behind"} {
		put("bad-"+name, strings.ReplaceAll(name, "-", " "), four, manyLies[manyIndex(name)].told(s))
	}
	for _, name := range []string{"forged-commitment", "altered-cargo", "hide-recall"} {
		i := slices.IndexFunc(lies, func(l lie) bool { return l.name == name })
		put("bad-"+name, strings.ReplaceAll(name, "-", " "), four, func(m *answer.Many) bool {
			return asAnswer(s, m, func(a *answer.Answer) bool { return lies[i].tell(s, a) })
		})
	}
}

func manyIndex(name string) int {
	return slices.IndexFunc(manyLies, func(l manyLie) bool { return l.name == name })
}

func (l manyLie) told(s *stage) func(*answer.Many) bool {
	return func(m *answer.Many) bool { return l.tell(s, m) }
}
