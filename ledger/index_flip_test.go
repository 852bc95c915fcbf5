package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"fabtrail.dev/fabtrail/ledger/unitindex"
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

// topicsOf are the topics of an entry of ledgertest's App.
func topicsOf(t testing.TB, e entry.Entry) (out []entry.Hash) {
	t.Helper()
	if e.Class == entry.Index {
		return nil
	}
	env, err := entry.ParseEnvelope(e.Envelope)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(env.Payload)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "topic" {
			out = append(out, ledgertest.Topic(f[1]))
		}
	}
	return out
}

// indexTrue holds what a view says to the index made anew from its entries: the
// commitment is true, and each list that is answered is. It returns how many were
// refused as damaged.
func indexTrue(t testing.TB, what string, v *ledger.View) (refused int) {
	t.Helper()
	mem := unitindex.NewMemIndex()
	lists := map[entry.Hash][]unitindex.Ref{ledgertest.Topic("never"): nil}
	for i := range v.Size() - 1 {
		e, err := v.Entry(i)
		if err != nil {
			t.Fatal(err)
		}
		for _, topic := range topicsOf(t, e) {
			ref := unitindex.Ref{Index: i, Leaf: e.LeafHash()}
			if n := len(lists[topic]); n > 0 && lists[topic][n-1] == ref {
				continue
			}
			lists[topic] = append(lists[topic], ref)
			if err := mem.Append(topic, ref); err != nil {
				t.Fatal(err)
			}
		}
	}
	root, err := mem.Commit()
	if err != nil {
		t.Fatal(err)
	}
	last, err := v.Entry(v.Size() - 1)
	if err != nil || last.IndexRoot != root {
		t.Errorf("%s: the commitment at size %d is false: %v", what, v.Size(), err)
	}
	for topic, want := range lists {
		refs, p, err := v.List(topic)
		if err != nil {
			if !errors.Is(err, ledger.ErrDamaged) {
				t.Errorf("%s: %v", what, err)
			}
			refused++
			continue
		}
		value, present, err := unitindex.Verify(root, topic, p)
		if err != nil || present != (len(want) > 0) || len(refs) != len(want) || present && (value != unitindex.ListValue(want) || value != unitindex.ListValue(refs)) {
			t.Errorf("%s: topic %s: %d of %d entries, present %t: %v", what, topic, len(refs), len(want), present, err)
		}
	}
	return refused
}

// TestFlippedIndexRows flips bits of keys and values of rows of every kind that the
// index has. Fsck finds each; no list is served that is not true, and no commitment
// is made that is not, now or after the next entry. The tests flip every 197th bit,
// FABTRAIL_ROWSTRIDE=1 all.
func TestFlippedIndexRows(t *testing.T) {
	image := indexImage(t)
	rows := indexRows(t, clone(image))
	for _, space := range []byte{'r', 'R', 'p'} {
		if len(rows[space]) == 0 {
			t.Fatalf("no row %c among %d kinds", space, len(rows))
		}
	}
	stride := number(t, "FABTRAIL_ROWSTRIDE", 197*sparse())
	bit, flips, stopped, refused := 0, 0, 0, 0
	for space, of := range rows {
		for _, row := range of {
			for ; bit < 8*(len(row.key)-1+len(row.value)); bit += stride {
				flips++
				s, r := flipRow(t, clone(image), row, bit)
				stopped, refused = stopped+s, refused+r
			}
			bit -= 8 * (len(row.key) - 1 + len(row.value))
		}
		if flips == 0 {
			t.Errorf("no bit of rows %c was flipped", space)
		}
	}
	t.Logf("%d bits flipped in %d, %d and %d rows: %d starts or appends refused, %d lists", flips, len(rows['r']), len(rows['R']), len(rows['p']), stopped, refused)
	if stopped == 0 || refused == 0 {
		t.Error("nothing was refused")
	}
}

type indexRow struct{ key, value []byte }

// indexRows are the first rows of each kind.
func indexRows(t testing.TB, fs vfs.FS) map[byte][]indexRow {
	t.Helper()
	out := map[byte][]indexRow{}
	onRows(t, fs, func(db *pebble.DB) {
		for _, space := range []byte{'r', 'R', 'p'} {
			it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{space}, UpperBound: []byte{space + 1}})
			if err != nil {
				t.Fatal(err)
			}
			for ok := it.First(); ok && len(out[space]) < 8; ok = it.Next() {
				out[space] = append(out[space], indexRow{bytes.Clone(it.Key()), bytes.Clone(it.Value())})
			}
			if err := it.Close(); err != nil {
				t.Fatal(err)
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

// flipRow flips one bit of a row, of its key behind the first byte or of its value,
// and looks at what comes of it.
func flipRow(t testing.TB, fs *vfs.MemFS, row indexRow, bit int) (stopped, refused int) {
	t.Helper()
	what := fmt.Sprintf("bit %d of row %c %x", bit, row.key[0], row.key[1:])
	onRows(t, fs, func(db *pebble.DB) {
		b := append(bytes.Clone(row.key), row.value...)
		b[1+bit/8] ^= 1 << (bit % 8)
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
