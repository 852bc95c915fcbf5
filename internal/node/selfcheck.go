package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/witness"
)

// The ledger looks at itself as an outsider does (S7): through its own HTTP
// interface and with its trust folder, it checks that the published checkpoint has
// its quorum and continues the last one, that entries and tiles give its root, that
// receipts verify, and that no witness holds a checkpoint of ours that we do not
// have. What must not be stops the ledger for good; what may pass is counted.

const (
	selfCheckEvery    = 30 * time.Second
	selfCheckReceipts = 64      // checked in a round, spread over the new entries
	selfCheckStep     = 1 << 16 // entries held at once
)

// Outcomes of a round.
const (
	selfOK    = "ok"
	selfAlarm = "alarm" // something could not be checked, or a promise is late
	selfStop  = "stop"
)

// wrong is what an outsider must never see of an honest ledger: it stops.
type wrong struct{ err error }

func (w *wrong) Error() string { return w.err.Error() }
func (w *wrong) Unwrap() error { return w.err }

func wrongf(format string, a ...any) error { return &wrong{fmt.Errorf(format, a...)} }

// selfCheck is what one ledger remembers of itself.
type selfCheck struct {
	node    *Node
	remote  *client.Remote
	log     client.LogReader
	asks    func(context.Context) []witness.View // nil without witnesses
	last    *client.Seen
	rng     *compact.Range // over all entries up to last
	late    uint64         // size that was signed and not published when it was looked at last
	since   time.Time      // when that was first seen
	metrics selfMetrics
}

type selfMetrics struct {
	rounds      *prometheus.CounterVec
	receipts    prometheus.Counter
	size        prometheus.Gauge
	at          prometheus.Gauge
	unpublished prometheus.Gauge
}

func newSelfMetrics(r prometheus.Registerer) (selfMetrics, error) {
	m := selfMetrics{
		rounds:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fabtrail_selfcheck_rounds_total", Help: "Looks of the ledger at itself, by outcome: ok, alarm, stop."}, []string{"outcome"}),
		receipts:    prometheus.NewCounter(prometheus.CounterOpts{Name: "fabtrail_selfcheck_receipts_total", Help: "Receipts that the ledger verified of itself."}),
		size:        prometheus.NewGauge(prometheus.GaugeOpts{Name: "fabtrail_selfcheck_size", Help: "Size up to which entries, tiles and root were found to agree."}),
		at:          prometheus.NewGauge(prometheus.GaugeOpts{Name: "fabtrail_selfcheck_timestamp_seconds", Help: "When the last look that found nothing wrong ended."}),
		unpublished: prometheus.NewGauge(prometheus.GaugeOpts{Name: "fabtrail_selfcheck_unpublished_seconds", Help: "For how long entries have been signed and not published."}),
	}
	for _, c := range []prometheus.Collector{m.rounds, m.receipts, m.size, m.at, m.unpublished} {
		if err := r.Register(c); err != nil {
			return m, err
		}
	}
	for _, o := range []string{selfOK, selfAlarm, selfStop} {
		m.rounds.WithLabelValues(o)
	}
	return m, nil
}

// newSelfCheck makes the ledger's view of itself through handler.
func newSelfCheck(n *Node, handler http.Handler, asks func(context.Context) []witness.View) (*selfCheck, error) {
	r, err := client.NewRemote("http://"+selfHost, client.Options{Transport: inProcess{handler}, Attempts: 1})
	if err != nil {
		return nil, err
	}
	m, err := newSelfMetrics(n.registry)
	return &selfCheck{node: n, remote: r, log: r.Log(false), asks: asks, metrics: m}, err
}

// watchSelf looks again and again until ctx ends.
func (n *Node) watchSelf(ctx context.Context) error {
	var asks func(context.Context) []witness.View
	if n.gate != nil {
		asks = n.gate.Ask
	}
	s, err := newSelfCheck(n, n.api, asks)
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(selfCheckEvery):
		}
		if err := s.round(ctx); err != nil && ctx.Err() == nil {
			s.node.cfg.Log.Warn("the ledger looked at itself", "error", err)
		}
	}
}

