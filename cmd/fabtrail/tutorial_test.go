package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"fabtrail.dev/fabtrail/internal/freeport"
)

const tutorial = "../../docs/tutorial.md"

// TestTutorial runs docs/tutorial.md: its sh blocks in their order as one script,
// each text block held against the output of the command above it, where "…"
// stands for anything. A json block with a file name is saved under it.
func TestTutorial(t *testing.T) {
	b, err := os.ReadFile(tutorial)
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	for _, addr := range []string{"127.0.0.1:8080", "127.0.0.1:8101"} {
		if !strings.Contains(page, addr) {
			t.Fatalf("the tutorial does not use %s", addr)
		}
		page = strings.ReplaceAll(page, addr, freeAddress(t))
	}
	script, err := script(page)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "tutorial.txtar"), []byte(script), 0o644); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{Dir: dir, Setup: withServer(t)})
}

// freeAddress returns a loopback address that nobody listens at.
func freeAddress(t *testing.T) string {
	t.Helper()
	p, err := freeport.Get()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", p)
}

// fence matches fenced blocks: language, file name, content.
var fence = regexp.MustCompile("(?ms)^```(\\w+) ?(\\S*)\n(.*?)^```$")

// script makes a testscript of a page.
func script(page string) (string, error) {
	var s, files strings.Builder
	background := 0
	for _, m := range fence.FindAllStringSubmatch(page, -1) {
		switch lang, name, text := m[1], m[2], m[3]; {
		case lang == "sh":
			for _, line := range strings.Split(strings.ReplaceAll(strings.TrimSpace(text), "\\\n", ""), "\n") {
				c, err := translate(line, &background)
				if err != nil {
					return "", err
				}
				s.WriteString(c)
			}
		case lang == "text":
			for _, line := range strings.Split(strings.Trim(text, "\n"), "\n") {
				fmt.Fprintf(&s, "stdout '%s'\n", quote(line))
			}
		case name != "":
			fmt.Fprintf(&files, "-- %s --\n%s", name, text)
		}
	}
	return s.String() + files.String(), nil
}

// translate turns one line for a shell into lines for testscript.
func translate(line string, background *int) (string, error) {
	line, comment, _ := strings.Cut(line, "  # ")
	if v, ok := strings.CutPrefix(line, "export "); ok {
		return "env " + v + "\n", nil
	}
	if n, ok := strings.CutPrefix(line, "kill %"); ok {
		return fmt.Sprintf("kill -INT job%s\nwait job%s\n", n, n), nil
	}
	if c, ok := strings.CutSuffix(line, " &"); ok {
		*background++
		return fmt.Sprintf("exec %s &job%d&\n", c, *background), nil
	}
	if strings.ContainsAny(line, "\"|>;") && !strings.Contains(line, "'") {
		return "", fmt.Errorf("the tutorial uses a shell's own means: %s", line)
	}
	input := ""
	if c, file, ok := strings.Cut(line, " < "); ok {
		line, input = c, "stdin "+file+"\n"
	}
	if code, ok := strings.CutPrefix(comment, "exits "); ok {
		return fmt.Sprintf("%sexec exits %s %s\n", input, code, line), nil
	}
	return fmt.Sprintf("%sexec %s\n", input, line), nil
}

// quote makes a regular expression of a line of output, for within single quotes.
func quote(line string) string {
	parts := strings.Split(strings.TrimRight(line, " "), "…")
	for i, p := range parts {
		parts[i] = regexp.QuoteMeta(p)
	}
	return "(?m)^" + strings.ReplaceAll(strings.Join(parts, ".+"), "'", "''") + "$"
}
