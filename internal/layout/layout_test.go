package layout

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "fabtrail.dev/fabtrail/"

// allowed lists, for each package, the packages of this module that it may
// depend on, directly or not. A package that is not listed fails the test.
var allowed = map[string][]string{
	"internal/problem":                   {},
	"ledger/entry":                       {},
	"ledger/checkpoint":                  {"ledger/entry"},
	"ledger/unitindex":                   {"ledger/entry"},
	"ledger":                             {"internal/problem", "ledger/entry", "ledger/checkpoint", "ledger/unitindex"},
	"ledger/ledgertest":                  {"internal/problem", "ledger", "ledger/entry", "ledger/checkpoint", "ledger/unitindex"},
	"ledger/ledgertest/rawlog":           {"internal/problem", "ledger", "ledger/entry", "ledger/checkpoint", "ledger/unitindex", "ledger/ledgertest"},
	"ledger/trillian":                    {"internal/problem", "ledger", "ledger/entry", "ledger/checkpoint", "ledger/unitindex"},
	"ledger/trillian/clustertest":        {"internal/freeport", "internal/problem", "ledger", "ledger/entry", "ledger/checkpoint", "ledger/unitindex", "ledger/trillian"},
	"custody/gs1":                        {"internal/problem"},
	"custody":                            {"internal/problem", "ledger/entry", "custody/gs1"},
	"custody/gs1/epcis":                  {"internal/problem", "ledger/entry", "custody/gs1", "custody"},
	"custody/rules":                      {"internal/problem", "ledger/entry", "custody/gs1", "custody"},
	"custody/view":                       {"internal/problem", "ledger/entry", "custody/gs1", "custody", "custody/rules"},
	"custody/layout":                     {"internal/problem", "ledger/entry", "custody/gs1", "custody"},
	"custody/custodytest":                {"internal/problem", "ledger/entry", "custody/gs1", "custody"},
	"cmd/fabtraild/internal/demo":        {"*"},
	"cmd/fabtraild/internal/demo/labels": {},
	"custody/answer":                     {"internal/problem", "ledger/entry", "ledger/checkpoint", "ledger/unitindex", "custody/gs1", "custody"},
	"custody/answer/answertest":          {"internal/problem", "ledger/entry", "ledger/checkpoint", "ledger/unitindex", "custody/gs1", "custody"},
	"witness":                            {"internal/problem", "ledger/entry", "ledger/checkpoint"},
	"client":                             {"internal/problem", "ledger/entry", "ledger/checkpoint", "ledger/unitindex", "custody/gs1", "custody", "custody/rules", "custody/answer"},
	"api":                                {"internal/problem", "ledger/entry", "ledger/checkpoint"},
	"api/openapi":                        {},
	"internal/node":                      {"*"},
	"internal/bench":                     {"*"},
	"internal/demo":                      {"*"},
	"internal/cli":                       {"*"},
	"cmd/fabtraild":                      {"*"},
	"cmd/fabtrail":                       {"*"},
	"internal/differential":              {"*"}, // only tests, against what others wrote
	"internal/freeport":                  {},
	"internal/fuzzrun":                   {},
	"internal/planted":                   {},
	"internal/procs":                     {},
	"internal/sbom":                      {},
	"internal/vectors":                   {}, // a second implementation: knows none of the first
	"internal/layout":                    {},
	"docs":                               {"*"}, // only tests, which compare the pages with the code
}

// heavy lists dependencies that whoever embeds a client must not inherit.
var heavy = []string{
	"github.com/cockroachdb/pebble",
	"github.com/labstack/echo",
	"google.golang.org/grpc",
	"github.com/google/trillian",
	"github.com/prometheus/client_golang",
}

// light lists the packages that must not depend on the heavy ones.
var light = []string{"client", "custody", "custody/answer", "custody/rules", "custody/gs1", "custody/gs1/epcis", "ledger/entry", "ledger/checkpoint", "ledger/unitindex"}

func list(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = "../.."
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v\n%s", args, err, stderr.String())
	}
	return strings.Fields(string(out))
}

func TestArrowsRunOneWay(t *testing.T) {
	for _, pkg := range list(t, "./...") {
		name := strings.TrimPrefix(pkg, module)
		may, ok := allowed[name]
		if !ok {
			t.Errorf("package %s is not in the layout: add it to the table and to docs/architecture.md, with the reason", name)
			continue
		}
		for _, dep := range list(t, "-deps", pkg) {
			if dep == pkg {
				continue
			}
			if own, ok := strings.CutPrefix(dep, module); ok && !slices.Contains(may, "*") && !slices.Contains(may, own) {
				t.Errorf("%s depends on %s, which the layout does not allow", name, own)
			}
			if slices.Contains(light, name) && slices.ContainsFunc(heavy, func(h string) bool { return strings.HasPrefix(dep, h) }) {
				t.Errorf("%s depends on %s, which is too heavy for it", name, dep)
			}
		}
	}
}
