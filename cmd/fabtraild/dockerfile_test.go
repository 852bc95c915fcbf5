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

	"fabtrail.dev/fabtrail/ledger/trillian/clustertest"
)

// buildImage runs the Dockerfile's own build command and returns the folder that
// stands for the build stage's /out. It compiles everything anew, which takes
// minutes: it is left to continuous integration; elsewhere it returns "".
func buildImage(t *testing.T) string {
	t.Helper()
	if testing.Short() || os.Getenv("CI") == "" {
		return ""
	}
	line := readDockerfile(t).stages[0].run("go build")
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

// buildTrillian runs the command of the stage that makes Trillian's servers, on what
// that stage copies, and returns the folder that stands for its /out. They are compiled
// as .ci/run does it for the tests, so that there they are in the build cache; elsewhere
// that part is left out, but for looking whether it could be done, and it returns "".
func buildTrillian(t *testing.T) string {
	t.Helper()
	stage := readDockerfile(t).stage(t, "trillian-build")
	line := stage.run("go install")
	really := os.Getenv("CI") != "" && !testing.Short()
	if !really {
		line = strings.Replace(line, "go install", "go install -n", 1)
	}
	src, out := t.TempDir(), t.TempDir()
	for _, c := range stage.of("COPY") {
		words := strings.Fields(c)
		for _, name := range words[:len(words)-1] {
			b, err := os.ReadFile(filepath.Join(repository, name))
			if err == nil {
				err = os.WriteFile(filepath.Join(src, name), b, 0o600)
			}
			if err != nil {
				t.Fatalf("COPY %s: %v", c, err)
			}
		}
	}
	line = strings.ReplaceAll(line, "mkdir -p /out", "true")
	cmd := exec.Command("sh", "-c", strings.ReplaceAll(line, "/out", out))
	cmd.Dir = src
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, b)
	}
	schema, err := os.ReadFile(filepath.Join(out, "storage.sql"))
	if err != nil || !bytes.Contains(schema, []byte("CREATE TABLE IF NOT EXISTS Trees")) {
		t.Errorf("Trillian's tables are not in %q: %v", schema, err)
	}
	if !really {
		return ""
	}
	return out
}

// checkTrillian checks that the other stages take only what there is, and that the
// servers that were built are what go.mod names, static, with the one storage system.
func checkTrillian(t *testing.T, image string) {
	d := readDockerfile(t)
	build := d.stage(t, "trillian-build")
	makes := build.run("go install")
	for _, s := range d.stages {
		for _, c := range s.of("COPY") {
			rest, ok := strings.CutPrefix(c, "--from=trillian-build ")
			if !ok {
				continue
			}
			words := strings.Fields(rest)
			for _, src := range words[:len(words)-1] {
				if name := filepath.Base(src); !strings.Contains(makes, "/cmd/"+name+"@$V") && !strings.Contains(makes, "/"+name+`" /out/`) {
					t.Errorf("COPY %s: %s does not make %s", c, makes, src)
				}
			}
		}
	}
	for _, name := range []string{"trillian", "postgres"} {
		if user := d.stage(t, name).of("USER"); len(user) != 1 || user[0] == "" || user[0][0] == '0' || strings.HasPrefix(user[0], "root") {
			t.Errorf("stage %s: USER %v", name, user)
		}
	}
	if image == "" {
		return
	}
	for _, name := range []string{"trillian_log_server", "trillian_log_signer"} {
		info, err := exec.Command("go", "version", "-m", filepath.Join(image, name)).Output()
		for _, want := range []string{"mod\tgithub.com/google/trillian\t" + clustertest.Version, "CGO_ENABLED=0", "-tags=postgresql"} {
			if err != nil || !bytes.Contains(info, []byte(want)) {
				t.Errorf("%s is without %q: %v\n%.500s", name, want, err, info)
			}
		}
	}
}

// stage is the stage of a name.
func (d dockerfile) stage(t *testing.T, name string) buildStage {
	t.Helper()
	i := slices.IndexFunc(d.stages, func(s buildStage) bool { return s.name == name })
	if i < 0 {
		t.Fatalf("the Dockerfile has no stage %s", name)
	}
	return d.stages[i]
}

// run is the stage's command that holds a text.
func (s buildStage) run(holds string) string {
	for _, i := range s.instructions {
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
		for _, w := range strings.Fields(d.stages[0].run("go build")) {
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
