package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/cli"
	"fabtrail.dev/fabtrail/internal/problem"
)

// submitted is the result of one statement, as JSON.
type submitted struct {
	File    string `json:"file"`
	ID      string `json:"id,omitempty"`
	Index   uint64 `json:"index,omitempty"`
	Effect  string `json:"effect,omitempty"`
	Repeat  bool   `json:"repeat,omitempty"`
	Receipt string `json:"receipt,omitempty"`
	Problem any    `json:"problem,omitempty"`
}

func submitCmd() *cobra.Command {
	var f remoteFlags
	var manifests []string
	var receipts string
	c := &cobra.Command{
		Use:   "submit FILE...",
		Short: "Submit signed statements, and check the receipts",
		Long: `Submit signed statements (DSSE envelopes; a file with one on each line, as NDJSON,
is a batch; - is standard input) in their order. Submitting again is harmless: the
ledger answers with the first receipt. With --trust every receipt is verified: the
checkpoint's signatures, the quorum of witnesses, and the statement's inclusion.

Exit codes: 0 all are in the ledger; 1 some were refused; 2 wrong command line; 3 the
ledger could not be reached, or what became of some is not known: submit again;
130 interrupted.`,
		Example: `  fabtrail submit commission.json --server https://ledger.example --token acme.token --trust ./trust
  fabtrail submit morning.ndjson --manifest pallet.manifest --server https://ledger.example --token acme.token`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := f.remote()
			if err != nil {
				return err
			}
			s := client.Submitter{Remote: r}
			if f.trust != "" {
				if s.Trust, err = f.trusted(); err != nil {
					return err
				}
			}
			names, envelopes, err := readEnvelopes(c.InOrStdin(), args)
			if err != nil {
				return err
			}
			for _, m := range manifests {
				if err := putManifest(c, r, m); err != nil {
					return err
				}
			}
			outcomes, err := s.SubmitBatch(c.Context(), envelopes)
			if err != nil {
				return asExit(err)
			}
			return report(c, names, outcomes, receipts)
		},
	}
	f.add(c, true)
	c.Flags().StringArrayVar(&manifests, "manifest", nil, "manifest file to upload first; repeatable")
	c.Flags().StringVar(&receipts, "receipts", "", "folder to write receipts to, as ID.tlog-proof")
	return c
}

// asExit tells the ledger's refusals from failures to reach it.
func asExit(err error) error {
	if problem.As(err) == nil && offline(err) {
		return cli.WithCode(cli.CouldNot, err)
	}
	return err
}

func putManifest(c *cobra.Command, r *client.Remote, file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	m, err := custody.ParseManifest(b)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return asExit(r.PutManifest(c.Context(), m.Digest().String(), b))
}

// readEnvelopes reads envelopes from files, one a file or one a line.
func readEnvelopes(stdin io.Reader, files []string) (names []string, envelopes [][]byte, err error) {
	for _, f := range files {
		var b []byte
		if f == "-" {
			b, err = io.ReadAll(stdin)
		} else {
			b, err = os.ReadFile(f)
		}
		if err != nil {
			return nil, nil, cli.WithCode(cli.Usage, err)
		}
		if _, err := custody.ParseDSSE(bytes.TrimSpace(b)); err == nil {
			names, envelopes = append(names, f), append(envelopes, bytes.TrimSpace(b))
			continue
		}
		// A key or a label named by mistake must not reach the server, which would
		// be the one to find that it is no statement.
		if t := bytes.TrimSpace(b); len(t) > 0 && t[0] != '{' {
			return nil, nil, cli.Usagef("%s does not begin like a signed statement (DSSE, a JSON object); nothing was sent", f)
		}
		if whole, some := jsonLines(b); whole {
			names, envelopes = append(names, f), append(envelopes, bytes.TrimSpace(b))
			continue
		} else if !some {
			return nil, nil, cli.Usagef("%s is neither a signed statement nor one on each line; nothing was sent", f)
		}
		lines := bufio.NewScanner(bytes.NewReader(b))
		lines.Buffer(nil, custody.MaxDSSE+1)
		for n := 1; lines.Scan(); n++ {
			line := bytes.TrimSpace(lines.Bytes())
			if len(line) == 0 {
				continue
			}
			names, envelopes = append(names, fmt.Sprintf("%s:%d", f, n)), append(envelopes, bytes.Clone(line))
		}
		if err := lines.Err(); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", f, err)
		}
	}
	if len(envelopes) == 0 {
		return nil, nil, cli.Usagef("there is no statement in %s", strings.Join(files, ", "))
	}
	return names, envelopes, nil
}

