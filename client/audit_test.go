package client

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer/answertest"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// big is a tale long enough to have full tiles.
func big(t testing.TB) *answertest.World {
	t.Helper()
	w := tale(t)
	ref := custody.UnitRef{URI: w.Unit("LIFTED")}
	for len(w.Entries) < 300 {
		w.Lift(w.Parties["maker"], ref, w.Hold(w.Parties["maker"], ref, "suspect"))
		if len(w.Entries)%40 < 2 {
			w.Publish()
		}
	}
	w.Publish()
	return w
}

func TestAuditLedger(t *testing.T) {
	w := big(t)
	r := newFake(t, w).remote(t, Options{})
	seen, sum, err := trustOf(t, w.Log).AuditLedger(t.Context(), r, ReplayConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if sum.Size != w.Published || sum.Root != seen.Root.String() || sum.AccusedCount != 0 || sum.Findings == 0 {
		t.Errorf("%+v", sum)
	}
	// The replay's state is the door's, but for the rules' own rows.
	state := custody.MapState{}
	if _, err := replayed(w, ReplayConfig{State: state}); err != nil {
		t.Fatal(err)
	}
	for _, k := range w.State.Keys() {
		if !bytes.Equal(state[k], w.State[k]) {
			t.Errorf("row %q differs", k)
		}
	}
	again, err := replayed(w, ReplayConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if s := again.Summary(); s.StateDigest != sum.StateDigest || s.FindingsDigest != sum.FindingsDigest || s.RuleSet != sum.RuleSet {
		t.Errorf("a second replay says %+v, the first %+v", s, sum)
	}
}

// reader is a LogReader that lies.
type reader struct {
	*answertest.Log
	line func(*EntryLine)
	tile func(entry.TilePath, []byte)
}

func (r reader) Entries(ctx context.Context, from, to uint64, fn func(EntryLine) error) error {
	for i := from; i < to; i++ {
		line := EntryLine{Index: i, Cargo: r.Log.Entries[i].Cargo()}
		if sum, ok := r.Names[i]; ok {
			line.Manifest = slices.Clone(r.Sums[sum])
		}
		if r.line != nil {
			r.line(&line)
		}
		if err := fn(line); err != nil {
			return err
		}
	}
	return nil
}

func (r reader) Tile(ctx context.Context, p entry.TilePath) ([]byte, error) {
	b, err := tileOf(r.Log, p)
	if r.tile != nil {
		r.tile(p, b)
	}
	return b, err
}

func TestAuditNamesTheFirstDivergence(t *testing.T) {
	w := big(t)
	manifest := uint64(0)
	for n := range w.Names {
		manifest = max(manifest, n)
	}
	for _, tc := range []struct {
		name  string
		r     reader
		what  string
		index uint64
	}{
		{"swapped cargo", reader{line: func(l *EntryLine) {
			if l.Index == 5 {
				l.Cargo = w.Entries[6].Cargo()
			}
		}}, DivergeLeaf, 5},
		{"altered salt", reader{line: func(l *EntryLine) {
			if l.Index == 20 {
				l.Cargo[10] ^= 1
			}
		}}, DivergeLeaf, 20},
		{"nonsense for cargo", reader{line: func(l *EntryLine) {
			if l.Index == 9 {
				l.Cargo = []byte{9}
			}
		}}, DivergeCargo, 9},
		{"altered manifest", reader{line: func(l *EntryLine) {
			if l.Index == manifest {
				l.Manifest[len(l.Manifest)-40] ^= 1
			}
		}}, DivergeCargo, manifest},
		{"missing manifest", reader{line: func(l *EntryLine) {
			if l.Index == manifest {
				l.Manifest = nil
			}
		}}, DivergeCargo, manifest},
		{"gap", reader{line: func(l *EntryLine) {
			if l.Index >= 7 {
				l.Index++
			}
		}}, DivergeLeaf, 8},
		{"altered hash tile", reader{tile: func(p entry.TilePath, b []byte) {
			if !p.Entries && p.Level == 0 && p.Width == 256 {
				b[32*77+3] ^= 1
			}
		}}, DivergeTile, 77},
		{"altered bundle", reader{tile: func(p entry.TilePath, b []byte) {
			if p.Entries && p.Width < 256 {
				b[36*3+5] ^= 1
			}
		}}, DivergeLeaf, 256 + 3},
		{"altered top tile", reader{tile: func(p entry.TilePath, b []byte) {
			if p.Level == 1 {
				b[0] ^= 1
			}
		}}, DivergeTile, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.r.Log = w.Log
			seen, err := trustOf(t, w.Log).VerifyNote(w.Note)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Audit(t.Context(), tc.r, seen, ReplayConfig{Charter: w.Ledger})
			var d *Divergence
			if !errors.As(err, &d) || d.What != tc.what || tc.index != 0 && d.Index != tc.index {
				t.Errorf("got %v, want %s at %d", err, tc.what, tc.index)
			}
		})
	}
}

func TestAuditPinsTheCharter(t *testing.T) {
	w := tale(t)
	seen, err := trustOf(t, w.Log).VerifyNote(w.Note)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Audit(t.Context(), reader{Log: w.Log}, seen, ReplayConfig{Charter: entry.Hash{1}})
	var d *Divergence
	if !errors.As(err, &d) || d.What != DivergeCharter {
		t.Errorf("got %v", err)
	}
}

// A checkpoint that the entries do not give is named, even if all tiles agree
// with the entries.
func TestAuditChecksTheRoot(t *testing.T) {
	w := tale(t)
	cp := w.Checkpoint()
	cp.Root[0] ^= 1
	seen, err := trustOf(t, w.Log).VerifyNote(w.NoteFor(cp, w.Time/1000))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Audit(t.Context(), reader{Log: w.Log}, seen, ReplayConfig{})
	var d *Divergence
	if !errors.As(err, &d) || d.What != DivergeRoot || d.Index != cp.Size {
		t.Errorf("got %v", err)
	}
}

// Cargo that is in the log and cannot be read has neither topics nor an effect,
// and speaks against the operator; the replay goes on.
func TestAuditAccuses(t *testing.T) {
	w := tale(t)
	env, err := entry.Envelope{Payload: []byte("{}"), Signatures: []entry.Signature{{Sig: []byte{1}}}}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	at := w.Add(entry.Entry{Class: entry.Public, Envelope: env}, entry.Hash{})
	w.Add(entry.Entry{Class: entry.Restricted, Envelope: []byte("no envelope")}, entry.Hash{})
	w.Publish()
	r, err := replayed(w, ReplayConfig{})
	if err != nil {
		t.Fatal(err)
	}
	s := r.Summary()
	if s.AccusedCount != 2 || s.Accused[0].Index != at || s.Accused[1].Index != at+1 {
		t.Errorf("%+v", s.Accused)
	}
}

// A log may drop partial tiles that have a full one.
func TestPartialTilesFallBack(t *testing.T) {
	w := big(t)
	f := newFake(t, w)
	r := f.remote(t, Options{})
	log := r.Log(false)
	for _, p := range []entry.TilePath{{Index: 0, Width: 40}, {Entries: true, Index: 0, Width: 40}} {
		want, err := tileOf(w.Log, p)
		if err != nil {
			t.Fatal(err)
		}
		f.dropped = p.String()
		got, err := log.Tile(t.Context(), p)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", p, len(got), err)
		}
	}
	if _, err := log.Tile(t.Context(), entry.TilePath{Index: 99, Width: 256}); err == nil {
		t.Error("a tile beyond the log")
	}
}

