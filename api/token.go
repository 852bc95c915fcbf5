package api

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"

	"fabtrail.dev/fabtrail/internal/problem"
)

const (
	// MaxToken bounds a token, in bytes.
	MaxToken = 8 << 10
	// TokenType is the only "typ" that is accepted (RFC 9068).
	TokenType = "at+jwt"
	// tokenLeeway is what clocks may differ.
	tokenLeeway = 30 * time.Second
	maxKid      = 128
	maxParty    = 512
)

// Signature methods that an issuer may be allowed. Tokens of the ledger itself
// are EdDSA.
const (
	EdDSA = "EdDSA"
	ES256 = "ES256"
	RS256 = "RS256"
	PS256 = "PS256"
)

// TokenKey is a key that verifies tokens, with the methods it may be used for.
type TokenKey struct {
	Public  crypto.PublicKey
	Methods []string
}

// KeySource finds an issuer's key by the kid of a token's header. A kid is only
// ever looked up in a map.
type KeySource interface {
	// Key returns ErrUnknownKid, or ErrNoKeys when the source cannot be read.
	Key(ctx context.Context, kid string) (TokenKey, error)
}

var (
	// ErrUnknownKid says that the issuer has no such key.
	ErrUnknownKid = errors.New("unknown kid")
	// ErrNoKeys says that the issuer's keys cannot be had at present.
	ErrNoKeys = errors.New("the issuer's keys cannot be had")
)

// Issuer is one who may issue tokens for this ledger. What it may grant and for whom
// must be said: nothing is granted by leaving it out.
type Issuer struct {
	Name    string    // the exact iss
	Methods []string  // methods pinned for it; empty: EdDSA
	Keys    KeySource //
	Scopes  []Scope   // the most it may grant; what else a token has is dropped
	Parties []string  // URIs of the parties it may name, or AnyParty alone
}

// AnyParty as the one element of an Issuer's Parties lets it name every party.
const AnyParty = "any"

// check refuses an issuer that could grant nothing, or what nobody knows.
func (is *Issuer) check() error {
	if is.Name == "" || is.Keys == nil {
		return errors.New("a token issuer needs a name and keys")
	}
	for _, m := range is.Methods {
		if !slices.Contains([]string{EdDSA, ES256, RS256, PS256}, m) {
			return fmt.Errorf("token issuer %q: method %q is not one of EdDSA, ES256, RS256, PS256", is.Name, m)
		}
	}
	if len(is.Scopes) == 0 {
		return fmt.Errorf("token issuer %q: no scope is named that it may grant", is.Name)
	}
	for _, s := range is.Scopes {
		if !slices.Contains(Scopes, s) {
			return fmt.Errorf("token issuer %q: %q is not a scope: want some of %v", is.Name, s, Scopes)
		}
	}
	if len(is.Parties) == 0 {
		return fmt.Errorf("token issuer %q: no party is named that it may speak for, nor %q", is.Name, AnyParty)
	}
	for _, p := range is.Parties {
		if !isPartyURI(p) && (p != AnyParty || len(is.Parties) > 1) {
			return fmt.Errorf("token issuer %q: %q is not the URI of a party", is.Name, p)
		}
	}
	return nil
}

// speaksFor reports whether the issuer may name the party.
func (is *Issuer) speaksFor(party string) bool {
	return is.Parties[0] == AnyParty || slices.Contains(is.Parties, party)
}

// Verifier checks bearer tokens: JSON Web Tokens in the profile of RFC 9068 with
// nothing optional. The header has alg, kid and typ "at+jwt" and nothing else;
// iss, sub, aud, exp, nbf, iat and scope must be there, aud being exactly the
// ledger's origin; names that occur twice, loose base64 and any other looseness
// make a token invalid.
type Verifier struct {
	issuers map[string]verifierIssuer
	known   remembered
}

type verifierIssuer struct {
	Issuer
	parser    *jwt.Parser
	validator *jwt.Validator // as parser has it
}

// NewVerifier returns a Verifier for tokens whose audience is the ledger with
// the given origin. clock may be nil.
func NewVerifier(origin string, clock func() time.Time, issuers ...Issuer) (*Verifier, error) {
	if origin == "" || len(issuers) == 0 {
		return nil, errors.New("tokens need an origin and at least one issuer")
	}
	if clock == nil {
		clock = time.Now
	}
	v := &Verifier{issuers: map[string]verifierIssuer{}}
	for _, is := range issuers {
		if err := is.check(); err != nil {
			return nil, err
		}
		if _, twice := v.issuers[is.Name]; twice {
			return nil, fmt.Errorf("token issuer %q is configured twice", is.Name)
		}
		if len(is.Methods) == 0 {
			is.Methods = []string{EdDSA}
		}
		options := []jwt.ParserOption{
			jwt.WithValidMethods(is.Methods),
			jwt.WithIssuer(is.Name),
			jwt.WithAudience(origin),
			jwt.WithExpirationRequired(),
			jwt.WithNotBeforeRequired(),
			jwt.WithIssuedAt(),
			jwt.WithLeeway(tokenLeeway),
			jwt.WithStrictDecoding(),
			jwt.WithTimeFunc(clock),
		}
		v.issuers[is.Name] = verifierIssuer{is, jwt.NewParser(options...), jwt.NewValidator(options...)}
	}
	return v, nil
}

