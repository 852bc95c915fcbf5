package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"fabtrail.dev/fabtrail/internal/bench"
	"fabtrail.dev/fabtrail/internal/cli"
)

func benchCmd() *cobra.Command {
	var cfg bench.Config
	var seconds float64
	var medians string
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure a ledger on this machine against its signature checks",
		Long: `Make a ledger in a temporary folder and measure it against L, the rate of Ed25519
checks on all cores, taken before and after in the same process.

An append counts when it has been parsed strictly, its signature and authority
checked, deduplicated, indexed, committed and synced, verified before signing,
covered by a signed checkpoint with its index commitment, and its receipt built.
Statements have about 850 bytes and come from 16 parties with a key each; every
second one brings a new unit. The index is filled beforehand through the same append
path, by entries without signatures. At the end the log must pass fsck.

Rates are by the clock and suffer from other load; times called CPU are processor
time. docs/performance.md explains each figure.`,
		Example: `  fabtraild bench
  fabtraild bench --seconds 30 --prefill 1000000
  fabtraild bench --inflight 4096 --batch-verify --json
  fabtraild bench --log 10000000 --entries 50000   # cost, memory and start of a long log`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if medians != "" {
				f, err := os.Open(medians)
				if err != nil {
					return refused(err)
				}
				defer f.Close()
				return refused(bench.Table(f, c.OutOrStdout()))
			}
			if seconds <= 0 || cfg.InFlight < 1 || cfg.Entries < 0 {
				return cli.Usagef("--seconds and --inflight are above zero, --entries is not below")
			}
			cfg.Time = time.Duration(seconds * float64(time.Second))
			bar := cli.NewBar(c.ErrOrStderr(), -1, "bench")
			cfg.Progress = func(what string, done, total uint64) {
				bar.Title(what)
				bar.Total(int64(total))
				bar.Set(int64(done))
			}
			r, err := bench.Run(c.Context(), cfg)
			bar.Done()
			if err != nil {
				return refused(err)
			}
			return cli.Print(c, r, func(w io.Writer) { printBench(w, r) })
		},
	}
	f := c.Flags()
	f.Float64Var(&seconds, "seconds", 10, "about how long to append, on a machine that keeps up with half of its signature checks")
	f.IntVar(&cfg.InFlight, "inflight", 1024, "statements on their way at any time")
	f.BoolVar(&cfg.Batch, "batch-verify", false, "statements come 64 at a time, their signatures checked together")
	f.Uint64Var(&cfg.Prefill, "prefill", 100_000, "topics in the index beforehand")
	f.Uint64Var(&cfg.Log, "log", 0, "entries in the log beforehand, of the size of statements, unsigned")
	f.IntVar(&cfg.Entries, "entries", 0, "statements to append, whatever the time (0: by --seconds)")
	f.StringVar(&cfg.Dir, "dir", "", "where the temporary folder is made (default: the system's)")
	f.StringVar(&medians, "medians", "", "measure nothing: a table of the results in this file, each line a name, a space and the JSON of a run")
	_ = c.MarkFlagDirname("dir")
	_ = c.MarkFlagFilename("medians")
	return c
}

func printBench(w io.Writer, r bench.Result) {
	row := func(format string, a ...any) { fmt.Fprintf(w, format+"\n", a...) }
	row("signature checks      %10.0f /s on %d cores (L; before %.0f, after %.0f), %.1f us of CPU each", r.L, r.Procs, r.LBefore, r.LAfter, r.CheckCPU)
	row("appends               %10.0f /s = %.2f L (%d in %.1f s, %d in flight)", r.AppendsPerS, r.Ratio, r.Appends, r.Seconds, r.InFlight)
	row("  latency             %10.1f ms p50, %.1f ms p99 of a call", r.P50, r.P99)
	row("  alone               %10.2f ms p50 = %.1f x fsync (%.0f us)", r.LoneP50, r.LonePerFsync, r.Fsync)
	row("  CPU                 %10.1f us each = %.2f signature checks", r.AppendCPU, r.AppendCPU/r.CheckCPU)
	if r.Others >= 0 {
		row("  others              %10.0f %% of the processors' time went to other processes and machines", 100*r.Others)
	}
	row("start                 %10.0f ms for a log of %d entries, %.0f ms of CPU", r.Start, r.LogBefore, r.StartCPU)
	row("  background          %10.0f ms afterwards, beside appends: keys of all statements read, the database at rest", r.Filters)
	row("  after a crash       %10.0f ms, %.0f ms of CPU, with the index from its rows", r.Crash, r.CrashCPU)
	row("disk                  %10.0f bytes per entry", r.BytesPerEntry)
	row("memory                %10.0f MiB after the appends", r.RSS)
	row("inclusion proofs      %10.0f /s on a core", r.InclusionPerS)
	if r.Topics > 0 {
		row("index                 %10d topics, %.0f bytes each on disk", r.Topics, r.IndexBytes)
	}
	if r.FillPerS > 0 {
		row("  alone               %10.0f MiB resident, filled at %.0f /s", r.FillRSS, r.FillPerS)
		row("  CPU                 %10.1f us per updated topic, 4,096 to a commitment = %.2f signature checks; %.1f us later, compacting", r.TopicCPU, r.IndexShare, r.LaterCPU)
		row("  proofs              %10d bytes p50", r.ProofP50)
	}
	row("unit answers          %10.0f /s on a core, %.2f ms p50 (%d lists, %d entries, %d bytes)", r.Answer.PerCPU, r.Answer.P50, r.Answer.Topics, r.Answer.Entries, r.Answer.Bytes)
	row("  parties known       %10.0f /s on a core, %.2f ms p50 (%d bytes)", r.AnswerKnown.PerCPU, r.AnswerKnown.P50, r.AnswerKnown.Bytes)
	row("  verifying           %10.2f x its %d signature checks", r.VerifyChecks, r.Answer.Checks+1)
	row("fsck                  %10s, %d entries", r.Fsck, r.Entries)
}