// An auditor who comes back is not shown another history, nor an old one.
func TestAuditRemembers(t *testing.T) {
	w, mem := big(t), memory{}
	v := verifier(t, w.Log, newFake(t, w).remote(t, Options{}))
	v.Memory = mem
	audit := func(want string) {
		t.Helper()
		seen, sum, err := v.Audit(t.Context(), ReplayConfig{})
		if want == "" {
			if err != nil || sum.Size != w.Published || seen.Size != w.Published || sum.AccusedCount != 0 {
				t.Fatalf("%+v, %v", sum, err)
			}
			return
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("%v, want %q", err, want)
		}
		if fork := (*Fork)(nil); errors.As(err, &fork) != (want == "two histories") {
			t.Errorf("%q comes as %T", want, err)
		}
	}
	audit("")
	audit("")
	now, note, size := v.Now, w.Note, w.Published
	v.Now = func() time.Time { return now().Add(2 * time.Hour) }
	audit("the limit is 1h")
	v.Now = now
	w.Log.Time += 1000
	w.Publish()
	audit("")
	newer := w.Published
	w.Note, w.Published = note, size
	audit("was seen before")
	w.Published = newer
	cp := w.Checkpoint()
	cp.Root[3] ^= 1
	w.Note = w.NoteFor(cp, w.Time/1000)
	audit("two histories")
	mem[answertest.Origin] = []byte("damaged")
	audit("damaged")
}
