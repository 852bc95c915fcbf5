package node

import (
	"crypto/rsa"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"fabtrail.dev/fabtrail/api"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// TestNamedMembersAreCharged: a void, dispute or lift is about all members of the
// statement that it names, and costs as much again, whether that one is in the log or
// before it in the same request.
func TestNamedMembersAreCharged(t *testing.T) {
	w := newWorld(t)
	lot, members := w.lot(400)
	m, err := custody.NewManifest(members)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.node.PutManifest(t.Context(), api.Caller{}, m.Digest(), m.Marshal()); err != nil {
		t.Fatal(err)
	}
	contents := m.Contents()
	made := w.payload(custody.KindCommission, lot, w.event(makerParty, "maker", custody.First()), &custody.Commission{UnitKind: "device", Contents: &contents})
	st, err := custody.Parse(made)
	if err != nil {
		t.Fatal(err)
	}
	dispute := func() []byte {
		return w.sign(w.payload(custody.KindDispute, lot, w.event(makerParty, "maker", custody.Unchained()),
			&custody.Dispute{Disputes: custody.Digest{SHA256: st.ID.String()}, Claim: "a test"}), w.keys[makerParty])
	}
	who := api.Caller{Party: makerParty, Scopes: []api.Scope{api.ScopeWrite}}
	post := func(most int, bodies ...[]byte) (*bill, []api.Result) {
		b := &bill{most: most}
		return b, w.node.Post(t.Context(), who, bodies, b)
	}
	b, rs := post(1000, w.sign(made, w.keys[makerParty]), dispute())
	for i, r := range rs {
		if r.Err != nil {
			t.Fatalf("line %d: %v", i, r.Err)
		}
	}
	if want := []int{100, 100}; !slices.Equal(b.taken, want) {
		t.Errorf("in one request: taken %v, want %v", b.taken, want)
	}
	b, rs = post(1000, dispute())
	if want := []int{100}; rs[0].Err != nil || !slices.Equal(b.taken, want) {
		t.Errorf("of one in the log: %v, taken %v, want %v", rs[0].Err, b.taken, want)
	}
	if _, rs = post(99, dispute()); fmt.Sprint(rs[0].Err) != errTooDear.Error() {
		t.Errorf("too dear: %v", rs[0].Err)
	}

	// As if it had been recorded only after the look at the dispute.
	d, err := custody.ParseDSSE(dispute())
	if err != nil {
		t.Fatal(err)
	}
	signed, err := custody.Open(d, custody.StateKeys{State: committed{w.node.Ledger()}})
	if err != nil {
		t.Fatal(err)
	}
	late := &prepared{signed: signed}
	_, err = app{}.item(committed{w.node.Ledger()}, ledger.At{}, ledger.Submission{Parsed: late,
		Manifests: func(entry.Hash) ([]byte, error) { return m.Marshal(), nil }})
	if p := problem.As(err); p == nil || p.Type != "not_ready" {
		t.Errorf("named while it was being recorded: %v", err)
	}
}

// TestSignatureWeights: dearer algorithms count for more, and a long modulus or
// exponent for yet more.
func TestSignatureWeights(t *testing.T) {
	last := 0
	for _, a := range []custody.Algorithm{custody.Ed25519, custody.ECDSAP256, custody.RSAPSS, custody.ECDSAP384} {
		key, err := custody.GenerateKey(a)
		if err != nil {
			t.Fatal(err)
		}
		k, err := custody.NewKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		got := signatureWeight(k)
		if got <= last {
			t.Errorf("%s weighs %d, the one before %d", a, got, last)
		}
		last = got
	}
	rsaKey := func(bits uint, e int) custody.Key {
		n := new(big.Int).SetBit(big.NewInt(1), int(bits)-1, 1)
		return custody.Key{Public: &rsa.PublicKey{N: n, E: e}}
	}
	for _, tc := range []struct {
		bits uint
		e    int
		want int
	}{
		{3072, 65537, 1 + 9*19/32}, {4096, 65537, 1 + 16*19/32}, {8192, 65537, 1 + 64*19/32}, {8192, 1<<31 - 1, 1 + 64*62/32},
	} {
		if got := signatureWeight(rsaKey(tc.bits, tc.e)); got != tc.want {
			t.Errorf("RSA of %d bits, exponent %d: weighs %d, want %d", tc.bits, tc.e, got, tc.want)
		}
	}
}
