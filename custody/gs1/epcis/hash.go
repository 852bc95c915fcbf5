package epcis

import (
	"crypto/sha256"
	"encoding/hex"
	"math/big"
	"regexp"
	"sort"
	"strings"
	"time"

	"fabtrail.dev/fabtrail/custody/gs1"
)

// The EPCIS Event Hash ID (CBV 2.0, section 8.9): fields in a fixed order, each
// as name=value without separators, elements of lists sorted, times in UTC with
// milliseconds, vocabulary as Web URIs, identifiers as canonical Digital Links;
// SHA-256 over that, as a URI of RFC 6920. eventID, recordTime and
// errorDeclaration are not part of it, so that an error declaration has the hash
// of the event that it takes back.

// hasher writes the pre-hash string of one event.
type hasher struct {
	prefixes prefixes
	ignore   map[string]bool // expanded names of extension members left out
}

// ignoredFields returns the extension members that a document declares, by a
// member of local name "ignoreFields", to be added by its repository.
func ignoredFields(root *node, p prefixes) map[string]bool {
	out := map[string]bool{}
	for _, m := range root.obj {
		if !isExtension(m.name) || !strings.HasSuffix(m.name, ":ignoreFields") {
			continue
		}
		for _, v := range m.val.list() {
			out[p.name(v.str())] = true
		}
	}
	return out
}

func hashID(n *node, p prefixes, ignore map[string]bool) string {
	sum := sha256.Sum256([]byte(prehash(n, p, ignore)))
	return "ni:///sha-256;" + hex.EncodeToString(sum[:]) + "?ver=CBV2.0"
}

func prehash(n *node, p prefixes, ignore map[string]bool) string {
	h := &hasher{prefixes: p, ignore: ignore}
	known := map[string]bool{"@context": true, "type": true, "eventID": true, "recordTime": true, "errorDeclaration": true}
	var b strings.Builder
	b.WriteString("eventType=" + h.prefixes.expand(n.get("type").str()))
	for _, f := range eventOrder {
		known[f.name] = true
		if v := n.get(f.name); v != nil && !v.empty() {
			b.WriteString(f.write(h, f.name, v))
		}
	}
	b.WriteString(h.extensions(n, known))
	return b.String()
}

// empty reports whether n is a list or object without elements, which says no
// more than its absence does: XML has such lists where JSON has none.
func (n *node) empty() bool {
	return n.kind == '[' && len(n.arr) == 0 || n.kind == '{' && len(n.obj) == 0
}

// hashField tells how one field enters the pre-hash string.
type hashField struct {
	name  string
	write func(h *hasher, name string, v *node) string
}

func plain(conv func(*hasher, string) string) func(*hasher, string, *node) string {
	return func(h *hasher, name string, v *node) string { return name + "=" + conv(h, v.scalar()) }
}

var (
	asText = plain(func(_ *hasher, s string) string { return strings.TrimSpace(s) })
	asURI  = plain((*hasher).uri)
	asTime = plain(func(_ *hasher, s string) string { return hashTime(s) })
	asNum  = plain(func(_ *hasher, s string) string { return decimal(s) })
)

func asVocab(base string, v *vocabulary) func(*hasher, string, *node) string {
	return plain(func(h *hasher, s string) string { return h.term(v, base, s) })
}

// asSet writes a list of scalars: the name of the list once, then each element
// under its own name, sorted.
func asSet(item string, conv func(*hasher, string) string) func(*hasher, string, *node) string {
	return func(h *hasher, name string, v *node) string {
		return name + sorted(v.list(), func(e *node) string { return item + "=" + conv(h, e.scalar()) })
	}
}

// asObjects writes a list of objects, each as its fields in order.
func asObjects(prefix string, fields []hashField) func(*hasher, string, *node) string {
	return func(h *hasher, name string, v *node) string {
		return name + sorted(v.list(), func(e *node) string { return prefix + h.fields(e, fields) })
	}
}

// sorted joins the texts of elements in byte order; an empty list is left out.
func sorted(list []*node, text func(*node) string) string {
	out := make([]string, len(list))
	for i, e := range list {
		out[i] = text(e)
	}
	sort.Strings(out)
	return strings.Join(out, "")
}

func (h *hasher) fields(n *node, order []hashField) string {
	var b strings.Builder
	known := map[string]bool{}
	for _, f := range order {
		known[f.name] = true
		if v := n.get(f.name); v != nil {
			b.WriteString(f.write(h, f.name, v))
		}
	}
	b.WriteString(h.extensions(n, known))
	return b.String()
}

var quantityOrder = []hashField{{"epcClass", asURI}, {"quantity", asNum}, {"uom", asText}}

