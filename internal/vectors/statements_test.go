package vectors

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// statement is what topics are made of.
type statement struct {
	Subject []struct {
		URI    string
		Digest struct{ SHA256 data }
	}
	PredicateType string
	Predicate     struct {
		Authorities []struct{ Key struct{ SPKI []byte } }
		Operator    struct{ Key struct{ SPKI []byte } }

		Ledger   data
		Load     string
		Keys     []struct{ SPKI []byte }
		Key      struct{ SHA256 string }
		New      struct{ SPKI []byte }
		Identity struct{ SPKI []byte }
		SPKI     []byte
		Selector struct {
			Unit, Product, Lot string
			Artefact           struct{ SHA256 string }
		}
		Contents *struct {
			Manifest, Root data
			Count          uint64
		}
		Components []struct{ URI string }
		Units      []struct{ URI, Load string }
		Voids      struct{ SHA256 string }
		Disputes   struct{ SHA256 string }
		Lifts      struct{ SHA256 string }
	}
}

func parse(t *testing.T, payload string) (statement, string) {
	t.Helper()
	var s statement
	if err := json.Unmarshal([]byte(payload), &s); err != nil {
		t.Fatal(err)
	}
	kind, ok := strings.CutPrefix(s.PredicateType, "https://fabtrail.dev/custody/")
	kind, ok2 := strings.CutSuffix(kind, "/v1")
	if !ok || !ok2 || len(s.Subject) != 1 {
		t.Fatalf("predicate type %s, %d subjects", s.PredicateType, len(s.Subject))
	}
	return s, kind
}

// kinds reads the table of predicates of the page: kind -> class, chained.
func kinds(t *testing.T) map[string][2]string {
	t.Helper()
	page, err := os.ReadFile("../../docs/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][2]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| (public|restricted) \\| [^|]* \\| [^|]* \\| (yes|no) \\|").FindAllStringSubmatch(string(page), -1) {
		out[m[1]] = [2]string{m[2], m[3]}
	}
	return out
}

func TestStatements(t *testing.T) {
	var v []struct {
		Name, Payload, Kind, Subject string
		ID, Ledger                   data
		Class                        int
		Chained                      bool
	}
	load(t, "custody/statements.json", &v)
	table := kinds(t)
	for _, c := range v {
		s, kind := parse(t, c.Payload)
		same(t, c.Name+": ID", sum([]byte(c.Payload)), c.ID)
		same(t, c.Name+": subject's digest", sum([]byte(s.Subject[0].URI)), s.Subject[0].Digest.SHA256)
		same(t, c.Name+": ledger", s.Predicate.Ledger, c.Ledger)
		row := [2]string{map[int]string{1: "public", 2: "restricted"}[c.Class], map[bool]string{true: "yes", false: "no"}[c.Chained]}
		if kind != c.Kind || s.Subject[0].URI != c.Subject || table[kind] != row {
			t.Errorf("%s: %s of %s, %v in the page, %v in the vector", c.Name, kind, s.Subject[0].URI, table[kind], row)
		}
	}
	seen := map[string]bool{}
	for _, c := range v {
		seen[c.Kind] = true
	}
	for kind := range table {
		if !seen[kind] {
			t.Errorf("there is no vector of a %s", kind)
		}
	}
}

// verify is the table of keys in section 1, but for Ed25519 it is the standard
// library's rule; signatures.json says where ZIP-215 differs.
func verify(spki, message, sig []byte) bool {
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return false
	}
	h256, h384 := sha256.Sum256(message), sha512.Sum384(message)
	switch k := key.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(k, message, sig)
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P384() {
			return ecdsa.VerifyASN1(k, h384[:], sig)
		}
		return k.Curve == elliptic.P256() && ecdsa.VerifyASN1(k, h256[:], sig)
	case *rsa.PublicKey:
		return rsa.VerifyPSS(k, crypto.SHA256, h256[:], sig, &rsa.PSSOptions{SaltLength: 32}) == nil
	}
	return false
}

