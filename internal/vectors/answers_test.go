package vectors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// unitAnswer is what section 5 sends to a verifier.
type unitAnswer struct {
	Form, Checkpoint string
	Commitment       *struct {
		Cargo  []byte
		Hashes [][]byte
	}
	Topics []struct {
		Kind, Value string
		Proof       []byte
		Indexes     []uint64
	}
	Entries []struct {
		Index   uint64
		Cargo   []byte
		Hashes  [][]byte
		Members []struct {
			Position uint64
			Member   []byte
			Hashes   [][]byte
		}
	}
}

// broken says what of an answer does not hold, of all that is proved by hashes: the
// commitment, every entry, every member, every list and every absence.
func (a *unitAnswer) broken() string {
	text, _, ok := note(a.Checkpoint)
	_, size, root, ok2 := checkpoint(text)
	if !ok || !ok2 {
		return "the checkpoint"
	}
	if a.Commitment == nil {
		return "no commitment"
	}
	included := func(index uint64, cargo []byte, path [][]byte) (data, bool) {
		leaf, _, ok := leafOf(cargo)
		r, ok2 := climb(index, size, leafHash(leaf), path)
		return leafHash(leaf), ok && ok2 && bytes.Equal(r, root)
	}
	c := a.Commitment.Cargo
	if _, ok := included(size-1, c, a.Commitment.Hashes); !ok || c[0] != 3 || binary.BigEndian.Uint64(c[9:]) != size-1 {
		return "the commitment"
	}
	leaves := map[uint64]data{}
	for _, e := range a.Entries {
		leaf, ok := included(e.Index, e.Cargo, e.Hashes)
		if !ok || e.Cargo[0] != classOf(e.Cargo) {
			return fmt.Sprintf("entry %d", e.Index)
		}
		leaves[e.Index] = leaf
		for _, m := range e.Members {
			var s struct {
				Predicate struct {
					Contents struct {
						Root  data
						Count uint64
					}
				}
			}
			_ = json.Unmarshal(payloadOf(e.Cargo), &s)
			r, ok := climb(m.Position, s.Predicate.Contents.Count, leafHash(append([]byte("fabtrail/member/v1\n"), m.Member...)), m.Hashes)
			if !ok || !bytes.Equal(r, s.Predicate.Contents.Root) {
				return fmt.Sprintf("member %d of entry %d", m.Position, e.Index)
			}
		}
	}
	for _, x := range a.Topics {
		var refs []data
		for _, i := range x.Indexes {
			if leaves[i] == nil {
				return fmt.Sprintf("entry %d is not there", i)
			}
			refs = append(refs, ref{i, leaves[i]}.hash())
		}
		value, ok := indexProof(c[17:49], topic(x.Kind, x.Value), x.Proof)
		if !ok || (value == nil) != (len(refs) == 0) || value != nil && !bytes.Equal(value, listValue(uint64(len(refs)), merkle(refs))) {
			return "the list of " + x.Kind + " " + x.Value
		}
	}
	return ""
}

func payloadOf(cargo []byte) []byte {
	p, _, _, _ := envelope(cargo[map[byte]int{1: 9, 2: 41, 3: len(cargo)}[cargo[0]]:])
	return p
}

// classOf is the class that the predicate of a statement asks for.
func classOf(cargo []byte) byte {
	var s statement
	if json.Unmarshal(payloadOf(cargo), &s) != nil {
		return 0
	}
	for _, public := range []string{"charter", "authority", "log-key", "witness-policy", "rule-set", "party", "key", "product", "recall"} {
		if s.PredicateType == "https://fabtrail.dev/custody/"+public+"/v1" {
			return 1
		}
	}
	return 2
}

// TestAnswers checks of the verdict vectors all that hashes prove, and the trust
// folder's judgement of the checkpoint. The fold and the rules, which the verdict
// itself needs, are not done again here.
func TestAnswers(t *testing.T) {
	var trust map[string]string
	load(t, "verdict/trust.json", &trust)
	p, ok := parsePolicy(trust["policy.txt"])
	if !ok {
		t.Fatal("the policy is refused")
	}
	files, err := filepath.Glob(filepath.Join(root, "verdict", "*-*.json"))
	if err != nil || len(files) < 20 {
		t.Fatalf("%d vectors, %v", len(files), err)
	}
	findings := 0
	for _, f := range files {
		name := filepath.Base(f)
		var v struct {
			Failed []string
			Answer unitAnswer
		}
		load(t, "verdict/"+name, &v)
		if v.Answer.Form == "status" {
			continue // proves nothing
		}
		outcome, _, _ := p.judge(v.Answer.Checkpoint)
		if bad := slices.Contains(v.Failed, "log-signature") || slices.Contains(v.Failed, "quorum"); bad == (outcome == "ok") {
			t.Errorf("%s: the checkpoint is %s, the vector says %v", name, outcome, v.Failed)
		}
		wrong := v.Answer.broken()
		if bad := strings.HasPrefix(name, "bad-") && slices.Contains(v.Failed, "answer-false"); bad && wrong == "" {
			t.Errorf("%s: everything holds, the vector says %v", name, v.Failed)
		}
		if strings.HasPrefix(name, "good-") && wrong != "" {
			t.Errorf("%s: %s is false", name, wrong)
		}
		for _, e := range v.Answer.Entries {
			findings += findingID(t, name, payloadOf(e.Cargo))
		}
	}
	if findings == 0 {
		t.Error("there is no finding in the vectors")
	}
}

// findingID recomputes the id of a finding; 1 if the statement is one.
func findingID(t *testing.T, name string, payload []byte) int {
	t.Helper()
	var s struct {
		Subject       []struct{ URI string }
		PredicateType string
		Predicate     struct {
			Rule, RuleSet, FindingID, Load string
			Entries                        []uint64
		}
	}
	if json.Unmarshal(payload, &s) != nil || s.PredicateType != "https://fabtrail.dev/custody/finding/v1" {
		return 0
	}
	unit := s.Subject[0].URI
	if s.Predicate.Load != "" {
		unit += " " + s.Predicate.Load
	}
	p := s.Predicate
	b := append([]byte("fabtrail/finding/v1\n"+p.RuleSet+"\n"+p.Rule+"\n"+unit+"\n"), u64(uint64(len(p.Entries)))...)
	for _, n := range p.Entries {
		b = append(b, u64(n)...)
	}
	if sum(b).String() != p.FindingID {
		t.Errorf("%s: finding %s, the statement says %s", name, sum(b), p.FindingID)
	}
	return 1
}
