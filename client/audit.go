package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"

	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// LogReader gives a replay its input: a remote ledger, a local disk, or a test.
type LogReader interface {
	// Entries calls fn for entries [from, to) in order, and stops at its error.
	Entries(ctx context.Context, from, to uint64, fn func(EntryLine) error) error
	// Tile returns a tile of hashes, or an entry bundle, as the log serves it.
	Tile(ctx context.Context, path entry.TilePath) ([]byte, error)
}

// maxTile bounds a tile or a bundle, in bytes: 256 entries of any other log's
// size are never ours.
const maxTile = 256 * (2 + entry.LeafSize)

// remoteLog is the LogReader of a Remote.
type remoteLog struct {
	*Remote
	signed bool
}

// Log returns a reader of the whole log. signed includes entries that are signed
// and not published yet, as an index-verifying cosigner needs.
func (r *Remote) Log(signed bool) LogReader { return remoteLog{r, signed} }

// Entries implements LogReader.
func (l remoteLog) Entries(ctx context.Context, from, to uint64, fn func(EntryLine) error) error {
	return l.Remote.Entries(ctx, from, to, l.signed, fn)
}

// Tile implements LogReader.
func (l remoteLog) Tile(ctx context.Context, path entry.TilePath) ([]byte, error) {
	rep, err := l.do(ctx, request{method: "GET", path: path.String(), limit: maxTile})
	if err == nil || path.Width == entry.TileWidth || !notFound(err) {
		return rep.body, err
	}
	// A log may drop a partial tile once the full one exists (c2sp.org/tlog-tiles).
	width := path.Width
	path.Width = entry.TileWidth
	rep, err = l.do(ctx, request{method: "GET", path: path.String(), limit: maxTile})
	if err != nil {
		return nil, err
	}
	if !path.Entries {
		return rep.body[:min(len(rep.body), width*len(entry.Hash{}))], nil
	}
	entries, err := entry.ParseBundle(rep.body)
	if err != nil {
		return nil, err
	}
	return entry.MarshalBundle(entries[:min(len(entries), width)])
}

func notFound(err error) bool {
	var s *StatusError
	if errors.As(err, &s) {
		return s.Status == http.StatusNotFound
	}
	p := problem.As(err)
	return p != nil && p.Status() == http.StatusNotFound
}

// Follow adds the entries from where the Replayer stands up to size.
func (r *Replayer) Follow(ctx context.Context, log LogReader, size uint64) error {
	return log.Entries(ctx, r.Size(), size, func(line EntryLine) error {
		e, err := parseLine(line)
		if err != nil {
			return err
		}
		return r.Add(line.Index, e, line.Manifest)
	})
}

// ErrNoCargo is wrapped when a server leaves out what an entry says: the token does
// not entitle to it, or the operator withholds it. Nothing is known of the entry.
var ErrNoCargo = errors.New("the server does not give its cargo; an audit needs a token of scope audit")

func parseLine(line EntryLine) (entry.Entry, error) {
	if len(line.Cargo) == 0 {
		return entry.Entry{}, fmt.Errorf("entry %d: %w", line.Index, ErrNoCargo)
	}
	e, err := entry.ParseCargo(line.Cargo)
	if err != nil {
		return e, &Divergence{Index: line.Index, What: DivergeCargo, Detail: err.Error()}
	}
	return e, nil
}

// Audit replays a log from its first entry up to a checkpoint whose signatures
// the caller has checked, and compares every leaf in the entry bundles, every
// tile, every index commitment and the root. It returns the first divergence, as
// a *Divergence, or a summary.
func Audit(ctx context.Context, log LogReader, at *Seen, cfg ReplayConfig) (Summary, error) {
	r, err := replay(ctx, log, at, cfg)
	return r.Summary(), err
}

