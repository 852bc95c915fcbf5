package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"fabtrail.dev/fabtrail/ledger/unitindex"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// indexed is a configuration whose index is kept in files however small it is.
func indexed(fs vfs.FS) ledger.Config {
	cfg := config(fs)
	cfg.IndexFile = 1
	return cfg
}

// addTopics appends n entries of some topics each.
func addTopics(t testing.TB, l *ledger.Ledger, seed uint64, n int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	var subs []ledger.Submission
	for i := range n {
		names := []string{"all"}
		for range 30 {
			names = append(names, fmt.Sprint(rng.IntN(2000)))
		}
		subs = append(subs, ledgertest.Submission(fmt.Sprintf("%d %d\ntopic %s", seed, i, strings.Join(names, "\ntopic "))))
	}
	for _, r := range l.Append(context.Background(), subs) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
}

// indexWhole holds lists of a view to its commitment.
func indexWhole(t testing.TB, l *ledger.Ledger) {
	t.Helper()
	v := l.Published()
	e, err := v.Entry(v.Size() - 1)
	if err != nil || e.IndexRoot != v.IndexRoot() {
		t.Fatalf("index root %s, commitment %s: %v", v.IndexRoot(), e.IndexRoot, err)
	}
	for i := range 40 {
		topic := ledgertest.Topic(fmt.Sprint(i * 50))
		refs, p, err := v.List(topic)
		if err != nil {
			t.Fatal(err)
		}
		value, present, err := unitindex.Verify(e.IndexRoot, topic, p)
		if err != nil || present != (len(refs) > 0) || present && value != unitindex.ListValue(refs) {
			t.Fatalf("topic %d: %v", i, err)
		}
	}
}

// A clean end leaves the index in a file; a start from it is a start from rows.
func TestIndexFromFile(t *testing.T) {
	mem := vfs.NewMem()
	cfg := indexed(mem)
	for round := range 4 {
		l := open(t, cfg)
		if l.IndexFromFile() != (round > 0) {
			t.Errorf("round %d: from file %t", round, l.IndexFromFile())
		}
		if round > 0 {
			indexWhole(t, l)
		}
		topics := l.Published().Topics()
		addTopics(t, l, uint64(round), 40)
		indexWhole(t, l)
		if l.Published().Topics() <= topics {
			t.Errorf("%d topics after %d", l.Published().Topics(), topics)
		}
		root := l.Published().IndexRoot()
		shut(t, l)
		rows := cfg
		rows.IndexFile = 1 << 40
		l = open(t, rows)
		if l.IndexFromFile() || l.Published().IndexRoot() != root {
			t.Error("a start from rows has another index")
		}
		shut(t, l)
	}
	rep, err := ledger.Fsck(t.Context(), ledger.FsckConfig{Dir: cfg.Dir, Origin: origin, Key: cfg.Signer.VKey(), FS: mem})
	if err != nil || len(rep.Damage) > 0 {
		t.Errorf("fsck: %v %v", rep.Damage, err)
	}
}

// No file but the right one is used, whatever happened to it, and without it the
// index is the same.
func TestIndexFileIsNeverTrusted(t *testing.T) {
	mem := vfs.NewMem()
	cfg := indexed(mem)
	name := mem.PathJoin(cfg.Dir, "index.newest")
	l := open(t, cfg)
	addTopics(t, l, 1, 20)
	shut(t, l)
	older := read(t, mem, name)
	l = open(t, cfg)
	addTopics(t, l, 2, 20)
	root := l.Published().IndexRoot()
	shut(t, l)
	good := read(t, mem, name)

	other := vfs.NewMem()
	l = open(t, indexed(other))
	addTopics(t, l, 3, 40)
	shut(t, l)
	stranger := read(t, other, name)

	check := func(what string, b []byte, want bool) {
		t.Helper()
		write(t, mem, name, b)
		l := open(t, cfg)
		defer shut(t, l)
		if l.IndexFromFile() != want || l.Published().IndexRoot() != root {
			t.Errorf("%s: from file %t, root %s, want %s", what, l.IndexFromFile(), l.Published().IndexRoot(), root)
		}
	}
	check("as written", good, true)
	check("of an earlier size", older, false)
	check("of another log", stranger, false)
	forged := bytes.Clone(older)
	copy(forged[len(forged)-72:], good[len(good)-72:])
	check("of an earlier size, with the newer trailer", forged, false)
	check("with a byte more", append(bytes.Clone(good), 0), false)
	check("empty", nil, false)
	for k := 1; k < len(good); k += 1 + len(good)/23 {
		check(fmt.Sprintf("cut at %d", k), good[:k], false)
	}
	rng := rand.New(rand.NewPCG(7, 7))
	for range 60 {
		b, at := bytes.Clone(good), rng.IntN(8*len(good))
		b[at/8] ^= 1 << (at % 8)
		check(fmt.Sprintf("bit %d flipped", at), b, false)
	}
	if err := mem.Remove(name); err != nil {
		t.Fatal(err)
	}
	l = open(t, cfg)
	if l.IndexFromFile() || l.Published().IndexRoot() != root {
		t.Error("without the file the index is another")
	}
	indexWhole(t, l)
	shut(t, l)
}

