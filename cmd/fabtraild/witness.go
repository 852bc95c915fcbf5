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

type witnessFlags struct {
	dir, mark, listen, name string
	logs, lists             []string
	index, accept           bool
	source, token, charter  string
	adopt, observe          []string
}

func witnessCmd() *cobra.Command {
	var f witnessFlags
	c := &cobra.Command{
		Use:   "witness",
		Short: "Run a C2SP witness",
		Long: `Run a witness (c2sp.org/tlog-witness) of one or more logs, Fabtrail's or any
other's. It cosigns a checkpoint only when it is consistent with the last one that
it cosigned. Its key is made on the first start, and its public key is written to
DIR/trust/witness.vkey. The logs are given by --log, or by --log-list, a file in the
format of the public witness network (logs/v0).

What it has cosigned is its memory: keep it, and do not restore it from a backup. A
high-water mark outside of it (--mark-dir, best on another disk) gives an old copy
away, and so does a look at what the logs publish (--observe). A witness that has
forgotten cosigns nothing for that log until its operator says otherwise:
--accept-state when the state is the newest there is, --adopt ORIGIN when the
checkpoint that gave it away is the last one that was cosigned.

With --verify-index it also follows the entries of one Fabtrail ledger, recomputes
its index, and cosigns only a checkpoint whose index commitment is true. It needs
a token with the scope 'audit', and sees what the entries say in clear.

It serves POST /add-checkpoint, GET /<hex SHA-256 of origin>/checkpoint, /healthz and
/metrics. See docs/witnesses.md.`,
		Example: `  fabtraild witness --data ./w1 --listen 127.0.0.1:8101 --name w1.example --log ./ledger/trust/log.vkey
  fabtraild witness --data ./w2 --mark-dir /var/lib/w2-mark --listen 127.0.0.1:8102 --name w2.example --log-list ./log-list
  fabtraild witness --data ./w3 --listen 127.0.0.1:8103 --name w3.example --log ./ledger/trust/log.vkey \
    --verify-index --source http://127.0.0.1:8080 --token ./audit.token`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := f.config()
			if err != nil {
				return err
			}
			cfg.Log = logger(c)
			return runWitness(c.Context(), c, cfg, f.listen)
		},
	}
	dataFlag(c, &f.dir, "the witness's own folder")
	fl := c.Flags()
	fl.StringVar(&f.listen, "listen", "127.0.0.1:8100", "address to serve at; port 0 takes a free one")
	fl.StringVar(&f.name, "name", "", "the witness's name, such as witness.example")
	fl.StringArrayVar(&f.logs, "log", nil, "VKEY of a log, or the file that holds it; repeatable")
	fl.StringArrayVar(&f.lists, "log-list", nil, "file with a list of logs (logs/v0); repeatable")
	fl.StringVar(&f.mark, "mark-dir", "", "folder of the high-water mark (default: mark in --data)")
	fl.BoolVar(&f.index, "verify-index", false, "cosign only when the index commitment is true")
	fl.StringVar(&f.source, "source", "", "with --verify-index: URL of the ledger")
	fl.StringVar(&f.token, "token", "", "with --verify-index: file with a token of scope audit")
	fl.StringVar(&f.charter, "charter", "", "with --verify-index: the ledger's charter.json, to pin it")
	fl.StringArrayVar(&f.observe, "observe", nil, "URL of a log whose published checkpoint is held against the state at start; repeatable (--source always is)")
	fl.BoolVar(&f.accept, "accept-state", false, "open a store whose high-water mark is missing: you know that it is the newest")
	fl.StringArrayVar(&f.adopt, "adopt", nil, "ORIGIN of a log that is frozen: go on from the checkpoint that gave the old state away; repeatable")
	_ = c.MarkFlagRequired("name")
	return c
}

func (f witnessFlags) config() (node.WitnessConfig, error) {
	cfg := node.WitnessConfig{Dir: f.dir, MarkDir: f.mark, Name: f.name, Accept: f.accept, Adopt: f.adopt, Observe: f.observe}
	for _, l := range f.logs {
		v, err := node.ReadVKey(l)
		if err != nil {
			return cfg, cli.WithCode(cli.Usage, fmt.Errorf("--log %s: %w", l, err))
		}
		cfg.Logs = append(cfg.Logs, witness.Log{Origin: v.Name, Keys: []checkpoint.VKey{v}})
	}
	for _, path := range f.lists {
		b, err := os.ReadFile(path)
		if err != nil {
			return cfg, cli.WithCode(cli.Usage, err)
		}
		logs, err := witness.ParseLogList(b)
		if err != nil {
			return cfg, cli.WithCode(cli.Usage, fmt.Errorf("--log-list %s: %w", path, err))
		}
		cfg.Logs = append(cfg.Logs, logs...)
	}
	if len(cfg.Logs) == 0 {
		return cfg, cli.Usagef("which logs? give --log or --log-list")
	}
	if !f.index {
		return cfg, nil
	}
	if len(cfg.Logs) != 1 || f.source == "" {
		return cfg, cli.Usagef("--verify-index needs exactly one log, and --source")
	}
	follower, err := node.NewFollower(f.source, f.token, f.charter)
	if err != nil {
		return cfg, err
	}
	cfg.Check = follower.Check
	cfg.Observe = append(cfg.Observe, f.source)
	return cfg, nil
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
