package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
)

// Names in a backup beside those of the data folder that it holds.
const (
	backupManifest   = "backup.json" // written last: a folder without it is no backup
	backupCheckpoint = "checkpoint"  // the newest published note
	backupVersion    = 1
)

// BackupInfo is what backup.json says.
type BackupInfo struct {
	Version   int    `json:"version"`
	Origin    string `json:"origin"`
	LogKey    string `json:"logKey"` // vkey
	TakenAt   string `json:"takenAt"`
	Running   bool   `json:"running"` // the ledger ran meanwhile
	Size      uint64 `json:"size"`    // entries in the database
	Beyond    uint64 `json:"beyond"`  // entries that only the journal has, and the next start takes in
	Root      string `json:"root"`    // of the first Size entries
	Signed    uint64 `json:"signed"`
	Published uint64 `json:"published"`
	Keys      bool   `json:"keys"` // private keys are in it
	// Tree is the one of a Trillian cluster that kept the ledger; zero: the embedded engine.
	// What is restored is a ledger of the embedded engine in any case.
	Tree  int64        `json:"tree,omitempty"`
	Files []BackupFile `json:"files"`
}

// BackupFile is one file of a backup.
type BackupFile struct {
	Path   string `json:"path"` // with slashes, below the backup
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// BackupConfig says what to back up, and where to.
type BackupConfig struct {
	Folder   Folder
	To       string // must not be there
	Keys     bool   // copy private keys, too
	Progress func(what string, done, total uint64)
}

// ErrDamagedCopy says that a copy was made and is not sound; it was removed.
var ErrDamagedCopy = errors.New("what was copied is damaged")

// Backup copies a ledger that runs (it is asked for a snapshot over the control
// socket) or not. The copy is read again and checked by fsck before it gets its
// name: what stands there is whole.
func Backup(ctx context.Context, c BackupConfig) (info BackupInfo, err error) {
	if c.Folder.isBackup() {
		return info, fmt.Errorf("%s is a backup: copy the folder as it is, and 'fabtraild fsck --data COPY' checks the copy", c.Folder)
	}
	if c.Folder.isReplica() {
		return info, fmt.Errorf("%s is a read replica's folder, which can be made anew from its cluster: back up that of the node that signs", c.Folder)
	}
	key, err := c.Folder.vkey()
	if err != nil {
		return info, err
	}
	if _, err := os.Stat(c.To); err == nil {
		return info, fmt.Errorf("%s is there already: give a new name for each backup", c.To)
	}
	if inside(c.To, string(c.Folder)) {
		return info, fmt.Errorf("%s is inside the data folder: a disk that is lost takes both; choose another disk", c.To)
	}
	info = BackupInfo{Version: backupVersion, Origin: key.Name, LogKey: key.String(), TakenAt: time.Now().UTC().Format(time.RFC3339), Keys: c.Keys}
	if info.Tree, err = c.Folder.Tree(); err != nil {
		return info, err
	}
	src, release, err := c.Folder.askSnapshot(ctx)
	info.Running = err == nil
	if errors.Is(err, errNotRunning) {
		src = c.Folder.ledger()
		release, err = ledger.Hold(vfs.Default, src)
		if errors.Is(err, ledger.ErrLocked) {
			err = fmt.Errorf("%w, and nothing answers on %s: another command may be working on it, or it is an older version: stop it first", err, c.Folder.control())
		}
	}
	if err != nil {
		return info, err
	}
	held := true
	letGo := func() error {
		if !held {
			return nil
		}
		held = false
		return release()
	}
	parent := filepath.Dir(filepath.Clean(c.To))
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return info, errors.Join(err, letGo())
	}
	tmp, err := os.MkdirTemp(parent, filepath.Base(c.To)+".partial-")
	if err != nil {
		return info, errors.Join(err, letGo())
	}
	defer func() {
		err = errors.Join(err, letGo(), os.RemoveAll(tmp)) // gone when all went well
	}()
	cp := copier{ctx: ctx, to: tmp, progress: c.Progress}
	if err := cp.ledger(src); err != nil {
		return info, err
	}
	if err := letGo(); err != nil {
		return info, err
	}
	if err := cp.folder(c.Folder, c.Keys); err != nil {
		return info, err
	}
	if err := info.check(ctx, Folder(tmp), c.Progress); err != nil {
		return info, err
	}
	info.Files = cp.files
	if err := cp.verify(); err != nil {
		return info, err
	}
	return info, info.finish(tmp, c.To)
}

func inside(path, folder string) bool {
	p, err := filepath.Abs(path)
	f, ferr := filepath.Abs(folder)
	return err == nil && ferr == nil && strings.HasPrefix(p+string(filepath.Separator), f+string(filepath.Separator))
}

