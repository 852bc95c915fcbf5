package node

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/trillian"
)

// TestEngineOfFolder: a folder stays with the engine that has its entries.
func TestEngineOfFolder(t *testing.T) {
	const tree = 42
	for _, c := range []struct {
		name   string
		holds  bool   // entries of the log
		marked string // what DIR/engine says
		ask    int64
		refuse string // words of the error; "" if it is right
		then   int64
	}{
		{"new, embedded", false, "", 0, "", 0},
		{"new, cluster", false, "", tree, "", tree},
		{"embedded, embedded", true, "", 0, "", 0},
		{"embedded, cluster", true, "", tree, "fabtraild migrate", 0},
		{"cluster, same tree", true, "trillian 42\n", tree, "", tree},
		{"cluster, another tree", true, "trillian 42\n", 43, "not in tree 43", tree},
		{"cluster, embedded", true, "trillian 42\n", 0, "--engine trillian", tree},
		{"damaged", true, "trillian\n", tree, "want 'trillian TREE'", 0},
	} {
		f := Folder(t.TempDir())
		if c.holds {
			if err := os.MkdirAll(f.ledger(), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if c.marked != "" {
			if err := os.WriteFile(f.engineFile(), []byte(c.marked), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		err := f.checkEngine(c.ask)
		if (err == nil) != (c.refuse == "") || err != nil && !strings.Contains(err.Error(), c.refuse) {
			t.Errorf("%s: %v, want %q", c.name, err, c.refuse)
		}
		if is, err := f.Tree(); err == nil && is != c.then {
			t.Errorf("%s: it is in tree %d then, want %d", c.name, is, c.then)
		}
	}
}

// TestReplicaNeeds: a read replica says what is missing, one thing after another, before
// it asks any cluster.
func TestReplicaNeeds(t *testing.T) {
	f := Folder(t.TempDir())
	missing := func(words string, cluster *trillian.Config) {
		t.Helper()
		n, err := Open(t.Context(), Config{Folder: f, Follow: true, Cluster: cluster})
		if err == nil {
			_ = n.Close()
		}
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%v, want %q", err, words)
		}
	}
	missing("which?", nil)
	missing("needs the trust folder", &trillian.Config{})
	ledger := Folder(t.TempDir())
	if err := ledger.Init(InitConfig{Origin: "ledger.test/replica", Operator: "https://id.gs1.org/417/9506000100005",
		Created: time.Unix(1_800_000_000, 0)}); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(f.Trust(), os.DirFS(ledger.Trust())); err != nil {
		t.Fatal(err)
	}
	missing("no policy.txt yet", &trillian.Config{})
	if err := ledger.SetPolicy(nil, 0, false, false); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(f.Trust()); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(f.Trust(), os.DirFS(ledger.Trust())); err != nil {
		t.Fatal(err)
	}
	missing("addresses", &trillian.Config{})
}

// TestFoldersOfClusterNodes: what cannot be done with the folder of a node on a cluster is
// said with what can be, before anything is touched.
func TestFoldersOfClusterNodes(t *testing.T) {
	signing, replica, nowhere := prepareFolder(t), Folder(t.TempDir()), Folder(filepath.Join(t.TempDir(), "none"))
	if err := errors.Join(signing.setTree(42), replica.setTree(42), os.CopyFS(replica.Trust(), os.DirFS(signing.Trust()))); err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(t.TempDir(), "backup")
	nothing := func(uint64, uint64) {}
	for name, tc := range map[string]struct {
		do   func() error
		want string
	}{
		"backup of a replica": {func() error {
			_, err := Backup(t.Context(), BackupConfig{Folder: replica, To: backup})
			return err
		}, "back up that of the node that signs"},
		"rebuild":                     {func() error { _, err := Rebuild(t.Context(), signing, nothing); return err }, "delete " + signing.views()},
		"rebuild a replica":           {func() error { _, err := Rebuild(t.Context(), replica, nothing); return err }, "delete " + replica.views()},
		"fsck of a replica that runs": {func() error { return replica.inUse(ledger.ErrLocked) }, "stop it first"},
		"migrate no folder":           {func() error { _, err := Migrate(t.Context(), Migration{Folder: nowhere}); return err }, "fabtraild init"},
		"migrate no entries":          {func() error { _, err := Migrate(t.Context(), Migration{Folder: signing}); return err }, "no entries to move"},
	} {
		if err := tc.do(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	if err := replica.inUse(ledger.ErrLocked); strings.Contains(err.Error(), "backup") {
		t.Errorf("a replica is not backed up: %v", err)
	}
	if err := signing.inUse(ledger.ErrLocked); !strings.Contains(err.Error(), "fabtraild backup") {
		t.Errorf("fsck of a signing node that runs: %v", err)
	}
	if _, err := os.Stat(backup); !errors.Is(err, fs.ErrNotExist) {
		t.Error("there is a backup")
	}
}

// TestMigratedTwice: who moves a ledger to the tree where it is, and is asked what others have
// seen, is told that it may just be started.
func TestMigratedTwice(t *testing.T) {
	err := there(errors.Join(&ledger.NoSign{Reason: "nobody was asked", WayOut: "give --seen FILE"}), 42)
	for _, want := range []string{"moved to tree 42 before", "fabtraild serve --engine trillian", "give --seen FILE"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if other := errors.New("no route to host"); !errors.Is(there(other, 42), other) || there(nil, 42) != nil {
		t.Error("other errors are not as they were")
	}
}

// TestNotFollowed: what keeps a replica back is said as what it means for its operator.
func TestNotFollowed(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{ledger.ErrGap, "the cluster has less than was published: PostgreSQL was put back to an older state or lost, or the log has moved to another tree, where a replica goes when it is started again: it has a note of size 7"},
		{checkpoint.ErrNoQuorum, "copy 'trust' and 'policies' of the signing node again"},
		{ledger.ErrFailed, ledger.ErrFailed.Error()},
	} {
		if err := notFollowed(7, tc.err); !errors.Is(err, tc.err) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: %v, want %q", tc.err, err, tc.want)
		}
	}
}
