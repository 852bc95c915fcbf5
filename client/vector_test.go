package client

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/verdict anew")

const vectorDir = "../testdata/verdict"

// vector is one published case: an answer, when it came, and what a verifier with
// the trust folder of trust.json and no memory must make of it.
type vector struct {
	About    string         `json:"about"`
	URI      string         `json:"uri"`
	Now      string         `json:"now"` // RFC 3339
	Verdict  custody.Word   `json:"verdict"`
	Complete bool           `json:"complete"`
	Auditor  bool           `json:"auditor,omitzero"` // the verifier's token has the scope audit
	Failed   []string       `json:"failed"`           // reason codes of what failed, heaviest first
	Answer   jsontext.Value `json:"answer"`
}

func (c *vector) verify(t *testing.T, trust *Trust) *Report {
	t.Helper()
	now, err := time.Parse(time.RFC3339, c.Now)
	if err != nil {
		t.Fatal(err)
	}
	v := &Verifier{Trust: trust, Now: func() time.Time { return now }, Remote: &Remote{auditor: c.Auditor}}
	return v.VerifyAnswer(t.Context(), c.URI, c.Answer)
}

func TestVectors(t *testing.T) {
	if *rewrite {
		writeVectors(t)
	}
	trust := vectorTrust(t)
	names, err := filepath.Glob(filepath.Join(vectorDir, "*-*.json"))
	if err != nil || len(names) < 15 {
		t.Fatalf("%d vectors, %v", len(names), err)
	}
	words := map[custody.Word]bool{}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var c vector
			if err := json.Unmarshal(b, &c); err != nil {
				t.Fatal(err)
			}
			words[c.Verdict] = true
			r := c.verify(t, trust)
			if r.Word != c.Verdict || r.Complete != c.Complete || !slices.Equal(r.Failed(), c.Failed) {
				t.Errorf("%s, complete %t, failed %v; want %s, %t, %v", r.Word, r.Complete, r.Failed(), c.Verdict, c.Complete, c.Failed)
			}
		})
	}
	if len(words) != 7 {
		t.Errorf("the vectors show %d of the 7 verdicts", len(words))
	}
}

