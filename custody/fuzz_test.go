package custody

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"fabtrail.dev/fabtrail/ledger/entry"
)

func FuzzParse(f *testing.F) {
	for _, s := range samples(f) {
		f.Add(s.payload(f))
	}
	for _, c := range badCases(f) {
		if p := c.payload(f); len(p) <= maxVector {
			f.Add(p)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(b)
		if err != nil {
			if p := problemOf(t, err); len(p.Field) > 1024 || len(p.Detail) > 2048 {
				t.Fatalf("a refusal of %d bytes echoes %d", len(b), len(p.Field)+len(p.Detail))
			}
			return
		}
		if s.ID != entry.StatementID(b) || !bytes.Equal(s.Payload, b) {
			t.Fatal("the ID is not that of the payload")
		}
		again, err := s.Rebuild() // unknown fields are lost, nothing else
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		r, err := Parse(again)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := r.Rebuild()
		if err != nil || !bytes.Equal(twice, again) {
			t.Fatalf("rebuilding changes: %v\n%s\n%s", err, again, twice)
		}
		if len(RequiredSigners(s)) == 0 {
			t.Fatal("nobody signs")
		}
		if !strictTwice(b) {
			t.Fatal("a second strict reader refuses it")
		}
	})
}

// FuzzStrictJSON: whatever scanJSON accepts, an independent strict reader over
// encoding/json accepts too, and the other way round within the limits.
func FuzzStrictJSON(f *testing.F) {
	for _, s := range []string{`{}`, `[1,2,-3]`, `{"a":{"a":1},"b":[{"a":null}]}`, `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `"\ud800"`, "\"\xff\"", `1.0`, `1e3`, `-0`, `01`,
		`9007199254740992`, `true false`, ` `, `{"a":1}x`, "\ufeff{}", strings.Repeat("[", 40), `"\u0000"`, `nul`, `[1,]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := scanJSON(b, scanValue)
		if got, want := err == nil, strictTwice(b); got != want {
			t.Fatalf("accepted: %t (%v), by the second reader: %t", got, err, want)
		}
	})
}

// strictTwice is a strict reader of JSON on top of encoding/json: one value,
// valid UTF-8, no lone surrogates, no duplicate names, plain integers, limits.
func strictTwice(b []byte) bool {
	if !utf8.Valid(b) || !stdjson.Valid(b) || loneSurrogate(b) {
		return false
	}
	dec := stdjson.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	tokens := 0
	var value func(depth int) bool
	value = func(depth int) bool {
		tok, err := dec.Token()
		if err != nil {
			return false
		}
		tokens++
		switch v := tok.(type) {
		case stdjson.Number:
			return plainInteger(v.String())
		case string:
			return len(v) <= MaxString
		case stdjson.Delim:
			if depth == MaxDepth {
				return false
			}
			seen := map[string]bool{}
			for dec.More() {
				if v == '{' {
					name, err := dec.Token()
					n, ok := name.(string)
					if err != nil || !ok || seen[n] || len(n) > MaxString {
						return false
					}
					seen[n] = true
					tokens++
				}
				if !value(depth + 1) {
					return false
				}
			}
			_, err := dec.Token()
			tokens++
			return err == nil
		}
		return true
	}
	if !value(0) || tokens > MaxTokens {
		return false
	}
	_, err := dec.Token()
	return errors.Is(err, io.EOF)
}

// loneSurrogate reports whether valid JSON holds an escaped surrogate without its
// other half, which encoding/json would replace.
func loneSurrogate(b []byte) bool {
	hex := func(i int) int {
		if i+6 > len(b) || b[i] != '\\' || b[i+1] != 'u' {
			return -1
		}
		n := 0
		for _, c := range b[i+2 : i+6] {
			d := strings.IndexByte("0123456789abcdef", c|0x20)
			if d < 0 {
				return -1
			}
			n = n<<4 | d
		}
		return n
	}
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' {
			continue
		}
		n := hex(i)
		switch {
		case n < 0:
			i++ // another escape, perhaps of a backslash
		case n >= 0xd800 && n < 0xdc00:
			if m := hex(i + 6); m < 0xdc00 || m > 0xdfff {
				return true
			}
			i += 11
		case n >= 0xdc00 && n <= 0xdfff:
			return true
		default:
			i += 5
		}
	}
	return false
}

