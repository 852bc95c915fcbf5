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

// unitAnswer is what section 5 sends to a verifier, about one unit or many.
type unitAnswer struct {
	Form, Checkpoint string
	Units            []struct{ URI, Form string }
	Commitment       *struct {
		Cargo  []byte
		Hashes [][]byte
	}
	Topics  []topicSent
	Entries []entrySent
}

type topicSent struct {
	Kind, Value   string
	Proof, Growth []byte
	Indexes       []uint64
	Known         bool
	From          uint64
}

type entrySent struct {
	Index   uint64
	Cargo   []byte
	Hashes  [][]byte
	Members []struct {
		Position uint64
		Member   []byte
		Hashes   [][]byte
	}
}

// item is an element of a list, with what it says.
type item struct {
	ref
	cargo []byte
}

// kept are lists that were verified before, by their value in hex.
type kept map[string][]item

// What may be wrong with an answer, as the verdict vectors name it.
const (
	isFalse    = "answer-false"
	incomplete = "answer-incomplete"
	operator   = "operator-accused"
	history    = "history" // an entry that does not prove whom it names
)

// opened is an answer all of whose proofs hold.
type opened struct {
	size  uint64
	root  data // of the index
	items map[uint64]item
	lists map[string][]item // by kind, space, value
	sent  map[uint64]entrySent
}

// open checks an answer by the list in section 5, but for the last point. It says what
// is wrong first, or else what the answer proves.
func (a *unitAnswer) open(have kept) (o *opened, code, why string) {
	text, _, ok := note(a.Checkpoint)
	_, size, root, ok2 := checkpoint(text)
	switch {
	case !ok || !ok2 || size == 0:
		return nil, isFalse, "the checkpoint"
	case a.Commitment == nil:
		return nil, incomplete, "no commitment"
	case a.Form == "absent" && (len(a.Topics) != 1 || len(a.Entries) != 0):
		return nil, isFalse, "more than an absence"
	}
	included := func(index uint64, cargo []byte, path [][]byte) (data, bool) {
		leaf, _, ok := leafOf(cargo)
		r, ok2 := climb(index, size, leafHash(leaf), path)
		return leafHash(leaf), ok && ok2 && bytes.Equal(r, root)
	}
	c := a.Commitment.Cargo
	if _, ok := included(size-1, c, a.Commitment.Hashes); !ok {
		return nil, isFalse, "the commitment"
	}
	if c[0] != 3 || binary.BigEndian.Uint64(c[9:]) != size-1 {
		return nil, operator, "the last entry"
	}
	o = &opened{size: size, root: c[17:49], items: map[uint64]item{}, lists: map[string][]item{}, sent: map[uint64]entrySent{}}
	for i, e := range a.Entries {
		leaf, ok := included(e.Index, e.Cargo, e.Hashes)
		if !ok || e.Cargo[0] == 3 || i > 0 && e.Index <= a.Entries[i-1].Index {
			return nil, isFalse, fmt.Sprintf("entry %d", e.Index)
		}
		o.items[e.Index], o.sent[e.Index] = item{ref{e.Index, leaf}, e.Cargo}, e
	}
	for _, x := range a.Topics {
		name := x.Kind + " " + x.Value
		if _, twice := o.lists[name]; twice {
			return nil, isFalse, "twice " + name
		}
		list, code := o.list(x, have)
		if code != "" {
			return nil, code, "the list of " + name
		}
		o.lists[name] = list
	}
	code, why = o.statements()
	return o, code, why
}

// list is point 3: a topic's list, whole or known or grown, or its absence.
func (o *opened) list(x topicSent, have kept) (list []item, code string) {
	value, ok := indexProof(o.root, topic(x.Kind, x.Value), x.Proof)
	if !ok {
		return nil, isFalse
	}
	if value == nil || x.Known {
		if len(x.Indexes) > 0 || x.From > 0 || value == nil && x.Known {
			return nil, isFalse
		}
		if value == nil {
			return nil, ""
		}
		return o.take(have, value)
	}
	var refs []ref
	for _, i := range x.Indexes {
		it, there := o.items[i]
		if !there {
			return nil, incomplete
		}
		refs, list = append(refs, it.ref), append(list, it)
	}
	if len(refs) == 0 {
		return nil, isFalse
	}
	if x.From == 0 {
		if !inRange(value, rangeProof(refs, 0, len(refs)), refs) {
			return nil, isFalse
		}
		return list, ""
	}
	p, ok := readRange(x.Growth)
	if !ok {
		return nil, isFalse
	}
	old, code := o.take(have, p.before())
	if code != "" {
		return nil, code
	}
	if uint64(len(old)) != x.From || p.begin != x.From || !hasGrown(p.before(), value, x.Growth, refs) || refs[0].Index <= old[len(old)-1].Index {
		return nil, isFalse
	}
	return append(slices.Clone(old), list...), ""
}

