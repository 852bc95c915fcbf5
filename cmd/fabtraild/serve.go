package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fabtrail.dev/fabtrail/api"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/cli"
	"fabtrail.dev/fabtrail/internal/node"
	"fabtrail.dev/fabtrail/ledger"
)

// refused gives a refusal to sign its own exit code.
func refused(err error) error {
	var no *ledger.NoSign
	if errors.As(err, &no) {
		return cli.WithCode(cli.CouldNot, err)
	}
	return err
}

func initCmd() *cobra.Command {
	var dir, origin, operator string
	var authorities []string
	var threshold int
	var ifMissing bool
	c := &cobra.Command{
		Use:   "init",
		Short: "Prepare a data folder: keys, charter and trust folder",
		Long: `Prepare a data folder for a new ledger: the log's key, the key that signs
findings, the key that signs tokens, the signed charter that becomes entry 0, and
DIR/trust, which is what others need to trust the ledger.

Every --authority names a party and the file of its private key; the charter
says how many of them must sign what the authority decides. Without any, one
authority is made, of the operator itself, with its key in DIR/keys/authority.pem.`,
		Example: `  fabtraild init --data ./ledger --origin ledger.example/parts
  fabtraild init --data ./ledger --origin ledger.example/parts --threshold 2 \
    --authority https://id.gs1.org/417/9506000140001=a.pem \
    --authority https://id.gs1.org/417/9506000140018=b.pem`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg := node.InitConfig{Origin: origin, Operator: operator, Threshold: threshold, Created: time.Now()}
			for _, a := range authorities {
				s, err := authority(a)
				if err != nil {
					return err
				}
				cfg.Authorities = append(cfg.Authorities, s)
			}
			f := node.Folder(dir)
			err := f.Init(cfg)
			if errors.Is(err, node.ErrExists) && ifMissing {
				err = nil
			}
			if err != nil {
				return err
			}
			return describe(c, f)
		},
	}
	dataFlag(c, &dir, "the folder to prepare")
	c.Flags().StringVar(&origin, "origin", "", "the log's name: a schemeless URL that is yours, such as ledger.example/parts")
	_ = c.MarkFlagRequired("origin")
	c.Flags().StringVar(&operator, "operator", "https://id.gs1.org/417/9506000100005", "party URI of the operator, who signs findings")
	c.Flags().StringArrayVar(&authorities, "authority", nil, "PARTY=KEYFILE of one holder of the authority; repeatable")
	c.Flags().IntVar(&threshold, "threshold", 0, "how many authority parties must sign; 0: more than half")
	c.Flags().BoolVar(&ifMissing, "if-missing", false, "do nothing when the folder holds a ledger already")
	return c
}

func authority(s string) (node.AuthoritySigner, error) {
	i := strings.LastIndex(s, "=")
	if i < 0 {
		return node.AuthoritySigner{}, cli.Usagef("--authority %q: want PARTY=KEYFILE", s)
	}
	b, err := os.ReadFile(s[i+1:])
	if err != nil {
		return node.AuthoritySigner{}, err
	}
	key, err := custody.ParsePrivateKey(b)
	if err != nil {
		return node.AuthoritySigner{}, fmt.Errorf("%s: %w", s[i+1:], err)
	}
	return node.AuthoritySigner{Party: s[:i], Key: key.Private()}, nil
}

// describe says what was prepared, with what others compare.
func describe(c *cobra.Command, f node.Folder) error {
	st, charter, err := f.Charter()
	if err != nil {
		return err
	}
	v := map[string]any{"origin": charter.Origin, "ledger": st.ID.String(), "data": string(f), "trust": f.Trust(), "operator": charter.Operator.Party}
	return cli.Print(c, v, func(w io.Writer) {
		fmt.Fprintf(w, "ledger      %s\ncharter     sha256 %s\ntrust       %s\n", charter.Origin, st.ID, f.Trust())
		if _, err := os.Stat(f.AuthorityKey()); err == nil {
			fmt.Fprintf(w, "authority   %s, key in %s\n", charter.Authorities[0].Party, f.AuthorityKey())
		}
		fmt.Fprintf(w, "next        fabtraild serve --data %s\n", f)
	})
}

