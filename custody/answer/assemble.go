package answer

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
)

// Reader is a consistent view of a ledger at one published size. Apart from
// Manifest it is what a view of package ledger offers.
type Reader interface {
	// Checkpoint is the published note; Size is the size that it states.
	Checkpoint() []byte
	Size() uint64
	// Entry returns an entry with its cargo.
	Entry(index uint64) (entry.Entry, error)
	// Inclusion is the proof of an entry at Size, leaf to root.
	Inclusion(index uint64) ([]entry.Hash, error)
	// List returns a topic's complete list and the proof of its value, or no refs
	// and the proof of its absence, under the index commitment at Size-1.
	List(topic entry.Hash) ([]unitindex.Ref, unitindex.Proof, error)
	// Manifest returns the bytes of a manifest by its SHA-256.
	Manifest(sum entry.Hash) ([]byte, error)
}

// Options adjusts Assemble; the zero value is usable.
type Options struct {
	Have      Have       // lists that the client has verified before
	Manifests *Manifests // parsed manifests kept from one call to the next; may be nil
	Read      *Entries   // entries of this ledger kept from one call to the next; may be nil
	Lists     *Lists     // lists of this ledger, likewise
	// Lanes says whether the reader may see a route policy; nil: none. Only whoever may
	// see all of a product's gets their list, and works out the findings that rest on it;
	// for others these are their signer's word.
	Lanes func(custody.Item) bool
}

// Assemble makes the answer about a unit by its canonical URI: the closure's
// lists, their entries with proofs, and the evidence of the findings among them.
// A unit without entries gives an answer of form Absent. The history is what the
// server's own walk found, for its opinion and for questions of entitlement; it
// is nil when the unit is absent.
func Assemble(r Reader, uri string, opt Options) (*Answer, *custody.History, error) {
	if r.Size() == 0 {
		return nil, nil, errors.New("the ledger is empty")
	}
	rec := newRecorder(r, opt)
	a := &Answer{Format: Format, URI: uri, Form: Full, Checkpoint: string(r.Checkpoint())}
	h, err := rec.closure(uri, opt.Lanes)
	if err != nil {
		return nil, nil, err
	}
	if h == nil {
		a.Form = Absent
	}
	if a.Commitment, err = commitment(r); err != nil {
		return nil, nil, err
	}
	if a.Topics, a.Entries, err = rec.write(opt.Have); err != nil {
		return nil, nil, err
	}
	return a, h, nil
}

// closure records what a verifier of the unit needs. The history is nil when the
// unit is absent.
func (rec *recorder) closure(uri string, may func(custody.Item) bool) (*custody.History, error) {
	items, err := rec.List(custody.UnitRef{URI: uri}.Topic())
	if err != nil || len(items) == 0 {
		return nil, err
	}
	var failed error
	asked := map[string]bool{}
	lanes := func(gtin string) bool {
		if may == nil || failed != nil {
			return false
		}
		shown, again := asked[gtin]
		if !again {
			var list []custody.Item
			list, failed = rec.apart().List(custody.LaneTopic(gtin)) // what it may not see is not recorded
			shown = failed == nil && !slices.ContainsFunc(list, func(it custody.Item) bool { return !may(it) })
			asked[gtin] = shown
		}
		return shown
	}
	h, err := custody.Walk(rec, uri, lanes)
	return h, errors.Join(err, failed)
}

// apart is a recorder of the same view that has recorded nothing.
func (rec *recorder) apart() *recorder {
	return newRecorder(rec.r, Options{Manifests: rec.manifests, Read: rec.read, Lists: rec.lists})
}

func commitment(r Reader) (*Commitment, error) {
	last := r.Size() - 1
	e, err := r.Entry(last)
	if err != nil {
		return nil, err
	}
	if e.Class != entry.Index {
		return nil, fmt.Errorf("entry %d, the last one published, is no index commitment", last)
	}
	hashes, err := r.Inclusion(last)
	return &Commitment{Cargo: e.Cargo(), Hashes: hashes}, err
}

