package custody

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"fabtrail.dev/fabtrail/custody/gs1"
	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// Manifest lists the units that one statement is about. Its bytes are
//
//	"fabtrail/manifest/v1\n" | u32 count | count x member
//	member = u16 len | URI | head (32) | load (32) | salt (32) | pedigree digest (32)
//
// with members strictly ascending by URI, then by load (both as bytes). Head is
// the statement that the member's own chain or load ends in (zero if it has
// none: commission), Load the statement that opened the member's load (zero if it
// is not a load), Salt random, Pedigree the digest of its pedigree key (zero if
// none). The RFC 6962 tree over the members has leaves
//
//	"fabtrail/member/v1\n" | member
//
// so that one member proves itself without revealing a sibling. A Manifest is
// made by NewManifest or ParseManifest and not changed afterwards.
type Manifest struct{ Members []Member }

// Member is one unit of a manifest.
type Member struct {
	URI                        string
	Head, Load, Salt, Pedigree entry.Hash
}

const (
	manifestMagic = "fabtrail/manifest/v1\n"
	memberDomain  = "fabtrail/member/v1\n"
	// MaxMembers bounds a manifest.
	MaxMembers = 100_000
	// MaxURI bounds a canonical URI, in bytes.
	MaxURI = 256
	// MaxManifest bounds the bytes of a manifest.
	MaxManifest = len(manifestMagic) + 4 + MaxMembers*maxMember
	maxMember   = 2 + MaxURI + 4*32
)

func badManifest(format string, a ...any) *problem.Problem {
	return problem.New("manifest_mismatch", "", format, a...)
}

// NewManifest sorts members and checks them as ParseManifest does.
func NewManifest(members []Member) (Manifest, error) {
	m := Manifest{Members: slices.Clone(members)}
	slices.SortFunc(m.Members, compareMembers)
	if err := m.check(); err != nil {
		return Manifest{}, err
	}
	return m, nil
}

func compareMembers(a, b Member) int {
	return cmp.Or(cmp.Compare(a.URI, b.URI), bytes.Compare(a.Load[:], b.Load[:]))
}

func (m Manifest) check() error {
	if n := len(m.Members); n == 0 || n > MaxMembers {
		return badManifest("the manifest has %d members, want 1 to %d", n, MaxMembers)
	}
	for i, mb := range m.Members {
		if err := mb.check(); err != nil {
			return badManifest("member %d: %s", i, err.Detail).WithHint("%s", err.Hint).With("member", i)
		}
		if i > 0 && compareMembers(m.Members[i-1], mb) >= 0 {
			return badManifest("member %d (%s) is not above the one before it", i, mb.URI).
				WithHint("sort by URI and name each unit once").With("member", i)
		}
	}
	return nil
}

func (m Member) check() *problem.Problem {
	id, err := gs1.CanonicalKind(m.URI, gs1.Unit, gs1.Container)
	if err != nil {
		return asProblem(err)
	}
	if len(m.URI) > MaxURI {
		return badManifest("the URI has %d bytes, limit %d", len(m.URI), MaxURI)
	}
	if isLoad := id.Kind == gs1.Container; isLoad != !m.Load.IsZero() {
		if isLoad {
			return badManifest("the container %s is named without its load", m.URI).
				WithHint("give the ID of the pack that opened the load")
		}
		return badManifest("%s is not a container and has no load", m.URI)
	}
	return nil
}

// Append appends the member's encoding to b.
func (m Member) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(m.URI)))
	b = append(b, m.URI...)
	b = append(b, m.Head[:]...)
	b = append(b, m.Load[:]...)
	b = append(b, m.Salt[:]...)
	return append(b, m.Pedigree[:]...)
}

// Marshal returns the member's encoding.
func (m Member) Marshal() []byte { return m.Append(make([]byte, 0, 2+len(m.URI)+4*32)) }

// ParseMember reads one member and nothing after it.
func ParseMember(b []byte) (Member, error) {
	m, rest, ok := cutMember(b)
	if !ok || len(rest) != 0 {
		return Member{}, badManifest("the member's bytes are of the wrong length")
	}
	if err := m.check(); err != nil {
		return Member{}, err
	}
	return m, nil
}