func FuzzParseDSSE(f *testing.F) {
	for _, s := range samples(f)[:12] {
		f.Add(signed(f, s))
	}
	for _, c := range badEnvelopes(f) {
		if len(c.Body) <= maxVector {
			f.Add([]byte(c.Body))
		}
	}
	keys := enrolled(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDSSE(b)
		if err != nil {
			problemOf(t, err)
			return
		}
		again, err := ParseDSSE(d.Marshal())
		if err != nil || !bytes.Equal(again.Payload, d.Payload) || len(again.Signatures) != len(d.Signatures) {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		s, err := Open(d, keys)
		if err != nil {
			problemOf(t, err)
			return
		}
		c, err := OpenCanonical(s.Bytes, keys)
		if err != nil || !bytes.Equal(c.Bytes, s.Bytes) {
			t.Fatalf("the canonical envelope does not open: %v", err)
		}
	})
}

func FuzzParseManifest(f *testing.F) {
	f.Add(sampleManifest(f).Marshal())
	f.Add(manifestOf(f, 1).Marshal())
	for _, c := range badManifests(f) {
		f.Add(c.Bytes)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if err != nil {
			problemOf(t, err)
			return
		}
		if !bytes.Equal(m.Marshal(), b) {
			t.Fatal("two encodings of one manifest")
		}
		if m.Root() != naiveRoot(t, m) {
			t.Fatal("the root differs")
		}
		p, err := m.Prove(len(m.Members) - 1)
		if err != nil || VerifyMember(m.Members[len(m.Members)-1], uint64(len(m.Members)-1), p, m.Contents()) != nil {
			t.Fatal("the last member is not proven")
		}
	})
}

func FuzzParseKey(f *testing.F) {
	for _, k := range allSigners(f) {
		f.Add(spkiDER(f, k.Public()))
	}
	for _, b := range badKeys(f) {
		der, err := decodeBase64(b.SPKI)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		k, err := ParseKey(der)
		if err != nil {
			problemOf(t, err)
			return
		}
		if !bytes.Equal(spkiDER(t, k.Public), der) || k.Algorithm() == "" {
			t.Fatal("another key came out")
		}
		if k.Verify([]byte("m"), make([]byte, 64)) == nil {
			t.Fatal("a signature of zeros verifies")
		}
	})
}

func FuzzParseOpening(f *testing.F) {
	_, o, err := SealGroup("route", someHash, []byte(`{"via":"TWKHH"}`))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(o.Marshal())
	f.Add([]byte(`{"group":"route","salt":"","value":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := ParseOpening(b)
		if err != nil {
			problemOf(t, err)
			return
		}
		again, err := ParseOpening(o.Marshal())
		if err != nil || again.Digest() != o.Digest() {
			t.Fatalf("written and read, it differs: %v", err)
		}
	})
}

func FuzzFields(f *testing.F) {
	for _, s := range []string{"geo:22.6163,120.3133;u=50", "2026-11-02T03:14:15Z", "urn:uuid:0193a5f0-7c00-7000-8000-000000000001", unitURI, cartonURI, logURI, "TWKHH", vkeyOf("example.com/log", edKey(4))} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if g, err := ParseGeo(s); err == nil {
			if again, err := ParseGeo(g.String()); err != nil || again != g {
				t.Fatalf("%q: %+v, then %+v", s, g, again)
			}
		}
		if at, err := ParseTime(s); err == nil {
			if again, err := ParseTime(at.Format("2006-01-02T15:04:05.999999999Z")); err != nil || !again.Equal(at) {
				t.Fatalf("%q: %s, then %s", s, at, again)
			}
		}
		if on, err := SubjectOf(s); err == nil && on.String() == "" {
			t.Fatalf("%q is of no kind", s)
		}
		isEventID(s)
		isLogVKey(s, "example.com/log")
		looksLikeEmail(s)
		foldName(s)
	})
}
