package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/answer"
	"fabtrail.dev/fabtrail/custody/gs1"
	"fabtrail.dev/fabtrail/custody/rules"
	"fabtrail.dev/fabtrail/internal/problem"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
)

// Bounds on the time in an index commitment, against the quorum's time: log time
// is neither the operator's to freeze nor to race.
const (
	maxLogBehind = 2 * time.Hour
	maxLogAhead  = 5 * time.Minute
)

// Verifier judges units. It is safe for concurrent use.
type Verifier struct {
	Remote *Remote // where answers and consistency proofs come from
	Trust  *Trust
	Memory Memory           // nil: every checkpoint is the first
	Now    func() time.Time // nil: time.Now
	MaxAge time.Duration    // of the quorum's cosignatures; 0: DefaultMaxAge
	// Parts keeps lists that units share, once verified; nil: none. It is used
	// only with a Memory, which makes all checkpoints be of one history.
	Parts *answer.Parts
	// Progress, if set, is told by VerifyUnits after each unit how many are done.
	Progress func(done int)

	mu sync.Mutex // one checkpoint at a time is held against Memory
}

func (v *Verifier) now() time.Time {
	if v.Now != nil {
		return v.Now()
	}
	return time.Now()
}

func (v *Verifier) maxAge() time.Duration {
	if v.MaxAge > 0 {
		return v.MaxAge
	}
	return DefaultMaxAge
}

func (v *Verifier) parts() *answer.Parts {
	if v.Memory == nil {
		return nil
	}
	return v.Parts
}

// staleRetries bounds how often an answer older than one seen before is asked
// for again: a replica may lag by a moment.
const staleRetries = 3

// VerifyUnit fetches and judges the answer about a unit. what is anything that a
// scanner yields: a Digital Link of any domain, an element string, an EPC URN; a
// pedigree key in it is used unless pedigree gives another. An error means that
// what is no unit's identifier; all that concerns ledger and unit is in the
// Report.
func (v *Verifier) VerifyUnit(ctx context.Context, what, pedigree string) (*Report, error) {
	uri, pedigree, err := scan(Code{what, pedigree})
	if err != nil {
		return nil, err
	}
	have := v.parts().Have()
	for try := 1; ; try++ {
		b, err := v.Remote.unitAnswer(ctx, uri, pedigree, have, answer.MaxSize)
		if err != nil {
			r := &Report{URI: uri}
			return r.broken(CheckAnswer, "%v", err), nil
		}
		r, retry := v.verify(ctx, uri, b)
		switch {
		case retry == retryWhole && have != "":
			have = "" // a list that was kept when we asked has gone since
		case retry == retryLater && try < staleRetries && v.Remote.wait(ctx, backoff(try, 0)) == nil:
		default:
			if r.Word != custody.StatusOnly {
				r.checkPedigree(pedigree)
			} else if pedigree != "" {
				r.keyUnused()
			}
			return r, nil
		}
	}
}

// scan reads what is on a unit: its canonical URI and its pedigree key, if any.
func scan(c Code) (uri, pedigree string, err error) {
	scanned, err := gs1.Scan(c.Text)
	if err != nil {
		return "", "", err
	}
	if c.Pedigree == "" && len(scanned.Pedigree) > 0 {
		c.Pedigree = gs1.FormatPedigreeKey(scanned.Pedigree)
	}
	if c.Pedigree != "" {
		if _, err := gs1.ParsePedigreeKey(c.Pedigree); err != nil {
			return "", "", err
		}
	}
	if k := scanned.ID.Kind; k != gs1.Unit && k != gs1.Container {
		return "", "", problem.New("invalid_identifier", "", "%s is a %s, not one serialised unit", scanned.ID, k).
			WithHint("give the code on the unit itself, with its serial")
	}
	return scanned.ID.URI(), c.Pedigree, nil
}

// retry says whether asking again may give a better answer.
type retry int

const (
	retryNo    retry = iota
	retryLater       // the answer is older than one seen before
	retryWhole       // the answer leaves out what was kept, and is not any more
)

// VerifyAnswer judges an answer that was fetched before, about a unit by its
// canonical URI.
func (v *Verifier) VerifyAnswer(ctx context.Context, uri string, b []byte) *Report {
	r, _ := v.verify(ctx, uri, b)
	return r
}

