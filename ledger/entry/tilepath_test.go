package entry

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

func TestTilePathRefuses(t *testing.T) {
	for _, path := range []string{
		"", "/", "/tile", "/tile/", "tile/0/000", "/tile/0", "/tile/0/", "/tile//000", "/tile/0//000",
		"/tile/00/000", "/tile/01/000", "/tile/+1/000", "/tile/-1/000", "/tile/64/000", "/tile/256/000", "/tile/1e1/000",
		"/tile/0/0", "/tile/0/00", "/tile/0/0000", "/tile/0/x000", "/tile/0/x000/001", "/tile/0/000/001",
		"/tile/0/x001", "/tile/0/x001/x002", "/tile/0/X001/002", "/tile/0/x01/002", "/tile/0/x0001/002",
		"/tile/0/xx001/002", "/tile/0/x001//002", "/tile/0/x001/ 02", "/tile/0/+01", "/tile/0/0x1",
		"/tile/0/000.p", "/tile/0/000.p/", "/tile/0/000.p/0", "/tile/0/000.p/00", "/tile/0/000.p/01",
		"/tile/0/000.p/256", "/tile/0/000.p/+1", "/tile/0/000.p/1/", "/tile/0/000.p/1.p/1", "/tile/0/000.P/1",
		"/tile/entries", "/tile/entries/", "/tile/entries/0", "/tile/Entries/000", "/tile/entries/000/",
		"/tile/0/..", "/tile/0/../0/000", "/tile/0/..%2f", "/tile/0/%2e%2e", "/tile/0/000\x00", "/tile/0/000?x", "/tile/0/\\000",
		"/tile/0/x018/x446/x744/x073/x709/x551/616", // 2^64
		"/tile/0/x999/x999/x999/x999/x999/x999/999",
		"/tile/0/" + strings.Repeat("x000/", 1000) + "000",
	} {
		if p, err := ParseTilePath(path); !errors.Is(err, ErrMalformed) {
			t.Errorf("ParseTilePath(%q) = %+v, %v; want ErrMalformed", path, p, err)
		}
	}
}

// The numbering of tiles is that of x/mod's sumdb, whose paths name the tile
// height too.
func TestTilePathMatchesSumDB(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := TilePath{
			Level: uint8(rapid.IntRange(0, 63).Draw(t, "level")),
			Index: uint64(rapid.Int64Range(0, 1<<62).Draw(t, "index")),
			Width: rapid.IntRange(1, 256).Draw(t, "width"),
		}
		want := tlog.Tile{H: 8, L: int(p.Level), N: int64(p.Index), W: p.Width}.Path()
		if got := p.String(); got != "/tile/"+strings.TrimPrefix(want, "tile/8/") {
			t.Fatalf("path %s, sumdb has %s", got, want)
		}
		if back, err := ParseTilePath(p.String()); err != nil || back != p {
			t.Fatalf("ParseTilePath(%s) = %+v, %v; want %+v", p, back, err, p)
		}
	})
}

func TestTileWidthAt(t *testing.T) {
	for _, c := range []struct {
		path string
		size uint64
		want int
	}{
		// the example of the specification: a tree of size 70,000
		{"/tile/0/272", 70000, 256}, {"/tile/0/273", 70000, 112}, {"/tile/0/274", 70000, 0},
		{"/tile/1/000", 70000, 256}, {"/tile/1/001", 70000, 17}, {"/tile/2/000", 70000, 1}, {"/tile/3/000", 70000, 0},
		{"/tile/0/000", 256, 256}, {"/tile/1/000", 256, 1}, {"/tile/0/001", 256, 0},
		{"/tile/0/000", 0, 0}, {"/tile/0/000", 1, 1}, {"/tile/0/000", 255, 255}, {"/tile/1/000", 255, 0},
		{"/tile/entries/273", 70000, 112},
		{"/tile/63/000", 1<<64 - 1, 0}, {"/tile/7/000", 1<<64 - 1, 255},
		{"/tile/0/x018/x446/x744/x073/x709/x551/615", 1<<64 - 1, 0}, // index * 256 overflows
	} {
		p, err := ParseTilePath(c.path)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.WidthAt(c.size); got != c.want {
			t.Errorf("%s at size %d is %d wide, want %d", c.path, c.size, got, c.want)
		}
	}
}

func FuzzTilePath(f *testing.F) {
	for _, s := range []string{"/tile/0/000", "/tile/63/x001/x234/067.p/255", "/tile/entries/x999/999.p/1", "/tile/entries/256", "/tile/0/x000/001", "/tile/00/000"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		p, err := ParseTilePath(path)
		if err != nil {
			if !errors.Is(err, ErrMalformed) || p != (TilePath{}) {
				t.Fatalf("%q: %+v, %v", path, p, err)
			}
			return
		}
		if p.String() != path {
			t.Fatalf("%q is written %q", path, p)
		}
		if p.Width < 1 || p.Width > TileWidth || p.Level > 63 || p.Entries && p.Level != 0 {
			t.Fatalf("%q: %+v is out of range", path, p)
		}
	})
}
