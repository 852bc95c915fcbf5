package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestReplaceFile: a file is replaced; what is none, such as a device that somebody
// names to discard output, stays what it is.
func TestReplaceFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	for _, text := range []string{"first", "second"} {
		if err := replaceFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != text {
			t.Fatalf("%q, %v", b, err)
		}
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(link, []byte("third"), 0o600); err == nil {
		t.Error("a symbolic link was replaced")
	}
	if st, err := os.Lstat(link); err != nil || st.Mode().IsRegular() {
		t.Errorf("%v, %v", st, err)
	}
}
