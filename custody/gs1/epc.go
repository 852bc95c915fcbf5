package gs1

import "strings"

// epcForm tells how an EPC URN scheme becomes a Digital Link: digits of company
// prefix and reference together (0: not fixed), and how they are arranged.
type epcForm struct {
	parts int // dot-separated parts
	build func(p []string) (string, error)
}

// idForms are the schemes of urn:epc:id: and what they are as a Digital Link,
// without the stem. All parts are percent-decoded.
var idForms = map[string]epcForm{
	"sgtin": {3, func(p []string) (string, error) { return gtinLink(p, "/21/"+escape(p[2])) }},
	"upui":  {3, func(p []string) (string, error) { return gtinLink(p, "/235/"+escape(p[2])) }},
	"sscc":  {2, buildSSCC},
	"sgln": {3, func(p []string) (string, error) {
		gln, err := withCheck("sgln", p[0], p[1], 12)
		if err != nil || p[2] == "0" {
			return "414/" + gln, err
		}
		return "414/" + gln + "/254/" + escape(p[2]), nil
	}},
	"pgln": {2, func(p []string) (string, error) { s, err := withCheck("pgln", p[0], p[1], 12); return "417/" + s, err }},
	"giai": {2, func(p []string) (string, error) { return "8004/" + escape(p[0]+p[1]), gcpPart(p[0]) }},
	"grai": {3, func(p []string) (string, error) {
		s, err := withCheck("grai", p[0], p[1], 12)
		return "8003/0" + s + escape(p[2]), err
	}},
	"gsrn": {2, func(p []string) (string, error) { s, err := withCheck("gsrn", p[0], p[1], 17); return "8018/" + s, err }},
	"gsrnp": {2, func(p []string) (string, error) {
		s, err := withCheck("gsrnp", p[0], p[1], 17)
		return "8017/" + s, err
	}},
	"gdti": {3, func(p []string) (string, error) {
		s, err := withCheck("gdti", p[0], p[1], 12)
		return "253/" + s + escape(p[2]), err
	}},
	"sgcn": {3, func(p []string) (string, error) {
		s, err := withCheck("sgcn", p[0], p[1], 12)
		return "255/" + s + escape(p[2]), err
	}},
	"ginc": {2, func(p []string) (string, error) { return "401/" + escape(p[0]+p[1]), gcpPart(p[0]) }},
	"gsin": {2, func(p []string) (string, error) { s, err := withCheck("gsin", p[0], p[1], 16); return "402/" + s, err }},
	"cpi": {3, func(p []string) (string, error) {
		return "8010/" + escape(p[0]+p[1]) + "/8011/" + escape(p[2]), gcpPart(p[0])
	}},
	"itip": {5, func(p []string) (string, error) { return itipLink(p, "/21/"+escape(p[4])) }},
}

// patternForms are the schemes of urn:epc:idpat: with "*" for the serial, which
// name a class.
var patternForms = map[string]epcForm{
	"sgtin": {3, func(p []string) (string, error) { return gtinLink(p, "") }},
	"upui":  {3, func(p []string) (string, error) { return gtinLink(p, "") }},
	"grai": {3, func(p []string) (string, error) {
		s, err := withCheck("grai", p[0], p[1], 12)
		return "8003/0" + s, err
	}},
	"gdti": {3, func(p []string) (string, error) { s, err := withCheck("gdti", p[0], p[1], 12); return "253/" + s, err }},
	"sgcn": {3, func(p []string) (string, error) { s, err := withCheck("sgcn", p[0], p[1], 12); return "255/" + s, err }},
	"cpi":  {3, func(p []string) (string, error) { return "8010/" + escape(p[0]+p[1]), gcpPart(p[0]) }},
	"itip": {5, func(p []string) (string, error) { return itipLink(p, "") }},
}

