// Command planted plants bugs in copies of source files, one at a time, and demands
// that a named test catches each: it must pass without the bug and fail with it. The
// bugs are in bugs.txt; they reach the compiler through go test's -overlay, so the
// tree itself is never touched and nothing of them is in any program.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

//go:embed bugs.txt
var table string

// bug is one planted bug.
type bug struct {
	name  string
	pkg   string // where the test is
	test  string
	edits []edit
}

// edit replaces text that a file has exactly once.
type edit struct{ file, old, with string }

func main() {
	only := flag.String("only", "", "regular expression for the names of bugs to plant")
	list := flag.Bool("list", false, "print the table in Markdown and end")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout, *only, *list)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "planted:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer, only string, list bool) error {
	match, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	bugs, err := parse(table)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "planted-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	start := time.Now()
	healthy := map[string]bool{} // tests that pass without a bug
	caught, planted := 0, 0
	for _, b := range bugs {
		if list {
			fmt.Fprint(w, b.row())
			continue
		}
		if !match.MatchString(b.name) {
			continue
		}
		planted++
		if key := b.pkg + " " + b.test; !healthy[key] {
			if _, err := b.try(ctx, ""); err != nil {
				return fmt.Errorf("%s fails without a bug: %w", key, err)
			}
			healthy[key] = true
		}
		overlay, err := b.plant(".", dir)
		if err != nil {
			return err
		}
		out, err := b.try(ctx, overlay)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case strings.Contains(out, "[build failed]") || strings.Contains(out, "[setup failed]"):
			return fmt.Errorf("%s: does not compile:\n%s", b.name, out)
		case err == nil:
			fmt.Fprintf(w, "SURVIVED  %s (%s %s)\n", b.name, b.pkg, b.test)
		default:
			caught++
			fmt.Fprintf(w, "caught    %s (%s %s)\n", b.name, b.pkg, b.test)
		}
	}
	if list {
		return nil
	}
	fmt.Fprintf(w, "planted bugs: %d of %d caught by their tests, %s\n", caught, planted, time.Since(start).Round(time.Second))
	if caught < planted {
		return errors.New("a test does not catch its bug")
	}
	return nil
}

// row is the bug's row of the table in docs/campaigns.md.
func (b bug) row() string {
	return fmt.Sprintf("| %s | `%s` | `%s` |\n", b.name, strings.TrimPrefix(b.pkg, "./"), b.test)
}

// try runs the bug's test with an overlay, or without one.
func (b bug) try(ctx context.Context, overlay string) (string, error) {
	args := []string{"test", "-count=1", "-vet=off", "-ldflags=-s -w", "-timeout=5m", "-run", "^" + b.test + "$"}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	out, err := exec.CommandContext(ctx, "go", append(args, b.pkg)...).CombinedOutput()
	if err == nil && strings.Contains(string(out), "no tests to run") {
		return "", fmt.Errorf("%s has no %s", b.pkg, b.test)
	}
	if err != nil {
		err = fmt.Errorf("%w: %.2000s", err, out)
	}
	return string(out), err
}

// plant writes the changed files into dir and returns the overlay for go test.
func (b bug) plant(root, dir string) (string, error) {
	files, err := b.apply(root)
	if err != nil {
		return "", err
	}
	var overlay struct{ Replace map[string]string }
	overlay.Replace = map[string]string{}
	for name, text := range files {
		path, err := filepath.Abs(filepath.Join(root, name))
		if err != nil {
			return "", err
		}
		to := filepath.Join(dir, fmt.Sprintf("%d-%s", len(overlay.Replace), filepath.Base(name)))
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			return "", err
		}
		overlay.Replace[path] = to
	}
	text, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	to := filepath.Join(dir, "overlay.json")
	return to, os.WriteFile(to, text, 0o600)
}

// apply returns the changed files.
func (b bug) apply(root string) (map[string]string, error) {
	files := map[string]string{}
	for _, e := range b.edits {
		text, ok := files[e.file]
		if !ok {
			raw, err := os.ReadFile(filepath.Join(root, e.file))
			if err != nil {
				return nil, err
			}
			text = string(raw)
		}
		if n := strings.Count(text, e.old); n != 1 {
			return nil, fmt.Errorf("%s: %s has this text %d times, want once:\n%s", b.name, e.file, n, e.old)
		}
		files[e.file] = strings.Replace(text, e.old, e.with, 1)
	}
	return files, nil
}

// parse reads a table: see the head of bugs.txt.
func parse(s string) (bugs []bug, err error) {
	var part *string // of an edit, that lines go to
	for n, line := range strings.Split(s, "\n") {
		field, value, _ := strings.Cut(line, ": ")
		var b *bug
		if len(bugs) > 0 {
			b = &bugs[len(bugs)-1]
		}
		switch {
		case line == "<<<" && part == nil && b != nil && len(b.edits) > 0:
			part = &b.edits[len(b.edits)-1].old
		case line == "===" && part != nil:
			part = &b.edits[len(b.edits)-1].with
		case line == ">>>" && part != nil:
			part = nil
		case part != nil:
			*part += line + "\n"
		case line == "" || strings.HasPrefix(line, "#"):
		case field == "bug":
			bugs = append(bugs, bug{name: value})
		case field == "test" && b != nil:
			b.pkg, b.test, _ = strings.Cut(value, " ")
		case field == "file" && b != nil:
			b.edits = append(b.edits, edit{file: value})
		default:
			return nil, fmt.Errorf("bugs.txt: line %d: %q", n+1, line)
		}
	}
	return bugs, nil
}
