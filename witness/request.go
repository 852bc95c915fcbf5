package witness

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
)

const (
	// MaxRequest bounds the body of an add-checkpoint request, in bytes.
	MaxRequest = 16 << 10
	maxProof   = 63
	sizeType   = "text/x.tlog.size" // exactly: clients compare the whole header
)

// ErrMalformed is wrapped by errors of ParseRequest that are not the
// checkpoint's own (which wrap checkpoint.ErrMalformed).
var ErrMalformed = errors.New("malformed add-checkpoint request")

// Request is the body of POST /add-checkpoint:
//
//	old <decimal>
//	base64(hash (32))       zero to 63
//	<empty line>
//	<checkpoint, a signed note>
type Request struct {
	Old        uint64
	Proof      []entry.Hash
	Note       checkpoint.Note
	Checkpoint checkpoint.Checkpoint // parsed from Note.Text; not used by Marshal
}

// Marshal returns the body.
func (r Request) Marshal() []byte {
	var b bytes.Buffer
	b.WriteString("old " + strconv.FormatUint(r.Old, 10) + "\n")
	for _, h := range r.Proof {
		b.WriteString(base64.StdEncoding.EncodeToString(h[:]) + "\n")
	}
	b.WriteByte('\n')
	b.Write(r.Note.Marshal())
	return b.Bytes()
}

// ParseRequest reads the body; anything that Marshal would not write is an
// error.
func ParseRequest(b []byte) (Request, error) {
	head, note, ok := strings.Cut(string(b), "\n\n")
	if !ok {
		return Request{}, fmt.Errorf("%w: no empty line before the checkpoint", ErrMalformed)
	}
	lines := strings.Split(head, "\n")
	size, ok := strings.CutPrefix(lines[0], "old ")
	if !ok {
		return Request{}, fmt.Errorf("%w: first line is not the old size", ErrMalformed)
	}
	var r Request
	var err error
	if r.Old, err = parseSize(size); err != nil {
		return Request{}, fmt.Errorf("%w: old size: %w", ErrMalformed, err)
	}
	if len(lines)-1 > maxProof {
		return Request{}, fmt.Errorf("%w: %d proof lines, limit %d", ErrMalformed, len(lines)-1, maxProof)
	}
	for i, l := range lines[1:] {
		h, err := base64.StdEncoding.DecodeString(l)
		if err != nil || len(h) != 32 || base64.StdEncoding.EncodeToString(h) != l {
			return Request{}, fmt.Errorf("%w: proof line %d is not base64 of 32 bytes", ErrMalformed, i+1)
		}
		r.Proof = append(r.Proof, entry.Hash(h))
	}
	if r.Note, err = checkpoint.ParseNote([]byte(note)); err != nil {
		return Request{}, err
	}
	if r.Checkpoint, err = checkpoint.ParseCheckpoint(r.Note.Text); err != nil {
		return Request{}, err
	}
	return r, nil
}

// parseSize reads a tree size: decimal without sign or leading zeros.
func parseSize(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, fmt.Errorf("%.30q is not a decimal number below 2^64 without leading zeros", s)
	}
	return n, nil
}
