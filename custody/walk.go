package custody

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// Source gives the complete list of entries under a topic, in log order; none if
// the topic has none. A server reads its index; a client verifies every list.
// Items share no memory that List changes later.
type Source interface {
	List(entry.Topic) ([]Item, error)
}

// Limits of a walk.
const (
	// MaxParts bounds the parts of a unit that are followed.
	MaxParts = 256
	// MaxTopics bounds the lists of one closure.
	MaxTopics = 20_000
)

// Walk folds the closure of a unit, and nothing else: exactly the lists whose rows
// the fold reads for it. It starts with the unit's own list and folds what it has;
// every row that was read without its topic's list names a list to fetch, until
// none is missing. Since rows follow from their topic's list alone, the unit's
// state is then what a replay of the whole log gives, and since the fold judges a
// member's own conditions before it reads a load or parent, a stranger's pack
// drags nothing in. Parts of the unit are followed one level down.
//
// lanes says of which GTINs the reader may see the route policies: theirs are the only
// lists that are not for everybody who may see the unit; nil: of none. Nothing in the
// state of a unit depends on them, a finding does.
//
// The same walk tells a server what to send and a client what it needs.
func Walk(src Source, uri string, lanes func(gtin string) bool) (*History, error) {
	ref, err := ParseUnitRef(uri)
	if err != nil {
		return nil, err
	}
	w := &walker{src: src, root: ref, lists: map[entry.Topic][]uint64{}, items: map[uint64]*Item{}, verified: map[deviceCheck]bool{},
		read: map[entry.Topic]bool{}, done: map[uint64]*foldedItem{}}
	if err := w.fetch(ref.Topic()); err != nil {
		return nil, err
	}
	if len(w.items) == 0 {
		return &History{Ref: ref, Unit: newUnit(ref), State: MapState{}, Topics: w.topics}, nil
	}
	if err := w.fetch(entry.Topic{Kind: entry.TopicLog}); err != nil {
		return nil, err
	}
	if _, err := w.grow(&watchState{}); err != nil {
		return nil, err
	}
	for {
		st, effects := w.fold()
		if grew, err := w.grow(st); err != nil {
			return nil, err
		} else if grew {
			continue
		}
		h := w.survey(st, effects)
		n := len(w.topics)
		if err := w.routes(h, lanes); err != nil {
			return nil, err
		}
		if _, err := w.grow(st); err != nil {
			return nil, err
		}
		if len(w.topics) == n {
			return h, nil
		}
	}
}

type walker struct {
	src      Source
	root     UnitRef
	topics   []TopicUse
	lists    map[entry.Topic][]uint64
	items    map[uint64]*Item
	order    []uint64 // keys of items, ascending
	fresh    []uint64 // items whose keys and parties are not fetched yet
	verified map[deviceCheck]bool
	read     map[entry.Topic]bool // topics whose rows were read
	rounds   int
	done     map[uint64]*foldedItem // what came of items in the round before
}

// deviceCheck names one verification of a device's signature.
type deviceCheck struct {
	statement entry.Hash
	key       string
}

// watchState notes which topics' rows were read for the first time, and, when now is
// set, all that the work on one item asks and does.
type watchState struct {
	MapState
	read map[entry.Topic]bool
	list []entry.Topic // those new in read, in order
	now  *foldedItem
}

func (s *watchState) Get(key string) []byte {
	if t, ok := rowTopic(key); ok && !s.read[t] {
		s.read[t] = true
		s.list = append(s.list, t)
	}
	v := s.MapState.Get(key)
	if s.now != nil {
		s.now.reads = append(s.now.reads, row{key, v})
	}
	return v
}

func (s *watchState) Set(key string, value []byte) {
	if s.now != nil {
		s.now.writes = append(s.now.writes, row{key, value})
	}
	s.MapState.Set(key, value)
}

