package node

import (
	"context"
	"slices"

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
		answer.Options{Have: answer.ParseHave(q.Have), Manifests: n.members, Read: n.entries, Evidence: evidence(who)})
	if err != nil {
		return nil, asProblem(err)
	}
	if a.Form != answer.Absent && !entitled(who, key, h) {
		a = answer.NewStatus(uri, StatusWord(h))
	}
	return a.Marshal()
}

// evidence says which restricted entries outside of the closure the caller may see
// as the evidence of a finding: an auditor all, a party its own.
func evidence(who api.Caller) func(custody.Item) bool {
	return func(it custody.Item) bool {
		if who.Has(api.ScopeAudit) || who.Has(api.ScopeAdmin) {
			return true
		}
		actor := ""
		switch b := it.Signed.Statement.Body.(type) {
		case *custody.RoutePolicy:
			actor = b.Actor
		case *custody.SerialBlock:
			actor = b.Actor
		default:
			if it.Signed.Statement.Event != nil {
				actor = it.Signed.Statement.Event.Actor
			}
		}
		return who.Known() && actor == who.Party
	}
}

// pedigreeKey takes the key from the header or parameter, else from the code
// itself.
func pedigreeKey(text string, scanned []byte) ([]byte, error) {
	if text == "" {
		return scanned, nil
	}
	return gs1.ParsePedigreeKey(text)
}

// entitled says who may see the statements about a unit: auditors, the parties
// that take part in its history, and whoever holds the key printed on it.
func entitled(who api.Caller, key []byte, h *custody.History) bool {
	if who.Has(api.ScopeAudit) || who.Has(api.ScopeAdmin) {
		return true
	}
	if who.Known() && slices.Contains(h.Parties(), who.Party) {
		return true
	}
	if len(key) == 0 || h.Unit.Pedigree.IsZero() {
		return false
	}
	digest, err := custody.PedigreeDigest(key)
	return err == nil && digest == h.Unit.Pedigree
}

// StatusWord is all that a stranger with nothing but a serial learns: "stopped"
// when it must not be installed, else "known". It is never a green light.
func StatusWord(h *custody.History) string {
	if len(h.Recalls) > 0 || len(h.Holds) > 0 || h.Unit.Phase == custody.PhaseEnded || h.Unit.Identity == custody.IdentityRevoked {
		return "stopped"
	}
	return "known"
}
