package api

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
)

// negative is a request that must be refused, with what it must be told.
type negative struct {
	name    string
	method  string
	target  string
	body    string
	headers []string
	status  int
	problem string
}

var (
	manifestBytes  = "fabtrail/manifest/v1\nmore"
	manifestDigest = fmt.Sprintf("%x", sha256.Sum256([]byte(manifestBytes)))
	zeroID         = strings.Repeat("0", 64)
)

// TestNegative sends every row through a real listener. Afterwards the ledger
// must be what it was, no file may be left, open or in the folder for temporary ones, and
// the log of the server must not hold a secret.
func TestNegative(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	s := newServer(t, generous)
	var rows []negative
	for _, more := range [][]negative{
		s.negativeBodies(), s.negativeMedia(), s.negativeScopes(), s.negativeTokens(), negativePaths(), negativeUnits(), negativeMethods(), s.negativeQueries(),
	} {
		rows = append(rows, more...)
	}
	if len(rows) < 300 {
		t.Errorf("%d rows, want at least 300", len(rows))
	}
	doc := description(t)
	before, open := s.state(), openFiles(t)
	seen := map[string]bool{}
	for _, row := range rows {
		if seen[row.name] {
			t.Errorf("two rows are called %q", row.name)
		}
		seen[row.name] = true
		t.Run(row.name, func(t *testing.T) {
			s.t = t
			r := s.do(row.method, row.target, row.body, row.headers...)
			if r.status != row.status || row.method != "HEAD" && r.problemType() != row.problem {
				t.Fatalf("%s %.200s: %d %q, want %d %q\n%s", row.method, row.target, r.status, r.problemType(), row.status, row.problem, r.body)
			}
			if r.header.Get("X-Content-Type-Options") != "nosniff" || r.header.Get("Cache-Control") != "no-store" {
				t.Errorf("headers are missing: %v", r.header)
			}
			if strings.Contains(string(r.body), "secret") || strings.Contains(string(r.body), ".go") {
				t.Errorf("the answer tells what is inside: %s", r.body)
			}
			if path := templateOf(row.method, row.target); path != "" {
				if err := doc.Check(row.method, path, r.status, r.header, r.body); err != nil {
					t.Error(err)
				}
			}
		})
	}
	s.t = t
	if after := s.state(); after != before {
		t.Errorf("the ledger changed from %q to %q", before, after)
	}
	if after := openFiles(t); !slices.Equal(after, open) {
		t.Errorf("files are open that were not: %q, before %q", after, open)
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
}

// openFiles are the files that this process has open, connections and pipes apart; none
// where the system does not say.
func openFiles(t *testing.T) (files []string) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	for _, fd := range fds {
		if name, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(name, "/") && !strings.HasPrefix(name, "/proc/") {
			files = append(files, name)
		}
	}
	slices.Sort(files)
	return files
}

