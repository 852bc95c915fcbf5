package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/witness"
)

// liar changes one answer of a handler.
type liar struct {
	handler http.Handler
	path    string // prefix of those that are changed; empty: none
	change  func([]byte) []byte
}

func (l *liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if l.path == "" || !strings.HasPrefix(r.URL.Path, l.path) {
		l.handler.ServeHTTP(w, r)
		return
	}
	b := &answerBuffer{header: http.Header{}, status: http.StatusOK}
	l.handler.ServeHTTP(b, r)
	w.WriteHeader(b.status)
	_, _ = w.Write(l.change(b.body.Bytes()))
}

// TestSelfCheck: an honest ledger finds itself sound as it grows; what an outsider
// must never see stops it for good, and what may pass does not (S7).
func TestSelfCheck(t *testing.T) {
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[(at+len(b))%len(b)] ^= 1; return b }
	}
	ours := func(w *world, size uint64, root entry.Hash) []witness.View {
		signer, err := w.folder.logSigner()
		if err != nil {
			t.Fatal(err)
		}
		cp := checkpoint.Checkpoint{Origin: w.node.Origin(), Size: size, Root: root}
		sig, err := signer.SignLog(cp.Text())
		if err != nil {
			t.Fatal(err)
		}
		return []witness.View{{Name: "w", Checkpoint: cp, Note: checkpoint.Note{Text: cp.Text(), Sigs: []checkpoint.NoteSig{sig}}.Marshal()}}
	}
	// another changes the last entry of a bundle, and then the tile to match.
	another := func() func([]byte) []byte {
		var leaf []byte
		return func(b []byte) []byte {
			if binary.BigEndian.Uint16(b) == entry.LeafSize { // a bundle
				b[len(b)-1] ^= 1
				leaf = bytes.Clone(b[len(b)-entry.LeafSize:])
				return b
			}
			h := entry.LeafHash(leaf)
			return append(b[:len(b)-len(h)], h[:]...)
		}
	}
	for _, c := range []struct {
		name   string
		path   string
		change func([]byte) []byte
		views  func(w *world) []witness.View
		stops  string // part of the reason; empty: an alarm
	}{
		{name: "entry bundle", path: "/tile/entries/", change: flip(-1), stops: "is not that of the entries"},
		{name: "tile", path: "/tile/0/", change: flip(-1), stops: "is not that of the entries"},
		{name: "tile is gone", path: "/tile/0/", change: func([]byte) []byte { return nil }, stops: "is not that of the entries"},
		{name: "bundle and tile alike", path: "/tile/", change: another(), stops: "the entries give the root"},
		{name: "consistency proof", path: "/v1/proofs/consistency", change: func(b []byte) []byte {
			i := strings.Index(string(b), `"hashes":["`) + len(`"hashes":["`)
			b[i] = map[bool]byte{true: '1', false: '0'}[b[i] == '0']
			return b
		}}, // a bad proof of what is true all the same
		{name: "checkpoint", path: "/checkpoint", change: flip(60)},
		{name: "a witness is ahead", views: func(w *world) []witness.View {
			return ours(w, w.node.ledger.Signed().Size()+1, entry.Hash{1})
		}, stops: "another process signs"},
		{name: "a witness has another root", views: func(w *world) []witness.View { return ours(w, 2, entry.Hash{1}) }, stops: "the log is forked"},
		{name: "a witness does not answer", views: func(*world) []witness.View {
			return []witness.View{{Name: "w", Err: context.DeadlineExceeded}}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			l := &liar{handler: w.node.api}
			var views []witness.View
			s, err := newSelfCheck(w.node, l, func(context.Context) []witness.View { return views })
			if err != nil {
				t.Fatal(err)
			}
			for n := range 3 { // as it should be, and growing
				if err := s.round(t.Context()); err != nil {
					t.Fatal(err)
				}
				w.must(makerParty, w.commission(n))
			}
			if err := s.round(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got, want := testutil.ToFloat64(s.metrics.size), float64(w.node.ledger.Published().Size()); got != want || testutil.ToFloat64(s.metrics.receipts) < 3 {
				t.Fatalf("checked up to %v of %v, %v receipts", got, want, testutil.ToFloat64(s.metrics.receipts))
			}
			w.must(makerParty, w.commission(10))
			l.path, l.change = c.path, c.change
			if c.views != nil {
				views = c.views(w)
			}
			err = s.round(t.Context())
			stopped := w.node.ledger.Err()
			if err == nil || (stopped != nil) != (c.stops != "") || stopped != nil && !strings.Contains(stopped.Error(), c.stops) {
				t.Fatalf("%v; stopped: %v, want %q", err, stopped, c.stops)
			}
			outcome := map[bool]string{true: selfStop, false: selfAlarm}[c.stops != ""]
			if testutil.ToFloat64(s.metrics.rounds.WithLabelValues(outcome)) != 1 {
				t.Errorf("not counted as %s", outcome)
			}
			o := w.post(makerParty, w.commission(11))[0]
			if (o.Err == nil) != (c.stops == "") {
				t.Errorf("a statement afterwards: %v", o.Err)
			}
		})
	}
}

// TestSelfCheckReceipts: a receipt that does not verify as its holder would verify it
// stops the ledger: here all of them, to a trust folder of another log.
func TestSelfCheckReceipts(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	s, err := newSelfCheck(w.node, w.node.api, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.must(makerParty, w.commission(0))
	size := w.node.ledger.Published().Size()
	for i, f := range []Folder{w.folder, other.folder} {
		trust, err := client.LoadTrust(os.DirFS(f.Trust()))
		if err != nil {
			t.Fatal(err)
		}
		err = s.receipts(trust, 0, size)
		if bad := (*wrong)(nil); errors.As(err, &bad) != (i == 1) {
			t.Errorf("trust folder %d: %v", i, err)
		}
	}
}
