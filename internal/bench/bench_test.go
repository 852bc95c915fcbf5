package bench

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/internal/node"
)

// A run in small measures everything, and what it measured passes fsck.
func TestRun(t *testing.T) {
	for _, cfg := range []Config{
		{Time: 40 * time.Millisecond, InFlight: 8, Entries: 300, Prefill: 3000, Log: 3000},
		{Time: 40 * time.Millisecond, InFlight: 128, Entries: 256, Batch: true, Log: 500},
	} {
		cfg.Dir = t.TempDir()
		r, err := Run(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if r.Fsck != "clean" || r.Appends != cfg.Entries || r.L <= 0 || r.Ratio <= 0 || r.P99 < r.P50 || r.BytesPerEntry < 500 || r.LogBefore < cfg.Log || r.Start <= 0 || r.Crash <= 0 ||
			r.InclusionPerS <= 0 || r.VerifyChecks <= 0 || r.AnswersPerS <= 0 || r.Answer.Checks < 10 || r.AnswerKnown.Bytes >= r.Answer.Bytes {
			t.Errorf("%+v", r)
		}
		if cfg.Prefill > 0 && (r.Topics <= cfg.Prefill || r.IndexShare <= 0 || r.ProofP50 < 300 || r.IndexBytes < 32) {
			t.Errorf("index: %+v", r)
		}
		if cfg.Log > 0 && (r.Topics < cfg.Log || r.IndexBytes < 32) {
			t.Errorf("the log's index: %+v", r)
		}
	}
}

// What others had of the processors is what is left of the kernel's figures.
func TestOthers(t *testing.T) {
	from := parseStat("cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 2 3\n")
	if want := (jiffies{1000, 850}); from != want {
		t.Fatalf("got %+v, want %+v", from, want)
	}
	now := parseStat("cpu  220 10 60 840 60 0 0 10 0 0\n") // 200 more, 50 of them idle
	if got := now.others(from, time.Second); got != 0.25 {
		t.Errorf("got %v, want 0.25", got)
	}
	if got := now.others(from, 2*time.Second); got != 0 {
		t.Errorf("more than there was: got %v, want 0", got)
	}
	for _, bad := range []string{"", "cpu 1 2 3", "cpu0 1 2 3 4 5 6 7 8", "cpu a 2 3 4 5 6 7 8"} {
		if got := now.others(parseStat(bad), time.Second); got != -1 {
			t.Errorf("%q: got %v, want -1", bad, got)
		}
	}
}

// The table holds medians, by name in the order of the file.
func TestTable(t *testing.T) {
	var in strings.Builder
	for _, run := range []struct {
		name string
		l    float64
	}{{"b", 3}, {"a", 10}, {"b", 1}, {"b", 2}, {"a", 20}} {
		j, err := json.Marshal(Result{L: run.l, CheckCPU: 1})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&in, "%s %s\n", run.name, j)
	}
	var out strings.Builder
	if err := Table(strings.NewReader(in.String()), &out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[2], "| b | 3 | 2 |") || !strings.HasPrefix(lines[3], "| a | 2 | 15 |") {
		t.Errorf("got\n%s", out.String())
	}
	for _, bad := range []string{"word\n", "name {\n"} {
		if err := Table(strings.NewReader(bad), &out); err == nil {
			t.Errorf("%q is taken for a result", bad)
		}
	}
}

// ready is a running ledger with units of ten statements; FABTRAIL_LOG is how many
// entries its log has beforehand.
func ready(b *testing.B) (*bench, *node.Node, []string) {
	b.Helper()
	w := &bench{ctx: b.Context(), folder: node.Folder(filepath.Join(b.TempDir(), "data")), res: &Result{CheckCPU: 1},
		cfg: Config{Progress: func(string, uint64, uint64) {}, Prefill: 100_000}}
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	if s := os.Getenv("FABTRAIL_LOG"); s != "" {
		var err error
		w.cfg.Log, err = strconv.ParseUint(s, 10, 64)
		must(err)
	}
	must(w.found())
	must(w.fill())
	must(w.grow())
	n, err := node.Open(b.Context(), node.Config{Folder: w.folder, NoFollow: true})
	must(err)
	b.Cleanup(func() { must(n.Close()) })
	var units []string
	rng := rand.NewChaCha8(sha256.Sum256(nil))
	for i := range uint64(32) {
		life, err := w.world.life(rng, firstLife+i)
		must(err)
		for _, s := range life {
			must(w.submit(n, s.envelope))
		}
		units = append(units, w.world.unit(firstLife+i))
	}
	return w, n, units
}

