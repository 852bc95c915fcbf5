package custody

import (
	"bytes"
	"crypto/elliptic"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

// badCase is a sample with one thing wrong: old is replaced by new, once.
type badCase struct {
	Name, Sample, Old, New string
	Problem, Field         string
}

const hex64 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// badCases are the refusals of Parse. TestVectors publishes them.
func badCases(t testing.TB) []badCase {
	t.Helper()
	deep := strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth)
	digest := func(uri string) string { return DigestOf(hashOf(uri)).SHA256 }
	subject := func(uri string) string {
		return fmt.Sprintf(`"subject":[{"uri":%q,"digest":{"sha256":%q}}]`, uri, digest(uri))
	}
	hold := subject(unitURI)
	return []badCase{
		// The JSON itself.
		{"duplicate name", "hold", `"_type":`, `"_type":"x","_type":`, "malformed_json", "/_type"},
		{"duplicate name in the predicate", "hold", `"actor":`, `"actor":"x","actor":`, "malformed_json", "/predicate/actor"},
		{"duplicate name, escaped", "hold", `"actor":`, `"\u0061ctor":"x","actor":`, "malformed_json", "/predicate/actor"},
		{"duplicate digest algorithm", "hold", `{"sha256":"`, `{"sha256":"x","sha256":"`, "malformed_json", "/subject/0/digest/sha256"},
		{"wrong case", "hold", `"predicateType":`, `"PREDICATETYPE":`, "malformed_json", "/PREDICATETYPE"},
		{"wrong case beside the right one", "hold", `"actor":`, `"Actor":"x","actor":`, "malformed_json", "/predicate/Actor"},
		{"long s", "hold", `"chain":`, "\"\u017fealed\":{},\"chain\":", "malformed_json", "/predicate/\u017fealed"},
		{"snake case alias", "hold", `"predicateType":`, `"predicate_type":`, "malformed_json", "/predicate_type"},
		{"wrong case of an optional field", "hold", `"note":`, `"Note":`, "malformed_json", "/predicate/Note"},
		{"trailing data", "hold", "", "\x00{}", "malformed_json", ""},
		{"second value", "hold", "", "\x00 true", "malformed_json", ""},
		{"byte order mark", "hold", `{"_type"`, "\ufeff{\"_type\"", "malformed_json", ""},
		{"comment", "hold", `{"_type"`, `/**/{"_type"`, "malformed_json", ""},
		{"trailing comma", "hold", `"note":"box was wet"`, `"note":"box was wet",`, "malformed_json", "/predicate"},
		{"single quotes", "hold", `"box was wet"`, `'box was wet'`, "malformed_json", "/predicate/note"},
		{"invalid UTF-8", "hold", `box was wet`, "box\xff", "malformed_json", "/predicate/note"},
		{"lone surrogate", "hold", `box was wet`, `box \ud800`, "malformed_json", "/predicate/note"},
		{"overlong UTF-8", "hold", `box was wet`, "box \xc0\xaf", "malformed_json", "/predicate/note"},
		{"raw control character", "hold", `box was wet`, "box\nwas", "malformed_json", "/predicate/note"},
		{"nested too deep", "hold", `"chain":`, `"deep":` + deep + `,"chain":`, "malformed_json", "/predicate/deep" + strings.Repeat("/0", MaxDepth-2)},
		{"too many tokens", "hold", `"chain":`, `"many":[` + strings.Repeat("0,", MaxTokens) + `0],"chain":`, "too_large", ""},
		{"string too long", "hold", `box was wet`, strings.Repeat("a", MaxString+1), "too_large", "/predicate/note"},
		{"float", "qa-result", `"chain":`, `"t":36.6,"chain":`, "invalid_statement", "/predicate/t"},
		{"float in ext", "release", `"A":1`, `"A":1.0`, "invalid_statement", "/predicate/ext/example.com:lane/A"},
		{"exponent", "release", `"A":1`, `"A":1e3`, "invalid_statement", "/predicate/ext/example.com:lane/A"},
		{"huge exponent", "release", `"A":1`, `"A":1e400`, "invalid_statement", "/predicate/ext/example.com:lane/A"},
		{"number above 2^53-1", "release", `"A":1`, `"A":9007199254740992`, "invalid_statement", "/predicate/ext/example.com:lane/A"},
		{"number below -(2^53-1)", "release", `"A":1`, `"A":-9007199254740992`, "invalid_statement", "/predicate/ext/example.com:lane/A"},
		{"minus zero", "release", `"A":1`, `"A":-0`, "invalid_statement", "/predicate/ext/example.com:lane/A"},
		{"leading zero", "release", `"A":1`, `"A":01`, "malformed_json", "/predicate/ext/example.com:lane"},
		{"null for a known field", "hold", `"note":"box was wet"`, `"note":null`, "invalid_statement", "/predicate/note"},
		{"number for a string", "hold", `"note":"box was wet"`, `"note":5`, "invalid_statement", "/predicate/note"},
		{"string for a number", "release", `"seq":4`, `"seq":"4"`, "invalid_statement", "/predicate/chain/seq"},
		{"array for an object", "release", `"where":{`, `"where":[],"x":{`, "invalid_statement", "/predicate/where"},

		// The statement.
		{"statement type v0.1", "hold", StatementType, "https://in-toto.io/Statement/v0.1", "invalid_statement", "/_type"},
		{"statement type with a slash", "hold", StatementType, StatementType + "/", "invalid_statement", "/_type"},
		{"no statement type", "hold", `"_type":`, `"type_":`, "malformed_json", "/type_"},
		{"unknown predicate", "hold", "custody/hold/v1", "custody/holding/v1", "unknown_predicate", "/predicateType"},
		{"predicate of another version", "hold", "custody/hold/v1", "custody/hold/v2", "unknown_predicate", "/predicateType"},
		{"predicate type in upper case", "hold", "custody/hold/v1", "custody/Hold/v1", "unknown_predicate", "/predicateType"},
		{"predicate of another project", "hold", "https://fabtrail.dev/custody/hold/v1", "https://slsa.dev/provenance/v1", "unknown_predicate", "/predicateType"},
		{"another predicate's body", "hold", "custody/hold/v1", "custody/lift/v1", "invalid_statement", "/predicate/lifts/sha256"},
		{"no subject", "hold", hold, `"subject":[]`, "invalid_statement", "/subject"},
		{"two subjects", "hold", hold, strings.TrimSuffix(hold, "]") + "," + hold[len(`"subject":[`):], "invalid_statement", "/subject"},
		{"subject twice", "hold", hold, hold + "," + hold, "malformed_json", "/subject"},
		{"subject's digest of something else", "hold", digest(unitURI), digest(unit2URI), "invalid_statement", "/subject/0/digest/sha256"},
		{"digest in upper case", "hold", digest(unitURI), strings.ToUpper(digest(unitURI)), "invalid_statement", "/subject/0/digest/sha256"},
		{"second digest algorithm", "hold", `{"sha256":"` + digest(unitURI) + `"`, `{"sha512":"00","sha256":"` + digest(unitURI) + `"`, "invalid_statement", "/subject/0/digest"},
		{"no digest", "hold", `"digest":{"sha256":"` + digest(unitURI) + `"}`, `"digest":{}`, "invalid_statement", "/subject/0/digest"},
		{"subject not canonical", "hold", unitURI, "https://id.gs1.org/01/9506000134352/21/SN-000001", "invalid_identifier", "/subject/0/uri"},
		{"subject of another resolver", "hold", unitURI, "https://example.com/01/09506000134352/21/SN-000001", "invalid_identifier", "/subject/0/uri"},
		{"bad check digit", "hold", unitURI, "https://id.gs1.org/01/09506000134353/21/SN-000001", "invalid_identifier", "/subject/0/uri"},
		{"Cyrillic serial", "hold", unitURI, "https://id.gs1.org/01/09506000134352/21/SN-\u0430", "invalid_identifier", "/subject/0/uri"},
		{"serial with trailing space", "hold", unitURI, unitURI + " ", "invalid_identifier", "/subject/0/uri"},
		{"zero-width serial", "hold", unitURI, unitURI + "\u200b", "invalid_identifier", "/subject/0/uri"},
		{"subject with a pedigree key", "hold", unitURI, unitURI + "?k=AAAAAAAAAAAAAAAAAAAAAA", "invalid_identifier", "/subject/0/uri"},
		{"subject too long", "hold", unitURI, unitURI + strings.Repeat("a", MaxURI), "invalid_identifier", "/subject/0/uri"},
		{"wrong kind of subject", "hold", hold, subject(lotURI), "invalid_statement", "/subject/0/uri"},
		{"a site as subject", "hold", hold, subject(siteURI), "invalid_identifier", "/subject/0/uri"},
		{"a container installed", "install", subject(unitURI), subject(cartonURI), "invalid_statement", "/subject/0/uri"},
		{"charter about a unit", "charter", subject(logURI), subject(unitURI), "invalid_statement", "/subject/0/uri"},
		{"log origin with a space", "rule-set", subject(logURI), subject(LogURIPrefix + "a b"), "invalid_identifier", "/subject/0/uri"},
		{"artefact of upper case", "recall artefact close", subject(ArtefactURIPrefix + someHash.String()), subject(ArtefactURIPrefix + strings.ToUpper(hex64)), "invalid_identifier", "/subject/0/uri"},
		{"no predicate", "hold", `"predicate":`, `"predikate":`, "invalid_statement", "/predicate"},
		{"predicate is a list", "hold", `"predicate":`, `"predicate":[],"x":`, "invalid_statement", "/predicate"},
		{"no ledger", "hold", `"ledger":`, `"ledgr":`, "invalid_statement", "/predicate/ledger"},
		{"ledger not a digest", "hold", ledgerHash.String(), "abc", "invalid_statement", "/predicate/ledger"},
		{"charter with a ledger", "charter", `"predicate":{`, `"predicate":{"ledger":"` + hex64 + `",`, "invalid_statement", "/predicate/ledger"},

		// Common fields.
		{"event id of version 4", "hold", "-7", "-4", "invalid_statement", "/predicate/eventId"},
		{"event id without urn", "hold", "urn:uuid:", "", "invalid_statement", "/predicate/eventId"},
		{"event id in braces", "hold", "urn:uuid:", "urn:uuid:{", "invalid_statement", "/predicate/eventId"},
		{"local time", "hold", `"occurredAt":"2026-11-02T03:30:15Z"`, `"occurredAt":"2026-11-02T03:30:15+08:00"`, "invalid_statement", "/predicate/occurredAt"},
		{"time in lower case", "hold", `T03:30:15Z`, `t03:30:15z`, "invalid_statement", "/predicate/occurredAt"},
		{"the 30th of February", "hold", `2026-11-02T`, `2026-02-30T`, "invalid_statement", "/predicate/occurredAt"},
		{"leap second", "hold", `03:30:15Z`, `03:30:60Z`, "invalid_statement", "/predicate/occurredAt"},
		{"year 9999", "hold", `2026-11-02T`, `9999-11-02T`, "invalid_statement", "/predicate/occurredAt"},
		{"ten digits of fraction", "hold", `03:30:15Z`, `03:30:15.0000000001Z`, "invalid_statement", "/predicate/occurredAt"},
		{"comma fraction", "hold", `03:30:15Z`, `03:30:15,5Z`, "invalid_statement", "/predicate/occurredAt"},
		{"actor is a site", "hold", makerURI, siteURI, "invalid_identifier", "/predicate/actor"},
		{"no actor", "hold", `"actor":`, `"acter":`, "invalid_statement", "/predicate/actor"},
		{"unknown role", "release", `"role":"maker"`, `"role":"king"`, "invalid_statement", "/predicate/role"},
		{"country UK", "release", `"country":"TW"`, `"country":"UK"`, "invalid_statement", "/predicate/where/country"},
		{"country in lower case", "release", `"country":"TW"`, `"country":"tw"`, "invalid_statement", "/predicate/where/country"},
		{"locode with a digit 1", "release", `"TWHSZ"`, `"TWHS1"`, "invalid_statement", "/predicate/where/locode"},
		{"locode of no country", "release", `"TWHSZ"`, `"UKLON"`, "invalid_statement", "/predicate/where/locode"},
		{"site is a party", "release", siteURI, makerURI, "invalid_identifier", "/predicate/where/site"},
		{"latitude 91", "release", "geo:24.7736", "geo:91", "invalid_statement", "/predicate/where/geo"},
		{"eight decimals", "release", "geo:24.7736", "geo:24.77361234", "invalid_statement", "/predicate/where/geo"},
		{"altitude", "release", ",120.9975", ",120.9975,7", "invalid_statement", "/predicate/where/geo"},
		{"decimal radius", "release", ";u=50", ";u=50.5", "invalid_statement", "/predicate/where/geo"},
		{"evidence without digest", "release", `"mediaType":"image/jpeg","digest":{"sha256":"` + otherHash.String() + `"}`, `"mediaType":"image/jpeg"`, "invalid_statement", "/predicate/evidence/0/digest/sha256"},
		{"too much evidence", "hold", `"chain":`, `"evidence":[` + strings.Repeat(`{"digest":{"sha256":"`+hex64+`"}},`, maxEvidence) + `{"digest":{"sha256":"` + hex64 + `"}}],"chain":`, "invalid_statement", "/predicate/evidence"},
		{"ext is a list", "release", `"ext":{"example.com:lane":{"A":1,"a":null}}`, `"ext":[1]`, "invalid_statement", "/predicate/ext"},
		{"device signature not base64", "commission unit", `"counter":1,"sig":"`, `"counter":1,"sig":"?`, "non_canonical_base64", "/predicate/device/sig"},
		{"negative counter", "commission unit", `"counter":1`, `"counter":-1`, "invalid_statement", "/predicate/device/counter"},

		// Chain and load.
		{"no chain", "hold", `"chain":`, `"chains":`, "invalid_statement", "/predicate/chain"},
		{"chain without prev", "hold", `"seq":-1,"prev":null`, `"seq":-1`, "invalid_statement", "/predicate/chain/prev"},
		{"chain without seq", "hold", `"seq":-1,"prev":null`, `"prev":null`, "invalid_statement", "/predicate/chain/seq"},
		{"unchained kind chains", "hold", `"seq":-1`, `"seq":1`, "invalid_statement", "/predicate/chain"},
		{"unchained kind with prev", "hold", `"prev":null`, `"prev":{"sha256":"` + hex64 + `"}`, "invalid_statement", "/predicate/chain"},
		{"chained kind does not chain", "release", `"seq":4,"prev":{"sha256":"` + someHash.String() + `"}`, `"seq":-1,"prev":null`, "invalid_statement", "/predicate/chain/seq"},
		{"seq 0 with prev", "release", `"seq":4`, `"seq":0`, "invalid_statement", "/predicate/chain"},
		{"seq 4 without prev", "release", `"prev":{"sha256":"` + someHash.String() + `"}`, `"prev":null`, "invalid_statement", "/predicate/chain"},
		{"prev of another algorithm", "release", `"prev":{"sha256":`, `"prev":{"sha512":`, "invalid_statement", "/predicate/chain/prev/sha256"},
		{"prev is a string", "release", `"prev":{"sha256":"` + someHash.String() + `"}`, `"prev":"` + hex64 + `"`, "invalid_statement", "/predicate/chain/prev"},
		{"commission later in the chain", "commission unit", `"seq":0,"prev":null`, `"seq":1,"prev":{"sha256":"` + hex64 + `"}`, "invalid_statement", "/predicate/chain"},
		{"load of a unit", "hold", `"chain":`, `"load":"` + hex64 + `","chain":`, "invalid_statement", "/predicate/load"},
		{"container without load", "accept load", `"load":"` + otherHash.String() + `",`, ``, "invalid_statement", "/predicate/load"},
		{"load not a digest", "accept load", `"load":"` + otherHash.String(), `"load":"x`, "invalid_statement", "/predicate/load"},
		{"load before its opening", "accept load", `"seq":2,"prev":{"sha256":"` + someHash.String() + `"}`, `"seq":0,"prev":null`, "invalid_statement", "/predicate/chain/prev"},
		{"opening names a load", "pack opens", `"chain":`, `"load":"` + hex64 + `","chain":`, "invalid_statement", "/predicate/chain/prev"},
		{"later pack names no load", "pack adds", `"load":"` + otherHash.String() + `",`, ``, "invalid_statement", "/predicate/load"},

		// What must be sealed.
		{"address", "install", `"chain":`, `"address":"Unter den Linden 1","chain":`, "sealed_required", "/predicate/address"},
		{"address in ext", "release", `"A":1`, `"gs1:streetAddress":"x"`, "sealed_required", "/predicate/ext/example.com:lane/gs1:streetAddress"},
		{"address in other spelling", "release", `"A":1`, `"Street-Address":"x"`, "sealed_required", "/predicate/ext/example.com:lane/Street-Address"},
		{"person's name", "release", `"A":1`, `"first_name":"x"`, "sealed_required", "/predicate/ext/example.com:lane/first_name"},
		{"telephone", "party", `"legalName":`, `"telephone":"+49 30 1","legalName":`, "sealed_required", "/predicate/telephone"},
		{"e-mail in a text", "hold", "box was wet", "ask jane.doe@example.com", "sealed_required", "/predicate/note"},
		{"mailto", "release", `"A":1`, `"A":"mailto:x"`, "sealed_required", "/predicate/ext/example.com:lane/A"},
		{"value in a sealed group", "release", `"route":{"alg":`, `"route":{"value":"x","alg":`, "sealed_required", "/predicate/sealed/route/value"},
		{"unknown sealed group", "release", `"route":{"alg":`, `"secret":{"alg":`, "invalid_statement", "/predicate/sealed/secret"},
		{"sealed by another algorithm", "release", `"route":{"alg":"` + SealedAlg, `"route":{"alg":"md5`, "invalid_statement", "/predicate/sealed/route/alg"},
		{"exact place of an installation", "install", "geo:52.52,13.4;u=1000", "geo:52.51627,13.37770;u=1000", "sealed_required", "/predicate/where/geo"},
		{"small radius of an installation", "install", "geo:52.52,13.4;u=1000", "geo:52.52,13.4;u=20", "sealed_required", "/predicate/where/geo"},

		// Governance.
		{"charter of another origin", "charter", `"origin":"example.com/fabtrail"`, `"origin":"example.org/fabtrail"`, "invalid_statement", "/predicate/origin"},
		{"threshold 0", "charter", `"threshold":2`, `"threshold":0`, "invalid_statement", "/predicate/threshold"},
		{"threshold above the parties", "charter", `"threshold":2`, `"threshold":3`, "invalid_statement", "/predicate/threshold"},
		{"threshold above distinct parties", "charter", `{"party":"` + carrierURI + `"`, `{"party":"` + makerURI + `"`, "invalid_statement", "/predicate/threshold"},
		{"authority key twice", "charter", record(edKey(2)).SPKI, record(edKey(1)).SPKI, "invalid_statement", "/predicate/authorities/1"},
		{"operator's key is an authority's", "charter", record(edKey(3)).SPKI, record(edKey(1)).SPKI, "invalid_statement", "/predicate/operator/key"},
		{"no authorities", "authority", `"authorities":[`, `"authorities":[],"x":[`, "invalid_statement", "/predicate/authorities"},
		{"vkey of another log", "log-key succeed", "fabtrail+", "fabtrajl+", "invalid_statement", "/predicate/vkey"},
		{"vkey with a freeze", "log-key freeze", `"action":"freeze"`, `"action":"freeze","vkey":"x"`, "invalid_statement", "/predicate/vkey"},
		{"policy with a NUL", "witness-policy", `quorum none`, `quorum\u0000none`, "invalid_statement", "/predicate/policy"},
		{"weak key of a party", "party", record(edKey(10)).SPKI, weakEd25519(), "weak_key", "/predicate/keys/0/spki"},
		{"curve P-224", "party", record(ecKey(t, elliptic.P256(), 1)).SPKI, base64.StdEncoding.EncodeToString(spkiDER(t, ecKey(t, elliptic.P224(), 1).Public())), "weak_key", "/predicate/keys/1/spki"},
		{"key not base64", "party", record(edKey(10)).SPKI, "AAAA-", "non_canonical_base64", "/predicate/keys/0/spki"},
		{"key twice", "party", record(ecKey(t, elliptic.P256(), 1)).SPKI, record(edKey(10)).SPKI, "invalid_statement", "/predicate/keys/1"},
		{"role twice", "party", `"roles":["maker","brand"]`, `"roles":["maker","maker"]`, "invalid_statement", "/predicate/roles/1"},
		{"no role", "party", `"roles":["maker","brand"]`, `"roles":[]`, "invalid_statement", "/predicate/roles"},
		{"right-to-left override in a name", "party", "Übersee", "\u202ebersee", "invalid_statement", "/predicate/legalName"},
		{"site without country", "party", `"country":"TW",`, ``, "invalid_statement", "/predicate/sites/0/country"},
		{"rotation without a key", "key rotate", `"action":"rotate"`, `"action":"revoke"`, "invalid_statement", "/predicate/new"},
		{"rotation to itself", "key rotate", mustKey(t, edKey(11).Public()).ID(), mustKey(t, edKey(12).Public()).ID(), "invalid_statement", "/predicate/new"},
		{"revocation with a key", "key revoke", `"action":"revoke"`, `"action":"rotate"`, "invalid_statement", "/predicate/new"},
		{"owner is a unit", "product", `"owner":"` + makerURI, `"owner":"` + unitURI, "invalid_identifier", "/predicate/owner"},
		{"selector names two", "recall lot", `"selector":{`, `"selector":{"product":"09506000134352",`, "invalid_statement", "/predicate/selector"},
		{"selector is not the subject", "recall lot", `"lot":"` + lotURI, `"lot":"` + lotURI + "B", "invalid_statement", "/predicate/selector"},
		{"closing recall names none", "recall lot", `"action":"open"`, `"action":"close"`, "invalid_statement", "/predicate/closes"},
		{"artefact without products", "recall artefact close", `"gtins":["09506000134352"]`, `"gtins":[]`, "invalid_statement", "/predicate/selector/gtins"},
		{"GTIN-13 in a selector", "recall artefact close", `["09506000134352"]`, `["9506000134352"]`, "invalid_statement", "/predicate/selector/gtins/0"},
		{"serials and count", "serial-block", `"commissioners":`, `"count":5,"commissioners":`, "invalid_statement", "/predicate/serials"},
		{"serial twice", "serial-block", `"SN-000002"`, `"SN-000001"`, "invalid_statement", "/predicate/serials/1"},
		{"serial of 21 characters", "serial-block", `"SN-000002"`, `"123456789012345678901"`, "invalid_statement", "/predicate/serials/1"},
		{"fullwidth serial", "serial-block", `"SN-000002"`, "\"\uff33N\"", "invalid_statement", "/predicate/serials/1"},
		{"country twice", "serial-block", `["DE","TW"]`, `["DE","DE"]`, "invalid_statement", "/predicate/countries/1"},
		{"nobody may commission", "serial-block", `"commissioners":["` + makerURI + `"]`, `"commissioners":[]`, "invalid_statement", "/predicate/commissioners"},
		{"no steps", "route-policy", `"steps":[`, `"steps":[],"x":[`, "invalid_statement", "/predicate/steps"},
		{"mode by mule", "route-policy", `"modes":["road"]`, `"modes":["mule"]`, "invalid_statement", "/predicate/steps/0/modes/0"},
		{"waiting forever", "route-policy", `"maxHours":72`, `"maxHours":99999`, "invalid_statement", "/predicate/steps/0/maxHours"},

		// Unit statements.
		{"unit of no kind", "commission unit", `"kind":"device"`, `"kind":"ghost"`, "invalid_statement", "/predicate/kind"},
		{"lot without manifest", "commission lot", `"contents":`, `"content":`, "invalid_statement", "/predicate/contents"},
		{"lot with a pedigree digest", "commission lot", `"contents":`, `"pedigree":"` + hex64 + `","contents":`, "invalid_statement", "/predicate"},
		{"lot that is not the subject's", "commission lot", `"lot":"L2611A"`, `"lot":"L2611B"`, "invalid_statement", "/predicate/lot"},
		{"unit with a manifest", "commission unit", `"kind":"device"`, `"kind":"device","contents":{"manifest":"` + hex64 + `","root":"` + hex64 + `","count":1}`, "invalid_statement", "/predicate/contents"},
		{"device key without its signature", "commission unit", `"device":{`, `"devise":{`, "invalid_statement", "/predicate/device"},
		{"weak device key", "commission unit", record(edKey(90)).SPKI, weakEd25519(), "weak_key", "/predicate/identity/spki"},
		{"identity key without its signature", "identity", `"device":{`, `"devise":{`, "invalid_statement", "/predicate/device"},
		{"identity state", "identity", `"state":"renewed"`, `"state":"cloned"`, "invalid_statement", "/predicate/state"},
		{"count 0", "pack opens", `"count":4`, `"count":0`, "invalid_statement", "/predicate/contents/count"},
		{"count over the limit", "pack opens", `"count":4`, `"count":100001`, "invalid_statement", "/predicate/contents/count"},
		{"root missing", "pack opens", `"root":`, `"rout":`, "invalid_statement", "/predicate/contents/root"},
		{"level 9", "pack opens", `"level":1`, `"level":9`, "invalid_statement", "/predicate/level"},
		{"no level", "pack opens", `"level":1,`, ``, "invalid_statement", "/predicate/level"},
		{"level of a later pack", "pack adds", `"contents":`, `"level":1,"contents":`, "invalid_statement", "/predicate/level"},
		{"seal without number", "pack opens", `"number":"TW0093321",`, ``, "invalid_statement", "/predicate/seals/0/number"},
		{"seal check", "release", `"check":"intact"`, `"check":"fine"`, "invalid_statement", "/predicate/seals/0/check"},
		{"component twice", "assemble", `{"lot":"` + lotURI + `","quantity":12}`, `{"uri":"` + unit2URI + `","head":{"sha256":"` + hex64 + `"}}`, "invalid_statement", "/predicate/components/1/uri"},
		{"component is the parent", "assemble", `"uri":"` + unit2URI, `"uri":"` + unitURI, "invalid_statement", "/predicate/components/0/uri"},
		{"component without head", "assemble", `"head":{"sha256":"` + someHash.String() + `"},`, ``, "invalid_statement", "/predicate/components/0/head"},
		{"component is a container", "assemble", `"uri":"` + unit2URI, `"uri":"` + cartonURI, "invalid_identifier", "/predicate/components/0/uri"},
		{"component is both", "assemble", `{"lot":"` + lotURI + `"`, `{"uri":"` + unitURI + `","lot":"` + lotURI + `"`, "invalid_statement", "/predicate/components/1"},
		{"quantity 0", "assemble", `"quantity":12`, `"quantity":0`, "invalid_statement", "/predicate/components/1/quantity"},
		{"action", "assemble", `"action":"add"`, `"action":"glue"`, "invalid_statement", "/predicate/action"},
		{"image not a digest", "firmware-load", `"image":{"sha256":"` + someHash.String(), `"image":{"sha256":"z`, "invalid_statement", "/predicate/image/sha256"},
		{"result in lower case", "qa-result", `"PASSED"`, `"passed"`, "invalid_statement", "/predicate/result"},
		{"released by another", "release", `"from":"` + makerURI, `"from":"` + installerURI, "invalid_statement", "/predicate/from"},
		{"released to the holder", "release", `"to":"` + carrierURI, `"to":"` + makerURI, "invalid_statement", "/predicate/to"},
		{"released to nobody", "release", `"to":"` + carrierURI + `",`, ``, "invalid_statement", "/predicate/to"},
		{"mode", "release", `"mode":"road"`, `"mode":"teleport"`, "invalid_statement", "/predicate/transport/mode"},
		{"accepts nothing", "accept load", `"accepts":`, `"accept":`, "invalid_statement", "/predicate/accepts/sha256"},
		{"negative count", "accept load", `"actual":1`, `"actual":-1`, "invalid_statement", "/predicate/counted/actual"},
		{"refusal without reason", "refuse", `"reason":"seal broken"`, `"why":"x"`, "invalid_statement", "/predicate/reason"},
		{"sighting by dream", "sighting", `"scan"`, `"dream"`, "invalid_statement", "/predicate/method"},
		{"title to oneself", "ownership", `"to":"` + carrierURI, `"to":"` + makerURI, "invalid_statement", "/predicate/to"},
		{"title between others", "ownership", `"from":"` + makerURI, `"from":"` + installerURI, "invalid_statement", "/predicate/actor"},
		{"hold reason", "hold", `"quarantine"`, `"because"`, "invalid_statement", "/predicate/reason"},
		{"lifts nothing", "lift", `"lifts":{"sha256":"` + someHash.String() + `"}`, `"lifts":{}`, "invalid_statement", "/predicate/lifts/sha256"},
		{"retire reason", "retire", `"endOfLife"`, `"bored"`, "invalid_statement", "/predicate/reason"},
		{"void reason", "void", `"incorrect_data"`, `"regret"`, "invalid_statement", "/predicate/reason"},
		{"dispute without claim", "dispute", `"claim":"we never released this"`, `"claim":""`, "invalid_statement", "/predicate/claim"},
		{"finding accuses a unit", "finding", `"accused":"` + makerURI, `"accused":"` + unitURI, "invalid_statement", "/predicate/accused"},
		{"finding of no tier", "finding", `"tier":"contradiction"`, `"tier":"gossip"`, "invalid_statement", "/predicate/tier"},
		{"finding's entries descend", "finding", `[3,9]`, `[9,3]`, "invalid_statement", "/predicate/entries/1"},
		{"finding's entries repeat", "finding", `[3,9]`, `[3,3]`, "invalid_statement", "/predicate/entries/1"},
		{"finding without evidence", "finding", `[3,9]`, `[]`, "invalid_statement", "/predicate/entries"},
		{"finding about a container without load", "finding", `,"load":"` + otherHash.String() + `"}`, `}`, "invalid_statement", "/predicate/units/1/load"},
	}
}

