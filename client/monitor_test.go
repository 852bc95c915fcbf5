package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/custody/answer/answertest"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// operator is a log and its three witnesses as a monitor sees them. It may have
// more than one history.
type operator struct {
	t     *testing.T
	world *answertest.World
	now   time.Time
	note  []byte            // published
	size  uint64            // proofs are given up to here
	tree  answertest.Tree   // that proofs are of
	views map[string][]byte // what each witness shows
	broke map[string]error  // witnesses that do not answer
	err   error             // the log does not answer
	lies  func([]entry.Hash) []entry.Hash
	asked []string // sizes that proofs were asked for
}

func newOperator(t *testing.T) *operator {
	t.Helper()
	w := answertest.NewWorld(answertest.NewLog(t))
	w.Publish()
	o := &operator{t: t, world: w, now: time.UnixMilli(int64(w.Time)), views: map[string][]byte{}, broke: map[string]error{}}
	for len(o.tree) < 40 {
		o.tree = append(o.tree, entry.Hash{byte(len(o.tree)), 7})
	}
	return o
}

// fork is a tree that differs from o's at entry n.
func (o *operator) fork(n int) answertest.Tree {
	tree := slices.Clone(o.tree)
	tree[n][1] ^= 1
	return tree
}

func (o *operator) cp(tree answertest.Tree, n uint64) checkpoint.Checkpoint {
	return checkpoint.Checkpoint{Origin: answertest.Origin, Size: n, Root: tree[:n].Root()}
}

// sign has the log and some witnesses (w1, w2, w3, index) sign now.
func (o *operator) sign(cp checkpoint.Checkpoint, by ...string) []byte {
	o.t.Helper()
	n := checkpoint.Note{Text: cp.Text()}
	add := func(s checkpoint.NoteSig, err error) {
		if err != nil {
			o.t.Fatal(err)
		}
		n.Sigs = append(n.Sigs, s)
	}
	add(o.world.Signer.SignLog(n.Text))
	for _, name := range by {
		s := o.world.IndexKey
		if name != "index" {
			s = o.world.Witnesses[name[1]-'1']
		}
		add(s.Cosign(n.Text, uint64(o.now.Unix())))
	}
	return n.Marshal()
}

// publish has size n of a tree cosigned by all, shown by all, and published.
func (o *operator) publish(n uint64) {
	o.note, o.size = o.sign(o.cp(o.tree, n), "w1", "w2", "w3", "index"), n
	for _, w := range []string{"w1", "w2", "w3"} {
		o.views[w] = o.sign(o.cp(o.tree, n), w)
	}
}

func (o *operator) Checkpoint(context.Context) ([]byte, error) { return o.note, o.err }

func (o *operator) Consistency(_ context.Context, from, to uint64) ([]entry.Hash, error) {
	o.asked = append(o.asked, fmt.Sprintf("%d-%d", from, to))
	if o.err != nil || to > o.size {
		return nil, errors.New("not published")
	}
	hashes := o.tree[:to].Consistency(int(from))
	if o.lies != nil {
		hashes = o.lies(hashes)
	}
	return hashes, nil
}

// includer is an operator that gives inclusion proofs too.
type includer struct{ *operator }

func (o includer) Inclusion(_ context.Context, index, size uint64) (entry.Hash, []entry.Hash, error) {
	if size > o.size {
		return entry.Hash{}, nil, errors.New("not published")
	}
	return o.tree[index], o.tree[:size].Inclusion(int(index)), nil
}

// monitor watches o with a memory, and keeps fork proofs.
func (o *operator) monitor(mem Memory, forks *[]*Fork) *Monitor {
	t := trustOf(o.t, o.world.Log)
	m := &Monitor{Log: o, Trust: t, Memory: mem, Now: func() time.Time { return o.now },
		SaveFork: func(f *Fork) error { *forks = append(*forks, f); return nil }}
	for _, w := range t.Policy.Witnesses() {
		m.Witnesses = append(m.Witnesses, MonitorWitness{Name: w.Name, VKey: w.VKey, View: func(context.Context) ([]byte, error) {
			return o.views[w.Name], o.broke[w.Name]
		}})
	}
	return m
}

