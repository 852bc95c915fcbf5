package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/client"
)

// TestDemoAsJSON runs the command as a script would.
func TestDemoAsJSON(t *testing.T) {
	var v struct {
		Origin     string   `json:"origin"`
		Size       uint64   `json:"size"`
		Checkpoint string   `json:"checkpoint"`
		Witnesses  []string `json:"witnesses"`
		Units      int      `json:"units"`
		Statements int      `json:"statements"`
		Seconds    float64  `json:"seconds"`
		Verdicts   []struct {
			URI     string   `json:"uri"`
			Verdict string   `json:"verdict"`
			Reasons []string `json:"reasons"`
		} `json:"verdicts"`
		Findings []struct {
			Rule, Tier, Unit, Actor string
			Evidence                []uint64
		} `json:"findings"`
	}
	out := run(t, "demo", "--devices", "40", "--seed", "4", "--exit", "--json")
	dec := json.NewDecoder(strings.NewReader(string(out)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if dec.More() {
		t.Error("more than one object is printed")
	}
	if v.Origin == "" || v.Size == 0 || !strings.HasPrefix(v.Checkpoint, v.Origin+"\n") || len(v.Witnesses) != 3 || v.Units != 160 || v.Statements == 0 || v.Seconds <= 0 {
		t.Errorf("the object is %s", out)
	}
	for _, x := range v.Verdicts {
		if x.URI == "" || x.Verdict == "" || x.Reasons == nil {
			t.Errorf("verdict %+v", x)
		}
	}
	var rules []string
	for _, f := range v.Findings {
		rules = append(rules, f.Rule)
		if f.Tier == "" || f.Unit == "" || f.Actor == "" || len(f.Evidence) == 0 {
			t.Errorf("finding %+v", f)
		}
	}
	slices.Sort(rules)
	if want := []string{"DOUBLE_INSTALL", "DUP_COMMISSION", "LANE", "MARKET", "PART_TWICE", "TRAVEL", "WRONG_RECEIVER"}; !slices.Equal(rules, want) {
		t.Errorf("findings %v, want %v", rules, want)
	}
}

// TestDemoKilled kills the demo in the middle. Its folder is then served like any
// other: what was published is there, and is the same history.
func TestDemoKilled(t *testing.T) {
	ctx := patience(t)
	dir := filepath.Join(t.TempDir(), "demo")
	cmd := command(t, "demo", "--data", dir, "--devices", "60", "--exit", "--listen", freeAddress(t))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last := watchDemo(t, ctx, "http://"+cmd.Args[len(cmd.Args)-1], dir, 250)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()

	var started struct {
		URL  string
		Size uint64
	}
	p := background(t, &started, "serve", "--data", dir, "--listen", "127.0.0.1:0")
	defer p.kill()
	if started.Size < last.Size {
		t.Fatalf("size %d after kill -9, %d was published before", started.Size, last.Size)
	}
	remote, trust := lookAt(t, started.URL, dir)
	note, err := remote.Checkpoint(ctx)
	if err != nil {
		t.Fatal(err)
	}
	now, err := trust.VerifyNote(note)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Consistent(ctx, remote, last, now); err != nil {
		t.Errorf("from size %d to %d: %v", last.Size, now.Size, err)
	}
	out, err := command(t, "demo", "--data", dir).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.Contains(string(out), "serve --data "+dir) {
		t.Errorf("a second demo in the same folder: %v, %s", err, out)
	}
}

// watchDemo follows the demo's checkpoint until it has grown to a size.
func watchDemo(t *testing.T, ctx context.Context, url, dir string, size uint64) *client.Seen {
	t.Helper()
	for {
		if _, err := os.Stat(filepath.Join(dir, "trust", client.PolicyFile)); err == nil {
			remote, trust := lookAt(t, url, dir)
			if note, err := remote.Checkpoint(ctx); err == nil {
				seen, err := trust.VerifyNote(note)
				if err != nil {
					t.Fatal(err)
				}
				if seen.Size >= size {
					return seen
				}
			}
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the demo has not come to size %d: %v", size, ctx.Err())
		case <-time.After(20 * time.Millisecond): // leave the processor to the demo
		}
	}
}

func lookAt(t *testing.T, url, dir string) (*client.Remote, *client.Trust) {
	t.Helper()
	remote, err := client.NewRemote(url, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	trust, err := client.LoadTrust(os.DirFS(filepath.Join(dir, "trust")))
	if err != nil {
		t.Fatal(err)
	}
	return remote, trust
}

func freeAddress(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", freePort(t))
}
