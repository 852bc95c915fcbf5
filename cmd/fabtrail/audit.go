package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/rules"
	"fabtrail.dev/fabtrail/internal/cli"
	"fabtrail.dev/fabtrail/ledger/entry"
)

func auditCmd() *cobra.Command {
	var f remoteFlags
	var state string
	var maxAge time.Duration
	c := &cobra.Command{
		Use:   "audit",
		Short: "Replay a whole log and find the first byte that lies",
		Long: `Replay a log from its first entry: every leaf from its cargo, every tile, the root,
every index commitment, every signature, the state and the findings. It ends with
one line of digests that another auditor's must equal, or with the first divergence
and its index. Of a false index commitment it names the topics whose lists are wrong:
from the entries alone where one of the likely changes explains it, else it asks the
ledger for proofs of its false index. It needs a token with the scope 'audit'. What it audits must be fresh, and
continue the last checkpoint that was seen (remembered in --state, as by 'verify').

State is kept in memory: about 1 KB for each unit and 300 B for each entry. For
more than some ten million entries use 'fabtraild' on a copy of the log.

Exit codes: 0 the log is what it says; 1 it diverges, shows two histories, or holds
entries that its door should have refused; 3 it could not be read, or is not fresh.`,
		Example: "  fabtrail audit --server https://ledger.example --trust ./trust --token audit.token",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
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
				return err
			}
			v := client.Verifier{Remote: r, Trust: t, Memory: mem, MaxAge: maxAge}
			bar := cli.NewBar(c.ErrOrStderr(), -1, "replaying")
			done := int64(0)
			cfg := client.ReplayConfig{Rules: rules.New(), Effect: func(it custody.Item, _ custody.Effect) {
				done = int64(it.Index)
				bar.Set(done)
			}}
			seen, sum, err := v.Audit(c.Context(), cfg)
			bar.Done()
			var fork *client.Fork
			if errors.As(err, &fork) {
				return errors.Join(saveFork(c, fork), cli.WithCode(cli.Failed, err))
			}
			var d *client.Divergence
			if errors.As(err, &d) {
				return diverged(c, sum, d)
			}
			if err != nil {
				return cli.WithCode(cli.CouldNot, err)
			}
			if err := cli.Print(c, map[string]any{"ok": sum.AccusedCount == 0, "summary": sum, "cosigners": cosigners(seen)}, func(w io.Writer) { audited(w, seen, sum) }); err != nil {
				return err
			}
			if sum.AccusedCount > 0 {
				return cli.Quiet(cli.Failed)
			}
			return nil
		},
	}
	f.add(c, true)
	c.Flags().StringVar(&state, "state", "", "folder that remembers the last checkpoint of each log (default: your state folder)")
	c.Flags().DurationVar(&maxAge, "max-age", client.DefaultMaxAge, "how old the witnesses' cosignatures may be")
	return c
}

func cosigners(s *client.Seen) []string {
	out := []string{}
	for _, x := range s.Cosigs {
		out = append(out, x.Name)
	}
	return out
}

// topicJSON is a topic of the index as --json shows it.
type topicJSON struct {
	Kind  entry.TopicKind `json:"kind"`
	Value string          `json:"value"`
}

// divergence is a client.Divergence as --json shows it.
type divergence struct {
	Index   uint64      `json:"index"`
	What    string      `json:"what"`
	Detail  string      `json:"detail"`
	Topic   *topicJSON  `json:"topic,omitempty"`
	Topics  []topicJSON `json:"topics,omitempty"`
	Touched []topicJSON `json:"touched,omitempty"`
}

func topicsJSON(topics []entry.Topic) (out []topicJSON) {
	for _, t := range topics {
		out = append(out, topicJSON(t))
	}
	return out
}

func diverged(c *cobra.Command, sum client.Summary, d *client.Divergence) error {
	show := divergence{Index: d.Index, What: d.What, Detail: d.Detail, Topics: topicsJSON(d.Topics), Touched: topicsJSON(d.Touched)}
	if d.Topic != nil {
		show.Topic = (*topicJSON)(d.Topic)
	}
	if err := cli.Print(c, map[string]any{"ok": false, "summary": sum, "divergence": show}, func(w io.Writer) {
		fmt.Fprintf(w, "%s at entry %d (%s): %s\n", cli.Colour(w, "red", "DIVERGES"), d.Index, d.What, d.Detail)
		for _, t := range d.Topics {
			fmt.Fprintf(w, "topic  %s\n", t)
		}
		for _, t := range d.Touched {
			fmt.Fprintf(w, "touches  %s\n", t)
		}
	}); err != nil {
		return err
	}
	return cli.Quiet(cli.Failed)
}

func audited(w io.Writer, seen *client.Seen, s client.Summary) {
	word := cli.Colour(w, "green", "OK")
	if s.AccusedCount > 0 {
		word = cli.Colour(w, "red", "ACCUSED")
	}
	fmt.Fprintf(w, "%s  size %d  root %s  state %s  findings %s (%d)  rules %s\n", word, s.Size, s.Root, s.StateDigest, s.FindingsDigest, s.Findings, s.RuleSet)
	who := "nobody"
	if by := cosigners(seen); len(by) > 0 {
		who = strings.Join(by, ", ")
	}
	fmt.Fprintf(w, "cosigned by %s\n", who)
	for _, a := range s.Accused {
		fmt.Fprintf(w, "  entry %d should have been refused: %s\n", a.Index, a.Reason)
	}
}
