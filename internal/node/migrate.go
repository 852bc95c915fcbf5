package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/trillian"
)

// Migration says which ledger is to be in which tree.
type Migration struct {
	Folder   Folder
	Cluster  trillian.Config
	Seen     []string // files of checkpoints that others hold: for a tree that has lost entries, when nobody cosigns
	Log      *slog.Logger
	Progress func(done, total uint64)
}

// Migrated says what Migrate moved.
type Migrated struct {
	Size     uint64   `json:"size"` // entries
	Root     string   `json:"root"`
	Notes    int      `json:"notes"`            // published notes
	Refilled bool     `json:"refilled"`         // the ledger was on a cluster before
	Silent   []string `json:"silent,omitempty"` // witnesses that did not count as having answered
}

// Migrate gives the entries of a ledger that is not running to a tree of a cluster, at
// their indexes, with the published notes. The ledger is one of the embedded engine, or
// one whose cluster has lost entries: then it is as ledger.Refill says. It may be run
// again after it was cut short. The folder is marked once the cluster has everything.
func Migrate(ctx context.Context, m Migration) (Migrated, error) {
	if m.Folder.isBackup() {
		return Migrated{}, fmt.Errorf("%s is a backup: restore it into a new folder", m.Folder)
	}
	if _, err := os.Stat(m.Folder.ledger()); errors.Is(err, fs.ErrNotExist) {
		if _, err := m.Folder.logSigner(); err != nil { // nothing at all, or no folder
			return Migrated{}, err
		}
		return Migrated{}, fmt.Errorf("%s has no entries to move: start it with 'fabtraild serve --engine trillian'", m.Folder)
	}
	was, err := m.Folder.Tree()
	if err != nil {
		return Migrated{}, err
	}
	if was != 0 {
		return m.refill(ctx, was)
	}
	return migrate(ctx, m.Folder, m.Cluster, m.Log, m.Progress)
}

// refill gives a tree what its cluster, or an earlier one, has lost.
func (c Migration) refill(ctx context.Context, was int64) (m Migrated, err error) {
	f := c.Folder
	signer, err := f.logSigner()
	if err != nil {
		return m, err
	}
	key := signer.VKey()
	cluster := c.Cluster
	cluster.Origin = key.Name
	if c.Log != nil {
		cluster.Logf = newCalm(c.Log, time.Now).warnf
	}
	if was != cluster.Tree {
		err = trillian.Replace(ctx, cluster, was, func() error { return c.fill(ctx, cluster, key, &m) })
	} else {
		err = there(c.fill(ctx, cluster, key, &m), was)
	}
	if err != nil {
		return m, err
	}
	return m, f.setTree(cluster.Tree)
}

// there says of a refusal to give a ledger back to its own tree that this is what was
// asked for: whoever runs 'migrate' twice mostly wants to know whether the first one is done.
func there(err error, tree int64) error {
	if no := (*ledger.NoSign)(nil); errors.As(err, &no) {
		no.WayOut = fmt.Sprintf("the ledger has been moved to tree %d before: if the tree has lost nothing since, start it with "+
			"'fabtraild serve --engine trillian'; if it has, %s", tree, no.WayOut)
	}
	return err
}

// fill becomes the tree's signer, and gives it what the folder has.
func (c Migration) fill(ctx context.Context, cluster trillian.Config, key checkpoint.VKey, m *Migrated) (err error) {
	engine, err := trillian.Open(ctx, cluster)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	cfg, err := c.Folder.restoring(ctx, key, c.Seen) // once no other node signs
	if err != nil {
		return err
	}
	cfg.Folder = string(c.Folder)
	cfg.Progress = func(_ string, done, total uint64) { c.Progress(done, total) }
	rep, err := ledger.Refill(ctx, cfg, engine, func(notes []ledger.PublishedNote) error {
		m.Notes += len(notes)
		return engine.PutNotes(ctx, forCluster(notes))
	})
	m.Size, m.Root, m.Refilled, m.Silent = rep.Size, rep.Root.String(), true, rep.Silent
	return err
}

// migrate moves a ledger of the embedded engine.
func migrate(ctx context.Context, f Folder, cluster trillian.Config, log *slog.Logger, progress func(done, total uint64)) (m Migrated, err error) {
	n, err := open(ctx, Config{Folder: f, Log: log, Manual: true, NoDetector: true, NoFollow: true}, nil)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	cluster.Origin, cluster.Logf = n.origin, n.quiet.warnf
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
