package rules

import (
	"crypto/sha256"
	"encoding/binary"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// Geodesy in integers: degrees in E7, distances in metres, on a sphere.

const (
	earthRadius = 6_371_000 // metres
	e7          = 10_000_000
)

// geodataDigest is the digest of the committed tables.
func geodataDigest() entry.Hash {
	b := []byte("fabtrail/geodata/v1\n")
	for _, s := range sineTable {
		b = binary.BigEndian.AppendUint32(b, uint32(s))
	}
	return sha256.Sum256(b)
}

// sine returns the sine of an angle in E7 degrees, in units of 2^-30. It is linear
// between the table's entries: at most 2 m off on the ground.
func sine(angle int64) int64 {
	const full = 360 * e7
	angle = ((angle % full) + full) % full
	sign := int64(1)
	if angle >= full/2 {
		angle, sign = angle-full/2, -1
	}
	if angle > full/4 {
		angle = full/2 - angle
	}
	// Position in the table, scaled by 90 degrees so that nothing is lost.
	scaled := angle * 1024
	i, rest := scaled/(full/4), scaled%(full/4)
	if i == 1024 {
		return sign * int64(sineTable[1024])
	}
	a, b := int64(sineTable[i]), int64(sineTable[i+1])
	return sign * (a + (b-a)*rest/(full/4))
}

func cosine(angle int64) int64 { return sine(angle + 90*e7) }

// chord is the straight distance between two points through the ball, in metres:
// never longer than any way between them on the ground.
func chord(lat1, lng1, lat2, lng2 int32) int64 {
	x1, y1, z1 := vector(lat1, lng1)
	x2, y2, z2 := vector(lat2, lng2)
	dx, dy, dz := x1-x2, y1-y2, z1-z2
	return int64(root(uint64(dx*dx+dy*dy+dz*dz))) * earthRadius >> 30
}

// vector is the unit vector of a point, in units of 2^-30.
func vector(lat, lng int32) (x, y, z int64) {
	c := cosine(int64(lat))
	return c * cosine(int64(lng)) >> 30, c * sine(int64(lng)) >> 30, sine(int64(lat))
}

// root is the integer square root, rounded down.
func root(n uint64) uint64 {
	var r uint64
	for bit := uint64(1) << 62; bit > 0; bit >>= 2 {
		if n >= r+bit {
			n -= r + bit
			r = r>>1 + bit
		} else {
			r >>= 1
		}
	}
	return r
}
