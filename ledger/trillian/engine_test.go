package trillian_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"fabtrail.dev/fabtrail/ledger/trillian"
	"fabtrail.dev/fabtrail/ledger/trillian/clustertest"
	"github.com/jackc/pgx/v5"
)

// TestMain starts one cluster for all tests of the package that need one.
func TestMain(m *testing.M) {
	code := m.Run()
	if shared != nil {
		shared.Close()
	}
	os.Exit(code)
}

var shared *clustertest.Cluster

// cluster is the one that tests share: each makes a tree of its own, and leaves
// every process running.
func cluster(t *testing.T) *clustertest.Cluster {
	t.Helper()
	p, err := clustertest.Find()
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	if shared == nil {
		if shared, err = clustertest.Start(p, clustertest.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the cluster's output:\n%s", shared.Output(3000))
		}
	})
	return shared
}

func newTree(t *testing.T, c *clustertest.Cluster, origin string) int64 {
	t.Helper()
	tree, err := c.NewTree(origin)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func open(t *testing.T, cfg trillian.Config) *trillian.Engine {
	t.Helper()
	cfg.Logf = t.Logf
	e, err := trillian.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

const origin = "cluster.test/log"

func TestConformance(t *testing.T) {
	c := cluster(t)
	ledgertest.Conformance(t, func(t *testing.T) (ledger.Sequencer, func() ledger.Sequencer) {
		cfg := c.Config(newTree(t, c, origin), origin)
		var e *trillian.Engine
		reopen := func() ledger.Sequencer {
			if e != nil {
				if err := e.Close(); err != nil {
					t.Fatal(err)
				}
			}
			e = open(t, cfg)
			return e
		}
		return reopen(), reopen
	})
}

// TestOneSigner: while one engine signs no other can; once its lease is gone
// the next one signs, and the former adds nothing any more, not even the rest of a
// batch.
func TestOneSigner(t *testing.T) {
	c, ctx := cluster(t), context.Background()
	cfg := c.Config(newTree(t, c, origin), origin)
	a := open(t, cfg)
	defer a.Close()
	if err := a.Add(ctx, 0, []ledger.Leaf{ledgertest.Leaf(0), ledgertest.Leaf(1)}); err != nil {
		t.Fatal(err)
	}
	if _, err := trillian.Open(ctx, cfg); !errors.Is(err, trillian.ErrSigned) {
		t.Fatalf("a second signer: %v, want ErrSigned", err)
	}
	if v, err := a.LeaseParam("tcp_keepalives_idle"); err != nil || v != "10" {
		t.Errorf("PostgreSQL misses a signer that has vanished after %q s: %v", v, err)
	}
	wrong := cfg
	wrong.Origin = "other.test/log"
	if err := a.DropLease(); err != nil { // as a network that has failed
		t.Fatal(err)
	}
	if _, err := trillian.Open(ctx, wrong); err == nil {
		t.Fatal("the tree of another log was opened for signing")
	}
	b := open(t, cfg)
	defer b.Close()
	batch := []ledger.Leaf{ledgertest.Leaf(2), ledgertest.Leaf(3), ledgertest.Leaf(4)}
	if err := a.Add(ctx, 2, batch); !errors.Is(err, ledger.ErrBroken) || !strings.Contains(err.Error(), fmt.Sprintf("process %d, since ", os.Getpid())) {
		t.Fatalf("Add of the former signer: %v, want ErrBroken and who signs now", err)
	}
	if _, err := a.Head(ctx); !errors.Is(err, ledger.ErrBroken) {
		t.Fatalf("Head of the former signer: %v, want ErrBroken", err)
	}
	if h, err := b.Head(ctx); err != nil || h.Size != 2 {
		t.Fatalf("the new signer has %d leaves, %v; want 2", h.Size, err)
	}
	if err := b.Add(ctx, 2, []ledger.Leaf{ledgertest.Leaf(5)}); err != nil {
		t.Fatal(err)
	}
}

// TestPutBack: a signer whose database is put back to an older state says that, and not
// that somebody else signs.
func TestPutBack(t *testing.T) {
	c, ctx := cluster(t), context.Background()
	cfg := c.Config(newTree(t, c, origin), origin)
	conn, err := pgx.Connect(ctx, c.URI())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	for _, tc := range []struct{ back, want string }{
		{"UPDATE fabtrail.signer SET token = '0123456789abcdef', since = since - interval '1 day' WHERE tree_id = $1", "put back to an older state: it does not know that this node became the signer"},
		{"DELETE FROM fabtrail.signer WHERE tree_id = $1", "does not know tree"},
	} {
		e := open(t, cfg)
		if _, err := conn.Exec(ctx, tc.back, cfg.Tree); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Head(ctx); !errors.Is(err, ledger.ErrBroken) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v, want %q", err, tc.want)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTreeOfManyTrees: whoever is to choose is told between which, and where to look.
func TestTreeOfManyTrees(t *testing.T) {
	c, ctx := cluster(t), context.Background()
	cfg := c.Config(0, "many.test/log")
	if _, err := trillian.TreeOf(ctx, cfg); err == nil || !strings.Contains(err.Error(), "no tree of log") {
		t.Errorf("without a tree: %v", err)
	}
	a, b := newTree(t, c, cfg.Origin), newTree(t, c, cfg.Origin)
	_, err := trillian.TreeOf(ctx, cfg)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%d, %d; name one", min(a, b), max(a, b))) {
		t.Errorf("with trees %d and %d: %v", a, b, err)
	}
}

// TestUnpreparedTree: what cannot work says so at once.
func TestUnpreparedTree(t *testing.T) {
	c, ctx := cluster(t), context.Background()
	for name, tc := range map[string]struct {
		change func(*trillian.Config)
		words  string
	}{
		"no such tree": {func(c *trillian.Config) { c.Tree++ }, "'fabtraild migrate' fills it"},
		"no addresses": {func(c *trillian.Config) { c.Postgres = "" }, "addresses"},
		"no CA":        {func(c *trillian.Config) { c.TLS, c.CA = true, "/nonexistent" }, "/nonexistent"},
	} {
		cfg := c.Config(newTree(t, c, origin), origin)
		tc.change(&cfg)
		e, err := trillian.Open(ctx, cfg)
		if err == nil {
			_ = e.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tc.words) {
			t.Errorf("%s: %v, want %q", name, err, tc.words)
		}
	}
}

// TestInitLooksFirst: a tree is not prepared in a database that the log server does not run
// on: nothing would be fenced there. One without Trillian's tables is said before a tree is made.
func TestInitLooksFirst(t *testing.T) {
	c, ctx := cluster(t), context.Background()
	conn, err := pgx.Connect(ctx, c.URI())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	trees := func() (n int) {
		t.Helper()
		if err := conn.QueryRow(ctx, "SELECT count(*) FROM Trees").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if _, err := conn.Exec(ctx, "CREATE DATABASE bystander"); err != nil {
		t.Fatal(err)
	}
	cfg := c.Config(0, origin)
	cfg.Postgres = strings.Replace(cfg.Postgres, "/trillian?", "/bystander?", 1)
	signer := c.Config(0, origin)
	signer.Addr = c.SignerAddr()
	had := trees()
	if _, err := trillian.Init(ctx, signer); err == nil || !strings.Contains(err.Error(), "is it the log signer?") || trees() != had {
		t.Errorf("the log signer's address: %v; %d trees were made", err, trees()-had)
	}
	lost := c.Config(1, origin)
	if _, err := trillian.Init(ctx, lost); err == nil || !strings.Contains(err.Error(), "no tree 1: is it another one?") || !strings.Contains(err.Error(), "fabtraild migrate") {
		t.Errorf("a tree that is lost: %v", err)
	}
	before := trees()
	if _, err := trillian.Init(ctx, cfg); err == nil || !strings.Contains(err.Error(), "none of Trillian's tables") || trees() != before {
		t.Errorf("a database without tables: %v; %d trees were made", err, trees()-before)
	}
	schema, err := os.ReadFile(c.Programs.Schema)
	if err != nil {
		t.Fatal(err)
	}
	other, err := pgx.Connect(ctx, cfg.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(ctx)
	if _, err := other.Exec(ctx, string(schema)); err != nil {
		t.Fatal(err)
	}
	if _, err := trillian.Init(ctx, cfg); err == nil || !strings.Contains(err.Error(), "does the server run on another one") {
		t.Errorf("another database than the log server's: %v", err)
	}
}

// TestHungServer: a log server that hangs is one that does not answer in time, and what
// became of the call is settled when it is back.
func TestHungServer(t *testing.T) {
	c := cluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cfg := c.Config(newTree(t, c, origin), origin)
	cfg.Call = 500 * time.Millisecond
	e := open(t, cfg)
	defer e.Close()
	if err := c.Log.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	err := e.Add(ctx, 0, []ledger.Leaf{ledgertest.Leaf(0)})
	if cerr := c.Log.Signal(syscall.SIGCONT); cerr != nil {
		t.Fatal(cerr)
	}
	if want := "the log server at " + c.Addr() + " has not answered in time"; err == nil || err.Error() != want {
		t.Errorf("%v, want %q", err, want)
	}
	for err != nil && ctx.Err() == nil {
		err = e.Add(ctx, 0, []ledger.Leaf{ledgertest.Leaf(0)})
	}
	if h, herr := e.Head(ctx); err != nil || herr != nil || h.Size != 1 {
		t.Errorf("size %d, %v, %v; want 1", h.Size, err, herr)
	}
}
