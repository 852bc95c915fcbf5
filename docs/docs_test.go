package docs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/rules"
	"fabtrail.dev/fabtrail/ledger/entry"
)

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// rows returns the rows of the one table of a page whose header begins with head.
func rows(t *testing.T, page, head string) []string {
	t.Helper()
	var out []string
	in := false
	for _, line := range strings.Split(page, "\n") {
		switch {
		case strings.HasPrefix(line, head):
			if in || out != nil {
				t.Fatalf("there are two tables that begin with %q", head)
			}
			in = true
		case !strings.HasPrefix(line, "|"):
			in = false
		case in && !strings.HasPrefix(line, "|---"):
			out = append(out, line)
		}
	}
	if out == nil {
		t.Fatalf("there is no table that begins with %q", head)
	}
	return out
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("%s lacks the row\n%s", what, w)
		}
	}
	for _, g := range got {
		if !slices.Contains(want, g) {
			t.Errorf("%s has a row that the code does not\n%s", what, g)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s has %d rows, want %d", what, len(got), len(want))
	}
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func TestReasonCodesAreThoseOfTheCode(t *testing.T) {
	var want []string
	for _, r := range custody.ReasonCodes {
		want = append(want, fmt.Sprintf("| `%s` | `%s` | %s |", r.Code, r.Weight.Word(), r.Passed))
	}
	same(t, "verdicts.md", rows(t, read(t, "verdicts.md"), "| code | fails with |"), want)
}

func TestRulesAreThoseOfTheCode(t *testing.T) {
	var want []string
	for _, r := range rules.Table {
		want = append(want, fmt.Sprintf("| `%s` | %s | `%s` | %s | %s |", r.ID, r.Tier, r.Weight.Word(), yes(r.Local), r.Text))
	}
	same(t, "verdicts.md", rows(t, read(t, "verdicts.md"), "| rule | tier |"), want)

	var listed, all []string
	for _, r := range rows(t, read(t, "detection.md"), "| rule | reads |") {
		listed = append(listed, firstCell(r))
	}
	for _, r := range rules.Table {
		all = append(all, "`"+string(r.ID)+"`")
	}
	same(t, "detection.md", listed, all)
}

func firstCell(row string) string {
	return strings.TrimSpace(strings.SplitN(strings.TrimPrefix(row, "|"), "|", 2)[0])
}

func TestWordsAreThoseOfTheCode(t *testing.T) {
	var listed, all []string
	for _, r := range rows(t, read(t, "verdicts.md"), "| word | exit |") {
		listed = append(listed, firstCell(r))
	}
	for w := range custody.Sentences {
		all = append(all, "`"+string(w)+"`")
	}
	same(t, "verdicts.md", listed, all)
}

func TestKindsAreThoseOfTheCode(t *testing.T) {
	page := read(t, "formats.md")
	var want, rules, named []string
	for _, k := range custody.Kinds() {
		i, _ := k.Info()
		load, roles := i.Load, strings.Join(custody.RolesFor(k), ", ")
		if load == "" {
			load = "-"
		}
		if roles == "" {
			roles = "any"
		}
		want = append(want, fmt.Sprintf("| `%s` | %s | %s | %s | %s | %s | %s |", k, i.Class, i.Subjects, load, yes(i.Chained), i.Signers, roles))
		if !slices.Contains(rules, string(i.Signers)) {
			rules = append(rules, string(i.Signers))
		}
		named = append(named, "`"+string(k)+"`")
	}
	same(t, "formats.md", rows(t, page, "| kind | class |"), want)

	var signers, fields []string
	for _, r := range rows(t, page, "| rule | who signs |") {
		signers = append(signers, firstCell(r))
	}
	same(t, "the signers of formats.md", signers, rules)
	for _, r := range append(tables(page, "| kind | fields |"), tables(page, "| statement | listed under |")...) {
		fields = append(fields, firstCell(r))
	}
	for _, k := range named {
		// Each kind has its fields; that it is listed somewhere is said of it or of "all others".
		if !slices.Contains(fields, k) {
			t.Errorf("formats.md does not list the fields of %s", k)
		}
	}
}

// tables returns the rows of all tables whose header is head.
func tables(page, head string) (out []string) {
	in := false
	for _, line := range strings.Split(page, "\n") {
		switch {
		case strings.HasPrefix(line, head):
			in = true
		case !strings.HasPrefix(line, "|"):
			in = false
		case in && !strings.HasPrefix(line, "|---"):
			out = append(out, line)
		}
	}
	return out
}

// fieldTag is a JSON name in the source of the statements' bodies.
var fieldTag = regexp.MustCompile("`json:\"([^,\"]+)")

func TestFieldsAreThoseOfTheCode(t *testing.T) {
	page := read(t, "formats.md")
	for _, m := range fieldTag.FindAllStringSubmatch(read(t, "../custody/types.go"), -1) {
		name := m[1]
		if !strings.Contains(page, "`"+name+"`") && !regexp.MustCompile(`\W`+name+`\W`).MatchString(page) {
			t.Errorf("formats.md does not name the field %q", name)
		}
	}
}

func TestTopicKindsAreThoseOfTheCode(t *testing.T) {
	page := read(t, "formats.md")
	var listed []string
	for _, r := range tables(page, "| kind | value |") {
		listed = append(listed, strings.Split(firstCell(r), ", ")...)
	}
	var all []string
	for _, k := range []entry.TopicKind{entry.TopicUnit, entry.TopicLoad, entry.TopicContents, entry.TopicParty, entry.TopicAssessment,
		entry.TopicProduct, entry.TopicLane, entry.TopicLot, entry.TopicArtefact, entry.TopicRecallArtefact, entry.TopicKey,
		entry.TopicDeviceKey, entry.TopicLog} {
		all = append(all, "`"+string(k)+"`")
	}
	same(t, "the topics of formats.md", listed, all)
}

// domain is a domain separation string in source.
var domain = regexp.MustCompile(`"(fabtrail/[a-z-]+(?:/[a-z]+)*/v1)(?:\\n)?"`)

// internalDomains are of bytes that never leave the machine that wrote them.
var internalDomains = []string{"fabtrail/index-snapshot/v1", "fabtrail/witness/v1", "fabtrail/witness-mark/v1"}

func TestDomainsAreAllExplained(t *testing.T) {
	page := read(t, "formats.md")
	found := 0
	for _, dir := range []string{"../ledger", "../custody", "../client", "../cmd"} {
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			for _, m := range domain.FindAllStringSubmatch(read(t, path), -1) {
				found++
				if !strings.Contains(page, m[1]) && !slices.Contains(internalDomains, m[1]) {
					t.Errorf("%s: formats.md does not explain %s", path, m[1])
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found < 10 {
		t.Errorf("only %d domain strings were found in the source", found)
	}
}

// pages are all pages of the project.
func pages(t *testing.T) []string {
	t.Helper()
	ps, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	ps = append(ps, "../README.md", "../CONTRIBUTING.md")
	more, err := filepath.Glob("../testdata/*/README.md")
	if err != nil {
		t.Fatal(err)
	}
	return append(ps, more...)
}

// link is a Markdown link to a file of ours, with an optional heading.
var link = regexp.MustCompile(`\]\(([^):#]*)(#[^)]*)?\)`)

func TestLinksResolve(t *testing.T) {
	n := 0
	for _, p := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(read(t, p), -1) {
			n++
			target := p
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(p), m[1])
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which is not there", p, m[1])
				continue
			}
			if m[2] != "" && !slices.Contains(anchors(read(t, target)), m[2]) {
				t.Errorf("%s links to %s%s, and there is no such heading", p, m[1], m[2])
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d links were found", n)
	}
}

// anchors returns the headings of a page as GitHub names them.
func anchors(page string) (as []string) {
	drop := regexp.MustCompile(`[^a-z0-9 _-]`)
	for _, line := range strings.Split(page, "\n") {
		if h := strings.TrimLeft(line, "#"); h != line && strings.HasPrefix(h, " ") {
			as = append(as, "#"+strings.ReplaceAll(drop.ReplaceAllString(strings.ToLower(strings.TrimSpace(h)), ""), " ", "-"))
		}
	}
	return as
}

func TestEveryPageIsReached(t *testing.T) {
	readme := read(t, "../README.md")
	ps, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ps {
		if !strings.Contains(readme, "(docs/"+p+")") {
			t.Errorf("the README does not link to docs/%s", p)
		}
	}
}

func TestArchitectureNamesEveryPackage(t *testing.T) {
	page := read(t, "architecture.md")
	cmd := exec.Command("go", "list", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range strings.Fields(string(out)) {
		name := strings.TrimPrefix(pkg, "fabtrail.dev/fabtrail/")
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("architecture.md does not name package %s", name)
		}
	}
}

// command is a line of a page that runs one of our programs.
var command = regexp.MustCompile(`(?m)^\$? ?(?:go run \./cmd/)?(fabtraild?) ([^\n]*(?:\\\n[^\n]*)*)`)

// TestCommandsExist asks the programs about every command line in the pages: the
// command is there, and so is each flag.
func TestCommandsExist(t *testing.T) {
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin, "./cmd/...")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	help := map[string]string{}
	ask := func(words []string) string {
		key := strings.Join(words, " ")
		if h, ok := help[key]; ok {
			return h
		}
		out, err := exec.Command(filepath.Join(bin, words[0]), append(words[1:], "--help")...).CombinedOutput()
		if err != nil {
			t.Errorf("%s --help: %v", key, err)
		}
		help[key] = string(out)
		return help[key]
	}
	for _, p := range pages(t) {
		for _, block := range regexp.MustCompile("(?ms)^```(?:sh|console)\n(.*?)^```").FindAllStringSubmatch(read(t, p), -1) {
			for _, m := range command.FindAllStringSubmatch(block[1], -1) {
				line := strings.ReplaceAll(m[2], "\\\n", " ")
				words := []string{m[1]}
				for _, w := range strings.Fields(line) {
					if !regexp.MustCompile(`^[a-z]+$`).MatchString(w) || !strings.Contains(ask(words), "\n  "+w+" ") {
						break
					}
					words = append(words, w)
				}
				if len(words) == 1 && !strings.HasPrefix(line, "-") {
					t.Errorf("%s: there is no command %q", p, m[0])
				}
				for _, f := range regexp.MustCompile(`(?:^| )(--[a-z-]+)`).FindAllStringSubmatch(line, -1) {
					if !regexp.MustCompile(f[1] + `\b`).MatchString(ask(words)) {
						t.Errorf("%s: %s has no flag %s", p, strings.Join(words, " "), f[1])
					}
				}
			}
		}
	}
	if len(help) < 10 {
		t.Errorf("only %d commands were found in the pages", len(help))
	}
}
