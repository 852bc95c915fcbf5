// Package ledgertest tests ledgers and their engines: a conformance suite that
// every ledger.Sequencer passes, a model that random operations are compared
// with, an engine in memory that can be made to fail, and small helpers for
// tests that need a ledger without the domain above it.
package ledgertest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// ErrRefused is how App refuses.
var ErrRefused = errors.New("refused by the test application")

// App is an application whose decisions are written in the payload, one
// instruction a line:
//
//	public                 class 1 instead of 2
//	topic NAME             list the entry under a topic
//	set KEY VALUE          write state (an empty value deletes)
//	need KEY VALUE         refuse unless the state has this value ("-": none)
//	add KEY                count KEY up by one
//	refuse                 refuse after all
//
// Other lines only make payloads distinct.
type App struct{}

// Decide implements ledger.App.
func (App) Decide(st ledger.State, at ledger.At, sub ledger.Submission) ledger.Outcome {
	env, err := entry.ParseEnvelope(sub.Envelope)
	if err != nil {
		return ledger.Outcome{Refused: err}
	}
	out := ledger.Outcome{Class: entry.Restricted, Effect: "applied"}
	for line := range strings.Lines(string(env.Payload)) {
		f := append(strings.Fields(line), "", "", "")
		switch f[0] {
		case "public":
			out.Class = entry.Public
		case "topic":
			out.Topics = append(out.Topics, Topic(f[1]))
		case "set":
			if f[2] == "" {
				st.Set(f[1], nil)
			} else {
				st.Set(f[1], []byte(f[2]))
			}
		case "add":
			n, _ := strconv.Atoi(string(st.Get(f[1])))
			st.Set(f[1], strconv.AppendInt(nil, int64(n+1), 10))
			out.Effect = fmt.Sprintf("%s=%d", f[1], n+1)
		case "need":
			if got := st.Get(f[1]); f[2] == "-" && got != nil || f[2] != "-" && !bytes.Equal(got, []byte(f[2])) {
				return ledger.Outcome{Refused: fmt.Errorf("%w: %s is %q, need %q at %d", ErrRefused, f[1], got, f[2], at.Index)}
			}
		case "refuse":
			return ledger.Outcome{Refused: ErrRefused}
		}
	}
	return out
}

// Topic is the topic of a name.
func Topic(name string) entry.Hash { return entry.Topic{Kind: entry.TopicUnit, Value: name}.Hash() }

// Submission wraps a payload into an envelope with one signature, which App does
// not look at.
func Submission(payload string) ledger.Submission {
	key := entry.Hash(sha256.Sum256([]byte("test key")))
	b, err := entry.Envelope{Payload: []byte(payload), Signatures: []entry.Signature{{Key: key, Sig: make([]byte, 64)}}}.Marshal()
	if err != nil {
		panic(err)
	}
	return ledger.Submission{ID: entry.StatementID([]byte(payload)), Envelope: b}
}

// Key is a deterministic Ed25519 key.
func Key(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("ledgertest key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func sum(b []byte) entry.Hash { return sha256.Sum256(b) }

// LogSigner is the deterministic log key of an origin.
func LogSigner(origin string) *checkpoint.Signer {
	s, err := checkpoint.NewSigner(origin, checkpoint.TypeLog, Key(origin))
	if err != nil {
		panic(err)
	}
	return s
}

// Clock is a clock that tests set.
type Clock struct {
	mu sync.Mutex
	t  time.Time
}

// NewClock starts at a fixed moment in 2026.
func NewClock() *Clock { return &Clock{t: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

// Now returns the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

// Add moves the clock, also backwards.
func (c *Clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// Salts is a deterministic source for Config.Rand: the n-th call gives the n-th
// block, so equal histories have equal salts.
func Salts(seed uint64) func([]byte) error {
	var mu sync.Mutex
	n := uint64(0)
	return func(b []byte) error {
		mu.Lock()
		defer mu.Unlock()
		for len(b) > 0 {
			h := sha256.Sum256(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64([]byte("salt"), seed), n))
			b = b[copy(b, h[:]):]
			n++
		}
		return nil
	}
}
