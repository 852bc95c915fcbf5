package api

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	jwksLimit      = 256 << 10
	jwksKeys       = 64
	jwksTimeout    = 5 * time.Second
	jwksRefresh    = 45 * time.Second // so that a key withdrawn is refused within a minute
	jwksRetry      = 10 * time.Second // after a failure
	jwksUnknownKid = time.Minute      // at most one extra fetch for unknown kids
	jwksLastGood   = time.Hour        // how long a copy serves while the issuer is down
)

// Fetch reads a JWK Set (RFC 7517) from where it is published.
type Fetch func(ctx context.Context) ([]byte, error)

// JWKS is a KeySource over a published JWK Set. It keeps a copy that is at most
// 45 seconds old while the issuer answers, and serves the last good copy for up
// to an hour while it does not. A kid that is not in the copy causes one more
// fetch, at most once a minute. It starts no goroutine: the request that finds
// the copy old fetches a new one while others go on with the old one.
type JWKS struct {
	// Trouble, if set, is told why a copy could not be fetched, each time: callers only
	// learn that there are no keys, as an address of the inside is not theirs to know.
	Trouble func(error)

	fetch Fetch
	clock func() time.Time

	fetching sync.Mutex // held by whoever fetches

	mu      sync.Mutex
	fetches int // that have ended
	keys    map[string]TokenKey
	good    time.Time // when keys was fetched
	retry   time.Time // no fetch before this
	unknown time.Time // no fetch for an unknown kid before this
}

// NewJWKS returns a source that reads its keys by fetch when first asked. clock
// may be nil.
func NewJWKS(fetch Fetch, clock func() time.Time) *JWKS {
	if clock == nil {
		clock = time.Now
	}
	return &JWKS{fetch: fetch, clock: clock}
}

// Key returns the issuer's key with the given kid.
func (j *JWKS) Key(ctx context.Context, kid string) (TokenKey, error) {
	now := j.clock()
	got := j.look(kid, now)
	if got.state != copyFresh {
		j.refresh(ctx, now, got)
		got = j.look(kid, now)
	}
	if got.state == copyNone {
		return TokenKey{}, ErrNoKeys
	}
	if !got.found && j.mayAskForUnknown(now) {
		got.must = true
		j.refresh(ctx, now, got)
		got = j.look(kid, now)
	}
	if !got.found {
		return TokenKey{}, ErrUnknownKid
	}
	return got.key, nil
}

type copyState int

const (
	copyFresh copyState = iota
	copyOld             // usable, but a new one is due
	copyNone            // none, or one too old to use
)

// looked is what one look at the copy found.
type looked struct {
	key     TokenKey
	found   bool
	state   copyState
	must    bool // a new copy is worth waiting for
	fetches int  // that had ended by then
}

func (j *JWKS) look(kid string, now time.Time) looked {
	j.mu.Lock()
	defer j.mu.Unlock()
	got := looked{fetches: j.fetches}
	age := now.Sub(j.good)
	if j.keys == nil || age > jwksLastGood {
		got.state, got.must = copyNone, true
		return got
	}
	got.key, got.found = j.keys[kid]
	if age >= jwksRefresh && !now.Before(j.retry) {
		got.state = copyOld
	}
	return got
}

func (j *JWKS) mayAskForUnknown(now time.Time) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if now.Before(j.unknown) || now.Before(j.retry) || !now.After(j.good) {
		return false
	}
	j.unknown = now.Add(jwksUnknownKid)
	return true
}

// refresh fetches a new copy, unless somebody has done so since the look. While
// somebody else is at it, only who must wait waits.
func (j *JWKS) refresh(ctx context.Context, now time.Time, since looked) {
	if since.must {
		j.fetching.Lock()
	} else if !j.fetching.TryLock() {
		return
	}
	defer j.fetching.Unlock()
	j.mu.Lock()
	enough := j.fetches != since.fetches || now.Before(j.retry)
	j.mu.Unlock()
	if enough {
		return
	}
	// The copy is everybody's: this request's end must not spoil it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), jwksTimeout)
	defer cancel()
	b, err := j.fetch(ctx)
	var keys map[string]TokenKey
	if err == nil {
		keys, err = ParseJWKS(b)
	}
	if err != nil && j.Trouble != nil {
		j.Trouble(err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.fetches++
	if err != nil {
		j.retry = now.Add(jwksRetry)
		return
	}
	j.keys, j.good, j.retry = keys, now, time.Time{}
}

// ParseJWKS reads the signature keys of a JWK Set, by kid. Keys for other uses,
// of other types or without a kid are left out (RFC 7517 section 5); two keys
// with one kid, a private key, or JSON that is not strict refuse the whole set.
func ParseJWKS(b []byte) (map[string]TokenKey, error) {
	if len(b) > jwksLimit {
		return nil, fmt.Errorf("the JWK Set has more than %d bytes", jwksLimit)
	}
	var set struct {
		Keys []jsontext.Value `json:"keys"`
	}
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, fmt.Errorf("the JWK Set is not strictly valid JSON: %w", err)
	}
	if set.Keys == nil || len(set.Keys) > jwksKeys {
		return nil, fmt.Errorf("the JWK Set has %d keys, want 1 to %d", len(set.Keys), jwksKeys)
	}
	keys := map[string]TokenKey{}
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if err := k.UnmarshalJSON(raw); err != nil {
			continue
		}
		if _, secret := k.Key.([]byte); secret || k.Valid() && !k.IsPublic() {
			return nil, errors.New("the JWK Set publishes a private key or a secret")
		}
		methods := methodsOf(&k)
		if k.KeyID == "" || len(k.KeyID) > maxKid || len(methods) == 0 || !k.Valid() || (k.Use != "" && k.Use != "sig") {
			continue
		}
		if _, twice := keys[k.KeyID]; twice {
			return nil, fmt.Errorf("the JWK Set has two keys with the kid %q", k.KeyID)
		}
		keys[k.KeyID] = TokenKey{Public: k.Key, Methods: methods}
	}
	return keys, nil
}

// methodsOf returns the methods that a key may verify: those of its type, or of
// them the one that its alg names.
func methodsOf(k *jose.JSONWebKey) []string {
	var fit []string
	switch pub := k.Key.(type) {
	case ed25519.PublicKey:
		fit = []string{EdDSA}
	case *ecdsa.PublicKey:
		if pub.Curve == elliptic.P256() {
			fit = []string{ES256}
		}
	case *rsa.PublicKey:
		if pub.N.BitLen() >= 2048 {
			fit = []string{RS256, PS256}
		}
	}
	if k.Algorithm == "" {
		return fit
	}
	return slices.DeleteFunc(fit, func(m string) bool { return m != k.Algorithm })
}

// FetchFile reads a JWK Set from a file.
func FetchFile(path string) Fetch {
	return func(context.Context) ([]byte, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return io.ReadAll(io.LimitReader(f, jwksLimit+1))
	}
}

// FetchURL reads a JWK Set from an https address (http only on this machine). It
// follows no redirects and uses no proxy of the environment.
func FetchURL(address string) (Fetch, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || (u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname()))) {
		return nil, fmt.Errorf("%q is not an https address", address)
	}
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, TLSHandshakeTimeout: jwksTimeout},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return nil, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("status %d", resp.StatusCode)
		}
		return io.ReadAll(io.LimitReader(resp.Body, jwksLimit+1))
	}, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
