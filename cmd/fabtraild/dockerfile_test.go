package main

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// buildImage runs the Dockerfile's own build command and returns the folder that
// stands for the build stage's /out. It compiles everything anew, which takes
// minutes: it is left to continuous integration; elsewhere it returns "".
func buildImage(t *testing.T) string {
	t.Helper()
	if testing.Short() || os.Getenv("CI") == "" {
		return ""
	}
	line := readDockerfile(t).run("go build")
	if line == "" {
		t.Fatal("the Dockerfile does not build anything")
	}
	dir := t.TempDir()
	cmd := exec.Command("sh", "-c", strings.ReplaceAll(line, "/out/", dir+"/"))
	cmd.Dir = repository
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return dir
}

// dockerfile is a Dockerfile in its instructions, one stage after another.
type dockerfile struct{ stages []buildStage }

type buildStage struct {
	from, name   string
	instructions [][2]string // instruction, rest
}

func readDockerfile(t *testing.T) (d dockerfile) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(repository, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(b), "\\\n", "")
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		rest = strings.TrimSpace(rest)
		if word == "FROM" {
			from, name, _ := strings.Cut(rest, " AS ")
			d.stages = append(d.stages, buildStage{from: from, name: name})
			continue
		}
		if len(d.stages) == 0 {
			t.Fatalf("%s before the first FROM", word)
		}
		last := &d.stages[len(d.stages)-1]
		last.instructions = append(last.instructions, [2]string{word, rest})
	}
	if len(d.stages) < 2 {
		t.Fatal("the Dockerfile has no build stage")
	}
	return d
}

// run is the command of the build stage that holds a text.
func (d dockerfile) run(holds string) string {
	for _, i := range d.stages[0].instructions {
		if i[0] == "RUN" && strings.Contains(i[1], holds) {
			return i[1]
		}
	}
	return ""
}

// of lists the rests of a stage's instructions of one kind.
func (s buildStage) of(word string) (rests []string) {
	for _, i := range s.instructions {
		if i[0] == word {
			rests = append(rests, i[1])
		}
	}
	return rests
}

// checkDockerfile checks that what the final stage takes is there, and that nobody
// is root in it.
func checkDockerfile(t *testing.T, image string) {
	d := readDockerfile(t)
	build, final := d.stages[0], d.stages[len(d.stages)-1]
	for _, c := range build.of("COPY") {
		words := strings.Fields(c)
		for _, src := range words[:len(words)-1] {
			if _, err := os.Stat(filepath.Join(repository, src)); err != nil {
				t.Errorf("COPY %s: %v", c, err)
			}
		}
	}
	mod, err := os.ReadFile(filepath.Join(repository, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.TrimPrefix(build.from, "golang:"); !strings.Contains(string(mod), "\ngo "+want) {
		t.Errorf("built with %s, which is not the version that go.mod asks for", build.from)
	}
	made := d.made(t, image)
	has := map[string]bool{} // paths of the final image
	for _, c := range final.of("COPY") {
		words := strings.Fields(c)
		for strings.HasPrefix(words[0], "--") {
			if from, ok := strings.CutPrefix(words[0], "--from="); ok && from != build.name {
				t.Errorf("COPY %s: there is no stage %s", c, from)
			}
			words = words[1:]
		}
		to := words[len(words)-1]
		for _, src := range words[:len(words)-1] {
			if !made(src) {
				t.Errorf("COPY %s: the build does not make it", src)
			}
			if strings.HasSuffix(to, "/") {
				to += filepath.Base(src)
			}
			has[to] = true
			to = words[len(words)-1]
		}
	}
	if entry := final.of("ENTRYPOINT"); len(entry) != 1 || !has[strings.Trim(entry[0], `[]"`)] {
		t.Errorf("ENTRYPOINT %v is not in the image %v", entry, slices.Sorted(maps.Keys(has)))
	}
	if user := final.of("USER"); len(user) != 1 || user[0] == "" || user[0][0] == '0' || strings.HasPrefix(user[0], "root") {
		t.Errorf("USER %v", user)
	}
	// A volume takes over the owner of the image's folder only if there is one.
	for name, s := range readComposition(t).Services {
		if s.Build != "." {
			continue // an image of another stage
		}
		for _, m := range s.mounts(t) {
			if !m.readOnly && !made("/out"+m.at) {
				t.Errorf("%s writes to %s, which the image does not have: it would be root's", name, m.at)
			}
		}
	}
}

// made says what the build stage makes: as seen in what it did make, or by its
// command where it was not run.
func (d dockerfile) made(t *testing.T, image string) func(path string) bool {
	t.Helper()
	certificates := "/etc/ssl/certs/ca-certificates.crt" // golang images have it
	if image == "" {
		var paths []string
		for _, w := range strings.Fields(d.run("go build")) {
			if name, ok := strings.CutPrefix(w, "./cmd/"); ok {
				paths = append(paths, "/out/"+name)
			} else if strings.HasPrefix(w, "/out/") {
				paths = append(paths, strings.TrimSuffix(w, "/"))
			}
		}
		return func(path string) bool {
			return path == certificates || slices.ContainsFunc(paths, func(p string) bool { return p == path || strings.HasPrefix(p, path+"/") })
		}
	}
	info, err := exec.Command("go", "version", "-m", filepath.Join(image, "fabtraild")).Output()
	if err != nil || !bytes.Contains(info, []byte("CGO_ENABLED=0")) {
		t.Errorf("fabtraild is not static: %v %s", err, info)
	}
	return func(path string) bool {
		_, err := os.Stat(filepath.Join(image, strings.TrimPrefix(path, "/out")))
		return path == certificates || err == nil
	}
}
