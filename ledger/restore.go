package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Claim is what one witness of the policy answered when it was asked which
// checkpoint of this log it saw last.
type Claim struct {
	Name string // in the policy
	Note []byte // nil if it never cosigned this log
	Err  error  // it did not answer, or not with a checkpoint of this log
}

// Others is what others have seen of a log: the witnesses of the policy, and those who
// hold a checkpoint.
type Others struct {
	Claims []Claim
	Seen   [][]byte
}

// Tail is where entries beyond a backup come from: Head and Read as of a
// Sequencer, Head.Size being as far as the source vouches for. Notes are the
// checkpoints of this log above a size that it has.
type Tail interface {
	Head(ctx context.Context) (Head, error)
	Read(ctx context.Context, from uint64, n int) ([]Leaf, error)
	Notes(ctx context.Context, above uint64) ([][]byte, error)
}

// RestoreConfig says what to restore, and what the world is known to have seen.
type RestoreConfig struct {
	Dir    string // a copy of a snapshot; after an error it is not to be used
	Folder string // as in Config
	Origin string
	Key    checkpoint.VKey
	Policy *checkpoint.Policy
	App    App
	Tails  []Tail   // taken in order
	Claims []Claim  // of the witnesses of Policy
	Seen   [][]byte // checkpoints that others hold: clients, monitors, receipts
	// NewJournal begins a new journal at the database's size, in place: the old
	// one is lost, and its files, if any, are moved into a folder beside it. No
	// Tails then.
	NewJournal bool
	Sequencer  Sequencer // as in Config
	FS         vfs.FS    // vfs.Default
	Progress   func(what string, done, total uint64)
}

// RestoreReport says what was restored.
type RestoreReport struct {
	Found     uint64     // entries that the copy had, with its own journal
	Size      uint64     // entries now
	Root      entry.Hash // of them
	Signed    uint64     // newest size that is known to have been signed
	Published uint64     // newest size that is known to have been published
	Epoch     uint64     // the journal's, from now on
	Silent    []string   // witnesses that did not answer, or have forgotten, each with the reason
	Aside     string     // where the files of the old journal went, if any
}

// Restore brings a copy of a ledger to the newest state that is known to have
// been signed, and begins a new segment and epoch of its journal, or refuses
// with *NoSign. It signs nothing.
//
// The rule: the witnesses that answered must reach the policy's quorum, those
// that did not must be too few to have reached it without them, and no checkpoint
// with this log's signature, whoever shows it, may be ahead of what is restored
// or have another root at a size below. A policy without witnesses needs Seen.
func Restore(ctx context.Context, cfg RestoreConfig) (rep RestoreReport, err error) {
	def(&cfg.FS, vfs.Default)
	if cfg.Progress == nil {
		cfg.Progress = func(string, uint64, uint64) {}
	}
	c := Config{Dir: cfg.Dir, Folder: cfg.Folder, Origin: cfg.Origin, FS: cfg.FS, Sequencer: cfg.Sequencer, newJournal: cfg.NewJournal}
	c.defaults()
	r := &restorer{cfg: cfg, l: bareLedger(ctx, c, cfg.Key)}
	defer func() {
		err = errors.Join(err, r.l.closeBare())
		if no := (*NoSign)(nil); errors.As(err, &no) {
			no.Doing = "restore"
			if no.WayOut == wayAhead && !cfg.NewJournal {
				no.WayOut = wayMore
			}
		}
		err = c.words(err)
	}()
	if cfg.NewJournal {
		if len(cfg.Tails) > 0 {
			return rep, errors.New("a journal is begun anew without any tail: what is missing comes into a restored backup")
		}
		if _, err := cfg.FS.Stat(cfg.FS.PathJoin(cfg.Dir, truthDir)); err != nil {
			return rep, err
		}
	}
	if r.l.c, err = openCore(&r.l.cfg, cfg.Sequencer == nil, r.l.fail); err != nil {
		return rep, err
	}
	if r.l.c.storeNew {
		return rep, noSign(nil, wayRestore, "the database is gone: there is none in %s", r.l.c.dbDir)
	}
	r.l.attach()
	r.l.cfg.App = cfg.App
	err = r.run(ctx)
	return r.rep, errors.Join(err, r.l.Err())
}

