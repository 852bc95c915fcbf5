package witness

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/mod/sumdb/tlog"
)

const origin = "ledger.example/fab"

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newSigner(t testing.TB, name string, typ byte) *checkpoint.Signer {
	t.Helper()
	s := sha256.Sum256([]byte("test key of " + name))
	return must[*checkpoint.Signer](t)(checkpoint.NewSigner(name, typ, ed25519.NewKeyFromSeed(s[:])))
}

// clock is a clock that stands still until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Unix(1763683200, 0)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// testLog is a log of n entries. Its second history differs from its first in
// the entry at index fork and all after it.
type testLog struct {
	signer *checkpoint.Signer
	tree   []tlog.Hash
	roots  []entry.Hash
}

const logSize = 40

var logs sync.Map // name, history -> *testLog: trees are made once

func newLog(t testing.TB, name string, fork int64) *testLog {
	t.Helper()
	id := fmt.Sprint(name, fork)
	if l, ok := logs.Load(id); ok {
		return l.(*testLog)
	}
	l := &testLog{signer: newSigner(t, name, checkpoint.TypeLog), roots: []entry.Hash{checkpoint.EmptyRoot}}
	for i := range int64(logSize) {
		text := fmt.Sprintf("entry %d", i)
		if fork >= 0 && i >= fork {
			text += " of another history"
		}
		l.tree = append(l.tree, must[[]tlog.Hash](t)(tlog.StoredHashes(i, []byte(text), l))...)
		l.roots = append(l.roots, entry.Hash(must[tlog.Hash](t)(tlog.TreeHash(i+1, l))))
	}
	logs.Store(id, l)
	return l
}

func (l *testLog) ReadHashes(indexes []int64) (out []tlog.Hash, err error) {
	for _, i := range indexes {
		out = append(out, l.tree[i])
	}
	return out, nil
}

func (l *testLog) cp(size uint64) checkpoint.Checkpoint {
	return checkpoint.Checkpoint{Origin: l.signer.VKey().Name, Size: size, Root: l.roots[size]}
}

func (l *testLog) sign(t testing.TB, cp checkpoint.Checkpoint) checkpoint.Note {
	t.Helper()
	sig := must[checkpoint.NoteSig](t)(l.signer.SignLog(cp.Text()))
	return checkpoint.Note{Text: cp.Text(), Sigs: []checkpoint.NoteSig{sig}}
}

func (l *testLog) note(t testing.TB, size uint64) checkpoint.Note { return l.sign(t, l.cp(size)) }

func (l *testLog) proof(old, size uint64) []entry.Hash {
	if old == 0 || old >= size {
		return nil
	}
	p, err := tlog.ProveTree(int64(size), int64(old), l)
	if err != nil {
		panic(err)
	}
	var out []entry.Hash
	for _, h := range p {
		out = append(out, entry.Hash(h))
	}
	return out
}

func (l *testLog) consistency(_ context.Context, old, size uint64) ([]entry.Hash, error) {
	return l.proof(old, size), nil
}

func (l *testLog) request(t testing.TB, old, size uint64) Request {
	return Request{Old: old, Proof: l.proof(old, size), Note: l.note(t, size)}
}

func (l *testLog) asLog() Log {
	return Log{Origin: l.signer.VKey().Name, Keys: []checkpoint.VKey{l.signer.VKey()}}
}

func fileOptions(fs vfs.FS) FileOptions {
	return FileOptions{FS: fs, Dir: "state", MarkDir: "mark", Create: true}
}

func openStore(t testing.TB, fs vfs.FS) *FileStore {
	t.Helper()
	s := must[*FileStore](t)(OpenFileStore(fileOptions(fs)))
	t.Cleanup(func() { _ = s.Close() })
	return s
}

type fixture struct {
	*Server
	log   *testLog
	store *FileStore
	clock *clock
	vkey  checkpoint.VKey
}

// newWitness returns a witness of the test log with an empty store in memory.
func newWitness(t testing.TB, name string, change ...func(*Config)) *fixture {
	t.Helper()
	f := &fixture{log: newLog(t, origin, -1), store: openStore(t, vfs.NewMem()), clock: newClock()}
	s := newSigner(t, name, checkpoint.TypeCosigner)
	f.vkey = s.VKey()
	cfg := Config{
		Logs: []Log{f.log.asLog()}, Signer: s, Store: f.store, Clock: f.clock.Now, Metrics: NewMetrics(),
		Limits: Limits{PerClient: -1, PerLog: -1},
	}
	for _, c := range change {
		c(&cfg)
	}
	f.Server = must[*Server](t)(New(cfg))
	return f
}

func post(h http.Handler, body []byte) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("POST", "/add-checkpoint", strings.NewReader(string(body))))
	return w
}

func get(h http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w
}

// cosigned fails unless the answer is 200 with one good cosignature of the note,
// made now.
func (f *fixture) cosigned(t testing.TB, w *httptest.ResponseRecorder, n checkpoint.Note) {
	t.Helper()
	if w.Code != 200 {
		t.Fatalf("answer %d: %s", w.Code, w.Body)
	}
	sigs := must[[]checkpoint.NoteSig](t)(checkpoint.ParseSigLines(w.Body.String()))
	at := must[uint64](t)(f.vkey.VerifyCosignature(checkpoint.Note{Text: n.Text, Sigs: sigs}))
	if len(sigs) != 1 || int64(at) != f.clock.Now().Unix() {
		t.Fatalf("%d signatures, time %d", len(sigs), at)
	}
}

// advance has the witness cosign a size of the log.
func (f *fixture) advance(t testing.TB, old, size uint64) {
	t.Helper()
	r := f.log.request(t, old, size)
	f.cosigned(t, post(f, r.Marshal()), r.Note)
}
