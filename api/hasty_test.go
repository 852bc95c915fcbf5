package api

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
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
	var states []http.ConnState
	s := newServer(t, limits, func(_ *API, srv *http.Server) {
		srv.ConnState = func(_ net.Conn, st http.ConnState) {
			mu.Lock()
			defer mu.Unlock()
			states = append(states, st)
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
	idle := func() (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, st := range states {
			if st == http.StateIdle {
				n++
			}
		}
		return n
	}
	for i, step := range []struct {
		request string
		token   string
		pause   time.Duration // before it
		status  int
		waits   time.Duration
	}{
		{"POST /v1/statements", token, 0, 503, 0},
		{"POST /v1/statements", token, 0, 503, time.Second},
		{"POST /v1/statements", token, 400 * time.Millisecond, 503, 600 * time.Millisecond},
		{"GET /v1/entries", token, 0, 200, 0},
		{"POST /v1/statements", other, 0, 503, 0},
		{"POST /v1/statements", token, 0, 503, 0}, // the other was told last
		{"POST /v1/statements", token, time.Second, 503, 0},
		{"POST /v1/statements/batch", token, 0, 429, 0},
		{"POST /v1/statements/batch", token, 0, 429, time.Second},
	} {
		s.clock.Add(step.pause)
		body, media := "", typeJSON
		if strings.HasSuffix(step.request, "batch") {
			media = typeLines
		}
		if step.request[0] == 'P' {
			body = `{"name":"b"}`
		}
		before := idle()
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
		if resp.StatusCode != step.status || waited != step.waits {
			t.Errorf("step %d: %d, want %d; it waited %v, want %v", i, resp.StatusCode, step.status, waited, step.waits)
		}
		if waited > 0 && idle() == before {
			t.Errorf("step %d: its connection was not idle while it waited", i)
		}
	}
	close(s.gate)
	first.Wait()
}
