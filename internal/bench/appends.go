package bench

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fabtrail.dev/fabtrail/internal/node"
)

// batchLines is how many statements a call brings with Config.Batch.
const batchLines = 64

// loneAppends is how many statements are appended with nothing else on its way.
const loneAppends = 100

// Numbers of units, each for one use.
const (
	firstLone = 500_000_000
	firstLife = 600_000_000
)

// appends measures appends, and what else is measured on a running ledger.
func (b *bench) appends() error {
	rng := rand.NewChaCha8(sha256.Sum256([]byte("bench")))
	lives := make([][]signed, lifeUnits)
	for i := range lives {
		var err error
		if lives[i], err = b.world.life(rng, firstLife+uint64(i)); err != nil {
			return err
		}
	}
	lone, err := b.world.pairs(firstLone, loneAppends/2, func(uint64, uint64) {})
	if err != nil {
		return err
	}
	b.cfg.Progress("checking signatures", 0, 0)
	sample, err := b.world.pairs(firstLone+loneAppends, 1024, func(uint64, uint64) {})
	if err != nil {
		return err
	}
	var flat []signed
	for _, p := range sample {
		flat = append(flat, p[:]...)
	}
	var checkCPU [2]time.Duration
	b.res.LBefore, checkCPU[0] = checks(flat, b.checkTime())
	pairs, err := b.world.pairs(0, b.pairs(), func(done, total uint64) { b.cfg.Progress("signing statements", done, total) })
	if err != nil {
		return err
	}
	for i := range pairs { // only what is sent is kept: the memory measured is to be the ledger's
		for k := range pairs[i] {
			pairs[i][k] = signed{envelope: pairs[i][k].envelope}
		}
	}
	before, err := diskUse(string(b.folder))
	if err != nil {
		return err
	}
	err = b.open(func(n *node.Node) error {
		b.res.LogBefore = n.Ledger().Published().Size()
		if err := n.Ledger().Settle(b.ctx); err != nil { // what the start left to do is measured by itself
			return err
		}
		if err := b.lone(n, lone); err != nil {
			return err
		}
		if err := b.run(n, pairs); err != nil {
			return err
		}
		pairs = nil
		b.cfg.Progress("checking signatures", 0, 0)
		b.res.LAfter, checkCPU[1] = checks(flat, b.checkTime())
		b.res.L = max(b.res.LBefore, b.res.LAfter)
		b.res.CheckCPU = us(min(checkCPU[0], checkCPU[1]))
		b.res.Ratio = b.res.AppendsPerS / b.res.L
		b.res.RSS = resident()
		return errors.Join(b.inclusion(n), b.answers(n, lives), n.Ledger().Settle(b.ctx))
	})
	if err != nil {
		return err
	}
	after, err := diskUse(string(b.folder))
	added := b.res.Appends + loneAppends + 10*lifeUnits
	if b.cfg.Log > 0 { // a long log: all that there is, over all entries
		before, added = 0, added+int(b.res.LogBefore)
	}
	// Compaction of what filled the index can outweigh a few entries: 0 then.
	b.res.BytesPerEntry = float64(max(after-before, 0)) / float64(added)
	return err
}

// checkTime is how long L is measured, before and after.
func (b *bench) checkTime() time.Duration { return min(b.cfg.Time/4, time.Second) }

// pairs is how many pairs of statements to make.
func (b *bench) pairs() int {
	n := b.cfg.Entries
	if n == 0 {
		share := 0.5 // of L: what is wanted of single checks; slower machines take longer
		if b.cfg.Batch {
			share = 0.7
		}
		n = int(b.res.LBefore * share * b.cfg.Time.Seconds())
	}
	return max((n+1)/2, batchLines)
}

// submit appends statements and holds every answer to what an append must be.
func (b *bench) submit(n *node.Node, lines ...[]byte) error {
	for _, r := range n.Submit(b.ctx, admin, lines) {
		if r.Err != nil {
			return r.Err
		}
		if r.Repeat || r.Pending || len(r.Receipt) == 0 || r.Effect != "applied" && r.Effect != "noted" {
			return fmt.Errorf("entry %d: repeat %t, pending %t, effect %q", r.Index, r.Repeat, r.Pending, r.Effect)
		}
	}
	return nil
}

