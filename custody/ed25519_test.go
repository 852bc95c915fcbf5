package custody

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"filippo.io/edwards25519"
	"github.com/hdevalence/ed25519consensus"
)

// combine agrees with the library on random scalars and on those whose digits are
// extreme.
func TestCombine(t *testing.T) {
	rng := rand.NewChaCha8([32]byte{1})
	random := func() *edwards25519.Scalar {
		var b [64]byte
		_, _ = rng.Read(b[:])
		s, err := edwards25519.NewScalar().SetUniformBytes(b[:])
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	fill := func(c byte) *edwards25519.Scalar {
		b := bytes.Repeat([]byte{c}, 32)
		b[31] = 0x0f & c
		s, err := edwards25519.NewScalar().SetCanonicalBytes(b)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	zero, one := edwards25519.NewScalar(), fill(0)
	one = one.Subtract(one, edwards25519.NewScalar().Negate(scalarOne()))
	scalars := []*edwards25519.Scalar{zero, one, edwards25519.NewScalar().Negate(one), fill(0x88), fill(0x80), fill(0x7f), fill(0xff), fill(0x08), fill(0x78), fill(0x87)}
	for range 20 {
		scalars = append(scalars, random())
	}
	a := new(edwards25519.Point).ScalarBaseMult(random())
	minus := new(edwards25519.Point).Negate(a)
	tables := []*keyTable{newKeyTable(minus, smallShape), newKeyTable(minus, largeShape)}
	for _, s := range scalars {
		for _, k := range scalars {
			want := new(edwards25519.Point).VarTimeDoubleScalarBaseMult(k, minus, s)
			for _, table := range tables {
				var got coords
				table.combine(&got, s.Bytes(), k.Bytes())
				p, err := new(edwards25519.Point).SetExtendedCoordinates(&got.x, &got.y, &got.z, &got.t)
				if err != nil {
					t.Fatal(err)
				}
				if p.Equal(want) != 1 {
					t.Fatalf("[s]B - [k]A is wrong for s = %x, k = %x with digits of %d bits", s.Bytes(), k.Bytes(), table.bits)
				}
			}
		}
	}
}

// TestTablesDecideAlike: with a table or without, single or in a batch, a signature
// is good or bad as the library says. Points of small order are added to R, which
// ZIP-215 allows and the shortcut does not know; s is taken beyond the order.
func TestTablesDecideAlike(t *testing.T) {
	seed := [32]byte{7}
	key := ed25519.NewKeyFromSeed(seed[:])
	pub := key.Public().(ed25519.PublicKey)
	memo := new(edMemo)
	memo.uses.Store(tableUses - 1)
	if memo.tableOf(pub) == nil {
		t.Fatal("the key has no table")
	}
	busy := new(edMemo)
	makeBusy(t, busy, pub)
	torsion := smallOrder(t)
	good, bad := 0, 0
	for i := range 400 {
		message := binary.BigEndian.AppendUint32(nil, uint32(i))
		sig := ed25519.Sign(key, message)
		switch i % 8 {
		case 1:
			sig[i%64] ^= 1 << (i % 7)
		case 2:
			sig = resigned(t, key, message, torsion)
		case 3: // s + L
			sig = append(sig[:32:32], plusOrder(sig[32:])...)
		case 4:
			message = append(message, 0)
		case 5:
			sig = sig[:63]
		case 6:
			sig[31] ^= 0x80
		}
		want := ed25519consensus.Verify(pub, message, sig)
		if got := verifyEd25519(memo, pub, message, sig); got != want {
			t.Fatalf("case %d: %t with a table, the library says %t", i%8, got, want)
		}
		if got := verifyEd25519(busy, pub, message, sig); got != want {
			t.Fatalf("case %d: %t with a large table, the library says %t", i%8, got, want)
		}
		if got := verifyEd25519(nil, pub, message, sig); got != want {
			t.Fatalf("case %d: %t without a table, the library says %t", i%8, got, want)
		}
		if want {
			good++
		} else {
			bad++
		}
		b := newEdBatch(3)
		ok := ed25519.Sign(key, []byte("another"))
		b.add(memo, pub, []byte("another"), ok)
		b.add(memo, pub, message, sig)
		b.add(nil, pub, []byte("another"), ok)
		if b.good() && !want {
			t.Fatalf("case %d: a batch takes what the library refuses", i%8)
		}
	}
	if good < 150 || bad < 150 {
		t.Errorf("%d good and %d bad signatures were tried", good, bad)
	}
}

// smallOrder is a point of order 8.
func smallOrder(t *testing.T) *edwards25519.Point {
	t.Helper()
	b := []byte{0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
		0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05}
	p, err := new(edwards25519.Point).SetBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// resigned is a signature whose R has a part of small order.
func resigned(t *testing.T, key ed25519.PrivateKey, message []byte, torsion *edwards25519.Point) []byte {
	t.Helper()
	h := sha512.Sum512(key.Seed())
	a, err := edwards25519.NewScalar().SetBytesWithClamping(h[:32])
	if err != nil {
		t.Fatal(err)
	}
	n := sha512.Sum512(append(h[32:], message...))
	r, err := edwards25519.NewScalar().SetUniformBytes(n[:])
	if err != nil {
		t.Fatal(err)
	}
	big := new(edwards25519.Point).ScalarBaseMult(r)
	enc := big.Add(big, torsion).Bytes()
	d := sha512.New()
	d.Write(enc)
	d.Write(key.Public().(ed25519.PublicKey))
	d.Write(message)
	k, err := edwards25519.NewScalar().SetUniformBytes(d.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	return append(enc, edwards25519.NewScalar().MultiplyAdd(k, a, r).Bytes()...)
}

// plusOrder adds the group's order to s, little-endian.
func plusOrder(s []byte) []byte {
	one := scalarOne()
	l := edwards25519.NewScalar().Negate(one).Bytes() // L - 1
	out, carry := make([]byte, 32), 1
	for i := range out {
		n := int(s[i]) + int(l[i]) + carry
		out[i], carry = byte(n), n>>8
	}
	return out
}

// makeBusy gives a key its large table.
func makeBusy(tb testing.TB, k *edMemo, pub ed25519.PublicKey) {
	tb.Helper()
	for _, n := range []int32{tableUses, largeUses} {
		k.uses.Store(n - 1)
		k.tableOf(pub)
	}
	if t := k.table.Load(); t == nil || t.bits != largeShape.bits {
		tb.Fatal("the key has no large table")
	}
}

// Tables of keys that are no longer among the last are given up, and come back.
func TestTablesAreBounded(t *testing.T) {
	seed := [32]byte{9}
	pub := ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey)
	first := new(edMemo)
	first.uses.Store(tableUses - 1)
	if first.tableOf(pub) == nil {
		t.Fatal("no table at the time for one")
	}
	for range maxTables {
		m := new(edMemo)
		m.table.Store(first.table.Load())
		tables.Lock()
		if len(tables.keys) < maxTables {
			tables.keys = append(tables.keys, m)
		}
		tables.Unlock()
	}
	next := new(edMemo)
	next.uses.Store(tableUses - 1)
	if next.tableOf(pub) == nil || first.table.Load() != nil || len(tables.keys) != 1 {
		t.Fatal("the tables are not bounded")
	}
	for i := range maxLarge + 1 {
		m := new(edMemo)
		for _, n := range []int32{tableUses, largeUses} {
			m.uses.Store(n - 1)
			m.tableOf(pub)
		}
		want := largeShape
		if i == maxLarge {
			want = smallShape
		}
		if got := m.table.Load(); got == nil || got.shape != want {
			t.Fatalf("large table %d: got %+v, want %+v", i, got, want)
		}
	}
	begun := new(edMemo) // had a table, and lost it between two uses
	begun.uses.Store(largeUses - 1)
	if begun.tableOf(pub) != nil {
		t.Fatal("a key whose table was given up gets a large one that nobody counts")
	}
}

func BenchmarkVerifyEd25519(b *testing.B) {
	seed := [32]byte{7}
	message := make([]byte, 900)
	var pubs []ed25519.PublicKey
	var sigs [][]byte
	var memos []*edMemo
	for i := range 16 {
		seed[0] = byte(i)
		key := ed25519.NewKeyFromSeed(seed[:])
		memo := new(edMemo)
		memo.uses.Store(tableUses - 1) // the first check makes a small table
		pubs, sigs, memos = append(pubs, key.Public().(ed25519.PublicKey)), append(sigs, ed25519.Sign(key, message)), append(memos, memo)
	}
	b.Run("standard library", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if !ed25519.Verify(pubs[i%16], message, sigs[i%16]) {
				b.Fatal("bad")
			}
		}
	})
	b.Run("consensus", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if !ed25519consensus.Verify(pubs[i%16], message, sigs[i%16]) {
				b.Fatal("bad")
			}
		}
	})
	for _, size := range []string{"small", "large"} {
		if size == "large" {
			for i, m := range memos {
				makeBusy(b, m, pubs[i])
			}
		}
		b.Run(size+" table", func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if !verifyEd25519(memos[i%16], pubs[i%16], message, sigs[i%16]) {
					b.Fatal("bad")
				}
			}
		})
		b.Run(size+" tables, 64 at once", func(b *testing.B) {
			for range b.N {
				batch := newEdBatch(64)
				for i := range 64 {
					batch.add(memos[i%16], pubs[i%16], message, sigs[i%16])
				}
				if !batch.good() {
					b.Fatal("bad")
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(64*b.N), "ns/signature")
		})
	}
	b.Run("build", func(b *testing.B) {
		p, _ := new(edwards25519.Point).SetBytes(pubs[0])
		for b.Loop() {
			newKeyTable(p, largeShape)
		}
	})
	b.Run("consensus, 64 at once", func(b *testing.B) {
		for range b.N {
			batch := ed25519consensus.NewPreallocatedBatchVerifier(64)
			for i := range 64 {
				batch.Add(pubs[i%16], message, sigs[i%16])
			}
			if !batch.Verify() {
				b.Fatal("bad")
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(64*b.N), "ns/signature")
	})
}
