// Package custodytest plays random custody histories against the fold: honest
// parties, clones, rivals, strangers, late uploads, voids, and an operator who
// admits what the door refuses. It is for tests of custody and of what stands on
// it. A world is a function of its seed.
package custodytest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/gs1"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// Actor is a party with its keys in force, latest last.
type Actor struct {
	URI   string
	Name  string
	Roles []string
	Sites []custody.Site
	Keys  []ed25519.PrivateKey
}

// Key is the actor's key in force.
func (a *Actor) Key() ed25519.PrivateKey { return a.Keys[len(a.Keys)-1] }

// World is a ledger without a log: the items, their effects, the lists of their
// topics and the state of the full fold.
type World struct {
	R           *rand.Rand
	St          custody.MapState
	Items       []custody.Item
	Effects     []custody.Effect
	Lists       map[entry.Topic][]custody.Item
	Manifests   map[entry.Hash][]custody.Member
	Now         uint64 // log time, Unix ms
	Ledger      entry.Hash
	Authorities []*Actor
	Operator    *Actor
	Actors      []*Actor
	Units       []string
	Loads       []custody.UnitRef
	// Refused counts the door's refusals by problem type.
	Refused map[string]int
	// Wrap, if set, stands between the fold and St for one item.
	Wrap func(custody.State, custody.Item) custody.State
	// After, if set, is called after every item.
	After func(custody.State, custody.Item, custody.Effect)

	cfg     Config
	keys    uint32 // keys made so far
	events  uint32
	devices map[string]ed25519.PrivateKey
	counter uint64
	ids     map[custody.UnitRef][]entry.Hash // chained statements that named a unit
	holds   []entry.Hash
	recalls []recall
	named   []*custody.Statement // statements of units
	late    []draft
	parsed  map[custody.UnitRef]*custody.Unit // of St, until the next effect on it
}

type recall struct {
	id       entry.Hash
	selector custody.Selector
	subject  string
}

// Config says how big a world is and how bad.
type Config struct {
	Units int // serials that it plays with
	// Evil is the share of moves that are wrong in some way, in percent.
	Evil int
	// Corrupt is the share of statements that the operator admits past the door,
	// in percent.
	Corrupt int
}

// Start is the log time of a world's charter.
const Start = 1_790_000_000_000

// New makes a world with its charter, parties, products and serial blocks.
func New(seed uint64, cfg Config) *World {
	w := &World{R: rand.New(rand.NewPCG(seed, 7)), St: custody.MapState{}, Lists: map[entry.Topic][]custody.Item{},
		Manifests: map[entry.Hash][]custody.Member{}, Now: Start, Refused: map[string]int{}, cfg: cfg,
		parsed:  map[custody.UnitRef]*custody.Unit{},
		devices: map[string]ed25519.PrivateKey{}, ids: map[custody.UnitRef][]entry.Hash{}}
	for i := range 3 {
		w.Authorities = append(w.Authorities, &Actor{URI: Party(900 + i), Keys: []ed25519.PrivateKey{w.newKey()}})
	}
	w.Operator = &Actor{URI: Party(990), Keys: []ed25519.PrivateKey{w.newKey()}}
	return w
}

