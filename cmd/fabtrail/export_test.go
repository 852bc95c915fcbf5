package main

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/in-toto/in-toto-golang/in_toto"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/cli"
	"fabtrail.dev/fabtrail/internal/node"
	"fabtrail.dev/fabtrail/ledger/entry"
)

const (
	exOperator  = "https://id.gs1.org/417/9506000100005"
	exMaker     = "https://id.gs1.org/417/9506000140001"
	exInstaller = "https://id.gs1.org/417/9506000150000"
	exProduct   = "https://id.gs1.org/01/09506000134352"
)

// stage is a ledger that serves HTTP, with two parties on it.
type stage struct {
	t         *testing.T
	folder    node.Folder
	url       string
	ledger    entry.Hash
	submit    client.Submitter
	authority crypto.Signer
	keys      map[string]crypto.Signer
	at        map[string]*custody.Chain // the chain that a unit's next statement has
	audit     string                    // token file
}

func newStage(t *testing.T) *stage {
	t.Helper()
	f := node.Folder(filepath.Join(t.TempDir(), "ledger"))
	must(t, f.Init(node.InitConfig{Origin: "ledger.test/export", Operator: exOperator, Created: time.Now()}))
	n, err := node.Open(context.Background(), node.Config{Folder: f, Manual: true})
	must(t, err)
	srv := httptest.NewServer(n.Handler())
	t.Cleanup(func() {
		srv.Close()
		must(t, n.Close())
	})
	s := &stage{t: t, folder: f, url: srv.URL, keys: map[string]crypto.Signer{}, at: map[string]*custody.Chain{}}
	charter, _, err := f.Charter()
	must(t, err)
	s.ledger = charter.ID
	s.authority, err = readKey(f.AuthorityKey())
	must(t, err)
	trust, err := client.LoadTrust(os.DirFS(f.Trust()))
	must(t, err)
	token, err := f.Token(exOperator, []string{"admin"}, time.Hour)
	must(t, err)
	remote, err := client.NewRemote(srv.URL, client.Options{Token: token})
	must(t, err)
	s.submit = client.Submitter{Remote: remote, Trust: trust}
	audit, err := f.Token("https://id.gs1.org/417/9506000199990", []string{"audit"}, time.Hour)
	must(t, err)
	s.audit = filepath.Join(t.TempDir(), "audit.token")
	must(t, os.WriteFile(s.audit, []byte(audit), 0o600))
	s.enrol(exMaker, custody.RoleMaker, custody.RoleBrand)
	s.enrol(exInstaller, custody.RoleInstaller, custody.RoleRegistrar)
	s.post(custody.KindProduct, exProduct, nil, &custody.Product{Owner: exMaker, Kind: "device"}, s.authority, s.keys[exMaker])
	s.post(custody.KindSerialBlock, exProduct+"/10/L1", nil, &custody.SerialBlock{Actor: exMaker, Count: 10, Commissioners: []string{exMaker}}, s.keys[exMaker])
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *stage) enrol(party string, roles ...string) {
	s.t.Helper()
	key, err := custody.GenerateKey(custody.ECDSAP256)
	must(s.t, err)
	k, err := custody.NewKey(key.Public())
	must(s.t, err)
	s.keys[party] = key
	s.post(custody.KindParty, party, nil, &custody.Party{LegalName: "Party", Roles: roles, Keys: []custody.KeyRecord{k.Record()}}, s.authority, key)
}

func (s *stage) post(kind custody.Kind, subject string, ev *custody.Event, body any, keys ...crypto.Signer) entry.Hash {
	s.t.Helper()
	payload, err := custody.NewPayload(kind, subject, s.ledger, ev, body)
	must(s.t, err)
	envelope, err := custody.Sign(payload, keys...)
	must(s.t, err)
	r, err := s.submit.Submit(s.t.Context(), envelope)
	must(s.t, err)
	if r.Effect != "applied" {
		s.t.Fatalf("%s of %s: %s", kind, subject, r.Effect)
	}
	return r.ID
}

// act posts a statement of a party about a unit.
func (s *stage) act(kind custody.Kind, party, unit string, body any) entry.Hash {
	s.t.Helper()
	info, _ := kind.Info()
	now := time.Now().UTC().Truncate(time.Second)
	ev := &custody.Event{EventID: custody.NewEventID(now, nil), OccurredAt: custody.FormatTime(now), Actor: party, Chain: custody.Unchained()}
	if info.Chained {
		if ev.Chain = s.at[unit]; ev.Chain == nil {
			ev.Chain = custody.First()
		}
	}
	seq := ev.Chain.Seq
	id := s.post(kind, unit, ev, body, s.keys[party])
	if info.Chained {
		s.at[unit] = custody.Next(seq, id)
	}
	return id
}

// device is commissioned and registered.
func (s *stage) device(serial string) string {
	s.t.Helper()
	unit := exProduct + "/21/" + serial
	s.act(custody.KindCommission, exMaker, unit, &custody.Commission{UnitKind: "device", Lot: "L1"})
	s.act(custody.KindIdentity, exInstaller, unit, &custody.Identity{State: "registered"})
	return unit
}

func (s *stage) release(unit string) entry.Hash {
	s.t.Helper()
	return s.act(custody.KindRelease, exMaker, unit, &custody.Release{From: exMaker, To: exInstaller})
}

// export runs the command and returns its exit code and output.
func (s *stage) export(unit, out, key string, more ...string) (int, []byte) {
	s.t.Helper()
	var stdout bytes.Buffer
	c := root()
	c.SetOut(&stdout)
	c.SetArgs(append([]string{"export", "layout", unit, "--server", s.url, "--trust", s.folder.Trust(), "--token", s.audit,
		"--state", filepath.Join(s.t.TempDir(), "state"), "--sign", key, "--out", out, "--json"}, more...))
	return cli.Main(c), stdout.Bytes()
}

