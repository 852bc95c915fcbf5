package custody

import (
	"strings"

	"fabtrail.dev/fabtrail/ledger/entry"
)

const (
	// StatementType is the only accepted value of "_type".
	StatementType = "https://in-toto.io/Statement/v1"
	// PayloadType is the only accepted DSSE payload type.
	PayloadType = "application/vnd.in-toto+json"

	predicatePrefix = "https://fabtrail.dev/custody/"
	predicateSuffix = "/v1"

	// LogURIPrefix begins the subject of statements about the ledger itself; the
	// charter's origin follows.
	LogURIPrefix = "urn:fabtrail:log:"
	// ArtefactURIPrefix begins the subject of statements about an artefact; its
	// SHA-256 in lower-case hex follows.
	ArtefactURIPrefix = "urn:fabtrail:artefact:"
)

// Subjects is a set of kinds of subject.
type Subjects uint16

// The kinds of subject.
const (
	OnUnit      Subjects = 1 << iota // one serialised thing
	OnContainer                      // SSCC or ISO 6346
	OnLot
	OnProduct
	OnParty
	OnLog      // LogURIPrefix + origin
	OnArtefact // ArtefactURIPrefix + hex
)

// SignerRule names who must sign a predicate; RequiredSigners spells it out for
// one statement.
type SignerRule string

// The signer rules.
const (
	SignedByActor        SignerRule = "actor"                // exactly one key, of the actor
	SignedByBothOwners   SignerRule = "from and to"          // one key of each
	SignedByAuthorities  SignerRule = "authorities"          // the threshold
	SignedByCharterKeys  SignerRule = "charter"              // every authority key listed
	SignedByOldAndNew    SignerRule = "authority"            // threshold of the old, every new key
	SignedByEnrolment    SignerRule = "authorities and keys" // threshold, and every key listed
	SignedByKeyChange    SignerRule = "key"                  // rotate: old and new; revoke: the key or the authorities
	SignedByOwnerAndAuth SignerRule = "authorities and owner"
	SignedByActorOrAuth  SignerRule = "actor or authorities" // one key of the actor, or the threshold
)

// KindInfo is what is fixed about a predicate, whatever the state of the ledger.
type KindInfo struct {
	Kind     Kind
	Class    entry.Class // the class of its leaf
	Event    bool        // a unit statement or finding: carries the fields of Event
	Chained  bool        // carries chain.seq >= 0; others carry seq -1, prev null
	Subjects Subjects
	// Load says whether the subject is a load when it is a container:
	// "required", "optional" (void, dispute and finding repeat what they name;
	// pack opens a load without one), or "" when containers are not allowed.
	Load    string
	Signers SignerRule
	// MaxSigners bounds the signatures of one envelope.
	MaxSigners int
	newBody    func() any
	decode     decoder
	encode     encoder
}

const (
	loadRequired = "required"
	loadOptional = "optional"

	onAnyUnit = OnUnit | OnContainer
)

func governance[B any](k Kind, on Subjects, by SignerRule, n int) KindInfo {
	return KindInfo{Kind: k, Class: entry.Public, Subjects: on, Signers: by, MaxSigners: n,
		newBody: func() any { return new(B) }, decode: decodeGovernance[B], encode: encodeGovernance[B]}
}

func restricted(i KindInfo) KindInfo { i.Class = entry.Restricted; return i }

func unit[B any](k Kind, on Subjects, load string, chained bool) KindInfo {
	return KindInfo{Kind: k, Class: entry.Restricted, Event: true, Chained: chained, Subjects: on, Load: load,
		Signers: SignedByActor, MaxSigners: 1,
		newBody: func() any { return new(B) }, decode: decodeEvent[B], encode: encodeEvent[B]}
}

func coSigned(i KindInfo, by SignerRule, n int) KindInfo {
	i.Signers, i.MaxSigners = by, n
	return i
}

const most = entry.MaxSignatures

