package checkpoint

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// MaxPolicy bounds a policy file, in bytes.
const MaxPolicy = 256 << 10

// Policy says when a checkpoint is to be believed: which logs' signatures count,
// and which sets of witnesses suffice. It is immutable.
type Policy struct {
	logs      []PolicyLog
	witnesses []PolicyWitness
	nodes     map[string]*node
	quorum    string // name of a node, or "none"
}

// PolicyLog is a log line.
type PolicyLog struct {
	VKey VKey   // its name is the log's origin
	URL  string // as written; may be empty
}

// PolicyWitness is a witness line.
type PolicyWitness struct {
	Name string // within the policy; the key has a name of its own
	VKey VKey
	URL  string // submission prefix (c2sp.org/tlog-witness); may be empty
}

// node is a witness (no members) or a group of which k members must have
// cosigned. Names are defined before use and are members at most once, so nodes
// form trees.
type node struct {
	members []string
	k       int
}

// Cosig is one witness's verified cosignature.
type Cosig struct {
	Name string // the witness's name in the policy
	VKey VKey
	Time uint64 // Unix seconds
}

// Cosigned is a checkpoint that a policy accepts.
type Cosigned struct {
	Checkpoint
	Note   []byte // as given
	Cosigs []Cosig
	// QuorumTime is the latest T, in Unix seconds, such that the cosignatures
	// made at T or later satisfy the quorum; zero if the quorum is none.
	QuorumTime uint64
}

type policyLine struct {
	no     int
	fields []string
}

func (l policyLine) bad(format string, a ...any) error {
	return malformed("line %d: %s", l.no, fmt.Sprintf(format, a...))
}

// policyLines splits the octets of a policy into lines of fields; empty lines
// and comments are left out.
func policyLines(b []byte) ([]policyLine, error) {
	if len(b) > MaxPolicy {
		return nil, malformed("policy has %d bytes, limit %d", len(b), MaxPolicy)
	}
	if len(b) > 0 && b[len(b)-1] != '\n' {
		return nil, malformed("last line does not end in a newline")
	}
	for i, c := range b {
		if c < 0x20 && c != '\t' && c != '\n' || c == 0x7f {
			return nil, malformed("control character %#02x at byte %d", c, i)
		}
	}
	var out []policyLine
	for i, line := range strings.Split(string(b), "\n") {
		fields := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
		if len(fields) > 0 && fields[0][0] != '#' {
			out = append(out, policyLine{i + 1, fields})
		}
	}
	return out, nil
}

// ParsePolicy reads a policy file; errors wrap ErrMalformed and name the line.
// Log keys have type 0x01, witness keys type 0x04.
func ParsePolicy(b []byte) (*Policy, error) {
	lines, err := policyLines(b)
	if err != nil {
		return nil, err
	}
	p := &parser{Policy: Policy{nodes: map[string]*node{}}, member: map[string]bool{}}
	for _, l := range lines {
		switch l.fields[0] {
		case "log":
			err = p.log(l)
		case "witness":
			err = p.witness(l)
		case "group":
			err = p.group(l)
		case "quorum":
			err = p.setQuorum(l)
		default:
			err = l.bad("unknown keyword %.40q (want log, witness, group or quorum)", l.fields[0])
		}
		if err != nil {
			return nil, err
		}
	}
	if p.quorum == "" {
		return nil, malformed("policy has no quorum line")
	}
	return &p.Policy, nil
}

type parser struct {
	Policy
	member map[string]bool // names that are a member of some group
}

func (p *parser) log(l policyLine) error {
	if len(l.fields) != 2 && len(l.fields) != 3 {
		return l.bad("want: log <vkey> [<url>]")
	}
	k, err := l.vkey(1, TypeLog)
	if err != nil {
		return err
	}
	for _, o := range p.logs {
		if err := l.distinct(k, o.VKey); err != nil {
			return err
		}
	}
	p.logs = append(p.logs, PolicyLog{VKey: k, URL: l.optional(2)})
	return nil
}

func (p *parser) witness(l policyLine) error {
	if len(l.fields) != 3 && len(l.fields) != 4 {
		return l.bad("want: witness <name> <vkey> [<url>]")
	}
	k, err := l.vkey(2, TypeCosigner)
	if err != nil {
		return err
	}
	for _, o := range p.witnesses {
		if err := l.distinct(k, o.VKey); err != nil {
			return err
		}
	}
	if err := p.define(l, &node{}); err != nil {
		return err
	}
	p.witnesses = append(p.witnesses, PolicyWitness{Name: l.fields[1], VKey: k, URL: l.optional(3)})
	return nil
}

func (p *parser) group(l policyLine) error {
	if len(l.fields) < 4 {
		return l.bad("want: group <name> all|any|<k> <member>...")
	}
	members := l.fields[3:]
	n := &node{members: members}
	switch l.fields[2] {
	case "any":
		n.k = 1
	case "all":
		n.k = len(members)
	default:
		k, err := parseDecimal(l.fields[2])
		if err != nil || k < 1 || k > uint64(len(members)) {
			return l.bad("threshold %.20q is not all, any or a number from 1 to %d", l.fields[2], len(members))
		}
		n.k = int(k)
	}
	for _, m := range members {
		if p.nodes[m] == nil {
			return l.bad("member %.60q is not defined on a line above", m)
		}
		if p.member[m] {
			return l.bad("%.60q is a member of a group twice", m)
		}
		p.member[m] = true
	}
	return p.define(l, n)
}

