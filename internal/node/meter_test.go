package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/api"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// bill is a Meter that writes down what it is asked, and refuses what is above most.
type bill struct {
	most        int
	taken, owed []int
}

var errTooDear = errors.New("too dear")

func (b *bill) Take(_ context.Context, n int) error {
	b.taken = append(b.taken, n)
	if n > b.most {
		return errTooDear
	}
	return nil
}

func (b *bill) Owe(n int) { b.owed = append(b.owed, n) }

// TestUnusedManifestsHaveAProblem: what the ledger keeps too many of is the caller's
// business, not a failure.
func TestUnusedManifestsHaveAProblem(t *testing.T) {
	p := problem.As(asProblem(fmt.Errorf("%w: 7 bytes", ledger.ErrUnused)))
	if p == nil || p.Type != "unused_manifests" || p.Status() != 429 || !strings.Contains(p.Hint, "7 days") {
		t.Errorf("got %v", p)
	}
}

// TestWhatCostsMore: signatures by their algorithm, payload and members are charged before anything is
// done about them, and members that were not announced afterwards.
func TestWhatCostsMore(t *testing.T) {
	w := newWorld(t)
	var members []custody.Member
	for i := range 400 {
		members = append(members, custody.Member{URI: unit(i), Head: entry.Hash{1}})
	}
	m, err := custody.NewManifest(members)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.node.PutManifest(context.Background(), api.Caller{}, m.Digest(), m.Marshal()); err != nil {
		t.Fatal(err)
	}
	pack := func(is custody.Contents) []byte {
		return w.sign(w.payload(custody.KindPack, "https://id.gs1.org/00/095060001000000128",
			w.event(makerParty, "maker", custody.First()), &custody.Pack{Level: 1, Contents: is}), w.keys[makerParty])
	}
	fewer, missing := m.Contents(), m.Contents()
	fewer.Count = 4
	missing.Manifest = entry.Hash{9}.String()
	large := w.payload(custody.KindCommission, unit(9), w.event(makerParty, "maker", custody.First()), &custody.Commission{UnitKind: "device"})
	large = []byte(strings.Replace(string(large), `"predicate":{`, `"predicate":{"ext":{"pad":[""`+strings.Repeat(`,"`+strings.Repeat("x", 1020)+`"`, 100)+`]},`, 1))

	for _, tc := range []struct {
		name        string
		body        []byte
		most        int
		taken, owed []int
		want        string // problem, or error
	}{
		{"a small one", w.commission(700), 1000, nil, nil, ""},
		{"eight signatures", w.eightKeys(custody.Ed25519), 1000, []int{14}, nil, "signer_mismatch"},
		{"eight signatures, too dear", w.eightKeys(custody.Ed25519), 13, []int{14}, nil, errTooDear.Error()},
		{"eight signatures, P-384", w.eightKeys(custody.ECDSAP384), 1000, []int{6 + 1 + 7*14}, nil, "signer_mismatch"},
		{"a large payload", w.sign(large, w.keys[makerParty]), 1000, []int{22}, nil, ""},
		{"members", pack(m.Contents()), 1000, []int{100}, []int{0}, "predecessor_unknown"},
		{"members, too dear", pack(m.Contents()), 99, []int{100}, nil, errTooDear.Error()},
		{"more members than announced", pack(fewer), 1000, []int{1}, []int{99}, "manifest_mismatch"},
		{"a manifest that is not here", pack(missing), 1000, []int{100}, nil, "missing_manifest"},
		{"no envelope", []byte("{"), 1000, nil, nil, "malformed_json"},
	} {
		b := &bill{most: tc.most}
		err := w.node.Post(context.Background(), api.Caller{Party: makerParty, Scopes: []api.Scope{api.ScopeWrite}}, [][]byte{tc.body}, b)[0].Err
		got := ""
		if p := problem.As(err); p != nil {
			got = p.Type
		} else if err != nil {
			got = err.Error()
		}
		if got != tc.want || !slices.Equal(b.taken, tc.taken) || !slices.Equal(b.owed, tc.owed) {
			t.Errorf("%s: %q, taken %v, owed %v; want %q, %v, %v", tc.name, got, b.taken, b.owed, tc.want, tc.taken, tc.owed)
		}
	}
}
