package vectors

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

type line struct {
	name string
	sig  []byte // key ID and signature
}

// note reads a signed note: its text, and its signature lines.
func note(s string) (text string, lines []line, ok bool) {
	cut := strings.LastIndex(s, "\n\n")
	if cut < 0 || !strings.HasSuffix(s, "\n") || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\n' }) {
		return "", nil, false
	}
	for _, l := range strings.Split(strings.TrimSuffix(s[cut+2:], "\n"), "\n") {
		l, dash := strings.CutPrefix(l, "— ")
		name, sig, two := strings.Cut(l, " ")
		raw := b64(sig)
		if !dash || !two || name == "" || strings.Contains(name, "+") || strings.ContainsFunc(name, unicode.IsSpace) || len(raw) < 5 {
			return "", nil, false
		}
		lines = append(lines, line{name, raw})
	}
	return s[:cut+1], lines, len(lines) <= 128
}

func decimal(s string) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && strconv.FormatUint(n, 10) == s
}

// checkpoint reads the text of a checkpoint.
func checkpoint(text string) (origin string, size uint64, root data, ok bool) {
	l := strings.Split(text, "\n")
	if len(l) < 4 || l[len(l)-1] != "" || slices.Contains(l[:len(l)-1], "") || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' }) {
		return "", 0, nil, false
	}
	size, ok = decimal(l[1])
	root = b64(l[2])
	return l[0], size, root, ok && len(root) == 32
}

func TestCheckpoints(t *testing.T) {
	var v struct {
		Cases []struct {
			Name, Text, Outcome, Origin, Size string
			Root                              data
		}
	}
	load(t, "checkpoint/checkpoint.json", &v)
	for _, c := range v.Cases {
		origin, size, root, ok := checkpoint(c.Text)
		if ok != (c.Outcome == "ok") {
			t.Errorf("%s: accepted is %t", c.Name, ok)
		} else if ok && (origin != c.Origin || fmt.Sprint(size) != c.Size || !bytes.Equal(root, c.Root)) {
			t.Errorf("%s: %s %d %x", c.Name, origin, size, root)
		}
	}
	var n struct {
		Cases []struct {
			Name, Note, Outcome, Text string
			Signatures                int
		}
	}
	load(t, "checkpoint/note.json", &n)
	for _, c := range n.Cases {
		text, lines, ok := note(c.Note)
		if ok != (c.Outcome == "ok") {
			t.Errorf("%s: accepted is %t", c.Name, ok)
		} else if ok && (text != c.Text || len(lines) != c.Signatures) {
			t.Errorf("%s: %d signatures under %q", c.Name, len(lines), text)
		}
	}
}

type vkey struct {
	name string
	id   []byte
	kind byte
	key  ed25519.PublicKey
}

// parseVKey reads a verifier key. That the key is a point of the curve, and of
// large order, is not checked here.
func parseVKey(s string) (vkey, bool) {
	part := strings.SplitN(s, "+", 3)
	if len(part) != 3 || part[0] == "" || strings.ContainsFunc(part[0], unicode.IsSpace) {
		return vkey{}, false
	}
	raw := b64(part[2])
	if len(raw) != 33 || raw[0] != 1 && raw[0] != 4 {
		return vkey{}, false
	}
	id := sum([]byte(part[0]), []byte("\n"), raw)[:4]
	return vkey{part[0], id, raw[0], raw[1:]}, id.String() == part[1]
}

