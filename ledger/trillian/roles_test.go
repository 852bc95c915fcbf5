package trillian_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"fabtrail.dev/fabtrail/ledger/trillian"
	"github.com/jackc/pgx/v5"
)

// grants is what the page on operations tells to run.
func grants(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "\n```sql\n")
	sql, _, ok := strings.Cut(rest, "\n```\n")
	if !ok || !strings.Contains(sql, "GRANT") {
		t.Fatal("the page has no grants")
	}
	return sql
}

// TestRoles: with the rights that the page on operations gives, the signing node can do
// all it has to, a replica can read, and neither can do what is the other's.
func TestRoles(t *testing.T) {
	c, ctx := cluster(t), context.Background()
	const origin = "roles.test/log" // the one tree of it
	cfg := c.Config(newTree(t, c, origin), origin)
	conn, err := pgx.Connect(ctx, c.URI())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "CREATE ROLE signer LOGIN; CREATE ROLE replica LOGIN;"+grants(t)); err != nil {
		t.Fatal(err)
	}
	as := func(role string) trillian.Config {
		own := cfg
		own.Postgres = strings.Replace(cfg.Postgres, "postgres://postgres@", "postgres://"+role+"@", 1)
		own.ReadOnly = role == "replica"
		return own
	}
	e := open(t, as("signer"))
	for range 2 { // the second time it is read back
		if err := e.Add(ctx, 0, []ledger.Leaf{ledgertest.Leaf(0), ledgertest.Leaf(1)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Learn(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Share(ctx, 2, []byte("note")); err != nil {
		t.Fatal(err)
	}
	if err := e.PutNotes(ctx, []trillian.Note{{Size: 2, First: []byte("note"), Latest: []byte("later")}}); err != nil {
		t.Fatal(err)
	}
	follow := as("replica")
	follow.Tree = 0
	if follow.Tree, err = trillian.TreeOf(ctx, follow); err != nil || follow.Tree != cfg.Tree {
		t.Fatalf("tree %d, %v; want %d", follow.Tree, err, cfg.Tree)
	}
	r := open(t, follow)
	defer r.Close()
	leaves, err := r.Read(ctx, 0, 2)
	notes, nerr := r.Notes(ctx, 0, 10)
	if err != nil || nerr != nil || len(leaves) == 0 || len(notes) != 1 || string(notes[0].Latest) != "later" {
		t.Fatalf("a replica reads %d leaves and %d notes: %v, %v", len(leaves), len(notes), err, nerr)
	}
	if err := r.PutNotes(ctx, []trillian.Note{{Size: 3, First: []byte("x"), Latest: []byte("x")}}); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("a replica writes notes: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	follow.ReadOnly = false
	if e, err := trillian.Open(ctx, follow); err == nil {
		_ = e.Close()
		t.Error("a replica's role signs")
	} else if !strings.Contains(err.Error(), "give it the rights") { // at once, without waiting for better times
		t.Errorf("a role without rights: %v", err)
	}
	for role, sql := range map[string]string{
		"signer":  "UPDATE LeafData SET LeafValue = ''",
		"replica": "SELECT token FROM fabtrail.signer",
	} {
		own, err := pgx.Connect(ctx, as(role).Postgres)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := own.Exec(ctx, sql); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("role %s may do %q: %v", role, sql, err)
		}
		_ = own.Close(ctx)
	}
}
