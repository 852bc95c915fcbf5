package api

import (
	"context"
	"crypto"
	"crypto/sha256"
	"slices"
	"sync"
)

// maxRemembered bounds the tokens of one generation; there are two.
const maxRemembered = 4096

// remembered keeps tokens whose signature was good: to check it again costs as much as
// to check the statement that comes with the token. Nothing else is taken from memory:
// each time the issuer must still publish the very key, and the claims must be in force.
// Who has no good token puts nothing in.
type remembered struct {
	mu       sync.Mutex
	cur, old map[[sha256.Size]byte]*goodToken
}

// goodToken is a token whose signature was good under key.
type goodToken struct {
	header tokenHeader
	key    crypto.PublicKey
	claims claims
}

// get finds a token by its hash.
func (r *remembered) get(sum [sha256.Size]byte) *goodToken {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.cur[sum]
	if t == nil {
		if t = r.old[sum]; t != nil {
			r.keep(sum, t)
		}
	}
	return t
}

func (r *remembered) put(sum [sha256.Size]byte, t *goodToken) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keep(sum, t)
}

// keep puts a token into the newer generation; r.mu is held.
func (r *remembered) keep(sum [sha256.Size]byte, t *goodToken) {
	if len(r.cur) >= maxRemembered || r.cur == nil {
		r.old, r.cur = r.cur, map[[sha256.Size]byte]*goodToken{}
	}
	r.cur[sum] = t
}

// again returns the caller of a token that was verified before; false: look at it anew,
// which also words the refusal.
func (v *Verifier) again(ctx context.Context, t *goodToken) (Caller, bool) {
	is := v.issuers[t.claims.Issuer]
	key, err := is.Keys.Key(ctx, t.header.Kid)
	if err != nil || !slices.Contains(key.Methods, t.header.Alg) || !sameKey(key.Public, t.key) || is.validator.Validate(&t.claims) != nil {
		return Caller{}, false
	}
	who, err := t.claims.caller(is.Issuer)
	return who, err == nil
}

func sameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
