package api

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"iter"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"

	"fabtrail.dev/fabtrail/internal/problem"
)

var rsaOnce = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func rsaKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	k, err := rsaOnce()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func ecKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func decode64(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mapsKeys(m map[string]string) iter.Seq[string] { return maps.Keys(m) }

func jwkSet(t testing.TB, keys ...jose.JSONWebKey) []byte {
	t.Helper()
	b, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func edJWK(n byte, kid string) jose.JSONWebKey {
	return jose.JSONWebKey{Key: seeded(n).Public(), KeyID: kid}
}

func TestParseJWKS(t *testing.T) {
	ec, rs := ecKey(t), rsaKey(t)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ParseJWKS(jwkSet(t,
		edJWK(0, "ed"),
		jose.JSONWebKey{Key: ec.Public(), KeyID: "ec", Use: "sig"},
		jose.JSONWebKey{Key: rs.Public(), KeyID: "rsa"},
		jose.JSONWebKey{Key: rs.Public(), KeyID: "ps", Algorithm: PS256},
		// left out:
		jose.JSONWebKey{Key: ec.Public(), KeyID: "enc", Use: "enc"},
		jose.JSONWebKey{Key: p384.Public(), KeyID: "p384"},
		jose.JSONWebKey{Key: rs.Public(), KeyID: "rsa-ecdsa", Algorithm: ES256},
		jose.JSONWebKey{Key: ec.Public()},
		jose.JSONWebKey{Key: ec.Public(), KeyID: strings.Repeat("k", maxKid+1)},
	))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for kid, k := range keys {
		got[kid] = strings.Join(k.Methods, " ")
	}
	want := map[string]string{"ed": "EdDSA", "ec": "ES256", "rsa": "RS256 PS256", "ps": "PS256"}
	if !maps.Equal(got, want) {
		t.Errorf("keys %v, want %v", got, want)
	}
}

func TestParseJWKSRefuses(t *testing.T) {
	good := string(jwkSet(t, edJWK(0, "a")))
	var many []jose.JSONWebKey
	for i := range jwksKeys + 1 {
		many = append(many, edJWK(0, strings.Repeat("k", i+1)))
	}
	for name, b := range map[string]string{
		"empty":             "",
		"no keys":           "{}",
		"keys null":         `{"keys":null}`,
		"not an object":     "[]",
		"duplicate member":  strings.Replace(good, `"kid"`, `"kid":"b","kid"`, 1),
		"trailing data":     good + "{}",
		"bad UTF-8":         strings.Replace(good, `"a"`, "\"\xff\"", 1),
		"kid twice":         string(jwkSet(t, edJWK(0, "a"), edJWK(1, "a"))),
		"a private key":     string(jwkSet(t, jose.JSONWebKey{Key: seeded(0), KeyID: "a"})),
		"a private EC key":  string(jwkSet(t, jose.JSONWebKey{Key: ecKey(t), KeyID: "a"})),
		"a secret":          string(jwkSet(t, jose.JSONWebKey{Key: []byte("secret"), KeyID: "a"})),
		"too many":          string(jwkSet(t, many...)),
		"too large":         good + strings.Repeat(" ", jwksLimit),
		"keys not objects":  `{"keys":"a"}`,
		"KEYS in uppercase": strings.Replace(good, `"keys"`, `"KEYS"`, 1),
	} {
		if keys, err := ParseJWKS([]byte(b)); err == nil {
			t.Errorf("%s: %v", name, keys)
		}
	}
	if keys, err := ParseJWKS([]byte(`{"keys":[{"kty":"quantum","kid":"q"},{"kty":"OKP","crv":"X25519","kid":"x","x":"AAAA"},{"kty":"OKP","crv":"Ed25519","kid":"s","x":"AAAA"}]}`)); err != nil || len(keys) != 0 {
		t.Errorf("keys of types unknown: %v, %v", keys, err)
	}
}

// publisher is a place where a JWK Set is published.
type publisher struct {
	mu      sync.Mutex
	body    []byte
	err     error
	fetched int
}

func (p *publisher) fetch(context.Context) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fetched++
	return p.body, p.err
}

func (p *publisher) set(body []byte, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.body, p.err = body, err
}

func (p *publisher) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fetched
}

