package node

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fabtrail.dev/fabtrail/api"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/problem"
)

// piece is a job that notes with how many others it is done.
type piece struct {
	p      *played
	party  string
	broken string // "read" or "finish": where it panics
	reads  int
	group  int
}

func (j *piece) read() {
	j.p.has(j.party, 1)
	j.reads++
	if j.broken == "read" {
		panic("broken")
	}
}

func (j *piece) finish(others []job) {
	time.Sleep(time.Second)
	for _, o := range append([]job{j}, others...) {
		o := o.(*piece)
		o.group += 1 + len(others)
		if o.broken == "finish" {
			panic("broken")
		}
	}
}

// busy takes the only processor until the function that it returns is called.
func (p *played) busy() (end func()) {
	var once sync.WaitGroup
	once.Add(1)
	go func() { _ = p.turns.do(context.Background(), "busy", 1, once.Wait) }()
	synctest.Wait()
	return once.Done
}

// share has a job done, and notes with what it panicked.
func (p *played) share(ctx context.Context, cost int, j *piece, broke *any, err *error) {
	go func() {
		defer func() { *broke = recover() }()
		*err = p.turns.share(ctx, j.party, cost, j)
	}()
	synctest.Wait()
}

// TestJobsAreDoneTogether: what a party has waiting is done together, in its order and
// up to a bound, once each, and parties take turns as ever.
func TestJobsAreDoneTogether(t *testing.T) {
	play(t, 1, func(p *played) {
		var jobs []*piece
		broke, errs := make([]any, 100), make([]error, 100)
		add := func(party string, n, cost int) {
			for range n {
				j := &piece{p: p, party: party}
				p.share(context.Background(), cost, j, &broke[len(jobs)], &errs[len(jobs)])
				jobs = append(jobs, j)
			}
		}
		end := p.busy()
		add("a", 20, 1)
		add("a", 1, 2) // a large one is done alone
		add("a", 2, 1)
		add("b", 1, 1)
		end()
		time.Sleep(time.Hour)
		synctest.Wait()
		var groups []string
		for i, j := range jobs {
			if j.reads != 1 || broke[i] != nil || errs[i] != nil {
				t.Errorf("job %d was read %d times: %v, %v", i, j.reads, broke[i], errs[i])
			}
			groups = append(groups, fmt.Sprint(j.group))
		}
		want := strings.Repeat("16 ", 16) + strings.Repeat("4 ", 4) + "1 2 2 1"
		if got := strings.Join(groups, " "); got != want {
			t.Errorf("done in groups of %s, want %s", got, want)
		}
		if got, want := strings.Join(p.order, ""), strings.Repeat("a", 16)+"b"+strings.Repeat("a", 7); got != want {
			t.Errorf("order %s, want %s", got, want)
		}
		if p.turns.free != 1 || len(p.turns.parties) != 0 {
			t.Errorf("%d processors are free, %d parties are remembered", p.turns.free, len(p.turns.parties))
		}
	})
}

// TestBrokenJob: a job that panics does so where it came from; those that are done with
// it are done, and the processor is given back.
func TestBrokenJob(t *testing.T) {
	for _, c := range []struct {
		where string
		which int
		want  string // who panics
	}{
		{"read", 0, "x.."}, {"read", 1, ".x."}, {"finish", 0, "xxx"}, {"finish", 2, "xxx"},
	} {
		t.Run(fmt.Sprint(c.where, c.which), func(t *testing.T) {
			play(t, 1, func(p *played) {
				broke, errs := make([]any, 3), make([]error, 3)
				end := p.busy()
				for i := range broke {
					j := &piece{p: p, party: "a"}
					if i == c.which {
						j.broken = c.where
					}
					p.share(context.Background(), 1, j, &broke[i], &errs[i])
				}
				end()
				time.Sleep(time.Hour)
				synctest.Wait()
				for i := range broke {
					if (broke[i] != nil) != (c.want[i] == 'x') || errs[i] != nil {
						t.Errorf("job %d: panic %v, error %v", i, broke[i], errs[i])
					}
				}
				if p.turns.free != 1 {
					t.Error("the processor was not given back")
				}
			})
		})
	}
}

