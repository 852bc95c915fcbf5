package bench

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/entry"
	"fabtrail.dev/fabtrail/ledger/unitindex"
)

// filler is an application without signatures and rules: an entry's payload says
// which topics it joins.
type filler struct{ total uint64 } // topics that the index is filled with

// topic is the n-th topic of our own, no statement's. Those that the index is filled
// with are spread evenly and made in ascending order, which a store takes in faster
// than any other; those beyond are random.
func (f filler) topic(n uint64) entry.Hash {
	h := entry.Hash(sha256.Sum256(binary.BigEndian.AppendUint64([]byte("fabtrail bench topic "), n)))
	if n < f.total {
		step := math.MaxUint64 / f.total
		binary.BigEndian.PutUint64(h[:], n*step+binary.BigEndian.Uint64(h[:])%step)
	}
	return h
}

const fillMagic = "fabtrail bench fill\n"

// fillEntry makes an entry that joins the topics of these numbers.
func fillEntry(numbers []uint64) ledger.Submission {
	payload := make([]byte, 0, len(fillMagic)+8*len(numbers))
	payload = append(payload, fillMagic...)
	for _, n := range numbers {
		payload = binary.BigEndian.AppendUint64(payload, n)
	}
	env := entry.Envelope{Payload: payload, Signatures: []entry.Signature{{Key: entry.Hash{1}, Sig: []byte{1}}}}
	b, err := env.Marshal()
	if err != nil {
		panic("bench: an envelope of fixed form marshals: " + err.Error())
	}
	return ledger.Submission{ID: entry.StatementID(payload), Envelope: b, Parsed: numbers}
}

const logMagic = "fabtrail bench log\n"

// logEntry makes an entry of the size of a statement: digests that do not compress
// and words that do. It joins one topic of its own and leaves two rows of state.
func logEntry(n uint64) ledger.Submission {
	payload := binary.BigEndian.AppendUint64([]byte(logMagic), n)
	for i := range 4 {
		h := sha256.Sum256(append(payload, byte(i)))
		payload = hex.AppendEncode(payload, h[:])
	}
	for len(payload) < payloadSize {
		payload = append(payload, "what all statements have in common, names and links; "...)
	}
	env := entry.Envelope{Payload: payload, Signatures: []entry.Signature{{Key: entry.Hash{1}, Sig: payload[32:96]}}}
	b, err := env.Marshal()
	if err != nil {
		panic("bench: an envelope of fixed form marshals: " + err.Error())
	}
	return ledger.Submission{ID: entry.StatementID(payload), Envelope: b}
}

// decideLog admits what logEntry made.
func decideLog(st ledger.State, sub ledger.Submission, payload []byte) ledger.Outcome {
	topic := entry.Hash(sha256.Sum256(payload[:len(logMagic)+8]))
	st.Set("b"+string(topic[:]), bytes.Clone(payload[len(logMagic)+8:][:200])) // kept: not the whole payload with it
	st.Set("c"+string(sub.ID[:]), bytes.Clone(payload[len(logMagic)+72:][:200]))
	return ledger.Outcome{Class: entry.Restricted, Topics: []entry.Hash{topic}, Effect: "filled"}
}

// Decide implements ledger.App.
func (f filler) Decide(st ledger.State, _ ledger.At, sub ledger.Submission) ledger.Outcome {
	numbers, ok := sub.Parsed.([]uint64)
	if !ok {
		env, err := entry.ParseEnvelope(sub.Envelope)
		if err != nil {
			return ledger.Outcome{Refused: err}
		}
		if bytes.HasPrefix(env.Payload, []byte(logMagic)) && len(env.Payload) >= payloadSize {
			return decideLog(st, sub, env.Payload)
		}
		for rest := env.Payload[min(len(fillMagic), len(env.Payload)):]; len(rest) >= 8; rest = rest[8:] {
			numbers = append(numbers, binary.BigEndian.Uint64(rest))
		}
	}
	topics := make([]entry.Hash, len(numbers))
	for i, n := range numbers {
		topics[i] = f.topic(n)
	}
	return ledger.Outcome{Class: entry.Restricted, Topics: topics, Effect: "filled"}
}

// openFill runs fn on the ledger below with the filler above it.
func (b *bench) openFill(fn func(*ledger.Ledger) error) error {
	cfg, err := b.folder.LedgerConfig()
	if err != nil {
		return err
	}
	cfg.App = filler{b.cfg.Prefill}
	cfg.IndexFile = math.MaxUint64 // the sweep after a start from the file would be measured with it
	l, err := ledger.Open(b.ctx, cfg)
	if err != nil {
		return err
	}
	err = fn(l)
	if cerr := l.Close(); err == nil {
		err = cerr
	}
	return err
}

const (
	fillTopics  = uint64(1000) // of one entry
	fillEntries = uint64(64)   // of one call
)

