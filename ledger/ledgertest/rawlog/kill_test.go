package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
)

// follower reads the log as an outsider does, every entry once, and holds it to
// what was promised: an entry that it has read can never change unnoticed, as the
// roots after it rest on what was read then.
type follower struct {
	mu       sync.Mutex
	promised map[uint64]entry.Hash // leaf hashes by index, of receipts whose entry was not read yet
	roots    map[uint64]entry.Hash // roots by size, of checkpoints not reached yet
	newest   uint64                // largest size of a checkpoint seen
	count    int                   // receipts

	rng     *compact.Range
	classes []entry.Class // of the entries read
	key     checkpoint.VKey
}

func newFollower() *follower {
	f := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	return &follower{promised: map[uint64]entry.Hash{}, roots: map[uint64]entry.Hash{}, rng: f.NewEmptyRange(0),
		key: ledgertest.LogSigner(origin).VKey()}
}

// receipt takes a receipt of a payload into the record.
func (f *follower) receipt(payload string, b []byte) error {
	p, err := checkpoint.ParseProof(b)
	if err != nil {
		return err
	}
	e, err := entry.ParseExtra(p.Extra)
	if err != nil {
		return err
	}
	e.Envelope = ledgertest.Submission(payload).Envelope
	leaf := e.LeafHash()
	f.mu.Lock()
	defer f.mu.Unlock()
	if was, ok := f.promised[p.Index]; ok && was != leaf {
		return fmt.Errorf("two receipts for index %d", p.Index)
	}
	f.promised[p.Index] = leaf
	f.count++
	_, err = f.note(p.Checkpoint)
	return err
}

// note takes a checkpoint into the record.
func (f *follower) note(b []byte) (checkpoint.Checkpoint, error) {
	var cp checkpoint.Checkpoint
	n, err := checkpoint.ParseNote(b)
	if err == nil {
		err = f.key.VerifyLog(n)
	}
	if err == nil {
		cp, err = checkpoint.ParseCheckpoint(n.Text)
	}
	if err != nil {
		return cp, err
	}
	if was, ok := f.roots[cp.Size]; ok && was != cp.Root {
		return cp, fmt.Errorf("fork: two roots at size %d", cp.Size)
	}
	f.roots[cp.Size] = cp.Root
	f.newest = max(f.newest, cp.Size)
	return cp, nil
}

// follow reads what is new and compares it with the record.
func (f *follower) follow(c *http.Client, url string) error {
	b, err := fetch(c, url+"checkpoint")
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.newest
	cp, err := f.note(b)
	if err != nil {
		return err
	}
	if cp.Size < before || cp.Size < f.rng.End() {
		return fmt.Errorf("rolled back: size %d, was %d", cp.Size, max(before, f.rng.End()))
	}
	for f.rng.End() < cp.Size {
		n := f.rng.End() / entry.TileWidth
		path := entry.TilePath{Entries: true, Index: n, Width: int(min(cp.Size-n*entry.TileWidth, entry.TileWidth))}
		bundle, err := fetch(c, url+path.String()[1:])
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		const row = 2 + entry.LeafSize
		if len(bundle) != path.Width*row {
			return fmt.Errorf("%s: %d bytes", path, len(bundle))
		}
		for i := int(f.rng.End() % entry.TileWidth); i < path.Width; i++ {
			if err := f.take(bundle[i*row+2 : (i+1)*row]); err != nil {
				return err
			}
		}
	}
	for i := range f.promised {
		return fmt.Errorf("lost: entry %d was acknowledged, the log has %d entries", i, cp.Size)
	}
	return nil
}

// take compares the next leaf with the receipt for its place, and the tree with
// the checkpoint of its size.
func (f *follower) take(leaf []byte) error {
	i, h := f.rng.End(), entry.LeafHash(leaf)
	if want, ok := f.promised[i]; ok && want != h {
		return fmt.Errorf("moved: entry %d is not the one that was acknowledged", i)
	}
	delete(f.promised, i)
	f.classes = append(f.classes, entry.Class(leaf[1]))
	if err := f.rng.Append(h[:], nil); err != nil {
		return err
	}
	if want, ok := f.roots[i+1]; ok {
		root, err := f.rng.GetRootHash(nil)
		if err != nil {
			return err
		}
		if entry.Hash(root) != want {
			return fmt.Errorf("fork: the checkpoint of size %d that was shown has another root", i+1)
		}
	}
	return nil
}

