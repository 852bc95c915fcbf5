package layout_test

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/in-toto/in-toto-golang/in_toto"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer"
	"fabtrail.dev/fabtrail/custody/answer/answertest"
	"fabtrail.dev/fabtrail/custody/layout"
	"fabtrail.dev/fabtrail/custody/rules"
	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// tale has units whose routes are good (GOOD in a carton on a pallet, with PART in
// it; PLAIN; VOIDED; REFUSED; BACK) and units that are not to be exported.
func tale(t *testing.T) *answertest.World {
	w := answertest.NewWorld(answertest.NewLog(t))
	maker, carrier, dist, inst := w.Parties["maker"], w.Parties["carrier"], w.Parties["dist"], w.Parties["installer"]
	w.Block("L1", 100)
	w.Block("L2", 100)
	good, plain, voided := w.Commission("GOOD", "L1"), w.Commission("PLAIN", "L1"), w.Commission("VOIDED", "L1")
	refused, back, open := w.Commission("REFUSED", "L1"), w.Commission("BACK", "L1"), w.Commission("OPEN", "L1")
	held, diverted := w.Commission("HELD", "L1"), w.Commission("DIVERTED", "L1")
	w.Commission("RECALLED", "L2")
	many := w.CommissionMany("L1", "PART", "WITHIN", "FILL")
	w.Assemble(maker, good, many[0])
	for _, ref := range []custody.UnitRef{good, plain, back} {
		w.Register(ref)
	}
	carton := w.Pack(maker, 1, 1, good, many[1])
	pallet := w.Pack(maker, 2, 2, carton)
	w.HandOver(maker, carrier, pallet)
	w.HandOver(carrier, dist, pallet)
	w.Unpack(dist, pallet, carton)
	w.HandOver(dist, inst, carton)
	w.Unpack(inst, carton, good)
	w.Install(inst, good)
	w.HandOver(maker, carrier, plain)
	w.HandOver(carrier, inst, plain)
	w.Install(inst, plain)
	w.Void(maker, voided, w.Release(maker, carrier, voided))
	w.HandOver(maker, dist, voided)
	rel := w.Release(maker, carrier, refused)
	no := act(w, custody.KindRefuse, carrier, refused, &custody.Refuse{Refuses: custody.DigestOf(rel), Reason: "wet"})
	w.Lift(maker, refused, no)
	w.HandOver(maker, inst, back)
	w.Install(inst, back)
	un := act(w, custody.KindUninstall, inst, back, &custody.Uninstall{To: inst.URI, Reason: "moved"})
	act(w, custody.KindAccept, inst, back, &custody.Accept{Accepts: custody.DigestOf(un)})
	w.Release(maker, carrier, open)
	w.Hold(maker, held, "quarantine")
	w.Claim(w.Parties["stranger"], diverted) // it was never released to him
	w.Clone("DIVERTED", "L1")
	w.Recall(w.Lot("L2"), custody.Selector{Lot: w.Lot("L2")})
	w.Publish()
	return w
}

func act(w *answertest.World, kind custody.Kind, p *answertest.Party, ref custody.UnitRef, body any) entry.Hash {
	return w.Do(kind, ref.URI, w.Event(p, w.Chain(ref)), body, nil, p)
}

