package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/custody"
)

// TestKeyFiles: a key that others on the machine can use is refused, with what to do.
func TestKeyFiles(t *testing.T) {
	key, err := custody.GenerateKey(custody.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := custody.MarshalPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, ok := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o700: true, 0o640: false, 0o644: false, 0o602: false, 0o610: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := readKey(path)
		if ok != (err == nil) || !ok && !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
	for name, b := range map[string]string{"too long": strings.Repeat("a", maxKeyFile+1), "no key": "x"} {
		if err := os.WriteFile(path, []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readKey(path); err == nil || !strings.HasPrefix(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.Write(pem); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := readKey(fmt.Sprintf("/dev/fd/%d", r.Fd())); err != nil {
		t.Errorf("a pipe: %v", err)
	}
}
