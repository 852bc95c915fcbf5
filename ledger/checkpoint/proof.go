package checkpoint

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"fabtrail.dev/fabtrail/ledger/entry"
)

const (
	proofHeader = "c2sp.org/tlog-proof@v1\n"
	// MaxProof bounds a proof of logging, in bytes.
	MaxProof = MaxNote + 16<<10
	// maxInclusion is the longest inclusion proof in a tree of up to 2^64 leaves.
	maxInclusion = 64
)

// Proof is a proof of logging that can be checked offline: a receipt.
type Proof struct {
	// Extra is not authenticated by the proof; a receipt's is what
	// entry.ParseExtra reads. Nil and empty are the same: no line.
	Extra      []byte
	Index      uint64
	Hashes     []entry.Hash // leaf to root
	Checkpoint []byte       // signed note
}

// Marshal returns the text of the proof.
func (p Proof) Marshal() []byte {
	enc := base64.StdEncoding
	b := make([]byte, 0, len(proofHeader)+enc.EncodedLen(len(p.Extra))+45*len(p.Hashes)+len(p.Checkpoint)+40)
	b = append(b, proofHeader...)
	if len(p.Extra) > 0 {
		b = append(enc.AppendEncode(append(b, "extra "...), p.Extra), '\n')
	}
	b = append(strconv.AppendUint(append(b, "index "...), p.Index, 10), '\n')
	for i := range p.Hashes {
		b = append(enc.AppendEncode(b, p.Hashes[i][:]), '\n')
	}
	b = append(b, '\n')
	return append(b, p.Checkpoint...)
}

// ParseProof reads a proof of logging; errors wrap ErrMalformed. The checkpoint
// in it is a well-formed note with a well-formed checkpoint as its text, larger
// than Index; nothing is verified yet.
func ParseProof(b []byte) (Proof, error) {
	if len(b) > MaxProof {
		return Proof{}, malformed("proof has %d bytes, limit %d", len(b), MaxProof)
	}
	head, note, ok := bytes.Cut(b, []byte("\n\n"))
	if !ok {
		return Proof{}, malformed("proof has no empty line before its checkpoint")
	}
	rest, ok := strings.CutPrefix(string(head)+"\n", proofHeader)
	if !ok {
		return Proof{}, malformed("proof does not begin with %q", proofHeader)
	}
	p := Proof{Checkpoint: note}
	lines := strings.Split(strings.TrimSuffix(rest, "\n"), "\n")
	var err error
	if s, ok := strings.CutPrefix(lines[0], "extra "); ok {
		if p.Extra, err = parseBase64(s); err != nil || len(p.Extra) == 0 {
			return Proof{}, malformed("extra is not base64 of at least one byte")
		}
		lines = lines[1:]
	}
	if len(lines) == 0 {
		return Proof{}, malformed("proof has no index line")
	}
	s, ok := strings.CutPrefix(lines[0], "index ")
	if !ok {
		return Proof{}, malformed("proof has %.40q where its index should be", lines[0])
	}
	if p.Index, err = parseDecimal(s); err != nil {
		return Proof{}, malformed("index: %v", err)
	}
	if len(lines)-1 > maxInclusion {
		return Proof{}, malformed("proof has %d hashes, limit %d", len(lines)-1, maxInclusion)
	}
	for _, l := range lines[1:] {
		h, err := parseHash64(l)
		if err != nil {
			return Proof{}, malformed("hash %d: %v", len(p.Hashes), err)
		}
		p.Hashes = append(p.Hashes, h)
	}
	n, err := ParseNote(note)
	if err != nil {
		return Proof{}, err
	}
	cp, err := ParseCheckpoint(n.Text)
	if err != nil {
		return Proof{}, err
	}
	if p.Index >= cp.Size {
		return Proof{}, malformed("index %d is not below the checkpoint's size %d", p.Index, cp.Size)
	}
	return p, nil
}

// Verify checks the proof of the given leaf hash under a policy: signature of
// the log, quorum of cosignatures, inclusion. Errors are those of Policy.Verify,
// or wrap ErrBadProof.
func (p Proof) Verify(policy *Policy, leaf entry.Hash) (Cosigned, error) {
	c, err := policy.Verify(p.Checkpoint)
	if err != nil {
		return Cosigned{}, fmt.Errorf("checkpoint of the proof: %w", err)
	}
	if err := VerifyInclusion(leaf, p.Index, c.Size, p.Hashes, c.Root); err != nil {
		return Cosigned{}, err
	}
	return c, nil
}
