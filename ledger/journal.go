package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/transparency-dev/merkle/compact"
)

const (
	segmentSuffix = ".journal"
	// bodyTarget keeps the bodies of leaves records far below maxBody.
	bodyTarget = 8 << 20
)

var ranges = compact.RangeFactory{Hash: func(l, r []byte) []byte {
	h := hashChildren((*entry.Hash)(l), (*entry.Hash)(r))
	return h[:]
}}

// pushLeaf appends a leaf to a range.
func pushLeaf(r *compact.Range, leaf *[entry.LeafSize]byte) error {
	h := entry.LeafHash(leaf[:])
	return r.Append(h[:], nil)
}

func rangeOf(size uint64, frontier []entry.Hash) (*compact.Range, error) {
	hs := make([][]byte, len(frontier))
	for i := range frontier {
		hs[i] = frontier[i][:]
	}
	return ranges.NewRange(0, size, hs)
}

func rangeRoot(r *compact.Range) (entry.Hash, error) {
	if r.End() == 0 {
		return checkpoint.EmptyRoot, nil
	}
	h, err := r.GetRootHash(nil)
	if err != nil {
		return entry.Hash{}, err
	}
	return entry.Hash(h), nil
}

// history is what the journal knew when it was opened.
type history struct {
	segments []uint64
	newest   uint64 // newest segment with a record
	exists   bool
	base     jbase  // of the oldest segment
	leaves   []Leaf // from base.size on
	roots    map[uint64]entry.Hash
	signed   []byte   // newest signed checkpoint: the high-water mark
	cosigned [][]byte // published notes, oldest first
	epoch    uint64
	chain    entry.Hash
	rng      *compact.Range
	// torn is where the journal ends in bytes that are no record: a write that a
	// crash cut short, or damage to its last record, which looks the same.
	torn *damage
}

func (h *history) size() uint64 { return h.base.size + uint64(len(h.leaves)) }

func segmentName(n uint64) string { return fmt.Sprintf("%016d%s", n, segmentSuffix) }

// readJournal reads every segment strictly. With an error, which is *damage when
// a file is not what was written, it returns what could be read before it.
func readJournal(fs vfs.FS, dir string) (*history, error) {
	h := &history{roots: map[uint64]entry.Hash{}}
	names, err := fs.List(dir)
	if err != nil {
		return h, err
	}
	for _, name := range names {
		digits, ok := strings.CutSuffix(name, segmentSuffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 64)
		if err != nil || segmentName(n) != name {
			return h, fmt.Errorf("%w: %s is no name of a journal file", ErrDamaged, fs.PathJoin(dir, name))
		}
		h.segments = append(h.segments, n)
	}
	slices.Sort(h.segments)
	var prev *entry.Hash
	for i, n := range h.segments {
		path := fs.PathJoin(dir, segmentName(n))
		if i > 0 && n != h.segments[i-1]+1 {
			n = h.segments[i-1] + 1
			return h, &damage{segment: n, file: fs.PathJoin(dir, segmentName(n)), reason: "the file is missing, and later ones are there"}
		}
		b, err := readFile(fs, path)
		if err != nil {
			return h, err
		}
		recs, bad := scanSegment(n, b, prev)
		if len(recs) > 0 {
			h.newest = n
		} else if bad == nil && i < len(h.segments)-1 {
			bad = &damage{reason: "the file is empty, and later ones are there"}
		}
		at := 0
		for j := range recs {
			if err := h.apply(&recs[j], n); err != nil {
				return h, &damage{segment: n, file: path, offset: at, reason: err.Error()}
			}
			at += recHeader + len(recs[j].body) + recTrailer
			prev = &recs[j].chain
		}
		if bad != nil {
			bad.segment, bad.file = n, path
			if !bad.torn {
				return h, bad
			}
			h.torn = bad
		}
	}
	return h, nil
}

func readFile(fs vfs.FS, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}

