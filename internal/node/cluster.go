package node

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/trillian"
)

// On a cluster each signature waits until the cluster has integrated what is signed,
// so that under load commitments are spaced further apart, and shared by more.
const (
	clusterPublishEvery = 250 * time.Millisecond
	clusterBatch        = 4096
)

// Pauses of the workers that hand notes to and from the cluster.
const (
	notesPoll  = 100 * time.Millisecond
	notesAgain = time.Second
	notesMost  = 256
)

// tokenFile is the public half of the key that signs tokens, in the trust folder: a
// read replica checks tokens and issues none.
const tokenFile = "token.pub"

// engineFile says which engine keeps a ledger's entries; without it, the embedded one.
func (f Folder) engineFile() string { return filepath.Join(string(f), "engine") }

// Tree is the tree of the Trillian cluster that keeps this folder's ledger, zero when
// that is the embedded engine.
func (f Folder) Tree() (int64, error) {
	b, err := os.ReadFile(f.engineFile())
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	tree, err := strconv.ParseInt(strings.TrimPrefix(strings.TrimSpace(string(b)), "trillian "), 10, 64)
	if err != nil || tree == 0 {
		return 0, fmt.Errorf("%s: want 'trillian TREE', it says %q", f.engineFile(), b)
	}
	return tree, nil
}

// Embedded reports whether the folder has entries, and the embedded engine keeps them.
func (f Folder) Embedded() bool {
	tree, err := f.Tree()
	_, lerr := os.Stat(f.ledger())
	return err == nil && tree == 0 && lerr == nil
}

// isReplica reports whether this is the folder of a read replica.
func (f Folder) isReplica() bool {
	tree, err := f.Tree()
	_, serr := os.Stat(f.charter())
	return err == nil && tree != 0 && errors.Is(serr, fs.ErrNotExist)
}

// SetTree says that the tree of a cluster is to keep this folder's ledger, which must
// have no entries yet.
func (f Folder) SetTree(tree int64) error { return f.checkEngine(tree) }

// setTree notes that a cluster keeps this folder's ledger.
func (f Folder) setTree(tree int64) error {
	if err := os.MkdirAll(string(f), 0o755); err != nil {
		return err
	}
	return writeFile(f.engineFile(), fmt.Appendf(nil, "trillian %d\n", tree), 0o644)
}

// checkEngine holds the engine that was asked for, a tree or zero for the embedded
// one, against the one that has the ledger.
func (f Folder) checkEngine(tree int64) error {
	is, err := f.Tree()
	if err != nil {
		return err
	}
	_, err = os.Stat(f.ledger())
	empty := errors.Is(err, fs.ErrNotExist)
	switch {
	case is == tree:
		return nil
	case is == 0 && empty:
		return f.setTree(tree)
	case is == 0:
		return fmt.Errorf("the ledger in %s is kept by the embedded engine: move it with 'fabtraild migrate --data %s --tree %d ...'", f, f, tree)
	case tree == 0:
		return fmt.Errorf("the ledger in %s is kept by a Trillian cluster, in tree %d: 'fabtraild serve --data %s --engine trillian --tree %d ...'", f, is, f, is)
	default:
		return fmt.Errorf("the ledger in %s is in tree %d of its cluster, not in tree %d; if that tree is lost, 'fabtraild migrate --data %s --tree %d ...' moves the ledger",
			f, is, tree, f, tree)
	}
}

// openEngine connects to the cluster, if the ledger is on one, and fits cfg to it.
func (n *Node) openEngine(ctx context.Context, cfg *ledger.Config) (err error) {
	if n.cfg.Cluster == nil {
		return n.cfg.Folder.checkEngine(0)
	}
	c := *n.cfg.Cluster
	c.Origin, c.ReadOnly = n.origin, n.cfg.Follow
	c.Logf = n.quiet.warnf
	if err := n.findTree(ctx, &c); err != nil {
		return err
	}
	if n.engine, err = trillian.Open(ctx, c); err != nil {
		return err
	}
	cfg.Sequencer, cfg.PublishEvery, cfg.MaxBatch = n.engine, clusterPublishEvery, clusterBatch
	if n.cfg.Follow {
		return nil
	}
	cfg.Share = n.engine.Share
	cfg.Others = func(ctx context.Context) (o ledger.Others, err error) {
		key, err := n.cfg.Folder.vkey()
		if err != nil {
			return o, err
		}
		r, err := n.cfg.Folder.restoring(ctx, key, n.cfg.Seen)
		return ledger.Others{Claims: r.Claims, Seen: r.Seen}, err
	}
	cfg.Shared = func(ctx context.Context, after uint64) (out [][]byte, err error) {
		notes, err := n.engine.Notes(ctx, after+1, notesMost)
		for _, note := range notes {
			out = append(out, note.First)
		}
		return out, err
	}
	return nil
}

