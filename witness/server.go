// Package witness is a witness of transparency logs, and the collector with
// which a log asks witnesses.
//
// Server is a complete c2sp.org/tlog-witness (text of July 2026, commit 5ba5ee8)
// for any set of logs: POST /add-checkpoint and GET
// /<hex SHA-256 of origin>/checkpoint, with Ed25519 cosignatures (type 0x04). The
// optional sign-subtree needs ML-DSA-44 keys and is not offered. Where earlier
// texts differ (v1.0.0 answers 409 to two roots at one size), the July text is
// followed (422).
//
// The order of checks: the request is well formed (400), the origin is known
// (404), a key trusted for it signed and no signature of such a key is bad (403),
// old is not above the size (400), old is the size last cosigned (409 with that
// size), size 0 has the empty root (422), nothing proves from size 0 (422), one
// root at one size (422), the consistency proof verifies (422), the injected Check
// agrees (422). Then the new state is compared, swapped and synced in one step,
// and only then does the cosignature leave.
//
// Collector asks all witnesses of a policy at once and returns a checkpoint
// cosigned by at least its quorum.
//
// # Time-outs
//
// The server sets no time-outs of its own: the http.Server that carries it should
// have ReadHeaderTimeout 5 s, ReadTimeout 10 s, IdleTimeout 2 min, MaxHeaderBytes
// 8 KiB, and a WriteTimeout above the longest that Check may take (30 s).
package witness

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
)

// Log is a log that a witness cosigns.
type Log struct {
	Origin string            // first line of its checkpoints
	Keys   []checkpoint.VKey // type 0x01; a signature by one of them suffices
	// PerDay is how many checkpoints it may send a day; 0: Limits.PerLog says.
	// An hour's worth may come at once, and never fewer than ten.
	PerDay float64
}

// ErrUnavailable is wrapped by an error of Config.Check that means "ask again
// later": the answer is then 503, not 422.
var ErrUnavailable = errors.New("cannot decide now")

// Config is what a Server needs.
type Config struct {
	Logs   []Log
	Signer *checkpoint.Signer // type 0x04, used by this witness alone
	Store  Store
	// Clock gives the time of cosignatures and rate limits; nil is time.Now.
	Clock func() time.Time
	// Check, if set, is asked last, before every cosignature; an index-verifying
	// cosigner recomputes the index there. An error refuses the checkpoint with
	// 422 and its text. It may be called concurrently.
	Check   func(ctx context.Context, cp checkpoint.Checkpoint, note checkpoint.Note) error
	Limits  Limits
	Metrics *Metrics     // nil counts nothing
	Logger  *slog.Logger // nil logs nothing
}

// Server is the witness's HTTP interface.
type Server struct {
	cfg    Config
	logs   map[string]Log    // by origin
	byHash map[string]string // hex SHA-256 of origin -> origin
	limits *limiter
	mux    *http.ServeMux
}

// New checks the configuration and returns the server.
func New(cfg Config) (*Server, error) {
	if cfg.Signer == nil || cfg.Signer.VKey().Type != checkpoint.TypeCosigner {
		return nil, errors.New("witness needs a cosigner's key (type 0x04)")
	}
	if cfg.Store == nil {
		return nil, errors.New("witness needs a store")
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, logs: map[string]Log{}, byHash: map[string]string{}, limits: newLimiter(cfg.Limits)}
	for _, l := range cfg.Logs {
		if _, ok := s.logs[l.Origin]; ok || l.Origin == "" || len(l.Keys) == 0 {
			return nil, fmt.Errorf("log %q: want an origin, once, with at least one key", l.Origin)
		}
		for _, k := range l.Keys {
			if k.Type != checkpoint.TypeLog {
				return nil, fmt.Errorf("log %q: key %s has type %#02x, want 0x01", l.Origin, k.Name, k.Type)
			}
			if bytes.Equal(k.Key, cfg.Signer.VKey().Key) {
				return nil, fmt.Errorf("log %q has the witness's own key", l.Origin)
			}
		}
		s.logs[l.Origin] = l
		s.byHash[OriginHash(l.Origin)] = l.Origin
		rec, no := s.latest(l.Origin)
		if no != nil {
			return nil, errors.New(no.text)
		}
		cfg.Metrics.knows(cfg.Signer.VKey(), rec)
	}
	s.mux = http.NewServeMux()
	s.mux.HandleFunc("POST /add-checkpoint", s.addCheckpoint)
	s.mux.HandleFunc("GET /{hash}/checkpoint", s.getCheckpoint)
	return s, nil
}

