package demo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/gs1"
	"fabtrail.dev/fabtrail/internal/node"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// The demo keeps in DIR/demo what its parties would keep for themselves:
//
//	keys/NAME.pem, tokens/NAME.token   of every party
//	parties.txt                        who they are: NAME, URI, roles, legal name
//	witness-1, witness-2, witness-3    the witnesses' folders
//	codes.txt                          what a scanner reads on the labelled devices, then on all
//	labels.json                        what the scenario says must come out
//	openings.ndjson                    what was sealed: the addresses of installations
//	serve.sh                           starts witnesses and ledger again
//	log.txt                            what they log

func (d *demo) path(elem ...string) string {
	return filepath.Join(append([]string{string(d.folder), "demo"}, elem...)...)
}

func witnessDir(i int) string { return fmt.Sprintf("witness-%d", i+1) }

// tokenDays is how long the demo's tokens are valid.
const tokenDays = 30

// files writes what is known before the play, so that it is there if the play is
// cut short.
func (d *demo) files() error {
	for _, dir := range []string{"keys", "tokens"} {
		if err := os.MkdirAll(d.path(dir), 0o700); err != nil {
			return err
		}
	}
	for i, r := range cast {
		p := d.party(r.slug)
		pem, err := custody.MarshalPrivateKey(p.key)
		if err != nil {
			return err
		}
		if err := os.WriteFile(d.path("keys", p.slug+".pem"), pem, 0o600); err != nil {
			return err
		}
		scopes := []string{"custody:write", "custody:read"}
		switch {
		case i < authorities:
			scopes = []string{"admin"}
		case slices.Contains(p.roles, custody.RoleAuditor):
			scopes = append(scopes, "audit")
		}
		token, err := d.folder.Token(p.uri, scopes, tokenDays*24*time.Hour)
		if err != nil {
			return err
		}
		if err := os.WriteFile(d.path("tokens", p.slug+".token"), []byte(token+"\n"), 0o600); err != nil {
			return err
		}
	}
	if err := os.WriteFile(d.path("parties.txt"), d.partyList(), 0o644); err != nil {
		return err
	}
	b, err := json.MarshalIndent(d.labels, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(d.path("labels.json"), append(b, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(d.path("codes.txt"), d.codes(), 0o644)
}

// partyList says who is who: NAME is that of keys/NAME.pem and tokens/NAME.token.
func (d *demo) partyList() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# NAME (keys/NAME.pem, tokens/NAME.token), URI, roles, legal name\n")
	for i, r := range cast {
		roles := strings.Join(r.roles, ",")
		if i < authorities {
			roles = "authority"
		}
		fmt.Fprintf(&b, "%-15s %s %-22s %s\n", r.slug, partyURI(r.slug), roles, r.name)
	}
	return b.Bytes()
}

// codes lists what a scanner reads: name of the label, or the market, and the code.
func (d *demo) codes() []byte {
	var b bytes.Buffer
	for _, l := range d.labels.Labels {
		for _, v := range l.Verdicts {
			code := d.code(v.Unit)
			if v.Public {
				code = v.Unit
			}
			fmt.Fprintf(&b, "%-20s %s\n", l.Name, code)
		}
	}
	for i := range d.devices {
		fmt.Fprintf(&b, "%-20s %s\n", "device-"+regions[d.plan.devices[i].region].slug, d.code(d.devices[i].uri))
	}
	return b.Bytes()
}

// code is what is printed on a unit: its Digital Link with the pedigree key. The
// forger of a serial that was never issued prints some key.
func (d *demo) code(uri string) string {
	id, err := gs1.ParseCanonical(uri)
	if err != nil {
		panic("demo: " + err.Error())
	}
	i := slices.IndexFunc(d.devices, func(t *thing) bool { return t.uri == uri })
	if i < 0 {
		return id.Link(bytes.Repeat([]byte{byte(d.plan.seed)}, custody.PedigreeKeySize))
	}
	return id.Link(d.devices[i].pedigree)
}

// opening is what was sealed in a statement about a unit.
type opening struct {
	Unit    string          `json:"unit"`
	Opening json.RawMessage `json:"opening"`
}

// seal commits to a value that stays out of the ledger.
func (d *demo) seal(unit, value string) map[string]custody.SealedRef {
	var salt entry.Hash
	copy(salt[:], newPedigree())
	copy(salt[16:], newPedigree())
	ref, open, err := custody.SealGroup("person", salt, []byte(value))
	if err != nil {
		panic("demo: " + err.Error())
	}
	d.mu.Lock()
	d.openings = append(d.openings, opening{unit, open.Marshal()})
	d.mu.Unlock()
	return map[string]custody.SealedRef{"person": ref}
}

func (d *demo) writeOpenings() error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, o := range d.openings {
		if err := enc.Encode(o); err != nil {
			return err
		}
	}
	return os.WriteFile(d.path("openings.ndjson"), b.Bytes(), 0o600)
}

// startScript writes how to start everything again, at the same addresses: the
// witnesses' are in the policy, which verifiers hold.
func (d *demo) startScript(cosigners []node.Cosigner) error {
	dir, err := filepath.Abs(string(d.folder))
	if err != nil {
		return err
	}
	addr := func(url string) string { return strings.TrimPrefix(url, "http://") }
	var b bytes.Buffer
	fmt.Fprintf(&b, "#!/bin/sh\n# Starts the demo's witnesses and its ledger again. FABTRAILD names the program.\n")
	fmt.Fprintf(&b, ": \"${FABTRAILD:=fabtraild}\"\nD=%s\ntrap 'kill 0' EXIT INT TERM\n", quote(dir))
	for i, c := range cosigners {
		fmt.Fprintf(&b, "$FABTRAILD witness --data \"$D/demo/%s\" --listen %s --name %s --log \"$D/trust/log.vkey\"", witnessDir(i), addr(c.URL), witnessNames[i])
		if c.Index {
			fmt.Fprintf(&b, " \\\n  --verify-index --source %s --token \"$D/demo/tokens/auditor.token\" --charter \"$D/trust/charter.json\"", d.url)
		}
		fmt.Fprintf(&b, " &\n")
	}
	fmt.Fprintf(&b, "$FABTRAILD serve --data \"$D\" --listen %s\n", addr(d.url))
	return os.WriteFile(d.path("serve.sh"), b.Bytes(), 0o755)
}

// quote quotes a word for a shell, if need be.
func quote(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=@%+", r))
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func readLine(path string) (string, error) {
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}
