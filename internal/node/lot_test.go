package node

import (
	"os"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/api"
	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/custody"
)

// TestLargestLot: a lot of as many units as a manifest has room for is commissioned by
// one statement, through the door with its limits of time and rate. The tests do fewer,
// but more than a party may do at once; with FABTRAIL_COSTS it is all of them, and they
// are packed by another statement.
func TestLargestLot(t *testing.T) {
	units := 45_000
	switch {
	case os.Getenv("FABTRAIL_COSTS") != "":
		units = 94_000 // 16 MiB of serials of a product
	case testing.Short():
		units = 1_000
	}
	w := newWorld(t)
	lot, members := w.lot(units)
	upload := func() custody.Contents {
		m, err := custody.NewManifest(members)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.remote(makerParty).PutManifest(t.Context(), m.Digest().String(), m.Marshal()); err != nil {
			t.Fatal(err)
		}
		return m.Contents()
	}
	sign := func(kind custody.Kind, subject string, body any) []byte {
		return w.sign(w.payload(kind, subject, w.event(makerParty, "maker", custody.First()), body), w.keys[makerParty])
	}
	is := upload()
	start, cpu := time.Now(), processorTime()
	s := client.Submitter{Remote: w.remote(makerParty)}
	first, err := s.Submit(t.Context(), sign(custody.KindCommission, lot, &custody.Commission{UnitKind: "device", Contents: &is}))
	if err != nil || first.Effect != "applied" {
		t.Fatalf("%+v, %v", first, err)
	}
	t.Logf("%d units commissioned by one statement: %v, %v of processor", units, time.Since(start), processorTime()-cpu)
	if os.Getenv("FABTRAIL_COSTS") == "" {
		return
	}
	for i := range members {
		members[i].Head = first.ID
	}
	is = upload()
	start, cpu = time.Now(), processorTime() // the party owes a while for the first one: the ledger itself owes nothing
	r := w.node.Submit(t.Context(), api.Caller{Party: makerParty, Scopes: []api.Scope{api.ScopeWrite}},
		[][]byte{sign(custody.KindPack, "https://id.gs1.org/00/095060001000000128", &custody.Pack{Level: 1, Contents: is})})[0]
	if r.Err != nil || r.Effect != "applied" {
		t.Fatalf("%+v", r)
	}
	t.Logf("%d units packed by one statement: %v, %v of processor", units, time.Since(start), processorTime()-cpu)
}
