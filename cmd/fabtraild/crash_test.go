package main

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/entry"
)

const (
	operatorParty = "https://id.gs1.org/417/9506000100005"
	crashParty    = "https://id.gs1.org/417/9506000140001"
)

// acknowledged is what the ledger promised, kept outside of it.
type acknowledged struct {
	mu       sync.Mutex
	receipts map[entry.Hash]*client.Recorded
	size     uint64
}

func (a *acknowledged) add(r *client.Recorded) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.receipts[r.ID] = r
	a.size = max(a.size, r.Proof.Checkpoint.Size)
}

func (a *acknowledged) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.receipts)
}

// TestKillNine kills the ledger under load, again and again: nothing that it
// acknowledged is missing or has moved, and no two checkpoints contradict.
func TestKillNine(t *testing.T) {
	cycles := 5
	if testing.Short() {
		cycles = 2
	}
	ctx := patience(t)
	dir := filepath.Join(t.TempDir(), "ledger")
	run(t, "init", "--data", dir, "--origin", "ledger.test/crash", "--operator", operatorParty)
	token := filepath.Join(dir, "admin.token")
	run(t, "token", "--data", dir, "--party", operatorParty, "--scope", "admin", "--scope", "audit", "--out", token)
	ack := &acknowledged{receipts: map[entry.Hash]*client.Recorded{}}
	w := &writer{t: t, ack: ack}
	var last *client.Seen
	for cycle := range cycles {
		var started struct{ URL string }
		p := background(t, &started, "serve", "--data", dir, "--listen", "127.0.0.1:0")
		s := w.connect(dir, started.URL, token)
		last = w.consistent(ctx, s, last)
		w.recheck(ctx, s)
		if cycle == 0 {
			w.enrol(ctx, s, dir)
		}
		w.load(ctx, s, 150*(cycle+1), p.kill)
	}
	var started struct{ URL string }
	p := background(t, &started, "serve", "--data", dir, "--listen", "127.0.0.1:0")
	s := w.connect(dir, started.URL, token)
	w.consistent(ctx, s, last)
	w.recheck(ctx, s)
	_, sum, err := s.Trust.AuditLedger(ctx, s.Remote, client.ReplayConfig{})
	if err != nil || sum.AccusedCount > 0 {
		t.Fatalf("audit: %v, %d entries accused", err, sum.AccusedCount)
	}
	t.Logf("%d receipts over %d kills, size %d", ack.count(), cycles, sum.Size)
	if code := p.stop(); code != 0 && code != 130 {
		t.Errorf("the ledger ended with %d", code)
	}
	if out := run(t, "fsck", "--data", dir); !bytes.Contains(out, []byte("clean")) {
		t.Errorf("fsck: %s", out)
	}
}

// writer plays a party that posts without pause.
type writer struct {
	t   *testing.T
	ack *acknowledged
	key crypto.Signer
	id  entry.Hash // of the charter
	mu  sync.Mutex
	n   int
}

func (w *writer) connect(dir, url, tokenFile string) *client.Submitter {
	w.t.Helper()
	trust, err := client.LoadTrust(os.DirFS(filepath.Join(dir, "trust")))
	if err != nil {
		w.t.Fatal(err)
	}
	token, err := readToken(tokenFile)
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := client.NewRemote(url, client.Options{Token: token, Attempts: 1})
	if err != nil {
		w.t.Fatal(err)
	}
	w.id = trust.Ledger
	return &client.Submitter{Remote: r, Trust: trust}
}

// consistent holds the present checkpoint against the last one seen.
func (w *writer) consistent(ctx context.Context, s *client.Submitter, last *client.Seen) *client.Seen {
	w.t.Helper()
	note, err := s.Remote.Checkpoint(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	seen, err := s.Trust.VerifyNote(note)
	if err != nil {
		w.t.Fatal(err)
	}
	if seen.Size < w.ack.size {
		w.t.Fatalf("the log has shrunk to %d, receipts cover %d", seen.Size, w.ack.size)
	}
	if last != nil {
		if err := client.Consistent(ctx, s.Remote, last, seen); err != nil {
			w.t.Fatal(err)
		}
	}
	return seen
}

// recheck asks for every receipt again.
func (w *writer) recheck(ctx context.Context, s *client.Submitter) {
	w.t.Helper()
	for id, r := range w.ack.receipts {
		got, err := s.Remote.Statement(ctx, id)
		if err != nil {
			w.t.Fatalf("statement %s (entry %d) is gone: %v", id, r.Index, err)
		}
		if got.Index != r.Index || got.Receipt != string(r.Receipt) {
			w.t.Fatalf("statement %s: entry %d, was acknowledged as entry %d, same receipt %t", id, got.Index, r.Index, got.Receipt == string(r.Receipt))
		}
	}
}

func (w *writer) enrol(ctx context.Context, s *client.Submitter, dir string) {
	w.t.Helper()
	pem, err := os.ReadFile(filepath.Join(dir, "keys", "authority.pem"))
	if err != nil {
		w.t.Fatal(err)
	}
	authority, err := custody.ParsePrivateKey(pem)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.key, err = custody.GenerateKey(custody.Ed25519); err != nil {
		w.t.Fatal(err)
	}
	k, err := custody.NewKey(w.key.Public())
	if err != nil {
		w.t.Fatal(err)
	}
	payload, err := custody.NewPayload(custody.KindParty, crashParty, w.id, nil,
		&custody.Party{LegalName: "Example Fab", Roles: []string{"maker"}, Keys: []custody.KeyRecord{k.Record()}})
	if err != nil {
		w.t.Fatal(err)
	}
	envelope, err := custody.Sign(payload, authority.Private(), w.key)
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := s.Submit(ctx, envelope)
	if err != nil {
		w.t.Fatal(err)
	}
	w.ack.add(r)
}

// load posts from several goroutines, so that the queue is never empty, and calls
// kill in the midst of it once want receipts are in hand.
func (w *writer) load(ctx context.Context, s *client.Submitter, want int, kill func()) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	reached := make(chan struct{})
	var once sync.Once
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for ctx.Err() == nil {
				r, err := s.Submit(ctx, w.next())
				if err != nil {
					return // the ledger is dead: nothing was promised
				}
				w.ack.add(r)
				if w.ack.count() >= want {
					once.Do(func() { close(reached) })
				}
			}
		}()
	}
	select {
	case <-reached:
	case <-ctx.Done():
		w.t.Error("the load did not come up in time")
	}
	kill()
	cancel()
	wg.Wait()
}

// next signs the commissioning of one more unit.
func (w *writer) next() []byte {
	w.mu.Lock()
	w.n++
	n := w.n
	w.mu.Unlock()
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(n) * time.Second)
	payload, err := custody.NewPayload(custody.KindCommission, fmt.Sprintf("https://id.gs1.org/8004/9506000CRASH%06d", n), w.id,
		&custody.Event{EventID: custody.NewEventID(at, nil), OccurredAt: custody.FormatTime(at), Actor: crashParty, Role: "maker", Chain: custody.First()},
		&custody.Commission{UnitKind: "device"})
	if err != nil {
		panic(err)
	}
	b, err := custody.Sign(payload, w.key)
	if err != nil {
		panic(err)
	}
	return b
}
