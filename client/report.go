package client

import (
	"fmt"
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

// Line is one statement of a unit's history, for people.
type Line struct {
	Index  uint64       `json:"index"`
	Time   string       `json:"time"` // admittedAt, RFC 3339
	Kind   custody.Kind `json:"kind"`
	Actor  string       `json:"actor"`
	ID     string       `json:"id"`
	Effect string       `json:"effect"` // on this unit: applied, noted, pending, no-effect
	Code   custody.Code `json:"code,omitzero"`
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
	Fork       *Fork   `json:"fork,omitzero"`

	History *custody.History `json:"-"`
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

// claim says what the proofs amount to.
func (r *Report) claim(statements int, size uint64) string {
	var s string
	switch statements {
	case 0:
		s = "There is no statement about this serial"
	case 1:
		s = "This is the only statement about this serial"
	default:
		s = fmt.Sprintf("These are all %d statements about this serial", statements)
	}
	s += " as of entry " + grouped(size-1) + "; "
	switch n := len(r.AsOf.IndexWitnesses); n {
	case 0:
		s += "completeness: operator's word, auditable; "
	case 1:
		s += "checked by 1 index witness, "
	default:
		s += fmt.Sprintf("checked by %d index witnesses, ", n)
	}
	return s + fmt.Sprintf("cosigned by %d of %d.", len(r.AsOf.Cosigners), r.AsOf.Witnesses)
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

// lines tells the unit's own history, its loads' included, in log order.
func lines(h *custody.History) []Line {
	followed := map[custody.UnitRef]bool{h.Ref: true}
	for i := range h.Effects { // loads that it was in
		for _, u := range h.Effects[i].Units {
			if u.Unit == h.Ref && u.After.Place == custody.InLoad {
				followed[u.After.In] = true
			}
		}
	}
	var out []Line
	for i := range h.Effects {
		e := &h.Effects[i]
		for _, u := range e.Units {
			if u.Statement != e.ID || !followed[u.Unit] {
				continue
			}
			l := Line{Index: e.Index, Time: stamp(e.Time), Kind: e.Kind, Actor: e.Actor, ID: e.ID.String(), Effect: u.Outcome.String()}
			if u.Outcome == custody.NoEffect {
				l.Code = u.Code
			}
			out = append(out, l)
			break
		}
	}
	return out
}

func stamp(ms uint64) string {
	return time.UnixMilli(int64(min(ms, 1<<48))).UTC().Format(time.RFC3339)
}
