package node

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"go.uber.org/goleak"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// knock is a request to a whole ledger, and the problem that it must be told.
type knock struct {
	name, method, path, media string
	body                      []byte
	problem                   string
}

// TestRefusedVectors sends every published vector of a bad statement, envelope, key and
// manifest through the real listener of a whole ledger: each gets exactly its problem and the
// status of that, and the root, the files and the goroutines are those of before.
func TestRefusedVectors(t *testing.T) {
	w := newWorld(t)
	first := w.must(makerParty, w.commission(1))
	var rows []knock
	for _, more := range [][]knock{w.refusedStatements(), w.refusedEnvelopes(), w.weakKeys(), w.refusedManifests(), w.strangersStatements(), w.refusedSignatures(first.ID)} {
		if len(more) < 8 {
			t.Fatalf("only %d rows of a table, the last of them %+v", len(more), more)
		}
		rows = append(rows, more...)
	}
	if len(rows) < 300 {
		t.Errorf("%d rows, want at least 300", len(rows))
	}
	token, err := w.folder.Token(makerParty, []string{"custody:write", "admin"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	was := goleak.IgnoreCurrent()
	transport := &http.Transport{}
	caller := &http.Client{Transport: transport}
	checkpoint, files := w.checkpoint(caller), w.files()
	for i, row := range rows {
		t.Run(fmt.Sprintf("%03d %s", i, row.name), func(t *testing.T) {
			status, typ := w.knock(t, caller, token, row)
			want := problem.New(row.problem, "", "")
			if typ != "https://fabtrail.dev/problems/"+row.problem || status != want.Status() {
				t.Errorf("%d %s, want %d %s", status, typ, want.Status(), row.problem)
			}
		})
	}
	if after := w.checkpoint(caller); after != checkpoint {
		t.Errorf("the checkpoint was\n%s\nand is\n%s", checkpoint, after)
	}
	if got := w.node.Ledger().Signed(); !strings.Contains(checkpoint, fmt.Sprintf("\n%d\n", got.Size())) {
		t.Errorf("%d entries are signed that are not in the checkpoint of before:\n%s", got.Size(), checkpoint)
	}
	if after := w.files(); !slices.Equal(after, files) {
		t.Errorf("the folder has %q, and had %q", after, files)
	}
	transport.CloseIdleConnections()
	goleak.VerifyNone(t, was)
}

// knock sends a row, and returns the status and the type of the problem.
func (w *world) knock(t *testing.T, caller *http.Client, token string, row knock) (status int, typ string) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), row.method, w.server.URL+row.path, bytes.NewReader(row.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", row.media)
	resp, err := caller.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var p struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(b, &p); err != nil || resp.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("not a problem: %s\n%s", resp.Header, b)
	}
	return resp.StatusCode, p.Type
}

func (w *world) checkpoint(caller *http.Client) string {
	w.t.Helper()
	resp, err := caller.Get(w.server.URL + "/checkpoint")
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		w.t.Fatal(resp.Status, err)
	}
	return string(b)
}

// files lists all files of the ledger's folder.
func (w *world) files() (names []string) {
	w.t.Helper()
	err := filepath.WalkDir(string(w.folder), func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return names
}

func postOf(name string, body []byte, problem string) knock {
	return knock{name, http.MethodPost, "/v1/statements", "application/json", body, problem}
}

// vectors reads a file of published vectors.
func vectors(t *testing.T, name string, to any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "testdata", "custody", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, to, json.MatchCaseInsensitiveNames(true)); err != nil {
		t.Fatal(name, err)
	}
}

// refusedStatements signs payloads that are not statements.
func (w *world) refusedStatements() (rows []knock) {
	var bad []struct {
		Name, Problem string
		Payload       []byte
	}
	vectors(w.t, "statements-refused.json", &bad)
	for _, v := range bad {
		rows = append(rows, postOf("statement, "+v.Name, w.sign(v.Payload, w.keys[makerParty]), v.Problem))
	}
	return rows
}

// refusedEnvelopes are those that nobody needs to know a key for.
func (w *world) refusedEnvelopes() (rows []knock) {
	var v struct {
		Refused []struct{ Name, DSSE, Problem string }
	}
	vectors(w.t, "envelopes.json", &v)
	for _, r := range v.Refused {
		switch r.Problem {
		case "malformed_json", "unsupported_payload_type", "signature_count", "keyid_required", "non_canonical_base64", "too_large", "invalid_statement":
			p := r.Problem
			if r.DSSE == "" {
				p = "malformed_request" // what has no body is no request
			}
			rows = append(rows, postOf("envelope, "+r.Name, []byte(r.DSSE), p))
		}
	}
	return rows
}

