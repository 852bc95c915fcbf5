package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestFlagErrors: a value that a flag does not take is refused in words, with what it
// takes; nothing of the language shows.
func TestFlagErrors(t *testing.T) {
	for _, tc := range []struct{ arg, want string }{
		{"--every=soon", `--every "soon": want a length of time such as 90s, 15m or 24h`},
		{"--most=many", `--most "many": want a whole number`},
		{"--at=-1", `--at "-1": want a whole number that is not negative`},
		{"--loud=perhaps", `--loud "perhaps": want true or false`},
		{"--nothing", "unknown flag: --nothing"},
	} {
		c := &cobra.Command{Use: "x", Long: exitCodes, RunE: func(*cobra.Command, []string) error { return nil }}
		c.Flags().Duration("every", 0, "")
		c.Flags().Int("most", 0, "")
		c.Flags().Uint64("at", 0, "")
		c.Flags().Bool("loud", false, "")
		Prepare(c)
		c.SetArgs([]string{tc.arg})
		err := c.Execute()
		if err == nil || codeOf(err) != Usage || !strings.HasPrefix(err.Error(), tc.want) || strings.Contains(err.Error(), "strconv") {
			t.Errorf("%s: %v, want %s", tc.arg, err, tc.want)
		}
	}
}
