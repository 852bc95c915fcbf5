package ledger_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// plain admits everything under two topics, without looking at it.
type plain struct{}

func (plain) Decide(_ ledger.State, _ ledger.At, sub ledger.Submission) ledger.Outcome {
	a, b := sub.ID, sub.ID
	a[31], b[31] = 1, 2
	b[0], b[1] = 0, b[1]&15 // one new topic per entry, one of a few thousand
	for i := 2; i < 31; i++ {
		b[i] = 0
	}
	return ledger.Outcome{Class: entry.Restricted, Topics: []entry.Hash{a, b}, Effect: "applied"}
}

func disk(b *testing.B) *ledger.Ledger {
	return open(b, ledger.Config{Dir: b.TempDir(), Origin: origin, Signer: ledgertest.LogSigner(origin), App: plain{}, FS: vfs.Default})
}

var filler = strings.Repeat("0123456789abcdef", 52)

// BenchmarkAppend measures appends with a number of callers in flight, on disk,
// with an application that does nothing: the limit of the ledger itself.
func BenchmarkAppend(b *testing.B) {
	for _, inflight := range []int{1, 64, 1024, 4096} {
		b.Run(fmt.Sprint(inflight), func(b *testing.B) {
			l := disk(b)
			subs := make([]ledger.Submission, b.N)
			for i := range subs {
				subs[i] = ledgertest.Submission(fmt.Sprintf("%d %s", i, filler))
			}
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for range min(inflight, b.N) {
				wg.Go(func() {
					for {
						i := int(next.Add(1)) - 1
						if i >= b.N {
							return
						}
						if r := l.Append(context.Background(), subs[i:i+1])[0]; r.Err != nil || r.Receipt == nil {
							b.Error(r.Err)
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
			b.ReportMetric(float64(l.Published().Size()-uint64(b.N)), "publications")
			shut(b, l)
		})
	}
}

// BenchmarkInclusion measures inclusion proofs from cached tiles.
func BenchmarkInclusion(b *testing.B) {
	l := disk(b)
	defer shut(b, l)
	for n := range 10 {
		var subs []ledger.Submission
		for i := range 5000 {
			subs = append(subs, ledgertest.Submission(fmt.Sprintf("%d %d", n, i)))
		}
		l.Append(context.Background(), subs)
	}
	v := l.Published()
	rng := rand.New(rand.NewPCG(1, 1))
	for b.Loop() {
		if _, err := v.Inclusion(rng.Uint64N(v.Size())); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen measures a clean start.
func BenchmarkOpen(b *testing.B) {
	cfg := ledger.Config{Dir: b.TempDir(), Origin: origin, Signer: ledgertest.LogSigner(origin), App: plain{}, FS: vfs.Default}
	l := open(b, cfg)
	for n := range 10 {
		var subs []ledger.Submission
		for i := range 5000 {
			subs = append(subs, ledgertest.Submission(fmt.Sprintf("%d %d", n, i)))
		}
		l.Append(context.Background(), subs)
	}
	shut(b, l)
	for b.Loop() {
		start := time.Now()
		l := open(b, cfg)
		b.ReportMetric(float64(time.Since(start).Microseconds())/1e3, "ms/open")
		shut(b, l)
	}
}
