package gs1

import (
	"strings"

	"fabtrail.dev/fabtrail/internal/problem"
)

// Kind is what an identifier stands for.
type Kind string

// The kinds of identifier.
const (
	Unit      Kind = "unit"      // one serialised thing
	Container Kind = "container" // a logistic unit or freight container
	Lot       Kind = "lot"       // a GTIN and a lot number
	Product   Kind = "product"   // a GTIN
	Party     Kind = "party"     // who acts
	Site      Kind = "site"      // where
)

// Scheme is the numbering system of an identifier.
type Scheme string

// The schemes that have a canonical URI.
const (
	SGTIN Scheme = "sgtin"
	GIAI  Scheme = "giai"
	GRAI  Scheme = "grai"
	ITIP  Scheme = "itip"
	CPI   Scheme = "cpi"
	SSCC  Scheme = "sscc"
	BIC   Scheme = "bic" // ISO 6346
	LGTIN Scheme = "lgtin"
	GTIN  Scheme = "gtin"
	PGLN  Scheme = "pgln"
	SGLN  Scheme = "sgln"
)

// ID is one valid identifier. IDs are equal exactly when their URIs are.
type ID struct {
	Kind   Kind
	Scheme Scheme
	Key    string // GTIN-14, SSCC-18, GLN-13, GIAI, ..., ISO 6346 number
	Ext    string // serial, lot or GLN extension, not percent-encoded; may be empty
}

const (
	canonicalStem = "https://id.gs1.org/"
	bicPrefix     = "urn:epc:id:bic:"
	// MaxInput bounds what Parse and Scan read, in bytes.
	MaxInput = 2048
)

// layout tells how a scheme is written as a Digital Link: the AI of its key and
// that of its extension.
type layout struct {
	kind   Kind
	keyAI  string
	extAI  string
	extOpt bool
}

var layouts = map[Scheme]layout{
	SGTIN: {Unit, "01", "21", false},
	GIAI:  {Unit, "8004", "", false},
	GRAI:  {Unit, "8003", "", false},
	ITIP:  {Unit, "8006", "21", false},
	CPI:   {Unit, "8010", "8011", false},
	SSCC:  {Container, "00", "", false},
	BIC:   {Container, "", "", false},
	LGTIN: {Lot, "01", "10", false},
	GTIN:  {Product, "01", "", false},
	PGLN:  {Party, "417", "", false},
	SGLN:  {Site, "414", "254", true},
}

// New makes an ID of a scheme from its values as AI data (not percent-encoded),
// verifying both. GTINs of 8, 12 and 13 digits are padded to 14.
func New(scheme Scheme, key, ext string) (ID, error) {
	l, ok := layouts[scheme]
	if !ok {
		return ID{}, bad("", "%q is not a supported identifier scheme", scheme)
	}
	var err error
	if scheme == BIC {
		if err = CheckISO6346(key); err != nil {
			return ID{}, err
		}
	} else if key, err = checkAI(l.keyAI, key); err != nil {
		return ID{}, err
	}
	switch {
	case scheme == GRAI && len(key) == 14:
		return ID{}, unfollowed("8003", "this GRAI has no serial: it names a type of asset, not one asset")
	case l.extAI == "" && ext != "":
		return ID{}, bad("", "a %s takes no extension", scheme)
	case l.extAI != "" && (ext != "" || !l.extOpt):
		if ext, err = checkAI(l.extAI, ext); err != nil {
			return ID{}, err
		}
	}
	return ID{Kind: l.kind, Scheme: scheme, Key: key, Ext: ext}, nil
}

// URI returns the canonical URI of id.
func (id ID) URI() string {
	if id.Scheme == BIC {
		return bicPrefix + id.Key
	}
	l := layouts[id.Scheme]
	s := canonicalStem + l.keyAI + "/" + escape(id.Key)
	if id.Ext != "" {
		s += "/" + l.extAI + "/" + escape(id.Ext)
	}
	return s
}

// String returns the canonical URI.
func (id ID) String() string { return id.URI() }

// IsZero reports whether id is the zero ID.
func (id ID) IsZero() bool { return id == ID{} }

// Product returns the product of an SGTIN or lot, and whether it has one.
func (id ID) Product() (ID, bool) {
	switch id.Scheme {
	case SGTIN, LGTIN, GTIN:
		return ID{Kind: Product, Scheme: GTIN, Key: id.Key}, true
	case ITIP:
		return ID{Kind: Product, Scheme: GTIN, Key: id.Key[:14]}, true
	}
	return ID{}, false
}

// Link returns the canonical URI with the pedigree key (16 bytes) as its query:
// what is printed in the QR code of an item.
func (id ID) Link(pedigree []byte) string {
	return id.URI() + "?k=" + FormatPedigreeKey(pedigree)
}

// Canonical refuses s unless it is the canonical URI of a supported identifier.
// It is the check for everything that is signed.
func Canonical(s string) error {
	_, err := ParseCanonical(s)
	return err
}

