// Command fabtraild runs a Fabtrail ledger, and witnesses of ledgers.
package main

import (
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"fabtrail.dev/fabtrail/internal/cli"
	"fabtrail.dev/fabtrail/internal/procs"
)

// version is set when a release is built.
var version = ""

func main() {
	procs.Spare(syncing)
	os.Exit(cli.Main(root()))
}

// syncing is how many files a commit syncs at once: the journal and the database's log.
const syncing = 2

func root() *cobra.Command {
	c := &cobra.Command{
		Use:   "fabtraild",
		Short: "Run a Fabtrail ledger: an append-only provenance ledger for hardware",
		Long: `fabtraild runs a Fabtrail ledger and its witnesses.

Exit codes: 0 done; 1 failed or damaged; 2 wrong command line; 3 the ledger
refuses to sign, because going on could fork the log (the message says why, and
what to do); 130 interrupted.`,
		Example: `  fabtraild demo                     the whole story, from chip fab to installer
  fabtraild init --data ./ledger --origin ledger.example/parts
  fabtraild serve --data ./ledger --listen 127.0.0.1:8080`,
		Version: versionText(),
	}
	c.AddCommand(initCmd(), serveCmd(), witnessCmd(), tokenCmd(), rebuildCmd(), fsckCmd(), backupCmd(), restoreCmd(), demoCmd(), healthCmd(), benchCmd(), trillianCmd(), migrateCmd())
	return c
}

func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "development"
}

// logger writes what happens to standard error: text on a terminal, JSON lines
// elsewhere when asked for.
func logger(c *cobra.Command) *slog.Logger {
	if cli.JSON(c) {
		return slog.New(slog.NewJSONHandler(c.ErrOrStderr(), nil))
	}
	return slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil))
}

// dataFlag adds the required --data flag.
func dataFlag(c *cobra.Command, dir *string, usage string) {
	c.Flags().StringVar(dir, "data", "", usage)
	_ = c.MarkFlagRequired("data")
	_ = c.MarkFlagDirname("data")
}
