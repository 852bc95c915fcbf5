package trillian

import (
	"context"
	"errors"
	"fmt"
	"time"

	tpb "github.com/google/trillian"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Init makes a tree for the log cfg.Origin and prepares the database, and returns
// the tree's ID. With cfg.Tree it prepares a tree that is there already, made by
// whatever means. It is not idempotent: without cfg.Tree every call makes a tree.
func Init(ctx context.Context, cfg Config) (tree int64, err error) {
	if err := cfg.defaults(); err != nil {
		return 0, err
	}
	if cfg.Origin == "" {
		return 0, errors.New("trillian: a tree is made for an origin")
	}
	e := &Engine{cfg: cfg}
	defer func() { err = errors.Join(err, e.Close()) }()
	if e.conn, err = dial(ctx, &cfg); err != nil {
		return 0, err
	}
	e.log = tpb.NewTrillianLogClient(e.conn)
	if e.store, err = openStore(ctx, cfg.Postgres, cfg.Tree); err != nil {
		return 0, err
	}
	// A tree that is made and cannot be used is of no use to anybody.
	has, err := e.hasTree(ctx)
	if err != nil {
		return 0, err
	}
	if cfg.Tree != 0 && !has {
		return 0, fmt.Errorf("this database has no tree %d: is it another one? %s", cfg.Tree, wayRefill)
	}
	if cfg.Tree == 0 {
		// The log signer would make a tree, too, and do nothing more with it.
		if _, err := e.root(ctx); status.Code(err) == codes.Unimplemented {
			return 0, err
		}
		if e.cfg.Tree, err = e.create(ctx); err != nil {
			return 0, err
		}
		e.store.tree = e.cfg.Tree
	}
	err = e.patiently(ctx, "preparing the tree", func(ctx context.Context) (bool, error) {
		_, err := e.log.InitLog(ctx, &tpb.InitLogRequest{LogId: e.cfg.Tree})
		if status.Code(err) == codes.AlreadyExists {
			err = nil
		}
		return err == nil, err
	})
	if err != nil {
		return 0, err
	}
	if has, err := e.hasTree(ctx); err != nil || !has {
		return 0, errors.Join(err, fmt.Errorf("tree %d of the log server at %s is not in this database: does the server run on another one?", e.cfg.Tree, cfg.Addr))
	}
	return e.cfg.Tree, e.store.setUp(ctx, cfg.Origin)
}

// hasTree reports whether the database has the tree.
func (e *Engine) hasTree(ctx context.Context) (has bool, err error) {
	err = e.patiently(ctx, "looking at PostgreSQL", func(ctx context.Context) (bool, error) {
		err := e.store.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM Trees WHERE TreeId = $1)`, e.cfg.Tree).Scan(&has)
		if pgSays(err, pgUnprepared...) {
			err = fmt.Errorf("this database has none of Trillian's tables: %w", err)
		}
		if pgSays(err, pgForbidden...) {
			err = fmt.Errorf("a tree is prepared as the role that owns the database and Trillian's tables: %w", err)
		}
		return err == nil, err
	})
	return has, err
}

// create makes the tree. A call whose outcome is unknown may leave an empty tree
// behind, which nobody uses.
func (e *Engine) create(ctx context.Context) (tree int64, err error) {
	req := &tpb.CreateTreeRequest{Tree: &tpb.Tree{TreeState: tpb.TreeState_ACTIVE, TreeType: tpb.TreeType_PREORDERED_LOG,
		DisplayName: "fabtrail", Description: limited(e.cfg.Origin, 200), MaxRootDuration: durationpb.New(time.Hour)}}
	err = e.patiently(ctx, "making the tree", func(ctx context.Context) (bool, error) {
		t, err := tpb.NewTrillianAdminClient(e.conn).CreateTree(ctx, req)
		tree = t.GetTreeId()
		return err == nil, err
	})
	if err == nil && tree == 0 {
		err = fmt.Errorf("trillian: the new tree has no ID")
	}
	return tree, err
}

// TreeOf finds the tree that was prepared for the log cfg.Origin; there must be one.
func TreeOf(ctx context.Context, cfg Config) (tree int64, err error) {
	if err := cfg.defaults(); err != nil {
		return 0, err
	}
	e := &Engine{cfg: cfg}
	defer func() { err = errors.Join(err, e.Close()) }()
	if e.store, err = openStore(ctx, cfg.Postgres, 0); err != nil {
		return 0, err
	}
	err = e.patiently(ctx, "looking for the tree", func(ctx context.Context) (bool, error) {
		var n int
		var names string
		err := e.store.pool.QueryRow(ctx, `SELECT count(*), COALESCE(min(tree_id), 0), COALESCE(string_agg(tree_id::text, ', ' ORDER BY tree_id), '')
			FROM fabtrail.signer WHERE origin = $1`, cfg.Origin).Scan(&n, &tree, &names)
		err = e.store.unfit(err)
		switch {
		case err == nil && n == 0:
			err = fmt.Errorf("the cluster %w: it has no tree of log %q: 'fabtraild trillian init' makes one", errNotPrepared, cfg.Origin)
		case err == nil && n > 1:
			err = fmt.Errorf("the cluster %w: %d trees are of log %q: %s; name one with --tree: that of the node that signs is in the file 'engine' of its data folder",
				errNotPrepared, n, cfg.Origin, names)
		}
		return err == nil, err
	})
	return tree, err
}

// Replace runs move, which puts the log cfg.Origin from the tree old into cfg.Tree, while
// no node signs old; ErrSigned says that one does. Once move is done nobody becomes
// old's signer any more, and it takes no leaves. A database without that tree has nothing
// to hold: it is lost.
func Replace(ctx context.Context, cfg Config, old int64, move func() error) (err error) {
	if err := cfg.defaults(); err != nil {
		return err
	}
	e := &Engine{cfg: cfg}
	defer func() { err = errors.Join(err, e.Close()) }()
	if e.store, err = openStore(ctx, cfg.Postgres, old); err != nil {
		return err
	}
	if err := e.patiently(ctx, "holding the old tree", func(ctx context.Context) (bool, error) {
		err := e.store.hold(ctx)
		return err == nil, err
	}); err != nil {
		return err
	}
	if err := move(); err != nil {
		return err
	}
	return e.patiently(ctx, "giving up the old tree", func(ctx context.Context) (bool, error) {
		err := e.store.giveUp(ctx, cfg.Origin, cfg.Tree)
		return err == nil, err
	})
}

func limited(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