// lone measures appends with nothing else on its way.
func (b *bench) lone(n *node.Node, pairs [][2]signed) error {
	b.cfg.Progress("lone appends", 0, 0)
	d, err := fsync(string(b.folder))
	if err != nil {
		return err
	}
	b.res.Fsync = us(d)
	var times []time.Duration
	for _, p := range pairs {
		for _, s := range p {
			start := time.Now()
			if err := b.submit(n, s.envelope); err != nil {
				return err
			}
			times = append(times, time.Since(start))
		}
	}
	lone := quantile(times, 0.5)
	b.res.LoneP50, b.res.LonePerFsync = ms(lone), float64(lone)/float64(d)
	return nil
}

// run appends all pairs, InFlight statements at a time.
func (b *bench) run(n *node.Node, pairs [][2]signed) error {
	calls := b.calls(pairs)
	workers := b.cfg.InFlight
	if b.cfg.Batch {
		workers = max(1, workers/batchLines)
	}
	var next, done atomic.Int64
	var stop atomic.Bool
	times := make([][]time.Duration, workers)
	errs := make([]error, workers)
	var wg sync.WaitGroup
	start, used, machine := time.Now(), cpu(), processors()
	for k := range workers {
		wg.Go(func() {
			for !stop.Load() {
				i := int(next.Add(1)) - 1
				if i >= len(calls) {
					return
				}
				for _, lines := range calls[i] {
					began := time.Now()
					if errs[k] = b.submit(n, lines...); errs[k] != nil {
						stop.Store(true)
						return
					}
					times[k] = append(times[k], time.Since(began))
					if d := done.Add(int64(len(lines))); d%4096 < int64(len(lines)) {
						b.cfg.Progress("appending", uint64(d), uint64(2*len(pairs)))
					}
				}
			}
		})
	}
	wg.Wait()
	took, spent := time.Since(start), cpu()-used
	b.res.Others = processors().others(machine, spent)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	total := int(done.Load())
	all := slices.Concat(times...)
	b.res.Appends, b.res.Seconds = total, took.Seconds()
	b.res.AppendsPerS = float64(total) / took.Seconds()
	b.res.AppendCPU = us(spent) / float64(total)
	b.res.P50, b.res.P99 = ms(quantile(all, 0.5)), ms(quantile(all, 0.99))
	return nil
}

// calls groups statements into calls: a unit's two one after the other, or many
// units' at once.
func (b *bench) calls(pairs [][2]signed) (out [][][][]byte) {
	if !b.cfg.Batch {
		for _, p := range pairs {
			out = append(out, [][][]byte{{p[0].envelope}, {p[1].envelope}})
		}
		return out
	}
	for part := range slices.Chunk(pairs, batchLines/2) {
		var lines [][]byte
		for _, p := range part {
			lines = append(lines, p[0].envelope, p[1].envelope)
		}
		out = append(out, [][][]byte{lines})
	}
	return out
}

// inclusion measures proofs of random entries on one core.
func (b *bench) inclusion(n *node.Node) error {
	v := n.Ledger().Published()
	rng := rand.New(rand.NewPCG(1, v.Size()))
	prove := func(count int) error {
		for range count {
			if _, err := v.Inclusion(rng.Uint64N(v.Size())); err != nil {
				return err
			}
		}
		return nil
	}
	const proofs = 50_000
	if err := prove(proofs); err != nil { // reads the tiles
		return err
	}
	used := cpu()
	if err := prove(proofs); err != nil {
		return err
	}
	b.res.InclusionPerS = perCPU(proofs, cpu()-used)
	return nil
}

// perCPU is a rate per second of processor time, 0 where that is not known.
func perCPU(n int, used time.Duration) float64 {
	if used <= 0 {
		return 0
	}
	return float64(n) / used.Seconds()
}
