// Command bench compares Fabtrail's appends with those of Tessera's POSIX driver, in
// one run on one machine: statements of the same size, as many in flight, and an
// append counts in both once a published checkpoint covers it. Tessera checks no
// signatures, looks for no duplicates, keeps no index and makes no receipts here;
// Fabtrail does all of that, as package internal/bench says.
//
// Tessera runs with its defaults and with each of several settings, as its own speed
// depends on them; the best one counts, and the defaults are told beside it. It is a module of its own so that Fabtrail does not depend on what
// it is compared with.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"fabtrail.dev/fabtrail/internal/bench"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
	"k8s.io/klog/v2"
)

// payload is the size of a statement in bytes, as package internal/bench makes them.
const payload = 850

// setting is a way to run Tessera.
type setting struct {
	name     string
	batch    uint
	age      time.Duration
	interval time.Duration // between checkpoints
}

// least is the shortest interval between checkpoints that Tessera's POSIX driver takes.
const least = 100 * time.Millisecond

var (
	defaults = setting{"its defaults", tessera.DefaultBatchMaxSize, tessera.DefaultBatchMaxAge, tessera.DefaultCheckpointInterval}
	settings = []setting{
		{"256 in a batch, 5 ms", 256, 5 * time.Millisecond, least},
		{"1024 in a batch, 5 ms", 1024, 5 * time.Millisecond, least},
		{"4096 in a batch, 20 ms", 4096, 20 * time.Millisecond, least},
	}
)

// measured is what one setting gave.
type measured struct {
	Setting string  `json:"setting"`
	PerS    float64 `json:"appends_per_s"`
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	CPU     float64 `json:"cpu_us_per_append"`
}

// result is all that is printed.
type result struct {
	Fabtrail bench.Result `json:"fabtrail"`
	Tessera  []measured   `json:"tessera"`
	Defaults measured     `json:"tessera_defaults"`
	Ratio    float64      `json:"ratio"`          // of Fabtrail's appends per second to the best of Tessera's
	ToDef    float64      `json:"defaults_ratio"` // and to those of Tessera's defaults
	CPURatio float64      `json:"cpu_ratio"`      // of the least processor time of Tessera's appends to that of Fabtrail's
}

