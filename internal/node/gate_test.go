package node

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/witness"
)

// posted remembers the checkpoints that reached witnesses.
type posted struct {
	mu    sync.Mutex
	notes []checkpoint.Checkpoint
}

// watched passes requests on to h, and notes every checkpoint in them.
func (p *posted) watched(h http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			b, err := io.ReadAll(r.Body)
			req, perr := witness.ParseRequest(b)
			if err == nil && perr == nil {
				p.mu.Lock()
				p.notes = append(p.notes, req.Checkpoint)
				p.mu.Unlock()
			}
			r.Body = io.NopCloser(strings.NewReader(string(b)))
		}
		h.ServeHTTP(w, r)
	}
}

func (p *posted) all() []checkpoint.Checkpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.notes
}

// stops waits until a node has stopped, and returns why.
func stops(t *testing.T, n *Node) error {
	t.Helper()
	select {
	case <-n.Ledger().Failed():
		return n.Ledger().Err()
	case <-time.After(time.Minute):
		t.Fatal("it goes on")
		return nil
	}
}

// A machine that was restored as a whole from an old copy, while its witnesses were
// down: nothing that it signs in its second life reaches anybody, and it stops as
// soon as they are back.
func TestOldCopyWithoutWitnesses(t *testing.T) {
	var a, b *site
	w := witnessed(t, 1, func(log checkpoint.VKey) []*site {
		a, b = newSite(t, "a.example", log), newSite(t, "b.example", log)
		return []*site{a, b}
	})
	w.must(makerParty, w.commission(1))
	if err := w.node.Close(); err != nil {
		t.Fatal(err)
	}
	old := Folder(cloneFolder(t, string(w.folder)))
	w.node, w.server = start(t, w.folder)
	w.must(makerParty, w.commission(2))
	w.server.Close()
	if err := w.node.Close(); err != nil {
		t.Fatal(err)
	}

	var seen posted
	a.be(seen.watched(http.HandlerFunc(down)))
	b.be(seen.watched(http.HandlerFunc(down)))
	now := time.Now().Add(2 * time.Hour)
	n, err := Open(context.Background(), Config{Folder: old, Manual: true, Clock: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	size := n.Ledger().Signed().Size()
	if err := n.Tick(t.Context()); err != nil { // a heartbeat: a second history begins
		t.Fatal(err)
	}
	if n.Ledger().Signed().Size() <= size {
		t.Fatal("nothing was signed")
	}
	a.be(seen.watched(a.handler))
	b.be(seen.watched(b.handler))
	err = stops(t, n)
	var no *ledger.NoSign
	if !errors.As(err, &no) || !strings.Contains(no.Reason, "that this log signed") || no.WayOut == "" {
		t.Errorf("it stops with %v", err)
	}
	if got := seen.all(); len(got) != 0 {
		t.Errorf("these left the process: %+v", got)
	}
	if got := n.Ledger().Published().Size(); got != size {
		t.Errorf("size %d is published, it was %d", got, size)
	}
}

// A ledger that starts before its witnesses goes on once they are there.
func TestWitnessesComeLater(t *testing.T) {
	var a *site
	w := witnessed(t, 1, func(log checkpoint.VKey) []*site {
		a = newSite(t, "a.example", log)
		return []*site{a}
	})
	if err := w.node.Close(); err != nil {
		t.Fatal(err)
	}
	a.be(down)
	n, err := Open(t.Context(), Config{Folder: w.folder, Manual: true})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if n.gate.heard.Load() {
		t.Fatal("nobody has said anything")
	}
	a.be(nil)
	if err := n.Ledger().Recosign(t.Context()); err != nil || !n.gate.heard.Load() {
		t.Errorf("with the witness back: %v", err)
	}
}

// While it runs, a bare claim to be ahead stops nothing; the proof of it does.
func TestWitnessAheadLater(t *testing.T) {
	for _, proof := range []string{"ahead", "another root"} {
		t.Run(proof, func(t *testing.T) {
			var a, b *site
			w := witnessed(t, 1, func(log checkpoint.VKey) []*site {
				a, b = newSite(t, "a.example", log), newSite(t, "b.example", log)
				return []*site{a, b}
			})
			mine, err := w.folder.logSigner()
			if err != nil {
				t.Fatal(err)
			}
			cp := checkpoint.Checkpoint{Origin: mine.VKey().Name, Size: published(t, w.server.URL).Size + 100, Root: entry.Hash{1}}
			if proof != "ahead" {
				cp.Size = 1
			}
			sig, err := mine.SignLog(cp.Text())
			if err != nil {
				t.Fatal(err)
			}
			asked := make(chan struct{}, 100)
			var shows []byte // nothing yet
			var mu sync.Mutex
			b.be(func(rw http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet {
					conflict(1_000_000)(rw, r)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				if shows == nil {
					http.NotFound(rw, r)
				} else {
					_, _ = rw.Write(shows)
				}
				asked <- struct{}{}
			})
			w.must(makerParty, w.commission(1))
			<-asked // it was asked for the proof, and has none
			w.must(makerParty, w.commission(2))
			mu.Lock()
			shows = checkpoint.Note{Text: cp.Text(), Sigs: []checkpoint.NoteSig{sig}}.Marshal()
			mu.Unlock()
			w.node.gate.claimed() // as with its next claim, which may be left alone for a while
			var no *ledger.NoSign
			if err := stops(t, w.node); !errors.As(err, &no) || !strings.Contains(no.Reason, "b.example") {
				t.Errorf("it stops with %v", err)
			}
		})
	}
}

// A ledger that comes back after a while asks for fresh cosignatures at once, not when
// its timer comes round.
func TestFreshAtTheStart(t *testing.T) {
	var a *site
	w := witnessed(t, 1, func(log checkpoint.VKey) []*site {
		a = newSite(t, "a.example", log)
		return []*site{a}
	})
	w.must(makerParty, w.commission(1))
	w.server.Close()
	if err := w.node.Close(); err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{}, 100)
	a.be(func(rw http.ResponseWriter, r *http.Request) {
		a.handler.ServeHTTP(rw, r)
		if r.Method == http.MethodPost {
			asked <- struct{}{}
		}
	})
	n, err := Open(t.Context(), Config{Folder: w.folder})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	select {
	case <-asked:
	case <-time.After(15 * time.Second): // the timer comes round after 30
		t.Error("nobody was asked")
	}
}
