package api

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// TestInFlight: while one request of a class is served, another is refused at
// once, and other classes go on.
func TestInFlight(t *testing.T) {
	limits := generous
	limits.WriteInFlight, limits.BatchInFlight = 1, 1
	s := newServer(t, limits)
	s.entered, s.gate = make(chan struct{}, 2), make(chan struct{})
	write := []string{typeJSON, bearerHeader(s.token(partyA, ScopeWrite))}
	other := []string{typeJSON, bearerHeader(s.token(partyB, ScopeWrite))}
	var first sync.WaitGroup
	first.Go(func() {
		if r := s.do("POST", "/v1/statements", `{"name":"a"}`, write...); r.status != 201 {
			t.Errorf("the first: %d %s", r.status, r.body)
		}
	})
	<-s.entered
	r := s.do("POST", "/v1/statements", `{"name":"b"}`, other...)
	if r.status != 503 || r.problemType() != "overloaded" || r.header.Get("Retry-After") != "1" {
		t.Errorf("the second: %d %q %s", r.status, r.problemType(), r.header.Get("Retry-After"))
	}
	if err := description(t).Check("POST", "/v1/statements", r.status, r.header, r.body); err != nil {
		t.Error(err)
	}
	for _, target := range []string{"/healthz", "/checkpoint", "/v1/entries"} {
		if r := s.do("GET", target, ""); r.status != 200 {
			t.Errorf("%s meanwhile: %d", target, r.status)
		}
	}
	close(s.gate)
	first.Wait()
	if r := s.do("POST", "/v1/statements", `{"name":"b"}`, other...); r.status != 201 {
		t.Errorf("afterwards: %d %s", r.status, r.body)
	}
}

// TestBatchesOfOneParty: a party has so many batches at once; another party is
// not held up.
func TestBatchesOfOneParty(t *testing.T) {
	limits := generous
	limits.BatchInFlight, limits.BatchPerParty = 3, 1
	s := newServer(t, limits)
	s.entered, s.gate = make(chan struct{}, 3), make(chan struct{})
	post := func(party, name string) reply {
		return s.do("POST", "/v1/statements/batch", `{"name":"`+name+`"}`, typeLines, bearerHeader(s.token(party, ScopeWrite)))
	}
	var held sync.WaitGroup
	held.Go(func() {
		if r := post(partyA, "a"); r.status != 200 {
			t.Errorf("the first of A: %d", r.status)
		}
	})
	<-s.entered
	if r := post(partyA, "b"); r.status != 429 || r.problemType() != "rate_limited" || r.header.Get("Retry-After") == "" {
		t.Errorf("the second of A: %d %q", r.status, r.problemType())
	}
	held.Go(func() {
		if r := post(partyB, "c"); r.status != 200 {
			t.Errorf("the first of B: %d", r.status)
		}
	})
	<-s.entered
	close(s.gate)
	held.Wait()
	if r := post(partyA, "b"); r.status != 200 {
		t.Errorf("afterwards: %d", r.status)
	}
}

// TestStatementsOfOneParty: a party has so many statements at once, whatever it asks for;
// another party is not held up.
func TestStatementsOfOneParty(t *testing.T) {
	limits := generous
	limits.WritePerParty = 1
	s := newServer(t, limits)
	s.entered, s.gate = make(chan struct{}, 3), make(chan struct{})
	post := func(party, name string) reply {
		return s.do("POST", "/v1/statements", `{"name":"`+name+`"}`, typeJSON, bearerHeader(s.token(party, ScopeWrite)))
	}
	var held sync.WaitGroup
	for _, party := range []string{partyA, partyB} {
		held.Go(func() {
			if r := post(party, party); r.status != 201 {
				t.Errorf("the first of %s: %d", party, r.status)
			}
		})
		<-s.entered
	}
	if r := post(partyA, "b"); r.status != 429 || r.problemType() != "rate_limited" || r.header.Get("Retry-After") != "1" {
		t.Errorf("the second of A: %d %q", r.status, r.problemType())
	}
	close(s.gate)
	held.Wait()
	if r := post(partyA, "b"); r.status != 201 {
		t.Errorf("afterwards: %d", r.status)
	}
}