// OriginHash is the name of a log in the monitoring interface: the SHA-256 of
// its origin in lower-case hex.
func OriginHash(origin string) string {
	h := sha256.Sum256([]byte(origin))
	return hex.EncodeToString(h[:])
}

// ServeHTTP implements http.Handler; submission and monitoring prefix are the
// same.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// refusal is an answer other than 200.
type refusal struct {
	status  int
	reason  string // metric label
	text    string
	size    uint64 // body of a 409
	isSize  bool
	later   bool // send Retry-After
	logWarn bool
}

func refuse(status int, reason, format string, a ...any) *refusal {
	return &refusal{status: status, reason: reason, text: fmt.Sprintf(format, a...)}
}

func (s *Server) addCheckpoint(w http.ResponseWriter, r *http.Request) {
	line, origin, no := s.handle(w, r)
	if no == nil {
		s.cfg.Metrics.answered(origin, http.StatusOK, "cosigned")
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, line)
		return
	}
	s.cfg.Metrics.answered(origin, no.status, no.reason)
	if no.logWarn {
		s.cfg.Logger.Warn("checkpoint refused", "origin", origin, "status", no.status, "reason", no.text)
	}
	if no.isSize {
		w.Header()["Content-Type"] = []string{sizeType}
		w.WriteHeader(no.status)
		_, _ = io.WriteString(w, strconv.FormatUint(no.size, 10)+"\n")
		return
	}
	if no.later {
		w.Header().Set("Retry-After", "1")
	}
	http.Error(w, no.text, no.status)
}

// handle returns the cosignature line, or why not; origin is set once known.
func (s *Server) handle(w http.ResponseWriter, r *http.Request) (line, origin string, no *refusal) {
	if !s.limits.client(r.RemoteAddr, s.cfg.Clock()) {
		no = refuse(http.StatusTooManyRequests, "rate", "too many requests from this address")
		no.later = true
		return "", "", no
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxRequest))
	if err != nil {
		if tooBig := (*http.MaxBytesError)(nil); errors.As(err, &tooBig) {
			return "", "", refuse(http.StatusRequestEntityTooLarge, "too-large", "request has more than %d bytes; send only the log's own signatures", MaxRequest)
		}
		return "", "", refuse(http.StatusBadRequest, "read", "request could not be read")
	}
	req, err := ParseRequest(body)
	if err != nil {
		return "", "", refuse(http.StatusBadRequest, "malformed", "%v", err)
	}
	l, ok := s.logs[req.Checkpoint.Origin]
	if !ok {
		return "", "", refuse(http.StatusNotFound, "unknown-log", "unknown log")
	}
	sigs, no := verifyLog(l, req.Note)
	if no != nil {
		return "", l.Origin, no
	}
	if !s.limits.log(l, s.cfg.Clock()) {
		no = refuse(http.StatusTooManyRequests, "rate", "too many checkpoints of this log")
		no.later = true
		return "", l.Origin, no
	}
	line, no = s.cosign(r.Context(), req, sigs)
	return line, l.Origin, no
}

// verifyLog returns the signatures of the log's trusted keys.
func verifyLog(l Log, n checkpoint.Note) ([]checkpoint.NoteSig, *refusal) {
	var sigs []checkpoint.NoteSig
	for _, k := range l.Keys {
		err := k.VerifyLog(n)
		if errors.Is(err, checkpoint.ErrNoSignature) {
			continue
		}
		if err != nil {
			return nil, refuse(http.StatusForbidden, "bad-signature", "%v", err)
		}
		for _, sig := range n.Sigs {
			if k.Made(sig) {
				sigs = append(sigs, sig)
				break // further lines by this key say the same
			}
		}
	}
	if len(sigs) == 0 {
		return nil, refuse(http.StatusForbidden, "no-signature", "no signature by a key trusted for this log")
	}
	return sigs, nil
}

