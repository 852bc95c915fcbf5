// Package gs1 reads the identifiers of things, places and parties and gives each
// its one canonical URI. It is pure.
//
// # Canonical URIs
//
//	unit       https://id.gs1.org/01/{GTIN-14}/21/{serial}          SGTIN
//	           https://id.gs1.org/8004/{GIAI}                       GIAI
//	           https://id.gs1.org/8003/0{GTIN-13}{serial}           GRAI with serial
//	           https://id.gs1.org/8006/{GTIN-14}{pp}{tt}/21/{serial}  ITIP
//	           https://id.gs1.org/8010/{CPID}/8011/{serial}         CPI
//	container  https://id.gs1.org/00/{SSCC-18}                      SSCC
//	           urn:epc:id:bic:{ISO 6346 number}                     freight container
//	lot        https://id.gs1.org/01/{GTIN-14}/10/{lot}
//	product    https://id.gs1.org/01/{GTIN-14}
//	party      https://id.gs1.org/417/{GLN-13}                      PGLN
//	site       https://id.gs1.org/414/{GLN-13}[/254/{extension}]    SGLN
//
// Check digits are verified. Serial, lot and extension have 1 to 20 characters
// of the GS1 AI encodable character set 82, case-sensitive. Within a URI every
// byte of a value that is not an RFC 3986 unreserved character is
// percent-encoded with upper-case hex digits; nothing else is encoded. An SGLN
// extension "0" of an EPC URN means "none" and is dropped.
//
// # Pedigree key
//
// A 128-bit key printed beside the serial as the query member k: base64url
// (RFC 4648 section 5) without padding, exactly 22 characters whose last two
// bits of padding are zero. It is taken out before the link is canonicalised.
//
// Sources: GS1 General Specifications (check digits, character set 82), GS1
// Digital Link URI Syntax 1.4, EPC Tag Data Standard 2.1, ISO 6346.
package gs1
