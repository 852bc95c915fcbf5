// Package labels holds what a scenario says beforehand about its own incidents:
// which units they concern, which verdicts and findings must follow, and what the
// door must refuse. It is kept beside the demo, where nothing that verifies can
// import it: a verdict is worked out from the log alone and then held against
// these.
package labels

import (
	"cmp"
	"fmt"
	"slices"
)

// Finding is one finding that must be drawn: no more, no fewer.
type Finding struct {
	Rule    string `json:"rule"`
	Unit    string `json:"unit"`    // URI of the first unit that it speaks of
	Accused string `json:"accused"` // party URI
}

func (f Finding) String() string {
	return fmt.Sprintf("%s on %s, accused %s", f.Rule, f.Unit, f.Accused)
}

// Verdict is the word that verifying a unit must lead to.
type Verdict struct {
	Unit   string `json:"unit"`
	Word   string `json:"verdict"`
	Reason string `json:"reason,omitempty"` // code of a check that must have failed
	Public bool   `json:"public,omitempty"` // asked without the pedigree key
}

// Refusal is a statement that the door must not log.
type Refusal struct {
	Kind  string `json:"kind"`  // predicate
	Unit  string `json:"unit"`  // its subject
	Actor string `json:"actor"` // party URI
	Type  string `json:"type"`  // problem type
}

func (r Refusal) String() string {
	return fmt.Sprintf("%s of %s by %s: %s", r.Kind, r.Unit, r.Actor, r.Type)
}

// Label is one incident, or one harmless irregularity.
type Label struct {
	Name     string    `json:"name"`
	Story    string    `json:"story"` // what happened, in one sentence
	Benign   bool      `json:"benign,omitempty"`
	Units    []string  `json:"units"`
	Verdicts []Verdict `json:"verdicts,omitempty"`
	Findings []Finding `json:"findings,omitempty"`
	Refusals []Refusal `json:"refusals,omitempty"`
}

// Set is all that a scenario says.
type Set struct {
	Seed    uint64  `json:"seed"`
	Devices int     `json:"devices"`
	Labels  []Label `json:"labels"`
}

// Verdicts lists the units to verify with the words expected, in order.
func (s *Set) Verdicts() []Verdict {
	var out []Verdict
	for _, l := range s.Labels {
		out = append(out, l.Verdicts...)
	}
	return out
}

// Seen is what a played scenario showed.
type Seen struct {
	Verdicts map[Verdict]SeenVerdict // by the expectation that was asked for
	Findings []Finding
	Refusals []Refusal
}

// SeenVerdict is a verdict and the checks that failed.
type SeenVerdict struct {
	Word    string
	Reasons []string
}

// Diff compares: one line for every difference, none if all is as labelled.
func (s *Set) Diff(seen Seen) []string {
	var diff []string
	for _, v := range s.Verdicts() {
		got, ok := seen.Verdicts[v]
		switch {
		case !ok:
			diff = append(diff, fmt.Sprintf("verdict of %s: was not asked for", v.Unit))
		case got.Word != v.Word:
			diff = append(diff, fmt.Sprintf("verdict of %s: %s %v, labelled %s", v.Unit, got.Word, got.Reasons, v.Word))
		case v.Reason != "" && !slices.Contains(got.Reasons, v.Reason):
			diff = append(diff, fmt.Sprintf("verdict of %s: for reasons %v, labelled %s", v.Unit, got.Reasons, v.Reason))
		}
	}
	var findings []Finding
	var refusals []Refusal
	for _, l := range s.Labels {
		findings = append(findings, l.Findings...)
		refusals = append(refusals, l.Refusals...)
	}
	diff = append(diff, compare("finding", findings, seen.Findings)...)
	return append(diff, compare("refusal", refusals, seen.Refusals)...)
}

// compare compares two multisets.
func compare[T interface {
	comparable
	fmt.Stringer
}](what string, want, got []T) []string {
	count := map[T]int{}
	for _, w := range want {
		count[w]++
	}
	for _, g := range got {
		count[g]--
	}
	var diff []string
	for x, n := range count {
		switch {
		case n > 0:
			diff = append(diff, fmt.Sprintf("%s missing (%d): %s", what, n, x))
		case n < 0:
			diff = append(diff, fmt.Sprintf("%s not labelled (%d): %s", what, -n, x))
		}
	}
	slices.SortFunc(diff, cmp.Compare[string])
	return diff
}
