package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"fabtrail.dev/fabtrail/internal/cli"
	"fabtrail.dev/fabtrail/internal/node"
	"fabtrail.dev/fabtrail/ledger/trillian"
)

// clusterFlags say where a Trillian cluster is.
type clusterFlags struct {
	engine        string
	addr          string
	tree          int64
	postgres      string
	tls           bool
	ca, cert, key string
}

func (f *clusterFlags) add(fl *pflag.FlagSet) {
	fl.StringVar(&f.addr, "trillian", "", "address (host:port) of a Trillian log server")
	fl.Int64Var(&f.tree, "tree", 0, "the tree's ID (default: the one prepared for the ledger's origin)")
	fl.StringVar(&f.postgres, "postgres", "", "URI of the PostgreSQL database that Trillian runs on; a password comes from PGPASSWORD or PGPASSFILE")
	fl.BoolVar(&f.tls, "trillian-tls", false, "encrypt the connection to the log server")
	fl.StringVar(&f.ca, "trillian-ca", "", "CA (PEM) of the log server's certificate; the system's if not given")
	fl.StringVar(&f.cert, "trillian-cert", "", "certificate (PEM) that this node shows the log server")
	fl.StringVar(&f.key, "trillian-key", "", "private key (PEM) of that certificate")
}

// addEngine adds the choice between the engines, too.
func (f *clusterFlags) addEngine(fl *pflag.FlagSet) {
	fl.StringVar(&f.engine, "engine", "embedded", "what keeps the entries: embedded, or trillian (a cluster)")
	f.add(fl)
}

// config is the cluster that the flags name; the tree may be missing.
func (f *clusterFlags) config() (*trillian.Config, error) {
	if f.addr == "" || f.postgres == "" {
		return nil, cli.Usagef("a ledger on a cluster needs --trillian HOST:PORT and --postgres URI")
	}
	if (f.cert == "") != (f.key == "") {
		return nil, cli.Usagef("--trillian-cert and --trillian-key belong together")
	}
	return &trillian.Config{Addr: f.addr, Tree: f.tree, Postgres: f.postgres,
		TLS: f.tls || f.ca != "" || f.cert != "", CA: f.ca, Cert: f.cert, Key: f.key}, nil
}

// cluster is nil for the embedded engine. Without --tree it is the one that the folder
// says it is in, or the one that was prepared for the ledger's origin.
func (f *clusterFlags) cluster() (*trillian.Config, error) {
	switch f.engine {
	case "embedded":
		if f.addr != "" || f.tree != 0 || f.postgres != "" {
			return nil, cli.Usagef("--trillian, --tree and --postgres need --engine trillian")
		}
		return nil, nil
	case "trillian":
		return f.config()
	default:
		return nil, cli.Usagef("--engine %q: want embedded or trillian", f.engine)
	}
}

func trillianCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "trillian",
		Short: "Prepare a Trillian cluster to keep a ledger",
		Long: `Prepare a Trillian cluster to keep a ledger. Most ledgers need none: see the
page on operations for when to move to one.`,
		Example: "  fabtraild trillian init --origin ledger.example/parts --trillian 127.0.0.1:8090 --postgres postgres://trillian@127.0.0.1/trillian",
	}
	c.AddCommand(trillianInitCmd())
	return c
}