// cosign decides about a request whose log signature has been verified.
func (s *Server) cosign(ctx context.Context, req Request, logSigs []checkpoint.NoteSig) (string, *refusal) {
	cp := req.Checkpoint
	if req.Old > cp.Size {
		return "", refuse(http.StatusBadRequest, "old-above-size", "old size %d is above the checkpoint's size %d", req.Old, cp.Size)
	}
	rec, no := s.observe(req.Note, cp)
	if no != nil {
		return "", no
	}
	if req.Old != rec.Size {
		return "", conflict(rec.Size)
	}
	if no := consistent(rec.State(), req); no != nil {
		return "", no
	}
	if s.cfg.Check != nil {
		if err := s.cfg.Check(ctx, cp, req.Note); errors.Is(err, ErrUnavailable) {
			no := refuse(http.StatusServiceUnavailable, "check-unavailable", "%v", err)
			no.later = true
			return "", no
		} else if err != nil {
			no := refuse(http.StatusUnprocessableEntity, "check", "%v", err)
			no.logWarn = true
			return "", no
		}
	}
	return s.commit(rec.State(), cp, req.Note.Text, logSigs)
}

// consistent applies the rules of size zero, one root at one size, and the
// proof. prev.Size is req.Old.
func consistent(prev State, req Request) *refusal {
	cp := req.Checkpoint
	no := func(reason, format string, a ...any) *refusal {
		r := refuse(http.StatusUnprocessableEntity, reason, format, a...)
		r.logWarn = true // signed by the log: it may be proof that it misbehaves
		return r
	}
	switch {
	case cp.Size == 0 && cp.Root != checkpoint.EmptyRoot:
		return no("empty-root", "size 0 with a root that is not the empty tree's")
	case req.Old == 0 && len(req.Proof) != 0:
		return no("proof-from-empty", "a proof from size 0 has to be empty")
	case req.Old == cp.Size && prev.Root != cp.Root:
		return no("fork", "another root was cosigned at size %d", cp.Size)
	}
	if req.Old == 0 {
		return nil // the empty tree is consistent with every tree
	}
	if err := checkpoint.VerifyConsistency(req.Old, cp.Size, req.Proof, prev.Root, cp.Root); err != nil {
		return no("proof", "%v", err)
	}
	return nil
}

// commit makes the state durable and only then gives the cosignature away.
func (s *Server) commit(prev State, cp checkpoint.Checkpoint, text string, logSigs []checkpoint.NoteSig) (string, *refusal) {
	now := s.cfg.Clock().Unix()
	if now <= 0 {
		return "", s.internal(cp.Origin, "clock", errors.New("the clock stands before 1970"))
	}
	sig, err := s.cfg.Signer.Cosign(text, uint64(now))
	if err != nil {
		return "", s.internal(cp.Origin, "signer", err)
	}
	next := Record{
		Origin: cp.Origin,
		Size:   cp.Size,
		Root:   cp.Root,
		Note:   checkpoint.Note{Text: text, Sigs: append(logSigs, sig)}.Marshal(),
	}
	err = s.cfg.Store.Swap(prev, next)
	if errors.Is(err, ErrConflict) {
		rec, no := s.latest(cp.Origin)
		if no != nil {
			return "", no
		}
		if len(rec.Stale) != 0 {
			return "", frozen()
		}
		return "", conflict(rec.Size)
	}
	if err != nil {
		return "", s.internal(cp.Origin, "store", err)
	}
	s.cfg.Metrics.cosigned(cp.Origin, cp.Size, uint64(now))
	return sig.Line(), nil
}

func conflict(size uint64) *refusal {
	return &refusal{status: http.StatusConflict, reason: "conflict", size: size, isSize: true}
}

// internal hides the cause from strangers and keeps it for the operator.
func (s *Server) internal(origin, reason string, err error) *refusal {
	s.cfg.Logger.Error("witness cannot cosign", "origin", origin, "cause", reason, "error", err)
	return refuse(http.StatusInternalServerError, reason, "the witness cannot cosign; its operator can see why")
}

// latest returns the log's record, or one of NeverCosigned.
func (s *Server) latest(origin string) (Record, *refusal) {
	rec, ok, err := s.cfg.Store.Latest(origin)
	if err != nil {
		return Record{}, s.internal(origin, "store", err)
	}
	if !ok {
		rec = Record{Origin: origin, Size: NeverCosigned.Size, Root: NeverCosigned.Root}
	}
	return rec, nil
}

func (s *Server) getCheckpoint(w http.ResponseWriter, r *http.Request) {
	origin, ok := s.byHash[r.PathValue("hash")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	rec, ok, err := s.cfg.Store.Latest(origin)
	if err != nil {
		no := s.internal(origin, "store", err)
		http.Error(w, no.text, no.status)
		return
	}
	if !ok || len(rec.Note) == 0 {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("Content-Length", strconv.Itoa(len(rec.Note)))
	_, _ = w.Write(rec.Note)
}