// foldedItem is the work on one item: all that it asked, and what it did. Where the
// answers are the same again, so is the work.
type foldedItem struct {
	members int // at hand: they only become more
	reads   []row
	tracked []trackedTopic
	writes  []row
	effect  Effect
}

type row struct {
	key   string
	value []byte // nil: no such row
}

type trackedTopic struct {
	topic entry.Topic
	is    bool
}

func (d *foldedItem) holds(st MapState, members int, track func(entry.Topic) bool) bool {
	if d.members != members {
		return false
	}
	for _, t := range d.tracked {
		if track(t.topic) != t.is {
			return false
		}
	}
	for _, r := range d.reads {
		if v := st[r.key]; (v == nil) != (r.value == nil) || !bytes.Equal(v, r.value) {
			return false
		}
	}
	return true
}

// fold folds all items at hand. Most walks need one round; those through loads and
// parts need many, so from the second on what is known to come out the same is not
// worked out again.
func (w *walker) fold() (*watchState, []Effect) {
	st := &watchState{MapState: MapState{}, read: w.read}
	track := func(t entry.Topic) bool { _, ok := w.lists[t]; return ok }
	f := Fold{Track: track, verified: w.verified}
	if w.rounds++; w.rounds > 1 {
		f.Track = func(t entry.Topic) bool {
			is := track(t)
			st.now.tracked = append(st.now.tracked, trackedTopic{t, is})
			return is
		}
	}
	effects := make([]Effect, len(w.order))
	for i, n := range w.order {
		it := *w.items[n]
		it.Members = w.members(it)
		d := w.done[n]
		if d == nil || !d.holds(st.MapState, len(it.Members), track) {
			d = &foldedItem{members: len(it.Members)}
			if w.rounds > 1 {
				st.now, w.done[n] = d, d
			}
			effects[i] = f.Apply(st, it)
			d.effect, st.now = effects[i], nil
			continue
		}
		for _, r := range d.writes {
			st.MapState.Set(r.key, r.value)
		}
		effects[i] = d.effect
	}
	return st, effects
}

// members returns those members of an item whose lists are at hand.
func (w *walker) members(it Item) []Member {
	if len(it.Members) == 0 {
		return nil
	}
	var ms []Member
	if len(it.Members) <= len(w.topics) {
		for _, m := range it.Members {
			if _, ok := w.lists[(UnitRef{m.URI, m.Load}).Topic()]; ok {
				ms = append(ms, m)
			}
		}
		return ms
	}
	for _, t := range w.topics {
		if t.Topic.Kind != entry.TopicUnit && t.Topic.Kind != entry.TopicLoad {
			continue
		}
		ref, err := ParseUnitRef(t.Topic.Value)
		if err != nil {
			continue
		}
		if m, ok := findMember(it.Members, ref); ok {
			ms = append(ms, m)
		}
	}
	slices.SortFunc(ms, compareMembers)
	return ms
}

// findMember finds a unit among members in the order of a manifest.
func findMember(ms []Member, ref UnitRef) (Member, bool) {
	i, ok := slices.BinarySearchFunc(ms, Member{URI: ref.URI, Load: ref.Load}, compareMembers)
	if !ok {
		return Member{}, false
	}
	return ms[i], true
}

// grow fetches the lists of rows that were read without them, and of the keys and
// parties that new statements name.
func (w *walker) grow(st *watchState) (bool, error) {
	before := len(w.topics)
	for _, t := range st.list {
		if err := w.fetch(t); err != nil {
			return false, err
		}
	}
	for len(w.fresh) > 0 {
		it := w.items[w.fresh[0]]
		w.fresh = w.fresh[1:]
		for _, t := range names(it.Signed) {
			if err := w.fetch(t); err != nil {
				return false, err
			}
		}
	}
	return len(w.topics) > before, nil
}

