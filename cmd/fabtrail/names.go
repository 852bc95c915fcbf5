package main

import (
	"strings"
	"unicode"

	"fabtrail.dev/fabtrail/client"
)

// names are the legal names of parties, by URI, fit to be printed.
type names map[string]string

func namesOf(r *client.Report) names {
	n := names{}
	for uri, name := range r.Parties {
		n[uri] = strings.Map(func(r rune) rune {
			if unicode.IsPrint(r) {
				return r
			}
			return -1
		}, name)
	}
	return n
}

// of is a party by its name, where that is known, and its URI.
func (n names) of(uri string) string {
	if name := n[uri]; name != "" {
		return name + " (" + uri + ")"
	}
	return uri
}

// in puts names into a text: before the first mention of each URI, and in place of
// the others.
func (n names) in(text string) string {
	for uri, name := range n {
		if name == "" {
			continue
		}
		if i := strings.Index(text, uri); i >= 0 {
			end := i + len(uri)
			text = text[:i] + n.of(uri) + strings.ReplaceAll(text[end:], uri, name)
		}
	}
	return text
}
