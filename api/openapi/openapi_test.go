package openapi

import (
	"net/http"
	"os"
	"strings"
	"testing"
)

func document(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile("../openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParse(t *testing.T) {
	d, err := Parse(document(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range d.Operations() {
		for _, member := range []string{"operationId", "summary"} {
			if op.Text(member) == "" {
				t.Errorf("%s %s has no %s", op.Method, op.Path, member)
			}
		}
	}
}

// TestParseRefuses plants one mistake at a time in the real description.
func TestParseRefuses(t *testing.T) {
	for _, tc := range []struct{ name, old, new string }{
		{"version", "openapi: 3.1.0", "openapi: 3.0.3"},
		{"ref that leads nowhere", "'202': {$ref: '#/components/responses/Pending'}", "'202': {$ref: '#/components/responses/Later'}"},
		{"schema ref that leads nowhere", "'#/components/schemas/Manifest'", "'#/components/schemas/Nothing'"},
		{"schema keyword of a wrong type", "minItems: 1", "minItems: one"},
		{"example against its schema", "example: {ready: true}", "example: {ready: false}"},
		{"named example against its schema", "effect: applied", "effect: 7"},
		{"not YAML", "openapi:", "openapi: ["},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := string(document(t))
			if !strings.Contains(s, tc.old) {
				t.Fatalf("%q is not in the description", tc.old)
			}
			if _, err := Parse([]byte(strings.ReplaceAll(s, tc.old, tc.new))); err == nil {
				t.Error("the mistake was not found")
			}
		})
	}
}

func TestCheck(t *testing.T) {
	d, err := Parse(document(t))
	if err != nil {
		t.Fatal(err)
	}
	const hex = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	type h = map[string]string
	for _, tc := range []struct {
		name, method, path string
		status             int
		header             h
		body               string
		ok                 bool
	}{
		{"good", "GET", "/healthz", 200, h{"Content-Type": "application/json"}, `{"status":"ok"}`, true},
		{"unknown path", "GET", "/health", 200, h{"Content-Type": "application/json"}, `{"status":"ok"}`, false},
		{"unknown method", "POST", "/healthz", 200, h{"Content-Type": "application/json"}, `{"status":"ok"}`, false},
		{"unknown status", "GET", "/healthz", 204, h{"Content-Type": "application/json"}, `{"status":"ok"}`, false},
		{"unknown media type", "GET", "/healthz", 200, h{"Content-Type": "text/html"}, `{"status":"ok"}`, false},
		{"no media type", "GET", "/healthz", 200, h{}, `{"status":"ok"}`, false},
		{"body against the schema", "GET", "/healthz", 200, h{"Content-Type": "application/json"}, `{"status":"fine"}`, false},
		{"body not JSON", "GET", "/healthz", 200, h{"Content-Type": "application/json"}, `ok`, false},
		{"header missing", "GET", "/healthz", 503, h{"Content-Type": "application/problem+json"}, `{"type":"https://fabtrail.dev/problems/overloaded","title":"t","status":503,"detail":"d"}`, false},
		{"header there", "GET", "/healthz", 503, h{"Content-Type": "application/problem+json", "Retry-After": "1"}, `{"type":"https://fabtrail.dev/problems/overloaded","title":"t","status":503,"detail":"d"}`, true},
		{"header against the schema", "GET", "/healthz", 503, h{"Content-Type": "application/problem+json", "Retry-After": "0"}, `{"type":"https://fabtrail.dev/problems/overloaded","title":"t","status":503,"detail":"d"}`, false},
		{"lines", "GET", "/v1/entries", 200, h{"Content-Type": "application/x-ndjson"}, "{\"index\":1,\"cargo\":\"AQ==\"}\n{\"index\":2,\"withheld\":true}\n", true},
		{"no lines", "GET", "/v1/entries", 200, h{"Content-Type": "application/x-ndjson"}, "", true},
		{"a line against the schema", "GET", "/v1/entries", 200, h{"Content-Type": "application/x-ndjson"}, "{\"index\":1}\n", false},
		{"a line that does not end", "GET", "/v1/entries", 200, h{"Content-Type": "application/x-ndjson"}, "{\"index\":1,\"cargo\":\"AQ==\"}", false},
		{"text", "GET", "/checkpoint", 200, h{"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-cache"}, "o\n1\nx\n\n\u2014 o x\n", true},
		{"text against the schema", "GET", "/checkpoint", 200, h{"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-cache"}, "o\n", false},
		{"octets", "GET", "/tile/{path}", 200, h{"Content-Type": "application/octet-stream", "Cache-Control": "public, max-age=31536000, immutable"}, "\x00", true},
		{"pending", "POST", "/v1/statements", 202, h{"Content-Type": "application/json", "Location": "/v1/statements/" + hex, "Retry-After": "1"},
			`{"id":"` + hex + `","index":1,"pending":true,"poll":"/v1/statements/` + hex + `"}`, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			header := http.Header{}
			for k, v := range tc.header {
				header.Set(k, v)
			}
			err := d.Check(tc.method, tc.path, tc.status, header, []byte(tc.body))
			if (err == nil) != tc.ok {
				t.Errorf("Check: %v, want accepted %v", err, tc.ok)
			}
		})
	}
}
