package epcis

import "strings"

// prefixes maps a namespace prefix to its URI.
type prefixes map[string]string

// gs1Prefixes are those that the GS1 context defines.
var gs1Prefixes = prefixes{
	"epcis": "https://ref.gs1.org/epcis/", "cbv": cbvWeb, "cbvmda": "urn:epcglobal:cbv:mda:", "gs1": gs1Voc,
	"rdfs": "http://www.w3.org/2000/01/rdf-schema#", "owl": "http://www.w3.org/2002/07/owl#",
	"xsd": "http://www.w3.org/2001/XMLSchema#", "dcterms": "http://purl.org/dc/terms/",
}

// isGS1Context reports whether a URL is one of the places where GS1 publishes, or
// published, the EPCIS context.
func isGS1Context(s string) bool {
	rest, ok := strings.CutPrefix(s, "https://")
	if !ok {
		rest, ok = strings.CutPrefix(s, "http://")
	}
	host, file, _ := strings.Cut(rest, "/")
	if !ok || host != "ref.gs1.org" && host != "gs1.github.io" && host != "ns.gs1.org" {
		return false
	}
	return strings.Contains(strings.ToLower(file), "epcis")
}

// contextRule accepts context URLs, which are never fetched, and inline contexts,
// which must not redefine what the GS1 context protects.
func contextRule(c *checker, n *node, p path) {
	switch n.kind {
	case '"':
		uriRule(c, n, p)
	case '{':
		for _, m := range n.obj {
			at := p.at(m.name)
			if standardTerms[m.name] {
				c.fail(&node{off: m.off}, at, "%q is a term of the GS1 context, which may not be redefined", m.name).
					hint("use a prefix of your own")
				continue
			}
			if want, ok := gs1Prefixes[m.name]; ok && termURI(m.val) != "" && trimSlash(termURI(m.val)) != trimSlash(want) {
				c.fail(m.val, at, "prefix %s is %s in the GS1 context, not %s", m.name, want, show(termURI(m.val)))
				continue
			}
			if m.val.kind != '"' && m.val.kind != '{' && m.val.kind != 'n' && !strings.HasPrefix(m.name, "@") {
				c.fail(m.val, at, "a prefix stands for a URI in a string; this is %s", m.val.kindName())
			}
		}
	case '[':
		for i, v := range n.arr {
			if v.kind == '[' {
				c.fail(v, p.index(i), "a context in a list must be a URL or an object")
				continue
			}
			contextRule(c, v, p.index(i))
		}
	default:
		c.fail(n, p, "a context must be a URL, an object or a list of them; this is %s", n.kindName())
	}
}

func trimSlash(s string) string {
	s = strings.TrimPrefix(strings.TrimPrefix(s, "https://"), "http://")
	return strings.TrimPrefix(strings.TrimRight(s, "/#"), "www.")
}

func termURI(n *node) string {
	if n.kind == '{' {
		return n.get("@id").str()
	}
	return n.str()
}

// standardTerms are the names that EPCIS gives a meaning of its own.
var standardTerms = terms(`id type ObjectEvent AggregationEvent TransactionEvent TransformationEvent AssociationEvent EPCISDocument
	EPCISQueryDocument schemaVersion creationDate instanceIdentifier sender receiver epcisHeader epcisBody eventList eventTime recordTime
	eventTimeZoneOffset eventID certificationInfo errorDeclaration declarationTime reason correctiveEventIDs action bizStep disposition
	persistentDisposition set unset readPoint bizLocation bizTransactionList bizTransaction sourceList source destinationList destination
	sensorElementList sensorElement sensorMetadata sensorReport parentID childEPCs childQuantityList epcList quantityList epcClass quantity uom
	inputEPCList inputQuantityList outputEPCList outputQuantityList transformationID ilmd`)

// extend returns the prefixes of p and those of a context.
func (p prefixes) extend(n *node) prefixes {
	if n == nil {
		return p
	}
	all := prefixes{}
	for k, v := range p {
		all[k] = v
	}
	all.add(n)
	return all
}

func (p prefixes) add(n *node) {
	for _, v := range n.list() {
		p.add(v)
	}
	for _, m := range n.obj {
		if uri := termURI(m.val); uri != "" && !strings.HasPrefix(m.name, "@") {
			p[m.name] = uri
		}
	}
}

// expand replaces the prefix of a CURIE by its URI; other strings stay.
func (p prefixes) expand(s string) string {
	prefix, local, ok := strings.Cut(s, ":")
	if !ok || strings.HasPrefix(local, "//") {
		return s
	}
	if uri, ok := p[prefix]; ok {
		return uri + local
	}
	return s
}

// name writes the name of an extension member as the event hash wants it: its
// namespace in braces, then its local name.
func (p prefixes) name(s string) string {
	prefix, local, ok := strings.Cut(s, ":")
	if !ok {
		return s
	}
	if uri, ok := p[prefix]; ok {
		return "{" + uri + "}" + local
	}
	if i := strings.LastIndexAny(s, "/#:"); i >= 0 && i+1 < len(s) {
		return "{" + s[:i+1] + "}" + s[i+1:]
	}
	return s
}

// hasGS1Context reports whether a context names the GS1 context.
func hasGS1Context(n *node) bool {
	if n == nil {
		return false
	}
	if n.kind == '"' {
		return isGS1Context(n.text)
	}
	for _, v := range n.list() {
		if v.kind == '"' && isGS1Context(v.text) {
			return true
		}
	}
	return false
}

// otherContexts returns the context URLs that are not GS1's. They are ignored.
func otherContexts(n *node) []string {
	var out []string
	if n == nil {
		return nil
	}
	if n.kind == '"' && !isGS1Context(n.text) {
		out = append(out, n.text)
	}
	for _, v := range n.list() {
		out = append(out, otherContexts(v)...)
	}
	return out
}