// TestJobsEnd: who gives up leaves the line or has been done, whatever comes first.
func TestJobsEnd(t *testing.T) {
	play(t, 2, func(p *played) {
		rng := rand.New(rand.NewPCG(1, 2))
		const n = 500
		jobs := make([]*piece, n)
		broke, errs := make([]any, n), make([]error, n)
		for i := range jobs {
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+rng.IntN(40))*time.Second/2)
			defer cancel()
			jobs[i] = &piece{p: p, party: fmt.Sprint(i % 3)}
			p.share(ctx, 1, jobs[i], &broke[i], &errs[i])
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		gone, done := 0, 0
		for i, j := range jobs {
			switch {
			case broke[i] != nil, j.reads > 1, (j.reads == 1) != (errs[i] == nil), (j.group > 0) != (errs[i] == nil):
				t.Fatalf("job %d: read %d times, finished in a group of %d: %v, %v", i, j.reads, j.group, broke[i], errs[i])
			case errs[i] == nil:
				done++
			default:
				gone++
			}
		}
		if done == 0 || gone == 0 {
			t.Errorf("%d done, %d gave up", done, gone)
		}
		if p.turns.free != 2 || len(p.turns.parties) != 0 {
			t.Errorf("%d processors are free, %d parties are remembered", p.turns.free, len(p.turns.parties))
		}
	})
}

// TestStatementsVerifiedTogether: single statements of a party that wait for the
// processors are each answered as if they had come alone, good ones and bad ones.
func TestStatementsVerifiedTogether(t *testing.T) {
	w := newWorld(t)
	n := w.node
	var envelopes [][]byte
	var want []string
	add := func(slug string, envelope []byte) {
		envelopes, want = append(envelopes, envelope), append(want, slug)
	}
	spoil := func(i int) []byte {
		return reseal(t, w.commission(i), func(d *custody.DSSE) { d.Signatures[0].Sig[5] ^= 1 })
	}
	for i := range 3 {
		add("", w.commission(10*i))
	}
	add("bad_signature", spoil(1))
	add("malformed_json", []byte("{"))
	add("", w.commission(2))
	add("bad_signature", spoil(3))
	add("signer_mismatch", w.sign(w.payload(custody.KindCommission, unit(4), w.event(carrierParty, "carrier", custody.First()),
		&custody.Commission{UnitKind: "device"}), w.keys[carrierParty]))
	stranger, err := custody.GenerateKey(custody.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	add("unknown_key", w.sign(w.payload(custody.KindCommission, unit(5), w.event(makerParty, "maker", custody.First()),
		&custody.Commission{UnitKind: "device"}), stranger))
	add("", w.commission(6))

	// Both groups and single turns come about, as the processors are all taken at first.
	var taken sync.WaitGroup
	taken.Add(1)
	for range runtime.GOMAXPROCS(0) {
		go func() { _ = n.turns.do(t.Context(), "busy", 1, taken.Wait) }()
	}
	waiting := func(k int) {
		for {
			n.turns.mu.Lock()
			free, line := n.turns.free, 0
			for _, p := range n.turns.parties {
				line += len(p.line)
			}
			n.turns.mu.Unlock()
			if free == 0 && line == k {
				return
			}
			if t.Context().Err() != nil {
				t.Fatal("the statements do not come to wait")
			}
			runtime.Gosched()
		}
	}
	waiting(0)
	got := make([]api.Result, len(envelopes))
	var all sync.WaitGroup
	for i, e := range envelopes {
		all.Go(func() {
			got[i] = n.Submit(t.Context(), api.Caller{Party: makerParty}, [][]byte{bytes.Clone(e)})[0]
		})
		waiting(i + 1)
	}
	taken.Done()
	all.Wait()
	for i, r := range got {
		slug := ""
		if p := problem.As(r.Err); p != nil {
			slug = p.Type
		}
		if slug != want[i] || r.Err == nil && len(r.Receipt) == 0 {
			t.Errorf("statement %d: %v, want %q", i, r.Err, want[i])
		}
	}
}
