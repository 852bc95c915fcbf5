package custody

import (
	"github.com/go-json-experiment/json/jsontext"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// Kind is the name of a predicate: the <name> of
// https://fabtrail.dev/custody/<name>/v1.
type Kind string

// The predicates of version 1.
const (
	KindCharter       Kind = "charter"
	KindAuthority     Kind = "authority"
	KindLogKey        Kind = "log-key"
	KindWitnessPolicy Kind = "witness-policy"
	KindRuleSet       Kind = "rule-set"
	KindParty         Kind = "party"
	KindKey           Kind = "key"
	KindProduct       Kind = "product"
	KindRecall        Kind = "recall"
	KindSerialBlock   Kind = "serial-block"
	KindRoutePolicy   Kind = "route-policy"
	KindCommission    Kind = "commission"
	KindIdentity      Kind = "identity"
	KindAssemble      Kind = "assemble"
	KindFirmwareLoad  Kind = "firmware-load"
	KindQAResult      Kind = "qa-result"
	KindPack          Kind = "pack"
	KindUnpack        Kind = "unpack"
	KindRelease       Kind = "release"
	KindAccept        Kind = "accept"
	KindRefuse        Kind = "refuse"
	KindSighting      Kind = "sighting"
	KindOwnership     Kind = "ownership"
	KindInstall       Kind = "install"
	KindUninstall     Kind = "uninstall"
	KindHold          Kind = "hold"
	KindLift          Kind = "lift"
	KindRetire        Kind = "retire"
	KindVoid          Kind = "void"
	KindDispute       Kind = "dispute"
	KindFinding       Kind = "finding"
)

// Statement is one parsed in-toto Statement v1. It is immutable after Parse.
type Statement struct {
	ID      entry.Hash // SHA-256 of Payload
	Kind    Kind
	Subject string     // canonical URI
	Ledger  entry.Hash // SHA-256 of the charter's payload; zero in a charter
	Event   *Event     // the common fields of unit statements; nil for governance
	Body    any        // pointer to the body type of Kind, e.g. *Pack
	Payload []byte     // the signed bytes as they came

	introduced []Key // see IntroducedKeys
	device     Key   // see DeviceKey; Hash is zero if there is none
}

// Event holds the fields that every unit statement (and finding) carries.
type Event struct {
	EventID    string               `json:"eventId"`
	OccurredAt string               `json:"occurredAt"` // RFC 3339 UTC
	Actor      string               `json:"actor"`      // party URI
	Role       string               `json:"role,omitzero"`
	Load       string               `json:"load,omitzero"` // hex ID of the opening pack
	Chain      *Chain               `json:"chain"`
	Where      *Where               `json:"where,omitzero"`
	Evidence   []Evidence           `json:"evidence,omitzero"`
	EPCIS      *EPCISRef            `json:"epcis,omitzero"`
	Sealed     map[string]SealedRef `json:"sealed,omitzero"`
	Device     *DeviceProof         `json:"device,omitzero"`
	Ext        jsontext.Value       `json:"ext,omitzero"`
}

// Chain links a statement to its unit's previous one. Predicates that do not
// chain carry Seq -1 and Prev nil.
type Chain struct {
	Seq  int64   `json:"seq"`
	Prev *Digest `json:"prev"`
}

// Digest is a DigestSet with the one algorithm that Fabtrail uses.
type Digest struct {
	SHA256 string `json:"sha256"`
}

// Where is the place that the actor claims.
type Where struct {
	Site    string `json:"site,omitzero"`    // GLN Digital Link
	Locode  string `json:"locode,omitzero"`  // UN/LOCODE
	Country string `json:"country,omitzero"` // ISO 3166-1 alpha-2
	Geo     string `json:"geo,omitzero"`     // RFC 5870, e.g. geo:22.6163,120.3133;u=50
}

// Evidence names an object outside the log by digest.
type Evidence struct {
	Name      string `json:"name,omitzero"`
	MediaType string `json:"mediaType,omitzero"`
	Digest    Digest `json:"digest"`
}

// EPCISRef joins a statement to the EPCIS event that it was made from.
type EPCISRef struct {
	EventID string `json:"eventId,omitzero"`
	HashID  string `json:"hashId,omitzero"`
}

// SealedRef commits to a group of fields that is disclosed apart.
type SealedRef struct {
	Alg    string `json:"alg"` // sha256-salted-v1
	Digest string `json:"digest"`
}

// DeviceProof is a device's own signature over a statement about it.
type DeviceProof struct {
	Counter uint64 `json:"counter"`
	Sig     string `json:"sig"` // base64
}

// KeyRecord enrols a public key.
type KeyRecord struct {
	SPKI       string `json:"spki"` // base64 DER SubjectPublicKeyInfo
	Use        string `json:"use,omitzero"`
	Protection string `json:"protection,omitzero"`
}

// Site is a place declared by a party.
type Site struct {
	ID      string `json:"id"` // GLN Digital Link, canonical
	Country string `json:"country"`
	Locode  string `json:"locode,omitzero"`
	Geo     string `json:"geo,omitzero"`
}

// Authority is one holder of an authority key.
type Authority struct {
	Party string    `json:"party"`
	Key   KeyRecord `json:"key"`
}

// Charter is entry 0: who governs this ledger. Signed by every authority key.
type Charter struct {
	Origin      string      `json:"origin"`
	Authorities []Authority `json:"authorities"`
	Threshold   int64       `json:"threshold"` // distinct authority parties
	Operator    Authority   `json:"operator"`  // signs findings
	RuleSet     RuleSetRef  `json:"ruleSet"`
	CreatedAt   string      `json:"createdAt"`
}

// RuleSetRef names a version of the rules and of the geodata they use.
type RuleSetRef struct {
	Version string `json:"version"`
	Rules   Digest `json:"rules"`
	Geodata Digest `json:"geodata"`
}

// AuthorityChange replaces the authorities. Signed by the threshold of the old
// ones and by every new key.
type AuthorityChange struct {
	Authorities []Authority `json:"authorities"`
	Threshold   int64       `json:"threshold"`
}

// LogKey succeeds or freezes the log's key. Signed by the authorities.
type LogKey struct {
	Action string `json:"action"` // succeed, freeze
	VKey   string `json:"vkey,omitzero"`
}

// WitnessPolicy dates a change of the tlog-policy. Signed by the authorities.
type WitnessPolicy struct {
	Policy string `json:"policy"` // the whole text of policy.txt
}

// RuleSet puts a rule set in force. Signed by the authorities.
type RuleSet struct {
	RuleSetRef
}

// Party enrols a party with its sites and keys, or replaces its names, roles
// and sites. Subject: the party's URI. Signed by the authorities and by every
// key listed in it.
type Party struct {
	LegalName string      `json:"legalName"`
	Roles     []string    `json:"roles"`
	Sites     []Site      `json:"sites,omitzero"`
	Keys      []KeyRecord `json:"keys,omitzero"`
}

// KeyChange rotates or revokes a party's key. Subject: the party's URI.
// rotate: signed by old and new; revoke: by that key or by the authorities.
type KeyChange struct {
	Action           string     `json:"action"` // rotate, revoke
	Key              Digest     `json:"key"`    // SPKI hash of the key that ends
	New              *KeyRecord `json:"new,omitzero"`
	Reason           string     `json:"reason,omitzero"`
	CompromisedSince string     `json:"compromisedSince,omitzero"`
}

// Product assigns a GTIN to its owner. Subject: https://id.gs1.org/01/{gtin}.
// Signed by the authorities and by the owner.
type Product struct {
	Owner string `json:"owner"`
	Name  string `json:"name,omitzero"`
	Kind  string `json:"kind,omitzero"` // chip, module, board, device
}

// Recall names what must not be used. Subject: the URI of unit, product or lot,
// or urn:fabtrail:artefact:<sha256>. Signed by the product's owner or by the
// authorities.
type Recall struct {
	Actor    string   `json:"actor"`
	Action   string   `json:"action"` // open, close
	Selector Selector `json:"selector"`
	Closes   *Digest  `json:"closes,omitzero"` // the recall that a closing one ends
	Reason   string   `json:"reason,omitzero"`
	Remedy   string   `json:"remedy,omitzero"`
	Advisory string   `json:"advisory,omitzero"`
}

// Selector says what a recall is about; exactly one of the first four is set.
type Selector struct {
	Unit     string   `json:"unit,omitzero"`
	Product  string   `json:"product,omitzero"` // GTIN-14
	Lot      string   `json:"lot,omitzero"`     // canonical Digital Link of GTIN and lot
	Artefact *Digest  `json:"artefact,omitzero"`
	GTINs    []string `json:"gtins,omitzero"` // with Artefact: the products it is for
}

// SerialBlock allows a lot to be commissioned. Subject: the lot's URI. Signed by
// the GTIN's owner.
type SerialBlock struct {
	Actor         string   `json:"actor"`
	Serials       []string `json:"serials,omitzero"`
	Count         int64    `json:"count,omitzero"`
	Commissioners []string `json:"commissioners"`
	Countries     []string `json:"countries,omitzero"` // where its units may be sold
}

// RoutePolicy says which hand-overs a product may make. Subject: the product's
// URI. Signed by the GTIN's owner.
type RoutePolicy struct {
	Actor string      `json:"actor"`
	Steps []RouteStep `json:"steps"`
}

// RouteStep allows hand-overs from one of From to one of To.
type RouteStep struct {
	ID        string   `json:"id"`
	From      []string `json:"from"`
	To        []string `json:"to"`
	Countries []string `json:"countries,omitzero"`
	Modes     []string `json:"modes,omitzero"`
	MaxHours  int64    `json:"maxHours,omitzero"`
}

// Contents names a manifest: SHA-256 of its bytes, the RFC 6962 root over its
// members, and their number.
type Contents struct {
	Manifest string `json:"manifest"`
	Root     string `json:"root"`
	Count    int64  `json:"count"`
}

// DeviceIdentity binds a device key to a serial.
type DeviceIdentity struct {
	SPKI          string `json:"spki"` // base64 DER
	KeyOrigin     string `json:"keyOrigin,omitzero"`
	KeyProtection string `json:"keyProtection,omitzero"`
}

// Commission brings a unit into being, or many by manifest (subject: the lot).
type Commission struct {
	UnitKind string          `json:"kind"` // chip, module, board, device, ...
	Model    string          `json:"model,omitzero"`
	Lot      string          `json:"lot,omitzero"` // lot number, AI 10
	Identity *DeviceIdentity `json:"identity,omitzero"`
	Pedigree string          `json:"pedigree,omitzero"` // hex PedigreeDigest of the key printed beside the serial
	Contents *Contents       `json:"contents,omitzero"`
}

// Identity moves a device's identity. State: bootstrap, registered,
// operational, renewed, suspended, revoked.
type Identity struct {
	State      string `json:"state"`
	SPKI       string `json:"spki,omitzero"` // base64 DER of the key bound
	CertSHA256 string `json:"certSha256,omitzero"`
	ValidUntil string `json:"validUntil,omitzero"`
}

// Assemble puts components into the subject, or takes them out.
type Assemble struct {
	Action     string      `json:"action"` // add, remove
	Components []Component `json:"components"`
}

// Component is a serialised part (URI and Head) or a quantity of a lot (Lot).
type Component struct {
	URI      string  `json:"uri,omitzero"`
	Head     *Digest `json:"head,omitzero"`
	Lot      string  `json:"lot,omitzero"`
	Quantity int64   `json:"quantity,omitzero"`
	Position string  `json:"position,omitzero"`
}

// FirmwareLoad records the image written to a device.
type FirmwareLoad struct {
	Image   Digest  `json:"image"`
	Version string  `json:"version"`
	Slot    string  `json:"slot,omitzero"`
	SBOM    *Digest `json:"sbom,omitzero"`
}

// QAResult uses the field names of in-toto test-result.
type QAResult struct {
	Result      string   `json:"result"` // PASSED, WARNED, FAILED
	PassedTests []string `json:"passedTests,omitzero"`
	FailedTests []string `json:"failedTests,omitzero"`
}

// Pack opens a load of a container (chain.prev null) or adds to one (Event.Load
// set).
type Pack struct {
	Level    int64    `json:"level,omitzero"` // 1 to 8, signed by the opening
	Contents Contents `json:"contents"`
	Seals    []Seal   `json:"seals,omitzero"`
}

// Unpack takes members out of a load.
type Unpack struct {
	Contents Contents `json:"contents"`
	Seals    []Seal   `json:"seals,omitzero"`
}

// Seal is a security seal (ISO 17712).
type Seal struct {
	Number   string `json:"number"`
	Issuer   string `json:"issuer,omitzero"`
	Standard string `json:"standard,omitzero"`
	Check    string `json:"check,omitzero"` // applied, intact, broken, mismatch, missing
}

// Release is the sender's half of a hand-over.
type Release struct {
	From      string     `json:"from"`
	To        string     `json:"to"`
	AcceptBy  string     `json:"acceptBy,omitzero"`
	Lane      *Lane      `json:"lane,omitzero"`
	Transport *Transport `json:"transport,omitzero"`
	Seals     []Seal     `json:"seals,omitzero"`
}

// Lane cites the step of a route policy that a release follows.
type Lane struct {
	Policy Digest `json:"policy"`
	Step   string `json:"step"`
}

// Transport says how goods move.
type Transport struct {
	Mode      string `json:"mode,omitzero"` // road, air, sea, rail
	Equipment string `json:"equipment,omitzero"`
}

// Accept is the receiver's half of a hand-over.
type Accept struct {
	Accepts       Digest   `json:"accepts"` // the release
	Condition     string   `json:"condition,omitzero"`
	Counted       *Counted `json:"counted,omitzero"`
	Discrepancies []string `json:"discrepancies,omitzero"`
	Seals         []Seal   `json:"seals,omitzero"`
}

// Counted is what the receiver found.
type Counted struct {
	Level    string `json:"level,omitzero"`
	Expected int64  `json:"expected"`
	Actual   int64  `json:"actual"`
}

// Refuse turns a release down: the unit is held by the sender again, on hold.
type Refuse struct {
	Refuses Digest `json:"refuses"`
	Reason  string `json:"reason"`
}

// Sighting says that a unit was seen. It never changes state.
type Sighting struct {
	Method string `json:"method"` // scan, rfid, telemetry
}

// Ownership passes title. Signed by both parties in one envelope.
type Ownership struct {
	From  string `json:"from"`
	To    string `json:"to"`
	Basis string `json:"basis,omitzero"`
}

// Install puts a device into use. The exact place is sealed.
type Install struct {
	Acceptance string `json:"acceptance,omitzero"`
}

// Uninstall releases an installed device to a party.
type Uninstall struct {
	To     string `json:"to"`
	Reason string `json:"reason,omitzero"`
}

// Hold stops a unit or load. By the holder, the GTIN's owner, a regulator or
// the authorities.
type Hold struct {
	Reason string `json:"reason"` // quarantine, suspect, stolen, regulatory
	Note   string `json:"note,omitzero"`
}

// Lift ends a hold.
type Lift struct {
	Lifts  Digest `json:"lifts"`
	Reason string `json:"reason,omitzero"`
}

// Retire ends a unit.
type Retire struct {
	Reason string `json:"reason"` // endOfLife, destroyed, lost, stolen, exported
}

// Void takes back the actor's own latest statement.
type Void struct {
	Voids       Digest  `json:"voids"`
	Reason      string  `json:"reason"` // did_not_occur, incorrect_data
	CorrectedBy *Digest `json:"correctedBy,omitzero"`
}

// Dispute contradicts a statement without changing state.
type Dispute struct {
	Disputes Digest `json:"disputes"`
	Claim    string `json:"claim"`
}

// Finding is what a rule concluded. It is never an input of the fold.
type Finding struct {
	Rule     string        `json:"rule"`
	Tier     string        `json:"tier"`  // contradiction, policy, geography, time
	Phase    string        `json:"phase"` // provisional, confirmed, withdrawn
	Accused  string        `json:"accused"`
	Units    []FindingUnit `json:"units"`
	Evidence []uint64      `json:"entries"` // entry indexes, ascending ("evidence" is Event's)
	ID       string        `json:"findingId"`
	RuleSet  string        `json:"ruleSet"`
	Words    string        `json:"words,omitzero"`
}

// FindingUnit is a unit, or a load when Load is set, that a finding speaks of.
type FindingUnit struct {
	URI  string `json:"uri"`
	Load string `json:"load,omitzero"`
}