func (v *Verifier) verify(ctx context.Context, uri string, b []byte) (*Report, retry) {
	r := &Report{URI: uri, Checks: []Check{}}
	a, err := answer.Parse(b)
	if err != nil {
		return r.broken(CheckAnswer, "%v", err), retryNo
	}
	if a.URI != uri {
		return r.broken(CheckAnswer, "the answer is about %q, asked was %q", a.URI, uri), retryNo
	}
	r.ServerWord = a.Word
	if a.Form == answer.Status {
		return r.statusOnly(), retryNo
	}
	seen, again := v.checkpoint(ctx, r, []byte(a.Checkpoint))
	if seen == nil {
		return r, again
	}
	src, err := answer.Open(a, seen.Checkpoint, v.parts())
	if err != nil {
		return r.fault(err), missing(err)
	}
	if !v.commitment(r, seen, src) {
		return r, retryNo
	}
	return r, v.unit(r, seen, src)
}

// statusOnly ends a verification that was given one word.
func (r *Report) statusOnly() *Report {
	r.Word, r.Sentence = custody.StatusOnly, custody.Sentences[custody.StatusOnly]
	r.Reasons = []custody.Reason{{Code: "status", Weight: custody.WeightNote, Word: custody.StatusOnly,
		Text: fmt.Sprintf("the server says %q and proves nothing", r.ServerWord)}}
	return r
}

// unit judges the unit of r from a source whose checkpoint and commitment hold.
func (v *Verifier) unit(r *Report, seen *Seen, src *answer.Source) retry {
	// An auditor is shown all route policies, others those that they may see.
	h, err := custody.Walk(src, r.URI, func(gtin string) bool { return v.Remote.audits() || src.Has(custody.LaneTopic(gtin)) })
	if err != nil {
		r.fault(err)
		return missing(err)
	}
	if err := src.CheckLists(h); err != nil {
		r.fault(err)
		return retryNo
	}
	r.pass(CheckAnswer, "%d lists, %d entries and their signatures hold", len(h.Topics), len(h.Items))
	if !r.charter(v.Trust, h) {
		return retryNo
	}
	v.judge(r, h, src)
	r.Claim = r.claim(len(h.Entries()), seen.Size)
	r.Parties = parties(h)
	return retryNo
}

// missing says whether an answer failed because it relies on parts that are not
// kept.
func missing(err error) retry {
	var f *answer.Fault
	if errors.As(err, &f) && f.Code == answer.Missing {
		return retryWhole
	}
	return retryNo
}

// fault ends a verification with what is wrong with the answer.
func (r *Report) fault(err error) *Report {
	var f *answer.Fault
	if !errors.As(err, &f) {
		return r.broken(CheckHistory, "%v", err)
	}
	r.broken(CheckAnswer, "%v", err)
	r.Reasons[0].Code = string(f.Code)
	return r
}

// checkpoint holds the answer's note against the trust folder, the clock, and
// what was seen before.
func (v *Verifier) checkpoint(ctx context.Context, r *Report, note []byte) (*Seen, retry) {
	seen, err := v.Trust.VerifyNote(note)
	if err != nil {
		if errors.Is(err, checkpoint.ErrNoQuorum) {
			r.pass(CheckLogSignature, "the log %s signed the checkpoint", v.Trust.Log.Name)
			r.broken(CheckQuorum, "%v", err)
			return nil, retryNo
		}
		r.broken(CheckLogSignature, "%v", err)
		return nil, retryNo
	}
	r.AsOf = asOf(v.Trust, seen)
	r.pass(CheckLogSignature, "the log %s signed the checkpoint", seen.Origin)
	r.pass(CheckQuorum, "cosigned by %d of %d witnesses", len(seen.Cosigs), r.AsOf.Witnesses)
	age, witnessed, err := seen.Age(v.now(), v.maxAge())
	switch {
	case err != nil:
		r.broken(CheckFreshness, "%v", err)
		return nil, retryNo
	case witnessed:
		r.pass(CheckFreshness, "cosigned %s ago", round(max(age, 0)))
	}
	if again, ok := v.remember(ctx, r, seen); !ok {
		return nil, again
	}
	r.Complete = len(seen.Index) > 0
	return seen, retryNo
}

func asOf(t *Trust, s *Seen) *AsOf {
	a := &AsOf{Origin: s.Origin, Size: s.Size, Root: s.Root.String(), Cosigners: []string{}, IndexWitnesses: []string{}}
	for _, c := range s.Cosigs {
		a.Cosigners = append(a.Cosigners, c.Name)
	}
	a.IndexWitnesses = append(a.IndexWitnesses, s.Index...)
	a.Witnesses = len(t.Policy.Witnesses())
	if s.QuorumTime != 0 {
		a.Time = stamp(s.QuorumTime * 1000)
	}
	return a
}

