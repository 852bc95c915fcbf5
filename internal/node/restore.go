package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/witness"
)

// RestoreConfig says what to restore, into which folder, and whom to ask.
type RestoreConfig struct {
	Backup string
	Folder Folder   // must not be there, or be empty
	Tails  []string // data, ledger or journal folders, or addresses of ledgers
	Token  string   // of scope audit, for addresses
	Keys   string   // folder of the private keys, when the backup has none
	Policy string   // file of the policy in force now, when it is newer than the backup's
	Seen   []string // files of checkpoints that others hold
	// Progress as in Fsck.
	Progress func(what string, done, total uint64)
}

// Restored says what a restored folder holds.
type Restored struct {
	Folder    string   `json:"data"`
	Backup    uint64   `json:"backup"` // entries that came from the backup
	Size      uint64   `json:"size"`
	Root      string   `json:"root"`
	Signed    uint64   `json:"signed"`
	Published uint64   `json:"published"`
	Epoch     uint64   `json:"epoch"`
	Silent    []string `json:"silent"` // witnesses that did not count as having answered
	Keys      bool     `json:"keys"`   // the private keys are in place
	Aside     string   `json:"aside,omitempty"`
	Tree      int64    `json:"tree,omitempty"` // of the cluster that kept the ledger before
}

// Restore makes a new data folder of a backup, with what others still have, or
// refuses with *ledger.NoSign: see ledger.Restore. The folder gets its name when all
// is checked.
func Restore(ctx context.Context, c RestoreConfig) (out Restored, err error) {
	info, err := readBackup(c.Backup)
	if err != nil {
		return out, err
	}
	if names, err := os.ReadDir(string(c.Folder)); err == nil && len(names) > 0 {
		return out, fmt.Errorf("%s is not empty: restore into a new folder, and keep what is there", c.Folder)
	}
	parent := filepath.Dir(filepath.Clean(string(c.Folder)))
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return out, err
	}
	tmp, err := os.MkdirTemp(parent, filepath.Base(string(c.Folder))+".restoring-")
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	f := Folder(tmp)
	if err := info.copyTo(ctx, c.Backup, tmp, c.Progress); err != nil {
		return out, err
	}
	if err := f.takeKeys(c.Keys, info.LogKey); err != nil {
		return out, err
	}
	if err := f.takePolicy(c.Policy); err != nil {
		return out, err
	}
	key, err := checkpoint.ParseVKey(info.LogKey)
	if err != nil {
		return out, err
	}
	cfg, err := f.restoring(ctx, key, c.Seen)
	if err != nil {
		return out, err
	}
	cfg.Folder, cfg.Progress = string(c.Folder), c.Progress
	tails, err := c.open(key, cfg.Claims)
	defer func() { err = errors.Join(err, tails.close()) }()
	if err != nil {
		return out, err
	}
	cfg.Tails = tails.list
	rep, err := ledger.Restore(ctx, cfg)
	if err != nil {
		return out, err
	}
	if err := f.recheck(ctx, rep.Size, c.Progress); err != nil {
		return out, err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return out, err
	}
	_ = os.Remove(string(c.Folder)) // if empty
	out = restored(c.Folder, rep)
	_, kerr := os.Stat(f.key("log.skey"))
	out.Keys, out.Tree = kerr == nil, info.Tree
	return out, moveInto(tmp, string(c.Folder))
}

func restored(f Folder, r ledger.RestoreReport) Restored {
	return Restored{Folder: string(f), Backup: r.Found, Size: r.Size, Root: r.Root.String(), Signed: r.Signed, Published: r.Published,
		Epoch: r.Epoch, Silent: append([]string{}, r.Silent...), Aside: r.Aside, Keys: true}
}

// recheck runs fsck over what was restored.
func (f Folder) recheck(ctx context.Context, size uint64, progress func(string, uint64, uint64)) error {
	r, err := Fsck(ctx, f, progress)
	if err == nil && (len(r.Damage) > 0 || r.Size != size) {
		err = fmt.Errorf("what was restored is not sound, so nothing was: %d entries of %d, %v", r.Size, size, r.Damage)
	}
	return err
}

// NewJournal begins the journal of a ledger anew, in place, when the witnesses
// agree that its database is the newest state.
func NewJournal(ctx context.Context, f Folder, seen []string, progress func(string, uint64, uint64)) (Restored, error) {
	if f.isBackup() {
		return Restored{}, fmt.Errorf("%s is a backup: restore it into a new folder", f)
	}
	key, err := f.vkey()
	if err != nil {
		return Restored{}, err
	}
	cfg, err := f.restoring(ctx, key, seen)
	if err != nil {
		return Restored{}, err
	}
	cfg.NewJournal, cfg.Folder, cfg.Progress = true, string(f), progress
	rep, err := ledger.Restore(ctx, cfg)
	return restored(f, rep), err
}

