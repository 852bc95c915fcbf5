package problem

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
)

// reserved are the members that an extension cannot replace, not even for a
// reader that ignores case.
var reserved = []string{"type", "title", "status", "detail", "field", "hint", "instance"}

// MarshalJSON returns the problem details (RFC 9457): type, title, status,
// detail, field and hint where set, then the extensions in order of their names.
// An extension that has a reserved name or cannot be encoded is left out.
func (p *Problem) MarshalJSON() ([]byte, error) {
	head := struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail,omitzero"`
		Field  string `json:"field,omitzero"`
		Hint   string `json:"hint,omitzero"`
	}{BaseURI + p.Type, p.Title(), p.Status(), clean(p.Detail), clean(p.Field), clean(p.Hint)}
	b, err := json.Marshal(head)
	if err != nil {
		return nil, err
	}
	b = b[:len(b)-1]
	for _, name := range slices.Sorted(maps.Keys(p.Extra)) {
		if slices.ContainsFunc(reserved, func(r string) bool { return strings.EqualFold(r, name) }) {
			continue
		}
		k, kerr := json.Marshal(name)
		v, verr := json.Marshal(p.Extra[name])
		if kerr != nil || verr != nil {
			continue
		}
		b = append(b, ',')
		b = append(b, k...)
		b = append(b, ':')
		b = append(b, v...)
	}
	return append(b, '}'), nil
}

// clean makes s valid UTF-8: details may quote what a stranger sent.
func clean(s string) string { return string(bytes.ToValidUTF8([]byte(s), []byte("\uFFFD"))) }
