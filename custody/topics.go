package custody

import (
	"fabtrail.dev/fabtrail/custody/gs1"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// Topics returns the topics that a statement is listed under, each once, in a
// fixed order. It is a function of the statement, its manifest (it.Members, all of
// them), and for void, dispute and lift of the earlier statement that they name,
// which st must know: call it before or after the item is applied, never without
// the entries before it.
func Topics(st State, it Item) []entry.Topic {
	t := topicSet{seen: map[entry.Topic]bool{}}
	s := it.Signed.Statement
	switch b := s.Body.(type) {
	case *Charter, *AuthorityChange, *LogKey, *WitnessPolicy, *RuleSet:
		t.add(entry.Topic{Kind: entry.TopicLog})
	case *Party:
		t.add(partyTopic(s.Subject))
		for _, k := range s.IntroducedKeys() {
			t.add(keyTopic(k.Hash))
		}
	case *KeyChange:
		t.add(partyTopic(s.Subject))
		if old, err := entry.ParseHash(b.Key.SHA256); err == nil {
			t.add(keyTopic(old))
		}
		for _, k := range s.IntroducedKeys() {
			t.add(keyTopic(k.Hash))
		}
	case *Product:
		t.add(productTopic(gtinOf(s.Subject)))
	case *SerialBlock:
		t.add(lotTopic(s.Subject))
	case *RoutePolicy:
		t.add(LaneTopic(gtinOf(s.Subject)))
	case *Recall:
		if sel, ok := selectorTopic(b.Selector); ok {
			t.add(sel)
		}
	case *Finding:
		for _, u := range b.Units {
			ref := UnitRef{URI: u.URI}
			if u.Load != "" {
				ref.Load, _ = entry.ParseHash(u.Load)
			}
			t.add(ref.Topic())
		}
	case *Void, *Dispute, *Lift:
		id, _, _ := namedBy(s)
		if n, ok := loadRoot(st, id); ok {
			t.named(n, it.Members)
		}
	default:
		a := newAct(s, it.Index, it.Time)
		t.named(namedOf(a), it.Members)
	}
	return t.list
}

type topicSet struct {
	list []entry.Topic
	seen map[entry.Topic]bool
}

func (t *topicSet) add(x entry.Topic) {
	if !t.seen[x] {
		t.seen[x] = true
		t.list = append(t.list, x)
	}
}

// named adds the topics of a statement about units.
func (t *topicSet) named(n Named, members []Member) {
	ref := n.unit()
	switch {
	case n.opens():
		t.add(entry.Topic{Kind: entry.TopicUnit, Value: n.Subject})
		t.add(ref.Topic())
	case n.Kind == KindPack || n.Kind == KindUnpack:
		t.add(ref.ContentsTopic())
	case n.Kind == KindCommission && !n.Manifest.IsZero():
	default:
		t.add(ref.Topic())
	}
	for _, m := range members {
		t.add(UnitRef{m.URI, m.Load}.Topic())
	}
	for _, p := range n.Parts {
		t.add(UnitRef{URI: p}.Topic())
	}
	if !n.Device.IsZero() {
		t.add(deviceTopic(n.Device))
	}
}

// namedOf describes a statement about units for those that name it later.
func namedOf(a act) Named {
	n := Named{ID: a.s.ID, Index: a.index, Time: a.time, Kind: a.s.Kind, Actor: a.actor, Subject: a.s.Subject, Load: a.load, Prev: a.prev}
	if c := a.s.Contents(); c != nil {
		n.Manifest, _ = entry.ParseHash(c.Manifest)
	}
	if b, ok := a.s.Body.(*Assemble); ok {
		for _, c := range b.Components {
			if c.URI != "" {
				n.Parts = append(n.Parts, c.URI)
			}
		}
	}
	if k, ok := a.s.DeviceKey(); ok {
		n.Device = k.Hash
	}
	return n
}

// lotOf is the lot's URI of a unit commissioned with a lot number; "" without
// one, and for units without a GTIN.
func lotOf(unit, lot string) string {
	gtin := gtinOf(unit)
	if gtin == "" || lot == "" {
		return ""
	}
	id, err := gs1.New(gs1.LGTIN, gtin, lot)
	if err != nil {
		return ""
	}
	return id.URI()
}

// LotOf is the lot of a unit that a commission brings into being: the statement's
// subject if that is the lot, else the lot number within the unit's product. ""
// if it has none.
func LotOf(subject, unit, lot string) string {
	if subject != unit {
		return subject
	}
	return lotOf(unit, lot)
}

// serialURI is the unit URI of a serial in a lot's product.
func serialURI(lot, serial string) (string, bool) {
	gtin := gtinOf(lot)
	if gtin == "" {
		return "", false
	}
	id, err := gs1.New(gs1.SGTIN, gtin, serial)
	return id.URI(), err == nil
}

// LaneTopic is the topic of a GTIN's route policies.
func LaneTopic(gtin string) entry.Topic { return entry.Topic{Kind: entry.TopicLane, Value: gtin} }
