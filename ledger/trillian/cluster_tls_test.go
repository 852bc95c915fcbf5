package trillian_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"fabtrail.dev/fabtrail/ledger/trillian"
)

// authority issues certificates for tests.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // PEM of cert
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	now := time.Now()
	a.cert = &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: now.Add(-time.Hour),
		NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.file, _ = a.issue("ca", a.cert)
	return a
}

// issue makes key and certificate, files of PEM; the first is the authority's own.
func (a *authority) issue(name string, tmpl *x509.Certificate) (cert, key string) {
	a.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if a.key == nil {
		a.key = k
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, k.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	write := func(file, kind string, b []byte) string {
		path := filepath.Join(a.dir, file)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			a.t.Fatal(err)
		}
		return path
	}
	return write(name+".crt", "CERTIFICATE", der), write(name+".key", "PRIVATE KEY", pkcs8)
}

// leaf is a certificate of one host.
func (a *authority) leaf(name string, ip net.IP) (cert, key string) {
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, DNSNames: []string{name}}
	if ip != nil {
		tmpl.IPAddresses = []net.IP{ip}
	}
	return a.issue(name, tmpl)
}

// TestTLS: with a log server that encrypts, whose certificate must be its own.
func TestTLS(t *testing.T) {
	c, ctx, ca := cluster(t), context.Background(), newAuthority(t)
	cert, key := ca.leaf("log.test", net.IPv4(127, 0, 0, 1))
	addr, stop, err := c.TLSServer(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	otherCert, otherKey := ca.leaf("elsewhere.test", nil)
	elsewhere, stop, err := c.TLSServer(otherCert, otherKey)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	stranger := newAuthority(t)

	cfg := c.Config(newTree(t, c, origin), origin)
	cfg.TLS, cfg.CA, cfg.Addr = true, ca.file, addr
	e := open(t, cfg)
	if err := e.Add(ctx, 0, []ledger.Leaf{ledgertest.Leaf(0)}); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	for name, w := range map[string]struct {
		change func(*trillian.Config)
		words  string
	}{
		"another authority": {func(c *trillian.Config) { c.CA = stranger.file }, "unknown authority"},
		"the system's":      {func(c *trillian.Config) { c.CA = "" }, "unknown authority"},
		"another name":      {func(c *trillian.Config) { c.Addr = elsewhere }, "127.0.0.1"},
		"in clear": {func(c *trillian.Config) {
			c.TLS, c.CA, c.Patience, c.Call = false, "", time.Nanosecond, time.Second
		}, "--trillian-tls"},
	} {
		wrong := cfg
		w.change(&wrong)
		e, err := trillian.Open(ctx, wrong)
		if err == nil {
			_ = e.Close()
		}
		if err == nil || !strings.Contains(err.Error(), w.words) {
			t.Errorf("%s: %v, want %q", name, err, w.words)
		}
	}
}

// TestClientCertificate: the node shows its own certificate to a proxy before the log
// server that asks for one.
func TestClientCertificate(t *testing.T) {
	c, ca := cluster(t), newAuthority(t)
	cert, key := ca.leaf("log.test", net.IPv4(127, 0, 0, 1))
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pemCA, err := os.ReadFile(ca.file)
	if err != nil || !pool.AppendCertsFromPEM(pemCA) {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MinVersion: tls.VersionTLS13})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go forward(l, c.Addr())

	cfg := c.Config(newTree(t, c, origin), origin)
	cfg.TLS, cfg.CA, cfg.Addr = true, ca.file, l.Addr().String()
	bare := cfg
	bare.Patience, bare.Call = time.Nanosecond, time.Second
	if e, err := trillian.Open(context.Background(), bare); err == nil {
		_ = e.Close()
		t.Error("no certificate was asked for")
	}
	cfg.Cert, cfg.Key = ca.leaf("node.test", nil)
	if err := open(t, cfg).Close(); err != nil {
		t.Fatal(err)
	}
}

// forward passes what comes in on to another address, in clear.
func forward(l net.Listener, to string) {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", to)
		if err != nil {
			_ = in.Close()
			continue
		}
		go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
		go func() { _, _ = io.Copy(in, out); _ = in.Close() }()
	}
}
