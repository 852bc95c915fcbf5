package witness

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"

	"fabtrail.dev/fabtrail/ledger/entry"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// rec is the record of a log at a size in these tests.
func rec(origin string, size uint64) Record {
	return Record{Origin: origin, Size: size, Root: entry.Hash{byte(size), 1}, Note: fmt.Appendf(nil, "note of %s at %d", origin, size)}
}

// grow swaps origin from its present record to size.
func grow(s Store, origin string, size uint64) error {
	r, ok, err := s.Latest(origin)
	if err != nil {
		return err
	}
	old := NeverCosigned
	if ok {
		old = r.State()
	}
	return s.Swap(old, rec(origin, size))
}

func contents(s *FileStore) map[string]Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.durable)
}

func TestFileStore(t *testing.T) {
	for name, fs := range map[string]vfs.FS{"memory": vfs.NewMem(), "disk": vfs.Default} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			opt := FileOptions{FS: fs, Dir: fs.PathJoin(dir, "a", "state"), MarkDir: fs.PathJoin(dir, "b", "mark")}
			if _, err := OpenFileStore(opt); !errors.Is(err, ErrNoStore) {
				t.Fatalf("no store: %v", err)
			}
			opt.Create = true
			s := must[*FileStore](t)(OpenFileStore(opt))
			opt.Create = false
			if _, err := OpenFileStore(opt); err == nil {
				t.Fatal("opened twice")
			}
			if _, ok, err := s.Latest("x"); ok || err != nil {
				t.Fatal(ok, err)
			}
			frozen := rec("x", 9)
			frozen.Stale = []byte("evidence")
			for _, c := range []struct {
				old  State
				next Record
				want error
			}{
				{State{Size: 1}, rec("x", 5), ErrConflict},
				{NeverCosigned, rec("x", 5), nil},
				{NeverCosigned, rec("x", 6), ErrConflict},
				{State{Size: 5}, rec("x", 6), ErrConflict}, // root differs
				{rec("x", 5).State(), rec("x", 5), nil},
				{rec("x", 5).State(), rec("x", 9), nil},
				{NeverCosigned, rec("y", 3), nil},
				{rec("x", 9).State(), frozen, nil},
				{rec("x", 9).State(), rec("x", 10), ErrConflict}, // frozen meanwhile
			} {
				if err := s.Swap(c.old, c.next); !errors.Is(err, c.want) {
					t.Fatalf("%+v -> %s %d: %v, want %v", c.old, c.next.Origin, c.next.Size, err, c.want)
				}
			}
			if err := s.Swap(NeverCosigned, Record{}); err == nil {
				t.Error("record without an origin")
			}
			want := contents(s)
			if err := errors.Join(s.Close(), s.Close()); err != nil {
				t.Fatal(err)
			}
			if err := s.Swap(NeverCosigned, rec("z", 1)); !errors.Is(err, errClosed) {
				t.Errorf("after Close: %v", err)
			}
			s = must[*FileStore](t)(OpenFileStore(opt))
			defer s.Close()
			if got := contents(s); !reflect.DeepEqual(got, want) || got["x"].Size != 9 || string(got["x"].Stale) != "evidence" {
				t.Errorf("opened again: %v, want %v", got, want)
			}
		})
	}
}

// Of many who swap from one state, one wins, and the others learn that only
// when the winner's record is durable.
func TestFileStoreRace(t *testing.T) {
	s := openStore(t, vfs.NewMem())
	for round := range uint64(20) {
		cur, _, _ := s.Latest("x")
		old := NeverCosigned
		if round > 0 {
			old = cur.State()
		}
		var wins atomic.Int32
		var wg sync.WaitGroup
		for i := range uint64(8) {
			wg.Go(func() {
				err := s.Swap(old, rec("x", round*10+i+1))
				if err == nil {
					wins.Add(1)
				} else if !errors.Is(err, ErrConflict) {
					t.Error(err)
				} else if now, _, _ := s.Latest("x"); now.State() == old {
					t.Error("conflict with a state that is not durable")
				}
			})
		}
		wg.Wait()
		if wins.Load() != 1 {
			t.Fatalf("round %d: %d winners", round, wins.Load())
		}
	}
}

