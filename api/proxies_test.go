package api

import (
	"net/http"
	"net/netip"
	"testing"
)

// TestBehindProxies: a forwarding header counts only as far as proxies that are known
// have written it.
func TestBehindProxies(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::1/128")}
	for _, tc := range []struct {
		name, peer string
		forwarded  []string
		want       string
	}{
		{"nobody's proxy", "203.0.113.9:4711", []string{"198.51.100.1"}, "203.0.113.9"},
		{"through one", "10.0.0.7:4711", []string{"198.51.100.1"}, "198.51.100.1"},
		{"through two", "10.0.0.7:4711", []string{"198.51.100.1, 10.0.0.8"}, "198.51.100.1"},
		{"in two headers", "10.0.0.7:4711", []string{"198.51.100.1", "10.0.0.8"}, "198.51.100.1"},
		{"the caller lies before it", "10.0.0.7:4711", []string{"192.0.2.1, 198.51.100.1"}, "198.51.100.1"},
		{"the caller claims to be a proxy", "10.0.0.7:4711", []string{"192.0.2.1, 10.0.0.9, 198.51.100.1"}, "198.51.100.1"},
		{"no header", "10.0.0.7:4711", nil, "10.0.0.7"},
		{"no address", "10.0.0.7:4711", []string{"198.51.100.1, unknown"}, "10.0.0.7"},
		{"empty", "10.0.0.7:4711", []string{""}, "10.0.0.7"},
		{"proxies only", "10.0.0.7:4711", []string{"10.0.0.8"}, "10.0.0.8"},
		{"mapped", "[::ffff:10.0.0.7]:4711", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		{"IPv6", "[fd00::1]:4711", []string{"2001:db8::1"}, "2001:db8::1"},
		{"IPv6, not that one", "[fd00::2]:4711", []string{"2001:db8::1"}, "fd00::2"},
	} {
		req := &http.Request{RemoteAddr: tc.peer, Header: http.Header{}}
		for _, v := range tc.forwarded {
			req.Header.Add("X-Forwarded-For", v)
		}
		if got := BehindProxies(proxies)(req); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
		if got := BehindProxies(nil)(req); got == tc.want && len(tc.forwarded) > 0 && tc.want == "198.51.100.1" {
			t.Errorf("%s: believed without a proxy", tc.name)
		}
	}
}
