package client

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer"
	"fabtrail.dev/fabtrail/custody/answer/answertest"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// changed is a ledger whose witnesses were all replaced, and a receipt from before.
type changed struct {
	*answertest.World
	index                      uint64 // of the statement
	receipt, envelope, payload []byte
	proof                      checkpoint.Proof
	old                        []*checkpoint.Signer
}

func newChanged(t *testing.T) *changed {
	t.Helper()
	l := answertest.NewLog(t)
	c := &changed{World: answertest.NewWorld(l), old: l.Witnesses}
	govern := func() {
		c.Govern(custody.KindWitnessPolicy, custody.LogURIPrefix+answertest.Origin, &custody.WitnessPolicy{Policy: l.Policy()}, c.Authority)
	}
	govern()
	c.Block("L1", 10)
	c.index = uint64(len(l.Entries))
	c.Commission("GOOD", "L1")
	c.Publish()
	e, err := c.View().Entry(c.index)
	if err != nil {
		t.Fatal(err)
	}
	env, err := entry.ParseEnvelope(e.Envelope)
	if err != nil {
		t.Fatal(err)
	}
	hashes, err := c.View().Inclusion(c.index)
	if err != nil {
		t.Fatal(err)
	}
	c.proof = checkpoint.Proof{Extra: e.Extra(), Index: c.index, Hashes: hashes, Checkpoint: bytes.Clone(l.Note)}
	c.receipt, c.envelope, c.payload = c.proof.Marshal(), e.Envelope, env.Payload
	l.Time += uint64((48 * time.Hour).Milliseconds())
	l.Witnesses = nil
	for i := range 3 {
		name := fmt.Sprintf("n%d.example", i+1)
		s, err := checkpoint.NewSigner(name, checkpoint.TypeCosigner, answertest.Key(name))
		if err != nil {
			t.Fatal(err)
		}
		l.Witnesses = append(l.Witnesses, s)
	}
	govern()
	c.Register(custody.UnitRef{URI: c.Unit("GOOD")})
	c.Publish()
	return c
}

