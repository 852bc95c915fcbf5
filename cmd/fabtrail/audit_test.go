package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/custody/answer"
	"fabtrail.dev/fabtrail/custody/answer/answertest"
	"fabtrail.dev/fabtrail/internal/cli"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// served is a log in memory as far as an audit reads it.
func served(t *testing.T, w *answertest.World) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /checkpoint", func(rw http.ResponseWriter, _ *http.Request) { rw.Write(w.Note) })
	mux.HandleFunc("GET /v1/entries", func(rw http.ResponseWriter, r *http.Request) {
		var from, limit uint64
		fmt.Sscan(r.FormValue("from"), &from)
		fmt.Sscan(r.FormValue("limit"), &limit)
		for i := from; i < min(from+limit, w.Published); i++ {
			must(t, json.NewEncoder(rw).Encode(client.EntryLine{Index: i, Cargo: w.Entries[i].Cargo()}))
		}
	})
	mux.HandleFunc("GET /v1/units/{uri}", func(rw http.ResponseWriter, r *http.Request) {
		a, _, err := answer.Assemble(w.View(), r.PathValue("uri"), answer.Options{})
		must(t, err)
		b, err := a.Marshal()
		must(t, err)
		rw.Write(b)
	})
	mux.HandleFunc("GET /tile/", func(rw http.ResponseWriter, r *http.Request) {
		p, err := entry.ParseTilePath(r.URL.Path)
		must(t, err)
		var leaves [][]byte
		var hashes []byte
		for i := range p.Width { // one tile of each sort is all that there is
			leaf := w.Entries[i].Leaf()
			leaves, hashes = append(leaves, leaf[:]), append(hashes, w.Tree[i][:]...)
		}
		if p.Entries {
			hashes, err = entry.MarshalBundle(leaves)
			must(t, err)
		}
		rw.Write(hashes)
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL
}

// An auditor is told which lists a false commitment has wrong, or what it had to add.
func TestAuditNamesTopics(t *testing.T) {
	for _, tc := range []struct {
		name  string
		lie   func(w *answertest.World)
		code  int
		text  []string
		json  string // key of topics
		first string
	}{
		{"none", func(w *answertest.World) { w.Publish() }, 0, []string{"OK  size"}, "", ""},
		{"a commission in no list", func(w *answertest.World) {
			w.Publish()
			hidden := uint64(len(w.Entries))
			w.Hide = func(n uint64, _ entry.Hash) bool { return n == hidden }
			w.Retire(w.Parties["maker"], w.Commission("A2", "L1"))
			w.Publish()
		}, cli.Failed, []string{"DIVERGES at entry", "index-commitment", "without entry", "(commission)", "\ntopic  unit https://id.gs1.org/01/09506000134352/21/A2\n"}, "topics", "/21/A2"},
		{"a root of nothing", func(w *answertest.World) {
			w.Add(entry.Entry{Class: entry.Index, Covers: uint64(len(w.Entries)), IndexRoot: entry.Hash{1}}, entry.Hash{})
			w.Sign()
		}, cli.Failed, []string{"does not hold under its own commitment", "\ntouches  log"}, "touched", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := answertest.NewWorld(answertest.NewLog(t))
			w.Block("L1", 10)
			w.Commission("A1", "L1")
			tc.lie(w)
			trust := t.TempDir()
			for name, b := range w.Trust() {
				must(t, os.WriteFile(filepath.Join(trust, name), b, 0o644))
			}
			run := func(more ...string) (int, string) {
				var out bytes.Buffer
				c := root()
				c.SetOut(&out)
				c.SetArgs(append([]string{"audit", "--server", served(t, w), "--trust", trust, "--state", t.TempDir(), "--max-age", "876000h"}, more...))
				return cli.Main(c), out.String()
			}
			code, text := run()
			if code != tc.code {
				t.Fatalf("exit code %d, want %d: %s", code, tc.code, text)
			}
			for _, want := range tc.text {
				if !strings.Contains(text, want) {
					t.Errorf("%q is not in %s", want, text)
				}
			}
			var v struct {
				OK         bool
				Divergence map[string]any
			}
			_, text = run("--json")
			must(t, json.Unmarshal([]byte(text), &v))
			if v.OK != (tc.code == 0) {
				t.Errorf("ok is %t", v.OK)
			}
			if tc.json == "" {
				return
			}
			topics, _ := v.Divergence[tc.json].([]any)
			if len(topics) == 0 {
				t.Fatalf("no %s in %s", tc.json, text)
			}
			if first, _ := topics[0].(map[string]any); !strings.HasSuffix(fmt.Sprint(first["value"]), tc.first) || first["kind"] == "" {
				t.Errorf("the first of %s is %v", tc.json, first)
			}
		})
	}
}
