// Package view follows the log and keeps what people ask for: findings, and the
// state that rules need. Everything in it can be deleted and made anew from the
// log (fabtraild rebuild); it is never mixed with the truth.
//
// # Rows (Pebble, a directory of its own)
//
//	"m" -> next entry index u64 | rule set digest (32) | format u8
//	"s" | key -> a row of the fold or of the rules (see custody.State)
//	"f" | entry index u64 | sequence u32 -> a finding, as JSON of custody.Finding
//	"p" -> entry index u64: findings completed before it have been handed on
//
// The cursor "m" is written in the same batch as the rows that it covers, so a crash
// never leaves the two apart. Nothing is synced by itself: a crash takes the view back to
// an earlier batch, from which it follows the log again and comes to the same rows. A view
// of another rule set or format is emptied when it is opened.
package view

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/go-json-experiment/json"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/rules"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// format is the version of the rows.
const format = 1

var (
	cursorKey = []byte("m")
	handedKey = []byte("p")
)

// View is an open view. One goroutine calls Apply; reads may come from any.
type View struct {
	db   *pebble.DB
	rows recent // of Apply alone

	mu   sync.RWMutex
	next uint64
}

// Finding is a finding with the entry that completed it.
type Finding struct {
	Index uint64
	*custody.Finding
}

// Open opens or makes the view in dir.
func Open(dir string) (*View, error) { return OpenFS(dir, vfs.Default) }

// OpenFS is Open on a file system of the caller's choice.
func OpenFS(dir string, fs vfs.FS) (*View, error) {
	db, err := pebble.Open(dir, options(fs))
	if err != nil {
		return nil, fmt.Errorf("opening the views: %w", err)
	}
	v := &View{db: db, rows: recent{most: rowBytes}}
	if err := v.load(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return v, nil
}

// What the views may take of memory, in bytes. The fold asks for many rows that are not there
// (is this unit new?): without filters each such question would read a block of every level. It
// asks for few others again and again (who may sign what?): those are kept as they are.
const (
	rowBytes   = 8 << 20
	blockBytes = 32 << 20
	memTable   = 8 << 20
)

func options(fs vfs.FS) *pebble.Options {
	o := &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatNewest, Logger: silent{}, MemTableSize: memTable,
		// Pebble takes its memtables off the cache: the one that is written, one that is being
		// flushed, and one kept to be used again.
		CacheSize: blockBytes + 3*memTable}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return o
}

func (v *View) load() error {
	b, err := read(v.db, cursorKey)
	if b == nil {
		return err
	}
	if cursor := string(b); len(cursor) == 41 && cursor == string(marshalCursor(binary.BigEndian.Uint64(b))) {
		v.next = binary.BigEndian.Uint64(b)
		return nil
	}
	return v.db.DeleteRange([]byte{0}, []byte{0xff}, pebble.Sync)
}

func marshalCursor(next uint64) []byte {
	b := binary.BigEndian.AppendUint64(nil, next)
	d, _ := entry.ParseHash(rules.Current().Rules.SHA256)
	return append(append(b, d[:]...), format)
}

// Next is the index of the first entry that was not applied yet.
func (v *View) Next() uint64 {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.next
}

// Close closes the view.
func (v *View) Close() error { return v.db.Close() }

// Apply folds the statements of entries [Next, next) into the view. Entries
// without a statement (index commitments) have no item. Members of items are
// filled in here, from the manifest that each speaks of.
func (v *View) Apply(items []custody.Item, next uint64, members func(manifest entry.Hash) ([]custody.Member, error)) error {
	st := &state{db: v.db, recent: &v.rows, rows: map[string][]byte{}}
	batch := v.db.NewBatch()
	defer batch.Close()
	engine, seq := rules.New(), uint32(0)
	for _, it := range items {
		if it.Index < v.Next() || it.Index >= next {
			return fmt.Errorf("entry %d is outside of [%d, %d)", it.Index, v.Next(), next)
		}
		if sum := custody.ManifestOf(st, it.Signed.Statement); !sum.IsZero() {
			ms, err := members(sum)
			if err != nil {
				return fmt.Errorf("entry %d: %w", it.Index, err)
			}
			it.Members = ms
		}
		eff := custody.Fold{}.Apply(st, it)
		for _, f := range engine.Apply(st, it, eff) {
			text, err := json.Marshal(f)
			if err != nil {
				return err
			}
			if err := batch.Set(findingKey(it.Index, seq), text, nil); err != nil {
				return err
			}
			seq++
		}
	}
	if st.err != nil {
		return st.err
	}
	for k, val := range st.rows {
		if err := st.write(batch, k, val); err != nil {
			return err
		}
	}
	if err := batch.Set(cursorKey, marshalCursor(next), nil); err != nil {
		return err
	}
	if err := batch.Commit(pebble.NoSync); err != nil {
		return err
	}
	for k, val := range st.rows {
		v.rows.put(k, val)
	}
	v.mu.Lock()
	v.next = next
	v.mu.Unlock()
	return nil
}