// apply takes one record into the history.
func (h *history) apply(r *jrecord, segment uint64) error {
	h.chain = r.chain
	switch r.typ {
	case recBase:
		return h.applyBase(r.body, segment)
	case recLeaves:
		first, leaves, err := parseLeaves(r.body)
		if err != nil {
			return err
		}
		if first != h.size() {
			return fmt.Errorf("it has leaves from %d on after %d leaves", first, h.size())
		}
		for i := range leaves {
			if err := pushLeaf(h.rng, &leaves[i].Value); err != nil {
				return err
			}
		}
		h.leaves = append(h.leaves, leaves...)
		root, err := rangeRoot(h.rng)
		h.roots[h.size()] = root
		return err
	case recSigned:
		h.signed = r.body
	case recCosigned:
		h.cosigned = append(h.cosigned, r.body)
	case recEpoch:
		if len(r.body) != 8 {
			return errors.New("epoch record has a wrong length")
		}
		h.epoch = binary.BigEndian.Uint64(r.body)
	}
	return nil
}

func (h *history) applyBase(body []byte, segment uint64) error {
	b, err := parseBase(body)
	if err != nil {
		return err
	}
	if b.segment != segment {
		return fmt.Errorf("the file says that it is segment %d", b.segment)
	}
	rng, err := rangeOf(b.size, b.frontier)
	if err != nil {
		return err
	}
	root, err := rangeRoot(rng)
	if err != nil {
		return err
	}
	switch {
	case !h.exists:
		h.exists, h.base, h.rng = true, b, rng
		h.signed = b.signed
		if b.cosigned != nil {
			h.cosigned = append(h.cosigned, b.cosigned)
		}
	case b.size > h.size() && b.origin == h.base.origin:
		// A start found entries in the database that a crash had kept from the
		// journal, and its segment begins after them; then it was cut short
		// before it removed the segments before. It had flushed the database.
		h.base, h.rng, h.leaves = b, rng, nil
	case b.size != h.size() || root != h.root() || b.origin != h.base.origin:
		return errors.New("it does not continue the segment before")
	}
	h.epoch = max(h.epoch, b.epoch)
	h.roots[b.size] = root
	return nil
}

// root is that of the newest size; size zero without a journal.
func (h *history) root() entry.Hash {
	if h.rng == nil {
		return checkpoint.EmptyRoot
	}
	root, err := rangeRoot(h.rng)
	if err != nil {
		return entry.Hash{}
	}
	return root
}

// journal is the open, newest segment. Its mutex orders the sealer's and the
// publisher's records; nothing is written after the first error.
type journal struct {
	fs     vfs.FS
	dir    string
	origin string

	mu       sync.Mutex
	err      error // sticky
	f        vfs.File
	segment  uint64
	oldest   uint64
	off      int64
	synced   int64
	chain    entry.Hash
	rng      *compact.Range
	epoch    uint64
	signed   []byte
	cosigned []byte
	buf      []byte // of the record being written
	body     []byte // of its body
}

