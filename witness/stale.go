package witness

import (
	"errors"
	"fmt"
	"net/http"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
)

// observe returns the log's record after comparing it with what the note proves:
// a cosignature by this very witness on a state that the store does not know
// shows that the store is an old copy (or that somebody else has the key). The
// log is then frozen, durably, because what else was signed is unknown.
func (s *Server) observe(n checkpoint.Note, cp checkpoint.Checkpoint) (Record, *refusal) {
	rec, no := s.latest(cp.Origin)
	if no != nil {
		return rec, no
	}
	if s.provesStale(n, cp, rec) {
		next := rec
		next.Stale = n.Marshal()
		err := s.cfg.Store.Swap(rec.State(), next)
		if errors.Is(err, ErrConflict) {
			return s.observe(n, cp) // moved on meanwhile: compare again
		}
		if err != nil {
			return rec, s.internal(cp.Origin, "store", err)
		}
		rec = next
		s.cfg.Metrics.knows(s.cfg.Signer.VKey(), rec)
		s.cfg.Logger.Error("witness store is an old copy", "origin", cp.Origin, "known", rec.Size, "cosigned", cp.Size)
	}
	if len(rec.Stale) != 0 {
		return rec, frozen()
	}
	return rec, nil
}

func frozen() *refusal {
	no := refuse(http.StatusServiceUnavailable, "stale",
		"this witness once cosigned a checkpoint of this log that its store does not know; its operator has to decide")
	no.later, no.logWarn = true, true
	return no
}

// provesStale reports whether a note has a cosignature of this witness that the
// record does not account for. Once the log is frozen, only a larger size is news:
// its operator should adopt the last one.
func (s *Server) provesStale(n checkpoint.Note, cp checkpoint.Checkpoint, rec Record) bool {
	if cp.Size < rec.Size || cp.Size == rec.Size && cp.Root == rec.Root {
		return false
	}
	if len(rec.Stale) != 0 {
		was, err := checkpointOf(rec.Stale)
		if err != nil || was.Size <= rec.Size || cp.Size <= was.Size {
			return false
		}
	}
	_, err := s.cfg.Signer.VKey().VerifyCosignature(n)
	return err == nil
}

func checkpointOf(note []byte) (checkpoint.Checkpoint, error) {
	n, err := checkpoint.ParseNote(note)
	if err != nil {
		return checkpoint.Checkpoint{}, err
	}
	return checkpoint.ParseCheckpoint(n.Text)
}

// Observe compares a published checkpoint of a configured log with the store. A
// witness that starts should be shown what its logs serve: a cosignature of its
// own on a state that it does not know proves that its store is an old copy, and
// the error wraps ErrStale. Other checkpoints prove nothing and change nothing.
func (s *Server) Observe(note []byte) error {
	n, err := checkpoint.ParseNote(note)
	if err != nil {
		return err
	}
	cp, err := checkpoint.ParseCheckpoint(n.Text)
	if err != nil {
		return err
	}
	l, ok := s.logs[cp.Origin]
	if !ok {
		return fmt.Errorf("%w: %s", checkpoint.ErrUnknownLog, cp.Origin)
	}
	if _, no := verifyLog(l, n); no != nil {
		return errors.New(no.text)
	}
	if _, no := s.observe(n, cp); no != nil && no.reason == "stale" {
		return fmt.Errorf("%w: %s at size %d", ErrStale, cp.Origin, cp.Size)
	} else if no != nil {
		return errors.New(no.text)
	}
	return nil
}

// Adopt is the operator's decision about a log whose record was found stale:
// the checkpoint that proved it becomes the record, and cosigning goes on from
// there. It is right only if nothing later was cosigned. Two roots at one size
// cannot be adopted: that key has signed a fork and must be retired.
func (s *Server) Adopt(origin string) error {
	rec, no := s.latest(origin)
	if no != nil {
		return errors.New(no.text)
	}
	if len(rec.Stale) == 0 {
		return fmt.Errorf("nothing to adopt for log %q", origin)
	}
	cp, err := checkpointOf(rec.Stale)
	if err != nil {
		return err
	}
	if cp.Size <= rec.Size {
		return fmt.Errorf("this witness's key cosigned two roots of %q at size %d: retire the key", origin, cp.Size)
	}
	next := Record{Origin: origin, Size: cp.Size, Root: cp.Root, Note: rec.Stale}
	if err := s.cfg.Store.Swap(rec.State(), next); err != nil {
		return err
	}
	s.cfg.Metrics.knows(s.cfg.Signer.VKey(), next)
	return nil
}
