package client

import (
	"cmp"
	"fmt"
	"iter"
	"math/bits"
	"slices"
	"strings"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
)

// recent is what was listed since the last true index commitment: what a false one may
// lie about if all before it were true.
type recent struct {
	from    uint64 // first entry after that commitment
	entries []listedEntry
	topics  []entry.Topic // in the order of their first entry
	lists   map[entry.Topic]*grownList
}

// listedEntry is an entry with the topics that it is listed under.
type listedEntry struct {
	index  uint64
	leaf   entry.Hash
	kind   custody.Kind
	topics []entry.Topic
}

// grownList is a topic's list as it was, and what was added to it.
type grownList struct {
	before unitindex.List
	refs   []unitindex.Ref
}

func newRecent(from uint64) recent { return recent{from: from, lists: map[entry.Topic]*grownList{}} }

// add notes that entry e is listed under t, whose list was before.
func (s *recent) add(t entry.Topic, ref unitindex.Ref, before unitindex.List) {
	l := s.lists[t]
	if l == nil {
		l = &grownList{before: before}
		s.lists[t] = l
		s.topics = append(s.topics, t)
	}
	l.refs = append(l.refs, ref)
}

// maxTold bounds the entries that some names.
const maxTold = 4

// some names the first entries, if all since the commitment at entry n are known.
func (s *recent) some(n uint64) string {
	if n+1 != s.from || len(s.entries) == 0 {
		return ""
	}
	var told []string
	for _, e := range s.entries[:min(len(s.entries), maxTold)] {
		told = append(told, fmt.Sprintf("%d (%s)", e.index, e.kind))
	}
	if more := len(s.entries) - len(told); more > 0 {
		told = append(told, fmt.Sprintf("%d more", more))
	}
	return ": entry " + strings.Join(told, ", ")
}

// oldRoot is the root of an index that was committed to.
type oldRoot struct {
	at    uint64 // the commitment's entry
	root  entry.Hash
	after *entry.Topic // the first topic listed since
}

// maxOldRoots bounds the old roots that are kept.
const maxOldRoots = 1024

// guess is what a liar may have committed to: other lists than the true ones.
type guess struct {
	lists map[entry.Topic]unitindex.List // an empty list: the topic is left out
	says  string                         // follows "that of an index"
}

// maxGuessed bounds the lists that are changed in guesses of one sort, so that all sorts
// together take some seconds at most.
const maxGuessed = 1 << 15

// guesses are the lies that need no help to be recognised, the likeliest first. Of lies
// that join two things at will, the first are tried.
func (s *recent) guesses() []iter.Seq[guess] {
	return []iter.Seq[guess]{s.hidden, s.inOneList, s.hiddenInPart, s.hiddenTopics, s.cutShort, s.hiddenPairs, s.inForeignLists, s.otherLists}
}

// explain looks for lists under which the index has the root claimed; index holds the
// true ones. It returns nil if none of the guesses does.
func (s *recent) explain(index *unitindex.MemIndex, claimed entry.Hash) (*guess, error) {
	for _, sort := range s.guesses() {
		spent := 0
		for g := range sort {
			if spent += s.cost(g.lists); spent > maxGuessed {
				break
			}
			root, err := rootWith(index.Tree(), index, g.lists)
			if err != nil {
				return nil, err
			}
			if root == claimed {
				return &g, nil
			}
		}
	}
	return nil, nil
}

// cost is about what a guess costs, in paths of the index that are hashed anew.
func (s *recent) cost(lists map[entry.Topic]unitindex.List) int {
	n := len(lists)
	for t := range lists {
		n += len(s.lists[t].refs) / 16
	}
	return n
}

// rootWith is the root that a tree would have if some of its topics had other lists. Its cost
// is that of these topics' paths.
func rootWith(was *unitindex.Tree, of unitindex.Rows, lists map[entry.Topic]unitindex.List) (entry.Hash, error) {
	rows := instead{of, map[entry.Hash]unitindex.List{}}
	var touched []entry.Hash
	for t, l := range lists {
		h := t.Hash()
		rows.lists[h], touched = l, append(touched, h)
	}
	tree, err := was.Rebase(rows, touched, 0)
	if err != nil {
		return entry.Hash{}, err
	}
	return tree.Root(), nil
}

// instead is rows in which topics that they have show other lists.
type instead struct {
	unitindex.Rows
	lists map[entry.Hash]unitindex.List
}

