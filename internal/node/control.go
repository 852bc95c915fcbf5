package node

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A running ledger listens on a Unix socket in its data folder. Whoever may open
// that, the folder's owner, may have a snapshot: no port, no token, nothing that a
// network reaches. A connection is one request: a line goes in, a line of JSON comes
// out, and the snapshot is removed when the connection ends, however it ends.

// snapshotted is the answer to a request for a snapshot.
type snapshotted struct {
	Dir   string `json:"dir,omitempty"` // truth and journal
	Size  uint64 `json:"size,omitempty"`
	Error string `json:"error,omitempty"`
}

const requestSnapshot = "snapshot"

func (f Folder) control() string { return filepath.Join(string(f), "control.sock") }

// shortPath opens the folder and names the socket by the descriptor where its path
// is too long for an address (108 bytes). done closes what was opened.
func (f Folder) shortPath() (path string, done func(), err error) {
	path = f.control()
	if len(path) < 100 {
		return path, func() {}, nil
	}
	dir, err := os.Open(string(f))
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)), func() { _ = dir.Close() }, nil
}

// controlled starts to answer on the control socket until ctx ends. A folder that
// cannot hold a socket leaves the ledger without one, which is said.
func (n *Node) controlled(ctx context.Context) error {
	old, err := filepath.Glob(filepath.Join(n.cfg.Folder.ledger(), "snapshot-*"))
	if err != nil {
		return err
	}
	for _, dir := range append(old, n.cfg.Folder.control()) { // of a process that was killed: we hold the lock
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	path, done, err := n.cfg.Folder.shortPath()
	if err != nil {
		return err
	}
	defer done()
	var cfg net.ListenConfig
	l, err := cfg.Listen(ctx, "unix", path)
	if err != nil {
		n.cfg.Log.Warn("no control socket: backups need the ledger stopped", "error", err)
		return nil
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(err, l.Close())
	}
	n.work(ctx, "control", func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { _ = l.Close() })
		defer stop()
		for i := 0; ; i++ {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			n.work(ctx, "snapshot", func(ctx context.Context) error {
				if err := n.answerControl(ctx, c, i); err != nil {
					n.cfg.Log.Warn("a request on the control socket", "error", err)
				}
				return nil
			})
		}
	})
	return nil
}

func (n *Node) answerControl(ctx context.Context, c net.Conn, number int) error {
	closing := func() { _ = c.Close() }
	defer closing()
	defer context.AfterFunc(ctx, closing)()
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	in := bufio.NewReader(c)
	line, err := in.ReadString('\n')
	if err != nil {
		return err
	}
	if strings.TrimSpace(line) != requestSnapshot {
		return json.NewEncoder(c).Encode(snapshotted{Error: fmt.Sprintf("unknown request %.40q", line)})
	}
	dir := filepath.Join(n.cfg.Folder.ledger(), fmt.Sprintf("snapshot-%d", number))
	size, err := n.ledger.Snapshot(ctx, dir)
	if err != nil {
		return errors.Join(err, json.NewEncoder(c).Encode(snapshotted{Error: err.Error()}))
	}
	n.cfg.Log.Info("a snapshot is taken", "dir", dir, "size", size)
	err = json.NewEncoder(c).Encode(snapshotted{Dir: dir, Size: size})
	if err == nil {
		err = c.SetReadDeadline(time.Time{})
	}
	if err == nil {
		_, _ = in.ReadByte() // ends when the other side is done, or dead
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// errNotRunning says that no process answers for a folder.
var errNotRunning = errors.New("no ledger runs on this folder")

// askSnapshot asks the ledger that runs on a folder for a snapshot, which is there
// until release is called.
func (f Folder) askSnapshot(ctx context.Context) (dir string, release func() error, err error) {
	path, done, err := f.shortPath()
	if err != nil {
		return "", nil, err
	}
	defer done()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return "", nil, errNotRunning
	}
	if err != nil {
		return "", nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	var a snapshotted
	if _, err = fmt.Fprintln(c, requestSnapshot); err == nil {
		err = json.NewDecoder(c).Decode(&a)
	}
	if err == nil && a.Error != "" {
		err = errors.New(a.Error)
	}
	if err != nil {
		stop()
		return "", nil, errors.Join(fmt.Errorf("the running ledger gave no snapshot: %w", err), c.Close())
	}
	// The other process may run in another folder, or see this one under another name.
	return filepath.Join(f.ledger(), filepath.Base(a.Dir)), func() error { stop(); return c.Close() }, nil
}
