package checkpoint

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/ledger/entry"
	flog "github.com/transparency-dev/formats/log"
	fnote "github.com/transparency-dev/formats/note"
	fproof "github.com/transparency-dev/formats/proof"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

const origin = "ledger.example/fab"

// seed returns the private key that belongs to a name in these tests.
func seed(name string) ed25519.PrivateKey {
	s := sha256.Sum256([]byte("test key of " + name))
	return ed25519.NewKeyFromSeed(s[:])
}

func signer(t testing.TB, name string, typ byte) *Signer {
	t.Helper()
	s, err := NewSigner(name, typ, seed(name))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func logKey(t testing.TB) *Signer           { return signer(t, origin, TypeLog) }
func wit(t testing.TB, name string) *Signer { return signer(t, name+".example/w", TypeCosigner) }
func rootOf(size uint64) entry.Hash         { return sha256.Sum256(fmt.Appendf(nil, "root at %d", size)) }
func cpAt(size uint64) Checkpoint           { return Checkpoint{Origin: origin, Size: size, Root: rootOf(size)} }

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// signed returns a checkpoint signed by the log and cosigned at the given times.
func signed(t testing.TB, cp Checkpoint, cosigs map[string]uint64, order ...string) Note {
	t.Helper()
	n := Note{Text: cp.Text(), Sigs: []NoteSig{must[NoteSig](t)(logKey(t).SignLog(cp.Text()))}}
	for _, name := range order {
		n.Sigs = append(n.Sigs, must[NoteSig](t)(wit(t, name).Cosign(cp.Text(), cosigs[name])))
	}
	return n
}

func TestNoteAgreesWithOthers(t *testing.T) {
	cp := cpAt(42)
	b := signed(t, cp, map[string]uint64{"a": 1700000000}, "a").Marshal()
	lv := must[note.Verifier](t)(note.NewVerifier(logKey(t).VKey().String()))
	wv := must[note.Verifier](t)(fnote.NewVerifierForCosignatureV1(wit(t, "a").VKey().String()))
	got, parsed, n, err := parseOther(b, lv, wv)
	if err != nil || got != cp || n != 2 {
		t.Fatalf("%+v, %d signatures, %v; note:\n%s", got, n, err, parsed)
	}
	// and the other way: their signers, our verifier
	skey := must[string](t)(MarshalSKey(origin, TypeLog, seed(origin)))
	ls := must[note.Signer](t)(note.NewSigner(skey))
	wskey := must[string](t)(MarshalSKey("a.example/w", TypeCosigner, seed("a.example/w")))
	ws := must[*fnote.Signer](t)(fnote.NewSignerForCosignatureV1(wskey))
	theirs := must[[]byte](t)(note.Sign(&note.Note{Text: cp.Text()}, ls, ws))
	ours := must[Note](t)(ParseNote(theirs))
	if err := logKey(t).VKey().VerifyLog(ours); err != nil {
		t.Error(err)
	}
	if at, err := wit(t, "a").VKey().VerifyCosignature(ours); err != nil || at == 0 {
		t.Errorf("time %d, %v", at, err)
	}
	if !bytes.Equal(ours.Marshal(), theirs) {
		t.Error("note is written differently")
	}
}

func parseOther(b []byte, lv note.Verifier, others ...note.Verifier) (Checkpoint, string, int, error) {
	cp, _, n, err := flog.ParseCheckpoint(b, origin, lv, others...)
	if err != nil {
		return Checkpoint{}, string(b), 0, err
	}
	return Checkpoint{Origin: cp.Origin, Size: cp.Size, Root: entry.Hash(cp.Hash)}, string(b), len(n.Sigs), nil
}

// The specification's own example.
func TestSpecExample(t *testing.T) {
	k := must[VKey](t)(ParseVKey("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"))
	n := must[Note](t)(ParseNote([]byte("This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n")))
	if err := k.VerifyLog(n); err != nil {
		t.Fatal(err)
	}
	n.Text = "This is another message.\n"
	if err := k.VerifyLog(n); !errors.Is(err, ErrBadSignature) {
		t.Fatalf("changed text: %v", err)
	}
}

func TestVerifyDistinguishes(t *testing.T) {
	cp := cpAt(7)
	n := signed(t, cp, map[string]uint64{"a": 100, "b": 200}, "a", "b")
	lk, a := logKey(t).VKey(), wit(t, "a").VKey()
	bad := func(i int, s NoteSig) Note {
		c := Note{Text: n.Text, Sigs: append([]NoteSig(nil), n.Sigs...)}
		c.Sigs[i] = s
		return c
	}
	flip := func(i, at int) Note {
		s := n.Sigs[i]
		s.Sig = append([]byte(nil), s.Sig...)
		s.Sig[at] ^= 1
		return bad(i, s)
	}
	short := func(i int) Note { s := n.Sigs[i]; s.Sig = s.Sig[:len(s.Sig)-1]; return bad(i, s) }
	zero := n.Sigs[1] // a true signature over time 0
	zero.Sig = append(make([]byte, 8), ed25519.Sign(seed("a.example/w"), cosignMessage(n.Text, 0))...)
	older := must[NoteSig](t)(wit(t, "a").Cosign(n.Text, 50))
	newer := must[NoteSig](t)(wit(t, "a").Cosign(n.Text, 150))
	for _, c := range []struct {
		name    string
		n       Note
		log, co error
		time    uint64
	}{
		{"good", n, nil, nil, 100},
		{"log signature flipped", flip(0, 3), ErrBadSignature, nil, 100},
		{"log signature short", short(0), ErrBadSignature, nil, 100},
		{"cosignature flipped", flip(1, 20), nil, ErrBadSignature, 0},
		{"cosignature's time flipped", flip(1, 7), nil, ErrBadSignature, 0},
		{"cosignature short", short(1), nil, ErrBadSignature, 0},
		{"time zero", bad(1, zero), nil, ErrBadSignature, 0},
		{"another's flipped", flip(2, 20), nil, nil, 100},
		{"no log signature", Note{n.Text, n.Sigs[1:]}, ErrNoSignature, nil, 100},
		{"no cosignature", Note{n.Text, n.Sigs[:1]}, nil, ErrNoSignature, 0},
		{"twice, newest first", Note{n.Text, append([]NoteSig{newer}, n.Sigs...)}, nil, nil, 150},
		{"twice, newest last", Note{n.Text, append(append([]NoteSig(nil), n.Sigs...), newer, older)}, nil, nil, 150},
		{"twice, one bad", Note{n.Text, append([]NoteSig{newer}, flip(1, 20).Sigs...)}, nil, ErrBadSignature, 0},
		{"other text", Note{cpAt(8).Text(), n.Sigs}, ErrBadSignature, ErrBadSignature, 0},
	} {
		if err := lk.VerifyLog(c.n); !errors.Is(err, c.log) {
			t.Errorf("%s: log: %v, want %v", c.name, err, c.log)
		}
		at, err := a.VerifyCosignature(c.n)
		if !errors.Is(err, c.co) || at != c.time {
			t.Errorf("%s: cosignature: %d, %v; want %d, %v", c.name, at, err, c.time, c.co)
		}
	}
	if err := a.VerifyLog(n); err == nil {
		t.Error("a cosigner's key verifies as a log's")
	}
	if _, err := lk.VerifyCosignature(n); err == nil {
		t.Error("a log's key verifies as a cosigner's")
	}
}

func TestSignerRefuses(t *testing.T) {
	lk, w := logKey(t), wit(t, "a")
	text := cpAt(1).Text()
	for name, err := range map[string]error{
		"log key cosigns":      second(lk.Cosign(text, 1)),
		"witness key signs":    second(w.SignLog(text)),
		"not a checkpoint":     second(lk.SignLog("hello\n")),
		"cosign anything":      second(w.Cosign("hello\n", 1)),
		"time zero":            second(w.Cosign(text, 0)),
		"time above 2^63-1":    second(w.Cosign(text, 1<<63)),
		"name with a space":    second(NewSigner("a b", TypeLog, seed("x"))),
		"name with a plus":     second(NewSigner("a+b", TypeLog, seed("x"))),
		"empty name":           second(NewSigner("", TypeLog, seed("x"))),
		"unsupported key type": second(NewSigner("x", 0x06, seed("x"))),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestSKey(t *testing.T) {
	for _, typ := range []byte{TypeLog, TypeCosigner} {
		s := must[string](t)(MarshalSKey("n.example", typ, seed("n.example")))
		back := must[*Signer](t)(ParseSKey(s))
		if back.VKey().String() != signer(t, "n.example", typ).VKey().String() {
			t.Errorf("%#02x: %s", typ, back.VKey())
		}
		for _, bad := range []string{
			"", s[1:], s + "\n", s + " ", strings.Replace(s, "n.example", "m.example", 1), strings.ToLower(s),
			strings.Replace(s, "PRIVATE+", "", 1), s[:len(s)-4], strings.TrimRight(s, "="),
		} {
			if bad == s {
				continue
			}
			_, err := ParseSKey(bad)
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("ParseSKey(%q): %v", bad, err)
			}
			if err != nil && len(s) > 20 && strings.Contains(err.Error(), s[len(s)-20:]) {
				t.Error("error shows the key")
			}
		}
	}
}

func TestVKeyRefusesWeakKeys(t *testing.T) {
	small := make([]byte, 32) // y = 0: a point of order 4
	identity := append([]byte{1}, make([]byte, 31)...)
	nonCanonical := bytes.Repeat([]byte{0xff}, 32) // y = 2^255-1, reduces to 18
	nonCanonical[0], nonCanonical[31] = 0xee, 0x7f // y = p+1, the identity again
	for name, pub := range map[string][]byte{"order 4": small, "identity": identity, "non-canonical": nonCanonical, "short": small[:31], "empty": nil} {
		if _, err := NewVKey("x.example", TypeLog, pub); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// the second encodings (y + p) of points that are otherwise fine
	found := 0
	for y := byte(2); y < 19; y++ {
		canonical := append([]byte{y}, make([]byte, 31)...)
		if _, err := NewVKey("x.example", TypeLog, canonical); err != nil {
			continue // no such point
		}
		found++
		again := bytes.Repeat([]byte{0xff}, 32)
		again[0], again[31] = 0xed+y, 0x7f
		if _, err := NewVKey("x.example", TypeLog, again); !errors.Is(err, ErrMalformed) {
			t.Errorf("second encoding of y = %d: %v", y, err)
		}
	}
	if found == 0 {
		t.Error("no point to encode twice")
	}
}

func TestParseVKeys(t *testing.T) {
	a, b := wit(t, "a").VKey().String(), wit(t, "b").VKey().String()
	keys, err := ParseVKeys([]byte("# index cosigners\n\n" + a + "\n \t" + b + " \n"))
	if err != nil || len(keys) != 2 || keys[0].String() != a || keys[1].String() != b {
		t.Fatalf("%v, %v", keys, err)
	}
	if keys, err := ParseVKeys(nil); err != nil || len(keys) != 0 {
		t.Errorf("empty list: %v, %v", keys, err)
	}
	for _, bad := range []string{a, a + "\r\n", a + "\n" + a + "\n", a + " " + b + "\n", logKey(t).VKey().String() + "\n", "x\n"} {
		if _, err := ParseVKeys([]byte(bad)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// Proofs made by sumdb's tree verify, and damaged ones do not.
func TestMerkleProofs(t *testing.T) {
	const n = 70
	var hashes memTree
	roots := []tlog.Hash{tlog.Hash(EmptyRoot)}
	for i := range int64(n) {
		hs := must[[]tlog.Hash](t)(tlog.StoredHashes(i, fmt.Appendf(nil, "entry %d", i), &hashes))
		hashes = append(hashes, hs...)
		roots = append(roots, must[tlog.Hash](t)(tlog.TreeHash(i+1, &hashes)))
	}
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.Int64Range(1, n).Draw(rt, "size")
		index := rapid.Int64Range(0, size-1).Draw(rt, "index")
		incl := must[tlog.RecordProof](t)(tlog.ProveRecord(size, index, &hashes))
		leaf := entry.LeafHash(fmt.Appendf(nil, "entry %d", index))
		if err := VerifyInclusion(leaf, uint64(index), uint64(size), conv(incl), entry.Hash(roots[size])); err != nil {
			rt.Fatal(err)
		}
		if err := VerifyInclusion(leaf, uint64(index), uint64(size), append(conv(incl), leaf), entry.Hash(roots[size])); !errors.Is(err, ErrBadProof) {
			rt.Fatalf("longer proof: %v", err)
		}
		got, err := PrefixRoot(leaf, uint64(index), uint64(size), conv(incl), entry.Hash(roots[size]))
		if err != nil || got != entry.Hash(roots[index+1]) {
			rt.Fatalf("entry %d of %d ends a prefix of root %s, %v, want %x", index, size, got, err, roots[index+1])
		}
		if len(incl) > 0 {
			bad := conv(incl)
			bad[rapid.IntRange(0, len(bad)-1).Draw(rt, "damaged hash")][5] ^= 1
			if _, err := PrefixRoot(leaf, uint64(index), uint64(size), bad, entry.Hash(roots[size])); !errors.Is(err, ErrBadProof) {
				rt.Fatalf("prefix from a damaged proof: %v", err)
			}
		}
		old := rapid.Int64Range(1, size).Draw(rt, "old")
		cons := must[tlog.TreeProof](t)(tlog.ProveTree(size, old, &hashes))
		verify := func(p []entry.Hash, a, b int64) error {
			return VerifyConsistency(uint64(a), uint64(b), p, entry.Hash(roots[a]), entry.Hash(roots[b]))
		}
		if err := verify(conv(cons), old, size); err != nil {
			rt.Fatal(err)
		}
		if len(cons) > 0 {
			bad := conv(cons)
			bad[rapid.IntRange(0, len(bad)-1).Draw(rt, "damaged")][5] ^= 1
			if err := verify(bad, old, size); !errors.Is(err, ErrBadProof) {
				rt.Fatalf("damaged proof: %v", err)
			}
		}
		if err := verify(append(conv(cons), leaf), old, size); !errors.Is(err, ErrBadProof) {
			rt.Fatalf("longer proof: %v", err)
		}
		if old < size {
			if err := verify(conv(cons), size, old); !errors.Is(err, ErrBadProof) {
				rt.Fatalf("backwards: %v", err)
			}
		}
	})
	r := entry.Hash(roots[3])
	for _, c := range []struct {
		name string
		err  error
		ok   bool
	}{
		{"from nothing", VerifyConsistency(0, 3, nil, EmptyRoot, r), true},
		{"nothing to nothing", VerifyConsistency(0, 0, nil, EmptyRoot, EmptyRoot), true},
		{"from nothing, wrong old root", VerifyConsistency(0, 3, nil, r, r), false},
		{"from nothing with a proof", VerifyConsistency(0, 3, []entry.Hash{r}, EmptyRoot, r), false},
		{"size 0, other root", VerifyConsistency(0, 0, nil, EmptyRoot, r), false},
		{"two roots at one size", VerifyConsistency(3, 3, nil, entry.Hash(roots[2]), r), false},
		{"same size with a proof", VerifyConsistency(3, 3, []entry.Hash{r}, r, r), false},
	} {
		if c.ok != (c.err == nil) || !c.ok && !errors.Is(c.err, ErrBadProof) {
			t.Errorf("%s: %v", c.name, c.err)
		}
	}
}

func conv(p []tlog.Hash) []entry.Hash {
	out := make([]entry.Hash, len(p))
	for i := range p {
		out[i] = entry.Hash(p[i])
	}
	return out
}

// memTree is a tlog.HashReader over all stored hashes.
type memTree []tlog.Hash

func (m *memTree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, i := range indexes {
		out = append(out, (*m)[i])
	}
	return out, nil
}

func TestProofAgreesWithOthers(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := Proof{
			Extra:      rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(rt, "extra"),
			Index:      rapid.Uint64Range(0, 99).Draw(rt, "index"),
			Checkpoint: signed(t, cpAt(100), nil).Marshal(),
		}
		for i := range rapid.IntRange(0, 7).Draw(rt, "hashes") {
			p.Hashes = append(p.Hashes, rootOf(uint64(i)))
		}
		b := p.Marshal()
		var other fproof.TLogProof
		if err := other.Unmarshal(b); err != nil {
			rt.Fatal(err)
		}
		if other.Index != p.Index || !bytes.Equal(other.ExtraData, p.Extra) || !bytes.Equal(other.Checkpoint, p.Checkpoint) || len(other.Hashes) != len(p.Hashes) {
			rt.Fatalf("%+v", other)
		}
		if !bytes.Equal(other.Marshal(), b) {
			rt.Fatalf("theirs:\n%s\nours:\n%s", other.Marshal(), b)
		}
		back, err := ParseProof(b)
		if err != nil || !bytes.Equal(back.Marshal(), b) {
			rt.Fatal(err)
		}
	})
}

func FuzzNote(f *testing.F) {
	n := signed(f, cpAt(3), map[string]uint64{"a": 5}, "a").Marshal()
	f.Add(n)
	f.Add([]byte("a\n\nb\n\n— x AAAAAAA=\n"))
	f.Add(bytes.ReplaceAll(n, []byte("\n"), []byte("\r\n")))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := ParseNote(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(n.Marshal(), b) {
			t.Fatalf("%q is written %q", b, n.Marshal())
		}
		// x/mod accepts at least what we accept, with the same text
		var un *note.UnverifiedNoteError
		if _, err := note.Open(b, nil); !errors.As(err, &un) && len(n.Sigs) <= 100 {
			t.Fatalf("x/mod: %v", err)
		} else if un != nil && un.Note.Text != n.Text {
			t.Fatalf("x/mod reads the text %q, we %q", un.Note.Text, n.Text)
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	f.Add(cpAt(3).Text())
	f.Add(cpAt(3).Text() + "extension\n")
	f.Add("o\n007\n" + cpAt(3).Text())
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseCheckpoint(s)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if c.Text() != s {
			t.Fatalf("%q is written %q", s, c.Text())
		}
		var other flog.Checkpoint
		if _, err := other.Unmarshal([]byte(s)); err != nil || other.Size != c.Size || other.Origin != c.Origin || !bytes.Equal(other.Hash, c.Root[:]) {
			t.Fatalf("formats reads %q as %+v, %v", s, other, err)
		}
	})
}

func FuzzVKey(f *testing.F) {
	f.Add(logKey(f).VKey().String())
	f.Add(wit(f, "a").VKey().String())
	f.Add("example.com/foo+530D903A+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")
	f.Fuzz(func(t *testing.T, s string) {
		k, err := ParseVKey(s)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if k.String() != s {
			t.Fatalf("%q is written %q", s, k)
		}
		if k.Type == TypeLog {
			if v, err := note.NewVerifier(s); err != nil || v.KeyHash() != k.ID {
				t.Fatalf("x/mod: %v", err)
			}
		}
	})
}

func FuzzProof(f *testing.F) {
	p := Proof{Extra: []byte("e"), Index: 1, Hashes: []entry.Hash{rootOf(1)}, Checkpoint: signed(f, cpAt(3), nil).Marshal()}
	f.Add(p.Marshal())
	p.Extra = nil
	f.Add(p.Marshal())
	f.Add(bytes.Replace(p.Marshal(), []byte("index 1"), []byte("index 01"), 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseProof(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(p.Marshal(), b) {
			t.Fatalf("%q is written %q", b, p.Marshal())
		}
	})
}
