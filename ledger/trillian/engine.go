package trillian

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/entry"
	tpb "github.com/google/trillian"
	"github.com/google/trillian/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// Config says where a cluster is. Fields without "required" have defaults.
type Config struct {
	Addr     string // required; host:port of a Trillian log server, as gRPC names targets
	Tree     int64  // required but for Init: the tree's ID
	Postgres string // required; URI of the database that Trillian runs on
	Origin   string // required to sign: the log's origin

	// ReadOnly is an engine that only reads: any number of them may be open.
	ReadOnly bool

	// TLS makes the connection to the log server encrypted; CA is the file (PEM) of
	// the authority that its certificate must be from, and Cert and Key, if
	// given, are what this node shows of itself. Without CA the system's authorities
	// count. The connection to PostgreSQL is as its URI says (sslmode).
	TLS           bool
	CA, Cert, Key string

	Call     time.Duration        // time given to one call; 10 s
	Patience time.Duration        // how long a cluster may not answer or not integrate; 30 s
	Logf     func(string, ...any) // discards
}

// Sizes of calls. A log server takes 4 MiB in one call unless it is told otherwise.
const (
	addBytes  = 3 << 20
	addLeaves = 4096
	readMost  = 1024

	// A new tree grows in small calls first, and PostgreSQL is told how large it
	// has become whenever it has grown fourfold: see learn in schema.sql.
	firstLeaves = 256
	learnFirst  = 1024
	learnLast   = 1 << 16
	readBytes   = 256 << 20
)

// Pauses between two questions whether leaves are integrated, and between two
// attempts at a call that failed.
const (
	pollFirst = 4 * time.Millisecond
	pollLast  = 50 * time.Millisecond
	failFirst = 20 * time.Millisecond
	failLast  = time.Second
)

// Engine is a ledger.Sequencer on one tree of a cluster.
type Engine struct {
	cfg   Config
	conn  *grpc.ClientConn
	log   tpb.TrillianLogClient
	store *store

	learn uint64 // size at which the planner looks at the tables next; Add alone uses it

	mu     sync.Mutex
	end    uint64 // leaves that are committed, as far as is known
	unsure bool   // an Add failed: there may be more
	last   error  // what the cluster said last that was no answer; nil once it has answered
}

var _ ledger.Sequencer = (*Engine)(nil)

func (c *Config) defaults() error {
	if c.Addr == "" || c.Postgres == "" {
		return errors.New("trillian: the addresses of log server and PostgreSQL are needed")
	}
	if c.Call == 0 {
		c.Call = 10 * time.Second
	}
	if c.Patience == 0 {
		c.Patience = 30 * time.Second
	}
	if c.Logf == nil {
		c.Logf = func(string, ...any) {}
	}
	return nil
}

// tlsConfig is nil for a connection that is not encrypted.
func (c *Config) tlsConfig() (*tls.Config, error) {
	if !c.TLS {
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS13}
	if c.CA != "" {
		b, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, err
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("%s holds no certificate", c.CA)
		}
	}
	if c.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if path := new(fs.PathError); errors.As(err, &path) {
			return nil, err
		}
		if err != nil { // what it says is about PEM blocks and DER
			return nil, fmt.Errorf("%s and %s are not a certificate and its private key, both in PEM", c.Cert, c.Key)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

// dial prepares the connection. A log server that shows a certificate of somebody else,
// or none, is an error at once, as no waiting makes it right; all else is left to the calls.
func dial(ctx context.Context, c *Config) (*grpc.ClientConn, error) {
	t, err := c.tlsConfig()
	if err != nil {
		return nil, err
	}
	creds := insecure.NewCredentials()
	if t != nil {
		creds = credentials.NewTLS(t)
		call, cancel := context.WithTimeout(ctx, c.Call)
		defer cancel()
		conn, err := (&tls.Dialer{Config: t}).DialContext(call, "tcp", c.Addr)
		if badCertificate(err) {
			return nil, fmt.Errorf("trillian: log server at %s: %w", c.Addr, err)
		}
		if err == nil {
			_ = conn.Close() // it was only to see the certificate
		}
	}
	return grpc.NewClient(c.Addr, grpc.WithTransportCredentials(creds), grpc.WithUnaryInterceptor(c.naming),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(readBytes)))
}

