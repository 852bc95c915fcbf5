package entry

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The vectors in testdata/entry are made by this file from the formats' wording,
// by plain concatenation and not by the package, and then read back by the
// tests. Binary values are hex, 64-bit numbers decimal strings. "outcome" is "ok"
// or "malformed"; a second implementation must agree on both.
var update = flag.Bool("update", false, "write testdata/entry anew")

const vectorDir = "../../testdata/entry"

type vectorFile[T any] struct {
	About string `json:"about"`
	Cases []T    `json:"cases"`
}

// vectors returns the cases in the file, which must be exactly those given.
func vectors[T any](t *testing.T, name, about string, made []T) []T {
	t.Helper()
	var want bytes.Buffer
	enc := json.NewEncoder(&want)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(vectorFile[T]{about, made}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(vectorDir, name)
	if *update {
		if err := os.WriteFile(path, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, want.Bytes()) {
		t.Fatalf("%s is not what this test makes; the published bytes must not change", name)
	}
	var f vectorFile[T]
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	return f.Cases
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func hash32(t *testing.T, s string) (h Hash) {
	t.Helper()
	if b := unhex(t, s); len(b) == 32 {
		h = Hash(b)
	}
	return h
}

func outcome(err error) string {
	if err != nil {
		return "malformed"
	}
	return "ok"
}

// hexOf concatenates: numbers of n bytes as {n, value}, bytes and strings.
func hexOf(parts ...any) string {
	var b strings.Builder
	for _, p := range parts {
		switch p := p.(type) {
		case [2]uint64:
			fmt.Fprintf(&b, "%0*x", p[0]*2, p[1])
		case string:
			b.WriteString(hex.EncodeToString([]byte(p)))
		case []byte:
			b.WriteString(hex.EncodeToString(p))
		case Hash:
			b.WriteString(hex.EncodeToString(p[:]))
		}
	}
	return b.String()
}

func u8(n uint64) [2]uint64  { return [2]uint64{1, n} }
func u16(n uint64) [2]uint64 { return [2]uint64{2, n} }
func u32(n uint64) [2]uint64 { return [2]uint64{4, n} }
func u64(n uint64) [2]uint64 { return [2]uint64{8, n} }

func shaHex(s string) string {
	b, _ := hex.DecodeString(s)
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

type sigVector struct {
	Key string `json:"key"`
	Sig string `json:"sig"`
}

type envelopeVector struct {
	Name        string      `json:"name"`
	Bytes       string      `json:"bytes"`
	Outcome     string      `json:"outcome"`
	Payload     string      `json:"payload,omitempty"`
	Signatures  []sigVector `json:"signatures,omitempty"`
	StatementID string      `json:"statementId,omitempty"`
}

var (
	samplePayload = `{"_type":"https://in-toto.io/Statement/v1"}`
	oneSigner     = hexOf(u32(uint64(len(samplePayload))), samplePayload, u8(1), key(0x11), u16(3), "sig")
	twoSigners    = hexOf(u32(2), "{}", u8(2), key(0x11), u16(1), "a", key(0x22), u16(2), "bb")
)

func TestEnvelopeVectors(t *testing.T) {
	k1, k2 := key(0x11).String(), key(0x22).String()
	cases := vectors(t, "envelope.json",
		"Canonical envelopes: u32 len, payload, u8 n, n x (SPKI hash 32, u16 len, signature). statementId is SHA-256 of the payload.",
		[]envelopeVector{
			{Name: "one signer", Bytes: oneSigner, Outcome: "ok", Payload: hexOf(samplePayload),
				Signatures: []sigVector{{k1, hexOf("sig")}}, StatementID: shaHex(hexOf(samplePayload))},
			{Name: "two signers, ascending", Bytes: twoSigners, Outcome: "ok", Payload: hexOf("{}"),
				Signatures: []sigVector{{k1, hexOf("a")}, {k2, hexOf("bb")}}, StatementID: shaHex(hexOf("{}"))},
			{Name: "payload need not be UTF-8 or JSON", Bytes: hexOf(u32(2), []byte{0xff, 0}, u8(1), key(0x11), u16(1), "a"), Outcome: "ok",
				Payload: "ff00", Signatures: []sigVector{{k1, hexOf("a")}}, StatementID: shaHex("ff00")},
			{Name: "empty", Bytes: "", Outcome: "malformed"},
			{Name: "empty payload", Bytes: hexOf(u32(0), u8(1), key(0x11), u16(1), "a"), Outcome: "malformed"},
			{Name: "payload of 262,145 bytes announced", Bytes: hexOf(u32(256<<10+1), "x"), Outcome: "malformed"},
			{Name: "payload shorter than announced", Bytes: hexOf(u32(5), "{}"), Outcome: "malformed"},
			{Name: "no signature", Bytes: hexOf(u32(2), "{}", u8(0)), Outcome: "malformed"},
			{Name: "nine signatures announced", Bytes: hexOf(u32(2), "{}", u8(9)), Outcome: "malformed"},
			{Name: "signature missing", Bytes: hexOf(u32(2), "{}", u8(2), key(0x11), u16(1), "a"), Outcome: "malformed"},
			{Name: "empty signature", Bytes: hexOf(u32(2), "{}", u8(1), key(0x11), u16(0)), Outcome: "malformed"},
			{Name: "signature of 1,025 bytes", Bytes: hexOf(u32(2), "{}", u8(1), key(0x11), u16(1025), make([]byte, 1025)), Outcome: "malformed"},
			{Name: "signers descend", Bytes: hexOf(u32(2), "{}", u8(2), key(0x22), u16(1), "a", key(0x11), u16(1), "b"), Outcome: "malformed"},
			{Name: "signer twice", Bytes: hexOf(u32(2), "{}", u8(2), key(0x11), u16(1), "a", key(0x11), u16(1), "b"), Outcome: "malformed"},
			{Name: "trailing byte", Bytes: oneSigner + "00", Outcome: "malformed"},
		})
	for _, c := range cases {
		b := unhex(t, c.Bytes)
		e, err := ParseEnvelope(b)
		if outcome(err) != c.Outcome {
			t.Errorf("%s: %v, want %s", c.Name, err, c.Outcome)
			continue
		}
		if err != nil {
			continue
		}
		got := envelopeVector{Name: c.Name, Bytes: c.Bytes, Outcome: "ok", Payload: hexOf(e.Payload), StatementID: StatementID(e.Payload).String()}
		for _, s := range e.Signatures {
			got.Signatures = append(got.Signatures, sigVector{s.Key.String(), hexOf(s.Sig)})
		}
		if fmt.Sprint(got) != fmt.Sprint(c) {
			t.Errorf("%s: %+v, want %+v", c.Name, got, c)
		}
	}
}

type leafVector struct {
	Name      string `json:"name"`
	Class     byte   `json:"class"`
	Time      string `json:"time"`
	Salt      string `json:"salt,omitempty"`
	Envelope  string `json:"envelope,omitempty"`
	Covers    string `json:"covers,omitempty"`
	IndexRoot string `json:"indexRoot,omitempty"`
	Leaf      string `json:"leaf"`
	LeafHash  string `json:"leafHash"`
	Extra     string `json:"extra"`
	Cargo     string `json:"cargo"`
}

func makeLeaf(name string, class byte, time uint64, salt, envelope string, covers uint64, root string) leafVector {
	v := leafVector{Name: name, Class: class, Time: strconv.FormatUint(time, 10), Salt: salt, Envelope: envelope, IndexRoot: root}
	var commitment string
	switch class {
	case 1:
		commitment = shaHex(hexOf("fabtrail/public/v1\n", u64(time)) + envelope)
		v.Extra = hexOf(u8(1), u64(time))
		v.Cargo = v.Extra + envelope
	case 2:
		commitment = shaHex(hexOf("fabtrail/restricted/v1\n", u64(time)) + salt + shaHex(envelope))
		v.Extra = hexOf(u8(2), u64(time)) + salt
		v.Cargo = v.Extra + envelope
	case 3:
		v.Covers = strconv.FormatUint(covers, 10)
		commitment = shaHex(hexOf("fabtrail/index/v1\n", u64(time), u64(covers)) + root)
		v.Extra = hexOf(u8(3), u64(time), u64(covers)) + root
		v.Cargo = v.Extra
	}
	v.Leaf = hexOf(u8(1), u8(uint64(class))) + commitment
	v.LeafHash = shaHex("00" + v.Leaf)
	return v
}

func TestLeafVectors(t *testing.T) {
	salt := key(0x5a).String()
	const t0 = 1763683200000
	cases := vectors(t, "leaf.json",
		"Leaves of all classes from their parts, their RFC 6962 leaf hash, and the cargo and receipt extra from which they are recomputed. time is Unix milliseconds.",
		[]leafVector{
			makeLeaf("public", 1, t0, "", oneSigner, 0, ""),
			makeLeaf("public at time zero", 1, 0, "", twoSigners, 0, ""),
			makeLeaf("restricted", 2, t0, salt, oneSigner, 0, ""),
			makeLeaf("restricted, salt of zeros, last time", 2, 1<<64-1, Hash{}.String(), twoSigners, 0, ""),
			makeLeaf("index", 3, t0, "", "", 48209, key(0x77).String()),
			makeLeaf("index over nothing", 3, t0, "", "", 0, shaHex(hexOf("fabtrail/index/empty/v1\n"))),
		})
	for _, c := range cases {
		e := Entry{Class: Class(c.Class), Salt: hash32(t, c.Salt), Envelope: unhex(t, c.Envelope), IndexRoot: hash32(t, c.IndexRoot)}
		e.Time, _ = strconv.ParseUint(c.Time, 10, 64)
		e.Covers, _ = strconv.ParseUint(c.Covers, 10, 64)
		leaf := e.Leaf()
		got := c
		got.Leaf, got.LeafHash, got.Extra, got.Cargo = hexOf(leaf[:]), e.LeafHash().String(), hexOf(e.Extra()), hexOf(e.Cargo())
		if got != c {
			t.Errorf("%s: %+v, want %+v", c.Name, got, c)
		}
		if back, err := ParseCargo(unhex(t, c.Cargo)); err != nil || back.Leaf() != leaf {
			t.Errorf("%s: leaf from cargo: %v", c.Name, err)
		}
		back, err := ParseExtra(unhex(t, c.Extra))
		back.Envelope = e.Envelope
		if err != nil || back.Leaf() != leaf {
			t.Errorf("%s: leaf from extra and envelope: %v", c.Name, err)
		}
	}
}

type bytesVector struct {
	Name    string `json:"name"`
	Format  string `json:"format"` // leaf, cargo or extra
	Bytes   string `json:"bytes"`
	Outcome string `json:"outcome"`
}

func TestMalformedVectors(t *testing.T) {
	pub, res, idx := makeLeaf("", 1, 5, "", oneSigner, 0, ""), makeLeaf("", 2, 5, key(1).String(), oneSigner, 0, ""), makeLeaf("", 3, 5, "", "", 4, key(2).String())
	var made []bytesVector
	add := func(format, name, bytes, outcome string) {
		made = append(made, bytesVector{format + ": " + name, format, bytes, outcome})
	}
	for _, v := range []leafVector{pub, res, idx} {
		class := Class(v.Class).String()
		add("leaf", class, v.Leaf, "ok")
		add("leaf", class+", version 2", "02"+v.Leaf[2:], "malformed")
		add("leaf", class+", a byte short", v.Leaf[:66], "malformed")
		add("leaf", class+", a byte long", v.Leaf+"00", "malformed")
		add("extra", class, v.Extra, "ok")
		add("extra", class+", a byte short", v.Extra[:len(v.Extra)-2], "malformed")
		add("extra", class+", a byte long", v.Extra+"00", "malformed")
		add("cargo", class, v.Cargo, "ok")
	}
	add("leaf", "class 0", "0100"+pub.Leaf[4:], "malformed")
	add("leaf", "class 4", "0104"+pub.Leaf[4:], "malformed")
	add("extra", "empty", "", "malformed")
	add("extra", "class 0", "00"+pub.Extra[2:], "malformed")
	add("extra", "class 4", "04"+pub.Extra[2:], "malformed")
	add("cargo", "empty", "", "malformed")
	add("cargo", "public without an envelope", pub.Extra, "malformed")
	add("cargo", "restricted without an envelope", res.Extra, "malformed")
	add("cargo", "index, a byte long", idx.Cargo+"00", "malformed")
	add("cargo", "class 4", "04"+pub.Cargo[2:], "malformed")
	parsers := map[string]func([]byte) error{
		"leaf":  func(b []byte) error { _, err := LeafClass(b); return err },
		"extra": func(b []byte) error { _, err := ParseExtra(b); return err },
		"cargo": func(b []byte) error { _, err := ParseCargo(b); return err },
	}
	for _, c := range vectors(t, "malformed.json", "Which bytes are a leaf, a receipt extra, cargo. An envelope inside cargo is judged by envelope.json.", made) {
		if err := parsers[c.Format](unhex(t, c.Bytes)); outcome(err) != c.Outcome {
			t.Errorf("%s: %v, want %s", c.Name, err, c.Outcome)
		}
	}
}

type topicVector struct {
	Kind  string `json:"kind"`
	Value string `json:"value"`
	Hash  string `json:"hash"`
}

func TestTopicVectors(t *testing.T) {
	id := shaHex(hexOf("{}"))
	var made []topicVector
	for _, kv := range [][2]string{
		{"unit", "https://id.gs1.org/01/09506000134352/21/A1"},
		{"load", "https://id.gs1.org/00/106141412345678908 " + id},
		{"contents", "https://id.gs1.org/00/106141412345678908 " + id},
		{"party", "https://id.gs1.org/417/9506000134376"},
		{"assessment", "https://id.gs1.org/417/9506000134376"},
		{"product", "09506000134352"},
		{"lane", "09506000134352"},
		{"lot", "https://id.gs1.org/01/09506000134352/10/L7"},
		{"artefact", id},
		{"recall-artefact", id},
		{"key", id},
		{"device-key", id},
		{"log", ""},
	} {
		made = append(made, topicVector{kv[0], kv[1], shaHex(hexOf("fabtrail/topic/v1\n", kv[0], "\n", kv[1]))})
	}
	for _, c := range vectors(t, "topic.json", `Topics: SHA-256("fabtrail/topic/v1\n" | kind | "\n" | canonical value).`, made) {
		if got := (Topic{TopicKind(c.Kind), c.Value}).Hash().String(); got != c.Hash {
			t.Errorf("%s %s: %s, want %s", c.Kind, c.Value, got, c.Hash)
		}
	}
}

type bundleVector struct {
	Name    string   `json:"name"`
	Bytes   string   `json:"bytes"`
	Outcome string   `json:"outcome"`
	Entries []string `json:"entries,omitempty"`
}

func TestBundleVectors(t *testing.T) {
	a, b := makeLeaf("", 1, 5, "", oneSigner, 0, "").Leaf, makeLeaf("", 3, 5, "", "", 1, key(2).String()).Leaf
	for _, c := range vectors(t, "bundle.json", "Entry bundles of c2sp.org/tlog-tiles: u16 length and entry, 1 to 256 times.", []bundleVector{
		{"two leaves", hexOf(u16(34)) + a + hexOf(u16(34)) + b, "ok", []string{a, b}},
		{"an empty entry", "0000", "ok", []string{""}},
		{"nothing", "", "malformed", nil},
		{"half a length", "00", "malformed", nil},
		{"entry cut off", "0022" + a[:66], "malformed", nil},
		{"trailing byte", "0022" + a + "00", "malformed", nil},
		{"257 entries", strings.Repeat("0000", 257), "malformed", nil},
	}) {
		entries, err := ParseBundle(unhex(t, c.Bytes))
		if outcome(err) != c.Outcome || len(entries) != len(c.Entries) {
			t.Errorf("%s: %d entries, %v; want %s", c.Name, len(entries), err, c.Outcome)
			continue
		}
		for i := range entries {
			if hexOf(entries[i]) != c.Entries[i] {
				t.Errorf("%s: entry %d is %x", c.Name, i, entries[i])
			}
		}
	}
}

type pathVector struct {
	Path    string `json:"path"`
	Outcome string `json:"outcome"`
	Entries bool   `json:"entries,omitempty"`
	Level   uint8  `json:"level"`
	Index   string `json:"index,omitempty"`
	Width   int    `json:"width,omitempty"` // 256 is full
}

func TestTilePathVectors(t *testing.T) {
	made := []pathVector{
		{"/tile/0/000", "ok", false, 0, "0", 256},
		{"/tile/0/000.p/1", "ok", false, 0, "0", 1},
		{"/tile/63/x001/x234/067.p/255", "ok", false, 63, "1234067", 255},
		{"/tile/1/x001/000", "ok", false, 1, "1000", 256},
		{"/tile/entries/x010/005.p/34", "ok", true, 0, "10005", 34},
		{"/tile/0/x018/x446/x744/x073/x709/x551/615", "ok", false, 0, "18446744073709551615", 256},
	}
	for _, bad := range []string{
		"/tile/0/0", "/tile/00/000", "/tile/64/000", "/tile/0/x000/001", "/tile/0/000/001", "/tile/0/x001", "/tile/0/000.p/0",
		"/tile/0/000.p/256", "/tile/0/000.p/01", "/tile/0/000.p/", "/tile/0/000/", "tile/0/000", "/tile/entries/00",
		"/tile/0/x018/x446/x744/x073/x709/x551/616", "/tile/0/../0/000", "/tile/+0/000",
	} {
		made = append(made, pathVector{Path: bad, Outcome: "malformed"})
	}
	for _, c := range vectors(t, "tilepath.json", "Paths of c2sp.org/tlog-tiles. Each tile has one path.", made) {
		p, err := ParseTilePath(c.Path)
		if outcome(err) != c.Outcome {
			t.Errorf("%s: %v, want %s", c.Path, err, c.Outcome)
			continue
		}
		if err != nil {
			continue
		}
		got := pathVector{p.String(), "ok", p.Entries, p.Level, strconv.FormatUint(p.Index, 10), p.Width}
		if got != c {
			t.Errorf("%s: %+v, want %+v", c.Path, got, c)
		}
	}
}