func (p *parser) define(l policyLine, n *node) error {
	name := l.fields[1]
	if name == "none" {
		return l.bad("the name none is reserved")
	}
	if p.nodes[name] != nil {
		return l.bad("%.60q is defined twice", name)
	}
	p.nodes[name] = n
	return nil
}

func (p *parser) setQuorum(l policyLine) error {
	if len(l.fields) != 2 {
		return l.bad("want: quorum <name>|none")
	}
	if p.quorum != "" {
		return l.bad("second quorum line")
	}
	if l.fields[1] != "none" && p.nodes[l.fields[1]] == nil {
		return l.bad("quorum %.60q is not defined on a line above", l.fields[1])
	}
	p.quorum = l.fields[1]
	return nil
}

func (l policyLine) vkey(i int, typ byte) (VKey, error) {
	k, err := ParseVKey(l.fields[i])
	if err != nil {
		return VKey{}, fmt.Errorf("line %d: %w", l.no, err)
	}
	if k.Type != typ {
		return VKey{}, l.bad("key of %s has type %#02x, want %#02x", k.Name, k.Type, typ)
	}
	return k, nil
}

// distinct refuses a key that is the same public key as another, and one that
// signature lines could not tell from another.
func (l policyLine) distinct(a, b VKey) error {
	if string(a.Key) == string(b.Key) {
		return l.bad("%s has the same public key as %s above", a.Name, b.Name)
	}
	if a.Name == b.Name && a.ID == b.ID {
		return l.bad("two keys are named %s with ID %08x", a.Name, a.ID)
	}
	return nil
}

func (l policyLine) optional(i int) string {
	if i < len(l.fields) {
		return l.fields[i]
	}
	return ""
}

// Logs returns the log lines in order. The caller must not change them.
func (p *Policy) Logs() []PolicyLog { return p.logs }

// Log returns the first key that the policy lists for an origin.
func (p *Policy) Log(origin string) (VKey, bool) {
	for _, l := range p.logs {
		if l.VKey.Name == origin {
			return l.VKey, true
		}
	}
	return VKey{}, false
}

// Witnesses returns all witness lines in order, also those that the quorum does
// not need. The caller must not change them.
func (p *Policy) Witnesses() []PolicyWitness { return p.witnesses }

// Satisfied reports whether cosignatures by exactly the witnesses for which has
// returns true (asked by their names in the policy) reach the quorum.
func (p *Policy) Satisfied(has func(name string) bool) bool {
	return p.quorum == "none" || p.satisfied(p.quorum, has)
}

func (p *Policy) satisfied(name string, has func(string) bool) bool {
	n := p.nodes[name]
	if len(n.members) == 0 {
		return has(name)
	}
	got := 0
	for _, m := range n.members {
		if p.satisfied(m, has) {
			got++
		}
	}
	return got >= n.k
}

// Verify accepts a checkpoint that is signed by a listed log whose key name is
// its origin, and cosigned by a quorum. A signature by any listed key, needed or
// not, that does not verify refuses the whole note. It judges no time; see
// Cosigned.QuorumTime. Errors wrap ErrMalformed, ErrUnknownLog, ErrNoSignature,
// ErrBadSignature or ErrNoQuorum.
func (p *Policy) Verify(note []byte) (Cosigned, error) {
	n, err := ParseNote(note)
	if err != nil {
		return Cosigned{}, err
	}
	cp, err := ParseCheckpoint(n.Text)
	if err != nil {
		return Cosigned{}, err
	}
	if err := p.verifyLog(n, cp.Origin); err != nil {
		return Cosigned{}, err
	}
	c := Cosigned{Checkpoint: cp, Note: note}
	for _, w := range p.witnesses {
		t, err := w.VKey.VerifyCosignature(n)
		if errors.Is(err, ErrNoSignature) {
			continue
		}
		if err != nil {
			return Cosigned{}, err
		}
		c.Cosigs = append(c.Cosigs, Cosig{Name: w.Name, VKey: w.VKey, Time: t})
	}
	t, ok := p.quorumTime(c.Cosigs)
	if !ok {
		return Cosigned{}, fmt.Errorf("%w: %d of the policy's %d witnesses cosigned %s at size %d",
			ErrNoQuorum, len(c.Cosigs), len(p.witnesses), cp.Origin, cp.Size)
	}
	c.QuorumTime = t
	return c, nil
}

func (p *Policy) verifyLog(n Note, origin string) error {
	known, signed := false, false
	for _, l := range p.logs {
		if l.VKey.Name != origin {
			continue
		}
		known = true
		err := l.VKey.VerifyLog(n)
		if err != nil && !errors.Is(err, ErrNoSignature) {
			return err
		}
		signed = signed || err == nil
	}
	if !known {
		return fmt.Errorf("%w: %s", ErrUnknownLog, origin)
	}
	if !signed {
		return fmt.Errorf("%w: log %s", ErrNoSignature, origin)
	}
	return nil
}

// quorumTime returns the latest time at or after which the quorum cosigned, or
// false if it did not.
func (p *Policy) quorumTime(cosigs []Cosig) (uint64, bool) {
	if p.quorum == "none" {
		return 0, true
	}
	newest := slices.Clone(cosigs)
	slices.SortFunc(newest, func(a, b Cosig) int {
		switch {
		case a.Time > b.Time:
			return -1
		case a.Time < b.Time:
			return 1
		}
		return 0
	})
	has := map[string]bool{}
	for _, c := range newest {
		has[c.Name] = true
		if p.Satisfied(func(name string) bool { return has[name] }) {
			return c.Time, true
		}
	}
	return 0, false
}
