package ledger

import (
	"context"
	"time"
)

// IndexBytes is about how many bytes the index takes on disk. What is in memory
// only is flushed before.
func (l *Ledger) IndexBytes() (n uint64, err error) {
	if err := l.s.db.Flush(); err != nil {
		return 0, err
	}
	for _, space := range []byte{keyRow, keyChunk} {
		size, err := l.s.db.EstimateDiskUsage([]byte{space}, []byte{space + 1})
		if err != nil {
			return 0, err
		}
		n += size
	}
	return n, nil
}

// Settle waits until what a start leaves to the background is done (the filters of
// the database's keys; not the sweep of the index, which takes a fiftieth of a processor),
// flushes the database and waits until its own background work is done, for
// measurements that are not to count it.
func (l *Ledger) Settle(ctx context.Context) error {
	select {
	case <-l.filtered:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := l.s.db.Flush(); err != nil {
		return err
	}
	for quiet := 0; quiet < 3; {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
		if m := l.s.db.Metrics(); m.Compact.NumInProgress == 0 && m.Flush.NumInProgress == 0 {
			quiet++
		} else {
			quiet = 0
		}
	}
	return nil
}
