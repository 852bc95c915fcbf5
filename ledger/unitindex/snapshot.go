package unitindex

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// A snapshot is what Tree keeps in memory, so that a restart need not scan all
// rows: the domain, the number of topics u64, then the slots in order, the node
// before its children:
//
//	0x00 no topics | 0x01 bucket, hash (32) | 0x02 node
//
// Hashes of nodes are computed anew. A snapshot is checked by its root: the
// caller compares Root with the one that was committed for that version.
// The number of topics is not under the root.
const domainSnapshot = "fabtrail/index-snapshot/v1\n"

// WriteSnapshot writes the tree: about 4 bytes per topic.
func (t *Tree) WriteSnapshot(w io.Writer) error {
	b := bufio.NewWriterSize(w, 1<<16)
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], t.n)
	b.WriteString(domainSnapshot)
	b.Write(n[:])
	writeSlot(b, t.top)
	return b.Flush() // bufio keeps the first error
}

func writeSlot(b *bufio.Writer, s slot) {
	switch {
	case s.node != nil:
		b.WriteByte(tagNode)
		writeSlot(b, s.node.slot(0))
		writeSlot(b, s.node.slot(1))
	case s.page != "":
		for i := range int(s.page[0]) {
			tag := s.page.tag(i)
			b.WriteByte(tag)
			if tag == tagBucket {
				h := s.page.hash(i)
				b.Write(h[:])
			}
		}
	case s.hash.IsZero():
		b.WriteByte(tagNone)
	default:
		b.WriteByte(tagBucket)
		b.Write(s.hash[:])
	}
}

// ReadSnapshot reads what WriteSnapshot wrote, up to the end of r. Errors that
// are not r's wrap entry.ErrMalformed.
func ReadSnapshot(r io.Reader) (*Tree, error) {
	b := bufio.NewReaderSize(r, 1<<16)
	head := make([]byte, len(domainSnapshot)+8)
	if err := readFull(b, head); err != nil {
		return nil, err
	}
	if string(head[:len(domainSnapshot)]) != domainSnapshot {
		return nil, malformed("not an index snapshot of version 1")
	}
	t := &Tree{n: binary.BigEndian.Uint64(head[len(domainSnapshot):])}
	in := snapshotReader{Reader: b}
	top, err := in.slot(0)
	if err != nil {
		return nil, err
	}
	t.top = in.out.slot(top)
	if _, err := b.ReadByte(); err == nil {
		return nil, malformed("bytes after an index snapshot")
	} else if err != io.EOF {
		return nil, fmt.Errorf("index snapshot: %w", err)
	}
	return t, nil
}

type snapshotReader struct {
	*bufio.Reader
	out builder
}

func (r *snapshotReader) slot(depth int) (part, error) {
	tag, err := r.ReadByte()
	if errors.Is(err, io.EOF) {
		return part{}, malformed("index snapshot ends early")
	} else if err != nil {
		return part{}, fmt.Errorf("index snapshot: %w", err)
	}
	switch {
	case tag == tagNone:
		return r.out.bucket(entry.Hash{}), nil
	case tag == tagBucket:
		var h entry.Hash
		err := readFull(r.Reader, h[:])
		if err == nil && h.IsZero() {
			err = malformed("a bucket without a hash in an index snapshot")
		}
		return r.out.bucket(h), err
	case tag != tagNode || depth == topicBits:
		return part{}, malformed("tag %d at depth %d of an index snapshot", tag, depth)
	}
	at := r.out.open()
	left, err := r.slot(depth + 1)
	if err != nil {
		return part{}, err
	}
	right, err := r.slot(depth + 1)
	if err != nil {
		return part{}, err
	}
	if left.hash.IsZero() && right.hash.IsZero() {
		return part{}, malformed("a node without topics in an index snapshot")
	}
	return r.out.join(at, depth, left, right), nil
}

func readFull(b *bufio.Reader, p []byte) error {
	if _, err := io.ReadFull(b, p); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return malformed("index snapshot ends early")
	} else if err != nil {
		return fmt.Errorf("index snapshot: %w", err)
	}
	return nil
}
