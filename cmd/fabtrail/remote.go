package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/internal/cli"
)

// remoteFlags are those of commands that talk to a ledger.
type remoteFlags struct {
	server, trust, token string
	waiting              func(time.Duration) // is told when the ledger makes us wait; may be nil
}

func (f *remoteFlags) add(c *cobra.Command, trust bool) {
	c.Flags().StringVar(&f.server, "server", os.Getenv("FABTRAIL_SERVER"), "URL of the ledger (or $FABTRAIL_SERVER)")
	cli.Nothing(c, "server")
	c.Flags().StringVar(&f.token, "token", os.Getenv("FABTRAIL_TOKEN"), "file with a bearer token (or $FABTRAIL_TOKEN)")
	if trust {
		c.Flags().StringVar(&f.trust, "trust", os.Getenv("FABTRAIL_TRUST"), "trust folder (or $FABTRAIL_TRUST); see 'fabtrail trust'")
		_ = c.MarkFlagDirname("trust")
	}
}

func (f *remoteFlags) remote() (*client.Remote, error) {
	if f.server == "" {
		return nil, cli.Usagef("which ledger? give --server URL, or set $FABTRAIL_SERVER")
	}
	opt := client.Options{Waiting: f.waiting}
	if f.token != "" {
		b, err := os.ReadFile(f.token)
		if err != nil { // never 1, which would speak of a unit
			return nil, cli.Usagef("--token: %w", err)
		}
		opt.Token = strings.TrimSpace(string(b))
	}
	r, err := client.NewRemote(f.server, opt)
	return r, cli.WithCode(cli.Usage, err)
}

func (f *remoteFlags) trusted() (*client.Trust, error) {
	if f.trust == "" {
		return nil, cli.Usagef("whom do you trust? give --trust DIR, or set $FABTRAIL_TRUST; 'fabtrail trust fetch' makes one")
	}
	t, err := client.LoadTrust(os.DirFS(f.trust))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, cli.WithCode(cli.CouldNot, fmt.Errorf("%s: %w; 'fabtrail trust fetch --out %s' gets one", f.trust, err, f.trust))
	}
	if err != nil {
		return nil, cli.WithCode(cli.CouldNot, fmt.Errorf("%s: %w", f.trust, err))
	}
	return t, nil
}

// offline reports whether err is the connection's fault, not an answer.
func offline(err error) bool {
	var s *client.StatusError
	var w *client.WireReport
	return err != nil && !errors.As(err, &s) && !errors.As(err, &w)
}
