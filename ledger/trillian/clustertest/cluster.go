// Package clustertest runs a Trillian cluster as processes of this machine, for tests
// and for measuring: PostgreSQL, log server and log signer, on loopback, each on a
// port of its own, each of which can be killed and started again.
package clustertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"fabtrail.dev/fabtrail/internal/freeport"
	"fabtrail.dev/fabtrail/ledger/trillian"
)

// Version of Trillian that the programs are expected to be of.
const Version = "v1.8.0"

// Programs are the paths of what a cluster consists of.
type Programs struct {
	InitDB, Postgres  string
	LogServer, Signer string
	Schema            string // Trillian's storage.sql
}

// Find looks for the programs; the error says what is missing and how to get it.
func Find() (p Programs, err error) {
	var missing []error
	look := func(path *string, name, from string, dirs ...string) {
		for _, d := range dirs {
			if found, _ := filepath.Glob(filepath.Join(d, name)); len(found) > 0 {
				*path = found[len(found)-1]
				return
			}
		}
		if found, err := exec.LookPath(name); err == nil {
			*path = found
			return
		}
		missing = append(missing, fmt.Errorf("%s is missing: %s", name, from))
	}
	const debian = "apt-get install postgresql"
	look(&p.InitDB, "initdb", debian, "/usr/lib/postgresql/*/bin")
	look(&p.Postgres, "postgres", debian, "/usr/lib/postgresql/*/bin")
	bin := filepath.Join(goEnv("GOPATH"), "bin")
	for name, path := range map[string]*string{"trillian_log_server": &p.LogServer, "trillian_log_signer": &p.Signer} {
		look(path, name, "go install -tags=postgresql github.com/google/trillian/cmd/"+name+"@"+Version, bin)
	}
	dir, err := output("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/trillian")
	p.Schema = filepath.Join(dir, "storage", "postgresql", "schema", "storage.sql")
	if err == nil {
		_, err = os.Stat(p.Schema)
	}
	if err != nil {
		missing = append(missing, fmt.Errorf("the schema of Trillian's tables: %w", err))
	}
	return p, errors.Join(missing...)
}

func goEnv(name string) string {
	v, _ := output("go", "env", name)
	return v
}

func output(name string, args ...string) (string, error) {
	b, err := exec.Command(name, args...).Output()
	return strings.TrimSpace(string(b)), err
}

// Need starts a cluster in a new folder. Without the programs it skips the test and
// says what is missing; on CI, where they are installed, that fails it.
func Need(t testing.TB) *Cluster {
	t.Helper()
	p, err := Find()
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	c, err := Start(p, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the cluster's output:\n%s", c.Output(4000))
		}
		c.Close()
	})
	return c
}

// Options of a cluster.
type Options struct {
	Sync     bool          // PostgreSQL waits for the disk, as in operation
	Interval time.Duration // of the signer; 20 ms
	Batch    int           // leaves that the signer integrates at once; 5000
	Args     []string      // more arguments of PostgreSQL
}

// Cluster is a running cluster.
type Cluster struct {
	Postgres, Log, Signer *Process
	Programs              Programs

	dir              string
	data             string // PostgreSQL's
	opt              Options
	pgPort, logPort  int
	logHTTP, sigHTTP int
	sigPort          int
}

// Start makes a database and starts everything.
func Start(p Programs, opt Options) (*Cluster, error) {
	c, err := StartDatabase(p, opt)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(c.Log.Start(), c.Signer.Start()); err != nil {
		err = fmt.Errorf("%w\n%s", err, c.Output(4000))
		c.Close()
		return nil, err
	}
	return c, nil
}

