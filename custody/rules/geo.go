package rules

import (
	"encoding/binary"
	"math/bits"

	"fabtrail.dev/fabtrail/custody"
)

const (
	earthRadius = 6_371_000 // metres
	topSpeed    = 264       // metres a second: 950 km/h
	leastTrip   = 300_000   // metres; nearer places are never a finding
	slack       = 2 * 3600 * 1000
	siteRadius  = 5_000   // metres: how well a declared site's position is known
	maxRadius   = 200_000 // metres; a vaguer position is no position
)

// fix is a place at a claimed time.
type fix struct {
	lat, lon int32 // E7 degrees
	metres   int64 // uncertainty
	at       int64 // Unix milliseconds
	index    uint64
}

// place returns where the statement says it was made: its own position, else the
// one that its actor declared for the site.
func (e *engine) place() (fix, bool) {
	if e.ev.Where == nil {
		return fix{}, false
	}
	text, metres := e.ev.Where.Geo, int64(0)
	if text == "" {
		s, ok := e.site()
		if !ok || s.Geo == "" {
			return fix{}, false
		}
		text, metres = s.Geo, siteRadius
	}
	g, err := custody.ParseGeo(text)
	if err != nil {
		return fix{}, false
	}
	metres = max(metres, int64(g.Metres))
	if metres > maxRadius {
		return fix{}, false
	}
	return fix{g.Lat, g.Lon, metres, e.claimed(), e.eff.Index}, true
}

// travel holds the place of a statement against the last one of the same unit.
// Only who has a unit in hand moves its place: a stranger's sighting is judged by
// it, and never becomes what others are judged by.
func (e *engine) travel(u *custody.UnitEffect) {
	if !e.hasFix {
		return
	}
	row := rowFix + u.Unit.String()
	last, ok := loadFix(e.st, row)
	if ok && tooFast(last, e.fix) {
		e.add("TRAVEL", u.Unit, u.Actor, last.index)
		return
	}
	if u.Outcome == custody.Applied || u.Before.Party == u.Actor {
		e.fix.store(e.st, row)
	}
}

// tooFast reports whether nobody gets from a to b in the time between them, both
// uncertainties and clock slack granted.
func tooFast(a, b fix) bool {
	way := distance(a, b) - a.metres - b.metres
	if way < leastTrip {
		return false
	}
	ms := b.at - a.at
	if ms < 0 {
		ms = -ms
	}
	return way/topSpeed > (ms+slack)/1000
}

// distance is the straight line between two places in metres: at most the way
// over ground. Integers only; within 10 m of the exact chord.
func distance(a, b fix) int64 {
	ax, ay, az := unitVector(a)
	bx, by, bz := unitVector(b)
	sq := square(ax-bx) + square(ay-by) + square(az-bz) // Q60, at most 4
	return int64(isqrt(sq)) * earthRadius >> 30
}

func square(d int64) uint64 { return uint64(d * d) }

// unitVector is in Q30.
func unitVector(f fix) (x, y, z int64) {
	cosLat := sin(900_000_000 - abs(int64(f.lat)))
	x = cosLat * cos(int64(f.lon)) >> 30
	y = cosLat * sin(int64(f.lon)) >> 30
	return x, y, sin(int64(f.lat))
}

func abs(n int64) int64 {
	if n < 0 {
		return -n
	}
	return n
}

// sin of an angle in E7 degrees between -180 and 180, in Q30.
func sin(e7 int64) int64 {
	if e7 < 0 {
		return -sin(-e7)
	}
	if e7 > 900_000_000 {
		e7 = 1_800_000_000 - e7
	}
	const step = 1_000_000 // a tenth of a degree
	i, rest := e7/step, e7%step
	if rest == 0 {
		return int64(sines[i])
	}
	return int64(sines[i]) + (int64(sines[i+1])-int64(sines[i]))*rest/step
}

func cos(e7 int64) int64 { return sin(900_000_000 - abs(e7)) }

// isqrt is the integer square root, rounded down.
func isqrt(n uint64) uint64 {
	if n == 0 {
		return 0
	}
	x := uint64(1) << ((bits.Len64(n) + 1) / 2)
	for {
		y := (x + n/x) / 2
		if y >= x {
			return x
		}
		x = y
	}
}

func loadFix(st custody.State, row string) (fix, bool) {
	b := st.Get(row)
	if len(b) != 32 {
		return fix{}, false
	}
	return fix{
		lat: int32(binary.BigEndian.Uint32(b)), lon: int32(binary.BigEndian.Uint32(b[4:])),
		metres: int64(binary.BigEndian.Uint64(b[8:])), at: int64(binary.BigEndian.Uint64(b[16:])),
		index: binary.BigEndian.Uint64(b[24:]),
	}, true
}

func (f fix) store(st custody.State, row string) {
	b := binary.BigEndian.AppendUint32(nil, uint32(f.lat))
	b = binary.BigEndian.AppendUint32(b, uint32(f.lon))
	b = binary.BigEndian.AppendUint64(b, uint64(f.metres))
	b = binary.BigEndian.AppendUint64(b, uint64(f.at))
	st.Set(row, binary.BigEndian.AppendUint64(b, f.index))
}

// counter is the highest counter that a device signed.
type counter struct {
	value uint64
	at    int64
	index uint64
}

func loadCounter(st custody.State, row string) (counter, bool) {
	b := st.Get(row)
	if len(b) != 24 {
		return counter{}, false
	}
	return counter{binary.BigEndian.Uint64(b), int64(binary.BigEndian.Uint64(b[8:])), binary.BigEndian.Uint64(b[16:])}, true
}

func (c counter) store(st custody.State, row string) {
	b := binary.BigEndian.AppendUint64(nil, c.value)
	b = binary.BigEndian.AppendUint64(b, uint64(c.at))
	st.Set(row, binary.BigEndian.AppendUint64(b, c.index))
}
