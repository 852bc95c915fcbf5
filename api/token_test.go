package api

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"

	"fabtrail.dev/fabtrail/internal/problem"
)

var update = flag.Bool("update", false, "write testdata anew")

// trusted is an issuer that may grant everything to everybody.
func trusted(name string, keys KeySource) Issuer {
	return Issuer{Name: name, Keys: keys, Scopes: Scopes, Parties: []string{AnyParty}}
}

func testVerifier(t testing.TB, now time.Time) *Verifier {
	t.Helper()
	v, err := NewVerifier(testOrigin, func() time.Time { return now }, trusted(testIssuer, LocalKeys(seeded(0).Public().(ed25519.PublicKey))))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestMintVerifies(t *testing.T) {
	m := Minter{Issuer: testIssuer, Origin: testOrigin, Key: seeded(0), Clock: func() time.Time { return testNow }}
	tok, err := m.Mint(partyA, []Scope{ScopeWrite, ScopeRead}, 90*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		after time.Duration
		ok    bool
	}{
		{0, true}, {90 * time.Second, true}, {119 * time.Second, true}, {120 * time.Second, false}, {24 * time.Hour, false},
		{-30 * time.Second, true}, {-31 * time.Second, false},
	} {
		who, err := testVerifier(t, testNow.Add(tc.after)).Verify(context.Background(), tok)
		if (err == nil) != tc.ok {
			t.Errorf("after %v: %v, want accepted %v", tc.after, err, tc.ok)
		}
		if tc.ok && (who.Party != partyA || who.Issuer != testIssuer || !slices.Equal(who.Scopes, []Scope{ScopeWrite, ScopeRead})) {
			t.Errorf("after %v: %+v", tc.after, who)
		}
	}
}

func TestMintRefuses(t *testing.T) {
	good := Minter{Issuer: testIssuer, Origin: testOrigin, Key: seeded(0)}
	for name, tc := range map[string]struct {
		m      Minter
		party  string
		scopes []Scope
		ttl    time.Duration
	}{
		"no issuer":     {Minter{Origin: testOrigin, Key: seeded(0)}, partyA, []Scope{ScopeRead}, time.Hour},
		"no audience":   {Minter{Issuer: testIssuer, Key: seeded(0)}, partyA, []Scope{ScopeRead}, time.Hour},
		"RSA key":       {Minter{Issuer: testIssuer, Origin: testOrigin, Key: rsaKey(t)}, partyA, []Scope{ScopeRead}, time.Hour},
		"no party":      {good, "", []Scope{ScopeRead}, time.Hour},
		"party no URI":  {good, "alice", []Scope{ScopeRead}, time.Hour},
		"no scope":      {good, partyA, nil, time.Hour},
		"unknown scope": {good, partyA, []Scope{"root"}, time.Hour},
		"no time":       {good, partyA, []Scope{ScopeRead}, time.Millisecond},
	} {
		if tok, err := tc.m.Mint(tc.party, tc.scopes, tc.ttl); err == nil {
			t.Errorf("%s: minted %s", name, tok)
		}
	}
}

func TestVerifyAccepts(t *testing.T) {
	now := testNow.Unix()
	for name, tc := range map[string]struct {
		token  string
		scopes []Scope
	}{
		"plain":           {jwtOf(encode(goodHeader()), encode(goodClaims())), []Scope{ScopeWrite}},
		"aud as a list":   {jwtOf(encode(goodHeader()), encode(goodClaims(), "aud", []string{testOrigin})), []Scope{ScopeWrite}},
		"other claims":    {jwtOf(encode(goodHeader()), encode(goodClaims(), "jti", "1", "azp", map[string]any{"x": 1})), []Scope{ScopeWrite}},
		"unknown scopes":  {jwtOf(encode(goodHeader()), encode(goodClaims(), "scope", "openid audit profile audit")), []Scope{ScopeAudit}},
		"no known scope":  {jwtOf(encode(goodHeader()), encode(goodClaims(), "scope", "openid")), nil},
		"just expired":    {jwtOf(encode(goodHeader()), encode(goodClaims(), "exp", now-29)), []Scope{ScopeWrite}},
		"clock is behind": {jwtOf(encode(goodHeader()), encode(goodClaims(), "nbf", now+30, "iat", now+30)), []Scope{ScopeWrite}},
	} {
		who, err := testVerifier(t, testNow).Verify(context.Background(), tc.token)
		if err != nil || !slices.Equal(who.Scopes, tc.scopes) {
			t.Errorf("%s: %+v, %v", name, who, err)
		}
	}
}

// TestIssuerLimits: an issuer grants no more than it may, and signs with nothing
// but its methods.
func TestIssuerLimits(t *testing.T) {
	keys := LocalKeys(seeded(0).Public().(ed25519.PublicKey))
	v, err := NewVerifier(testOrigin, func() time.Time { return testNow }, Issuer{Name: testIssuer, Keys: keys, Scopes: []Scope{ScopeRead}, Parties: []string{partyB, partyA}})
	if err != nil {
		t.Fatal(err)
	}
	tok := jwtOf(encode(goodHeader()), encode(goodClaims(), "scope", "custody:read admin audit"))
	if who, err := v.Verify(context.Background(), tok); err != nil || !slices.Equal(who.Scopes, []Scope{ScopeRead}) {
		t.Errorf("%+v, %v", who, err)
	}
	v, err = NewVerifier(testOrigin, func() time.Time { return testNow }, Issuer{Name: testIssuer, Keys: keys, Scopes: Scopes, Parties: []string{partyB}})
	if err != nil {
		t.Fatal(err)
	}
	who, err := v.Verify(context.Background(), tok)
	if p := problem.As(err); p == nil || p.Type != "token_invalid" || p.Hint == "" || who.Known() {
		t.Errorf("an issuer named a party that is not its own: %+v, %v", who, err)
	}
	es := trusted(testIssuer, keys)
	es.Methods = []string{ES256}
	v, err = NewVerifier(testOrigin, func() time.Time { return testNow }, es)
	if err != nil {
		t.Fatal(err)
	}
	if who, err := v.Verify(context.Background(), tok); err == nil {
		t.Errorf("an issuer of ES256 was taken with EdDSA: %+v", who)
	}
	for name, is := range map[string][]Issuer{
		"none":         nil,
		"no name":      {trusted("", keys)},
		"no keys":      {trusted("x", nil)},
		"twice":        {trusted("x", keys), trusted("x", keys)},
		"method none":  {{Name: "x", Keys: keys, Scopes: Scopes, Parties: []string{AnyParty}, Methods: []string{"none"}}},
		"method HS256": {{Name: "x", Keys: keys, Scopes: Scopes, Parties: []string{AnyParty}, Methods: []string{"HS256"}}},
		"no scopes":    {{Name: "x", Keys: keys, Parties: []string{AnyParty}}},
		"no parties":   {{Name: "x", Keys: keys, Scopes: Scopes}},
		"scope":        {{Name: "x", Keys: keys, Scopes: []Scope{"all"}, Parties: []string{AnyParty}}},
		"party":        {{Name: "x", Keys: keys, Scopes: Scopes, Parties: []string{"*"}}},
		"any and more": {{Name: "x", Keys: keys, Scopes: Scopes, Parties: []string{AnyParty, partyA}}},
	} {
		if _, err := NewVerifier(testOrigin, nil, is...); err == nil {
			t.Errorf("issuers %s were accepted", name)
		}
	}
}

// tokenVectors is testdata/token/vectors.json.
type tokenVectors struct {
	Comment string        `json:"comment"`
	Origin  string        `json:"origin"`
	Now     int64         `json:"now"` // Unix seconds
	Issuers []issuerJSON  `json:"issuers"`
	Cases   []tokenVector `json:"cases"`
}

type issuerJSON struct {
	Name    string         `json:"name"`
	Methods []string       `json:"methods"`
	JWKS    jsontext.Value `json:"jwks"`
}

type tokenVector struct {
	Name    string  `json:"name"`
	Token   string  `json:"token"`
	Party   string  `json:"party,omitzero"` // of a good one
	Scopes  []Scope `json:"scopes,omitzero"`
	Problem string  `json:"problem,omitzero"` // of a bad one
}

type fixedKeys map[string]TokenKey

func (m fixedKeys) Key(ctx context.Context, kid string) (TokenKey, error) {
	return localKeys(m).Key(ctx, kid)
}

const (
	vectorFile = "../testdata/token/vectors.json"
	oidcIssuer = "https://login.example/realm"
)

// TestTokenVectors holds the verifier to published vectors.
func TestTokenVectors(t *testing.T) {
	if *update {
		writeVectors(t)
	}
	b, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	var vec tokenVectors
	if err := json.Unmarshal(b, &vec); err != nil {
		t.Fatal(err)
	}
	var issuers []Issuer
	for _, is := range vec.Issuers {
		keys, err := ParseJWKS(is.JWKS)
		if err != nil {
			t.Fatal(err)
		}
		issuers = append(issuers, Issuer{Name: is.Name, Methods: is.Methods, Keys: fixedKeys(keys), Scopes: Scopes, Parties: []string{AnyParty}})
	}
	v, err := NewVerifier(vec.Origin, func() time.Time { return time.Unix(vec.Now, 0) }, issuers...)
	if err != nil {
		t.Fatal(err)
	}
	good, bad := 0, 0
	for _, c := range vec.Cases {
		who, err := v.Verify(context.Background(), c.Token)
		if c.Problem == "" {
			good++
			if err != nil || who.Party != c.Party || !slices.Equal(who.Scopes, c.Scopes) {
				t.Errorf("%s: %+v, %v", c.Name, who, err)
			}
			continue
		}
		bad++
		if p := problem.As(err); p == nil || p.Type != c.Problem || who.Known() {
			t.Errorf("%s: %+v, %v, want %s", c.Name, who, err, c.Problem)
		}
	}
	if good < 5 || bad < 80 {
		t.Errorf("%d good and %d bad vectors", good, bad)
	}
}

func writeVectors(t *testing.T) {
	rsa, ec := rsaKey(t), ecKey(t)
	sign := func(m jwt.SigningMethod, kid string, key crypto.Signer, change ...any) string {
		var c jwt.MapClaims
		if err := json.Unmarshal([]byte(encode(goodClaims(), append([]any{"iss", oidcIssuer}, change...)...)), (*map[string]any)(&c)); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"exp", "nbf", "iat"} { // the decoder made floats of them
			if f, ok := c[name].(float64); ok {
				c[name] = int64(f)
			}
		}
		tok := jwt.NewWithClaims(m, c)
		tok.Header["typ"], tok.Header["kid"] = TokenType, kid
		s, err := tok.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	jwks := func(keys ...jose.JSONWebKey) jsontext.Value {
		b, err := json.Marshal(map[string]any{"keys": keys})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	vec := tokenVectors{
		Comment: "Bearer tokens: those with a problem must be refused with that type, the others give party and scopes. The time is now.",
		Origin:  testOrigin, Now: testNow.Unix(),
		Issuers: []issuerJSON{
			{testIssuer, []string{EdDSA}, jwks(jose.JSONWebKey{Key: seeded(0).Public(), KeyID: testKid(), Algorithm: EdDSA, Use: "sig"})},
			{oidcIssuer, []string{ES256, RS256, PS256}, jwks(
				jose.JSONWebKey{Key: rsa.Public(), KeyID: "rsa"},
				jose.JSONWebKey{Key: rsa.Public(), KeyID: "rsa-rs256-only", Algorithm: RS256},
				jose.JSONWebKey{Key: ec.Public(), KeyID: "ec", Algorithm: ES256},
				jose.JSONWebKey{Key: seeded(1).Public(), KeyID: "ed", Algorithm: EdDSA},
				jose.JSONWebKey{Key: ec.Public(), KeyID: "ec-enc", Use: "enc"})},
		},
		Cases: []tokenVector{
			{Name: "local", Token: jwtOf(encode(goodHeader()), encode(goodClaims())), Party: partyA, Scopes: []Scope{ScopeWrite}},
			{Name: "ES256", Token: sign(jwt.SigningMethodES256, "ec", ec), Party: partyA, Scopes: []Scope{ScopeWrite}},
			{Name: "RS256", Token: sign(jwt.SigningMethodRS256, "rsa", rsa), Party: partyA, Scopes: []Scope{ScopeWrite}},
			{Name: "PS256", Token: sign(jwt.SigningMethodPS256, "rsa", rsa), Party: partyA, Scopes: []Scope{ScopeWrite}},
			{Name: "several scopes", Token: sign(jwt.SigningMethodES256, "ec", ec, "scope", "openid audit custody:read"), Party: partyA, Scopes: []Scope{ScopeAudit, ScopeRead}},
			{Name: "RS384", Token: sign(jwt.SigningMethodRS384, "rsa", rsa), Problem: "token_invalid"},
			{Name: "PS256 with a key for RS256", Token: sign(jwt.SigningMethodPS256, "rsa-rs256-only", rsa), Problem: "token_invalid"},
			{Name: "EdDSA of an issuer that may not", Token: sign(jwt.SigningMethodEdDSA, "ed", seeded(1)), Problem: "token_invalid"},
			{Name: "ES256 with kid of an RSA key", Token: sign(jwt.SigningMethodES256, "rsa", ec), Problem: "token_invalid"},
			{Name: "key for encryption", Token: sign(jwt.SigningMethodES256, "ec-enc", ec), Problem: "token_invalid"},
			{Name: "key of the other issuer", Token: jwtOf(encode(goodHeader()), encode(goodClaims(), "iss", oidcIssuer)), Problem: "token_invalid"},
			{Name: "issuer of the other key", Token: sign(jwt.SigningMethodES256, "ec", ec, "iss", testIssuer), Problem: "token_invalid"},
		},
	}
	bad := badTokens()
	for _, name := range slices.Sorted(mapsKeys(bad)) {
		vec.Cases = append(vec.Cases, tokenVector{Name: name, Token: bad[name], Problem: "token_invalid"})
	}
	b, err := json.Marshal(vec, jsontext.WithIndent("  "))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(vectorFile), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(vectorFile, append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestBadTokensAreBad(t *testing.T) {
	v := testVerifier(t, testNow)
	for name, tok := range badTokens() {
		if who, err := v.Verify(context.Background(), tok); err == nil {
			t.Errorf("%s: accepted as %+v", name, who)
		} else if p := problem.As(err); p == nil || p.Type != "token_invalid" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzToken(f *testing.F) {
	f.Add(jwtOf(encode(goodHeader()), encode(goodClaims())))
	for _, tok := range badTokens() {
		f.Add(tok)
	}
	v := testVerifier(f, testNow)
	f.Fuzz(func(t *testing.T, tok string) {
		who, err := v.Verify(context.Background(), tok)
		if err != nil {
			if p := problem.As(err); p == nil || p.Type != "token_invalid" || who.Known() {
				t.Fatalf("%+v, %v", who, err)
			}
			return
		}
		// Whatever is accepted is in its one form and bears the issuer's signature.
		cut := strings.LastIndexByte(tok, '.')
		_, _, serr := splitToken(tok)
		sig := decode64(t, tok[cut+1:])
		if serr != nil || !ed25519.Verify(seeded(0).Public().(ed25519.PublicKey), []byte(tok[:cut]), sig) || who.Party == "" {
			t.Fatalf("accepted %q as %+v", tok, who)
		}
	})
}