// A power loss at any moment of the clean end leaves a file that is not used, or the
// right one.
func TestIndexFileTorn(t *testing.T) {
	mem := vfs.NewCrashableMem()
	var clones []*vfs.MemFS
	rng := rand.New(rand.NewPCG(3, 3))
	cfg := indexed(mem)
	l := open(t, cfg)
	addTopics(t, l, 1, 20)
	shut(t, l)
	hook := &cloneFS{FS: mem, clone: func() {
		clones = append(clones, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng}))
	}}
	cfg.FS = hook
	l = open(t, cfg)
	addTopics(t, l, 2, 20)
	root := l.Published().IndexRoot()
	hook.on = true
	shut(t, l)
	hook.on = false
	hook.clone()
	var from int
	for i, c := range clones {
		cfg.FS = c
		l := open(t, cfg)
		if l.Published().IndexRoot() != root {
			t.Errorf("crash %d: index root %s, want %s", i, l.Published().IndexRoot(), root)
		}
		if l.IndexFromFile() {
			from++
		}
		indexWhole(t, l)
		shut(t, l)
	}
	if len(clones) < 6 || from == 0 || from == len(clones) {
		t.Errorf("%d crashes, %d of them with the file", len(clones), from)
	}
}

// cloneFS calls clone before everything that is done about files of the index.
type cloneFS struct {
	vfs.FS
	on    bool
	clone func()
}

func (fs *cloneFS) at(name string) {
	if fs.on && strings.Contains(name, "index.") {
		fs.clone()
	}
}

func (fs *cloneFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	fs.at(name)
	f, err := fs.FS.Create(name, c)
	return &cloneFile{f, fs, name}, err
}

func (fs *cloneFS) Rename(a, b string) error {
	fs.at(a)
	err := fs.FS.Rename(a, b)
	fs.at(b)
	return err
}

type cloneFile struct {
	vfs.File
	fs   *cloneFS
	name string
}

func (f *cloneFile) Write(b []byte) (int, error) {
	f.fs.at(f.name)
	return f.File.Write(b)
}

func (f *cloneFile) Sync() error {
	f.fs.at(f.name)
	err := f.File.Sync()
	f.fs.at(f.name)
	return err
}

// With an older publication both versions are kept; one that is lost is no harm.
func TestIndexFilesOfTwoVersions(t *testing.T) {
	for _, lost := range []string{"", "index.published", "index.newest"} {
		mem := vfs.NewMem()
		cfg := indexed(mem)
		l := open(t, cfg)
		addTopics(t, l, 1, 20)
		shut(t, l)
		size, signed := withoutWitnesses(t, cfg, func(l *ledger.Ledger) { addTopics(t, l, 2, 20) })
		if size >= signed {
			t.Fatalf("published %d, signed %d", size, signed)
		}
		if lost != "" {
			if err := mem.Remove(mem.PathJoin(cfg.Dir, lost)); err != nil {
				t.Fatal(err)
			}
		}
		again, _ := withoutWitnesses(t, cfg, func(l *ledger.Ledger) {
			if l.IndexFromFile() != (lost == "") {
				t.Errorf("lost %q: from file %t", lost, l.IndexFromFile())
			}
			indexWhole(t, l)
			if e, err := l.Signed().Entry(signed - 1); err != nil || e.IndexRoot != l.Signed().IndexRoot() {
				t.Errorf("signed: %v", err)
			}
		})
		if again != size {
			t.Errorf("published %d, before %d", again, size)
		}
	}
}

// withoutWitnesses opens the ledger while no witness answers, and returns what was
// published and signed in the end.
func withoutWitnesses(t testing.TB, cfg ledger.Config, fn func(*ledger.Ledger)) (published, signed uint64) {
	t.Helper()
	cfg.Cosigner = silent{}
	cfg.CosignWait = 1
	l := open(t, cfg)
	fn(l)
	published, signed = l.Published().Size(), l.Signed().Size()
	shut(t, l)
	return published, signed
}

type silent struct{}

func (silent) Cosign(context.Context, uint64, []byte, func(context.Context, uint64, uint64) ([]entry.Hash, error)) ([]byte, error) {
	return nil, errors.New("no witness answers")
}

// Rows that were damaged while the ledger was down are found although the index
// came from a file: by whoever reads them, and by the sweep.
func TestSweepFindsDamagedRows(t *testing.T) {
	for _, lose := range []bool{false, true} {
		cfg := indexed(vfs.NewMem())
		cfg.Logf = t.Logf
		l := open(t, cfg)
		addTopics(t, l, 1, 40)
		topic := ledgertest.Topic("all")
		if err := l.HarmRow(topic, lose); err != nil {
			t.Fatal(err)
		}
		shut(t, l)
		failed := make(chan error, 1)
		cfg.OnFail = func(err error) { failed <- err }
		l = open(t, cfg)
		if !l.IndexFromFile() {
			t.Fatal("not from the file")
		}
		if refs, _, err := l.Published().List(topic); !errors.Is(err, ledger.ErrDamaged) {
			t.Errorf("lost %t: %d entries, %v", lose, len(refs), err)
		}
		if err := <-failed; !errors.Is(err, ledger.ErrDamaged) || !errors.Is(err, unitindex.ErrRows) {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Log(err)
		}
	}
}
