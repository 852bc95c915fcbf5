package witness

// The bytes of a FileStore. All integers are big-endian; crc is CRC-32C.
//
// Journal, file journal-<generation, 16 digits>:
//
//	"fabtrail/witness/v1\n" | generation u64 | previous head (32) | count u32 | crc u32
//	records, of which the first count are the snapshot it began with:
//	  len u32 | payload | crc u32 over (head before | len | payload)
//	payload:
//	  u16 len, origin | size u64 | root (32) | u32 len, note | u32 len, stale note
//
// The head is SHA-256(header) at first and SHA-256(head | payload) after a record.
//
// Mark, file mark: two slots, at bytes 0 and 4096, written in turn, so that a torn
// write leaves the other; the valid one with the higher sequence number counts:
//
//	"fabtrail/witness-mark/v1\n" | sequence u64 | generation u64 | offset u64 | head (32) | crc u32

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"

	"fabtrail.dev/fabtrail/ledger/entry"
)

const (
	journalMagic  = "fabtrail/witness/v1\n"
	journalPrefix = "journal-"
	headerSize    = int64(len(journalMagic) + 8 + 32 + 4 + 4)
	maxRecord     = 1 << 20

	markMagic = "fabtrail/witness-mark/v1\n"
	markName  = "mark"
	slotSize  = 4096
	slotUsed  = len(markMagic) + 8 + 8 + 8 + 32 + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func crc(parts ...[]byte) (sum uint32) {
	for _, p := range parts {
		sum = crc32.Update(sum, castagnoli, p)
	}
	return sum
}

func chain(head entry.Hash, payload []byte) entry.Hash {
	return sha256.Sum256(append(head[:], payload...))
}

func (r Record) check() error {
	if r.Origin == "" || len(r.Origin) > 1<<16-1 || len(r.Note)+len(r.Stale) > maxRecord-1<<17 {
		return fmt.Errorf("record of log %.60q is out of bounds", r.Origin)
	}
	return nil
}

func (r Record) marshal() []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(r.Origin)))
	b = append(b, r.Origin...)
	b = binary.BigEndian.AppendUint64(b, r.Size)
	b = append(b, r.Root[:]...)
	for _, note := range [][]byte{r.Note, r.Stale} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(note)))
		b = append(b, note...)
	}
	return b
}

func parseRecord(b []byte) (Record, error) {
	f := fields{b: b}
	var r Record
	r.Origin = string(f.take(uint64(binary.BigEndian.Uint16(f.take(2)))))
	r.Size = binary.BigEndian.Uint64(f.take(8))
	r.Root = entry.Hash(f.take(32))
	r.Note = append([]byte(nil), f.take(uint64(binary.BigEndian.Uint32(f.take(4))))...)
	r.Stale = append([]byte(nil), f.take(uint64(binary.BigEndian.Uint32(f.take(4))))...)
	if f.short || len(f.b) != 0 || r.Origin == "" {
		return Record{}, errors.New("record is malformed")
	}
	return r, nil
}

// fields takes bytes off the front; once too few are left it yields zeros.
type fields struct {
	b     []byte
	short bool
}

func (f *fields) take(n uint64) []byte {
	if f.short || n > uint64(len(f.b)) {
		f.short = true
		return make([]byte, min(n, 32))
	}
	p := f.b[:n:n]
	f.b = f.b[n:]
	return p
}

// journal is a journal open for appending.
type journal struct {
	f      vfs.File
	gen    uint64
	offset int64
	head   entry.Hash
}

func journalName(gen uint64) string { return fmt.Sprintf("%s%016d", journalPrefix, gen) }

func createJournal(fs vfs.FS, dir string, gen uint64, prev entry.Hash, records map[string]Record) (journal, error) {
	f, err := fs.Create(fs.PathJoin(dir, journalName(gen)), vfs.WriteCategoryUnspecified)
	if err != nil {
		return journal{}, err
	}
	h := []byte(journalMagic)
	h = binary.BigEndian.AppendUint64(h, gen)
	h = append(h, prev[:]...)
	h = binary.BigEndian.AppendUint32(h, uint32(len(records)))
	h = binary.BigEndian.AppendUint32(h, crc(h))
	j := journal{f: f, gen: gen, offset: int64(len(h)), head: sha256.Sum256(h)}
	var snapshot []Record
	for _, r := range records {
		snapshot = append(snapshot, r)
	}
	slices.SortFunc(snapshot, func(a, b Record) int { return strings.Compare(a.Origin, b.Origin) })
	_, err = f.Write(h)
	if err == nil {
		err = j.append(snapshot)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = syncDir(fs, dir)
	}
	if err != nil {
		return journal{}, errors.Join(err, f.Close())
	}
	return j, nil
}

