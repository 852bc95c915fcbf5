package ledger_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestRefill: an engine that has lost the log gets it back from a node's database, as
// it was, and the log goes on; unless that could fork it. The node's disk is as a power
// cut leaves it.
func TestRefill(t *testing.T) {
	ctx := context.Background()
	f, own := newFollowedOn(t, vfs.NewCrashableMem())
	follower := vfs.NewCrashableMem()
	f.append(t, 5)
	old := clone(own)
	f.append(t, 4)
	r := f.replica(t, follower, f.cluster.Open())
	f.follow(t, r)
	shut(t, r)
	newest := f.l.Published().Checkpoint()
	entries := f.cluster.Size()

	for _, c := range []struct {
		name   string
		from   *vfs.MemFS
		engine func(c *ledgertest.Cluster)   // what the engine still has; nil: nothing
		claim  func(c *ledger.RestoreConfig) // what the witness says; nil: the truth
		refuse func(err error) bool          // nil: it is refilled
	}{
		{name: "all lost", from: own},
		{name: "the newest lost", from: own, engine: func(c *ledgertest.Cluster) { c.Truncate(entries - 5) }},
		{name: "nothing lost", from: own, engine: func(*ledgertest.Cluster) {}},
		{name: "from a read replica", from: follower},
		{name: "from an old copy", from: old, refuse: says("find the node that has these entries")},
		{name: "the witness is silent", from: own, claim: func(c *ledger.RestoreConfig) {
			c.Claims[0] = ledger.Claim{Name: "w", Err: errors.New("no route to it")}
		}, refuse: says("no route to it")},
		{name: "nobody can be asked", from: own, claim: func(c *ledger.RestoreConfig) {
			p, err := checkpoint.ParsePolicy([]byte("log " + c.Key.String() + "\nquorum none\n"))
			if err != nil {
				t.Fatal(err)
			}
			c.Policy, c.Claims = p, nil
		}, refuse: says("nobody can be asked")},
		{name: "another tree", from: own, engine: func(c *ledgertest.Cluster) {
			c.Truncate(0)
			if err := c.Open().Add(ctx, 0, []ledger.Leaf{ledgertest.Leaf(0)}); err != nil {
				t.Fatal(err)
			}
		}, refuse: func(err error) bool { return errors.Is(err, ledger.ErrConflict) }},
		{name: "the engine has more", from: own, engine: func(c *ledgertest.Cluster) {
			if err := c.Open().Add(ctx, uint64(entries), []ledger.Leaf{ledgertest.Leaf(0)}); err != nil {
				t.Fatal(err)
			}
		}, refuse: func(err error) bool { return errors.Is(err, ledger.ErrConflict) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs, engine := clone(c.from), new(ledgertest.Cluster)
			if c.engine != nil {
				engine = f.cluster.Copy()
				c.engine(engine)
			}
			before := engine.Size()
			cfg := ledger.RestoreConfig{Dir: "log", Folder: "data", Origin: origin, Key: ledgertest.LogSigner(origin).VKey(), Policy: f.witness.Policy(),
				App: ledgertest.App{}, FS: fs, Claims: []ledger.Claim{{Name: "w", Note: newest}}}
			if c.claim != nil {
				c.claim(&cfg)
			}
			var notes []ledger.PublishedNote
			rep, err := ledger.Refill(ctx, cfg, engine.Open(), func(n []ledger.PublishedNote) error { notes = append(notes, n...); return nil })
			if c.refuse != nil {
				if !c.refuse(err) || engine.Size() != before || len(notes) > 0 {
					t.Fatalf("%v; the engine has %d leaves, %d before", err, engine.Size(), before)
				}
				return
			}
			if err != nil || engine.Size() != entries || rep.Size != uint64(entries) {
				t.Fatalf("%+v, %v; the engine has %d of %d", rep, err, engine.Size(), entries)
			}
			f.goesOn(t, fs, engine, notes)
		})
	}
}

// says is for refusals that hold a text.
func says(text string) func(error) bool {
	return func(err error) bool {
		var no *ledger.NoSign
		return errors.As(err, &no) && strings.Contains(err.Error(), text) && !strings.Contains(no.WayOut, "{")
	}
}

// goesOn opens the refilled ledger, and a new replica on the notes that came with it:
// both say what the ledger said before, and the log grows.
func (f *followed) goesOn(t *testing.T, fs vfs.FS, engine *ledgertest.Cluster, notes []ledger.PublishedNote) {
	t.Helper()
	r := f.replica(t, vfs.NewMem(), engine.Open())
	defer shut(t, r)
	for _, n := range notes {
		if err := r.Advance(context.Background(), n.Note); err != nil {
			t.Fatal(err)
		}
	}
	f.equal(t, r)
	cfg := config(fs)
	cfg.Cosigner, cfg.Policy, cfg.Sequencer = f.witness, f.witness.Policy(), engine.Open()
	l := open(t, cfg)
	defer shut(t, l)
	f.equal(t, l)
	size := l.Published().Size()
	if res := l.Append(context.Background(), []ledger.Submission{ledgertest.Submission("after")})[0]; res.Err != nil || res.Index != size {
		t.Fatalf("the refilled log does not go on: %v", res.Err)
	}
}
