package custody

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"pgregory.net/rapid"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// naiveRoot computes an RFC 6962 root another way: with a compact range over the
// leaves' preimages as docs/formats.md writes them.
func naiveRoot(t testing.TB, m Manifest) entry.Hash {
	t.Helper()
	f := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	r := f.NewEmptyRange(0)
	for _, mb := range m.Members {
		var b []byte
		b = append(b, "fabtrail/member/v1\n"...)
		b = append(b, byte(len(mb.URI)>>8), byte(len(mb.URI)))
		b = append(b, mb.URI...)
		b = append(b, mb.Head[:]...)
		b = append(b, mb.Load[:]...)
		b = append(b, mb.Salt[:]...)
		b = append(b, mb.Pedigree[:]...)
		if err := r.Append(rfc6962.DefaultHasher.HashLeaf(b), nil); err != nil {
			t.Fatal(err)
		}
	}
	root, err := r.GetRootHash(nil)
	if err != nil {
		t.Fatal(err)
	}
	return entry.Hash(root)
}

func manifestOf(t testing.TB, n int) Manifest {
	t.Helper()
	ms := make([]Member, n)
	for i := range ms {
		ms[i] = Member{URI: fmt.Sprintf("https://id.gs1.org/01/09506000134352/21/SN-%06d", i), Head: someHash, Salt: hashOf(fmt.Sprint("salt", i))}
	}
	m, err := NewManifest(ms)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestManifestSizes(t *testing.T) {
	for _, n := range []int{1, 2, 3, 4, 5, 7, 8, 9, 31, 33, 100, 1000} {
		m := manifestOf(t, n)
		tree := m.Tree()
		if tree.Root() != naiveRoot(t, m) {
			t.Fatalf("%d members: root differs", n)
		}
		c := m.Contents()
		for i := 0; i < n; i += 1 + n/40 {
			p, err := tree.Prove(i)
			if err != nil {
				t.Fatal(err)
			}
			if err := VerifyMember(m.Members[i], uint64(i), p, c); err != nil {
				t.Fatalf("member %d of %d: %v", i, n, err)
			}
			if n == 1 {
				continue
			}
			if VerifyMember(m.Members[i], uint64(i+1)%uint64(n), p, c) == nil {
				t.Fatalf("member %d of %d is proven at another place", i, n)
			}
			other := m.Members[i]
			other.Salt[0] ^= 1
			if VerifyMember(other, uint64(i), p, c) == nil {
				t.Fatalf("member %d of %d: another member is proven", i, n)
			}
		}
		if _, err := tree.Prove(n); err == nil {
			t.Error("a member past the end is proven")
		}
		if _, err := m.Prove(-1); err == nil {
			t.Error("member -1 is proven")
		}
	}
}

// TestMemberProofSize: a member of a manifest of 10,000 proves itself in under 700
// bytes.
func TestMemberProofSize(t *testing.T) {
	m := manifestOf(t, 10_000)
	p, err := m.Prove(4711)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(m.Members[4711].Marshal()) + len(p)*32; n >= 700 {
		t.Errorf("member and proof have %d bytes", n)
	}
}

type badManifestCase struct {
	Name  string `json:"name"`
	Bytes []byte `json:"bytes"`
}

func badManifests(t testing.TB) []badManifestCase {
	t.Helper()
	good := sampleManifest(t)
	b := good.Marshal()
	header := len(manifestMagic)
	mutate := func(fn func(ms []Member) []Member) []byte {
		return Manifest{Members: fn(slices.Clone(good.Members))}.Marshal()
	}
	count := func(n uint32) []byte {
		c := bytes.Clone(b)
		binary.BigEndian.PutUint32(c[header:], n)
		return c
	}
	return []badManifestCase{
		{"empty", nil},
		{"magic only", b[:header]},
		{"another magic", append([]byte("fabtrail/manifest/v2\n"), b[header:]...)},
		{"no members", append(bytes.Clone(b[:header]), 0, 0, 0, 0)},
		{"count too high", count(5)},
		{"count too low", count(3)},
		{"count of 2^32-1", count(1<<32 - 1)},
		{"count over the limit", count(MaxMembers + 1)},
		{"truncated", b[:len(b)-1]},
		{"trailing byte", append(bytes.Clone(b), 0)},
		{"URI length past the end", append(append(bytes.Clone(b[:header+4]), 0xff, 0xff), b[header+6:]...)},
		{"descending", mutate(func(ms []Member) []Member { slices.Reverse(ms); return ms })},
		{"member twice", mutate(func(ms []Member) []Member { ms[1] = ms[0]; return ms })},
		{"unit twice with two heads", mutate(func(ms []Member) []Member { ms[1] = ms[0]; ms[1].Head = otherHash; return ms })},
		{"container without load", mutate(func(ms []Member) []Member { ms[3].Load = entry.Hash{}; return ms })},
		{"unit with a load", mutate(func(ms []Member) []Member { ms[0].Load = otherHash; return ms })},
		{"empty URI", mutate(func(ms []Member) []Member { ms[0].URI = ""; return ms })},
		{"URI not canonical", mutate(func(ms []Member) []Member { ms[0].URI = "https://id.gs1.org/01/9506000134352/21/SN-000001"; return ms })},
		{"URI of a lot", mutate(func(ms []Member) []Member { ms[0].URI = lotURI; return ms })},
		{"URI of a party", mutate(func(ms []Member) []Member { ms[0].URI = makerURI; return ms })},
		{"URI with a NUL", mutate(func(ms []Member) []Member { ms[0].URI += "\x00"; return ms })},
		{"URI of invalid UTF-8", mutate(func(ms []Member) []Member { ms[0].URI += "\xff"; return ms })},
	}
}

func TestParseManifestRefuses(t *testing.T) {
	for _, c := range badManifests(t) {
		_, err := ParseManifest(c.Bytes)
		if err == nil {
			t.Errorf("%s: accepted", c.Name)
			continue
		}
		if p := problemOf(t, err); p.Type != "manifest_mismatch" {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
	if _, err := NewManifest(nil); err == nil {
		t.Error("an empty manifest was made")
	}
	if _, err := NewManifest(make([]Member, MaxMembers+1)); err == nil {
		t.Error("a manifest over the limit was made")
	}
	m := sampleManifest(t).Members[0].Marshal()
	for _, b := range [][]byte{nil, m[:1], m[:len(m)-1], append(bytes.Clone(m), 0)} {
		if _, err := ParseMember(b); err == nil {
			t.Errorf("a member of %d bytes was read", len(b))
		}
	}
}

func TestCheckManifest(t *testing.T) {
	heads := sampleManifest(t)
	statement := func(name string, c *Contents) *Statement {
		s := find(t, name)
		switch b := s.body.(type) {
		case *Commission:
			b.Contents = c
		case *Pack:
			b.Contents = *c
		}
		st, err := Parse(s.payload(t))
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	named := func(name string, m Manifest) *Statement { c := m.Contents(); return statement(name, &c) }
	edit := func(m Manifest, fn func(*Member)) Manifest {
		ms := slices.Clone(m.Members)
		for i := range ms {
			fn(&ms[i])
		}
		out, err := NewManifest(ms)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	born := edit(manifestOf(t, 3), func(m *Member) { m.Head = entry.Hash{} })
	if err := named("commission lot", born).CheckManifest(born); err != nil {
		t.Errorf("commission: %v", err)
	}
	if err := named("pack opens", heads).CheckManifest(heads); err != nil {
		t.Errorf("pack: %v", err)
	}
	foreign := edit(born, func(m *Member) { m.URI = "https://id.gs1.org/01/09506000134376/21/" + m.URI[len(m.URI)-9:] })
	asset := Manifest{Members: []Member{{URI: "https://id.gs1.org/8004/9506000ABC"}}}
	itself, err := NewManifest([]Member{{URI: cartonURI, Load: otherHash, Head: someHash}})
	if err != nil {
		t.Fatal(err)
	}
	other := heads.Contents()
	other.Count++
	digest, root := heads.Contents(), heads.Contents()
	digest.Manifest, root.Root = hex64, hex64
	bad := []struct {
		name string
		st   *Statement
		m    Manifest
	}{
		{"members with heads come into being", named("commission lot", heads), heads},
		{"members of another product", named("commission lot", foreign), foreign},
		{"a member without product", named("commission lot", asset), asset},
		{"members without heads are packed", named("pack opens", born), born},
		{"a container in itself", named("pack opens", itself), itself},
		{"another manifest", named("pack opens", heads), born},
		{"another count", statement("pack opens", &other), heads},
		{"another digest", statement("pack opens", &digest), heads},
		{"another root", statement("pack opens", &root), heads},
	}
	for _, c := range bad {
		if p := problemOf(t, c.st.CheckManifest(c.m)); p.Type != "manifest_mismatch" && p.Type != "invalid_identifier" {
			t.Errorf("%s: %v", c.name, p)
		}
	}
	st, err := Parse(find(t, "hold").payload(t))
	if err != nil {
		t.Fatal(err)
	}
	if st.Contents() != nil || st.CheckManifest(heads) == nil {
		t.Error("a hold has a manifest")
	}
}

func TestRapidManifest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		serials := rapid.SliceOfNDistinct(rapid.StringMatching(`[A-Za-z0-9._-]{1,20}`), 1, 60, rapid.ID[string]).Draw(t, "serials")
		ms := make([]Member, len(serials))
		for i, s := range serials {
			ms[i] = Member{URI: "https://id.gs1.org/01/09506000134352/21/" + s, Head: genHash(t), Salt: genHash(t)}
		}
		m, err := NewManifest(ms)
		if err != nil {
			t.Fatal(err)
		}
		slices.Reverse(ms)
		again, err := NewManifest(ms)
		if err != nil || !bytes.Equal(again.Marshal(), m.Marshal()) {
			t.Fatalf("the order given changes the manifest: %v", err)
		}
		back, err := ParseManifest(m.Marshal())
		if err != nil || !slices.Equal(back.Members, m.Members) || back.Digest() != m.Digest() || back.Digest() != entry.Hash(sha256.Sum256(m.Marshal())) {
			t.Fatalf("read back: %v", err)
		}
		i := rapid.IntRange(0, len(ms)-1).Draw(t, "i")
		p, err := m.Prove(i)
		if err != nil {
			t.Fatal(err)
		}
		if err := VerifyMember(m.Members[i], uint64(i), p, m.Contents()); err != nil {
			t.Fatal(err)
		}
		mb, err := ParseMember(m.Members[i].Marshal())
		if err != nil || mb != m.Members[i] {
			t.Fatalf("member: %v", err)
		}
	})
}
