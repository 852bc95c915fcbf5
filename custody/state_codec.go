package custody

import (
	"encoding/binary"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// The rows' encoding: fields one after the other, without names. Numbers are
// unsigned varints, strings and lists are led by their length, hashes are 32
// bytes. It is internal: rows are derived and never leave the machine.

type rowWriter struct{ b []byte }

// newRow has room for most rows.
func newRow() rowWriter { return rowWriter{b: make([]byte, 0, 96)} }

func (e *rowWriter) num(n uint64)      { e.b = binary.AppendUvarint(e.b, n) }
func (e *rowWriter) str(s string)      { e.num(uint64(len(s))); e.b = append(e.b, s...) }
func (e *rowWriter) hash(h entry.Hash) { e.b = append(e.b, h[:]...) }
func (e *rowWriter) byte(c byte)       { e.b = append(e.b, c) }
func (e *rowWriter) strs(ss []string) {
	e.num(uint64(len(ss)))
	for _, s := range ss {
		e.str(s)
	}
}

// opt writes a hash that is mostly absent in one byte when it is.
func (e *rowWriter) opt(h entry.Hash) {
	if h.IsZero() {
		e.byte(0)
		return
	}
	e.byte(1)
	e.hash(h)
}

// rowReader reads what rowWriter wrote. After the first error all reads give zero
// values: a damaged row reads as an empty one, it never panics.
type rowReader struct {
	b   []byte
	row string // all of it: strings are cut out of it, not copied one by one
	bad bool
}

func readRow(b []byte) rowReader { return rowReader{b: b, row: string(b)} }

func (d *rowReader) take(n uint64) []byte {
	if d.bad || n > uint64(len(d.b)) {
		d.bad = true
		return nil
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *rowReader) num() uint64 {
	n, w := binary.Uvarint(d.b)
	if d.bad || w <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[w:]
	return n
}

func (d *rowReader) str() string {
	n := len(d.take(d.num()))
	end := len(d.row) - len(d.b)
	return d.row[end-n : end]
}

func (d *rowReader) hash() (h entry.Hash) { copy(h[:], d.take(32)); return h }

func (d *rowReader) byte() byte {
	if p := d.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *rowReader) opt() (h entry.Hash) {
	if d.byte() == 1 {
		return d.hash()
	}
	return h
}

// count reads the length of a list whose elements take at least one byte each.
func (d *rowReader) count() int {
	n := d.num()
	if n > uint64(len(d.b)) {
		d.bad = true
		return 0
	}
	return int(n)
}

func (d *rowReader) strs() []string {
	n := d.count()
	if n == 0 {
		return nil
	}
	ss := make([]string, n)
	for i := range ss {
		ss[i] = d.str()
	}
	return ss
}