// input verifies a unit's history as a client does.
func input(t *testing.T, w *answertest.World, serial string) layout.Input {
	t.Helper()
	uri := w.Unit(serial)
	a, _, err := answer.Assemble(w.View(), uri, answer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	src, err := answer.Open(a, w.Checkpoint(), nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := custody.Walk(src, uri, nil)
	if err != nil {
		t.Fatal(err)
	}
	findings := rules.Conclude(h, src.Commitment.Time)
	return layout.Input{
		History: h, Findings: findings, Verdict: custody.Judge(h, custody.Inputs{Complete: true, Findings: findings}),
		AsOf:    layout.AsOf{Origin: answertest.Origin, Size: w.Published, Complete: true},
		Expires: time.Now().Add(time.Hour), Signers: []crypto.Signer{answertest.Key("exporter")},
	}
}

// export is an export with the keys that are forgotten otherwise.
type export struct {
	*layout.Export
	keys map[string]crypto.Signer // by in-toto key ID
}

func build(t *testing.T, in layout.Input) export {
	t.Helper()
	e := export{keys: map[string]crypto.Signer{}}
	in.NewKey = func() (crypto.Signer, error) {
		k, err := custody.GenerateKey(custody.Ed25519)
		if err == nil {
			e.keys[keyOf(t, k).KeyID] = k
		}
		return k, err
	}
	var err error
	if e.Export, err = layout.Build(in); err != nil {
		t.Fatal(err)
	}
	return e
}

func keyOf(t *testing.T, k crypto.Signer) in_toto.Key {
	t.Helper()
	key, err := layout.PublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// verify runs in-toto's own verifier over files in a folder.
func verify(t *testing.T, e export, signers ...crypto.Signer) error {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, layout.LayoutFile)
	write(t, path, e.Layout)
	for name, b := range e.Links {
		write(t, filepath.Join(dir, name), b)
	}
	env, err := in_toto.LoadMetadata(path)
	if err != nil {
		return err
	}
	keys := map[string]in_toto.Key{}
	for _, s := range signers {
		k := keyOf(t, s)
		keys[k.KeyID] = k
	}
	_, err = in_toto.InTotoVerify(env, keys, dir, "", nil, nil, false)
	return err
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func names(e *layout.Export) (ns []string) {
	for _, s := range e.Steps {
		_, name, _ := strings.Cut(s.Name, "-")
		ns = append(ns, name)
	}
	return ns
}

func TestGoodRoutes(t *testing.T) {
	w := tale(t)
	exporter := answertest.Key("exporter")
	for serial, want := range map[string][]string{
		"GOOD":    {"commission", "assemble", "pack", "pack", "hand-over", "hand-over", "unpack", "hand-over", "unpack", "install"},
		"PLAIN":   {"commission", "hand-over", "hand-over", "install"},
		"VOIDED":  {"commission", "hand-over"},
		"REFUSED": {"commission", "hand-over-refused"},
		"BACK":    {"commission", "hand-over", "install", "uninstall"},
		"FILL":    {"commission"},
		"PART":    {"commission", "assemble", "pack", "pack", "hand-over", "hand-over", "unpack", "hand-over", "unpack", "install"},
		"WITHIN":  {"commission", "pack", "pack", "hand-over", "hand-over", "unpack", "hand-over"},
	} {
		e := build(t, input(t, w, serial))
		if got := names(e.Export); !slices.Equal(got, want) {
			t.Errorf("%s: steps %v, want %v", serial, got, want)
		}
		if err := verify(t, e, exporter); err != nil {
			t.Errorf("%s: in-toto refuses it: %v", serial, err)
		}
		if err := verify(t, e, answertest.Key("somebody else")); err == nil {
			t.Errorf("%s: in-toto accepts it under a key that did not sign it", serial)
		}
	}
}

// Every kind of key may sign a layout, and several may.
func TestSigners(t *testing.T) {
	w := tale(t)
	var all []crypto.Signer
	for _, a := range custody.Algorithms() {
		k, err := custody.GenerateKey(a)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, k)
	}
	in := input(t, w, "PLAIN")
	in.Signers = append(all, all[0])
	e := build(t, in)
	for _, k := range all {
		if err := verify(t, e, k); err != nil {
			t.Errorf("%T: %v", k, err)
		}
	}
	if err := verify(t, e, all...); err != nil {
		t.Error(err)
	}
	in.Signers = nil
	if _, err := layout.Build(in); err == nil {
		t.Error("a layout that nobody signs is built")
	}
}

// resign changes a Link as its signer could.
func (e export) resign(t *testing.T, file string, change func(*in_toto.Link)) {
	t.Helper()
	d, err := custody.ParseDSSE(e.Links[file])
	if err != nil {
		t.Fatal(err)
	}
	var l in_toto.Link
	if err := json.Unmarshal(d.Payload, &l); err != nil {
		t.Fatal(err)
	}
	change(&l)
	if d.Payload, err = json.Marshal(l); err != nil {
		t.Fatal(err)
	}
	d.Signatures[0].Sig, err = custody.SignMessage(e.keys[d.Signatures[0].Key.String()], custody.PAE(d.Payload))
	if err != nil {
		t.Fatal(err)
	}
	e.Links[file] = d.Marshal()
}

// forge changes a Link without its key.
func (e export) forge(t *testing.T, file string, change func(payload []byte) []byte) {
	t.Helper()
	d, err := custody.ParseDSSE(e.Links[file])
	if err != nil {
		t.Fatal(err)
	}
	before := d.Payload
	if d.Payload = change(slices.Clone(before)); bytes.Equal(before, d.Payload) {
		t.Fatal("nothing was changed")
	}
	e.Links[file] = d.Marshal()
}

// files lists the Links of a step, the giver's first.
func (e export) files(t *testing.T, step string) []string {
	t.Helper()
	d, err := custody.ParseDSSE(e.Layout)
	if err != nil {
		t.Fatal(err)
	}
	var l in_toto.Layout
	if err := json.Unmarshal(d.Payload, &l); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(l.Steps, func(s in_toto.Step) bool { return s.Name == step })
	if i < 0 {
		t.Fatalf("no step %s", step)
	}
	var fs []string
	for _, k := range l.Steps[i].PubKeys {
		f := step + "." + k[:8] + ".link"
		if e.Links[f] == nil {
			t.Fatalf("no link %s", f)
		}
		fs = append(fs, f)
	}
	return fs
}

func TestTamperingIsRejected(t *testing.T) {
	w := tale(t)
	exporter := answertest.Key("exporter")
	const handover, install = "2-hand-over", "4-install"
	other := build(t, input(t, w, "BACK")) // its second step is a hand-over too
	alien := layout.ArtifactName(w.Unit("BACK"))
	unit := layout.ArtifactName(w.Unit("PLAIN"))
	both := func(t *testing.T, e export, change func(*in_toto.Link)) {
		for _, f := range e.files(t, handover) {
			e.resign(t, f, change)
		}
	}
	swap := func(l *in_toto.Link) {
		for _, m := range []map[string]in_toto.HashObj{l.Materials, l.Products} {
			m[alien] = m[unit]
			delete(m, unit)
		}
	}
	extra := in_toto.HashObj{"sha256": entry.Hash{1}.String()}
	for name, tamper := range map[string]func(t *testing.T, e export){
		"missing acceptance":       func(t *testing.T, e export) { delete(e.Links, e.files(t, handover)[1]) },
		"missing release":          func(t *testing.T, e export) { delete(e.Links, e.files(t, handover)[0]) },
		"missing step":             func(t *testing.T, e export) { delete(e.Links, e.files(t, install)[0]) },
		"acceptance by the sender": func(t *testing.T, e export) { fs := e.files(t, handover); e.Links[fs[1]] = e.Links[fs[0]] },
		"other unit's acceptance": func(t *testing.T, e export) {
			e.Links[e.files(t, handover)[1]] = other.Links[other.files(t, handover)[1]]
		},
		"other unit's links":        func(t *testing.T, e export) { swapFiles(t, e, other, handover) },
		"receiver saw another item": func(t *testing.T, e export) { e.resign(t, e.files(t, handover)[1], swap) },
		"both swapped the item":     func(t *testing.T, e export) { both(t, e, swap) },
		"both swapped its state": func(t *testing.T, e export) {
			both(t, e, func(l *in_toto.Link) { l.Products[unit] = extra })
		},
		"extra item injected by both": func(t *testing.T, e export) {
			both(t, e, func(l *in_toto.Link) { l.Products[alien] = extra })
		},
		"extra item passed through by both": func(t *testing.T, e export) {
			both(t, e, func(l *in_toto.Link) { l.Materials[alien], l.Products[alien] = extra, extra })
		},
		"extra item injected by nobody": func(t *testing.T, e export) {
			e.forge(t, e.files(t, handover)[0], func(b []byte) []byte {
				return bytes.Replace(b, []byte(`"products":{`), []byte(`"products":{"`+alien+`":{"sha256":"00"},`), 1)
			})
		},
		"item lost by both": func(t *testing.T, e export) {
			both(t, e, func(l *in_toto.Link) { delete(l.Products, unit) })
		},
		"nothing handed over": func(t *testing.T, e export) {
			both(t, e, func(l *in_toto.Link) { delete(l.Products, unit); delete(l.Materials, unit) })
		},
		"altered link": func(t *testing.T, e export) {
			e.forge(t, e.files(t, install)[0], func(b []byte) []byte { return bytes.Replace(b, []byte("Z"), []byte("z"), 1) })
		},
		"altered by-products": func(t *testing.T, e export) {
			e.forge(t, e.files(t, handover)[1], func(b []byte) []byte { return bytes.Replace(b, []byte("payloadType"), []byte("payloadtype"), 1) })
		},
		"altered layout": func(t *testing.T, e export) {
			d, err := custody.ParseDSSE(e.Layout)
			if err != nil {
				t.Fatal(err)
			}
			d.Payload = bytes.Replace(d.Payload, []byte(`"threshold":2`), []byte(`"threshold":1`), 1)
			copy(e.Layout, d.Marshal())
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := build(t, input(t, w, "PLAIN"))
			if err := verify(t, e, exporter); err != nil {
				t.Fatalf("refused before it was tampered with: %v", err)
			}
			tamper(t, e)
			err := verify(t, e, exporter)
			if err == nil {
				t.Fatal("in-toto accepts it")
			}
			t.Log(err)
		})
	}
	t.Run("expired", func(t *testing.T) {
		in := input(t, w, "PLAIN")
		in.Expires = time.Now().Add(-time.Second)
		if err := verify(t, build(t, in), exporter); err == nil || !strings.Contains(err.Error(), "expired") {
			t.Fatalf("in-toto says %v", err)
		}
	})
}

// swapFiles puts another export's links of a step in the place of e's, under the
// names that in-toto looks for.
func swapFiles(t *testing.T, e, other export, step string) {
	theirs := other.files(t, step)
	for i, f := range e.files(t, step) {
		e.Links[f] = other.Links[theirs[i]]
	}
}

// A re-signed but unchanged link is accepted: what the tests above see rejected is
// the change.
func TestResigningAloneChangesNothing(t *testing.T) {
	e := build(t, input(t, tale(t), "PLAIN"))
	for _, f := range e.files(t, "2-hand-over") {
		e.resign(t, f, func(*in_toto.Link) {})
	}
	if err := verify(t, e, answertest.Key("exporter")); err != nil {
		t.Fatal(err)
	}
}

func TestNotExported(t *testing.T) {
	w := tale(t)
	for serial, want := range map[string]string{
		"OPEN": "not closed", "HELD": "do-not-install", "RECALLED": "do-not-install", "DIVERTED": "do-not-install", "NEVER": "not-in-ledger",
	} {
		e, err := layout.Build(input(t, w, serial))
		p := problem.As(err)
		if p == nil || p.Type != "not_exportable" || !strings.Contains(p.Detail, want) || e != nil {
			t.Errorf("%s: %v, want a refusal that says %q", serial, err, want)
		}
	}
	// A finding that is its signer's word never turns a verdict, but it stops an
	// export when it accuses a party of the history; not when it accuses a stranger.
	in := input(t, w, "PLAIN")
	in.Findings = append(in.Findings, custody.Conclusion{Rule: "lane", Accused: w.Parties["carrier"].URI, Weight: custody.WeightNote, Words: "off its lane"})
	if _, err := layout.Build(in); problem.As(err) == nil || !strings.Contains(err.Error(), "off its lane") {
		t.Errorf("a finding against the carrier: %v", err)
	}
	in.Findings[len(in.Findings)-1].Accused = w.Parties["stranger"].URI
	if _, err := layout.Build(in); err != nil {
		t.Errorf("a finding against a stranger: %v", err)
	}
}

// Links carry what the parties signed, by themselves sufficient to check it.
func TestLinksCarryEvidence(t *testing.T) {
	w := tale(t)
	in := input(t, w, "GOOD")
	in.Receipt = func(it custody.Item) ([]byte, error) {
		if it.Signed.Statement.Kind == custody.KindPack {
			return nil, nil
		}
		return []byte("receipt of " + it.ID().String()), nil
	}
	e := build(t, in)
	links := 0
	for _, s := range e.Steps {
		for i, f := range e.files(t, s.Name) {
			links++
			d, err := custody.ParseDSSE(e.Links[f])
			if err != nil {
				t.Fatal(err)
			}
			var l in_toto.Link
			if err := json.Unmarshal(d.Payload, &l); err != nil {
				t.Fatal(err)
			}
			env, err := custody.ParseDSSE([]byte(l.ByProducts["statement"].(string)))
			if err != nil {
				t.Fatalf("%s: %v", f, err)
			}
			signed, err := custody.Open(env, custody.StateKeys{State: w.State})
			if err != nil {
				t.Fatalf("%s: %v", f, err)
			}
			st, id := signed.Statement, signed.Statement.ID.String()
			if id != s.Statements[i] || l.Environment["statementId"] != id {
				t.Errorf("%s: speaks of %v, holds %s, its step of %s", f, l.Environment["statementId"], id, s.Statements[i])
			}
			if r, ok := l.ByProducts["receipt"]; ok != (st.Kind != custody.KindPack) || ok && r != "receipt of "+id {
				t.Errorf("%s: receipt %v", f, r)
			}
			if st.Event.Actor != s.Parties[i] || l.Environment["party"] != st.Event.Actor {
				t.Errorf("%s: files for %v, signed by %s", f, l.Environment["party"], st.Event.Actor)
			}
			var keys []any
			for _, k := range signed.Keys {
				keys = append(keys, k.ID())
			}
			if !reflect.DeepEqual(l.Environment["keyIds"], keys) {
				t.Errorf("%s: key ids %v, want %v", f, l.Environment["keyIds"], keys)
			}
			state := l.Products[layout.ArtifactName(w.Unit("GOOD"))]["sha256"]
			if b, ok := st.Body.(*custody.Accept); ok {
				id = b.Accepts.SHA256
			}
			if state != id {
				t.Errorf("%s: state %s, want %s", f, state, id)
			}
		}
	}
	if links != len(e.Links) || links != 13 || e.Receipts != 11 {
		t.Errorf("%d links, %d of steps, %d receipts; want 13, 11 with receipts", len(e.Links), links, e.Receipts)
	}
	in.Receipt = func(custody.Item) ([]byte, error) { return nil, os.ErrClosed }
	if _, err := layout.Build(in); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a receipt that is wrong: %v", err)
	}
}

