package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// indexImage is a ledger that stopped with every kind of row that the index has:
// lists, full chunks of a long one, and topics that no commitment covers yet.
func indexImage(t testing.TB) *vfs.MemFS {
	t.Helper()
	mem := vfs.NewCrashableMem()
	l := open(t, config(mem))
	var subs []ledger.Submission
	for i := range 300 {
		subs = append(subs, ledgertest.Submission(fmt.Sprintf("%d\ntopic t%d\ntopic t%d\ntopic all", i, i%7, i*i%23)))
	}
	l.Append(context.Background(), subs)
	shut(t, l)
	cfg := config(mem)
	cfg.PublishEvery, cfg.MaxBatch = time.Hour, 1
	var image *vfs.MemFS
	var asked atomic.Int32
	cfg.Clock = func() time.Time {
		if asked.Add(1) == 12 { // some of the entries below, and no commitment to their topics
			image = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
		}
		return ledgertest.NewClock().Now()
	}
	l = open(t, cfg)
	subs = nil
	for i := range 20 {
		subs = append(subs, ledgertest.Submission(fmt.Sprintf("later %d\ntopic t%d\ntopic new%d", i, i%3, i)))
	}
	l.Append(context.Background(), subs)
	shut(t, l)
	return image
}

// indexTrue is ledgertest.CheckIndex. It returns how many lists were refused as damaged.
func indexTrue(t testing.TB, what string, v *ledger.View) (refused int) {
	t.Helper()
	refused, err := ledgertest.CheckIndex(v)
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	return refused
}

// indexSpaces are the first bytes of the keys of the index's rows: a topic's list, a
// full chunk of a long one, topics of entries that no commitment covers yet.
var indexSpaces = []byte{'r', 'R', 'p'}

// TestFlippedIndexRows flips bits of keys and values of rows of every kind that the
// index has. Fsck finds each; no list is served that is not true, and no commitment
// is made that is not, now or after the next entry. The tests flip every 197th bit,
// FABTRAIL_ROWSTRIDE=1 all.
func TestFlippedIndexRows(t *testing.T) {
	image := indexImage(t)
	rows := indexRows(t, clone(image))
	stride := number(t, "FABTRAIL_ROWSTRIDE", 197*sparse())
	bit, stopped, refused := 0, 0, 0
	for _, space := range indexSpaces {
		flips, first := 0, 0
		for _, row := range rows[space] {
			size := 8 * (len(row.key) + len(row.value))
			for ; bit < size; bit += stride {
				flips++
				if bit < 8 {
					first++
				}
				s, r := flipRow(t, clone(image), row, bit)
				stopped, refused = stopped+s, refused+r
			}
			bit -= size
		}
		t.Logf("rows %c: %d bits flipped in %d rows, %d of them in the byte that says what the row is", space, flips, len(rows[space]), first)
		if flips == 0 {
			t.Errorf("no bit of rows %c was flipped", space)
		}
	}
	t.Logf("%d starts or appends refused, %d lists", stopped, refused)
	if stopped == 0 || refused == 0 {
		t.Error("nothing was refused")
	}
}

type indexRow struct{ key, value []byte }

// indexRows are the first rows of each kind, and the list whose chunks are among them.
func indexRows(t testing.TB, fs vfs.FS) map[byte][]indexRow {
	t.Helper()
	out := map[byte][]indexRow{}
	onRows(t, fs, func(db *pebble.DB) {
		long := append([]byte{'r'}, make([]byte, len(entry.Hash{}))...)
		*(*entry.Hash)(long[1:]) = ledgertest.Topic("all")
		value, closer, err := db.Get(long)
		if err != nil {
			t.Fatal(err)
		}
		out['r'] = append(out['r'], indexRow{long, bytes.Clone(value)})
		if err := closer.Close(); err != nil {
			t.Fatal(err)
		}
		for _, space := range indexSpaces {
			it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{space}, UpperBound: []byte{space + 1}})
			if err != nil {
				t.Fatal(err)
			}
			for ok := it.First(); ok && len(out[space]) < 8; ok = it.Next() {
				if bytes.Equal(it.Key(), long) {
					continue
				}
				out[space] = append(out[space], indexRow{bytes.Clone(it.Key()), bytes.Clone(it.Value())})
			}
			if err := it.Close(); err != nil {
				t.Fatal(err)
			}
			if len(out[space]) == 0 {
				t.Fatalf("there is no row %c", space)
			}
		}
	})
	return out
}