func badToken(format string, a ...any) *problem.Problem {
	return problem.New("token_invalid", "Authorization", format, a...).
		WithHint("get a new token for this ledger, and send it whole: Authorization: Bearer <token>")
}

// Verify returns the caller that the token names. Every refusal is a
// *problem.Problem: token_invalid, or issuer_unreachable when the issuer's keys
// cannot be had.
func (v *Verifier) Verify(ctx context.Context, token string) (Caller, error) {
	if len(token) > MaxToken {
		return Caller{}, badToken("the token has more than %d bytes", MaxToken)
	}
	sum := sha256.Sum256([]byte(token))
	if t := v.known.get(sum); t != nil {
		if who, ok := v.again(ctx, t); ok {
			return who, nil
		}
	}
	head, body, err := splitToken(token)
	if err != nil {
		return Caller{}, badToken("%v", err)
	}
	h, err := parseTokenHeader(head)
	if err != nil {
		return Caller{}, badToken("header: %v", err)
	}
	var c claims
	if err := c.UnmarshalJSON(body); err != nil {
		return Caller{}, badToken("claims: %v", err)
	}
	is, ok := v.issuers[c.Issuer]
	if !ok {
		return Caller{}, badToken("the issuer is not one of this ledger's").WithHint("ask the ledger's operator for a token, or who issues them")
	}
	if !slices.Contains(is.Methods, h.Alg) {
		return Caller{}, badToken("header: this issuer's tokens may not be signed with that alg")
	}
	key, err := is.Keys.Key(ctx, h.Kid)
	switch {
	case errors.Is(err, ErrUnknownKid):
		return Caller{}, badToken("header: the issuer has no key with this kid")
	case err != nil:
		return Caller{}, problem.New("issuer_unreachable", "", "the token issuer's keys cannot be had at present").WithHint("try again later")
	case !slices.Contains(key.Methods, h.Alg):
		return Caller{}, badToken("header: alg does not fit the key that kid names")
	}
	var checked claims
	_, err = is.parser.ParseWithClaims(token, &checked, func(*jwt.Token) (any, error) { return key.Public, nil })
	if err != nil {
		return Caller{}, tokenProblem(err)
	}
	v.known.put(sum, &goodToken{h, key.Public, checked})
	return checked.caller(is.Issuer)
}

// tokenProblem says what the library found wrong. Only when the signature is
// good does it tell about the claims.
func tokenProblem(err error) *problem.Problem {
	switch {
	case errors.Is(err, jwt.ErrTokenSignatureInvalid), errors.Is(err, jwt.ErrTokenMalformed), errors.Is(err, jwt.ErrTokenUnverifiable):
		return badToken("the signature does not verify")
	case errors.Is(err, jwt.ErrTokenExpired):
		return badToken("the token has expired").WithHint("get a new one")
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return badToken("the token is not valid yet").WithHint("compare the clocks of issuer and ledger")
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return badToken("the token is for another audience").WithHint("aud must be the origin of this ledger, its checkpoint's first line")
	}
	return badToken("the claims are not acceptable")
}

// splitToken checks the outer form of a token (three parts of canonical
// base64url without padding) and returns the first two, decoded.
func splitToken(token string) (head, body []byte, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, nil, errors.New("a token has three parts")
	}
	var dec [3][]byte
	for i, p := range parts {
		// The decoder skips line ends, hence the comparison.
		dec[i], err = base64.RawURLEncoding.Strict().DecodeString(p)
		if err != nil || base64.RawURLEncoding.EncodeToString(dec[i]) != p || p == "" {
			return nil, nil, fmt.Errorf("part %d is not canonical base64url", i+1)
		}
	}
	return dec[0], dec[1], nil
}

type tokenHeader struct{ Alg, Kid string }

