package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"fabtrail.dev/fabtrail/internal/cli"
	"fabtrail.dev/fabtrail/internal/node"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/witness"
)

func witnessCmd() *cobra.Command {
	var dir, listen, name, source, tokenFile, charter string
	var logs []string
	var index, accept bool
	c := &cobra.Command{
		Use:   "witness",
		Short: "Run a C2SP witness",
		Long: `Run a witness (c2sp.org/tlog-witness) of one or more logs, Fabtrail's or any
other's. It cosigns a checkpoint only when it is consistent with the last one that
it cosigned. Its key is made on the first start, and its public key is written to
DIR/trust/witness.vkey.

With --verify-index it also follows the entries of one Fabtrail ledger, recomputes
its index, and cosigns only a checkpoint whose index commitment is true. It needs
a token with the scope 'audit', and sees what the entries say in clear.`,
		Example: `  fabtraild witness --data ./w1 --listen 127.0.0.1:8101 --name w1.example --log ./ledger/trust/log.vkey
  fabtraild witness --data ./w3 --listen 127.0.0.1:8103 --name w3.example --log ./ledger/trust/log.vkey \
    --verify-index --source http://127.0.0.1:8080 --token ./audit.token`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg := node.WitnessConfig{Dir: dir, Name: name, Log: logger(c), Accept: accept}
			for _, l := range logs {
				v, err := node.ReadVKey(l)
				if err != nil {
					return cli.WithCode(cli.Usage, fmt.Errorf("--log %s: %w", l, err))
				}
				cfg.Logs = append(cfg.Logs, witness.Log{Origin: v.Name, Keys: []checkpoint.VKey{v}})
			}
			if index {
				if len(cfg.Logs) != 1 || source == "" {
					return cli.Usagef("--verify-index needs exactly one --log, and --source")
				}
				f, err := node.NewFollower(source, tokenFile, charter)
				if err != nil {
					return err
				}
				cfg.Check = f.Check
			}
			return runWitness(c.Context(), c, cfg, listen)
		},
	}
	dataFlag(c, &dir, "the witness's own folder")
	fl := c.Flags()
	fl.StringVar(&listen, "listen", "127.0.0.1:8100", "address to serve at; port 0 takes a free one")
	fl.StringVar(&name, "name", "", "the witness's name, such as witness.example")
	fl.StringArrayVar(&logs, "log", nil, "VKEY of a log, or the file that holds it; repeatable")
	fl.BoolVar(&index, "verify-index", false, "cosign only when the index commitment is true")
	fl.StringVar(&source, "source", "", "with --verify-index: URL of the ledger")
	fl.StringVar(&tokenFile, "token", "", "with --verify-index: file with a token of scope audit")
	fl.StringVar(&charter, "charter", "", "with --verify-index: the ledger's charter.json, to pin it")
	fl.BoolVar(&accept, "accept-state", false, "open a store whose high-water mark is missing: you know that it is the newest")
	_ = c.MarkFlagRequired("name")
	_ = c.MarkFlagRequired("log")
	return c
}

func runWitness(ctx context.Context, c *cobra.Command, cfg node.WitnessConfig, listen string) error {
	w, err := node.OpenWitness(cfg)
	if err != nil {
		return cli.WithCode(cli.CouldNot, err)
	}
	err = w.Serve(ctx, listen, nil, func(addr string) {
		v := map[string]any{"name": cfg.Name, "vkey": w.VKey().String(), "url": "http://" + addr}
		_ = cli.Print(c, v, func(out io.Writer) {
			fmt.Fprintf(out, "witness %s serves at http://%s\nvkey %s\n", cfg.Name, addr, w.VKey())
		})
	})
	return errors.Join(err, w.Close())
}

// readToken reads a bearer token from a file.
func readToken(path string) (string, error) {
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}