// check runs fsck over the copy.
func (b *BackupInfo) check(ctx context.Context, tmp Folder, progress func(string, uint64, uint64)) error {
	r, err := Fsck(ctx, tmp, progress)
	if err != nil {
		return err
	}
	if len(r.Damage) > 0 {
		return fmt.Errorf("%w, so no backup was made: %s; see 'fabtraild fsck' of the ledger itself (%s)", ErrDamagedCopy, r.Damage[0], r.Word())
	}
	b.Size, b.Beyond, b.Root, b.Signed, b.Published = r.Size, r.Beyond, r.Root, r.Signed, r.Published
	for _, lock := range []string{"truth", "journal"} { // left by the check
		if err := os.Remove(filepath.Join(tmp.ledger(), lock, "LOCK")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if len(r.note) == 0 {
		return nil
	}
	return writeFile(filepath.Join(string(tmp), backupCheckpoint), r.note, 0o644)
}

// finish writes the manifest and gives the backup its name.
func (b *BackupInfo) finish(tmp, to string) error {
	text, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(tmp, backupManifest), append(text, '\n'), 0o644); err != nil {
		return err
	}
	return moveInto(tmp, to) // which nobody else may read: cargo is confidential
}

// moveInto gives a finished folder its name, durably.
func moveInto(tmp, to string) error {
	if err := os.Rename(tmp, to); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(filepath.Clean(to)))
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// copier copies files into a folder and keeps their digests.
type copier struct {
	ctx      context.Context
	to       string
	progress func(what string, done, total uint64)
	files    []BackupFile
	bytes    uint64
}

// ledger copies truth and journal, from a snapshot or from a ledger that is held.
func (c *copier) ledger(src string) error {
	for _, part := range []string{"truth", "journal"} {
		if err := c.tree(filepath.Join(src, part), "ledger/"+part, 0o644, func(name string) bool {
			return name == "LOCK" || part == "journal" && !strings.HasSuffix(name, ".journal")
		}); err != nil {
			return err
		}
	}
	return nil
}

// folder copies what else a data folder has, but for views, which can be made anew.
func (c *copier) folder(f Folder, keys bool) error {
	if err := c.file(f.charter(), filepath.Base(f.charter()), 0o644); err != nil {
		return err
	}
	none := func(string) bool { return false }
	if err := c.tree(f.Trust(), "trust", 0o644, none); err != nil {
		return err
	}
	if _, err := os.Stat(f.policies()); err == nil {
		if err := c.tree(f.policies(), "policies", 0o644, none); err != nil {
			return err
		}
	}
	if !keys {
		return nil
	}
	return c.tree(f.key(""), "keys", 0o600, none)
}

// tree copies the files of one folder, which has no folders in it but such as are
// passed over.
func (c *copier) tree(from, to string, mode fs.FileMode, skip func(name string) bool) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	dir := filepath.Join(c.to, filepath.FromSlash(to))
	dirMode := fs.FileMode(0o755)
	if mode == 0o600 { // private keys
		dirMode = 0o700
	}
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || skip(e.Name()) || strings.HasPrefix(e.Name(), ".new-") {
			continue
		}
		if err := c.file(filepath.Join(from, e.Name()), to+"/"+e.Name(), mode); err != nil {
			return err
		}
	}
	return syncFolder(dir)
}

// file copies one file, synced.
func (c *copier) file(from, to string, mode fs.FileMode) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(filepath.Join(c.to, filepath.FromSlash(to)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, h), in)
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		return err
	}
	c.bytes += uint64(n)
	c.progress("copying", c.bytes, 0)
	c.files = append(c.files, BackupFile{Path: to, Size: n, SHA256: hex.EncodeToString(h.Sum(nil))})
	return nil
}

// verify reads the copies again.
func (c *copier) verify() error {
	for i, f := range c.files {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		c.progress("reading back", uint64(i), uint64(len(c.files)))
		if err := f.check(c.to); err != nil {
			return fmt.Errorf("%w: %w", ErrDamagedCopy, err)
		}
	}
	return nil
}

// check holds a file below a folder against its digest.
func (b BackupFile) check(folder string) error {
	f, err := os.Open(filepath.Join(folder, filepath.FromSlash(b.Path)))
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); n != b.Size || got != b.SHA256 {
		return fmt.Errorf("%s has %d bytes with SHA-256 %s, the backup's list says %d and %s", f.Name(), n, got, b.Size, b.SHA256)
	}
	return nil
}

// vkey reads the log's public key: that of its private key if that is here, else
// the one of the trust folder.
func (f Folder) vkey() (checkpoint.VKey, error) {
	if s, err := f.logSigner(); err == nil {
		return s.VKey(), nil
	} else if !errors.Is(err, errNoKey) {
		return checkpoint.VKey{}, err
	}
	k, err := ReadVKey(filepath.Join(f.Trust(), "log.vkey"))
	if err != nil {
		return k, fmt.Errorf("%s has neither keys/log.skey nor trust/log.vkey: it holds no ledger, or has lost its keys: %w", f, err)
	}
	return k, nil
}

// isBackup reports whether the folder is a backup, which must not be run: it is old,
// and could fork the log.
func (f Folder) isBackup() bool {
	_, err := os.Stat(filepath.Join(string(f), backupManifest))
	return err == nil
}