// routes fetches the route policies of the unit's product and of its parts'.
func (w *walker) routes(h *History, lanes func(gtin string) bool) error {
	uris := []string{h.Ref.URI}
	for _, p := range h.Parts {
		if p.Followed {
			uris = append(uris, p.URI)
		}
	}
	for _, uri := range uris {
		if gtin := gtinOf(uri); gtin != "" && lanes != nil && lanes(gtin) {
			if err := w.fetch(LaneTopic(gtin)); err != nil {
				return err
			}
		}
	}
	return nil
}

// names lists the topics that a statement needs whatever the state: the keys that
// signed it, the parties that it names, and what allows a commission.
func names(s *Signed) (ts []entry.Topic) {
	for _, k := range s.Envelope.Signatures {
		ts = append(ts, keyTopic(k.Key))
	}
	for _, p := range namedParties(s.Statement) {
		ts = append(ts, partyTopic(p.party))
	}
	if b, ok := s.Statement.Body.(*Commission); ok {
		lot := s.Statement.Subject
		if b.Contents == nil {
			lot = lotOf(lot, b.Lot)
		}
		if gtin := gtinOf(s.Statement.Subject); gtin != "" {
			ts = append(ts, productTopic(gtin))
		}
		if lot != "" {
			ts = append(ts, lotTopic(lot))
		}
	}
	return ts
}

func (w *walker) fetch(t entry.Topic) error {
	if _, ok := w.lists[t]; ok {
		return nil
	}
	if len(w.topics) >= MaxTopics {
		return fmt.Errorf("the history of %s spans more than %d lists", w.root.URI, MaxTopics)
	}
	items, err := w.src.List(t)
	if err != nil {
		return err
	}
	indexes := make([]uint64, len(items))
	for i := range items {
		it := items[i]
		indexes[i] = it.Index
		if i > 0 && indexes[i-1] >= it.Index {
			return fmt.Errorf("the list of %s is not in log order at entry %d", t, it.Index)
		}
		if it.Signed == nil || it.Signed.Statement == nil {
			return fmt.Errorf("entry %d in the list of %s holds no statement", it.Index, t)
		}
		if _, ok := w.items[it.Index]; !ok {
			w.items[it.Index] = &it
			w.fresh = append(w.fresh, it.Index)
			at, _ := slices.BinarySearch(w.order, it.Index)
			w.order = slices.Insert(w.order, at, it.Index)
		}
	}
	w.lists[t] = indexes
	w.topics = append(w.topics, TopicUse{t, indexes})
	return w.proven(t, indexes)
}

// proven makes sure that every entry listed under a unit names it: by its
// subject, or by a member that is at hand. A source that leaves the member out
// would silently take a pack or unpack away.
func (w *walker) proven(t entry.Topic, indexes []uint64) error {
	if t.Kind != entry.TopicUnit && t.Kind != entry.TopicLoad {
		return nil
	}
	ref, err := ParseUnitRef(t.Value)
	if err != nil {
		return err
	}
	for _, n := range indexes {
		it := w.items[n]
		s := it.Signed.Statement
		if id, _, ok := namedBy(s); ok && it.Members == nil {
			if named := w.byID(id); named != nil {
				it.Members, s = named.Members, named.Signed.Statement
			}
		}
		if s.Contents() == nil || s.Subject == ref.URI {
			continue
		}
		if _, ok := findMember(it.Members, ref); !ok {
			return fmt.Errorf("entry %d is listed under %s without a proof that it names it", n, t)
		}
	}
	return nil
}

// byID finds the statement that another one names: itself one of the closure's,
// for it stands in the same lists.
func (w *walker) byID(id entry.Hash) *Item {
	for range len(w.order) {
		i := slices.IndexFunc(w.order, func(n uint64) bool { return w.items[n].ID() == id })
		if i < 0 {
			return nil
		}
		it := w.items[w.order[i]]
		next, _, ok := namedBy(it.Signed.Statement)
		if !ok {
			return it
		}
		id = next
	}
	return nil
}

