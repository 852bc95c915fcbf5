package node

import (
	"os"
	"strings"
	"testing"
	"time"

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
