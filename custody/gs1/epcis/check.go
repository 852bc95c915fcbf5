package epcis

import (
	"fmt"
	"regexp"
	"sort"
	"strings"
	"time"

	"fabtrail.dev/fabtrail/internal/problem"
)

// maxProblems bounds the defects that are reported of one document.
const maxProblems = 100

// checker walks a tree and collects what is wrong with it.
type checker struct {
	src      *source
	problems []*problem.Problem
	dropped  int
}

// defect is a problem that is noted already and may be given a hint.
type defect struct{ problem *problem.Problem }

func (d defect) hint(format string, a ...any) { _ = d.problem.WithHint(format, a...) }

// fail notes what is wrong at a place of the document.
func (c *checker) fail(n *node, p path, format string, a ...any) defect {
	line := 1
	if n != nil {
		line = c.src.line(n.off)
	}
	e := problem.New("invalid_epcis", string(p), "line %d: %s", line, fmt.Sprintf(format, a...)).With("line", line)
	if len(c.problems) < maxProblems {
		c.problems = append(c.problems, e)
	} else {
		c.dropped++
	}
	return defect{e}
}

// rule checks one value.
type rule func(c *checker, n *node, p path)

// shape is what an object may hold.
type shape struct {
	what     string
	fields   map[string]rule
	required []string
	// extensible says that names with a prefix are allowed beside the fields.
	extensible bool
	// open says that any other name is allowed.
	open bool
}

func (s *shape) check(c *checker, n *node, p path) {
	if n.kind != '{' {
		c.fail(n, p, "%s must be an object; this is %s", s.what, n.kindName())
		return
	}
	for _, m := range n.obj {
		if r, ok := s.fields[m.name]; ok {
			r(c, m.val, p.at(m.name))
			continue
		}
		if s.open || s.extensible && isExtension(m.name) {
			continue
		}
		e := c.fail(&node{off: m.off}, p.at(m.name), "%q is not a field of %s", m.name, s.what)
		if near := nearest(m.name, s.fields); near != "" {
			e.hint("did you mean %s?", near)
		} else if s.extensible {
			e.hint("a field of your own needs a namespace prefix, such as example:%s", m.name)
		}
	}
	for _, name := range s.required {
		if n.get(name) == nil {
			c.fail(n, p.at(name), "%s lacks %s", s.what, name)
		}
	}
}

func nearest(name string, fields map[string]rule) string {
	names := make([]string, 0, len(fields))
	for f := range fields {
		names = append(names, f)
	}
	sort.Strings(names)
	for _, f := range names {
		if strings.EqualFold(f, name) || within(f, name, 2) {
			return f
		}
	}
	return ""
}

func stringRule(c *checker, n *node, p path) {
	if n.kind != '"' {
		c.fail(n, p, "must be a string; this is %s", n.kindName())
	}
}

func numberRule(c *checker, n *node, p path) {
	if n.kind != '0' {
		c.fail(n, p, "must be a number; this is %s", n.kindName())
	}
}

func booleanRule(c *checker, n *node, p path) {
	if n.kind != 't' && n.kind != 'f' {
		c.fail(n, p, "must be true or false; this is %s", n.kindName())
	}
}

func anyRule(*checker, *node, path) {}

func uriRule(c *checker, n *node, p path) {
	if n.kind != '"' {
		c.fail(n, p, "must be a URI in a string; this is %s", n.kindName())
	} else if !isURI(n.text) {
		c.fail(n, p, "%s is not a URI", show(n.text))
	}
}

// pattern makes a rule for strings of one form.
func pattern(expr, meaning string) rule {
	re := regexp.MustCompile(expr)
	return func(c *checker, n *node, p path) {
		if n.kind != '"' {
			c.fail(n, p, "must be %s in a string; this is %s", meaning, n.kindName())
		} else if !re.MatchString(n.text) {
			c.fail(n, p, "%s is not %s", show(n.text), meaning)
		}
	}
}

var dateTime = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$`)

// parseTime reads an RFC 3339 date-time with any number of decimals.
func parseTime(s string) (time.Time, error) {
	if !dateTime.MatchString(s) {
		return time.Time{}, fmt.Errorf("%s is not a date and time with a time zone", show(s))
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s is not a date and time that exists", show(s))
	}
	return t, nil
}

func timeRule(c *checker, n *node, p path) {
	if n.kind != '"' {
		c.fail(n, p, "must be a date and time in a string; this is %s", n.kindName())
	} else if _, err := parseTime(n.text); err != nil {
		c.fail(n, p, "%s", err).hint("write it as 2026-11-21T22:00:00.000Z or with an offset such as +01:00")
	}
}

// vocab makes a rule for terms of a vocabulary.
func vocab(v *vocabulary) rule {
	return func(c *checker, n *node, p path) {
		if n.kind != '"' {
			c.fail(n, p, "must be a %s in a string; this is %s", v.name, n.kindName())
			return
		}
		if _, ok := v.read(n.text); ok {
			return
		}
		e := c.fail(n, p, "%s is not a %s of CBV 2.0", show(n.text), v.name)
		if near := v.near(n.text); near != "" {
			e.hint("did you mean %s? A term of your own is written as a URI", near)
		} else {
			e.hint("a term of your own is written as a URI, such as https://example.com/voc/%s", strings.ReplaceAll(cut(n.text), " ", "_"))
		}
	}
}

// measurement checks sensor types leniently: partners use terms that GS1's list
// lacks.
func measurement(c *checker, n *node, p path) {
	if n.kind != '"' || strings.TrimSpace(n.text) == "" || strings.ContainsAny(n.text, " \t\r\n") {
		c.fail(n, p, "must be a measurement type in a string")
	}
}

func alertRule(c *checker, n *node, p path) {
	switch {
	case n.kind != '"':
		c.fail(n, p, "must be a sensor alert in a string; this is %s", n.kindName())
	case n.text != "ALARM_CONDITION" && n.text != "ERROR_CONDITION" && !isURI(n.text):
		c.fail(n, p, "%s is not a sensor alert", show(n.text)).hint("ALARM_CONDITION, ERROR_CONDITION or a URI")
	}
}

// array makes a rule for lists.
func array(item rule, min int, unique bool) rule {
	return func(c *checker, n *node, p path) {
		if n.kind != '[' {
			c.fail(n, p, "must be a list; this is %s", n.kindName())
			return
		}
		if len(n.arr) < min {
			c.fail(n, p, "must have at least %d element", min)
		}
		seen := map[string]int{}
		for i, v := range n.arr {
			item(c, v, p.index(i))
			if !unique || v.kind != '"' {
				continue
			}
			if first, twice := seen[v.text]; twice {
				c.fail(v, p.index(i), "%s is in the list already, at %d", show(v.text), first)
			} else {
				seen[v.text] = i
			}
		}
	}
}

func object(s *shape) rule { return s.check }

func oneOf(words ...string) rule {
	return func(c *checker, n *node, p path) {
		for _, w := range words {
			if n.kind == '"' && n.text == w {
				return
			}
		}
		e := c.fail(n, p, "must be %s; this is %s", strings.Join(words, ", "), n.display())
		if n.kind == '"' {
			for _, w := range words {
				if strings.EqualFold(w, n.text) {
					e.hint("write %s", w)
				}
			}
		}
	}
}

func (n *node) display() string {
	if n.kind == '"' {
		return show(n.text)
	}
	return n.kindName()
}

func cut(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "")
	}
	return s
}

func show(s string) string {
	if len(s) > 80 {
		return fmt.Sprintf("%q...", cut(s))
	}
	return fmt.Sprintf("%q", s)
}