// jsonLines reports whether b is one JSON value over several lines, such as one that
// was made readable, and whether one of its lines is a JSON object by itself.
func jsonLines(b []byte) (whole, some bool) {
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	for _, l := range lines {
		if l = bytes.TrimSpace(l); len(l) > 0 && l[0] == '{' && jsontext.Value(l).IsValid() {
			some = true
		}
	}
	return len(lines) > 1 && jsontext.Value(b).IsValid(), some || len(lines) == 1
}

func report(c *cobra.Command, names []string, outcomes []client.Outcome, receipts string) error {
	results := make([]submitted, len(outcomes))
	refused, unknown := 0, 0
	for i, o := range outcomes {
		results[i].File = names[i]
		if o.Err != nil {
			if unanswered(o.Err) {
				unknown++
			} else {
				refused++
			}
			results[i].Problem = problemOf(o.Err)
			continue
		}
		r := o.Recorded
		results[i] = submitted{File: names[i], ID: r.ID.String(), Index: r.Index, Effect: r.Effect, Repeat: r.Repeat, Receipt: string(r.Receipt)}
		if receipts != "" {
			if err := os.MkdirAll(receipts, 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(receipts+"/"+r.ID.String()+".tlog-proof", r.Receipt, 0o644); err != nil {
				return err
			}
		}
	}
	if err := cli.Print(c, map[string]any{"submitted": len(results) - refused - unknown, "refused": refused, "unanswered": unknown, "results": results}, func(w io.Writer) {
		for i, r := range results {
			switch {
			case r.Problem != nil && unanswered(outcomes[i].Err):
				fmt.Fprintf(w, "%s %s: %v\n  It may be in the ledger already. Submit it again: that is harmless, and gets the first receipt.\n",
					cli.Colour(w, "yellow", "unknown"), r.File, outcomes[i].Err)
			case r.Problem != nil:
				fmt.Fprintf(w, "%s %s\n  %s\n", cli.Colour(w, "red", "refused"), r.File, strings.ReplaceAll(outcomes[i].Err.Error(), "\n", "\n  "))
			case r.Repeat:
				fmt.Fprintf(w, "%s %s: entry %d, recorded before, %s\n", cli.Colour(w, "dim", "known  "), r.File, r.Index, r.Effect)
			case strings.HasPrefix(r.Effect, custody.NoEffect.String()):
				fmt.Fprintf(w, "%s %s: entry %d, but it changes nothing: %s\n", cli.Colour(w, "yellow", "logged "), r.File, r.Index, strings.TrimPrefix(r.Effect, custody.NoEffect.String()+" "))
			default:
				fmt.Fprintf(w, "%s %s: entry %d, %s\n", cli.Colour(w, "green", "entry  "), r.File, r.Index, r.Effect)
			}
		}
	}); err != nil {
		return err
	}
	switch {
	case refused > 0:
		return cli.Quiet(cli.Failed)
	case unknown > 0:
		return cli.Quiet(cli.CouldNot)
	}
	return nil
}

// unanswered reports whether err leaves open what became of a statement.
func unanswered(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func problemOf(err error) any {
	if p := problem.As(err); p != nil {
		return p
	}
	var w *client.WireReport
	if errors.As(err, &w) {
		return w
	}
	return map[string]string{"detail": err.Error()}
}
