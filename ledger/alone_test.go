package ledger_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestEitherAloneKeepsAnswers: database and journal are both synced before an answer is
// given, so that a power loss which takes one of their disks as well loses nothing. The
// answers have no receipt: nothing that is written later has synced the database.
func TestEitherAloneKeepsAnswers(t *testing.T) {
	for _, lost := range []string{"log/journal", "log/truth"} {
		t.Run(lost, func(t *testing.T) {
			mem, seen := vfs.NewCrashableMem(), ledgertest.NewWitnessed()
			late := crashConfig(mem, seen)
			late.Cosigner.(*ledgertest.Cosigner).Before = func(context.Context, []byte) error { return errLate }
			late.CosignWait = time.Nanosecond
			l := open(t, late)
			for _, s := range []string{"a\ntopic t", "b\ntopic t", "c\ntopic u"} {
				r := one(t, l, s)
				if !r.Pending {
					t.Fatal("not pending")
				}
				seen.Answer(r)
			}
			disk := clone(mem) // nothing that was not synced
			shut(t, l)
			if err := disk.RemoveAll(lost); err != nil {
				t.Fatal(err)
			}
			if lost == "log/journal" {
				rep, err := ledger.Restore(context.Background(), ledger.RestoreConfig{Dir: "log", Folder: "data", Origin: origin, Key: late.Signer.VKey(),
					Policy: late.Policy, App: ledgertest.App{}, FS: disk, NewJournal: true, Claims: []ledger.Claim{{Name: "w"}}})
				if err != nil {
					t.Fatalf("%+v: %v", rep, err)
				}
			}
			if err := (ledgertest.Image{FS: disk, Seen: seen}).Check(crashConfig, false); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestEachLockHolds: a folder that was copied together with a link to its journal on
// another disk, or to its database, is a second ledger with one half in common: another
// process cannot open it while the first one is open, though the lock of the other half
// is free.
func TestEachLockHolds(t *testing.T) {
	for _, shared := range []string{"journal", "truth"} {
		t.Run(shared, func(t *testing.T) {
			dir := t.TempDir()
			first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
			cfg := victimConfig(first, vfs.Default, func([]byte) error { return nil })
			shut(t, open(t, cfg))
			elsewhere, link := filepath.Join(dir, "elsewhere"), filepath.Join(first, shared)
			if err := errors.Join(os.Rename(link, elsewhere), os.Symlink(elsewhere, link), os.CopyFS(second, os.DirFS(first))); err != nil {
				t.Fatal(err)
			}
			l := open(t, cfg)
			one(t, l, "a")
			_, said, code, err := runVictim(order{Dir: second})
			if code != 4 || !strings.Contains(said, ledger.ErrLocked.Error()) {
				t.Errorf("a second process over one %s ended with %d: %v: %s", shared, code, err, said)
			}
			one(t, l, "b")
			shut(t, l)
		})
	}
}

// TestNobodyStartsDuringRepair: while a repair exchanges the database, whose lock has to
// go with it, the lock of the journal alone keeps a start away, or that one would make a
// new database in the empty place.
func TestNobodyStartsDuringRepair(t *testing.T) {
	mem := vfs.NewMem()
	cfg := config(mem)
	l := open(t, cfg)
	one(t, l, "a\ntopic t")
	shut(t, l)
	dropRow(t, mem, "l", 0)
	tried := 0
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpRename && strings.HasSuffix(op.Path, "repair/truth") {
			tried++
			if _, err := ledger.Open(context.Background(), config(mem)); !errors.Is(err, ledger.ErrLocked) {
				t.Errorf("a start during a repair: %v", err)
			}
		}
		return nil
	}))
	rep, err := ledger.Repair(context.Background(), ledger.RepairConfig{FsckConfig: ledger.FsckConfig{Dir: "log", Origin: origin, Key: cfg.Signer.VKey(),
		FS: fs}, Folder: "data", App: ledgertest.App{}, Write: true})
	if err != nil || !rep.Done || len(rep.Left) > 0 || tried != 1 {
		t.Fatalf("%+v, %d starts tried: %v", rep, tried, err)
	}
	shut(t, open(t, cfg))
}