// bareLedger is a ledger without goroutines, for what is done to one that does
// not run.
func bareLedger(ctx context.Context, c Config, key checkpoint.VKey) *Ledger {
	l := &Ledger{cfg: c, vkey: key, failed: make(chan struct{}), closing: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(ctx)
	return l
}

func (l *Ledger) closeBare() (err error) {
	l.cancel()
	if l.seq != nil {
		err = l.seq.Close()
	} else if l.cfg.Sequencer != nil {
		err = l.cfg.Sequencer.Close()
	}
	if l.c != nil {
		err = errors.Join(err, l.c.close())
	}
	return err
}

// restorer is one run of Restore.
type restorer struct {
	cfg   RestoreConfig
	l     *Ledger
	notes [][]byte // of this log, whoever showed them
	from  []string // who
	rep   RestoreReport
}

func (r *restorer) run(ctx context.Context) error {
	l := r.l
	if _, err := l.prepare(); err != nil {
		return err
	}
	if err := l.catchUp(ctx); err != nil {
		return err
	}
	r.rep.Found = l.b.edge.size
	if err := r.takeAll(ctx); err != nil {
		return err
	}
	signed, published, err := r.known(ctx)
	if err != nil {
		return err
	}
	return r.begin(signed, published)
}

// known applies the rule to what is there now, and returns the newest checkpoint that
// was signed, and the newest that was published, as far as anybody knows.
func (r *restorer) known(ctx context.Context) (signed, published []byte, err error) {
	l := r.l
	if err := r.ask(); err != nil {
		return nil, nil, err
	}
	if signed, published, err = l.standing(ctx); err != nil {
		return nil, nil, err
	}
	if err := r.check(); err != nil {
		return nil, nil, err
	}
	if err := l.restoreNotes(); err != nil {
		return nil, nil, err
	}
	return r.newest(signed, published)
}

// begin makes the restored state durable, with a new segment and epoch.
func (r *restorer) begin(signed, published []byte) error {
	l := r.l
	if signed != nil {
		if err := l.s.db.Set(metaSigned, signed, nil); err != nil {
			return err
		}
	}
	if published != nil {
		cp, err := noteCheckpoint(published)
		if err != nil {
			return err
		}
		known, err := l.s.get(keyU64(keyNote, cp.Size))
		if err != nil {
			return err
		}
		if err := l.s.storeNote(cp.Size, published, known == nil); err != nil {
			return err
		}
		r.rep.Published = cp.Size
	}
	l.j.signed, l.j.cosigned = signed, published
	cp, err := noteCheckpoint(signed)
	if err != nil {
		return err
	}
	if r.cfg.NewJournal {
		if r.rep.Aside, err = setAside(r.cfg.FS, l.c.jDir, l.j.epoch); err != nil {
			return err
		}
	}
	if err := l.c.start(l.b.edge); err != nil {
		return err
	}
	r.rep.Size, r.rep.Root, r.rep.Signed, r.rep.Epoch = l.b.edge.size, l.b.edge.root(), cp.Size, l.j.epoch
	return nil
}

// setAside moves the files of a journal that is given up into a folder in it, and
// names that; "" if there are none.
func setAside(fs vfs.FS, dir string, epoch uint64) (string, error) {
	names, err := fs.List(dir)
	if err != nil {
		return "", err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, segmentSuffix) })
	if len(names) == 0 {
		return "", nil
	}
	aside := fs.PathJoin(dir, fmt.Sprintf("given-up-in-epoch-%d", epoch))
	if err := fs.MkdirAll(aside, 0o755); err != nil {
		return "", err
	}
	for _, n := range names {
		if err := fs.Rename(fs.PathJoin(dir, n), fs.PathJoin(aside, n)); err != nil {
			return "", err
		}
	}
	return aside, errors.Join(syncDir(fs, aside), syncDir(fs, dir))
}

