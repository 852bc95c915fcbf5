package layout

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/in-toto/in-toto-golang/in_toto"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// LayoutFile is the name of the Layout's file.
const LayoutFile = "root.layout"

// AsOf is the checkpoint under which the exporter verified the history.
type AsOf struct {
	Origin string
	Size   uint64
	Root   string // hex
	Time   string // of the witnesses' quorum, RFC 3339; "" without witnesses
	// Complete says that an index-verifying cosigner stands behind it.
	Complete bool
}

// Input is what an export is made from.
type Input struct {
	History  *custody.History
	Verdict  custody.Verdict
	Findings []custody.Conclusion
	AsOf     AsOf
	Expires  time.Time
	// Receipt gives the receipt (C2SP tlog-proof) of a statement that becomes a
	// Link; none is at hand where it returns nothing. It may be nil.
	Receipt func(custody.Item) ([]byte, error)
	// Signers are the exporter's keys; each signs the Layout. At least one.
	Signers []crypto.Signer
	// NewKey makes the key that stands for one party; nil: a new Ed25519 key.
	NewKey func() (crypto.Signer, error)
}

// Export is a Layout with its Links, signed.
type Export struct {
	Layout []byte            // DSSE envelope
	Links  map[string][]byte // DSSE envelopes by file name, STEP.KEYID8.link
	Steps  []Step
	Notes  []string // what a reader should know beside the verdict
	// Receipts is how many of the Links carry a receipt.
	Receipts int
}

// Step says in short what a step of the Layout is.
type Step struct {
	Name       string   `json:"name"`
	Statements []string `json:"statements"` // IDs
	Parties    []string `json:"parties"`
}

// Build makes the export. A unit that is not good, or whose history is not
// closed, is refused with a *problem.Problem.
func Build(in Input) (*Export, error) {
	if len(in.Signers) == 0 {
		return nil, errors.New("a layout needs a key that signs it")
	}
	if err := good(in); err != nil {
		return nil, err
	}
	steps, err := route(in.History)
	if err != nil {
		return nil, err
	}
	if in.NewKey == nil {
		in.NewKey = func() (crypto.Signer, error) { return custody.GenerateKey(custody.Ed25519) }
	}
	b := &builder{in: in, unit: ArtifactName(in.History.Ref.URI), roles: map[string]*standIn{}, out: &Export{Links: map[string][]byte{}, Notes: []string{}}}
	for _, r := range in.Verdict.Reasons {
		if !r.Passed {
			b.out.Notes = append(b.out.Notes, r.Code+": "+r.Text)
		}
	}
	width := len(fmt.Sprint(len(steps)))
	var doc []in_toto.Step
	for i, s := range steps {
		s.name = fmt.Sprintf("%0*d-%s", width, i+1, s.name)
		st, err := b.step(s)
		if err != nil {
			return nil, err
		}
		doc = append(doc, st)
		b.before, b.state = s.name, s.state
	}
	return b.out, b.layout(doc)
}

// standIn is the key that stands for one party in this export.
type standIn struct {
	key crypto.Signer
	pub in_toto.Key
}

type builder struct {
	in     Input
	unit   string // its name as an artefact
	before string // name of the step before
	state  entry.Hash
	roles  map[string]*standIn
	order  []string // keys of roles in order of appearance
	out    *Export
}

// standIn returns the key of a role: a party, or a party as its own receiver.
func (b *builder) standIn(role string) (*standIn, error) {
	if s, ok := b.roles[role]; ok {
		return s, nil
	}
	key, err := b.in.NewKey()
	if err != nil {
		return nil, err
	}
	pub, err := PublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	for _, s := range b.roles {
		if s.pub.KeyID[:8] == pub.KeyID[:8] { // the name of a Link holds no more of it
			return nil, errors.New("two keys of this export have IDs that begin alike; export again")
		}
	}
	b.roles[role] = &standIn{key, pub}
	b.order = append(b.order, role)
	return b.roles[role], nil
}

// step writes the Links of a step and returns the step.
func (b *builder) step(s step) (in_toto.Step, error) {
	st := in_toto.Step{Type: "step", PubKeys: []string{}, ExpectedCommand: []string{}, Threshold: len(s.files),
		SupplyChainItem: in_toto.SupplyChainItem{Name: s.name}}
	materials, products := map[string]in_toto.HashObj{}, map[string]in_toto.HashObj{}
	products[b.unit] = sha256Of(s.state)
	made := "MODIFY"
	if b.before == "" {
		made = "CREATE"
	} else {
		materials[b.unit] = sha256Of(b.state)
		st.ExpectedMaterials = append(st.ExpectedMaterials, []string{"REQUIRE", b.unit}, []string{"MATCH", b.unit, "WITH", "PRODUCTS", "FROM", b.before})
	}
	st.ExpectedProducts = append(st.ExpectedProducts, []string{"REQUIRE", b.unit}, []string{made, b.unit})
	for _, p := range s.parts {
		name := ArtifactName(p.uri)
		rules := [][]string{{"REQUIRE", name}, {"ALLOW", name}}
		if p.out {
			products[name] = sha256Of(p.state)
			st.ExpectedProducts = append(st.ExpectedProducts, rules...)
		} else {
			materials[name] = sha256Of(p.state)
			st.ExpectedMaterials = append(st.ExpectedMaterials, rules...)
		}
	}
	st.ExpectedMaterials = append(st.ExpectedMaterials, []string{"DISALLOW", "*"})
	st.ExpectedProducts = append(st.ExpectedProducts, []string{"DISALLOW", "*"})
	brief := Step{Name: s.name}
	for i, it := range s.files {
		actor := it.Signed.Statement.Event.Actor
		role := actor
		if i > 0 && actor == s.files[0].Signed.Statement.Event.Actor {
			role += " as receiver"
		}
		who, err := b.standIn(role)
		if err != nil {
			return st, err
		}
		link, err := b.link(s.name, it, role, materials, products)
		if err != nil {
			return st, err
		}
		signed, err := sign(link, who.key)
		if err != nil {
			return st, err
		}
		b.out.Links[fmt.Sprintf(in_toto.LinkNameFormat, s.name, who.pub.KeyID)] = signed
		st.PubKeys = append(st.PubKeys, who.pub.KeyID)
		brief.Statements = append(brief.Statements, it.ID().String())
		brief.Parties = append(brief.Parties, actor)
	}
	b.out.Steps = append(b.out.Steps, brief)
	return st, nil
}

