package custody

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseGeo(t *testing.T) {
	good := map[string]Geo{
		"geo:22.6163,120.3133;u=50":    {226163000, 1203133000, 50},
		"geo:0,0":                      {},
		"geo:-90,180":                  {-900000000, 1800000000, 0},
		"geo:90,-180;u=1":              {900000000, -1800000000, 1},
		"geo:-0.0000001,0.0000001;u=9": {-1, 1, 9},
		"geo:52.5200,13.40":            {525200000, 134000000, 0},
		"geo:1.5,2.5;u=20037508":       {15000000, 25000000, 20037508},
	}
	for s, want := range good {
		if g, err := ParseGeo(s); err != nil || g != want {
			t.Errorf("%s: %+v, %v", s, g, err)
		}
	}
	for _, s := range []string{"", "geo:", "geo:1", "geo:1,", "geo:,1", "GEO:1,1", "geo:1,1,1", "geo: 1,1", "geo:1, 1", "geo:+1,1", "geo:1.,1", "geo:.5,1",
		"geo:01,1", "geo:-0,1", "geo:-0.0,1", "geo:90.0000001,1", "geo:1,180.0000001", "geo:1,-181", "geo:1e1,1", "geo:1,1;u=", "geo:1,1;u=0", "geo:1,1;u=05",
		"geo:1,1;u=-5", "geo:1,1;u=5.0", "geo:1,1;u=+5", "geo:1,1;u=20037509", "geo:1,1;u=99999999999", "geo:1,1;crs=wgs84;u=5", "geo:1,1;u=5;x=1", "geo:1,1;U=5",
		"geo:1.12345678,1", "geo:1,1 ", "geo:1,1\n", "geo:٣,1", "geo:NaN,1", "geo:1000,1", "geo:0x1,1", "geo:1_0,1"} {
		if g, err := ParseGeo(s); err == nil {
			t.Errorf("%q is %+v", s, g)
		}
	}
}

func TestRapidGeo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := Geo{rapid.Int32Range(-90*geoScale, 90*geoScale).Draw(t, "lat"), rapid.Int32Range(-180*geoScale, 180*geoScale).Draw(t, "lon"), rapid.Uint32Range(0, maxMetres).Draw(t, "u")}
		back, err := ParseGeo(g.String())
		if err != nil || back != g {
			t.Fatalf("%s: %+v, %v", g, back, err)
		}
	})
}

func TestParseTime(t *testing.T) {
	for s, want := range map[string]time.Time{
		"2026-11-02T03:14:15Z":           time.Date(2026, 11, 2, 3, 14, 15, 0, time.UTC),
		"2024-02-29T23:59:59.5Z":         time.Date(2024, 2, 29, 23, 59, 59, 5e8, time.UTC),
		"2199-12-31T00:00:00.123456789Z": time.Date(2199, 12, 31, 0, 0, 0, 123456789, time.UTC),
		"2000-01-01T00:00:00.000Z":       time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		if got, err := ParseTime(s); err != nil || !got.Equal(want) {
			t.Errorf("%s: %s, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "Z", "2026-11-02", "2026-11-02T03:14Z", "2026-11-02 03:14:15Z", "2026-11-02T03:14:15", "2026-11-02T03:14:15+00:00", "2026-11-02T03:14:15z",
		"2026-1-02T03:14:15Z", "2026-11-02T3:14:15Z", "2025-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-11-02T24:00:00Z", "2026-11-02T03:60:00Z", "2026-06-30T23:59:60Z",
		"2026-11-02T03:14:15.Z", "2026-11-02T03:14:15,5Z", "2026-11-02T03:14:15.1234567890Z", "2026-11-02T03:14:15.5 Z", "1999-12-31T23:59:59Z", "2200-01-01T00:00:00Z", "9999-12-31T23:59:59Z",
		"+2026-11-02T03:14:15Z", " 2026-11-02T03:14:15Z", "2026-11-02T03:14:15ZZ", "２026-11-02T03:14:15Z"} {
		if got, err := ParseTime(s); err == nil {
			t.Errorf("%q is %s", s, got)
		}
	}
}

func TestRapidTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := time.UnixMilli(rapid.Int64Range(946684800000, 7258118399999).Draw(t, "ms")).UTC()
		got, err := ParseTime(FormatTime(want))
		if err != nil || !got.Equal(want) {
			t.Fatalf("%s: %s, %v", FormatTime(want), got, err)
		}
	})
}

func TestCodes(t *testing.T) {
	for s, want := range map[string]bool{"TW": true, "DE": true, "XK": true, "ZW": true, "AD": true, "UK": false, "EU": false, "tw": false, "": false, "T": false, "TWN": false, " T": false, "W ": false, "XX": false} {
		if IsCountry(s) != want {
			t.Errorf("country %q: %t", s, !want)
		}
	}
	for s, want := range map[string]bool{"TWKHH": true, "USNYC": true, "XZ222": true, "DE2A9": true, "TWKH1": false, "TWKH0": false, "TWkhh": false, "TWKH": false, "TWKHHH": false, "UKLON": false, "": false, "TW HH": false} {
		if IsLocode(s) != want {
			t.Errorf("locode %q: %t", s, !want)
		}
	}
	for s, want := range map[string]bool{"jane@example.com": true, "write to jane.doe+x@sub.example.co.uk.": true, "mailto:x": true, "tel:+49": true,
		"pkg@1.2.33": false, "img@sha256:abc": false, "@home": false, "a@b": false, "a @ b.com": false, "50 @ 3.10": false, "": false, "x@.com": false, "it's 5@night": false} {
		if looksLikeEmail(s) != want {
			t.Errorf("e-mail %q: %t", s, !want)
		}
	}
	for s, want := range map[string]string{"predicateType": "predicatetype", "predicate_type": "predicatetype", "PREDICATE-TYPE": "predicatetype", "\u017fealed": "sealed", "\u212aind": "kind", "é": "é", "plain": "plain"} {
		if foldName(s) != want {
			t.Errorf("%q folds to %q", s, foldName(s))
		}
	}
	for s, want := range map[string]bool{"0": true, "-1": true, "9007199254740991": true, "-9007199254740991": true, "9007199254740992": false, "1.0": false, "1e2": false, "-0": false, "99999999999999999999": false} {
		if plainInteger(s) != want {
			t.Errorf("integer %q: %t", s, !want)
		}
	}
}

// TestNamesDoNotCollide: a known name that must be sealed, or that folds into
// another known name, could never be written.
func TestNamesDoNotCollide(t *testing.T) {
	if len(knownNames) < 100 {
		t.Fatalf("only %d names are known", len(knownNames))
	}
	for folded, name := range knownNames {
		if sealedOnly[folded] {
			t.Errorf("the field %s may not be written", name)
		}
		if foldName(name) != folded {
			t.Errorf("%s stands under %s", name, folded)
		}
	}
}

func TestLogVKey(t *testing.T) {
	good := vkeyOf("example.com/log", edKey(4))
	if !isLogVKey(good, "example.com/log") {
		t.Fatalf("%s is refused", good)
	}
	for _, s := range []string{"", "example.com/log", good + "=", good[:len(good)-1], "x" + good, vkeyOf("example.com/other", edKey(4)), good[:len("example.com/log+")] + "00000000" + good[len("example.com/log+00000000"):]} {
		if isLogVKey(s, "example.com/log") {
			t.Errorf("%q is accepted", s)
		}
	}
}