// look does a round and compares the alarms with those wanted, each as
// "code" or "code witness".
func look(t *testing.T, m *Monitor, want ...string) *Observation {
	t.Helper()
	o, err := m.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, a := range o.Alarms {
		got[strings.TrimSpace(a.Code+" "+a.Witness)] = true
		if a.Text == "" || !slices.Contains(Alarms, a.Code) {
			t.Errorf("alarm %+v", a)
		}
	}
	list := slices.Sorted(maps.Keys(got))
	slices.Sort(want)
	if !slices.Equal(list, want) {
		t.Fatalf("alarms %v, want %v: %+v", list, want, o.Alarms)
	}
	return o
}

func cursor(t *testing.T, mem memory) uint64 {
	t.Helper()
	if mem[answertest.Origin] == nil {
		return 0
	}
	n, err := checkpoint.ParseNote(mem[answertest.Origin])
	if err != nil {
		t.Fatal(err)
	}
	cp, err := checkpoint.ParseCheckpoint(n.Text)
	if err != nil {
		t.Fatal(err)
	}
	return cp.Size
}

// A log that behaves raises no alarm, and the cursor follows it.
func TestMonitorQuiet(t *testing.T) {
	o, mem, forks := newOperator(t), memory{}, []*Fork{}
	m := o.monitor(mem, &forks)
	for _, n := range []uint64{1, 5, 5, 12, 39} {
		o.publish(n)
		o.now = o.now.Add(time.Minute)
		before := cursor(t, mem)
		r := look(t, m)
		if r.Size != n || cursor(t, mem) != n || !r.Indexed || len(r.Witnesses) != 3 || r.Age != time.Minute || r.Advanced != (before != n) {
			t.Errorf("size %d: cursor %d, %+v", n, cursor(t, mem), r)
		}
		for _, w := range r.Witnesses {
			if w.Size != n || w.Lag != time.Minute {
				t.Errorf("size %d: %+v", n, w)
			}
		}
	}
	if len(forks) > 0 || len(mem) != 1 {
		t.Errorf("%d forks, remembers %d notes", len(forks), len(mem))
	}
}

