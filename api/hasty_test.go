package api

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestHastyCallersWait: who was told to come again later, and comes at once over the same
// connection, waits there until then, as an idle connection; others over it, other
// requests, and whoever comes in time do not wait.
func TestHastyCallersWait(t *testing.T) {
	limits := generous
	limits.WriteInFlight, limits.BatchPerParty = 1, 1
	var mu sync.Mutex
	var state http.ConnState // of the connection that changed last
	busy := 0                // waits in a connection that was not idle
	s := newServer(t, limits, func(a *API, srv *http.Server) {
		srv.ConnState = func(_ net.Conn, st http.ConnState) {
			mu.Lock()
			defer mu.Unlock()
			state = st
		}
		wait := a.Sleep
		a.Sleep = func(ctx context.Context, d time.Duration) error {
			mu.Lock()
			if state != http.StateIdle {
				busy++
			}
			mu.Unlock()
			return wait(ctx, d)
		}
	})
	s.entered, s.gate = make(chan struct{}, 2), make(chan struct{})
	var first sync.WaitGroup
	first.Go(func() {
		if r := s.do("POST", "/v1/statements/batch", `{"name":"c"}`, typeLines, bearerHeader(s.token(partyA, ScopeWrite))); r.status != 200 {
			t.Errorf("the batch: %d %s", r.status, r.body)
		}
	})
	<-s.entered
	first.Go(func() {
		if r := s.do("POST", "/v1/statements", `{"name":"a"}`, typeJSON, bearerHeader(s.token(partyA, ScopeWrite))); r.status != 201 {
			t.Errorf("the first: %d %s", r.status, r.body)
		}
	})
	<-s.entered
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	token, other := s.token(partyA, ScopeWrite), s.token(partyB, ScopeWrite)
	var told time.Duration // by the answer before
	for i, step := range []struct {
		request string
		token   string
		pause   time.Duration // before it
		status  int
		waits   bool // until it was told to come
	}{
		{"POST /v1/statements", token, 0, 503, false},
		{"POST /v1/statements", token, 0, 503, true},
		{"POST /v1/statements", token, 400 * time.Millisecond, 503, true},
		{"GET /v1/entries", token, 0, 200, false},
		{"POST /v1/statements", other, 0, 503, false},
		{"POST /v1/statements", token, 0, 503, false}, // the other was told last
		{"POST /v1/statements", token, 10 * time.Second, 503, false},
		{"POST /v1/statements/batch", token, 0, 429, false},
		{"POST /v1/statements/batch", token, 0, 429, true},
	} {
		s.clock.Add(step.pause)
		body, media := "", typeJSON
		if strings.HasSuffix(step.request, "batch") {
			media = typeLines
		}
		if step.request[0] == 'P' {
			body = `{"name":"b"}`
		}
		fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: x\r\n%s\r\n%s\r\nContent-Length: %d\r\n\r\n%s", step.request, bearerHeader(step.token), media, len(body), body)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		var waited time.Duration
		select {
		case waited = <-s.slept:
		default:
		}
		want := time.Duration(0)
		if step.waits {
			want = told - step.pause
		}
		if resp.StatusCode != step.status || waited != want {
			t.Errorf("step %d: %d, want %d; it waited %v, want %v", i, resp.StatusCode, step.status, waited, want)
		}
		s, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		told = time.Duration(s) * time.Second
	}
	mu.Lock()
	if busy > 0 {
		t.Errorf("%d times the connection in which it waited was not idle", busy)
	}
	mu.Unlock()
	close(s.gate)
	first.Wait()
}
