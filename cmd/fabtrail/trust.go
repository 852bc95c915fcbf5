package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/internal/cli"
)

func trustCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "trust",
		Short: "Get and look at a trust folder",
		Long: `A trust folder is all that verify and audit believe without proof: the log's key
(log.vkey), the witnesses and their quorum (policy.txt), the ledger's charter
(charter.json), and the cosigners that verify the index (index.txt). Get it once,
compare its fingerprints with what the operator and witnesses publish elsewhere, and keep
it. Nothing fetches trust by itself.`,
		Example: "  fabtrail trust fetch --server https://ledger.example --out ./trust\n  fabtrail trust show --trust ./trust",
	}
	c.AddCommand(trustFetchCmd(), trustShowCmd(), trustPoliciesCmd())
	return c
}

func trustFetchCmd() *cobra.Command {
	var f remoteFlags
	var out string
	c := &cobra.Command{
		Use:     "fetch",
		Short:   "Download a trust folder, and print fingerprints to compare",
		Example: "  fabtrail trust fetch --server https://ledger.example --out ./trust",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := f.remote()
			if err != nil {
				return err
			}
			if _, err := os.Stat(filepath.Join(out, client.LogFile)); err == nil {
				return fmt.Errorf("%s holds a trust folder already; give another --out, or remove it if you mean to trust anew", out)
			}
			files, prints, err := r.FetchTrust(c.Context())
			if err != nil {
				return cli.WithCode(cli.CouldNot, err)
			}
			if err := os.MkdirAll(out, 0o755); err != nil {
				return err
			}
			for name, b := range files {
				if err := os.WriteFile(filepath.Join(out, name), b, 0o644); err != nil {
					return err
				}
			}
			return printTrust(c, out, prints, true)
		},
	}
	f.add(c, false)
	c.Flags().StringVar(&out, "out", "trust", "folder to write")
	return c
}

func trustShowCmd() *cobra.Command {
	var f remoteFlags
	c := &cobra.Command{
		Use:     "show",
		Short:   "Print the fingerprints of a trust folder",
		Example: "  fabtrail trust show --trust ./trust",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			t, err := f.trusted()
			if err != nil {
				return err
			}
			files := map[string][]byte{}
			for _, name := range client.TrustFiles {
				b, err := os.ReadFile(filepath.Join(f.trust, name))
				if err != nil && !os.IsNotExist(err) {
					return err
				}
				files[name] = b
			}
			return printTrust(c, f.trust, t.Fingerprints(files), false)
		},
	}
	f.add(c, true)
	return c
}

func trustPoliciesCmd() *cobra.Command {
	var f remoteFlags
	var state string
	c := &cobra.Command{
		Use:   "policies CODE",
		Short: "Keep the policies that the log dates, so that old receipts still verify",
		Long: `Verify a unit, whose history holds every entry about the log itself, and write the
policies that the authorities have put in force by witness-policy statements to
policies.json in the trust folder. A receipt that lacks the quorum of policy.txt
then counts if it has that of the policy in force when it was cosigned.`,
		Example: "  fabtrail trust policies - --server https://ledger.example --trust ./trust < label.txt",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			code, err := readCode(c.InOrStdin(), args[0])
			if err != nil {
				return err
			}
			if _, err := f.remote(); err != nil {
				return err
			}
			v, err := f.verifier(state)
			if err != nil {
				return err
			}
			rep, err := v.VerifyUnit(c.Context(), code, "")
			if err != nil {
				return cli.WithCode(cli.Usage, err)
			}
			if rep.History == nil || len(rep.History.Items) == 0 {
				printReport(c.ErrOrStderr(), rep)
				return cli.WithCode(cli.CouldNot, errors.New("no verified history to read policies from; give the code, with its pedigree key, of a unit in the ledger"))
			}
			ps, err := rep.Policies()
			if err != nil {
				return err
			}
			b, err := client.MarshalPolicies(ps)
			if err != nil {
				return err
			}
			path := filepath.Join(f.trust, client.PoliciesFile)
			if err := replaceFile(path, b, 0o644); err != nil {
				return err
			}
			return cli.Print(c, map[string]any{"file": path, "policies": len(ps), "complete": rep.Complete}, func(w io.Writer) {
				fmt.Fprintf(w, "%s in %s, as of entry %d", cli.Count(len(ps), "policy", "policies"), path, rep.AsOf.Size-1)
				if !rep.Complete {
					fmt.Fprint(w, "; that none is missing is the operator's word")
				}
				fmt.Fprintln(w)
			})
		},
	}
	f.add(c, true)
	c.Flags().StringVar(&state, "state", "", "folder that remembers the last checkpoint of each log (default: your state folder)")
	return c
}

func printTrust(c *cobra.Command, dir string, prints []client.Fingerprint, fetched bool) error {
	return cli.Print(c, map[string]any{"trust": dir, "fingerprints": prints}, func(w io.Writer) {
		fmt.Fprintf(w, "trust folder %s\n", dir)
		for _, p := range prints {
			fmt.Fprintf(w, "  %-13s sha256 %s\n  %-13s %s\n", p.File, p.Hex, "", p.Says)
		}
		if fetched {
			fmt.Fprintln(w, "Nothing vouches for these yet: compare the fingerprints with what the operator and the witnesses publish elsewhere.")
		}
	})
}
