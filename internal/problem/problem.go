// Package problem is the error form of Fabtrail's interfaces: RFC 9457 problem
// details with a stable type. Every type is listed in Types with its HTTP
// status; docs/errors.md explains each, and a test compares the two.
package problem

import (
	"errors"
	"fmt"
)

// BaseURI is what a type's slug is appended to, to form the RFC 9457 "type".
const BaseURI = "https://fabtrail.dev/problems/"

// Problem is one refusal. It tells what was wrong, where (Field), and what to do
// (Hint). Nothing internal belongs in it: it is shown to strangers.
type Problem struct {
	Type   string         // slug, a key of Types
	Detail string         // what was wrong, in one sentence
	Field  string         // JSON pointer or name of the offending field; may be empty
	Hint   string         // what to do next; may be empty
	Extra  map[string]any // further members, e.g. "head" of a superseded chain
}

// New makes a problem of the given type; it panics on a type not in Types, which
// is a bug of the caller.
func New(slug, field, format string, a ...any) *Problem {
	if _, ok := Types[slug]; !ok {
		panic("problem: unknown type " + slug)
	}
	return &Problem{Type: slug, Field: field, Detail: fmt.Sprintf(format, a...)}
}

// WithHint returns p with the hint set.
func (p *Problem) WithHint(format string, a ...any) *Problem {
	p.Hint = fmt.Sprintf(format, a...)
	return p
}

// With returns p with an extension member set.
func (p *Problem) With(name string, value any) *Problem {
	if p.Extra == nil {
		p.Extra = map[string]any{}
	}
	p.Extra[name] = value
	return p
}

// Status is the HTTP status of the problem's type.
func (p *Problem) Status() int { return Types[p.Type].Status }

// Title is the short text of the problem's type.
func (p *Problem) Title() string { return Types[p.Type].Title }

// Error returns type, field, detail and hint in one line.
func (p *Problem) Error() string {
	s := p.Type
	if p.Field != "" {
		s += " at " + p.Field
	}
	s += ": " + p.Detail
	if p.Hint != "" {
		s += " (" + p.Hint + ")"
	}
	return s
}

// As returns the problem in err's chain, or nil.
func As(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	return nil
}