func cutMember(b []byte) (m Member, rest []byte, ok bool) {
	if len(b) < 2 {
		return m, b, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b) < 2+n+4*32 {
		return m, b, false
	}
	m.URI = string(b[2 : 2+n])
	b = b[2+n:]
	for _, h := range []*entry.Hash{&m.Head, &m.Load, &m.Salt, &m.Pedigree} {
		copy(h[:], b)
		b = b[32:]
	}
	return m, b, true
}

// LeafHash is the RFC 6962 leaf hash of the member.
func (m Member) LeafHash() entry.Hash {
	return entry.LeafHash(m.Append(append(make([]byte, 0, len(memberDomain)+2+len(m.URI)+4*32), memberDomain...)))
}

// Marshal returns the manifest's bytes.
func (m Manifest) Marshal() []byte {
	n := len(manifestMagic) + 4
	for _, mb := range m.Members {
		n += 2 + len(mb.URI) + 4*32
	}
	b := append(make([]byte, 0, n), manifestMagic...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.Members)))
	for _, mb := range m.Members {
		b = mb.Append(b)
	}
	return b
}

// ParseManifest reads manifest bytes; anything that Marshal would not write is
// refused (manifest_mismatch).
func ParseManifest(b []byte) (Manifest, error) {
	rest, ok := bytes.CutPrefix(b, []byte(manifestMagic))
	if !ok || len(rest) < 4 {
		return Manifest{}, badManifest("these bytes are not a manifest").WithHint("a manifest begins with %q", manifestMagic)
	}
	count := binary.BigEndian.Uint32(rest)
	rest = rest[4:]
	if count == 0 || count > MaxMembers {
		return Manifest{}, badManifest("the manifest announces %d members, want 1 to %d", count, MaxMembers)
	}
	if len(rest) < int(count)*(2+4*32) {
		return Manifest{}, badManifest("the manifest announces %d members and is too short for them", count)
	}
	m := Manifest{Members: make([]Member, count)}
	for i := range m.Members {
		if m.Members[i], rest, ok = cutMember(rest); !ok {
			return Manifest{}, badManifest("the manifest ends within member %d of %d", i, count)
		}
	}
	if len(rest) != 0 {
		return Manifest{}, badManifest("%d bytes follow the last member", len(rest))
	}
	if err := m.check(); err != nil {
		return Manifest{}, err
	}
	return m, nil
}

// Digest is SHA-256 of the manifest's bytes: the name that it is uploaded under.
func (m Manifest) Digest() entry.Hash { return sha256.Sum256(m.Marshal()) }

// Root is the RFC 6962 root over the members.
func (m Manifest) Root() entry.Hash { return m.Tree().Root() }

// Contents is what a statement signs about the manifest.
func (m Manifest) Contents() Contents {
	return Contents{Manifest: m.Digest().String(), Root: m.Root().String(), Count: int64(len(m.Members))}
}

// Prove returns the inclusion proof of member i. Whoever proves many members
// keeps a Tree.
func (m Manifest) Prove(i int) ([]entry.Hash, error) { return m.Tree().Prove(i) }

// MemberTree is the hash tree over the members of one manifest.
type MemberTree struct{ levels [][]entry.Hash } // levels[0]: leaf hashes; only perfect subtrees above

// Tree hashes the members.
func (m Manifest) Tree() *MemberTree {
	level := make([]entry.Hash, len(m.Members))
	for i, mb := range m.Members {
		level[i] = mb.LeafHash()
	}
	t := &MemberTree{levels: [][]entry.Hash{level}}
	for len(level) > 1 {
		up := make([]entry.Hash, len(level)/2)
		for i := range up {
			up[i] = hashChildren(level[2*i][:], level[2*i+1][:])
		}
		t.levels = append(t.levels, up)
		level = up
	}
	return t
}

func hashChildren(l, r []byte) (h entry.Hash) {
	copy(h[:], rfc6962.DefaultHasher.HashChildren(l, r))
	return h
}

// Root is the RFC 6962 root.
func (t *MemberTree) Root() entry.Hash {
	n := len(t.levels[0])
	var root []byte
	for l := range t.levels { // right to left: the smallest perfect subtree first
		if n>>l&1 == 1 {
			h := t.levels[l][n>>l-1]
			if root == nil {
				root = h[:]
				continue
			}
			root = rfc6962.DefaultHasher.HashChildren(h[:], root)
		}
	}
	return entry.Hash(root)
}

