package main

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/internal/node"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// running is a witness in a process of its own.
type running struct {
	*process
	Name, VKey, URL string
}

func startWitness(t *testing.T, name string, args ...string) *running {
	t.Helper()
	w := &running{}
	w.process = background(t, w, append([]string{"witness", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--name", name}, args...)...)
	return w
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// oneshot is Tessera's example of a log in a folder.
func oneshot(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("tessera-posix-oneshot")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("tessera-posix-oneshot is missing: .ci/run installs it")
		}
		t.Skip("Tessera's posix-oneshot is not installed as tessera-posix-oneshot; see .ci/run")
	}
	return path
}

// TestTesseraLogIsCosigned runs Tessera's own log against our witnesses, each a
// process of its own, and all needed; and once more under another key.
func TestTesseraLogIsCosigned(t *testing.T) {
	tool := oneshot(t)
	const origin = "tessera.test/log"
	dir := t.TempDir()
	key := func(seed string) (skey string, vkey checkpoint.VKey) {
		sum := sha256.Sum256([]byte(seed))
		k := ed25519.NewKeyFromSeed(sum[:])
		skey, err := checkpoint.MarshalSKey(origin, checkpoint.TypeLog, k)
		if err != nil {
			t.Fatal(err)
		}
		if vkey, err = checkpoint.NewVKey(origin, checkpoint.TypeLog, k.Public().(ed25519.PublicKey)); err != nil {
			t.Fatal(err)
		}
		return skey, vkey
	}
	skey, vkey := key("the log")
	other, _ := key("another operator")
	list := write(t, filepath.Join(dir, "log-list"), "logs/v0\n\nvkey "+vkey.String()+"\nqpd 86400\ncontact nobody\n")
	policy := "log " + vkey.String() + "\n"
	names := ""
	var last *running
	for i, args := range [][]string{{"--log", vkey.String()}, {"--log-list", list}, {"--log-list", list, "--mark-dir", t.TempDir()}} {
		last = startWitness(t, fmt.Sprintf("w%d.test", i+1), args...)
		policy += fmt.Sprintf("witness w%d %s %s/\n", i+1, last.VKey, last.URL)
		names += fmt.Sprintf(" w%d", i+1)
	}
	policy += "group all-of-them all" + names + "\nquorum all-of-them\n"
	policyFile := write(t, filepath.Join(dir, "policy"), policy)
	p, err := checkpoint.ParsePolicy([]byte(policy))
	if err != nil {
		t.Fatal(err)
	}
	run := func(ctx context.Context, store, skey, entries string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, tool, "--storage_dir", store, "--entries", entries,
			"--private_key", write(t, store+".key", skey), "--witness_policy_file", policyFile)
		return cmd.CombinedOutput()
	}
	store := filepath.Join(dir, "log")
	for round := range 3 { // it grows, and each checkpoint has them all
		for i := range 5 {
			write(t, filepath.Join(dir, fmt.Sprintf("entries-%d", round), fmt.Sprint(i)), fmt.Sprintf("entry %d of %d", i, round))
		}
		if out, err := run(patience(t), store, skey, filepath.Join(dir, fmt.Sprintf("entries-%d", round), "*")); err != nil {
			t.Fatalf("posix-oneshot: %v\n%s", err, out)
		}
		note, err := os.ReadFile(filepath.Join(store, "checkpoint"))
		if err != nil {
			t.Fatal(err)
		}
		c, err := p.Verify(note)
		if err != nil || len(c.Cosigs) != 3 || c.Size != uint64(5*(round+1)) {
			t.Fatalf("size %d, cosigned by %d: %v\n%s", c.Size, len(c.Cosigs), err, note)
		}
	}

	// The same name under another key: refused, and never published.
	ctx, cancel := context.WithCancel(patience(t))
	defer cancel()
	ended := make(chan error, 1)
	forged := filepath.Join(dir, "forged")
	go func() {
		_, err := run(ctx, forged, other, filepath.Join(dir, "entries-0", "*"))
		ended <- err
	}()
	awaitMetric(t, ctx, last.URL, `fabtrail_witness_answers_total{origin="`+origin+`",reason="no-signature",status="403"}`)
	cancel()
	<-ended
	note, err := os.ReadFile(filepath.Join(forged, "checkpoint"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if _, err := p.Verify(note); err == nil {
		t.Errorf("a log under another key is cosigned: %s", note)
	}
}

// awaitMetric waits until a server shows a counter.
func awaitMetric(t *testing.T, ctx context.Context, url, series string) {
	t.Helper()
	for {
		resp, err := http.Get(url + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), series+" ") {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s never showed\n%s", series, b)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestWitnessProcesses has our log cosigned by two witnesses and one that
// verifies the index, each a process of its own; one is killed and comes back, and
// a monitor sees all of it.
func TestWitnessProcesses(t *testing.T) {
	ctx := patience(t)
	dir := filepath.Join(t.TempDir(), "ledger")
	run(t, "init", "--data", dir, "--origin", "ledger.test/witnessed", "--operator", operatorParty)
	token, audit := filepath.Join(dir, "admin.token"), filepath.Join(dir, "audit.token")
	run(t, "token", "--data", dir, "--party", operatorParty, "--scope", "admin", "--scope", "audit", "--out", token)
	run(t, "token", "--data", dir, "--party", operatorParty, "--scope", "audit", "--out", audit)
	log := filepath.Join(dir, "trust", client.LogFile)
	addr := freeAddress(t)
	a, b := startWitness(t, "a.test", "--log", log), startWitness(t, "b.test", "--log", log, "--observe", "http://"+addr)
	data := t.TempDir()
	indexArgs := []string{"witness", "--data", data, "--name", "index.test", "--log", log, "--verify-index", "--source", "http://" + addr, "--token", audit}
	index := &running{}
	index.process = background(t, index, append(indexArgs, "--listen", "127.0.0.1:0")...)
	var started struct{ URL string }
	p := background(t, &started, "serve", "--data", dir, "--listen", addr, "--count-index", "--quorum", "3",
		"--witness", a.URL+"="+a.VKey, "--witness", b.URL+"="+b.VKey, "--index-witness", index.URL+"="+index.VKey)
	ack := &acknowledged{receipts: map[entry.Hash]*client.Recorded{}}
	w := &writer{t: t, ack: ack}
	s := w.connect(dir, started.URL, token)
	w.enrol(ctx, s, dir)
	trust, err := client.LoadTrust(os.DirFS(filepath.Join(dir, "trust")))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range ack.receipts {
		if c := r.Proof.Checkpoint; len(c.Cosigs) != 3 || len(c.Index) != 1 {
			t.Fatalf("cosigned by %d, of whom %d verify the index", len(c.Cosigs), len(c.Index))
		}
	}
	witnesses, err := trust.WitnessesOf(client.Options{Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	mem := seen{}
	m := client.Monitor{Log: s.Remote, Trust: trust, Witnesses: witnesses, Memory: mem,
		SaveFork: func(f *client.Fork) error { return f }}
	look := func(want ...string) {
		t.Helper()
		o, err := m.Look(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range o.Alarms {
			got = append(got, a.Code+" "+a.Witness)
		}
		if strings.Join(got, ", ") != strings.Join(want, ", ") {
			t.Fatalf("alarms %q, want %q", got, want)
		}
	}
	look()
	index.kill()
	look("witness index.test")
	again := &running{}
	again.process = background(t, again, append(indexArgs, "--listen", strings.TrimPrefix(index.URL, "http://"))...)
	if again.VKey != index.VKey {
		t.Fatal("it came back with another key")
	}
	w.load(ctx, s, ack.count()+40, func() {})
	look()
	if code := p.stop(); code != 0 && code != 130 {
		t.Errorf("serve ended with %d", code)
	}
	look("unreachable ")
	if _, err := node.ReadVKey(filepath.Join(data, "trust", "witness.vkey")); err != nil {
		t.Error(err)
	}
}

// seen is a client.Memory.
type seen map[string][]byte

func (s seen) Load(origin string) ([]byte, error)     { return s[origin], nil }
func (s seen) Store(origin string, note []byte) error { s[origin] = note; return nil }

// TestWitnessUsage: what a command line must not say.
func TestWitnessUsage(t *testing.T) {
	dir := t.TempDir()
	bad := write(t, filepath.Join(dir, "list"), "logs/v1\n")
	for _, args := range [][]string{
		{},
		{"--log-list", bad},
		{"--log-list", filepath.Join(dir, "none")},
		{"--log", "nonsense"},
		{"--log", filepath.Join(dir, "none"), "--verify-index"},
	} {
		cmd := command(t, append([]string{"witness", "--data", filepath.Join(dir, "w"), "--name", "w.test", "--listen", "127.0.0.1:0"}, args...)...)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 2 {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
		if _, err := os.Stat(filepath.Join(dir, "w")); err == nil {
			t.Errorf("%v: a folder was made", args)
		}
	}
}
