package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/internal/freeport"
	"fabtrail.dev/fabtrail/ledger/trillian/clustertest"
)

// repository is the root of the repository, where compose file and Dockerfile are.
const repository = "../.."

// composition is docker-compose.yml, as far as it is used; other keys are errors.
type composition struct {
	Name     string
	Common   any `yaml:"x-fabtraild"`
	Services map[string]composeService
	Volumes  map[string]any
}

type composeService struct {
	Build           any // "." or a stage of the Dockerfile there
	Image, Restart  string
	Profiles, Tmpfs []string
	Entrypoint      []string
	Environment     map[string]string
	ReadOnly        bool     `yaml:"read_only"`
	CapDrop         []string `yaml:"cap_drop"`
	SecurityOpt     []string `yaml:"security_opt"`
	Command         []string
	Volumes, Ports  []string
	DependsOn       map[string]struct{ Condition string } `yaml:"depends_on"`
	Healthcheck     *composeHealth
}

type composeHealth struct {
	Test              []string
	Interval, Timeout time.Duration
	Retries           int
}

// composeMount is one volume in a container.
type composeMount struct {
	volume, at string
	readOnly   bool
}

func (s composeService) mounts(t *testing.T) (ms []composeMount) {
	t.Helper()
	for _, v := range s.Volumes {
		parts := strings.Split(v, ":")
		if len(parts) < 2 || len(parts) > 3 || len(parts) == 3 && parts[2] != "ro" {
			t.Fatalf("volume %q", v)
		}
		ms = append(ms, composeMount{parts[0], parts[1], len(parts) == 3})
	}
	return ms
}

// builds reports whether the service's image is built here: the whole Dockerfile, or
// one of its stages.
func (s composeService) builds(d dockerfile) bool {
	m, ok := s.Build.(map[string]any)
	if !ok {
		return s.Build == "."
	}
	return m["context"] == "." && slices.ContainsFunc(d.stages, func(b buildStage) bool { return b.name == m["target"] })
}

func readComposition(t *testing.T) composition {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(repository, "docker-compose.yml"))
	if err != nil {
		t.Fatal(err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	var c composition
	if err := dec.Decode(&c); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestCompositionIsTight checks what the processes below cannot show: what each
// container may do and see.
func TestCompositionIsTight(t *testing.T) {
	c := readComposition(t)
	stages := readDockerfile(t)
	used := map[string]bool{}
	owners := map[string][]string{} // by volume, who may write it
	for name, s := range c.Services {
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") || !s.builds(stages) {
			t.Errorf("%s lacks what x-fabtraild has", name)
		}
		for _, p := range s.Ports {
			if !strings.HasPrefix(p, "127.0.0.1:") {
				t.Errorf("%s publishes %s to the network, without TLS", name, p)
			}
		}
		for _, m := range s.mounts(t) {
			if _, ok := c.Volumes[m.volume]; !ok {
				t.Errorf("%s mounts %s, which is not declared", name, m.volume)
			}
			used[m.volume] = true
			if !m.readOnly {
				owners[m.volume] = append(owners[m.volume], name)
			}
		}
		for d, how := range s.DependsOn {
			on, ok := c.Services[d]
			switch {
			case !ok:
				t.Errorf("%s depends on %s, which is not there", name, d)
			case how.Condition == "service_healthy" && on.Healthcheck == nil:
				t.Errorf("%s waits for the health of %s, which has no health check", name, d)
			case how.Condition == "service_completed_successfully" && on.Restart != "no":
				t.Errorf("%s waits for the end of %s, which is restarted", name, d)
			}
		}
	}
	for v := range c.Volumes {
		if !used[v] {
			t.Errorf("volume %s is not used", v)
		}
		for _, o := range owners[v] {
			if strings.HasPrefix(v, "witness") && !strings.HasPrefix(v, o) {
				t.Errorf("%s may write %s", o, v)
			}
		}
	}
}

// TestClusterCommand: the command that the page on operations gives for a cluster is the
// one in docker-compose.yml, and what it starts needs each port once.
func TestClusterCommand(t *testing.T) {
	c := readComposition(t)
	const begins = "docker compose --profile cluster up "
	b, err := os.ReadFile(filepath.Join(repository, "docker-compose.yml"))
	page, perr := os.ReadFile(filepath.Join(repository, "docs/operations.md"))
	if err != nil || perr != nil {
		t.Fatal(err, perr)
	}
	_, names, _ := strings.Cut(string(b), begins)
	names, _, _ = strings.Cut(names, "\n")
	if names == "" || !strings.Contains(string(page), "\n$ "+begins+names+"\n") {
		t.Errorf("docker-compose.yml has the command %q, and the page on operations another", begins+names)
	}
	up, ports := map[string]bool{}, map[string]string{}
	var start func(name string)
	start = func(name string) {
		if up[name] {
			return
		}
		up[name] = true
		s, ok := c.Services[name]
		if !ok {
			t.Errorf("%s is not there", name)
		}
		for d := range s.DependsOn {
			start(d)
		}
		for _, p := range s.Ports {
			if other := ports[p]; other != "" {
				t.Errorf("%s and %s both want %s", name, other, p)
			}
			ports[p] = name
		}
	}
	for _, name := range strings.Fields(names) {
		start(name)
	}
	for name, s := range c.Services {
		if slices.Contains(s.Profiles, "cluster") && !up[name] {
			t.Errorf("%s is not started", name)
		}
	}
}

// TestContainers checks the Dockerfile, builds what it builds, and runs
// docker-compose.yml as processes.
func TestContainers(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds what it runs; a race detector would not see that")
	}
	image := buildImage(t)
	servers := buildTrillian(t)
	t.Run("dockerfile", func(t *testing.T) { checkDockerfile(t, image); checkTrillian(t, servers) })
	t.Run("composition", func(t *testing.T) { runComposition(t, image, "", "", "") })
	t.Run("cluster", func(t *testing.T) {
		if _, err := clustertest.Find(); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
		runComposition(t, image, servers, "cluster", "cluster-", "replica-a", "replica-b")
	})
}

