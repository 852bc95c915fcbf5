package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// asProgram makes this test binary behave as fabtraild itself: tests start real
// processes without building anything.
const asProgram = "FABTRAILD_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// process is a fabtraild that was started by a test.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout *bufio.Reader
	stderr heard
	ended  bool
}

// heard is what a process has written to standard error so far.
type heard struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.b.Write(p)
}

// has reports whether the process has written these words.
func (h *heard) has(words string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return bytes.Contains(h.b.Bytes(), []byte(words))
}

// says waits until the process has written these words to standard error.
func (p *process) says(ctx context.Context, words string) {
	p.t.Helper()
	for !p.stderr.has(words) {
		select {
		case <-ctx.Done():
			p.t.Fatalf("a process does not say %q", words)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// run runs a command to its end.
func run(t *testing.T, args ...string) []byte {
	t.Helper()
	out, err := command(t, args...).Output()
	if err != nil {
		stderr := ""
		var e *exec.ExitError
		if errors.As(err, &e) {
			stderr = string(e.Stderr)
		}
		t.Fatalf("fabtraild %v: %v\n%s", args, err, stderr)
	}
	return out
}

// background starts a server and reads the one JSON object that it prints when it
// listens.
func background(t *testing.T, started any, args ...string) *process {
	t.Helper()
	cmd := command(t, append(args, "--json")...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: cmd, stdout: bufio.NewReader(out)}
	cmd.Stderr = io.MultiWriter(os.Stderr, &p.stderr)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.kill() })
	line, err := p.stdout.ReadBytes('\n')
	if err != nil {
		t.Fatalf("fabtraild %v said nothing: %v", args, err)
	}
	if err := json.Unmarshal(line, started); err != nil {
		t.Fatalf("fabtraild %v said %q: %v", args, line, err)
	}
	return p
}

// kill ends the process as a power cut would: it has no say in it.
func (p *process) kill() {
	if p.ended {
		return
	}
	p.ended = true
	_ = p.cmd.Process.Kill()
	_, _ = io.Copy(io.Discard, p.stdout)
	_ = p.cmd.Wait()
}

// stop asks the process to end, and returns its exit code.
func (p *process) stop() int {
	p.t.Helper()
	p.ended = true
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, p.stdout)
	_ = p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

// wait waits until the process ends by itself, and returns its exit code.
func (p *process) wait() int {
	p.ended = true
	_, _ = io.Copy(io.Discard, p.stdout)
	_ = p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

// patience bounds a test that talks to processes.
func patience(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}
