package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/trillian/clustertest"
)

// onCluster is a ledger on a cluster, all of it processes: one node that signs, and
// read replicas.
type onCluster struct {
	*writer
	cluster *clustertest.Cluster
	dir     string // the signing node's
	token   string
	tree    string
	signer  *process
	s       *client.Submitter
	last    *client.Seen
}

func newOnCluster(t *testing.T, c *clustertest.Cluster) *onCluster {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ledger")
	o := &onCluster{cluster: c, dir: dir, token: filepath.Join(dir, "admin.token"),
		writer: &writer{t: t, ack: &acknowledged{receipts: map[entry.Hash]*client.Recorded{}}}}
	run(t, "init", "--data", dir, "--origin", "ledger.test/cluster", "--operator", operatorParty)
	run(t, "token", "--data", dir, "--party", operatorParty, "--scope", "admin", "--scope", "audit", "--out", o.token)
	return o
}

// flags are those that name the cluster, without a tree.
func (o *onCluster) flags() []string {
	return []string{"--trillian", o.cluster.Addr(), "--postgres", o.cluster.URI()}
}

func (o *onCluster) serveArgs(dir string, more ...string) []string {
	args := append([]string{"serve", "--data", dir, "--listen", "127.0.0.1:0", "--engine", "trillian", "--tree", o.tree}, o.flags()...)
	return append(args, more...)
}

// newTree makes a tree that no folder is in yet.
func (o *onCluster) newTree() string {
	o.t.Helper()
	var made struct{ Tree json.Number }
	out := run(o.t, append([]string{"trillian", "init", "--origin", "ledger.test/cluster", "--json"}, o.flags()...)...)
	if err := json.Unmarshal(out, &made); err != nil {
		o.t.Fatalf("%v in %s", err, out)
	}
	return made.Tree.String()
}

func (o *onCluster) readTree() {
	o.t.Helper()
	b, err := os.ReadFile(filepath.Join(o.dir, "engine"))
	if err != nil {
		o.t.Fatal(err)
	}
	o.tree = strings.TrimPrefix(strings.TrimSpace(string(b)), "trillian ")
}

