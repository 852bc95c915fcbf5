package vectors

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../../testdata"

func load(t *testing.T, name string, into any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// data is bytes that a vector writes in hex.
type data []byte

func (d *data) UnmarshalText(b []byte) (err error) {
	*d, err = hex.DecodeString(string(b))
	return err
}

func (d data) String() string { return hex.EncodeToString(d) }

func sum(parts ...[]byte) data {
	h := sha256.Sum256(bytes.Join(parts, nil))
	return h[:]
}

func u64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func same(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s: %x, the vector says %x", what, got, want)
	}
}

// TestAlone: this package knows nothing of Fabtrail's own code.
func TestAlone(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 4 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, f := range files {
		src, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range src.Imports {
			if strings.Contains(imp.Path.Value, ".") {
				t.Errorf("%s imports %s, which is not of the standard library", f, imp.Path.Value)
			}
		}
	}
}

// envelope reads the canonical bytes of section 2.
func envelope(b []byte) (payload []byte, signers []data, sigs [][]byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, nil, false
	}
	n := int(binary.BigEndian.Uint32(b))
	if b = b[4:]; n == 0 || n > 256<<10 || len(b) < n+1 {
		return nil, nil, nil, false
	}
	payload, b = b[:n], b[n:]
	count := int(b[0])
	if b = b[1:]; count < 1 || count > 8 {
		return nil, nil, nil, false
	}
	for i := range count {
		if len(b) < 34 {
			return nil, nil, nil, false
		}
		key, size := data(b[:32]), int(binary.BigEndian.Uint16(b[32:]))
		if b = b[34:]; size < 1 || size > 1024 || len(b) < size || i > 0 && bytes.Compare(signers[i-1], key) >= 0 {
			return nil, nil, nil, false
		}
		signers, sigs, b = append(signers, key), append(sigs, b[:size]), b[size:]
	}
	return payload, signers, sigs, len(b) == 0
}

func TestEnvelopes(t *testing.T) {
	var v struct {
		Cases []struct {
			Name, Outcome string
			Bytes         data
			Payload       data
			StatementID   data
			Signatures    []struct{ Key, Sig data }
		}
	}
	load(t, "entry/envelope.json", &v)
	for _, c := range v.Cases {
		payload, keys, sigs, ok := envelope(c.Bytes)
		if ok != (c.Outcome == "ok") {
			t.Errorf("%s: accepted is %t", c.Name, ok)
		}
		if !ok {
			continue
		}
		same(t, c.Name+": payload", payload, c.Payload)
		same(t, c.Name+": statement ID", sum(payload), c.StatementID)
		if len(keys) != len(c.Signatures) {
			t.Fatalf("%s: %d signers", c.Name, len(keys))
		}
		for i, s := range c.Signatures {
			same(t, c.Name+": signer", keys[i], s.Key)
			same(t, c.Name+": signature", sigs[i], s.Sig)
		}
	}
}

// leafOf recomputes a leaf from its cargo, of which extra is the beginning.
func leafOf(cargo []byte) (leaf, extra []byte, ok bool) {
	if len(cargo) < 9 {
		return nil, nil, false
	}
	class, at := cargo[0], cargo[1:9]
	var commitment []byte
	switch class {
	case 1:
		extra = cargo[:9]
		commitment = sum([]byte("fabtrail/public/v1\n"), at, cargo[9:])
	case 2:
		if len(cargo) < 41 {
			return nil, nil, false
		}
		extra = cargo[:41]
		commitment = sum([]byte("fabtrail/restricted/v1\n"), at, cargo[9:41], sum(cargo[41:]))
	case 3:
		extra = cargo
		commitment = sum([]byte("fabtrail/index/v1\n"), at, cargo[9:])
	}
	if class == 3 && len(cargo) != 49 || class < 1 || class > 3 {
		return nil, nil, false
	}
	if class != 3 {
		_, _, _, ok = envelope(cargo[len(extra):])
	}
	return append([]byte{1, class}, commitment...), extra, ok || class == 3
}

func leafHash(leaf []byte) data { return sum([]byte{0}, leaf) }

