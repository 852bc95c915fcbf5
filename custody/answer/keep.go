package answer

import (
	"fmt"
	"sync"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
)

// recent keeps values that were used of late: when the young ones are as many as
// the limit, they become the old ones, and those that were old go.
type recent[K comparable, V any] struct {
	limit      int
	young, old map[K]V
}

func (r *recent[K, V]) get(k K) (V, bool) {
	v, ok := r.young[k]
	if !ok {
		if v, ok = r.old[k]; ok {
			r.put(k, v)
		}
	}
	return v, ok
}

func (r *recent[K, V]) put(k K, v V) {
	if r.young == nil || len(r.young) >= r.limit {
		r.young, r.old = map[K]V{}, r.young
	}
	r.young[k] = v
}

// Entries keeps parsed entries of one ledger, where an index names one entry for
// good: those of parties, keys and products stand in nearly every answer. It is
// safe for concurrent use; a nil *Entries keeps nothing.
type Entries struct {
	mu   sync.Mutex
	kept recent[uint64, *readEntry]
}

// readEntry is an entry as it was read. Statement and envelope share memory with
// the cargo.
type readEntry struct {
	time   uint64
	cargo  []byte
	signed *custody.Signed
}

// NewEntries keeps about limit entries, those used of late.
func NewEntries(limit int) *Entries {
	return &Entries{kept: recent[uint64, *readEntry]{limit: max(limit/2, 1)}}
}

func (es *Entries) get(index uint64, r Reader) (*readEntry, error) {
	if es != nil {
		es.mu.Lock()
		e, ok := es.kept.get(index)
		es.mu.Unlock()
		if ok {
			return e, nil
		}
	}
	e, err := readOne(index, r)
	if err == nil && es != nil {
		es.mu.Lock()
		es.kept.put(index, e)
		es.mu.Unlock()
	}
	return e, err
}

func readOne(index uint64, r Reader) (*readEntry, error) {
	stored, err := r.Entry(index)
	if err != nil {
		return nil, err
	}
	cargo := stored.Cargo()
	e, err := entry.ParseCargo(cargo)
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w", index, err)
	}
	env, err := entry.ParseEnvelope(e.Envelope)
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w", index, err)
	}
	st, err := custody.Parse(env.Payload)
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w", index, err)
	}
	return &readEntry{e.Time, cargo, &custody.Signed{Statement: st, Envelope: env, Bytes: e.Envelope}}, nil
}

// Lists keeps lists with their proofs, as of one published size at a time: those of
// parties, keys and products stand in nearly every answer. It is safe for concurrent
// use; a nil *Lists keeps nothing.
type Lists struct {
	mu   sync.Mutex
	size uint64
	kept recent[entry.Topic, *topicRecord]
}

// keepRefs bounds the elements of a list that is kept.
const keepRefs = 256

// topicRecord is a topic's list at one size.
type topicRecord struct {
	refs  []unitindex.Ref
	value entry.Hash // of the list, when there are refs
	proof []byte
}

// NewLists keeps about limit lists, those used of late.
func NewLists(limit int) *Lists {
	return &Lists{kept: recent[entry.Topic, *topicRecord]{limit: max(limit/2, 1)}}
}

// get returns a topic's list as r has it. Whatever was kept of an earlier size goes;
// a reader of an earlier size neither gets nor leaves anything.
func (ls *Lists) get(t entry.Topic, r Reader) (*topicRecord, error) {
	size := r.Size()
	if ls != nil {
		ls.mu.Lock()
		if size > ls.size {
			ls.size, ls.kept.young, ls.kept.old = size, nil, nil
		}
		var tr *topicRecord
		if size == ls.size {
			tr, _ = ls.kept.get(t)
		}
		ls.mu.Unlock()
		if tr != nil {
			return tr, nil
		}
	}
	refs, proof, err := r.List(t.Hash())
	if err != nil {
		return nil, err
	}
	tr := &topicRecord{refs, proof.Value, proof.Marshal()}
	if ls != nil && len(refs) <= keepRefs {
		ls.mu.Lock()
		if size == ls.size {
			ls.kept.put(t, tr)
		}
		ls.mu.Unlock()
	}
	return tr, nil
}