// TestPlacesForOthers: parties that take all they can get leave places for one that
// comes later; who has none gets one as long as there is any.
func TestPlacesForOthers(t *testing.T) {
	for _, tc := range []struct{ places, perParty, greedy, each, left int }{
		{512, 128, 1, 128, 384},
		{512, 128, 3, 128, 128},
		{512, 128, 4, 103, 100}, // the last one finds a place less than the first
		{512, 128, 12, 40, 32},
		{512, 128, 100, 6, 0},
		{8, 2, 3, 2, 2},
		{1, 2, 2, 1, 0},
	} {
		l := newLimiter(Limits{WriteInFlight: tc.places, WritePerParty: tc.perParty}.withDefaults(), time.Now)
		var most, all int
		enter := func(party string) bool {
			leave, err := l.enter(classWrite)
			if err != nil {
				return false
			}
			if _, err := l.enterParty(classWrite, party); err != nil {
				leave()
				return false
			}
			all++
			return true
		}
		for range tc.places { // in turn, as they come
			for p := range tc.greedy {
				enter(fmt.Sprint(p))
			}
		}
		for p := range tc.greedy {
			if has := l.byParty[partyClass{fmt.Sprint(p), classWrite}]; has != nil {
				most = max(most, has.taken)
			}
		}
		if left := tc.places - all; most > tc.each || left < tc.left {
			t.Errorf("%+v: a party has %d, %d places are left", tc, most, left)
		}
		if got := enter("late"); got != (all-b2i(got) < tc.places) {
			t.Errorf("%+v: who comes later gets a place: %v, with %d taken", tc, got, all)
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestComeAgain: however many find no place, they are told to come about half as often as
// places come free, within bounds; who is refused alone is told the least.
func TestComeAgain(t *testing.T) {
	for _, tc := range []struct{ served, waiting, refusals int }{ // a second
		{1000, 10, 10},
		{1000, 400, 400},
		{1000, 2000, 550},
		{1000, 10_000, 2200}, // each comes every maxAgain at the latest
		{0, 1000, 250},       // a stall: 200 places are taken
	} {
		now := time.Unix(1_000_000, 0)
		p := pool{taken: 200}
		due := make([]time.Time, tc.waiting) // when each comes, and finds no place
		refused := 0
		const seconds = 40
		for ms := range seconds * 1000 {
			now = now.Add(time.Millisecond)
			for served := tc.served * (ms + 1) / 1000; served > tc.served*ms/1000; served-- {
				p.leave(now)
				p.taken++
			}
			for i := range due {
				if !now.Before(due[i]) {
					s := p.again(now)
					if s < 1 || s > int64(maxAgain/time.Second) {
						t.Fatalf("%+v: told to come after %d seconds", tc, s)
					}
					due[i] = now.Add(time.Duration(s) * time.Second)
					if ms >= seconds*500 {
						refused++
					}
				}
			}
		}
		if got := refused / (seconds / 2); got > tc.refusals || got < tc.refusals/3 {
			t.Errorf("%+v: %d are refused a second", tc, got)
		}
		now = now.Add(maxAgain)
		if got := p.again(now); got != 1 {
			t.Errorf("%+v: afterwards, who is refused is told to come after %d seconds", tc, got)
		}
	}
}

// TestRates plays each rate to its end and waits as long as Retry-After says.
func TestRates(t *testing.T) {
	limits := generous
	rate := Rate{PerSecond: 0.5, Burst: 2}
	limits.LogRate, limits.ReadRate, limits.StatementRate = rate, rate, rate
	limits.UploadRate, limits.StatusRate, limits.TokenFailureRate = rate, rate, rate
	for _, tc := range []struct {
		name, method, target, body string
		media                      string
		token                      bool
		status                     int
	}{
		{"log", "GET", "/checkpoint", "", "", false, 200},
		{"read", "GET", "/v1/entries", "", "", false, 200},
		{"read with token", "GET", "/v1/findings", "", "", true, 200},
		{"statement", "POST", "/v1/statements", `{"name":"a"}`, typeJSON, true, 0},
		{"upload", "PUT", "/v1/manifests/" + manifestDigest, manifestBytes, typeOctets, true, 0},
		{"status word", "GET", "/v1/units?uri=https%3A%2F%2Fx", "", "", false, 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t, limits)
			ask := func(party string) reply {
				headers := []string{"Accept: */*"}
				if tc.media != "" {
					headers = append(headers, tc.media)
				}
				if tc.token {
					headers = append(headers, bearerHeader(s.token(party, ScopeWrite, ScopeRead)))
				}
				return s.do(tc.method, tc.target, tc.body, headers...)
			}
			for i := range 2 {
				if r := ask(partyA); r.status >= 300 {
					t.Fatalf("request %d: %d %s", i+1, r.status, r.body)
				}
			}
			r := ask(partyA)
			if r.status != 429 || r.problemType() != "rate_limited" || r.header.Get("Retry-After") != "2" {
				t.Fatalf("over the rate: %d %q, Retry-After %q", r.status, r.problemType(), r.header.Get("Retry-After"))
			}
			if tc.token {
				if r := ask(partyB); r.status >= 300 {
					t.Errorf("another party: %d", r.status)
				}
			}
			s.clock.Add(2 * time.Second)
			if r := ask(partyA); r.status >= 300 {
				t.Errorf("after Retry-After: %d %s", r.status, r.body)
			}
		})
	}
	t.Run("bad tokens", func(t *testing.T) {
		s := newServer(t, limits)
		for i, want := range []int{401, 401, 429} {
			if r := s.do("GET", "/v1/findings", "", bearerHeader("x.y.z")); r.status != want {
				t.Errorf("bad token %d: %d, want %d", i+1, r.status, want)
			}
		}
		if r := s.do("GET", "/v1/findings", "", bearerHeader(s.token(partyA, ScopeRead))); r.status != 200 {
			t.Errorf("a good token after bad ones: %d", r.status)
		}
	})
}

// TestUnitsCountEach: asking for many units at once is no way around the limits of
// asking for each.
func TestUnitsCountEach(t *testing.T) {
	ask := func(s *server, units int, key string, headers ...string) reply {
		u := `{"uri":"https://x","key":"` + key + `"}`
		return s.do("POST", "/v1/units:check", `{"units":[`+u+strings.Repeat(","+u, units-1)+`]}`, append(headers, typeJSON)...)
	}
	limits := generous
	limits.StatusRate = Rate{PerSecond: 1, Burst: 10}
	s := newServer(t, limits)
	for i, want := range []int{200, 429} {
		if r := ask(s, 8, ""); r.status != want {
			t.Errorf("words, call %d: %d, want %d", i, r.status, want)
		}
	}
	if r := ask(s, 8, "key"); r.status != 200 {
		t.Errorf("with keys: %d", r.status)
	}
	limits = generous
	limits.ReadRate = Rate{PerSecond: 1, Burst: 10}
	s = newServer(t, limits)
	token := bearerHeader(s.token(partyA, ScopeRead))
	for i, want := range []int{200, 429} {
		if r := ask(s, 8, "key", token); r.status != want {
			t.Errorf("reads, call %d: %d, want %d", i, r.status, want)
		}
	}
	s.clock.Add(7 * time.Second)
	if r := ask(s, 8, "key", token); r.status != 200 {
		t.Errorf("after a while: %d", r.status)
	}
}

// TestWordsAreLimited: whoever gets only a word, or without a token a proof of absence,
// is held to the rate of guesses, whatever else he shows.
func TestWordsAreLimited(t *testing.T) {
	limits := generous
	limits.StatusRate = Rate{PerSecond: 1, Burst: 2}
	const one, check = "/v1/units?uri=https%3A%2F%2Fx", "/v1/units:check"
	foreign := func(s *server) string { return bearerHeader(s.token(partyB, ScopeRead)) }
	for _, tc := range []struct {
		name, target, body string
		headers            func(s *server) []string
		want               [4]int // of four requests in a row
	}{
		{"no key", one, "", nil, [4]int{200, 200, 429, 429}},
		{"a wrong key", one + "&k=" + badKey, "", nil, [4]int{200, 200, 429, 429}},
		{"a wrong key in a header", one, "", func(*server) []string { return []string{headerPedigree + ": " + badKey} }, [4]int{200, 200, 429, 429}},
		{"a key in the code that is no key", "/v1/units?uri=https%3A%2F%2Fx%3Fk%3Dz", "", nil, [4]int{200, 200, 429, 429}},
		{"a foreign token", one, "", func(s *server) []string { return []string{foreign(s)} }, [4]int{200, 200, 429, 429}},
		{"absent, a wrong key", "/v1/units?uri=https%3A%2F%2Fabsent&k=" + badKey, "", nil, [4]int{200, 200, 429, 429}},
		{"absent, a token", "/v1/units?uri=https%3A%2F%2Fabsent", "", func(s *server) []string { return []string{foreign(s)} }, [4]int{200, 200, 200, 200}},
		{"the right key", one + "&k=right", "", nil, [4]int{200, 200, 200, 200}},
		{"many, a wrong key", check, `{"units":[{"uri":"https://x","key":"wrong"}]}`, nil, [4]int{200, 200, 429, 429}},
		{"many, a foreign token", check, `{"units":[{"uri":"https://x"}]}`, func(s *server) []string { return []string{foreign(s)} }, [4]int{200, 200, 429, 429}},
		{"many, more than at once", check, `{"units":[{"uri":"https://x"},{"uri":"https://x"},{"uri":"https://x"}]}`, nil, [4]int{200, 429, 429, 429}},
		{"many, the right keys", check, `{"units":[{"uri":"https://x","key":"right"}]}`, nil, [4]int{200, 200, 200, 200}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t, limits)
			method, headers := "GET", []string{"Accept: */*"}
			if tc.body != "" {
				method, headers = "POST", append(headers, typeJSON)
			}
			if tc.headers != nil {
				headers = append(headers, tc.headers(s)...)
			}
			for i, want := range tc.want {
				r := s.do(method, tc.target, tc.body, headers...)
				if r.status != want {
					t.Errorf("request %d: %d %s, want %d", i, r.status, r.body, want)
				}
				if want == 429 && strings.Contains(string(r.body), "known") {
					t.Errorf("request %d tells the word in its refusal: %s", i, r.body)
				}
			}
		})
	}
	t.Run("what is owed", func(t *testing.T) {
		s := newServer(t, limits)
		u := `{"uri":"https://x"}`
		if r := s.do("POST", check, `{"units":[`+u+strings.Repeat(","+u, 9)+`]}`, typeJSON); r.status != 200 {
			t.Fatalf("ten at once: %d", r.status)
		}
		for _, step := range []struct {
			wait time.Duration
			want int
		}{{2 * time.Second, 429}, {6 * time.Second, 429}, {time.Second, 200}} {
			s.clock.Add(step.wait)
			if r := s.do("GET", one, ""); r.status != step.want {
				t.Errorf("after %s more: %d, want %d", step.wait, r.status, step.want)
			}
		}
	})
}

