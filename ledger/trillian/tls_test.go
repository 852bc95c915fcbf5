package trillian

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWrongTLSFiles: the message names the files, not what a decoder made of them.
func TestWrongTLSFiles(t *testing.T) {
	junk, missing := filepath.Join(t.TempDir(), "junk.pem"), filepath.Join(t.TempDir(), "missing.pem")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		c    Config
		want string
	}{
		"CA":           {Config{TLS: true, CA: junk}, junk + " holds no certificate"},
		"CA missing":   {Config{TLS: true, CA: missing}, missing + ": no such file or directory"},
		"pair":         {Config{TLS: true, Cert: junk, Key: junk}, junk + " and " + junk + " are not a certificate and its private key, both in PEM"},
		"pair missing": {Config{TLS: true, Cert: missing, Key: missing}, missing + ": no such file or directory"},
	} {
		if _, err := tc.c.tlsConfig(); err == nil || !strings.HasSuffix(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if c, err := (&Config{}).tlsConfig(); c != nil || err != nil {
		t.Errorf("without TLS: %v, %v", c, err)
	}
}
