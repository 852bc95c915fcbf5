package trillian

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	_ "embed" // schema.sql
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/entry"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

//go:embed schema.sql
var schema string

// lockSpace keeps our advisory locks apart from those of others.
const lockSpace = 0x6661627472616c

// leaseParams are settings of PostgreSQL for the connection that holds the lock, unless
// its URI has them: of a signing machine that has vanished PostgreSQL would know for
// hours by its defaults, and keep a standby from taking over as long.
var leaseParams = map[string]string{
	"tcp_keepalives_idle":     "10", // s
	"tcp_keepalives_interval": "5",  // s
	"tcp_keepalives_count":    "3",
}

// store is what the engine keeps in PostgreSQL beside Trillian's own tables.
type store struct {
	uri  string
	tree int64
	pool *pgxpool.Pool

	// lease is the connection that holds the advisory lock of a signing engine;
	// nil while it is lost, and in one that only reads.
	mu    sync.Mutex
	lease *pgx.Conn
	token token
	since time.Time // when it became the signer, by PostgreSQL's clock
}

func openStore(ctx context.Context, uri string, tree int64) (*store, error) {
	cfg, err := pgxpool.ParseConfig(uri)
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL address: %w", err)
	}
	cfg.MaxConns = 4
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &store{uri: uri, tree: tree, pool: pool}, nil
}

