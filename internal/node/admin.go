package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"fabtrail.dev/fabtrail/api"
	"fabtrail.dev/fabtrail/custody/view"
	"fabtrail.dev/fabtrail/ledger"
)

// Token issues a bearer token of the ledger for a party.
func (f Folder) Token(party string, scopes []string, ttl time.Duration) (string, error) {
	origin, err := f.Origin()
	if err != nil {
		return "", err
	}
	key, err := f.TokenKey()
	if err != nil {
		return "", err
	}
	words := make([]api.Scope, len(scopes))
	for i, s := range scopes {
		words[i] = api.Scope(s)
	}
	return api.Minter{Issuer: TokenIssuer, Origin: origin, Key: key, Clock: time.Now}.Mint(party, words, ttl)
}

// Rebuilt says what Rebuild made.
type Rebuilt struct {
	Size     uint64 `json:"size"` // entries
	Findings int    `json:"findings"`
}

// Rebuild deletes the views of a ledger that is not running and makes them anew.
func Rebuild(ctx context.Context, f Folder, progress func(done, total uint64)) (Rebuilt, error) {
	if tree, err := f.Tree(); err != nil {
		return Rebuilt{}, err
	} else if tree != 0 {
		return Rebuilt{}, fmt.Errorf("%s is a node's on a cluster, which makes its views anew when it starts without: stop it, delete %s, and start it", f, f.views())
	}
	if _, err := f.Origin(); err != nil {
		return Rebuilt{}, err
	}
	n, err := open(ctx, Config{Folder: f, Manual: true, NoDetector: true}, func() error { return os.RemoveAll(f.views()) })
	if err != nil {
		return Rebuilt{}, err
	}
	defer n.Close()
	v := n.ledger.Published()
	if _, err := n.catchUp(ctx, v, func(done uint64) { progress(done, v.Size()) }); err != nil {
		return Rebuilt{}, err
	}
	r := Rebuilt{Size: n.views.Next()}
	if err := n.views.Findings(0, func(view.Finding) bool { r.Findings++; return true }); err != nil {
		return r, err
	}
	if err := n.views.SetHanded(0); err != nil { // published again, which the ledger answers with the first receipts
		return r, err
	}
	return r, nil
}

// CaughtUp waits until the views hold everything that is published, and all
// findings in it have been published too.
func (n *Node) CaughtUp(ctx context.Context) error {
	for {
		size := n.ledger.Published().Size()
		handed, err := n.views.Handed()
		if err != nil {
			return err
		}
		if n.views.Next() >= size && (n.cfg.NoDetector || handed >= size) && n.ledger.Published().Size() == size {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("views are at %d of %d: %w", n.views.Next(), size, ctx.Err())
		case err := <-n.failed:
			n.fail(err)
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Checked is what Fsck read and found.
type Checked struct {
	Size      uint64 `json:"size"` // entries
	Topics    uint64 `json:"topics"`
	Root      string `json:"root"`
	IndexRoot string `json:"indexRoot"`
	Signed    uint64 `json:"signed"`
	Published uint64 `json:"published"`
	More      uint64 `json:"more,omitempty"` // damages beyond those listed

	// Damage is what is wrong: of class file, by its place in the list, is a file of a
	// backup that is not as it was written; ledger.Fsck has the others.
	Damage []ledger.Damage `json:"damage"`
	Backup bool            `json:"backup,omitempty"` // it is a backup: nothing in it is to be repaired

	// Beyond are entries that only the journal has: not damage, the next start
	// takes them in.
	Beyond uint64 `json:"beyond,omitempty"`
	note   []byte // newest published
}

// Word sums the check up.
func (c Checked) Word() string {
	if len(c.Damage) == 0 {
		return "clean"
	}
	if n := uint64(len(c.Damage)) + c.More; n > 1 {
		return fmt.Sprintf("%d damages", n)
	}
	return "1 damage"
}

// Fsck re-reads everything that a ledger which is not running keeps on disk; of a
// backup also the files that stand beside the ledger, by the backup's list.
func Fsck(ctx context.Context, f Folder, progress func(what string, done, total uint64)) (Checked, error) {
	cfg, err := f.fsck(progress)
	if err != nil {
		return Checked{}, err
	}
	r, err := ledger.Fsck(ctx, cfg)
	if err != nil || !f.isBackup() {
		return checked(r), f.inUse(err)
	}
	list, err := readBackup(string(f))
	if err != nil {
		return Checked{}, err
	}
	c := checked(r)
	c.Backup = true
	for i, file := range list.Files {
		if err := ctx.Err(); err != nil {
			return c, err
		}
		progress("files", uint64(i), uint64(len(list.Files)))
		if err := file.check(string(f)); err != nil {
			c.Damage = append(c.Damage, ledger.Damage{Class: "file", Index: uint64(i), Detail: err.Error()})
		}
	}
	return c, nil
}

// inUse says what to do when another process has the folder open.
func (f Folder) inUse(err error) error {
	if errors.Is(err, ledger.ErrLocked) && f.isReplica() {
		return fmt.Errorf("%s: %w; stop it first", f, err)
	}
	if errors.Is(err, ledger.ErrLocked) {
		return fmt.Errorf("%s: %w; stop it first, or check a backup instead: 'fabtraild backup TO --data %s' copies a running ledger and checks the copy", f, err, f)
	}
	return err
}

// fsck says what there is to check.
func (f Folder) fsck(progress func(what string, done, total uint64)) (c ledger.FsckConfig, err error) {
	key, err := f.vkey()
	if err != nil {
		return c, err
	}
	policy, err := f.policy()
	if err != nil {
		return c, err
	}
	past, err := f.pastPolicies()
	if err != nil {
		return c, err
	}
	return ledger.FsckConfig{Dir: f.ledger(), Origin: key.Name, Key: key, Policy: policy, Past: past, Progress: progress}, nil
}

func checked(r ledger.FsckReport) Checked {
	return Checked{
		Size: r.Size, Topics: r.Topics, Root: r.Root.String(), IndexRoot: r.IndexRoot.String(),
		Signed: r.Signed, Published: r.Published, Damage: append([]ledger.Damage{}, r.Damage...), More: r.More, Beyond: r.Beyond, note: r.Note,
	}
}