// remember compares a checkpoint with the last one seen and keeps the larger.
func (v *Verifier) remember(ctx context.Context, r *Report, seen *Seen) (retry, bool) {
	if v.Memory == nil {
		r.pass(CheckConsistency, "no earlier checkpoint is remembered")
		return retryNo, true
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	last, err := remembered(v.Memory, v.Trust, seen.Origin)
	if err != nil {
		r.broken(CheckConsistency, "what this client remembers is damaged, which says nothing about the ledger: %v", err)
		return retryNo, false
	}
	if last != nil {
		var fork *Fork
		err := Consistent(ctx, v.Remote.prover(), last, seen)
		switch {
		case errors.As(err, &fork):
			r.Fork = fork
			r.broken(CheckConsistency, "%v", fork)
			r.Reasons[0].Code = "fork"
			return retryNo, false
		case err != nil:
			r.broken(CheckConsistency, "size %d was seen before: %v", last.Size, err)
			return retryNo, false
		case seen.Size < last.Size:
			r.broken(CheckConsistency, "the answer is as of size %d, size %d was seen before: what came since is missing", seen.Size, last.Size)
			return retryLater, false
		}
	}
	if last == nil || seen.Size > last.Size {
		if err := v.Memory.Store(seen.Origin, seen.Note); err != nil {
			r.broken(CheckConsistency, "the checkpoint cannot be remembered: %v", err)
			return retryNo, false
		}
	}
	if last == nil {
		r.pass(CheckConsistency, "this is the first checkpoint seen")
	} else {
		r.pass(CheckConsistency, "it continues size %d, seen before", last.Size)
	}
	return retryNo, true
}

// prover is r as a Prover; nil stays nil.
func (r *Remote) prover() Prover {
	if r == nil {
		return nil
	}
	return r
}

// commitment checks the time of the index commitment and says who vouches for
// its truth.
func (v *Verifier) commitment(r *Report, seen *Seen, src *answer.Source) bool {
	r.pass(CheckCommitment, "entry %s commits to the index of all entries before it", grouped(seen.Size-1))
	at := time.UnixMilli(int64(min(src.Commitment.Time, 1<<48)))
	ref, whose := v.now(), "this computer's time"
	if seen.QuorumTime != 0 {
		ref, whose = time.Unix(int64(min(seen.QuorumTime, 1<<40)), 0), "the witnesses' time"
	}
	switch behind := ref.Sub(at); {
	case behind > maxLogBehind:
		r.broken(CheckLogTime, "log time is %s behind %s", round(behind), whose)
		return false
	case behind < -maxLogAhead:
		r.broken(CheckLogTime, "log time is %s ahead of %s", round(-behind), whose)
		return false
	}
	r.pass(CheckLogTime, "log time agrees with %s", whose)
	if r.Complete {
		r.pass(CheckCompleteness, "index witnesses checked the commitment: %d", len(seen.Index))
	} else {
		r.fail(CheckCompleteness, "operator's word, auditable")
	}
	return true
}

// charter checks that entry 0, where the history has it, is the one trusted.
func (r *Report) charter(t *Trust, h *custody.History) bool {
	if len(h.Items) == 0 {
		return true // an absence is proved without any statement
	}
	first, ok := h.Item(0)
	if !ok || first.ID() != t.Ledger {
		r.broken(CheckCharter, "entry 0 is not the charter of the trust folder")
		return false
	}
	r.pass(CheckCharter, "entry 0 is the charter of the trust folder")
	return true
}

// judge folds the rules in and gives the verdict.
func (v *Verifier) judge(r *Report, h *custody.History, src *answer.Source) {
	r.History, r.Lines = h, lines(h)
	r.pass(CheckHistory, "%d entries fold to one state", len(h.Items))
	r.Findings = rules.Conclude(h, src.Commitment.Time)
	r.Verdict = custody.Judge(h, custody.Inputs{Complete: r.Complete, Findings: r.Findings})
	if r.AsOf.Time == "" && slices.Contains([]custody.Word{custody.Verified, custody.VerifiedNote}, r.Word) {
		r.worsen(CheckFreshness, custody.WeightNote, "no witnesses vouch for the time of the checkpoint")
	}
}

// keyUnused says that a word is all that came in spite of a pedigree key.
func (r *Report) keyUnused() {
	r.fail(CheckPedigree, "the pedigree key given does not open this unit: compare it with the code on the unit")
}

// checkPedigree compares the key that was used with what the commission signs.
func (r *Report) checkPedigree(key string) {
	if key == "" || r.History == nil || r.History.Unit.Pedigree.IsZero() {
		return
	}
	raw, err := gs1.ParsePedigreeKey(key)
	digest, derr := custody.PedigreeDigest(raw)
	if err != nil || derr != nil || digest != r.History.Unit.Pedigree {
		r.fail(CheckPedigree, "the pedigree key given is not the one that this unit was commissioned with")
		r.worsen(CheckPedigree, custody.WeightCheck, "the pedigree key given is not the one that this unit was commissioned with")
		return
	}
	r.pass(CheckPedigree, "the pedigree key is the one that this unit was commissioned with")
}