// weakKeys are enrolments of keys that nobody may have.
func (w *world) weakKeys() (rows []knock) {
	var v struct {
		WeakKeys []struct{ Name, SPKI string }
	}
	vectors(w.t, "signatures.json", &v)
	k, err := custody.NewKey(w.keys[makerParty].Public())
	if err != nil {
		w.t.Fatal(err)
	}
	good := w.payload(custody.KindParty, "https://id.gs1.org/417/9506000140032", nil, &custody.Party{
		LegalName: "Example", Roles: []string{"carrier"}, Keys: []custody.KeyRecord{k.Record()},
	})
	for _, weak := range v.WeakKeys {
		payload := bytes.Replace(good, []byte(k.Record().SPKI), []byte(weak.SPKI), 1)
		rows = append(rows, postOf("key, "+weak.Name, w.sign(payload, w.keys[testOperator]), "weak_key"))
	}
	return rows
}

// refusedManifests are uploaded under their own digests.
func (w *world) refusedManifests() (rows []knock) {
	var v struct {
		Refused []struct {
			Name  string
			Bytes []byte
		}
	}
	vectors(w.t, "manifests.json", &v)
	for _, m := range v.Refused {
		p := "manifest_mismatch"
		if len(m.Bytes) == 0 {
			p = "malformed_request"
		}
		rows = append(rows, knock{"manifest, " + m.Name, http.MethodPut, "/v1/manifests/" + entry.StatementID(m.Bytes).String(), "application/octet-stream", m.Bytes, p})
	}
	return rows
}

// strangersStatements are good statements of every kind, signed by a key that nobody enrolled.
func (w *world) strangersStatements() (rows []knock) {
	var good []struct{ Name, Payload string }
	vectors(w.t, "statements.json", &good)
	stranger, err := custody.GenerateKey(custody.ECDSAP256)
	if err != nil {
		w.t.Fatal(err)
	}
	// How many must sign these is known before who did.
	others := map[string]string{"charter": "wrong_signers", "authority": "wrong_signers", "party": "wrong_signers", "key rotate": "wrong_signers", "ownership": "threshold_not_met"}
	for _, v := range good {
		p := "unknown_key"
		if other, ok := others[v.Name]; ok {
			p = other
		}
		rows = append(rows, postOf("of a stranger, "+v.Name, w.sign([]byte(v.Payload), stranger), p))
	}
	return rows
}

// refusedSignatures are good statements of this ledger with something wrong about who signed, or how.
func (w *world) refusedSignatures(first entry.Hash) (rows []knock) {
	maker, carrier := w.keys[makerParty], w.keys[carrierParty]
	release := func() []byte {
		return w.payload(custody.KindRelease, unit(1), w.event(makerParty, "maker", custody.Next(0, first)), &custody.Release{From: makerParty, To: carrierParty})
	}
	add := func(name, problem string, change func(*custody.DSSE), keys ...crypto.Signer) {
		b := w.sign(release(), keys...)
		if change != nil {
			b = reseal(w.t, b, change)
		}
		rows = append(rows, postOf("signatures, "+name, b, problem))
	}
	for i := range 64 {
		add(fmt.Sprintf("bit in byte %d", i), "bad_signature", func(d *custody.DSSE) { d.Signatures[0].Sig[i] ^= 1 << (i % 8) }, maker)
	}
	add("byte more in the payload", "bad_signature", func(d *custody.DSSE) { d.Payload = append(d.Payload, ' ') }, maker)
	add("signature of zeros", "bad_signature", func(d *custody.DSSE) { clear(d.Signatures[0].Sig) }, maker)
	add("signature too long", "bad_signature", func(d *custody.DSSE) { d.Signatures[0].Sig = append(d.Signatures[0].Sig, 0) }, maker)
	add("signature too short", "bad_signature", func(d *custody.DSSE) { d.Signatures[0].Sig = d.Signatures[0].Sig[:63] }, maker)
	add("key of another", "bad_signature", func(d *custody.DSSE) {
		k, err := custody.KeyHash(carrier.Public())
		if err != nil {
			w.t.Fatal(err)
		}
		d.Signatures[0].Key = k
	}, maker)
	add("one twice", "wrong_signers", func(d *custody.DSSE) { d.Signatures = append(d.Signatures, d.Signatures[0]) }, maker)
	add("one too many", "wrong_signers", nil, maker, carrier)
	add("of an authority", "wrong_signers", nil, w.keys[testOperator])
	add("by another party", "wrong_signers", nil, carrier)
	return rows
}