var placeOrder = []hashField{{"id", asURI}}

var sensorMetadataOrder = []hashField{{"time", asTime}, {"startTime", asTime}, {"endTime", asTime}, {"deviceID", asURI},
	{"deviceMetadata", asURI}, {"rawData", asURI}, {"dataProcessingMethod", asURI}, {"bizRules", asURI}}

var sensorReportOrder = []hashField{{"type", asVocab(gs1Voc, nil)}, {"exception", asVocab(gs1Voc, nil)}, {"deviceID", asURI},
	{"deviceMetadata", asURI}, {"rawData", asURI}, {"dataProcessingMethod", asURI}, {"bizRules", asURI}, {"time", asTime},
	{"microorganism", asURI}, {"chemicalSubstance", asURI}, {"value", asNum}, {"component", asVocab(cbvWeb, components)},
	{"stringValue", asText}, {"booleanValue", asText}, {"hexBinaryValue", asText}, {"uriValue", asURI}, {"minValue", asNum},
	{"maxValue", asNum}, {"meanValue", asNum}, {"sDev", asNum}, {"percRank", asNum}, {"percValue", asNum}, {"uom", asText},
	{"coordinateReferenceSystem", asURI}}

var sensorElementOrder = []hashField{
	{"sensorMetadata", func(h *hasher, name string, v *node) string { return name + h.fields(v, sensorMetadataOrder) }},
	{"sensorReport", func(h *hasher, name string, v *node) string {
		return sorted(v.list(), func(e *node) string { return name + h.fields(e, sensorReportOrder) })
	}},
}

func asPlace(h *hasher, name string, v *node) string { return name + h.fields(v, placeOrder) }

func asQuantities(h *hasher, name string, v *node) string {
	return asObjects("quantityElement", quantityOrder)(h, name, v)
}

func typed(field string, v *vocabulary) func(*hasher, string, *node) string {
	return asObjects("", []hashField{{"type", asVocab(cbvWeb, v)}, {field, asURI}})
}

var eventOrder = []hashField{
	{"eventTime", asTime}, {"eventTimeZoneOffset", asText},
	{"certificationInfo", func(h *hasher, name string, v *node) string {
		if v.kind == '[' {
			return sorted(v.arr, func(e *node) string { return h.extension(name, e) })
		}
		return h.extension(name, v)
	}},
	{"epcList", asSet("epc", (*hasher).uri)}, {"parentID", asURI}, {"inputEPCList", asSet("epc", (*hasher).uri)},
	{"childEPCs", asSet("epc", (*hasher).uri)}, {"quantityList", asQuantities}, {"childQuantityList", asQuantities},
	{"inputQuantityList", asQuantities}, {"outputEPCList", asSet("epc", (*hasher).uri)}, {"outputQuantityList", asQuantities},
	{"action", asText}, {"transformationID", asURI}, {"bizStep", asVocab(cbvWeb, bizSteps)}, {"disposition", asVocab(cbvWeb, dispositions)},
	{"persistentDisposition", func(h *hasher, name string, v *node) string {
		conv := func(h *hasher, s string) string { return h.term(dispositions, cbvWeb, s) }
		term := func(field string) string {
			return sorted(v.get(field).list(), func(e *node) string { return field + "=" + conv(h, e.scalar()) })
		}
		return name + term("set") + term("unset")
	}},
	{"readPoint", asPlace}, {"bizLocation", asPlace}, {"bizTransactionList", typed("bizTransaction", transactionTypes)},
	{"destinationList", typed("destination", sourceDestTypes)}, {"sourceList", typed("source", sourceDestTypes)},
	{"sensorElementList", asObjects("sensorElement", sensorElementOrder)},
	{"ilmd", func(h *hasher, name string, v *node) string { return name + h.extensions(v, nil) }},
}

// scalar returns the text of a scalar.
func (n *node) scalar() string {
	switch n.kind {
	case 't':
		return "true"
	case 'f':
		return "false"
	}
	return n.text
}

// extensions writes the members that are not known, sorted.
func (h *hasher) extensions(n *node, known map[string]bool) string {
	var out []string
	for _, m := range n.obj {
		if known[m.name] || m.name == "@context" {
			continue
		}
		name := h.prefixes.name(m.name)
		if h.ignore[name] {
			continue
		}
		out = append(out, h.extension(name, m.val))
	}
	sort.Strings(out)
	return strings.Join(out, "")
}

