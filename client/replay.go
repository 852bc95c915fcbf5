package client

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/rules"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
)

// Divergence is the first place where a log is not what it claims to be. It is
// an error that ends a replay.
type Divergence struct {
	Index  uint64 // of the entry; the size, when it is about the tree as a whole
	What   string // one of the Diverge constants
	Detail string

	// Of a false index commitment: the first topic whose list it has wrong, if that
	// could be found, and the first of all that are known, in the order of their entries.
	Topic  *entry.Topic
	Topics []entry.Topic
	// Touched are, if none was found, the first topics that the commitment had to change.
	Touched []entry.Topic
}

// maxNamed bounds the topics that a Divergence names.
const maxNamed = 16

// name sets the topics that are wrong.
func (d *Divergence) name(topics ...entry.Topic) {
	d.Topics = topics[:min(len(topics), maxNamed)]
	d.Topic = &d.Topics[0]
}

// What a divergence is about.
const (
	DivergeOrder      = "order"            // an entry out of its place
	DivergeTime       = "time"             // log time that goes back
	DivergeCharter    = "charter"          // another ledger than the one trusted
	DivergeCargo      = "cargo"            // cargo or a manifest that is missing or not the one committed to
	DivergeCommitment = "index-commitment" // a false, misplaced or missing index commitment
	DivergeLeaf       = "leaf"             // a leaf other than the cargo gives
	DivergeTile       = "tile"             // a tile other than the entries give
	DivergeRoot       = "root"             // a root other than the entries give
)

func (d *Divergence) Error() string {
	s := fmt.Sprintf("entry %d: %s: %s", d.Index, d.What, d.Detail)
	if d.Topic != nil {
		s += " (topic " + d.Topic.String() + ")"
	}
	return s
}

// Accusation is an entry that admission should have refused. The fold gives it
// no effect; it speaks against the operator.
type Accusation struct {
	Index  uint64 `json:"index"`
	Reason string `json:"reason"`
}

// maxAccused bounds the accusations that a Summary lists.
const maxAccused = 1000

// RuleEngine draws findings from what entries did; *rules.Engine is one. It is
// asked for every statement that was folded, in log order, and keeps its rows in
// st.
type RuleEngine interface {
	Apply(st custody.State, it custody.Item, eff custody.Effect) []custody.Finding
}

// ManifestStore keeps manifests by digest, for statements that name an earlier
// statement and thereby its members.
type ManifestStore interface {
	Manifest(sum entry.Hash) ([]byte, bool)
	PutManifest(sum entry.Hash, b []byte)
}

// MemManifests is a ManifestStore in memory.
type MemManifests map[entry.Hash][]byte

// Manifest implements ManifestStore.
func (m MemManifests) Manifest(sum entry.Hash) ([]byte, bool) { b, ok := m[sum]; return b, ok }

// PutManifest implements ManifestStore.
func (m MemManifests) PutManifest(sum entry.Hash, b []byte) { m[sum] = b }

// ReplayConfig is what a Replayer works with; the zero value keeps everything in
// memory.
type ReplayConfig struct {
	State     custody.State // empty; nil: in memory
	Manifests ManifestStore // nil: in memory
	Rules     RuleEngine    // nil: those of package custody/rules
	Charter   entry.Hash    // the charter's ID; zero: any
	// Tile, if set, is called with every tile of hashes as soon as it is full.
	Tile func(entry.TilePath, []byte) error
	// Effect, if set, sees what each statement did.
	Effect func(custody.Item, custody.Effect)
	// Finding, if set, sees what the rules conclude.
	Finding func(index uint64, f custody.Finding)
}

// Replayer recomputes a log from its entries: every leaf, tile and root, every
// index commitment, the fold from empty, and the findings. One engine serves the
// remote audit, the check of a local disk, and the cosigner that follows a log
// and vouches for its index. It is for one goroutine.
type Replayer struct {
	cfg   ReplayConfig
	tree  tileTree
	index *unitindex.MemIndex
	fold  custody.Fold
	keys  keyCache

	time       uint64
	recent     recent     // since the last commitment that was true
	roots      []oldRoot  // of commitments, and before them that of no topics
	claimed    entry.Hash // root in the last commitment
	lenient    bool       // false commitments do not end the replay any more
	committed  bool       // the last entry is a commitment
	statements uint64
	accused    []Accusation
	nAccused   uint64
	findings   [32]byte // running digest
	nFindings  uint64
	failed     error
}