// TestExportLayout exports over HTTP and runs the tool that in-toto's users have.
func TestExportLayout(t *testing.T) {
	s := newStage(t)
	unit := s.device("GOOD")
	s.act(custody.KindAccept, exInstaller, unit, &custody.Accept{Accepts: custody.DigestOf(s.release(unit))})
	s.act(custody.KindInstall, exInstaller, unit, &custody.Install{})
	open := s.device("OPEN")
	s.release(open)
	held := s.device("HELD")
	s.act(custody.KindHold, exMaker, held, &custody.Hold{Reason: "quarantine"})

	dir := t.TempDir()
	key := filepath.Join(dir, "auditor.pem")
	signer, err := custody.GenerateKey(custody.ECDSAP384)
	must(t, err)
	pem, err := custody.MarshalPrivateKey(signer)
	must(t, err)
	must(t, os.WriteFile(key, pem, 0o600))

	out := filepath.Join(dir, "deep", "export")
	code, stdout := s.export(unit, out, key)
	var said struct {
		Links, Receipts int
		Steps           []struct{ Name string }
	}
	if err := json.Unmarshal(stdout, &said); code != cli.OK || err != nil {
		t.Fatalf("exit %d, %v: %s", code, err, stdout)
	}
	var steps []string
	for _, st := range said.Steps {
		steps = append(steps, st.Name)
	}
	if want := []string{"1-commission", "2-hand-over", "3-install"}; !slices.Equal(steps, want) || said.Links != 4 || said.Receipts != 4 {
		t.Errorf("steps %v, %d links, %d receipts; want %v, 4 and 4", steps, said.Links, said.Receipts, want)
	}
	inToto(t, out, true)
	receipts(t, s, out)

	acceptance := linksOf(t, out, "2-hand-over", exInstaller)
	must(t, os.Rename(acceptance, filepath.Join(dir, "kept")))
	inToto(t, out, false)

	if code, _ := s.export(unit, out, key); code != cli.Usage {
		t.Errorf("into a folder that is not empty: exit %d, want %d", code, cli.Usage)
	}
	for _, x := range []struct {
		unit string
		code int
		more []string
	}{
		{open, cli.Failed, nil},
		{held, cli.Failed, nil},
		{exProduct + "/21/NEVER", cli.NotInLedger, nil},
		{unit, cli.StatusOnly, []string{"--token", ""}},
		{unit, cli.Usage, []string{"--expires", "2020-01-01T00:00:00Z"}},
		{unit, cli.Usage, []string{"--expires", "soon"}},
	} {
		to := filepath.Join(dir, "refused")
		code, stdout := s.export(x.unit, to, key, x.more...)
		if code != x.code || len(stdout) > 0 {
			t.Errorf("%s %v: exit %d, said %q; want exit %d", x.unit, x.more, code, stdout, x.code)
		}
		if _, err := os.Stat(to); err == nil {
			t.Errorf("%s %v: a folder was written", x.unit, x.more)
		}
	}
}

// inToto verifies a folder with the keys and the code of `in-toto verify`.
func inToto(t *testing.T, dir string, want bool) {
	t.Helper()
	var key in_toto.Key
	must(t, key.LoadKeyDefaults(filepath.Join(dir, "exporter-1.pub")))
	env, err := in_toto.LoadMetadata(filepath.Join(dir, "root.layout"))
	must(t, err)
	_, err = in_toto.InTotoVerify(env, map[string]in_toto.Key{key.KeyID: key}, dir, "", map[string]string{}, [][]byte{}, false)
	if (err == nil) != want {
		t.Errorf("in-toto accepts: %t (%v), want %t", err == nil, err, want)
	}
}

func readLink(t *testing.T, path string) in_toto.Link {
	t.Helper()
	env, err := in_toto.LoadMetadata(path)
	must(t, err)
	return env.GetPayload().(in_toto.Link)
}

// linksOf finds the link of a step that stands for a party.
func linksOf(t *testing.T, dir, step, party string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, step+".*.link"))
	must(t, err)
	for _, f := range files {
		if readLink(t, f).Environment["party"] == party {
			return f
		}
	}
	t.Fatalf("no link of %s in %s", party, step)
	return ""
}

// receipts checks what each link carries with `fabtrail verify receipt`.
func receipts(t *testing.T, s *stage, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.link"))
	must(t, err)
	for _, f := range files {
		by := readLink(t, f).ByProducts
		tmp := t.TempDir()
		st, rc := filepath.Join(tmp, "statement.json"), filepath.Join(tmp, "receipt")
		must(t, os.WriteFile(st, []byte(by["statement"].(string)), 0o600))
		must(t, os.WriteFile(rc, []byte(by["receipt"].(string)), 0o600))
		c := root()
		c.SetOut(new(bytes.Buffer))
		c.SetArgs([]string{"verify", "receipt", st, rc, "--trust", s.folder.Trust()})
		if code := cli.Main(c); code != cli.OK {
			t.Errorf("%s: its receipt does not hold (exit %d)", filepath.Base(f), code)
		}
	}
}

// The help names the keys' roles: nobody should take an export for the parties' own
// signatures.
func TestExportSaysWhoVouches(t *testing.T) {
	help := exportLayoutCmd().Long
	for _, want := range []string{"Who vouches for what: you do", "does not check the parties' own signatures"} {
		if !strings.Contains(strings.Join(strings.Fields(help), " "), want) {
			t.Errorf("--help does not say %q", want)
		}
	}
}
