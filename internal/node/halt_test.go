package node

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

// TestHalted: a ledger that has stopped ends Serve and lets Close go, so that the process
// ends and is started again. Why is said once, and not by each worker that meets it.
func TestHalted(t *testing.T) {
	var log bytes.Buffer
	n, _ := startWith(t, Config{Folder: prepareFolder(t), Log: slog.New(slog.NewTextHandler(&log, nil))})
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() { ended <- n.Serve(t.Context(), "127.0.0.1:0", nil, func(addr string) { ready <- addr }) }()
	<-ready
	n.Ledger().Halt(errors.New("the disk is gone"))
	if err := <-ended; err == nil || err.Error() != "ledger has stopped: the disk is gone" {
		t.Errorf("Serve ended with %v", err)
	}
	_ = n.Close() // hangs, or says again why it stopped
	if text := log.String(); strings.Count(text, "level=ERROR") != 1 || strings.Contains(text, "worker") {
		t.Errorf("it is said more than once:\n%s", text)
	}
}
