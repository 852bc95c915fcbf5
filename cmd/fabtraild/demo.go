package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"fabtrail.dev/fabtrail/cmd/fabtraild/internal/demo"
	"fabtrail.dev/fabtrail/internal/cli"
)

func demoCmd() *cobra.Command {
	var cfg demo.Config
	var exit bool
	var cluster clusterFlags
	c := &cobra.Command{
		Use:   "demo",
		Short: "Play the whole story, from chip fab to installer, then serve it",
		Long: `Make a ledger with three witnesses on this machine and play its whole job through
the public HTTP interface: some thirty parties, each with its own key and token,
make a thousand devices of three parts each, ship them to three continents and
install them. In between, things go wrong: a diverted pallet, a cloned serial, a
recall, and more, labelled beforehand. --seed moves them to other units, parties
and times.

At the end it verifies units and reads the findings like anybody could, and holds
them against the labels; a difference ends it with exit code 1. Then it serves
until Ctrl-C.

With --engine trillian the ledger is kept by a Trillian cluster, in a tree of its
own if none is given; the verdicts and findings are the same.`,
		Example: `  fabtraild demo
  fabtraild demo --data ./demo --seed 7
  fabtraild demo --exit --json
  fabtraild demo --engine trillian --trillian 127.0.0.1:8090 --postgres postgres://trillian@127.0.0.1/trillian`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if cfg.Cluster, err = cluster.cluster(); err != nil {
				return err
			}
			return runDemo(c, cfg, exit)
		},
	}
	f := c.Flags()
	f.StringVar(&cfg.Data, "data", "", "folder to make the ledger in, and to keep (default: a temporary one)")
	f.Uint64Var(&cfg.Seed, "seed", 1, "moves the incidents to other units, parties and times")
	f.IntVar(&cfg.Devices, "devices", 1000, "how many devices")
	f.StringVar(&cfg.Listen, "listen", "127.0.0.1:0", "address to serve at; port 0 takes a free one")
	f.BoolVar(&exit, "exit", false, "end instead of serving")
	cluster.addEngine(f)
	_ = c.MarkFlagDirname("data")
	return c
}

func runDemo(c *cobra.Command, cfg demo.Config, exit bool) error {
	cfg.Progress = c.ErrOrStderr()
	d, err := demo.Run(c.Context(), cfg)
	if errors.Is(err, demo.ErrPlayed) {
		return fmt.Errorf("there is a ledger in %s already\n  do:    serve it with 'fabtraild serve --data %s', or name another folder", cfg.Data, cfg.Data)
	}
	if err != nil && c.Context().Err() != nil {
		return interrupted(cfg.Data)
	}
	if err != nil {
		return refused(err)
	}
	serving := !exit && len(d.Result.Diff) == 0
	err = cli.Print(c, d.Result, func(w io.Writer) {
		d.Print(w)
		d.PrintNext(w, serving)
	})
	if err == nil && serving {
		err = d.Wait(c.Context())
	}
	if err := errors.Join(err, d.Close()); err != nil {
		return err
	}
	if len(d.Result.Diff) > 0 {
		return cli.Quiet(cli.Failed)
	}
	return nil
}

// interrupted ends a play that was cut short.
func interrupted(dir string) error {
	const code = 130 // as a shell says it
	if dir == "" {
		return cli.WithCode(code, errors.New("interrupted; the temporary folder is gone"))
	}
	return cli.WithCode(code, fmt.Errorf("interrupted; what was played is in the log: 'fabtraild serve --data %s'", dir))
}
