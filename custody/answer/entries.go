package answer

import (
	"fmt"
	"sync"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// Entries keeps parsed entries of one ledger, where an index names one entry for
// good: those of parties, keys and products stand in nearly every answer. It is
// safe for concurrent use; a nil *Entries keeps nothing.
type Entries struct {
	mu         sync.Mutex
	limit      int
	young, old map[uint64]*readEntry // when young is full, it becomes old
}

type readEntry struct {
	entry  entry.Entry
	signed *custody.Signed
}

// NewEntries keeps about limit entries, those used of late.
func NewEntries(limit int) *Entries {
	return &Entries{limit: max(limit/2, 1), young: map[uint64]*readEntry{}}
}

func (es *Entries) get(index uint64, r Reader) (entry.Entry, *custody.Signed, error) {
	if e := es.find(index); e != nil {
		return e.entry, e.signed, nil
	}
	e, err := r.Entry(index)
	if err != nil {
		return e, nil, err
	}
	env, err := entry.ParseEnvelope(e.Envelope)
	if err != nil {
		return e, nil, fmt.Errorf("entry %d: %w", index, err)
	}
	st, err := custody.Parse(env.Payload)
	if err != nil {
		return e, nil, fmt.Errorf("entry %d: %w", index, err)
	}
	signed := &custody.Signed{Statement: st, Envelope: env, Bytes: e.Envelope}
	es.keep(index, &readEntry{e, signed})
	return e, signed, nil
}

func (es *Entries) find(index uint64) *readEntry {
	if es == nil {
		return nil
	}
	es.mu.Lock()
	defer es.mu.Unlock()
	e, ok := es.young[index]
	if !ok {
		if e, ok = es.old[index]; ok {
			es.add(index, e)
		}
	}
	return e
}

func (es *Entries) keep(index uint64, e *readEntry) {
	if es == nil {
		return
	}
	es.mu.Lock()
	defer es.mu.Unlock()
	es.add(index, e)
}

func (es *Entries) add(index uint64, e *readEntry) {
	if len(es.young) >= es.limit {
		es.young, es.old = map[uint64]*readEntry{}, es.young
	}
	es.young[index] = e
}