func replay(ctx context.Context, log LogReader, at *Seen, cfg ReplayConfig) (*Replayer, error) {
	same := func(path entry.TilePath, computed []byte) error {
		served, err := log.Tile(ctx, path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return sameTile(path, served, computed)
	}
	cfg.Tile = same
	r := NewReplayer(cfg)
	leaves := bundles{ctx: ctx, log: log, size: at.Size}
	err := log.Entries(ctx, 0, at.Size, func(line EntryLine) error {
		e, err := parseLine(line)
		if err != nil {
			return err
		}
		if err := leaves.check(line.Index, e.Leaf()); err != nil {
			return err
		}
		return r.Add(line.Index, e, line.Manifest)
	})
	if err != nil {
		return r, err
	}
	// The last tiles first: they tell where a root that differs goes wrong.
	if err := r.tree.partial(same); err != nil {
		return r, err
	}
	return r, r.Check(at.Checkpoint)
}

// audit is Audit of a ledger that can be asked about its index: where the entries alone
// do not tell what a false commitment is wrong about, the ledger's own proofs do. cfg.State
// is then that of the size at which it was asked; the summary is as of the divergence.
func (t *Trust) audit(ctx context.Context, remote *Remote, at *Seen, cfg ReplayConfig) (Summary, error) {
	cfg.Charter = t.Ledger
	log := remote.Log(false)
	r, err := replay(ctx, log, at, cfg)
	sum := r.Summary()
	var d *Divergence
	if errors.As(err, &d) && d.What == DivergeCommitment && d.Topic == nil && r.claimed != r.index.Tree().Root() {
		newPursuit(t, remote, log, r, d).run(ctx)
	}
	return sum, err
}

// bundles reads the entry bundles of a log, one at a time, as they are served.
type bundles struct {
	ctx    context.Context // of the one call of Audit that it belongs to
	log    LogReader
	size   uint64
	path   entry.TilePath
	leaves [][]byte
}

// check compares a leaf with the one that the log serves at its index.
func (b *bundles) check(index uint64, leaf [entry.LeafSize]byte) error {
	path := entry.TilePath{Entries: true, Index: index / entry.TileWidth}
	if path.Width = path.WidthAt(b.size); path != b.path {
		raw, err := b.log.Tile(b.ctx, path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		leaves, err := entry.ParseBundle(raw)
		if err != nil || len(leaves) != path.Width {
			return &Divergence{Index: path.Index * entry.TileWidth, What: DivergeLeaf, Detail: path.String() + " is no bundle of its width"}
		}
		b.path, b.leaves = path, leaves
	}
	if !bytes.Equal(b.leaves[index%entry.TileWidth], leaf[:]) {
		return &Divergence{Index: index, What: DivergeLeaf, Detail: "the cargo gives another leaf than " + path.String() + " has"}
	}
	return nil
}

// AuditLedger audits what a ledger publishes now: it fetches the checkpoint,
// holds it to the trust folder, and replays all of it. The Remote's token needs
// the scope audit.
func (t *Trust) AuditLedger(ctx context.Context, r *Remote, cfg ReplayConfig) (*Seen, Summary, error) {
	note, err := r.published(ctx)
	if err != nil {
		return nil, Summary{}, err
	}
	seen, err := t.VerifyNote(note)
	if err != nil {
		return nil, Summary{}, fmt.Errorf("checkpoint: %w", err)
	}
	s, err := t.audit(ctx, r, seen, cfg)
	return seen, s, err
}

// Audit is AuditLedger for somebody who comes back: the checkpoint must be fresh, and
// continue the last one that v remembers. Two histories are a *Fork.
func (v *Verifier) Audit(ctx context.Context, cfg ReplayConfig) (*Seen, Summary, error) {
	note, err := v.Remote.published(ctx)
	if err != nil {
		return nil, Summary{}, err
	}
	rep := &Report{}
	seen, _ := v.checkpoint(ctx, rep, note)
	switch {
	case rep.Fork != nil:
		return nil, Summary{}, rep.Fork
	case seen == nil:
		return nil, Summary{}, fmt.Errorf("checkpoint: %s", rep.Reasons[0].Text)
	}
	s, err := v.Trust.audit(ctx, v.Remote, seen, cfg)
	return seen, s, err
}

// published fetches the checkpoint; a ledger without one is an error.
func (r *Remote) published(ctx context.Context) ([]byte, error) {
	note, err := r.Checkpoint(ctx)
	if err == nil && len(bytes.TrimSpace(note)) == 0 {
		err = errors.New("the ledger has published no checkpoint yet")
	}
	return note, err
}
