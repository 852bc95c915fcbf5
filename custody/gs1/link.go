package gs1

import (
	"encoding/base64"
	"strings"
)

// maxSegments bounds the path segments and query members of a link.
const maxSegments = 64

// alphas are the convenience names of application identifiers in links.
var alphas = map[string]string{
	"gtin": "01", "sscc": "00", "gln": "414", "party": "417", "giai": "8004", "grai": "8003", "itip": "8006", "cpid": "8010",
	"cpv": "22", "lot": "10", "ser": "21", "glnx": "254", "tpx": "235", "cpsn": "8011", "gdti": "253", "gcn": "255",
	"ginc": "401", "gsin": "402", "gsrn": "8018", "gsrnp": "8017", "gmn": "8013",
}

// qualifiers lists what may follow each primary key.
var qualifiers = map[string][]string{
	"01":   {"22", "10", "21", "235"},
	"00":   nil,
	"414":  {"254", "7040"},
	"417":  {"7040"},
	"8004": {"7040"},
	"8003": nil,
	"8006": {"22", "10", "21"},
	"8010": {"8011"},
}

// otherKeys are primary keys that Fabtrail reads nothing from.
var otherKeys = map[string]string{
	"253": "GDTI (a document)", "255": "GCN (a coupon)", "401": "GINC (a consignment)", "402": "GSIN (a shipment)",
	"8013": "GMN (a product model)", "8017": "GSRN-P (a provider of a service)", "8018": "GSRN (a recipient of a service)",
}

func aiOf(segment string) string {
	if ai, ok := alphas[strings.ToLower(segment)]; ok {
		return ai
	}
	return segment
}

// elements is a set of AI values, not percent-encoded.
type elements map[string]string

// set adds a value; a second, different value of the same AI is refused,
// because two readers might choose differently.
func (e elements) set(ai, value string) error {
	if have, ok := e[ai]; ok && have != value {
		return bad(ai, "AI %s is given twice, as %s and %s", ai, quote(have), quote(value))
	}
	e[ai] = value
	return nil
}

// id makes the ID of a set whose primary key is known.
func (e elements) id(primary string) (Scanned, error) {
	for ai, v := range e {
		if _, known := fieldOf[ai]; known {
			checked, err := checkAI(ai, v)
			if err != nil {
				return Scanned{}, err
			}
			e[ai] = checked
		}
	}
	out := Scanned{}
	scheme, ext := SSCC, ""
	switch primary {
	case "01":
		_, hasSerial := e["21"]
		_, hasLot := e["10"]
		_, thirdParty := e["235"]
		switch {
		case thirdParty && !hasSerial:
			return Scanned{}, unfollowed("235", "a serial number of a third party is not something that Fabtrail follows")
		case hasSerial:
			scheme, ext, out.Lot = SGTIN, e["21"], e["10"]
		case hasLot:
			scheme, ext = LGTIN, e["10"]
		default:
			scheme = GTIN
		}
	case "414":
		scheme, ext = SGLN, e["254"]
	case "417":
		scheme = PGLN
	case "8004":
		scheme = GIAI
	case "8003":
		scheme = GRAI
	case "8006":
		scheme, ext, out.Lot = ITIP, e["21"], e["10"]
	case "8010":
		scheme, ext = CPI, e["8011"]
	}
	var err error
	out.ID, err = New(scheme, e[primary], ext)
	return out, err
}

// fieldOf holds the AIs that are verified wherever they appear.
var fieldOf = map[string]struct{}{
	"01": {}, "00": {}, "10": {}, "21": {}, "22": {}, "235": {}, "254": {}, "414": {}, "417": {},
	"8003": {}, "8004": {}, "8006": {}, "8010": {}, "8011": {},
}

// scanLink reads a GS1 Digital Link of any domain, with any path before the
// primary key. The first segment that names a primary key and is followed by a
// valid value of it begins the key; all that follows must be its qualifiers.
func scanLink(s string) (Scanned, error) {
	_, rest, _ := strings.Cut(s, "://")
	rest, _, _ = strings.Cut(rest, "#")
	rest, query, _ := strings.Cut(rest, "?")
	host, path, _ := strings.Cut(rest, "/")
	if host == "" {
		return Scanned{}, bad("", "the link has no host")
	}
	segs := strings.Split(strings.TrimSuffix(path, "/"), "/")
	if len(segs) > maxSegments {
		return Scanned{}, bad("", "the link has more than %d path segments", maxSegments)
	}
	for i, seg := range segs {
		var err error
		if segs[i], err = unescape(seg); err != nil {
			return Scanned{}, err
		}
	}
	members, pedigree, err := readQuery(query)
	if err != nil {
		return Scanned{}, err
	}
	set, primary, err := readPath(segs)
	if err != nil {
		return Scanned{}, err
	}
	if primary == "" {
		if set, primary, err = primaryOf(members); err != nil {
			return Scanned{}, err
		}
	}
	for _, q := range qualifiers[primary] {
		if v, ok := members[q]; ok {
			if err := set.set(q, v); err != nil {
				return Scanned{}, err
			}
		}
	}
	out, err := set.id(primary)
	out.Pedigree = pedigree
	return out, err
}