func (s *server) negativeBodies() []negative {
	w := bearerHeader(s.token(partyA, ScopeWrite))
	big := strings.Repeat("x", MaxEnvelope+1)
	post := func(name, body string, status int, problem string, headers ...string) negative {
		return negative{"statement " + name, "POST", "/v1/statements", body, append([]string{w, typeJSON}, headers...), status, problem}
	}
	batch := func(name, body string, status int, problem string, headers ...string) negative {
		return negative{"batch " + name, "POST", "/v1/statements/batch", body, append([]string{w, typeLines}, headers...), status, problem}
	}
	put := func(name, path, body string, status int, problem string, headers ...string) negative {
		return negative{"manifest " + name, "PUT", "/v1/manifests/" + path, body, append([]string{w, typeOctets}, headers...), status, problem}
	}
	rows := []negative{
		post("empty", "", 400, "malformed_request"),
		post("not JSON", "hello", 400, "malformed_json"),
		post("duplicate member", `{"name":"a","name":"b"}`, 400, "malformed_json"),
		post("trailing data", `{"name":"a"}{}`, 400, "malformed_json"),
		post("byte order mark", "\ufeff{}", 400, "malformed_json"),
		post("bad UTF-8", "{\"name\":\"\xff\"}", 400, "malformed_json"),
		post("lone surrogate", `{"name":"\ud800"}`, 400, "malformed_json"),
		post("too large", big, 413, "too_large"),
		post("too large, chunked", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(big), big), 413, "too_large", "Transfer-Encoding: chunked"),
		post("announced too large", "", 413, "too_large", "Content-Length: 104857600"),
		post("internal error", `{"mode":"error"}`, 500, "internal"),
		post("panic", `{"mode":"panic"}`, 500, "internal"),
		post("results missing", `{"mode":"short"}`, 500, "internal"),
		post("of another party", `{"party":"`+partyB+`"}`, 403, "signer_mismatch"),
		post("citing the unknown", `{"cites":"nobody"}`, 422, "unknown_statement"),
		batch("empty", "", 400, "malformed_request"),
		batch("announced too large", "", 413, "too_large", "Content-Length: 104857600"),
		put("empty", zeroID, "", 400, "malformed_request"),
		put("of another digest", zeroID, manifestBytes, 422, "manifest_mismatch"),
		put("digest in upper case", strings.ToUpper(manifestDigest), manifestBytes, 400, "invalid_parameter"),
		put("digest too short", manifestDigest[:63], manifestBytes, 400, "invalid_parameter"),
		put("digest too long", manifestDigest+"0", manifestBytes, 400, "invalid_parameter"),
		put("digest encoded", "%61"+manifestDigest[1:], manifestBytes, 400, "invalid_parameter"),
		put("not a manifest", fmt.Sprintf("%x", sha256.Sum256([]byte("x"))), "x", 422, "manifest_mismatch"),
		put("announced too large", zeroID, "", 413, "too_large", "Content-Length: 16777217"),
		put("upwards", "..%2f"+manifestDigest, manifestBytes, 400, "invalid_parameter"),
		put("without digest", "", manifestBytes, 404, "not_found"),
		put("with a query", manifestDigest+"?x=1", manifestBytes, 400, "invalid_parameter"),
	}
	for slug, status := range map[string]int{
		"bad_signature": 422, "unknown_key": 422, "key_revoked": 403, "wrong_role": 403, "other_ledger": 422, "missing_manifest": 422,
		"superseded": 409, "already_recorded": 409, "unpack_first": 409, "no_effect_limit": 429, "not_signing": 503, "storage_full": 503,
		"overloaded": 503, "keyid_required": 400, "signature_count": 400, "unsupported_payload_type": 415, "unknown_predicate": 422, "internal": 500,
	} {
		rows = append(rows, post("refused as "+slug, `{"problem":"`+slug+`"}`, status, slug))
	}
	return rows
}

func (s *server) negativeMedia() []negative {
	w := bearerHeader(s.token(partyA, ScopeWrite))
	var rows []negative
	for _, r := range []struct{ method, target, good string }{
		{"POST", "/v1/statements", "application/json"}, {"POST", "/v1/statements/batch", "application/x-ndjson"}, {"PUT", "/v1/manifests/" + manifestDigest, "application/octet-stream"},
	} {
		add := func(name string, headers ...string) {
			rows = append(rows, negative{r.target + " " + name, r.method, r.target, "{}", append(headers, w), 415, "unsupported_media_type"})
		}
		add("without a media type")
		for _, ct := range []string{"text/plain", "application/x-www-form-urlencoded", "application/xml", "*/*", r.good + ";charset", "application", "\"application/json\""} {
			add("as "+ct, "Content-Type: "+ct)
		}
		for _, enc := range []string{"gzip", "identity", "zstd", "br, gzip"} {
			add("encoded "+enc, "Content-Type: "+r.good, "Content-Encoding: "+enc)
		}
	}
	rows = append(rows, negative{"GET with an encoding", "GET", "/checkpoint", "", []string{"Content-Encoding: gzip"}, 415, "unsupported_media_type"})
	return rows
}

