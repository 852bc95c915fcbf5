package custody

import (
	"bytes"
	"encoding/hex"
	"slices"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// Governance is what the ledger's own statements have established.
type Governance struct {
	Charter       entry.Hash // ID of the charter; zero before it
	Origin        string
	Threshold     int64
	Authorities   []AuthorityKey
	Operator      AuthorityKey
	RuleSet       RuleSetRef
	WitnessPolicy entry.Hash // ID of the statement in force; zero if none
	LogKey        entry.Hash // ID of the last log-key statement; zero if none
}

// AuthorityKey is a key with the party that holds it.
type AuthorityKey struct {
	Party string
	SPKI  []byte
	Hash  entry.Hash
}

// LoadGovernance reads the governance in force.
func LoadGovernance(st State) Governance {
	var g Governance
	d := readRow(st.Get(string(rowLog)))
	if len(d.b) == 0 {
		return g
	}
	g.Charter, g.Origin, g.Threshold = d.hash(), d.str(), int64(d.num())
	for range d.count() {
		g.Authorities = append(g.Authorities, d.authority())
	}
	g.Operator = d.authority()
	g.RuleSet = RuleSetRef{Version: d.str(), Rules: Digest{d.str()}, Geodata: Digest{d.str()}}
	g.WitnessPolicy, g.LogKey = d.opt(), d.opt()
	return g
}

func (g Governance) store(st State) {
	w := newRow()
	w.hash(g.Charter)
	w.str(g.Origin)
	w.num(uint64(g.Threshold))
	w.num(uint64(len(g.Authorities)))
	for _, a := range g.Authorities {
		w.authority(a)
	}
	w.authority(g.Operator)
	w.str(g.RuleSet.Version)
	w.str(g.RuleSet.Rules.SHA256)
	w.str(g.RuleSet.Geodata.SHA256)
	w.opt(g.WitnessPolicy)
	w.opt(g.LogKey)
	st.Set(string(rowLog), w.b)
}

func (w *rowWriter) authority(a AuthorityKey) {
	w.str(a.Party)
	w.str(string(a.SPKI))
	w.hash(a.Hash)
}

func (d *rowReader) authority() AuthorityKey {
	return AuthorityKey{d.str(), []byte(d.str()), d.hash()}
}

// isAuthority reports whether party is one of the authorities in force.
func (g Governance) isAuthority(party string) bool {
	return slices.ContainsFunc(g.Authorities, func(a AuthorityKey) bool { return a.Party == party })
}

// KeyState is what is known about an enrolled key.
type KeyState struct {
	SPKI     []byte
	Party    string
	Since    uint64 // log index of the enrolment
	Ended    bool   // rotated or revoked
	EndedAt  uint64 // log index of that
	Revoked  bool   // ended by revocation
	EndedBy  entry.Hash
	Suspect  string // compromisedSince, as the revocation claims it
	EnrolsID entry.Hash
}

// LoadKey reads the row of a key.
func LoadKey(st State, key entry.Hash) (KeyState, bool) {
	row := st.Get(keyRow(key))
	if len(row) == 0 {
		return KeyState{}, false
	}
	if k, ok := readKeys.get(key); ok && k.row == string(row) {
		return k.state, true
	}
	d := readRow(row)
	k, ok := d.key()
	if ok {
		readKeys.put(key, readKey{d.row, k})
	}
	return k, ok
}

func keyRow(key entry.Hash) string {
	b := [1 + 2*len(key)]byte{byte(rowKey)}
	hex.Encode(b[1:], key[:])
	return string(b[:])
}

// readKeys remembers the rows of keys, which every statement of a key asks for a few
// times: what is in a row is a function of its bytes.
var readKeys keyMemo[readKey]

type readKey struct {
	row   string
	state KeyState
}

func (d *rowReader) key() (KeyState, bool) {
	k := KeyState{SPKI: []byte(d.str()), Party: d.str(), Since: d.num()}
	switch d.byte() {
	case 1:
		k.Ended = true
	case 2:
		k.Ended, k.Revoked = true, true
	}
	k.EndedAt, k.EndedBy, k.Suspect, k.EnrolsID = d.num(), d.opt(), d.str(), d.opt()
	return k, !d.bad
}

func (k KeyState) store(st State, key entry.Hash) {
	w := newRow()
	w.str(string(k.SPKI))
	w.str(k.Party)
	w.num(k.Since)
	switch {
	case k.Revoked:
		w.byte(2)
	case k.Ended:
		w.byte(1)
	default:
		w.byte(0)
	}
	w.num(k.EndedAt)
	w.opt(k.EndedBy)
	w.str(k.Suspect)
	w.opt(k.EnrolsID)
	st.Set(keyRow(key), w.b)
}

// StateKeys is the KeyLookup of a State: enrolled keys and those of the
// authorities and the operator, whether in force or not.
type StateKeys struct{ State State }

// Key implements KeyLookup.
func (s StateKeys) Key(h entry.Hash) (Key, bool) {
	spki := []byte(nil)
	if k, ok := LoadKey(s.State, h); ok {
		spki = k.SPKI
	} else {
		g := LoadGovernance(s.State)
		for _, a := range append(g.Authorities, g.Operator) {
			if a.Hash == h {
				spki = a.SPKI
			}
		}
	}
	if spki == nil {
		return Key{}, false
	}
	if k, ok := accepted.get(h); ok && bytes.Equal(k.SPKI, spki) {
		return k, true
	}
	k, err := ParseKey(spki)
	return k, err == nil
}

// PartyState is what is known about an enrolled party.
type PartyState struct {
	LegalName string
	Roles     []string
	Sites     []Site
	Index     uint64 // log index of the statement in force
}

// LoadParty reads the row of a party.
func LoadParty(st State, party string) (PartyState, bool) {
	d := readRow(st.Get(string(rowParty) + party))
	if len(d.b) == 0 {
		return PartyState{}, false
	}
	p := PartyState{Index: d.num(), LegalName: d.str(), Roles: d.strs()}
	for range d.count() {
		p.Sites = append(p.Sites, Site{ID: d.str(), Country: d.str(), Locode: d.str(), Geo: d.str()})
	}
	return p, !d.bad
}

func (p PartyState) store(st State, party string) {
	w := newRow()
	w.num(p.Index)
	w.str(p.LegalName)
	w.strs(p.Roles)
	w.num(uint64(len(p.Sites)))
	for _, s := range p.Sites {
		w.str(s.ID)
		w.str(s.Country)
		w.str(s.Locode)
		w.str(s.Geo)
	}
	st.Set(string(rowParty)+party, w.b)
}

// Site returns one of the party's sites.
func (p PartyState) Site(id string) (Site, bool) {
	for _, s := range p.Sites {
		if s.ID == id {
			return s, true
		}
	}
	return Site{}, false
}

// ProductState says who owns a GTIN.
type ProductState struct {
	Owner, Name, Kind string
	Index             uint64
}

// LoadProduct reads the row of a GTIN-14.
func LoadProduct(st State, gtin string) (ProductState, bool) {
	d := readRow(st.Get(string(rowProduct) + gtin))
	if len(d.b) == 0 {
		return ProductState{}, false
	}
	p := ProductState{d.str(), d.str(), d.str(), d.num()}
	return p, !d.bad
}

func (p ProductState) store(st State, gtin string) {
	w := newRow()
	w.str(p.Owner)
	w.str(p.Name)
	w.str(p.Kind)
	w.num(p.Index)
	st.Set(string(rowProduct)+gtin, w.b)
}

// LotState is what the serial blocks of a lot allow.
type LotState struct {
	Commissioners []string // ascending
	Listed        bool     // every block lists its serials: others are outside
	Count         int64    // sum of the blocks' counts; 0 if none gives one
	Countries     []string // of the latest block: where its units may be sold
	Index         uint64   // of the latest block
}

// SerialListed reports whether a serial block of a lot (by its URI) lists a unit.
func SerialListed(st State, lot, unit string) bool {
	return st.Get(string(rowSerial)+lot+" "+unit) != nil
}

// LoadLot reads what the serial blocks of a lot (by its URI) allow.
func LoadLot(st State, lot string) (LotState, bool) {
	d := readRow(st.Get(string(rowLot) + lot))
	if len(d.b) == 0 {
		return LotState{}, false
	}
	l := LotState{Commissioners: d.strs(), Listed: d.byte() == 1, Count: int64(d.num()), Countries: d.strs(), Index: d.num()}
	return l, !d.bad
}

func (l LotState) store(st State, lot string) {
	w := newRow()
	w.strs(l.Commissioners)
	w.byte(0)
	if l.Listed {
		w.b[len(w.b)-1] = 1
	}
	w.num(uint64(l.Count))
	w.strs(l.Countries)
	w.num(l.Index)
	st.Set(string(rowLot)+lot, w.b)
}

// Allows reports whether party may commission unit (by URI) in the lot.
func (l LotState) allows(st State, lot, party, unit string) Code {
	if _, ok := slices.BinarySearch(l.Commissioners, party); !ok {
		return CodeNotCommissioner
	}
	if l.Listed && st.Get(string(rowSerial)+lot+" "+unit) == nil {
		return CodeNotInBlock
	}
	return ""
}

// OpenRecall is one recall in force.
type OpenRecall struct {
	ID     entry.Hash
	Index  uint64
	Actor  string
	Rank   Rank
	GTINs  []string // of a recall by artefact: the products that it is for; none means all
	Reason string
	Remedy string
}

// LoadRecalls reads the recalls in force on one selector: a unit, product, lot or
// recall-artefact topic.
func LoadRecalls(st State, selector entry.Topic) []OpenRecall {
	d := readRow(st.Get(recallRow(selector)))
	if len(d.b) == 0 {
		return nil
	}
	var rs []OpenRecall
	for range d.count() {
		rs = append(rs, OpenRecall{d.hash(), d.num(), d.str(), Rank(d.byte()), d.strs(), d.str(), d.str()})
	}
	if d.bad {
		return nil
	}
	return rs
}

func recallRow(t entry.Topic) string { return string(rowRecall) + string(t.Kind) + " " + t.Value }

func storeRecalls(st State, selector entry.Topic, rs []OpenRecall) {
	if len(rs) == 0 {
		st.Set(recallRow(selector), nil)
		return
	}
	w := newRow()
	w.num(uint64(len(rs)))
	for _, r := range rs {
		w.hash(r.ID)
		w.num(r.Index)
		w.str(r.Actor)
		w.byte(byte(r.Rank))
		w.strs(r.GTINs)
		w.str(r.Reason)
		w.str(r.Remedy)
	}
	st.Set(recallRow(selector), w.b)
}

// Binding says that a statement bound a device key to a serial. Authorised means
// that its actor was entitled to bind keys to that serial, whatever became of the
// statement: it tells a twin from a stranger's smear.
type Binding struct {
	Unit       string
	Index      uint64
	Actor      string
	Authorised bool
}

// LoadBindings reads which serials a device key was bound to, in log order.
func LoadBindings(st State, key entry.Hash) []Binding {
	d := readRow(st.Get(string(rowDevice) + key.String()))
	if len(d.b) == 0 {
		return nil
	}
	var bs []Binding
	for range d.count() {
		bs = append(bs, Binding{d.str(), d.num(), d.str(), d.byte() == 1})
	}
	if d.bad {
		return nil
	}
	return bs
}

func storeBindings(st State, key entry.Hash, bs []Binding) {
	w := newRow()
	w.num(uint64(len(bs)))
	for _, b := range bs {
		w.str(b.Unit)
		w.num(b.Index)
		w.str(b.Actor)
		w.byte(0)
		if b.Authorised {
			w.b[len(w.b)-1] = 1
		}
	}
	st.Set(string(rowDevice)+key.String(), w.b)
}

// Named is what is kept of every statement of units, for those that name it later.
type Named struct {
	ID       entry.Hash
	Index    uint64
	Time     uint64
	Kind     Kind
	Actor    string
	Subject  string
	Load     entry.Hash
	Manifest entry.Hash // digest of its manifest; zero if none
	Parts    []string   // serialised components of an assemble
	Device   entry.Hash // device key that it binds; zero if none
	Prev     entry.Hash // chain.prev; zero if null
	Of       entry.Hash // void, dispute, lift: the statement that they speak of in the end
}

// LoadNamed reads what is kept of a statement of a unit.
func LoadNamed(st State, id entry.Hash) (Named, bool) {
	d := readRow(st.Get(string(rowNamed) + string(id[:])))
	if len(d.b) == 0 {
		return Named{}, false
	}
	n := Named{ID: id, Index: d.num(), Time: d.num(), Kind: Kind(d.str()), Actor: d.str(), Subject: d.str(),
		Load: d.opt(), Manifest: d.opt(), Parts: d.strs(), Device: d.opt(), Prev: d.opt(), Of: d.opt()}
	return n, !d.bad
}

func (n Named) store(st State) {
	w := newRow()
	w.num(n.Index)
	w.num(n.Time)
	w.str(string(n.Kind))
	w.str(n.Actor)
	w.str(n.Subject)
	w.opt(n.Load)
	w.opt(n.Manifest)
	w.strs(n.Parts)
	w.opt(n.Device)
	w.opt(n.Prev)
	w.opt(n.Of)
	st.Set(string(rowNamed)+string(n.ID[:]), w.b)
}

// loadRoot is LoadNamed for the statement that id speaks of in the end: a void of
// a hold leads to the hold. Its topics and units are those of every statement on
// the way.
func loadRoot(st State, id entry.Hash) (Named, bool) {
	n, ok := LoadNamed(st, id)
	if ok && !n.Of.IsZero() {
		return LoadNamed(st, n.Of)
	}
	return n, ok
}

// opens reports whether the statement opened a load.
func (n Named) opens() bool { return n.Kind == KindPack && n.Load.IsZero() }

// unit returns the unit that the statement speaks of by its subject: for an
// opening, the load that it opened.
func (n Named) unit() UnitRef {
	if n.opens() {
		return UnitRef{n.Subject, n.ID}
	}
	return UnitRef{n.Subject, n.Load}
}

// waiting is a statement that waits for its predecessor.
type waiting struct {
	Index, Time uint64
	ID          entry.Hash
	Payload     []byte
}

func waitingRow(ref UnitRef, prev entry.Hash) string {
	return string(rowWaiting) + ref.String() + " " + string(prev[:])
}

func loadWaiting(st State, ref UnitRef, prev entry.Hash) (ws []waiting) {
	d := readRow(st.Get(waitingRow(ref, prev)))
	if len(d.b) == 0 {
		return nil
	}
	for range d.count() {
		ws = append(ws, waiting{d.num(), d.num(), d.hash(), []byte(d.str())})
	}
	if d.bad {
		return nil
	}
	return ws
}

func storeWaiting(st State, ref UnitRef, prev entry.Hash, ws []waiting) {
	if len(ws) == 0 {
		st.Set(waitingRow(ref, prev), nil)
		return
	}
	w := newRow()
	w.num(uint64(len(ws)))
	for _, p := range ws {
		w.num(p.Index)
		w.num(p.Time)
		w.hash(p.ID)
		w.str(string(p.Payload))
	}
	st.Set(waitingRow(ref, prev), w.b)
}
