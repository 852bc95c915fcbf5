package main

import (
	"archive/tar"
	"crypto"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/in-toto/in-toto-golang/in_toto"
	"github.com/spf13/cobra"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/layout"
	"fabtrail.dev/fabtrail/internal/cli"
	"fabtrail.dev/fabtrail/internal/problem"
)

func exportCmd() *cobra.Command {
	c := &cobra.Command{Use: "export", Short: "Write what the ledger proves in other systems' formats",
		Example: "  fabtrail export layout - --server https://ledger.example --trust ./trust --sign auditor.pem --out ./route < label.txt"}
	c.AddCommand(exportLayoutCmd())
	return c
}

type exportFlags struct {
	remoteFlags
	key, state, out, expires string
	sign                     []string
	maxAge                   time.Duration
}

func exportLayoutCmd() *cobra.Command {
	var f exportFlags
	c := &cobra.Command{
		Use:   "layout CODE",
		Short: "Write a good unit's route as an in-toto Layout with Links",
		Long: `Verify a unit, and write its route as an in-toto Layout and its hand-overs as Links,
for those who have an in-toto verifier and no Fabtrail. Only a unit that is good, and
whose hand-overs are all closed, is exported.

Who vouches for what: you do. The parties signed statements of custody, not Links, and
you do not hold their keys. This command verifies the whole history, writes for each
statement the Link that its party would have filed, and signs it with a key that stands
for that party in this export alone and is forgotten at its end. Your --sign keys sign
the Layout, which lists these keys. in-toto then proves that Layout and Links are as you
made them: both halves of each hand-over are there, it is one item all along, nothing
was added, altered or left out. It does not check the parties' own signatures: for that,
each Link holds the statement as its party signed it, with its receipt where the ledger
gives it (see 'fabtrail verify receipt').

A layout says what was so when it was made: it expires, and a recall that comes later is
not in it. The folder holds what the statements say in clear.

CODE may be -, which reads it from standard input.

Exit codes: those of 'fabtrail verify' (0 exported, 1 check-before-use or do-not-install,
2 wrong command line, 3 could not verify, 4 not in this ledger, 5 status only); 1 also
says that the unit is good but its history cannot be exported, and why.`,
		Example: `  fabtrail export layout 'https://id.gs1.org/01/09506000134352/21/SN-1?k=mPEOG3nCqRF8uFgmNQx3xA' \
    --server https://ledger.example --trust ./trust --sign auditor.pem --out ./SN-1
  fabtrail export layout - --server https://ledger.example --trust ./trust --sign auditor.pem --out - < label.txt > SN-1.tar
  in-toto verify --layout ./SN-1/root.layout --layout-keys ./SN-1/exporter-1.pub --link-dir ./SN-1`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return f.run(c, args[0]) },
	}
	f.add(c, true)
	fl := c.Flags()
	fl.StringVar(&f.key, "key", "", "pedigree key, if it is not in the code")
	fl.StringArrayVar(&f.sign, "sign", nil, "your private key file, which signs the layout; repeatable")
	fl.StringVar(&f.out, "out", "", "folder to write; must not exist, or be empty; - writes its files as a tar archive to standard output")
	fl.StringVar(&f.expires, "expires", "30d", "when the layout expires: days from now (30d), a duration (36h), or a time (RFC 3339)")
	fl.StringVar(&f.state, "state", "", "folder that remembers the last checkpoint of each log (default: your state folder)")
	fl.DurationVar(&f.maxAge, "max-age", client.DefaultMaxAge, "how old the witnesses' cosignatures may be")
	_ = c.MarkFlagRequired("sign")
	_ = c.MarkFlagRequired("out")
	_ = c.MarkFlagDirname("out")
	_ = c.MarkFlagDirname("state")
	cli.Nothing(c, "key", "expires", "max-age")
	return c
}