func (s *server) negativeScopes() []negative {
	var rows []negative
	add := func(name, method, target, body, media string, status int, problem string, scopes ...Scope) {
		h := []string{media}
		if len(scopes) > 0 {
			h = append(h, bearerHeader(s.token(partyA, scopes...)))
		}
		rows = append(rows, negative{name, method, target, body, h, status, problem})
	}
	add("statement without token", "POST", "/v1/statements", `{"name":"a"}`, typeJSON, 401, "token_required")
	add("statement as reader", "POST", "/v1/statements", `{"name":"a"}`, typeJSON, 403, "scope_missing", ScopeRead)
	add("statement as auditor", "POST", "/v1/statements", `{"name":"a"}`, typeJSON, 403, "scope_missing", ScopeAudit, ScopeRead)
	add("batch without token", "POST", "/v1/statements/batch", `{"name":"a"}`, typeLines, 401, "token_required")
	add("batch as reader", "POST", "/v1/statements/batch", `{"name":"a"}`, typeLines, 403, "scope_missing", ScopeRead, ScopeAudit)
	add("manifest without token", "PUT", "/v1/manifests/"+manifestDigest, manifestBytes, typeOctets, 401, "token_required")
	add("manifest as auditor", "PUT", "/v1/manifests/"+manifestDigest, manifestBytes, typeOctets, 403, "scope_missing", ScopeAudit)
	add("findings without token", "GET", "/v1/findings", "", typeJSON, 401, "token_required")
	add("findings as writer", "GET", "/v1/findings", "", typeJSON, 403, "scope_missing", ScopeWrite)
	add("findings as admin", "GET", "/v1/findings", "", typeJSON, 403, "scope_missing", ScopeAdmin)
	add("signed entries without token", "GET", "/v1/entries?signed=true", "", typeJSON, 401, "token_required")
	add("signed entries as reader", "GET", "/v1/entries?signed=true", "", typeJSON, 403, "scope_missing", ScopeRead, ScopeWrite, ScopeAdmin)
	return rows
}

// jwtOf makes a token of any header and claims, signed with the issuer's key.
func jwtOf(header, claims string) string {
	enc := base64.RawURLEncoding.EncodeToString
	text := enc([]byte(header)) + "." + enc([]byte(claims))
	sig, err := seeded(0).Sign(nil, []byte(text), noHash)
	if err != nil {
		panic(err)
	}
	return text + "." + enc(sig)
}

func goodHeader() map[string]any {
	return map[string]any{"alg": EdDSA, "typ": TokenType, "kid": testKid()}
}

func goodClaims() map[string]any {
	now := testNow.Unix()
	return map[string]any{"iss": testIssuer, "aud": testOrigin, "sub": partyA, "scope": "custody:write", "iat": now, "nbf": now, "exp": now + 600}
}

func encode(m map[string]any, change ...any) string {
	for i := 0; i+1 < len(change); i += 2 {
		if m[change[i].(string)] = change[i+1]; change[i+1] == nil {
			delete(m, change[i].(string))
		}
	}
	b, err := json.Marshal(m, json.Deterministic(true))
	if err != nil {
		panic(err)
	}
	return string(b)
}

// hdr, clm and dup make tokens that are good but for one change.
func hdr(change ...any) string         { return jwtOf(encode(goodHeader(), change...), encode(goodClaims())) }
func clm(change ...any) string         { return jwtOf(encode(goodHeader()), encode(goodClaims(), change...)) }
func dup(object, member string) string { return strings.TrimSuffix(object, "}") + "," + member + "}" }

// badTokens lists tokens that nobody may accept, by what is wrong with them.
func badTokens() map[string]string {
	bad := badForms()
	maps.Copy(bad, badHeaders())
	maps.Copy(bad, badClaims())
	return bad
}

