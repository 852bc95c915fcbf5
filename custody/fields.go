package custody

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"fabtrail.dev/fabtrail/custody/gs1"
	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// ParseTime reads a time of a statement: RFC 3339 in UTC, written
// YYYY-MM-DDThh:mm:ss[.f]Z with up to nine digits of fraction, from 2000 to 2199.
func ParseTime(s string) (time.Time, error) {
	const layout = "2006-01-02T15:04:05"
	bad := func() (time.Time, error) {
		return time.Time{}, problem.New("invalid_statement", "", "%q is not a time", clip(s)).
			WithHint("write RFC 3339 in UTC, such as 2026-11-02T03:14:15Z")
	}
	body, ok := strings.CutSuffix(s, "Z")
	if !ok || len(body) < len(layout) {
		return bad()
	}
	head, frac := body[:len(layout)], body[len(layout):]
	t, err := time.Parse(layout, head)
	if err != nil || t.Format(layout) != head {
		return bad()
	}
	if frac != "" {
		if frac[0] != '.' || len(frac) < 2 || len(frac) > 10 || !digitsOnly(frac[1:]) {
			return bad()
		}
		n, err := strconv.ParseInt((frac[1:] + "000000000")[:9], 10, 64)
		if err != nil {
			return bad()
		}
		t = t.Add(time.Duration(n))
	}
	if y := t.Year(); y < 2000 || y > 2199 {
		return time.Time{}, problem.New("invalid_statement", "", "the year %d is out of range", y).WithHint("years are 2000 to 2199")
	}
	return t, nil
}

// FormatTime writes t as statements do, to the millisecond.
func FormatTime(t time.Time) string {
	return t.UTC().Truncate(time.Millisecond).Format("2006-01-02T15:04:05.999Z")
}

// Geo is a position on WGS 84 in integers: degrees times 1e7, and the radius in
// metres within which it is true (0 if not stated).
type Geo struct {
	Lat, Lon int32
	Metres   uint32
}

const (
	geoScale  = 10_000_000
	maxMetres = 20_037_508 // half of the equator
)

// ParseGeo reads "geo:lat,lon" or "geo:lat,lon;u=metres" (a subset of RFC 5870):
// decimal degrees with up to seven digits of fraction, whole metres. No floating
// point is involved.
func ParseGeo(s string) (Geo, error) {
	g, ok := parseGeo(s)
	if !ok {
		return Geo{}, problem.New("invalid_statement", "", "%q is not a position", clip(s)).
			WithHint("write geo:lat,lon;u=metres with at most seven decimals, such as geo:22.6163,120.3133;u=50")
	}
	return g, nil
}

func parseGeo(s string) (g Geo, ok bool) {
	rest, ok := strings.CutPrefix(s, "geo:")
	if !ok {
		return g, false
	}
	pos, u, hasU := strings.Cut(rest, ";u=")
	lat, lon, ok := strings.Cut(pos, ",")
	if !ok {
		return g, false
	}
	if g.Lat, ok = parseDegrees(lat, 90); !ok {
		return g, false
	}
	if g.Lon, ok = parseDegrees(lon, 180); !ok {
		return g, false
	}
	if hasU {
		n, err := strconv.ParseUint(u, 10, 32)
		if err != nil || n == 0 || n > maxMetres || u[0] == '0' || !digitsOnly(u) {
			return g, false
		}
		g.Metres = uint32(n)
	}
	return g, true
}

func parseDegrees(s string, limit int64) (int32, bool) {
	digits, neg := strings.CutPrefix(s, "-")
	whole, frac, hasFrac := strings.Cut(digits, ".")
	if whole == "" || len(whole) > 3 || !digitsOnly(whole) || len(whole) > 1 && whole[0] == '0' {
		return 0, false
	}
	if hasFrac && (frac == "" || len(frac) > 7 || !digitsOnly(frac)) {
		return 0, false
	}
	n, err := strconv.ParseInt(whole+(frac + "0000000")[:7], 10, 64)
	if err != nil || n > limit*geoScale || neg && n == 0 {
		return 0, false
	}
	if neg {
		n = -n
	}
	return int32(n), true
}

