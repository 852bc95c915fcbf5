package main

import (
	"testing"

	"fabtrail.dev/fabtrail/internal/cli"
)

// TestHelp: every command says what it does, shows how with flags that exist, lists
// its exit codes, and takes --json.
func TestHelp(t *testing.T) {
	c := root()
	cli.Prepare(c)
	for _, missing := range cli.Undocumented(c) {
		t.Error(missing)
	}
}
