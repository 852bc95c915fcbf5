// Package checkpoint reads, writes and verifies what a log and its witnesses
// sign. It is pure: no clock, no randomness, no I/O. Every parser is strict: what
// it accepts, its writer writes again byte for byte (for a policy: its grammar is
// kept to the letter), so one meaning has one form. Carriage returns, leading
// zeros, signs before numbers, loose base64 and trailing data are errors that
// wrap ErrMalformed.
//
// The formats are those of C2SP as of commit 5ba5ee8 (July 2026); only Ed25519
// keys are supported.
//
// # Signed note (c2sp.org/signed-note@v1.0.0)
//
//	text, ending in a newline
//	<empty line>
//	— <name> base64(u32 key ID | signature)        one or more such lines
//
// UTF-8 without control characters other than newline. The text ends at the last
// empty line. A name is not empty and has neither Unicode spaces nor '+'. Key ID =
// first four bytes of SHA-256(name | 0x0A | type | public key).
//
// # Verifier key and signer key
//
//	<name>+<8 hex digits of key ID>+base64(type | public key (32))
//	PRIVATE+KEY+<name>+<8 hex digits of key ID>+base64(type | Ed25519 seed (32))
//
// Type 0x01 signs the text of a note (a log's key). Type 0x04 makes timestamped
// cosignatures (a witness's key).
//
// # Checkpoint (c2sp.org/tlog-checkpoint@v1.0.0)
//
//	origin
//	size, decimal
//	base64(root hash (32))
//	[extension lines, not empty]
//
// # Cosignature (c2sp.org/tlog-cosignature@v1.0.1, Ed25519)
//
// Signature bytes are u64 time (Unix seconds) | Ed25519 signature (64), over
//
//	cosignature/v1
//	time <decimal>
//	<whole text of the checkpoint>
//
// A time of zero or above 2^63-1 is refused.
//
// # Policy (c2sp.org/tlog-policy, main of June 2026)
//
//	log <vkey> [<url>]
//	witness <name> <vkey> [<url>]
//	group <name> all|any|<k> <member>...
//	quorum <name>|none
//
// # Proof of logging (c2sp.org/tlog-proof, main of May 2026)
//
//	c2sp.org/tlog-proof@v1
//	[extra base64(data)]
//	index <decimal>
//	base64(hash (32))                              zero or more, leaf to root
//	<empty line>
//	<checkpoint, a signed note>
package checkpoint

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"fabtrail.dev/fabtrail/ledger/entry"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
)

// Errors that callers tell apart; every error of this package wraps one of them.
var (
	// ErrMalformed: the bytes are not of the format.
	ErrMalformed = errors.New("malformed")
	// ErrNoSignature: the note has no signature by the key asked for.
	ErrNoSignature = errors.New("no signature by this key")
	// ErrBadSignature: a signature names a known key and does not verify.
	ErrBadSignature = errors.New("signature does not verify")
	// ErrUnknownLog: the policy lists no log of this origin.
	ErrUnknownLog = errors.New("log is not in the policy")
	// ErrNoQuorum: the cosignatures do not satisfy the policy's quorum.
	ErrNoQuorum = errors.New("cosignatures do not reach the quorum")
	// ErrBadProof: a Merkle proof does not verify.
	ErrBadProof = errors.New("proof does not verify")
)

func malformed(format string, a ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, a...)...)
}

// EmptyRoot is the root of the tree of size 0: SHA-256 of nothing.
var EmptyRoot = entry.Hash(sha256.Sum256(nil))

// Checkpoint is a log's claim: its tree of Size leaves has this root.
type Checkpoint struct {
	Origin string
	Size   uint64
	Root   entry.Hash
	// Extension holds the extension lines, each with its newline; Fabtrail's
	// own logs have none, but a witness cosigns those of others.
	Extension string
}

// Text returns the text that log and witnesses sign.
func (c Checkpoint) Text() string {
	return c.Origin + "\n" + strconv.FormatUint(c.Size, 10) + "\n" +
		base64.StdEncoding.EncodeToString(c.Root[:]) + "\n" + c.Extension
}

// ParseCheckpoint reads the text of a checkpoint; errors wrap ErrMalformed. It
// does not compare a root of size 0 with EmptyRoot: a witness answers that with
// a status of its own.
func ParseCheckpoint(text string) (Checkpoint, error) {
	var c Checkpoint
	lines := strings.SplitN(text, "\n", 4)
	if len(lines) != 4 {
		return c, malformed("checkpoint has %d whole lines, want at least 3", len(lines)-1)
	}
	c.Origin, c.Extension = lines[0], lines[3]
	if err := checkOrigin(c.Origin); err != nil {
		return Checkpoint{}, err
	}
	var err error
	if c.Size, err = parseDecimal(lines[1]); err != nil {
		return Checkpoint{}, malformed("checkpoint size: %v", err)
	}
	if c.Root, err = parseHash64(lines[2]); err != nil {
		return Checkpoint{}, malformed("checkpoint root: %v", err)
	}
	if c.Extension != "" {
		if !strings.HasSuffix(c.Extension, "\n") {
			return Checkpoint{}, malformed("checkpoint does not end in a newline")
		}
		if c.Extension[0] == '\n' || strings.Contains(c.Extension, "\n\n") {
			return Checkpoint{}, malformed("checkpoint has an empty extension line")
		}
		if err := checkText(c.Extension); err != nil {
			return Checkpoint{}, err
		}
	}
	return c, nil
}

