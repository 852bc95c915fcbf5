package bench

import (
	"crypto/ed25519"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/procs"
)

// checks measures ed25519 checks of statements on all cores for a while: their
// rate by the clock, and the processor time of one.
func checks(sample []signed, d time.Duration) (perS float64, each time.Duration) {
	messages := make([][]byte, len(sample))
	for i, s := range sample {
		messages[i] = custody.PAE(s.payload)
	}
	var done atomic.Int64
	var wg sync.WaitGroup
	start, used := time.Now(), cpu()
	end := start.Add(d)
	for p := range procs.Count() {
		wg.Go(func() {
			n := 0
			for i := p; time.Now().Before(end); i++ {
				s := sample[i%len(sample)]
				if !ed25519.Verify(s.key, messages[i%len(sample)], s.sig) {
					panic("bench: a signature of its own does not verify")
				}
				n++
			}
			done.Add(int64(n))
		})
	}
	wg.Wait()
	n := float64(done.Load())
	return n / time.Since(start).Seconds(), time.Duration(float64(cpu()-used) / n)
}

// fsync is the median time of writing and syncing 4 KiB in a folder.
func fsync(dir string) (time.Duration, error) {
	f, err := os.CreateTemp(dir, "fsync-")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block := make([]byte, 4096)
	times := make([]time.Duration, 64)
	for i := range times {
		start := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		times[i] = time.Since(start)
	}
	return quantile(times, 0.5), nil
}

// quantile sorts ds.
func quantile(ds []time.Duration, q float64) time.Duration {
	if len(ds) == 0 {
		return 0
	}
	slices.Sort(ds)
	return ds[min(int(q*float64(len(ds))), len(ds)-1)]
}

func ms(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
func us(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// diskUse is the size of all files below dir.
func diskUse(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	return n, err
}

// resident is the memory that the process holds, in MiB, after what is free has
// been given back; 0 where the system does not say.
func resident() float64 {
	debug.FreeOSMemory()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			kb, _ := strconv.Atoi(f[1])
			return float64(kb) / 1024
		}
	}
	return 0
}

// jiffies are what the processors of this machine have done since it started, as
// /proc/stat (proc(5)) counts it; zero where there is no such file.
type jiffies struct{ all, idle uint64 }

// jiffiesPerS is how the kernel counts for programs, on all architectures that Go has.
const jiffiesPerS = 100

func processors() jiffies {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return jiffies{}
	}
	return parseStat(string(b))
}

func parseStat(stat string) (j jiffies) {
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return jiffies{}
	}
	for i, s := range fields[1:9] { // user nice system idle iowait irq softirq steal
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return jiffies{}
		}
		j.all += n
		if i == 3 || i == 4 {
			j.idle += n
		}
	}
	return j
}

// others is the share of the time since from that neither this process, which used so
// much, nor nobody had; -1 if that is not known.
func (j jiffies) others(from jiffies, used time.Duration) float64 {
	if from.all == 0 || j.all <= from.all || used <= 0 {
		return -1
	}
	all, idle := float64(j.all-from.all), float64(j.idle-from.idle)
	return max(0, (all-idle-used.Seconds()*jiffiesPerS)/all)
}
