package answer

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
)

// haveDigits is how many hex digits of a list value stand in HaveHeader.
const haveDigits = 16

// maxHave bounds the values named in one request.
const maxHave = 128

// longList is the number of entries from which a list is worth keeping whatever
// it is about.
const longList = 16

// worthKeeping says which lists many units share, or are long.
func worthKeeping(k entry.TopicKind, n int) bool {
	switch k {
	case entry.TopicParty, entry.TopicKey, entry.TopicProduct, entry.TopicLot, entry.TopicRecallArtefact, entry.TopicLog:
		return true
	}
	return n >= longList
}

// Parts keeps verified lists by their values, so that a client who checks many
// units fetches and verifies what they share once. A value fixes the list, the
// leaves in it, and thereby the cargo; so a part is true under every checkpoint
// whose index commits to that value, as long as all checkpoints are of one
// history, which the caller sees to. It is safe for concurrent use; a nil *Parts
// keeps nothing.
type Parts struct {
	mu    sync.Mutex
	limit int
	lists map[entry.Hash][]custody.Item
	order []entry.Hash // in the order of their last use, the latest last
}

// NewParts keeps up to limit lists; those go first that were not used for longest.
func NewParts(limit int) *Parts {
	return &Parts{limit: limit, lists: map[entry.Hash][]custody.Item{}}
}

func (p *Parts) get(value entry.Hash) ([]custody.Item, bool) {
	if p == nil {
		return nil, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	items, ok := p.lists[value]
	if ok {
		p.used(value)
	}
	return items, ok
}

// used puts a list that is kept at the end of the order.
func (p *Parts) used(value entry.Hash) {
	if i := slices.Index(p.order, value); i >= 0 {
		p.order = append(slices.Delete(p.order, i, i+1), value)
	}
}

// keep keeps the lists of s that are worth it, by their values; a list that has
// grown takes the place of what it grew from.
func (p *Parts) keep(s *Source, values map[entry.Topic]entry.Hash, grown map[entry.Topic]entry.Hash) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for t, value := range values {
		if _, have := p.lists[value]; have {
			p.used(value)
			continue
		}
		if !worthKeeping(t.Kind, len(s.lists[t])) {
			continue
		}
		if i := slices.Index(p.order, grown[t]); i >= 0 {
			delete(p.lists, grown[t])
			p.order = slices.Delete(p.order, i, i+1)
		}
		items := make([]custody.Item, len(s.lists[t]))
		for i, n := range s.lists[t] {
			items[i] = s.items[n]
			items[i].Members = nil // they were proved for this answer only
		}
		p.lists[value] = items
		p.order = append(p.order, value)
		for len(p.order) > p.limit {
			delete(p.lists, p.order[0])
			p.order = p.order[1:]
		}
	}
}

// Have returns the value of HaveHeader: of the lists kept those used last.
func (p *Parts) Have() string {
	if p == nil {
		return ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	for i := len(p.order) - 1; i >= 0 && i >= len(p.order)-maxHave; i-- {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%s.%d", p.order[i].String()[:haveDigits], len(p.lists[p.order[i]]))
	}
	return b.String()
}

// Have is a parsed HaveHeader: the values of lists, with their lengths.
type Have map[string]int

// ParseHave reads a HaveHeader. It is a hint: what is not well formed is passed
// over, and what exceeds the limit too.
func ParseHave(header string) Have {
	h := Have{}
	for v := range strings.SplitSeq(header, ",") {
		value, count, _ := strings.Cut(strings.TrimSpace(v), ".")
		n, err := strconv.Atoi(count)
		if len(value) == haveDigits && err == nil && n > 0 && len(h) < maxHave {
			h[value] = n
		}
	}
	return h
}

func (h Have) has(value entry.Hash, n int) bool { return h[value.String()[:haveDigits]] == n }

// grownFrom returns the length of the longest list that the client has and refs
// continue, 0 if there is none.
func (h Have) grownFrom(refs []unitindex.Ref) int {
	lengths := map[int]bool{}
	longest := 0
	for _, n := range h {
		if n < len(refs) {
			lengths[n], longest = true, max(longest, n)
		}
	}
	var list unitindex.List
	found := 0
	for i := range longest {
		list = list.Append(refs[i])
		if lengths[i+1] && h.has(list.Value(), i+1) {
			found = i + 1
		}
	}
	return found
}