// StartDatabase makes a database with Trillian's tables, and starts nothing else.
func StartDatabase(p Programs, opt Options) (c *Cluster, err error) {
	if opt.Interval == 0 {
		opt.Interval = 20 * time.Millisecond
	}
	if opt.Batch == 0 {
		opt.Batch = 5000
	}
	dir, err := os.MkdirTemp("", "fabtrail-cluster-")
	if err != nil {
		return nil, err
	}
	c = &Cluster{Programs: p, dir: dir, data: filepath.Join(dir, "postgres"), opt: opt}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, c.Output(4000))
			c.Close()
		}
	}()
	for _, port := range []*int{&c.pgPort, &c.logPort, &c.logHTTP, &c.sigPort, &c.sigHTTP} {
		if *port, err = freeport.Get(); err != nil {
			return c, err
		}
	}
	who, err := owner()
	if err != nil {
		return c, err
	}
	if err := os.Mkdir(c.data, 0o700); err != nil {
		return c, err
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return c, err
	}
	if who != nil {
		if err := os.Chown(c.data, int(who.Uid), int(who.Gid)); err != nil {
			return c, err
		}
	}
	initdb := exec.Command(p.InitDB, "-D", c.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.Dir, initdb.SysProcAttr = dir, attr(who)
	if b, err := initdb.CombinedOutput(); err != nil {
		return c, fmt.Errorf("initdb: %w\n%s", err, b)
	}
	c.define(who)
	if err := c.Postgres.Start(); err != nil {
		return c, err
	}
	if err := c.createTables(); err != nil {
		return c, err
	}
	return c, nil
}

// define says how each process is started, and when it is up.
func (c *Cluster) define(who *syscall.Credential) {
	sync := "off"
	if c.opt.Sync {
		sync = "on"
	}
	local := func(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }
	args := append([]string{"-D", c.data, "-p", strconv.Itoa(c.pgPort), "-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories=", "-c", "fsync=" + sync}, c.opt.Args...)
	c.Postgres = &Process{name: "postgres", who: who, dir: c.dir, path: c.Programs.Postgres, args: args, up: func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, c.database("postgres"))
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	}}
	common := func(rpc, http int) []string {
		return []string{"--storage_system=postgresql", "--quota_system=noop", "--postgresql_uri=" + c.URI(),
			"--rpc_endpoint=" + local(rpc), "--http_endpoint=" + local(http)}
	}
	healthy := func(port int) func() error {
		return func() error {
			r, err := (&http.Client{Timeout: time.Second}).Get("http://" + local(port) + "/healthz")
			if err != nil {
				return err
			}
			if r.StatusCode != http.StatusOK {
				err = fmt.Errorf("healthz: %s", r.Status)
			}
			return errors.Join(err, r.Body.Close())
		}
	}
	c.Log = &Process{name: "log server", dir: c.dir, path: c.Programs.LogServer, args: common(c.logPort, c.logHTTP), up: healthy(c.logHTTP)}
	c.Signer = &Process{name: "log signer", dir: c.dir, path: c.Programs.Signer, args: append(common(c.sigPort, c.sigHTTP), "--force_master",
		"--sequencer_interval="+c.opt.Interval.String(), "--batch_size="+strconv.Itoa(c.opt.Batch)), up: healthy(c.sigHTTP)}
}

// TLSServer starts one more log server, which shows a certificate, and returns its
// address and what stops it.
func (c *Cluster) TLSServer(cert, key string) (addr string, stop func(), err error) {
	var rpc, web int
	if rpc, err = freeport.Get(); err == nil {
		web, err = freeport.Get()
	}
	if err != nil {
		return "", nil, err
	}
	addr = "127.0.0.1:" + strconv.Itoa(rpc)
	p := &Process{name: "log server with TLS", dir: c.dir, path: c.Programs.LogServer,
		args: []string{"--storage_system=postgresql", "--quota_system=noop", "--postgresql_uri=" + c.URI(), "--rpc_endpoint=" + addr,
			"--http_endpoint=127.0.0.1:" + strconv.Itoa(web), "--tls_cert_file=" + cert, "--tls_key_file=" + key},
		up: func() error {
			conn, err := net.DialTimeout("tcp", addr, time.Second)
			if err != nil {
				return err
			}
			return conn.Close()
		}}
	return addr, func() { _ = p.Stop(syscall.SIGKILL) }, p.Start()
}

func (c *Cluster) createTables() error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, c.database("postgres"))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE trillian")
	if err = errors.Join(err, conn.Close(ctx)); err != nil {
		return err
	}
	schema, err := os.ReadFile(c.Programs.Schema)
	if err != nil {
		return err
	}
	if conn, err = pgx.Connect(ctx, c.URI()); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, string(schema))
	return errors.Join(err, conn.Close(ctx))
}

