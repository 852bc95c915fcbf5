package witness

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
)

// yardstick is what one core and this disk can do at best, in the same run.
type yardstick struct{ sign, sync time.Duration }

func median(n int, f func()) time.Duration {
	took := make([]time.Duration, n)
	for i := range took {
		began := time.Now()
		f()
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return took[n/2]
}

func measure(b *testing.B, dir string) yardstick {
	b.Helper()
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	msg := []byte(newLog(b, origin, -1).cp(20).Text())
	f := must[*os.File](b)(os.Create(filepath.Join(dir, "yardstick")))
	defer f.Close()
	record := make([]byte, 512)
	return yardstick{
		sign: median(2000, func() { ed25519.Sign(key, msg) }),
		sync: median(300, func() {
			if _, err := f.Write(record); err != nil {
				b.Fatal(err)
			}
			if err := f.Sync(); err != nil {
				b.Fatal(err)
			}
		}),
	}
}

// between is the mean of two measurements, before and after what they judge: other
// load comes and goes.
func (y yardstick) between(z yardstick) yardstick {
	return yardstick{(y.sign + z.sign) / 2, (y.sync + z.sync) / 2}
}

// BenchmarkWitnessRatio has one witness cosign over HTTP on loopback, with its
// store on the disk of b.TempDir: one log that asks again and again, and 64 logs
// at once, whose syncs are shared. Besides times it gives ratios to one Ed25519
// signature, and to one write and sync of 512 bytes on that disk, in the same run.
func BenchmarkWitnessRatio(b *testing.B) {
	for _, logs := range []int{1, 64} {
		b.Run(fmt.Sprintf("%d logs", logs), func(b *testing.B) { benchWitness(b, logs) })
	}
}

func benchWitness(b *testing.B, logs int) {
	dir := b.TempDir()
	yard := measure(b, dir)
	store := must[*FileStore](b)(OpenFileStore(FileOptions{Dir: filepath.Join(dir, "state"), MarkDir: filepath.Join(dir, "mark"), Create: true}))
	defer store.Close()
	cfg := Config{Signer: newSigner(b, "w.example", checkpoint.TypeCosigner), Store: store, Limits: Limits{PerClient: -1, PerLog: -1}}
	requests := make([][2][]byte, logs) // a first checkpoint, then the same size again
	for i := range requests {
		l := newLog(b, fmt.Sprintf("log%d.example", i), -1)
		cfg.Logs = append(cfg.Logs, l.asLog())
		requests[i] = [2][]byte{l.request(b, 0, 20).Marshal(), l.request(b, 20, 20).Marshal()}
	}
	srv := httptest.NewServer(must[*Server](b)(New(cfg)))
	defer srv.Close()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: logs}}
	defer client.CloseIdleConnections()
	ask := func(body []byte) {
		resp, err := client.Post(srv.URL+"/add-checkpoint", "text/plain", bytes.NewReader(body))
		if err != nil {
			b.Error(err)
			return
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		if resp.Body.Close(); resp.StatusCode != http.StatusOK {
			b.Errorf("status %d", resp.StatusCode)
		}
	}
	for _, r := range requests {
		ask(r[0])
	}
	var mu sync.Mutex
	var took []time.Duration
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	began := time.Now()
	var wg sync.WaitGroup
	for _, r := range requests {
		wg.Go(func() {
			var mine []time.Duration
			for left.Add(-1) >= 0 && !b.Failed() {
				at := time.Now()
				ask(r[1])
				mine = append(mine, time.Since(at))
			}
			mu.Lock()
			took = append(took, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	all := time.Since(began)
	b.StopTimer()
	yard = yard.between(measure(b, dir))
	slices.Sort(took)
	perSecond := float64(len(took)) / all.Seconds()
	p50, p99 := took[len(took)/2], took[len(took)*99/100]
	b.ReportMetric(perSecond, "cosignatures/s")
	b.ReportMetric(perSecond*yard.sign.Seconds(), "of-signing-rate")
	b.ReportMetric(perSecond*yard.sync.Seconds(), "of-sync-rate")
	b.ReportMetric(float64(p50.Microseconds()), "p50-µs")
	b.ReportMetric(float64(p99.Microseconds()), "p99-µs")
	b.ReportMetric(p50.Seconds()/yard.sync.Seconds(), "p50-in-syncs")
	b.ReportMetric(p99.Seconds()/yard.sync.Seconds(), "p99-in-syncs")
	b.ReportMetric(p50.Seconds()/yard.sign.Seconds(), "p50-in-signatures")
	b.ReportMetric(float64(yard.sign.Microseconds()), "sign-µs")
	b.ReportMetric(float64(yard.sync.Microseconds()), "sync-µs")
}