// cosignedAt is the receipt with its checkpoint cosigned by some at another time.
func (c *changed) cosignedAt(t *testing.T, by []*checkpoint.Signer, at uint64) []byte {
	t.Helper()
	n, err := checkpoint.ParseNote(c.proof.Checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	n.Sigs = n.Sigs[:1]
	for _, w := range by {
		sig, err := w.Cosign(n.Text, at)
		if err != nil {
			t.Fatal(err)
		}
		n.Sigs = append(n.Sigs, sig)
	}
	p := c.proof
	p.Checkpoint = n.Marshal()
	return p.Marshal()
}

// A receipt from before the witnesses changed verifies offline under the policy
// that the log dates, and never under one that had ended.
func TestReceiptOfAnOldPolicy(t *testing.T) {
	c := newChanged(t)
	v := verifier(t, c.Log, newFake(t, c.World).remote(t, Options{}))
	if _, err := v.Trust.VerifyReceipt(c.receipt, c.envelope, c.payload); !errors.Is(err, checkpoint.ErrNoQuorum) {
		t.Fatalf("without the policy of then: %v", err)
	}
	rep, err := v.VerifyUnit(t.Context(), c.Unit("GOOD"), pedigree(answertest.PedigreeKey(c.Unit("GOOD"))))
	if err != nil || !rep.Complete {
		t.Fatal(err, rep)
	}
	ps, err := rep.Policies()
	if err != nil || len(ps) != 2 || ps[0].Until != ps[1].Since || ps[1].Until != 0 || ps[0].Index == 0 {
		t.Fatalf("%+v, %v", ps, err)
	}
	files := c.Trust()
	if files[PoliciesFile], err = MarshalPolicies(ps); err != nil {
		t.Fatal(err)
	}
	trust, err := ParseTrust(files)
	if err != nil {
		t.Fatal(err)
	}
	r, err := trust.VerifyReceipt(c.receipt, c.envelope, c.payload)
	if err != nil || r.Policy == nil || r.Policy.Index != ps[0].Index || r.Index != c.index {
		t.Fatalf("%+v, %v", r, err)
	}
	end := ps[0].Until / 1000
	for _, tc := range []struct {
		name string
		by   []*checkpoint.Signer
		at   uint64
		ok   bool
	}{
		{"just before its end", c.old[:2], end - 1, true},
		{"within the overlap", c.old[:2], end + 86400 - 1, true},
		{"after it", c.old[:2], end + 86400 + 1, false},
		{"at the end of time", c.old, 1<<63 - 1, false},
		{"one of three", c.old[2:], end - 1, false},
		{"one of each", []*checkpoint.Signer{c.old[0], c.Witnesses[0]}, end - 1, false},
		{"nobody", nil, end - 1, false},
		{"those of today", c.Witnesses[:2], end - 1, true},
	} {
		r, err := trust.VerifyReceipt(c.cosignedAt(t, tc.by, tc.at), c.envelope, c.payload)
		if (err == nil) != tc.ok || err != nil && !errors.Is(err, checkpoint.ErrNoQuorum) {
			t.Errorf("%s: %v, want accepted %t", tc.name, err, tc.ok)
		}
		if tc.ok && (r.Policy == nil) != (tc.name == "those of today") {
			t.Errorf("%s: under policy %+v", tc.name, r.Policy)
		}
	}
	if _, err := trust.VerifyNote(c.proof.Checkpoint); !errors.Is(err, checkpoint.ErrNoQuorum) {
		t.Errorf("an old policy makes a checkpoint of today: %v", err)
	}
	// A policy without a quorum vouches for nothing of the past.
	none := slices.Clone(ps)
	none[0].Text = "log " + c.Signer.VKey().String() + "\nquorum none\n"
	if files[PoliciesFile], err = MarshalPolicies(none); err != nil {
		t.Fatal(err)
	}
	if trust, err = ParseTrust(files); err != nil {
		t.Fatal(err)
	}
	if _, err := trust.VerifyReceipt(c.cosignedAt(t, nil, 1), c.envelope, c.payload); !errors.Is(err, checkpoint.ErrNoQuorum) {
		t.Errorf("no quorum at all: %v", err)
	}
}

func TestPoliciesFile(t *testing.T) {
	l := answertest.NewLog(t)
	answertest.NewWorld(l)
	policy := strings.ReplaceAll(l.Policy(), "\n", `\n`)
	item := func(index, since, until int) string {
		return fmt.Sprintf(`{"index":%d,"since":%d,"until":%d,"policy":"%s"}`, index, since, until, policy)
	}
	for name, tc := range map[string]struct {
		text string
		ok   bool
	}{
		"none":           {"[]", true},
		"two":            {"[" + item(1, 10, 20) + "," + item(5, 20, 0) + "]", true},
		"a gap":          {"[" + item(1, 10, 15) + "," + item(5, 20, 0) + "]", false},
		"out of order":   {"[" + item(5, 10, 20) + "," + item(1, 20, 0) + "]", false},
		"two open":       {"[" + item(1, 10, 0) + "," + item(5, 20, 0) + "]", false},
		"no policy":      {`[{"index":1,"since":1,"policy":"quorum x\n"}]`, false},
		"unknown member": {`[{"index":1,"since":1,"policy":"` + policy + `","x":1}]`, false},
		"trailing":       {"[] x", false},
		"no array":       {"{}", false},
	} {
		files := l.Trust()
		files[PoliciesFile] = []byte(tc.text)
		if trust, err := ParseTrust(files); (err == nil) != tc.ok {
			t.Errorf("%s: %v, %v", name, trust, err)
		}
	}
}

// Statements that admission should have refused date nothing.
func TestPoliciesOfAuthoritiesOnly(t *testing.T) {
	c := newChanged(t)
	payload, err := custody.NewPayload(custody.KindWitnessPolicy, custody.LogURIPrefix+answertest.Origin, c.Ledger, nil, &custody.WitnessPolicy{Policy: c.Policy()})
	if err != nil {
		t.Fatal(err)
	}
	d, err := custody.SignDSSE(payload, answertest.Key("party maker"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := entry.Envelope{Payload: d.Payload, Signatures: d.Signatures}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	at := uint64(len(c.Entries))
	c.Add(entry.Entry{Class: entry.Public, Envelope: b}, entry.Hash{}, entry.Topic{Kind: entry.TopicLog}.Hash())
	c.Publish()
	a, _, err := answer.Assemble(c.View(), c.Unit("GOOD"), answer.Options{Lanes: all})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := a.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	rep := verifier(t, c.Log, nil).VerifyAnswer(t.Context(), c.Unit("GOOD"), raw)
	if rep.History == nil {
		t.Fatal(rep.Checks)
	}
	ps, err := rep.Policies()
	if err != nil || len(ps) != 2 || slices.ContainsFunc(ps, func(p DatedPolicy) bool { return p.Index == at }) {
		t.Errorf("%+v, %v", ps, err)
	}
}

// Without any policy of then, the ledger proves that what it publishes now
// continues the receipt's checkpoint.
func TestReceiptThroughConsistency(t *testing.T) {
	c := newChanged(t)
	f := newFake(t, c.World)
	v := verifier(t, c.Log, f.remote(t, Options{Attempts: 1}))
	r, err := v.VerifyReceipt(t.Context(), c.receipt, c.envelope, c.payload)
	if err != nil || r.Through == nil || r.Through.Size != c.Published || r.Index != c.index || r.Policy != nil {
		t.Fatalf("%+v, %v", r, err)
	}
	// Cosignatures of then do not matter at all, the log's own signature does.
	if _, err := v.VerifyReceipt(t.Context(), c.cosignedAt(t, nil, 1), c.envelope, c.payload); err != nil {
		t.Errorf("without cosignatures: %v", err)
	}
	note := c.Note
	for name, wrong := range map[string]func(){
		"today's checkpoint has no quorum": func() {
			n, _ := checkpoint.ParseNote(note)
			n.Sigs = n.Sigs[:1]
			c.Note = n.Marshal()
		},
		"it is stale":         func() { c.Note = c.NoteFor(c.Checkpoint(), c.Time/1000-7200) },
		"it is an older size": func() { c.Note = c.NoteFor(c.CheckpointAt(3), c.Time/1000) },
	} {
		v := verifier(t, c.Log, v.Remote)
		wrong()
		if r, err := v.VerifyReceipt(t.Context(), c.receipt, c.envelope, c.payload); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
		c.Note = note
	}
	// A ledger that goes on from another history than the receipt's is convicted.
	tree := slices.Clone(c.Tree)
	tree[0][3] ^= 1
	real := c.Tree
	c.Tree = tree
	c.Note = c.NoteFor(checkpoint.Checkpoint{Origin: answertest.Origin, Size: c.Published, Root: tree.Root()}, c.Time/1000)
	var fork *Fork
	if _, err := verifier(t, c.Log, v.Remote).VerifyReceipt(t.Context(), c.receipt, c.envelope, c.payload); !errors.As(err, &fork) {
		t.Errorf("another history: %v", err)
	}
	c.Tree = real
}