// EPCLink converts an EPC URN of any GS1 scheme (urn:epc:id:, urn:epc:class: or
// urn:epc:idpat: with "*" as its serial) to a Digital Link, computing the check
// digit. It serves identifiers, too, that have no ID, such as documents.
func EPCLink(urn string) (string, error) {
	low := strings.ToLower(urn)
	forms := idForms
	var rest string
	pattern := false
	switch {
	case strings.HasPrefix(low, "urn:epc:id:"):
		rest = urn[len("urn:epc:id:"):]
	case strings.HasPrefix(low, "urn:epc:idpat:"):
		forms, pattern, rest = patternForms, true, urn[len("urn:epc:idpat:"):]
	case strings.HasPrefix(low, "urn:epc:class:"):
		forms, rest = map[string]epcForm{"lgtin": {3, func(p []string) (string, error) { return gtinLink(p, "/10/"+escape(p[2])) }}}, urn[len("urn:epc:class:"):]
	default:
		return "", unfollowed("", "%s is not an EPC URN", quote(urn))
	}
	scheme, body, _ := strings.Cut(rest, ":")
	form, ok := forms[strings.ToLower(scheme)]
	if !ok {
		return "", unfollowed("", "EPC scheme %s is not a GS1 scheme of this form", quote(scheme))
	}
	parts := strings.SplitN(body, ".", form.parts)
	if len(parts) != form.parts {
		return "", bad("", "EPC scheme %s has %d parts between dots; %s has %d", scheme, form.parts, quote(urn), len(parts))
	}
	for i, p := range parts {
		var err error
		if parts[i], err = unescape(p); err != nil {
			return "", err
		}
		if parts[i] == "" {
			return "", bad("", "a part of %s is empty", quote(urn))
		}
	}
	if last := parts[len(parts)-1]; pattern && last != "*" {
		return "", bad("", "pattern %s does not end in *", quote(urn))
	}
	link, err := form.build(parts)
	if err != nil {
		return "", err
	}
	return canonicalStem + link, nil
}

func parseURN(s string) (ID, error) {
	low := strings.ToLower(s)
	if strings.HasPrefix(low, bicPrefix) {
		return New(BIC, s[len(bicPrefix):], "")
	}
	if !strings.HasPrefix(low, "urn:epc:") {
		return ID{}, unfollowed("", "%s is not an EPC URN", quote(s))
	}
	link, err := EPCLink(s)
	if err != nil {
		return ID{}, err
	}
	sc, err := scanLink(link)
	return sc.ID, err
}

// gcpPart verifies the company prefix of an EPC URN.
func gcpPart(s string) error {
	if len(s) < 4 || len(s) > 12 || !isDigits(s) {
		return bad("", "a GS1 company prefix has 4 to 12 digits; %s has not", quote(s))
	}
	return nil
}

// withCheck joins company prefix and reference to n digits and appends the check
// digit.
func withCheck(scheme, prefix, ref string, n int) (string, error) {
	if err := gcpPart(prefix); err != nil {
		return "", err
	}
	s := prefix + ref
	if !isDigits(s) || len(s) != n {
		return "", bad(scheme, "company prefix and reference of an EPC %s have %d digits together; %s.%s has %d characters", scheme, n, prefix, ref, len(s)).
			WithHint("a digit may be missing, or the check digit may be written too: EPC URNs have none")
	}
	return s + string(CheckDigit(s)), nil
}

// gtinOf makes the GTIN-14 of company prefix and indicator with item reference.
func gtinOf(prefix, item string) (string, error) {
	if err := gcpPart(prefix); err != nil {
		return "", err
	}
	if s := prefix + item; !isDigits(s) || len(s) != 13 || item == "" {
		return "", bad("sgtin", "company prefix and item reference of an EPC have 13 digits together; %s.%s has %d characters", prefix, item, len(s)).
			WithHint("a digit may be missing, or the check digit may be written too: EPC URNs have none")
	}
	s := item[:1] + prefix + item[1:]
	return s + string(CheckDigit(s)), nil
}

func gtinLink(p []string, tail string) (string, error) {
	gtin, err := gtinOf(p[0], p[1])
	return "01/" + gtin + tail, err
}

func itipLink(p []string, tail string) (string, error) {
	gtin, err := gtinOf(p[0], p[1])
	if err == nil && (len(p[2]) != 2 || len(p[3]) != 2) {
		err = bad("itip", "piece and total of an EPC itip have two digits each")
	}
	return "8006/" + gtin + p[2] + p[3] + tail, err
}

func buildSSCC(p []string) (string, error) {
	if err := gcpPart(p[0]); err != nil {
		return "", err
	}
	if s := p[0] + p[1]; !isDigits(s) || len(s) != 17 || p[1] == "" {
		return "", bad("sscc", "company prefix and serial reference of an EPC SSCC have 17 digits together; %s.%s has %d characters", p[0], p[1], len(s)).
			WithHint("a digit may be missing, or the check digit may be written too: EPC URNs have none")
	}
	s := p[1][:1] + p[0] + p[1][1:]
	return "00/" + s + string(CheckDigit(s)), nil
}
