package gs1

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"fabtrail.dev/fabtrail/internal/problem"
)

func vectors(t testing.TB, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "testdata", "gs1", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

type scanVector struct{ In, URI, Kind, Lot, Pedigree string }

func TestScan(t *testing.T) {
	var vs []scanVector
	vectors(t, "scan.json", &vs)
	for _, v := range vs {
		sc, err := Scan(v.In)
		if err != nil {
			t.Errorf("%q: %v", v.In, err)
			continue
		}
		if sc.ID.URI() != v.URI || string(sc.ID.Kind) != v.Kind || sc.Lot != v.Lot || hex.EncodeToString(sc.Pedigree) != v.Pedigree {
			t.Errorf("%q: got %s %s lot %q key %x", v.In, sc.ID.Kind, sc.ID.URI(), sc.Lot, sc.Pedigree)
		}
		if err := Canonical(v.URI); err != nil {
			t.Errorf("%s: %v", v.URI, err)
		}
		if id, err := ParseCanonical(v.URI); err != nil || id != sc.ID {
			t.Errorf("%s: %+v, %v, want %+v", v.URI, id, err, sc.ID)
		}
	}
}

type refusedVector struct {
	In, Detail, Hint, Expected string
	Unfollowed                 bool
}

func TestRefused(t *testing.T) {
	var vs []refusedVector
	vectors(t, "refused.json", &vs)
	for _, v := range vs {
		_, err := Scan(v.In)
		p := problem.As(err)
		if p == nil {
			t.Errorf("%q: accepted, or not a problem: %v", v.In, err)
			continue
		}
		if p.Type != "invalid_identifier" || !strings.Contains(p.Detail, v.Detail) || !strings.Contains(p.Hint, v.Hint) {
			t.Errorf("%q: %v, want %q and hint %q", v.In, p, v.Detail, v.Hint)
		}
		if v.Expected != "" && p.Extra["expected"] != v.Expected {
			t.Errorf("%q: expected check digit %v, want %s", v.In, p.Extra["expected"], v.Expected)
		}
		if Unfollowed(err) != v.Unfollowed {
			t.Errorf("%q: unfollowed is %t", v.In, !v.Unfollowed)
		}
	}
}

func TestNonCanonical(t *testing.T) {
	var vs []string
	vectors(t, "noncanonical.json", &vs)
	for _, s := range vs {
		id, err := Parse(s)
		if err != nil {
			t.Errorf("%q cannot even be read: %v", s, err)
			continue
		}
		p := problem.As(Canonical(s))
		if p == nil || !strings.Contains(p.Hint, id.URI()) {
			t.Errorf("%q: %v, want a refusal that tells %s", s, p, id.URI())
		}
	}
}

func TestTooLong(t *testing.T) {
	for _, s := range []string{
		"https://id.gs1.org/" + strings.Repeat("x", MaxInput),
		"https://id.gs1.org" + strings.Repeat("/a", maxSegments+1) + "/01/09506000134352",
		"https://id.gs1.org/01/09506000134352?" + strings.Repeat("a=1&", maxSegments+1),
	} {
		if _, err := Scan(s); problem.As(err) == nil {
			t.Errorf("%.40s... of %d bytes was read", s, len(s))
		}
	}
}

func TestCanonicalKind(t *testing.T) {
	if _, err := CanonicalKind("https://id.gs1.org/417/9506000100005", Party); err != nil {
		t.Error(err)
	}
	_, err := CanonicalKind("https://id.gs1.org/414/9506000100005", Party, Unit)
	if p := problem.As(err); p == nil || !strings.Contains(p.Detail, "is a site; a party or unit is needed") {
		t.Errorf("a site passed for a party: %v", err)
	}
	if _, err := Parse("https://id.gs1.org/01/09506000134352/21/a?k=AAECAwQFBgcICQoLDA0ODw"); err == nil {
		t.Error("Parse took a pedigree key")
	}
}

func TestNearMisses(t *testing.T) {
	id, err := Parse("https://id.gs1.org/01/09506000134352/21/sn-O1")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, m := range NearMisses(id) {
		if got[m.Ext] || m.Ext == id.Ext || m.Key != id.Key {
			t.Errorf("%+v is no news", m)
		}
		got[m.Ext] = true
	}
	for _, want := range []string{"SN-o1", "SN-O1", "sn-o1", "sn-01", "5n-O1", "sn_O1", "sn-OI"} {
		if !got[want] {
			t.Errorf("%s is not among the near misses %v", want, got)
		}
	}
}

// genID draws a valid identifier of any scheme.
func genID(t *rapid.T) ID {
	digits := func(n int) string {
		return rapid.StringOfN(rapid.RuneFrom([]rune("0123456789")), n, n, -1).Draw(t, "digits")
	}
	checked := func(n int) string { d := digits(n - 1); return d + string(CheckDigit(d)) }
	text82 := func(min, max int) string {
		return rapid.StringOfN(rapid.RuneFrom([]rune(charset82)), min, max, -1).Draw(t, "text")
	}
	scheme := rapid.SampledFrom([]Scheme{SGTIN, GIAI, GRAI, ITIP, CPI, SSCC, BIC, LGTIN, GTIN, PGLN, SGLN}).Draw(t, "scheme")
	key, ext := "", ""
	switch scheme {
	case SGTIN, LGTIN:
		key, ext = checked(14), text82(1, 20)
	case GTIN:
		key = checked(14)
	case GIAI:
		key = digits(4) + text82(1, 26)
	case GRAI:
		key = "0" + checked(13) + text82(1, 16)
	case ITIP:
		key, ext = checked(14)+"0102", text82(1, 20)
	case CPI:
		key, ext = digits(4)+rapid.StringOfN(rapid.RuneFrom([]rune("ABZ09#-/")), 1, 26, -1).Draw(t, "part"), "1"+digits(5)
	case SSCC:
		key = checked(18)
	case PGLN:
		key = checked(13)
	case SGLN:
		key, ext = checked(13), text82(0, 20)
	case BIC:
		s := rapid.StringMatching(`[A-Z]{3}[UJZ][0-9]{6}`).Draw(t, "container")
		key = s + string(iso6346Check(s))
	}
	id, err := New(scheme, key, ext)
	if err != nil {
		t.Fatalf("%s %s %s: %v", scheme, key, ext, err)
	}
	return id
}

const charset82 = `!"%&'()*+,-./0123456789:;<=>?ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz`

func TestCharset82(t *testing.T) {
	if len(charset82) != 82 {
		t.Fatalf("the alphabet has %d characters", len(charset82))
	}
	for c := range 256 {
		if InCharset82(byte(c)) != (strings.IndexByte(charset82, byte(c)) >= 0) {
			t.Errorf("byte %#x", c)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := genID(t)
		back, err := ParseCanonical(id.URI())
		if err != nil || back != id {
			t.Fatalf("%s: %+v, %v, want %+v", id.URI(), back, err, id)
		}
		if id.Scheme == BIC {
			return
		}
		key := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "key")
		sc, err := Scan(id.Link(key))
		if err != nil || sc.ID != id || string(sc.Pedigree) != string(key) {
			t.Fatalf("%s: %+v, %v", id.Link(key), sc, err)
		}
		// any domain, path and qualifier that means the same
		s := strings.Replace(id.URI(), "https://id.gs1.org", "http://a.example:99/stem/x", 1)
		if id.Scheme == SGTIN {
			s = strings.Replace(s, "/21/", "/22/V/10/L/21/", 1)
		}
		if got, err := Parse(s + "?a=b"); err != nil || got != id {
			t.Fatalf("%s: %+v, %v", s, got, err)
		}
	})
}