// readPath finds the primary key in a path and reads its qualifiers. primary is
// empty when the path names no key.
func readPath(segs []string) (set elements, primary string, err error) {
	var first error
	for i := 0; i+1 < len(segs); i++ {
		ai := aiOf(segs[i])
		if what, ok := otherKeys[ai]; ok && first == nil && isDigits(segs[i+1]) {
			first = unfollowed(ai, "a %s is not something that Fabtrail follows", what)
			continue
		}
		allowed, ok := qualifiers[ai]
		if !ok {
			continue
		}
		key, err := checkAI(ai, segs[i+1])
		if err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		set = elements{ai: key}
		for j := i + 2; j < len(segs); j += 2 {
			q := aiOf(segs[j])
			if !contains(allowed, q) || j+1 == len(segs) {
				return nil, "", bad(q, "%s cannot follow AI %s in a Digital Link", quote(segs[j]), ai)
			}
			if _, twice := set[q]; twice {
				return nil, "", bad(q, "AI %s is given twice", q)
			}
			set[q] = segs[j+1]
		}
		return set, ai, nil
	}
	return nil, "", first
}

// readQuery reads the members of a query by AI, and takes the pedigree key out.
// Members that are no AI are ignored.
func readQuery(query string) (elements, []byte, error) {
	out := elements{}
	var pedigree []byte
	if query == "" {
		return out, nil, nil
	}
	members := strings.FieldsFunc(query, func(r rune) bool { return r == '&' || r == ';' })
	if len(members) > maxSegments {
		return nil, nil, bad("", "the link has more than %d query members", maxSegments)
	}
	for _, m := range members {
		name, value, _ := strings.Cut(m, "=")
		value, err := unescape(value)
		if err != nil {
			return nil, nil, err
		}
		if name == "k" {
			key, err := ParsePedigreeKey(value)
			if err != nil {
				return nil, nil, err
			}
			if pedigree != nil && string(pedigree) != string(key) {
				return nil, nil, bad("k", "the link has two different pedigree keys")
			}
			pedigree = key
			continue
		}
		if ai := aiOf(name); ai != name || isDigits(name) {
			if err := out.set(ai, value); err != nil {
				return nil, nil, err
			}
		}
	}
	return out, pedigree, nil
}

// primaryOf finds the one primary key of a set.
func primaryOf(e elements) (elements, string, error) {
	primary := ""
	for ai := range qualifiers {
		if _, ok := e[ai]; !ok {
			continue
		}
		if primary != "" {
			return nil, "", bad("", "AI %s and AI %s are both identifiers: it is not clear which is meant", min(primary, ai), max(primary, ai))
		}
		primary = ai
	}
	if primary == "" {
		for ai, what := range otherKeys {
			if _, ok := e[ai]; ok {
				return nil, "", unfollowed(ai, "a %s is not something that Fabtrail follows", what)
			}
		}
		return nil, "", unfollowed("", "there is no GS1 identifier in it").
			WithHint("a Digital Link holds a key such as /01/{GTIN}/21/{serial}, /00/{SSCC} or /8004/{GIAI}")
	}
	return elements{primary: e[primary]}, primary, nil
}

// FormatPedigreeKey writes a 16-byte key as 22 characters of base64url.
func FormatPedigreeKey(key []byte) string { return base64.RawURLEncoding.EncodeToString(key) }

// ParsePedigreeKey reads exactly the form that FormatPedigreeKey writes.
func ParsePedigreeKey(s string) ([]byte, error) {
	if len(s) != 22 {
		return nil, bad("k", "a pedigree key has 22 characters; this has %d", len(s)).WithHint("scan the code again: it may have been cut")
	}
	key, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(key) != 16 {
		return nil, bad("k", "the pedigree key is not canonical base64url of 16 bytes").WithHint("scan the code again: a letter may have changed case")
	}
	return key, nil
}

const upperHex = "0123456789ABCDEF"

// escape percent-encodes every byte that is not an RFC 3986 unreserved one.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if isDigits(s[i:i+1]) || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || c == '-' || c == '.' || c == '_' || c == '~' {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(upperHex[c>>4])
		b.WriteByte(upperHex[c&15])
	}
	return b.String()
}

// unescape decodes percent-encoding; a "+" stays a "+", which serials may hold.
func unescape(s string) (string, error) {
	if strings.IndexByte(s, '%') < 0 {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", bad("", "percent-encoding is cut short in %s", quote(s))
		}
		hi, lo := unhex(s[i+1]), unhex(s[i+2])
		if hi < 0 || lo < 0 {
			return "", bad("", "%s is not percent-encoding in %s", quote(s[i:i+3]), quote(s)).WithHint("a literal %% is written %%25")
		}
		b.WriteByte(byte(hi<<4 | lo))
		i += 2
	}
	return b.String(), nil
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}
