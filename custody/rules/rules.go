package rules

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// Version is the rule set's version.
const Version = "1"

// Tier says what kind of knowledge a finding is.
type Tier string

// The tiers; they are never mixed.
const (
	Contradiction Tier = "contradiction" // cannot both be honest
	Policy        Tier = "policy"        // against what an owner signed
	Geography     Tier = "geography"     // against what distance allows
	Time          Tier = "time"          // late or absent
)

// Phase says whether a later entry may still explain a finding.
type Phase string

// The phases.
const (
	Provisional Phase = "provisional"
	Confirmed   Phase = "confirmed"
)

// Operator is the accused when the ledger itself is at fault.
const Operator = "operator"

// Rule is what is fixed about a rule.
type Rule struct {
	ID      string
	Tier    Tier
	Phase   Phase
	Closure bool           // a verifier of one unit draws it himself
	Weight  custody.Weight // how far it may push a verdict about the unit
	Words   string         // what is known, for people
}

// Table lists the rules of this version.
var Table = []Rule{
	{"DUP_COMMISSION", Contradiction, Confirmed, true, custody.WeightStop, "two statements bring the same serial into being"},
	{"DOUBLE_INSTALL", Contradiction, Confirmed, true, custody.WeightCheck, "two statements install the same device"},
	{"PART_TWICE", Contradiction, Confirmed, true, custody.WeightCheck, "two statements put the same part into different devices"},
	{"AFTER_END", Contradiction, Confirmed, true, custody.WeightCheck, "a statement uses a unit that was retired before"},
	{"FORK", Contradiction, Confirmed, true, custody.WeightCheck, "two statements by different parties follow the same statement"},
	{"COUNTER", Contradiction, Confirmed, true, custody.WeightCheck, "the device's own counter was used before"},
	{"DEVICE_KEY_TWICE", Contradiction, Confirmed, true, custody.WeightStop, "one device key is bound to two serials"},
	{"ADMITTED", Contradiction, Confirmed, true, custody.WeightBroken, "the log holds a statement that it should have refused"},
	{"SERIAL_NOT_IN_BLOCK", Policy, Confirmed, true, custody.WeightCheck, "the serial is not one that the product's owner allowed"},
	{"UNKNOWN_SERIAL", Policy, Confirmed, true, custody.WeightCheck, "the serial was never brought into being in this ledger"},
	{"WRONG_RECEIVER", Policy, Confirmed, true, custody.WeightCheck, "the unit was on its way to another party"},
	{"NON_CUSTODIAN", Policy, Confirmed, true, custody.WeightCheck, "the party did not hold the unit"},
	{"POSSESSION", Policy, Confirmed, true, custody.WeightCheck, "the device did not sign with the key that is bound to its serial"},
	{"LANE", Policy, Provisional, false, custody.WeightCheck, "no step of the product's route policy allows this hand-over"},
	{"MARKET", Policy, Provisional, true, custody.WeightCheck, "the goods are in a country where their lot may not be sold"},
	{"TRAVEL", Geography, Confirmed, true, custody.WeightCheck, "the places are too far apart for the time between them"},
}

// Get returns a rule by its ID.
func Get(id string) (Rule, bool) {
	i := slices.IndexFunc(Table, func(r Rule) bool { return r.ID == id })
	if i < 0 {
		return Rule{}, false
	}
	return Table[i], true
}

// Describe writes the rule set, a line a rule: what its digest covers.
func Describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "fabtrail/rules/v%s\n", Version)
	for _, r := range Table {
		fmt.Fprintf(&b, "%s %s %s closure=%t weight=%d: %s\n", r.ID, r.Tier, r.Phase, r.Closure, r.Weight, r.Words)
	}
	return b.String()
}

var digest = sha256.Sum256([]byte(Describe()))

// Digest identifies the rule set.
func Digest() entry.Hash { return digest }

// geodata is the digest of the tables that geography rests on.
var geodata = func() entry.Hash {
	var b []byte
	for _, s := range sines {
		b = binary.BigEndian.AppendUint32(b, uint32(s))
	}
	return sha256.Sum256(b)
}()

// Current is the rule set as a charter or rule-set statement names it.
func Current() custody.RuleSetRef {
	return custody.RuleSetRef{Version: Version, Rules: custody.DigestOf(digest), Geodata: custody.DigestOf(geodata)}
}

// Finding is what a rule concluded about one unit.
type Finding struct {
	Rule     Rule
	Accused  string // party URI, or Operator
	Unit     custody.UnitRef
	Evidence []uint64 // entry indexes, ascending, distinct
	Index    uint64   // the entry that completed it
}

// ID identifies the finding; see the package comment.
func (f Finding) ID() entry.Hash {
	h := sha256.New()
	h.Write([]byte("fabtrail/finding/v1\n"))
	h.Write(digest[:])
	h.Write([]byte{byte(len(f.Rule.ID))})
	h.Write([]byte(f.Rule.ID))
	unit := f.Unit.String()
	h.Write(binary.BigEndian.AppendUint16(nil, uint16(len(unit))))
	h.Write([]byte(unit))
	for _, i := range f.Evidence {
		h.Write(binary.BigEndian.AppendUint64(nil, i))
	}
	return entry.Hash(h.Sum(nil))
}

// Body writes the finding as a statement's body.
func (f Finding) Body() *custody.Finding {
	u := custody.FindingUnit{URI: f.Unit.URI}
	if f.Unit.IsLoad() {
		u.Load = f.Unit.Load.String()
	}
	return &custody.Finding{
		Rule: f.Rule.ID, Tier: string(f.Rule.Tier), Phase: string(f.Rule.Phase), Accused: f.Accused,
		Units: []custody.FindingUnit{u}, Evidence: f.Evidence, ID: f.ID().String(),
		RuleSet: Version, Words: f.Rule.Words,
	}
}