// round looks once, counts, and stops the ledger when it must.
func (s *selfCheck) round(ctx context.Context) error {
	err := s.look(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var w *wrong
	switch {
	case errors.As(err, &w):
		s.metrics.rounds.WithLabelValues(selfStop).Inc()
		s.node.ledger.Halt(fmt.Errorf("the ledger looked at itself from outside: %w", err))
	case err != nil:
		s.metrics.rounds.WithLabelValues(selfAlarm).Inc()
	default:
		s.metrics.rounds.WithLabelValues(selfOK).Inc()
		s.metrics.at.Set(float64(time.Now().Unix()))
	}
	return err
}

func (s *selfCheck) look(ctx context.Context) error {
	err := s.witnesses(ctx)
	if w := (*wrong)(nil); errors.As(err, &w) {
		return err
	}
	return errors.Join(err, s.promise(), s.published(ctx))
}

// promise measures for how long what is signed has waited to be published.
func (s *selfCheck) promise() error {
	signed, published := s.node.ledger.Signed().Size(), s.node.ledger.Published().Size()
	if signed <= published || s.late != 0 && published >= s.late {
		s.late = 0
	}
	if signed > published && s.late == 0 {
		s.late, s.since = signed, time.Now()
	}
	if s.late == 0 {
		s.metrics.unpublished.Set(0)
		return nil
	}
	age := time.Since(s.since)
	s.metrics.unpublished.Set(age.Seconds())
	if age > lateAfter {
		return fmt.Errorf("size %d has been signed for %s and is not published", s.late, age.Round(time.Second))
	}
	return nil
}

// witnesses compares what witnesses hold with our tree. Only a checkpoint that our
// own key signed counts: see checkOurs in package ledger.
func (s *selfCheck) witnesses(ctx context.Context) error {
	if s.asks == nil {
		return nil
	}
	var errs []error
	views := s.asks(ctx)
	ours := s.node.ledger.Signed() // after asking: what a witness has seen was signed before
	for _, v := range views {
		if v.Err != nil {
			errs = append(errs, fmt.Errorf("witness %s: %w", v.Name, v.Err))
		}
		if v.Note == nil {
			continue
		}
		if v.Checkpoint.Size > ours.Size() {
			return wrongf("witness %s holds a checkpoint of size %d with our signature, we have signed %d: another process signs with this log's key, or this is an old copy",
				v.Name, v.Checkpoint.Size, ours.Size())
		}
		root, err := ours.RootAt(v.Checkpoint.Size)
		if err != nil {
			return wrongf("the tree at size %d: %w", v.Checkpoint.Size, err)
		}
		if v.Checkpoint.Size > 0 && root != v.Checkpoint.Root {
			return wrongf("witness %s holds a checkpoint of size %d with our signature and another root: the log is forked", v.Name, v.Checkpoint.Size)
		}
	}
	return errors.Join(errs...)
}

// published checks the newest checkpoint against the last one, the entries since,
// the tiles that they are in, and a sample of their receipts.
func (s *selfCheck) published(ctx context.Context) error {
	trust, err := client.LoadTrust(os.DirFS(s.node.cfg.Folder.Trust()))
	if err != nil {
		return err
	}
	note, err := s.remote.Checkpoint(ctx)
	if err != nil {
		return err
	}
	seen, err := trust.VerifyNote(note)
	if err != nil {
		return fmt.Errorf("the published checkpoint: %w", err)
	}
	if s.last == nil {
		if s.rng, err = s.frontier(ctx, seen.Size); err != nil {
			return err
		}
		return s.agree(seen)
	}
	if seen.Size < s.last.Size {
		return wrongf("size %d is published after size %d", seen.Size, s.last.Size)
	}
	var fork *client.Fork
	if err := client.Consistent(ctx, s.remote, s.last, seen); errors.As(err, &fork) {
		return &wrong{err}
	} else if err != nil {
		return err
	}
	from := s.last.Size
	for s.rng.End() < seen.Size {
		if err := s.entries(ctx, min(seen.Size, s.rng.End()+selfCheckStep), seen.Size); err != nil {
			s.last = nil // the range may stand between two checkpoints: begin again
			return err
		}
	}
	if err := s.receipts(trust, from, seen.Size); err != nil {
		return err
	}
	return s.agree(seen)
}

// agree compares the root of all entries with the checkpoint's.
func (s *selfCheck) agree(seen *client.Seen) error {
	root, err := s.rng.GetRootHash(nil)
	if err != nil {
		return err
	}
	if seen.Size > 0 && !bytes.Equal(root, seen.Root[:]) {
		return wrongf("at size %d the entries give the root %x, the checkpoint says %s", seen.Size, root, seen.Root)
	}
	s.last = seen
	s.metrics.size.Set(float64(seen.Size))
	return nil
}

// place is a hash's place in a tile.
type place struct {
	level uint8
	tile  uint64
}

// entries reads bundles up to size to, hashes their entries into the range, and
// compares every tile that they are in, as of the published size, with that.
func (s *selfCheck) entries(ctx context.Context, to, size uint64) error {
	hashes := map[place]map[uint64][]byte{}
	put := func(level uint, index uint64, hash []byte) {
		at := place{uint8(level / 8), index / entry.TileWidth}
		if hashes[at] == nil {
			hashes[at] = map[uint64][]byte{}
		}
		hashes[at][index%entry.TileWidth] = hash
	}
	for s.rng.End() < to {
		n := s.rng.End() / entry.TileWidth
		b, err := s.tile(ctx, entry.TilePath{Entries: true, Index: n}, size)
		if err != nil {
			return err
		}
		leaves, err := entry.ParseBundle(b)
		if err != nil {
			return wrongf("bundle %d: %w", n, err)
		}
		for _, leaf := range leaves[s.rng.End()-n*entry.TileWidth:] {
			h := rfc6962.DefaultHasher.HashLeaf(leaf)
			put(0, s.rng.End(), h)
			if err := s.rng.Append(h, func(id compact.NodeID, hash []byte) {
				if id.Level%8 == 0 && id.Level > 0 {
					put(id.Level, id.Index, bytes.Clone(hash))
				}
			}); err != nil {
				return err
			}
		}
	}
	for at, want := range hashes {
		b, err := s.tile(ctx, entry.TilePath{Level: at.level, Index: at.tile}, size)
		if err != nil {
			return err
		}
		for i, h := range want {
			if int(i+1)*len(entry.Hash{}) > len(b) || !bytes.Equal(b[i*32:i*32+32], h) {
				return wrongf("hash %d of tile %d of level %d is not that of the entries", i, at.tile, at.level)
			}
		}
	}
	return nil
}

// tile reads a tile or bundle as wide as the size has it.
func (s *selfCheck) tile(ctx context.Context, p entry.TilePath, size uint64) ([]byte, error) {
	p.Width = int(min(entry.TileWidth, size>>(8*p.Level)-p.Index*entry.TileWidth))
	b, err := s.log.Tile(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	return b, nil
}

// frontier makes the range over all entries of a size from the tiles on its edge,
// as somebody does who trusts the past and watches from now on.
func (s *selfCheck) frontier(ctx context.Context, size uint64) (*compact.Range, error) {
	var hashes [][]byte
	for _, id := range compact.RangeNodes(0, size, nil) {
		level, height := uint8(id.Level/8), id.Level%8
		first := id.Index << height
		b, err := s.tile(ctx, entry.TilePath{Level: level, Index: first / entry.TileWidth}, size)
		if err != nil {
			return nil, err
		}
		at := int(first%entry.TileWidth) * 32
		b = b[at : at+32<<height]
		for len(b) > 32 {
			var up []byte
			for ; len(b) > 0; b = b[64:] {
				up = append(up, rfc6962.DefaultHasher.HashChildren(b[:32], b[32:64])...)
			}
			b = up
		}
		hashes = append(hashes, b)
	}
	return (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewRange(0, size, hashes)
}

// receipts verifies receipts of entries [from, to), as their holders would.
func (s *selfCheck) receipts(trust *client.Trust, from, to uint64) error {
	step := max(1, (to-from)/selfCheckReceipts)
	for i := from; i < to; i += step {
		e, err := s.node.ledger.Published().Entry(i)
		if err != nil {
			return wrongf("entry %d: %w", i, err)
		}
		if e.Class == entry.Index {
			continue
		}
		env, err := entry.ParseEnvelope(e.Envelope)
		if err != nil {
			return wrongf("entry %d: %w", i, err)
		}
		r, err := s.node.ledger.Receipt(entry.StatementID(env.Payload))
		if err != nil {
			return wrongf("the receipt of entry %d: %w", i, err)
		}
		if r.Pending || r.Index != i {
			return wrongf("the receipt of entry %d, which is published, is of entry %d (pending: %t)", i, r.Index, r.Pending)
		}
		if _, err := trust.VerifyReceipt(r.Receipt, r.Envelope, env.Payload); errors.Is(err, checkpoint.ErrNoQuorum) {
			return fmt.Errorf("the receipt of entry %d: %w", i, err) // the policy may just have changed
		} else if err != nil {
			return wrongf("the receipt of entry %d: %w", i, err)
		}
		s.metrics.receipts.Inc()
	}
	return nil
}

// selfHost is the address that the ledger's requests to itself come from and go
// to: of TEST-NET-1, so that their limits are nobody else's.
const selfHost = "192.0.2.1"

// inProcess hands requests to a handler without a network between.
type inProcess struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	in.RemoteAddr, in.RequestURI = selfHost+":1", r.URL.RequestURI()
	if in.Body == nil {
		in.Body = http.NoBody
	}
	w := &answerBuffer{header: http.Header{}, status: http.StatusOK}
	t.handler.ServeHTTP(w, in)
	return w.response(r), r.Context().Err()
}
