package api

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"
)

// BehindProxies finds the address of a caller who comes through reverse proxies: the
// last one in X-Forwarded-For that is not a proxy's own. What stands before it the caller
// may have written. Without proxies, and for whoever does not come through one, it is that
// of the connection.
func BehindProxies(proxies []netip.Prefix) echo.IPExtractor {
	trusted := func(a netip.Addr) bool {
		return slices.ContainsFunc(proxies, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	return func(req *http.Request) string {
		host, _, err := net.SplitHostPort(req.RemoteAddr)
		if err != nil {
			return req.RemoteAddr
		}
		at, err := netip.ParseAddr(host)
		if err != nil {
			return host
		}
		at = at.Unmap()
		chain := strings.Split(strings.Join(req.Header.Values("X-Forwarded-For"), ","), ",")
		for len(chain) > 0 && trusted(at) {
			next, err := netip.ParseAddr(strings.TrimSpace(chain[len(chain)-1]))
			if err != nil {
				break // not what a proxy writes
			}
			at, chain = next.Unmap().WithZone(""), chain[:len(chain)-1]
		}
		return at.String()
	}
}
