package answer

import (
	"errors"
	"fmt"
	"slices"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
)

// Fault is why an answer is not believed. Every fault makes a verdict
// could-not-verify: it is the server's or the operator's, not the device's.
type Fault struct {
	Code  FaultCode
	Topic entry.Topic // the topic concerned, if any
	Index *uint64     // the entry concerned, if any
	Err   error
}

// FaultCode says what kind of fault it is.
type FaultCode string

// The kinds of faults.
const (
	// Missing: a part that the verifier needs is not in the answer.
	Missing FaultCode = "answer-incomplete"
	// False: a part does not agree with the checkpoint or with its proof.
	False FaultCode = "answer-false"
	// Operator: the log itself, proved by the checkpoint, holds what no honest
	// operator would have logged.
	Operator FaultCode = "operator-accused"
)

func (f *Fault) Error() string {
	s := string(f.Code)
	if f.Topic != (entry.Topic{}) {
		s += ": topic " + f.Topic.String()
	}
	if f.Index != nil {
		s += fmt.Sprintf(": entry %d", *f.Index)
	}
	return s + ": " + f.Err.Error()
}

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Err }

func topicFault(c FaultCode, t entry.Topic, format string, a ...any) error {
	return &Fault{Code: c, Topic: t, Err: fmt.Errorf(format, a...)}
}

func entryFault(c FaultCode, index uint64, format string, a ...any) error {
	return &Fault{Code: c, Index: &index, Err: fmt.Errorf(format, a...)}
}

// Source is a verified answer. It implements custody.Source: every list that it
// returns is the whole list of its topic in [0, M-1) as the checkpoint's index
// commitment has it, every item's leaf is in the tree, has the class of its
// predicate, and carries signatures that verify. What is not in the answer is a
// Fault, never an empty list.
type Source struct {
	Commitment entry.Entry // entry M-1
	Size       uint64      // M

	lists map[entry.Topic][]uint64
	items map[uint64]custody.Item
}

// opening is a Source in the making.
type opening struct {
	*Source
	root   entry.Hash // of the index
	cp     checkpoint.Checkpoint
	leaves map[uint64]entry.Hash
	parts  *Parts
	values map[entry.Topic]entry.Hash // of lists that were not known
	grown  map[entry.Topic]entry.Hash // what they grew from, where that was known
}

// Open checks an answer of form full or absent against a checkpoint that the
// caller has verified. parts may be nil.
func Open(a *Answer, cp checkpoint.Checkpoint, parts *Parts) (*Source, error) {
	o := &opening{
		Source: &Source{Size: cp.Size, lists: map[entry.Topic][]uint64{}, items: map[uint64]custody.Item{}},
		cp:     cp, leaves: map[uint64]entry.Hash{}, parts: parts,
		values: map[entry.Topic]entry.Hash{}, grown: map[entry.Topic]entry.Hash{},
	}
	if a.Form == Status {
		return nil, &Fault{Code: Missing, Err: errors.New("the answer holds a word and no proof")}
	}
	if a.Form == Absent && (len(a.Entries) != 0 || len(a.Topics) != 1) {
		return nil, &Fault{Code: False, Err: errors.New("an answer of absence holds one topic and no entries")}
	}
	if err := o.commitment(a.Commitment); err != nil {
		return nil, err
	}
	entries, err := o.entries(a.Entries)
	if err != nil {
		return nil, err
	}
	for i := range a.Topics {
		if err := o.topic(&a.Topics[i]); err != nil {
			return nil, err
		}
	}
	if err := o.open(a.Entries, entries); err != nil {
		return nil, err
	}
	o.parts.keep(o.Source, o.values, o.grown)
	return o.Source, nil
}

