package main

import (
	"bytes"
	"path/filepath"
	"strconv"
	"testing"

	"fabtrail.dev/fabtrail/internal/freeport"
	"fabtrail.dev/fabtrail/ledger/trillian/clustertest"
)

// witnessed: a tree that is lost is filled again where the policy has witnesses, all of
// them processes. They are asked, and no --seen is needed; while one that the quorum needs
// is away nothing is moved, and a folder that is behind what they have cosigned never is.
func witnessed(t *testing.T, c *clustertest.Cluster) {
	ctx := patience(t)
	o := newOnCluster(t, c)
	o.tree = o.newTree()
	log := filepath.Join(o.dir, "trust", "log.vkey")
	port, err := freeport.Get()
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	startB := func() *running {
		w := &running{}
		w.process = background(t, w, "witness", "--data", data, "--listen", "127.0.0.1:"+strconv.Itoa(port), "--name", "b.test", "--log", log)
		return w
	}
	a, b := startWitness(t, "a.test", "--log", log), startB()
	flags := []string{"--quorum", "2"}
	for _, w := range []*running{a, b} {
		flags = append(flags, "--witness", w.URL+"="+write(t, filepath.Join(t.TempDir(), "witness.vkey"), w.VKey))
	}
	o.start(ctx, flags...)
	o.enrol(ctx, o.s, o.dir)
	o.more(ctx, 20, func() {})
	o.holds(ctx)
	was := o.replica("was")
	o.follows(ctx, was)
	was.kill()
	o.more(ctx, 20, func() { o.signer.kill() })

	o.tree = o.newTree() // nothing is in this one
	o.keys(was.dir)
	o.fails(3, "find the node that has these entries", o.migrate(was.dir)...)
	b.kill()
	o.fails(3, "b.test", o.migrate(o.dir)...)
	startB()
	if out := run(t, o.migrate(o.dir)...); !bytes.Contains(out, []byte("to tree "+o.tree)) {
		t.Errorf("migrate: %s", out)
	}
	o.start(ctx) // holds every receipt
	o.more(ctx, 20, func() {})
	o.holds(ctx)
}
