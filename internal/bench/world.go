package bench

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"fabtrail.dev/fabtrail/api"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/gs1"
	"fabtrail.dev/fabtrail/internal/node"
	"fabtrail.dev/fabtrail/ledger/entry"
)

const (
	origin      = "bench.example/ledger"
	makers      = 16
	lot         = "BENCH"
	payloadSize = 850 // bytes of a statement, about
)

// admin posts what others signed: the token is not what is measured.
var admin = api.Caller{Party: "https://bench.example/", Scopes: []api.Scope{api.ScopeAdmin, api.ScopeAudit}}

// signed is one statement, signed.
type signed struct {
	payload, sig []byte
	key          ed25519.PublicKey
	envelope     []byte // DSSE
	id           entry.Hash
}

type party struct {
	uri string
	key ed25519.PrivateKey
}

// world is who plays: an authority, the owner of one product, and makers who
// commission units and hand them on.
type world struct {
	folder    node.Folder
	ledger    entry.Hash
	authority crypto.Signer
	parties   []party // the first owns the product
	gtin      string
	now       time.Time
}

func gln(n int) string {
	body := fmt.Sprintf("9506000%05d", n)
	return "https://id.gs1.org/417/" + body + string(gs1.CheckDigit(body))
}

func newWorld(f node.Folder) (*world, error) {
	now := time.Now().Add(-time.Hour)
	if err := f.Init(node.InitConfig{Origin: origin, Operator: gln(1), Created: now}); err != nil {
		return nil, err
	}
	st, _, err := f.Charter()
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(f.AuthorityKey())
	if err != nil {
		return nil, err
	}
	key, err := custody.ParsePrivateKey(b)
	if err != nil {
		return nil, err
	}
	w := &world{folder: f, ledger: st.ID, authority: key.Private(), now: now}
	body := "0950600012345"
	w.gtin = body + string(gs1.CheckDigit(body))
	for i := range makers + 1 {
		seed := sha256.Sum256(fmt.Appendf(nil, "bench party %d", i))
		w.parties = append(w.parties, party{gln(100 + i), ed25519.NewKeyFromSeed(seed[:])})
	}
	return w, nil
}

func (w *world) product() string      { return "https://id.gs1.org/01/" + w.gtin }
func (w *world) unit(n uint64) string { return fmt.Sprintf("%s/21/U%09d", w.product(), n) }
func (w *world) makers() []party      { return w.parties[1:] }

// enrol enrols the parties, the product and the lot.
func (w *world) enrol(ctx context.Context, n *node.Node) error {
	put := func(kind custody.Kind, subject string, body any, signers ...crypto.Signer) error {
		payload, err := custody.NewPayload(kind, subject, w.ledger, nil, body)
		if err != nil {
			return err
		}
		envelope, err := custody.Sign(payload, signers...)
		if err != nil {
			return err
		}
		return n.Submit(ctx, admin, [][]byte{envelope})[0].Err
	}
	var names []string
	for i, p := range w.parties {
		key, err := custody.NewKey(p.key.Public())
		if err != nil {
			return err
		}
		role := custody.RoleMaker
		if i == 0 {
			role = custody.RoleBrand
		} else {
			names = append(names, p.uri)
		}
		err = put(custody.KindParty, p.uri, &custody.Party{LegalName: fmt.Sprintf("Party %d", i), Roles: []string{role},
			Keys: []custody.KeyRecord{key.Record()}}, w.authority, p.key)
		if err != nil {
			return err
		}
	}
	owner := w.parties[0]
	if err := put(custody.KindProduct, w.product(), &custody.Product{Owner: owner.uri, Kind: "device"}, w.authority, owner.key); err != nil {
		return err
	}
	return put(custody.KindSerialBlock, w.product()+"/10/"+lot,
		&custody.SerialBlock{Actor: owner.uri, Count: 100_000_000, Commissioners: names}, owner.key)
}

