package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTable: every bug can be planted in the tree as it is, its test exists, and the
// documents list it.
// Whether the test catches it is what make planted-bugs is for.
func TestTable(t *testing.T) {
	const root = "../.."
	bugs, err := parse(table)
	if err != nil {
		t.Fatal(err)
	}
	if len(bugs) < 20 {
		t.Errorf("only %d bugs", len(bugs))
	}
	docs, err := os.ReadFile(filepath.Join(root, "docs", "campaigns.md"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, b := range bugs {
		if !strings.Contains(string(docs), b.row()) {
			t.Errorf("docs/campaigns.md lacks the row\n%s", b.row())
		}
		if names[b.name] {
			t.Errorf("two bugs are called %q", b.name)
		}
		names[b.name] = true
		if len(b.edits) == 0 {
			t.Errorf("%s: changes nothing", b.name)
		}
		if _, err := b.apply(root); err != nil {
			t.Error(err)
		}
		if !hasTest(t, filepath.Join(root, b.pkg), b.test) {
			t.Errorf("%s: %s has no test %q", b.name, b.pkg, b.test)
		}
	}
}

func hasTest(t *testing.T, dir, name string) bool {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "\nfunc "+name+"(t *testing.T)") {
			return true
		}
	}
	return false
}

func TestParse(t *testing.T) {
	bugs, err := parse("# a\nbug: x: y\ntest: ./p TestQ\nfile: f.go\n<<<\na\n\n# b\n===\n>>>\nfile: g.go\n<<<\nc\n===\nd\n>>>\n")
	if err != nil || len(bugs) != 1 || bugs[0].name != "x: y" || bugs[0].pkg != "./p" || bugs[0].test != "TestQ" ||
		len(bugs[0].edits) != 2 || bugs[0].edits[0] != (edit{"f.go", "a\n\n# b\n", ""}) || bugs[0].edits[1] != (edit{"g.go", "c\n", "d\n"}) {
		t.Fatalf("%+v, %v", bugs, err)
	}
	for _, bad := range []string{"test: a b\n", "bug: x\n<<<\n", "nonsense\n", "bug: x\n===\n"} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
