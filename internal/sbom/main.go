// Command sbom writes a software bill of materials of the built programs to
// standard output: CycloneDX 1.6 in JSON, of the modules that `go version -m` finds
// linked in, with the checksums of go.sum. The same binaries give the same bytes.
package main

import (
	"bufio"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"
)

type bom struct {
	Format       string       `json:"bomFormat"`
	Spec         string       `json:"specVersion"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Component component `json:"component"`
}

type component struct {
	Type       string     `json:"type"`
	Ref        string     `json:"bom-ref"`
	Name       string     `json:"name"`
	Version    string     `json:"version,omitempty"`
	PURL       string     `json:"purl,omitempty"`
	Properties []property `json:"properties,omitempty"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn"`
}

func main() {
	flag.Usage = func() { fmt.Fprintln(os.Stderr, "usage: sbom BINARY...") }
	flag.Parse()
	if err := run(os.Stdout, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, binaries []string) error {
	if len(binaries) == 0 {
		return errors.New("name the binaries")
	}
	var infos []*buildinfo.BuildInfo
	for _, path := range binaries {
		info, err := buildinfo.ReadFile(path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		infos = append(infos, info)
	}
	b, err := bill(infos)
	if err != nil {
		return err
	}
	buf := bufio.NewWriter(w)
	enc := json.NewEncoder(buf)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return errors.Join(enc.Encode(b), buf.Flush())
}

// bill joins what several programs of one module are made of.
func bill(infos []*buildinfo.BuildInfo) (bom, error) {
	main := infos[0].Main
	self := component{Type: "application", Ref: purl(main.Path, ""), Name: main.Path, PURL: purl(main.Path, "")}
	byRef := map[string]component{}
	uses := map[string]bool{}
	for _, info := range infos {
		if info.Main.Path != main.Path {
			return bom{}, fmt.Errorf("%s and %s are not of one module", main.Path, info.Main.Path)
		}
		self.Properties = append(self.Properties, property{"fabtrail:program", info.Path})
		std := component{Type: "library", Ref: purl("std", strings.TrimPrefix(info.GoVersion, "go")), Name: "std",
			Version: strings.TrimPrefix(info.GoVersion, "go"), PURL: purl("std", strings.TrimPrefix(info.GoVersion, "go"))}
		byRef[std.Ref], uses[std.Ref] = std, true
		for _, m := range info.Deps {
			c, err := library(m)
			if err != nil {
				return bom{}, err
			}
			byRef[c.Ref], uses[c.Ref] = c, true
		}
	}
	out := bom{Format: "CycloneDX", Spec: "1.6", Version: 1, Metadata: metadata{self}, Components: []component{}}
	for _, c := range byRef {
		out.Components = append(out.Components, c)
	}
	slices.SortFunc(out.Components, func(a, b component) int { return strings.Compare(a.Ref, b.Ref) })
	d := dependency{Ref: self.Ref}
	for _, c := range out.Components {
		d.DependsOn = append(d.DependsOn, c.Ref)
	}
	out.Dependencies = []dependency{d}
	return out, nil
}

func library(m *debug.Module) (component, error) {
	for m.Replace != nil {
		m = m.Replace
	}
	c := component{Type: "library", Ref: purl(m.Path, m.Version), Name: m.Path, Version: m.Version, PURL: purl(m.Path, m.Version)}
	// h1: is the SHA-256 of the list of the module's files, as in go.sum; it is not
	// the digest of one file, so it is a property and no CycloneDX hash.
	if m.Sum != "" {
		sum, ok := strings.CutPrefix(m.Sum, "h1:")
		raw, err := base64.StdEncoding.DecodeString(sum)
		if !ok || err != nil || len(raw) != 32 {
			return c, fmt.Errorf("%s: checksum %q is not h1", m.Path, m.Sum)
		}
		c.Properties = []property{{"fabtrail:go.sum", m.Sum}}
	}
	return c, nil
}

func purl(path, version string) string {
	s := "pkg:golang/" + path
	if version != "" {
		s += "@" + strings.ReplaceAll(version, "+", "%2B")
	}
	return s
}
