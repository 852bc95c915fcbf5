package custody

import (
	"encoding/hex"
	"slices"
	"testing"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// topicVectors says under which topics statements are listed. The cases stand in
// log order: void, dispute and lift name statements of cases before them.
type topicVectors struct {
	About string            `json:"about"`
	Cases []topicCaseVector `json:"cases"`
}

type topicCaseVector struct {
	Name     string        `json:"name"`
	Payload  string        `json:"payload"`
	ID       string        `json:"id"`
	Manifest string        `json:"manifest,omitzero"` // hex; that of the statement named, for those that name one
	Topics   []topicVector `json:"topics"`            // ascending by hash
	Not      []topicVector `json:"not,omitzero"`      // what it may seem to concern, and is not listed under
}

type topicVector struct {
	Kind  string `json:"kind"`
	Value string `json:"value"`
	Hash  string `json:"hash"`
	Why   string `json:"why,omitzero"`
}

func topicOf(kind entry.TopicKind, value, why string) topicVector {
	t := entry.Topic{Kind: kind, Value: value}
	return topicVector{string(kind), value, t.Hash().String(), why}
}

// notListed are wrong guesses about the samples, by name.
func notListed(t *testing.T) map[string][]topicVector {
	members := sampleManifest(t).Members
	party := func(uri string) topicVector {
		return topicOf(entry.TopicParty, uri, "a party that is named or signs adds nothing")
	}
	return map[string][]topicVector{
		"charter":            {party(makerURI), topicOf(entry.TopicKey, mustKey(t, edKey(1).Public()).ID(), "keys of the authorities are found by the log topic")},
		"authority":          {topicOf(entry.TopicKey, mustKey(t, edKey(1).Public()).ID(), "keys of the authorities are found by the log topic")},
		"party":              {topicOf(entry.TopicKey, mustKey(t, edKey(1).Public()).ID(), "the authority's key signs and is not enrolled")},
		"product":            {party(makerURI)},
		"serial-block":       {topicOf(entry.TopicProduct, "09506000134352", "a block is of its lot alone"), topicOf(entry.TopicUnit, unitURI, "the serials listed add nothing")},
		"route-policy":       {topicOf(entry.TopicProduct, "09506000134352", "a route is listed under lane")},
		"recall lot":         {topicOf(entry.TopicProduct, "09506000134352", "the selector alone counts")},
		"commission unit":    {topicOf(entry.TopicLot, lotURI, "the lot number in the body adds nothing"), topicOf(entry.TopicKey, mustKey(t, edKey(90).Public()).ID(), "a device's key is no party's")},
		"commission lot":     {topicOf(entry.TopicLot, lotURI, "the members are listed, the subject is not"), topicOf(entry.TopicUnit, lotURI, "a lot is no unit")},
		"assemble":           {topicOf(entry.TopicLot, lotURI, "a component that is a lot is named, not listed")},
		"firmware-load":      {topicOf(entry.TopicArtefact, someHash.String(), "the image adds nothing"), topicOf(entry.TopicRecallArtefact, someHash.String(), "the image adds nothing")},
		"pack opens":         {topicOf(entry.TopicContents, cartonURI+" "+someHash.String(), "an opening is listed under the load that it opens")},
		"pack adds":          {topicOf(entry.TopicLoad, cartonURI+" "+otherHash.String(), "later packs are listed under contents"), topicOf(entry.TopicUnit, cartonURI, "the container's own list holds only openings")},
		"unpack":             {topicOf(entry.TopicLoad, cartonURI+" "+otherHash.String(), "unpacks are listed under contents"), topicOf(entry.TopicUnit, boxURI, "a member that is a load is listed as that load")},
		"release":            {party(makerURI), party(carrierURI), topicOf(entry.TopicUnit, boxURI, "equipment adds nothing"), topicOf(entry.TopicLane, "09506000134352", "the lane that it cites adds nothing")},
		"accept load":        {topicOf(entry.TopicUnit, cartonURI, "a statement about a load is not about the container"), topicOf(entry.TopicUnit, members[0].URI, "what is in the load is not listed")},
		"ownership":          {party(makerURI), party(carrierURI)},
		"finding":            {party(makerURI), topicOf(entry.TopicLog, "", "the accused adds nothing")},
		"void of a pack":     {topicOf(entry.TopicLoad, cartonURI+" "+otherHash.String(), "it repeats the topics of what it names: contents")},
		"dispute of nothing": {topicOf(entry.TopicUnit, unitURI, "the statement named is not in the ledger; the door refuses this (unknown_statement)")},
	}
}

// topicSamples are the samples, and statements that name others of them.
func topicSamples(t *testing.T) []sample {
	one := find(t, "hold").signers
	list := slices.DeleteFunc(samples(t), func(s sample) bool {
		return s.kind == KindVoid || s.kind == KindDispute || s.kind == KindLift // these name what is in no ledger
	})
	id := func(name string) Digest {
		i := slices.IndexFunc(list, func(s sample) bool { return s.name == name })
		return DigestOf(entry.StatementID(list[i].payload(t)))
	}
	add := func(name string, kind Kind, subject string, ev *Event, body any) {
		list = append(list, sample{name, kind, subject, ev, body, one})
	}
	plain := eventAt(40)
	plain.Chain = First()
	add("commission without a device key", KindCommission, unit2URI, plain, &Commission{UnitKind: "chip"})
	add("identity without a key", KindIdentity, unitURI, eventAt(41), &Identity{State: "registered"})
	add("recall unit", KindRecall, unitURI, nil, &Recall{Actor: makerURI, Action: ActionOpen, Selector: Selector{Unit: unitURI}})
	add("recall product", KindRecall, productURI, nil, &Recall{Actor: makerURI, Action: ActionOpen, Selector: Selector{Product: "09506000134352"}})
	add("assemble removes", KindAssemble, unitURI, chained(eventAt(42), 3), &Assemble{Action: ActionRemove, Components: []Component{{URI: unit2URI, Head: &Digest{SHA256: someHash.String()}}}})
	add("hold of a load", KindHold, cartonURI, onLoad(eventAt(43)), &Hold{Reason: "suspect"})
	add("finding about one unit twice", KindFinding, unitURI, eventAt(44), &Finding{Rule: "TRAVEL", Tier: "geography", Phase: "confirmed", Accused: makerURI,
		Units: []FindingUnit{{URI: cartonURI, Load: someHash.String()}, {URI: unit2URI}}, Evidence: []uint64{3}, ID: otherHash.String(), RuleSet: "1"})
	add("lift", KindLift, unitURI, eventAt(45), &Lift{Lifts: id("hold")})
	add("lift of a load's hold", KindLift, cartonURI, onLoad(eventAt(46)), &Lift{Lifts: id("hold of a load")})
	add("void of a commission", KindVoid, unitURI, eventAt(47), &Void{Voids: id("commission unit"), Reason: "incorrect_data"})
	add("void of an opening", KindVoid, cartonURI, eventAt(48), &Void{Voids: id("pack opens"), Reason: "did_not_occur"})
	add("void of a pack", KindVoid, cartonURI, onLoad(eventAt(49)), &Void{Voids: id("pack adds"), Reason: "did_not_occur"})
	add("dispute of an assemble", KindDispute, unitURI, eventAt(50), &Dispute{Disputes: id("assemble"), Claim: "not ours"})
	add("dispute of a lift", KindDispute, unitURI, eventAt(51), &Dispute{Disputes: id("lift"), Claim: "not ours"})
	add("dispute of a void", KindDispute, cartonURI, onLoad(eventAt(52)), &Dispute{Disputes: id("void of a pack"), Claim: "not ours"})
	add("dispute of nothing", KindDispute, unitURI, eventAt(53), &Dispute{Disputes: DigestOf(hashOf("never stated")), Claim: "not ours"})
	return list
}

func TestTopicVectors(t *testing.T) {
	manifest := sampleManifest(t)
	if *update {
		v := topicVectors{About: "Under which topics a statement is listed: a function of payload, manifest and, for void, dispute and lift, of the statement named."}
		not := notListed(t)
		for _, s := range topicSamples(t) {
			p := s.payload(t)
			v.Cases = append(v.Cases, topicCaseVector{Name: s.name, Payload: string(p), ID: entry.StatementID(p).String(), Not: not[s.name]})
			delete(not, s.name)
		}
		for name := range not {
			t.Errorf("nothing is called %q", name)
		}
		fillTopics(t, v.Cases, manifest)
		writeVector(t, "topics.json", v)
	}
	var v topicVectors
	readVector(t, "topics.json", &v)
	got := slices.Clone(v.Cases)
	fillTopics(t, got, manifest)
	kinds, negative := map[Kind]bool{}, 0
	for i, c := range v.Cases {
		s, err := Parse([]byte(c.Payload))
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		kinds[s.Kind] = true
		negative += len(c.Not)
		if s.ID.String() != c.ID || got[i].Manifest != c.Manifest || !slices.Equal(got[i].Topics, c.Topics) {
			t.Errorf("%s: topics %v, want %v", c.Name, got[i].Topics, c.Topics)
		}
		for _, n := range c.Not {
			listed := slices.ContainsFunc(got[i].Topics, func(x topicVector) bool { return x.Hash == n.Hash })
			if listed || n != topicOf(entry.TopicKind(n.Kind), n.Value, n.Why) {
				t.Errorf("%s is listed under %s %s, or its hash is another", c.Name, n.Kind, n.Value)
			}
		}
	}
	for _, k := range Kinds() {
		if !kinds[k] {
			t.Errorf("there is no vector of a %s", k)
		}
	}
	if negative < 25 {
		t.Errorf("%d negative cases", negative)
	}
}

// fillTopics works topics out, case by case, remembering what later ones name.
func fillTopics(t *testing.T, cases []topicCaseVector, m Manifest) {
	t.Helper()
	st := MapState{}
	for i := range cases {
		c := &cases[i]
		s, err := Parse([]byte(c.Payload))
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		it := Item{Index: uint64(i), Signed: &Signed{Statement: s}}
		c.Manifest = ""
		if sum := ManifestOf(st, s); !sum.IsZero() {
			if sum != m.Digest() {
				t.Fatalf("%s: another manifest", c.Name)
			}
			it.Members, c.Manifest = m.Members, hex.EncodeToString(m.Marshal())
		}
		c.Topics = []topicVector{}
		for _, x := range Topics(st, it) {
			c.Topics = append(c.Topics, topicOf(x.Kind, x.Value, ""))
		}
		slices.SortFunc(c.Topics, func(a, b topicVector) int {
			if a.Hash < b.Hash {
				return -1
			}
			return 1
		})
		if s.Event == nil || s.Kind == KindFinding {
			continue
		}
		n := namedOf(newAct(s, it.Index, it.Time)) // as the fold remembers it
		if id, _, ok := namedBy(s); ok {
			if root, ok := loadRoot(st, id); ok {
				n.Of = root.ID
			}
		}
		n.store(st)
	}
}