func TestLeaves(t *testing.T) {
	var v struct {
		Cases []struct {
			Name                         string
			Class                        byte
			Time, Covers                 json.Number
			Salt, IndexRoot, Envelope    data
			Leaf, LeafHash, Extra, Cargo data
		}
	}
	load(t, "entry/leaf.json", &v)
	for _, c := range v.Cases {
		cargo := append([]byte{c.Class}, u64(number(t, c.Time))...)
		if c.Class == 3 {
			cargo = append(append(cargo, u64(number(t, c.Covers))...), c.IndexRoot...)
		} else {
			cargo = append(append(cargo, c.Salt...), c.Envelope...)
		}
		same(t, c.Name+": cargo", cargo, c.Cargo)
		leaf, extra, ok := leafOf(cargo)
		if !ok {
			t.Errorf("%s is not cargo", c.Name)
		}
		same(t, c.Name+": leaf", leaf, c.Leaf)
		same(t, c.Name+": extra", extra, c.Extra)
		same(t, c.Name+": leaf hash", leafHash(leaf), c.LeafHash)
	}
	var bad struct {
		Cases []struct {
			Name, Format, Outcome string
			Bytes                 data
		}
	}
	load(t, "entry/malformed.json", &bad)
	for _, c := range bad.Cases {
		var ok bool
		switch b := c.Bytes; c.Format {
		case "leaf":
			ok = len(b) == 34 && b[0] == 1 && b[1] >= 1 && b[1] <= 3
		case "extra":
			ok = len(b) > 0 && len(b) == map[byte]int{1: 9, 2: 41, 3: 49}[b[0]]
		case "cargo":
			_, _, ok = leafOf(b)
		}
		if ok != (c.Outcome == "ok") {
			t.Errorf("%s: accepted is %t", c.Name, ok)
		}
	}
}