func TestVerifierKeys(t *testing.T) {
	var v struct {
		Cases []struct {
			Name, VKey, Outcome, KeyName string
			ID, Key                      data
			Type                         byte
		}
	}
	load(t, "checkpoint/vkey.json", &v)
	for _, c := range v.Cases {
		if strings.Contains(c.Name, "of order") || c.Name == "not a point" {
			continue // needs arithmetic on the curve
		}
		k, ok := parseVKey(c.VKey)
		if ok != (c.Outcome == "ok") {
			t.Errorf("%s: accepted is %t", c.Name, ok)
		} else if ok && (k.name != c.KeyName || !bytes.Equal(k.id, c.ID) || k.kind != c.Type || !bytes.Equal(k.key, c.Key)) {
			t.Errorf("%s: %+v", c.Name, k)
		}
	}
	var s struct {
		Cases []struct {
			Name, VKey, Text, Time, Line string
			Seed                         data
		}
	}
	load(t, "checkpoint/sign.json", &s)
	for _, c := range s.Cases {
		key := ed25519.NewKeyFromSeed(c.Seed)
		k, ok := parseVKey(c.VKey)
		if !ok || !bytes.Equal(k.key, key.Public().(ed25519.PublicKey)) {
			t.Errorf("%s: another key", c.Name)
		}
		b := slices.Clone(k.id)
		if at, ok := decimal(c.Time); ok {
			b = binary.BigEndian.AppendUint64(b, at)
			b = append(b, ed25519.Sign(key, []byte("cosignature/v1\ntime "+c.Time+"\n"+c.Text))...)
		} else {
			b = append(b, ed25519.Sign(key, []byte(c.Text))...)
		}
		if got := "— " + k.name + " " + base64.StdEncoding.EncodeToString(b) + "\n"; got != c.Line {
			t.Errorf("%s: %s", c.Name, got)
		}
	}
}

// policy is a tlog-policy. A group is satisfied by k of its members.
type policy struct {
	logs    []vkey
	keys    map[string]vkey // witnesses by their name in the policy
	groups  map[string]group
	quorum  string
	grouped map[string]bool
}

type group struct {
	k       int
	members []string
}

func parsePolicy(s string) (*policy, bool) {
	p := &policy{keys: map[string]vkey{}, groups: map[string]group{}, grouped: map[string]bool{}}
	s, ok := strings.CutSuffix(s, "\n")
	if !ok || strings.Contains(s, "\r") {
		return nil, false
	}
	for _, l := range strings.Split(s, "\n") {
		f := strings.Fields(l)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if !p.line(f) {
			return nil, false
		}
	}
	return p, p.quorum != "" && len(p.logs) > 0
}

func (p *policy) known(name string) bool {
	_, w := p.keys[name]
	_, g := p.groups[name]
	return w || g
}

func (p *policy) line(f []string) bool {
	switch {
	case f[0] == "log" && (len(f) == 2 || len(f) == 3):
		k, ok := parseVKey(f[1])
		p.logs = append(p.logs, k)
		return ok && k.kind == 1
	case f[0] == "witness" && (len(f) == 3 || len(f) == 4):
		k, ok := parseVKey(f[2])
		for _, other := range p.keys {
			ok = ok && !bytes.Equal(other.key, k.key)
		}
		ok = ok && !p.known(f[1]) && f[1] != "none"
		p.keys[f[1]] = k
		return ok && k.kind == 4
	case f[0] == "group" && len(f) >= 4:
		g := group{members: f[3:]}
		n, ok := decimal(f[2])
		switch {
		case f[2] == "any":
			n, ok = 1, true
		case f[2] == "all":
			n, ok = uint64(len(g.members)), true
		}
		g.k = int(n)
		for _, m := range g.members {
			ok = ok && p.known(m) && !p.grouped[m]
			p.grouped[m] = true
		}
		ok = ok && !p.known(f[1]) && f[1] != "none" && n >= 1 && n <= uint64(len(g.members))
		p.groups[f[1]] = g
		return ok
	case f[0] == "quorum" && len(f) == 2:
		ok := p.quorum == "" && (f[1] == "none" || p.known(f[1]))
		p.quorum = f[1]
		return ok
	}
	return false
}

func (p *policy) satisfied(name string, by map[string]uint64, since uint64) bool {
	if name == "none" {
		return true
	}
	if g, ok := p.groups[name]; ok {
		n := 0
		for _, m := range g.members {
			if p.satisfied(m, by, since) {
				n++
			}
		}
		return n >= g.k
	}
	at, ok := by[name]
	return ok && at >= since
}