// TestForwardingHeadersAreNotTrusted: they do not make another caller.
func TestForwardingHeadersAreNotTrusted(t *testing.T) {
	limits := generous
	limits.StatusRate = Rate{PerSecond: 0.5, Burst: 1}
	s := newServer(t, limits)
	s.do("GET", "/v1/units?uri=https%3A%2F%2Fx", "")
	for i, h := range []string{"X-Forwarded-For: 203.0.113.7", "X-Real-IP: 203.0.113.8", "Forwarded: for=203.0.113.9"} {
		if r := s.do("GET", "/v1/units?uri=https%3A%2F%2Fx", "", h); r.status != 429 {
			t.Errorf("%d %s: %d", i, h, r.status)
		}
	}
}

// TestBatchIsSlowedDown: a batch over the rate is recorded in full, but takes the
// time that the rate allows.
func TestBatchIsSlowedDown(t *testing.T) {
	limits := generous
	limits.StatementRate = Rate{PerSecond: 10, Burst: 5}
	s := newServer(t, limits)
	body := ""
	for i := range 25 {
		body += fmt.Sprintf("{\"name\":\"%d\"}\n", i)
	}
	r := s.batch(body)
	if lines := parseLines(t, r.body); len(lines) != 25 || lines[24].Status != 201 {
		t.Errorf("answers: %v", lines)
	}
	close(s.slept)
	var total time.Duration
	for d := range s.slept {
		total += d
	}
	if total.Round(time.Millisecond) != 2*time.Second { // 25 lines, 5 at once, the rest at 10 a second
		t.Errorf("slowed down by %v", total)
	}
}