func badHeaders() map[string]string {
	h, c := encode(goodHeader()), encode(goodClaims())
	enc := base64.RawURLEncoding.EncodeToString
	mac := hmac.New(sha256.New, seeded(0)[32:])
	hs := enc([]byte(encode(goodHeader(), "alg", "HS256"))) + "." + enc([]byte(c))
	mac.Write([]byte(hs))
	return map[string]string{
		"alg none":             enc([]byte(encode(goodHeader(), "alg", "none"))) + "." + enc([]byte(c)) + ".",
		"alg none, signed":     hdr("alg", "none"),
		"alg None":             hdr("alg", "None"),
		"alg HS256 by the key": hs + "." + enc(mac.Sum(nil)),
		"alg ES256":            hdr("alg", ES256),
		"alg RS256":            hdr("alg", RS256),
		"alg in lower case":    hdr("alg", "eddsa"),
		"alg missing":          hdr("alg", nil),
		"alg a number":         hdr("alg", 1),
		"alg twice":            jwtOf(dup(h, `"alg":"EdDSA"`), c),
		"typ missing":          hdr("typ", nil),
		"typ JWT":              hdr("typ", "JWT"),
		"typ banana":           hdr("typ", "banana"),
		"kid missing":          hdr("kid", nil),
		"kid empty":            hdr("kid", ""),
		"kid unknown":          hdr("kid", "unknown"),
		"kid a path":           hdr("kid", "../../etc/passwd"),
		"kid SQL":              hdr("kid", "' OR 1=1 --"),
		"kid long":             hdr("kid", strings.Repeat("k", 4096)),
		"kid a list":           hdr("kid", []string{testKid()}),
		"crit":                 hdr("crit", []string{"exp"}),
		"crit empty":           hdr("crit", []string{}),
		"jwk":                  hdr("jwk", map[string]string{"kty": "OKP"}),
		"jku":                  hdr("jku", "https://evil.example/jwks"),
		"x5u":                  hdr("x5u", "https://evil.example/x5u"),
		"b64 false":            hdr("b64", false),
		"zip":                  hdr("zip", "DEF"),
		"header in other case": jwtOf(strings.Replace(h, `"alg"`, `"Alg"`, 1), c),
		"header not an object": jwtOf(`[]`, c),
		"header not JSON":      jwtOf(`{`, c),
		"header with trail":    jwtOf(h+"{}", c),
	}
}

func badClaims() map[string]string {
	now := testNow.Unix()
	h, c := encode(goodHeader()), encode(goodClaims())
	return map[string]string{
		"exp missing":          clm("exp", nil),
		"exp null":             jwtOf(h, strings.Replace(c, fmt.Sprintf(`"exp":%d`, now+600), `"exp":null`, 1)),
		"exp a string":         clm("exp", fmt.Sprint(now+600)),
		"exp 0":                clm("exp", 0),
		"exp huge":             clm("exp", 1e300),
		"exp a fraction":       clm("exp", float64(now+600)+0.5),
		"exp negative":         clm("exp", -1),
		"exp past int64":       jwtOf(h, strings.Replace(c, fmt.Sprint(now+600), "9223372036854775808", 1)),
		"exp after year 9999":  clm("exp", 253402300800),
		"exp long ago":         clm("exp", now-600),
		"exp at the leeway":    clm("exp", now-30),
		"exp twice":            jwtOf(h, dup(encode(goodClaims(), "exp", now-600), fmt.Sprintf(`"exp":%d`, now+600))),
		"exp in other case":    jwtOf(h, strings.Replace(c, `"exp"`, `"EXP"`, 1)),
		"nbf missing":          clm("nbf", nil),
		"nbf ahead":            clm("nbf", now+31),
		"nbf a string":         clm("nbf", "0"),
		"iat missing":          clm("iat", nil),
		"iat ahead":            clm("iat", now+31),
		"iat a list":           clm("iat", []int64{now}),
		"iss missing":          clm("iss", nil),
		"iss other":            clm("iss", "https://evil.example"),
		"iss with a slash":     clm("iss", testIssuer+"/"),
		"iss a list":           clm("iss", []string{testIssuer}),
		"iss twice":            jwtOf(h, dup(c, `"iss":"`+testIssuer+`"`)),
		"aud missing":          clm("aud", nil),
		"aud other":            clm("aud", "other.example/ledger"),
		"aud empty":            clm("aud", ""),
		"aud none":             clm("aud", []string{}),
		"aud two":              clm("aud", []string{testOrigin, "other.example"}),
		"aud the same twice":   clm("aud", []string{testOrigin, testOrigin}),
		"aud a number":         clm("aud", 7),
		"aud list of numbers":  clm("aud", []int{7}),
		"sub missing":          clm("sub", nil),
		"sub empty":            clm("sub", ""),
		"sub not a URI":        clm("sub", "alice"),
		"sub with a space":     clm("sub", "https://id.gs1.org/417/952 "),
		"sub with a line end":  clm("sub", partyA+"\n"),
		"sub not ASCII":        clm("sub", "https://id.gs1.org/417/\u0410"),
		"sub long":             clm("sub", "https://"+strings.Repeat("a", maxParty)),
		"sub twice":            jwtOf(h, dup(c, `"sub":"`+partyB+`"`)),
		"scope missing":        clm("scope", nil),
		"scope a list":         clm("scope", []string{"custody:write"}),
		"claims not an object": jwtOf(h, `"x"`),
		"claims null":          jwtOf(h, `null`),
		"claims bad UTF-8":     jwtOf(h, strings.Replace(c, partyA, "https://\xff", 1)),
		"claims surrogate":     jwtOf(h, strings.Replace(c, partyA, `https://\ud800`, 1)),
		"claims with trail":    jwtOf(h, c+" 1"),
		"nested duplicate":     jwtOf(h, dup(c, `"x":{"a":1,"a":2}`)),
	}
}

