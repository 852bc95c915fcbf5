package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"fabtrail.dev/fabtrail/ledger/entry"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Key spaces of the truth store. Integers in keys and rows are big-endian.
const (
	keyEntry    = 'c' // index -> flags u8 | [manifest digest] | cargo
	keyLeaf     = 'l' // index -> leaf (34)
	keyTile     = 't' // level u8 | n -> 256 hashes; full tiles only, the edge is derived from leaves
	keyID       = 'd' // statement ID -> index | effect
	keyState    = 's' // application's key -> value
	keyRow      = 'r' // topic -> list (unitindex) | indexes of its newest chunk
	keyChunk    = 'R' // topic | chunk u32 -> indexes of a full chunk
	keyUncov    = 'p' // first index -> topics of entries that no index commitment covers yet
	keyNote     = 'n' // size -> the note that was published first at this size
	keyManifest = 'M' // SHA-256 -> manifest
	keyUnused   = 'u' // SHA-256 of a manifest that no entry names -> since u64 | size u32 | owner
	keyFlush    = 'f' // journal segment -> marker, durable once the database is flushed for it
	keyMeta     = 'm' // name -> single rows, below
)

var (
	metaHead   = []byte{keyMeta, 'h'} // headRow
	metaOrigin = []byte{keyMeta, 'o'} // origin line
	metaSigned = []byte{keyMeta, 's'} // newest signed checkpoint, log signature only
	metaLatest = []byte{keyMeta, 'n'} // newest published note
	metaEpoch  = []byte{keyMeta, 'e'} // epoch of the journal's newest taking over, u64
)

const (
	flagManifest = 1
	maxEffect    = 255
)

func keyU64(space byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{space}, n)
}

func keyHash(space byte, h entry.Hash) []byte { return append([]byte{space}, h[:]...) }

func tileKey(id tileID) []byte {
	return binary.BigEndian.AppendUint64([]byte{keyTile, id.level}, id.n)
}

func stateKey(k string) []byte { return append([]byte{keyState}, k...) }

// headRow is rewritten by every commit; it says what the rest must amount to.
type headRow struct {
	Size      uint64     // entries
	Root      entry.Hash // of the tree
	Time      uint64     // of the last entry, Unix milliseconds
	Covers    uint64     // index rows hold the entries [0, Covers)
	IndexRoot entry.Hash // of the index over [0, Covers)
	Topics    uint64     // rows of the index
	// Waiting is how many topics the entries [Covers, Size) have, each counted with
	// each entry: what the keyUncov rows must amount to. Databases of before 2026-11-22
	// do not say, and the engine's own do not: then Counted is false.
	Waiting uint64
	Counted bool
}

const headLen = 8 + 32 + 8 + 8 + 32 + 8 // and 8 if Counted

func (h headRow) marshal() []byte {
	b := make([]byte, 0, headLen+8)
	b = binary.BigEndian.AppendUint64(b, h.Size)
	b = append(b, h.Root[:]...)
	b = binary.BigEndian.AppendUint64(b, h.Time)
	b = binary.BigEndian.AppendUint64(b, h.Covers)
	b = append(b, h.IndexRoot[:]...)
	b = binary.BigEndian.AppendUint64(b, h.Topics)
	if h.Counted {
		b = binary.BigEndian.AppendUint64(b, h.Waiting)
	}
	return b
}

func parseHead(b []byte) (h headRow, err error) {
	switch len(b) {
	case headLen:
	case headLen + 8:
		h.Waiting, h.Counted = binary.BigEndian.Uint64(b[headLen:]), true
	default:
		return h, fmt.Errorf("%w: head row has %d bytes, want %d", ErrDamaged, len(b), headLen+8)
	}
	h.Size = binary.BigEndian.Uint64(b)
	copy(h.Root[:], b[8:])
	h.Time = binary.BigEndian.Uint64(b[40:])
	h.Covers = binary.BigEndian.Uint64(b[48:])
	copy(h.IndexRoot[:], b[56:])
	h.Topics = binary.BigEndian.Uint64(b[88:])
	return h, nil
}

// store is the truth: one Pebble database. Writes of the log go through one
// batch per commit; reads may come from anywhere.
type store struct {
	db *pebble.DB
	// Of a ledger, not of an engine alone or of fsck:
	rows   *rowCache  // the application's state
	known  *keyFilter // statement IDs
	filled *keyFilter // keys of the application's state
	// Once it is recovered:
	unused *unused // manifests that no entry names
}

// storeOptions are the settings of the truth store.
type storeOptions struct {
	fs       vfs.FS
	cache    int64
	memTable uint64
	logger   pebble.Logger
	damaged  func(error) // on data corruption that Pebble meets
	readOnly bool
	lock     *pebble.Lock
}

