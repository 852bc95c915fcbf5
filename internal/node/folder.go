// Package node wires ledger, custody, witnesses, views and API into one running
// Fabtrail ledger over one data folder. It is the only package that knows all of
// them; the programs and their tests start what it assembles.
//
// # The data folder
//
//	DIR/keys/log.skey        the log's key (note form, Ed25519)
//	DIR/keys/operator.pem    signs the findings that the ledger itself publishes
//	DIR/keys/token.pem       signs bearer tokens
//	DIR/keys/authority.pem   only when `init` made the one authority itself
//	DIR/charter.dsse.json    the signed charter; becomes entry 0
//	DIR/trust/               public: log.vkey, policy.txt, charter.json, index.txt
//	DIR/policies/            policies that policy.txt has replaced
//	DIR/ledger/              truth (Pebble) and journal; see package ledger
//	DIR/views/               rebuildable views; see package custody/view
package node

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/custody/rules"
	"fabtrail.dev/fabtrail/ledger"
	"fabtrail.dev/fabtrail/ledger/checkpoint"
	"fabtrail.dev/fabtrail/ledger/entry"
)

// Folder is a data folder.
type Folder string

// Paths within the folder.
func (f Folder) key(name string) string { return filepath.Join(string(f), "keys", name) }
func (f Folder) charter() string        { return filepath.Join(string(f), "charter.dsse.json") }
func (f Folder) ledger() string         { return filepath.Join(string(f), "ledger") }
func (f Folder) views() string          { return filepath.Join(string(f), "views") }

// Trust is the public folder that verifiers copy.
func (f Folder) Trust() string { return filepath.Join(string(f), "trust") }

// AuthorityKey is where the authority's key is when Init made it.
func (f Folder) AuthorityKey() string { return f.key("authority.pem") }

// errNoKey: the log's private key is not in the folder.
var errNoKey = errors.New("is missing")

// ErrExists is returned by Init when the folder holds a ledger already.
var ErrExists = errors.New("there is a ledger in this folder already")

// AuthoritySigner is one holder of the authority with its key.
type AuthoritySigner struct {
	Party string
	Key   crypto.Signer
}

// InitConfig says what ledger Init prepares.
type InitConfig struct {
	Origin      string
	Operator    string            // party URI of the operator, who signs findings
	Authorities []AuthoritySigner // none: Init makes one, of the operator
	Threshold   int               // distinct authority parties; 0: a majority
	Created     time.Time
}

// Init makes keys, the signed charter and the trust folder (but for policy.txt,
// which the first start writes). It changes nothing when the folder holds a
// ledger: ErrExists.
func (f Folder) Init(c InitConfig) error {
	if _, err := os.Stat(f.charter()); err == nil {
		return ErrExists
	}
	for _, dir := range []string{string(f), f.key(""), f.Trust()} {
		mode := fs.FileMode(0o755)
		if dir != f.Trust() && dir != string(f) {
			mode = 0o700
		}
		if err := os.MkdirAll(dir, mode); err != nil {
			return err
		}
	}
	vkey, err := f.makeLogKey(c.Origin)
	if err != nil {
		return err
	}
	if _, err := f.makeKey("token.pem"); err != nil {
		return err
	}
	operator, err := f.makeKey("operator.pem")
	if err != nil {
		return err
	}
	if len(c.Authorities) == 0 {
		key, err := f.makeKey("authority.pem")
		if err != nil {
			return err
		}
		c.Authorities = []AuthoritySigner{{Party: c.Operator, Key: key}}
	}
	payload, envelope, err := charter(c, operator)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(f.Trust(), "log.vkey"), []byte(vkey.String()+"\n"), 0o644); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(f.Trust(), "charter.json"), payload, 0o644); err != nil {
		return err
	}
	// Last, since its presence says that the folder is complete.
	return writeFile(f.charter(), envelope, 0o644)
}

func charter(c InitConfig, operator crypto.Signer) (payload, envelope []byte, err error) {
	body := &custody.Charter{
		Origin:    c.Origin,
		Threshold: int64(c.Threshold),
		RuleSet:   rules.Current(),
		CreatedAt: c.Created.UTC().Format(time.RFC3339),
	}
	if body.Threshold == 0 {
		body.Threshold = int64(len(c.Authorities)/2 + 1)
	}
	signers := make([]crypto.Signer, len(c.Authorities))
	for i, a := range c.Authorities {
		k, err := custody.NewKey(a.Key.Public())
		if err != nil {
			return nil, nil, err
		}
		body.Authorities = append(body.Authorities, custody.Authority{Party: a.Party, Key: k.Record()})
		signers[i] = a.Key
	}
	k, err := custody.NewKey(operator.Public())
	if err != nil {
		return nil, nil, err
	}
	body.Operator = custody.Authority{Party: c.Operator, Key: k.Record()}
	payload, err = custody.NewPayload(custody.KindCharter, custody.LogURIPrefix+c.Origin, entry.Hash{}, nil, body)
	if err != nil {
		return nil, nil, err
	}
	envelope, err = custody.Sign(payload, signers...)
	return payload, envelope, err
}