// vectorTrust is the trust folder of the vectors.
func vectorTrust(t *testing.T) *Trust {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(vectorDir, "trust.json"))
	if err != nil {
		t.Fatal(err)
	}
	var texts map[string]string
	if err := json.Unmarshal(b, &texts); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for name, text := range texts {
		files[name] = []byte(text)
	}
	trust, err := ParseTrust(files)
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// writeVectors makes the vectors from the tale and from lies about it. Read them
// before you commit them: the test believes what is written.
func writeVectors(t *testing.T) {
	s := newStage(t, 11)
	files := s.w.Trust()
	texts := map[string]string{}
	for name, b := range files {
		texts[name] = string(b)
	}
	write(t, "trust.json", texts)
	trust, err := ParseTrust(files)
	if err != nil {
		t.Fatal(err)
	}
	now := time.UnixMilli(int64(s.w.Time)).Add(time.Minute).UTC().Format(time.RFC3339)
	put := func(name, about, serial string, change func(*answer.Answer, *vector)) {
		a := s.now(serial)
		c := &vector{About: about, URI: unitURI(serial), Now: now}
		change(a, c)
		b, err := a.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		c.Answer = b
		r := c.verify(t, trust)
		c.Verdict, c.Complete, c.Failed = r.Word, r.Complete, r.Failed()
		if c.Failed == nil {
			c.Failed = []string{}
		}
		write(t, name+".json", c)
	}
	tell := func(name string) func(*answer.Answer, *vector) {
		return func(a *answer.Answer, _ *vector) {
			told := slices.Concat(lies, moreLies)
			i := slices.IndexFunc(told, func(l lie) bool { return l.name == name })
			for try := 0; !told[i].tell(s, a); try++ {
				if try > 1000 {
					t.Fatalf("%s does not fit", name)
				}
			}
		}
	}
	honest := func(*answer.Answer, *vector) {}
	put("good-verified", "a whole history, by manifest and in two loads", "SHIPPED", honest)
	put("good-verified-lifted", "a hold that was lifted", "LIFTED", honest)
	put("good-note-open", "a hand-over that is not accepted yet", "OPEN", honest)
	put("good-note-stranger", "a stranger claims to have accepted it", "SMEARED", honest)
	put("good-check-diverted", "off the lanes of its route policy, by what is logged", "DIVERTED", honest)
	put("good-stop-recalled", "recalled by itself and with its lot", "RECALLED", honest)
	put("good-stop-cloned", "commissioned twice", "CLONED", honest)
	put("good-stop-twin", "one device key under two serials", "TWIN", honest)
	put("good-absent", "a serial that is not in the ledger", "NEVER", honest)
	put("good-status", "a word and no proof", "HELD", func(a *answer.Answer, c *vector) { *a = *answer.NewStatus(c.URI, "stopped") })
	put("good-note-unchecked", "no index witness cosigned", "LIFTED", func(a *answer.Answer, c *vector) {
		s.w.Honest = false
		a.Checkpoint = string(s.w.NoteFor(s.w.Checkpoint(), s.w.Time/1000))
	})
	put("bad-old", "the quorum cosigned more than an hour ago", "LIFTED", tell("long-ago"))
	put("bad-quorum", "one witness of two needed", "LIFTED", tell("below-the-quorum"))
	put("bad-log", "not signed by the log", "LIFTED", tell("unsigned-by-the-log"))
	put("bad-commitment", "no index commitment", "LIFTED", tell("missing-commitment"))
	put("bad-forged-commitment", "an index commitment that is not the tree's", "LIFTED", tell("forged-commitment"))
	put("bad-misplaced-commitment", "the index commitment is not the last entry under the checkpoint", "LIFTED", func(a *answer.Answer, _ *vector) {
		s.w.Honest = true // even if the index witness were in it
		s.misplace(a)
	})
	put("bad-hidden-revocation", "the revocation of a key left out", "LEFT", tell("hide-revocation"))
	put("bad-hidden-recall", "a recall left out", "RECALLED", tell("hide-recall"))
	put("bad-stale-list", "a list and its proof of an earlier size", "CLONED", tell("stale-list"))
	put("bad-absence", "a unit's absence, with another serial's proof", "LIFTED", tell("absent-form"))
	put("bad-cargo", "one bit of cargo", "LIFTED", tell("altered-cargo"))
	put("bad-class", "restricted cargo passed off as public", "LIFTED", tell("wrong-class"))
	put("bad-member", "a member of a manifest left out", "SHIPPED", tell("drop-member"))
	put("bad-topic", "a list that the verifier needs is not there", "LIFTED", tell("drop-topic"))
	put("bad-unit", "another unit's answer", "LIFTED", tell("other-unit"))
	put("good-note-word", "the same to a reader who may not see the route policy: its signer's word", "DIVERTED", func(a *answer.Answer, c *vector) {
		b, _, err := answer.Assemble(s.w.View(), c.URI, answer.Options{})
		if err != nil {
			t.Fatal(err)
		}
		*a = *b
	})
	put("bad-hidden-evidence", "the list of route policies left out, to an auditor", "DIVERTED", func(a *answer.Answer, c *vector) {
		c.Auditor = true
		tell("hide-evidence")(a, c)
	})
	put("bad-hidden-policy", "a route policy left out of its list", "DIVERTED", func(a *answer.Answer, _ *vector) { hide(custody.KindRoutePolicy).tell(s, a) })
	put("bad-other-list", "another topic's list, with its proof, under this one's name", "LIFTED", tell("other-topics-list"))
}

func write(t *testing.T, name string, v any) {
	t.Helper()
	b, err := json.Marshal(v, json.Deterministic(true), jsontext.WithIndent(" "))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(vectorDir, name), append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
