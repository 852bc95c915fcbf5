package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/cockroachdb/pebble/v2/vfs"
	fproof "github.com/transparency-dev/formats/proof"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"
)

const origin = "ledger.test/log"

// config is a ledger in memory whose every group commit is published, on a
// clock that the test sets.
func config(fs vfs.FS) ledger.Config {
	return ledger.Config{Dir: "log", Origin: origin, Signer: ledgertest.LogSigner(origin), App: ledgertest.App{},
		FS: fs, Clock: ledgertest.NewClock().Now, Rand: ledgertest.Salts(1), PublishEvery: -1, Manual: true,
		DiskFree: func() (uint64, uint64, error) { return 1 << 40, 1 << 40, nil },
		Fatal:    func(msg string) { panic(msg) }, MemTable: 1 << 20, BlockCache: 1 << 20, CacheBytes: 1 << 20}
}

func open(t testing.TB, cfg ledger.Config) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func shut(t testing.TB, l *ledger.Ledger) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func one(t testing.TB, l *ledger.Ledger, payload string) ledger.Result {
	t.Helper()
	r := l.Append(context.Background(), []ledger.Submission{ledgertest.Submission(payload)})[0]
	if r.Err != nil {
		t.Fatalf("%q: %v", payload, r.Err)
	}
	return r
}

var _ = []any{errors.Is, fmt.Sprint, time.Now, entry.Public, fproof.TLogProof{}, proof.VerifyInclusion, rfc6962.DefaultHasher, tlog.CheckTree}

func TestSmoke(t *testing.T) {
	fs := vfs.NewMem()
	l := open(t, config(fs))
	for i := range 600 {
		r := one(t, l, fmt.Sprintf("n %d\ntopic a\ntopic t%d\nadd c", i, i%37))
		if r.Receipt == nil || r.Index != uint64(2*i) {
			t.Fatalf("%+v", r)
		}
	}
	v := l.Published()
	refs, p, err := v.List(ledgertest.Topic("a"))
	if err != nil || len(refs) != 600 {
		t.Fatal(len(refs), p, err)
	}
	shut(t, l)
	l = open(t, config(fs))
	defer shut(t, l)
	if l.Published().Root() != v.Root() || l.Published().IndexRoot() != v.IndexRoot() {
		t.Fatal("another root after restart")
	}
	r := one(t, l, "n 5\ntopic a\ntopic t5\nadd c")
	if !r.Repeat || r.Index != 10 || r.Effect != "c=6" {
		t.Fatalf("%+v", r)
	}
	if r := one(t, l, "need c 600\nadd c"); r.Effect != "c=601" {
		t.Fatalf("%+v", r)
	}
}
