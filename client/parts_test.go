package client

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer"
	"fabtrail.dev/fabtrail/custody/answer/answertest"
	"fabtrail.dev/fabtrail/ledger/entry"
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

// TestThousandDevices: whoever checks a thousand devices, in calls of 500 or one by
// one, is sent what they share once: parties, keys, product, lot and log.
func TestThousandDevices(t *testing.T) {
	w := answertest.NewWorld(answertest.NewLog(t))
	w.Block("L1", 1000)
	var codes []Code
	for n := range 1000 / raceFactor {
		codes = append(codes, Code{Text: w.Commission(fmt.Sprintf("D%d", n), "L1").URI})
	}
	w.Publish()
	f := newFake(t, w)
	sent, lists := map[uint64]int{}, map[entry.Topic]int{}
	saw := func(topics []answer.Topic, entries []answer.Entry) {
		for _, e := range entries {
			sent[e.Index]++
		}
		for _, x := range topics {
			if len(x.Indexes) > 0 {
				lists[entry.Topic{Kind: x.Kind, Value: x.Value}]++
			}
		}
	}
	f.many = func(m *answer.Many) { saw(m.Topics, m.Entries) }
	f.units = func(a *answer.Answer) { saw(a.Topics, a.Entries) }
	for _, c := range []struct {
		how     string
		request string
		n       int
		verify  func(v *Verifier) ([]*Report, error)
	}{
		{"in calls of 500", "POST /v1/units:check", (len(codes) + answer.MaxUnits - 1) / answer.MaxUnits, func(v *Verifier) ([]*Report, error) { return v.VerifyUnits(t.Context(), codes) }},
		{"one by one", "GET /v1/units/{uri}", 40, func(v *Verifier) (rs []*Report, err error) {
			for _, c := range codes[:40] {
				r, err := v.VerifyUnit(t.Context(), c.Text, "")
				if err != nil {
					return nil, err
				}
				rs = append(rs, r)
			}
			return rs, nil
		}},
	} {
		clear(f.calls)
		clear(sent)
		clear(lists)
		v := verifier(t, w.Log, f.remote(t, Options{}))
		v.Parts = answer.NewParts(100)
		rs, err := c.verify(v)
		if err != nil {
			t.Fatal(err)
		}
		units := 0
		for _, r := range rs {
			if r.Word != custody.Verified {
				t.Fatalf("%s: %s is %s: %v", c.how, r.URI, r.Word, r.Failed())
			}
			units++
		}
		if f.calls[c.request] != c.n || len(f.calls) != 1 {
			t.Errorf("%s: %v", c.how, f.calls)
		}
		kinds := map[entry.TopicKind]int{}
		for topic, n := range lists {
			kinds[topic.Kind]++
			if n != 1 {
				t.Errorf("%s: the list of %s was sent %d times", c.how, topic, n)
			}
		}
		for n, times := range sent {
			if times != 1 {
				t.Errorf("%s: entry %d was sent %d times", c.how, n, times)
			}
		}
		if kinds[entry.TopicUnit] != units || kinds[entry.TopicProduct] != 1 || kinds[entry.TopicLot] != 1 || kinds[entry.TopicLog] != 1 || kinds[entry.TopicParty] < 2 || kinds[entry.TopicKey] < 2 {
			t.Errorf("%s: lists of %v were sent about %d units", c.how, kinds, units)
		}
	}
}

// TestLongListGrows: of a container that is used for years a client that has verified
// it before is sent what is new, and comes to what another comes to.
func TestLongListGrows(t *testing.T) {
	w := answertest.NewWorld(answertest.NewLog(t))
	maker := w.Parties["maker"]
	w.Block("L1", 1000)
	used := 0
	use := func(n int) {
		for range n {
			w.Pack(maker, 7, 1, w.Commission(fmt.Sprintf("U%d", used), "L1"))
			used++
		}
		w.Publish()
	}
	f := newFake(t, w)
	sent := 0
	f.units = func(a *answer.Answer) { sent = len(a.Entries) }
	v := verifier(t, w.Log, f.remote(t, Options{}))
	v.Parts = answer.NewParts(100)
	for _, n := range []int{40, 3, 0, 1, 60} {
		use(n)
		r, err := v.VerifyUnit(t.Context(), w.Container(7), "")
		if err != nil {
			t.Fatal(err)
		}
		got := sent
		fresh, err := verifier(t, w.Log, f.remote(t, Options{})).VerifyUnit(t.Context(), w.Container(7), "")
		if err != nil || !slices.Equal(r.Failed(), fresh.Failed()) || r.Word != fresh.Word || r.Claim != fresh.Claim || len(r.History.Entries()) != used {
			t.Fatalf("%d uses: %s %q, from scratch %s %q: %v %v", used, r.Word, r.Claim, fresh.Word, fresh.Claim, r.Failed(), err)
		}
		if used > n && got != n || sent < used {
			t.Errorf("%d of %d uses are new: %d entries were sent, %d to who knew none", n, used, got, sent)
		}
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
