package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/ledger/trillian/clustertest"
)

// newest keeps the newest checkpoint that a node shows in a file, as a monitor would.
func (o *onCluster) newest(ctx context.Context, s *client.Submitter) string {
	o.t.Helper()
	file := filepath.Join(o.t.TempDir(), "newest.checkpoint")
	note, err := s.Remote.Checkpoint(ctx)
	if err == nil {
		err = os.WriteFile(file, note, 0o600)
	}
	if err != nil {
		o.t.Fatal(err)
	}
	return file
}

// migrate puts the ledger into o's tree.
func (o *onCluster) migrate(dir string, more ...string) []string {
	return append(append([]string{"migrate", "--data", dir, "--tree", o.tree}, o.flags()...), more...)
}

// completed: the folder of the node that signed last gives a tree back what it has lost,
// once somebody says that there is nothing newer.
func (o *onCluster) completed(ctx context.Context, seen string) {
	o.t.Helper()
	o.fails(3, "--seen", o.migrate(o.dir)...)
	o.t.Logf("%s", run(o.t, o.migrate(o.dir, "--seen", seen)...))
	o.start(ctx)
	o.more(ctx, 20, func() {})
	o.holds(ctx)
}

// lost: the database is gone, and no backup is left. The folder of the node that signed
// last fills a new tree on another cluster; the log goes on, and so do a replica of before
// and a new one. What was signed since keeps an older folder from doing so.
func lost(t *testing.T, c *clustertest.Cluster) {
	ctx := patience(t)
	o := newOnCluster(t, c)
	o.tree = o.newTree()
	o.start(ctx)
	o.enrol(ctx, o.s, o.dir)
	o.more(ctx, 30, func() {})
	o.holds(ctx)
	was := o.replica("a")
	o.follows(ctx, was)
	was.kill()
	o.more(ctx, 10, func() {})
	seen := o.newest(ctx, o.s)
	o.more(ctx, 10, func() { o.signer.kill() })
	c.Close()
	next, err := clustertest.Start(c.Programs, clustertest.Options{})
	if err != nil {
		o.t.Fatal(err)
	}
	o.cluster = next
	o.t.Cleanup(o.cluster.Close)
	o.tree = o.newTree()
	o.keys(was.dir)
	o.fails(3, "find the node that has these entries", o.migrate(was.dir, "--seen", seen)...)
	o.t.Logf("%s", run(o.t, o.migrate(o.dir, "--seen", seen)...))
	o.start(ctx)
	o.more(ctx, 20, func() {})
	o.holds(ctx)
	o.startReplica(was)
	o.follows(ctx, was)
	o.follows(ctx, o.replica("c"))
	o.backedUp(ctx)
}

// keys gives a replica's folder what it needs to sign.
func (o *onCluster) keys(dir string) {
	o.t.Helper()
	copyFolder(o.t, filepath.Join(dir, "keys"), filepath.Join(o.dir, "keys"))
}

// backedUp: fsck of a node that was killed, a backup of one that runs, and what is
// restored of it: a ledger of the embedded engine, with every receipt.
func (o *onCluster) backedUp(ctx context.Context) {
	o.t.Helper()
	backup, restored := filepath.Join(o.t.TempDir(), "backup"), filepath.Join(o.t.TempDir(), "restored")
	run(o.t, "backup", backup, "--data", o.dir)
	o.more(ctx, 20, func() { o.signer.kill() })
	for _, dir := range []string{o.dir, backup} {
		if out := run(o.t, "fsck", "--data", dir); !bytes.Contains(out, []byte("clean")) {
			o.t.Errorf("fsck: %s", out)
		}
	}
	if err := os.RemoveAll(filepath.Join(o.dir, "views")); err != nil { // they are made anew
		o.t.Fatal(err)
	}
	o.start(ctx)
	o.holds(ctx)
	seen := o.newest(ctx, o.s)
	o.signer.stop()
	restore := []string{"restore", backup, "--data", restored, "--keys", filepath.Join(o.dir, "keys"), "--seen", seen}
	o.fails(3, "are missing", restore...)
	if out := run(o.t, append(restore, "--tail", o.dir)...); !bytes.Contains(out, []byte("it was on a Trillian cluster, in tree "+o.tree)) {
		o.t.Errorf("restore: %s", out)
	}
	var started struct{ URL string }
	background(o.t, &started, "serve", "--data", restored, "--listen", "127.0.0.1:0")
	o.s = o.connect(restored, started.URL, o.token)
	o.holds(ctx)
	o.more(ctx, 20, func() {})
}
