package node

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/problem"
)

// TestStrangersCannotPoison: a party without a part in a unit says all that it can
// about it, as much of it as it can. What is said is capped, the verdict stays a
// note, and the answer stays small enough to read.
func TestStrangersCannotPoison(t *testing.T) {
	ctx := context.Background()
	r := newRestricted(t)
	w := r.world
	w.enrol("https://id.gs1.org/417/9506000140032", "carrier")
	trust, err := client.LoadTrust(os.DirFS(w.folder.Trust()))
	if err != nil {
		t.Fatal(err)
	}
	verify := func() *client.Report {
		v := client.Verifier{Remote: w.remote(makerParty), Trust: trust}
		rep, err := v.VerifyUnit(ctx, unit(1), "")
		if err != nil {
			t.Fatal(err)
		}
		return rep
	}
	if got := verify().Word; got != custody.VerifiedNote {
		t.Fatalf("verdict %s before", got)
	}
	// Fields that nobody knows are kept: room for as much as a statement may hold.
	padded := func(payload []byte, bytes int) []byte {
		return []byte(strings.Replace(string(payload), `"predicate":{`, `"predicate":{"ext":{"pad":"`+strings.Repeat("x", bytes)+`"},`, 1))
	}
	say := map[string]func() (custody.Kind, *custody.Event, any){
		"gives it away": func() (custody.Kind, *custody.Event, any) {
			return custody.KindRelease, w.event(strangerParty, "carrier", custody.Next(0, r.id)), &custody.Release{From: strangerParty, To: carrierParty}
		},
		"puts it on hold": func() (custody.Kind, *custody.Event, any) {
			return custody.KindHold, w.event(strangerParty, "carrier", custody.Unchained()), &custody.Hold{Reason: "stolen"}
		},
		"disputes its making": func() (custody.Kind, *custody.Event, any) {
			return custody.KindDispute, w.event(strangerParty, "carrier", custody.Unchained()), &custody.Dispute{Disputes: custody.DigestOf(r.id), Claim: "not ours"}
		},
		"retires it": func() (custody.Kind, *custody.Event, any) {
			return custody.KindRetire, w.event(strangerParty, "carrier", custody.Next(0, r.id)), &custody.Retire{Reason: "endOfLife"}
		},
		"takes back its making": func() (custody.Kind, *custody.Event, any) {
			return custody.KindVoid, w.event(strangerParty, "carrier", custody.Unchained()), &custody.Void{Voids: custody.DigestOf(r.id), Reason: "did_not_occur"}
		},
		"saw it": func() (custody.Kind, *custody.Event, any) {
			return custody.KindSighting, w.event(strangerParty, "carrier", custody.Unchained()), &custody.Sighting{Method: "scan"}
		},
	}
	// One of each in turn, so that what the cap lets through is of every kind.
	taken, limited := map[string]int{}, map[string]int{}
	total := 0
	for range custody.MaxNoEffect {
		for name, fn := range say {
			kind, ev, body := fn()
			o := w.post(strangerParty, w.sign(padded(w.payload(kind, unit(1), ev, body), 8<<10), w.keys[strangerParty]))[0]
			switch p := problem.As(o.Err); {
			case o.Err == nil:
				taken[name]++
				total++
			case p != nil && p.Type == "no_effect_limit" && p.Status() == http.StatusTooManyRequests:
				limited[name]++
			default:
				t.Fatalf("%s: %v", name, o.Err)
			}
		}
		if total >= custody.MaxNoEffect && len(limited) == len(say) {
			break
		}
	}
	if total != custody.MaxNoEffect {
		t.Errorf("%d statements of a stranger were taken, the cap is %d", total, custody.MaxNoEffect)
	}
	for name := range say {
		if taken[name] == 0 || limited[name] == 0 {
			t.Errorf("a stranger %s: taken %d times, refused %d times", name, taken[name], limited[name])
		}
	}

	// One that is large in itself is refused for that, whatever the count.
	other := "https://id.gs1.org/417/9506000140032"
	huge := w.sign(padded(w.payload(custody.KindHold, unit(1), w.event(other, "carrier", custody.Unchained()),
		&custody.Hold{Reason: "stolen"}), custody.MaxNoEffectBytes), w.keys[other])
	if p := problem.As(w.post(other, huge)[0].Err); p == nil || p.Type != "too_large" {
		t.Errorf("a large claim of a stranger: %v, want too_large", p)
	}

	if err := w.node.CaughtUp(ctx); err != nil {
		t.Fatal(err)
	}
	rep := verify()
	if rep.Word != custody.VerifiedNote {
		t.Errorf("verdict %s after: %+v", rep.Word, rep.Checks)
	}
	a := r.ask("GET", "/v1/units?uri="+url.QueryEscape(unit(1))+"&k="+url.QueryEscape(r.pedigree), "", "", nil)
	bound := 256<<10 + 2*total*(custody.MaxNoEffectBytes*4/3)
	if a.status != http.StatusOK || len(a.body) > bound {
		t.Errorf("the answer: %d, %d bytes, want no more than %d", a.status, len(a.body), bound)
	}
	t.Logf("taken %v, refused %v, answer of %d bytes", taken, limited, len(a.body))
}