// commitment checks entry M-1.
func (o *opening) commitment(c *Commitment) error {
	if o.cp.Size == 0 {
		return &Fault{Code: Missing, Err: errors.New("the log is empty")}
	}
	last := o.cp.Size - 1
	if c == nil {
		return entryFault(Missing, last, "the index commitment is not in the answer")
	}
	e, err := entry.ParseCargo(c.Cargo)
	if err != nil {
		return entryFault(False, last, "index commitment: %w", err)
	}
	if err := checkpoint.VerifyInclusion(e.LeafHash(), last, o.cp.Size, c.Hashes, o.cp.Root); err != nil {
		return entryFault(False, last, "index commitment: %w", err)
	}
	if e.Class != entry.Index {
		return entryFault(Operator, last, "the last entry under the checkpoint is no index commitment but %s", e.Class)
	}
	if e.Covers != last {
		return entryFault(Operator, last, "the index commitment covers %d entries, want %d", e.Covers, last)
	}
	o.Commitment, o.root = e, e.IndexRoot
	return nil
}

// entries checks that every entry sent is in the tree.
func (o *opening) entries(sent []Entry) ([]entry.Entry, error) {
	out := make([]entry.Entry, len(sent))
	for i := range sent {
		s := &sent[i]
		if i > 0 && s.Index <= sent[i-1].Index {
			return nil, entryFault(False, s.Index, "entries are not in ascending order")
		}
		e, err := entry.ParseCargo(s.Cargo)
		if err != nil {
			return nil, entryFault(False, s.Index, "cargo: %w", err)
		}
		leaf := e.LeafHash()
		if err := checkpoint.VerifyInclusion(leaf, s.Index, o.cp.Size, s.Hashes, o.cp.Root); err != nil {
			return nil, entryFault(False, s.Index, "the cargo is not that of the leaf: %w", err)
		}
		if e.Class == entry.Index {
			return nil, entryFault(False, s.Index, "an index commitment stands among the statements")
		}
		o.leaves[s.Index] = leaf
		out[i] = e
	}
	return out, nil
}

// topic checks one topic's list, or its absence, against the index root.
func (o *opening) topic(w *Topic) error {
	t := entry.Topic{Kind: w.Kind, Value: w.Value}
	if _, dup := o.lists[t]; dup {
		return topicFault(False, t, "the topic stands in the answer twice")
	}
	p, err := unitindex.ParseProof(w.Proof)
	if err != nil {
		return topicFault(False, t, "%w", err)
	}
	value, present, err := unitindex.Verify(o.root, t.Hash(), p)
	if err != nil {
		return topicFault(False, t, "%w", err)
	}
	switch {
	case !present && (len(w.Indexes) != 0 || w.Known || w.From != 0):
		return topicFault(False, t, "the index has no such topic, the answer has a list for it")
	case !present:
		o.lists[t] = nil
		return nil
	case w.Known && (len(w.Indexes) != 0 || w.From != 0):
		return topicFault(False, t, "a list that is known is sent")
	case w.Known:
		return o.known(t, value)
	case len(w.Indexes) == 0:
		return topicFault(False, t, "the index has a list for it, the answer has none")
	}
	refs := make([]unitindex.Ref, len(w.Indexes))
	for i, n := range w.Indexes {
		leaf, ok := o.leaves[n]
		if !ok {
			return topicFault(Missing, t, "entry %d of the list is not in the answer", n)
		}
		refs[i] = unitindex.Ref{Index: n, Leaf: leaf}
	}
	if err := unitindex.CheckRefs(refs); err != nil {
		return topicFault(False, t, "%w", err)
	}
	o.values[t] = value
	if w.From != 0 {
		return o.growth(t, value, w, refs)
	}
	if unitindex.ListValue(refs) != value {
		return topicFault(False, t, "the list is not the one that the index commits to")
	}
	o.lists[t] = w.Indexes
	return nil
}

// known takes a list from the parts verified before.
func (o *opening) known(t entry.Topic, value entry.Hash) error {
	items, ok := o.parts.get(value)
	if !ok {
		return topicFault(Missing, t, "the answer leaves out a list that this client does not have")
	}
	indexes, err := o.take(t, items)
	o.lists[t] = indexes
	return err
}

