// Package rules concludes findings from a ledger's entries: what two statements
// cannot both truly say, what breaks a policy that its owner has signed, what no
// journey allows. It is a pure function of the entries [0, i]: the same prefix
// gives the same findings, byte for byte. It knows no clock, no float and no map
// order; "now" is the time that entries were admitted.
//
// A finding names whom it accuses and the log indexes that show it. Words say
// what is known ("two statements claim the same hand-over"), never "fake".
//
// # Identity
//
//	finding id = SHA-256("fabtrail/finding/v1\n" | rule set version | "\n" | rule | "\n" | unit | "\n" |
//	             count u64 | entry indexes u64, ascending)
//
// unit is the subject of the statement that completed the finding: its URI, or
// container URI, space and hex ID of the load (for the pack that opens a load,
// that load). One statement about many units makes one finding per set of evidence,
// and so whoever sees only one of the units computes the same id.
//
// # Closure-local rules
//
// A rule is local if all that it reads lies in the closure of the unit that it
// speaks of: whoever verifies the unit runs it; LANE, whoever may see the route policies
// of its product. The others count for a verifier only through a logged finding.
//
// # What does not fire
//
// Retries and repeats by the same party within a day; statements that tell of a
// time before the state that they contradict (late uploads); a holder's own
// mistakes, which hurt nobody; double scans.
package rules

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// Version is the version of the rule set.
const Version = "1"

// The tiers of findings.
const (
	Contradiction = "contradiction" // two signed statements cannot both be honest
	Policy        = "policy"        // against what an owner or authority has signed
	Geography     = "geography"     // no journey allows it
	Time          = "time"          // late, or absent
)

// The phases of findings.
const (
	Provisional = "provisional"
	Confirmed   = "confirmed"
	Withdrawn   = "withdrawn"
)

// ID names a rule.
type ID string

// The rules of version 1.
const (
	Fork             ID = "FORK"
	DupCommission    ID = "DUP_COMMISSION"
	DoubleInstall    ID = "DOUBLE_INSTALL"
	WrongReceiver    ID = "WRONG_RECEIVER"
	NonCustodian     ID = "NON_CUSTODIAN"
	UnknownSerial    ID = "UNKNOWN_SERIAL"
	SerialNotInBlock ID = "SERIAL_NOT_IN_BLOCK"
	Market           ID = "MARKET"
	Lane             ID = "LANE"
	Travel           ID = "TRAVEL"
	PartTwice        ID = "PART_TWICE"
	Quota            ID = "QUOTA"
	Possession       ID = "POSSESSION"
	DeviceKeyTwice   ID = "DEVICE_KEY_TWICE"
	Counter          ID = "COUNTER"
	AfterEnd         ID = "AFTER_END"
	KeyRevoked       ID = "KEY_REVOKED"
	Admission        ID = "ADMISSION"
)

// Rule is what is fixed about a rule.
type Rule struct {
	ID    ID
	Tier  string
	Local bool // see the package comment
	// Weight is how far it may push a verdict, if the party accused is no stranger
	// to the unit.
	Weight custody.Weight
	Text   string // what it concludes, in plain words
}

// Table lists the rules, ascending by ID.
var Table = []Rule{
	{Admission, Contradiction, true, custody.WeightBroken, "the operator admitted a statement that the door refuses"},
	{AfterEnd, Contradiction, true, custody.WeightCheck, "a retired unit was used or seen"},
	{Counter, Contradiction, true, custody.WeightStop, "a device's counter did not grow: two devices sign with one key"},
	{DeviceKeyTwice, Contradiction, true, custody.WeightStop, "one device key was bound to two serials"},
	{DoubleInstall, Contradiction, true, custody.WeightStop, "a unit in use was installed again"},
	{DupCommission, Contradiction, true, custody.WeightStop, "a live serial was commissioned again"},
	{Fork, Contradiction, true, custody.WeightCheck, "two statements claim the same place in a unit's history"},
	{KeyRevoked, Contradiction, true, custody.WeightBroken, "the operator admitted a statement signed with a key that had ended"},
	{Lane, Policy, true, custody.WeightCheck, "a hand-over that no step of the product's route policy allows"},
	{Market, Policy, true, custody.WeightCheck, "units came to market outside the countries that their serial block allows"},
	{NonCustodian, Policy, true, custody.WeightCheck, "a party acted on a unit that it did not hold"},
	{PartTwice, Contradiction, true, custody.WeightCheck, "one part was built into two devices"},
	{Possession, Contradiction, true, custody.WeightCheck, "a device signed that is not the one whose key is bound to the serial"},
	{Quota, Policy, false, custody.WeightCheck, "more units of a lot were commissioned than its serial blocks allow"},
	{SerialNotInBlock, Policy, true, custody.WeightCheck, "a serial was commissioned that no serial block gives to that party"},
	{Travel, Geography, true, custody.WeightCheck, "a unit was in two places that no journey joins in the time between"},
	{UnknownSerial, Policy, true, custody.WeightCheck, "a statement tells of a serial that nobody has commissioned"},
	{WrongReceiver, Policy, true, custody.WeightCheck, "a party accepted or refused what was released to somebody else"},
}

// Lookup returns a rule by its ID.
func Lookup(id ID) (Rule, bool) {
	i, ok := slices.BinarySearchFunc(Table, id, func(r Rule, id ID) int {
		switch {
		case r.ID < id:
			return -1
		case r.ID > id:
			return 1
		}
		return 0
	})
	if !ok {
		return Rule{}, false
	}
	return Table[i], true
}

// Current is the rule set that this package computes, as charters and rule-set
// statements name it.
func Current() custody.RuleSetRef {
	h := sha256.New()
	fmt.Fprintf(h, "fabtrail/rules/v1\n%s\n", Version)
	for _, r := range Table {
		fmt.Fprintf(h, "%s %s %t %d %s\n", r.ID, r.Tier, r.Local, r.Weight, r.Text)
	}
	fmt.Fprintf(h, "day=%d\nspeed=%d\nslack=%d\nnear=%d\nearth=%d\nconfirm=%d\n", dayMillis, maxSpeed, travelSlack, nearMetres, earthRadius, confirmAfter)
	var rules entry.Hash
	h.Sum(rules[:0])
	return custody.RuleSetRef{Version: Version, Rules: custody.DigestOf(rules), Geodata: custody.DigestOf(geodataDigest())}
}

// FindingID computes the id of a finding; see the package comment. evidence must
// be ascending.
func FindingID(rule ID, unit custody.UnitRef, evidence []uint64) entry.Hash {
	b := []byte("fabtrail/finding/v1\n" + Version + "\n" + string(rule) + "\n" + unit.String() + "\n")
	b = binary.BigEndian.AppendUint64(b, uint64(len(evidence)))
	for _, n := range evidence {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return sha256.Sum256(b)
}
