package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/internal/problem"
)

// remoteFor serves h and returns a client of it that notes its waits instead of
// waiting.
func remoteFor(t *testing.T, h http.HandlerFunc) (*Remote, *[]time.Duration) {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	waits := new([]time.Duration)
	r, err := NewRemote(srv.URL+"/", Options{Token: "secret", Attempts: 4,
		Sleep:   func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
		Waiting: func(d time.Duration) { *waits = append(*waits, d) }})
	if err != nil {
		t.Fatal(err)
	}
	return r, waits
}

func TestNewRemoteRefuses(t *testing.T) {
	for _, base := range []string{"", "ledger.example", "ftp://x", "http://", "http://u:p@x", "http://x?y=1", "http://x#y", "file:///etc"} {
		if _, err := NewRemote(base, Options{}); err == nil {
			t.Errorf("%q was accepted", base)
		}
	}
}

func TestRetries(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status []int // answers in order; the last repeats
		after  string
		tries  int
		ok     bool
	}{
		{"at once", []int{200}, "", 1, true},
		{"overloaded, then fine", []int{503, 503, 200}, "", 3, true},
		{"rate limited", []int{429, 200}, "7", 2, true},
		{"gateway", []int{502, 504, 200}, "", 3, true},
		{"for ever overloaded", []int{503}, "", 4, false},
		{"final 4xx", []int{422}, "", 1, false},
		{"final 500", []int{500}, "", 1, false},
		{"redirect", []int{307}, "", 1, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tries := 0
			r, waits := remoteFor(t, func(w http.ResponseWriter, req *http.Request) {
				if got := req.Header.Get("Authorization"); got != "Bearer secret" {
					t.Errorf("Authorization: %q", got)
				}
				s := tc.status[min(tries, len(tc.status)-1)]
				tries++
				w.Header().Set("Retry-After", tc.after)
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(s)
			})
			_, err := r.Checkpoint(t.Context())
			if (err == nil) != tc.ok || tries != tc.tries {
				t.Errorf("%d tries, error %v; want %d tries, ok %v", tries, err, tc.tries, tc.ok)
			}
			if tc.after != "" && (*waits)[0] < 7*time.Second {
				t.Errorf("waited %s though the server asked for %s s", (*waits)[0], tc.after)
			}
			for i := 1; i < len(*waits); i++ {
				if (*waits)[i] <= (*waits)[i-1]/2 {
					t.Errorf("waits do not grow: %v", *waits)
				}
			}
		})
	}
}

func TestProblemsAreTyped(t *testing.T) {
	r, _ := remoteFor(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		p := problem.New("superseded", "/chain/prev", "another statement came first").With("head", "abcd")
		b, err := p.MarshalJSON()
		if err != nil {
			t.Error(err)
		}
		w.WriteHeader(p.Status())
		w.Write(b)
	})
	_, err := r.Checkpoint(t.Context())
	p := problem.As(err)
	if p == nil || p.Type != "superseded" || p.Field != "/chain/prev" || p.Extra["head"] != "abcd" {
		t.Errorf("got %v", err)
	}
}

func TestEnrolled(t *testing.T) {
	r, _ := remoteFor(t, func(w http.ResponseWriter, req *http.Request) {
		switch req.FormValue("uri") {
		case "https://id.gs1.org/417/9506000000015":
			io.WriteString(w, "{}")
		case "broken":
			w.WriteHeader(500)
		default:
			w.WriteHeader(404)
		}
	})
	for party, want := range map[string]bool{"https://id.gs1.org/417/9506000000015": true, "https://id.gs1.org/417/9506000000022": false} {
		if got, err := r.Enrolled(t.Context(), party); err != nil || got != want {
			t.Errorf("%s: %t, %v", party, got, err)
		}
	}
	if _, err := r.Enrolled(t.Context(), "broken"); err == nil {
		t.Error("a broken server was taken at its word")
	}
}

func TestBodiesAreBounded(t *testing.T) {
	for _, status := range []int{200, 422} {
		r, _ := remoteFor(t, func(w http.ResponseWriter, req *http.Request) {
			w.WriteHeader(status)
			io.Copy(w, io.LimitReader(neverEnding('x'), maxNote+2))
		})
		if _, err := r.Checkpoint(t.Context()); err == nil || !strings.Contains(err.Error(), "longer than") {
			t.Errorf("status %d: %v", status, err)
		}
	}
}

type neverEnding byte

func (n neverEnding) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(n)
	}
	return len(p), nil
}

func TestEntriesStream(t *testing.T) {
	line := func(i uint64) string { return fmt.Sprintf("{\"index\":%d,\"cargo\":\"AQ==\"}\n", i) }
	t.Run("taken up where it broke", func(t *testing.T) {
		r, _ := remoteFor(t, func(w http.ResponseWriter, req *http.Request) {
			var from, limit uint64
			fmt.Sscan(req.FormValue("from"), &from)
			fmt.Sscan(req.FormValue("limit"), &limit)
			for i := from; i < min(from+3, from+limit); i++ {
				io.WriteString(w, line(i))
			}
			if from+3 < from+limit {
				io.WriteString(w, `{"index":`) // cut within a line
			}
		})
		next := uint64(2)
		err := r.Entries(t.Context(), 2, 12, false, func(e EntryLine) error {
			if e.Index != next {
				t.Errorf("entry %d, want %d", e.Index, next)
			}
			next++
			return nil
		})
		if err != nil || next != 12 {
			t.Errorf("ended at %d: %v", next, err)
		}
	})
	stop := errors.New("stop")
	for _, tc := range []struct{ name, body, want string }{
		{"gap", line(0) + line(2), "sent entry 2 where 1 belongs"},
		{"repeat", line(0) + line(0), "sent entry 0 where 1 belongs"},
		{"too many", line(0) + line(1) + line(2) + line(3), "more entries than were asked for"},
		{"none", "", "has no entry 0"},
		{"not JSON", "nonsense\n", "entry 0"},
		{"duplicate name", `{"index":0,"index":0,"cargo":""}` + "\n", "entry 0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, _ := remoteFor(t, func(w http.ResponseWriter, req *http.Request) { io.WriteString(w, tc.body) })
			err := r.Entries(t.Context(), 0, 3, false, func(EntryLine) error { return nil })
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	t.Run("reader stops", func(t *testing.T) {
		r, _ := remoteFor(t, func(w http.ResponseWriter, req *http.Request) { io.WriteString(w, line(0)+line(1)+line(2)) })
		n := 0
		err := r.Entries(t.Context(), 0, 3, false, func(EntryLine) error { n++; return stop })
		if !errors.Is(err, stop) || n != 1 {
			t.Errorf("%d entries, error %v", n, err)
		}
	})
}