// growth takes the beginning of a list from the parts verified before, and holds
// the rest, which was sent, to the proof that the list continues it.
func (o *opening) growth(t entry.Topic, value entry.Hash, w *Topic, refs []unitindex.Ref) error {
	p, err := unitindex.ParseRangeProof(w.Growth)
	if err != nil {
		return topicFault(False, t, "growth: %w", err)
	}
	before, err := p.Before()
	if err != nil {
		return topicFault(False, t, "growth: %w", err)
	}
	known := before.Value()
	items, ok := o.parts.get(known)
	if !ok {
		return topicFault(Missing, t, "the answer leaves out the beginning of a list that this client does not have")
	}
	if uint64(len(items)) != w.From || p.Begin != w.From {
		return topicFault(False, t, "the answer continues a list of %d entries, its proof one of %d, known are %d", w.From, p.Begin, len(items))
	}
	if err := unitindex.VerifyGrowth(known, value, p, refs); err != nil {
		return topicFault(False, t, "growth: %w", err)
	}
	if refs[0].Index <= items[len(items)-1].Index {
		return topicFault(False, t, "entry %d follows entry %d", refs[0].Index, items[len(items)-1].Index)
	}
	indexes, err := o.take(t, items)
	o.lists[t], o.grown[t] = append(indexes, w.Indexes...), known
	return err
}

// take adds items verified before, unless they were sent again.
func (o *opening) take(t entry.Topic, items []custody.Item) ([]uint64, error) {
	indexes := make([]uint64, len(items))
	for i, it := range items {
		if it.Index >= o.cp.Size-1 {
			return nil, topicFault(False, t, "entry %d of the list is beyond what the commitment covers", it.Index)
		}
		indexes[i] = it.Index
		if _, sent := o.leaves[it.Index]; !sent {
			o.items[it.Index] = it
		}
	}
	return indexes, nil
}

// open reads the statements, checks class, signatures and members. Entries that no
// list names are passed over: nothing rests on them.
func (o *opening) open(sent []Entry, entries []entry.Entry) error {
	listed := map[uint64]bool{}
	for _, l := range o.lists {
		for _, n := range l {
			listed[n] = true
		}
	}
	keys := o.keys()
	var ds []custody.DSSE
	var at []int // place in sent of each of ds
	envs := make([]entry.Envelope, len(entries))
	signed, errs := make([]*custody.Signed, len(entries)), make([]error, len(entries))
	for i, e := range entries {
		if envs[i], errs[i] = entry.ParseEnvelope(e.Envelope); errs[i] == nil {
			ds, at = append(ds, custody.DSSE{Payload: envs[i].Payload, Signatures: envs[i].Signatures}), append(at, i)
		}
	}
	opened, failed := custody.OpenHistory(ds, keys, func(j int, s *custody.Statement) {
		if entries[at[j]].Class == entry.Public {
			enrol(keys, s)
		}
	})
	for j, i := range at {
		signed[i], errs[i] = opened[j], failed[j]
	}
	named := map[entry.Hash][]custody.Member{}
	for i := range sent { // ascending, so a statement comes before those that name it
		n := sent[i].Index
		it, err := o.item(&sent[i], entries[i], signed[i], errs[i])
		if err != nil {
			if listed[n] {
				return o.unenrolled(envs[i].Signatures, keys, n, err)
			}
			continue
		}
		if id, ok := names(it.Signed.Statement); ok {
			it.Members = named[id]
		}
		if it.Members != nil {
			named[it.ID()] = it.Members
		}
		o.items[n] = it
	}
	return nil
}

func (o *opening) item(w *Entry, e entry.Entry, s *custody.Signed, err error) (custody.Item, error) {
	if err != nil {
		return custody.Item{}, entryFault(Operator, w.Index, "admission should have refused it: %w", err)
	}
	if want := s.Statement.Kind.Class(); e.Class != want {
		return custody.Item{}, entryFault(Operator, w.Index, "a %s is logged as %s, want %s", s.Statement.Kind, e.Class, want)
	}
	ms, err := members(s.Statement, w.Members)
	if err != nil {
		return custody.Item{}, entryFault(False, w.Index, "%w", err)
	}
	return custody.Item{Index: w.Index, Time: e.Time, Signed: s, Members: ms}, nil
}

