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
