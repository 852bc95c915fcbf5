package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"fabtrail.dev/fabtrail/api"
	"fabtrail.dev/fabtrail/custody/answer"
	"fabtrail.dev/fabtrail/custody/view"
	"fabtrail.dev/fabtrail/internal/procs"
	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/trillian"
)

// Config says how a ledger runs. Only Folder is required.
type Config struct {
	Folder Folder
	// Clock is the ledger's time: of entries and deadlines. Cosignatures and
	// tokens go by the real time.
	Clock func() time.Time
	Log   *slog.Logger

	JWKS   string // file or URL of an OIDC issuer's keys; with Issuer
	Issuer string
	// IssuerScopes is the most that the issuer may grant, IssuerParties whom it may
	// name (api.AnyParty: everybody), IssuerMethods how it signs (empty: EdDSA).
	IssuerScopes, IssuerParties, IssuerMethods []string
	Limits                                     api.Limits
	// MaxConnections bounds the connections open at once; 0: DefaultConnections.
	MaxConnections int
	// Proxies are reverse proxies in front of the node: the address of a caller who
	// comes through them is what the first of them has put into X-Forwarded-For.
	Proxies    []netip.Prefix
	CosignWait time.Duration // how long an append waits for the quorum; 0: the ledger's default
	// NoDetector keeps the ledger from publishing findings of its own. They can
	// still be read from its views.
	NoDetector bool
	// NoFollow keeps the views as they are: nobody reads them, as in measurements
	// of the ledger itself.
	NoFollow bool
	// Cluster, if set, is the Trillian cluster that keeps the entries instead of the
	// embedded engine. Its Origin is filled in here, and its Tree if it is not given.
	Cluster *trillian.Config
	// Follow makes a read replica of a ledger on a cluster: it needs the trust folder
	// alone, reads entries and published notes from the cluster, checks them against
	// the policy, and takes no statements.
	Follow bool
	// Seen are files of checkpoints that others hold, for a node that has no journal
	// and signs a log on a cluster that nobody cosigns.
	Seen []string
	// Manual leaves heartbeats and fresh cosignatures to calls of Tick.
	Manual bool
}

// Node is one running ledger.
type Node struct {
	cfg      Config
	origin   string
	ledger   *ledger.Ledger
	views    *view.View
	api      *api.API
	registry *prometheus.Registry
	quiet    *calm // the log of what goes on by itself
	members  *answer.Manifests
	entries  *answer.Entries
	lists    *answer.Lists
	turns    *turns
	places   *places
	coming   atomic.Int64      // calls that are read and verified, on their way to the ledger
	operator *operator         // nil in a read replica
	engine   *trillian.Engine  // nil with the embedded engine; the ledger closes it
	followed atomic.Int64      // when a read replica last reached the cluster, Unix nanoseconds
	asked    []checkpoint.VKey // the witnesses that are asked for cosignatures
	gate     *gate             // before them; nil without any

	stop    context.CancelFunc
	workers sync.WaitGroup
	failed  chan error // the first worker that gave up says why
	closing sync.Once
	closed  error // what Close answers
}

// Open starts the ledger in a folder that Init prepared. It posts the charter
// when the log is empty. A *ledger.NoSign error says that signing could fork the
// log.
func Open(ctx context.Context, cfg Config) (*Node, error) {
	n, err := open(ctx, cfg, nil)
	if err != nil {
		return nil, err
	}
	run, stop := context.WithCancel(context.Background())
	n.stop = stop
	if !cfg.NoFollow {
		n.work(run, "views", n.follow)
	}
	if !cfg.Manual && !cfg.Follow {
		n.work(run, "cosignatures", n.complete)
	}
	if !cfg.Manual && !cfg.Follow && !cfg.NoFollow {
		n.work(run, "self-check", n.watchSelf)
	}
	if n.gate != nil {
		n.work(run, "claims", n.gate.watch)
	}
	switch {
	case cfg.Follow:
		n.work(run, "following", n.followNotes)
	case n.engine != nil:
		n.work(run, "notes", n.share)
	}
	return n, nil
}

// open starts everything but the workers. before is called once the ledger is
// open, and so is not in use by another process.
func open(ctx context.Context, cfg Config, before func() error) (*Node, error) {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	n := &Node{cfg: cfg, quiet: newCalm(cfg.Log, time.Now), registry: prometheus.NewRegistry(), members: answer.NewManifests(manifestCache),
		entries: answer.NewEntries(entryCache), lists: answer.NewLists(listCache), turns: newTurns(procs.Count()), places: newPlaces(enoughPlaces), failed: make(chan error, 1)}
	n.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	ok := false
	defer func() {
		if !ok {
			n.Close()
		}
	}()
	if err := n.start(ctx); err != nil {
		return nil, err
	}
	var err error
	if before != nil {
		if err := before(); err != nil {
			return nil, err
		}
	}
	if n.views, err = view.Open(cfg.Folder.views()); err != nil {
		return nil, fmt.Errorf("views: %w (they can be made anew: fabtraild rebuild)", err)
	}
	if !cfg.Follow {
		if n.operator, err = newOperator(cfg.Folder); err != nil {
			return nil, err
		}
	}
	if n.api, err = n.newAPI(); err != nil {
		return nil, err
	}
	ok = true
	return n, nil
}

// start opens the ledger, and posts the charter if that is for this node to do.
func (n *Node) start(ctx context.Context) error {
	if n.cfg.Follow {
		n.cfg.NoDetector = true // findings are published by the node that signs
		return n.openReplica(ctx)
	}
	if err := n.openLedger(ctx); err != nil {
		return err
	}
	if err := n.cfg.Folder.shareTokenKey(); err != nil {
		return err
	}
	return n.postCharter(ctx)
}

