// Package api is Fabtrail's HTTP interface: routes, tokens, limits and the
// mapping of errors to problem details. It decides nothing about the domain and
// keeps nothing: what it serves comes from the small interfaces of services.go,
// which the node implements.
//
// One table (routes.go) lists every route with who may use it, what it reads
// and how it is limited. Everything that is refused is refused as
// application/problem+json (RFC 9457) with a type of internal/problem; the
// exceptions are requests that net/http itself cannot read (431, 400 before any
// header was understood).
//
// The interface is described in openapi.yaml, which is served at /openapi.yaml;
// a test compares it with the routes and validates real answers with it.
package api