// Every list of rules ends in DISALLOW *, and nothing is run.
func TestRulesEndInDisallow(t *testing.T) {
	e := build(t, input(t, tale(t), "GOOD"))
	d, err := custody.ParseDSSE(e.Layout)
	if err != nil {
		t.Fatal(err)
	}
	var l in_toto.Layout
	if err := json.Unmarshal(d.Payload, &l); err != nil {
		t.Fatal(err)
	}
	if len(l.Inspect) != 0 || len(l.Steps) != 10 {
		t.Errorf("%d inspections, %d steps", len(l.Inspect), len(l.Steps))
	}
	last := []string{"DISALLOW", "*"}
	for _, s := range l.Steps {
		for _, rs := range [][][]string{s.ExpectedMaterials, s.ExpectedProducts} {
			if len(rs) == 0 || !slices.Equal(rs[len(rs)-1], last) {
				t.Errorf("%s: %v", s.Name, rs)
			}
		}
	}
	for id, k := range l.Keys {
		if k.KeyVal.Private != "" {
			t.Errorf("key %s is published with its private half", id)
		}
	}
}

func TestArtifactNames(t *testing.T) {
	for _, uri := range []string{
		"https://id.gs1.org/01/09506000134352/21/SN-1", "https://id.gs1.org/01/09506000134352/21/..", "https://id.gs1.org/01/09506000134352/21/.",
		"https://id.gs1.org/01/09506000134352/21/a%2Fb", "https://id.gs1.org/01/09506000134352/21/*", "https://id.gs1.org/01/09506000134352/21/a!b'(c)",
	} {
		name := layout.ArtifactName(uri)
		if strings.ContainsAny(name, `*?[]\{}`) || path.Clean(name) != name {
			t.Errorf("%s: %s", uri, name)
		}
		if back, err := url.PathUnescape(name); err != nil || "https://"+back != uri {
			t.Errorf("%s -> %s -> %s, %v", uri, name, back, err)
		}
	}
}