// TestLargeStatementsCountMore: what a statement costs beyond a small one slows a batch
// down, and is refused of a single one that is over the rate.
func TestLargeStatementsCountMore(t *testing.T) {
	limits := generous
	limits.StatementRate = Rate{PerSecond: 10, Burst: 10}
	s := newServer(t, limits)
	s.extra = 4
	for i, want := range []int{201, 201, 429} {
		r := s.do("POST", "/v1/statements", fmt.Sprintf(`{"name":"%d"}`, i), typeJSON, bearerHeader(s.token(partyA, ScopeWrite)))
		if r.status != want || want == 429 && r.header.Get("Retry-After") == "" {
			t.Errorf("statement %d: %d %s", i, r.status, r.body)
		}
	}
	s = newServer(t, limits)
	s.extra = 4
	if lines := parseLines(t, s.batch(strings.Repeat("{\"name\":\"a\"}\n", 6)).body); len(lines) != 6 || lines[5].Status >= 300 {
		t.Errorf("answers: %v", lines)
	}
	close(s.slept)
	var total time.Duration
	for d := range s.slept {
		total += d
	}
	if total.Round(time.Millisecond) != 2*time.Second { // 30 in all, 10 at once
		t.Errorf("slowed down by %v", total)
	}
}

// TestLargestStatement: one that counts for more than may come at once is taken by
// itself, and what it is beyond that is owed.
func TestLargestStatement(t *testing.T) {
	limits := generous
	limits.StatementRate = Rate{PerSecond: 0.001, Burst: 100} // nothing comes back meanwhile
	s := newServer(t, limits)
	post := func(name string, extra int) reply {
		s.extra = extra
		return s.do("POST", "/v1/statements", fmt.Sprintf(`{"name":%q}`, name), typeJSON, bearerHeader(s.token(partyA, ScopeWrite)))
	}
	if r := post("lot", 250); r.status != 201 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	if r := post("next", 0); r.status != 429 || r.header.Get("Retry-After") != "152000" { // 251 of 100, and one
		t.Errorf("%d, come again after %s s", r.status, r.header.Get("Retry-After"))
	}
}

