// Command fuzzrun runs every fuzz target of the module for a given time, one after
// another, and says how many inputs each has tried. It ends with 1 when one failed.
// With -keep it also copies a few of the inputs that go test found interesting into
// testdata/fuzz, where the ordinary tests try them again.
package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

type target struct{ pkg, dir, name string }

type outcome struct {
	target
	execs int64
	fresh int64
	took  time.Duration
	err   error
	late  bool // it failed only by reaching its time: see onlyLate
}

func main() {
	each := flag.Duration("time", 20*time.Second, "how long to run each target")
	keep := flag.Int("keep", 0, "inputs of each target to copy into testdata/fuzz")
	only := flag.String("only", "", "regular expression that package and name, with a space between, must match")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout, *each, *keep, *only, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "fuzzrun:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer, each time.Duration, keep int, only string, patterns []string) error {
	if len(patterns) == 0 {
		patterns = []string{"./..."}
	}
	match, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	targets, err := list(ctx, patterns)
	if err != nil {
		return err
	}
	var out []outcome
	failed := 0
	for _, t := range targets {
		if !match.MatchString(t.pkg + " " + t.name) {
			continue
		}
		if ctx.Err() != nil {
			break
		}
		o := fuzz(ctx, w, t, each)
		if o.err != nil {
			failed++
		}
		out = append(out, o)
		if keep > 0 {
			if err := copyInputs(ctx, t, keep); err != nil {
				return err
			}
		}
	}
	summary(w, out)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if failed > 0 {
		return fmt.Errorf("%d targets failed", failed)
	}
	if len(out) == 0 {
		return fmt.Errorf("there is no such target")
	}
	return nil
}

// named finds the fuzz targets of a source file.
var named = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(\w+ \*testing\.F\)`)

// errNothing is the outcome of a run that was over before it began: what go test does
// first, to measure what the corpus covers, counts as time and not as executions.
var errNothing = errors.New("no input was tried: give it more time")

// list finds the fuzz targets of packages in their source, without building them.
func list(ctx context.Context, patterns []string) ([]target, error) {
	args := append([]string{"list", "-f", `{{$d := .Dir}}{{$p := .ImportPath}}{{range .TestGoFiles}}{{$p}} {{$d}} {{.}}{{"\n"}}{{end}}{{range .XTestGoFiles}}{{$p}} {{$d}} {{.}}{{"\n"}}{{end}}`}, patterns...)
	b, err := exec.CommandContext(ctx, "go", args...).Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var ts []target
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		src, err := os.ReadFile(filepath.Join(f[1], f[2]))
		if err != nil {
			return nil, err
		}
		for _, m := range named.FindAllStringSubmatch(string(src), -1) {
			ts = append(ts, target{f[0], f[1], m[1]})
		}
	}
	return ts, nil
}

// progress is what go test prints while it fuzzes.
var progress = regexp.MustCompile(`execs: (\d+) .*new interesting: (\d+)`)

func fuzz(ctx context.Context, w io.Writer, t target, each time.Duration) outcome {
	o := outcome{target: t}
	fmt.Fprintf(w, "== %s %s\n", t.pkg, t.name)
	start := time.Now()
	c := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-fuzz", "^"+t.name+"$", "-fuzztime", each.String(), "-fuzzminimizetime", "5x", t.pkg)
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = 10 * time.Second
	c.Stderr = os.Stderr
	pipe, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		o.err = err
		return o
	}
	var said []string
	lines := bufio.NewScanner(pipe)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		if m := progress.FindStringSubmatch(lines.Text()); m != nil {
			o.execs, _ = strconv.ParseInt(m[1], 10, 64)
			o.fresh, _ = strconv.ParseInt(m[2], 10, 64)
			continue
		}
		if strings.HasPrefix(lines.Text(), "fuzz: elapsed:") {
			continue
		}
		fmt.Fprintln(w, lines.Text())
		said = append(said, lines.Text())
	}
	o.err, o.took = c.Wait(), time.Since(start)
	if o.err != nil && onlyLate(said) {
		o.err, o.late = nil, true
	}
	if o.err == nil && o.execs == 0 {
		o.err = errNothing
	}
	return o
}

// onlyLate reports that go test failed for nothing but that the time it was given has come
// (go.dev/issue/75804, mended in Go 1.27): an input that fails is always named.
func onlyLate(said []string) bool {
	at := slices.IndexFunc(said, func(l string) bool { return strings.HasPrefix(l, "--- FAIL: ") })
	return at >= 0 && at+2 < len(said) && said[at+1] == "    context deadline exceeded" && said[at+2] == "FAIL" &&
		!slices.ContainsFunc(said, func(l string) bool { return strings.Contains(l, "Failing input") || strings.HasPrefix(l, "panic:") })
}

func summary(w io.Writer, out []outcome) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "\ntarget\texecutions\tnew inputs\tseconds\t")
	total := int64(0)
	for _, o := range out {
		word := ""
		if o.err != nil {
			word = "FAILED: " + o.err.Error()
		}
		if o.late {
			word = "no input failed (go.dev/issue/75804)"
		}
		total += o.execs
		fmt.Fprintf(tw, "%s %s\t%d\t%d\t%.0f\t%s\n", o.pkg, o.name, o.execs, o.fresh, o.took.Seconds(), word)
	}
	fmt.Fprintf(tw, "%d targets\t%d\t\t\t\n", len(out), total)
	_ = tw.Flush()
}

// maxInput bounds the inputs that are worth committing.
const maxInput = 4 << 10

// copyInputs copies the largest of the small inputs that go test has cached: they
// reach deepest.
func copyInputs(ctx context.Context, t target, keep int) error {
	b, err := exec.CommandContext(ctx, "go", "env", "GOCACHE").Output()
	if err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	cache := filepath.Join(strings.TrimSpace(string(b)), "fuzz", filepath.FromSlash(t.pkg), t.name)
	type input struct {
		name string
		body []byte
	}
	var found []input
	files, err := os.ReadDir(cache)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	for _, f := range files {
		body, err := os.ReadFile(filepath.Join(cache, f.Name()))
		if err != nil {
			return err
		}
		if len(body) <= maxInput {
			found = append(found, input{f.Name(), body})
		}
	}
	slices.SortFunc(found, func(a, b input) int {
		return cmp.Or(cmp.Compare(len(b.body), len(a.body)), cmp.Compare(a.name, b.name))
	})
	to := filepath.Join(t.dir, "testdata", "fuzz", t.name)
	for i := range min(keep, len(found)) {
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, found[i].name), found[i].body, 0o644); err != nil {
			return err
		}
	}
	return nil
}
