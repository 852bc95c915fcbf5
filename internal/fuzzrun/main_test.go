package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEveryTargetHasACorpus: the inputs that fuzzing found are committed beside each
// target, so that the ordinary tests try them again; and none is left of a target that
// is gone.
func TestEveryTargetHasACorpus(t *testing.T) {
	const least = 20
	root := filepath.Join("..", "..")
	targets := map[string]bool{} // corpus folders
	var corpora []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root:
			return fs.SkipDir
		case d.IsDir() && filepath.Base(filepath.Dir(path)) == "fuzz" && strings.Contains(path, "testdata"):
			corpora = append(corpora, path)
			return fs.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range named.FindAllStringSubmatch(string(src), -1) {
			targets[filepath.Join(filepath.Dir(path), "testdata", "fuzz", m[1])] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(targets) < least {
		t.Errorf("%d fuzz targets, want %d", len(targets), least)
	}
	for dir := range targets {
		inputs, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(inputs) == 0 {
			t.Errorf("%s holds no input: go run ./internal/fuzzrun -keep 4 -only '%s$'", dir, filepath.Base(dir))
		}
	}
	for _, dir := range corpora {
		if !targets[dir] {
			t.Errorf("%s is of no target", dir)
		}
	}
}

// TestOnlyLate: an engine that trips over the end of its time is not a target that failed.
func TestOnlyLate(t *testing.T) {
	for _, c := range []struct {
		said string
		want bool
	}{
		{"--- FAIL: FuzzFields (5.08s)\n    context deadline exceeded\nFAIL\nexit status 1\nFAIL\tx\t5.1s", true},
		{"--- FAIL: FuzzFields (1.08s)\n    --- FAIL: FuzzFields (0.00s)\n        x_test.go:9: context deadline exceeded\n    Failing input written to testdata/fuzz/FuzzFields/1a\nFAIL", false},
		{"--- FAIL: FuzzFields (0.00s)\n    x_test.go:9: wrong\nFAIL", false},
		{"--- FAIL: FuzzFields (5.08s)\n    context deadline exceeded\n    Failing input written to testdata/fuzz/FuzzFields/1a\nFAIL", false},
		{"panic: runtime error\n--- FAIL: FuzzFields (5.08s)\n    context deadline exceeded\nFAIL", false},
		{"x_test.go:9:1: undefined: y\nFAIL\tx [build failed]", false},
		{"", false},
	} {
		if got := onlyLate(strings.Split(c.said, "\n")); got != c.want {
			t.Errorf("%q: %v", c.said, got)
		}
	}
}
