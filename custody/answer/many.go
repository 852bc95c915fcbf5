package answer

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
)

// ManyFormat is the value of "format" of answers about many units.
const ManyFormat = "fabtrail/unit-answers/v1"

// MaxUnits bounds the units of one call.
const MaxUnits = 500

// Many is the answer of POST /v1/units:check about many units at one checkpoint.
// Topics and entries are those of all units together, each once, in the form that
// they have in an Answer.
//
//	{
//	  "format": "fabtrail/unit-answers/v1",
//	  "units": [{"uri", "form", "word"}],
//	  "checkpoint", "commitment", "topics", "entries": as in an Answer
//	}
//
// Units stand in the order asked. Checkpoint and what follows are absent when all
// units have form "status".
type Many struct {
	Format     string      `json:"format"`
	Units      []Unit      `json:"units"`
	Checkpoint string      `json:"checkpoint,omitzero"`
	Commitment *Commitment `json:"commitment,omitzero"`
	Topics     []Topic     `json:"topics,omitzero"`
	Entries    []Entry     `json:"entries,omitzero"`
}

// Unit is one unit of Many. Its form says how much is sent; what the unit's state is
// follows from topics and entries alone.
type Unit struct {
	URI  string `json:"uri"`
	Form Form   `json:"form"`
	Word string `json:"word,omitzero"`
}

// AssembleMany makes the answer about units by their canonical URIs. show is
// called for each unit that is in the ledger with what the walk found: when it
// returns a word, that is all that is sent about the unit. Its error ends it.
func AssembleMany(r Reader, uris []string, opt Options, show func(i int, h *custody.History) (word string, err error)) (*Many, error) {
	if r.Size() == 0 {
		return nil, errors.New("the ledger is empty")
	}
	if opt.Read == nil {
		opt.Read = NewEntries(8192)
	}
	if opt.Lists == nil {
		opt.Lists = NewLists(8192)
	}
	all := newRecorder(r, opt)
	m := &Many{Format: ManyFormat}
	for i, uri := range uris {
		rec := newRecorder(r, opt)
		rec.manifests = all.manifests
		h, err := rec.closure(uri, opt.Lanes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", uri, err)
		}
		u := Unit{URI: uri, Form: Full}
		if h == nil {
			u.Form = Absent
		} else if u.Word, err = show(i, h); err != nil {
			return nil, err
		} else if u.Word != "" {
			u.Form = Status
		}
		if u.Form != Status {
			all.join(rec)
		}
		m.Units = append(m.Units, u)
	}
	if len(all.topics) == 0 {
		return m, nil
	}
	var err error
	m.Checkpoint = string(r.Checkpoint())
	if m.Commitment, err = commitment(r); err != nil {
		return nil, err
	}
	m.Topics, m.Entries, err = all.write(opt.Have)
	return m, err
}

// join adds what another recorder has recorded at the same view.
func (rec *recorder) join(o *recorder) {
	for t, tr := range o.topics {
		rec.topics[t] = tr
	}
	for n, er := range o.items {
		have, ok := rec.items[n]
		if !ok {
			rec.items[n] = er
			continue
		}
		for i := range er.members {
			have.prove(i)
		}
		if have.named == nil {
			have.named = er.named
		}
	}
}

// Marshal returns the JSON of m.
func (m *Many) Marshal() ([]byte, error) { return json.Marshal(m) }

// ParseMany reads answers about many units as Parse does.
func ParseMany(b []byte) (*Many, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("answers of %d bytes, limit %d", len(b), MaxSize)
	}
	var m Many
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("answers are not strict JSON: %w", err)
	}
	if m.Format != ManyFormat {
		return nil, fmt.Errorf("answers have format %q, want %q", m.Format, ManyFormat)
	}
	for _, u := range m.Units {
		switch u.Form {
		case Full, Absent, Status:
		default:
			return nil, fmt.Errorf("the answer about %q has form %q", u.URI, u.Form)
		}
	}
	return &m, nil
}

// OpenMany is Open for many units: the Source holds all of their closures.
func OpenMany(m *Many, cp checkpoint.Checkpoint, parts *Parts) (*Source, error) {
	return Open(&Answer{Form: Full, Commitment: m.Commitment, Topics: m.Topics, Entries: m.Entries}, cp, parts)
}
