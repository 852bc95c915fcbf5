package main

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/cli"
	"fabtrail.dev/fabtrail/internal/node"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/witness"
)

const monOrigin = "ledger.test/monitor"

// twoFaced is an operator with one ledger and a copy of it that goes another way.
type twoFaced struct {
	t         *testing.T
	folder    node.Folder
	authority crypto.Signer
	witnesses []node.Cosigner
}

func newTwoFaced(t *testing.T) *twoFaced {
	t.Helper()
	o := &twoFaced{t: t, folder: node.Folder(filepath.Join(t.TempDir(), "ledger"))}
	must(t, o.folder.Init(node.InitConfig{Origin: monOrigin, Operator: exOperator, Created: time.Now()}))
	var err error
	o.authority, err = readKey(o.folder.AuthorityKey())
	must(t, err)
	for _, name := range []string{"w1.test", "w2.test", "w3.test"} {
		o.witnesses = append(o.witnesses, o.witness(name))
	}
	return o
}

// witness runs one over HTTP.
func (o *twoFaced) witness(name string) node.Cosigner {
	o.t.Helper()
	log, err := node.ReadVKey(filepath.Join(o.folder.Trust(), client.LogFile))
	must(o.t, err)
	w, err := node.OpenWitness(node.WitnessConfig{Dir: o.t.TempDir(), Name: name,
		Logs: []witness.Log{{Origin: log.Name, Keys: []checkpoint.VKey{log}}}})
	must(o.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	addr, ended := make(chan string, 1), make(chan error, 1)
	go func() { ended <- w.Serve(ctx, "127.0.0.1:0", nil, func(a string) { addr <- a }) }()
	o.t.Cleanup(func() {
		cancel()
		must(o.t, <-ended)
		must(o.t, w.Close())
	})
	return node.Cosigner{URL: "http://" + <-addr, VKey: w.VKey()}
}

// serve runs the ledger of a folder until the returned func is called.
func (o *twoFaced) serve(f node.Folder) (url string, stop func()) {
	o.t.Helper()
	n, err := node.Open(context.Background(), node.Config{Folder: f, Manual: true})
	must(o.t, err)
	srv := httptest.NewServer(n.Handler())
	done := false
	stop = func() {
		if !done {
			done = true
			srv.Close()
			must(o.t, n.Close())
		}
	}
	o.t.Cleanup(stop)
	return srv.URL, stop
}

// enrol has a party enrolled by the authority, and so makes entries.
func (o *twoFaced) enrol(url, party, name string) {
	o.t.Helper()
	st, _, err := o.folder.Charter()
	must(o.t, err)
	key, err := custody.GenerateKey(custody.Ed25519)
	must(o.t, err)
	k, err := custody.NewKey(key.Public())
	must(o.t, err)
	payload, err := custody.NewPayload(custody.KindParty, party, st.ID, nil, &custody.Party{LegalName: name, Roles: []string{custody.RoleMaker}, Keys: []custody.KeyRecord{k.Record()}})
	must(o.t, err)
	envelope, err := custody.Sign(payload, o.authority, key)
	must(o.t, err)
	o.post(url, envelope)
}

// post submits a statement as the operator, whose receipt is not checked.
func (o *twoFaced) post(url string, envelope []byte) *client.Recorded {
	o.t.Helper()
	token, err := o.folder.Token(exOperator, []string{"admin"}, time.Hour)
	must(o.t, err)
	r, err := client.NewRemote(url, client.Options{Token: token})
	must(o.t, err)
	s := client.Submitter{Remote: r}
	rec, err := s.Submit(o.t.Context(), envelope)
	must(o.t, err)
	return rec
}

// fabtrail runs the program and returns its exit code and output.
func fabtrail(t *testing.T, args ...string) (int, string) {
	t.Helper()
	var stdout bytes.Buffer
	c := root()
	c.SetOut(&stdout)
	c.SetErr(io.Discard)
	c.SetArgs(args)
	return cli.Main(c), stdout.String()
}

// An operator shows one history to most and another to one witness: the
// witnesses that know the first refuse the second, a client that saw the first is
// not fooled by the second, and a monitor that asks all convicts the operator.
func TestTwoHistories(t *testing.T) {
	o := newTwoFaced(t)
	must(t, o.folder.SetPolicy(o.witnesses[:2], 2, false, false))
	url, stop := o.serve(o.folder)
	o.enrol(url, exMaker, "Maker")
	stop()
	other := node.Folder(filepath.Join(t.TempDir(), "other"))
	must(t, os.CopyFS(string(other), os.DirFS(string(o.folder))))
	keys, err := filepath.Glob(filepath.Join(string(other), "keys", "*"))
	must(t, err)
	for _, key := range keys { // CopyFS widens modes
		must(t, os.Chmod(key, 0o600))
	}

	// The first history, under three witnesses of whom others ask for two.
	must(t, o.folder.SetPolicy(o.witnesses, 3, false, true)) // so that each has seen it
	url, stop = o.serve(o.folder)
	o.enrol(url, exInstaller, "Installer")
	trust := filepath.Join(t.TempDir(), "trust")
	must(t, os.CopyFS(trust, os.DirFS(o.folder.Trust())))
	edit(t, filepath.Join(trust, client.PolicyFile), "group witnesses 3", "group witnesses 2")
	state := filepath.Join(t.TempDir(), "state")
	monitor := func(url string, more ...string) (int, string) {
		return fabtrail(t, append([]string{"monitor", "--server", url, "--trust", trust, "--state", state, "--once", "--json"}, more...)...)
	}
	code, out := monitor(url)
	var seen client.Observation
	must(t, json.Unmarshal([]byte(out), &seen))
	if code != cli.OK || len(seen.Alarms) != 0 || seen.Size == 0 || !seen.Advanced {
		t.Fatalf("an honest log: exit %d, %s", code, out)
	}
	unit := exProduct + "/21/NEVER"
	verify := []string{"verify", unit, "--trust", trust, "--state", filepath.Join(t.TempDir(), "client"), "--server"}
	if code, out := fabtrail(t, append(verify, url)...); code != cli.NotInLedger {
		t.Fatalf("the client sees the first history: exit %d, %s", code, out)
	}

	// The second history, that only the third witness is asked about: it has seen
	// the first, too, and refuses.
	stop()
	must(t, other.SetPolicy(o.witnesses[2:], 1, false, true))
	if n, err := node.Open(context.Background(), node.Config{Folder: other, Manual: true}); err == nil {
		must(t, n.Close())
		t.Fatal("a copy that is behind its witness signs")
	}
	forged := forge(t, o) // with a tool of the operator's own, then
	for _, w := range o.witnesses {
		if status := addCheckpoint(t, w.URL, forged); status != http.StatusConflict && status != http.StatusUnprocessableEntity {
			t.Errorf("witness %s answers %d to a second history", w.VKey.Name, status)
		}
	}

	// A witness that lost its memory (or is the operator's friend) cosigns it.
	friend := o.witness("w3.test")
	if status := addCheckpoint(t, friend.URL, forged); status != http.StatusOK {
		t.Fatalf("the friend answers %d", status)
	}
	url, stop = o.serve(o.folder)
	defer stop()
	edit(t, filepath.Join(trust, client.PolicyFile), o.witnesses[2].VKey.String()+" "+o.witnesses[2].URL, friend.VKey.String()+" "+friend.URL)
	code, out = monitor(url)
	must(t, json.Unmarshal([]byte(out), &seen))
	proofs, err := filepath.Glob(filepath.Join(state, "fork-*.json"))
	must(t, err)
	if code != cli.Failed || !hasAlarm(seen, client.AlarmFork) || len(proofs) != 1 {
		t.Fatalf("two histories: exit %d, %d proofs, %s", code, len(proofs), out)
	}
	if code, out := fabtrail(t, "verify", "fork", proofs[0], "--trust", trust); code != cli.OK || !strings.Contains(out, "two histories") {
		t.Errorf("the proof convicts nobody: exit %d, %s", code, out)
	}

	// Whoever remembers the first is not fooled by a mirror with the second.
	mirror := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { _, _ = rw.Write(forged) }))
	defer mirror.Close()
	remote, err := client.NewRemote(mirror.URL, client.Options{Attempts: 1})
	must(t, err)
	tr, err := client.LoadTrust(os.DirFS(trust))
	must(t, err)
	mem, err := newMemory(state, tr)
	must(t, err)
	m := client.Monitor{Log: remote, Trust: tr, Memory: mem, SaveFork: func(f *client.Fork) error { return keepFork(state, f) }}
	obs, err := m.Look(t.Context())
	must(t, err)
	if !hasAlarm(*obs, client.AlarmFork) || obs.Advanced {
		t.Errorf("a mirror with the second history: %+v", obs.Alarms)
	}
}

