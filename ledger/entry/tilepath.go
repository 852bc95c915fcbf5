package entry

import (
	"fmt"
	"strconv"
	"strings"
)

// TilePath names a tile of hashes or a bundle of entries as c2sp.org/tlog-tiles
// does:
//
//	/tile/<L>/<N>[.p/<W>]
//	/tile/entries/<N>[.p/<W>]
//
// L is 0 to 63; N is in groups of three digits, all but the last with an x before
// them, as few as hold the number; W is 1 to 255 and left out when the tile is
// full. There is one path for one tile.
type TilePath struct {
	Entries bool   // a bundle of entries; Level is then 0
	Level   uint8  // 0 to 63
	Index   uint64 // N
	Width   int    // 1 to 256; 256 is a full tile
}

const (
	tilePrefix = "/tile/"
	maxLevel   = 63
)

// String returns the path.
func (p TilePath) String() string {
	var b strings.Builder
	b.WriteString(tilePrefix)
	if p.Entries {
		b.WriteString("entries")
	} else {
		b.WriteString(strconv.Itoa(int(p.Level)))
	}
	b.WriteByte('/')
	var groups []uint64 // last first
	for n := p.Index; ; n /= 1000 {
		groups = append(groups, n%1000)
		if n < 1000 {
			break
		}
	}
	for i := len(groups) - 1; i > 0; i-- {
		fmt.Fprintf(&b, "x%03d/", groups[i])
	}
	fmt.Fprintf(&b, "%03d", groups[0])
	if p.Width != TileWidth {
		fmt.Fprintf(&b, ".p/%d", p.Width)
	}
	return b.String()
}

// ParseTilePath reads a path that String writes; anything else is an error that
// wraps ErrMalformed.
func ParseTilePath(path string) (TilePath, error) {
	p := TilePath{Width: TileWidth}
	rest, ok := strings.CutPrefix(path, tilePrefix)
	level, rest, ok2 := strings.Cut(rest, "/")
	if !ok || !ok2 {
		return TilePath{}, malformed("path %.80q is not /tile/<level>/<number>", path)
	}
	if p.Entries = level == "entries"; !p.Entries {
		l, err := strconv.ParseUint(level, 10, 8)
		if err != nil || l > maxLevel {
			return TilePath{}, malformed("tile level %.20q is not 0 to %d or entries", level, maxLevel)
		}
		p.Level = uint8(l)
	}
	number, width, partial := strings.Cut(rest, ".p/")
	if partial {
		w, err := strconv.ParseUint(width, 10, 16)
		if err != nil || w < 1 || w >= TileWidth {
			return TilePath{}, malformed("tile width %.20q is not 1 to %d", width, TileWidth-1)
		}
		p.Width = int(w)
	}
	n, err := strconv.ParseUint(strings.NewReplacer("x", "", "/", "").Replace(number), 10, 64)
	if err != nil {
		return TilePath{}, malformed("tile number %.80q", number)
	}
	p.Index = n
	if p.String() != path {
		return TilePath{}, malformed("path %.80q is not the canonical %s", path, p)
	}
	return p, nil
}

// WidthAt returns how many hashes (or entries) this tile has in a tree of the
// given size: 0 when it does not exist, else 1 to 256.
func (p TilePath) WidthAt(size uint64) int {
	for range p.Level {
		size >>= 8
	}
	first := p.Index * TileWidth
	switch {
	case p.Index > size/TileWidth || first >= size:
		return 0
	case size-first >= TileWidth:
		return TileWidth
	}
	return int(size - first)
}
