package custody

import (
	"slices"

	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// Requirement is one set of signers that a statement may have. Its signers are
// exactly: every key in Keys, one enrolled key of each party in Parties, and, if
// Authorities is set, keys of at least the threshold of distinct authority
// parties. One key may serve several of these at once; a key that serves none
// makes the set wrong.
type Requirement struct {
	Keys        []entry.Hash
	Parties     []string
	Authorities bool
}

// RequiredSigners returns the sets of signers, any one of which the statement
// needs. It is a function of the statement alone.
func RequiredSigners(s *Statement) []Requirement {
	authorities := Requirement{Authorities: true}
	switch b := s.Body.(type) {
	case *Charter:
		return []Requirement{{Keys: hashes(s.IntroducedKeys())}}
	case *AuthorityChange, *Party:
		return []Requirement{{Keys: hashes(s.IntroducedKeys()), Authorities: true}}
	case *KeyChange:
		old, err := entry.ParseHash(b.Key.SHA256)
		if err != nil {
			return nil
		}
		if b.Action == ActionRotate {
			return []Requirement{{Keys: append([]entry.Hash{old}, hashes(s.IntroducedKeys())...)}}
		}
		return []Requirement{{Keys: []entry.Hash{old}}, authorities}
	case *Product:
		return []Requirement{{Parties: []string{b.Owner}, Authorities: true}}
	case *Recall:
		return []Requirement{{Parties: []string{b.Actor}}, authorities}
	case *SerialBlock:
		return []Requirement{{Parties: []string{b.Actor}}}
	case *RoutePolicy:
		return []Requirement{{Parties: []string{b.Actor}}}
	case *Ownership:
		return []Requirement{{Parties: []string{b.From, b.To}}}
	}
	if s.Event != nil {
		return []Requirement{{Parties: []string{s.Event.Actor}}}
	}
	return []Requirement{authorities}
}

// IntroducedKeys returns the keys that the statement itself enrols: those of a
// charter, an authority change, a party, or a key rotation. They sign it to prove
// that they are held. Device keys are not among them; see DeviceKey.
func (s *Statement) IntroducedKeys() []Key { return s.introduced }

func hashes(keys []Key) []entry.Hash {
	hs := make([]entry.Hash, len(keys))
	for i, k := range keys {
		hs[i] = k.Hash
	}
	return hs
}

// SignerDirectory is what CheckSigners has to know of the ledger's state just
// before the statement.
type SignerDirectory interface {
	// PartyOf returns the party of an enrolled key that is not revoked.
	PartyOf(key entry.Hash) (party string, ok bool)
	// AuthorityOf returns the party of a key of the present authorities.
	AuthorityOf(key entry.Hash) (party string, ok bool)
	// Threshold is how many distinct authority parties must sign.
	Threshold() int64
}

// CheckSigners refuses a statement whose signers are not what its predicate
// requires: wrong_signers, or threshold_not_met. The signatures themselves were
// verified by Open.
func CheckSigners(s *Signed, dir SignerDirectory) error {
	signers := make([]entry.Hash, len(s.Envelope.Signatures))
	for i, sig := range s.Envelope.Signatures {
		signers[i] = sig.Key
	}
	var last error
	for _, r := range RequiredSigners(s.Statement) {
		err := r.check(signers, dir)
		if err == nil {
			return nil
		}
		// Of several alternatives, report the one that most plausibly was meant:
		// the last one unless its signers are of no use for it at all.
		if last == nil || asProblem(err).Type == "threshold_not_met" {
			last = err
		}
	}
	if last == nil {
		last = problem.New("wrong_signers", "/signatures", "nobody can sign this statement")
	}
	return last
}

func (r Requirement) check(signers []entry.Hash, dir SignerDirectory) error {
	used := make([]bool, len(signers))
	for _, k := range r.Keys {
		i := slices.Index(signers, k)
		if i < 0 {
			return problem.New("wrong_signers", "/signatures", "key %s did not sign", k).
				WithHint("a key that a statement introduces or ends must sign it")
		}
		used[i] = true
	}
	for _, party := range r.Parties {
		if err := r.checkParty(party, signers, used, dir); err != nil {
			return err
		}
	}
	parties := map[string]bool{}
	for i, k := range signers {
		if !r.Authorities {
			break
		}
		if p, ok := dir.AuthorityOf(k); ok {
			used[i] = true
			parties[p] = true
		}
	}
	if i := slices.Index(used, false); i >= 0 {
		return problem.New("wrong_signers", "/signatures", "key %s signed, but is not one that this predicate requires", signers[i]).
			WithHint("remove that signature")
	}
	if r.Authorities && int64(len(parties)) < dir.Threshold() {
		return problem.New("threshold_not_met", "/signatures", "%d distinct authority parties signed, want %d", len(parties), dir.Threshold())
	}
	return nil
}

// checkParty marks the one key of a party that signed. An authority that is also
// the party may sign with its key as an authority, or with both.
func (r Requirement) checkParty(party string, signers []entry.Hash, used []bool, dir SignerDirectory) error {
	all, own := 0, 0
	for i, k := range signers {
		if p, ok := dir.PartyOf(k); ok && p == party {
			used[i] = true
			all++
			authority := false
			if r.Authorities {
				_, authority = dir.AuthorityOf(k)
			}
			if !authority {
				own++
			}
		}
	}
	if all == 0 || own > 1 {
		return problem.New("wrong_signers", "/signatures", "%d keys of %s signed, want exactly one", all, party).
			WithHint("sign with one enrolled key of that party")
	}
	return nil
}
