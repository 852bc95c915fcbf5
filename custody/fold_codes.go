package custody

import "slices"

// Code says in one word why a statement had the effect, or no effect, that it
// had on a unit or a record. Refusals at the door use problem types instead.
type Code string

// The codes of effects.
const (
	CodeApplied Code = "applied"
	CodePending Code = "pending" // waits for its predecessor
	CodeNoted   Code = "noted"   // kept; changes no state by its nature

	// Coming into being.
	CodeNotCommissioned Code = "not_commissioned"     // no effective commission of this serial
	CodeAlreadyExists   Code = "already_commissioned" // the serial is live
	CodeNoProduct       Code = "no_product"           // the GTIN is assigned to nobody
	CodeNoBlock         Code = "no_serial_block"      // no serial block allows it
	CodeNotCommissioner Code = "not_commissioner"     // the block names others
	CodeNotInBlock      Code = "serial_not_in_block"  // the block lists other serials
	CodeOtherProduct    Code = "member_of_other_product"

	// Custody and containment.
	CodeEnded        Code = "ended"          // the unit was retired
	CodePacked       Code = "packed"         // it is in a load
	CodePart         Code = "part_of_parent" // it is assembled into another unit
	CodeOnTheWay     Code = "released"       // it was released and not accepted yet
	CodeInstalled    Code = "installed"      // it is in use
	CodeNotInstalled Code = "not_installed"
	CodeNotHolder    Code = "not_holder"    // the actor does not hold it
	CodeNotReceiver  Code = "not_receiver"  // it was released to somebody else
	CodeNotReleased  Code = "not_released"  // there is nothing to accept or refuse
	CodeWrongRelease Code = "wrong_release" // the release cited is not the latest
	CodeHeld         Code = "on_hold"       // a hold is open
	CodeNotHere      Code = "not_in_load"   // unpacked from a load that it is not in
	CodeNotThisPart  Code = "not_a_part"    // removed from a parent that it is not part of
	CodeLevel        Code = "level"         // a load holds only loads of lower levels
	CodeSelf         Code = "part_of_itself"
	CodeNoLoad       Code = "no_load"        // the load was never opened, or that was taken back
	CodeLoadNotHeld  Code = "load_not_held"  // the actor does not hold the load
	CodeLoadNotFree  Code = "load_not_free"  // the load is packed itself
	CodeParent       Code = "parent_refused" // the parent could not take or give parts
	CodeSuperseded   Code = "superseded"     // another statement took this place in the chain
	CodeExpired      Code = "expired"        // the predecessor came too late or never
	CodeSeq          Code = "wrong_seq"      // chain.seq does not continue the unit's

	// Identity, ownership, holds.
	CodeIdentity        Code = "identity_not_ready" // installing needs registered or operational
	CodeIdentityState   Code = "identity_state"     // no such step from the present state
	CodeNoPossession    Code = "no_possession"      // the device did not sign with its bound key
	CodeNotEntitled     Code = "not_entitled"       // neither holder nor owner nor authority
	CodeNotOwner        Code = "not_owner"          // title is with somebody else
	CodeTooMany         Code = "too_many"           // a limit per unit
	CodeHoldNotOpen     Code = "hold_not_open"
	CodeNotLatest       Code = "not_latest"   // only the latest statement can be taken back
	CodeNotOwnStatement Code = "not_own"      // only its own actor can take it back
	CodeNotChained      Code = "not_voidable" // void is for chained statements
	CodeNotProductOwner Code = "not_product_owner"
	CodeRecallNotOpen   Code = "recall_not_open"

	// Records of governance.
	CodeKeyTaken Code = "key_taken"
	CodeBadKey   Code = "wrong_key" // a key statement about a key of another party
)

// Codes lists every code of effects.
func Codes() []Code {
	cs := []Code{CodeApplied, CodePending, CodeNoted, CodeNotCommissioned, CodeAlreadyExists, CodeNoProduct, CodeNoBlock,
		CodeNotCommissioner, CodeNotInBlock, CodeOtherProduct, CodeEnded, CodePacked, CodePart, CodeOnTheWay, CodeInstalled,
		CodeNotInstalled, CodeNotHolder, CodeNotReceiver, CodeNotReleased, CodeWrongRelease, CodeHeld, CodeNotHere,
		CodeNotThisPart, CodeLevel, CodeSelf, CodeNoLoad, CodeLoadNotHeld, CodeLoadNotFree, CodeParent, CodeSuperseded,
		CodeExpired, CodeSeq, CodeIdentity, CodeIdentityState, CodeNoPossession, CodeNotEntitled, CodeNotOwner, CodeTooMany,
		CodeHoldNotOpen, CodeNotLatest, CodeNotOwnStatement, CodeNotChained, CodeNotProductOwner, CodeRecallNotOpen,
		CodeKeyTaken, CodeBadKey}
	slices.Sort(cs)
	return cs
}