// restoring asks the witnesses of the folder's policy, and reads what others hold.
func (f Folder) restoring(ctx context.Context, key checkpoint.VKey, seen []string) (c ledger.RestoreConfig, err error) {
	policy, err := f.policy()
	if err != nil {
		return c, err
	}
	if policy == nil {
		return c, fmt.Errorf("%s has no policy.txt, which says whom to ask what this log signed last: give the newest with --policy", f.Trust())
	}
	c = ledger.RestoreConfig{Dir: f.ledger(), Origin: key.Name, Key: key, Policy: policy, App: app{}}
	for _, path := range seen {
		b, err := os.ReadFile(path)
		if err != nil {
			return c, err
		}
		n, err := checkpoint.ParseNote(b)
		if err == nil {
			err = key.VerifyLog(n)
		}
		if err != nil {
			return c, fmt.Errorf("%s is no checkpoint of %s: %w", path, key.Name, err)
		}
		c.Seen = append(c.Seen, b)
	}
	if len(policy.Witnesses()) == 0 {
		return c, nil
	}
	collector, err := witness.NewCollector(witness.CollectorConfig{Log: key, Policy: policy})
	if err != nil {
		return c, err
	}
	for _, v := range collector.Ask(ctx) {
		if u := (*url.Error)(nil); errors.As(v.Err, &u) {
			v.Err = u.Err // the policy has the address
		}
		c.Claims = append(c.Claims, ledger.Claim{Name: v.Name, Note: v.Note, Err: v.Err})
	}
	return c, ctx.Err()
}

func readBackup(dir string) (info BackupInfo, err error) {
	b, err := os.ReadFile(filepath.Join(dir, backupManifest))
	if errors.Is(err, fs.ErrNotExist) {
		return info, fmt.Errorf("%s is not a whole backup: it has no %s, which 'fabtraild backup' writes last", dir, backupManifest)
	}
	if err != nil {
		return info, err
	}
	if err := json.Unmarshal(b, &info); err != nil {
		return info, fmt.Errorf("%s: %w", filepath.Join(dir, backupManifest), err)
	}
	if info.Version != backupVersion {
		return info, fmt.Errorf("%s is of version %d, this program reads version %d", filepath.Join(dir, backupManifest), info.Version, backupVersion)
	}
	for _, f := range info.Files {
		if !filepath.IsLocal(filepath.FromSlash(f.Path)) {
			return info, fmt.Errorf("%s names the file %q", filepath.Join(dir, backupManifest), f.Path)
		}
	}
	return info, nil
}

// copyTo copies a backup's files, which must be what its list says.
func (b *BackupInfo) copyTo(ctx context.Context, from, to string, progress func(string, uint64, uint64)) error {
	cp := copier{ctx: ctx, to: to, progress: progress}
	dirs := map[string]bool{}
	for i, f := range b.Files {
		mode := fs.FileMode(0o644)
		dirMode := fs.FileMode(0o755)
		if strings.HasPrefix(f.Path, "keys/") {
			mode, dirMode = 0o600, 0o700
		}
		dir := filepath.Dir(filepath.Join(to, filepath.FromSlash(f.Path)))
		if err := os.MkdirAll(dir, dirMode); err != nil {
			return err
		}
		dirs[dir] = true
		if err := cp.file(filepath.Join(from, filepath.FromSlash(f.Path)), f.Path, mode); err != nil {
			return err
		}
		if got := cp.files[i]; got != f {
			return fmt.Errorf("the backup is damaged: %s has %d bytes with SHA-256 %s, its list says %d and %s",
				filepath.Join(from, f.Path), got.Size, got.SHA256, f.Size, f.SHA256)
		}
	}
	for dir := range dirs {
		if err := syncFolder(dir); err != nil {
			return err
		}
	}
	return nil
}

// takeKeys copies private keys from a folder that has them, if one is named, and
// checks that the log's is the backup's.
func (f Folder) takeKeys(from, vkey string) error {
	if from != "" {
		cp := copier{ctx: context.Background(), to: string(f), progress: func(string, uint64, uint64) {}}
		if err := os.RemoveAll(f.key("")); err != nil {
			return err
		}
		if err := cp.tree(from, "keys", 0o600, func(string) bool { return false }); err != nil {
			return err
		}
	}
	s, err := f.logSigner()
	if errors.Is(err, errNoKey) && from == "" {
		return nil
	}
	if err != nil {
		return err
	}
	if s.VKey().String() != vkey {
		return fmt.Errorf("the log key in %s is %s, the backup's log is %s", from, s.VKey(), vkey)
	}
	return nil
}

