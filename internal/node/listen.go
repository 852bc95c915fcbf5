package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"syscall"
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
		return cannotListen(addr, err)
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

// cannotListen says why an address cannot be served at.
func cannotListen(addr string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s is in use already: stop what listens there, or choose another port", addr)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("this user may not listen at %s: choose a port above 1023", addr)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s is not an address of this machine", addr)
	}
	return fmt.Errorf("%s cannot be listened at: want HOST:PORT with a port up to 65535, such as 127.0.0.1:8080", addr)
}

// unusable says what is wrong with a certificate and its key.
func unusable(files *TLS, err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return fmt.Errorf("TLS: %w", err)
	}
	return fmt.Errorf("TLS: %s and %s are not a certificate chain and its private key, both in PEM: export them anew, "+
		"the server's own certificate first", files.Cert, files.Key)
}

func tlsListener(l net.Listener, files *TLS) (net.Listener, error) {
	cert, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		return nil, unusable(files, err)
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
