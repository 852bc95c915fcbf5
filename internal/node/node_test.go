package node

import (
	"context"
	"crypto"
	"errors"
	"net/http/httptest"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/entry"
)

const testOperator = "https://id.gs1.org/417/9506000100005"

// prepare makes a data folder with one authority.
func prepareFolder(t *testing.T) Folder {
	t.Helper()
	f := Folder(t.TempDir())
	if err := f.Init(InitConfig{Origin: "ledger.test/parts", Operator: testOperator, Created: time.Now()}); err != nil {
		t.Fatal(err)
	}
	return f
}

func start(t *testing.T, f Folder) (*Node, *httptest.Server) {
	t.Helper()
	return startWith(t, Config{Folder: f})
}

func startWith(t *testing.T, cfg Config) (*Node, *httptest.Server) {
	t.Helper()
	cfg.Manual = true
	n, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(n.Handler())
	t.Cleanup(func() {
		srv.Close()
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n, srv
}

func TestInitIsOnce(t *testing.T) {
	f := prepareFolder(t)
	if err := f.Init(InitConfig{Origin: "ledger.test/other", Operator: testOperator, Created: time.Now()}); !errors.Is(err, ErrExists) {
		t.Fatalf("second init: %v, want ErrExists", err)
	}
}

// TestPartyEnrolsAndRestart plays the smallest story over HTTP, and again after a
// restart: the same statement gets the same receipt.
func TestPartyEnrolsAndRestart(t *testing.T) {
	ctx := context.Background()
	f := prepareFolder(t)
	n, srv := start(t, f)
	charter, _, err := f.Charter()
	if err != nil {
		t.Fatal(err)
	}
	authority, err := f.readKey("authority.pem")
	if err != nil {
		t.Fatal(err)
	}
	key, err := custody.GenerateKey(custody.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	envelope := enrol(t, charter.ID, "https://id.gs1.org/417/9506000140001", authority, key)
	first := submit(t, ctx, f, srv.URL, envelope)
	if first.Index != 2 { // charter, its commitment, this
		t.Errorf("index %d, want 2", first.Index)
	}
	if err := n.CaughtUp(ctx); err != nil {
		t.Fatal(err)
	}
	srv.Close()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	_, srv = start(t, f)
	again := submit(t, ctx, f, srv.URL, envelope)
	if !again.Repeat || again.Index != first.Index {
		t.Errorf("repeat after a restart: repeat %t index %d, want the first receipt (index %d)", again.Repeat, again.Index, first.Index)
	}
}

func enrol(t *testing.T, ledger entry.Hash, party string, authority, key crypto.Signer) []byte {
	t.Helper()
	k, err := custody.NewKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	payload, err := custody.NewPayload(custody.KindParty, party, ledger, nil, &custody.Party{
		LegalName: "Example Fab", Roles: []string{"maker"}, Keys: []custody.KeyRecord{k.Record()},
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := custody.Sign(payload, authority, key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func submit(t *testing.T, ctx context.Context, f Folder, url string, envelope []byte) *client.Recorded {
	t.Helper()
	token, err := f.Token(testOperator, []string{"admin"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	remote, err := client.NewRemote(url, client.Options{Token: token})
	if err != nil {
		t.Fatal(err)
	}
	s := client.Submitter{Remote: remote}
	r, err := s.Submit(ctx, envelope)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