// takeAll takes the tails in order. What one of them cannot give may be in one after it;
// but whatever it vouches for must be there in the end.
func (r *restorer) takeAll(ctx context.Context) error {
	type end struct {
		head  Head
		short *NoSign
	}
	var ends []end
	for i, t := range r.cfg.Tails {
		name := "this tail"
		if len(r.cfg.Tails) > 1 {
			name = fmt.Sprintf("tail %d", i+1)
		}
		head, short, err := r.take(ctx, t, name)
		if err != nil {
			return err
		}
		ends = append(ends, end{head, short})
	}
	for _, e := range ends {
		if e.short != nil && r.l.b.edge.size < e.head.Size {
			return e.short
		}
		if err := r.vouched(e.head); err != nil {
			return err
		}
	}
	return nil
}

// vouched compares the root that a tail vouches for.
func (r *restorer) vouched(head Head) (err error) {
	l := r.l
	root := l.b.edge.root()
	if head.Size < l.b.edge.size {
		if root, err = l.t.root(head.Size); err != nil {
			return err
		}
	}
	if head.Size > 0 && root != head.Root {
		return noSign(nil, wayFork, "the tail vouches for the root %s at size %d, the entries give %s", head.Root, head.Size, root)
	}
	return nil
}

// take replays what a source has beyond the end, and says how far it vouches and, if
// it has not got so far, why. That the entries lead to what was signed is checked by
// root: at the size that the source vouches for by takeAll, at every checkpoint later.
func (r *restorer) take(ctx context.Context, t Tail, name string) (head Head, short *NoSign, err error) {
	l := r.l
	latest, err := l.lastPublished()
	if err != nil {
		return head, nil, err
	}
	notes, err := t.Notes(ctx, latest.Size)
	if err != nil {
		return head, nil, fmt.Errorf("tail: %w", err)
	}
	for _, n := range notes {
		r.note(n, "a checkpoint that the tail has")
	}
	if head, err = t.Head(ctx); err != nil {
		return head, nil, fmt.Errorf("tail: %w", err)
	}
	first := l.b.edge.size
	for l.b.edge.size < head.Size {
		at := l.b.edge.size
		r.cfg.Progress("tail", at-first, head.Size-first)
		leaves, err := t.Read(ctx, at, int(min(head.Size-at, replayBatch)))
		if errors.Is(err, ErrDamaged) {
			return head, noSign(err, wayMore, "entry %d, or one after it, cannot be read from %s", at, name), nil
		}
		if errors.Is(err, ErrGap) {
			return head, noSign(err, wayMore, "%s has nothing that follows the %d entries restored so far", name, at), nil
		}
		if err != nil || len(leaves) == 0 {
			return head, nil, fmt.Errorf("tail: reading entry %d: %w", at, err)
		}
		if err := l.replayAll(leaves); err != nil {
			return head, nil, err
		}
	}
	return head, nil, nil
}

func (r *restorer) note(n []byte, from string) {
	r.notes, r.from = append(r.notes, n), append(r.from, from)
}

// ask applies the rule about who must have answered.
func (r *restorer) ask() error {
	for _, n := range r.cfg.Seen {
		r.note(n, "the checkpoint that was given")
	}
	silent := map[string]string{}
	for _, w := range r.cfg.Policy.Witnesses() {
		i := slices.IndexFunc(r.cfg.Claims, func(c Claim) bool { return c.Name == w.Name })
		if i < 0 {
			silent[w.Name] = "it was not asked: the policy has no address of it"
			continue
		}
		c := r.cfg.Claims[i]
		if c.Note != nil {
			r.note(c.Note, "witness "+w.Name+"'s newest checkpoint")
		}
		if why := r.forgot(w, c); why != "" {
			silent[w.Name] = why
		}
	}
	for _, w := range r.cfg.Policy.Witnesses() {
		if why, ok := silent[w.Name]; ok {
			r.rep.Silent = append(r.rep.Silent, w.Name+": "+why)
		}
	}
	p := r.cfg.Policy
	if len(p.Witnesses()) == 0 || p.Satisfied(func(string) bool { return false }) {
		if len(r.cfg.Seen) == 0 {
			return noSign(nil, waySeen, "the policy needs no witness, so nobody can be asked what this log has signed last")
		}
		return nil
	}
	told := func(name string) bool { _, ok := silent[name]; return !ok }
	switch {
	case !p.Satisfied(told):
		return noSign(nil, wayAsk, "too few witnesses said what they saw last (%s)", strings.Join(r.rep.Silent, "; "))
	case p.Satisfied(func(name string) bool { return !told(name) }):
		return noSign(nil, wayAsk, "the witnesses that did not answer reach a quorum by themselves, and may have cosigned more (%s)", strings.Join(r.rep.Silent, "; "))
	}
	return nil
}

