package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	tpb "github.com/google/trillian"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"fabtrail.dev/fabtrail/api"
	"fabtrail.dev/fabtrail/internal/node"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/trillian"
	"fabtrail.dev/fabtrail/ledger/trillian/clustertest"
)

// TestClusterRates is `make cluster-bench`: appends through our node as a share of a
// plain preordered load on the same cluster, before and after; then reads from one and
// from two read replicas. FABTRAIL_CLUSTER_BENCH is the number of statements.
func TestClusterRates(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("FABTRAIL_CLUSTER_BENCH"))
	if err != nil {
		t.Skip("a measurement: make cluster-bench")
	}
	p, err := clustertest.Find()
	if err != nil {
		t.Fatal(err)
	}
	c, err := clustertest.Start(p, clustertest.Options{Sync: true, Interval: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	ctx := context.Background()
	o := newOnCluster(t, c)
	run(t, append([]string{"trillian", "init", "--data", o.dir}, o.flags()...)...)
	o.readTree()
	tree, err := strconv.ParseInt(o.tree, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	cluster := &trillian.Config{Addr: c.Addr(), Postgres: c.URI(), Tree: tree}
	nd, err := node.Open(ctx, node.Config{Folder: node.Folder(o.dir), Cluster: cluster, NoDetector: true, NoFollow: true})
	if err != nil {
		t.Fatal(err)
	}
	lines := o.signed(ctx, nd, n+1)
	t.Logf("%d statements in envelopes of %d bytes", n, len(lines[0]))
	appendAll(ctx, t, nd, lines[n:]) // the way is warm, and shows how many bytes a leaf has
	bytes := o.leafBytes(ctx, tree)

	// PostgreSQL chooses its plans by what it knows of the tables; it shall know the same of
	// them for every load.
	plain(ctx, t, c, 5000, bytes, 250)
	o.learn(ctx)
	before := measure(t, c, "plain preordered load, before", n, func() time.Duration { return plain(ctx, t, c, n, bytes, plainCall) })
	ours := measure(t, c, "through our node", n, func() time.Duration {
		start := time.Now()
		appendAll(ctx, t, nd, lines[:n])
		return time.Since(start)
	})
	after := measure(t, c, "plain preordered load, after", n, func() time.Duration { return plain(ctx, t, c, n, bytes, plainCall) })
	t.Logf("share: %.2f by the clock, %.2f by processor time", 2*ours.rate/(before.rate+after.rate), (before.cpu+after.cpu)/(2*ours.cpu))
	if err := nd.Close(); err != nil {
		t.Fatal(err)
	}
	o.reads(ctx)
}

// learn has PostgreSQL look at its tables.
func (o *onCluster) learn(ctx context.Context) {
	o.t.Helper()
	conn, err := pgx.Connect(ctx, o.cluster.URI())
	if err != nil {
		o.t.Fatal(err)
	}
	_, err = conn.Exec(ctx, "SELECT fabtrail.learn()")
	if err = errors.Join(err, conn.Close(ctx)); err != nil {
		o.t.Fatal(err)
	}
}

// rate is what a load came to: leaves a second, and microseconds of processor for one.
type rate struct{ rate, cpu float64 }

// measure runs a load of n leaves and says which processes worked for it.
func measure(t *testing.T, c *clustertest.Cluster, name string, n int, load func() time.Duration) rate {
	t.Helper()
	was, err := c.CPU()
	if err != nil {
		t.Fatal(err)
	}
	here := processorTime(t)
	took := load()
	us := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(n) }
	self := us(processorTime(t) - here)
	now, err := c.CPU()
	if err != nil {
		t.Fatal(err)
	}
	used := now.Minus(was)
	r := rate{float64(n) / took.Seconds(), us(used.Postgres+used.Log+used.Signer) + self}
	t.Logf("%s: %.0f/s; %.0f us of processor for a leaf: PostgreSQL %.0f, log server %.0f, log signer %.0f, this process %.0f",
		name, r.rate, r.cpu, us(used.Postgres), us(used.Log), us(used.Signer), self)
	return r
}

// processorTime is what this process has used.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// leafBytes is how many bytes of extra data the newest statement has in the cluster.
func (o *onCluster) leafBytes(ctx context.Context, tree int64) (n int) {
	o.t.Helper()
	conn, err := pgx.Connect(ctx, o.cluster.URI())
	if err != nil {
		o.t.Fatal(err)
	}
	err = conn.QueryRow(ctx, `SELECT length(ExtraData) FROM LeafData JOIN SequencedLeafData USING (TreeId, LeafIdentityHash)
		WHERE TreeId = $1 AND length(ExtraData) > 200 ORDER BY SequenceNumber DESC LIMIT 1`, tree).Scan(&n)
	if err = errors.Join(err, conn.Close(ctx)); err != nil {
		o.t.Fatal(err)
	}
	return n
}

// signed enrols a party and signs n statements.
func (o *onCluster) signed(ctx context.Context, nd *node.Node, n int) (lines [][]byte) {
	o.t.Helper()
	ready := make(chan string, 1)
	serving, stop := context.WithCancel(ctx)
	defer stop()
	go func() { _ = nd.Serve(serving, "127.0.0.1:0", nil, func(addr string) { ready <- "http://" + addr }) }()
	o.s = o.connect(o.dir, <-ready, o.token)
	o.enrol(ctx, o.s, o.dir)
	lines = make([][]byte, n)
	for i := range lines {
		lines[i] = o.next()
	}
	return lines
}

const (
	benchCall    = 64  // statements of one call
	benchCallers = 384 // calls at once
	plainCall    = 1000
)

// appendAll submits everything and waits until all of it is published.
func appendAll(ctx context.Context, t *testing.T, nd *node.Node, lines [][]byte) {
	t.Helper()
	calls := make(chan [][]byte)
	var wg sync.WaitGroup
	for range benchCallers {
		wg.Go(func() {
			for call := range calls {
				for _, r := range nd.Submit(ctx, api.Caller{Party: crashParty, Scopes: []api.Scope{api.ScopeAdmin}}, call) {
					if r.Err != nil || r.Recorded.Pending {
						t.Errorf("%v, pending %t", r.Err, r.Recorded.Pending)
					}
				}
			}
		})
	}
	for len(lines) > 0 {
		k := min(benchCall, len(lines))
		calls <- lines[:k]
		lines = lines[k:]
	}
	close(calls)
	wg.Wait()
}

// plain puts n leaves with extra data of so many bytes into a tree of its own, call
// leaves in a call, by one writer as the cluster allows no faster, and waits until they are integrated.
func plain(ctx context.Context, t *testing.T, c *clustertest.Cluster, n, bytes, call int) time.Duration {
	t.Helper()
	tree, err := c.NewTree("plain.test/load")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Release(tree); err != nil { // no token is asked for in this tree
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(c.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	log := tpb.NewTrillianLogClient(conn)
	extra := make([]byte, bytes)
	_, _ = rand.Read(extra)
	start := time.Now()
	for at := 0; at < n; {
		req := &tpb.AddSequencedLeavesRequest{LogId: tree}
		for k := 0; k < call && at < n; k++ {
			id := sha256.Sum256(fmt.Appendf(nil, "%d %d", tree, at))
			req.Leaves = append(req.Leaves, &tpb.LogLeaf{LeafValue: append(id[:], 0, 0), ExtraData: extra, LeafIndex: int64(at), LeafIdentityHash: id[:]})
			at++
		}
		if _, err := log.AddSequencedLeaves(ctx, req); err != nil {
			t.Fatal(err)
		}
	}
	e, err := trillian.Open(ctx, trillian.Config{Addr: c.Addr(), Postgres: c.URI(), Tree: tree, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for {
		h, err := e.Head(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if h.Size == uint64(n) {
			return time.Since(start)
		}
		select {
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// reads measures what one and two read replicas answer, each with one core's worth of
// goroutines, to clients of this process.
func (o *onCluster) reads(ctx context.Context) {
	o.t.Helper()
	o.t.Setenv("GOMAXPROCS", "1")
	o.start(ctx)
	a, b := o.replica("a"), o.replica("b")
	began := time.Now()
	o.last = o.consistent(ctx, o.s, nil)
	for _, r := range []*replica{a, b} {
		o.reaches(ctx, r)
	}
	o.t.Logf("two read replicas took %d entries each in %.1f s", o.last.Size, time.Since(began).Seconds())
	for _, rs := range [][]*replica{{a}, {b}, {a, b}} {
		rate := o.readRate(ctx, rs)
		o.t.Logf("%d read replica(s): %.0f entry bundles/s", len(rs), rate)
	}
}

// readRate asks replicas for entry bundles for a few seconds.
func (o *onCluster) readRate(ctx context.Context, rs []*replica) float64 {
	o.t.Helper()
	const each, seconds = 8, 5
	ctx, cancel := context.WithTimeout(ctx, seconds*time.Second)
	defer cancel()
	full := o.last.Size / 256
	var n atomic.Int64
	var wg sync.WaitGroup
	for _, r := range rs {
		for g := range each {
			wg.Go(func() {
				h := &http.Client{Transport: &http.Transport{}}
				for i := uint64(g); ctx.Err() == nil; i += 7 {
					req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.s.Remote.Base()+entry.TilePath{Entries: true, Index: i % full, Width: entry.TileWidth}.String(), nil)
					if err != nil {
						o.t.Error(err)
						return
					}
					resp, err := h.Do(req)
					if err != nil {
						return // the time is up
					}
					if _, err := io.Copy(io.Discard, resp.Body); err == nil && resp.StatusCode == http.StatusOK {
						n.Add(1)
					}
					_ = resp.Body.Close()
				}
			})
		}
	}
	wg.Wait()
	return float64(n.Load()) / seconds
}
