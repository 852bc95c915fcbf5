package checkpoint

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/ledger/entry"
)

// The vectors in testdata/checkpoint say of each input which outcome it has, for
// others to build against. Keys are Ed25519 from SHA-256("test key of " | key
// name); binary values are hex, 64-bit numbers decimal strings. Outcomes are
// written down here by hand, not computed.
var update = flag.Bool("update", false, "write testdata/checkpoint anew")

const vectorDir = "../../testdata/checkpoint"

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

// outcome names an error as the vectors do.
func outcome(err error) string {
	for name, e := range map[string]error{
		"malformed": ErrMalformed, "no-signature": ErrNoSignature, "bad-signature": ErrBadSignature,
		"unknown-log": ErrUnknownLog, "no-quorum": ErrNoQuorum, "bad-proof": ErrBadProof,
	} {
		if errors.Is(err, e) {
			return name
		}
	}
	if err != nil {
		return err.Error()
	}
	return "ok"
}

type vkeyVector struct {
	Name    string `json:"name"`
	VKey    string `json:"vkey"`
	Outcome string `json:"outcome"`
	KeyName string `json:"keyName,omitempty"`
	ID      string `json:"id,omitempty"`
	Type    byte   `json:"type,omitempty"`
	Key     string `json:"key,omitempty"`
}

// urlSafe returns a good verifier key but for its base64 alphabet.
func urlSafe(t *testing.T) string {
	for i := 0; ; i++ {
		k := signer(t, fmt.Sprintf("log%d.example", i), TypeLog).VKey().String()
		parts := strings.SplitN(k, "+", 3)
		if safe := strings.NewReplacer("/", "_", "+", "-").Replace(parts[2]); safe != parts[2] {
			return parts[0] + "+" + parts[1] + "+" + safe
		}
	}
}

func TestVKeyVectors(t *testing.T) {
	lk, w := logKey(t).VKey(), wit(t, "a").VKey()
	l := lk.String()
	parts := strings.SplitN(l, "+", 3)
	enc := func(name string, typ byte, key []byte) string {
		k := VKey{Name: name, Type: typ, Key: key, ID: keyID(name, typ, key)}
		return k.String()
	}
	zeros := make([]byte, 32)
	identity := append([]byte{1}, zeros[1:]...)
	cases := vectors(t, "vkey.json", "Verifier keys: name+id+base64(type, public key). Names the key where the outcome is ok.", []vkeyVector{
		{"log", l, "ok", lk.Name, fmt.Sprintf("%08x", lk.ID), 1, hex.EncodeToString(lk.Key)},
		{"witness", w.String(), "ok", w.Name, fmt.Sprintf("%08x", w.ID), 4, hex.EncodeToString(w.Key)},
		{"example of signed-note", "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", "ok", "example.com/foo", "530d903a", 1, "e932791ae6e7a840a46164c904786426d5e7821dd8b29a00d61cae72afdd4da4"},
		{Name: "empty", VKey: "", Outcome: "malformed"},
		{Name: "two parts", VKey: parts[0] + "+" + parts[2], Outcome: "malformed"},
		{Name: "no name", VKey: "+" + parts[1] + "+" + parts[2], Outcome: "malformed"},
		{Name: "other name", VKey: "x" + l, Outcome: "malformed"},
		{Name: "space in the name", VKey: enc("a b", 1, lk.Key), Outcome: "malformed"},
		{Name: "no-break space in the name", VKey: enc("a\u00a0b", 1, lk.Key), Outcome: "malformed"},
		{Name: "id in capitals", VKey: parts[0] + "+" + strings.ToUpper(parts[1]) + "+" + parts[2], Outcome: "malformed"},
		{Name: "id of seven digits", VKey: parts[0] + "+" + parts[1][1:] + "+" + parts[2], Outcome: "malformed"},
		{Name: "id of another type", VKey: fmt.Sprintf("%s+%08x+%s", lk.Name, keyID(lk.Name, 4, lk.Key), parts[2]), Outcome: "malformed"},
		{Name: "URL-safe base64", VKey: urlSafe(t), Outcome: "malformed"},
		{Name: "padding that is not needed", VKey: l + "=", Outcome: "malformed"},
		{Name: "key of 31 bytes", VKey: enc("x.example", 1, lk.Key[:31]), Outcome: "malformed"},
		{Name: "key of 33 bytes", VKey: enc("x.example", 1, append(bytes.Clone(lk.Key), 0)), Outcome: "malformed"},
		{Name: "type only", VKey: enc("x.example", 1, nil), Outcome: "malformed"},
		{Name: "type 0x02", VKey: enc("x.example", 2, lk.Key), Outcome: "malformed"},
		{Name: "type 0x06 (not supported)", VKey: enc("x.example", 6, make([]byte, 1312)), Outcome: "malformed"},
		{Name: "key of order four", VKey: enc("x.example", 1, zeros), Outcome: "malformed"},
		{Name: "key of order one", VKey: enc("x.example", 1, identity), Outcome: "malformed"},
		{Name: "not a point", VKey: enc("x.example", 1, append([]byte{2}, zeros[1:]...)), Outcome: "malformed"},
		{Name: "trailing newline", VKey: l + "\n", Outcome: "malformed"},
		{Name: "trailing part", VKey: l + "+x", Outcome: "malformed"},
	})
	for _, c := range cases {
		k, err := ParseVKey(c.VKey)
		got := vkeyVector{Name: c.Name, VKey: c.VKey, Outcome: outcome(err)}
		if err == nil {
			got.KeyName, got.ID, got.Type, got.Key = k.Name, fmt.Sprintf("%08x", k.ID), k.Type, hex.EncodeToString(k.Key)
		}
		if got != c {
			t.Errorf("%s: %+v (%v), want %+v", c.Name, got, err, c)
		}
	}
}

