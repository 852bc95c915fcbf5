package ledger_test

import (
	"context"
	"errors"
	"testing"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestStandby: a node that has no journal takes an engine's word for nothing: it signs
// only once the witnesses, or somebody who holds a checkpoint, say that there is nothing
// newer than what the engine has. A refusal does not stand in the way of the next start.
func TestStandby(t *testing.T) {
	f := newFollowed(t)
	f.append(t, 6)
	newest := f.l.Published().Checkpoint()
	shut(t, f.l)
	none, err := checkpoint.ParsePolicy([]byte("log " + ledgertest.LogSigner(origin).VKey().String() + "\nquorum none\n"))
	if err != nil {
		t.Fatal(err)
	}
	knows := ledger.Others{Claims: []ledger.Claim{{Name: "w", Note: newest}}}
	for _, c := range []struct {
		name      string
		lost      int // leaves that the engine has lost
		witnesses bool
		others    ledger.Others
		refuse    string
	}{
		{"the witness knows", 0, true, knows, ""},
		{"the witness is silent", 0, true, ledger.Others{Claims: []ledger.Claim{{Name: "w", Err: errors.New("no route to it")}}}, "no route to it"},
		{"the witness has seen more", 3, true, knows, "are missing"},
		{"no witness, a checkpoint", 0, false, ledger.Others{Seen: [][]byte{newest}}, ""},
		{"no witness, no checkpoint", 0, false, ledger.Others{}, "nobody can be asked"},
		{"no witness, a newer checkpoint", 3, false, ledger.Others{Seen: [][]byte{newest}}, "are missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs, engine := vfs.NewCrashableMem(), f.cluster.Copy()
			start := func(o ledger.Others) (*ledger.Ledger, error) {
				cfg := config(fs)
				cfg.Sequencer, cfg.Policy = engine.Open(), none
				if c.witnesses {
					cfg.Cosigner, cfg.Policy = f.witness, f.witness.Policy()
				}
				cfg.Others = func(context.Context) (ledger.Others, error) { return o, nil }
				return ledger.Open(context.Background(), cfg)
			}
			engine.Truncate(engine.Size() - c.lost)
			l, err := start(c.others)
			if c.refuse != "" {
				if !says(c.refuse)(err) {
					t.Fatalf("%v, want a refusal that says %q", err, c.refuse)
				}
				engine = f.cluster.Copy()                                          // it was put right
				all := ledger.Others{Claims: knows.Claims, Seen: [][]byte{newest}} // and somebody answers
				if l, err = start(all); err != nil {
					t.Fatal(err)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			defer shut(t, l)
			if res := l.Append(context.Background(), []ledger.Submission{ledgertest.Submission("after")})[0]; res.Err != nil {
				t.Fatal(res.Err)
			}
		})
	}
}

// TestNobodyIsAsked: neither a log that begins nor a node with its journal needs others.
func TestNobodyIsAsked(t *testing.T) {
	fs, engine := vfs.NewMem(), new(ledgertest.Cluster)
	for range 2 {
		cfg := config(fs)
		cfg.Sequencer = engine.Open()
		cfg.Others = func(context.Context) (ledger.Others, error) { return ledger.Others{}, errors.New("somebody was asked") }
		l := open(t, cfg)
		one(t, l, "entry\ntopic t")
		shut(t, l)
	}
}
