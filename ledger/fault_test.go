package ledger_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// asVictim makes this test binary a process that works on a disk that fails. It is
// a process of its own because Pebble ends the process after most failed writes.
const asVictim = "LEDGER_TEST_VICTIM"

// order is what a victim is told.
type order struct {
	Dir  string
	Plan map[int]ledgertest.DiskFault
	// Manifest: once the ledger is open, the database cannot note what its tables are,
	// and Pebble demands an end of the process.
	Manifest bool
	Fatal    string // "returns": Config.Fatal breaks its contract
}

// said is one line of a victim: an answer that a caller got, a checkpoint on its
// way to a witness, or at the end the number of operations.
type said struct {
	Answer     *ledger.Result `json:",omitempty"`
	Note       []byte         `json:",omitempty"`
	Operations int            `json:",omitempty"`
}

// victimConfig is crashConfig on a real folder, whose checkpoints go to show
// before they are cosigned.
func victimConfig(dir string, fs vfs.FS, show func([]byte) error) ledger.Config {
	cfg := config(fs)
	w := ledgertest.NewCosigner("w", cfg.Signer.VKey())
	w.Before = func(_ context.Context, note []byte) error { return show(note) }
	cfg.Cosigner, cfg.Policy = w, w.Policy()
	cfg.Dir, cfg.RotateBytes = dir, 6<<10
	return cfg
}

// victim works until it is done, stops or dies.
func victim(command string) (code int) {
	var o order
	if err := json.Unmarshal([]byte(command), &o); err != nil {
		panic(err)
	}
	go func() { // nobody is left who waits for it
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(5)
	}()
	disk := ledgertest.NewFaultyDisk(vfs.Default, o.Plan)
	var opened atomic.Bool
	fs := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if o.Manifest && opened.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.HasPrefix(filepath.Base(op.Path), "MANIFEST") {
			return errors.New("injected")
		}
		return nil
	}))
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	say := func(s said) {
		mu.Lock()
		defer mu.Unlock()
		if err := out.Encode(s); err != nil {
			panic(err)
		}
	}
	for half := range 2 {
		cfg := victimConfig(o.Dir, fs, func(note []byte) error { say(said{Note: note}); return nil })
		cfg.Fatal = nil // the default: exit with 3
		if o.Fatal == "returns" {
			cfg.Fatal = func(string) {}
		}
		l, err := ledger.Open(context.Background(), cfg)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 4
		}
		opened.Store(true)
		var wg sync.WaitGroup
		for g := range 2 {
			wg.Go(func() {
				for i := range 5 {
					sub := ledgertest.Submission(fmt.Sprintf("%d %d %d\ntopic t%d\nadd c%d\n%0700d", half, g, i, i%3, g, i))
					if i == 2 {
						if sum, err := l.PutManifest(fmt.Appendf(nil, "manifest %d %d", half, g)); err == nil {
							sub.Manifest = sum
						}
					}
					if r := l.Append(context.Background(), []ledger.Submission{sub})[0]; r.Err == nil {
						say(said{Answer: &r})
					}
				}
			})
		}
		wg.Wait()
		if err := l.Close(); err != nil {
			return 4
		}
	}
	say(said{Operations: disk.Operations()})
	return 0
}

// pebblePanics tells whether a process ended with a panic of Pebble's own: 2.1 does
// that when it cannot begin a write-ahead log or sync a marker or a blob file.
func pebblePanics(trace string) bool {
	_, stack, _ := strings.Cut(trace, "[running]:\n")
	for line := range strings.Lines(stack) {
		own := !strings.HasPrefix(line, "\t")
		for _, p := range []string{"panic(", "internal/", "runtime.", "sync.", "created by", "\n"} {
			own = own && !strings.HasPrefix(line, p)
		}
		if own {
			return strings.HasPrefix(line, "github.com/cockroachdb/pebble/")
		}
	}
	return false
}

// victimTime is more than a victim needs; one that works on although it must not would
// do so for ever.
const victimTime = time.Minute

// runVictim runs a process that does as it is told, to its end. It ends with this one.
func runVictim(o order) (stdout []byte, stderr string, code int, err error) {
	command, err := json.Marshal(o)
	if err != nil {
		return nil, "", -1, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, "", -1, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), victimTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe)
	life, alive, err := os.Pipe()
	if err != nil {
		return nil, "", -1, err
	}
	defer life.Close()
	defer alive.Close()
	cmd.Stdin = life
	cmd.Env = append(os.Environ(), asVictim+"="+string(command))
	var words bytes.Buffer
	cmd.Stderr = &words
	stdout, err = cmd.Output()
	return stdout, words.String(), cmd.ProcessState.ExitCode(), err
}