// ParseCanonical reads a canonical URI and refuses every other spelling.
func ParseCanonical(s string) (ID, error) {
	if id, ok := plainLink(s); ok {
		return id, nil
	}
	id, err := Parse(s)
	if err != nil {
		return ID{}, err
	}
	if u := id.URI(); u != s {
		return ID{}, bad("", "%s is not in canonical form", quote(s)).WithHint("write %s", u)
	}
	return id, nil
}

// plainLink reads the canonical links that nearly all statements name: of a party, a
// product, and a lot or serial in characters that need no escape. It only ever says
// yes; all else is left to Parse.
func plainLink(s string) (ID, bool) {
	rest, ok := strings.CutPrefix(s, canonicalStem)
	if !ok {
		return ID{}, false
	}
	if key, ok := strings.CutPrefix(rest, "417/"); ok {
		id, err := New(PGLN, key, "")
		return id, err == nil && len(key) == 13 && id.Key == key
	}
	rest, ok = strings.CutPrefix(rest, "01/")
	if !ok || len(rest) < 14 {
		return ID{}, false
	}
	key, ext, scheme := rest[:14], "", GTIN
	if tail := rest[14:]; tail != "" {
		switch tail[:min(4, len(tail))] {
		case "/21/":
			scheme = SGTIN
		case "/10/":
			scheme = LGTIN
		default:
			return ID{}, false
		}
		if ext = tail[4:]; ext == "" {
			return ID{}, false
		}
		for i := range len(ext) {
			if c := ext[i] | 0x20; (c < 'a' || c > 'z') && (ext[i] < '0' || ext[i] > '9') {
				return ID{}, false
			}
		}
	}
	id, err := New(scheme, key, ext)
	return id, err == nil && id.Key == key && id.Ext == ext
}

// CanonicalKind is ParseCanonical for identifiers of the given kinds only.
func CanonicalKind(s string, kinds ...Kind) (ID, error) {
	id, err := ParseCanonical(s)
	if err != nil {
		return ID{}, err
	}
	for _, k := range kinds {
		if id.Kind == k {
			return id, nil
		}
	}
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = string(k)
	}
	return ID{}, bad("", "%s is a %s; a %s is needed here", quote(s), id.Kind, strings.Join(names, " or "))
}

// Parse reads an identifier in any spelling that Scan reads, except one with a
// pedigree key.
func Parse(s string) (ID, error) {
	sc, err := Scan(s)
	if err != nil {
		return ID{}, err
	}
	if sc.Pedigree != nil {
		return ID{}, bad("k", "a pedigree key is not part of an identifier").WithHint("write %s", sc.ID.URI())
	}
	return sc.ID, nil
}

// Scanned is what a scanner's output holds.
type Scanned struct {
	ID       ID
	Pedigree []byte // 16 bytes; nil if there was none
	Lot      string // lot number that came beside a serial; may be empty
}

// Scan reads whatever a scanner or a partner's system yields: GS1 Digital Links
// of any domain, EPC URNs, GS1 element strings with brackets or FNC1, and bare
// ISO 6346 numbers. Surrounding white space is ignored.
func Scan(s string) (Scanned, error) {
	if len(s) > MaxInput {
		return Scanned{}, bad("", "the identifier has %d bytes, more than %d", len(s), MaxInput)
	}
	s = strings.Trim(s, " \t\r\n")
	switch {
	case s == "":
		return Scanned{}, bad("", "the identifier is empty")
	case hasPrefixFold(s, "http://"), hasPrefixFold(s, "https://"):
		return scanLink(s)
	case hasPrefixFold(s, "urn:"):
		id, err := parseURN(s)
		return Scanned{ID: id}, err
	case s[0] == '(', s[0] == ']', s[0] == fnc1, strings.IndexByte(s, fnc1) > 0:
		return scanElements(s)
	}
	if n := strings.NewReplacer(" ", "", "-", "").Replace(s); looksLikeISO6346(n) {
		id, err := New(BIC, strings.ToUpper(n), "")
		return Scanned{ID: id}, err
	}
	p := unfollowed("", "%s is not an identifier in a form that Fabtrail reads", quote(s))
	if isDigits(s) {
		return Scanned{}, p.WithHint("digits alone do not say what they number: write a Digital Link such as https://id.gs1.org/01/{GTIN}/21/{serial}, or (01){GTIN}(21){serial}")
	}
	return Scanned{}, p.WithHint("write a GS1 Digital Link (https://...), an EPC URN (urn:epc:id:...), or an element string ((01)...(21)...)")
}

// Unfollowed reports whether err says that an identifier is of a kind that
// Fabtrail does not follow, rather than wrong.
func Unfollowed(err error) bool {
	p := problem.As(err)
	return p != nil && p.Extra["unfollowed"] == true
}

func unfollowed(field, format string, a ...any) *problem.Problem {
	return bad(field, format, a...).With("unfollowed", true)
}

func bad(field, format string, a ...any) *problem.Problem {
	return problem.New("invalid_identifier", field, format, a...)
}
