package ledger

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestGatheredWrites: whatever asks for the state of a table's file finds all that was
// written, and a write that failed is told of by it.
func TestGatheredWrites(t *testing.T) {
	for name, ask := range map[string]func(f vfs.File) error{
		"sync":      func(f vfs.File) error { return f.Sync() },
		"sync data": func(f vfs.File) error { return f.SyncData() },
		"sync to":   func(f vfs.File) error { _, err := f.SyncTo(1); return err },
		"stat":      func(f vfs.File) error { _, err := f.Stat(); return err },
		"close":     func(f vfs.File) error { return f.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			under := &brittleFS{FS: vfs.NewMem()}
			want := bytes.Repeat([]byte("block"), gatherBytes/4) // more than is gathered at a time, and some left
			f, err := orderFS{under}.Create("000001.sst", vfs.WriteCategoryUnspecified)
			if err != nil {
				t.Fatal(err)
			}
			for block := range slices.Chunk(want, 4093) {
				if _, err := f.Write(bytes.Clone(block)); err != nil {
					t.Fatal(err)
				}
			}
			if err := ask(f); err != nil {
				t.Fatal(err)
			}
			r, err := under.Open("000001.sst")
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes of %d are there, %v", len(got), len(want), err)
			}
			if f, err = (orderFS{under}).Create("000002.blob", vfs.WriteCategoryUnspecified); err != nil {
				t.Fatal(err)
			}
			under.err = errors.New("no space left")
			if _, err := f.Write([]byte("short")); err != nil {
				t.Fatalf("a write that is gathered failed: %v", err)
			}
			if err := ask(f); !errors.Is(err, under.err) {
				t.Errorf("a failed write is told of as %v", err)
			}
		})
	}
	// The log and the manifest are written as Pebble says: their writes are whole already.
	f, err := orderFS{vfs.NewMem()}.Create("000003.log", vfs.WriteCategoryUnspecified)
	if _, gathers := f.(*gatheringFile); err != nil || gathers {
		t.Errorf("a log file is gathered (%v)", err)
	}
}

// brittleFS has files that cannot be written once it has an error.
type brittleFS struct {
	vfs.FS
	err error
}

func (fs *brittleFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.Create(name, category)
	return brittleFile{f, fs}, err
}

type brittleFile struct {
	vfs.File
	fs *brittleFS
}

func (f brittleFile) Write(p []byte) (int, error) {
	if f.fs.err != nil {
		return 0, f.fs.err
	}
	return f.File.Write(p)
}