// suffer runs a victim and checks what it has left, on a disk that is well again:
// nothing that it said may be untrue.
func suffer(dir string, plan map[int]ledgertest.DiskFault) (operations, code int, err error) {
	dir = filepath.Join(dir, fmt.Sprint(plan))
	if len(dir) > 200 {
		return 0, 0, fmt.Errorf("plan %v is too long", plan)
	}
	defer os.RemoveAll(dir)
	out, stderr, code, err := runVictim(order{Dir: dir, Plan: plan})
	if code == 2 && pebblePanics(stderr) {
		code = 3 // an end like others
	}
	if code != 0 && code != 3 && code != 4 {
		return 0, code, fmt.Errorf("the process ended with %d: %v: %.6000s", code, err, stderr)
	}
	operations, err = keptWord(dir, out)
	return operations, code, err
}

// keptWord checks that a ledger opens, on a disk that is well again, and that nothing
// which a victim has said of it is untrue.
func keptWord(dir string, out []byte) (operations int, err error) {
	seen := ledgertest.NewWitnessed()
	for line := range bytes.Lines(out) {
		var s said
		if err := json.Unmarshal(line, &s); err != nil {
			return 0, err
		}
		if s.Answer != nil {
			seen.Answer(*s.Answer)
		}
		if err := seen.Note(s.Note); err != nil {
			return 0, err
		}
		operations = max(operations, s.Operations)
	}
	cfg := func(fs vfs.FS, seen *ledgertest.Witnessed) ledger.Config { return victimConfig(dir, fs, seen.Note) }
	return operations, ledgertest.CheckDisk(ledgertest.NewFaultyDisk(vfs.Default, nil), seen, cfg, false)
}

// TestPebbleEndsTheProcess: when Pebble says that it cannot go on, the process ends, and
// nothing that it has said becomes untrue; also when Config.Fatal returns, which it must
// not, or Pebble would work on with tables that no start will find.
func TestPebbleEndsTheProcess(t *testing.T) {
	for _, c := range []struct {
		fatal string
		code  int
		words string
	}{
		{"", 3, "ledger: the store cannot go on: MANIFEST"},
		{"returns", 2, "panic: ledger: Config.Fatal returned"},
	} {
		dir := t.TempDir()
		out, stderr, code, _ := runVictim(order{Dir: dir, Manifest: true, Fatal: c.fatal})
		if code != c.code || !strings.Contains(stderr, c.words) {
			t.Fatalf("Fatal %q: the process ended with %d, want %d: %.3000s", c.fatal, code, c.code, stderr)
		}
		if _, err := keptWord(dir, out); err != nil {
			t.Error(err)
		}
	}
}

// TestEveryIOError fails single write operations of database and journal, in each
// of three ways, in a process of its own: it stops or goes on, and what it has
// answered stays true after the next start. The tests do a few; a campaign does
// all, and pairs (FABTRAIL_PAIRS).
func TestEveryIOError(t *testing.T) {
	dir := t.TempDir()
	operations, code, err := suffer(dir, nil)
	if err != nil || code != 0 || operations < 200 {
		t.Fatalf("without a fault: %d operations, exit code %d: %v", operations, code, err)
	}
	var plans []map[int]ledgertest.DiskFault
	step := max(11*sparse()/campaign(), 1)
	for n := 0; n < operations; n += step {
		for kind := ledgertest.DiskRefuses; kind <= ledgertest.DiskFull; kind++ {
			if step == 1 || int(kind)%3 == (n/step)%3 {
				plans = append(plans, map[int]ledgertest.DiskFault{n: kind})
			}
		}
	}
	rng := rand.New(rand.NewPCG(1, 1))
	pairs := number(t, "FABTRAIL_PAIRS", 2)
	for range pairs {
		plans = append(plans, map[int]ledgertest.DiskFault{rng.IntN(operations): ledgertest.DiskFault(1 + rng.IntN(3)),
			rng.IntN(operations): ledgertest.DiskFault(1 + rng.IntN(3))})
	}
	codes := map[int]int{}
	var mu sync.Mutex
	work := make(chan map[int]ledgertest.DiskFault)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for p := range work {
				_, code, err := suffer(dir, p)
				if err != nil {
					t.Errorf("faults %v: %v", p, err)
				}
				mu.Lock()
				codes[code]++
				mu.Unlock()
			}
		})
	}
	for _, p := range plans {
		work <- p
	}
	close(work)
	wg.Wait()
	t.Logf("I/O errors: %d operations, %d single errors, %d pairs: %d ended by themselves, %d stopped, %d went on; 0 answers untrue afterwards",
		operations, len(plans)-pairs, pairs, codes[3], codes[4], codes[0])
	if codes[3]+codes[4] == 0 {
		t.Error("no fault did anything")
	}
}