// expiry reads --expires.
func expiry(s string, now time.Time) (time.Time, error) {
	var at time.Time
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n > 36500 {
			return at, cli.Usagef("--expires %q: want such as 30d", s)
		}
		at = now.AddDate(0, 0, n)
	} else if d, err := time.ParseDuration(s); err == nil {
		at = now.Add(d)
	} else if at, err = time.Parse(time.RFC3339, s); err != nil {
		return at, cli.Usagef("--expires %q: want such as 30d, 36h or 2027-01-31T00:00:00Z", s)
	}
	if !at.After(now) {
		return at, cli.Usagef("--expires %q: that is past", s)
	}
	return at, nil
}

func (f *exportFlags) run(c *cobra.Command, code string) error {
	expires, err := expiry(f.expires, time.Now())
	if err != nil {
		return err
	}
	if code, err = readCode(c.InOrStdin(), code); err != nil {
		return err
	}
	if f.out == "-" && cli.JSON(c) {
		return cli.Usagef("--out - and --json both need standard output")
	}
	if left, err := os.ReadDir(f.out); f.out != "-" && err == nil && len(left) > 0 {
		return cli.Usagef("--out %s is not empty", f.out)
	}
	signers, err := readKeys(f.sign)
	if err != nil {
		return err
	}
	r, err := f.remote()
	if err != nil {
		return err
	}
	t, err := f.trusted()
	if err != nil {
		return err
	}
	mem, err := newMemory(f.state, t)
	if err != nil {
		return notOfUnit(err)
	}
	v := client.Verifier{Remote: r, Trust: t, Memory: mem, MaxAge: f.maxAge}
	rep, err := v.VerifyUnit(c.Context(), code, f.key)
	if err != nil {
		return cli.WithCode(cli.Usage, err)
	}
	if rep.Fork != nil {
		if err := saveFork(c, rep.Fork); err != nil {
			return notOfUnit(err)
		}
	}
	if rep.History == nil {
		return cli.WithCode(exitOf(rep.Word), notExported(rep))
	}
	export, err := layout.Build(layout.Input{
		History: rep.History, Verdict: rep.Verdict, Findings: rep.Findings,
		AsOf:    layout.AsOf{Origin: rep.AsOf.Origin, Size: rep.AsOf.Size, Root: rep.AsOf.Root, Time: rep.AsOf.Time, Complete: rep.Complete},
		Expires: expires, Signers: signers,
		Receipt: func(it custody.Item) ([]byte, error) { return receiptOf(c, r, t, it) },
	})
	if err != nil {
		if code := exitOf(rep.Word); code != cli.OK {
			return cli.WithCode(code, err)
		}
		return err
	}
	if f.out != "-" {
		if err := writeExport(f.out, export, signers); err != nil {
			return notOfUnit(err)
		}
		return printExport(c, rep, export, f.out, expires)
	}
	tmp, err := os.MkdirTemp("", "fabtrail-export-")
	if err != nil {
		return notOfUnit(err)
	}
	defer os.RemoveAll(tmp)
	if err := writeExport(filepath.Join(tmp, "route"), export, signers); err != nil {
		return notOfUnit(err)
	}
	return notOfUnit(writeTar(c.OutOrStdout(), filepath.Join(tmp, "route"), rep.AsOf.Time))
}

// notExported says why there is nothing to export, where there is no history.
func notExported(rep *client.Report) error {
	why := rep.Sentence
	for _, x := range rep.Reasons {
		if !x.Passed {
			why = x.Text
			break
		}
	}
	return problem.New("not_exportable", "", "%s: %s", rep.Word, why).With("uri", rep.URI).
		WithHint("give the unit's code with its pedigree key, or a token; 'fabtrail verify' lists every check")
}

