package custody

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"fabtrail.dev/fabtrail/internal/problem"
)

// Limits of JSON that was signed.
const (
	MaxDepth  = 32       // nesting of objects and arrays
	MaxTokens = 20_000   // names, values, brackets
	MaxString = 32 << 10 // bytes of one string
	// MaxInteger bounds the magnitude of every number: what all JSON readers
	// agree on (RFC 8259 section 6).
	MaxInteger = 1<<53 - 1
)

// decodeBase64 reads standard padded base64 in its one canonical form: no white
// space, no other alphabet, zero trailing bits.
func decodeBase64(s string) ([]byte, error) {
	b, err := strictBase64.DecodeString(s)
	if err != nil || strings.IndexByte(s, '\r') >= 0 || strings.IndexByte(s, '\n') >= 0 { // each is one pass of the processor's own
		return nil, problem.New("non_canonical_base64", "", "this is not base64 in its canonical form").
			WithHint("use the standard alphabet with padding, without line breaks")
	}
	return b, nil
}

// at says where in the caller's input a problem lies.
func at(err error, field string) error {
	p := *asProblem(err)
	p.Field = field
	return &p
}

// asProblem returns err as a problem.
func asProblem(err error) *problem.Problem {
	if p := problem.As(err); p != nil {
		return p
	}
	return problem.New("internal", "", "%s", err)
}

// pointer appends a reference token to a JSON pointer.
func pointer(base string, token any) string {
	switch t := token.(type) {
	case int:
		return base + "/" + strconv.Itoa(t)
	case string:
		return base + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(t)
	}
	return base
}