// Found logs the charter and enrols the cast.
func (w *World) Found() {
	c := &custody.Charter{Origin: "example.com/world", Threshold: 2, Operator: custody.Authority{Party: w.Operator.URI, Key: record(w.Operator.Key())},
		RuleSet:   custody.RuleSetRef{Version: "1", Rules: custody.DigestOf(entry.Hash{1}), Geodata: custody.DigestOf(entry.Hash{2})},
		CreatedAt: custody.FormatTime(w.time())}
	var signers []ed25519.PrivateKey
	for _, a := range w.Authorities {
		c.Authorities = append(c.Authorities, custody.Authority{Party: a.URI, Key: record(a.Key())})
		signers = append(signers, a.Key())
	}
	s := w.Build(custody.KindCharter, custody.LogURIPrefix+c.Origin, nil, c)
	w.Ledger = s.ID
	w.Put(s, signers)
	for i, roles := range [][]string{{"maker", "brand"}, {"maker"}, {"maker", "service"}, {"carrier"}, {"carrier"}, {"distributor"},
		{"distributor"}, {"installer"}, {"installer", "service"}, {"lab", "registrar"}, {"regulator"}, {"auditor"}} {
		a := &Actor{URI: Party(i + 1), Name: fmt.Sprintf("Party %d", i+1), Roles: roles, Keys: []ed25519.PrivateKey{w.newKey()}}
		places := [][2]string{{"TW", "geo:24.80,120.97;u=100"}, {"DE", "geo:52.52,13.40;u=100"}, {"US", "geo:37.77,-122.41;u=100"}, {"SG", "geo:1.35,103.82;u=100"}}
		for j := range 2 {
			p := places[(i+j)%len(places)]
			a.Sites = append(a.Sites, custody.Site{ID: Site(i*10 + j), Country: p[0], Geo: p[1]})
		}
		w.Actors = append(w.Actors, a)
		w.Enrol(a, true)
	}
	for p := range 3 {
		w.product(p, w.Actors[p%2])
		for l := range 2 {
			w.block(p, l, w.Actors[p%2])
		}
	}
	for i := range w.cfg.Units {
		w.Units = append(w.Units, Unit(i%3, i))
	}
}

// Party is the URI of party n.
func Party(n int) string { return mustURI(gs1.PGLN, withCheck(fmt.Sprintf("950600%06d", n)), "") }

// Site is the URI of site n.
func Site(n int) string { return mustURI(gs1.SGLN, withCheck(fmt.Sprintf("950601%06d", n)), "") }

// GTIN is the GTIN-14 of product p.
func GTIN(p int) string { return withCheck(fmt.Sprintf("0950600%06d", 1000+p)) }

// Unit is the URI of serial n of product p.
func Unit(p, n int) string { return mustURI(gs1.SGTIN, GTIN(p), fmt.Sprintf("S%05d", n)) }

// Lot is the URI of lot n of product p.
func Lot(p, n int) string { return mustURI(gs1.LGTIN, GTIN(p), lotNumber(n)) }

func lotNumber(n int) string { return fmt.Sprintf("L%d", n) }

// Container is the URI of SSCC n.
func Container(n int) string { return mustURI(gs1.SSCC, withCheck(fmt.Sprintf("0950600%010d", n)), "") }

func withCheck(digits string) string { return digits + string(gs1.CheckDigit(digits)) }

func mustURI(s gs1.Scheme, key, ext string) string {
	id, err := gs1.New(s, key, ext)
	if err != nil {
		panic(err)
	}
	return id.URI()
}

func (w *World) newKey() ed25519.PrivateKey {
	w.keys++
	seed := sha256.Sum256(binary.BigEndian.AppendUint32([]byte("world key"), w.keys))
	return ed25519.NewKeyFromSeed(seed[:])
}

// publics keeps the checked public keys: checking is slow, and tests sign a lot.
var publics sync.Map

func key(k ed25519.PrivateKey) custody.Key {
	if pub, ok := publics.Load(string(k)); ok {
		return pub.(custody.Key)
	}
	pub, err := custody.NewKey(k.Public())
	if err != nil {
		panic(err)
	}
	publics.Store(string(k), pub)
	return pub
}

func record(k ed25519.PrivateKey) custody.KeyRecord { return key(k).Record() }

func (w *World) time() time.Time { return time.UnixMilli(int64(w.Now)).UTC() }

// Event makes the common fields of a statement by an actor, now.
func (w *World) Event(a *Actor, chain *custody.Chain) *custody.Event {
	w.events++
	at := w.time().Add(-time.Duration(w.R.IntN(600)) * time.Second)
	ev := &custody.Event{EventID: custody.NewEventID(at, bytes.NewReader(binary.BigEndian.AppendUint64([]byte("random"), uint64(w.events)))),
		OccurredAt: custody.FormatTime(at), Actor: a.URI, Chain: chain}
	if len(a.Sites) > 0 && w.R.IntN(3) > 0 {
		ev.Where = &custody.Where{Site: a.Sites[w.R.IntN(len(a.Sites))].ID}
	}
	return ev
}

