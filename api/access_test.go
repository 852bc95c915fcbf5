package api

import (
	"fmt"
	"net/url"
	"slices"
	"testing"
)

// roles are callers by the scopes of their token; nobody has no token.
var roles = []struct {
	name   string
	scopes []Scope
}{
	{"nobody", nil},
	{"writer", []Scope{ScopeWrite}},
	{"reader", []Scope{ScopeRead}},
	{"auditor", []Scope{ScopeAudit}},
	{"admin", []Scope{ScopeAdmin}},
}

var everyone = []string{"nobody", "writer", "reader", "auditor", "admin"}

// grants is the access table as it is meant: for each route, who gets an answer.
// It is written apart from the route table, to be compared with it.
var grants = []struct {
	method, target, body, media string
	may                         []string
}{
	{"POST", "/v1/statements", `{"name":"a"}`, typeJSON, []string{"writer", "admin"}},
	{"POST", "/v1/statements/batch", `{"name":"a"}`, typeLines, []string{"writer", "admin"}},
	{"PUT", "/v1/manifests/" + manifestDigest, manifestBytes, typeOctets, []string{"writer", "admin"}},
	{"GET", "/v1/statements/" + idOf(`{"name":"a"}`).String(), "", "", everyone},
	{"GET", "/v1/entries", "", "", everyone},
	{"GET", "/v1/entries?signed=true", "", "", []string{"auditor"}},
	{"GET", "/v1/proofs/inclusion?index=0&size=3", "", "", everyone},
	{"GET", "/v1/proofs/consistency?from=0&to=3", "", "", everyone},
	{"GET", "/v1/units?uri=" + url.QueryEscape(unitURI), "", "", everyone},
	{"GET", "/v1/units/" + url.PathEscape(unitURI), "", "", everyone},
	{"POST", "/v1/units:check", `{"units":[{"uri":"` + unitURI + `"}]}`, typeJSON, everyone},
	{"GET", "/v1/parties?uri=" + url.QueryEscape(partyA), "", "", everyone},
	{"GET", "/v1/findings", "", "", []string{"reader", "auditor"}},
	{"GET", "/checkpoint", "", "", everyone},
	{"GET", "/tile/0/000.p/3", "", "", everyone},
	{"GET", "/trust/log.vkey", "", "", everyone},
	{"GET", "/healthz", "", "", everyone},
	{"GET", "/readyz", "", "", everyone},
	{"GET", "/metrics", "", "", everyone},
	{"GET", "/openapi.yaml", "", "", everyone},
}

// TestAccess walks every role over every route.
func TestAccess(t *testing.T) {
	s := newServer(t, generous)
	walked := map[string]bool{}
	for _, g := range grants {
		walked[g.method+" "+templateOf(g.method, g.target)] = true
		for _, method := range []string{g.method, "HEAD"} {
			if method == "HEAD" && g.method != "GET" {
				continue
			}
			for _, role := range roles {
				t.Run(fmt.Sprintf("%s %s as %s", method, g.target, role.name), func(t *testing.T) {
					s.t = t
					headers := []string{"Accept: */*"}
					if g.media != "" {
						headers = append(headers, g.media)
					}
					if role.scopes != nil {
						headers = append(headers, bearerHeader(s.token(partyA, role.scopes...)))
					}
					r := s.do(method, g.target, g.body, headers...)
					want := []int{200, 201}
					switch {
					case slices.Contains(g.may, role.name):
					case role.name == "nobody":
						want = []int{401}
					default:
						want = []int{403}
					}
					if !slices.Contains(want, r.status) {
						t.Errorf("%d, want %v: %s", r.status, want, r.body)
					}
					if challenge := r.header.Get("WWW-Authenticate"); (r.status == 401 || r.status == 403) != (challenge != "") {
						t.Errorf("%d with WWW-Authenticate %q", r.status, challenge)
					}
					if method == "HEAD" && len(r.body) != 0 {
						t.Errorf("HEAD was answered with %d bytes", len(r.body))
					}
				})
			}
		}
	}
	s.t = t
	for _, r := range routes {
		if key := r.method + " " + template(r.path); !walked[key] {
			t.Errorf("%s is not in the access table of this test", key)
		}
	}
}

// TestRestrictedCargo: only auditors see cargo that is not public.
func TestRestrictedCargo(t *testing.T) {
	s := newServer(t, generous)
	for _, role := range roles {
		var headers []string
		if role.scopes != nil {
			headers = append(headers, bearerHeader(s.token(partyA, role.scopes...)))
		}
		r := s.do("GET", "/v1/entries", "", headers...)
		want := `{"index":0,"cargo":"AQAAAAAAAAABcHVibGlj"}` + "\n" +
			`{"index":1,"withheld":true}` + "\n" +
			`{"index":2,"cargo":"AwAAAAAAAAADAAAAAAAAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="}` + "\n"
		if role.name == "auditor" {
			want = `{"index":0,"cargo":"AQAAAAAAAAABcHVibGlj"}` + "\n" +
				`{"index":1,"cargo":"AgAAAAAAAAACAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAByZXN0cmljdGVk","manifest":"bWFuaWZlc3Q="}` + "\n" +
				`{"index":2,"cargo":"AwAAAAAAAAADAAAAAAAAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="}` + "\n"
		}
		if string(r.body) != want {
			t.Errorf("%s: %s", role.name, r.body)
		}
	}
}

// TestCallerReachesServices: party and scopes of the token, and the pedigree key,
// arrive where they are judged.
func TestCallerReachesServices(t *testing.T) {
	s := newServer(t, generous)
	tok := bearerHeader(s.token(partyB, ScopeWrite, ScopeRead))
	s.do("POST", "/v1/statements", `{"name":"a"}`, tok, typeJSON)
	if s.lastWho.Party != partyB || !s.lastWho.Has(ScopeWrite) || s.lastWho.Has(ScopeAdmin) {
		t.Errorf("submitter saw %+v", s.lastWho)
	}
	for _, tc := range []struct {
		target  string
		headers []string
		want    UnitQuery
	}{
		{"/v1/units/" + url.PathEscape(unitURI), nil, UnitQuery{URI: unitURI}},
		{"/v1/units/" + url.PathEscape(unitURI+"?k=abc&x=%20"), nil, UnitQuery{URI: unitURI + "?k=abc&x=%20"}},
		{"/v1/units/urn:epc:id:sgtin:952123454.3213.A1", nil, UnitQuery{URI: "urn:epc:id:sgtin:952123454.3213.A1"}},
		{"/v1/units/" + url.PathEscape(unitURI) + "?k=abc", nil, UnitQuery{URI: unitURI, PedigreeKey: "abc"}},
		{"/v1/units?uri=" + url.QueryEscape(unitURI) + "&k=abc", []string{headerPedigree + ": abc"}, UnitQuery{URI: unitURI, PedigreeKey: "abc"}},
		{"/v1/units?uri=" + url.QueryEscape(unitURI), []string{headerPedigree + ": def", headerHave + ": 00ff00ff00ff00ff"}, UnitQuery{URI: unitURI, PedigreeKey: "def", Have: "00ff00ff00ff00ff"}},
	} {
		s.do("GET", tc.target, "", tc.headers...)
		if s.lastUnit != tc.want {
			t.Errorf("%s: asked %+v, want %+v", tc.target, s.lastUnit, tc.want)
		}
	}
}
