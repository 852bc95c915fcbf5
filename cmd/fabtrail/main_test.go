package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"fabtrail": main,
		"exits":    exits,
	})
}

// exits runs a command and succeeds if that ends with the exit code given:
// exits CODE COMMAND ARG...
func exits() {
	want, err := strconv.Atoi(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	cmd := exec.Command(os.Args[2], os.Args[3:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != want {
		fmt.Fprintf(os.Stderr, "exit code %d (%v), want %d\n", got, err, want)
		os.Exit(1)
	}
}

// fabtraild is built once for all scripts: it is another program, so it cannot be
// run from within this test.
var fabtraild = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "fabtraild"); err != nil {
		return "", err
	}
	if out, err := exec.Command("go", "build", "-o", dir, "../fabtraild").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return dir, nil
})

// withServer puts fabtraild on the PATH of scripts.
func withServer(t *testing.T) func(env *testscript.Env) error {
	dir, err := fabtraild()
	if err != nil {
		t.Fatal(err)
	}
	return func(env *testscript.Env) error {
		env.Setenv("PATH", dir+string(filepath.ListSeparator)+env.Getenv("PATH"))
		env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, "state"))
		env.Setenv("NO_COLOR", "1")
		return nil
	}
}
