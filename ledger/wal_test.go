package ledger_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"testing"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/ledgertest"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// keepLogs is a file system that keeps what Pebble writes to its write-ahead logs.
type keepLogs struct {
	vfs.FS
	mu   *sync.Mutex
	logs map[string]*bytes.Buffer
}

func (k keepLogs) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := k.FS.Create(name, c)
	if err != nil || !strings.HasSuffix(name, ".log") {
		return f, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	b := &bytes.Buffer{}
	k.logs[fmt.Sprintf("%s (no. %d)", name, len(k.logs))] = b
	return keptLog{f, b}, nil
}

func (k keepLogs) ReuseForWrite(_, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return k.Create(name, c)
}

type keptLog struct {
	vfs.File
	all *bytes.Buffer
}

func (l keptLog) Write(b []byte) (int, error) {
	l.all.Write(b)
	return l.File.Write(b)
}

// TestSyncOffsets is S2: whatever is written to a write-ahead log of Pebble says up to
// where the log was synced, so that damage is told from a torn write; the first log of
// a new database does not, and nothing is ever written to it: neither by a ledger that
// begins, nor by one whose entries come from elsewhere, in one go, before its first
// flush.
func TestSyncOffsets(t *testing.T) {
	disk := vfs.NewMem()
	cfg := crashConfig(disk, ledgertest.NewWitnessed())
	l := open(t, cfg)
	for i := range 40 {
		one(t, l, fmt.Sprintf("%d\ntopic t\n%01000d", i, i))
	}
	shut(t, l)
	for name, run := range map[string]func(fs vfs.FS){
		"new ledger": func(fs vfs.FS) {
			l := open(t, config(fs))
			one(t, l, "first")
			shut(t, l)
		},
		"repaired": func(fs vfs.FS) {
			copyDir(t, fs, disk, "log", "log")
			editRow(t, fs.(keepLogs).FS, rowKey('l', 3), flipAt(20))
			rep, err := ledger.Repair(t.Context(), ledger.RepairConfig{FsckConfig: ledger.FsckConfig{Dir: "log", Origin: origin,
				Key: cfg.Signer.VKey(), Policy: cfg.Policy, FS: fs}, Folder: "data", App: ledgertest.App{}, Write: true})
			if err != nil || !rep.Done {
				t.Fatalf("%+v %v", rep, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			fs := keepLogs{vfs.NewMem(), new(sync.Mutex), map[string]*bytes.Buffer{}}
			run(fs)
			written := 0
			for name, b := range fs.logs {
				with, without := walRecords(b.Bytes())
				if without > 0 {
					t.Errorf("%s has %d records without sync offsets, %d with", name, without, with)
				}
				written += with
			}
			if written == 0 {
				t.Fatal("nothing was written to any log")
			}
			t.Logf("%d logs, %d records", len(fs.logs), written)
		})
	}
}

// walRecords counts the chunks of a write-ahead log that carry a sync offset, and
// those that do not: Pebble's record format, chunk types 9 to 12, and 1 to 8.
func walRecords(b []byte) (with, without int) {
	const block = 32 << 10
	for at := 0; at+7 <= len(b); {
		size, kind := int(binary.LittleEndian.Uint16(b[at+4:])), b[at+6]
		header := map[bool]int{true: 19, false: 11}[kind >= 9]
		if left := block - at%block; size == 0 || left < 7 { // the end, or padding
			at += left
			continue
		}
		if kind >= 9 {
			with++
		} else {
			without++
		}
		at += header + size
	}
	return with, without
}
