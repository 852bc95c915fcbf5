package ledger

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"
)

func bareOverlay(t testing.TB) *overlay {
	t.Helper()
	db, err := pebble.Open("db", &pebble.Options{FS: vfs.NewMem(), Logger: silent{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return &overlay{s: &store{db: db, rows: newRowCache(0), filled: newKeyFilter(rowHashes(), 0)}, done: map[string][]byte{}}
}

type silent struct{ pebble.Logger }

func (silent) Infof(string, ...any) {}

// TestOverlay: however many rows the submissions of a commit write, each reads what it
// and those accepted before it wrote, and nothing of those refused.
func TestOverlay(t *testing.T) {
	o := bareOverlay(t)
	rapid.Check(t, func(t *rapid.T) {
		clear(o.done)
		want := map[string][]byte{}
		for range rapid.IntRange(1, 4).Draw(t, "submissions") {
			keys := rapid.SampledFrom([]int{3, fewWrites, fewWrites + 1, 5 * fewWrites}).Draw(t, "keys")
			mine := maps.Clone(want)
			for range rapid.IntRange(0, 3*keys).Draw(t, "steps") {
				key := fmt.Sprint("k", rapid.IntRange(0, keys).Draw(t, "key"))
				if got := o.Get(key); string(got) != string(mine[key]) {
					t.Fatalf("%s is %q, want %q", key, got, mine[key])
				}
				v := rapid.SliceOfN(rapid.Byte(), 0, 2).Draw(t, "value")
				o.Set(key, v)
				mine[key] = v
			}
			if rapid.Bool().Draw(t, "refused") {
				o.reset()
				continue
			}
			o.accept()
			want = mine
		}
		if !maps.EqualFunc(o.done, want, func(a, b []byte) bool { return string(a) == string(b) }) {
			t.Fatalf("%q, want %q", o.done, want)
		}
	})
}

// TestDecidedIsSeen: each commit is decided over all that was decided before it, however
// many of those commits are still being built.
func TestDecidedIsSeen(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := bareOverlay(t).s
		s.rows = newRowCache(rapid.SampledFrom([]int64{0, 300, 1 << 20}).Draw(rt, "cache"))
		s.filled.ready.Store(true)
		d := decider{s: s}
		var building []*commit
		want := map[string]string{}
		for range rapid.IntRange(1, 30).Draw(rt, "commits") {
			c, o := d.begin(d.size, 1)
			for range rapid.IntRange(1, 4).Draw(rt, "writes") {
				key := fmt.Sprint("k", rapid.IntRange(0, 5).Draw(rt, "key"))
				if got := string(o.Get(key)); got != want[key] {
					rt.Fatalf("%s is %q with %d commits being built, want %q", key, got, len(building), want[key])
				}
				want[key] = fmt.Sprint(len(want), key, rapid.Uint8().Draw(rt, "value"))
				o.Set(key, []byte(want[key]))
			}
			o.accept()
			c.entries = append(c.entries, admitted{})
			d.end(c, false, time.Time{})
			building = append(building, c)
			for len(building) > rapid.IntRange(0, 3).Draw(rt, "being built") {
				c := building[0]
				for k, v := range c.state { // as the builder does
					s.filled.add([]byte(k))
					if err := s.db.Set(stateKey(k), v, pebble.NoSync); err != nil {
						rt.Fatal(err)
					}
				}
				s.rows.putAll(c.state)
				c.visible.Store(true)
				building = building[1:]
			}
		}
	})
}

// BenchmarkLot is what the state costs of a statement that writes a row for each of so
// many units: the time for one unit must not depend on their number.
func BenchmarkLot(b *testing.B) {
	for _, units := range []int{1, 1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(units), func(b *testing.B) {
			keys := make([]string, units)
			for i := range keys {
				keys[i] = fmt.Sprintf("uhttps://id.gs1.org/01/09506000123455/21/C%06d", i)
			}
			o := bareOverlay(b)
			for b.Loop() {
				for _, k := range keys {
					o.Set(k, nil)
				}
				o.accept()
				clear(o.done)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(units), "ns/unit")
		})
	}
}
