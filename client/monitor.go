package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
)

// MonitorLog is what a Monitor asks the log; *Remote is one. What it gives is
// checked.
type MonitorLog interface {
	Prover
	Checkpoint(ctx context.Context) ([]byte, error)
}

// MonitorWitness is a witness whose own view of the log is looked at.
type MonitorWitness struct {
	Name string // as in the policy
	VKey checkpoint.VKey
	// View returns the checkpoint that the witness shows (the monitoring
	// interface of c2sp.org/tlog-witness), or nil if it never cosigned the log.
	// nil: the witness's address is not known, and it is judged by its
	// cosignature on the log's checkpoint alone.
	View func(ctx context.Context) ([]byte, error)
}

// Monitor watches one log as an outsider: that it only grows, for everybody
// alike, that its witnesses cosign, and that it is fresh. It is for one
// goroutine.
type Monitor struct {
	Log       MonitorLog
	Witnesses []MonitorWitness
	Trust     *Trust
	// Memory holds the cursor (the largest published checkpoint that has been
	// checked) and, beside it, what witnesses have shown that the log did not
	// publish yet. Both change only after everything else has been done.
	Memory Memory
	// SaveFork makes a fork proof durable. It is called before the cursor moves;
	// its error ends the round.
	SaveFork func(*Fork) error
	Now      func() time.Time // nil: time.Now
	MaxAge   time.Duration    // of the quorum's cosignatures; 0: DefaultMaxAge
	MaxLag   time.Duration    // of each witness's newest cosignature; 0: MaxAge
}

// What a Monitor raises an alarm for.
const (
	AlarmFork        = "fork"        // two histories, with a proof
	AlarmRollback    = "rollback"    // a smaller checkpoint than was published before
	AlarmLogKey      = "log-key"     // a checkpoint that the log's key did not sign
	AlarmQuorum      = "quorum"      // too few cosignatures
	AlarmStale       = "stale"       // the quorum's cosignatures are too old, or lie in the future
	AlarmIndex       = "index"       // no index-verifying cosigner vouches for the checkpoint
	AlarmNoProof     = "no-proof"    // no consistency proof is given
	AlarmWithheld    = "withheld"    // a witness cosigned what the log does not publish
	AlarmLag         = "witness-lag" // a witness's newest cosignature is too old, or there is none
	AlarmWitness     = "witness"     // a witness shows nothing, or what cannot be read
	AlarmUnreachable = "unreachable" // the log does not answer
	AlarmMemory      = "memory"      // what this monitor remembers is damaged
)

// Alarms lists all codes, so that programs can show those that are silent.
var Alarms = []string{AlarmFork, AlarmRollback, AlarmLogKey, AlarmQuorum, AlarmStale, AlarmIndex,
	AlarmNoProof, AlarmWithheld, AlarmLag, AlarmWitness, AlarmUnreachable, AlarmMemory}

// Alarm is one thing that is not as it should be.
type Alarm struct {
	Code    string `json:"code"`
	Witness string `json:"witness,omitzero"`
	Text    string `json:"text"`
}

// Blind reports whether the alarm says only that the monitor could not look.
func (a Alarm) Blind() bool { return a.Code == AlarmUnreachable || a.Code == AlarmMemory }

// WitnessSeen is what became of looking at one witness.
type WitnessSeen struct {
	Name string `json:"name"`
	// Size and Time (Unix seconds) are of its newest cosignature, in its own
	// view or on the log's checkpoint; zero if none was seen.
	Size uint64        `json:"size"`
	Time uint64        `json:"time"`
	Lag  time.Duration `json:"-"` // from Time to now
}

// Observation is one round of a Monitor.
type Observation struct {
	At         time.Time     `json:"at"`
	Size       uint64        `json:"size"` // published, and accepted under the trust folder
	Root       string        `json:"root,omitzero"`
	QuorumTime uint64        `json:"quorumTime,omitzero"` // Unix seconds
	Age        time.Duration `json:"-"`                   // of the quorum's cosignatures
	Indexed    bool          `json:"indexed"`             // an index-verifying cosigner cosigned
	Witnesses  []WitnessSeen `json:"witnesses"`
	Alarms     []Alarm       `json:"alarms"`
	Forks      []*Fork       `json:"forks,omitzero"`
	Advanced   bool          `json:"advanced"` // the cursor moved
}

func (o *Observation) alarm(code, witness, format string, a ...any) {
	o.Alarms = append(o.Alarms, Alarm{code, witness, fmt.Sprintf(format, a...)})
}

