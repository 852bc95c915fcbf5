package gs1

import "strings"

// fnc1 is how scanners transmit the separator FNC1 inside data.
const fnc1 = 0x1d

// fixedLength holds the data length of the AIs that need no separator, by their
// first two digits (GS1 General Specifications, figure 7.8.5-2).
var fixedLength = map[string]int{
	"00": 18, "01": 14, "02": 14, "03": 14, "11": 6, "12": 6, "13": 6, "15": 6, "16": 6, "17": 6, "18": 6, "19": 6, "20": 2,
	"31": 6, "32": 6, "33": 6, "34": 6, "35": 6, "36": 6, "41": 13,
}

// aiLength returns the number of digits of the AI that begins with these two, or
// 0 if there is none.
func aiLength(two string) int {
	switch {
	case two >= "00" && two <= "03", two >= "10" && two <= "13", two >= "15" && two <= "22", two == "30", two == "37", two >= "90" && two <= "99":
		return 2
	case two >= "23" && two <= "25", two == "40", two == "41", two == "42", two == "71":
		return 3
	case two >= "31" && two <= "36", two == "39", two == "43", two == "70", two == "72", two == "80", two == "81", two == "82":
		return 4
	}
	return 0
}

// scanElements reads a GS1 element string: with brackets around the AIs, where a
// bracket that belongs to the data is written "\(", or as scanned, with an
// optional symbology identifier and FNC1 separators.
func scanElements(s string) (Scanned, error) {
	var e elements
	var err error
	if s[0] == '(' {
		e, err = bracketed(s)
	} else {
		if s[0] == ']' {
			if len(s) < 4 {
				return Scanned{}, bad("", "the scan ends after its symbology identifier")
			}
			sym := s[:3]
			s = s[3:]
			switch sym {
			case "]d2", "]C1", "]e0", "]e1", "]Q3", "]J1":
			default:
				if hasPrefixFold(s, "http://") || hasPrefixFold(s, "https://") {
					return scanLink(s)
				}
				return Scanned{}, bad("", "symbology %s carries no GS1 data", quote(sym)).WithHint("scan the GS1 DataMatrix, GS1-128 or QR code of the label")
			}
		}
		e, err = separated(s)
	}
	if err != nil {
		return Scanned{}, err
	}
	set, primary, err := primaryOf(e)
	if err != nil {
		return Scanned{}, err
	}
	for _, q := range qualifiers[primary] {
		if v, ok := e[q]; ok {
			set[q] = v
		}
	}
	return set.id(primary)
}

// bracketed reads "(01)09506000134352(21)A".
func bracketed(s string) (elements, error) {
	e := elements{}
	for s != "" {
		end := strings.IndexByte(s, ')')
		if s[0] != '(' || end < 3 || end > 5 || !isDigits(s[1:end]) {
			return nil, bad("", "an AI in brackets was expected at %s", quote(s)).WithHint("write a bracket that belongs to the data as \\(")
		}
		ai := s[1:end]
		s = s[end+1:]
		var v strings.Builder
		for s != "" && s[0] != '(' {
			if strings.HasPrefix(s, `\(`) {
				s = s[1:]
			}
			v.WriteByte(s[0])
			s = s[1:]
		}
		if err := e.set(ai, v.String()); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// separated reads the data of a scan, in which FNC1 ends each value whose length
// is not fixed.
func separated(s string) (elements, error) {
	e := elements{}
	s = strings.Trim(s, string(rune(fnc1)))
	for s != "" {
		if len(s) < 2 || !isDigits(s[:2]) {
			return nil, bad("", "an AI was expected at %s", quote(s)).WithHint("the FNC1 separator before it may be lost: check the scanner's settings")
		}
		n := aiLength(s[:2])
		if n == 0 || len(s) < n || !isDigits(s[:n]) {
			return nil, bad("", "no AI begins at %s", quote(s)).WithHint("the FNC1 separator before it may be lost: check the scanner's settings")
		}
		ai := s[:n]
		length, fixed := fixedLength[s[:2]]
		s = s[n:]
		var value string
		if fixed {
			if len(s) < length {
				return nil, bad(ai, "AI %s has %d characters; the scan ends after %d", ai, length, len(s))
			}
			value, s = s[:length], s[length:]
			s = strings.TrimPrefix(s, string(rune(fnc1)))
		} else {
			value, s, _ = strings.Cut(s, string(rune(fnc1)))
		}
		if err := e.set(ai, value); err != nil {
			return nil, err
		}
	}
	return e, nil
}
