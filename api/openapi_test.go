package api

import (
	"crypto"
	"crypto/ed25519"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/api/openapi"
)

const noHash = crypto.Hash(0)

func testKid() string { return KeyID(seeded(0).Public().(ed25519.PublicKey)) }

func description(t *testing.T) *openapi.Document {
	t.Helper()
	d, err := openapi.Parse(OpenAPI())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// template writes a route's path as OpenAPI does.
func template(path string) string {
	parts := strings.Split(strings.ReplaceAll(path, `\:`, "\x00"), "/")
	for i, p := range parts {
		if name, ok := strings.CutPrefix(p, ":"); ok {
			parts[i] = "{" + name + "}"
		}
	}
	return strings.ReplaceAll(strings.Replace(strings.Join(parts, "/"), "/*", "/{path}", 1), "\x00", ":")
}

// templateOf finds the described path that a target is routed to, or "".
func templateOf(method, target string) string {
	path, _, _ := strings.Cut(target, "?")
	for _, r := range routes {
		if r.method == method && strings.ReplaceAll(r.path, `\:`, ":") == path {
			return template(r.path)
		}
	}
	for _, r := range routes {
		prefix, name, param := strings.Cut(r.path, ":")
		if r.method == method && param && strings.HasPrefix(path, prefix) && path != prefix && !strings.Contains(path[len(prefix):], "/") && name != "" {
			return template(r.path)
		}
		if prefix, any := strings.CutSuffix(r.path, "*"); any && r.method == method && strings.HasPrefix(path, prefix) {
			return template(r.path)
		}
	}
	return ""
}

func sorted(s []string) []string { s = slices.Clone(s); slices.Sort(s); return s }

// TestDescriptionIsTheRoutes compares description and route table both ways:
// methods and paths, parameters, media types, and who may use what.
func TestDescriptionIsTheRoutes(t *testing.T) {
	d := description(t)
	described := map[string]bool{}
	for _, op := range d.Operations() {
		described[op.Method+" "+op.Path] = true
	}
	for _, r := range routes {
		key := r.method + " " + template(r.path)
		if !described[key] {
			t.Errorf("%s is not described", key)
			continue
		}
		delete(described, key)
		op, _ := d.Operation(r.method, template(r.path))
		query, err := d.Parameters(op, "query")
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(sorted(query), sorted(r.query)) {
			t.Errorf("%s: parameters %v, described %v", key, r.query, query)
		}
		var inPath []string
		for _, part := range strings.Split(template(r.path), "/") {
			if strings.HasPrefix(part, "{") {
				inPath = append(inPath, strings.Trim(part, "{}"))
			}
		}
		if got, _ := d.Parameters(op, "path"); !slices.Equal(got, inPath) {
			t.Errorf("%s: path parameters %v, described %v", key, inPath, got)
		}
		if !slices.Equal(op.RequestMedia(), sorted(r.media)) {
			t.Errorf("%s: media types %v, described %v", key, r.media, op.RequestMedia())
		}
		if got, err := d.Security(op); err != nil || !slices.Equal(got, securityOf(r.access)) {
			t.Errorf("%s: access %q, described %q, %v", key, securityOf(r.access), got, err)
		}
	}
	for key := range described {
		t.Errorf("%s is described but not a route", key)
	}
}

// TestTableIsRegistered compares the route table with what Echo has.
func TestTableIsRegistered(t *testing.T) {
	s := newServer(t, generous)
	want := map[string]bool{}
	for _, r := range routes {
		want[r.method+" "+r.path] = true
		if r.method == "GET" {
			want["HEAD "+r.path] = true
		}
		if r.cors {
			want["OPTIONS "+r.path] = true
		}
	}
	for _, r := range s.api.echo.Routes() {
		if key := r.Method + " " + r.Path; !want[key] {
			t.Errorf("%s is registered but not in the table", key)
		} else {
			delete(want, key)
		}
	}
	for key := range want {
		t.Errorf("%s is in the table but not registered", key)
	}
}

// securityOf writes who may use a route as Document.Security does. A client
// certificate stands for a token of CertificateScopes.
func securityOf(a access) []string {
	switch a.token {
	case tokenOptional:
		return []string{"", "token", "certificate"}
	case tokenRequired:
		var alt []string
		for _, s := range a.scopes {
			alt = append(alt, "token "+string(s))
		}
		if (Caller{Scopes: CertificateScopes}).hasAny(a.scopes) {
			alt = append(alt, "certificate")
		}
		return alt
	}
	return []string{}
}

// TestRealAnswersAsDescribed plays a request for every success that is described,
// and some refusals, and holds the answers to the description.
func TestRealAnswersAsDescribed(t *testing.T) {
	s := newServer(t, generous)
	d := description(t)
	write, audit, read := bearerHeader(s.token(partyA, ScopeWrite)), bearerHeader(s.token(partyA, ScopeAudit)), bearerHeader(s.token(partyA, ScopeRead))
	unit := "/v1/units/" + url.PathEscape(unitURI)
	seen := map[string]bool{}
	play := func(status int, method, target, body string, headers ...string) reply {
		t.Helper()
		r := s.do(method, target, body, headers...)
		path := templateOf(method, target)
		if r.status != status {
			t.Errorf("%s %s: %d, want %d: %s", method, target, r.status, status, r.body)
		}
		if err := d.Check(method, path, r.status, r.header, r.body); err != nil {
			t.Error(err)
		}
		seen[fmt.Sprintf("%s %s %d", method, path, r.status)] = true
		return r
	}
	one, late := `{"name":"one"}`, `{"name":"late","mode":"pending"}`
	play(201, "POST", "/v1/statements", one, write, typeJSON)
	play(200, "POST", "/v1/statements", one, write, "Content-Type: application/vnd.dsse.envelope.v1+json; charset=utf-8")
	r := play(202, "POST", "/v1/statements", late, write, typeJSON)
	play(202, "GET", r.header.Get("Location"), "", write)
	play(200, "GET", pollPath(idOf(one)), "")
	play(200, "POST", "/v1/statements/batch", one+"\n"+late+"\n{\"name\":\"two\"}\n{\"problem\":\"superseded\"}\n\n", write, typeLines)
	play(201, "PUT", "/v1/manifests/"+manifestDigest, manifestBytes, write, typeOctets)
	play(200, "PUT", "/v1/manifests/"+manifestDigest, manifestBytes, write, typeOctets)
	play(200, "GET", "/v1/entries", "")
	play(200, "GET", "/v1/entries?from=1&limit=1&signed=true", "", audit)
	play(200, "GET", "/v1/entries?from=3", "", read)
	play(200, "GET", "/v1/proofs/inclusion?index=0&size=3", "")
	play(200, "GET", "/v1/proofs/consistency?from=0&to=3", "")
	play(200, "GET", unit, "")
	play(200, "GET", unit+"?k=key", "")
	play(200, "GET", "/v1/units?uri="+url.QueryEscape(unitURI), "", read)
	play(200, "POST", "/v1/units:check", `{"units":[{"uri":"`+unitURI+`"},{"uri":"`+unitURI+`","key":"key"}]}`, typeJSON)
	play(422, "POST", "/v1/units:check", `{"units":[{"uri":"abc"}]}`, read, typeJSON)
	play(200, "GET", "/v1/parties?uri="+url.QueryEscape(partyA), "")
	play(404, "GET", "/v1/parties?uri="+url.QueryEscape(partyB), "")
	play(200, "GET", "/v1/findings?since=0&limit=5", "", read)
	play(200, "GET", "/v1/findings?since=3", "", audit)
	play(200, "GET", "/checkpoint", "")
	play(200, "GET", "/tile/0/000.p/3", "")
	play(200, "GET", "/tile/entries/000.p/3", "")
	play(200, "GET", "/trust/log.vkey", "")
	play(200, "GET", "/trust/charter.json", "")
	play(200, "GET", "/healthz", "")
	play(200, "GET", "/readyz", "")
	play(200, "GET", "/metrics", "")
	play(200, "GET", "/openapi.yaml", "")
	s.reasons = []Reason{{"not_signing", "behind the journal"}}
	if r := play(503, "GET", "/readyz", ""); !strings.Contains(string(r.body), `"behind the journal"`) {
		t.Errorf("reasons are missing: %s", r.body)
	}
	for _, op := range d.Operations() {
		for _, status := range op.Statuses() {
			if key := op.Method + " " + op.Path + " " + status; status < "300" && !seen[key] {
				t.Errorf("%s is described but was not played", key)
			}
		}
	}
}