// Blind reports whether there are alarms, and all say only that the monitor could
// not look.
func (o *Observation) Blind() bool {
	return len(o.Alarms) > 0 && !slices.ContainsFunc(o.Alarms, func(a Alarm) bool { return !a.Blind() })
}

// claim is a checkpoint that the log signed, whoever showed it.
type claim struct {
	*Seen
	from    string // the witness's name; "" for the log itself or the cursor
	pending bool   // remembered from a round before
}

// Look does one round. An error means that the round could not be finished (the
// context ended, a proof or the memory could not be written); it is then to be
// repeated, and the cursor has not moved. Everything else is in the Observation.
func (m *Monitor) Look(ctx context.Context) (*Observation, error) {
	o := &Observation{At: m.now(), Alarms: []Alarm{}, Witnesses: []WitnessSeen{}}
	last, damaged := remembered(m.Memory, m.Trust, m.Trust.Log.Name)
	if damaged != nil { // the rest can be looked at, but the cursor stays for its owner to see to
		o.alarm(AlarmMemory, "", "what this monitor remembers is damaged, which says nothing about the log: %v", damaged)
	}
	// The witnesses first: what they have cosigned by now, the log should have
	// published when it is asked a moment later.
	views := m.views(ctx, o)
	published, accepted := m.published(ctx, o)
	if err := ctx.Err(); err != nil {
		return o, err
	}
	m.cosigners(o, published, views)
	claims := views
	if last != nil {
		claims = append(claims, claim{Seen: last})
	}
	if published != nil {
		claims = append(claims, claim{Seen: published})
	}
	upTo := uint64(0)
	for _, s := range []*Seen{last, published} {
		if s != nil {
			upTo = max(upTo, s.Size)
		}
	}
	waiting := m.agree(ctx, o, claims, upTo)
	if err := ctx.Err(); err != nil {
		return o, err
	}
	if accepted && last != nil && published.Size < last.Size {
		o.alarm(AlarmRollback, "", "size %d is published, size %d was published before", published.Size, last.Size)
	}
	if accepted {
		m.withheld(o, waiting)
	}
	if !accepted || damaged != nil {
		published = nil // compared, and no more
	}
	for _, f := range o.Forks {
		if err := m.SaveFork(f); err != nil {
			return o, fmt.Errorf("fork proof: %w", err)
		}
	}
	return o, m.advance(o, last, published, views, waiting)
}

func (m *Monitor) now() time.Time {
	if m.Now != nil {
		return m.Now()
	}
	return time.Now()
}

func (m *Monitor) maxAge() time.Duration { return cmp.Or(m.MaxAge, DefaultMaxAge) }
func (m *Monitor) maxLag() time.Duration { return cmp.Or(m.MaxLag, m.maxAge()) }

// published fetches the log's checkpoint and holds it against the trust folder.
// One that is not accepted, but signed by the log, is returned too: it binds the
// log.
func (m *Monitor) published(ctx context.Context, o *Observation) (seen *Seen, accepted bool) {
	note, err := m.Log.Checkpoint(ctx)
	if err != nil {
		o.alarm(AlarmUnreachable, "", "the log's checkpoint cannot be read: %v", err)
		return nil, false
	}
	seen, err = m.Trust.VerifyNote(note)
	if err != nil {
		code := AlarmLogKey
		if errors.Is(err, checkpoint.ErrNoQuorum) {
			code = AlarmQuorum
		}
		o.alarm(code, "", "the log's checkpoint is not accepted: %v", err)
		seen, _ = m.Trust.logSigned(note)
		return seen, false
	}
	o.Size, o.Root, o.QuorumTime, o.Indexed = seen.Size, seen.Root.String(), seen.QuorumTime, len(seen.Index) > 0
	age, _, err := seen.Age(o.At, m.maxAge())
	if o.Age = age; err != nil {
		o.alarm(AlarmStale, "", "%v", err)
	}
	if len(m.Trust.Index) > 0 && !o.Indexed {
		o.alarm(AlarmIndex, "", "none of %d index-verifying cosigners cosigned size %d", len(m.Trust.Index), seen.Size)
	}
	return seen, true
}

