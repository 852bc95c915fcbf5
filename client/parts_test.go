package client

import (
	"sync"
	"testing"

	"fabtrail.dev/fabtrail/custody/answer"
)

// A client that checks many units fetches what they share once, and judges each
// as it does without.
func TestPartsAcrossUnits(t *testing.T) {
	w := tale(t)
	f := newFake(t, w)
	v := verifier(t, w.Log, f.remote(t, Options{}))
	var sizes [3]int // without parts kept, while they are gathered, with all of them
	for pass := range sizes {
		if pass == 1 {
			v.Parts = answer.NewParts(1000)
		}
		f.units = func(a *answer.Answer) {
			b, _ := a.Marshal()
			sizes[pass] += len(b)
		}
		for serial, want := range taleVerdicts {
			r, err := v.VerifyUnit(t.Context(), w.Unit(serial), "")
			if err != nil || r.Word != want {
				t.Errorf("%s: %s, want %s: %v", serial, r.Word, want, r.Checks)
			}
		}
	}
	if sizes[2] > sizes[0]*2/3 {
		t.Errorf("%d bytes with parts kept, %d without", sizes[2], sizes[0])
	}
	// A server that leaves out what the client does not hold is asked for all of it.
	asked := 0
	f.units = func(a *answer.Answer) {
		if asked++; asked == 1 {
			for i := range a.Topics {
				if len(a.Topics[i].Indexes) > 0 && a.Topics[i].Kind == "unit" {
					a.Topics[i].Known, a.Topics[i].Indexes = true, nil
				}
			}
		}
	}
	r, err := v.VerifyUnit(t.Context(), w.Unit("GOOD"), "")
	if err != nil || r.Word != taleVerdicts["GOOD"] || asked != 2 {
		t.Errorf("%s after %d answers: %v", r.Word, asked, r.Checks)
	}
}

func TestVerifyConcurrently(t *testing.T) {
	w := tale(t)
	v := verifier(t, w.Log, newFake(t, w).remote(t, Options{}))
	v.Parts = answer.NewParts(8) // small, so that lists come and go
	var wg sync.WaitGroup
	for serial, want := range taleVerdicts {
		wg.Go(func() {
			r, err := v.VerifyUnit(t.Context(), w.Unit(serial), "")
			if err != nil || r.Word != want {
				t.Errorf("%s: %s, want %s: %v", serial, r.Word, want, r.Checks)
			}
		})
	}
	wg.Wait()
}