// TestUploadsCountBySize: also when the length is not said.
func TestUploadsCountBySize(t *testing.T) {
	limits := generous
	limits.UploadRate = Rate{PerSecond: 1, Burst: 66}
	body := manifestBytes + strings.Repeat("x", 8*uploadUnit)
	digest := fmt.Sprintf("%x", sha256.Sum256([]byte(body)))
	put := func(s *server, headers ...string) int {
		return s.do("PUT", "/v1/manifests/"+digest, body, append(headers, typeOctets, bearerHeader(s.token(partyA, ScopeWrite)))...).status
	}
	s := newServer(t, limits)
	for i := range 8 { // 9 units each
		if want := map[bool]int{true: 201, false: 200}[i == 0]; i < 7 && put(s) != want {
			t.Fatalf("upload %d was refused", i)
		}
	}
	if got := put(s); got != 429 {
		t.Errorf("an upload over the rate: %d", got)
	}
	s = newServer(t, limits)
	for i, want := range []int{201, 429} {
		if got := s.chunked("PUT", "/v1/manifests/"+digest, body, typeOctets, bearerHeader(s.token(partyA, ScopeWrite))); got != want {
			t.Errorf("upload %d without a length: %d, want %d", i, got, want)
		}
	}
}

// TestManifestHeadIsEnough: what cannot be a manifest is refused before the rest of it
// has come, or when it is shorter than the head.
func TestManifestHeadIsEnough(t *testing.T) {
	s := newServer(t, generous)
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	junk := strings.Repeat("x", ManifestHead)
	if _, err := fmt.Fprintf(conn, "PUT /v1/manifests/%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n%s\r\n\r\n%s",
		manifestDigest, MaxManifest, typeOctets, bearerHeader(s.token(partyA, ScopeWrite)), junk); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 422 || s.head != junk || s.headSize != MaxManifest || len(s.manifests) != 0 {
		t.Errorf("status %d; the head has %d bytes, of %d", resp.StatusCode, len(s.head), s.headSize)
	}
	for _, body := range []string{manifestBytes, "x", strings.Repeat("x", ManifestHead-1), strings.Repeat("x", ManifestHead), strings.Repeat("x", ManifestHead+1)} {
		for _, send := range []func(method, target, body string, headers ...string) int{
			func(m, target, b string, h ...string) int { return s.do(m, target, b, h...).status }, s.chunked,
		} {
			want := 422
			if body == manifestBytes {
				want = 201
			}
			s.manifests = map[entry.Hash][]byte{}
			digest := fmt.Sprintf("%x", sha256.Sum256([]byte(body)))
			if got := send("PUT", "/v1/manifests/"+digest, body, typeOctets, bearerHeader(s.token(partyA, ScopeWrite))); got != want {
				t.Errorf("%d bytes: %d, want %d", len(body), got, want)
			}
			if whole := body[:min(len(body), ManifestHead)]; s.head != whole {
				t.Errorf("of %d bytes the head has %d", len(body), len(s.head))
			}
		}
	}
}

