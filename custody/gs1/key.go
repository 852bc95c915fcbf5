package gs1

import (
	"fmt"
	"strings"
)

// CheckDigit returns the GS1 mod-10 check digit of digits, which exclude it.
func CheckDigit(digits string) byte {
	sum := 0
	for i := range len(digits) {
		d := int(digits[len(digits)-1-i] - '0')
		if i%2 == 0 {
			d *= 3
		}
		sum += d
	}
	return byte('0' + (10-sum%10)%10)
}

// ParseGTIN verifies a GTIN-8, -12, -13 or -14 and pads it to 14 digits.
func ParseGTIN(s string) (string, error) {
	if err := checkDigits("GTIN", s); err != nil {
		return "", err
	}
	switch len(s) {
	case 8, 12, 13, 14:
	default:
		return "", bad("01", "a GTIN has 8, 12, 13 or 14 digits; %s has %d", quote(s), len(s)).
			WithHint("compare with the label: a digit may be missing or doubled")
	}
	if err := checkLast("GTIN", "01", s); err != nil {
		return "", err
	}
	return strings.Repeat("0", 14-len(s)) + s, nil
}

// fixedNumber verifies a number of n digits whose last is its check digit.
func fixedNumber(name, ai, s string, n int) error {
	if err := checkDigits(name, s); err != nil {
		return err
	}
	if len(s) != n {
		return bad(ai, "a %s has %d digits; %s has %d", name, n, quote(s), len(s)).
			WithHint("compare with the label: a digit may be missing or doubled")
	}
	return checkLast(name, ai, s)
}

// checkDigits refuses anything but digits, naming the first offender.
func checkDigits(name, s string) error {
	for i := range len(s) {
		c := s[i]
		if '0' <= c && c <= '9' {
			continue
		}
		p := bad("", "a %s has digits only; %s has %q at position %d", name, quote(s), c, i+1)
		if d, ok := lookAlike[c]; ok {
			return p.WithHint("the letter %c at position %d may be the digit %c", c, i+1, d)
		}
		return p.WithHint("write the digits without spaces, dots or dashes")
	}
	if s == "" {
		return bad("", "the %s is empty", name)
	}
	return nil
}

// lookAlike maps letters to the digits that they are mistaken for.
var lookAlike = map[byte]byte{'O': '0', 'o': '0', 'Q': '0', 'D': '0', 'I': '1', 'l': '1', 'i': '1', 'Z': '2', 'z': '2', 'S': '5', 's': '5', 'G': '6', 'B': '8'}

func checkLast(name, ai, s string) error {
	body, got := s[:len(s)-1], s[len(s)-1]
	want := CheckDigit(body)
	if got == want {
		return nil
	}
	p := bad(ai, "the check digit of %s %s is %c at position %d; the digits before it need %c", name, s, got, len(s), want).
		With("expected", string(want))
	if at := swapped(s); at >= 0 {
		return p.WithHint("one digit is wrong, or two were swapped, perhaps %c and %c at positions %d and %d", s[at], s[at+1], at+1, at+2)
	}
	return p.WithHint("one digit is wrong: compare with the label")
}

// swapped returns the only place where swapping two neighbouring digits makes
// the check digit right, or -1 if there is none or more than one.
func swapped(s string) int {
	at := -1
	for i := range len(s) - 1 {
		if s[i] == s[i+1] {
			continue
		}
		t := s[:i] + string(s[i+1]) + string(s[i]) + s[i+2:]
		if CheckDigit(t[:len(t)-1]) != t[len(t)-1] {
			continue
		}
		if at >= 0 {
			return -1
		}
		at = i
	}
	return at
}

// CheckISO6346 verifies a freight container number of 11 characters: three
// letters of the owner, one of U, J or Z, six digits and the check digit.
func CheckISO6346(s string) error {
	if len(s) != 11 {
		return bad("bic", "an ISO 6346 number has 11 characters; %s has %d", quote(s), len(s))
	}
	for i := range 11 {
		c := s[i]
		switch {
		case i < 4 && 'a' <= c && c <= 'z':
			return bad("bic", "the letters of ISO 6346 number %s are upper-case", quote(s)).WithHint("write %s; is caps lock inverted?", strings.ToUpper(s))
		case i < 3 && (c < 'A' || c > 'Z'):
			return bad("bic", "ISO 6346 number %s has %q at position %d, where the owner's code has a letter", quote(s), c, i+1)
		case i == 3 && c != 'U' && c != 'J' && c != 'Z':
			return bad("bic", "ISO 6346 number %s has %q at position 4; the equipment category is U, J or Z", quote(s), c)
		case i > 3 && (c < '0' || c > '9'):
			p := bad("bic", "ISO 6346 number %s has %q at position %d, where a digit belongs", quote(s), c, i+1)
			if d, ok := lookAlike[c]; ok {
				return p.WithHint("%c may be the digit %c", c, d)
			}
			return p
		}
	}
	if want := iso6346Check(s[:10]); want != s[10] {
		return bad("bic", "the check digit of ISO 6346 number %s is %c at position 11; the characters before it need %c", s, s[10], want).
			With("expected", string(want)).WithHint("one character is wrong: compare with the container's door")
	}
	return nil
}

