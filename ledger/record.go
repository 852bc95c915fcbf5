package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// The journal's bytes. A segment is a sequence of records, all integers
// big-endian:
//
//	u32 length of body | u8 type | u64 synced | previous (32) | body | u32 CRC-32C of all before
//
// previous is the SHA-256 of the record before, across segments; zero for the
// very first. synced is how many bytes of the segment were known to be on stable
// storage when the record was written: damage below it cannot be a torn write.
//
//	type 1, base (first record of a segment):
//	        version u8 = 1 | segment u64 | epoch u64 | u16 len | origin | size u64 |
//	        n u8 | frontier (32 each) | u32 len | signed note | u32 len | cosigned note
//	type 2, leaves:   first u64 | u32 n | n x ( ID (32) | leaf (34) | u32 len | cargo | u32 len | manifest )
//	type 3, signed:   a checkpoint that this log signed
//	type 4, cosigned: the same with its cosignatures, as published
//	type 5, epoch:    epoch u64, written when a process takes the log over
//
// frontier are the roots of the perfect subtrees of the first size leaves, so
// that the root at any later size follows from the journal alone. A length of
// zero says "none".
const (
	recBase     = 1
	recLeaves   = 2
	recSigned   = 3
	recCosigned = 4
	recEpoch    = 5

	recHeader  = 4 + 1 + 8 + 32
	recTrailer = 4
	// maxBody bounds a record's body, in bytes.
	maxBody = 64 << 20

	journalVersion = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// jrecord is one record of the journal.
type jrecord struct {
	typ    byte
	synced uint64
	prev   entry.Hash
	body   []byte
	chain  entry.Hash // SHA-256 of the whole record
}

// appendRecord writes a record and returns its chain hash.
func appendRecord(b []byte, typ byte, synced uint64, prev entry.Hash, body []byte) ([]byte, entry.Hash) {
	at := len(b)
	b = slices.Grow(b, recHeader+len(body)+recTrailer)
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	b = append(b, typ)
	b = binary.BigEndian.AppendUint64(b, synced)
	b = append(b, prev[:]...)
	b = append(b, body...)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b[at:], castagnoli))
	return b, sha256.Sum256(b[at:])
}

// parseRecordAt reads the record at the front of b, checking form and CRC, not
// the chain. The body shares memory with b.
func parseRecordAt(b []byte) (r jrecord, n int, err error) {
	if len(b) < recHeader+recTrailer {
		return r, 0, fmt.Errorf("%d bytes are no record", len(b))
	}
	size := binary.BigEndian.Uint32(b)
	if size > maxBody || int(size) > len(b)-recHeader-recTrailer {
		return r, 0, fmt.Errorf("record of %d bytes in %d", size, len(b))
	}
	n = recHeader + int(size) + recTrailer
	if got := binary.BigEndian.Uint32(b[n-recTrailer:]); got != crc32.Checksum(b[:n-recTrailer], castagnoli) {
		return r, 0, fmt.Errorf("record's checksum is wrong")
	}
	r.typ = b[4]
	if r.typ < recBase || r.typ > recEpoch {
		return r, 0, fmt.Errorf("record type %d", r.typ)
	}
	r.synced = binary.BigEndian.Uint64(b[5:])
	copy(r.prev[:], b[13:])
	r.body = b[recHeader : n-recTrailer]
	r.chain = sha256.Sum256(b[:n])
	return r, n, nil
}

// damage says where a journal cannot be read although it must be readable.
type damage struct {
	segment uint64
	file    string
	offset  int
	reason  string
	torn    bool // it may be a write that a crash cut short
}

func (d *damage) Error() string {
	return fmt.Sprintf("the journal file %s is damaged at byte %d: %s", d.file, d.offset, d.reason)
}

func (d *damage) Unwrap() error { return ErrDamaged }

// scanSegment reads all records of a segment; prev is the chain hash before it,
// nil if that is gone. Bytes at the end that are no record may be a write that
// a crash tore: then the damage says torn, unless a later record shows that these
// bytes were once synced. Whole records at the wrong place are never a torn
// write. The records before the damage are returned in any case.
func scanSegment(segment uint64, b []byte, prev *entry.Hash) (recs []jrecord, d *damage) {
	at := 0
	for at < len(b) {
		r, n, bad := parseRecordAt(b[at:])
		if bad != nil {
			return recs, &damage{segment: segment, offset: at, reason: bad.Error(), torn: !syncedPast(b, at)}
		}
		switch {
		case prev != nil && r.prev != *prev:
			bad = fmt.Errorf("record does not follow the one before it")
		case (r.typ == recBase) != (at == 0):
			bad = fmt.Errorf("record type %d at this place", r.typ)
		case r.synced > uint64(at):
			bad = fmt.Errorf("record claims %d synced bytes before it", r.synced)
		}
		if bad != nil {
			return recs, &damage{segment: segment, offset: at, reason: bad.Error()}
		}
		recs = append(recs, r)
		prev = &recs[len(recs)-1].chain
		at += n
	}
	return recs, nil
}

