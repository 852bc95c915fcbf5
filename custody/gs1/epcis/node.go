package epcis

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"fabtrail.dev/fabtrail/internal/problem"
)

const (
	// MaxDocument bounds a document, in bytes.
	MaxDocument = 16 << 20
	maxDepth    = 64
	maxNodes    = 1 << 20
)

// node is one JSON value with the place where it stands.
type node struct {
	kind jsontext.Kind // n f t " 0 { [
	off  int           // byte offset of its first character
	text string        // string value, or the digits of a number as written
	obj  []member
	arr  []*node
}

type member struct {
	name string
	off  int
	val  *node
}

// get returns the member of an object, or nil.
func (n *node) get(name string) *node {
	if n == nil {
		return nil
	}
	for i := range n.obj {
		if n.obj[i].name == name {
			return n.obj[i].val
		}
	}
	return nil
}

// str returns the text of a string node, else "".
func (n *node) str() string {
	if n == nil || n.kind != '"' {
		return ""
	}
	return n.text
}

// list returns the elements of an array, nil for anything else.
func (n *node) list() []*node {
	if n == nil || n.kind != '[' {
		return nil
	}
	return n.arr
}

func (n *node) kindName() string {
	switch n.kind {
	case 'n':
		return "null"
	case 'f', 't':
		return "a boolean"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case '{':
		return "an object"
	}
	return "an array"
}

// source finds lines in a document.
type source struct{ newlines []int }

func newSource(data []byte) *source {
	s := &source{}
	for i, c := range data {
		if c == '\n' {
			s.newlines = append(s.newlines, i)
		}
	}
	return s
}

// line returns the line of a byte offset, from 1.
func (s *source) line(off int) int {
	return sort.SearchInts(s.newlines, off) + 1
}

// reader builds a tree from tokens, in which duplicate names, bad UTF-8 and
// trailing data are errors.
type reader struct {
	dec   *jsontext.Decoder
	src   *source
	data  []byte
	nodes int
}

func readTree(data []byte) (*node, *source, error) {
	if len(data) > MaxDocument {
		return nil, nil, problem.New("too_large", "", "the document has %d bytes, limit %d", len(data), MaxDocument)
	}
	switch head := bytes.TrimLeft(data, " \t\r\n"); {
	case len(head) == 0:
		return nil, nil, problem.New("malformed_json", "", "the document is empty")
	case head[0] == '<':
		return nil, nil, problem.New("invalid_epcis", "", "this is XML; EPCIS documents are read as JSON only").
			WithHint("export EPCIS 2.0 JSON; EPCIS 1.2 and 2.0 XML can be converted to it")
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf")):
		return nil, nil, problem.New("malformed_json", "", "the document begins with a byte order mark").WithHint("save it as UTF-8 without BOM")
	}
	r := &reader{dec: jsontext.NewDecoder(bytes.NewReader(data)), src: newSource(data), data: data}
	n, err := r.value(0)
	if err == nil {
		_, err = r.dec.ReadToken()
		if errors.Is(err, io.EOF) {
			return n, r.src, nil
		}
		if err == nil {
			err = errMore
		}
	}
	return nil, nil, r.malformed(err)
}

func (r *reader) malformed(err error) error {
	if p := problem.As(err); p != nil {
		return p
	}
	off, field := int(r.dec.InputOffset()), string(r.dec.StackPointer())
	var se *jsontext.SyntacticError
	if errors.As(err, &se) {
		off, field = int(se.ByteOffset), string(se.JSONPointer)
		err = se.Err
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	detail := "the JSON is not valid"
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		detail = "the document ends too early"
	case errors.Is(err, errMore):
		detail = "there is more after the document's end"
	case errors.Is(err, jsontext.ErrDuplicateName):
		detail = "a name stands twice in one object"
	case off < len(r.data):
		if c, size := utf8.DecodeRune(r.data[off:]); c == utf8.RuneError && size < 2 {
			detail = "bytes that are not UTF-8"
		} else {
			detail = fmt.Sprintf("the character %q does not belong here", c)
		}
	}
	line := r.src.line(off)
	return problem.New("malformed_json", field, "line %d: %s", line, detail).With("line", line)
}

var errMore = errors.New("more follows")

func (r *reader) value(depth int) (*node, error) {
	if depth > maxDepth {
		return nil, problem.New("malformed_json", string(r.dec.StackPointer()), "the JSON is nested deeper than %d", maxDepth)
	}
	if r.nodes++; r.nodes > maxNodes {
		return nil, problem.New("too_large", "", "the document has more than %d values", maxNodes)
	}
	tok, err := r.dec.ReadToken()
	if err != nil {
		return nil, err
	}
	n := &node{kind: tok.Kind()}
	switch n.kind {
	case '"':
		n.text = tok.String()
	case '0':
		n.text = tok.String()
	case '{', '[':
		n.off = int(r.dec.InputOffset()) - 1
		return n, r.children(n, depth)
	}
	n.off = r.start(n)
	return n, nil
}

// start finds where the scalar that was just read begins. A string may hold
// escapes, so its length is not that of its value: it is looked for backwards
// from its closing quote.
func (r *reader) start(n *node) int {
	end := int(r.dec.InputOffset())
	if n.kind != '"' {
		return end - 1
	}
	for i := end - 2; i >= 0; i-- {
		if r.data[i] != '"' {
			continue
		}
		slashes := 0
		for j := i - 1; j >= 0 && r.data[j] == '\\'; j-- {
			slashes++
		}
		if slashes%2 == 0 {
			return i
		}
	}
	return end - 1
}

func (r *reader) children(n *node, depth int) error {
	for {
		if k := r.dec.PeekKind(); k == '}' || k == ']' {
			_, err := r.dec.ReadToken()
			return err
		}
		if n.kind == '[' {
			v, err := r.value(depth + 1)
			if err != nil {
				return err
			}
			n.arr = append(n.arr, v)
			continue
		}
		name, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		v, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		n.obj = append(n.obj, member{name: name.text, off: name.off, val: v})
	}
}

// path is a JSON pointer (RFC 6901) under construction.
type path string

func (p path) at(name string) path {
	return p + "/" + path(strings.NewReplacer("~", "~0", "/", "~1").Replace(name))
}

func (p path) index(i int) path { return p + "/" + path(strconv.Itoa(i)) }
