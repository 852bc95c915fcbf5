// Package bench measures a ledger on the machine that it runs on, in one process,
// against the rate at which that machine checks signatures.
//
// An append counts when the statement has been parsed strictly, its signature and
// authority checked, deduplicated, indexed, committed and synced, verified before
// signing, covered by a signed checkpoint with its index commitment, and its
// receipt built and verified: it goes the whole way of package internal/node, from
// the DSSE envelope to the answer, but for HTTP and the token. The views that
// follow the log, and witnesses, are off.
//
// The index is filled beforehand with topics of their own, by entries without
// signatures that name a thousand topics each, through the ledger's own append
// path: the same rows, tree and commitments as any other entry makes, made faster,
// as these topics come in order and need no decision.
//
// Times of a single part are processor time of the whole process (getrusage), so
// that other load on the machine does not count; rates are by the clock.
package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"fabtrail.dev/fabtrail/internal/node"
	"fabtrail.dev/fabtrail/internal/procs"
)

// Config says what to measure.
type Config struct {
	Dir      string        // an empty folder is made here, and removed at the end
	Time     time.Duration // about how long the appends take
	InFlight int           // statements on their way at any time
	Batch    bool          // statements come 64 at a time, their signatures checked together
	Prefill  uint64        // topics in the index beforehand
	Log      uint64        // entries in the log beforehand, of the size of statements
	Entries  int           // statements to append; 0: as many as Time takes
	Progress func(what string, done, total uint64)
}

// Result is what was measured.
type Result struct {
	L             float64 `json:"L"`             // ed25519 checks per second on all cores: the better of before and after
	LBefore       float64 `json:"L_before"`      //
	LAfter        float64 `json:"L_after"`       //
	CheckCPU      float64 `json:"check_cpu_us"`  // processor time of one such check
	Appends       int     `json:"appends"`       //
	AppendsPerS   float64 `json:"appends_per_s"` //
	Ratio         float64 `json:"ratio"`         // of appends per second to L
	P50           float64 `json:"p50_ms"`        // of one call
	P99           float64 `json:"p99_ms"`        //
	LoneP50       float64 `json:"lone_p50_ms"`   // of one statement when nothing else is on its way
	Fsync         float64 `json:"fsync_us"`      // of 4 KiB in the same folder, p50
	LonePerFsync  float64 `json:"lone_per_fsync"`
	BytesPerEntry float64 `json:"bytes_per_entry"` // on disk, everything included, written-ahead logs too; of a whole long log, else of what was appended
	AppendCPU     float64 `json:"cpu_us_per_append"`
	InclusionPerS float64 `json:"inclusion_per_s"` // one core, warm
	RSS           float64 `json:"rss_mb"`          // resident after the appends, statements to come dropped

	Topics       uint64  `json:"topics"`                // in the index when it was measured
	TopicCPU     float64 `json:"index_cpu_us"`          // processor time of one updated topic, 4,096 to a commitment
	LaterCPU     float64 `json:"index_later_cpu_us"`    // processor time of flushing and compacting it afterwards
	IndexShare   float64 `json:"index_share"`           // index_cpu_us as a share of check_cpu_us
	IndexBytes   float64 `json:"index_bytes"`           // on disk, per topic
	ProofP50     int     `json:"proof_bytes_p50"`       // of an index proof
	FillPerS     float64 `json:"fill_topics_per_s"`     //
	FillRSS      float64 `json:"fill_rss_mb"`           // resident with the filled index open
	Answer       Answer  `json:"unit_answer"`           // parties and product sent
	AnswerKnown  Answer  `json:"unit_answer_cached"`    // parties and product known to the client
	AnswersPerS  float64 `json:"unit_answers_per_s"`    // one core, nothing known to the client
	VerifyChecks float64 `json:"unit_verify_in_checks"` // client's work on an answer, as a multiple of its signature checks

	LogBefore uint64  `json:"log_before"`       // entries before the appends
	Start     float64 `json:"start_ms"`         // of opening the ledger for them, after a clean end; files in the system's cache
	StartCPU  float64 `json:"start_cpu_ms"`     //
	Filters   float64 `json:"start_filters_ms"` // afterwards, while appends may go on: of reading the database's keys, and until it is at rest (0.15 s at least)
	Crash     float64 `json:"start_rows_ms"`    // of opening it as after a crash: the index is built from its rows
	CrashCPU  float64 `json:"start_rows_cpu_ms"`

	Seconds  float64 `json:"seconds"` // of the appends
	Others   float64 `json:"others"`  // share of the processors' time in those seconds that other processes, and other machines on the same host, had; -1 if not known
	InFlight int     `json:"inflight"`
	Batch    bool    `json:"batch_verify"`
	Procs    int     `json:"procs"`
	Entries  uint64  `json:"entries"` // in the log at the end
	Fsck     string  `json:"fsck"`
}