func parseTokenHeader(b []byte) (tokenHeader, error) {
	var h tokenHeader
	var members map[string]jsontext.Value
	if err := json.Unmarshal(b, &members); err != nil {
		return h, errNotStrict
	}
	for name := range members {
		if name != "alg" && name != "kid" && name != "typ" {
			return h, errors.New("only alg, kid and typ are accepted")
		}
	}
	var typ string
	for name, to := range map[string]*string{"alg": &h.Alg, "kid": &h.Kid, "typ": &typ} {
		v := members[name]
		if v.Kind() != '"' || json.Unmarshal(v, to) != nil || *to == "" {
			return h, fmt.Errorf("%s is missing or not a string", name)
		}
	}
	if typ != TokenType {
		return h, fmt.Errorf("typ must be %s", TokenType)
	}
	if len(h.Kid) > maxKid {
		return h, fmt.Errorf("kid has more than %d bytes", maxKid)
	}
	return h, nil
}

// claims are the claims that are read; others are ignored. Numbers of seconds
// are integers.
type claims struct {
	Issuer    string
	Subject   string
	Audience  string
	Scope     string
	Expires   time.Time
	NotBefore time.Time
	IssuedAt  time.Time
}

var errNotStrict = errors.New("not strictly valid JSON, or a member has another type than it must")

// maxSeconds is the last second of year 9999.
const maxSeconds = 253402300799

// UnmarshalJSON reads claims strictly: names that occur twice or differ in case,
// bad UTF-8, numbers that are not integers are errors, and nothing may be missing.
func (c *claims) UnmarshalJSON(b []byte) error {
	var w struct {
		Iss   *string        `json:"iss"`
		Sub   *string        `json:"sub"`
		Aud   jsontext.Value `json:"aud"`
		Scope *string        `json:"scope"`
		Exp   *int64         `json:"exp"`
		Nbf   *int64         `json:"nbf"`
		Iat   *int64         `json:"iat"`
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return errNotStrict
	}
	for name, p := range map[string]*string{"iss": w.Iss, "sub": w.Sub, "scope": w.Scope} {
		if p == nil || *p == "" {
			return fmt.Errorf("%s is missing", name)
		}
	}
	for name, p := range map[string]*int64{"exp": w.Exp, "nbf": w.Nbf, "iat": w.Iat} {
		if p == nil || *p < 0 || *p > maxSeconds {
			return fmt.Errorf("%s is missing or out of range", name)
		}
	}
	aud, err := oneAudience(w.Aud)
	if err != nil {
		return err
	}
	*c = claims{*w.Iss, *w.Sub, aud, *w.Scope, time.Unix(*w.Exp, 0), time.Unix(*w.Nbf, 0), time.Unix(*w.Iat, 0)}
	return nil
}

// oneAudience reads aud: a string, or a list of exactly one.
func oneAudience(v jsontext.Value) (string, error) {
	var list []string
	var one string
	if json.Unmarshal(v, &one) == nil && v.Kind() == '"' {
		list = []string{one}
	} else if v.Kind() != '[' || json.Unmarshal(v, &list) != nil {
		return "", errors.New("aud is missing or not a string")
	}
	if len(list) != 1 || list[0] == "" {
		return "", errors.New("aud must name exactly one audience")
	}
	return list[0], nil
}

// The methods of jwt.Claims.

func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) {
	return jwt.NewNumericDate(c.Expires), nil
}
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error) { return jwt.NewNumericDate(c.IssuedAt), nil }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error) {
	return jwt.NewNumericDate(c.NotBefore), nil
}
func (c *claims) GetIssuer() (string, error)             { return c.Issuer, nil }
func (c *claims) GetSubject() (string, error)            { return c.Subject, nil }
func (c *claims) GetAudience() (jwt.ClaimStrings, error) { return jwt.ClaimStrings{c.Audience}, nil }

// caller returns who the verified claims speak for. Scopes that the ledger does
// not know, or the issuer may not grant, are dropped.
func (c *claims) caller(is Issuer) (Caller, error) {
	if !isPartyURI(c.Subject) {
		return Caller{}, badToken("claims: sub is not the URI of a party").WithHint("sub must be the party's URI as it is enrolled")
	}
	if !is.speaksFor(c.Subject) {
		return Caller{}, badToken("claims: this issuer does not speak for the party in sub").
			WithHint("ask the ledger's operator to name the party for this issuer")
	}
	who := Caller{Party: c.Subject, Issuer: is.Name}
	for _, s := range strings.Split(c.Scope, " ") {
		if scope := Scope(s); slices.Contains(is.Scopes, scope) && !who.Has(scope) {
			who.Scopes = append(who.Scopes, scope)
		}
	}
	return who, nil
}

// isPartyURI reports whether s has the outer form of a party's URI: absolute,
// printable ASCII. Whether such a party is enrolled is the ledger's business.
func isPartyURI(s string) bool {
	if len(s) == 0 || len(s) > maxParty || !isPrintable(s) {
		return false
	}
	u, err := url.Parse(s)
	return err == nil && u.IsAbs() && (u.Host != "" || u.Opaque != "")
}