// TestOneDigit: a single wrong digit never passes, for any numbering with a
// check digit that detects all of them.
func TestOneDigit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.SampledFrom([]int{8, 12, 13, 14, 18}).Draw(t, "length")
		d := rapid.StringOfN(rapid.RuneFrom([]rune("0123456789")), n-1, n-1, -1).Draw(t, "digits")
		s := []byte(d + string(CheckDigit(d)))
		i := rapid.IntRange(0, n-1).Draw(t, "at")
		s[i] = '0' + (s[i]-'0'+byte(rapid.IntRange(1, 9).Draw(t, "by")))%10
		p := problem.As(checkLast("number", "", string(s)))
		if p == nil {
			t.Fatalf("%s passes", s)
		}
		fixed := string(s[:n-1]) + p.Extra["expected"].(string)
		if err := checkLast("number", "", fixed); err != nil {
			t.Fatalf("the expected digit is not right: %v", err)
		}
	})
}

func TestISO6346(t *testing.T) {
	for _, s := range []string{"CSQU3054383", "MSKU1234565", "HLXU1234567", "TGHU7593290"} {
		want := iso6346Check(s[:10])
		err := CheckISO6346(s[:10] + string(want))
		if err != nil {
			t.Error(err)
		}
		for c := byte('0'); c <= '9'; c++ {
			if err := CheckISO6346(s[:10] + string(c)); (err == nil) != (c == want) {
				t.Errorf("%s%c: %v", s[:10], c, err)
			}
		}
	}
	if got := iso6346Check("CSQU305438"); got != '3' {
		t.Errorf("check digit of the standard's example is %c", got)
	}
}