func TestSignatures(t *testing.T) {
	var v struct {
		Signatures []struct {
			Name               string
			SPKI, Message, Sig []byte
			Valid              bool
			Stdlib             string
		}
	}
	load(t, "custody/signatures.json", &v)
	for _, c := range v.Signatures {
		want := c.Valid
		if c.Stdlib != "" {
			want = c.Stdlib == "valid"
		}
		if verify(c.SPKI, c.Message, c.Sig) != want {
			t.Errorf("%s: valid is %t here", c.Name, !want)
		}
	}
}

func TestDSSE(t *testing.T) {
	var v struct {
		Keys []struct {
			SPKI  []byte
			KeyID data
		}
		Accepted []struct {
			Name, DSSE    string
			ID, Canonical data
			Signers       []data
		}
	}
	load(t, "custody/envelopes.json", &v)
	keys := map[string][]byte{}
	for _, k := range v.Keys {
		same(t, "key ID", sum(k.SPKI), k.KeyID)
		keys[k.KeyID.String()] = k.SPKI
	}
	for _, c := range v.Accepted {
		var d struct {
			PayloadType string
			Payload     []byte
			Signatures  []struct {
				KeyID string
				Sig   []byte
			}
		}
		if err := json.Unmarshal([]byte(c.DSSE), &d); err != nil {
			t.Fatal(err)
		}
		pae := fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(d.PayloadType), d.PayloadType, len(d.Payload), d.Payload)
		slices.SortFunc(d.Signatures, func(a, b struct {
			KeyID string
			Sig   []byte
		}) int {
			return strings.Compare(a.KeyID, b.KeyID)
		})
		b := binary.BigEndian.AppendUint32(nil, uint32(len(d.Payload)))
		b = append(append(b, d.Payload...), byte(len(d.Signatures)))
		introduced, _ := parse(t, string(d.Payload))
		for i, s := range d.Signatures {
			same(t, c.Name+": signer", []byte(s.KeyID), []byte(c.Signers[i].String()))
			spki := keys[s.KeyID]
			for _, k := range append(introduced.Predicate.Keys, introduced.Predicate.New) {
				if sum(k.SPKI).String() == s.KeyID {
					spki = k.SPKI
				}
			}
			if !verify(spki, pae, s.Sig) {
				t.Errorf("%s: the signature of %s does not verify", c.Name, s.KeyID)
			}
			id, _ := hex.DecodeString(s.KeyID)
			b = binary.BigEndian.AppendUint16(append(b, id...), uint16(len(s.Sig)))
			b = append(b, s.Sig...)
		}
		same(t, c.Name+": canonical envelope", b, c.Canonical)
		same(t, c.Name+": ID", sum(d.Payload), c.ID)
	}
}

func TestSealedPedigreeDevice(t *testing.T) {
	var v struct {
		Sealed []struct {
			Group, Value string
			Salt, Digest data
		}
		Pedigree []struct {
			Key, Digest data
			Text        string
		}
		Device []struct {
			Ledger, Prev, Message         data
			PredicateType, Subject, Actor string
			Counter                       uint64
			SPKI, Sig                     []byte
			Valid                         bool
		}
	}
	load(t, "custody/sealed-pedigree-device.json", &v)
	long := func(b []byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...) }
	for _, c := range v.Sealed {
		same(t, c.Group, sum(long([]byte("fabtrail/sealed/v1\n")), long([]byte(c.Group)), long(c.Salt), long([]byte(c.Value))), c.Digest)
	}
	for _, c := range v.Pedigree {
		same(t, "pedigree digest", sum([]byte("fabtrail/pedigree/v1\n"), c.Key), c.Digest)
		if text := base64.RawURLEncoding.EncodeToString(c.Key); text != c.Text {
			t.Errorf("pedigree key %s, the vector says %s", text, c.Text)
		}
	}
	for i, c := range v.Device {
		prev := []byte(c.Prev)
		if len(prev) == 0 {
			prev = make([]byte, 32)
		}
		m := bytes.Join([][]byte{[]byte("fabtrail/device/v1\n"), c.Ledger, sum([]byte(c.PredicateType)), sum([]byte(c.Subject)), sum([]byte(c.Actor)), prev, u64(c.Counter)}, nil)
		same(t, fmt.Sprintf("device %d", i), m, c.Message)
		if verify(c.SPKI, m, c.Sig) != c.Valid {
			t.Errorf("device %d: valid is %t here", i, !c.Valid)
		}
	}
}

