package client

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"fabtrail.dev/fabtrail/custody"
)

// The checks that a Report lists before those of the history itself, in order.
const (
	CheckLogSignature = "log-signature" // the trusted log signed the checkpoint
	CheckQuorum       = "quorum"        // enough witnesses cosigned it
	CheckFreshness    = "freshness"     // they did so lately
	CheckConsistency  = "consistency"   // it is of the history seen before
	CheckCommitment   = "commitment"    // its last entry commits to the index
	CheckLogTime      = "log-time"      // log time keeps up with the witnesses' time
	CheckCompleteness = "completeness"  // an index-verifying cosigner vouches for the index
	CheckAnswer       = "answer"        // every list, entry, signature and member holds
	CheckCharter      = "charter"       // entry 0 is the charter trusted
	CheckHistory      = "history"       // the closure is whole, and folds
	CheckPedigree     = "pedigree"      // the pedigree key is the unit's
)

// Check is one thing that a verifier looked at.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// AsOf says which checkpoint a report rests on.
type AsOf struct {
	Origin         string   `json:"origin"`
	Size           uint64   `json:"size"`
	Root           string   `json:"root"`
	Time           string   `json:"time,omitzero"` // of the quorum's cosignatures, RFC 3339
	Cosigners      []string `json:"cosigners"`
	Witnesses      int      `json:"witnesses"` // how many the policy lists
	IndexWitnesses []string `json:"indexWitnesses"`
}

// Line is one statement of a unit's history, or about a load while the unit was in
// it, for people.
type Line struct {
	Index  uint64       `json:"index"`
	Time   string       `json:"time"` // admittedAt, RFC 3339
	Kind   custody.Kind `json:"kind"`
	Actor  string       `json:"actor"`
	ID     string       `json:"id"`
	Effect string       `json:"effect"` // on this unit: applied, noted, pending, no-effect
	Code   custody.Code `json:"code,omitzero"`
	On     string       `json:"on,omitzero"` // the container of the load that it is about, if not the unit
}

// Report is all that a verification found out. Verdict.Word is the answer; a
// program never concludes anything from the absence of a failed check.
type Report struct {
	URI string `json:"uri"`
	custody.Verdict
	Checks     []Check `json:"checks"`
	Complete   bool    `json:"complete"` // completeness was checked, not only claimed
	AsOf       *AsOf   `json:"asOf,omitzero"`
	Claim      string  `json:"claim,omitzero"` // what the proofs say, in one sentence
	ServerWord string  `json:"serverWord,omitzero"`
	Lines      []Line  `json:"history,omitzero"`
	// Parties gives the legal names, as enrolled, of the parties that signed or are
	// named in the history, by URI.
	Parties map[string]string `json:"parties,omitzero"`
	Fork    *Fork             `json:"fork,omitzero"`

	History  *custody.History     `json:"-"`
	Findings []custody.Conclusion `json:"-"` // as the verdict took them
}

// pass and fail add a check.
func (r *Report) pass(name, format string, a ...any) {
	r.Checks = append(r.Checks, Check{name, true, fmt.Sprintf(format, a...)})
}

func (r *Report) fail(name, format string, a ...any) {
	r.Checks = append(r.Checks, Check{name, false, fmt.Sprintf(format, a...)})
}

// broken ends a verification: the fault is the ledger's or the connection's.
func (r *Report) broken(name, format string, a ...any) *Report {
	r.fail(name, format, a...)
	r.Word, r.Sentence = custody.CouldNotVerify, custody.Sentences[custody.CouldNotVerify]
	r.Reasons = append([]custody.Reason{{Code: name, Weight: custody.WeightBroken, Word: custody.CouldNotVerify,
		Text: r.Checks[len(r.Checks)-1].Detail}}, r.Reasons...)
	return r
}

// worsen adds a failed reason and lowers the word to what it leads to.
func (r *Report) worsen(code string, w custody.Weight, format string, a ...any) {
	r.Reasons = append([]custody.Reason{{Code: code, Weight: w, Word: w.Word(), Text: fmt.Sprintf(format, a...)}}, r.Reasons...)
	rank := map[custody.Word]custody.Weight{}
	for x := custody.WeightNone; x <= custody.WeightBroken; x++ {
		rank[x.Word()] = x
	}
	if w > rank[r.Word] {
		r.Word, r.Sentence = w.Word(), custody.Sentences[w.Word()]
	}
}