// Every way in which a log or its witnesses are seen to go wrong.
func TestMonitorAlarms(t *testing.T) {
	const size = 20
	for _, tc := range []struct {
		name  string
		wrong func(*operator)
		want  []string
		moves bool // whether the cursor moves nevertheless
	}{
		{"the log does not answer", func(o *operator) { o.err = errors.New("refused") }, []string{"unreachable"}, false},
		{"an empty answer", func(o *operator) { o.note = nil }, []string{"log-key"}, false},
		{"another log", func(o *operator) {
			cp := o.cp(o.tree, size)
			cp.Origin = "other.example"
			o.note = o.sign(cp, "w1", "w2")
		}, []string{"log-key"}, false},
		{"a bad signature", func(o *operator) { o.note[len(o.note)-10] ^= 1 }, []string{"log-key"}, false},
		{"no quorum", func(o *operator) { o.note = o.sign(o.cp(o.tree, size), "w2", "index") }, []string{"quorum"}, false},
		{"no index witness", func(o *operator) { o.note = o.sign(o.cp(o.tree, size), "w1", "w2", "w3") }, []string{"index"}, true},
		{"stale", func(o *operator) { o.now = o.now.Add(61 * time.Minute) }, []string{"stale", "witness-lag w1", "witness-lag w2", "witness-lag w3"}, true},
		{"from the future", func(o *operator) { o.now = o.now.Add(-6 * time.Minute) }, []string{"stale"}, true},
		{"one witness is down", func(o *operator) { o.broke["w2"] = errors.New("refused") }, []string{"witness w2"}, true},
		{"one witness knows nothing", func(o *operator) {
			delete(o.views, "w2")
			o.note = o.sign(o.cp(o.tree, size), "w1", "w3", "index")
		}, []string{"witness-lag w2"}, true},
		{"one witness lags", func(o *operator) {
			o.now = o.now.Add(-2 * time.Hour)
			old := o.sign(o.cp(o.tree, 12), "w2")
			o.now = o.now.Add(2 * time.Hour)
			o.note = o.sign(o.cp(o.tree, size), "w1", "w3", "index")
			o.views["w2"] = old
		}, []string{"witness-lag w2"}, true},
		{"one witness shows a page", func(o *operator) { o.views["w2"] = []byte("<html>") }, []string{"witness w2"}, true},
		{"one witness shows what the log did not sign", func(o *operator) {
			o.views["w2"] = []byte(strings.Replace(string(o.views["w2"]), answertest.Origin+"\n20", answertest.Origin+"\n21", 1))
		}, []string{"witness w2"}, true},
		{"one witness is behind, on the same history", func(o *operator) { o.views["w3"] = o.sign(o.cp(o.tree, 3), "w3") }, nil, true},
		{"one witness is a moment ahead", func(o *operator) { o.views["w3"] = o.sign(o.cp(o.tree, 22), "w3") }, nil, true},
		{"one witness was shown another root", func(o *operator) { o.views["w3"] = o.sign(o.cp(o.fork(2), size), "w3") }, []string{"fork"}, false},
		{"one witness was shown another history", func(o *operator) { o.views["w3"] = o.sign(o.cp(o.fork(2), 15), "w3") }, []string{"fork"}, false},
		{"another history than before", func(o *operator) {
			o.tree = o.fork(2)
			o.publish(size)
		}, []string{"fork"}, false},
		{"another root than before", func(o *operator) {
			o.tree = o.fork(2)
			o.publish(10)
		}, []string{"fork"}, false},
		{"another root, signed by the log alone", func(o *operator) { o.note = o.sign(o.cp(o.fork(2), 10)) }, []string{"fork", "quorum"}, false},
		{"an older checkpoint", func(o *operator) { o.publish(4) }, []string{"rollback", "no-proof"}, false},
		{"no proofs", func(o *operator) { o.size = 11 }, []string{"no-proof"}, false},
		{"false proofs", func(o *operator) { o.lies = func(h []entry.Hash) []entry.Hash { return h[1:] } }, []string{"fork"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o, mem, forks := newOperator(t), memory{}, []*Fork{}
			m := o.monitor(mem, &forks)
			o.publish(10)
			look(t, m)
			o.now = o.now.Add(time.Minute)
			o.publish(size)
			tc.wrong(o)
			r := look(t, m, tc.want...)
			want := uint64(10)
			if tc.moves {
				want = size
			}
			if got := cursor(t, mem); got != want || r.Advanced != tc.moves {
				t.Errorf("the cursor is at %d, want %d", got, want)
			}
			if isFork := slices.ContainsFunc(tc.want, func(s string) bool { return strings.HasPrefix(s, AlarmFork) }); isFork != (len(forks) > 0) {
				t.Errorf("%d fork proofs", len(forks))
			}
			for _, f := range forks { // each convicts in the hands of somebody else
				c, err := f.Judge(m.Trust)
				if err != nil || !c.Certain && !strings.Contains(c.Says, "does not join") {
					t.Errorf("%+v, %v", c, err)
				}
			}
			if blind := tc.name == "the log does not answer"; r.Blind() && !blind {
				t.Errorf("%v count as blind", r.Alarms)
			}
		})
	}
}

// What a witness cosigned ahead of the log is kept until the log has published
// that far, even when the witness itself shows something else by then.
func TestMonitorKeepsClaims(t *testing.T) {
	o, mem, forks := newOperator(t), memory{}, []*Fork{}
	o.publish(10)
	look(t, o.monitor(mem, &forks))
	o.views["w3"] = o.sign(o.cp(o.fork(12), 15), "w3") // a second history, not yet to be seen
	look(t, o.monitor(mem, &forks))
	o.now = o.now.Add(2 * time.Hour)
	o.publish(11)
	look(t, o.monitor(mem, &forks), "withheld w3")
	if cursor(t, mem) != 11 {
		t.Errorf("the cursor is at %d", cursor(t, mem))
	}
	o.publish(20) // and w3 shows the true one
	look(t, o.monitor(mem, &forks), "fork")
	if len(forks) != 2 || cursor(t, mem) != 11 {
		t.Fatalf("%d forks, the cursor is at %d", len(forks), cursor(t, mem))
	}
	look(t, o.monitor(mem, &forks), "fork") // it is not forgotten

	// An honest witness that was ahead is forgotten once the log has caught up.
	o, mem, forks = newOperator(t), memory{}, []*Fork{}
	o.publish(10)
	o.views["w1"] = o.sign(o.cp(o.tree, 15), "w1")
	look(t, o.monitor(mem, &forks))
	o.publish(20)
	look(t, o.monitor(mem, &forks))
	look(t, o.monitor(mem, &forks))
	if len(mem[o.monitor(mem, &forks).pendingName("w1")]) > 0 || cursor(t, mem) != 20 {
		t.Errorf("remembers %q, the cursor is at %d", mem, cursor(t, mem))
	}
}