func TestJWKSRotation(t *testing.T) {
	clock := &fakeClock{now: testNow}
	pub := &publisher{body: jwkSet(t, edJWK(0, "old"))}
	j := NewJWKS(pub.fetch, clock.Now)
	has := func(kid string, want error, fetched int) {
		t.Helper()
		if _, err := j.Key(context.Background(), kid); !errors.Is(err, want) || (want == nil) != (err == nil) {
			t.Errorf("%s: %v, want %v", kid, err, want)
		}
		if got := pub.count(); got != fetched {
			t.Errorf("%s: fetched %d times, want %d", kid, got, fetched)
		}
	}
	has("old", nil, 1)
	has("old", nil, 1)
	has("new", ErrUnknownKid, 1) // the copy is of this moment
	clock.Add(time.Second)
	pub.set(jwkSet(t, edJWK(0, "old"), edJWK(1, "new")), nil)
	has("new", nil, 2) // an unknown kid causes one fetch at once
	has("old", nil, 2) // both are good while both are published
	for range 1000 {
		clock.Add(time.Millisecond)
		has("made up", ErrUnknownKid, 2) // but only one a minute
	}
	pub.set(jwkSet(t, edJWK(1, "new")), nil)
	clock.Add(jwksRefresh)
	has("old", ErrUnknownKid, 3) // withdrawn: refused within a minute
	has("new", nil, 3)
	clock.Add(30 * time.Second) // a minute after the last one for an unknown kid
	has("made up", ErrUnknownKid, 4)
	has("made up", ErrUnknownKid, 4)
}

// TestJWKSTrouble: whoever runs the ledger learns why there are no keys, callers do not.
func TestJWKSTrouble(t *testing.T) {
	clock := &fakeClock{now: testNow}
	pub := &publisher{err: errors.New("secret address")}
	j := NewJWKS(pub.fetch, clock.Now)
	var told []error
	j.Trouble = func(err error) { told = append(told, err) }
	if _, err := j.Key(context.Background(), "a"); !errors.Is(err, ErrNoKeys) || strings.Contains(err.Error(), "secret") || len(told) != 1 || !errors.Is(told[0], pub.err) {
		t.Errorf("%v; told %v", err, told)
	}
	pub.set([]byte("no set"), nil)
	clock.Add(jwksRetry)
	if _, err := j.Key(context.Background(), "a"); !errors.Is(err, ErrNoKeys) || len(told) != 2 {
		t.Errorf("%v; told %v", err, told)
	}
	pub.set(jwkSet(t, edJWK(0, "a")), nil)
	clock.Add(jwksRetry)
	if _, err := j.Key(context.Background(), "a"); err != nil || len(told) != 2 {
		t.Errorf("%v; told %v", err, told)
	}
}

func TestJWKSWhileTheIssuerIsDown(t *testing.T) {
	clock := &fakeClock{now: testNow}
	pub := &publisher{err: errors.New("down")}
	j := NewJWKS(pub.fetch, clock.Now)
	ask := func(want error) {
		t.Helper()
		if _, err := j.Key(context.Background(), "a"); !errors.Is(err, want) || (want == nil) != (err == nil) {
			t.Errorf("at %v: %v, want %v", clock.Now().Sub(testNow), err, want)
		}
	}
	ask(ErrNoKeys)
	ask(ErrNoKeys)
	if pub.count() != 1 {
		t.Errorf("fetched %d times at once", pub.count())
	}
	pub.set(jwkSet(t, edJWK(0, "a")), nil)
	clock.Add(jwksRetry)
	ask(nil)
	good := clock.Now()
	for name, b := range map[string][]byte{"nothing": nil, "garbage": []byte("<html>"), "keys with one kid": jwkSet(t, edJWK(0, "a"), edJWK(1, "a"))} {
		pub.set(b, nil)
		clock.Add(jwksRefresh)
		if _, err := j.Key(context.Background(), "a"); err != nil {
			t.Errorf("%s spoilt the last good copy: %v", name, err)
		}
	}
	pub.set(nil, errors.New("down"))
	clock.Add(good.Add(jwksLastGood).Sub(clock.Now()))
	ask(nil)
	clock.Add(time.Second)
	ask(ErrNoKeys)
	pub.set(jwkSet(t, edJWK(0, "a")), nil)
	clock.Add(jwksRetry)
	ask(nil)
	// At the API, an issuer that cannot be asked is no fault of the token.
	v, err := NewVerifier(testOrigin, clock.Now, trusted(testIssuer, NewJWKS((&publisher{err: errors.New("secret address")}).fetch, clock.Now)))
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.Verify(context.Background(), jwtOf(encode(goodHeader()), encode(goodClaims())))
	if p := problem.As(err); p == nil || p.Type != "issuer_unreachable" || strings.Contains(p.Error(), "secret") {
		t.Errorf("%v", err)
	}
}

