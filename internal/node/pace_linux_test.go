package node

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// threadTime is what the calling goroutine's thread has used so far; the goroutine must be
// locked to it.
func threadTime() time.Duration {
	const ofThread = 3 // CLOCK_THREAD_CPUTIME_ID; getrusage is as of the last tick only
	var ts syscall.Timespec
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, ofThread, uintptr(unsafe.Pointer(&ts)), 0); errno != 0 {
		panic(errno)
	}
	return time.Duration(ts.Nano())
}

// stolenTime is what other guests of the host have taken so far from the first n processors.
func stolenTime(n int) (took time.Duration) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		panic(err)
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 everywhere
	for line := range bytes.Lines(b) {
		f := strings.Fields(string(line))
		if cpu, err := strconv.Atoi(strings.TrimPrefix(f[0], "cpu")); err != nil || cpu >= n || len(f) < 9 {
			continue
		}
		ticks, err := strconv.Atoi(f[8])
		if err != nil {
			panic(err)
		}
		took += time.Duration(ticks) * tick
	}
	return took
}