// unenrolled turns an entry's error into a fault of the answer when the answer
// leaves out the list of a key that signed: only that list can show that a key
// was never enrolled.
func (o *opening) unenrolled(sigs []entry.Signature, keys custody.Keys, index uint64, err error) error {
	if p := problem.As(err); p == nil || p.Type != "unknown_key" {
		return err
	}
	for _, s := range sigs {
		t := entry.Topic{Kind: entry.TopicKey, Value: s.Key.String()}
		if _, known := keys[s.Key]; known {
			continue
		}
		if _, proved := o.lists[t]; !proved {
			return &Fault{Code: Missing, Topic: t, Index: &index, Err: errors.New("the list of a key that signed is not in the answer")}
		}
	}
	return err
}

// keys collects the keys that the lists at hand enrol; open adds those of the
// entries sent, in log order, since a key is enrolled before it signs for others.
// A key is named by the digest of its SPKI, so wherever it is found it is the right
// one; whether it might sign is judged by the fold.
func (o *opening) keys() custody.Keys {
	keys := custody.Keys{}
	for _, it := range o.items {
		enrol(keys, it.Signed.Statement)
	}
	return keys
}

func enrol(keys custody.Keys, s *custody.Statement) {
	for _, k := range s.IntroducedKeys() {
		keys[k.Hash] = k
	}
	if c, ok := s.Body.(*custody.Charter); ok {
		if k, err := c.Operator.Key.Key(); err == nil {
			keys[k.Hash] = k
		}
	}
}

// names returns the statement that a void, dispute or lift names: it stands in
// every list that it stands in, and speaks of the same members.
func names(s *custody.Statement) (entry.Hash, bool) {
	switch b := s.Body.(type) {
	case *custody.Void:
		return b.Voids.Hash(), true
	case *custody.Dispute:
		return b.Disputes.Hash(), true
	case *custody.Lift:
		return b.Lifts.Hash(), true
	}
	return entry.Hash{}, false
}

// members checks the members sent with an entry against the root it signs.
func members(s *custody.Statement, sent []Member) ([]custody.Member, error) {
	if len(sent) == 0 {
		return nil, nil
	}
	c := s.Contents()
	if c == nil {
		return nil, fmt.Errorf("a %s has no members", s.Kind)
	}
	out := make([]custody.Member, len(sent))
	for i, w := range sent {
		if i > 0 && w.Position <= sent[i-1].Position {
			return nil, errors.New("members are not in ascending order")
		}
		m, err := custody.ParseMember(w.Member)
		if err != nil {
			return nil, err
		}
		if err := custody.VerifyMember(m, w.Position, w.Hashes, *c); err != nil {
			return nil, err
		}
		out[i] = m
	}
	return out, nil
}

// List implements custody.Source.
func (s *Source) List(t entry.Topic) ([]custody.Item, error) {
	indexes, ok := s.lists[t]
	if !ok {
		return nil, topicFault(Missing, t, "the answer holds neither a list nor a proof of absence")
	}
	items := make([]custody.Item, len(indexes))
	for i, n := range indexes {
		items[i] = s.items[n]
	}
	return items, nil
}

// CheckLists compares a history that was walked over s with the index: every
// entry of every list must be one that its statement puts there. An index that
// lists more is false, and its entries prove it.
func (s *Source) CheckLists(h *custody.History) error {
	for _, use := range h.Topics {
		for _, n := range use.Indexes {
			it, ok := h.Item(n)
			if !ok {
				return topicFault(Missing, use.Topic, "entry %d of the list is not in the history", n)
			}
			if !slices.Contains(custody.Topics(h.State, it), use.Topic) {
				return &Fault{Code: Operator, Topic: use.Topic, Index: &n, Err: errors.New("the index lists an entry that is not of this topic")}
			}
		}
	}
	return nil
}

// Has reports whether the answer holds a topic's list, or the proof of its absence.
func (s *Source) Has(t entry.Topic) bool { _, ok := s.lists[t]; return ok }

// Topics returns the number of topics that the answer proves.
func (s *Source) Topics() int { return len(s.lists) }

// Items returns the number of entries that the answer proves.
func (s *Source) Items() int { return len(s.items) }