func checkOrigin(s string) error {
	if s == "" {
		return malformed("checkpoint without an origin")
	}
	if strings.Contains(s, "\n") {
		return malformed("origin has a newline")
	}
	return checkText(s)
}

// parseDecimal reads a number without sign, leading zeros or other characters.
func parseDecimal(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, fmt.Errorf("%.40q is not a decimal number below 2^64 without leading zeros", s)
	}
	return n, nil
}

// parseBase64 reads standard base64 in its one canonical form.
func parseBase64(s string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || base64.StdEncoding.EncodeToString(b) != s {
		return nil, fmt.Errorf("%.60q is not canonical standard base64", s)
	}
	return b, nil
}

func parseHash64(s string) (h entry.Hash, err error) {
	b, err := parseBase64(s)
	if err != nil {
		return h, err
	}
	if len(b) != len(h) {
		return h, fmt.Errorf("hash has %d bytes, want %d", len(b), len(h))
	}
	return entry.Hash(b), nil
}

// VerifyInclusion checks an RFC 6962 inclusion proof (leaf to root) of the leaf
// hash at index in the tree of the given size and root; a failure wraps
// ErrBadProof.
func VerifyInclusion(leaf entry.Hash, index, size uint64, hashes []entry.Hash, root entry.Hash) error {
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, index, size, leaf[:], raw(hashes), root[:]); err != nil {
		return fmt.Errorf("%w: inclusion of entry %d in the tree of %d: %s", ErrBadProof, index, size, why(err))
	}
	return nil
}

// PrefixRoot returns the root of the first index+1 leaves of a tree, taken from an
// inclusion proof (leaf to root) of the leaf hash at index, the last of them. It is
// the tree's own statement about its prefix: a proof that holds gives one root and
// no other. A proof that does not hold gives an error that wraps ErrBadProof.
func PrefixRoot(leaf entry.Hash, index, size uint64, hashes []entry.Hash, root entry.Hash) (entry.Hash, error) {
	if err := VerifyInclusion(leaf, index, size, hashes, root); err != nil {
		return entry.Hash{}, err
	}
	// The siblings on the left of the path are what the prefix has beside the leaf
	// (RFC 9162, section 2.1.3.2, tells them apart); those on the right came later.
	prefix, node, last := leaf, index, size-1
	for _, sibling := range hashes {
		if node&1 == 1 || node == last {
			prefix = entry.Hash(rfc6962.DefaultHasher.HashChildren(sibling[:], prefix[:]))
			for node&1 == 0 && node != 0 {
				node, last = node>>1, last>>1
			}
		}
		node, last = node>>1, last>>1
	}
	return prefix, nil
}

// VerifyConsistency checks an RFC 6962 consistency proof between two trees; a
// failure wraps ErrBadProof. From size 0 the proof is empty and proves nothing
// about the newer root; the older root must then be EmptyRoot.
func VerifyConsistency(oldSize, newSize uint64, hashes []entry.Hash, oldRoot, newRoot entry.Hash) error {
	fail := func(format string, a ...any) error {
		return fmt.Errorf("%w: from size %d to %d: %s", ErrBadProof, oldSize, newSize, fmt.Sprintf(format, a...))
	}
	switch {
	case oldSize > newSize:
		return fail("the older tree is larger")
	case oldSize == 0 && oldRoot != EmptyRoot, newSize == 0 && newRoot != EmptyRoot:
		return fail("size 0 with a root that is not the empty tree's")
	case oldSize == newSize && oldRoot != newRoot:
		return fail("two roots at one size")
	case oldSize == 0 || oldSize == newSize:
		if len(hashes) != 0 {
			return fail("proof has %d hashes, want none", len(hashes))
		}
		return nil
	}
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, oldSize, newSize, raw(hashes), oldRoot[:], newRoot[:]); err != nil {
		return fail("%s", why(err))
	}
	return nil
}

// why says what is wrong with a proof in one line; roots are in hex, as elsewhere.
func why(err error) string {
	var m proof.RootMismatchError
	if errors.As(err, &m) {
		return fmt.Sprintf("it leads to the root %x, not %x", m.CalculatedRoot, m.ExpectedRoot)
	}
	return err.Error()
}

func raw(hashes []entry.Hash) [][]byte {
	out := make([][]byte, len(hashes))
	for i := range hashes {
		out[i] = hashes[i][:]
	}
	return out
}