// chunked sends a request whose length is not said.
func (s *server) chunked(method, target, body string, headers ...string) int {
	s.t.Helper()
	req, err := http.NewRequest(method, "http://"+s.addr+target, io.MultiReader(strings.NewReader(body)))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestKeyedForgets(t *testing.T) {
	k := newKeyed(Rate{PerSecond: 1, Burst: 1})
	first := k.get("first")
	for i := range maxKeys - 1 {
		k.get(fmt.Sprint(i))
	}
	if k.get("first") != first {
		t.Error("forgotten too early")
	}
	k.get("one more")
	if len(k.byKey) != maxKeys || k.order.Len() != maxKeys {
		t.Errorf("%d keys", len(k.byKey))
	}
	if _, ok := k.byKey["0"]; ok {
		t.Error("the key idle longest is still there")
	}
	if k.get("first") != first {
		t.Error("a key in use was forgotten")
	}
}

func TestAddressKey(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1":              "192.0.2.1",
		"::ffff:192.0.2.1":       "192.0.2.1",
		"2001:db8:1:2:3:4:5:6":   "2001:db8:1:2::/64",
		"2001:db8:1:2::9":        "2001:db8:1:2::/64",
		"2001:db8:1:3::9":        "2001:db8:1:3::/64",
		"fe80::1%eth0":           "fe80::/64",
		"":                       "",
		"not an address at all!": "not an address at all!",
	} {
		if got := addressKey(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestDefaultLimits(t *testing.T) {
	if got := (Limits{}).withDefaults(); got != DefaultLimits {
		t.Errorf("%+v", got)
	}
	set := Limits{LogInFlight: 1, StatusRate: Rate{1, 1}}
	if got := set.withDefaults(); got.LogInFlight != 1 || got.StatusRate != set.StatusRate || got.ReadInFlight != DefaultLimits.ReadInFlight {
		t.Errorf("%+v", got)
	}
}
