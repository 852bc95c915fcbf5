// Command fabtrail is the tool of everybody who uses a Fabtrail ledger: it makes
// keys, signs and submits statements, verifies units and audits logs.
package main

import (
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"fabtrail.dev/fabtrail/internal/cli"
)

// version is set when a release is built.
var version = ""

func main() { os.Exit(cli.Main(root())) }

func root() *cobra.Command {
	c := &cobra.Command{
		Use:   "fabtrail",
		Short: "Sign, submit, verify and audit hardware custody on a Fabtrail ledger",
		Long: `fabtrail is for everybody who uses a Fabtrail ledger.

  partners     keygen, party, sign, submit, import
  installers   trust, verify
  auditors     trust, audit, monitor, export

Exit codes: 0 done, or a unit is verified (perhaps with a note);
1 refused or failed, or a unit is check-before-use or do-not-install;
2 wrong command line; 3 could not verify: the ledger or the connection is at
fault; 4 the unit is not in this ledger; 5 only a status word was given;
130 interrupted.`,
		Example: `  fabtrail trust fetch --server https://ledger.example --out ./trust
  fabtrail verify 'https://id.gs1.org/01/09506000134352/21/SN-1?k=...' --server https://ledger.example --trust ./trust`,
		Version: versionText(),
	}
	c.AddCommand(keygenCmd(), trustCmd(), partyCmd(), signCmd(), submitCmd(), importCmd(), exportCmd(), verifyCmd(), auditCmd(), monitorCmd())
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
