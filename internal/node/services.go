package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"fabtrail.dev/fabtrail/api"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// TokenIssuer is the iss of the ledger's own tokens.
const TokenIssuer = "fabtrail"

// CertificateIssuer is the issuer of callers that a client certificate names.
const CertificateIssuer = "certificate"

func (n *Node) newAPI() (*api.API, error) {
	pub, err := n.tokenKey()
	if err != nil {
		return nil, err
	}
	issuers := []api.Issuer{{Name: TokenIssuer, Keys: api.LocalKeys(pub), Scopes: api.Scopes, Parties: []string{api.AnyParty}}}
	if n.cfg.JWKS != "" {
		fetch := api.FetchFile(n.cfg.JWKS)
		if strings.HasPrefix(n.cfg.JWKS, "http") {
			if fetch, err = api.FetchURL(n.cfg.JWKS); err != nil {
				return nil, err
			}
		}
		keys := api.NewJWKS(fetch, time.Now)
		keys.Trouble = func(err error) { n.quiet.warnf("the keys of token issuer %s: %v", n.cfg.Issuer, err) }
		other := api.Issuer{Name: n.cfg.Issuer, Keys: keys, Methods: n.cfg.IssuerMethods, Parties: n.cfg.IssuerParties}
		for _, s := range n.cfg.IssuerScopes {
			other.Scopes = append(other.Scopes, api.Scope(s))
		}
		issuers = append(issuers, other)
	}
	tokens, err := api.NewVerifier(n.origin, time.Now, issuers...)
	if err != nil {
		return nil, err
	}
	return api.New(api.Config{
		Tokens: tokens, Submitter: n, Statements: n, Manifests: n, Entries: n, Proofs: n, Tiles: n,
		Units: n, Parties: n, Findings: n, Trust: n, Health: n, Certificates: n,
		Registry: n.registry, Limits: n.cfg.Limits, Log: n.cfg.Log,
		ClientAddress: api.BehindProxies(n.cfg.Proxies),
	})
}

// CertificateParty implements api.Certificates. A certificate stands for a party
// when its key is, byte for byte, one that the ledger has enrolled for that party and
// that was neither rotated nor revoked: as of now, not of when the connection began.
// It counts as a token of scope custody:write and custody:read. Names in it mean nothing;
// that its CA is one of ours and that it is in force the TLS stack has checked.
func (n *Node) CertificateParty(_ context.Context, spki []byte) (api.Caller, bool) {
	k, ok := custody.LoadKey(committed{n.ledger}, sha256.Sum256(spki))
	if !ok || k.Ended || k.Party == "" || !bytes.Equal(k.SPKI, spki) {
		return api.Caller{}, false
	}
	return api.Caller{Party: k.Party, Issuer: CertificateIssuer, Scopes: api.CertificateScopes}, true
}

// Statement implements api.Statements.
func (n *Node) Statement(_ context.Context, who api.Caller, id entry.Hash) (api.Recorded, error) {
	r, err := n.ledger.Receipt(id)
	if err != nil {
		return api.Recorded{}, asProblem(err)
	}
	if r.Class == entry.Restricted {
		env, err := entry.ParseEnvelope(r.Envelope)
		if err != nil {
			return api.Recorded{}, err
		}
		st, err := custody.Parse(env.Payload)
		if err != nil {
			return api.Recorded{}, err
		}
		if err := n.mayRead(who, st); err != nil {
			return api.Recorded{}, err
		}
	}
	return recorded(r).Recorded, nil
}

// ManifestHead implements api.Manifests.
func (n *Node) ManifestHead(head []byte, size int64) error {
	return custody.CheckManifestHead(head, size)
}

// PutManifest implements api.Manifests.
func (n *Node) PutManifest(_ context.Context, who api.Caller, digest entry.Hash, b []byte) (created bool, err error) {
	if _, err := n.ledger.Manifest(digest); err == nil {
		return false, nil
	}
	if _, err := custody.ParseManifest(b); err != nil {
		return false, err
	}
	_, err = n.ledger.PutManifestOf(who.Party, b)
	return err == nil, asProblem(err)
}

// Entries implements api.Entries.
func (n *Node) Entries(ctx context.Context, r api.EntryRange, yield func(api.LogEntry) error) error {
	v := n.ledger.Published()
	if r.Signed {
		v = n.ledger.Signed()
	}
	to := v.Size()
	if r.From >= to {
		return nil
	}
	if r.Limit < to-r.From {
		to = r.From + r.Limit
	}
	return v.Entries(r.From, to, func(i uint64, e entry.Entry, manifest entry.Hash) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		line := api.LogEntry{Index: i}
		if e.Class != entry.Restricted || r.Restricted {
			line.Cargo = e.Cargo()
			if !manifest.IsZero() {
				var err error
				if line.Manifest, err = n.ledger.Manifest(manifest); err != nil {
					return err
				}
			}
		}
		return yield(line)
	})
}

