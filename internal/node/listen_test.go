package node

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestServeThatCannot: a node that cannot serve says why, in words, and ends: nothing
// that Serve began keeps Close waiting.
func TestServeThatCannot(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	none := filepath.Join(t.TempDir(), "none.pem")
	junk := filepath.Join(t.TempDir(), "junk.pem")
	if err := os.WriteFile(junk, []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		addr string
		tls  *TLS
		want string
	}{
		{taken.Addr().String(), nil, "is in use already"},
		{"127.0.0.1:99999", nil, "want HOST:PORT"},
		{"nonsense", nil, "want HOST:PORT"},
		{"192.0.2.1:0", nil, "is not an address of this machine"},
		{"127.0.0.1:0", &TLS{Cert: junk, Key: junk}, "both in PEM"},
		{"127.0.0.1:0", &TLS{Cert: none, Key: junk}, "no such file"},
	} {
		w := newWorld(t)
		err := w.node.Serve(t.Context(), tc.addr, tc.tls, nil)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s %v: %v, want %q", tc.addr, tc.tls, err, tc.want)
		}
		if err := w.node.Close(); err != nil {
			t.Errorf("%s: close: %v", tc.addr, err)
		}
	}
}

// TestKeysAreTheOwners: a key that others may read is not used.
func TestKeysAreTheOwners(t *testing.T) {
	for _, name := range []string{"log.skey", "operator.pem", "token.pem"} {
		f := prepareFolder(t)
		path := f.key(name)
		if err := os.Chmod(path, 0o640); err != nil {
			t.Fatal(err)
		}
		n, err := Open(t.Context(), Config{Folder: f})
		if err == nil {
			n.Close()
		}
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("%s that the group may read: %v", name, err)
		}
	}
}
