package ledger

import (
	"context"
	"errors"
	"fmt"

	"fabtrail.dev/fabtrail/ledger/entry"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// RepairConfig says what to repair.
type RepairConfig struct {
	FsckConfig        // Key is required: what is not bound to a signed root is not touched
	Folder     string // as in Config
	App        App
	Write      bool // false: only say what can be done
}

// Fix is one damage that can be, or was, made right.
type Fix struct {
	Damage
	How string `json:"how"`
}

// String is the damage and how it is made right.
func (f Fix) String() string { return f.Damage.String() + " -> " + f.How }

// RepairReport says what Repair found and did.
type RepairReport struct {
	Before  FsckReport
	Fixes   []Fix
	Left    []Damage   // what cannot be made right from what is here
	Refused string     // why nothing can be changed, although there are Fixes or Left
	Next    string     // the command for what is left
	Done    bool       // it was written
	Kept    string     // where the database of before is
	After   FsckReport // the check afterwards; Before if nothing was written
}

// How each class of damage is made right; what is not here cannot be. All of it
// follows from the entries, whose tree must have the root that was signed.
var remedies = map[string]string{
	"database": "made anew from the entries", "head": "made anew from the entries", "root": "made anew from the entries",
	"leaf": "made anew from its cargo", "tile": "made anew from the entries", "id": "made anew from the entries",
	"index-row": "made anew from the entries", "index-root": "made anew from the entries", "receipt": "its proof is made anew from the entries",
}

// Repair checks a ledger that is not open, and makes right what provably can be:
// all entries are read again, from the journal where it has them, and held against
// the newest checkpoint that the log signed; then a new database is built from
// them by the path that a replay takes, and takes the place of the old one, which is
// kept. Published notes, and manifests, are taken over as far as they are sound.
func Repair(ctx context.Context, cfg RepairConfig) (rep RepairReport, err error) {
	def(&cfg.FS, vfs.Default)
	if cfg.Progress == nil {
		cfg.Progress = func(string, uint64, uint64) {}
	}
	if cfg.Key.Type == 0 {
		return rep, errors.New("repair: the log's key is needed")
	}
	r := &repairer{cfg: cfg, dir: cfg.FS.PathJoin(cfg.Dir, "repair")}
	if err := r.finishSwap(); err != nil {
		return rep, err
	}
	if rep.Before, err = Fsck(ctx, cfg.FsckConfig); err != nil {
		return rep, err
	}
	rep.After = rep.Before
	if len(rep.Before.Damage) == 0 && rep.Before.Beyond == 0 {
		return rep, nil
	}
	err = r.run(ctx, &rep)
	return rep, err
}

// repairer is one run of Repair.
type repairer struct {
	cfg RepairConfig
	dir string // where the new database is built
	c   *core  // of the damaged ledger: locks, and the database for reading
	src *source
}

func (r *repairer) run(ctx context.Context, rep *RepairReport) (err error) {
	c := Config{Dir: r.cfg.Dir, Folder: r.cfg.Folder, Origin: r.cfg.Origin, FS: r.cfg.FS, Fatal: func(string) {}}
	c.defaults()
	r.c = newCore(&c, true, func(error) {})
	defer func() {
		// A database that reads have panicked on does not close well, either.
		if cerr := r.c.close(); rep.Refused == "" {
			err = errors.Join(err, cerr)
		}
	}()
	if err := r.open(); err != nil {
		rep.Refused = oneLine(err.Error())
		rep.Left = rep.Before.Damage
		return nil
	}
	r.plan(rep)
	if err := r.src.prove(ctx, r.cfg.Progress); err != nil {
		if ctx.Err() != nil {
			return err
		}
		rep.Fixes, rep.Left, rep.Refused = nil, rep.Before.Damage, oneLine(err.Error())
		return nil
	}
	if !r.cfg.Write || len(rep.Fixes) == 0 {
		return nil
	}
	if err := r.build(ctx); err != nil {
		return errors.Join(c.words(err), r.cfg.FS.RemoveAll(r.dir))
	}
	if rep.Kept, err = r.swap(); err != nil {
		return err
	}
	if rep.After, err = Fsck(ctx, r.cfg.FsckConfig); err != nil {
		return err
	}
	rep.Done = true
	rep.Left = rep.After.Damage
	left := map[Damage]bool{}
	for _, d := range rep.Left {
		left[d] = true
	}
	var done []Fix
	for _, f := range rep.Fixes {
		if !left[f.Damage] {
			done = append(done, f)
		}
	}
	rep.Fixes = done
	return nil
}

// open takes the locks and reads what is left.
func (r *repairer) open() error {
	if err := r.c.makeDirs(); err != nil {
		return err
	}
	h, err := readJournal(r.cfg.FS, r.c.jDir) // what comes before damage to it is good
	if err != nil && h == nil {
		return err
	}
	if r.c.s, err = openStore(r.c.dbDir, r.c.options(true)); err != nil {
		return fmt.Errorf("the database in %s does not open: %w", r.c.dbDir, err)
	}
	r.src = &source{h: h, s: r.c.s, origin: r.cfg.Origin, key: r.cfg.Key}
	return nil
}

// plan says of each damage whether and how it is made right.
func (r *repairer) plan(rep *RepairReport) {
	h := r.src.h
	rep.Fixes, rep.Left = nil, nil
	for _, d := range rep.Before.Damage {
		how := remedies[d.Class]
		if (d.Class == "entry" || d.Class == "leaf" || d.Class == "manifest") && h.exists && d.Index >= h.base.size && d.Index < h.size() {
			how = "taken from the journal"
		}
		if d.Class == "note" || d.Class == "checkpoint" || d.Class == "cosignature" {
			for _, n := range append([][]byte{h.signed}, h.cosigned...) {
				if cp, err := noteCheckpoint(n); err == nil && n != nil && cp.Size == d.Index {
					how = "taken from the journal"
				}
			}
		}
		if d.Class == "manifest" && d.Index == 0 { // of those that entries name, the entry is named, too
			how = "left out: whoever sent it sends it again"
		}
		if how == "" {
			rep.Left = append(rep.Left, d)
			continue
		}
		rep.Fixes = append(rep.Fixes, Fix{d, how})
	}
	if n := rep.Before.Beyond; n > 0 {
		rep.Fixes = append(rep.Fixes, Fix{Damage{"database", rep.Before.Size, fmt.Sprintf("%d entries are in the journal only", n)}, "taken from the journal"})
	}
	for _, d := range rep.Left {
		switch d.Class {
		case "journal":
			rep.Next = fmt.Sprintf("fabtraild restore --new-journal --data %s", r.cfg.Folder)
		default:
			if rep.Next == "" {
				rep.Next = fmt.Sprintf("fabtraild restore BACKUP --data NEW-FOLDER --tail %s", r.cfg.Folder)
			}
		}
	}
}

// build makes the new database in r.dir.
func (r *repairer) build(ctx context.Context) (err error) {
	fs := r.cfg.FS
	if err := fs.RemoveAll(r.dir); err != nil {
		return err
	}
	c := Config{Dir: r.dir, Folder: r.cfg.Folder, Origin: r.cfg.Origin, FS: fs, Sequencer: r.src, App: r.cfg.App}
	c.defaults()
	l := bareLedger(ctx, c, r.cfg.Key)
	defer func() { err = errors.Join(err, l.closeBare()) }()
	if l.c, err = openCore(&l.cfg, false, l.fail); err != nil {
		return err
	}
	l.attach()
	if _, err := l.prepare(); err != nil {
		return err
	}
	if err := l.catchUp(ctx); err != nil {
		return err
	}
	if err := r.takeOver(l.s); err != nil {
		return err
	}
	return errors.Join(l.s.db.Flush(), l.Err())
}

// takeOver copies what does not follow from the entries, as far as it is sound.
func (r *repairer) takeOver(to *store) error {
	set := func(k, v []byte) error {
		return to.db.Set(append([]byte(nil), k...), append([]byte(nil), v...), pebble.NoSync)
	}
	signed, published := r.src.signed, []byte(nil)
	for _, n := range r.src.notes() {
		cp, ok := r.src.sound(n.note)
		if !ok || cp.Size != n.size && n.size != 0 {
			continue
		}
		if known, err := to.get(keyU64(keyNote, cp.Size)); err != nil {
			return err
		} else if known == nil {
			if err := set(keyU64(keyNote, cp.Size), n.note); err != nil {
				return err
			}
		}
		published = newerNote(published, n.note)
	}
	if b, err := r.c.s.get(metaLatest); err == nil && b != nil { // cosigned later than the first of its size
		if _, ok := r.src.sound(b); ok {
			published = newerNote(b, published)
		}
	}
	own, err := ownNote(signed, r.cfg.Key)
	if err != nil {
		return err
	}
	for _, m := range []struct{ key, value []byte }{{metaSigned, own}, {metaLatest, published}} {
		if m.value == nil {
			continue
		}
		if err := set(m.key, m.value); err != nil {
			return err
		}
	}
	if b, err := r.c.s.get(metaEpoch); err == nil && len(b) == 8 {
		if err := set(metaEpoch, b); err != nil {
			return err
		}
	}
	if r.src.h.exists { // all that the journal's segments rest on is in this database
		for _, n := range append([]uint64{r.src.h.base.segment}, r.src.h.segments...) {
			if err := to.markFlush(n); err != nil {
				return err
			}
		}
	}
	// Manifests that no entry names yet, each with the row that says since when.
	err = r.c.s.each(keyManifest, func(k, v []byte) error {
		if len(k) != 33 || sha256Sum(v) != entry.Hash(k[1:]) {
			return nil
		}
		if named, err := to.get(k); err != nil || named != nil {
			return err
		}
		since, err := r.c.s.get(keyHash(keyUnused, entry.Hash(k[1:])))
		if _, ok := parseUpload(since); err == nil && ok {
			if err := set(keyHash(keyUnused, entry.Hash(k[1:])), since); err != nil {
				return err
			}
		}
		return set(k, v)
	})
	if errors.Is(err, ErrDamaged) || pebble.IsCorruptionError(err) {
		err = nil // their senders will send them again
	}
	return err
}

// swap puts the new database in the place of the old one.
func (r *repairer) swap() (kept string, err error) {
	fs := r.cfg.FS
	err = r.c.s.close()
	r.c.s = nil
	if r.c.lock != nil {
		err = errors.Join(err, r.c.lock.Close())
		r.c.lock = nil
	}
	if err != nil {
		return "", err
	}
	for n := 1; ; n++ {
		kept = fs.PathJoin(r.cfg.Dir, fmt.Sprintf("truth.damaged-%d", n))
		if _, err := fs.Stat(kept); err != nil {
			break
		}
	}
	if err := fs.Rename(r.c.dbDir, kept); err != nil {
		return "", err
	}
	if err := syncDir(fs, r.cfg.Dir); err != nil {
		return kept, err
	}
	// From here on finishSwap can do the rest.
	if err := fs.Rename(fs.PathJoin(r.dir, truthDir), r.c.dbDir); err != nil {
		return kept, err
	}
	if err := syncDir(fs, r.cfg.Dir); err != nil {
		return kept, err
	}
	// The journal's lock goes with r.c; Fsck takes it again.
	err = r.c.jLock()
	r.c.jLock = nil
	return kept, errors.Join(err, fs.RemoveAll(r.dir))
}

// finishSwap ends a swap that was cut short between its two renames: the old
// database has left its place, so the new one was whole.
func (r *repairer) finishSwap() error {
	fs := r.cfg.FS
	truth, made := fs.PathJoin(r.cfg.Dir, truthDir), fs.PathJoin(r.dir, truthDir)
	if _, err := fs.Stat(fs.PathJoin(r.cfg.Dir, "truth.damaged-1")); err != nil {
		return nil
	}
	if _, err := fs.Stat(made); err != nil {
		return nil
	}
	if _, err := fs.Stat(truth); err == nil {
		desc, err := pebble.Peek(truth, fs)
		if err != nil || desc.Exists {
			return err
		}
		if err := fs.RemoveAll(truth); err != nil { // a start has left it empty
			return err
		}
	}
	if err := fs.Rename(made, truth); err != nil {
		return err
	}
	return errors.Join(syncDir(fs, r.cfg.Dir), fs.RemoveAll(r.dir))
}
