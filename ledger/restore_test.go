package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// copyDir copies a folder from one file system to another.
func copyDir(t testing.TB, to, from vfs.FS, src, dst string) {
	t.Helper()
	if err := to.MkdirAll(dst, 0o755); err != nil {
		t.Fatal(err)
	}
	names, err := from.List(src)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		path := from.PathJoin(src, n)
		if info, err := from.Stat(path); err != nil {
			t.Fatal(err)
		} else if info.IsDir() {
			copyDir(t, to, from, path, to.PathJoin(dst, n))
		} else if n != "LOCK" {
			write(t, to, to.PathJoin(dst, n), read(t, from, path))
		}
	}
}

// disaster is a ledger with a backup from the middle of its life.
type disaster struct {
	disk   *vfs.MemFS // as a crash leaves it: log/truth, log/journal
	backup *vfs.MemFS // the same names, as of the backup
	old    uint64     // size at the backup
	early  []byte     // published and cosigned before it
	newest []byte     // published and cosigned by the end
	seen   *ledgertest.Witnessed
}

// strike runs a ledger, backs it up while it is written to, goes on, and crashes.
func strike(t testing.TB, rotate int64) disaster {
	t.Helper()
	mem := vfs.NewCrashableMem()
	d := disaster{seen: ledgertest.NewWitnessed(), backup: vfs.NewMem()}
	cfg := crashConfig(mem, d.seen)
	cfg.RotateBytes = rotate
	l := open(t, cfg)
	sum, err := l.PutManifest([]byte("contents"))
	if err != nil {
		t.Fatal(err)
	}
	say := func(s string, n int) {
		sub := ledgertest.Submission(fmt.Sprintf("%s %d\ntopic t%d\nadd c%d", s, n, n%5, n%2))
		if n%4 == 0 {
			sub.Manifest = sum
		}
		r := l.Append(context.Background(), []ledger.Submission{sub})[0]
		if r.Err != nil {
			t.Error(r.Err)
		}
		d.seen.Answer(r)
	}
	for n := range 40 {
		say("before", n)
	}
	d.early = l.Published().Checkpoint()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := range 10 {
			say("during", n)
		}
	}()
	size, err := l.Snapshot(context.Background(), "copy")
	if err != nil {
		t.Fatal(err)
	}
	<-done
	copyDir(t, d.backup, mem, "copy", "log")
	for n := range 40 {
		say("after", n)
	}
	d.old, d.newest = size, l.Published().Checkpoint()
	d.disk = clone(mem)
	shut(t, l)
	if d.old < 40 {
		t.Fatalf("the copy has %d entries", d.old)
	}
	return d
}

// holed is what is left when the journal is lost and an entry after the backup is, too.
func holed(t testing.TB, d disaster) *vfs.MemFS {
	fs := clone(d.disk)
	if err := fs.RemoveAll("log/journal"); err != nil {
		t.Fatal(err)
	}
	dropRow(t, fs, "c", byte(d.old+3))
	return fs
}

func (d disaster) config(fs vfs.FS) ledger.RestoreConfig {
	c := crashConfig(fs, d.seen)
	return ledger.RestoreConfig{Dir: "log", Folder: "data", Origin: origin, Key: c.Signer.VKey(), Policy: c.Policy, App: ledgertest.App{}, FS: fs,
		Claims: []ledger.Claim{{Name: "w", Note: d.newest}}}
}

func tail(t testing.TB, fs vfs.FS, folder string) ledger.Tail {
	t.Helper()
	tl, err := ledger.OpenTail(fs, folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tl.Close(); err != nil {
			t.Error(err)
		}
	})
	return tl
}

func size(t testing.TB, note []byte) uint64 {
	t.Helper()
	n, err := checkpoint.ParseNote(note)
	if err != nil {
		t.Fatal(err)
	}
	cp, err := checkpoint.ParseCheckpoint(n.Text)
	if err != nil {
		t.Fatal(err)
	}
	return cp.Size
}

// TestSnapshotIsALedger: a copy taken under load opens, is sound, and has all that
// was durable when it was taken.
func TestSnapshotIsALedger(t *testing.T) {
	for _, rotate := range []int64{6 << 10, 1 << 30} {
		d := strike(t, rotate)
		rep, err := ledger.Fsck(context.Background(), ledger.FsckConfig{Dir: "log", Origin: origin, Key: d.config(d.backup).Key, FS: d.backup})
		if err != nil || len(rep.Damage) > 0 {
			t.Fatalf("%v, %d entries of %d, %v", err, rep.Size, d.old, rep.Damage)
		}
		cfg := crashConfig(d.backup, ledgertest.NewWitnessed())
		cfg.Cosigner, cfg.Policy = nil, nil
		l := open(t, cfg)
		if err := l.Wait(context.Background(), d.old-1); err != nil {
			t.Fatalf("size %d, the copy was of %d: %v", l.Published().Size(), d.old, err)
		}
		shut(t, l)
	}
}

