package node

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// limited serves h with room for a few connections.
func limited(t *testing.T, most int, h http.Handler) string {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan string, 1), make(chan error, 1)
	srv := &http.Server{Handler: h}
	go func() {
		ended <- Listen(ctx, srv, "127.0.0.1:0", nil, most, nil, func(addr string) { ready <- addr })
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return <-ready
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// exchange makes one request on a connection that stays open.
func exchange(c net.Conn) (string, error) {
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// TestIdleSocketsKeepNobodyOut: sockets that send nothing, and those between two
// requests, make room for new ones, the one that was idle longest first.
func TestIdleSocketsKeepNobodyOut(t *testing.T) {
	addr := limited(t, 3, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	var silent []net.Conn
	for range 50 {
		silent = append(silent, dial(t, addr))
	}
	spoke := dial(t, addr)
	if got, err := exchange(spoke); err != nil || got != "ok" {
		t.Fatalf("with 50 silent sockets: %q, %v", got, err)
	}
	if got, err := exchange(spoke); err != nil || got != "ok" {
		t.Fatalf("again: %q, %v", got, err)
	}
	// All but the last two of the silent ones have been closed.
	for _, c := range silent[:48] {
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, net.ErrClosed) {
			t.Fatalf("a silent socket is still open: %v", err)
		}
	}
}

// TestBusySocketsStay: a connection with a request in flight is not closed for
// another; while all are busy a new one is.
func TestBusySocketsStay(t *testing.T) {
	enter, leave := make(chan struct{}), make(chan struct{})
	addr := limited(t, 2, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		enter <- struct{}{}
		<-leave
		_, _ = io.WriteString(w, "done")
	}))
	type answer struct {
		body string
		err  error
	}
	answers := make(chan answer, 2)
	for range 2 {
		c := dial(t, addr)
		go func() {
			b, err := exchange(c)
			answers <- answer{b, err}
		}()
		<-enter
	}
	if _, err := dial(t, addr).Read(make([]byte, 1)); err == nil {
		t.Error("a third connection was taken")
	}
	close(leave)
	for range 2 {
		if a := <-answers; a.err != nil || a.body != "done" {
			t.Errorf("a busy connection got %q, %v", a.body, a.err)
		}
	}
	// Their places are free or idle again, as soon as the server has seen to it.
	go func() {
		for range enter {
		}
	}()
	for {
		got, err := exchange(dial(t, addr))
		if err != nil {
			continue
		}
		if !strings.Contains(got, "done") {
			t.Errorf("afterwards: %q", got)
		}
		break
	}
	close(enter)
}