// NewReplayer returns a Replayer that has seen nothing.
func NewReplayer(cfg ReplayConfig) *Replayer {
	if cfg.State == nil {
		cfg.State = custody.MapState{}
	}
	if cfg.Manifests == nil {
		cfg.Manifests = MemManifests{}
	}
	if cfg.Rules == nil {
		cfg.Rules = rules.New()
	}
	if cfg.Tile == nil {
		cfg.Tile = func(entry.TilePath, []byte) error { return nil }
	}
	return &Replayer{cfg: cfg, index: unitindex.NewMemIndex(), recent: newRecent(0), roots: []oldRoot{{root: unitindex.EmptyRoot()}},
		keys: keyCache{custody.StateKeys{State: cfg.State}, custody.Keys{}}}
}

// keyCache keeps keys that were parsed: a key is named by its digest and, once
// enrolled, never forgotten. Checking a point of the curve costs as much as a
// signature.
type keyCache struct {
	state custody.StateKeys
	keys  custody.Keys
}

// maxKeys bounds a keyCache.
const maxKeys = 10_000

// Key implements custody.KeyLookup.
func (c *keyCache) Key(h entry.Hash) (custody.Key, bool) {
	if k, ok := c.keys[h]; ok {
		return k, true
	}
	k, ok := c.state.Key(h)
	if ok {
		if len(c.keys) >= maxKeys {
			clear(c.keys)
		}
		c.keys[h] = k
	}
	return k, ok
}

// Size is the number of entries added: the index of the one that comes next.
func (r *Replayer) Size() uint64 { return r.tree.size }

// State is the state after the entries added.
func (r *Replayer) State() custody.State { return r.cfg.State }

// Add takes the next entry, with the manifest that its statement names, if any.
// Errors are a *Divergence, or come from cfg; after one, nothing more is taken.
func (r *Replayer) Add(index uint64, e entry.Entry, manifest []byte) error {
	if r.failed != nil {
		return r.failed
	}
	r.failed = r.add(index, e, manifest)
	return r.failed
}

func (r *Replayer) add(index uint64, e entry.Entry, manifest []byte) error {
	diverge := func(what, format string, a ...any) error {
		return &Divergence{Index: index, What: what, Detail: fmt.Sprintf(format, a...)}
	}
	if index != r.tree.size {
		return diverge(DivergeOrder, "it comes where entry %d belongs", r.tree.size)
	}
	if e.Time < r.time {
		return diverge(DivergeTime, "log time goes back from %d to %d ms", r.time, e.Time)
	}
	r.time = e.Time
	if err := r.tree.add(e.LeafHash(), r.cfg.Tile); err != nil {
		return err
	}
	r.committed = e.Class == entry.Index
	if r.committed {
		return r.commitment(index, e)
	}
	return r.statement(index, e, manifest)
}

// commitment recomputes the index root.
func (r *Replayer) commitment(index uint64, e entry.Entry) error {
	d := &Divergence{Index: index, What: DivergeCommitment}
	if e.Covers != index {
		d.Detail = fmt.Sprintf("it covers %d entries, want %d", e.Covers, index)
		return d
	}
	root, err := r.index.Commit()
	if err != nil {
		return err
	}
	r.claimed = e.IndexRoot
	switch {
	case r.lenient:
		return nil
	case root != e.IndexRoot:
		d.Detail = fmt.Sprintf("the index of entries 0 to %d has root %s, it says %s", index-1, root, e.IndexRoot)
		return r.suspect(d)
	}
	r.recent = newRecent(index + 1)
	if r.roots = append(r.roots, oldRoot{at: index, root: root}); len(r.roots) > maxOldRoots {
		r.roots = slices.Delete(r.roots, 1, 2)
	}
	return nil
}