func hasAlarm(o client.Observation, code string) bool {
	for _, a := range o.Alarms {
		if a.Code == code {
			return true
		}
	}
	return false
}

// forge signs another root at the published size with the log's own key.
func forge(t *testing.T, o *twoFaced) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(string(o.folder), "keys", "log.skey"))
	must(t, err)
	signer, err := checkpoint.ParseSKey(strings.TrimSpace(string(b)))
	must(t, err)
	r, err := client.NewRemote(o.witnesses[0].URL, client.Options{Attempts: 1})
	must(t, err)
	note, err := r.WitnessView(t.Context(), monOrigin)
	must(t, err)
	n, err := checkpoint.ParseNote(note)
	must(t, err)
	cp, err := checkpoint.ParseCheckpoint(n.Text)
	must(t, err)
	cp.Root = entry.Hash{7}
	sig, err := signer.SignLog(cp.Text())
	must(t, err)
	return checkpoint.Note{Text: cp.Text(), Sigs: []checkpoint.NoteSig{sig}}.Marshal()
}

// addCheckpoint submits a note as a witness's first, and again as it answers.
func addCheckpoint(t *testing.T, url string, note []byte) int {
	t.Helper()
	old := "0"
	for range 2 {
		resp, err := http.Post(url+"/add-checkpoint", "text/plain", strings.NewReader("old "+old+"\n\n"+string(note)))
		must(t, err)
		b, err := io.ReadAll(resp.Body)
		must(t, err)
		must(t, resp.Body.Close())
		if resp.StatusCode != http.StatusConflict {
			return resp.StatusCode
		}
		old = strings.TrimSpace(string(b))
	}
	return http.StatusConflict
}