// findTree finds the tree that is to be opened, unless one is named, and holds it against
// the one that the folder is in. A read replica goes along when its log has moved to
// another tree: it believes no tree anyway.
func (n *Node) findTree(ctx context.Context, c *trillian.Config) error {
	f := n.cfg.Folder
	is, err := f.Tree()
	if err != nil {
		return err
	}
	if c.Tree == 0 && !n.cfg.Follow {
		c.Tree = is
	}
	if c.Tree == 0 {
		if c.Tree, err = trillian.TreeOf(ctx, *c); err != nil {
			if is == 0 {
				return err
			}
			c.Tree = is
		}
	}
	if n.cfg.Follow && is != 0 && is != c.Tree {
		n.cfg.Log.Info("the ledger has moved to another tree", "from", is, "to", c.Tree)
		return f.setTree(c.Tree)
	}
	return f.checkEngine(c.Tree)
}

// logKey reads the log's public key from the trust folder.
func (f Folder) logKey() (checkpoint.VKey, error) {
	b, err := os.ReadFile(filepath.Join(f.Trust(), "log.vkey"))
	if err != nil {
		return checkpoint.VKey{}, fmt.Errorf("a read replica needs the trust folder of its ledger: %w", err)
	}
	return checkpoint.ParseVKey(strings.TrimSpace(string(b)))
}

// shareTokenKey writes the public half of the token key into the trust folder.
func (f Folder) shareTokenKey() error {
	key, err := f.TokenKey()
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	return writeNew(filepath.Join(f.Trust(), tokenFile), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o644)
}

// tokenKey is the key that this ledger's tokens verify with.
func (n *Node) tokenKey() (ed25519.PublicKey, error) {
	var pub any
	if n.cfg.Follow {
		path := filepath.Join(n.cfg.Folder.Trust(), tokenFile)
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("the key that tokens verify with: %w", err)
		}
		block, _ := pem.Decode(b)
		if block == nil {
			return nil, fmt.Errorf("%s is not PEM", path)
		}
		if pub, err = x509.ParsePKIXPublicKey(block.Bytes); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	} else {
		key, err := n.cfg.Folder.TokenKey()
		if err != nil {
			return nil, err
		}
		pub = key.Public()
	}
	key, ok := pub.(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("the token key is not Ed25519")
	}
	return key, nil
}

// openReplica opens a ledger that follows the one that signs.
func (n *Node) openReplica(ctx context.Context) error {
	if n.cfg.Cluster == nil {
		return errors.New("a read replica follows a ledger on a cluster: which?")
	}
	f := n.cfg.Folder
	key, err := f.logKey()
	if err != nil {
		return err
	}
	n.origin = key.Name
	policy, err := f.policy()
	if err != nil {
		return err
	}
	if policy == nil {
		return fmt.Errorf("%s has no policy.txt yet: start the node that signs first, and copy its trust folder", f.Trust())
	}
	past, err := f.pastPolicies()
	if err != nil {
		return err
	}
	cfg := ledger.Config{Dir: f.ledger(), Origin: n.origin, App: app{}, Policy: policy, Past: past, Clock: n.cfg.Clock, Manual: true,
		Logf: n.logf, OnFail: n.onFail}
	if err := n.openEngine(ctx, &cfg); err != nil {
		return err
	}
	n.ledger, err = ledger.OpenReplica(ctx, cfg)
	return err
}

