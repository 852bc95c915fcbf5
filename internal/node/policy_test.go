package node

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
)

// Once witnesses have changed, what was published under the old policy stays
// good: a repeat gets its first receipt, fsck finds nothing, and receipts verify.
func TestWitnessesChange(t *testing.T) {
	var a, b *site
	w := witnessed(t, 1, func(log checkpoint.VKey) []*site {
		a, b = newSite(t, "a.example", log), newSite(t, "b.example", log)
		return []*site{a}
	})
	statement := w.commission(1)
	first := w.must(makerParty, statement)
	signed, err := custody.ParseDSSE(statement)
	if err != nil {
		t.Fatal(err)
	}
	oldTrust, err := client.LoadTrust(os.DirFS(w.folder.Trust()))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.node.Close(); err != nil {
		t.Fatal(err)
	}
	a.be(down)
	policyOf(t, w.folder, 1, b)
	w.node, w.server = start(t, w.folder)
	again := w.must(makerParty, statement)
	if !again.Repeat || again.Index != first.Index || string(again.Receipt) != string(first.Receipt) {
		t.Errorf("a repeat got another receipt: %+v", again)
	}
	w.must(makerParty, w.commission(2))
	if _, err := oldTrust.VerifyReceipt(first.Receipt, first.Envelope, signed.Payload); err != nil {
		t.Errorf("under the policy of then: %v", err)
	}
	newTrust, err := client.LoadTrust(os.DirFS(w.folder.Trust()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newTrust.VerifyReceipt(first.Receipt, first.Envelope, signed.Payload); !errors.Is(err, checkpoint.ErrNoQuorum) {
		t.Errorf("under the policy of now, alone: %v", err)
	}
	v := client.Verifier{Remote: w.remote(makerParty), Trust: newTrust}
	if r, err := v.VerifyReceipt(t.Context(), first.Receipt, first.Envelope, signed.Payload); err != nil || r.Through == nil {
		t.Errorf("with the ledger's help: %+v, %v", r, err)
	}
	if err := w.node.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := Fsck(t.Context(), w.folder, nil)
	if err != nil || c.Word() != "clean" {
		t.Errorf("fsck: %v, %v", c.Damage, err)
	}
	if err := os.RemoveAll(w.folder.policies()); err != nil {
		t.Fatal(err)
	}
	if c, err := Fsck(t.Context(), w.folder, nil); err != nil || c.Word() == "clean" {
		t.Errorf("fsck without the policies of before finds %v, %v: they are not what it goes by", c.Damage, err)
	}
}

// TestPolicyBeforeTheFirstStart: until a ledger was opened, nothing was published under
// its policy, so another start may name other witnesses.
func TestPolicyBeforeTheFirstStart(t *testing.T) {
	f := prepareFolder(t)
	a := newSite(t, "a.example", logKey(t, f))
	for _, ws := range [][]Cosigner{nil, {{URL: a.url, VKey: a.VKey()}}} {
		if err := f.SetPolicy(ws, len(ws), false, false); err != nil {
			t.Errorf("%d witnesses: %v", len(ws), err)
		}
	}
	if past, err := f.pastPolicies(); err != nil || len(past) != 0 {
		t.Errorf("a policy under which nothing was published is kept: %d, %v", len(past), err)
	}
	if err := os.Mkdir(f.ledger(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := f.SetPolicy(nil, 0, false, false); err == nil || !strings.Contains(err.Error(), "--replace-policy") {
		t.Errorf("the policy of a ledger is replaced: %v", err)
	}
}

// TestLostPolicy: a ledger whose policy.txt is gone does not go on as one without
// witnesses, nor with others, unless the operator says so.
func TestLostPolicy(t *testing.T) {
	var a *site
	w := witnessed(t, 1, func(log checkpoint.VKey) []*site {
		a = newSite(t, "a.example", log)
		return []*site{a}
	})
	w.must(makerParty, w.commission(1))
	if err := w.node.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(w.folder.Trust(), "policy.txt")
	policy, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for _, ws := range [][]Cosigner{nil, {{URL: a.url, VKey: a.VKey()}}} {
		if err := w.folder.SetPolicy(ws, len(ws), false, false); err == nil || !strings.Contains(err.Error(), "put it back") {
			t.Errorf("%d witnesses: %v", len(ws), err)
		}
	}
	if n, err := Open(t.Context(), Config{Folder: w.folder}); err == nil || !strings.Contains(err.Error(), "policy.txt is missing, but") {
		if err == nil {
			_ = n.Close()
		}
		t.Fatalf("it starts without its policy: %v", err)
	}
	policyOf(t, w.folder, 1, a) // as --replace-policy
	if again, err := os.ReadFile(path); err != nil || string(again) != string(policy) {
		t.Errorf("%s, %v", again, err)
	}
	w.node, w.server = start(t, w.folder)
	w.must(makerParty, w.commission(2))
}
