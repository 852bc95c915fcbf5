package problem

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestDocument compares docs/errors.md with Types, both ways: every type is
// explained there with its status, a meaning and what to do, once.
func TestDocument(t *testing.T) {
	b, err := os.ReadFile("../../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("^\\| `([^`]*)` \\| ([0-9]+) \\| (.+) \\| (.+) \\|$")
	explained := map[string]bool{}
	for n, line := range strings.Split(string(b), "\n") {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| type ") {
			continue
		}
		m := row.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("line %d is not: | `type` | status | meaning | what to do |", n+1)
			continue
		}
		slug, meaning, todo := m[1], m[3], m[4]
		status, _ := strconv.Atoi(m[2])
		if explained[slug] {
			t.Errorf("line %d explains %s again", n+1, slug)
		}
		explained[slug] = true
		typ, ok := Types[slug]
		switch {
		case !ok:
			t.Errorf("line %d explains %s, which is not in Types", n+1, slug)
		case typ.Status != status:
			t.Errorf("line %d: %s has status %d, not %d", n+1, slug, typ.Status, status)
		case len(meaning) < 20 || len(todo) < 12 || !strings.HasSuffix(meaning, ".") || !strings.HasSuffix(todo, "."):
			t.Errorf("line %d: %s is not explained in sentences", n+1, slug)
		}
	}
	for slug := range Types {
		if !explained[slug] {
			t.Errorf("docs/errors.md does not explain %s", slug)
		}
	}
}

func TestTypes(t *testing.T) {
	form := regexp.MustCompile(`^[a-z]+(_[a-z0-9]+)*$`)
	titles := map[string]string{}
	for slug, typ := range Types {
		if !form.MatchString(slug) {
			t.Errorf("%s is not lower case with underscores", slug)
		}
		if typ.Status < 400 || typ.Status > 599 || http.StatusText(typ.Status) == "" {
			t.Errorf("%s has status %d", slug, typ.Status)
		}
		if typ.Title == "" || strings.HasSuffix(typ.Title, ".") {
			t.Errorf("%s has the title %q", slug, typ.Title)
		}
		if other, twice := titles[typ.Title]; twice {
			t.Errorf("%s and %s have the same title", slug, other)
		}
		titles[typ.Title] = slug
	}
}

func TestMarshal(t *testing.T) {
	for _, tc := range []struct {
		p    *Problem
		want string
	}{
		{
			New("not_found", "", "nothing"),
			`{"type":"https://fabtrail.dev/problems/not_found","title":"There is no such thing here","status":404,"detail":"nothing"}`,
		},
		{
			New("superseded", "/chain/prev", "moved %s", "on").WithHint("read %d", 1).With("seq", 7).With("head", "ab"),
			`{"type":"https://fabtrail.dev/problems/superseded","title":"The cited statement is no longer the unit's latest","status":409,"detail":"moved on","field":"/chain/prev","hint":"read 1","head":"ab","seq":7}`,
		},
		{ // extensions do not replace members, and what cannot be encoded is left out
			New("not_found", "", "nothing").With("status", 200).With("type", "x").With("instance", "/x").With("f", func() {}).With("ok", true),
			`{"type":"https://fabtrail.dev/problems/not_found","title":"There is no such thing here","status":404,"detail":"nothing","ok":true}`,
		},
		{ // what strangers sent cannot break the JSON
			New("not_found", "\xff", "%s", "a\x00\"\xfe</script>"),
			"{\"type\":\"https://fabtrail.dev/problems/not_found\",\"title\":\"There is no such thing here\",\"status\":404,\"detail\":\"a\\u0000\\\"\uFFFD</script>\",\"field\":\"\uFFFD\"}",
		},
	} {
		b, err := tc.p.MarshalJSON()
		if err != nil || string(b) != tc.want {
			t.Errorf("%s, %v\nwant %s", b, err, tc.want)
		}
		if !json.Valid(b) {
			t.Errorf("%s is not JSON", b)
		}
	}
}

func TestError(t *testing.T) {
	p := New("too_large", "body", "%d bytes", 5).WithHint("send less")
	if got, want := p.Error(), "too_large at body: 5 bytes (send less)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if p.Status() != 413 || p.Title() != Types["too_large"].Title {
		t.Errorf("%d %q", p.Status(), p.Title())
	}
	wrapped := fmt.Errorf("outer: %w", errors.Join(io.EOF, p))
	if As(wrapped) != p || As(io.EOF) != nil || As(nil) != nil {
		t.Error("As does not find the problem, or finds one that is not there")
	}
	defer func() {
		if recover() == nil {
			t.Error("a type that is not listed was made")
		}
	}()
	New("no_such_type", "", "x")
}

func FuzzMarshal(f *testing.F) {
	f.Add("a", "b", "c", "d")
	f.Add("\xff", "\x00", "\ud7ff", "type")
	f.Fuzz(func(t *testing.T, detail, field, hint, name string) {
		p := New("internal", field, "%s", detail).WithHint("%s", hint).With(name, detail)
		b, err := p.MarshalJSON()
		if err != nil || !json.Valid(b) {
			t.Fatalf("%q, %v", b, err)
		}
		var back struct {
			Type   string
			Status int
		}
		if err := json.Unmarshal(b, &back); err != nil || back.Type != BaseURI+"internal" || back.Status != 500 {
			t.Fatalf("%s: %+v, %v", b, back, err)
		}
	})
}