// takePolicy puts another policy in the place of the backup's.
func (f Folder) takePolicy(from string) error {
	if from == "" {
		return nil
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if _, err := checkpoint.ParsePolicy(b); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	path := filepath.Join(f.Trust(), "policy.txt")
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if bytes.Equal(old, b) {
		return nil
	}
	if err := f.keepPolicy(old); err != nil {
		return err
	}
	return writeFile(path, b, 0o644)
}

// tails are where entries beyond the backup come from.
type tails struct {
	list []ledger.Tail
	open []*ledger.FolderTail
}

func (t *tails) close() (err error) {
	for _, o := range t.open {
		err = errors.Join(err, o.Close())
	}
	t.open = nil
	return err
}

func (c RestoreConfig) open(key checkpoint.VKey, claims []ledger.Claim) (*tails, error) {
	t := &tails{}
	for _, from := range c.Tails {
		if strings.HasPrefix(from, "http://") || strings.HasPrefix(from, "https://") {
			r, err := client.NewRemote(from, client.Options{Token: c.Token, Attempts: 3})
			if err != nil {
				return t, err
			}
			t.list = append(t.list, &remoteTail{r: r, key: key, claims: claims})
			continue
		}
		o, err := ledger.OpenTail(vfs.Default, from)
		if errors.Is(err, ledger.ErrLocked) {
			err = fmt.Errorf("%w: give its address instead, or stop it", err)
		}
		if err != nil {
			return t, fmt.Errorf("--tail: %w", err)
		}
		t.open = append(t.open, o)
		t.list = append(t.list, o)
	}
	return t, nil
}

// remoteTail is the Tail of a ledger that answers HTTP: of the same log, or of a
// copy of it that has cargo.
type remoteTail struct {
	r      *client.Remote
	key    checkpoint.VKey
	claims []ledger.Claim
	signed bool // entries are read up to the signed size
}

// Notes implements ledger.Tail.
func (t *remoteTail) Notes(ctx context.Context, _ uint64) ([][]byte, error) {
	note, err := t.r.Checkpoint(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.r.Base(), err)
	}
	return [][]byte{note}, nil
}

// Head implements ledger.Tail: the published checkpoint, or the newest that a
// witness has seen if the server has its entries.
func (t *remoteTail) Head(ctx context.Context) (ledger.Head, error) {
	notes, err := t.Notes(ctx, 0)
	if err != nil {
		return ledger.Head{}, err
	}
	best, err := t.checkpoint(notes[0])
	if err != nil {
		return ledger.Head{}, fmt.Errorf("%s: %w", t.r.Base(), err)
	}
	for _, c := range t.claims {
		cp, err := t.checkpoint(c.Note)
		if err != nil || cp.Size <= best.Size {
			continue
		}
		if err := t.r.Entries(ctx, cp.Size-1, cp.Size, true, func(client.EntryLine) error { return nil }); err == nil {
			best, t.signed = cp, true
		}
	}
	return ledger.Head{Size: best.Size, Root: best.Root}, nil
}

func (t *remoteTail) checkpoint(note []byte) (cp checkpoint.Checkpoint, err error) {
	n, err := checkpoint.ParseNote(note)
	if err != nil {
		return cp, err
	}
	if err := t.key.VerifyLog(n); err != nil {
		return cp, err
	}
	return checkpoint.ParseCheckpoint(n.Text)
}

// Read implements ledger.Tail.
func (t *remoteTail) Read(ctx context.Context, from uint64, n int) ([]ledger.Leaf, error) {
	var out []ledger.Leaf
	err := t.r.Entries(ctx, from, from+uint64(n), t.signed, func(line client.EntryLine) error {
		if len(line.Cargo) == 0 {
			return fmt.Errorf("entry %d: %s withholds its cargo: give a token of scope audit with --token", line.Index, t.r.Base())
		}
		e, err := entry.ParseCargo(line.Cargo)
		if err != nil {
			return fmt.Errorf("entry %d: %w", line.Index, err)
		}
		leaf, err := ledger.NewLeaf(e, line.Manifest)
		if err != nil {
			return fmt.Errorf("entry %d: %w", line.Index, err)
		}
		out = append(out, leaf)
		return nil
	})
	return out, err
}