func number(t *testing.T, n json.Number) uint64 {
	t.Helper()
	var v uint64
	if err := json.Unmarshal([]byte(n), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestBundles(t *testing.T) {
	var v struct {
		Cases []struct {
			Name, Outcome string
			Bytes         data
			Entries       []data
		}
	}
	load(t, "entry/bundle.json", &v)
	for _, c := range v.Cases {
		var entries []data
		b := []byte(c.Bytes)
		for len(b) >= 2 && len(b) >= 2+int(binary.BigEndian.Uint16(b)) {
			n := 2 + int(binary.BigEndian.Uint16(b))
			entries, b = append(entries, data(b[2:n])), b[n:]
		}
		if ok := len(b) == 0 && len(entries) >= 1 && len(entries) <= 256; ok != (c.Outcome == "ok") {
			t.Errorf("%s: accepted is %t", c.Name, ok)
		} else if ok && len(entries) != len(c.Entries) {
			t.Errorf("%s: %d entries", c.Name, len(entries))
		}
		for i, e := range c.Entries {
			same(t, c.Name, entries[i], e)
		}
	}
}

func topic(kind, value string) data {
	return sum([]byte("fabtrail/topic/v1\n"), []byte(kind), []byte("\n"), []byte(value))
}

func TestTopicHashes(t *testing.T) {
	var v struct {
		Cases []struct {
			Kind, Value string
			Hash        data
		}
	}
	load(t, "entry/topic.json", &v)
	for _, c := range v.Cases {
		same(t, c.Kind+" "+c.Value, topic(c.Kind, c.Value), c.Hash)
	}
}

// merkle is the tree hash of RFC 6962 over leaf hashes.
func merkle(leaves []data) data {
	switch len(leaves) {
	case 0:
		return sum()
	case 1:
		return leaves[0]
	}
	k := 1
	for k*2 < len(leaves) {
		k *= 2
	}
	return sum([]byte{1}, merkle(leaves[:k]), merkle(leaves[k:]))
}

// climb follows an inclusion path (RFC 6962, from the leaf up) to the root.
func climb(index, size uint64, leaf data, path [][]byte) (data, bool) {
	if index >= size {
		return nil, false
	}
	last, r := size-1, leaf
	for _, p := range path {
		if last == 0 {
			return nil, false
		}
		if index&1 == 1 || index == last {
			r = sum([]byte{1}, p, r)
			for index&1 == 0 && index != 0 {
				index, last = index>>1, last>>1
			}
		} else {
			r = sum([]byte{1}, r, p)
		}
		index, last = index>>1, last>>1
	}
	return r, last == 0
}

func TestManifests(t *testing.T) {
	var v struct {
		Manifests []struct {
			Name                string
			Bytes, Digest, Root data
			Count               int
			Proofs              []struct {
				Index            uint64
				URI              string
				Member, LeafHash data
				Hashes           [][]byte // base64
			}
		}
		Refused []struct {
			Name  string
			Bytes []byte // base64
		}
	}
	load(t, "custody/manifests.json", &v)
	for _, m := range v.Manifests {
		members, ok := manifest(m.Bytes)
		if !ok || len(members) != m.Count {
			t.Fatalf("%s: %d members, %t", m.Name, len(members), ok)
		}
		same(t, m.Name+": digest", sum(m.Bytes), m.Digest)
		var leaves []data
		for _, b := range members {
			leaves = append(leaves, leafHash(append([]byte("fabtrail/member/v1\n"), b.bytes...)))
		}
		same(t, m.Name+": root", merkle(leaves), m.Root)
		for _, p := range m.Proofs {
			same(t, m.Name+": member", members[p.Index].bytes, p.Member)
			same(t, m.Name+": member's leaf hash", leaves[p.Index], p.LeafHash)
			if r, ok := climb(p.Index, uint64(m.Count), p.LeafHash, p.Hashes); !ok || !bytes.Equal(r, m.Root) {
				t.Errorf("%s: member %d is not proved", m.Name, p.Index)
			}
		}
	}
	for _, m := range v.Refused {
		if _, ok := manifest(m.Bytes); ok {
			t.Errorf("%s is accepted", m.Name)
		}
	}
}

type member struct {
	bytes []byte
	uri   string
	load  data
}

func manifest(b []byte) ([]member, bool) {
	b, ok := bytes.CutPrefix(b, []byte("fabtrail/manifest/v1\n"))
	if !ok || len(b) < 4 {
		return nil, false
	}
	count := binary.BigEndian.Uint32(b)
	b = b[4:]
	if count == 0 || count > 100_000 {
		return nil, false
	}
	var out []member
	for range count {
		if len(b) < 2 {
			return nil, false
		}
		n := int(binary.BigEndian.Uint16(b))
		if len(b) < 2+n+4*32 {
			return nil, false
		}
		m := member{b[:2+n+4*32], string(b[2 : 2+n]), data(b[2+n+32 : 2+n+64])}
		if last := len(out) - 1; last >= 0 && (out[last].uri > m.uri || out[last].uri == m.uri && bytes.Compare(out[last].load, m.load) >= 0) {
			return nil, false
		}
		if isUnit, isContainer := unitURI(m.uri); !isUnit && !isContainer || isContainer == bytes.Equal(m.load, make([]byte, 32)) {
			return nil, false
		}
		out, b = append(out, m), b[2+n+4*32:]
	}
	return out, len(b) == 0
}

// unitURI reads enough of a URI to tell units and containers from the rest.
func unitURI(uri string) (unit, container bool) {
	for _, c := range []byte(uri) {
		if c <= ' ' || c > '~' {
			return false, false
		}
	}
	path, ok := strings.CutPrefix(uri, "https://id.gs1.org/")
	if !ok {
		return false, strings.HasPrefix(uri, "urn:epc:id:bic:")
	}
	part := strings.Split(path, "/")
	switch {
	case len(part) == 2 && part[0] == "00":
		return false, true
	case len(part) == 4 && part[0] == "01" && part[2] == "21" && len(part[1]) == 14 && part[3] != "":
		return true, false
	case len(part) == 2 && (part[0] == "8003" || part[0] == "8004"), len(part) == 4 && (part[0] == "8006" || part[0] == "8010"):
		return true, false
	}
	return false, false
}

func b64(s string) []byte {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || base64.StdEncoding.EncodeToString(b) != s {
		return nil
	}
	return b
}