func (c *Cluster) database(name string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", c.pgPort, name)
}

// Port is PostgreSQL's.
func (c *Cluster) Port() int { return c.pgPort }

// URI is that of Trillian's database.
func (c *Cluster) URI() string { return c.database("trillian") }

// Addr is the log server's gRPC address.
func (c *Cluster) Addr() string { return "127.0.0.1:" + strconv.Itoa(c.logPort) }

// SignerAddr is the log signer's gRPC address, which is of no use to anybody but by mistake.
func (c *Cluster) SignerAddr() string { return "127.0.0.1:" + strconv.Itoa(c.sigPort) }

// Config is what an engine needs to reach the cluster.
func (c *Cluster) Config(tree int64, origin string) trillian.Config {
	return trillian.Config{Addr: c.Addr(), Postgres: c.URI(), Tree: tree, Origin: origin}
}

// NewTree makes a tree for a log.
func (c *Cluster) NewTree(origin string) (int64, error) {
	return trillian.Init(context.Background(), c.Config(0, origin))
}

// Backup stops PostgreSQL, copies its files, and starts it again.
func (c *Cluster) Backup() (dir string, err error) {
	if err := c.Postgres.Stop(syscall.SIGINT); err != nil {
		return "", err
	}
	dir = c.data + ".backup"
	if b, err := exec.Command("cp", "-a", c.data, dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("cp: %w: %s", err, b)
	}
	return dir, c.Postgres.Start()
}

// Restore stops PostgreSQL, puts a backup in place of its files, and starts it again.
func (c *Cluster) Restore(dir string) error {
	if err := c.Postgres.Stop(syscall.SIGINT); err != nil {
		return err
	}
	if err := os.RemoveAll(c.data); err != nil {
		return err
	}
	if b, err := exec.Command("cp", "-a", dir, c.data).CombinedOutput(); err != nil {
		return fmt.Errorf("cp: %w: %s", err, b)
	}
	return c.Postgres.Start()
}

// Output is the end of what the processes wrote.
func (c *Cluster) Output(n int) string {
	var b strings.Builder
	for _, p := range []*Process{c.Postgres, c.Log, c.Signer} {
		if p == nil {
			continue
		}
		out := p.out.Bytes()
		fmt.Fprintf(&b, "--- %s\n%s\n", p.name, bytes.TrimSpace(out[max(0, len(out)-n):]))
	}
	return b.String()
}

// Close stops everything and deletes the folder.
func (c *Cluster) Close() {
	for _, p := range []*Process{c.Signer, c.Log, c.Postgres} {
		if p != nil {
			_ = p.Stop(syscall.SIGKILL)
		}
	}
	// The backends of a killed PostgreSQL may write for another moment.
	for range 50 {
		if os.RemoveAll(c.dir) == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// owner is whom PostgreSQL runs as: nobody's superuser; nil for ourselves.
func owner() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root: %w", err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err1, err2)
}

func attr(who *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: who, Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// DropLocks ends the sessions of those who hold advisory locks, the signing nodes, as
// PostgreSQL does with peers that have vanished.
func (c *Cluster) DropLocks() error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, c.URI())
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
	return errors.Join(err, conn.Close(ctx))
}

// Leaves is the number of leaves in all trees.
func (c *Cluster) Leaves() (n uint64, err error) { return c.count("SequencedLeafData") }

// Trees is the number of trees.
func (c *Cluster) Trees() (n uint64, err error) { return c.count("Trees") }

func (c *Cluster) count(table string) (n uint64, err error) {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, c.URI())
	if err != nil {
		return 0, err
	}
	err = conn.QueryRow(ctx, "SELECT count(*) FROM "+table).Scan(&n)
	return n, errors.Join(err, conn.Close(ctx))
}

// Release makes a tree one that no node of ours signs, so that anybody may add leaves.
func (c *Cluster) Release(tree int64) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, c.URI())
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "DELETE FROM fabtrail.signer WHERE tree_id = $1", tree)
	return errors.Join(err, conn.Close(ctx))
}