// String writes g with as few decimals as it needs.
func (g Geo) String() string {
	s := "geo:" + degrees(g.Lat) + "," + degrees(g.Lon)
	if g.Metres > 0 {
		s += ";u=" + strconv.FormatUint(uint64(g.Metres), 10)
	}
	return s
}

func degrees(e7 int32) string {
	n, sign := int64(e7), ""
	if n < 0 {
		n, sign = -n, "-"
	}
	s := sign + strconv.FormatInt(n/geoScale, 10)
	if f := n % geoScale; f != 0 {
		s += "." + strings.TrimRight(fmt.Sprintf("%07d", f), "0")
	}
	return s
}

// coarse reports whether g tells no more than a neighbourhood: at most two
// decimals, and a stated radius of at least 1,000 m.
func (g Geo) coarse() bool {
	const cent = geoScale / 100
	return g.Metres >= 1000 && g.Lat%cent == 0 && g.Lon%cent == 0
}

func digitsOnly(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// countries holds the ISO 3166-1 alpha-2 codes, and XK (Kosovo, user-assigned).
const countries = " AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ " +
	"CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR " +
	"GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP " +
	"KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ " +
	"NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW " +
	"SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ " +
	"UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW "

// IsCountry reports whether s is an ISO 3166-1 alpha-2 code.
func IsCountry(s string) bool {
	return len(s) == 2 && s[0] != ' ' && s[1] != ' ' && strings.Contains(countries, " "+s+" ")
}

// IsLocode reports whether s has the form of a UN/LOCODE: a country (or XZ, for
// international waters) and three characters A-Z, 2-9.
func IsLocode(s string) bool {
	if len(s) != 5 || !IsCountry(s[:2]) && s[:2] != "XZ" {
		return false
	}
	for _, c := range s[2:] {
		if (c < 'A' || c > 'Z') && (c < '2' || c > '9') {
			return false
		}
	}
	return true
}

// isEventID reports whether s is "urn:uuid:" and a UUIDv7 (RFC 9562) in lower
// case.
func isEventID(s string) bool {
	u, ok := strings.CutPrefix(s, "urn:uuid:")
	if !ok || len(u) != 36 || u[14] != '7' || strings.IndexByte("89ab", u[19]) < 0 {
		return false
	}
	for i := 0; i < len(u); i++ {
		c := u[i]
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
		} else if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// checker collects the first problem of a statement; after it, every method does
// nothing. Fields are JSON pointers below base.
type checker struct {
	base string
	err  *problem.Problem
}

func (c *checker) fail(field, format string, a ...any) failure {
	p := problem.New("invalid_statement", c.base+field, format, a...)
	if c.err == nil {
		c.err = p
	}
	return failure{p}
}

// failure lets a hint be added to a problem; the hint is lost when an earlier
// problem stands.
type failure struct{ p *problem.Problem }

// WithHint says what to do.
func (f failure) WithHint(format string, a ...any) { f.p.Hint = fmt.Sprintf(format, a...) }

func (c *checker) problem(err error, field string) {
	if c.err == nil && err != nil {
		p := *asProblem(err)
		p.Field = c.base + field
		c.err = &p
	}
}

// id checks a canonical identifier of one of the given kinds.
func (c *checker) id(field, uri string, kinds ...gs1.Kind) gs1.ID {
	if c.err != nil {
		return gs1.ID{}
	}
	if uri == "" {
		c.fail(field, "an identifier of a %s is missing", kinds[0])
		return gs1.ID{}
	}
	if len(uri) > MaxURI {
		c.fail(field, "the identifier has %d bytes, limit %d", len(uri), MaxURI)
		return gs1.ID{}
	}
	id, err := gs1.CanonicalKind(uri, kinds...)
	c.problem(err, field)
	return id
}

func (c *checker) party(field, uri string) { c.id(field, uri, gs1.Party) }

func (c *checker) digest(field, hex string) {
	if c.err != nil {
		return
	}
	if _, err := entry.ParseHash(hex); err != nil {
		c.fail(field, "%q is not a SHA-256 digest", clip(hex)).WithHint("write 64 lower-case hex digits")
	}
}

// oneOf checks an enumeration; the empty string is no value.
func (c *checker) oneOf(field, v string, values ...string) {
	if c.err == nil && !slices.Contains(values, v) {
		c.fail(field, "%q is not a value of this field", clip(v)).WithHint("use one of %s", strings.Join(values, ", "))
	}
}

func (c *checker) optionalOneOf(field, v string, values ...string) {
	if v != "" {
		c.oneOf(field, v, values...)
	}
}

// text checks words for people: 1 to most bytes without control or invisible
// characters.
func (c *checker) text(field, v string, most int) {
	if c.err != nil {
		return
	}
	if v == "" || len(v) > most {
		c.fail(field, "the text has %d bytes, want 1 to %d", len(v), most)
		return
	}
	for _, r := range v {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029' || r == unicode.ReplacementChar {
			c.fail(field, "the text holds a control or invisible character (U+%04X)", r)
			return
		}
	}
}

func (c *checker) optionalText(field, v string, most int) {
	if v != "" {
		c.text(field, v, most)
	}
}

func (c *checker) texts(field string, vs []string, most int64) {
	c.count(field, int64(len(vs)), 0, most)
	for i, v := range vs {
		c.text(pointer(field, i), v, 256)
	}
}

// word checks a short name of a machine's vocabulary.
func (c *checker) word(field, v string) {
	if c.err != nil {
		return
	}
	ok := v != "" && len(v) <= 64
	for i := 0; ok && i < len(v); i++ {
		b := v[i]
		ok = b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || i > 0 && strings.IndexByte("._-", b) >= 0
	}
	if !ok {
		c.fail(field, "%q is not a word of this vocabulary", clip(v)).WithHint("use 1 to 64 letters, digits, '.', '_', '-'")
	}
}

func (c *checker) optionalWord(field, v string) {
	if v != "" {
		c.word(field, v)
	}
}

func (c *checker) time(field, v string) {
	if c.err == nil {
		_, err := ParseTime(v)
		c.problem(err, field)
	}
}

func (c *checker) optionalTime(field, v string) {
	if v != "" {
		c.time(field, v)
	}
}

func (c *checker) country(field, v string) {
	if c.err == nil && !IsCountry(v) {
		c.fail(field, "%q is not a country", clip(v)).WithHint("write an ISO 3166-1 alpha-2 code, such as TW")
	}
}

func (c *checker) countries(field string, vs []string) {
	for i, v := range vs {
		c.country(pointer(field, i), v)
	}
	c.distinct(field, vs)
}

func (c *checker) locode(field, v string) {
	if c.err == nil && v != "" && !IsLocode(v) {
		c.fail(field, "%q is not a UN/LOCODE", clip(v)).WithHint("write country and place, such as TWKHH")
	}
}

func (c *checker) geo(field, v string) (g Geo) {
	if c.err == nil && v != "" {
		var err error
		g, err = ParseGeo(v)
		c.problem(err, field)
	}
	return g
}

// count checks the length of a list or a number.
func (c *checker) count(field string, n, least, most int64) {
	if c.err == nil && (n < least || n > most) {
		c.fail(field, "there are %d, want %d to %d", n, least, most)
	}
}

// distinct refuses a list that names something twice.
func (c *checker) distinct(field string, vs []string) {
	if c.err != nil {
		return
	}
	seen := make(map[string]bool, len(vs))
	for i, v := range vs {
		if seen[v] {
			c.fail(pointer(field, i), "%q stands here twice", clip(v))
			return
		}
		seen[v] = true
	}
}

func (c *checker) parties(field string, vs []string, most int64) {
	c.count(field, int64(len(vs)), 1, most)
	for i, v := range vs {
		if c.err != nil {
			return
		}
		c.party(pointer(field, i), v)
	}
	c.distinct(field, vs)
}

// key checks a base64 SPKI and returns its key.
func (c *checker) key(field, spki string) (k Key) {
	if c.err == nil {
		var err error
		k, err = parseSPKI(spki)
		c.problem(err, field)
	}
	return k
}

func (c *checker) base64(field, v string, most int) {
	if c.err != nil {
		return
	}
	b, err := decodeBase64(v)
	c.problem(err, field)
	if c.err == nil && (len(b) == 0 || len(b) > most) {
		c.fail(field, "the value has %d bytes, want 1 to %d", len(b), most)
	}
}