// startSegment begins a new segment whose base says all that the ones before
// amount to, and makes it durable. The caller holds the mutex or is alone.
func (j *journal) startSegment(n uint64) error {
	base := jbase{segment: n, epoch: j.epoch, origin: j.origin, size: j.rng.End(), signed: j.signed, cosigned: j.cosigned}
	for _, h := range j.rng.Hashes() {
		base.frontier = append(base.frontier, entry.Hash(h))
	}
	if j.f != nil {
		old := j.f
		j.f = nil
		if err := errors.Join(old.Sync(), old.Close()); err != nil {
			return err
		}
	}
	f, err := j.fs.Create(j.fs.PathJoin(j.dir, segmentName(n)), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	j.f, j.segment, j.off, j.synced = f, n, 0, 0
	if err := j.write(recBase, base.marshal()); err != nil {
		return err
	}
	if err := j.sync(); err != nil {
		return err
	}
	return syncDir(j.fs, j.dir)
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// write appends a record; the caller holds the mutex.
func (j *journal) write(typ byte, body []byte) error {
	if j.err != nil {
		return j.err
	}
	if len(body) > maxBody {
		return fmt.Errorf("journal record of %d bytes, limit %d", len(body), maxBody)
	}
	var chain entry.Hash
	j.buf, chain = appendRecord(j.buf[:0], typ, uint64(j.synced), j.chain, body)
	if n, err := j.f.Write(j.buf); err != nil || n != len(j.buf) {
		return j.broke(fmt.Errorf("writing journal: %d of %d bytes: %w", n, len(j.buf), err))
	}
	j.chain = chain
	j.off += int64(len(j.buf))
	return nil
}

// sync makes everything written durable; the caller holds the mutex.
func (j *journal) sync() error {
	if j.err != nil {
		return j.err
	}
	if err := j.f.Sync(); err != nil {
		return j.broke(fmt.Errorf("syncing journal: %w", err))
	}
	j.synced = j.off
	return nil
}

func (j *journal) broke(err error) error {
	if j.err == nil {
		j.err = fmt.Errorf("%w: %w", ErrBroken, err)
	}
	return j.err
}

// add appends leaves in records of bounded size and syncs once.
func (j *journal) add(leaves []Leaf) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.fence(); err != nil {
		return err
	}
	for len(leaves) > 0 {
		n, size := 1, leafLen(&leaves[0])
		for n < len(leaves) && size+leafLen(&leaves[n]) <= bodyTarget {
			size += leafLen(&leaves[n])
			n++
		}
		body := binary.BigEndian.AppendUint64(slices.Grow(j.body[:0], 12+size), j.rng.End())
		body = binary.BigEndian.AppendUint32(body, uint32(n))
		for i := range n {
			body = appendLeaf(body, &leaves[i])
		}
		j.body = body
		if err := j.write(recLeaves, body); err != nil {
			return err
		}
		for i := range n {
			if err := pushLeaf(j.rng, &leaves[i].Value); err != nil {
				return j.broke(err)
			}
		}
		leaves = leaves[n:]
	}
	return j.sync()
}

// sign records a signed checkpoint durably, and that it is published if no
// cosigner will be asked.
func (j *journal) sign(note []byte, publish bool) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.fence(); err != nil {
		return err
	}
	j.signed = note
	if err := j.write(recSigned, note); err != nil {
		return err
	}
	if publish {
		j.cosigned = note
		if err := j.write(recCosigned, note); err != nil {
			return err
		}
	}
	return j.sync()
}

// fence refuses when the segment has grown or gone by other hands: then another
// process has taken the log over, whatever became of the lock.
func (j *journal) fence() error {
	if j.err != nil {
		return j.err
	}
	info, err := j.fs.Stat(j.fs.PathJoin(j.dir, segmentName(j.segment)))
	if err != nil {
		return j.broke(fmt.Errorf("journal segment: %w", err))
	}
	if info.Size() != j.off {
		return j.broke(fmt.Errorf("journal segment has %d bytes where epoch %d wrote %d: another process writes it", info.Size(), j.epoch, j.off))
	}
	return nil
}

// cosign records a published note durably.
func (j *journal) cosign(note []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.fence(); err != nil {
		return err
	}
	j.cosigned = note
	if err := j.write(recCosigned, note); err != nil {
		return err
	}
	return j.sync()
}

// takeOver begins a new epoch.
func (j *journal) takeOver() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.epoch++
	if err := j.write(recEpoch, binary.BigEndian.AppendUint64(nil, j.epoch)); err != nil {
		return err
	}
	return j.sync()
}

// head returns size and root of the leaves added.
func (j *journal) head() (Head, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	root, err := rangeRoot(j.rng)
	return Head{Size: j.rng.End(), Root: root}, err
}

// rotate starts the next segment. The ones before it may go, by drop, once the
// database is flushed.
func (j *journal) rotate() (segment uint64, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return 0, j.err
	}
	if err := j.startSegment(j.segment + 1); err != nil {
		return 0, j.broke(err)
	}
	return j.segment, nil
}

// drop removes the segments before keep.
func (j *journal) drop(keep uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for ; j.oldest < keep; j.oldest++ {
		if err := j.fs.Remove(j.fs.PathJoin(j.dir, segmentName(j.oldest))); err != nil {
			return err
		}
		// One at a time, or a crash could leave a gap in the middle.
		if err := syncDir(j.fs, j.dir); err != nil {
			return err
		}
	}
	return nil
}

func (j *journal) bytes() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.off
}

func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.f == nil {
		return nil
	}
	err := j.f.Close()
	j.f = nil
	if j.err == nil {
		j.err = fmt.Errorf("%w: journal is closed", ErrBroken)
	}
	return err
}
