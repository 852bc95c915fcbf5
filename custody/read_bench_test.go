package custody

import (
	"testing"
)

func BenchmarkParse(b *testing.B) {
	for _, name := range []string{"release", "pack opens", "commission unit", "party"} {
		p := find(b, name).payload(b)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				if _, err := Parse(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	body := signed(b, find(b, "release"))
	d, err := ParseDSSE(body)
	if err != nil {
		b.Fatal(err)
	}
	keys := enrolled(b)
	b.Run("ParseDSSE", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ParseDSSE(body); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Open(d, keys); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("batch of 256, per statement", func(b *testing.B) {
		ds := make([]DSSE, 256)
		for i := range ds {
			ds[i] = d
		}
		for i := 0; i < b.N; i += len(ds) {
			if _, errs := OpenBatch(ds, keys); errs[0] != nil {
				b.Fatal(errs[0])
			}
		}
	})
}

// BenchmarkRefuse is the cost of the dearest bodies that are refused.
func BenchmarkRefuse(b *testing.B) {
	for _, c := range badEnvelopes(b) {
		if len(c.Body) < 100_000 && c.Name != "extra junk signature" && c.Name != "eight strangers" {
			continue
		}
		keys := enrolled(b)
		b.Run(c.Name, func(b *testing.B) {
			for b.Loop() {
				if _, err := openBody([]byte(c.Body), keys); err == nil {
					b.Fatal("accepted")
				}
			}
		})
	}
	b.Run("too many tokens", func(b *testing.B) {
		for _, c := range badCases(b) {
			if c.Name == "too many tokens" {
				p := c.payload(b)
				b.ResetTimer()
				for b.Loop() {
					if _, err := Parse(p); err == nil {
						b.Fatal("accepted")
					}
				}
			}
		}
	})
}

func BenchmarkManifest(b *testing.B) {
	m := manifestOf(b, 10_000)
	raw := m.Marshal()
	b.Run("parse 10,000", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ParseManifest(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("root of 10,000", func(b *testing.B) {
		for b.Loop() {
			m.Root()
		}
	})
}