func badForms() map[string]string {
	good := hdr()
	parts := strings.Split(good, ".")
	enc := base64.RawURLEncoding.EncodeToString
	return map[string]string{
		"other claims signed":    parts[0] + "." + enc([]byte(encode(goodClaims(), "sub", partyB))) + "." + parts[2],
		"signature cut":          good[:len(good)-4],
		"signature missing":      parts[0] + "." + parts[1] + ".",
		"signature of another":   parts[0] + "." + parts[1] + "." + enc(make([]byte, 64)),
		"two parts":              parts[0] + "." + parts[1],
		"four parts":             good + ".AAAA",
		"five parts (encrypted)": strings.Repeat("AAAA.", 4) + "AAAA",
		"no parts":               "AAAA",
		"only dots":              strings.Repeat(".", 3000),
		"padded":                 good + "==",
		"padded header":          parts[0] + "=." + parts[1] + "." + parts[2],
		"standard alphabet":      "+/+/." + parts[1] + "." + parts[2],
		"loose last bits":        loose(good),
		"too long":               good + strings.Repeat("A", MaxToken),
	}
}

// loose returns the token with its last character changed in bits that decoding
// throws away: 64 bytes leave 4 such bits.
func loose(token string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, token[len(token)-1])
	return token[:len(token)-1] + string(alphabet[last|1])
}

func (s *server) negativeTokens() []negative {
	var rows []negative
	for name, token := range badTokens() {
		rows = append(rows, negative{"token: " + name, "POST", "/v1/statements", `{"name":"a"}`, []string{typeJSON, bearerHeader(token)}, 401, "token_invalid"})
	}
	good := s.token(partyA, ScopeWrite)
	for name, headers := range map[string][]string{
		"basic":                {"Authorization: Basic dXNlcjpwYXNz"},
		"no scheme":            {"Authorization: " + good},
		"scheme only":          {"Authorization: Bearer"},
		"empty":                {"Authorization: "},
		"two tokens":           {"Authorization: Bearer " + good + " " + good},
		"two by comma":         {"Authorization: Bearer " + good + "," + good},
		"two headers":          {bearerHeader(good), bearerHeader(good)},
		"on an optional route": {"Authorization: Bearer x.y.z"},
	} {
		method, target := "POST", "/v1/statements"
		if name == "on an optional route" {
			method, target = "GET", "/v1/units?uri=https%3A%2F%2Fx"
		}
		rows = append(rows, negative{"authorization: " + name, method, target, "", append(headers, typeJSON), 401, "token_invalid"})
	}
	return rows
}