func (o storeOptions) pebble() *pebble.Options {
	p := &pebble.Options{
		FS:                          orderFS{o.fs},
		FormatMajorVersion:          pebble.FormatNewest, // sync offsets in the WAL: a torn tail is told from damage
		MemTableSize:                o.memTable,
		MemTableStopWritesThreshold: 2, // one more log file than that is kept to be written again
		CacheSize:                   o.cache,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       64,
		MaxOpenFiles:                512,
		Logger:                      o.logger,
		EventListener: &pebble.EventListener{
			// Without this hook, damage found in the background ends the process.
			DataCorruption: func(i pebble.DataCorruptionInfo) {
				o.damaged(fmt.Errorf("%w: %s: %v", ErrDamaged, i.Path, i.Details))
			},
		},
		ReadOnly: o.readOnly,
		Lock:     o.lock,
	}
	// The lowest level, where nearly all rows end, is packed closer: a tenth less disk.
	p.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return compressed })
	for i := range p.Levels {
		p.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		p.Levels[i].IndexBlockSize = 256 << 10 // one index for a table: a seek looks for one block less
	}
	// Cargo is written once and rarely read: keep it out of compactions.
	p.Experimental.ValueSeparationPolicy = func() pebble.ValueSeparationPolicy {
		return pebble.ValueSeparationPolicy{Enabled: true, MinimumSize: 256, MaxBlobReferenceDepth: 10,
			RewriteMinimumAge: 15 * time.Minute, TargetGarbageRatio: 0.5}
	}
	return p
}

// compressed is how the database compresses: blocks that hardly get smaller stay as
// they are. Rows of the index are hashes, in a block of which a twentieth could be
// saved, and a commit reads one for each of its topics.
var compressed = func() pebble.DBCompressionSettings {
	s := pebble.DBCompressionBalanced
	for i, p := range s.Levels {
		mine := *p
		mine.MinReductionPercent = 25
		s.Levels[i] = &mine
	}
	return s
}()

func openStore(dir string, o storeOptions) (_ *store, err error) {
	defer rescue(&err) // it also panics when it cannot write while it opens
	db, err := pebble.Open(dir, o.pebble())
	if err != nil {
		return nil, err
	}
	return &store{db: db}, nil
}

func (s *store) close() (err error) {
	defer rescue(&err) // such a panic leaves references behind, which Close then finds
	return s.db.Close()
}

// rescue turns a panic of Pebble into damage: 2.1 panics instead of returning an
// error when a blob file that it opens for a value is corrupt.
func rescue(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: a file of the database is missing or damaged (%v)", ErrDamaged, p)
	}
}

// readError is what ended an iteration early: damage, whatever Pebble calls it (a
// value of a wrong length is an assertion to it). Nil at the end of the range.
func readError(it *pebble.Iterator) error {
	if err := it.Error(); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

// get copies a value; nil and no error when there is none. Pebble tells only at
// Close that a value which lies in a file of its own could not be read.
func (s *store) get(key []byte) (val []byte, err error) {
	defer rescue(&err)
	v, c, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: reading %q: %w", ErrDamaged, key[:1], err)
	}
	out := append(make([]byte, 0, len(v)), v...)
	if err := c.Close(); err != nil {
		return nil, fmt.Errorf("%w: reading %q: %w", ErrDamaged, key[:1], err)
	}
	return out, nil
}

// must is get where absence means damage.
func (s *store) must(key []byte, format string, a ...any) ([]byte, error) {
	v, err := s.get(key)
	if err == nil && v == nil {
		err = fmt.Errorf("%w: "+format+" is missing", append([]any{ErrDamaged}, a...)...)
	}
	return v, err
}

func (s *store) head() (headRow, error) {
	b, err := s.get(metaHead)
	if err != nil || b == nil {
		return headRow{}, err
	}
	return parseHead(b)
}

func (s *store) tile(id tileID) ([]byte, error) {
	return s.must(tileKey(id), "tile %d of level %d", id.n, id.level)
}

// record is a stored entry.
type record struct {
	entry.Entry
	manifest entry.Hash // zero if none
}

func recordLen(cargo []byte, manifest entry.Hash) int {
	if manifest.IsZero() {
		return 1 + len(cargo)
	}
	return 1 + len(manifest) + len(cargo)
}

// putRecord writes a keyEntry row of recordLen bytes.
func putRecord(b, cargo []byte, manifest entry.Hash) {
	b[0] = 0
	if !manifest.IsZero() {
		b[0] = flagManifest
		copy(b[1:], manifest[:])
	}
	copy(b[len(b)-len(cargo):], cargo)
}

