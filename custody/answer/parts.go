package answer

import (
	"strings"
	"sync"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// haveDigits is how many hex digits of a list value stand in HaveHeader.
const haveDigits = 16

// maxHave bounds the values named in one request.
const maxHave = 128

// worthKeeping says which lists many units share.
func worthKeeping(k entry.TopicKind) bool {
	switch k {
	case entry.TopicParty, entry.TopicKey, entry.TopicProduct, entry.TopicLot, entry.TopicRecallArtefact, entry.TopicLog:
		return true
	}
	return false
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
	order []entry.Hash // oldest first
}

// NewParts keeps up to limit lists; the oldest go first.
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
	return items, ok
}

func (p *Parts) keep(s *Source, values map[entry.Topic]entry.Hash) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for t, value := range values {
		if _, have := p.lists[value]; have || !worthKeeping(t.Kind) {
			continue
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

// Have returns the value of HaveHeader: the lists kept, newest first.
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
		b.WriteString(p.order[i].String()[:haveDigits])
	}
	return b.String()
}

// Have is a parsed HaveHeader.
type Have map[string]bool

// ParseHave reads a HaveHeader. It is a hint: what is not well formed is passed
// over, and what exceeds the limit too.
func ParseHave(header string) Have {
	h := Have{}
	for v := range strings.SplitSeq(header, ",") {
		if v = strings.TrimSpace(v); len(v) == haveDigits && len(h) < maxHave {
			h[v] = true
		}
	}
	return h
}

func (h Have) has(value entry.Hash) bool { return h[value.String()[:haveDigits]] }
