package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// wayRefill is for a node that lacks what somebody has seen.
const wayRefill = "find the node that has these entries, the signing one's or a read replica's folder, and give the engine its entries " +
	"(a replica's folder needs the keys for that); if nobody has them, this log has ended: begin a new one"

// Refill gives an engine that has lost entries of the log, all or the newest, those
// that the database of a node still has, at the same indexes, and begins a new segment
// and epoch of that node's journal. The node must not run. Like Restore it signs
// nothing, and refuses with *NoSign unless, by the rule of Restore, nobody can have seen
// more of the log than the node has; cfg.Tails and cfg.NewJournal are not for it.
//
// share is handed all published notes, in order, which an engine that is shared keeps
// for those who follow.
func Refill(ctx context.Context, cfg RestoreConfig, to Sequencer, share func([]PublishedNote) error) (rep RestoreReport, err error) {
	def(&cfg.FS, vfs.Default)
	if cfg.Progress == nil {
		cfg.Progress = func(string, uint64, uint64) {}
	}
	c := Config{Dir: cfg.Dir, Folder: cfg.Folder, Origin: cfg.Origin, FS: cfg.FS}
	c.defaults()
	r := &restorer{cfg: cfg, l: bareLedger(ctx, c, cfg.Key)}
	defer func() {
		err = errors.Join(err, r.l.closeBare())
		if no := (*NoSign)(nil); errors.As(err, &no) {
			no.Doing = "give these entries to the engine"
			if no.WayOut == wayAhead {
				no.WayOut = wayRefill
			}
		}
		err = c.words(err)
	}()
	if r.l.c, err = openCore(&r.l.cfg, false, r.l.fail); err != nil {
		return rep, err
	}
	r.l.attach()
	r.l.cfg.App = cfg.App
	err = r.refill(ctx, to, share)
	return r.rep, errors.Join(err, r.l.Err())
}

// askOthers applies the rule of Restore about who must have answered, if nothing here
// says what was signed last; else it returns nil.
func (l *Ledger) askOthers(ctx context.Context) (*restorer, error) {
	if l.replica() || l.cfg.Others == nil || l.c.hist.exists {
		return nil, nil
	}
	head, err := l.seq.Head(ctx)
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	if head.Size == 0 { // a log that begins
		return nil, nil
	}
	others, err := l.cfg.Others(ctx)
	if err != nil {
		return nil, err
	}
	r := &restorer{cfg: RestoreConfig{Policy: l.cfg.Policy, Claims: others.Claims, Seen: others.Seen}, l: l}
	return r, r.ask()
}

// check holds what was shown against the entries. It may be called on nil.
func (r *restorer) check() error {
	if r == nil {
		return nil
	}
	for i, n := range r.notes {
		if err := r.l.checkOurs(n, r.from[i], false); err != nil {
			return err
		}
	}
	return nil
}

func (r *restorer) refill(ctx context.Context, to Sequencer, share func([]PublishedNote) error) error {
	l := r.l
	if _, err := l.prepare(); err != nil {
		return err
	}
	r.rep.Found = l.b.edge.size
	signed, published, err := r.known(ctx)
	if err != nil {
		return err
	}
	l.durable.Store(l.b.edge.size)
	if _, err := l.Feed(ctx, to, func(done, total uint64) { r.cfg.Progress("entries", done, total) }); err != nil {
		return err
	}
	latest, err := noteCheckpoint(published)
	if err != nil {
		return err
	}
	for after := uint64(0); ; {
		notes, err := l.notesUpTo(latest.Size, after, replayBatch)
		if err != nil {
			return err
		}
		if len(notes) == 0 {
			break
		}
		if err := share(notes); err != nil {
			return err
		}
		after = notes[len(notes)-1].Size
	}
	return r.begin(signed, published)
}