func parseRecord(b []byte) (r record, err error) {
	switch {
	case len(b) > 33 && b[0] == flagManifest:
		copy(r.manifest[:], b[1:])
		b = b[33:]
	case len(b) > 0 && b[0] == 0:
		b = b[1:]
	default:
		return r, fmt.Errorf("%w: entry row of %d bytes", ErrDamaged, len(b))
	}
	if r.Entry, err = entry.ParseCargo(b); err != nil {
		return r, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return r, nil
}

func (s *store) record(i uint64) (record, error) {
	b, err := s.must(keyU64(keyEntry, i), "entry %d", i)
	if err != nil {
		return record{}, err
	}
	r, err := parseRecord(b)
	if err != nil {
		return record{}, fmt.Errorf("entry %d: %w", i, err)
	}
	return r, nil
}

// statement looks an ID up.
func (s *store) statement(id entry.Hash) (index uint64, effect string, ok bool, err error) {
	v, err := s.get(keyHash(keyID, id))
	if err != nil || v == nil {
		return 0, "", false, err
	}
	if len(v) < 8 {
		return 0, "", false, fmt.Errorf("%w: row of statement %s has %d bytes", ErrDamaged, id, len(v))
	}
	return binary.BigEndian.Uint64(v), string(v[8:]), true, nil
}

func (s *store) manifest(sum entry.Hash) ([]byte, error) {
	b, err := s.get(keyHash(keyManifest, sum))
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, fmt.Errorf("%w: manifest %s", ErrNotFound, sum)
	}
	if sha256.Sum256(b) != sum {
		return nil, fmt.Errorf("%w: manifest %s has another digest", ErrDamaged, sum)
	}
	return b, nil
}

// scan calls fn for rows of one key space with numbers in [from, to), which must
// all be there.
func (s *store) scan(space byte, from, to uint64, fn func(n uint64, v []byte) error) (err error) {
	defer rescue(&err)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: keyU64(space, from), UpperBound: keyU64(space, to)})
	if err != nil {
		return err
	}
	defer it.Close()
	n := from
	for ok := it.First(); ok; ok = it.Next() {
		if k := it.Key(); len(k) != 9 || binary.BigEndian.Uint64(k[1:]) != n {
			break
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("%w: row %c %d: %w", ErrDamaged, space, n, err)
		}
		if err := fn(n, v); err != nil {
			return err
		}
		n++
	}
	if err := it.Error(); err != nil {
		return fmt.Errorf("%w: row %c %d: %w", ErrDamaged, space, n, err)
	}
	if n != to {
		return fmt.Errorf("%w: row %c %d is missing", ErrDamaged, space, n)
	}
	return nil
}

// loadEdge rebuilds the tree's right border: leaves of the partial tile, and the
// roots of full tiles below each partial one.
func (s *store) loadEdge(size uint64) (*edge, error) {
	e := &edge{size: size}
	for l := 0; l < maxLevels && size>>(tileHeight*l) > 0; l++ {
		count := size >> (tileHeight * l)
		e.levels = l + 1
		at := &e.tiles[l]
		at.n, at.tile = count/tileWidth, newTile()
		if l == 0 {
			err := s.scan(keyLeaf, at.n*tileWidth, size, func(_ uint64, v []byte) error {
				at.push(entry.LeafHash(v))
				return nil
			})
			if err != nil {
				return nil, err
			}
			continue
		}
		for j := at.n * tileWidth; j < count; j++ {
			b, err := s.tile(tileID{uint8(l - 1), j})
			if err != nil {
				return nil, err
			}
			t, err := readTile(b)
			if err != nil {
				return nil, err
			}
			at.push(t.root())
		}
	}
	return e, nil
}

// leaves reads stored entries back as an engine keeps them.
func (s *store) leaves(from uint64, n int) ([]Leaf, error) {
	out := make([]Leaf, n)
	err := s.scan(keyLeaf, from, from+uint64(n), func(i uint64, v []byte) error {
		if copy(out[i-from].Value[:], v) != entry.LeafSize || len(v) != entry.LeafSize {
			return fmt.Errorf("%w: leaf %d has %d bytes", ErrDamaged, i, len(v))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = s.scan(keyEntry, from, from+uint64(n), func(i uint64, v []byte) error {
		r, err := parseRecord(append([]byte(nil), v...))
		if err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		l := &out[i-from]
		if r.Leaf() != l.Value {
			return fmt.Errorf("%w: cargo of entry %d does not match its leaf", ErrDamaged, i)
		}
		l.Cargo = r.Cargo()
		if l.ID, err = identity(r.Entry); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		if !r.manifest.IsZero() {
			l.Manifest, err = s.manifest(r.manifest)
		}
		return err
	})
	return out, err
}

// identity is the ID of an entry's leaf: see Leaf.
func identity(e entry.Entry) (entry.Hash, error) {
	if e.Class == entry.Index {
		return e.LeafHash(), nil
	}
	env, err := entry.ParseEnvelope(e.Envelope)
	if err != nil {
		return entry.Hash{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return entry.StatementID(env.Payload), nil
}

func sha256Sum(b []byte) entry.Hash { return sha256.Sum256(b) }
