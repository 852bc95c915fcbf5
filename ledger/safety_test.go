package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

func clone(fs *vfs.MemFS) *vfs.MemFS { return fs.CrashClone(vfs.CrashCloneCfg{}) }

func read(t testing.TB, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t testing.TB, fs vfs.FS, name string, b []byte) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func files(t testing.TB, fs vfs.FS, dir string) (out []string) {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if n != "LOCK" {
			out = append(out, fs.PathJoin(dir, n))
		}
	}
	return out
}

// replace makes dir in to what it is in from.
func replace(t testing.TB, to, from vfs.FS, dir string) {
	t.Helper()
	for _, n := range files(t, to, dir) {
		if err := to.Remove(n); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range files(t, from, dir) {
		write(t, to, n, read(t, from, n))
	}
	d, err := to.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		t.Fatal(err)
	}
}

func wal(t testing.TB, fs vfs.FS) (newest string) {
	for _, n := range files(t, fs, "log/truth") {
		if strings.HasSuffix(n, ".log") && n > newest {
			newest = n
		}
	}
	return newest
}

// lived is a ledger's disk at three moments, and what it had promised by the
// last: early and late after a clean end, crashed in the middle of its work.
func lived(t testing.TB) (early, late, crashed *vfs.MemFS, seen *ledgertest.Witnessed) {
	mem := vfs.NewCrashableMem()
	seen = ledgertest.NewWitnessed()
	run := func(name string, n int) *ledger.Ledger {
		l := open(t, crashConfig(mem, seen))
		for i := range n {
			seen.Answer(one(t, l, fmt.Sprintf("%s %d\ntopic t%d\nadd c", name, i, i%3)))
		}
		return l
	}
	shut(t, run("early", 5))
	early = clone(mem)
	shut(t, run("late", 5))
	late = clone(mem)
	cfg := crashConfig(mem, seen)
	cfg.RotateBytes = 1 << 20
	l := open(t, cfg)
	for i := range 8 {
		seen.Answer(one(t, l, fmt.Sprintf("crash %d\ntopic t%d\nadd c\n%0400d", i, i%3, i)))
	}
	crashed = clone(mem)
	shut(t, l)
	return early, late, crashed, seen
}

