package unitindex

import (
	"crypto/ed25519"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// Run with -cpu 1 to read ns as CPU time; with -unitindex.topics 10000000 for
// the size of the design's figures (about 2 GB of rows in memory).
var benchTopics = flag.Uint64("unitindex.topics", 0, "a further size of benchmarks, in topics")

func benchSizes() []uint64 {
	sizes := []uint64{100_000, 1_000_000}
	if *benchTopics > 0 {
		sizes = append(sizes, *benchTopics)
	}
	return sizes
}

// benchTopic is a random topic that is cheap to make: 128 bits decide.
func benchTopic(i uint64) (h entry.Hash) {
	rng := rand.NewPCG(i, 1)
	for k := 0; k < len(h); k += 8 {
		for j, v := 0, rng.Uint64(); j < 8; j++ {
			h[k+j] = byte(v >> (8 * j))
		}
	}
	return h
}

var benchCache sync.Map // topics -> *benchState

type benchState struct {
	rows  *MemRows
	tree  *Tree
	bytes uint64 // of memory that the tree takes
}

func benchBuild(b *testing.B, topics uint64) *benchState {
	if s, ok := benchCache.Load(topics); ok {
		return s.(*benchState)
	}
	s := &benchState{rows: new(MemRows)}
	for i := range topics {
		s.rows.Set(benchTopic(i), benchTopic(i+1<<40))
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	var err error
	if s.tree, err = Build(s.rows); err != nil {
		b.Fatal(err)
	}
	s.bytes = heap() - before
	benchCache.Store(topics, s)
	return s
}

func BenchmarkBuild(b *testing.B) {
	for _, topics := range benchSizes() {
		b.Run(fmt.Sprintf("topics=%d", topics), func(b *testing.B) {
			s := benchBuild(b, topics)
			for b.Loop() {
				if _, err := Build(s.rows); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(topics), "ns/topic")
			b.ReportMetric(float64(s.bytes)/float64(topics), "RAM-B/topic")
		})
	}
}

// BenchmarkUpdate changes three topics for each that it adds, without the cost
// of a store's reads.
func BenchmarkUpdate(b *testing.B) {
	for _, topics := range benchSizes() {
		for _, batch := range []int{64, 1024, 4096} {
			b.Run(fmt.Sprintf("topics=%d/batch=%d", topics, batch), func(b *testing.B) {
				s := benchBuild(b, topics)
				fresh := 1<<50 + uint64(batch)<<32
				rng := rand.New(rand.NewPCG(uint64(batch), topics))
				batches := make([][]Change, max(2, 16384/batch))
				for i := range batches {
					seen := make(map[uint64]bool, batch)
					for len(seen) < batch {
						id := rng.Uint64N(topics)
						if len(seen)%4 == 0 {
							fresh++
							id = fresh
						}
						if !seen[id] {
							seen[id] = true
							batches[i] = append(batches[i], Change{benchTopic(id), benchTopic(rng.Uint64())})
						}
					}
				}
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ { // each from the same tree, so its rows need not change
					if _, err := s.tree.Update(s.rows, batches[i%len(batches)]); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/topic")
			})
		}
	}
}

func BenchmarkProve(b *testing.B) {
	for _, topics := range benchSizes() {
		for name, first := range map[string]uint64{"present": 0, "absent": 1 << 60} {
			b.Run(fmt.Sprintf("topics=%d/%s", topics, name), func(b *testing.B) {
				s := benchBuild(b, topics)
				var sizes []int
				for i := uint64(0); b.Loop(); i++ {
					p, err := s.tree.Prove(s.rows, benchTopic(first+i%topics))
					if err != nil {
						b.Fatal(err)
					}
					if len(sizes) < 20000 {
						sizes = append(sizes, len(p.Marshal()))
					}
				}
				slices.Sort(sizes)
				b.ReportMetric(float64(sizes[len(sizes)/2]), "proof-B-p50")
				b.ReportMetric(float64(sizes[len(sizes)*99/100]), "proof-B-p99")
			})
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	s := benchBuild(b, 1_000_000)
	p, err := s.tree.Prove(s.rows, benchTopic(5))
	if err != nil {
		b.Fatal(err)
	}
	bytes, root := p.Marshal(), s.tree.Root()
	b.ReportAllocs()
	for b.Loop() {
		p, err := ParseProof(bytes)
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := Verify(root, benchTopic(5), p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMemIndex(b *testing.B) {
	m, next := NewMemIndex(), uint64(0)
	for b.Loop() { // one entry in three topics, a commit for each 1,024 of them
		for k := range uint64(3) {
			if err := m.Append(benchTopic((next*3+k)%700_000), Ref{next, benchTopic(next)}); err != nil {
				b.Fatal(err)
			}
		}
		if next++; next%1024 == 0 {
			if _, err := m.Commit(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkReadValue(b *testing.B) {
	for _, n := range []int{1, 7, 1000} {
		b.Run(fmt.Sprintf("refs=%d", n), func(b *testing.B) {
			row := List{}.Append(testRefs(n)...).Marshal()
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := ReadValue(row); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSignatureCheck is the yardstick for BenchmarkUpdate.
func BenchmarkSignatureCheck(b *testing.B) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	msg := make([]byte, 600)
	sig := ed25519.Sign(key, msg)
	for b.Loop() {
		if !ed25519.Verify(key.Public().(ed25519.PublicKey), msg, sig) {
			b.Fatal("signature")
		}
	}
}
