package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer"
	"fabtrail.dev/fabtrail/custody/gs1"
	"fabtrail.dev/fabtrail/ledger/entry"
)

const (
	strangerParty = "https://id.gs1.org/417/9506000140025"
	rivalParty    = "https://id.gs1.org/417/9506000140032"
	auditorParty  = "urn:fabtrail:witness:audit"
)

// asked is one request as a caller of a relation makes it, with what it got.
type asked struct {
	status int
	body   []byte
}

// ask makes a request. token and pedigree may be empty.
func (w *world) ask(method, path, token, pedigree string, body []byte) asked {
	w.t.Helper()
	req, err := http.NewRequest(method, w.server.URL+path, bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if pedigree != "" {
		req.Header.Set("Fabtrail-Pedigree-Key", pedigree)
	}
	switch {
	case method == "POST":
		req.Header.Set("Content-Type", "application/json")
	case body != nil:
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return asked{resp.StatusCode, b}
}

// restricted is a world with one unit that has a past, a stranger's claim about it,
// and the finding that this makes.
type restricted struct {
	*world
	pedigree string     // key of unit 1, as text
	id       entry.Hash // of the statement that commissions it
	secret   []byte     // in that statement and nowhere else
	tokens   [relations]string
	uploads  int
}

func newRestricted(t *testing.T) *restricted {
	w := newWorld(t)
	w.enrol(strangerParty, "carrier")
	key := bytes.Repeat([]byte{7}, 16)
	digest, err := custody.PedigreeDigest(key)
	if err != nil {
		t.Fatal(err)
	}
	commission := w.payload(custody.KindCommission, unit(1), w.event(makerParty, "maker", custody.First()),
		&custody.Commission{UnitKind: "device", Pedigree: digest.String()})
	first := w.must(makerParty, w.sign(commission, w.keys[makerParty]))
	// The carrier gives away what it never had.
	w.must(carrierParty, w.sign(w.payload(custody.KindRelease, unit(1), w.event(carrierParty, "carrier", custody.Next(0, first.ID)),
		&custody.Release{From: carrierParty, To: strangerParty}), w.keys[carrierParty]))
	// Another maker's unit, of which the first one knows nothing.
	w.enrol(rivalParty, "maker")
	w.must(rivalParty, w.sign(w.payload(custody.KindCommission, unit(2), w.event(rivalParty, "maker", custody.First()),
		&custody.Commission{UnitKind: "device"}), w.keys[rivalParty]))
	if err := w.node.CaughtUp(context.Background()); err != nil {
		t.Fatal(err)
	}
	r := &restricted{world: w, pedigree: gs1.FormatPedigreeKey(key), id: first.ID, secret: []byte(digest.String())}
	for rel, c := range map[Relation]struct {
		party  string
		scopes []string
	}{
		Concerned: {makerParty, []string{"custody:write", "custody:read"}},
		WriteOnly: {makerParty, []string{"custody:write"}},
		Stranger:  {auditorParty + ":not", []string{"custody:write", "custody:read"}},
		Operator:  {testOperator, []string{"custody:write", "custody:read"}},
		Auditor:   {auditorParty, []string{"audit"}},
		Admin:     {testOperator, []string{"admin"}},
	} {
		if r.tokens[rel], err = w.folder.Token(c.party, c.scopes, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// got asks for a resource as a relation and says what grant that was.
func (r *restricted) got(t *testing.T, res Resource, rel Relation) Grant {
	t.Helper()
	pedigree := ""
	if rel == KeyHolder {
		pedigree = r.pedigree
	}
	get := func(path string) asked { return r.ask("GET", path, r.tokens[rel], pedigree, nil) }
	var a asked
	switch res {
	case UnitAnswer:
		a = get("/v1/units?uri=" + url.QueryEscape(unit(1)))
		if a.status == http.StatusOK {
			return r.formOf(t, a, "full", "status")
		}
	case UnitAbsence:
		a = get("/v1/units?uri=" + url.QueryEscape(unit(99)))
		if a.status == http.StatusOK {
			return r.formOf(t, a, "absent", "status")
		}
	case UnitsCheck:
		return r.together(t, rel, pedigree)
	case StatementBody:
		a = get("/v1/statements/" + r.id.String())
		if a.status == http.StatusOK && r.holds(a.body) {
			return Full
		}
	case EntryCargo:
		a = get("/v1/entries")
		if a.status == http.StatusOK && r.holds(a.body) {
			return Full
		}
		if a.status == http.StatusOK && bytes.Contains(a.body, []byte(`"withheld":true`)) {
			return Withheld
		}
	case Unpublished:
		a = get("/v1/entries?signed=true")
		if a.status == http.StatusOK && r.holds(a.body) {
			return Full
		}
	case FindingList:
		a = get("/v1/findings")
		if a.status == http.StatusOK {
			return r.findings(t, a, rel)
		}
	case PutManifest:
		r.uploads++
		m, err := custody.NewManifest([]custody.Member{{URI: unit(100 + r.uploads), Salt: entry.Hash{byte(r.uploads)}}})
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(m.Marshal())
		a = r.ask("PUT", "/v1/manifests/"+hex.EncodeToString(sum[:]), r.tokens[rel], "", m.Marshal())
		_, lost := r.node.Ledger().Manifest(sum)
		if kept := lost == nil; kept != (a.status == http.StatusCreated) {
			t.Errorf("status %d, but kept is %t", a.status, kept)
		}
		if a.status == http.StatusCreated {
			return Full
		}
	}
	if r.holds(a.body) {
		t.Errorf("an answer %d holds what is restricted", a.status)
	}
	return Grant(fmt.Sprint(a.status))
}

// holds reports whether an answer shows the restricted statement.
func (r *restricted) holds(body []byte) bool {
	if bytes.Contains(body, r.secret) {
		return true
	}
	// It stands in a payload in an envelope in cargo, in base64 each time.
	for range 3 {
		var next []byte
		for _, word := range strings.FieldsFunc(string(body), func(c rune) bool {
			return !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=", c)
		}) {
			if b, err := base64.StdEncoding.DecodeString(word); err == nil && len(b) > 64 {
				next = append(append(next, b...), ' ')
			}
		}
		if bytes.Contains(next, r.secret) {
			return true
		}
		body = next
	}
	return false
}

func (r *restricted) formOf(t *testing.T, a asked, whole, word string) Grant {
	t.Helper()
	var v struct {
		Form string `json:"form"`
	}
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatal(err)
	}
	switch {
	case v.Form == word && !r.holds(a.body):
		return Word
	case v.Form == whole && r.holds(a.body) == (whole == "full"):
		return Full
	}
	return Grant("form " + v.Form)
}

// check asks for units together, each with the pedigree key.
func (r *restricted) check(t *testing.T, token, pedigree string, units ...string) *answer.Many {
	t.Helper()
	type unit struct {
		URI string `json:"uri"`
		Key string `json:"key"`
	}
	var q struct {
		Units []unit `json:"units"`
	}
	for _, u := range units {
		q.Units = append(q.Units, unit{u, pedigree})
	}
	body, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	a := r.ask("POST", "/v1/units:check", token, "", body)
	if a.status != http.StatusOK {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	m, err := answer.ParseMany(a.body)
	if err != nil || len(m.Units) != len(units) {
		t.Fatalf("%v: %s", err, a.body)
	}
	if form := m.Units[0].Form; r.holds(a.body) != (form == answer.Full) {
		t.Errorf("form %q, but the restricted statement is shown: %t", form, r.holds(a.body))
	}
	return m
}

// together asks for the unit beside one that is another party's alone and one that is
// nobody's: what is shown of them is what is shown of the unit by itself.
func (r *restricted) together(t *testing.T, rel Relation, pedigree string) Grant {
	t.Helper()
	m := r.check(t, r.tokens[rel], pedigree, unit(1), unit(2))
	alone := r.check(t, r.tokens[rel], pedigree, unit(1))
	switch m.Units[1].Form {
	case answer.Status:
		if !reflect.DeepEqual(m.Topics, alone.Topics) || !reflect.DeepEqual(m.Entries, alone.Entries) {
			t.Errorf("beside a unit of which only the word is shown there are %d topics and %d entries, alone %d and %d",
				len(m.Topics), len(m.Entries), len(alone.Topics), len(alone.Entries))
		}
	case answer.Full:
		if rel != Auditor {
			t.Errorf("another party's unit is shown")
		}
	default:
		t.Errorf("another party's unit has form %q", m.Units[1].Form)
	}
	switch m.Units[0].Form {
	case answer.Status:
		return Word
	case answer.Full:
		return Full
	}
	return Grant("form " + m.Units[0].Form)
}

func (r *restricted) findings(t *testing.T, a asked, rel Relation) Grant {
	t.Helper()
	var v struct {
		Findings []struct{ Accused string } `json:"findings"`
	}
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatal(err)
	}
	part := rel == Concerned
	switch {
	case rel == Auditor && len(v.Findings) > 0:
		return Full
	case part && len(v.Findings) > 0, !part && len(v.Findings) == 0:
		return Own
	}
	return Grant(fmt.Sprintf("%d findings", len(v.Findings)))
}

// TestAccessTable walks every relation over every restricted resource, through the
// door.
func TestAccessTable(t *testing.T) {
	r := newRestricted(t)
	for res := range resources {
		for rel := range relations {
			t.Run(Resources[res]+" as "+Relations[rel], func(t *testing.T) {
				r.t = t
				if got, want := r.got(t, res, rel), Access[res][rel]; got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			})
		}
	}
}

// TestAccessBetweenTheRows are the cases that the table leaves to the relation.
func TestAccessBetweenTheRows(t *testing.T) {
	r := newRestricted(t)
	token := func(party string, scopes ...string) string {
		s, err := r.folder.Token(party, scopes, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	path := "/v1/units?uri=" + url.QueryEscape(unit(1))
	other := gs1.FormatPedigreeKey(bytes.Repeat([]byte{8}, 16))
	cases := map[string]struct {
		token, pedigree string
		want            Grant
	}{
		"whoever only claimed something about the unit": {token(carrierParty, "custody:read"), "", Word},
		"whoever a stranger named":                      {token(strangerParty, "custody:read"), "", Word},
		"another unit's key":                            {"", other, Word},
		"a stranger with the key":                       {token(strangerParty, "custody:read"), r.pedigree, Full},
		"a party with another unit's key":               {token(makerParty, "custody:read"), other, Full},
		"an administrator who has a part":               {token(makerParty, "admin", "custody:read"), "", Full},
		"an administrator who has a part, to write":     {token(makerParty, "admin"), "", Word},
		"an auditor with another unit's key":            {token(auditorParty, "audit"), other, Full},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r.t = t
			if got := r.formOf(t, r.ask("GET", path, c.token, c.pedigree, nil), "full", "status"); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
	t.Run("the accused sees the finding", func(t *testing.T) {
		r.t = t
		a := r.ask("GET", "/v1/findings", token(carrierParty, "custody:read"), "", nil)
		if got := r.findings(t, a, Concerned); a.status != http.StatusOK || got != Own {
			t.Errorf("status %d, %s", a.status, got)
		}
	})
}