// The cursor moves only after everything else: not when a proof could not be
// written, not when the round was cut short.
func TestMonitorCursorLast(t *testing.T) {
	o, mem, forks := newOperator(t), memory{}, []*Fork{}
	m := o.monitor(mem, &forks)
	o.publish(10)
	look(t, m)
	full := errors.New("disk full")
	o.publish(20)
	o.views["w3"] = o.sign(o.cp(o.fork(2), 20), "w3")
	m.SaveFork = func(*Fork) error { return full }
	if _, err := m.Look(t.Context()); !errors.Is(err, full) || cursor(t, mem) != 10 {
		t.Errorf("%v, the cursor is at %d", err, cursor(t, mem))
	}
	o.publish(20)
	ctx, cancel := context.WithCancel(t.Context())
	m.Witnesses[0].View = func(context.Context) ([]byte, error) { cancel(); return nil, ctx.Err() }
	if _, err := m.Look(ctx); !errors.Is(err, context.Canceled) || cursor(t, mem) != 10 {
		t.Errorf("%v, the cursor is at %d", err, cursor(t, mem))
	}
	m = o.monitor(mem, &forks)
	m.Memory = stuck{mem, full}
	if r, err := m.Look(t.Context()); !errors.Is(err, full) || r.Advanced {
		t.Errorf("%v, %+v", err, r)
	}
	look(t, o.monitor(mem, &forks))
	if cursor(t, mem) != 20 {
		t.Errorf("the cursor is at %d", cursor(t, mem))
	}
}

type stuck struct {
	memory
	err error
}

func (s stuck) Store(string, []byte) error { return s.err }

// A damaged memory is called that, and nothing is concluded from it.
func TestMonitorDamagedMemory(t *testing.T) {
	o, forks := newOperator(t), []*Fork{}
	o.publish(10)
	mem := memory{answertest.Origin: []byte("damaged")}
	if r := look(t, o.monitor(mem, &forks), "memory"); !r.Blind() {
		t.Error("a damaged memory speaks against the log")
	}
	// What does not rest on it is still looked at; the damaged file stays as it is.
	o.note = o.sign(o.cp(o.tree, 10), "w1", "index")
	if r := look(t, o.monitor(mem, &forks), "memory", "quorum"); r.Blind() || r.Advanced {
		t.Errorf("beside a damaged memory: %+v", r)
	}
	o.publish(10)
	o.views["w2"] = o.sign(o.cp(o.fork(3), 10), "w2")
	look(t, o.monitor(mem, &forks), "memory", "fork")
	if len(forks) != 1 || string(mem[answertest.Origin]) != "damaged" {
		t.Errorf("%d fork proofs, and the memory became %q", len(forks), mem[answertest.Origin])
	}
	o.publish(10)
	forks = nil
	m := o.monitor(mem, &forks)
	mem = memory{m.pendingName("w2"): []byte("damaged")}
	look(t, o.monitor(mem, &forks), "memory w2")
	if len(forks) > 0 {
		t.Error("a damaged memory is taken for a fork")
	}
}

// A log without witnesses is still held to its past.
func TestMonitorWithoutWitnesses(t *testing.T) {
	o, mem, forks := newOperator(t), memory{}, []*Fork{}
	files := o.world.Trust()
	files[PolicyFile], files[IndexFile] = []byte("log "+o.world.Signer.VKey().String()+"\nquorum none\n"), nil
	trust, err := ParseTrust(files)
	if err != nil {
		t.Fatal(err)
	}
	m := o.monitor(mem, &forks)
	m.Trust, m.Witnesses = trust, nil
	o.note, o.size = o.sign(o.cp(o.tree, 10)), 10
	look(t, m)
	o.note, o.size = o.sign(o.cp(o.tree, 20)), 20
	look(t, m)
	o.tree = o.fork(15)
	o.note, o.size = o.sign(o.cp(o.tree, 30)), 30
	look(t, m, "fork")
	if cursor(t, mem) != 20 || len(forks) != 1 {
		t.Errorf("cursor %d, %d forks", cursor(t, mem), len(forks))
	}
}