// append writes records and syncs them.
func (j *journal) append(records []Record) error {
	var b []byte
	head := j.head
	for _, r := range records {
		payload := r.marshal()
		n := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))
		b = append(append(b, n...), payload...)
		b = binary.BigEndian.AppendUint32(b, crc(head[:], n, payload))
		head = chain(head, payload)
	}
	size := int64(len(b))
	if n, err := j.f.Write(b); err != nil {
		return err
	} else if int64(n) != size {
		return io.ErrShortWrite
	}
	if err := j.f.SyncData(); err != nil {
		return err
	}
	j.offset += size
	j.head = head
	return nil
}

// content is what a journal was found to hold.
type content struct {
	gen     uint64
	records map[string]Record // latest of each origin
	head    entry.Hash        // after the last good record
	offsets []int64           // after the header and after each good record
	heads   []entry.Hash      // at those offsets
	size    int64             // of the file
	tail    error             // why reading stopped before the end; nil at the end
}

func readJournal(fs vfs.FS, dir string, gen uint64) (content, error) {
	b, err := readFile(fs, fs.PathJoin(dir, journalName(gen)))
	if err != nil {
		return content{}, err
	}
	damaged := func(format string, a ...any) error {
		return fmt.Errorf("%w: journal of generation %d: %s", ErrDamaged, gen, fmt.Sprintf(format, a...))
	}
	if int64(len(b)) < headerSize || string(b[:len(journalMagic)]) != journalMagic {
		return content{}, damaged("no header")
	}
	h, rest := b[:headerSize], b[headerSize:]
	if crc(h[:headerSize-4]) != binary.BigEndian.Uint32(h[headerSize-4:]) ||
		binary.BigEndian.Uint64(h[len(journalMagic):]) != gen {
		return content{}, damaged("header does not match its checksum or its name")
	}
	count := binary.BigEndian.Uint32(h[headerSize-8:])
	c := content{gen: gen, records: map[string]Record{}, head: sha256.Sum256(h), size: int64(len(b))}
	c.offsets, c.heads = []int64{headerSize}, []entry.Hash{c.head}
	for len(rest) > 0 {
		payload, n, err := nextRecord(rest, c.head)
		var r Record
		if err == nil {
			r, err = parseRecord(payload)
		}
		if err != nil {
			c.tail = err
			break
		}
		rest = rest[n:]
		c.records[r.Origin] = r
		c.head = chain(c.head, payload)
		c.offsets = append(c.offsets, c.offsets[len(c.offsets)-1]+int64(n))
		c.heads = append(c.heads, c.head)
	}
	if good := len(c.offsets) - 1; uint64(good) < uint64(count) {
		return content{}, damaged("%d of %d records of its snapshot are good", good, count)
	}
	return c, nil
}

func nextRecord(b []byte, head entry.Hash) (payload []byte, size int, err error) {
	if len(b) < 8 {
		return nil, 0, errors.New("record is cut off")
	}
	n := binary.BigEndian.Uint32(b)
	if n > maxRecord || int(n)+8 > len(b) {
		return nil, 0, errors.New("record is cut off")
	}
	payload = b[4 : 4+n]
	if crc(head[:], b[:4], payload) != binary.BigEndian.Uint32(b[4+n:]) {
		return nil, 0, errors.New("record does not match its checksum")
	}
	return payload, int(n) + 8, nil
}

// listJournals returns the generations present, ascending.
func listJournals(fs vfs.FS, dir string) ([]uint64, error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, err
	}
	var gens []uint64
	for _, name := range names {
		digits, ok := strings.CutPrefix(name, journalPrefix)
		if !ok {
			continue
		}
		gen, err := strconv.ParseUint(digits, 10, 64)
		if err != nil || journalName(gen) != name {
			return nil, fmt.Errorf("%w: unexpected file %s", ErrDamaged, name)
		}
		gens = append(gens, gen)
	}
	slices.Sort(gens)
	return gens, nil
}

