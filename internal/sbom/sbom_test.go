package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"os"
	"runtime/debug"
	"strings"
	"testing"
)

// TestBill writes the bill of this test's own binary.
func TestBill(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var a, b bytes.Buffer
	if err := run(&a, []string{self}); err != nil {
		t.Fatal(err)
	}
	if err := run(&b, []string{self, self}); err != nil {
		t.Fatal(err)
	}
	var v bom
	if err := json.Unmarshal(a.Bytes(), &v); err != nil {
		t.Fatal(err)
	}
	if v.Format != "CycloneDX" || v.Metadata.Component.Name != "fabtrail.dev/fabtrail" || len(v.Components) == 0 {
		t.Errorf("%+v", v)
	}
	if err := run(&a, []string{"main.go"}); err == nil {
		t.Error("a bill of what is no binary")
	}
}

func TestBillOfModules(t *testing.T) {
	dep := &debug.Module{Path: "example.org/a", Version: "v1.0.0+incompatible", Sum: "h1:" + strings.Repeat("A", 43) + "="}
	info := &buildinfo.BuildInfo{GoVersion: "go1.26.0", Path: "x/cmd/y", Main: debug.Module{Path: "x"}, Deps: []*debug.Module{dep, {Path: "old", Replace: dep}}}
	v, err := bill([]*buildinfo.BuildInfo{info})
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Components) != 2 || v.Components[0].PURL != "pkg:golang/example.org/a@v1.0.0%2Bincompatible" || len(v.Dependencies[0].DependsOn) != 2 {
		t.Errorf("%+v", v)
	}
	dep.Sum = "h2:x"
	if _, err := bill([]*buildinfo.BuildInfo{info}); err == nil {
		t.Error("a checksum of another kind was taken")
	}
	if _, err := bill([]*buildinfo.BuildInfo{{Main: debug.Module{Path: "x"}}, {Main: debug.Module{Path: "y"}}}); err == nil {
		t.Error("one bill of two modules")
	}
}