func onRows(t testing.TB, fs vfs.FS, fn func(*pebble.DB)) {
	t.Helper()
	db, err := pebble.Open("log/truth", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatNewest, Logger: quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	fn(db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestIndexRowsOfOtherLengths puts a row among those of the lists whose key is no topic.
// Fsck names it, and nothing is served of it.
func TestIndexRowsOfOtherLengths(t *testing.T) {
	image := indexImage(t)
	row := indexRows(t, clone(image))['r'][0]
	for _, n := range []int{8, 31, 33, 64} {
		fs := clone(image)
		onRows(t, fs, func(db *pebble.DB) {
			if err := db.Set(append([]byte{'r'}, bytes.Repeat([]byte{0x5a}, n)...), row.value, pebble.Sync); err != nil {
				t.Fatal(err)
			}
		})
		cfg := config(fs)
		cfg.Logf = func(string, ...any) {}
		what := fmt.Sprintf("a key of %d bytes", n)
		rep, err := ledger.Fsck(context.Background(), ledger.FsckConfig{Dir: cfg.Dir, Origin: origin, Key: cfg.Signer.VKey(), FS: fs, Progress: func(string, uint64, uint64) {}})
		if err != nil || !slices.ContainsFunc(rep.Damage, func(d ledger.Damage) bool { return strings.HasPrefix(d.Class, "index") }) {
			t.Errorf("%s: fsck says %v, %v", what, rep.Damage, err)
		}
		l, err := ledger.Open(context.Background(), cfg)
		if err != nil {
			if !errors.Is(err, ledger.ErrDamaged) {
				t.Errorf("%s: %v", what, err)
			}
			continue
		}
		indexTrue(t, what, l.Published())
		_ = l.Close() // what it has met by then it says again
	}
}

// flipRow flips one bit of a row, of its key or of its value, and looks at what comes
// of it.
func flipRow(t testing.TB, fs *vfs.MemFS, row indexRow, bit int) (stopped, refused int) {
	t.Helper()
	what := fmt.Sprintf("bit %d of row %c %x", bit, row.key[0], row.key[1:])
	onRows(t, fs, func(db *pebble.DB) {
		b := append(bytes.Clone(row.key), row.value...)
		b[bit/8] ^= 1 << (bit % 8)
		key, value := b[:len(row.key)], b[len(row.key):]
		if err := errors.Join(db.Delete(row.key, pebble.Sync), db.Set(key, value, pebble.Sync)); err != nil {
			t.Fatal(err)
		}
	})
	cfg := config(fs)
	cfg.Logf = func(string, ...any) {}
	rep, err := ledger.Fsck(context.Background(), ledger.FsckConfig{Dir: cfg.Dir, Origin: origin, Key: cfg.Signer.VKey(), FS: fs, Progress: func(string, uint64, uint64) {}})
	if err != nil || len(rep.Damage) == 0 {
		t.Errorf("%s: fsck finds nothing: %v", what, err)
	}
	l, err := ledger.Open(context.Background(), cfg)
	if err != nil {
		if !errors.Is(err, ledger.ErrDamaged) && !strings.Contains(err.Error(), "refusing to sign") {
			t.Errorf("%s: %v", what, err)
		}
		return 1, 0
	}
	refused = indexTrue(t, what, l.Published())
	var b strings.Builder
	for i := range 23 { // an entry of all topics: it reads every bucket
		fmt.Fprintf(&b, "\ntopic t%d", i)
	}
	if r := l.Append(context.Background(), []ledger.Submission{ledgertest.Submission("one more\ntopic all" + b.String())})[0]; r.Err != nil {
		stopped = 1
	} else {
		refused += indexTrue(t, what+", an entry later", l.Published())
	}
	_ = l.Close() // a ledger that has stopped says so again
	return stopped, refused
}
