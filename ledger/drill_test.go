package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// life is a ledger's disk at several moments, and what it had promised by the end.
type life struct {
	moments []*vfs.MemFS
	seen    *ledgertest.Witnessed
	note    []byte // the newest checkpoint that a witness holds
}

// live runs a ledger with restarts and crashes; an image is kept of every moment,
// of the last one when all is quiet.
func live(t *testing.T, rng *rand.Rand, moments int) *life {
	mem := vfs.NewCrashableMem()
	h := &life{seen: ledgertest.NewWitnessed()}
	cfg := func() ledger.Config {
		c := crashConfig(mem, h.seen)
		c.RotateBytes = int64(2<<10 + rng.IntN(16<<10))
		return c
	}
	l := open(t, cfg())
	for m := range moments {
		for i := range 1 + rng.IntN(5) {
			h.seen.Answer(one(t, l, fmt.Sprintf("%d %d\ntopic t%d\nadd c%d\n%0*d", m, i, i, m%3, 1+rng.IntN(900), i)))
		}
		if m < moments-1 && rng.IntN(3) > 0 {
			h.moments = append(h.moments, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng}))
			continue
		}
		h.note = l.Published().Checkpoint()
		shut(t, l)
		h.moments = append(h.moments, clone(mem))
		if m < moments-1 {
			l = open(t, cfg())
		}
	}
	return h
}

// TestRandomRestores puts together a folder from copies of database and journal
// of random moments, or without one of them: whatever was promised is there, or
// the ledger refuses with a reason and a way out. The witness knows the newest
// checkpoint; without it nobody could tell an old machine as a whole.
func TestRandomRestores(t *testing.T) {
	drills := number(t, "FABTRAIL_DRILLS", 40)
	kept, refused := 0, map[string]int{}
	for n := 0; n < drills; {
		rng := rand.New(rand.NewPCG(uint64(n), 7))
		h := live(t, rng, 9)
		last := len(h.moments) - 1
		for range min(20, drills-n) {
			db, j, lost := rng.IntN(last+1), rng.IntN(last+1), rng.IntN(12)
			whole := n%20 == 0 // what chance may leave out: nothing is old, nothing is lost
			if whole {
				db, lost = last, 12
			}
			switch n % 4 {
			case 0: // database from a backup
				j = last
			case 1: // journal from a backup
				db = last
			case 2: // the whole machine
				j = db
			}
			n++
			fs := clone(h.moments[db])
			replace(t, fs, h.moments[j], "log/journal")
			name := fmt.Sprintf("database of moment %d, journal of %d of %d", db, j, last)
			if lost < 2 {
				dir := []string{"log/truth", "log/journal"}[lost]
				name += ", without " + dir
				if err := fs.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
			}
			err := ledgertest.Image{FS: fs, Seen: h.seen.Clone()}.Check(func(fs vfs.FS, seen *ledgertest.Witnessed) ledger.Config {
				cfg := crashConfig(fs, seen)
				cfg.WitnessNotes = func(context.Context) [][]byte { return [][]byte{h.note} }
				return cfg
			}, false)
			var no *ledger.NoSign
			switch {
			case err == nil:
				kept++
			case errors.As(err, &no) && no.WayOut != "" && !whole:
				refused[strings.Join(strings.Fields(no.Reason)[:2], " ")]++
			default:
				t.Errorf("history %d, %s: %v", n, name, err)
			}
		}
	}
	sum := 0
	for _, k := range refused {
		sum += k
	}
	t.Logf("restore drills: %d: %d kept every promise, %d refused with a reason and a way out, 0 conflicting checkpoints; reasons begin with %v", drills, kept, sum, refused)
	if kept == 0 || sum == 0 {
		t.Error("the drills are all alike")
	}
}

