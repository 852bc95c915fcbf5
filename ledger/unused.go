package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"fabtrail.dev/fabtrail/ledger/entry"
	"github.com/cockroachdb/pebble/v2"
)

// Manifests are uploaded before the statement that names them. Until then each has a row
// (keyUnused) that says since when and whose it is. The commit that names it deletes the row
// in the very batch that holds the entry, and so does a replay of that entry: whatever has
// a row, once the ledger is open, is named by no entry.
const (
	// UnusedAge is how long such a manifest is kept since it was last uploaded.
	UnusedAge = 7 * 24 * time.Hour
	// sweepEvery is how often uploads look for those that are older.
	sweepEvery = time.Hour
	maxOwner   = 1024
)

// ErrUnused says that the owner, or all together, have as many manifests kept that no
// entry names as may be.
var ErrUnused = errors.New("too many manifests wait for a statement that names them")

// unused keeps count of the manifests that no entry names.
type unused struct {
	// naming is read-locked from where the committer looks for a manifest to where
	// the builder applies the batch that names it: none is removed meanwhile.
	naming sync.RWMutex
	// uploading is held by the one upload that is being written. It comes before naming,
	// and that before mu.
	uploading sync.Mutex

	mu     sync.Mutex
	by     map[entry.Hash]upload
	used   map[string]int64 // bytes of an owner
	all    int64
	looked time.Time // when old ones were last looked for

	most, mostAll int64 // Config
}

// upload is one of them.
type upload struct {
	since uint64 // Unix milliseconds
	size  uint32
	owner string
}

func (u upload) marshal() []byte {
	b := binary.BigEndian.AppendUint64(nil, u.since)
	return append(binary.BigEndian.AppendUint32(b, u.size), u.owner...)
}

func parseUpload(b []byte) (upload, bool) {
	if len(b) < 12 || len(b) > 12+maxOwner {
		return upload{}, false
	}
	return upload{binary.BigEndian.Uint64(b), binary.BigEndian.Uint32(b[8:]), string(b[12:])}, true
}

// loadUnused reads the rows. Entries that an engine holds were replayed before.
func loadUnused(s *store, most, mostAll int64) (*unused, error) {
	u := &unused{by: map[entry.Hash]upload{}, used: map[string]int64{}, most: most, mostAll: mostAll}
	return u, s.each(keyUnused, func(k, v []byte) error {
		up, ok := parseUpload(v)
		if !ok || len(k) != 33 {
			return fmt.Errorf("%w: row of an unused manifest %x", ErrDamaged, k)
		}
		u.put(entry.Hash(k[1:]), up)
		return nil
	})
}

// put counts one in; u.mu is held, or nobody else knows u yet.
func (u *unused) put(sum entry.Hash, up upload) {
	u.drop(sum)
	u.by[sum] = up
	u.used[up.owner] += int64(up.size)
	u.all += int64(up.size)
}

// drop forgets one; u.mu is held.
func (u *unused) drop(sum entry.Hash) {
	up, ok := u.by[sum]
	if !ok {
		return
	}
	delete(u.by, sum)
	u.all -= int64(up.size)
	if u.used[up.owner] -= int64(up.size); u.used[up.owner] == 0 {
		delete(u.used, up.owner)
	}
}

// named forgets those that the entries name.
func (u *unused) named(entries []admitted) {
	if u == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range entries {
		if !entries[i].manifest.IsZero() {
			u.drop(entries[i].manifest)
		}
	}
}

// room refuses size more bytes of the owner, if they are too many.
func (u *unused) room(owner string, size int64) error {
	if u.used[owner]+size > u.most || u.all+size > u.mostAll {
		return fmt.Errorf("%w: %d bytes of this owner, %d of all", ErrUnused, u.used[owner], u.all)
	}
	return nil
}

// PutManifest is PutManifestOf for nobody in particular.
func (l *Ledger) PutManifest(b []byte) (entry.Hash, error) { return l.PutManifestOf("", b) }