// TestRestore loses the database, the journal, both and everything, and goes on
// from the backup, with what is left and what others have: nothing that was
// promised is lost, or nothing is restored.
func TestRestore(t *testing.T) {
	for _, rotate := range []int64{6 << 10, 1 << 30} {
		d := strike(t, rotate)
		server := clone(d.disk) // that of somebody who has all entries
		for _, c := range []struct {
			name   string
			do     func(t *testing.T, cfg *ledger.RestoreConfig)
			refuse string
		}{
			{"everything lost, the witnesses have seen more", func(*testing.T, *ledger.RestoreConfig) {}, "are missing"},
			{"everything lost, somebody has the entries", func(t *testing.T, c *ledger.RestoreConfig) {
				c.Tails = []ledger.Tail{tail(t, clone(server), "log")}
			}, ""},
			{"database lost, journal left", func(t *testing.T, c *ledger.RestoreConfig) {
				fs := clone(d.disk)
				if err := fs.RemoveAll("log/truth"); err != nil {
					t.Fatal(err)
				}
				c.Tails = []ledger.Tail{tail(t, fs, "log")}
			}, map[int64]string{6 << 10: "this tail has nothing that follows"}[rotate]},
			{"journal lost, database left", func(t *testing.T, c *ledger.RestoreConfig) {
				fs := clone(d.disk)
				if err := fs.RemoveAll("log/journal"); err != nil {
					t.Fatal(err)
				}
				c.Tails = []ledger.Tail{tail(t, fs, "log")}
			}, ""},
			{"a tail with a hole, and a whole one after it", func(t *testing.T, c *ledger.RestoreConfig) {
				c.Tails = []ledger.Tail{tail(t, holed(t, d), "log"), tail(t, clone(server), "log")}
			}, ""},
			{"a tail with a hole, and an old one after it", func(t *testing.T, c *ledger.RestoreConfig) {
				old := vfs.NewMem()
				copyDir(t, old, d.backup, "log", "log")
				c.Tails, c.Claims[0].Note = []ledger.Tail{tail(t, holed(t, d), "log"), tail(t, old, "log")}, d.early
			}, "cannot be read from tail 1"},
			{"the witness does not answer", func(t *testing.T, c *ledger.RestoreConfig) {
				c.Tails = []ledger.Tail{tail(t, clone(server), "log")}
				c.Claims[0] = ledger.Claim{Name: "w", Err: errors.New("no route to it")}
			}, "no route to it"},
			{"the witness has forgotten", func(t *testing.T, c *ledger.RestoreConfig) {
				c.Claims[0].Note = nil
			}, "it has forgotten"},
			{"the witness shows what it did not cosign", func(t *testing.T, c *ledger.RestoreConfig) {
				c.Claims[0].Note = d.newest[:strings.LastIndex(string(d.newest), "— ")]
			}, "is not cosigned by it"},
			{"the tail is of another log", func(t *testing.T, c *ledger.RestoreConfig) {
				other := vfs.NewMem()
				oc := crashConfig(other, ledgertest.NewWitnessed())
				oc.Rand = ledgertest.Salts(7)
				l := open(t, oc)
				for n := range 100 {
					one(t, l, fmt.Sprintf("other %d\ntopic o", n))
				}
				shut(t, l)
				c.Tails = []ledger.Tail{tail(t, other, "log")}
			}, "is not what the entries before it give"},
			{"a client holds more than the witness", func(t *testing.T, c *ledger.RestoreConfig) {
				c.Seen, c.Claims[0].Note = [][]byte{d.newest}, nil
				c.Claims = nil
				p, err := checkpoint.ParsePolicy([]byte("log " + c.Key.String() + "\nquorum none\n"))
				if err != nil {
					t.Fatal(err)
				}
				c.Policy = p
			}, "the checkpoint that was given has size"},
			{"no witnesses, and nobody was asked", func(t *testing.T, c *ledger.RestoreConfig) {
				c.Claims = nil
				p, err := checkpoint.ParsePolicy([]byte("log " + c.Key.String() + "\nquorum none\n"))
				if err != nil {
					t.Fatal(err)
				}
				c.Policy = p
			}, "nobody can be asked"},
		} {
			t.Run(fmt.Sprint(rotate, " ", c.name), func(t *testing.T) {
				fs := vfs.NewCrashableMem()
				copyDir(t, fs, d.backup, "log", "log")
				cfg := d.config(fs)
				c.do(t, &cfg)
				rep, err := ledger.Restore(context.Background(), cfg)
				if c.refuse != "" {
					var no *ledger.NoSign
					if !errors.As(err, &no) || !strings.Contains(err.Error(), c.refuse) || no.WayOut == "" || strings.Contains(no.WayOut, "{") {
						t.Fatalf("%v, want a refusal that says %q", err, c.refuse)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if want := size(t, d.newest); rep.Size < want || rep.Signed < want || rep.Published != want || rep.Found < d.old {
					t.Fatalf("%+v, want size %d", rep, want)
				}
				// The receipts that the backup does not have are those of the first notes,
				// which came with the tail.
				if err := (ledgertest.Image{FS: fs, Seen: d.seen.Clone()}).Check(crashConfig, false); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// TestNewJournal: a lost or damaged journal is begun anew in place, at the size
// that the witnesses know, and not otherwise; the old one does not come back.
func TestNewJournal(t *testing.T) {
	for _, c := range []struct {
		name   string
		do     func(t *testing.T, fs *vfs.MemFS, cfg *ledger.RestoreConfig)
		refuse string
	}{
		{"lost", func(t *testing.T, fs *vfs.MemFS, _ *ledger.RestoreConfig) {
			if err := fs.RemoveAll("log/journal"); err != nil {
				t.Fatal(err)
			}
		}, ""},
		{"damaged", func(t *testing.T, fs *vfs.MemFS, _ *ledger.RestoreConfig) {
			for _, n := range files(t, fs, "log/journal") {
				b := read(t, fs, n)
				b[70] ^= 1
				write(t, fs, n, b)
			}
		}, ""},
		{"the database is an old copy", func(t *testing.T, fs *vfs.MemFS, cfg *ledger.RestoreConfig) {
			for _, n := range files(t, fs, "log/truth") {
				if err := fs.Remove(n); err != nil {
					t.Fatal(err)
				}
			}
			copyDir(t, fs, strike(t, 1<<30).backup, "log/truth", "log/truth")
		}, "are missing"},
		{"the witness does not answer", func(_ *testing.T, _ *vfs.MemFS, cfg *ledger.RestoreConfig) {
			cfg.Claims = nil
		}, "too few witnesses"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := strike(t, 1<<30)
			disk, old := vfs.NewMem(), vfs.NewMem()
			copyDir(t, disk, d.disk, "log", "log")
			copyDir(t, old, d.disk, "log", "log")
			cfg := d.config(disk)
			cfg.NewJournal = true
			c.do(t, disk, &cfg)
			if c.name == "lost" || c.name == "damaged" { // refused without the command
				var no *ledger.NoSign
				if _, err := ledger.Open(context.Background(), crashConfig(disk, d.seen)); !errors.As(err, &no) ||
					!strings.Contains(no.WayOut, "restore --new-journal --data log") {
					t.Fatal(err)
				}
			}
			rep, err := ledger.Restore(context.Background(), cfg)
			if c.refuse != "" {
				if err == nil || !strings.Contains(err.Error(), c.refuse) {
					t.Fatalf("%v, want a refusal that says %q", err, c.refuse)
				}
				return
			}
			if err != nil || rep.Epoch < 2 || (rep.Aside != "") != (c.name == "damaged") {
				t.Fatalf("%+v %v", rep, err)
			}
			after := vfs.NewMem()
			copyDir(t, after, disk, "log", "log")
			if err := (ledgertest.Image{FS: disk, Seen: d.seen.Clone()}).Check(crashConfig, false); err != nil {
				t.Fatal(err)
			}
			// The old journal, put back over the new one.
			for _, n := range files(t, after, "log/journal") {
				if strings.HasSuffix(n, ".journal") {
					if err := after.Remove(n); err != nil {
						t.Fatal(err)
					}
				}
			}
			copyDir(t, after, old, "log/journal", "log/journal")
			_, err = ledger.Open(context.Background(), crashConfig(after, d.seen))
			var no *ledger.NoSign
			if !errors.As(err, &no) || !strings.Contains(err.Error(), "in epoch") {
				t.Fatalf("the old journal is taken again: %v", err)
			}
		})
	}
}
