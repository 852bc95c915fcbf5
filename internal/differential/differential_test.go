package differential

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"filippo.io/edwards25519"
	"github.com/hdevalence/ed25519consensus"
	"golang.org/x/mod/sumdb/tlog"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// tree is a small log in the hand of x/mod: its hashes, and the leaves.
type tree struct {
	leaves []tlog.Hash
	stored []tlog.Hash
}

func newTree(t testing.TB, n int) *tree {
	tr := &tree{}
	for i := range n {
		record := binary.BigEndian.AppendUint32(nil, uint32(i))
		hs, err := tlog.StoredHashes(int64(i), record, tr)
		if err != nil {
			t.Fatal(err)
		}
		tr.stored = append(tr.stored, hs...)
		tr.leaves = append(tr.leaves, tlog.RecordHash(record))
	}
	return tr
}

// ReadHashes implements tlog.HashReader.
func (tr *tree) ReadHashes(at []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(at))
	for i, k := range at {
		out[i] = tr.stored[k]
	}
	return out, nil
}

func (tr *tree) root(t testing.TB, n int64) tlog.Hash {
	h, err := tlog.TreeHash(n, tr)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func ours(hs []tlog.Hash) []entry.Hash {
	out := make([]entry.Hash, len(hs))
	for i, h := range hs {
		out[i] = entry.Hash(h)
	}
	return out
}

// bend changes a proof and its numbers as the fuzzer says; no edits leave it good.
func bend(hs []tlog.Hash, edits []byte, numbers ...*int64) []tlog.Hash {
	for len(edits) >= 3 {
		op, where, what := edits[0], int(edits[1]), edits[2]
		edits = edits[3:]
		switch op % 5 {
		case 0:
			if len(hs) > 0 {
				hs[where%len(hs)][what%32] ^= 1 << (what % 8)
			}
		case 1:
			if len(hs) > 0 {
				i := where % len(hs)
				hs = append(hs[:i:i], hs[i+1:]...)
			}
		case 2:
			hs = append(hs, tlog.Hash{what})
		case 3:
			if len(hs) > 1 {
				i, j := where%len(hs), int(what)%len(hs)
				hs[i], hs[j] = hs[j], hs[i]
			}
		case 4:
			n := numbers[where%len(numbers)]
			*n = max(0, *n+int64(int8(what)))
		}
	}
	return hs
}

const most = 300

// FuzzInclusion: our check of inclusion proofs and that of x/mod.
func FuzzInclusion(f *testing.F) {
	tr := newTree(f, most)
	for _, s := range []struct {
		size, index uint16
		edits       string
	}{{1, 0, ""}, {7, 3, ""}, {256, 255, ""}, {300, 299, "\x00\x01\x02"}, {8, 7, "\x04\x00\x01"}, {5, 4, "\x02\x00\x00"}, {300, 1, "\x03\x00\x01"}} {
		f.Add(s.size, s.index, []byte(s.edits))
	}
	f.Fuzz(func(t *testing.T, size, index uint16, edits []byte) {
		n := int64(size)%most + 1
		i := int64(index) % n
		leaf, root := tr.leaves[i], tr.root(t, n)
		proof, err := tlog.ProveRecord(n, i, tr)
		if err != nil {
			t.Fatal(err)
		}
		proof = bend(proof, edits, &i, &n)
		theirs := i < n && tlog.CheckRecord(proof, n, root, i, leaf) == nil
		if err := checkpoint.VerifyInclusion(entry.Hash(leaf), uint64(i), uint64(n), ours(proof), entry.Hash(root)); (err == nil) != theirs {
			t.Errorf("leaf %d of %d with %d hashes: x/mod accepts: %t, we say: %v", i, n, len(proof), theirs, err)
		}
		if len(edits) < 3 && !theirs {
			t.Error("a good proof was refused")
		}
	})
}

// FuzzConsistency: our check of consistency proofs and that of x/mod. From size 0
// x/mod has no proofs.
func FuzzConsistency(f *testing.F) {
	tr := newTree(f, most)
	for _, s := range []struct {
		old, size uint16
		edits     string
	}{{1, 2, ""}, {4, 8, ""}, {255, 300, ""}, {3, 3, ""}, {6, 7, "\x00\x01\x02"}, {128, 256, "\x04\x00\xff"}, {128, 256, "\x01\x00\x00"}} {
		f.Add(s.old, s.size, []byte(s.edits))
	}
	f.Fuzz(func(t *testing.T, old, size uint16, edits []byte) {
		n := int64(size)%most + 1
		o := int64(old)%n + 1
		was, is := tr.root(t, o), tr.root(t, n)
		proof, err := tlog.ProveTree(n, o, tr)
		if err != nil {
			t.Fatal(err)
		}
		proof = bend(proof, edits, &o, &n)
		if o == 0 {
			return
		}
		theirs := o <= n && tlog.CheckTree(proof, n, is, o, was) == nil
		if err := checkpoint.VerifyConsistency(uint64(o), uint64(n), ours(proof), entry.Hash(was), entry.Hash(is)); (err == nil) != theirs {
			t.Errorf("%d to %d with %d hashes: x/mod accepts: %t, we say: %v", o, n, len(proof), theirs, err)
		}
		if len(edits) < 3 && !theirs {
			t.Error("a good proof was refused")
		}
	})
}

// zip215 is the rule of ZIP 215, from its text: encodings of points need not be
// canonical, S must be, and the equation holds when multiplied by the cofactor.
func zip215(pub, msg, sig []byte) bool {
	if len(sig) != 64 {
		return false
	}
	a, err := new(edwards25519.Point).SetBytes(pub)
	if err != nil {
		return false
	}
	r, err := new(edwards25519.Point).SetBytes(sig[:32])
	if err != nil {
		return false
	}
	s, err := new(edwards25519.Scalar).SetCanonicalBytes(sig[32:])
	if err != nil {
		return false
	}
	h := sha512.New()
	h.Write(sig[:32])
	h.Write(pub)
	h.Write(msg)
	k, err := new(edwards25519.Scalar).SetUniformBytes(h.Sum(nil))
	if err != nil {
		return false
	}
	left := new(edwards25519.Point).ScalarBaseMult(s)
	right := new(edwards25519.Point).Add(r, new(edwards25519.Point).ScalarMult(k, a))
	diff := new(edwards25519.Point).Subtract(left, right)
	return diff.MultByCofactor(diff).Equal(edwards25519.NewIdentityPoint()) == 1
}

// FuzzEd25519: our verification, ed25519consensus, and the rule spelled out; and
// what Go's own accepts, which is stricter, all accept.
func FuzzEd25519(f *testing.F) {
	torsion := bytes.Repeat([]byte{0}, 32) // a point of order 4
	f.Add(uint64(1), []byte("message"), []byte{}, []byte{})
	f.Add(uint64(2), []byte(""), []byte("\x00\x01"), []byte{})
	f.Add(uint64(3), []byte("x"), []byte("\x3f\x80"), []byte{})
	f.Add(uint64(4), []byte("x"), []byte{}, torsion)
	f.Add(uint64(5), []byte("x"), []byte("\x20\x01\x21\x02"), bytes.Repeat([]byte{0xff}, 32))
	f.Fuzz(func(t *testing.T, seed uint64, msg, edits, r []byte) {
		var raw [32]byte
		random := rand.New(rand.NewPCG(seed, 0))
		for i := range raw {
			raw[i] = byte(random.Uint32())
		}
		private := ed25519.NewKeyFromSeed(raw[:])
		pub := private.Public().(ed25519.PublicKey)
		key, err := custody.NewKey(pub)
		if err != nil {
			t.Fatal(err)
		}
		sig := ed25519.Sign(private, msg)
		for i := 0; i+1 < len(edits); i += 2 {
			sig[edits[i]%64] ^= edits[i+1]
		}
		if len(r) == 32 {
			copy(sig, r)
		}
		we := key.Verify(msg, sig) == nil
		if rule := zip215(pub, msg, sig); we != rule {
			t.Errorf("we accept: %t, the rule: %t", we, rule)
		}
		if they := ed25519consensus.Verify(pub, msg, sig); we != they {
			t.Errorf("we accept: %t, ed25519consensus: %t", we, they)
		}
		if ed25519.Verify(pub, msg, sig) && !we {
			t.Error("a signature that Go accepts was refused")
		}
	})
}
