package entry

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

func key(b byte) (h Hash) {
	for i := range h {
		h[i] = b
	}
	return h
}

func genHash() *rapid.Generator[Hash] {
	return rapid.Custom(func(t *rapid.T) Hash {
		return Hash(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "hash"))
	})
}

func genEnvelope() *rapid.Generator[Envelope] {
	return rapid.Custom(func(t *rapid.T) Envelope {
		e := Envelope{Payload: rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "payload")}
		keys := rapid.SliceOfNDistinct(genHash(), 1, MaxSignatures, rapid.ID[Hash]).Draw(t, "keys")
		slices.SortFunc(keys, func(a, b Hash) int { return bytes.Compare(a[:], b[:]) })
		for _, k := range keys {
			e.Signatures = append(e.Signatures, Signature{k, rapid.SliceOfN(rapid.Byte(), 1, 80).Draw(t, "sig")})
		}
		return e
	})
}

func TestEnvelopeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := genEnvelope().Draw(t, "envelope")
		b, err := e.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseEnvelope(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := back.Marshal()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("written again: %x, %v; want %x", again, err, b)
		}
		// no prefix and no extension of an envelope is one
		cut := rapid.IntRange(0, len(b)-1).Draw(t, "cut")
		if _, err := ParseEnvelope(b[:cut]); !errors.Is(err, ErrMalformed) {
			t.Fatalf("cut to %d bytes: %v", cut, err)
		}
		if _, err := ParseEnvelope(append(slices.Clip(b), 0)); !errors.Is(err, ErrMalformed) {
			t.Fatalf("with one byte more: %v", err)
		}
	})
}

func TestEnvelopeLimits(t *testing.T) {
	sig := func(k byte, n int) Signature { return Signature{key(k), make([]byte, n)} }
	nine := make([]Signature, 9)
	for i := range nine {
		nine[i] = sig(byte(i), 1)
	}
	for _, c := range []struct {
		name string
		e    Envelope
		ok   bool
	}{
		{"largest", Envelope{make([]byte, MaxPayload), []Signature{sig(1, MaxSignature)}}, true},
		{"eight signers", Envelope{[]byte("x"), nine[:8]}, true},
		{"no payload", Envelope{nil, nine[:1]}, false},
		{"payload too long", Envelope{make([]byte, MaxPayload+1), nine[:1]}, false},
		{"no signature", Envelope{[]byte("x"), nil}, false},
		{"nine signers", Envelope{[]byte("x"), nine}, false},
		{"empty signature", Envelope{[]byte("x"), []Signature{sig(1, 0)}}, false},
		{"signature too long", Envelope{[]byte("x"), []Signature{sig(1, MaxSignature+1)}}, false},
		{"signer twice", Envelope{[]byte("x"), []Signature{sig(1, 1), sig(1, 1)}}, false},
		{"signers descend", Envelope{[]byte("x"), []Signature{sig(2, 1), sig(1, 1)}}, false},
	} {
		b, err := c.e.Marshal()
		if c.ok != (err == nil) || !c.ok && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: Marshal: %v", c.name, err)
		}
		if c.ok {
			if _, err := ParseEnvelope(b); err != nil {
				t.Errorf("%s: ParseEnvelope: %v", c.name, err)
			}
		}
	}
}

// Every field that a leaf commits to changes it, and leaves of different
// classes never meet.
func TestLeafCommits(t *testing.T) {
	base := Entry{Time: 1, Salt: key(1), Envelope: []byte("e"), Covers: 2, IndexRoot: key(3)}
	seen := map[[LeafSize]byte]string{}
	add := func(name string, e Entry) {
		l := e.Leaf()
		if other, ok := seen[l]; ok {
			t.Errorf("%s and %s have one leaf", name, other)
		}
		seen[l] = name
		if c, err := LeafClass(l[:]); err != nil || c != e.Class {
			t.Errorf("%s: LeafClass = %v, %v", name, c, err)
		}
	}
	for _, class := range []Class{Public, Restricted, Index} {
		e := base
		e.Class = class
		add(class.String(), e)
		e.Time++
		add(class.String()+" later", e)
	}
	for name, e := range map[string]Entry{
		"public, other envelope":     {Class: Public, Time: 1, Envelope: []byte("f")},
		"restricted, other salt":     {Class: Restricted, Time: 1, Salt: key(2), Envelope: []byte("e")},
		"restricted, other envelope": {Class: Restricted, Time: 1, Salt: key(1), Envelope: []byte("f")},
		"index, other covers":        {Class: Index, Time: 1, Covers: 3, IndexRoot: key(3)},
		"index, other root":          {Class: Index, Time: 1, Covers: 2, IndexRoot: key(4)},
	} {
		add(name, e)
	}
}

func TestLeafHashMatchesSumDB(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		leaf := rapid.SliceOf(rapid.Byte()).Draw(t, "leaf")
		if got := LeafHash(leaf); tlog.Hash(got) != tlog.RecordHash(leaf) {
			t.Fatalf("leaf hash %s", got)
		}
	})
}

