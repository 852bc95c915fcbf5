package node

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"fabtrail.dev/fabtrail/ledger/checkpoint"
)

// Cosigner is one witness that the ledger asks.
type Cosigner struct {
	URL   string
	VKey  checkpoint.VKey
	Index bool // it verifies the index before it cosigns
}

// ParseWitness reads "URL=VKEY" or "URL=FILE", FILE holding a vkey.
func ParseWitness(s string, index bool) (Cosigner, error) {
	url, key, ok := strings.Cut(s, "=")
	if !ok || !strings.HasPrefix(url, "http") {
		return Cosigner{}, fmt.Errorf("witness %q: want URL=VKEY or URL=FILE", s)
	}
	v, err := ReadVKey(key)
	if err != nil {
		return Cosigner{}, fmt.Errorf("witness %q: %w", url, err)
	}
	return Cosigner{URL: url, VKey: v, Index: index}, nil
}

// ReadVKey reads a vkey, or the file of that name that holds one.
func ReadVKey(s string) (checkpoint.VKey, error) {
	v, err := checkpoint.ParseVKey(s)
	if err == nil {
		return v, nil
	}
	b, ferr := os.ReadFile(s)
	if ferr != nil {
		if errors.Is(ferr, fs.ErrNotExist) && strings.Contains(s, "+") {
			return v, err
		}
		return v, ferr
	}
	return checkpoint.ParseVKey(strings.TrimSpace(string(b)))
}

// PolicyText writes a C2SP tlog-policy for a log and its witnesses: quorum of
// them must cosign. Index witnesses count towards the quorum only when counted
// is set. Without witnesses the policy is "quorum none".
func PolicyText(log checkpoint.VKey, witnesses []Cosigner, quorum int, counted bool) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "log %s\n", log)
	var members []string
	for _, w := range witnesses {
		fmt.Fprintf(&b, "witness %s %s %s\n", w.VKey.Name, w.VKey, w.URL)
		if counted || !w.Index {
			members = append(members, w.VKey.Name)
		}
	}
	switch {
	case len(witnesses) == 0 && quorum == 0:
		b.WriteString("quorum none\n")
	case quorum < 1 || quorum > len(members):
		return "", fmt.Errorf("a quorum of %d needs at least as many witnesses, and at least one; there are %d", quorum, len(members))
	default:
		fmt.Fprintf(&b, "group witnesses %d %s\nquorum witnesses\n", quorum, strings.Join(members, " "))
	}
	if _, err := checkpoint.ParsePolicy([]byte(b.String())); err != nil {
		return "", err
	}
	return b.String(), nil
}

// SetPolicy writes policy.txt and index.txt into the trust folder. Once a ledger was
// opened, a policy that is there and differs is replaced only when replace is set:
// verifiers hold copies of it.
func (f Folder) SetPolicy(witnesses []Cosigner, quorum int, counted, replace bool) error {
	signer, err := f.logSigner()
	if err != nil {
		return err
	}
	text, err := PolicyText(signer.VKey(), witnesses, quorum, counted)
	if err != nil {
		return err
	}
	path := filepath.Join(f.Trust(), "policy.txt")
	old, err := os.ReadFile(path)
	switch {
	case err == nil && bytes.Equal(old, []byte(text)):
	case err == nil && !replace && f.begun():
		return fmt.Errorf("%s names other witnesses or another quorum; start with --replace-policy to change it, and tell everybody who holds a copy", path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case err != nil && !replace && f.begun():
		return fmt.Errorf("%s is missing, but %s holds a ledger, and it says which witnesses that has: put it back, there is a copy in every backup "+
			"and with everybody who verifies; or name the witnesses again, with --replace-policy", path, f)
	default:
		if f.begun() { // else nothing was published under it
			if err := f.keepPolicy(old); err != nil {
				return err
			}
		}
		if err := writeFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	var index strings.Builder
	for _, w := range witnesses {
		if w.Index {
			index.WriteString(w.VKey.String() + "\n")
		}
	}
	return writeFile(filepath.Join(f.Trust(), "index.txt"), []byte(index.String()), 0o644)
}

// begun reports that a ledger was opened here: then there was a policy.
func (f Folder) begun() bool {
	_, err := os.Stat(f.ledger())
	return err == nil
}

// policies is where the policies of before are kept: what was published under
// them stays published.
func (f Folder) policies() string { return filepath.Join(string(f), "policies") }

// keepPolicy keeps a policy that is about to be replaced.
func (f Folder) keepPolicy(old []byte) error {
	if len(old) == 0 {
		return nil
	}
	if err := os.MkdirAll(f.policies(), 0o755); err != nil {
		return err
	}
	sum := sha256.Sum256(old)
	return writeFile(filepath.Join(f.policies(), hex.EncodeToString(sum[:8])+".txt"), old, 0o644)
}

// pastPolicies reads the policies of before, in no order.
func (f Folder) pastPolicies() ([]*checkpoint.Policy, error) {
	files, err := filepath.Glob(filepath.Join(f.policies(), "*.txt"))
	if err != nil {
		return nil, err
	}
	var out []*checkpoint.Policy
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		p, err := checkpoint.ParsePolicy(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		out = append(out, p)
	}
	return out, nil
}

// policy reads policy.txt; nil when there is none yet.
func (f Folder) policy() (*checkpoint.Policy, error) {
	path := filepath.Join(f.Trust(), "policy.txt")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p, err := checkpoint.ParsePolicy(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}