// TestJWKSConcurrent: while one caller fetches, the others use the copy there is.
func TestJWKSConcurrent(t *testing.T) {
	clock := &fakeClock{now: testNow}
	set := jwkSet(t, edJWK(0, "a"))
	fetching, answer := make(chan struct{}), make(chan struct{})
	first := true
	j := NewJWKS(func(context.Context) ([]byte, error) {
		if first {
			first = false
			return set, nil
		}
		fetching <- struct{}{}
		<-answer
		return nil, errors.New("down")
	}, clock.Now)
	if _, err := j.Key(context.Background(), "a"); err != nil {
		t.Fatal(err)
	}
	clock.Add(jwksRefresh)
	var slow sync.WaitGroup
	slow.Go(func() {
		if _, err := j.Key(context.Background(), "a"); err != nil {
			t.Error(err)
		}
	})
	<-fetching
	for range 10 {
		if _, err := j.Key(context.Background(), "a"); err != nil {
			t.Error(err)
		}
	}
	close(answer)
	slow.Wait()
}

// TestJWKSColdStart: of many callers that find no copy, each at another time, one
// fetches and all have its result.
func TestJWKSColdStart(t *testing.T) {
	const callers = 20
	pub := &publisher{body: jwkSet(t, edJWK(0, "a"))}
	var asked atomic.Int64
	all := make(chan struct{})
	clock := func() time.Time { // is asked once by each caller
		n := asked.Add(1)
		if n == callers {
			close(all)
		}
		return testNow.Add(time.Duration(n) * time.Millisecond)
	}
	j := NewJWKS(func(ctx context.Context) ([]byte, error) {
		<-all
		return pub.fetch(ctx)
	}, clock)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			if _, err := j.Key(context.Background(), "a"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if pub.count() != 1 {
		t.Errorf("fetched %d times", pub.count())
	}
}

func TestFetchURL(t *testing.T) {
	body := jwkSet(t, edJWK(0, "a"))
	mux := http.NewServeMux()
	mux.HandleFunc("/jwks", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/jwks", http.StatusFound) })
	mux.HandleFunc("/gone", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) })
	mux.HandleFunc("/huge", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(strings.Repeat(" ", jwksLimit*4)))
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	get := func(path string) ([]byte, error) {
		f, err := FetchURL(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		return f(context.Background())
	}
	if b, err := get("/jwks"); err != nil || !slices.Equal(b, body) {
		t.Errorf("%s, %v", b, err)
	}
	for _, path := range []string{"/moved", "/gone"} {
		if b, err := get(path); err == nil {
			t.Errorf("%s: %s", path, b)
		}
	}
	if b, err := get("/huge"); err != nil || len(b) != jwksLimit+1 {
		t.Errorf("read %d bytes, %v", len(b), err)
	}
	for _, bad := range []string{"", "x", "http://login.example/jwks", "ftp://127.0.0.1/x", "https://", "https://user@login.example/", "file:///etc/passwd", "http://127.0.0.1.evil.example/"} {
		if _, err := FetchURL(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestFetchFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jwks.json")
	j := NewJWKS(FetchFile(path), func() time.Time { return testNow })
	if _, err := j.Key(context.Background(), "a"); !errors.Is(err, ErrNoKeys) {
		t.Errorf("without the file: %v", err)
	}
	if err := os.WriteFile(path, jwkSet(t, edJWK(0, "a")), 0o600); err != nil {
		t.Fatal(err)
	}
	j = NewJWKS(FetchFile(path), nil)
	k, err := j.Key(context.Background(), "a")
	if err != nil || !k.Public.(ed25519.PublicKey).Equal(seeded(0).Public()) {
		t.Errorf("%+v, %v", k, err)
	}
}
