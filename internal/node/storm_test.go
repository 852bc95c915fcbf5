package node

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/procs"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// stormWorld is what the clients know: where the ledger is, and who they are.
type stormWorld struct {
	Addr   string
	Ledger entry.Hash
	Names  []string // of the parties
	Tokens []string
	Keys   [][]byte // PKCS #8
}

// stormOrder is one phase.
type stormOrder struct {
	For     time.Duration
	Clients []int // by party: each posts its next statement as soon as the one before is answered
	Hasty   bool  // they come again at once when refused, not when Retry-After says
	Idle    int   // sockets that say nothing, held open meanwhile
	Greedy  int   // latencies of this party's statements do not count; -1: all do
}

// stormTally is what came of it.
type stormTally struct {
	Accepted    []int64 // by party, in the time of the order
	Late        int64   // accepted, but after that: they had been told to wait, or were on their way
	Refused     int64   // with 429 or 503
	Bare, Other int64   // refused without Retry-After; other answers, or none
	P50, P99    time.Duration
	CPU         time.Duration // of the clients' process
	Idle        int           // sockets that could be opened
}

// storm is the process of the clients: they share the machine with the ledger, not its
// memory nor its processor time.
type storm struct {
	t   *testing.T
	in  *json.Encoder
	out *json.Decoder
}