func negativeUnits() []negative {
	var rows []negative
	many := strings.Repeat(`{"uri":"https://x"},`, MaxUnits) + `{"uri":"https://x"}`
	for name, row := range map[string]struct {
		body, problem string
		status        int
	}{
		"empty body":     {"", "malformed_request", 400},
		"no object":      {`[]`, "malformed_json", 400},
		"trailing data":  {`{"units":[{"uri":"https://x"}]} x`, "malformed_json", 400},
		"units twice":    {`{"units":[],"units":[{"uri":"https://x"}]}`, "malformed_json", 400},
		"unknown member": {`{"units":[{"uri":"https://x","k":"y"}]}`, "malformed_json", 400},
		"none":           {`{"units":[]}`, "invalid_parameter", 400},
		"too many":       {`{"units":[` + many + `]}`, "invalid_parameter", 400},
		"no uri":         {`{"units":[{"key":"y"}]}`, "invalid_parameter", 400},
		"uri too long":   {`{"units":[{"uri":"https://` + strings.Repeat("a", maxURI) + `"}]}`, "invalid_parameter", 400},
		"key too long":   {`{"units":[{"uri":"https://x","key":"` + strings.Repeat("a", maxPedigree+1) + `"}]}`, "invalid_parameter", 400},
		"key with space": {`{"units":[{"uri":"https://x","key":"a b"}]}`, "invalid_parameter", 400},
		"not a link":     {`{"units":[{"uri":"https://x"},{"uri":"abc"}]}`, "invalid_identifier", 422},
		"too large":      {strings.Repeat(" ", MaxUnitsBody+1), "too_large", 413},
	} {
		rows = append(rows, negative{"units: " + name, "POST", "/v1/units:check", row.body, []string{typeJSON}, row.status, row.problem})
	}
	return append(rows,
		negative{"units: wrong media type", "POST", "/v1/units:check", `{"units":[]}`, []string{typeLines}, 415, "unsupported_media_type"},
		negative{"units: a parameter", "POST", "/v1/units:check?uri=x", `{"units":[{"uri":"https://x"}]}`, []string{typeJSON}, 400, "invalid_parameter"},
		negative{"units: GET", "GET", "/v1/units:check", "", nil, 405, "method_not_allowed"},
	)
}

func negativePaths() []negative {
	var rows []negative
	for _, p := range []string{
		"/", "//", "/v1", "/v1/", "/v2/statements", "/v1/statements/", "/V1/statements", "/.well-known/x",
		"/tile", "/tile/", "/tile/0", "/tile/0/", "/tile/0/0", "/tile/0/00", "/tile/0/0000", "/tile/00/000.p/3", "/tile/+0/000.p/3", "/tile/-1/000.p/3",
		"/tile/64/000", "/tile/256/000", "/tile/0/000.p/0", "/tile/0/000.p/256", "/tile/0/000.p/03", "/tile/0/000.p/", "/tile/0/000.p", "/tile/0/000.p/3/",
		"/tile/0/x000/000", "/tile/0/x001", "/tile/0/001/000", "/tile/0/x001/000", "/tile/0/000", "/tile/0/000.p/4", "/tile/1/000.p/1",
		"/tile/0/..%2f000.p/3", "/tile/0/%2e%2e/000.p/3", "/tile/0/../0/000.p/3", "/tile/0//000.p/3", "//tile/0/000.p/3", "/tile/0/000.p%2f3", "/tile/0/%30%30%30.p/3",
		"/tile/0/000%00.p/3", "/tile/0\\000.p/3", "/tile/0/000.P/3", "/tile/0/000.p/3%20", "/tile/entries", "/tile/entries/", "/tile/entries/000", "/tile/entries/000.p/2",
		"/tile/Entries/000.p/3", "/tile/entries/0", "/tile/data/000", "/tile/0/18446744073709551616", "/tile/0/x018/x446/x744/x073/x709/x551/616",
		"/trust", "/trust/", "/trust/log.key", "/trust/..%2flog.key", "/trust/log.vkey%00", "/trust/LOG.VKEY", "/trust/log.vkey/x", "/trust/%6cog.vkey", "/trust/index.txt",
		"/checkpoint/", "/checkpoint%00", "/healthz/x", "/metrics/x", "/openapi.json", "/debug/pprof/", "/v1/units/", "/v1/statements/" + zeroID,
	} {
		rows = append(rows, negative{"path " + p, "GET", p, "", nil, 404, "not_found"})
	}
	for _, id := range []string{"x", zeroID[:63], zeroID + "0", strings.Repeat("A", 64), "..%2f..%2fetc", zeroID[:62] + "%30%30", "%00"} {
		rows = append(rows, negative{"statement ID " + id, "GET", "/v1/statements/" + id, "", nil, 400, "invalid_parameter"})
	}
	rows = append(rows,
		negative{"statement ID of two elements", "GET", "/v1/statements/batch/x", "", nil, 400, "invalid_parameter"},
		negative{"unit not encoded", "GET", "/v1/units/" + unitURI, "", nil, 400, "invalid_parameter"},
		negative{"unit not a link", "GET", "/v1/units/abc", "", nil, 422, "invalid_identifier"},
		negative{"unit too long", "GET", "/v1/units/" + strings.Repeat("a", maxURI+1), "", nil, 400, "invalid_parameter"},
	)
	return rows
}

