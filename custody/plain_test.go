package custody

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// plainSeeds are texts at the border between plain and not, good and bad.
var plainSeeds = []string{
	`{"_type":"x","subject":[{"uri":"a","digest":{"sha256":"b"}}],"predicate":{"chain":{"seq":0,"prev":null}}}`,
	`{"subject":[{"uri":"a","digest":{"sha256":"b"}}],"predicateType":"t","predicate": {"a" : [1 , 2]} ,"_type":"x"}`, `{"subject":[]}`, `{"subject":[{}]}`,
	`{"subject":[{"uri":"a"},{"uri":"b"}]}`, `{"subject":{}}`, `{"subject":[{"uri":1}]}`, `{"_type":1}`, `{"predicate":null}`, `{"predicate":1}`, `{"subject":[{"digest":{"sha256":"a@b.cd"}}]}`,
	`{"subject":[{"digest":{"sha256":"a","sha256":"b"}}]}`, `{"subject":[{"uri":"a","name":{"x":[]}}]}`, `{"subject":[{"digest":{"email":"x"}}]}`, `{"_type":"a","_type":"b"}`,
	`{"seq":0,"prev":null}`, `{"prev":{"sha256":"a"},"seq":-1}`, `{"seq":1,"prev":{}}`, `{"seq":1}`, `{"prev":null}`, `{"seq":null,"prev":null}`, `{"seq":1,"prev":{"sha256":null}}`,
	`{"seq":1,"prev":{"sha512":"a"}}`, `{"seq":1,"prev":"a"}`, `{"seq":1.0,"prev":null}`, `{"seq":1,"prev":null,"x":1}`, `{"seq":1,"seq":1,"prev":null}`,
	`{"ext":{"bench":"xxx","deep":[{"a":[1,2,{"b":null}]}],"prev":null}}`,
	`{"ext":{"prev":null,"email":"x"}}`, `{"ext":{"Actor":"x"}}`, `{"ext":{"a.email":1}}`, `{"prev":null}`, `{"actor":null}`,
	`{"sealed":{"person":{"alg":"a","digest":"b"}}}`, `{"ext":{"sealed":{"name":1}}}`, `{"sealed":1}`, `{"actor":"a@b.cd"}`,
	`{"actor":"mailto:x"}`, `{"actor":"tel:+49"}`, `{"actor":"a@b"}`, `{"seq":-0}`, `{"seq":01}`, `{"seq":1.0}`, `{"seq":1e3}`,
	`{"seq":999999999999999}`, `{"seq":9007199254740991}`, `{"seq":9007199254740992}`, `{"seq":-1}`, `{"seq":-}`, `{"seq":1x}`,
	`{"a":1,"a":2}`, `{"actor":1,"actor":2}`, `{"ext":{"a":1,"a":2}}`, `{"actor":"\u0061"}`, "{\"actor\":\"\u00e4\"}", "{\"actor\":\"\xff\"}",
	"{\"actor\":\"\x01\"}", "{\"actor\":\"\x7f\"}", `{"actor":"x"} `, `{"actor":"x"}x`, `{"actor":"x"}{}`, ``, ` `, `1`, `-1 `, `"a"`, `true`, `truex`, `nul`, `null`, `[]`, `[1,]`, `{,}`,
	`{"actor":1,}`, `{"actor"}`, `{"actor":}`, `{"actor":tru}`, "\x00", "{\"actor\":1}\x00", "\ufeff{}", `{"ext":[[[[{"phone":1}]]]]}`, `{"ext":{"phone":1}}`,
	strings.Repeat(`[`, MaxDepth) + strings.Repeat(`]`, MaxDepth), strings.Repeat(`[`, MaxDepth+1) + strings.Repeat(`]`, MaxDepth+1),
	`{"ext":{"a":"` + strings.Repeat("x", MaxString) + `"}}`, `{"ext":{"a":"` + strings.Repeat("x", MaxString+1) + `"}}`,
	`[` + strings.Repeat(`1,`, MaxTokens) + `1]`, `[` + strings.Repeat(`1,`, MaxTokens-4) + `1]`,
	`{"payloadType":"a","payload":"b","signatures":[{"keyid":"c","sig":"d"}]}`, `{"signatures":[{"sig":"d","keyid":"c"},{}],"payload":"b"}`,
	`{"payloadType":"a","payload":"b","signatures":[{"keyid":"c","sig":"d"},]}`, `{"payload":"a","payload":"b"}`, `{"payload":null}`, `{"signatures":[]}`, `{"x":1}`,
	`{"signatures":[{"keyid":"c","keyid":"d"}]}`, ` { "payload" : "b" } `, `{"payloadtype":"a"}`, `{"payload":"\/"}`,
}

