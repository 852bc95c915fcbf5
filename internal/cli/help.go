package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// exitCodes begins the paragraph of a command's help that lists its exit codes.
const exitCodes = "Exit codes:"

// Prepare gives a tree of commands what both programs share: --json, errors of usage
// that say where the help is, and exit codes in the help of every command, which are
// those of the program where the command lists none of its own.
func Prepare(root *cobra.Command) {
	root.SilenceErrors = true
	root.SilenceUsage = true
	root.PersistentFlags().Bool("json", false, "print one JSON object instead of text")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return Usagef("%s\nSee '%s --help'.", flagError(err), c.CommandPath())
	})
	usageOnBadArgs(root)
	codes := root.Long[max(strings.Index(root.Long, exitCodes), 0):]
	eachCommand(root, func(c *cobra.Command) {
		if strings.Contains(c.Long, exitCodes) {
			return
		}
		if c.Long == "" {
			c.Long = c.Short + "."
		}
		c.Long += "\n\n" + codes
	})
}

// flagError words an error of the flags without naming what reads their values.
func flagError(err error) string {
	var bad *pflag.InvalidValueError
	if !errors.As(err, &bad) {
		return err.Error()
	}
	f := bad.GetFlag()
	want, ok := map[string]string{
		"bool": "true or false", "duration": "a length of time such as 90s, 15m or 24h", "float64": "a number",
		"int": "a whole number", "int64": "a whole number", "uint": "a whole number that is not negative",
		"uint64": "a whole number that is not negative",
	}[f.Value.Type()]
	if !ok {
		return err.Error()
	}
	return fmt.Sprintf("--%s %q: want %s", f.Name, bad.GetValue(), want)
}

// eachCommand calls fn for the commands below root that are the program's own.
func eachCommand(root *cobra.Command, fn func(*cobra.Command)) {
	for _, c := range root.Commands() {
		if c.Name() != "help" && c.Name() != "completion" && !c.Hidden {
			fn(c)
			eachCommand(c, fn)
		}
	}
}

// Undocumented lists what is missing in the help of a prepared tree of commands: each
// says what it does, with an example of itself whose flags exist, its exit codes, and
// what each flag is for; each takes --json.
func Undocumented(root *cobra.Command) []string {
	var missing []string
	eachCommand(root, func(c *cobra.Command) {
		say := func(format string, a ...any) {
			missing = append(missing, c.CommandPath()+": "+fmt.Sprintf(format, a...))
		}
		if c.Short == "" || !strings.Contains(c.Long, exitCodes) || len(c.Long) < len(c.Short)+len(exitCodes) {
			say("it does not say what it does, or its exit codes")
		}
		if c.InheritedFlags().Lookup("json") == nil {
			say("it does not take --json")
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				say("--%s is not explained", f.Name)
			}
		})
		if c.HasSubCommands() && !c.Runnable() {
			return
		}
		found := false
		for _, line := range strings.Split(strings.ReplaceAll(c.Example, "\\\n", " "), "\n") {
			words := strings.Fields(line)
			if len(words) == 0 || words[0] != root.Name() || !strings.Contains(line, c.CommandPath()) {
				continue
			}
			found = true
			target, _, err := root.Find(words[1:]) // of a group, the example is of one in it
			if err != nil {
				say("its example is of no command: %v", err)
				continue
			}
			for _, w := range words {
				name, ok := strings.CutPrefix(w, "--")
				name, _, _ = strings.Cut(name, "=")
				if ok && name != "" && target.Flags().Lookup(name) == nil && target.InheritedFlags().Lookup(name) == nil {
					say("its example has --%s, which there is not", name)
				}
			}
		}
		if !found {
			say("it has no example of itself")
		}
	})
	return missing
}

// Words offers the values that a flag takes to a shell that completes it.
func Words[T ~string](c *cobra.Command, flag string, values ...T) {
	list := make([]string, len(values))
	for i, v := range values {
		list[i] = string(v)
	}
	// Fails only for a flag that is not there, which TestHelp of the program finds.
	_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp))
}

// Nothing keeps a shell from offering files for a flag that takes none.
func Nothing(c *cobra.Command, flags ...string) {
	for _, f := range flags {
		_ = c.RegisterFlagCompletionFunc(f, cobra.NoFileCompletions)
	}
}

// Count is a number and its noun, in the singular for one.
func Count[N ~int | ~int64 | ~uint64](n N, one, many string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, one)
	}
	return fmt.Sprintf("%d %s", n, many)
}
