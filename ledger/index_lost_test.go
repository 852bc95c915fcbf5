package ledger_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/ledger"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestLostTopics: rows of topics that no commitment covers yet are missed when they are
// lost altogether, each and all of them, by the next start and by fsck. A database that
// does not say how many there are still opens.
func TestLostTopics(t *testing.T) {
	image := indexImage(t)
	rows := indexRows(t, clone(image))['p']
	if len(rows) < 3 {
		t.Fatalf("%d rows of topics", len(rows))
	}
	lost := func(fs vfs.FS, keys ...indexRow) {
		onRows(t, fs, func(db *pebble.DB) {
			for _, k := range keys {
				if err := db.Delete(k.key, pebble.Sync); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	for _, gone := range [][]indexRow{rows[:1], rows[1:2], rows[len(rows)-1:], rows} {
		fs := clone(image)
		lost(fs, gone...)
		cfg := config(fs)
		cfg.Logf = func(string, ...any) {}
		rep, err := ledger.Fsck(context.Background(), ledger.FsckConfig{Dir: cfg.Dir, Origin: origin, Key: cfg.Signer.VKey(), FS: fs, Progress: func(string, uint64, uint64) {}})
		if err != nil || len(rep.Damage) == 0 {
			t.Errorf("%d rows lost: fsck finds nothing: %v", len(gone), err)
		}
		l, err := ledger.Open(context.Background(), cfg)
		if err == nil {
			t.Errorf("%d rows lost: the ledger opens", len(gone))
			_ = l.Close()
		} else if !errors.Is(err, ledger.ErrDamaged) || !strings.Contains(err.Error(), "topics in the database, want") {
			t.Errorf("%d rows lost: %v", len(gone), err)
		}
	}

	fs := clone(image)
	onRows(t, fs, func(db *pebble.DB) {
		v, c, err := db.Get([]byte("mh"))
		if err != nil {
			t.Fatal(err)
		}
		old := append([]byte(nil), v[:len(v)-8]...)
		if err := errors.Join(c.Close(), db.Set([]byte("mh"), old, pebble.Sync)); err != nil {
			t.Fatal(err)
		}
	})
	l := open(t, config(fs))
	if n := indexTrue(t, "with the head row of before", l.Published()); n > 0 {
		t.Errorf("%d lists refused", n)
	}
	shut(t, l)
}
