package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer"
	"fabtrail.dev/fabtrail/internal/cli"
)

func verifyCmd() *cobra.Command {
	var f remoteFlags
	var key, state, file string
	var maxAge time.Duration
	c := &cobra.Command{
		Use:   "verify CODE...",
		Short: "Verify units: may they be installed?",
		Long: `Verify a unit from the code on it: a GS1 Digital Link of any domain, what a scanner
reads, or an EPC URN; with - it is read from standard input. The pedigree key in the
code (?k=...) opens its history; without it and without a token, only a status word
is shown.

Several codes, or a file with one on each line (--file), are verified together: what
their histories share is fetched and checked once. Then each unit gets one line.

Everything is checked here: the log's signature, the witnesses' quorum and its age,
that the log only grew since the last time (remembered in --state), that the history
is whole, every signature and proof, and the rules of custody.

Exit codes: 0 verified (perhaps with a note), 1 check-before-use or do-not-install,
2 wrong command line, 3 could not verify, 4 not in this ledger, 5 status only. Of
several units the worst counts: 1, then 4, 3, 5, 0.`,
		Example: `  fabtrail verify 'https://id.gs1.org/01/09506000134352/21/SN-1?k=mPEOG3nCqRF8uFgmNQx3xA' \
    --server https://ledger.example --trust ./trust
  fabtrail verify - --server https://ledger.example --trust ./trust < label.txt
  fabtrail verify --file pallet.txt --server https://ledger.example --trust ./trust`,
		Args: func(c *cobra.Command, args []string) error {
			if file == "" {
				return cobra.MinimumNArgs(1)(c, args)
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			codes, err := readCodes(c.InOrStdin(), args, file, key)
			if err != nil {
				return err
			}
			var bar *cli.Bar // for several
			if len(codes) > 1 || file != "" {
				bar = cli.NewBar(c.ErrOrStderr(), int64(len(codes)), "verifying")
			}
			f.waiting = func(d time.Duration) { sayWait(c.ErrOrStderr(), bar, d) }
			r, err := f.remote()
			if err != nil {
				return err
			}
			t, err := f.trusted()
			if err != nil {
				return err
			}
			mem, err := newMemory(state, t)
			if err != nil {
				return notOfUnit(err)
			}
			v := client.Verifier{Remote: r, Trust: t, Memory: mem, MaxAge: maxAge}
			if bar != nil {
				return verifyMany(c, &v, codes, bar)
			}
			rep, err := v.VerifyUnit(c.Context(), codes[0].Text, codes[0].Pedigree)
			if err != nil {
				return cli.WithCode(cli.Usage, err)
			}
			if err := cli.Print(c, rep, func(w io.Writer) { printReport(w, rep) }); err != nil {
				return err
			}
			if rep.Fork != nil {
				if err := saveFork(c, rep.Fork); err != nil {
					return notOfUnit(err)
				}
			}
			return cli.Quiet(exitOf(rep.Word))
		},
	}
	f.add(c, true)
	c.Flags().StringVar(&key, "key", "", "pedigree key, if it is not in the code (with one code only)")
	c.Flags().StringVar(&file, "file", "", "file with one code on each line; - is standard input")
	c.Flags().StringVar(&state, "state", "", "folder that remembers the last checkpoint of each log (default: your state folder)")
	c.Flags().DurationVar(&maxAge, "max-age", client.DefaultMaxAge, "how old the witnesses' cosignatures may be")
	_ = c.MarkFlagFilename("file")
	_ = c.MarkFlagDirname("state")
	cli.Nothing(c, "key", "max-age")
	c.AddCommand(verifyForkCmd(), verifyReceiptCmd())
	return c
}

// verifyMany verifies several units and prints a line for each.
func verifyMany(c *cobra.Command, v *client.Verifier, codes []client.Code, bar *cli.Bar) error {
	v.Parts = answer.NewParts(4096)
	v.Progress = func(n int) {
		bar.Title("verifying")
		bar.Set(int64(n))
	}
	bar.Set(0)
	defer bar.Done()
	reps, err := v.VerifyUnits(c.Context(), codes)
	if err != nil {
		return cli.WithCode(cli.Usage, err)
	}
	bar.Done()
	worst, counts := cli.OK, map[custody.Word]int{}
	var fork *client.Fork
	for _, r := range reps {
		counts[r.Word]++
		if code := exitOf(r.Word); badness[code] > badness[worst] {
			worst = code
		}
		if r.Fork != nil {
			fork = r.Fork
		}
	}
	out := struct {
		Units  []*client.Report     `json:"units"`
		Counts map[custody.Word]int `json:"counts"`
		Exit   int                  `json:"exit"`
	}{reps, counts, worst}
	err = cli.Print(c, out, func(w io.Writer) {
		for _, r := range reps {
			fmt.Fprintf(w, "%s %s%s\n", cli.Colour(w, wordColour[r.Word], fmt.Sprintf("%-17s", strings.ToUpper(string(r.Word)))), r.URI, why(r))
		}
		fmt.Fprintf(w, "\n%s:", cli.Count(len(reps), "unit", "units"))
		for _, word := range slices.Sorted(maps.Keys(counts)) {
			fmt.Fprintf(w, " %d %s", counts[word], word)
		}
		fmt.Fprintln(w)
	})
	if err == nil && fork != nil {
		err = saveFork(c, fork)
	}
	if err != nil {
		return notOfUnit(err)
	}
	return cli.Quiet(worst)
}

// sayWait says that the ledger makes us wait: in the bar if there is one, else
// in a line, if it is long.
func sayWait(w io.Writer, bar *cli.Bar, d time.Duration) {
	words := fmt.Sprintf("the ledger asks to wait %s", d.Round(100*time.Millisecond))
	if bar != nil && cli.IsTerminal(w) {
		bar.Title(words)
	} else if d >= 2*time.Second {
		fmt.Fprintln(w, words)
	}
}

// badness orders the exit codes of single units for that of several.
var badness = map[int]int{cli.OK: 0, cli.StatusOnly: 1, cli.CouldNot: 2, cli.NotInLedger: 3, cli.Failed: 4}

// notOfUnit gives an error that says nothing about a unit the exit code 3: exit code 1
// would speak of the unit.
func notOfUnit(err error) error {
	var e *cli.Exit
	if err == nil || errors.As(err, &e) || errors.Is(err, context.Canceled) {
		return err
	}
	return cli.WithCode(cli.CouldNot, err)
}

// why names what failed: reasons, and checks that are none.
func why(r *client.Report) string {
	failed := r.Failed()
	for _, c := range r.Checks {
		if !c.OK && !slices.Contains(failed, c.Name) {
			failed = append(failed, c.Name)
		}
	}
	if len(failed) == 0 {
		return ""
	}
	return "  (" + strings.Join(failed, ", ") + ")"
}

// readCodes returns the codes given: as arguments, on standard input for "-", and
// in a file.
func readCodes(in io.Reader, args []string, file, key string) ([]client.Code, error) {
	var codes []client.Code
	for _, arg := range args {
		code, err := readCode(in, arg)
		if err != nil {
			return nil, err
		}
		codes = append(codes, client.Code{Text: code, Pedigree: key})
	}
	if file != "" {
		if file != "-" {
			f, err := os.Open(file)
			if err != nil {
				return nil, cli.WithCode(cli.Usage, err)
			}
			defer f.Close()
			in = f
		}
		lines := bufio.NewScanner(in)
		lines.Buffer(nil, maxCode)
		for lines.Scan() {
			if code := strings.TrimSpace(lines.Text()); code != "" {
				codes = append(codes, client.Code{Text: code})
			}
		}
		if err := lines.Err(); err != nil {
			return nil, cli.Usagef("%s: %w", file, err)
		}
	}
	switch {
	case len(codes) == 0:
		return nil, cli.Usagef("there is no code in %s", file)
	case len(codes) > 1 && key != "":
		return nil, cli.Usagef("--key is of one unit: with several codes, give each its key as ?k=")
	}
	return codes, nil
}

// maxCode bounds a code on standard input, in bytes.
const maxCode = 4096

// readCode returns the code given, or the one on standard input for "-".
func readCode(in io.Reader, arg string) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	b, err := io.ReadAll(io.LimitReader(in, maxCode))
	if err != nil {
		return "", err
	}
	code := strings.TrimSpace(string(b))
	if code == "" {
		return "", cli.Usagef("there is no code on standard input")
	}
	return code, nil
}