// receiptOf fetches the receipt of a statement and checks it. Who may not see it,
// or asks a ledger that has none, gets none.
func receiptOf(c *cobra.Command, r *client.Remote, t *client.Trust, it custody.Item) ([]byte, error) {
	a, err := r.Statement(c.Context(), it.ID())
	if p := problem.As(err); p != nil {
		switch p.Status() {
		case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
			return nil, nil
		}
	}
	if err != nil {
		return nil, cli.WithCode(cli.CouldNot, fmt.Errorf("receipt of statement %s: %w", it.ID(), err))
	}
	if a.Receipt == "" {
		return nil, nil
	}
	p, err := t.VerifyReceipt([]byte(a.Receipt), it.Signed.Bytes, it.Signed.Statement.Payload)
	if err == nil && p.Index != it.Index {
		err = fmt.Errorf("it proves entry %d, the history has entry %d", p.Index, it.Index)
	}
	if err != nil {
		return nil, cli.WithCode(cli.CouldNot, fmt.Errorf("receipt of statement %s: %w", it.ID(), err))
	}
	return []byte(a.Receipt), nil
}

// writeExport writes the folder as a whole, after in-toto's own verifier has
// accepted it.
func writeExport(out string, e *layout.Export, signers []crypto.Signer) error {
	parent := filepath.Dir(filepath.Clean(out))
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(parent, ".new-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp) // gone already when all went well
	files := map[string][]byte{layout.LayoutFile: e.Layout}
	for name, b := range e.Links {
		files[name] = b
	}
	keys := map[string]in_toto.Key{}
	for i, s := range signers {
		k, err := layout.PublicKey(s.Public())
		if err != nil {
			return err
		}
		pub, err := custody.NewKey(s.Public())
		if err != nil {
			return err
		}
		keys[k.KeyID] = k
		files[fmt.Sprintf("exporter-%d.pub", i+1)] = custody.MarshalPublicKey(pub)
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(tmp, name), b, 0o644); err != nil {
			return err
		}
	}
	env, err := in_toto.LoadMetadata(filepath.Join(tmp, layout.LayoutFile))
	if err == nil {
		_, err = in_toto.InTotoVerify(env, keys, tmp, "", nil, nil, false)
	}
	if err != nil {
		return fmt.Errorf("in-toto does not accept the export: %w", err)
	}
	if err := errors.Join(os.Chmod(tmp, 0o755), os.Rename(tmp, out)); err != nil {
		return err
	}
	return nil
}

// writeTar writes the files of a folder as one archive, in the order of their names and
// dated as the checkpoint that they rest on.
func writeTar(w io.Writer, dir, at string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	when, err := time.Parse(time.RFC3339, at)
	if err != nil { // without witnesses nobody vouches for a time
		when = time.Unix(0, 0)
	}
	t := tar.NewWriter(w)
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return err
		}
		if err := t.WriteHeader(&tar.Header{Name: f.Name(), Mode: 0o644, Size: int64(len(b)), ModTime: when, Format: tar.FormatPAX}); err != nil {
			return err
		}
		if _, err := t.Write(b); err != nil {
			return err
		}
	}
	return t.Close()
}

func printExport(c *cobra.Command, rep *client.Report, e *layout.Export, out string, expires time.Time) error {
	v := map[string]any{
		"uri": rep.URI, "verdict": rep.Word, "folder": out, "layout": filepath.Join(out, layout.LayoutFile), "steps": e.Steps,
		"links": len(e.Links), "receipts": e.Receipts, "expires": expires.UTC().Format(time.RFC3339), "notes": e.Notes,
	}
	who := namesOf(rep)
	return cli.Print(c, v, func(w io.Writer) {
		fmt.Fprintf(w, "%s  %s\n\n", rep.URI, cli.Colour(w, wordColour[rep.Word], string(rep.Word)))
		for _, s := range e.Steps {
			parties := make([]string, len(s.Parties))
			for i, p := range s.Parties {
				parties[i] = who.of(p)
			}
			fmt.Fprintf(w, "  %-22s %s\n", s.Name, strings.Join(parties, " -> "))
		}
		fmt.Fprintf(w, "\n%d links in %s, %d of them with the ledger's receipt; expires %s\n", len(e.Links), out, e.Receipts, v["expires"])
		fmt.Fprintln(w, "Your key vouches for it. in-toto's verifier accepts it:")
		fmt.Fprintf(w, "  in-toto verify --layout %s --layout-keys %s --link-dir %s\n", v["layout"], filepath.Join(out, "exporter-1.pub"), out)
	})
}