func (n *Node) logf(format string, a ...any) { n.quiet.logf(format, a...) }

func (n *Node) onFail(err error) {
	n.cfg.Log.Error("the ledger has stopped", "error", err)
	n.fail(err)
}

// manifestCache bounds the manifest members kept parsed, over all manifests.
const manifestCache = 200_000

// entryCache bounds the parsed entries kept for unit answers, of a few KB each.
const entryCache = 8192

// listCache bounds the lists kept for unit answers of one size, of a KB or two each.
const listCache = 8192

func (n *Node) openLedger(ctx context.Context) error {
	f := n.cfg.Folder
	if f.isBackup() {
		return &ledger.NoSign{Reason: fmt.Sprintf("%s is a backup: it is older than the ledger that it was made of", f),
			WayOut: fmt.Sprintf("restore it into a new folder: 'fabtraild restore %s --data NEW-FOLDER'", f)}
	}
	signer, err := f.logSigner()
	if err != nil {
		return err
	}
	n.origin = signer.VKey().Name
	policy, err := f.policy()
	if err != nil {
		return err
	}
	if policy == nil {
		if err := f.SetPolicy(nil, 0, false, false); err != nil {
			return err
		}
		if policy, err = f.policy(); err != nil {
			return err
		}
	}
	past, err := f.pastPolicies()
	if err != nil {
		return err
	}
	cfg := ledger.Config{
		Dir: f.ledger(), Folder: string(f), Origin: n.origin, Signer: signer, App: app{},
		Policy: policy, Past: past, Clock: n.cfg.Clock, CosignWait: n.cfg.CosignWait, Manual: n.cfg.Manual,
		Logf: n.logf, OnFail: n.onFail, Coming: func() int { return int(max(n.coming.Load(), 0)) },
	}
	if len(policy.Witnesses()) > 0 {
		if err := n.guard(signer.VKey(), policy); err != nil {
			return err
		}
		for _, w := range policy.Witnesses() {
			if w.URL != "" {
				n.asked = append(n.asked, w.VKey)
			}
		}
		cfg.Cosigner, cfg.WitnessNotes = &cosigner{Cosigner: n.gate, log: n.quiet}, n.gate.notes
	}
	if err := n.openEngine(ctx, &cfg); err != nil {
		return err
	}
	if n.ledger, err = ledger.Open(ctx, cfg); err == nil && n.gate != nil {
		n.gate.open(n.ledger)
	}
	return err
}

// postCharter makes the signed charter entry 0. It returns once that is signed:
// witnesses that verify the index read it over HTTP, which is not served yet.
func (n *Node) postCharter(ctx context.Context) error {
	if n.ledger.Signed().Size() > 0 {
		return nil
	}
	b, err := os.ReadFile(n.cfg.Folder.charter())
	if err != nil {
		return err
	}
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	answer := make(chan error, 1)
	n.workers.Add(1)
	go func() {
		defer n.workers.Done()
		r := n.Submit(context.WithoutCancel(ctx), api.Caller{Party: TokenIssuer, Scopes: []api.Scope{api.ScopeAdmin}}, [][]byte{b})[0]
		if r.Err != nil {
			cancel()
		}
		answer <- r.Err
	}()
	if err := n.ledger.WaitSigned(waiting, 0); err == nil {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return fmt.Errorf("charter: %w", <-answer)
}

// work runs fn until stop; an error that is not the end of its context stops the
// node from being ready. That the ledger has stopped is said by onFail, once.
func (n *Node) work(ctx context.Context, name string, fn func(context.Context) error) {
	n.workers.Add(1)
	go func() {
		defer n.workers.Done()
		if err := fn(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, ledger.ErrFailed) {
			n.cfg.Log.Error("a worker has stopped", "worker", name, "error", err)
			n.fail(fmt.Errorf("%s: %w", name, err))
		}
	}()
}

func (n *Node) fail(err error) {
	select {
	case n.failed <- err:
	default:
	}
}

// Failed yields the error after which the node should be restarted.
func (n *Node) Failed() <-chan error { return n.failed }

// Handler answers the public HTTP interface.
func (n *Node) Handler() http.Handler { return n.api }

// Origin is the log's name.
func (n *Node) Origin() string { return n.origin }

// Ledger is the log itself.
func (n *Node) Ledger() *ledger.Ledger { return n.ledger }

// Tick does what is due by the clock: heartbeat and fresh cosignatures.
func (n *Node) Tick(ctx context.Context) error { return n.ledger.Tick(ctx) }

// Serve answers HTTP at addr until ctx ends, then finishes what is in flight.
// ready is called with the address once the socket listens.
func (n *Node) Serve(ctx context.Context, addr string, tls *TLS, ready func(addr string)) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop() // whatever ends it: Close waits for the control socket, too
	if err := n.controlled(ctx); err != nil {
		return err
	}
	return Listen(ctx, api.NewServer(n.api, n.cfg.Log), addr, tls, n.cfg.MaxConnections, n.failed, ready)
}

// Close finishes what is in flight and closes everything. It may be called twice,
// and on a node that Open could not start.
func (n *Node) Close() error {
	n.closing.Do(func() {
		if n.stop != nil {
			n.stop()
		}
		n.workers.Wait()
		if n.views != nil {
			n.closed = n.views.Close()
		}
		if n.ledger != nil {
			n.closed = errors.Join(n.closed, n.ledger.Close())
		}
	})
	return n.closed
}
