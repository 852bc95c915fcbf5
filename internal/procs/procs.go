// Package procs tells the processors that there are from those that the runtime is told of.
package procs

import (
	"os"
	"runtime"
	"sync/atomic"
)

// spare is how many the runtime is told of beyond those that there are.
var spare atomic.Int64

// Spare tells the runtime of n processors more than there are, unless the user set
// GOMAXPROCS. A thread that waits for the disk keeps its processor until the runtime
// notices, which takes longer than most syncs: on two processors a ledger that syncs two
// files at once would stand still for as long.
func Spare(n int) {
	if os.Getenv("GOMAXPROCS") != "" {
		return
	}
	spare.Add(int64(n))
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + n)
}

// Count is how many processors there are for the program.
func Count() int { return max(1, runtime.GOMAXPROCS(0)-int(spare.Load())) }