// Handed returns the entry index before which all findings have been handed on.
func (v *View) Handed() (uint64, error) {
	b, err := read(v.db, handedKey)
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, nil // findings are handed on again, which does no harm
	}
	return binary.BigEndian.Uint64(b), nil
}

// SetHanded moves that index on.
func (v *View) SetHanded(next uint64) error {
	return v.db.Set(handedKey, binary.BigEndian.AppendUint64(nil, next), pebble.NoSync)
}

func findingKey(index uint64, seq uint32) []byte {
	b := binary.BigEndian.AppendUint64([]byte("f"), index)
	return binary.BigEndian.AppendUint32(b, seq)
}

// Findings calls yield for the findings completed at entry since or later, in
// order, until it returns false.
func (v *View) Findings(since uint64, yield func(Finding) bool) error {
	it, err := v.db.NewIter(&pebble.IterOptions{LowerBound: findingKey(since, 0), UpperBound: []byte("g")})
	if err != nil {
		return err
	}
	for it.First(); it.Valid(); it.Next() {
		f := Finding{Index: binary.BigEndian.Uint64(it.Key()[1:]), Finding: new(custody.Finding)}
		b, err := it.ValueAndErr()
		if err == nil {
			err = json.Unmarshal(b, f.Finding)
		}
		if err != nil {
			return errors.Join(err, it.Close())
		}
		if !yield(f) {
			break
		}
	}
	return errors.Join(it.Error(), it.Close())
}

// State reads the rows of the fold as of Next. It is read-only and safe for
// concurrent use; a row that cannot be read is absent.
func (v *View) State() custody.State { return readOnly{v.db} }

type readOnly struct{ db *pebble.DB }

func (r readOnly) Get(key string) []byte {
	b, err := get(r.db, key)
	if err != nil {
		return nil
	}
	return b
}

func (readOnly) Set(string, []byte) { panic("view: State is read-only") }

// state is the State of one call of Apply: its writes over the database.
type state struct {
	db     *pebble.DB
	recent *recent
	rows   map[string][]byte
	err    error
}

func (s *state) Get(key string) []byte {
	if b, ok := s.rows[key]; ok {
		return b
	}
	if b, ok := s.recent.get(key); ok {
		return b
	}
	b, err := get(s.db, key)
	switch {
	case err == nil:
		s.recent.put(key, b)
	case s.err == nil:
		s.err = err
	}
	return b
}

func (s *state) Set(key string, value []byte) { s.rows[key] = value }

func (s *state) write(b *pebble.Batch, key string, value []byte) error {
	if value == nil {
		return b.Delete([]byte("s"+key), nil)
	}
	return b.Set([]byte("s"+key), value, nil)
}

func get(db *pebble.DB, key string) ([]byte, error) {
	return read(db, []byte("s"+key))
}

// read copies a value; nil and no error when there is none. Pebble tells only at
// Close that a value which lies in a file of its own could not be read.
func read(db *pebble.DB, key []byte) ([]byte, error) {
	b, closer, err := db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := append([]byte{}, b...)
	if err := closer.Close(); err != nil {
		return nil, err
	}
	return out, nil
}

// silent keeps Pebble's chatter off the terminal; what is fatal stays fatal.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(format string, a ...any) {
	panic("views: " + fmt.Sprintf(format, a...))
}
