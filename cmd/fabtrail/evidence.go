package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/cli"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// forkFile is where the proof of a fork is written.
const forkFile = "fork-proof.json"

// saveFork writes the proof durably, and never over another one.
func saveFork(c *cobra.Command, f *client.Fork) error {
	b, err := f.Marshal()
	if err != nil {
		return err
	}
	path := forkFile
	if was, err := os.ReadFile(path); err == nil && !bytes.Equal(was, b) {
		path = forkName(b)
	}
	if err := replaceFile(path, b, 0o644); err != nil {
		return err
	}
	fmt.Fprintf(c.ErrOrStderr(), "The log has shown two histories. The proof is in %s: show it to others, and check it with 'fabtrail verify fork %s'.\n", path, path)
	return nil
}

func verifyForkCmd() *cobra.Command {
	var f remoteFlags
	c := &cobra.Command{
		Use:   "fork FILE",
		Short: "Check a fork proof, offline",
		Long: `Check a file that is said to prove that a log showed two histories. Exit code 0: it
does, and nobody but the holder of the log's key can have made it; 1: it does not;
3: it proves neither, for nothing in it tells what the larger tree begins with. With
--server, the log is then asked for the proof.`,
		Example: "  fabtrail verify fork fork-proof.json --trust ./trust",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			t, err := f.trusted()
			if err != nil {
				return err
			}
			b, err := os.ReadFile(args[0])
			if err != nil {
				return cli.WithCode(cli.Usage, err)
			}
			fork, err := client.ParseFork(b)
			if err != nil {
				return err
			}
			conviction, err := fork.Judge(t)
			if err != nil {
				return fmt.Errorf("this proves no fork: %w", err)
			}
			if !conviction.Certain && !conviction.Cleared && f.server != "" {
				r, err := f.remote()
				if err != nil {
					return err
				}
				if fork, err = fork.Ask(c.Context(), t, r); err != nil {
					return cli.WithCode(cli.CouldNot, err)
				}
				if conviction, err = fork.Judge(t); err != nil {
					return err
				}
			}
			return printConviction(c, conviction)
		},
	}
	f.add(c, true)
	return c
}

func printConviction(c *cobra.Command, v client.Conviction) error {
	word, colour, code := "NOT PROVED", "yellow", cli.CouldNot
	switch {
	case v.Certain:
		word, colour, code = "FORK", "red", cli.OK
	case v.Cleared:
		word, colour, code = "NO FORK", "green", cli.Failed
	}
	err := cli.Print(c, map[string]any{"fork": v.Certain, "conviction": v}, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %s\n", cli.Colour(w, colour, word), v.Says)
	})
	if err != nil {
		return err
	}
	return cli.Quiet(code)
}

func verifyReceiptCmd() *cobra.Command {
	var f remoteFlags
	var state string
	c := &cobra.Command{
		Use:   "receipt STATEMENT RECEIPT",
		Short: "Check a receipt (C2SP tlog-proof), offline where that is possible",
		Long: `Check that a receipt proves a signed statement to be in the log, under the trust
folder. STATEMENT is the DSSE envelope as it was submitted.

A receipt from before the witnesses changed counts under the policy of then, if the
trust folder has it (see 'fabtrail trust policies'). Otherwise, with --server, the
ledger is asked to prove that what it publishes now continues what the receipt rests on.`,
		Example: "  fabtrail verify receipt commission.json 3f2a....tlog-proof --trust ./trust",
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			v, err := f.verifier(state)
			if err != nil {
				return err
			}
			_, envelopes, err := readEnvelopes(c.InOrStdin(), args[:1])
			if err != nil {
				return err
			}
			d, err := custody.ParseDSSE(envelopes[0])
			if err != nil {
				return err
			}
			env := entry.Envelope{Payload: d.Payload, Signatures: slices.Clone(d.Signatures)}
			slices.SortFunc(env.Signatures, func(a, b entry.Signature) int { return bytes.Compare(a.Key[:], b.Key[:]) })
			canonical, err := env.Marshal()
			if err != nil {
				return err
			}
			b, err := os.ReadFile(args[1])
			if err != nil {
				return err
			}
			r, err := v.VerifyReceipt(c.Context(), b, canonical, d.Payload)
			var fork *client.Fork
			if errors.As(err, &fork) {
				if err := saveFork(c, fork); err != nil {
					return err
				}
			}
			if err != nil {
				return err
			}
			return printReceipt(c, v.Trust, r)
		},
	}
	f.add(c, true)
	c.Flags().StringVar(&state, "state", "", "with --server: folder that remembers the last checkpoint of each log")
	return c
}

// verifier is one with a memory; without a server it only works offline.
func (f *remoteFlags) verifier(state string) (*client.Verifier, error) {
	t, err := f.trusted()
	if err != nil || f.server == "" {
		return &client.Verifier{Trust: t}, err
	}
	r, err := f.remote()
	if err != nil {
		return nil, err
	}
	mem, err := newMemory(state, t)
	return &client.Verifier{Remote: r, Trust: t, Memory: mem}, err
}

func printReceipt(c *cobra.Command, t *client.Trust, r *client.Receipt) error {
	v := map[string]any{"ok": true, "index": r.Index, "time": r.Time}
	how := ""
	switch {
	case r.Policy != nil:
		v["policyOfEntry"] = r.Policy.Index
		how = fmt.Sprintf("\ncosigned under the policy of entry %d, which has been replaced since", r.Policy.Index)
	case r.Through != nil:
		v["throughSize"] = r.Through.Size
		how = fmt.Sprintf("\nits checkpoint of size %d lacks today's quorum; size %d, published now, was proved to continue it", r.Checkpoint.Size, r.Through.Size)
	}
	return cli.Print(c, v, func(w io.Writer) {
		fmt.Fprintf(w, "%s: the statement is entry %d of %s%s\n", cli.Colour(w, "green", "OK"), r.Index, t.Log.Name, how)
	})
}
