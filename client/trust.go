package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// The files of a trust folder.
const (
	LogFile     = "log.vkey"     // vkey of the log, one line
	PolicyFile  = "policy.txt"   // C2SP tlog-policy
	CharterFile = "charter.json" // payload of entry 0, byte for byte
	IndexFile   = "index.txt"    // vkeys of index-verifying cosigners, one a line
)

// TrustFiles lists the files of a trust folder; index.txt may be absent, which
// says that no cosigner checks the index.
var TrustFiles = []string{LogFile, PolicyFile, CharterFile, IndexFile}

// Trust is all that a verifier believes without proof.
type Trust struct {
	Log     checkpoint.VKey
	Policy  *checkpoint.Policy
	Charter []byte            // payload of entry 0
	Ledger  entry.Hash        // SHA-256 of Charter
	Index   []checkpoint.VKey // index-verifying cosigners
	Past    []DatedPolicy     // policies that the log dates, for old receipts
}

// LoadTrust reads a trust folder.
func LoadTrust(fsys fs.FS) (*Trust, error) {
	files := map[string][]byte{}
	for _, name := range append(slices.Clone(TrustFiles), PoliciesFile) {
		b, err := fs.ReadFile(fsys, name)
		if errors.Is(err, fs.ErrNotExist) && (name == IndexFile || name == PoliciesFile) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("trust folder: %w", err)
		}
		files[name] = b
	}
	return ParseTrust(files)
}

// ParseTrust reads the files of a trust folder, by name.
func ParseTrust(files map[string][]byte) (*Trust, error) {
	keys, err := vkeys(files[LogFile])
	if err != nil {
		return nil, fmt.Errorf("trust folder: %s: %w", LogFile, err)
	}
	if len(keys) != 1 || keys[0].Type != 0x01 {
		return nil, fmt.Errorf("trust folder: %s: want one Ed25519 log key", LogFile)
	}
	t := &Trust{Log: keys[0], Charter: files[CharterFile]}
	if t.Policy, err = checkpoint.ParsePolicy(files[PolicyFile]); err != nil {
		return nil, fmt.Errorf("trust folder: %s: %w", PolicyFile, err)
	}
	if in, ok := t.Policy.Log(t.Log.Name); !ok || in.String() != t.Log.String() {
		return nil, fmt.Errorf("trust folder: %s does not name the key of %s", PolicyFile, LogFile)
	}
	if len(t.Charter) == 0 {
		return nil, fmt.Errorf("trust folder: %s is missing or empty", CharterFile)
	}
	t.Ledger = sha256.Sum256(t.Charter)
	if t.Index, err = vkeys(files[IndexFile]); err != nil {
		return nil, fmt.Errorf("trust folder: %s: %w", IndexFile, err)
	}
	for i, k := range t.Index {
		if k.Type != 0x04 {
			return nil, fmt.Errorf("trust folder: %s: %s is not a cosigner's key", IndexFile, k.Name)
		}
		for _, other := range t.Index[:i] { // one witness would be counted as two, whatever its names
			if bytes.Equal(k.Key, other.Key) {
				return nil, fmt.Errorf("trust folder: %s: the keys of %s and %s are one and the same", IndexFile, other.Name, k.Name)
			}
		}
	}
	if t.Past, err = parsePolicies(files[PoliciesFile]); err != nil {
		return nil, fmt.Errorf("trust folder: %s: %w", PoliciesFile, err)
	}
	return t, nil
}

// vkeys reads one vkey a line; empty lines and lines that start with # are
// passed over.
func vkeys(b []byte) ([]checkpoint.VKey, error) {
	var out []checkpoint.VKey
	lines := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		k, err := checkpoint.ParseVKey(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		out = append(out, k)
	}
	return out, lines.Err()
}

// Fingerprint identifies one file of a trust folder, to be compared with what
// the ledger's operator published by another way.
type Fingerprint struct {
	File   string     `json:"file"`
	SHA256 entry.Hash `json:"-"`
	Hex    string     `json:"sha256"`
	Says   string     `json:"says"` // what the file means, in a few words
}

// FetchTrust downloads a trust folder. Nothing vouches for what it returns:
// the caller shows the fingerprints to a person before anything relies on it.
func (r *Remote) FetchTrust(ctx context.Context) (map[string][]byte, []Fingerprint, error) {
	files := map[string][]byte{}
	for _, name := range TrustFiles {
		rep, err := r.do(ctx, request{method: "GET", path: "/trust/" + name, limit: maxTrust})
		if err != nil {
			return nil, nil, err
		}
		files[name] = rep.body
	}
	t, err := ParseTrust(files)
	if err != nil {
		return nil, nil, err
	}
	return files, t.Fingerprints(files), nil
}

// Fingerprints describes the files that t was read from.
func (t *Trust) Fingerprints(files map[string][]byte) []Fingerprint {
	index := make([]string, len(t.Index))
	for i, k := range t.Index {
		index[i] = k.Name
	}
	var witnesses []string
	for _, w := range t.Policy.Witnesses() {
		witnesses = append(witnesses, w.Name)
	}
	says := map[string]string{
		LogFile:     "log " + t.Log.Name,
		PolicyFile:  counted(witnesses, "witness", "witnesses"),
		CharterFile: "the ledger's charter; its digest is the ledger's name in every statement",
		IndexFile:   counted(index, "index-verifying cosigner", "index-verifying cosigners"),
	}
	var out []Fingerprint
	for _, name := range TrustFiles {
		h := entry.Hash(sha256.Sum256(files[name]))
		out = append(out, Fingerprint{File: name, SHA256: h, Hex: h.String(), Says: says[name]})
	}
	return out
}

// Memory keeps the largest checkpoint that this client has verified, so that
// the ledger cannot show it another history later.
type Memory interface {
	// Load returns the note last stored for origin, or nil when there is none.
	// A note that cannot be read is an error, never nil.
	Load(origin string) ([]byte, error)
	// Store replaces it, durably, before it returns.
	Store(origin string, note []byte) error
}

// counted lists names after their number.
func counted(names []string, one, many string) string {
	if len(names) == 0 {
		return "no " + many
	}
	if len(names) > 1 {
		one = many
	}
	return fmt.Sprintf("%d %s: %s", len(names), one, strings.Join(names, ", "))
}