// Prove returns the inclusion proof of member i.
func (t *MemberTree) Prove(i int) ([]entry.Hash, error) {
	n := len(t.levels[0])
	if i < 0 || i >= n {
		return nil, badManifest("there is no member %d of %d", i, n)
	}
	nodes, err := proof.Inclusion(uint64(i), uint64(n))
	if err != nil {
		return nil, err
	}
	hashes := make([][]byte, len(nodes.IDs))
	for j, id := range nodes.IDs {
		hashes[j] = t.levels[id.Level][id.Index][:]
	}
	hashes, err = nodes.Rehash(hashes, rfc6962.DefaultHasher.HashChildren)
	if err != nil {
		return nil, err
	}
	out := make([]entry.Hash, len(hashes))
	for j, h := range hashes {
		out[j] = entry.Hash(h)
	}
	return out, nil
}

// VerifyMember checks that m is member number index of the tree that contents
// signs (root and count).
func VerifyMember(m Member, index uint64, hashes []entry.Hash, contents Contents) error {
	root, err := entry.ParseHash(contents.Root)
	if err != nil || contents.Count < 1 {
		return badManifest("the statement's contents are not valid")
	}
	if err := m.check(); err != nil {
		return err
	}
	raw := make([][]byte, len(hashes))
	for i := range hashes {
		raw[i] = hashes[i][:]
	}
	leaf := m.LeafHash()
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, index, uint64(contents.Count), leaf[:], raw, root[:]); err != nil {
		return badManifest("%s is not proven to be member %d of %d", m.URI, index, contents.Count)
	}
	return nil
}

// Contents returns what the statement signs about its manifest, or nil when it
// names none.
func (s *Statement) Contents() *Contents {
	switch b := s.Body.(type) {
	case *Commission:
		return b.Contents
	case *Pack:
		return &b.Contents
	case *Unpack:
		return &b.Contents
	}
	return nil
}

// CheckManifest refuses a manifest that is not the one the statement names, or
// whose members do not fit the predicate: units that come into being have no head
// and are of the lot's product, units that are packed or unpacked have one, and a
// load does not hold itself. It costs a hash of every member.
func (s *Statement) CheckManifest(m Manifest) error { return s.CheckManifestOf(m, m.Contents()) }

// CheckManifestOf is CheckManifest for many statements that name one manifest: is
// is m.Contents(), which costs the hashes.
func (s *Statement) CheckManifestOf(m Manifest, is Contents) error {
	c := s.Contents()
	if c == nil {
		return problem.New("manifest_mismatch", "/predicate", "a %s names no manifest", s.Kind)
	}
	if int64(len(m.Members)) != c.Count {
		return contentsMismatch("count", "the manifest has %d members, the statement says %d", len(m.Members), c.Count)
	}
	if d := is.Manifest; d != c.Manifest {
		return contentsMismatch("manifest", "the manifest has digest %s, the statement names %s", d, c.Manifest)
	}
	if r := is.Root; r != c.Root {
		return contentsMismatch("root", "the manifest has root %s, the statement says %s", r, c.Root)
	}
	for i, mb := range m.Members {
		if err := s.CheckMember(mb); err != nil {
			return asProblem(err).With("member", i)
		}
	}
	return nil
}

// CheckMember refuses a member that does not fit the predicate; see
// CheckManifest.
func (s *Statement) CheckMember(m Member) error {
	switch s.Kind {
	case KindCommission:
		lot, err := gs1.ParseCanonical(s.Subject)
		if err != nil {
			return err
		}
		id, err := gs1.CanonicalKind(m.URI, gs1.Unit)
		if err != nil {
			return err
		}
		if p, ok := id.Product(); !ok || p.Key != lot.Key {
			return badManifest("%s is not of the lot's product %s", m.URI, lot.Key)
		}
		if !m.Head.IsZero() {
			return badManifest("%s has a head, but comes into being here", m.URI)
		}
	default:
		if m.Head.IsZero() {
			return badManifest("%s has no head", m.URI).WithHint("give the ID of its latest statement")
		}
		if m.URI == s.Subject {
			return badManifest("the container %s cannot hold itself", m.URI)
		}
	}
	return nil
}

func contentsMismatch(field, format string, a ...any) *problem.Problem {
	return problem.New("manifest_mismatch", "/predicate/contents/"+field, format, a...)
}
