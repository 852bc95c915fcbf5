// Package cli is what Fabtrail's two programs share towards people: exit codes,
// errors that say what to do, JSON or text output, colours and progress bars
// that appear only on a terminal.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"fabtrail.dev/fabtrail/internal/problem"
)

// Exit codes of both programs; docs/operations.md lists them.
const (
	OK            = 0 // done; a unit is verified, perhaps with a note
	Failed        = 1 // refused or failed; a unit is check-before-use or do-not-install
	Usage         = 2 // the command line is wrong
	CouldNot      = 3 // could not verify, could not connect, or the ledger refuses to sign
	NotInLedger   = 4 // proved absent
	StatusOnly    = 5 // only a status word was given
	interruptCode = 130
)

// Exit is an error with an exit code. Silent ones have been reported already.
type Exit struct {
	Code   int
	Err    error
	Silent bool
}

// Error is the text of the cause.
func (e *Exit) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit %d", e.Code)
	}
	return e.Err.Error()
}

// Unwrap returns the cause.
func (e *Exit) Unwrap() error { return e.Err }

// WithCode gives err an exit code; nil stays nil.
func WithCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return &Exit{Code: code, Err: err}
}

// Quiet ends the program with a code after everything has been said.
func Quiet(code int) error {
	if code == OK {
		return nil
	}
	return &Exit{Code: code, Silent: true}
}

// Usagef is an error of the command line.
func Usagef(format string, a ...any) error {
	return &Exit{Code: Usage, Err: fmt.Errorf(format, a...)}
}

// Main runs the command until it ends or a signal stops it, and returns the
// exit code. Errors go to standard error, as one JSON object with --json.
func Main(root *cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	Prepare(root)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return OK
	}
	code := codeOf(err)
	var e *Exit
	if errors.As(err, &e) && e.Silent {
		return code
	}
	asJSON, _ := cmd.Flags().GetBool("json")
	if asJSON || slices.Contains(os.Args[1:], "--json") { // flags are not read when they are wrong
		_ = writeJSON(os.Stderr, map[string]any{"error": describe(err), "exit": code})
		return code
	}
	fmt.Fprintf(os.Stderr, "%s: %s\n", root.Name(), explain(err))
	if code == Usage && !strings.Contains(err.Error(), "--help") && problem.As(err) == nil {
		fmt.Fprintf(os.Stderr, "See '%s --help'.\n", cmd.CommandPath())
	}
	return code
}

// usageOnBadArgs makes wrong positional arguments, and unknown or missing commands,
// errors of usage, in the whole tree of commands.
func usageOnBadArgs(c *cobra.Command) {
	if c.HasParent() && c.HasSubCommands() && !c.Runnable() {
		c.DisableFlagsInUseLine = true
		c.RunE = func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return Usagef("unknown command %q for %q\nSee '%s --help'.", args[0], c.CommandPath(), c.CommandPath())
			}
			return Usagef("%s needs a command\nSee '%s --help'.", c.CommandPath(), c.CommandPath())
		}
	}
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return Usagef("%w\nSee '%s --help'.", err, c.CommandPath())
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		usageOnBadArgs(sub)
	}
}

func codeOf(err error) int {
	var e *Exit
	switch {
	case errors.As(err, &e):
		return e.Code
	case errors.Is(err, context.Canceled):
		return interruptCode
	case strings.HasPrefix(err.Error(), "unknown command"), strings.HasPrefix(err.Error(), "required flag"),
		strings.HasPrefix(err.Error(), "if any flags in the group"):
		return Usage
	}
	return Failed
}

func describe(err error) any {
	if p := problem.As(err); p != nil {
		return p
	}
	return map[string]string{"detail": err.Error()}
}

func explain(err error) string {
	p := problem.As(err)
	if p == nil {
		return err.Error()
	}
	s := p.Detail
	if p.Field != "" {
		s += "\n  where: " + p.Field
	}
	s += "\n  type:  " + p.Type
	if p.Hint != "" {
		s += "\n  do:    " + p.Hint
	}
	return s
}

// JSON reports whether the command was asked for JSON.
func JSON(c *cobra.Command) bool {
	b, _ := c.Flags().GetBool("json")
	return b
}

// Print writes v as one JSON object with --json, else calls text.
func Print(c *cobra.Command, v any, text func(w io.Writer)) error {
	if JSON(c) {
		return writeJSON(c.OutOrStdout(), v)
	}
	text(c.OutOrStdout())
	return nil
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// IsTerminal reports whether w is a terminal that wants colours and bars.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// Colour wraps s in an ANSI colour when w is a terminal: "red", "green",
// "yellow", "bold", "dim".
func Colour(w io.Writer, name, s string) string {
	code, ok := map[string]string{"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}[name]
	if !ok || !IsTerminal(w) {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// Bar is progress towards a known total. Off a terminal it prints nothing.
type Bar struct{ bar *progressbar.ProgressBar }

// NewBar starts a bar on w; total may be -1 when it is not known.
func NewBar(w io.Writer, total int64, title string) *Bar {
	if !IsTerminal(w) {
		return &Bar{}
	}
	return &Bar{progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(title),
		progressbar.OptionShowCount(),
		progressbar.OptionSetWidth(30),
		progressbar.OptionThrottle(100_000_000),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionFullWidth(),
	)}
}

// Set moves the bar to n.
func (b *Bar) Set(n int64) {
	if b.bar != nil {
		_ = b.bar.Set64(n)
	}
}

// Total corrects how much there is to do.
func (b *Bar) Total(n int64) {
	if b.bar != nil && n > 0 && b.bar.GetMax64() != n {
		b.bar.ChangeMax64(n)
	}
}

// Title changes the bar's words.
func (b *Bar) Title(s string) {
	if b.bar != nil {
		b.bar.Describe(s)
	}
}

// Done takes the bar away.
func (b *Bar) Done() {
	if b.bar != nil {
		_ = b.bar.Finish()
	}
}
