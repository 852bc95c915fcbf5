package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// followed is a ledger that signs on a cluster, with what its replicas need.
type followed struct {
	cluster *ledgertest.Cluster
	witness *ledgertest.Cosigner
	l       *ledger.Ledger
	ids     []entry.Hash
}

func newFollowed(t *testing.T) *followed {
	t.Helper()
	f, _ := newFollowedOn(t, vfs.NewMem())
	return f
}

// newFollowedOn keeps its own database on fs, which it returns.
func newFollowedOn(t *testing.T, fs *vfs.MemFS) (*followed, *vfs.MemFS) {
	t.Helper()
	f := &followed{cluster: new(ledgertest.Cluster), witness: ledgertest.NewCosigner("w", ledgertest.LogSigner(origin).VKey())}
	cfg := config(fs)
	cfg.Cosigner, cfg.Policy, cfg.Sequencer = f.witness, f.witness.Policy(), f.cluster.Open()
	var err error
	if f.l, err = ledger.Open(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.l.Close() })
	return f, fs
}

func (f *followed) append(t *testing.T, n int) {
	t.Helper()
	for range n {
		sub := ledgertest.Submission(fmt.Sprintf("s%d\ntopic t%d\nadd c", len(f.ids), len(f.ids)%3))
		if r := f.l.Append(context.Background(), []ledger.Submission{sub})[0]; r.Err != nil || r.Pending {
			t.Fatalf("append: %v, pending %v", r.Err, r.Pending)
		}
		f.ids = append(f.ids, sub.ID)
	}
}