type serveFlags struct {
	dir, listen           string
	witnesses, index      []string
	quorum                int
	counted, replace      bool
	jwks, issuer          string
	issuerScopes          []string
	issuerParties         []string
	issuerMethods         []string
	tlsCert, tlsKey, tlsC string
	noFindings            bool
	connections           int
	proxies               []string
	cluster               clusterFlags
	follow                bool
	seen                  []string
}

func serveCmd() *cobra.Command {
	var f serveFlags
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the ledger of a data folder",
		Long: `Run the ledger of a data folder that 'fabtraild init' (or the demo) prepared.

The first start with --witness writes DIR/trust/policy.txt; later starts need no
such flags. Statements are acknowledged when their checkpoint has the quorum of
cosignatures. Index witnesses recompute the index before they cosign, and make
completeness checked; they count towards the quorum with --count-index.

With --engine trillian, a Trillian cluster keeps the entries, and any number of
read replicas (--follow) serve them beside the one node that signs. A replica needs
of the ledger's data folder a copy of DIR/trust alone.`,
		Example: `  fabtraild serve --data ./ledger
  fabtraild serve --data ./ledger --listen 127.0.0.1:8080 --quorum 2 \
    --witness http://127.0.0.1:8101=./w1/trust/witness.vkey \
    --witness http://127.0.0.1:8102=./w2/trust/witness.vkey \
    --index-witness http://127.0.0.1:8103=./w3/trust/witness.vkey`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return refused(serve(c, f)) },
	}
	dataFlag(c, &f.dir, "the ledger's data folder")
	fl := c.Flags()
	fl.StringVar(&f.listen, "listen", "127.0.0.1:8080", "address to serve at; port 0 takes a free one")
	fl.StringArrayVar(&f.witnesses, "witness", nil, "URL=VKEY or URL=FILE of a witness; repeatable")
	fl.StringArrayVar(&f.index, "index-witness", nil, "the same, of a witness that verifies the index; repeatable")
	fl.IntVar(&f.quorum, "quorum", 0, "how many witnesses must cosign; 0: all that count")
	fl.BoolVar(&f.counted, "count-index", false, "index witnesses count towards the quorum")
	fl.BoolVar(&f.replace, "replace-policy", false, "replace a policy.txt that differs")
	fl.StringVar(&f.jwks, "jwks", "", "file or URL with the keys of an OIDC issuer whose tokens are accepted; needs --issuer")
	fl.StringVar(&f.issuer, "issuer", "", "that issuer's name (iss)")
	fl.StringArrayVar(&f.issuerScopes, "issuer-scope", nil, "a scope that the issuer may grant; repeatable. Others in its tokens count for nothing")
	fl.StringArrayVar(&f.issuerParties, "issuer-party", nil, "URI of a party that its tokens may name, or '"+api.AnyParty+"'; repeatable")
	fl.StringArrayVar(&f.issuerMethods, "issuer-alg", nil, "how it signs: EdDSA (unless given), ES256, RS256 or PS256; repeatable")
	fl.StringVar(&f.tlsCert, "tls-cert", "", "certificate chain (PEM): serve HTTPS")
	fl.StringVar(&f.tlsKey, "tls-key", "", "private key of the certificate (PEM)")
	fl.StringVar(&f.tlsC, "client-ca", "", "CA (PEM) of parties' client certificates: one with an enrolled key stands for its party")
	fl.IntVar(&f.connections, "max-connections", node.DefaultConnections, "connections open at once; more take the place of those idle longest")
	fl.StringArrayVar(&f.proxies, "trusted-proxy", nil, "addresses (CIDR) of reverse proxies whose X-Forwarded-For is believed; repeatable")
	f.cluster.addEngine(fl)
	fl.BoolVar(&f.follow, "follow", false, "serve reads only, following the node that signs; needs --engine trillian")
	fl.StringArrayVar(&f.seen, "seen", nil, "file of a checkpoint that somebody holds: for a node without a journal that signs on a cluster, and no witnesses; repeatable")
	fl.BoolVar(&f.noFindings, "no-findings", false, "do not publish findings of the ledger's own")
	c.MarkFlagsRequiredTogether("tls-cert", "tls-key")
	c.MarkFlagsRequiredTogether("jwks", "issuer", "issuer-scope", "issuer-party")
	return c
}

func (f serveFlags) tls() *node.TLS {
	if f.tlsCert == "" {
		return nil
	}
	return &node.TLS{Cert: f.tlsCert, Key: f.tlsKey, ClientCA: f.tlsC}
}

