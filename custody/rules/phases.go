package rules

import (
	"encoding/binary"
	"slices"

	"github.com/go-json-experiment/json"

	"fabtrail.dev/fabtrail/custody"
)

// Phases. A provisional finding may yet be explained by a statement that is only
// late. It is withdrawn by that statement, whenever it comes, or else confirmed by
// the first statement that is admitted confirmAfter of log time later. All wait
// equally long, so they wait in a queue, in the order in which they were found:
//
//	"x" "wait"         -> number of the first, number after the last, both u64
//	"x" "wait " number -> due u64, Unix ms | finding, as JSON
//	"x" "open " id     -> number of the finding in the queue
//
// A withdrawn finding leaves a gap.
const (
	queueRow   = rowPrefix + "wait"
	waitingRow = rowPrefix + "wait "
	openRow    = rowPrefix + "open "
)

// confirmAfter is how long a finding stays provisional, in ms of log time: as long
// as a statement waits for its predecessor.
const confirmAfter = custody.PendingTTL

func numbered(prefix string, n uint64) string {
	return string(binary.BigEndian.AppendUint64([]byte(prefix), n))
}

type queue struct{ first, next uint64 }

func loadQueue(st custody.State) (q queue) {
	if b := st.Get(queueRow); len(b) == 16 {
		q.first, q.next = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	}
	return q
}

func (q queue) store(st custody.State) {
	st.Set(queueRow, binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, q.first), q.next))
}

// due confirms what has waited long enough, in the order in which it was found.
func due(st custody.State, now uint64) (found []custody.Finding) {
	q := loadQueue(st)
	begun := q.first
	for ; q.first < q.next; q.first++ {
		row := numbered(waitingRow, q.first)
		b := st.Get(row)
		if len(b) < 8 {
			continue // withdrawn
		}
		if binary.BigEndian.Uint64(b) > now {
			break
		}
		var f custody.Finding
		if json.Unmarshal(b[8:], &f) == nil { // the row is this package's own
			f.Phase = Confirmed
			found = append(found, f)
		}
		st.Set(row, nil)
		st.Set(openRow+f.ID, nil)
	}
	if q.first != begun {
		q.store(st)
	}
	return found
}

// settle queues the provisional findings of an entry, and takes those out that it
// withdraws.
func settle(st custody.State, found []custody.Finding, now uint64) {
	for i := range found {
		f := &found[i]
		switch f.Phase {
		case Provisional:
			text, err := json.Marshal(f)
			if err != nil {
				continue // a finding is text and numbers
			}
			q := loadQueue(st)
			st.Set(numbered(waitingRow, q.next), append(binary.BigEndian.AppendUint64(nil, now+confirmAfter), text...))
			st.Set(openRow+f.ID, binary.BigEndian.AppendUint64(nil, q.next))
			q.next++
			q.store(st)
		case Withdrawn:
			if n := st.Get(openRow + f.ID); len(n) == 8 {
				withdraw(st, numbered(waitingRow, binary.BigEndian.Uint64(n)), f)
			}
		}
	}
}

// withdraw takes the units of f out of the finding that waits in a row; with the last of
// them it goes.
func withdraw(st custody.State, row string, f *custody.Finding) {
	b := st.Get(row)
	var waits custody.Finding
	if len(b) < 8 || json.Unmarshal(b[8:], &waits) != nil { // the row is this package's own
		return
	}
	if waits.Units = without(waits.Units, f.Units); len(waits.Units) == 0 {
		st.Set(row, nil)
		st.Set(openRow+f.ID, nil)
		return
	}
	if text, err := json.Marshal(&waits); err == nil {
		st.Set(row, append(slices.Clone(b[:8]), text...))
	}
}

// without returns those of units that gone does not name.
func without(units, gone []custody.FindingUnit) []custody.FindingUnit {
	return slices.DeleteFunc(slices.Clone(units), func(u custody.FindingUnit) bool { return slices.Contains(gone, u) })
}
