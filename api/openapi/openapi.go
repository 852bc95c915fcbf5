// Package openapi reads an OpenAPI 3.1 description and checks real HTTP answers
// against it: status, media type, headers and body (JSON Schema 2020-12). Tests
// of whoever serves the interface use it.
//
// It understands what Fabtrail's description uses: $ref within the document,
// responses, headers, content with schema and example, and for NDJSON the
// extension x-line-schema, which each line must fulfil.
package openapi

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"
)

// methods of a path item that are operations.
var methods = []string{"get", "put", "post", "delete", "options", "head", "patch", "trace"}

const documentURL = "https://fabtrail.dev/openapi.json"

// Operation is one operation of the description.
type Operation struct {
	Method string // upper case
	Path   string // template
	node   map[string]any
}

// Document is a description that was read and whose schemas all compile.
type Document struct {
	root     map[string]any
	compiler *jsonschema.Compiler
	schemas  map[string]*jsonschema.Schema // by JSON pointer
}

// Parse reads a description in YAML. It is an error when a schema is not valid
// JSON Schema 2020-12, when a $ref leads nowhere, or when an example does not
// fulfil its schema.
func Parse(b []byte) (*Document, error) {
	var y any
	if err := yaml.Unmarshal(b, &y); err != nil {
		return nil, err
	}
	root, ok := plain(y).(map[string]any)
	if !ok || root["openapi"] != "3.1.0" {
		return nil, errors.New("not an OpenAPI 3.1.0 description")
	}
	d := &Document{root: root, compiler: jsonschema.NewCompiler(), schemas: map[string]*jsonschema.Schema{}}
	d.compiler.DefaultDraft(jsonschema.Draft2020)
	d.compiler.AssertFormat()
	if err := d.compiler.AddResource(documentURL, root); err != nil {
		return nil, err
	}
	return d, d.walk("", root)
}

// plain turns what YAML yields into what JSON would.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			v[k] = plain(e)
		}
	case []any:
		for i, e := range v {
			v[i] = plain(e)
		}
	case int:
		return float64(v)
	case int64:
		return float64(v)
	case uint64:
		return float64(v)
	}
	return v
}

// escape makes a name an element of a JSON pointer.
func escape(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}

// walk compiles every schema, resolves every $ref and checks every example.
func (d *Document) walk(at string, v any) error {
	switch v := v.(type) {
	case []any:
		for i, e := range v {
			if err := d.walk(at+"/"+strconv.Itoa(i), e); err != nil {
				return err
			}
		}
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok {
			if _, err := d.resolve(ref); err != nil {
				return fmt.Errorf("%s: %w", at, err)
			}
		}
		for k, e := range v {
			sub := at + "/" + escape(k)
			if k == "schema" || k == "x-line-schema" || at == "/components/schemas" {
				if _, err := d.schema(sub); err != nil {
					return err
				}
				continue // what is inside is the compiler's
			}
			if err := d.walk(sub, e); err != nil {
				return err
			}
		}
		return d.checkExamples(at, v)
	}
	return nil
}

func (d *Document) checkExamples(at string, v map[string]any) error {
	if v["schema"] == nil {
		return nil
	}
	s, err := d.schema(at + "/schema")
	if err != nil {
		return err
	}
	if ex, ok := v["example"]; ok {
		if err := s.Validate(ex); err != nil {
			return fmt.Errorf("%s: example: %w", at, err)
		}
	}
	named, _ := v["examples"].(map[string]any)
	for name, ex := range named {
		n, err := d.follow(ex)
		if err != nil {
			return err
		}
		if err := s.Validate(n["value"]); err != nil {
			return fmt.Errorf("%s: example %s: %w", at, name, err)
		}
	}
	return nil
}

func (d *Document) schema(pointer string) (*jsonschema.Schema, error) {
	if s, ok := d.schemas[pointer]; ok {
		return s, nil
	}
	s, err := d.compiler.Compile(documentURL + "#" + fragment(pointer))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", pointer, err)
	}
	d.schemas[pointer] = s
	return s, nil
}

// fragment percent-encodes what a JSON pointer may hold and a fragment may not.
func fragment(pointer string) string {
	return strings.NewReplacer("%", "%25", "{", "%7B", "}", "%7D", " ", "%20", ";", "%3B").Replace(pointer)
}

// resolve returns the object that a reference within the document names.
func (d *Document) resolve(ref string) (map[string]any, error) {
	pointer, ok := strings.CutPrefix(ref, "#/")
	if !ok {
		return nil, fmt.Errorf("$ref %q leads out of the document", ref)
	}
	var at any = d.root
	for part := range strings.SplitSeq(pointer, "/") {
		m, _ := at.(map[string]any)
		at = m[strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~")]
	}
	m, ok := at.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("$ref %q leads nowhere", ref)
	}
	return m, nil
}

// follow returns v, or what it refers to.
func (d *Document) follow(v any) (map[string]any, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("not an object")
	}
	if ref, ok := m["$ref"].(string); ok {
		return d.resolve(ref)
	}
	return m, nil
}

// Operations lists all operations, by path and method.
func (d *Document) Operations() []Operation {
	var ops []Operation
	paths, _ := d.root["paths"].(map[string]any)
	for path, item := range paths {
		for method, node := range item.(map[string]any) {
			if slices.Contains(methods, method) {
				ops = append(ops, Operation{strings.ToUpper(method), path, node.(map[string]any)})
			}
		}
	}
	slices.SortFunc(ops, func(a, b Operation) int {
		return strings.Compare(a.Path+" "+a.Method, b.Path+" "+b.Method)
	})
	return ops
}