type textVector struct {
	Name      string `json:"name"`
	Text      string `json:"text"`
	Outcome   string `json:"outcome"`
	Origin    string `json:"origin,omitempty"`
	Size      string `json:"size,omitempty"`
	Root      string `json:"root,omitempty"`
	Extension string `json:"extension,omitempty"`
}

func TestCheckpointVectors(t *testing.T) {
	root := rootOf(1)
	b64 := strings.Split(Checkpoint{Origin: "o", Root: root}.Text(), "\n")[2]
	h := root.String()
	bad := func(name, text string) textVector { return textVector{Name: name, Text: text, Outcome: "malformed"} }
	cases := vectors(t, "checkpoint.json", "Texts of checkpoints (c2sp.org/tlog-checkpoint). A root of size 0 is not judged here.", []textVector{
		{"usual", "ledger.example/fab\n48210\n" + b64 + "\n", "ok", "ledger.example/fab", "48210", h, ""},
		{"empty tree", "o\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n", "ok", "o", "0", EmptyRoot.String(), ""},
		{"largest size", "o\n18446744073709551615\n" + b64 + "\n", "ok", "o", "18446744073709551615", h, ""},
		{"origin with spaces", "a log\n1\n" + b64 + "\n", "ok", "a log", "1", h, ""},
		{"extension lines", "o\n1\n" + b64 + "\nx 1\ny\n", "ok", "o", "1", h, "x 1\ny\n"},
		bad("empty", ""),
		bad("two lines", "o\n1\n"),
		bad("no newline at the end", "o\n1\n"+b64),
		bad("extension without a newline", "o\n1\n"+b64+"\nx"),
		bad("empty extension line", "o\n1\n"+b64+"\n\n"),
		bad("empty line between extensions", "o\n1\n"+b64+"\nx\n\ny\n"),
		bad("empty origin", "\n1\n"+b64+"\n"),
		bad("leading zero", "o\n01\n"+b64+"\n"),
		bad("two zeros", "o\n00\n"+b64+"\n"),
		bad("plus", "o\n+1\n"+b64+"\n"),
		bad("minus", "o\n-1\n"+b64+"\n"),
		bad("space before the size", "o\n 1\n"+b64+"\n"),
		bad("hexadecimal size", "o\n0x1\n"+b64+"\n"),
		bad("underscore in the size", "o\n1_0\n"+b64+"\n"),
		bad("empty size", "o\n\n"+b64+"\n"),
		bad("size 2^64", "o\n18446744073709551616\n"+b64+"\n"),
		bad("carriage returns", "o\r\n1\r\n"+b64+"\r\n"),
		bad("tab in the origin", "o\tp\n1\n"+b64+"\n"),
		bad("root of 31 bytes", "o\n1\n"+b64[:40]+"AA==\n"),
		bad("root without padding", "o\n1\n"+strings.TrimRight(b64, "=")+"\n"),
		bad("root in URL-safe base64", "o\n1\n__"+b64[2:]+"\n"),
		bad("root with loose last bits", "o\n1\n"+strings.Repeat("A", 42)+"B=\n"),
		bad("space after the root", "o\n1\n"+b64+" \n"),
	})
	for _, c := range cases {
		cp, err := ParseCheckpoint(c.Text)
		got := textVector{Name: c.Name, Text: c.Text, Outcome: outcome(err)}
		if err == nil {
			got.Origin, got.Size, got.Root, got.Extension = cp.Origin, strconv.FormatUint(cp.Size, 10), cp.Root.String(), cp.Extension
		}
		if got != c {
			t.Errorf("%s: %+v (%v), want %+v", c.Name, got, err, c)
		}
	}
}

