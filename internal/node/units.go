package node

import (
	"context"
	"fmt"

	"fabtrail.dev/fabtrail/api"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer"
	"fabtrail.dev/fabtrail/custody/gs1"
	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// reader is a published view with the ledger's manifests.
type reader struct {
	*ledger.View
	manifest func(entry.Hash) ([]byte, error)
}

// Manifest implements answer.Reader.
func (r reader) Manifest(sum entry.Hash) ([]byte, error) { return r.manifest(sum) }

// Unit implements api.Units: the whole closure for those entitled, the proof of
// absence for everybody, a status word for the rest.
func (n *Node) Unit(_ context.Context, who api.Caller, q api.UnitQuery) (api.UnitAnswer, error) {
	uri, key, err := scanned(q)
	if err != nil {
		return api.UnitAnswer{}, err
	}
	a, h, err := answer.Assemble(n.reader(), uri, n.options(who, q.Have))
	if err != nil {
		return api.UnitAnswer{}, asProblem(err)
	}
	if a.Form != answer.Absent && n.unitGrant(who, key, h) != Full {
		a = answer.NewStatus(uri, StatusWord(h))
	}
	b, err := a.Marshal()
	return counted(b, a.Form), err
}

// counted is an answer with how many of its units are shown by a word or as absent.
func counted(b []byte, forms ...answer.Form) api.UnitAnswer {
	out := api.UnitAnswer{JSON: b}
	for _, f := range forms {
		switch f {
		case answer.Status:
			out.Words++
		case answer.Absent:
			out.Absent++
		}
	}
	return out
}

// CheckUnits implements api.Units: what Unit answers about each, what they share
// once.
func (n *Node) CheckUnits(ctx context.Context, who api.Caller, qs []api.UnitQuery, have string) (api.UnitAnswer, error) {
	uris, keys := make([]string, len(qs)), make([][]byte, len(qs))
	for i, q := range qs {
		var err error
		if uris[i], keys[i], err = scanned(q); err != nil {
			return api.UnitAnswer{}, at(err, i)
		}
	}
	r := n.reader()
	m, err := answer.AssembleMany(r, uris, n.options(who, have), func(i int, h *custody.History) (string, error) {
		if n.unitGrant(who, keys[i], h) != Full {
			return StatusWord(h), ctx.Err()
		}
		return "", ctx.Err()
	})
	if err != nil {
		return api.UnitAnswer{}, asProblem(err)
	}
	b, err := m.Marshal()
	if err == nil && len(b) > answer.MaxSize {
		return api.UnitAnswer{}, problem.New("too_large", "/units", "the answer has more than %d bytes", answer.MaxSize).
			WithHint("ask for fewer units in one call")
	}
	forms := make([]answer.Form, len(m.Units))
	for i, u := range m.Units {
		forms[i] = u.Form
	}
	return counted(b, forms...), err
}

// at says which of several units a problem is with.
func at(err error, i int) error {
	p := problem.As(err)
	if p == nil {
		return err
	}
	out := *p
	out.Field = fmt.Sprintf("/units/%d/uri", i)
	return &out
}

func (n *Node) reader() reader { return reader{n.ledger.Published(), n.ledger.Manifest} }

func (n *Node) options(who api.Caller, have string) answer.Options {
	return answer.Options{Have: answer.ParseHave(have), Manifests: n.members, Read: n.entries, Lists: n.lists, Lanes: n.lanes(who)}
}

// scanned reads what is asked for: a unit's canonical URI, and its pedigree key.
func scanned(q api.UnitQuery) (uri string, key []byte, err error) {
	code, err := gs1.Scan(q.URI)
	if err != nil {
		return "", nil, err
	}
	key, err = pedigreeKey(q.PedigreeKey, code.Pedigree)
	return code.ID.URI(), key, err
}

// pedigreeKey takes the key from the header or parameter, else from the code
// itself.
func pedigreeKey(text string, scanned []byte) ([]byte, error) {
	if text == "" {
		return scanned, nil
	}
	return gs1.ParsePedigreeKey(text)
}

// StatusWord is all that a stranger with nothing but a serial learns: "stopped"
// when it must not be installed, else "known". It is never a green light.
func StatusWord(h *custody.History) string {
	if len(h.Recalls) > 0 || len(h.Holds) > 0 || h.Unit.Phase == custody.PhaseEnded || h.Unit.Identity == custody.IdentityRevoked {
		return "stopped"
	}
	return "known"
}