// take is a list that was verified before.
func (o *opened) take(have kept, value data) ([]item, string) {
	list := have[value.String()]
	if len(list) == 0 {
		return nil, incomplete
	}
	if list[len(list)-1].Index >= o.size-1 {
		return nil, isFalse
	}
	return list, ""
}

// statements is points 4 and 5, and of 6 that an entry with contents proves the member
// that it is listed under.
func (o *opened) statements() (code, why string) {
	keys, byID := map[string][]byte{}, map[string]statement{}
	members := map[string][][]byte{}
	learn := func(it item) {
		var s statement
		_ = json.Unmarshal(payloadOf(it.cargo), &s)
		byID[sum(payloadOf(it.cargo)).String()] = s
		for _, spki := range s.enrols() {
			keys[sum(spki).String()] = spki
		}
	}
	for _, list := range o.lists {
		for _, it := range list {
			learn(it)
		}
	}
	for _, e := range o.sent {
		learn(o.items[e.Index])
	}
	for _, e := range o.sent {
		id := sum(payloadOf(e.Cargo)).String()
		for i, m := range e.Members {
			c := byID[id].Predicate.Contents
			if c == nil || i > 0 && m.Position <= e.Members[i-1].Position {
				return isFalse, fmt.Sprintf("members of entry %d", e.Index)
			}
			r, ok := climb(m.Position, c.Count, leafHash(append([]byte("fabtrail/member/v1\n"), m.Member...)), m.Hashes)
			if !ok || !bytes.Equal(r, c.Root) {
				return isFalse, fmt.Sprintf("member %d of entry %d", m.Position, e.Index)
			}
			members[id] = append(members[id], m.Member)
		}
	}
	for name, list := range o.lists {
		kind, value, _ := strings.Cut(name, " ")
		for _, it := range list {
			if it.cargo[0] != classOf(it.cargo) || !signed(it.cargo, keys) {
				return operator, fmt.Sprintf("entry %d", it.Index)
			}
			id := sum(payloadOf(it.cargo)).String()
			for s := byID[id]; ; s = byID[id] { // a void, dispute or lift speaks of what it names
				next := s.Predicate.Voids.SHA256 + s.Predicate.Disputes.SHA256 + s.Predicate.Lifts.SHA256
				if next == "" {
					break
				}
				id = next
			}
			s := byID[id]
			if kind != "unit" && kind != "load" || s.Predicate.Contents == nil || len(s.Subject) == 1 && strings.HasPrefix(value+" ", s.Subject[0].URI+" ") {
				continue
			}
			if !slices.ContainsFunc(members[id], func(b []byte) bool { return memberIs(b, value) }) {
				return history, fmt.Sprintf("entry %d does not prove that it names %s", it.Index, value)
			}
		}
	}
	return "", ""
}

// memberIs reports whether a member's bytes are those of a unit, or of a load.
func memberIs(b []byte, value string) bool {
	n := int(binary.BigEndian.Uint16(b))
	uri, load := string(b[2:2+n]), data(b[2+n+32:2+n+64])
	if !bytes.Equal(load, make([]byte, 32)) {
		uri += " " + load.String()
	}
	return uri == value
}

// enrols returns the keys that a statement of governance brings, as SPKIs.
func (s statement) enrols() (out [][]byte) {
	if strings.HasSuffix(s.PredicateType, "/charter/v1") || strings.HasSuffix(s.PredicateType, "/authority/v1") {
		for _, a := range append(s.Predicate.Authorities, s.Predicate.Operator) {
			out = append(out, a.Key.SPKI)
		}
	}
	for _, k := range s.Predicate.Keys {
		out = append(out, k.SPKI)
	}
	return append(out, s.Predicate.New.SPKI)
}

// signed reports whether every signature of an entry verifies under a key at hand.
func signed(cargo []byte, keys map[string][]byte) bool {
	payload, signers, sigs, ok := envelope(cargo[map[byte]int{1: 9, 2: 41, 3: len(cargo)}[cargo[0]]:])
	pae := fmt.Appendf(nil, "DSSEv1 28 application/vnd.in-toto+json %d %s", len(payload), payload)
	for i, k := range signers {
		ok = ok && verify(keys[k.String()], pae, sigs[i])
	}
	return ok
}