// plainEvents are predicates; they need not mean anything.
var plainEvents = []string{
	`{"ledger":"00","eventId":"e","occurredAt":"t","actor":"a","role":"r","chain":{"seq":1,"prev":{"sha256":"x"}},"where":{"site":"s","geo":"geo:1,2"},"from":"a","to":"b","acceptBy":"c"}`,
	`{"ledger":"00","eventId":"e","chain":{"seq":-1,"prev":null},"where":{},"condition":"good","unknown":{"a":[1,true]},"lot":"1","ext": {"bench" : [1, {"x":"y"}]} }`,
}

func init() {
	plainSeeds = append(plainSeeds, plainEvents...)
	plainSeeds = append(plainSeeds, `{"eventId":"e","kind":"chip","model":"m","identity":{"spki":"x"}}`, `{"accepts":{"sha256":"00"},"condition":"good"}`,
		`{"accepts":{"sha256":"00","sha512":"00"}}`, `{"accepts":{}}`, `{"chain":{"seq":1}}`, `{"chain":null}`, `{"where":[]}`, `{"actor":{}}`, `{"method":"scan"}`,
		`{"ext":null}`, `{"ext": 5 ,"actor":"a"}`, `{"ext":"\u0061"}`, `{"acceptance":"x","kind":"y","eventID":"other spelling"}`)
}

// checkPlain holds the plain reader to the strict one.
func checkPlain(t *testing.T, b []byte) (payload, frame bool) {
	t.Helper()
	for _, mode := range []scanMode{scanFrame, scanValue, scanPayload} {
		if !plainJSON(b, mode) {
			continue
		}
		payload = payload || mode == scanPayload
		if _, err := scanJSON(b, mode); err != nil {
			t.Fatalf("mode %d: plain says yes to %q, the strict reader %v", mode, b, err)
		}
	}
	if w, text, ok := plainStatement(b); ok {
		if text != string(w.Predicate) {
			t.Fatalf("%s: the text of the predicate is %q", b, text)
		}
		if !plainJSON(b, scanPayload) {
			t.Fatalf("the frame of %q is plain, the whole is not", b)
		}
		var want statementWire
		if err := decodeFields(b, &want, ""); err != nil || !reflect.DeepEqual(w, want) {
			t.Fatalf("plain reads %q as %+v, the strict reader as %+v (%v)", b, w, want, err)
		}
	}
	if c, ok := plainChain(b); ok {
		var want struct {
			Seq  *int64  `json:"seq"`
			Prev *Digest `json:"prev"`
		}
		if err := decodeFields(b, &want, ""); err != nil || want.Seq == nil || *want.Seq != c.Seq || !reflect.DeepEqual(want.Prev, c.Prev) || !bytes.Contains(b, []byte(`"prev"`)) {
			t.Fatalf("plain reads %q as %+v, the strict reader as %+v (%v)", b, c, want, err)
		}
	}
	if _, err := scanJSON(b, scanPayload); err == nil {
		checkPlainEvent[Commission](t, b)
		checkPlainEvent[Release](t, b)
		checkPlainEvent[Accept](t, b)
		checkPlainEvent[Install](t, b)
		checkPlainEvent[Sighting](t, b)
	}
	if w, ok := plainDSSE(b); ok {
		frame = true
		var want dsseWire
		if err := decodeStrict(b, &want); err != nil || !reflect.DeepEqual(w, want) {
			t.Fatalf("plain reads %q as %+v, the strict reader as %+v (%v)", b, w, want, err)
		}
	}
	return payload, frame
}

