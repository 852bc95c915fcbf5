package api

import "slices"

// Scope is a right that a token carries.
type Scope string

// The scopes. Which route takes which is in the table of routes.go; what a scope
// shows of a unit or statement is decided behind the services.
const (
	ScopeWrite Scope = "custody:write" // post statements and manifests of the own party
	ScopeRead  Scope = "custody:read"  // read what concerns the own party
	ScopeAudit Scope = "audit"         // read everything
	ScopeAdmin Scope = "admin"         // post what the ledger's authority signed
)

// Scopes lists all scopes.
var Scopes = []Scope{ScopeWrite, ScopeRead, ScopeAudit, ScopeAdmin}

// Caller is who asks. The zero value is a caller without a token.
type Caller struct {
	Party  string // party URI: the token's sub
	Issuer string // the token's iss
	Scopes []Scope
}

// Known reports whether the caller showed a token.
func (c Caller) Known() bool { return c.Party != "" }

// Has reports whether the caller's token carries the scope.
func (c Caller) Has(s Scope) bool { return slices.Contains(c.Scopes, s) }

// hasAny reports whether the caller has at least one of the scopes.
func (c Caller) hasAny(scopes []Scope) bool { return slices.ContainsFunc(scopes, c.Has) }

// tokenUse says what a route does with a token.
type tokenUse int

const (
	tokenIgnored  tokenUse = iota // open to everyone; a token is not read
	tokenOptional                 // open, but a token that is sent must be good
	tokenRequired                 // needs a token with one of the scopes
)

// access says who may use a route.
type access struct {
	token  tokenUse
	scopes []Scope // with tokenRequired: any of them suffices
}

var (
	open     = access{token: tokenIgnored}
	optional = access{token: tokenOptional}
)

func needs(scopes ...Scope) access { return access{tokenRequired, scopes} }