func (f Folder) makeLogKey(origin string) (checkpoint.VKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return checkpoint.VKey{}, err
	}
	text, err := checkpoint.MarshalSKey(origin, checkpoint.TypeLog, key)
	if err != nil {
		return checkpoint.VKey{}, fmt.Errorf("origin %q: %w", origin, err)
	}
	if err := writeNew(f.key("log.skey"), []byte(text+"\n"), 0o600); err != nil {
		return checkpoint.VKey{}, err
	}
	signer, err := f.logSigner()
	if err != nil {
		return checkpoint.VKey{}, err
	}
	return signer.VKey(), nil
}

// makeKey makes an Ed25519 key, or keeps the one that an Init which was cut
// short has left.
func (f Folder) makeKey(name string) (crypto.Signer, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	pem, err := custody.MarshalPrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := writeNew(f.key(name), pem, 0o600); err != nil {
		return nil, err
	}
	return f.readKey(name)
}

func (f Folder) readKey(name string) (crypto.Signer, error) {
	b, err := readSecret(f.key(name))
	if err != nil {
		return nil, err
	}
	key, err := custody.ParsePrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.key(name), err)
	}
	return key.Private(), nil
}

func (f Folder) logSigner() (*checkpoint.Signer, error) {
	b, err := readSecret(f.key("log.skey"))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			if _, err := os.Stat(f.charter()); err == nil {
				return nil, fmt.Errorf("%s %w, but %s holds a ledger: put its keys back; without them it cannot go on", f.key("log.skey"), errNoKey, f)
			}
			return nil, fmt.Errorf("%s holds no ledger (%s %w): make one with 'fabtraild init --data %s --origin NAME'", f, f.key("log.skey"), errNoKey, f)
		}
		return nil, err
	}
	s, err := checkpoint.ParseSKey(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.key("log.skey"), err)
	}
	return s, nil
}

// TokenKey returns the key that signs bearer tokens.
func (f Folder) TokenKey() (crypto.Signer, error) { return f.readKey("token.pem") }

// LedgerConfig is what package ledger needs to open this folder's log, but for
// application and witnesses.
func (f Folder) LedgerConfig() (ledger.Config, error) {
	s, err := f.logSigner()
	if err != nil {
		return ledger.Config{}, err
	}
	return ledger.Config{Dir: f.ledger(), Origin: s.VKey().Name, Signer: s}, nil
}

// Origin returns the ledger's origin, read from its key.
func (f Folder) Origin() (string, error) {
	s, err := f.logSigner()
	if err != nil {
		return "", err
	}
	return s.VKey().Name, nil
}

// Charter reads the ledger's charter: its statement, and what it says.
func (f Folder) Charter() (*custody.Statement, *custody.Charter, error) {
	b, err := os.ReadFile(filepath.Join(f.Trust(), "charter.json"))
	if err != nil {
		return nil, nil, err
	}
	st, err := custody.Parse(b)
	if err != nil {
		return nil, nil, err
	}
	c, ok := st.Body.(*custody.Charter)
	if !ok {
		return nil, nil, fmt.Errorf("%s/charter.json is not a charter", f.Trust())
	}
	return st, c, nil
}

// readSecret reads a file that only its owner may read, and refuses one that others
// may too: whoever has a log's or a witness's key can sign a second history in its
// name, and whoever has that of tokens is every party.
func readSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if mode := info.Mode(); !mode.IsRegular() || mode.Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %v: a key must be a file that nobody but its owner can read or write "+
			"(chmod 600, and think about who may have read it)", path, mode)
	}
	return io.ReadAll(f)
}

// writeNew writes a file that must not be there yet; a file that is there stays.
func writeNew(path string, b []byte, mode fs.FileMode) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	return writeFile(path, b, mode)
}

// writeFile replaces a file as a whole and durably.
func writeFile(path string, b []byte, mode fs.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone already when all went well
	_, err = tmp.Write(b)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