func sha256Of(h entry.Hash) in_toto.HashObj { return in_toto.HashObj{"sha256": h.String()} }

// link is what the actor of a statement would have filed.
func (b *builder) link(name string, it custody.Item, role string, materials, products map[string]in_toto.HashObj) ([]byte, error) {
	s := it.Signed.Statement
	keys := make([]string, len(it.Signed.Envelope.Signatures))
	for i, sig := range it.Signed.Envelope.Signatures {
		keys[i] = sig.Key.String()
	}
	by := map[string]any{"statement": string(custody.DSSE{Payload: s.Payload, Signatures: it.Signed.Envelope.Signatures}.Marshal())}
	if b.in.Receipt != nil {
		r, err := b.in.Receipt(it)
		if err != nil {
			return nil, err
		}
		if len(r) > 0 {
			by["receipt"] = string(r)
			b.out.Receipts++
		}
	}
	return json.Marshal(in_toto.Link{Type: "link", Name: name, Materials: materials, Products: products, Command: []string{}, ByProducts: by,
		Environment: map[string]any{
			"unit":        b.in.History.Ref.URI,
			"party":       s.Event.Actor,
			"role":        role,
			"predicate":   s.Kind.PredicateType(),
			"subject":     s.Subject,
			"statementId": s.ID.String(),
			"ledger":      s.Ledger.String(),
			"log":         b.in.AsOf.Origin,
			"logIndex":    fmt.Sprint(it.Index),
			"admittedAt":  time.UnixMilli(int64(min(it.Time, 1<<48))).UTC().Format(time.RFC3339),
			"occurredAt":  s.Event.OccurredAt,
			"keyIds":      keys,
		}})
}

// layout writes and signs the Layout.
func (b *builder) layout(steps []in_toto.Step) error {
	l := in_toto.Layout{Type: "layout", Steps: steps, Inspect: []in_toto.Inspection{}, Keys: map[string]in_toto.Key{},
		Expires: b.in.Expires.UTC().Format(in_toto.ISO8601DateSchema), Readme: b.readme()}
	for _, s := range b.roles {
		l.Keys[s.pub.KeyID] = s.pub
	}
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	b.out.Layout, err = sign(text, b.in.Signers...)
	return err
}

func (b *builder) readme() string {
	var w strings.Builder
	a := b.in.AsOf
	fmt.Fprintf(&w, "Custody of %s.\n\n", b.in.History.Ref.URI)
	fmt.Fprintf(&w, "The signer of this layout verified the whole history of this unit in the ledger %s (charter %s) as of size %d, root %s",
		a.Origin, b.ledger(), a.Size, a.Root)
	if a.Time != "" {
		fmt.Fprintf(&w, ", cosigned by its witnesses at %s", a.Time)
	}
	if !a.Complete {
		w.WriteString("; that nothing was left out is the operator's word")
	}
	fmt.Fprintf(&w, ". Verdict: %s.\n", b.in.Verdict.Word)
	for _, n := range b.out.Notes {
		fmt.Fprintf(&w, "  %s\n", n)
	}
	w.WriteString(`
The parties signed statements of custody, not these links. The signer of this
layout made each link from the statement named in its environment, and signed it
with a key that stands for the party in this export alone and was then forgotten.
The statement as the party signed it, with its receipt, is in the link's
byproducts. A hand-over needs the links of both parties. The digests are IDs of
statements. Whether the unit is good today, ask the ledger.

Keys and whom they stand for:
`)
	for _, role := range b.order {
		fmt.Fprintf(&w, "  %s %s\n", b.roles[role].pub.KeyID, role)
	}
	return w.String()
}

func (b *builder) ledger() entry.Hash {
	if it, ok := b.in.History.Item(0); ok {
		return it.ID()
	}
	return entry.Hash{}
}

// PublicKey is a public key as in-toto knows it: its ID is that which in-toto's
// own tools compute from the key's PEM file.
func PublicKey(pub crypto.PublicKey) (in_toto.Key, error) {
	k, err := custody.NewKey(pub)
	if err != nil {
		return in_toto.Key{}, err
	}
	var key in_toto.Key
	err = key.LoadKeyReaderDefaults(bytes.NewReader(custody.MarshalPublicKey(k)))
	return key, err
}

// sign wraps what in-toto signs in a DSSE envelope. Signatures name keys by
// in-toto's IDs.
func sign(payload []byte, signers ...crypto.Signer) ([]byte, error) {
	d := custody.DSSE{Payload: payload}
	for _, s := range signers {
		pub, err := PublicKey(s.Public())
		if err != nil {
			return nil, err
		}
		id, err := entry.ParseHash(pub.KeyID)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(d.Signatures, func(x entry.Signature) bool { return x.Key == id }) {
			continue
		}
		sig, err := custody.SignMessage(s, custody.PAE(payload))
		if err != nil {
			return nil, err
		}
		d.Signatures = append(d.Signatures, entry.Signature{Key: id, Sig: sig})
	}
	return d.Marshal(), nil
}