// edit replaces a part of a file.
func edit(t *testing.T, path, old, new string) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	s := strings.ReplaceAll(string(b), old, new)
	if s == string(b) {
		t.Fatalf("%s does not hold %q", path, old)
	}
	must(t, os.WriteFile(path, []byte(s), 0o644))
}

// Rounds go on until a fork; metrics show each alarm, also those that are silent.
func TestMonitorRounds(t *testing.T) {
	o := newTwoFaced(t)
	must(t, o.folder.SetPolicy(o.witnesses, 2, false, false))
	url, stop := o.serve(o.folder)
	defer stop()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	addr := l.Addr().String()
	must(t, l.Close())
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	c := root()
	c.SetOut(in)
	c.SetErr(io.Discard)
	c.SetContext(ctx)
	c.SetArgs([]string{"monitor", "--server", url, "--trust", o.folder.Trust(), "--state", t.TempDir(), "--interval", "1ms", "--metrics", addr, "--json"})
	c.PersistentFlags().Bool("json", false, "")
	ended := make(chan error, 1)
	go func() {
		ended <- c.ExecuteContext(ctx)
		_ = in.Close()
	}()
	dec := json.NewDecoder(out)
	var obs client.Observation
	for range 3 {
		must(t, dec.Decode(&obs))
	}
	if len(obs.Alarms) != 0 {
		t.Errorf("alarms %+v", obs.Alarms)
	}
	resp, err := http.Get("http://" + addr + "/metrics")
	must(t, err)
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	must(t, resp.Body.Close())
	for _, want := range []string{
		`fabtrail_monitor_alarms{code="fork"} 0`, `fabtrail_monitor_alarms{code="witness-lag"} 0`,
		`fabtrail_monitor_size `, `fabtrail_monitor_forks_total 0`, `fabtrail_monitor_witness_size{witness="w1.test"}`,
		`fabtrail_monitor_rounds_total{outcome="ok"}`,
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	stop() // the log goes away: an alarm, and the rounds go on
	for !hasAlarm(obs, client.AlarmUnreachable) {
		obs = client.Observation{}
		must(t, dec.Decode(&obs))
	}
	cancel()
	go func() { _, _ = io.Copy(io.Discard, out) }()
	err = <-ended
	var exit *cli.Exit
	if !errors.As(err, &exit) || exit.Code != cli.CouldNot {
		t.Errorf("ended with %v, want exit %d", err, cli.CouldNot)
	}
}

func TestMonitorUsage(t *testing.T) {
	for _, args := range [][]string{
		{"monitor"},
		{"monitor", "--server", "http://127.0.0.1:1"},
		{"monitor", "--server", "nonsense", "--trust", "x"},
		{"monitor", "--server", "http://127.0.0.1:1", "--trust", "x", "--interval", "0s"},
	} {
		if code, _ := fabtrail(t, args...); code != cli.Usage && code != cli.CouldNot {
			t.Errorf("%v: exit %d", args, code)
		}
	}
	o := newTwoFaced(t)
	must(t, o.folder.SetPolicy(o.witnesses, 2, false, false))
	_, stop := o.serve(o.folder)
	stop()
	code, out := fabtrail(t, "monitor", "--server", "http://127.0.0.1:1", "--trust", o.folder.Trust(), "--state", t.TempDir(), "--once", "--json")
	if code != cli.CouldNot || !strings.Contains(out, client.AlarmUnreachable) {
		t.Errorf("a log that is not there: exit %d, %s", code, out)
	}
}