// weakEd25519 is the SPKI of the identity point.
func weakEd25519() string {
	der := append([]byte{0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00}, make([]byte, 32)...)
	der[12] = 1
	return base64.StdEncoding.EncodeToString(der)
}

// payload applies the case to its sample.
func (b badCase) payload(t testing.TB) []byte {
	t.Helper()
	p := find(t, b.Sample).payload(t)
	if b.Old == "" {
		return append(p, strings.TrimPrefix(b.New, "\x00")...)
	}
	if !bytes.Contains(p, []byte(b.Old)) {
		t.Fatalf("%s: %s does not hold %s\n%s", b.Name, b.Sample, b.Old, p)
	}
	p = bytes.Replace(p, []byte(b.Old), []byte(b.New), 1)
	return p
}

func TestParseRefuses(t *testing.T) {
	names := map[string]bool{}
	for _, c := range badCases(t) {
		if names[c.Name] {
			t.Errorf("two cases are called %q", c.Name)
		}
		names[c.Name] = true
		t.Run(c.Name, func(t *testing.T) {
			_, err := Parse(c.payload(t))
			p := problemOf(t, err)
			if p.Type != c.Problem || p.Field != c.Field {
				t.Errorf("%s at %q, want %s at %q\n%v", p.Type, p.Field, c.Problem, c.Field, err)
			}
			for _, leak := range []string{"custody.", "jsontext", "Go ", "*", "unmarshal"} {
				if strings.Contains(p.Detail+p.Hint, leak) {
					t.Errorf("the problem shows its insides (%q): %v", leak, err)
				}
			}
		})
	}
}

