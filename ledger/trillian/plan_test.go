package trillian_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/jackc/pgx/v5"
)

// join is how Trillian's signer and log server read leaves (selectLeavesByRangeSQL of
// its storage/postgresql).
const join = `SELECT s.MerkleLeafHash,l.LeafIdentityHash,l.LeafValue,s.SequenceNumber,l.ExtraData,l.QueueTimestampNanos,s.IntegrateTimestampNanos ` +
	`FROM SequencedLeafData s INNER JOIN LeafData l ON (s.LeafIdentityHash=l.LeafIdentityHash AND s.TreeId=l.TreeId) ` +
	`WHERE s.SequenceNumber>=%s AND s.SequenceNumber<%s AND l.TreeId=%s ORDER BY s.SequenceNumber`

// TestPlans: PostgreSQL looks each leaf up by its key, in a tree that it has seen grow as in
// one that is new beside it, with a plan that it keeps as with one for the values at hand.
// Otherwise it compares each leaf with all of the tree's.
func TestPlans(t *testing.T) {
	c, ctx := cluster(t), context.Background()
	conn, err := pgx.Connect(ctx, c.URI())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	next := 1_000_000 // of leaves: no other test has these
	grow := func(tree int64, origin string, n int) {
		t.Helper()
		e := open(t, c.Config(tree, origin))
		defer e.Close()
		leaves := make([]ledger.Leaf, n)
		for i := range leaves {
			leaves[i] = ledgertest.Leaf(next)
			next++
		}
		if err := e.Add(ctx, 0, leaves); err != nil {
			t.Fatal(err)
		}
	}
	plan := func(sql string) (lines string) {
		t.Helper()
		rows, err := conn.Query(ctx, "EXPLAIN "+sql, pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			t.Fatal(err)
		}
		all, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(all, "\n")
	}
	first, second := newTree(t, c, "plans.test/first"), newTree(t, c, "plans.test/second")
	// A plan that was made when the tables were empty, as a log signer that has just been started does.
	if _, err := conn.Exec(ctx, "SET plan_cache_mode = force_generic_plan; PREPARE kept (bigint, bigint, bigint) AS "+fmt.Sprintf(join, "$1", "$2", "$3")); err != nil {
		t.Fatal(err)
	}
	plan("EXECUTE kept (0, 5000, 1)")
	grow(first, "plans.test/first", 1200)
	grow(second, "plans.test/second", 40)
	var known float64
	if err := conn.QueryRow(ctx, "SELECT reltuples FROM pg_class WHERE oid = 'LeafData'::regclass").Scan(&known); err != nil || known < 1000 {
		t.Errorf("the planner knows of %.0f leaves: %v", known, err)
	}
	for _, tree := range []int64{first, second} {
		for name, p := range map[string]string{
			"a plan for these values": plan(fmt.Sprintf(join, "0", "5000", fmt.Sprint(tree))),
			"a plan that is kept":     plan(fmt.Sprintf("EXECUTE kept (0, 5000, %d)", tree)),
		} {
			if !strings.Contains(p, "leafidentityhash = ") || strings.Contains(p, "Join Filter") {
				t.Errorf("%s, tree of %s: each leaf is compared with all:\n%s", name, map[bool]string{true: "1,200 leaves", false: "40 leaves"}[tree == first], p)
			}
		}
	}
}