// extension writes one member of a partner's own: a list as its elements under
// the same name, an object as its name and its members.
func (h *hasher) extension(name string, v *node) string {
	switch v.kind {
	case '{':
		return name + h.extensions(v, nil)
	case '[':
		return sorted(v.arr, func(e *node) string { return h.extension(name, e) })
	case '0':
		return name + "=" + decimal(v.text)
	case 'n':
		return name
	}
	return name + "=" + strings.TrimSpace(v.scalar())
}

// term expands a vocabulary term to its Web URI. base is that of bare words of
// vocabularies without a list.
func (h *hasher) term(v *vocabulary, base, s string) string {
	s = strings.TrimSpace(s)
	if v != nil {
		if t, ok := v.read(s); ok && v.terms[t] {
			return base + v.web + t
		}
	}
	if !strings.Contains(s, ":") {
		return base + s
	}
	return h.prefixes.expand(s)
}

// uri expands CURIEs and writes identifiers as constrained canonical Digital
// Links. Identifiers are not verified here: the hash of an event does not depend
// on whether its check digits are right.
func (h *hasher) uri(s string) string {
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, "urn:epc:") {
		if link, err := gs1.EPCLink(s); err == nil {
			return link
		}
		return s
	}
	s = h.prefixes.expand(s)
	if strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://") {
		return constrained(s)
	}
	return s
}

// linkForms are the keys of a Digital Link that the hash knows, with the
// qualifiers that it keeps, finest last.
var linkForms = []struct {
	key, value string
	qualifiers []string
}{
	{"00", `\d{18}`, nil},
	{"01", `\d{8}|\d{12,14}`, []string{"10", "235", "21"}},
	{"253", `\d{13}[!-~]{0,51}`, nil},
	{"255", `\d{13}\d{0,12}`, nil},
	{"401", `[!-~]{1,90}`, nil},
	{"402", `\d{17}`, nil},
	{"414", `\d{13}`, []string{"254"}},
	{"417", `\d{13}`, nil},
	{"8003", `\d{14}[!-~]{0,48}`, nil},
	{"8004", `\d{4}[!-~]{0,86}`, nil},
	{"8006", `\d{18}`, []string{"10", "21"}},
	{"8010", `\d{4}[!-~]{0,86}`, []string{"8011"}},
	{"8017", `\d{18}`, nil},
	{"8018", `\d{18}`, nil},
}

var linkPatterns = func() map[string]*regexp.Regexp {
	m := map[string]*regexp.Regexp{}
	for _, f := range linkForms {
		m[f.key] = regexp.MustCompile("^(" + f.value + ")$")
	}
	return m
}()

// constrained rewrites a GS1 Digital Link of any domain to its constrained
// canonical form; other URLs stay as they are.
func constrained(s string) string {
	rest := s[strings.Index(s, "://")+3:]
	rest, _, _ = strings.Cut(rest, "?")
	rest, _, _ = strings.Cut(rest, "#")
	segs := strings.Split(rest, "/")[1:]
	for i := 0; i+1 < len(segs); i++ {
		for _, f := range linkForms {
			if segs[i] != f.key || !linkPatterns[f.key].MatchString(segs[i+1]) || (len(segs)-i)%2 != 0 {
				continue
			}
			key := segs[i+1]
			if f.key == "01" {
				key = strings.Repeat("0", 14-len(key)) + key
			}
			out := "https://id.gs1.org/" + f.key + "/" + key
			finest := ""
			for _, q := range f.qualifiers {
				for j := i + 2; j+1 < len(segs); j += 2 {
					if segs[j] == q {
						finest = "/" + q + "/" + segs[j+1]
					}
				}
			}
			return out + finest
		}
	}
	return s
}

// hashTime writes a time in UTC, rounded half up to milliseconds.
func hashTime(s string) string {
	t, err := parseTime(strings.TrimSpace(s))
	if err != nil {
		return strings.TrimSpace(s)
	}
	return t.UTC().Add(500 * time.Microsecond).Truncate(time.Millisecond).Format("2006-01-02T15:04:05.000Z")
}

// decimal writes a JSON number without exponent and without trailing zeros.
func decimal(s string) string {
	mantissa, exp, hasExp := strings.Cut(strings.ToLower(s), "e")
	if hasExp && (len(strings.TrimLeft(exp, "+-0")) > 2 || len(s) > 400) {
		return s // no measured value is like that, and expanding it would cost much
	}
	if hasExp {
		r, ok := new(big.Rat).SetString(mantissa + "e" + exp)
		if !ok {
			return s
		}
		mantissa = r.FloatString(100 + len(mantissa))
	}
	if strings.Contains(mantissa, ".") {
		mantissa = strings.TrimRight(strings.TrimRight(mantissa, "0"), ".")
	}
	if mantissa == "-0" {
		return "0"
	}
	return mantissa
}
