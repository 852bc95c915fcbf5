package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/cli"
	"fabtrail.dev/fabtrail/internal/node"
)

// The witnesses of a ledger change, dated by statements of its authority. What a
// party was given before still verifies: with the ledger's help, and, once the
// policies are kept, offline.
func TestReceiptOutlivesItsWitnesses(t *testing.T) {
	o := newTwoFaced(t)
	must(t, o.folder.SetPolicy(o.witnesses[:1], 1, false, false))
	url, stop := o.serve(o.folder)
	st, _, err := o.folder.Charter()
	must(t, err)
	govern := func(quorumOf []node.Cosigner) {
		text, err := os.ReadFile(filepath.Join(o.folder.Trust(), client.PolicyFile))
		must(t, err)
		policy := string(text)
		if quorumOf != nil {
			log, err := node.ReadVKey(filepath.Join(o.folder.Trust(), client.LogFile))
			must(t, err)
			policy, err = node.PolicyText(log, quorumOf, len(quorumOf), false)
			must(t, err)
		}
		payload, err := custody.NewPayload(custody.KindWitnessPolicy, custody.LogURIPrefix+monOrigin, st.ID, nil, &custody.WitnessPolicy{Policy: policy})
		must(t, err)
		envelope, err := custody.Sign(payload, o.authority)
		must(t, err)
		o.post(url, envelope)
	}
	govern(nil) // the policy in force
	key, err := custody.GenerateKey(custody.Ed25519)
	must(t, err)
	k, err := custody.NewKey(key.Public())
	must(t, err)
	payload, err := custody.NewPayload(custody.KindParty, exMaker, st.ID, nil, &custody.Party{LegalName: "Maker", Roles: []string{custody.RoleMaker}, Keys: []custody.KeyRecord{k.Record()}})
	must(t, err)
	statement, err := custody.Sign(payload, o.authority, key)
	must(t, err)
	receipt := o.post(url, statement).Receipt
	now := time.Now().UTC().Truncate(time.Second)
	unit := "https://id.gs1.org/8004/9506000UNIT00001"
	commission, err := custody.NewPayload(custody.KindCommission, unit, st.ID,
		&custody.Event{EventID: custody.NewEventID(now, nil), OccurredAt: custody.FormatTime(now), Actor: exMaker, Role: "maker", Chain: custody.First()},
		&custody.Commission{UnitKind: "device"})
	must(t, err)
	envelope, err := custody.Sign(commission, key)
	must(t, err)
	o.post(url, envelope)
	govern(o.witnesses[1:])
	stop()
	must(t, o.folder.SetPolicy(o.witnesses[1:], 2, false, true))
	url, _ = o.serve(o.folder)
	o.enrol(url, exInstaller, "Installer") // what is published next has the new quorum

	dir := t.TempDir()
	trust := filepath.Join(dir, "trust")
	must(t, os.CopyFS(trust, os.DirFS(o.folder.Trust())))
	file, proof := filepath.Join(dir, "statement.json"), filepath.Join(dir, "statement.tlog-proof")
	must(t, os.WriteFile(file, statement, 0o600))
	must(t, os.WriteFile(proof, receipt, 0o600))
	verify := func(want int, key string, more ...string) {
		t.Helper()
		code, out := fabtrail(t, append([]string{"verify", "receipt", file, proof, "--trust", trust, "--json"}, more...)...)
		var said map[string]any
		if code == cli.OK {
			must(t, json.Unmarshal([]byte(out), &said))
		}
		if _, ok := said[key]; code != want || key != "" && !ok {
			t.Errorf("verify receipt %v: exit %d, %s", more, code, out)
		}
	}
	verify(cli.Failed, "")
	verify(cli.OK, "throughSize", "--server", url, "--state", filepath.Join(dir, "state"))
	token, err := o.folder.Token("https://id.gs1.org/417/9506000199990", []string{"audit"}, time.Hour)
	must(t, err)
	tokenFile := filepath.Join(dir, "token")
	must(t, os.WriteFile(tokenFile, []byte(token), 0o600))
	policies := []string{"trust", "policies", "--server", url, "--trust", trust, "--token", tokenFile, "--state", filepath.Join(dir, "state")}
	if code, out := fabtrail(t, append(policies, "https://id.gs1.org/8004/9506000UNIT99999")...); code != cli.CouldNot {
		t.Errorf("policies of a unit that is not there: exit %d, %s", code, out)
	}
	if code, out := fabtrail(t, append(policies, unit)...); code != cli.OK {
		t.Fatalf("policies: exit %d, %s", code, out)
	}
	tr, err := client.LoadTrust(os.DirFS(trust))
	if err != nil || len(tr.Past) != 2 {
		t.Fatalf("%d policies kept, %v", len(tr.Past), err)
	}
	verify(cli.OK, "policyOfEntry")
}
