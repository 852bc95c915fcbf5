package custody

import (
	"bytes"
	"strings"
	"testing"

	"fabtrail.dev/fabtrail/ledger/entry"
)

func TestSealedGroups(t *testing.T) {
	value := []byte(`{"consignee": "Kai 3",  "gate":7}`) // exact bytes, odd spacing included
	ref, o, err := SealGroup("route", someHash, value)
	if err != nil {
		t.Fatal(err)
	}
	s := find(t, "sighting")
	s.event.Sealed = map[string]SealedRef{"route": ref}
	st, err := Parse(s.payload(t))
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseOpening(o.Marshal())
	if err != nil || !bytes.Equal(back.Value, value) || back.Group != "route" || back.Salt != someHash {
		t.Fatalf("read back: %v", err)
	}
	if err := st.CheckOpening(back); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]Opening{
		"another salt":  {"route", otherHash, value},
		"another value": {"route", someHash, []byte(`{"consignee":"Kai 3","gate":7}`)},
		"another group": {"person", someHash, value},
		"no such group": {"secret", someHash, value},
		"not JSON":      {"route", someHash, []byte(`{`)},
		"too large":     {"route", someHash, []byte(`"` + strings.Repeat("a", MaxSealedValue) + `"`)},
	} {
		if st.CheckOpening(bad) == nil {
			t.Errorf("%s opens it", name)
		}
		if name == "no such group" || name == "not JSON" || name == "too large" {
			if _, _, err := SealGroup(bad.Group, bad.Salt, bad.Value); err == nil {
				t.Errorf("%s was sealed", name)
			}
		}
	}
	party, err := Parse(find(t, "party").payload(t))
	if err != nil {
		t.Fatal(err)
	}
	if party.CheckOpening(o) == nil {
		t.Error("a party statement has sealed groups")
	}
	good := string(o.Marshal())
	for name, b := range map[string]string{
		"empty": "", "unknown field": strings.Replace(good, `{`, `{"x":1,`, 1), "duplicate": strings.Replace(good, `{`, `{"salt":"",`, 1),
		"short salt":       `{"group":"route","salt":"AAAA","value":"e30="}`,
		"loose base64":     strings.Replace(good, `"value":"`, `"value":"\n`, 1),
		"loose salt":       strings.Replace(good, `"salt":"`, `"salt":" `, 1),
		"trailing data":    good + " 1",
		"unknown group":    strings.Replace(good, "route", "rute", 1),
		"value is no JSON": `{"group":"route","salt":"` + good[strings.Index(good, `"salt":"`)+8:][:44] + `","value":"fQ=="}`,
	} {
		if _, err := ParseOpening([]byte(b)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestSealedFraming: no two openings share a commitment by moving bytes between
// their parts.
func TestSealedFraming(t *testing.T) {
	a := Opening{Group: "route", Value: []byte("12")}
	a.Salt[31] = '1'
	b := Opening{Group: "route", Value: []byte("112")}
	if a.Digest() == b.Digest() {
		t.Error("salt and value run together")
	}
	if (Opening{Group: "rout", Value: []byte("e1")}).Digest() == (Opening{Group: "route", Value: []byte("1")}).Digest() {
		t.Error("group and value run together")
	}
}

func TestPedigreeDigest(t *testing.T) {
	a, err := PedigreeDigest(bytes.Repeat([]byte{1}, 16))
	if err != nil {
		t.Fatal(err)
	}
	b, err := PedigreeDigest(bytes.Repeat([]byte{2}, 16))
	if err != nil || a == b || a.IsZero() {
		t.Error("two keys, one digest")
	}
	for _, n := range []int{0, 15, 17, 32} {
		if _, err := PedigreeDigest(make([]byte, n)); err == nil {
			t.Errorf("a key of %d bytes has a digest", n)
		}
	}
}

// TestDevice: every part of what a device signs counts.
func TestDevice(t *testing.T) {
	key := edKey(90)
	pub := mustKey(t, key.Public())
	s := find(t, "install")
	if err := s.event.SignDevice(key, KindInstall, s.subject, ledgerHash, 41); err != nil {
		t.Fatal(err)
	}
	st, err := Parse(s.payload(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := st.VerifyDevice(pub); err != nil {
		t.Fatal(err)
	}
	if problemOf(t, st.VerifyDevice(mustKey(t, edKey(91).Public()))).Type != "bad_signature" {
		t.Error("another key")
	}
	change := func(name string, fn func(s *Statement, e *Event)) {
		e := *st.Event
		d := *e.Device
		e.Device = &d
		c := &Statement{Kind: st.Kind, Subject: st.Subject, Ledger: st.Ledger, Event: &e}
		fn(c, &e)
		if err := c.VerifyDevice(pub); err == nil || problemOf(t, err).Type != "bad_signature" {
			t.Errorf("%s does not count: %v", name, err)
		}
	}
	change("the ledger", func(s *Statement, _ *Event) { s.Ledger = otherHash })
	change("the predicate", func(s *Statement, _ *Event) { s.Kind = KindUninstall })
	change("the subject", func(s *Statement, _ *Event) { s.Subject = unit2URI })
	change("the actor", func(_ *Statement, e *Event) { e.Actor = carrierURI })
	change("prev", func(_ *Statement, e *Event) { e.Chain = Next(9, otherHash) })
	change("prev null", func(_ *Statement, e *Event) { e.Chain = First() })
	change("the counter", func(_ *Statement, e *Event) { e.Device.Counter++ })
	change("a missing signature", func(_ *Statement, e *Event) { e.Device = nil })
	for alg, k := range allSigners(t) {
		ev := eventAt(1)
		if err := ev.SignDevice(k, KindSighting, unitURI, ledgerHash, 1); err != nil {
			t.Fatal(err)
		}
		c := &Statement{Kind: KindSighting, Subject: unitURI, Ledger: ledgerHash, Event: ev}
		if err := c.VerifyDevice(mustKey(t, k.Public())); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
	}
	if (&Event{}).SignDevice(key, KindInstall, unitURI, ledgerHash, 1) == nil {
		t.Error("a device signed without a chain")
	}
}

// TestDeviceKey: Open says which key a statement binds.
func TestDeviceKey(t *testing.T) {
	for name, want := range map[string]entry.Hash{
		"commission unit": mustKey(t, edKey(90).Public()).Hash,
		"identity":        mustKey(t, edKey(91).Public()).Hash,
		"commission lot":  {},
		"install":         {},
	} {
		s, err := openBody(signed(t, find(t, name)), enrolled(t))
		if err != nil {
			t.Fatal(err)
		}
		k, ok := s.Statement.DeviceKey()
		if ok != !want.IsZero() || k.Hash != want {
			t.Errorf("%s binds %s", name, k.Hash)
		}
	}
}
