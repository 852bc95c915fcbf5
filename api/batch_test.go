package api

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/go-json-experiment/json"
)

// lineResult is a line of a batch's answer, as a client reads it.
type lineResult struct {
	Line    int    `json:"line"`
	Status  int    `json:"status"`
	ID      string `json:"id"`
	Repeat  bool   `json:"repeat"`
	Pending bool   `json:"pending"`
	Problem struct {
		Type string `json:"type"`
	} `json:"problem"`
}

func (l lineResult) String() string {
	if l.Problem.Type != "" {
		return fmt.Sprintf("%d:%d:%s", l.Line, l.Status, l.Problem.Type[strings.LastIndex(l.Problem.Type, "/")+1:])
	}
	return fmt.Sprintf("%d:%d", l.Line, l.Status)
}

func parseLines(t *testing.T, body []byte) []lineResult {
	t.Helper()
	var out []lineResult
	for line := range bytes.Lines(body) {
		var l lineResult
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		out = append(out, l)
	}
	return out
}

func (s *server) batch(body string, headers ...string) reply {
	return s.do("POST", "/v1/statements/batch", body, append(headers, typeLines, bearerHeader(s.token(partyA, ScopeWrite)))...)
}

// TestBatchOfTenThousand has three bad lines among 10,000, each citing the one
// before: every line gets its own answer, in order.
func TestBatchOfTenThousand(t *testing.T) {
	s := newServer(t, generous)
	var b strings.Builder
	want := make([]string, MaxBatchLines)
	cites := ""
	for i := range want {
		n := i + 1
		want[i] = fmt.Sprintf("%d:201", n)
		switch n {
		case 17:
			b.WriteString("not JSON\n")
			want[i] = "17:400:malformed_json"
		case 5000:
			b.WriteString(`{"problem":"bad_signature"}` + "\n")
			want[i] = "5000:422:bad_signature"
		case 10000:
			b.WriteString(`{"name":"last","cites":"nobody"}` + "\n")
			want[i] = "10000:422:unknown_statement"
		default:
			fmt.Fprintf(&b, `{"name":"n%d","cites":%q}`+"\n", n, cites)
			cites = fmt.Sprintf("n%d", n)
		}
	}
	r := s.batch(b.String())
	if err := description(t).Check("POST", "/v1/statements/batch", r.status, r.header, r.body); err != nil {
		t.Error(err)
	}
	got := parseLines(t, r.body)
	if len(got) != len(want) {
		t.Fatalf("%d answers, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i].String() != want[i] {
			t.Errorf("line %d: %s, want %s", i+1, got[i], want[i])
		}
	}
	for _, n := range s.chunks {
		if n > chunkLines {
			t.Errorf("a chunk has %d lines", n)
		}
	}
	if got := len(s.byID); got != 9997 {
		t.Errorf("%d statements recorded", got)
	}
}

func TestBatchLines(t *testing.T) {
	long := `{"name":"` + strings.Repeat("x", MaxEnvelope) + `"}`
	for _, tc := range []struct{ name, body, want string }{
		{"one", `{"name":"a"}` + "\n", "1:201"},
		{"last line without an end", `{"name":"a"}` + "\n" + `{"name":"b"}`, "1:201 2:201"},
		{"a line that cites the one before", `{"name":"a"}` + "\n" + `{"name":"b","cites":"a"}`, "1:201 2:201"},
		{"a line that cites the one after", `{"name":"b","cites":"a"}` + "\n" + `{"name":"a"}`, "1:422:unknown_statement 2:201"},
		{"the same line twice", `{"name":"a"}` + "\n" + `{"name":"a"}`, "1:201 2:200"},
		{"carriage returns", `{"name":"a"}` + "\r\n" + `{"name":"b"}` + "\r\n", "1:201 2:201"},
		{"empty lines", "\n\r\n \n" + `{"name":"a"}` + "\n\n", "1:400:malformed_json 2:400:malformed_json 3:400:malformed_json 4:201 5:400:malformed_json"},
		{"only an empty line", "\n", "1:400:malformed_json"},
		{"a line too long", `{"name":"a"}` + "\n" + long + "\n" + `{"name":"b","cites":"a"}`, "1:201 2:413:too_large 3:201"},
		{"only a line too long, without an end", long, "1:413:too_large"},
		{"pending", `{"name":"a","mode":"pending"}`, "1:202"},
		{"panic", `{"name":"a","mode":"error"}` + "\n" + `{"name":"b"}`, "1:500:internal 2:201"},
		{"two statements on a line", `{"name":"a"}{"name":"b"}` + "\n", "1:400:malformed_json"},
		{"of another party", `{"party":"` + partyB + `"}` + "\n" + `{"name":"b","party":"` + partyA + `"}`, "1:403:signer_mismatch 2:201"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t, generous)
			r := s.batch(tc.body)
			if err := description(t).Check("POST", "/v1/statements/batch", r.status, r.header, r.body); err != nil {
				t.Error(err)
			}
			if got := strings.Trim(fmt.Sprint(parseLines(t, r.body)), "[]"); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
			if strings.Contains(string(r.body), "secret") {
				t.Errorf("the answer tells what is inside: %s", r.body)
			}
		})
	}
}