// views asks all witnesses at once for what they show, and adds what was left to
// compare from rounds before.
func (m *Monitor) views(ctx context.Context, o *Observation) []claim {
	type view struct {
		note []byte
		err  error
	}
	got := make([]view, len(m.Witnesses))
	var asking sync.WaitGroup
	for i, w := range m.Witnesses {
		if w.View != nil {
			asking.Go(func() { got[i].note, got[i].err = w.View(ctx) })
		}
	}
	asking.Wait()
	var out []claim
	for i, w := range m.Witnesses {
		if old, err := remembered(m.Memory, m.Trust, m.pendingName(w.Name)); err != nil {
			o.alarm(AlarmMemory, w.Name, "what this monitor remembers of the witness is damaged: %v", err)
		} else if old != nil {
			out = append(out, claim{Seen: old, from: w.Name, pending: true})
		}
		switch seen, err := m.Trust.logSigned(got[i].note); {
		case got[i].err != nil:
			o.alarm(AlarmWitness, w.Name, "its view cannot be read: %v", got[i].err)
		case got[i].note == nil: // it never cosigned the log, or is not asked
		case err != nil:
			o.alarm(AlarmWitness, w.Name, "it shows what the log did not sign: %v", err)
		default:
			out = append(out, claim{Seen: seen, from: w.Name})
		}
	}
	return out
}

// cosigners tells how far each witness is.
func (m *Monitor) cosigners(o *Observation, published *Seen, views []claim) {
	for _, w := range m.Witnesses {
		s := WitnessSeen{Name: w.Name}
		look := func(c *Seen) {
			n, err := checkpoint.ParseNote(c.Note)
			if err != nil {
				return
			}
			if t, err := w.VKey.VerifyCosignature(n); err == nil && t > s.Time {
				s.Size, s.Time = c.Size, t
			}
		}
		for _, v := range views {
			if v.from == w.Name {
				look(v.Seen)
			}
		}
		if published != nil {
			look(published)
		}
		s.Lag = o.At.Sub(time.Unix(int64(min(s.Time, 1<<40)), 0))
		switch {
		case s.Time == 0:
			s.Lag = 0
			o.alarm(AlarmLag, w.Name, "no cosignature of it is to be seen")
		case s.Lag > m.maxLag():
			o.alarm(AlarmLag, w.Name, "its newest cosignature is %s old, the limit is %s", round(s.Lag), round(m.maxLag()))
		}
		o.Witnesses = append(o.Witnesses, s)
	}
}

// agree checks that all claims are of one history: equal roots at equal sizes,
// and a consistency proof from each size to the next. The log proves sizes up to
// upTo; larger claims are compared as far as that goes, and returned.
func (m *Monitor) agree(ctx context.Context, o *Observation, claims []claim, upTo uint64) (waiting []claim) {
	groups := distinct(claims)
	for i, b := range groups {
		if b[0].Size > upTo {
			waiting = append(waiting, b...)
		}
		if i == 0 {
			continue
		}
		a := groups[i-1]
		if a[0].Size != b[0].Size && b[0].Size > upTo {
			continue // nobody can prove it yet
		}
		var fork *Fork
		switch err := Consistent(ctx, m.Log, a[0].Seen, b[0].Seen); {
		case errors.As(err, &fork):
			o.Forks = append(o.Forks, fork)
			o.alarm(AlarmFork, "", "%v; one shown by %s, the other by %s", fork, who(a), who(b))
		case err != nil:
			o.alarm(AlarmNoProof, "", "sizes %d (shown by %s) and %d (by %s): %v", a[0].Size, who(a), b[0].Size, who(b), err)
		default:
			continue
		}
		waiting = append(append(waiting, a...), b...) // what failed is to be compared again
	}
	return waiting
}

// distinct sorts claims by size and groups those that claim the same.
func distinct(claims []claim) [][]claim {
	claims = slices.Clone(claims)
	slices.SortStableFunc(claims, func(a, b claim) int {
		return cmp.Or(cmp.Compare(a.Size, b.Size), bytes.Compare(a.Root[:], b.Root[:]))
	})
	var groups [][]claim
	for i, c := range claims {
		if i == 0 || c.Checkpoint != claims[i-1].Checkpoint {
			groups = append(groups, nil)
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], c)
	}
	return groups
}

