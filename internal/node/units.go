package node

import (
	"context"

	"fabtrail.dev/fabtrail/api"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer"
	"fabtrail.dev/fabtrail/custody/gs1"
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
func (n *Node) Unit(_ context.Context, who api.Caller, q api.UnitQuery) ([]byte, error) {
	scanned, err := gs1.Scan(q.URI)
	if err != nil {
		return nil, err
	}
	uri := scanned.ID.URI()
	key, err := pedigreeKey(q.PedigreeKey, scanned.Pedigree)
	if err != nil {
		return nil, err
	}
	a, h, err := answer.Assemble(reader{n.ledger.Published(), n.ledger.Manifest}, uri,
		answer.Options{Have: answer.ParseHave(q.Have), Manifests: n.members, Read: n.entries, Evidence: n.evidence(who)})
	if err != nil {
		return nil, asProblem(err)
	}
	if a.Form != answer.Absent && n.unitGrant(who, key, h) != Full {
		a = answer.NewStatus(uri, StatusWord(h))
	}
	return a.Marshal()
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
