// Package custody is what Fabtrail knows of the domain: it reads, writes and
// signs statements, decides what may be logged, and folds log entries into the
// state of parties, keys, products and units. It is pure: no clock, no I/O; the
// randomness of signatures is all that it draws.
//
// # Statement
//
// A statement is an in-toto Statement v1 in a DSSE envelope of payload type
// application/vnd.in-toto+json:
//
//	{"_type": "https://in-toto.io/Statement/v1",
//	 "subject": [{"uri": U, "digest": {"sha256": hex SHA-256(U)}}],
//	 "predicateType": "https://fabtrail.dev/custody/<kind>/v1",
//	 "predicate": {"ledger": hex SHA-256(charter's payload), ...}}
//
// U is the canonical URI of a unit, container, lot, product or party (package
// custody/gs1), urn:fabtrail:log:<origin>, or urn:fabtrail:artefact:<SHA-256
// hex>. Unit statements and findings carry the fields of Event beside those of
// their own body. The ID of a statement is SHA-256 of its payload, the exact
// bytes that were signed; they are never written again.
//
// JSON is read strictly: no duplicate names, no invalid UTF-8, no trailing data,
// no names that differ from a known one in letter case or separators only, no
// null for a known field but chain.prev, no number but integers up to 2^53-1, at
// most 32 levels and 20,000 tokens. Unknown fields are ignored. Addresses and
// data about persons are refused wherever they stand, for a log cannot forget:
// they belong into sealed groups. The place of an install or uninstall is rounded
// to two decimals and at least 1,000 m.
//
// # Envelope
//
// {"payloadType", "payload", "signatures": [{"keyid", "sig"}]}, nothing else,
// base64 in its canonical form, 1 to 8 signatures, keyid the hex SHA-256 of the
// signer's SubjectPublicKeyInfo. Every signature must verify; the set of signers
// is what the predicate requires (RequiredSigners). Keys are Ed25519 (ZIP-215),
// ECDSA P-256 with SHA-256 or P-384 with SHA-384 (DER), RSA of 3072 to 8192 bits
// (PSS, SHA-256, salt of 32 bytes). The canonical envelope is that of package
// ledger/entry.
//
// # Chain and load
//
// Statements that move custody or containment chain: seq counts a unit's
// statements from 0, prev is the ID of the one before; seq is 0 exactly when prev
// is null. All others carry {"seq": -1, "prev": null}. A pack with prev null opens
// a load of its container; from then on the unit is container and load, and its
// statements name the pack's ID as "load".
//
// # Manifest
//
// Many units are named by a manifest; see type Manifest for its bytes and for the
// RFC 6962 tree in which one member proves itself.
//
// # Sealed groups, pedigree keys, devices
//
//	sealed:   SHA-256( u32 len | "fabtrail/sealed/v1\n" | u32 len | group | u32 len | salt | u32 len | value )
//	pedigree: SHA-256( "fabtrail/pedigree/v1\n" | key (16) )
//	device:   "fabtrail/device/v1\n" | ledger (32) | SHA-256(predicateType) | SHA-256(subject) |
//	          SHA-256(actor) | prev (32, zeros if null) | counter u64, signed with the device's key
//
// All integers are big-endian. Vectors: testdata/custody.
package custody
