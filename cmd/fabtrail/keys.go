package main

import (
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"fabtrail.dev/fabtrail/custody"
	"fabtrail.dev/fabtrail/internal/cli"
)

func keygenCmd() *cobra.Command {
	var algorithm, out string
	names := make([]string, 0, 4)
	for _, a := range custody.Algorithms() {
		names = append(names, string(a))
	}
	c := &cobra.Command{
		Use:   "keygen",
		Short: "Make a signing key",
		Long: `Make a signing key. The private key (PKCS #8 in PEM) is written to a new file that
only its owner can read; keep it where you keep such things. What others know of
it is the public key's ID: the SHA-256 of its SubjectPublicKeyInfo.`,
		Example: "  fabtrail keygen --out acme.pem\n  fabtrail keygen --algorithm ecdsa-p256 --out acme.pem",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			key, err := custody.GenerateKey(custody.Algorithm(algorithm))
			if err != nil {
				return cli.WithCode(cli.Usage, err)
			}
			pem, err := custody.MarshalPrivateKey(key)
			if err != nil {
				return err
			}
			f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("%s exists already, and a key is never written over another\n  do:    give another --out, or move the old key away if a new one is meant", out)
			}
			if err != nil {
				return err
			}
			if _, err := f.Write(pem); err != nil {
				return err
			}
			if err := f.Close(); err != nil {
				return err
			}
			k, err := custody.NewKey(key.Public())
			if err != nil {
				return err
			}
			return cli.Print(c, map[string]string{"file": out, "algorithm": algorithm, "keyId": k.ID(), "spki": k.Record().SPKI}, func(w io.Writer) {
				fmt.Fprintf(w, "%s key in %s\nkey id %s\n", algorithm, out, k.ID())
			})
		},
	}
	c.Flags().StringVar(&algorithm, "algorithm", string(custody.Ed25519), "one of "+strings.Join(names, ", "))
	c.Flags().StringVar(&out, "out", "", "file to write the private key to; must not exist")
	_ = c.MarkFlagRequired("out")
	cli.Words(c, "algorithm", custody.Algorithms()...)
	return c
}

// maxKeyFile is more than the PEM of the largest key has, in bytes.
const maxKeyFile = 64 << 10

// readKeys reads private keys.
func readKeys(files []string) ([]crypto.Signer, error) {
	var keys []crypto.Signer
	for _, f := range files {
		k, err := readKey(f)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// readKey reads a private key. A file that others can read or write is refused, as ssh and
// fabtraild do: whoever has read it can sign in the party's name, and a warning
// would go by in a script. What is no file, such as a pipe, has no mode that says anything.
func readKey(file string) (crypto.Signer, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, cli.WithCode(cli.Usage, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, cli.WithCode(cli.Usage, err)
	}
	if mode := info.Mode(); mode.IsRegular() && mode.Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, cli.Usagef("%s has mode %v, so others on this machine can use the key\n  do:    chmod 600 %s; if others may have read it, enrol a new key and revoke this one", file, mode, file)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(b) > maxKeyFile {
		err = fmt.Errorf("%s has more than %d bytes, which no key has", file, maxKeyFile)
	}
	if err != nil {
		return nil, cli.WithCode(cli.Usage, err)
	}
	s, err := custody.ParsePrivateKey(b)
	if err != nil {
		return nil, cli.Usagef("%s: %w", file, err)
	}
	return s.Private(), nil
}
