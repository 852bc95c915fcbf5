package answer

import (
	"cmp"
	"errors"
	"slices"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// maxEvidence bounds the entries that an answer holds as the evidence of findings.
const maxEvidence = 256

// cited lists the entries, below last, that findings of a closure name and the closure
// does not hold, ascending; not more than maxEvidence. Server and verifier find the same.
func cited(h *custody.History, last uint64) []uint64 {
	var ns []uint64
	for _, it := range h.Items {
		f, ok := it.Signed.Statement.Body.(*custody.Finding)
		if !ok {
			continue
		}
		for _, n := range f.Evidence {
			if _, have := h.Item(n); n < last && !have {
				ns = append(ns, n)
			}
		}
	}
	slices.Sort(ns)
	ns = slices.Compact(ns)
	return ns[:min(len(ns), maxEvidence)]
}

// evidence adds the entries that findings cite, with the keys of their signers, so that a
// verifier can run the rule itself. Of what is not for the reader, the leaf says so.
func (rec *recorder) evidence(h *custody.History, may func(custody.Item) bool) error {
	for _, n := range cited(h, rec.r.Size()-1) {
		if _, have := rec.items[n]; have {
			continue // a key of other evidence's signer
		}
		e, err := rec.r.Entry(n)
		if err != nil {
			return err
		}
		shown := e.Class == entry.Public
		if e.Class == entry.Restricted && may != nil {
			read, err := rec.read.get(n, rec.r)
			if err != nil {
				return err
			}
			shown = may(custody.Item{Index: n, Time: read.time, Signed: read.signed})
		}
		if !shown {
			rec.withheld[n] = e.Leaf()
			continue
		}
		er, err := rec.entry(n)
		if err != nil {
			return err
		}
		for _, s := range er.item.Signed.Envelope.Signatures {
			if _, err := rec.List(entry.Topic{Kind: entry.TopicKey, Value: s.Key.String()}); err != nil {
				return err
			}
		}
	}
	return nil
}

// kept returns what is withheld in its wire form.
func (rec *recorder) kept() ([]Withheld, error) {
	var out []Withheld
	for n, leaf := range rec.withheld {
		if _, have := rec.items[n]; have {
			continue // another unit's answer shows it
		}
		hashes, err := rec.r.Inclusion(n)
		if err != nil {
			return nil, err
		}
		out = append(out, Withheld{n, leaf[:], hashes})
	}
	slices.SortFunc(out, func(x, y Withheld) int { return cmp.Compare(x.Index, y.Index) })
	return out, nil
}

// keptBack checks that what an answer withholds is no public entry.
func (o *opening) keptBack(sent []Withheld) error {
	for i := range sent {
		w := &sent[i]
		if i > 0 && w.Index <= sent[i-1].Index {
			return entryFault(False, w.Index, "what is withheld is not in ascending order")
		}
		if _, also := o.leaves[w.Index]; also {
			return entryFault(False, w.Index, "an entry is sent and withheld")
		}
		c, err := entry.LeafClass(w.Leaf)
		if err != nil {
			return entryFault(False, w.Index, "withheld: %w", err)
		}
		if err := checkpoint.VerifyInclusion(entry.LeafHash(w.Leaf), w.Index, o.cp.Size, w.Hashes, o.cp.Root); err != nil {
			return entryFault(False, w.Index, "withheld: %w", err)
		}
		if c == entry.Public {
			return entryFault(Missing, w.Index, "a public entry is withheld")
		}
		o.withheld[w.Index] = c
	}
	return nil
}

// CheckEvidence makes sure that of the entries that findings name none is left out of the
// answer silently: each is there and can be checked, or its leaf shows that it is
// restricted. auditor says that the reader may see all that is restricted.
func (s *Source) CheckEvidence(h *custody.History, auditor bool) error {
	for _, n := range cited(h, s.Size-1) {
		if _, ok := s.items[n]; ok {
			continue
		}
		if err := s.unread[n]; err != nil {
			return err
		}
		c, ok := s.withheld[n]
		switch {
		case !ok:
			return entryFault(Missing, n, "a finding names it, and the answer has neither the entry nor a proof that it is restricted")
		case c == entry.Restricted && auditor:
			return &Fault{Code: Missing, Index: &n, Err: errors.New("a finding names it, and it is kept back from a reader who may see all")}
		}
	}
	return nil
}