// keep adds the lists of an answer that our client keeps.
func (o *opened) keep(into kept) {
	for name, list := range o.lists {
		kind, _, _ := strings.Cut(name, " ")
		if len(list) == 0 || !slices.Contains([]string{"party", "key", "product", "lot", "recall-artefact", "log"}, kind) && len(list) < 16 {
			continue
		}
		var refs []ref
		for _, it := range list {
			refs = append(refs, it.ref)
		}
		into[valueOf(refs).String()] = list
	}
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

// TestAnswers checks of the verdict vectors all that hashes and signatures prove, and
// the trust folder's judgement of the checkpoint. The fold and the rules, which the
// verdict itself needs, are not done again here.
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
		_, code, why := v.Answer.open(nil)
		if bad := strings.HasPrefix(name, "bad-") && slices.Contains(v.Failed, isFalse); bad && code == "" {
			t.Errorf("%s: everything holds, the vector says %v", name, v.Failed)
		}
		if strings.HasPrefix(name, "good-") && code != "" || code != "" && !slices.Contains(v.Failed, code) {
			t.Errorf("%s: %s: %s; the vector says %v", name, code, why, v.Failed)
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

// TestKeptAnswers is TestAnswers for a verifier that keeps lists.
func TestKeptAnswers(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "verdict", "kept", "*-*.json"))
	if err != nil || len(files) < 11 {
		t.Fatalf("%d vectors, %v", len(files), err)
	}
	used := map[string]int{}
	for _, f := range files {
		name := filepath.Base(f)
		var v struct {
			Failed []string
			Before []unitAnswer
			Answer unitAnswer
		}
		load(t, "verdict/kept/"+name, &v)
		have := kept{}
		for _, b := range v.Before {
			o, code, why := b.open(have)
			if code != "" {
				t.Fatalf("%s: before: %s: %s", name, code, why)
			}
			o.keep(have)
		}
		for _, x := range v.Answer.Topics {
			used["known"] += map[bool]int{true: 1}[x.Known]
			used["grown"] += map[bool]int{true: 1}[x.From > 0]
		}
		_, code, why := v.Answer.open(have)
		if want := strings.HasPrefix(name, "bad-"); want != (code != "") || want && !slices.Equal(v.Failed, []string{code}) {
			t.Errorf("%s: %q: %s; the vector says %v", name, code, why, v.Failed)
		}
	}
	if used["known"] == 0 || used["grown"] == 0 {
		t.Errorf("in the vectors are %v lists", used)
	}
}

// TestAnswersAboutMany checks what follows about each of several units: nothing, a word,
// that it is absent, or that its list is proved.
func TestAnswersAboutMany(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "verdict", "many", "*-*.json"))
	if err != nil || len(files) < 15 {
		t.Fatalf("%d vectors, %v", len(files), err)
	}
	seen := map[string]bool{}
	for _, f := range files {
		var v struct {
			Units, Verdicts []string
			Answer          unitAnswer
		}
		load(t, "verdict/many/"+filepath.Base(f), &v)
		got := v.Answer.about(v.Units)
		for i, word := range v.Verdicts {
			want := word
			if word != "" && word != "status-only" && word != "not-in-ledger" {
				want = "proved"
			}
			if seen[want] = true; got[i] != want {
				t.Errorf("%s: %s is %q here, the vector says %q", filepath.Base(f), v.Units[i], got[i], word)
			}
		}
	}
	if len(seen) != 4 {
		t.Errorf("the vectors have %v alone", seen)
	}
}

func (a *unitAnswer) about(asked []string) []string {
	out := make([]string, len(asked))
	if len(a.Units) != len(asked) {
		return out
	}
	var o *opened
	if a.Checkpoint != "" {
		var code string
		if o, code, _ = a.open(nil); code != "" {
			return out
		}
	}
	for i, u := range a.Units {
		if u.URI != asked[i] {
			continue
		}
		if u.Form == "status" {
			out[i] = "status-only"
			continue
		}
		if o == nil {
			continue
		}
		if list, there := o.lists["unit "+u.URI]; there {
			out[i] = map[bool]string{true: "proved", false: "not-in-ledger"}[len(list) > 0]
		}
	}
	return out
}
