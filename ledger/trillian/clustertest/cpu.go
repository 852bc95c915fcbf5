package clustertest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// CPU is the processor time that the parts of a cluster have used since they were started.
type CPU struct{ Postgres, Log, Signer time.Duration }

// Minus is what was used since before.
func (c CPU) Minus(before CPU) CPU {
	return CPU{c.Postgres - before.Postgres, c.Log - before.Log, c.Signer - before.Signer}
}

// clockTick is what /proc counts processor time in, on all of Go's Linux ports.
const clockTick = 10 * time.Millisecond

// CPU reads the processor time of the cluster's processes from /proc. It is
// that of processes that run, and of children of PostgreSQL that have ended.
func (c *Cluster) CPU() (u CPU, err error) {
	for p, to := range map[*Process]*time.Duration{c.Log: &u.Log, c.Signer: &u.Signer, c.Postgres: &u.Postgres} {
		if _, *to, err = used(strconv.Itoa(p.cmd.Process.Pid)); err != nil {
			return u, err
		}
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	for _, s := range stats {
		parent, t, err := used(filepath.Base(filepath.Dir(s)))
		if err == nil && parent == c.Postgres.cmd.Process.Pid { // else it has ended meanwhile
			u.Postgres += t
		}
	}
	return u, err
}

// used reads /proc/PID/stat: the parent, and the time of the process and of its children
// that have ended.
func used(pid string) (parent int, t time.Duration, err error) {
	b, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return 0, 0, err
	}
	_, rest, _ := strings.Cut(string(b), ") ") // what is before may hold anything
	f := strings.Fields(rest)
	if len(f) < 15 {
		return 0, 0, fmt.Errorf("/proc/%s/stat has %d fields", pid, len(f))
	}
	if parent, err = strconv.Atoi(f[1]); err != nil {
		return 0, 0, err
	}
	for _, k := range []int{11, 12, 13, 14} { // utime, stime, cutime, cstime
		n, err := strconv.ParseInt(f[k], 10, 64)
		if err != nil {
			return 0, 0, err
		}
		t += time.Duration(n) * clockTick
	}
	return parent, t, nil
}