// iso6346Check returns the check digit of the first ten characters: letters
// count 10 to 38 without the multiples of 11, weights are powers of two.
func iso6346Check(s string) byte {
	sum := 0
	for i := range 10 {
		v := int(s[i] - '0')
		if s[i] >= 'A' {
			v = int(s[i]-'A') + 10
			v += (v - 1) / 10 // skips 11, 22 and 33
		}
		sum += v << i
	}
	return byte('0' + sum%11%10)
}

func looksLikeISO6346(s string) bool {
	if len(s) != 11 {
		return false
	}
	for i := range 4 {
		if c := s[i] | 0x20; c < 'a' || c > 'z' {
			return false
		}
	}
	return isDigits(s[4:])
}

// InCharset82 reports whether c belongs to the GS1 AI encodable character set 82.
func InCharset82(c byte) bool {
	switch {
	case '0' <= c && c <= '9', 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z':
		return true
	}
	return strings.IndexByte("!\"%&'()*+,-./:;<=>?_", c) >= 0
}

// inCharset39 reports whether c belongs to the GS1 AI encodable character set 39.
func inCharset39(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || c == '#' || c == '-' || c == '/'
}

// text verifies 1 to max characters of a character set.
func text(name, ai, s string, max int, in func(byte) bool) error {
	if s == "" {
		return bad(ai, "the %s is empty", name)
	}
	if len(s) > max {
		return bad(ai, "a %s has at most %d characters; %s has %d", name, max, quote(s), len(s))
	}
	for i := range len(s) {
		if in(s[i]) {
			continue
		}
		p := bad(ai, "%s %s has %q at position %d, which GS1 does not allow there", name, quote(s), s[i], i+1)
		switch {
		case s[i] >= 0x80:
			return p.WithHint("a scanner set to another keyboard or encoding yields such bytes")
		case s[i] == ' ':
			return p.WithHint("remove the space")
		}
		return p
	}
	return nil
}

// gcp verifies that a key begins with a GS1 company prefix: at least 4 digits.
func gcp(name, ai, s string) error {
	if len(s) < 5 || !isDigits(s[:4]) {
		return bad(ai, "a %s begins with a GS1 company prefix of at least 4 digits; %s does not", name, quote(s))
	}
	return nil
}

// checkAI verifies the value of one application identifier and returns it,
// padded where it is a short GTIN.
func checkAI(ai, v string) (string, error) {
	var err error
	switch ai {
	case "01":
		return ParseGTIN(v)
	case "00":
		err = fixedNumber("SSCC", ai, v, 18)
	case "414", "417":
		err = fixedNumber("GLN", ai, v, 13)
	case "21":
		err = text("serial number", ai, v, 20, InCharset82)
	case "10":
		err = text("lot number", ai, v, 20, InCharset82)
	case "22":
		err = text("consumer product variant", ai, v, 20, InCharset82)
	case "254":
		err = text("GLN extension", ai, v, 20, InCharset82)
	case "235":
		err = text("third-party serial", ai, v, 28, InCharset82)
	case "8004":
		if err = text("GIAI", ai, v, 30, InCharset82); err == nil {
			err = gcp("GIAI", ai, v)
		}
	case "8003":
		err = checkGRAI(v)
	case "8006":
		err = checkITIP(v)
	case "8010":
		if err = text("component identifier", ai, v, 30, inCharset39); err == nil {
			err = gcp("component identifier", ai, v)
		}
	case "8011":
		err = text("component serial", ai, v, 12, func(c byte) bool { return '0' <= c && c <= '9' })
		if err == nil && v[0] == '0' && len(v) > 1 {
			err = bad(ai, "a component serial does not begin with 0: %s", quote(v))
		}
	default:
		err = fmt.Errorf("application identifier %s is not checked", ai)
	}
	return v, err
}

func checkGRAI(v string) error {
	if len(v) < 14 {
		return bad("8003", "a GRAI has 14 digits and a serial; %s has %d characters", quote(v), len(v))
	}
	if err := fixedNumber("GRAI", "8003", v[:14], 14); err != nil {
		return err
	}
	if v[0] != '0' {
		return bad("8003", "the first digit of a GRAI is 0; that of %s is %c", quote(v), v[0])
	}
	if len(v) == 14 {
		return nil
	}
	return text("GRAI serial", "8003", v[14:], 16, InCharset82)
}

func checkITIP(v string) error {
	if err := checkDigits("ITIP", v); err != nil {
		return err
	}
	if len(v) != 18 {
		return bad("8006", "an ITIP has 18 digits; %s has %d", quote(v), len(v))
	}
	if err := checkLast("GTIN", "8006", v[:14]); err != nil {
		return err
	}
	if piece, total := v[14:16], v[16:]; piece == "00" || total == "00" || piece > total {
		return bad("8006", "ITIP %s says piece %s of %s", v, piece, total)
	}
	return nil
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// quote shows at most 64 bytes of s, so that an error stays short.
func quote(s string) string {
	if len(s) > 64 {
		return fmt.Sprintf("%q...", s[:64])
	}
	return fmt.Sprintf("%q", s)
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