type noteVector struct {
	Name    string `json:"name"`
	Note    string `json:"note"`
	Outcome string `json:"outcome"`
	Text    string `json:"text,omitempty"`
	Sigs    int    `json:"signatures,omitempty"`
}

func TestNoteVectors(t *testing.T) {
	n := signed(t, cpAt(3), map[string]uint64{"a": 1700000000}, "a")
	good, text := string(n.Marshal()), n.Text
	line := n.Sigs[0].Line()
	bad := func(name, note string) noteVector { return noteVector{Name: name, Note: note, Outcome: "malformed"} }
	cases := vectors(t, "note.json", "Signed notes: which bytes are one, where the text ends, how many signature lines there are. Signatures are not verified here.", []noteVector{
		{"checkpoint of a log and a witness", good, "ok", text, 2},
		{"empty lines in the text", "a\n\nb\n\n" + line, "ok", "a\n\nb\n", 1},
		{"sixteen signatures", text + "\n" + strings.Repeat(line, 16), "ok", text, 16},
		{"text of one empty line", "\n\n" + line, "ok", "\n", 1},
		{"unknown signature of one byte", text + "\n— x AAAAAAA=\n", "ok", text, 1},
		bad("empty", ""),
		bad("text only", text),
		bad("no signature", text+"\n"),
		bad("no empty line", text+line),
		bad("no newline at the end", strings.TrimSuffix(good, "\n")),
		bad("newline too many", good+"\n"),
		bad("trailing text", good+"x\n"),
		bad("carriage returns", strings.ReplaceAll(good, "\n", "\r\n")),
		bad("hyphen for the dash", strings.Replace(good, "— ", "- ", 1)),
		bad("en dash for the dash", strings.Replace(good, "— ", "– ", 1)),
		bad("two spaces after the dash", strings.Replace(good, "— ", "—  ", 1)),
		bad("no-break space after the dash", strings.Replace(good, "— ", "—\u00a0", 1)),
		bad("no name", text+"\n—  AAAAAAA=\n"),
		bad("plus in the name", text+"\n— a+b AAAAAAA=\n"),
		bad("unicode space in the name", text+"\n— a\u2003b AAAAAAA=\n"),
		bad("no signature bytes", text+"\n— a\n"),
		bad("key ID only", text+"\n— a AAAAAA==\n"),
		bad("base64 without padding", text+"\n— a AAAAAAA\n"),
		bad("base64 with loose bits", text+"\n— a AAAAAAB=\n"),
		bad("space at the end of a line", text+"\n— a AAAAAAA= \n"),
		bad("NUL in the text", "a\x00b\n\n"+line),
		bad("tab in the text", "a\tb\n\n"+line),
		bad("129 signatures", text+"\n"+strings.Repeat("— x AAAAAAA=\n", 129)),
	})
	for _, c := range cases {
		n, err := ParseNote([]byte(c.Note))
		if got := (noteVector{c.Name, c.Note, outcome(err), n.Text, len(n.Sigs)}); got != c {
			t.Errorf("%s: %+v (%v), want %+v", c.Name, got, err, c)
		}
	}
	if _, err := ParseNote([]byte("a\xff\n\n" + line)); !errors.Is(err, ErrMalformed) { // not expressible in JSON
		t.Errorf("text that is not UTF-8: %v", err)
	}
}

