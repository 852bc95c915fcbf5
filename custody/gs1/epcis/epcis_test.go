package epcis

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// shared is where the partners' documents lie in a developer's checkout.
const shared = "../../../../shared/data/epcis"

func sharedFiles(t *testing.T, glob string) []string {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(shared, glob))
	if len(files) == 0 {
		t.Skip("no shared documents beside this checkout")
	}
	return files
}

func TestSharedValid(t *testing.T) {
	for _, f := range append(sharedFiles(t, "documents/*.json"), sharedFiles(t, "event-hash/*.jsonld")...) {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		d, err := Parse(data)
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(f), err)
			continue
		}
		for _, p := range d.Problems {
			t.Errorf("%s: %v", filepath.Base(f), p)
		}
	}
}

func TestSharedInvalid(t *testing.T) {
	for _, f := range sharedFiles(t, "invalid/*.json") {
		data, _ := os.ReadFile(f)
		d, err := Parse(data)
		if err != nil {
			t.Errorf("%s: %v", f, err)
			continue
		}
		if d.Valid() {
			t.Errorf("%s: accepted", f)
		}
		for _, p := range d.Problems {
			t.Logf("%s: %v", filepath.Base(f), p)
		}
	}
}

func TestSharedHashes(t *testing.T) {
	for _, f := range sharedFiles(t, "event-hash/*.jsonld") {
		data, _ := os.ReadFile(f)
		d, err := Parse(data)
		if err != nil || !d.Valid() {
			t.Errorf("%s: %v", f, err)
			continue
		}
		base := strings.TrimSuffix(f, ".jsonld")
		want, _ := os.ReadFile(base + ".hashes")
		pre, _ := os.ReadFile(base + ".prehashes")
		wants, pres := strings.Split(strings.TrimSpace(string(want)), "\n"), strings.Split(strings.TrimSpace(string(pre)), "\n")
		for i, e := range d.Events {
			if e.HashID != wants[i] {
				t.Errorf("%s event %d\n got %s\nwant %s", filepath.Base(f), i, prehash(e.node, e.prefixes, nil), pres[i])
			}
		}
	}
}
