package api

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/internal/problem"
)

// publishedKeys is a key source that a test changes.
type publishedKeys struct {
	keys  map[string]TokenKey
	err   error
	asked int
}

func (p *publishedKeys) Key(_ context.Context, kid string) (TokenKey, error) {
	p.asked++
	k, ok := p.keys[kid]
	switch {
	case p.err != nil:
		return TokenKey{}, p.err
	case !ok:
		return TokenKey{}, ErrUnknownKid
	}
	return k, nil
}

func edKey(n byte) TokenKey {
	return TokenKey{Public: seeded(n).Public().(ed25519.PublicKey), Methods: []string{EdDSA}}
}

// TestRememberedTokens: that its signature was good before is all that is remembered of a
// token. Each time its key must be published under its kid, and its time not be over.
func TestRememberedTokens(t *testing.T) {
	tok := jwtOf(encode(goodHeader()), encode(goodClaims()))
	kid := goodHeader()["kid"].(string)
	good := map[string]TokenKey{kid: edKey(0)}
	none := TokenKey{Public: good[kid].Public}
	for name, tc := range map[string]struct {
		keys  map[string]TokenKey
		err   error
		after time.Duration
		want  string // type of the problem and part of its detail; empty: good
	}{
		"as before":              {good, nil, 0, ""},
		"beside a new key":       {map[string]TokenKey{kid: edKey(0), "next": edKey(1)}, nil, 0, ""},
		"key withdrawn":          {map[string]TokenKey{"next": edKey(1)}, nil, 0, "token_invalid: header: the issuer has no key with this kid"},
		"another key of its kid": {map[string]TokenKey{kid: edKey(1)}, nil, 0, "token_invalid: the signature does not verify"},
		"key for nothing":        {map[string]TokenKey{kid: none}, nil, 0, "token_invalid: header: alg does not fit the key"},
		"issuer down for long":   {nil, ErrNoKeys, 0, "issuer_unreachable: the token issuer's keys"},
		"expired meanwhile":      {good, nil, 100 * 365 * 24 * time.Hour, "token_invalid: the token has expired"},
		"clock set back":         {good, nil, -time.Hour, "token_invalid: the token is not valid yet"},
	} {
		t.Run(name, func(t *testing.T) {
			keys, now := &publishedKeys{keys: good}, testNow
			v, err := NewVerifier(testOrigin, func() time.Time { return now }, trusted(testIssuer, keys))
			if err != nil {
				t.Fatal(err)
			}
			first, err := v.Verify(context.Background(), tok)
			if err != nil || len(v.known.cur) != 1 {
				t.Fatalf("%v, %d remembered", err, len(v.known.cur))
			}
			keys.keys, keys.err, now = tc.keys, tc.err, testNow.Add(tc.after)
			got, err := v.Verify(context.Background(), tok)
			if keys.asked < 2 {
				t.Error("the key source was not asked again")
			}
			if tc.want == "" {
				if err != nil || fmt.Sprint(got) != fmt.Sprint(first) {
					t.Errorf("%+v, %v; the first time %+v", got, err, first)
				}
				return
			}
			if p := problem.As(err); p == nil || !strings.HasPrefix(p.Type+": "+p.Detail, tc.want) {
				t.Errorf("%+v, %v; want %s", got, err, tc.want)
			}
		})
	}
}

// TestOnlyGoodTokensAreRemembered, and not more than two generations of them.
func TestOnlyGoodTokensAreRemembered(t *testing.T) {
	v := testVerifier(t, testNow)
	tok := jwtOf(encode(goodHeader()), encode(goodClaims()))
	for _, bad := range []string{tok[:len(tok)-4] + "AAAA", tok + "A", "x", strings.Repeat("a", MaxToken+1),
		jwtOf(encode(goodHeader()), encode(goodClaims(), "exp", testNow.Unix()-31))} {
		if _, err := v.Verify(context.Background(), bad); err == nil || len(v.known.cur) != 0 {
			t.Errorf("%.20s: %v, %d remembered", bad, err, len(v.known.cur))
		}
	}
	var r remembered
	sum := func(i int) (s [32]byte) { s[0], s[1] = byte(i), byte(i>>8); return s }
	for i := range 3 * maxRemembered {
		r.put(sum(i), &goodToken{})
		if n := len(r.cur) + len(r.old); n > 2*maxRemembered {
			t.Fatalf("%d are remembered", n)
		}
		r.get(sum(0)) // in use, and so kept
	}
	if r.get(sum(0)) == nil || r.get(sum(1)) != nil || r.get(sum(3*maxRemembered-1)) == nil {
		t.Error("what is used is forgotten, or what is not used is kept")
	}
}