func (r instead) Scan(prefix entry.Hash, bits int, fn func(topic, value entry.Hash) error) error {
	return r.Rows.Scan(prefix, bits, func(topic, value entry.Hash) error {
		if l, ok := r.lists[topic]; ok {
			if l.Count() == 0 {
				return nil
			}
			value = l.Value()
		}
		return fn(topic, value)
	})
}

// among returns the topics of lists in the order in which they were first listed.
func (s *recent) among(lists map[entry.Topic]unitindex.List) []entry.Topic {
	return slices.DeleteFunc(slices.Clone(s.topics), func(t entry.Topic) bool { _, ok := lists[t]; return !ok })
}

// without is every list that names one of the entries, without it.
func (s *recent) without(entries ...*listedEntry) map[entry.Topic]unitindex.List {
	gone := map[uint64]bool{}
	for _, e := range entries {
		gone[e.index] = true
	}
	lists := map[entry.Topic]unitindex.List{}
	for _, e := range entries {
		for _, t := range e.topics {
			if _, done := lists[t]; !done {
				lists[t] = s.lists[t].without(func(n uint64) bool { return gone[n] })
			}
		}
	}
	return lists
}

// without is the list without some of the entries that were added.
func (l *grownList) without(gone func(n uint64) bool) unitindex.List {
	return l.before.Append(slices.DeleteFunc(slices.Clone(l.refs), func(r unitindex.Ref) bool { return gone(r.Index) })...)
}

// hidden leaves one entry out of all its lists.
func (s *recent) hidden(yield func(guess) bool) {
	for i := range s.entries {
		e := &s.entries[i]
		says := fmt.Sprintf("without entry %d (%s), which belongs into %s", e.index, e.kind, plural(len(e.topics), "list"))
		if len(e.topics) > 0 && !yield(guess{s.without(e), says}) {
			return
		}
	}
}

// plural is a number of things.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// inOneList changes the list of one topic.
func (s *recent) inOneList(yield func(guess) bool) {
	for _, t := range s.topics {
		for l, says := range s.lists[t].near() {
			if !yield(guess{map[entry.Topic]unitindex.List{t: l}, fmt.Sprintf("with the list of %s %s", t, says)}) {
				return
			}
		}
	}
}

// near are the lists that a topic would have after one change to what was added to it, each
// with words that follow its name.
func (l *grownList) near() iter.Seq2[unitindex.List, string] {
	return func(yield func(unitindex.List, string) bool) {
		for i, ref := range l.refs {
			upTo, rest := l.before.Append(l.refs[:i]...), l.refs[i+1:]
			if !yield(upTo.Append(rest...), fmt.Sprintf("without entry %d", ref.Index)) ||
				!yield(upTo, fmt.Sprintf("without entry %d and what came after", ref.Index)) ||
				!yield(upTo.Append(ref, ref).Append(rest...), fmt.Sprintf("with entry %d twice", ref.Index)) {
				return
			}
			for j := range rest {
				order := slices.Clone(l.refs[i:])
				order[0], order[j+1] = order[j+1], order[0]
				if !yield(upTo.Append(order...), fmt.Sprintf("with entries %d and %d exchanged", ref.Index, rest[j].Index)) {
					return
				}
				if j >= maxNear {
					break
				}
			}
		}
		yield(unitindex.List{}, "left out")
	}
}

// maxNear bounds how far apart entries are that near exchanges.
const maxNear = 8

// far are the lists that a topic would have with an entry that is not its own, as a whole or
// by its leaf alone.
func (l *grownList) far(entries []listedEntry) iter.Seq2[unitindex.List, string] {
	return func(yield func(unitindex.List, string) bool) {
		for _, e := range entries {
			other := unitindex.Ref{Index: e.index, Leaf: e.leaf}
			at, own := slices.BinarySearchFunc(l.refs, e.index, func(r unitindex.Ref, n uint64) int { return cmp.Compare(r.Index, n) })
			if own {
				continue
			}
			if !yield(l.before.Append(slices.Insert(slices.Clone(l.refs), at, other)...), fmt.Sprintf("with entry %d, which does not belong there", e.index)) ||
				at < len(l.refs) && !yield(l.before.Append(l.refs...).Append(other), fmt.Sprintf("with entry %d at its end, where it does not belong", e.index)) {
				return
			}
			for i, ref := range l.refs {
				swapped := slices.Clone(l.refs)
				swapped[i] = other
				if !yield(l.before.Append(swapped...), fmt.Sprintf("with entry %d for entry %d", e.index, ref.Index)) {
					return
				}
				swapped[i] = unitindex.Ref{Index: ref.Index, Leaf: e.leaf}
				if !yield(l.before.Append(swapped...), fmt.Sprintf("with the leaf of entry %d for that of entry %d", e.index, ref.Index)) {
					return
				}
			}
		}
	}
}

