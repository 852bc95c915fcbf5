package demo

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fabtrail.dev/fabtrail/client"
	"fabtrail.dev/fabtrail/cmd/fabtraild/internal/demo/labels"
	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// clock is the story's clock: it is set, never runs backwards, and goes live at
// the end.
type clock struct{ ms atomic.Int64 }

const live = -1

func (c *clock) now() time.Time {
	if ms := c.ms.Load(); ms != live {
		return time.UnixMilli(ms)
	}
	return time.Now()
}

func (c *clock) set(t time.Time) {
	if ms := t.UnixMilli(); ms > c.ms.Load() {
		c.ms.Store(ms)
	}
}

func (c *clock) goLive() { c.ms.Store(live) }

// party is a member of the cast with its own key and token.
type party struct {
	role
	uri, site string
	key       crypto.Signer
	submit    *client.Submitter
}

// thing is a unit or load as its keepers know it: where its chain ends.
type thing struct {
	uri      string
	load     entry.Hash
	seq      int64 // -1 before the first statement
	head     entry.Hash
	pedigree []byte        // the key printed beside the serial
	key      crypto.Signer // a device's own
	counter  uint64
}

func newThing(uri string) *thing { return &thing{uri: uri, seq: -1} }

func (t *thing) chain() *custody.Chain {
	if t.seq < 0 {
		return custody.First()
	}
	return custody.Next(t.seq, t.head)
}

func (t *thing) moved(id entry.Hash) {
	t.seq++
	t.head = id
}

// act is one statement of the story.
type act struct {
	by      *party
	kind    custody.Kind
	subject string // of governance and lots; else on's
	on      *thing
	at      time.Time
	where   *custody.Where
	body    any
	members []*thing        // of the manifest
	parts   []*thing        // of an assemble
	sign    []crypto.Signer // nil: by's key
	device  bool            // the device signs, too
	sealed  map[string]custody.SealedRef

	chain   *custody.Chain // when it is not where on's chain ends
	effect  string         // expected; "" is applied
	still   bool           // moves no heads, since it takes no effect
	refused string         // expected problem type

	id       entry.Hash
	envelope []byte
	manifest []byte
	digest   string
}

// build makes the payload and signs it. It reads the things that the act is
// about, and changes none.
func (d *demo) build(a *act) error {
	if a.on != nil && a.subject == "" {
		a.subject = a.on.uri
	}
	var contents custody.Contents
	if a.members != nil {
		ms := make([]custody.Member, len(a.members))
		for i, t := range a.members {
			ms[i] = custody.Member{URI: t.uri, Head: t.head, Load: t.load}
			if _, err := rand.Read(ms[i].Salt[:]); err != nil {
				return err
			}
			if a.kind == custody.KindCommission {
				ms[i].Pedigree, _ = custody.PedigreeDigest(t.pedigree)
			}
		}
		m, err := custody.NewManifest(ms)
		if err != nil {
			return err
		}
		a.manifest, contents = m.Marshal(), m.Contents()
		a.digest = contents.Manifest
	}
	switch b := a.body.(type) {
	case *custody.Commission:
		if a.members != nil {
			b.Contents = &contents
		}
	case *custody.Pack:
		b.Contents = contents
	case *custody.Unpack:
		b.Contents = contents
	case *custody.Assemble:
		for _, t := range a.parts {
			head := custody.DigestOf(t.head)
			b.Components = append(b.Components, custody.Component{URI: t.uri, Head: &head})
		}
	case *custody.Accept:
		if b.Accepts.SHA256 == "" {
			b.Accepts = custody.DigestOf(a.on.head)
		}
	}
	ev := a.event()
	if a.device {
		if err := ev.SignDevice(a.on.key, a.kind, a.subject, d.ledgerID, a.on.counter+1); err != nil {
			return err
		}
	}
	payload, err := custody.NewPayload(a.kind, a.subject, d.ledgerID, ev, a.body)
	if err != nil {
		return err
	}
	signers := a.sign
	if signers == nil {
		signers = []crypto.Signer{a.by.key}
	}
	a.id = entry.StatementID(payload)
	a.envelope, err = custody.Sign(payload, signers...)
	return err
}

func (a *act) event() *custody.Event {
	if a.at.IsZero() {
		return nil // governance
	}
	ev := &custody.Event{EventID: custody.NewEventID(a.at, nil), OccurredAt: custody.FormatTime(a.at), Actor: a.by.uri, Where: a.where, Sealed: a.sealed}
	switch {
	case a.chain != nil:
		ev.Chain = a.chain
	case !a.kind.Chained():
		ev.Chain = custody.Unchained()
	case a.on == nil:
		ev.Chain = custody.First()
	default:
		ev.Chain = a.on.chain()
	}
	if a.on != nil && !a.on.load.IsZero() {
		ev.Load = a.on.load.String()
	}
	return ev
}

