package labels

import (
	"slices"
	"strings"
	"testing"
)

func example() *Set {
	return &Set{Labels: []Label{{
		Name:     "one",
		Verdicts: []Verdict{{Unit: "u1", Word: "verified"}, {Unit: "u2", Word: "do-not-install", Reason: "recall"}},
		Findings: []Finding{{Rule: "LANE", Unit: "u2", Accused: "p"}},
		Refusals: []Refusal{{Kind: "sighting", Unit: "u1", Actor: "p", Type: "key_revoked"}},
	}}}
}

func seen() Seen {
	return Seen{
		Verdicts: map[Verdict]SeenVerdict{
			{Unit: "u1", Word: "verified"}:                         {Word: "verified"},
			{Unit: "u2", Word: "do-not-install", Reason: "recall"}: {Word: "do-not-install", Reasons: []string{"recall", "claims"}},
		},
		Findings: []Finding{{Rule: "LANE", Unit: "u2", Accused: "p"}},
		Refusals: []Refusal{{Kind: "sighting", Unit: "u1", Actor: "p", Type: "key_revoked"}},
	}
}

func TestDiff(t *testing.T) {
	u2 := Verdict{Unit: "u2", Word: "do-not-install", Reason: "recall"}
	for name, tc := range map[string]struct {
		change func(*Seen)
		want   string // in the one line of the difference; "" is none
	}{
		"as labelled":      {func(*Seen) {}, ""},
		"other word":       {func(s *Seen) { s.Verdicts[u2] = SeenVerdict{Word: "verified"} }, "labelled do-not-install"},
		"other reason":     {func(s *Seen) { s.Verdicts[u2] = SeenVerdict{Word: "do-not-install", Reasons: []string{"hold"}} }, "labelled recall"},
		"not asked":        {func(s *Seen) { delete(s.Verdicts, u2) }, "was not asked for"},
		"finding missing":  {func(s *Seen) { s.Findings = nil }, "finding missing (1): LANE"},
		"finding too many": {func(s *Seen) { s.Findings = append(s.Findings, Finding{Rule: "FORK"}) }, "finding not labelled (1): FORK"},
		"finding twice":    {func(s *Seen) { s.Findings = append(s.Findings, s.Findings[0]) }, "finding not labelled (1): LANE"},
		"refusal missing":  {func(s *Seen) { s.Refusals = nil }, "refusal missing (1)"},
		"refusal of other": {func(s *Seen) { s.Refusals = append(s.Refusals, Refusal{Type: "bad_signature"}) }, "refusal not labelled (1)"},
	} {
		s := seen()
		tc.change(&s)
		diff := example().Diff(s)
		if tc.want == "" && len(diff) != 0 || tc.want != "" && (len(diff) != 1 || !strings.Contains(diff[0], tc.want)) {
			t.Errorf("%s: %q, want %q", name, diff, tc.want)
		}
	}
	wrong := seen()
	wrong.Findings = []Finding{{Rule: "LANE", Unit: "u2", Accused: "q"}}
	if diff := example().Diff(wrong); len(diff) != 2 || !slices.IsSorted(diff) {
		t.Errorf("another party accused: %q, want one missing and one not labelled", diff)
	}
}