// trustedProxies reads --trusted-proxy: prefixes, or single addresses.
func (f serveFlags) trustedProxies() (ps []netip.Prefix, err error) {
	for _, s := range f.proxies {
		p, err := netip.ParsePrefix(s)
		if a, aerr := netip.ParseAddr(s); aerr == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil || p != p.Masked() {
			return nil, cli.Usagef("--trusted-proxy %q: want an address or a range such as 10.1.0.0/16", s)
		}
		ps = append(ps, p)
	}
	return ps, nil
}

func (f serveFlags) setPolicy() error {
	if len(f.witnesses)+len(f.index) == 0 {
		return nil
	}
	var ws []node.Cosigner
	for i, s := range append(f.witnesses, f.index...) {
		w, err := node.ParseWitness(s, i >= len(f.witnesses))
		if err != nil {
			return cli.WithCode(cli.Usage, err)
		}
		ws = append(ws, w)
	}
	if f.quorum == 0 {
		f.quorum = len(f.witnesses)
		if f.counted {
			f.quorum += len(f.index)
		}
	}
	return node.Folder(f.dir).SetPolicy(ws, f.quorum, f.counted, f.replace)
}

func serve(c *cobra.Command, f serveFlags) error {
	cluster, err := f.cluster.cluster()
	if err != nil {
		return err
	}
	if f.follow && (cluster == nil || len(f.witnesses)+len(f.index) > 0) {
		return cli.Usagef("--follow needs --engine trillian, and takes its witnesses from DIR/trust/policy.txt")
	}
	proxies, err := f.trustedProxies()
	if err != nil {
		return err
	}
	if err := f.setPolicy(); err != nil {
		return err
	}
	log := logger(c)
	n, err := node.Open(c.Context(), node.Config{
		Folder: node.Folder(f.dir), Log: log, Cluster: cluster, Follow: f.follow, Seen: f.seen, JWKS: f.jwks, Issuer: f.issuer,
		IssuerScopes: f.issuerScopes, IssuerParties: f.issuerParties, IssuerMethods: f.issuerMethods, NoDetector: f.noFindings, MaxConnections: f.connections, Proxies: proxies,
	})
	if err != nil {
		return err
	}
	defer n.Close()
	err = n.Serve(c.Context(), f.listen, f.tls(), func(addr string) {
		scheme := "http"
		if f.tlsCert != "" {
			scheme = "https"
		}
		v := map[string]any{"origin": n.Origin(), "url": scheme + "://" + addr, "size": n.Ledger().Published().Size()}
		_ = cli.Print(c, v, func(w io.Writer) {
			fmt.Fprintf(w, "%s is served at %s (%d entries); Ctrl-C stops it\n", n.Origin(), v["url"], v["size"])
		})
	})
	if errors.Is(err, ledger.ErrFailed) && !f.follow {
		err = fmt.Errorf("%w; start it again: it goes on with all that is durable, or says why it must not; whoever had no answer sends the statement again", err)
	}
	return errors.Join(err, n.Close())
}

func healthCmd() *cobra.Command {
	var url string
	var wait time.Duration
	c := &cobra.Command{
		Use:   "health",
		Short: "Ask a server whether it is well (for containers and scripts)",
		Long:  "Ask a ledger (/readyz, /healthz) or a witness (/healthz) whether it is well. Exit code 0: it is; 1: it is not, or does not answer.",
		Example: `  fabtraild health --url http://127.0.0.1:8080/readyz
  fabtraild health --url http://127.0.0.1:8101/healthz --wait 10s`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), max(wait, 3*time.Second))
			defer cancel()
			err := health(ctx, url)
			for wait > 0 && err != nil {
				select {
				case <-ctx.Done():
					return err
				case <-time.After(50 * time.Millisecond):
				}
				if again := health(ctx, url); again == nil || ctx.Err() == nil {
					err = again
				}
			}
			if err != nil {
				return err
			}
			return cli.Print(c, map[string]string{"status": "ok"}, func(w io.Writer) { fmt.Fprintln(w, "ok") })
		},
	}
	c.Flags().StringVar(&url, "url", "http://127.0.0.1:8080/readyz", "what to ask")
	c.Flags().DurationVar(&wait, "wait", 0, "keep asking for so long until it is well")
	return c
}

func health(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return cli.WithCode(cli.Usage, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(b)))
	}
	return nil
}