// fill brings the index to its size.
func (b *bench) fill() error {
	if b.cfg.Prefill == 0 {
		return nil
	}
	start := time.Now()
	err := b.openFill(func(l *ledger.Ledger) error {
		for b.filled < b.cfg.Prefill {
			b.cfg.Progress("filling the index", b.filled, b.cfg.Prefill)
			var subs []ledger.Submission
			n := min(fillTopics*fillEntries, b.cfg.Prefill-b.filled)
			for k := range min(fillEntries, n) { // neighbours come from different entries, as those of statements do
				var numbers []uint64
				for i := k; i < n; i += fillEntries {
					numbers = append(numbers, b.filled+i)
				}
				subs = append(subs, fillEntry(numbers))
			}
			b.filled += n
			if err := add(b, l, subs); err != nil {
				return err
			}
		}
		return nil
	})
	b.res.FillPerS = float64(b.cfg.Prefill) / time.Since(start).Seconds()
	return err
}

// grow brings the log to its length, with statements' worth of entries.
func (b *bench) grow() error {
	if b.cfg.Log == 0 {
		return nil
	}
	// What this took is given back: the memory measured later is that of a process that
	// has opened a long log, not of one that has written it.
	defer debug.FreeOSMemory()
	return b.openFill(func(l *ledger.Ledger) error {
		const part = 2048
		for at := uint64(0); at < b.cfg.Log; at += part {
			b.cfg.Progress("filling the log", at, b.cfg.Log)
			subs := make([]ledger.Submission, min(part, b.cfg.Log-at))
			for i := range subs {
				subs[i] = logEntry(at + uint64(i))
			}
			if err := add(b, l, subs); err != nil {
				return err
			}
		}
		return l.Settle(b.ctx) // or what is measured next would pay for it
	})
}

func add(b *bench, l *ledger.Ledger, subs []ledger.Submission) error {
	for _, r := range l.Append(b.ctx, subs) {
		if r.Err != nil {
			return r.Err
		}
		if r.Repeat || r.Receipt == nil {
			return fmt.Errorf("entry %d was not added anew with a receipt", r.Index)
		}
	}
	return b.ctx.Err()
}

const (
	indexCommits = 24 // measured, of so many entries with so many topics each: 4,096
	indexEntries = 16
	indexTopics  = 256
	smallIndex   = 50_000 // topics; below, fewer commits must do
)

// index measures what the index costs by itself: commits of entries that bring
// nothing else, three topics changed for each that is new. Everything that such a
// commit does counts: syncing, verifying, signing, collecting garbage. What the
// database does with the rows later, in the background, is measured beside it.
func (b *bench) index() error {
	if b.filled == 0 && b.cfg.Log > 0 {
		return b.openFill(b.occupied)
	}
	if b.filled == 0 {
		return nil
	}
	return b.openFill(func(l *ledger.Ledger) error {
		b.cfg.Progress("measuring the index", 0, 0)
		if err := l.Settle(b.ctx); err != nil {
			return err
		}
		rng := rand.New(rand.NewPCG(1, b.filled))
		var used, topics float64
		commits := indexCommits
		if b.filled < smallIndex {
			commits = 2
		}
		around := b.around
		if around == nil {
			around = func(bool) {}
		}
		for round := range 2 + commits {
			if round == 2 { // the first warm the caches
				around(true)
			}
			var subs []ledger.Submission
			old := b.filled
			for range indexEntries {
				numbers := make([]uint64, indexTopics)
				for i := range numbers {
					if numbers[i] = rng.Uint64N(old); i%4 == 0 {
						numbers[i], b.filled = b.filled, b.filled+1
					}
				}
				subs = append(subs, fillEntry(numbers))
			}
			before := cpu()
			if err := add(b, l, subs); err != nil {
				return err
			}
			if round >= 2 {
				used += us(cpu() - before)
				topics += indexEntries * indexTopics
			}
		}
		around(false)
		before := cpu()
		if err := l.Settle(b.ctx); err != nil {
			return err
		}
		b.res.LaterCPU = us(cpu()-before) / topics
		b.res.TopicCPU = used / topics
		b.res.FillRSS = resident()
		b.res.IndexShare = b.res.TopicCPU / b.res.CheckCPU
		return errors.Join(b.occupied(l), b.proofs(l, rng))
	})
}

// occupied measures what a topic takes on disk. Those of a long log came in no order and
// each with an entry of its own, as those of statements do.
func (b *bench) occupied(l *ledger.Ledger) error {
	n, err := l.IndexBytes()
	b.res.Topics = l.Published().Topics()
	b.res.IndexBytes = float64(n) / float64(b.res.Topics)
	return err
}

// proofs measures the size of index proofs.
func (b *bench) proofs(l *ledger.Ledger, rng *rand.Rand) error {
	v := l.Published()
	var sizes []int
	for range 1000 {
		topic := filler{b.cfg.Prefill}.topic(rng.Uint64N(b.filled))
		refs, p, err := v.List(topic)
		if err != nil {
			return err
		}
		value, present, err := unitindex.Verify(v.IndexRoot(), topic, p)
		if err != nil || !present || value != unitindex.ListValue(refs) {
			return fmt.Errorf("the proof of topic %s does not verify: %w", topic, err)
		}
		sizes = append(sizes, len(p.Marshal()))
	}
	slices.Sort(sizes)
	b.res.ProofP50 = sizes[len(sizes)/2]
	return nil
}
