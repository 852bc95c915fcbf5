package unitindex

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"

	"fabtrail.dev/fabtrail/ledger/entry"
	"golang.org/x/sync/errgroup"
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
// are not r's wrap entry.ErrMalformed. What is large is hashed on all processors.
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
	in := upperReader{Reader: b}
	if t.n >= snapshotSplit {
		in.depth = snapshotDepth
	}
	in.parse.SetLimit(runtime.GOMAXPROCS(0))
	top, err := in.read(0)
	if perr := in.parse.Wait(); err == nil {
		err = perr
	}
	if err != nil {
		return nil, err
	}
	if t.top, err = top.slot(0); err != nil {
		return nil, err
	}
	if _, err := b.ReadByte(); err == nil {
		return nil, malformed("bytes after an index snapshot")
	} else if err != io.EOF {
		return nil, fmt.Errorf("index snapshot: %w", err)
	}
	return t, nil
}

const (
	// snapshotSplit is the number of topics from which on a snapshot is read in parts,
	// the subtrees at snapshotDepth.
	snapshotSplit = 1 << 16
	snapshotDepth = 6
)

// upperReader reads the top of a snapshot, and has the subtrees at a depth parsed
// beside it.
type upperReader struct {
	*bufio.Reader
	depth int
	parse errgroup.Group
}

// upper is a subtree that is being read: a node above two others, or what one part
// was parsed to.
type upper struct {
	child [2]*upper
	top   slot
}

func (r *upperReader) read(depth int) (*upper, error) {
	u := new(upper)
	tag, err := r.tag()
	if err != nil {
		return nil, err
	}
	if tag == tagNode && depth < r.depth {
		for side := range u.child {
			if u.child[side], err = r.read(depth + 1); err != nil {
				return nil, err
			}
		}
		return u, nil
	}
	part, err := r.cut(tag)
	if err != nil {
		return nil, err
	}
	r.parse.Go(func() error {
		in := snapshotReader{rest: part}
		p, err := in.slot(depth)
		if err == nil {
			u.top = in.out.slot(p)
		}
		return err
	})
	return u, nil
}

// cut reads the subtree that begins with tag, without looking into it.
func (r *upperReader) cut(tag byte) (part []byte, err error) {
	for open := 1; ; {
		part = append(part, tag)
		switch tag {
		case tagNode:
			open++
		case tagBucket:
			n := len(part)
			part = slices.Grow(part, 32)[:n+32]
			if err := readFull(r.Reader, part[n:]); err != nil {
				return nil, err
			}
			open--
		default: // the parser refuses what is no tag
			open--
		}
		if open == 0 {
			return part, nil
		}
		if tag, err = r.tag(); err != nil {
			return nil, err
		}
	}
}

func (r *upperReader) tag() (byte, error) {
	tag, err := r.ReadByte()
	if errors.Is(err, io.EOF) {
		return 0, malformed("index snapshot ends early")
	} else if err != nil {
		return 0, fmt.Errorf("index snapshot: %w", err)
	}
	return tag, nil
}

var errNoTopics = malformed("a node without topics in an index snapshot")

// slot joins what was read.
func (u *upper) slot(depth int) (slot, error) {
	if u.child[0] == nil {
		return u.top, nil
	}
	n := new(node)
	for side, c := range u.child {
		s, err := c.slot(depth + 1)
		if err != nil {
			return slot{}, err
		}
		n.set(side, s)
	}
	s := n.up(depth)
	if s.node == nil {
		return slot{}, errNoTopics
	}
	return s, nil
}

// snapshotReader parses one part of a snapshot.
type snapshotReader struct {
	rest []byte
	out  builder
}

func (r *snapshotReader) slot(depth int) (part, error) {
	if len(r.rest) == 0 {
		return part{}, malformed("index snapshot ends early")
	}
	tag := r.rest[0]
	r.rest = r.rest[1:]
	switch {
	case tag == tagNone:
		return r.out.bucket(entry.Hash{}), nil
	case tag == tagBucket:
		h := entry.Hash(r.rest[:32])
		if r.rest = r.rest[32:]; h.IsZero() {
			return part{}, malformed("a bucket without a hash in an index snapshot")
		}
		return r.out.bucket(h), nil
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
		return part{}, errNoTopics
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