type signVector struct {
	Name string `json:"name"`
	Seed string `json:"seed"`
	VKey string `json:"vkey"`
	Text string `json:"text"`
	Time string `json:"time,omitempty"` // of a cosignature
	Line string `json:"line"`
}

func TestSignVectors(t *testing.T) {
	var made []signVector
	for _, c := range []struct {
		name string
		s    *Signer
		key  string
		text string
		time uint64
	}{
		{"log signature", logKey(t), origin, cpAt(48210).Text(), 0},
		{"log signature of the empty tree", logKey(t), origin, Checkpoint{Origin: origin, Root: EmptyRoot}.Text(), 0},
		{"cosignature", wit(t, "a"), "a.example/w", cpAt(48210).Text(), 1763683200},
		{"cosignature, latest time", wit(t, "a"), "a.example/w", cpAt(48210).Text(), 1<<63 - 1},
		{"cosignature over extension lines", wit(t, "a"), "a.example/w", cpAt(5).Text() + "extension\n", 1},
	} {
		v := signVector{Name: c.name, Seed: hex.EncodeToString(seed(c.key).Seed()), VKey: c.s.VKey().String(), Text: c.text}
		var sig NoteSig
		var err error
		if c.time == 0 {
			sig, err = c.s.SignLog(c.text)
		} else {
			v.Time = strconv.FormatUint(c.time, 10)
			sig, err = c.s.Cosign(c.text, c.time)
		}
		if err != nil {
			t.Fatal(err)
		}
		v.Line = sig.Line()
		made = append(made, v)
	}
	for _, c := range vectors(t, "sign.json", "Signature lines that an Ed25519 seed makes over a text: type 0x01, or 0x04 where there is a time.", made) {
		k, err := ParseVKey(c.VKey)
		if err != nil {
			t.Fatal(err)
		}
		sigs, err := ParseSigLines(c.Line)
		if err != nil {
			t.Fatal(err)
		}
		n := Note{c.Text, sigs}
		if c.Time == "" {
			err = k.VerifyLog(n)
		} else {
			var at uint64
			at, err = k.VerifyCosignature(n)
			if strconv.FormatUint(at, 10) != c.Time {
				t.Errorf("%s: time %d", c.Name, at)
			}
		}
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
}

type verifyVector struct {
	Name       string   `json:"name"`
	Policy     string   `json:"policy"`
	Note       string   `json:"note"`
	Outcome    string   `json:"outcome"`
	Cosigned   []string `json:"cosigned,omitempty"`
	QuorumTime string   `json:"quorumTime,omitempty"`
}

func TestPolicyVectors(t *testing.T) {
	names := []string{"a", "b", "c"}
	twoOf3 := policyText(t, names, "group q 2 a b c", "quorum q")
	nested := policyText(t, append(names, "d"), "group x any a b", "group y all c d", "group q all x y", "quorum q")
	none := policyText(t, names, "quorum none")
	times := map[string]uint64{"a": 100, "b": 300, "c": 200, "d": 50}
	note := func(order ...string) string { return string(signed(t, cpAt(9), times, order...).Marshal()) }
	badC := signed(t, cpAt(9), times, "a", "b", "c")
	badC.Sigs[3].Sig[40] ^= 1
	zeroTime := signed(t, cpAt(9), times, "a", "b")
	zeroTime.Sigs[1].Sig = append(make([]byte, 8), ed25519.Sign(seed("a.example/w"), cosignMessage(zeroTime.Text, 0))...)
	other := strings.Replace(note("a", "b"), origin+"\n9", "other.example\n9", 1)
	bad := func(name, policy string) verifyVector {
		return verifyVector{Name: name, Policy: policy, Note: note("a", "b", "c"), Outcome: "malformed"}
	}
	cases := vectors(t, "policy.json",
		"tlog-policy files with a note to judge. malformed means that the policy is refused, whatever the note. quorumTime is the latest time at or after which the quorum cosigned.", []verifyVector{
			{"two of three", twoOf3, note("a", "c"), "ok", []string{"a", "c"}, "100"},
			{"three of three, quorum of two", twoOf3, note("c", "a", "b"), "ok", []string{"a", "b", "c"}, "200"},
			{"one of three", twoOf3, note("b"), "no-quorum", nil, ""},
			{"nobody", twoOf3, note(), "no-quorum", nil, ""},
			{"nobody needed", none, note(), "ok", nil, "0"},
			{"nobody needed, one there", none, note("b"), "ok", []string{"b"}, "0"},
			{"nested groups", nested, note("a", "b", "c", "d"), "ok", []string{"a", "b", "c", "d"}, "50"},
			{"nested groups, one lacking", nested, note("a", "b", "c"), "no-quorum", nil, ""},
			{"single witness", policyText(t, names, "quorum b"), note("b"), "ok", []string{"b"}, "300"},
			{"a bad cosignature beside the quorum", twoOf3, string(badC.Marshal()), "bad-signature", nil, ""},
			{"time zero", twoOf3, string(zeroTime.Marshal()), "bad-signature", nil, ""},
			{"no log signature", twoOf3, string(Note{cpAt(9).Text(), badC.Sigs[1:3]}.Marshal()), "no-signature", nil, ""},
			{"unknown origin", twoOf3, other, "unknown-log", nil, ""},
			bad("group g 0", policyText(t, names, "group g 0 a b", "quorum g")),
			bad("empty group", policyText(t, names, "group g 0", "quorum g")),
			bad("group k above n", policyText(t, names, "group g 4 a b c", "quorum g")),
			bad("threshold 02", policyText(t, names, "group g 02 a b", "quorum g")),
			bad("member twice", policyText(t, names, "group g 2 a a", "quorum g")),
			bad("member in two groups", policyText(t, names, "group g any a", "group h any a b", "group q all g h", "quorum q")),
			bad("quorum before its definition", "quorum a\n"+policyText(t, names)),
			bad("two quorums", policyText(t, names, "quorum a", "quorum b")),
			bad("no quorum", policyText(t, names)),
			bad("unknown keyword", policyText(t, names, "mirror a", "quorum a")),
			bad("bad log line", "log nonsense\n"+policyText(t, names, "quorum a")),
			bad("carriage returns", strings.ReplaceAll(twoOf3, "\n", "\r\n")),
			bad("no newline at the end", strings.TrimSuffix(twoOf3, "\n")),
			bad("comment after a line", policyText(t, names, "quorum a # note")),
			bad("witness key twice", twoOf3+"witness z "+wit(t, "a").VKey().String()+"\n"),
			bad("witness with a log's type of key", twoOf3+"witness z "+logKey(t).VKey().String()+"\n"),
		})
	for _, c := range cases {
		got := verifyVector{Name: c.Name, Policy: c.Policy, Note: c.Note}
		p, err := ParsePolicy([]byte(c.Policy))
		if err == nil {
			var co Cosigned
			if co, err = p.Verify([]byte(c.Note)); err == nil {
				got.QuorumTime = strconv.FormatUint(co.QuorumTime, 10)
				for _, s := range co.Cosigs {
					got.Cosigned = append(got.Cosigned, s.Name)
				}
			}
		}
		if got.Outcome = outcome(err); fmt.Sprint(got) != fmt.Sprint(c) {
			t.Errorf("%s: outcome %s (%v) %v %s, want %s %v %s", c.Name, got.Outcome, err, got.Cosigned, got.QuorumTime, c.Outcome, c.Cosigned, c.QuorumTime)
		}
	}
}

type proofVector struct {
	Name     string `json:"name"`
	Policy   string `json:"policy"`
	LeafHash string `json:"leafHash"`
	Proof    string `json:"proof"`
	Outcome  string `json:"outcome"`
	Index    string `json:"index,omitempty"`
	Extra    string `json:"extra,omitempty"`
}

// pair returns the root over two hashes, RFC 6962.
func pair(a, b entry.Hash) entry.Hash {
	return sha256.Sum256(append(append([]byte{1}, a[:]...), b[:]...))
}

func TestProofVectors(t *testing.T) {
	e := entry.Entry{Class: entry.Restricted, Time: 1763683200000, Salt: rootOf(1), Envelope: []byte("envelope")}
	l := [3]entry.Hash{rootOf(10), e.LeafHash(), rootOf(12)}
	cp := Checkpoint{Origin: origin, Size: 3, Root: pair(pair(l[0], l[1]), l[2])}
	pol := policyText(t, []string{"a"}, "quorum a")
	note := signed(t, cp, map[string]uint64{"a": 9}, "a").Marshal()
	good := string(Proof{Extra: e.Extra(), Index: 1, Hashes: []entry.Hash{l[0], l[2]}, Checkpoint: note}.Marshal())
	plain := string(Proof{Index: 1, Hashes: []entry.Hash{l[0], l[2]}, Checkpoint: note}.Marshal())
	single := Checkpoint{Origin: origin, Size: 1, Root: l[1]}
	one := string(Proof{Checkpoint: signed(t, single, map[string]uint64{"a": 9}, "a").Marshal()}.Marshal())
	sub := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	leaf, hashes := l[1].String(), strings.Split(good, "\n")[3:5]
	v := func(name, proof, outcome string) proofVector {
		return proofVector{name, pol, leaf, proof, outcome, "", ""}
	}
	cases := vectors(t, "proof.json",
		"Receipts (c2sp.org/tlog-proof) of a leaf hash, judged under a policy. extra is that of entry: class, time, salt.", []proofVector{
			{"receipt of a restricted entry", pol, leaf, good, "ok", "1", hex.EncodeToString(e.Extra())},
			{"without extra", pol, leaf, plain, "ok", "1", ""},
			{"tree of one leaf", pol, leaf, one, "ok", "0", ""},
			{"another leaf", pol, l[0].String(), good, "bad-proof", "", ""},
			v("index 0 for 1", sub("index 1", "index 0"), "bad-proof"),
			v("hashes swapped", sub(hashes[0]+"\n"+hashes[1], hashes[1]+"\n"+hashes[0]), "bad-proof"),
			v("a hash lacking", sub(hashes[1]+"\n", ""), "bad-proof"),
			v("a hash too many", sub(hashes[1]+"\n", hashes[1]+"\n"+hashes[1]+"\n"), "bad-proof"),
			v("no cosignature", string(Proof{Index: 1, Hashes: []entry.Hash{l[0], l[2]}, Checkpoint: signed(t, cp, nil).Marshal()}.Marshal()), "no-quorum"),
			v("empty", "", "malformed"),
			v("other header", sub("@v1", "@v2"), "malformed"),
			v("index 01", sub("index 1", "index 01"), "malformed"),
			v("index +1", sub("index 1", "index +1"), "malformed"),
			v("index with a space", sub("index 1", "index 1 "), "malformed"),
			v("index not below the size", sub("index 1", "index 3"), "malformed"),
			v("no index", sub("index 1\n", ""), "malformed"),
			v("index before extra", sub(strings.Split(good, "\n")[1]+"\nindex 1", "index 1\n"+strings.Split(good, "\n")[1]), "malformed"),
			v("two extra lines", sub("index", "extra AA==\nindex"), "malformed"),
			v("empty extra", strings.Replace(plain, "index", "extra \nindex", 1), "malformed"),
			v("extra with loose bits", strings.Replace(plain, "index", "extra AB==\nindex", 1), "malformed"),
			v("carriage returns", strings.ReplaceAll(good, "\n", "\r\n"), "malformed"),
			v("hash of 31 bytes", sub(hashes[0], hashes[0][:40]+"AA=="), "malformed"),
			v("65 hashes", sub(hashes[1]+"\n", strings.Repeat(hashes[1]+"\n", 64)), "malformed"),
			v("no checkpoint", strings.Split(good, "\n\n")[0]+"\n\n", "malformed"),
			v("trailing newline", good+"\n", "malformed"),
			v("checkpoint's size 03", sub("\n3\n", "\n03\n"), "malformed"),
			v("checkpoint's size changed", sub("\n3\n", "\n4\n"), "bad-signature"),
		})
	for _, c := range cases {
		got := proofVector{Name: c.Name, Policy: c.Policy, LeafHash: c.LeafHash, Proof: c.Proof}
		pol, err := ParsePolicy([]byte(c.Policy))
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := entry.ParseHash(c.LeafHash)
		if err != nil {
			t.Fatal(err)
		}
		p, err := ParseProof([]byte(c.Proof))
		if err == nil {
			if _, err = p.Verify(pol, leaf); err == nil {
				got.Index, got.Extra = strconv.FormatUint(p.Index, 10), hex.EncodeToString(p.Extra)
			}
		}
		if got.Outcome = outcome(err); got != c {
			t.Errorf("%s: %s (%v), want %s", c.Name, got.Outcome, err, c.Outcome)
		}
	}
}