// done moves the heads of what the act was about.
func (a *act) done() {
	if a.still {
		return
	}
	opens := a.kind == custody.KindPack && a.on.seq < 0
	if opens {
		a.on.load = a.id
	}
	if a.on != nil && a.kind.Chained() && (opens || a.kind != custody.KindPack && a.kind != custody.KindUnpack) {
		a.on.moved(a.id)
	}
	if a.device {
		a.on.counter++
	}
	for _, m := range a.members {
		m.moved(a.id)
	}
	for _, t := range a.parts {
		t.moved(a.id)
	}
}

// stage plays acts that do not rest on each other: it moves the clock to the last
// of them, signs them in parallel, and lets every party post its own.
func (d *demo) stage(title string, acts ...*act) error {
	d.progress(title)
	for _, a := range acts {
		d.clock.set(a.at.Add(2 * time.Minute))
	}
	if err := parallel(acts, runtime.GOMAXPROCS(0), d.build); err != nil {
		return fmt.Errorf("%s: %w", title, err)
	}
	if err := parallel(acts, 4, func(a *act) error { return d.upload(a) }); err != nil {
		return fmt.Errorf("%s: %w", title, err)
	}
	var order []*party
	mine := map[*party][]*act{}
	for _, a := range acts {
		if mine[a.by] == nil {
			order = append(order, a.by)
		}
		mine[a.by] = append(mine[a.by], a)
	}
	if err := parallel(order, 4, func(p *party) error { return d.post(p, mine[p]) }); err != nil {
		return fmt.Errorf("%s: %w", title, err)
	}
	return nil
}

// parallel calls fn for each, so many at once, and returns the first error.
func parallel[T any](list []T, workers int, fn func(T) error) error {
	errs := make([]error, len(list))
	var next atomic.Int64
	var failed atomic.Bool
	var wg sync.WaitGroup
	for range min(workers, len(list)) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := int(next.Add(1)) - 1; i < len(list) && !failed.Load(); i = int(next.Add(1)) - 1 {
				if errs[i] = fn(list[i]); errs[i] != nil {
					failed.Store(true)
				}
			}
		}()
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) upload(a *act) error {
	if a.manifest == nil {
		return nil
	}
	return a.by.submit.Remote.PutManifest(d.ctx, a.digest, a.manifest)
}

// lines is how many statements go into one call.
const lines = 500

func (d *demo) post(p *party, acts []*act) error {
	if len(acts) == 1 {
		r, err := p.submit.Submit(d.ctx, acts[0].envelope)
		return d.outcome(acts[0], client.Outcome{Recorded: r, Err: err})
	}
	for from := 0; from < len(acts); from += lines {
		batch := acts[from:min(from+lines, len(acts))]
		envelopes := make([][]byte, len(batch))
		for i, a := range batch {
			envelopes[i] = a.envelope
		}
		out, err := p.submit.SubmitBatch(d.ctx, envelopes)
		if err != nil {
			return err
		}
		for i, a := range batch {
			if err := d.outcome(a, out[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// outcome holds the ledger's answer against what the story expects.
func (d *demo) outcome(a *act, o client.Outcome) error {
	if o.Err != nil {
		p := problem.As(o.Err)
		if p == nil || errors.Is(o.Err, context.Canceled) {
			return fmt.Errorf("%s of %s by %s: %w", a.kind, a.subject, a.by.name, o.Err)
		}
		if a.refused == "" {
			return fmt.Errorf("%s of %s by %s was refused: %s (%s): %s %s", a.kind, a.subject, a.by.name, p.Type, p.Field, p.Detail, p.Hint)
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.seen.Refusals = append(d.seen.Refusals, labels.Refusal{Kind: string(a.kind), Unit: a.subject, Actor: a.by.uri, Type: p.Type})
		return nil
	}
	d.bar.Set(d.count.Add(1))
	want := a.effect
	if want == "" {
		want = "applied"
	}
	if a.refused == "" && !strings.HasPrefix(o.Recorded.Effect, want) {
		return fmt.Errorf("%s of %s by %s: the ledger says %q, want %q", a.kind, a.subject, a.by.name, o.Recorded.Effect, want)
	}
	a.done()
	return nil
}
