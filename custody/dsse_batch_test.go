package custody_test

import (
	"crypto"
	"testing"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/custodytest"
	"fabtrail.dev/fabtrail/internal/problem"
)

// TestBatchKeepsEarlierRefusals: a statement of two signers, of which only the first
// can be found, is refused by OpenBatch as by Open, whatever the algorithm: a good
// first signature does not make up for what kept the second from being looked at.
func TestBatchKeepsEarlierRefusals(t *testing.T) {
	w := custodytest.Quiet(1)
	from, to := w.Actors[0], w.Actors[1]
	s := w.Make(custody.KindOwnership, from, custody.UnitRef{URI: custodytest.Unit(0, 0)}, &custody.Ownership{From: from.URI, To: to.URI})
	for _, alg := range []custody.Algorithm{custody.Ed25519, custody.ECDSAP256} {
		known, err := custody.GenerateKey(alg)
		if err != nil {
			t.Fatal(err)
		}
		key, err := custody.NewKey(known.Public())
		if err != nil {
			t.Fatal(err)
		}
		d := parsed(t, s.Payload, known, to.Key())
		if d.Signatures[0].Key != key.Hash {
			d.Signatures[0], d.Signatures[1] = d.Signatures[1], d.Signatures[0]
		}
		for _, batch := range [][]custody.DSSE{{d}, {d, d}} {
			signed, errs := custody.OpenBatch(batch, custody.Keys{key.Hash: key})
			last := len(batch) - 1
			if p := problem.As(errs[last]); p == nil || p.Type != "unknown_key" || signed[last] != nil {
				t.Errorf("%s, batch of %d: got %v and %v, want unknown_key and nothing", alg, len(batch), signed[last], errs[last])
			}
		}
	}
}

func parsed(t *testing.T, payload []byte, keys ...crypto.Signer) custody.DSSE {
	t.Helper()
	b, err := custody.Sign(payload, keys...)
	if err != nil {
		t.Fatal(err)
	}
	d, err := custody.ParseDSSE(b)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