// suspect says of a false commitment, the last one, what is wrong with it, as far as that
// follows from the entries.
func (r *Replayer) suspect(d *Divergence) error {
	for i, old := range slices.Backward(r.roots) {
		if old.root != r.claimed || old.after == nil {
			continue
		}
		what := fmt.Sprintf("the commitment at entry %d, without what was listed since%s", old.at, r.recent.some(old.at))
		if i == 0 {
			what = "an index without topics"
		}
		d.Detail += ", which is that of " + what
		others := slices.DeleteFunc(slices.Clone(r.recent.topics), func(t entry.Topic) bool { return t == *old.after })
		d.name(append([]entry.Topic{*old.after}, others...)...)
		return d
	}
	g, err := r.recent.explain(r.index, r.claimed)
	if err != nil {
		return err
	}
	if g != nil {
		d.Detail += ", which is that of an index " + g.says
		d.name(r.recent.among(g.lists)...)
		return d
	}
	d.Detail += ", which no likely change to the lists explains; "
	if n := len(r.recent.topics); n > 0 {
		d.Touched = r.recent.topics[:min(n, maxNamed)]
		d.Detail += fmt.Sprintf("it had to add entries %d to %d, which are listed under %s", r.recent.from, d.Index-1, plural(n, "topic"))
	} else {
		d.Detail += "nothing was listed since the commitment before it"
	}
	return d
}

// statement adds an entry with a statement to the index and the state.
func (r *Replayer) statement(index uint64, e entry.Entry, manifest []byte) error {
	env, err := entry.ParseEnvelope(e.Envelope)
	if err != nil {
		return r.unreadable(index, fmt.Errorf("the envelope is not canonical: %w", err))
	}
	st, err := custody.Parse(env.Payload)
	if err != nil {
		return r.unreadable(index, err)
	}
	if index == 0 && !r.cfg.Charter.IsZero() && st.ID != r.cfg.Charter {
		return &Divergence{What: DivergeCharter, Detail: fmt.Sprintf("its statement is %s, the charter trusted is %s", st.ID, r.cfg.Charter)}
	}
	r.statements++
	it := custody.Item{Index: index, Time: e.Time, Signed: &custody.Signed{Statement: st, Envelope: env, Bytes: e.Envelope}}
	if it.Members, err = r.members(index, st, manifest); err != nil {
		return err
	}
	topics := custody.Topics(r.cfg.State, it)
	ref := unitindex.Ref{Index: index, Leaf: e.LeafHash()}
	for _, t := range topics {
		if err := r.list(t, ref); err != nil {
			return err
		}
	}
	r.recent.entries = append(r.recent.entries, listedEntry{index, ref.Leaf, st.Kind, topics})
	signed, err := custody.Open(custody.DSSE{Payload: env.Payload, Signatures: env.Signatures}, &r.keys)
	switch {
	case err != nil:
		r.accuse(index, err.Error())
		return nil
	case e.Class != st.Kind.Class():
		r.accuse(index, fmt.Sprintf("a %s is logged as %s, want %s", st.Kind, e.Class, st.Kind.Class()))
		return nil
	}
	it.Signed = signed
	eff := r.fold.Apply(r.cfg.State, it)
	if eff.Refused != nil {
		r.accuse(index, eff.Refused.Error())
	}
	for _, u := range eff.Units {
		if u.Operator {
			r.accuse(u.Index, fmt.Sprintf("%s on %s should have been refused: %s", u.Kind, u.Unit, u.Code))
		}
	}
	if r.cfg.Effect != nil {
		r.cfg.Effect(it, eff)
	}
	r.conclude(it, eff)
	return nil
}

// unreadable notes an entry that has neither topics nor an effect.
func (r *Replayer) unreadable(index uint64, err error) error {
	if index == 0 && !r.cfg.Charter.IsZero() {
		return &Divergence{What: DivergeCharter, Detail: err.Error()}
	}
	r.accuse(index, err.Error())
	return nil
}

func (r *Replayer) accuse(index uint64, reason string) {
	r.nAccused++
	if len(r.accused) < maxAccused {
		r.accused = append(r.accused, Accusation{index, reason})
	}
}

