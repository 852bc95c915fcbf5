package node

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"fabtrail.dev/fabtrail/api"
	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/custody"
)

type quiet struct{ pebble.Logger }

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}

// flipIndexRow changes one bit of a row of the index on disk and says which row.
func flipIndexRow(t *testing.T, f Folder, rnd *rand.Rand) []byte {
	t.Helper()
	db, err := pebble.Open(filepath.Join(f.ledger(), "truth"), &pebble.Options{FormatMajorVersion: pebble.FormatNewest, Logger: quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{'r'}, UpperBound: []byte{'s'}})
	if err != nil {
		t.Fatal(err)
	}
	var keys, values [][]byte
	for ok := it.First(); ok; ok = it.Next() {
		keys, values = append(keys, append([]byte(nil), it.Key()...)), append(values, append([]byte(nil), it.Value()...))
	}
	if err := it.Close(); err != nil || len(keys) < 9 {
		t.Fatalf("%d rows: %v", len(keys), err)
	}
	i := rnd.IntN(len(keys))
	if at := len(values[i]) - 1; rnd.IntN(2) == 0 { // an entry's index, which no hash in the row covers
		values[i][at] ^= 1 << rnd.IntN(4)
	} else {
		values[i][rnd.IntN(at)] ^= 1 << rnd.IntN(8)
	}
	if err := db.Set(keys[i], values[i], pebble.Sync); err != nil {
		t.Fatal(err)
	}
	return keys[i]
}

// TestFlippedIndexRow: whatever bit of whatever row of the index is wrong, fsck finds
// it, and no unit gets another verdict than it has: the ledger does not start, does
// not answer, or answers what is true.
func TestFlippedIndexRow(t *testing.T) {
	w := newWorld(t)
	ids := map[int]*client.Recorded{}
	for n := range 4 {
		ids[n] = w.must(makerParty, w.commission(n))
	}
	w.must(makerParty, w.sign(w.payload(custody.KindRelease, unit(1), w.event(makerParty, "maker", custody.Next(0, ids[1].ID)),
		&custody.Release{From: makerParty, To: carrierParty}), w.keys[makerParty]))
	w.must(makerParty, w.sign(w.payload(custody.KindHold, unit(2), w.event(makerParty, "maker", custody.Unchained()),
		&custody.Hold{Reason: "stolen"}), w.keys[makerParty]))
	w.server.Close()
	if err := w.node.Close(); err != nil {
		t.Fatal(err)
	}
	trust, err := client.LoadTrust(os.DirFS(w.folder.Trust()))
	if err != nil {
		t.Fatal(err)
	}
	truth := map[string]custody.Word{unit(0): custody.VerifiedNote, unit(1): custody.VerifiedNote, unit(2): custody.DoNotInstall,
		unit(3): custody.VerifiedNote, unit(9): custody.NotInLedger}
	auditor := api.Caller{Party: testOperator, Scopes: []api.Scope{api.ScopeAudit}}
	refused, silent, told := 0, 0, 0
	rnd := rand.New(rand.NewPCG(3, 0))
	for range 30 {
		f := Folder(cloneFolder(t, string(w.folder)))
		row := flipIndexRow(t, f, rnd)
		c, err := Fsck(t.Context(), f, func(string, uint64, uint64) {})
		if err != nil || len(c.Damage) == 0 {
			t.Errorf("row %x: fsck finds nothing: %v", row, err)
		}
		n, err := Open(context.Background(), Config{Folder: f, Manual: true, NoFollow: true})
		if err != nil {
			refused++
			continue
		}
		v := client.Verifier{Trust: trust}
		for uri, want := range truth {
			b, err := n.Unit(t.Context(), auditor, api.UnitQuery{URI: uri})
			if err != nil {
				silent++
				continue
			}
			if r := v.VerifyAnswer(t.Context(), uri, b.JSON); r.Word != want && r.Word != custody.CouldNotVerify {
				t.Errorf("row %x: %s is %s, want %s", row, uri, r.Word, want)
			}
			told++
		}
		if err := n.Close(); err != nil {
			t.Logf("row %x: closing: %v", row, err)
		}
	}
	if refused == 0 || silent == 0 || told == 0 {
		t.Errorf("the ledger refused to start %d times, to answer %d times, and answered %d times: the test covers less than it says", refused, silent, told)
	}
}
