package epcis

import "strings"

// vocabulary is one list of the Core Business Vocabulary. A term is written
// bare ("shipping"), as a URN, as a CURIE ("cbv:BizStep-shipping") or as a Web URI.
type vocabulary struct {
	name  string // for messages
	urn   string // prefix of URNs; empty where there are none
	web   string // prefix of terms below https://ref.gs1.org/cbv/
	terms map[string]bool
}

func terms(s string) map[string]bool {
	m := map[string]bool{}
	for _, t := range strings.Fields(s) {
		m[t] = true
	}
	return m
}

const (
	cbvWeb = "https://ref.gs1.org/cbv/"
	gs1Voc = "https://gs1.org/voc/"
	cbvURN = "urn:epcglobal:cbv:"
)

var (
	bizSteps = &vocabulary{"business step", cbvURN + "bizstep:", "BizStep-", terms(`accepting arriving assembling collecting
		commissioning consigning creating_class_instance cycle_counting decommissioning departing destroying disassembling
		dispensing encoding entering_exiting holding inspecting installing killing loading other packing picking receiving
		removing repackaging repairing replacing reserving retail_selling sampling sensor_reporting shipping staging_outbound
		stock_taking stocking storing transporting unloading unpacking void_shipping`)}
	dispositions = &vocabulary{"disposition", cbvURN + "disp:", "Disp-", terms(`active available completeness_inferred
		completeness_verified conformant container_closed container_open damaged destroyed dispensed disposed encoded expired
		in_progress in_transit inactive mismatch_class mismatch_instance mismatch_quantity needs_replacement no_pedigree_match
		non_conformant non_sellable_other partially_dispensed recalled reserved retail_sold returned sellable_accessible
		sellable_not_accessible stolen unavailable unknown`)}
	transactionTypes = &vocabulary{"business transaction type", cbvURN + "btt:", "BTT-", terms(`bol cert desadv inv pedigree po poc
		prodorder recadv rma testprd testres upevt`)}
	sourceDestTypes = &vocabulary{"source or destination type", cbvURN + "sdt:", "SDT-", terms(`owning_party possessing_party location`)}
	errorReasons    = &vocabulary{"error reason", cbvURN + "er:", "ER-", terms(`did_not_occur incorrect_data`)}
	components      = &vocabulary{"component", cbvURN + "comp:", "Comp-", terms(`x y z axial_distance azimuth height spherical_radius
		polar_angle elevation_angle easting northing latitude longitude altitude`)}
)

// read returns the bare term of s, or s itself if it is a private URI. ok is
// false if s is neither: an unknown bare word, or an unknown word in GS1's URN.
func (v *vocabulary) read(s string) (term string, ok bool) {
	if v.terms[s] {
		return s, true
	}
	if !strings.Contains(s, ":") {
		return s, false
	}
	for _, prefix := range []string{cbvWeb + v.web, "http://ref.gs1.org/cbv/" + v.web, "cbv:" + v.web, v.urn} {
		if t, cut := strings.CutPrefix(s, prefix); cut && v.terms[t] {
			return t, true
		}
	}
	if len(s) >= len(cbvURN) && strings.EqualFold(s[:len(cbvURN)], cbvURN) {
		return s, false
	}
	return s, isURI(s)
}

// near returns the term that a bare word was probably meant to be, or "".
func (v *vocabulary) near(s string) string {
	folded := strings.NewReplacer("-", "_", " ", "_").Replace(strings.ToLower(strings.TrimSpace(s)))
	if v.terms[folded] {
		return folded
	}
	best := ""
	for distance := 1; distance <= 2 && best == ""; distance++ {
		for t := range v.terms {
			if within(folded, t, distance) && (best == "" || t < best) {
				best = t
			}
		}
	}
	return best
}

// within reports whether the edit distance of a and b is at most max.
func within(a, b string, max int) bool {
	if d := len(a) - len(b); d > max || -d > max || len(a) > 64 {
		return false
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
		}
	}
	return row[len(b)] <= max
}

// isURI reports whether s is an absolute URI (RFC 3986): a scheme, a colon, and
// characters that are allowed in one, with sound percent-encoding.
func isURI(s string) bool {
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || rest == "" || !isScheme(scheme) {
		return false
	}
	for i := 0; i < len(rest); i++ {
		c := rest[i]
		switch {
		case c <= ' ', c >= 0x7f, strings.IndexByte("\"<>\\^`{|}", c) >= 0:
			return false
		case c == '%':
			if i+2 >= len(rest) || !isHex(rest[i+1]) || !isHex(rest[i+2]) {
				return false
			}
		}
	}
	return true
}

func isScheme(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		letter := 'a' <= c && c <= 'z'
		other := '0' <= s[i] && s[i] <= '9' || s[i] == '+' || s[i] == '-' || s[i] == '.' || s[i] == '_'
		if !letter && (i == 0 || !other) {
			return false
		}
	}
	return s != ""
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}

// isExtension reports whether a member's name belongs to a partner's own
// vocabulary: it has a prefix or is a URI.
func isExtension(name string) bool {
	prefix, local, ok := strings.Cut(name, ":")
	return ok && isScheme(prefix) && local != "" && !strings.ContainsAny(name, " \t\r\n")
}
