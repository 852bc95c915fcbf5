package client

import (
	"fmt"

	"github.com/go-json-experiment/json"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
)

// Conviction is what a fork proof shows to somebody who holds the log's key and
// was not there.
type Conviction struct {
	Certain bool   // nobody but the holder of the log's key can have made this
	Says    string // one sentence
}

// Judge decides offline what f proves. Two roots at one size, both signed by
// the log, prove two histories by themselves. At two sizes the notes prove that
// the log signed both, and whoever runs the log can clear it by publishing a
// consistency proof; until then the failed one is shown. Cosignatures count for
// nothing here: what the log's key signed binds the log, whoever else signed it.
func (f *Fork) Judge(t *Trust) (Conviction, error) {
	old, err := t.logSigned([]byte(f.Old))
	if err != nil {
		return Conviction{}, fmt.Errorf("the first note: %w", err)
	}
	now, err := t.logSigned([]byte(f.New))
	if err != nil {
		return Conviction{}, fmt.Errorf("the second note: %w", err)
	}
	if old.Size > now.Size {
		old, now = now, old
	}
	if old.Size == now.Size {
		if old.Root == now.Root {
			return Conviction{Says: "both notes have the same root: no fork"}, nil
		}
		return Conviction{Certain: true, Says: fmt.Sprintf("%s signed two roots at size %d: it shows two histories", old.Origin, old.Size)}, nil
	}
	if checkpoint.VerifyConsistency(old.Size, now.Size, f.Hashes, old.Root, now.Root) == nil {
		return Conviction{Says: fmt.Sprintf("sizes %d and %d are of one history: no fork", old.Size, now.Size)}, nil
	}
	return Conviction{Says: fmt.Sprintf("%s signed sizes %d and %d, and the proof that it gave does not join them: ask it for one that does", old.Origin, old.Size, now.Size)}, nil
}

// Marshal returns f as JSON, for a fork proof file.
func (f *Fork) Marshal() ([]byte, error) { return json.Marshal(f) }

// ParseFork reads a fork proof file.
func ParseFork(b []byte) (*Fork, error) {
	var f Fork
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("fork proof: %w", err)
	}
	return &f, nil
}
