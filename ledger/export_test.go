package ledger

import (
	"runtime"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// FlipStored flips a bit of a stored entry ('c') or leaf ('l'), as failing memory
// or a failing disk would.
func (l *Ledger) FlipStored(space byte, i uint64) error {
	v, err := l.s.must(keyU64(space, i), "row")
	if err != nil {
		return err
	}
	v[len(v)-1] ^= 1
	return l.s.db.Set(keyU64(space, i), v, pebble.NoSync)
}

// FlipEdge flips a bit of a node of the tile that the builder fills: height 0
// are leaf hashes. No commit may be in the making.
func (l *Ledger) FlipEdge(height, i int) { l.b.edge.tiles[0].nodes[height][i][0] ^= 1 }

// Ahead is the number of commits whose writes are kept beside the database. The ledger
// is closed.
func (l *Ledger) Ahead() int { return len(l.d.ahead) }

// WaitFilters returns when both filters have read the database.
func (l *Ledger) WaitFilters() {
	for !l.s.known.ready.Load() || !l.s.filled.ready.Load() {
		runtime.Gosched()
	}
}

// WaitQueued returns when n submissions wait for the committer.
func (l *Ledger) WaitQueued(n int) {
	for {
		l.queue.mu.Lock()
		have := len(l.queue.items)
		l.queue.mu.Unlock()
		if have >= n {
			return
		}
		runtime.Gosched()
	}
}

// JournalMark is the newest signed checkpoint of a journal.
func JournalMark(fs vfs.FS, dir string) (checkpoint.Checkpoint, error) {
	h, err := readJournal(fs, dir)
	if err != nil {
		return checkpoint.Checkpoint{}, err
	}
	return noteCheckpoint(h.signed)
}

// IndexFromFile reports that the start has read the index from files.
func (l *Ledger) IndexFromFile() bool { return l.fromFile }

// HarmRow flips a bit of a topic's row, or loses the row.
func (l *Ledger) HarmRow(topic entry.Hash, lose bool) error {
	key := keyHash(keyRow, topic)
	if lose {
		return l.s.db.Delete(key, pebble.Sync)
	}
	v, err := l.s.must(key, "row")
	if err != nil {
		return err
	}
	v[5] ^= 1
	return l.s.db.Set(key, v, pebble.Sync)
}