// recorder is a custody.Source that remembers what was asked of it.
type recorder struct {
	r         Reader
	manifests *Manifests
	read      *Entries
	lists     *Lists
	topics    map[entry.Topic]*topicRecord
	items     map[uint64]*entryRecord
	byID      map[entry.Hash]*entryRecord // those with members, for those that name them
}

func newRecorder(r Reader, opt Options) *recorder {
	rec := &recorder{r: r, manifests: opt.Manifests, read: opt.Read, lists: opt.Lists, topics: map[entry.Topic]*topicRecord{},
		items: map[uint64]*entryRecord{}, byID: map[entry.Hash]*entryRecord{}}
	if rec.manifests == nil {
		rec.manifests = NewManifests(custody.MaxMembers)
	}
	return rec
}

// entryRecord is one entry that was read.
type entryRecord struct {
	item     custody.Item
	cargo    []byte
	manifest *manifest
	members  map[int]bool // positions to be proved
	named    *entryRecord // the entry whose members this one speaks of
}

// List implements custody.Source.
func (rec *recorder) List(t entry.Topic) ([]custody.Item, error) {
	tr, ok := rec.topics[t]
	if !ok {
		var err error
		if tr, err = rec.lists.get(t, rec.r); err != nil {
			return nil, err
		}
		rec.topics[t] = tr
	}
	items := make([]custody.Item, len(tr.refs))
	for i, ref := range tr.refs {
		er, err := rec.entry(ref.Index)
		if err != nil {
			return nil, err
		}
		if !ok {
			er.concern(t)
		}
		items[i] = er.item
	}
	return items, nil
}

func (rec *recorder) entry(index uint64) (*entryRecord, error) {
	if er, ok := rec.items[index]; ok {
		return er, nil
	}
	e, err := rec.read.get(index, rec.r)
	if err != nil {
		return nil, err
	}
	er := &entryRecord{cargo: e.cargo, item: custody.Item{Index: index, Time: e.time, Signed: e.signed}}
	st := e.signed.Statement
	if c := st.Contents(); c != nil {
		sum, err := entry.ParseHash(c.Manifest)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", index, err)
		}
		if er.manifest, err = rec.manifests.get(sum, rec.r.Manifest); err != nil {
			return nil, fmt.Errorf("entry %d: manifest: %w", index, err)
		}
		er.item.Members = er.manifest.Members
	}
	if id, ok := names(st); ok {
		if er.named = rec.byID[id]; er.named != nil { // listed before it, in the same lists
			er.item.Members = er.named.item.Members
		}
	}
	if er.item.Members != nil {
		rec.byID[st.ID] = er
	}
	rec.items[index] = er
	return er, nil
}

// concern notes that the member with topic t, if the entry has one, is to be
// proved.
func (er *entryRecord) concern(t entry.Topic) {
	if er.manifest == nil || (t.Kind != entry.TopicUnit && t.Kind != entry.TopicLoad) {
		return
	}
	ref, err := custody.ParseUnitRef(t.Value)
	if err != nil {
		return
	}
	i, found := slices.BinarySearchFunc(er.manifest.Members, ref, func(m custody.Member, r custody.UnitRef) int {
		return cmp.Or(cmp.Compare(m.URI, r.URI), bytes.Compare(m.Load[:], r.Load[:]))
	})
	if found {
		er.prove(i)
	}
}

func (er *entryRecord) prove(i int) {
	if er.members == nil {
		er.members = map[int]bool{}
	}
	er.members[i] = true
}

