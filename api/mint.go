package api

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Minter issues the ledger's own tokens, signed with EdDSA.
type Minter struct {
	Issuer string        // iss
	Origin string        // aud: the ledger's origin
	Key    crypto.Signer // Ed25519
	Clock  func() time.Time
}

// Mint returns a token for the party with the given scopes that is valid from
// now on for ttl, in whole seconds.
func (m Minter) Mint(party string, scopes []Scope, ttl time.Duration) (string, error) {
	pub, ok := m.Key.Public().(ed25519.PublicKey)
	switch {
	case !ok:
		return "", errors.New("tokens are signed with an Ed25519 key")
	case m.Issuer == "" || m.Origin == "":
		return "", errors.New("a token needs an issuer and an audience")
	case !isPartyURI(party):
		return "", fmt.Errorf("%q is not the URI of a party", party)
	case len(scopes) == 0:
		return "", errors.New("a token needs a scope")
	case ttl < time.Second:
		return "", errors.New("a token must be valid for at least a second")
	}
	words := make([]string, len(scopes))
	for i, s := range scopes {
		if !slices.Contains(Scopes, s) {
			return "", fmt.Errorf("%q is not a scope: want some of %v", s, Scopes)
		}
		words[i] = string(s)
	}
	clock := m.Clock
	if clock == nil {
		clock = time.Now
	}
	now := clock().Unix()
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"iss": m.Issuer, "aud": m.Origin, "sub": party, "scope": strings.Join(words, " "),
		"iat": now, "nbf": now, "exp": now + int64(ttl/time.Second),
	})
	t.Header["typ"] = TokenType
	t.Header["kid"] = KeyID(pub)
	return t.SignedString(m.Key)
}

// KeyID is the kid of the ledger's own token keys: the SHA-256 of the key's
// SubjectPublicKeyInfo in DER, in hex.
func KeyID(pub ed25519.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		panic("api: an Ed25519 key that cannot be marshalled: " + err.Error())
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// LocalKeys is a KeySource over fixed Ed25519 keys, found by their KeyID. Several
// let an old key's tokens run out beside a new one's.
func LocalKeys(keys ...ed25519.PublicKey) KeySource {
	m := localKeys{}
	for _, k := range keys {
		m[KeyID(k)] = TokenKey{Public: k, Methods: []string{EdDSA}}
	}
	return m
}

type localKeys map[string]TokenKey

func (m localKeys) Key(_ context.Context, kid string) (TokenKey, error) {
	k, ok := m[kid]
	if !ok {
		return TokenKey{}, ErrUnknownKid
	}
	return k, nil
}
