package node

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/entry"
)

const (
	makerParty   = "https://id.gs1.org/417/9506000140001"
	carrierParty = "https://id.gs1.org/417/9506000140018"
)

// world is a ledger with two enrolled parties, for tests through its HTTP door.
type world struct {
	t      *testing.T
	node   *Node
	server *httptest.Server
	folder Folder
	ledger entry.Hash
	keys   map[string]crypto.Signer // by party
	clock  time.Time
	events int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldIn(t, prepareFolder(t))
}

func newWorldIn(t *testing.T, f Folder) *world {
	t.Helper()
	return newWorldWith(t, Config{Folder: f})
}

func newWorldWith(t *testing.T, cfg Config) *world {
	t.Helper()
	f := cfg.Folder
	n, srv := startWith(t, cfg)
	charter, _, err := f.Charter()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, node: n, server: srv, folder: f, ledger: charter.ID, keys: map[string]crypto.Signer{}, clock: time.Now().Add(-time.Hour)}
	authority, err := f.readKey("authority.pem")
	if err != nil {
		t.Fatal(err)
	}
	w.keys[testOperator] = authority
	w.enrol(makerParty, "maker")
	w.enrol(carrierParty, "carrier")
	return w
}

func (w *world) enrol(party, role string) {
	w.t.Helper()
	key, err := custody.GenerateKey(custody.Ed25519)
	if err != nil {
		w.t.Fatal(err)
	}
	k, err := custody.NewKey(key.Public())
	if err != nil {
		w.t.Fatal(err)
	}
	payload, err := custody.NewPayload(custody.KindParty, party, w.ledger, nil, &custody.Party{
		LegalName: "Example " + role, Roles: []string{role}, Keys: []custody.KeyRecord{k.Record()},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.must(testOperator, w.sign(payload, w.keys[testOperator], key))
	w.keys[party] = key
}

func (w *world) sign(payload []byte, keys ...crypto.Signer) []byte {
	w.t.Helper()
	b, err := custody.Sign(payload, keys...)
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

// remote talks to the ledger as a party.
func (w *world) remote(party string, scopes ...string) *client.Remote {
	w.t.Helper()
	if len(scopes) == 0 {
		scopes = []string{"custody:write", "custody:read"}
		if party == testOperator {
			scopes = []string{"admin", "audit"}
		}
	}
	token, err := w.folder.Token(party, scopes, time.Hour)
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := client.NewRemote(w.server.URL, client.Options{Token: token, Attempts: 1})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) post(party string, envelopes ...[]byte) []client.Outcome {
	w.t.Helper()
	s := client.Submitter{Remote: w.remote(party)}
	out, err := s.SubmitBatch(context.Background(), envelopes)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func (w *world) must(party string, envelope []byte) *client.Recorded {
	w.t.Helper()
	o := w.post(party, envelope)[0]
	if o.Err != nil {
		w.t.Fatal(o.Err)
	}
	return o.Recorded
}

// event makes the common fields of a party's next statement.
func (w *world) event(actor, role string, chain *custody.Chain) *custody.Event {
	w.events++
	w.clock = w.clock.Add(time.Second)
	return &custody.Event{
		EventID: custody.NewEventID(w.clock, nil), OccurredAt: custody.FormatTime(w.clock.Truncate(time.Second)),
		Actor: actor, Role: role, Chain: chain,
	}
}

func (w *world) payload(kind custody.Kind, subject string, ev *custody.Event, body any) []byte {
	w.t.Helper()
	p, err := custody.NewPayload(kind, subject, w.ledger, ev, body)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// unit is the URI of the n-th unit: an asset of its maker, which needs no product.
func unit(n int) string { return fmt.Sprintf("https://id.gs1.org/8004/9506000UNIT%05d", n) }

// commission signs the commissioning of unit n.
func (w *world) commission(n int) []byte {
	w.t.Helper()
	return w.sign(w.payload(custody.KindCommission, unit(n), w.event(makerParty, "maker", custody.First()),
		&custody.Commission{UnitKind: "device"}), w.keys[makerParty])
}

// postRaw posts a batch as it is and returns the lines of the answer.
func (w *world) postRaw(body []byte) []client.Appended {
	w.t.Helper()
	token, err := w.folder.Token(makerParty, []string{"custody:write"}, time.Hour)
	if err != nil {
		w.t.Fatal(err)
	}
	req, err := http.NewRequest("POST", w.server.URL+"/v1/statements/batch", bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		w.t.Fatal(resp.Status)
	}
	var out []client.Appended
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var a client.Appended
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			w.t.Fatal(err)
		}
		out = append(out, a)
	}
	if err := lines.Err(); err != nil {
		w.t.Fatal(err)
	}
	return out
}
