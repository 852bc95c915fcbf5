package node

import (
	"errors"
	"strings"
	"testing"
)

// TestHalted: a ledger that has stopped ends Serve and lets Close go, so that the process
// ends and is started again.
func TestHalted(t *testing.T) {
	n, _ := start(t, prepareFolder(t))
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() { ended <- n.Serve(t.Context(), "127.0.0.1:0", nil, func(addr string) { ready <- addr }) }()
	<-ready
	n.Ledger().Halt(errors.New("the disk is gone"))
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "the disk is gone") {
		t.Errorf("Serve ended with %v", err)
	}
	_ = n.Close() // hangs, or says again why it stopped
}