func BenchmarkAnswer(b *testing.B) {
	_, n, units := ready(b)
	parts, err := learn(n, units)
	if err != nil {
		b.Fatal(err)
	}
	for name, have := range map[string]string{"whole": "", "known": parts.Have()} {
		b.Run(name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if _, err := n.Unit(b.Context(), admin, query(units[i%len(units)], have)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	w, n, units := ready(b)
	body, err := n.Unit(b.Context(), admin, query(units[0], ""))
	if err != nil {
		b.Fatal(err)
	}
	trust, err := w.trust()
	if err != nil {
		b.Fatal(err)
	}
	v := client.Verifier{Trust: trust}
	for b.Loop() {
		v.VerifyAnswer(b.Context(), units[0], body.JSON)
	}
}

// BenchmarkAppend is for profiles: the whole way of statements, 1,024 on their way, or
// with FABTRAIL_APPEND_BATCH=1 4,096 in batches. FABTRAIL_APPEND_PROFILE names a file
// for a CPU profile of the appends alone.
func BenchmarkAppend(b *testing.B) {
	w, n, _ := ready(b)
	w.cfg.InFlight = 1024
	if os.Getenv("FABTRAIL_APPEND_BATCH") != "" {
		w.cfg.InFlight, w.cfg.Batch = 4096, true
	}
	pairs, err := w.world.pairs(0, (b.N+1)/2, func(uint64, uint64) {})
	if err != nil {
		b.Fatal(err)
	}
	var flat []signed
	for _, p := range pairs[:min(len(pairs), 512)] {
		flat = append(flat, p[:]...)
	}
	_, before := checks(flat, time.Second)
	if profile := os.Getenv("FABTRAIL_APPEND_PROFILE"); profile != "" { // of the appends alone
		f, err := os.Create(profile)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	if err := w.run(n, pairs); err != nil {
		b.Fatal(err)
	}
	pprof.StopCPUProfile()
	_, after := checks(flat, time.Second)
	b.ReportMetric(w.res.AppendCPU, "cpu-us/append")
	b.ReportMetric(w.res.AppendCPU/us((before+after)/2), "checks/append")
}

// filled is a ledger with FABTRAIL_INDEX_TOPICS topics (default a million) in its index;
// FABTRAIL_INDEX_DIR keeps it from one run to the next.
func filled(b *testing.B) *bench {
	b.Helper()
	topics := uint64(1_000_000)
	if s := os.Getenv("FABTRAIL_INDEX_TOPICS"); s != "" {
		var err error
		if topics, err = strconv.ParseUint(s, 10, 64); err != nil {
			b.Fatal(err)
		}
	}
	dir := os.Getenv("FABTRAIL_INDEX_DIR")
	if dir == "" {
		dir = b.TempDir()
	}
	w := &bench{ctx: b.Context(), folder: node.Folder(filepath.Join(dir, "data")), res: &Result{CheckCPU: 1},
		cfg: Config{Progress: func(string, uint64, uint64) {}, Prefill: topics}}
	count := filepath.Join(dir, "topics")
	b.Cleanup(func() {
		if err := os.WriteFile(count, fmt.Append(nil, w.filled), 0o600); err != nil {
			b.Error(err)
		}
	})
	if n, err := os.ReadFile(count); err == nil {
		if w.filled, err = strconv.ParseUint(string(n), 10, 64); err != nil {
			b.Fatal(err)
		}
		return w
	}
	for _, step := range []func() error{w.found, w.fill} {
		if err := step(); err != nil {
			b.Fatal(err)
		}
	}
	return w
}

// someSigned are statements to check.
func someSigned(b *testing.B) (flat []signed) {
	b.Helper()
	w := &bench{ctx: b.Context(), folder: node.Folder(filepath.Join(b.TempDir(), "data")), res: new(Result), cfg: Config{Progress: func(string, uint64, uint64) {}}}
	if err := w.found(); err != nil {
		b.Fatal(err)
	}
	pairs, err := w.world.pairs(firstLone, 256, func(uint64, uint64) {})
	if err != nil {
		b.Fatal(err)
	}
	for _, p := range pairs {
		flat = append(flat, p[:]...)
	}
	return flat
}

// profile writes a CPU profile of what runs between two calls.
func profile(b *testing.B, name string) (onOff func(on bool)) {
	b.Helper()
	return func(on bool) {
		if !on {
			pprof.StopCPUProfile()
			return
		}
		f, err := os.Create(name)
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIndex is for profiles: commitments of 4,096 topics, and what a check costs
// before and after. FABTRAIL_INDEX_PROFILE names a file for a CPU profile of the
// commitments alone.
func BenchmarkIndex(b *testing.B) {
	w := filled(b)
	if name := os.Getenv("FABTRAIL_INDEX_PROFILE"); name != "" {
		w.around = profile(b, name)
	}
	sample := someSigned(b)
	for b.Loop() {
		_, before := checks(sample, time.Second)
		if err := w.index(); err != nil {
			b.Fatal(err)
		}
		_, after := checks(sample, time.Second)
		b.ReportMetric(w.res.TopicCPU/us((before+after)/2), "checks/topic")
	}
	b.ReportMetric(w.res.TopicCPU, "cpu-us/topic")
	b.ReportMetric(w.res.IndexBytes, "B/topic")
	b.ReportMetric(w.res.FillRSS, "MiB")
}

// BenchmarkStart is for profiles of a start after a clean end.
func BenchmarkStart(b *testing.B) {
	w := filled(b)
	if err := w.start(); err != nil {
		b.Fatal(err)
	}
	sample := someSigned(b)
	_, check := checks(sample, time.Second)
	for b.Loop() {
		if err := w.open(func(*node.Node) error { return nil }); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(w.opened.wall, "ms")
		b.ReportMetric(w.opened.cpu, "cpu-ms")
	}
	b.ReportMetric(us(check), "us/check")
}