// start starts the signing node, holds its checkpoint against the last one seen, and
// asks for every receipt again.
func (o *onCluster) start(ctx context.Context, more ...string) {
	o.t.Helper()
	var started struct{ URL string }
	o.signer = background(o.t, &started, o.serveArgs(o.dir, more...)...)
	o.s = o.connect(o.dir, started.URL, o.token)
	for { // a new log serves before its charter is published
		_, err := o.s.Remote.Checkpoint(ctx)
		if err == nil {
			break
		}
		select {
		case <-ctx.Done():
			o.t.Fatal(err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	o.holds(ctx)
}

func (o *onCluster) holds(ctx context.Context) {
	o.t.Helper()
	o.last = o.consistent(ctx, o.s, o.last)
	o.recheck(ctx, o.s)
}

// more posts until n more receipts are in hand, and calls kill while posting goes on.
func (o *onCluster) more(ctx context.Context, n int, kill func()) {
	o.t.Helper()
	o.load(ctx, o.s, o.ack.count()+n, kill)
}

// replica is a node that follows.
type replica struct {
	*process
	dir string
	s   *client.Submitter
}

func (o *onCluster) replica(name string) *replica {
	o.t.Helper()
	r := &replica{dir: filepath.Join(o.t.TempDir(), name)}
	if err := os.CopyFS(filepath.Join(r.dir, "trust"), os.DirFS(filepath.Join(o.dir, "trust"))); err != nil {
		o.t.Fatal(err)
	}
	o.startReplica(r)
	return r
}

func (o *onCluster) startReplica(r *replica) {
	o.t.Helper()
	var started struct{ URL string }
	r.process = background(o.t, &started, o.serveArgs(r.dir, "--follow")...)
	r.s = o.connect(r.dir, started.URL, o.token)
}

// follows waits until a replica has what the signing node has, and holds every
// receipt against it.
func (o *onCluster) follows(ctx context.Context, r *replica) {
	o.t.Helper()
	seen := o.reaches(ctx, r)
	if err := client.Consistent(ctx, r.s.Remote, o.last, seen); err != nil {
		o.t.Fatal(err)
	}
	o.recheck(ctx, r.s)
}

// reaches waits until a replica publishes as much as the signing node did.
func (o *onCluster) reaches(ctx context.Context, r *replica) *client.Seen {
	o.t.Helper()
	for {
		note, err := r.s.Remote.Checkpoint(ctx)
		if err == nil {
			seen, err := r.s.Trust.VerifyNote(note)
			if err != nil {
				o.t.Fatal(err)
			}
			if seen.Size >= o.last.Size {
				return seen
			}
		}
		select {
		case <-ctx.Done():
			o.t.Fatalf("the replica does not reach size %d: %v", o.last.Size, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// fails runs a command that must end with a code and say something.
func (o *onCluster) fails(code int, words string, args ...string) {
	o.t.Helper()
	out, err := command(o.t, args...).CombinedOutput()
	var e *exec.ExitError
	if !errors.As(err, &e) || e.ExitCode() != code || !bytes.Contains(out, []byte(words)) {
		o.t.Fatalf("fabtraild %v: %v, want code %d and %q:\n%s", args, err, code, words, out)
	}
}

// TestCluster runs a ledger on one cluster of real processes.
func TestCluster(t *testing.T) {
	c := clustertest.Need(t)
	if !testing.Short() {
		t.Run("demo", func(t *testing.T) { demoed(t, c) })
	}
	t.Run("migrate", func(t *testing.T) { migrated(t, c) })
	t.Run("paused", func(t *testing.T) { paused(t, c) })
	if !testing.Short() {
		t.Run("witnessed", func(t *testing.T) { witnessed(t, c) })
	}
	t.Run("faults", func(t *testing.T) { faults(t, c) })
	t.Run("lost", func(t *testing.T) { lost(t, c) }) // and with it the cluster
}

// faults kills every part of a ledger on a cluster under load: nothing that
// was acknowledged is lost or has moved, no two checkpoints contradict, replicas
// say byte for byte what the signing node says.
func faults(t *testing.T, c *clustertest.Cluster) {
	ctx := patience(t)
	o := newOnCluster(t, c)
	if out := run(t, append([]string{"trillian", "init", "--data", o.dir}, o.flags()...)...); !bytes.Contains(out, []byte("fabtraild serve --data "+o.dir)) {
		t.Errorf("trillian init: %s", out)
	}
	o.readTree()
	o.fails(1, "is in tree "+o.tree+", not in tree 7", append([]string{"trillian", "init", "--data", o.dir, "--tree", "7"}, o.flags()...)...)
	o.start(ctx)
	o.enrol(ctx, o.s, o.dir)
	a, b := o.replica("a"), o.replica("b")

	crash := func(p *clustertest.Process) func() {
		return func() {
			if err := errors.Join(p.Stop(syscall.SIGKILL), p.Start()); err != nil {
				t.Error(err)
			}
		}
	}
	for _, fault := range []struct {
		name string
		do   func()
	}{
		{"log server", crash(c.Log)},
		{"log signer", crash(c.Signer)},
		{"PostgreSQL", crash(c.Postgres)},
		{"a read replica", a.kill},
		{"the signing node", func() { o.signer.kill() }},
	} {
		o.more(ctx, 60, fault.do)
		if o.signer.ended {
			o.fresh(ctx, b)
			o.start(ctx)
		}
		o.more(ctx, 20, func() {}) // it goes on, after whatever it was
		o.holds(ctx)
		if a.ended {
			o.startReplica(a)
		}
		o.follows(ctx, a)
		o.follows(ctx, b)
		t.Logf("%s was killed: %d receipts hold at size %d, here and on two replicas", fault.name, o.ack.count(), o.last.Size)
	}
	if _, err := a.s.Submit(ctx, o.next()); err == nil || !strings.Contains(err.Error(), "only serves reads") {
		t.Errorf("a replica takes statements: %v", err)
	}
	_, sum, err := b.s.Trust.AuditLedger(ctx, b.s.Remote, client.ReplayConfig{})
	if err != nil || sum.AccusedCount > 0 {
		t.Errorf("audit of a replica: %v", err)
	}
	for _, p := range []*process{b.process, o.signer} {
		if code := p.stop(); code != 0 && code != 130 {
			t.Errorf("a node ended with %d", code)
		}
	}
	o.completed(ctx, o.restored(ctx, a))
	a.says(ctx, "this replica follows again")
	o.follows(ctx, a)
}

// fresh starts a standby instead of the killed node, with nothing but its keys, charter
// and trust folder, and as nobody cosigns with a checkpoint that a replica shows. While
// one signs, another one is refused.
func (o *onCluster) fresh(ctx context.Context, r *replica) {
	o.t.Helper()
	old := o.dir
	o.dir = o.standby()
	o.fails(3, "--seen", o.serveArgs(o.dir)...)
	o.start(ctx, "--seen", o.newest(ctx, r.s))
	o.more(ctx, 20, func() {})
	o.holds(ctx)
	o.fails(1, "another node signs", o.serveArgs(old)...)
	if code := o.signer.stop(); code != 0 && code != 130 {
		o.t.Errorf("the standby ended with %d", code)
	}
	// The first one was away meanwhile: it takes what the standby has added.
	o.dir = old
}

// standby makes a folder that has what signing takes, and no entries.
func (o *onCluster) standby() string {
	o.t.Helper()
	standby := filepath.Join(o.t.TempDir(), "standby")
	for _, dir := range []string{"keys", "trust"} {
		copyFolder(o.t, filepath.Join(standby, dir), filepath.Join(o.dir, dir))
	}
	charter, err := os.ReadFile(filepath.Join(o.dir, "charter.dsse.json"))
	if err == nil {
		err = os.WriteFile(filepath.Join(standby, "charter.dsse.json"), charter, 0o600)
	}
	if err != nil {
		o.t.Fatal(err)
	}
	return standby
}

// paused: a signing node stands still under load, PostgreSQL misses it, and a standby
// goes on. When it comes to itself it adds and signs nothing more, and ends: what either
// of them has acknowledged is in the one log that there is.
func paused(t *testing.T, c *clustertest.Cluster) {
	ctx := patience(t)
	o := newOnCluster(t, c)
	o.tree = o.newTree()
	o.start(ctx)
	o.enrol(ctx, o.s, o.dir)
	o.more(ctx, 20, func() {})
	o.holds(ctx)
	standby, seen := o.standby(), o.newest(ctx, o.s)
	var next *client.Submitter
	o.more(ctx, 20, func() {
		if err := errors.Join(o.signer.cmd.Process.Signal(syscall.SIGSTOP), c.DropLocks()); err != nil {
			t.Fatal(err)
		}
		var started struct{ URL string }
		background(t, &started, o.serveArgs(standby, "--seen", seen)...)
		next = o.connect(standby, started.URL, o.token)
		for range 10 {
			r, err := next.Submit(ctx, o.next())
			if err != nil {
				t.Fatal(err)
			}
			o.ack.add(r)
		}
		if err := o.signer.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if code := o.signer.wait(); code != 1 {
			t.Errorf("the node that was replaced ended with %d", code)
		}
	})
	o.s = next
	o.holds(ctx)
	o.more(ctx, 10, func() {})
	o.holds(ctx)
}

// restored: PostgreSQL is put back to an older backup. Nothing is signed any more,
// neither by a node that runs meanwhile nor by one that starts, and a replica serves what
// it has; each says what has happened. It returns a file with the newest checkpoint.
func (o *onCluster) restored(ctx context.Context, r *replica) string {
	o.t.Helper()
	backup, err := o.cluster.Backup()
	if err != nil {
		o.t.Fatal(err)
	}
	o.start(ctx)
	o.more(ctx, 30, func() {})
	o.holds(ctx)
	o.follows(ctx, r)
	seen, had := o.newest(ctx, o.s), o.reaches(ctx, r)
	if err := o.cluster.Restore(backup); err != nil {
		o.t.Fatal(err)
	}
	o.last = o.consistent(ctx, o.s, o.last) // what was posted last may have come after holds
	if _, err := o.s.Submit(ctx, o.next()); err == nil {
		o.t.Error("a statement was acknowledged by a cluster that has lost its newest leaves")
	}
	if note, err := o.s.Remote.Checkpoint(ctx); err == nil {
		if seen, err := o.s.Trust.VerifyNote(note); err != nil || seen.Size != o.last.Size {
			o.t.Errorf("something was signed after the cluster had lost leaves: %v", err)
		}
	}
	if code := o.signer.wait(); code != 1 {
		o.t.Errorf("the node ended with %d", code)
	}
	o.signer.says(ctx, "PostgreSQL was put back to an older state")
	o.signer.says(ctx, "start it again")
	r.says(ctx, "the cluster has less than was published")
	// What was posted last it may have missed; what it had it goes on serving.
	if note, err := r.s.Remote.Checkpoint(ctx); err != nil {
		o.t.Errorf("the replica has stopped serving: %v", err)
	} else if now, err := r.s.Trust.VerifyNote(note); err != nil || now.Size < had.Size {
		o.t.Errorf("the replica has less than before: size %d, %v", had.Size, err)
	}
	o.fails(3, "was signed", o.serveArgs(o.dir)...)
	return seen
}

// migrated moves a ledger from the embedded engine to a cluster: every index, root,
// receipt and the origin stay, and it goes on from there.
func migrated(t *testing.T, c *clustertest.Cluster) {
	ctx := patience(t)
	o := newOnCluster(t, c)
	var started struct{ URL string }
	p := background(t, &started, "serve", "--data", o.dir, "--listen", "127.0.0.1:0")
	o.s = o.connect(o.dir, started.URL, o.token)
	o.enrol(ctx, o.s, o.dir)
	o.more(ctx, 40, p.kill) // with a journal that is ahead of the database
	before, err := strconv.ParseUint(strings.Fields(string(run(t, "fsck", "--data", o.dir)))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	o.tree = "1"
	o.fails(1, "fabtraild migrate", o.serveArgs(o.dir)...)
	trees, err := o.cluster.Trees()
	o.fails(1, "fabtraild trillian init --origin ledger.test/cluster", append([]string{"trillian", "init", "--data", o.dir}, o.flags()...)...)
	if n, terr := o.cluster.Trees(); err != nil || terr != nil || n != trees {
		t.Errorf("%d trees were made that nobody uses: %v, %v", n-trees, err, terr)
	}
	o.tree = o.newTree()
	move := append([]string{"migrate", "--data", o.dir, "--tree", o.tree}, o.flags()...)
	t.Logf("%d entries: %s", before, run(t, move...))
	o.fails(1, "Trillian cluster", "serve", "--data", o.dir, "--listen", "127.0.0.1:0")
	o.start(ctx) // holds every receipt, byte for byte
	o.more(ctx, 20, func() {})
	o.holds(ctx)
	r := o.replica("a")
	o.follows(ctx, r)
}