// listed works out the topics of section 4. before are the statements of the cases
// before, with their topics, by ID.
func listed(s statement, kind, id string, members []member, before map[string][]string) []string {
	uri, p := s.Subject[0].URI, s.Predicate
	tail := uri[strings.LastIndex(uri, "/")+1:]
	var out []string
	add := func(kind, value string) { out = append(out, topic(kind, value).String()) }
	ref := func(uri, load string) {
		if load == "" || load == strings.Repeat("0", 64) {
			add("unit", uri)
			return
		}
		add("load", uri+" "+load)
	}
	device := func(spki []byte) {
		if len(spki) > 0 {
			add("device-key", sum(spki).String())
		}
	}
	switch kind {
	case "charter", "authority", "log-key", "witness-policy", "rule-set":
		add("log", "")
	case "party":
		add("party", uri)
		for _, k := range p.Keys {
			add("key", sum(k.SPKI).String())
		}
	case "key":
		add("party", uri)
		add("key", p.Key.SHA256)
		if len(p.New.SPKI) > 0 {
			add("key", sum(p.New.SPKI).String())
		}
	case "product":
		add("product", tail)
	case "serial-block":
		add("lot", uri)
	case "route-policy":
		add("lane", tail)
	case "recall":
		switch x := p.Selector; {
		case x.Unit != "":
			add("unit", x.Unit)
		case x.Product != "":
			add("product", x.Product)
		case x.Lot != "":
			add("lot", x.Lot)
		default:
			add("recall-artefact", x.Artefact.SHA256)
		}
	case "void":
		out = before[p.Voids.SHA256]
	case "dispute":
		out = before[p.Disputes.SHA256]
	case "lift":
		out = before[p.Lifts.SHA256]
	case "finding":
		for _, u := range p.Units {
			ref(u.URI, u.Load)
		}
	case "pack", "unpack":
		if kind == "pack" && p.Load == "" {
			add("unit", uri)
			add("load", uri+" "+id)
		} else {
			add("contents", uri+" "+p.Load)
		}
	case "commission":
		if p.Contents == nil {
			add("unit", uri)
		}
		device(p.Identity.SPKI)
	case "identity":
		add("unit", uri)
		device(p.SPKI)
	default:
		ref(uri, p.Load)
		for _, c := range p.Components {
			if c.URI != "" {
				add("unit", c.URI)
			}
		}
	}
	if p.Contents != nil {
		for _, m := range members {
			ref(m.uri, m.load.String())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func TestTopicsOfStatements(t *testing.T) {
	var v struct {
		Cases []struct {
			Name, Payload string
			ID, Manifest  data
			Topics, Not   []struct {
				Kind, Value string
				Hash        data
			}
		}
	}
	load(t, "custody/topics.json", &v)
	before := map[string][]string{}
	for _, c := range v.Cases {
		s, kind := parse(t, c.Payload)
		id := sum([]byte(c.Payload))
		same(t, c.Name+": ID", id, c.ID)
		var members []member
		if len(c.Manifest) > 0 {
			members, _ = manifest(c.Manifest)
			if x := s.Predicate.Contents; x != nil {
				same(t, c.Name+": manifest", sum(c.Manifest), x.Manifest)
			}
		}
		got := listed(s, kind, id.String(), members, before)
		before[id.String()] = got
		var want []string
		for _, x := range c.Topics {
			same(t, c.Name+": topic", topic(x.Kind, x.Value), x.Hash)
			want = append(want, x.Hash.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: topics %v, the vector says %v", c.Name, got, want)
		}
		for _, x := range c.Not {
			same(t, c.Name+": topic", topic(x.Kind, x.Value), x.Hash)
			if slices.Contains(got, x.Hash.String()) {
				t.Errorf("%s is listed under %s %s", c.Name, x.Kind, x.Value)
			}
		}
	}
}
