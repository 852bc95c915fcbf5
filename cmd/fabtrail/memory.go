package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/internal/cli"
)

// memory keeps the last checkpoint of each log in a folder: one file a log, the
// note with a checksum in front, so that a damaged file is never taken for a fork.
type memory struct{ dir, log string }

const memoryMagic = "fabtrail/seen/v1 "

// errDamaged is what a file that fails its checksum is.
var errDamaged = errors.New("the remembered checkpoint is damaged: nothing is known about a fork; remove the file to begin anew")

// newMemory keeps what it remembers of a log under the log's key, not its name
// alone: another ledger of the same name is another ledger.
func newMemory(dir string, t *client.Trust) (*memory, error) {
	if dir == "" {
		base := os.Getenv("XDG_STATE_HOME")
		if base == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return nil, cli.Usagef("give --state DIR: %w", err)
			}
			base = filepath.Join(home, ".local", "state")
		}
		dir = filepath.Join(base, "fabtrail")
	}
	return &memory{dir, t.Log.String()}, os.MkdirAll(dir, 0o700)
}

func (m *memory) path(origin string) string {
	sum := sha256.Sum256([]byte(origin + "\n" + m.log))
	return filepath.Join(m.dir, hex.EncodeToString(sum[:8])+".seen")
}

// Load implements client.Memory.
func (m *memory) Load(origin string) ([]byte, error) {
	b, err := os.ReadFile(m.path(origin))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	head, note, ok := bytes.Cut(b, []byte("\n"))
	sum := sha256.Sum256(note)
	if !ok || string(head) != memoryMagic+hex.EncodeToString(sum[:]) {
		return nil, fmt.Errorf("%s: %w", m.path(origin), errDamaged)
	}
	return note, nil
}

// Store implements client.Memory.
func (m *memory) Store(origin string, note []byte) error {
	sum := sha256.Sum256(note)
	b := append([]byte(memoryMagic+hex.EncodeToString(sum[:])+"\n"), note...)
	return replaceFile(m.path(origin), b, 0o600)
}

// replaceFile writes a file as a whole and durably. Only a regular file is replaced:
// renamed onto a device, the new file would take its place.
func replaceFile(path string, b []byte, mode os.FileMode) error {
	if st, err := os.Lstat(path); err == nil && !st.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone already when all went well
	_, err = tmp.Write(b)
	if err := errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