func main() {
	seconds := flag.Float64("seconds", 10, "how long each part takes, about")
	inFlight := flag.Int("inflight", 4096, "statements on their way at any time")
	batch := flag.Bool("batch-verify", true, "Fabtrail checks signatures in batches")
	prefill := flag.Uint64("prefill", 100_000, "topics in Fabtrail's index beforehand")
	dir := flag.String("dir", "", "where to work; an empty folder is made there, and removed")
	asJSON := flag.Bool("json", false, "print JSON")
	flag.Parse()
	klog.LogToStderr(false) // Tessera's own words
	klog.SetOutput(io.Discard)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	r, err := run(ctx, *dir, time.Duration(*seconds*float64(time.Second)), *inFlight, *batch, *prefill)
	stop()
	if err == nil {
		err = r.print(*asJSON)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (r result) print(asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	f := r.Fabtrail
	fmt.Printf("fabtrail: %6.0f appends/s, p50 %4.0f ms, p99 %4.0f ms, %3.0f us of CPU; checked, indexed, published, with receipts; %.2f of L\n",
		f.AppendsPerS, f.P50, f.P99, f.AppendCPU, f.Ratio)
	for _, t := range append(r.Tessera, r.Defaults) {
		fmt.Printf("tessera:  %6.0f appends/s, p50 %4.0f ms, p99 %4.0f ms, %3.0f us of CPU; published; %s\n", t.PerS, t.P50, t.P99, t.CPU, t.Setting)
	}
	fmt.Printf("ratio:    %.1f of the best of Tessera, %.0f of its defaults; processor time of an append %.1f of Tessera's least\n",
		r.Ratio, r.ToDef, 1/r.CPURatio)
	return nil
}

// run measures both, Tessera before and after Fabtrail, as machines have moods.
func run(ctx context.Context, dir string, d time.Duration, inFlight int, batch bool, prefill uint64) (r result, err error) {
	tessera := func() error {
		for _, s := range settings {
			m, err := s.run(ctx, dir, d/2, inFlight)
			if err != nil {
				return fmt.Errorf("tessera, %s: %w", s.name, err)
			}
			r.Tessera = append(r.Tessera, m)
		}
		return nil
	}
	if err := tessera(); err != nil {
		return r, err
	}
	r.Fabtrail, err = bench.Run(ctx, bench.Config{Dir: dir, Time: d, InFlight: inFlight, Batch: batch, Prefill: prefill})
	if err != nil {
		return r, err
	}
	if err := tessera(); err != nil {
		return r, err
	}
	if r.Defaults, err = defaults.run(ctx, dir, d/2, inFlight); err != nil {
		return r, fmt.Errorf("tessera, %s: %w", defaults.name, err)
	}
	best := slices.MaxFunc(r.Tessera, func(a, b measured) int { return int(a.PerS - b.PerS) })
	cheapest := slices.MinFunc(r.Tessera, func(a, b measured) int { return int(a.CPU - b.CPU) })
	r.Ratio, r.ToDef = r.Fabtrail.AppendsPerS/best.PerS, r.Fabtrail.AppendsPerS/r.Defaults.PerS
	r.CPURatio = cheapest.CPU / r.Fabtrail.AppendCPU
	return r, nil
}

// run appends with inFlight goroutines for a while, each waiting for publication.
func (s setting) run(ctx context.Context, dir string, d time.Duration, inFlight int) (m measured, err error) {
	dir, err = os.MkdirTemp(dir, "fabtrail-tessera-")
	if err != nil {
		return m, err
	}
	defer os.RemoveAll(dir)
	secret, _, err := note.GenerateKey(rand.Reader, "bench.example/tessera")
	if err != nil {
		return m, err
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		return m, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	driver, err := posix.New(ctx, posix.Config{Path: filepath.Join(dir, "log")})
	if err != nil {
		return m, err
	}
	opts := tessera.NewAppendOptions().WithCheckpointSigner(signer).WithBatching(s.batch, s.age).
		WithCheckpointInterval(s.interval).WithPushback(uint(2 * inFlight))
	appender, shutdown, reader, err := tessera.NewAppender(ctx, driver, opts)
	if err != nil {
		return m, err
	}
	await := tessera.NewPublicationAwaiter(ctx, reader.ReadCheckpoint, 10*time.Millisecond)
	used := cpu()
	times, took, err := s.load(ctx, appender, await, d, inFlight)
	used = cpu() - used
	err = errors.Join(err, shutdown(ctx))
	if err != nil {
		return m, err
	}
	slices.Sort(times)
	n := len(times)
	return measured{s.name, float64(n) / took.Seconds(), times[n/2].Seconds() * 1e3, times[n*99/100].Seconds() * 1e3,
		used.Seconds() * 1e6 / float64(n)}, nil
}

// cpu is the processor time that this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (s setting) load(ctx context.Context, a *tessera.Appender, await *tessera.PublicationAwaiter, d time.Duration, inFlight int) ([]time.Duration, time.Duration, error) {
	times := make([][]time.Duration, inFlight)
	errs := make([]error, inFlight)
	var stop atomic.Bool
	var wg sync.WaitGroup
	start := time.Now()
	for k := range inFlight {
		wg.Go(func() {
			for !stop.Load() && time.Since(start) < d {
				data := make([]byte, payload)
				rand.Read(data)
				began := time.Now()
				if _, _, err := await.Await(ctx, a.Add(ctx, tessera.NewEntry(data))); err != nil {
					errs[k] = err
					stop.Store(true)
					return
				}
				times[k] = append(times[k], time.Since(began))
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	all := slices.Concat(times...)
	if len(all) == 0 {
		errs = append(errs, errors.New("nothing was appended"))
	}
	return all, took, errors.Join(errs...)
}
