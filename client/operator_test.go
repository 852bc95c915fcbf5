package client

import (
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

// replayed replays a log in memory.
func replayed(w *answertest.World, cfg ReplayConfig) (*Replayer, error) {
	r := NewReplayer(cfg)
	for i, e := range w.Entries {
		if err := r.Add(uint64(i), e, w.Sums[w.Names[uint64(i)]]); err != nil {
			return r, err
		}
	}
	return r, r.Check(w.Checkpoint())
}

// Whatever entry is kept out of all its lists, a replay names the first false commitment,
// the entry and its topics from the entries alone.
func TestHiddenEntries(t *testing.T) {
	honest := tale(t)
	step := max(1, 6*240 / *lieTries)
	for n := 1; n < len(honest.Entries); n += step {
		hidden := uint64(n)
		var topics []entry.Hash
		for topic, refs := range honest.Refs {
			if at(refs, hidden) >= 0 {
				topics = append(topics, topic)
			}
		}
		if len(topics) == 0 {
			continue // a commitment
		}
		l := answertest.NewLog(t)
		l.Honest = false
		l.Hide = func(m uint64, _ entry.Hash) bool { return m == hidden }
		w := taleOn(l)
		_, err := replayed(w, ReplayConfig{})
		var d *Divergence
		if !errors.As(err, &d) || d.What != DivergeCommitment {
			t.Fatalf("entry %d hidden: replay says %v", n, err)
		}
		if first := slices.IndexFunc(w.Entries[n:], func(e entry.Entry) bool { return e.Class == entry.Index }); d.Index != uint64(n+first) {
			t.Errorf("entry %d hidden: replay names entry %d, the first false commitment is %d", n, d.Index, n+first)
		}
		named := map[entry.Hash]bool{}
		for _, topic := range d.Topics {
			named[topic.Hash()] = true
		}
		if d.Topic == nil || len(named) != len(topics) || slices.ContainsFunc(topics, func(x entry.Hash) bool { return !named[x] }) {
			t.Errorf("entry %d hidden from %d topics: replay names %v", n, len(topics), d.Topics)
		}
		if !strings.Contains(d.Detail, fmt.Sprintf("without entry %d (", n)) && !strings.Contains(d.Detail, "without what was listed since: entry "+fmt.Sprint(n)) {
			t.Errorf("entry %d hidden: %s", n, d.Detail)
		}
	}
}

// What an index-verifying cosigner would be asked to sign, it checks.
func TestReplayRefusesCheckpoints(t *testing.T) {
	w := tale(t)
	r, err := replayed(w, ReplayConfig{})
	if err != nil {
		t.Fatal(err)
	}
	cp := w.Checkpoint()
	cp.Root[0] ^= 1
	var d *Divergence
	if err := r.Check(cp); !errors.As(err, &d) || d.What != DivergeRoot {
		t.Errorf("another root: %v", err)
	}
	if err := r.Check(w.CheckpointAt(cp.Size - 1)); !errors.As(err, &d) || d.What != DivergeRoot {
		t.Errorf("another size: %v", err)
	}
	w.Hold(w.Parties["maker"], custody.UnitRef{URI: w.Unit("OPEN")}, "suspect")
	if err := r.Add(cp.Size, w.Entries[cp.Size], nil); err != nil {
		t.Fatal(err)
	}
	if err := r.Check(w.Checkpoint()); !errors.As(err, &d) || d.What != DivergeCommitment {
		t.Errorf("no commitment at the end: %v", err)
	}
}

// Each of these logs is signed and cosigned by all, the index witness too where
// the index is true. The client must find out by itself.
func TestCrookedOperator(t *testing.T) {
	sign := func(w *answertest.World, kind custody.Kind, subject string, ev *custody.Event, body any, key string) entry.Envelope {
		payload, err := custody.NewPayload(kind, subject, w.Ledger, ev, body)
		if err != nil {
			t.Fatal(err)
		}
		d, err := custody.SignDSSE(payload, answertest.Key(key))
		if err != nil {
			t.Fatal(err)
		}
		return entry.Envelope{Payload: d.Payload, Signatures: d.Signatures}
	}
	add := func(w *answertest.World, class entry.Class, env entry.Envelope, topics ...entry.Topic) {
		b, err := env.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		hashes := make([]entry.Hash, len(topics))
		for i, t := range topics {
			hashes[i] = t.Hash()
		}
		w.Add(entry.Entry{Class: class, Envelope: b}, entry.Hash{}, hashes...)
	}
	unit := entry.Topic{Kind: entry.TopicUnit, Value: unitURI("LIFTED")}
	hold := func(w *answertest.World, p *answertest.Party, key string) entry.Envelope {
		return sign(w, custody.KindHold, unit.Value, w.Event(p, custody.Unchained()), &custody.Hold{Reason: "suspect"}, key)
	}
	for _, tc := range []struct {
		name  string
		crime func(w *answertest.World)
		word  custody.Word
		code  string // of the reason, or name of the check
	}{
		{"none", func(w *answertest.World) { w.Publish() }, custody.Verified, ""},
		{"a forged signature", func(w *answertest.World) {
			env := hold(w, w.Parties["maker"], "party maker")
			env.Signatures[0].Sig[3] ^= 1
			add(w, entry.Restricted, env, unit)
			w.Publish()
		}, custody.CouldNotVerify, string(answer.Operator)},
		{"an unknown key", func(w *answertest.World) {
			env := hold(w, w.Parties["maker"], "a key that nobody enrolled")
			add(w, entry.Restricted, env, unit)
			w.Publish()
		}, custody.CouldNotVerify, ""},
		{"a key of another party", func(w *answertest.World) {
			add(w, entry.Restricted, hold(w, w.Parties["maker"], "party carrier"), unit)
			w.Publish()
		}, custody.CouldNotVerify, "admission"},
		{"a revoked key", func(w *answertest.World) {
			env := hold(w, w.Parties["maker"], "party maker")
			w.RevokeKey(w.Parties["maker"])
			add(w, entry.Restricted, env, unit)
			w.Publish()
		}, custody.CouldNotVerify, "admission"},
		{"the wrong class", func(w *answertest.World) {
			add(w, entry.Public, hold(w, w.Parties["maker"], "party maker"), unit)
			w.Publish()
		}, custody.CouldNotVerify, string(answer.Operator)},
		{"a statement under a topic that is not its own", func(w *answertest.World) {
			ev := w.Event(w.Parties["maker"], custody.Unchained())
			env := sign(w, custody.KindHold, unitURI("OPEN"), ev, &custody.Hold{Reason: "suspect"}, "party maker")
			add(w, entry.Restricted, env, unit)
			w.Honest = false
			w.Publish()
		}, custody.CouldNotVerify, string(answer.Operator)},
		{"no commitment", func(w *answertest.World) {
			w.Hold(w.Parties["maker"], custody.UnitRef{URI: unit.Value}, "suspect")
			w.Honest = false
			w.Sign()
		}, custody.CouldNotVerify, string(answer.Operator)},
		{"a commitment out of place", func(w *answertest.World) {
			root, err := w.Index.Commit()
			if err != nil {
				t.Fatal(err)
			}
			w.Honest = false
			w.Add(entry.Entry{Class: entry.Index, Covers: uint64(len(w.Entries)) - 1, IndexRoot: root}, entry.Hash{})
			w.Sign()
		}, custody.CouldNotVerify, string(answer.Operator)},
		{"frozen log time", func(w *answertest.World) {
			w.Publish()
			w.Note = w.NoteFor(w.Checkpoint(), w.Time/1000+3*3600)
			w.Log.Time += 3 * 3600 * 1000
		}, custody.CouldNotVerify, CheckLogTime},
		{"racing log time", func(w *answertest.World) {
			w.Log.Time += 3600 * 1000
			w.Publish()
			w.Log.Time -= 3600 * 1000
			w.Note = w.NoteFor(w.Checkpoint(), w.Time/1000)
		}, custody.CouldNotVerify, CheckLogTime},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := tale(t)
			w.Log.Time += 1000
			tc.crime(w)
			var b []byte
			if tc.name == "no commitment" { // an honest server would not serve this
				b = withCommitment(t, w, unit.Value)
			}
			r := judgedFrom(t, w, unit.Value, b)
			if r.Word != tc.word {
				t.Fatalf("%s, want %s; %v", r.Word, tc.word, r.Checks)
			}
			if tc.code != "" && !slices.Contains(r.Failed(), tc.code) {
				t.Errorf("failed %v, want %s", r.Failed(), tc.code)
			}
		})
	}
}