// syncedPast reports whether any whole record after offset at says that bytes
// beyond at had been synced.
func syncedPast(b []byte, at int) bool {
	for i := at + 1; i+recHeader+recTrailer <= len(b); i++ {
		// Cheap tests first: the search tries every byte.
		if b[i] > maxBody>>24 || b[i+4] < recBase || b[i+4] > recEpoch {
			continue
		}
		if s := binary.BigEndian.Uint64(b[i+5:]); s <= uint64(at) || s > uint64(i) {
			continue
		}
		if _, _, err := parseRecordAt(b[i:]); err == nil {
			return true
		}
	}
	return false
}

// jbase is the body of a base record.
type jbase struct {
	segment, epoch uint64
	origin         string
	size           uint64
	frontier       []entry.Hash
	signed         []byte // newest signed checkpoint, nil if none
	cosigned       []byte // newest published note, nil if none
}

func (j jbase) marshal() []byte {
	b := []byte{journalVersion}
	b = binary.BigEndian.AppendUint64(b, j.segment)
	b = binary.BigEndian.AppendUint64(b, j.epoch)
	b = binary.BigEndian.AppendUint16(b, uint16(len(j.origin)))
	b = append(b, j.origin...)
	b = binary.BigEndian.AppendUint64(b, j.size)
	b = append(b, byte(len(j.frontier)))
	for _, h := range j.frontier {
		b = append(b, h[:]...)
	}
	b = appendBytes(b, j.signed)
	return appendBytes(b, j.cosigned)
}

func appendBytes(b, p []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(p))), p...)
}

// fields takes fields off the front of a record's body; the first that is
// missing makes it bad for good.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) take(n int) []byte {
	if f.bad || n > len(f.b) {
		f.bad = true
		return nil
	}
	p := f.b[:n:n]
	f.b = f.b[n:]
	return p
}

func (f *fields) u8() (n byte) {
	if p := f.take(1); p != nil {
		n = p[0]
	}
	return n
}

func (f *fields) u16() (n uint16) {
	if p := f.take(2); p != nil {
		n = binary.BigEndian.Uint16(p)
	}
	return n
}

func (f *fields) u32() (n uint32) {
	if p := f.take(4); p != nil {
		n = binary.BigEndian.Uint32(p)
	}
	return n
}

func (f *fields) u64() (n uint64) {
	if p := f.take(8); p != nil {
		n = binary.BigEndian.Uint64(p)
	}
	return n
}

func (f *fields) hash() (h entry.Hash) {
	copy(h[:], f.take(32))
	return h
}

// bytes reads a length and as many bytes; nil if the length is zero.
func (f *fields) bytes() []byte {
	if n := f.u32(); n > 0 {
		return f.take(int(n))
	}
	return nil
}

func (f *fields) end(what string) error {
	if f.bad || len(f.b) != 0 {
		return fmt.Errorf("%w: journal: %s record has a wrong length", ErrDamaged, what)
	}
	return nil
}

func parseBase(b []byte) (j jbase, err error) {
	f := fields{b: b}
	if v := f.u8(); v != journalVersion {
		return j, fmt.Errorf("%w: journal version %d, want %d", ErrDamaged, v, journalVersion)
	}
	j.segment, j.epoch = f.u64(), f.u64()
	j.origin = string(f.take(int(f.u16())))
	j.size = f.u64()
	for n := int(f.u8()); n > 0; n-- {
		j.frontier = append(j.frontier, f.hash())
	}
	j.signed, j.cosigned = f.bytes(), f.bytes()
	return j, f.end("base")
}

func appendLeaf(b []byte, l *Leaf) []byte {
	b = append(b, l.ID[:]...)
	b = append(b, l.Value[:]...)
	b = appendBytes(b, l.Cargo)
	return appendBytes(b, l.Manifest)
}

func leafLen(l *Leaf) int { return 32 + entry.LeafSize + 8 + len(l.Cargo) + len(l.Manifest) }

// parseLeaves reads a leaves record; the leaves share memory with b.
func parseLeaves(b []byte) (first uint64, out []Leaf, err error) {
	f := fields{b: b}
	first = f.u64()
	for n := f.u32(); n > 0 && !f.bad; n-- {
		var l Leaf
		l.ID = f.hash()
		copy(l.Value[:], f.take(entry.LeafSize))
		l.Cargo, l.Manifest = f.bytes(), f.bytes()
		out = append(out, l)
	}
	return first, out, f.end("leaves")
}
