package custody

import (
	"sort"
	"strings"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// State keeps the fold's rows: small values by string key. A nil value is an
// absent row, and setting nil deletes it. The caller of Get must not change the
// bytes, nor keep them past its next call.
//
// Every row is fed by the statements of one topic alone (see rowTopic). That is
// why the fold of a unit's closure and the fold of the whole log agree: a row
// that was read is exact as soon as its topic's complete list was folded in.
type State interface {
	Get(key string) []byte
	Set(key string, value []byte)
}

// MapState is a State in memory. Make it with make(MapState).
type MapState map[string][]byte

// Get implements State.
func (m MapState) Get(key string) []byte { return m[key] }

// Set implements State.
func (m MapState) Set(key string, value []byte) {
	if value == nil {
		delete(m, key)
		return
	}
	m[key] = value
}

// Keys returns the keys in ascending order.
func (m MapState) Keys() []string {
	ks := make([]string, 0, len(m))
	for k := range m {
		ks = append(ks, k)
	}
	sort.Strings(ks)
	return ks
}

// The families of rows, by the first byte of their key; the topic's value, or
// what is said here, follows.
const (
	rowLog      = 'c' // nothing follows: charter, authorities, operator, rule set
	rowUnit     = 'u' // canonical URI
	rowLoad     = 'l' // container URI | " " | hex ID of the opening
	rowParty    = 'p' // party URI
	rowKey      = 'k' // SPKI hash, hex
	rowProduct  = 'g' // GTIN-14
	rowLot      = 'o' // lot URI: what the serial blocks of the lot allow
	rowSerial   = 'i' // lot URI | " " | serial's unit URI: listed in a serial block
	rowRecall   = 'r' // topic kind | " " | topic value: recalls in force
	rowDevice   = 'd' // SPKI hash, hex: the serials that the key is bound to
	rowNamed    = 's' // statement ID, 32 raw bytes: what void, dispute and lift need
	rowHold     = 'h' // hold's statement ID, raw: the hold is open
	rowWaiting  = 'q' // unit key | " " | raw ID of the awaited statement
	rowNoEffect = 'n' // unit key | " " | party URI: statements without effect
	rowRoute    = 'w' // GTIN-14: the route policy in force
	rowRules    = 'x' // custody/rules keeps its rows under this letter
)

// rowTopic returns the topic whose complete list determines a row, and false for
// rows that follow other rows: a statement's own row stands in every list that
// the statement is in, and an open hold in the list of the unit held.
func rowTopic(key string) (entry.Topic, bool) {
	if key == "" {
		return entry.Topic{}, false
	}
	v := key[1:]
	switch key[0] {
	case rowLog:
		return entry.Topic{Kind: entry.TopicLog}, true
	case rowUnit:
		return entry.Topic{Kind: entry.TopicUnit, Value: v}, true
	case rowLoad:
		return entry.Topic{Kind: entry.TopicLoad, Value: v}, true
	case rowParty:
		return entry.Topic{Kind: entry.TopicParty, Value: v}, true
	case rowKey:
		return entry.Topic{Kind: entry.TopicKey, Value: v}, true
	case rowProduct:
		return entry.Topic{Kind: entry.TopicProduct, Value: v}, true
	case rowLot:
		return entry.Topic{Kind: entry.TopicLot, Value: v}, true
	case rowSerial:
		lot, _, _ := strings.Cut(v, " ")
		return entry.Topic{Kind: entry.TopicLot, Value: lot}, true
	case rowRecall:
		kind, value, _ := strings.Cut(v, " ")
		return entry.Topic{Kind: entry.TopicKind(kind), Value: value}, true
	case rowDevice:
		return entry.Topic{Kind: entry.TopicDeviceKey, Value: v}, true
	case rowRoute:
		return entry.Topic{Kind: entry.TopicLane, Value: v}, true
	}
	return entry.Topic{}, false
}

// UnitRef names a unit: a serialised thing by its URI, or a load by its
// container's URI and the ID of the statement that opened it.
type UnitRef struct {
	URI  string
	Load entry.Hash // zero unless the unit is a load
}

// IsLoad reports whether r names a load.
func (r UnitRef) IsLoad() bool { return !r.Load.IsZero() }

// String returns the value of r's topic.
func (r UnitRef) String() string {
	if r.IsLoad() {
		return r.URI + " " + r.Load.String()
	}
	return r.URI
}

// Topic returns the topic that lists r's own statements.
func (r UnitRef) Topic() entry.Topic {
	if r.IsLoad() {
		return entry.Topic{Kind: entry.TopicLoad, Value: r.String()}
	}
	return entry.Topic{Kind: entry.TopicUnit, Value: r.URI}
}

// ContentsTopic returns the topic that lists later packs and unpacks of a load.
func (r UnitRef) ContentsTopic() entry.Topic {
	return entry.Topic{Kind: entry.TopicContents, Value: r.String()}
}

func (r UnitRef) row() string {
	if r.IsLoad() {
		return string(rowLoad) + r.String()
	}
	return string(rowUnit) + r.URI
}

// ParseUnitRef reads what UnitRef.String writes.
func ParseUnitRef(s string) (UnitRef, error) {
	uri, load, ok := strings.Cut(s, " ")
	if !ok {
		return UnitRef{URI: s}, nil
	}
	h, err := entry.ParseHash(load)
	return UnitRef{URI: uri, Load: h}, err
}

// overlay buffers writes over a State, so that a refused statement leaves none.
type overlay struct {
	State
	rows  map[string][]byte
	order []string // keys in the order of their first write
}

func newOverlay(st State) *overlay { return &overlay{State: st} }

func (o *overlay) Get(key string) []byte {
	if v, ok := o.rows[key]; ok {
		return v
	}
	return o.State.Get(key)
}

func (o *overlay) Set(key string, value []byte) {
	if o.rows == nil {
		o.rows, o.order = map[string][]byte{}, make([]string, 0, 4)
	}
	if _, ok := o.rows[key]; !ok {
		o.order = append(o.order, key)
	}
	o.rows[key] = value
}

func (o *overlay) commit() {
	for _, k := range o.order {
		o.State.Set(k, o.rows[k])
	}
	o.drop()
}

func (o *overlay) drop() { o.rows, o.order = nil, nil }
