package custody

import (
	"cmp"
	"fmt"
	"slices"
)

// Word is a verdict in one word.
type Word string

// The verdicts, best first; the last four are no answer about the unit's history.
const (
	Verified       Word = "verified"
	VerifiedNote   Word = "verified-note"
	CheckBeforeUse Word = "check-before-use"
	DoNotInstall   Word = "do-not-install"
	NotInLedger    Word = "not-in-ledger"
	StatusOnly     Word = "status-only"
	CouldNotVerify Word = "could-not-verify"
)

// Sentences says for each word what to do.
var Sentences = map[Word]string{
	Verified:       "The ledger's proofs show one unbroken history; you can use this unit.",
	VerifiedNote:   "The history is unbroken, with notes; read them, and use this unit if they do not trouble you.",
	CheckBeforeUse: "Something in the history contradicts itself; ask the seller or maker before you use this unit.",
	DoNotInstall:   "Do not install this unit; set it aside and ask the maker.",
	NotInLedger:    "No commissioning of this serial is in the ledger; do not use it as genuine, and check the spelling of the serial.",
	StatusOnly:     "Without the unit's pedigree key only a status is shown; scan the code on the unit to verify it.",
	CouldNotVerify: "The answer could not be verified; this says nothing about the unit. Try again, or ask another copy of the ledger.",
}

// Weight is how far a reason can push a verdict.
type Weight byte

// The weights, in ascending order.
const (
	WeightNone   Weight = iota // a check that passed
	WeightNote                 // verified-note
	WeightCheck                // check-before-use
	WeightStop                 // do-not-install
	WeightAbsent               // not-in-ledger
	WeightBroken               // could-not-verify
)

var weightWords = [...]Word{Verified, VerifiedNote, CheckBeforeUse, DoNotInstall, NotInLedger, CouldNotVerify}

// Word is the verdict that a reason of this weight leads to by itself.
func (w Weight) Word() Word { return weightWords[min(int(w), len(weightWords)-1)] }

// Reason is one check of a verdict, passed or failed.
type Reason struct {
	Code    string   `json:"code"`
	Passed  bool     `json:"passed"`
	Weight  Weight   `json:"-"`
	Word    Word     `json:"word,omitzero"` // what a failed check leads to by itself
	Text    string   `json:"text"`
	Entries []uint64 `json:"entries,omitzero"` // log indexes that show it
}

// Verdict is the answer about a unit.
type Verdict struct {
	Word     Word     `json:"verdict"`
	Sentence string   `json:"sentence"`
	Reasons  []Reason `json:"reasons"` // failed ones first, heaviest first; then those that passed
}

// Failed lists the codes of the checks that failed, heaviest first.
func (v Verdict) Failed() []string {
	var cs []string
	for _, r := range v.Reasons {
		if !r.Passed {
			cs = append(cs, r.Code)
		}
	}
	return cs
}

// Conclusion is a finding as a verdict takes it: worked out from the closure, or
// logged by somebody.
type Conclusion struct {
	Rule     string
	Tier     string
	Accused  string
	Weight   Weight // how far it may push the verdict
	Evidence []uint64
	Words    string
	// Logged is the log index of the finding statement, if it was not worked out
	// here: then it is its signer's word.
	Logged *uint64
}

// Inputs is what a verdict takes beside the history.
type Inputs struct {
	// Complete says that an index-verifying cosigner whom the verifier trusts
	// stands behind the index commitment. Without it the verdict is at best
	// verified-note.
	Complete bool
	Findings []Conclusion
}

// CodeFinding begins the reason codes of findings: "finding_" and the rule's id.
const CodeFinding = "finding_"

