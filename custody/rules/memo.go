package rules

import (
	"encoding/binary"
	"slices"

	"fabtrail.dev/fabtrail/custody"
)

// memo is what the rules remember of a unit or load, beside the fold's own state.
type memo struct {
	// The last position from a statement that took effect.
	located  bool
	lat, lon int32
	metres   uint32
	at       int64 // claimed time, Unix ms
	index    uint64

	custodyAt int64 // claimed time of the last effective chained statement, Unix ms

	maker  string // who commissioned it
	madeAt uint64 // and when that was admitted, Unix ms

	installed   uint64 // log index of the install in force
	installedAt uint64 // and when that was admitted, Unix ms

	counter      uint64 // the device's last counter
	counterAt    int64  // claimed time of it
	counterIndex uint64 // 0 if none: entry 0 is the charter

	// lots counts what a load holds, by lot, or by product for units without a lot.
	lots []lotCount
	// unknown lists provisional findings about a serial that nobody commissioned.
	unknown []claim
}

type lotCount struct {
	lot string
	n   int64
}

type claim struct {
	index uint64
	actor string
	unit  string // that the finding's id is made of
}

// rowPrefix sets the rules' rows apart from the fold's.
const rowPrefix = "x"

func (m *memo) marshal() []byte {
	var b []byte
	num := func(n uint64) { b = binary.AppendUvarint(b, n) }
	signed := func(n int64) { b = binary.AppendVarint(b, n) }
	str := func(s string) { num(uint64(len(s))); b = append(b, s...) }
	if m.located {
		num(1)
		signed(int64(m.lat))
		signed(int64(m.lon))
		num(uint64(m.metres))
		signed(m.at)
		num(m.index)
	} else {
		num(0)
	}
	signed(m.custodyAt)
	str(m.maker)
	num(m.madeAt)
	num(m.installed)
	num(m.installedAt)
	num(m.counter)
	signed(m.counterAt)
	num(m.counterIndex)
	num(uint64(len(m.lots)))
	for _, l := range m.lots {
		str(l.lot)
		signed(l.n)
	}
	num(uint64(len(m.unknown)))
	for _, c := range m.unknown {
		num(c.index)
		str(c.actor)
		str(c.unit)
	}
	return b
}

func parseMemo(b []byte) *memo {
	m := &memo{}
	bad := false
	num := func() uint64 {
		n, w := binary.Uvarint(b)
		if w <= 0 {
			bad, b = true, nil
			return 0
		}
		b = b[w:]
		return n
	}
	signed := func() int64 {
		n, w := binary.Varint(b)
		if w <= 0 {
			bad, b = true, nil
			return 0
		}
		b = b[w:]
		return n
	}
	str := func() string {
		n := num()
		if n > uint64(len(b)) {
			bad, b = true, nil
			return ""
		}
		s := string(b[:n])
		b = b[n:]
		return s
	}
	if num() == 1 {
		m.located = true
		m.lat, m.lon, m.metres, m.at, m.index = int32(signed()), int32(signed()), uint32(num()), signed(), num()
	}
	m.custodyAt, m.maker, m.madeAt = signed(), str(), num()
	m.installed, m.installedAt = num(), num()
	m.counter, m.counterAt, m.counterIndex = num(), signed(), num()
	for n := num(); n > 0 && !bad; n-- {
		m.lots = append(m.lots, lotCount{str(), signed()})
	}
	for n := num(); n > 0 && !bad; n-- {
		m.unknown = append(m.unknown, claim{num(), str(), str()})
	}
	if bad {
		return &memo{}
	}
	return m
}

// addLot changes the count of a lot; lots stay ascending, and empty ones go.
func (m *memo) addLot(lot string, n int64) {
	if lot == "" || n == 0 {
		return
	}
	i, found := slices.BinarySearchFunc(m.lots, lot, func(l lotCount, s string) int {
		switch {
		case l.lot < s:
			return -1
		case l.lot > s:
			return 1
		}
		return 0
	})
	if !found {
		m.lots = slices.Insert(m.lots, i, lotCount{lot: lot})
	}
	m.lots[i].n += n
	if m.lots[i].n == 0 {
		m.lots = slices.Delete(m.lots, i, i+1)
	}
}

// memos are the rows touched while one entry is worked on.
type memos struct {
	st    custody.State
	rows  map[custody.UnitRef]*memo
	dirty []custody.UnitRef
}

func (ms *memos) get(ref custody.UnitRef) *memo {
	if m, ok := ms.rows[ref]; ok {
		return m
	}
	m := &memo{}
	if b := ms.st.Get(rowPrefix + ref.String()); b != nil {
		m = parseMemo(b)
	}
	ms.rows[ref] = m
	return m
}

// change returns a memo to be written back.
func (ms *memos) change(ref custody.UnitRef) *memo {
	m := ms.get(ref)
	if !slices.Contains(ms.dirty[max(0, len(ms.dirty)-2):], ref) {
		ms.dirty = append(ms.dirty, ref) // repeats do no harm
	}
	return m
}

func (ms *memos) flush() {
	written := map[custody.UnitRef]bool{}
	for _, ref := range ms.dirty {
		if !written[ref] {
			written[ref] = true
			ms.st.Set(rowPrefix+ref.String(), ms.rows[ref].marshal())
		}
	}
}