func startStorm(t *testing.T, w stormWorld) *storm {
	t.Helper()
	ours, theirs := splitCores(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestStormProcess$")
	if theirs != "" {
		if out, err := exec.Command("taskset", "-acp", ours, strconv.Itoa(os.Getpid())).CombinedOutput(); err != nil {
			t.Fatalf("taskset: %v: %s", err, out)
		}
		runtime.GOMAXPROCS(runtime.NumCPU() / 2)
		procs.Spare(2) // as the program does
		cmd = exec.Command("taskset", append([]string{"-c", theirs}, cmd.Args...)...)
	}
	cmd.Env = append(os.Environ(), "FABTRAIL_STORM=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	s := &storm{t, json.NewEncoder(in), json.NewDecoder(out)}
	if err := s.in.Encode(w); err != nil {
		t.Fatal(err)
	}
	return s
}

// splitCores says which processors the ledger has and which the clients, as taskset knows
// them: clients are other people's machines, and must not take the ledger's. Without
// taskset both have all.
func splitCores(t *testing.T) (ours, theirs string) {
	n := runtime.NumCPU()
	if _, err := exec.LookPath("taskset"); err != nil || n < 2 {
		t.Log("clients and ledger share the processors")
		return "", ""
	}
	t.Logf("the ledger has %d of %d processors, the clients the others", n/2, n)
	return fmt.Sprintf("0-%d", n/2-1), fmt.Sprintf("%d-%d", n/2, n-1)
}

// run gives an order, calls begun when the clients have begun, and returns what came of it.
func (s *storm) run(o stormOrder, begun func()) stormTally {
	s.t.Helper()
	var ready bool
	var got stormTally
	if err := s.in.Encode(o); err != nil {
		s.t.Fatal(err)
	}
	if err := s.out.Decode(&ready); err != nil {
		s.t.Fatal(err)
	}
	begun()
	if err := s.out.Decode(&got); err != nil {
		s.t.Fatal(err)
	}
	return got
}

// TestStormProcess is the process of the clients, when it is started as that.
func TestStormProcess(t *testing.T) {
	if os.Getenv("FABTRAIL_STORM") == "" {
		t.Skip("is started by the overload campaign")
	}
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	c := &stormClients{}
	if err := in.Decode(&c.stormWorld); err != nil {
		t.Fatal(err)
	}
	for _, k := range c.Keys {
		key, err := x509.ParsePKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		c.signers = append(c.signers, key.(crypto.Signer))
	}
	for {
		var o stormOrder
		switch err := in.Decode(&o); {
		case err == io.EOF:
			os.Exit(0) // and say nothing more to whoever reads
		case err != nil:
			t.Fatal(err)
		}
		idle := c.holdOpen(o.Idle)
		if err := out.Encode(true); err != nil {
			t.Fatal(err)
		}
		tally := c.run(o)
		tally.Idle = len(idle)
		for _, s := range idle {
			s.Close()
		}
		if err := out.Encode(tally); err != nil {
			t.Fatal(err)
		}
	}
}

type stormClients struct {
	stormWorld
	signers []crypto.Signer

	mu    sync.Mutex
	n     int // units so far
	tally stormTally
	took  []time.Duration
}

func (c *stormClients) run(o stormOrder) stormTally {
	c.tally, c.took = stormTally{Accepted: make([]int64, len(c.Names))}, nil
	start, cpu := time.Now(), processorTime()
	var all sync.WaitGroup
	for party, n := range o.Clients {
		for range n {
			all.Go(func() { c.client(party, o, start.Add(o.For)) })
		}
	}
	all.Wait()
	c.tally.CPU = processorTime() - cpu
	if slices.Sort(c.took); len(c.took) > 0 {
		c.tally.P50, c.tally.P99 = c.took[len(c.took)/2], c.took[len(c.took)*99/100]
	}
	return c.tally
}

// holdOpen opens sockets that say nothing, as many as the system allows.
func (c *stormClients) holdOpen(n int) (open []net.Conn) {
	for range n {
		s, err := net.Dial("tcp", c.Addr)
		if err != nil {
			break
		}
		open = append(open, s)
	}
	return open
}

// client posts for one party until the end, over one connection while that lasts.
func (c *stormClients) client(party int, o stormOrder, end time.Time) {
	var conn net.Conn
	var from *bufio.Reader
	for time.Now().Before(end) {
		request := c.next(party)
		for done := false; !done && time.Now().Before(end); {
			var err error
			if conn == nil {
				if conn, err = net.Dial("tcp", c.Addr); err != nil {
					c.count(func(t *stormTally) { t.Other++ })
					time.Sleep(100 * time.Millisecond)
					continue
				}
				from = bufio.NewReader(conn)
			}
			var again time.Duration
			start := time.Now()
			done, again, err = c.post(conn, from, party, request, end)
			if err != nil {
				conn.Close()
				conn = nil
			}
			if done {
				c.mu.Lock()
				if party != o.Greedy {
					c.took = append(c.took, time.Since(start))
				}
				c.mu.Unlock()
			} else if !o.Hasty && again > 0 {
				// As the client package does: with jitter, or all come back together.
				time.Sleep(min(again+rand.N(again/4+1), max(time.Until(end), 0)))
			}
		}
	}
	if conn != nil {
		conn.Close()
	}
}

// post posts once; done says that the statement is recorded, again how long the ledger
// wants to be left alone. An error ends the connection.
func (c *stormClients) post(conn net.Conn, from *bufio.Reader, party int, request []byte, end time.Time) (done bool, again time.Duration, err error) {
	if err = conn.SetDeadline(end.Add(30 * time.Second)); err == nil {
		_, err = conn.Write(request)
	}
	var resp *http.Response
	if err == nil {
		resp, err = http.ReadResponse(from, nil)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	if err != nil {
		c.count(func(t *stormTally) { t.Other++ })
		return false, 0, err
	}
	if resp.Close {
		err = io.EOF
	}
	switch resp.StatusCode {
	case http.StatusCreated, http.StatusOK:
		late := !time.Now().Before(end)
		c.count(func(t *stormTally) {
			if late {
				t.Late++
			} else {
				t.Accepted[party]++
			}
		})
		return true, 0, err
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		s, bad := strconv.Atoi(resp.Header.Get("Retry-After"))
		c.count(func(t *stormTally) {
			t.Refused++
			if bad != nil {
				t.Bare++
			}
		})
		return false, time.Duration(s) * time.Second, err
	}
	c.count(func(t *stormTally) { t.Other++ })
	return true, 0, err
}

func (c *stormClients) count(f func(*stormTally)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.tally)
}

// next is the request that posts a party's next statement.
func (c *stormClients) next(party int) []byte {
	c.mu.Lock()
	c.n++
	u := unit(c.n)
	c.mu.Unlock()
	now := time.Now()
	ev := &custody.Event{EventID: custody.NewEventID(now, nil), OccurredAt: custody.FormatTime(now.Truncate(time.Second)),
		Actor: c.Names[party], Role: "maker", Chain: custody.First()}
	p, err := custody.NewPayload(custody.KindCommission, u, c.Ledger, ev, &custody.Commission{UnitKind: "device"})
	if err != nil {
		panic(err)
	}
	b, err := custody.Sign(p, c.signers[party])
	if err != nil {
		panic(err)
	}
	var r bytes.Buffer
	fmt.Fprintf(&r, "POST /v1/statements HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", c.Tokens[party], len(b))
	r.Write(b)
	return r.Bytes()
}