// clip shortens a value for display.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// clipField shortens a JSON pointer, whose names are the sender's choice.
func clipField(s string) string {
	const most = 256
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// decodeStrict reads one JSON value into a struct: duplicate and unknown names,
// wrong case, bad UTF-8 and trailing data are refused (malformed_json).
func decodeStrict(b []byte, into any) error {
	if _, err := scanJSON(b, scanFrame); err != nil {
		return err
	}
	err := json.Unmarshal(b, into, json.RejectUnknownMembers(true))
	if err == nil {
		return nil
	}
	return jsonProblem(err, "malformed_json", "")
}

// ParseBody reads the JSON of what a kind of statement says, as people write it: no
// other names than the kind's. Whether the values are right, NewPayload says.
func ParseBody(kind Kind, text []byte) (any, error) {
	body := kind.NewBody()
	if err := decodeStrict(text, body); err != nil {
		return nil, err
	}
	return body, nil
}

// scanned spares the checks that scanJSON has made.
var scanned = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// decodeFields reads a JSON object that scanJSON has accepted, ignoring unknown
// names (invalid_statement when a value is of the wrong kind).
func decodeFields(b []byte, into any, base string) error {
	err := json.Unmarshal(b, into, scanned)
	if err == nil {
		return nil
	}
	return jsonProblem(err, "invalid_statement", base)
}

// jsonProblem words an error of the JSON package without naming anything of Go.
func jsonProblem(err error, semantic, base string) error {
	if p := problem.As(err); p != nil {
		return p
	}
	var syn *jsontext.SyntacticError
	if errors.As(err, &syn) {
		field := clipField(base + string(syn.JSONPointer))
		switch {
		case errors.Is(err, jsontext.ErrDuplicateName):
			return problem.New("malformed_json", field, "a name stands twice in one object")
		case errors.Is(err, io.ErrUnexpectedEOF):
			return problem.New("malformed_json", field, "the JSON ends too early, at byte %d", syn.ByteOffset)
		}
		return problem.New("malformed_json", field, "the JSON is not valid at byte %d", syn.ByteOffset)
	}
	var sem *json.SemanticError
	if errors.As(err, &sem) {
		field := clipField(base + string(sem.JSONPointer))
		if errors.Is(err, json.ErrUnknownName) {
			return problem.New(semantic, field, "there is no such field here").WithHint("names are case-sensitive")
		}
		return problem.New(semantic, field, "the value is of the wrong kind or out of range; %s is expected", kindWords(sem.GoType))
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return problem.New("malformed_json", base, "the JSON ends too early")
	}
	return problem.New("malformed_json", base, "the JSON is not valid")
}

// kindWords says in words what JSON a Go type is read from.
func kindWords(t reflect.Type) string {
	if t == nil {
		return "another kind of value"
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint32, reflect.Uint64:
		return "an integer"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "an array"
	}
	return "an object"
}

// scanMode says what scanJSON checks beyond the grammar.
type scanMode int

const (
	scanFrame   scanMode = iota // what carries base64: nesting and tokens
	scanValue                   // any JSON value: also strings and numbers
	scanPayload                 // a statement: also names, nulls, and what must be sealed
)

// scanStats is what scanJSON saw.
type scanStats struct{ Tokens int }

// scanJSON walks the tokens of one JSON text once and refuses what two readers
// might read differently or what costs too much: duplicate names, bad UTF-8,
// trailing data, nesting, tokens and strings over the limits, numbers that are not
// integers of at most 2^53-1. For payloads it also refuses names that differ from
// a known one in case only, null for a known field, and person data and addresses
// outside sealed groups.
func scanJSON(b []byte, mode scanMode) (scanStats, error) {
	s := scanner{dec: jsontext.NewDecoder(bytes.NewBuffer(b)), mode: mode}
	for {
		tok, err := s.dec.ReadToken()
		if errors.Is(err, io.EOF) {
			if s.stats.Tokens == 0 {
				return s.stats, problem.New("malformed_json", "", "there is no JSON here")
			}
			return s.stats, nil
		}
		if err != nil {
			return s.stats, jsonProblem(err, "malformed_json", "")
		}
		if s.done {
			return s.stats, problem.New("malformed_json", "", "more data follows the JSON value")
		}
		if err := s.token(tok); err != nil {
			return s.stats, err
		}
	}
}

type scanner struct {
	dec   *jsontext.Decoder
	mode  scanMode
	stats scanStats
	name  string // the name whose value comes next, if in an object
	ext   int    // depth of the ext object that we are in; 0 if none
	seal  int    // depth of the object "sealed" that we are in; 0 if none
	done  bool
}

func (s *scanner) token(tok jsontext.Token) error {
	s.stats.Tokens++
	if s.stats.Tokens > MaxTokens {
		return problem.New("too_large", "", "the JSON has more than %d tokens", MaxTokens)
	}
	depth := s.dec.StackDepth()
	kind := tok.Kind()
	s.done = depth == 0
	// In an object, names and values alternate; after a name the count is odd.
	var isName bool
	if depth > 0 && kind == '"' {
		parent, n := s.dec.StackIndex(depth)
		isName = parent == '{' && n%2 == 1
	}
	switch kind {
	case '{', '[':
		if depth > MaxDepth {
			return problem.New("malformed_json", s.where(), "the JSON is nested more than %d deep", MaxDepth)
		}
		switch {
		case s.ext == 0 && s.name == "ext":
			s.ext = depth
		case s.ext == 0 && s.seal == 0 && s.name == "sealed":
			s.seal = depth
		}
		s.name = ""
	case '}', ']':
		if depth < s.ext {
			s.ext = 0
		}
		if depth < s.seal {
			s.seal = 0
		}
		s.name = ""
	case '"':
		if s.mode == scanFrame {
			return nil
		}
		v := tok.String()
		if len(v) > MaxString {
			return problem.New("too_large", s.where(), "a string has %d bytes, limit %d", len(v), MaxString)
		}
		if isName {
			s.name = v
			return s.checkName(v)
		}
		s.name = ""
		if s.mode == scanPayload && looksLikeEmail(v) {
			return mustSeal(s.where(), "this looks like an e-mail address")
		}
	case '0':
		s.name = ""
		if !plainInteger(tok.String()) {
			return problem.New("invalid_statement", s.where(), "numbers are integers between -(2^53-1) and 2^53-1, written without fraction or exponent")
		}
	case 'n':
		if s.mode == scanPayload && s.ext == 0 && s.name != "prev" && knownNames[foldName(s.name)] == s.name && s.name != "" {
			return problem.New("invalid_statement", s.where(), "null is not a value of this field").WithHint("leave the field out")
		}
		s.name = ""
	default:
		s.name = ""
	}
	return nil
}

func (s *scanner) where() string { return clipField(string(s.dec.StackPointer())) }

func (s *scanner) checkName(name string) error {
	if s.mode != scanPayload {
		return nil
	}
	if s.seal > 0 {
		return s.checkSealedName(name)
	}
	folded := foldName(name)
	if s.ext == 0 {
		if known, ok := knownNames[folded]; ok && known != name {
			return problem.New("malformed_json", s.where(), "the name %q differs from %q in case only", clip(name), known).
				WithHint("names are case-sensitive")
		}
	}
	if i := strings.LastIndexAny(folded, ":/#."); i >= 0 {
		folded = folded[i+1:]
	}
	if sealedOnly[folded] {
		return mustSeal(s.where(), "personal data and addresses stand in sealed groups only")
	}
	return nil
}

// checkSealedName lets nothing into "sealed" but groups of alg and digest.
func (s *scanner) checkSealedName(name string) error {
	switch d := s.dec.StackDepth() - s.seal; {
	case d == 0 && !slices.Contains(SealedGroups(), name):
		return problem.New("invalid_statement", s.where(), "there is no sealed group %q", clip(name)).
			WithHint("groups are %v", SealedGroups())
	case d == 1 && name != "alg" && name != "digest", d > 1:
		return mustSeal(s.where(), "a sealed group is named by alg and digest only; what it holds is disclosed apart")
	}
	return nil
}

func mustSeal(field, why string) error {
	return problem.New("sealed_required", field, "%s", why).
		WithHint("put it in the sealed group person or route; what is logged in clear can never be erased")
}

// plainInteger reports whether a JSON number is an integer that every reader
// reads alike. "-0" is not.
func plainInteger(s string) bool {
	digits := strings.TrimPrefix(s, "-")
	if strings.ContainsAny(digits, ".eE") || len(digits) > 16 || s == "-0" {
		return false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	return err == nil && n <= MaxInteger
}

// foldName maps names that careless readers take for one another to one: letter
// case, and the two letters outside ASCII that fold into it (U+017F long s, U+212A
// Kelvin sign), and the separators "-" and "_".
func foldName(s string) string {
	plain := true
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 'a' || c > 'z' {
			plain = false
			break
		}
	}
	if plain {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '-' || r == '_':
		case r >= 'A' && r <= 'Z':
			b.WriteRune(r - 'A' + 'a')
		case r == '\u017f':
			b.WriteByte('s')
		case r == '\u212a':
			b.WriteByte('k')
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// knownNames maps the folded form of every field name of statements to the name.
var knownNames = func() map[string]string {
	m := map[string]string{}
	seen := map[reflect.Type]bool{}
	var add func(t reflect.Type)
	add = func(t reflect.Type) {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct || seen[t] {
			return
		}
		seen[t] = true
		for i := range t.NumField() {
			f := t.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name != "" {
				m[foldName(name)] = name
			}
			add(f.Type)
		}
	}
	add(reflect.TypeFor[statementWire]())
	add(reflect.TypeFor[Event]())
	m["ledger"] = "ledger"
	for _, g := range SealedGroups() {
		delete(m, g)
	}
	for _, k := range kindTable {
		add(reflect.TypeOf(k.newBody()))
	}
	return m
}()

// sealedOnly lists the (folded) names of fields that would hold an address or
// something about a person. They may stand in the openings of sealed groups only.
var sealedOnly = func() map[string]bool {
	m := map[string]bool{}
	for _, n := range strings.Fields(`
		address addresses addressline addressline1 addressline2 address1 address2 addresslocality addressregion
		streetaddress street streetname streetnumber housenumber building floor apartment flat
		postcode postalcode zip zipcode postofficebox pobox
		installaddress installationaddress siteaddress deliveryaddress shippingaddress billingaddress homeaddress
		phone phonenumber telephone telephonenumber mobile mobilenumber cellphone fax faxnumber
		email emailaddress mail mailaddress
		person persons personname fullname firstname lastname givenname familyname middlename surname maidenname
		contact contacts contactname contactperson contactpoint
		customer customername consumer consumername homeowner resident
		installername technician technicianname drivername driver signatory signatoryname
		dateofbirth birthdate birthday gender nationality passport passportnumber nationalid
		socialsecuritynumber ssn iban driverlicense driverslicense
	`) {
		m[n] = true
	}
	return m
}()

// looksLikeEmail reports whether s holds something@domain.tld or a mailto: or
// tel: link.
func looksLikeEmail(s string) bool {
	if strings.HasPrefix(s, "mailto:") || strings.HasPrefix(s, "tel:") {
		return true
	}
	for rest := s; ; {
		i := strings.IndexByte(rest, '@')
		if i < 0 {
			return false
		}
		local, domain := rest[:i], rest[i+1:]
		rest = domain
		if end := strings.IndexFunc(domain, func(r rune) bool { return !isDomainRune(r) }); end >= 0 {
			domain = domain[:end]
		}
		domain = strings.TrimRight(domain, ".")
		dot := strings.LastIndexByte(domain, '.')
		if local != "" && isLocalByte(local[len(local)-1]) && dot > 0 && isTopLevel(domain[dot+1:]) {
			return true
		}
	}
}

// isTopLevel tells a top-level domain from the end of a version number.
func isTopLevel(s string) bool {
	return len(s) >= 2 && !strings.ContainsFunc(s, func(r rune) bool { return r < 'A' || r > 'Z' && r < 'a' || r > 'z' })
}

func isDomainRune(r rune) bool {
	return r == '.' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

func isLocalByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("_.+-'", c) >= 0
}
