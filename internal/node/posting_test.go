package node

import (
	"context"
	"net/http/httptest"
	"testing"

	"fabtrail.dev/fabtrail/api"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// TestForeignStatementsStayForeign: an enrolment that nobody signed rightly does not
// let its sender post what another party signed.
func TestForeignStatementsStayForeign(t *testing.T) {
	w := newWorld(t)
	foreign := w.commission(1)
	k, err := custody.NewKey(w.keys[makerParty].Public())
	if err != nil {
		t.Fatal(err)
	}
	claim := w.sign(w.payload(custody.KindParty, carrierParty, nil, &custody.Party{
		LegalName: "Example carrier", Roles: []string{"carrier"}, Keys: []custody.KeyRecord{k.Record()},
	}), w.keys[carrierParty])
	// It must carry a signature of the key that it introduces: any bytes will do.
	claim = reseal(t, claim, func(d *custody.DSSE) {
		d.Signatures = append(d.Signatures, entry.Signature{Key: k.Hash, Sig: make([]byte, 64)})
	})
	out := w.post(carrierParty, claim, foreign)
	for i, want := range []string{"bad_signature", "signer_mismatch"} {
		if p := problem.As(out[i].Err); p == nil || p.Type != want {
			t.Errorf("line %d: got %v, want %s", i, out[i].Err, want)
		}
	}
}

// TestRefusedFindingsWait: a finding that the ledger does not take stops neither the
// views nor the node, and is published when the ledger takes it.
func TestRefusedFindingsWait(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	w.server.Close()
	if err := w.node.Close(); err != nil {
		t.Fatal(err)
	}
	n, err := Open(ctx, Config{Folder: w.folder, Manual: true, NoFollow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	w.node, w.server = n, httptest.NewServer(n.Handler())
	defer w.server.Close()

	first := w.must(makerParty, w.commission(1))
	w.must(carrierParty, w.sign(w.payload(custody.KindRelease, unit(1), w.event(carrierParty, "carrier", custody.Next(0, first.ID)),
		&custody.Release{From: carrierParty, To: makerParty}), w.keys[carrierParty]))

	good := n.operator.key
	if n.operator.key, err = custody.GenerateKey(custody.Ed25519); err != nil {
		t.Fatal(err)
	}
	size := n.Ledger().Published().Size()
	for range 2 {
		refused, err := n.catchUp(ctx, n.Ledger().Published(), func(uint64) {})
		if p := problem.As(refused); err != nil || p == nil || p.Type != "unknown_key" {
			t.Fatalf("refused with %v, error %v; want unknown_key and no error", refused, err)
		}
		if n.views.Next() != size || n.Ledger().Published().Size() != size {
			t.Fatalf("views at %d, log at %d, want %d", n.views.Next(), n.Ledger().Published().Size(), size)
		}
	}
	n.operator.key = good
	if refused, err := n.catchUp(ctx, n.Ledger().Published(), func(uint64) {}); refused != nil || err != nil {
		t.Fatal(refused, err)
	}
	if got := n.Ledger().Published().Size(); got != size+2 { // the finding and its index commitment
		t.Errorf("the log has size %d, want %d", got, size+2)
	}
}

// TestManifestIsReadOncePerCall: small statements that name one large manifest share
// what was read of it.
func TestManifestIsReadOncePerCall(t *testing.T) {
	w := newWorld(t)
	m, err := custody.NewManifest([]custody.Member{{URI: unit(1), Head: entry.Hash{1}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.node.PutManifest(context.Background(), api.Caller{}, m.Digest(), m.Marshal()); err != nil {
		t.Fatal(err)
	}
	var lines [][]byte
	for range 2 * chunk {
		lines = append(lines, w.sign(w.payload(custody.KindPack, "https://id.gs1.org/00/095060001000000128",
			w.event(makerParty, "maker", custody.First()), &custody.Pack{Level: 1, Contents: m.Contents()}), w.keys[makerParty]))
	}
	results := make([]api.Result, len(lines))
	items, _ := w.node.prepare(context.Background(), makerParty, lines, results, api.Free{})
	for i, it := range items {
		if it == nil {
			t.Fatalf("line %d: %v", i, results[i].Err)
		}
		if &it.members[0] != &items[0].members[0] {
			t.Fatalf("line %d has members of its own", i)
		}
	}
}
