package node

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// TestWrongInput posts what is wrong in one way each, through the real door: each
// gets its problem, and the log does not grow.
func TestWrongInput(t *testing.T) {
	w := newWorld(t)
	first := w.must(makerParty, w.commission(1))
	release := w.sign(w.payload(custody.KindRelease, unit(1), w.event(makerParty, "maker", custody.Next(0, first.ID)),
		&custody.Release{From: makerParty, To: carrierParty}), w.keys[makerParty])
	w.must(makerParty, release)
	stranger, err := custody.GenerateKey(custody.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	ok := w.payload(custody.KindCommission, unit(2), w.event(makerParty, "maker", custody.First()), &custody.Commission{UnitKind: "device"})
	signed := w.sign(ok, w.keys[makerParty])

	cases := map[string]struct {
		body []byte
		want string
	}{
		"not JSON":        {[]byte(`{"payload"`), "malformed_json"},
		"duplicate names": {bytes.Replace(signed, []byte(`"payload":`), []byte(`"payload":"","payload":`), 1), "malformed_json"},
		"bad check digit": {w.sign(bytes.ReplaceAll(ok, []byte(makerParty), []byte("https://id.gs1.org/417/9506000140002")), w.keys[makerParty]), "invalid_identifier"},
		"other key":       {w.sign(ok, stranger), "unknown_key"},
		"altered payload": {reseal(t, signed, func(d *custody.DSSE) { d.Payload = bytes.Replace(d.Payload, []byte("device"), []byte("module"), 1) }), "bad_signature"},
		"wrong role": {w.sign(w.payload(custody.KindCommission, unit(3), w.event(carrierParty, "carrier", custody.First()),
			&custody.Commission{UnitKind: "device"}), w.keys[carrierParty]), "wrong_role"},
		"unknown receiver": {w.sign(w.payload(custody.KindRelease, unit(1), w.event(makerParty, "maker", custody.Next(0, first.ID)),
			&custody.Release{From: makerParty, To: "https://id.gs1.org/417/9506000199993"}), w.keys[makerParty]), "unknown_party"},
		"other ledger": {w.sign(bytes.Replace(ok, []byte(w.ledger.String()), []byte(entry.Hash{1}.String()), 1), w.keys[makerParty]), "other_ledger"},
		"missing manifest": {w.sign(w.payload(custody.KindPack, "https://id.gs1.org/00/095060001000000128", w.event(makerParty, "maker", custody.First()),
			&custody.Pack{Level: 1, Contents: custody.Contents{Manifest: entry.Hash{1}.String(), Root: entry.Hash{2}.String(), Count: 1}}), w.keys[makerParty]), "missing_manifest"},
		"again under another event ID": {w.sign(w.payload(custody.KindRelease, unit(1), w.event(makerParty, "maker", custody.Next(0, first.ID)),
			&custody.Release{From: makerParty, To: carrierParty}), w.keys[makerParty]), "already_recorded"},
	}
	size := w.node.Ledger().Signed().Size()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w.t = t
			party := makerParty
			if name == "wrong role" {
				party = carrierParty
			}
			r := w.post(party, bytes.ReplaceAll(c.body, []byte("\n"), nil))[0]
			if p := problem.As(r.Err); p == nil || p.Type != c.want {
				t.Errorf("refused with %v, want %s", r.Err, c.want)
			}
		})
	}
	if got := w.node.Ledger().Signed().Size(); got != size {
		t.Errorf("the log grew from %d to %d", size, got)
	}
}

func reseal(t *testing.T, envelope []byte, change func(*custody.DSSE)) []byte {
	t.Helper()
	d, err := custody.ParseDSSE(envelope)
	if err != nil {
		t.Fatal(err)
	}
	change(&d)
	return d.Marshal()
}