// replica opens a follower on a file system of its own.
func (f *followed) replica(t *testing.T, fs vfs.FS, seq ledger.Sequencer) *ledger.Ledger {
	t.Helper()
	cfg := config(fs)
	cfg.Policy, cfg.Sequencer = f.witness.Policy(), seq
	r, err := ledger.OpenReplica(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// follow hands every note on that the replica lacks.
func (f *followed) follow(t *testing.T, r *ledger.Ledger) {
	t.Helper()
	for {
		notes, err := f.l.Notes(r.Published().Size(), 3)
		if err != nil {
			t.Fatal(err)
		}
		if len(notes) == 0 {
			return
		}
		for _, n := range notes {
			if err := r.Advance(context.Background(), n.Note); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// equal holds everything that a replica says against the ledger that signs.
func (f *followed) equal(t *testing.T, r *ledger.Ledger) {
	t.Helper()
	a, b := f.l.Published(), r.Published()
	if a.Size() != b.Size() || a.Root() != b.Root() || a.IndexRoot() != b.IndexRoot() || string(a.Checkpoint()) != string(b.Checkpoint()) {
		t.Fatalf("the replica is at size %d, the ledger at %d, or it says something else", b.Size(), a.Size())
	}
	for _, id := range f.ids {
		x, err := f.l.Receipt(id)
		y, rerr := r.Receipt(id)
		if err != nil || rerr != nil || string(x.Receipt) != string(y.Receipt) || x.Effect != y.Effect || string(x.Envelope) != string(y.Envelope) {
			t.Fatalf("receipts of %s differ: %v, %v", id, err, rerr)
		}
	}
	for i := range 4 {
		x, _, err := a.List(ledgertest.Topic(fmt.Sprintf("t%d", i)))
		y, _, rerr := b.List(ledgertest.Topic(fmt.Sprintf("t%d", i)))
		if err != nil || rerr != nil || fmt.Sprint(x) != fmt.Sprint(y) {
			t.Fatalf("lists of topic t%d differ: %v, %v", i, err, rerr)
		}
	}
}

// TestReplica: a replica that is fed notes says byte for byte what the ledger says,
// after a restart too, and takes nothing itself.
func TestReplica(t *testing.T) {
	f, fs := newFollowed(t), vfs.NewMem()
	f.append(t, 5)
	r := f.replica(t, fs, f.cluster.Open())
	f.follow(t, r)
	f.equal(t, r)
	if err := f.l.Recosign(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := r.Advance(context.Background(), f.l.Published().Checkpoint()); err != nil {
		t.Fatal(err)
	}
	f.equal(t, r)
	f.append(t, 4)
	if res := r.Append(context.Background(), []ledger.Submission{ledgertest.Submission("x")})[0]; !errors.Is(res.Err, ledger.ErrReplica) {
		t.Fatalf("Append on a replica: %v", res.Err)
	}
	if _, err := r.PutManifest([]byte("m")); !errors.Is(err, ledger.ErrReplica) {
		t.Fatalf("PutManifest on a replica: %v", err)
	}
	if err := r.Tick(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = f.replica(t, fs, f.cluster.Open())
	f.follow(t, r)
	f.equal(t, r)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestReplicaRefuses: what the policy does not accept is not published, and what the
// entries do not bear out stops the replica.
// TestPastPolicies: what was published before a change of the policy brings a new replica
// and a standby without a journal on their way only if they know the policy of then.
func TestPastPolicies(t *testing.T) {
	f := newFollowed(t)
	f.append(t, 2)
	notes, err := f.l.Notes(0, 1)
	if err != nil || len(notes) != 1 {
		t.Fatal(notes, err)
	}
	shared := func(_ context.Context, after uint64) ([][]byte, error) {
		if notes[0].Size <= after {
			return nil, nil
		}
		return [][]byte{notes[0].Note}, nil
	}
	then, now := f.witness.Policy(), ledgertest.NewCosigner("new", ledgertest.LogSigner(origin).VKey())
	if err := f.l.Close(); err != nil {
		t.Fatal(err)
	}
	for name, past := range map[string][]*checkpoint.Policy{"known": {then}, "unknown": nil} {
		cfg := config(vfs.NewMem())
		cfg.Policy, cfg.Past, cfg.Sequencer = now.Policy(), past, f.cluster.Open()
		r, err := ledger.OpenReplica(context.Background(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		err = r.Advance(context.Background(), notes[0].Note)
		if got := r.Published().Size(); (err == nil) != (past != nil) || (got == notes[0].Size) != (past != nil) {
			t.Errorf("past policy %s: replica at size %d: %v", name, got, err)
		}
		shut(t, r)
		cfg = config(vfs.NewMem())
		cfg.Policy, cfg.Past, cfg.Cosigner, cfg.Sequencer, cfg.Shared = now.Policy(), past, now, f.cluster.Open(), shared
		s, err := ledger.Open(context.Background(), cfg)
		if (err == nil) != (past != nil) {
			t.Errorf("past policy %s: standby: %v", name, err)
		}
		if err == nil {
			shut(t, s)
		}
	}
}

func TestReplicaRefuses(t *testing.T) {
	f := newFollowed(t)
	f.append(t, 3)
	r := f.replica(t, vfs.NewMem(), f.cluster.Open())
	defer r.Close()
	ctx := context.Background()
	good := f.l.Published().Checkpoint()
	n, err := checkpoint.ParseNote(good)
	if err != nil {
		t.Fatal(err)
	}
	bare := checkpoint.Note{Text: n.Text, Sigs: n.Sigs[:1]}.Marshal()
	if err := r.Advance(ctx, bare); err == nil || r.Published().Size() != 0 {
		t.Fatalf("a note without the quorum: %v, size %d", err, r.Published().Size())
	}
	if err := r.Advance(ctx, good); err != nil {
		t.Fatal(err)
	}
	// The log's key signs another root at a size of its own choice.
	fork := f.fork(t, r.Published().Size()+0)
	if err := r.Advance(ctx, fork); !errors.Is(err, ledger.ErrFailed) {
		t.Fatalf("two roots at a size: %v, want ErrFailed", err)
	}
	if string(r.Published().Checkpoint()) != string(good) {
		t.Fatal("the fork is published")
	}

	other := new(ledgertest.Cluster) // entries that are not what was signed
	seq := other.Open()
	for i := range 6 {
		if err := seq.Add(ctx, uint64(i), []ledger.Leaf{ledgertest.Leaf(i)}); err != nil {
			t.Fatal(err)
		}
	}
	r2 := f.replica(t, vfs.NewMem(), other.Open())
	defer r2.Close()
	if err := r2.Advance(ctx, good); !errors.Is(err, ledger.ErrFailed) || r2.Published().Size() != 0 {
		t.Fatalf("entries of another tree: %v, size %d; want ErrFailed and nothing published", err, r2.Published().Size())
	}
}

// fork makes a note of the log, cosigned, with a root that nothing has.
func (f *followed) fork(t *testing.T, size uint64) []byte {
	t.Helper()
	text := checkpoint.Checkpoint{Origin: origin, Size: size, Root: entry.Hash{1}}.Text()
	sig, err := ledgertest.LogSigner(origin).SignLog(text)
	if err != nil {
		t.Fatal(err)
	}
	w := ledgertest.NewCosigner("w", ledgertest.LogSigner(origin).VKey())
	note, err := w.Cosign(context.Background(), 0, checkpoint.Note{Text: text, Sigs: []checkpoint.NoteSig{sig}}.Marshal(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return note
}

// TestFeed: a ledger that was fed to another engine goes on there, with the same
// tree and the same receipts; an engine with another tree is refused.
func TestFeed(t *testing.T) {
	fs, ctx := vfs.NewMem(), context.Background()
	cfg := config(fs)
	l, err := ledger.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	var ids []entry.Hash
	var receipts []string
	for i := range 7 {
		sub := ledgertest.Submission(fmt.Sprintf("s%d\ntopic t", i))
		r := l.Append(ctx, []ledger.Submission{sub})[0]
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		ids, receipts = append(ids, sub.ID), append(receipts, string(r.Receipt))
	}
	wrong := new(ledgertest.Cluster).Open()
	if err := wrong.Add(ctx, 0, []ledger.Leaf{ledgertest.Leaf(0)}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Feed(ctx, wrong, func(uint64, uint64) {}); !errors.Is(err, ledger.ErrConflict) {
		t.Fatalf("an engine with another tree: %v, want ErrConflict", err)
	}
	c := new(ledgertest.Cluster)
	head, err := l.Feed(ctx, c.Open(), func(uint64, uint64) {})
	if err != nil || head.Size != l.Published().Size() || head.Root != l.Published().Root() {
		t.Fatalf("fed: %v, %v", head, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	cfg = config(fs)
	cfg.Sequencer = c.Open()
	if l, err = ledger.Open(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for i, id := range ids {
		if r, err := l.Receipt(id); err != nil || string(r.Receipt) != receipts[i] {
			t.Fatalf("receipt %d is another after the move: %v", i, err)
		}
	}
	if r := l.Append(ctx, []ledger.Submission{ledgertest.Submission("after")})[0]; r.Err != nil || r.Index != head.Size {
		t.Fatalf("after the move: index %d, %v; want %d", r.Index, r.Err, head.Size)
	}
}
