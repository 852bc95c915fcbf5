package node

import (
	"net/http"
	"net/netip"
	"testing"

	"fabtrail.dev/fabtrail/api"
)

// TestTrustedProxy: behind a proxy that is known, each caller has limits of its own; a
// caller without one gains nothing by the header.
func TestTrustedProxy(t *testing.T) {
	for _, behind := range []bool{true, false} {
		cfg := Config{Folder: prepareFolder(t), Limits: api.Limits{TokenFailureRate: api.Rate{PerSecond: 1e-9, Burst: 1}}}
		if behind {
			cfg.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		}
		w := newWorldWith(t, cfg)
		second := 429
		if behind {
			second = 401
		}
		for i, want := range []int{401, second, 429} {
			from := []string{"198.51.100.1", "198.51.100.2", "198.51.100.2"}[i]
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.server.URL+"/v1/findings", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer a.b.c")
			req.Header.Set("X-Forwarded-For", from)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("behind a proxy %t, request %d: %d, want %d", behind, i, resp.StatusCode, want)
			}
		}
	}
}
