package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(f string, a ...any) {
	panic(fmt.Sprintf(f, a...))
}

// TestFsck names each damage by class and index.
func TestFsck(t *testing.T) {
	mem := vfs.NewCrashableMem()
	seen := ledgertest.NewWitnessed()
	cfg := crashConfig(mem, seen)
	l := open(t, cfg)
	var subs []ledger.Submission
	for i := range 300 {
		subs = append(subs, ledgertest.Submission(fmt.Sprintf("%d\ntopic t%d\ntopic all", i, i%7)))
	}
	sum, err := l.PutManifest([]byte("contents"))
	if err != nil {
		t.Fatal(err)
	}
	waiting, err := l.PutManifest([]byte("of a statement to come"))
	if err != nil {
		t.Fatal(err)
	}
	subs[9].Manifest = sum
	l.Append(context.Background(), subs)
	shut(t, l)
	fsck := func(fs vfs.FS) ledger.FsckReport {
		t.Helper()
		calls := 0
		rep, err := ledger.Fsck(context.Background(), ledger.FsckConfig{Dir: "log", Origin: origin, Key: cfg.Signer.VKey(), Policy: cfg.Policy,
			FS: fs, Progress: func(string, uint64, uint64) { calls++ }})
		if err != nil || calls == 0 {
			t.Fatal(err, calls)
		}
		return rep
	}
	rep := fsck(clone(mem))
	if len(rep.Damage) != 0 || rep.Size != 301 || rep.Root != l.Published().Root() || rep.Topics != 8 || rep.Manifests != 2 || rep.Notes != 1 ||
		rep.Signed != 301 || rep.Published != 301 || rep.IndexRoot != l.Published().IndexRoot() {
		t.Fatalf("%+v", rep)
	}
	u64 := func(space byte, n uint64) []byte {
		return []byte{space, byte(n >> 56), byte(n >> 48), byte(n >> 40), byte(n >> 32), byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
	}
	hash := func(space byte, h entry.Hash) []byte { return append([]byte{space}, h[:]...) }
	edit := func(key []byte, f func(v []byte) []byte) func(*pebble.DB) {
		return func(db *pebble.DB) {
			v, c, err := db.Get(key)
			if err != nil {
				t.Fatalf("no row %q: %v", key, err)
			}
			v = append([]byte(nil), v...)
			_ = c.Close()
			if v = f(v); v == nil {
				err = db.Delete(key, pebble.Sync)
			} else {
				err = db.Set(key, v, pebble.Sync)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	flip := func(at int) func([]byte) []byte { return func(v []byte) []byte { v[at] ^= 4; return v } }
	drop := func([]byte) []byte { return nil }
	for _, c := range []struct {
		name, class string
		index       uint64
		do          func(*pebble.DB)
	}{
		{"envelope", "leaf", 5, edit(u64('c', 5), flip(90))},
		{"salt", "leaf", 6, edit(u64('c', 6), flip(12))},
		{"entry gone", "entry", 7, edit(u64('c', 7), drop)},
		{"leaf", "leaf", 8, edit(u64('l', 8), flip(20))},
		{"leaf gone", "leaf", 299, edit(u64('l', 299), drop)},
		{"tile", "tile", 0, edit(append([]byte{'t', 0}, u64(0, 0)[1:]...), flip(77))},
		{"statement", "id", 10, edit(hash('d', subs[10].ID), flip(7))},
		{"statement gone", "id", 11, edit(hash('d', subs[11].ID), drop)},
		{"manifest", "manifest", 9, edit(hash('M', sum), flip(1))},
		{"manifest gone", "manifest", 9, edit(hash('M', sum), drop)},
		{"row of a manifest", "manifest", 0, edit(hash('u', waiting), func(v []byte) []byte { return v[:3] })},
		{"named manifest that waits", "manifest", 0, func(db *pebble.DB) {
			v, c, err := db.Get(hash('u', waiting))
			if err == nil {
				err = db.Set(hash('u', sum), v, pebble.Sync)
			}
			if err := errors.Join(err, c.Close()); err != nil {
				t.Fatal(err)
			}
		}},
		{"topic's list", "index-row", 0, edit(hash('r', ledgertest.Topic("t3")), flip(8))},
		{"topic's entries", "index-row", 0, edit(hash('r', ledgertest.Topic("t3")), func(v []byte) []byte { v[len(v)-1]++; return v })},
		{"topic gone", "index-root", 300, edit(hash('r', ledgertest.Topic("t3")), drop)},
		{"row before all topics", "index-row", 0, func(db *pebble.DB) {
			if err := db.Set([]byte{'r', 0, 0}, []byte("stray"), pebble.Sync); err != nil {
				t.Fatal(err)
			}
		}},
		{"chunk", "index-row", 0, edit(append(hash('R', ledgertest.Topic("all")), 0, 0, 0, 1), flip(0))},
		{"chunk beyond its list", "index-row", 0, func(db *pebble.DB) {
			v, c, err := db.Get(append(hash('R', ledgertest.Topic("all")), 0, 0, 0, 1))
			if err == nil {
				err = db.Set(append(hash('R', ledgertest.Topic("all")), 0, 0, 0, 9), v, pebble.Sync)
			}
			if err := errors.Join(err, c.Close()); err != nil {
				t.Fatal(err)
			}
		}},
		{"chunk of no topic", "index-row", 0, func(db *pebble.DB) {
			if err := db.Set(append(hash('R', ledgertest.Topic("nothing")), 0, 0, 0, 0), []byte{1}, pebble.Sync); err != nil {
				t.Fatal(err)
			}
		}},
		{"chunk with a short key", "index-row", 0, func(db *pebble.DB) {
			if err := db.Set([]byte{'R', 7}, []byte{1}, pebble.Sync); err != nil {
				t.Fatal(err)
			}
		}},
		{"note", "note", 301, edit(u64('n', 301), flip(3))},
		{"cosignature", "note", 301, edit(u64('n', 301), func(v []byte) []byte { return v[:strings.LastIndex(string(v), "— ")] })},
		{"one bit of a cosignature", "cosignature", 301, edit(u64('n', 301), func(v []byte) []byte {
			v[len(v)-20] ^= 1
			return v
		})},
		{"tile of a receipt", "receipt", 0, edit(append([]byte{'t', 0}, u64(0, 0)[1:]...), flip(77))},
		{"checkpoint", "checkpoint", 301, edit([]byte("ms"), func(v []byte) []byte { v[len(v)-20] ^= 1; return v })},
		{"published checkpoint", "checkpoint", 301, edit([]byte("mn"), func(v []byte) []byte {
			v[strings.Index(string(v), "— ")+len(origin)+20] ^= 1
			return v
		})},
		{"time", "time", 6, edit(u64('c', 6), func(v []byte) []byte { clear(v[2:10]); return v })},
		{"index commitment", "index-commitment", 300, edit(u64('c', 300), flip(17))},
		{"head", "root", 301, edit([]byte("mh"), flip(9))},
		{"size", "head", 300, edit([]byte("mh"), func(v []byte) []byte { v[7]--; return v })},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := clone(mem)
			db, err := pebble.Open("log/truth", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatNewest, Logger: quiet{}})
			if err != nil {
				t.Fatal(err)
			}
			c.do(db)
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			rep := fsck(fs)
			for _, d := range rep.Damage {
				if d.Class == c.class && d.Index == c.index && d.String() != "" {
					return
				}
			}
			t.Fatalf("%v, want %s %d", rep.Damage, c.class, c.index)
		})
	}
	t.Run("journal file", func(t *testing.T) {
		fs := clone(mem)
		names := files(t, fs, "log/journal")
		b := read(t, fs, names[len(names)-1])
		b[len(b)/2] ^= 4
		write(t, fs, names[len(names)-1], b)
		if rep := fsck(fs); len(rep.Damage) == 0 || rep.Damage[0].Class != "journal" || rep.Damage[0].Index == 0 {
			t.Fatal(rep.Damage)
		}
	})
	for name, lose := range map[string]func(fs vfs.FS, file string){
		"journal":         func(fs vfs.FS, file string) { _ = fs.Remove(file) },
		"journal emptied": func(fs vfs.FS, file string) { write(t, fs, file, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			fs := clone(mem)
			for _, n := range files(t, fs, "log/journal") {
				lose(fs, n)
			}
			if rep := fsck(fs); len(rep.Damage) != 1 || rep.Damage[0].Class != "journal" {
				t.Fatal(rep.Damage)
			}
		})
	}
}