func judgedFrom(t *testing.T, w *answertest.World, uri string, b []byte) *Report {
	t.Helper()
	if b == nil {
		a, _, err := answer.Assemble(w.View(), uri, answer.Options{Lanes: all})
		if err != nil {
			t.Fatal(err)
		}
		if b, err = a.Marshal(); err != nil {
			t.Fatal(err)
		}
	}
	return verifier(t, w.Log, nil).VerifyAnswer(t.Context(), uri, b)
}

// withCommitment answers with the proofs of the size before, under a checkpoint
// whose last entry is no commitment, and passes that entry off as one.
func withCommitment(t *testing.T, w *answertest.World, uri string) []byte {
	t.Helper()
	a := &answer.Answer{Format: answer.Format, URI: uri, Form: answer.Absent, Checkpoint: string(w.Note)}
	last := w.Published - 1
	hashes, err := w.View().Inclusion(last)
	if err != nil {
		t.Fatal(err)
	}
	a.Commitment = &answer.Commitment{Cargo: w.Entries[last].Cargo(), Hashes: hashes}
	p, err := w.Index.Prove(entry.Topic{Kind: entry.TopicUnit, Value: uri}.Hash())
	if err != nil {
		t.Fatal(err)
	}
	a.Topics = []answer.Topic{{Kind: entry.TopicUnit, Value: uri, Proof: p.Marshal()}}
	b, err := a.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The last checkpoint seen is what a ledger cannot go back behind.
func TestMemory(t *testing.T) {
	w := tale(t)
	f := newFake(t, w)
	v := verifier(t, w.Log, f.remote(t, Options{}))
	uri := w.Unit("GOOD")
	check := func(want custody.Word, code string) *Report {
		t.Helper()
		r, err := v.VerifyUnit(t.Context(), uri, "")
		if err != nil {
			t.Fatal(err)
		}
		if r.Word != want || code != "" && !slices.Contains(r.Failed(), code) {
			t.Fatalf("%s %v, want %s %s: %v", r.Word, r.Failed(), want, code, r.Checks)
		}
		return r
	}
	check(custody.Verified, "")
	if _, seen := v.Memory.(memory)[answertest.Origin]; !seen {
		t.Fatal("the checkpoint is not remembered")
	}
	small := *f.World.Log
	w.Publish()
	check(custody.Verified, "") // it grew, and the proof holds
	note, size := w.Note, w.Published

	// Back to the smaller one: the same history, but what came since is missing.
	w.Note, w.Published, w.Index = small.Note, small.Published, small.Index
	if r := check(custody.CouldNotVerify, CheckConsistency); r.Fork != nil {
		t.Error("an older checkpoint of the same history is no fork")
	}
	w.Note, w.Published = note, size

	// Another root at this size: two notes convict the log.
	cp := w.Checkpoint()
	cp.Root[7] ^= 1
	w.Note = w.NoteFor(cp, w.Time/1000)
	fork := check(custody.CouldNotVerify, "fork").Fork
	if fork == nil {
		t.Fatal("no fork proof")
	}
	b, err := fork.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if fork, err = ParseFork(b); err != nil {
		t.Fatal(err)
	}
	c, err := fork.Judge(v.Trust)
	if err != nil || !c.Certain {
		t.Errorf("the fork proof shows %+v, %v", c, err)
	}

	// A longer tree that the proof does not join: both notes and the proof are shown.
	tree := slices.Clone(w.Tree)
	tree[2][0] ^= 1
	tree = append(tree, entry.Hash{9})
	longer := checkpoint.Checkpoint{Origin: answertest.Origin, Size: uint64(len(tree)), Root: tree.Root()}
	w.Note = w.NoteFor(longer, w.Time/1000)
	real := w.Tree
	w.Tree, w.Entries = tree, append(w.Entries, entry.Entry{})
	fork = check(custody.CouldNotVerify, "fork").Fork
	if fork == nil || len(fork.Hashes) == 0 || fork.Old == "" || fork.New == "" {
		t.Fatalf("the fork proof lacks something: %+v", fork)
	}
	if c, err := fork.Judge(v.Trust); err != nil || !c.Certain || c.Cleared || !strings.Contains(c.Says, "two histories") {
		t.Errorf("the fork proof shows %+v, %v", c, err)
	}
	w.Tree, w.Entries, w.Note = real, w.Entries[:len(real)], note
	check(custody.Verified, "")

	// A damaged memory is called that, and no fork.
	v.Memory = memory{answertest.Origin: []byte("damaged")}
	if r := check(custody.CouldNotVerify, CheckConsistency); r.Fork != nil {
		t.Error("a damaged memory is taken for a fork")
	}
	v.Memory = memory{answertest.Origin: []byte("not a note\n")}
	if r := check(custody.CouldNotVerify, CheckConsistency); r.Fork != nil {
		t.Error("a damaged memory is taken for a fork")
	}
}

// Without witnesses nobody vouches for freshness: never better than a note.
func TestWithoutWitnesses(t *testing.T) {
	w := tale(t)
	files := w.Trust()
	files[PolicyFile] = []byte("log " + w.Signer.VKey().String() + "\nquorum none\n")
	trust, err := ParseTrust(files)
	if err != nil {
		t.Fatal(err)
	}
	v := verifier(t, w.Log, newFake(t, w).remote(t, Options{}))
	v.Trust = trust
	r, err := v.VerifyUnit(t.Context(), w.Unit("GOOD"), "")
	if err != nil || r.Word != custody.VerifiedNote {
		t.Errorf("%v %v %v", r.Word, r.Failed(), err)
	}
	later := v.Now().Add(4 * time.Hour)
	v.Now = func() time.Time { return later }
	if r, _ := v.VerifyUnit(t.Context(), w.Unit("GOOD"), ""); r.Word != custody.CouldNotVerify {
		t.Errorf("four hours later: %v", r.Word)
	}
}

func TestReportSaysWhatItRestsOn(t *testing.T) {
	w := tale(t)
	v := verifier(t, w.Log, newFake(t, w).remote(t, Options{}))
	key := answertest.PedigreeKey(w.Unit("GOOD"))
	for _, what := range []string{w.Unit("GOOD"), "https://shop.example/01/09506000134352/21/GOOD?k=" + pedigree(key), "(01)09506000134352(21)GOOD"} {
		r, err := v.VerifyUnit(t.Context(), what, "")
		if err != nil {
			t.Fatal(err)
		}
		want := "These are all 6 statements about this serial, with all 8 about what it travelled in, as of entry " + grouped(w.Published-1) + "; checked by 1 index witness, cosigned by 3 of 3."
		if r.Claim != want {
			t.Errorf("claims %q, want %q", r.Claim, want)
		}
		if len(r.Lines) != 6+8 {
			t.Errorf("%d lines are told, the claim says 6 and 8", len(r.Lines))
		}
		if name := r.Parties[r.Lines[0].Actor]; name == "" {
			t.Errorf("%s has no name in %v", r.Lines[0].Actor, r.Parties)
		}
		if len(r.Lines) < 9 || r.Lines[len(r.Lines)-1].Kind != custody.KindInstall {
			t.Errorf("history of %d lines: %+v", len(r.Lines), r.Lines)
		}
		for _, c := range r.Checks {
			if !c.OK {
				t.Errorf("check %s failed: %s", c.Name, c.Detail)
			}
		}
	}
	r, err := v.VerifyUnit(t.Context(), w.Unit("GOOD"), pedigree(answertest.PedigreeKey("another")))
	if err != nil || r.Word != custody.CheckBeforeUse {
		t.Errorf("a wrong pedigree key: %s %v", r.Word, err)
	}
	for _, what := range []string{"", "GOOD", "https://id.gs1.org/01/09506000134353/21/GOOD", "(01)09506000134352"} {
		if r, err := v.VerifyUnit(t.Context(), what, ""); err == nil {
			t.Errorf("%q was taken for a unit: %s", what, r.Word)
		}
	}
}
