package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// TLS names the files of a server's certificate, and of the CA whose client
// certificates are accepted (empty: none are asked for). What a client's certificate
// is good for is said at CertificateParty.
type TLS struct {
	Cert, Key, ClientCA string
}

// drain is how long requests in flight may take to end at shutdown.
const drain = 10 * time.Second

// Listen serves until ctx ends or failed yields an error, then lets requests in
// flight end. It holds at most conns connections open; 0: DefaultConnections. ready
// is called with the address once the socket listens.
func Listen(ctx context.Context, srv *http.Server, addr string, files *TLS, conns int, failed <-chan error, ready func(addr string)) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	bounded := boundConnections(l, conns)
	l, srv.ConnState = bounded, bounded.watch
	if files != nil {
		secure, err := tlsListener(l, files)
		if err != nil {
			return errors.Join(err, l.Close())
		}
		l = secure
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	if ready != nil {
		ready(l.Addr().String())
	}
	var cause error
	select {
	case <-ctx.Done():
	case cause = <-failed:
	case cause = <-served:
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	if err := srv.Shutdown(end); err != nil {
		cause = errors.Join(cause, srv.Close())
	}
	if errors.Is(cause, http.ErrServerClosed) {
		return nil
	}
	return cause
}

func tlsListener(l net.Listener, files *TLS) (net.Listener, error) {
	cert, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		return nil, fmt.Errorf("TLS certificate: %w", err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if files.ClientCA != "" {
		pem, err := os.ReadFile(files.ClientCA)
		if err != nil {
			return nil, err
		}
		cfg.ClientCAs = x509.NewCertPool()
		if !cfg.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", files.ClientCA)
		}
		cfg.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return tls.NewListener(l, cfg), nil
}
