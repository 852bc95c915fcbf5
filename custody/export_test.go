package custody

import "fabtrail.dev/fabtrail/ledger/entry"

// RowTopic shows rowTopic to tests.
func RowTopic(key string) (entry.Topic, bool) { return rowTopic(key) }

// ParseUnit and Marshal show the rows' encoding to tests.
func ParseUnit(ref UnitRef, b []byte) *Unit { return parseUnit(ref, b) }

// Marshal is the unit's row.
func (u *Unit) Marshal() []byte { return u.marshal() }