// write returns what was recorded, less what the client has.
func (rec *recorder) write(have Have) (topics []Topic, entries []Entry, err error) {
	needed := map[uint64]bool{}
	for t, tr := range rec.topics {
		w, rest, err := tr.write(t, have)
		if err != nil {
			return nil, nil, err
		}
		for _, ref := range rest {
			w.Indexes = append(w.Indexes, ref.Index)
			needed[ref.Index] = true
		}
		topics = append(topics, w)
	}
	slices.SortFunc(topics, func(x, y Topic) int {
		return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Value, y.Value))
	})
	for n, er := range rec.items {
		if !needed[n] && !er.proving() { // an entry of known lists alone
			continue
		}
		w := Entry{Index: n, Cargo: er.cargo}
		if w.Hashes, err = rec.r.Inclusion(n); err != nil {
			return nil, nil, err
		}
		if w.Members, err = er.proofs(); err != nil {
			return nil, nil, err
		}
		entries = append(entries, w)
	}
	slices.SortFunc(entries, func(x, y Entry) int { return cmp.Compare(x.Index, y.Index) })
	return topics, entries, nil
}

// write returns a topic's wire form but for the indexes, and the elements of its
// list that are to be sent.
func (tr *topicRecord) write(t entry.Topic, have Have) (Topic, []unitindex.Ref, error) {
	w := Topic{Kind: t.Kind, Value: t.Value, Proof: tr.proof}
	n := len(tr.refs)
	if n == 0 || len(have) == 0 {
		return w, tr.refs, nil
	}
	if w.Known = have.has(tr.value, n); w.Known {
		return w, nil, nil
	}
	from := have.grownFrom(tr.refs)
	if from == 0 {
		return w, tr.refs, nil
	}
	p, err := unitindex.ProveRange(uint64(from), uint64(n), uint64(n), unitindex.NodesOf(tr.refs))
	w.From, w.Growth = uint64(from), p.Marshal()
	return w, tr.refs[from:], err
}

// proving reports whether the entry concerns members that are to be proved.
func (er *entryRecord) proving() bool {
	for ; er != nil; er = er.named {
		if len(er.members) > 0 {
			return true
		}
	}
	return false
}

func (er *entryRecord) proofs() ([]Member, error) {
	var out []Member
	for i := range er.members {
		hashes, err := er.manifest.tree().Prove(i)
		if err != nil {
			return nil, err
		}
		out = append(out, Member{Position: uint64(i), Member: er.manifest.Members[i].Marshal(), Hashes: hashes})
	}
	slices.SortFunc(out, func(x, y Member) int { return cmp.Compare(x.Position, y.Position) })
	return out, nil
}

// Manifests keeps parsed manifests, up to a number of members in all. It is safe
// for concurrent use.
type Manifests struct {
	mu    sync.Mutex
	limit int
	n     int
	m     map[entry.Hash]*manifest
	order []entry.Hash // oldest first
}

type manifest struct {
	custody.Manifest
	tree func() *custody.MemberTree
}

// NewManifests keeps manifests of up to limit members together; the oldest go
// first.
func NewManifests(limit int) *Manifests {
	return &Manifests{limit: limit, m: map[entry.Hash]*manifest{}}
}

func (ms *Manifests) get(sum entry.Hash, load func(entry.Hash) ([]byte, error)) (*manifest, error) {
	ms.mu.Lock()
	m, ok := ms.m[sum]
	ms.mu.Unlock()
	if ok {
		return m, nil
	}
	b, err := load(sum)
	if err != nil {
		return nil, err
	}
	parsed, err := custody.ParseManifest(b)
	if err != nil {
		return nil, err
	}
	m = &manifest{Manifest: parsed, tree: sync.OnceValue(parsed.Tree)}
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if _, ok := ms.m[sum]; !ok {
		ms.m[sum] = m
		ms.order = append(ms.order, sum)
		ms.n += len(parsed.Members)
	}
	for ms.n > ms.limit && len(ms.order) > 1 {
		old := ms.order[0]
		ms.n -= len(ms.m[old].Members)
		delete(ms.m, old)
		ms.order = ms.order[1:]
	}
	return m, nil
}
