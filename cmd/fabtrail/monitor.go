package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/internal/cli"
)

type monitorFlags struct {
	remoteFlags
	state, metrics           string
	interval, maxAge, maxLag time.Duration
	once                     bool
}

func monitorCmd() *cobra.Command {
	var f monitorFlags
	c := &cobra.Command{
		Use:   "monitor",
		Short: "Watch a log: that it only grows, for everybody alike, cosigned and fresh",
		Long: `Watch a log as an outsider. Each round asks the log for its checkpoint and each
witness of the policy for the one that it shows, and checks that all of them, and what
was seen before, are of one history; that the quorum is there and fresh; that each
witness keeps up; that an index-verifying cosigner vouches for the index.

Two histories are written to STATE/fork-*.json, a proof that 'fabtrail verify fork'
checks offline. What was seen last moves on only after the round's work is done, and
never past a fork.

With --once, one round; without, a round every --interval until it is interrupted or a
fork is found. With --metrics it keeps running after a fork, for the alarm to be read.

Exit codes: 0 no alarm (of the last round); 1 an alarm, or a fork in any round;
3 the log could not be looked at, or what is remembered is damaged.`,
		Example: `  fabtrail monitor --server https://ledger.example --trust ./trust --state ./monitor --metrics 127.0.0.1:9100
  fabtrail monitor --server https://ledger.example --trust ./trust --state ./monitor --once --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	f.add(c, true)
	fl := c.Flags()
	fl.StringVar(&f.state, "state", "", "folder for what was seen last, and for fork proofs (default: your state folder)")
	fl.DurationVar(&f.interval, "interval", time.Minute, "time between rounds")
	fl.BoolVar(&f.once, "once", false, "do one round and end")
	fl.StringVar(&f.metrics, "metrics", "", "address to serve Prometheus metrics at (/metrics)")
	fl.DurationVar(&f.maxAge, "max-age", client.DefaultMaxAge, "how old the quorum's cosignatures may be")
	fl.DurationVar(&f.maxLag, "max-lag", client.DefaultMaxAge, "how old each witness's newest cosignature may be")
	return c
}

func (f *monitorFlags) run(c *cobra.Command) error {
	if f.interval <= 0 || f.maxAge <= 0 || f.maxLag <= 0 {
		return cli.Usagef("--interval, --max-age and --max-lag must be above zero")
	}
	m, err := f.monitor()
	if err != nil {
		return err
	}
	gauges := newMonitorMetrics()
	if f.metrics != "" {
		stop, err := gauges.serve(f.metrics)
		if err != nil {
			return err
		}
		defer stop()
	}
	return f.rounds(c, m, gauges)
}

// monitor assembles what watches.
func (f *monitorFlags) monitor() (*client.Monitor, error) {
	if _, err := f.remote(); err != nil {
		return nil, err
	}
	opt := client.Options{Attempts: 2, Timeout: 10 * time.Second} // the next round comes soon
	r, err := client.NewRemote(f.server, opt)
	if err != nil {
		return nil, err
	}
	t, err := f.trusted()
	if err != nil {
		return nil, err
	}
	mem, err := newMemory(f.state, t)
	if err != nil {
		return nil, err
	}
	witnesses, err := t.WitnessesOf(opt)
	if err != nil {
		return nil, cli.WithCode(cli.Usage, err)
	}
	return &client.Monitor{
		Log: r, Witnesses: witnesses, Trust: t, Memory: mem, MaxAge: f.maxAge, MaxLag: f.maxLag,
		SaveFork: func(fork *client.Fork) error { return keepFork(mem.dir, fork) },
	}, nil
}

// keepFork writes a fork proof durably, once: its name is its digest's.
func keepFork(dir string, fork *client.Fork) error {
	b, err := fork.Marshal()
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(dir, forkName(b)), b, 0o644)
}

func forkName(proof []byte) string {
	sum := sha256.Sum256(proof)
	return "fork-" + hex.EncodeToString(sum[:8]) + ".json"
}

func (f *monitorFlags) rounds(c *cobra.Command, m *client.Monitor, gauges *monitorMetrics) error {
	code, forked := cli.OK, false
	for first := true; ; first = false {
		if !first {
			select {
			case <-c.Context().Done():
				return cli.Quiet(code)
			case <-time.After(f.interval):
			}
		}
		o, err := m.Look(c.Context())
		if errors.Is(err, context.Canceled) {
			return cli.Quiet(code)
		}
		if o != nil {
			gauges.show(o, err)
			if perr := cli.Print(c, o, func(w io.Writer) { printRound(w, o, f.maxLag) }); perr != nil {
				return perr
			}
		}
		if err != nil && f.once {
			return cli.WithCode(cli.CouldNot, err)
		}
		if err != nil {
			fmt.Fprintf(c.ErrOrStderr(), "fabtrail: the round is to be repeated: %v\n", err)
		}
		forked = forked || len(o.Forks) > 0
		code = roundCode(o, err, forked)
		if f.once || len(o.Forks) > 0 && f.metrics == "" {
			return cli.Quiet(code)
		}
	}
}

func roundCode(o *client.Observation, err error, forked bool) int {
	switch {
	case forked:
		return cli.Failed
	case err != nil || o.Blind():
		return cli.CouldNot
	case len(o.Alarms) > 0:
		return cli.Failed
	}
	return cli.OK
}

func printRound(w io.Writer, o *client.Observation, maxLag time.Duration) {
	word := cli.Colour(w, "green", "OK")
	if len(o.Alarms) > 0 {
		word = cli.Colour(w, "red", "ALARM")
	}
	index := "index unchecked"
	if o.Indexed {
		index = "index checked"
	}
	what := "no checkpoint was accepted"
	if o.Root != "" {
		what = fmt.Sprintf("size %d  cosigned %s ago  %s", o.Size, max(o.Age, 0).Round(time.Second), index)
	}
	fmt.Fprintf(w, "%s  %s  %s\n", o.At.UTC().Format(time.RFC3339), word, what)
	for _, s := range o.Witnesses {
		if s.Time == 0 || s.Lag > maxLag {
			continue // an alarm says it
		}
		fmt.Fprintf(w, "  witness %s  size %d  %s ago\n", s.Name, s.Size, max(s.Lag, 0).Round(time.Second))
	}
	for _, a := range o.Alarms {
		who := ""
		if a.Witness != "" {
			who = a.Witness + ": "
		}
		fmt.Fprintf(w, "  %s %-13s %s%s\n", cli.Colour(w, "red", "!"), a.Code, who, a.Text)
	}
}

// monitorMetrics shows the last round to Prometheus.
type monitorMetrics struct {
	registry                      *prometheus.Registry
	size, age, last, indexed      prometheus.Gauge
	alarms, witnessSize, witnessT *prometheus.GaugeVec
	rounds                        *prometheus.CounterVec
	forks                         prometheus.Counter
}

func newMonitorMetrics() *monitorMetrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "fabtrail_monitor_" + name, Help: help})
	}
	vec := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "fabtrail_monitor_" + name, Help: help}, labels)
	}
	m := &monitorMetrics{
		registry:    prometheus.NewRegistry(),
		size:        gauge("size", "Size of the published checkpoint that was accepted last."),
		age:         gauge("quorum_timestamp_seconds", "Time of the quorum's cosignatures on it."),
		last:        gauge("round_timestamp_seconds", "Time of the last round that was finished."),
		indexed:     gauge("index_checked", "1 if an index-verifying cosigner cosigned it."),
		alarms:      vec("alarms", "Alarms of the last round by code; 0 is silence.", "code"),
		witnessSize: vec("witness_size", "Size of each witness's newest cosignature.", "witness"),
		witnessT:    vec("witness_timestamp_seconds", "Time of each witness's newest cosignature; 0 if none was seen.", "witness"),
		rounds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fabtrail_monitor_rounds_total", Help: "Rounds by outcome: ok, alarm, unfinished.",
		}, []string{"outcome"}),
		forks: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fabtrail_monitor_forks_total", Help: "Fork proofs written, repeats included. Never to be above 0.",
		}),
	}
	m.registry.MustRegister(m.size, m.age, m.last, m.indexed, m.alarms, m.witnessSize, m.witnessT, m.rounds, m.forks)
	for _, code := range client.Alarms {
		m.alarms.WithLabelValues(code).Set(0)
	}
	return m
}

// show takes over one round.
func (m *monitorMetrics) show(o *client.Observation, err error) {
	count := map[string]float64{}
	for _, a := range o.Alarms {
		count[a.Code]++
	}
	for _, code := range client.Alarms {
		m.alarms.WithLabelValues(code).Set(count[code])
	}
	m.forks.Add(float64(len(o.Forks)))
	for _, w := range o.Witnesses {
		m.witnessSize.WithLabelValues(w.Name).Set(float64(w.Size))
		m.witnessT.WithLabelValues(w.Name).Set(float64(w.Time))
	}
	if o.Root != "" {
		m.size.Set(float64(o.Size))
		m.age.Set(float64(o.QuorumTime))
		m.indexed.Set(0)
		if o.Indexed {
			m.indexed.Set(1)
		}
	}
	switch {
	case err != nil:
		m.rounds.WithLabelValues("unfinished").Inc()
		return
	case len(o.Alarms) > 0:
		m.rounds.WithLabelValues("alarm").Inc()
	default:
		m.rounds.WithLabelValues("ok").Inc()
	}
	m.last.Set(float64(o.At.Unix()))
}

// serve answers /metrics until stop is called.
func (m *monitorMetrics) serve(addr string) (stop func(), err error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 8 << 10}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintf(os.Stderr, "fabtrail: metrics: %v\n", err)
		}
	}()
	return func() {
		_ = srv.Close()
		<-done
	}, nil
}
