package unitindex

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// Ref is one element of a topic's list: an entry's index in the log and its
// RFC 6962 leaf hash.
type Ref struct {
	Index uint64
	Leaf  entry.Hash
}

// maxCount bounds the length of a list, so that arithmetic on lengths that come
// from outside cannot overflow.
const maxCount = 1 << 62

func malformed(format string, a ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{entry.ErrMalformed}, a...)...)
}

// List is the state of a topic's list from which it can grow: its length and
// one hash per set bit of the length. The zero List is empty. A List is a value
// that is never written to: copies may be kept and grown independently, unless Read
// and Push are called, which reuse its memory.
type List struct {
	count    uint64
	frontier []entry.Hash // perfect subtrees of [0, count), largest first
}

// Count is the number of elements.
func (l List) Count() uint64 { return l.count }

// Append returns the list with refs added, in O(log n) time for one ref. The
// caller sees to it that indexes ascend strictly; a List does not keep the last.
func (l List) Append(refs ...Ref) List {
	out := l.grown(bits.Len(uint(len(refs))))
	for i := range refs {
		out.push(hashRef(refs[i]), 0)
	}
	return out
}

// Push adds one element in place.
func (l *List) Push(ref Ref) { l.push(hashRef(ref), 0) }

// Read is ReadList in place.
func (l *List) Read(b []byte) (rest []byte, err error) {
	count, hashes, rest, err := cutList(b)
	if err != nil {
		return nil, err
	}
	l.count, l.frontier = count, l.frontier[:0]
	for ; len(hashes) > 0; hashes = hashes[32:] {
		l.frontier = append(l.frontier, entry.Hash(hashes))
	}
	return rest, nil
}

// Reset makes l empty, and keeps its memory.
func (l *List) Reset() { l.count, l.frontier = 0, l.frontier[:0] }

// grown returns a copy that has room for extra hashes.
func (l List) grown(extra int) List {
	f := make([]entry.Hash, len(l.frontier), len(l.frontier)+extra)
	copy(f, l.frontier)
	return List{count: l.count, frontier: f}
}

// push adds a perfect subtree of 1<<level elements in place. The count must be
// a multiple of its size.
func (l *List) push(h entry.Hash, level int) {
	for c := l.count >> level; c&1 == 1; c >>= 1 {
		last := len(l.frontier) - 1
		h = hashNode(&l.frontier[last], &h)
		l.frontier = l.frontier[:last]
	}
	l.frontier = append(l.frontier, h)
	l.count += 1 << level
}

// Root is the RFC 6962 tree hash over the elements.
func (l List) Root() entry.Hash {
	n := len(l.frontier)
	if n == 0 {
		return sha256.Sum256(nil)
	}
	h := l.frontier[n-1]
	for i := n - 2; i >= 0; i-- {
		h = hashNode(&l.frontier[i], &h)
	}
	return h
}

// Value is what the index tree holds for a topic with this list.
func (l List) Value() entry.Hash {
	root := l.Root()
	return hashValue(l.count, &root)
}

// ListValue is the value of a whole list. It does not check that indexes
// ascend; CheckRefs does.
func ListValue(refs []Ref) entry.Hash { return List{}.Append(refs...).Value() }

// CheckRefs returns an error unless indexes ascend strictly, as in every list.
func CheckRefs(refs []Ref) error {
	for i := 1; i < len(refs); i++ {
		if refs[i].Index <= refs[i-1].Index {
			return malformed("entry %d follows entry %d in a list, want ascending indexes", refs[i].Index, refs[i-1].Index)
		}
	}
	return nil
}

// AppendTo appends the list's stored form to b: 33 bytes for one element.
func (l List) AppendTo(b []byte) []byte {
	b = binary.AppendUvarint(b, l.count)
	for i := range l.frontier {
		b = append(b, l.frontier[i][:]...)
	}
	return b
}

// Marshal returns the list's stored form.
func (l List) Marshal() []byte { return l.AppendTo(nil) }

// ParseList reads exactly what Marshal wrote; errors wrap entry.ErrMalformed.
func ParseList(b []byte) (List, error) {
	l, rest, err := ReadList(b)
	if err == nil && len(rest) != 0 {
		err = malformed("%d bytes after a list", len(rest))
	}
	if err != nil {
		return List{}, err
	}
	return l, nil
}

// ReadList reads a list off the front of b and returns what follows it. The
// list does not share memory with b.
func ReadList(b []byte) (List, []byte, error) {
	var l List
	rest, err := l.Read(b)
	if err != nil {
		return List{}, nil, err
	}
	return l, rest, nil
}

// ReadValue reads a stored list off the front of b and returns its value and
// what follows it. It is ReadList and Value without memory: an index store
// calls it for each row of a bucket.
func ReadValue(b []byte) (value entry.Hash, rest []byte, err error) {
	count, hashes, rest, err := cutList(b)
	if err != nil {
		return value, nil, err
	}
	if count == 0 {
		return value, nil, malformed("an empty list in a row")
	}
	n := len(hashes)
	root := entry.Hash(hashes[n-32:])
	for n -= 32; n > 0; n -= 32 {
		left := entry.Hash(hashes[n-32 : n])
		root = hashNode(&left, &root)
	}
	return hashValue(count, &root), rest, nil
}

func cutList(b []byte) (count uint64, hashes, rest []byte, err error) {
	count, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, nil, malformed("list without a length")
	}
	if n > 1 && b[n-1] == 0 {
		return 0, nil, nil, malformed("length of a list is not written in its shortest form")
	}
	if count > maxCount {
		return 0, nil, nil, malformed("list of %d elements", count)
	}
	size := bits.OnesCount64(count) * 32
	if len(b)-n < size {
		return 0, nil, nil, malformed("%d bytes missing in a list", size-(len(b)-n))
	}
	return count, b[n : n+size], b[n+size:], nil
}