// members returns the members that a statement speaks of.
func (r *Replayer) members(index uint64, st *custody.Statement, manifest []byte) ([]custody.Member, error) {
	sum := custody.ManifestOf(r.cfg.State, st)
	if sum.IsZero() {
		return nil, nil
	}
	d := &Divergence{Index: index, What: DivergeCargo}
	own := st.Contents() != nil
	if own && len(manifest) > 0 {
		if got := entry.Hash(sha256.Sum256(manifest)); got != sum {
			d.Detail = fmt.Sprintf("the manifest has digest %s, the statement names %s", got, sum)
			return nil, d
		}
	} else {
		var ok bool
		if manifest, ok = r.cfg.Manifests.Manifest(sum); !ok {
			d.Detail = fmt.Sprintf("manifest %s is missing", sum)
			return nil, d
		}
	}
	m, err := custody.ParseManifest(manifest)
	if err == nil && own {
		r.cfg.Manifests.PutManifest(sum, manifest)
		err = st.CheckManifest(m)
	}
	if err != nil {
		d.Detail = err.Error()
		return nil, d
	}
	return m.Members, nil
}

func (r *Replayer) list(t entry.Topic, ref unitindex.Ref) error {
	h := t.Hash()
	before, _ := r.index.List(h)
	r.recent.add(t, ref, before)
	for i := len(r.roots) - 1; i >= 0 && r.roots[i].after == nil; i-- {
		r.roots[i].after = &t
	}
	return r.index.Append(h, ref)
}

// conclude runs the rules over one entry and adds their findings to the digest:
//
//	digest = SHA-256(digest before (32) | entry index u64 | finding ID in hex)
func (r *Replayer) conclude(it custody.Item, eff custody.Effect) {
	for _, f := range r.cfg.Rules.Apply(r.cfg.State, it, eff) {
		r.nFindings++
		b := binary.BigEndian.AppendUint64(r.findings[:], it.Index)
		r.findings = sha256.Sum256(append(b, f.ID...))
		if r.cfg.Finding != nil {
			r.cfg.Finding(it.Index, f)
		}
	}
}

// Check compares what was replayed with a checkpoint of its very size: the root,
// and that its last leaf is an index commitment. An index-verifying cosigner
// signs only what Check accepts.
func (r *Replayer) Check(cp checkpoint.Checkpoint) error {
	if r.failed != nil {
		return r.failed
	}
	if err := r.tree.checkRoot(cp); err != nil {
		return &Divergence{Index: cp.Size, What: DivergeRoot, Detail: err.Error()}
	}
	if cp.Size > 0 && !r.committed {
		return &Divergence{Index: cp.Size - 1, What: DivergeCommitment, Detail: "the last entry under the checkpoint is no index commitment"}
	}
	return nil
}

// Summary is what a whole replay comes to.
type Summary struct {
	Size           uint64       `json:"size"`
	Root           string       `json:"root"`
	Statements     uint64       `json:"statements"`
	Topics         uint64       `json:"topics"`
	StateDigest    string       `json:"stateDigest,omitzero"`
	Findings       uint64       `json:"findings"`
	FindingsDigest string       `json:"findingsDigest"`
	RuleSet        string       `json:"ruleSet"`
	AccusedCount   uint64       `json:"accused"`
	Accused        []Accusation `json:"accusedEntries,omitzero"` // the first 1,000
}

// Summary sums up what was replayed so far.
func (r *Replayer) Summary() Summary {
	s := Summary{
		Size: r.tree.size, Root: r.tree.root().String(), Statements: r.statements, Topics: r.index.Tree().Len(),
		Findings: r.nFindings, FindingsDigest: entry.Hash(r.findings).String(), AccusedCount: r.nAccused, Accused: r.accused,
	}
	if rows, ok := r.cfg.State.(Rows); ok {
		s.StateDigest = StateDigest(rows).String()
	}
	rs := custody.LoadGovernance(r.cfg.State).RuleSet
	s.RuleSet = rs.Version + " " + rs.Rules.SHA256
	return s
}

// Rows is a State whose rows can be listed, as custody.MapState.
type Rows interface {
	Get(key string) []byte
	Keys() []string // ascending
}

// StateDigest is SHA-256 over "fabtrail/state/v1\n" and, for every row in
// ascending order of its key, u32 len | key | u32 len | value.
func StateDigest(rows Rows) entry.Hash {
	h := sha256.New()
	h.Write([]byte("fabtrail/state/v1\n"))
	var n [4]byte
	put := func(b []byte) {
		binary.BigEndian.PutUint32(n[:], uint32(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	for _, k := range rows.Keys() {
		put([]byte(k))
		put(rows.Get(k))
	}
	var out entry.Hash
	h.Sum(out[:0])
	return out
}