// share hands to the cluster what Share has not: notes from before the cluster, and
// fresh cosignatures on a note. It starts where the cluster's notes end, so that a crash
// leaves none out.
func (n *Node) share(ctx context.Context) error {
	var s sharing
	say := trying{log: n.quiet, bad: "notes do not reach the cluster: read replicas stand still", good: "notes reach the cluster again"}
	for {
		more, err := n.shareSome(ctx, &s)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		say.outcome(err)
		pause := notesPoll
		if err != nil {
			pause = notesAgain
		}
		if more && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// sharing is how far notes have been handed on.
type sharing struct {
	asked bool   // the cluster has said where its notes end
	size  uint64 // of the newest handed on
	note  string // that note
	count int    // of notes
}

// forCluster is how the cluster keeps notes.
func forCluster(notes []ledger.PublishedNote) []trillian.Note {
	out := make([]trillian.Note, len(notes))
	for i, p := range notes {
		out[i] = trillian.Note{Size: p.Size, First: p.Note, Latest: p.Note}
	}
	return out
}

func (n *Node) shareSome(ctx context.Context, s *sharing) (more bool, err error) {
	if !s.asked {
		if s.size, err = n.engine.LastNote(ctx); err != nil {
			return false, err
		}
		s.asked = true
	}
	notes, err := n.ledger.Notes(s.size, notesMost)
	if err != nil {
		return false, err
	}
	out := forCluster(notes)
	if v := n.ledger.Published(); len(out) == 0 && v.Size() == s.size && v.Size() > 0 && string(v.Checkpoint()) != s.note {
		out = append(out, trillian.Note{Size: v.Size(), First: v.Checkpoint(), Latest: v.Checkpoint()}) // cosigned again
	}
	if len(out) == 0 {
		return false, nil
	}
	if err := n.engine.PutNotes(ctx, out); err != nil {
		return false, err
	}
	last := out[len(out)-1]
	s.size, s.note, s.count = last.Size, string(last.Latest), s.count+len(notes)
	return true, nil
}

// followNotes brings the replica to every note that the signing node has published,
// in order. A cluster that does not answer is asked again; what is published is
// served meanwhile.
func (n *Node) followNotes(ctx context.Context) error {
	n.followed.Store(time.Now().UnixNano())
	say := trying{log: n.quiet, bad: "this replica cannot follow, and goes on serving what it has; trying again", good: "this replica follows again"}
	for {
		err := n.followOnce(ctx)
		if stopped := n.ledger.Err(); stopped != nil {
			return stopped
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		say.outcome(err)
		pause := notesPoll
		if err != nil {
			pause = notesAgain
		} else {
			n.followed.Store(time.Now().UnixNano())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// errLost: what a cluster has only ever becomes more.
var errLost = errors.New("the cluster has less than was published: PostgreSQL was put back to an older state or lost, or the log has moved to another tree, where a replica goes when it is started again")

// notFollowed says what an error of taking a published note is likely to mean.
func notFollowed(size uint64, err error) error {
	switch {
	case errors.Is(err, ledger.ErrGap):
		return fmt.Errorf("%w: it has a note of size %d: %w", errLost, size, err)
	case errors.Is(err, checkpoint.ErrNoQuorum):
		return fmt.Errorf("%w; if the policy has changed, copy 'trust' and 'policies' of the signing node again", err)
	}
	return err
}

func (n *Node) followOnce(ctx context.Context) error {
	for {
		at := n.ledger.Published()
		notes, err := n.engine.Notes(ctx, at.Size(), notesMost)
		if err != nil {
			return err
		}
		if len(notes) == 0 && at.Size() > 0 { // not even the one that this replica publishes
			return fmt.Errorf("%w: it has no note of size %d", errLost, at.Size())
		}
		for _, note := range notes {
			for k, b := range [][]byte{note.First, note.Latest} {
				if k == 1 && string(b) == string(note.First) || string(b) == string(at.Checkpoint()) {
					continue
				}
				if err := n.ledger.Advance(ctx, b); err != nil {
					return notFollowed(note.Size, err)
				}
			}
		}
		if len(notes) < notesMost {
			return nil
		}
	}
}
