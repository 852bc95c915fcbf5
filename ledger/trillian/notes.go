package trillian

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Note is a published checkpoint of the log: as it was published first, which
// receipts rest on, and with the newest cosignatures.
type Note struct {
	Size          uint64
	First, Latest []byte
}

// PutNotes keeps notes for those who follow. The first note of a size stays as it is.
// Whoever reads them verifies them: a note is not believed because it is here.
func (e *Engine) PutNotes(ctx context.Context, notes []Note) error {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Call)
	defer cancel()
	var b pgx.Batch
	for _, n := range notes {
		b.Queue(`INSERT INTO fabtrail.note (tree_id, size, first, latest) VALUES ($1, $2, $3, $4)
			ON CONFLICT (tree_id, size) DO UPDATE SET latest = EXCLUDED.latest`, e.cfg.Tree, int64(n.Size), n.First, n.Latest)
	}
	if err := e.store.pool.SendBatch(ctx, &b).Close(); err != nil {
		return ofPostgres(fmt.Errorf("notes: %w", err))
	}
	return nil
}

// Share keeps the note of a size unless one is there already, and returns the one that
// was first. It waits for a cluster that does not answer, for a while.
func (e *Engine) Share(ctx context.Context, size uint64, note []byte) (first []byte, err error) {
	err = e.patiently(ctx, "sharing a note", func(ctx context.Context) (bool, error) {
		err := e.store.pool.QueryRow(ctx, `INSERT INTO fabtrail.note (tree_id, size, first, latest) VALUES ($1, $2, $3, $3)
			ON CONFLICT (tree_id, size) DO UPDATE SET latest = EXCLUDED.latest RETURNING first`, e.cfg.Tree, int64(size), note).Scan(&first)
		return err == nil, err
	})
	return first, err
}

// Notes returns up to n notes of sizes from on, in order.
func (e *Engine) Notes(ctx context.Context, from uint64, n int) ([]Note, error) {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Call)
	defer cancel()
	rows, err := e.store.pool.Query(ctx, `SELECT size, first, latest FROM fabtrail.note WHERE tree_id = $1 AND size >= $2 ORDER BY size LIMIT $3`,
		e.cfg.Tree, int64(from), n)
	if err != nil {
		return nil, ofPostgres(fmt.Errorf("notes: %w", err))
	}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (n Note, err error) {
		var size int64
		err = row.Scan(&size, &n.First, &n.Latest)
		n.Size = uint64(size)
		return n, err
	})
	if err != nil {
		return nil, ofPostgres(fmt.Errorf("notes: %w", err))
	}
	return out, nil
}

// LastNote is the size of the newest note, zero if there is none.
func (e *Engine) LastNote(ctx context.Context) (size uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Call)
	defer cancel()
	var n int64
	err = e.store.pool.QueryRow(ctx, `SELECT COALESCE(max(size), 0) FROM fabtrail.note WHERE tree_id = $1`, e.cfg.Tree).Scan(&n)
	if err != nil {
		err = ofPostgres(fmt.Errorf("notes: %w", err))
	}
	return uint64(n), err
}
