package custody

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"

	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// record adds the effect of a statement of governance on the records of a topic.
func (r *run) record(t entry.Topic, o Outcome, c Code) {
	r.eff.Records = append(r.eff.Records, RecordEffect{Topic: t, Outcome: o, Code: c})
}

// violation adds one that the door refuses.
func (r *run) violation(t entry.Topic, c Code) {
	r.eff.Records = append(r.eff.Records, RecordEffect{Topic: t, Outcome: NoEffect, Code: c, Operator: true})
}

func keyTopic(h entry.Hash) entry.Topic {
	return entry.Topic{Kind: entry.TopicKey, Value: h.String()}
}
func partyTopic(party string) entry.Topic {
	return entry.Topic{Kind: entry.TopicParty, Value: party}
}
func productTopic(gtin string) entry.Topic {
	return entry.Topic{Kind: entry.TopicProduct, Value: gtin}
}
func lotTopic(lot string) entry.Topic { return entry.Topic{Kind: entry.TopicLot, Value: lot} }

// admitGovernance refuses what the door does not log, beyond signers and parties.
// Each check concerns the records of one topic, so the fold can repeat it for
// those alone that it tracks.
func (r *run) admitGovernance() *problem.Problem {
	b, ok := r.s.Body.(*KeyChange)
	if !ok {
		return nil
	}
	old, _ := entry.ParseHash(b.Key.SHA256)
	k, ok := LoadKey(r.st, old)
	if !ok || k.Party != r.s.Subject {
		return problem.New("unknown_key", "/predicate/key", "key %s is not enrolled for %s", old, r.s.Subject).
			WithHint("the keys of authorities change by an authority statement")
	}
	return nil
}

func (r *run) govern() {
	switch b := r.s.Body.(type) {
	case *Charter:
		g := Governance{Charter: r.s.ID, Origin: b.Origin, Threshold: b.Threshold, RuleSet: b.RuleSet}
		g.Authorities, g.Operator = authorityKeys(b.Authorities), authorityKey(b.Operator)
		r.setLog(g)
	case *AuthorityChange:
		g := *r.dir.gov()
		g.Authorities, g.Threshold = authorityKeys(b.Authorities), b.Threshold
		r.setLog(g)
	case *LogKey:
		g := *r.dir.gov()
		g.LogKey = r.s.ID
		r.setLog(g)
	case *WitnessPolicy:
		g := *r.dir.gov()
		g.WitnessPolicy = r.s.ID
		r.setLog(g)
	case *RuleSet:
		g := *r.dir.gov()
		g.RuleSet = b.RuleSetRef
		r.setLog(g)
	case *Party:
		r.party(b)
	case *KeyChange:
		r.keyChange(b)
	case *Product:
		r.product(b)
	case *Recall:
		r.recall(b)
	case *SerialBlock:
		r.serialBlock(b)
	case *RoutePolicy:
		r.routePolicy(b)
	}
}

// authorityKey takes the key as it stands: Parse has checked it, and that is slow.
func authorityKey(a Authority) AuthorityKey {
	spki, _ := base64.StdEncoding.DecodeString(a.Key.SPKI)
	return AuthorityKey{Party: a.Party, SPKI: spki, Hash: sha256.Sum256(spki)}
}

func authorityKeys(as []Authority) []AuthorityKey {
	ks := make([]AuthorityKey, len(as))
	for i, a := range as {
		ks[i] = authorityKey(a)
	}
	return ks
}

func (r *run) setLog(g Governance) {
	g.store(r.st)
	r.record(entry.Topic{Kind: entry.TopicLog}, Applied, CodeApplied)
}

// party enrols a party, or replaces its names, roles and sites. Keys are enrolled
// one by one: a key that is taken stays with its party.
func (r *run) party(b *Party) {
	if t := partyTopic(r.s.Subject); r.tracks(t) {
		PartyState{LegalName: b.LegalName, Roles: b.Roles, Sites: b.Sites, Index: r.index}.store(r.st, r.s.Subject)
		r.record(t, Applied, CodeApplied)
	}
	for _, k := range r.s.IntroducedKeys() {
		r.enrol(k)
	}
}

func (r *run) enrol(k Key) {
	t := keyTopic(k.Hash)
	if !r.tracks(t) {
		return
	}
	if have, ok := LoadKey(r.st, k.Hash); ok {
		if have.Party != r.s.Subject || have.Ended {
			r.violation(t, CodeKeyTaken)
			return
		}
		r.record(t, Noted, CodeNoted)
		return
	}
	KeyState{SPKI: k.SPKI, Party: r.s.Subject, Since: r.index, EnrolsID: r.s.ID}.store(r.st, k.Hash)
	r.record(t, Applied, CodeApplied)
}

func (r *run) keyChange(b *KeyChange) {
	old, _ := entry.ParseHash(b.Key.SHA256)
	if t := keyTopic(old); r.tracks(t) {
		k, _ := LoadKey(r.st, old)
		k.Revoked = k.Revoked || b.Action == ActionRevoke
		if !k.Ended {
			k.Ended, k.EndedAt, k.EndedBy = true, r.index, r.s.ID
		}
		if b.CompromisedSince != "" {
			k.Suspect = b.CompromisedSince
		}
		k.store(r.st, old)
		r.record(t, Applied, CodeApplied)
	}
	if b.Action == ActionRotate {
		for _, k := range r.s.IntroducedKeys() {
			r.enrol(k)
		}
	}
	if t := partyTopic(r.s.Subject); r.tracks(t) {
		r.record(t, Noted, CodeNoted)
	}
}

