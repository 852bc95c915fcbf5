package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
)

func noProgress(string, uint64, uint64) {}

// TestBackupAndRestore backs a ledger up while it is written to, over its socket, and
// restores it: with what a server or the old folder still has nothing that was
// acknowledged is lost; without, and without the witnesses, nothing is restored.
func TestBackupAndRestore(t *testing.T) {
	var sites []*site
	w := witnessed(t, 2, func(log checkpoint.VKey) []*site {
		sites = []*site{newSite(t, "one.test", log), newSite(t, "two.test", log)}
		return sites
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := Backup(ctx, BackupConfig{Folder: w.folder, To: filepath.Join(t.TempDir(), "b"), Progress: noProgress}); !errors.Is(err, ledger.ErrLocked) {
		t.Fatalf("a ledger that runs without a socket: %v", err)
	}
	if err := w.node.controlled(ctx); err != nil {
		t.Fatal(err)
	}
	kept := map[entry.Hash]string{}
	say := func(from, to int) {
		for n := from; n < to; n++ {
			r := w.must(makerParty, w.commission(n))
			kept[r.ID] = string(r.Receipt)
		}
	}
	say(0, 5)
	done := make(chan struct{})
	go func() { defer close(done); say(5, 10) }()
	to := filepath.Join(t.TempDir(), "deep", "backup")
	info, err := Backup(ctx, BackupConfig{Folder: w.folder, To: to, Progress: noProgress})
	<-done
	if err != nil || !info.Running || info.Size+info.Beyond < 10 {
		t.Fatalf("%+v %v", info, err)
	}
	if _, err := os.Stat(filepath.Join(to, "keys")); err == nil {
		t.Fatal("private keys are in the backup")
	}
	if left, err := filepath.Glob(filepath.Join(w.folder.ledger(), "snapshot-*")); err != nil || len(left) > 1 {
		t.Fatal(left, err)
	}
	if _, err := Backup(ctx, BackupConfig{Folder: w.folder, To: to, Progress: noProgress}); err == nil {
		t.Fatal("a backup was written over another")
	}
	say(10, 15)
	want := w.node.Ledger().Published().Size()
	audit, err := w.folder.Token(testOperator, []string{"audit"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	try := func(change func(c *RestoreConfig)) (Restored, Folder, error) {
		c := RestoreConfig{Backup: to, Folder: Folder(filepath.Join(t.TempDir(), "restored")), Keys: w.folder.key(""), Progress: noProgress}
		change(&c)
		r, err := Restore(t.Context(), c)
		if err != nil {
			if names, _ := filepath.Glob(filepath.Dir(string(c.Folder)) + "/*"); len(names) > 0 {
				t.Fatalf("%v, and something is left: %v", err, names)
			}
		}
		return r, c.Folder, err
	}
	refused := func(name, words string, change func(c *RestoreConfig)) {
		t.Helper()
		_, _, err := try(change)
		var no *ledger.NoSign
		if !errors.As(err, &no) || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v, want a refusal with %q", name, err, words)
		}
	}
	server := func(c *RestoreConfig) { c.Tails, c.Token = []string{w.server.URL}, audit }
	refused("old", "are missing", func(*RestoreConfig) {})
	sites[0].be(down)
	refused("a witness is down", "one.test", server)
	sites[0].be(nil)
	if _, _, err := try(func(c *RestoreConfig) { c.Tails = []string{w.server.URL} }); err == nil || !strings.Contains(err.Error(), "withholds its cargo") {
		t.Errorf("without a token: %v", err)
	}
	if r, _, err := try(server); err != nil || r.Size != want || r.Published != want || r.Backup < info.Size || !r.Keys {
		t.Errorf("from a server: %+v %v, want size %d", r, err, want)
	}
	var locked error
	if _, _, locked = try(func(c *RestoreConfig) { c.Tails = []string{string(w.folder)} }); !errors.Is(locked, ledger.ErrLocked) {
		t.Errorf("from the folder of a ledger that runs: %v", locked)
	}
	w.server.Close()
	cancel()
	if err := w.node.Close(); err != nil {
		t.Fatal(err)
	}
	restoreBadBackups(t, to, w.folder.key(""))
	r, f, err := try(func(c *RestoreConfig) { c.Tails = []string{string(w.folder)} })
	if err != nil || r.Size < want || r.Published != want {
		t.Fatalf("%+v %v, want size %d", r, err, want)
	}
	n, srv := start(t, f)
	for id, receipt := range kept {
		got, err := n.Ledger().Receipt(id)
		if err != nil || string(got.Receipt) != receipt {
			t.Fatalf("statement %s: %v, another receipt than before", id, err)
		}
	}
	w.node, w.server = n, srv
	w.must(makerParty, w.commission(20)) // with both witnesses: no fork
}

// restoreBadBackups: a backup that is not what was written is not restored, and none
// is served.
func restoreBadBackups(t *testing.T, to, keys string) {
	t.Helper()
	table, err := filepath.Glob(filepath.Join(to, "ledger", "truth", "*.log"))
	if err != nil || len(table) == 0 {
		t.Fatal(table, err)
	}
	for _, c := range []struct {
		words string
		do    func(dir string) error
	}{
		{"not a whole backup", func(dir string) error { return os.Remove(filepath.Join(dir, backupManifest)) }},
		{"the backup is damaged", func(dir string) error {
			path := filepath.Join(dir, "ledger", "truth", filepath.Base(table[0]))
			b, err := os.ReadFile(path)
			if err == nil {
				b[len(b)/2] ^= 1
				err = os.WriteFile(path, b, 0o644)
			}
			return err
		}},
		{"no such file", func(dir string) error { return os.Remove(filepath.Join(dir, "charter.dsse.json")) }},
	} {
		dir := cloneFolder(t, to)
		if err := c.do(dir); err != nil {
			t.Fatal(err)
		}
		_, err := Restore(t.Context(), RestoreConfig{Backup: dir, Folder: Folder(filepath.Join(t.TempDir(), "r")), Keys: keys, Progress: noProgress})
		if err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%v, want %q", err, c.words)
		}
	}
	var no *ledger.NoSign
	if _, err := Open(t.Context(), Config{Folder: Folder(to), Manual: true}); !errors.As(err, &no) {
		t.Errorf("a backup is served: %v", err)
	}
}

// TestBackupOfAStoppedLedger copies it under its locks, with the keys if asked, and
// finds damage before the backup gets its name.
func TestBackupOfAStoppedLedger(t *testing.T) {
	w := newWorld(t)
	w.must(makerParty, w.commission(0))
	w.server.Close()
	if err := w.node.Close(); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "backup")
	info, err := Backup(t.Context(), BackupConfig{Folder: w.folder, To: to, Keys: true, Progress: noProgress})
	if err != nil || info.Running || !info.Keys {
		t.Fatalf("%+v %v", info, err)
	}
	if st, err := os.Stat(filepath.Join(to, "keys", "log.skey")); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatal(st, err)
	}
	if c, err := Fsck(t.Context(), Folder(to), noProgress); err != nil || len(c.Damage) > 0 {
		t.Fatal(c, err)
	}
	// Without witnesses somebody must say what was seen last.
	f := Folder(filepath.Join(t.TempDir(), "restored"))
	var no *ledger.NoSign
	if _, err := Restore(t.Context(), RestoreConfig{Backup: to, Folder: f, Progress: noProgress}); !errors.As(err, &no) || !strings.Contains(no.WayOut, "--seen") {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), RestoreConfig{Backup: to, Folder: f, Seen: []string{filepath.Join(to, backupCheckpoint)}, Progress: noProgress}); err != nil {
		t.Fatal(err)
	}
	n, srv := start(t, f)
	w.node, w.server = n, srv
	w.must(makerParty, w.commission(1))
	srv.Close()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	journal, err := filepath.Glob(filepath.Join(f.ledger(), "journal", "*.journal"))
	if err != nil || len(journal) != 1 {
		t.Fatal(journal, err)
	}
	if err := os.Remove(journal[0]); err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad")
	if _, err := Backup(t.Context(), BackupConfig{Folder: f, To: bad, Progress: noProgress}); !errors.Is(err, ErrDamagedCopy) {
		t.Fatalf("a damaged ledger was backed up: %v", err)
	}
	if left, err := filepath.Glob(bad + "*"); err != nil || len(left) > 0 {
		t.Fatal(left, err)
	}
	seen := filepath.Join(t.TempDir(), "seen")
	if err := os.WriteFile(seen, srvCheckpoint(t, w), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{Folder: f, Manual: true}); !errors.As(err, &no) || !strings.Contains(no.WayOut, "restore --new-journal --data "+string(f)) {
		t.Fatal(err)
	}
	if r, err := NewJournal(t.Context(), f, []string{seen}, noProgress); err != nil || r.Size != n.Ledger().Published().Size() {
		t.Fatalf("%+v %v", r, err)
	}
	w.node, w.server = start(t, f)
	w.must(makerParty, w.commission(2))
}

// srvCheckpoint is the checkpoint that the world's ledger published last.
func srvCheckpoint(t *testing.T, w *world) []byte {
	t.Helper()
	note := w.node.Ledger().Published().Checkpoint()
	if trust, err := client.LoadTrust(os.DirFS(w.folder.Trust())); err != nil {
		t.Fatal(err)
	} else if _, err := trust.VerifyNote(note); err != nil {
		t.Fatal(err)
	}
	return note
}
