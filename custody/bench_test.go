package custody_test

import (
	"crypto/ed25519"
	"fmt"
	"testing"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/custodytest"
)

// BenchmarkDecide is the door's work on one statement about one unit, signatures
// apart.
func BenchmarkDecide(b *testing.B) {
	w := custodytest.Quiet(9)
	u := unit(custodytest.Unit(0, 0))
	if _, _, err := w.Commission(w.Actors[0], u.URI, 0, true); err != nil {
		b.Fatal(err)
	}
	s := w.Make(custody.KindRelease, w.Actors[0], u, release(w.Actors[0], w.Actors[5]))
	it := custody.Item{Index: uint64(len(w.Items)), Time: w.Now, Signed: custodytest.Signed(s, []ed25519.PrivateKey{w.Actors[0].Key()})}
	row := append([]byte(nil), w.St.Get("u"+u.URI)...)
	b.ReportAllocs()
	for b.Loop() {
		w.St.Set("u"+u.URI, row)
		if _, err := custody.Decide(w.St, it); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDecidePack is the door's work on one statement that packs many units.
func BenchmarkDecidePack(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := custodytest.Quiet(0)
			var ms []custody.Member
			for i := range n {
				ms = append(ms, custody.Member{URI: custodytest.Unit(0, i)})
			}
			must := func(err error) {
				if err != nil {
					b.Fatal(err)
				}
			}
			must(w.CommissionLot(w.Actors[0], 0, 0, ms))
			var refs []custody.UnitRef
			for _, m := range ms {
				refs = append(refs, unit(m.URI))
			}
			rows := map[string][]byte{}
			for _, r := range refs {
				rows["u"+r.URI] = w.St.Get("u" + r.URI)
			}
			it, err := w.PackItem(w.Actors[0], custodytest.Container(1), 1, w.Heads(refs...))
			must(err)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				for k, v := range rows {
					w.St.Set(k, v)
				}
				w.St.Set("l"+custodytest.Container(1)+" "+it.ID().String(), nil)
				b.StartTimer()
				if _, err := custody.Decide(w.St, it); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/member")
		})
	}
}

// BenchmarkWalk is a verifier's fold of the closure of a unit in random trade.
func BenchmarkWalk(b *testing.B) {
	w := custodytest.New(1, custodytest.Config{Units: 80, Evil: 5})
	w.Found()
	for range 600 {
		w.Step()
	}
	b.ReportAllocs()
	n, items := 0, 0
	for b.Loop() {
		h, err := custody.Walk(w, w.Units[n%len(w.Units)], nil)
		if err != nil {
			b.Fatal(err)
		}
		items += len(h.Items)
		n++
	}
	b.ReportMetric(float64(items)/float64(n), "entries")
}