// forgot says why a witness's claim is no answer; "" if it is one.
func (r *restorer) forgot(w checkpoint.PolicyWitness, c Claim) string {
	if c.Err != nil {
		return c.Err.Error()
	}
	var claimed checkpoint.Checkpoint
	if c.Note != nil {
		n, err := checkpoint.ParseNote(c.Note)
		if err == nil {
			_, err = w.VKey.VerifyCosignature(n)
		}
		if err == nil {
			claimed, err = checkpoint.ParseCheckpoint(n.Text)
		}
		if err != nil {
			return "its newest checkpoint is not cosigned by it: " + err.Error()
		}
	}
	latest, err := r.l.s.get(metaLatest)
	if err != nil || latest == nil {
		return ""
	}
	n, err := checkpoint.ParseNote(latest)
	if err != nil {
		return ""
	}
	if _, err := w.VKey.VerifyCosignature(n); err != nil {
		return ""
	}
	if cp, err := checkpoint.ParseCheckpoint(n.Text); err == nil && cp.Size > claimed.Size {
		return fmt.Sprintf("it shows size %d, and has cosigned size %d: it has forgotten", claimed.Size, cp.Size)
	}
	return ""
}

// newest finds the newest signed and the newest published checkpoint among our
// own and those shown, which have all passed checkOurs, and keeps the publications
// that are new to us: receipts rest on them.
func (r *restorer) newest(signed, published []byte) ([]byte, []byte, error) {
	l := r.l
	for _, note := range r.publications() {
		signed = newerNote(signed, note)
		if _, err := r.cfg.Policy.Verify(note); err != nil {
			continue
		}
		cp, err := noteCheckpoint(note)
		if err != nil {
			return nil, nil, err
		}
		known, err := l.s.get(keyU64(keyNote, cp.Size))
		if err != nil {
			return nil, nil, err
		}
		if known == nil && cp.Size > 0 {
			if err := l.s.db.Set(keyU64(keyNote, cp.Size), note, nil); err != nil {
				return nil, nil, err
			}
		}
		published = newerNote(published, note)
	}
	own, err := ownNote(signed, l.vkey)
	return own, published, err
}

// publications returns one note of each checkpoint that was shown: the first that
// the policy accepts, as it is, for receipts to stay the same; else one with the
// cosignatures of all, as witnesses that hold them apart may make a quorum.
func (r *restorer) publications() [][]byte {
	var out [][]byte
	at := map[string]int{} // by text
	for _, b := range r.notes {
		n, err := checkpoint.ParseNote(b)
		if err != nil || r.l.vkey.VerifyLog(n) != nil {
			continue // not ours: checkOurs has said so
		}
		i, ok := at[n.Text]
		if !ok {
			at[n.Text] = len(out)
			out = append(out, b)
			continue
		}
		if _, err := r.cfg.Policy.Verify(out[i]); err == nil {
			continue
		}
		if _, err := r.cfg.Policy.Verify(b); err == nil {
			out[i] = b
			continue
		}
		if had, err := checkpoint.ParseNote(out[i]); err == nil {
			for _, s := range n.Sigs {
				if !slices.ContainsFunc(had.Sigs, func(o checkpoint.NoteSig) bool { return o.Name == s.Name && o.KeyID == s.KeyID }) {
					had.Sigs = append(had.Sigs, s)
				}
			}
			out[i] = had.Marshal()
		}
	}
	return out
}

// ownNote leaves only the log's signature on a note.
func ownNote(note []byte, key checkpoint.VKey) ([]byte, error) {
	if note == nil {
		return nil, nil
	}
	n, err := checkpoint.ParseNote(note)
	if err != nil {
		return nil, err
	}
	n.Sigs = slices.DeleteFunc(n.Sigs, func(s checkpoint.NoteSig) bool { return !key.Made(s) })
	return n.Marshal(), nil
}