// ReasonCodes is the table of all reason codes of histories, with what each says
// when its check passes and the heaviest word that it leads to when it fails.
// Findings add CodeFinding + rule.
var ReasonCodes = []ReasonCode{
	{"admission", WeightBroken, "every entry was rightly admitted"},
	{"listed", WeightAbsent, "the ledger has statements about this serial"},
	{"commissioned", WeightAbsent, "the serial was commissioned by a party entitled to"},
	{"recall", WeightStop, "no recall is open"},
	{"hold", WeightStop, "no hold is open"},
	{"retired", WeightStop, "it was not retired"},
	{"identity_revoked", WeightStop, "its identity is not revoked"},
	{"identity_suspended", WeightCheck, "its identity is not suspended"},
	{"device_key", WeightStop, "its device key belongs to no other serial"},
	{"part_recall", WeightStop, "no part is recalled"},
	{"part_hold", WeightCheck, "no part is on hold"},
	{"part_joined", WeightCheck, "every part is where the history puts it"},
	{"part_ended", WeightCheck, "no part is retired or revoked"},
	{"parts_followed", WeightNote, "all parts were followed"},
	{"part_of", WeightNote, "it is not part of another unit"},
	{"handover", WeightNote, "no hand-over is open"},
	{"correction", WeightNote, "nothing was taken back"},
	{"late_posting", WeightNote, "every statement came in its order"},
	{"pending", WeightNote, "no statement waits for its predecessor"},
	{"claims", WeightNote, "no statement is without effect"},
	{"dispute", WeightNote, "nothing is disputed"},
	{"completeness", WeightNote, "the completeness of the history was checked by an index witness"},
	{"container", WeightBroken, "it is a unit"},
}

// ReasonCode is one row of the table.
type ReasonCode struct {
	Code   string
	Weight Weight
	Passed string
}

// Judge gives the verdict about a history. It is a pure function: the same
// closure, findings and inputs give the same verdict anywhere.
func Judge(h *History, in Inputs) Verdict {
	j := judge{h: h}
	if len(h.Items) == 0 {
		text := "the ledger proves that it has no statement about this serial"
		if !in.Complete {
			text = "the ledger shows no statement about this serial"
		}
		j.fail("listed", WeightAbsent, nil, "%s", text)
		j.completeness(in)
		return j.verdict()
	}
	for _, a := range h.Accused {
		j.fail("admission", WeightBroken, []uint64{a.Index}, "entry %d should not have been admitted (%s)", a.Index, a.Code)
	}
	if h.Unit.Phase == PhaseNone {
		j.unknown()
	} else {
		j.state()
		j.parts()
	}
	j.course()
	for _, c := range in.Findings {
		j.finding(c)
	}
	j.completeness(in)
	return j.verdict()
}

type judge struct {
	h       *History
	reasons []Reason
}

func (j *judge) completeness(in Inputs) {
	if !in.Complete {
		j.fail("completeness", WeightNote, nil, "that nothing was left out is the operator's word, auditable")
	}
}

func (j *judge) fail(code string, w Weight, entries []uint64, format string, a ...any) {
	r := Reason{Code: code, Weight: w, Word: w.Word(), Text: fmt.Sprintf(format, a...), Entries: entries}
	for _, have := range j.reasons {
		if have.Code == r.Code && have.Text == r.Text {
			return
		}
	}
	j.reasons = append(j.reasons, r)
}

// verdict adds the checks that passed and takes the heaviest word.
func (j *judge) verdict() Verdict {
	word := WeightNone
	failed := map[string]bool{}
	for _, r := range j.reasons {
		word = max(word, r.Weight)
		failed[r.Code] = true
	}
	slices.SortStableFunc(j.reasons, func(a, b Reason) int { return cmp.Compare(b.Weight, a.Weight) })
	if len(j.h.Items) > 0 {
		for _, c := range ReasonCodes {
			if !failed[c.Code] && (j.h.Unit.Phase != PhaseNone || c.Code == "admission" || c.Code == "listed") {
				j.reasons = append(j.reasons, Reason{Code: c.Code, Passed: true, Text: c.Passed})
			}
		}
	}
	w := word.Word()
	return Verdict{Word: w, Sentence: Sentences[w], Reasons: j.reasons}
}

func (j *judge) unknown() {
	for _, it := range j.h.Items {
		if s := it.Signed.Statement; s.Kind == KindPack && s.Subject == j.h.Ref.URI && !j.h.Ref.IsLoad() {
			j.fail("container", WeightBroken, []uint64{it.Index}, "this is a container: ask for one of its loads, or for a unit in it")
			return
		}
	}
	j.fail("commissioned", WeightAbsent, j.h.Entries(), "no commissioning of this serial took effect")
}