// survey reads what the history of the root tells. All that it reads, st notes.
func (w *walker) survey(st *watchState, effects []Effect) *History {
	items := make([]Item, len(w.order))
	for i, n := range w.order {
		items[i] = *w.items[n]
		items[i].Members = w.members(items[i])
	}
	h := Survey(st, w.root, items, effects)
	h.State, h.Topics, h.verified = st.MapState, w.topics, w.verified
	return h
}

// History is what the closure of a unit tells.
type History struct {
	Ref    UnitRef
	Unit   *Unit    // as it stands; PhaseNone if it was never commissioned
	State  MapState // of the closure
	Topics []TopicUse
	Items  []Item // of the closure in log order, with the members that it concerns
	// Effects are the items' effects on rows of the closure, in the same order.
	Effects []Effect

	Keeper string    // who has it in hand; "" if nobody
	Owner  string    // who owns it, transfers of its loads included
	Within []UnitRef // the loads and parents that it is in, innermost first
	// Holds and Recalls are those in force on the unit, on what it is in, and on
	// its parts.
	Holds   []HoldInForce
	Recalls []RecallInForce
	Parts   []Part
	Twins   []Twin // other serials under its device keys
	// Standing holds the parties that are no strangers to the unit; see Parties.
	Standing map[string]bool
	// Accused lists the entries of the closure that the door should have refused.
	Accused []Accusation

	verified map[deviceCheck]bool
}

// TopicUse is a topic of the closure with its complete list.
type TopicUse struct {
	Topic   entry.Topic
	Indexes []uint64
}

// HoldInForce is an open hold. Part is set when it is on a part of the unit.
type HoldInForce struct {
	ID     entry.Hash
	Index  uint64
	On     UnitRef
	By     string
	Reason string
	Part   bool
}

// RecallInForce is an open recall that covers the unit. Part is set when it covers
// a part.
type RecallInForce struct {
	OpenRecall
	Selector entry.Topic
	Unit     string // the unit or lot that it covers
	Part     bool
}

// Part is a component that the unit has by its own statements.
type Part struct {
	URI      string // or "" with Lot
	Lot      string
	Position string
	Index    uint64 // of the assemble
	Followed bool
	Joined   bool  // by the part's own history it is part of the unit now
	Deeper   bool  // it has parts itself, which were not followed
	Unit     *Unit // its state; nil unless followed
}

// Twin is another serial that the unit's device key was bound to by somebody
// entitled to.
type Twin struct {
	Key  entry.Hash
	Unit string
	At   uint64 // log index of that binding
	Own  uint64 // log index of this unit's
}

// Accusation is an entry that the door should have refused.
type Accusation struct {
	Index uint64
	Code  Code
	Unit  string // unit or topic that it concerns; "" for the entry as a whole
}

// Parties lists who has or had a part in the unit's history: holders, receivers,
// installers, owners and the owner of its product. Ascending.
func (h *History) Parties() []string {
	ps := make([]string, 0, len(h.Standing))
	for p := range h.Standing {
		ps = append(ps, p)
	}
	slices.Sort(ps)
	return ps
}

// Entries lists the log indexes of the unit's own list, in order.
func (h *History) Entries() []uint64 {
	for _, t := range h.Topics {
		if t.Topic == h.Ref.Topic() {
			return t.Indexes
		}
	}
	return nil
}

// Item returns an entry of the closure.
func (h *History) Item(index uint64) (Item, bool) {
	i, ok := slices.BinarySearchFunc(h.Items, index, func(it Item, n uint64) int { return cmp.Compare(it.Index, n) })
	if !ok {
		return Item{}, false
	}
	return h.Items[i], true
}

// On returns the effects on one unit in log order.
func (h *History) On(ref UnitRef) []UnitEffect { return effectsOn(h.Effects, ref) }

func effectsOn(effects []Effect, ref UnitRef) (list []UnitEffect) {
	for i := range effects {
		for _, u := range effects[i].Units {
			if u.Unit == ref {
				list = append(list, u)
			}
		}
	}
	return list
}
