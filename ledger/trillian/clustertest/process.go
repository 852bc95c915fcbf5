package clustertest

import (
	"bytes"
	"fmt"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Process is one of the cluster's processes.
type Process struct {
	name, dir, path string
	args            []string
	who             *syscall.Credential
	up              func() error // nil once it answers

	out  buffer
	cmd  *exec.Cmd
	done chan struct{}
}

// buffer is written by a process and read by the test.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// Bytes copies what was written.
func (b *buffer) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.b.Bytes())
}

const startLimit = 60 * time.Second

// Start starts the process and waits until it answers. One that ends at once, as
// PostgreSQL does while the children of a killed one are still there, is started again.
func (p *Process) Start() error {
	end := time.Now().Add(startLimit)
	for {
		p.cmd = exec.Command(p.path, p.args...)
		p.cmd.Dir, p.cmd.SysProcAttr = p.dir, attr(p.who)
		p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
		if err := p.cmd.Start(); err != nil {
			return err
		}
		done := make(chan struct{})
		p.done = done
		go func(cmd *exec.Cmd) {
			_ = cmd.Wait() // killed, as a rule
			close(done)
		}(p.cmd)
		var err error
		for ended := false; !ended; {
			if err = p.up(); err == nil {
				return nil
			}
			if time.Now().After(end) {
				return fmt.Errorf("%s does not answer: %w", p.name, err)
			}
			select {
			case <-done:
				ended = true
			case <-time.After(20 * time.Millisecond):
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Stop sends a signal and waits for the end; SIGKILL is a crash. It does nothing
// when the process is not running.
func (p *Process) Stop(sig syscall.Signal) error {
	if p.cmd == nil {
		return nil
	}
	select {
	case <-p.done:
		return nil
	default:
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(startLimit):
		return fmt.Errorf("%s does not end", p.name)
	}
}

// Signal sends a signal without waiting: SIGSTOP and SIGCONT.
func (p *Process) Signal(sig syscall.Signal) error { return p.cmd.Process.Signal(sig) }