func checkPlainEvent[B any](t *testing.T, b []byte) {
	t.Helper()
	var w, want eventWire[B]
	if !plainEvent(b, "", &w.Ledger, &w.Event, any(&w.Body).(plainFields)) {
		return
	}
	if err := decodeFields(b, &want, ""); err != nil || !reflect.DeepEqual(w, want) {
		t.Fatalf("plain reads %q as %+v, the strict reader as %+v (%v)", b, w, want, err)
	}
}

// The plain reader knows every field of what it reads, or it would take a known one
// for an unknown one.
func TestPlainFields(t *testing.T) {
	for _, of := range []plainFields{new(Event), new(Where), new(Commission), new(Release), new(Accept), new(Install), new(Sighting)} {
		v := reflect.ValueOf(of).Elem()
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			switch at := of.plainField([]byte(name)); {
			case at == nil:
				t.Errorf("%T has no field %q", of, name)
			case at != any(others{}) && at != v.Field(i).Addr().Interface():
				t.Errorf("%T puts %q elsewhere", of, name)
			}
		}
	}
}

// What is posted most is plain.
func TestPlainEventsOfVectors(t *testing.T) {
	for _, s := range plainEvents {
		var e Event
		var ledger string
		if !plainEvent([]byte(s), s, &ledger, &e, new(Release)) || ledger == "" || e.Chain == nil || e.Where == nil || e.EventID == "" {
			t.Errorf("%s: read as %+v of %q", s, e, ledger)
		}
	}
}

func TestPlain(t *testing.T) {
	payloads, frames := 0, 0
	for _, s := range plainSeeds {
		p, f := checkPlain(t, []byte(s))
		if p {
			payloads++
		}
		if f {
			frames++
		}
	}
	if payloads < 5 || frames < 2 {
		t.Errorf("only %d texts are plain as payloads, %d as envelopes", payloads, frames)
	}
	const spice = "\"{}[],:0-e.\\ nx@\x7f\x80"
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20_000 { // bent in a byte or two
		b := []byte(plainSeeds[rng.IntN(len(plainSeeds))])
		if len(b) == 0 || len(b) > 1000 {
			continue
		}
		for range 1 + rng.IntN(2) {
			switch i := rng.IntN(len(b)); rng.IntN(3) {
			case 0:
				b[i] = spice[rng.IntN(len(spice))]
			case 1:
				b = append(b[:i:i], b[min(i+1, len(b)-1):]...)
			default:
				j := rng.IntN(len(b))
				b = append(b[:i:i], bytes.Clone(b[min(i, j):])...)
			}
			if len(b) == 0 {
				break
			}
		}
		checkPlain(t, b)
	}
}

func FuzzPlain(f *testing.F) {
	for _, s := range plainSeeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) { checkPlain(t, b) })
}

// decodeBase64 takes exactly what encoding gives back.
func TestBase64IsCanonical(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, s := range []string{"", "AA==", "AB==", "AAA=", "AAB=", "AAAA", "AA", "AA=", "A===", "AA==\n", "\nAA==", "AA\r\n==", "AA==AA==", "-_==", "AA ==", "A"} {
		checkBase64(t, s)
	}
	for range 2000 {
		b := make([]byte, rng.IntN(20))
		for i := range b {
			b[i] = "AB/+=9\n"[rng.IntN(7)]
		}
		checkBase64(t, string(b))
	}
}

func checkBase64(t *testing.T, s string) {
	t.Helper()
	want, err := base64.StdEncoding.DecodeString(s)
	canonical := err == nil && base64.StdEncoding.EncodeToString(want) == s
	got, err := decodeBase64(s)
	if (err == nil) != canonical || canonical && !bytes.Equal(got, want) {
		t.Errorf("%q: read as %x, %v; canonical: %t", s, got, err, canonical)
	}
}

// Eight bytes at once are judged like each by itself.
func TestEightPlain(t *testing.T) {
	for c := range 256 {
		for other := range 256 {
			for at := range 8 {
				b := []byte("abcdefgh")
				b[at], b[(at+3)%8] = byte(c), byte(other)
				if got, want := eightPlain(binary.LittleEndian.Uint64(b)), plainByte[c] && plainByte[other]; got != want {
					t.Fatalf("%q: %t, want %t", b, got, want)
				}
			}
		}
	}
}