// claim says what the proofs amount to, and who says so: without an index witness that
// these are all is the operator's word.
func (r *Report) claim(statements int, size uint64) string {
	carried, witnesses := r.carried(), len(r.AsOf.IndexWitnesses)
	word := func(alone, listed string) string {
		if witnesses == 0 {
			return listed
		}
		return alone
	}
	var s string
	switch {
	case statements == 0:
		s = word("There is no statement about this serial", "The operator lists no statement about this serial")
	case statements == 1:
		s = word("This is the only statement about this serial", "The operator lists one statement about this serial")
	default:
		s = word("These are all %d statements about this serial", "The operator lists %d statements about this serial")
		s = fmt.Sprintf(s, statements)
	}
	switch {
	case carried == 0:
	case carried == 1:
		s += word(", with the only one about what it travelled in,", ", and one about what it travelled in,")
	default:
		s += fmt.Sprintf(word(", with all %d about what it travelled in,", ", and %d about what it travelled in,"), carried)
	}
	s += " as of entry " + grouped(size-1) + "; "
	switch witnesses {
	case 0:
		s += "completeness: operator's word, auditable; "
	case 1:
		s += "checked by 1 index witness, "
	default:
		s += fmt.Sprintf("checked by %d index witnesses, ", witnesses)
	}
	if r.AsOf.Witnesses == 0 {
		return s + "cosigned by nobody, as no witness is trusted."
	}
	return s + fmt.Sprintf("cosigned by %d of %d.", len(r.AsOf.Cosigners), r.AsOf.Witnesses)
}

// carried counts the statements told about loads that the unit was in.
func (r *Report) carried() (n int) {
	for _, l := range r.Lines {
		if l.On != "" {
			n++
		}
	}
	return n
}

// parties names those whose enrolment is part of a history.
func parties(h *custody.History) map[string]string {
	names := map[string]string{}
	for _, it := range h.Items {
		if s := it.Signed.Statement; s.Kind == custody.KindParty {
			if p, ok := custody.LoadParty(h.State, s.Subject); ok && p.LegalName != "" {
				names[s.Subject] = p.LegalName
			}
		}
	}
	return names
}

// grouped writes n with commas between groups of three digits.
func grouped(n uint64) string {
	s := strconv.FormatUint(n, 10)
	var b strings.Builder
	for i, c := range s {
		if i > 0 && (len(s)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return b.String()
}

// stay is the time, in log indexes, that a unit was in what it was in: between the
// entry that put it there and the one that took it out.
type stay struct {
	ref      custody.UnitRef
	from, to uint64
}

// stays lists the unit itself, and the loads that it was in, directly or in other
// loads, each with when.
func stays(h *custody.History) []stay {
	list := []stay{{h.Ref, 0, math.MaxUint64}}
	for n := 0; n < len(list) && n < maxStays; n++ {
		outer, open := list[n], -1
		for i := range h.Effects {
			e := &h.Effects[i]
			for _, u := range e.Units {
				if u.Unit != outer.ref || u.Before.Place == u.After.Place && u.Before.In == u.After.In {
					continue
				}
				if open >= 0 {
					list[open].to, open = min(list[open].to, e.Index), -1
				}
				if u.After.Place == custody.InLoad && e.Index < outer.to {
					list, open = append(list, stay{u.After.In, max(e.Index, outer.from), outer.to}), len(list)
				}
			}
		}
	}
	return slices.DeleteFunc(list, func(s stay) bool { return s.from >= s.to })
}

// maxStays bounds the loads whose statements are told.
const maxStays = 256

// lines tells the unit's own history in log order, with what befell the loads that
// it was in while it was in them.
func lines(h *custody.History) []Line {
	list := stays(h)
	var out []Line
	for i := range h.Effects {
		e := &h.Effects[i]
		told := -1 // index in list of what is told; the innermost comes first
		var what custody.UnitEffect
		for _, u := range e.Units {
			at := slices.IndexFunc(list, func(s stay) bool {
				return s.ref == u.Unit && (s.ref == h.Ref || s.from < e.Index && e.Index < s.to)
			})
			if u.Statement == e.ID && at >= 0 && (told < 0 || at < told) {
				told, what = at, u
			}
		}
		if told < 0 {
			continue
		}
		l := Line{Index: e.Index, Time: stamp(e.Time), Kind: e.Kind, Actor: e.Actor, ID: e.ID.String(), Effect: what.Outcome.String()}
		if what.Outcome == custody.NoEffect {
			l.Code = what.Code
		}
		if what.Unit != h.Ref {
			l.On = what.Unit.URI
		}
		out = append(out, l)
	}
	return out
}

func stamp(ms uint64) string {
	return time.UnixMilli(int64(min(ms, 1<<48))).UTC().Format(time.RFC3339)
}