func TestParseRefusesNoJSON(t *testing.T) {
	for in, want := range map[string]string{"": "too_large", " ": "malformed_json", "{": "malformed_json", "[]": "invalid_statement",
		`"x"`: "invalid_statement", "null": "invalid_statement", "{}": "invalid_statement", "nul": "malformed_json",
		strings.Repeat(" ", 256<<10+1): "too_large"} {
		_, err := Parse([]byte(in))
		if p := problemOf(t, err); p.Type != want {
			t.Errorf("%.20q: %v, want %s", in, err, want)
		}
	}
}

func TestKindInfo(t *testing.T) {
	for _, k := range Kinds() {
		info, ok := k.Info()
		if !ok || info.Kind != k || info.Signers == "" || info.MaxSigners < 1 || info.Subjects == 0 {
			t.Errorf("%s: %+v", k, info)
		}
		back, ok := KindOf(k.PredicateType())
		if !ok || back != k {
			t.Errorf("%s reads back as %s", k.PredicateType(), back)
		}
		if info.Subjects&OnContainer != 0 != (info.Load != "") {
			t.Errorf("%s: subjects %s, load %q", k, info.Subjects, info.Load)
		}
		if k.Class() != info.Class || k.Chained() != info.Chained {
			t.Errorf("%s: class or chain differ", k)
		}
		if !info.Event && info.Chained {
			t.Errorf("%s chains without an event", k)
		}
	}
	if Kind("x").Class() != 0 || Kind("x").Chained() {
		t.Error("an unknown kind has a class")
	}
	if _, ok := KindOf("https://fabtrail.dev/custody/hold/v1/"); ok {
		t.Error("a predicate type with a tail is known")
	}
}

// TestParseBody: what people write for a statement is read as strictly as a statement
// is, and errors are in words.
func TestParseBody(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{`{"kind":"device"}`, ""},
		{`{"kind":5}`, "a string is expected"},
		{`{"Kind":"device"}`, "no such field"},
		{`{"kind":"a","kind":"b"}`, "stands twice"},
		{`{"kind":`, "ends too early"},
		{`{"kind":"device"} {}`, "more data follows"},
		{``, "no JSON"},
	} {
		_, err := ParseBody(KindCommission, []byte(tc.text))
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", tc.text, err, tc.want)
		}
		if err != nil && (strings.Contains(err.Error(), "Go ") || strings.Contains(err.Error(), "custody.")) {
			t.Errorf("%s: the error shows its insides: %v", tc.text, err)
		}
	}
}