func negativeMethods() []negative {
	var rows []negative
	for _, r := range []struct {
		method string
		paths  []string
	}{
		{"GET", []string{"/v1/statements", "/v1/manifests/" + zeroID}},
		{"PUT", []string{"/v1/statements", "/v1/statements/" + zeroID, "/checkpoint"}},
		{"DELETE", []string{"/v1/statements/" + zeroID, "/v1/entries", "/v1/manifests/" + zeroID, "/tile/0/000.p/3"}},
		{"POST", []string{"/checkpoint", "/tile/0/000.p/3", "/trust/log.vkey", "/v1/units", "/v1/units/x", "/v1/findings", "/v1/entries", "/healthz", "/metrics", "/openapi.yaml", "/v1/proofs/inclusion", "/v1/statements/" + zeroID}},
		{"PATCH", []string{"/v1/statements"}},
		{"TRACE", []string{"/checkpoint"}},
		{"PROPFIND", []string{"/v1/entries"}},
		{"BREW", []string{"/healthz"}},
	} {
		for _, p := range r.paths {
			rows = append(rows, negative{r.method + " " + p, r.method, p, "", nil, 405, "method_not_allowed"})
		}
	}
	return rows
}

func (s *server) negativeQueries() []negative {
	var rows []negative
	for _, q := range []string{
		"/v1/entries?from=-1", "/v1/entries?from=+1", "/v1/entries?from=01", "/v1/entries?from=", "/v1/entries?from=0x1", "/v1/entries?from=1e3", "/v1/entries?from=1.0",
		"/v1/entries?from=9223372036854775808", "/v1/entries?from=99999999999999999999999", "/v1/entries?from=1&from=2", "/v1/entries?form=1", "/v1/entries?From=1",
		"/v1/entries?limit=0", "/v1/entries?limit=10001", "/v1/entries?limit=%20", "/v1/entries?signed=1", "/v1/entries?signed=TRUE", "/v1/entries?signed=true&signed=true",
		"/v1/proofs/inclusion", "/v1/proofs/inclusion?index=1", "/v1/proofs/inclusion?size=1", "/v1/proofs/inclusion?index=1&size=1", "/v1/proofs/inclusion?index=2&size=1",
		"/v1/proofs/inclusion?index=0&size=4", "/v1/proofs/inclusion?index=a&size=2", "/v1/proofs/inclusion?index=0&size=2&x=1",
		"/v1/proofs/consistency", "/v1/proofs/consistency?from=1", "/v1/proofs/consistency?from=2&to=1", "/v1/proofs/consistency?from=0&to=4", "/v1/proofs/consistency?from=0&to=0x2",
		"/v1/units", "/v1/units?uri=", "/v1/units?uri=a&uri=b", "/v1/units?url=https%3A%2F%2Fx", "/v1/units/https%3A%2F%2Fx?uri=y", "/v1/units/https%3A%2F%2Fx?k=a&k=b",
		"/v1/units/https%3A%2F%2Fx?k=" + strings.Repeat("a", maxPedigree+1), "/v1/units/https%3A%2F%2Fx?k=a%20b", "/v1/units/https%3A%2F%2Fx?k=%00",
		"/v1/units?uri=" + strings.Repeat("a", maxURI+1), "/v1/statements/" + zeroID + "?x=1",
	} {
		rows = append(rows, negative{"query " + printable(q) + fmt.Sprint(len(q)), "GET", q, "", nil, 400, "invalid_parameter"})
	}
	audit := bearerHeader(s.token(partyA, ScopeAudit))
	for _, q := range []string{"since=-1", "since=x", "limit=0", "limit=10001", "until=1"} {
		rows = append(rows, negative{"findings " + q, "GET", "/v1/findings?" + q, "", []string{audit}, 400, "invalid_parameter"})
	}
	for _, q := range []string{"/v1/entries?from=%zz", "/v1/entries?from=1;limit=2", "/v1/units?uri=%", "/v1/units?%"} {
		rows = append(rows, negative{"query " + q, "GET", q, "", nil, 400, "malformed_request"})
	}
	rows = append(rows,
		negative{"pedigree header twice", "GET", "/v1/units?uri=https%3A%2F%2Fx", "", []string{headerPedigree + ": a", headerPedigree + ": b"}, 400, "invalid_parameter"},
		negative{"pedigree header and parameter", "GET", "/v1/units?uri=https%3A%2F%2Fx&k=a", "", []string{headerPedigree + ": b"}, 400, "invalid_parameter"},
		negative{"statement with a query", "POST", "/v1/statements?x=1", `{"name":"a"}`, []string{typeJSON, bearerHeader(s.token(partyA, ScopeWrite))}, 400, "invalid_parameter"},
	)
	return rows
}