// workload is a fixed sequence of swaps on three logs, long enough that the
// journal is rewritten several times. It reports what was acknowledged before
// each attempt and the attempt.
func workload(open func() (*FileStore, error), attempt func(origin string, size uint64), acked func(origin string, size uint64)) error {
	for part := range uint64(2) {
		s, err := open()
		if err != nil {
			return err
		}
		for i := range uint64(8) {
			origin := string('x' + rune(i%3))
			size := part*100 + i + 1
			attempt(origin, size)
			if err := grow(s, origin, size); err != nil {
				_ = s.Close()
				return err
			}
			acked(origin, size)
		}
		if err := s.Close(); err != nil {
			return err
		}
	}
	return nil
}

func smallOptions(fs vfs.FS) FileOptions {
	o := fileOptions(fs)
	o.MaxJournal = 600
	return o
}

// Power is lost before every single I/O operation, with none, some or all of the
// unsynced data on the disk: what was acknowledged is there, and the store opens.
func TestFileStorePowerLoss(t *testing.T) {
	images := 0
	for _, percent := range []int{0, 50, 100} {
		for op := int32(0); ; op++ {
			mem := vfs.NewCrashableMem()
			var mu sync.Mutex
			attempted, acked := map[string]uint64{}, map[string]uint64{}
			var image *vfs.MemFS
			var wantMin, wantMax map[string]uint64
			var n atomic.Int32
			fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(errorfs.Op) error {
				if n.Add(1)-1 == op {
					mu.Lock()
					defer mu.Unlock()
					image = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(uint64(op), uint64(percent)))})
					wantMin, wantMax = maps.Clone(acked), maps.Clone(attempted)
				}
				return nil
			}))
			set := func(m map[string]uint64) func(string, uint64) {
				return func(origin string, size uint64) { mu.Lock(); defer mu.Unlock(); m[origin] = size }
			}
			err := workload(func() (*FileStore, error) { return OpenFileStore(smallOptions(fs)) }, set(attempted), set(acked))
			if err != nil {
				t.Fatal(err)
			}
			if image == nil {
				break // the workload has fewer operations
			}
			images++
			s, err := OpenFileStore(smallOptions(image))
			if err != nil {
				t.Fatalf("%d %% at operation %d: %v", percent, op, err)
			}
			for origin := range wantMax {
				r, ok, _ := s.Latest(origin)
				if !ok && wantMin[origin] == 0 {
					continue
				}
				if r.Size != wantMin[origin] && r.Size != wantMax[origin] || !reflect.DeepEqual(r, rec(origin, r.Size)) {
					t.Fatalf("%d %% at operation %d: %s at %d, want %d or %d", percent, op, origin, r.Size, wantMin[origin], wantMax[origin])
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if images < 300 {
		t.Errorf("only %d images: the workload does not cover the store", images)
	}
}

// Each I/O operation fails once: nothing is acknowledged that is not there after
// opening again, and nothing succeeds after a failure.
func TestFileStoreErrors(t *testing.T) {
	for op := int32(0); ; op++ {
		mem := vfs.NewMem()
		inj := errorfs.OnIndex(op)
		fs := errorfs.Wrap(mem, errorfs.ErrInjected.If(inj))
		attempted, acked := map[string]uint64{}, map[string]uint64{}
		err := workload(func() (*FileStore, error) { return OpenFileStore(smallOptions(fs)) },
			func(o string, n uint64) { attempted[o] = n }, func(o string, n uint64) { acked[o] = n })
		if err == nil {
			if op < 100 {
				t.Fatalf("operation %d failed unnoticed", op)
			}
			return // there is no such operation any more
		}
		s, err := OpenFileStore(smallOptions(mem))
		if err != nil {
			t.Fatalf("operation %d: opening again: %v", op, err)
		}
		for origin := range attempted {
			r, ok, _ := s.Latest(origin)
			if ok && r.Size != acked[origin] && r.Size != attempted[origin] || !ok && acked[origin] != 0 {
				t.Fatalf("operation %d: %s at %d, want %d or %d", op, origin, r.Size, acked[origin], attempted[origin])
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// After a failed write every swap fails, of other logs too.
func TestFileStoreStopsAfterError(t *testing.T) {
	mem := vfs.NewMem()
	var on errorfs.Toggle
	on.Injector = errorfs.ErrInjected.If(errorfs.Writes)
	s := must[*FileStore](t)(OpenFileStore(fileOptions(errorfs.Wrap(mem, &on))))
	if err := grow(s, "x", 1); err != nil {
		t.Fatal(err)
	}
	on.On()
	if err := grow(s, "x", 2); err == nil {
		t.Fatal("write failed unnoticed")
	}
	on.Off()
	if err := <-s.Failed(); err == nil {
		t.Errorf("Failed says %v", err)
	}
	for _, origin := range []string{"x", "y"} {
		if err := grow(s, origin, 3); err == nil {
			t.Errorf("%s: a swap after an unknown outcome", origin)
		}
	}
	if r, _, _ := s.Latest("x"); r.Size != 1 {
		t.Errorf("x at %d", r.Size)
	}
	_ = s.Close()
}

// files returns the bytes of a store's files, by path.
func files(t *testing.T, fs vfs.FS) map[string][]byte {
	out := map[string][]byte{}
	for _, dir := range []string{"state", "mark"} {
		for _, name := range must[[]string](t)(fs.List(dir)) {
			if name != "LOCK" {
				out[dir+"/"+name] = must[[]byte](t)(readFile(fs, dir+"/"+name))
			}
		}
	}
	return out
}

// disk makes a file system of these files.
func disk(t *testing.T, content map[string][]byte) vfs.FS {
	fs := vfs.NewMem()
	for _, d := range []string{"state", "mark"} {
		if err := fs.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, b := range content {
		f := must[vfs.File](t)(fs.Create(name, vfs.WriteCategoryUnspecified))
		if _, err := f.Write(append([]byte(nil), b...)); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return fs
}

// history returns the files of one store after each of its swaps, which are of
// two logs named by one letter each.
func history(t *testing.T, letter rune, swaps uint64) (states []map[string][]byte, want map[string]Record) {
	fs := vfs.NewMem()
	s := must[*FileStore](t)(OpenFileStore(fileOptions(fs)))
	states = append(states, files(t, fs))
	for i := range swaps {
		if err := grow(s, string(letter+rune(i%2)), i+1); err != nil {
			t.Fatal(err)
		}
		states = append(states, files(t, fs))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return states, contents(s)
}

// open tries to open files as they are, and returns the records or the error.
func open(t *testing.T, content map[string][]byte, accept bool) (map[string]Record, error) {
	o := fileOptions(disk(t, content))
	o.Create, o.Accept = false, accept
	s, err := OpenFileStore(o)
	if err != nil {
		return nil, err
	}
	got := contents(s)
	return got, s.Close()
}

// One bit of one file is flipped, or the file cut, at every byte: the store
// refuses, or nothing is lost.
func TestFileStoreDamage(t *testing.T) {
	states, want := history(t, 'x', 5)
	last := states[len(states)-1]
	refused := 0
	try := func(what, name string, b []byte) {
		damaged := maps.Clone(last)
		damaged[name] = b
		got, err := open(t, damaged, false)
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrStale) {
				t.Errorf("%s of %s: %v", what, name, err)
			}
			refused++
		} else if !reflect.DeepEqual(got, want) {
			t.Errorf("%s of %s changed the records silently: %v", what, name, got)
		}
	}
	for name, b := range last {
		for i := range b {
			if i > 200 && i%97 != 0 && name[0] == 'm' { // the rest of a slot is not used
				continue
			}
			c := append([]byte(nil), b...)
			c[i] ^= 1 << (i % 8)
			try(fmt.Sprintf("bit %d of byte %d", i%8, i), name, c)
			try(fmt.Sprintf("cut to %d bytes", i), name, b[:i])
		}
		try("zeros", name, make([]byte, len(b)))
	}
	if refused < 200 {
		t.Errorf("only %d refusals", refused)
	}
}

// Old copies of the journal, of the mark, of none.
func TestFileStoreStaleCopies(t *testing.T) {
	states, want := history(t, 'x', 6)
	last := states[len(states)-1]
	pick := func(journal, mark map[string][]byte) map[string][]byte {
		out := map[string][]byte{}
		for n, b := range journal {
			if n[0] == 's' {
				out[n] = b
			}
		}
		for n, b := range mark {
			if n[0] == 'm' {
				out[n] = b
			}
		}
		return out
	}
	for i, old := range states[:len(states)-1] {
		if _, err := open(t, pick(old, last), false); !errors.Is(err, ErrStale) {
			t.Errorf("journal of swap %d under the last mark: %v", i, err)
		}
		if got, err := open(t, pick(last, old), false); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("last journal under the mark of swap %d: %v", i, err)
		}
		// an operator's word opens it, with what the journal has
		if got, err := open(t, pick(old, last), true); err != nil || len(got) != min(i, 2) {
			t.Errorf("journal of swap %d, accepted: %v, %v", i, got, err)
		}
	}
	if _, err := open(t, pick(last, nil), false); !errors.Is(err, ErrStale) {
		t.Errorf("no mark: %v", err)
	}
	if got, err := open(t, pick(last, nil), true); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("no mark, accepted: %v", err)
	}
	if _, err := open(t, pick(nil, last), false); !errors.Is(err, ErrStale) {
		t.Errorf("no journal: %v", err)
	}
	if _, err := open(t, nil, false); !errors.Is(err, ErrNoStore) {
		t.Errorf("nothing: %v", err)
	}
	// a mark or journal from before the store was opened again
	fs := disk(t, last)
	o := fileOptions(fs)
	for range 2 {
		s := must[*FileStore](t)(OpenFileStore(o))
		if err := grow(s, "z", 77); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	now := files(t, fs)
	if _, err := open(t, pick(last, now), false); !errors.Is(err, ErrStale) {
		t.Errorf("journal of an earlier run: %v", err)
	}
	if _, err := open(t, pick(now, last), false); !errors.Is(err, ErrStale) {
		t.Errorf("mark of an earlier run: %v", err)
	}
	// another store's journal of the same generation and length
	other, _ := history(t, 'a', 6)
	if _, err := open(t, pick(other[6], last), false); !errors.Is(err, ErrStale) {
		t.Errorf("another store's journal: %v", err)
	}
	// the newest journal was only being begun: an operator's word does not make
	// it the newest
	begun := pick(last, nil)
	for n, b := range now {
		if n[0] == 's' {
			begun[n] = b[:headerSize+10]
		}
	}
	if got, err := open(t, begun, true); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("begun journal, accepted: %v, %v", got, err)
	}
	// a file that does not belong there
	odd := maps.Clone(last)
	odd["state/journal-1"] = nil
	if _, err := open(t, odd, false); !errors.Is(err, ErrDamaged) {
		t.Errorf("odd file: %v", err)
	}
}

func FuzzJournal(f *testing.F) {
	fs := vfs.NewMem()
	s, err := OpenFileStore(fileOptions(fs))
	if err != nil {
		f.Fatal(err)
	}
	_ = grow(s, "x", 1)
	_ = s.Close()
	b, err := readFile(fs, "state/"+journalName(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-3])
	f.Add(b[:headerSize])
	f.Fuzz(func(t *testing.T, b []byte) {
		fs := vfs.NewMem()
		file, err := fs.Create(journalName(1), vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.Write(append([]byte(nil), b...)); err != nil {
			t.Fatal(err)
		}
		_ = file.Close()
		c, err := readJournal(fs, "", 1)
		if err == nil && (len(c.heads) != len(c.offsets) || c.tail == nil && c.offsets[len(c.offsets)-1] != int64(len(b))) {
			t.Fatalf("%+v", c)
		}
	})
}
