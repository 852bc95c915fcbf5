package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// maxPolls bounds how often a pending statement is asked for.
const maxPolls = 60

// Submitter posts signed statements and checks what the ledger says it did with
// them. A statement may be submitted again at any time: its ID is the SHA-256
// of its payload, and the ledger answers with the first receipt.
type Submitter struct {
	Remote *Remote
	// Trust is what receipts are checked against. Without one they are returned
	// unchecked, with Proof nil.
	Trust *Trust

	mu    sync.Mutex
	notes map[string]dated // verified by Trust: the receipts of a batch share few
}

// maxNotes bounds the notes that a Submitter keeps.
const maxNotes = 64

// dated is what VerifyDated says about a note.
type dated struct {
	seen   *Seen
	policy *DatedPolicy
}

// verifyNote is Trust.VerifyDated, once for each note.
func (s *Submitter) verifyNote(note []byte) (*Seen, *DatedPolicy, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d, ok := s.notes[string(note)]; ok {
		return d.seen, d.policy, nil
	}
	seen, policy, err := s.Trust.VerifyDated(note)
	if err != nil {
		return nil, nil, err
	}
	if s.notes == nil || len(s.notes) >= maxNotes {
		s.notes = map[string]dated{}
	}
	s.notes[string(note)] = dated{seen, policy}
	return seen, policy, nil
}

// Recorded is a statement that is in the log.
type Recorded struct {
	ID       entry.Hash
	Index    uint64
	Time     uint64   // admittedAt, Unix ms
	Effect   string   // what the server's fold made of it; a hint
	Repeat   bool     // it was there already
	Envelope []byte   // canonical
	Receipt  []byte   // C2SP tlog-proof
	Proof    *Receipt // what the verified receipt proves
}

// Outcome is what became of one statement of a batch: Recorded, or Err, which
// holds a *problem.Problem where the ledger refused it.
type Outcome struct {
	Recorded *Recorded
	Err      error
}

// Submit posts one DSSE envelope, retrying until the ledger has answered, and
// waits until the statement is published. A refusal is a *problem.Problem.
func (s *Submitter) Submit(ctx context.Context, dsse []byte) (*Recorded, error) {
	payload, err := payloadOf(dsse)
	if err != nil {
		return nil, err
	}
	rep, err := s.Remote.do(ctx, request{method: "POST", path: "/v1/statements", mediaType: "application/json", body: dsse, limit: maxResult})
	if err != nil {
		return nil, err
	}
	var a Appended
	if err := json.Unmarshal(rep.body, &a); err != nil {
		return nil, fmt.Errorf("POST /v1/statements: %w", err)
	}
	return s.finish(ctx, &a, payload)
}

func payloadOf(dsse []byte) ([]byte, error) {
	d, err := custody.ParseDSSE(dsse)
	if err != nil {
		return nil, err
	}
	return d.Payload, nil
}

// finish waits for publication and checks the receipt.
func (s *Submitter) finish(ctx context.Context, a *Appended, payload []byte) (*Recorded, error) {
	id := entry.StatementID(payload)
	for poll := 1; ; poll++ {
		if a.ID != id.String() {
			return nil, fmt.Errorf("the ledger answered for statement %q, asked about %s", a.ID, id)
		}
		if !a.Pending {
			return s.check(a, id, payload)
		}
		if poll > maxPolls {
			return nil, fmt.Errorf("statement %s is logged as entry %d but not published yet: ask again later", id, a.Index)
		}
		if err := s.Remote.opt.Sleep(ctx, min(backoff(poll, 0), 2*time.Second)); err != nil {
			return nil, err
		}
		// The path is made here, not taken from the answer's poll: a server does
		// not choose where this client sends its token.
		next, err := s.Remote.Statement(ctx, id)
		if err != nil {
			return nil, err
		}
		next.Repeat = next.Repeat || a.Repeat
		a = next
	}
}