func trillianInitCmd() *cobra.Command {
	var f clusterFlags
	var origin, dir string
	c := &cobra.Command{
		Use:   "init",
		Short: "Make the tree for a ledger, and the tables beside Trillian's",
		Long: `Make a tree (PREORDERED_LOG) for a ledger, and in the database that Trillian runs
on a schema "fabtrail": which node signs, manifests, published notes; and the
trigger that refuses leaves of any other node. Trillian's own tables must be there.

With --tree it prepares a tree that is there already; what it finds in place stays.
With --data, it takes the origin from a data folder, and does nothing when that is in
a tree already.`,
		Example: `  fabtraild trillian init --origin ledger.example/parts --trillian 127.0.0.1:8090 --postgres postgres://trillian@127.0.0.1/trillian
  fabtraild trillian init --data ./ledger --trillian 127.0.0.1:8090 --postgres postgres://trillian@127.0.0.1/trillian`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := f.config()
			if err != nil {
				return err
			}
			if (origin == "") == (dir == "") {
				return cli.Usagef("one of --origin and --data")
			}
			made := true
			if dir != "" {
				if origin, err = node.Folder(dir).Origin(); err != nil {
					return err
				}
				is, err := node.Folder(dir).Tree()
				if err != nil {
					return err
				}
				switch {
				case is != 0 && f.tree != 0 && f.tree != is:
					return fmt.Errorf("the ledger in %s is in tree %d, not in tree %d", dir, is, f.tree)
				case is != 0:
					cfg.Tree, made = is, false
				case node.Folder(dir).Embedded(): // before a tree is made that nobody uses
					return fmt.Errorf("the ledger in %s is kept by the embedded engine: make a tree with 'fabtraild trillian init --origin %s ...', and move it there with 'fabtraild migrate'", dir, origin)
				}
			}
			cfg.Origin = origin
			cfg.Logf = func(format string, args ...any) { logger(c).Warn(fmt.Sprintf(format, args...)) }
			tree, err := trillian.Init(c.Context(), *cfg)
			if err != nil {
				return err
			}
			if dir != "" && made {
				if err := node.Folder(dir).SetTree(tree); err != nil {
					return err
				}
			}
			return cli.Print(c, map[string]any{"tree": tree, "origin": origin}, func(w io.Writer) {
				fmt.Fprintf(w, "tree        %d, of %s\n", tree, origin)
				if dir != "" {
					fmt.Fprintf(w, "next        fabtraild serve --data %s --engine trillian ...\n", dir)
				} else {
					fmt.Fprintf(w, "next        fabtraild serve --engine trillian --tree %d ..., or fabtraild migrate --tree %d ...\n", tree, tree)
				}
			})
		},
	}
	f.add(c.Flags())
	c.Flags().StringVar(&origin, "origin", "", "the log's name")
	c.Flags().StringVar(&dir, "data", "", "a data folder that holds no entries yet: its origin is taken, and its engine set")
	_ = c.MarkFlagDirname("data")
	return c
}

func migrateCmd() *cobra.Command {
	var dir string
	var seen []string
	var f clusterFlags
	c := &cobra.Command{
		Use:   "migrate",
		Short: "Put a ledger into a Trillian cluster: an embedded one, or one whose cluster has lost entries",
		Long: `Move a ledger that is not running from the embedded engine into a tree that
'fabtraild trillian init --origin' has made: every entry goes to its index, and every
root, receipt and published note stays as it is. The data folder remains the
signing node's, and serves reads as before. It may be cut short and run again.

The way back is a backup: 'fabtraild restore' makes an embedded ledger of it.

A ledger that is on a cluster already can be put into a new tree, or back into its own,
when PostgreSQL is lost or has come back from an older backup: the folder of the node
that signed last has all entries. A read replica's folder has those that were
published; it needs the keys. The witnesses are asked first what they saw last, as in
'fabtraild restore': who knows of more than the folder has keeps it from being moved,
since that would be a fork. A ledger without witnesses needs --seen.`,
		Example: `  fabtraild migrate --data ./ledger --trillian 127.0.0.1:8090 --tree 123 --postgres postgres://trillian@127.0.0.1/trillian
  fabtraild migrate --data ./ledger --trillian 127.0.0.1:8090 --tree 456 --postgres postgres://trillian@127.0.0.1/trillian --seen newest.checkpoint`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := f.config()
			if err != nil {
				return err
			}
			if cfg.Tree == 0 {
				return cli.Usagef("which tree? 'fabtraild trillian init' makes one and prints its --tree")
			}
			bar := cli.NewBar(c.ErrOrStderr(), -1, "moving entries")
			m, err := node.Migrate(c.Context(), node.Migration{Folder: node.Folder(dir), Cluster: *cfg, Seen: seen, Log: logger(c),
				Progress: func(done, total uint64) {
					bar.Total(int64(total))
					bar.Set(int64(done))
				}})
			bar.Done()
			if err != nil {
				return refused(err)
			}
			return cli.Print(c, m, func(w io.Writer) {
				fmt.Fprintf(w, "moved       %d entries, root %s, to tree %d; %d published notes\n", m.Size, m.Root, cfg.Tree, m.Notes)
				for _, s := range m.Silent {
					fmt.Fprintln(w, cli.Colour(w, "yellow", "did not count"), s)
				}
				if m.Refilled {
					fmt.Fprintln(w, "make sure that no other node of this ledger signs any more, anywhere")
				}
				fmt.Fprintf(w, "next        fabtraild serve --data %s --engine trillian --tree %d ...\n", dir, cfg.Tree)
			})
		},
	}
	dataFlag(c, &dir, "the ledger's data folder")
	f.add(c.Flags())
	c.Flags().StringArrayVar(&seen, "seen", nil, "file of a checkpoint that somebody holds, for a ledger that was on a cluster; repeatable")
	return c
}