func removeJournals(fs vfs.FS, dir string, keep uint64) error {
	gens, err := listJournals(fs, dir)
	if err != nil {
		return err
	}
	for _, g := range gens {
		if g == keep {
			continue
		}
		if err := fs.Remove(fs.PathJoin(dir, journalName(g))); err != nil {
			return err
		}
	}
	return nil
}

// mark is the high-water mark: up to offset of this generation's journal,
// everything was synced before an answer was given.
type mark struct {
	seq, gen uint64
	offset   int64
	head     entry.Hash
}

func (m mark) marshal() []byte {
	b := []byte(markMagic)
	b = binary.BigEndian.AppendUint64(b, m.seq)
	b = binary.BigEndian.AppendUint64(b, m.gen)
	b = binary.BigEndian.AppendUint64(b, uint64(m.offset))
	b = append(b, m.head[:]...)
	return binary.BigEndian.AppendUint32(b, crc(b))
}

func parseMark(b []byte) (mark, bool) {
	if len(b) < slotUsed || string(b[:len(markMagic)]) != markMagic {
		return mark{}, false
	}
	b = b[:slotUsed]
	body, sum := b[:slotUsed-4], b[slotUsed-4:]
	if crc(body) != binary.BigEndian.Uint32(sum) {
		return mark{}, false
	}
	body = body[len(markMagic):]
	return mark{
		seq:    binary.BigEndian.Uint64(body),
		gen:    binary.BigEndian.Uint64(body[8:]),
		offset: int64(binary.BigEndian.Uint64(body[16:])),
		head:   entry.Hash(body[24:56]),
	}, true
}

// readMark returns the mark, or false if there is no file.
func readMark(fs vfs.FS, dir string) (mark, bool, error) {
	b, err := readFile(fs, fs.PathJoin(dir, markName))
	if oserror.IsNotExist(err) {
		return mark{}, false, nil
	}
	if err != nil {
		return mark{}, false, err
	}
	m, ok := parseMark(b)
	if len(b) > slotSize {
		if m2, ok2 := parseMark(b[slotSize:]); ok2 && (!ok || m2.seq > m.seq) {
			m, ok = m2, true
		}
	}
	if !ok {
		return mark{}, false, fmt.Errorf("%w: %s holds no valid mark", ErrDamaged, fs.PathJoin(dir, markName))
	}
	return m, true, nil
}

// markFile is the mark open for writing.
type markFile struct {
	f   vfs.File
	cur mark
}

// openMark replaces whatever mark there is by m, in one step.
func openMark(fs vfs.FS, dir string, m mark) (markFile, error) {
	name := fs.PathJoin(dir, markName)
	f, err := fs.Create(name+".new", vfs.WriteCategoryUnspecified)
	if err != nil {
		return markFile{}, err
	}
	both := make([]byte, 2*slotSize)
	copy(both[(m.seq%2)*slotSize:], m.marshal())
	_, err = f.Write(both)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return markFile{}, err
	}
	if err := fs.Rename(name+".new", name); err != nil {
		return markFile{}, err
	}
	if err := syncDir(fs, dir); err != nil {
		return markFile{}, err
	}
	f, err = fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	return markFile{f: f, cur: m}, err
}

// set moves the mark and syncs it.
func (f *markFile) set(gen uint64, offset int64, head entry.Hash) error {
	m := mark{seq: f.cur.seq + 1, gen: gen, offset: offset, head: head}
	if _, err := f.f.WriteAt(m.marshal(), int64(m.seq%2)*slotSize); err != nil {
		return err
	}
	if err := f.f.SyncData(); err != nil {
		return err
	}
	f.cur = m
	return nil
}

func readFile(fs vfs.FS, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// makeDir makes a directory and those above it, and syncs the entry of each that
// is new: a store that vanished with its directory would look like a first start.
func makeDir(fs vfs.FS, dir string) error {
	if _, err := fs.Stat(dir); err == nil || !oserror.IsNotExist(err) {
		return err
	}
	parent := fs.PathDir(dir)
	if parent != dir {
		if err := makeDir(fs, parent); err != nil {
			return err
		}
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncDir(fs, parent)
}