func TestCargoAndExtra(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := Entry{Class: Class(rapid.IntRange(1, 3).Draw(t, "class")), Time: rapid.Uint64().Draw(t, "time")}
		switch e.Class {
		case Restricted:
			e.Salt = genHash().Draw(t, "salt")
		case Index:
			e.Covers, e.IndexRoot = rapid.Uint64().Draw(t, "covers"), genHash().Draw(t, "root")
		}
		extra, err := ParseExtra(e.Extra())
		if err != nil {
			t.Fatal(err)
		}
		if e.Class != Index {
			e.Envelope = rapid.SliceOfN(rapid.Byte(), 1, 100).Draw(t, "envelope")
			extra.Envelope = e.Envelope
		}
		cargo, err := ParseCargo(e.Cargo())
		if err != nil {
			t.Fatal(err)
		}
		if cargo.Leaf() != e.Leaf() || extra.Leaf() != e.Leaf() || cargo.LeafHash() != e.LeafHash() {
			t.Fatal("the leaf is not what it was")
		}
		if cut := rapid.IntRange(0, len(e.Extra())-1).Draw(t, "cut"); cut >= 0 {
			if _, err := ParseExtra(e.Extra()[:cut]); !errors.Is(err, ErrMalformed) {
				t.Fatalf("extra cut to %d bytes: %v", cut, err)
			}
			if _, err := ParseCargo(e.Cargo()[:cut]); !errors.Is(err, ErrMalformed) {
				t.Fatalf("cargo cut to %d bytes: %v", cut, err)
			}
		}
	})
}

func TestParseHash(t *testing.T) {
	h := key(0xab)
	if got, err := ParseHash(h.String()); err != nil || got != h {
		t.Errorf("ParseHash = %s, %v", got, err)
	}
	for _, s := range []string{"", "ab", strings.ToUpper(h.String()), h.String() + "a", "g" + h.String()[1:], " " + h.String()[1:]} {
		if _, err := ParseHash(s); err == nil {
			t.Errorf("ParseHash(%q) succeeds", s)
		}
	}
	if !(Hash{}).IsZero() || h.IsZero() {
		t.Error("IsZero")
	}
}

func TestBundle(t *testing.T) {
	full := slices.Repeat([][]byte{make([]byte, LeafSize)}, TileWidth)
	for _, c := range []struct {
		name    string
		entries [][]byte
		ok      bool
	}{
		{"one", [][]byte{[]byte("a")}, true},
		{"empty entries", [][]byte{{}, {}}, true},
		{"full", full, true},
		{"longest entry", [][]byte{make([]byte, MaxEntry)}, true},
		{"none", nil, false},
		{"257", append(slices.Clip(full), nil), false},
		{"entry too long", [][]byte{make([]byte, MaxEntry+1)}, false},
	} {
		b, err := MarshalBundle(c.entries)
		if c.ok != (err == nil) || !c.ok && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: MarshalBundle: %v", c.name, err)
			continue
		}
		if !c.ok {
			continue
		}
		back, err := ParseBundle(b)
		if err != nil || !slices.EqualFunc(back, c.entries, bytes.Equal) {
			t.Errorf("%s: ParseBundle: %d entries, %v", c.name, len(back), err)
		}
		if _, err := ParseBundle(b[:len(b)-1]); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s, cut: %v", c.name, err)
		}
	}
	if _, err := ParseBundle(make([]byte, 2*(TileWidth+1))); !errors.Is(err, ErrMalformed) {
		t.Errorf("257 empty entries: %v", err)
	}
	if _, err := ParseBundle(nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("nothing: %v", err)
	}
}

// fuzzBytes checks that whatever parse accepts, write gives back.
func fuzzBytes[T any](f *testing.F, parse func([]byte) (T, error), write func(T) ([]byte, error), seeds ...[]byte) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := parse(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("error %v does not wrap ErrMalformed", err)
			}
			return
		}
		if again, err := write(v); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is written %x, %v", b, again, err)
		}
	})
}

func FuzzEnvelope(f *testing.F) {
	one, _ := Envelope{[]byte("{}"), []Signature{{key(1), []byte("sig")}}}.Marshal()
	two, _ := Envelope{[]byte("{}"), []Signature{{key(1), []byte("a")}, {key(2), []byte("b")}}}.Marshal()
	fuzzBytes(f, ParseEnvelope, Envelope.Marshal, one, two, one[:5], append(slices.Clip(one), 0))
}

func FuzzCargo(f *testing.F) {
	fuzzBytes(f, ParseCargo, func(e Entry) ([]byte, error) { return e.Cargo(), nil },
		Entry{Class: Public, Time: 7, Envelope: []byte("e")}.Cargo(),
		Entry{Class: Restricted, Time: 7, Salt: key(9), Envelope: []byte("e")}.Cargo(),
		Entry{Class: Index, Time: 7, Covers: 5, IndexRoot: key(9)}.Cargo(), []byte{4})
}

func FuzzExtra(f *testing.F) {
	fuzzBytes(f, ParseExtra, func(e Entry) ([]byte, error) { return e.Extra(), nil },
		Entry{Class: Public, Time: 7}.Extra(),
		Entry{Class: Restricted, Time: 7, Salt: key(9)}.Extra(),
		Entry{Class: Index, Time: 7, Covers: 5, IndexRoot: key(9)}.Extra(), []byte{0})
}

func FuzzBundle(f *testing.F) {
	b, _ := MarshalBundle([][]byte{[]byte("a"), nil, []byte("ccc")})
	fuzzBytes(f, ParseBundle, MarshalBundle, b, b[:4], []byte{0, 0})
}