// Answer is what one whole unit answer costs: a unit of ten statements by six
// parties, its whole closure.
type Answer struct {
	P50     float64 `json:"p50_ms"`
	PerCPU  float64 `json:"per_cpu_s"` // answers per second of processor time
	Bytes   int     `json:"bytes"`
	Topics  int     `json:"topics"`
	Entries int     `json:"entries"`
	Checks  int     `json:"signature_checks"` // signatures of the statements in it
}

// Run measures.
func Run(ctx context.Context, cfg Config) (res Result, err error) {
	if cfg.Progress == nil {
		cfg.Progress = func(string, uint64, uint64) {}
	}
	dir, err := os.MkdirTemp(cfg.Dir, "fabtrail-bench-")
	if err != nil {
		return res, err
	}
	defer os.RemoveAll(dir)
	b := &bench{cfg: cfg, ctx: ctx, folder: node.Folder(filepath.Join(dir, "data")), res: &res}
	res.InFlight, res.Batch, res.Procs = cfg.InFlight, cfg.Batch, procs.Count()
	for _, step := range []func() error{b.found, b.fill, b.grow, b.start, b.appends, b.index, b.check} {
		if err := step(); err != nil {
			return res, err
		}
		if err := ctx.Err(); err != nil {
			return res, err
		}
	}
	return res, nil
}

type bench struct {
	cfg    Config
	ctx    context.Context
	folder node.Folder
	world  *world
	res    *Result
	filled uint64        // topics of our own in the index
	opened took          // of the last opening of the node
	around func(on bool) // if not nil, called before and after what index measures
}

// took is what something cost, in milliseconds.
type took struct{ wall, cpu float64 }

// found makes the ledger and enrols the parties.
func (b *bench) found() error {
	b.cfg.Progress("founding", 0, 0)
	w, err := newWorld(b.folder)
	if err != nil {
		return err
	}
	b.world = w
	return b.open(func(n *node.Node) error { return w.enrol(b.ctx, n) })
}

// open runs fn on the ledger, without followers.
func (b *bench) open(fn func(*node.Node) error) error {
	start, used := time.Now(), cpu()
	n, err := node.Open(b.ctx, node.Config{Folder: b.folder, NoFollow: true})
	if err != nil {
		return err
	}
	b.opened = took{ms(time.Since(start)), ms(cpu() - used)}
	err = fn(n)
	if cerr := n.Close(); err == nil {
		err = cerr
	}
	return err
}

// start measures how long the ledger takes to open. What filled it left no file of the
// index (openFill), nor would a crash have; a clean end leaves one.
func (b *bench) start() error {
	b.cfg.Progress("starting", 0, 0)
	idle := func(*node.Node) error { return nil }
	if err := b.open(idle); err != nil {
		return err
	}
	b.res.Crash, b.res.CrashCPU = b.opened.wall, b.opened.cpu
	err := b.open(func(n *node.Node) error {
		start := time.Now()
		err := n.Ledger().Settle(b.ctx)
		b.res.Filters = ms(time.Since(start))
		return err
	})
	if err != nil {
		return err
	}
	b.res.Start, b.res.StartCPU = b.opened.wall, b.opened.cpu
	return nil
}

// check re-reads everything.
func (b *bench) check() error {
	r, err := node.Fsck(b.ctx, b.folder, b.cfg.Progress)
	if err != nil {
		return err
	}
	b.res.Entries, b.res.Fsck = r.Size, r.Word()
	if len(r.Damage) > 0 {
		return fmt.Errorf("the measured log is damaged: %v", r.Damage)
	}
	return nil
}