// setUp makes our tables and the trigger, and names the tree's log. It may be run
// again, and then changes nothing, not even who signs.
func (s *store) setUp(ctx context.Context, origin string) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, schema); err != nil {
			return fmt.Errorf("tables of the ledger: %w", err)
		}
		var nobody token
		if _, err := rand.Read(nobody[:]); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO fabtrail.signer (tree_id, origin, token, holder) VALUES ($1, $2, $3, 'nobody yet')
			ON CONFLICT (tree_id) DO NOTHING`, s.tree, origin, nobody[:])
		return err
	})
}

// ErrSigned is returned by Open when another node signs the tree.
var ErrSigned = errors.New("another node signs this tree")

// errNotPrepared: the tree cannot be used, and no waiting helps.
var errNotPrepared = errors.New("is not prepared for this ledger")

// wayRefill is the way out when a tree is gone with its database.
const wayRefill = "if the tree was lost with its database, 'fabtraild trillian init --origin ORIGIN' makes another one, " +
	"and 'fabtraild migrate' fills it from the folder of the node that signed last"

// take makes this engine the tree's signer: it waits for no other, and from the
// commit of this transaction on no other can add leaves. end is the number of
// leaves that are kept, integrated or not.
func (s *store) take(ctx context.Context, origin string) (end uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := rand.Read(s.token[:]); err != nil {
		return 0, err
	}
	if err := s.lock(ctx); err != nil {
		return 0, err
	}
	host, _ := os.Hostname()
	defer func() { err = s.unfit(err) }()
	err = pgx.BeginFunc(ctx, s.lease, func(tx pgx.Tx) error {
		// What is adding leaves holds locks of these tables until it has committed.
		if _, err := tx.Exec(ctx, `SELECT fabtrail.settle()`); err != nil {
			return err
		}
		var of string
		err := tx.QueryRow(ctx, `UPDATE fabtrail.signer SET token = $2, holder = $3, since = now() WHERE tree_id = $1 RETURNING origin, since`,
			s.tree, s.token[:], fmt.Sprintf("%s, process %d", host, os.Getpid())).Scan(&of, &s.since)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("tree %d %w: run 'fabtraild trillian init'; %s", s.tree, errNotPrepared, wayRefill)
		}
		if err != nil {
			return err
		}
		if of != origin {
			return fmt.Errorf("tree %d %w: it is of log %q, not of %q", s.tree, errNotPrepared, of, origin)
		}
		end, err = kept(ctx, tx, s.tree)
		return err
	})
	return end, err
}

// Error codes of PostgreSQL (appendix A of its manual) that waiting does not cure.
var (
	pgUnprepared = []string{"42883", "42P01", "3F000"} // no such function, table, schema
	pgForbidden  = []string{"42501"}
	pgRefused    = []string{"28000", "28P01", "3D000"} // role, password, database
)

// pgSays reports whether PostgreSQL answered with one of these codes.
func pgSays(err error, codes ...string) bool {
	p := (*pgconn.PgError)(nil)
	return errors.As(err, &p) && slices.Contains(codes, p.Code)
}

// unfit says what to do about a database that is not prepared, or was by an earlier
// version, and about a role without the rights that it needs.
func (s *store) unfit(err error) error {
	switch {
	case pgSays(err, pgUnprepared...):
		return fmt.Errorf("the database %w by this version: run 'fabtraild trillian init' with the ledger's --data, or its --tree and --origin, as the role that owns the database; %s: %w",
			errNotPrepared, wayRefill, err)
	case pgSays(err, pgForbidden...):
		return fmt.Errorf("the database %w and this role: give it the rights that the page on operations names: %w", errNotPrepared, err)
	default:
		return err
	}
}

// learn makes the planner look at Trillian's tables.
func (s *store) learn(ctx context.Context) error {
	_, err := s.pool.Exec(ctx, `SELECT fabtrail.learn()`)
	return s.unfit(err)
}

// hold keeps others from becoming the tree's signer, without becoming it.
func (s *store) hold(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease != nil && !s.lease.IsClosed() {
		return nil
	}
	return s.lock(ctx)
}

// giveUp leaves a tree that is held without a signer for good: its token is nobody's,
// and it is of no log any more.
func (s *store) giveUp(ctx context.Context, origin string, next int64) error {
	if err := s.hold(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var nobody token
	if _, err := rand.Read(nobody[:]); err != nil {
		return err
	}
	_, err := s.lease.Exec(ctx, `UPDATE fabtrail.signer SET token = $2, holder = 'nobody any more', since = now(), origin = $4 WHERE tree_id = $1 AND origin = $3`,
		s.tree, nobody[:], origin, fmt.Sprintf("%s, moved to tree %d", origin, next))
	return err
}

// lock opens the lease's connection and takes the advisory lock.
func (s *store) lock(ctx context.Context) error {
	cfg, err := pgx.ParseConfig(s.uri)
	if err != nil {
		return fmt.Errorf("PostgreSQL address: %w", err)
	}
	for name, value := range leaseParams {
		if cfg.RuntimeParams[name] == "" {
			cfg.RuntimeParams[name] = value
		}
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return fmt.Errorf("PostgreSQL: %w", err)
	}
	var got bool
	var holder string
	err = conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, s.tree^lockSpace).Scan(&got)
	if err == nil && !got {
		_ = conn.QueryRow(ctx, `SELECT holder || ', since ' || since FROM fabtrail.signer WHERE tree_id = $1`, s.tree).Scan(&holder)
		err = fmt.Errorf("%w: %s", ErrSigned, holder)
	}
	if err != nil {
		return errors.Join(err, conn.Close(ctx))
	}
	s.lease = conn
	return nil
}

type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// kept is the number of leaves that are committed, integrated or not.
func kept(ctx context.Context, q querier, tree int64) (end uint64, err error) {
	var last int64
	err = q.QueryRow(ctx, `SELECT COALESCE(max(SequenceNumber), -1) FROM SequencedLeafData WHERE TreeId = $1`, tree).Scan(&last)
	return uint64(last + 1), err
}

// held checks that this engine is still the signer. The lock is taken again after
// its connection was lost, unless another node has drawn a token since:
// ledger.ErrBroken. Then, or if count is set, it returns the number of leaves kept;
// fewer than least, which were committed before, are ledger.ErrBroken too: the database
// is not the one that it was.
func (s *store) held(ctx context.Context, least uint64, count bool) (end uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease == nil || s.lease.IsClosed() {
		s.lease, count = nil, true
		if err := s.lock(ctx); errors.Is(err, ErrSigned) {
			// It may be our own session that PostgreSQL has not missed yet.
			if other := s.ours(ctx, s.pool); errors.Is(other, ledger.ErrBroken) {
				err = other
			}
			return 0, err
		} else if err != nil {
			return 0, err
		}
	}
	err = s.ours(ctx, s.lease)
	if err == nil && count {
		if end, err = kept(ctx, s.lease, s.tree); err == nil && end < least {
			err = fmt.Errorf("%w: the cluster has lost leaves: it has %d of %d", ledger.ErrBroken, end, least)
		}
	}
	if err != nil && !errors.Is(err, ledger.ErrBroken) && ctx.Err() == nil {
		_ = s.lease.Close(ctx) // it does not answer: the next call opens another
		s.lease = nil
	}
	return end, err
}

// ours is nil while the tree's signer is this engine, and ledger.ErrBroken with the reason
// once it is not: another node is, or PostgreSQL knows a signer of before, as after a
// restore of an older backup.
func (s *store) ours(ctx context.Context, q querier) error {
	var b []byte
	var holder string
	var since time.Time
	err := q.QueryRow(ctx, `SELECT token, holder, since FROM fabtrail.signer WHERE tree_id = $1`, s.tree).Scan(&b, &holder, &since)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("%w: PostgreSQL does not know tree %d any more: it was put back to an older state, or is another database", ledger.ErrBroken, s.tree)
	case err != nil || string(b) == string(s.token[:]):
		return err
	case since.Before(s.since):
		return fmt.Errorf("%w: PostgreSQL was put back to an older state: it does not know that this node became the signer at %s", ledger.ErrBroken, stamp(s.since))
	default:
		return fmt.Errorf("%w: another node has become the signer: %s, since %s", ledger.ErrBroken, holder, stamp(since))
	}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// putManifests keeps the manifests of leaves, and returns each leaf's digest.
func (s *store) putManifests(ctx context.Context, leaves []ledger.Leaf) ([]entry.Hash, error) {
	sums := make([]entry.Hash, len(leaves))
	done := map[entry.Hash]bool{}
	for i := range leaves {
		m := leaves[i].Manifest
		if m == nil {
			continue
		}
		sums[i] = sha256.Sum256(m)
		if done[sums[i]] {
			continue
		}
		done[sums[i]] = true
		// Many statements name the same manifest: look before sending it.
		var there bool
		err := s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM fabtrail.manifest WHERE tree_id = $1 AND digest = $2)`, s.tree, sums[i][:]).Scan(&there)
		if err == nil && !there {
			_, err = s.pool.Exec(ctx, `INSERT INTO fabtrail.manifest (tree_id, digest, body) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
				s.tree, sums[i][:], m)
		}
		if err != nil {
			return nil, fmt.Errorf("manifest %s: %w", sums[i], err)
		}
	}
	return sums, nil
}

// manifest returns the manifest of a digest, checked.
func (s *store) manifest(ctx context.Context, sum entry.Hash) ([]byte, error) {
	var b []byte
	err := s.pool.QueryRow(ctx, `SELECT body FROM fabtrail.manifest WHERE tree_id = $1 AND digest = $2`, s.tree, sum[:]).Scan(&b)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", sum, err)
	}
	if sha256.Sum256(b) != sum {
		return nil, fmt.Errorf("%w: manifest %s has another hash", ledger.ErrDamaged, sum)
	}
	return b, nil
}

func (s *store) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.lease != nil {
		// PostgreSQL would see the end of the connection a moment later, and the next
		// signer may be there already.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, _ = s.lease.Exec(ctx, `SELECT pg_advisory_unlock($1)`, s.tree^lockSpace) // else it goes with the connection
		err = s.lease.Close(ctx)
		s.lease = nil
	}
	s.pool.Close()
	return err
}
