package api

import (
	"context"
	"hash/maphash"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"fabtrail.dev/fabtrail/internal/problem"
)

// told is what somebody was last told over a connection: that too many requests, of all or of
// its party, are being served, and when to come again. Each refusal costs about as much as the check of a
// signature, so clients that come again at once would keep the ledger busy with nothing else.
// They wait in their connection instead, until the time that they were told.
//
// A proxy's connection carries the requests of many: only who was told waits.
type told struct {
	conn net.Conn

	mu    sync.Mutex
	who   uint64 // of the class of the request and its credentials
	until time.Time
}

type toldKey struct{}

// remember is the server's ConnContext.
func remember(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, toldKey{}, &told{conn: conn})
}

var toldSeed = maphash.MakeSeed()

func whoAsks(c class, req *http.Request) uint64 {
	var h maphash.Hash
	h.SetSeed(toldSeed)
	_ = h.WriteByte(byte(c))
	_, _ = h.WriteString(req.Header.Get("Authorization"))
	return h.Sum64()
}

// patience has a caller wait that comes again before it was told to. Meanwhile its
// connection is an idle one, which others may take the place of.
func (a *API) patience(c echo.Context, k class) error {
	req := c.Request()
	t, _ := req.Context().Value(toldKey{}).(*told)
	if t == nil {
		return nil
	}
	t.mu.Lock()
	d := time.Duration(0)
	if !t.until.IsZero() {
		if d = t.until.Sub(a.Clock()); d <= 0 {
			t.until = time.Time{}
		} else if t.who != whoAsks(k, req) {
			d = 0
		}
	}
	t.mu.Unlock()
	if d <= 0 {
		return nil
	}
	// Over HTTP/2 a connection may carry others' work meanwhile.
	if srv, ok := req.Context().Value(http.ServerContextKey).(*http.Server); ok && srv.ConnState != nil && req.ProtoMajor == 1 {
		srv.ConnState(t.conn, http.StateIdle)
		defer srv.ConnState(t.conn, http.StateActive)
	}
	return a.Sleep(req.Context(), d)
}

// tell notes when the caller was told to come again, and passes the refusal on.
func (a *API) tell(c echo.Context, k class, err error) error {
	t, _ := c.Request().Context().Value(toldKey{}).(*told)
	if p := problem.As(err); t != nil && p != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.who, t.until = whoAsks(k, c.Request()), a.Clock().Add(time.Duration(secondsOf(p))*time.Second)
	}
	return err
}
