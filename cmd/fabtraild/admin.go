package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fabtrail.dev/fabtrail/api"
	"fabtrail.dev/fabtrail/internal/cli"
	"fabtrail.dev/fabtrail/internal/node"
)

func tokenCmd() *cobra.Command {
	var dir, party, out string
	var scopes []string
	var days, minutes int
	c := &cobra.Command{
		Use:   "token",
		Short: "Issue a bearer token",
		Long: `Issue a bearer token (a JWT signed with EdDSA) that binds its holder to one party.

Scopes: custody:write posts the party's statements; custody:read reads what
concerns it; audit reads everything; admin also posts what the authorities signed.`,
		Example: `  fabtraild token --data ./ledger --party https://id.gs1.org/417/9506000140001 --scope custody:write
  fabtraild token --data ./ledger --party https://auditor.example/ --scope audit --days 30 --out audit.token`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ttl := time.Duration(days)*24*time.Hour + time.Duration(minutes)*time.Minute
			t, err := node.Folder(dir).Token(party, scopes, ttl)
			if err != nil {
				return cli.WithCode(cli.Usage, err)
			}
			if out != "" {
				if err := os.WriteFile(out, []byte(t+"\n"), 0o600); err != nil {
					return err
				}
				return cli.Print(c, map[string]string{"party": party, "file": out}, func(w io.Writer) {
					fmt.Fprintf(w, "token for %s written to %s\n", party, out)
				})
			}
			return cli.Print(c, map[string]any{"token": t, "party": party, "scopes": scopes}, func(w io.Writer) { fmt.Fprintln(w, t) })
		},
	}
	dataFlag(c, &dir, "the ledger's data folder")
	words := make([]string, len(api.Scopes))
	for i, s := range api.Scopes {
		words[i] = string(s)
	}
	c.Flags().StringVar(&party, "party", "", "party URI that the token speaks for")
	c.Flags().StringSliceVar(&scopes, "scope", []string{"custody:write", "custody:read"}, "scopes: "+strings.Join(words, ", "))
	c.Flags().IntVar(&days, "days", 30, "how long it is valid")
	c.Flags().IntVar(&minutes, "minutes", 0, "and so many minutes more")
	c.Flags().StringVar(&out, "out", "", "write it to this file, readable by its owner alone")
	_ = c.MarkFlagRequired("party")
	return c
}

func rebuildCmd() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:     "rebuild",
		Short:   "Make the views anew from the log",
		Long:    "Delete the views of a ledger that is not running and make them anew from the log: findings, and what rules need. The log itself is not touched.",
		Example: "  fabtraild rebuild --data ./ledger",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			bar := cli.NewBar(c.ErrOrStderr(), -1, "replaying the log")
			r, err := node.Rebuild(c.Context(), node.Folder(dir), func(done, total uint64) {
				bar.Total(int64(total))
				bar.Set(int64(done))
			})
			bar.Done()
			if err != nil {
				return refused(err)
			}
			return cli.Print(c, r, func(w io.Writer) {
				fmt.Fprintf(w, "views made anew from %d entries; %d findings\n", r.Size, r.Findings)
			})
		},
	}
	dataFlag(c, &dir, "the ledger's data folder")
	return c
}