// TestBatchEnds: what ends a batch too early is said in a last line, and what was
// before is recorded.
func TestBatchEnds(t *testing.T) {
	var many strings.Builder
	for i := range MaxBatchLines + 1 {
		fmt.Fprintf(&many, "{\"name\":\"%d\"}\n", i)
	}
	filler := strings.Repeat(strings.Repeat("x", 1<<20)+"\n", 64)
	for _, tc := range []struct {
		name, body string
		headers    []string
		recorded   int
		last       string
	}{
		{"a line too many", many.String(), nil, MaxBatchLines, "10001:413:too_large"},
		{"chunked, too large", fmt.Sprintf("d\r\n{\"name\":\"a\"}\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(filler), filler), []string{"Transfer-Encoding: chunked"}, 1, "65:413:too_large"},
		{"a chunk that is none", "d\r\n{\"name\":\"a\"}\n\r\nzz\r\n", []string{"Transfer-Encoding: chunked"}, 1, "2:400:malformed_request"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t, generous)
			r := s.batch(tc.body, tc.headers...)
			got := parseLines(t, r.body)
			if last := got[len(got)-1].String(); last != tc.last || len(s.byID) != tc.recorded {
				t.Errorf("last line %s, %d recorded; want %s, %d", last, len(s.byID), tc.last, tc.recorded)
			}
			if !strings.Contains(string(r.body), "send them again") {
				t.Error("the last line does not say what to do")
			}
		})
	}
}

// TestBatchCutOff ends the body in the middle of line 2: line 1 is recorded, and
// what came of line 2 is not.
func TestBatchCutOff(t *testing.T) {
	s := newServer(t, generous)
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /v1/statements/batch HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n%s\r\n%s\r\n\r\n{\"name\":\"a\"}\n{\"name\":\"b\"}",
		typeLines, bearerHeader(s.token(partyA, ScopeWrite)))
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Trim(fmt.Sprint(parseLines(t, body)), "[]"); got != "1:201 2:400:malformed_request" || len(s.byID) != 1 {
		t.Errorf("%s, %d recorded", got, len(s.byID))
	}
}