// TestDamagedFiles deletes, truncates, blanks, swaps or sets back every file that a
// crash left, one at a time: harmless, repaired, refused or detected, never silent. What
// a start refuses, fsck names.
func TestDamagedFiles(t *testing.T) {
	_, late, crashed, seen := lived(t)
	outcomes, n := map[string]int{}, 0
	for _, dir := range []string{"log/truth", "log/journal"} {
		names := files(t, crashed, dir)
		for k, name := range names {
			whole := read(t, crashed, name)
			half := append([]byte(nil), whole...)
			clear(half[len(half)/2:])
			damage := map[string]func(fs vfs.FS){
				"deleted":   func(fs vfs.FS) { _ = fs.Remove(name) },
				"emptied":   func(fs vfs.FS) { write(t, fs, name, nil) },
				"truncated": func(fs vfs.FS) { write(t, fs, name, whole[:len(whole)/2]) },
				"blanked":   func(fs vfs.FS) { write(t, fs, name, half) },
				"swapped":   func(fs vfs.FS) { write(t, fs, name, read(t, crashed, names[(k+1)%len(names)])) },
			}
			if _, err := late.Stat(name); err == nil {
				damage["set back"] = func(fs vfs.FS) { write(t, fs, name, read(t, late, name)) }
			}
			for kind, do := range damage {
				n++
				fs := clone(crashed)
				do(fs)
				rep, err := ledger.Fsck(context.Background(), ledger.FsckConfig{Dir: "log", Origin: origin, FS: fs})
				if err != nil {
					t.Errorf("%s %s: fsck: %v", name, kind, err)
				}
				err = ledgertest.Image{FS: fs, Seen: seen.Clone()}.Check(crashConfig, false)
				var no *ledger.NoSign
				switch {
				case err == nil:
					outcomes["kept"]++
				case errors.As(err, &no) && len(rep.Damage) == 0:
					t.Errorf("%s %s: fsck calls clean what a start refuses: %v", name, kind, err)
				case errors.As(err, &no):
					outcomes["refused"]++
				case errors.Is(err, ledger.ErrDamaged) || errors.Is(err, ledger.ErrFailed) || pebble.IsCorruptionError(err):
					outcomes["detected"]++
				default:
					t.Errorf("%s %s: silent: %v", name, kind, err)
				}
			}
		}
	}
	t.Logf("damaged files: %d ways: %v, 0 silent", n, outcomes)
	if n < 30 {
		t.Fatalf("only %d", n)
	}
}

// TestWriteAheadLogDamage is S2: a flipped bit well before the end of the live
// write-ahead log is an error to Pebble, even if the database was made just before.
// Its newest format tells that from a torn write, but not in the first log of a new
// database.
func TestWriteAheadLogDamage(t *testing.T) {
	mem := vfs.NewCrashableMem()
	l := open(t, config(mem))
	for i := range 80 { // more, and Pebble begins another log
		one(t, l, fmt.Sprintf("%d\ntopic t\n%01000d", i, i))
	}
	fs := clone(mem)
	shut(t, l)
	name := wal(t, fs)
	b := read(t, fs, name)
	if len(b) < 4*32<<10 {
		t.Fatalf("the write-ahead log has only %d bytes", len(b))
	}
	b[len(b)/4] ^= 1
	write(t, fs, name, b)
	db, err := pebble.Open("log/truth", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatNewest, Logger: quiet{}, ReadOnly: true})
	if err == nil {
		_ = db.Close()
		t.Fatal("Pebble opens without a word")
	}
}

// TestJournaledBeforeShown: when a checkpoint leaves the process, for a witness
// or as part of a receipt, the journal on the disk has it.
func TestJournaledBeforeShown(t *testing.T) {
	for _, witnessed := range []bool{true, false} {
		mem := vfs.NewCrashableMem()
		var shown atomic.Uint64 // size shown last
		journaled := func(size uint64) error {
			mark, err := ledger.JournalMark(clone(mem), "log/journal")
			if err == nil && mark.Size < size {
				err = fmt.Errorf("size %d is shown, the journal has %d", size, mark.Size)
			}
			return err
		}
		cfg := config(slowSync{mem, &shown})
		if witnessed {
			w := ledgertest.NewCosigner("w", cfg.Signer.VKey())
			w.Before = func(_ context.Context, note []byte) error {
				size := sizeOf(t, note)
				shown.Store(size)
				err := journaled(size)
				if err != nil {
					t.Error(err)
				}
				return nil
			}
			cfg.Cosigner, cfg.Policy = w, w.Policy()
		}
		l := open(t, cfg)
		for i := range 10 {
			one(t, l, fmt.Sprint(i))
			if err := journaled(l.Published().Size()); err != nil {
				t.Error(err)
			}
		}
		shut(t, l)
	}
}

// TestPendingIsDurable: an answer without a receipt is a promise, too: the entry is
// on the disk by then.
func TestPendingIsDurable(t *testing.T) {
	mem := vfs.NewCrashableMem()
	var answered atomic.Uint64
	late := func(fs vfs.FS) ledger.Config {
		cfg := config(fs)
		w := ledgertest.NewCosigner("w", cfg.Signer.VKey())
		w.Before = func(context.Context, []byte) error { return errLate }
		cfg.Cosigner, cfg.Policy, cfg.CosignWait = w, w.Policy(), time.Nanosecond
		return cfg
	}
	l := open(t, late(slowSync{mem, &answered}))
	for i := range 5 {
		r := one(t, l, fmt.Sprint(i))
		fs := clone(mem)
		answered.Add(1)
		again := open(t, late(fs))
		if got, err := again.Receipt(r.ID); err != nil || got.Index != r.Index || !r.Pending {
			t.Errorf("entry %d was answered (pending %t), and after a power loss: %v", r.Index, r.Pending, err)
		}
		shut(t, again)
	}
	shut(t, l)
}
