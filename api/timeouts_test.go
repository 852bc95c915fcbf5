package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// soon stands for every time-out in these tests. They wait for what must happen,
// however long it takes, and assert no times.
const soon = 20 * time.Millisecond

// late stands for every time-out that must not come first, on however slow a machine.
const late = time.Hour

// impatient is about bodies only: the headers may take their time, and so may the
// answer, or there would be none on a slow machine.
func impatient(a *API, srv *http.Server) {
	srv.ReadHeaderTimeout, srv.ReadTimeout = late, soon
	a.times = timeouts{handle: late, upload: soon, line: soon, batch: late, write: late}
}

// TestSlowCallers: who sends slowly is told so where HTTP allows it, and is cut
// off in any case.
func TestSlowCallers(t *testing.T) {
	for _, tc := range []struct {
		name, request string
		status        int
		body          string // part of the answer
	}{
		{"first line", "GET /check", 0, ""},
		{"headers", "GET /checkpoint HTTP/1.1\r\nHost: x\r\nX: ", 0, ""},
		{"statement", "POST /v1/statements HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n" + typeJSON + "\r\nTOKEN\r\n\r\n{", 400, "did not arrive in time"},
		{"manifest", "PUT /v1/manifests/" + zeroID + " HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n" + typeOctets + "\r\nTOKEN\r\n\r\nfab", 400, "did not arrive in time"},
		{"first line of a batch", "POST /v1/statements/batch HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n" + typeLines + "\r\nTOKEN\r\n\r\n{", 400, "did not arrive in time"},
		{"later line of a batch", "POST /v1/statements/batch HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n" + typeLines + "\r\nTOKEN\r\n\r\n{\"name\":\"a\"}\n{", 200, `{"line":2,"status":400`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t, generous, impatient, func(_ *API, srv *http.Server) {
				if tc.status == 0 {
					srv.ReadHeaderTimeout = soon
				}
			})
			conn, err := net.Dial("tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			request := strings.Replace(tc.request, "TOKEN", bearerHeader(s.token(partyA, ScopeWrite)), 1)
			if _, err := io.WriteString(conn, request); err != nil {
				t.Fatal(err)
			}
			in := bufio.NewReader(conn)
			if tc.status != 0 {
				resp, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != tc.status || !strings.Contains(string(body), tc.body) {
					t.Errorf("%d %s, %v", resp.StatusCode, body, err)
				}
			}
			if _, err := io.Copy(io.Discard, in); err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
				t.Errorf("not cut off, but %v", err)
			}
		})
	}
}

// TestSlowReader takes nothing of a long stream: the server gives up, which is
// what Shutdown waits for.
func TestSlowReader(t *testing.T) {
	var srv *http.Server
	s := newServer(t, generous, func(a *API, made *http.Server) {
		a.times.write, srv = 10*soon, made
	})
	big := make([]byte, 1<<20)
	big[0] = 1
	for i := range 64 {
		s.entries = append(s.entries, LogEntry{Index: uint64(3 + i), Cargo: big})
	}
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /v1/entries HTTP/1.1\r\nHost: x\r\n\r\n")
	_, _ = conn.Read(make([]byte, 1)) // it has begun, or is over already
	if err := srv.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if !strings.Contains(s.logged.String(), "i/o timeout") {
		t.Errorf("the log does not say why: %s", s.logged)
	}
}

// TestSlowLedger: an answer that takes too long is given up while there is time
// to say so.
func TestSlowLedger(t *testing.T) {
	s := newServer(t, generous, func(a *API, _ *http.Server) { a.times.handle = soon })
	s.unitWaits = true
	r := s.do("GET", "/v1/units?uri=https%3A%2F%2Fx", "")
	if r.status != 503 || r.problemType() != "overloaded" || r.header.Get("Retry-After") == "" {
		t.Errorf("%d %s", r.status, r.body)
	}
}