func (r *run) product(b *Product) {
	gtin := gtinOf(r.s.Subject)
	if t := productTopic(gtin); r.tracks(t) {
		ProductState{Owner: b.Owner, Name: b.Name, Kind: b.Kind, Index: r.index}.store(r.st, gtin)
		r.record(t, Applied, CodeApplied)
	}
}

// selectorTopic is the topic that a recall is listed under.
func selectorTopic(s Selector) (entry.Topic, bool) {
	switch {
	case s.Unit != "":
		return entry.Topic{Kind: entry.TopicUnit, Value: s.Unit}, true
	case s.Product != "":
		return productTopic(s.Product), true
	case s.Lot != "":
		return lotTopic(s.Lot), true
	case s.Artefact != nil:
		return entry.Topic{Kind: entry.TopicRecallArtefact, Value: s.Artefact.SHA256}, true
	}
	return entry.Topic{}, false
}

// recall opens or closes a recall. It counts from the owner of the GTIN, or from
// the authorities; a recall of an artefact counts for those of the GTINs listed
// that its actor owns, and without a list only from the authorities.
func (r *run) recall(b *Recall) {
	t, ok := selectorTopic(b.Selector)
	if !ok || !r.tracks(t) {
		return
	}
	rank, gtins := RankNone, b.Selector.GTINs
	switch {
	case r.dir.byAuthorities(r.it.Signed.Envelope.Signatures):
		rank = RankAuthority
	case b.Selector.Artefact != nil:
		gtins = nil
		for _, g := range b.Selector.GTINs {
			if p, ok := LoadProduct(r.st, g); ok && p.Owner == b.Actor {
				gtins, rank = append(gtins, g), RankOwner
			}
		}
	case t.Kind == entry.TopicProduct:
		if p, ok := LoadProduct(r.st, t.Value); ok && p.Owner == b.Actor {
			rank = RankOwner
		}
	case r.ownsGTIN(UnitRef{URI: t.Value}, b.Actor):
		rank = RankOwner
	}
	if rank == RankNone {
		r.record(t, NoEffect, CodeNotProductOwner)
		return
	}
	open := LoadRecalls(r.st, t)
	if b.Action != ActionClose {
		slices.Sort(gtins)
		storeRecalls(r.st, t, append(open, OpenRecall{ID: r.s.ID, Index: r.index, Actor: b.Actor, Rank: rank, GTINs: slices.Compact(gtins), Reason: b.Reason, Remedy: b.Remedy}))
		r.record(t, Applied, CodeApplied)
		return
	}
	var closes entry.Hash
	if b.Closes != nil {
		closes, _ = entry.ParseHash(b.Closes.SHA256)
	}
	i := slices.IndexFunc(open, func(o OpenRecall) bool { return o.ID == closes && rank >= o.Rank })
	if i < 0 {
		r.record(t, NoEffect, CodeRecallNotOpen)
		return
	}
	storeRecalls(r.st, t, slices.Delete(open, i, i+1))
	r.record(t, Applied, CodeApplied)
}

// serialBlock adds to what the blocks of a lot allow. Countries are those of the
// latest block.
func (r *run) serialBlock(b *SerialBlock) {
	lot := r.s.Subject
	t := lotTopic(lot)
	if !r.tracks(t) {
		return
	}
	if !r.ownsGTIN(UnitRef{URI: lot}, b.Actor) {
		r.record(t, NoEffect, CodeNotProductOwner)
		return
	}
	l, had := LoadLot(r.st, lot)
	l.Listed = (l.Listed || !had) && len(b.Serials) > 0
	l.Commissioners = append(l.Commissioners, b.Commissioners...)
	slices.Sort(l.Commissioners)
	l.Commissioners = slices.Compact(l.Commissioners)
	l.Count += b.Count
	l.Countries, l.Index = b.Countries, r.index
	for _, s := range b.Serials {
		if uri, ok := serialURI(lot, s); ok {
			r.st.Set(string(rowSerial)+lot+" "+uri, []byte{1})
		}
	}
	l.store(r.st, lot)
	r.record(t, Applied, CodeApplied)
}

func (r *run) routePolicy(b *RoutePolicy) {
	gtin := gtinOf(r.s.Subject)
	t := LaneTopic(gtin)
	if !r.tracks(t) {
		return
	}
	if !r.ownsGTIN(UnitRef{URI: r.s.Subject}, b.Actor) {
		r.record(t, NoEffect, CodeNotProductOwner)
		return
	}
	RouteState{ID: r.s.ID, Index: r.index, Steps: b.Steps}.store(r.st, gtin)
	r.record(t, Applied, CodeApplied)
}

// RouteState is the route policy in force for a product.
type RouteState struct {
	ID    entry.Hash
	Index uint64
	Steps []RouteStep
}

// LoadRoute reads the route policy in force for a GTIN-14.
func LoadRoute(st State, gtin string) (RouteState, bool) {
	d := readRow(st.Get(string(rowRoute) + gtin))
	if len(d.b) == 0 {
		return RouteState{}, false
	}
	rs := RouteState{ID: d.hash(), Index: d.num()}
	for range d.count() {
		rs.Steps = append(rs.Steps, RouteStep{ID: d.str(), From: d.strs(), To: d.strs(), Countries: d.strs(), Modes: d.strs(), MaxHours: int64(d.num())})
	}
	return rs, !d.bad
}

func (rs RouteState) store(st State, gtin string) {
	var w rowWriter
	w.hash(rs.ID)
	w.num(rs.Index)
	w.num(uint64(len(rs.Steps)))
	for _, s := range rs.Steps {
		w.str(s.ID)
		w.strs(s.From)
		w.strs(s.To)
		w.strs(s.Countries)
		w.strs(s.Modes)
		w.num(uint64(s.MaxHours))
	}
	st.Set(string(rowRoute)+gtin, w.b)
}