// Build makes a statement; it panics on one that Parse refuses.
func (w *World) Build(kind custody.Kind, subject string, ev *custody.Event, body any) *custody.Statement {
	p, err := custody.NewPayload(kind, subject, w.Ledger, ev, body)
	if err != nil {
		panic(fmt.Sprintf("%s %s: %v", kind, subject, err))
	}
	s, err := custody.Parse(p)
	if err != nil {
		panic(err)
	}
	return s
}

// Signed makes an envelope without real signatures: the fold takes verified ones.
func Signed(s *custody.Statement, signers []ed25519.PrivateKey) *custody.Signed {
	out := &custody.Signed{Statement: s, Envelope: entry.Envelope{Payload: s.Payload}}
	for _, k := range signers {
		pub := key(k)
		if !slices.ContainsFunc(out.Envelope.Signatures, func(x entry.Signature) bool { return x.Key == pub.Hash }) {
			out.Envelope.Signatures = append(out.Envelope.Signatures, entry.Signature{Key: pub.Hash, Sig: make([]byte, 64)})
			out.Keys = append(out.Keys, pub)
		}
	}
	slices.SortFunc(out.Envelope.Signatures, func(a, b entry.Signature) int { return bytes.Compare(a.Key[:], b.Key[:]) })
	slices.SortFunc(out.Keys, func(a, b custody.Key) int { return bytes.Compare(a.Hash[:], b.Hash[:]) })
	return out
}

// Put submits a statement at the door, or past it when the operator is corrupt.
// It returns the effect and whether the statement is in the log.
func (w *World) Put(s *custody.Statement, signers []ed25519.PrivateKey) (custody.Effect, error) {
	it := custody.Item{Index: uint64(len(w.Items)), Time: w.Now, Signed: Signed(s, signers)}
	if m := custody.ManifestOf(w.St, s); !m.IsZero() {
		it.Members = w.Manifests[m]
	}
	var st custody.State = w.St
	if w.Wrap != nil {
		st = w.Wrap(st, it)
	}
	var eff custody.Effect
	var topics []entry.Topic
	d, err := custody.Decide(st, it)
	if err != nil {
		w.Refused[slug(err)]++
		if w.R.IntN(100) >= w.cfg.Corrupt {
			return custody.Effect{}, err
		}
		topics = custody.Topics(st, it)
		eff = custody.Fold{}.Apply(st, it)
	} else {
		eff, topics = d.Effect, d.Topics
	}
	for _, t := range topics {
		w.Lists[t] = append(w.Lists[t], it)
	}
	w.Items = append(w.Items, it)
	w.Effects = append(w.Effects, eff)
	w.note(s, it, eff)
	if w.After != nil {
		w.After(w.St, it, eff)
	}
	w.Now += uint64(w.R.IntN(4 * 3600 * 1000))
	return eff, nil
}

// List implements custody.Source.
func (w *World) List(t entry.Topic) ([]custody.Item, error) { return w.Lists[t], nil }

func (w *World) note(s *custody.Statement, it custody.Item, eff custody.Effect) {
	if s.Event == nil {
		return
	}
	if s.Kind != custody.KindFinding {
		w.named = append(w.named, s)
	}
	for _, m := range it.Members {
		delete(w.parsed, custody.UnitRef{URI: m.URI, Load: m.Load})
	}
	for _, u := range eff.Units {
		delete(w.parsed, u.Unit)
		if u.Kind.Chained() {
			w.ids[u.Unit] = append(w.ids[u.Unit], s.ID)
		}
		if s.Kind == custody.KindPack && s.Event.Load == "" && u.Unit.IsLoad() && u.Unit.Load == s.ID {
			w.Loads = append(w.Loads, u.Unit)
		}
	}
	if (s.Kind == custody.KindHold || s.Kind == custody.KindRefuse || s.Kind == custody.KindQAResult) && len(eff.Units) > 0 && eff.Units[0].Outcome == custody.Applied {
		w.holds = append(w.holds, s.ID)
	}
}