// Inclusion implements api.Proofs.
func (n *Node) Inclusion(_ context.Context, index, size uint64) (entry.Hash, []entry.Hash, error) {
	v, err := n.at(size)
	if err != nil {
		return entry.Hash{}, nil, err
	}
	path, err := v.InclusionAt(index, size)
	if err != nil {
		return entry.Hash{}, nil, asProblem(err)
	}
	e, err := v.Entry(index)
	return e.LeafHash(), path, asProblem(err)
}

func (n *Node) at(size uint64) (*ledger.View, error) {
	v := n.ledger.Published()
	if size > v.Size() {
		return nil, problem.New("not_found", "size", "the published size is %d", v.Size())
	}
	return v, nil
}

// Consistency implements api.Proofs.
func (n *Node) Consistency(_ context.Context, from, to uint64) ([]entry.Hash, error) {
	v, err := n.at(to)
	if err != nil {
		return nil, err
	}
	hashes, err := v.Consistency(from, to)
	return hashes, asProblem(err)
}

// Checkpoint implements api.Tiles.
func (n *Node) Checkpoint(context.Context) ([]byte, error) {
	note := n.ledger.Published().Checkpoint()
	if note == nil {
		return nil, problem.New("not_found", "", "no checkpoint is published yet")
	}
	return note, nil
}

// Tile implements api.Tiles.
func (n *Node) Tile(_ context.Context, level int, index uint64, width int) ([]byte, error) {
	b, err := n.ledger.Tile(uint8(level), index, uint16(width))
	return b, asProblem(err)
}

// Bundle implements api.Tiles.
func (n *Node) Bundle(_ context.Context, index uint64, width int) ([]byte, error) {
	b, err := n.ledger.Bundle(index, uint16(width))
	return b, asProblem(err)
}

// TrustFile implements api.Trust.
func (n *Node) TrustFile(_ context.Context, name string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(n.cfg.Folder.Trust(), filepath.Base(name)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, problem.New("not_found", "", "the trust folder has no such file")
	}
	return b, err
}

// Party implements api.Parties.
func (n *Node) Party(_ context.Context, uri string) (api.Party, error) {
	p, ok := custody.LoadParty(committed{n.ledger}, uri)
	if !ok {
		return api.Party{}, problem.New("not_found", "uri", "no such party is enrolled")
	}
	out := api.Party{URI: uri, LegalName: p.LegalName, Roles: p.Roles, Sites: make([]api.Site, len(p.Sites)), Index: p.Index}
	for i, s := range p.Sites {
		out.Sites[i] = api.Site{ID: s.ID, Country: s.Country, Locode: s.Locode, Geo: s.Geo}
	}
	return out, nil
}

// Ready implements api.Health.
func (n *Node) Ready(context.Context) []api.Reason {
	var reasons []api.Reason
	if err := n.ledger.Err(); err != nil {
		reasons = append(reasons, api.Reason{Code: "stopped", Detail: "the ledger has stopped writing and must be restarted"})
	}
	if n.cfg.Follow && time.Since(time.Unix(0, n.followed.Load())) > lateAfter {
		reasons = append(reasons, api.Reason{Code: "behind", Detail: "nothing could be read from the cluster for a minute: what is published stands still; the log of this node says why"})
	}
	published, signed := n.ledger.Published(), n.ledger.Signed()
	if published.Checkpoint() == nil {
		reasons = append(reasons, api.Reason{Code: "unpublished", Detail: "no checkpoint is published yet: the witnesses have not reached the quorum"})
		return reasons
	}
	if signed.Size() > published.Size() {
		if age := n.publishedAge(published); age > lateAfter {
			reasons = append(reasons, api.Reason{Code: "witnesses_late", Detail: "the newest checkpoint waits for its quorum of witnesses"})
		}
	}
	return reasons
}

// lateAfter is how old the published checkpoint may be while a newer one waits.
const lateAfter = time.Minute

func (n *Node) publishedAge(v *ledger.View) time.Duration {
	policy, err := n.cfg.Folder.policy()
	if err != nil || policy == nil {
		return 0
	}
	c, err := policy.Verify(v.Checkpoint())
	if err != nil || c.QuorumTime == 0 {
		return 0
	}
	return time.Since(time.Unix(int64(c.QuorumTime), 0))
}
