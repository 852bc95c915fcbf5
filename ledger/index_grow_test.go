package ledger_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"fabtrail.dev/fabtrail/ledger/unitindex"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestIndexOfManyTopics: commitments that change hundreds of buckets at once, with
// topics that are new, grown, and of hundreds of entries, have the root that an index
// in memory has, and every list is whole; also after a restart.
func TestIndexOfManyTopics(t *testing.T) {
	cfg := config(vfs.NewMem())
	l := open(t, cfg)
	mem := unitindex.NewMemIndex()
	lists := map[string]int{}
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 12 {
		var subs []ledger.Submission
		var topics [][]string
		for i := range 4 * (1 + round%3) {
			names := []string{"all"}
			for range 150 {
				names = append(names, fmt.Sprint(rng.IntN(500*(round+1))))
			}
			slices.Sort(names)
			names = slices.Compact(names)
			topics = append(topics, names)
			subs = append(subs, ledgertest.Submission(fmt.Sprintf("%d %d\ntopic %s", round, i, strings.Join(names, "\ntopic "))))
		}
		for range 3 { // fills "all" beyond a chunk
			for i := range 7 {
				subs = append(subs, ledgertest.Submission(fmt.Sprintf("%d more %d %d\ntopic all", round, len(subs), i)))
				topics = append(topics, []string{"all"})
			}
		}
		for i, r := range l.Append(context.Background(), subs) {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			e, err := l.Published().Entry(r.Index)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range topics[i] {
				lists[name]++
				if err := mem.Append(ledgertest.Topic(name), unitindex.Ref{Index: r.Index, Leaf: e.LeafHash()}); err != nil {
					t.Fatal(err)
				}
			}
		}
		root, err := mem.Commit()
		if err != nil {
			t.Fatal(err)
		}
		if round == 8 {
			shut(t, l)
			l = open(t, cfg)
		}
		v := l.Published()
		if v.IndexRoot() != root || v.Topics() != mem.Tree().Len() {
			t.Fatalf("round %d: root %s over %d topics, want %s over %d", round, v.IndexRoot(), v.Topics(), root, mem.Tree().Len())
		}
		for name, n := range lists {
			if name != "all" && rng.IntN(100) > 0 {
				continue
			}
			refs, p, err := v.List(ledgertest.Topic(name))
			if err != nil || len(refs) != n {
				t.Fatalf("topic %s: %d of %d entries: %v", name, len(refs), n, err)
			}
			value, present, err := unitindex.Verify(v.IndexRoot(), ledgertest.Topic(name), p)
			if err != nil || !present || value != unitindex.ListValue(refs) {
				t.Fatalf("topic %s: %v", name, err)
			}
		}
	}
	if lists["all"] < 257 {
		t.Fatalf("the longest list has %d entries: no two chunks", lists["all"])
	}
	if _, _, err := l.Published().List(entry.Hash{7}); err != nil {
		t.Error(err)
	}
	shut(t, l)
	rep, err := ledger.Fsck(context.Background(), ledger.FsckConfig{Dir: cfg.Dir, Origin: origin, Key: cfg.Signer.VKey(), FS: cfg.FS, Progress: func(string, uint64, uint64) {}})
	if err != nil || len(rep.Damage) > 0 {
		t.Errorf("fsck: %v %v", rep.Damage, err)
	}
}