func (j *judge) state() {
	h, u := j.h, j.h.Unit
	for _, r := range h.Recalls {
		if !r.Part {
			j.fail("recall", WeightStop, []uint64{r.Index}, "recalled by %s (%s)%s", r.Actor, r.Selector, because(r.Reason))
		}
	}
	for _, x := range h.Holds {
		if !x.Part {
			j.fail("hold", WeightStop, []uint64{x.Index}, "on hold by %s%s", x.By, because(x.Reason))
		}
	}
	if u.Phase == PhaseEnded {
		j.fail("retired", WeightStop, []uint64{u.HeadIndex}, "it was retired by %s", u.Party)
	}
	switch u.Identity {
	case IdentityRevoked:
		j.fail("identity_revoked", WeightStop, nil, "its identity was revoked")
	case IdentitySuspended:
		j.fail("identity_suspended", WeightCheck, nil, "its identity is suspended")
	}
	for _, t := range h.Twins {
		j.fail("device_key", WeightStop, []uint64{t.Own, t.At}, "its device key is bound to %s as well: one of the two is a copy", t.Unit)
	}
	if u.Place == PartOf {
		j.fail("part_of", WeightNote, []uint64{u.Since}, "it is part of %s", u.In.URI)
	}
	for _, ref := range append([]UnitRef{h.Ref}, h.Within...) {
		if v := LoadUnit(h.State, ref); v != nil && v.Place == Free && v.Phase == PhaseReleased {
			j.fail("handover", WeightNote, []uint64{v.HeadIndex}, "%s released it to %s, who has not accepted yet", v.Party, v.To)
		}
	}
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

func (j *judge) parts() {
	for _, r := range j.h.Recalls {
		if r.Part {
			j.fail("part_recall", WeightStop, []uint64{r.Index}, "its part %s is recalled by %s%s", r.Unit, r.Actor, because(r.Reason))
		}
	}
	for _, x := range j.h.Holds {
		if x.Part {
			j.fail("part_hold", WeightCheck, []uint64{x.Index}, "its part %s is on hold by %s%s", x.On.URI, x.By, because(x.Reason))
		}
	}
	for _, p := range j.h.Parts {
		switch {
		case !p.Followed:
			j.fail("parts_followed", WeightNote, []uint64{p.Index}, "part %s was not followed", p.URI)
		case p.Unit == nil: // a quantity of a lot
		case !p.Joined && p.Unit.Place == PartOf:
			j.fail("part_joined", WeightCheck, []uint64{p.Index, p.Unit.Since}, "part %s is part of %s by its own history", p.URI, p.Unit.In.URI)
		case !p.Joined:
			j.fail("part_joined", WeightCheck, []uint64{p.Index}, "part %s did not join it by the part's own history", p.URI)
		case p.Unit.Phase == PhaseEnded || p.Unit.Identity == IdentityRevoked:
			j.fail("part_ended", WeightCheck, []uint64{p.Unit.HeadIndex}, "part %s is retired or revoked", p.URI)
		case p.Deeper:
			j.fail("parts_followed", WeightNote, []uint64{p.Index}, "parts of part %s were not followed", p.URI)
		}
	}
}

// course judges how the history came about. Statements without effect are notes
// here: what they prove, if anything, is for the rules to say.
func (j *judge) course() {
	for _, u := range j.h.On(j.h.Ref) {
		if u.Contents {
			continue // that is in no list of the load
		}
		at := []uint64{u.Index}
		switch {
		case u.Kind == KindVoid && u.Outcome == Applied:
			j.fail("correction", WeightNote, at, "%s took a statement back (entry %d)", u.Actor, u.Index)
		case u.Kind == KindDispute:
			j.fail("dispute", WeightNote, at, "%s disputes a statement (entry %d)", u.Actor, u.Index)
		case u.Outcome == NoEffect && !u.Operator:
			who := "a stranger to this unit"
			if j.h.Standing[u.Actor] {
				who = "a party of its history"
			}
			j.fail("claims", WeightNote, at, "%s, %s, claims %s that took no effect (%s)", u.Actor, who, u.Kind.Noun(), u.Code)
		}
		if u.Late && u.Outcome == Applied {
			j.fail("late_posting", WeightNote, at, "entry %d waited for a statement that came later", u.Index)
		}
	}
	for _, n := range j.h.Unit.Waiting {
		j.fail("pending", WeightNote, []uint64{n}, "entry %d waits for its predecessor", n)
	}
}

func (j *judge) finding(c Conclusion) {
	w := c.Weight
	source := "worked out from the history"
	if c.Logged != nil {
		source, w = fmt.Sprintf("entry %d, its signer's word", *c.Logged), WeightNote
	}
	// Statements of a stranger never push a verdict below a note by themselves.
	if !j.h.Standing[c.Accused] {
		w = min(w, WeightNote)
	}
	j.fail(CodeFinding+c.Rule, max(w, WeightNote), c.Evidence, "%s: %s (%s)", c.Rule, c.Words, source)
}
