package client

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer"
	"fabtrail.dev/fabtrail/custody/answer/answertest"
	"fabtrail.dev/fabtrail/custody/gs1"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
)

// hold is a publication of one hold more, which the unit's list has at its end.
func hold(w *answertest.World, serial string) (topic entry.Hash) {
	ref := custody.UnitRef{URI: w.Unit(serial)}
	w.Hold(w.Parties["maker"], ref, "suspect")
	return ref.Topic().Hash()
}

// forgedLeaf is a lie that only a proof of the ledger's own gives away.
func forgedLeaf(topic entry.Hash) func(map[entry.Hash][]unitindex.Ref) {
	return func(l map[entry.Hash][]unitindex.Ref) {
		refs := slices.Clone(l[topic])
		refs[0].Leaf[0] ^= 1
		l[topic] = refs
	}
}

// What a ledger does when it is asked about a false commitment, and what the audit says then.
func TestPursuit(t *testing.T) {
	for _, tc := range []struct {
		name string
		lie  func(w *answertest.World, f *fake, topic entry.Hash)
		want string // in the detail
		none bool   // no topic can be named
	}{
		{"it proves the false list", func(w *answertest.World, _ *fake, topic entry.Hash) {
			w.Falsify = forgedLeaf(topic)
			w.Publish()
		}, "the ledger proves another list for unit https://id.gs1.org/01/09506000134352/21/OPEN", false},
		{"it goes on meanwhile", func(w *answertest.World, f *fake, topic entry.Hash) {
			w.Falsify = forgedLeaf(topic)
			w.Publish()
			f.fail = func(http.ResponseWriter) bool {
				if f.calls["GET /v1/units/{uri}"] > 0 && f.calls["GET /v1/units/{uri}"] < 4 {
					hold(w, "LIFTED")
					w.Publish()
				}
				return false
			}
		}, "the ledger proves another list for unit https://id.gs1.org/01/09506000134352/21/OPEN", false},
		{"it refuses", func(w *answertest.World, f *fake, topic entry.Hash) {
			w.Falsify = forgedLeaf(topic)
			w.Publish()
			f.fail = func(out http.ResponseWriter) bool {
				if f.calls["GET /v1/units/{uri}"] > 0 {
					out.WriteHeader(http.StatusForbidden)
				}
				return f.calls["GET /v1/units/{uri}"] > 0
			}
		}, "the ledger does not prove what it committed to: asked about topics of hash", true},
		{"its root is made up", func(w *answertest.World, _ *fake, _ entry.Hash) {
			w.Add(entry.Entry{Class: entry.Index, Covers: uint64(len(w.Entries)), IndexRoot: entry.Hash{7: 7}}, entry.Hash{})
			w.Sign()
		}, "the answer does not hold under its own commitment", true},
		{"its root is made up when nothing is new", func(w *answertest.World, _ *fake, _ entry.Hash) {
			w.Publish()
			w.Add(entry.Entry{Class: entry.Index, Covers: uint64(len(w.Entries)), IndexRoot: entry.Hash{7: 7}}, entry.Hash{})
			w.Sign()
		}, "nothing was listed since the commitment before it; the ledger does not prove", true},
		{"its later commitments are true", func(w *answertest.World, _ *fake, topic entry.Hash) {
			w.Falsify = forgedLeaf(topic)
			w.Publish()
			w.Falsify = nil
			w.Publish()
		}, "is true again", true},
		{"it answers with what was", func(w *answertest.World, f *fake, topic entry.Hash) {
			var old answer.Answer
			f.units = func(a *answer.Answer) { *a = old }
			a, _, err := answer.Assemble(w.View(), w.Unit("NEVER"), answer.Options{})
			if err != nil {
				t.Fatal(err)
			}
			old = *a
			w.Falsify = forgedLeaf(topic)
			w.Publish()
		}, "though it has shown entry", true},
		{"it answers about another unit", func(w *answertest.World, f *fake, topic entry.Hash) {
			w.Falsify = forgedLeaf(topic)
			w.Publish()
			f.units = func(a *answer.Answer) { a.Topics[0].Value = w.Unit("NEVER") }
		}, "the answer proves nothing about unit", true},
		{"it lists what nobody said", func(w *answertest.World, _ *fake, topic entry.Hash) {
			w.Falsify = func(l map[entry.Hash][]unitindex.Ref) { l[entry.Hash{0xaa, 1}] = l[topic] }
			w.Publish()
		}, "the ledger proves a list for topic hash aa01", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := tale(t)
			w.Honest = false
			topic := hold(w, "OPEN")
			f := newFake(t, w)
			tc.lie(w, f, topic)
			_, _, err := trustOf(t, w.Log).AuditLedger(t.Context(), f.remote(t, Options{}), ReplayConfig{})
			var d *Divergence
			if !errors.As(err, &d) || d.What != DivergeCommitment {
				t.Fatalf("%v", err)
			}
			if !strings.Contains(d.Detail, tc.want) {
				t.Errorf("%s; want %q", d.Detail, tc.want)
			}
			if tc.none != (d.Topic == nil) || d.Topic != nil && d.Topic.Hash() != topic {
				t.Errorf("topic %v", d.Topic)
			}
		})
	}
}

// What is asked about is a unit whose topic begins as it must, in the form that ledgers know.
func TestUnitUnder(t *testing.T) {
	for n := range 12 {
		prefix := entry.StatementID([]byte{byte(n)})
		uri := unitUnder(prefix, n)
		id, err := gs1.Scan(uri)
		if err != nil || id.ID.URI() != uri || id.ID.Kind != gs1.Unit {
			t.Errorf("%s: %v, %v", uri, id, err)
		}
		topic := (entry.Topic{Kind: entry.TopicUnit, Value: uri}).Hash()
		if !(unitindex.Difference{Prefix: prefix, Bits: n}).Holds(topic) {
			t.Errorf("%s has hash %s, want %d bits of %s", uri, topic, n, prefix)
		}
	}
}
