package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"fabtrail.dev/fabtrail/internal/cli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"fabtrail": main,
		"exits":    exits,
		"isjson":   isJSON,
	})
}

// TestScripts runs testdata/*.txt. $LEDGER and $WITNESS are free addresses.
func TestScripts(t *testing.T) {
	setup := withServer(t)
	testscript.Run(t, testscript.Params{
		Dir:  "testdata",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"jsonenv": jsonEnv},
		Setup: func(env *testscript.Env) error {
			env.Setenv("LEDGER", freeAddress(t))
			env.Setenv("WITNESS", freeAddress(t))
			return setup(env)
		},
	})
}

// jsonEnv sets a variable to a text member of a JSON object:
// jsonenv VARIABLE FILE MEMBER.
func jsonEnv(ts *testscript.TestScript, _ bool, args []string) {
	var v map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &v))
	s, ok := v[args[2]].(string)
	if !ok {
		ts.Fatalf("there is no text %q in %s", args[2], args[1])
	}
	ts.Setenv(args[0], s)
}

// isJSON reads standard input and succeeds if that is exactly one JSON object with
// the members given: isjson MEMBER...
func isJSON() {
	b, err := io.ReadAll(os.Stdin)
	var v map[string]json.RawMessage
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	for _, name := range os.Args[1:] {
		if _, ok := v[name]; !ok && err == nil {
			err = fmt.Errorf("there is no member %q", name)
		}
	}
	if err == nil && strings.Count(string(b), "\n") != 1 {
		err = errors.New("it is not on one line")
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%v in:\n%s\n", err, b)
		os.Exit(1)
	}
}

// TestHelp: every command says what it does, shows how with flags that exist, lists
// its exit codes, and takes --json.
func TestHelp(t *testing.T) {
	c := root()
	cli.Prepare(c)
	for _, missing := range cli.Undocumented(c) {
		t.Error(missing)
	}
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