// PutManifestOf keeps a manifest durably under its SHA-256, which it returns, for a
// statement that will name it. owner, of at most 1,024 bytes, is who may have so many that
// no entry names: ErrUnused. One that nothing names for UnusedAge is removed again.
func (l *Ledger) PutManifestOf(owner string, b []byte) (sum entry.Hash, err error) {
	if err := l.refuses(); err != nil {
		return entry.Hash{}, err
	}
	if l.diskFull() {
		return entry.Hash{}, ErrStorageFull
	}
	now := l.cfg.Clock()
	if err := l.sweepUnused(now); err != nil {
		l.fail(err)
		return entry.Hash{}, l.Err()
	}
	sum = sha256Sum(b)
	u := l.s.unused
	u.uploading.Lock()
	defer u.uploading.Unlock()
	fresh, err := u.reserve(l.s, sum, upload{uint64(max(now.UnixMilli(), 0)), uint32(len(b)), owner[:min(len(owner), maxOwner)]})
	if err != nil || !fresh {
		return sum, err
	}
	// Nobody can name it before the batch is there, so no row outlives its being named.
	batch := l.s.db.NewBatch()
	defer batch.Close()
	err = errors.Join(batch.Set(keyHash(keyManifest, sum), b, nil), batch.Set(keyHash(keyUnused, sum), u.row(sum), nil))
	if err == nil {
		err = batch.Commit(pebble.Sync)
	}
	if err != nil {
		l.fail(err)
		return entry.Hash{}, l.Err()
	}
	return sum, nil
}

// reserve counts a manifest in; fresh says that it is not here yet. One that waits counts
// as uploaded anew from now on, if that makes a difference of a day.
func (u *unused) reserve(s *store, sum entry.Hash, up upload) (fresh bool, err error) {
	u.mu.Lock()
	had, waiting := u.by[sum]
	u.mu.Unlock()
	if waiting {
		if up.since < had.since+uint64((24*time.Hour).Milliseconds()) {
			return false, nil
		}
		u.naming.Lock() // the committer must not name it while its row is written
		defer u.naming.Unlock()
		u.mu.Lock()
		defer u.mu.Unlock()
		if had, waiting = u.by[sum]; !waiting {
			return false, nil
		}
		had.since = up.since
		u.by[sum] = had
		return false, s.db.Set(keyHash(keyUnused, sum), had.marshal(), pebble.Sync)
	}
	known, err := s.get(keyHash(keyManifest, sum))
	if err != nil || known != nil { // an entry names it
		return false, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.room(up.owner, int64(up.size)); err != nil {
		return false, err
	}
	u.put(sum, up)
	return true, nil
}

// row is the row of one that was reserved.
func (u *unused) row(sum entry.Hash) []byte {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.by[sum].marshal()
}

// sweepUnused removes what is older than UnusedAge, now and then.
func (l *Ledger) sweepUnused(now time.Time) error {
	u := l.s.unused
	u.mu.Lock()
	due := now.Sub(u.looked) >= sweepEvery || now.Before(u.looked)
	if due {
		u.looked = now
	}
	u.mu.Unlock()
	if !due {
		return nil
	}
	u.naming.Lock() // waits for the commit that is being built
	defer u.naming.Unlock()
	u.mu.Lock()
	defer u.mu.Unlock()
	batch := l.s.db.NewBatch()
	defer batch.Close()
	var old []entry.Hash
	for sum, up := range u.by {
		if int64(up.since) > now.Add(-UnusedAge).UnixMilli() {
			continue
		}
		old = append(old, sum)
		if err := errors.Join(batch.Delete(keyHash(keyManifest, sum), nil), batch.Delete(keyHash(keyUnused, sum), nil)); err != nil {
			return err
		}
	}
	if len(old) == 0 {
		return nil
	}
	if err := batch.Commit(pebble.Sync); err != nil {
		return err
	}
	for _, sum := range old {
		u.drop(sum)
	}
	l.cfg.Logf("ledger: manifests removed that no statement named for %d days: %d", int(UnusedAge.Hours()/24), len(old))
	return nil
}