// load posts from many goroutines, so that the queue is never empty, until more
// receipts are in hand than want; then it kills the log in the midst of it. It
// returns the receipts by payload.
func load(t testing.TB, f *follower, p *process, cycle, want int) map[string][]byte {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer c.CloseIdleConnections()
	var mu sync.Mutex
	got := map[string][]byte{}
	var n atomic.Int64
	var wg sync.WaitGroup
	enough := make(chan struct{})
	for range 64 {
		wg.Go(func() {
			for ctx.Err() == nil {
				payload := fmt.Sprintf("cycle %d statement %d %0256d", cycle, n.Add(1), cycle)
				status, b, _, err := post(ctx, c, p.url+"receipt", payload)
				if err != nil || status != http.StatusOK {
					return // it is dead: nothing was promised
				}
				if err := f.receipt(payload, b); err != nil {
					t.Error(err)
				}
				mu.Lock()
				got[payload] = b
				if len(got) == want {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	ended := make(chan struct{})
	go func() { wg.Wait(); close(ended) }()
	select {
	case <-enough:
	case <-ended:
		t.Errorf("cycle %d: the log ended by itself after %d receipts: %s", cycle, len(got), p.stderr.String())
	}
	p.kill()
	cancel()
	<-ended
	return got
}

// again asks for receipts again: they must be the same, byte by byte.
func again(p *process, c *http.Client, receipts map[string][]byte) error {
	for payload, want := range receipts {
		status, b, _, err := post(context.Background(), c, p.url+"receipt", payload)
		if err != nil || status != http.StatusOK || string(b) != string(want) {
			return fmt.Errorf("the receipt of %.40q has changed (%d, %v)", payload, status, err)
		}
	}
	return nil
}

// number is a count from the environment, for campaigns.
func number(t testing.TB, name string, def int) int {
	s := os.Getenv(name)
	if s == "" {
		return def
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(name, err)
	}
	return n
}

// TestKillNine kills the log with its queue full, again and again, every tenth
// time also while it starts, and holds what is left against the receipts and
// checkpoints that this process has kept. FABTRAIL_KILLS and
// FABTRAIL_KILL_RECEIPTS (of one cycle) make a campaign of it.
func TestKillNine(t *testing.T) {
	cycles, want := number(t, "FABTRAIL_KILLS", 25), number(t, "FABTRAIL_KILL_RECEIPTS", 300)
	if testing.Short() {
		cycles = 2
	}
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(1, uint64(cycles)))
	f := newFollower()
	c := http.DefaultClient
	starts := make([]time.Duration, 0, cycles+1)
	last := map[string][]byte{}
	recoveries := 0
	begun := time.Now()
	args := []string{"--rotate", "262144"}
	for cycle := range cycles + 1 {
		if cycle%10 == 3 { // and once more while it recovers
			p := start(t, dir, args...)
			timer := time.After(time.Duration(rng.IntN(40)) * time.Millisecond)
			<-timer
			p.kill()
			recoveries++
		}
		at := time.Now()
		p := start(t, dir, args...)
		p.ready(t)
		starts = append(starts, time.Since(at))
		if err := errors.Join(f.follow(c, p.url), again(p, c, last)); err != nil {
			t.Fatalf("after kill %d: %v", cycle, err)
		}
		if cycle == cycles {
			break
		}
		last = load(t, f, p, cycle, want+rng.IntN(want/4+1))
		for payload := range last { // as many as can be asked again quickly
			if len(last) <= 64 {
				break
			}
			delete(last, payload)
		}
		c.CloseIdleConnections()
		if cycle%100 == 99 {
			t.Logf("%d kills, %d receipts, %s", cycle+1, f.count, time.Since(begun).Round(time.Second))
		}
	}
	slices.Sort(starts)
	t.Logf("kill -9: %d cycles, %d more while starting, %d receipts, %d entries: 0 lost, 0 moved, 0 forks; ready p50 %s, p99 %s; %s",
		cycles, recoveries, f.count, f.rng.End(), starts[len(starts)/2].Round(time.Millisecond),
		starts[len(starts)*99/100].Round(time.Millisecond), time.Since(begun).Round(time.Second))
}