// TestBatchStreams waits for the answer to each line before it sends the next.
func TestBatchStreams(t *testing.T) {
	s := newServer(t, generous)
	body, w := io.Pipe()
	req, err := http.NewRequest("POST", "http://"+s.addr+"/v1/statements/batch", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("Authorization", "Bearer "+s.token(partyA, ScopeWrite))
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(w, "{\"name\":\"n1\"}\n")
		sent <- err
	}()
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(resp.Body)
	for n := 1; n <= 5; n++ {
		text, err := lines.ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		if got := parseLines(t, text)[0].String(); got != fmt.Sprintf("%d:201", n) {
			t.Fatalf("answer %d: %s", n, got)
		}
		if n == 5 {
			break
		}
		if _, err := fmt.Fprintf(w, "{\"name\":\"n%d\",\"cites\":\"n%d\"}\n", n+1, n); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(lines); err != nil || len(rest) != 0 {
		t.Errorf("after the last line: %q, %v", rest, err)
	}
}

// TestBatchPanic: when the ledger fails in the middle, the connection is cut, so
// that what was answered is not taken for the whole.
func TestBatchPanic(t *testing.T) {
	s := newServer(t, generous)
	body, w := io.Pipe()
	req, err := http.NewRequest("POST", "http://"+s.addr+"/v1/statements/batch", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("Authorization", "Bearer "+s.token(partyA, ScopeWrite))
	go func() { _, _ = io.WriteString(w, "{\"name\":\"n1\"}\n") }()
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	if _, err := lines.ReadBytes('\n'); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(w, "{\"name\":\"n2\",\"mode\":\"panic\"}\n")
	if rest, err := io.ReadAll(lines); !errors.Is(err, io.ErrUnexpectedEOF) || len(rest) != 0 {
		t.Errorf("after the panic: %q, %v", rest, err)
	}
	_ = w.Close()
	if !strings.Contains(s.logged.String(), "a secret of the inside") {
		t.Error("the panic was not logged")
	}
}

// TestBatchGone: a caller that goes away in the middle leaves nothing running
// (TestMain looks for goroutines).
func TestBatchGone(t *testing.T) {
	s := newServer(t, generous)
	s.entered, s.gate = make(chan struct{}, 1), make(chan struct{})
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /v1/statements/batch HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n%s\r\n%s\r\n\r\n{\"name\":\"a\"}\n{\"name\":",
		typeLines, bearerHeader(s.token(partyA, ScopeWrite)))
	<-s.entered
	conn.Close()
	close(s.gate)
}

func TestLineReader(t *testing.T) {
	r := newLineReader(strings.NewReader("ab\nabc\n\nabcdefgh\nx"), 3, 5)
	var got []string
	for {
		l, err := r.next()
		if err != nil {
			got = append(got, err.Error())
			break
		}
		if l.refused != nil {
			got = append(got, fmt.Sprintf("%d %s", l.n, l.refused.Type))
			continue
		}
		got = append(got, fmt.Sprintf("%d %s", l.n, l.body))
	}
	if want := "1 ab|2 abc|3 malformed_json|4 too_large|5 x|EOF"; strings.Join(got, "|") != want {
		t.Errorf("%s, want %s", strings.Join(got, "|"), want)
	}
	r = newLineReader(strings.NewReader("a\nb\nc\n"), 3, 2)
	_, _ = r.next()
	_, _ = r.next()
	if l, err := r.next(); !errors.Is(err, errTooManyLines) || l.n != 3 {
		t.Errorf("%+v, %v", l, err)
	}
	broken := errors.New("broken")
	r = newLineReader(io.MultiReader(strings.NewReader("a\nhalf"), iotest.ErrReader(broken)), 9, 9)
	_, _ = r.next()
	if l, err := r.next(); !errors.Is(err, broken) || !errors.Is(err, errBody) || l.body != nil || l.n != 2 {
		t.Errorf("%+v, %v", l, err)
	}
}

// TestFeedHoldsBack: a reader never is more than a chunk ahead of who submits.
func TestFeedHoldsBack(t *testing.T) {
	for _, tc := range []struct {
		name string
		line string
		most int
	}{
		{"by lines", "{}\n", chunkLines},
		{"by bytes", strings.Repeat("x", MaxEnvelope) + "\n", chunkBytes/MaxEnvelope + 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFeed()
				endless := &repeating{[]byte(tc.line), 0}
				done := make(chan struct{})
				go func() {
					defer close(done)
					f.fill(newLineReader(endless, MaxEnvelope, 1<<30), func() error { return nil })
				}()
				for range 3 {
					synctest.Wait()
					if lines, err := f.take(); err != nil || len(lines) != tc.most {
						t.Errorf("%d lines ahead, %v; want %d", len(lines), err, tc.most)
					}
				}
				synctest.Wait()
				if f.close() {
					t.Error("the reader was at its end")
				}
				<-done
			})
		})
	}
}

// repeating yields its bytes for ever.
type repeating struct {
	b  []byte
	at int
}

func (r *repeating) Read(p []byte) (int, error) {
	n := copy(p, r.b[r.at:])
	r.at = (r.at + n) % len(r.b)
	return n, nil
}

// FuzzLines compares the reader with the plain splitting of the whole body.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a\nb\n"), 1)
	f.Add([]byte("\n\nabcdefghijkl\n\r\nx"), 3)
	f.Add([]byte(""), 7)
	f.Add(bytes.Repeat([]byte("y"), 70<<10), 64<<10)
	f.Fuzz(func(t *testing.T, body []byte, piece int) {
		const maxLine, maxLines = 8, 16
		r := newLineReader(&pieces{body, max(1, piece&0xffff)}, maxLine, maxLines)
		want := bytes.Split(body, []byte("\n"))
		if len(want[len(want)-1]) == 0 {
			want = want[:len(want)-1]
		}
		for i := 0; ; i++ {
			l, err := r.next()
			switch {
			case errors.Is(err, io.EOF):
				if i != len(want) {
					t.Fatalf("%d lines, want %d", i, len(want))
				}
				return
			case errors.Is(err, errTooManyLines):
				if i != maxLines || len(want) <= maxLines {
					t.Fatalf("too many lines at %d of %d", i, len(want))
				}
				return
			case err != nil:
				t.Fatal(err)
			}
			switch {
			case l.n != i+1:
				t.Fatalf("line %d is called %d", i+1, l.n)
			case len(want[i]) > maxLine:
				if l.refused == nil || l.refused.Type != "too_large" {
					t.Fatalf("line %d of %d bytes was taken", l.n, len(want[i]))
				}
			case len(bytes.TrimSpace(want[i])) == 0:
				if l.refused == nil || l.refused.Type != "malformed_json" {
					t.Fatalf("empty line %d was taken", l.n)
				}
			case l.refused != nil || !bytes.Equal(l.body, want[i]):
				t.Fatalf("line %d: %q, %v, want %q", l.n, l.body, l.refused, want[i])
			}
		}
	})
}

// pieces yields its bytes a few at a time.
type pieces struct {
	b    []byte
	size int
}

func (p *pieces) Read(to []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	n := copy(to, p.b[:min(len(p.b), p.size)])
	p.b = p.b[n:]
	return n, nil
}