func (s *Submitter) check(a *Appended, id entry.Hash, payload []byte) (*Recorded, error) {
	r := &Recorded{ID: id, Index: a.Index, Time: a.Time, Effect: a.Effect, Repeat: a.Repeat, Envelope: a.Envelope, Receipt: []byte(a.Receipt)}
	if s.Trust == nil {
		return r, nil
	}
	p, err := verifyReceipt(r.Receipt, r.Envelope, payload, s.verifyNote)
	if err != nil {
		return nil, fmt.Errorf("statement %s: %w", id, err)
	}
	if p.Index != a.Index || p.Time != a.Time {
		return nil, fmt.Errorf("statement %s: the answer says entry %d at %d, its receipt proves entry %d at %d", id, a.Index, a.Time, p.Index, p.Time)
	}
	r.Proof = p
	return r, nil
}

// Statement asks for a recorded statement. Nothing is checked.
func (r *Remote) Statement(ctx context.Context, id entry.Hash) (*Appended, error) {
	var a Appended
	err := r.getJSON(ctx, "/v1/statements/"+id.String(), maxResult, &a)
	return &a, err
}

// SubmitBatch posts many DSSE envelopes in as few calls as it takes and returns
// one outcome for each, in order. A refused one harms no other. When a call
// breaks, or the ledger is overloaded, what is not recorded yet is posted again;
// the error is that of the last call when the tries ran out, and then the
// outcomes not known are that error too.
func (s *Submitter) SubmitBatch(ctx context.Context, dsses [][]byte) ([]Outcome, error) {
	out := make([]Outcome, len(dsses))
	var todo []int
	payloads := make([][]byte, len(dsses))
	for i, d := range dsses {
		if payloads[i], out[i].Err = payloadOf(d); out[i].Err == nil {
			todo = append(todo, i)
		}
	}
	var err error
	for try := 1; len(todo) > 0; try++ {
		var again []int
		n := callSize(dsses, todo)
		again, err = s.batch(ctx, dsses, payloads, todo[:n], out)
		if len(again) < n {
			try = 0 // there was progress
		}
		todo = append(again, todo[n:]...)
		if len(again) == 0 {
			continue
		}
		if try >= s.Remote.opt.Attempts || (err != nil && final(err)) {
			break
		}
		if werr := s.Remote.opt.Sleep(ctx, backoff(max(try, 1), 0)); werr != nil {
			err = errors.Join(err, werr)
			break
		}
	}
	if len(todo) == 0 {
		return out, nil
	}
	for _, i := range todo {
		if err != nil && out[i].Err == nil {
			out[i].Err = err
		}
	}
	return out, err
}

// Limits of one call of the batch endpoint.
const (
	maxBatchLines = 10_000
	maxBatchBytes = 32 << 20
)

// callSize is how many of todo go into the next call.
func callSize(dsses [][]byte, todo []int) int {
	bytes := 0
	for n, i := range todo {
		if bytes += len(dsses[i]) + 1; n == maxBatchLines || bytes > maxBatchBytes && n > 0 {
			return n
		}
	}
	return len(todo)
}

// batch posts the envelopes listed in todo and fills in their outcomes. It
// returns those to be posted again: from the first line that was not answered,
// or that the ledger had no room for, every line that is not recorded, since a
// line may cite one before it.
func (s *Submitter) batch(ctx context.Context, dsses, payloads [][]byte, todo []int, out []Outcome) (again []int, err error) {
	answers, err := s.Remote.postBatch(ctx, dsses, todo)
	retry := false
	for n, i := range todo {
		if n >= len(answers) {
			again = append(again, i)
			continue
		}
		a := &answers[n]
		if a.Problem == nil && a.Status < 300 {
			out[i].Recorded, out[i].Err = s.finish(ctx, a, payloads[i])
			continue
		}
		retry = retry || a.Status == http.StatusServiceUnavailable || rateLimited(a)
		out[i].Err = lineError(a)
		if retry {
			again = append(again, i)
		}
	}
	return again, err
}

func rateLimited(a *Appended) bool {
	if a.Status != http.StatusTooManyRequests || a.Problem == nil {
		return false
	}
	p := a.Problem.Known()
	return p != nil && p.Type == "rate_limited"
}

func lineError(a *Appended) error {
	if a.Problem == nil {
		return &StatusError{Method: "POST", Path: "/v1/statements/batch", Status: a.Status}
	}
	if p := a.Problem.Known(); p != nil {
		return p
	}
	return a.Problem
}
