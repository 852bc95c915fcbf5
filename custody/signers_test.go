package custody

import (
	"crypto"
	"testing"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// testDirectory is a SignerDirectory of fixed content: keys 1, 2, 3 are
// authorities (2 and 3 of the carrier), keys 10 and 11 of maker and carrier.
type testDirectory struct{ t testing.TB }

func (d testDirectory) find(h entry.Hash, of map[int]string) (string, bool) {
	for n, p := range of {
		if k := mustKey(d.t, edKey(n).Public()); k.Hash == h {
			return p, true
		}
	}
	return "", false
}

func (d testDirectory) PartyOf(h entry.Hash) (string, bool) {
	// As the ledger's own directory does, authorities' keys act for their parties.
	return d.find(h, map[int]string{1: makerURI, 2: carrierURI, 3: carrierURI, 10: makerURI, 13: makerURI, 11: carrierURI, 14: installerURI})
}

func (d testDirectory) AuthorityOf(h entry.Hash) (string, bool) {
	return d.find(h, map[int]string{1: makerURI, 2: carrierURI, 3: carrierURI})
}

func (testDirectory) Threshold() int64 { return 2 }

func TestCheckSigners(t *testing.T) {
	dir := testDirectory{t}
	k := func(ns ...int) (out []crypto.Signer) {
		for _, n := range ns {
			out = append(out, edKey(n))
		}
		return out
	}
	known := lookup(t, k(1, 2, 3, 10, 11, 12, 13, 14, 15)...)
	cases := []struct {
		name    string
		sample  string
		signers []crypto.Signer
		problem string // "" if right
	}{
		{"actor", "hold", k(10), ""},
		{"another key of the actor", "hold", k(13), ""},
		{"another party", "hold", k(11), "wrong_signers"},
		{"an authority's key of the actor", "hold", k(1), ""},
		{"an authority instead of the actor", "hold", k(2), "wrong_signers"},
		{"both parties", "ownership", k(10, 11), ""},
		{"both parties, other order", "ownership", k(11, 10), ""},
		{"two keys of one party", "ownership", k(10, 13), "wrong_signers"},
		{"one of two is a stranger", "ownership", k(10, 14), "wrong_signers"},
		{"threshold", "rule-set", k(1, 2), ""},
		{"above the threshold", "rule-set", k(1, 2, 3), ""},
		{"below the threshold", "rule-set", k(1), "threshold_not_met"},
		{"two keys of one authority", "rule-set", k(2, 3), "threshold_not_met"},
		{"threshold and a stranger", "rule-set", k(1, 2, 10), "wrong_signers"},
		{"no authority", "rule-set", k(10), "wrong_signers"},
		{"owner and authorities", "product", k(1, 2, 10), ""},
		{"owner without authorities", "product", k(10), "threshold_not_met"},
		{"the owner is an authority", "product", k(1, 2), ""},
		{"two keys of the owner", "product", k(1, 2, 10, 13), "wrong_signers"},
		{"authorities without the owner", "product of another", k(1, 2), "wrong_signers"},
		{"owner who is no authority, and authorities", "product of another", k(1, 2, 14), ""},
		{"recall by the owner", "recall lot", k(10), ""},
		{"recall by the authorities", "recall lot", k(1, 2), ""},
		{"recall by one authority", "recall lot", k(2), "threshold_not_met"},
		{"recall by owner and authorities", "recall lot", k(1, 2, 10), "wrong_signers"},
		{"recall by another party", "recall lot", k(11), "wrong_signers"},
		{"revocation by the authorities", "key revoke", k(1, 2), ""},
		{"revocation by another key", "key revoke", k(10), "wrong_signers"},
		{"new authorities", "authority", k(1, 2), ""},
		{"new authorities without the old threshold", "authority", k(1), "threshold_not_met"},
		{"party without keys", "party without keys", k(1, 2), ""},
		{"party by itself", "party without keys", k(10), "wrong_signers"},
		{"charter", "charter", k(1, 2), ""},
		{"rotation", "key rotate", k(11, 12), ""},
		{"a block by its actor", "serial-block", k(10), ""},
		{"a block by another authority", "serial-block", k(2), "wrong_signers"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := find(t, c.sample)
			s.signers = c.signers
			got, err := openBody(signed(t, s), known)
			if err != nil {
				t.Fatal(err)
			}
			err = CheckSigners(got, dir)
			if c.problem == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if p := problemOf(t, err); p.Type != c.problem {
				t.Errorf("%v, want %s", err, c.problem)
			}
		})
	}
}

// TestRevokeBySelf: the key that ends may say so itself.
func TestRevokeBySelf(t *testing.T) {
	s := find(t, "key revoke")
	key := mustKey(t, edKey(10).Public())
	s.body = &KeyChange{Action: ActionRevoke, Key: DigestOf(key.Hash)}
	got, err := openBody(signed(t, s), enrolled(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckSigners(got, testDirectory{t}); err != nil {
		t.Error(err)
	}
}

// TestEveryKindHasARequirement: no kind can be signed by nobody.
func TestEveryKindHasARequirement(t *testing.T) {
	for _, s := range samples(t) {
		st, err := Parse(s.payload(t))
		if err != nil {
			t.Fatal(err)
		}
		rs := RequiredSigners(st)
		if len(rs) == 0 {
			t.Errorf("%s: no requirement", s.name)
		}
		for _, r := range rs {
			if len(r.Keys) == 0 && len(r.Parties) == 0 && !r.Authorities {
				t.Errorf("%s: an empty requirement", s.name)
			}
		}
	}
}