// stack runs a composition as processes: volumes are folders, and a container's
// address is a port of this machine.
type stack struct {
	composition
	t        *testing.T
	image    string // "": this test's own binary stands for it
	servers  string // folder of Trillian's servers and tables; "": those of this machine stand for them
	volumes  string
	ports    map[string]int // of this machine, for port 8080 of a service
	others   map[string]int // the same, by "service:port"
	programs clustertest.Programs
	database *clustertest.Cluster // stands for the service postgres
	running  map[string]*container
}

// container is a running service. ended is closed when it is.
type container struct {
	cmd   *exec.Cmd
	log   bytes.Buffer
	ended chan struct{}
	err   error
}

// newStack prepares the services of a profile; "" is those without any.
func newStack(t *testing.T, image, profile string) *stack {
	t.Helper()
	s := &stack{composition: readComposition(t), t: t, image: image, volumes: t.TempDir(), ports: map[string]int{}, others: map[string]int{}, running: map[string]*container{}}
	maps.DeleteFunc(s.Services, func(_ string, svc composeService) bool { return strings.Join(svc.Profiles, " ") != profile })
	for v := range s.Volumes {
		if err := os.Mkdir(filepath.Join(s.volumes, v), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, svc := range s.Services {
		s.ports[name] = freePort(t)
		for _, outer := range svc.mounts(t) {
			for _, inner := range svc.mounts(t) {
				if rel, ok := strings.CutPrefix(inner.at, outer.at+"/"); ok {
					s.nest(outer.volume, rel, inner.volume)
				}
			}
		}
	}
	t.Cleanup(func() {
		for _, c := range s.running {
			_ = c.cmd.Process.Kill()
			<-c.ended
		}
	})
	return s
}

// nest makes a volume appear within another one.
func (s *stack) nest(outer, rel, inner string) {
	s.t.Helper()
	link, target := filepath.Join(s.volumes, outer, rel), filepath.Join(s.volumes, inner)
	if err := os.Symlink(target, link); err != nil && !errors.Is(err, fs.ErrExist) {
		s.t.Fatal(err)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	p, err := freeport.Get()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// endpoint is where a service listens, as others name it or itself does.
var endpoint = regexp.MustCompile(`(^|://|@|=)([a-z0-9.-]+):(5432|8080|8090|8091)\b`)

// port is the port of this machine that stands for one of a service.
func (s *stack) port(name, port string) int {
	switch {
	case port == "8080":
		return s.ports[name]
	case name == "postgres":
		return s.database.Port()
	case s.others[name+":"+port] == 0:
		s.others[name+":"+port] = freePort(s.t)
	}
	return s.others[name+":"+port]
}

// startDatabase runs the command of the service postgres as the image's entry point
// would: after making the database with the tables that the image brings.
func (s *stack) startDatabase(svc composeService) {
	s.t.Helper()
	if svc.Command[0] != "postgres" || svc.Environment["POSTGRES_DB"] != "trillian" {
		s.t.Fatalf("postgres: %v %v", svc.Command, svc.Environment)
	}
	var err error
	if s.programs, err = clustertest.Find(); err == nil {
		if s.servers != "" {
			p := &s.programs
			p.LogServer, p.Signer = filepath.Join(s.servers, "trillian_log_server"), filepath.Join(s.servers, "trillian_log_signer")
			p.Schema = filepath.Join(s.servers, "storage.sql")
		}
		s.database, err = clustertest.StartDatabase(s.programs, clustertest.Options{Args: svc.Command[1:]})
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(s.database.Close)
}

// host translates an argument from the container's world to this machine's.
func (s *stack) host(name, arg string) string {
	svc := s.Services[name]
	arg = endpoint.ReplaceAllStringFunc(arg, func(at string) string {
		m := endpoint.FindStringSubmatch(at)
		if m[2] == "0.0.0.0" || m[2] == "127.0.0.1" {
			m[2] = name
		}
		if _, ok := s.Services[m[2]]; !ok {
			return at
		}
		return fmt.Sprintf("%s127.0.0.1:%d", m[1], s.port(m[2], m[3]))
	})
	ms := svc.mounts(s.t)
	slices.SortFunc(ms, func(a, b composeMount) int { return len(b.at) - len(a.at) })
	head, path := "", arg
	if i := strings.LastIndex(arg, "="); i >= 0 {
		head, path = arg[:i+1], arg[i+1:]
	}
	for _, m := range ms {
		if rest, ok := strings.CutPrefix(path, m.at); ok && (rest == "" || rest[0] == '/') {
			return head + filepath.Join(s.volumes, m.volume) + rest
		}
	}
	return arg
}

func (s *stack) command(name string, args []string) *exec.Cmd {
	for i, a := range args {
		args[i] = s.host(name, a)
	}
	if entry := s.Services[name].Entrypoint; len(entry) > 0 && strings.HasPrefix(args[0], "--") {
		program := map[string]string{"trillian_log_server": s.programs.LogServer, "trillian_log_signer": s.programs.Signer}[filepath.Base(entry[0])]
		return exec.Command(program, args...)
	}
	if s.image == "" {
		return command(s.t, args...)
	}
	return exec.Command(filepath.Join(s.image, "fabtraild"), args...)
}

// up starts services in the order that depends_on asks for.
func (s *stack) up(ctx context.Context) {
	s.t.Helper()
	done := map[string]bool{}
	var start func(name string)
	start = func(name string) {
		if done[name] {
			return
		}
		done[name] = true
		svc := s.Services[name]
		for _, d := range slices.Sorted(maps.Keys(svc.DependsOn)) {
			start(d)
			switch how := svc.DependsOn[d].Condition; how {
			case "service_completed_successfully":
				s.completed(ctx, d)
			case "service_healthy":
				s.healthy(ctx, d)
			default:
				s.t.Fatalf("%s waits for %s in a way that this test does not know: %q", name, d, how)
			}
		}
		if name == "postgres" {
			if s.database == nil { // the database outlives a restart of the others
				s.startDatabase(svc)
			}
			return
		}
		c := &container{cmd: s.command(name, slices.Clone(svc.Command)), ended: make(chan struct{})}
		c.cmd.Stdout, c.cmd.Stderr = &c.log, &c.log
		if err := c.cmd.Start(); err != nil {
			s.t.Fatal(err)
		}
		s.running[name] = c
		go func() {
			c.err = c.cmd.Wait()
			close(c.ended)
		}()
	}
	for _, name := range slices.Sorted(maps.Keys(s.Services)) {
		start(name)
	}
}

// completed waits until a service has ended well.
func (s *stack) completed(ctx context.Context, name string) {
	s.t.Helper()
	c := s.running[name]
	select {
	case <-ctx.Done():
		s.t.Fatalf("%s does not end", name)
	case <-c.ended:
	}
	if c.err != nil {
		s.t.Fatalf("%s: %v\n%s", name, c.err, c.log.String())
	}
}

// healthy runs a service's health check until it passes.
func (s *stack) healthy(ctx context.Context, name string) {
	s.t.Helper()
	h := s.Services[name].Healthcheck
	if name == "postgres" { // StartDatabase has waited for it
		if len(h.Test) < 2 || h.Test[1] != "pg_isready" {
			s.t.Fatalf("postgres: health check %v", h.Test)
		}
		return
	}
	if len(h.Test) < 2 || h.Test[0] != "CMD" || h.Test[1] != "/usr/local/bin/fabtraild" {
		s.t.Fatalf("%s: health check %v", name, h.Test)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(h.Retries)*h.Interval)
	defer cancel()
	c := s.running[name]
	for {
		cmd := s.command(name, slices.Clone(h.Test[2:]))
		out, err := cmd.CombinedOutput()
		if err == nil {
			return
		}
		select {
		case <-c.ended:
			s.t.Fatalf("%s has ended: %v\n%s", name, c.err, c.log.String())
		case <-ctx.Done():
			<-s.kill(name)
			s.t.Fatalf("%s is not healthy: %s\n%s", name, out, c.log.String())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (s *stack) kill(name string) <-chan struct{} {
	_ = s.running[name].cmd.Process.Kill()
	return s.running[name].ended
}

// down ends all services as `docker compose stop` does; each must end well.
func (s *stack) down(ctx context.Context) {
	s.t.Helper()
	var servers []string // of Trillian: they take seconds to end, so they end together, and last
	end := func(name string) {
		s.t.Helper()
		if err := s.running[name].cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			s.t.Fatal(err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.running)) {
		if strings.HasPrefix(name, "trillian") {
			servers = append(servers, name)
			continue
		}
		end(name)
		s.completed(ctx, name)
		delete(s.running, name)
	}
	for _, name := range servers {
		end(name)
	}
	for _, name := range servers {
		s.completed(ctx, name)
		delete(s.running, name)
	}
}

// cosigned waits for a published checkpoint that an index-verifying cosigner
// stands behind too, and verifies it under the ledger's trust folder.
func (s *stack) cosigned(ctx context.Context, prefix, ledger string) *client.Seen {
	s.t.Helper()
	trust, err := client.LoadTrust(os.DirFS(filepath.Join(s.volumes, prefix+"trust")))
	if err != nil {
		s.t.Fatal(err)
	}
	url := fmt.Sprintf("http://127.0.0.1:%d/checkpoint", s.ports[ledger])
	for {
		note, err := get(ctx, url)
		if err != nil {
			s.t.Fatal(err)
		}
		seen, err := trust.VerifyNote(note)
		if err != nil {
			s.t.Fatalf("%v\n%s", err, note)
		}
		if len(seen.Index) > 0 {
			return seen
		}
		select {
		case <-ctx.Done():
			w := prefix + "witness-index"
			<-s.kill(ledger)
			<-s.kill(w)
			s.t.Fatalf("no index witness cosigns:\n%s\n%s: %s\n%s: %s", note, ledger, s.running[ledger].log.String(), w, s.running[w].log.String())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %s", url, resp.Status, b.String())
	}
	return b.Bytes(), nil
}
