package api

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// parseQuery reads a query strictly: only the parameters named, each once.
func parseQuery(raw string, names []string) (url.Values, error) {
	q, err := url.ParseQuery(raw)
	if err != nil {
		return nil, problem.New("malformed_request", "", "the query cannot be read").WithHint("percent-encode the values of parameters")
	}
	for name, values := range q {
		if !slices.Contains(names, name) {
			p := problem.New("invalid_parameter", printable(name), "there is no such parameter here")
			if len(names) == 0 {
				return nil, p.WithHint("this takes no parameters")
			}
			return nil, p.WithHint("parameters are: %s", strings.Join(names, ", "))
		}
		if len(values) > 1 {
			return nil, problem.New("invalid_parameter", name, "the parameter is given %d times", len(values))
		}
	}
	return q, nil
}

// number reads a parameter as a number in plain decimal; without it, def.
func (c *call) number(name string, def uint64) (uint64, error) {
	if !c.query.Has(name) {
		return def, nil
	}
	return decimal(name, c.query.Get(name))
}

// needNumber reads a parameter that must be there.
func (c *call) needNumber(name string) (uint64, error) {
	if !c.query.Has(name) {
		return 0, problem.New("invalid_parameter", name, "the parameter is missing")
	}
	return decimal(name, c.query.Get(name))
}

func decimal(name, s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, problem.New("invalid_parameter", name, "not a number in plain decimal")
	}
	return n, nil
}

// hexHash reads a path element that is a SHA-256.
func hexHash(name, s string) (entry.Hash, error) {
	h, err := entry.ParseHash(s)
	if err != nil {
		return h, problem.New("invalid_parameter", name, "not a SHA-256 in 64 lower-case hex digits")
	}
	return h, nil
}

// printable shortens what a stranger sent to something that can be shown.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	if len(s) > 64 {
		s = s[:64]
	}
	return s
}

// isPrintable reports whether s is printable ASCII without spaces.
func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
