package node

import (
	"context"
	"fmt"
	"os"
	"time"

	"fabtrail.dev/fabtrail/api"
	"fabtrail.dev/fabtrail/custody/view"
)

// Token issues a bearer token of the ledger for a party.
func (f Folder) Token(party string, scopes []string, ttl time.Duration) (string, error) {
	origin, err := f.Origin()
	if err != nil {
		return "", err
	}
	key, err := f.TokenKey()
	if err != nil {
		return "", err
	}
	words := make([]api.Scope, len(scopes))
	for i, s := range scopes {
		words[i] = api.Scope(s)
	}
	return api.Minter{Issuer: TokenIssuer, Origin: origin, Key: key, Clock: time.Now}.Mint(party, words, ttl)
}

// Rebuilt says what Rebuild made.
type Rebuilt struct {
	Size     uint64 `json:"size"` // entries
	Findings int    `json:"findings"`
}

// Rebuild deletes the views of a ledger that is not running and makes them anew.
func Rebuild(ctx context.Context, f Folder, progress func(done, total uint64)) (Rebuilt, error) {
	if _, err := f.Origin(); err != nil {
		return Rebuilt{}, err
	}
	n, err := open(ctx, Config{Folder: f, Manual: true, NoDetector: true}, func() error { return os.RemoveAll(f.views()) })
	if err != nil {
		return Rebuilt{}, err
	}
	defer n.Close()
	v := n.ledger.Published()
	if err := n.catchUp(ctx, v, func(done uint64) { progress(done, v.Size()) }); err != nil {
		return Rebuilt{}, err
	}
	r := Rebuilt{Size: n.views.Next()}
	if err := n.views.Findings(0, func(view.Finding) bool { r.Findings++; return true }); err != nil {
		return r, err
	}
	if err := n.views.SetHanded(0); err != nil { // published again, which the ledger answers with the first receipts
		return r, err
	}
	return r, nil
}

// CaughtUp waits until the views hold everything that is published, and all
// findings in it have been published too.
func (n *Node) CaughtUp(ctx context.Context) error {
	for {
		size := n.ledger.Published().Size()
		handed, err := n.views.Handed()
		if err != nil {
			return err
		}
		if n.views.Next() >= size && (n.cfg.NoDetector || handed >= size) && n.ledger.Published().Size() == size {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("views are at %d of %d: %w", n.views.Next(), size, ctx.Err())
		case err := <-n.failed:
			n.fail(err)
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
}