// Open connects to a tree that Init has made. Unless it is read-only, it becomes the
// tree's signer, or fails with ErrSigned while another node is, and returns
// once the cluster has integrated all that it was ever given.
func Open(ctx context.Context, cfg Config) (_ *Engine, err error) {
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	e := &Engine{cfg: cfg}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	if e.conn, err = dial(ctx, &cfg); err != nil {
		return nil, err
	}
	e.log = tpb.NewTrillianLogClient(e.conn)
	if e.store, err = openStore(ctx, cfg.Postgres, cfg.Tree); err != nil {
		return nil, err
	}
	if cfg.ReadOnly {
		_, err = e.Head(ctx)
		return e, err
	}
	err = e.patiently(ctx, "becoming the signer", func(ctx context.Context) (bool, error) {
		var err error
		e.end, err = e.store.take(ctx, cfg.Origin)
		return err == nil, err
	})
	if err != nil {
		return nil, err
	}
	for e.learn = learnFirst; e.learn <= e.end; {
		e.learn *= 4
	}
	_, err = e.Head(ctx)
	return e, err
}

// patiently calls try until it reports that it is done. What fails is tried again
// after a growing pause, until nothing has succeeded for Patience.
func (e *Engine) patiently(ctx context.Context, what string, try func(ctx context.Context) (done bool, err error)) error {
	since := time.Now()
	poll, fail := pollFirst, failFirst
	for said := false; ; {
		call, cancel := context.WithTimeout(ctx, e.cfg.Call)
		done, err := try(call)
		cancel()
		if ctx.Err() != nil && !done {
			if err == nil {
				return e.cause(ctx, ctx.Err())
			}
			return e.cause(ctx, fmt.Errorf("%w (%w)", err, ctx.Err()))
		}
		if err = ofPostgres(err); done || err != nil {
			e.remember(err)
		}
		if done {
			if said {
				e.cfg.Logf("trillian: %s: the cluster answers again", what)
			}
			return nil
		}
		if final(err) {
			return err
		}
		if time.Since(since) > e.cfg.Patience {
			if err == nil {
				err = errors.New("the cluster does not integrate its leaves: does its log signer run?")
			}
			return fmt.Errorf("trillian: %s: not done in %v: %w", what, e.cfg.Patience, err)
		}
		pause := poll
		poll = min(poll*3/2, pollLast)
		if err != nil {
			if !said {
				e.cfg.Logf("trillian: %s: %v; trying again for %v", what, err, e.cfg.Patience)
				said = true
			}
			pause = fail
			fail = min(2*fail, failLast)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// final reports that trying again is in vain.
func final(err error) bool {
	if errors.Is(err, ledger.ErrBroken) || errors.Is(err, ErrSigned) || errors.Is(err, errNotPrepared) || errors.Is(err, entry.ErrMalformed) ||
		pgSays(err, pgRefused...) || pgSays(err, pgUnprepared...) || pgSays(err, pgForbidden...) || badCertificate(err) {
		return true
	}
	switch status.Code(err) {
	case codes.NotFound, codes.InvalidArgument, codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented:
		return true
	default:
		return false
	}
}

// root asks the log server for the newest integrated root.
func (e *Engine) root(ctx context.Context) (ledger.Head, error) {
	r, err := e.log.GetLatestSignedLogRoot(ctx, &tpb.GetLatestSignedLogRootRequest{LogId: e.cfg.Tree})
	if err != nil {
		return ledger.Head{}, err
	}
	var root types.LogRootV1
	if err := root.UnmarshalBinary(r.GetSignedLogRoot().GetLogRoot()); err != nil {
		return ledger.Head{}, fmt.Errorf("%w: root of the cluster: %w", entry.ErrMalformed, err)
	}
	h := ledger.Head{Size: root.TreeSize}
	if len(root.RootHash) != len(h.Root) {
		return ledger.Head{}, fmt.Errorf("%w: the cluster's root has %d bytes", entry.ErrMalformed, len(root.RootHash))
	}
	copy(h.Root[:], root.RootHash)
	return h, nil
}

// Head implements ledger.Sequencer: it waits until the cluster has integrated every
// leaf that it was given, and checks that this engine is still the signer.
func (e *Engine) Head(ctx context.Context) (h ledger.Head, err error) {
	e.mu.Lock()
	want := e.end
	e.mu.Unlock()
	asked := 0
	err = e.patiently(ctx, "asking for the root", func(ctx context.Context) (bool, error) {
		var err error
		if h, err = e.root(ctx); err != nil {
			return false, err
		}
		if e.cfg.ReadOnly {
			return true, nil
		}
		if asked++; h.Size < want && asked%16 != 0 { // it may wait in vain: see now and then
			return false, nil
		}
		_, err = e.store.held(ctx, want, h.Size < want)
		return err == nil && h.Size >= want, err
	})
	return h, err
}

// Add implements ledger.Sequencer.
func (e *Engine) Add(ctx context.Context, first uint64, leaves []ledger.Leaf) error {
	err := ofPostgres(e.add(ctx, first, leaves))
	if ctx.Err() == nil {
		e.remember(err)
	}
	return e.cause(ctx, err)
}

func (e *Engine) add(ctx context.Context, first uint64, leaves []ledger.Leaf) error {
	if e.cfg.ReadOnly {
		return fmt.Errorf("%w: it was opened for reading only", ledger.ErrBroken)
	}
	end, err := e.settled(ctx)
	if err != nil {
		return err
	}
	if first > end {
		return fmt.Errorf("%w: leaves from %d, size %d", ledger.ErrGap, first, end)
	}
	if known := min(end-first, uint64(len(leaves))); known > 0 {
		if err := e.same(ctx, first, leaves[:known]); err != nil {
			return err
		}
		leaves = leaves[known:]
	}
	if len(leaves) == 0 {
		return nil
	}
	call, cancel := context.WithTimeout(ctx, e.cfg.Call)
	defer cancel()
	sums, err := e.store.putManifests(call, leaves)
	if err != nil {
		return err
	}
	for len(leaves) > 0 {
		n := e.chunk(leaves, end)
		if err := e.send(ctx, end, leaves[:n], sums[:n]); err != nil {
			return err
		}
		end += uint64(n)
		leaves, sums = leaves[n:], sums[n:]
		e.grown(ctx, end)
	}
	return nil
}

// grown has the planner look at tables that have grown so much that its plans are wrong.
// Without, all goes on, if slowly.
func (e *Engine) grown(ctx context.Context, end uint64) {
	if end < e.learn || e.learn > learnLast {
		return
	}
	for e.learn <= end {
		e.learn *= 4
	}
	call, cancel := context.WithTimeout(ctx, e.cfg.Call)
	defer cancel()
	if err := e.store.learn(call); err != nil {
		e.cfg.Logf("trillian: PostgreSQL's planner does not know that the tree has grown, which may be slow: %v", err)
	}
}

// settled is the number of leaves committed. After a failed call it asks
// PostgreSQL, which decides what became of it.
func (e *Engine) settled(ctx context.Context) (uint64, error) {
	e.mu.Lock()
	end, unsure := e.end, e.unsure
	e.mu.Unlock()
	if !unsure {
		return end, nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Call)
	defer cancel()
	end, err := e.store.held(ctx, end, true)
	if err != nil {
		return 0, err
	}
	e.set(end, false)
	return end, nil
}

func (e *Engine) set(end uint64, unsure bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.end, e.unsure = end, unsure
}

// chunk is how many of the leaves go into one call, to a tree that has end of them.
func (e *Engine) chunk(leaves []ledger.Leaf, end uint64) int {
	most := addLeaves
	if end < learnFirst {
		most = firstLeaves
	}
	const around = extraHeader + entry.LeafSize + 32 + 32 // fields and their headers
	n, bytes := 0, 0
	for n < len(leaves) && n < most {
		if bytes += len(leaves[n].Cargo) + around; n > 0 && bytes > addBytes {
			break
		}
		n++
	}
	return n
}

// send adds leaves in one call, which is one transaction of the cluster's database.
func (e *Engine) send(ctx context.Context, first uint64, leaves []ledger.Leaf, sums []entry.Hash) error {
	req := &tpb.AddSequencedLeavesRequest{LogId: e.cfg.Tree, Leaves: make([]*tpb.LogLeaf, len(leaves))}
	for i := range leaves {
		req.Leaves[i] = message(e.store.token, first+uint64(i), &leaves[i], sums[i])
	}
	call, cancel := context.WithTimeout(ctx, e.cfg.Call)
	defer cancel()
	r, err := e.log.AddSequencedLeaves(call, req)
	if err == nil && len(r.Results) != len(leaves) {
		err = fmt.Errorf("%w: %d answers to %d leaves", entry.ErrMalformed, len(r.Results), len(leaves))
	}
	if err != nil {
		e.set(first, true)
		if _, herr := e.store.held(ctx, first, false); errors.Is(herr, ledger.ErrBroken) {
			return herr
		}
		return err
	}
	for _, q := range r.Results {
		if c := q.GetStatus().GetCode(); c != int32(codes.OK) {
			// An earlier call, whose outcome was unknown, has added it after
			// all; or else something that is not ours.
			e.set(first, true)
			if _, err := e.settled(ctx); err != nil {
				return err
			}
			return e.same(ctx, first, leaves)
		}
	}
	e.set(first+uint64(len(leaves)), false)
	return nil
}

// same checks that leaves are those kept from first on, all of which are committed.
func (e *Engine) same(ctx context.Context, first uint64, leaves []ledger.Leaf) error {
	for at := 0; at < len(leaves); {
		got, err := e.Read(ctx, first+uint64(at), len(leaves)-at)
		if errors.Is(err, ledger.ErrGap) || err == nil && len(got) == 0 {
			return fmt.Errorf("%w: %d: its ID is taken by another", ledger.ErrConflict, first+uint64(at))
		}
		if err != nil {
			return err
		}
		for i := range got {
			if !got[i].Equal(&leaves[at+i]) {
				return fmt.Errorf("%w: %d", ledger.ErrConflict, first+uint64(at+i))
			}
		}
		at += len(got)
	}
	return nil
}

// Read implements ledger.Sequencer.
func (e *Engine) Read(ctx context.Context, from uint64, n int) (leaves []ledger.Leaf, err error) {
	head, err := e.Head(ctx)
	if err != nil {
		return nil, err
	}
	if from > head.Size {
		return nil, fmt.Errorf("%w: %d, size %d", ledger.ErrGap, from, head.Size)
	}
	n = int(min(uint64(max(n, 0)), head.Size-from, readMost))
	if n == 0 {
		return nil, nil
	}
	err = e.patiently(ctx, fmt.Sprintf("reading leaf %d", from), func(ctx context.Context) (bool, error) {
		var err error
		leaves, err = e.read(ctx, from, n)
		if status.Code(err) == codes.ResourceExhausted && n > 1 {
			n /= 2 // the answer was too large
		}
		return err == nil, err
	})
	return leaves, err
}

func (e *Engine) read(ctx context.Context, from uint64, n int) ([]ledger.Leaf, error) {
	r, err := e.log.GetLeavesByRange(ctx, &tpb.GetLeavesByRangeRequest{LogId: e.cfg.Tree, StartIndex: int64(from), Count: int64(n)})
	if err != nil {
		return nil, err
	}
	if len(r.Leaves) == 0 || len(r.Leaves) > n {
		return nil, fmt.Errorf("%w: %d leaves where %d were asked for", entry.ErrMalformed, len(r.Leaves), n)
	}
	out := make([]ledger.Leaf, len(r.Leaves))
	manifests := map[entry.Hash][]byte{}
	for i, m := range r.Leaves {
		var sum entry.Hash
		if out[i], sum, err = parseMessage(m, from+uint64(i)); err != nil {
			return nil, err
		}
		if sum.IsZero() {
			continue
		}
		if manifests[sum] == nil {
			if manifests[sum], err = e.store.manifest(ctx, sum); err != nil {
				return nil, err
			}
		}
		out[i].Manifest = manifests[sum]
	}
	return out, nil
}

// Close implements ledger.Sequencer. A signing engine ceases to be the signer.
func (e *Engine) Close() error {
	var err error
	if e.store != nil {
		err = e.store.close()
	}
	if e.conn != nil {
		err = errors.Join(err, e.conn.Close())
	}
	return err
}