// TestMethodNotAllowed says which are.
func TestMethodNotAllowed(t *testing.T) {
	s := newServer(t, generous)
	r := s.do("DELETE", "/v1/entries", "")
	if got := r.header.Get("Allow"); !strings.Contains(got, "GET") || !strings.Contains(got, "HEAD") || strings.Contains(got, "POST") {
		t.Errorf("Allow: %q", got)
	}
}

// TestNotFoundIsOne compares all answers for tiles that cannot be had: none tells
// more than another.
func TestNotFoundIsOne(t *testing.T) {
	s := newServer(t, generous)
	want := s.do("GET", "/nothing", "")
	for _, p := range []string{"/tile/0/000", "/tile/0/x", "/tile/entries/000.p/9", "/tile/0/..%2fx", "/trust/none"} {
		if got := s.do("GET", p, ""); got.status != 404 || string(got.body) != string(want.body) {
			t.Errorf("%s: %d %s", p, got.status, got.body)
		}
	}
}

// TestBeyondHTTP sends what net/http refuses by itself: nothing reaches a route.
func TestBeyondHTTP(t *testing.T) {
	s := newServer(t, generous)
	for _, tc := range []struct {
		name, request string
		status        int
	}{
		{"headers too large", "GET /checkpoint HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 64<<10) + "\r\n\r\n", http.StatusRequestHeaderFieldsTooLarge},
		{"many headers", "GET /checkpoint HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: a\r\n", 10000) + "\r\n", http.StatusRequestHeaderFieldsTooLarge},
		{"no host", "GET /checkpoint HTTP/1.1\r\n\r\n", http.StatusBadRequest},
		{"two lengths", "POST /v1/statements HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", http.StatusBadRequest},
		{"length not a number", "POST /v1/statements HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na", http.StatusBadRequest},
		{"bad escape", "GET /v1/units/%zz HTTP/1.1\r\nHost: x\r\n\r\n", http.StatusBadRequest},
		{"NUL in the path", "GET /check\x00point HTTP/1.1\r\nHost: x\r\n\r\n", http.StatusBadRequest},
		{"header with a space", "GET /checkpoint HTTP/1.1\r\nHost: x\r\nX : a\r\n\r\n", http.StatusBadRequest},
		{"not HTTP", "HELLO\r\n\r\n", http.StatusBadRequest},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.t = t
			if r := s.raw(tc.request); r.status != tc.status {
				t.Errorf("status %d, want %d", r.status, tc.status)
			}
		})
	}
	s.t = t
}
