package ledger_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

func rowKey(space byte, n uint64) []byte {
	return []byte{space, byte(n >> 56), byte(n >> 48), byte(n >> 40), byte(n >> 32), byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
}

func hashKey(space byte, h entry.Hash) []byte { return append([]byte{space}, h[:]...) }

// editRow changes a row of the truth store; a nil result deletes it.
func editRow(t testing.TB, fs vfs.FS, key []byte, f func(v []byte) []byte) {
	t.Helper()
	db, err := pebble.Open("log/truth", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatNewest, Logger: quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	v, c, err := db.Get(key)
	if err != nil {
		t.Fatalf("no row %q: %v", key, err)
	}
	v = f(append([]byte(nil), v...))
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if v == nil {
		err = db.Delete(key, pebble.Sync)
	} else {
		err = db.Set(key, v, pebble.Sync)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func flipAt(at int) func([]byte) []byte { return func(v []byte) []byte { v[at] ^= 4; return v } }

func dropped([]byte) []byte { return nil }

// TestRepair damages one artefact of each class: what follows from the entries is
// made anew and sound afterwards, and every promise holds; what does not is left
// as it is, with the reason. A dry run changes nothing.
func TestRepair(t *testing.T) {
	disk := vfs.NewMem()
	seen := ledgertest.NewWitnessed()
	cfg := crashConfig(disk, seen)
	l := open(t, cfg)
	var subs []ledger.Submission
	for i := range 300 {
		subs = append(subs, ledgertest.Submission(fmt.Sprintf("%d\ntopic t%d\ntopic all\nadd c%d", i, i%7, i%3)))
	}
	sum, err := l.PutManifest([]byte("contents"))
	if err != nil {
		t.Fatal(err)
	}
	waiting, err := l.PutManifest([]byte("not named yet"))
	if err != nil {
		t.Fatal(err)
	}
	subs[9].Manifest = sum
	for _, r := range l.Append(context.Background(), subs) {
		seen.Answer(r)
	}
	shut(t, l)
	for _, c := range []struct {
		name, class string
		index       uint64
		key         []byte
		do          func([]byte) []byte
		fixed       bool
		refused     string // part of why nothing is changed
	}{
		{"leaf", "leaf", 8, rowKey('l', 8), flipAt(20), true, ""},
		{"leaf gone", "leaf", 299, rowKey('l', 299), dropped, true, ""},
		{"tile", "tile", 0, append([]byte{'t', 0}, rowKey(0, 0)[1:]...), flipAt(77), true, ""},
		{"tile gone", "tile", 0, append([]byte{'t', 0}, rowKey(0, 0)[1:]...), dropped, true, ""},
		{"statement", "id", 10, hashKey('d', subs[10].ID), flipAt(7), true, ""},
		{"statement gone", "id", 11, hashKey('d', subs[11].ID), dropped, true, ""},
		{"topic's list", "index-row", 0, hashKey('r', ledgertest.Topic("t3")), flipAt(8), true, ""},
		{"topic gone", "index-root", 300, hashKey('r', ledgertest.Topic("t3")), dropped, true, ""},
		{"chunk", "index-row", 0, append(hashKey('R', ledgertest.Topic("all")), 0, 0, 0, 1), flipAt(0), true, ""},
		{"head", "root", 301, []byte("mh"), flipAt(9), true, ""},
		{"head too small", "head", 300, []byte("mh"), func(v []byte) []byte { v[7]--; return v }, true, ""},
		{"envelope", "leaf", 5, rowKey('c', 5), flipAt(90), false, "entries [0, 301) have root"},
		{"entry gone", "entry", 7, rowKey('c', 7), dropped, false, "entry 7 is missing"},
		{"manifest", "manifest", 9, hashKey('M', sum), flipAt(1), false, "entry 9"},
		{"note", "note", 301, rowKey('n', 301), flipAt(3), true, ""}, // the journal has it, too
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := vfs.NewMem()
			copyDir(t, fs, disk, "log", "log")
			editRow(t, fs, c.key, c.do)
			rc := ledger.RepairConfig{FsckConfig: ledger.FsckConfig{Dir: "log", Origin: origin, Key: cfg.Signer.VKey(), Policy: cfg.Policy, FS: fs},
				Folder: "data", App: ledgertest.App{}}
			dry, err := ledger.Repair(context.Background(), rc)
			if err != nil {
				t.Fatal(err)
			}
			named := false
			for _, d := range dry.Before.Damage {
				named = named || d.Class == c.class && d.Index == c.index
			}
			if !named || dry.Done || (len(dry.Fixes) > 0) != c.fixed {
				t.Fatalf("%s %d: %+v", c.class, c.index, dry)
			}
			rc.Write = true
			rep, err := ledger.Repair(context.Background(), rc)
			if err != nil {
				t.Fatal(err)
			}
			if !c.fixed {
				if rep.Done || !strings.Contains(rep.Refused, c.refused) || len(rep.Left) == 0 {
					t.Fatalf("%+v", rep)
				}
				return
			}
			if !rep.Done || len(rep.Left) > 0 || len(rep.After.Damage) > 0 || len(rep.Fixes) != len(dry.Fixes) || rep.After.Size != 301 || rep.After.Manifests != 2 {
				t.Fatalf("%+v", rep)
			}
			editRow(t, fs, hashKey('u', waiting), func(v []byte) []byte { return v }) // it is there
			if err := (ledgertest.Image{FS: asCrashable(t, fs), Seen: seen.Clone()}).Check(crashConfig, false); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func asCrashable(t testing.TB, fs vfs.FS) *vfs.MemFS {
	t.Helper()
	mem := vfs.NewCrashableMem()
	copyDir(t, mem, fs, "log", "log")
	return mem
}

// TestRepairTakesTheTail: entries that only the journal has are no damage, and the
// repair takes them into the database.
func TestRepairTakesTheTail(t *testing.T) {
	_, _, crashed, seen := lived(t)
	cfg := crashConfig(crashed, seen)
	if err := crashed.Remove(wal(t, crashed)); err != nil {
		t.Fatal(err)
	}
	rc := ledger.RepairConfig{FsckConfig: ledger.FsckConfig{Dir: "log", Origin: origin, Key: cfg.Signer.VKey(), Policy: cfg.Policy, FS: crashed},
		Folder: "data", App: ledgertest.App{}, Write: true}
	rep, err := ledger.Repair(context.Background(), rc)
	if err != nil || len(rep.Before.Damage) > 0 || rep.Before.Beyond == 0 || !rep.Done || len(rep.Fixes) != 1 || len(rep.After.Damage) > 0 ||
		rep.After.Size != rep.Before.Size+rep.Before.Beyond || rep.After.Beyond > 0 {
		t.Fatalf("%+v %v", rep, err)
	}
	if err := (ledgertest.Image{FS: crashed, Seen: seen.Clone()}).Check(crashConfig, false); err != nil {
		t.Fatal(err)
	}
}
