package problem

// Type is what is fixed about a problem type.
type Type struct {
	Status int
	Title  string
}

// Types lists every problem type that Fabtrail emits, by slug.
var Types = map[string]Type{
	// Reading a request.
	"malformed_request":        {400, "The request cannot be read"},
	"malformed_json":           {400, "The JSON is not strictly valid"},
	"non_canonical_base64":     {400, "Base64 is not in its one canonical form"},
	"signature_count":          {400, "Too few or too many signatures"},
	"keyid_required":           {400, "A signature does not name its key"},
	"invalid_parameter":        {400, "A parameter is not valid"},
	"too_large":                {413, "The request is larger than the limit"},
	"unsupported_media_type":   {415, "The media type is not accepted here"},
	"unsupported_payload_type": {415, "The DSSE payload type is not application/vnd.in-toto+json"},

	// Who asks.
	"token_required":     {401, "A token is needed"},
	"token_invalid":      {401, "The token is not valid"},
	"scope_missing":      {403, "The token lacks the scope for this"},
	"signer_mismatch":    {403, "The token's party did not sign this statement"},
	"not_entitled":       {403, "The caller may not see this"},
	"issuer_unreachable": {503, "The token issuer's keys cannot be had"},

	// Signatures and keys.
	"bad_signature":     {422, "A signature does not verify"},
	"unknown_key":       {422, "The signing key is not enrolled"},
	"key_revoked":       {403, "The signing key is revoked"},
	"weak_key":          {422, "The key is not acceptable"},
	"key_taken":         {409, "The key is enrolled already"},
	"wrong_signers":     {422, "The signers are not those that the predicate requires"},
	"threshold_not_met": {422, "Too few distinct parties signed"},

	// Statements.
	"invalid_statement":   {422, "The statement does not follow its type"},
	"unknown_predicate":   {422, "The predicate type is not known"},
	"invalid_identifier":  {422, "An identifier is not valid"},
	"invalid_epcis":       {422, "The EPCIS document is not valid"},
	"other_ledger":        {422, "The statement is for another ledger"},
	"wrong_role":          {403, "The party's role does not allow this predicate"},
	"unknown_party":       {422, "A party is not enrolled"},
	"missing_manifest":    {422, "The manifest is not uploaded"},
	"manifest_mismatch":   {422, "The manifest does not match"},
	"sealed_required":     {422, "This must be in a sealed group"},
	"unknown_statement":   {422, "A statement that is named is not in this ledger"},
	"superseded":          {409, "The cited statement is no longer the unit's latest"},
	"already_recorded":    {409, "This event is recorded already"},
	"unpack_first":        {409, "The unit is packed"},
	"predecessor_unknown": {409, "Predecessors of some members are unknown"},
	"charter_exists":      {409, "This ledger has its charter"},
	"no_charter":          {409, "This ledger has no charter yet"},
	"unused_manifests":    {429, "Too many manifests wait for their statements"},
	"no_effect_limit":     {429, "Too many statements without effect on this unit"},
	"not_exportable":      {409, "The unit's history is not one to be exported"},

	// Service.
	"not_found":          {404, "There is no such thing here"},
	"method_not_allowed": {405, "The method is not allowed here"},
	"rate_limited":       {429, "Too many requests"},
	"overloaded":         {503, "The ledger is overloaded"},
	"not_signing":        {503, "The ledger does not sign at present"},
	"storage_full":       {503, "The ledger's disk is nearly full"},
	"not_ready":          {503, "The ledger is not ready"},
	"internal":           {500, "Something went wrong inside the ledger"},
}
