package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// asProgram makes this test binary behave as rawlog itself: tests start real
// processes without building anything.
const asProgram = "RAWLOG_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// process is a rawlog of its own.
type process struct {
	cmd    *exec.Cmd
	out    *bufio.Reader
	stderr strings.Builder
	url    string // once it is ready
	key    string
}

func start(t testing.TB, dir string, args ...string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(exe, append([]string{"--data", dir, "--listen", "127.0.0.1:0"}, args...)...)}
	p.cmd.Env = append(os.Environ(), asProgram+"=1")
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

// ready waits until it listens.
func (p *process) ready(t testing.TB) {
	t.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil {
		err = errors.Join(err, p.cmd.Wait())
		t.Fatalf("rawlog does not start: %v\n%s", err, p.stderr.String())
	}
	p.url, p.key, _ = strings.Cut(strings.TrimSpace(line), " ")
}

// kill is kill -9.
func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

// fetch gets a path of the log.
func fetch(c *http.Client, url string) ([]byte, error) {
	resp, err := c.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return b, err
}

func post(ctx context.Context, c *http.Client, url, body string) (status int, answer []byte, header http.Header, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, resp.Header, err
}

// tool finds a program of Tessera's, or skips; where CI says that it must be
// there, it must.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is missing: .ci/run installs it", name)
		}
		t.Skipf("Tessera's %s is not installed; see .ci/run", name)
	}
	return path
}

// TestTessera loads the log with Tessera's own load generator, which reads and
// checks at the same time, and has Tessera's own checker read it afterwards.
func TestTessera(t *testing.T) {
	hammer, fsck := tool(t, "hammer-tessera"), tool(t, "fsck-tessera")
	const leaves = 5000
	dir := t.TempDir()
	p := start(t, filepath.Join(dir, "log"))
	p.ready(t)
	// A log of 2n entries has n leaves at least: no index commitment comes alone.
	out, err := exec.Command(hammer, "--log_url", p.url, "--log_public_key", p.key, "--show_ui=false", "--max_runtime=5m",
		"--leaf_write_goal", strconv.Itoa(2*leaves), "--leaf_min_size=850", "--num_writers=512", "--max_write_ops=20000",
		"--num_readers_full=2", "--num_readers_random=2", "--max_read_ops=200").CombinedOutput()
	if err != nil {
		t.Fatalf("hammer: %v\n%s", err, out)
	}
	if bad := complaints(string(out)); bad != "" {
		t.Fatalf("hammer complains: %s", bad)
	}
	if n := statements(t, p.url); n < leaves {
		t.Fatalf("hammer wrote %d leaves, want %d", n, leaves)
	}
	key := filepath.Join(dir, "log.vkey")
	if err := os.WriteFile(key, []byte(p.key), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err = exec.Command(fsck, "--ui=false", "--storage_url", p.url, "--public_key", key).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Successfully") {
		t.Fatalf("fsck: %v\n%s", err, out)
	}
}

// complaints are the warnings and errors of a program that logs as glog does,
// but for those about requests that its own end has cut off.
func complaints(out string) string {
	var bad []string
	for line := range strings.Lines(out) {
		if line[0] != 'I' && !strings.Contains(line, "context canceled") {
			bad = append(bad, line)
		}
	}
	return strings.Join(bad, "")
}

// statements counts the entries that are not index commitments.
func statements(t *testing.T, url string) (n int) {
	t.Helper()
	f := newFollower()
	if err := f.follow(http.DefaultClient, url); err != nil {
		t.Fatal(err)
	}
	for _, class := range f.classes {
		if class != entry.Index {
			n++
		}
	}
	return n
}

// TestAPI: what load generators rely on.
func TestAPI(t *testing.T) {
	p := start(t, t.TempDir())
	p.ready(t)
	ctx := context.Background()
	add := func(body string) (int, string) {
		status, b, _, err := post(ctx, http.DefaultClient, p.url+"add", body)
		if err != nil {
			t.Fatal(err)
		}
		return status, string(b)
	}
	if s, b := add("a"); s != http.StatusOK || b != "2" { // after the first entry and its commitment
		t.Fatal(s, b)
	}
	if s, b := add("\x00\xff"); s != http.StatusOK || b != "4" {
		t.Fatal(s, b)
	}
	if s, b := add("a"); s != http.StatusOK || b != "2" {
		t.Fatal("a repeat:", s, b)
	}
	if s, _ := add(strings.Repeat("x", maxBody+1)); s != http.StatusRequestEntityTooLarge {
		t.Fatal(s)
	}
	for _, path := range []string{"tile/0/x000", "tile/0/000.p/7", "tile/entries/001", "tile/1/000.p/1", "nothing"} {
		resp, err := http.Get(p.url + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
}

// TestPushBack: too much in flight is 429, a full disk and a stopped log are 503,
// each with Retry-After.
func TestPushBack(t *testing.T) {
	signer := ledgertest.LogSigner(origin)
	w := ledgertest.NewCosigner("w", signer.VKey())
	entered, gate := make(chan struct{}, 9), make(chan struct{})
	w.Before = func(ctx context.Context, _ []byte) error {
		entered <- struct{}{}
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var full atomic.Bool
	l, err := ledger.Open(context.Background(), ledger.Config{Dir: "log", Origin: origin, Signer: signer, App: raw{}, FS: vfs.NewMem(),
		Manual: true, MaxInFlight: 1, Cosigner: w, Policy: w.Policy(), DiskFree: func() (uint64, uint64, error) {
			if full.Load() {
				return 1, 100, nil
			}
			return 1 << 40, 1 << 40, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(handler(l))
	defer srv.Close()
	want := func(status int) {
		t.Helper()
		s, b, h, err := post(context.Background(), http.DefaultClient, srv.URL+"/add", "x")
		if err != nil || s != status || (h.Get("Retry-After") == "1") != (status != http.StatusOK) {
			t.Fatalf("%d %q %v %v, want %d", s, b, h, err, status)
		}
	}
	first := make(chan int)
	go func() {
		s, _, _, _ := post(context.Background(), http.DefaultClient, srv.URL+"/add", "first")
		first <- s
	}()
	<-entered
	want(http.StatusTooManyRequests)
	close(gate)
	if s := <-first; s != http.StatusOK {
		t.Fatal(s)
	}
	full.Store(true)
	want(http.StatusServiceUnavailable)
	full.Store(false)
	want(http.StatusOK)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	want(http.StatusServiceUnavailable)
}
