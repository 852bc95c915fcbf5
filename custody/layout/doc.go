// Package layout writes the verified history of a finished, good unit as an
// in-toto Layout with Links, which in-toto's own verifier accepts
// (github.com/in-toto/in-toto-golang, InTotoVerify; in-toto specification 1.0,
// metadata in DSSE envelopes). It is for people who have an in-toto verifier and
// no Fabtrail; nothing in Fabtrail decides by it.
//
// # Who vouches for what
//
// A Link counts for in-toto only under a key that the Layout lists, and only its
// signer can make it. The parties signed statements of custody, not Links, and
// who exports does not hold their keys. So the exporter attests: having verified
// the whole history, it writes for each statement the Link that the statement's
// actor would have filed, and signs it with a key that stands for that actor in
// this one export. These stand-in keys are made for the export, one for each
// party, and are forgotten when it is written; the exporter's own keys sign the
// Layout, which lists them.
//
// InTotoVerify under the exporter's key therefore says: the exporter vouches that
// these parties signed this route, and neither Layout nor Links were changed,
// exchanged, added to or left out since, by anybody who lacks the exporter's key.
// It does not check the parties' own signatures. Whoever wants to, finds in every
// Link the statement as its party signed it (byproducts.statement, a DSSE
// envelope), the IDs of the keys that did (environment.keyIds) and, where the
// ledger gave it, its receipt (byproducts.receipt, a C2SP tlog-proof): `fabtrail
// verify receipt` checks the two. A Layout is a picture of its day: a recall that
// comes later is not in it. It expires; `fabtrail verify` asks the ledger.
//
// # Steps
//
// There is a step for each statement that made a link of the unit's chain, or of
// the chain of a load or parent that it was in at that time: commission, assemble,
// pack, unpack, install, ... A hand-over is one step of two statements, release
// and accept (or refuse; or uninstall and accept), with threshold 2: the sender's
// Link is made from the release, the receiver's from the acceptance. What was
// taken back by a void is left out. Statements that do not chain (identity, tests,
// firmware, title) are no steps.
//
// The artefact of every step is the unit: its name is the canonical URI without
// "https://", with everything but letters, digits, "-", "_" and "." in its
// segments percent-encoded, and dots too where a segment is nothing else (in-toto
// matches names as glob patterns and cleans them as paths); its sha256 is the ID of the statement that made its state. For a
// hand-over that is the release, which both parties signed: the sender by making
// it, the receiver by citing it. A step's material is the product of the step
// before:
//
//	materials  commission: none; others: REQUIRE unit, MATCH unit WITH PRODUCTS FROM the step before
//	products   REQUIRE unit, CREATE unit (commission) or MODIFY unit (others)
//
// An assemble also has the serialised components, by the heads that it cites, as
// materials (what is taken out: as products, under the statement's own ID), each
// by REQUIRE and ALLOW. Every list of rules ends in DISALLOW *. There are no
// inspections: they would run commands on the verifier's machine.
package layout