// dropRow deletes a row of the truth store.
func dropRow(t testing.TB, fs vfs.FS, space string, n byte) {
	t.Helper()
	db, err := pebble.Open("log/truth", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatNewest, Logger: quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	key := append([]byte(space), 0, 0, 0, 0, 0, 0, 0, n)
	if _, c, err := db.Get(key); err != nil {
		t.Fatalf("row %s %d: %v", space, n, err)
	} else if err := errors.Join(c.Close(), db.Delete(key, pebble.Sync), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestRestoreDrills: careless restores and losses either change nothing that was
// promised, or are refused with a reason and a way out.
func TestRestoreDrills(t *testing.T) {
	early, late, crashed, seen := lived(t)
	for _, c := range []struct {
		name   string
		from   *vfs.MemFS
		do     func(fs *vfs.MemFS, cfg *ledger.Config)
		refuse string // part of the reason; empty: repaired
	}{
		{"nothing", crashed, func(*vfs.MemFS, *ledger.Config) {}, ""},
		{"write-ahead log lost", crashed, func(fs *vfs.MemFS, _ *ledger.Config) { _ = fs.Remove(wal(t, fs)) }, ""},
		{"write-ahead log cut in half", crashed, func(fs *vfs.MemFS, _ *ledger.Config) {
			b := read(t, fs, wal(t, fs))
			write(t, fs, wal(t, fs), b[:len(b)/2])
		}, ""},
		{"database older", crashed, func(fs *vfs.MemFS, _ *ledger.Config) { replace(t, fs, early, "log/truth") }, "it is an old copy, or has lost entries"},
		{"database older, clean", late, func(fs *vfs.MemFS, _ *ledger.Config) { replace(t, fs, early, "log/truth") }, "it is an old copy, or has lost entries"},
		{"database gone", late, func(fs *vfs.MemFS, _ *ledger.Config) { _ = fs.RemoveAll("log/truth") }, "the database is gone"},
		{"journal older", crashed, func(fs *vfs.MemFS, _ *ledger.Config) { replace(t, fs, early, "log/journal") }, "ends before the checkpoint"},
		{"journal gone", crashed, func(fs *vfs.MemFS, _ *ledger.Config) { _ = fs.RemoveAll("log/journal") }, "the journal is gone"},
		{"both older, and a witness knows", crashed, func(fs *vfs.MemFS, cfg *ledger.Config) {
			newest := ledgertest.NewWitnessed()
			l := open(t, crashConfig(clone(crashed), newest))
			note := l.Published().Checkpoint()
			shut(t, l)
			replace(t, fs, early, "log/truth")
			replace(t, fs, early, "log/journal")
			cfg.WitnessNotes = func(context.Context) [][]byte { return [][]byte{note} }
		}, "a witness's checkpoint has size"},
		{"a table lost, which leaves a hole", crashed, func(fs *vfs.MemFS, _ *ledger.Config) { dropRow(t, fs, "c", 24) }, "has a hole among entries"},
		{"a flush lost", crashed, func(fs *vfs.MemFS, _ *ledger.Config) { dropRow(t, fs, "f", 5) }, "lost what was flushed"},
		{"another log's journal", crashed, func(fs *vfs.MemFS, cfg *ledger.Config) {
			cfg.Origin, cfg.Signer = "other.test/log", ledgertest.LogSigner("other.test/log")
		}, "is of log"},
		{"a fork of the same length", late, func(fs *vfs.MemFS, cfg *ledger.Config) {
			other := vfs.NewCrashableMem()
			c := crashConfig(other, ledgertest.NewWitnessed())
			c.Rand = ledgertest.Salts(99)
			for range 2 {
				l := open(t, c)
				for i := range 5 {
					one(t, l, fmt.Sprintf("fork %d %d", i, l.Signed().Size()))
				}
				shut(t, l)
			}
			replace(t, fs, other, "log/truth")
		}, "the same tree"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := clone(c.from)
			promised := seen.Clone()
			if c.from == late {
				promised = ledgertest.NewWitnessed()
			}
			var cfg ledger.Config
			set := func(f vfs.FS, s *ledgertest.Witnessed) ledger.Config {
				cfg = crashConfig(f, s)
				c.do(fs, &cfg)
				return cfg
			}
			err := ledgertest.Image{FS: fs, Seen: promised}.Check(set, false)
			var refused *ledger.NoSign
			switch {
			case c.refuse == "" && err != nil:
				t.Fatal(err)
			case c.refuse != "" && (!errors.As(err, &refused) || !strings.Contains(refused.Error(), c.refuse) || refused.WayOut == ""):
				t.Fatalf("%v, want a refusal with %q and a way out", err, c.refuse)
			}
		})
	}
}

// TestLyingWitnessDoesNotStop: what is not signed by us is no reason to stop.
func TestLyingWitnessDoesNotStop(t *testing.T) {
	_, late, _, _ := lived(t)
	cfg := crashConfig(late, ledgertest.NewWitnessed())
	cfg.WitnessNotes = func(context.Context) [][]byte {
		return [][]byte{[]byte("size 999999\n"), []byte(origin + "\n999999\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n— " + origin + " AAAAAAAA\n")}
	}
	shut(t, open(t, cfg))
}

// TestFlippedBits flips one bit here and there in every file that a crash left.
// Each flip is harmless, repaired, refused or detected; none is silent. What a start
// refuses, fsck names.
func TestFlippedBits(t *testing.T) {
	_, _, crashed, seen := lived(t)
	step := max(61*sparse()*sparse()/campaign(), 1)
	flips, outcomes := 0, map[string]int{}
	for _, dir := range []string{"log/truth", "log/journal"} {
		for _, name := range files(t, crashed, dir) {
			b := read(t, crashed, name)
			for at := flips % step; at < len(b); at += step {
				flips++
				fs := clone(crashed)
				bad := append([]byte(nil), b...)
				bad[at] ^= 1 << (flips % 8)
				write(t, fs, name, bad)
				rep, err := ledger.Fsck(context.Background(), ledger.FsckConfig{Dir: "log", Origin: origin, FS: fs})
				if err != nil {
					t.Errorf("%s: bit %d of byte %d: fsck: %v", name, flips%8, at, err)
				}
				err = ledgertest.Image{FS: fs, Seen: seen.Clone()}.Check(crashConfig, false)
				var no *ledger.NoSign
				switch {
				case err == nil:
					outcomes["kept"]++
				case errors.As(err, &no) && len(rep.Damage) == 0:
					t.Errorf("%s: bit %d of byte %d: fsck calls clean what a start refuses: %v", name, flips%8, at, err)
				case errors.As(err, &no):
					outcomes["refused"]++
				case errors.Is(err, ledger.ErrDamaged) || errors.Is(err, ledger.ErrFailed) || pebble.IsCorruptionError(err):
					outcomes["detected"]++
				default:
					t.Errorf("%s: bit %d of byte %d: silent: %v", name, flips%8, at, err)
				}
			}
		}
	}
	if flips < 40 {
		t.Fatalf("only %d flips", flips)
	}
	t.Logf("%d flips: %v", flips, outcomes)
}

// TestOneWriter: a second process is kept out; one that got in anyway (a lock
// that does not hold, a cloned disk) stops the first before it signs.
func TestOneWriter(t *testing.T) {
	mem := vfs.NewMem()
	l := open(t, config(mem))
	one(t, l, "a")
	if _, err := ledger.Open(context.Background(), config(mem)); !errors.Is(err, ledger.ErrLocked) {
		t.Fatalf("second Open: %v", err)
	}
	if _, err := ledger.Fsck(context.Background(), ledger.FsckConfig{Dir: "log", Origin: origin, FS: mem}); !errors.Is(err, ledger.ErrLocked) {
		t.Fatalf("Fsck of an open ledger: %v", err)
	}
	names := files(t, mem, "log/journal")
	if len(names) != 1 {
		t.Fatal(names)
	}
	f, err := mem.OpenReadWrite(names[0], vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	end := int64(len(read(t, mem, names[0])))
	if _, err := f.WriteAt([]byte("another process"), end); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	size := l.Published().Size()
	r := l.Append(context.Background(), []ledger.Submission{ledgertest.Submission("b")})[0]
	if !errors.Is(r.Err, ledger.ErrFailed) || !strings.Contains(r.Err.Error(), "another process") {
		t.Fatalf("%v, want a stop", r.Err)
	}
	if l.Signed().Size() != size || l.Err() == nil {
		t.Fatal("signed although another process writes")
	}
	<-l.Failed()
	if r := l.Append(context.Background(), []ledger.Submission{ledgertest.Submission("c")})[0]; !errors.Is(r.Err, ledger.ErrFailed) {
		t.Fatalf("failure must stick: %v", r.Err)
	}
	if _, err := l.PutManifest([]byte("m")); !errors.Is(err, ledger.ErrFailed) {
		t.Fatal(err)
	}
	if _, err := l.Published().Entry(0); err != nil {
		t.Fatal("reads must go on:", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestJournalFaults fails every write, sync and creation of the journal once: the
// ledger stops, nothing answered is lost, and a new start goes on.
func TestJournalFaults(t *testing.T) {
	for n := int32(0); ; n++ {
		mem := vfs.NewCrashableMem()
		seen := ledgertest.NewWitnessed()
		shut(t, open(t, crashConfig(mem, seen)))
		count := int32(-1)
		armed := true
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.HasSuffix(op.Path, ".journal") {
				if count++; armed && count == n {
					return errors.New("injected I/O error")
				}
			}
			return nil
		}))
		l, err := ledger.Open(context.Background(), crashConfig(fs, seen))
		if err == nil {
			for i := range 6 {
				r := l.Append(context.Background(), []ledger.Submission{ledgertest.Submission(fmt.Sprintf("%d\ntopic t", i))})[0]
				if r.Err != nil && !errors.Is(r.Err, ledger.ErrFailed) {
					t.Fatalf("fault %d: %v", n, r.Err)
				}
				if r.Err == nil && !r.Pending {
					seen.Answer(r)
				}
			}
			_ = l.Close()
		}
		if count < n {
			if n < 10 {
				t.Fatalf("only %d operations", n)
			}
			return
		}
		if err := (ledgertest.Image{Point: int(n), Percent: 100, FS: mem.CrashClone(vfs.CrashCloneCfg{}), Seen: seen}).Check(crashConfig, false); err != nil {
			t.Fatalf("fault %d: %v", n, err)
		}
	}
}

// TestEngineFaults: what an engine can do to a ledger, other than failing for a
// while, which the model test covers.
func TestEngineFaults(t *testing.T) {
	cluster := new(ledgertest.Cluster)
	mem := vfs.NewMem()
	cfg := func() ledger.Config {
		c := config(mem)
		c.Sequencer = cluster.Open()
		c.SettlePause, c.SettleLimit = time.Microsecond, 50*time.Millisecond
		return c
	}
	l := open(t, cfg())
	for i := range 5 {
		one(t, l, fmt.Sprintf("%d\ntopic t", i))
	}
	size, root := l.Published().Size(), l.Published().Root()
	shut(t, l)
	t.Run("it lost what was signed", func(t *testing.T) {
		lost := new(ledgertest.Cluster)
		s := lost.Open()
		src := cluster.Open()
		var leaves []ledger.Leaf
		for uint64(len(leaves)) < size-3 {
			part, err := src.Read(context.Background(), uint64(len(leaves)), int(size)-3-len(leaves))
			if err != nil {
				t.Fatal(err)
			}
			leaves = append(leaves, part...)
		}
		if err := s.Add(context.Background(), 0, leaves); err != nil {
			t.Fatal(err)
		}
		c := config(mem)
		c.Sequencer = s
		var refused *ledger.NoSign
		if _, err := ledger.Open(context.Background(), c); !errors.As(err, &refused) {
			t.Fatalf("%v, want a refusal", err)
		}
		if lost.Size() != len(leaves) {
			t.Fatal("the engine was written to")
		}
	})
	t.Run("a replica is built anew", func(t *testing.T) {
		c := config(vfs.NewMem())
		c.Sequencer = cluster.Open()
		l := open(t, c)
		defer shut(t, l)
		if err := l.Wait(context.Background(), size); err != nil {
			t.Fatal(err)
		}
		if got, err := l.Published().RootAt(size); err != nil || got != root {
			t.Fatal("another tree", err)
		}
		if refs, _, err := l.Published().List(ledgertest.Topic("t")); err != nil || len(refs) != 5 {
			t.Fatal(len(refs), err)
		}
		cluster.Truncate(int(size))
	})
	t.Run("it never comes back", func(t *testing.T) {
		cluster.Fault = func(uint64, int) ledgertest.Fault { return ledgertest.FailBefore }
		l := open(t, cfg())
		r := l.Append(context.Background(), []ledger.Submission{ledgertest.Submission("x")})[0]
		if !errors.Is(r.Err, ledger.ErrFailed) || l.Signed().Size() != size {
			t.Fatal(r.Err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		cluster.Fault = nil
		l = open(t, cfg())
		defer shut(t, l)
		if err := l.Wait(context.Background(), size); err != nil {
			t.Fatal(err)
		}
		if r := one(t, l, "x"); !r.Repeat || r.Index != size {
			t.Fatalf("the entry that was on its way: %+v", r)
		}
	})
	t.Run("somebody else added", func(t *testing.T) {
		l := open(t, cfg())
		s := cluster.Open()
		foreign := ledgertest.Leaf(1)
		if err := s.Add(context.Background(), uint64(cluster.Size()), []ledger.Leaf{foreign}); err != nil {
			t.Fatal(err)
		}
		before := l.Signed().Size()
		r := l.Append(context.Background(), []ledger.Submission{ledgertest.Submission("y")})[0]
		if !errors.Is(r.Err, ledger.ErrFailed) || l.Signed().Size() != before {
			t.Fatal(r.Err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// meddler is an engine that calls back when a commit is in the database and not
// yet verified.
type meddler struct {
	ledger.Sequencer
	during func()
}

func (m *meddler) Add(ctx context.Context, first uint64, leaves []ledger.Leaf) error {
	err := m.Sequencer.Add(ctx, first, leaves)
	m.during()
	return err
}

// TestVerifyBeforeSign: one bit that flips between deciding and signing, on disk
// or in memory, keeps the checkpoint from being signed.
func TestVerifyBeforeSign(t *testing.T) {
	stored := func(space byte, i uint64) func(*ledger.Ledger) error {
		return func(l *ledger.Ledger) error { return l.FlipStored(space, i) }
	}
	for _, c := range []struct {
		name   string
		during func(*ledger.Ledger) error // while the second commit is on its way
		before func(*ledger.Ledger)
		more   int // entries that are signed before the flip shows
	}{
		{name: "cargo", during: stored('c', 2)},
		{name: "leaf", during: stored('l', 2)},
		{name: "commitment", during: stored('c', 3)},
		{name: "inner node", before: func(l *ledger.Ledger) { l.FlipEdge(1, 0) }},
		{name: "leaf hash of a tile", before: func(l *ledger.Ledger) { l.FlipEdge(0, 0) }, more: 126},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &meddler{Sequencer: new(ledgertest.Cluster).Open(), during: func() {}}
			cfg := config(vfs.NewMem())
			cfg.Sequencer = m
			l := open(t, cfg)
			defer func() { _ = l.Close() }()
			one(t, l, "first")
			if c.before != nil {
				c.before(l)
			}
			for i := range c.more {
				one(t, l, fmt.Sprint("more ", i))
			}
			size := l.Signed().Size()
			if c.during != nil {
				m.during = func() {
					if err := c.during(l); err != nil {
						t.Error(err)
					}
				}
			}
			r := l.Append(context.Background(), []ledger.Submission{ledgertest.Submission("second")})[0]
			if !errors.Is(r.Err, ledger.ErrFailed) || !errors.Is(r.Err, ledger.ErrDamaged) || l.Signed().Size() != size {
				t.Fatalf("%v; signed size %d, before %d", r.Err, l.Signed().Size(), size)
			}
		})
	}
}
