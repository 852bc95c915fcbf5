// Package rules draws findings from what entries did: who claimed what cannot be,
// and the entries that show it. It is a pure function of entries in log order,
// integers only: no clock, no float, no map order.
//
// The fold (package custody) has done most of the work: a statement that is
// authentic but illegal has no effect, and its effect carries a code. Most rules
// name such a code; a few keep small rows of their own in the same State, under
// the letter 'x'.
//
//	rule                  tier           accused   what was seen
//	DUP_COMMISSION        contradiction  actor     a live serial is commissioned again by a party that may commission it
//	DOUBLE_INSTALL        contradiction  actor     an installed device is installed again, by another party or a day later
//	PART_TWICE            contradiction  actor     a part of one device is assembled into another
//	AFTER_END             contradiction  actor     a retired unit is used
//	FORK                  contradiction  actor     two parties claim the same place in a unit's chain
//	COUNTER               contradiction  actor     a device's own counter repeats or goes back
//	DEVICE_KEY_TWICE      contradiction  actor     one device key is bound to two serials
//	ADMITTED              contradiction  operator  the log holds what its door must refuse
//	SERIAL_NOT_IN_BLOCK   policy         actor     a serial is commissioned that nobody allowed
//	UNKNOWN_SERIAL        policy         actor     a serial is used that was never commissioned
//	WRONG_RECEIVER        policy         actor     a unit is accepted by a party it was not released to
//	NON_CUSTODIAN         policy         actor     a party acts on a unit that it does not hold
//	POSSESSION            policy         actor     a device did not prove that it holds its key
//	LANE                  policy         actor     a hand-over that no step of the route policy allows
//	MARKET                policy         actor     goods turn up where their lot may not be sold
//	TRAVEL                geography      actor     two places too far apart for the time between them
//
// A finding is confirmed when no later entry can explain it, else provisional: an
// amended route or serial block withdraws LANE and MARKET. Closure-local rules
// are drawn by whoever verifies a unit, from its closure alone (Conclude). LANE
// needs the list of the product's lanes, which the closure leaves out: it reaches a
// verifier as a logged finding, whose evidence he re-runs. What MARKET says of a
// load rests on all of its members; a verifier draws it from the member in hand.
//
// The finding's ID is
//
//	SHA-256("fabtrail/finding/v1\n" | rule set digest (32) | u8 len | rule | u16 len | unit | n x entry index u64)
//
// with the unit as UnitRef.String writes it and the evidence ascending. The rule
// set's digest is SHA-256 over the table above as Describe writes it.
//
// Source: docs/detection.md.
package rules