// maxParts bounds the topics of an entry of which hiddenInPart tries all subsets.
const maxParts = 6

// hiddenInPart leaves one entry out of several of its lists: any of a few, of many all but
// one.
func (s *recent) hiddenInPart(yield func(guess) bool) {
	for i := range s.entries {
		e := &s.entries[i]
		n := len(e.topics)
		if n < 3 {
			continue // one list or all: tried already
		}
		try := func(out func(k int) bool) bool {
			lists := map[entry.Topic]unitindex.List{}
			for k, t := range e.topics {
				if out(k) {
					lists[t] = s.lists[t].without(func(m uint64) bool { return m == e.index })
				}
			}
			return yield(guess{lists, fmt.Sprintf("without entry %d (%s) in %d of %s", e.index, e.kind, len(lists), plural(n, "list"))})
		}
		if n > maxParts {
			for kept := range e.topics {
				if !try(func(k int) bool { return k != kept }) {
					return
				}
			}
			continue
		}
		for set := 1; set < 1<<n-1; set++ {
			if bits.OnesCount(uint(set)) > 1 && !try(func(k int) bool { return set>>k&1 == 1 }) {
				return
			}
		}
	}
}

// hiddenTopics leaves everything that is listed under a topic out of all lists: all that
// concerns one unit, or one party.
func (s *recent) hiddenTopics(yield func(guess) bool) {
	under := map[entry.Topic][]*listedEntry{}
	for i := range s.entries {
		for _, t := range s.entries[i].topics {
			under[t] = append(under[t], &s.entries[i])
		}
	}
	for _, t := range s.topics {
		if about := under[t]; len(about) > 1 && !yield(guess{s.without(about...), fmt.Sprintf("without all %d entries from %d on that are listed under %s", len(about), about[0].index, t)}) {
			return
		}
	}
}

// cutShort leaves out the last entries, or all of a kind.
func (s *recent) cutShort(yield func(guess) bool) {
	kinds := map[custody.Kind][]*listedEntry{}
	var order []custody.Kind
	var last []*listedEntry
	for i := len(s.entries) - 1; i >= 0; i-- {
		e := &s.entries[i]
		last = append(last, e)
		if kinds[e.kind] == nil {
			order = append(order, e.kind)
		}
		kinds[e.kind] = append(kinds[e.kind], e)
		if len(last) > 1 && !yield(guess{s.without(last...), fmt.Sprintf("without the entries from %d on", e.index)}) {
			return
		}
	}
	for _, k := range order {
		if n := len(kinds[k]); n > 1 && !yield(guess{s.without(kinds[k]...), fmt.Sprintf("without all %d entries of kind %s from %d on", n, k, kinds[k][n-1].index)}) {
			return
		}
	}
}

// hiddenPairs leaves two entries out of all their lists.
func (s *recent) hiddenPairs(yield func(guess) bool) {
	for i := range s.entries {
		for j := range i {
			a, b := &s.entries[j], &s.entries[i]
			if !yield(guess{s.without(a, b), fmt.Sprintf("without entries %d (%s) and %d (%s) in any list", a.index, a.kind, b.index, b.kind)}) {
				return
			}
		}
	}
}

// inForeignLists has an entry in a list where it does not belong.
func (s *recent) inForeignLists(yield func(guess) bool) {
	for _, t := range s.topics {
		for l, says := range s.lists[t].far(s.entries) {
			if !yield(guess{map[entry.Topic]unitindex.List{t: l}, fmt.Sprintf("with the list of %s %s", t, says)}) {
				return
			}
		}
	}
}

// otherLists gives a topic the list of another one.
func (s *recent) otherLists(yield func(guess) bool) {
	whole := func(t entry.Topic) unitindex.List { return s.lists[t].before.Append(s.lists[t].refs...) }
	for _, t := range s.topics {
		for _, u := range s.topics {
			if t == u {
				continue
			}
			l, was := whole(u), s.lists[u].before
			if !yield(guess{map[entry.Topic]unitindex.List{t: l}, fmt.Sprintf("in which %s has the list of %s", t, u)}) ||
				!yield(guess{map[entry.Topic]unitindex.List{t: l, u: whole(t)}, fmt.Sprintf("in which %s and %s have each other's lists", t, u)}) ||
				was.Count() > 0 && !yield(guess{map[entry.Topic]unitindex.List{t: was}, fmt.Sprintf("in which %s has the list that %s had before", t, u)}) {
				return
			}
		}
	}
}