// Operation returns the operation of a method and path template.
func (d *Document) Operation(method, path string) (Operation, bool) {
	for _, op := range d.Operations() {
		if op.Method == method && op.Path == path {
			return op, true
		}
	}
	return Operation{}, false
}

// Security lists the alternatives of an operation: each the name of a scheme of the
// description and the scopes that it wants, with spaces between; "" for none at all.
func (d *Document) Security(op Operation) ([]string, error) {
	alternatives := []string{}
	list, _ := op.node["security"].([]any)
	for _, a := range list {
		one, _ := a.(map[string]any)
		if len(one) > 1 {
			return nil, fmt.Errorf("%s %s: two schemes at once", op.Method, op.Path)
		}
		words := ""
		for scheme, scopes := range one {
			if _, err := d.resolve("#/components/securitySchemes/" + escape(scheme)); err != nil {
				return nil, err
			}
			words = scheme
			list, _ := scopes.([]any)
			for _, s := range list {
				words += fmt.Sprint(" ", s)
			}
		}
		alternatives = append(alternatives, words)
	}
	return alternatives, nil
}

// Text returns a text member of the operation, such as operationId.
func (op Operation) Text(name string) string { s, _ := op.node[name].(string); return s }

// Parameters lists the names of the operation's parameters that are in the given
// place: path, query or header.
func (d *Document) Parameters(op Operation, in string) ([]string, error) {
	var names []string
	list, _ := op.node["parameters"].([]any)
	for _, v := range list {
		p, err := d.follow(v)
		if err != nil {
			return nil, err
		}
		if p["in"] == in {
			names = append(names, p["name"].(string))
		}
	}
	return names, nil
}

// RequestMedia lists the media types of the operation's request body.
func (op Operation) RequestMedia() []string {
	body, _ := op.node["requestBody"].(map[string]any)
	content, _ := body["content"].(map[string]any)
	var media []string
	for m := range content {
		media = append(media, m)
	}
	slices.Sort(media)
	return media
}

// Statuses lists the statuses that the operation describes.
func (op Operation) Statuses() []string {
	var s []string
	responses, _ := op.node["responses"].(map[string]any)
	for status := range responses {
		s = append(s, status)
	}
	slices.Sort(s)
	return s
}

// Check returns nil when an answer is one that the description allows.
func (d *Document) Check(method, path string, status int, header http.Header, body []byte) error {
	op, ok := d.Operation(method, path)
	if !ok {
		return fmt.Errorf("%s %s is not described", method, path)
	}
	code := strconv.Itoa(status)
	responses := op.node["responses"].(map[string]any)
	if responses[code] == nil {
		return fmt.Errorf("%s %s: status %s is not described", method, path, code)
	}
	at := "/paths/" + escape(path) + "/" + strings.ToLower(method) + "/responses/" + code
	if ref, ok := responses[code].(map[string]any)["$ref"].(string); ok {
		at = strings.TrimPrefix(ref, "#")
	}
	resp, err := d.follow(responses[code])
	if err != nil {
		return err
	}
	if err := d.checkHeaders(at, resp, header); err != nil {
		return fmt.Errorf("%s %s: %s: %w", method, path, code, err)
	}
	if err := d.checkBody(at, resp, header.Get("Content-Type"), body); err != nil {
		return fmt.Errorf("%s %s: %s: %w", method, path, code, err)
	}
	return nil
}

func (d *Document) checkHeaders(at string, resp map[string]any, header http.Header) error {
	described, _ := resp["headers"].(map[string]any)
	for name, v := range described {
		where := at + "/headers/" + escape(name)
		if ref, ok := v.(map[string]any)["$ref"].(string); ok {
			where = strings.TrimPrefix(ref, "#")
		}
		h, err := d.follow(v)
		if err != nil {
			return err
		}
		if header.Get(name) == "" {
			if h["required"] == true {
				return fmt.Errorf("header %s is missing", name)
			}
			continue
		}
		s, err := d.schema(where + "/schema")
		if err != nil {
			return err
		}
		if err := s.Validate(header.Get(name)); err != nil {
			return fmt.Errorf("header %s: %w", name, err)
		}
	}
	return nil
}

func (d *Document) checkBody(at string, resp map[string]any, contentType string, body []byte) error {
	content, _ := resp["content"].(map[string]any)
	media := contentType
	if content[media] == nil {
		var err error
		if media, _, err = mime.ParseMediaType(contentType); err != nil || content[media] == nil {
			return fmt.Errorf("media type %q is not described", contentType)
		}
	}
	node := content[media].(map[string]any)
	at += "/content/" + escape(media)
	if node["x-line-schema"] != nil {
		s, err := d.schema(at + "/x-line-schema")
		if err != nil {
			return err
		}
		return checkLines(s, body)
	}
	if node["schema"] == nil {
		return nil
	}
	s, err := d.schema(at + "/schema")
	if err != nil {
		return err
	}
	if !strings.Contains(media, "json") {
		return s.Validate(string(body))
	}
	return checkJSON(s, body)
}

func checkLines(s *jsonschema.Schema, body []byte) error {
	if len(body) == 0 {
		return nil
	}
	text, ok := bytes.CutSuffix(body, []byte("\n"))
	if !ok {
		return errors.New("the last line does not end")
	}
	for i, line := range bytes.Split(text, []byte("\n")) {
		if err := checkJSON(s, line); err != nil {
			return fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return nil
}

func checkJSON(s *jsonschema.Schema, b []byte) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		return err
	}
	return s.Validate(v)
}