// TestSame: two spellings give one ID exactly when their URIs are equal.
func TestSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := genID(t), genID(t)
		if (a == b) != (a.URI() == b.URI()) {
			t.Fatalf("%+v and %+v", a, b)
		}
	})
}

func FuzzScan(f *testing.F) {
	var vs []scanVector
	vectors(f, "scan.json", &vs)
	for _, v := range vs {
		f.Add(v.In)
	}
	var bad []refusedVector
	vectors(f, "refused.json", &bad)
	for _, v := range bad {
		f.Add(v.In)
	}
	f.Fuzz(func(t *testing.T, s string) {
		sc, err := Scan(s)
		if err != nil {
			if problem.As(err) == nil {
				t.Fatalf("%q: %v is not a problem", s, err)
			}
			return
		}
		uri := sc.ID.URI()
		again, err := Scan(uri)
		if err != nil || again.ID != sc.ID || again.ID.URI() != uri {
			t.Fatalf("%q gives %s, which gives %+v, %v", s, uri, again, err)
		}
		if err := Canonical(uri); err != nil {
			t.Fatalf("%q gives %s: %v", s, uri, err)
		}
		if sc.Pedigree != nil && len(sc.Pedigree) != 16 {
			t.Fatalf("%q: a key of %d bytes", s, len(sc.Pedigree))
		}
	})
}

func FuzzEPCLink(f *testing.F) {
	for _, s := range []string{"urn:epc:id:sgtin:0614141.107346.2017", "urn:epc:id:gdti:0614141.00001.1618034", "urn:epc:id:gsin:4012345.999987654",
		"urn:epc:id:sgcn:4012345.99999.44", "urn:epc:id:gsrnp:4012345.0000098765", "urn:epc:id:ginc:4012345.333", "urn:epc:idpat:grai:4012345.66666.*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		link, err := EPCLink(s)
		if err != nil {
			return
		}
		path, ok := strings.CutPrefix(link, canonicalStem)
		if !ok {
			t.Fatalf("%q gives %q", s, link)
		}
		for _, seg := range strings.Split(path, "/") {
			raw, err := unescape(seg)
			if err != nil || escape(raw) != seg || raw == "" {
				t.Fatalf("%q gives %q, whose part %q is not encoded in one way", s, link, seg)
			}
		}
	})
}

// The short way to a canonical link says yes only where the long one does, and the
// same.
func TestPlainLink(t *testing.T) {
	plain := 0
	check := func(s string) {
		id, ok := plainLink(s)
		if !ok {
			return
		}
		plain++
		if want, err := Parse(s); err != nil || id != want || want.URI() != s {
			t.Fatalf("%q: the short way gives %+v, the long one %+v, %v", s, id, want, err)
		}
	}
	var vs []scanVector
	vectors(t, "scan.json", &vs)
	var seeds []string
	for _, v := range vs {
		seeds = append(seeds, v.In, v.URI)
	}
	for _, s := range []string{"01/09506000123457", "01/09506000123457/21/U0001", "01/09506000123457/10/L1", "417/9506000001004", "01/09506000123457/21/",
		"01/09506000123457/22/A", "01/09506000123457/21/A%2F", "01/09506000123457/21/A/10/B", "01/9506000123457", "417/9506000001004/21/A", "417/9506000001005",
		"01/09506000123457/21/AAAAAAAAAAAAAAAAAAAAA", "01/09506000123457/21/A?10=B", "01/09506000123457/", "01/09506000123457/21/ä"} {
		seeds = append(seeds, canonicalStem+s)
	}
	for _, s := range seeds {
		check(s)
		for i := range len(s) { // bent in one byte
			for _, c := range "0/1aZ%?#." {
				check(s[:i] + string(c) + s[i+1:])
			}
			check(s[:i])
		}
	}
	if plain < 100 {
		t.Errorf("the short way was taken %d times", plain)
	}
}
