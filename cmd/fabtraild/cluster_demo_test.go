package main

import (
	"cmp"
	"encoding/json"
	"slices"
	"testing"

	"fabtrail.dev/fabtrail/ledger/trillian/clustertest"
)

// outcome is what a demo ended with. Which entries are evidence is no part of it:
// index commitments come between statements as publications fall, on any engine.
type outcome struct {
	Units, Statements int
	Verdicts          []struct {
		URI, Verdict string
		Reasons      []string
	}
	Findings  []demoFinding
	Witnesses []string
	Diff      []string // from the labels
}

type demoFinding struct {
	Rule, Tier, Unit, Actor string
	Evidence                []uint64
}

// demoOutcome plays a small demo to its end.
func demoOutcome(t *testing.T, more ...string) (o outcome) {
	t.Helper()
	out := run(t, append([]string{"demo", "--devices", "40", "--seed", "4", "--exit", "--json"}, more...)...)
	if err := json.Unmarshal(out, &o); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	for i, f := range o.Findings {
		for k := range f.Evidence {
			o.Findings[i].Evidence[k] = 0 // only how many
		}
	}
	slices.SortFunc(o.Findings, func(a, b demoFinding) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Unit, b.Unit), cmp.Compare(a.Actor, b.Actor))
	})
	slices.Sort(o.Witnesses)
	return o
}

// demoed: the demo's verdicts and findings do not depend on what keeps its entries.
func demoed(t *testing.T, c *clustertest.Cluster) {
	text := func(o outcome) string {
		t.Helper()
		b, err := json.MarshalIndent(o, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	here := demoOutcome(t)
	if len(here.Verdicts) == 0 || len(here.Findings) == 0 || len(here.Diff) > 0 {
		t.Fatalf("the demo on the embedded engine: %s", text(here))
	}
	before, err := c.Leaves()
	if err != nil {
		t.Fatal(err)
	}
	there := demoOutcome(t, "--engine", "trillian", "--trillian", c.Addr(), "--postgres", c.URI())
	if after, err := c.Leaves(); err != nil || after < before+uint64(there.Statements) {
		t.Errorf("the demo recorded %d statements, the cluster has %d leaves more: %v", there.Statements, after-before, err)
	}
	if a, b := text(here), text(there); a != b {
		t.Errorf("the demo ends otherwise on a cluster: %s\non the embedded engine: %s", b, a)
	}
}
