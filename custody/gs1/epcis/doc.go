// Package epcis reads EPCIS 2.0 capture documents (JSON and the JSON-LD subset
// that EPCIS defines) and plans the custody statements that their events become.
// It is pure: nothing is fetched, no clock is read, nothing is signed.
//
// # Reading
//
// Parse reads a document strictly: one JSON value, no duplicate names, UTF-8,
// bounded depth and size. It knows the GS1 context by heart and never fetches a
// context; names with a prefix or URI are extensions, whose content is kept for
// the event hash and otherwise ignored. Names without one must be those of EPCIS.
// Every defect is a problem "invalid_epcis" with the JSON pointer of the field and,
// in the member "line", the line where it stands. As in a capture with
// GS1-Capture-Error-Behaviour: rollback, which is the default of EPCIS, a document
// with one invalid event is refused whole.
//
// Beyond GS1's JSON Schema it enforces what the standard says in words
// (parentID of an aggregation unless it is OBSERVE, terms of the GS1 context not
// redefined), and it is more lenient in two places where documents in the field
// differ from the schema: persistentDisposition is allowed in every event, and
// measurement types are not checked against a list.
//
// # Planning
//
// Plan maps each event to statements, a sighting, evidence only, or a refusal
// (see mapping.go for the table).
//
// Sources: EPCIS 2.0.1, CBV 2.0.1 (vocabularies; section 8.9, EPCIS Event Hash
// ID), GS1 Digital Link URI Syntax, RFC 6920.
package epcis