// TestManifestMustMatch uploads one manifest and names another count.
func TestManifestMustMatch(t *testing.T) {
	w := newWorld(t)
	first := w.must(makerParty, w.commission(1))
	m, err := custody.NewManifest([]custody.Member{{URI: unit(1), Head: first.ID, Salt: entry.Hash{7}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.remote(makerParty).PutManifest(context.Background(), m.Digest().String(), m.Marshal()); err != nil {
		t.Fatal(err)
	}
	contents := m.Contents()
	contents.Root = entry.Hash{9}.String()
	bad := w.sign(w.payload(custody.KindPack, "https://id.gs1.org/00/095060001000000128", w.event(makerParty, "maker", custody.First()),
		&custody.Pack{Level: 1, Contents: contents}), w.keys[makerParty])
	o := w.post(makerParty, bad)[0]
	if p := problem.As(o.Err); p == nil || p.Type != "manifest_mismatch" {
		t.Errorf("refused with %v, want manifest_mismatch", o.Err)
	}
	err = w.remote(makerParty).PutManifest(context.Background(), entry.Hash{1}.String(), m.Marshal())
	if err == nil {
		t.Error("a manifest was kept under another digest")
	}
}

// TestBatchOfTenThousand posts the largest batch with three bad lines in it: they
// get their problems, and the rest is recorded in order.
func TestBatchOfTenThousand(t *testing.T) {
	lines := 10_000
	if testing.Short() {
		lines = 1_000
	}
	w := newWorld(t)
	bad := map[int]string{7: "malformed_json", lines / 2: "bad_signature", lines - 1: "unknown_key"}
	stranger, err := custody.GenerateKey(custody.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	var body bytes.Buffer
	for i := range lines {
		b := w.commission(i)
		switch bad[i] {
		case "malformed_json":
			b = []byte(`{"payloadType":`)
		case "bad_signature":
			b = reseal(t, b, func(d *custody.DSSE) { d.Signatures[0].Sig[5] ^= 1 })
		case "unknown_key":
			b = reseal(t, b, func(d *custody.DSSE) {
				n, err := custody.SignDSSE(d.Payload, stranger)
				if err != nil {
					t.Fatal(err)
				}
				*d = n
			})
		}
		body.Write(b)
		body.WriteByte('\n')
	}
	outcomes := w.postRaw(body.Bytes())
	if len(outcomes) != lines {
		t.Fatalf("%d results for %d lines", len(outcomes), lines)
	}
	last := uint64(0)
	for i, o := range outcomes {
		if o.Line != i+1 {
			t.Fatalf("result %d is for line %d", i, o.Line)
		}
		if want := bad[i]; want != "" {
			if o.Problem == nil || !strings.HasSuffix(o.Problem.Type, want) {
				t.Errorf("line %d: %+v, want %s", i+1, o.Problem, want)
			}
			continue
		}
		if o.Problem != nil || o.Index <= last {
			t.Fatalf("line %d: index %d after %d, problem %v", i+1, o.Index, last, o.Problem)
		}
		last = o.Index
	}
}

// TestTesseraFsck has Tessera's own checker read the served log.
func TestTesseraFsck(t *testing.T) {
	fsck, err := exec.LookPath("fsck-tessera")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("fsck-tessera is missing: .ci/run installs it")
		}
		t.Skip("Tessera's fsck is not installed as fsck-tessera; see .ci/run")
	}
	w := newWorld(t)
	var envelopes [][]byte
	for i := range 700 { // more than two full tiles
		envelopes = append(envelopes, w.commission(i))
	}
	for _, o := range w.post(makerParty, envelopes...) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
	}
	key := filepath.Join(w.folder.Trust(), client.LogFile)
	out, err := exec.Command(fsck, "--ui=false", "--storage_url", w.server.URL+"/", "--public_key", key).CombinedOutput()
	if err != nil {
		t.Fatalf("fsck: %v\n%s", err, out)
	}
}

// TestPublicReadsNeedNoToken fetches what anybody may.
func TestPublicReadsNeedNoToken(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/checkpoint", "/tile/entries/000.p/1", "/trust/log.vkey", "/trust/policy.txt", "/trust/charter.json", "/healthz", "/readyz", "/metrics", "/openapi.yaml"} {
		resp, err := http.Get(w.server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
}