// make makes a signed statement of a unit by a party.
func (w *world) make(rng *rand.ChaCha8, kind custody.Kind, p party, unit string, chain *custody.Chain, body any) (signed, error) {
	ev := &custody.Event{EventID: custody.NewEventID(w.now, rng), OccurredAt: custody.FormatTime(w.now), Actor: p.uri, Chain: chain}
	payload, err := custody.NewPayload(kind, unit, w.ledger, ev, body)
	if err == nil && len(payload) < payloadSize {
		ev.Ext = []byte(`{"bench":"` + strings.Repeat("x", max(payloadSize-len(payload)-20, 1)) + `"}`)
		payload, err = custody.NewPayload(kind, unit, w.ledger, ev, body)
	}
	if err != nil {
		return signed{}, err
	}
	d, err := custody.SignDSSE(payload, p.key)
	if err != nil {
		return signed{}, err
	}
	return signed{payload: payload, sig: d.Signatures[0].Sig, key: p.key.Public().(ed25519.PublicKey), envelope: d.Marshal(), id: entry.StatementID(payload)}, nil
}

// pair is a unit's commission and its release: one new unit for two statements.
func (w *world) pair(rng *rand.ChaCha8, n uint64) ([2]signed, error) {
	ms := w.makers()
	from, to := ms[n%makers], ms[(n+1)%makers]
	unit := w.unit(n)
	c, err := w.make(rng, custody.KindCommission, from, unit, custody.First(), &custody.Commission{UnitKind: "device", Lot: lot})
	if err != nil {
		return [2]signed{}, err
	}
	r, err := w.make(rng, custody.KindRelease, from, unit, custody.Next(0, c.id), &custody.Release{From: from.uri, To: to.uri})
	return [2]signed{c, r}, err
}

// pairs makes n pairs from unit number first on, on all cores.
func (w *world) pairs(first uint64, n int, progress func(done, total uint64)) ([][2]signed, error) {
	out := make([][2]signed, n)
	var wg sync.WaitGroup
	const workers = 8
	errs := make([]error, workers)
	for k := range workers {
		wg.Go(func() {
			rng := rand.NewChaCha8(sha256.Sum256(fmt.Appendf(nil, "%d %d", first, k)))
			for i := k; i < n && errs[k] == nil; i += workers {
				out[i], errs[k] = w.pair(rng, first+uint64(i))
				if k == 0 && i%4096 == 0 {
					progress(uint64(2*i), uint64(2*n))
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// life is a unit with ten statements by five makers: commissioned, handed on four
// times, and tested.
func (w *world) life(rng *rand.ChaCha8, n uint64) ([]signed, error) {
	ms := w.makers()
	unit, seq := w.unit(n), int64(0)
	var out []signed
	var head entry.Hash
	say := func(kind custody.Kind, p party, chained bool, body any) error {
		chain := custody.Unchained()
		if chained {
			chain = custody.First()
			if !head.IsZero() {
				chain = custody.Next(seq, head)
				seq++
			}
		}
		s, err := w.make(rng, kind, p, unit, chain, body)
		if err == nil && chained {
			head = s.id
		}
		out = append(out, s)
		return err
	}
	at := int(n)
	if err := say(custody.KindCommission, ms[at%makers], true, &custody.Commission{UnitKind: "device", Lot: lot}); err != nil {
		return nil, err
	}
	if err := say(custody.KindQAResult, ms[at%makers], false, &custody.QAResult{Result: "PASSED", PassedTests: []string{"final"}}); err != nil {
		return nil, err
	}
	for k := range 4 {
		from, to := ms[(at+k)%makers], ms[(at+k+1)%makers]
		if err := say(custody.KindRelease, from, true, &custody.Release{From: from.uri, To: to.uri}); err != nil {
			return nil, err
		}
		if err := say(custody.KindAccept, to, true, &custody.Accept{Accepts: custody.DigestOf(head)}); err != nil {
			return nil, err
		}
	}
	return out, nil
}