// judge holds a note against the policy: an outcome as the vectors name it, who
// cosigned, and the time of the quorum.
func (p *policy) judge(s string) (outcome string, cosigned []string, at uint64) {
	text, lines, ok := note(s)
	origin, _, _, ok2 := checkpoint(text)
	if !ok || !ok2 {
		return "malformed", nil, 0
	}
	i := slices.IndexFunc(p.logs, func(k vkey) bool { return k.name == origin })
	if i < 0 {
		return "unknown-log", nil, 0
	}
	signed, by := false, map[string]uint64{}
	for _, l := range lines {
		if k := p.logs[i]; k.name == l.name && bytes.Equal(k.id, l.sig[:4]) {
			if signed = ed25519.Verify(k.key, []byte(text), l.sig[4:]); !signed {
				return "bad-signature", nil, 0
			}
		}
		for name, k := range p.keys {
			if k.name != l.name || !bytes.Equal(k.id, l.sig[:4]) {
				continue
			}
			if len(l.sig) != 4+8+64 {
				return "bad-signature", nil, 0
			}
			at := binary.BigEndian.Uint64(l.sig[4:])
			if at == 0 || !ed25519.Verify(k.key, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", at, text), l.sig[12:]) {
				return "bad-signature", nil, 0
			}
			by[name], cosigned = at, append(cosigned, name)
		}
	}
	switch {
	case !signed:
		return "no-signature", nil, 0
	case !p.satisfied(p.quorum, by, 0):
		return "no-quorum", nil, 0
	}
	for _, x := range by {
		if x > at && p.satisfied(p.quorum, by, x) {
			at = x
		}
	}
	return "ok", cosigned, at
}

func TestPolicies(t *testing.T) {
	var v struct {
		Cases []struct {
			Name, Policy, Note, Outcome, QuorumTime string
			Cosigned                                []string
		}
	}
	load(t, "checkpoint/policy.json", &v)
	for _, c := range v.Cases {
		p, ok := parsePolicy(c.Policy)
		if !ok {
			if c.Outcome != "malformed" {
				t.Errorf("%s: the policy is refused", c.Name)
			}
			continue
		}
		outcome, cosigned, at := p.judge(c.Note)
		slices.Sort(cosigned)
		slices.Sort(c.Cosigned)
		want, _ := decimal(c.QuorumTime)
		if outcome != c.Outcome || outcome == "ok" && (!slices.Equal(cosigned, c.Cosigned) || p.quorum != "none" && at != want) {
			t.Errorf("%s: %s, cosigned by %v at %d; the vector says %s, %v, %s", c.Name, outcome, cosigned, at, c.Outcome, c.Cosigned, c.QuorumTime)
		}
	}
}

// receipt reads a tlog-proof.
func receipt(s string) (extra []byte, index uint64, path [][]byte, note string, ok bool) {
	head, note, ok := strings.Cut(s, "\n\n")
	l := strings.Split(head, "\n")
	if !ok || l[0] != "c2sp.org/tlog-proof@v1" {
		return nil, 0, nil, "", false
	}
	l = l[1:]
	if len(l) > 0 {
		if x, has := strings.CutPrefix(l[0], "extra "); has {
			if extra = b64(x); len(extra) == 0 {
				return nil, 0, nil, "", false
			}
			l = l[1:]
		}
	}
	if len(l) == 0 {
		return nil, 0, nil, "", false
	}
	x, has := strings.CutPrefix(l[0], "index ")
	index, ok = decimal(x)
	for _, h := range l[1:] {
		path = append(path, b64(h))
		ok = ok && len(path[len(path)-1]) == 32
	}
	return extra, index, path, note, ok && has && len(path) <= 64
}

func TestReceipts(t *testing.T) {
	var v struct {
		Cases []struct {
			Name, Policy, Proof, Outcome, Index string
			LeafHash, Extra                     data
		}
	}
	load(t, "checkpoint/proof.json", &v)
	for _, c := range v.Cases {
		p, ok := parsePolicy(c.Policy)
		if !ok {
			t.Fatalf("%s: the policy is refused", c.Name)
		}
		outcome := "malformed"
		extra, index, path, cp, ok := receipt(c.Proof)
		text, _, isNote := note(cp)
		_, size, root, isCheckpoint := checkpoint(text)
		if ok && isNote && isCheckpoint && index < size {
			outcome, _, _ = p.judge(cp)
			if r, ok := climb(index, size, c.LeafHash, path); outcome == "ok" && (!ok || !bytes.Equal(r, root)) {
				outcome = "bad-proof"
			}
		}
		if outcome != c.Outcome || outcome == "ok" && (fmt.Sprint(index) != c.Index || !bytes.Equal(extra, c.Extra)) {
			t.Errorf("%s: %s, entry %d, extra %x; the vector says %s", c.Name, outcome, index, extra, c.Outcome)
		}
	}
}
