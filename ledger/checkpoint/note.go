package checkpoint

import (
	"encoding/base64"
	"encoding/binary"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxNote bounds a note, in bytes; a policy of 32 witnesses with
	// post-quantum signatures beside the classical ones fits.
	MaxNote = 256 << 10
	// MaxNoteSigs bounds the signature lines of one note.
	MaxNoteSigs = 128

	sigPrefix = "— "
)

// Note is a text and the signatures under it, none of them verified yet.
type Note struct {
	Text string // ends in a newline
	Sigs []NoteSig
}

// NoteSig is one signature line.
type NoteSig struct {
	Name  string
	KeyID uint32
	Sig   []byte // without the key ID; for a cosignature u64 time | signature
}

// Line returns the signature line with its newline.
func (s NoteSig) Line() string {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(s.Sig)), s.KeyID)
	b = append(b, s.Sig...)
	return sigPrefix + s.Name + " " + base64.StdEncoding.EncodeToString(b) + "\n"
}

// Marshal returns the note's bytes.
func (n Note) Marshal() []byte {
	var b strings.Builder
	b.WriteString(n.Text)
	b.WriteByte('\n')
	for _, s := range n.Sigs {
		b.WriteString(s.Line())
	}
	return []byte(b.String())
}

// ParseNote reads a signed note; errors wrap ErrMalformed. Two lines by one key
// are allowed, as the format does; see VKey.VerifyCosignature.
func ParseNote(b []byte) (Note, error) {
	if len(b) > MaxNote {
		return Note{}, malformed("note has %d bytes, limit %d", len(b), MaxNote)
	}
	s := string(b)
	if err := checkText(s); err != nil {
		return Note{}, err
	}
	i := strings.LastIndex(s, "\n\n")
	if i < 0 {
		return Note{}, malformed("note has no empty line before its signatures")
	}
	sigs, err := ParseSigLines(s[i+2:])
	if err != nil {
		return Note{}, err
	}
	return Note{Text: s[:i+1], Sigs: sigs}, nil
}

// ParseSigLines reads one or more signature lines, each with its newline, as a
// witness answers with; errors wrap ErrMalformed.
func ParseSigLines(s string) ([]NoteSig, error) {
	if s == "" {
		return nil, malformed("no signature line")
	}
	if err := checkText(s); err != nil {
		return nil, err
	}
	var sigs []NoteSig
	for s != "" {
		line, rest, ok := strings.Cut(s, "\n")
		if !ok {
			return nil, malformed("signatures do not end in a newline")
		}
		s = rest
		if len(sigs) == MaxNoteSigs {
			return nil, malformed("more than %d signatures", MaxNoteSigs)
		}
		sig, err := parseSigLine(line)
		if err != nil {
			return nil, err
		}
		sigs = append(sigs, sig)
	}
	return sigs, nil
}

func parseSigLine(line string) (NoteSig, error) {
	rest, ok := strings.CutPrefix(line, sigPrefix)
	if !ok {
		return NoteSig{}, malformed("signature line %.40q does not begin with an em dash and a space", line)
	}
	name, b64, _ := strings.Cut(rest, " ")
	if err := checkName(name); err != nil {
		return NoteSig{}, err
	}
	b, err := parseBase64(b64)
	if err != nil {
		return NoteSig{}, malformed("signature by %s: %v", name, err)
	}
	if len(b) < 5 {
		return NoteSig{}, malformed("signature by %s has %d bytes", name, len(b))
	}
	return NoteSig{Name: name, KeyID: binary.BigEndian.Uint32(b), Sig: b[4:]}, nil
}

// checkText refuses what no note may hold: bad UTF-8 and control characters.
func checkText(s string) error {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			return malformed("byte %d is not UTF-8", i)
		}
		if r < 0x20 && r != '\n' {
			return malformed("control character %#02x at byte %d", r, i)
		}
		i += n
	}
	return nil
}

// checkName refuses key names that a signature line cannot carry.
func checkName(name string) error {
	if name == "" {
		return malformed("empty key name")
	}
	if !utf8.ValidString(name) || strings.ContainsRune(name, '+') ||
		strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || unicode.IsSpace(r) }) {
		return malformed("key name %.60q has a space, a '+' or a control character", name)
	}
	return nil
}
