package node

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/custody"
)

// issuer is a certificate authority of a test.
type issuer struct {
	t    *testing.T
	key  crypto.Signer
	cert *x509.Certificate
	last int64
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	ca := &issuer{t: t, key: newKey(t)}
	ca.cert = ca.certify(ca.key, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return ca
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := custody.GenerateKey(custody.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// certify signs a certificate for key, in force for an hour unless c says otherwise.
func (ca *issuer) certify(key crypto.Signer, c *x509.Certificate) *x509.Certificate {
	ca.t.Helper()
	ca.last++
	c.SerialNumber, c.Subject = big.NewInt(ca.last), pkix.Name{CommonName: "test"}
	c.NotBefore = time.Now().Add(-time.Hour)
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(time.Hour)
	}
	parent := ca.cert
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(nil, c, parent, key.Public(), ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		ca.t.Fatal(err)
	}
	return out
}

func (ca *issuer) client(key crypto.Signer, notAfter time.Time) *tls.Certificate {
	c := ca.certify(key, &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, NotAfter: notAfter})
	return &tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key}
}

func writePEM(t *testing.T, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// serveTLS serves a world with Listen and returns its address.
func serveTLS(t *testing.T, w *world, ca *issuer) string {
	t.Helper()
	key := newKey(t)
	cert := ca.certify(key, &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	files := &TLS{
		Cert: writePEM(t, "cert.pem", "CERTIFICATE", cert.Raw), Key: writePEM(t, "key.pem", "PRIVATE KEY", der),
		ClientCA: writePEM(t, "ca.pem", "CERTIFICATE", ca.cert.Raw),
	}
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() { ended <- w.node.Serve(ctx, "127.0.0.1:0", files, func(addr string) { ready <- addr }) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case addr := <-ready:
		return addr
	case err := <-ended:
		ended <- err
		t.Fatal(err)
		return ""
	}
}

func (w *world) revoke(party string) {
	k, err := custody.NewKey(w.keys[party].Public())
	if err != nil {
		w.t.Fatal(err)
	}
	payload, err := custody.NewPayload(custody.KindKey, party, w.ledger, nil, &custody.KeyChange{Action: custody.ActionRevoke, Key: custody.DigestOf(k.Hash)})
	if err != nil {
		w.t.Fatal(err)
	}
	w.must(party, w.sign(payload, w.keys[party]))
}

// TestClientCertificates: a certificate with a party's enrolled key stands for the
// party, until the key is revoked; no other does, and a token goes before it.
func TestClientCertificates(t *testing.T) {
	w := newWorld(t)
	w.enrol(strangerParty, "carrier")
	w.revoke(strangerParty)
	w.must(makerParty, w.commission(1))
	ca, otherCA := newIssuer(t), newIssuer(t)
	addr := serveTLS(t, w, ca)
	in := time.Now().Add(time.Hour)
	carrierToken, err := w.folder.Token(carrierParty, []string{"custody:read"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	maker, carrier := ca.client(w.keys[makerParty], in), ca.client(w.keys[carrierParty], in)
	withExtra := &tls.Certificate{Certificate: append(maker.Certificate, ca.client(w.keys[carrierParty], in).Certificate...), PrivateKey: maker.PrivateKey}

	unitPath := "/v1/units?uri=" + url.QueryEscape(unit(1))
	form := func(s string) string { return `"form":"` + s + `"` }
	for _, c := range []struct {
		name   string
		cert   *tls.Certificate
		method string
		path   string
		body   []byte
		header string
		status int // 0: no connection
		part   string
	}{
		{"no certificate, open route", nil, "GET", "/checkpoint", nil, "", 200, "ledger.test/parts"},
		{"no certificate, to write", nil, "POST", "/v1/statements", w.commission(2), "", 401, "token_required"},
		{"no certificate, a unit", nil, "GET", unitPath, nil, "", 200, form("status")},
		{"enrolled key, its unit", maker, "GET", unitPath, nil, "", 200, form("full")},
		{"enrolled key, another's unit", carrier, "GET", unitPath, nil, "", 200, form("status")},
		{"another certificate behind the first", withExtra, "GET", unitPath, nil, "", 200, form("full")},
		{"enrolled key, to write", maker, "POST", "/v1/statements", w.commission(3), "", 201, `"effect"`},
		{"enrolled key, what another signed", carrier, "POST", "/v1/statements", w.commission(4), "", 403, "signer_mismatch"},
		{"enrolled key, findings", maker, "GET", "/v1/findings", nil, "", 200, `"findings"`},
		{"enrolled key, what is for auditors", maker, "GET", "/v1/entries?signed=true", nil, "", 403, "scope_missing"},
		{"a browser's request", maker, "GET", unitPath, nil, "Sec-Fetch-Site: cross-site", 200, form("status")},
		{"a browser's write", maker, "POST", "/v1/statements", w.commission(5), "Origin: https://evil.example", 401, "token_required"},
		{"a token of another party", maker, "GET", unitPath, nil, "Authorization: Bearer " + carrierToken, 200, form("status")},
		{"a bad token", maker, "GET", unitPath, nil, "Authorization: Bearer a.b.c", 401, "token_invalid"},
		{"key that nobody enrolled", ca.client(newKey(t), in), "GET", unitPath, nil, "", 200, form("status")},
		{"key that nobody enrolled, to write", ca.client(newKey(t), in), "POST", "/v1/statements", w.commission(6), "", 401, "token_required"},
		{"revoked key", ca.client(w.keys[strangerParty], in), "GET", "/v1/findings", nil, "", 401, "token_required"},
		{"the authority's key", ca.client(w.keys[testOperator], in), "GET", "/v1/findings", nil, "", 401, "token_required"},
		{"another CA", otherCA.client(w.keys[makerParty], in), "GET", "/checkpoint", nil, "", 0, ""},
		{"expired", ca.client(w.keys[makerParty], time.Now().Add(-time.Minute)), "GET", "/checkpoint", nil, "", 0, ""},
		{"the key of another", &tls.Certificate{Certificate: maker.Certificate, PrivateKey: w.keys[carrierParty]}, "GET", "/checkpoint", nil, "", 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, body, err := askTLS(t, addr, ca, c.cert, c.method, c.path, c.header, c.body)
			switch {
			case c.status == 0 && err == nil:
				t.Errorf("answered with %d", status)
			case c.status != 0 && err != nil:
				t.Error(err)
			case status != c.status || !strings.Contains(body, c.part):
				t.Errorf("%d %.200s, want %d with %s", status, body, c.status, c.part)
			}
		})
	}

	t.Run("revoked while connected", func(t *testing.T) {
		w.t = t
		hc := httpsClient(t, ca, carrier)
		get := func() int {
			resp, err := hc.Get("https://" + addr + "/v1/findings")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			_, _ = io.Copy(io.Discard, resp.Body)
			return resp.StatusCode
		}
		if got := get(); got != http.StatusOK {
			t.Fatalf("status %d before", got)
		}
		w.revoke(carrierParty)
		if got := get(); got != http.StatusUnauthorized {
			t.Errorf("status %d after", got)
		}
	})
}

func httpsClient(t *testing.T, ca *issuer, cert *tls.Certificate) *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	cfg := &tls.Config{RootCAs: pool}
	if cert != nil { // sent whatever CAs the server names
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	tr := &http.Transport{TLSClientConfig: cfg}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func askTLS(t *testing.T, addr string, ca *issuer, cert *tls.Certificate, method, path, header string, body []byte) (int, string, error) {
	t.Helper()
	req, err := http.NewRequest(method, "https://"+addr+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if name, value, ok := strings.Cut(header, ": "); ok {
		req.Header.Set(name, value)
	}
	resp, err := httpsClient(t, ca, cert).Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, "", fmt.Errorf("body: %w", err)
	}
	return resp.StatusCode, string(b), nil
}
