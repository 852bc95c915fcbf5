package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/custody/answer/answertest"
	"fabtrail.dev/fabtrail/internal/cli"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// The exit code of 'verify fork' is the judgement: only what nobody but the log can
// have made is called a fork, and what an honest log can explain never is.
func TestVerifyFork(t *testing.T) {
	w := answertest.NewWorld(answertest.NewLog(t))
	w.Publish()
	trust := t.TempDir()
	for name, b := range w.Trust() {
		must(t, os.WriteFile(filepath.Join(trust, name), b, 0o644))
	}
	var tree answertest.Tree
	for i := range 12 {
		tree = append(tree, entry.Hash{byte(i), 3})
	}
	other := slices.Clone(tree)
	other[2][1] ^= 1
	signed := func(tree answertest.Tree) string {
		text := checkpoint.Checkpoint{Origin: answertest.Origin, Size: uint64(len(tree)), Root: tree.Root()}.Text()
		sig, err := w.Signer.SignLog(text)
		must(t, err)
		return string(checkpoint.Note{Text: text, Sigs: []checkpoint.NoteSig{sig}}.Marshal())
	}
	stranger := strings.Replace(signed(tree), "\n12\n", "\n13\n", 1)
	honest := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/consistency") {
			must(t, json.NewEncoder(rw).Encode(map[string]any{"from": 5, "to": 12, "hashes": raw(tree.Consistency(5))}))
			return
		}
		rw.WriteHeader(http.StatusNotFound)
	}))
	defer honest.Close()
	last := &client.LastEntry{Leaf: tree[4], Hashes: tree.Inclusion(4)}
	junk := []entry.Hash{{1}, {2}}
	for _, tc := range []struct {
		name string
		fork client.Fork
		more []string
		code int
		says string
	}{
		{"two roots", client.Fork{Old: signed(tree), New: signed(other)}, nil, cli.OK, "FORK: "},
		{"one root", client.Fork{Old: signed(tree), New: signed(tree)}, nil, cli.Failed, "NO FORK"},
		{"another beginning", client.Fork{Old: signed(other[:5]), New: signed(tree), Hashes: junk, Last: last}, nil, cli.OK, "FORK: "},
		{"the same beginning", client.Fork{Old: signed(tree[:5]), New: signed(tree), Hashes: junk, Last: last}, nil, cli.Failed, "NO FORK"},
		{"a proof that holds", client.Fork{Old: signed(tree[:5]), New: signed(tree), Hashes: tree.Consistency(5)}, nil, cli.Failed, "NO FORK"},
		{"a proof that anybody could have made up", client.Fork{Old: signed(tree[:5]), New: signed(tree), Hashes: junk}, nil, cli.CouldNot, "NOT PROVED"},
		{"the log clears itself", client.Fork{Old: signed(tree[:5]), New: signed(tree), Hashes: junk}, []string{"--server", honest.URL}, cli.Failed, "NO FORK"},
		{"the log cannot", client.Fork{Old: signed(other[:5]), New: signed(tree), Hashes: junk}, []string{"--server", honest.URL}, cli.CouldNot, "NOT PROVED"},
		{"not signed by the log", client.Fork{Old: signed(tree), New: stranger}, nil, cli.Failed, ""},
	} {
		path := filepath.Join(t.TempDir(), "fork.json")
		b, err := tc.fork.Marshal()
		must(t, err)
		must(t, os.WriteFile(path, b, 0o600))
		code, out := fabtrail(t, append([]string{"verify", "fork", path, "--trust", trust}, tc.more...)...)
		if code != tc.code || !strings.HasPrefix(out, tc.says) {
			t.Errorf("%s: exit %d, %q", tc.name, code, out)
		}
		code, out = fabtrail(t, append([]string{"verify", "fork", path, "--trust", trust, "--json"}, tc.more...)...)
		if code != tc.code || strings.Contains(out, `"fork":true`) != (tc.code == cli.OK) {
			t.Errorf("%s: exit %d, %q", tc.name, code, out)
		}
	}
}

func raw(hashes []entry.Hash) (out [][]byte) {
	for _, h := range hashes {
		out = append(out, h[:])
	}
	return out
}

// A second proof does not take the place of the first: both are evidence.
func TestForkProofsAreKept(t *testing.T) {
	t.Chdir(t.TempDir())
	c := &cobra.Command{}
	c.SetErr(io.Discard)
	for _, reason := range []string{"one", "two", "one", "three"} {
		must(t, saveFork(c, &client.Fork{Reason: reason}))
	}
	names, err := filepath.Glob("fork-*.json")
	must(t, err)
	if len(names) != 3 {
		t.Errorf("%q, want three proofs", names)
	}
	b, err := os.ReadFile(forkFile)
	must(t, err)
	if f, err := client.ParseFork(b); err != nil || f.Reason != "one" {
		t.Errorf("the first proof became %s, %v", b, err)
	}
}