// kindTable is the closed table of predicates. Order: as in docs/formats.md.
var kindTable = []KindInfo{
	governance[Charter](KindCharter, OnLog, SignedByCharterKeys, most),
	governance[AuthorityChange](KindAuthority, OnLog, SignedByOldAndNew, most),
	governance[LogKey](KindLogKey, OnLog, SignedByAuthorities, most),
	governance[WitnessPolicy](KindWitnessPolicy, OnLog, SignedByAuthorities, most),
	governance[RuleSet](KindRuleSet, OnLog, SignedByAuthorities, most),
	governance[Party](KindParty, OnParty, SignedByEnrolment, most),
	governance[KeyChange](KindKey, OnParty, SignedByKeyChange, most),
	governance[Product](KindProduct, OnProduct, SignedByOwnerAndAuth, most),
	governance[Recall](KindRecall, OnUnit|OnProduct|OnLot|OnArtefact, SignedByActorOrAuth, most),
	restricted(governance[SerialBlock](KindSerialBlock, OnLot, SignedByActor, 1)),
	restricted(governance[RoutePolicy](KindRoutePolicy, OnProduct, SignedByActor, 1)),

	unit[Commission](KindCommission, OnUnit|OnLot, "", true),
	unit[Identity](KindIdentity, OnUnit, "", false),
	unit[Assemble](KindAssemble, OnUnit, "", true),
	unit[FirmwareLoad](KindFirmwareLoad, OnUnit, "", false),
	unit[QAResult](KindQAResult, onAnyUnit, loadRequired, false),
	unit[Pack](KindPack, OnContainer, loadOptional, true),
	unit[Unpack](KindUnpack, OnContainer, loadRequired, true),
	unit[Release](KindRelease, onAnyUnit, loadRequired, true),
	unit[Accept](KindAccept, onAnyUnit, loadRequired, true),
	unit[Refuse](KindRefuse, onAnyUnit, loadRequired, true),
	unit[Sighting](KindSighting, onAnyUnit, loadRequired, false),
	coSigned(unit[Ownership](KindOwnership, onAnyUnit, loadRequired, false), SignedByBothOwners, 2),
	unit[Install](KindInstall, OnUnit, "", true),
	unit[Uninstall](KindUninstall, OnUnit, "", true),
	unit[Hold](KindHold, onAnyUnit, loadRequired, false),
	unit[Lift](KindLift, onAnyUnit, loadRequired, false),
	unit[Retire](KindRetire, OnUnit, "", true),
	unit[Void](KindVoid, onAnyUnit|OnLot, loadOptional, false),
	unit[Dispute](KindDispute, onAnyUnit|OnLot, loadOptional, false),
	unit[Finding](KindFinding, onAnyUnit|OnLot|OnProduct|OnParty|OnLog, loadOptional, false),
}

var kindIndex = func() map[Kind]*KindInfo {
	m := make(map[Kind]*KindInfo, len(kindTable))
	for i := range kindTable {
		m[kindTable[i].Kind] = &kindTable[i]
	}
	return m
}()

// Kinds lists every predicate of version 1.
func Kinds() []Kind {
	ks := make([]Kind, len(kindTable))
	for i, k := range kindTable {
		ks[i] = k.Kind
	}
	return ks
}

// Info returns what is fixed about a predicate, and whether it is known.
func (k Kind) Info() (KindInfo, bool) {
	i, ok := kindIndex[k]
	if !ok {
		return KindInfo{}, false
	}
	return *i, true
}

// Class is the class of leaf that a predicate is logged under; 0 if unknown.
func (k Kind) Class() entry.Class {
	if i, ok := kindIndex[k]; ok {
		return i.Class
	}
	return 0
}

// Chained reports whether statements of this kind carry chain.seq and chain.prev.
func (k Kind) Chained() bool {
	i, ok := kindIndex[k]
	return ok && i.Chained
}

// Noun is the kind with its article, for sentences: "a release", "an accept".
func (k Kind) Noun() string {
	if k != "" && strings.ContainsRune("aeiou", rune(k[0])) {
		return "an " + string(k)
	}
	return "a " + string(k)
}

// PredicateType is the URI of a predicate.
func (k Kind) PredicateType() string { return predicatePrefix + string(k) + predicateSuffix }

// KindOf returns the kind of a predicate type, and whether it is known.
func KindOf(predicateType string) (Kind, bool) {
	name, ok := strings.CutPrefix(predicateType, predicatePrefix)
	if !ok {
		return "", false
	}
	if name, ok = strings.CutSuffix(name, predicateSuffix); !ok {
		return "", false
	}
	_, ok = kindIndex[Kind(name)]
	return Kind(name), ok
}
