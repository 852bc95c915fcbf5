package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"fabtrail.dev/fabtrail/ledger/trillian"
)

// Migrated says what Migrate moved.
type Migrated struct {
	Size  uint64 `json:"size"` // entries
	Root  string `json:"root"`
	Notes int    `json:"notes"` // published notes
}

// Migrate moves a ledger that is not running from the embedded engine to a tree of a
// cluster: entries to their indexes, and the published notes. It may be run again
// after it was cut short. The folder is marked once the cluster has everything.
func Migrate(ctx context.Context, f Folder, cluster trillian.Config, log *slog.Logger, progress func(done, total uint64)) (m Migrated, err error) {
	if _, err := os.Stat(f.ledger()); errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("%s has no entries to move: start it with 'fabtraild serve --engine trillian'", f)
	}
	n, err := open(ctx, Config{Folder: f, Log: log, Manual: true, NoDetector: true, NoFollow: true}, nil)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	cluster.Origin, cluster.Logf = n.origin, n.logf
	if n.engine, err = trillian.Open(ctx, cluster); err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, n.engine.Close()) }()
	// An index commitment may be due that a crash kept from being signed.
	if err := n.ledger.WaitSigned(ctx, n.ledger.Signed().Size()-1); err != nil {
		return m, err
	}
	head, err := n.ledger.Feed(ctx, n.engine, progress)
	if err != nil {
		return m, err
	}
	if signed := n.ledger.Signed(); signed.Size() != head.Size || signed.Root() != head.Root {
		return m, fmt.Errorf("the ledger has signed size %d, the cluster has %d: run it again", signed.Size(), head.Size)
	}
	m.Size, m.Root = head.Size, head.Root.String()
	var s sharing
	for more := true; more; {
		if more, err = n.shareSome(ctx, &s); err != nil {
			return m, err
		}
	}
	all, err := n.engine.LastNote(ctx)
	if err != nil {
		return m, err
	}
	if all != n.ledger.Published().Size() {
		return m, fmt.Errorf("the newest note has size %d on the cluster, %d here", all, n.ledger.Published().Size())
	}
	m.Notes = s.count
	return m, f.setTree(cluster.Tree)
}