func exitOf(w custody.Word) int {
	switch w {
	case custody.Verified, custody.VerifiedNote:
		return cli.OK
	case custody.CheckBeforeUse, custody.DoNotInstall:
		return cli.Failed
	case custody.NotInLedger:
		return cli.NotInLedger
	case custody.StatusOnly:
		return cli.StatusOnly
	}
	return cli.CouldNot
}

var wordColour = map[custody.Word]string{
	custody.Verified: "green", custody.VerifiedNote: "green", custody.CheckBeforeUse: "yellow",
	custody.DoNotInstall: "red", custody.NotInLedger: "red", custody.StatusOnly: "yellow", custody.CouldNotVerify: "yellow",
}

func printReport(w io.Writer, r *client.Report) {
	fmt.Fprintf(w, "%s\n%s\n", cli.Colour(w, wordColour[r.Word], strings.ToUpper(string(r.Word))), r.Sentence)
	fmt.Fprintf(w, "\nunit   %s\n", r.URI)
	if r.Claim != "" {
		fmt.Fprintf(w, "proof  %s\n", r.Claim)
	}
	who := namesOf(r)
	var failed []string
	told := map[string]bool{}
	checks := slices.Clone(r.Checks)
	for _, x := range r.Reasons {
		if x.Passed {
			checks = append(checks, client.Check{Name: x.Code, OK: true, Detail: x.Text})
			continue
		}
		failed = append(failed, fmt.Sprintf("  %s %-26s %s", cli.Colour(w, "yellow", "!"), x.Code, who.in(strings.TrimPrefix(x.Text, strings.TrimPrefix(x.Code, custody.CodeFinding)+": "))))
		told[x.Text] = true
	}
	if len(failed) > 0 {
		fmt.Fprintf(w, "\nwhy\n%s\n", strings.Join(failed, "\n"))
	}
	if len(r.Lines) > 0 {
		fmt.Fprintln(w, "\nhistory")
		for _, l := range r.Lines {
			note := ""
			if l.Effect != "applied" {
				note = strings.TrimSpace(l.Effect + " " + string(l.Code))
			}
			if note != "" {
				note = "  " + cli.Colour(w, "yellow", note)
			}
			if l.On != "" {
				note += cli.Colour(w, "dim", "  of "+l.On)
			}
			fmt.Fprintf(w, "  %6d  %s  %-13s %s%s\n", l.Index, l.Time, l.Kind, who.of(l.Actor), note)
		}
	}
	if len(checks) > 0 {
		fmt.Fprintln(w, "\nchecks")
	}
	for _, x := range checks {
		mark := cli.Colour(w, "green", "ok    ")
		if !x.OK {
			mark = cli.Colour(w, "red", "failed")
		}
		if told[x.Detail] {
			x.Detail = "as said above"
		}
		fmt.Fprintf(w, "  %s %-18s %s\n", mark, x.Name, x.Detail)
	}
}
