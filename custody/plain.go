package custody

import (
	"encoding/base64"
	"encoding/binary"
	"strings"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// plain reads JSON of the plainest spelling, as nearly all clients write it:
// strings of ASCII without escapes, names that need no second look, integers of at
// most 15 digits. It only ever says yes, to what the strict reader accepts as well;
// whatever is not plain is left to that reader, who also words every refusal.
type plain struct {
	b      []byte
	at     int
	all    string // b: texts are cut out of it, not copied one by one
	tokens int
	mode   scanMode
}

// maxPlainNames bounds the names of one object: they are compared one by one.
const maxPlainNames = 24

// plainJSON reports whether b is plain JSON that scanJSON accepts in this mode.
func plainJSON(b []byte, mode scanMode) bool {
	p := plain{b: b, mode: mode}
	return p.value(other, 0, false) && p.end()
}

// end reports that only white space follows, and that there was not too much.
func (p *plain) end() bool {
	return p.peek() == 0 && p.at == len(p.b) && p.tokens <= MaxTokens
}

// peek skips white space and returns the next byte, 0 at the end.
func (p *plain) peek() byte {
	for ; p.at < len(p.b); p.at++ {
		switch c := p.b[p.at]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// take skips white space and the byte c, if that is next.
func (p *plain) take(c byte) bool {
	if p.peek() != c || p.at == len(p.b) {
		return false
	}
	p.at++
	return true
}

// plainByte marks what may stand in a plain string.
var plainByte = func() (t [256]bool) {
	for c := 0x20; c < 0x7f; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// eightPlain reports whether all eight bytes of w are plainByte: what is below n sets its
// highest bit when n is taken from it, the lowest such byte surely.
func eightPlain(w uint64) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	quote, slash, del := w^ones*'"', w^ones*'\\', w^ones*0x7f
	return (w|(w-ones*' ')|(quote-ones)|(slash-ones)|(del-ones))&high == 0
}

// str reads a string and returns what is between the quotes.
func (p *plain) str() (s []byte, ok bool) {
	if !p.take('"') {
		return nil, false
	}
	from := p.at
	for p.at+8 <= len(p.b) && eightPlain(binary.LittleEndian.Uint64(p.b[p.at:])) {
		p.at += 8
	}
	for p.at < len(p.b) && plainByte[p.b[p.at]] {
		p.at++
	}
	s = p.b[from:p.at]
	if p.at == len(p.b) || p.b[p.at] != '"' {
		return nil, false
	}
	p.at++
	p.tokens++
	return s, p.mode == scanFrame || len(s) <= MaxString
}

// under is the name that a value stands under, as far as that says what it may be.
type under byte

const (
	other under = iota
	underSealed
	underExt
	underPrev
)

func underName(name []byte) under {
	switch string(name) {
	case "sealed":
		return underSealed
	case "ext":
		return underExt
	case "prev":
		return underPrev
	}
	return other
}

// value reads one value. depth is that of what it stands in; ext says that this is
// inside ext.
func (p *plain) value(name under, depth int, ext bool) bool {
	switch c := p.peek(); {
	case p.at == len(p.b):
		return false
	case c == '"':
		s, ok := p.str()
		return ok && (p.mode != scanPayload || !mayBeAddress(s))
	case c == '{' || c == '[':
		if depth >= MaxDepth || p.mode == scanPayload && name == underSealed && !ext {
			return false
		}
		p.at++
		p.tokens += 2 // with the closing one
		if ext = ext || name == underExt; c == '{' {
			return p.object(depth+1, ext)
		}
		return p.array(depth+1, ext)
	case c == '-' || c >= '0' && c <= '9':
		return p.integer()
	case c == 't':
		return p.word("true")
	case c == 'f':
		return p.word("false")
	case c == 'n':
		return (p.mode != scanPayload || name == underPrev) && p.word("null")
	}
	return false
}

func (p *plain) word(w string) bool {
	if !strings.HasPrefix(string(p.b[p.at:min(len(p.b), p.at+len(w))]), w) {
		return false
	}
	p.at += len(w)
	p.tokens++
	return true
}

// integer reads an integer whose size is beyond doubt.
func (p *plain) integer() bool {
	negative := p.b[p.at] == '-'
	if negative {
		p.at++
	}
	from := p.at
	for p.at < len(p.b) && p.b[p.at] >= '0' && p.b[p.at] <= '9' {
		p.at++
	}
	p.tokens++
	n := p.at - from
	if n == 0 || n > 15 || p.b[from] == '0' && (n > 1 || negative) {
		return false
	}
	if p.at == len(p.b) {
		return true
	}
	switch p.b[p.at] { // a fraction or an exponent is none of these
	case ',', '}', ']', ' ', '\t', '\n', '\r':
		return true
	}
	return false
}

func (p *plain) object(depth int, ext bool) bool {
	return p.members(ext, func(name []byte) bool { return p.value(underName(name), depth, ext) })
}

// members reads an object behind its bracket; value reads what stands under a name.
func (p *plain) members(ext bool, value func(name []byte) bool) bool {
	if p.take('}') {
		return true
	}
	var names [maxPlainNames][]byte
	for n := 0; ; n++ {
		name, ok := p.str()
		if !ok || n == maxPlainNames || !p.take(':') {
			return false
		}
		for _, other := range names[:n] {
			if string(other) == string(name) {
				return false
			}
		}
		names[n] = name
		if p.mode == scanPayload && !plainName(name, ext) {
			return false
		}
		if !value(name) {
			return false
		}
		if !p.take(',') {
			return p.take('}')
		}
	}
}

func (p *plain) array(depth int, ext bool) bool {
	if p.take(']') {
		return true
	}
	for {
		if !p.value(other, depth, ext) {
			return false
		}
		if !p.take(',') {
			return p.take(']')
		}
	}
}

// plainStatement reads the frame of a statement of plain spelling; predicate shares
// memory with payload, and text is the same as a string. ok is false for every other
// one, good or bad.
func plainStatement(payload []byte) (w statementWire, text string, ok bool) {
	p := plain{b: payload, mode: scanPayload}
	if !p.take('{') {
		return w, "", false
	}
	p.tokens += 2
	ok = p.members(false, func(name []byte) (ok bool) {
		switch string(name) {
		case "_type":
			w.Type, ok = p.text()
			return ok && !mayBeAddress([]byte(w.Type))
		case "predicateType":
			w.PredicateType, ok = p.text()
			return ok && !mayBeAddress([]byte(w.PredicateType))
		case "subject":
			w.Subject, ok = p.subjects()
			return ok
		case "predicate":
			p.peek()
			from := p.at
			ok = p.value(other, 1, false)
			w.Predicate, text = payload[from:p.at:p.at], p.whole()[from:p.at]
			return ok
		}
		return p.value(underName(name), 1, false)
	})
	return w, text, ok && p.end()
}

// subjects reads a list of one subject.
func (p *plain) subjects() ([]subjectWire, bool) {
	var s subjectWire
	p.tokens += 4
	ok := p.take('[') && p.take('{') && p.members(false, func(name []byte) (ok bool) {
		switch string(name) {
		case "uri":
			s.URI, ok = p.text()
			return ok && !mayBeAddress([]byte(s.URI))
		case "digest":
			p.tokens += 2
			s.Digest = map[string]string{}
			return p.take('{') && p.members(false, func(name []byte) bool {
				v, ok := p.text()
				if string(name) == "sha256" {
					s.Digest["sha256"] = v
				} else {
					s.Digest[string(name)] = v
				}
				return ok && !mayBeAddress([]byte(v))
			})
		}
		return p.value(underName(name), 3, false)
	}) && p.take(']')
	return []subjectWire{s}, ok
}

// plainName reports that a name of a statement needs no second look: it is a known
// one, or (in ext) short and of lower-case letters, and none that must be sealed.
func plainName(name []byte, ext bool) bool {
	if plainNames[string(name)] {
		return true
	}
	if !ext || len(name) > 64 {
		return false
	}
	for _, c := range name {
		if c < 'a' || c > 'z' {
			return false
		}
	}
	return !sealedOnly[string(name)]
}

// plainNames are the known names of statements that checkName lets pass.
var plainNames = map[string]bool{}

func init() { // the names come from the table of predicates, whose readers lead here
	for folded, name := range knownNames {
		if !sealedOnly[folded] {
			plainNames[name] = true
		}
	}
}

// mayBeAddress reports whether looksLikeEmail needs to be asked.
func mayBeAddress(s []byte) bool {
	for _, c := range s {
		if c == '@' {
			return true
		}
	}
	return len(s) > 3 && (s[0] == 'm' || s[0] == 't') && looksLikeEmail(string(s))
}

// plainDSSE reads an envelope of plain spelling with its names in any order; ok is
// false for every other one, good or bad. Payload type and limits are left to the
// caller; keyid and signature are as in the JSON.
func plainDSSE(b []byte) (w dsseWire, ok bool) {
	p := plain{b: b, mode: scanFrame}
	var seen [3]bool
	if !p.take('{') {
		return w, false
	}
	for {
		name, ok := p.str()
		if !ok || !p.take(':') {
			return w, false
		}
		field := 0
		switch string(name) {
		case "payloadType":
			w.PayloadType, ok = p.text()
		case "payload":
			field = 1
			w.Payload, ok = p.text()
		case "signatures":
			field = 2
			w.Signatures, ok = p.signatures()
		default:
			return w, false
		}
		if !ok || seen[field] {
			return w, false
		}
		seen[field] = true
		if !p.take(',') {
			return w, p.take('}') && p.end()
		}
	}
}

func (p *plain) text() (string, bool) {
	s, ok := p.str()
	if !ok {
		return "", false
	}
	return p.whole()[p.at-1-len(s) : p.at-1], true
}

// whole is b as a string.
func (p *plain) whole() string {
	if p.all == "" {
		p.all = string(p.b)
	}
	return p.all
}

func (p *plain) signatures() (out []sigWire, ok bool) {
	if !p.take('[') {
		return nil, false
	}
	for len(out) <= entry.MaxSignatures {
		var s sigWire
		var seen [2]bool
		if !p.take('{') {
			return nil, false
		}
		for {
			name, ok := p.str()
			if !ok || !p.take(':') {
				return nil, false
			}
			field := 0
			switch string(name) {
			case "keyid":
				s.KeyID, ok = p.text()
			case "sig":
				field = 1
				s.Sig, ok = p.text()
			default:
				return nil, false
			}
			if !ok || seen[field] {
				return nil, false
			}
			seen[field] = true
			if !p.take(',') {
				break
			}
		}
		if !p.take('}') {
			return nil, false
		}
		out = append(out, s)
		if !p.take(',') {
			return out, p.take(']')
		}
	}
	return nil, false
}

// strictBase64 refuses other trailing bits than zero; with the line breaks that it
// skips ruled out, what it reads is canonical.
var strictBase64 = base64.StdEncoding.Strict()
