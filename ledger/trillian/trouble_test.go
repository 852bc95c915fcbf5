package trillian

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"fabtrail.dev/fabtrail/internal/freeport"
	"fabtrail.dev/fabtrail/ledger"
)

// TestWordsOfTrouble: an error names the part of the cluster that it is of, keeps its
// code, and has the same words as long as the trouble is the same.
func TestWordsOfTrouble(t *testing.T) {
	c := Config{Addr: "log.test:8090"}
	for _, tc := range []struct {
		code      codes.Code
		msg, want string
	}{
		{codes.Unavailable, `connection error: desc = "transport: while connecting: dial tcp 10.0.0.1:8090: connect: connection refused"`,
			"the log server at log.test:8090 does not answer: dial tcp 10.0.0.1:8090: connect: connection refused"},
		{codes.Unavailable, `connection error: desc = "error reading server preface: EOF"`,
			"the log server at log.test:8090 does not answer: error reading server preface: EOF (it may want TLS: --trillian-tls)"},
		{codes.Unavailable, `connection error: desc = "transport: authentication handshake failed: tls: failed to verify certificate: ` +
			`x509: certificate has expired or is not yet valid: current time 2026-11-22T11:46:43Z is after 2026-11-22T11:46:36Z"`,
			"the log server at log.test:8090 does not answer: authentication handshake failed: tls: failed to verify certificate: " +
				"x509: certificate has expired or is not yet valid: now is after 2026-11-22T11:46:36Z"},
		{codes.Unavailable, "connection error: desc = not quoted", "the log server at log.test:8090 does not answer: connection error: desc = not quoted"},
		{codes.Unavailable, `connection error: desc = "error reading server preface: http2: frame too large, note that the frame header looked like an HTTP/1.1 header"`,
			"the log server at log.test:8090 does not answer: error reading server preface: http2: frame too large, note that the frame header " +
				"looked like an HTTP/1.1 header (is this its --http_endpoint, and not its --rpc_endpoint?)"},
		{codes.Unimplemented, "unknown service trillian.TrillianLog",
			"what answers at log.test:8090 is no log server: unknown service trillian.TrillianLog (is it the log signer?)"},
		{codes.DeadlineExceeded, "context deadline exceeded", "the log server at log.test:8090 has not answered in time"},
		{codes.Unknown, "failed to connect to `user=x`: refused", "the log server at log.test:8090 answers: failed to connect to `user=x`: refused"},
		{codes.NotFound, "no tree", "the log server at log.test:8090 answers: no tree (NotFound)"},
	} {
		err := c.ofServer(status.Error(tc.code, tc.msg))
		if err.Error() != tc.want || status.Code(fmt.Errorf("further up: %w", err)) != tc.code {
			t.Errorf("%v\nwant %s\ncode %v, want %v", err, tc.want, status.Code(err), tc.code)
		}
	}
	if err := c.ofServer(nil); err != nil {
		t.Error(err)
	}
	if got := timeless("the current time is unknown"); got != "the current time is unknown" {
		t.Error(got)
	}
	_, err := pgconn.Connect(t.Context(), "postgres://x@"+closed(t)+"/x?sslmode=disable")
	named := ofPostgres(fmt.Errorf("notes: %w", err))
	if !strings.HasPrefix(named.Error(), "PostgreSQL: notes: failed to connect") || ofPostgres(named).Error() != named.Error() {
		t.Errorf("PostgreSQL that does not answer: %v", named)
	}
	if late := ofPostgres(fmt.Errorf("timeout: %w", context.DeadlineExceeded)); late.Error() != "PostgreSQL has not answered in time" || !errors.Is(late, context.DeadlineExceeded) {
		t.Errorf("PostgreSQL that hangs: %v", late)
	}
	if other := ofPostgres(errors.New("other")); other.Error() != "other" || ofPostgres(nil) != nil {
		t.Error("what is not about connecting is not PostgreSQL's")
	}
}

// closed is an address where nothing listens.
func closed(t *testing.T) string {
	t.Helper()
	port, err := freeport.Get()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// TestCauseOfWaiting: who would wait no longer hears what was waited for.
func TestCauseOfWaiting(t *testing.T) {
	gone, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	stopped, stop := context.WithCancel(t.Context())
	stop()
	e := &Engine{}
	if err := e.cause(gone, gone.Err()); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	e.remember(errors.New("connection refused"))
	for name, tc := range map[string]struct {
		ctx  context.Context
		err  error
		want string
	}{
		"done":    {gone, nil, ""},
		"waiting": {t.Context(), errors.New("x"), "x"},
		"stopped": {stopped, stopped.Err(), "context canceled"},
		"final":   {gone, ledger.ErrBroken, ledger.ErrBroken.Error()},
		"gone":    {gone, gone.Err(), "connection refused: context deadline exceeded"},
	} {
		if err := e.cause(tc.ctx, tc.err); (err == nil) != (tc.want == "") || err != nil && err.Error() != tc.want {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	e.remember(nil)
	if err := e.cause(gone, gone.Err()); err.Error() != "context deadline exceeded" {
		t.Errorf("after an answer: %v", err)
	}
}

// TestUnreachable: the trouble of a log server that is not there, or not as it should be,
// is said with its address; a certificate that does not hold at once.
func TestUnreachable(t *testing.T) {
	expired, ca := shows(t, time.Unix(1_000_000_000, 0))
	plain := speaksNoTLS(t)
	for name, tc := range map[string]struct {
		cfg  Config
		want string
	}{
		"nobody":        {Config{Addr: closed(t)}, "does not answer: dial tcp"},
		"expired":       {Config{Addr: expired, TLS: true, CA: ca}, "certificate has expired"},
		"no TLS there":  {Config{Addr: plain, TLS: true, CA: ca}, "does not look like a TLS handshake"},
		"TLS not asked": {Config{Addr: expired}, "--trillian-tls"},
	} {
		tc.cfg.Postgres, tc.cfg.ReadOnly, tc.cfg.Tree = "postgres://x@"+closed(t)+"/x", true, 1
		tc.cfg.Call, tc.cfg.Patience = 5*time.Second, time.Nanosecond
		e, err := Open(t.Context(), tc.cfg)
		if err == nil {
			_ = e.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "log server at "+tc.cfg.Addr) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// shows listens with TLS and a certificate until end; ca is the file to trust it by.
func shows(t *testing.T, end time.Time) (addr, ca string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: end.Add(-time.Hour), NotAfter: end, IsCA: true,
		BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	answer(t, l, func(c net.Conn) { _ = c.(*tls.Conn).Handshake() })
	return l.Addr().String(), ca
}

// speaksNoTLS listens, and says something else.
func speaksNoTLS(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answer(t, l, func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) })
	return l.Addr().String()
}

func answer(t *testing.T, l net.Listener, do func(net.Conn)) {
	t.Helper()
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			do(c)
			_ = c.Close()
		}
	}()
}