// who names those who show a checkpoint.
func who(group []claim) string {
	var names []string
	for _, c := range group {
		if name := cmp.Or(c.from, "the log"); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// withheld raises an alarm for what a witness cosigned long ago and the log did
// not publish since: somebody else may have been shown it.
func (m *Monitor) withheld(o *Observation, waiting []claim) {
	for _, c := range waiting {
		if c.from == "" || c.Size <= o.Size {
			continue
		}
		t := m.cosignedAt(c)
		if age := o.At.Sub(time.Unix(int64(min(t, 1<<40)), 0)); t != 0 && age > m.maxAge() {
			o.alarm(AlarmWithheld, c.from, "it cosigned size %d %s ago, the log publishes %d", c.Size, round(age), o.Size)
		}
	}
}

func (m *Monitor) cosignedAt(c claim) uint64 {
	n, err := checkpoint.ParseNote(c.Note)
	if err != nil {
		return 0
	}
	for _, w := range m.Witnesses {
		if w.Name == c.from {
			t, err := w.VKey.VerifyCosignature(n)
			if err == nil {
				return t
			}
		}
	}
	return 0
}

// advance stores the cursor and what is left to compare. Nothing moves past a
// fork, or past a size that has not been proved.
func (m *Monitor) advance(o *Observation, last, published *Seen, views, waiting []claim) error {
	for _, w := range m.Witnesses {
		if err := m.keep(w.Name, views, waiting); err != nil {
			return err
		}
	}
	held := slices.ContainsFunc(waiting, func(c claim) bool { return c.from == "" })
	if published == nil || held || len(o.Forks) > 0 || last != nil && published.Size <= last.Size {
		return nil
	}
	if err := m.Memory.Store(published.Origin, published.Note); err != nil {
		return err
	}
	o.Advanced = true
	return nil
}

// keep remembers the oldest claim of a witness that is still to be compared, or
// forgets it once it has been.
func (m *Monitor) keep(witness string, views, waiting []claim) error {
	of := func(c claim) bool { return c.from == witness }
	was := slices.ContainsFunc(views, func(c claim) bool { return of(c) && c.pending })
	i := slices.IndexFunc(waiting, func(c claim) bool { return of(c) && c.pending })
	if i < 0 {
		i = slices.IndexFunc(waiting, of)
	}
	switch {
	case i >= 0 && waiting[i].pending, i < 0 && !was:
		return nil
	case i >= 0:
		return m.Memory.Store(m.pendingName(witness), waiting[i].Note)
	}
	return m.Memory.Store(m.pendingName(witness), nil)
}

// pendingName is under what a witness's claims are remembered. No origin has a
// line break.
func (m *Monitor) pendingName(witness string) string {
	return m.Trust.Log.Name + "\nwitness\n" + witness
}

// logSigned reads a checkpoint of the trusted log that its key signed, with
// whatever cosignatures: enough to hold it against the log.
func (t *Trust) logSigned(note []byte) (*Seen, error) {
	n, err := checkpoint.ParseNote(note)
	if err != nil {
		return nil, err
	}
	cp, err := checkpoint.ParseCheckpoint(n.Text)
	if err != nil {
		return nil, err
	}
	if cp.Origin != t.Log.Name {
		return nil, fmt.Errorf("it is of log %q", cp.Origin)
	}
	if err := t.Log.VerifyLog(n); err != nil {
		return nil, err
	}
	return &Seen{Cosigned: checkpoint.Cosigned{Checkpoint: cp, Note: note}}, nil
}

// remembered reads what is stored under a name. Its quorum counts as it did
// then: only the log's signature makes it evidence.
func remembered(mem Memory, t *Trust, name string) (*Seen, error) {
	note, err := mem.Load(name)
	if err != nil || len(note) == 0 {
		return nil, err
	}
	return t.logSigned(note)
}

// WitnessesOf lists the witnesses of a trust folder, the index-verifying
// cosigners included, and looks at those whose address the policy gives.
func (t *Trust) WitnessesOf(opt Options) ([]MonitorWitness, error) {
	var out []MonitorWitness
	for _, w := range t.Policy.Witnesses() {
		m := MonitorWitness{Name: w.Name, VKey: w.VKey}
		if w.URL != "" {
			r, err := NewRemote(w.URL, opt)
			if err != nil {
				return nil, fmt.Errorf("witness %s: %w", w.Name, err)
			}
			m.View = func(ctx context.Context) ([]byte, error) { return r.WitnessView(ctx, t.Log.Name) }
		}
		out = append(out, m)
	}
	for _, k := range t.Index {
		if !slices.ContainsFunc(out, func(w MonitorWitness) bool { return w.VKey.String() == k.String() }) {
			out = append(out, MonitorWitness{Name: k.Name, VKey: k})
		}
	}
	return out, nil
}

// WitnessView fetches the checkpoint of a log from the monitoring interface of a
// witness at r, or nil if the witness never cosigned the log.
func (r *Remote) WitnessView(ctx context.Context, origin string) ([]byte, error) {
	hash := sha256.Sum256([]byte(origin))
	rep, err := r.do(ctx, request{method: "GET", path: "/" + hex.EncodeToString(hash[:]) + "/checkpoint", limit: maxNote})
	if notFound(err) {
		return nil, nil
	}
	return rep.body, err
}
