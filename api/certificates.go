package api

import (
	"context"
	"net/http"
)

// CertificateScopes is what a client certificate is good for: a token of the party
// with these scopes.
var CertificateScopes = []Scope{ScopeWrite, ScopeRead}

// Certificates finds the party of a client certificate.
type Certificates interface {
	// CertificateParty returns the caller whose enrolled key has the given DER
	// SubjectPublicKeyInfo, and false when it is nobody's or no longer in force.
	CertificateParty(ctx context.Context, spki []byte) (Caller, bool)
}

// hasCertificate reports whether the client proved to have the key of a certificate
// of a CA that the server trusts.
func hasCertificate(req *http.Request) bool { return req.TLS != nil && len(req.TLS.VerifiedChains) > 0 }

// certified returns the caller that a request's client certificate stands for. A
// browser sends certificates unasked, also on behalf of other sites' pages: what a
// browser sends is never a party's word by its certificate alone.
func (a *API) certified(req *http.Request) (Caller, bool) {
	if a.Certificates == nil || !hasCertificate(req) || req.Header.Get("Origin") != "" || req.Header.Get("Sec-Fetch-Site") != "" {
		return Caller{}, false
	}
	return a.Certificates.CertificateParty(req.Context(), req.TLS.VerifiedChains[0][0].RawSubjectPublicKeyInfo)
}
